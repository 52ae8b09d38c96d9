/* x is not put back: what is looked at next would be the slope of another
place */
#define slope right_slope
#include "solutions/4.c"
#undef slope

double slope(double (*f)(void *context, const double *x), void *context,
             double *x, long i, double h) {
    x[i] += h;
    const double up = f(context, x);
    x[i] -= 2 * h;
    return (up - f(context, x)) / (2 * h);
}
