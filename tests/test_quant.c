/* test_quant.c: RTN against numpy (equal codes, scales, zeros), packing
   against a bit-by-bit reader, sizes against hand-counted bytes, mixtures and
   inner products against their definitions.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats/formats.h"
#include "gamma.h"
#include "test.h"
#include "vec.h"

#include <math.h>

static const char rtn_vec[] = "tests/golden/rtn.vec";

/* Bit i of code j of b bits, read one bit at a time: the layout's definition,
   least significant bit first. */
static int read_code(const uint8_t *stream, long j, int bits) {
    int code = 0;
    for (int i = 0; i < bits; i++) {
        long at = j * bits + i;
        code |= (stream[at / 8] >> (at % 8) & 1) << i;
    }
    return code;
}

typedef struct {
    gm_packed packed;
    uint8_t *codes, *zeros;
    uint16_t *scales;
} made;

static made make(gm_arena *a, const gm_real *w, long out, long in, int bits,
                 long group, gm_scales rule) {
    gm_parts p = gm_packed_parts(out, in, bits, group);
    made m = {.codes = gm_alloc(a, (size_t)p.codes, 1),
              .zeros = gm_alloc(a, (size_t)p.zeros, 1),
              .scales = gm_alloc(a, (size_t)p.scales, 1)};
    m.packed = (gm_packed){bits, out, in, group, m.codes, (uint8_t *)m.scales,
                           m.zeros, NULL, 0};
    gm_quantize(a, w, rule, NULL, &m.packed);
    return m;
}

static gm_real *reals(gm_arena *a, const gm_vec *v) {
    gm_real *x = gm_alloc(a, (size_t)v->count, sizeof *x);
    for (long i = 0; i < v->count; i++) x[i] = (gm_real)v->f[i];
    return x;
}

static gm_vec record(const char *set, const char *what, int bits,
                     gm_scales rule) {
    char name[64];
    snprintf(name, sizeof name, bits ? "%s.%s%s%d" : "%s.%s", set, what,
             rule & GM_BF16_SCALE ? "m" : rule & GM_BIAS ? "h" : rule ? "s" : "",
             bits);
    return vec_read(rtn_vec, name);
}

/* Symmetric grids (names with s) from 2 bits on; h, m: grids of a runtime with
   biases. */
static void rtn_equals_numpy(const char *set, gm_scales rule) {
    gm_arena a = {0};
    gm_vec vw = record(set, "w", 0, 0), vg = record(set, "group", 0, 0);
    long out = vw.dim[0], in = vw.dim[1], group = vg.i[0];
    long groups = (in + group - 1) / group;
    gm_real *w = reals(&a, &vw);
    for (int bits = rule & GM_SYMMETRIC ? 2 : 1; bits <= 8; bits++) {
        made m = make(&a, w, out, in, bits, group, rule);
        gm_vec codes = record(set, "codes", bits, rule),
               scales = record(set, "scales", bits, rule),
               zeros = record(set, "zeros", bits, rule);
        long wrong = 0, row_bytes = (in * bits + 7) / 8;
        long zero_bytes = (groups * bits + 7) / 8;
        for (long i = 0; i < out; i++) {
            for (long j = 0; j < in; j++)
                wrong += read_code(m.codes + i * row_bytes, j, bits) !=
                         codes.i[i * in + j];
            for (long g = 0; g < groups; g++) {
                wrong += m.scales[i * groups + g] != scales.i[i * groups + g];
                wrong += read_code(m.zeros + i * zero_bytes, g, bits) !=
                         zeros.i[i * groups + g];
            }
        }
        CHECK(wrong == 0, "set %s, rule %d, %d bits: %ld codes, scales or "
              "zeros differ from numpy's", set, (int)rule, bits, wrong);
        if (bits == 1 || bits == 4) {
            gm_vec vq = record(set, "q", bits, rule);
            gm_real *q = gm_alloc(&a, (size_t)(out * in), sizeof *q);
            CHECK(STATUS(gm_dequantize(&m.packed, q)) == GM_OK, "dequantize");
            long differ = 0;
            for (long i = 0; i < out * in; i++)
                differ += q[i] != (gm_real)vq.f[i];
            CHECK(differ == 0, "set %s, %d bits: %ld values differ from "
                  "numpy's", set, bits, differ);
            vec_free(&vq);
        }
        vec_free(&codes), vec_free(&scales), vec_free(&zeros);
    }
    vec_free(&vw), vec_free(&vg);
    gm_arena_free(&a);
}

