/* model.c: Llama, Qwen, Mistral and Phi-3, forward and backward.

   R rows of activations: sequences of T tokens, one below the other.  hd
   head_dim; all matrices are row-major.

   (1) phi_ti = t omega_i,  i < n/2, n <= hd                   rotary angles
   (2) norm:       y = w x / rms(x),  rms(x)^2 = mean_i x_i^2 + eps
   (3) linear:     y = W x + b                       W [out, in], b may be 0
   (4) rotary:     (x_i, x_{i+n/2}) turned by phi_ti, in each head
   (5) attention:  z_tj = q_t . k_j / sqrt(hd), j <= t,  P_t = softmax(z_t),
                   o_t = sum_j P_tj v_j                        in each head
   (6) swiglu:     a = gate sigma(gate) up,  sigma(g) = 1 / (1 + exp(-g))
   (7) block:      mid = h + O(attention(q, k, v)),  q, k turned, of norm1(h)
                   y = mid + Down(swiglu(gate, up)),  of norm2(mid)
   (8) head:       logits = W norm(h)

   In this order below, each with its backward pass right after it: given
   dE/dy, written d_y, it finds dE/dx and dE/dw.  Follows the definition in the
   `transformers` library, which the golden vectors of tests/test_model.c come
   from.  Every heavy loop is in lib/kernels.c; no sum depends on the number of
   threads.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <string.h>

/* ------------------------------------------------------ (1) rotary angles */

void gm_rope_angles(const gm_config *c, long T, const int32_t *position,
                    gm_real *cos, gm_real *sin) {
    const long half = (c->head_dim - c->still) / 2;
    for (long i = 0; i < half; i++) {
        float omega = gm_rope_frequency(c, T, i);
        for (long t = 0; t < T; t++) {
            float angle = (float)(position ? position[t] : t) * omega;
            double sine, cosine;
            gm_sincosd((double)angle, &sine, &cosine);
            cos[t * half + i] = (gm_real)(cosine * c->rope.attention_factor);
            sin[t * half + i] = (gm_real)(sine * c->rope.attention_factor);
        }
    }
}

/* --------------------------------------------------------------- (2) norm */

static gm_real over_rms(double eps, long n, const gm_real *x) {
    return (gm_real)(1 / sqrt(gm_dot(n, x, x) / (double)n + eps));
}

/* x, y [rows, n], w [n]. */
static void norm_forward(double eps, long rows, long n, const gm_real *x,
                         const gm_real *w, gm_real *y) {
#pragma omp parallel for num_threads(gm_threads())
    for (long r = 0; r < rows; r++) {
        const gm_real *from = x + r * n, scale = over_rms(eps, n, from);
        for (long i = 0; i < n; i++) y[r * n + i] = w[i] * (from[i] * scale);
    }
}

/* out_i += sum_r a_ri, in double, in r order; a [rows, n]. */
static void add_columns(long rows, long n, const gm_real *a, gm_real *out) {
    enum { AT_ONCE = 16 };
#pragma omp parallel for num_threads(gm_threads())
    for (long first = 0; first < n; first += AT_ONCE) {
        const long count = gm_min(AT_ONCE, n - first);
        double sum[AT_ONCE] = {0};
        for (long r = 0; r < rows; r++)
            for (long i = 0; i < count; i++)
                sum[i] += (double)a[r * n + first + i];
        for (long i = 0; i < count; i++) out[first + i] += (gm_real)sum[i];
    }
}

/* With scale = 1/rms(x_r):
     d_x_i += scale w_i d_y_i - x_i scale^3 mean_j(w_j d_y_j x_j)
   of one row. */
