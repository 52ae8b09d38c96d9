/* the spread of single numbers is given: the error of their mean is smaller
by the root of n */
#define mean_and_error right_mean_and_error
#include "solutions/5.c"
#undef mean_and_error

void mean_and_error(const double *x, long n, double *mean, double *error) {
    right_mean_and_error(x, n, mean, error);
    *error *= sqrt((double)n);
}
