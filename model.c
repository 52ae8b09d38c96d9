/* model.c: Llama, Qwen2 and Qwen3, forward and backward.

   In reading order: rotary angles; each operation with its backward pass right
   below it; the block as a list of those operations, forwards and backwards;
   the output head.  Follows the definition in the `transformers` library,
   which the golden vectors of tests/test_model.c come from.  Uses kernels.c
   for every heavy loop and touches nothing but what it is handed.

   Letters: R = S T rows of activations, hd head_dim, Hq and Hkv query and
   key/value heads.  All matrices are row-major; a linear module maps
   x [R, in] to x W^T [R, out].
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <string.h>

/* ---------------------------------------------------------- rotary angles */

/* Inverse frequencies f_i, i < hd/2, in the float32 arithmetic of
   transformers: at position 2000 a unit in the last place of f_1 turns the
   angle by 1e-4, so the checkpoint means these floats and no better ones. */
static float base_power(const gm_config *c, long i) {
    float exponent = (float)(2 * i) / (float)c->head_dim;
    return (float)gm_expd((double)exponent * gm_logd(c->rope.theta));
}

/* Llama 3.1: wavelengths w = 2 pi / f above original/low are slowed by the
   factor, those below original/high kept, in between s f + (1-s) f/factor,
   s = (original/w - low) / (high - low). */
static float llama3_frequency(const gm_rope *r, float f) {
    const float two_pi = (float)6.283185307179586;
    float factor = (float)r->factor, low = (float)r->low_freq_factor;
    double length = (double)r->original_max_position;
    float w = 1.0f / f * two_pi;
    if (w > (float)(length / r->low_freq_factor)) return f / factor;
    if (w < (float)(length / r->high_freq_factor)) return f;
    float s = (1.0f / w * (float)length - low) /
              (float)(r->high_freq_factor - r->low_freq_factor);
    return (1.0f - s) * f / factor + s * f;
}

/* YaRN's correction: the (real) index i at which angles make `rotations` turns
   within the original context. */
static double yarn_index(const gm_config *c, double rotations) {
    double length = (double)c->rope.original_max_position;
    return (double)c->head_dim *
           gm_logd(length / (rotations * 6.283185307179586)) /
           (2 * gm_logd(c->rope.theta));
}

/* YaRN (Peng et al. 2023): f for the fast angles, f/factor for the slow ones,
   and a linear ramp over i between the two indices. */
static float yarn_frequency(const gm_config *c, long i) {
    const gm_rope *r = &c->rope;
    double low = yarn_index(c, r->beta_fast);
    double high = yarn_index(c, r->beta_slow);
    if (r->truncate) low = floor(low), high = ceil(high);
    low = low > 0 ? low : 0;
    high = high < (double)(c->head_dim - 1) ? high : (double)(c->head_dim - 1);
    if (high - low == 0) high += 0.001;
    float ramp = ((float)i - (float)low) / (float)(high - low);
    float keep = 1.0f - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);
    float power = base_power(c, i);
    return 1.0f / ((float)r->factor * power) * (1.0f - keep) +
           1.0f / power * keep;
}

static float inverse_frequency(const gm_config *c, long i) {
    switch (c->rope.kind) {
    case GM_ROPE_LINEAR:
        return 1.0f / base_power(c, i) / (float)c->rope.factor;
    case GM_ROPE_LLAMA3:
        return llama3_frequency(&c->rope, 1.0f / base_power(c, i));
    case GM_ROPE_YARN: return yarn_frequency(c, i);
    case GM_ROPE_DEFAULT: break;
    }
    return 1.0f / base_power(c, i);
}

void gm_rope_angles(const gm_config *c, long T, const int32_t *position,
                    gm_real *cos, gm_real *sin) {
    const long half = c->head_dim / 2;
    for (long i = 0; i < half; i++) {
        float f = inverse_frequency(c, i);
        for (long t = 0; t < T; t++) {
            float angle = (float)(position ? position[t] : t) * f;
            double sine, cosine;
            gm_sincosd((double)angle, &sine, &cosine);
            cos[t * half + i] = (gm_real)(cosine * c->rope.attention_factor);
            sin[t * half + i] = (gm_real)(sine * c->rope.attention_factor);
        }
    }
}

