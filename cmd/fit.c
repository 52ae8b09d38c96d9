/* main_fit.c: the commands `info` and `fit`, and what the commands share:
   opening a model, reading a text as tokens.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

/* ------------------------------------------------------------ shared pieces */

void gm_call_tokens(gm_call *call, const gm_model *model, const char *text,
                         const char *npy, int32_t **tokens, long *count) {
    gm_arena *a = &call->arena;
    if (!text == !npy)
        gm_fail(GM_EUSAGE, "expected either a text or "
                       "--tokens FILE.npy, found %s", text ? "both" : "none");
    if (npy) {
        *tokens = gm_npy_read(a, npy, count);
    } else {
        size_t bytes;
        gm_tokenizer *tokenizer;
        const char *all = gm_file_text(a, text, &bytes);
        gm_tokenizer_open(a, model->dir, &tokenizer);
        gm_tokenize(tokenizer, a, all, bytes, tokens, count);
    }
    const char *path = npy ? npy : text;
    for (long i = 0; i < *count; i++)
        if ((*tokens)[i] < 0 || (*tokens)[i] >= model->config.vocab)
            gm_fail(GM_EINPUT, "%s: token %ld: expected an id "
                        "below vocab_size %ld, found %d", path, i,
                        model->config.vocab, (*tokens)[i]);
    if (*count == 0)
        gm_fail(GM_EINPUT, "%s: expected text, found none",
                    path);
}

void gm_call_calibration(gm_call *call, const gm_model *model,
                              const char *text, const char *npy, long S, long T,
                              gm_sequences *out) {
    int32_t *all, *tokens;
    long count;
    gm_call_tokens(call, model, text, npy, &all, &count);
    gm_calibration(&call->arena, all, count, S, T, &tokens);
    *out = (gm_sequences){tokens, S, T};
}

void gm_call_claim(gm_call *call, const char *dir) {
    if (gm_same_file(call->operand[0], dir))
        gm_fail(GM_EUSAGE, "%s: the output directory is the "
                       "model's own; expected another", dir);
    if (gm_rank() > 0) return;
    gm_make_dir(dir);
    call->claim = gm_dir_lock(&call->arena, dir);   /* for all ranks */
}

void gm_call_recipe(gm_call *call, gm_recipe *recipe) {
    long group;
    gm_arg_long(call, "--group", 1, 512, &group);
    gm_recipe_parse(gm_arg(call, "--bits"), group, recipe);
    gm_call_quantizer(call, recipe);
}

