/* the sum of the squares is asked for, not its root */
#define squared_error right_squared_error
#include "solutions/1.c"
#undef squared_error

double squared_error(const double *w, const int *code, long n, double scale,
                     int zero) {
    return sqrt(right_squared_error(w, code, n, scale, zero));
}