/* ------------------------------------------------------------- operations */

/* Work items of row operations: ROWS rows each, enough to be worth a thread's
   while.  Item i is rows i ROWS .. last(i, rows) - 1. */
enum { ROWS = 16 };

static long items(long rows) { return (rows + ROWS - 1) / ROWS; }

static long last(long i, long rows) {
    return (i + 1) * ROWS < rows ? (i + 1) * ROWS : rows;
}

/* RMS norm: y_ri = w_i x_ri s_r,   s_r = 1 / sqrt(mean_i x_ri^2 + eps)
   x, y [rows, n], w [n]. */
struct norm {
    long rows, n;
    double eps;
    const gm_real *x, *w;
    gm_real *y, *dy, *dx, *dw;
};

static gm_real norm_scale(const struct norm *a, const gm_real *x) {
    return (gm_real)(1 / sqrt(gm_dot(a->n, x, x) / (double)a->n + a->eps));
}

static void norm_rows(void *context, long item) {
    const struct norm *a = context;
    for (long r = item * ROWS; r < last(item, a->rows); r++) {
        const gm_real *x = a->x + r * a->n;
        gm_real *y = a->y + r * a->n, s = norm_scale(a, x);
        for (long i = 0; i < a->n; i++) y[i] = a->w[i] * (x[i] * s);
    }
}

static void norm_forward(double eps, long rows, long n, const gm_real *x,
                         const gm_real *w, gm_real *y) {
    struct norm a = {.rows = rows, .n = n, .eps = eps, .x = x, .w = w, .y = y};
    gm_parallel(items(rows), norm_rows, &a);
}

/* out_i += sum_r a_ri, in double, in r order; a [rows, n]. */
struct columns { long rows, n; const gm_real *a; gm_real *out; };

static void column_sums(void *context, long item) {
    const struct columns *c = context;
    long first = item * ROWS, end = last(item, c->n);
    double sum[ROWS] = {0};
    for (long r = 0; r < c->rows; r++)
        for (long i = first; i < end; i++)
            sum[i - first] += (double)c->a[r * c->n + i];
    for (long i = first; i < end; i++)
        c->out[i] += (gm_real)sum[i - first];
}

static void add_columns(long rows, long n, const gm_real *a, gm_real *out) {
    struct columns c = {rows, n, a, out};
    gm_parallel(items(n), column_sums, &c);
}

/* With g = w dy:   dx_i += s g_i - x_i s^3 (sum_j g_j x_j) / n,
                    dw_i += sum_r dy_ri x_ri s_r.
   dx or dw may be NULL.  Asked for dw, dy is left holding dy x s. */
static void norm_row_dx(const struct norm *a, const gm_real *x,
                        const gm_real *dy, gm_real *dx) {
    gm_real g[256], s = norm_scale(a, x);
    double sum = 0;
    for (long first = 0; first < a->n; first += 256) {
        long count = a->n - first < 256 ? a->n - first : 256;
        for (long i = 0; i < count; i++)
            g[i] = a->w[first + i] * dy[first + i];
        sum += gm_dot(count, g, x + first);
    }
    gm_real t = (gm_real)(sum / (double)a->n) * s * s * s;
    for (long i = 0; i < a->n; i++) dx[i] += s * (a->w[i] * dy[i]) - t * x[i];
}

static void norm_rows_backward(void *context, long item) {
    const struct norm *a = context;
    for (long r = item * ROWS; r < last(item, a->rows); r++) {
        const gm_real *x = a->x + r * a->n;
        gm_real *dy = a->dy + r * a->n;
        if (a->dx) norm_row_dx(a, x, dy, a->dx + r * a->n);
        if (!a->dw) continue;
        gm_real s = norm_scale(a, x);
        for (long i = 0; i < a->n; i++) dy[i] *= x[i] * s;
    }
}

