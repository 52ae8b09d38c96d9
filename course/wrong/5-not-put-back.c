/* the module before is not put back to its original: each error must be that
of one module alone */
#define separable right_separable
#include "solutions/5.c"
#undef separable

void separable(double (*loss)(void *context, const int *choice), void *context,
               long M, int K, double *S) {
    int *choice = malloc((size_t)M * sizeof *choice);
    for (long m = 0; m < M; m++) choice[m] = -1;
    for (long m = 0; m < M; m++)
        for (int k = 0; k < K; k++) {
            choice[m] = k;
            S[m * K + k] = loss(context, choice);
        }
    free(choice);
}
