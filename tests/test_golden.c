/* test_golden.c: the golden vectors that no other test reads: kernels by exact
   arithmetic, integer programs with all optima, three steps of Stage I with
   their scores.  docs/golden.md describes the files.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats/formats.h"
#include "gamma.h"
#include "rivals/rivals.h"
#include "test.h"
#include "vec.h"

#include <float.h>
#include <math.h>

static const char kernels_vec[] = "tests/golden/kernels.vec";
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

/* v [M][K] of whole numbers into x [M, K]; null: not there, as allowed says.
   false: another shape. */
static bool read_matrix(const gm_json *v, long M, int K, const bool *allowed,
                        int64_t *x) {
    if (!v || v->type != GM_JSON_ARRAY || v->length != (size_t)M) return false;
    for (v = v->child; v; v = v->next) {
        if (v->type != GM_JSON_ARRAY || v->length != (size_t)K) return false;
        for (const gm_json *c = v->child; c; c = c->next, x++) {
            if (c->type == GM_JSON_NULL ? allowed && *allowed : !c->is_integer)
                return false;
            *x = c->integer;
            if (allowed) allowed++;
        }
    }
    return true;
}

static bool read_couplings(gm_arena *arena, const gm_json *v, gm_mckp *p) {
    const gm_json *group = gm_json_get(v, "group");
    const gm_json *rows = gm_json_get(v, "rows");
    long m = 0;
    if (group) p->group = gm_alloc(arena, (size_t)p->M, sizeof *p->group);
    if (group && group->length != (size_t)p->M) return false;
    for (v = group ? group->child : NULL; v; v = v->next)
        p->group[m++] = (long)v->integer;
    if (!rows) return true;
    p->row = gm_alloc(arena, rows->length, sizeof *p->row);
    for (v = rows->child; v; v = v->next) {
        int64_t *cost = gm_alloc(arena, (size_t)(p->M * p->K), sizeof *cost);
        if (!read_matrix(gm_json_get(v, "cost"), p->M, p->K, NULL, cost))
            return false;
        p->row[p->rows++] = (gm_row){.name = "row", .cost = cost,
                                     .limit = gm_json_get(v, "limit")->integer};
    }
    return true;
}

static bool read_problem(gm_arena *arena, const gm_json *v, gm_mckp *p) {
    const gm_json *size = gm_json_get(v, "size"), *first = size->child;
    gm_mckp_new(arena, (long)size->length, first ? (int)first->length : 1, p);
    long i = 0;
    for (const gm_json *row = first; row; row = row->next)
        for (const gm_json *c = row->child; c && i < p->M * p->K; c = c->next)
            p->allowed[i++] = c->type != GM_JSON_NULL;
    p->budget = gm_json_get(v, "budget")->integer;
    p->exact = gm_json_is(gm_json_get(v, "relation"), "=");
    return read_matrix(size, p->M, p->K, p->allowed, p->size) &&
           read_matrix(gm_json_get(v, "score"), p->M, p->K, p->allowed,
                       p->score) && read_couplings(arena, v, p);
}

static void check_infeasible(const char *name, gm_status s,
                             const gm_certificate *t, const gm_json *v) {
    const gm_json *r = gm_json_get(v, "reachable");
    const gm_reach *x = &t->reach;
    CHECK(s == GM_EINFEASIBLE, "%s: status %d", name, s);
    if (!r) return;
    CHECK(x->smallest == gm_json_get(r, "smallest")->integer &&
          x->below == gm_json_get(r, "below")->integer &&
          x->above == gm_json_get(r, "above")->integer &&
          x->largest == gm_json_get(r, "largest")->integer,
          "%s: %ld %ld %ld %ld", name, (long)x->smallest, (long)x->below,
          (long)x->above, (long)x->largest);
}

