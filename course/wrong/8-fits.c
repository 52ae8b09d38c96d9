/* the largest uniform model that fits is taken: it has fewer bytes, and the
comparison would not be at equal size */
#define uniform_at right_uniform_at
#include "solutions/8.c"
#undef uniform_at

double uniform_at(long n, const double *bytes, const double *kl, double at) {
    long below = -1, above = -1;
    for (long i = 0; i < n; i++) {
        if (bytes[i] <= at && (below < 0 || bytes[i] > bytes[below])) below = i;
        if (bytes[i] >= at && (above < 0 || bytes[i] < bytes[above])) above = i;
    }
    if (below < 0 || above < 0) return NAN;
    if (below == above) return kl[below];
    return kl[below];
}
