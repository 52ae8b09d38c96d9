/* test_probe.c: the end-to-end probes against finite differences of the whole
   quantized model's log-likelihood and against the KL of single modules; the
   scores made from them; threads and instruction sets.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

static const char work[] = "build/test/probe-work";
enum { T = 24, SEED = 5, ORIGINAL = 2 };

typedef struct {
    gm_arena arena;
    gm_model model;
    gm_candidates candidates;
    gm_head head;
    gm_block block;
    gm_acts acts;
    gm_rope_table rope;
    int32_t *tokens;            /* [4 T] */
    int *choice;                /* [M] 0, 1, ORIGINAL, 0, ... */
    gm_real *h, *w;             /* [T, d]; one weight */
    long M;
    int K;
} fixture;

#define MUST(call)                                                         \
    do {                                                                   \
        gm_error err_ = {0}, *err = &err_;                                 \
        if ((call) == GM_OK) break;                                        \
        printf("FAILED %s: %s\n", #call, err_.text);                       \
        exit(1);                                                           \
    } while (0)

static void begin(fixture *f, const char *dir) {
    gm_recipe recipe;
    memset(f, 0, sizeof *f);
    gm_arena *a = &f->arena;
    MUST(gm_model_open(a, dir, &f->model, err));
    MUST(gm_recipe_parse("2,3,16", 64, &recipe, err));
    MUST(gm_candidates_open(a, &f->model, &recipe, NULL, work, NULL,
                            &f->candidates, err));
    const gm_config *c = &f->model.config;
    MUST(gm_head_load(a, &f->model, &f->head, err));
    MUST(gm_block_alloc(a, c, &f->block, err));
    MUST(gm_acts_alloc(a, c, 1, T, false, &f->acts, err));
    MUST(gm_rope_build(a, c, T, NULL, &f->rope, err));
    f->M = c->layers * GM_LINEARS;
    f->K = recipe.count;
    f->tokens = gm_alloc(a, 4 * T, sizeof *f->tokens);
    f->choice = gm_alloc(a, (size_t)f->M, sizeof *f->choice);
    f->h = gm_alloc(a, T, (size_t)c->d * sizeof *f->h);
    f->w = gm_alloc(a, (size_t)(c->d * c->ff), sizeof *f->w);
    for (long i = 0; i < 4 * T; i++)
        f->tokens[i] = (int32_t)(gm_random(SEED, 9, (uint64_t)i) %
                                 (uint64_t)c->vocab);
    for (long m = 0; m < f->M; m++) f->choice[m] = (int)(m % 3);
}

static void end(fixture *f) {
    gm_candidates_close(&f->candidates);
    gm_model_close(&f->model);
    gm_arena_free(&f->arena);
}

/* f->h: final states of the first sequence with module m, if >= 0, moved by
   step (Q_mk - W_m). */
static void forward(fixture *f, long m, int k, double step) {
    const gm_config *c = &f->model.config;
    MUST(gm_embed(&f->model, f->tokens, T, f->h, err));
    for (long l = 0; l < c->layers; l++) {
        int j = m >= 0 && m / GM_LINEARS == l ? (int)(m % GM_LINEARS) : -1;
        long out = 0, in = 0;
        if (j >= 0) {
            gm_linear_shape(c, j, &out, &in);
            MUST(gm_block_load(&f->model, l, &f->block, err));
            memcpy(f->w, f->block.w[j], (size_t)(out * in) * sizeof *f->w);
        }
        MUST(gm_chosen_block(&f->candidates, l, f->choice + l * GM_LINEARS,
                             &f->block, err));
        if (j >= 0) {
            gm_real *q = gm_alloc(&f->arena, (size_t)(out * in), sizeof *q);
            MUST(gm_candidate_weight(&f->candidates, l, j, k, q, err));
            for (long i = 0; i < out * in; i++)
                f->block.w[j][i] += (gm_real)step * (q[i] - f->w[i]);
        }
        gm_block_forward(c, &f->block, &f->rope, f->h, &f->acts, f->h);
    }
}

/* y_t: where u_t times the sum is passed in the cumulative sum of exp. */
static void labels(fixture *f, uint64_t draw, int32_t *y) {
    const long V = f->head.vocab;
    gm_real *x = gm_alloc(&f->arena, (size_t)(T * V), sizeof *x);
    gm_real *scratch = gm_alloc(&f->arena, (size_t)(T * f->head.d), sizeof *x);
    forward(f, -1, 0, 0);
    gm_head_forward(&f->head, f->h, T, scratch, x);
    for (long t = 0; t < T; t++) {
        double sum = 0, passed = 0;
        for (long i = 0; i < V; i++) sum += exp((double)x[t * V + i]);
        double at = sum * gm_uniform(SEED, draw, (uint64_t)t);
        for (y[t] = 0; y[t] < V - 1; y[t]++) {
            passed += exp((double)x[t * V + y[t]]);
            if (passed > at) break;
        }
    }
}

static double likelihood(fixture *f, const int32_t *y, long m, int k,
                         double step) {
    double nll[T], sum = 0;
    forward(f, m, k, step);
    MUST(gm_token_losses(&f->arena, &f->head, f->h, y, T, nll, err));
    for (long t = 0; t < T; t++) sum -= nll[t];
    return sum;
}

/* Claim: with one sequence and one draw, loss_mk = <s_m, Q_mk - W_m>^2 / (2 T),
   s_m the derivative of sum_t ln q_t(y_t) of the whole quantized model.
   Central differences of step 0.05 in float: the likelihood (about -100) is good to
   1e-5 or so, hence the slope to 2e-4, the third derivative adds about as much:
   0.01 of the largest slope of the block's modules is allowed. */
static void test_slopes(const char *dir) {
    fixture f;
    int32_t y[T];
    begin(&f, dir);
    const gm_sequences text = {f.tokens, 1, T};
    double *loss = gm_alloc(&f.arena, (size_t)(f.M * f.K), sizeof *loss);
    MUST(gm_probe(&f.arena, &f.candidates, &text, f.choice, 1, SEED, NULL,
                  loss, err));
    labels(&f, 0, y);
    const long blocks[] = {0, f.M / GM_LINEARS - 1};
    for (int b = 0; b < 2; b++) {
        double slope[GM_LINEARS], most = 0;
        for (int j = 0; j < GM_LINEARS; j++) {
            long m = blocks[b] * GM_LINEARS + j;
            slope[j] = fabs(likelihood(&f, y, m, j % 2, 0.05) -
                            likelihood(&f, y, m, j % 2, -0.05)) / 0.1;
            most = fmax(most, slope[j]);
        }
        for (int j = 0; j < GM_LINEARS; j++) {
            long m = blocks[b] * GM_LINEARS + j;
            double probed = sqrt(2 * T * loss[m * f.K + j % 2]);
            CHECK(fabs(probed - slope[j]) < 0.01 * most,
                  "%s: module %ld: slope %g, probed %g", dir, m, slope[j],
                  probed);
        }
    }
    end(&f);
}

/* KL of the model in which module m alone has candidate k. */
static double divergence(fixture *f, const gm_text *text, long m, int k,
                         gm_real *states, const gm_real *original) {
    gm_measure measure;
    int *choice = gm_alloc(&f->arena, (size_t)f->M, sizeof *choice);
    for (long i = 0; i < f->M; i++) choice[i] = i == m ? k : ORIGINAL;
    MUST(gm_final_states(&f->arena, &f->model, &f->candidates, choice, text,
                         NULL, states, err));
    MUST(gm_evaluate(&f->arena, &f->head, text, states, original, NULL,
                     &measure, err));
    return measure.kl;
}

/* Claim: at the original, the mean over many draws is the KL of each module
   alone, and 0 for the original weight.  96 draws have a relative standard
   error of sqrt(2/96) = 0.14, less in a sum of seven modules; KL of 3 bits is
   quadratic within a few per cent: 0.35 is allowed for such a sum. */
static void test_divergence(void) {
    fixture f;
    begin(&f, "data/tiny-qwen2");
    const gm_sequences text = {f.tokens, 4, T};
    const gm_text windows = {f.tokens, 4, T};
    double *loss = gm_alloc(&f.arena, (size_t)(f.M * f.K), sizeof *loss);
    const size_t row = (size_t)f.head.d * sizeof(gm_real);
    gm_real *states = gm_alloc(&f.arena, 4 * T, row);
    gm_real *original = gm_alloc(&f.arena, 4 * T, row);
    MUST(gm_probe(&f.arena, &f.candidates, &text, NULL, 24, SEED, NULL, loss,
                  err));
    MUST(gm_final_states(&f.arena, &f.model, NULL, NULL, &windows, NULL,
                         original, err));
    for (long l = 0; l < f.M / GM_LINEARS; l += 5) {
        double probed = 0, measured = 0;
        for (long m = l * GM_LINEARS; m < (l + 1) * GM_LINEARS; m++) {
            probed += loss[m * f.K + 1];
            measured += divergence(&f, &windows, m, 1, states, original);
            CHECK(loss[m * f.K + ORIGINAL] < 1e-6 * loss[m * f.K + 1],
                  "module %ld: the original costs %g", m,
                  loss[m * f.K + ORIGINAL]);
        }
        CHECK(fabs(probed / measured - 1) < 0.35, "block %ld: probed %g, "
              "measured %g", l, probed, measured);
    }
    end(&f);
}

/* Claim: the same bits for any number of threads and instruction set. */
static void test_same(void) {
    fixture f;
    begin(&f, "data/tiny-llama");
    const gm_sequences text = {f.tokens, 2, 2 * T};
    const size_t n = (size_t)(f.M * f.K);
    double *loss = gm_alloc(&f.arena, n, sizeof *loss);
    double *again = gm_alloc(&f.arena, n, sizeof *again);
    const gm_isa best = gm_isa_now();
    const int threads = gm_threads();
    MUST(gm_probe(&f.arena, &f.candidates, &text, f.choice, 1, SEED, NULL,
                  loss, err));
    gm_threads_use(threads + 2);
    gm_isa_use(GM_SCALAR);
    MUST(gm_probe(&f.arena, &f.candidates, &text, f.choice, 1, SEED, NULL,
                  again, err));
    gm_isa_use(best);
    gm_threads_use(threads);
    CHECK(memcmp(loss, again, n * sizeof *loss) == 0, "other bits with other "
          "threads and instructions");
    end(&f);
}

/* Claim: ln r_m is the mean of ln(KL / u) over the candidates that both order,
   less its mean over the modules, times 1 - 2/(n V).  By hand, u less its least:
   4 1 0 with KL 17 3 1: ratios 4, 2, ln r = ln(8)/2;  2 1 0 with KL 4 3 2: 0;
   a module of one candidate: none, factor 1.  Less their mean ln(8)/4: +-
   ln(8)/4, V = (ln(8)/4)^2 = 0.270 over the two that count, n = 100. */
static void test_scores(void) {
    gm_arena arena = {0};
    gm_scores t;
    const int bits[] = {2, 3, 4};
    const double u[] = {4, 1, 0, 2, 1, 0, 7, 0, 0};
    const double loss[] = {17, 3, 1, 4, 3, 2, 5, 0, 0};
    MUST(gm_scores_new(&arena, 3, 3, bits, &t, err));
    for (int i = 0; i < 9; i++) {
        t.score[i] = u[i];
        t.error[i] = i == 0 ? -1 : 1;
        t.bytes[i] = i < 7 ? 1 : -1;
    }
    MUST(gm_probe_scores(&arena, &t, loss, 100, err));
    const double square = log(8) * log(8) / 16;
    const double r = exp((1 - 0.02 / square) * log(8) / 4);
    const double expected[] = {4 * r, r, 0, 2 / r, 1 / r, 0, 7, 0, 0};
    for (int i = 0; i < 9; i++)
        CHECK(fabs(t.score[i] - expected[i]) < 1e-12, "score %d: %g, expected "
              "%g", i, t.score[i], expected[i]);
    CHECK(t.error[0] == -1 && fabs(t.error[1] - r) < 1e-12 &&
          fabs(t.error[3] - 1 / r) < 1e-12, "standard errors: %g %g %g",
          t.error[0], t.error[1], t.error[3]);
    MUST(gm_probe_scores(&arena, &t, loss, 1, err));
    CHECK(t.score[6] == 7 && fabs(t.score[0] - 4 * r) < 1e-12, "one probe "
          "changes nothing: %g %g", t.score[6], t.score[0]);
    gm_arena_free(&arena);
}

int main(void) {
    test_slopes("data/tiny-llama");
    test_slopes("data/tiny-qwen2");
    test_divergence();
    test_same();
    test_scores();
    return test_end("test_probe");
}
