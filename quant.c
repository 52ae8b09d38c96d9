/* quant.c: what a weight looks like with fewer bits, and the candidates of a
   whole model.  In the order of the code, for a weight W [out, in] with b bits
   and one grid for each group of input columns of a row:

   (1) grid     lo = min(0, min w), hi = max(0, max w)  over the group,
                step = (hi - lo) / (2^b - 1)  (1 when that is 0),
                scale = fp16(step), but at most 65504, and the next fp16 above
                        where hi - lo would exceed 2^b - 1/2 steps of it,
                zero = clamp(round(-lo / scale), 0, 2^b - 1);
       symmetric, b > 1: before that hi = -lo = max |w|, zero = 2^(b-1)
       BF16: of the fp16 numbers those that BF16 has too, at most 65280
   (2) code     clamp(round((w + shift) / scale) + zero, 0, 2^b - 1),  ties to
                even, shift = 0
   (3) value    q = scale (code - zero) - shift
       bias: a runtime has q = scale code - bias, bias = scale zero rounded to
             fp16 or BF16, so that  shift = bias - scale zero
   (4) mse      the grid of r lo, r hi for that r of 1, 0.99, ..., 0.21 whose
                sum (w - q)^2 over the group is least

   Round to nearest, RTN, is that and nothing else.  GPTQ (Frantar et al. 2022)
   makes (w - q) H (w - q)^T small for each row w: it rounds one column after
   the other and moves what each rounding lost onto the columns still to come.

   (5) factor   U upper triangular,  U^T U = (H + damping)^-1
   (6) columns  e_j = (w_j - q_j) / U_jj,   w_t -= e_j U_jt  for t > j
   (7) packing  a row of codes, or of zeros, is one number, code i at its bit
                i b, in ceil(n b / 8) bytes, the lowest first
   (8) mixture  W~ = sum_k p_k Q_k
   (9) inner    g_k = <G, Q_k>
   (10) inputs  H = (2 / R) sum_t w_t^2 x_t x_t^T     over the calibration text,
                w_t = 0 where ||x_t|| is 0, subnormal or infinite

   Row j of U is the column of the inverse Hessian of the columns j.. that
   optimal brain surgeon asks for, divided by the root of its diagonal;
   tests/test_gptq.c has that definition.  Where this differs from the published
   code [ours]: a group's grid comes from the weights as they stand when its
   first column is reached (there: as they stood when the block began); dead
   columns do not enter the mean that damping is a share of; U is computed
   without forming H^-1; scales are rounded to fp16 before use, also in (4).
   Which H, order, grids and inputs gain how much: docs/results.md.

   The candidates of a model are made block after block (11) and read from their
   file (12), which formats/candidates.c names, finds and checks.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <assert.h>
#include <math.h>
#include <string.h>

const char *const gm_quantizer_name[] = {"rtn", "gptq", "external"};
const char *const gm_hessian_name[] = {"token", "plain", "attention"};

/* A weight while it is rounded; GPTQ: its columns first .. end-1 are next. */
typedef struct {
    long out, in, group, groups;
    int bits;
    gm_scales rule;             /* of (1) to (4) */
    uint16_t *scale;            /* [out, groups] fp16                        */
    uint8_t *zero, *code;       /* [out, groups], [out, in]                  */
    const gm_factor *factor;    /* NULL: RTN                                 */
    gm_real *w, *e;             /* [out, in] in rounding order; [out, BLOCK] */
    long first, end;
} rounding;

/* -------------------------------------------------- grids and codes (1)-(4) */

/* (3); bias at most what fp16 holds. */
float gm_shift(gm_scales rule, float scale, int zero) {
    const float exact = scale * (float)zero;
    if (!(rule & GM_BIAS)) return 0;
    return (rule & GM_BF16_SCALE ? gm_bf16_to_f32(gm_f32_to_bf16(exact))
            : gm_f16_to_f32(gm_f32_to_f16(gm_clamp(exact, 0, 65504)))) - exact;
}

/* (1), from lo <= 0 and hi >= 0. */
static void grid(const rounding *r, float lo, float hi, uint16_t *scale,
                 uint8_t *zero) {
    const float top = (float)((1 << r->bits) - 1), step = (hi - lo) / top;
    const bool bf16 = r->rule & GM_BF16_SCALE;
    *scale = step > 0 ? gm_f16_reach(step, step / (2 * top + 1), bf16)
                      : 0x3c00;                             /* 1.0 */
    /* a group too wide for fp16 loses as many steps below zero as above */
    const float most = bf16 ? 65280 : 65504;
    const float s = step > most ? step : gm_f16_to_f32(*scale);
    *zero = (uint8_t)gm_clamp(gm_nearest(gm_clamp(-lo / s, 0, 512)), 0, top);
    if (r->rule & GM_SYMMETRIC) *zero = (uint8_t)(1 << (r->bits - 1));
}

