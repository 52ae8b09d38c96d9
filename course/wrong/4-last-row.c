/* only the last of the R rows reaches d_W: every row adds to it */
#define linear_backward right_linear_backward
#include "solutions/4.c"
#undef linear_backward

void linear_backward(const double *W, long out, long in, const double *x,
                     long R, const double *d_y, double *d_x, double *d_W) {
    double *kept = malloc((size_t)(out * in) * sizeof *kept);
    memcpy(kept, d_W, (size_t)(out * in) * sizeof *kept);
    for (long r = 0; r < R; r++) {
        memcpy(d_W, kept, (size_t)(out * in) * sizeof *kept);
        right_linear_backward(W, out, in, x + r * in, 1, d_y + r * out,
                              d_x + r * in, d_W);
    }
    free(kept);
}
