/* test_gptq.c: Gram matrices, Cholesky factors and inverses against the
   textbook's loops (equal bits) and against derived error bounds; GPTQ against
   the definition of optimal brain surgeon, inverting the Hessian anew for each
   column; a golden layer from torch; the candidate file against its parts.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats/formats.h"
#include "gamma.h"
#include "test.h"
#include "vec.h"

#include <math.h>
#include <stdlib.h>

static const char gptq_vec[] = "tests/golden/gptq.vec";
static const char work[] = "build/test/gptq-work";

static long codes_seen, ties_seen;      /* against the definition, in all */

static void *room(gm_arena *a, long n, size_t size) {
    void *p = gm_alloc(a, (size_t)n, size);
    if (!p) exit(test_end("test_gptq"));
    return p;
}

static double uniform(uint64_t stream, long i) {
    return gm_uniform(77, stream, (uint64_t)i) - 0.5;
}

/* No dead column is -1, every second one EVEN. */
enum { EVEN = -2 };

static bool is_dead(long dead, long i) {
    return i == dead || (dead == EVEN && i % 2 == 0);
}

/* Inputs [T, n] as a model's: neighbours correlated, columns of unequal size;
   dead ones are 0. */
static gm_real *inputs(gm_arena *a, long T, long n, long dead) {
    gm_real *x = room(a, T * n, sizeof *x);
    for (long t = 0; t < T; t++) {
        double last = 0;
        for (long i = 0; i < n; i++) {
            last = 0.6 * last + uniform(1, t * n + i);
            x[t * n + i] = (gm_real)(last * (double)(1 + i % 5));
            if (is_dead(dead, i)) x[t * n + i] = 0;
        }
    }
    return x;
}

/* --------------------------------------------------- the double kernels */

static double *gram_by_hand(gm_arena *a, long T, long n, const gm_real *x,
                            const double *w) {
    double *H = room(a, n * n, sizeof *H);
    for (long i = 0; i < n; i++)
        for (long j = 0; j <= i; j++)
            for (long t = 0; t < T; t++)
                H[i * n + j] += w[t] * w[t] * (double)x[t * n + i] *
                                (double)x[t * n + j];
    return H;
}

static bool cholesky_by_hand(long n, double *A) {
    for (long i = 0; i < n; i++)
        for (long j = 0; j <= i; j++) {
            double s = A[i * n + j];
            for (long k = 0; k < j; k++) s -= A[i * n + k] * A[j * n + k];
            if (i == j && !(s > 0)) return false;
            A[i * n + j] = i == j ? sqrt(s) : s / A[j * n + j];
        }
    return true;
}

static void inverse_by_hand(long n, const double *L, double *X) {
    for (long j = 0; j < n; j++)
        for (long i = j; i < n; i++) {
            double s = i == j;
            for (long k = j; k < i; k++) s -= L[i * n + k] * X[k * n + j];
            X[i * n + j] = s / L[i * n + i];
        }
}

/* Bits differ anywhere in the lower triangle. */
static long differing(long n, const double *a, const double *b) {
    long wrong = 0;
    for (long i = 0; i < n; i++)
        for (long j = 0; j <= i; j++) wrong += a[i * n + j] != b[i * n + j];
    return wrong;
}

/* Higham, Accuracy and Stability (2nd ed.): |A - L L^T| <= g |L| |L|^T with
   g = gamma_{n+1} (theorem 10.3), |L X - 1| <= gamma_n |L| |X| (8.5), where
   gamma_n = n u / (1 - n u), u = 2^-53.  The largest ratio to those bounds;
   sums here are in long double, so theirs is negligible. */
static double factor_error(long n, const double *A, const double *L,
                           const double *X) {
    double worst = 0, u = 0x1p-53;
    double g = (double)(n + 1) * u / (1 - (double)(n + 1) * u);
    for (long i = 0; i < n; i++)
        for (long j = 0; j <= i; j++) {
            long double s = 0, size = 0, one = i == j, many = 0;
            for (long k = 0; k <= j; k++) {
                s += (long double)L[i * n + k] * L[j * n + k];
                size += fabsl((long double)L[i * n + k] * L[j * n + k]);
            }
            for (long k = j; k <= i; k++) {
                one -= (long double)L[i * n + k] * X[k * n + j];
                many += fabsl((long double)L[i * n + k] * X[k * n + j]);
            }
            worst = fmax(worst, (double)fabsl(A[i * n + j] - s) /
                                    (g * (double)size));
            worst = fmax(worst, (double)fabsl(one) / (g * (double)many));
        }
    return worst;
}

static void kernels_equal_textbook(long n) {
    gm_arena a = {0};
    long T = n + 140;
    gm_real *x = inputs(&a, T, n, -1);
    double *w = room(&a, T, sizeof *w);
    for (long t = 0; t < T; t++) w[t] = 0.6 + uniform(2, t);
    double *H = room(&a, n * n, sizeof *H), *A = room(&a, n * n, sizeof *A);
    double *X = room(&a, n * n, sizeof *X), *Y = room(&a, n * n, sizeof *Y);
    double *expected = gram_by_hand(&a, T, n, x, w);
    /* in two batches: the chain of sums goes on */
    gm_gram(100, n, x, w, H);
    gm_gram(T - 100, n, x + 100 * n, w + 100, H);
    CHECK(differing(n, H, expected) == 0, "n %ld: %ld elements of the Gram "
          "matrix differ", n, differing(n, H, expected));
    memcpy(A, H, (size_t)(n * n) * sizeof *A);
    CHECK(gm_cholesky(n, A) && cholesky_by_hand(n, expected), "n %ld", n);
    CHECK(differing(n, A, expected) == 0, "n %ld: %ld elements of L differ", n,
          differing(n, A, expected));
    gm_lower_inverse(n, A, X);
    inverse_by_hand(n, A, Y);
    CHECK(differing(n, X, Y) == 0, "n %ld: %ld elements of L^-1 differ", n,
          differing(n, X, Y));
    long above = 0;
    for (long i = 0; i < n; i++)
        for (long j = i + 1; j < n; j++)
            above += A[i * n + j] != 0 || X[i * n + j] != 0;
    CHECK(above == 0, "n %ld: %ld elements above the diagonal", n, above);
    double worst = factor_error(n, H, A, X);
    CHECK(worst <= 1, "n %ld: error %g times its bound", n, worst);
    gm_arena_free(&a);
}

