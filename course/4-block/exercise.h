/* exercise.h: what lesson 4 asks for.  E is any number that depends on y;
   d_y = dE/dy is given, d_x = dE/dx is wanted.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "course.h"

/* (f(x with x_i + h) - f(x with x_i - h)) / (2 h), the central difference.  x
   [n] is afterwards as it was, to the last bit. */
double slope(double (*f)(void *context, const double *x), void *context,
             double *x, long i, double h);

/* y = W x for each of the R rows of x [R, in]; W [out, in], d_y [R, out].
   d_x [R, in] is set; dE/dW is ADDED to what d_W [out, in] holds. */
void linear_backward(const double *W, long out, long in, const double *x,
                     long R, const double *d_y, double *d_x, double *d_W);

/* a_i = g_i s(g_i) u_i, s(g) = 1 / (1 + exp(-g)), i < n. */
void swiglu_backward(const double *g, const double *u, long n,
                     const double *d_a, double *d_g, double *d_u);

/* y_i = w_i x_i / r,  r = sqrt((1/n) sum_k x_k^2 + eps), of one row x [n]. */
void norm_backward(const double *x, const double *w, long n, double eps,
                   const double *d_y, double *d_x, double *d_w);
