/* steps.c: what several commands do alike: texts as tokens, the recipe, the
   settings of Stage I, learning, measuring, an allocation's candidates.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------- texts */

void gm_call_known(const gm_call *call, const char *path, const int32_t *tokens,
                   long count) {
    for (long i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= call->model.config.vocab)
            gm_bad(path, "token %ld: expected an id below vocab_size %ld, "
                   "found %d", i, call->model.config.vocab, tokens[i]);
}

gm_tokenizer *gm_call_tokenizer(gm_call *call) {
    if (!call->tokenizer)
        call->tokenizer = gm_tokenizer_open(&call->arena, call->model.dir);
    return call->tokenizer;
}

int32_t *gm_call_tokens(gm_call *call, const char *options, const char *text,
                        const char *npy, long *count) {
    gm_arena *a = &call->arena;
    const char *path = npy ? npy : text;
    int32_t *tokens;
    size_t bytes;
    if (!text == !npy)
        gm_fail(GM_EUSAGE, "%s: expected one of %s, found %s",
                call->command->name, options, text ? "both" : "none");
    if (npy) {
        tokens = gm_npy_read(a, npy, count);
    } else {
        text = gm_file_text(a, text, &bytes);
        tokens = gm_tokenize(gm_call_tokenizer(call), a, path, text, bytes,
                             count);
    }
    gm_call_known(call, path, tokens, *count);
    if (*count == 0) gm_bad(path, "expected text, found none");
    return tokens;
}

gm_sequences gm_call_sequences(gm_call *call, const char *text,
                               const char *npy) {
    long count;
    gm_sequences out = {NULL, call->fit.sequences, call->fit.T};
    int32_t *tokens, *all = gm_call_tokens(
        call, "--calib FILE, --tokens FILE.npy", text, npy, &count);
    gm_calibration(&call->arena, npy ? npy : text, all, count, out.sequences,
                   out.T, &tokens);
    out.tokens = tokens;
    return out;
}

void gm_call_calibrate(gm_call *call) {
    const gm_sequences *text = &call->calibration;
    call->calibration = gm_call_sequences(call, call->calib,
                                          call->calib_tokens);
    call->recipe.weightless = gm_alloc(&call->arena, (size_t)text->sequences,
                                       (size_t)text->T * sizeof(bool));
}

void gm_call_notes(const gm_call *call) {
    const gm_sequences *text = &call->calibration;
    const long rows = text->sequences * text->T, SHOWN = 5;
    char list[512] = "";
    long count = 0;
    for (long i = 0; call->verbose && i < call->model.tensors.count; i++) {
        const gm_tensor *t = call->model.tensors.tensor + i;
        if (!call->model.used[i])
            gm_talk(call, "%s: tensor %s: %s %s, not needed by the model",
                    t->path, t->name, gm_type_of(t), gm_shape_of(t).text);
    }
    if (!call->recipe.weightless) return;
    for (long i = 0; i < rows; i++)
        if (call->recipe.weightless[i] && count++ < SHOWN)
            sprintf(list + strlen(list), "%s sequence %ld, position %ld (token "
                    "%d)", count > 1 ? ";" : "", i / text->T, i % text->T,
                    text->tokens[i]);
    if (count)
        gm_talk(call, "%ld of %ld calibration tokens weigh nothing where the "
                "norm of their state is 0, subnormal or infinite:%s%s", count,
                rows, list, count > SHOWN ? "; ..." : "");
}

/* --------------------------------------------------------------- measuring */

/* Window after window, as many at once as memory allows; the original's states
   of those are kept for the next call. */