/* A pivot that is 0, negative, infinite or NaN is refused, wherever it is. */
static void bad_pivots(void) {
    enum { N = 130 };
    static double A[N * N];
    const double bad[] = {0, -1, HUGE_VAL, (double)NAN};
    for (size_t b = 0; b < 4; b++)
        for (long at = 0; at < N; at += 43) {
            memset(A, 0, sizeof A);
            for (long i = 0; i < N; i++) A[i * N + i] = i == at ? bad[b] : 4;
            CHECK(!gm_cholesky(N, A), "pivot %g at %ld was taken", bad[b], at);
        }
    A[0] = 4;
    CHECK(gm_cholesky(1, A) && A[0] == 2, "1 x 1");
}

/* ------------------------------------------------- GPTQ by its definition */

/* inv[k, k] = the inverse of M[k, k] (positive definite), Gauss-Jordan. */
static void invert(long k, double *M, double *inv) {
    for (long i = 0; i < k * k; i++) inv[i] = i % (k + 1) == 0;
    for (long p = 0; p < k; p++) {
        double d = M[p * k + p];
        for (long j = 0; j < k; j++) M[p * k + j] /= d, inv[p * k + j] /= d;
        for (long i = 0; i < k; i++) {
            double f = M[i * k + p];
            if (i == p || f == 0) continue;
            for (long j = 0; j < k; j++) {
                M[i * k + j] -= f * M[p * k + j];
                inv[i * k + j] -= f * inv[p * k + j];
            }
        }
    }
}

typedef struct {
    long out, in, group, groups;
    int bits;
    gm_scales rule;
    const long *order;              /* NULL: left to right */
    double *w, *bound, *sum;        /* [out, in] by column; see follow() */
    int *code, *zero;               /* as gm_gptq gave them */
    double *scale;
    long ties, grid_ties;
    double expected;                /* number of ties */
    long wrong, searched;           /* searched: grids much better than r = 1 */
} oracle;

static int read_code(const uint8_t *stream, long j, int bits) {
    int code = 0;
    for (int i = 0; i < bits; i++) {
        long at = j * bits + i;
        code |= (stream[at / 8] >> (at % 8) & 1) << i;
    }
    return code;
}

static const double u = 0x1p-24;    /* float's rounding unit */

/* x in the type of biases, less x. */
static double bias_shift(gm_scales rule, double x) {
    const float f = (float)x;
    if (!(rule & GM_BIAS)) return 0;
    return (double)(rule & GM_BF16_SCALE ? gm_bf16_to_f32(gm_f32_to_bf16(f))
                                         : gm_f16_to_f32(gm_f32_to_f16(f))) - x;
}

/* sum_j (w_j - q_j)^2 of group g of row i on a grid, and by how much it may
   be off: |d sum| <= 2 |e| |bound| + |bound|^2, Cauchy and Schwarz. */
static double squares(const oracle *o, long i, long g, double scale, int zero,
                      double *off) {
    double sum = 0, bounds = 0, top = ldexp(1, o->bits) - 1;
    double shift = bias_shift(o->rule, scale * zero);
    for (long j = g * o->group; j < (g + 1) * o->group && j < o->in; j++) {
        double w = o->w[i * o->in + j], bound = o->bound[i * o->in + j];
        double code = fmin(fmax(rint((w + shift) / scale) + zero, 0), top);
        double e = w - (code - zero) * scale + shift;
        /* e itself is rounded by 3 units, relative to w */
        bound += 3 * u * fabs(w);
        sum += e * e, bounds += bound * bound;
    }
    *off = 2 * sqrt(sum * bounds) + bounds;
    return sum;
}

/* The grid of group g of row i from the oracle's weights as they are now.
   gm_gptq's range may be off by twice the largest bound in the group, and one
   rounding; its fp16 scale by half a unit more (2^-11, or 2^-25 below fp16's
   normal numbers).  From then on gm_gptq's grid is used.  A searched grid is
   such a grid of one of the 80 shrunk ranges, and none of them is better. */
static void follow_grid(oracle *o, long i, long g) {
    double lo = 0, hi = 0, bound = 0, top = ldexp(1, o->bits) - 1;
    double scale = o->scale[i * o->groups + g], off, off_r, best = 0;
    int zero = o->zero[i * o->groups + g];
    const bool symmetric = o->rule & GM_SYMMETRIC, mse = o->rule & GM_MSE;
    const bool bf16 = o->rule & GM_BF16_SCALE;
    const double unit = bf16 ? 0x1p-8 : 0x1p-11;
    bool found = false;
    for (long j = g * o->group; j < (g + 1) * o->group && j < o->in; j++) {
        lo = fmin(lo, o->w[i * o->in + j]), hi = fmax(hi, o->w[i * o->in + j]);
        bound = fmax(bound, o->bound[i * o->in + j]);
    }
    if (symmetric) hi = fmax(hi, -lo), lo = -hi;
    double error = squares(o, i, g, scale, zero, &off);
    for (int r = 100; r > (mse ? 20 : 99); r--) {
        double raw = (hi - lo) * r / 100 / top;
        double near = 2 * bound / top + 5 * u * raw;
        if (raw < 0x1p-25) raw = scale == 1 ? 1 : raw;
        double half = bf16
            ? (double)gm_bf16_to_f32(gm_f32_to_bf16((float)raw))
            : (double)gm_f16_to_f32(gm_f32_to_f16((float)raw));
        double z = fmin(-lo * r / 100 / scale, top);
        bool same = fabs(scale - raw) <= fmax(raw * unit, 0x1p-25) + near &&
                    (symmetric ? zero == (int)(top + 1) / 2
                     : fabs(z - zero) <= 0.5 + bound / scale + 5 * u * z);
        if (same && !found) o->grid_ties += scale != half;
        found = found || same;
        int its = symmetric ? (int)(top + 1) / 2
                            : (int)rint(fmin(-lo * r / 100 / half, top));
        double e = squares(o, i, g, half, its, &off_r);
        if (mse) o->wrong += e + off_r < error - off;
        best = r == 100 ? e : best;
    }
    o->wrong += !found;
    if (mse) o->searched += error < 0.9 * best;
}

