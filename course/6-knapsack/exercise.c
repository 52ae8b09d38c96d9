/* Lesson 6: the knapsack.  exercise.h says what each function finds;
   `make -C course check-6` says whether it does. */
#include "6-knapsack/exercise.h"

void greedy(long M, int K, const int *size, const int *score, int budget,
            int *choice) {
    /* Compare gain / bytes of two steps. */
}

int knapsack(long M, int K, const int *size, const int *score, int budget,
             int *choice) {
    /* best[m][B]: the least score of the first m modules in B bytes.  With
       best[0][B] = 0, what is best[m + 1][B]?  Then walk back. */
    return -1; /* not written yet */
}

double lower_bound(long M, int K, const int *size, const int *score, int budget,
                   double lambda) {
    return NAN; /* not written yet */
}

int check_certificate(long M, int K, const int *size, const int *score,
                      int budget, const int *choice, double lambda) {
    return -2; /* not written yet */
}
