/* lesson.c: the cases of lesson 5, and their answers: the block's error by
   gm_loss_block, the losses in closed form, variances from all pairs.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "check.h"
#include "5-sensitivity/exercise.h"

static double right_error(const double *h, const double *y, long R, long d) {
    gm_arena a = {0};
    const size_t n = (size_t)(R * d);
    gm_real *x = gm_alloc(&a, n, sizeof *x), *z = gm_alloc(&a, n, sizeof *z);
    gm_loss loss = {.norm = GM_NORM_TOKEN, .first_weight = 1, .R = R, .T = R,
                    .d = d, .h = x, .y = x, .student = z,
                    .d_student = gm_alloc(&a, n, sizeof(gm_real)),
                    .error = gm_alloc(&a, (size_t)R, sizeof(double))};
    for (long i = 0; i < R * d; i++)
        x[i] = (gm_real)h[i], z[i] = (gm_real)y[i];
    const double E = gm_loss_block(&loss);
    gm_arena_free(&a);
    return E;
}

/* With a_m of the chosen candidates: sum_m a_m^2 + sum_{m < j} c a_m a_j. */
typedef struct { long M; int K; double c; const double *a; } model;

static double model_loss(void *context, const int *choice) {
    const model *s = context;
    double sum = 0, squares = 0;
    for (long m = 0; m < s->M; m++) {
        const double a = choice[m] < 0 ? 0 : s->a[m * s->K + choice[m]];
        sum += a, squares += a * a;
    }
    return squares + s->c * (sum * sum - squares) / 2;
}

static void right_separable(double (*loss)(void *, const int *), void *context,
                            long M, int K, double *S) {
    const model *s = context;
    (void)loss;
    for (long i = 0; i < M * K; i++) S[i] = s->a[i] * s->a[i];
}

static double right_ratio(double (*loss)(void *, const int *), void *context,
                          long M, int K, const double *S, const int *choice) {
    const model *s = context;
    double pairs = 0, alone = 0;
    (void)loss, (void)S;
    for (long m = 0; m < M; m++)
        for (long j = 0; j < M && choice[m] >= 0; j++) {
            const double both = choice[j] < 0 ? 0 : s->a[m * K + choice[m]] *
                                                    s->a[j * K + choice[j]];
            if (m == j) alone += both;
            else pairs += s->c / 2 * both;
        }
    return 1 + pairs / alone;
}

static void right_mean(const double *x, long n, double *mean, double *error) {
    double pairs = 0, sum = 0;
    for (long i = 0; i < n; i++) {
        sum += x[i] / (double)n;
        for (long j = 0; j < i; j++) pairs += (x[i] - x[j]) * (x[i] - x[j]);
    }
    *mean = sum;
    *error = sqrt(pairs / (double)(n - 1)) / (double)n;
}

/* ------------------------------------------------------------------- cases */

/* Rows of very different size; every third seed has one of zeros. */
static void make_error(task *t) {
    const long R = draw_between(t, 2, 6), d = draw_between(t, 1, 6);
    double *h = give(t, "h", R * d), *y = give(t, "y", R * d);
    give_one(t, "R", (double)R);
    give_one(t, "d", (double)d);
    for (long r = 0; r < R; r++) {
        const double size = exp(2 * draw_normal(t));
        for (long i = r * d; i < (r + 1) * d; i++) {
            h[i] = t->seed % 3 == 0 && r == 0 ? 0 : size * draw_normal(t);
            y[i] = h[i] + 0.3 * size * draw_normal(t);
        }
    }
}

static void make_separable(task *t) {
    const long M = draw_between(t, 2, 5), K = draw_between(t, 2, 4);
    double *a = give(t, "a", M * K);
    for (long i = 0; i < M * K; i++) a[i] = 0.1 + draw(t);
    give_one(t, "M", (double)M);
    give_one(t, "K", (double)K);
    give_one(t, "c", draw(t) - 0.5);
}

static void make_ratio(task *t) {
    make_separable(t);
    const long M = (long)number(t, "M"), K = (long)number(t, "K");
    double *choice = give(t, "choice", M);
    for (long m = 0; m < M; m++)
        choice[m] = m == M / 2 ? -1 : (double)draw_between(t, 0, K - 1);
}

static void make_mean(task *t) {
    const long n = draw_between(t, 2, 9);
    double *x = give(t, "x", n);
    for (long i = 0; i < n; i++) x[i] = 3 + draw_normal(t);
}

static void call_error(function *f, task *t) {
    answer("error", ((typeof(block_error) *)f)(
        given(t, "h"), given(t, "y"), (long)number(t, "R"),
        (long)number(t, "d")));
}

static model model_of(task *t) {
    return (model){(long)number(t, "M"), (int)number(t, "K"), number(t, "c"),
                   given(t, "a")};
}

static void call_separable(function *f, task *t) {
    model s = model_of(t);
    ((typeof(separable) *)f)(model_loss, &s, s.M, s.K, wanted("S", s.M * s.K));
}

static void call_ratio(function *f, task *t) {
    model s = model_of(t);
    double *S = malloc((size_t)(s.M * s.K) * sizeof *S);
    right_separable(model_loss, &s, s.M, s.K, S);
    answer("ratio", ((typeof(joint_ratio) *)f)(model_loss, &s, s.M, s.K, S,
                                               given_ints(t, "choice")));
    free(S);
}

static void call_mean(function *f, task *t) {
    double *mean = wanted("mean", 1);
    ((typeof(mean_and_error) *)f)(given(t, "x"), count_of(t, "x"), mean,
                                  wanted("error", 1));
}

const lesson the_lesson = {"Lesson 5: sensitivity", 4, {
    {"block_error", "how far the outputs are off", 3, 1e-5, make_error,
     call_error, (function *)right_error},
    {"separable", "each candidate alone", 3, 1e-9, make_separable,
     call_separable, (function *)right_separable},
    {"joint_ratio", "do errors add up?", 2, 1e-9, make_ratio, call_ratio,
     (function *)right_ratio},
    {"mean_and_error", "how sure is a mean", 2, 1e-9, make_mean, call_mean,
     (function *)right_mean}}};
