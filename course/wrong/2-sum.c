/* the tokens are summed, not averaged: divide by T */
#define output_error right_output_error
#include "solutions/2.c"
#undef output_error

double output_error(const double *W, const double *Q, long out, long in,
                    const double *X, long T) {
    return right_output_error(W, Q, out, in, X, T) * (double)T;
}
