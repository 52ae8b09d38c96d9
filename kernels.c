/* kernels.c: matrix product, dot products, exponentials, threads.

   The only file with intrinsics or OpenMP.  It touches nothing but the memory
   it is handed and the two settings below (instruction set, threads).  Every
   result has the same bits on any machine: multiply-adds are fused where the
   code says fma and nowhere else (-ffp-contract=off), sums have one order.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <math.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* ---------------------------------------------------- threads, instructions */

static gm_isa isa_now = GM_SCALAR;
static int threads_now;         /* 0: what OpenMP would take */

gm_isa gm_isa_best(void)
{
    return GM_SCALAR;
}

bool gm_isa_use(gm_isa isa)
{
    if (isa != GM_SCALAR)
        return false;
    isa_now = isa;
    return true;
}

gm_isa gm_isa_now(void)
{
    return isa_now;
}

const char *gm_isa_name(gm_isa isa)
{
    static const char *const name[] = { "scalar", "avx2", "avx512" };
    return isa < GM_ISA_COUNT ? name[isa] : "unknown";
}

void gm_threads_use(int count)
{
    threads_now = count < 1 ? 1 : count;
}

#ifdef _OPENMP

int gm_threads(void)
{
    return threads_now ? threads_now : omp_get_max_threads();
}

int gm_thread(void)
{
    return omp_get_thread_num();
}

