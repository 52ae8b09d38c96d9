/* state.c: Stage I as files: its state, so that a killed run goes on to the
   bit-identical result, with the hash that ties it to one run; and what it
   learned, scores.tsv.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Everything that determines the result, in one line. */
void gm_fit_hash(const gm_fit *fit, char hash[65]) {
    const gm_fit_options *o = &fit->options;
    char calibration[65], line[1024];
    gm_sha sha;
    gm_sha_tokens(fit->tokens, o->S, o->T, calibration);
    int n = snprintf(line, sizeof line,
                     "gamma-fit 2 %s %s relaxation=%d S=%ld T=%ld "
                     "batch=%ld steps=%ld alpha=%a rho=%a eta=%a tau=%a "
                     "rate=%a tail=%a budget=%a seed=%llu",
                     fit->candidates->hash, calibration, (int)o->relaxation,
                     o->S, o->T, o->batch, o->steps, o->alpha, o->rho, o->eta,
                     o->tau, o->rate, o->tail, o->budget,
                     (unsigned long long)o->seed);
    gm_sha_begin(&sha);
    gm_sha_add(&sha, line, (size_t)n);
    /* what came later is added where it is not the default, so that older
       states still match */
    if (o->norm != GM_NORM_TOKEN || (o->first_weight != 0 &&
                                     o->first_weight != 1)) {
        n = snprintf(line, sizeof line, " norm=%d first=%a", (int)o->norm,
                     o->first_weight);
        gm_sha_add(&sha, line, (size_t)n);
    }
    if (o->tau_last != 0 && o->tau_last != o->tau) {
        n = snprintf(line, sizeof line, " tau_last=%a", o->tau_last);
        gm_sha_add(&sha, line, (size_t)n);
    }
    if (fit->candidates->allowed)
        gm_sha_add(&sha, fit->candidates->allowed,
                   (size_t)(fit->M * fit->K) * sizeof(bool));
    gm_sha_end(&sha, hash);
}

/* Columns of the state file, in order. */
enum { STATE_COLUMNS = 7 };
static const char state_head[] =
    "theta\tmoment1\tmoment2\tseparable\ttheta_sum\tloss_sum\tloss_squares\n";

void gm_fit_save(gm_arena *arena, const gm_fit *fit, const char *path) {
    gm_out out;
    char hash[65];
    gm_fit_hash(fit, hash);
    gm_out_open(arena, path, &out);
    gm_out_print(&out, "# format gamma-state 1\n# hash %s\n# step %ld\n"
                 "# E0 %a\n# lambda %a\n# multiplier_sum %a\n# beta1_power %a\n"
                 "# beta2_power %a\n# E %a\n# c %a\n# entropy %a\n%s",
                 hash, fit->step, fit->E0, fit->lambda,
                 fit->multiplier_sum, fit->beta1_power, fit->beta2_power,
                 fit->E, fit->c, fit->entropy, state_head);
    for (long i = 0; i < fit->M * fit->K; i++)
        gm_out_print(&out, "%a\t%a\t%a\t%a\t%a\t%a\t%a\n",
                     fit->theta[i], fit->moment1[i], fit->moment2[i],
                     fit->separable[i], fit->theta_sum[i], fit->loss_sum[i],
                     fit->loss_squares[i]);
    gm_out_commit(&out);
}

/* A number of the state file: finite, and nothing after it. */
static void state_number(const char *path, const char *what,
                         const char *text, double *out) {
    char *end;
    double value = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end || !isfinite(value))
        gm_fail(GM_EINPUT, "%s: %s: expected a finite number, found \"%s\"",
                path, what, text ? text : "nothing");
    *out = value;
}

