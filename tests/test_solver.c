/* test_solver.c: the integer program, solver.c.  Oracles: full
   enumeration (small), a dense dynamic program over all sizes (large), one
   solver against the other.  Instances are seeded and come in families that
   are hard in different ways.
   SPDX-License-Identifier: GPL-3.0-or-later */
#define _GNU_SOURCE
#include "gamma.h"
#include "test.h"
#include "vec.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#ifndef GM_NO_GLPK
#include <glpk.h>
#endif

static uint64_t seed, counter;

static int64_t draw(int64_t n) {
    return (int64_t)(gm_random(seed, 7, counter++) % (uint64_t)n);
}

/* ----------------------------------------------------------------- families */

enum { IDENTICAL, ANYTHING, BYTES_1E9, CORRELATED, COPRIME, NEAR_TIES, ALL_TIES,
       HUGE_RANGE, TINY_DIFFERENCES, NEGATIVE, FAMILIES };

/* Size and score of candidate k of module m. */
static void fill(gm_mckp *p, int family, long m, int k) {
    int64_t *size = &p->size[m * p->K + k], *score = &p->score[m * p->K + k];
    const int K = p->K;
    switch (family) {
    case IDENTICAL:
        *size = k + 1, *score = (K - k) * (K - k);
        break;
    case BYTES_1E9:
        *size = 1000000000 - draw(1000) + k * 7, *score = draw(1 << 30);
        break;
    case CORRELATED:
        *size = 100 + k * 13 + draw(3), *score = 10000 - *size * 3;
        break;
    case COPRIME: {
        static const int prime[] = {101, 103, 107, 109, 113, 127, 131, 137};
        *size = (k + 1) * prime[(m + k) % 8], *score = draw(50);
        break;
    }
    case NEAR_TIES:         /* all but equal next to 2^40 */
        *size = 64 * (k + 1) * (1 + m % 3);
        *score = (INT64_C(1) << 40) / (k + 1) + draw(2);
        break;
    case ALL_TIES:
        *size = k + 1, *score = 5;
        break;
    case HUGE_RANGE:
        *size = draw(1000);
        *score = draw(2) ? draw(5) : draw(INT64_C(1) << 45);
        break;
    case TINY_DIFFERENCES:  /* 1e-12 of the range */
        *size = draw(30);
        *score = k == 0 ? INT64_C(1) << 40 : draw(3);
        break;
    case NEGATIVE:
        *size = draw(40) - 20, *score = draw(100) - 50;
        break;
    default:
        *size = draw(10), *score = draw(10);
    }
}

/* GLPK compares doubles: beyond 30 bits it ends with a gap, and what it would
   say is enumerated. */
static bool too_fine(int family) {
    return family == NEAR_TIES || family == HUGE_RANGE ||
           family == TINY_DIFFERENCES;
}

static void range(const gm_mckp *p, int64_t *low, int64_t *high) {
    *low = *high = 0;
    for (long m = 0; m < p->M; m++) {
        int64_t least = INT64_MAX, most = INT64_MIN;
        for (long i = m * p->K; i < (m + 1) * p->K; i++) {
            if (!p->allowed[i]) continue;
            if (p->size[i] < least) least = p->size[i];
            if (p->size[i] > most) most = p->size[i];
        }
        if (least <= most) *low += least, *high += most;
    }
}

/* A small instance: 1..7 modules, 1..4 candidates, some pinned, a quarter with
   exact budgets, fused groups, and extra rows if asked. */
static void small_instance(gm_arena *arena, gm_mckp *p, int family,
                           bool coupled) {
    int64_t low, high;
    STATUS(gm_mckp_new(arena, 1 + draw(7), 1 + (int)draw(4), p));
    for (long i = 0; i < p->M * p->K; i++) {
        fill(p, family, i / p->K, (int)(i % p->K));
        p->allowed[i] = draw(12) > 0;
    }
    range(p, &low, &high);
    p->exact = draw(4) == 0;
    p->budget = low - 2 + draw(high - low + 5);
    for (long m = p->exact && draw(2) ? p->budget = 0 : p->M; m < p->M; m++)
        p->budget += p->size[m * p->K + draw(p->K)];
    if (draw(4) == 0) {
        p->group = gm_alloc(arena, (size_t)p->M, sizeof *p->group);
        for (long m = 0; m < p->M; m++) p->group[m] = draw(4) - 1;
    }
    if (!coupled) return;
    p->row = gm_alloc(arena, 2, sizeof *p->row);
    p->rows = draw(3);
    for (long r = 0; r < p->rows; r++) {
        int64_t sum = 0, unit = r ? 100000 : 1;
        p->row[r].name = "row";
        p->row[r].cost = gm_alloc(arena, (size_t)(p->M * p->K), 8);
        for (long i = 0; i < p->M * p->K; i++)
            sum += p->row[r].cost[i] = draw(50) * unit;
        p->row[r].limit = sum / p->K + draw(20) - 15;
    }
}

