/* exercise.h: what lesson 8 asks for.  Points (bytes, kl), one of a method, in
   any order; kl of the same n windows of text for two methods a and b.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "course.h"

/* keep[i] = 0 where some other point is no larger and no worse, and smaller or
   better (or both); else 1. */
void pareto(long n, const double *bytes, const double *kl, int *keep);

/* What uniform bits would reach at `at` bytes: ln kl on the straight line
   between the two uniform models next to it in bytes.  NAN where `at` lies
   beyond all of them: nothing was measured there. */
double uniform_at(long n, const double *bytes, const double *kl, double at);

/* b_i - a_i over the windows: its mean, and the standard error of that
   (lesson 5). */
void paired(long n, const double *a, const double *b, double *mean,
            double *error);

/* 1: a is better, its kl lower by more than two standard errors of the paired
   difference; -1: b is; 0: these windows do not say. */
int verdict(long n, const double *a, const double *b);
