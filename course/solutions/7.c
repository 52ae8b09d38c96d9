/* solutions/7.c: lesson 7. */
#include "7-learning/exercise.h"

void softmax(int K, const double *theta, double tau, double *p) {
    double most = theta[0], sum = 0;
    for (int k = 1; k < K; k++) most = fmax(most, theta[k]);
    for (int k = 0; k < K; k++) sum += p[k] = exp((theta[k] - most) / tau);
    for (int k = 0; k < K; k++) p[k] /= sum;
}

double off_target(const learning *l, const double *p) {
    double bits = 0, N = 0;
    for (long m = 0; m < l->M; m++) {
        N += l->n[m];
        for (int k = 0; k < l->K; k++)
            bits += l->n[m] * l->bits[k] * p[m * l->K + k];
    }
    return bits / N - l->B;
}

void gradient(const learning *l, const double *p, const double *S,
              const double *g, double *d_theta) {
    const double price = l->lambda + l->rho * off_target(l, p);
    double N = 0;
    for (long m = 0; m < l->M; m++) N += l->n[m];
    for (long m = 0; m < l->M; m++) {
        const long first = m * l->K, end = first + l->K;
        double mean = 0;
        for (long i = first; i < end; i++) {
            d_theta[i] = g[i] + (1 - 2 * p[i]) * S[i] +
                         l->alpha / (double)l->M * (log(p[i]) + 1) +
                         price * l->n[m] * l->bits[i - first] / N;
            mean += p[i] * d_theta[i];
        }
        for (long i = first; i < end; i++)
            d_theta[i] = p[i] * (d_theta[i] - mean) / l->tau;
    }
}

void learn(double B, double rho, double eta, double rate, long steps,
           double *c) {
    double x = B, v = 0, lambda = 0;
    for (long t = 0; t < steps; t++) {
        c[t] = x - B;
        v = 0.9 * v + 0.1 * (-exp(-x) + lambda + rho * c[t]);
        x -= rate * v;
        lambda += eta * rho * c[t];
    }
}