/* -------------------------------------------------------------- enumeration */

typedef struct { bool found; int64_t score, size; int choice[8]; } answer;

static bool meets(const gm_mckp *p, const int *x, int64_t *score,
                  int64_t *size) {
    *score = *size = 0;
    for (long m = 0; m < p->M; m++) {
        if (!p->allowed[m * p->K + x[m]]) return false;
        *size += p->size[m * p->K + x[m]];
        *score += p->score[m * p->K + x[m]];
        for (long n = 0; p->group && n < m; n++)
            if (p->group[m] >= 0 && p->group[m] == p->group[n] && x[m] != x[n])
                return false;
    }
    if (p->exact ? *size != p->budget : *size > p->budget) return false;
    for (long r = 0; r < p->rows; r++) {
        int64_t sum = 0;
        for (long m = 0; m < p->M; m++) sum += p->row[r].cost[m * p->K + x[m]];
        if (sum > p->row[r].limit) return false;
    }
    return true;
}

/* Lexicographic order, so the first of equals is the one the rule asks for. */
static answer enumerate(const gm_mckp *p) {
    answer best = {0};
    int x[8] = {0};
    for (;;) {
        int64_t score, size;
        if (meets(p, x, &score, &size) &&
            (!best.found || score < best.score ||
             (score == best.score && size < best.size))) {
            best = (answer){true, score, size, {0}};
            memcpy(best.choice, x, sizeof x);
        }
        long m = p->M - 1;
        for (; m >= 0 && ++x[m] == p->K; m--) x[m] = 0;
        if (m < 0) return best;
    }
}

/* The reachable sizes next to the budget, by enumeration with score = size. */
static void neighbours(gm_arena *arena, const gm_mckp *p, int64_t *below,
                       int64_t *above) {
    gm_mckp q = *p;
    int64_t *minus = gm_alloc(arena, (size_t)(p->M * p->K), sizeof *minus);
    for (long i = 0; i < p->M * p->K; i++) minus[i] = -p->size[i];
    q.exact = false, q.rows = 0;
    q.score = minus;
    answer b = enumerate(&q);
    q.score = p->size, q.size = minus, q.budget = -p->budget;
    answer a = enumerate(&q);
    *below = b.found ? b.size : -1;
    *above = a.found ? -a.size : -1;
}

static const char *const solver_name[] = {"both", "dp", "glpk"};

/* One instance, one way to solve it, against the truth. */
static void compare(gm_arena *arena, gm_mckp *p, gm_solver solver,
                    int family, const answer *truth) {
    gm_certificate t;
    gm_solve_options options = {.solver = solver};
    int x[8];
    bool coupled = p->rows > 0;
    gm_status s = SOLVED(gm_mckp_solve(arena, p, &options, x, &t), t);
    const char *who = solver_name[solver];
    CHECK(s == (truth->found ? GM_OK : GM_EINFEASIBLE),
          "%s, family %d, seed %" PRIu64 ": status %d, %s", who, family, seed,
          s, err.text);
    if (s == GM_EINFEASIBLE && p->exact && !coupled && t.reach.largest != t.reach.smallest) {
        int64_t below, above;
        neighbours(arena, p, &below, &above);
        bool same = t.reach.below == below && t.reach.above == above;
        CHECK(family == NEGATIVE || same, "seed %" PRIu64 ": neighbours %"
              PRId64 " %" PRId64 ", expected %" PRId64 " %" PRId64, seed,
              t.reach.below, t.reach.above, below, above);
    }
    if (s != GM_OK || !truth->found) return;
    CHECK(t.objective == truth->score && t.size == truth->size &&
          !memcmp(x, truth->choice, (size_t)p->M * sizeof *x),
          "%s, family %d, seed %" PRIu64 ": score %" PRId64 " size %" PRId64
          ", expected %" PRId64 " %" PRId64 " (or another tie)", who, family,
          seed, t.objective, t.size, truth->score, truth->size);
    CHECK(t.optimal && t.unique_rule && t.bound == t.objective &&
          t.lp_bound <= t.objective && t.slack == p->budget - t.size,
          "%s, seed %" PRIu64 ": certificate: bound %" PRId64 ", LP %" PRId64
          ", slack %" PRId64, who, seed, t.bound, t.lp_bound, t.slack);
    if (solver == GM_BOTH && !coupled && gm_have_glpk() && !too_fine(family))
        CHECK(t.agreed && t.dp_ran && t.glpk_ran, "seed %" PRIu64 ": agreed",
              seed);
}

