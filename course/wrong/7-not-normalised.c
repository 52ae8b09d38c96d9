/* the shares do not sum to 1: divide by their sum */
#define softmax right_softmax
#include "solutions/7.c"
#undef softmax

void softmax(int K, const double *theta, double tau, double *p) {
    double most = theta[0];
    for (int k = 1; k < K; k++) most = fmax(most, theta[k]);
    for (int k = 0; k < K; k++) p[k] = exp((theta[k] - most) / tau);
}
