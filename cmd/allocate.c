/* allocate.c: from scores and a budget to an assignment with its certificate as
   "# key value" lines (docs/formats.md); the same with resampled scores.
   Touches only what it is handed.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <inttypes.h>
#include <string.h>

/* --------------------------------------------------------------- the keys */

struct writer { gm_arena *arena; gm_keys *keys; };

static void put_text(struct writer *w, const char *key, const char *value) {
    if (value) gm_keys_set(w->arena, w->keys, key, "%s", value);
}

static void put_int(struct writer *w, const char *key, int64_t value) {
    gm_keys_set(w->arena, w->keys, key, "%" PRId64, value);
}

static void put_real(struct writer *w, const char *key, double value) {
    char text[32];
    gm_double_text(value, text);
    put_text(w, key, text);
}

/* What the scores came from, the budget, and the sizes. */
static void put_sizes(struct writer *w, const gm_scores *s,
                      const gm_budget *budget, const gm_mckp *p,
                      const int *choice, const gm_certificate *t) {
    static const char *const kept[] = {
        "model", "model_hash", "calibration_hash", "candidates",
        "candidates_hash", "sizes", "refined_at"};
    const double N = (double)s->N;
    gm_sizes z = gm_sizes_of(s, choice);
    put_text(w, "format", "gamma-alloc 1");
    put_text(w, "version", GM_VERSION);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        put_text(w, kept[i], gm_keys_get(&s->keys, kept[i]));
    put_text(w, "convention", gm_convention_name(budget->convention));
    put_text(w, "budget_asked", budget->text);
    put_int(w, "budget", budget->limit);
    put_text(w, "relation", p->exact ? "=" : "<=");
    put_int(w, "modules", s->M);
    put_int(w, "weights", s->N);
    put_int(w, "overhead_bytes", s->overhead);
    put_int(w, "code_bits", z.code_bits);
    put_int(w, "effective_bits", z.effective_bits);
    put_int(w, "file_bytes", z.file_bytes);
    put_real(w, "average_code_bits", (double)z.code_bits / N);
    put_real(w, "average_effective_bits", (double)z.effective_bits / N);
    put_int(w, "size", t->size);
    put_int(w, "slack", t->slack);
}

static void put_bounds(struct writer *w, const gm_scores *s, const gm_mckp *p,
                       const gm_rounding *r, const int *choice,
                       const gm_certificate *t) {
    double real = 0;
    for (long m = 0; m < s->M; m++) real += s->score[m * s->K + choice[m]];
    put_int(w, "score_shift", r->shift);
    put_int(w, "objective", t->objective);
    put_int(w, "bound", t->bound);
    put_int(w, "gap", t->objective - t->bound);
    put_real(w, "objective_real", real);
    put_real(w, "rounding_error", r->bound);
    put_int(w, "lp_bound", t->lp_bound);
    put_int(w, "multiplier_num", t->lambda_num);
    put_int(w, "multiplier_den", t->lambda_den);
    for (long i = 0; i < p->rows; i++) {
        const gm_row *row = &p->row[i];
        put_int(w, gm_format(w->arena, "places.%s", row->name), row->places);
        put_int(w, gm_format(w->arena, "limit.%s", row->name), row->limit);
        put_int(w, gm_format(w->arena, "multiplier_num.%s", row->name),
                t->mu_num[i]);
    }
    put_text(w, "optimal", t->optimal ? "proven" : "not proven");
    put_text(w, "ties", t->unique_rule ? "smallest size, then fewest bits in "
             "module order: proven" : "any optimum");
    put_text(w, "solvers", t->agreed ? "dynamic program and GLPK agree" :
             t->dp_ran && t->glpk_ran && t->dp_ended ?
             "dynamic program; GLPK did not finish" :
             t->dp_ran && t->glpk_ran ?
             "GLPK; the dynamic program did not finish" :
             t->dp_ran ? "dynamic program" : "GLPK");
    if (t->glpk_ran) put_text(w, "glpk_version", gm_glpk_version());
}

/* "2,3,4" for each module when some may not take all that they have. */
static const char **allowed_texts(gm_arena *arena, const gm_scores *s,
                                  const gm_mckp *p) {
    const char **out = gm_alloc(arena, (size_t)s->M, sizeof *out);
    bool restricted = false;
    for (long i = 0; i < s->M * s->K; i++) {
        const char **text = &out[i / s->K];
        if (!*text) *text = "";
        restricted = restricted || p->allowed[i] != (s->bytes[i] >= 0);
        if (p->allowed[i])
            *text = gm_format(arena, "%s%s%d", *text, **text ? "," : "",
                              s->bits[i % s->K]);
    }
    return restricted ? out : NULL;
}

