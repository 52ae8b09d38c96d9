/* main_refine.c: the command `refine`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

static const gm_option refine_options[] = {
    {"--calib", "FILE", NULL, "what KL is measured on: the text of gamma fit, "
     "or another; never the evaluation text"},
    {"--tokens", "FILE", NULL, "instead of --calib: tokens, .npy"},
    {"--out", "FILE", NULL, "the corrected scores; required"},
    {"--bits", "B", NULL, "budget, as gamma solve's"},
    {"--ebits", "B", NULL, "budget, as gamma solve's"},
    {"--bytes", "X", NULL, "budget, as gamma solve's"},
    {"--evaluations", "N", "16", "at most, 1..1000000; a forward pass of the "
     "text each; one for the start, then at most 15 a round"},
    {"--sequences", "S", NULL, "of the text (as many as gamma fit had, else "
     "16)"},
    {"--length", "T", NULL, "tokens in each (as many as gamma fit had, else "
     "512)"},
    {"--seed", "N", "1", "of the drawn labels, 0..2^62"},
    {"--external", "FILE", NULL, "the file given to gamma fit --external"},
    {"--cache", "DIR", NULL, "where the candidate file is or goes (beside "
     "SCORES.tsv)"},
    GM_MEMORY_OPTION,
    {0}};

typedef struct {
    gm_call *call;
    gm_model model;
    gm_scores scores;
    gm_recipe recipe;
    gm_budget budget;
    gm_sequences text;
    char text_hash[65];
    bool made_from_it;              /* text: fit's */
    gm_candidates candidates;
    long evaluations, seed;
} refining;

/* --sequences or --length: as given, else as the scores say. */
static void extent(const refining *r, const char *option, const char *key,
                        long least, long fallback, long *out) {
    const char *said = gm_keys_get(&r->scores.keys, key);
    *out = fallback;
    if (gm_arg_given(r->call, option))
        gm_arg_long(r->call, option, least, 1 << 20, out);
    else if (said) *out = gm_parse_long(key, said, least, 1 << 20);
}

static bool is_key(const refining *r, const char *key, long value) {
    char text[32];
    const char *said = gm_keys_get(&r->scores.keys, key);
    snprintf(text, sizeof text, "%ld", value);
    return said && strcmp(said, text) == 0;
}

static void read_budget(refining *r) {
    static const char *const ways[] = {"--bits", "--ebits", "--bytes"};
    gm_call *call = r->call;
    const char *way = NULL;
    gm_call_way(call, ways, 3, &way);
    gm_convention in = gm_convention_parse(way, way + 2);
    gm_scores_read(&call->arena, call->operand[1], &r->scores);
    r->budget = gm_budget_parse(&call->arena, &r->scores, in,
                                gm_arg(call, way));
}

/* The recipe that the scores were learned for. */
static void read_recipe(refining *r) {
    gm_call *call = r->call;
    const char *path = gm_arg(call, "--external");
    const char *text = gm_keys_get(&r->scores.keys, "candidates");
    char bits[64];
    if (!text || !gm_keys_get(&r->scores.keys, "candidates_hash"))
        gm_fail(GM_EINPUT, "%s: expected scores of gamma "
                       "fit, which say what candidates they are of "
                       "(candidates, candidates_hash), found none",
                       r->scores.path);
    gm_recipe_read(text, &r->recipe);
    if (!path) return;
    gm_recipe_bits(&r->recipe, bits);
    gm_external_open(&call->arena, &r->model, path, bits,
                            r->recipe.group, &r->recipe);
}

/* All that can be refused before anything is computed. */
static void read_all(refining *r) {
    gm_call *call = r->call;
    long S, T;
    if (!gm_arg(call, "--out"))
        gm_fail(GM_EUSAGE, "refine: --out FILE is missing");
    gm_arg_long(call, "--evaluations", 1, 1000000,
                              &r->evaluations);
    gm_arg_long(call, "--seed", 0, 1L << 62, &r->seed);
    read_budget(r);
    gm_model_open(&call->arena, call->operand[0], &r->model);
    gm_model_hash(&r->model);
    gm_call_match(&r->scores, r->model.hash, NULL);
    read_recipe(r);
    extent(r, "--sequences", "sequences", 1, 16, &S);
    extent(r, "--length", "length", 2, 512, &T);
    gm_call_calibration(call, &r->model, gm_arg(call, "--calib"),
                                    gm_arg(call, "--tokens"), S, T, &r->text);
    const char *from = gm_keys_get(&r->scores.keys, "calibration_hash");
    gm_sha_tokens(r->text.tokens, S, T, r->text_hash);
    r->made_from_it = from && strcmp(from, r->text_hash) == 0 &&
                      is_key(r, "sequences", S) && is_key(r, "length", T);
}

/* GPTQ's must be there when ours is not the text they were made from.  What the
   scores lack is not offered. */
