/* lesson.c: the cases of lesson 7, and their answers: softmax by the library,
   the gradient by central differences of J over theta, learning as a recurrence
   in x alone.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "check.h"
#include "7-learning/exercise.h"

static void right_softmax(int K, const double *theta, double tau, double *p) {
    gm_softmax(K, NULL, theta, tau, p);
}

/* Module by module, each with its share of the weights. */
static double right_target(const learning *l, const double *p) {
    double N = 0, c = 0;
    for (long m = 0; m < l->M; m++) N += l->n[m];
    for (long m = 0; m < l->M; m++)
        for (int k = 0; k < l->K; k++)
            c += l->n[m] / N * (l->bits[k] - l->B) * p[m * l->K + k];
    return c;
}

/* J at theta + h in place `at`, where E is g p. */
static long double J(const learning *l, const double *p, const double *S,
                     const double *g, long at, long double h) {
    long double sum = 0, N = 0, c = -l->B;
    for (long m = 0; m < l->M; m++) N += l->n[m];
    for (long m = 0; m < l->M; m++) {
        long double q[8], all = 0;
        for (int k = 0; k < l->K; k++) {
            const long i = m * l->K + k;
            all += q[k] = p[i] * expl(i == at ? h / l->tau : 0);
        }
        for (int k = 0; k < l->K; k++) {
            const long i = m * l->K + k;
            q[k] /= all;
            sum += g[i] * q[k] + (q[k] - q[k] * q[k]) * S[i] +
                   l->alpha / (double)l->M * q[k] * logl(q[k]);
            c += l->n[m] / N * l->bits[k] * q[k];
        }
    }
    return sum + l->lambda * c + l->rho / 2 * c * c;
}

static void right_gradient(const learning *l, const double *p, const double *S,
                           const double *g, double *d_theta) {
    const long double h = 1e-5L;
    for (long i = 0; i < l->M * l->K; i++)
        d_theta[i] = (double)((J(l, p, S, g, i, h) - J(l, p, S, g, i, -h)) /
                              (2 * h));
}

/* x(t+1) = x(t) + 0.9 (x(t) - x(t-1)) - 0.1 rate (...), lambda(t) = eta rho
   sum of all c before. */
static void right_learn(double B, double rho, double eta, double rate,
                        long steps, double *c) {
    double sum = 0;
    for (long t = 0; t < steps; t++) {
        if (t == 0) {
            c[t] = 0;
            continue;
        }
        const double x = B + c[t - 1];
        const double before = t > 1 ? c[t - 2] : c[t - 1];
        c[t] = c[t - 1] + 0.9 * (c[t - 1] - before) -
               0.1 * rate * (-exp(-x) + eta * rho * sum + rho * c[t - 1]);
        sum += c[t - 1];
    }
}

/* ------------------------------------------------------------------- cases */

static void make_softmax(task *t) {
    const long K = draw_between(t, 2, 5);
    double *theta = give(t, "theta", K);
    for (long k = 0; k < K; k++)
        theta[k] = 2 * draw_normal(t) + (t->seed % 3 == 0 ? 1500 : 0);
    give_one(t, "tau", 0.3 + 2 * draw(t));
}

static void make_learning(task *t) {
    const long M = draw_between(t, 2, 4), K = draw_between(t, 2, 4);
    double *n = give(t, "n", M), *bits = give(t, "bits", K);
    double *p = give(t, "p", M * K);
    for (long m = 0; m < M; m++) {
        double theta[8];
        n[m] = (double)draw_between(t, 1, 9);
        for (long k = 0; k < K; k++) theta[k] = draw_normal(t);
        gm_softmax((int)K, NULL, theta, 1, p + m * K);
    }
    for (long k = 0; k < K; k++) bits[k] = (double)(k + 2);
    give_one(t, "B", 2 + draw(t));
}

static void make_gradient(task *t) {
    make_learning(t);
    const long n = t->in[2].n;
    double *S = give(t, "S", n), *g = give(t, "g", n);
    for (long i = 0; i < n; i++) S[i] = draw(t), g[i] = draw_normal(t);
    give_one(t, "alpha", 0.5 + draw(t));
    give_one(t, "rho", 1 + 4 * draw(t));
    give_one(t, "tau", 0.5 + draw(t));
    give_one(t, "lambda", draw(t));
}

static void make_learn(task *t) {
    give_one(t, "B", 2 + draw(t));
    give_one(t, "rho", 1 + 4 * draw(t));
    give_one(t, "eta", draw(t) / 2);
    give_one(t, "rate", 0.1 + draw(t) / 2);
    give_one(t, "steps", (double)draw_between(t, 5, 40));
}

static learning learning_of(task *t, bool all) {
    return (learning){count_of(t, "n"), (int)count_of(t, "bits"),
                      given(t, "n"), given(t, "bits"), number(t, "B"),
                      all ? number(t, "alpha") : 0, all ? number(t, "rho") : 0,
                      all ? number(t, "tau") : 1,
                      all ? number(t, "lambda") : 0};
}

static void call_softmax(function *f, task *t) {
    const long K = count_of(t, "theta");
    ((typeof(softmax) *)f)((int)K, given(t, "theta"), number(t, "tau"),
                           wanted("p", K));
}

static void call_target(function *f, task *t) {
    const learning l = learning_of(t, false);
    answer("c", ((typeof(off_target) *)f)(&l, given(t, "p")));
}

static void call_gradient(function *f, task *t) {
    const learning l = learning_of(t, true);
    ((typeof(gradient) *)f)(&l, given(t, "p"), given(t, "S"), given(t, "g"),
                            wanted("d_theta", l.M * l.K));
}

static void call_learn(function *f, task *t) {
    const long steps = (long)number(t, "steps");
    ((typeof(learn) *)f)(number(t, "B"), number(t, "rho"), number(t, "eta"),
                         number(t, "rate"), steps, wanted("c", steps));
}

const lesson the_lesson = {"Lesson 7: learning bits", 4, {
    {"softmax", "shares that sum to 1", 2, 1e-9, make_softmax, call_softmax,
     (function *)right_softmax},
    {"off_target", "average bits less the target", 2, 1e-9, make_learning,
     call_target, (function *)right_target},
    {"gradient", "of all that is minimised", 4, 1e-6, make_gradient,
     call_gradient, (function *)right_gradient},
    {"learn", "with a multiplier that ascends", 2, 1e-9, make_learn,
     call_learn, (function *)right_learn}}};
