/* higher kl is taken for better: 0 is the original model */
#define pareto right_pareto
#include "solutions/8.c"
#undef pareto

void pareto(long n, const double *bytes, const double *kl, int *keep) {
    for (long i = 0; i < n; i++) {
        keep[i] = 1;
        for (long j = 0; j < n; j++)
            if (bytes[j] <= bytes[i] && kl[j] >= kl[i] &&
                (bytes[j] < bytes[i] || kl[j] > kl[i])) keep[i] = 0;
    }
}
