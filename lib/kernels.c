/* kernels.c: matrix product, dot products, exponentials, threads.

   The only file with intrinsics.  It touches nothing but the memory it is
   handed, one workspace a thread, and two settings (instruction set, threads).
   Every result has the same bits on any machine: multiply-adds are fused where
   the code says fma and nowhere else (-ffp-contract=off), every sum has one
   order, and nothing is taken from libm but fma itself.

   The scalar functions are the specification.  Most loops are written once and
   compiled for each instruction set; the tile of the product, vectors.h, is
   included for AVX2, AVX-512 and NEON, which every AArch64 has.
   Functions of x86 carry their target as an attribute: no compiler flag is
   needed to build them, no instruction of theirs can leak into the rest.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <math.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__x86_64__) && !defined(GM_DOUBLE)
#define GM_X86 1
#include <cpuid.h>
#include <immintrin.h>
#define TARGET_SHA __attribute__((target("sha,sse4.1")))
#define TARGET_AVX2 __attribute__((target("avx2,fma")))
#define TARGET_AVX512 __attribute__((target("avx2,fma,avx512f")))
#elif defined(__aarch64__) && !defined(GM_DOUBLE)
#define GM_ARM 1
#include <arm_neon.h>
#endif

/* Compiled into each caller, with the caller's instruction set. */
#define INLINE static inline __attribute__((always_inline))

#ifdef GM_DOUBLE
#define fma_real fma
#else
#define fma_real fmaf
#endif

/* ---------------------------------------------------------------- threads */

#ifdef _OPENMP

static int threads_now;         /* 0: as many as OpenMP would take, and no more
                                   than there are processors */

void gm_threads_use(int count) { threads_now = count < 1 ? 1 : count; }

int gm_threads(void) {
    return omp_in_parallel() ? 1 : threads_now ? threads_now
         : (int)gm_min(omp_get_max_threads(), omp_get_num_procs());
}

int gm_thread(void) { return omp_get_thread_num(); }

#else

void gm_threads_use(int count) { (void)count; }

int gm_threads(void) { return 1; }

int gm_thread(void) { return 0; }

#endif

/* ------------------------------------------- a tile of the matrix product

   Blocked as Goto and van de Geijn 2008 have it.  C is cut into blocks, one
   turn of a parallel loop each; for a block and a part of k

     A [rows, part] is packed into panels of mr rows, a[k][mr]   (level 2 cache)
     B [part, nr]   is packed, panel by panel,        b[k][nr]   (level 1)

   and `tile` computes mr x nr elements of C, all of them held in registers.
   Blocks, panels and tiles are a matter of speed alone: an element of C is
   the sum, part by part, of chains of fma that only k decides. */

enum {
    PART = 384,                 /* largest part of k                         */
    ROWS = 588,                 /* of A packed at once; a multiple of mr     */
    MR = 14, NR = 32,           /* largest tile                              */
    MR_SCALAR = 4, NR_SCALAR = 16,
    SPILL = 2                   /* a panel of 6 is stored 8 at a time        */
};

/* C[mr, nr] = chain, or C + chain: chain = sum_k a[k][i] b[k][j] by fma. */
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

/* ---------------------------------------------- reductions and exponentials */

/* Sum of x_i y_i, or of x_i when y is NULL, in 8 lanes.  The product of two
   floats is exact in a double: fused or not, the bits are the same. */
