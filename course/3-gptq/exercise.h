/* exercise.h: what lesson 3 asks for.  One row w of a weight, n columns;
   matrices are kept row after row: H_ij is H[i * n + j].
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "course.h"

/* H [n, n] = (2/T) sum_t x_t x_t^T, x_t the rows of X [T, n]; then `damping`
   times the mean of H's diagonal is added to each number of the diagonal. */
void hessian(const double *X, long T, long n, double damping, double *H);

/* Optimal brain surgeon: weight p becomes q, and the others move so that
   e H e^T, with e = w - moved, is as small as it can be.  A = H^-1.  moved [n]
   gets all weights; what is returned is that e H e^T. */
double surgeon(const double *A, long n, long p, double q, const double *w,
               double *moved);

/* GPTQ: codes of w, column after column, on a grid given by scale and zero:
   code_j = round(w_j / scale) + zero, at least 0, at most 2^b - 1, of w_j as it
   is by then; e_j = (w_j - q_j) / U_jj; then w_t -= e_j U_jt for t > j.
   U is upper triangular, U^T U = H^-1. */
void gptq_row(const double *U, long n, int bits, double scale, int zero,
              const double *w, int *code);
