/* the other modules are at their last candidate: they must be original, -1 */
#define separable right_separable
#include "solutions/5.c"
#undef separable

void separable(double (*loss)(void *context, const int *choice), void *context,
               long M, int K, double *S) {
    int *choice = malloc((size_t)M * sizeof *choice);
    for (long i = 0; i < M * K; i++) {
        for (long m = 0; m < M; m++) choice[m] = K - 1;
        choice[i / K] = (int)(i % K);
        S[i] = loss(context, choice);
    }
    free(choice);
}
