/* the groups go down the columns: a group is neighbours in a row, which meet
in one output */
#define quantize_layer right_quantize_layer
#include "solutions/2.c"
#undef quantize_layer

void quantize_layer(const double *W, long out, long in, int bits, long group,
                    double *Q) {
    double w[4096], q[4096];
    for (long j = 0; j < in; j++)
        for (long i = 0; i < out; i += group) {
            const long n = out - i < group ? out - i : group;
            for (long k = 0; k < n; k++) w[k] = W[(i + k) * in + j];
            round_group(w, n, bits, q);
            for (long k = 0; k < n; k++) Q[(i + k) * in + j] = q[k];
        }
}
