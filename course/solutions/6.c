/* solutions/6.c: lesson 6. */
#include "6-knapsack/exercise.h"

void greedy(long M, int K, const int *size, const int *score, int budget,
            int *choice) {
    int used = 0;
    for (long m = 0; m < M; m++) {
        choice[m] = 0;
        used += size[m * K];
    }
    for (;;) {
        long best = -1;
        double rate = -INFINITY;
        for (long m = 0; m < M; m++) {
            const long i = m * K + choice[m];
            if (choice[m] == K - 1 || used + size[i + 1] - size[i] > budget)
                continue;
            const double gain = (double)(score[i] - score[i + 1]) /
                                (size[i + 1] - size[i]);
            if (gain > rate) rate = gain, best = m;
        }
        if (best < 0) return;
        const long i = best * K + choice[best]++;
        used += size[i + 1] - size[i];
    }
}

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
                B -= size[i];
                break;
            }
        }
    free(best);
    return answer;
}

double lower_bound(long M, int K, const int *size, const int *score, int budget,
                   double lambda) {
    double sum = -lambda * budget;
    for (long m = 0; m < M; m++) {
        double least = INFINITY;
        for (long i = m * K; i < (m + 1) * K; i++)
            least = fmin(least, score[i] + lambda * size[i]);
        sum += least;
    }
    return sum;
}

int check_certificate(long M, int K, const int *size, const int *score,
                      int budget, const int *choice, double lambda) {
    int used = 0, sum = 0;
    for (long m = 0; m < M; m++) {
        used += size[m * K + choice[m]];
        sum += score[m * K + choice[m]];
    }
    if (used > budget) return -1;
    return sum - 1 < lower_bound(M, K, size, score, budget, lambda) - 1e-9;
}
