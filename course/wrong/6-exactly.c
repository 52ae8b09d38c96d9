/* only choices of exactly the budget are looked at: fewer bytes will do */
#define knapsack right_knapsack
#include "solutions/6.c"
#undef knapsack

int knapsack(long M, int K, const int *size, const int *score, int budget,
             int *choice) {
    int best = INT32_MAX, now[20];
    for (long c = 0, n = (long)pow(K, (double)M); c < n; c++) {
        int used = 0, sum = 0;
        long rest = c;
        for (long m = 0; m < M; m++, rest /= K) {
            now[m] = (int)(rest % K);
            used += size[m * K + now[m]];
            sum += score[m * K + now[m]];
        }
        if (used != budget || sum >= best) continue;
        best = sum;
        memcpy(choice, now, (size_t)M * sizeof *now);
    }
    return best;
}
