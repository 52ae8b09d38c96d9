/* bench/gemm.c: gm_gemm against OpenBLAS, turn by turn in the same run.

     build/bench/gemm [--isa avx2] [--threads 1] [--rounds 7] [--blas LIB]
                      [--model Qwen3]

   Prints, for all the matrix shapes of three models, the speed of gm_gemm, its
   share of the fused multiply-add peak measured between the turns, and the
   median over the rounds of our speed divided by that of OpenBLAS.  OpenBLAS
   is loaded at run time (default libopenblas.so.0); without it only our own
   columns are printed.  OPENBLAS_CORETYPE=Haswell, Zen or SkylakeX chooses
   its instruction set.  Result lines on stdout, tab-separated.  With two
   threads a machine busy with other work measures mostly the waiting of both
   libraries: see that it is idle, or set OMP_WAIT_POLICY=passive.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };
typedef void sgemm_function(int order, int ta, int tb, int m, int n, int k,
                            float alpha, const float *a, int lda,
                            const float *b, int ldb, float beta, float *c,
                            int ldc);
static sgemm_function *blas_sgemm;
static void (*blas_threads)(int);

/* C[m,n] (+)= A B; ta: A is stored [k,m]; tb: B is stored [n,k]. */
typedef struct {
    const char *model;
    char what[24];
    int m, n, k;
    bool ta, tb, add;
} shape;

/* Widths of a model's matrices; `rows` tokens of sequences of 1,024. */
static const struct {
    const char *name;
    int rows, d, q, kv, ff, vocab, head;
} models[] = {
    {"SmolLM2-135M", 1024, 576, 576, 192, 1536, 49152, 64},
    {"Qwen3-0.6B", 1024, 1024, 2048, 1024, 3072, 151936, 128},
    {"Qwen2.5-1.5B", 1024, 1536, 1536, 256, 8960, 151936, 128},
    {"Llama-3.1-8B", 512, 4096, 4096, 1024, 14336, 128256, 128},
};

enum { MOST_SHAPES = 99, TILE_ROWS = 64 };
static shape shapes[MOST_SHAPES];
static int shape_count;

static void add_shape(const char *model, const char *name, const char *what,
                      int m, int n, int k, int form) {
    shape *s = shapes + shape_count++;
    *s = (shape){.model = model, .m = m, .n = n, .k = k, .ta = form == 2,
                 .tb = form == 0, .add = form > 0};
    snprintf(s->what, sizeof s->what, "%s%s", name, what);
}

/* A linear [out, in] on R rows: Y = X W^T, dX += dY W, dW += dY^T X. */
static void add_linear(int model, const char *name, int out, int in) {
    const char *whose = models[model].name;
    int R = models[model].rows;
    add_shape(whose, name, "", R, out, in, 0);
    add_shape(whose, name, " d_x", R, in, out, 1);
    add_shape(whose, name, " d_w", out, in, R, 2);
}

/* All that a block asks for, attention in tiles of 64 rows as model.c has it,
   and logits of 256 rows as rivals/measure.c has them. */
static void add_model(int i) {
    const char *whose = models[i].name;
    const int d = models[i].d, hd = models[i].head;
    add_linear(i, "q", models[i].q, d);
    add_linear(i, "k,v", models[i].kv, d);
    add_linear(i, "o", d, models[i].q);
    add_linear(i, "gate,up", models[i].ff, d);
    add_linear(i, "down", d, models[i].ff);
    add_shape(whose, "q k^T", "", TILE_ROWS, 1024, hd, 0);
    add_shape(whose, "p v", "", TILE_ROWS, hd, 384, 1);
    add_shape(whose, "p^T d_o", "", 1024, hd, TILE_ROWS, 2);
    add_shape(whose, "logits", "", 256, models[i].vocab, d, 0);
}

static void ours(const shape *s, const float *a, const float *b, float *c) {
    gm_gemm(s->m, s->n, s->k, a, s->ta ? 1 : s->k, s->ta ? s->m : 1,
            b, s->tb ? 1 : s->n, s->tb ? s->k : 1, c, s->n, s->add);
}

static void theirs(const shape *s, const float *a, const float *b, float *c) {
    blas_sgemm(ROW_MAJOR, s->ta ? TRANSPOSED : PLAIN,
               s->tb ? TRANSPOSED : PLAIN, s->m, s->n, s->k, 1, a,
               s->ta ? s->m : s->k, b, s->tb ? s->k : s->n, s->add ? 1 : 0,
               c, s->n);
}

static void load_blas(const char *name) {
    void *library = dlopen(name, RTLD_NOW);
    if (!library) {
        fprintf(stderr, "no OpenBLAS (%s): printing our speed only\n", name);
        return;
    }
    *(void **)&blas_sgemm = dlsym(library, "cblas_sgemm");
    *(void **)&blas_threads = dlsym(library, "openblas_set_num_threads");
    char *(*core)(void);
    *(void **)&core = dlsym(library, "openblas_get_corename");
    fprintf(stderr, "OpenBLAS core: %s\n", core ? core() : "unknown");
}

/* ------------------------------------------------------------------- peak */

#ifdef __x86_64__
/* Twelve independent chains of fused multiply-adds of a register's floats.  The
   empty asm keeps each chain in a register. */
#define CHAINS(name, isa, type, set, fmadd, r)                                 \
    __attribute__((target(isa))) static void name(long turns, long thread) {   \
        type v[12], x = set(0.999999f), y = set(1e-7f);                        \
        _Pragma("GCC unroll 12")                                               \
        for (int i = 0; i < 12; i++) v[i] = set((float)(i + thread));          \
        for (long t = 0; t < turns; t++)                                       \
            _Pragma("GCC unroll 12")                                           \
            for (int i = 0; i < 12; i++) {                                     \
                v[i] = fmadd(v[i], x, y);                                      \
                __asm__ volatile("" : "+" r(v[i]));                            \
            }                                                                  \
    }
