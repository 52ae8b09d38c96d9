/* test_rivals.c: every method stays within every budget in every convention,
   gives the same answer twice, and does what its equation says.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd/cmd.h"
#include "large.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

enum { S = 2, T = 16 };
static const char work[] = "build/test/rivals-work";

typedef struct {
    gm_arena arena;
    gm_model model;
    gm_candidates candidates;
    int32_t tokens[S * T];
    gm_rivals_options options;
    gm_rivals *rivals;
    const gm_scores *table;
    int *choice, *other;
} fixture;

static void fixture_begin(fixture *f, const char *dir, const char *bits) {
    gm_recipe recipe;
    memset(f, 0, sizeof *f);
    gm_arena *a = &f->arena;
    gm_status s = STATUS(gm_model_open(a, dir, &f->model));
    if (!s) s = STATUS(gm_recipe_parse(bits, 32, &recipe));
    if (!s) s = STATUS(gm_candidates_open(a, &f->model, &recipe, NULL, work, NULL,
                                   &f->candidates));
    for (int i = 0; i < S * T; i++)
        f->tokens[i] = (int32_t)(gm_random(5, 0, (uint64_t)i) %
                                 (uint64_t)f->model.config.vocab);
    f->options = (gm_rivals_options){.candidates = &f->candidates,
                                     .text = {f->tokens, S, T},
                                     .evaluations = 3, .seed = 7};
    if (!s) s = STATUS(f->rivals = gm_rivals_begin(a, &f->options, NULL));
    CHECK(s == GM_OK, "%s: %s", dir, err.text);
    if (s) exit(test_end("test_rivals"));
    f->table = gm_rivals_table(f->rivals);
    f->choice = gm_alloc(a, (size_t)f->table->M, sizeof *f->choice);
    f->other = gm_alloc(a, (size_t)f->table->M, sizeof *f->other);
}

static void fixture_end(fixture *f) {
    gm_candidates_close(&f->candidates);
    gm_model_close(&f->model);
    gm_arena_free(&f->arena);
}

static int64_t size_in(const fixture *f, gm_convention c, const int *choice) {
    gm_sizes z = gm_sizes_of(f->table, choice);
    return c == GM_BITS ? z.code_bits
         : c == GM_EBITS ? z.effective_bits : z.file_bytes;
}

static gm_status rivals(fixture *f, gm_rivals **r) {
    return STATUS(*r = gm_rivals_begin(&f->arena, &f->options, NULL));
}

static gm_status objective(fixture *f, gm_objective **o) {
    return STATUS(*o = gm_objective_begin(&f->arena, &f->candidates,
                                          &f->options.text, true, NULL));
}

static gm_status chosen(gm_rivals *r, gm_method method, const gm_budget *budget,
                        int *choice, gm_effort *effort) {
    return STATUS(*effort = gm_rivals_choose(r, method, budget, choice, NULL));
}

static gm_status choose(fixture *f, gm_method method, const gm_budget *budget,
                        int *choice) {
    gm_effort effort;
    return chosen(f->rivals, method, budget, choice, &effort);
}

/* Modules whose next candidate up would still fit. */
static long could_rise(const fixture *f, const gm_budget *b, int *choice) {
    long n = 0;
    for (long m = 0; m < f->table->M; m++) {
        if (choice[m] + 1 == f->table->K) continue;
        choice[m]++;
        n += size_in(f, b->convention, choice) <= b->limit;
        choice[m]--;
    }
    return n;
}

static bool same(const fixture *f, const int *a, const int *b) {
    return !memcmp(a, b, (size_t)f->table->M * sizeof *a);
}

/* Budgets from the least size to beyond the most, in each convention. */
static void feasible_everywhere(fixture *f, gm_method method, bool full,
                                int steps) {
    const gm_scores *t = f->table;
    const char *name = gm_method_name(method);
    for (int c = GM_BITS; c <= GM_BYTES; c++) {
        for (long m = 0; m < t->M; m++)
            f->choice[m] = 0, f->other[m] = t->K - 1;
        int64_t low = size_in(f, (gm_convention)c, f->choice);
        int64_t high = size_in(f, (gm_convention)c, f->other);
        for (int i = 0; i <= steps + 1; i++) {
            gm_budget b = {(gm_convention)c, low + (high - low) * i / steps,
                           "x"};
            gm_status s = choose(f, method, &b, f->choice);
            CHECK(s == GM_OK, "%s: %s", name, err.text);
            int64_t size = size_in(f, b.convention, f->choice);
            CHECK(size <= b.limit, "%s: size %lld over budget %lld", name,
                  (long long)size, (long long)b.limit);
            CHECK(!full || could_rise(f, &b, f->choice) == 0, "%s leaves "
                  "room", name);
            s = choose(f, method, &b, f->other);
            CHECK(!s && same(f, f->choice, f->other), "%s: another answer the "
                  "second time", name);
        }
        gm_budget b = {(gm_convention)c, low - 1, "1"};
        CHECK(choose(f, method, &b, f->choice) == GM_EINFEASIBLE,
              "%s below the least size", name);
    }
}

/* The message is the solver's own. */
static void infeasible_message(fixture *f) {
    gm_error expected;
    gm_certificate t;
    gm_allocation allocation;
    gm_solve_options o = {.solver = GM_DP};
    gm_budget b;
    static const char *const text[] = {"1.75", "2.25", "20K"};
    for (int c = GM_BITS; c <= GM_BYTES; c++) {
        b = gm_budget_parse(f->table, (gm_convention)c, text[c]);
        CHECK(STATUS(gm_allocate(&f->arena, f->table, &b, &o, f->choice, &t,
                                 &allocation)) == GM_EINFEASIBLE, "solver");
        expected = err;
        CHECK(choose(f, GM_RANDOM, &b, f->choice) == GM_EINFEASIBLE,
              "random");
        CHECK_TEXT(err.text, expected.text);
    }
    b = gm_budget_parse(f->table, GM_BITS, "1.75");
    choose(f, GM_EVOLVE, &b, f->choice);
    CHECK_TEXT(err.text, "a budget of 1.75 bits: no assignment is that small; "
               "reachable "
               "are 2 to 8 bits per weight, next below: none, above: 2");
}

/* ------------------------------------------- uniform, ends high, random */

/* m-th module in the order in which `method` raises. */
static long raised_in_order(const gm_scores *t, gm_method method, long i) {
    long l = i / GM_LINEARS, L = t->M / GM_LINEARS;
    return (method == GM_LAST_HIGH ? L - 1 - l : l) * GM_LINEARS +
           i % GM_LINEARS;
}

static void simple_methods(fixture *f) {
    const gm_scores *t = f->table;
    static const double bits[] = {2, 2.4, 3, 3.7, 4, 6.1, 8, 9};
    static const int level[] = {0, 0, 1, 1, 2, 2, 3, 3};
    for (int i = 0; i < 8; i++) {
        gm_budget b = {GM_BITS, (int64_t)(bits[i] * (double)t->N), "x"};
        choose(f, GM_UNIFORM, &b, f->choice);
        for (long m = 0; m < t->M; m++)
            CHECK(f->choice[m] == level[i], "uniform at %g: candidate %d",
                  bits[i], f->choice[m]);
        for (gm_method e = GM_FIRST_HIGH; e <= GM_LAST_HIGH; e++) {
            choose(f, e, &b, f->choice);
            int64_t size = t->N * t->bits[level[i]];
            for (long n = 0; n < t->M && level[i] < 3; n++) {
                long m = raised_in_order(t, e, n);
                int64_t more = t->weights[m] * (t->bits[level[i] + 1] -
                                                t->bits[level[i]]);
                bool fits = size + more <= b.limit;
                size += fits ? more : 0;
                CHECK(f->choice[m] == level[i] + fits, "%s at %g: module %ld",
                      gm_method_name(e), bits[i], m);
            }
        }
    }
    /* mix, by hand: tests/test_report.sh; here, that none more fits, that only
       the two neighbours are taken, and that no prefix of the modules has more
       than its share by a whole module */
    for (int i = 0; i < 6; i++) {
        gm_budget b = {GM_BITS, (int64_t)(bits[i] * (double)t->N), "x"};
        const int step = t->bits[level[i] + 1] - t->bits[level[i]];
        double share = bits[i] - t->bits[level[i]], least = HUGE_VAL;
        double ahead = 0, size = (double)t->N * t->bits[level[i]];
        choose(f, GM_MIX, &b, f->choice);
        for (long m = 0; m < t->M; m++) {
            const int up = f->choice[m] - level[i];
            const double n = (double)t->weights[m];
            CHECK(up == 0 || up == 1, "mix at %g: module %ld", bits[i], m);
            size += n * step * up;
            ahead += n * step * up - n * share;
            if (!up && n * step < least) least = n * step;
            CHECK(fabs(ahead) <= 2 * 32768. * step, "mix at %g: %g ahead by "
                  "module %ld", bits[i], ahead, m);
        }
        CHECK(size <= (double)b.limit && size + least > (double)b.limit,
              "mix at %g: size %g, budget %ld", bits[i], size, (long)b.limit);
    }
    gm_budget b = {GM_BITS, 3 * t->N, "x"};
    gm_rivals_options o = f->options;
    gm_rivals *r;
    gm_effort effort;
    o.seed++;
    choose(f, GM_RANDOM, &b, f->choice);
    CHECK(!STATUS(r = gm_rivals_begin(&f->arena, &o, NULL)) &&
          !chosen(r, GM_RANDOM, &b, f->other, &effort) &&
          !same(f, f->choice, f->other), "another seed, another assignment");
    CHECK(effort.evaluations == 0, "random evaluates nothing");
}