/* Column j of row i is rounded.  Where gm_gptq's code is another one, the
   oracle's weight must be within its error bound of the boundary between the
   two: a tie.  Gives w_j - q_j of gm_gptq's code. */
static double follow_code(oracle *o, long i, long j) {
    long g = i * o->groups + j / o->group;
    double s = o->scale[g], top = ldexp(1, o->bits) - 1;
    double shift = bias_shift(o->rule, s * o->zero[g]);
    double x = (o->w[i * o->in + j] + shift) / s;
    double code = fmin(fmax(rint(x) + o->zero[g], 0), top);
    double found = o->code[i * o->in + j];
    double near = o->bound[i * o->in + j] / s + 2 * u * fabs(x);
    o->expected += fmin(1, 2 * near);
    if (code != found) {
        double boundary = (code + found) / 2 - o->zero[g];
        if (fabs(code - found) == 1 && fabs(x - boundary) <= near) o->ties++;
        else o->wrong++;
    }
    return o->w[i * o->in + j] - (found - o->zero[g]) * s + shift;
}

/* One column of all rows, c-th to be rounded; row[t] = U_ct, t in rounding
   order.  `bound` runs along (u: rounding unit):
     of e = (w - q) / U_jj:  (bound_j + u |q| + u |w - q|) / U_jj + 2 u |e|
     of w_t after -= e U_jt: + that |U_jt| + 2 u |e U_jt|
                             + u (|w_t| + sum of all |e U_jt| so far)
   with q's rounding, the difference's, the quotient's, U's two, the product's
   and that of the sums, which gm_gemm takes in another order. */
static void follow(oracle *o, long c, const double *row) {
    long j = o->order ? o->order[c] : c;
    for (long i = 0; i < o->out; i++) {
        if (!o->order && j % o->group == 0) follow_grid(o, i, j / o->group);
        double *w = o->w + i * o->in, *bound = o->bound + i * o->in;
        double lost = follow_code(o, i, j), e = lost / row[c];
        double off = (bound[j] + u * (fabs(w[j] - lost) + fabs(lost))) /
                         row[c] + 2 * u * fabs(e);
        for (long t = c + 1; t < o->in; t++) {
            long k = o->order ? o->order[t] : t;
            double move = e * row[t];
            o->sum[i * o->in + k] += fabs(move);
            bound[k] += off * fabs(row[t]) + 2 * u * fabs(move) +
                        u * (fabs(w[k]) + o->sum[i * o->in + k]);
            w[k] -= move;
        }
    }
}

/* Optimal brain surgeon: with F the columns not yet rounded, j the first of
   them and V = (H_FF)^-1,   w_F -= (w_j - q_j) / V_jj V_jF
   (Hassibi, Stork 1993; Frantar, Alistarh 2022).  V anew for each column. */
static void surgeon(gm_arena *a, oracle *o, const double *H) {
    long n = o->in;
    double *M = room(a, n * n, sizeof *M), *V = room(a, n * n, sizeof *V);
    double *row = room(a, n, sizeof *row);
    for (long g = 0; o->order && g < o->groups; g++)
        for (long i = 0; i < o->out; i++) follow_grid(o, i, g);
    for (long c = 0; c < n; c++) {
        long k = n - c;
        for (long i = 0; i < k; i++)
            for (long j = 0; j < k; j++) {
                long p = o->order ? o->order[c + i] : c + i;
                long q = o->order ? o->order[c + j] : c + j;
                M[i * k + j] = H[p > q ? p * n + q : q * n + p];
            }
        invert(k, M, V);
        for (long t = 0; t < k; t++) row[c + t] = V[t] / sqrt(V[0]);
        follow(o, c, row);
    }
}

/* H as it is used: damped; dead columns apart. */
static void damp(long n, double *H, double damping) {
    double sum = 0, live = 0;
    for (long j = 0; j < n; j++)
        sum += H[j * n + j], live += H[j * n + j] != 0;
    for (long j = 0; j < n; j++)
        H[j * n + j] = H[j * n + j] == 0 ? 1
                     : H[j * n + j] + damping * sum / live;
}

typedef struct { uint8_t *codes, *zeros; uint16_t *scales; } made;

static made make_room(gm_arena *a, long out, long in, int bits, long group) {
    gm_parts p = gm_packed_parts(out, in, bits, group);
    return (made){room(a, p.codes, 1), room(a, p.zeros, 1),
                  room(a, p.scales, 1)};
}

static gm_packed packed_of(made m, long out, long in, int bits, long group) {
    return (gm_packed){bits, out, in, group, m.codes, (uint8_t *)m.scales,
                       m.zeros, NULL, 0};
}

/* sum_i (w_i - q_i) H (w_i - q_i)^T */
static double output_error(gm_arena *a, const gm_real *w, const gm_packed *p,
                           const double *H) {
    gm_real *q = room(a, p->out * p->in, sizeof *q);
    CHECK(STATUS(gm_dequantize(p, q)) == GM_OK, "dequantize");
    double sum = 0;
    long n = p->in;
    for (long i = 0; i < p->out; i++)
        for (long j = 0; j < n; j++)
            for (long k = 0; k < n; k++)
                sum += (double)(w[i * n + j] - q[i * n + j]) *
                       H[j > k ? j * n + k : k * n + j] *
                       (double)(w[i * n + k] - q[i * n + k]);
    return sum;
}

static void take(oracle *o, const made *m) {
    gm_parts row = gm_packed_parts(1, o->in, o->bits, o->group);
    for (long i = 0; i < o->out; i++) {
        for (long j = 0; j < o->in; j++)
            o->code[i * o->in + j] =
                read_code(m->codes + i * row.codes, j, o->bits);
        for (long g = 0; g < o->groups; g++) {
            o->zero[i * o->groups + g] =
                read_code(m->zeros + i * row.zeros, g, o->bits);
            o->scale[i * o->groups + g] =
                (double)gm_f16_to_f32(m->scales[i * o->groups + g]);
        }
    }
}

