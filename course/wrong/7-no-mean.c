/* the mean is not taken away: raising theta_k lowers every other share,
d_theta_k = p_k (v_k - sum_j p_j v_j) / tau */
#define gradient right_gradient
#include "solutions/7.c"
#undef gradient

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
            d_theta[i] = p[i] * (d_theta[i]) / l->tau;
    }
}
