/* test_plan.c: plan.c's memory and disk against what the steps then allocate
   and write, on the tiny models; and what --max-memory makes of a plan.
   Writes under build/test/plan-work.

   Predicted: the process's peak.  Found here: the peak of the step's arena,
   which the prediction must meet within 10 %; gamma plan promises 20 %.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "rivals/rivals.h"
#include "cmd/cmd.h"
#include "test.h"

#include <stdlib.h>
#include <sys/stat.h>

#define WORK "build/test/plan-work"

static gm_arena keep;

static gm_recipe recipe_of(const char *text) {
    gm_recipe r;
    CHECK(STATUS(gm_recipe_read(text, &r)) == GM_OK, "%s", err.text);
    return r;
}

static gm_call plan_of(const gm_model *model, const gm_recipe *recipe,
                       const gm_fit_options *fit) {
    gm_call p = {.model = *model, .recipe = *recipe, .fit = *fit, .plan = {
                 .candidates = true, .learns = true}};
    for (long i = 0; i < model->tensors.count; i++)
        p.plan.model_bytes += (double)model->tensors.tensor[i].bytes;
    return p;
}

static void check_near(const char *what, double p, size_t found) {
    double f = (double)found;
    CHECK(p > 0.9 * f && p < 1.1 * f, "%s: predicted %.0f, found %.0f", what,
          p, f);
}

static gm_fit_options fit_options(const gm_recipe *r) {
    return (gm_fit_options){
        .relaxation = GM_SOFT_CORRECTED, .score = GM_SCORE_LOSS, .sequences = 5,
        .T = 96, .batch = 3, .steps = 2, .alpha = 0.1, .rho = 10, .eta = 0.02,
        .tau = 1, .tau_last = 1, .first_weight = 1, .rate = 0.1, .tail = 0.5,
        .budget = (r->bits[0] + r->bits[r->count - 1]) / 2., .seed = 1};
}

/* Of run: before evaluation, without the states of all blocks. */
static void test_anchors(const char *what, gm_call p,
                         const gm_candidates *candidates,
                         const gm_sequences *text, const int *choice) {
    const size_t n = (size_t)(p.recipe.count * p.model.config.layers *
                              GM_LINEARS);
    gm_arena alone = {0};
    gm_objective *objective;
    gm_planned step[GM_PLAN_STEPS];
    double *x = calloc(2 * n, sizeof *x);
    char name[256];
    gm_plan_memory(&p, step);
    const double before = step[GM_PLAN_EVAL].memory;
    p.plan.whole = true;
    gm_plan_memory(&p, step);
    CHECK(STATUS(objective = gm_objective_begin(&alone, candidates, text,
                                                false, NULL)) == GM_OK &&
          STATUS(gm_objective_kl_begin(objective)) == GM_OK &&
          STATUS(gm_objective_kl(objective, choice)) == GM_OK &&
          STATUS(gm_objective_expand(objective, choice, 1, x, x + n)) == GM_OK,
          "%s", err.text);
    snprintf(name, sizeof name, "%.200s: anchors", what);
    check_near(name, step[GM_PLAN_RIVALS].memory, alone.peak);
    CHECK(step[GM_PLAN_EVAL].memory < before, "%s: evaluation holds %g of %g",
          name, step[GM_PLAN_EVAL].memory, before);
    gm_arena_free(&alone);
    free(x);
}

/* The rivals of compare; `arena` holds what evaluation holds. */
static void test_rivals(const char *what, gm_call p, gm_arena *arena,
                        const gm_candidates *candidates,
                        const gm_sequences *text, const int *choice) {
    const long K = p.recipe.count, M = p.model.config.layers * GM_LINEARS;
    gm_objective *objective;
    gm_planned step[GM_PLAN_STEPS];
    double *S = calloc((size_t)(M * K), sizeof *S);
    double *C = calloc((size_t)(M * K), sizeof *C);
    char name[256];
    p.plan.rivals = GM_MEASURES_GRADIENTS;
    gm_plan_memory(&p, step);
    CHECK(STATUS(objective = gm_objective_begin(arena, candidates, text,
                                                true, NULL)) == GM_OK &&
          STATUS(gm_objective_separable(objective, NULL, S)) == GM_OK &&
          STATUS(gm_objective_kl_begin(objective)) == GM_OK &&
          STATUS(gm_objective_kl(objective, choice)) == GM_OK &&
          STATUS(gm_objective_expand(objective, choice, 1, S, C)) == GM_OK, "%s",
          err.text);
    snprintf(name, sizeof name, "%.200s: rivals", what);
    check_near(name, step[GM_PLAN_RIVALS].memory, arena->peak);
    if (text->sequences == 1) test_anchors(what, p, candidates, text, choice);
    free(C);
    free(S);
}

