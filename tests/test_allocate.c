/* test_allocate.c: Stage II against full enumeration, with the documented
   ties; both solvers; budgets in every convention; infeasible and exact
   answers; scores.tsv and alloc.tsv read back as written.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd/cmd.h"
#include "test.h"

#include <stdlib.h>

static const char work[] = "build/test/allocate-work";

/* ------------------------------------------------------------- enumeration */

typedef struct { bool found; int64_t score, size; int choice[8]; } best;

/* All K^M assignments in lexicographic order, module 0 slowest: the first with
   the smallest score, then size, is the documented answer. */
static best enumerate(const gm_mckp *p) {
    best b = {0};
    long total = 1;
    for (long m = 0; m < p->M; m++) total *= p->K;
    for (long code = 0; code < total; code++) {
        int64_t score = 0, size = 0;
        int choice[8];
        bool allowed = true;
        long rest = code;
        for (long m = p->M - 1; m >= 0; m--, rest /= p->K) {
            long i = m * p->K + rest % p->K;
            choice[m] = (int)(rest % p->K);
            score += p->score[i];
            size += p->size[i];
            allowed = allowed && p->allowed[i];
        }
        if (!allowed || (p->exact ? size != p->budget : size > p->budget))
            continue;
        if (b.found && (score > b.score ||
                        (score == b.score && size >= b.size)))
            continue;
        b.found = true, b.score = score, b.size = size;
        memcpy(b.choice, choice, sizeof choice);
    }
    return b;
}

static int64_t draw(uint64_t seed, uint64_t stream, long i, int64_t n) {
    return (int64_t)(gm_random(seed, stream, (uint64_t)i) % (uint64_t)n);
}

/* Families: 0 anything, 1 few distinct values (ties), 2 byte sizes near 1e7,
   3 score falls exactly with size (strongly correlated), 4 all equal sizes,
   5 zero scores. */
static void make(gm_mckp *p, int family, uint64_t seed) {
    int64_t least = 0, most = 0;
    for (long m = 0; m < p->M; m++) {
        int64_t low = INT64_MAX, high = 0;
        for (int k = 0; k < p->K; k++) {
            long i = m * p->K + k;
            int64_t size = 1 + draw(seed, 1, i, 50);
            int64_t score = draw(seed, 2, i, 1000);
            if (family == 1) size = 1 + size % 4, score %= 4;
            if (family == 2) size = 10000000 + draw(seed, 3, i, 1000000);
            if (family == 3) score = 1000 - 7 * size;
            if (family == 4) size = 64 * (k + 1);
            if (family == 5) score = 0;
            p->size[i] = size, p->score[i] = score;
            p->allowed[i] = k == 0 || draw(seed, 4, i, 10) > 0;
            if (p->allowed[i] && size < low) low = size;
            if (p->allowed[i] && size > high) high = size;
        }
        least += low, most += high;
    }
    /* from just below feasible to just above the largest */
    p->budget = least - 1 + draw(seed, 5, 0, most - least + 3);
    p->exact = draw(seed, 6, 0, 4) == 0;
}