/* ------------------------------------------------------------------- errors */

/* Block l on h -> y, its linears at `choice` where that is >= 0. */
static void run_block(fixture *f, long l, const int *choice, const gm_real *h,
                      gm_acts *acts, gm_real *y) {
    const gm_config *c = &f->model.config;
    gm_mark mark = gm_arena_mark(&f->arena);
    gm_block block;
    gm_packed packed;
    gm_status s = STATUS(gm_block_alloc(&f->arena, c, &block));
    if (!s) s = STATUS(gm_block_load(&f->model, l, &block));
    for (int j = 0; j < GM_LINEARS && !s; j++) {
        if (choice[j] < 0) continue;
        s = STATUS(packed = gm_candidate(&f->arena, &f->candidates, l, j, choice[j]));
        if (!s) s = STATUS(gm_dequantize(&packed, block.w[j]));
    }
    CHECK(s == GM_OK, "%s", err.text);
    gm_block_forward(acts, &block, h, y);
    gm_arena_rewind(&f->arena, mark);
}

static const int originals[GM_LINEARS] = {-1, -1, -1, -1, -1, -1, -1};

/* E_l by definition, h the original's input of block l. */
static double relative_error(fixture *f, long l, const int *choice,
                             const gm_real *h, gm_acts *acts) {
    const long d = f->model.config.d, R = acts->sequences * acts->T;
    gm_mark mark = gm_arena_mark(&f->arena);
    gm_real *y = gm_alloc(&f->arena, (size_t)(R * d), sizeof *y);
    gm_real *z = gm_alloc(&f->arena, (size_t)(R * d), sizeof *z);
    run_block(f, l, originals, h, acts, y);
    run_block(f, l, choice, h, acts, z);
    double E = 0;
    for (long t = 0; t < R; t++) {
        double top = 0, bottom = 0;
        for (long i = t * d; i < (t + 1) * d; i++) {
            top += pow((double)z[i] - (double)y[i], 2);
            bottom += pow((double)y[i], 2);
        }
        E += top / bottom / (double)R;
    }
    gm_arena_rewind(&f->arena, mark);
    return E;
}

/* S_mk of every seventh candidate and sum_l E_l of two assignments.  The
   library subtracts in float: relative 1e-7 of h against errors of at least
   1e-3 (squared 1e-6: 8 bits), so 2e-4 of the difference, twice that of its
   square; the rest is margin. */
static void errors_by_definition(fixture *f) {
    const gm_scores *t = f->table;
    const long L = t->M / GM_LINEARS, n = t->M * t->K;
    gm_objective *o;
    gm_acts acts;
    gm_arena *a = &f->arena;
    double *E = gm_alloc(a, (size_t)n, sizeof *E), sum[2] = {0}, found;
    bool *wanted = gm_alloc(a, (size_t)n, sizeof *wanted);
    gm_real *h = gm_alloc(a, (size_t)(S * T * f->model.config.d), sizeof *h);
    gm_status s = objective(f, &o);
    if (!s) s = STATUS(gm_acts_alloc(a, &f->model.config, S, T, false, &acts));
    if (!s) s = STATUS(gm_embed(&f->model, f->tokens, S * T, h));
    for (long i = 0; i < n; i++) wanted[i] = i % 7 == 0;
    f->candidates.allowed = wanted;
    if (!s) s = STATUS(gm_objective_separable(o, NULL, E));
    f->candidates.allowed = NULL;
    CHECK(s == GM_OK, "%s", err.text);
    double runs = gm_objective_evaluations(o);
    double expected = (double)(n / 7) / (double)L;
    CHECK(fabs(runs - expected) < 1e-12, "%g sweeps, expected %g", runs,
          expected);
    for (long m = 0; m < t->M; m++) {
        f->choice[m] = (int)(m % t->K);
        f->other[m] = (int)((m / 2) % t->K);
    }
    for (long l = 0; l < L; l++) {
        for (long i = l * GM_LINEARS * t->K; i < (l + 1) * GM_LINEARS * t->K;
             i++) {
            int one[GM_LINEARS];
            if (!wanted[i]) CHECK(E[i] == 0, "not wanted: %g", E[i]);
            if (!wanted[i]) continue;
            memcpy(one, originals, sizeof one);
            one[i / t->K % GM_LINEARS] = (int)(i % t->K);
            double by = relative_error(f, l, one, h, &acts);
            CHECK(fabs(E[i] - by) < 1e-3 * by, "S of module %ld candidate %ld: "
                  "%.9g, by definition %.9g", i / t->K, i % t->K, E[i], by);
        }
        sum[0] += relative_error(f, l, f->choice + l * GM_LINEARS, h, &acts);
        sum[1] += relative_error(f, l, f->other + l * GM_LINEARS, h, &acts);
        run_block(f, l, originals, h, &acts, h);
    }
    gm_objective_forget(o);
    for (int i = 0; i < 4; i++) {       /* the second time from memory */
        const int *choice = i % 2 ? f->other : f->choice;
        CHECK(!STATUS(found = gm_objective_blocks(o, choice)) &&
              fabs(found - sum[i % 2]) < 1e-3 * found, "blocks: %.9g, by "
              "definition %.9g", found, sum[i % 2]);
    }
}

/* Blocks of 100 random assignments that are not equal to an earlier one. */
static long distinct_blocks(const int *choice, long M) {
    long distinct = 0;
    for (long i = 0; i < 100 * M; i += GM_LINEARS) {
        long j = i % M;
        while (j < i && memcmp(choice + i, choice + j,
                               GM_LINEARS * sizeof *choice) != 0)
            j += M;
        distinct += j == i;
    }
    return distinct;
}

/* Remembered blocks cost nothing and change nothing; one changed module costs
   one block.  Some 800 tuples: the table grows. */
static void memory(fixture *f) {
    const gm_scores *t = f->table;
    const double L = (double)(t->M / GM_LINEARS);
    gm_objective *o, *fresh;
    const gm_sequences text = {f->tokens, 1, 4}, kept = f->options.text;
    double E[100], again, spent;
    int *all = gm_alloc(&f->arena, (size_t)(100 * t->M), sizeof *all);
    f->options.text = text;
    CHECK(!objective(f, &o) && !objective(f, &fresh), "%s", err.text);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < 100; i++) {
            for (long m = 0; m < t->M; m++)
                f->choice[m] = (int)(gm_random(3, (uint64_t)i, (uint64_t)m) %
                                     (uint64_t)t->K);
            memcpy(all + i * t->M, f->choice, (size_t)t->M * sizeof *all);
            CHECK(!STATUS(again = gm_objective_blocks(o, f->choice)), "%s",
                  err.text);
            if (pass == 0) E[i] = again;
            CHECK(again == E[i], "remembered %.17g, measured %.17g", again,
                  E[i]);
            if (pass == 0 || i % 50) continue;
            gm_objective_forget(fresh);
            CHECK(!STATUS(again = gm_objective_blocks(fresh, f->choice)) &&
                  again == E[i] && gm_objective_evaluations(fresh) == 1,
                  "fresh %.17g, measured %.17g", again, E[i]);
        }
    spent = gm_objective_evaluations(o);
    double distinct = (double)distinct_blocks(all, t->M);
    CHECK(spent == distinct / L && distinct > 700, "%g blocks: %g sweeps",
          distinct, spent);
    f->choice[9] = (f->choice[9] + 1) % t->K;
    again = gm_objective_blocks(o, f->choice);
    spent = gm_objective_evaluations(o);
    CHECK(fabs(spent - (distinct + 1) / L) < 1e-12, "one more: %g", spent);
    f->options.text = kept;
}

