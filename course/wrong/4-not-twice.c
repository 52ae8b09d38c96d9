/* x + h and x - h lie 2 h apart, not h */
#define slope right_slope
#include "solutions/4.c"
#undef slope

double slope(double (*f)(void *context, const double *x), void *context,
             double *x, long i, double h) {
    return 2 * right_slope(f, context, x, i, h);
}
