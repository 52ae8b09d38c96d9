/* test_extremes.c: numbers at the ends of their formats.  Weights times 2^k,
   which is exact, until fp16 has no scale for them; tokens whose states have no
   norm to divide by.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats/formats.h"
#include "rivals/rivals.h"
#include "test.h"

#include <math.h>

static const char work[] = "build/test/extremes-work";

/* ------------------------------------------------------- scales of weights

   fp16 has 2^-24 between its smallest numbers, 2^-11 of a number half way to
   the next one above 2^-14, and ends at 65504.  With step = (hi - lo) / top the
   scale s of a group may therefore be off by its rounding and, so that codes
   stay within their range, one number of fp16 higher:
       step (1 - 2^-11) - 2^-24 <= s <= step (1 + 2^-11) + 2^-24,
       (top + 1/2) s >= hi - lo,                      unless step > 65504.  */

enum { OUT = 24, IN = 130, GROUP = 64, GROUPS = 3, FROM = -40, TO = 20 };

/* Rows of both signs, of one sign, of one value, with one weight far out. */
static void draw(gm_real w[OUT * IN]) {
    for (long i = 0; i < OUT * IN; i++) {
        const long row = i / IN, kind = row % 6;
        double x = (gm_uniform(3, 0, (uint64_t)i) +
                    gm_uniform(3, 1, (uint64_t)i) - 1) / 8;
        if (kind == 1) x = fabs(x);
        if (kind == 2) x = -fabs(x);
        if (kind == 3) x = 0.0625;
        if (kind == 4 && i % GROUP == 7) x *= 20;
        if (kind == 5 && row > 6) x *= 1e-3;
        w[i] = (gm_real)x;
    }
}

typedef struct {
    gm_packed packed;
    uint8_t codes[OUT * IN], zeros[OUT * GROUPS];
    uint16_t scales[OUT * GROUPS];
    gm_real q[OUT * IN];
} rounded;

static void quantize(const gm_real *w, int bits, gm_scales rule,
                     const gm_factor *factor, rounded *to) {
    gm_arena a = {0};
    to->packed = (gm_packed){bits, OUT, IN, GROUP, to->codes,
                             (uint8_t *)to->scales, to->zeros, NULL, 0};
    gm_quantize(&a, w, rule, factor, &to->packed);
    gm_dequantize(&to->packed, to->q);
    gm_arena_free(&a);
}

/* Scales that are outside of the bounds above, with minmax from the weights. */
static long bad_scales(const gm_real *w, int bits, gm_scales rule,
                       const rounded *r) {
    const double top = ldexp(1, bits) - 1;
    const int z = 1 << (bits - 1);
    const long bytes = (GROUPS * bits + 7) / 8;
    long bad = 0;
    for (long i = 0; i < OUT * GROUPS; i++) {
        double lo = 0, hi = 0, s = (double)gm_f16_to_f32(r->scales[i]);
        for (long j = i % GROUPS * GROUP; j < IN; j++) {
            if (j == (i % GROUPS + 1) * GROUP) break;
            lo = fmin(lo, (double)w[i / GROUPS * IN + j]);
            hi = fmax(hi, (double)w[i / GROUPS * IN + j]);
        }
        if (rule & GM_SYMMETRIC) hi = fmax(hi, -lo), lo = -hi;
        const double step = (hi - lo) / top, tiny = 0x1p-24;
        /* 2^-20: float's rounding of the step */
        const double near = step * (0x1p-11 + 0x1p-20) + tiny;
        const uint8_t *zeros = r->zeros + i / GROUPS * bytes;
        const long at = i % GROUPS * bits;
        const int two = zeros[at / 8] | (at / 8 + 1 < bytes
                                             ? zeros[at / 8 + 1] << 8 : 0);
        if (rule & GM_SYMMETRIC)
            bad += (two >> at % 8 & ((1 << bits) - 1)) != z;
        if (step > 65504) bad += s != 65504;
        else bad += fabs(s - step) > near ||
                    (top + 0.5) * s < (hi - lo) * (1 - 0x1p-20);
    }
    return bad;
}