/* KL of an assignment is that of gm_evaluate. */
static void kl_by_evaluation(fixture *f) {
    gm_arena *a = &f->arena;
    gm_objective *o;
    gm_head head;
    gm_measure measure;
    gm_sequences text = {f->tokens, S, T};
    size_t n = (size_t)(S * T * f->model.config.d);
    gm_real *x = gm_alloc(a, n, sizeof *x), *y = gm_alloc(a, n, sizeof *y);
    double kl = 0;
    for (long m = 0; m < f->table->M; m++) f->choice[m] = (int)(m % 3);
    gm_status s = STATUS(gm_head_load(a, &f->model, &head));
    if (!s) s = STATUS(gm_final_states(a, &f->model, NULL, NULL, &text, NULL, x));
    if (!s) s = STATUS(gm_final_states(a, &f->model, &f->candidates, f->choice, &text,
                                NULL, y));
    if (!s) s = STATUS(gm_evaluate(a, &head, &text, NULL, y, x, NULL, &measure));
    if (!s) s = objective(f, &o);
    if (!s) s = STATUS(gm_objective_kl_begin(o));
    if (!s) s = STATUS(kl = gm_objective_kl(o, f->choice));
    CHECK(!s && kl == measure.kl && kl > 0 && gm_objective_evaluations(o) == 1,
          "kl %.17g, gm_evaluate %.17g", kl, measure.kl);
}

/* ------------------------------------------------ greedy, separable, masks */

/* Only the first `free` modules keep their choice: the others have candidate 1
   alone.  The table is ours to change until errors are measured. */
static void mask(fixture *f, long free) {
    gm_scores *t = (gm_scores *)f->table;
    for (long i = free * t->K; i < t->M * t->K; i++)
        if (i % t->K != 1) t->bytes[i] = -1;
}

static double sum_of(const fixture *f, const double *u, const int *choice) {
    double sum = 0;
    for (long m = 0; m < f->table->M; m++)
        sum += u[m * f->table->K + choice[m]];
    return sum;
}

/* Least sum within the budget over all 3^6 assignments of six modules. */
static double brute_force(fixture *f, const gm_budget *b, const double *u) {
    double best = INFINITY;
    for (int code = 0; code < 729; code++) {
        for (int m = 0, rest = code; m < 6; m++, rest /= 3)
            f->other[m] = rest % 3;
        double sum = sum_of(f, u, f->other);
        if (size_in(f, b->convention, f->other) <= b->limit && sum < best)
            best = sum;
    }
    return best;
}

/* Errors that Stage I has measured are taken as they are: drawn ones decide, in
   any unit; the effort is that of measuring them. */
static void separable_is_taken(void) {
    fixture f;
    fixture_begin(&f, "data/tiny-llama", "2,4,16");
    const long n = f.table->M * f.table->K;
    const gm_budget b = {GM_BITS, 5 * f.table->N, "5"};
    double *u = gm_alloc(&f.arena, (size_t)n, sizeof *u);
    gm_effort own, taken;
    gm_rivals *r;
    CHECK(!chosen(f.rivals, GM_SEPARABLE, &b, f.choice, &own), "%s", err.text);
    for (long i = 0; i < n; i++)
        u[i] = i % 3 == 2 ? 0 : (double)(2 - i % 3) *
                                (1 + gm_uniform(9, 0, (uint64_t)(i / 3)));
    f.options.separable = u;
    CHECK(!rivals(&f, &r) && !chosen(r, GM_SEPARABLE, &b, f.other, &taken), "%s",
          err.text);
    const double drawn = sum_of(&f, u, f.other);
    CHECK(drawn < sum_of(&f, u, f.choice), "drawn errors: %.9g", drawn);
    CHECK(taken.evaluations == own.evaluations && own.evaluations == 14,
          "%g evaluations, measured %g", taken.evaluations, own.evaluations);
    for (long i = 0; i < n; i++) u[i] *= 0.3;
    CHECK(!rivals(&f, &r) && !chosen(r, GM_SEPARABLE, &b, f.choice, &taken) &&
          !memcmp(f.choice, f.other, (size_t)f.table->M * sizeof *f.choice),
          "another unit");
    fixture_end(&f);
}

/* Where gains per size fall along each module, greedy is optimal at the sizes
   that it passes; elsewhere not better than the optimum, which `separable`
   is everywhere.  The solver sees scores rounded to 2^-30 of their range. */
static void against_brute_force(void) {
    fixture f;
    fixture_begin(&f, "data/tiny-llama", "2,3,4");
    const gm_scores *t = f.table;
    gm_objective *o;
    mask(&f, 6);
    size_t n = (size_t)(t->M * t->K);
    double *u = gm_alloc(&f.arena, n, sizeof *u);
    CHECK(!objective(&f, &o) && !STATUS(gm_objective_separable(o, NULL, u)), "%s",
          err.text);
    for (int m = 0; m < 6; m++)
        CHECK(u[m * 3] - u[m * 3 + 1] > u[m * 3 + 1] - u[m * 3 + 2] &&
              u[m * 3 + 1] > u[m * 3 + 2], "gains of module %d do not fall", m);
    long passed = 0;
    for (int c = GM_BITS; c <= GM_BYTES; c++) {
        for (long m = 0; m < t->M; m++) {
            f.choice[m] = m < 6 ? 0 : 1;
            f.other[m] = m < 6 ? 2 : 1;
        }
        gm_budget b = {(gm_convention)c, 0, "x"};
        int64_t low = size_in(&f, b.convention, f.choice);
        int64_t high = size_in(&f, b.convention, f.other), taken = low;
        for (b.limit = low; b.limit <= high; b.limit += (high - low) / 25) {
            double best = brute_force(&f, &b, u);
            CHECK(!choose(&f, GM_SEPARABLE, &b, f.choice) &&
                  sum_of(&f, u, f.choice) < best * (1 + 1e-7), "separable: "
                  "%.9g, least %.9g", sum_of(&f, u, f.choice), best);
            CHECK(!choose(&f, GM_GREEDY, &b, f.choice) &&
                  sum_of(&f, u, f.choice) >= best * (1 - 1e-12), "greedy: "
                  "%.9g, least %.9g", sum_of(&f, u, f.choice), best);
            taken = size_in(&f, b.convention, f.choice);
            for (long m = 0; m < t->M; m++)
                CHECK(t->bytes[m * 3 + f.choice[m]] >= 0, "module %ld took a "
                      "candidate that it has not", m);
        }
        CHECK(taken <= high, "size");
        /* the sizes on the way: steps by falling rate, by insertion */
        for (int steps = 0; steps <= 12; steps++, passed++) {
            for (int m = 0; m < 6; m++) f.choice[m] = 0;
            for (int i = 0; i < steps; i++) {
                double rate = -1;
                int at = 0;
                for (int m = 0; m < 6; m++) {
                    if (f.choice[m] == 2) continue;
                    long k = m * 3 + f.choice[m];
                    double size = c == GM_BITS
                                      ? (double)t->weights[m]
                                      : (double)(t->bytes[k + 1] - t->bytes[k]);
                    if ((u[k] - u[k + 1]) / size > rate)
                        rate = (u[k] - u[k + 1]) / size, at = m;
                }
                f.choice[at]++;
            }
            b.limit = size_in(&f, b.convention, f.choice);
            double best = brute_force(&f, &b, u);
            CHECK(!choose(&f, GM_GREEDY, &b, f.choice) &&
                  sum_of(&f, u, f.choice) <= best * (1 + 1e-12), "greedy after "
                  "%d steps: %.9g, least %.9g", steps,
                  sum_of(&f, u, f.choice), best);
        }
    }
    CHECK(passed == 39, "budgets on the way");
    fixture_end(&f);
}

