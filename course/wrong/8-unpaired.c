/* the errors of a and of b are combined as if their windows were others: on
the same windows take the differences first, most of the spread is common */
#define paired right_paired
#include "solutions/8.c"
#undef paired

void paired(long n, const double *a, const double *b, double *mean,
            double *error) {
    double zero[64] = {0}, ma, mb, ea, eb;
    right_paired(n, zero, a, &ma, &ea);
    right_paired(n, zero, b, &mb, &eb);
    *mean = mb - ma;
    *error = sqrt(ea * ea + eb * eb);
}