/* What only GPTQ has, given to RTN. */
static void refuse_for_rtn(gm_call *call) {
    static const char *const name[] = {"--hessian", "--act-order", "--damping",
                                       "--sequential"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        if (gm_arg_given(call, name[i]))
            gm_fail(GM_EUSAGE, "%s belongs to --quantizer "
                           "gptq, found rtn", name[i]);
}

void gm_call_quantizer(gm_call *call, gm_recipe *recipe) {
    const char *quantizer = gm_arg(call, "--quantizer");
    const char *hessian = gm_arg(call, "--hessian");
    const char *scales = gm_arg(call, "--scales");
    if (quantizer) gm_recipe_set(recipe, "quantizer", quantizer);
    if (hessian) gm_recipe_set(recipe, "hessian", hessian);
    if (scales) gm_recipe_set(recipe, "scales", scales);
    if (gm_arg(call, "--damping"))
        gm_arg_double(call, "--damping", 1e-9, 1, &recipe->damping);
    if (gm_arg_given(call, "--act-order")) recipe->act_order = true;
    if (gm_arg_given(call, "--sequential")) recipe->sequential = true;
    if (recipe->quantizer == GM_RTN) refuse_for_rtn(call);
}

void gm_call_external(gm_call *call, const gm_model *model,
                           const char *bits, gm_recipe *recipe) {
    const char *path = gm_arg(call, "--external");
    if (!path) return;
    if (gm_arg_given(call, "--quantizer"))
        gm_fail(GM_EUSAGE, "expected either --quantizer or "
                       "--external, found both");
    if (!bits && gm_arg_given(call, "--bits")) bits = gm_arg(call, "--bits");
    gm_external_open(&call->arena, model, path, bits, recipe->group,
                            recipe);
}

/* -------------------------------------------------------------------- info */

static const gm_option info_options[] = {{0}};

static void run_info(gm_call *call) {
    gm_model model;
    gm_model_open(&call->arena, call->operand[0], &model);
    gm_model_hash(&model);
    const gm_config *c = &model.config;
    static const char *const arch[] = {"llama", "qwen2", "qwen3"};
    static const char *const rope[] = {"default", "linear", "llama3", "yarn"};
    int64_t linear = 0, all = 0, bytes = 0;
    for (long i = 0; i < model.tensors.count; i++) {
        const gm_tensor *t = model.tensors.tensor + i;
        all += (int64_t)(t->bytes / gm_dtype_bytes(t->dtype));
        bytes += (int64_t)t->bytes;
    }
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        linear += (int64_t)out * in * c->layers;
    }
    gm_result_begin(call, "key\tvalue");
    gm_result_row(call, "architecture\t%s", arch[c->arch]);
    gm_result_row(call, "blocks\t%ld", c->layers);
    gm_result_row(call, "modules\t%ld", c->layers * GM_LINEARS);
    gm_result_row(call, "hidden_size\t%ld", c->d);
    gm_result_row(call, "intermediate_size\t%ld", c->ff);
    gm_result_row(call, "heads\t%ld", c->heads);
    gm_result_row(call, "kv_heads\t%ld", c->kv_heads);
    gm_result_row(call, "head_dim\t%ld", c->head_dim);
    gm_result_row(call, "vocab_size\t%ld", c->vocab);
    gm_result_row(call, "rope\t%s", rope[c->rope.kind]);
    gm_result_row(call, "tied_head\t%s", c->tied ? "yes" : "no");
    gm_result_row(call, "weights\t%lld", (long long)all);
    gm_result_row(call, "linear_weights\t%lld", (long long)linear);
    gm_result_row(call, "tensor_bytes\t%lld", (long long)bytes);
    gm_result_row(call, "dtype\t%s",
                  gm_dtype_name(gm_linear_tensor(&model, 0, 0)->dtype));
    gm_result_row(call, "files\t%ld", model.tensors.files);
    gm_result_row(call, "model_hash\t%s", model.hash);
    gm_result_end(call);
    gm_model_close(&model);
}

const gm_command gm_command_info = {
    "info", "MODEL", "What a checkpoint is: architecture, sizes, hash",
    "MODEL is a Hugging Face directory: config.json, model.safetensors or\n"
    "sharded model.safetensors.index.json, tokenizer.json.  Every tensor's\n"
    "presence and shape is checked.",
    1, 1, info_options, run_info};

/* --------------------------------------------------------------------- fit */

