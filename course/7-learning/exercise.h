/* exercise.h: what lesson 7 asks for.  M modules, K candidates: p_mk is
   p[m * K + k], and so are theta, S and g.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "course.h"

typedef struct {
    long M;
    int K;
    const double *n;        /* [M] weights in module m; N is their sum      */
    const double *bits;     /* [K]                                          */
    double B;               /* average bits to aim at                       */
    double alpha, rho, tau; /* entropy, penalty, temperature                */
    double lambda;          /* the multiplier                               */
} learning;

/* p_k = exp(theta_k / tau) / sum_j exp(theta_j / tau), also where theta is in
   the thousands. */
void softmax(int K, const double *theta, double tau, double *p);

/* c = (1/N) sum_m n_m sum_k bits_k p_mk - B */
double off_target(const learning *l, const double *p);

/* d_theta [M, K] of  J = E + sum_mk (p_mk - p_mk^2) S_mk
       + (alpha/M) sum_mk p_mk ln p_mk + lambda c + rho/2 c^2,
   p_m = softmax(theta_m), all above 0, where g_mk = dE/dp_mk is given:
   v_mk = dJ/dp_mk,  d_theta_mk = p_mk (v_mk - sum_j p_mj v_mj) / tau. */
void gradient(const learning *l, const double *p, const double *S,
              const double *g, double *d_theta);

/* A model of learning with one number, the bits x (at first B): its error falls
   by exp(-x) for each bit more.  In each of `steps` steps, in this order,
       c = x - B, which is kept as c[step];
       v = 0.9 v + 0.1 (-exp(-x) + lambda + rho c)     (v is 0 at first)
       x = x - rate v
       lambda = lambda + eta rho c                     (lambda is 0 at first) */
void learn(double B, double rho, double eta, double rate, long steps,
           double *c);
