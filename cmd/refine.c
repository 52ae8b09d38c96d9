/* refine.c: the command `refine`, and how `run` makes its anchors.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <math.h>
#include <string.h>

/* What the anchors are made from, which the keys say, and what they are. */
static void seal(const gm_scores *s, char hash[65]) {
    const size_t cells = (size_t)(s->M * s->K);
    gm_sha sha;
    gm_sha_begin(&sha);
    for (const gm_key *k = s->keys.key; k < s->keys.key + s->keys.count; k++)
        if (!gm_name_matches("refined_hash,anchors,weights,overhead_bytes",
                             k->name))
            gm_sha_add(&sha, k->value, strlen(k->value) + 1);
    gm_sha_add(&sha, s->bytes, cells * sizeof *s->bytes);
    gm_sha_add(&sha, s->score, cells * sizeof *s->score);
    for (const gm_anchor *x = s->anchor; x < s->anchor + s->anchors; x++) {
        gm_sha_add(&sha, x->at, sizeof x->at);
        gm_sha_add(&sha, x->score, cells * sizeof *x->score);
    }
    gm_sha_end(&sha, hash);
}

gm_rivals *gm_call_refine(gm_call *call, gm_arena *arena,
                          const gm_scores *scores, int most, gm_scores *out) {
    const gm_sequences *text = &call->calibration;
    const bool sized = gm_layout_sized(gm_keys_get(&scores->keys, "sizes")) &&
                       scores->M == call->model.config.layers * GM_LINEARS &&
                       scores->K == call->recipe.count;     /* else refused */
    const gm_rivals_options options = {
        .candidates = &call->candidates, .text = *text, .learned = scores,
        .evaluations = call->evaluations, .seed = call->fit.seed, .whole = true,
        .overhead = sized ? scores->overhead : gm_call_overhead(call),
        .bytes = sized ? scores->bytes : NULL};
    gm_arena *a = &call->arena;
    char hash[65];
    gm_sha_tokens(text->tokens, text->sequences, text->T, hash);
    *out = *scores;
    out->anchors = 0;
    out->anchor = gm_alloc(a, (size_t)most, sizeof *out->anchor);
    if (scores->anchors)            /* run, which begins as learned, has none */
        gm_keys_set(a, &out->keys, "refined_from", "%s", gm_keys_get(
            &scores->keys, "anchors"));
    gm_keys_set(a, &out->keys, "refined_on", "%s", hash);
    gm_keys_set(a, &out->keys, "refined_sequences", "%ld", text->sequences);
    gm_keys_set(a, &out->keys, "refined_length", "%ld", text->T);
    gm_keys_set(a, &out->keys, "refined_evaluations", "%ld", call->evaluations);
    gm_keys_set(a, &out->keys, "refined_seed", "%ld", (long)call->fit.seed);
    return gm_rivals_begin(arena, &options, &call->report);
}

/* Number i of a key that lists one an anchor. */
static void list_number(gm_arena *a, gm_scores *s, const char *key, int i,
                        double x) {
    gm_keys_set(a, &s->keys, key, "%s%s%s", i ? gm_keys_get(&s->keys, key) : "",
                i ? ", " : "", gm_double_text(x).text);
}

/* Its size in the other conventions: its optimum's, but none below that of the
   anchor before. */
gm_effort gm_call_anchor(gm_call *call, gm_rivals *rivals,
                         const gm_budget *budget, gm_scores *out,
                         gm_refined *found) {
    gm_arena *a = &call->arena;
    int *choice = gm_alloc(a, (size_t)out->M, sizeof *choice);
    char hash[65];
    found->score = gm_alloc(a, (size_t)(out->M * out->K), sizeof(double));
    const gm_effort effort = gm_rivals_choose(rivals, GM_REFINED, budget,
                                              choice, found);
    const gm_sizes z = gm_sizes_of(out, choice);
    gm_anchor *x = &out->anchor[out->anchors++];
    *x = (gm_anchor){budget->text, {z.code_bits, z.effective_bits,
                                    z.file_bytes}, found->score, 0, -1};
    x->at[budget->convention] = budget->limit;
    for (int c = GM_BITS; c <= GM_BYTES && out->anchors > 1; c++)
        if (x->at[c] < x[-1].at[c]) x->at[c] = x[-1].at[c];
    list_number(a, out, "kl_before", out->anchors - 1, found->kl_before);
    list_number(a, out, "kl", out->anchors - 1, found->kl);
    seal(out, hash);
    gm_keys_set(a, &out->keys, "refined_hash", "%s", hash);
    return effort;
}

/* By how much the mean of the anchors lowers KL at each against the scores as
   learned, and the standard error of that (of the differences over the
   sequences): gm_scores_at leaves out what is not shown to help. [ours] */