static void norm_row_backward(long n, gm_real scale, const gm_real *x,
                              const gm_real *w, const gm_real *d_y,
                              gm_real *d_x) {
    gm_real part[256];
    double sum = 0;
    for (long first = 0; first < n; first += 256) {
        const long count = gm_min(256, n - first);
        for (long i = 0; i < count; i++)
            part[i] = w[first + i] * d_y[first + i];
        sum += gm_dot(count, part, x + first);
    }
    const gm_real t = (gm_real)(sum / (double)n) * scale * scale * scale;
    for (long i = 0; i < n; i++)
        d_x[i] += scale * (w[i] * d_y[i]) - t * x[i];
}

/* That, and d_w_i += sum_r d_y_ri x_ri scale_r; d_x or d_w may be NULL.  Asked
   for d_w, d_y is left holding d_y x scale. */
static void norm_backward(double eps, long rows, long n, const gm_real *x,
                          const gm_real *w, gm_real *d_y, gm_real *d_x,
                          gm_real *d_w) {
#pragma omp parallel for num_threads(gm_threads())
    for (long r = 0; r < rows; r++) {
        const gm_real *from = x + r * n, scale = over_rms(eps, n, from);
        gm_real *d = d_y + r * n;
        if (d_x) norm_row_backward(n, scale, from, w, d, d_x + r * n);
        for (long i = 0; d_w && i < n; i++) d[i] *= from[i] * scale;
    }
    if (d_w) add_columns(rows, n, d_y, d_w);
}

/* ------------------------------------------------------------- (3) linear */

/* Linear j of the block, or y += that when `add`; x [R, in], y [R, out]. */
static void linear_forward(const gm_config *c, const gm_block *block, int j,
                           long R, const gm_real *x, gm_real *y, bool add) {
    const gm_real *b = block->bias[j];
    long out, in;
    gm_linear_shape(c, j, &out, &in);
    gm_gemm(R, out, in, x, in, 1, block->w[j], 1, in, y, out, add);
    if (!b) return;
#pragma omp parallel for num_threads(gm_threads())
    for (long r = 0; r < R; r++)
        for (long i = 0; i < out; i++) y[r * out + i] += b[i];
}

/* d_W += d_Y^T X,   d_b += d_Y^T 1,   d_X = d_Y W, or d_X += that when `add`.
   d_x NULL: not wanted. */
static void linear_backward(const gm_config *c, const gm_block *block, int j,
                            long R, const gm_real *x, const gm_real *d_y,
                            const gm_block *grad, gm_real *d_x, bool add) {
    long out, in;
    gm_linear_shape(c, j, &out, &in);
    if (grad->w[j])
        gm_gemm(out, in, R, d_y, 1, out, x, in, 1, grad->w[j], in, true);
    if (grad->bias[j]) add_columns(R, out, d_y, grad->bias[j]);
    if (d_x)
        gm_gemm(R, in, out, d_y, out, 1, block->w[j], in, 1, d_x, in, add);
}

/* ------------------------------------------------------------- (4) rotary */

/* In place; x [R, heads hd], row r at position t = r mod T:
     (x_i, x_{i+n/2}) <- (x_i cos - x_{i+n/2} sin, x_{i+n/2} cos + x_i sin)
   sign = -1 turns back: the backward pass. */
static void rotate(const gm_acts *a, long heads, gm_real sign, gm_real *x) {
    const long hd = a->config->head_dim, half = (hd - a->config->still) / 2;
#pragma omp parallel for num_threads(gm_threads())
    for (long r = 0; r < a->sequences * a->T; r++) {
        const gm_real *cos_ = a->cos + r % a->T * half;
        const gm_real *sin_ = a->sin + r % a->T * half;
        for (long head = 0; head < heads; head++) {
            gm_real *low = x + (r * heads + head) * hd;
            gm_real *high = low + half;
            for (long i = 0; i < half; i++) {
                gm_real u = low[i], v = high[i], s = sign * sin_[i];
                low[i] = u * cos_[i] - v * s;
                high[i] = v * cos_[i] + u * s;
            }
        }
    }
}

