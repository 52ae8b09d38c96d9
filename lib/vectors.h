/* vectors.h: tile_scalar of kernels.c with the same bits, in registers: HEIGHT
   times 2 vectors of WIDTH floats.  kernels.c includes it for each instruction
   set, TARGET, whose FMA(a, b, c) is a b + c, rounded once.
   SPDX-License-Identifier: GPL-3.0-or-later */

TARGET
static void TILE(long part, const float *a, const float *b, float *c, long ldc,
                 bool add) {
    /* at any address */
    typedef float floats __attribute__((vector_size(WIDTH * sizeof(float)),
                                        aligned(sizeof(float)), may_alias));
    const floats zero = {0};
    floats x[HEIGHT][2];
#pragma GCC unroll 16
    for (int i = 0; i < HEIGHT; i++) {
        x[i][0] = x[i][1] = zero;
        __builtin_prefetch(c + i * ldc);
        __builtin_prefetch(c + i * ldc + 2 * WIDTH - 1);
    }
    for (long k = 0; k < part; k++, a += HEIGHT, b += 2 * WIDTH) {
        const floats b0 = *(const floats *)b, b1 = *(const floats *)(b + WIDTH);
#pragma GCC unroll 16
        for (int i = 0; i < HEIGHT; i++) {
            const floats ai = a[i] - zero;  /* in all lanes; -0 - 0 is -0 */
            x[i][0] = FMA(ai, b0, x[i][0]);
            x[i][1] = FMA(ai, b1, x[i][1]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < HEIGHT; i++, c += ldc) {
        floats *to = (floats *)c;
        to[0] = (add ? to[0] : zero) + x[i][0];
        to[1] = (add ? to[1] : zero) + x[i][1];
    }
}

#undef TILE
#undef TARGET
#undef FMA
#undef WIDTH
#undef HEIGHT
