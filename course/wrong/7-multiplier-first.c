/* lambda moves before x has answered: it comes last in a step */
#define learn right_learn
#include "solutions/7.c"
#undef learn

void learn(double B, double rho, double eta, double rate, long steps,
           double *c) {
    double x = B, v = 0, lambda = 0;
    for (long t = 0; t < steps; t++) {
        c[t] = x - B;
        lambda += eta * rho * c[t];
        v = 0.9 * v + 0.1 * (-exp(-x) + lambda + rho * c[t]);
        x -= rate * v;
    }
}
