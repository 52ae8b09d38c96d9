/* Lesson 5: sensitivity.  exercise.h says what each function finds;
   `make -C course check-5` says whether it does. */
#include "5-sensitivity/exercise.h"

double block_error(const double *h, const double *y, long R, long d) {
    return NAN; /* not written yet */
}

void separable(double (*loss)(void *context, const int *choice), void *context,
               long M, int K, double *S) {
    /* How often is loss called? */
}

double joint_ratio(double (*loss)(void *context, const int *choice),
                   void *context, long M, int K, const double *S,
                   const int *choice) {
    return NAN; /* not written yet */
}

void mean_and_error(const double *x, long n, double *mean, double *error) {
    /* The mean first: the error needs it. */
}
