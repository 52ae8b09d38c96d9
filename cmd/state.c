/* state.c: Stage I as files: its state, so that a killed run goes on to the
   bit-identical result, with the hash that ties it to one run; how it learned,
   learning.tsv; and what it learned, scores.tsv.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Everything that determines the result, in one line. */
void gm_fit_hash(const gm_fit *fit, char hash[65]) {
    const gm_fit_options *o = &fit->options;
    const bool *allowed = fit->candidates->allowed;
    gm_arena arena = {0};
    char calibration[65];
    gm_sha sha;
    gm_sha_tokens(fit->tokens, o->sequences, o->T, calibration);
    const char *line = gm_format(
        &arena, "gamma-fit 2 %s %s relaxation=%d S=%ld T=%ld batch=%ld "
        "steps=%ld alpha=%a rho=%a eta=%a tau=%a rate=%a tail=%a budget=%a "
        "seed=%llu", fit->candidates->hash, calibration, (int)o->relaxation,
        o->sequences, o->T, o->batch, o->steps, o->alpha, o->rho, o->eta,
        o->tau, o->rate, o->tail, o->budget, (unsigned long long)o->seed);
    /* what came later is added where it is not the default, so that older
       states still match */
    if (o->norm != GM_NORM_TOKEN ||
        (o->first_weight != 0 && o->first_weight != 1))
        line = gm_format(&arena, "%s norm=%d first=%a", line, (int)o->norm,
                         o->first_weight);
    if (o->tau_last != 0 && o->tau_last != o->tau)
        line = gm_format(&arena, "%s tau_last=%a", line, o->tau_last);
    gm_sha_begin(&sha);
    gm_sha_add(&sha, line, strlen(line));
    if (allowed)
        gm_sha_add(&sha, allowed, (size_t)(fit->M * fit->K) * sizeof *allowed);
    gm_sha_end(&sha, hash);
    gm_arena_free(&arena);
}

/* What the run was asked for and, found, what it found. */
static void describe(gm_arena *arena, const gm_fit *fit, bool found,
                     gm_keys *out) {
    const gm_fit_options *o = &fit->options;
    const gm_model *model = fit->candidates->model;
    char calibration[65];
    gm_sha_tokens(fit->tokens, o->sequences, o->T, calibration);
    const struct { const char *key, *text; double number; } keys[] = {
        {"version", GM_VERSION, 0}, {"model", gm_model_name(arena, model), 0},
        {"model_hash", model->hash, 0}, {"calibration_hash", calibration, 0},
        {"candidates", fit->candidates->text, 0},
        {"candidates_hash", fit->candidates->hash, 0},
        {"relaxation", gm_relaxation_name[o->relaxation], 0},
        {"norm", gm_loss_norm_name[o->norm], 0},
        {"score", gm_score_name[o->score], 0},
        {"sequences", NULL, (double)o->sequences},
        {"length", NULL, (double)o->T},
        {"batch", NULL, (double)o->batch}, {"steps", NULL, (double)o->steps},
        {"seed", NULL, (double)o->seed}, {"alpha", NULL, o->alpha},
        {"rho", NULL, o->rho}, {"eta", NULL, o->eta}, {"tau", NULL, o->tau},
        {"tau_last", NULL, o->tau_last},
        {"first_weight", NULL, o->first_weight},
        {"rate", NULL, o->rate}, {"tail", NULL, o->tail},
        {"train_bits", NULL, o->budget}, {"E0", NULL, fit->E0},
        {"E", NULL, fit->E}, {"c", NULL, fit->c},
        {"lambda", NULL, fit->lambda}, {"entropy", NULL, fit->entropy}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys - (found ? 0 : 5);
         i++) {
        double x = keys[i].number;
        gm_shown number = gm_double_text(x);
        if (x == floor(x) && fabs(x) < 1e15)
            snprintf(number.text, sizeof number.text, "%.0f", x);
        gm_keys_set(arena, out, keys[i].key, "%s",
                    keys[i].text ? keys[i].text : number.text);
    }
}

