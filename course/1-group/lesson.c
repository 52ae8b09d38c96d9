/* lesson.c: the cases of lesson 1, and their answers by the library.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "check.h"
#include "1-group/exercise.h"

/* ---------------------------------------------- the answers, by gm_quantize */

/* The library's scale, zero and codes of one group. */
static void quantize(const double *w, long n, int bits, double *scale,
                     int *zero, int *code) {
    gm_arena a = {0};
    float *x = gm_alloc(&a, (size_t)n, sizeof *x);
    uint8_t *z = gm_alloc(&a, 1, 1), *c = gm_alloc(&a, (size_t)n, 1);
    for (long i = 0; i < n; i++) x[i] = (float)w[i];
    gm_packed p = gm_packed_at(1, n, bits, n, gm_alloc(
        &a, (size_t)gm_packed_bytes(1, n, bits, n), 1));
    gm_quantize(&a, x, GM_MINMAX, NULL, &p);
    gm_unpack(p.codes, n, bits, c);
    gm_unpack(p.zeros, 1, bits, z);
    if (scale) *scale = gm_f16_to_f32((uint16_t)(p.scales[0] |
                                                 p.scales[1] << 8));
    if (zero) *zero = *z;
    for (long i = 0; i < n && code; i++) code[i] = c[i];
    gm_arena_free(&a);
}

static void right_grid(const double *w, long n, int bits, double *scale,
                       int *zero) {
    quantize(w, n, bits, scale, zero, NULL);
}

/* Of the grid of the weights themselves; else, where a case is about weights
   beyond the grid, by looking at every code. */
static void right_codes(const double *w, long n, int bits, double scale,
                        int zero, int *code) {
    double own;
    int z;
    quantize(w, n, bits, &own, &z, code);
    if (own == scale && z == zero) return;
    for (long i = 0; i < n; i++) {
        code[i] = 0;
        for (int k = 1; k < 1 << bits; k++) {
            const double best = fabs(w[i] / scale - (code[i] - zero));
            const double now = fabs(w[i] / scale - (k - zero));
            if (now < best || (now == best && (k - zero) % 2 == 0)) code[i] = k;
        }
    }
}

static double right_error(const double *w, const int *code, long n,
                          double scale, int zero) {
    double ww = 0, wc = 0, cc = 0;      /* the square, multiplied out */
    for (long i = 0; i < n; i++) {
        const double c = code[i] - zero;
        ww += w[i] * w[i], wc += w[i] * c, cc += c * c;
    }
    return ww - 2 * scale * wc + scale * scale * cc;
}

/* ------------------------------------------------------------------- cases */

/* Weights of one sign, of both, all zero, with one far out. */
static void make_grid(task *t) {
    const long n = draw_between(t, 1, 40), kind = (long)(t->seed % 6);
    const double size = exp(4 * draw(t) - 3);
    double *w = give(t, "w", n);
    for (long i = 0; i < n; i++) {
        w[i] = size * draw_normal(t);
        if (kind == 1) w[i] = fabs(w[i]);
        if (kind == 2) w[i] = -fabs(w[i]);
        if (kind == 3 && i == n / 2) w[i] *= 20;
        if (kind == 4) w[i] = 0;
        w[i] = (float)w[i];
    }
    give_one(t, "bits", (double)draw_between(t, 1, 8));
}

/* The same weights on their grid; or on one that is half as wide, where some
   lie beyond; multiples of scale/2 have ties. */
static void make_codes(task *t) {
    double scale;
    int zero;
    make_grid(t);
    double *w = t->in[0].x;
    const long n = t->in[0].n, kind = (long)(t->seed % 3);
    const int bits = (int)number(t, "bits");
    quantize(w, n, bits, &scale, &zero, NULL);
    if (kind == 1) scale = fp16(scale / 2);
    if (kind == 2) scale = exp2(floor(log2(scale)));
    for (long i = 0; i < n; i++) {
        if (kind == 2) w[i] = rint(2 * w[i] / scale) * scale / 2;
        const double x = w[i] / scale, part = fabs(x - floor(x) - 0.5);
        t->unfair |= part > 0 && part < 1e-4;
    }
    give_one(t, "scale", scale);
    give_one(t, "zero", zero);
}

static void make_error(task *t) {
    make_codes(t);
    double *code = give(t, "code", t->in[0].n);
    for (long i = 0; i < t->in[0].n; i++)
        code[i] = (double)draw_between(
            t, 0, (1L << (int)number(t, "bits")) - 1);
}

static void call_grid(function *f, task *t) {
    const double *w = given(t, "w");
    double *scale = wanted("scale", 1);
    ((typeof(find_grid) *)f)(w, count_of(t, "w"), (int)number(t, "bits"), scale,
                             wanted_ints("zero", 1));
}

static void call_encode(function *f, task *t) {
    const long n = count_of(t, "w");
    ((typeof(encode) *)f)(given(t, "w"), n, (int)number(t, "bits"),
                          number(t, "scale"), (int)number(t, "zero"),
                          wanted_ints("code", n));
}

static void call_error(function *f, task *t) {
    answer("error", ((typeof(squared_error) *)f)(
        given(t, "w"), given_ints(t, "code"), count_of(t, "w"),
        number(t, "scale"), (int)number(t, "zero")));
}

const lesson the_lesson = {"Lesson 1: one group by hand", 3, {
    {"find_grid", "scale and zero of a group", 4, 1e-6, make_grid, call_grid,
     (function *)right_grid},
    {"encode", "the codes of its weights", 4, 0, make_codes, call_encode,
     (function *)right_codes},
    {"squared_error", "what rounding lost", 2, 1e-6, make_error, call_error,
     (function *)right_error}}};
