/* main_run.c: the command `run`, the whole path.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

/* --------------------------------------------------------------------- run */

/* The options of `fit` come first, in the same words. */
static const gm_option run_options[] = {
    {"--calib", "FILE", NULL, "calibration text"},
    {"--eval", "FILE", NULL, "evaluation text, another one; required"},
    {"--tokens", "FILE", NULL, "instead of --calib: tokens, .npy"},
    {"--eval-tokens", "FILE", NULL, "instead of --eval: tokens, .npy"},
    {"--out", "DIR", NULL, "where everything goes; required"},
    {"--budgets", "LIST", "2.25,2.5,3,3.5", "each solved exactly from the same "
     "scores"},
    {"--in", "NAME", "bits", "what budgets count: bits: average code bits; "
     "ebits: with scales and zeros; bytes: the packed file (50M, 47.5MiB)"},
    {"--no-models", NULL, NULL, "do not write DIR/model-BUDGET"},
    {"--window", "T", "512", "tokens in an evaluation window"},
    {"--windows", "N", "0", "evaluation windows; 0: all whole ones"},
    GM_LEARN_OPTIONS,
    {"--resume", NULL, NULL, "go on from DIR/fit.state"},
    GM_MEMORY_OPTION,
    {0}};

/* One budget: solve, write, measure GAMMA and the largest uniform choice that
   fits; append its row. */
typedef struct {
    gm_call *call;
    gm_model *model;
    gm_candidates *candidates;
    gm_scores *scores;
    gm_measuring *on;
    gm_convention in;
    gm_measure original, *uniform;      /* uniform: [K], windows 0: not yet */
    const char *dir;
} running;

/* The largest candidate that all modules have and that is within the budget
   everywhere, or -1. */
