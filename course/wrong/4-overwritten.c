/* d_W is overwritten: a gradient is added to what d_W holds, for a weight
may be used more than once */
#define linear_backward right_linear_backward
#include "solutions/4.c"
#undef linear_backward

void linear_backward(const double *W, long out, long in, const double *x,
                     long R, const double *d_y, double *d_x, double *d_W) {
    memset(d_W, 0, (size_t)(out * in) * sizeof *d_W);
    right_linear_backward(W, out, in, x, R, d_y, d_x, d_W);
}
