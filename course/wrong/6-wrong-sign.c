/* bytes are rewarded rather than charged: it is + lambda size, - lambda
budget */
#define lower_bound right_lower_bound
#include "solutions/6.c"
#undef lower_bound

double lower_bound(long M, int K, const int *size, const int *score, int budget,
                   double lambda) {
    return right_lower_bound(M, K, size, score, budget, -lambda);
}
