/* the least score is taken first and its size added then: the minimum is of
the sum, score + lambda size */
#define lower_bound right_lower_bound
#include "solutions/6.c"
#undef lower_bound

double lower_bound(long M, int K, const int *size, const int *score, int budget,
                   double lambda) {
    double sum = -lambda * budget;
    for (long m = 0; m < M; m++) {
        long least = m * K;
        for (long i = m * K; i < (m + 1) * K; i++)
            if (score[i] < score[least]) least = i;
        sum += score[least] + lambda * size[least];
    }
    return sum;
}