static void norm_backward(double eps, long rows, long n, const gm_real *x,
                          const gm_real *w, gm_real *dy, gm_real *dx,
                          gm_real *dw) {
    struct norm a = {rows, n, eps, x, w, NULL, dy, dx, dw};
    gm_parallel(items(rows), norm_rows_backward, &a);
    if (dw) add_columns(rows, n, dy, dw);
}

/* Linear: Y = X W^T + 1 b^T, or Y += that when `add`;
   X [R, in], W [out, in], b [out] or NULL, Y [R, out]. */
struct bias { long rows, n; const gm_real *b; gm_real *y; };

static void bias_rows(void *context, long item) {
    const struct bias *a = context;
    for (long r = item * ROWS; r < last(item, a->rows); r++)
        for (long i = 0; i < a->n; i++) a->y[r * a->n + i] += a->b[i];
}

static void linear_forward(const gm_config *c, const gm_block *block, int j,
                           long R, const gm_real *x, gm_real *y, bool add) {
    long out, in;
    gm_linear_shape(c, j, &out, &in);
    gm_gemm(R, out, in, x, in, 1, block->w[j], 1, in, y, out, add);
    struct bias a = {R, out, block->bias[j], y};
    if (a.b) gm_parallel(items(R), bias_rows, &a);
}

/* dW += dY^T X,   db += dY^T 1,   dX = dY W, or dX += that when `add`.
   dX NULL: not wanted. */
static void linear_backward(const gm_config *c, const gm_block *block, int j,
                            long R, const gm_real *x, const gm_real *dy,
                            const gm_block *grad, gm_real *dx, bool add) {
    long out, in;
    gm_linear_shape(c, j, &out, &in);
    if (grad->w[j])
        gm_gemm(out, in, R, dy, 1, out, x, in, 1, grad->w[j], in, true);
    if (grad->bias[j]) add_columns(R, out, dy, grad->bias[j]);
    if (dx)
        gm_gemm(R, in, out, dy, out, 1, block->w[j], in, 1, dx, in, add);
}

/* Rotary embedding, half-split: the pair (x_i, x_{i+hd/2}) of each head is
   turned by the angle phi_ti of its row's position t = r mod T:
     (x_i, x_{i+hd/2}) <- (x_i cos - x_{i+hd/2} sin, x_{i+hd/2} cos + x_i sin)
   in place; x [R, heads hd].  The gradient is turned back: sign = -1. */
struct turn {
    const gm_acts *a;
    long heads, half;
    gm_real sign, *x;
};

static void turn_rows(void *context, long item) {
    const struct turn *a = context;
    const long half = a->half, T = a->a->T;
    for (long r = item * ROWS; r < last(item, a->a->S * T); r++) {
        const gm_real *cos_ = a->a->cos + r % T * half;
        const gm_real *sin_ = a->a->sin + r % T * half;
        for (long head = 0; head < a->heads; head++) {
            gm_real *x = a->x + (r * a->heads + head) * 2 * half;
            for (long i = 0; i < half; i++) {
                gm_real u = x[i], v = x[i + half], s = a->sign * sin_[i];
                x[i] = u * cos_[i] - v * s;
                x[i + half] = v * cos_[i] + u * s;
            }
        }
    }
}

static void rotate(const gm_acts *acts, long heads, gm_real sign, gm_real *x) {
    struct turn a = {acts, heads, acts->config->head_dim / 2, sign, x};
    gm_parallel(items(acts->S * acts->T), turn_rows, &a);
}

/* Causal attention of one query head h with its key/value head h Hkv / Hq:
     s_tj = q_t . k_j / sqrt(hd)  for j <= t,   lse_t = log sum_j exp s_tj,
     P_tj = exp(s_tj - lse_t),    o_t = sum_j P_tj v_j
   Worked in tiles of TILE query rows against all columns a tile can see, so a
   thread needs TILE T scores.  The sum over j runs in parts of SPAN columns
   added in order; a masked column adds an exact 0, so no result depends on
   TILE, on T, or on what comes later in the sequence. */
