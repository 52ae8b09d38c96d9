/* a module left original is counted at its first candidate: it predicts 0 */
#define joint_ratio right_joint_ratio
#include "solutions/5.c"
#undef joint_ratio

double joint_ratio(double (*loss)(void *context, const int *choice),
                   void *context, long M, int K, const double *S,
                   const int *choice) {
    double sum = 0;
    for (long m = 0; m < M; m++)
        sum += S[m * K + (choice[m] < 0 ? 0 : choice[m])];
    return loss(context, choice) / sum;
}