static void open_candidates(refining *r) {
    gm_call *call = r->call;
    gm_arena *a = &call->arena;
    const gm_scores *scores = &r->scores;
    const char *hash = gm_keys_get(&scores->keys, "candidates_hash");
    const char *cache = gm_arg(call, "--cache");
    const long M = r->model.config.layers * GM_LINEARS, K = r->recipe.count;
    if (!cache) cache = gm_parent(a, scores->path);
    bool *allowed = gm_alloc(a, (size_t)(M * K), sizeof *allowed);
    r->recipe.quantizer == GM_GPTQ && !r->made_from_it
        ? gm_candidates_find(a, &r->model, &r->recipe, hash, cache,
                             &r->candidates)
        : gm_candidates_open(a, &r->model, &r->recipe, &r->text, cache,
                             &call->report, &r->candidates);
    gm_call_match(scores, r->model.hash, r->candidates.hash);
    if (scores->M != M || scores->K != K) return;    /* rivals.c says */
    for (long i = 0; i < M * K; i++)
        allowed[i] = gm_allowed(&r->candidates, i / K, (int)(i % K)) &&
                     scores->bytes[i] >= 0;
    r->candidates.allowed = allowed;
}

static void plan_memory(refining *r) {
    gm_plan plan = {.recipe = r->recipe,
                    .fit = {.S = r->text.S, .T = r->text.T},
                    .rivals = GM_MEASURES_GRADIENTS};
    plan.candidates = r->recipe.quantizer == GM_RTN ||
                      (r->recipe.quantizer == GM_GPTQ && r->made_from_it);
    gm_call_plan(r->call, &r->model, &plan);
}

/* The scores that were read, with what was found in their place. */
static void write_scores(refining *r, const gm_refined *found) {
    gm_call *call = r->call;
    gm_arena *a = &call->arena;
    gm_scores out = r->scores;
    char before[32], after[32];
    gm_double_text(found->kl_before, before);
    gm_double_text(found->kl, after);
    const char *const keys[][2] = {
        {"refined_at", gm_format(a, "%s %s", r->budget.text,
                                 gm_convention_name(r->budget.convention))},
        {"refined_on", r->text_hash},
        {"refined_sequences", gm_format(a, "%ld", r->text.S)},
        {"refined_length", gm_format(a, "%ld", r->text.T)},
        {"refined_evaluations", gm_format(a, "%ld", r->evaluations)},
        {"refined_seed", gm_format(a, "%ld", r->seed)},
        {"kl_before", before}, {"kl", after}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        gm_keys_set(a, &out.keys, keys[i][0], "%s", keys[i][1]);
    const size_t n = (size_t)(out.M * out.K);
    out.score = found->score;
    out.error = gm_alloc(a, n, sizeof *out.error);
    for (size_t i = 0; i < n; i++) out.error[i] = -1;       /* unknown */
    gm_scores_write(a, gm_arg(call, "--out"), &out);
}

static void refine(refining *r) {
    gm_call *call = r->call;
    gm_arena *a = &call->arena;
    const size_t M = (size_t)r->scores.M, n = M * (size_t)r->scores.K;
    const gm_rivals_options options = {
        .candidates = &r->candidates, .text = r->text, .learned = &r->scores,
        .evaluations = r->evaluations, .seed = (uint64_t)r->seed,
        .overhead = gm_packed_overhead(a, &r->model, &r->recipe)};
    gm_refined found = {.score = gm_alloc(a, n, sizeof *found.score)};
    int *start = gm_alloc(a, M, sizeof *start);
    int *choice = gm_alloc(a, M, sizeof *choice);
    long moved = 0;
    gm_rivals *rivals = gm_rivals_begin(a, &options, &call->report);
    gm_rivals_choose(rivals, GM_LEARNED, &r->budget, start, NULL);
    gm_effort effort = gm_rivals_choose(rivals, GM_REFINED, &r->budget, choice,
                                        &found);
    write_scores(r, &found);
    for (size_t m = 0; m < M; m++) moved += start[m] != choice[m];
    gm_result_begin(call, "scores\tbudget\tkl_before\tkl\tmoved\tmodules\t"
                    "evaluations\tseconds");
    gm_result_row(call, "%s\t%s\t%.8g\t%.8g\t%ld\t%zu\t%g\t%.1f",
                  gm_arg(call, "--out"), r->budget.text, found.kl_before,
                  found.kl, moved, M, effort.evaluations, effort.seconds);
    gm_result_end(call);
}

/* Minutes later is too late to learn that it cannot. */
static void can_write(refining *r) {
    gm_call *call = r->call;
    gm_out out;
    gm_out_open(&call->arena, gm_arg(call, "--out"), &out);
    gm_out_abandon(&out);
}

static void run_refine(gm_call *call) {
    refining r = {.call = call};
    read_all(&r);
    can_write(&r);
    plan_memory(&r);
    open_candidates(&r);
    refine(&r);
    gm_candidates_close(&r.candidates);
    gm_model_close(&r.model);
}

const gm_command gm_command_refine = {
    "refine", "MODEL SCORES.tsv --calib FILE --bits B --out FILE",
    "Correct scores at one budget by the whole model's KL",
    "Expands KL(original || quantized) around the optimum of the scores, from\n"
    "gradients of the whole quantized model, mixes what it says with them,\n"
    "solves again and keeps what lowers KL on the text (docs/rivals.md).\n"
    "Writes scores for gamma solve with the same budget.  At other budgets\n"
    "they are worse than those they came from.",
    2, 2, refine_options, run_refine};