/* A third of all candidates is missing: no method takes one. */
static void absent_candidates(void) {
    fixture f;
    fixture_begin(&f, "tests/golden/tiny-qwen3", "2,3,4,6");
    const long cells = f.table->M * f.table->K;
    const int K = f.table->K;
    bool *allowed = gm_alloc(&f.arena, (size_t)cells, sizeof *allowed);
    for (long i = 0; i < cells; i++)
        allowed[i] = gm_random(1, 0, (uint64_t)i) % 3 != 0 ||
                     i % K == i / K % 4;
    f.candidates.allowed = allowed;
    CHECK(!rivals(&f, &f.rivals), "%s", err.text);
    const gm_scores *t = f.table = gm_rivals_table(f.rivals);
    for (long i = 0; i < cells; i++)
        CHECK((t->bytes[i] >= 0) == allowed[i], "candidate %ld", i);
    for (int method = 0; method < GM_LEARNED; method++)
        for (int i = 0; i < 5; i++) {
            gm_budget b = {GM_BITS, t->N * (14 + i * 2) / 4, "x"};
            gm_status s = choose(&f, (gm_method)method, &b, f.choice);
            CHECK(s == GM_OK, "%s: %s", gm_method_name((gm_method)method),
                  err.text);
            for (long m = 0; m < t->M; m++)
                CHECK(t->bytes[m * t->K + f.choice[m]] >= 0, "%s: module %ld "
                      "took an absent candidate",
                      gm_method_name((gm_method)method), m);
            CHECK(size_in(&f, GM_BITS, f.choice) <= b.limit, "over budget");
        }
    fixture_end(&f);
}

/* Modules that have more bits than the level asked for take the fewest they
   have; one that has none at all is named, and so is a method that is none. */
static void odd_modules(void) {
    fixture f;
    gm_effort effort;
    fixture_begin(&f, "tests/golden/tiny-qwen3", "2,3,4");
    const long cells = f.table->M * f.table->K;
    bool *allowed = gm_alloc(&f.arena, (size_t)cells, sizeof *allowed);
    for (long i = 0; i < cells; i++) allowed[i] = i != 3 * 3 && i != 3 * 3 + 1;
    f.candidates.allowed = allowed;
    gm_status s = rivals(&f, &f.rivals);
    f.table = gm_rivals_table(f.rivals);
    gm_budget b = {GM_BITS, f.table->N * 2 + 2 * f.table->weights[3], "x"};
    if (!s) s = chosen(f.rivals, GM_UNIFORM, &b, f.choice, &effort);
    CHECK(s == GM_OK, "%s", err.text);
    for (long m = 0; m < f.table->M; m++)
        CHECK(f.choice[m] == (m == 3 ? 2 : 0), "module %ld takes %d", m,
              f.choice[m]);
    CHECK(chosen(f.rivals, (gm_method)99, &b, f.choice, &effort) == GM_EUSAGE,
          "method 99");
    CHECK_TEXT(err.text, "no such method: 99");
    allowed[3 * 3 + 2] = false;
    s = rivals(&f, &f.rivals);
    if (!s) s = chosen(f.rivals, GM_UNIFORM, &b, f.choice, &effort);
    CHECK(s == GM_EINPUT && strstr(err.text, ": module model.layers.0.self_attn."
          "o_proj has no candidate"), "%s", err.text);
    fixture_end(&f);
}

/* Weights so large that activations, or logits, overflow: each measurement says
   so, and none takes infinity for a large error. */
static void overflow_is_named(const char *tensor, gm_method method,
                              const char *says) {
    fixture f;
    fixture_begin(&f, "tests/golden/tiny-llama", "2,3,4");
    gm_tensor *t = (gm_tensor *)(uintptr_t)gm_tensor_find(&f.model.tensors,
                                                          tensor);
    make_large(&f.arena, t);
    gm_budget b = {GM_BITS, f.table->N * 3, "3"};
    CHECK(choose(&f, method, &b, f.choice) == GM_EINPUT &&
          strstr(err.text, says), "%s: %s", gm_method_name(method), err.text);
    fixture_end(&f);
}

/* So large a final norm that the logits are no numbers. */
static void gradients_overflow(void) {
    fixture f;
    gm_objective *o;
    fixture_begin(&f, "tests/golden/tiny-llama", "2,3,4");
    const size_t n = (size_t)(f.table->M * f.table->K);
    double *slope = gm_alloc(&f.arena, n, sizeof *slope);
    double *curve = gm_alloc(&f.arena, n, sizeof *curve);
    make_large(&f.arena, (gm_tensor *)(uintptr_t)gm_tensor_find(
                   &f.model.tensors, "model.norm.weight"));
    CHECK(!objective(&f, &o) && !STATUS(gm_objective_kl_begin(o)), "%s",
          err.text);
    CHECK(STATUS(gm_objective_expand(o, f.choice, 1, slope, curve)) ==
              GM_EINPUT &&
          strstr(err.text, ": the gradients of the whole model overflow"),
          "overflow: %s", err.text);
    fixture_end(&f);
}

/* ------------------------------------------------------------------ refined */

static double divergence_of(fixture *f, const int *choice) {
    gm_objective *o;
    double kl = 0;
    CHECK(!objective(f, &o) && !STATUS(gm_objective_kl_begin(o)) &&
          !STATUS(kl = gm_objective_kl(o, choice)), "KL");
    return kl;
}

/* u' of docs/rivals.md, each module's least 0, and its optimum, from t and f,
   [M, K]. */
static void mixed_optimum(fixture *f, const gm_budget *b, const double *t,
                          const double *prior, double w, double *u,
                          int *choice) {
    const long K = f->table->K;
    gm_scores scores = *f->table;
    gm_solve_options o = {.solver = GM_DP};
    gm_certificate proof;
    gm_allocation allocation;
    scores.score = u;
    for (long m = 0; m < scores.M; m++) {
        double least = HUGE_VAL;
        for (long i = m * K; i < m * K + K; i++)
            least = fmin(least, u[i] = w * t[i] + (1 - w) * prior[i]);
        for (long i = m * K; i < m * K + K; i++) u[i] -= least;
    }
    CHECK(!SOLVED(gm_allocate(&f->arena, &scores, b, &o, choice, &proof, &allocation), proof), "%s", err.text);
}

static double middle(long n, double *x) {       /* by counting */
    for (long i = 0; i < n; i++) {
        long below = 0, same = 0;
        for (long j = 0; j < n; j++) below += x[j] < x[i], same += x[j] == x[i];
        if (below <= n / 2 && n / 2 < below + same) return x[i];
    }
    return NAN;
}

/* One round from x and the scores: t, kappa, three mixtures, the least KL.
   Candidates of module m are k = 0, 1, 2 in the order of their sizes. */
static void round_by_definition(fixture *f, gm_objective *o, const gm_budget *b,
                                uint64_t seed, double *scores, int *x) {
    const long M = f->table->M, K = f->table->K;
    const size_t n = (size_t)(M * K), bytes = (size_t)M * sizeof *x;
    double *t = gm_alloc(&f->arena, n, sizeof *t), least, kl;
    double *curve = gm_alloc(&f->arena, n, sizeof *t);
    double *prior = gm_alloc(&f->arena, n, sizeof *t);
    double *u = gm_alloc(&f->arena, n, sizeof *t);
    double *ratio = gm_alloc(&f->arena, n, sizeof *t);
    int *tried = gm_alloc(&f->arena, (size_t)M, sizeof *tried);
    int *best = gm_alloc(&f->arena, (size_t)M, sizeof *best);
    long ratios = 0;
    CHECK(!STATUS(gm_objective_expand(o, x, seed, t, curve)) &&
          !STATUS(least = gm_objective_kl(o, x)), "%s", err.text);
    for (long i = 0; i < M * K; i++) {
        long away = i % K - x[i / K];
        t[i] += curve[i];
        if (away == 1 || away == -1)
            ratio[ratios++] = t[i] / (scores[i] - scores[i - away]);
    }
    double kappa = middle(ratios, ratio);
    CHECK(kappa > 0, "kappa %g", kappa);
    for (long i = 0; i < M * K; i++) prior[i] = kappa * scores[i];
    memcpy(best, x, bytes);
    for (double w = 0.25; w < 1; w += 0.25) {
        mixed_optimum(f, b, t, prior, w, u, tried);
        CHECK(!STATUS(kl = gm_objective_kl(o, tried)), "%s", err.text);
        if (kl >= least) continue;
        least = kl;
        memcpy(best, tried, bytes);
        memcpy(scores, u, n * sizeof *u);
    }
    memcpy(x, best, bytes);
}

/* Without the states of all blocks: the same KL and expansion, the same answer
   of the rivals, to the last bit. */
