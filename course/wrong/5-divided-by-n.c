/* the squares are divided by n: the mean was taken from the same numbers, so
only n - 1 of the differences are free */
#define mean_and_error right_mean_and_error
#include "solutions/5.c"
#undef mean_and_error

void mean_and_error(const double *x, long n, double *mean, double *error) {
    right_mean_and_error(x, n, mean, error);
    *error *= sqrt((double)(n - 1) / (double)n);
}
