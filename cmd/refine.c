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
    char bits[GM_RECIPE_TEXT];
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

static const char *with_number(gm_arena *arena, const char *list, double x) {
    char text[32];
    gm_double_text(x, text);
    return gm_format(arena, "%s%s%s", list, *list ? ", " : "", text);
}

/* The budgets asked for, ascending. */
static gm_budget *read_budgets(gm_call *call, const gm_scores *scores,
                               int *count) {
    gm_arena *a = &call->arena;
    const char *way = gm_call_way(call, 4);
    char *list = gm_format(a, "%s", gm_given(way));
    gm_budget *out = gm_alloc(a, strlen(list) + 1, sizeof *out);
    for (char *item; (item = strsep(&list, ","));) {
        const gm_budget b = gm_call_budget(call, scores, item);
        int i = (*count)++;
        for (; i > 0 && out[i - 1].limit > b.limit; i--) out[i] = out[i - 1];
        out[i] = b;
        if (i > 0 && out[i - 1].limit == b.limit)
            gm_fail(GM_EUSAGE, "%s: %s and %s are the same budget", way,
                    out[i - 1].text, b.text);
    }
    return out;
}

/* Each begins with the scores as they stand, so it is what it would be alone:
   they may be made in any order, or by several processes. */
static void refine_all(gm_call *call, gm_rivals *rivals,
                       const gm_budget *budget, gm_scores *out) {
    gm_arena *a = &call->arena;
    const size_t cells = (size_t)(out->M * out->K);
    int *choice = gm_alloc(a, (size_t)out->M, sizeof *choice);
    const char *before = "", *after = "";
    gm_result_begin("scores\tbudget\tkl_before\tkl\tmoved\tmodules\t"
                    "evaluations\tseconds");
    for (int i = 0; i < out->anchors; i++) {
        const gm_budget *b = &budget[i];
        gm_refined found = {.score = gm_alloc(a, cells, sizeof(double))};
        gm_effort effort = gm_rivals_choose(rivals, GM_REFINED, b, choice,
                                            &found);
        const gm_sizes z = gm_sizes_of(out, choice);
        out->anchor[i] = (gm_anchor){
            b->text, {z.code_bits, z.effective_bits, z.file_bytes},
            found.score};
        out->anchor[i].at[b->convention] = b->limit;
        before = with_number(a, before, found.kl_before);
        after = with_number(a, after, found.kl);
        gm_result_row("%s\t%s\t%.8g\t%.8g\t%ld\t%ld\t%g\t%.1f", call->out,
                      b->text, found.kl_before, found.kl, found.moved, out->M,
                      effort.evaluations, effort.seconds);
    }
    gm_keys_set(a, &out->keys, "kl_before", "%s", before);
    gm_keys_set(a, &out->keys, "kl", "%s", after);
}

static void run_refine(gm_call *call) {
    gm_arena *a = &call->arena;
    gm_candidates *c = &call->candidates;
    char text_hash[65];
    gm_out file;
    gm_scores scores;
    /* all that can be refused before anything is computed */
    gm_scores_read(a, call->operand[1], &scores);
    gm_scores out = scores;
    out.anchors = 0;
    const gm_budget *budget = read_budgets(call, &scores, &out.anchors);
    gm_model_open(a, call->operand[0], &call->model);
    gm_model_hash(&call->model);
    gm_call_match(call, &scores, NULL);
    const bool made_from_it = read_origin(call, &scores, text_hash);
    const bool find = call->recipe.quantizer == GM_GPTQ && !made_from_it;
    if (gm_is_file(call->out)) {        /* who reads a pipe would see an end */
        gm_out_open(a, call->out, &file);
        gm_out_abandon(&file);
    }
    call->plan = (gm_plan){.rivals = GM_MEASURES_GRADIENTS,
                           .candidates = !call->external && !find};
    gm_call_plan(call);
    /* GPTQ's must be there when ours is not the text they were made from */
    gm_call_open(call, gm_call_cache(call, scores.path), find
                 ? gm_keys_get(&scores.keys, "candidates_hash") : NULL);
    gm_call_match(call, &scores, c->hash);
    offer(call, &scores);
    const gm_rivals_options options = {
        .candidates = c, .text = call->calibration, .learned = &scores,
        .evaluations = call->evaluations, .seed = call->fit.seed,
        .overhead = gm_call_overhead(call)};
    gm_keys *keys = &out.keys;
    gm_keys_set(a, keys, "refined_on", "%s", text_hash);
    gm_keys_set(a, keys, "refined_sequences", "%ld", call->fit.sequences);
    gm_keys_set(a, keys, "refined_length", "%ld", call->fit.T);
    gm_keys_set(a, keys, "refined_evaluations", "%ld", call->evaluations);
    gm_keys_set(a, keys, "refined_seed", "%ld", (long)call->fit.seed);
    out.anchor = gm_alloc(a, (size_t)out.anchors, sizeof *out.anchor);
    refine_all(call, gm_rivals_begin(a, &options, &call->report), budget,
               &out);
    gm_scores_write(a, call->out, &out);
    gm_result_end(call);
}

const gm_command gm_command_refine = {
    "refine", "MODEL SCORES.tsv --calib FILE --budget LIST --out FILE",
    "Correct scores at some budgets by the whole model's KL",
    "Expands KL(original || quantized) around the optimum of the scores, from\n"
    "gradients of the whole quantized model, mixes what it says with them,\n"
    "solves again and keeps what lowers KL on the text (docs/rivals.md); at\n"
    "each budget from the scores as they stand, so in any order.  Writes them\n"
    "as anchors, between which gamma solve interpolates.",
    2, REFINE, run_refine};