/* ---------------------------------------------------------- (5) attention

   Query head i reads key/value head i Hkv / Hq of Hq and Hkv heads.  Worked in
   tiles of TILE query rows against all columns a tile can see, so a thread
   needs TILE T scores.  The sum over j runs in parts of SPAN columns added in
   order; a masked column adds an exact 0, so no result depends on TILE, on T,
   or on what comes later in the sequence. */
enum { TILE = 64, SPAN = 384 };

/* Query rows first .. end-1 of one sequence and one query head. */
typedef struct {
    long first, end, rows;
    long heads, hd, q_row, kv_row;  /* q_row: elements in a row of q, attn   */
    long q, kv, lse;            /* where these rows begin in q, k, v and lse */
    gm_real scale;              /* 1 / sqrt(hd)                              */
    gm_real *P, *dP;            /* [rows, T] of the thread's workspace       */
} tile;

/* With the products q_t . k_j in P. */
static tile tile_of(const gm_acts *a, long sequence, long head, long first) {
    const gm_config *c = a->config;
    const long hd = c->head_dim, row = sequence * a->T + first;
    tile x = {.first = first, .end = gm_min(first + TILE, a->T),
              .heads = c->heads, .hd = hd, .q_row = c->heads * hd,
              .kv_row = c->kv_heads * hd, .lse = row * c->heads + head,
              .scale = (gm_real)(1 / sqrt((double)hd))};
    x.rows = x.end - first;
    x.q = row * x.q_row + head * hd;
    x.kv = sequence * a->T * x.kv_row + head / (c->heads / c->kv_heads) * hd;
    x.P = a->scratch + gm_thread() * 2 * TILE * a->room;
    x.dP = x.P + TILE * a->room;
    gm_gemm(x.rows, x.end, hd, a->q + x.q, x.q_row, 1, a->k + x.kv, 1,
            x.kv_row, x.P, a->T, false);
    return x;
}

/* Turns the first n = t + 1 raw products z of a row into exp(z - max z), zeroes
   the rest up to x->end, gives the sum and the log-sum-exp. */
static double softmax_row(const tile *x, long n, gm_real *z, gm_real *lse) {
    const gm_real top = x->scale * gm_largest(n, z);
    for (long j = 0; j < n; j++) z[j] = z[j] * x->scale - top;
    gm_exp(n, z, z);
    memset(z + n, 0, (size_t)(x->end - n) * sizeof *z);
    const double sum = gm_sum(n, z);
    *lse = (gm_real)((double)top + gm_logd(sum));
    return sum;
}

static void attention_tile(const gm_acts *a, long sequence, long head,
                           long first) {
    const tile x = tile_of(a, sequence, head, first);
    gm_real *o = a->attn + x.q;
    double sum[TILE];
    for (long r = 0; r < x.rows; r++)
        sum[r] = softmax_row(&x, first + r + 1, x.P + r * a->T,
                             a->lse + x.lse + r * x.heads);
    for (long j = 0; j < x.end; j += SPAN)
        gm_gemm(x.rows, x.hd, gm_min(SPAN, x.end - j), x.P + j, a->T, 1,
                a->v + x.kv + j * x.kv_row, x.kv_row, 1, o, x.q_row, j > 0);
    for (long r = 0; r < x.rows; r++)
        for (long i = 0; i < x.hd; i++)
            /* rows > 0.  NOLINTNEXTLINE(clang-analyzer-*) */
            o[r * x.q_row + i] *= (gm_real)(1 / sum[r]);
}

static void attention_forward(const gm_acts *a) {
    const long heads = a->config->heads;
#pragma omp parallel for collapse(3) schedule(dynamic) \
    num_threads(gm_threads())
    for (long sequence = 0; sequence < a->sequences; sequence++)
        for (long head = 0; head < heads; head++)
            for (long first = 0; first < a->T; first += TILE)
                attention_tile(a, sequence, head, first);
}

/* mass_j = 1/heads sum_heads sum_{t >= j} P_tj of each sequence.  A row of P
   sums to 1, so the mean of mass over a sequence is 1. */
