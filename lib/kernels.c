/* kernels.c: matrix product, dot products, exponentials, threads.

   The only file with intrinsics or OpenMP.  It touches nothing but the memory
   it is handed, one workspace a thread, and two settings (instruction set,
   threads).  Every result has the same bits on any machine: multiply-adds are
   fused where the code says fma and nowhere else (-ffp-contract=off), every
   sum has one order, and nothing is taken from libm but fma itself.

   Instruction sets: a function of one is named for it, tile_scalar, tile_avx2,
   tile_avx512, and all stand in the table `variants`.  The scalar ones are the
   specification (and, on ARM, what the compiler vectorises); x86 ones carry
   their target as an attribute, so no compiler flag is needed to build them
   and no instruction of theirs can leak into the rest.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <math.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__x86_64__) && !defined(GM_DOUBLE)
#define GM_X86 1
#include <immintrin.h>
#define TARGET_AVX2 __attribute__((target("avx2,fma")))
#define TARGET_AVX512 __attribute__((target("avx2,fma,avx512f")))
#endif

/* Compiled into each caller, with the caller's instruction set. */
#define INLINE static inline __attribute__((always_inline))

INLINE gm_real fma_real(gm_real a, gm_real b, gm_real c) {
#ifdef GM_DOUBLE
    return fma(a, b, c);
#else
    return fmaf(a, b, c);
#endif
}

/* ---------------------------------------------------------------- threads */

static int threads_now;         /* 0: as many as OpenMP would take */

void gm_threads_use(int count) {
    threads_now = count < 1 ? 1 : count;
}

#ifdef _OPENMP

int gm_threads(void) {
    return threads_now ? threads_now : omp_get_max_threads();
}

int gm_thread(void) {
    return omp_get_thread_num();
}

static bool in_parallel(void) {
    return omp_in_parallel();
}

#else

int gm_threads(void) {
    return 1;
}

int gm_thread(void) {
    return 0;
}

static bool in_parallel(void) {
    return true;
}

#endif