INLINE double dot_lanes(long n, const gm_real *x, const gm_real *y) {
    double s[8] = {0};
    long i = 0;
    for (; y && i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++)
            s[l] += (double)x[i + l] * (double)y[i + l];
    for (; !y && i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) s[l] += (double)x[i + l];
    for (; i < n; i++)
        s[i % 8] += y ? (double)x[i] * (double)y[i] : (double)x[i];
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

#ifdef GM_DOUBLE

INLINE double exp_one(double x) {
    return x < -87.3 ? 0 : x > 88.7 ? (double)INFINITY : gm_expd(x);
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

#endif

/* Through a block of its own, since x and y may be the same. */
INLINE void exp_loop(long n, const gm_real *x, gm_real *y) {
    gm_real block[64];
    for (long i = 0; i < n; i += 64) {
        long count = gm_min(n - i, 64);
        for (long j = 0; j < count; j++) block[j] = exp_one(x[i + j]);
        memcpy(y + i, block, (size_t)count * sizeof *y);
    }
}

/* ------------------------------------------------------ a column of GPTQ */

typedef float lanes __attribute__((vector_size(GM_LANES * sizeof(float)),
                                   aligned(sizeof(float)), may_alias));

/* Through arrays of its own: what is pointed to could overlap. */
INLINE void column_lanes(const gm_column *c) {
    const float top = c->top, pivot = (float)c->u[0];
    float w[GM_LANES], scale[GM_LANES], zero[GM_LANES], code[GM_LANES];
    float shift[GM_LANES];
    lanes e;
    memcpy(w, c->w[0], sizeof w);
    memcpy(scale, c->scale, sizeof scale);
    memcpy(zero, c->zero, sizeof zero);
    memcpy(shift, c->shift, sizeof shift);
    for (int r = 0; r < GM_LANES; r++) {
        code[r] = gm_code(w[r] + shift[r], scale[r], zero[r], top);
        const float q = (code[r] - zero[r]) * scale[r] - shift[r];
        w[r] = (w[r] - q) / pivot;
    }
    memcpy(c->code, code, sizeof code);
    memcpy(c->e, w, sizeof w);
    memcpy(&e, w, sizeof e);
    for (long t = 1; t < c->columns; t++)
        *(lanes *)c->w[t] -= e * (float)c->u[t];
}

/* ----------------------------------------- a tile of a product in double

   Products rounded and then added (never fma), so that any instruction set
   gives the same bits.  C[i][j] += sum_k a[k][i] b[k][j], k in order, for the
   BLOCK x BLOCK elements of a thread's workspace, in tiles of TALL x WIDE held
   in registers. */

enum { BLOCK = 64, DEPTH = 128, TALL = 4, WIDE = 8 };

static _Thread_local struct {
    _Alignas(64) double a[DEPTH * BLOCK], b[DEPTH * BLOCK];
    _Alignas(64) double c[BLOCK * BLOCK];
} blocks;

/* c += the panels a [k][TALL] and b [k][WIDE]. */
INLINE void block_tiles(long depth) {
    for (long j = 0; j < BLOCK; j += WIDE)
        for (long i = 0; i < BLOCK; i += TALL) {
            const double *a = blocks.a + i * depth, *b = blocks.b + j * depth;
            double *c = blocks.c + i * BLOCK + j, x[TALL][WIDE];
            for (int r = 0; r < TALL; r++)
                for (int l = 0; l < WIDE; l++) x[r][l] = c[r * BLOCK + l];
            for (long k = 0; k < depth; k++, a += TALL, b += WIDE)
#pragma GCC unroll 4
                for (int r = 0; r < TALL; r++)
#pragma omp simd
                    for (int l = 0; l < WIDE; l++) x[r][l] += a[r] * b[l];
            for (int r = 0; r < TALL; r++)
                for (int l = 0; l < WIDE; l++) c[r * BLOCK + l] = x[r][l];
        }
}

/* ------------------------------------------------ for each instruction set */

/* What is written once, compiled for a target. */
#define COMPILE(isa, target)                                                  \
    target static double dot_##isa(long n, const gm_real *x,                  \
                                   const gm_real *y) {                        \
        return dot_lanes(n, x, y);                                            \
    }                                                                         \
    target static void exp_##isa(long n, const gm_real *x, gm_real *y) {      \
        exp_loop(n, x, y);                                                    \
    }                                                                         \
    target static void column_##isa(const gm_column *c) { column_lanes(c); }  \
    target static void block_##isa(long depth) { block_tiles(depth); }

COMPILE(scalar, )

