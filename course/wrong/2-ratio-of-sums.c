/* errors and sizes are summed over the tokens before dividing: a few large
tokens then drown the rest; divide for each token */
#define output_error right_output_error
#include "solutions/2.c"
#undef output_error

double output_error(const double *W, const double *Q, long out, long in,
                    const double *X, long T) {
    double error = 0, size = 0;
    for (long t = 0; t < T; t++)
        for (long i = 0; i < out; i++) {
            double y = 0, e = 0;
            for (long j = 0; j < in; j++) {
                y += W[i * in + j] * X[t * in + j];
                e += (W[i * in + j] - Q[i * in + j]) * X[t * in + j];
            }
            error += e * e;
            size += y * y;
        }
    return error / size;
}
