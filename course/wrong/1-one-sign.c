/* lo and hi begin at the first weight rather than at 0: then 0 itself has no
code in a group of one sign */
#define find_grid right_find_grid
#include "solutions/1.c"
#undef find_grid

void find_grid(const double *w, long n, int bits, double *scale, int *zero) {
    const int top = (1 << bits) - 1;
    double lo = w[0], hi = w[0];
    for (long i = 0; i < n; i++) {
        lo = fmin(lo, w[i]);
        hi = fmax(hi, w[i]);
    }
    *scale = fp16((hi - lo) / top);
    if (*scale == 0) *scale = 1;
    *zero = (int)fmax(fmin(rint(-lo / *scale), top), 0);
}
