/* the larger mean decides: a difference within two standard errors may be
chance */
#define verdict right_verdict
#include "solutions/8.c"
#undef verdict

int verdict(long n, const double *a, const double *b) {
    double mean, error;
    paired(n, a, b, &mean, &error);
    return mean > 0 ? 1 : -1;
}