/* sum_i (w_i - q_i)^2 on the grid, q by (2) and (3). */
static double grid_error(const rounding *r, const float *w, long n,
                         uint16_t scale, uint8_t zero) {
    const float top = (float)((1 << r->bits) - 1), z = (float)zero;
    const float s = gm_f16_to_f32(scale), shift = gm_shift(r->rule, s, zero);
    gm_real e[GM_MAX_GROUP];
    for (long i = 0; i < n; i++)
        e[i] = w[i] - ((gm_code(w[i] + shift, s, z, top) - z) * s - shift);
    return gm_dot(n, e, e);
}

/* (1) or (4) for group g of a row, whose n weights are w. */
static void choose_grid(const rounding *r, long row, long g, long n,
                        const float *w) {
    uint16_t *scale = r->scale + row * r->groups + g;
    uint8_t *zero = r->zero + row * r->groups + g;
    float lo = 0, hi = 0;
    for (long i = 0; i < n; i++) {
        lo = w[i] < lo ? w[i] : lo;
        hi = w[i] > hi ? w[i] : hi;
    }
    if (r->rule & GM_SYMMETRIC) hi = hi > -lo ? hi : -lo, lo = -hi;
    grid(r, lo, hi, scale, zero);
    if (!(r->rule & GM_MSE)) return;
    double least = grid_error(r, w, n, *scale, *zero);
    for (int percent = 99; percent > 20; percent--) {
        const float by = (float)percent;
        uint16_t s;
        uint8_t z;
        grid(r, lo * by / 100, hi * by / 100, &s, &z);
        double error = grid_error(r, w, n, s, z);
        if (error < least) least = error, *scale = s, *zero = z;
    }
}

/* RTN: every group's grid from the weights before any is rounded, then (2).
   GPTQ in act-order needs these grids (static groups), in which columns that
   are dead have no part. */
static void round_rows(const rounding *r, const gm_real *w) {
    const float top = (float)((1 << r->bits) - 1);
    const bool *dead = r->factor ? r->factor->dead : NULL;
#pragma omp parallel for schedule(dynamic, 16) num_threads(gm_threads())
    for (long row = 0; row < r->out; row++)
        for (long g = 0; g < r->groups; g++) {
            const long first = g * r->group, at = row * r->groups + g;
            const long n = gm_min(r->group, r->in - first);
            const gm_real *from = w + row * r->in + first;
            uint8_t *code = r->code + row * r->in + first;
            float x[GM_MAX_GROUP];
            for (long j = 0; j < n; j++)
                x[j] = dead && dead[first + j] ? 0 : (float)from[j];
            choose_grid(r, row, g, n, x);
            float s = gm_f16_to_f32(r->scale[at]), z = (float)r->zero[at];
            const float shift = gm_shift(r->rule, s, r->zero[at]);
            for (long j = 0; j < n; j++)
                code[j] = (uint8_t)gm_code(x[j] + shift, s, z, top);
        }
}

/* ----------------------------------------------------- GPTQ: the factor (5) */

/* Columns by H_jj, largest first; equal ones from left to right. */
static void choose_order(long n, const double *H, long *order) {
    for (long j = 0; j < n; j++) {
        const double own = H[j * n + j];
        long before = 0;
        for (long i = 0; i < n; i++)
            before += H[i * n + i] > own || (H[i * n + i] == own && i < j);
        order[before] = j;
    }
}

/* A = J (P H P^T + damp) J, lower triangle: columns in the order they are
   rounded in (P), last first (J reverses); dead columns get a diagonal of 1.
   A = L L^T gives P H P^T + damp = M M^T with M = J L J upper triangular, so
   U = M^-1 = J L^-1 J has U^T U = (P H P^T + damp)^-1. */