static const gm_option fit_options[] = {
    {"--calib", "FILE", NULL, "calibration text, UTF-8, tokenized by the "
     "model's tokenizer.json"},
    {"--tokens", "FILE", NULL, "instead of --calib: tokens, .npy, int32, 1-D"},
    {"--out", "DIR", NULL, "where scores.tsv, the state and the candidate "
     "file go; required"},
    {"--bits", "LIST", "2,3,4", "candidates b_k, ascending: 1..8; 16 (32) is "
     "the weight as stored in a 16-bit (F32) checkpoint"},
    {"--group", "N", "128", "input columns that share a scale and zero, "
     "1..512; the last group of a row may be smaller"},
    {"--quantizer", "NAME", "rtn", "rtn: each weight to its nearest code; "
     "gptq: column by column, w_t -= (w_j - q_j) U_jt / U_jj for t > j, "
     "U^T U = H^-1, with the calibration tokens' H"},
    {"--scales", "NAME", "minmax", "of a group: minmax: from lo = min(0, w) to "
     "hi = max(0, w); mse: from r lo to r hi, r of 1, 0.99, ..., 0.21 with the "
     "least sum (w - q)^2"},
    {"--hessian", "NAME", "token", "gptq's H = (2/tokens) sum_t w_t^2 x_t "
     "x_t^T: token: w_t = 1/||x_t||, times 4 at a sequence's first token; "
     "plain: w_t = 1, as published; attention: for q, k and v "
     "sqrt(a_t)/||x_t||, a_t = 1/heads sum_h sum_{s>=t} P_st the attention "
     "that t receives, else as token"},
    {"--damping", "R", "0.01", "gptq: R times the mean of H_jj is added to "
     "each, 1e-9..1"},
    {"--act-order", NULL, NULL, "gptq: columns by falling H_jj instead of left "
     "to right, scales from the original weights"},
    {"--sequential", NULL, NULL, "gptq: H from the inputs that a module gets "
     "when all before it have this candidate's bits, instead of the original "
     "model's; a stream of states and 2 to 3 times the passes for each number "
     "of bits"},
    {"--external", "FILE", NULL, "candidates another tool made, instead of "
     "--quantizer: a safetensors file of dequantized NAME.bK (docs/formats.md); "
     "--bits then picks among them (all)"},
    {"--allow", "LIST", NULL, "PATTERN=2,3;PATTERN=4;...: a module whose name "
     "(or its last part) matches, '*' for anything, has only these "
     "candidates; several that match leave what is in all"},
    {"--sequences", "S", "16", "calibration sequences, spread evenly over the "
     "text"},
    {"--length", "T", "512", "tokens in each sequence"},
    {"--batch", "N", "4", "sequences in one step, 1..S"},
    {"--steps", "N", NULL, "sweeps over the blocks, 1..1000000 (--score "
     "scaled: 15, else 60)"},
    {"--recipe", "NAME", "default", "which defaults: default, or paper, the "
     "plainest reading of the abstract: --relaxation soft --norm plain --score "
     "theta; options given beside it win"},
    {"--relaxation", "NAME", "soft-corrected", "soft: E_l of the mixture as it "
     "is; soft-corrected: plus sum_k (p_k - p_k^2) S_k, S_k the candidate's "
     "error alone, measured in the first S/batch steps; gumbel: E_l of p = y = "
     "softmax((theta + G) / tau), G fresh Gumbel noise, c and H of "
     "softmax(theta); hard: p = one-hot(argmax theta + G), gradient as if p "
     "were y"},
    {"--norm", "NAME", "token", "D in E_l = mean_t w_t ||error_t||^2 / D; "
     "token: ||h_l,t||^2; robust: the same, x = error / D counting as 0.1 ln(1 + 10 "
     "x); plain: 1; energy: mean_t ||h_l,t||^2; update: mean_t ||h_l,t - "
     "h_{l-1,t}||^2"},
    {"--first-weight", "W", "1", "w_t at the first position of a sequence, "
     "else 1; > 0"},
    {"--score", "NAME", NULL, "theta: -(A/M) theta / T - (lambda + R c) n_m "
     "b_k / N, the loss of a choice at a stationary point (sampled: T = 1); loss: "
     "L_k, the mean of dE/dp_k (soft-corrected: S_k + dE/dp_k - 2 p_k S_k); "
     "scaled: S_k (1 + (L_worst - L_best) / (S_worst - S_best)) / 2, within "
     "S_k/2 and 2 S_k (scaled for soft-corrected, else theta)"},
    {"--train-bits", "B", NULL, "target of the constraint c while learning, "
     "average code bits (the middle between the least and most there are)"},
    {"--alpha", "A", "0.1", "entropy weight: - (A/M) sum_m H(p_m), > 0"},
    {"--rho", "R", "10", "penalty: R/2 c^2, >= 0"},
    {"--eta", "E", "0.02", "multiplier ascent: lambda += E R c each step, "
     ">= 0; 0.2 oscillates"},
    {"--tau", "T", NULL, "temperature: p = softmax(theta / T), > 0 (1; gumbel "
     "and hard: 2)"},
    {"--tau-last", "T", NULL, "gumbel, hard: temperature of the last step; the "
     "ratio of neighbours is constant; > 0 (0.5)"},
    {"--rate", "R", "0.1", "Adam's step, > 0"},
    {"--tail", "F", "0.33", "share of the last steps whose losses or theta "
     "(--score) are averaged into the scores, 0..1"},
    {"--seed", "N", "1", "sequences of each step and Gumbel noise, 0..2^62"},
    {"--resume", NULL, NULL, "go on from DIR/fit.state if it is there; the "
     "result is bit-identical to an uninterrupted run"},
    GM_MEMORY_OPTION,
    {0}};

