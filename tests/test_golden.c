/* test_golden.c: the golden vectors that no other test reads: kernels by exact
   arithmetic, ten integer programs with all optima, three steps of Stage I with
   their scores.  docs/golden.md describes the files.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats/formats.h"
#include "gamma.h"
#include "test.h"
#include "vec.h"

#include <float.h>
#include <math.h>

static const char kernels_vec[] = "tests/golden/kernels.vec";
static const char mckp_vec[] = "tests/golden/mckp.vec";
static const char second_vec[] = "tests/golden/second.vec";

/* Record PREFIX.WHAT, or PREFIX when what is NULL. */
static gm_vec record(const char *path, const char *prefix, const char *what) {
    char name[128];
    snprintf(name, sizeof name, "%s%s%s", prefix, what ? "." : "",
             what ? what : "");
    return vec_read(path, name);
}

static gm_real *reals(gm_arena *arena, const gm_vec *v) {
    gm_real *x = gm_alloc(arena, (size_t)v->count, sizeof *x);
    for (long i = 0; i < v->count; i++) x[i] = (gm_real)v->f[i];
    return x;
}

/* ------------------------------------------------------------------ kernels */

/* gemm, dot and sum: the same bits as rationals rounded once a step. */
static void test_sums(void) {
    gm_arena arena = {0};
    gm_vec a = vec_read(kernels_vec, "gemm.a"), b = vec_read(kernels_vec,
                                                             "gemm.b");
    gm_vec c = vec_read(kernels_vec, "gemm.c"), d = vec_read(kernels_vec,
                                                             "dot");
    gm_vec s = vec_read(kernels_vec, "sum");
    const long m = a.dim[0], k = a.dim[1], n = b.dim[1];
    gm_real *x = reals(&arena, &a), *y = reals(&arena, &b);
    gm_real *z = reals(&arena, &c), *out = gm_alloc(&arena, (size_t)(m * n),
                                                    sizeof *out);
    gm_gemm(m, n, k, x, k, 1, y, n, 1, out, n, false);
    for (long i = 0; i < m * n; i++)
        CHECK(out[i] == z[i], "gemm %ld: %.9g, expected %.9g", i,
              (double)out[i], (double)z[i]);
    CHECK(gm_dot(k, x, x + k) == d.f[0], "dot %.17g, expected %.17g",
          gm_dot(k, x, x + k), d.f[0]);
    CHECK(gm_sum(k, x) == s.f[0], "sum %.17g, expected %.17g", gm_sum(k, x),
          s.f[0]);
    vec_free(&a), vec_free(&b), vec_free(&c), vec_free(&d), vec_free(&s);
    gm_arena_free(&arena);
}

static double unit(double x) {      /* 2^-53 of x, for the bounds below */
    return fabs(x) * 0x1p-53;
}

/* gm_exp: 0.94 units in the last place, at most 2^-23 of x each. */
static void test_exp(void) {
    gm_arena arena = {0};
    gm_vec x = vec_read(kernels_vec, "exp.x"), e = vec_read(kernels_vec, "exp");
    gm_real *y = reals(&arena, &x);
    gm_exp(x.count, y, y);
    for (long i = 0; i < x.count; i++)
        CHECK(fabs((double)y[i] - e.f[i]) <= 0.94 * 0x1p-23 * e.f[i],
              "exp(%.9g) = %.9g, expected %.17g", x.f[i], (double)y[i], e.f[i]);
    vec_free(&x), vec_free(&e);
    gm_arena_free(&arena);
}

/* The bounds stated in kernels.c, plus half a unit of the vectors' rounding:
   exp and log 1.5 + 0.5, sine and cosine 2.25 + 0.5 in units of 2^-53. */
static void test_elementary(void) {
    gm_vec x = vec_read(kernels_vec, "double.x"), l = vec_read(kernels_vec,
                                                               "logd.x");
    gm_vec e = vec_read(kernels_vec, "expd"), s = vec_read(kernels_vec, "sine");
    gm_vec c = vec_read(kernels_vec, "cosine"), g = vec_read(kernels_vec,
                                                             "logd");
    for (long i = 0; i < x.count; i++) {
        double sine, cosine;
        gm_sincosd(x.f[i], &sine, &cosine);
        CHECK(fabs(gm_expd(x.f[i]) - e.f[i]) <= 2 * unit(e.f[i]), "exp(%.17g)",
              x.f[i]);
        CHECK(fabs(sine - s.f[i]) <= 2.75 * unit(s.f[i]), "sin(%.17g)", x.f[i]);
        CHECK(fabs(cosine - c.f[i]) <= 2.75 * unit(c.f[i]), "cos(%.17g)",
              x.f[i]);
    }
    for (long i = 0; i < l.count; i++)
        CHECK(fabs(gm_logd(l.f[i]) - g.f[i]) <= 2 * unit(g.f[i]),
              "ln %.17g = %.17g, expected %.17g", l.f[i], gm_logd(l.f[i]),
              g.f[i]);
    vec_free(&x), vec_free(&l), vec_free(&e);
    vec_free(&s), vec_free(&c), vec_free(&g);
}