/* SmolLM2's down projection by hand: 576 rows of 1536 columns, 3 bits, groups
   of 128: 576 bytes of codes, 12 scales of 2 bytes and ceil(36/8) = 5 bytes of
   zeros in each row.  With 576 columns the last of 5 groups is ragged. */
static void sizes_by_hand(void) {
    CHECK(gm_packed_bytes(576, 1536, 3, 128) == 576 * (576 + 24 + 5),
          "found %lld", (long long)gm_packed_bytes(576, 1536, 3, 128));
    CHECK(gm_packed_bytes(192, 576, 3, 128) == 192 * (216 + 10 + 2),
          "found %lld", (long long)gm_packed_bytes(192, 576, 3, 128));
    CHECK(gm_packed_bytes(7, 9, 16, 128) == 7 * 9 * 2, "16 bits: as stored");
    CHECK(gm_packed_bytes(7, 9, 32, 128) == 7 * 9 * 4, "32 bits: as stored");
    CHECK(gm_packed_bytes(1, 1, 1, 1) == 4, "1 bit: 1 + 2 + 1 bytes");
    /* Llama-3.1-405B's gate at 8 bits is beyond 32-bit sums */
    CHECK(gm_packed_bytes(53248, 16384, 8, 128) ==
              53248LL * (16384 + 256 + 128), "no 32-bit overflow");
}

/* Wide rows cross strip boundaries (512 columns) inside groups; the values
   must be scale (code - zero) by the bit-by-bit reader. */
static void strips_join(long in, long group, int bits) {
    gm_arena a = {0};
    long out = 3, groups = (in + group - 1) / group;
    gm_real *w = gm_alloc(&a, (size_t)(out * in), sizeof *w);
    gm_real *q = gm_alloc(&a, (size_t)(out * in), sizeof *q);
    for (long i = 0; i < out * in; i++)
        w[i] = (gm_real)(gm_uniform(3, 0, (uint64_t)i) - 0.4);
    made m = make(&a, w, out, in, bits, group, GM_MINMAX);
    CHECK(STATUS(gm_dequantize(&m.packed, q)) == GM_OK, "dequantize");
    long wrong = 0;
    double worst = 0;
    for (long i = 0; i < out; i++)
        for (long j = 0; j < in; j++) {
            long g = j / group, row = (in * bits + 7) / 8;
            int z = read_code(m.zeros + i * ((groups * bits + 7) / 8), g, bits);
            int c = read_code(m.codes + i * row, j, bits);
            float s = gm_f16_to_f32(m.scales[i * groups + g]);
            wrong += q[i * in + j] != (gm_real)((float)(c - z) * s);
            double e = fabs((double)q[i * in + j] - (double)w[i * in + j]) / s;
            double rounding = fmax(0x1p-11, 0x1p-25 / s);
            double bound = 0.5 + ldexp(1, bits) * rounding + 1e-3;
            worst = fmax(worst, e / bound);
        }
    CHECK(wrong == 0, "in %ld, group %ld, %d bits: %ld wrong", in, group, bits,
          wrong);
    /* Off the ends of the range the error is half a step.  At the upper end,
       with r the fp16 rounding of the scale (2^-11 relative, 2^-25 absolute
       when subnormal), code 2^b - 1 misses hi by at most the zero's rounding
       (half a step) plus 2^b r steps. */
    CHECK(worst <= 1, "error is %g times its bound", worst);
    gm_arena_free(&a);
}

/* sum (w - q)^2 on the grid of the range shrunk by r / 100. */
static long double shrunk(const gm_real *w, long n, int bits, bool symmetric,
                          int r, uint16_t *scale, int *zero) {
    float lo = 0, hi = 0, top = (float)((1 << bits) - 1);
    for (long i = 0; i < n; i++)
        lo = fminf(lo, (float)w[i]), hi = fmaxf(hi, (float)w[i]);
    if (symmetric) hi = fmaxf(hi, -lo), lo = -hi;
    lo = lo * (float)r / 100, hi = hi * (float)r / 100;
    *scale = gm_f32_to_f16((hi - lo) / top);
    if (*scale == 0) *scale = gm_f32_to_f16(1);
    float s = gm_f16_to_f32(*scale), z = fminf(rintf(-lo / s), top);
    if (symmetric) z = ldexpf(1, bits - 1);
    long double sum = 0;
    for (long i = 0; i < n; i++) {
        float q = fminf(fmaxf(rintf((float)w[i] / s) + z, 0), top) - z;
        float e = (float)w[i] - q * s;
        sum += (long double)e * e;
    }
    *zero = (int)z;
    return sum;
}

