/* the diagonal is not damped: with few inputs H has no inverse */
#define hessian right_hessian
#include "solutions/3.c"
#undef hessian

void hessian(const double *X, long T, long n, double damping, double *H) {
    right_hessian(X, T, n, 0, H);
}
