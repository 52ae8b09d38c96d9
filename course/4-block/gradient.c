/* gradient.c: dE/dw of one weight of data/tiny-llama, by gm_block_backward and
   by central differences of gm_block_forward with smaller and smaller h, in
   float.
   E = 1/2 sum y^2 over the outputs y of block 0 for 32 tokens.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "course.h"

enum { T = 32, WEIGHT = 5 };

static double energy(gm_acts *acts, const gm_block *block, const gm_real *h,
                     gm_real *y) {
    const long n = T * acts->config->d;
    gm_block_forward(acts, block, h, y);
    return gm_dot(n, y, y) / 2;
}

int main(void) {
    gm_arena a = {0};
    gm_model model;
    gm_block block, grad;
    gm_acts acts;
    int32_t token[T];
    gm_model_open(&a, "../data/tiny-llama", &model);
    const long n = T * model.config.d;
    gm_real *h = gm_alloc(&a, (size_t)n, sizeof *h);
    gm_real *y = gm_alloc(&a, (size_t)n, sizeof *y);
    for (int t = 0; t < T; t++) token[t] = 10 + 7 * t;
    gm_block_alloc(&a, &model.config, &block);
    gm_grad_alloc(&a, &model.config, &grad);
    gm_acts_alloc(&a, &model.config, 1, T, true, &acts);
    gm_block_load(&model, 0, &block);
    gm_embed(&model, token, T, h);

    energy(&acts, &block, h, y);
    gm_block_backward(&acts, &block, h, y, &grad, NULL);    /* dE/dy = y */
    const double slope = grad.w[GM_GATE][WEIGHT];
    gm_real *w = block.w[GM_GATE] + WEIGHT;
    const gm_real kept = *w;
    printf("backward: %.5g\nh central off_by\n", slope);
    for (int k = 0; k <= 6; k++) {
        const double step = pow(10, -k);
        *w = (gm_real)(kept + step);
        const double up = energy(&acts, &block, h, y);
        *w = (gm_real)(kept - step);
        const double found = (up - energy(&acts, &block, h, y)) / (2 * step);
        printf("%g %.4g %.0e\n", step, found, fabs(found / slope - 1));
    }
    gm_arena_free(&a);
    return 0;
}
