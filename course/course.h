/* course.h: what every exercise may use: numbers as fp16 keeps them, and the
   whole of gamma.h.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef COURSE_H
#define COURSE_H

#include "gamma.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The fp16 number nearest to x. */
static inline double fp16(double x) {
    return gm_f16_to_f32(gm_f32_to_f16((float)x));
}

/* Lesson 1's work: q[i] = scale (code[i] - zero) of one group w of n. */
static inline void round_group(const double *w, long n, int bits, double *q) {
    gm_arena a = {0};
    float *x = gm_alloc(&a, (size_t)n, sizeof *x);
    gm_packed p = gm_packed_at(1, n, bits, n, gm_alloc(
        &a, (size_t)gm_packed_bytes(1, n, bits, n), 1));
    for (long i = 0; i < n; i++) x[i] = (float)w[i];
    gm_quantize(&a, x, GM_MINMAX, NULL, &p);
    gm_dequantize(&p, x);
    for (long i = 0; i < n; i++) q[i] = x[i];
    gm_arena_free(&a);
}

#endif
