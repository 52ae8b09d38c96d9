/* solutions/1.c: lesson 1. */
#include "1-group/exercise.h"

void find_grid(const double *w, long n, int bits, double *scale, int *zero) {
    const int top = (1 << bits) - 1;
    double lo = 0, hi = 0;
    for (long i = 0; i < n; i++) {
        lo = fmin(lo, w[i]);
        hi = fmax(hi, w[i]);
    }
    *scale = fp16((hi - lo) / top);
    if (*scale == 0) *scale = 1;
    *zero = (int)fmin(rint(-lo / *scale), top);
}

void encode(const double *w, long n, int bits, double scale, int zero,
            int *code) {
    const int top = (1 << bits) - 1;
    for (long i = 0; i < n; i++)
        code[i] = (int)fmin(fmax(rint(w[i] / scale) + zero, 0), top);
}

double squared_error(const double *w, const int *code, long n, double scale,
                     int zero) {
    double sum = 0;
    for (long i = 0; i < n; i++) {
        const double e = w[i] - scale * (code[i] - zero);
        sum += e * e;
    }
    return sum;
}