#ifdef GM_X86

/* x = its transpose: x[i][k] to x[k][i]. */
TARGET_AVX2
static inline void transpose_8x8(__m256 x[8]) {
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
static void transpose_avx2(float *to, const float *from, long rs, long rows,
                           long width, long part) {
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
            transpose_8x8(x);
            for (int r = 0; r < 8; r++)
                _mm256_storeu_ps(to + (k + r) * width + i, x[r]);
        }
        for (; k < part; k++)
            for (int r = 0; r < 8 && i + r < width; r++)
                to[k * width + i + r] = row[r][k];
    }
}

COMPILE(avx2, TARGET_AVX2)
COMPILE(avx512, TARGET_AVX512)

#define TILE tile_avx2
#define TARGET TARGET_AVX2
#define FMA _mm256_fmadd_ps
#define WIDTH 8
#define HEIGHT 6
#include "vectors.h"

#define TILE tile_avx512
#define TARGET TARGET_AVX512
#define FMA _mm512_fmadd_ps
#define WIDTH 16
#define HEIGHT 14
#include "vectors.h"

#elif defined(GM_ARM)

#define TILE tile_neon
#define TARGET
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define WIDTH 4
#define HEIGHT 12
#include "vectors.h"

#endif

/* ------------------------------------------------------- instruction sets */

typedef struct {
    const char *name;
    long mr, nr;
    void (*tile)(long part, const gm_real *a, const gm_real *b, gm_real *c,
                 long ldc, bool add);
    void (*transpose)(gm_real *to, const gm_real *from, long rs, long rows,
                      long width, long part);
    double (*dot)(long n, const gm_real *x, const gm_real *y);
    void (*exp)(long n, const gm_real *x, gm_real *y);
    void (*column)(const gm_column *c);
    void (*block)(long depth);
} variant;

static const variant variants[GM_ISA_COUNT] = {
    {"scalar", MR_SCALAR, NR_SCALAR, tile_scalar, NULL, dot_scalar,
     exp_scalar, column_scalar, block_scalar},
#ifdef GM_X86
    {"avx2", 6, 16, tile_avx2, transpose_avx2, dot_avx2, exp_avx2,
     column_avx2, block_avx2},
    {"avx512", 14, 32, tile_avx512, transpose_avx2, dot_avx512, exp_avx512,
     column_avx512, block_avx512},
#elif defined(GM_ARM)
    {"neon", 12, 8, tile_neon, NULL, dot_scalar, exp_scalar, column_scalar,
     block_scalar},
#endif
};

static int isa_chosen = -1;     /* -1: not yet */

gm_isa gm_isa_best(void) {
#ifdef GM_X86
    if (__builtin_cpu_supports("avx512f")) return GM_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return GM_AVX2;
#elif defined(GM_ARM)
    return GM_NEON;
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

/* ----------------------------------------------------------------- SHA-256

   The 64 rounds of gm_sha_scalar, four at a time: w[i % 4] holds the words 4 i
   .. 4 i + 3 of the schedule, an instruction does two rounds.  It takes a .. h
   as a b e f and c d g h, the last word lowest, and gives the new a b e f; the
   old one is the new c d g h. */
#ifdef GM_X86

TARGET_SHA static void sha_x86(uint32_t h[8], const uint8_t *b, size_t n) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i *state = (__m128i *)h, w[4];
    __m128i t = _mm_shuffle_epi32(_mm_loadu_si128(state), 0xb1);
    __m128i u = _mm_shuffle_epi32(_mm_loadu_si128(state + 1), 0x1b);
    __m128i abef = _mm_alignr_epi8(t, u, 8), cdgh = _mm_blend_epi16(u, t, 0xf0);
    for (; n--; b += 64) {
        const __m128i before = abef, below = cdgh;
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(
                _mm_loadu_si128((const __m128i *)b + i), swap);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            t = _mm_loadu_si128((const __m128i *)gm_sha_k + i);
            t = _mm_add_epi32(t, w[i % 4]);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, t);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_srli_si128(t, 8));
            if (i > 11) continue;
            t = _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4);
            u = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);
            w[i % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(t, u),
                                            w[(i + 3) % 4]);
        }
        abef = _mm_add_epi32(abef, before);
        cdgh = _mm_add_epi32(cdgh, below);
    }
    t = _mm_shuffle_epi32(abef, 0x1b);
    u = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128(state, _mm_blend_epi16(t, u, 0xf0));
    _mm_storeu_si128(state + 1, _mm_alignr_epi8(u, t, 8));
}

