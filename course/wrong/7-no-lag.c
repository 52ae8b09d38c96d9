/* v has no memory: nine tenths of it remain from step to step, which is why
a fast multiplier overshoots */
#define learn right_learn
#include "solutions/7.c"
#undef learn

void learn(double B, double rho, double eta, double rate, long steps,
           double *c) {
    double x = B, v = 0, lambda = 0;
    for (long t = 0; t < steps; t++) {
        c[t] = x - B;
        v = (-exp(-x) + lambda + rho * c[t]);
        x -= rate * v;
        lambda += eta * rho * c[t];
    }
}