static void equals_enumeration(gm_solver solver, int instances) {
    const char *name[] = {"both", "dp", "glpk"};
    long infeasible = 0, ties = 0;
    for (int n = 0; n < instances; n++) {
        gm_arena a = {0};
        gm_mckp p;
        gm_certificate c;
        gm_solve_options o = {.solver = solver, .seconds = 20};
        int choice[8] = {0};
        long M = 1 + n % 6;
        int K = 1 + n / 6 % 4;
        gm_mckp_new(&a, M, K, &p);
        make(&p, n % 7 % 6, (uint64_t)n + 1000);
        best b = enumerate(&p);
        gm_status s = SOLVED(gm_mckp_solve(&a, &p, &o, choice, &c), c);
        infeasible += !b.found;
        CHECK(s == (b.found ? GM_OK : GM_EINFEASIBLE), "%s, instance %d: status "
              "%d: %s", name[solver], n, s, err.text);
        if (!s) {
            CHECK(c.optimal && c.objective == b.score && c.size == b.size,
                  "%s, instance %d: objective %lld size %lld, enumeration %lld "
                  "%lld", name[solver], n, (long long)c.objective,
                  (long long)c.size, (long long)b.score, (long long)b.size);
            CHECK(memcmp(choice, b.choice, (size_t)M * sizeof *choice) == 0,
                  "%s, instance %d: another assignment of the same value",
                  name[solver], n);
            CHECK(c.bound == b.score && c.lp_bound <= b.score, "%s, instance "
                  "%d: bound %lld, LP bound %lld, optimum %lld", name[solver],
                  n, (long long)c.bound, (long long)c.lp_bound,
                  (long long)b.score);
            ties += n % 7 == 1;
        }
        gm_arena_free(&a);
    }
    CHECK(infeasible > 10 && ties > 10, "%s: %ld infeasible, %ld with ties: too "
          "few to mean anything", name[solver], infeasible, ties);
}

/* ------------------------------------------------------------------- tables */

/* Three modules of 100 weights, bits 2, 3, 4; scores chosen by hand. */
static void three_modules(gm_arena *a, gm_scores *s) {
    static const int bits[3] = {2, 3, 4};
    static const double score[9] = {9, 4, 0, 5, 1, 0, 1, 0.5, 0};
    CHECK(STATUS(gm_scores_new(a, 3, 3, bits, s)) == GM_OK, "%s", err.text);
    s->overhead = 1000;
    for (long m = 0; m < 3; m++) {
        s->name[m] = gm_format(a, "model.layers.%ld.mlp.up_proj", m);
        s->out[m] = s->in[m] = 10;
        s->N += s->weights[m] = 100;
        for (int k = 0; k < 3; k++) {
            long i = m * 3 + k;
            s->bytes[i] = 30 + 13 * k;
            s->score[i] = score[i];
            s->error[i] = 0.25;
        }
    }
}

/* Budget 3 bits: 900 code bits.  By hand: 4 3 2 (0 + 1 + 1 = 2) is the best of
   the assignments within; 4 4 2 needs 1000. */
static void by_hand(void) {
    gm_arena a = {0};
    gm_scores s, back;
    gm_budget budget;
    gm_certificate c;
    gm_allocation allocation, read;
    gm_solve_options o = {.solver = GM_BOTH, .seconds = 20};
    if (!gm_have_glpk()) o.solver = GM_DP;
    int choice[3];
    three_modules(&a, &s);
    CHECK(STATUS(gm_scores_write(&a, "build/test/allocate-work/s.tsv", &s)) ==
          GM_OK, "%s", err.text);
    CHECK(STATUS(gm_scores_read(&a, "build/test/allocate-work/s.tsv", &back)) ==
          GM_OK, "%s", err.text);
    CHECK(back.M == 3 && back.K == 3 && back.N == 300 && back.overhead == 1000,
          "header: %ld %d %lld", back.M, back.K, (long long)back.N);
    for (int i = 0; i < 9; i++)
        CHECK(back.score[i] == s.score[i] && back.bytes[i] == s.bytes[i] &&
              back.error[i] == 0.25, "entry %d", i);
    CHECK(STATUS(budget = gm_budget_parse(&back, GM_BITS, "3")) == GM_OK,
          "%s", err.text);
    CHECK(SOLVED(gm_allocate(&a, &back, &budget, &o, choice, &c, &allocation), c) ==
          GM_OK, "%s", err.text);
    CHECK(choice[0] == 2 && choice[1] == 1 && choice[2] == 0, "choice %d %d %d",
          choice[0], choice[1], choice[2]);
    gm_sizes z = gm_sizes_of(&back, choice);
    CHECK(z.code_bits == 900 && z.effective_bits == 8 * 129 &&
          z.file_bytes == 1129, "sizes %lld %lld %lld", (long long)z.code_bits,
          (long long)z.effective_bits, (long long)z.file_bytes);
    const char *path = "build/test/allocate-work/a.tsv";
    CHECK(STATUS(gm_allocation_write(&a, path, &allocation)) == GM_OK, "%s",
          err.text);
    CHECK(STATUS(gm_allocation_read(&a, path, &read)) == GM_OK, "%s", err.text);
    int again[3];
    CHECK(STATUS(gm_allocation_match(&read, &back, again)) == GM_OK &&
          !memcmp(choice, again, sizeof again), "%s", err.text);
    /* the same budget in the other conventions */
    static const struct { gm_convention in; const char *text; } same[] = {
        {GM_EBITS, "3.44"}, {GM_BYTES, "1129"}, {GM_BYTES, "1.129K"}};
    for (int i = 0; i < 3; i++) {
        CHECK(STATUS(budget = gm_budget_parse(&back, same[i].in, same[i].text)) == GM_OK, "%s", err.text);
        CHECK(SOLVED(gm_allocate(&a, &back, &budget, &o, choice, &c, &allocation), c) == GM_OK && !memcmp(choice, again, 12),
              "%s %s: %s", gm_convention_name(same[i].in), same[i].text,
              err.text);
    }
    gm_arena_free(&a);
}