static double squares(const gm_real *w, const gm_real *q) {
    double sum = 0, size = 0;
    for (long i = 0; i < OUT * IN; i++) {
        const double e = (double)w[i] - (double)q[i];
        sum += e * e;
        size += (double)w[i] * (double)w[i];
    }
    return sum / size;
}

/* Rows of `now`, of w times 2^k, whose scales are ordinary numbers of fp16, as
   those of k = 0 are, and whose codes are others nevertheless. */
static long moved_rows(const rounded *now, const rounded *base, int k) {
    const long bytes = gm_packed_parts(1, IN, now->packed.bits, GROUP).codes;
    long moved = 0;
    for (long row = 0; row < OUT; row++) {
        bool ordinary = true;
        for (long i = row * GROUPS; i < (row + 1) * GROUPS; i++) {
            const double s = (double)gm_f16_to_f32(base->scales[i]);
            ordinary = ordinary && fmin(s, ldexp(s, k)) >= 0x1p-13 &&
                       ldexp(s, k) < 32768;
        }
        moved += ordinary && memcmp(now->codes + row * bytes,
                                    base->codes + row * bytes, (size_t)bytes);
    }
    return moved;
}

/* One maker of scales over all k and bits.  Between ordinary numbers of fp16
   the codes stay.  No error exceeds 1.5 scales (half a code, half a zero, half
   of what the range may be short), where nothing is clipped; GPTQ moves errors
   on, so its weights are compared as a whole.  More bits are never worse, but
   for 1 %: a weight alone at its range's end is exact at 1 bit and off by the
   scale's rounding at 2.  mse is no worse than minmax. */
static void scaled_rows(const char *name, gm_scales rule,
                        const gm_factor *factor) {
    static gm_real w[OUT * IN], x[OUT * IN];
    static rounded now, plain, base[9];
    long bad = 0, moved = 0, far = 0, clipped = 0;
    draw(w);
    const int least = rule & GM_SYMMETRIC ? 2 : 1;
    for (int bits = least; bits <= 8; bits++)
        quantize(w, bits, rule, factor, &base[bits]);
    for (int k = FROM; k <= TO; k++) {
        double before = HUGE_VAL;
        for (long i = 0; i < OUT * IN; i++)
            x[i] = (gm_real)ldexp((double)w[i], k);
        for (int bits = least; bits <= 8; bits++) {
            quantize(x, bits, rule, factor, &now);
            moved += moved_rows(&now, &base[bits], k);
            quantize(x, bits, rule & GM_SYMMETRIC, NULL, &plain);
            bad += bad_scales(x, bits, rule, &plain);
            const double error = squares(x, now.q);
            CHECK(error <= before * 1.01, "%s, 2^%d: %g with %d bits, %g "
                  "with one less", name, k, error, bits, before);
            before = error;
            if (rule & GM_MSE && !factor)
                CHECK(error <= squares(x, plain.q) * (1 + 1e-12),
                      "%s, 2^%d, %d bits: minmax is better", name, k, bits);
            const bool plainly = !factor && !(rule & GM_MSE);
            for (long i = 0; i < OUT * IN && plainly; i++) {
                const uint16_t h = now.scales[i / IN * GROUPS + i % IN / GROUP];
                const double s = (double)gm_f16_to_f32(h);
                clipped += h == 0x7BFF;
                far += h != 0x7BFF &&
                       fabs((double)x[i] - (double)now.q[i]) > 1.501 * s;
            }
        }
    }
    CHECK(bad == 0, "%s: %ld scales out of bounds", name, bad);
    CHECK(moved == 0, "%s: %ld rows have other codes", name, moved);
    CHECK(far == 0, "%s: %ld errors above 1.5 scales", name, far);
    CHECK(rule || factor || clipped > 0, "%s: nothing overflowed", name);
}