void gm_gptq_factor(gm_arena *arena, long n, const double *H, double damping,
                    bool act_order, gm_factor *out) {
    const size_t square = (size_t)n * (size_t)n;
    gm_real *U = gm_alloc(arena, square, sizeof *U);
    bool *dead = gm_alloc(arena, (size_t)n, sizeof *dead);
    long *order = act_order ? gm_alloc(arena, (size_t)n, sizeof *order) : NULL;
    double sum = 0, live = 0;
    *out = (gm_factor){n, U, order, dead};
    gm_mark mark = gm_arena_mark(arena);
    double *A = gm_alloc(arena, square, sizeof *A);
    double *X = gm_alloc(arena, square, sizeof *X);
    if (order) choose_order(n, H, order);
    for (long j = 0; j < n; j++) {
        dead[j] = H[j * n + j] == 0;
        sum += H[j * n + j];
        live += !dead[j];
    }
    const double damp = live > 0 ? damping * (sum / live) : 0;
    for (long i = 0; i < n; i++)
        for (long j = 0; j <= i; j++) {
            long a = n - 1 - i, b = n - 1 - j;
            if (order) a = order[a], b = order[b];
            A[i * n + j] = a > b ? H[a * n + b] : H[b * n + a];
            if (i == j) A[i * n + j] = dead[a] ? 1 : A[i * n + j] + damp;
        }
    bool fine = gm_cholesky(n, A);
    if (fine) gm_lower_inverse(n, A, X);
    for (long i = 0; i < n && fine; i++)
        for (long j = 0; j < n; j++) {
            U[i * n + j] = (gm_real)X[(n - 1 - i) * n + n - 1 - j];
            fine &= i == j ? isnormal(U[i * n + j]) : isfinite(U[i * n + j]);
        }
    if (!fine)
        gm_fail(GM_EINPUT, "the Hessian of %ld inputs, damped by %g of its "
                "mean diagonal, is not positive definite, or its inverse no "
                "float: expected finite activations, not all tiny", n, damping);
    gm_arena_rewind(arena, mark);
}

/* ---------------------------------------------------- GPTQ: the columns (6) */

/* Columns between two updates of all that follows, and rows handled side by
   side: every row is rounded by itself, so rows are vector lanes. */
enum { BLOCK = 64, LANES = GM_LANES };

/* The block that begins at r->first ends before a group that begins inside it
   but does not end there, so that all of that group's weights are up to date
   when its grid is chosen. */
static long block_end(const rounding *r) {
    const long end = gm_min(r->first + BLOCK, r->in);
    const long start = end / r->group * r->group;
    const bool cut = !r->factor->order && start > r->first && start < end &&
                     gm_min(start + r->group, r->in) > end;
    return cut ? start : end;
}

/* A panel: LANES rows from `row` on, the columns of the block.  Their codes,
   and -e for what follows. */
static void round_panel(const rounding *r, long row) {
    const long *order = r->factor->order, in = r->in, first = r->first;
    const long rows = gm_min(LANES, r->out - row);
    float w[BLOCK][LANES] = {0}, e[BLOCK][LANES], code[LANES], x[GM_MAX_GROUP];
    float scale[LANES], zero[LANES] = {0}, shift[LANES] = {0};
    for (long i = 0; i < LANES; i++) scale[i] = 1;
    for (long i = 0; i < rows; i++)
        for (long j = first; j < r->end; j++)
            w[j - first][i] = (float)r->w[(row + i) * in + j];
    for (long j = first; j < r->end; j++) {
        const long place = order ? order[j] : j, g = place / r->group;
        const long n = gm_min(r->group, in - j);
        const bool begins = !order && j % r->group == 0;
        for (long i = 0; i < rows && (order || begins || j == first); i++) {
            /* the weights as they are now: those of the block in the panel,
               later ones (a group wider than the block) still in r->w */
            for (long t = j; t < j + n && begins; t++)
                x[t - j] = t < r->end ? w[t - first][i]
                                      : (float)r->w[(row + i) * in + t];
            if (begins) choose_grid(r, row + i, g, n, x);
            const long at = (row + i) * r->groups + g;
            scale[i] = gm_f16_to_f32(r->scale[at]);
            zero[i] = (float)r->zero[at];
            shift[i] = gm_shift(r->rule, scale[i], r->zero[at]);
        }
        gm_round_column(&(gm_column){
            r->end - j, (float)((1 << r->bits) - 1), scale, zero, shift,
            r->factor->U + j * in + j, w + (j - first), e[j - first], code});
        for (long i = 0; i < rows; i++)
            r->code[(row + i) * in + place] = (uint8_t)code[i];
    }
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < r->end - first; j++)
            r->e[(row + i) * BLOCK + j] = (gm_real)-e[j][i];
}

