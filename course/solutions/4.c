/* solutions/4.c: lesson 4. */
#include "4-block/exercise.h"

double slope(double (*f)(void *context, const double *x), void *context,
             double *x, long i, double h) {
    const double kept = x[i];
    x[i] = kept + h;
    const double up = f(context, x);
    x[i] = kept - h;
    const double down = f(context, x);
    x[i] = kept;
    return (up - down) / (2 * h);
}

void linear_backward(const double *W, long out, long in, const double *x,
                     long R, const double *d_y, double *d_x, double *d_W) {
    for (long r = 0; r < R; r++)
        for (long j = 0; j < in; j++) {
            double sum = 0;
            for (long i = 0; i < out; i++) {
                sum += d_y[r * out + i] * W[i * in + j];
                d_W[i * in + j] += d_y[r * out + i] * x[r * in + j];
            }
            d_x[r * in + j] = sum;
        }
}

void swiglu_backward(const double *g, const double *u, long n,
                     const double *d_a, double *d_g, double *d_u) {
    for (long i = 0; i < n; i++) {
        const double s = 1 / (1 + exp(-g[i]));
        d_g[i] = d_a[i] * u[i] * (s + g[i] * s * (1 - s));
        d_u[i] = d_a[i] * g[i] * s;
    }
}

void norm_backward(const double *x, const double *w, long n, double eps,
                   const double *d_y, double *d_x, double *d_w) {
    double square = 0, inner = 0;
    for (long i = 0; i < n; i++) {
        square += x[i] * x[i] / (double)n;
        inner += d_y[i] * w[i] * x[i] / (double)n;
    }
    const double r = sqrt(square + eps);
    for (long i = 0; i < n; i++) {
        d_w[i] = d_y[i] * x[i] / r;
        d_x[i] = d_y[i] * w[i] / r - x[i] * inner / (r * r * r);
    }
}