/* What the state file has beside the step: numbers, and columns [M, K]. */
enum { NUMBERS = 8, COLUMNS = 7, LATER = 5 };
typedef struct { const char *name; double *x; } part;
/* of each step so far, a line a quantity */
enum { E, C, LAMBDA, ENTROPY };
static const char *const found_name[GM_FOUND] = {
    "steps.E", "steps.c", "steps.lambda", "steps.entropy"};

static void parts(gm_fit *fit, part number[NUMBERS], part column[COLUMNS]) {
    const part n[NUMBERS] = {
        {"E0", &fit->E0}, {"lambda", &fit->lambda},
        {"multiplier_sum", &fit->multiplier_sum},
        {"beta1_power", &fit->beta1_power}, {"beta2_power", &fit->beta2_power},
        /* later: what the last step found; any further step finds it anew, so
           that states written before these three were kept still serve */
        {"E", &fit->E}, {"c", &fit->c}, {"entropy", &fit->entropy}};
    const part c[COLUMNS] = {
        {"theta", fit->theta}, {"moment1", fit->moment1},
        {"moment2", fit->moment2}, {"separable", fit->separable},
        {"theta_sum", fit->theta_sum}, {"loss_sum", fit->loss_sum},
        {"loss_squares", fit->loss_squares}};
    memcpy(number, n, sizeof n);
    memcpy(column, c, sizeof c);
}

/* The file's own hash, over all of it with 64 zeros in the hash's place. */
static const char own_hash[] = "# sha256 ";

/* States that older versions wrote have none. */
static void check_own_hash(gm_arena *arena, const char *path) {
    char stated[65] = "", found[65];
    size_t bytes;
    char *text = gm_regular_text(arena, path, &bytes);
    char *at = strstr(text, own_hash);
    if (!at) return;
    at += strlen(own_hash);
    const size_t n = strcspn(at, "\n");
    memcpy(stated, at, n < 64 ? n : 64);
    memset(at, '0', n);
    gm_sha_of(text, bytes, found);
    if (n != 64 || strcmp(stated, found) != 0)
        gm_bad(path, "damaged or edited: expected sha256 %s, found \"%s\"; "
               "without --resume, learning begins anew", found, stated);
}

void gm_fit_save(gm_arena *arena, const gm_fit *fit, const gm_learning *l,
                 const char *path) {
    gm_fit copy = *fit;
    part number[NUMBERS], column[COLUMNS];
    gm_out out;
    gm_keys asked = {0};
    char hash[65];
    parts(&copy, number, column);
    gm_fit_hash(fit, hash);
    gm_out_open(arena, path, &out);
    gm_out_print(&out, "# format gamma-state 1\n# hash %s\n# step %ld\n%s",
                 hash, fit->step, own_hash);
    const int64_t at = out.bytes;
    gm_out_print(&out, "%064d\n", 0);
    for (int i = 0; i < NUMBERS; i++)
        gm_out_print(&out, "# %s %a\n", number[i].name, *number[i].x);
    describe(arena, fit, false, &asked);
    for (const gm_key *k = asked.key; k < asked.key + asked.count; k++)
        gm_out_print(&out, "# asked.%s %s\n", k->name, k->value);
    for (int i = 0; i < GM_FOUND && l && !isnan(l->at[i][0]); i++) {
        gm_out_print(&out, "# %s", found_name[i]);
        for (long step = 0; step < fit->step; step++)
            gm_out_print(&out, " %a", l->at[i][step]);
        gm_out_print(&out, "\n");
    }
    for (int j = 0; j < COLUMNS; j++)
        gm_out_print(&out, "%s%s", j ? "\t" : "", column[j].name);
    for (long i = 0; i < fit->M * fit->K; i++)
        for (int j = 0; j < COLUMNS; j++)
            gm_out_print(&out, "%c%a", j ? '\t' : '\n', column[j].x[i]);
    gm_out_print(&out, "\n");
    if (fflush(out.file) != 0)
        gm_fail(GM_EIO, "%s: cannot write", out.partial);
    gm_file_hash(out.partial, hash);
    gm_out_write_at(&out, at, hash, 64);
    gm_out_commit(&out);
}