enum { TILE = 64, SPAN = 384 };

struct attention {
    const gm_config *c;
    const gm_acts *a;
    long T, tiles, q_row, kv_row;   /* q_row: elements in a row of q, attn */
    gm_real scale;                  /* 1 / sqrt(hd) */
};

static struct attention attention_of(const gm_config *c, const gm_acts *a) {
    return (struct attention){
        c, a, a->T, (a->T + TILE - 1) / TILE, c->heads * c->head_dim,
        c->kv_heads * c->head_dim,
        (gm_real)(1 / sqrt((double)c->head_dim))
    };
}

/* The first of two TILE x T workspaces of the calling thread. */
static gm_real *attention_scratch(const struct attention *x) {
    return x->a->scratch + gm_thread() * 2 * TILE * x->a->room;
}

/* Turns the first n = t + 1 raw products of a row into exp(s - max s), zeroes
   the rest up to `width`, gives the sum and the log-sum-exp. */
static double softmax_row(gm_real *s, long n, long width, gm_real scale,
                          gm_real *lse) {
    gm_real top = scale * gm_largest(n, s);
    for (long j = 0; j < n; j++) s[j] = s[j] * scale - top;
    gm_exp(n, s, s);
    memset(s + n, 0, (size_t)(width - n) * sizeof *s);
    double sum = gm_sum(n, s);
    *lse = (gm_real)((double)top + gm_logd(sum));
    return sum;
}

/* One tile of one head of one sequence. */
static void attention_tile(void *context, long item) {
    const struct attention *x = context;
    const long T = x->T, hd = x->c->head_dim, heads = x->c->heads;
    long first = item % x->tiles * TILE, end = first + TILE;
    long head = item / x->tiles % heads, s = item / x->tiles / heads;
    if (end > T) end = T;
    long row = s * T + first, kv = head / (heads / x->c->kv_heads) * hd;
    const gm_real *q = x->a->q + row * x->q_row + head * hd;
    const gm_real *k = x->a->k + s * T * x->kv_row + kv;
    const gm_real *v = x->a->v + s * T * x->kv_row + kv;
    gm_real *o = x->a->attn + row * x->q_row + head * hd;
    gm_real *lse = x->a->lse + row * heads + head;
    gm_real *P = attention_scratch(x);
    double sum[TILE];
    gm_gemm(end - first, end, hd, q, x->q_row, 1, k, 1, x->kv_row, P, T,
            false);
    for (long t = first; t < end; t++)
        sum[t - first] = softmax_row(P + (t - first) * T, t + 1, end,
                                     x->scale, lse + (t - first) * heads);
    for (long j = 0; j < end; j += SPAN)
        gm_gemm(end - first, hd, end - j < SPAN ? end - j : SPAN, P + j, T, 1,
                v + j * x->kv_row, x->kv_row, 1, o, x->q_row, j > 0);
    for (long t = 0; t < end - first; t++)
        for (long i = 0; i < hd; i++)
            /* first < end.  NOLINTNEXTLINE(clang-analyzer-*) */
            o[t * x->q_row + i] *= (gm_real)(1 / sum[t]);
}

static void attention_forward(const gm_config *c, const gm_acts *a) {
    struct attention x = attention_of(c, a);
    gm_parallel(a->S * c->heads * x.tiles, attention_tile, &x);
}

/* What positions receive in one sequence:
     mass_j = 1/heads sum_h sum_{t >= j} P_tj
   A row of P sums to 1, so the mean of mass over a sequence is 1. */
struct received { struct attention x; double *mass; };