gm_measure gm_call_measure(gm_call *call, const gm_candidates *candidates,
                           const int *choice) {
    gm_arena *a = &call->arena;
    gm_measuring *on = &call->on;
    const long windows = on->text.sequences, T = on->text.T;
    const long most = on->group ? gm_min(on->group, windows) : windows;
    if (!on->original) {
        const size_t rows = (size_t)(most * T);
        const size_t row = (size_t)call->model.config.d * sizeof(gm_real);
        on->student = gm_alloc(a, rows, row);
        on->original = gm_alloc(a, rows, row);
        gm_head_load(a, &call->model, &on->head);
    }
    double *x = gm_alloc(a, (size_t)(3 * windows), sizeof *x);
    gm_measure part, out = {.windows = windows, .window = T,
                            .window_nll = x, .window_kl = x + windows,
                            .window_top1 = x + 2 * windows,
                            .weight = on->weight};
    for (long i = 0, count; i < windows; i += count) {
        count = gm_min(most, windows - i);
        const gm_sequences text = {on->text.tokens + i * T, count, T};
        gm_mark mark = gm_arena_mark(a);
        if (on->held != i + 1)
            gm_final_states(a, &call->model, NULL, NULL, &text, &call->report,
                            on->original);
        on->held = i + 1;
        if (choice)
            gm_final_states(a, &call->model, candidates, choice, &text,
                            &call->report, on->student);
        gm_evaluate(a, &on->head, &text, on->next + i * T,
                    choice ? on->student : on->original,
                    choice ? on->original : NULL, &call->report, &part);
        out.predicted += part.predicted;
        const size_t bytes = (size_t)count * sizeof *x;
        memcpy(out.window_nll + i, part.window_nll, bytes);
        memcpy(out.window_kl + i, part.window_kl, bytes);
        memcpy(out.window_top1 + i, part.window_top1, bytes);
        gm_arena_rewind(a, mark);
    }
    gm_measure_means(&out);
    return out;
}

gm_measure gm_call_measure_once(gm_call *call, const int *choice) {
    gm_measuring *on = &call->on;
    const size_t bytes = (size_t)call->table.M * sizeof *choice;
    for (size_t i = 0; i < on->seen_count; i++)
        if (memcmp(on->seen[i].choice, choice, bytes) == 0)
            return on->seen[i].is;
    on->seen = gm_grow(&call->arena, on->seen, on->seen_count, &on->seen_room,
                       sizeof *on->seen);
    const gm_measure is = gm_call_measure(call, &call->candidates, choice);
    on->seen[on->seen_count++] = (struct gm_measured){choice, is};
    return is;
}

/* ----------------------------------------------------------- places, checks */

void gm_call_claim(gm_call *call) {
    if (gm_same_file(call->operand[0], call->out))
        gm_fail(GM_EUSAGE, "%s: the output directory is the model's own; "
                "expected another", call->out);
    if (call->plan.learns)
        gm_check_names(call->out, "scores.tsv,fit.state,learning.tsv");
    if (gm_rank() > 0) return;
    gm_make_dir(call->out);
    call->claim = gm_dir_lock(&call->arena, call->out); /* for all ranks */
}

const char *gm_call_cache(gm_call *call, const char *path) {
    if (call->cache) return call->cache;
    return gm_is_file(path) && strncmp(path, "/dev/", 5) != 0
         ? gm_parent(&call->arena, path) : ".";
}

const char *gm_call_way(gm_call *call, int count) {
    static const char *const ways[] = {"--budget", "--bits", "--ebits",
                                       "--bytes", "--frontier"};
    const char *way = NULL, *list = "";
    int given = 0;
    for (int i = 0; i < count; i++) {
        list = gm_format(&call->arena, "%s%s%s", list, i ? ", " : "", ways[i]);
        if (!gm_given(ways[i])) continue;
        given++;
        way = ways[i];
        if (i > 0 && i < 4) call->in = (gm_convention)(i - 1);
    }
    if (given != 1)
        gm_fail(GM_EUSAGE, "%s: expected one of %s, found %s",
                call->command->name, list, given ? "several" : "none");
    call->budgets = gm_given(way);
    return way;
}

int64_t gm_size_in(const gm_sizes *z, gm_convention in) {
    return in == GM_BITS ? z->code_bits : in == GM_EBITS ? z->effective_bits
         : z->file_bytes;
}