/* Block after block; W[:, end..] -= E U[first..end-1, end..]. */
static void round_columns(gm_arena *arena, rounding *r, const gm_real *w) {
    const gm_factor *f = r->factor;
    const long out = r->out, in = r->in;
    r->w = gm_alloc(arena, (size_t)out, (size_t)in * sizeof *r->w);
    r->e = gm_alloc(arena, (size_t)out, BLOCK * sizeof *r->e);
    for (long i = 0; i < out; i++)
        for (long j = 0; j < in; j++) {
            long from = f->order ? f->order[j] : j;
            r->w[i * in + j] = f->dead[from] ? 0 : w[i * in + from];
        }
    for (r->first = 0; r->first < in; r->first = r->end) {
        r->end = block_end(r);
#pragma omp parallel for schedule(dynamic) num_threads(gm_threads())
        for (long row = 0; row < out; row += LANES) round_panel(r, row);
        gm_gemm(out, in - r->end, r->end - r->first, r->e, BLOCK, 1,
                f->U + r->first * in + r->end, in, 1, r->w + r->end, in, true);
    }
}

/* -------------------------------------------------------------- packing (7) */

gm_packed gm_packed_at(long out, long in, int bits, long group, uint8_t *data) {
    const gm_parts n = gm_packed_parts(out, in, bits, group);
    return (gm_packed){bits, out, in, group, data,
                       data ? data + n.codes : NULL,
                       data ? data + n.codes + n.scales : NULL, NULL, 0};
}

/* RTN (1)-(4), or GPTQ (6) with its factor; then (7). */
void gm_quantize(gm_arena *arena, const gm_real *w, gm_scales rule,
                 const gm_factor *factor, gm_packed *q) {
    const long out = q->out, in = q->in;
    const long groups = (in + q->group - 1) / q->group;
    const gm_parts row = gm_packed_parts(1, in, q->bits, q->group);
    assert(q->bits >= 1 && q->bits <= 8 && q->group >= 1 &&
           q->group <= GM_MAX_GROUP && (!factor || in == factor->n));
    gm_mark mark = gm_arena_mark(arena);
    rounding r = {out, in, q->group, groups, q->bits, rule, .factor = factor};
    q->rule = rule;
    r.scale = gm_alloc(arena, (size_t)out, (size_t)groups * sizeof *r.scale);
    r.zero = gm_alloc(arena, (size_t)out, (size_t)groups);
    r.code = gm_alloc(arena, (size_t)out, (size_t)in);
    if (!factor || factor->order) round_rows(&r, w);
    if (factor) round_columns(arena, &r, w);
    memcpy(q->scales, r.scale, (size_t)(out * groups) * sizeof *r.scale);
#pragma omp parallel for schedule(static) num_threads(gm_threads())
    for (long i = 0; i < out; i++) {
        gm_pack(r.code + i * in, in, q->bits, q->codes + i * row.codes);
        gm_pack(r.zero + i * groups, groups, q->bits, q->zeros + i * row.zeros);
    }
    gm_arena_rewind(arena, mark);
}

/* -------------------------------------- back to real numbers (3), (8), (9) */

/* Columns at once.  A multiple of 8: strips of codes begin at whole bytes. */
enum { STRIP = 512 };

/* Columns first .. first + n-1 of a row, n <= STRIP, first a multiple of it:
   where they are, or, from codes by (3), in q. */
static const gm_real *strip(const gm_packed *p, long row, long first, long n,
                            gm_real *q) {
    const gm_parts one = gm_packed_parts(1, p->in, p->bits, p->group);
    uint8_t code[STRIP];
    if (p->original) return p->original + row * p->in + first;
    gm_unpack(p->codes + row * one.codes + first / 8 * p->bits, n, p->bits,
              code);
    for (long i = 0; i < n;) {
        const long g = (first + i) / p->group;
        const uint8_t *half = p->scales + row * one.scales + 2 * g;
        const float s = gm_f16_to_f32((uint16_t)(half[0] | half[1] << 8));
        const int z = gm_unpack_one(p->zeros + row * one.zeros, g, p->bits);
        const long end = gm_min(n, (g + 1) * p->group - first);
        const float shift = gm_shift(p->rule, s, z);
        for (; i < end; i++) q[i] = (float)(code[i] - z) * s - shift;
    }
    return q;
}