static void whole_is_the_same(void) {
    fixture f;
    fixture_begin(&f, "tests/golden/tiny-qwen2", "2,3,4");
    const size_t n = (size_t)(f.table->M * f.table->K);
    gm_objective *o[2];
    double *x[2], kl[2];
    for (long m = 0; m < f.table->M; m++) f.choice[m] = (int)(m % 3);
    for (int i = 0; i < 2; i++) {
        x[i] = gm_alloc(&f.arena, 2 * n, sizeof *x[i]);
        CHECK(!STATUS(o[i] = gm_objective_begin(&f.arena, &f.candidates,
                                                &f.options.text, i, NULL)) &&
              !STATUS(gm_objective_kl_begin(o[i])) &&
              !STATUS(kl[i] = gm_objective_kl(o[i], f.choice)) &&
              !STATUS(gm_objective_expand(o[i], f.choice, 3, x[i], x[i] + n)),
              "%s", err.text);
    }
    CHECK(kl[0] == kl[1] && kl[0] > 0, "KL %g and %g", kl[0], kl[1]);
    CHECK(memcmp(x[0], x[1], 2 * n * sizeof **x) == 0, "another expansion");
    gm_scores scores = *f.table;
    gm_budget b = {GM_BITS, 3 * f.table->N, "x"};
    gm_rivals *r;
    gm_effort effort;
    scores.score = x[0] + n;                /* any */
    f.options.learned = &scores;
    f.options.evaluations = 16;
    CHECK(!rivals(&f, &r) && !chosen(r, GM_REFINED, &b, f.choice, &effort),
          "%s", err.text);
    f.options.whole = true;
    CHECK(!rivals(&f, &r) && !chosen(r, GM_REFINED, &b, f.other, &effort) &&
          same(&f, f.choice, f.other), "another answer");
    fixture_end(&f);
}

/* With fewer evaluations than a round takes refined is gamma's answer; with one
   round and with two it keeps the budget, spends no more than asked, has less KL
   on the calibration text than gamma and than with a round less (the scores are
   as poor as the Gram errors), and is the same again.  Both rounds are what
   their definition says. */
static void refined_falls(void) {
    fixture f;
    fixture_begin(&f, "tests/golden/tiny-llama", "2,3,4");
    gm_scores scores = *f.table;
    gm_budget b = {GM_BITS, 3 * f.table->N, "x"};
    const size_t n = (size_t)(f.table->M * f.table->K);
    gm_objective *o;
    gm_rivals *r;
    gm_effort effort;
    int *again = gm_alloc(&f.arena, (size_t)f.table->M, sizeof *again);
    scores.score = gm_alloc(&f.arena, n, sizeof *scores.score);
    CHECK(!objective(&f, &o) &&
          !STATUS(gm_objective_gram(o, scores.score)), "%s", err.text);
    f.options.learned = &scores;
    double kl[3], *carried = gm_alloc(&f.arena, n, sizeof *carried);
    memcpy(carried, scores.score, n * sizeof *carried);
    CHECK(!STATUS(gm_objective_kl_begin(o)), "%s", err.text);
    for (int i = 0; i < 3; i++) {
        const long round = gm_expand_evaluations() + 3;
        const long most = i ? 1 + i * round : round - 2;
        f.options.evaluations = most;
        CHECK(!rivals(&f, &r) &&
              !chosen(r, GM_LEARNED, &b, f.other, &effort) &&
              !chosen(r, GM_REFINED, &b, f.choice, &effort),
              "%s", err.text);
        CHECK(effort.evaluations <= (double)most, "%g of %ld evaluations",
              effort.evaluations, most);
        CHECK(i == 0 || effort.evaluations > (double)(most - 3),
              "%g of %ld evaluations", effort.evaluations, most);
        CHECK(size_in(&f, GM_BITS, f.choice) <= b.limit, "over budget");
        CHECK(i || same(&f, f.choice, f.other), "no round: gamma's");
        kl[i] = divergence_of(&f, f.choice);
        CHECK(i == 0 || kl[i] < kl[i - 1], "KL %g after %d rounds, %g before",
              kl[i], i, kl[i - 1]);
        if (i == 0) memcpy(again, f.other, (size_t)f.table->M * sizeof *again);
        else round_by_definition(&f, o, &b, f.options.seed + (uint64_t)i - 1,
                                 carried, again);
        CHECK(same(&f, f.choice, again), "not round %d of the definition", i);
    }
    CHECK(!chosen(r, GM_REFINED, &b, again, &effort) &&
          same(&f, f.choice, again), "another answer the second time");
    f.options.learned = NULL;
    CHECK(choose(&f, GM_REFINED, &b, f.choice) == GM_EUSAGE, "no scores");
    fixture_end(&f);
}

/* ------------------------------------------------------------------- RCO */

/* Costs c_mk, shares w_m, the average C(a). */
typedef struct { long M, K; double *c, *w; } budgeted;

static double average_cost(const budgeted *p, const double *a) {
    double sum = 0;
    for (long m = 0; m < p->M; m++) {
        double all = 0, cost = 0;
        for (long i = m * p->K; i < (m + 1) * p->K; i++) {
            all += exp(a[i]);
            cost += exp(a[i]) * p->c[i];
        }
        sum += p->w[m] * cost / all;
    }
    return sum;
}

/* x without its part along the normal, by differences of C. */
static void tangent(const budgeted *p, double *a, double *x) {
    const long n = p->M * p->K;
    double normal[256], along = 0, square = 0;
    for (long i = 0; i < n; i++) {
        const double was = a[i], h = 1e-5;
        a[i] = was + h, normal[i] = average_cost(p, a);
        a[i] = was - h, normal[i] -= average_cost(p, a);
        a[i] = was, normal[i] /= 2 * h;
        along += normal[i] * x[i], square += normal[i] * normal[i];
    }
    for (long i = 0; i < n; i++) x[i] -= along / square * normal[i];
}

/* a + t c with C = target. */
static void onto(const budgeted *p, double *a, double target) {
    double b[256], low = -100, high = 100;
    const long n = p->M * p->K;
    for (int i = 0; i < 100; i++) {
        for (long j = 0; j < n; j++) b[j] = a[j] + (low + high) / 2 * p->c[j];
        *(average_cost(p, b) > target ? &high : &low) = (low + high) / 2;
    }
    for (long j = 0; j < n; j++) a[j] += low * p->c[j];
    CHECK(fabs(average_cost(p, a) - target) < 1e-9, "no such average");
}

/* The assignment of the largest sum of z within the budget. */
static void assign_by_solver(fixture *f, const gm_budget *b, const double *z,
                             int *x) {
    const gm_solve_options o = {.solver = GM_DP};
    gm_scores scores = *f->table;
    gm_certificate proof;
    gm_allocation allocation;
    const size_t n = (size_t)(scores.M * scores.K);
    scores.score = gm_alloc(&f->arena, n, sizeof *z);
    for (size_t i = 0; i < n; i++) scores.score[i] = -z[i];
    CHECK(!SOLVED(gm_allocate(&f->arena, &scores, b, &o, x, &proof,
                              &allocation), proof), "%s", err.text);
}

/* One step, number i of `steps`; G by differences of sum_k q_k d_k. */
static void rco_step(fixture *f, gm_objective *o, const budgeted *p,
                     const gm_budget *b, int i, int steps, double *a,
                     double *first, double *second) {
    const long n = p->M * p->K;
    const double tau = pow(0.01, i / (double)(steps - 1));
    double z[256], d[256], curve[256], g[256];
    for (long j = 0; j < n; j++)
        z[j] = a[j] - log(-log(gm_uniform(f->options.seed, (uint64_t)i,
                                          (uint64_t)j)));
    assign_by_solver(f, b, z, f->other);
    CHECK(!STATUS(gm_objective_expand(o, f->other, 1, d, curve)), "%s",
          err.text);
    for (long j = 0; j < n; j++) {
        g[j] = 0;
        for (int side = -1; side < 2; side += 2) {
            double all = 0, sum = 0, h = 1e-5, top = -INFINITY;
            const long row = j / p->K * p->K;
            for (long k = row; k < row + p->K; k++) top = fmax(top, z[k]);
            for (long k = row; k < row + p->K; k++) {
                const double e = exp((z[k] - top + (k == j) * side * h) / tau);
                all += e, sum += e * d[k];
            }
            g[j] += side * sum / all / (2 * h);
        }
    }
    tangent(p, a, g);
    for (long j = 0; j < n; j++) {
        first[j] = 0.9 * first[j] + 0.1 * g[j];
        second[j] = 0.999 * second[j] + 0.001 * g[j] * g[j];
        a[j] -= 0.1 * first[j] / (1 - pow(0.9, i + 1)) /
                (sqrt(second[j] / (1 - pow(0.999, i + 1))) + 1e-8);
    }
    onto(p, a, (double)b->limit / (double)f->table->N);
    tangent(p, a, first);
}

