/* test_kernels.c: kernels.c against its definitions.  Sums and products are
   compared for equality of bits with the loops that define them, in every
   instruction set of this machine and for several thread counts; elementary
   functions against long double libm.

   build/test/test_kernels --all checks gm_exp on each of the 2^32 floats
   (minutes).  Touches no file.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static long random_below(uint64_t stream, uint64_t i, long n) {
    return (long)(gm_uniform(7, stream, i) * (double)n);
}

/* Sign, 24 bits and a binary exponent in -8..7: sums of such numbers round. */
static float number(uint64_t stream, uint64_t i) {
    uint64_t u = gm_random(11, stream, i);
    float x = ldexpf((float)(u >> 40) + 1, (int)(u & 15) - 32);
    return u & 16 ? -x : x;
}

static float *numbers(uint64_t stream, long n) {
    float *x = malloc((size_t)n * sizeof *x + 1);
    for (long i = 0; i < n; i++) x[i] = number(stream, (uint64_t)i);
    return x;
}

static float *copy(const float *x, long n) {
    float *y = malloc((size_t)n * sizeof *y + 1);
    return memcpy(y, x, (size_t)n * sizeof *y);
}

static uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Index of the first difference in bits, -1 if none.  Two NaNs are equal: the
   sign and payload of a NaN depend on the order of a machine's operands. */
static long first_difference(const float *x, const float *y, long n) {
    for (long i = 0; i < n; i++)
        if (bits_of(x[i]) != bits_of(y[i]) && !(isnan(x[i]) && isnan(y[i])))
            return i;
    return -1;
}

static bool same_double(double x, double y) {
    return memcmp(&x, &y, sizeof x) == 0;
}

/* ---------------------------------------------------------- matrix product */

typedef struct {
    long m, n, k, ars, acs, brs, bcs, ldc;
    bool add;
} shape;

/* The contract of gm_gemm, written out. */
static void gm_gemm_reference(const shape *s, const float *a, const float *b,
                              float *c) {
    long parts = (s->k + 383) / 384;
    long part = parts ? ((s->k + parts - 1) / parts + 7) / 8 * 8 : 1;
    for (long i = 0; i < s->m; i++)
        for (long j = 0; j < s->n; j++) {
            float sum = s->add ? c[i * s->ldc + j] : 0;
            for (long p = 0; p < s->k; p += part) {
                float chain = 0;
                for (long k = p; k < p + part && k < s->k; k++)
                    chain = fmaf(a[i * s->ars + k * s->acs],
                                 b[k * s->brs + j * s->bcs], chain);
                sum += chain;
            }
            c[i * s->ldc + j] = sum;
        }
}

static void gemm(const shape *s, const float *a, const float *b, float *c) {
    gm_gemm(s->m, s->n, s->k, a, s->ars, s->acs, b, s->brs, s->bcs, c, s->ldc,
            s->add);
}

/* Elements that strides reach in an m x n matrix. */
static long extent(long m, long n, long rs, long cs) {
    return m && n ? (m - 1) * rs + (n - 1) * cs + 1 : 0;
}

/* Layout 0: rows, 1: columns (transposed), 2: rows of every other element. */
static void layout(long kind, long m, long n, long pad, long *rs, long *cs) {
    *rs = kind == 0 ? n + pad : kind == 1 ? 1 : 2 * n + pad;
    *cs = kind == 0 ? 1 : kind == 1 ? m + pad : 2;
}

static shape random_shape(uint64_t i) {
    static const long most[] = {3, 20, 50, 140};
    uint64_t r = 16 * i;
    shape s = {.m = random_below(1, r, most[random_below(1, r + 1, 4)]),
               .n = random_below(1, r + 2, most[random_below(1, r + 3, 4)]),
               .k = 1 + random_below(1, r + 4, most[random_below(1, r + 5, 4)]),
               .add = i & 1};
    layout(random_below(1, r + 6, 3), s.m, s.k, random_below(1, r + 7, 3),
           &s.ars, &s.acs);
    layout(random_below(1, r + 8, 3), s.k, s.n, random_below(1, r + 9, 3),
           &s.brs, &s.bcs);
    s.ldc = s.n + random_below(1, r + 10, 3);
    return s;
}

/* gm_gemm equals the reference bit for bit in every instruction set and with
   1..threads threads, and writes nothing between the rows of C.  C has no
   element past its last, so the sanitizer sees a write there. */