static void mass_of_tile(const struct received *r, long s, long head,
                         long first) {
    const struct attention *x = &r->x;
    const long T = x->T, hd = x->c->head_dim, heads = x->c->heads;
    const long end = first + TILE < T ? first + TILE : T;
    const gm_real *q = x->a->q + (s * T + first) * x->q_row + head * hd;
    const gm_real *k = x->a->k + s * T * x->kv_row +
                       head / (heads / x->c->kv_heads) * hd;
    gm_real *P = attention_scratch(x), lse;
    gm_gemm(end - first, end, hd, q, x->q_row, 1, k, 1, x->kv_row, P, T,
            false);
    for (long t = first; t < end; t++) {
        gm_real *row = P + (t - first) * T;
        double sum = softmax_row(row, t + 1, end, x->scale, &lse);
        for (long j = 0; j <= t; j++)
            r->mass[s * T + j] += (double)row[j] / (sum * (double)heads);
    }
}

static void mass_of_sequence(void *context, long s) {
    const struct received *r = context;
    memset(r->mass + s * r->x.T, 0, (size_t)r->x.T * sizeof *r->mass);
    for (long head = 0; head < r->x.c->heads; head++)
        for (long t = 0; t < r->x.T; t += TILE) mass_of_tile(r, s, head, t);
}

void gm_attention_mass(const gm_acts *a, double *mass) {
    struct received r = {attention_of(a->config, a), mass};
    gm_parallel(a->S, mass_of_sequence, &r);
}

/* With D_t = do_t . o_t (= sum_j P_tj dP_tj):
     dv_j += sum_t P_tj do_t,   dP_tj = do_t . v_j,
     ds_tj = P_tj (dP_tj - D_t) / sqrt(hd),
     dq_t = sum_j ds_tj k_j,    dk_j += sum_t ds_tj q_t
   Turns raw products into P and dP into ds for one row of n = t + 1 columns;
   columns from n up to `width` become 0. */
static void softmax_row_backward(gm_real *s, gm_real *dP, long n, long width,
                                 gm_real scale, gm_real lse, gm_real D) {
    for (long j = 0; j < n; j++) s[j] = s[j] * scale - lse;
    gm_exp(n, s, s);
    for (long j = 0; j < n; j++) dP[j] = s[j] * (dP[j] - D) * scale;
    memset(s + n, 0, (size_t)(width - n) * sizeof *s);
    memset(dP + n, 0, (size_t)(width - n) * sizeof *dP);
}

/* Query rows first..end-1 of sequence s, query head `head`. */
static void attention_tile_backward(const struct attention *x, long s,
                                    long head, long first, long end) {
    const gm_acts *a = x->a;
    const long T = x->T, hd = x->c->head_dim, heads = x->c->heads;
    const long q_row = x->q_row, kv_row = x->kv_row, rows = end - first;
    long at = (s * T + first) * q_row + head * hd;
    long kv = s * T * kv_row + head / (heads / x->c->kv_heads) * hd;
    const gm_real *q = a->q + at, *o = a->attn + at, *d_o = a->d_attn + at;
    const gm_real *lse = a->lse + (s * T + first) * heads + head;
    gm_real *P = attention_scratch(x), *dP = P + TILE * a->room;
    gm_gemm(rows, end, hd, q, q_row, 1, a->k + kv, 1, kv_row, P, T, false);
    gm_gemm(rows, end, hd, d_o, q_row, 1, a->v + kv, 1, kv_row, dP, T, false);
    for (long t = 0; t < rows; t++) {
        double D = gm_dot(hd, d_o + t * q_row, o + t * q_row);
        softmax_row_backward(P + t * T, dP + t * T, first + t + 1, end,
                             x->scale, lse[t * heads], (gm_real)D);
    }
    gm_gemm(end, hd, rows, P, 1, T, d_o, q_row, 1, a->d_v + kv, kv_row, true);
    gm_gemm(rows, hd, end, dP, T, 1, a->k + kv, kv_row, 1, a->d_q + at,
            q_row, false);
    gm_gemm(end, hd, rows, dP, 1, T, q, q_row, 1, a->d_k + kv, kv_row, true);
}

/* One key/value head of one sequence with all query heads that share it, in
   head order: nobody else adds to its dk and dv. */