/* a_mk = -ln(D_mk + 1e-8), D the mean of (Q_mk - Q_m2)^2. */
static void first_logits(fixture *f, double *a) {
    for (long m = 0; m < f->table->M; m++) {
        const size_t weights = (size_t)f->table->weights[m];
        gm_real *top = gm_alloc(&f->arena, weights, sizeof *top);
        gm_real *q = gm_alloc(&f->arena, weights, sizeof *q);
        gm_candidate_weight(&f->arena, &f->candidates, m / GM_LINEARS,
                            (int)(m % GM_LINEARS), 2, top);
        for (int k = 0; k < 3; k++) {
            double sum = 0;
            gm_candidate_weight(&f->arena, &f->candidates, m / GM_LINEARS,
                                (int)(m % GM_LINEARS), k, q);
            for (size_t i = 0; i < weights; i++)
                sum += ((double)q[i] - (double)top[i]) *
                       ((double)q[i] - (double)top[i]);
            a[m * 3 + k] = -log(sum / (double)weights + 1e-8);
        }
    }
}

/* What is left of the budget goes to single steps of largest a. */
static void fill_by_definition(const fixture *f, const gm_budget *b,
                               const double *a, int *x) {
    for (bool more = true; more;) {
        double gain = -INFINITY;
        int to = 0;
        long best = -1;
        for (long i = 0; i < f->table->M * 3; i++) {
            const long m = i / 3;
            const int k = (int)(i % 3), was = x[m];
            if (k <= was) continue;
            x[m] = k;
            if (size_in(f, GM_BITS, x) <= b->limit &&
                a[i] - a[m * 3 + was] > gain)
                gain = a[i] - a[m * 3 + was], best = m, to = k;
            x[m] = was;
        }
        more = best >= 0;
        if (more) x[best] = to;
    }
}

/* Steps of all sequences, from the definition; the budget is kept, and the same
   again with other threads and instructions. */
static void rco_by_definition(int64_t tenths) {
    enum { STEPS = 40 };
    fixture f;
    gm_objective *o;
    gm_rivals *r;
    gm_effort effort;
    double a[256], c[256], w[256], first[256] = {0}, second[256] = {0};
    fixture_begin(&f, "tests/golden/tiny-llama", "2,3,4");
    const gm_scores *t = f.table;
    const budgeted p = {t->M, t->K, c, w};
    const long n = t->M * t->K;
    const gm_budget b = {GM_BITS, t->N * tenths / 10, "x"};
    const gm_isa isa = gm_isa_now();
    CHECK(!objective(&f, &o) && !STATUS(gm_objective_kl_begin(o)) &&
          n <= 256 && S <= 4, "%s", err.text);
    for (long i = 0; i < n; i++) c[i] = t->bits[i % t->K];
    for (long m = 0; m < t->M; m++) w[m] = (double)t->weights[m] / (double)t->N;
    first_logits(&f, a);
    onto(&p, a, (double)b.limit / (double)t->N);
    for (int i = 0; i < STEPS; i++)
        rco_step(&f, o, &p, &b, i, STEPS, a, first, second);
    assign_by_solver(&f, &b, a, f.other);
    f.options.evaluations = 4 * STEPS;
    CHECK(!rivals(&f, &r) && !chosen(r, GM_RCO, &b, f.choice, &effort), "%s",
          err.text);
    CHECK(effort.evaluations == 4 * STEPS, "%g evaluations",
          effort.evaluations);
    fill_by_definition(&f, &b, a, f.other);
    CHECK(same(&f, f.choice, f.other), "not the definition's");
    gm_threads_use(2);
    gm_isa_use(GM_SCALAR);
    CHECK(!rivals(&f, &r) && !chosen(r, GM_RCO, &b, f.other, &effort) &&
          same(&f, f.choice, f.other), "threads or instructions matter");
    gm_isa_use(isa);
    fixture_end(&f);
}

/* --------------------------------------------------- Gram and closed form */

/* Eleven sequences of 400 tokens, more than the library runs at once (4,096
   rows): sums over batches.  tr(dW H dW^T) and tr(W H W^T) from H = X^T X in
   double, against the library's float products: each output is a sum of n = 80
   products at most, relative error sqrt(n) 2^-24 of their size, below 1e-6;
   squared twice that, and dW = Q - W has lost two digits: 2e-4. */
static void gram_by_definition(void) {
    enum { GS = 11, GT = 400 };
    fixture f;
    fixture_begin(&f, "tests/golden/tiny-llama", "2,4");
    const gm_config *c = &f.model.config;
    const long R = GS * GT, l = 1, K = 2, M = f.table->M;
    gm_arena *a = &f.arena;
    gm_objective *o;
    gm_acts acts;
    gm_packed packed;
    int32_t *tokens = gm_alloc(a, (size_t)R, sizeof *tokens);
    gm_real *h = gm_alloc(a, (size_t)(R * c->d), sizeof *h);
    gm_real *y = gm_alloc(a, (size_t)(R * c->d), sizeof *y);
    gm_real *w = gm_alloc(a, (size_t)(c->d * c->ff), sizeof *w);
    gm_real *q = gm_alloc(a, (size_t)(c->d * c->ff), sizeof *q);
    double *H = gm_alloc(a, (size_t)(c->ff * c->ff), sizeof *H);
    double *D = gm_alloc(a, (size_t)(M * K), sizeof *D);
    bool *wanted = gm_alloc(a, (size_t)(M * K), sizeof *wanted);
    for (long i = 0; i < R; i++)
        tokens[i] = (int32_t)(gm_random(8, 0, (uint64_t)i) % 64);
    for (long i = 0; i < M * K; i++) wanted[i] = i != 15;
    gm_sequences text = {tokens, GS, GT};
    gm_status s = STATUS(o = gm_objective_begin(a, &f.candidates, &text, true,
                                                NULL));
    f.candidates.allowed = wanted;
    if (!s) s = STATUS(gm_objective_gram(o, D));
    f.candidates.allowed = NULL;
    if (!s) s = STATUS(gm_acts_alloc(a, c, GS, GT, false, &acts));
    if (!s) s = STATUS(gm_embed(&f.model, tokens, R, h));
    CHECK(s == GM_OK, "%s", err.text);
    run_block(&f, 0, originals, h, &acts, h);
    run_block(&f, l, originals, h, &acts, y);
    const gm_real *input[] = {acts.x1, acts.x1, acts.x1, acts.attn,
                              acts.x2, acts.x2, acts.act};
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in, m = l * GM_LINEARS + j;
        gm_linear_shape(c, j, &out, &in);
        memset(H, 0, (size_t)(in * in) * sizeof *H);
        for (long t = 0; t < R; t++)
            for (long i = 0; i < in; i++)
                for (long n = 0; n < in; n++)
                    H[i * in + n] += (double)input[j][t * in + i] *
                                     (double)input[j][t * in + n];
        s = STATUS(gm_tensor_read(gm_linear_tensor(&f.model, l, j), 0, out * in, w));
        for (int k = 0; k < K && !s; k++) {
            double top = 0, bottom = 0;
            s = STATUS(packed = gm_candidate(a, &f.candidates, l, j, k));
            if (!s) s = STATUS(gm_dequantize(&packed, q));
            for (long r = 0; r < out; r++)
                for (long i = 0; i < in; i++)
                    for (long n = 0; n < in; n++) {
                        long p = r * in + i, u = r * in + n;
                        double dp = (double)q[p] - (double)w[p];
                        double du = (double)q[u] - (double)w[u];
                        top += dp * H[i * in + n] * du;
                        bottom += (double)w[p] * H[i * in + n] * (double)w[u];
                    }
            double expected = wanted[m * K + k] ? top / bottom : 0;
            CHECK(fabs(D[m * K + k] - expected) <= 2e-4 * expected, "linear "
                  "%d candidate %d: D %.9g, from H %.9g", j, k, D[m * K + k],
                  expected);
        }
        CHECK(s == GM_OK, "%s", err.text);
    }
    double one = 0, sum = 0;    /* E over batches: the mean of the sequences' */
    CHECK(!STATUS(one = gm_objective_blocks(o, (int[14]){0})), "%s", err.text);
    for (int i = 0; i < GS; i++) {
        gm_sequences single = {tokens + i * GT, 1, GT};
        double E = 0;
        f.options.text = single;
        CHECK(!objective(&f, &o) &&
              !STATUS(E = gm_objective_blocks(o, (int[14]){0})), "%s",
              err.text);
        sum += E / GS;
    }
    CHECK(fabs(one - sum) < 1e-12 * sum, "all sequences: E %.17g, one by "
          "one %.17g", one, sum);
    fixture_end(&f);
}

