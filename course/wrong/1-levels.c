/* b bits give 2^b levels, but 2^b - 1 steps lie between them */
#define find_grid right_find_grid
#include "solutions/1.c"
#undef find_grid

void find_grid(const double *w, long n, int bits, double *scale, int *zero) {
    const int levels = 1 << bits;
    double lo = 0, hi = 0;
    for (long i = 0; i < n; i++) {
        lo = fmin(lo, w[i]);
        hi = fmax(hi, w[i]);
    }
    *scale = fp16((hi - lo) / levels);
    if (*scale == 0) *scale = 1;
    *zero = (int)fmin(rint(-lo / *scale), levels - 1);
}
