/* relax.c: what Stage I mixes and how it measures a block: the relaxations (p
   from theta, and the gradient back) and the norms of the reconstruction error.
   Arithmetic only; gamma.c says what is done with it.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <math.h>

/* ------------------------------------------------------------- relaxations */

static const char *const relaxation_name[] = {"soft", "soft-corrected",
                                              "gumbel", "hard"};
static const char *const norm_name[] = {"token", "robust", "plain", "energy",
                                        "update"};
static const char *const score_name[] = {"theta", "loss", "scaled"};

const char *gm_relaxation_name(gm_relaxation relaxation) {
    return relaxation_name[relaxation];
}

const char *gm_loss_norm_name(gm_loss_norm norm) { return norm_name[norm]; }

const char *gm_score_name(gm_score score) { return score_name[score]; }

bool gm_sampled(gm_relaxation relaxation) {
    return relaxation == GM_GUMBEL || relaxation == GM_HARD;
}

/* tau_s = tau (tau_last / tau)^(s / (steps - 1)), s = 0 .. steps-1. */
double gm_temperature(double tau, double last, long step, long steps) {
    if (last == tau || steps < 2) return tau;
    double done = (double)step / (double)(steps - 1);
    return tau * gm_expd(done * gm_logd(last / tau));
}

/* Standard Gumbel noise, -ln(-ln u), u uniform in (0, 1).  Its streams count
   down from the last: those of the sequences' permutations count up from 0. */
double gm_gumbel(uint64_t seed, long step, long i) {
    double u = gm_uniform(seed, UINT64_MAX - (uint64_t)step, (uint64_t)i);
    u = (1 - 0x1p-52) * u + 0x1p-54;            /* [0, 1) into (0, 1) */
    return -gm_logd(-gm_logd(u));
}

void gm_softmax(int K, const bool *allowed, const double *x, double tau,
                double *p) {
    double most = -HUGE_VAL, sum = 0;
    for (int k = 0; k < K; k++)
        if ((!allowed || allowed[k]) && x[k] > most) most = x[k];
    for (int k = 0; k < K; k++)
        sum += p[k] = !allowed || allowed[k] ? gm_expd((x[k] - most) / tau) : 0;
    for (int k = 0; k < K; k++) p[k] /= sum;
}

/* dJ/dx_k = p_k (v_k - sum_j p_j v_j) / tau for p = softmax(x / tau) and
   v = dJ/dp. */
void gm_softmax_backward(int K, const double *p, const double *v, double tau,
                         double *d) {
    double mean = 0;
    for (int k = 0; k < K; k++) mean += p[k] * v[k];
    for (int k = 0; k < K; k++) d[k] += p[k] * (v[k] - mean) / tau;
}

void gm_one_hot(int K, const bool *allowed, const double *x, double *p) {
    int best = -1;
    for (int k = 0; k < K; k++) {
        p[k] = 0;
        if ((!allowed || allowed[k]) && (best < 0 || x[k] > x[best])) best = k;
    }
    p[best] = 1;
}

/* ------------------------------------------------------------------- norms */

/* Relative error beyond which `robust` counts a token's error less and less. */
#define ROBUST 0.1

typedef struct { const gm_loss *x; double mean; } loss_job;

static const gm_real *row(const gm_loss *x, const gm_real *a, long t) {
    return a + t * x->d;
}

/* ||y_t||^2, or of the block's update ||y_t - h_t||^2, into error[t]. */
static void scale_row(void *context, long t) {
    const gm_loss *x = ((loss_job *)context)->x;
    const gm_real *y = row(x, x->y, t), *h = row(x, x->h, t);
    gm_real *e = x->d_student + t * x->d;
    if (x->norm == GM_NORM_UPDATE)
        for (long i = 0; i < x->d; i++) e[i] = y[i] - h[i];
    const gm_real *of = x->norm == GM_NORM_UPDATE ? e : y;
    x->error[t] = gm_dot(x->d, of, of);
}

static double mean_row(const gm_loss *x) {
    double sum = 0;
    for (long t = 0; t < x->R; t++) sum += x->error[t];
    return sum / (double)x->R;
}

/* With e = y~_t - y_t and D the norm's divisor:
     x = ||e||^2 / D,   E_t = w_t f(x),   dE/dy~_t = (2/R) w_t f'(x) e / D
   f(x) = x; robust: f(x) = s ln(1 + x/s), f'(x) = 1 / (1 + x/s). */
static void loss_row(void *context, long t) {
    const loss_job *job = context;
    const gm_loss *x = job->x;
    const gm_real *y = row(x, x->y, t), *student = row(x, x->student, t);
    gm_real *e = x->d_student + t * x->d;
    for (long i = 0; i < x->d; i++) e[i] = student[i] - y[i];
    bool own = x->norm == GM_NORM_TOKEN || x->norm == GM_NORM_ROBUST;
    double D = own ? gm_dot(x->d, y, y) : job->mean;
    double weight = t % x->T == 0 ? x->first_weight : 1;
    double relative = gm_dot(x->d, e, e) / D, slope = 1;
    if (x->norm == GM_NORM_ROBUST) {
        slope = 1 / (1 + relative / ROBUST);
        relative = ROBUST * gm_logd(1 + relative / ROBUST);
    }
    x->error[t] = weight * relative;
    gm_real scale = (gm_real)(2 * weight * slope / (D * (double)x->R));
    for (long i = 0; i < x->d; i++) e[i] *= scale;
}

double gm_loss_block(const gm_loss *x) {
    loss_job job = {x, 1};
    if (x->norm == GM_NORM_ENERGY || x->norm == GM_NORM_UPDATE) {
        gm_parallel(x->R, scale_row, &job);
        job.mean = mean_row(x);
    }
    gm_parallel(x->R, loss_row, &job);
    return mean_row(x);
}