gm_budget gm_call_budget(gm_call *call, const gm_scores *scores,
                         const char *text) {
    const gm_budget budget = gm_budget_parse(scores, call->in, text);
    const double unit = call->in == GM_BYTES ? 1 : (double)scores->N;
    int *most = gm_alloc(&call->arena, (size_t)scores->M, sizeof *most);
    for (long m = 0; m < scores->M; m++) {
        const int64_t *bytes = scores->bytes + m * scores->K;
        while (bytes[most[m]] < 0) most[m]++;
        for (int k = most[m] + 1; k < scores->K; k++)
            if (call->in == GM_BITS ? bytes[k] >= 0
                                    : bytes[k] >= bytes[most[m]]) most[m] = k;
    }
    const gm_sizes z = gm_sizes_of(scores, most);
    const int64_t largest = gm_size_in(&z, call->in);
    if (budget.limit > largest)
        gm_talk(call, "budget %s: above the largest, %.10g: every module may "
                "have its most bits, %d at most; a lower budget makes it a "
                "choice, candidates of more bits (--bits of gamma fit and run) "
                "use it", text, (double)largest / unit,
                scores->bits[scores->K - 1]);
    return budget;
}

void gm_call_match(const gm_call *call, const gm_scores *scores,
                   const char *candidates) {
    const char *const same[][2] = {{"model_hash", call->model.hash},
                                   {"candidates_hash", candidates}};
    for (int i = 0; i < 2; i++) {
        const char *found = gm_keys_get(&scores->keys, same[i][0]);
        if (found && same[i][1] && strcmp(found, same[i][1]) != 0)
            gm_bad(scores->path, "%s: expected %s, found %s", same[i][0],
                   same[i][1], found);
    }
}

/* -------------------------------------------------------------- candidates */

void gm_call_recipe(gm_call *call) {
    gm_scales *scales = &call->recipe.scales;
    gm_options_fill();
    if (gm_given("--scales"))
        *scales = (*scales | GM_MSE) ^ (call->scales ? 0 : GM_MSE);
    if (call->symmetric) *scales |= GM_SYMMETRIC;
    gm_recipe_check(&call->recipe);
}

/* The recipe's options over call->recipe; --external with `bits` ("2,3,4";
   NULL: all its file has). */
static void ask_recipe(gm_call *call, const char *bits) {
    const unsigned bit = call->command->bit;
    const char *odd = gm_given_of("--hessian|--act-order|--damping|"
                                  "--sequential");
    if (!odd && bit & (QUANTIZE | EVAL | SHOW))     /* its one use there */
        odd = gm_given_of(bit == SHOW ? "--calib|--tokens" : "--calib");
    gm_call_recipe(call);
    if (odd && call->recipe.quantizer == GM_RTN)
        gm_fail(GM_EUSAGE, "%s belongs to --quantizer gptq, found rtn", odd);
    if (!call->external) return;
    odd = gm_given_of("--quantizer|--scales|--symmetric|--for");
    if (odd)
        gm_fail(GM_EUSAGE, "expected either %s or --external, found both", odd);
    gm_external_open(&call->arena, &call->model, call->external, bits,
                     call->recipe.group, &call->recipe);
}

int64_t gm_call_overhead(gm_call *call) {
    const gm_external *e = call->recipe.external;
    return e && e->overhead >= 0 ? e->overhead :
           gm_packed_overhead(&call->arena, &call->model, &call->recipe);
}

/* call->table: sizes of model and recipe, with the file's overhead. */
static void make_table(gm_call *call) {
    gm_module_table(&call->arena, &call->model, &call->recipe, &call->table);
    call->table.overhead = gm_call_overhead(call);
}

void gm_call_open(gm_call *call, const char *dir, const char *hash) {
    gm_arena *a = &call->arena;
    if (!call->recipe.external && gm_same_file(call->operand[0], dir))
        gm_fail(GM_EUSAGE, "%s: candidates are kept there, but it is the "
                "model's own directory; expected another (--cache DIR)", dir);
    gm_check_names(dir, "sha256-*.txt");
    if (hash)
        gm_candidates_find(a, &call->model, &call->recipe, hash, dir,
                           &call->candidates);
    else
        gm_candidates_open(a, &call->model, &call->recipe, &call->calibration,
                           dir, &call->report, &call->candidates);
}

