/* rco.c: RCO, "Budget Constraints as Riemannian Manifolds" (arXiv 2605.00649),
   from its equations.  Logits a [M, K], p_m = softmax(a_m), costs c_mk = s_mk /
   n_m, shares w_m = n_m / N:

     C(a) = sum_m w_m sum_k p_mk c_mk = B / N              the manifold    (1)
     n_mk = w_m p_mk (c_mk - sum_j p_mj c_mj)              its normal      (2)

   A step, for tau falling from 1 to 0.01:
     z = (a + g) / tau, g Gumbel noise;  x = the best assignment of z within
       the budget, by the exact solver                                     (3)
     d_mk = <dKL/dW_m, Q_mk> at the model of x; straight through softmax(z) = q:
       G_mk = q_mk (d_mk - sum_j q_mj d_mj) / tau                          (4)
     G <- G - (<G, n> / <n, n>) n;  Adam's step with G;                    (5)
     a <- a + t c with C(a) = B / N, by bisection: C rises with t          (6)
     Adam's first moment loses its part along the new n                    (7)
   It begins with a_mk = -ln(D_mk + 1e-8), D the mean square of Q_mk - Q_mK, and
   ends with the best assignment of ln p.  Rate 0.1, up to four sequences a step
   as its public code does; the steps that the evaluations allow, 300 there.
   [ours] the exact solver where it has a dynamic program over rounded sizes;
   what the answer leaves of the budget is filled by steps of largest ln p.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "rivals.h"

#include <math.h>
#include <string.h>

typedef struct {
    const gm_mckp *p;
    long n;                         /* M K                                    */
    double *a, *prob, *cost, *share;    /* [M, K]; share: [M]                 */
    double *normal, *grad, *first, *second;     /* [M, K]; Adam's moments     */
    gm_mckp best;                   /* p with scores of its own               */
} rco;

/* out = softmax(x / tau) of each module, over what it may take. */
static void softmax(const rco *o, const double *x, double tau, double *out) {
    for (long i = 0; i < o->n; i += o->p->K)
        gm_softmax(o->p->K, o->p->allowed + i, x + i, tau, out + i);
}

/* (1) and, into normal, (2). */
static double average(rco *o) {
    const long K = o->p->K;
    double sum = 0;
    softmax(o, o->a, 1, o->prob);
    for (long m = 0; m < o->p->M; m++) {
        double mean = 0;
        for (long i = m * K; i < (m + 1) * K; i++)
            mean += o->prob[i] * o->cost[i];
        for (long i = m * K; i < (m + 1) * K; i++)
            o->normal[i] = o->share[m] * o->prob[i] * (o->cost[i] - mean);
        sum += o->share[m] * mean;
    }
    return sum;
}

static void project(const rco *o, double *x) {
    double along = 0, square = 1e-12;
    for (long i = 0; i < o->n; i++) {
        along += x[i] * o->normal[i];
        square += o->normal[i] * o->normal[i];
    }
    for (long i = 0; i < o->n; i++) x[i] -= along / square * o->normal[i];
}

static double shifted(rco *o, double t) {
    for (long i = 0; i < o->n; i++) o->a[i] += t * o->cost[i];
    const double at = average(o);
    for (long i = 0; i < o->n; i++) o->a[i] -= t * o->cost[i];
    return at;
}

/* (6) */
static void retract(rco *o, double target) {
    double low = -1, high = 1;
    for (int i = 0; i < 40 && shifted(o, low) > target; i++) low *= 2;
    for (int i = 0; i < 40 && shifted(o, high) < target; i++) high *= 2;
    for (int i = 0; i < 60; i++) {
        const double t = (low + high) / 2;
        *(shifted(o, t) > target ? &high : &low) = t;
    }
    for (long i = 0; i < o->n; i++) o->a[i] += low * o->cost[i];
    average(o);
}

/* (3): the most of sum_m z_m,x(m). */
static void assign(gm_arena *arena, rco *o, const double *z, int *choice) {
    const gm_solve_options options = {.solver = GM_DP, .any = true};
    gm_certificate t;
    double most = 1;
    for (long i = 0; i < o->n; i++)
        if (o->p->allowed[i]) most = fmax(most, fabs(z[i]));
    for (long i = 0; i < o->n; i++)
        o->best.score[i] = o->p->allowed[i] ? llrint(-z[i] / most * 0x1p30) : 0;
    gm_status s = gm_mckp_solve(arena, &o->best, &options, choice, &t);
    if (s) gm_fail(s, "%s", t.why);
}