static bool has_sha(void) {
    static _Atomic int has = -1;
    unsigned a, b, c, d;
    if (has < 0)
        has = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
    return has;
}

#endif

bool gm_sha_x86(uint32_t h[8], const uint8_t *b, size_t n) {
#ifdef GM_X86
    if (has_sha()) return sha_x86(h, b, n), true;
#endif
    (void)h, (void)b, (void)n;
    return false;
}

/* --------------------------------------------------------- matrix product */

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

static long parts(long n, long size) { return (n + size - 1) / size; }

/* The smallest multiple of `unit` that cuts n into parts(n, most). */
static long even_part(long n, long most, long unit) {
    return parts(parts(n, parts(n, most)), unit) * unit;
}

/* `width` is a constant in each use, so that copies have a fixed length. */
INLINE void pack_width(const long width, gm_real *to, const gm_real *from,
                       long rs, long ks, long rows, long part) {
    if (rs == 1 && rows == width)
        for (long k = 0; k < part; k++)
            memcpy(to + k * width, from + k * ks, (size_t)width * sizeof *to);
    else
        for (long k = 0; k < part; k++)
            for (long i = 0; i < rows; i++)
                to[k * width + i] = from[i * rs + k * ks];
}

/* to[k][i] = from[i rs + k ks], i < rows; i = rows .. width-1 are anything;
   width: mr or nr. */