/* The recipe that an allocation was made for: its `candidates` key, as
   scores.tsv has it; else RTN of its distinct bits, group 128.  --bits,
   --group and the quantizer's options override. */
static void recipe_of(gm_call *call, const gm_allocation *allocation) {
    gm_recipe *r = &call->recipe, asked;
    const char *text = gm_keys_get(&allocation->keys, "candidates");
    const char *list = call->bits ? call->bits : "";
    char bits[GM_RECIPE_TEXT];
    for (int b = 1; b <= 32 && !call->bits; b++) {
        long m = 0;
        while (m < allocation->M && allocation->bits[m] != b) m++;
        if (m < allocation->M)
            list = gm_format(&call->arena, "%s%s%d", list, *list ? "," : "", b);
    }
    if (text) gm_recipe_read(text, r);
    else *r = (gm_recipe){.group = 128};
    if (!call->external && (!text || call->bits)) {
        gm_recipe_parse(list, 128, &asked);
        if (!text) *r = asked;
        r->count = asked.count;
        memcpy(r->bits, asked.bits, sizeof asked.bits);
    }
    gm_recipe_bits(r, bits);
    ask_recipe(call, text && !call->bits ? bits : call->bits);
}

/* What the command line makes of the candidates, for a message. */
static const char *candidates_of(gm_call *call) {
    if (call->external)
        return gm_format(&call->arena, "--external %s", call->external);
    if (call->recipe.quantizer != GM_GPTQ)
        return gm_format(&call->arena, "%s; --force takes them",
                         call->candidates.text);
    return gm_format(&call->arena, "%s of %ld sequences of %ld of --calib %s; "
                     "--force takes them", call->candidates.text,
                     call->calibration.sequences, call->calibration.T,
                     call->calib);
}

/* The candidates are those that were scored, but for --bits: each is made
   without regard to the others. */
static void check_made(gm_call *call, const gm_allocation *allocation,
                       const char *made) {
    const char *text = gm_keys_get(&allocation->keys, "candidates");
    gm_recipe scored, recipe = call->recipe;
    if (text && !call->external) {
        gm_recipe_read(text, &scored);
        recipe.count = scored.count;
        memcpy(recipe.bits, scored.bits, sizeof scored.bits);
    }
    gm_candidates_name(&call->model, &recipe, &call->calibration,
                       &call->candidates);
    if (strcmp(made, call->candidates.hash) != 0)
        gm_bad(call->alloc, "was made for other candidates: expected "
               "candidates_hash %s (%s), found %s", call->candidates.hash,
               candidates_of(call), made);
}

/* RTN's are made again when they are not there; GPTQ's are looked for by the
   hash in the allocation (call->made), or made from --calib. */
void gm_call_choose(gm_call *call) {
    gm_arena *a = &call->arena;
    gm_allocation allocation;
    const bool writes = call->command->bit == QUANTIZE;
    gm_allocation_read(a, call->alloc, &allocation);
    recipe_of(call, &allocation);
    const char *hash = gm_keys_get(&allocation.keys, "model_hash");
    const char *made = gm_keys_get(&allocation.keys, "candidates_hash");
    const bool gptq = call->recipe.quantizer == GM_GPTQ;
    const bool find = gptq && !call->calib;
    call->plan = (gm_plan){.models = writes, .budgets = writes,
                           .candidates = !call->recipe.external && !find};
    gm_call_plan(call);
    if (find && !made)
        gm_fail(GM_EUSAGE, "%s has no candidates_hash and GPTQ candidates are "
                "made from a calibration text: --calib FILE is missing",
                allocation.path);
    if (gptq && !find) gm_call_calibrate(call);
    if (!*call->model.hash) gm_model_hash(&call->model);
    if (hash && strcmp(hash, call->model.hash) != 0)
        gm_bad(call->alloc, "was made for another model: expected model_hash "
               "%s (%s), found %s", call->model.hash, call->model.dir, hash);
    if (!find && made && !call->force) check_made(call, &allocation, made);
    call->made = find ? made : NULL;
    call->candidates.model = &call->model;
    call->candidates.recipe = call->recipe;
    call->sizes = gm_keys_get(&allocation.keys, "sizes");
    make_table(call);
    gm_overhead_give(a, allocation.path,
                     gm_keys_get(&allocation.keys, "overhead_given"),
                     &call->table);
    call->choice = gm_alloc(a, (size_t)call->table.M, sizeof *call->choice);
    gm_allocation_match(&allocation, &call->table, call->choice);
}

