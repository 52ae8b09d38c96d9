/* a code is a value only after zero has been taken away: q = scale (code -
zero) */
#define squared_error right_squared_error
#include "solutions/1.c"
#undef squared_error

double squared_error(const double *w, const int *code, long n, double scale,
                     int zero) {
    double sum = 0;
    for (long i = 0; i < n; i++) {
        const double e = w[i] - (scale * code[i] - zero);
        sum += e * e;
    }
    return sum;
}