static void gptq_equals_surgeon(long out, long in, int bits, long group,
                                long dead, bool act_order, gm_scales rule) {
    gm_arena a = {0};
    /* many tokens: the bounds grow like prod_j (1 + sum_t |U_jt| / U_jj), which
       chance correlations of few tokens would blow up */
    long T = 16 * in;
    gm_real *x = inputs(&a, T, in, dead), *w = room(&a, out * in, sizeof *w);
    double *weight = room(&a, T, sizeof *weight);
    double *H = room(&a, in * in, sizeof *H);
    double *damped = room(&a, in * in, sizeof *H);
    /* a dead column's weight would spoil the grid of its group */
    for (long i = 0; i < out * in; i++)
        w[i] = is_dead(dead, i % in) ? 1 : (gm_real)(uniform(3, i) * 0.1);
    for (long t = 0; t < T; t++) weight[t] = 1;
    gm_gram(T, in, x, weight, H);
    memcpy(damped, H, (size_t)(in * in) * sizeof *H);
    damp(in, damped, 0.01);
    gm_factor f;
    made m = make_room(&a, out, in, bits, group);
    made r = make_room(&a, out, in, bits, group);
    gm_packed mine = packed_of(m, out, in, bits, group);
    gm_packed rtn = packed_of(r, out, in, bits, group);
    gm_status s = STATUS(gm_gptq_factor(&a, in, H, 0.01, act_order, &f));
    if (!s) s = STATUS(gm_quantize(&a, w, rule, &f, &mine));
    CHECK(s == GM_OK, "%s", err.text);
    if (s) return gm_arena_free(&a);
    long groups = (in + group - 1) / group;
    oracle o = {.out = out, .in = in, .group = group, .groups = groups,
                .bits = bits, .order = f.order, .rule = rule,
                .w = room(&a, out * in, sizeof(double)),
                .bound = room(&a, out * in, sizeof(double)),
                .sum = room(&a, out * in, sizeof(double)),
                .code = room(&a, out * in, sizeof(int)),
                .zero = room(&a, out * groups, sizeof(int)),
                .scale = room(&a, out * groups, sizeof(double))};
    for (long i = 0; i < out * in; i++)
        o.w[i] = is_dead(dead, i % in) ? 0 : (double)w[i];
    take(&o, &m);
    for (long j = 1; act_order && j < in; j++)
        o.wrong += H[f.order[j] * (in + 1)] > H[f.order[j - 1] * (in + 1)];
    surgeon(&a, &o, damped);
    CHECK(o.wrong == 0, "%ld x %ld, %d bits, group %ld, dead %ld, act-order "
          "%d, rule %d: %ld codes or grids differ", out, in, bits, group, dead,
          act_order, (int)rule, o.wrong);
    CHECK(!(rule & GM_MSE) || o.searched > 0, "no grid was worth its search");
    /* ties come as often as weights fall within their bounds of a boundary */
    codes_seen += out * in, ties_seen += o.ties + o.grid_ties;
    CHECK((double)o.ties <= 1 + 5 * o.expected, "%ld ties, expected %g",
          o.ties, o.expected);
    CHECK(o.expected < 0.01 * (double)(out * in), "bounds too wide to tell: "
          "%g ties expected", o.expected);
    gm_quantize(&a, w, rule, NULL, &rtn);
    double e = output_error(&a, w, &mine, H), e0 = output_error(&a, w, &rtn, H);
    CHECK(e <= e0, "%ld x %ld, %d bits, group %ld: output error %g, RTN's %g",
          out, in, bits, group, e, e0);
    gm_arena_free(&a);
}

/* ------------------------------------------------------ against torch */

static gm_vec record(const char *set, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s", set, what);
    return vec_read(gptq_vec, name);
}

static gm_real *reals(gm_arena *a, const char *name, long *rows, long *n) {
    gm_vec v = vec_read(gptq_vec, name);
    gm_real *x = room(a, v.count, sizeof *x);
    for (long i = 0; i < v.count; i++) x[i] = (gm_real)v.f[i];
    *rows = v.dim[0], *n = v.dim[1];
    vec_free(&v);
    return x;
}

/* Codes equal torch's (float64 all through) but for near-ties: in a row, the
   first code that differs must lie within 1e-3 steps of a boundary (float
   weights after up to 128 updates); the rest of that row then rightly goes
   other ways.  At most one row of 16 may: a code falls that close to a
   boundary with probability 0.002 times the share of that width which the
   error really is, seen to be under 0.01. */
static void golden_layer(const char *set, int bits, bool act_order,
                         bool token) {
    gm_arena a = {0};
    long R, out, in, rows_differ = 0, wrong = 0;
    gm_real *x = reals(&a, "x", &R, &in), *w = reals(&a, "w", &out, &in);
    gm_vec shape = vec_read(gptq_vec, "shape"), codes = record(set, "codes");
    gm_vec near = record(set, "near"), zeros = record(set, "zeros");
    gm_vec scales = record(set, "scales");
    long T = shape.i[1], group = shape.i[2], groups = scales.dim[1];
    double *weight = room(&a, R, sizeof *weight);
    double *H = room(&a, in * in, sizeof *H);
    for (long t = 0; t < R; t++) {
        double square = 0;
        for (long i = 0; i < in; i++)
            square += (double)x[t * in + i] * (double)x[t * in + i];
        weight[t] = token ? (t % T == 0 ? 4 : 1) / sqrt(square) : 1;
    }
    gm_gram(R, in, x, weight, H);
    for (long i = 0; i < in * in; i++) H[i] *= 2 / (double)R;
    gm_factor f;
    made m = make_room(&a, out, in, bits, group);
    gm_status s = STATUS(gm_gptq_factor(&a, in, H, 0.01, act_order, &f));
    gm_packed q = packed_of(m, out, in, bits, group);
    if (!s) s = STATUS(gm_quantize(&a, w, GM_MINMAX, &f, &q));
    CHECK(s == GM_OK, "%s: %s", set, err.text);
    gm_parts row = gm_packed_parts(1, in, bits, group);
    for (long i = 0; i < out; i++) {
        bool differs = false;
        for (long c = 0; c < in && !differs; c++) {
            long j = f.order ? f.order[c] : c, g = j / group;
            differs = read_code(m.codes + i * row.codes, j, bits) !=
                      codes.i[i * in + j];
            wrong += differs && !near.i[i * in + j];
            wrong += !differs && (m.scales[i * groups + g] !=
                         (uint16_t)scales.i[i * groups + g] ||
                     read_code(m.zeros + i * row.zeros, g, bits) !=
                         zeros.i[i * groups + g]);
        }
        rows_differ += differs;
    }
    CHECK(wrong == 0, "%s: %ld codes, scales or zeros differ from torch's",
          set, wrong);
    CHECK(rows_differ <= 1, "%s: %ld rows of %ld with a near-tie", set,
          rows_differ, out);
    vec_free(&shape), vec_free(&codes), vec_free(&near), vec_free(&zeros);
    vec_free(&scales);
    gm_arena_free(&a);
}

