/* solutions/8.c: lesson 8. */
#include "8-pareto/exercise.h"

void pareto(long n, const double *bytes, const double *kl, int *keep) {
    for (long i = 0; i < n; i++) {
        keep[i] = 1;
        for (long j = 0; j < n; j++)
            if (bytes[j] <= bytes[i] && kl[j] <= kl[i] &&
                (bytes[j] < bytes[i] || kl[j] < kl[i])) keep[i] = 0;
    }
}

double uniform_at(long n, const double *bytes, const double *kl, double at) {
    long below = -1, above = -1;
    for (long i = 0; i < n; i++) {
        if (bytes[i] <= at && (below < 0 || bytes[i] > bytes[below])) below = i;
        if (bytes[i] >= at && (above < 0 || bytes[i] < bytes[above])) above = i;
    }
    if (below < 0 || above < 0) return NAN;
    if (below == above) return kl[below];
    const double share = (at - bytes[below]) / (bytes[above] - bytes[below]);
    return exp((1 - share) * log(kl[below]) + share * log(kl[above]));
}

void paired(long n, const double *a, const double *b, double *mean,
            double *error) {
    double sum = 0, squares = 0;
    for (long i = 0; i < n; i++) sum += b[i] - a[i];
    *mean = sum / (double)n;
    for (long i = 0; i < n; i++)
        squares += (b[i] - a[i] - *mean) * (b[i] - a[i] - *mean);
    *error = sqrt(squares / (double)(n - 1) / (double)n);
}

int verdict(long n, const double *a, const double *b) {
    double mean, error;
    paired(n, a, b, &mean, &error);
    return mean > 2 * error ? 1 : mean < -2 * error ? -1 : 0;
}
