/* s(g) is taken for a constant: it depends on g, too, and the product rule
has a second term */
#define swiglu_backward right_swiglu_backward
#include "solutions/4.c"
#undef swiglu_backward

void swiglu_backward(const double *g, const double *u, long n,
                     const double *d_a, double *d_g, double *d_u) {
    right_swiglu_backward(g, u, n, d_a, d_g, d_u);
    for (long i = 0; i < n; i++) d_g[i] = d_a[i] * u[i] / (1 + exp(-g[i]));
}
