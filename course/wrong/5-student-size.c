/* the error is divided by the size of the quantized output y_t: the original
h_t is what all candidates can be measured by */
#define block_error right_block_error
#include "solutions/5.c"
#undef block_error

double block_error(const double *h, const double *y, long R, long d) {
    return right_block_error(y, h, R, d);
}
