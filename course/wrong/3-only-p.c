/* only weight p moves: the others can make up for a part of its error */
#define surgeon right_surgeon
#include "solutions/3.c"
#undef surgeon

double surgeon(const double *A, long n, long p, double q, const double *w,
               double *moved) {
    for (long t = 0; t < n; t++) moved[t] = t == p ? q : w[t];
    return (w[p] - q) * (w[p] - q) / A[p * n + p];
}