/* (8) */
void gm_mix(const gm_offer *o, const double *p, gm_real *w) {
    const long out = o->packed->out, in = o->packed->in;
#pragma omp parallel for schedule(dynamic, 16) num_threads(gm_threads())
    for (long row = 0; row < out; row++)
        for (long first = 0; first < in; first += STRIP) {
            const long n = gm_min(STRIP, in - first);
            gm_real *sum = w + row * in + first, at[STRIP];
            memset(sum, 0, (size_t)n * sizeof *sum);
            for (int i = 0; i < o->count; i++) {
                const gm_real *q = strip(o->packed + i, row, first, n, at);
                const gm_real share = (gm_real)p[o->k[i]];
                for (long j = 0; j < n; j++) sum[j] += share * q[j];
            }
        }
}

/* (9) */
void gm_inner(gm_arena *arena, const gm_offer *o, const gm_real *G,
              double *g) {
    const long out = o->packed->out, in = o->packed->in;
    gm_mark mark = gm_arena_mark(arena);
    double *sum = gm_alloc(arena, (size_t)(o->count * out), sizeof *sum);
#pragma omp parallel for schedule(dynamic, 16) num_threads(gm_threads())
    for (long row = 0; row < out; row++)
        for (long first = 0; first < in; first += STRIP)
            for (int i = 0; i < o->count; i++) {
                const long n = gm_min(STRIP, in - first);
                gm_real at[STRIP];
                const gm_real *q = strip(o->packed + i, row, first, n, at);
                sum[i * out + row] += gm_dot(n, G + row * in + first, q);
            }
    for (int i = 0; i < o->count; i++) {
        double *to = g + o->k[i];
        *to = 0;
        for (long row = 0; row < out; row++) *to += sum[i * out + row];
    }
    gm_arena_rewind(arena, mark);
}

void gm_dequantize(const gm_packed *packed, gm_real *q) {
    const size_t n = (size_t)(packed->out * packed->in);
    if (packed->original) memcpy(q, packed->original, n * sizeof *q);
    else gm_mix(&(gm_offer){1, {0}, {*packed}}, &(double){1}, q);
}

/* ---------------------------------------------------- what modules see (10)

   The modules of a block have four inputs: q, k, v | o | gate, up | down.  They
   are the original model's, block after block, a few sequences at a time: in
   memory are a block, a batch's activations, the states.  --sequential: states
   for each number of bits, through blocks quantized to these bits. */

enum { INPUTS = 4 };

long gm_at_once(const gm_recipe *recipe, long sequences) {
    return gm_min(sequences, recipe->at_once ? recipe->at_once : 4);
}

/* One block and its candidates; for GPTQ what a pass over it needs, too. */
typedef struct {
    const gm_model *model;
    const gm_recipe *recipe;
    const gm_sequences *text;   /* of the calibration; RTN: may be NULL      */
    long layer;                 /* of this block                             */
    int made, streams;          /* numbers of bits below 16; of states       */
    gm_real *h;                 /* [streams, R, d] inputs of the next block  */
    gm_block block;
    gm_acts acts;
    double *weight, *mass;      /* [R] of a pass                              */
    double *H[INPUTS];          /* [n, n] of this block, n = inputs[i]       */
    long inputs[INPUTS];
    uint8_t *data;              /* its candidates, as they stand in the file */
    size_t bytes;
} workshop;

/* Candidate k of linear j of any block, at `data`. */
static gm_packed shape_of(const gm_config *c, const gm_recipe *recipe, int j,
                          int k, uint8_t *data) {
    long out, in;
    gm_linear_shape(c, j, &out, &in);
    gm_packed q = gm_packed_at(out, in, recipe->bits[k], recipe->group, data);
    q.rule = recipe->scales;
    return q;
}

/* The first states are the embeddings. */
static workshop workshop_open(gm_arena *arena, const gm_model *model,
                              const gm_recipe *recipe,
                              const gm_sequences *text) {
    const gm_config *c = &model->config;
    workshop shop = {.model = model, .recipe = recipe, .text = text};
    while (shop.made < recipe->count && recipe->bits[shop.made] < 16)
        shop.made++;
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, *in = &shop.inputs[gm_input_of[j]];
        gm_linear_shape(c, j, &out, in);
        for (int k = 0; k < shop.made; k++)
            shop.bytes += (size_t)gm_packed_bytes(out, *in, recipe->bits[k],
                                                  recipe->group);
    }
    shop.data = gm_alloc(arena, shop.bytes, 1);
    gm_block_alloc(arena, c, &shop.block);
    if (recipe->quantizer != GM_GPTQ) return shop;
    const long R = text->sequences * text->T;
    const long at_once = gm_at_once(recipe, text->sequences);
    const size_t rows = (size_t)(at_once * text->T);
    shop.streams = recipe->sequential ? shop.made : 1;
    shop.h = gm_alloc(arena, (size_t)(shop.streams * R),
                      (size_t)c->d * sizeof *shop.h);
    shop.weight = gm_alloc(arena, rows, sizeof *shop.weight);
    shop.mass = gm_alloc(arena, rows, sizeof *shop.mass);
    for (int i = 0; i < INPUTS; i++)
        shop.H[i] = gm_alloc(arena, (size_t)shop.inputs[i],
                             (size_t)shop.inputs[i] * sizeof *shop.H[i]);
    gm_acts_alloc(arena, c, at_once, text->T, false, &shop.acts);
    for (int s = 0; s < shop.streams; s++)
        gm_embed(model, text->tokens, R, shop.h + s * R * c->d);
    return shop;
}