void gm_parallel(long n, void (*body)(void *context, long i), void *context) {
    if (n == 1 || gm_threads() == 1 || in_parallel()) {
        for (long i = 0; i < n; i++) body(context, i);
        return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(gm_threads())
    for (long i = 0; i < n; i++) body(context, i);
}

/* --------------------------------------------------------- matrix product

   Blocked as Goto and van de Geijn 2008 have it.  C is cut into blocks, one
   body of gm_parallel each; for a block and a part of k

     A [rows, part] is packed into panels of mr rows, a[k][mr]   (level 2 cache)
     B [part, nr]   is packed, panel by panel,        b[k][nr]   (level 1)

   and `tile` computes mr x nr elements of C, all of them held in registers.
   Blocks, panels and tiles are a matter of speed alone: an element of C is
   the sum, part by part, of chains of fma that only k decides. */

enum {
    PART = 384,                 /* largest part of k                         */
    ROWS = 588,                 /* of A packed at once; a multiple of mr     */
    MR = 14, NR = 32,           /* largest tile                              */
    SPILL = 2                   /* a panel of 6 is stored 8 at a time        */
};

/* C[mr, nr] = chain, or C + chain: chain = sum_k a[k][i] b[k][j] by fma. */
typedef void tile_function(long part, const gm_real *a, const gm_real *b,
                           gm_real *c, long ldc, bool add);

/* to[k][i] = from[i rs + k ks], i < rows; i = rows .. width-1 are anything. */
typedef void pack_function(gm_real *to, const gm_real *from, long rs, long ks,
                           long rows, long part);

/* `width` is a constant in each use, so that copies have a fixed length. */
INLINE void pack(gm_real *to, const gm_real *from, long rs, long ks,
                 long rows, long width, long part) {
    if (rs == 1 && rows == width) {
        for (long k = 0; k < part; k++)
            memcpy(to + k * width, from + k * ks, (size_t)width * sizeof *to);
        return;
    }
    for (long k = 0; k < part; k++)
        for (long i = 0; i < rows; i++)
            to[k * width + i] = from[i * rs + k * ks];
}

enum { MR_SCALAR = 4, NR_SCALAR = 16 };

static void tile_scalar(long part, const gm_real *a, const gm_real *b,
                        gm_real *c, long ldc, bool add) {
    gm_real x[MR_SCALAR][NR_SCALAR] = {{0}};
    for (long k = 0; k < part; k++, a += MR_SCALAR, b += NR_SCALAR)
        for (int i = 0; i < MR_SCALAR; i++)
            for (int j = 0; j < NR_SCALAR; j++)
                x[i][j] = fma_real(a[i], b[j], x[i][j]);
    for (int i = 0; i < MR_SCALAR; i++)
        for (int j = 0; j < NR_SCALAR; j++)
            c[i * ldc + j] = (add ? c[i * ldc + j] : 0) + x[i][j];
}

static void pack_a_scalar(gm_real *to, const gm_real *from, long rs, long ks,
                          long rows, long part) {
    pack(to, from, rs, ks, rows, MR_SCALAR, part);
}

static void pack_b_scalar(gm_real *to, const gm_real *from, long rs, long ks,
                          long rows, long part) {
    pack(to, from, rs, ks, rows, NR_SCALAR, part);
}

#ifdef GM_X86

enum { MR_AVX2 = 6, NR_AVX2 = 16, MR_AVX512 = 14, NR_AVX512 = 32 };

TARGET_AVX2
static void tile_avx2(long part, const float *a, const float *b,
                      float *c, long ldc, bool add) {
    __m256 x[MR_AVX2][2];
#pragma GCC unroll 6
    for (int i = 0; i < MR_AVX2; i++) {
        x[i][0] = x[i][1] = _mm256_setzero_ps();
        _mm_prefetch((const char *)(c + i * ldc), _MM_HINT_T0);
        _mm_prefetch((const char *)(c + i * ldc + 15), _MM_HINT_T0);
    }
    for (long k = 0; k < part; k++, a += MR_AVX2, b += NR_AVX2) {
        __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
    #pragma GCC unroll 6
    for (int i = 0; i < MR_AVX2; i++) {
            __m256 ai = _mm256_broadcast_ss(a + i);
            x[i][0] = _mm256_fmadd_ps(ai, b0, x[i][0]);
            x[i][1] = _mm256_fmadd_ps(ai, b1, x[i][1]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < MR_AVX2; i++, c += ldc) {
        __m256 c0 = add ? _mm256_loadu_ps(c) : _mm256_setzero_ps();
        __m256 c1 = add ? _mm256_loadu_ps(c + 8) : _mm256_setzero_ps();
        _mm256_storeu_ps(c, _mm256_add_ps(c0, x[i][0]));
        _mm256_storeu_ps(c + 8, _mm256_add_ps(c1, x[i][1]));
    }
}

TARGET_AVX512
static void tile_avx512(long part, const float *a, const float *b,
                        float *c, long ldc, bool add) {
    __m512 x[MR_AVX512][2];
#pragma GCC unroll 14
    for (int i = 0; i < MR_AVX512; i++) {
        x[i][0] = x[i][1] = _mm512_setzero_ps();
        _mm_prefetch((const char *)(c + i * ldc), _MM_HINT_T0);
        _mm_prefetch((const char *)(c + i * ldc + 16), _MM_HINT_T0);
    }
    for (long k = 0; k < part; k++, a += MR_AVX512, b += NR_AVX512) {
        __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
    #pragma GCC unroll 14
    for (int i = 0; i < MR_AVX512; i++) {
            __m512 ai = _mm512_set1_ps(a[i]);
            x[i][0] = _mm512_fmadd_ps(ai, b0, x[i][0]);
            x[i][1] = _mm512_fmadd_ps(ai, b1, x[i][1]);
        }
    }
#pragma GCC unroll 14
    for (int i = 0; i < MR_AVX512; i++, c += ldc) {
        __m512 c0 = add ? _mm512_loadu_ps(c) : _mm512_setzero_ps();
        __m512 c1 = add ? _mm512_loadu_ps(c + 16) : _mm512_setzero_ps();
        _mm512_storeu_ps(c, _mm512_add_ps(c0, x[i][0]));
        _mm512_storeu_ps(c + 16, _mm512_add_ps(c1, x[i][1]));
    }
}

/* x = its transpose: x[i][k] to x[k][i]. */
TARGET_AVX2
static inline void transpose_avx2(__m256 x[8]) {
    __m256 y[8], z[8];
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int h = 0; h < 2; h++) {
            z[i + 2 * h] = _mm256_shuffle_ps(y[i + h], y[i + h + 2], 0x44);
            z[i + 2 * h + 1] = _mm256_shuffle_ps(y[i + h], y[i + h + 2], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_permute2f128_ps(z[i], z[i + 4], 0x20);
        x[i + 4] = _mm256_permute2f128_ps(z[i], z[i + 4], 0x31);
    }
}

/* Rows that lie along k (ks = 1), eight by eight.  Rows past the last repeat
   it.  With width < 8 every store spills into what the next one overwrites. */
TARGET_AVX2
static void pack_transposed_avx2(float *to, const float *from, long rs,
                                 long rows, long width, long part) {
    for (long i0 = 0; i0 < width; i0 += 8) {
        long i = width >= 8 && i0 + 8 > width ? width - 8 : i0;
        const float *row[8];
        for (int r = 0; r < 8; r++)
            row[r] = from + gm_min(i + r, rows - 1) * rs;
        long k = 0;
        for (; k + 8 <= part; k += 8) {
            __m256 x[8];
            for (int r = 0; r < 8; r++)
                x[r] = _mm256_loadu_ps(row[r] + k);
            transpose_avx2(x);
            for (int r = 0; r < 8; r++)
                _mm256_storeu_ps(to + (k + r) * width + i, x[r]);
        }
        for (; k < part; k++)
            for (int r = 0; r < 8 && i + r < width; r++)
                to[k * width + i + r] = row[r][k];
    }
}

TARGET_AVX2 INLINE
void pack_x86(float *to, const float *from, long rs, long ks, long rows,
              long width, long part) {
    if (ks == 1)
        pack_transposed_avx2(to, from, rs, rows, width, part);
    else
        pack(to, from, rs, ks, rows, width, part);
}

TARGET_AVX2
static void pack_a_avx2(float *to, const float *from, long rs, long ks,
                        long rows, long part) {
    pack_x86(to, from, rs, ks, rows, MR_AVX2, part);
}

TARGET_AVX2
static void pack_b_avx2(float *to, const float *from, long rs, long ks,
                        long rows, long part) {
    pack_x86(to, from, rs, ks, rows, NR_AVX2, part);
}

TARGET_AVX2
static void pack_a_avx512(float *to, const float *from, long rs, long ks,
                          long rows, long part) {
    pack_x86(to, from, rs, ks, rows, MR_AVX512, part);
}

TARGET_AVX2
static void pack_b_avx512(float *to, const float *from, long rs, long ks,
                          long rows, long part) {
    pack_x86(to, from, rs, ks, rows, NR_AVX512, part);
}

#endif

/* ---------------------------------------------- reductions and exponentials */

static double add_lanes(const double s[8]) {
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

/* Elements i..n-1, where i is a multiple of 8, on top of the lanes. */
INLINE double dot_rest(double s[8], long i, long n, const gm_real *x,
                       const gm_real *y) {
    for (; i < n; i++)
        s[i % 8] = fma((double)x[i], (double)y[i], s[i % 8]);
    return add_lanes(s);
}

INLINE double sum_rest(double s[8], long i, long n, const gm_real *x) {
    for (; i < n; i++) s[i % 8] += (double)x[i];
    return add_lanes(s);
}

static double dot_scalar(long n, const gm_real *x, const gm_real *y) {
    double s[8] = {0};
    return dot_rest(s, 0, n, x, y);
}

static double sum_scalar(long n, const gm_real *x) {
    double s[8] = {0};
    return sum_rest(s, 0, n, x);
}

#ifdef GM_DOUBLE

static void exp_scalar(long n, const gm_real *x, gm_real *y) {
    for (long i = 0; i < n; i++)
        y[i] = x[i] < -87.3 ? 0 : x[i] > 88.7 ? (gm_real)INFINITY
             : gm_expd(x[i]);
}

#else

/* e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln(2)/2 (1 + 2^-20), e^r by its
   Taylor polynomial of degree 7 (truncated: r^8/8! < 2^-27 e^r).

   Adding 1.5 * 2^23 rounds x / ln 2 to an integer, left in the low bits of the
   sum: n.  ln 2 is subtracted in two pieces; n times the first is taken off x
   without error.  The last step adds n to the exponent field; x >= -87.3 and
   x <= 88.7 keep the result normal, so no denormal is ever produced and the
   flush to 0 is the same on every machine.

   Largest error over all floats: 0.939 units in the last place (relative:
   1.325 * 2^-24), measured by `build/test/test_kernels --all`.  The choices
   are made by masks since compilers do not vectorise branches. */
INLINE float exp_one(float x) {
    const float magic = 0x1.8p23f;
    float shifted = fmaf(x, 0x1.715476p0f, magic), n = shifted - magic;
    float r = fmaf(n, -0x1.62e43p-1f, x);
    r = fmaf(n, 0x1.05c61p-29f, r);
    float p = fmaf(1.0f / 5040, r, 1.0f / 720);
    p = fmaf(p, r, 1.0f / 120);
    p = fmaf(p, r, 1.0f / 24);
    p = fmaf(p, r, 1.0f / 6);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1);
    p = fmaf(p, r, 1);
    uint32_t y, n_bits;
    memcpy(&y, &p, sizeof y);
    memcpy(&n_bits, &shifted, sizeof n_bits);
    uint32_t zero = -(uint32_t)(x < -87.3f), infinite = -(uint32_t)(x > 88.7f);
    uint32_t nan = -(uint32_t)(x != x);
    y = ((y + (n_bits << 23)) & ~(zero | infinite | nan)) |
        (infinite & 0x7f800000) | (nan & 0x7fc00000);
    memcpy(&p, &y, sizeof p);
    return p;
}

/* Through a block of its own, since x and y may be the same. */
INLINE void exp_loop(long n, const float *x, float *y) {
    enum { BLOCK = 64 };
    float block[BLOCK];
    for (long i = 0; i < n; i += BLOCK) {
        long count = gm_min(n - i, BLOCK);
        for (long j = 0; j < count; j++) block[j] = exp_one(x[i + j]);
        memcpy(y + i, block, (size_t)count * sizeof *y);
    }
}

static void exp_scalar(long n, const float *x, float *y) { exp_loop(n, x, y); }

#endif

#ifdef GM_X86

TARGET_AVX2
static void exp_avx2(long n, const float *x, float *y) { exp_loop(n, x, y); }

TARGET_AVX512
static void exp_avx512(long n, const float *x, float *y) { exp_loop(n, x, y); }

TARGET_AVX2
static inline __m256d load_avx2(const float *x) {
    return _mm256_cvtps_pd(_mm_loadu_ps(x));
}

/* Lanes 0..3 in s0, 4..7 in s1. */
TARGET_AVX2
static double dot_avx2(long n, const float *x, const float *y) {
    __m256d s0 = _mm256_setzero_pd(), s1 = _mm256_setzero_pd();
    long i = 0;
    for (; i + 8 <= n; i += 8) {
        s0 = _mm256_fmadd_pd(load_avx2(x + i), load_avx2(y + i), s0);
        s1 = _mm256_fmadd_pd(load_avx2(x + i + 4), load_avx2(y + i + 4), s1);
    }
    double s[8];
    _mm256_storeu_pd(s, s0);
    _mm256_storeu_pd(s + 4, s1);
    return dot_rest(s, i, n, x, y);
}

TARGET_AVX2
static double sum_avx2(long n, const float *x) {
    __m256d s0 = _mm256_setzero_pd(), s1 = _mm256_setzero_pd();
    long i = 0;
    for (; i + 8 <= n; i += 8) {
        s0 = _mm256_add_pd(s0, load_avx2(x + i));
        s1 = _mm256_add_pd(s1, load_avx2(x + i + 4));
    }
    double s[8];
    _mm256_storeu_pd(s, s0);
    _mm256_storeu_pd(s + 4, s1);
    return sum_rest(s, i, n, x);
}

#endif

/* ------------------------------------------------------ a column of GPTQ */

typedef float lanes __attribute__((vector_size(GM_LANES * sizeof(float)),
                                   aligned(sizeof(float)), may_alias));

/* Through arrays of its own: what is pointed to could overlap. */
INLINE void column_lanes(const gm_column *c) {
    const float top = c->top, pivot = (float)c->u[0];
    float w[GM_LANES], scale[GM_LANES], zero[GM_LANES], code[GM_LANES];
    lanes e;
    memcpy(w, c->w[0], sizeof w);
    memcpy(scale, c->scale, sizeof scale);
    memcpy(zero, c->zero, sizeof zero);
    for (int r = 0; r < GM_LANES; r++) {
        code[r] = gm_code(w[r], scale[r], zero[r], top);
        w[r] = (w[r] - (code[r] - zero[r]) * scale[r]) / pivot;
    }
    memcpy(c->code, code, sizeof code);
    memcpy(c->e, w, sizeof w);
    memcpy(&e, w, sizeof e);
    for (long t = 1; t < c->columns; t++)
        *(lanes *)c->w[t] -= e * (float)c->u[t];
}

static void column_scalar(const gm_column *c) { column_lanes(c); }

#ifdef GM_X86
TARGET_AVX2 static void column_avx2(const gm_column *c) { column_lanes(c); }
TARGET_AVX512
static void column_avx512(const gm_column *c) { column_lanes(c); }
#endif

/* ------------------------------------------------------- instruction sets */

typedef struct {
    const char *name;
    long mr, nr;
    tile_function *tile;
    pack_function *pack_a, *pack_b;
    double (*dot)(long n, const gm_real *x, const gm_real *y);
    double (*sum)(long n, const gm_real *x);
    void (*exp)(long n, const gm_real *x, gm_real *y);
    void (*column)(const gm_column *c);
} variant;

static const variant variants[GM_ISA_COUNT] = {
    {"scalar", MR_SCALAR, NR_SCALAR, tile_scalar, pack_a_scalar,
     pack_b_scalar, dot_scalar, sum_scalar, exp_scalar, column_scalar},
#ifdef GM_X86
    {"avx2", MR_AVX2, NR_AVX2, tile_avx2, pack_a_avx2, pack_b_avx2,
     dot_avx2, sum_avx2, exp_avx2, column_avx2},
    {"avx512", MR_AVX512, NR_AVX512, tile_avx512, pack_a_avx512,
     pack_b_avx512, dot_avx2, sum_avx2, exp_avx512, column_avx512},
#else
    [GM_AVX2] = {.name = "avx2"}, [GM_AVX512] = {.name = "avx512"},
#endif
};

static int isa_chosen = -1;     /* -1: not yet */

gm_isa gm_isa_best(void) {
#ifdef GM_X86
    if (__builtin_cpu_supports("avx512f"))
        return GM_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return GM_AVX2;
#endif
    return GM_SCALAR;
}

bool gm_isa_use(gm_isa isa) {
    if (isa > gm_isa_best()) return false;
    isa_chosen = (int)isa;
    return true;
}

gm_isa gm_isa_now(void) {
    return isa_chosen < 0 ? gm_isa_best() : (gm_isa)isa_chosen;
}

static const variant *now(void) { return &variants[gm_isa_now()]; }

const char *gm_isa_name(gm_isa isa) {
    return isa < GM_ISA_COUNT ? variants[isa].name : "unknown";
}

/* ------------------------------------------------ matrix product, continued */

typedef struct {
    const variant *v;
    long m, n, k, part;         /* part: of k, the same for all but the last */
    const gm_real *a, *b;
    long ars, acs, brs, bcs, ldc;
    gm_real *c;
    bool add, far;              /* far: B is more than half a level 2 cache  */
    long rows, columns;         /* of a block of C                           */
    long blocks;                /* in a row of blocks                        */
} gemm_job;

/* One for each thread: the packed parts of A and B. */
static _Thread_local struct {
    _Alignas(64) gm_real a[ROWS * PART + SPILL];
    _Alignas(64) gm_real b[NR * PART];
} workspace;

/* The smallest multiple of `unit` that cuts n into ceil(n/most) parts. */
static long even_part(long n, long most, long unit) {
    long parts = (n + most - 1) / most;
    return ((n + parts - 1) / parts + unit - 1) / unit * unit;
}

/* A tile at the edge: through a full one. */
static void tile_edge(const variant *v, long part, const gm_real *a,
                      const gm_real *b, gm_real *c, long ldc, bool add,
                      long m, long n) {
    _Alignas(64) gm_real full[MR * NR];
    for (long i = 0; add && i < m; i++)
        memcpy(full + i * v->nr, c + i * ldc, (size_t)n * sizeof *c);
    v->tile(part, a, b, full, v->nr, add);
    for (long i = 0; i < m; i++)
        memcpy(c + i * ldc, full + i * v->nr, (size_t)n * sizeof *c);
}

/* Asks for share t of B [part, nr] at b, in `shares` shares, to be brought
   near: a panel that is packed next comes from far away otherwise. */
static void ask_for(const gemm_job *g, const gm_real *b, long part, long nr,
                    long t, long shares) {
    bool along = g->brs == 1;       /* memory lies along k */
    long lines = along ? nr : part, length = along ? part : nr;
    long stride = along ? g->bcs : g->brs;
    for (long r = lines * t / shares; r < lines * (t + 1) / shares; r++)
        for (long i = 0; i < length; i += 64 / (long)sizeof *b)
            __builtin_prefetch(b + r * stride + i, 0, 2);
}

/* C[m, n] (+)= packed A [m, part] times B [part, n]. */
static void multiply_packed(const gemm_job *g, long part, const gm_real *b,
                            long m, long n, gm_real *c, bool add) {
    const variant *v = g->v;
    for (long j = 0; j < n; j += v->nr) {
        long nr = gm_min(v->nr, n - j);
        v->pack_b(workspace.b, b + j * g->bcs, g->bcs, g->brs, nr, part);
        for (long i = 0; i < m; i += v->mr) {
            const gm_real *a = workspace.a + i * part;
            gm_real *tile = c + i * g->ldc + j;
            long mr = gm_min(v->mr, m - i);
            if (g->far && j + v->nr < n)
                ask_for(g, b + (j + v->nr) * g->bcs, part,
                        gm_min(v->nr, n - j - v->nr), i / v->mr,
                        (m + v->mr - 1) / v->mr);
            if (mr == v->mr && nr == v->nr)
                v->tile(part, a, workspace.b, tile, g->ldc, add);
            else
                tile_edge(v, part, a, workspace.b, tile, g->ldc, add, mr, nr);
        }
    }
}

/* A [m, part] into panels.  Where its columns lie along memory, all panels
   take a few k in turn, so that each line of the cache is read once: 2 to 10 %
   of the time of d_w = d_y^T x (bench/gemm.c). */
static void pack_block(const gemm_job *g, long part, const gm_real *a,
                       long m) {
    const variant *v = g->v;
    long step = g->acs == 1 ? part : 16;
    for (long k = 0; k < part; k += step)
        for (long i = 0; i < m; i += v->mr)
            v->pack_a(workspace.a + i * part + k * v->mr,
                      a + i * g->ars + k * g->acs, g->ars, g->acs,
                      gm_min(v->mr, m - i), gm_min(step, part - k));
}

/* Block t of C, all of k. */
static void gemm_block(void *context, long t) {
    const gemm_job *g = context;
    long i0 = t / g->blocks * g->rows, m = gm_min(g->rows, g->m - i0);
    long j0 = t % g->blocks * g->columns, n = gm_min(g->columns, g->n - j0);
    for (long k = 0; k < g->k; k += g->part) {
        long part = gm_min(g->part, g->k - k);
        const gm_real *a = g->a + i0 * g->ars + k * g->acs;
        pack_block(g, part, a, m);
        multiply_packed(g, part, g->b + k * g->brs + j0 * g->bcs, m, n,
                        g->c + i0 * g->ldc + j0, g->add || k > 0);
    }
}

/* Blocks of C: as large as fits, then the longer side is halved until there
   are a few for each thread or they are small. */
static void choose_blocks(gemm_job *g, int threads) {
    const variant *v = g->v;
    g->rows = even_part(g->m, ROWS, v->mr);
    g->columns = even_part(g->n, g->n, v->nr);
    long want = threads == 1 ? 1 : 4 * threads;
    while ((g->m + g->rows - 1) / g->rows *
           ((g->n + g->columns - 1) / g->columns) < want) {
        if (g->rows > g->columns && g->rows > 8 * v->mr)
            g->rows = even_part(g->rows, (g->rows + 1) / 2, v->mr);
        else if (g->columns > 4 * v->nr)
            g->columns = even_part(g->columns, (g->columns + 1) / 2, v->nr);
        else
            break;
    }
    g->blocks = (g->n + g->columns - 1) / g->columns;
}

void gm_gemm(long m, long n, long k, const gm_real *a, long ars, long acs,
             const gm_real *b, long brs, long bcs, gm_real *c, long ldc,
             bool add) {
    if (m < 1 || n < 1 || (k < 1 && add)) return;
    if (k < 1) {
        for (long i = 0; i < m; i++)
            memset(c + i * ldc, 0, (size_t)n * sizeof *c);
        return;
    }
    gemm_job g = {.v = now(), .m = m, .n = n, .k = k,
                  .part = even_part(k, PART, 8), .a = a, .b = b, .ars = ars,
                  .acs = acs, .brs = brs, .bcs = bcs, .ldc = ldc, .c = c,
                  .add = add, .far = n > (1 << 17) / k};
    /* below some 100 us, starting threads costs more than they save */
    bool small = (double)m * (double)n * (double)k < 1e7;
    choose_blocks(&g, small || in_parallel() ? 1 : gm_threads());
    gm_parallel((m + g.rows - 1) / g.rows * g.blocks, gemm_block, &g);
}

/* --------------------------------------------------------- rows, dispatched */

double gm_dot(long n, const gm_real *x, const gm_real *y) {
    return now()->dot(n, x, y);
}

double gm_sum(long n, const gm_real *x) { return now()->sum(n, x); }

void gm_exp(long n, const gm_real *x, gm_real *y) { now()->exp(n, x, y); }

void gm_round_column(const gm_column *c) { now()->column(c); }

/* Eight lanes, which compilers turn into vector maxima. */
gm_real gm_largest(long n, const gm_real *x) {
    gm_real m[8];
    long i = 0;
    for (int l = 0; l < 8; l++) m[l] = x[0];
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) m[l] = x[i + l] > m[l] ? x[i + l] : m[l];
    for (; i < n; i++) m[0] = x[i] > m[0] ? x[i] : m[0];
    for (int l = 1; l < 8; l++) m[0] = m[l] > m[0] ? m[l] : m[0];
    return m[0];
}

/* ------------------------------------------- elementary functions in double

   Bounds are relative errors in units of 2^-53, for results that are normal
   numbers; tests/test_kernels.c measures them against long double libm. */

static double from_bits(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static uint64_t to_bits(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

/* c[0] x^(n-1) + ... + c[n-1] */
static double polynomial(const double *c, int n, double x) {
    double p = c[0];
    for (int i = 1; i < n; i++) p = fma(p, x, c[i]);
    return p;
}

/* Added and taken off again, rounds |x| < 2^51 to an integer. */
#define ROUND 0x1.8p52

/* e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln(2)/2, Taylor to r^13
   (r^14/14! < 2^-57).  2^n in two factors: n = 1024 and denormal results.
   Error < 1.5: the last fma 1, the one before it 0.35, r at most 0.1. */
double gm_expd(double x) {
    static const double c[14] = {
        1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
        1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
        1.0 / 24, 1.0 / 6, 0.5, 1, 1};
    if (!(x > -746 && x < 710))
        return x >= 710 ? (double)INFINITY : x <= -746 ? 0 : x;
    double n = fma(x, 0x1.71547652b82fep0, ROUND) - ROUND;
    double r = fma(n, -0x1.62e42fefa39efp-1, x);
    r = fma(n, -0x1.abc9e3b39803fp-56, r);
    int64_t e = (int64_t)n, half = e / 2;
    return polynomial(c, 14, r) * from_bits((uint64_t)(half + 1023) << 52) *
           from_bits((uint64_t)(e - half + 1023) << 52);
}

/* ln x = e ln 2 + ln m, sqrt(1/2) <= m < sqrt 2.  With f = m - 1, s = f/(2+f),
   z = s^2 <= 0.0295:  ln m = 2 atanh s = 2s + s z (2/3 + 2z/5 + ...), to z^11
   (the next term is below 2^-60), and since 2s = f - s f, in an order that
   rounds only small terms:  ln m = f - (f^2/2 - s (f^2/2 + z (...))).
   Error < 1.5. */
double gm_logd(double x) {
    static const double c[12] = {
        2.0 / 25, 2.0 / 23, 2.0 / 21, 2.0 / 19, 2.0 / 17, 2.0 / 15, 2.0 / 13,
        2.0 / 11, 2.0 / 9, 2.0 / 7, 2.0 / 5, 2.0 / 3};
    if (!(x > 0 && x < (double)INFINITY))
        return x == 0 ? -(double)INFINITY : x > 0 ? x : (double)NAN;
    int64_t e = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        e = -54;
    }
    int64_t above = (int64_t)(to_bits(x) - to_bits(0x1.6a09e667f3bcdp-1));
    int64_t exponent = above >> 52;
    e += exponent;
    double m = from_bits(to_bits(x) - ((uint64_t)exponent << 52));
    double f = m - 1, s = f / (m + 1), z = s * s, half = f * f / 2;
    double tail = s * (half + z * polynomial(c, 12, z));
    tail = fma((double)e, 0x1.abc9e3b39803fp-56, tail);
    return fma((double)e, 0x1.62e42fefa39efp-1, f - (half - tail));
}

/* x = n pi/2 + r, |r| <= pi/4.  pi/2 is the sum of three doubles; the product
   of n < 2^23 and each is exact inside the fma, and the first subtraction is
   exact, so r is rounded once (the third term is below that rounding unless x
   is next to n pi/2), even where x is nearest to a multiple.  Then Taylor, sin
   to r^19 and cos to r^18 (truncated: below 2^-60), turned by n quarters.
   Error < 2.25: r 1, the last operation 1, the polynomial 0.2. */
void gm_sincosd(double x, double *sine, double *cosine) {
    static const double sc[9] = {
        -1.0 / 121645100408832000, 1.0 / 355687428096000,
        -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
        1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6};
    static const double cc[8] = {
        -1.0 / 6402373705728000, 1.0 / 20922789888000, -1.0 / 87178291200,
        1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24};
    double n = fma(x, 0x1.45f306dc9c883p-1, ROUND) - ROUND;
    double r = fma(n, -0x1.921fb54442d18p0, x);
    r = fma(n, -0x1.1a62633145c07p-54, r);
    r = fma(n, 0x1.f1976b7ed8fbcp-110, r);
    double z = r * r, half = z / 2, most = 1 - half;
    double s = fma(r * z, polynomial(sc, 9, z), r);
    double c = most + fma(z * z, polynomial(cc, 8, z), (1 - most) - half);
    int quarter = (int)((int64_t)n & 3);
    *sine = quarter & 1 ? c : s;
    *cosine = quarter & 1 ? s : c;
    if (quarter & 2) *sine = -*sine;
    if (quarter == 1 || quarter == 2) *cosine = -*cosine;
}

double gm_normal(uint64_t seed, uint64_t stream, uint64_t counter) {
    double sine, cosine, u = 1 - gm_uniform(seed, stream, counter); /* (0, 1] */
    double turn = 6.283185307179586 * gm_uniform(seed, stream, counter + 1);
    gm_sincosd(turn, &sine, &cosine);
    return sqrt(-2 * gm_logd(u)) * cosine;
}

/* ------------------------------------------- Gram matrices and Cholesky

   All in double, products rounded and then added (never fma), so that any
   instruction set gives the same bits.  Every element is one chain of
   additions in the order of the textbook's three loops; tests/test_gptq.c
   compares with those loops for equality.  Work is cut into blocks of
   BLOCK x BLOCK elements, each held in the workspace while

     C[i][j] += sum_k a[k][i] b[k][j],   k in order,

   runs over DEPTH k at a time, in tiles of TALL x 8 held in registers. */

enum { BLOCK = 64, DEPTH = 128, TALL = 4, WIDE = 8 };

typedef double wide __attribute__((vector_size(WIDE * sizeof(double)),
                                   aligned(sizeof(double)), may_alias));

static _Thread_local struct {
    _Alignas(64) double a[DEPTH * BLOCK], b[DEPTH * BLOCK];
    _Alignas(64) double c[BLOCK * BLOCK];
} blocks;

/* a [k][TALL], b [k][WIDE], c with rows of BLOCK. */
INLINE void tile_double(long depth, const double *a, const double *b,
                        double *c) {
    wide x[TALL];
    for (int i = 0; i < TALL; i++) x[i] = *(wide *)(c + i * BLOCK);
    for (long k = 0; k < depth; k++, a += TALL, b += WIDE)
        for (int i = 0; i < TALL; i++) x[i] += a[i] * *(const wide *)b;
    for (int i = 0; i < TALL; i++) *(wide *)(c + i * BLOCK) = x[i];
}

/* blocks.c += the panels in blocks.a and blocks.b. */
INLINE void block_tiles(long depth) {
    for (long j = 0; j < BLOCK; j += WIDE)
        for (long i = 0; i < BLOCK; i += TALL)
            tile_double(depth, blocks.a + i * depth, blocks.b + j * depth,
                        blocks.c + i * BLOCK + j);
}

static void block_scalar(long depth) { block_tiles(depth); }

#ifdef GM_X86
TARGET_AVX2 static void block_avx2(long depth) { block_tiles(depth); }
TARGET_AVX512 static void block_avx512(long depth) { block_tiles(depth); }
#endif

static void block_add(long depth) {
#ifdef GM_X86
    if (gm_isa_now() == GM_AVX512) return block_avx512(depth);
    if (gm_isa_now() == GM_AVX2) return block_avx2(depth);
#endif
    block_scalar(depth);
}

/* to = panels of `width`: panel p, [k][width], holds
   sign from[(p width + i) rs + k ks]; i from `rows` on are 0. */
static void block_pack(double *to, const double *from, long rs, long ks,
                       long rows, long depth, long width, double sign) {
    for (long p = 0; p < BLOCK; p += width)
        for (long k = 0; k < depth; k++)
            for (long i = p; i < p + width; i++)
                *to++ = i < rows ? sign * from[i * rs + k * ks] : 0;
}

/* The block of C at `c` (m x n of it are there) into the workspace. */
static void block_load(const double *c, long ldc, long m, long n) {
    memset(blocks.c, 0, sizeof blocks.c);
    for (long i = 0; i < m; i++)
        memcpy(blocks.c + i * BLOCK, c + i * ldc, (size_t)n * sizeof *c);
}

static void block_store(double *c, long ldc, long m, long n) {
    for (long i = 0; i < m; i++)
        memcpy(c + i * ldc, blocks.c + i * BLOCK, (size_t)n * sizeof *c);
}

typedef struct {
    long n, rows, column;
    const gm_real *x;
    const double *weight, *L;
    double *out;
} square_job;

/* Item t of the lower triangle of blocks, row by row: (0,0) (1,0) (1,1) ... */
static void triangle(long t, long *i, long *j) {
    *i = 0;
    while ((*i + 1) * (*i + 2) / 2 <= t) ++*i;
    *j = t - *i * (*i + 1) / 2;
}

/* to = panels of `width` columns of x, from column `first`; row t times its
   squared weight when `weigh`.  `width` is a constant in each use. */
INLINE void gram_panels(const square_job *g, long row, long depth, long first,
                        const int width, bool weigh, double *to) {
    for (long p = first; p < first + BLOCK; p += width)
        for (long t = row; t < row + depth; t++, to += width) {
            const double w = weigh ? g->weight[t] * g->weight[t] : 1;
            const gm_real *x = g->x + t * g->n + p;
            if (p + width <= g->n)
                for (int i = 0; i < width; i++) to[i] = w * (double)x[i];
            else
                for (int i = 0; i < width; i++)
                    to[i] = p + i < g->n ? w * (double)x[i] : 0;
        }
}

static void gram_block(void *context, long item) {
    const square_job *g = context;
    long i, j;
    triangle(item, &i, &j);
    i *= BLOCK, j *= BLOCK;
    double *c = g->out + i * g->n + j;
    long m = gm_min(BLOCK, g->n - i), n = gm_min(BLOCK, g->n - j);
    block_load(c, g->n, m, n);
    for (long t = 0; t < g->rows; t += DEPTH) {
        long depth = gm_min(DEPTH, g->rows - t);
        gram_panels(g, t, depth, i, TALL, true, blocks.a);
        gram_panels(g, t, depth, j, WIDE, false, blocks.b);
        block_add(depth);
    }
    block_store(c, g->n, m, n);
}

static long triangle_items(long n) {
    long side = (n + BLOCK - 1) / BLOCK;
    return side * (side + 1) / 2;
}

void gm_gram(long rows, long n, const gm_real *x, const double *weight,
             double *H) {
    square_job g = {.n = n, .rows = rows, .x = x, .weight = weight, .out = H};
    gm_parallel(triangle_items(n), gram_block, &g);
}

/* The block at row i, column `column`, loses what the columns before it
   contribute: C -= L_i L_j^T. */
static void cholesky_update(const square_job *g, long i) {
    const double *A = g->out;
    const long n = g->n, j = g->column;
    block_load(A + i * n + j, n, gm_min(BLOCK, n - i), gm_min(BLOCK, n - j));
    for (long k = 0; k < j; k += DEPTH) {
        long depth = gm_min(DEPTH, j - k);
        block_pack(blocks.a, A + i * n + k, n, 1, gm_min(BLOCK, n - i), depth,
                   TALL, -1);
        block_pack(blocks.b, A + j * n + k, n, 1, gm_min(BLOCK, n - j), depth,
                   WIDE, 1);
        block_add(depth);
    }
}

/* The diagonal block: column by column, each subtracted from those after it.
   false: a pivot is not positive. */
static bool cholesky_diagonal(long m) {
    double *c = blocks.c;
    for (long k = 0; k < m; k++) {
        if (!(c[k * BLOCK + k] > 0 && c[k * BLOCK + k] < HUGE_VAL))
            return false;
        c[k * BLOCK + k] = sqrt(c[k * BLOCK + k]);
        for (long i = k + 1; i < m; i++) c[i * BLOCK + k] /= c[k * BLOCK + k];
        for (long i = k + 1; i < m; i++)
            for (long j = k + 1; j <= i; j++)
                c[i * BLOCK + j] -= c[i * BLOCK + k] * c[j * BLOCK + k];
        memset(c + k * BLOCK + k + 1, 0,
               (size_t)(BLOCK - k - 1) * sizeof *c);
    }
    return true;
}

/* A block below the diagonal one, L [m, m] transposed in g->L: X L^T = C. */
static void cholesky_panel(void *context, long item) {
    const square_job *g = context;
    const long n = g->n, i = g->column + (item + 1) * BLOCK;
    cholesky_update(g, i);
    for (long r = 0; r < BLOCK; r++) {
        double *c = blocks.c + r * BLOCK;
        for (long k = 0; k < BLOCK; k++) {
            const double *row = g->L + k * BLOCK;
            c[k] /= row[k];
            for (long j = k + 1; j < BLOCK; j++) c[j] -= c[k] * row[j];
        }
    }
    block_store(g->out + i * n + g->column, n, gm_min(BLOCK, n - i), BLOCK);
}

bool gm_cholesky(long n, double *A) {
    double L[BLOCK * BLOCK];
    square_job g = {.n = n, .L = L, .out = A};
    for (; g.column < n; g.column += BLOCK) {
        long j = g.column, m = gm_min(BLOCK, n - j);
        cholesky_update(&g, j);
        if (!cholesky_diagonal(m)) return false;
        block_store(A + j * n + j, n, m, m);
        for (long k = 0; k < BLOCK; k++)
            for (long i = 0; i < BLOCK; i++)
                L[k * BLOCK + i] = blocks.c[i * BLOCK + k];
        gm_parallel((n - j - 1) / BLOCK, cholesky_panel, &g);
        for (long i = j; i < j + m; i++)
            memset(A + i * n + j + m, 0, (size_t)(n - j - m) * sizeof *A);
    }
    return true;
}

/* Columns of X from `item` blocks on: L X = 1, block row after block row. */
static void inverse_columns(void *context, long item) {
    const square_job *g = context;
    const long n = g->n, j = item * BLOCK, columns = gm_min(BLOCK, n - j);
    const double *L = g->L;
    double *X = g->out, *c = blocks.c;
    for (long i = 0; i < n; i += BLOCK) {
        long m = gm_min(BLOCK, n - i);
        memset(c, 0, sizeof blocks.c);
        for (long k = 0; i == j && k < m; k++) c[k * BLOCK + k] = 1;
        for (long k = j; k < i; k += DEPTH) {
            long depth = gm_min(DEPTH, i - k);
            block_pack(blocks.a, L + i * n + k, n, 1, m, depth, TALL, -1);
            block_pack(blocks.b, X + k * n + j, 1, n, columns, depth, WIDE, 1);
            block_add(depth);
        }
        for (long k = 0; i >= j && k < m; k++) {
            double pivot = L[(i + k) * n + i + k];
            for (long t = 0; t < BLOCK; t++) c[k * BLOCK + t] /= pivot;
            for (long q = k + 1; q < m; q++) {
                double l = L[(i + q) * n + i + k];
                for (long t = 0; t < BLOCK; t++)
                    c[q * BLOCK + t] -= l * c[k * BLOCK + t];
            }
        }
        block_store(X + i * n + j, n, m, columns);
    }
}

void gm_lower_inverse(long n, const double *L, double *X) {
    square_job g = {.n = n, .L = L, .out = X};
    gm_parallel((n + BLOCK - 1) / BLOCK, inverse_columns, &g);
}

/* ----------------------------------------------------- what a machine can do

   Chains of fused multiply-adds, CHAINS of them at once so that none waits for
   another; the empty asm keeps each in a register. */

enum { CHAINS = 12 };

static double chains_scalar(long turns) {
    gm_real v[CHAINS] = {0};
    for (long t = 0; t < turns; t++)
        for (int i = 0; i < CHAINS; i++)
            v[i] = fma_real(v[i], (gm_real)0.999, (gm_real)1e-7);
    __asm__ volatile("" : : "r"(v) : "memory");
    return 2. * CHAINS * (double)turns;
}

#ifdef GM_X86

TARGET_AVX2
static double chains_avx2(long turns) {
    __m256 v[CHAINS], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-7f);
    for (int i = 0; i < CHAINS; i++) v[i] = y;
    for (long t = 0; t < turns; t++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            v[i] = _mm256_fmadd_ps(v[i], x, y);
            __asm__ volatile("" : "+x"(v[i]));
        }
    return 16. * CHAINS * (double)turns;
}

TARGET_AVX512
static double chains_avx512(long turns) {
    __m512 v[CHAINS], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-7f);
    for (int i = 0; i < CHAINS; i++) v[i] = y;
    for (long t = 0; t < turns; t++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            v[i] = _mm512_fmadd_ps(v[i], x, y);
            __asm__ volatile("" : "+v"(v[i]));
        }
    return 32. * CHAINS * (double)turns;
}

#endif

static double chains(long turns) {
#ifdef GM_X86
    if (gm_isa_now() == GM_AVX512) return chains_avx512(turns);
    if (gm_isa_now() == GM_AVX2) return chains_avx2(turns);
#endif
    return chains_scalar(turns);
}

/* The fastest of several short turns: others use the machine too. */
double gm_peak_flops(void) {
    double best = 0;
    for (int i = 0; i < 50; i++) {
        double start = gm_seconds(), n = chains(20000);
        best = fmax(best, n / (gm_seconds() - start));
    }
    return best;
}

double gm_peak_bytes(void) {
    enum { WORDS = 1 << 21, TURNS = 4 };
    gm_arena arena = {0};
    double best = 0, *from = gm_alloc(&arena, WORDS, sizeof *from);
    double *to = gm_alloc(&arena, WORDS, sizeof *to);
    for (int i = 0; i < TURNS; i++) {
        double start = gm_seconds();
        memcpy(to, from, WORDS * sizeof *to);
        __asm__ volatile("" : : "r"(to) : "memory");
        best = fmax(best, 2. * WORDS * sizeof *to / (gm_seconds() - start));
    }
    gm_arena_free(&arena);
    return best;
}
