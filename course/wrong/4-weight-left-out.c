/* the sum of the second term lacks w_i: dE/dy_i reaches r by way of w_i x_i
*/
#define norm_backward right_norm_backward
#include "solutions/4.c"
#undef norm_backward

void norm_backward(const double *x, const double *w, long n, double eps,
                   const double *d_y, double *d_x, double *d_w) {
    double square = 0, inner = 0;
    for (long i = 0; i < n; i++) {
        square += x[i] * x[i] / (double)n;
        inner += d_y[i] * x[i] / (double)n;
    }
    const double r = sqrt(square + eps);
    for (long i = 0; i < n; i++) {
        d_w[i] = d_y[i] * x[i] / r;
        d_x[i] = d_y[i] * w[i] / r - x[i] * inner / (r * r * r);
    }
}