CHAINS(chains_avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps, "x")
CHAINS(chains_avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps, "v")
#endif

/* Floating-point operations of one turn. */
static double peak_chains(long turns, long thread) {
#ifdef __x86_64__
    const bool wide = gm_isa_now() == GM_AVX512;
    (wide ? chains_avx512 : chains_avx2)(turns, thread);
    return wide ? 384 : 192;
#else
    (void)turns, (void)thread;
    return 0;
#endif
}

/* Of one thread the processor's time, in which other work on the machine
   counts little; of several, the clock's. */
static double seconds(int threads) {
    struct timespec t;
    if (threads > 1) return gm_seconds();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double peak_gflops(int threads) {
    const long turns = 2000000;
    double work = 0, start = seconds(threads);
#pragma omp parallel for num_threads(threads) reduction(+ : work)
    for (int i = 0; i < threads; i++)
        work += (double)turns * peak_chains(turns, i);
    return work / (seconds(threads) - start) / 1e9;
}

/* ------------------------------------------------------------------- time */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, compare);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

/* Threads of the other library may spin for a while after their last call. */
static void settle(int threads) {
    struct timespec wait = { 0, 300000000 };
    if (threads > 1) nanosleep(&wait, NULL);
}

typedef void product(const shape *, const float *, const float *, float *);

static double gflops(product *multiply, const shape *s, const float *a,
                     const float *b, float *c, int threads) {
    double work = 2.0 * s->m * s->n * s->k / 1e9;
    int times = work > 2 ? 1 : (int)(2 / work);
    settle(threads);
    if (work < 2) multiply(s, a, b, c);
    double start = seconds(threads);
    for (int i = 0; i < times; i++) multiply(s, a, b, c);
    return work * times / (seconds(threads) - start);
}

/* Values in [-1, 1), exact multiples of 2^-8: C stays finite. */
static float *matrix(size_t count, uint64_t stream) {
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; x && i < count; i++)
        x[i] = (float)(gm_random(1, stream, i) >> 55) / 256 - 1;
    return x;
}

enum { MOST_ROUNDS = 99 };

/* Prints one line; returns the ratio. */
static double bench(const shape *s, int threads, int rounds) {
    float *a = matrix((size_t)s->m * (size_t)s->k, 1);
    float *b = matrix((size_t)s->k * (size_t)s->n, 2);
    float *c = matrix((size_t)s->m * (size_t)s->n, 3);
    if (!a || !b || !c) {
        fprintf(stderr, "no memory for %s, %s\n", s->model, s->what);
        exit(GM_EMEM);
    }
    double us[MOST_ROUNDS], share[MOST_ROUNDS], ratio[MOST_ROUNDS];
    for (int r = 0; r < rounds; r++) {
        settle(threads);
        double peak = peak_gflops(threads);
        us[r] = gflops(ours, s, a, b, c, threads);
        share[r] = us[r] / peak;
        ratio[r] = blas_sgemm
                 ? us[r] / gflops(theirs, s, a, b, c, threads) : 0;
    }
    double middle = median(ratio, rounds);
    printf("%s\t%s\t%d\t%d\t%d\t%d\t%.1f\t%.2f\t%.3f\n", s->model, s->what,
           s->m, s->n, s->k, threads, median(us, rounds),
           median(share, rounds), middle);
    fflush(stdout);
    free(a);
    free(b);
    free(c);
    return middle;
}

/* All shapes with one number of threads; the large ones in three rounds. */
static void bench_all(const char *model, int threads, int rounds) {
    double logs = 0, count = 0;
    gm_threads_use(threads);
    if (blas_threads) blas_threads(threads);
    for (int i = 0; i < shape_count; i++) {
        const shape *s = &shapes[i];
        if (!strstr(s->model, model)) continue;
        bool large = (double)s->m * s->n * s->k > 1e10;
        logs += log(bench(s, threads, large && rounds > 3 ? 3 : rounds));
        count++;
    }
    if (blas_sgemm && count > 0)
        printf("all\tgeometric mean\t\t\t\t%d\t\t\t%.3f\n", threads,
               exp(logs / count));
}

static const char *option(int argc, char **argv, const char *name,
                          const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0) return argv[i + 1];
    return otherwise;
}

static int run(int argc, char **argv) {
    int only = atoi(option(argc, argv, "--threads", "0"));
    int rounds = atoi(option(argc, argv, "--rounds", "7"));
    const char *isa = option(argc, argv, "--isa", gm_isa_name(gm_isa_best()));
    const char *model = option(argc, argv, "--model", "");
    for (int i = 0; i < GM_ISA_COUNT; i++)
        if (strcmp(isa, gm_isa_name((gm_isa)i)) == 0)
            gm_isa_use((gm_isa)i);
    fprintf(stderr, "gm_gemm: %s\n", gm_isa_name(gm_isa_now()));
    load_blas(option(argc, argv, "--blas", "libopenblas.so.0"));
    for (int i = 0; i < (int)(sizeof models / sizeof *models); i++)
        add_model(i);
    rounds = rounds < 1 ? 1 : rounds > MOST_ROUNDS ? MOST_ROUNDS : rounds;
    printf("model\twhat\tm\tn\tk\tthreads\tGF/s\tof peak\t"
           "ours/OpenBLAS\n");
    for (int threads = 1; threads <= 2; threads++)
        if (!only || only == threads) bench_all(model, threads, rounds);
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
    if (s) fprintf(stderr, "gemm: %s\n", err.text);
    return s ? (int)s : whole.result;
}