/* Weights off by more than 1.5 steps of 256 levels between the ends of their
   row, each stored as far away as 2^-24 and 2^-11 of itself: half a step for
   the code, the zero and an end that is short each. */
static long far_from(const gm_real *w, const gm_real *q) {
    long far = 0;
    for (long row = 0; row < OUT; row++) {
        double lo = 0, hi = 0;
        for (long j = row * IN; j < (row + 1) * IN; j++) {
            lo = fmin(lo, (double)w[j]);
            hi = fmax(hi, (double)w[j]);
        }
        const double step = ((hi - lo) * (1 + 0x1p-11) + 0x1p-23) / 255;
        for (long j = row * IN; j < (row + 1) * IN; j++)
            far += fabs((double)w[j] - (double)q[j]) > 1.501 * step;
    }
    return far;
}

/* By BAQ, whose stored ranges are fp16 and end at 65504 for any bits. */
static void scaled_rows_baq(const gm_factor *factor) {
    static gm_real w[OUT * IN], x[OUT * IN], q[OUT * IN];
    static uint8_t code[OUT * IN], same[OUT * IN];
    int levels[IN];
    double loss[IN];
    long moved = 0, far = 0;
    gm_arena a = {0};
    draw(w);
    for (int k = FROM; k <= TO; k++) {
        double before = HUGE_VAL;
        for (long i = 0; i < OUT * IN; i++)
            x[i] = (gm_real)ldexp((double)w[i], k);
        for (int bits = 1; bits <= 8; bits++) {
            for (long j = 0; j < IN; j++) levels[j] = 1 << bits;
            gm_baq_round(&a, x, OUT, IN, factor, levels, q, code, loss);
            const double error = squares(x, q);
            CHECK(error <= before * 1.01, "BAQ, 2^%d: %g with %d bits, %g "
                  "with one less", k, error, bits, before);
            before = error;
            far += bits == 8 && k < 15 ? far_from(x, q) : 0;
            if (k < 0 || k > 14) continue;
            gm_baq_round(&a, w, OUT, IN, factor, levels, q, same, loss);
            moved += memcmp(code, same, sizeof code) != 0;
        }
    }
    CHECK(far == 0, "BAQ: %ld errors above 1.5 steps", far);
    CHECK(moved == 0, "BAQ: other codes at %ld k and bits", moved);
    gm_arena_free(&a);
}

static void scales(void) {
    static double H[IN * IN];
    gm_arena a = {0};
    gm_factor one, left, order;
    for (long i = 0; i < IN * IN; i++) {
        const long r = i / IN, c = i % IN;
        H[i] = r == c ? 1 + (double)(r % 7) : 0.3 / (double)(1 + labs(r - c));
    }
    gm_gptq_factor(&a, IN, H, 0.01, false, &left);
    gm_gptq_factor(&a, IN, H, 0.01, true, &order);
    for (long i = 0; i < IN * IN; i++) H[i] = i % (IN + 1) == 0;
    gm_gptq_factor(&a, IN, H, 0.01, false, &one);
    scaled_rows("minmax", GM_MINMAX, NULL);
    scaled_rows("mse", GM_MSE, NULL);
    scaled_rows("GPTQ", GM_MINMAX, &left);
    scaled_rows("GPTQ, mse, act-order", GM_MSE, &order);
    scaled_rows("symmetric", GM_SYMMETRIC, NULL);
    scaled_rows("symmetric, mse", GM_SYMMETRIC | GM_MSE, NULL);
    scaled_rows("symmetric, GPTQ", GM_SYMMETRIC, &left);
    scaled_rows("symmetric, GPTQ, act-order", GM_SYMMETRIC, &order);
    scaled_rows_baq(&one);
    gm_arena_free(&a);
}

