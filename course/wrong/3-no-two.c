/* the factor 2 is missing: H = (2/T) sum_t x_t x_t^T is the second
derivative of the mean squared error */
#define hessian right_hessian
#include "solutions/3.c"
#undef hessian

void hessian(const double *X, long T, long n, double damping, double *H) {
    right_hessian(X, T, n, damping, H);
    for (long i = 0; i < n * n; i++) H[i] /= 2;
}
