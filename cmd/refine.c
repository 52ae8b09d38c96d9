/* refine.c: the command `refine`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

typedef struct {
    gm_call *call;
    gm_scores scores;
    gm_budget budget;
    char text_hash[65];
    bool made_from_it;              /* the text is fit's */
} refining;

/* A number that the scores were made with, or `fallback`. */
static long extent(const refining *r, const char *key, long least,
                   long fallback) {
    const char *said = gm_keys_get(&r->scores.keys, key);
    return said ? gm_parse_long(key, said, least, 1 << 20) : fallback;
}

/* The recipe and the text that the scores were learned for, --sequences and
   --length over them. */
static void read_origin(refining *r) {
    gm_call *call = r->call;
    const gm_keys *keys = &r->scores.keys;
    const char *recipe = gm_keys_get(keys, "candidates");
    const char *from = gm_keys_get(keys, "calibration_hash");
    char bits[64];
    if (!recipe || !gm_keys_get(keys, "candidates_hash"))
        gm_bad(r->scores.path, "expected scores of gamma fit, which say what "
               "candidates they are of (candidates, candidates_hash), found "
               "none");
    gm_recipe_read(recipe, &call->recipe);
    gm_recipe_bits(&call->recipe, bits);
    if (call->external)
        gm_external_open(&call->arena, &call->model, call->external, bits,
                         call->recipe.group, &call->recipe);
    const bool both = gm_keys_get(keys, "sequences") &&
                      gm_keys_get(keys, "length");
    const long S = call->fit.S = extent(r, "sequences", 1, 16);
    const long T = call->fit.T = extent(r, "length", 2, 512);
    gm_options_fill();
    call->calibration = gm_call_sequences(call, call->calib,
                                          call->calib_tokens);
    gm_sha_tokens(call->calibration.tokens, call->fit.S, call->fit.T,
                  r->text_hash);
    r->made_from_it = from && strcmp(from, r->text_hash) == 0 && both &&
                      S == call->fit.S && T == call->fit.T;
}

/* All that can be refused before anything is computed. */
static void begin(refining *r) {
    gm_call *call = r->call;
    gm_out out;
    const char *way = gm_call_way(call, 3);
    gm_scores_read(&call->arena, call->operand[1], &r->scores);
    r->budget = gm_budget_parse(&call->arena, &r->scores,
                                (gm_convention)call->in, gm_given(way));
    gm_model_open(&call->arena, call->operand[0], &call->model);
    gm_model_hash(&call->model);
    gm_call_match(call, &r->scores, NULL);
    read_origin(r);
    /* minutes later is too late to learn that it cannot be written */
    gm_out_open(&call->arena, call->out, &out);
    gm_out_abandon(&out);
    const gm_quantizer q = call->recipe.quantizer;
    call->plan = (gm_plan){
        .rivals = GM_MEASURES_GRADIENTS,
        .candidates = q == GM_RTN || (q == GM_GPTQ && r->made_from_it)};
    gm_call_plan(call);
}

/* GPTQ's must be there when ours is not the text they were made from.  What the
   scores lack is not offered. */
static void open_candidates(refining *r) {
    gm_call *call = r->call;
    gm_arena *a = &call->arena;
    gm_candidates *c = &call->candidates;
    const gm_scores *scores = &r->scores;
    const bool find = call->recipe.quantizer == GM_GPTQ && !r->made_from_it;
    const long M = call->model.config.layers * GM_LINEARS;
    const long K = call->recipe.count;
    gm_call_open(call, gm_call_cache(call, scores->path), find
                 ? gm_keys_get(&scores->keys, "candidates_hash") : NULL);
    gm_call_match(call, scores, c->hash);
    if (scores->M != M || scores->K != K) return;       /* rivals.c says */
    bool *allowed = gm_alloc(a, (size_t)(M * K), sizeof *allowed);
    for (long i = 0; i < M * K; i++)
        allowed[i] = gm_allowed(c, i / K, (int)(i % K)) &&
                     scores->bytes[i] >= 0;
    c->allowed = allowed;
}

/* The scores that were read, with what was found in their place. */
static void write_scores(const refining *r, const gm_refined *found) {
    gm_call *call = r->call;
    gm_arena *a = &call->arena;
    gm_scores out = r->scores;
    char before[32], after[32];
    gm_double_text(found->kl_before, before);
    gm_double_text(found->kl, after);
    gm_keys_set(a, &out.keys, "refined_at", "%s %s", r->budget.text,
                gm_convention_name(r->budget.convention));
    gm_keys_set(a, &out.keys, "refined_on", "%s", r->text_hash);
    gm_keys_set(a, &out.keys, "refined_sequences", "%ld", call->fit.S);
    gm_keys_set(a, &out.keys, "refined_length", "%ld", call->fit.T);
    gm_keys_set(a, &out.keys, "refined_evaluations", "%ld", call->evaluations);
    gm_keys_set(a, &out.keys, "refined_seed", "%ld", (long)call->fit.seed);
    gm_keys_set(a, &out.keys, "kl_before", "%s", before);
    gm_keys_set(a, &out.keys, "kl", "%s", after);
    const size_t n = (size_t)(out.M * out.K);
    out.score = found->score;
    out.error = gm_alloc(a, n, sizeof *out.error);
    for (size_t i = 0; i < n; i++) out.error[i] = -1;       /* unknown */
    gm_scores_write(a, call->out, &out);
}

static void run_refine(gm_call *call) {
    refining r = {.call = call};
    gm_arena *a = &call->arena;
    gm_rivals *rivals;
    gm_effort effort;
    long moved = 0;
    begin(&r);
    open_candidates(&r);
    const size_t M = (size_t)r.scores.M, n = M * (size_t)r.scores.K;
    gm_refined found = {.start = gm_alloc(a, M, sizeof *found.start),
                        .score = gm_alloc(a, n, sizeof *found.score)};
    int *choice = gm_alloc(a, M, sizeof *choice);
    const gm_rivals_options options = {
        .candidates = &call->candidates, .text = call->calibration,
        .learned = &r.scores, .evaluations = call->evaluations,
        .seed = call->fit.seed,
        .overhead = gm_packed_overhead(a, &call->model, &call->recipe)};
    gm_rivals_begin(a, &options, &call->report, &rivals);
    gm_rivals_refine(rivals, &r.budget, choice, &found, &effort);
    write_scores(&r, &found);
    for (size_t m = 0; m < M; m++) moved += found.start[m] != choice[m];
    gm_result_begin("scores\tbudget\tkl_before\tkl\tmoved\tmodules\t"
                    "evaluations\tseconds");
    gm_result_row("%s\t%s\t%.8g\t%.8g\t%ld\t%zu\t%g\t%.1f", call->out,
                  r.budget.text, found.kl_before, found.kl, moved, M,
                  effort.evaluations, effort.seconds);
    gm_result_end(call);
}

const gm_command gm_command_refine = {
    "refine", "MODEL SCORES.tsv --calib FILE --bits B --out FILE",
    "Correct scores at one budget by the whole model's KL",
    "Expands KL(original || quantized) around the optimum of the scores, from\n"
    "gradients of the whole quantized model, mixes what it says with them,\n"
    "solves again and keeps what lowers KL on the text (docs/rivals.md).\n"
    "Writes scores for gamma solve with the same budget.  At other budgets\n"
    "they are worse than those they came from.",
    2, REFINE, run_refine};
