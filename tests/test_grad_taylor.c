/* test_grad_taylor.c: gm_objective_expand against the definition, in double
   (-DGM_DOUBLE).

   The oracle runs the model block by block with W_m = Q_m,x + e D_mk for one
   module and takes KL by its definition.
     slope: central differences of KL(p || q_e) at e = 2h and h, h^2 term
            cancelled (Richardson).
     curve: F is the second derivative of KL(q_0 || q_e) at e = 0, whoever the
            original is: D^T F D = (KL(q_0 || q_h) + KL(q_0 || q_-h)) / h^2.
            What is drawn has that mean; its standard error is that of SEEDS
            samples.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats/formats.h"
#include "gamma.h"
#include "rivals/rivals.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

_Static_assert(sizeof(gm_real) == 8, "build with -DGM_DOUBLE");

enum { K = 3, MOST = 64, SEEDS = 100, ROWS = 600 };

typedef struct {
    gm_arena arena;
    gm_model model;
    gm_candidates candidates;
    gm_head head;
    long sequences, T;
    int32_t tokens[ROWS];
    int choice[MOST];
    bool allowed[MOST * K];
    long M, d, vocab;
    gm_real *states, *teacher;      /* [S T, d] */
    gm_objective *objective;
} fixture;

static void must(gm_status s) {
    CHECK(s == GM_OK, "%s", err.text);
    if (s) exit(test_end("test_grad_taylor"));
}

/* h_L of all sequences into h, modules at choice (NULL: original) but module m
   at Q_x + e (Q_k - Q_x). */
static void run(fixture *f, const int *choice, long m, int k, double e,
                gm_real *h) {
    const gm_config *c = &f->model.config;
    gm_mark mark = gm_arena_mark(&f->arena);
    gm_block block;
    gm_acts acts;
    must(STATUS(gm_block_alloc(&f->arena, c, &block)));
    must(STATUS(gm_acts_alloc(&f->arena, c, f->sequences, f->T, false, &acts)));
    must(STATUS(gm_embed(&f->model, f->tokens, f->sequences * f->T, h)));
    for (long l = 0; l < c->layers; l++) {
        must(STATUS(gm_block_load(&f->model, l, &block)));
        for (int j = 0; j < GM_LINEARS && choice; j++) {
            long out, in, n = l * GM_LINEARS + j;
            gm_linear_shape(c, j, &out, &in);
            must(STATUS(gm_candidate_weight(&f->arena, &f->candidates, l, j, choice[n],
                                     block.w[j])));
            if (n != m) continue;
            gm_real *other = gm_alloc(&f->arena, (size_t)(out * in),
                                      sizeof *other);
            must(STATUS(gm_candidate_weight(&f->arena, &f->candidates, l, j, k, other)));
            for (long i = 0; i < out * in; i++)
                block.w[j][i] += e * (other[i] - block.w[j][i]);
        }
        gm_block_forward(&acts, &block, h, h);
    }
    gm_arena_rewind(&f->arena, mark);
}

/* Mean KL(softmax of a's logits || of b's) over positions 0..T-2. */
static double divergence(fixture *f, const gm_real *a, const gm_real *b) {
    const long V = f->vocab;
    gm_mark mark = gm_arena_mark(&f->arena);
    gm_real *x = gm_alloc(&f->arena, (size_t)V, sizeof *x);
    gm_real *y = gm_alloc(&f->arena, (size_t)V, sizeof *y);
    gm_real *room = gm_alloc(&f->arena, (size_t)f->d, sizeof *room);
    double sum = 0;
    for (long r = 0; r < f->sequences * f->T; r++) {
        double zx = 0, zy = 0, kl = 0;
        if (r % f->T == f->T - 1) continue;
        gm_head_forward(&f->head, a + r * f->d, 1, room, x);
        gm_head_forward(&f->head, b + r * f->d, 1, room, y);
        for (long i = 0; i < V; i++) zx += exp(x[i]), zy += exp(y[i]);
        for (long i = 0; i < V; i++)
            kl += exp(x[i]) / zx * (x[i] - log(zx) - y[i] + log(zy));
        sum += kl;
    }
    gm_arena_rewind(&f->arena, mark);
    return sum / (double)(f->sequences * (f->T - 1));
}

