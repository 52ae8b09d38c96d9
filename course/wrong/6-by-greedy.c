/* that is what greedy finds: it may stop short of the optimum, a table over
all budgets cannot */
#define knapsack right_knapsack
#include "solutions/6.c"
#undef knapsack

int knapsack(long M, int K, const int *size, const int *score, int budget,
             int *choice) {
    int sum = 0, used = 0;
    greedy(M, K, size, score, budget, choice);
    for (long m = 0; m < M; m++) {
        sum += score[m * K + choice[m]];
        used += size[m * K + choice[m]];
    }
    return used > budget ? INT32_MAX : sum;
}
