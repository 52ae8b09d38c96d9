/* d_W is divided by the number of rows: E says what is averaged, here
everything is summed */
#define linear_backward right_linear_backward
#include "solutions/4.c"
#undef linear_backward

void linear_backward(const double *W, long out, long in, const double *x,
                     long R, const double *d_y, double *d_x, double *d_W) {
    for (long i = 0; i < out * in; i++) d_W[i] *= (double)R;
    right_linear_backward(W, out, in, x, R, d_y, d_x, d_W);
    for (long i = 0; i < out * in; i++) d_W[i] /= (double)R;
}
