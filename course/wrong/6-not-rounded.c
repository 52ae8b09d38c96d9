/* the bound must equal the score: scores are whole, so a bound above score -
1 is enough */
#define check_certificate right_check_certificate
#include "solutions/6.c"
#undef check_certificate

int check_certificate(long M, int K, const int *size, const int *score,
                      int budget, const int *choice, double lambda) {
    int used = 0, sum = 0;
    for (long m = 0; m < M; m++) {
        used += size[m * K + choice[m]];
        sum += score[m * K + choice[m]];
    }
    if (used > budget) return -1;
    return sum < lower_bound(M, K, size, score, budget, lambda) + 1e-9;
}