/* --------------------------------------------------------- integer programs */

/* The record's numbers, and its first two dimensions in shape (or NULL). */
static int64_t *integers(gm_arena *arena, const char *name, const char *what,
                         long *shape) {
    gm_vec v = record(mckp_vec, name, what);
    int64_t *x = gm_alloc(arena, (size_t)v.count + 1, sizeof *x);
    memcpy(x, v.i, (size_t)v.count * sizeof *x);
    if (shape) shape[0] = v.dim[0], shape[1] = v.dim[1];
    vec_free(&v);
    return x;
}

static void read_couplings(gm_arena *arena, const char *name, gm_mckp *p) {
    long shape[2];
    int64_t *x = integers(arena, name, "group", NULL);
    p->group = gm_alloc(arena, (size_t)p->M, sizeof *p->group);
    for (long m = 0; m < p->M; m++) p->group[m] = (long)x[m];
    x = integers(arena, name, "cost", shape);
    int64_t *limit = integers(arena, name, "limit", NULL);
    p->rows = shape[0];
    p->row = gm_alloc(arena, (size_t)p->rows, sizeof *p->row);
    for (long r = 0; r < p->rows; r++)
        p->row[r] = (gm_row){.name = "row", .cost = x + r * p->M * p->K,
                             .limit = limit[r]};
}

static void read_problem(gm_arena *arena, const char *name, gm_mckp *p) {
    long shape[2];
    int64_t *size = integers(arena, name, "size", shape);
    CHECK(STATUS(gm_mckp_new(arena, shape[0], (int)shape[1], p)) == GM_OK, "%s",
          name);
    p->size = size;
    p->score = integers(arena, name, "score", NULL);
    const int64_t *x = integers(arena, name, "allowed", NULL);
    for (long i = 0; i < p->M * p->K; i++) p->allowed[i] = x[i] != 0;
    p->budget = *integers(arena, name, "budget", NULL);
    p->exact = *integers(arena, name, "exact", NULL) != 0;
    read_couplings(arena, name, p);
}

/* Infeasible: reachable are smallest, next below, next above, largest. */
static void check_infeasible(const char *name, gm_status s,
                             const gm_certificate *t) {
    gm_vec r = record(mckp_vec, name, "reachable");
    CHECK(s == GM_EINFEASIBLE, "%s: status %d", name, s);
    const gm_reach *x = &t->reach;
    CHECK(x->smallest == r.i[0] && x->below == r.i[1] && x->above == r.i[2] &&
          x->largest == r.i[3], "%s: %ld %ld %ld %ld", name, (long)x->smallest,
          (long)x->below, (long)x->above, (long)x->largest);
    vec_free(&r);
}

/* The optimum's value, and the first of all optima: the tie rule's. */
static void solve_one(gm_arena *arena, const char *name, gm_mckp *p,
                      gm_solver solver) {
    gm_solve_options options = {.solver = solver};
    gm_certificate t = {0};
    int *choice = gm_alloc(arena, (size_t)p->M, sizeof *choice);
    gm_status s = SOLVED(gm_mckp_solve(arena, p, &options, choice, &t), t);
    gm_vec all = record(mckp_vec, name, "optima");
    if (all.dim[0] == 0) {
        check_infeasible(name, s, &t);
    } else {
        gm_vec best = record(mckp_vec, name, "objective");
        CHECK(s == GM_OK && t.optimal && t.objective == best.i[0],
              "%s, solver %d: %ld, expected %ld; %s", name, solver,
              (long)t.objective, (long)best.i[0], err.text);
        bool first = true;
        for (long m = 0; m < p->M; m++) first = first && choice[m] == all.i[m];
        CHECK(first, "%s, solver %d: not the first of %ld optima", name, solver,
              all.dim[0]);
        vec_free(&best);
    }
    vec_free(&all);
}

