/* every module counts the same: a weight in a large one takes as many bits
as a weight in a small one, so weigh by n_m */
#define off_target right_off_target
#include "solutions/7.c"
#undef off_target

double off_target(const learning *l, const double *p) {
    double bits = 0;
    for (long i = 0; i < l->M * l->K; i++) bits += l->bits[i % l->K] * p[i];
    return bits / (double)l->M - l->B;
}
