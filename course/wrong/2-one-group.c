/* a row is rounded as one group: its groups must each have a scale of their
own */
#define quantize_layer right_quantize_layer
#include "solutions/2.c"
#undef quantize_layer

void quantize_layer(const double *W, long out, long in, int bits, long group,
                    double *Q) {
    for (long i = 0; i < out; i++)
        round_group(W + i * in, in, bits, Q + i * in);
}