/* w_t of a batch's rows, whose first is row `first` of the text, x [rows, n] =
   input i.  One token in 512 hardly weighs in a plain H, but the first of a
   sequence, which all later ones attend to, is ruined by that: SmolLM2-135M,
   3 bits, groups of 64, has perplexity 98 by RTN, 304 with position 0 left out
   of H, 75 with w = 1/||x||, 61 with that times 4 at it (torch prototype). */
static void token_weights(const workshop *shop, int i, long first, long rows,
                          const gm_real *x) {
    const long n = shop->inputs[i];
    const gm_hessian hessian = shop->recipe->hessian;
    bool *none = shop->recipe->weightless;
    for (long t = 0; t < rows; t++) {
        double norm = sqrt(gm_dot(n, x + t * n, x + t * n));
        double size = t % shop->text->T == 0 ? 4 : 1;
        const bool weighs = isnormal((gm_real)norm);
        if (hessian == GM_ATTENTION && i == 0) size = sqrt(shop->mass[t]);
        if (hessian == GM_PLAIN) size = norm;
        shop->weight[t] = weighs ? size / norm : 0;
        if (none && !weighs) none[first + t] = true;
    }
}

/* One pass of the states h [R, d] through the block: (10) for the inputs
   first..end-1; move: h become the block's outputs, else the pass ends at input
   `first`, the only one. */
static void pass(workshop *shop, gm_real *h, int first, int end, bool move) {
    static const char *const name[INPUTS] = {
        "input of q, k and v", "input of o", "input of gate and up",
        "input of down"};
    const long all = shop->text->sequences, T = shop->text->T, l = shop->layer;
    const long d = shop->model->config.d, most = gm_at_once(shop->recipe, all);
    gm_acts *a = &shop->acts;
    const gm_real *input[INPUTS] = {a->x1, a->attn, a->x2, a->act};
    const bool mass = shop->recipe->hessian == GM_ATTENTION && first == 0 &&
                      end > 0;
    for (int i = first; i < end; i++)
        memset(shop->H[i], 0, (size_t)(shop->inputs[i] * shop->inputs[i]) *
                                  sizeof *shop->H[i]);
    for (long s = 0; s < all; s += most) {
        gm_real *at = h + s * T * d;
        a->sequences = gm_min(all - s, most);
        const long R = a->sequences * T;
        if (move) gm_block_forward(a, &shop->block, at, at);
        else gm_block_inputs(a, &shop->block, at, mass ? 1 : first);
        if (mass) gm_attention_mass(a, shop->mass);
        for (int i = first; i < end; i++) {
            const long n = shop->inputs[i];
            gm_states_check(shop->model, l, name[i], input[i], R, n);
            token_weights(shop, i, s * T, R, input[i]);
            gm_gram(R, n, input[i], shop->weight, shop->H[i]);
        }
        if (move) gm_states_check(shop->model, l, "output", at, R, d);
    }
    for (int i = first; i < end; i++)
        for (long n = shop->inputs[i] * shop->inputs[i]; n-- > 0;)
            shop->H[i][n] *= 2 / ((double)all * (double)T);
}

void gm_hessians(gm_arena *arena, const gm_model *model,
                 const gm_recipe *recipe, const gm_sequences *calibration,
                 gm_hessian_look *look, void *context) {
    gm_mark mark = gm_arena_mark(arena);
    workshop shop = workshop_open(arena, model, recipe, calibration);
    for (shop.layer = 0; shop.layer < model->config.layers; shop.layer++) {
        gm_block_load(model, shop.layer, &shop.block);
        pass(&shop, shop.h, 0, INPUTS, true);
        for (int i = 0; i < INPUTS; i++)
            look(context, shop.layer, i, shop.inputs[i], shop.H[i]);
    }
    gm_arena_rewind(arena, mark);
}

