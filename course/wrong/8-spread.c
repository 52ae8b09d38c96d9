/* the spread of single windows is given: the error of their mean is smaller
by the root of n */
#define paired right_paired
#include "solutions/8.c"
#undef paired

void paired(long n, const double *a, const double *b, double *mean,
            double *error) {
    right_paired(n, a, b, mean, error);
    *error *= sqrt((double)n);
}