/* The preset's values stand where the command line says nothing. */
static void apply_recipe(gm_call *call) {
    static const char *const paper[][2] = {
        {"--relaxation", "soft"}, {"--norm", "plain"}, {"--score", "theta"}};
    static const char *const name[] = {"default", "paper"};
    int recipe = gm_parse_name("--recipe", gm_arg(call, "--recipe"), name, 2);
    for (size_t i = 0; recipe && i < sizeof paper / sizeof *paper; i++)
        gm_arg_default(call, paper[i][0], paper[i][1]);
}

/* An option's name as a number; *out is left alone without one. */
static void named(gm_call *call, const char *option, int count,
                       const char *(*name)(int), int *out) {
    const char *all[8], *found = gm_arg(call, option);
    if (!found) return;
    for (int i = 0; i < count; i++) all[i] = name(i);
    *out = gm_parse_name(option, found, all, count);
}

static const char *relaxation_name(int i) {
    return gm_relaxation_name((gm_relaxation)i);
}
static const char *norm_name(int i) {
    return gm_loss_norm_name((gm_loss_norm)i);
}
static const char *score_name(int i) { return gm_score_name((gm_score)i); }

/* Relaxation, norm, score and temperature. */
static void relaxation_options(gm_call *call, gm_fit_options *o) {
    int relaxation = 0, norm = 0, score;
    apply_recipe(call);
    named(call, "--relaxation", GM_RELAXATIONS, relaxation_name,
                      &relaxation);
    named(call, "--norm", GM_NORMS, norm_name, &norm);
    bool corrected = relaxation == GM_SOFT_CORRECTED;
    score = corrected ? GM_SCORE_SCALED : GM_SCORE_THETA;
    named(call, "--score", GM_SCORES, score_name, &score);
    if (score == GM_SCORE_SCALED && !corrected)
        gm_fail(GM_EUSAGE, "--score scaled belongs to "
                       "--relaxation soft-corrected, found %s",
                       relaxation_name(relaxation));
    o->relaxation = (gm_relaxation)relaxation;
    o->norm = (gm_loss_norm)norm;
    o->score = (gm_score)score;
    bool sampled = gm_sampled(o->relaxation);
    o->tau = sampled ? 2 : 1;
    if (gm_arg(call, "--tau"))
        gm_arg_double(call, "--tau", 1e-3, 1e3, &o->tau);
    o->tau_last = sampled ? 0.5 : o->tau;
    if (gm_arg(call, "--tau-last")) {
        if (!sampled)
            gm_fail(GM_EUSAGE, "--tau-last belongs to "
                           "--relaxation gumbel and hard, found %s",
                           relaxation_name(relaxation));
        gm_arg_double(call, "--tau-last", 1e-3, 1e3, &o->tau_last);
    }
    gm_arg_double(call, "--first-weight", 1e-9, 1e9,
                                 &o->first_weight);
}