void gm_allocation_make(gm_arena *arena, const gm_scores *s,
                        const gm_budget *budget, const gm_mckp *problem,
                        const gm_rounding *rounding, const int *choice,
                        const gm_certificate *certificate,
                        gm_allocation *out) {
    struct writer w = {arena, &out->keys};
    *out = (gm_allocation){.path = "allocation", .M = s->M, .name = s->name};
    out->bits = gm_alloc(arena, (size_t)s->M, sizeof *out->bits);
    out->bytes = gm_alloc(arena, (size_t)s->M, sizeof *out->bytes);
    if (problem->group)
        out->fused = gm_alloc(arena, (size_t)s->M, sizeof *out->fused);
    for (long m = 0; m < s->M; m++) {
        out->bits[m] = s->bits[choice[m]];
        out->bytes[m] = s->bytes[m * s->K + choice[m]];
        if (!problem->group) continue;
        out->fused[m] = problem->group[m] < 0
                            ? "-" : gm_format(arena, "%ld", problem->group[m]);
    }
    put_sizes(&w, s, budget, problem, choice, certificate);
    put_bounds(&w, s, problem, rounding, choice, certificate);
    out->allowed = allowed_texts(arena, s, problem);
}

gm_status gm_allocate(gm_arena *arena, const gm_scores *scores,
                      const gm_budget *budget, const gm_solve_options *options,
                      int *choice, gm_certificate *certificate,
                      gm_allocation *out) {
    gm_mckp problem;
    gm_rounding rounding;
    gm_problem_build(arena, scores, budget, 30, &problem, &rounding);
    gm_status status = gm_mckp_solve(arena, &problem, options, choice,
                                     certificate);
    if (status == GM_EINFEASIBLE)
        gm_explain_infeasible(scores, budget, certificate);
    if (status && !(status == GM_ELIMIT && certificate->found))
        gm_fail(status, "%s", certificate->why);
    gm_allocation_make(arena, scores, budget, &problem, &rounding, choice,
                       certificate, out);
    return status;
}

/* ------------------------------------------------------------------ robust

   u'_mk = u_mk + e_mk z, z standard normal, independent. */

static void resample(const gm_scores *s, uint64_t seed, long r, double *score) {
    for (long i = 0; i < s->M * s->K; i++) {
        if (s->bytes[i] < 0) continue;
        if (s->error[i] < 0)
            gm_fail(GM_EINPUT, "%s: module %s: no standard error at %d bits; "
                    "--robust needs them all", s->path, s->name[i / s->K],
                    s->bits[i % s->K]);
        score[i] = s->score[i] + s->error[i] *
                   gm_normal(seed, (uint64_t)r, 2 * (uint64_t)i);
    }
}

void gm_robust_find(gm_arena *arena, const gm_scores *scores,
                    const gm_budget *budget, const gm_mckp *problem,
                    int score_bits, const gm_solve_options *options,
                    const int *choice, long resamples, uint64_t seed,
                    gm_robust *out) {
    gm_scores s = *scores;
    const size_t cells = (size_t)(s.M * s.K);
    int *x = gm_alloc(arena, (size_t)s.M, sizeof *x);
    *out = (gm_robust){.resamples = resamples};
    out->share = gm_alloc(arena, cells, sizeof *out->share);
    out->changed = gm_alloc(arena, (size_t)s.M, sizeof *out->changed);
    s.score = gm_alloc(arena, cells, sizeof *s.score);
    for (long r = 0; r < resamples; r++) {
        gm_mckp drawn, p = *problem;    /* all couplings, scores are new */
        gm_rounding rounding;
        gm_certificate t;
        gm_mark mark = gm_arena_mark(arena);
        resample(scores, seed, r, s.score);
        gm_problem_build(arena, &s, budget, score_bits, &drawn, &rounding);
        p.score = drawn.score;
        gm_status status = gm_mckp_solve(arena, &p, options, x, &t);
        if (status) gm_fail(status, "%s", t.why);
        double regret = 0;
        for (long m = 0; m < s.M; m++) {
            const double *u = s.score + m * s.K;
            out->share[m * s.K + x[m]] += 1;
            out->changed[m] += x[m] != choice[m];
            regret += u[choice[m]] - u[x[m]];
        }
        out->regret += regret;
        gm_arena_rewind(arena, mark);
        gm_say(options->report, "resamples", r + 1, resamples);
    }
    for (size_t i = 0; i < cells; i++) out->share[i] /= (double)resamples;
    for (long m = 0; m < s.M; m++) out->changed[m] /= (double)resamples;
    out->regret /= (double)resamples;
}
