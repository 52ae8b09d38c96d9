/* the second term is not divided by n: r holds the mean of the squares, not
their sum */
#define norm_backward right_norm_backward
#include "solutions/4.c"
#undef norm_backward

void norm_backward(const double *x, const double *w, long n, double eps,
                   const double *d_y, double *d_x, double *d_w) {
    double square = 0, inner = 0;
    for (long i = 0; i < n; i++) {
        square += x[i] * x[i] / (double)n;
        inner += d_y[i] * w[i] * x[i];
    }
    const double r = sqrt(square + eps);
    for (long i = 0; i < n; i++) {
        d_w[i] = d_y[i] * x[i] / r;
        d_x[i] = d_y[i] * w[i] / r - x[i] * inner / (r * r * r);
    }
}
