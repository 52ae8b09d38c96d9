/* the root is missing: that is the variance of the mean */
#define mean_and_error right_mean_and_error
#include "solutions/5.c"
#undef mean_and_error

void mean_and_error(const double *x, long n, double *mean, double *error) {
    right_mean_and_error(x, n, mean, error);
    *error *= *error;
}
