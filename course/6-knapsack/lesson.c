/* lesson.c: the cases of lesson 6, and their answers: the optimum by the
   library's solver, the bound by looking at every choice.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "check.h"
#include "6-knapsack/exercise.h"

/* Choice number c of K^M. */
static int total(long M, int K, long c, const int *of) {
    int sum = 0;
    for (long m = 0; m < M; m++, c /= K) sum += of[m * K + c % K];
    return sum;
}

static long power(long M, int K) { return M ? K * power(M - 1, K) : 1; }

/* By whole numbers, gain against gain, step against step. */
static void right_greedy(long M, int K, const int *size, const int *score,
                         int budget, int *choice) {
    int used = 0, moved = 1;
    for (long m = 0; m < M; m++) choice[m] = 0, used += size[m * K];
    while (moved) {
        moved = 0;
        long to = 0, gain = 0, step = 1;
        for (long m = M - 1; m >= 0; m--) {
            const int *s = size + m * K + choice[m];
            const int *u = score + m * K + choice[m];
            if (choice[m] + 1 == K || used + s[1] - s[0] > budget) continue;
            if (moved && (u[0] - u[1]) * step < gain * (s[1] - s[0])) continue;
            to = m, gain = u[0] - u[1], step = s[1] - s[0], moved = 1;
        }
        if (moved) choice[to]++, used += (int)step;
    }
}

static int right_knapsack(long M, int K, const int *size, const int *score,
                          int budget, int *choice) {
    gm_arena a = {0};
    gm_mckp problem;
    gm_certificate c = {0};
    int least = INT32_MAX, sum = 0;
    for (long m = 0; m < M; m++) {
        least = size[m * K];
        for (int k = 1; k < K; k++) least = (int)gm_min(least, size[m * K + k]);
        sum += least;
    }
    if (sum > budget) return INT32_MAX;
    gm_mckp_new(&a, M, K, &problem);
    for (long i = 0; i < M * K; i++)
        problem.size[i] = size[i], problem.score[i] = score[i];
    problem.budget = budget;
    gm_mckp_solve(&a, &problem, &(gm_solve_options){.solver = GM_DP}, choice,
                  &c);
    gm_arena_free(&a);
    return (int)c.objective;
}

/* min over all choices of score + lambda (size - budget). */
static double right_bound(long M, int K, const int *size, const int *score,
                          int budget, double lambda) {
    double least = INFINITY;
    for (long c = 0; c < power(M, K); c++)
        least = fmin(least, total(M, K, c, score) +
                            lambda * (total(M, K, c, size) - budget));
    return least;
}

static int right_check(long M, int K, const int *size, const int *score,
                       int budget, const int *choice, double lambda) {
    long c = 0;
    for (long m = M - 1; m >= 0; m--) c = c * K + choice[m];
    if (total(M, K, c, size) > budget) return -1;
    return total(M, K, c, score) - 1 <
           right_bound(M, K, size, score, budget, lambda) - 1e-9;
}

/* ------------------------------------------------------------------- cases */

/* Sizes rise, scores mostly fall; the best choice within the budget is the only
   one of its score.  The budget: of a sixth seed, too small. */
static void make(task *t) {
    const long M = draw_between(t, 2, 5);
    const int K = (int)draw_between(t, 2, 4);
    double *size = give(t, "size", M * K), *score = give(t, "score", M * K);
    int s[20], u[20];
    give_one(t, "M", (double)M);
    give_one(t, "K", K);
    int least = 0, most = 0, best = INT32_MAX, times = 0;
    for (long m = 0; m < M; m++) {
        const long unit = draw_between(t, 2, 9);
        for (int k = 0; k < K; k++) {
            const long i = m * K + k;
            s[i] = (int)(unit * (k + 2) + draw_between(t, 0, 1));
            u[i] = (int)(unit * (100 >> (2 * k)) / 8 + draw_between(t, 0, 9));
            size[i] = s[i], score[i] = u[i];
        }
        least += s[m * K], most += s[m * K + K - 1];
    }
    const int budget = (int)draw_between(t, least, most - 1);
    for (long c = 0; c < power(M, K); c++) {
        const int sum = total(M, K, c, u);
        if (total(M, K, c, s) > budget || sum > best) continue;
        times = sum < best ? 1 : times + 1;
        best = sum;
    }
    t->unfair = times != 1;
    give_one(t, "budget", budget);
}

static void make_any(task *t) {
    make(t);
    if (t->seed % 6 == 0) *t->in[4].x = t->in[0].x[0];
}

static void make_bound(task *t) {
    make(t);
    give_one(t, "lambda", (double)draw_between(t, 0, 16) / 8);
}

/* The best choice, or another, with the multiplier that bounds best or not. */
static void make_check(task *t) {
    make(t);
    const long M = (long)number(t, "M");
    const int K = (int)number(t, "K"), budget = (int)number(t, "budget");
    int s[20], u[20], own[20];
    double *choice = give(t, "choice", M), lambda = 0, most = -INFINITY;
    for (long i = 0; i < M * K; i++)
        s[i] = (int)t->in[0].x[i], u[i] = (int)t->in[1].x[i];
    for (int i = 0; i <= 800 && !t->unfair; i++) {
        const double L = right_bound(M, K, s, u, budget, i / 64.0);
        if (L > most) most = L, lambda = i / 64.0;
    }
    if (!t->unfair) right_knapsack(M, K, s, u, budget, own);
    const long kind = (long)(t->seed % 4);
    for (long m = 0; m < M && !t->unfair; m++)
        choice[m] = kind == 1 ? K - 1 : kind == 2 ? 0 : own[m];
    give_one(t, "lambda", kind == 3 ? 8 : lambda);
}

static void call_greedy(function *f, task *t) {
    const long M = (long)number(t, "M");
    ((typeof(greedy) *)f)(M, (int)number(t, "K"), given_ints(t, "size"),
                          given_ints(t, "score"), (int)number(t, "budget"),
                          wanted_ints("choice", M));
}

static void call_knapsack(function *f, task *t) {
    const long M = (long)number(t, "M");
    int *choice = wanted_ints("choice", M);
    answer("least", ((typeof(knapsack) *)f)(
        M, (int)number(t, "K"), given_ints(t, "size"), given_ints(t, "score"),
        (int)number(t, "budget"), choice));
}

static void call_bound(function *f, task *t) {
    answer("bound", ((typeof(lower_bound) *)f)(
        (long)number(t, "M"), (int)number(t, "K"), given_ints(t, "size"),
        given_ints(t, "score"), (int)number(t, "budget"), number(t, "lambda")));
}

static void call_check(function *f, task *t) {
    answer("verdict", ((typeof(check_certificate) *)f)(
        (long)number(t, "M"), (int)number(t, "K"), given_ints(t, "size"),
        given_ints(t, "score"), (int)number(t, "budget"),
        given_ints(t, "choice"), number(t, "lambda")));
}

const lesson the_lesson = {"Lesson 6: the knapsack", 4, {
    {"greedy", "step by step", 2, 0, make, call_greedy,
     (function *)right_greedy},
    {"knapsack", "the optimum", 4, 0, make_any, call_knapsack,
     (function *)right_knapsack},
    {"lower_bound", "what no choice can score below", 2, 1e-9, make_bound,
     call_bound, (function *)right_bound},
    {"check_certificate", "is it proven?", 2, 0, make_check, call_check,
     (function *)right_check}}};