static void pack(const variant *v, gm_real *to, const gm_real *from, long rs,
                 long ks, long rows, long width, long part) {
    if (ks == 1 && v->transpose) {
        v->transpose(to, from, rs, rows, width, part);
        return;
    }
    switch (width) {
    case 4: pack_width(4, to, from, rs, ks, rows, part); break;
    case 6: pack_width(6, to, from, rs, ks, rows, part); break;
    case 8: pack_width(8, to, from, rs, ks, rows, part); break;
    case 12: pack_width(12, to, from, rs, ks, rows, part); break;
    case 14: pack_width(14, to, from, rs, ks, rows, part); break;
    case 16: pack_width(16, to, from, rs, ks, rows, part); break;
    case 32: pack_width(32, to, from, rs, ks, rows, part); break;
    }
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

/* Asks for the lines t, t + step, ... of B [part, nr] at b to be brought near:
   a panel that is packed next comes from far away otherwise. */
static void ask_for(const gemm_job *g, const gm_real *b, long part, long nr,
                    long t, long step) {
    const bool along = g->brs == 1;     /* memory lies along k */
    for (; t < (along ? nr : part); t += step)
        for (long i = 0; i < (along ? part : nr); i += 64 / (long)sizeof *b)
            __builtin_prefetch(b + t * (along ? g->bcs : g->brs) + i, 0, 2);
}

/* C[m, n] (+)= packed A [m, part] times B [part, n]. */
static void multiply_packed(const gemm_job *g, long part, const gm_real *b,
                            long m, long n, gm_real *c, bool add) {
    const variant *v = g->v;
    for (long j = 0; j < n; j += v->nr) {
        long nr = gm_min(v->nr, n - j);
        pack(v, workspace.b, b + j * g->bcs, g->bcs, g->brs, nr, v->nr, part);
        for (long i = 0; i < m; i += v->mr) {
            const gm_real *a = workspace.a + i * part;
            gm_real *tile = c + i * g->ldc + j;
            long mr = gm_min(v->mr, m - i);
            if (g->far && j + v->nr < n)
                ask_for(g, b + (j + v->nr) * g->bcs, part,
                        gm_min(v->nr, n - j - v->nr), i / v->mr,
                        parts(m, v->mr));
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
            pack(v, workspace.a + i * part + k * v->mr,
                 a + i * g->ars + k * g->acs, g->ars, g->acs,
                 gm_min(v->mr, m - i), v->mr, gm_min(step, part - k));
}

/* Block t of C, all of k. */
static void gemm_block(const gemm_job *g, long t) {
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
    const long want = threads == 1 ? 1 : 4 * threads;
    while (parts(g->m, g->rows) * parts(g->n, g->columns) < want) {
        if (g->rows > g->columns && g->rows > 8 * v->mr)
            g->rows = even_part(g->rows, (g->rows + 1) / 2, v->mr);
        else if (g->columns > 4 * v->nr)
            g->columns = even_part(g->columns, (g->columns + 1) / 2, v->nr);
        else
            break;
    }
    g->blocks = parts(g->n, g->columns);
}

void gm_gemm(long m, long n, long k, const gm_real *a, long ars, long acs,
             const gm_real *b, long brs, long bcs, gm_real *c, long ldc,
             bool add) {
    if (m < 1 || n < 1) return;
    gemm_job g = {.v = now(), .m = m, .n = n, .k = k,
                  .part = even_part(k, PART, 8), .a = a, .b = b, .ars = ars,
                  .acs = acs, .brs = brs, .bcs = bcs, .ldc = ldc, .c = c,
                  .add = add, .far = n > (1 << 17) / k};
    /* below some 100 us, starting threads costs more than they save */
    bool small = (double)m * (double)n * (double)k < 1e7;
    const int threads = small ? 1 : gm_threads();
    choose_blocks(&g, threads);
    const long all = parts(m, g.rows) * g.blocks;
#pragma omp parallel for schedule(dynamic) num_threads(threads) \
    if (threads > 1 && all > 1)
    for (long t = 0; t < all; t++) gemm_block(&g, t);
}

/* --------------------------------------------------------- rows, dispatched */

double gm_dot(long n, const gm_real *x, const gm_real *y) {
    return now()->dot(n, x, y);
}

double gm_sum(long n, const gm_real *x) { return now()->dot(n, x, NULL); }

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

/* x^0 / first! + x^1 / (first + step)! + ... + x^n / last! */
INLINE double series(double x, int first, int step, int last) {
    static const double over[20] = {        /* 1 / k! */
        1, 1, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040,
        1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800,
        1.0 / 479001600, 1.0 / 6227020800, 1.0 / 87178291200,
        1.0 / 1307674368000, 1.0 / 20922789888000, 1.0 / 355687428096000,
        1.0 / 6402373705728000, 1.0 / 121645100408832000};
    double p = over[last];
    for (int k = last - step; k >= first; k -= step) p = fma(p, x, over[k]);
    return p;
}

/* Added and taken off again, rounds |x| < 2^51 to an integer. */
#define ROUND 0x1.8p52

/* e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln(2)/2, Taylor to r^13
   (r^14/14! < 2^-57).  2^n in two factors: n = 1024 and denormal results.
   Error < 1.5: the last fma 1, the one before it 0.35, r at most 0.1. */
double gm_expd(double x) {
    if (!(x > -746 && x < 710))
        return x >= 710 ? (double)INFINITY : x <= -746 ? 0 : x;
    double n = fma(x, 0x1.71547652b82fep0, ROUND) - ROUND;
    double r = fma(n, -0x1.62e42fefa39efp-1, x);
    r = fma(n, -0x1.abc9e3b39803fp-56, r);
    int64_t e = (int64_t)n, half = e / 2;
    return series(r, 0, 1, 13) * from_bits((uint64_t)(half + 1023) << 52) *
           from_bits((uint64_t)(e - half + 1023) << 52);
}

/* ln x = e ln 2 + ln m, sqrt(1/2) <= m < sqrt 2.  With f = m - 1, s = f/(2+f),
   z = s^2 <= 0.0295:  ln m = 2 atanh s = 2s + s z (2/3 + 2z/5 + ...), to z^11
   (the next term is below 2^-60), and since 2s = f - s f, in an order that
   rounds only small terms:  ln m = f - (f^2/2 - s (f^2/2 + z (...))).
   Error < 1.5. */
double gm_logd(double x) {
    if (!(x > 0 && x < (double)INFINITY))
        return x == 0 ? -(double)INFINITY : x > 0 ? x : (double)NAN;
    const bool denormal = x < 0x1p-1022;
    if (denormal) x *= 0x1p54;
    int64_t e = (int64_t)(to_bits(x) - to_bits(0x1.6a09e667f3bcdp-1)) >> 52;
    double m = from_bits(to_bits(x) - ((uint64_t)e << 52));
    if (denormal) e -= 54;
    double f = m - 1, s = f / (m + 1), z = s * s, half = f * f / 2;
    double p = 2.0 / 25;
    for (int k = 23; k >= 3; k -= 2) p = fma(p, z, 2.0 / k);
    double tail = s * (half + z * p);
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
    double n = fma(x, 0x1.45f306dc9c883p-1, ROUND) - ROUND;
    double r = fma(n, -0x1.921fb54442d18p0, x);
    r = fma(n, -0x1.1a62633145c07p-54, r);
    r = fma(n, 0x1.f1976b7ed8fbcp-110, r);
    double z = r * r, half = z / 2, most = 1 - half;
    double s = fma(-r * z, series(-z, 3, 2, 19), r);
    double c = most + fma(z * z, series(-z, 4, 2, 18), (1 - most) - half);
    int quarter = (int)((int64_t)n & 3);
    *sine = quarter & 1 ? c : s;
    *cosine = quarter & 1 ? s : c;
    if (quarter & 2) *sine = -*sine;
    if (quarter == 1 || quarter == 2) *cosine = -*cosine;
}


/* ------------------------------------------- Gram matrices and Cholesky

   All in double.  Every element is one chain of additions in the order of the
   textbook's three loops; tests/test_gptq.c compares with those loops for
   equality.  A block of BLOCK x BLOCK elements stands in the workspace while
   the tiles above run over DEPTH k at a time. */

/* The m x n elements c[i rs + j cs] into the workspace, 0 around them. */
static void block_load(const double *c, long rs, long cs, long m, long n) {
    memset(blocks.c, 0, sizeof blocks.c);
    for (long i = 0; i < m; i++)
        for (long j = 0; j < n; j++)
            blocks.c[i * BLOCK + j] = c[i * rs + j * cs];
}

static void block_store(double *c, long rs, long cs, long m, long n) {
    for (long i = 0; i < m; i++)
        for (long j = 0; j < n; j++)
            c[i * rs + j * cs] = blocks.c[i * BLOCK + j];
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

/* Workspace -= A B^T, k in order:  A[i][k] = a[i n + k], i < m, k < depth;
   B[j][k] = b[j rs + k ks], j < columns. */
static void block_subtract(long n, const double *a, long m, const double *b,
                           long rs, long ks, long columns, long depth) {
    for (long k = 0; k < depth; k += DEPTH) {
        long part = gm_min(DEPTH, depth - k);
        block_pack(blocks.a, a + k, n, 1, m, part, TALL, -1);
        block_pack(blocks.b, b + k * ks, rs, ks, columns, part, WIDE, 1);
        now()->block(part);
    }
}

/* X in place of C in the workspace: L X = C, L [m, m] in rows of n. */
static void block_solve(long n, const double *L, long m) {
    for (long k = 0; k < m; k++) {
        double *c = blocks.c + k * BLOCK;
        for (long j = 0; j < BLOCK; j++) c[j] /= L[k * n + k];
        for (long i = k + 1; i < m; i++) {
            const double l = L[i * n + k];
            for (long j = 0; j < BLOCK; j++)
                blocks.c[i * BLOCK + j] -= l * c[j];
        }
    }
}

/* to = panels of `width` columns of x [.., n], from column `first`; row t
   times its squared weight if `weight`.  `width` is a constant in each use. */
INLINE void gram_panels(long n, const gm_real *x, const double *weight,
                        long depth, long first, const int width, double *to) {
    for (long p = first; p < first + BLOCK; p += width)
        for (long t = 0; t < depth; t++, to += width) {
            const double w = weight ? weight[t] * weight[t] : 1;
            const gm_real *from = x + t * n + p;
            if (p + width <= n)
                for (int i = 0; i < width; i++) to[i] = w * (double)from[i];
            else
                for (int i = 0; i < width; i++)
                    to[i] = p + i < n ? w * (double)from[i] : 0;
        }
}

void gm_gram(long rows, long n, const gm_real *x, const double *weight,
             double *H) {
#pragma omp parallel for collapse(2) schedule(dynamic) \
    num_threads(gm_threads())
    for (long i = 0; i < n; i += BLOCK)
        for (long j = 0; j < n; j += BLOCK) {
            if (j > i) continue;
            const long m = gm_min(BLOCK, n - i), columns = gm_min(BLOCK, n - j);
            block_load(H + i * n + j, n, 1, m, columns);
            for (long t = 0; t < rows; t += DEPTH) {
                const long depth = gm_min(DEPTH, rows - t);
                gram_panels(n, x + t * n, weight + t, depth, i, TALL, blocks.a);
                gram_panels(n, x + t * n, NULL, depth, j, WIDE, blocks.b);
                now()->block(depth);
            }
            block_store(H + i * n + j, n, 1, m, columns);
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
        memset(c + k * BLOCK + k + 1, 0, (size_t)(BLOCK - k - 1) * sizeof *c);
    }
    return true;
}

/* Block column j: what the columns before it contribute is subtracted; then
   its diagonal block D is factored, and for the blocks C below, which stand
   transposed in the workspace, D X = C^T. */
bool gm_cholesky(long n, double *A) {
    for (long j = 0; j < n; j += BLOCK) {
        const long m = gm_min(BLOCK, n - j);
        double *row = A + j * n, *D = row + j;
        block_load(D, n, 1, m, m);
        block_subtract(n, row, m, row, n, 1, m, j);
        if (!cholesky_diagonal(m)) return false;
        block_store(D, n, 1, m, m);
#pragma omp parallel for schedule(dynamic) num_threads(gm_threads())
        for (long i = j + BLOCK; i < n; i += BLOCK) {
            const long rows = gm_min(BLOCK, n - i);
            block_load(A + i * n + j, 1, n, m, rows);
            block_subtract(n, row, m, A + i * n, n, 1, rows, j);
            block_solve(n, D, m);
            block_store(A + i * n + j, 1, n, m, rows);
        }
        for (long i = 0; i < m; i++)
            memset(D + i * n + m, 0, (size_t)(n - j - m) * sizeof *A);
    }
    return true;
}

/* Block column j of X, block row after block row; those above the diagonal
   are 0. */
void gm_lower_inverse(long n, const double *L, double *X) {
#pragma omp parallel for schedule(dynamic) num_threads(gm_threads())
    for (long j = 0; j < n; j += BLOCK)
        for (long i = 0; i < n; i += BLOCK) {
            const long m = gm_min(BLOCK, n - i), columns = gm_min(BLOCK, n - j);
            memset(blocks.c, 0, sizeof blocks.c);
            for (long k = 0; i == j && k < m; k++) blocks.c[k * BLOCK + k] = 1;
            block_subtract(n, L + i * n + j, m, X + j * n + j, 1, n, columns,
                           i - j);
            if (i >= j) block_solve(n, L + i * n + i, m);
            block_store(X + i * n + j, n, 1, m, columns);
        }
}
