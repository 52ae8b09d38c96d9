/* each number of the diagonal is damped by itself: the same amount, a share
of their mean, is added to all */
#define hessian right_hessian
#include "solutions/3.c"
#undef hessian

void hessian(const double *X, long T, long n, double damping, double *H) {
    right_hessian(X, T, n, 0, H);
    for (long i = 0; i < n; i++) H[i * n + i] *= 1 + damping;
}
