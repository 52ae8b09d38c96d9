/* the sum over the inputs is not divided by T */
#define hessian right_hessian
#include "solutions/3.c"
#undef hessian

void hessian(const double *X, long T, long n, double damping, double *H) {
    right_hessian(X, T, n, damping, H);
    for (long i = 0; i < n * n; i++) H[i] *= (double)T;
}
