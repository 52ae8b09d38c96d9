/* zero is added before rounding: a tie then goes to the even code rather
than to the even multiple of the scale */
#define encode right_encode
#include "solutions/1.c"
#undef encode

void encode(const double *w, long n, int bits, double scale, int zero,
            int *code) {
    const int top = (1 << bits) - 1;
    for (long i = 0; i < n; i++)
        code[i] = (int)fmin(fmax(rint(w[i] / scale + zero), 0), top);
}