/* --scales mse: each group has the first grid of 100, 99, ..., 21 % of its
   range whose error is the least; sums that differ by less than the rounding
   of 64 double sums are equal.  Ranges cut deep, by one weight far out. */
static void searched_grids(int bits, bool symmetric) {
    enum { OUT = 40, IN = 150, GROUP = 64, GROUPS = 3 };
    static gm_real w[OUT * IN];
    static uint8_t codes[OUT * IN], zeros[OUT * GROUPS];
    static uint16_t scales[OUT * GROUPS];
    long wrong = 0, deep = 0, whole = 0;
    for (long i = 0; i < OUT * IN; i++) {
        w[i] = (gm_real)(gm_uniform(9, 0, (uint64_t)i) - 0.5);
        if (i % 70 == 3) w[i] *= (gm_real)(i % 7);
    }
    gm_packed packed = {bits, OUT, IN, GROUP, codes, (uint8_t *)scales, zeros,
                        NULL, 0};
    gm_arena a = {0};
    gm_quantize(&a, w, symmetric ? GM_MSE | GM_SYMMETRIC : GM_MSE, NULL,
                &packed);
    gm_arena_free(&a);
    for (long i = 0; i < OUT; i++)
        for (long g = 0; g < GROUPS; g++) {
            const gm_real *x = w + i * IN + g * GROUP;
            long n = g < GROUPS - 1 ? GROUP : IN - g * GROUP;
            uint16_t found = scales[i * GROUPS + g], scale;
            int zero, z = read_code(zeros + i * ((GROUPS * bits + 7) / 8), g,
                                    bits);
            long double least = shrunk(x, n, bits, symmetric, 100, &scale,
                                       &zero), mine;
            mine = scale == found && zero == z ? least : -1;
            int best = 100;
            for (int r = 99; r > 20; r--) {
                long double e = shrunk(x, n, bits, symmetric, r, &scale, &zero);
                if (e < least * (1 - 64 * 0x1p-52)) least = e, best = r;
                if (mine < 0 && scale == found && zero == z) mine = e;
            }
            wrong += mine < 0 || mine > least * (1 + 64 * 0x1p-52);
            deep += best < 40, whole += best == 100;
        }
    CHECK(wrong == 0, "%d bits, symmetric %d: %ld groups have another grid",
          bits, symmetric, wrong);
    CHECK(bits > 1 || deep > 0, "no range was cut deep");
    CHECK(bits < 8 || whole > 0, "no range was left as it is");
}

/* W~ = sum p_k Q_k and g_k = <G, Q_k>, against sums written out in double. */
static void mixture_and_inner(void) {
    gm_arena a = {0};
    enum { K = 3, OUT = 33, IN = 1100 };
    gm_real *w = gm_alloc(&a, OUT * IN, sizeof *w);
    gm_real *mixed = gm_alloc(&a, OUT * IN, sizeof *mixed);
    gm_real *G = gm_alloc(&a, OUT * IN, sizeof *G);
    gm_real *q = gm_alloc(&a, OUT * IN, sizeof *q);
    double p[K] = {0.2, 0.5, 0.3}, g[K];
    double *sum = gm_alloc(&a, OUT * IN, sizeof *sum);
    gm_offer offer = {.count = K};
    for (long i = 0; i < OUT * IN; i++) {
        w[i] = (gm_real)(gm_uniform(5, 0, (uint64_t)i) - 0.5);
        G[i] = (gm_real)(gm_uniform(5, 1, (uint64_t)i) - 0.5);
    }
    for (int k = 0; k < K; k++) {
        offer.packed[k] = make(&a, w, OUT, IN, k + 2, 128, GM_MINMAX).packed;
        offer.k[k] = k;
    }
    CHECK(STATUS(gm_mix(&offer, p, mixed)) == GM_OK, "mix");
    CHECK(STATUS(gm_inner(&a, &offer, G, g)) == GM_OK, "inner");
    for (int k = 0; k < K; k++) {
        double expected = 0, size = 0;
        STATUS(gm_dequantize(offer.packed + k, q));
        for (long i = 0; i < OUT * IN; i++) {
            sum[i] += p[k] * (double)q[i];
            expected += (double)G[i] * (double)q[i];
            size += fabs((double)G[i] * (double)q[i]);
        }
        /* double sums of 36,300 terms: n eps sum|terms| is a sure bound */
        CHECK(fabs(g[k] - expected) <= OUT * IN * 2.3e-16 * size,
              "g_%d = %.17g, expected %.17g", k, g[k], expected);
    }
    double worst = 0;
    for (long i = 0; i < OUT * IN; i++)
        worst = fmax(worst, fabs((double)mixed[i] - sum[i]));
    /* p_k to float, K products and K sums: 2 K + 1 roundings of values < 0.6 */
    CHECK(worst <= (2 * K + 1) * 6e-8 * 0.6, "mixture off by %g", worst);
    gm_arena_free(&a);
}