static void attention_head_backward(void *context, long item) {
    const struct attention *x = context;
    long kv = item % x->c->kv_heads, s = item / x->c->kv_heads;
    long group = x->c->heads / x->c->kv_heads;
    for (long head = kv * group; head < (kv + 1) * group; head++)
        for (long t = 0; t < x->T; t += TILE)
            attention_tile_backward(x, s, head, t,
                                    t + TILE < x->T ? t + TILE : x->T);
}

static void attention_backward(const gm_config *c, const gm_acts *a) {
    struct attention x = attention_of(c, a);
    size_t bytes = (size_t)(a->S * a->T * x.kv_row) * sizeof(gm_real);
    memset(a->d_k, 0, bytes);
    memset(a->d_v, 0, bytes);
    gm_parallel(a->S * c->kv_heads, attention_head_backward, &x);
}

/* SwiGLU: act = silu(gate) up,   silu(g) = g sigma(g) = g / (1 + exp(-g));
   all [rows, n]. */
struct swiglu {
    long rows, n;
    const gm_real *gate, *up, *d_act;
    gm_real *act, *d_gate, *d_up;
};

static void swiglu_rows(void *context, long item) {
    const struct swiglu *a = context;
    long first = item * ROWS * a->n, end = last(item, a->rows) * a->n;
    gm_real *e = a->act;                            /* exp(-gate), then act */
    for (long i = first; i < end; i++) e[i] = -a->gate[i];
    gm_exp(end - first, e + first, e + first);
    for (long i = first; i < end; i++)
        a->act[i] = a->gate[i] / (1 + e[i]) * a->up[i];
}

static void swiglu_forward(long rows, long n, const gm_real *gate,
                           const gm_real *up, gm_real *act) {
    struct swiglu a = {.rows = rows, .n = n, .gate = gate, .up = up,
                       .act = act};
    gm_parallel(items(rows), swiglu_rows, &a);
}

/* d_gate = d_act up sigma (1 + gate (1 - sigma)),   d_up = d_act silu(gate) */
static void swiglu_rows_backward(void *context, long item) {
    const struct swiglu *a = context;
    long first = item * ROWS * a->n, end = last(item, a->rows) * a->n;
    gm_real *e = a->d_gate;                         /* exp(-gate) at first */
    for (long i = first; i < end; i++) e[i] = -a->gate[i];
    gm_exp(end - first, e + first, e + first);
    for (long i = first; i < end; i++) {
        gm_real g = a->gate[i], sigma = 1 / (1 + e[i]);
        a->d_up[i] = a->d_act[i] * (g * sigma);
        a->d_gate[i] = a->d_act[i] * a->up[i] *
                       (sigma * (1 + g * (1 - sigma)));
    }
}

static void swiglu_backward(long rows, long n, const gm_real *gate,
                            const gm_real *up, const gm_real *d_act,
                            gm_real *d_gate, gm_real *d_up) {
    struct swiglu a = {rows, n, gate, up, d_act, NULL, d_gate, d_up};
    gm_parallel(items(rows), swiglu_rows_backward, &a);
}

static void copy(gm_real *to, const gm_real *from, long count) {
    memcpy(to, from, (size_t)count * sizeof *to);
}

/* ------------------------------------------------------------------ block */

