/* a code lies below 0 or above 2^b - 1: weights beyond the grid get its last
code */
#define encode right_encode
#include "solutions/1.c"
#undef encode

void encode(const double *w, long n, int bits, double scale, int zero,
            int *code) {
    for (long i = 0; i < n; i++) code[i] = (int)rint(w[i] / scale) + zero;
}
