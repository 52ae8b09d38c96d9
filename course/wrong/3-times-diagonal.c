/* the error left is (w_p - q)^2 divided by A_pp, not times A_pp */
#define surgeon right_surgeon
#include "solutions/3.c"
#undef surgeon

double surgeon(const double *A, long n, long p, double q, const double *w,
               double *moved) {
    right_surgeon(A, n, p, q, w, moved);
    return (w[p] - q) * (w[p] - q) * A[p * n + p];
}
