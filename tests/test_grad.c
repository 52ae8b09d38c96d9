/* test_grad.c: the hand-written backward pass of model.c against central
   differences, in the -DGM_DOUBLE build of the same sources.

   E = mean_r ||y_r - t_r||^2 / ||t_r||^2, the loss of Stage I, t random.
   Central differences at steps 2e-3 and 1e-3 are combined so that the h^2 term
   cancels (Richardson): what is left is h^4 E'''''/480, about 1e-12 here, and
   rounding, 1e-16 E / h, about 1e-13.  Errors are relative to the entry plus
   the root mean square of its tensor's gradient, so that an entry that happens
   to be near 0 does not turn the rounding into a failure.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

_Static_assert(sizeof(gm_real) == 8, "build with -DGM_DOUBLE");

/* More query rows than one tile of attention, and not a multiple of it. */
enum { S = 2, T = 67, R = S * T, D = 20, ENTRIES = 6 };
static const double STEP = 1e-3, LIMIT = 1e-7;

struct problem {
    gm_arena arena;
    gm_config c;
    gm_block block, grad;
    gm_acts acts;
    gm_real *h, *y, *target, *d_y, *d_h;
};

static void must(gm_status status) {
    CHECK(status == GM_OK, "%s", err.text);
    if (status) exit(test_end("test_grad"));
}

static gm_real *numbers(struct problem *p, uint64_t stream, double base,
                        double spread, long count) {
    gm_real *x = gm_alloc(&p->arena, (size_t)count, sizeof *x);
    CHECK(x, "%ld numbers", count);
    if (!x) exit(test_end("test_grad"));
    for (long i = 0; i < count; i++)
        x[i] = base +
               (gm_uniform(7, stream, (uint64_t)i) - 0.5) * spread;
    return x;
}

/* Two query heads share a key/value head; YaRN's factor scales cos and sin. */
static void problem_make(struct problem *p, gm_arch arch) {
    *p = (struct problem){.c = {
        .arch = arch, .layers = 1, .d = D, .ff = 40, .heads = 4,
        .kv_heads = 2, .head_dim = arch == GM_QWEN3 ? 10 : 6, .vocab = 10,
        .max_position = 1000, .norm_eps = 1e-2,
        .still = arch == GM_PHI3 ? 2 : 0,
        .qkv_bias = arch != GM_PHI3,
        .o_bias = arch != GM_QWEN2 && arch != GM_PHI3,
        .mlp_bias = arch == GM_LLAMA, .qk_norm = arch == GM_QWEN3,
        .rope = {.kind = GM_ROPE_YARN, .theta = 100, .factor = 4,
                 .beta_fast = 32, .beta_slow = 1, .truncate = true,
                 .attention_factor = 1.14, .original_max_position = 50}}};
    gm_config *c = &p->c;
    must(STATUS(gm_block_alloc(&p->arena, c, &p->block)));
    must(STATUS(gm_block_alloc(&p->arena, c, &p->grad)));
    must(STATUS(gm_acts_alloc(&p->arena, c, S, T, true, &p->acts)));
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        p->block.w[j] = numbers(p, (uint64_t)j, 0, 5 / sqrt((double)in),
                                out * in);
        if (p->block.bias[j])
            p->block.bias[j] = numbers(p, 10 + (uint64_t)j, 0, 1, out);
    }
    p->block.norm1 = numbers(p, 20, 1, 1, D);
    p->block.norm2 = numbers(p, 21, 1, 1, D);
    if (c->qk_norm) {
        p->block.q_norm = numbers(p, 22, 1.5, 1, c->head_dim);
        p->block.k_norm = numbers(p, 23, 1.5, 1, c->head_dim);
    }
    p->h = numbers(p, 30, 0, 4, R * D);
    p->target = numbers(p, 31, 0, 6, R * D);
    p->y = numbers(p, 0, 0, 0, R * D);
    p->d_y = numbers(p, 0, 0, 0, R * D);
    p->d_h = numbers(p, 0, 0, 0, R * D);
}

/* E, and dE/dy when asked. */
static double loss(struct problem *p, gm_real *d_y) {
    double E = 0;
    gm_block_forward(&p->acts, &p->block, p->h, p->y);
    for (long r = 0; r < R; r++) {
        const gm_real *y = p->y + r * D, *t = p->target + r * D;
        double energy = gm_dot(D, t, t), error = 0;
        for (long i = 0; i < D; i++) {
            error += (y[i] - t[i]) * (y[i] - t[i]);
            if (d_y) d_y[r * D + i] = 2 * (y[i] - t[i]) / (R * energy);
        }
        E += error / energy / R;
    }
    return E;
}