void gm_attention_mass(const gm_acts *a, double *mass) {
    const long T = a->T, heads = a->config->heads;
    memset(mass, 0, (size_t)(a->sequences * T) * sizeof *mass);
#pragma omp parallel for schedule(dynamic) num_threads(gm_threads())
    for (long sequence = 0; sequence < a->sequences; sequence++)
        for (long head = 0; head < heads; head++)
            for (long first = 0; first < T; first += TILE) {
                const tile x = tile_of(a, sequence, head, first);
                for (long t = first; t < x.end; t++) {
                    gm_real *P = x.P + (t - first) * T, lse;
                    double sum = softmax_row(&x, t + 1, P, &lse);
                    for (long j = 0; j <= t; j++)
                        mass[sequence * T + j] +=
                            (double)P[j] / (sum * (double)heads);
                }
            }
}

/* d_v_j += sum_t P_tj d_o_t,   dP_tj = d_o_t . v_j,
   d_z_tj = P_tj (dP_tj - d_o_t . o_t) / sqrt(hd)     (sum_j P_tj dP_tj is that)
   d_q_t = sum_j d_z_tj k_j,    d_k_j += sum_t d_z_tj q_t
   d_z stands in place of dP. */
static void attention_tile_backward(const gm_acts *a, long sequence, long head,
                                    long first) {
    const tile x = tile_of(a, sequence, head, first);
    const long T = a->T, hd = x.hd, q_row = x.q_row, kv_row = x.kv_row;
    const gm_real *d_o = a->d_attn + x.q;
    gm_gemm(x.rows, x.end, hd, d_o, q_row, 1, a->v + x.kv, 1, kv_row, x.dP, T,
            false);
    for (long r = 0; r < x.rows; r++) {
        gm_real *P = x.P + r * T, *dP = x.dP + r * T;
        const gm_real lse = a->lse[x.lse + r * x.heads];
        const gm_real mean = (gm_real)gm_dot(hd, d_o + r * q_row,
                                             a->attn + x.q + r * q_row);
        const long n = first + r + 1;
        for (long j = 0; j < n; j++) P[j] = P[j] * x.scale - lse;
        gm_exp(n, P, P);
        for (long j = 0; j < n; j++) dP[j] = P[j] * (dP[j] - mean) * x.scale;
        memset(P + n, 0, (size_t)(x.end - n) * sizeof *P);
        memset(dP + n, 0, (size_t)(x.end - n) * sizeof *dP);
    }
    gm_gemm(x.end, hd, x.rows, x.P, 1, T, d_o, q_row, 1, a->d_v + x.kv, kv_row,
            true);
    gm_gemm(x.rows, hd, x.end, x.dP, T, 1, a->k + x.kv, kv_row, 1,
            a->d_q + x.q, q_row, false);
    gm_gemm(x.end, hd, x.rows, x.dP, 1, T, a->q + x.q, q_row, 1, a->d_k + x.kv,
            kv_row, true);
}

/* One thread works on a key/value head of one sequence with all query heads
   that share it, in head order: nobody else adds to its d_k and d_v. */
static void attention_backward(const gm_acts *a) {
    const gm_config *c = a->config;
    const long group = c->heads / c->kv_heads;
    size_t bytes = (size_t)(a->sequences * a->T * c->kv_heads * c->head_dim) *
                   sizeof(gm_real);
    memset(a->d_k, 0, bytes);
    memset(a->d_v, 0, bytes);
#pragma omp parallel for collapse(2) schedule(dynamic) \
    num_threads(gm_threads())
    for (long sequence = 0; sequence < a->sequences; sequence++)
        for (long kv = 0; kv < c->kv_heads; kv++)
            for (long head = kv * group; head < (kv + 1) * group; head++)
                for (long first = 0; first < a->T; first += TILE)
                    attention_tile_backward(a, sequence, head, first);
}

/* ------------------------------------------------------------- (6) swiglu */