void gm_call_fit_options(gm_call *call, const gm_recipe *recipe,
                              gm_fit_options *o) {
    long seed = 0;
    relaxation_options(call, o);
    gm_arg_long(call, "--sequences", 1, 1 << 20, &o->S);
    gm_arg_long(call, "--length", 2, 1 << 20, &o->T);
    gm_arg_long(call, "--batch", 1, o->S, &o->batch);
    /* docs/results.md: what suffices, "Settings of Stage I" */
    o->steps = o->score == GM_SCORE_SCALED ? 15 : 60;
    if (gm_arg(call, "--steps"))
        gm_arg_long(call, "--steps", 1, 1000000, &o->steps);
    gm_arg_double(call, "--alpha", 1e-9, 1e9, &o->alpha);
    gm_arg_double(call, "--rho", 0, 1e9, &o->rho);
    gm_arg_double(call, "--eta", 0, 1e3, &o->eta);
    gm_arg_double(call, "--rate", 1e-9, 1e3, &o->rate);
    gm_arg_double(call, "--tail", 0, 1, &o->tail);
    gm_arg_long(call, "--seed", 0, 1L << 62, &seed);
    o->seed = (uint64_t)seed;
    double least = recipe->bits[0], most = recipe->bits[recipe->count - 1];
    o->budget = (least + most) / 2;
    if (gm_arg(call, "--train-bits"))
        gm_arg_double(call, "--train-bits", least, most, &o->budget);
}

/* Which average bits B the candidates reach: least and most of each module. */
static void reach(const gm_candidates *c, const gm_scores *table,
                  double *least, double *most) {
    *least = *most = 0;
    for (long m = 0; m < table->M; m++) {
        int first = 0, last = table->K - 1;
        while (!gm_allowed(c, m, first)) first++;
        while (!gm_allowed(c, m, last)) last--;
        double share = (double)table->weights[m] / (double)table->N;
        *least += share * table->bits[first];
        *most += share * table->bits[last];
    }
}

/* --allow, and a target B within what the modules' candidates reach. */
void gm_call_allow(gm_call *call, gm_candidates *c, gm_fit_options *o) {
    const char *text = gm_arg(call, "--allow");
    gm_scores table;
    double least, most;
    if (!text && !c->allowed) return;
    gm_module_table(&call->arena, c->model, &c->recipe, &table);
    bool *allowed = gm_alloc(&call->arena, (size_t)(table.M * table.K),
                             sizeof *allowed);
    for (long i = 0; i < table.M * table.K; i++)
        allowed[i] = gm_allowed(c, i / table.K, (int)(i % table.K));
    table.path = c->model->dir;
    if (text) gm_allow(&call->arena, &table, text, allowed);
    c->allowed = allowed;
    reach(c, &table, &least, &most);
    if (!gm_arg(call, "--train-bits")) o->budget = (least + most) / 2;
    if (o->budget < least || o->budget > most)
        gm_fail(GM_EUSAGE, "--train-bits: expected %.6g to "
                       "%.6g, which the modules' candidates reach, found %g",
                       least, most, o->budget);
}

/* Steps until done; the state is saved at most every SAVE_SECONDS, so that a
   killed run loses little, and always at the end. */
static void fit_loop(gm_call *call, gm_fit *fit, const char *state) {
    const double SAVE_SECONDS = 0.5;
    double saved = gm_seconds();
    while (fit->step < fit->options.steps) {
        gm_arena scratch = {0};
        gm_fit_step(fit);
        bool due = fit->step == fit->options.steps ||
                   gm_seconds() - saved > SAVE_SECONDS;
        if (due && gm_rank() == 0) {
            gm_fit_save(&scratch, fit, state);
            saved = gm_seconds();
        }
        gm_arena_free(&scratch);
        gm_say(&call->report, "learning", fit->step, fit->options.steps);
    }
}

