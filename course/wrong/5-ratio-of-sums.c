/* errors and sizes are summed over the rows before dividing: a few large
tokens then drown the rest; divide row by row */
#define block_error right_block_error
#include "solutions/5.c"
#undef block_error

double block_error(const double *h, const double *y, long R, long d) {
    double error = 0, size = 0;
    for (long i = 0; i < R * d; i++) {
        error += (y[i] - h[i]) * (y[i] - h[i]);
        size += h[i] * h[i];
    }
    return error / size;
}