static void begin(fixture *f, const char *dir, long S, long T) {
    gm_recipe recipe;
    memset(f, 0, sizeof *f);
    f->sequences = S, f->T = T;
    must(STATUS(gm_model_open(&f->arena, dir, &f->model)));
    must(STATUS(gm_recipe_parse("3,4,6", 32, &recipe)));
    must(STATUS(gm_candidates_open(&f->arena, &f->model, &recipe, NULL,
                            "build/double/taylor-work", NULL, &f->candidates)));
    must(STATUS(gm_head_load(&f->arena, &f->model, &f->head)));
    f->M = f->model.config.layers * GM_LINEARS;
    f->d = f->model.config.d;
    f->vocab = f->model.config.vocab;
    CHECK(f->M <= MOST, "%ld modules", f->M);
    for (long i = 0; i < S * T; i++)
        f->tokens[i] = (int32_t)((7 * i + 3) % f->vocab);
    for (long m = 0; m < f->M; m++) f->choice[m] = (int)(m % 2);
    for (long i = 0; i < f->M * K; i++)     /* k = 2: each fourth module's */
        f->allowed[i] = i % K < 2 || i / K % 4 == 0;
    f->candidates.allowed = f->allowed;
    const size_t n = (size_t)(f->sequences * f->T * f->d);
    f->states = gm_alloc(&f->arena, n, sizeof *f->states);
    f->teacher = gm_alloc(&f->arena, n, sizeof *f->teacher);
    run(f, NULL, -1, 0, 0, f->teacher);
    const gm_sequences text = {f->tokens, S, T};
    must(STATUS(f->objective = gm_objective_begin(&f->arena, &f->candidates,
                                                  &text, false, NULL)));
    must(STATUS(gm_objective_kl_begin(f->objective)));
}

static void expand(fixture *f, uint64_t seed, double *slope, double *curve) {
    must(STATUS(gm_objective_expand(f->objective, f->choice, seed, slope,
                                    curve)));
}

static double kl_at(fixture *f, long m, int k, double e) {
    run(f, f->choice, m, k, e, f->states);
    return divergence(f, f->teacher, f->states);
}

/* Of every `every`-th candidate. */
static void slopes(fixture *f, const char *dir, const double *slope,
                   long every) {
    double worst = 0, size = 0;
    for (long i = 0; i < f->M * K; i++) size = fmax(size, fabs(slope[i]));
    for (long i = 0; i < f->M * K; i += every) {
        const long m = i / K;
        const int k = (int)(i % K);
        const double h = 2e-3;
        if (!f->allowed[i] || k == f->choice[m]) {
            CHECK(slope[i] == 0, "%s: slope %ld %d is %g", dir, m, k, slope[i]);
            continue;
        }
        double d1 = (kl_at(f, m, k, h) - kl_at(f, m, k, -h)) / (2 * h);
        double d2 = (kl_at(f, m, k, 2 * h) - kl_at(f, m, k, -2 * h)) / (4 * h);
        worst = fmax(worst, fabs((4 * d1 - d2) / 3 - slope[i]) / size);
    }
    printf("%s: slope, worst relative error %.2e\n", dir, worst);
    CHECK(size > 1e-6 && worst > 0 && worst < 1e-7, "%s: slope of size %g off "
          "by %g", dir, size, worst);
}