static double difference(struct problem *p, gm_real *x, double step) {
    gm_real keep = *x;
    *x = keep + step;
    double above = loss(p, NULL), up = *x;
    *x = keep - step;
    double below = loss(p, NULL), down = *x;
    *x = keep;
    return (above - below) / (up - down);
}

static double worst_of_all;

/* Random entries of one parameter. */
static void check_tensor(struct problem *p, const char *arch,
                         const char *name, gm_real *x, const gm_real *grad,
                         long count) {
    double rms = sqrt(gm_dot(count, grad, grad) / (double)count), worst = 0;
    for (uint64_t i = 0; i < ENTRIES; i++) {
        uint64_t at = gm_random(8, 0, i) % (uint64_t)count;
        double slope = (4 * difference(p, x + at, STEP) -
                        difference(p, x + at, 2 * STEP)) / 3;
        double off = fabs(slope - grad[at]) / (fabs(grad[at]) + rms);
        worst = off <= worst ? worst : off;
    }
    CHECK(rms > 1e-6, "%s %s: no gradient to check, rms %g", arch, name, rms);
    CHECK(worst < LIMIT, "%s %s: relative error %.3g", arch, name, worst);
    worst_of_all = worst <= worst_of_all ? worst_of_all : worst;
}

/* Claim: every dE/dW, dE/db, dE/dnorm and dE/dh is the slope of E. */
static void test_slopes(gm_arch arch, const char *name) {
    static const char *const linear[] = {"q", "k", "v", "o", "gate", "up",
                                         "down"};
    struct problem p;
    char label[32];
    problem_make(&p, arch);
    loss(&p, p.d_y);
    gm_block_backward(&p.acts, &p.block, p.h, p.d_y, &p.grad, p.d_h);
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(&p.c, j, &out, &in);
        check_tensor(&p, name, linear[j], p.block.w[j], p.grad.w[j],
                     out * in);
        snprintf(label, sizeof label, "%s bias", linear[j]);
        if (p.grad.bias[j])
            check_tensor(&p, name, label, p.block.bias[j], p.grad.bias[j],
                         out);
    }
    check_tensor(&p, name, "norm1", p.block.norm1, p.grad.norm1, D);
    check_tensor(&p, name, "norm2", p.block.norm2, p.grad.norm2, D);
    if (p.c.qk_norm) {
        check_tensor(&p, name, "q_norm", p.block.q_norm, p.grad.q_norm,
                     p.c.head_dim);
        check_tensor(&p, name, "k_norm", p.block.k_norm, p.grad.k_norm,
                     p.c.head_dim);
    }
    check_tensor(&p, name, "h", p.h, p.d_h, R * D);
    gm_arena_free(&p.arena);
}

static bool zero(const gm_real *x, long count) {
    for (long i = 0; i < count; i++)
        if (x[i] != 0) return false;
    return true;
}

/* Claim: a loss on one token has a gradient on its own past and nowhere else:
   exactly 0 after it and in the other sequence, not 0 at and before it. */
static void test_reach(gm_arch arch, const char *name) {
    enum { ROW = T + 65 };                  /* token 65 of sequence 1 */
    struct problem p;
    problem_make(&p, arch);
    loss(&p, NULL);
    for (long i = 0; i < D; i++) p.d_y[ROW * D + i] = 1;
    gm_block_backward(&p.acts, &p.block, p.h, p.d_y, &p.grad, p.d_h);
    CHECK(zero(p.d_h, T * D), "%s: reaches another sequence", name);
    CHECK(zero(p.d_h + (ROW + 1) * D, (R - ROW - 1) * D),
          "%s: reaches the future", name);
    for (long r = T; r <= ROW; r++)
        CHECK(!zero(p.d_h + r * D, D), "%s: row %ld", name, r);
    gm_arena_free(&p.arena);
}

static int test_main(void) {
    gm_threads_use(1);      /* blocks this small only wait for each other */
    test_slopes(GM_LLAMA, "llama");
    test_slopes(GM_QWEN2, "qwen2");
    test_slopes(GM_QWEN3, "qwen3");
    test_slopes(GM_PHI3, "phi3");
    test_reach(GM_LLAMA, "llama");
    test_reach(GM_QWEN2, "qwen2");
    test_reach(GM_QWEN3, "qwen3");
    test_reach(GM_PHI3, "phi3");
    printf("worst relative error of a gradient: %.2e\n", worst_of_all);
    return test_end("test_grad");
}

TEST_MAIN(test_main())
