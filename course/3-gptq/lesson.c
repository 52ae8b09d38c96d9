/* lesson.c: the cases of lesson 3, and their answers by definition: H column by
   column, the surgeon by solving the equations of the smallest error, GPTQ by a
   surgeon who inverts anew what is left after each column.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "check.h"
#include "3-gptq/exercise.h"

enum { MOST = 24 };

/* x of a x = b, by elimination with pivots; a, b are spoilt. */
static void solve(long n, double a[][MOST], double *b) {
    for (long k = 0; k < n; k++) {
        long best = k;
        for (long i = k; i < n; i++)
            if (fabs(a[i][k]) > fabs(a[best][k])) best = i;
        for (long j = 0; j < n; j++) {
            const double kept = a[k][j];
            a[k][j] = a[best][j], a[best][j] = kept;
        }
        const double kept = b[k];
        b[k] = b[best], b[best] = kept;
        for (long i = 0; i < n; i++) {
            const double f = i == k ? 0 : a[i][k] / a[k][k];
            for (long j = 0; j < n; j++) a[i][j] -= f * a[k][j];
            b[i] -= f * b[k];
        }
    }
    for (long k = 0; k < n; k++) b[k] /= a[k][k];
}

static void invert(long n, const double *A, double *out) {
    for (long k = 0; k < n; k++) {
        double a[MOST][MOST], b[MOST] = {0};
        for (long i = 0; i < n; i++)
            for (long j = 0; j < n; j++) a[i][j] = A[i * n + j];
        b[k] = 1;
        solve(n, a, b);
        for (long i = 0; i < n; i++) out[i * n + k] = b[i];
    }
}

static void right_hessian(const double *X, long T, long n, double damping,
                          double *H) {
    double trace = 0;
    memset(H, 0, (size_t)(n * n) * sizeof *H);
    for (long t = 0; t < T; t++)
        for (long i = 0; i < n; i++) {
            trace += 2 * X[t * n + i] * X[t * n + i] / (double)T;
            for (long j = 0; j < n; j++)
                H[i * n + j] += 2 * X[t * n + i] * X[t * n + j] / (double)T;
        }
    for (long i = 0; i < n; i++) H[i * n + i] += damping * trace / (double)n;
}

/* Of all e with e_p = w_p - q, where e H e^T is least: H e = 0 in all rows but
   p, so e_r = -H_rr^-1 H_rp e_p. */
static double right_surgeon(const double *A, long n, long p, double q,
                            const double *w, double *moved) {
    double H[MOST * MOST], a[MOST][MOST], e[MOST], loss = 0;
    invert(n, A, H);
    for (long i = 0; i < n; i++) {
        for (long j = 0; j < n; j++)
            a[i][j] = i == p ? i == j : j == p ? 0 : H[i * n + j];
        e[i] = i == p ? w[p] - q : -H[i * n + p] * (w[p] - q);
    }
    solve(n, a, e);
    for (long i = 0; i < n; i++) {
        moved[i] = w[i] - e[i];
        for (long j = 0; j < n; j++) loss += e[i] * H[i * n + j] * e[j];
    }
    return loss;
}

/* near: how near a weight came to lie halfway between two codes. */
static void by_surgeon(const double *U, long n, int bits, double scale,
                       int zero, const double *w, int *code, double *near) {
    double A[MOST * MOST] = {0}, H[MOST * MOST] = {0}, v[MOST], moved[MOST];
    for (long i = 0; i < n; i++) {
        v[i] = w[i];
        for (long j = 0; j < n; j++) {
            for (long k = 0; k < n; k++)
                A[i * n + j] += U[k * n + i] * U[k * n + j];
        }
    }
    invert(n, A, H);
    *near = 1;
    for (long j = 0; j < n; j++) {      /* the columns j .. n-1 are left */
        const long m = n - j;
        double left[MOST * MOST], inverse[MOST * MOST];
        for (long i = 0; i < m; i++)
            for (long k = 0; k < m; k++)
                left[i * m + k] = H[(i + j) * n + k + j];
        invert(m, left, inverse);
        const double x = v[j] / scale;
        *near = fmin(*near, fabs(x - floor(x) - 0.5));
        code[j] = (int)fmin(fmax(rint(x) + zero, 0), (1 << bits) - 1);
        right_surgeon(inverse, m, 0, scale * (code[j] - zero), v + j, moved);
        memcpy(v + j, moved, (size_t)m * sizeof *v);
    }
}