static void test_enumeration(long count) {
    for (long i = 0; i < count; i++) {
        gm_arena arena = {0};
        gm_mckp p;
        int family = (int)(i % FAMILIES);
        bool coupled = gm_have_glpk() && i / FAMILIES % 3 == 2;
        seed = (uint64_t)i, counter = 0;
        small_instance(&arena, &p, family, coupled);
        answer truth = enumerate(&p);
        for (int s = GM_BOTH; s <= GM_GLPK; s++) {
            if (s == GM_DP && p.rows) continue;
            if (s == GM_GLPK && !gm_have_glpk()) continue;
            compare(&arena, &p, (gm_solver)s, family, &truth);
        }
        gm_arena_free(&arena);
    }
}

/* --------------------------------------------------- a dense dynamic program

   best[m][w] = least score of modules m.. whose sizes sum to exactly w.  Small
   sizes only; gives the optimum, its smallest size and, walking down from
   module 0, the lexicographically smallest assignment. */

static bool dense(gm_arena *arena, const gm_mckp *p, int *x, int64_t *score,
                  int64_t *size) {
    size_t width = (size_t)p->budget + 1;
    const int64_t none = INT64_MAX / 2;
    int64_t *best = gm_alloc(arena, ((size_t)p->M + 1) * width, sizeof *best);
    for (size_t w = 1; w < width; w++) best[(size_t)p->M * width + w] = none;
    for (long m = p->M - 1; m >= 0; m--)
        for (size_t w = 0; w < width; w++) {
            int64_t least = none;
            for (int k = 0; k < p->K; k++) {
                int64_t s = p->size[m * p->K + k];
                if (s > (int64_t)w) continue;
                int64_t v = best[(size_t)(m + 1) * width + w - (size_t)s] +
                            p->score[m * p->K + k];
                if (v < least) least = v;
            }
            best[(size_t)m * width + w] = least;
        }
    size_t at = p->exact ? width - 1 : 0;
    for (size_t w = at; w < width; w++)
        if (best[w] < best[at]) at = w;
    *score = best[at], *size = (int64_t)at;
    if (*score >= none / 2) return false;
    for (long m = 0; m < p->M; m++)
        for (x[m] = 0; x[m] < p->K; x[m]++) {
            int64_t s = p->size[m * p->K + x[m]];
            if (s <= (int64_t)at &&
                best[(size_t)m * width + at] == p->score[m * p->K + x[m]] +
                    best[(size_t)(m + 1) * width + at - (size_t)s]) {
                at -= (size_t)s;
                break;
            }
        }
    return true;
}

static void test_dense(long count) {
    for (long i = 0; i < count; i++) {
        gm_arena arena = {0};
        gm_mckp p;
        gm_certificate t;
        seed = 1000 + (uint64_t)i, counter = 0;
        long M = 40 + draw(80), kind = i % 4;
        gm_mckp_new(&arena, M, 2 + (int)draw(6), &p);
        for (long m = 0; m < M; m++)
            for (int k = 0; k < p.K; k++) {
                long j = m * p.K + k;
                p.size[j] = (kind == 1 ? 1 : 1 + m % 5) * (k + 1);
                p.score[j] = kind == 0 ? draw(1 << 30) / (k + 1) :
                             kind == 1 ? (p.K - k) * (p.K - k) :
                             kind == 2 ? 100 - 3 * p.size[j] + draw(2) :
                                         draw(4);
            }
        int64_t low, high, score, size;
        range(&p, &low, &high);
        p.exact = draw(3) == 0;
        p.budget = low + draw(high - low + 1);
        int *x = gm_alloc(&arena, (size_t)M, sizeof *x);
        int *y = gm_alloc(&arena, (size_t)M, sizeof *y);
        bool found = dense(&arena, &p, y, &score, &size);
        gm_solve_options options = {.solver = gm_have_glpk() && kind == 0 ?
                                              GM_BOTH : GM_DP};
        gm_status s = SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t);
        CHECK(s == (found ? GM_OK : GM_EINFEASIBLE), "seed %" PRIu64 ": %d %s",
              seed, s, err.text);
        CHECK(!found || (t.objective == score && t.size == size &&
                         !memcmp(x, y, (size_t)M * sizeof *x)),
              "seed %" PRIu64 ", kind %ld: %" PRId64 " %" PRId64 ", expected %"
              PRId64 " %" PRId64 " (or another tie)", seed, kind, t.objective,
              t.size, score, size);
        gm_arena_free(&arena);
    }
}

/* ------------------------------------------------------------------- large */

/* Llama-like: four sizes of modules, group-128 metadata, scores falling about
   as 4^-b; `odd` adds a few odd bytes to every candidate. */
