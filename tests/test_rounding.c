/* test_rounding.c: scores of any range through Stage II's integers: against
   enumeration with exact sums of doubles.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

static int64_t draw(uint64_t seed, uint64_t stream, long i, int64_t n) {
    return (int64_t)(gm_random(seed, stream, (uint64_t)i) % (uint64_t)n);
}

/* The truth by exact sums: n doubles as an expansion (Shewchuk 1997), whose last
   component has the sign of the whole.  Nothing overflows here; sums of doubles
   have no underflow. */
static double exact_sum(int n, const double *x) {
    double part[16];
    int parts = 0;
    for (int i = 0; i < n; i++) {
        double q = x[i];
        int kept = 0;
        for (int j = 0; j < parts; j++) {
            const double sum = q + part[j], b = sum - q;
            const double error = (q - (sum - b)) + (part[j] - b);
            if (error != 0) part[kept++] = error;
            q = sum;
        }
        part[kept++] = q, parts = kept;
    }
    double sum = 0;
    for (int j = 0; j < parts; j++) sum += part[j];
    return sum;
}

/* How far the real scores of x lie above those of y, to the last bit or two. */
static double above(const gm_mckp *p, const int *x, const int *y) {
    double term[16];
    for (long m = 0; m < p->M; m++) {
        term[2 * m] = p->scores->score[m * p->K + x[m]];
        term[2 * m + 1] = -p->scores->score[m * p->K + y[m]];
    }
    return exact_sum(2 * (int)p->M, term);
}

enum { ANY_SIZE, ONE_HUGE, SUBNORMAL, WHOLE, OFFSET, ORDINARY, MIXED, LARGEST,
       RANGES };

static double one_score(int family, uint64_t seed, long i) {
    const double x = gm_uniform(seed, 9, (uint64_t)i);
    const int64_t n = draw(seed, 10, i, 12);
    switch (family) {
    case ANY_SIZE: return pow(10, 600 * x - 300);
    case ONE_HUGE: return n ? 0.01 * x : 1e9;
    case SUBNORMAL: return n < 8 ? (double)n * 5e-324 : n < 10 ? x : 1e300 * x;
    case WHOLE: return (double)n - 3;
    case OFFSET: return 1e9 + x * pow(10, -(double)n);
    case ORDINARY: return x;
    case MIXED: return (n % 2 ? -x : x) * pow(10, (double)(n - 6) * 20);
    default: return n < 6 ? 7e306 * x : x;
    }
}

/* The first, in the tie rule's order, of the least exact sums; false: none. */
static bool least_exact(const gm_mckp *p, int *least) {
    int x[8] = {0};
    bool found = false;
    int64_t smallest = 0;
    for (long m = 0; m >= 0;) {
        int64_t size = 0;
        bool good = true;
        for (long j = 0; j < p->M; j++) {
            size += p->size[j * p->K + x[j]];
            good = good && p->allowed[j * p->K + x[j]];
            for (long i = 0; p->group && i < j; i++)
                good = good && (p->group[i] != p->group[j] || x[i] == x[j] ||
                                p->group[i] < 0);
        }
        if (good && (p->exact ? size == p->budget : size <= p->budget)) {
            const double more = found ? above(p, x, least) : -1;
            if (more < 0 || (more == 0 && size < smallest))
                memcpy(least, x, sizeof x), smallest = size;
            found = true;
        }
        for (m = p->M - 1; m >= 0 && ++x[m] == p->K; m--) x[m] = 0;
    }
    return found;
}

/* The least difference > 0 of two scores of one module. */
static double apart(const gm_mckp *p) {
    double least = INFINITY;
    for (long i = 0; i < p->M * p->K; i++)
        for (long j = i / p->K * p->K; j < i; j++) {
            const double d = fabs(p->scores->score[i] - p->scores->score[j]);
            if (d > 0 && p->allowed[i] && p->allowed[j]) least = fmin(least, d);
        }
    return least;
}

/* Proven: no assignment is better by more than half of that; else the message
   says by how much at most.  The worst case must be an honest one: of families
   whose integers hold all scores, the truth itself. */
static void any_range(int instances) {
    long proven[RANGES] = {0}, exact[RANGES] = {0}, doubt[RANGES] = {0};
    for (int n = 0; n < instances; n++) {
        gm_arena a = {0};
        gm_scores s;
        gm_mckp p;
        gm_certificate c;
        gm_budget budget = {GM_BITS, 0, "?"};
        const uint64_t seed = (uint64_t)n + 50000;
        const int family = n % RANGES, bits[] = {2, 3, 4, 8};
        const int K = 2 + (int)draw(seed, 0, 0, 3);
        const long M = 1 + draw(seed, 0, 1, 6);
        int x[8] = {0}, y[8] = {0};
        gm_scores_new(&a, M, K, bits, &s);
        for (long m = 0; m < M; m++) {
            s.name[m] = "m", s.weights[m] = 1 + draw(seed, 1, m, 9);
            s.N += s.weights[m];
            for (int k = 0; k < K; k++)
                s.score[m * K + k] = one_score(family, seed, m * K + k);
        }
        budget.limit = s.N * 2 + draw(seed, 2, 0, s.N * (bits[K - 1] - 2) + 1);
        CHECK(STATUS(gm_problem_build(&a, &s, &budget, 30, &p)) == GM_OK, "%s",
              err.text);
        p.exact = draw(seed, 3, 0, 6) == 0;
        if (draw(seed, 3, 1, 4) == 0)
            p.allowed[draw(seed, 4, 0, M * K)] = false;
        if (draw(seed, 3, 2, 4) == 0) {
            p.group = gm_alloc(&a, (size_t)M, sizeof *p.group);
            for (long m = 0; m < M; m++) p.group[m] = draw(seed, 5, m, 3) - 1;
        }
        gm_solve_options o = {.solver = n % 16 < 8 || !gm_have_glpk()
                                            ? GM_DP : GM_BOTH};
        const bool found = least_exact(&p, y);
        const gm_status got = SOLVED(gm_mckp_solve(&a, &p, &o, x, &c), c);
        CHECK(found == (got != GM_EINFEASIBLE), "seed %d: %s", n, err.text);
        CHECK(p.shift <= 1074, "instance %d: shift %d", n, p.shift);
        if (got == GM_OK) {
            const double loss = above(&p, x, y);
            proven[family]++, exact[family] += !memcmp(x, y, sizeof x);
            CHECK(c.optimal && loss <= apart(&p) / 2, "family %d, instance %d: "
                  "proven, but loses %g of %g", family, n, loss, apart(&p));
        } else if (found) {
            const char *at = strstr(c.why, "a loss of ");
            doubt[family]++;
            CHECK(got == GM_ELIMIT && c.rounded && !c.optimal && at &&
                  above(&p, x, y) <= strtod(at + 10, NULL), "family %d, "
                  "instance %d: %d, \"%s\", loses %g", family, n, got, c.why,
                  above(&p, x, y));
        }
        gm_arena_free(&a);
    }
    for (int f = 0; f < RANGES; f++) {
        const bool holds = f == ONE_HUGE || f == WHOLE || f == OFFSET ||
                           f == ORDINARY;
        CHECK(proven[f] > instances / 40 && exact[f] >= proven[f] - 1 &&
              (holds ? doubt[f] == 0 : doubt[f] > 100), "family %d: %ld "
              "proven, %ld the truth itself, %ld in doubt", f, proven[f],
              exact[f], doubt[f]);
    }
}

static int test_main(void) {
    any_range(20000);
    return test_end("test_rounding");
}

TEST_MAIN(test_main())
