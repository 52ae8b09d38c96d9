/* contract.c: the numeric contract's driver.  Computes a fixed set of results,
   kernels, RTN and GPTQ candidates, a block's forward and backward pass, in
   every instruction set of this machine with 1, 2 and 3 threads, and prints
   one SHA-256 for each.
   All lines of all builds must carry the same hash: tests/contract.sh builds
   it with several compilers and flags and compares.  Touches no file.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static gm_arena arena;
static gm_sha sha;

static void *room(long count, size_t size) {
    void *p = gm_alloc(&arena, (size_t)count, size);
    if (!p) exit(GM_EMEM);
    return p;
}

/* Uniform in [-size, size). */
static gm_real *values(uint64_t stream, long n, double size) {
    gm_real *x = room(n, sizeof *x);
    for (long i = 0; i < n; i++)
        x[i] = (gm_real)(size *
                         (2 * gm_uniform(5, stream, (uint64_t)i) - 1));
    return x;
}

static void add(const void *data, long count, size_t size) {
    gm_sha_add(&sha, data, (size_t)count * size);
}

/* Products with every transpose, edges, several parts of k. */
static void products(void) {
    static const long size[][3] = {
        {1, 1, 1}, {6, 16, 8}, {14, 32, 384}, {37, 75, 385}, {100, 70, 800},
        {520, 33, 40}, {15, 600, 129}, {64, 64, 64}};
    for (uint64_t i = 0; i < 32; i++) {
        const long *s = size[i / 4];
        long m = s[0], n = s[1], k = s[2];
        gm_mark mark = gm_arena_mark(&arena);
        gm_real *a = values(1, m * k, 3), *b = values(2, k * n, 1);
        gm_real *c = values(3, m * n, 1);
        gm_gemm(m, n, k, a, i & 1 ? 1 : k, i & 1 ? m : 1, b, i & 2 ? 1 : n,
                i & 2 ? k : 1, c, n, i % 3 == 0);
        add(c, m * n, sizeof *c);
        gm_arena_rewind(&arena, mark);
    }
}

static void rows(void) {
    gm_mark mark = gm_arena_mark(&arena);
    gm_real *x = values(4, 1003, 100), *y = values(5, 1003, 1);
    for (long n = 0; n < 1003; n += 59) {
        double s[2] = {gm_dot(n, x, y), gm_sum(n, x)};
        add(s, 2, sizeof *s);
    }
    gm_exp(1003, x, x);
    add(x, 1003, sizeof *x);
    for (uint64_t i = 0; i < 3000; i++) {
        double u = gm_uniform(6, 0, i), r[4];
        r[0] = gm_expd(1500 * u - 750);
        r[1] = gm_logd(ldexp(u + 0x1p-60, (int)(i % 2000) - 1000));
        gm_sincosd(ldexp(1e7 * u, -(int)(i % 40)), r + 2, r + 3);
        add(r, 4, sizeof *r);
    }
    gm_arena_rewind(&arena, mark);
}

/* Candidates of one weight, their mixture and inner products. */
static void candidates(void) {
    enum { OUT = 48, IN = 200, GROUP = 64, K = 8 };
    gm_mark mark = gm_arena_mark(&arena);
    gm_real *w = values(7, OUT * IN, 0.1), *g = values(8, OUT * IN, 1);
    gm_packed packed[K];
    double p[K], row[OUT * K], inner[K];
    for (int k = 0; k < K; k++) {
        gm_parts parts = gm_packed_parts(OUT, IN, k + 1, GROUP);
        uint8_t *codes = room(parts.codes, 1), *zeros = room(parts.zeros, 1);
        uint8_t *scales = room(parts.scales, 1);
        gm_rtn(w, OUT, IN, k + 1, GROUP, GM_MINMAX, codes,
               (uint16_t *)scales, zeros);
        add(codes, parts.codes, 1);
        add(scales, parts.scales, 1);
        add(zeros, parts.zeros, 1);
        packed[k] = (gm_packed){k + 1, OUT, IN, GROUP, codes, scales, zeros,
                                NULL};
        p[k] = (k + 1) / 36.0;
    }
    gm_inner(packed, K, g, row, inner);
    gm_mix(packed, K, p, w);
    add(inner, K, sizeof *inner);
    add(w, OUT * IN, sizeof *w);
    gm_arena_rewind(&arena, mark);
}

/* GPTQ of one weight: codes, scales and zeros from its inputs' Hessian, in
   every way to choose order and grids, 2 to 4 bits. */
