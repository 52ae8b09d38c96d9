/* the search ends at the first step that does not fit: a smaller step of
another module may still fit */
#define greedy right_greedy
#include "solutions/6.c"
#undef greedy

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
            if (choice[m] == K - 1)
                continue;
            const double gain =
                (double)(score[i] - score[i + 1]) / (size[i + 1] - size[i]);
            if (gain > rate) rate = gain, best = m;
        }
        if (best < 0) return;
        const long i = best * K + choice[best]++;
        used += size[i + 1] - size[i];
        if (used > budget) {
            choice[best]--;
            return;
        }
    }
}