void gm_call_chosen(gm_call *call) {
    gm_call_open(call, gm_call_cache(call, call->alloc), call->made);
}

/* ----------------------------------------------------------------- Stage I */

/* The least and most average bits of the allowed candidates, as the constraint
   of Stage I counts them: code bits, or, with labels, what is stored. */
static void reach(const gm_scores *t, const gm_recipe *recipe,
                  const bool *allowed, double *least, double *most) {
    const double *stored = recipe->external ? recipe->external->stored : NULL;
    *least = *most = 0;
    for (long m = 0; m < t->M; m++) {
        const double share = (double)t->weights[m] / (double)t->N;
        double low = HUGE_VAL, high = 0;
        for (int k = 0; k < t->K; k++) {
            const double bits = stored ? stored[m * t->K + k] : t->bits[k];
            if (allowed[m * t->K + k])
                low = fmin(low, bits), high = fmax(high, bits);
        }
        *least += share * low;
        *most += share * high;
    }
}

/* The settings that depend on others. */
static void fit_options(gm_call *call) {
    gm_fit_options *o = &call->fit;
    const gm_recipe *r = &call->recipe;
    if (call->paper && !gm_given("--relaxation")) o->relaxation = GM_SOFT;
    if (call->paper && !gm_given("--norm")) o->norm = GM_NORM_PLAIN;
    if (call->paper && !gm_given("--anchors")) call->anchors = 0;
    const bool corrected = o->relaxation == GM_SOFT_CORRECTED;
    const bool sampled = gm_sampled(o->relaxation);
    if (!gm_given("--score") && !call->paper)
        o->score = corrected ? GM_SCORE_SCALED : GM_SCORE_THETA;
    if (o->score == GM_SCORE_SCALED && !corrected)
        gm_fail(GM_EUSAGE, "--score scaled belongs to --relaxation "
                "soft-corrected, found %s", gm_relaxation_name[o->relaxation]);
    if (o->tau_last > 0 && !sampled)
        gm_fail(GM_EUSAGE, "--tau-last belongs to --relaxation gumbel and "
                "hard, found %s", gm_relaxation_name[o->relaxation]);
    if (!(o->tau > 0)) o->tau = sampled ? 2 : 1;
    if (!(o->tau_last > 0)) o->tau_last = sampled ? 0.5 : o->tau;
    if (!gm_given("--batch")) o->batch = gm_min(o->batch, o->sequences);
    gm_parse_long("--batch", gm_format(&call->arena, "%ld", o->batch), 1,
                  o->sequences);
    /* docs/results.md: what suffices, "Settings of Stage I" */
    if (!o->steps) o->steps = o->score == GM_SCORE_SCALED ? 15 : 60;
    double least = r->bits[0], most = r->bits[r->count - 1];
    if (r->external && r->external->stored) {
        make_table(call);
        reach(&call->table, r, r->external->allowed, &least, &most);
    }
    o->budget = (least + most) / 2;
    if (call->train_bits)
        o->budget = gm_parse_double("--train-bits", call->train_bits, least,
                                    most);
}

const char *gm_call_for(gm_call *call) {
    const char *name = gm_given("--for");
    if (!gm_given("--scale-type")) return name;
    return gm_format(&call->arena, "%s %s", name,
                     gm_dtype_name((gm_dtype)call->scale_type));
}

