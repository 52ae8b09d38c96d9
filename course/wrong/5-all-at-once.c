/* all modules get candidate k at once: one of them at a time */
#define separable right_separable
#include "solutions/5.c"
#undef separable

void separable(double (*loss)(void *context, const int *choice), void *context,
               long M, int K, double *S) {
    int *choice = malloc((size_t)M * sizeof *choice);
    for (long i = 0; i < M * K; i++) {
        for (long m = 0; m < M; m++) choice[m] = (int)(i % K);
        S[i] = loss(context, choice);
    }
    free(choice);
}