/* ------------------------------------------- the attention that is received */

/* mass_j by its definition, in double, from q and k as they are attended
   with: S = 2, T = 150 (three tiles, the last ragged), 4 heads on 2. */
static void mass_by_hand(void) {
    enum { S = 2, T = 150, HD = 16, HEADS = 4, KV = 2 };
    static const gm_config c = {.d = HD * HEADS, .ff = 8, .heads = HEADS,
                                .kv_heads = KV, .head_dim = HD};
    gm_arena a = {0};
    gm_acts acts;
    if (STATUS(gm_acts_alloc(&a, &c, S, T, false, &acts))) exit(1);
    double *found = room(&a, S * T, sizeof *found);
    double *mass = room(&a, S * T, sizeof *mass), largest = 0, total = 0;
    for (long i = 0; i < S * T * HEADS * HD; i++)
        acts.q[i] = (gm_real)(4 * uniform(8, i));
    for (long i = 0; i < S * T * KV * HD; i++)
        acts.k[i] = (gm_real)(4 * uniform(9, i));
    for (long t = 0; t < S * T; t++)
        for (long h = 0; h < HEADS; h++) {
            double p[T], sum = 0;
            long first = t / T * T;
            for (long j = first; j <= t; j++) {
                double s = 0, size = 0;
                for (long i = 0; i < HD; i++) {
                    double x = (double)acts.q[(t * HEADS + h) * HD + i] *
                        (double)acts.k[(j * KV + h / (HEADS / KV)) * HD + i];
                    s += x, size += fabs(x);
                }
                largest = fmax(largest, size / sqrt(HD));
                sum += p[j - first] = exp(s / sqrt(HD));
            }
            for (long j = first; j <= t; j++)
                mass[j] += p[j - first] / sum / HEADS;
        }
    gm_attention_mass(&acts, found);
    /* a score is off by (HD + 3) u of its absolute sum and, less the largest
       of its row, by u more; exp by a unit: P by twice that, numerator and
       denominator */
    double bound = 2 * ((HD + 3) * u * largest + u * largest + 2 * u);
    for (long j = 0; j < S * T; j++) {
        CHECK(fabs(found[j] - mass[j]) <= bound * mass[j], "position %ld: "
              "mass %.9g, by hand %.9g", j, found[j], mass[j]);
        total += found[j];
    }
    CHECK(fabs(total / (S * T) - 1) <= 1e-12, "mean mass %.17g", total / S / T);
    gm_arena_free(&a);
}

/* ------------------------------------------------- the file of candidates */

/* The four inputs of a block's seven modules. */
static int input_of(int j) {
    return j <= GM_V ? 0 : j == GM_O ? 1 : j <= GM_UP ? 2 : 3;
}

/* Candidate k of module j is made from the inputs in `acts`. */
static void compare_module(gm_arena *a, const gm_candidates *c, long layer,
                           int j, int k, const gm_acts *acts,
                           const gm_real *w) {
    const gm_recipe *r = &c->recipe;
    gm_mark mark = gm_arena_mark(a);
    const gm_real *input[] = {acts->x1, acts->attn, acts->x2, acts->act};
    const gm_real *x = input[input_of(j)];
    long out, in, R = acts->sequences * acts->T;
    gm_linear_shape(&c->model->config, j, &out, &in);
    double *weight = room(a, R, sizeof *weight);
    double *mass = room(a, R, sizeof *weight);
    double *H = room(a, in * in, sizeof *H);
    gm_attention_mass(acts, mass);
    for (long t = 0; t < R; t++) {
        bool attention = r->hessian == GM_ATTENTION && j <= GM_V;
        double size = attention ? sqrt(mass[t]) : t % acts->T == 0 ? 4 : 1;
        weight[t] = r->hessian == GM_PLAIN ? 1
                  : size / sqrt(gm_dot(in, x + t * in, x + t * in));
    }
    gm_gram(R, in, x, weight, H);
    for (long i = 0; i < in * in; i++) H[i] *= 2 / (double)R;
    gm_factor f;
    gm_packed found;
    made m = make_room(a, out, in, r->bits[k], r->group);
    gm_parts p = gm_packed_parts(out, in, r->bits[k], r->group);
    gm_status s = STATUS(gm_gptq_factor(a, in, H, r->damping, r->act_order, &f));
    gm_packed mine = packed_of(m, out, in, r->bits[k], r->group);
    if (!s)
        s = STATUS(gm_quantize(a, w, r->scales, &f, &mine));
    if (!s) s = STATUS(found = gm_candidate(a, c, layer, j, k));
    CHECK(!s && memcmp(found.codes, m.codes, (size_t)p.codes) == 0 &&
          memcmp(found.scales, m.scales, (size_t)p.scales) == 0 &&
          memcmp(found.zeros, m.zeros, (size_t)p.zeros) == 0,
          "block %ld, module %d, candidate %d: the file holds another", layer,
          j, k);
    gm_arena_rewind(a, mark);
}

/* Module j of `block` becomes its candidate k. */
static void put_candidate(gm_arena *a, const gm_candidates *c, long layer, int j,
                          int k, gm_block *block) {
    gm_packed q;
    CHECK(!STATUS(q = gm_candidate(a, c, layer, j, k)) &&
          !STATUS(gm_dequantize(&q, block->w[j])), "candidate");
}

/* All candidates k, walking the blocks with full forward passes over all
   sequences at once.  Not sequential: the original model's.  Sequential: all
   modules before are candidates k, those of the same block too. */