static void right_row(const double *U, long n, int bits, double scale,
                      int zero, const double *w, int *code) {
    double near;
    by_surgeon(U, n, bits, scale, zero, w, code, &near);
}

/* ------------------------------------------------------------------- cases */

/* Inputs whose columns have something in common. */
static double *make_inputs(task *t, long T, long n) {
    double *X = give(t, "X", T * n);
    for (long i = 0; i < T; i++) {
        const double common = draw_normal(t);
        for (long j = 0; j < n; j++)
            X[i * n + j] = (common + draw_normal(t)) * (double)(j % 3 + 1);
    }
    return X;
}

static void make_hessian(task *t) {
    const long T = draw_between(t, 1, 12), n = draw_between(t, 1, 6);
    make_inputs(t, T, n);
    give_one(t, "T", (double)T);
    give_one(t, "n", (double)n);
    give_one(t, "damping", draw(t) / 4);
}

/* The inverse of such an H, and a row. */
static void make_surgeon(task *t) {
    const long n = draw_between(t, 2, 8);
    task inner = {.seed = t->seed + 1000000};
    double H[MOST * MOST];
    right_hessian(make_inputs(&inner, 2 * n, n), 2 * n, n, 0.01, H);
    double *A = give(t, "A", n * n), *w = give(t, "w", n);
    invert(n, H, A);
    for (long i = 0; i < n; i++) w[i] = draw_normal(t);
    give_one(t, "p", (double)draw_between(t, 0, n - 1));
    give_one(t, "q", draw_normal(t));
}

static void make_row(task *t) {
    const long n = draw_between(t, 6, 20);
    int code[MOST];
    double H[MOST * MOST], A[MOST * MOST], near = 0;
    task inner = {.seed = t->seed + 1000000};
    right_hessian(make_inputs(&inner, 2 * n, n), 2 * n, n, 0.01, H);
    invert(n, H, A);
    if (!gm_cholesky(n, A)) t->unfair = true;       /* A = L L^T, U = L^T */
    double *U = give(t, "U", n * n), *w = give(t, "w", n);
    for (long i = 0; i < n; i++) {
        w[i] = draw_normal(t);
        for (long j = i; j < n; j++) U[i * n + j] = A[j * n + i];
    }
    const int bits = (int)draw_between(t, 2, 4), zero = 1 << (bits - 1);
    const double scale = 4.0 / (1 << bits);
    give_one(t, "bits", bits);
    give_one(t, "scale", scale);
    give_one(t, "zero", zero);
    if (!t->unfair) by_surgeon(U, n, bits, scale, zero, w, code, &near);
    t->unfair |= near < 1e-4;
}

static void call_hessian(function *f, task *t) {
    const long n = (long)number(t, "n");
    ((typeof(hessian) *)f)(given(t, "X"), (long)number(t, "T"), n,
                           number(t, "damping"), wanted("H", n * n));
}

static void call_surgeon(function *f, task *t) {
    const long n = count_of(t, "w");
    answer("error", ((typeof(surgeon) *)f)(
        given(t, "A"), n, (long)number(t, "p"), number(t, "q"), given(t, "w"),
        wanted("moved", n)));
}

static void call_row(function *f, task *t) {
    const long n = count_of(t, "w");
    ((typeof(gptq_row) *)f)(given(t, "U"), n, (int)number(t, "bits"),
                            number(t, "scale"), (int)number(t, "zero"),
                            given(t, "w"), wanted_ints("code", n));
}

const lesson the_lesson = {"Lesson 3: GPTQ", 3, {
    {"hessian", "what inputs have in common", 3, 1e-9, make_hessian,
     call_hessian, (function *)right_hessian},
    {"surgeon", "one weight fixed, the others moved", 3, 1e-6, make_surgeon,
     call_surgeon, (function *)right_surgeon},
    {"gptq_row", "column after column", 4, 0, make_row, call_row,
     (function *)right_row}}};
