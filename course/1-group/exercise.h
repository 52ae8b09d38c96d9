/* exercise.h: what lesson 1 asks for.  A group is n weights that share one
   scale and one zero; b bits are the codes 0 .. 2^b - 1.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "course.h"

/* lo = min(0, smallest w), hi = max(0, largest w),
   step = (hi - lo) / (2^b - 1);
   *scale = fp16(step), 1 where that is 0;
   *zero = round(-lo / scale), at most 2^b - 1. */
void find_grid(const double *w, long n, int bits, double *scale, int *zero);

/* code[i] = round(w[i] / scale) + zero, but at least 0, at most 2^b - 1.  Ties
   go to the even number: rint() rounds so, round() does not. */
void encode(const double *w, long n, int bits, double scale, int zero,
            int *code);

/* sum_i (w[i] - q[i])^2, with the values q[i] = scale (code[i] - zero). */
double squared_error(const double *w, const int *code, long n, double scale,
                     int zero);
