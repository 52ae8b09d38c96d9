/* groups run on from one row into the next: a group belongs to one row, and
the last of a row may be short */
#define quantize_layer right_quantize_layer
#include "solutions/2.c"
#undef quantize_layer

void quantize_layer(const double *W, long out, long in, int bits, long group,
                    double *Q) {
    for (long j = 0; j < out * in; j += group)
        round_group(W + j, out * in - j < group ? out * in - j : group, bits,
                    Q + j);
}