/* The largest score is 9 < 2^4, so is the range: 30 bits leave a shift of 26,
   bound M 2^-26.  And what a module does not have is never taken: without the
   4 bits of module 0, 3 4 2 (4 + 0 + 1) is the best of 900 code bits, whatever
   score stands in the empty place. */
static void absent(void) {
    gm_arena a = {0};
    gm_scores s;
    gm_mckp p;
    gm_budget budget;
    gm_certificate c;
    gm_solve_options o = {.solver = GM_DP};
    int choice[3];
    three_modules(&a, &s);
    s.bytes[2] = -1;
    CHECK(STATUS(budget = gm_budget_parse(&s, GM_BITS, "3")) == GM_OK &&
          STATUS(gm_problem_build(&a, &s, &budget, 30, &p)) == GM_OK &&
          SOLVED(gm_mckp_solve(&a, &p, &o, choice, &c), c) == GM_OK, "%s", err.text);
    CHECK(!p.allowed[2] && choice[0] == 1 && choice[1] == 2 && choice[2] == 0,
          "allowed %d; choice %d %d %d", p.allowed[2], choice[0], choice[1],
          choice[2]);
    CHECK(p.shift == 27, "shift %d: range 5, of 9 - 4, 5 - 0, 1 - 0", p.shift);
    three_modules(&a, &s);
    CHECK(STATUS(gm_problem_build(&a, &s, &budget, 30, &p)) == GM_OK, "%s",
          err.text);
    CHECK(p.shift == 26 && p.rounding == 3 * 0x1p-26, "shift %d, bound %g",
          p.shift, p.rounding);
    gm_arena_free(&a);
}

/* A whole model's problem: 448 modules, 7 candidates, byte sizes; the two
   solvers agree and no size exceeds the budget. */
static void large(uint64_t seed) {
    gm_arena a = {0};
    gm_mckp p;
    gm_certificate c;
    gm_solve_options o = {.solver = gm_have_glpk() ? GM_BOTH : GM_DP,
                          .seconds = 60};
    static int choice[448];
    gm_mckp_new(&a, 448, 7, &p);
    int64_t least = 0, most = 0;
    for (long m = 0; m < 448; m++) {
        int64_t n = 1000000 + draw(seed, 1, m, 20000000);
        int64_t weight = 1 + draw(seed, 2, m, 1000);
        for (int k = 0; k < 7; k++) {
            p.size[m * 7 + k] = n * (k + 2) / 8 + n / 32;
            p.score[m * 7 + k] = weight * (1 << 20) >> (2 * k);
        }
        least += p.size[m * 7];
        most += p.size[m * 7 + 6];
    }
    p.budget = least + draw(seed, 3, 0, most - least);
    gm_status s = SOLVED(gm_mckp_solve(&a, &p, &o, choice, &c), c);
    CHECK(s == GM_OK && c.optimal && (c.agreed || !gm_have_glpk()), "seed %d: "
          "status %d: %s", (int)seed, s, err.text);
    int64_t size = 0, score = 0;
    for (long m = 0; m < 448; m++) {
        size += p.size[m * 7 + choice[m]];
        score += p.score[m * 7 + choice[m]];
    }
    CHECK(size == c.size && size <= p.budget && score == c.objective,
          "seed %d: size %lld stated %lld, budget %lld", (int)seed,
          (long long)size, (long long)c.size, (long long)p.budget);
    gm_arena_free(&a);
}

