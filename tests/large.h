/* large.h: weights that are finite, and so large that activations are not.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_LARGE_H
#define GM_LARGE_H

#include "gamma.h"

/* The tensor, F32 or BF16, shows 3e38 everywhere from now on. */
static inline void make_large(gm_arena *arena, gm_tensor *t) {
    uint8_t *data = gm_alloc(arena, t->bytes, 1);
    size_t n = t->bytes / gm_dtype_bytes(t->dtype);
    for (size_t i = 0; i < n && t->dtype == GM_F32; i++)
        ((float *)(void *)data)[i] = 3e38f;
    for (size_t i = 0; i < n && t->dtype == GM_BF16; i++)
        ((uint16_t *)(void *)data)[i] = 0x7f61;
    t->data = data;
    t->file = NULL;
}

#endif
