/* the quotient is clamped before zero is added: it is the sum, the code,
that must lie in 0 .. 2^b - 1 */
#define encode right_encode
#include "solutions/1.c"
#undef encode

void encode(const double *w, long n, int bits, double scale, int zero,
            int *code) {
    const int top = (1 << bits) - 1;
    for (long i = 0; i < n; i++)
        code[i] = (int)fmin(fmax(rint(w[i] / scale), 0), top) + zero;
}
