/* test_frontier.c: the whole frontier against enumeration and against solving
   each budget; what is printed at the limit; resampled scores.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd/cmd.h"
#include "test.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static uint64_t seed, counter;

static int64_t draw(int64_t n) {
    return (int64_t)(gm_random(seed, 13, counter++) % (uint64_t)n);
}

static void instance(gm_arena *a, gm_mckp *p, long M, int K, int64_t sizes,
                     int64_t scores) {
    STATUS(gm_mckp_new(a, M, K, p));
    for (long i = 0; i < M * K; i++) {
        p->size[i] = draw(sizes) * (1 + i % K);
        p->score[i] = draw(scores) / (1 + i % K) - 3;
    }
}

static int by_point(const void *a, const void *b) {
    const gm_point *x = a, *y = b;
    if (x->size != y->size) return x->size < y->size ? -1 : 1;
    return (x->score > y->score) - (x->score < y->score);
}

/* All K^M points, sorted, those kept that lower the score. */
static long enumerate(const gm_mckp *p, gm_point *out) {
    long total = 1, n = 0;
    for (long m = 0; m < p->M; m++) total *= p->K;
    gm_point *all = calloc((size_t)total, sizeof *all);
    for (long code = 0; code < total; code++)
        for (long m = 0, rest = code; m < p->M; m++, rest /= p->K) {
            all[code].size += p->size[m * p->K + rest % p->K];
            all[code].score += p->score[m * p->K + rest % p->K];
        }
    qsort(all, (size_t)total, sizeof *all, by_point);
    for (long i = 0; i < total; i++)
        if (n == 0 || all[i].score < out[n - 1].score) out[n++] = all[i];
    free(all);
    return n;
}

static void test_enumeration(void) {
    static gm_point truth[20000];
    gm_solve_options options = {0};
    for (int i = 0; i < 400; i++) {
        gm_arena a = {0};
        gm_mckp p;
        gm_frontier f;
        seed = (uint64_t)i, counter = 0;
        instance(&a, &p, 1 + draw(6), 1 + (int)draw(4),
                 i % 3 == 0 ? 5 : 1000000000, i % 2 ? 6 : 1 << 30);
        gm_status s = ANSWER(gm_frontier_find(&a, &p, &options, &f));
        long n = enumerate(&p, truth);
        CHECK(s == GM_OK && f.complete && f.count == n &&
              !memcmp(f.point, truth, (size_t)n * sizeof *truth),
              "seed %d: %ld points, expected %ld; %s", i, f.count, n, err.text);
        gm_arena_free(&a);
    }
}

/* Every point is the optimum of its own budget, and one unit less is not
   enough, says the solver with its targets and bounds. */
static void test_against_solver(void) {
    gm_arena a = {0};
    gm_mckp p;
    gm_frontier f;
    gm_solve_options options = {.solver = GM_DP};
    seed = 1000, counter = 0;
    instance(&a, &p, 60, 5, 40, 1 << 20);
    CHECK(ANSWER(gm_frontier_find(&a, &p, &options, &f)) == GM_OK && f.complete,
          "%s", err.text);
    int x[60];
    gm_certificate t;
    for (long i = 0; i < f.count; i++) {
        p.budget = f.point[i].size;
        CHECK(SOLVED(gm_mckp_solve(&a, &p, &options, x, &t), t) == GM_OK &&
              t.objective == f.point[i].score && t.slack == 0, "point %ld: %"
              PRId64 " at %" PRId64 ", solver %" PRId64, i, f.point[i].score,
              f.point[i].size, t.objective);
        p.budget--;
        gm_status s = SOLVED(gm_mckp_solve(&a, &p, &options, x, &t), t);
        CHECK(i ? s == GM_OK && t.objective == f.point[i - 1].score
                : s == GM_EINFEASIBLE, "before point %ld: %d, %" PRId64, i, s,
              t.objective);
    }
    CHECK(f.count > 500, "%ld points: too few to mean anything", f.count);
    gm_arena_free(&a);
}

/* At the limit: the supported points, each proven Pareto-optimal by being the
   optimum of its own budget, and the code of a limit. */