static void check_shape(const shape *s, int threads) {
    long na = extent(s->m, s->k, s->ars, s->acs);
    long nb = extent(s->k, s->n, s->brs, s->bcs);
    long nc = extent(s->m, s->n, s->ldc, 1);
    float *a = numbers(1, na), *b = numbers(2, nb), *c = numbers(3, nc);
    float *expected = copy(c, nc);
    gm_gemm_reference(s, a, b, expected);
    for (gm_isa isa = 0; isa <= gm_isa_best(); isa++)
        for (int t = 1; t <= threads; t++) {
            float *found = copy(c, nc);
            gm_isa_use(isa);
            gm_threads_use(t);
            gemm(s, a, b, found);
            long at = first_difference(found, expected, nc);
            CHECK(at < 0, "%s, %d threads, m %ld n %ld k %ld, A %ld %ld, "
                  "B %ld %ld, ldc %ld, add %d, element %ld: %a, expected %a",
                  gm_isa_name(isa), t, s->m, s->n, s->k, s->ars, s->acs,
                  s->brs, s->bcs, s->ldc, s->add, at, (double)found[at],
                  (double)expected[at]);
            free(found);
        }
    free(a), free(b), free(c), free(expected);
}

static shape plain(long m, long n, long k, bool ta, bool tb, bool add) {
    return (shape){m, n, k, ta ? 1 : k, ta ? m : 1, tb ? 1 : n, tb ? k : 1, n,
                   add};
}

static void test_gemm_equals_reference(void) {
    for (uint64_t i = 0; i < 400; i++) {
        shape s = random_shape(i);
        check_shape(&s, i % 8 ? 1 : 4);
    }
    /* k around one, two, three parts; parts of unequal length */
    static const long depth[] = {383, 384, 385, 391, 392, 393, 767, 768, 769,
                                 776, 784, 1000, 1153, 1537};
    for (size_t i = 0; i < sizeof depth / sizeof *depth; i++) {
        shape s = plain(7, 33, depth[i], i & 1, i & 2, i % 3 == 0);
        check_shape(&s, 1);
    }
    /* several blocks of rows and columns, above the size that is threaded */
    shape large[] = {
        plain(1030, 17, 96, false, true, false),
        plain(515, 66, 400, true, false, true),
        plain(29, 700, 500, false, false, true),
        plain(130, 520, 150, true, true, false),
    };
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        check_shape(&large[i], 4);
}

/* m or n = 0: C as it was. */
static void test_gemm_empty(void) {
    float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8};
    for (gm_isa isa = 0; isa <= gm_isa_best(); isa++) {
        float c[2] = {9, 9};
        gm_isa_use(isa);
        gm_gemm(0, 2, 2, a, 2, 1, b, 2, 1, c, 2, false);
        gm_gemm(2, 0, 2, a, 2, 1, b, 2, 1, c, 1, false);
        CHECK(c[0] == 9 && c[1] == 9, "C was touched: %g %g", (double)c[0],
              (double)c[1]);
    }
}

/* A NaN or infinity in row i of A reaches row i of C, all of it and nothing
   else, at the edge of a tile as inside; likewise a column of B.  0 * inf is
   NaN: no product is skipped. */
static void test_gemm_not_finite(void) {
    enum { M = 29, N = 37, K = 9 };
    static const long row[] = {0, 5, 13, 14, 27, 28};
    static const long column[] = {0, 15, 16, 31, 32, 36};
    for (int t = 0; t < 36; t++) {
        long i0 = row[t / 6], j0 = column[t % 6], k0 = t % K;
        shape s = plain(M, N, K, t & 1, t & 2, false);
        float *a = numbers(1, M * K), *b = numbers(2, K * N);
        a[i0 * s.ars + k0 * s.acs] = t & 4 ? NAN : INFINITY;
        b[(K - 1 - k0) * s.brs + j0 * s.bcs] = t & 8 ? NAN : -INFINITY;
        for (long j = 0; j < N && t % 3 == 0; j++)
            b[k0 * s.brs + j * s.bcs] = 0;
        float found[M * N], expected[M * N];
        gm_gemm_reference(&s, a, b, expected);
        for (gm_isa isa = 0; isa <= gm_isa_best(); isa++) {
            gm_isa_use(isa);
            gemm(&s, a, b, found);
            long at = first_difference(found, expected, M * N);
            CHECK(at < 0, "%s, row %ld, column %ld, element %ld: %g, "
                  "expected %g", gm_isa_name(isa), i0, j0, at,
                  (double)found[at], (double)expected[at]);
            long spread = 0;
            for (long e = 0; e < M * N; e++)
                spread += !isfinite(found[e]) && e / N != i0 && e % N != j0;
            CHECK(spread == 0, "%s: %ld elements elsewhere not finite",
                  gm_isa_name(isa), spread);
        }
        free(a), free(b);
    }
}

