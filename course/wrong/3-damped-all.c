/* all of H is damped, not its diagonal alone */
#define hessian right_hessian
#include "solutions/3.c"
#undef hessian

void hessian(const double *X, long T, long n, double damping, double *H) {
    right_hessian(X, T, n, 0, H);
    double mean = 0;
    for (long i = 0; i < n; i++) mean += H[i * n + i] / (double)n;
    for (long i = 0; i < n * n; i++) H[i] += damping * mean;
}
