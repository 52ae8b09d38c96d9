/* the error is not divided by A_pp: weight p itself must arrive at q */
#define surgeon right_surgeon
#include "solutions/3.c"
#undef surgeon

double surgeon(const double *A, long n, long p, double q, const double *w,
               double *moved) {
    for (long t = 0; t < n; t++) moved[t] = w[t] - (w[p] - q) * A[p * n + t];
    return (w[p] - q) * (w[p] - q) / A[p * n + p];
}