/* A product that rounds to -0 is added to 0, not stored: C = +0.  Products
   that are denormal are not flushed. */
static void test_gemm_small_numbers(void) {
    float tiny = 0x1p-100f, minus = -0x1p-100f, less = 0x1p-45f, c;
    for (gm_isa isa = 0; isa <= gm_isa_best(); isa++) {
        gm_isa_use(isa);
        gm_gemm(1, 1, 1, &tiny, 1, 1, &minus, 1, 1, &c, 1, false);
        CHECK(bits_of(c) == 0, "%s: %08x", gm_isa_name(isa), bits_of(c));
        gm_gemm(1, 1, 1, &tiny, 1, 1, &less, 1, 1, &c, 1, false);
        CHECK(c == 0x1p-145f, "%s: %a", gm_isa_name(isa), (double)c);
    }
}

/* ---------------------------------------------------------------- threads */

/* Each turn of a loop runs once; its thread's number is in range, and a loop
   begun in it would have one thread. */
static void test_parallel(void) {
    enum { TURNS = 200 };
    for (int t = 1; t <= 4; t++) {
        int count[TURNS] = {0}, once = 0, strange = 0;
        gm_threads_use(t);
        const int threads = gm_threads();
#pragma omp parallel for schedule(dynamic) num_threads(gm_threads())
        for (int i = 0; i < TURNS; i++) {
            count[i]++;
            if (gm_thread() < 0 || gm_thread() >= threads ||
                (threads > 1 && gm_threads() != 1))
#pragma omp atomic write
                strange = 1;
        }
        for (int i = 0; i < TURNS; i++) once += count[i] == 1;
        CHECK(once == TURNS && !strange, "%d threads: %d of %d turns ran "
              "once, thread number out of range: %d", t, once, TURNS, strange);
    }
    gm_threads_use(0);
    CHECK(gm_threads() == 1, "0 threads asked for: %d", gm_threads());
}

/* Four products on the thread that asks for them; whether any turn of the loop
   ran on another. */
static bool nested_products(const float *a, const float *b, float *c) {
    static _Thread_local char mine;
    const char *outer = &mine;
    bool strange = false;
#pragma omp parallel for num_threads(gm_threads())
    for (long i = 0; i < 4; i++) {
        shape s = plain(61, 47, 390, i & 1, i & 2, false);
        if (&mine != outer)
#pragma omp atomic write
            strange = true;
        gemm(&s, a, b, c + i * 61 * 47);
    }
    return strange;
}

/* Products inside loops of loops do not disturb each other's workspace; all of
   an inner loop runs on its outer turn's thread. */
static void test_nested_gemm(void) {
    enum { C = 61 * 47, OUTER = 6 };
    float *a = numbers(1, 61 * 390), *b = numbers(2, 390 * 47);
    float *expected = calloc(4 * C, sizeof *expected);
    float *found = malloc(OUTER * 4 * C * sizeof *found);
    for (long i = 0; i < 4; i++) {
        shape s = plain(61, 47, 390, i & 1, i & 2, false);
        gm_gemm_reference(&s, a, b, expected + i * C);
    }
    for (gm_isa isa = 0; isa <= gm_isa_best(); isa++)
        for (int t = 1; t <= 4; t++) {
            bool strange = false;
            gm_isa_use(isa);
            gm_threads_use(t);
            memset(found, 0xff, OUTER * 4 * C * sizeof *found);
#pragma omp parallel for num_threads(gm_threads())
            for (long i = 0; i < OUTER; i++)
                if (nested_products(a, b, found + i * 4 * C))
#pragma omp atomic write
                    strange = true;
            long wrong = 0;
            for (long i = 0; i < OUTER; i++)
                wrong += first_difference(found + i * 4 * C, expected,
                                          4 * C) >= 0;
            CHECK(wrong == 0 && !strange, "%s, %d threads: %ld of %d wrong, "
                  "thread changed %d", gm_isa_name(isa), t, wrong, OUTER,
                  strange);
        }
    free(a), free(b), free(expected), free(found);
}

