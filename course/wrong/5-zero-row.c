/* a row of zeros is divided by 0: it adds nothing */
#define block_error right_block_error
#include "solutions/5.c"
#undef block_error

double block_error(const double *h, const double *y, long R, long d) {
    double sum = 0;
    for (long t = 0; t < R; t++) {
        double error = 0, size = 0;
        for (long i = t * d; i < (t + 1) * d; i++) {
            error += (y[i] - h[i]) * (y[i] - h[i]);
            size += h[i] * h[i];
        }
        sum += error / size;
    }
    return sum / (double)R;
}