static void compare_stream(gm_arena *a, const gm_candidates *c,
                           const gm_sequences *text, int k) {
    const gm_config *config = &c->model->config;
    gm_block block, original;
    gm_acts acts;
    long R = text->sequences * text->T;
    gm_real *h = room(a, R * config->d, sizeof *h);
    gm_real *y = room(a, R * config->d, sizeof *h);
    gm_status s = STATUS(gm_embed(c->model, text->tokens, R, h));
    if (!s) s = STATUS(gm_block_alloc(a, config, &block));
    if (!s) s = STATUS(gm_block_alloc(a, config, &original));
    if (!s)
        s = STATUS(gm_acts_alloc(a, config, text->sequences, text->T, false,
                                 &acts));
    for (long l = 0; l < config->layers && !s; l++) {
        s = STATUS(gm_block_load(c->model, l, &block));
        if (!s) s = STATUS(gm_block_load(c->model, l, &original));
        for (int i = 0; i < 4; i++) {
            gm_block_forward(&acts, &block, h, y);
            for (int j = 0; j < GM_LINEARS; j++) {
                if (input_of(j) != i) continue;
                compare_module(a, c, l, j, k, &acts, original.w[j]);
                if (c->recipe.sequential) put_candidate(a, c, l, j, k, &block);
            }
        }
        gm_block_forward(&acts, &block, h, h);
    }
    CHECK(s == GM_OK, "a stream");
}

/* Six sequences: the file is made from batches of 4 and 2. */
static void file_holds_candidates(const char *dir, const char *words) {
    enum { S = 6, T = 20 };
    gm_arena a = {0};
    gm_model model;
    gm_recipe recipe;
    gm_candidates c, again;
    int32_t tokens[S * T];
    gm_status s = STATUS(gm_model_open(&a, dir, &model));
    if (!s) s = STATUS(gm_recipe_read(words, &recipe));
    for (long i = 0; i < S * T && !s; i++)
        tokens[i] = (int32_t)(gm_random(6, 0, (uint64_t)i) %
                              (uint64_t)model.config.vocab);
    gm_sequences text = {tokens, S, T};
    if (!s) s = STATUS(gm_candidates_open(&a, &model, &recipe, &text, work, NULL, &c));
    CHECK(s == GM_OK, "%s: %s", dir, err.text);
    if (s) return;
    for (int k = 0; k < recipe.count; k++) compare_stream(&a, &c, &text, k);

    /* found again by its hash, but not as what it is not */
    CHECK(STATUS(gm_candidates_find(&a, &model, &recipe, c.hash, work, &again)) == GM_OK, "%s", err.text);
    gm_candidates_close(&again);
    recipe.group = 64;
    CHECK(STATUS(gm_candidates_find(&a, &model, &recipe, c.hash, work, &again)) == GM_EINPUT, "another recipe");
    char expected[GM_RECIPE_TEXT + 400], text64[GM_RECIPE_TEXT];
    gm_recipe_text(&recipe, text64);
    snprintf(expected, sizeof expected, "%s/candidates-%.12s.safetensors: "
             "recipe: expected \"%s\", found \"%s\"", work, c.hash, text64,
             words);
    CHECK_TEXT(err.text, expected);
    /* other tokens, another file */
    recipe.group = 32;
    tokens[0] ^= 1;
    CHECK(!STATUS(gm_candidates_open(&a, &model, &recipe, &text, work, NULL, &again)) && strcmp(again.hash, c.hash) != 0,
          "the hash ignores the calibration");
    gm_candidates_close(&again);
    CHECK(STATUS(gm_candidates_open(&a, &model, &recipe, NULL, work, NULL, &again)) == GM_EUSAGE, "no calibration");
    gm_candidates_close(&c);
    gm_model_close(&model);
    gm_arena_free(&a);
}

/* Inputs that are not finite or whose factor is none in float, and inputs of
   equal size in act-order: these keep their order, so that U is that of the
   natural order. */
static void odd_hessians(void) {
    enum { N = 4 };
    gm_arena a = {0};
    gm_factor f, g;
    double H[N * N] = {0};
    for (int i = 0; i < N; i++) H[i * N + i] = 2;
    H[2 * N + 1] = 1;
    CHECK(!STATUS(gm_gptq_factor(&a, N, H, 0.01, true, &f)) &&
          !STATUS(gm_gptq_factor(&a, N, H, 0.01, false, &g)), "%s", err.text);
    for (int i = 0; i < N; i++)
        CHECK(f.order[i] == i, "equal columns: %ld at %d", f.order[i], i);
    CHECK(memcmp(f.U, g.U, sizeof(gm_real) * N * N) == 0, "another factor");
    H[2 * N + 1] = NAN;
    CHECK(STATUS(gm_gptq_factor(&a, N, H, 0.01, false, &f)) == GM_EINPUT, "NaN");
    CHECK_TEXT(err.text, "the Hessian of 4 inputs, damped by 0.01 of its mean "
               "diagonal, is not positive definite, or its inverse no float: "
               "expected finite activations, not all tiny");
    /* U_01 = -1e39; U_11 = 1e38 alone */
    const double off[] = {2e-69, 0, 4.472e-73, 1e-76};
    CHECK(STATUS(gm_gptq_factor(&a, 2, off, 1e-9, false, &f)) == GM_EINPUT &&
          strstr(err.text, "no float"), "an infinite element");
    CHECK(!STATUS(gm_gptq_factor(&a, 1, off + 3, 0.01, false, &f)), "1e38");
    CHECK(STATUS(gm_gptq_factor(&a, 1, &(double){1e78}, 1, false, &f)) ==
          GM_EINPUT, "a diagonal below the ordinary floats");
    gm_arena_free(&a);
}

/* A byte of the candidates is another, or their digest is not there: neither
   opened nor found. */
static void check_digests(gm_arena *a, gm_model *model, const gm_recipe *recipe,
                          const char *path, const char *hash) {
    const char *digest = gm_format(a, "%s/sha256-%.12s.txt", work, hash);
    const char *aside = gm_format(a, "%s.aside", digest);
    const char *begins = gm_format(a, "%s: damaged: expected SHA-256 ", path);
    gm_candidates again;
    FILE *f = fopen(path, "r+b");
    for (int damaged = 0; damaged < 2; damaged++) {
        CHECK(f && !fseek(f, -5, SEEK_END), "%s", path);
        const int byte = fgetc(f);
        fseek(f, -5, SEEK_END);
        fputc(byte ^ 4, f);
        fflush(f);
        const gm_status want = damaged ? GM_OK : GM_EINPUT;
        CHECK(STATUS(gm_candidates_open(a, model, recipe, NULL, work, NULL,
                                        &again)) == want &&
              (damaged || strstr(err.text, begins)), "%s", err.text);
        if (damaged) gm_candidates_close(&again);
        CHECK(STATUS(gm_candidates_find(a, model, recipe, hash, work,
                                        &again)) == want &&
              (damaged || strstr(err.text, begins)), "%s", err.text);
        if (damaged) gm_candidates_close(&again);
    }
    fclose(f);
    CHECK(rename(digest, aside) == 0, "%s", digest);
    CHECK(STATUS(gm_candidates_find(a, model, recipe, hash, work, &again)) ==
          GM_EINPUT, "no digest");
    CHECK_TEXT(err.text, gm_format(a, "%s: expected its SHA-256 in %s, found no "
                                   "such file; remove it and it will be made "
                                   "again", path, digest));
    CHECK(rename(aside, digest) == 0, "%s", aside);
}

