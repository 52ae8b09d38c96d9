/* whatever fits is called optimal: compare its score with the bound */
#define check_certificate right_check_certificate
#include "solutions/6.c"
#undef check_certificate

int check_certificate(long M, int K, const int *size, const int *score,
                      int budget, const int *choice, double lambda) {
    const int right = right_check_certificate(M, K, size, score, budget, choice,
                                              lambda);
    return right < 0 ? -1 : 1;
}
