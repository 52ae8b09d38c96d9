/* ops.c: one operation at a time, timed, for bench/peers.py, which times other
   libraries on the same data in between.

     build/bench/ops MODEL WORK S T

   MODEL is a Hugging Face directory; WORK holds h.f32 and dy.f32 [S T, d] and
   tokens.npy, and gets candidates and results.  Reads one command a line from
   stdin, answers each with a line on stdout: seconds of the clock and of the
   processor, without preparation:

     threads N, isa NAME                   from here on
     forward, backward                     block 0 on h: y.f32; grad.f32
     gram            H = h^T h             H.f64
     cholesky        of H + damping        L.f64 (the lower triangle)
     gptq            gate at 4 bits, groups of 128, with H; q.f32
     step            Stage I, all blocks, tokens 0 .. S T-1; g.f64 [M, K]
     perplexity      windows of T tokens; nll.f64

   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats/formats.h"
#include "rivals/rivals.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static gm_arena arena;
static const char *work;
static gm_model model;
static gm_block block, grad;
static gm_acts acts;
static gm_real *h, *dy, *y;
static double *H, *A, *weight;
static int32_t *tokens;
static long S, T, R, token_count;

static void *room(size_t count, size_t size) {
    return gm_alloc(&arena, count, size);
}

static FILE *work_file(const char *name, const char *mode) {
    FILE *f = fopen(gm_format(&arena, "%s/%s", work, name), mode);
    if (!f) gm_fail(GM_EIO, "%s/%s: cannot be opened", work, name);
    return f;
}

static gm_real *load(const char *name, size_t count) {
    gm_real *x = room(count, sizeof *x);
    FILE *f = work_file(name, "rb");
    if (fread(x, sizeof *x, count, f) != count)
        gm_fail(GM_EINPUT, "%s: too short", name);
    fclose(f);
    return x;
}

static void save(const char *name, const void *x, size_t bytes) {
    FILE *f = work_file(name, "wb");
    if (fwrite(x, 1, bytes, f) != bytes || fclose(f))
        gm_fail(GM_EIO, "%s: cannot be written", name);
}

/* ----------------------------------------------------------------- seconds */

static double wall, cpu;

static double processor(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void begin(void) {
    wall = gm_seconds();
    cpu = processor();
}

static void end(void) {
    wall = gm_seconds() - wall;
    cpu = processor() - cpu;
}

/* -------------------------------------------------------------- operations */

static void forward(void) {
    begin();
    gm_block_forward(&acts, &block, h, y);
    end();
    save("y.f32", y, (size_t)(R * model.config.d) * sizeof *y);
}

/* dE/dW of the seven linears; as in Stage I no dE/dh. */
static void backward(void) {
    FILE *f = work_file("grad.f32", "wb");
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(&model.config, j, &out, &in);
        memset(grad.w[j], 0, (size_t)(out * in) * sizeof(gm_real));
    }
    gm_block_forward(&acts, &block, h, y);
    begin();
    gm_block_backward(&acts, &block, h, dy, &grad, NULL);
    end();
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(&model.config, j, &out, &in);
        fwrite(grad.w[j], sizeof(gm_real), (size_t)(out * in), f);
    }
    fclose(f);
}

static size_t square(void) {
    return (size_t)(model.config.d * model.config.d) * sizeof(double);
}

static void gram(void) {
    if (!H) {
        H = room(1, square());
        A = room(1, square());
        weight = room((size_t)R, sizeof *weight);
        for (long t = 0; t < R; t++) weight[t] = 1;
    }
    memset(H, 0, square());
    begin();
    gm_gram(R, model.config.d, h, weight, H);
    end();
    save("H.f64", H, square());
}

static void cholesky(void) {
    const long n = model.config.d;
    double damp = 0;
    if (!H) gram();
    memcpy(A, H, square());
    for (long j = 0; j < n; j++) damp += GM_DAMPING * H[j * n + j] / (double)n;
    for (long j = 0; j < n; j++) A[j * n + j] += damp;
    begin();
    bool fine = gm_cholesky(n, A);
    end();
    if (!fine) gm_fail(GM_EINPUT, "H is not positive definite");
    save("L.f64", A, square());
}