void gm_call_fit(gm_call *call, gm_arena *arena,
                      const gm_candidates *candidates,
                      const int32_t *tokens,
                      const gm_fit_options *options, const char *dir,
                      bool resume, gm_fit *fit) {
    gm_fit_begin(arena, candidates, tokens, options, fit);
    char hash[65];
    gm_fit_hash(fit, hash);
    gm_ranks_same("the run's hash", hash);
    const char *state = gm_format(&call->arena, "%s/fit.state", dir);
    if (resume && gm_exists(state)) {
        gm_fit_load(&call->arena, fit, state);
        gm_talk(call, "%s: going on after step %ld", state, fit->step);
    }
    char step[32];
    snprintf(step, sizeof step, "%ld", fit->step);
    gm_ranks_same("steps done", step);
    fit_loop(call, fit, state);
    gm_talk(call, "learned: E/E0 %.4f  c %+.4f bits  lambda %.4g  mean "
                    "entropy %.3f", fit->E, fit->c, fit->lambda, fit->entropy);
}

void gm_call_scores(gm_call *call, const gm_fit *fit, const char *dir,
                         gm_scores *out) {
    const char *path = gm_format(&call->arena, "%s/scores.tsv", dir);
    gm_fit_table(&call->arena, fit, out);
    out->overhead = gm_packed_overhead(&call->arena, fit->candidates->model,
                                       &fit->candidates->recipe);
    gm_scores_write(&call->arena, path, out);
}

static void run_fit(gm_call *call) {
    gm_model model;
    gm_candidates candidates;
    gm_recipe recipe;
    gm_fit_options options = {0};
    gm_sequences calibration;
    gm_scores scores;
    gm_fit fit;
    const char *dir = gm_arg(call, "--out");
    if (!dir)
        gm_fail(GM_EUSAGE, "fit: --out DIR is missing");
    gm_call_recipe(call, &recipe);
    gm_model_open(&call->arena, call->operand[0], &model);
    gm_call_external(call, &model, NULL, &recipe);
    gm_call_fit_options(call, &recipe, &options);
    gm_call_calibration(call, &model, gm_arg(call, "--calib"),
                                    gm_arg(call, "--tokens"), options.S,
                                    options.T, &calibration);
    gm_plan plan = {.recipe = recipe, .fit = options, .candidates = true,
                    .learns = true};
    gm_call_plan(call, &model, &plan);
    recipe.at_once = plan.recipe.at_once;
    gm_call_claim(call, dir);
    gm_candidates_open(&call->arena, &model, &recipe, &calibration,
                                   dir, &call->report, &candidates);
    gm_call_allow(call, &candidates, &options);
    gm_call_fit(call, &call->arena, &candidates,
                            calibration.tokens, &options,
                            dir, gm_arg_given(call, "--resume"), &fit);
    if (gm_rank() > 0) return;
    gm_call_scores(call, &fit, dir, &scores);
    gm_result_begin(call, "scores\tmodules\tE\tc\tlambda");
    gm_result_row(call, "%s/scores.tsv\t%ld\t%.6f\t%.6f\t%.6g", dir, fit.M,
                  fit.E, fit.c, fit.lambda);
    gm_result_end(call);
    gm_candidates_close(&candidates);
    gm_model_close(&model);
}

const gm_command gm_command_fit = {
    "fit", "MODEL --calib FILE --out DIR",
    "Stage I: learn a score for each module and candidate",
    "Minimises  sum_l E_l/E_0 - (alpha/M) sum_m H(p_m) + lambda c + rho/2 c^2\n"
    "over theta, p_m = softmax(theta_m/tau); see gamma.c.  Writes\n"
    "DIR/scores.tsv (reusable for every budget: gamma solve),\n"
    "DIR/candidates-HASH.safetensors and DIR/fit.state.",
    1, 1, fit_options, run_fit};
