/* it reads or writes beyond the ends of `w` */
#define find_grid right_find_grid
#include "solutions/1.c"
#undef find_grid

void find_grid(const double *w, long n, int bits, double *scale, int *zero) {
    const int top = (1 << bits) - 1;
    double lo = 0, hi = 0;
    for (long i = 0; i <= n; i++) {
        lo = fmin(lo, w[i]);
        hi = fmax(hi, w[i]);
    }
    *scale = fp16((hi - lo) / top);
    *zero = (int)fmin(rint(-lo / *scale), top);
}
