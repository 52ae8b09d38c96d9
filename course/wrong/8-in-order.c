/* the points are taken to stand in order of bytes: they do not, so compare
each with all others */
#define pareto right_pareto
#include "solutions/8.c"
#undef pareto

void pareto(long n, const double *bytes, const double *kl, int *keep) {
    double least = INFINITY;
    for (long i = 0; i < n; i++) {
        keep[i] = kl[i] < least;
        least = fmin(least, kl[i]);
    }
}