void gm_acts_alloc(gm_arena *arena, const gm_config *c, long S, long T,
                        bool backward, gm_acts *out) {
    gm_acts *a = out;
    const long q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    *a = (gm_acts){.config = c, .S = S, .T = T, .room = T, .threads = gm_threads()};
    const struct { gm_real **place; long n; bool wanted; } row[] = {
        {&a->x1, c->d, true}, {&a->q, q, true}, {&a->k, kv, true},
        {&a->v, kv, true}, {&a->q_raw, q, c->qk_norm},
        {&a->k_raw, kv, c->qk_norm}, {&a->attn, q, true},
        {&a->lse, c->heads, true}, {&a->mid, c->d, true},
        {&a->x2, c->d, true}, {&a->gate, c->ff, true},
        {&a->up, c->ff, true}, {&a->act, c->ff, true},
        {&a->d_x1, c->d, backward}, {&a->d_q, q, backward},
        {&a->d_k, kv, backward}, {&a->d_v, kv, backward},
        {&a->d_attn, q, backward}, {&a->d_mid, c->d, backward},
        {&a->d_x2, c->d, backward}, {&a->d_gate, c->ff, backward},
        {&a->d_up, c->ff, backward}, {&a->d_act, c->ff, backward},
    };
    if (S < 1 || T < 1 || S > LONG_MAX / T)
        gm_fail(GM_EMEM, "out of memory");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        if (!row[i].wanted) continue;
        *row[i].place = gm_alloc(arena, (size_t)(S * T),
                                 (size_t)row[i].n * sizeof(gm_real));
    }
    a->scratch = gm_alloc(arena, (size_t)T, (size_t)a->threads * 2 * TILE *
                                            sizeof(gm_real));
    a->cos = gm_alloc(arena, (size_t)T, (size_t)c->head_dim * sizeof(gm_real));
    a->sin = a->cos + T * c->head_dim / 2;
    if (!arena->dry) gm_rope_angles(c, T, NULL, a->cos, a->sin);
}

void gm_block_inputs(gm_acts *a, const gm_block *b, const gm_real *h,
                     int last_input) {
    const gm_config *c = a->config;
    const long R = a->S * a->T, hd = c->head_dim;
    gm_real *q = c->qk_norm ? a->q_raw : a->q;
    gm_real *k = c->qk_norm ? a->k_raw : a->k;
    assert(a->T <= a->room && gm_threads() <= a->threads);
    /* mid = h + o(attention(norm1(h))) */
    norm_forward(c->norm_eps, R, c->d, h, b->norm1, a->x1);
    if (last_input == 0) return;
    linear_forward(c, b, GM_Q, R, a->x1, q, false);
    linear_forward(c, b, GM_K, R, a->x1, k, false);
    linear_forward(c, b, GM_V, R, a->x1, a->v, false);
    if (c->qk_norm) {
        norm_forward(c->norm_eps, R * c->heads, hd, q, b->q_norm, a->q);
        norm_forward(c->norm_eps, R * c->kv_heads, hd, k, b->k_norm, a->k);
    }
    rotate(a, c->heads, 1, a->q);
    rotate(a, c->kv_heads, 1, a->k);
    attention_forward(c, a);
    if (last_input == 1) return;
    copy(a->mid, h, R * c->d);
    linear_forward(c, b, GM_O, R, a->attn, a->mid, true);
    /* y = mid + down(swiglu(norm2(mid))), but for down */
    norm_forward(c->norm_eps, R, c->d, a->mid, b->norm2, a->x2);
    if (last_input == 2) return;
    linear_forward(c, b, GM_GATE, R, a->x2, a->gate, false);
    linear_forward(c, b, GM_UP, R, a->x2, a->up, false);
    swiglu_forward(R, c->ff, a->gate, a->up, a->act);
}

void gm_block_forward(gm_acts *a, const gm_block *b, const gm_real *h,
                      gm_real *y) {
    const gm_config *c = a->config;
    const long R = a->S * a->T;
    gm_block_inputs(a, b, h, 3);
    copy(y, a->mid, R * c->d);
    linear_forward(c, b, GM_DOWN, R, a->act, y, true);
}

/* From dE/dq and dE/dk after norm and rotation to dE/dq, dE/dk as q_proj and
   k_proj gave them, in place. */