static void test_limit(void) {
    gm_arena a = {0};
    gm_mckp p;
    gm_frontier f;
    gm_solve_options options = {.solver = GM_DP, .memory = 1 << 15};
    seed = 2000, counter = 0;
    instance(&a, &p, 80, 4, 1000000000, 1 << 30);
    gm_status s = ANSWER(gm_frontier_find(&a, &p, &options, &f));
    CHECK(s == GM_ELIMIT && !f.complete && f.count > 80, "status %d, %ld",
          s, f.count);
    CHECK(strncmp(f.why, "limit reached after ", 20) == 0, "%s", f.why);
    options.memory = 0;
    int x[80];
    gm_certificate t;
    for (long i = 0; i < f.count; i++) {
        p.budget = f.point[i].size;
        CHECK(SOLVED(gm_mckp_solve(&a, &p, &options, x, &t), t) == GM_OK &&
              t.objective == f.point[i].score && t.slack == 0,
              "supported point %ld", i);
    }
    p.rows = 1;
    CHECK(ANSWER(gm_frontier_find(&a, &p, &options, &f)) == GM_EUSAGE, "rows");
    CHECK_TEXT(err.text, "the frontier of size and score takes no further "
                         "resources");
    gm_arena_free(&a);
}

/* Three modules: one certain, two alike and uncertain, room for one of them. */
static void test_robust(void) {
    static const int bits[2] = {2, 4};
    static const double score[6] = {100, 0, 10, 0, 9.9, 0};
    gm_arena a = {0};
    gm_scores s;
    gm_budget budget;
    gm_mckp p;
    gm_rounding r;
    gm_certificate t;
    gm_robust robust, again;
    gm_solve_options options = {.solver = GM_DP};
    int x[3];
    STATUS(gm_scores_new(&a, 3, 2, bits, &s));
    for (long m = 0; m < 3; m++) {
        s.name[m] = gm_format(&a, "m%ld", m);
        s.N += s.weights[m] = 8;
        for (int k = 0; k < 2; k++) {
            s.bytes[2 * m + k] = bits[k];
            s.score[2 * m + k] = score[2 * m + k];
            s.error[2 * m + k] = k ? 0 : 1;
        }
    }
    budget = gm_budget_parse(&s, GM_BITS, "3.4");     /* 4 4 2 */
    gm_problem_build(&a, &s, &budget, 30, &p, &r);
    SOLVED(gm_mckp_solve(&a, &p, &options, x, &t), t);
    CHECK(x[0] == 1 && x[1] == 1 && x[2] == 0, "choice %d %d %d", x[0], x[1],
          x[2]);
    gm_status status = STATUS(gm_robust_find(&a, &s, &budget, &p, 30, &options, x,
                                      4000, 1, &robust));
    CHECK(status == GM_OK, "%s", err.text);
    CHECK(robust.changed[0] == 0 && robust.share[1] == 1, "module 0 changed");
    /* modules 1 and 2 swap when 0.1 + sqrt(2) z < 0: P = Phi(-0.0707) = 0.4718;
       4,000 draws: standard error 0.0079, four of them allowed */
    CHECK(fabs(robust.changed[1] - 0.4718) < 0.032 &&
          robust.changed[2] == robust.changed[1], "changed %g %g",
          robust.changed[1], robust.changed[2]);
    for (long m = 0; m < 3; m++)
        CHECK(fabs(robust.share[2 * m + 1 - x[m]] - robust.changed[m]) < 1e-12 &&
              fabs(robust.share[2 * m] + robust.share[2 * m + 1] - 1) < 1e-12,
              "module %ld: shares %g %g", m, robust.share[2 * m],
              robust.share[2 * m + 1]);
    /* E max(0, -(0.1 + sqrt(2) z)) = sqrt(2) phi(a) - 0.1 Phi(-a), a = 0.0707:
       0.5628 - 0.0472 = 0.5156; its standard error 0.0130 */
    CHECK(fabs(robust.regret - 0.5156) < 0.052, "regret %g", robust.regret);
    gm_robust_find(&a, &s, &budget, &p, 30, &options, x, 4000, 1, &again);
    CHECK(again.regret == robust.regret, "same seed, same draws");
    s.error[4] = -1;
    CHECK(STATUS(gm_robust_find(&a, &s, &budget, &p, 30, &options, x, 1, 1, &again)) == GM_EINPUT, "no standard error");
    CHECK_TEXT(err.text, "scores: module m2: no standard error at 2 bits; "
                         "--robust needs them all");
    gm_arena_free(&a);
}

static int test_main(void) {
    test_enumeration();
    test_against_solver();
    test_limit();
    test_robust();
    return test_end("test_frontier");
}

TEST_MAIN(test_main())