static void model_instance(gm_arena *arena, gm_mckp *p, long M, int K,
                           int64_t odd) {
    static const int64_t shape[7] = {4096, 1024, 1024, 4096, 14336, 14336,
                                     14336};
    int64_t low, high;
    STATUS(gm_mckp_new(arena, M, K, p));
    for (long m = 0; m < M; m++) {
        double scale = ldexp(1 + (double)draw(1000) / 100, 28);
        for (int k = 0; k < K; k++) {
            long i = m * K + k;
            int64_t n = shape[m % 7] * 4096;
            p->size[i] = n / 8 * (k + 2) + n / 64 + (odd ? draw(odd) : 0);
            p->score[i] = llround(ldexp(scale, -2 * k) *
                                  (0.7 + (double)draw(600) / 1000));
        }
    }
    range(p, &low, &high);
    p->budget = low + (high - low) / 100 * (5 + draw(90));
}

/* Both solvers on real sizes; the answer is checked in integers. */
static void test_large(void) {
    static const struct { long M; int K; int64_t odd; } size[] = {
        {168, 3, 0}, {224, 7, 0}, {448, 7, 0}, {448, 7, 4096}, {448, 7, 64},
        {448, 16, 64}, {10000, 3, 0}};
    for (size_t i = 0; i < 2 * sizeof size / sizeof *size; i++) {
        gm_arena arena = {0};
        gm_mckp p;
        gm_certificate t;
        seed = 2000 + i, counter = 0;
        long M = size[i / 2].M;
        model_instance(&arena, &p, M, size[i / 2].K, size[i / 2].odd);
        int *x = gm_alloc(&arena, (size_t)M, sizeof *x);
        gm_solve_options options = {.solver = gm_have_glpk() && M < 10000 ?
                                              GM_BOTH : GM_DP};
        gm_status s = SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t);
        CHECK(s == GM_OK && t.optimal && t.unique_rule, "%ld modules, seed %"
              PRIu64 ": %s", M, seed, err.text);
        CHECK(options.solver == GM_DP || t.agreed, "%ld modules: agreed", M);
        int64_t sum = 0, score = 0;
        for (long m = 0; m < M; m++)
            sum += p.size[m * p.K + x[m]], score += p.score[m * p.K + x[m]];
        CHECK(sum <= p.budget && sum == t.size && score == t.objective,
              "size %" PRId64 " of %" PRId64, sum, p.budget);
        gm_arena_free(&arena);
    }
}

/* One candidate each, one module: nothing to choose. */
static void test_single(void) {
    gm_arena arena = {0};
    gm_mckp p;
    gm_certificate t;
    gm_solve_options options = {.solver = GM_BOTH};
    int x[50];
    gm_mckp_new(&arena, 50, 1, &p);
    for (long m = 0; m < 50; m++) p.size[m] = 7 * m, p.score[m] = m;
    p.budget = 7 * 1225;
    CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_OK &&
          t.objective == 1225 && t.slack == 0, "one candidate: %s", err.text);
    p.budget--;
    CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_EINFEASIBLE,
          "one byte short: %s", err.text);
    CHECK_TEXT(err.text, "a budget of 8574 units: no assignment is that small; "
               "reachable "
               "are 8575 to 8575 units, next below: none, above: 8575");
    gm_mckp_new(&arena, 1, 3, &p);
    for (int k = 0; k < 3; k++) p.size[k] = k, p.score[k] = -k;
    p.budget = 1;
    CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_OK &&
          x[0] == 1, "one module takes candidate %d", x[0]);
    gm_arena_free(&arena);
}

/* Equality where the sizes cannot: the message names the neighbours. */
static void test_unreachable(void) {
    gm_arena arena = {0};
    gm_mckp p;
    gm_certificate t;
    gm_solve_options options = {.solver = GM_BOTH};
    int x[3];
    gm_mckp_new(&arena, 3, 2, &p);
    for (long m = 0; m < 3; m++) p.size[2 * m] = 10, p.size[2 * m + 1] = 25;
    p.exact = true;
    p.budget = 50;
    SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t);
    CHECK_TEXT(err.text, "a budget of 50 units: no assignment meets it exactly; "
               "reachable are 30 to 75 units, next below: 45, above: 60");
    p.budget = 99;
    CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_EINFEASIBLE &&
          t.reach.below == 75 && t.reach.above == -1, "above all: %s", err.text);
    CHECK_TEXT(err.text, "a budget of 99 units: no assignment is that large; "
               "reachable "
               "are 30 to 75 units, next below: 75, above: none");
    p.allowed[2] = p.allowed[3] = false;
    CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_EINFEASIBLE,
          "a module without candidates");
    CHECK_TEXT(err.text, "module ?: the constraints leave it no candidate");
    gm_arena_free(&arena);
}

/* --------------------------------------------------------------------- hard */

/* A budget that the assignment of random candidates meets exactly. */
static int64_t reachable(const gm_mckp *p) {
    int64_t sum = 0;
    for (long m = 0; m < p->M; m++) sum += p->size[m * p->K + draw(p->K)];
    return sum;
}

/* Scores all but proportional to odd sizes: 300 modules of which as good as
   every subset is next to optimal.  The LP bound is reached, and that is the
   proof; which of the equals is given is not proven. */