static void curves(fixture *f, const char *dir) {
    static double slope[MOST * K], curve[MOST * K], drawn[MOST * K][SEEDS];
    const double h = 1e-2;
    double exact_all = 0, all = 0;
    gm_real *now = gm_alloc(&f->arena, (size_t)(f->sequences * f->T * f->d),
                            sizeof *now);
    for (int seed = 0; seed < SEEDS; seed++) {
        expand(f, (uint64_t)seed, slope, curve);
        for (long i = 0; i < f->M * K; i++) drawn[i][seed] = curve[i];
    }
    run(f, f->choice, -1, 0, 0, now);
    for (long i = 0; i < f->M * K; i++) {
        const long m = i / K;
        const int k = (int)(i % K);
        double error, mean = gm_mean_error(SEEDS, drawn[i], NULL, NULL,
                                           &error);
        if (!f->allowed[i] || k == f->choice[m]) {
            CHECK(mean == 0, "%s: curve %ld %d is %g", dir, m, k, mean);
            continue;
        }
        run(f, f->choice, m, k, h, f->states);
        double exact = divergence(f, now, f->states);
        run(f, f->choice, m, k, -h, f->states);
        exact = (exact + divergence(f, now, f->states)) / (2 * h * h);
        CHECK(fabs(mean - exact) < 5 * error, "%s: curve %ld %d is %g +- %g, "
              "by definition %g", dir, m, k, mean, error, exact);
        exact_all += exact;
        all += mean;
    }
    printf("%s: curve, sum of all %.4f of the definition's\n", dir,
           all / exact_all);
    CHECK(fabs(all / exact_all - 1) < 0.1, "%s: curves %g, by definition %g",
          dir, all, exact_all);
}

/* More positions than one chunk of logits has rows, at most 512. */
static void long_sequence(const char *dir) {
    fixture f;
    static double slope[MOST * K], curve[MOST * K];
    begin(&f, dir, 1, ROWS);
    CHECK(gm_logit_rows(f.vocab, ROWS - 1) < ROWS - 1, "one chunk");
    expand(&f, 1, slope, curve);
    slopes(&f, dir, slope, 7);
    gm_candidates_close(&f.candidates);
    gm_model_close(&f.model);
    gm_arena_free(&f.arena);
}

static void model(const char *dir) {
    fixture f;
    static double slope[MOST * K], curve[MOST * K], again[MOST * K],
        other[MOST * K];
    const size_t bytes = sizeof curve;
    memset(again, 0, bytes);
    memset(curve, 0, bytes);
    begin(&f, dir, 3, 6);
    expand(&f, 1, slope, curve);
    slopes(&f, dir, slope, 1);
    expand(&f, 1, slope, again);
    CHECK(memcmp(curve, again, bytes) == 0, "%s: other draws, same seed", dir);
    expand(&f, 2, other, again);
    CHECK(memcmp(curve, again, bytes) != 0, "%s: the same draws for another "
          "seed", dir);
    CHECK(memcmp(slope, other, (size_t)(f.M * K) * sizeof *slope) == 0,
          "%s: the seed moves the slope", dir);
    curves(&f, dir);
    const gm_sequences single = {f.tokens, 2, 1};
    must(STATUS(f.objective = gm_objective_begin(&f.arena, &f.candidates,
                                                 &single, false, NULL)));
    CHECK(STATUS(gm_objective_expand(f.objective, f.choice, 1, slope, curve)) ==
          GM_EUSAGE, "T = 1");
    CHECK_TEXT(err.text, "expected sequences of at least 2 tokens, found 1");
    gm_candidates_close(&f.candidates);
    gm_model_close(&f.model);
    gm_arena_free(&f.arena);
}

static int test_main(void) {
    gm_threads_use(1);      /* blocks this small only wait for each other */
    model("tests/golden/tiny-llama");
    model("tests/golden/tiny-qwen2");
    model("tests/golden/tiny-qwen3");
    long_sequence("tests/golden/tiny-llama");
    return test_end("test_grad_taylor");
}

TEST_MAIN(test_main())