/* One long sequence: its backward pass takes more than evaluation's. */
static void test_one_sequence(const char *what, gm_call p,
                              const gm_candidates *candidates,
                              const int32_t *tokens, const int *choice) {
    gm_arena arena = {0};
    gm_head head;
    char name[256];
    p.on.text.T = 2, p.on.text.sequences = 1;
    p.fit.sequences = 1, p.fit.T = 5 * 96;
    CHECK(STATUS(gm_head_load(&arena, candidates->model, &head)) == GM_OK, "%s",
          err.text);
    snprintf(name, sizeof name, "%.200s, one sequence", what);
    test_rivals(name, p, &arena, candidates, &(gm_sequences){tokens, 1, 5 * 96},
                choice);
    gm_arena_free(&arena);
}

/* Candidates, learning and evaluation of one model and recipe. */
static void test_steps(const char *dir, const char *text) {
    gm_model model;
    gm_candidates candidates;
    gm_recipe r = recipe_of(text);
    gm_fit_options o = fit_options(&r);
    int32_t tokens[5 * 96];
    CHECK(STATUS(gm_model_open(&keep, dir, &model)) == GM_OK, "%s", err.text);
    for (int i = 0; i < 5 * 96; i++) tokens[i] = i * 7 % 500;
    gm_sequences all = {tokens, o.sequences, o.T};
    gm_call p = plan_of(&model, &r, &o);
    p.on.text.T = 64, p.on.text.sequences = 7;
    gm_planned step[GM_PLAN_STEPS];
    gm_plan_memory(&p, step);
    gm_arena arena = {0};
    char name[256];
    CHECK(STATUS(gm_model_hash(&model)) == GM_OK, "%s", err.text);
    CHECK(STATUS(gm_candidates_open(&arena, &model, &r, &all, WORK, NULL, &candidates)) == GM_OK, "%s", err.text);
    snprintf(name, sizeof name, "%s, %s: candidates", dir, text);
    check_near(name, step[GM_PLAN_CANDIDATES].memory, arena.peak);
    struct stat info;
    CHECK(stat(candidates.tensors.file[0]->path, &info) == 0, "stat");
    double disk = step[GM_PLAN_CANDIDATES].disk;
    CHECK(disk > 0.95 * (double)info.st_size &&
          disk < 1.05 * (double)info.st_size, "%s: predicted %.0f bytes of "
          "file, found %lld", name, disk, (long long)info.st_size);

    gm_arena learning = {0};
    gm_fit fit;
    CHECK(STATUS(gm_fit_begin(&learning, &candidates, tokens, &o, &fit)) ==
          GM_OK && STATUS(gm_fit_step(&fit)) == GM_OK, "%s", err.text);
    snprintf(name, sizeof name, "%s, %s: fit", dir, text);
    check_near(name, step[GM_PLAN_FIT].memory, learning.peak);
    gm_arena kept = {0};
    o.keep = p.fit.keep = true;
    gm_plan_memory(&p, step);
    CHECK(STATUS(gm_fit_begin(&kept, &candidates, tokens, &o, &fit)) == GM_OK &&
          STATUS(gm_fit_step(&fit)) == GM_OK, "%s", err.text);
    check_near(name, step[GM_PLAN_FIT].memory, kept.peak);
    gm_arena_free(&kept);

    gm_arena measuring = {0};
    gm_sequences windows = {tokens, 7, 64};
    gm_head head;
    gm_measure out;
    size_t n = (size_t)(7 * 64 * model.config.d) * sizeof(gm_real);
    gm_real *h = gm_alloc(&measuring, n, 1), *y = gm_alloc(&measuring, n, 1);
    int *choice = calloc((size_t)fit.M, sizeof *choice);
    CHECK(STATUS(gm_head_load(&measuring, &model, &head)) == GM_OK &&
          STATUS(gm_final_states(&measuring, &model, NULL, NULL, &windows, NULL, h)) == GM_OK &&
          STATUS(gm_final_states(&measuring, &model, &candidates, choice, &windows,
                          NULL, y)) == GM_OK &&
          STATUS(gm_evaluate(&measuring, &head, &windows, NULL, y, h, NULL,
                             &out)) ==
          GM_OK, "%s", err.text);
    snprintf(name, sizeof name, "%s, %s: eval", dir, text);
    check_near(name, step[GM_PLAN_EVAL].memory, measuring.peak);
    snprintf(name, sizeof name, "%s, %s", dir, text);
    test_rivals(name, p, &measuring, &candidates, &all, choice);
    if (r.quantizer == GM_RTN)          /* its passes are those of GPTQ too */
        test_one_sequence(name, p, &candidates, tokens, choice);
    free(choice);
    gm_arena_free(&measuring);
    gm_arena_free(&learning);
    gm_candidates_close(&candidates);
    gm_arena_free(&arena);
    gm_model_close(&model);
}

