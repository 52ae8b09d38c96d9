/* lesson.c: the cases of lesson 8, and their answers: the front by walking
   through sorted points, the line by ratios, errors from all pairs of windows.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "check.h"
#include "8-pareto/exercise.h"

/* The points from small to large, of equal ones the best first. */
static void sort(long n, const double *bytes, const double *kl, long *order) {
    for (long i = 0; i < n; i++) {
        long k = i;
        for (; k > 0; k--) {
            const long o = order[k - 1];
            if (bytes[o] < bytes[i] || (bytes[o] == bytes[i] &&
                                        kl[o] <= kl[i])) break;
            order[k] = o;
        }
        order[k] = i;
    }
}

static void right_front(long n, const double *bytes, const double *kl,
                        int *keep) {
    long order[64], last = -1;
    sort(n, bytes, kl, order);
    for (long k = 0; k < n; k++) {
        const long i = order[k];
        keep[i] = last < 0 || kl[i] < kl[last] ||
                  (kl[i] == kl[last] && bytes[i] == bytes[last]);
        if (keep[i]) last = i;
    }
}

static double right_line(long n, const double *bytes, const double *kl,
                         double at) {
    long order[64];
    sort(n, bytes, kl, order);
    for (long k = 0; k + 1 < n; k++) {
        const long i = order[k], j = order[k + 1];
        if (at < bytes[i] || at > bytes[j]) continue;
        return kl[i] * pow(kl[j] / kl[i],
                           (at - bytes[i]) / (bytes[j] - bytes[i]));
    }
    return NAN;
}

static void right_paired(long n, const double *a, const double *b,
                         double *mean, double *error) {
    double pairs = 0, sa = 0, sb = 0;
    for (long i = 0; i < n; i++) {
        sa += a[i], sb += b[i];
        for (long j = 0; j < i; j++) {
            const double d = (b[i] - b[j]) - (a[i] - a[j]);
            pairs += d * d;
        }
    }
    *mean = (sb - sa) / (double)n;
    *error = sqrt(pairs / (double)(n - 1)) / (double)n;
}

static int right_verdict(long n, const double *a, const double *b) {
    double mean, error;
    right_paired(n, a, b, &mean, &error);
    return mean * mean <= 4 * error * error ? 0 : mean > 0 ? 1 : -1;
}

/* ------------------------------------------------------------------- cases */

/* Whole numbers, so that some are equal; one point stands there twice. */
static void make_points(task *t) {
    const long n = draw_between(t, 4, 10);
    double *bytes = give(t, "bytes", n), *kl = give(t, "kl", n);
    for (long i = 0; i < n; i++) {
        bytes[i] = (double)draw_between(t, 1, 6) * 1000;
        kl[i] = (double)draw_between(t, 1, 6) / 8;
    }
    long best = 0;              /* on the front, so twice there */
    for (long i = 1; i < n; i++)
        if (bytes[i] + 8000 * kl[i] < bytes[best] + 8000 * kl[best]) best = i;
    const long copy = best == n - 1 ? 0 : n - 1;
    bytes[copy] = bytes[best], kl[copy] = kl[best];
}

/* In no order; `at` between, on, or beyond them. */
static void make_line(task *t) {
    const long n = draw_between(t, 2, 5), kind = (long)(t->seed % 4);
    double *bytes = give(t, "bytes", n), *kl = give(t, "kl", n);
    for (long i = 0; i < n; i++) {
        const long bits = (i + (long)t->seed) % n + 2;
        bytes[i] = (double)bits * 100000 + (double)draw_between(t, 0, 9999);
        kl[i] = exp(-(double)bits) * (1 + draw(t));
    }
    give_one(t, "at", kind == 0 ? bytes[0] : kind == 1 ? bytes[0] + 200000 * (
        double)n : 200000 + 100000 * (double)(n - 1) * draw(t));
}

/* Windows differ far more from each other than the methods do. */
static void make_windows(task *t) {
    const long n = draw_between(t, 4, 12);
    double *a = give(t, "a", n), *b = give(t, "b", n), mean, error;
    const double apart = ((double)(t->seed % 3) - 1) * 0.04;
    for (long i = 0; i < n; i++) {
        a[i] = 0.3 + 0.1 * draw_normal(t);
        b[i] = a[i] + apart + 0.05 * draw_normal(t);
    }
    right_paired(n, a, b, &mean, &error);
    t->unfair = fabs(fabs(mean) - 2 * error) < 1e-6;
}

static void call_front(function *f, task *t) {
    const long n = count_of(t, "kl");
    ((typeof(pareto) *)f)(n, given(t, "bytes"), given(t, "kl"),
                          wanted_ints("keep", n));
}

static void call_line(function *f, task *t) {
    answer("kl", ((typeof(uniform_at) *)f)(
        count_of(t, "kl"), given(t, "bytes"), given(t, "kl"),
        number(t, "at")));
}

static void call_paired(function *f, task *t) {
    double *mean = wanted("mean", 1);
    ((typeof(paired) *)f)(count_of(t, "a"), given(t, "a"), given(t, "b"), mean,
                          wanted("error", 1));
}

static void call_verdict(function *f, task *t) {
    answer("verdict", ((typeof(verdict) *)f)(count_of(t, "a"), given(t, "a"),
                                             given(t, "b")));
}

const lesson the_lesson = {"Lesson 8: the whole", 4, {
    {"pareto", "the points that no other beats", 3, 0, make_points, call_front,
     (function *)right_front},
    {"uniform_at", "a fair rival at the same bytes", 3, 1e-9, make_line,
     call_line, (function *)right_line},
    {"paired", "differences, window by window", 2, 1e-9, make_windows,
     call_paired, (function *)right_paired},
    {"verdict", "who is better?", 2, 0, make_windows, call_verdict,
     (function *)right_verdict}}};