static void correlated_instance(gm_arena *arena, gm_mckp *p) {
    int64_t low, high;
    STATUS(gm_mckp_new(arena, 300, 7, p));
    for (long i = 0; i < 300 * 7; i++) {
        p->size[i] = (i % 7 + 2) * 1250000 + draw(1000000);
        p->score[i] = 2000000000 - 153 * p->size[i] + draw(3);
    }
    range(p, &low, &high);
    p->budget = (low + high) / 2;
}

/* One hard instance on the dynamic program: proven, and in integers right. */
static void prove(gm_mckp *p, gm_arena *arena, const char *what) {
    gm_certificate t;
    gm_solve_options options = {.solver = GM_DP};
    int *x = gm_alloc(arena, (size_t)p->M, sizeof *x);
    int64_t size = 0, score = 0;
    gm_status s = SOLVED(gm_mckp_solve(arena, p, &options, x, &t), t);
    CHECK(s == GM_OK && t.optimal, "%s, seed %" PRIu64 ": %d %s", what, seed, s,
          err.text);
    for (long m = 0; m < p->M; m++)
        size += p->size[m * p->K + x[m]], score += p->score[m * p->K + x[m]];
    CHECK((p->exact ? size == p->budget : size <= p->budget) &&
          score == t.objective && t.lp_bound <= score, "%s: size %" PRId64
          " of %" PRId64, what, size, p->budget);
}

static void test_hard(void) {
    for (int i = 0; i < 6; i++) {
        gm_arena arena = {0};
        gm_mckp p;
        seed = 6000 + (uint64_t)i, counter = 0;
        switch (i % 6) {
        case 0:
        case 1:
            correlated_instance(&arena, &p);
            p.exact = i % 6 == 1;
            if (p.exact) p.budget = reachable(&p);
            prove(&p, &arena, "strongly correlated");
            break;
        case 2:
            model_instance(&arena, &p, 168, 5, 64);
            p.exact = true, p.budget = reachable(&p);
            prove(&p, &arena, "to the byte, odd sizes");
            break;
        case 3:
            model_instance(&arena, &p, 448, 7, 4096);
            for (long j = 0; j < p.M * p.K; j++) p.score[j] = 5;
            p.exact = true, p.budget = reachable(&p);
            prove(&p, &arena, "all ties, to the byte");
            break;
        case 4:             /* common divisor 48, which the budget has too */
            STATUS(gm_mckp_new(&arena, 448, 7, &p));
            for (long j = 0; j < p.M * p.K; j++)
                p.size[j] = 48 * draw(1 << 20), p.score[j] = draw(3);
            p.exact = true, p.budget = reachable(&p);
            prove(&p, &arena, "few scores, to the byte");
            break;
        default:
            model_instance(&arena, &p, 10000, 3, 64);
            prove(&p, &arena, "10,000 modules of odd sizes");
        }
        gm_arena_free(&arena);
    }
}

/* ------------------------------------------------------------------- limits */

/* Strongly correlated scores with noise, on sizes that are odd by little: no
   proof in little memory.  What comes back is an incumbent, a bound below it,
   and the code of a limit. */
static void test_limits(void) {
    gm_arena arena = {0};
    gm_mckp p;
    gm_certificate t;
    int x[300];
    seed = 3000, counter = 0;
    model_instance(&arena, &p, 300, 7, 4096);
    for (long i = 0; i < 300 * 7; i++)
        p.score[i] = 200000000000 - 153 * p.size[i] + draw(1000000);
    gm_solve_options options = {.solver = GM_DP, .memory = 1 << 20};
    gm_status s = SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t);
    CHECK(s == GM_ELIMIT && t.found && !t.optimal, "status %d: %s", s,
          err.text);
    CHECK(t.memory <= (size_t)1 << 20, "%zu bytes of 1 MiB", t.memory);
    CHECK(t.bound >= t.lp_bound && t.bound < t.objective && t.slack >= 0,
          "bound %" PRId64 ", objective %" PRId64, t.bound, t.objective);
    char expected[200];
    snprintf(expected, sizeof expected, "limit reached before a proof: "
             "objective %" PRId64 ", bound %" PRId64, t.objective, t.bound);
    CHECK_TEXT(err.text, expected);
    options = (gm_solve_options){.solver = GM_DP, .seconds = 1e-9};
    s = SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t);
    CHECK(s == GM_ELIMIT && t.found && t.bound <= t.objective,
          "time: status %d", s);
    if (gm_have_glpk()) {
        options.solver = GM_GLPK;
        s = SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t);
        CHECK(s == GM_ELIMIT && t.found && t.bound <= t.objective,
              "GLPK's time: status %d, %s", s, err.text);
    }
    gm_arena_free(&arena);
}

