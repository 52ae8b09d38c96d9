/* the other weights move the wrong way: add to their error what takes away
from the output, w_t - e A_pt */
#define surgeon right_surgeon
#include "solutions/3.c"
#undef surgeon

double surgeon(const double *A, long n, long p, double q, const double *w,
               double *moved) {
    const double e = (w[p] - q) / A[p * n + p];
    for (long t = 0; t < n; t++)
        moved[t] = t == p ? q : w[t] + e * A[p * n + t];
    return e * (w[p] - q);
}
