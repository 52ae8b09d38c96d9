/* d_u lacks the factor g: what stands before u is g s(g) */
#define swiglu_backward right_swiglu_backward
#include "solutions/4.c"
#undef swiglu_backward

void swiglu_backward(const double *g, const double *u, long n,
                     const double *d_a, double *d_g, double *d_u) {
    right_swiglu_backward(g, u, n, d_a, d_g, d_u);
    for (long i = 0; i < n; i++) d_u[i] = d_a[i] / (1 + exp(-g[i]));
}