/* Candidates with the values that the layout of --for gives them.  It must hold
   each of them in each module, unless that may stay as stored. */
static void ask_layout(gm_call *call) {
    gm_arena *a = &call->arena;
    gm_recipe *r = &call->recipe;
    const gm_candidates all = {.recipe = *r, .model = &call->model};
    const long M = gm_modules(&call->model);
    const char *asked = gm_call_for(call), *name = gm_given("--for");
    gm_layout layout;
    if (!asked) return;
    int *choice = gm_alloc(a, (size_t)M, sizeof *choice);
    for (int k = 0; k < r->count; k++) {
        for (long m = 0; m < M; m++) choice[m] = k;
        gm_layout_plan(a, "--for", name, &all, choice,
                       gm_layout_scale(asked, name),
                       r->bits[r->count - 1] >= 16, &layout);
    }
    r->scales |= gm_layout_rounding(&layout);
    call->sizes = gm_format(a, "%s %s", name, gm_dtype_name(layout.scale));
}

/* call->budget; each is within reach: sizes are known without scores. */
static void check_budgets(gm_call *call) {
    gm_arena *a = &call->arena;
    const gm_solve_options options = {.solver = GM_DP};
    make_table(call);
    int *choice = gm_alloc(a, (size_t)call->table.M, sizeof *choice);
    char *list = gm_format(a, "%s", call->budgets);
    call->budget = gm_alloc(a, (size_t)call->plan.budgets,
                            sizeof *call->budget);
    for (gm_budget *b = call->budget; list; b++) {
        gm_certificate certificate;
        gm_allocation allocation;
        *b = gm_call_budget(call, &call->table, strsep(&list, ","));
        gm_allocate(a, &call->table, b, &options, choice, &certificate,
                    &allocation);
    }
}

void gm_call_prepare(gm_call *call) {
    gm_plan *p = &call->plan;
    gm_recipe_parse(call->bits && !call->external ? call->bits : "2,3,4", 128,
                    &call->recipe);
    if (!call->model.dir)               /* gamma plan may have shapes alone */
        gm_model_open(&call->arena, call->operand[0], &call->model);
    ask_recipe(call, call->bits);
    if (call->command->bit == SHOW) return;
    if (call->command->bit & (FIT | DUMP)) ask_layout(call);
    fit_options(call);
    p->candidates = p->learns = true;
    if (!(call->command->bit & (RUN | PLAN | COMPARE))) return;
    p->budgets = 1 + (int)gm_count_char(call->budgets, ',');
    if (call->model.tensors.count) check_budgets(call);
    if (call->command->bit == COMPARE) return;
    p->models = !call->no_models;
    p->whole = call->anchors > 0;
    if (!p->whole && gm_given("--evaluations"))
        gm_fail(GM_EUSAGE, "--evaluations goes with --anchors, found 0");
    if (p->whole) p->rivals = GM_MEASURES_GRADIENTS;
}

/* --allow into the candidates; the target B within what is left: the least and
   most bits of each module. */
static void allow(gm_call *call) {
    gm_candidates *c = &call->candidates;
    gm_scores *t = &call->table;
    double *budget = &call->fit.budget, least, most;
    if (!call->allow && !c->allowed) return;
    make_table(call);
    bool *allowed = gm_alloc(&call->arena, (size_t)(t->M * t->K),
                             sizeof *allowed);
    for (long i = 0; i < t->M * t->K; i++)
        allowed[i] = gm_allowed(c, i / t->K, (int)(i % t->K));
    t->path = c->model->dir;
    if (call->allow) gm_allow(&call->arena, t, call->allow, allowed);
    c->allowed = allowed;
    reach(t, &c->recipe, allowed, &least, &most);
    if (!call->train_bits) *budget = (least + most) / 2;
    if (*budget < least || *budget > most)
        gm_fail(GM_EUSAGE, "--train-bits: expected %.6g to %.6g, which the "
                "modules' candidates reach, found %g", least, most, *budget);
}