/* R_m with libm; B is exactly the budget's average. */
static void expected_bits(const fixture *f, const double *D, double B, int u,
                          double *R) {
    const gm_scores *t = f->table;
    double ln = 0;
    for (long m = 0; m < t->M; m++)
        ln += (double)t->weights[m] / (double)t->N *
              log(D[m * t->K + u] / (double)t->weights[m]);
    for (long m = 0; m < t->M; m++)
        R[m] = B + log2(D[m * t->K + u] / (double)t->weights[m] / exp(ln)) /
                       1.95;
}

/* Module whose bits less R are the largest (sign 1) or smallest among those
   that can step that way and, up, fit; -1. */
static long furthest(const fixture *f, const gm_budget *b, int *choice,
                     const double *R, int sign) {
    const gm_scores *t = f->table;
    long at = -1;
    double most = -INFINITY;
    for (long m = 0; m < t->M; m++) {
        double wrong = sign * (t->bits[choice[m]] - R[m]);
        int k = choice[m] - sign;
        if (k < 0 || k >= t->K || wrong <= most) continue;
        choice[m] = k;
        bool fits = sign > 0 || size_in(f, b->convention, choice) <= b->limit;
        choice[m] += sign;
        if (fits) most = wrong, at = m;
    }
    return at;
}

/* Nearest candidates to R, then down where furthest above R until the budget
   holds, then up where furthest below R until nothing fits. */
static void closed_form_by_definition(fixture *f) {
    const gm_scores *t = f->table;
    gm_objective *o;
    size_t n = (size_t)(t->M * t->K);
    double *D = gm_alloc(&f->arena, n, sizeof *D);
    double *R = gm_alloc(&f->arena, n, sizeof *R);
    CHECK(!objective(f, &o) &&
          !STATUS(gm_objective_gram(o, D)), "%s", err.text);
    CHECK(fabs(gm_objective_evaluations(o) - t->K) < 1e-12, "one sweep for "
          "each candidate: %g", gm_objective_evaluations(o));
    long lowered = 0, raised = 0, m;
    for (int i = 0; i < 16; i++) {
        gm_budget b = {GM_BITS, t->N * (33 + 3 * i) / 16, "x"};
        double B = (double)b.limit / (double)t->N;
        int u = B >= 4 ? 2 : B >= 3 ? 1 : 0;
        expected_bits(f, D, B, u, R);
        for (m = 0; m < t->M; m++) {        /* bits 2, 3, 4, 8 */
            f->other[m] = R[m] > 6 ? 3 : R[m] > 3.5 ? 2 : R[m] > 2.5;
        }
        while (size_in(f, b.convention, f->other) > b.limit) {
            f->other[furthest(f, &b, f->other, R, 1)]--;
            lowered++;
        }
        while ((m = furthest(f, &b, f->other, R, -1)) >= 0) {
            f->other[m]++;
            raised++;
        }
        CHECK(!choose(f, GM_CLOSED_FORM, &b, f->choice) &&
              same(f, f->choice, f->other), "closed form at %g bits", B);
    }
    CHECK(lowered > 0 && raised > 0, "both repairs were needed: %ld, %ld",
          lowered, raised);
}

/* The exact solver on D: no exchange of two steps lowers the sum within the
   budget. */
static void gram_is_optimal(fixture *f) {
    const gm_scores *t = f->table;
    gm_objective *o;
    gm_scores scores = *t;
    gm_budget b = {GM_EBITS, t->N * 4, "x"};
    gm_solve_options solver = {.solver = GM_BOTH};
    gm_certificate certificate;
    gm_allocation allocation;
    size_t n = (size_t)(t->M * t->K);
    scores.score = gm_alloc(&f->arena, n, sizeof *scores.score);
    CHECK(!objective(f, &o) &&
          !STATUS(gm_objective_gram(o, scores.score)) &&
          !SOLVED(gm_allocate(&f->arena, &scores, &b, &solver, f->other, &certificate,
                       &allocation), certificate), "%s", err.text);
    CHECK(!choose(f, GM_GRAM, &b, f->choice) &&
          same(f, f->choice, f->other), "gram differs from its program");
    f->options.learned = &scores;       /* as GAMMA's: the same program */
    gm_rivals *r;
    gm_effort effort;
    CHECK(!rivals(f, &r) &&
          !chosen(r, GM_LEARNED, &b, f->choice, &effort) &&
          same(f, f->choice, f->other), "gamma differs from its program");
    CHECK(effort.evaluations == 0, "scores come from elsewhere");
    /* scores of another table */
    int64_t kept = t->bytes[5];
    scores.bytes = gm_alloc(&f->arena, n, sizeof *scores.bytes);
    memcpy(scores.bytes, t->bytes, n * sizeof *scores.bytes);
    scores.bytes[5]++;
    scores.path = "scores.tsv";
    CHECK(chosen(r, GM_LEARNED, &b, f->choice, &effort) ==
              GM_EINPUT, "other sizes");
    char text[256];
    snprintf(text, sizeof text, "scores.tsv: expected model.layers.0.self_attn"
             ".k_proj at 3 bits: %lld bytes, found model.layers.0.self_attn"
             ".k_proj at 3 bits: %lld bytes", (long long)kept,
             (long long)kept + 1);
    CHECK_TEXT(err.text, text);
    scores.M--;
    CHECK(chosen(r, GM_LEARNED, &b, f->choice, &effort) ==
              GM_EINPUT, "other modules");
    CHECK_TEXT(err.text, "scores.tsv: expected 56 modules with 4 candidates, "
               "found 55 with 4");
    f->options.learned = NULL;
    CHECK(choose(f, GM_LEARNED, &b, f->choice) == GM_EUSAGE, "no scores");
    CHECK_TEXT(err.text, "method gamma: expected learned scores, found none");
    gm_rivals_options none = f->options;
    none.evaluations = 0;
    CHECK(STATUS(gm_rivals_begin(&f->arena, &none, NULL)) == GM_EUSAGE, "0");
    CHECK_TEXT(err.text, "evaluations: expected at least 1, found 0");
    none.evaluations = 1, none.text.tokens = NULL;
    CHECK(!STATUS(r = gm_rivals_begin(&f->arena, &none, NULL)) &&
          chosen(r, GM_SEPARABLE, &b, f->choice, &effort) ==
              GM_EUSAGE, "no text");
    CHECK_TEXT(err.text, "expected a calibration text, found 2 sequences of 16 "
               "tokens");
}

/* ----------------------------------------------------------------- searches */

/* The cost that `method` minimises, measured again. */
static double cost_of(gm_objective *o, gm_method method, const int *choice) {
    double cost = 0;
    gm_status s = method == GM_EVOLVE_KL
                      ? STATUS(cost = gm_objective_kl(o, choice))
                      : STATUS(cost = gm_objective_blocks(o, choice));
    CHECK(s == GM_OK, "%s", err.text);
    return cost;
}

/* Within the evaluations asked for (7 K of S_mk come on top), never worse than
   the starts, the same for any number of threads and any instruction set.
   Returns whether the search beat greedy. */
static bool search_once(fixture *f, gm_objective *o, gm_method method,
                        const gm_budget *b, long evaluations) {
    const char *name = gm_method_name(method);
    const double most = (double)(7 * f->table->K + evaluations);
    const gm_isa isa = gm_isa_now();
    gm_rivals *r;
    gm_effort effort;
    CHECK(!choose(f, GM_GREEDY, b, f->choice), "%s", err.text);
    double greedy = cost_of(o, method, f->choice);
    choose(f, GM_UNIFORM, b, f->choice);
    double uniform = cost_of(o, method, f->choice);
    f->options.evaluations = evaluations;
    CHECK(!rivals(f, &r) &&
          !chosen(r, method, b, f->choice, &effort), "%s",
          err.text);
    CHECK(effort.evaluations <= most && effort.evaluations >= most -
          (double)evaluations + 1, "%s: %g evaluations", name,
          effort.evaluations);
    double found = cost_of(o, method, f->choice);
    CHECK(found <= greedy && (evaluations == 1 || method == GM_ANNEAL ||
                              found <= uniform),
          "%s: %.9g, greedy %.9g, uniform %.9g", name, found, greedy, uniform);
    gm_threads_use(2);
    gm_isa_use(GM_SCALAR);
    CHECK(!rivals(f, &r) &&
          !chosen(r, method, b, f->other, &effort) &&
          same(f, f->choice, f->other), "%s: threads or instructions matter",
          name);
    gm_isa_use(isa);
    gm_threads_use(1);
    return found < greedy;
}

