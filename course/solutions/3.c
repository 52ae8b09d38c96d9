/* solutions/3.c: lesson 3. */
#include "3-gptq/exercise.h"

void hessian(const double *X, long T, long n, double damping, double *H) {
    double mean = 0;
    for (long i = 0; i < n; i++)
        for (long j = 0; j < n; j++) {
            double sum = 0;
            for (long t = 0; t < T; t++) sum += X[t * n + i] * X[t * n + j];
            H[i * n + j] = 2 * sum / (double)T;
            if (i == j) mean += H[i * n + j] / (double)n;
        }
    for (long i = 0; i < n; i++) H[i * n + i] += damping * mean;
}

double surgeon(const double *A, long n, long p, double q, const double *w,
               double *moved) {
    const double e = (w[p] - q) / A[p * n + p];
    for (long t = 0; t < n; t++) moved[t] = w[t] - e * A[p * n + t];
    return e * (w[p] - q);
}

void gptq_row(const double *U, long n, int bits, double scale, int zero,
              const double *w, int *code) {
    const int top = (1 << bits) - 1;
    double *v = malloc((size_t)n * sizeof *v);
    memcpy(v, w, (size_t)n * sizeof *v);
    for (long j = 0; j < n; j++) {
        code[j] = (int)fmin(fmax(rint(v[j] / scale) + zero, 0), top);
        const double e = (v[j] - scale * (code[j] - zero)) / U[j * n + j];
        for (long t = j + 1; t < n; t++) v[t] -= e * U[j * n + t];
    }
    free(v);
}