/* Whatever of a candidate file does not fit the model is refused by name; its
   digest is checked where somebody asks. */
static void refusals(void) {
    gm_arena a = {0};
    gm_model model;
    gm_recipe recipe;
    gm_candidates c, found;
    gm_packed packed;
    char expected[512];
    gm_status s = STATUS(gm_model_open(&a, "tests/golden/tiny-llama", &model));
    const int stored = 8 * (int)gm_dtype_bytes(
        gm_linear_tensor(&model, 0, 0)->dtype);
    const char *bits = gm_format(&a, "2,%d", stored);
    if (!s) s = STATUS(gm_recipe_parse(bits, 0, &recipe));
    CHECK(s == GM_OK && STATUS(gm_candidates_open(&a, &model, &recipe, NULL, work,
          NULL, &c)) == GM_EUSAGE, "no group: %s", err.text);
    CHECK_TEXT(err.text, "--group: expected 1 to 512, found 0");
    recipe.group = 32;
    CHECK(!STATUS(gm_candidates_open(&a, &model, &recipe, NULL, work, NULL, &c)),
          "%s", err.text);
    /* the stored weight is a candidate without a file of its own */
    const gm_tensor *w = gm_linear_tensor(&model, 1, GM_UP);
    CHECK(!STATUS(packed = gm_candidate(&a, &c, 1, GM_UP, 1)) &&
          packed.original && packed.bits == stored &&
          gm_candidate_tensor(&c, 1, GM_UP, 1) == w, "%s", err.text);
    const char *path = c.tensors.file[0]->path;
    CHECK(STATUS(gm_candidates_find(&a, &model, &recipe, "abc", work, &found)) ==
          GM_EINPUT, "a short hash");
    CHECK_TEXT(err.text, "candidates_hash: expected 64 hexadecimal digits, "
               "found \"abc\"");
    c.recipe.bits[0] = 3;
    CHECK(STATUS(gm_candidate(&a, &c, 0, GM_Q, 0)) == GM_EINPUT, "absent");
    snprintf(expected, sizeof expected, "%s: tensor \"model.layers.0.self_attn."
             "q_proj.b3.codes\": expected 864 bytes, found 0", path);
    CHECK_TEXT(err.text, expected);
    c.recipe.bits[0] = 2, c.recipe.group = 16;
    CHECK(STATUS(gm_candidate(&a, &c, 0, GM_Q, 0)) == GM_EINPUT, "size");
    snprintf(expected, sizeof expected, "%s: tensor \"model.layers.0.self_attn."
             "q_proj.b2.scales\": expected 288 bytes, found 192", path);
    CHECK_TEXT(err.text, expected);
    gm_candidates_close(&c);
    check_digests(&a, &model, &recipe, path, c.hash);
    snprintf(expected, sizeof expected, "--bits: %d stands for the weight as "
             "stored, beside fewer bits, but model.layers.0.self_attn.q_proj."
             "weight is %s (%d bits) in %s", 48 - stored,
             gm_dtype_name(w->dtype), stored, w->path);
    recipe.bits[1] = 48 - stored, recipe.group = 32;
    CHECK(STATUS(gm_candidates_open(&a, &model, &recipe, NULL, work, NULL, &c)) ==
          GM_EUSAGE, "other stored bits");
    CHECK_TEXT(err.text, expected);
    gm_model_close(&model);
    gm_arena_free(&a);
}