void gm_call_begin(gm_call *call) {
    const unsigned bit = call->command->bit;
    const bool budgets = bit & (RUN | COMPARE);
    if (budgets) gm_call_windows(call);
    gm_call_calibrate(call);
    gm_call_plan(call);
    if (bit != DUMP) gm_call_claim(call);
    gm_call_open(call, bit == DUMP ? gm_call_cache(call, call->out) : call->out,
                 NULL);
    if (!budgets) allow(call);
}

/* S_mk, where Stage I measured it as the rivals would: on each sequence once,
   tokens by their norm, of candidates in their order.  Only its sums are in
   another order and its unit is E_0. */
static void keep_separable(gm_call *call, const gm_fit *fit) {
    const gm_fit_options *o = &fit->options;
    const size_t cells = (size_t)(fit->M * fit->K);
    if (o->relaxation != GM_SOFT_CORRECTED || o->norm != GM_NORM_TOKEN ||
        (o->first_weight != 0 && o->first_weight != 1) ||
        o->sequences % o->batch != 0 || fit->step * o->batch < o->sequences ||
        fit->candidates->recipe.external != call->recipe.external)
        return;
    call->separable = gm_alloc(&call->arena, cells, sizeof *call->separable);
    memcpy(call->separable, fit->separable, cells * sizeof *call->separable);
}

/* The state is saved at most every SAVE_SECONDS, so that a killed run loses
   little, and always at the end. */
gm_fit gm_call_learn(gm_call *call, gm_scores *scores) {
    const double SAVE_SECONDS = 0.5;
    gm_arena *a = &call->arena;
    gm_arena learning = {0};        /* as large as evaluation, and before it */
    gm_fit fit;
    gm_learning steps;
    gm_candidates ordered;
    char hash[65];
    gm_external_order(a, &call->candidates, &ordered);
    gm_fit_begin(&learning, &ordered, call->calibration.tokens,
                 &call->fit, &fit);
    gm_learning_begin(&learning, &fit, &steps);
    gm_fit_hash(&fit, hash);
    gm_ranks_same("the run's hash", hash);
    const char *state = gm_format(a, "%s/fit.state", call->out);
    const char *table = gm_format(a, "%s/learning.tsv", call->out);
    if (call->resume && gm_exists(state)) {
        gm_fit_load(a, &fit, &steps, state);
        gm_talk(call, "%s: going on after step %ld", state, fit.step);
    }
    gm_ranks_same("steps done", gm_format(a, "%ld", fit.step));
    for (double saved = gm_seconds(); fit.step < fit.options.steps;) {
        gm_arena scratch = {0};
        gm_fit_step(&fit);
        if (gm_rank() == 0 && (fit.step == fit.options.steps ||
                               gm_seconds() - saved > SAVE_SECONDS)) {
            gm_fit_save(&scratch, &fit, &steps, state);
            gm_learning_write(&scratch, &fit, &steps, table);
            saved = gm_seconds();
        }
        gm_arena_free(&scratch);
        gm_say(&call->report, "learning", fit.step, fit.options.steps);
    }
    gm_talk(call, "learned: E/E0 %.4f  c %+.4f bits  lambda %.4g  mean "
            "entropy %.3f", fit.E, fit.c, fit.lambda, fit.entropy);
    gm_talk(call, "c need not be 0: a bit's price is lambda + rho c, here %.3g "
            "+ %.3g; lambda takes\nit over slowly, and gamma solve, not "
            "learning, keeps the budget", fit.lambda, fit.options.rho * fit.c);
    if (gm_rank() == 0) {
        gm_learning_write(a, &fit, &steps, table);
        gm_fit_table(a, &fit, scores);
        scores->overhead = gm_call_overhead(call);
        gm_layout_overheads(a, &call->candidates, &scores->keys);
        gm_layout_sizes(a, call->sizes, scores);
        if (!call->anchors)             /* else run does, with those it has */
            gm_scores_write(a, gm_format(a, "%s/scores.tsv", call->out),
                            scores);
    }
    keep_separable(call, &fit);
    gm_arena_free(&learning);
    fit.candidates = &call->candidates;
    return fit;
}
