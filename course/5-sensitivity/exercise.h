/* exercise.h: what lesson 5 asks for.  M modules, K candidates each.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "course.h"

/* (1/R) sum_t ||y_t - h_t||^2 / ||h_t||^2: h [R, d] the original block's
   outputs, y those with quantized weights.  A row whose h_t is 0 adds nothing,
   but counts among the R. */
double block_error(const double *h, const double *y, long R, long d);

/* loss(context, choice) is the error with candidate choice[m], 0 .. K-1, in
   each module m; -1 is the original weight.  S[m * K + k]: the error with
   candidate k in module m and everything else original. */
void separable(double (*loss)(void *context, const int *choice), void *context,
               long M, int K, double *S);

/* loss of `choice`, divided by what the separable errors S [M, K] predict:
   their sum over the modules.  A module left original (-1) predicts 0. */
double joint_ratio(double (*loss)(void *context, const int *choice),
                   void *context, long M, int K, const double *S,
                   const int *choice);

/* *mean of x [n], and the standard error of that mean:
   sqrt(sum_i (x_i - mean)^2 / (n - 1) / n). */
void mean_and_error(const double *x, long n, double *mean, double *error);