/* A number of the state file: finite, and nothing after it. */
static double state_number(const char *path, const char *what,
                           const char *text) {
    char *end;
    double value = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end || !isfinite(value))
        gm_bad(path, "%s: expected a finite number, found \"%s\"", what,
               text ? text : "nothing");
    return value;
}

/* What the steps so far found; states that older versions wrote lack it. */
static void load_found(const gm_table *t, long steps, gm_learning *l) {
    for (int i = 0; i < GM_FOUND; i++) {
        const char *text = gm_table_key(t, found_name[i]);
        const char *at = text;
        long step = 0;
        for (char *end; at && step < steps; step++, at = end) {
            l->at[i][step] = strtod(at, &end);
            if (end == at || !isfinite(l->at[i][step])) break;
        }
        if (text && (step < steps || *at))
            gm_bad(t->path, "%s: expected %ld finite numbers, found \"%s\"",
                   found_name[i], steps, text);
    }
}

/* The first option, else input, in which another run's state differs. */
static void refuse_other(gm_arena *arena, const gm_fit *fit,
                         const gm_table *t) {
    gm_keys asked = {0};
    describe(arena, fit, false, &asked);
    for (int inputs = 0; inputs < 2; inputs++)
        for (const gm_key *k = asked.key; k < asked.key + asked.count; k++) {
            const char *was = gm_table_key(t, gm_format(arena, "asked.%s",
                                                        k->name));
            if (!was || strcmp(was, k->value) == 0 ||
                gm_name_matches("version,model,score", k->name) ||
                gm_name_matches("*_hash,candidates,train_bits", k->name) !=
                    inputs)
                continue;
            const bool option = !gm_name_matches("*_hash,candidates", k->name);
            char *name = gm_format(arena, "%s%s", option ? "--" : "", k->name);
            for (char *at; (at = strchr(name, '_'));)
                *at = option ? '-' : ' ';
            gm_bad(t->path, "belongs to another run: its %s was %s, here it is "
                   "%s; give that again to go on, or leave out --resume "
                   "(compare: take another --out) to begin anew", name, was,
                   k->value);
        }
}

void gm_fit_load(gm_arena *arena, gm_fit *fit, gm_learning *l,
                 const char *path) {
    part number[NUMBERS], column[COLUMNS];
    const long cells = fit->M * fit->K, steps = fit->options.steps;
    gm_table t;
    char own[65];
    gm_table_read(arena, path, &t);
    const char *format = gm_table_key(&t, "format");
    const char *hash = gm_table_key(&t, "hash");
    gm_fit_hash(fit, own);
    if (hash && strcmp(hash, own) != 0) refuse_other(arena, fit, &t);
    if (!format || strcmp(format, "gamma-state 1") != 0 || t.rows != cells ||
        t.columns != COLUMNS)
        gm_bad(path, "expected format gamma-state 1 with %ld rows of %d, found "
               "%s with %ld rows of %ld", cells, COLUMNS,
               format ? format : "no format", t.rows, t.columns);
    if (!hash || strcmp(hash, own) != 0)
        gm_bad(path, "belongs to another run (other model, text, candidates or "
               "options): expected hash %s, found %s", own,
               hash ? hash : "none");
    parts(fit, number, column);
    const double step = state_number(path, "step", gm_table_key(&t, "step"));
    for (int i = 0; i < NUMBERS; i++) {
        const char *text = gm_table_key(&t, number[i].name);
        if (text || i < LATER || !(step < (double)steps))
            *number[i].x = state_number(path, number[i].name, text);
    }
    if (step < 0 || step > (double)steps || step != floor(step))
        gm_bad(path, "step: expected 0 to %ld, found %g", steps, step);
    fit->step = (long)step;
    for (long i = 0; i < cells; i++)
        for (int j = 0; j < COLUMNS; j++)
            column[j].x[i] = state_number(path, t.column[j],
                                          t.cell[i * COLUMNS + j]);
    if (l) load_found(&t, fit->step, l);
    check_own_hash(arena, path);
}

