/* the bits of the candidate with the largest share are counted: c is of the
mixture, so that it has a derivative */
#define off_target right_off_target
#include "solutions/7.c"
#undef off_target

double off_target(const learning *l, const double *p) {
    double bits = 0, N = 0;
    for (long m = 0; m < l->M; m++) {
        int best = 0;
        for (int k = 1; k < l->K; k++)
            if (p[m * l->K + k] > p[m * l->K + best]) best = k;
        N += l->n[m];
        bits += l->n[m] * l->bits[best];
    }
    return bits / N - l->B;
}