/* (4), from d into grad. */
static void straight_through(rco *o, const double *q, const double *d,
                             double tau) {
    const long K = o->p->K;
    for (long m = 0; m < o->p->M; m++) {
        double mean = 0;
        for (long i = m * K; i < (m + 1) * K; i++) mean += q[i] * d[i];
        for (long i = m * K; i < (m + 1) * K; i++)
            o->grad[i] = q[i] * (d[i] - mean) / tau;
    }
}

/* Adam's step number i from 1, rates 0.9 and 0.999. */
static void adam(rco *o, long i) {
    const double one = 1 - gm_expd((double)i * gm_logd(0.9));
    const double two = 1 - gm_expd((double)i * gm_logd(0.999));
    for (long j = 0; j < o->n; j++) {
        const double g = o->grad[j];
        o->first[j] = 0.9 * o->first[j] + 0.1 * g;
        o->second[j] = 0.999 * o->second[j] + 0.001 * g * g;
        o->a[j] -= 0.1 * (o->first[j] / one) /
                   (sqrt(o->second[j] / two) + 1e-8);
    }
}

static void fill(const rco *o, int *choice) {
    const gm_mckp *p = o->p;
    for (int64_t room = p->budget - gm_size_of(p, choice);;) {
        long m = -1, to = -1;
        double gain = -INFINITY;
        for (long i = 0; i < o->n; i++) {
            const long own = i / p->K * p->K + choice[i / p->K];
            const int64_t more = p->size[i] - p->size[own];
            if (p->allowed[i] && more > 0 && more <= room &&
                o->a[i] - o->a[own] > gain)
                gain = o->a[i] - o->a[own], m = i / p->K, to = i % p->K;
        }
        if (m < 0) return;
        room -= gm_take(p, choice, m, (int)to);
    }
}

static void rco_begin(gm_arena *arena, const gm_search *s, rco *o) {
    const gm_mckp *p = o->p = s->problem;
    double **of[] = {&o->a, &o->prob, &o->cost, &o->normal, &o->grad,
                     &o->first, &o->second, &o->share};
    o->n = p->M * p->K;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        *of[i] = gm_alloc(arena, (size_t)o->n, sizeof **of[i]);
    o->best = *p;
    o->best.scores = NULL;          /* or the solver would round those finer */
    o->best.score = gm_alloc(arena, (size_t)o->n, sizeof *o->best.score);
    gm_objective_weights(s->objective, o->a);
    for (long i = 0; i < o->n; i++) {
        const int64_t weights = p->scores->weights[i / p->K];
        o->a[i] = -gm_logd(o->a[i] + 1e-8);
        o->cost[i] = (double)p->size[i] / (double)weights;
        o->share[i / p->K] = (double)weights / (double)p->scores->N;
    }
}

void gm_rco(gm_arena *arena, const gm_search *s, int *choice) {
    rco o = {0};
    rco_begin(arena, s, &o);
    const double target = (double)o.p->budget / (double)o.p->scores->N;
    double *z = gm_alloc(arena, (size_t)o.n, sizeof *z);
    double *q = gm_alloc(arena, (size_t)o.n, sizeof *q);
    const long S = gm_objective_sequences(s->objective);
    const long batch = gm_min(4, S);
    const long steps = (long)(s->evaluations * (double)S / (double)(4 * batch));
    retract(&o, target);
    for (long i = 0; i < steps; i++) {
        const double tau = gm_expd(gm_logd(0.01) * (double)i /
                                   fmax(1, (double)(steps - 1)));
        for (long j = 0; j < o.n; j++) {
            const double u = gm_uniform(s->seed, (uint64_t)i, (uint64_t)j);
            z[j] = o.a[j] - gm_logd(1e-20 - gm_logd(fmax(1e-20, u)));
        }
        softmax(&o, z, tau, q);
        assign(arena, &o, z, choice);
        gm_objective_slope(s->objective, choice, i * batch, batch, o.grad);
        memcpy(z, o.grad, (size_t)o.n * sizeof *z);
        straight_through(&o, q, z, tau);
        average(&o);
        project(&o, o.grad);
        adam(&o, i + 1);
        retract(&o, target);
        project(&o, o.first);
        gm_say(s->report, "rco", i + 1, steps);
    }
    for (long i = 0; i < o.n; i++) z[i] = gm_logd(fmax(o.prob[i], 1e-10));
    assign(arena, &o, z, choice);
    fill(&o, choice);
}