/* gate, up, act [R, n]; act holds exp(-gate) first. */
static void swiglu_forward(long R, long n, const gm_real *gate,
                           const gm_real *up, gm_real *act) {
#pragma omp parallel for num_threads(gm_threads())
    for (long r = 0; r < R; r++) {
        const gm_real *g = gate + r * n;
        gm_real *e = act + r * n;
        for (long i = 0; i < n; i++) e[i] = -g[i];
        gm_exp(n, e, e);
        for (long i = 0; i < n; i++) e[i] = g[i] / (1 + e[i]) * up[r * n + i];
    }
}

/* d_gate = d_act up sigma (1 + gate (1 - sigma)),   d_up = d_act gate sigma;
   d_gate holds exp(-gate) first. */
static void swiglu_backward(long R, long n, const gm_real *gate,
                            const gm_real *up, const gm_real *d_act,
                            gm_real *d_gate, gm_real *d_up) {
#pragma omp parallel for num_threads(gm_threads())
    for (long r = 0; r < R; r++) {
        gm_real *e = d_gate + r * n;
        for (long i = 0; i < n; i++) e[i] = -gate[r * n + i];
        gm_exp(n, e, e);
        for (long i = r * n; i < (r + 1) * n; i++) {
            const gm_real g = gate[i], sigma = 1 / (1 + d_gate[i]);
            d_up[i] = d_act[i] * (g * sigma);
            d_gate[i] = d_act[i] * up[i] * (sigma * (1 + g * (1 - sigma)));
        }
    }
}

/* -------------------------------------------------------------- (7) block */

static void copy(gm_real *to, const gm_real *from, long count) {
    memcpy(to, from, (size_t)count * sizeof *to);
}

void gm_acts_alloc(gm_arena *arena, const gm_config *c, long sequences, long T,
                   bool backward, gm_acts *a) {
    const long hd = c->head_dim, q = c->heads * hd, kv = c->kv_heads * hd;
    *a = (gm_acts){.config = c, .sequences = sequences, .T = T, .room = T,
                   .threads = gm_threads()};
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
    if (c->limit && T > c->limit)
        gm_fail(GM_EINPUT, "%s: expected sequences of at most %ld tokens, which "
                "it leaves as they are, found %ld", c->limited_by, c->limit, T);
    if (sequences < 1 || T < 1 || sequences > LONG_MAX / T)
        gm_fail(GM_EMEM, "out of memory");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        if (!row[i].wanted) continue;
        *row[i].place = gm_alloc(arena, (size_t)(sequences * T),
                                 (size_t)row[i].n * sizeof(gm_real));
    }
    a->scratch = gm_alloc(arena, (size_t)T, (size_t)a->threads * 2 * TILE *
                                            sizeof(gm_real));
    a->cos = gm_alloc(arena, (size_t)T, (size_t)hd * sizeof(gm_real));
    a->sin = a->cos + T * hd / 2;
    if (!arena->dry) gm_rope_angles(c, T, NULL, a->cos, a->sin);
}

const int gm_input_of[GM_LINEARS] = {0, 0, 0, 1, 2, 2, 3};

/* Does linear j give something else when linear `from` does?  -1: all do. */
static bool anew(int from, int j) {
    return from < 0 || j == from || gm_input_of[j] > gm_input_of[from];
}

/* q or k of x1, as attention takes them. */
static void query_forward(const gm_acts *a, const gm_block *b, int j,
                          long heads, gm_real *raw, gm_real *to) {
    const gm_config *c = a->config;
    const long R = a->sequences * a->T, hd = c->head_dim;
    linear_forward(c, b, j, R, a->x1, raw ? raw : to, false);
    if (raw)
        norm_forward(c->norm_eps, R * heads, hd, raw,
                     j == GM_Q ? b->q_norm : b->k_norm, to);
    rotate(a, heads, 1, to);
}

