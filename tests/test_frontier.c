/* test_frontier.c: the whole frontier against enumeration and against solving
   each budget; what is printed at the limit.
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
        CHECK(s == GM_OK && f.count == n &&
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
    CHECK(ANSWER(gm_frontier_find(&a, &p, &options, &f)) == GM_OK,
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
    CHECK(s == GM_ELIMIT && f.count > 80, "status %d, %ld",
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

static int test_main(void) {
    test_enumeration();
    test_against_solver();
    test_limit();
    return test_end("test_frontier");
}

TEST_MAIN(test_main())