static void qk_backward(const gm_acts *a, const gm_block *b,
                        const gm_block *grad) {
    const gm_config *c = a->config;
    const long R = a->S * a->T, hd = c->head_dim;
    const long q = R * c->heads, k = R * c->kv_heads;
    rotate(a, c->heads, -1, a->d_q);
    rotate(a, c->kv_heads, -1, a->d_k);
    if (!c->qk_norm) return;
    gm_real *room = a->d_attn;              /* no longer needed by now */
    memset(room, 0, (size_t)(q * hd) * sizeof *room);
    norm_backward(c->norm_eps, q, hd, a->q_raw, b->q_norm, a->d_q, room,
                  grad->q_norm);
    copy(a->d_q, room, q * hd);
    memset(room, 0, (size_t)(k * hd) * sizeof *room);
    norm_backward(c->norm_eps, k, hd, a->k_raw, b->k_norm, a->d_k, room,
                  grad->k_norm);
    copy(a->d_k, room, k * hd);
}

void gm_block_backward(gm_acts *a, const gm_block *b, const gm_real *h,
                       const gm_real *d_y, gm_block *grad, gm_real *d_h) {
    const gm_config *c = a->config;
    const long R = a->S * a->T;
    gm_real *d_x1 = d_h || grad->norm1 ? a->d_x1 : NULL;
    assert(a->T <= a->room && gm_threads() <= a->threads);
    /* y = mid + down(swiglu(norm2(mid))) */
    copy(a->d_mid, d_y, R * c->d);
    linear_backward(c, b, GM_DOWN, R, a->act, d_y, grad, a->d_act, false);
    swiglu_backward(R, c->ff, a->gate, a->up, a->d_act, a->d_gate, a->d_up);
    linear_backward(c, b, GM_UP, R, a->x2, a->d_up, grad, a->d_x2, false);
    linear_backward(c, b, GM_GATE, R, a->x2, a->d_gate, grad, a->d_x2, true);
    norm_backward(c->norm_eps, R, c->d, a->mid, b->norm2, a->d_x2, a->d_mid,
                  grad->norm2);
    /* mid = h + o(attention(norm1(h))) */
    linear_backward(c, b, GM_O, R, a->attn, a->d_mid, grad, a->d_attn, false);
    attention_backward(c, a);
    qk_backward(a, b, grad);
    linear_backward(c, b, GM_V, R, a->x1, a->d_v, grad, d_x1, false);
    linear_backward(c, b, GM_K, R, a->x1, a->d_k, grad, d_x1, true);
    linear_backward(c, b, GM_Q, R, a->x1, a->d_q, grad, d_x1, true);
    if (d_h)
        for (long i = 0; i < R * c->d; i++) d_h[i] += a->d_mid[i];
    if (d_x1)
        norm_backward(c->norm_eps, R, c->d, h, b->norm1, d_x1, d_h,
                      grad->norm1);
}

/* ------------------------------------------------------- states before a block */

void gm_states_before(const gm_model *model, long first,
                      const gm_sequences *text, gm_block *block,
                      gm_acts *acts, gm_real *h) {
    const long most = acts->S, row = text->T * model->config.d;
    gm_embed(model, text->tokens, text->S * text->T, h);
    for (long l = 0; l < first; l++) {
        gm_block_load(model, l, block);
        for (long q = 0; q < text->S; q += most) {
            acts->S = gm_min(text->S - q, most);
            gm_block_forward(acts, block, h + q * row, h + q * row);
        }
    }
    acts->S = most;
}

/* ------------------------------------------------------------- output head */

/* logits = norm(h) W^T */
void gm_head_forward(const gm_head *head, const gm_real *h, long rows,
                     gm_real *scratch, gm_real *logits) {
    const long d = head->d;
    norm_forward(head->eps, rows, d, h, head->norm, scratch);
    gm_gemm(rows, head->vocab, d, scratch, d, 1, head->w, 1, d, logits,
            head->vocab, false);
}

/* d_h += of logits = norm(h) W^T */
void gm_head_backward(const gm_head *head, const gm_real *h, long rows,
                      const gm_real *d_logits, gm_real *scratch, gm_real *d_h) {
    const long d = head->d;
    gm_gemm(rows, d, head->vocab, d_logits, head->vocab, 1, head->w, d, 1,
            scratch, d, false);
    norm_backward(head->eps, rows, d, h, head->norm, scratch, d_h, NULL);
}