void gm_call_judge(gm_call *call, gm_rivals *rivals, const gm_budget *budget,
                   gm_scores *out) {
    gm_arena *a = &call->arena;
    const long n = call->calibration.sequences;
    double *by_learned = gm_alloc(a, (size_t)n, sizeof *by_learned);
    double *by_mean = gm_alloc(a, (size_t)n, sizeof *by_mean), error;
    gm_scores learned = *out;
    char hash[65];
    learned.anchors = 0;
    for (int i = 0; i < out->anchors; i++) {
        gm_anchor *x = &out->anchor[i];
        gm_rivals_kl(rivals, &learned, budget + i, by_learned);
        gm_rivals_kl(rivals, out, budget + i, by_mean);
        const double gain = gm_mean_error(n, by_learned, by_mean, NULL, &error);
        if (n < 2) error = fabs(gain);          /* one shows nothing */
        x->gain = gain, x->error = error;
        list_number(a, out, "kl_gain", i, gain);
        list_number(a, out, "kl_gain_error", i, error);
        gm_talk(call, "KL at %s by the mean of the anchors: less by %.5f (error "
                "%.5f)%s", x->text, gain, error, gm_anchor_stands(x)
                ? "" : ", not shown to help: the learned scores stand there");
    }
    seal(out, hash);
    gm_keys_set(a, &out->keys, "refined_hash", "%s", hash);
}

void gm_call_anchors_left(gm_call *call, const char *path,
                          const gm_budget *budget, int count, gm_scores *out) {
    static const char *const same[] = {"kl_before", "kl", "refined_hash",
                                       "kl_gain", "kl_gain_error"};
    gm_scores old, with = *out;
    char hash[65];
    if (!gm_exists(path)) return;
    gm_scores_read(&call->arena, path, &old);
    if (old.anchors > count || old.M != out->M || old.K != out->K) return;
    for (int i = 0; i < old.anchors; i++) {
        with.anchor[i] = old.anchor[i];
        if (strcmp(old.anchor[i].text, budget[i].text) != 0 ||
            old.anchor[i].at[budget[i].convention] != budget[i].limit)
            return;
    }
    for (int i = 0; i < 5; i++) {
        const char *value = gm_keys_get(&old.keys, same[i]);
        if (i < 3 ? !value : value && old.anchors < count) return;
        if (value) gm_keys_set(&call->arena, &with.keys, same[i], "%s", value);
    }
    with.anchors = old.anchors;
    seal(&with, hash);
    if (strcmp(hash, gm_keys_get(&with.keys, "refined_hash")) == 0) *out = with;
}

/* The recipe and the text that the scores were learned for, --sequences and
   --length over them.  Gives whether the text is fit's. */
static bool read_origin(gm_call *call, const gm_scores *scores) {
    const gm_keys *keys = &scores->keys;
    const char *recipe = gm_keys_get(keys, "candidates");
    const char *from = gm_keys_get(keys, "calibration_hash");
    const char *S = gm_keys_get(keys, "sequences");
    const char *T = gm_keys_get(keys, "length");
    char bits[GM_RECIPE_TEXT], text_hash[65];
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

/* The budgets asked for, ascending. */
static gm_budget *read_budgets(gm_call *call, const gm_scores *scores,
                               int *count) {
    gm_arena *a = &call->arena;
    const char *way = gm_call_way(call, 4);
    char *list = gm_format(a, "%s", call->budgets);
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

static void run_refine(gm_call *call) {
    gm_arena *a = &call->arena;
    gm_candidates *c = &call->candidates;
    gm_out file;
    gm_scores scores, out;
    gm_refined *found;
    gm_effort *effort;
    int count = 0;
    /* all that can be refused before anything is computed */
    gm_scores_read(a, call->operand[1], &scores);
    gm_layout_sizes(a, gm_keys_get(&scores.keys, "sizes"), &scores);
    const gm_budget *budget = read_budgets(call, &scores, &count);
    gm_model_open(a, call->operand[0], &call->model);
    gm_model_hash(&call->model);
    gm_call_match(call, &scores, NULL);
    const bool made_from_it = read_origin(call, &scores);
    const bool find = call->recipe.quantizer == GM_GPTQ && !made_from_it;
    if (gm_is_file(call->out)) {        /* who reads a pipe would see an end */
        gm_out_open(a, call->out, &file);
        gm_out_abandon(&file);
    }
    call->plan = (gm_plan){.rivals = GM_MEASURES_GRADIENTS, .whole = true,
                           .candidates = !call->external && !find};
    gm_call_plan(call);
    /* GPTQ's must be there when ours is not the text they were made from */
    gm_call_open(call, gm_call_cache(call, scores.path), find
                 ? gm_keys_get(&scores.keys, "candidates_hash") : NULL);
    gm_call_match(call, &scores, c->hash);
    offer(call, &scores);
    gm_rivals *rivals = gm_call_refine(call, a, &scores, count, &out);
    found = gm_alloc(a, (size_t)count, sizeof *found);
    effort = gm_alloc(a, (size_t)count, sizeof *effort);
    for (int i = 0; i < count; i++)
        effort[i] = gm_call_anchor(call, rivals, budget + i, &out, found + i);
    gm_call_judge(call, rivals, budget, &out);
    gm_result_begin("scores\tbudget\tkl_before\tkl\tmoved\tmodules\t"
                    "evaluations\tseconds\tstands");
    for (int i = 0; i < count; i++)
        gm_result_row("%s\t%s\t%.8g\t%.8g\t%ld\t%ld\t%g\t%.1f\t%s", call->out,
                      budget[i].text, found[i].kl_before, found[i].kl,
                      found[i].moved, out.M, effort[i].evaluations,
                      effort[i].seconds,
                      gm_anchor_stands(&out.anchor[i])
                      ? "mean" : "learned");
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
    "as anchors; gamma solve takes a mean of those around a budget, or, where\n"
    "that is not shown to lower KL, the scores as they stand.",
    2, REFINE, run_refine};
