/* beyond the uniform models the nearest one is taken: nothing was measured
there, say NAN */
#define uniform_at right_uniform_at
#include "solutions/8.c"
#undef uniform_at

double uniform_at(long n, const double *bytes, const double *kl, double at) {
    long below = -1, above = -1;
    for (long i = 0; i < n; i++) {
        if (bytes[i] <= at && (below < 0 || bytes[i] > bytes[below])) below = i;
        if (bytes[i] >= at && (above < 0 || bytes[i] < bytes[above])) above = i;
    }
    if (below < 0) return kl[above];
    if (above < 0) return kl[below];
    if (below == above) return kl[below];
    const double share = (at - bytes[below]) / (bytes[above] - bytes[below]);
    return exp((1 - share) * log(kl[below]) + share * log(kl[above]));
}
