/* the error of the weights is measured: it is the outputs, W x and Q x, that
are to be compared */
#define output_error right_output_error
#include "solutions/2.c"
#undef output_error

double output_error(const double *W, const double *Q, long out, long in,
                    const double *X, long T) {
    double error = 0, size = 0;
    for (long i = 0; i < out * in; i++) {
        error += (W[i] - Q[i]) * (W[i] - Q[i]);
        size += W[i] * W[i];
    }
    return error / size;
}