/* The weights of linear j times 2^k in every block: in BF16 exact. */
static void scale_linear(gm_arena *a, gm_model *model, int j, int k) {
    for (long l = 0; l < model->config.layers; l++) {
        const gm_tensor *w = gm_linear_tensor(model, l, j);
        gm_tensor *t = model->tensors.tensor + (w - model->tensors.tensor);
        const long n = t->shape[0] * t->shape[1];
        gm_real *x = gm_alloc(a, (size_t)n, sizeof *x);
        uint8_t *data = gm_alloc(a, t->bytes, 1);
        gm_tensor_read(t, 0, n, x);
        for (long i = 0; i < n; i++) x[i] = (gm_real)ldexp((double)x[i], k);
        gm_store(GM_BF16, x, n, data);
        t->data = data;
        t->file = NULL;
    }
}

/* KL of tiny-llama with all modules at 8 bits (v at v_bits), its v times 2^-k
   and its o times 2^k: the same function. */
static double kl_scaled(int k, int v_bits) {
    enum { T = 32 };
    gm_arena a = {0};
    gm_model model;
    gm_recipe recipe;
    gm_candidates candidates;
    gm_head head;
    gm_measure m = {.kl = HUGE_VAL};
    int32_t tokens[T];
    int choice[8 * GM_LINEARS];
    const gm_sequences text = {tokens, 1, T};
    for (int i = 0; i < T; i++)
        tokens[i] = (int32_t)(gm_random(9, 1, (uint64_t)i) % 768);
    for (int i = 0; i < 8 * GM_LINEARS; i++)
        choice[i] = i % GM_LINEARS == GM_V && v_bits < 8 ? 0 : 1;
    gm_model_open(&a, "data/tiny-llama", &model);
    scale_linear(&a, &model, GM_V, -k);
    scale_linear(&a, &model, GM_O, k);
    gm_recipe_parse(v_bits < 8 ? "4,8" : "7,8", 64, &recipe);
    gm_candidates_open(&a, &model, &recipe, NULL, work, NULL, &candidates);
    gm_head_load(&a, &model, &head);
    const size_t n = (size_t)(T * model.config.d);
    gm_real *x = gm_alloc(&a, n, sizeof *x), *y = gm_alloc(&a, n, sizeof *y);
    gm_final_states(&a, &model, NULL, NULL, &text, NULL, x);
    gm_final_states(&a, &model, &candidates, choice, &text, NULL, y);
    gm_evaluate(&a, &head, &text, NULL, y, x, NULL, &m);
    gm_candidates_close(&candidates);
    gm_model_close(&model);
    gm_arena_free(&a);
    return m.kl;
}

/* Weights times 2^-16 with scales of 2^-24 are weights with scales of 2^-8: of
   v's, which reach 0.2, more than 4 bits' worth of steps. */
static void same_function(void) {
    const double whole = kl_scaled(0, 8), worse = kl_scaled(0, 4);
    CHECK(whole > 0 && whole < worse, "%g, with 4 bits %g", whole, worse);
    for (int k = 16; k >= -16; k -= 24) {
        const double kl = kl_scaled(k, 8);
        CHECK(kl < worse, "v times 2^%d: KL %g, v at 4 bits %g", -k, kl, worse);
        CHECK(abs(k) > 8 || kl < 2 * whole, "v times 2^%d: KL %g, not scaled "
              "%g", -k, kl, whole);
    }
}

/* ------------------------------------------------------- norms of tokens

   A row of y whose squared norm is no ordinary float: 0, too small, too large.
   Such a row weighs nothing, whatever the student makes of it. */

enum { ROWS = 12, D = 16, T = 4 };

static gm_loss_norm norm_now;

