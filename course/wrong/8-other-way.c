/* the verdict is turned around: b - a above 0 says that a is better */
#define verdict right_verdict
#include "solutions/8.c"
#undef verdict

int verdict(long n, const double *a, const double *b) {
    return -right_verdict(n, a, b);
}
