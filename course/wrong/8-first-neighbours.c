/* the first two points are joined, whatever they are: find the neighbours of
`at` in bytes */
#define uniform_at right_uniform_at
#include "solutions/8.c"
#undef uniform_at

double uniform_at(long n, const double *bytes, const double *kl, double at) {
    const double share = (at - bytes[0]) / (bytes[1] - bytes[0]);
    return exp((1 - share) * log(kl[0]) + share * log(kl[1]));
}