/* The optimum's value, and the first of all optima: the tie rule's. */
static void solve_one(gm_arena *arena, const gm_json *v, gm_mckp *p,
                      gm_solver solver) {
    gm_solve_options options = {.solver = solver};
    gm_certificate t = {0};
    const char *name = gm_json_get(v, "name")->string;
    const gm_json *status = gm_json_get(v, "status");
    const gm_json *answer = gm_json_get(v, "answer");
    const gm_json *optima = gm_json_get(v, "optima");
    int *choice = gm_alloc(arena, (size_t)p->M + 1, sizeof *choice);
    gm_status s = SOLVED(gm_mckp_solve(arena, p, &options, choice, &t), t);
    if (gm_json_is(status, "invalid"))
        CHECK(strstr(err.text, s == GM_EINPUT ? "integer program: " : ": the "
                     "constraints leave it no candidate") &&
              (s == GM_EINPUT || s == GM_EINFEASIBLE), "%s: status %d, %s",
              name, s, err.text);
    if (gm_json_is(status, "infeasible")) check_infeasible(name, s, &t, v);
    if (!gm_json_is(status, "optimal")) return;
    const long best = (long)gm_json_get(v, "objective")->integer;
    CHECK(s == GM_OK && t.optimal && t.objective == best,
          "%s, solver %d: %ld, expected %ld; %s", name, solver,
          (long)t.objective, best, err.text);
    const gm_json *k = answer ? answer->child : optima->child->child;
    long m = 0;
    for (; k && k->integer == choice[m]; k = k->next) m++;
    CHECK(m == p->M, "%s, solver %d: not the tie rule's at module %ld", name,
          solver, m);
}

/* What the reader above does not take need not be solved. */
static void test_integer_programs(void) {
    gm_arena all = {0};
    const gm_json *file = gm_json_read(&all, "tests/golden/mckp.json", false);
    const gm_json *list = gm_json_get(file, "cases");
    long misshapen = 0;
    for (const gm_json *v = list->child; v; v = v->next) {
        gm_arena arena = {0};
        gm_mckp p = {0};
        if (!read_problem(&arena, v, &p)) {
            CHECK(gm_json_is(gm_json_get(v, "status"), "invalid"), "%s",
                  gm_json_get(v, "name")->string);
            misshapen++;
        } else {
            if (p.rows == 0)            /* the rest is GLPK's alone */
                solve_one(&arena, v, &p, GM_DP);
            if (gm_have_glpk()) {
                solve_one(&arena, v, &p, GM_GLPK);
                solve_one(&arena, v, &p, GM_BOTH);
            }
        }
        gm_arena_free(&arena);
    }
    CHECK(list->length == 33 && misshapen == 5, "%zu cases, %ld misshapen",
          list->length, misshapen);
    gm_arena_free(&all);
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

/* KL of the model with candidate m mod 3 in module m, and its expansion, with
   the labels that torch drew. */
static void test_expansion(gm_arena *arena, const char *set,
                           const gm_candidates *candidates,
                           const int32_t *tokens, long M) {
    const gm_sequences text = {tokens, 4, 24};
    const size_t n = (size_t)(M * candidates->recipe.count);
    gm_objective *o;
    double kl, *slope = gm_alloc(arena, n, sizeof *slope);
    double *curve = gm_alloc(arena, n, sizeof *curve);
    int *choice = gm_alloc(arena, (size_t)M, sizeof *choice);
    for (long m = 0; m < M; m++) choice[m] = (int)(m % 3);
    CHECK(!STATUS(o = gm_objective_begin(arena, candidates, &text, false,
                                         NULL)) &&
          !STATUS(gm_objective_kl_begin(o)) &&
          !STATUS(kl = gm_objective_kl(o, choice)) &&
          !STATUS(gm_objective_expand(o, choice, 5, slope, curve)), "%s: %s",
          set, err.text);
    compare(set, "kl", &kl);
    compare(set, "slope", slope);
    compare(set, "curve", curve);
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
    test_expansion(&arena, set, &candidates, tokens, fit.M);
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
