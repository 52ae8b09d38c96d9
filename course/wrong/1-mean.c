/* the sum of the squared errors is asked for, not their mean */
#define squared_error right_squared_error
#include "solutions/1.c"
#undef squared_error

double squared_error(const double *w, const int *code, long n, double scale,
                     int zero) {
    return right_squared_error(w, code, n, scale, zero) / (double)n;
}