/* ----------------------------------------------------------- learning.tsv */

/* The tokens that have no part in the block's loss, as gm_loss_block says. */
static void mark_weightless(const gm_fit *fit, long l) {
    const gm_sweep *w = fit->sweep;
    const long d = fit->candidates->model->config.d, T = fit->options.T;
    bool *mark = fit->candidates->recipe.weightless;
    gm_states_weigh(fit->candidates->model, l, w->y, w->R, d);
    for (long t = 0; t < w->R && mark; t++)
        if (!gm_weighs(d, w->y + t * d))
            mark[w->picked[t / T] * T + t % T] = true;
}

/* lambda is the one that the step's gradients were charged with: the step
   itself changes it. */
static void look(void *context, const gm_fit *fit, gm_moment moment, long l) {
    gm_learning *to = context;
    if (moment == GM_TEACHER) mark_weightless(fit, l);
    if (moment == GM_BEGIN) to->at[LAMBDA][fit->step] = fit->lambda;
    if (moment != GM_END) return;
    to->at[E][fit->step - 1] = fit->E;
    to->at[C][fit->step - 1] = fit->c;
    to->at[ENTROPY][fit->step - 1] = fit->entropy;
}

void gm_learning_begin(gm_arena *arena, gm_fit *fit, gm_learning *out) {
    const long steps = fit->options.steps;
    for (int i = 0; i < GM_FOUND; i++) {
        out->at[i] = gm_alloc(arena, (size_t)steps, sizeof *out->at[i]);
        for (long step = 0; step < steps; step++) out->at[i][step] = NAN;
    }
    out->watcher = (gm_watcher){look, out};
    fit->watcher = &out->watcher;
}

void gm_learning_write(gm_arena *arena, const gm_fit *fit,
                       const gm_learning *l, const char *path) {
    const gm_fit_options *o = &fit->options;
    gm_out out;
    gm_out_open(arena, path, &out);
    gm_out_print(&out, "# format gamma-learning 1\n"
                 "step\tE\tc\tlambda\tlambda+rho*c\tentropy\tbits\n");
    for (long step = 0; step < fit->step; step++) {
        const double c = l->at[C][step], lambda = l->at[LAMBDA][step];
        const double x[] = {l->at[E][step], c, lambda, lambda + o->rho * c,
                            l->at[ENTROPY][step], c + o->budget};
        gm_out_print(&out, "%ld", step + 1);
        for (size_t i = 0; i < sizeof x / sizeof *x; i++)
            gm_out_print(&out, "\t%s", isnan(x[i]) ? "-"
                         : gm_double_text(x[i]).text);
        gm_out_print(&out, "\n");
    }
    gm_out_commit(&out);
}

/* ------------------------------------------------------------- scores.tsv */

const char *gm_model_name(gm_arena *arena, const gm_model *model) {
    char path[PATH_MAX];
    const char *dir = realpath(model->dir, path) ? path : model->dir;
    char *name = gm_format(arena, "%s", gm_base_name(dir));
    gm_clean(name, "");
    return name;
}

void gm_fit_table(gm_arena *arena, const gm_fit *fit, gm_scores *out) {
    const gm_candidates *c = fit->candidates;
    gm_module_table(arena, c->model, &c->recipe, out);
    gm_fit_scores(fit, out->score, out->error);
    for (long i = 0; i < fit->M * fit->K; i++)
        if (!gm_allowed(c, i / fit->K, (int)(i % fit->K))) out->bytes[i] = -1;
    gm_scores_sort(arena, out);
    describe(arena, fit, true, &out->keys);
}