static void load_keys(gm_fit *fit, const gm_table *t) {
    const char *format = gm_table_key(t, "format");
    const char *hash = gm_table_key(t, "hash");
    char own[65];
    gm_fit_hash(fit, own);
    if (!format || strcmp(format, "gamma-state 1") != 0 ||
        t->rows != fit->M * fit->K || t->columns != STATE_COLUMNS)
        gm_fail(GM_EINPUT, "%s: expected format gamma-state 1 with %ld rows of "
                "%d, found %s with %ld rows of %ld", t->path, fit->M * fit->K,
                STATE_COLUMNS, format ? format : "no format", t->rows,
                t->columns);
    if (!hash || strcmp(hash, own) != 0)
        gm_fail(GM_EINPUT, "%s: belongs to another run (other model, text, "
                "candidates or options): expected hash %s, found %s", t->path,
                own, hash ? hash : "none");
    double step = 0;
    struct { const char *key; double *value; } number[] = {
        {"step", &step}, {"E0", &fit->E0}, {"lambda", &fit->lambda},
        {"multiplier_sum", &fit->multiplier_sum},
        {"beta1_power", &fit->beta1_power},
        {"beta2_power", &fit->beta2_power},
        {"E", &fit->E}, {"c", &fit->c}, {"entropy", &fit->entropy}};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        /* what the last step found: any further step finds it anew, so that
           states written before these three were kept still serve */
        if (i > 5 && step < (double)fit->options.steps &&
            !gm_table_key(t, number[i].key))
            continue;
        state_number(t->path, number[i].key, gm_table_key(t, number[i].key),
                     number[i].value);
    }
    if (step < 0 || step > (double)fit->options.steps || step != floor(step))
        gm_fail(GM_EINPUT, "%s: step: expected 0 to %ld, found %g", t->path,
                fit->options.steps, step);
    fit->step = (long)step;
}

void gm_fit_load(gm_arena *arena, gm_fit *fit, const char *path) {
    gm_table t;
    gm_table_read(arena, path, &t);
    load_keys(fit, &t);
    double *array[STATE_COLUMNS] = {fit->theta, fit->moment1, fit->moment2,
                                    fit->separable, fit->theta_sum,
                                    fit->loss_sum, fit->loss_squares};
    for (long i = 0; i < fit->M * fit->K; i++)
        for (int a = 0; a < STATE_COLUMNS; a++)
            state_number(path, t.column[a], t.cell[i * STATE_COLUMNS + a],
                         array[a] + i);
}

/* ------------------------------------------------------------- scores.tsv */

void gm_fit_table(gm_arena *arena, const gm_fit *fit, gm_scores *out) {
    const gm_fit_options *o = &fit->options;
    const gm_recipe *recipe = &fit->candidates->recipe;
    const gm_model *model = fit->candidates->model;
    gm_module_table(arena, model, recipe, out);
    gm_fit_scores(fit, out->score, out->error);
    for (long i = 0; i < fit->M * fit->K; i++)
        if (!gm_allowed(fit->candidates, i / fit->K, (int)(i % fit->K)))
            out->bytes[i] = -1;
    char bits[128], calibration[65];
    gm_sha_tokens(fit->tokens, o->S, o->T, calibration);
    gm_recipe_text(recipe, bits);
    const struct { const char *key, *text; double number; } keys[] = {
        {"version", GM_VERSION, 0}, {"model", gm_base_name(model->dir), 0},
        {"model_hash", model->hash, 0}, {"calibration_hash", calibration, 0},
        {"candidates", bits, 0}, {"candidates_hash", fit->candidates->hash, 0},
        {"relaxation", gm_relaxation_name(o->relaxation), 0},
        {"norm", gm_loss_norm_name(o->norm), 0},
        {"score", gm_score_name(o->score), 0},
        {"sequences", NULL, (double)o->S}, {"length", NULL, (double)o->T},
        {"batch", NULL, (double)o->batch}, {"steps", NULL, (double)o->steps},
        {"seed", NULL, (double)o->seed}, {"alpha", NULL, o->alpha},
        {"rho", NULL, o->rho}, {"eta", NULL, o->eta}, {"tau", NULL, o->tau},
        {"tau_last", NULL, o->tau_last},
        {"first_weight", NULL, o->first_weight},
        {"rate", NULL, o->rate}, {"tail", NULL, o->tail},
        {"train_bits", NULL, o->budget}, {"E0", NULL, fit->E0},
        {"E", NULL, fit->E}, {"c", NULL, fit->c},
        {"lambda", NULL, fit->lambda}, {"entropy", NULL, fit->entropy}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char number[32];
        double x = keys[i].number;
        if (x == floor(x) && fabs(x) < 1e15)
            snprintf(number, sizeof number, "%.0f", x);
        else
            gm_double_text(x, number);
        gm_keys_set(arena, &out->keys, keys[i].key, "%s",
                    keys[i].text ? keys[i].text : number);
    }
}
