/* lesson.c: the cases of lesson 2, and their answers by the library.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "check.h"
#include "2-layer/exercise.h"

/* The whole layer at once, as the library quantizes it. */
static void right_layer(const double *W, long out, long in, int bits,
                        long group, double *Q) {
    gm_arena a = {0};
    float *x = gm_alloc(&a, (size_t)(out * in), sizeof *x);
    gm_packed p = gm_packed_at(out, in, bits, group, gm_alloc(
        &a, (size_t)gm_packed_bytes(out, in, bits, group), 1));
    for (long i = 0; i < out * in; i++) x[i] = (float)W[i];
    gm_quantize(&a, x, GM_MINMAX, NULL, &p);
    gm_dequantize(&p, x);
    for (long i = 0; i < out * in; i++) Q[i] = x[i];
    gm_arena_free(&a);
}

static long right_bytes(long out, long in, int bits, long group) {
    return (long)gm_packed_bytes(out, in, bits, group);
}

/* Outputs of W and of Q apart, then their difference. */
static double right_error(const double *W, const double *Q, long out, long in,
                          const double *X, long T) {
    double mean = 0;
    for (long t = 0; t < T; t++) {
        double far = 0, norm = 0;
        for (long i = 0; i < out; i++) {
            double y = 0, z = 0;
            for (long j = in - 1; j >= 0; j--) {
                y += W[i * in + j] * X[t * in + j];
                z += Q[i * in + j] * X[t * in + j];
            }
            far += (y - z) * (y - z), norm += y * y;
        }
        mean += far / (norm * (double)T);
    }
    return mean;
}

/* ------------------------------------------------------------------- cases */

static void make_shape(task *t) {
    give_one(t, "out", (double)draw_between(t, 1, 12));
    give_one(t, "in", (double)draw_between(t, 3, 40));
    give_one(t, "bits", (double)draw_between(t, 2, 5));
    give_one(t, "group", (double)draw_between(t, 2, 17));
}

static void make_layer(task *t) {
    make_shape(t);
    const long n = (long)(number(t, "out") * number(t, "in"));
    double *W = give(t, "W", n);
    for (long i = 0; i < n; i++) W[i] = (float)draw_normal(t);
}

static void make_sizes(task *t) {
    give_one(t, "out", (double)draw_between(t, 1, 5000));
    give_one(t, "in", (double)draw_between(t, 30, 5000));
    give_one(t, "bits", (double)draw_between(t, 1, 8));
    give_one(t, "group", (double)(1 << draw_between(t, 3, 8)));
}

/* Tokens of very different size, as in a model. */
static void make_error(task *t) {
    make_layer(t);
    const long out = (long)number(t, "out"), in = (long)number(t, "in");
    const long T = draw_between(t, 2, 8);
    double *Q = give(t, "Q", out * in);
    right_layer(t->in[4].x, out, in, (int)number(t, "bits"),
                (long)number(t, "group"), Q);
    double *X = give(t, "X", T * in);
    give_one(t, "T", (double)T);
    for (long i = 0; i < T; i++) {
        const double size = exp(3 * draw_normal(t));
        for (long j = 0; j < in; j++) X[i * in + j] = size * draw_normal(t);
    }
}

static void call_layer(function *f, task *t) {
    const long out = (long)number(t, "out"), in = (long)number(t, "in");
    ((typeof(quantize_layer) *)f)(given(t, "W"), out, in,
                                  (int)number(t, "bits"),
                                  (long)number(t, "group"),
                                  wanted("Q", out * in));
}

static void call_bytes(function *f, task *t) {
    answer("bytes", (double)((typeof(stored_bytes) *)f)(
        (long)number(t, "out"), (long)number(t, "in"), (int)number(t, "bits"),
        (long)number(t, "group")));
}

static void call_error(function *f, task *t) {
    answer("error", ((typeof(output_error) *)f)(
        given(t, "W"), given(t, "Q"), (long)number(t, "out"),
        (long)number(t, "in"), given(t, "X"), (long)number(t, "T")));
}

const lesson the_lesson = {"Lesson 2: a layer", 3, {
    {"quantize_layer", "the values of a whole matrix", 3, 1e-6, make_layer,
     call_layer, (function *)right_layer},
    {"stored_bytes", "its size", 3, 0, make_sizes, call_bytes,
     (function *)right_bytes},
    {"output_error", "what it does to the outputs", 4, 1e-6, make_error,
     call_error, (function *)right_error}}};