static void gptq(void) {
    enum { BITS = 4, GROUP = 128 };
    long out, in;
    gm_linear_shape(&model.config, GM_GATE, &out, &in);
    if (!H) gram();
    gm_mark mark = gm_arena_mark(&arena);
    gm_packed packed = gm_packed_at(out, in, BITS, GROUP, room(
        (size_t)gm_packed_bytes(out, in, BITS, GROUP), 1));
    gm_real *q = room((size_t)(out * in), sizeof *q);
    gm_factor factor;
    begin();
    gm_gptq_factor(&arena, in, H, GM_DAMPING, false, &factor);
    gm_quantize(&arena, block.w[GM_GATE], GM_MINMAX, &factor, &packed);
    end();
    gm_dequantize(&packed, q);
    save("q.f32", q, (size_t)(out * in) * sizeof *q);
    gm_arena_rewind(&arena, mark);
}

static void step(void) {
    static gm_candidates candidates;
    static gm_fit fit;
    if (!fit.M) {
        gm_recipe recipe;
        gm_recipe_parse("2,3,4", 128, &recipe);
        gm_model_hash(&model);
        gm_candidates_open(&arena, &model, &recipe, NULL, work, NULL,
                                &candidates);
    }
    gm_fit_options o = {.sequences = S, .T = T, .batch = S, .steps = 1000,
                        .alpha = 0.1, .rho = 10, .eta = 0.02, .tau = 1,
                        .rate = 0.05, .tail = 0.5, .budget = 3, .seed = 1};
    gm_mark mark = gm_arena_mark(&arena);
    gm_fit_begin(&arena, &candidates, tokens, &o, &fit);
    begin();
    gm_fit_step(&fit);
    end();
    save("g.f64", fit.g, (size_t)(fit.M * fit.K) * sizeof *fit.g);
    gm_arena_rewind(&arena, mark);
}

static void perplexity(void) {
    static gm_head head;
    gm_sequences text = {tokens, token_count / T, T};
    gm_measure m;
    gm_mark mark;
    if (!head.w) gm_head_load(&arena, &model, &head);
    mark = gm_arena_mark(&arena);
    gm_real *states = room((size_t)(text.sequences * T * model.config.d),
                           sizeof *states);
    begin();
    gm_final_states(&arena, &model, NULL, NULL, &text, NULL, states);
    gm_evaluate(&arena, &head, &text, NULL, states, NULL, NULL, &m);
    end();
    save("nll.f64", &m.nll, sizeof m.nll);
    gm_arena_rewind(&arena, mark);
}

static const struct { const char *name; void (*run)(void); } operation[] = {
    {"forward", forward}, {"backward", backward}, {"gram", gram},
    {"cholesky", cholesky}, {"gptq", gptq}, {"step", step},
    {"perplexity", perplexity},
};

static void prepare(const char *dir) {
    gm_model_open(&arena, dir, &model);
    gm_block_alloc(&arena, &model.config, &block);
    gm_block_alloc(&arena, &model.config, &grad);
    memset(grad.bias, 0, sizeof grad.bias);
    grad.norm1 = grad.norm2 = grad.q_norm = grad.k_norm = NULL;
    gm_block_load(&model, 0, &block);
    gm_acts_alloc(&arena, &model.config, S, T, true, &acts);
    size_t count = (size_t)(R * model.config.d);
    h = load("h.f32", count);
    dy = load("dy.f32", count);
    y = room(count, sizeof *y);
    tokens = gm_npy_read(&arena, gm_format(&arena, "%s/tokens.npy", work), &token_count);
}

static int run(int argc, char **argv) {
    char line[64];
    if (argc != 5) return GM_EUSAGE;
    work = argv[2];
    S = atol(argv[3]), T = atol(argv[4]), R = S * T;
    prepare(argv[1]);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        wall = cpu = 0;
        if (strncmp(line, "threads ", 8) == 0) gm_threads_use(atoi(line + 8));
        for (int i = 0; i < GM_ISA_COUNT && !strncmp(line, "isa ", 4); i++)
            if (strcmp(line + 4, gm_isa_name((gm_isa)i)) == 0)
                gm_isa_use((gm_isa)i);
        for (size_t i = 0; i < sizeof operation / sizeof *operation; i++)
            if (strcmp(line, operation[i].name) == 0) operation[i].run();
        printf("%.6f %.6f\n", wall, cpu);
        fflush(stdout);
    }
    return 0;
}

static struct { int argc, result; char **argv; } whole;

static void run_all(void *context) {
    (void)context;
    whole.result = run(whole.argc, whole.argv);
}

int main(int argc, char **argv) {
    gm_error err;
    whole.argc = argc, whole.argv = argv;
    gm_status s = gm_try(run_all, NULL, &err);
    if (s) fprintf(stderr, "ops: %s\n", err.text);
    return s ? (int)s : whole.result;
}
