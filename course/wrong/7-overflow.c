/* exp overflows and the shares are inf/inf: take the largest theta away from
all, p stays the same */
#define softmax right_softmax
#include "solutions/7.c"
#undef softmax

void softmax(int K, const double *theta, double tau, double *p) {
    double sum = 0;
    for (int k = 0; k < K; k++) sum += p[k] = exp(theta[k] / tau);
    for (int k = 0; k < K; k++) p[k] /= sum;
}