/* What is refused, word for word. */
static void test_refused(void) {
    gm_arena arena = {0};
    gm_mckp p;
    gm_certificate t;
    gm_solve_options options = {.solver = GM_DP};
    int x[4];
    gm_mckp_new(&arena, 4, 2, &p);
    p.budget = 10;
    p.size[3] = INT64_C(1) << 61;
    CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_EINPUT, "sum");
    CHECK_TEXT(err.text, "integer program: sizes, costs or scores sum to 2^61 "
                         "or more");
    p.size[3] = INT64_MIN;
    CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_EINPUT, "min");
    p.size[3] = 0;
    p.budget = INT64_MAX;
    CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_EINPUT, "max");
    CHECK_TEXT(err.text, "integer program: budget beyond 2^61");
    p.budget = 10;
    p.rows = 17;
    CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_EINPUT, "17");
    CHECK_TEXT(err.text, "integer program: expected at most 16 extra rows, "
                         "found 17");
    gm_row row = {.name = "row", .cost = p.size, .limit = 10};
    p.rows = 1, p.row = &row;
    CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_EUSAGE, "dp");
    CHECK_TEXT(err.text, gm_have_glpk() ? "further resources need GLPK" :
               "further resources need GLPK, and this program was built "
               "without it");
    p.rows = 0, p.M = 0;
    CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_EINPUT, "M");
    CHECK_TEXT(err.text, "integer program: expected at least 1 module and 1 to "
                         "16 candidates, found 0 and 2");
    gm_arena_free(&arena);
}

/* --------------------------------------------------------------------- GLPK */

#ifndef GM_NO_GLPK

static int hush(void *info, const char *text) {
    (void)info, (void)text;
    return 1;
}

/* GLPK's own reader and solver get our LP file to the same optimum. */
static void test_lp_file(void) {
    static const char path[] = "build/test/solver.lp";
    for (long i = 0; i < 60; i++) {
        gm_arena arena = {0};
        gm_mckp p;
        gm_certificate t;
        int *x;
        seed = 4000 + (uint64_t)i, counter = 0;
        if (i % 3) small_instance(&arena, &p, i % 2 ? ANYTHING : BYTES_1E9,
                                  i % 3 == 2);
        else model_instance(&arena, &p, 56, 5, 64);
        x = gm_alloc(&arena, (size_t)p.M, sizeof *x);
        gm_solve_options options = {.solver = GM_GLPK};
        if (SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_OK) {
            options.lp = path;
            gm_status s = SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t);
            glp_term_hook(hush, NULL);
            CHECK(s == GM_OK, "%s", err.text);
            glp_prob *lp = glp_create_prob();
            CHECK(glp_read_lp(lp, NULL, path) == 0, "GLPK reads %s", path);
            glp_iocp c;
            glp_init_iocp(&c);
            c.presolve = GLP_ON, c.mip_gap = 0;
            CHECK(glp_intopt(lp, &c) == 0 && glp_mip_status(lp) == GLP_OPT,
                  "seed %" PRIu64 ": solved", seed);
            /* 17 digits written, sums of at most 280 terms */
            double found = glp_mip_obj_val(lp), expected = (double)t.objective;
            CHECK(fabs(found - expected) <= 1e-9 * fmax(1, fabs(expected)),
                  "seed %" PRIu64 ": optimum of the LP file %.17g, expected "
                  "%.17g", seed, found, expected);
            glp_delete_prob(lp);
        }
        gm_arena_free(&arena);
    }
    glp_term_hook(NULL, NULL);
}

/* GLPK's solver, which may lie: these take the place of the library's. */
enum { HONEST, STOPS, LATE, EMPTY, WORSE, LOOSE, LIES };
static int lie;
static long calls;

int glp_intopt(glp_prob *P, const glp_iocp *options) {
    int (*real)(glp_prob *, const glp_iocp *);
    void *at = dlsym(RTLD_NEXT, "glp_intopt");
    memcpy(&real, &at, sizeof real);
    calls++;
    if (lie == STOPS) return GLP_ESTOP;
    if (lie == EMPTY) return GLP_ENOPFS;
    if (lie == WORSE && calls == 2) glp_set_obj_dir(P, GLP_MAX);
    for (int i = 1; lie == LOOSE && calls > 1 && i <= glp_get_num_rows(P); i++)
        if (glp_get_row_type(P, i) != GLP_FX || glp_get_row_ub(P, i) != 1)
            glp_set_row_bnds(P, i, GLP_FR, 0, 0);
    int code = real(P, options);
    return lie == LATE ? GLP_ETMLIM : code;
}

/* More assignments than are looked at one by one; half of them exact. */
static void long_instance(gm_arena *arena, gm_mckp *p) {
    STATUS(gm_mckp_new(arena, 24, 3, p));
    p->exact = draw(2);
    for (long i = 0; i < p->M * p->K; i++) {
        p->size[i] = i / p->K < 20 ? 6 * draw(20) : draw(60);
        p->score[i] = draw(1000);
        if (i % p->K == 0) p->budget += p->size[i];
    }
}