static int uniform_within(const gm_scores *scores, const gm_budget *budget,
                          int *choice) {
    for (int k = scores->K - 1; k >= 0; k--) {
        bool all = true;
        for (long m = 0; m < scores->M; m++) {
            choice[m] = k;
            all = all && scores->bytes[m * scores->K + k] >= 0;
        }
        gm_sizes z = gm_sizes_of(scores, choice);
        if (all && gm_size_in(&z, budget->convention) <= budget->limit)
            return k;
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

static void write_answer(running *r, const gm_budget *budget,
                              const gm_allocation *allocation,
                              const int *choice) {
    gm_call *call = r->call;
    gm_arena *a = &call->arena;
    const char *path = gm_format(a, "%s/alloc-%s.tsv", r->dir, budget->text);
    const char *to = gm_format(a, "%s/model-%s", r->dir, budget->text);
    gm_allocation_write(a, path, allocation);
    int64_t bytes;
    if (!gm_arg_given(call, "--no-models"))
        gm_export_dequantized(a, r->model, r->candidates, choice, to,
                                  &call->report, &bytes);
}

static void run_budget(running *r, const char *text) {
    gm_call *call = r->call;
    gm_arena *a = &call->arena;
    gm_certificate certificate = {0};
    gm_allocation allocation;
    gm_measure gamma;
    gm_solve_options options = {.solver = gm_have_glpk() ? GM_BOTH : GM_DP,
                                .seconds = 60, .report = &call->report};
    int *choice = gm_alloc(a, (size_t)r->scores->M, sizeof *choice);
    int *same = gm_alloc(a, (size_t)r->scores->M, sizeof *same);
    gm_budget budget = gm_budget_parse(a, r->scores, r->in, text);
    gm_allocate(a, r->scores, &budget, &options, choice, &certificate,
                &allocation);           /* GM_ELIMIT: the row says so */
    write_answer(r, &budget, &allocation, choice);
    int k = uniform_within(r->scores, &budget, same);
    if (k >= 0 && !r->uniform[k].windows)
        gm_call_measure(call, r->model, r->candidates, same, r->on,
                            &r->uniform[k]);
    gm_call_measure(call, r->model, r->candidates, choice, r->on,
                                &gamma);
    gm_sizes z = gm_sizes_of(r->scores, choice);
    gm_sizes u = gm_sizes_of(r->scores, same);
    const char *proof = proof_text(a, &certificate);
    gm_result_row(call, "%s\t%.3f\t%d\t%.3f\t%lld\t%.4f\t%.3f\t%lld\t%.5f\t%s",
                  text, r->original.perplexity, k < 0 ? 0 : r->scores->bits[k],
                  k < 0 ? 0 : r->uniform[k].perplexity,
                  k < 0 ? 0 : (long long)u.file_bytes,
                  (double)z.code_bits / (double)r->scores->N, gamma.perplexity,
                  (long long)z.file_bytes, gamma.kl, proof);
}

void gm_call_budgets(gm_call *call, const gm_scores *table) {
    gm_arena *a = &call->arena;
    gm_certificate certificate;
    gm_allocation allocation;
    gm_solve_options options = {.solver = GM_DP};
    char *list = gm_format(a, "%s", gm_arg(call, "--budgets"));
    int *choice = gm_alloc(a, (size_t)table->M, sizeof *choice);
    gm_convention in = gm_convention_parse("--in", gm_arg(call, "--in"));
    for (char *item; (item = strsep(&list, ","));) {
        gm_budget budget = gm_budget_parse(a, table, in, item);
        gm_status s = gm_allocate(a, table, &budget, &options, choice,
                                  &certificate, &allocation);
        if (s) gm_fail(s, "%s", certificate.why);
    }
}

/* The recipe; budgets that no assignment meets are answered here, before
   anything is learned. */
static void run_recipe(gm_call *call, const gm_model *model,
                            gm_recipe *recipe) {
    gm_scores table = {0};
    gm_call_recipe(call, recipe);
    gm_call_external(call, model, NULL, recipe);
    gm_call_table(call, model, recipe, &table);
    gm_call_budgets(call, &table);
}

/* Learning: everything between the recipe and the first budget. */
static void run_learn(gm_call *call, gm_model *model,
                           gm_recipe *recipe, gm_measuring *on,
                           gm_candidates *candidates, gm_scores *scores,
                           const char *dir) {
    gm_arena learning = {0};        /* as large as evaluation, and before it */
    gm_fit_options options = {0};
    gm_sequences calibration;
    gm_fit fit;
    gm_call_fit_options(call, recipe, &options);
    gm_call_calibration(call, model, gm_arg(call, "--calib"),
                                    gm_arg(call, "--tokens"), options.S,
                                    options.T, &calibration);
    gm_plan plan = {.recipe = *recipe, .fit = options, .candidates = true,
                    .learns = true, .windows = on->text.windows,
                    .window = on->text.window,
                    .models = !gm_arg_given(call, "--no-models")};
    plan.uniforms = gm_call_uniforms(call, recipe, &plan.budgets);
    gm_call_plan(call, model, &plan);
    recipe->at_once = plan.recipe.at_once;
    on->group = plan.group;
    gm_call_claim(call, dir);
    gm_candidates_open(&call->arena, model, recipe, &calibration,
                                   dir, &call->report, candidates);
    gm_call_fit(call, &learning, candidates, calibration.tokens,
                            &options, dir, gm_arg_given(call, "--resume"),
                            &fit);
    if (gm_rank() == 0) gm_call_scores(call, &fit, dir, scores);
    gm_arena_free(&learning);
}

static void run_budgets(running *r) {
    gm_call *call = r->call;
    char *list = gm_format(&call->arena, "%s", gm_arg(call, "--budgets"));
    gm_result_begin(call, "budget\toriginal_ppl\tuniform_bits\tuniform_ppl\t"
                    "uniform_bytes\tgamma_bits\tgamma_ppl\tgamma_bytes\t"
                    "gamma_kl\tproof");
    for (char *item; (item = strsep(&list, ","));)
        run_budget(r, item);
    gm_result_end(call);
}

static void run_run(gm_call *call) {
    gm_model model;
    gm_recipe recipe;
    gm_candidates candidates;
    gm_scores scores;
    gm_measuring on;
    const char *dir = gm_arg(call, "--out");
    if (!dir)
        gm_fail(GM_EUSAGE, "run: --out DIR is missing");
    gm_model_open(&call->arena, call->operand[0], &model);
    run_recipe(call, &model, &recipe);
    gm_call_windows(call, &model, gm_arg(call, "--eval"),
                                gm_arg(call, "--eval-tokens"), &on);
    run_learn(call, &model, &recipe, &on, &candidates, &scores,
                          dir);
    if (gm_rank() > 0) return;        /* the rest is done by one process */
    running r = {.call = call, .model = &model, .candidates = &candidates,
                 .scores = &scores, .on = &on, .dir = dir};
    r.in = gm_convention_parse("--in", gm_arg(call, "--in"));
    r.uniform = gm_alloc(&call->arena, (size_t)scores.K, sizeof *r.uniform);
    gm_call_measure(call, &model, NULL, NULL, &on, &r.original);
    run_budgets(&r);
    gm_talk(call, "%s: scores.tsv (reusable: gamma solve), "
                    "alloc-BUDGET.tsv (the bits and their certificates)%s", dir,
                    gm_arg_given(call, "--no-models") ? "" :
                    ", model-BUDGET (quantized, Hugging Face format)");
    gm_candidates_close(&candidates);
    gm_model_close(&model);
}

const gm_command gm_command_run = {
    "run", "MODEL --calib FILE --eval FILE --out DIR",
    "The whole path: learn, solve for each budget, write, measure",
    "gamma fit, then for each budget gamma solve, gamma quantize and gamma\n"
    "eval.  uniform: the most bits that fit the budget everywhere.  bytes:\n"
    "the packed file (gamma quantize --format packed), to the byte.",
    1, 1, run_options, run_run};
