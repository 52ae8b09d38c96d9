/* S is kept column after column: S_mk is S[m * K + k] */
#define separable right_separable
#include "solutions/5.c"
#undef separable

void separable(double (*loss)(void *context, const int *choice), void *context,
               long M, int K, double *S) {
    double *own = malloc((size_t)(M * K) * sizeof *own);
    right_separable(loss, context, M, K, own);
    for (long m = 0; m < M; m++)
        for (int k = 0; k < K; k++) S[k * M + m] = own[m * K + k];
    free(own);
}
