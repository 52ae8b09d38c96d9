/* exercise.h: what lesson 2 asks for.  W [out, in] is kept row after row: W_ij
   is W[i * in + j].  Each row is cut into groups of `group` neighbours; the
   last group has what is left.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "course.h"

/* Q [out, in]: every group of every row rounded by itself, with
   round_group(w, n, bits, q) of course.h. */
void quantize_layer(const double *W, long out, long in, int bits, long group,
                    double *Q);

/* Codes of `bits` bits, each row padded to a whole byte; a scale of 2 bytes for
   each group; zeros of `bits` bits, each row of them padded to a whole byte. */
long stored_bytes(long out, long in, int bits, long group);

/* (1/T) sum_t ||(W - Q) x_t||^2 / ||W x_t||^2 for the inputs x_t, the rows of
   X [T, in]: the mean over the tokens of each token's relative error.  No
   W x_t is 0. */
double output_error(const double *W, const double *Q, long out, long in,
                    const double *X, long T);