static void searches(const char *dir) {
    fixture f;
    gm_objective *o;
    const int threads = gm_threads();
    gm_threads_use(1);
    fixture_begin(&f, dir, "2,3,4");
    CHECK(!objective(&f, &o) && !STATUS(gm_objective_kl_begin(o)),
          "%s", err.text);
    gm_budget b = {GM_EBITS, f.table->N * 13 / 4, "x"};
    for (gm_method method = GM_ANNEAL; method <= GM_EVOLVE_KL; method++) {
        bool better = search_once(&f, o, method, &b, 24);
        CHECK(better || method != GM_EVOLVE_KL, "%s: greedy does not know KL, "
              "the search found nothing better", gm_method_name(method));
        CHECK(!search_once(&f, o, method, &b, 1), "%s: one evaluation is the "
              "start's", gm_method_name(method));
    }
    gm_threads_use(threads);
    fixture_end(&f);
}

/* A cost with interactions, its least value known by enumeration. */
typedef struct { const gm_mckp *p; double best; long calls, over; } toy;

static double toy_value(const int *c) {
    static const double u[3] = {9, 3, 1};
    double cost = 0;
    for (int m = 0; m < 6; m++) cost += u[c[m]] * (1 + m % 3);
    for (int m = 0; m < 5; m++) cost += c[m] == 0 && c[m + 1] == 0 ? 12 : 0;
    return cost - (c[0] == 1 && c[5] == 2 ? 7 : 0);
}

/* The searches only pass the objective on. */
static double toy_cost(gm_objective *o, const int *choice) {
    toy *x = (toy *)o;
    double cost = toy_value(choice);
    x->calls++;
    x->over += gm_size_of(x->p, choice) > x->p->budget;
    if (cost < x->best) x->best = cost;
    if (x->calls == 1000) gm_fail(GM_EINPUT, "toy");
    return cost;
}

static double toy_spent(const gm_objective *o) {
    return (double)((const toy *)o)->calls;
}

static gm_search toy_search(toy *x, double most) {
    return (gm_search){x->p, (gm_objective *)x, toy_cost, toy_spent, 1, most, 5,
                       NULL};
}

/* Given enough evaluations both searches find the optimum of all 729; what
   they return is the best they saw, and all they saw was feasible. */
static void searches_find_optimum(void) {
    gm_arena a = {0};
    gm_mckp p;
    STATUS(gm_mckp_new(&a, 6, 3, &p));
    for (int i = 0; i < 18; i++) p.size[i] = (2 + i % 3) * (3 + i / 3 % 2);
    for (p.budget = 48; p.budget <= 72; p.budget += 6) {
        double least = INFINITY;
        for (int code = 0; code < 729; code++) {
            int c[6];
            for (int m = 0, rest = code; m < 6; m++, rest /= 3) c[m] = rest % 3;
            if (gm_size_of(&p, c) <= p.budget && toy_value(c) < least)
                least = toy_value(c);
        }
        for (int which = 0; which < 2; which++) {
            toy x = {&p, INFINITY, 0, 0};
            gm_search search = toy_search(&x, 600);
            int choice[6] = {0};
            gm_draws draws = {1, 1, 0};
            gm_fill_random(&p, choice, &draws);
            double start = toy_value(choice);
            gm_status s = STATUS(
                which ? gm_evolve(&a, &search, choice, 1, 2, choice)
                      : gm_anneal(&a, &search, choice));
            double found = toy_value(choice);
            CHECK(!s && found == x.best && found <= start && x.over == 0 &&
                  gm_size_of(&p, choice) <= p.budget && x.calls <= 600,
                  "search %d at %lld: %g, best seen %g, start %g, %ld over, "
                  "%ld calls", which, (long long)p.budget, found, x.best,
                  start, x.over, x.calls);
            CHECK(found == least, "search %d at %lld: %g, least %g", which,
                  (long long)p.budget, found, least);
        }
    }
    toy x = {&p, 0, 999, 0};        /* a cost that fails ends the search */
    gm_search search = toy_search(&x, 2000);
    int choice[6] = {0};
    CHECK(STATUS(gm_anneal(&a, &search, choice)) == GM_EINPUT, "anneal");
    x.calls = 999;
    CHECK(STATUS(gm_evolve(&a, &search, choice, 1, 2, choice)) == GM_EINPUT,
          "evolve");
    gm_arena_free(&a);
}

/* One module of 0 or 60, twenty of 0 or 5, budget 100, all twenty up: after the
   only step up, seven steps down leave 125.  No search goes there. */
static void searches_stay_within(void) {
    gm_arena a = {0};
    gm_mckp p;
    STATUS(gm_mckp_new(&a, 21, 2, &p));
    for (long m = 0; m < 21; m++) p.size[2 * m + 1] = m ? 5 : 60;
    p.budget = 100;
    for (int which = 0; which < 2; which++) {
        toy x = {&p, INFINITY, 0, 0};
        gm_search search = toy_search(&x, 300);
        int choice[21];
        for (int m = 0; m < 21; m++) choice[m] = m > 0;
        gm_status s = STATUS(
            which ? gm_evolve(&a, &search, choice, 1, 2, choice)
                  : gm_anneal(&a, &search, choice));
        CHECK(!s && x.calls > 0 && x.over == 0, "search %d: %ld of %ld over",
              which, x.over, x.calls);
    }
    gm_arena_free(&a);
}

/* Steps follow (size, k), not bits: sizes 5 2 5 1, candidate 3 not allowed. */
static void steps(void) {
    gm_arena a = {0};
    gm_mckp p;
    STATUS(gm_mckp_new(&a, 1, 4, &p));
    const int64_t size[] = {5, 2, 5, 1};
    memcpy(p.size, size, sizeof size);
    p.allowed[3] = false;
    static const struct { int from, up, down; } step[] = {
        {-1, 1, 2}, {1, 0, -1}, {0, 2, 1}, {2, -1, 0}};
    for (int i = 0; i < 4; i++) {
        int up = gm_neighbour(&p, 0, step[i].from, true, INT64_MAX);
        int down = gm_neighbour(&p, 0, step[i].from, false, 0);
        CHECK(up == step[i].up && down == step[i].down, "from %d: up %d, down "
              "%d", step[i].from, up, down);
    }
    CHECK(gm_neighbour(&p, 0, 1, true, 3) == 0 &&
          gm_neighbour(&p, 0, 1, true, 2) == -1 &&
          gm_neighbour(&p, 0, 0, true, 0) == 2, "room");
    gm_arena_free(&a);
}

static int test_main(void) {
    static const struct { gm_method method; bool full; int steps; } all[] = {
        {GM_UNIFORM, false, 7}, {GM_MIX, false, 7}, {GM_RANDOM, true, 7},
        {GM_FIRST_HIGH, false, 7}, {GM_LAST_HIGH, false, 7}, {GM_GREEDY, true, 7}, {GM_GRAM, false, 7},
        {GM_SEPARABLE, false, 7}, {GM_CLOSED_FORM, true, 7},
        {GM_ANNEAL, false, 1}, {GM_EVOLVE, true, 1}, {GM_EVOLVE_KL, true, 1},
        {GM_RCO, false, 1}};
    fixture f;
    STATUS(gm_make_dir(work));
    fixture_begin(&f, "data/tiny-llama", "2,3,4,8");
    f.options.evaluations = 3;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        feasible_everywhere(&f, all[i].method, all[i].full, all[i].steps);
    infeasible_message(&f);
    simple_methods(&f);
    errors_by_definition(&f);
    memory(&f);
    kl_by_evaluation(&f);
    closed_form_by_definition(&f);
    gram_is_optimal(&f);
    fixture_end(&f);
    against_brute_force();
    separable_is_taken();
    absent_candidates();
    refined_falls();
    whole_is_the_same();
    odd_modules();
    overflow_is_named("model.layers.1.mlp.down_proj.weight", GM_GRAM,
                      "block 1, output: element [0, 0] is ");
    overflow_is_named("model.layers.1.mlp.down_proj.weight", GM_SEPARABLE,
                      "block 1, output: element [0, 0] is ");
    overflow_is_named("model.norm.weight", GM_EVOLVE_KL,
                      "logits of window 0: expected finite numbers");
    gradients_overflow();
    gram_by_definition();
    searches("tests/golden/tiny-qwen2");
    searches_find_optimum();
    searches_stay_within();
    for (int64_t tenths = 25; tenths < 40; tenths += 5)
        rco_by_definition(tenths);
    steps();
    return test_end("test_rivals");
}

TEST_MAIN(test_main())