static void recipes(void) {
    gm_recipe r;
    char text[GM_RECIPE_TEXT];
    CHECK(STATUS(gm_recipe_parse("2,3,4,16", 64, &r)) == GM_OK, "%s", err.text);
    gm_recipe_text(&r, text);
    CHECK_TEXT(text, "rtn bits=2,3,4,16 group=64");
    const char *bad[] = {"", "9", "2,,3", "2;3", "2,3,", "x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char expected[160];
        snprintf(expected, sizeof expected, "--bits: expected an ascending list "
                 "of 1..8, 16 or 32 such as 2,3,4, found \"%s\"", bad[i]);
        CHECK(STATUS(gm_recipe_parse(bad[i], 64, &r)) == GM_EUSAGE, "%s", bad[i]);
        CHECK_TEXT(err.text, expected);
    }
    CHECK(STATUS(gm_recipe_parse("3,2", 64, &r)) == GM_EUSAGE, "descending");
    CHECK_TEXT(err.text, "--bits: expected an ascending list of 1..8, 16 or "
               "32 such as 2,3,4, found \"3,2\"");
    CHECK(STATUS(gm_recipe_read("external bits=2 group=1 x", &r)) == GM_EINPUT,
          "a word after external");
    CHECK_TEXT(err.text, "candidates: expected nothing after group=, found "
               "\"x\"");
    CHECK(STATUS(gm_recipe_read("external bits=2 group=1 symmetric", &r)) ==
              GM_EINPUT, "another tool's candidates are as they are");
    CHECK(STATUS(gm_recipe_read("rtn bits=1,2 group=1 symmetric", &r)) ==
              GM_EUSAGE, "1 bit");
    CHECK_TEXT(err.text, "--symmetric: expected 2 bits or more, found 1, whose "
               "only values would be 0 and -2 max |w|");
}

/* A step between BF16's largest scale that fp16 has, 65280, and fp16's: a zero
   from the step itself, 127.4 of them below 0. */
static void widest_scale(void) {
    const float step = 65400, below = -127.4f * step;
    const gm_real w[2] = {below, 255 * step + below};
    gm_arena a = {0};
    made m = make(&a, w, 1, 2, 8, 2, GM_BF16_SCALE);
    CHECK(gm_f16_to_f32(*m.scales) == 65280 && *m.zeros == 127,
          "scale %g, zero %d", (double)gm_f16_to_f32(*m.scales), *m.zeros);
    gm_arena_free(&a);
}

static int test_main(void) {
    widest_scale();
    for (int symmetric = 0; symmetric <= 1; symmetric++) {
        const gm_scales rule = symmetric ? GM_SYMMETRIC : GM_MINMAX;
        rtn_equals_numpy("a", rule);
        rtn_equals_numpy("b", rule);
        rtn_equals_numpy("c", rule);
        const gm_scales bias = symmetric ? GM_BIAS : GM_BIAS | GM_BF16_SCALE;
        rtn_equals_numpy("a", bias);
        rtn_equals_numpy("c", bias);
    }
    sizes_by_hand();
    for (int bits = 1; bits <= 8; bits++) {
        strips_join(1100, 100, bits);
        strips_join(1536, 512, bits);
        strips_join(700, 1, bits);
    }
    for (int bits = 1; bits <= 8; bits++) searched_grids(bits, false);
    for (int bits = 2; bits <= 8; bits++) searched_grids(bits, true);
    mixture_and_inner();
    recipes();
    return test_end("test_quant");
}

TEST_MAIN(test_main())