/* --------------------------------------------------- making candidates (11) */

/* Candidates first..end-1 of the modules with input i, from its H.
   Sequential: the modules become their candidate. */
static void make_input(gm_arena *arena, workshop *shop, int i, int first,
                       int end) {
    const gm_recipe *recipe = shop->recipe;
    const bool gptq = recipe->quantizer == GM_GPTQ;
    gm_mark mark = gm_arena_mark(arena);
    gm_factor factor;
    uint8_t *at = shop->data;
    if (gptq)
        gm_gptq_factor(arena, shop->inputs[i], shop->H[i], recipe->damping,
                       recipe->act_order, &factor);
    for (int j = 0; j < GM_LINEARS; j++)
        for (int k = 0; k < shop->made; k++) {
            gm_packed q = shape_of(&shop->model->config, recipe, j, k, at);
            at += gm_packed_bytes(q.out, q.in, q.bits, q.group);
            if (gm_input_of[j] != i || k < first || k >= end) continue;
            gm_quantize(arena, shop->block.w[j], recipe->scales,
                        gptq ? &factor : NULL, &q);
            if (recipe->sequential) gm_dequantize(&q, shop->block.w[j]);
        }
    gm_arena_rewind(arena, mark);
}

/* The candidates of the block: all from the original model's inputs; or,
   sequential, candidates k from the inputs that they get when all modules
   before, those of this block too, are their candidates k. */
static void make_block(gm_arena *arena, workshop *shop) {
    const bool sequential = shop->recipe->sequential;
    gm_block_load(shop->model, shop->layer, &shop->block);
    if (shop->streams && !sequential) pass(shop, shop->h, 0, INPUTS, true);
    for (int i = 0; i < INPUTS && !sequential; i++)
        make_input(arena, shop, i, 0, shop->made);
    for (int k = 0; k < shop->made && sequential; k++) {
        gm_real *h = shop->h + k * shop->text->sequences * shop->text->T *
                               shop->model->config.d;
        if (k) gm_block_load(shop->model, shop->layer, &shop->block);
        for (int i = 0; i < INPUTS; i++) {
            pass(shop, h, i, i + 1, false);
            make_input(arena, shop, i, k, k + 1);
        }
        pass(shop, h, 0, 0, true);
    }
}

/* The first block that rank r makes; with --sequential, where each block needs
   the one before it, rank 0 makes all. */
static long first_block(const workshop *shop, int rank) {
    const long L = shop->model->config.layers;
    return !shop->recipe->sequential ? gm_rank_first(L, rank) : rank ? L : 0;
}

/* In turn i every rank makes its block i and rank 0 writes them all. */
void gm_candidates_make(gm_arena *arena, const gm_model *model,
                        const gm_recipe *recipe, const gm_sequences *text,
                        const gm_report *report, gm_out *file) {
    workshop shop = workshop_open(arena, model, recipe, text);
    const long L = model->config.layers, own = first_block(&shop, gm_rank());
    const int64_t start = file->bytes;
    if (shop.streams && !recipe->sequential)
        gm_states_before(model, own, text, &shop.block, &shop.acts, shop.h);
    for (long i = 0, done = 0; done < L; i++) {
        shop.layer = own + i;
        if (shop.layer < first_block(&shop, gm_rank() + 1))
            make_block(arena, &shop);
        for (int rank = 0; rank < gm_ranks(); rank++) {
            const long l = first_block(&shop, rank) + i;
            if (l >= first_block(&shop, rank + 1)) continue;
            gm_ranks_check();   /* all have made, rank 0 has written */
            gm_ranks_move(rank, 0, shop.data, shop.bytes);
            if (gm_rank() == 0)
                gm_out_write_at(file, start + l * (int64_t)shop.bytes,
                                shop.data, shop.bytes);
            done++;
        }
        gm_say(report, "candidates", done * GM_LINEARS, L * GM_LINEARS);
    }
}

/* -------------------------------------------------- reading candidates (12) */