/* Whatever GLPK claims, no answer but the dynamic program's is called optimal
   where both run; alone, what the constraints or what it says next refute proves
   nothing, and all assignments are looked at where they are few. */
static void test_lies(void) {
    long said[LIES] = {0};
    for (int i = 0; i < 100 * LIES; i++) {
        gm_arena arena = {0};
        gm_mckp p;
        gm_certificate t, truth;
        int x[64], y[64];
        const bool few = i / LIES % 2;
        lie = HONEST;
        seed = 8000 + (uint64_t)i, counter = 0;
        if (few) small_instance(&arena, &p, ANYTHING, 0);
        else long_instance(&arena, &p);
        gm_solve_options options = {.solver = GM_DP};
        gm_status s = SOLVED(gm_mckp_solve(&arena, &p, &options, x, &truth), truth);
        for (int alone = 0; s == GM_OK && alone < 2; alone++) {
            lie = i % LIES, calls = few || lie == WORSE;
            options.solver = alone ? GM_GLPK : GM_BOTH;
            s = SOLVED(gm_mckp_solve(&arena, &p, &options, y, &t), t);
            said[lie] += alone ? s != GM_OK || t.enumerated : !t.agreed;
            if (alone && few && lie == WORSE && t.optimal && !t.enumerated)
                continue;               /* nothing can tell */
            CHECK(s == GM_OK ? t.optimal && t.objective == truth.objective &&
                  (!t.unique_rule || !memcmp(x, y, (size_t)p.M * sizeof *x))
                  : alone && (lie == EMPTY || (lie > HONEST && !few &&
                    s == GM_ELIMIT && t.bound <= truth.objective)),
                  "lie %d, seed %" PRIu64 ", alone %d: status %d, %" PRId64
                  ", truly %" PRId64, lie, seed, alone, s, t.objective,
                  truth.objective);
        }
        gm_arena_free(&arena);
    }
    lie = HONEST;
    for (int i = STOPS; i < LIES; i++)
        CHECK(said[i] > 0, "lie %d was never told", i);
}

/* Where the dynamic program's memory ends at once, GLPK's proof stands. */
static void test_one_of_both(void) {
    long unaided = 0;
    for (uint64_t i = 0; i < 20; i++) {
        gm_arena arena = {0};
        gm_mckp p;
        gm_certificate t, alone;
        int x[30];
        seed = 9000 + i, counter = 0;
        STATUS(gm_mckp_new(&arena, 30, 5, &p));
        for (long j = 0; j < 150; j++)
            p.size[j] = 1 + draw(1000), p.score[j] = draw(1000);
        p.budget = 30 * 450;
        gm_solve_options options = {.solver = GM_DP};
        CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &alone), alone) == GM_OK,
              "%s", err.text);
        options = (gm_solve_options){.solver = GM_BOTH, .memory = 1};
        CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_OK &&
              t.optimal && t.objective == alone.objective,
              "seed %" PRIu64 ": GLPK alone: %s", seed, err.text);
        unaided += !t.agreed;
        gm_arena_free(&arena);
    }
    CHECK(unaided > 5, "GLPK alone in %ld of 20", unaided);
}

/* Exhausted memory inside GLPK is an error of ours, and GLPK works again
   afterwards. */
static void test_glpk_errors(void) {
    gm_arena arena = {0};
    gm_mckp p;
    gm_certificate t;
    seed = 5000, counter = 0;
    model_instance(&arena, &p, 448, 16, 64);
    gm_row row = {.name = "row", .limit = 1 << 20};
    p.rows = 1, p.row = &row;           /* keeps all columns alive */
    row.cost = gm_alloc(&arena, 448 * 16, sizeof *row.cost);
    for (long i = 0; i < 448 * 16; i++) row.cost[i] = draw(100);
    int x[448];
    gm_solve_options options = {.solver = GM_GLPK};
    glp_mem_limit(1);
    gm_status s = SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t);
    CHECK(s == GM_EMEM && strncmp(err.text, "GLPK gave up: ", 14) == 0,
          "status %d: %s", s, err.text);
    p.rows = 0;
    s = SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t);
    CHECK(s == GM_OK && t.optimal, "after the error: %d %s", s, err.text);
    gm_arena_free(&arena);
}

#endif

/* Without GLPK the program says so and solves on the dynamic program. */
static void test_without_glpk(void) {
    gm_arena arena = {0};
    gm_mckp p;
    gm_certificate t;
    int x[2];
    gm_mckp_new(&arena, 2, 1, &p);
    gm_solve_options options = {.solver = GM_GLPK};
    gm_status s = SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t);
    CHECK(s == (gm_have_glpk() ? GM_OK : GM_EUSAGE), "glpk: %d", s);
    if (!gm_have_glpk())
        CHECK_TEXT(err.text, "this program was built without GLPK (make "
                             "GLPK=0)");
    CHECK((strcmp(gm_glpk_version(), "none") == 0) == !gm_have_glpk(), "%s",
          gm_glpk_version());
    options.solver = GM_BOTH;
    CHECK(SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t) == GM_OK &&
          t.dp_ran && t.glpk_ran == gm_have_glpk(), "both: %s", err.text);
    gm_arena_free(&arena);
}

