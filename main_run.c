/* main_run.c: the commands `quantize`, `eval` and `run`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ------------------------------------------------------------ shared pieces */

/* The part of `path` before its last '/', or ".". */
static const char *directory_of(gm_arena *arena, const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? gm_format(arena, "%.*s", (int)(slash - path), path)
                 : gm_format(arena, ".");
}

static int ascending(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

/* The distinct bits of an allocation, "2,3,4". */
static gm_status bits_of(gm_call *call, const gm_allocation *allocation,
                         char bits[128]) {
    int *all = gm_alloc(&call->arena, (size_t)allocation->M, sizeof *all);
    if (!all) return gm_nomem(&call->err);
    memcpy(all, allocation->bits, (size_t)allocation->M * sizeof *all);
    qsort(all, (size_t)allocation->M, sizeof *all, ascending);
    for (long m = 0; m < allocation->M && strlen(bits) < 100; m++)
        if (m == 0 || all[m] != all[m - 1])
            snprintf(bits + strlen(bits), 12, "%s%d", m ? "," : "", all[m]);
    return GM_OK;
}

/* The recipe that an allocation was made for: its `candidates` key, as
   scores.tsv has it; else RTN of its distinct bits, group 128.  --bits,
   --group, --quantizer, --hessian and --act-order override. */
static gm_status recipe_of(gm_call *call, const gm_allocation *allocation,
                           gm_recipe *recipe) {
    const char *text = gm_keys_get(&allocation->keys, "candidates");
    const char *asked = gm_arg(call, "--bits");
    char bits[128] = "";
    gm_status s = text ? GM_OK : bits_of(call, allocation, bits);
    if (!s) s = text ? gm_recipe_read(text, recipe, &call->err)
                     : gm_recipe_parse(asked ? asked : bits, 128, recipe,
                                       &call->err);
    if (!s && text && asked) {
        gm_recipe other;
        s = gm_recipe_parse(asked, recipe->group, &other, &call->err);
        recipe->count = other.count;
        memcpy(recipe->bits, other.bits, sizeof other.bits);
    }
    if (!s && gm_arg(call, "--group"))
        s = gm_arg_long(call, "--group", 1, GM_MAX_GROUP, &recipe->group);
    return s ? s : gm_call_quantizer(call, recipe);
}

/* The candidates of an allocation.  RTN's are made again when they are not
   there; GPTQ's are looked for by the hash in the allocation, or made from
   --calib. */
static gm_status open_candidates(gm_call *call, gm_model *model,
                                 const gm_allocation *allocation,
                                 const gm_recipe *recipe, const char *cache,
                                 gm_candidates *out) {
    gm_arena *a = &call->arena;
    gm_error *err = &call->err;
    const char *calib = gm_arg(call, "--calib");
    const char *hash = gm_keys_get(&allocation->keys, "candidates_hash");
    gm_sequences text = {NULL, 0, 0};
    int32_t *all, *tokens;
    long count;
    if (recipe->quantizer == GM_RTN)
        return gm_candidates_open(a, model, recipe, NULL, cache, &call->report,
                                  out, err);
    if (!calib && hash)
        return gm_candidates_find(a, model, recipe, hash, cache, out, err);
    if (!calib)
        return gm_fail(err, GM_EUSAGE, "%s has no candidates_hash and GPTQ "
                       "candidates are made from a calibration text: --calib "
                       "FILE is missing", allocation->path);
    gm_status s = gm_arg_long(call, "--sequences", 1, 1 << 20, &text.S);
    if (!s) s = gm_arg_long(call, "--length", 2, 1 << 20, &text.T);
    if (!s) s = gm_call_tokens(call, model, calib, NULL, &all, &count);
    if (!s) s = gm_calibration(a, all, count, text.S, text.T, &tokens, err);
    if (s) return s;
    text.tokens = tokens;
    return gm_candidates_open(a, model, recipe, &text, cache, &call->report,
                              out, err);
}

/* Everything that stands between an allocation file and candidates in use. */
typedef struct {
    gm_allocation allocation;
    gm_recipe recipe;
    gm_candidates candidates;
    gm_scores table;
    int *choice;
} chosen;

static gm_status open_chosen(gm_call *call, gm_model *model, const char *path,
                             chosen *out) {
    gm_arena *a = &call->arena;
    gm_error *err = &call->err;
    gm_status s = gm_allocation_read(a, path, &out->allocation, err);
    if (!s) s = recipe_of(call, &out->allocation, &out->recipe);
    const char *cache = gm_arg(call, "--cache");
    if (!cache) cache = directory_of(a, path);
    if (!cache) return gm_nomem(err);
    if (!s) s = open_candidates(call, model, &out->allocation, &out->recipe,
                                cache, &out->candidates);
    const char *hash = s ? NULL : gm_keys_get(&out->allocation.keys,
                                              "model_hash");
    if (hash && strcmp(hash, model->hash) != 0)
        return gm_fail(err, GM_EINPUT, "%s: was made for another model: "
                       "expected model_hash %s (%s), found %s", path,
                       model->hash, model->dir, hash);
    if (!s) s = gm_module_table(a, model, &out->recipe, &out->table, err);
    if (s) return s;
    out->choice = gm_alloc(a, (size_t)out->table.M, sizeof *out->choice);
    if (!out->choice) return gm_nomem(err);
    return gm_allocation_match(&out->allocation, &out->table, out->choice, err);
}

/* ---------------------------------------------------------------- quantize */

static const gm_option quantize_options[] = {
    {"--alloc", "FILE", NULL, "alloc.tsv of gamma solve, or any table with "
     "the columns module and bits; required"},
    {"--out", "PATH", NULL, "directory to write (hf) or file (packed); "
     "required"},
    {"--format", "NAME", "hf", "hf: a Hugging Face directory with dequantized "
     "weights, loads in transformers; packed: one safetensors file of codes, "
     "scales and zeros, whose size is the allocation's file bytes"},
    {"--bits", "LIST", NULL, "candidates (those the allocation was made for)"},
    {"--group", "N", NULL, "columns per scale, 1..512 (as the allocation was "
     "made for, else 128)"},
    {"--quantizer", "NAME", NULL, "rtn or gptq (as the allocation was made "
     "for, else rtn), see gamma fit"},
    {"--hessian", "NAME", NULL, "of gptq: token or plain, see gamma fit"},
    {"--act-order", NULL, NULL, "of gptq, see gamma fit"},
    {"--calib", "FILE", NULL, "make gptq's candidates from this text, if they "
     "are not in the cache (else: as gamma fit left them there)"},
    {"--sequences", "S", "16", "of --calib, as given to gamma fit"},
    {"--length", "T", "512", "of --calib, as given to gamma fit"},
    {"--cache", "DIR", NULL, "where the candidate file is or goes (beside the "
     "allocation)"},
    {0}};

static void print_sizes(gm_call *call, const gm_scores *table,
                        const int *choice, int64_t written) {
    gm_sizes z = gm_sizes_of(table, choice);
    double N = (double)table->N;
    gm_result_begin(call, "code_bits\teffective_bits\tfile_bytes\twritten");
    gm_result_row(call, "%.6f\t%.6f\t%lld\t%lld", (double)z.code_bits / N,
                  (double)z.effective_bits / N, (long long)z.file_bytes,
                  (long long)written);
    gm_result_end(call);
}

static gm_status run_quantize(gm_call *call) {
    const char *format = gm_arg(call, "--format"), *to = gm_arg(call, "--out");
    const char *from = gm_arg(call, "--alloc");
    bool packed = strcmp(format, "packed") == 0;
    if (!to || !from)
        return gm_fail(&call->err, GM_EUSAGE, "quantize: %s is missing",
                       to ? "--alloc FILE" : "--out PATH");
    if (!packed && strcmp(format, "hf") != 0)
        return gm_fail(&call->err, GM_EUSAGE, "--format: expected hf or "
                       "packed, found \"%s\"", format);
    gm_model model;
    chosen c;
    int64_t bytes = 0;
    struct stat stat_of;
    gm_status s = gm_model_open(&call->arena, call->operand[0], &model,
                                &call->err);
    if (!s) s = open_chosen(call, &model, from, &c);
    if (!s && packed) {
        s = gm_export_packed(&call->arena, &model, &c.candidates, c.choice, to,
                             &call->report, &call->err);
        if (!s && stat(to, &stat_of) == 0) bytes = stat_of.st_size;
    } else if (!s) {
        s = gm_export_dequantized(&call->arena, &model, &c.candidates, c.choice,
                                  to, &call->report, &bytes, &call->err);
    }
    if (!s) print_sizes(call, &c.table, c.choice, bytes);
    return s;
}

const gm_command gm_command_quantize = {
    "quantize", "MODEL --alloc FILE --out PATH",
    "Write the quantized model for an allocation",
    "Replaces each linear module by its candidate with the allocation's bits.\n"
    "MODEL itself is never written to.  Prints the three sizes of the\n"
    "allocation and the bytes of weight files written.  hf rounds the\n"
    "dequantized weights to the checkpoint's type: with BF16 that moves the\n"
    "perplexity by about 1e-4 of itself against gamma eval --alloc.",
    1, 1, quantize_options, run_quantize};

/* -------------------------------------------------------------------- eval */

/* A text cut into windows, the original model's states and head: what every
   measurement needs. */
typedef struct {
    gm_text text;
    gm_head head;
    gm_real *original, *student;        /* [windows window, d] */
} measuring;

static gm_status begin_measuring(gm_call *call, const gm_model *model,
                                 const char *path, const char *npy,
                                 measuring *out) {
    long count, window, windows;
    int32_t *tokens;
    gm_arena *a = &call->arena;
    gm_status s = gm_arg_long(call, "--window", 2, 1 << 20, &window);
    if (!s) s = gm_arg_long(call, "--windows", 0, 1 << 30, &windows);
    if (!s) s = gm_call_tokens(call, model, path, npy, &tokens, &count);
    if (s) return s;
    long there = count / window;
    if (there < 1 || there < windows)
        return gm_fail(&call->err, GM_EINPUT, "%s: expected at least %ld "
                       "tokens (%ld windows of %ld), found %ld",
                       path ? path : npy, (windows ? windows : 1) * window,
                       windows ? windows : 1, window, count);
    if (!windows) windows = there;
    out->text = (gm_text){tokens, windows, window};
    size_t n = (size_t)(windows * window * model->config.d);
    out->original = gm_alloc(a, n, sizeof *out->original);
    out->student = gm_alloc(a, n, sizeof *out->student);
    if (!out->original || !out->student) return gm_nomem(&call->err);
    gm_talk(call, "text: %ld tokens; first %ld non-overlapping windows of %ld; "
            "in each, tokens 2..%ld predicted from those before them; no BOS "
            "added; mean over all predicted tokens in double", count, windows,
            window, window);
    s = gm_head_load(a, model, &out->head, &call->err);
    if (!s) s = gm_final_states(a, model, NULL, NULL, &out->text, &call->report,
                                out->original, &call->err);
    return s;
}

/* Measures candidates at `choice` against the original. */
static gm_status measure(gm_call *call, const gm_model *model,
                         const gm_candidates *candidates, const int *choice,
                         measuring *on, gm_measure *out) {
    gm_status s = GM_OK;
    if (choice)
        s = gm_final_states(&call->arena, model, candidates, choice, &on->text,
                            &call->report, on->student, &call->err);
    if (s) return s;
    return gm_evaluate(&call->arena, &on->head, &on->text,
                       choice ? on->student : on->original,
                       choice ? on->original : NULL, &call->report, out,
                       &call->err);
}

static const gm_option eval_options[] = {
    {"--text", "FILE", NULL, "evaluation text, UTF-8"},
    {"--tokens", "FILE", NULL, "instead of --text: tokens, .npy, int32, 1-D"},
    {"--alloc", "FILE", NULL, "also measure the model quantized by this "
     "allocation, with KL divergence from the original and top-1 agreement"},
    {"--window", "T", "1024", "tokens in a window, >= 2"},
    {"--windows", "N", "0", "windows from the start of the text; 0: all whole "
     "ones"},
    {"--bits", "LIST", NULL, "candidates (those the allocation was made for)"},
    {"--group", "N", NULL, "columns per scale (as the allocation was made "
     "for, else 128)"},
    {"--quantizer", "NAME", NULL, "rtn or gptq (as the allocation was made "
     "for, else rtn), see gamma fit"},
    {"--hessian", "NAME", NULL, "of gptq: token or plain, see gamma fit"},
    {"--act-order", NULL, NULL, "of gptq, see gamma fit"},
    {"--calib", "FILE", NULL, "make gptq's candidates from this text, if they "
     "are not in the cache (else: as gamma fit left them there)"},
    {"--sequences", "S", "16", "of --calib, as given to gamma fit"},
    {"--length", "T", "512", "of --calib, as given to gamma fit"},
    {"--cache", "DIR", NULL, "where the candidate file is or goes (beside the "
     "allocation)"},
    {0}};

static void measure_row(gm_call *call, const char *name, const gm_measure *m,
                        bool original) {
    char kl[96] = "-\t-\t-";
    if (!original)
        snprintf(kl, sizeof kl, "%.6f\t%.6f\t%.6f", m->kl, m->kl_error,
                 m->top1);
    gm_result_row(call, "%s\t%.6f\t%.6f\t%.6f\t%s\t%ld\t%ld\t%ld", name,
                  m->perplexity, m->nll, m->nll_error, kl, m->windows,
                  m->window, m->predicted);
}

static gm_status run_eval(gm_call *call) {
    gm_model model;
    measuring on;
    gm_measure original, quantized;
    chosen c;
    const char *alloc = gm_arg(call, "--alloc");
    gm_status s = gm_model_open(&call->arena, call->operand[0], &model,
                                &call->err);
    if (!s && alloc) s = open_chosen(call, &model, alloc, &c);
    if (!s) s = begin_measuring(call, &model, gm_arg(call, "--text"),
                                gm_arg(call, "--tokens"), &on);
    if (!s) s = measure(call, &model, NULL, NULL, &on, &original);
    if (!s && alloc)
        s = measure(call, &model, &c.candidates, c.choice, &on, &quantized);
    if (s) return s;
    gm_result_begin(call, "model\tperplexity\tnll\tnll_error\tkl\tkl_error\t"
                    "top1\twindows\twindow\tpredicted");
    measure_row(call, "original", &original, true);
    if (alloc) measure_row(call, "quantized", &quantized, false);
    gm_result_end(call);
    return GM_OK;
}

const gm_command gm_command_eval = {
    "eval", "MODEL --text FILE [--alloc FILE]",
    "Perplexity, KL divergence, top-1 agreement on a text",
    "nll = - mean ln q(token | those before it in its window), natural log;\n"
    "perplexity = exp(nll); kl = mean KL(original || quantized) in nats;\n"
    "errors are standard errors over windows; top1: share of positions where both\n"
    "models' most likely token is the same.",
    1, 1, eval_options, run_eval};

/* --------------------------------------------------------------------- run */

/* The options of `fit` come first, in the same words. */
static const gm_option run_options[] = {
    {"--calib", "FILE", NULL, "calibration text"},
    {"--eval", "FILE", NULL, "evaluation text, another one; required"},
    {"--tokens", "FILE", NULL, "instead of --calib: tokens, .npy"},
    {"--eval-tokens", "FILE", NULL, "instead of --eval: tokens, .npy"},
    {"--out", "DIR", NULL, "where everything goes; required"},
    {"--budgets", "LIST", "2.25,2.5,3,3.5", "average code bits, each solved "
     "exactly from the same scores"},
    {"--no-models", NULL, NULL, "do not write DIR/model-BUDGET"},
    {"--window", "T", "512", "tokens in an evaluation window"},
    {"--windows", "N", "0", "evaluation windows; 0: all whole ones"},
    {"--bits", "LIST", "2,3,4", "candidates, see gamma fit"},
    {"--group", "N", "128", "columns per scale, see gamma fit"},
    {"--quantizer", "NAME", "rtn", "rtn or gptq, see gamma fit"},
    {"--hessian", "NAME", "token", "of gptq: token or plain"},
    {"--act-order", NULL, NULL, "of gptq"},
    {"--sequences", "S", "16", "see gamma fit, like all below"},
    {"--length", "T", "512", "tokens in a calibration sequence"},
    {"--batch", "N", "4", "sequences in one step"},
    {"--steps", "N", "60", "steps"},
    {"--relaxation", "NAME", "soft-corrected", "soft or soft-corrected"},
    {"--train-bits", "B", NULL, "budget while learning (the middle)"},
    {"--alpha", "A", "0.1", "entropy weight"},
    {"--rho", "R", "10", "penalty"},
    {"--eta", "E", "0.02", "multiplier ascent"},
    {"--tau", "T", "1", "temperature"},
    {"--rate", "R", "0.1", "Adam's step"},
    {"--tail", "F", "0.33", "share of steps averaged"},
    {"--seed", "N", "1", "seed"},
    {"--resume", NULL, NULL, "go on from DIR/fit.state"},
    {0}};

/* One budget: solve, write, measure GAMMA and the largest uniform choice that
   fits; append its row. */
typedef struct {
    gm_call *call;
    gm_model *model;
    gm_candidates *candidates;
    gm_scores *scores;
    measuring *on;
    gm_measure original, *uniform;      /* uniform: [K], windows 0: not yet */
    const char *dir;
} running;

/* The largest uniform candidate within the budget, or -1. */
static int uniform_within(const gm_scores *scores, const gm_budget *budget,
                          int *choice) {
    for (int k = scores->K - 1; k >= 0; k--) {
        for (long m = 0; m < scores->M; m++) choice[m] = k;
        if (gm_sizes_of(scores, choice).code_bits <= budget->limit) return k;
    }
    return -1;
}

static const char *proof_text(gm_arena *arena, const gm_certificate *c) {
    if (c->optimal && c->agreed)
        return "optimal, both solvers agree";
    if (c->optimal) return "optimal";
    double gap = (double)(c->objective - c->bound);
    return gm_format(arena, "within %.3g%% of optimal",
                     100 * gap / (double)(c->objective ? c->objective : 1));
}

static gm_status write_answer(running *r, const gm_budget *budget,
                              const gm_allocation *allocation,
                              const int *choice) {
    gm_call *call = r->call;
    gm_arena *a = &call->arena;
    const char *path = gm_format(a, "%s/alloc-%s.tsv", r->dir, budget->text);
    const char *to = gm_format(a, "%s/model-%s", r->dir, budget->text);
    if (!path || !to) return gm_nomem(&call->err);
    gm_status s = gm_allocation_write(a, path, allocation, &call->err);
    int64_t bytes;
    if (!s && !gm_arg_given(call, "--no-models"))
        s = gm_export_dequantized(a, r->model, r->candidates, choice, to,
                                  &call->report, &bytes, &call->err);
    return s;
}

static gm_status run_budget(running *r, const char *text) {
    gm_call *call = r->call;
    gm_arena *a = &call->arena;
    gm_budget budget;
    gm_certificate certificate;
    gm_allocation allocation;
    gm_measure gamma;
    gm_solve_options options = {.solver = gm_have_glpk() ? GM_BOTH : GM_DP,
                                .seconds = 60, .report = &call->report};
    int *choice = gm_alloc(a, (size_t)r->scores->M, sizeof *choice);
    int *same = gm_alloc(a, (size_t)r->scores->M, sizeof *same);
    if (!choice || !same) return gm_nomem(&call->err);
    gm_status s = gm_budget_parse(a, r->scores, GM_BITS, text, &budget,
                                  &call->err);
    if (!s) s = gm_allocate(a, r->scores, &budget, &options, choice,
                            &certificate, &allocation, &call->err);
    if (s && !(s == GM_ELIMIT && certificate.found)) return s;
    s = write_answer(r, &budget, &allocation, choice);
    int k = uniform_within(r->scores, &budget, same);
    if (!s && k >= 0 && !r->uniform[k].windows)
        s = measure(call, r->model, r->candidates, same, r->on, &r->uniform[k]);
    if (!s) s = measure(call, r->model, r->candidates, choice, r->on, &gamma);
    if (s) return s;
    gm_sizes z = gm_sizes_of(r->scores, choice);
    gm_sizes u = gm_sizes_of(r->scores, same);
    const char *proof = proof_text(a, &certificate);
    gm_result_row(call, "%s\t%.3f\t%d\t%.3f\t%lld\t%.4f\t%.3f\t%lld\t%.5f\t%s",
                  text, r->original.perplexity, k < 0 ? 0 : r->scores->bits[k],
                  k < 0 ? 0 : r->uniform[k].perplexity,
                  k < 0 ? 0 : (long long)u.file_bytes,
                  (double)z.code_bits / (double)r->scores->N, gamma.perplexity,
                  (long long)z.file_bytes, gamma.kl, proof ? proof : "");
    return GM_OK;
}

/* Budgets that no assignment meets are answered before anything is learned:
   sizes are known without scores. */
static gm_status check_budgets(gm_call *call, const gm_model *model) {
    gm_arena *a = &call->arena;
    gm_recipe recipe;
    gm_scores table = {0};
    gm_certificate certificate;
    gm_allocation allocation;
    gm_solve_options options = {.solver = GM_DP};
    char *list = gm_format(a, "%s", gm_arg(call, "--budgets"));
    gm_status s = gm_call_recipe(call, &recipe);
    if (!s) s = gm_module_table(a, model, &recipe, &table, &call->err);
    int *choice = gm_alloc(a, (size_t)table.M, sizeof *choice);
    if (!list || !choice) return gm_nomem(&call->err);
    for (char *item; !s && (item = strsep(&list, ","));) {
        gm_budget budget;
        s = gm_budget_parse(a, &table, GM_BITS, item, &budget, &call->err);
        if (!s) s = gm_allocate(a, &table, &budget, &options, choice,
                                &certificate, &allocation, &call->err);
    }
    return s;
}

/* Learning: everything between the opened model and the first budget. */
static gm_status run_prepare(gm_call *call, gm_model *model,
                             gm_candidates *candidates, gm_scores *scores,
                             const char *dir) {
    gm_arena *a = &call->arena;
    gm_error *err = &call->err;
    gm_recipe recipe;
    gm_fit_options options;
    int32_t *text, *tokens = NULL;
    long count;
    gm_fit fit;
    gm_status s = gm_call_recipe(call, &recipe);
    if (!s) s = gm_call_fit_options(call, &recipe, &options);
    if (!s) s = gm_call_tokens(call, model, gm_arg(call, "--calib"),
                               gm_arg(call, "--tokens"), &text, &count);
    if (!s) s = gm_calibration(a, text, count, options.S, options.T, &tokens,
                               err);
    gm_sequences calibration = {tokens, options.S, options.T};
    if (!s) s = gm_candidates_open(a, model, &recipe, &calibration, dir,
                                   &call->report, candidates, err);
    if (!s) s = gm_call_fit(call, candidates, tokens, &options, dir,
                            gm_arg_given(call, "--resume"), &fit);
    if (!s) s = gm_fit_table(a, &fit, scores, err);
    const char *path = gm_format(a, "%s/scores.tsv", dir);
    if (!path) return gm_nomem(err);
    if (!s) s = gm_scores_write(a, path, scores, err);
    return s;
}

static gm_status run_budgets(running *r) {
    gm_call *call = r->call;
    char *list = gm_format(&call->arena, "%s", gm_arg(call, "--budgets"));
    if (!list) return gm_nomem(&call->err);
    gm_result_begin(call, "budget\toriginal_ppl\tuniform_bits\tuniform_ppl\t"
                    "uniform_bytes\tgamma_bits\tgamma_ppl\tgamma_bytes\t"
                    "gamma_kl\tproof");
    gm_status s = GM_OK;
    for (char *item; !s && (item = strsep(&list, ","));)
        s = run_budget(r, item);
    if (!s) gm_result_end(call);
    return s;
}

static gm_status run_run(gm_call *call) {
    gm_model model;
    gm_candidates candidates;
    gm_scores scores;
    measuring on;
    const char *dir = gm_arg(call, "--out");
    if (!dir)
        return gm_fail(&call->err, GM_EUSAGE, "run: --out DIR is missing");
    gm_status s = gm_model_open(&call->arena, call->operand[0], &model,
                                &call->err);
    if (!s) s = check_budgets(call, &model);
    if (!s) s = begin_measuring(call, &model, gm_arg(call, "--eval"),
                                gm_arg(call, "--eval-tokens"), &on);
    if (!s) s = run_prepare(call, &model, &candidates, &scores, dir);
    running r = {call, &model, &candidates, &scores, &on, {0}, NULL, dir};
    if (s) return s;
    r.uniform = gm_alloc(&call->arena, (size_t)scores.K, sizeof *r.uniform);
    if (!r.uniform) return gm_nomem(&call->err);
    s = measure(call, &model, NULL, NULL, &on, &r.original);
    if (!s) s = run_budgets(&r);
    if (!s) gm_talk(call, "%s: scores.tsv (reusable: gamma solve), "
                    "alloc-BUDGET.tsv (the bits and their certificates)%s", dir,
                    gm_arg_given(call, "--no-models") ? "" :
                    ", model-BUDGET (quantized, Hugging Face format)");
    gm_candidates_close(&candidates);
    gm_model_close(&model);
    return s;
}

const gm_command gm_command_run = {
    "run", "MODEL --calib FILE --eval FILE --out DIR",
    "The whole path: learn, solve for each budget, write, measure",
    "gamma fit, then for each budget gamma solve, gamma quantize and gamma\n"
    "eval.  uniform: the most bits that fit the budget everywhere.  bytes:\n"
    "the size of the packed file (gamma quantize --format packed), to the byte.",
    1, 1, run_options, run_run};