/* (7) from linear `from` on, as far as the inputs `last` of modules, 4: y. */
static void forward(const gm_acts *a, const gm_block *b, const gm_real *h,
                    int from, int last, gm_real *y) {
    const gm_config *c = a->config;
    const long R = a->sequences * a->T;
    assert(a->T <= a->room && gm_threads() <= a->threads);
    /* mid = h + o(attention(norm1(h))) */
    if (from < 0) norm_forward(c->norm_eps, R, c->d, h, b->norm1, a->x1);
    if (last == 0) return;
    if (anew(from, GM_Q)) query_forward(a, b, GM_Q, c->heads, a->q_raw, a->q);
    if (anew(from, GM_K))
        query_forward(a, b, GM_K, c->kv_heads, a->k_raw, a->k);
    if (anew(from, GM_V)) linear_forward(c, b, GM_V, R, a->x1, a->v, false);
    if (from < GM_O) attention_forward(a);
    if (last == 1) return;
    if (from <= GM_O) {
        copy(a->mid, h, R * c->d);
        linear_forward(c, b, GM_O, R, a->attn, a->mid, true);
        norm_forward(c->norm_eps, R, c->d, a->mid, b->norm2, a->x2);
    }
    if (last == 2) return;
    /* y = mid + down(swiglu(norm2(mid))) */
    if (anew(from, GM_GATE))
        linear_forward(c, b, GM_GATE, R, a->x2, a->gate, false);
    if (anew(from, GM_UP)) linear_forward(c, b, GM_UP, R, a->x2, a->up, false);
    if (from < GM_DOWN) swiglu_forward(R, c->ff, a->gate, a->up, a->act);
    if (!y) return;                     /* last = 3 */
    copy(y, a->mid, R * c->d);
    linear_forward(c, b, GM_DOWN, R, a->act, y, true);
}

void gm_block_inputs(gm_acts *a, const gm_block *b, const gm_real *h,
                     int last_input) {
    forward(a, b, h, -1, last_input, NULL);
}

void gm_block_forward(gm_acts *a, const gm_block *b, const gm_real *h,
                      gm_real *y) {
    forward(a, b, h, -1, 4, y);
}

/* What changes stands where the backward pass would work. */
void gm_block_swapped(const gm_acts *original, const gm_block *b, int j,
                      const gm_real *h, gm_real *y) {
    gm_acts a = *original;
    if (j == GM_Q) a.q = a.d_q;
    if (j == GM_K) a.k = a.d_k;
    if (j == GM_V) a.v = a.d_v;
    if (j < GM_O) a.attn = a.d_attn;
    if (j <= GM_O) a.mid = a.d_mid, a.x2 = a.d_x2;
    if (anew(j, GM_GATE)) a.gate = a.d_gate;
    if (anew(j, GM_UP)) a.up = a.d_up;
    if (j < GM_DOWN) a.act = a.d_act;
    forward(&a, b, h, j, 4, y);
}

/* From dE/dq and dE/dk after norm and rotation to dE/dq, dE/dk as q_proj and
   k_proj gave them, in place. */
static void qk_backward(const gm_acts *a, const gm_block *b,
                        const gm_block *grad) {
    const gm_config *c = a->config;
    const long R = a->sequences * a->T, hd = c->head_dim;
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
    const long R = a->sequences * a->T;
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
    attention_backward(a);
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

void gm_states_before(const gm_model *model, long first,
                      const gm_sequences *text, gm_block *block,
                      gm_acts *acts, gm_real *h) {
    const long most = acts->sequences, row = text->T * model->config.d;
    gm_embed(model, text->tokens, text->sequences * text->T, h);
    for (long l = 0; l < first; l++) {
        gm_block_load(model, l, block);
        for (long q = 0; q < text->sequences; q += most) {
            acts->sequences = gm_min(text->sequences - q, most);
            gm_block_forward(acts, block, h + q * row, h + q * row);
        }
    }
    acts->sequences = most;
}

/* --------------------------------------------------------- (8) output head */

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
