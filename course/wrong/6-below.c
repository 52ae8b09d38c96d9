/* choices that fill the budget exactly are left out: at most is <=, not < */
#define knapsack right_knapsack
#include "solutions/6.c"
#undef knapsack

int knapsack(long M, int K, const int *size, const int *score, int budget,
             int *choice) {
    return right_knapsack(M, K, size, score, budget - 1, choice);
}