/* A plan that does not fit takes smaller pieces, and then says what to lower;
   nothing of it grows with the number of blocks but disk. */
static void test_limits(void) {
    gm_model model;
    gm_recipe r = recipe_of("gptq bits=2,3,4 group=64 hessian=token");
    gm_fit_options o = fit_options(&r);
    gm_planned step[GM_PLAN_STEPS], twice[GM_PLAN_STEPS];
    CHECK(STATUS(gm_model_open(&keep, "data/tiny-llama", &model)) == GM_OK, "%s",
          err.text);
    gm_call p = plan_of(&model, &r, &o);
    p.on.text.T = 64, p.on.text.sequences = 1000;
    double peak = step[gm_plan_memory(&p, step)].memory;
    CHECK(STATUS(gm_plan_fit(&p, peak)) == GM_OK && !p.on.group &&
          !p.recipe.at_once, "pieces were made smaller without need");
    double limit = step[GM_PLAN_CANDIDATES].memory - 1;
    p.plan.learns = false;
    CHECK(STATUS(gm_plan_fit(&p, limit)) == GM_OK, "%s", err.text);
    CHECK(twice[gm_plan_memory(&p, twice)].memory <= limit && p.on.group > 0 && p.on.group < 1000 &&
          p.recipe.at_once > 0 && p.recipe.at_once < 4, "groups of %ld "
          "windows, %ld sequences at once", p.on.group, p.recipe.at_once);
    CHECK(STATUS(gm_plan_fit(&p, 1000)) == GM_EMEM, "1000 bytes suffice");
    CHECK(strncmp(err.text, "--max-memory: ", 14) == 0 &&
          strstr(err.text, "expected at most 0.0 MB; lower --"), "%s",
          err.text);
    gm_call deep = plan_of(&model, &r, &o);
    gm_plan_memory(&deep, step);
    deep.model.config.layers *= 4;
    gm_plan_memory(&deep, twice);
    /* 400 bytes for each tensor of the file, for its name and shape */
    CHECK(twice[GM_PLAN_CANDIDATES].memory - step[GM_PLAN_CANDIDATES].memory ==
          3 * 8 * 7 * 3 * 3 * 400, "GPTQ's memory grows with blocks");
    /* 15 numbers for each module and candidate */
    CHECK(twice[GM_PLAN_FIT].memory -
          step[GM_PLAN_FIT].memory == 3 * 8 * 7 * 3 * 15 * 8,
          "Stage I's memory grows by %.0f",
          (twice[GM_PLAN_FIT].memory -
           step[GM_PLAN_FIT].memory));
    gm_model_close(&model);
}

/* One sequence at a time gives the same candidates. */
static void test_at_once(void) {
    gm_model model;
    gm_candidates a, b;
    gm_recipe r = recipe_of("gptq bits=2 group=64 hessian=attention");
    int32_t tokens[5 * 96];
    for (int i = 0; i < 5 * 96; i++) tokens[i] = i * 7 % 500;
    gm_sequences all = {tokens, 5, 96};
    CHECK(STATUS(gm_model_open(&keep, "data/tiny-llama", &model)) == GM_OK &&
          STATUS(gm_candidates_open(&keep, &model, &r, &all, WORK "/four", NULL, &a)) == GM_OK, "%s", err.text);
    r.at_once = 1;
    CHECK(STATUS(gm_candidates_open(&keep, &model, &r, &all, WORK "/one", NULL, &b)) == GM_OK, "%s", err.text);
    const char *x = a.tensors.file[0]->path, *y = b.tensors.file[0]->path;
    size_t m, n;
    const char *one = gm_file_text(&keep, x, &m);
    const char *two = gm_file_text(&keep, y, &n);
    CHECK(m == n && !memcmp(one, two, n) && strcmp(x, y), "%s and %s differ", x,
          y);
    gm_candidates_close(&a);
    gm_candidates_close(&b);
    gm_model_close(&model);
}

static int test_main(void) {
    if (system("rm -rf " WORK) || STATUS(gm_make_dir(WORK))) return 1;
    gm_threads_use(2);
    test_steps("data/tiny-llama", "rtn bits=2,3,4 group=64");
    test_steps("data/tiny-qwen3", "rtn bits=2,4,8 group=32");
    test_steps("data/tiny-llama", "gptq bits=2,3 group=64 hessian=token");
    test_steps("data/tiny-qwen2",
               "gptq bits=2,3,4 group=32 hessian=token sequential");
    test_limits();
    test_at_once();
    gm_arena_free(&keep);
    return test_end("test_plan");
}

TEST_MAIN(test_main())