/* Instruction sets up to the best can be used, others change nothing. */
static void test_isa(void) {
    for (gm_isa isa = 0; isa < GM_ISA_COUNT; isa++) {
        gm_isa_use(GM_SCALAR);
        bool had = gm_isa_use(isa), can = isa <= gm_isa_best();
        CHECK(had == can && gm_isa_now() == (can ? isa : GM_SCALAR),
              "%s: available %d, accepted %d, now %s", gm_isa_name(isa), can,
              had, gm_isa_name(gm_isa_now()));
    }
    CHECK(!gm_isa_use(GM_ISA_COUNT), "an unknown instruction set is accepted");
}

/* ------------------------------------------------------------------- rows */

static double lanes(const double s[8]) {
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

/* gm_dot and gm_sum equal their definition bit for bit, for each length. */
static void test_dot_and_sum(void) {
    float *x = numbers(4, 3000), *y = numbers(5, 3000);
    for (long n = 0; n < 3000; n += n < 70 ? 1 : 233) {
        double dot[8] = {0}, sum[8] = {0};
        for (long i = 0; i < n; i++) {
            dot[i % 8] = fma((double)x[i + 1], (double)y[i], dot[i % 8]);
            sum[i % 8] += (double)x[i + 1];
        }
        for (gm_isa isa = 0; isa <= gm_isa_best() && n < 2999; isa++) {
            gm_isa_use(isa);
            double d = gm_dot(n, x + 1, y), s = gm_sum(n, x + 1);
            CHECK(same_double(d, lanes(dot)), "%s, n %ld: dot %a, expected %a",
                  gm_isa_name(isa), n, d, lanes(dot));
            CHECK(same_double(s, lanes(sum)), "%s, n %ld: sum %a, expected %a",
                  gm_isa_name(isa), n, s, lanes(sum));
        }
    }
    free(x), free(y);
}

/* ------------------------------------------------------------ exponential */

/* The largest error seen, and where. */
typedef struct { double error; float at; long wrong; } exp_result;

/* |y - e^x| in units of the last place of e^x; e^x of libm's double, whose
   own error is below 2^-28 of such a unit.  Outside [-87.3, 88.7]: 0, inf,
   NaN exactly, counted in `wrong`. */
static void exp_compare(float x, float y, exp_result *r) {
    if (isnan(x) || x < -87.3f || x > 88.7f) {
        r->wrong += isnan(x) ? !isnan(y) : y != (x > 0 ? INFINITY : 0.0f);
        return;
    }
    double e = exp((double)x);
    int exponent;
    frexp(e, &exponent);
    double error = fabs((double)y - e) / ldexp(1, exponent - 24);
    if (!(error <= r->error)) *r = (exp_result){error, x, r->wrong};
}

/* The bound stated at exp_one in kernels.c. */
#define EXP_BOUND 0.939

typedef struct { gm_isa isa; uint32_t step; exp_result result[256]; } exp_job;

/* Floats number i 2^24 ... (i + 1) 2^24 - 1, every step-th. */
static void exp_part(exp_job *job, long i) {
    float x[1024], y[1024];
    uint64_t u = (uint64_t)i << 24, end = u + (1 << 24);
    while (u < end) {
        long n = 0;
        for (; n < 1024 && u < end; n++, u += job->step)
            x[n] = float_of((uint32_t)u);
        gm_exp(n, x, y);
        for (long j = 0; j < n; j++)
            exp_compare(x[j], y[j], &job->result[i]);
    }
}

/* gm_exp keeps its bound over the floats, each or every step-th. */
static void test_exp_bound(uint32_t step) {
    for (gm_isa isa = 0; isa <= gm_isa_best(); isa++) {
        exp_job *job = calloc(1, sizeof *job);
        job->step = step;
        gm_isa_use(isa);
#pragma omp parallel for schedule(dynamic) num_threads(gm_threads())
        for (long i = 0; i < 256; i++) exp_part(job, i);
        exp_result worst = {0};
        for (int i = 0; i < 256; i++) {
            worst.wrong += job->result[i].wrong;
            if (!(job->result[i].error <= worst.error))
                worst = (exp_result){job->result[i].error, job->result[i].at,
                                     worst.wrong};
        }
        CHECK(worst.wrong == 0, "%s: %ld special values wrong",
              gm_isa_name(isa), worst.wrong);
        CHECK(worst.error < EXP_BOUND, "%s: exp(%a) is off by %.4f units",
              gm_isa_name(isa), (double)worst.at, worst.error);
        if (step == 1)
            printf("gm_exp, %s: %.4f units in the last place, at %a\n",
                   gm_isa_name(isa), worst.error, (double)worst.at);
        free(job);
    }
}

/* gm_exp has the same bits in each instruction set, at each length, in place
   and not. */
static void test_exp_same(void) {
    enum { N = 300 };
    static const float special[] = {
        0.0f, -0.0f, 1e-40f, -1e-40f, INFINITY, -INFINITY, NAN, 88.7f, 88.71f,
        -87.3f, -87.31f, 0x1p-126f, 3e38f, -3e38f, 0.34657359f, -0.34657359f};
    float x[N], expected[N], y[N];
    for (int i = 0; i < N; i++)
        x[i] = i % 7 == 0 ? special[i / 7 % 16] : number(6, (uint64_t)i) * 9;
    gm_isa_use(GM_SCALAR);
    gm_exp(N, x, expected);
    for (int i = 0; i < N; i++) {
        gm_exp(1, x + i, y);
        CHECK(first_difference(y, expected + i, 1) < 0, "exp(%a) alone %a",
              (double)x[i], (double)y[0]);
    }
    float low = -87.3f, high = 88.7f;
    gm_exp(1, &low, &low);
    gm_exp(1, &high, &high);
    CHECK(low > 0x1p-126f && high < INFINITY, "at the limits: %a, %a",
          (double)low, (double)high);
    CHECK(expected[0] == 1 && expected[7] == 1, "exp(0) %a, exp(-0) %a",
          (double)expected[0], (double)expected[7]);
    for (gm_isa isa = 0; isa <= gm_isa_best(); isa++)
        for (long n = 0; n <= N; n++) {
            gm_isa_use(isa);
            memcpy(y, x, sizeof x);
            gm_exp(n, y, y);
            CHECK(first_difference(y, expected, n) < 0 &&
                  first_difference(y + n, x + n, N - n) < 0,
                  "%s, n %ld", gm_isa_name(isa), n);
        }
}

/* gm_largest is the largest, wherever it stands and at any length. */
static void test_largest(void) {
    enum { N = 40 };
    gm_real x[N];
    for (long n = 1; n <= N; n++)
        for (long at = 0; at < n; at++) {
            for (long i = 0; i < n; i++)
                x[i] = -1 - fabsf(number(8, (uint64_t)i));
            x[at] = -1e-3f;
            CHECK(gm_largest(n, x) == x[at], "n %ld, at %ld: %g", n, at,
                  (double)gm_largest(n, x));
        }
}

/* gm_round_column equals its equations, lane by lane, in each instruction set
   and at each number of columns; weights beyond the grid and beyond the clamp
   of gm_code included. */
static void test_round_column(void) {
    enum { N = 64 };
    float w[N][GM_LANES], x[N][GM_LANES], e[GM_LANES], code[GM_LANES];
    float scale[GM_LANES], zero[GM_LANES], shift[GM_LANES];
    gm_real u[N];
    for (int i = 0; i < N * GM_LANES; i++)
        w[i / GM_LANES][i % GM_LANES] = number(9, (uint64_t)i);
    w[0][3] = 1e6f, w[0][4] = -1e6f, w[0][5] = 0.25f;
    for (int r = 0; r < GM_LANES; r++)
        scale[r] = 0.1f + 0.01f * (float)r, zero[r] = (float)(r % 8),
        shift[r] = r % 3 ? 0.01f * (float)(r - 7) : 0;
    /* 0.44 and 0.56 of a step: other codes */
    w[0][6] = 0.07f, shift[6] = 0.02f;
    for (int t = 0; t < N; t++) u[t] = 0.5f + number(10, (uint64_t)t);
    for (gm_isa isa = 0; isa <= gm_isa_best(); isa++)
        for (long n = 1; n <= N; n++) {
            long wrong = 0;
            gm_isa_use(isa);
            memcpy(x, w, sizeof x);
            gm_round_column(&(gm_column){n, 7, scale, zero, shift, u, x, e,
                                         code});
            for (int r = 0; r < GM_LANES; r++) {
                float k = gm_code(w[0][r] + shift[r], scale[r], zero[r], 7);
                float q = (k - zero[r]) * scale[r] - shift[r];
                float loss = (w[0][r] - q) / (float)u[0];
                wrong += code[r] != k || e[r] != loss;
                for (long t = 1; t < N; t++) {
                    float product = loss * (float)u[t];
                    wrong += x[t][r] != (t < n ? w[t][r] - product : w[t][r]);
                }
            }
            CHECK(wrong == 0, "%s, %ld columns: %ld wrong", gm_isa_name(isa),
                  n, wrong);
        }
}

/* ---------------------------------------------- double-precision functions */

/* Relative error in units of 2^-53; 0 where both are infinite or 0. */
static double error_units(double found, long double expected) {
    if ((long double)found == expected) return 0;
    return (double)(fabsl(((long double)found - expected) / expected) *
                    0x1p53L);
}

typedef struct { double error, at; } worst_case;

static void note(worst_case *w, double x, double error) {
    if (!(error <= w->error)) *w = (worst_case){error, x};
}

/* Bounds in units of 2^-53, counted at the definitions in kernels.c; on 1e7
   samples each the largest errors were 1.24, 1.31, 1.97 and 1.99. */
static void test_double_functions(void) {
    worst_case e = {0}, l = {0}, s = {0}, c = {0};
    for (uint64_t i = 0; i < 200000; i++) {
        double u = gm_uniform(3, 1, i), x = u * 1416 - 708, y = exp(x);
        note(&e, x, error_units(gm_expd(x), expl(x)));
        double low = u - 0.5, near = u + 0.5;
        note(&e, low, error_units(gm_expd(low), expl(low)));
        note(&l, y, error_units(gm_logd(y), logl(y)));
        note(&l, near, error_units(gm_logd(near), logl(near)));
        double angle = (u * 2 - 1) * ldexp(1e7, -(int)(i % 32));
        double sine, cosine;
        if (i % 5 == 0)     /* next to a multiple of pi/2 */
            angle = floor(angle) < 6.3e6 ? floor(angle) * 0x1.921fb54442d18p0
                                         : angle;
        if (!(fabs(angle) < 1e7)) continue;
        gm_sincosd(angle, &sine, &cosine);
        note(&s, angle, error_units(sine, sinl(angle)));
        note(&c, angle, error_units(cosine, cosl(angle)));
    }
    CHECK(e.error < 1.5, "exp(%a) is off by %g", e.at, e.error);
    CHECK(l.error < 1.5, "log(%a) is off by %g", l.at, l.error);
    CHECK(s.error < 2.25, "sin(%a) is off by %g", s.at, s.error);
    CHECK(c.error < 2.25, "cos(%a) is off by %g", c.at, c.error);
}

/* Values at which the functions are exact, limits, denormals. */
static void test_double_edges(void) {
    double sine, cosine;
    CHECK(gm_expd(0) == 1 && gm_expd(-0.0) == 1, "exp(0) = %a", gm_expd(0));
    CHECK(gm_expd(710) == INFINITY && gm_expd(INFINITY) == INFINITY,
          "exp(710) = %g", gm_expd(710));
    CHECK(gm_expd(-746) == 0 && gm_expd(-INFINITY) == 0, "exp(-746) = %g",
          gm_expd(-746));
    CHECK(gm_expd(-745) == 0x1p-1074, "exp(-745) = %a", gm_expd(-745));
    CHECK(gm_expd(709.7) < INFINITY, "exp(709.7) = %g", gm_expd(709.7));
    CHECK(isnan(gm_expd(NAN)), "exp(NaN) = %g", gm_expd(NAN));
    CHECK(gm_logd(1) == 0, "log(1) = %a", gm_logd(1));
    CHECK(gm_logd(0) == -INFINITY && gm_logd(INFINITY) == INFINITY,
          "log(0) = %g, log(inf) = %g", gm_logd(0), gm_logd(INFINITY));
    CHECK(isnan(gm_logd(-1)) && isnan(gm_logd(NAN)), "log(-1) = %g",
          gm_logd(-1));
    CHECK(error_units(gm_logd(0x1p-1074), logl(0x1p-1074L)) < 1.5,
          "log of the least denormal = %a", gm_logd(0x1p-1074));
    gm_sincosd(0, &sine, &cosine);
    CHECK(sine == 0 && cosine == 1, "sin(0) = %a, cos(0) = %a", sine, cosine);
}

static int test_main(int argc, char **argv) {
    test_isa();
    test_gemm_equals_reference();
    test_gemm_empty();
    test_gemm_not_finite();
    test_gemm_small_numbers();
    test_parallel();
    test_nested_gemm();
    test_dot_and_sum();
    test_exp_same();
    test_largest();
    test_round_column();
    gm_threads_use(4);
    test_exp_bound(argc > 1 && strcmp(argv[1], "--all") == 0 ? 1 : 4099);
    test_double_functions();
    test_double_edges();
    return test_end("test_kernels");
}

TEST_MAIN(test_main(argc, argv))
