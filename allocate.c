/* allocate.c: from scores and a budget to an assignment: rounds the scores,
   builds the integer program in the budget's convention, solves it, and puts
   the certificate beside the answer.  Pure computation on its arguments.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Scores as integers: u -> round(u 2^shift).  A power of two keeps the product
   exact, so each score moves by at most 1/2, an assignment's sum by M/2, and
   the order of two assignments can only be wrong when their real scores differ
   by at most M 2^-shift.  |u| 2^shift is kept below 2^44 so that sums over
   many modules stay far from 2^61. */
static gm_rounding choose_rounding(const gm_scores *s, int score_bits) {
    gm_rounding r = {0};
    double most = 0;
    for (long m = 0; m < s->M; m++) {
        double low = INFINITY, high = -INFINITY;
        for (long i = m * s->K; i < (m + 1) * s->K; i++) {
            if (s->bytes[i] < 0) continue;
            low = fmin(low, s->score[i]), high = fmax(high, s->score[i]);
            most = fmax(most, fabs(s->score[i]));
        }
        r.range = fmax(r.range, high - low);
    }
    if (!(most > 0)) return r;
    int exponent;               /* x = f 2^exponent, 1/2 <= f < 1 */
    frexp(most, &exponent);
    r.shift = 44 - exponent;
    if (r.range > 0) {
        double f = frexp(r.range, &exponent);
        int shift = score_bits - exponent + (f == 0.5);
        if (shift < r.shift) r.shift = shift;
    }
    r.bound = ldexp((double)s->M, -r.shift);
    return r;
}

/* Size of candidate k of module m in the budget's unit. */
static int64_t size_in(const gm_scores *s, gm_convention convention, long m,
                       int k) {
    int64_t bytes = s->bytes[m * s->K + k];
    if (convention == GM_BITS) return s->weights[m] * s->bits[k];
    return convention == GM_EBITS ? 8 * bytes : bytes;
}

void gm_problem_build(gm_arena *arena, const gm_scores *scores,
                           const gm_budget *budget, int score_bits,
                           gm_mckp *out, gm_rounding *rounding) {
    const gm_scores *s = scores;
    gm_mckp_new(arena, s->M, s->K, out);
    *rounding = choose_rounding(s, score_bits);
    if (!isfinite(rounding->range))
        gm_fail(GM_EINPUT, "%s: scores span more than the largest "
                       "double", s->path);
    out->name = s->name;
    out->unit = budget->convention == GM_BYTES ? "bytes" : "bits";
    out->budget = budget->limit;
    if (budget->convention == GM_BYTES) out->budget -= s->overhead;
    for (long m = 0; m < s->M; m++)
        for (int k = 0; k < s->K; k++) {
            long i = m * s->K + k;
            out->allowed[i] = s->bytes[i] >= 0;
            if (!out->allowed[i]) continue;
            out->size[i] = size_in(s, budget->convention, m, k);
            out->score[i] = llrint(ldexp(s->score[i], rounding->shift));
        }
}

/* ------------------------------------------------------------ the file */

struct writer { gm_arena *arena; gm_keys *keys; };

static void set_int(struct writer *w, const char *key, int64_t value) {
    gm_keys_set(w->arena, w->keys, key, "%" PRId64, value);
}

static void set_real(struct writer *w, const char *key, double value) {
    char text[32];
    gm_double_text(value, text);
    gm_keys_set(w->arena, w->keys, key, "%s", text);
}

static void set_text(struct writer *w, const char *key, const char *value) {
    if (value)
        gm_keys_set(w->arena, w->keys, key, "%s", value);
}

/* What the scores came from, carried along. */
static void put_origin(struct writer *w, const gm_scores *s) {
    static const char *const kept[] = {"model", "model_hash",
                                       "calibration_hash", "candidates",
                                       "candidates_hash", "sizes",
                                       "refined_at"};
    set_text(w, "format", "gamma-alloc 1");
    set_text(w, "version", GM_VERSION);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        set_text(w, kept[i], gm_keys_get(&s->keys, kept[i]));
}

