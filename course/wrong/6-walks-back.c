/* walking back, the bytes of a chosen candidate are not taken from the
budget of the modules before it */
#define knapsack right_knapsack
#include "solutions/6.c"
#undef knapsack

int knapsack(long M, int K, const int *size, const int *score, int budget,
             int *choice) {
    const long width = budget + 1;
    int *best = calloc((size_t)((M + 1) * width), sizeof *best);
    for (long m = 0; m < M; m++)
        for (long B = 0; B < width; B++) {
            int *now = &best[(m + 1) * width + B];
            *now = INT32_MAX;
            for (long i = m * K; i < (m + 1) * K; i++) {
                if (size[i] > B) continue;
                const int rest = best[m * width + B - size[i]];
                if (rest < INT32_MAX && rest + score[i] < *now)
                    *now = rest + score[i];
            }
        }
    const int answer = best[M * width + budget];
    long B = budget;
    for (long m = M - 1; m >= 0 && answer < INT32_MAX; m--)
        for (int k = 0; k < K; k++) {
            const long i = m * K + k;
            if (size[i] > B) continue;
            const int rest = best[m * width + B - size[i]];
            if (rest < INT32_MAX &&
                rest + score[i] == best[(m + 1) * width + B]) {
                choice[m] = k;
                break;
            }
        }
    free(best);
    return answer;
}