static void gptq(void) {
    enum { OUT = 40, IN = 200, T = 260, GROUP = 48 };
    gm_mark mark = gm_arena_mark(&arena);
    gm_real *w = values(60, OUT * IN, 0.1), *x = values(61, T * IN, 1);
    double *weight = room(T, sizeof *weight), *H = room(IN * IN, sizeof *H);
    for (long t = 0; t < T; t++)
        weight[t] = 1 + gm_uniform(62, 0, (uint64_t)t);
    for (long t = 0; t < T; t++)
        for (long j = 1; j < IN; j++) x[t * IN + j] += x[t * IN + j - 1] / 2;
    gm_gram(T, IN, x, weight, H);
    for (int way = 0; way < 4; way++) {
        gm_factor f;
        int bits = 2 + way % 3;
        gm_parts p = gm_packed_parts(OUT, IN, bits, GROUP);
        uint8_t *codes = room(p.codes, 1), *zeros = room(p.zeros, 1);
        uint16_t *scales = room(p.scales, 1);
        gm_gptq_factor(&arena, IN, H, 0.01, way & 1, &f);
        gm_gptq(&arena, w, OUT, IN, bits, GROUP, way & 2 ? GM_MSE : GM_MINMAX,
                &f, codes, scales, zeros);
        add(f.U, IN * IN, sizeof *f.U);
        add(codes, p.codes, 1);
        add(scales, p.scales, 1);
        add(zeros, p.zeros, 1);
    }
    gm_arena_rewind(&arena, mark);
}

static void fill_block(const gm_config *config, uint64_t stream, double size,
                       gm_block *block) {
    gm_block_alloc(&arena, config, block);
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(config, j, &out, &in);
        block->w[j] = values(stream + (uint64_t)j, out * in, size);
    }
    block->norm1 = values(stream + 7, config->d, 1);
    block->norm2 = values(stream + 8, config->d, 1);
}

/* A Llama block, 2 sequences of 70 tokens, forward and backward. */
static void block(void) {
    static const gm_config config = {
        .arch = GM_LLAMA, .layers = 1, .d = 96, .ff = 200, .heads = 4,
        .kv_heads = 2, .head_dim = 24, .vocab = 8, .max_position = 128,
        .norm_eps = 1e-5,
        .rope = {.kind = GM_ROPE_DEFAULT, .theta = 1e4, .factor = 1,
                 .attention_factor = 1}};
    enum { S = 2, T = 70, D = 96 };
    gm_mark mark = gm_arena_mark(&arena);
    gm_block weight, grad;
    gm_acts acts;
    fill_block(&config, 20, 0.2, &weight);
    fill_block(&config, 40, 0, &grad);
    gm_acts_alloc(&arena, &config, S, T, true, &acts);
    gm_real *h = values(9, S * T * D, 1), *y = values(10, S * T * D, 1);
    gm_real *dy = values(11, S * T * D, 1), *dh = values(12, S * T * D, 0);
    gm_block_forward(&acts, &weight, h, y);
    gm_block_backward(&acts, &weight, h, dy, &grad, dh);
    double *mass = room(S * T, sizeof *mass);
    gm_attention_mass(&acts, mass);
    add(mass, S * T, sizeof *mass);
    add(y, S * T * D, sizeof *y);
    add(dh, S * T * D, sizeof *dh);
    add(grad.norm1, D, sizeof *dh);
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(&config, j, &out, &in);
        add(grad.w[j], out * in, sizeof *dh);
    }
    gm_arena_rewind(&arena, mark);
}

static int run(void) {
    for (gm_isa isa = 0; isa <= gm_isa_best(); isa++)
        for (int threads = 1; threads <= 3; threads++) {
            char hex[65];
            gm_isa_use(isa);
            gm_threads_use(threads);
            if (gm_threads() != threads) continue;  /* without OpenMP */
            gm_sha_begin(&sha);
            products();
            rows();
            candidates();
            gptq();
            block();
            gm_sha_end(&sha, hex);
            printf("%s %s %d\n", hex, gm_isa_name(isa), gm_threads());
        }
    gm_arena_free(&arena);
    return 0;
}

static struct { int argc, result; char **argv; } whole;

static void run_all(void *context) {
    (void)context;
    whole.result = run();
}

int main(int argc, char **argv) {
    gm_error err;
    whole.argc = argc, whole.argv = argv;
    gm_status s = gm_try(run_all, NULL, &err);
    if (s) fprintf(stderr, "contract: %s\n", err.text);
    return s ? (int)s : whole.result;
}
