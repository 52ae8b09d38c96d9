/* solutions/2.c: lesson 2. */
#include "2-layer/exercise.h"

void quantize_layer(const double *W, long out, long in, int bits, long group,
                    double *Q) {
    for (long i = 0; i < out; i++)
        for (long j = 0; j < in; j += group) {
            const long n = in - j < group ? in - j : group;
            round_group(W + i * in + j, n, bits, Q + i * in + j);
        }
}

long stored_bytes(long out, long in, int bits, long group) {
    const long groups = (in + group - 1) / group;
    return out * ((in * bits + 7) / 8 + 2 * groups + (groups * bits + 7) / 8);
}

double output_error(const double *W, const double *Q, long out, long in,
                    const double *X, long T) {
    double sum = 0;
    for (long t = 0; t < T; t++) {
        double error = 0, size = 0;
        for (long i = 0; i < out; i++) {
            double y = 0, e = 0;
            for (long j = 0; j < in; j++) {
                y += W[i * in + j] * X[t * in + j];
                e += (W[i * in + j] - Q[i * in + j]) * X[t * in + j];
            }
            error += e * e;
            size += y * y;
        }
        sum += error / size;
    }
    return sum / (double)T;
}
