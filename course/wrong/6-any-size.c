/* the budget is not looked at: the best score is no answer if it does not
fit */
#define check_certificate right_check_certificate
#include "solutions/6.c"
#undef check_certificate

int check_certificate(long M, int K, const int *size, const int *score,
                      int budget, const int *choice, double lambda) {
    int sum = 0;
    for (long m = 0; m < M; m++) sum += score[m * K + choice[m]];
    return sum - 1 < lower_bound(M, K, size, score, budget, lambda) - 1e-9;
}