static void recipe_texts(void) {
    static const char *const good[] = {
        "rtn bits=2,3,4,16 group=64", "gptq bits=2 group=1 hessian=token",
        "gptq bits=2,3 group=512 hessian=plain act-order",
        "gptq bits=1,8 group=128 hessian=token act-order damping=0.05",
        "rtn bits=2 group=64 scales=mse", "rtn bits=2 group=64 symmetric",
        "gptq bits=2 group=64 hessian=token scales=mse symmetric sequential",
        "gptq bits=2 group=64 hessian=attention sequential",
        "rtn bits=2 group=64 symmetric scale-type=bf16",
        "gptq bits=2 group=64 hessian=token scale-type=bf16 bias",
        "rtn bits=2 group=64 bias",
        ("gptq bits=1,2,3,4,5,6,7,8,16 group=512 hessian=attention act-order "
         "damping=0.0123456789 scales=mse sequential")};
    static const char *const bad[] = {
        "", "rtn", "gptq bits=2 group=0", "rtn bits=9 group=64",
        "hqq bits=2 group=64", "gptq bits=2 group=64 hessian=x",
        "gptq bits=2 group=64 order", "gptq bits=2 group=64 damping=-1",
        "rtn bits=2 group=513", "rtn bits=2 group=18446744073709551680",
        "rtn bits=2 group=64 hessian=token", "rtn bits=2 group=64 sequential",
        "gptq bits=2 group=64 scales=x", "rtn bits=2 group=64 symmetric=1",
        "rtn bits=2 group=64 scale-type=f32", "rtn bits=2 group=64 bias=1"};
    gm_recipe r;
    char text[GM_RECIPE_TEXT];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK(STATUS(gm_recipe_read(good[i], &r)) == GM_OK, "%s", good[i]);
        gm_recipe_text(&r, text);
        CHECK_TEXT(text, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(STATUS(gm_recipe_read(bad[i], &r)) != GM_OK, "\"%s\"", bad[i]);
}

/* -------------------------------------------------- same bits everywhere */

static void hash_of_all(char hex[65]) {
    enum { OUT = 40, IN = 200, T = 300, BITS = 3, GROUP = 96 };
    gm_arena a = {0};
    gm_sha sha;
    gm_real *x = inputs(&a, T, IN, 7), *w = room(&a, OUT * IN, sizeof *w);
    double *weight = room(&a, T, sizeof *weight);
    double *H = room(&a, IN * IN, sizeof *H);
    for (long i = 0; i < OUT * IN; i++) w[i] = (gm_real)uniform(4, i);
    for (long t = 0; t < T; t++) weight[t] = 1 + uniform(5, t);
    gm_gram(T, IN, x, weight, H);
    gm_sha_begin(&sha);
    gm_sha_add(&sha, H, IN * IN * sizeof *H);
    for (int act_order = 0; act_order < 2; act_order++) {
        gm_factor f;
        made m = make_room(&a, OUT, IN, BITS, GROUP);
        gm_parts p = gm_packed_parts(OUT, IN, BITS, GROUP);
        gm_packed q = packed_of(m, OUT, IN, BITS, GROUP);
        if (STATUS(gm_gptq_factor(&a, IN, H, 0.01, act_order, &f)) ||
            STATUS(gm_quantize(&a, w, GM_MINMAX, &f, &q)))
            exit(test_end("test_gptq"));
        gm_sha_add(&sha, f.U, IN * IN * sizeof *f.U);
        gm_sha_add(&sha, m.codes, (size_t)p.codes);
        gm_sha_add(&sha, m.scales, (size_t)p.scales);
        gm_sha_add(&sha, m.zeros, (size_t)p.zeros);
    }
    gm_sha_end(&sha, hex);
    gm_arena_free(&a);
}

static void same_bits(void) {
    char first[65] = "", hex[65];
    for (gm_isa isa = 0; isa <= gm_isa_best(); isa++)
        for (int threads = 1; threads <= 3; threads++) {
            gm_isa_use(isa);
            gm_threads_use(threads);
            hash_of_all(hex);
            if (!*first) memcpy(first, hex, sizeof first);
            CHECK(strcmp(first, hex) == 0, "%s, %d threads: other bits",
                  gm_isa_name(isa), threads);
        }
    gm_isa_use(gm_isa_best());
    gm_threads_use(2);
}

static int test_main(void) {
    const long size[] = {1, 5, 63, 64, 65, 130, 200};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        kernels_equal_textbook(size[i]);
    bad_pivots();
    mass_by_hand();
    gptq_equals_surgeon(20, 24, 4, 8, -1, false, GM_MINMAX);
    /* ragged, dead; groups that cut blocks */
    gptq_equals_surgeon(33, 40, 3, 16, 5, false, GM_MINMAX);
    gptq_equals_surgeon(9, 150, 2, 96, 149, false, GM_MINMAX);
    gptq_equals_surgeon(17, 140, 3, 128, -1, false, GM_MINMAX);
    gptq_equals_surgeon(16, 70, 8, 512, -1, false, GM_MINMAX);
    gptq_equals_surgeon(8, 48, 4, 32, -1, true, GM_MINMAX);
    gptq_equals_surgeon(21, 130, 3, 48, 0, true, GM_MINMAX);
    gptq_equals_surgeon(64, 40, 6, 32, EVEN, false, GM_MINMAX);
    gptq_equals_surgeon(5, 1, 4, 1, -1, false, GM_MINMAX);
    /* nothing alive */
    gptq_equals_surgeon(5, 1, 4, 1, 0, false, GM_MINMAX);
    gptq_equals_surgeon(33, 40, 2, 16, 5, false, GM_MSE);
    gptq_equals_surgeon(9, 150, 3, 96, -1, false, GM_MSE);
    gptq_equals_surgeon(21, 130, 2, 48, 0, true, GM_MSE);
    gptq_equals_surgeon(20, 24, 4, 8, -1, false, GM_SYMMETRIC);
    gptq_equals_surgeon(9, 150, 2, 96, 149, false, GM_SYMMETRIC);
    gptq_equals_surgeon(21, 130, 3, 48, 0, true, GM_SYMMETRIC);
    gptq_equals_surgeon(9, 150, 3, 96, -1, false, GM_SYMMETRIC | GM_MSE);
    gptq_equals_surgeon(21, 130, 2, 48, 0, true, GM_SYMMETRIC | GM_MSE);
    gptq_equals_surgeon(33, 40, 3, 16, 5, false, GM_BF16_SCALE | GM_BIAS);
    gptq_equals_surgeon(9, 150, 4, 96, 149, false, GM_BF16_SCALE | GM_BIAS);
    gptq_equals_surgeon(21, 130, 6, 48, 0, true, GM_BF16_SCALE | GM_BIAS);
    gptq_equals_surgeon(21, 130, 8, 48, 0, true, GM_BIAS);
    gptq_equals_surgeon(9, 150, 3, 96, -1, false,
                        GM_BF16_SCALE | GM_BIAS | GM_MSE);
    gptq_equals_surgeon(20, 24, 4, 8, -1, false, GM_BF16_SCALE | GM_SYMMETRIC);
    golden_layer("token", 3, false, true);
    golden_layer("act-order", 4, true, true);
    golden_layer("plain", 2, false, false);
    /* an old run's files would be opened, not made */
    CHECK(system("rm -rf build/test/gptq-work") == 0, "rm");
    file_holds_candidates("tests/golden/tiny-llama",
                          "gptq bits=3,4 group=32 hessian=token");
    file_holds_candidates("tests/golden/tiny-qwen3",
                          "gptq bits=3,4 group=32 hessian=attention sequential");
    file_holds_candidates("tests/golden/tiny-qwen2",
                          "gptq bits=2 group=32 hessian=plain sequential");
    file_holds_candidates("tests/golden/tiny-llama",
                          "gptq bits=2 group=32 hessian=attention act-order "
                          "damping=0.05 scales=mse");
    file_holds_candidates("tests/golden/tiny-qwen3",
                          "gptq bits=2,3 group=32 hessian=token symmetric");
    odd_hessians();
    refusals();
    recipe_texts();
    same_bits();
    printf("test_gptq: %ld ties in %ld codes and their grids\n", ties_seen,
           codes_seen);
    return test_end("test_gptq");
}

TEST_MAIN(test_main())
