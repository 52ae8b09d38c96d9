/* solutions/5.c: lesson 5. */
#include "5-sensitivity/exercise.h"

double block_error(const double *h, const double *y, long R, long d) {
    double sum = 0;
    for (long t = 0; t < R; t++) {
        double error = 0, size = 0;
        for (long i = t * d; i < (t + 1) * d; i++) {
            error += (y[i] - h[i]) * (y[i] - h[i]);
            size += h[i] * h[i];
        }
        if (size > 0) sum += error / size;
    }
    return sum / (double)R;
}

void separable(double (*loss)(void *context, const int *choice), void *context,
               long M, int K, double *S) {
    int *choice = malloc((size_t)M * sizeof *choice);
    for (long m = 0; m < M; m++) choice[m] = -1;
    for (long m = 0; m < M; m++) {
        for (int k = 0; k < K; k++) {
            choice[m] = k;
            S[m * K + k] = loss(context, choice);
        }
        choice[m] = -1;
    }
    free(choice);
}

double joint_ratio(double (*loss)(void *context, const int *choice),
                   void *context, long M, int K, const double *S,
                   const int *choice) {
    double sum = 0;
    for (long m = 0; m < M; m++)
        if (choice[m] >= 0) sum += S[m * K + choice[m]];
    return loss(context, choice) / sum;
}

void mean_and_error(const double *x, long n, double *mean, double *error) {
    double sum = 0, squares = 0;
    for (long i = 0; i < n; i++) sum += x[i];
    *mean = sum / (double)n;
    for (long i = 0; i < n; i++) squares += (x[i] - *mean) * (x[i] - *mean);
    *error = sqrt(squares / (double)(n - 1) / (double)n);
}