static void put_sizes(struct writer *w, const gm_scores *s,
                      const gm_budget *budget, const gm_mckp *p,
                      const int *choice, const gm_certificate *t) {
    gm_sizes z = gm_sizes_of(s, choice);
    set_text(w, "convention", gm_convention_name(budget->convention));
    set_text(w, "budget_asked", budget->text);
    set_int(w, "budget", budget->limit);
    set_text(w, "relation", p->exact ? "=" : "<=");
    set_int(w, "modules", s->M);
    set_int(w, "weights", s->N);
    set_int(w, "overhead_bytes", s->overhead);
    set_int(w, "code_bits", z.code_bits);
    set_int(w, "effective_bits", z.effective_bits);
    set_int(w, "file_bytes", z.file_bytes);
    set_real(w, "average_code_bits", (double)z.code_bits / (double)s->N);
    set_real(w, "average_effective_bits",
             (double)z.effective_bits / (double)s->N);
    set_int(w, "size", t->size);
    set_int(w, "slack", t->slack);
}

/* "forbid NAME=4+NAME=2,..." as --forbid takes it. */
static void put_pairs(struct writer *w, const gm_scores *s, const gm_mckp *p) {
    const char *text = p->pairs ? "" : NULL;
    for (long i = 0; i < p->pairs && text; i++) {
        const gm_pair *pair = &p->pair[i];
        text = gm_format(w->arena, "%s%s%s=%d+%s=%d", text, i ? "," : "",
                         s->name[pair->m], s->bits[pair->j], s->name[pair->n],
                         s->bits[pair->k]);
    }
    set_text(w, "forbid", text);
}

static void put_bounds(struct writer *w, const gm_scores *s, const gm_mckp *p,
                       const gm_rounding *r, const int *choice,
                       const gm_certificate *t) {
    double real = 0;
    char key[128];
    for (long m = 0; m < s->M; m++) real += s->score[m * s->K + choice[m]];
    set_int(w, "score_shift", r->shift);
    set_int(w, "objective", t->objective);
    set_int(w, "bound", t->bound);
    set_int(w, "gap", t->objective - t->bound);
    set_real(w, "objective_real", real);
    set_real(w, "rounding_error", r->bound);
    set_int(w, "lp_bound", t->lp_bound);
    set_int(w, "multiplier_num", t->lambda_num);
    set_int(w, "multiplier_den", t->lambda_den);
    for (long i = 0; i < p->rows; i++) {
        snprintf(key, sizeof key, "places.%s", p->row[i].name);
        set_int(w, key, p->row[i].places);
        snprintf(key, sizeof key, "limit.%s", p->row[i].name);
        set_int(w, key, p->row[i].limit);
        snprintf(key, sizeof key, "multiplier_num.%s", p->row[i].name);
        set_int(w, key, t->mu_num[i]);
    }
    put_pairs(w, s, p);
    set_text(w, "optimal", t->optimal ? "proven" : "not proven");
    set_text(w, "ties", t->unique_rule ? "smallest size, then fewest bits in "
             "module order: proven" : "any optimum");
    set_text(w, "solvers", t->agreed ? "dynamic program and GLPK agree" :
             t->dp_ran && t->glpk_ran && t->dp_ended ?
             "dynamic program; GLPK did not finish" :
             t->dp_ran && t->glpk_ran ?
             "GLPK; the dynamic program did not finish" :
             t->dp_ran ? "dynamic program" : "GLPK");
    if (t->glpk_ran) set_text(w, "glpk_version", gm_glpk_version());
}