void gm_packed_tensors(gm_arena *arena, const char *stem, const gm_packed *p,
                       gm_tensor out[3]) {
    static const char *const name[3] = {"codes", "scales", "zeros"};
    const gm_parts n = gm_packed_parts(p->out, p->in, p->bits, p->group);
    const int64_t bytes[3] = {n.codes, n.scales, n.zeros};
    for (int i = 0; i < 3; i++)
        out[i] = (gm_tensor){
            .name = gm_format(arena, "%s.%s", stem, name[i]),
            .dtype = i == 1 ? GM_F16 : GM_U8, .rank = 2,
            .shape = {p->out, bytes[i] / p->out / (i == 1 ? 2 : 1)},
            .bytes = (size_t)bytes[i]};
}

void gm_candidate_parts(gm_arena *arena, const gm_candidates *c, long layer,
                        int j, int k, gm_tensor out[3]) {
    const gm_packed q = shape_of(&c->model->config, &c->recipe, j, k, NULL);
    const char *name = gm_linear_name(arena, layer, j);
    gm_packed_tensors(arena, gm_format(arena, "%s.b%d", name, q.bits), &q, out);
}

const gm_tensor *gm_candidate_tensor(const gm_candidates *c, long layer, int j,
                                     int k) {
    const gm_tensor *w = gm_linear_tensor(c->model, layer, j), *t;
    const gm_external *e = c->recipe.external;
    if (!e) return c->recipe.bits[k] < 16 ? NULL : w;
    t = e->tensor[(layer * GM_LINEARS + j) * c->recipe.count + k];
    if (!t)
        gm_bad(c->tensors.file[0]->path, "module %.*s: expected a candidate of "
               "%s, found none", (int)strlen(w->name) - 7, w->name,
               gm_called(c->recipe.bits[k], c->recipe.label[k]).text);
    return t;
}

gm_packed gm_candidate(gm_arena *arena, const gm_candidates *c, long layer,
                       int j, int k) {
    const gm_tensor *t = gm_candidate_tensor(c, layer, j, k);
    gm_packed q = shape_of(&c->model->config, &c->recipe, j, k, NULL);
    gm_tensor part[3];
    if (t) {
        q.original = gm_alloc(arena, (size_t)(q.out * q.in),
                              sizeof *q.original);
        gm_tensor_read(t, 0, q.out * q.in, q.original);
        return q;
    }
    uint8_t *at = gm_alloc(arena, (size_t)gm_packed_bytes(
        q.out, q.in, q.bits, q.group), 1);
    q = shape_of(&c->model->config, &c->recipe, j, k, at);
    gm_candidate_parts(arena, c, layer, j, k, part);
    for (int i = 0; i < 3; at += part[i++].bytes) {
        t = gm_tensor_find(&c->tensors, part[i].name);
        if (!t || t->bytes != part[i].bytes)
            gm_bad(c->tensors.file[0]->path, "tensor \"%s\": expected %zu "
                   "bytes, found %zu", part[i].name, part[i].bytes,
                   t ? t->bytes : 0);
        if (t->dtype != part[i].dtype)
            gm_bad(t->path, "tensor \"%s\": expected type %s, found %s",
                   t->name, gm_dtype_name(part[i].dtype),
                   gm_dtype_name(t->dtype));
        gm_tensor_bytes(t, 0, t->bytes, at);
        if (t->dtype == GM_F16) gm_tensor_check(t);
    }
    return q;
}

gm_offer gm_offer_read(gm_arena *arena, const gm_candidates *c, long layer,
                       int j) {
    gm_offer out = {0};
    for (int k = 0; k < c->recipe.count; k++) {
        if (!gm_allowed(c, layer * GM_LINEARS + j, k)) continue;
        out.k[out.count] = k;
        out.packed[out.count++] = gm_candidate(arena, c, layer, j, k);
    }
    return out;
}

void gm_candidate_weight(gm_arena *arena, const gm_candidates *c, long layer,
                         int j, int k, gm_real *w) {
    const gm_tensor *t = gm_candidate_tensor(c, layer, j, k);
    if (t) {
        gm_tensor_read(t, 0, t->shape[0] * t->shape[1], w);
        return;
    }
    gm_mark mark = gm_arena_mark(arena);
    const gm_packed q = gm_candidate(arena, c, layer, j, k);
    gm_dequantize(&q, w);
    gm_arena_rewind(arena, mark);
}

void gm_chosen_block(gm_arena *arena, const gm_candidates *c, long layer,
                     const int *choice, gm_block *block) {
    gm_block_load(c->model, layer, block);
    for (int j = 0; j < GM_LINEARS; j++)
        if (choice[j] >= 0)
            gm_candidate_weight(arena, c, layer, j, choice[j], block->w[j]);
}