static void test_integer_programs(void) {
    gm_vec names = vec_read(mckp_vec, "names");
    long count = 0;
    for (char *name = strtok(names.s, " "); name; name = strtok(NULL, " ")) {
        gm_arena arena = {0};
        gm_mckp p;
        read_problem(&arena, name, &p);
        if (p.rows == 0)                /* the rest is GLPK's alone */
            solve_one(&arena, name, &p, GM_DP);
        if (gm_have_glpk()) {
            solve_one(&arena, name, &p, GM_GLPK);
            solve_one(&arena, name, &p, GM_BOTH);
        }
        gm_arena_free(&arena);
        count++;
    }
    CHECK(count == 9, "%ld instances", count);
    vec_free(&names);
}

/* ------------------------------------------------------------------ Stage I */

/* The largest difference, over the largest value, is at most MARGIN times that
   of torch's own float32 run: both round the same sums, in other orders.  The
   largest ratio seen is 2.4 (theta of qwen2). */
enum { MARGIN = 5 };

static void compare(const char *model, const char *what, const double *x) {
    char name[64];
    snprintf(name, sizeof name, "%s.distance", what);
    gm_vec expected = record(second_vec, model, what);
    gm_vec distance = record(second_vec, model, name);
    double off = 0, most = 0;
    for (long i = 0; i < expected.count; i++) {
        double d = fabs(x[i] - expected.f[i]);
        off = d <= off ? off : d;           /* NaN stays */
        most = fmax(most, fabs(expected.f[i]));
    }
    CHECK(off <= MARGIN * distance.f[0] * most, "%s.%s: off by %.2g, float32 "
          "in torch %.2g", model, what, off / most, distance.f[0]);
    vec_free(&expected), vec_free(&distance);
}

static void keep(const gm_fit *fit, long step, double *theta, double *scalars) {
    const long n = fit->M * fit->K;
    memcpy(theta + step * n, fit->theta, (size_t)n * sizeof *theta);
    scalars[step] = fit->E;
    scalars[3 + step] = fit->c;
    scalars[6 + step] = fit->lambda;
}

static void test_stage1(const char *set) {
    const gm_fit_options options = {
        .relaxation = GM_SOFT_CORRECTED, .score = GM_SCORE_LOSS, .sequences = 4,
        .T = 24, .batch = 2, .steps = 3, .alpha = 0.1, .rho = 10,
        .eta = 0.02, .tau = 0.7, .rate = 0.1, .tail = 1, .budget = 2.75,
        .seed = 5};
    gm_arena arena = {0};
    gm_model model;
    gm_recipe recipe;
    gm_candidates candidates;
    gm_fit fit;
    char dir[64];
    snprintf(dir, sizeof dir, "tests/golden/tiny-%s", set);
    gm_vec t = record(second_vec, set, "tokens");
    int32_t *tokens = gm_alloc(&arena, (size_t)t.count, sizeof *tokens);
    for (long i = 0; i < t.count; i++) tokens[i] = (int32_t)t.i[i];
    gm_status s = STATUS(gm_model_open(&arena, dir, &model));
    if (!s) s = STATUS(gm_recipe_parse("2,3,4", 32, &recipe));
    if (!s) s = STATUS(gm_candidates_open(&arena, &model, &recipe, NULL,
                                   "build/test/golden-work", NULL, &candidates));
    if (!s) s = STATUS(gm_fit_begin(&arena, &candidates, tokens, &options, &fit));
    CHECK(s == GM_OK, "%s: %s", set, err.text);
    if (s) return;
    const size_t n = (size_t)(fit.M * fit.K);
    double *theta = gm_alloc(&arena, 3 * n, sizeof *theta), scalars[9];
    double *score = gm_alloc(&arena, n, 8), *error = gm_alloc(&arena, n, 8);
    for (long step = 0; step < 3; step++) {
        CHECK(STATUS(gm_fit_step(&fit)) == GM_OK, "%s", err.text);
        keep(&fit, step, theta, scalars);
        if (step == 0) compare(set, "g", fit.g);
    }
    gm_fit_scores(&fit, score, error);
    compare(set, "E0", &fit.E0);
    compare(set, "separable", fit.separable);
    compare(set, "E", scalars);
    compare(set, "c", scalars + 3);
    compare(set, "lambda", scalars + 6);
    compare(set, "theta", theta);
    compare(set, "scores", score);
    compare(set, "scores_error", error);
    fit.options.score = GM_SCORE_SCALED;
    gm_fit_scores(&fit, score, error);
    compare(set, "scaled", score);
    gm_candidates_close(&candidates);
    gm_model_close(&model);
    gm_arena_free(&arena);
    vec_free(&t);
}

static int test_main(void) {
    test_sums();
    test_exp();
    test_elementary();
    test_integer_programs();
    test_stage1("llama");
    test_stage1("qwen2");
    test_stage1("qwen3");
    return test_end("test_golden");
}

TEST_MAIN(test_main())