/* "2,3,4" for each module when some may not take all that they have. */
static void put_allowed(gm_arena *arena, const gm_scores *s,
                             const gm_mckp *p, gm_allocation *out) {
    bool restricted = false;
    for (long i = 0; i < s->M * s->K; i++)
        restricted = restricted || p->allowed[i] != (s->bytes[i] >= 0);
    if (!restricted) return;
    out->allowed = gm_alloc(arena, (size_t)s->M, sizeof *out->allowed);
    for (long m = 0; m < s->M; m++) {
        char text[4 * GM_MAX_CANDIDATES] = "";
        for (int k = 0; k < s->K; k++) {
            size_t used = strlen(text);
            if (p->allowed[m * s->K + k])
                snprintf(text + used, sizeof text - used, "%s%d",
                         used ? "," : "", s->bits[k]);
        }
        out->allowed[m] = gm_format(arena, "%s", text);
    }
}

static void put_fused(gm_arena *arena, const gm_mckp *p,
                           gm_allocation *out) {
    if (!p->group) return;
    out->fused = gm_alloc(arena, (size_t)p->M, sizeof *out->fused);
    for (long m = 0; m < p->M; m++) {
        out->fused[m] = p->group[m] < 0 ? "-"
                                        : gm_format(arena, "%ld", p->group[m]);
    }
}

void gm_allocation_make(gm_arena *arena, const gm_scores *scores,
                             const gm_budget *budget, const gm_mckp *problem,
                             const gm_rounding *rounding, const int *choice,
                             const gm_certificate *certificate,
                             gm_allocation *out) {
    const gm_scores *s = scores;
    *out = (gm_allocation){.path = "allocation", .M = s->M, .name = s->name};
    out->bits = gm_alloc(arena, (size_t)s->M, sizeof *out->bits);
    out->bytes = gm_alloc(arena, (size_t)s->M, sizeof *out->bytes);
    for (long m = 0; m < s->M; m++) {
        out->bits[m] = s->bits[choice[m]];
        out->bytes[m] = s->bytes[m * s->K + choice[m]];
    }
    struct writer w = {arena, &out->keys};
    put_origin(&w, s);
    put_sizes(&w, s, budget, problem, choice, certificate);
    put_bounds(&w, s, problem, rounding, choice, certificate);
    put_allowed(arena, s, problem, out);
    put_fused(arena, problem, out);
}

/* A size of the problem as the reader counts: bits per weight or file bytes. */
static void size_text(const gm_scores *s, const gm_budget *budget, int64_t size,
                      char text[48]) {
    if (size < 0)
        snprintf(text, 48, "none");
    else if (budget->convention == GM_BYTES)
        snprintf(text, 48, "%" PRId64, size + s->overhead);
    else
        snprintf(text, 48, "%.9g", (double)size / (double)s->N);
}

void gm_explain_infeasible(const gm_scores *scores,
                                const gm_budget *budget,
                                const gm_certificate *t) {
    bool bytes = budget->convention == GM_BYTES;
    int64_t limit = budget->limit - (bytes ? scores->overhead : 0);
    char least[48], most[48], below[48], above[48];
    size_text(scores, budget, t->smallest, least);
    size_text(scores, budget, t->largest, most);
    size_text(scores, budget, t->below, below);
    size_text(scores, budget, t->above, above);
    if (t->largest == 0 || (t->below < 0 && t->above < 0))
        gm_fail(GM_EINFEASIBLE, "%s", t->why);
    gm_fail(GM_EINFEASIBLE, "--%s %s: no assignment %s; reachable "
                   "are %s to %s %s, %s below: %s, above: %s",
                   gm_convention_name(budget->convention), budget->text,
                   limit < t->smallest ? "is that small" :
                   limit > t->largest ? "is that large" : "meets it exactly",
                   least, most, bytes ? "file bytes" : "bits per weight",
                   t->neighbours_proven ? "next" : "nearest found", below,
                   above);
}

gm_status gm_allocate(gm_arena *arena, const gm_scores *scores,
                      const gm_budget *budget,
                      const gm_solve_options *options, int *choice,
                      gm_certificate *certificate, gm_allocation *out) {
    gm_mckp problem;
    gm_rounding rounding;
    *certificate = (gm_certificate){0};
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