/* ------------------------------------------------------------------ HAWQ-V3 */

/* 19 layers at 4 or 8 bits; cost4, cost8 and limit in one unit. */
static void hawq(int which, const double *gain, const int64_t *cost4,
                 const int64_t *cost8, int64_t limit, const int64_t *fused,
                 const char *bits, double objective) {
    static const gm_solver ways[] = {GM_DP, GM_GLPK, GM_BOTH};
    gm_arena arena = {0};
    gm_mckp p;
    gm_certificate t;
    long group[19];
    gm_mckp_new(&arena, 19, 2, &p);
    for (long m = 0; m < 19; m++) {
        group[m] = -1;
        p.size[2 * m] = cost4[m], p.size[2 * m + 1] = cost8[m];
        p.score[2 * m + 1] = llround(ldexp(gain[m], 30));
    }
    for (int i = 0; i < 3; i++)
        group[fused[2 * i]] = group[fused[2 * i + 1]] = i;
    p.group = group;
    p.budget = limit;
    /* the last: nothing but an extra row limits the cost */
    gm_row row = {.name = "cost", .cost = p.size, .limit = limit};
    for (int way = 0; way < 4; way++) {
        int x[19];
        char found[20] = "";
        double sum = 0;
        gm_solve_options options = {.solver = ways[way % 3]};
        if (way && !gm_have_glpk()) continue;
        if (way == 3) {
            p.row = &row, p.rows = 1;
            p.size = gm_alloc(&arena, 38, sizeof *p.size);
            options.solver = GM_BOTH;
        }
        gm_status s = SOLVED(gm_mckp_solve(&arena, &p, &options, x, &t), t);
        CHECK(s == GM_OK && t.optimal, "HAWQ %d, way %d: %s", which, way,
              err.text);
        for (int m = 0; m < 19; m++) {
            found[m] = (char)('1' + x[m]);
            sum += x[m] * gain[m];
        }
        CHECK_TEXT(found, bits);
        /* six decimals are stated */
        CHECK(fabs(sum - objective) <= 0.5e-6, "HAWQ %d: objective %.9f, "
              "expected %.6f", which, sum, objective);
    }
    gm_arena_free(&arena);
}

static void test_hawq(void) {
    static const char path[] = "tests/golden/hawq-v3.vec";
    gm_vec trace = vec_read(path, "trace"), d8 = vec_read(path, "delta8"),
           d4 = vec_read(path, "delta4"), n = vec_read(path, "parameters"),
           bops = vec_read(path, "bops"), l4 = vec_read(path, "latency4_1e8"),
           l8 = vec_read(path, "latency8_1e8"), fused = vec_read(path, "fused"),
           objective = vec_read(path, "objective"),
           bits[3] = {vec_read(path, "bits_size"), vec_read(path, "bits_bops"),
                      vec_read(path, "bits_latency")};
    double gain[19];
    int64_t cost[3][2][19], limit[3] = {0};
    for (int m = 0; m < 19; m++) {
        gain[m] = trace.f[m] * (d8.f[m] - d4.f[m]);
        /* half way between all 4 and all 8 bits: costs doubled, limits summed;
           operations at b bits: bops (b / 32)^2, here times 128 */
        cost[0][0][m] = 8 * n.i[m], cost[0][1][m] = 16 * n.i[m];
        cost[1][0][m] = 2 * bops.i[m], cost[1][1][m] = 8 * bops.i[m];
        cost[2][0][m] = 2 * l4.i[m], cost[2][1][m] = 2 * l8.i[m];
        for (int c = 0; c < 3; c++)
            limit[c] += (cost[c][0][m] + cost[c][1][m]) / 2;
    }
    for (int c = 0; c < 3; c++)
        hawq(c, gain, cost[c][0], cost[c][1], limit[c], fused.i, bits[c].s,
             objective.f[c]);
    gm_vec *all[] = {&trace, &d8, &d4, &n, &bops, &l4, &l8, &fused, &objective,
                     &bits[0], &bits[1], &bits[2]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) vec_free(all[i]);
}

static int test_main(void) {
    test_enumeration(6000);
    test_dense(80);
    test_large();
    test_single();
    test_unreachable();
    test_hard();
    test_limits();
    test_refused();
    test_hawq();
    test_without_glpk();
#ifndef GM_NO_GLPK
    test_lp_file();
    test_lies();
    test_one_of_both();
    test_glpk_errors();
#endif
    return test_end("test_solver");
}

TEST_MAIN(test_main())