/* (4) in double from its definition, in `row` each row's part. */
static double loss_by_hand(const gm_real *h, const gm_real *y,
                           const gm_real *student, const bool *weightless,
                           double *row) {
    const bool update = norm_now == GM_NORM_UPDATE;
    double sum = 0, mean = 0;
    for (int t = 0; t < ROWS; t++)
        for (int i = 0; i < D && !weightless[t]; i++) {
            const double from = update ? (double)h[t * D + i] : 0;
            mean += pow((double)y[t * D + i] - from, 2) / ROWS;
        }
    for (int t = 0; t < ROWS; t++) {
        double own = 0, e = 0;
        for (int i = 0; i < D; i++) {
            own += pow((double)y[t * D + i], 2);
            e += pow((double)student[t * D + i] - (double)y[t * D + i], 2);
        }
        double x = e / (norm_now <= GM_NORM_ROBUST ? own
                        : norm_now == GM_NORM_PLAIN ? 1 : mean);
        if (norm_now == GM_NORM_ROBUST) x = log(1 + 10 * x) / 10;
        row[t] = weightless[t] ? 0 : t % T == 0 ? 3 * x : x;
        sum += row[t];
    }
    return sum / ROWS;
}

static double loss_of(const gm_real *h, const gm_real *y, const gm_real *s,
                      gm_real *d, double *row) {
    return gm_loss_block(&(gm_loss){norm_now, 3, ROWS, T, D, h, y, s, d, row});
}

/* Rows 0, 5 and 7 have such a norm: y = value everywhere; the student's error
   there is as large as y.  E, its parts and its gradient, by differences. */
static void weightless_rows(double value) {
    static gm_real h[ROWS * D], y[ROWS * D], s[ROWS * D], d[ROWS * D];
    static gm_real other[ROWS * D];
    double row[ROWS], expected[ROWS];
    bool weightless[ROWS] = {false};
    long far = 0, wrong = 0, moved = 0;
    for (int i = 0; i < ROWS * D; i++) {
        const int t = i / D;
        const bool at = t == 0 || t == 5 || t == 7;
        y[i] = (gm_real)(gm_uniform(7, 0, (uint64_t)i) - 0.5);
        h[i] = (gm_real)(gm_uniform(7, 1, (uint64_t)i) - 0.5);
        s[i] = y[i] + (gm_real)((gm_uniform(7, 2, (uint64_t)i) - 0.5) / 4);
        if (at) y[i] = (gm_real)value, s[i] = (gm_real)(2 * value);
        if (at && value == 0) s[i] = (gm_real)(i % 2);
        weightless[t] = at;
    }
    const double E = loss_of(h, y, s, d, row);
    const double sure = loss_by_hand(h, y, s, weightless, expected);
    CHECK(fabs(E - sure) <= 1e-6 * sure, "norm %d, %g: E %.9g, by hand %.9g",
          (int)norm_now, value, E, sure);
    for (int t = 0; t < ROWS; t++)
        wrong += fabs(row[t] - expected[t]) > 1e-6 * expected[t];
    for (int i = 0; i < ROWS * D; i++) {
        const gm_real keep = s[i], step = (gm_real)0x1p-8;
        double slope;
        if (weightless[i / D]) {
            moved += d[i] != 0;
            continue;
        }
        s[i] = keep + step;
        slope = loss_of(h, y, s, other, row);
        const double up = (double)s[i];
        s[i] = keep - step;
        slope -= loss_of(h, y, s, other, row);
        slope /= up - (double)s[i];
        s[i] = keep;
        /* robust's third derivative, with steps of 2^-8: 1e-3 of the largest */
        far += fabs(slope - (double)d[i]) > 1e-3 * fabs(slope) + 1e-4 * E;
    }
    CHECK(wrong == 0, "norm %d, %g: %ld rows", (int)norm_now, value, wrong);
    CHECK(moved == 0, "norm %d, %g: %ld gradients of such rows are not 0",
          (int)norm_now, value, moved);
    CHECK(far == 0, "norm %d, %g: %ld gradients depart from differences",
          (int)norm_now, value, far);
}

