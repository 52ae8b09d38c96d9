/* refine.c: the command `refine`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

/* The recipe and the text that the scores were learned for, --sequences and
   --length over them.  Gives whether the text is fit's. */
static bool read_origin(gm_call *call, const gm_scores *scores,
                        char text_hash[65]) {
    const gm_keys *keys = &scores->keys;
    const char *recipe = gm_keys_get(keys, "candidates");
    const char *from = gm_keys_get(keys, "calibration_hash");
    const char *S = gm_keys_get(keys, "sequences");
    const char *T = gm_keys_get(keys, "length");
    char bits[64];
    if (!recipe || !gm_keys_get(keys, "candidates_hash"))
        gm_bad(scores->path, "expected scores of gamma fit, which say what "
               "candidates they are of (candidates, candidates_hash), found "
               "none");
    gm_recipe_read(recipe, &call->recipe);
    gm_recipe_bits(&call->recipe, bits);
    if (call->external)
        gm_external_open(&call->arena, &call->model, call->external, bits,
                         call->recipe.group, &call->recipe);
    call->fit.sequences = S ? gm_parse_long("sequences", S, 1, 1 << 20) : 16;
    call->fit.T = T ? gm_parse_long("length", T, 2, 1 << 20) : 512;
    const gm_fit_options fits = call->fit;
    gm_options_fill();
    gm_call_calibrate(call);
    const gm_sequences *text = &call->calibration;
    gm_sha_tokens(text->tokens, text->sequences, text->T, text_hash);
    return from && strcmp(from, text_hash) == 0 && S && T &&
           text->sequences == fits.sequences && text->T == fits.T;
}

/* What the scores lack is not offered. */
static void offer(gm_call *call, const gm_scores *s) {
    gm_candidates *c = &call->candidates;
    const long cells = s->M * s->K;
    if (s->M != call->model.config.layers * GM_LINEARS ||
        s->K != call->recipe.count)
        return;                         /* rivals.c says */
    bool *allowed = gm_alloc(&call->arena, (size_t)cells, sizeof *allowed);
    for (long i = 0; i < cells; i++)
        allowed[i] = gm_allowed(c, i / s->K, (int)(i % s->K)) &&
                     s->bytes[i] >= 0;
    c->allowed = allowed;
}

/* The scores that were read, with what was found in their place; its errors
   are unknown. */
static void write_scores(gm_call *call, gm_scores out, const gm_budget *budget,
                         const char *text_hash, const gm_refined *found) {
    gm_arena *a = &call->arena;
    char before[32], after[32];
    gm_double_text(found->kl_before, before);
    gm_double_text(found->kl, after);
    gm_keys_set(a, &out.keys, "refined_at", "%s %s", budget->text,
                gm_convention_name(budget->convention));
    gm_keys_set(a, &out.keys, "refined_on", "%s", text_hash);
    gm_keys_set(a, &out.keys, "refined_sequences", "%ld", call->fit.sequences);
    gm_keys_set(a, &out.keys, "refined_length", "%ld", call->fit.T);
    gm_keys_set(a, &out.keys, "refined_evaluations", "%ld", call->evaluations);
    gm_keys_set(a, &out.keys, "refined_seed", "%ld", (long)call->fit.seed);
    gm_keys_set(a, &out.keys, "kl_before", "%s", before);
    gm_keys_set(a, &out.keys, "kl", "%s", after);
    out.score = found->score;
    for (long i = 0; i < out.M * out.K; i++) out.error[i] = -1;
    gm_scores_write(a, call->out, &out);
}

static void run_refine(gm_call *call) {
    gm_arena *a = &call->arena;
    gm_candidates *c = &call->candidates;
    const char *way = gm_call_way(call, 3);
    char text_hash[65];
    gm_out out;
    gm_scores scores;
    long moved = 0;
    /* all that can be refused before anything is computed */
    gm_scores_read(a, call->operand[1], &scores);
    gm_budget budget = gm_budget_parse(&scores, call->in, gm_given(way));
    gm_model_open(a, call->operand[0], &call->model);
    gm_model_hash(&call->model);
    gm_call_match(call, &scores, NULL);
    const bool made_from_it = read_origin(call, &scores, text_hash);
    const bool find = call->recipe.quantizer == GM_GPTQ && !made_from_it;
    if (gm_is_file(call->out)) {        /* who reads a pipe would see an end */
        gm_out_open(a, call->out, &out);
        gm_out_abandon(&out);
    }
    call->plan = (gm_plan){.rivals = GM_MEASURES_GRADIENTS,
                           .candidates = !call->external && !find};
    gm_call_plan(call);
    /* GPTQ's must be there when ours is not the text they were made from */
    gm_call_open(call, gm_call_cache(call, scores.path), find
                 ? gm_keys_get(&scores.keys, "candidates_hash") : NULL);
    gm_call_match(call, &scores, c->hash);
    const size_t M = (size_t)scores.M;
    gm_refined found = {.score = gm_alloc(a, M * (size_t)scores.K,
                                          sizeof *found.score)};
    int *start = gm_alloc(a, M, sizeof *start);
    int *choice = gm_alloc(a, M, sizeof *choice);
    offer(call, &scores);
    const gm_rivals_options options = {
        .candidates = c, .text = call->calibration, .learned = &scores,
        .evaluations = call->evaluations, .seed = call->fit.seed,
        .overhead = gm_packed_overhead(a, &call->model, &call->recipe)};
    gm_rivals *rivals = gm_rivals_begin(a, &options, &call->report);
    gm_rivals_choose(rivals, GM_LEARNED, &budget, start, NULL);
    gm_effort effort = gm_rivals_choose(rivals, GM_REFINED, &budget, choice,
                                        &found);
    write_scores(call, scores, &budget, text_hash, &found);
    for (size_t m = 0; m < M; m++) moved += start[m] != choice[m];
    gm_result_begin("scores\tbudget\tkl_before\tkl\tmoved\tmodules\t"
                    "evaluations\tseconds");
    gm_result_row("%s\t%s\t%.8g\t%.8g\t%ld\t%zu\t%g\t%.1f", call->out,
                  budget.text, found.kl_before, found.kl, moved, M,
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
