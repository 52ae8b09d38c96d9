/* test_products.c: how many multiply-adds Stage I does, counted around
   gm_gemm (linked with --wrap=gm_gemm), against the equations and what gamma
   plan says.  Writes under build/test/products-work.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd/cmd.h"
#include "test.h"

#include <math.h>
#include <stdatomic.h>

enum { S = 3, T = 48, K = 3 };      /* T: one tile of attention */

typedef typeof(gm_gemm) product;
product __real_gm_gemm, __wrap_gm_gemm;
static atomic_llong counted;

void __wrap_gm_gemm(long m, long n, long k, const gm_real *a, long ars,
                    long acs, const gm_real *b, long brs, long bcs, gm_real *c,
                    long ldc, bool add) {
    counted += (long long)m * n * k;
    __real_gm_gemm(m, n, k, a, ars, acs, b, brs, bcs, c, ldc, add);
}

/* Of `steps` steps over all sequences. */
static double count_steps(const gm_candidates *candidates,
                          const gm_fit_options *options, long steps,
                          bool keep) {
    gm_arena arena = {0};
    int32_t tokens[S * T];
    gm_fit fit;
    for (int i = 0; i < S * T; i++) tokens[i] = i * 7 % 60;
    counted = 0;
    gm_fit_options o = *options;
    o.keep = keep;
    CHECK(STATUS(gm_fit_begin(&arena, candidates, tokens, &o, &fit)) == GM_OK,
          "%s", err.text);
    while (fit.step < steps)
        CHECK(STATUS(gm_fit_step(&fit)) == GM_OK, "%s", err.text);
    gm_arena_free(&arena);
    return (double)counted;
}

/* A candidate alone: its own product and all behind it, attention (2 T heads hd
   a row in one tile, for q, k and v alone); in weights of linears. */
static double by_hand(const gm_config *c) {
    const double d = (double)c->d, ff = (double)c->ff;
    const double q = (double)(c->heads * c->head_dim);
    const double kv = (double)(c->kv_heads * c->head_dim);
    const double mlp = 3 * d * ff, o = q * d;
    return q * d + 2 * kv * d + 3 * (2 * T * q + o + mlp) + (o + mlp) +
           2 * (2 * d * ff) + d * ff;
}

static void errors_of_modules(const char *dir) {
    gm_arena arena = {0};
    gm_model model;
    gm_recipe recipe;
    gm_candidates candidates = {0};
    gm_fit_options o = {
        .relaxation = GM_SOFT, .score = GM_SCORE_LOSS, .sequences = S, .T = T,
        .batch = S, .steps = 1, .alpha = 0.1, .rho = 10, .eta = 0.02, .tau = 1,
        .rate = 0.1, .tail = 1, .budget = 3, .seed = 1};
    CHECK(STATUS(gm_model_open(&arena, dir, &model)) == GM_OK &&
          STATUS(gm_recipe_parse("2,3,4", 32, &recipe)) == GM_OK &&
          STATUS(gm_candidates_open(&arena, &model, &recipe, NULL,
                                    "build/test/products-work", NULL,
                                    &candidates)) == GM_OK, "%s", err.text);
    const gm_config *c = &model.config;
    gm_call call = {.model = model, .recipe = recipe, .fit = o};
    const double q = (double)(c->heads * c->head_dim);
    const double each = (double)(S * T * c->layers * K);
    double found = -count_steps(&candidates, &o, 1, false);
    double planned = -gm_plan_products(&call);
    o.relaxation = call.fit.relaxation = GM_SOFT_CORRECTED;
    found += count_steps(&candidates, &o, 1, false);
    planned += gm_plan_products(&call);
    CHECK(found == each * by_hand(c), "%s: S_mk takes %.0f multiply-adds, "
          "expected %.0f", dir, found, each * by_hand(c));
    /* the plan counts of attention what causal rows need, T + 1 a row */
    planned += each * 3 * q * (2 * T - (T + 1));
    CHECK(planned == found, "%s: S_mk takes %.0f multiply-adds, planned %.0f",
          dir, found, planned);
    /* kept, the teacher's pass is made in the first of three steps alone */
    o.relaxation = call.fit.relaxation = GM_SOFT, call.fit.steps = 3;
    found = count_steps(&candidates, &o, 3, false) -
            count_steps(&candidates, &o, 3, true);
    planned = gm_plan_products(&call);
    call.fit.keep = true;
    planned -= gm_plan_products(&call);
    planned += 2 * each / K * q * (2 * T - (T + 1));
    CHECK(planned == found && found > 0, "%s: kept states save %.0f "
          "multiply-adds, planned %.0f", dir, found, planned);
    gm_candidates_close(&candidates);
    gm_model_close(&model);
    gm_arena_free(&arena);
}

static int test_main(void) {
    STATUS(gm_make_dir("build/test/products-work"));
    errors_of_modules("tests/golden/tiny-llama");
    errors_of_modules("tests/golden/tiny-qwen2");
    errors_of_modules("tests/golden/tiny-qwen3");
    return test_end("test_products");
}

TEST_MAIN(test_main())