/* A block that changes nothing: D of `update` is 0 for every token. */
static void idle_block(void) {
    static gm_real y[ROWS * D], s[ROWS * D], d[ROWS * D];
    double row[ROWS];
    long wrong = 0;
    for (int i = 0; i < ROWS * D; i++) {
        y[i] = (gm_real)(gm_uniform(7, 3, (uint64_t)i) - 0.5);
        s[i] = y[i] + (gm_real)(i % 3);
    }
    norm_now = GM_NORM_UPDATE;
    const double E = loss_of(y, y, s, d, row);
    for (int i = 0; i < ROWS * D; i++) wrong += d[i] != 0;
    CHECK(E == 0 && wrong == 0, "E %g, %ld gradients", E, wrong);
}

static void seen(void *context, long l, int i, long n, const double *H) {
    long *bad = context, dead = 0;
    for (long a = 0; a < n; a++) {
        for (long b = 0; b <= a; b++) *bad += !isfinite(H[a * n + b]);
        dead += H[a * n + a] == 0;
    }
    CHECK(dead < n, "block %ld, input %d: nothing weighs", l, i);
}

/* GPTQ's inputs, where token 767 is that value in every dimension: marked are
   those that begin a sequence, alone or after others of their kind (of 1e-38
   the product that is down's input is 0); later in a sequence a zero is one in
   the first block's input. */
static void weightless_inputs(gm_hessian hessian, double value) {
    enum { S = 2, LONG = 12 };
    int32_t tokens[S * LONG];
    bool mark[S * LONG] = {false};
    gm_arena a = {0};
    gm_model model;
    long bad = 0;
    for (int i = 0; i < S * LONG; i++) tokens[i] = 20 + 7 * i;
    tokens[0] = tokens[1] = tokens[LONG] = tokens[LONG + 5] = 767;
    gm_model_open(&a, "data/tiny-llama", &model);
    const gm_tensor *e = gm_tensor_find(&model.tensors,
                                        "model.embed_tokens.weight");
    gm_tensor *t = model.tensors.tensor + (e - model.tensors.tensor);
    gm_real *x = gm_alloc(&a, t->bytes / 2, sizeof *x);
    uint8_t *data = gm_alloc(&a, t->bytes, 1);
    gm_tensor_read(t, 0, (long)t->bytes / 2, x);
    for (long i = 0; i < 128; i++) x[767 * 128 + i] = (gm_real)value;
    gm_store(GM_BF16, x, (long)t->bytes / 2, data);
    t->data = data;
    t->file = NULL;
    const gm_recipe recipe = {.quantizer = GM_GPTQ, .hessian = hessian,
                              .at_once = 1, .weightless = mark};
    gm_hessians(&a, &model, &recipe, &(gm_sequences){tokens, S, LONG}, seen,
                &bad);
    CHECK(bad == 0, "hessian %d, %g: %ld are not finite", (int)hessian, value,
          bad);
    for (int i = 0; i < S * LONG; i++)
        CHECK(mark[i] == (tokens[i] == 767 && value < 1 &&
                          (value == 0 || i != LONG + 5)),
              "hessian %d, %g: token %d", (int)hessian, value, i);
    gm_model_close(&model);
    gm_arena_free(&a);
}

static void tokens(void) {
    const double value[] = {0, 1e-44, 1e-40, 1e-22, 1e20, 1e30, 1e38};
    for (norm_now = 0; norm_now < GM_NORMS; norm_now++)
        for (size_t i = 0; i < sizeof value / sizeof *value; i++)
            weightless_rows(value[i]);
    idle_block();
    for (gm_hessian hessian = 0; hessian <= GM_ATTENTION; hessian++) {
        weightless_inputs(hessian, 0);
        weightless_inputs(hessian, 1);
        weightless_inputs(hessian, 1e-38);
    }
}

static int test_main(void) {
    tokens();
    scales();
    same_function();
    return test_end("test_extremes");
}

TEST_MAIN(test_main())