void gm_parallel(long n, void (*body)(void *context, long i), void *context)
{
    if (omp_in_parallel() || gm_threads() == 1 || n <= 1) {
        for (long i = 0; i < n; i++)
            body(context, i);
        return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(gm_threads())
    for (long i = 0; i < n; i++)
        body(context, i);
}

#else

int gm_threads(void)
{
    return 1;
}

int gm_thread(void)
{
    return 0;
}

void gm_parallel(long n, void (*body)(void *context, long i), void *context)
{
    for (long i = 0; i < n; i++)
        body(context, i);
}

#endif

/* --------------------------------------------------------- matrix product */

static gm_real fma_real(gm_real a, gm_real b, gm_real c)
{
#ifdef GM_DOUBLE
    return fma(a, b, c);
#else
    return fmaf(a, b, c);
#endif
}

typedef struct {
    long n, k, part, ars, acs, brs, bcs, ldc;
    const gm_real *a, *b;
    gm_real *c;
    bool add;
} gemm_job;

/* One row of C. */
static void gemm_row(void *context, long i)
{
    const gemm_job *g = context;
    for (long j = 0; j < g->n; j++) {
        gm_real sum = g->add ? g->c[i * g->ldc + j] : 0;
        for (long p = 0; p < g->k; p += g->part) {
            long end = p + g->part < g->k ? p + g->part : g->k;
            gm_real chain = 0;
            for (long k = p; k < end; k++)
                chain = fma_real(g->a[i * g->ars + k * g->acs],
                                 g->b[k * g->brs + j * g->bcs], chain);
            sum += chain;
        }
        g->c[i * g->ldc + j] = sum;
    }
}

void gm_gemm(long m, long n, long k, const gm_real *a, long ars, long acs,
             const gm_real *b, long brs, long bcs, gm_real *c, long ldc,
             bool add)
{
    long parts = (k + 383) / 384;
    long part = parts ? ((k + parts - 1) / parts + 7) / 8 * 8 : 8;
    gemm_job g = { n, k, part, ars, acs, brs, bcs, ldc, a, b, c, add };
    gm_parallel(m, gemm_row, &g);
}

/* ------------------------------------------------------------- reductions */

static double lanes_sum(const double s[8])
{
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

double gm_dot(long n, const gm_real *x, const gm_real *y)
{
    double s[8] = { 0 };
    for (long i = 0; i < n; i++)
        s[i % 8] = fma((double)x[i], (double)y[i], s[i % 8]);
    return lanes_sum(s);
}

double gm_sum(long n, const gm_real *x)
{
    double s[8] = { 0 };
    for (long i = 0; i < n; i++)
        s[i % 8] += (double)x[i];
    return lanes_sum(s);
}

/* ------------------------------------------------- exponential, logarithm */

static double from_bits(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static uint64_t to_bits(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

/* x rounded to an integer of magnitude below 2^51: adding 1.5 * 2^52 leaves
   the integer in the low bits of the sum. */
static const double round_magic = 0x1.8p52;

/* e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln 2 / 2; Taylor to r^13. */
double gm_expd(double x)
{
    static const double inverse_factorial[] = {
        1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
        1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
        1.0 / 24, 1.0 / 6, 0.5, 1, 1
    };
    if (!(x > -746 && x < 710))
        return x >= 710 ? (double)INFINITY : x <= -746 ? 0 : x;
    double shifted = fma(x, 0x1.71547652b82fep0, round_magic);
    double n = shifted - round_magic;
    double r = fma(n, -0x1.62e42fefa39efp-1, x);
    r = fma(n, -0x1.abc9e3b39803fp-56, r);
    double p = inverse_factorial[0];
    for (int i = 1; i < 14; i++)
        p = fma(p, r, inverse_factorial[i]);
    int64_t e = (int64_t)n, half = e / 2;
    return p * from_bits((uint64_t)(half + 1023) << 52)
             * from_bits((uint64_t)(e - half + 1023) << 52);
}

void gm_exp(long n, const gm_real *x, gm_real *y)
{
    for (long i = 0; i < n; i++)
        y[i] = x[i] < (gm_real)-87.3 ? 0
             : x[i] > (gm_real)88.7 ? (gm_real)INFINITY
             : (gm_real)gm_expd((double)x[i]);
}

/* ln x = e ln 2 + ln m, m in [sqrt 1/2, sqrt 2), s = (m-1)/(m+1),
   ln m = 2 (s + s^3/3 + s^5/5 + ...). */
double gm_logd(double x)
{
    if (!(x > 0 && x < (double)INFINITY))
        return x == 0 ? -(double)INFINITY : x > 0 ? x : (double)NAN;
    int64_t e = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        e = -54;
    }
    uint64_t shifted = to_bits(x) - to_bits(0x1.6a09e667f3bcdp-1);
    e += (int64_t)shifted >> 52;
    double m = from_bits(to_bits(x) - (shifted & 0xfff0000000000000));
    double f = m - 1, s = f / (m + 1), z = s * s, half = f * f / 2;
    double p = 0;
    for (int i = 25; i >= 3; i -= 2)
        p = fma(p, z, 2.0 / i);
    p *= z;
    double tail = fma((double)e, 0x1.abc9e3b39803fp-56, s * (half + p));
    return fma((double)e, 0x1.62e42fefa39efp-1, f - (half - tail));
}

/* x = n pi/2 + r, |r| <= pi/4, pi/2 as the sum of three doubles. */
void gm_sincosd(double x, double *sine, double *cosine)
{
    double n = fma(x, 0x1.45f306dc9c883p-1, round_magic) - round_magic;
    double r = fma(n, -0x1.921fb54442d18p0, x);
    r = fma(n, -0x1.1a62633145c07p-54, r);
    double z = r * r, s = 0, c = 0;
    for (int i = 19; i >= 3; i -= 2)
        s = fma(s, -z / ((i + 2) * (i + 1)), 1);
    s = fma(-s * z / 6, r, r);
    for (int i = 18; i >= 0; i -= 2)
        c = fma(c, -z / ((i + 2) * (i + 1)), 1);
    int64_t quarter = (int64_t)n & 3;
    *sine = quarter & 1 ? c : s;
    *cosine = quarter & 1 ? s : c;
    if (quarter & 2)
        *sine = -*sine;
    if (quarter == 1 || quarter == 2)
        *cosine = -*cosine;
}