static void refusals(void) {
    gm_arena a = {0};
    gm_scores s;
    gm_budget budget;
    gm_certificate c;
    gm_allocation allocation;
    gm_solve_options o = {.solver = GM_DP};
    int choice[3];
    three_modules(&a, &s);
    CHECK(STATUS(budget = gm_budget_parse(&s, GM_BITS, "1.99")) == GM_OK,
          "%s", err.text);
    CHECK(SOLVED(gm_allocate(&a, &s, &budget, &o, choice, &c, &allocation), c) ==
          GM_EINFEASIBLE, "below the smallest");
    CHECK(c.reach.smallest == 600 && c.reach.largest == 1200, "range %lld..%lld",
          (long long)c.reach.smallest, (long long)c.reach.largest);
    CHECK_TEXT(err.text, "a budget of 1.99 bits: no assignment is that small; "
               "reachable "
               "are 2 to 4 bits per weight, next below: none, above: 2");
    const char *bad[] = {"-1", "0", "x", "2.5M", "nan"};
    for (int i = 0; i < 5; i++) {
        char expected[160];
        snprintf(expected, sizeof expected, "budget: expected a positive "
                 "decimal number of bits per weight, such as 2.5, found \"%s\"",
                 bad[i]);
        CHECK(STATUS(budget = gm_budget_parse(&s, GM_BITS, bad[i])) ==
              GM_EUSAGE, "accepted %s", bad[i]);
        CHECK_TEXT(err.text, expected);
    }
    CHECK(STATUS(budget = gm_budget_parse(&s, GM_BITS, "99")) == GM_OK, "%s",
          err.text);
    CHECK(SOLVED(gm_allocate(&a, &s, &budget, &o, choice, &c, &allocation), c) ==
          GM_OK && c.objective == 0 && c.size == 1200, "above the largest: all "
          "at their best");
    CHECK(STATUS(budget = gm_budget_parse(&s, GM_BYTES, "1089")) == GM_OK &&
          SOLVED(gm_allocate(&a, &s, &budget, &o, choice, &c, &allocation), c) ==
              GM_EINFEASIBLE, "%s", err.text);
    CHECK_TEXT(err.text, "a budget of 1089 bytes: no assignment is that small; "
               "reachable "
               "are 1090 to 1168 file bytes, next below: none, above: 1090");
    s.path = "s.tsv", s.score[0] = 1e308, s.score[2] = -1e308;
    CHECK(SOLVED(gm_allocate(&a, &s, &budget, &o, choice, &c, &allocation), c) ==
          GM_EINPUT, "2e308");
    CHECK_TEXT(err.text, "s.tsv: scores sum to more than half the largest double");
    gm_arena_free(&a);
}

static int test_main(void) {
    STATUS(gm_make_dir(work));
    equals_enumeration(GM_DP, 3000);
    if (gm_have_glpk()) {
        equals_enumeration(GM_GLPK, 600);
        equals_enumeration(GM_BOTH, 600);
    }
    by_hand();
    absent();
    for (uint64_t seed = 1; seed <= 3; seed++) large(seed);
    refusals();
    return test_end("test_allocate");
}

TEST_MAIN(test_main())
