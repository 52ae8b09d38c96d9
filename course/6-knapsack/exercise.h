/* exercise.h: what lesson 6 asks for.  M modules, K candidates each, fewest
   bits first: size[m * K + k] bytes, rising with k; score[m * K + k], lower is
   better.  All are whole numbers; sums fit an int.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "course.h"

/* All modules begin at candidate 0.  Then, again and again, of all single steps
   from a module's candidate k to k + 1 that still fit the budget, the one that
   lowers the score most for each byte that it adds; of equal ones the first
   module's; until no step fits.  Steps may raise the score.  choice [M]. */
void greedy(long M, int K, const int *size, const int *score, int budget,
            int *choice);

/* The least score of any choice of at most `budget` bytes, by a table over
   bytes and modules; INT32_MAX where nothing fits.  choice [M]: what gives it
   (there is only one in the cases here). */
int knapsack(long M, int K, const int *size, const int *score, int budget,
             int *choice);

/* L(lambda) = sum_m min_k (score_mk + lambda size_mk) - lambda budget. */
double lower_bound(long M, int K, const int *size, const int *score, int budget,
                   double lambda);

/* -1: choice exceeds the budget.  1: lambda proves it optimal, for scores are
   whole and its score - 1 < L(lambda) - 1e-9.  0: lambda does not prove it. */
int check_certificate(long M, int K, const int *size, const int *score,
                      int budget, const int *choice, double lambda);
