/* config.c: any bytes as config.json.  Accepted: sizes are positive and fit
   together, and the rotary table that they describe can be built.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

void fuzz_config(const uint8_t *data, size_t size) {
    gm_arena arena = {0};
    gm_config c;
    fuzz_begin();
    fuzz_file("/fuzz/config.json", data, size);
    gm_status s = STATUS(gm_config_read(&arena, "/fuzz", &c));
    fuzz_end(192, 4096);
    if (s == GM_OK) {
        FUZZ_CHECK(c.layers > 0 && c.d > 0 && c.ff > 0 && c.vocab > 0);
        FUZZ_CHECK(c.heads > 0 && c.kv_heads > 0 && c.heads % c.kv_heads == 0);
        FUZZ_CHECK(c.head_dim > 0 && c.head_dim % 2 == 0);
        FUZZ_CHECK(c.norm_eps >= 0 && c.max_position > 0);
        for (int j = 0; j < GM_LINEARS; j++) {
            long out, in, n;
            gm_linear_shape(&c, j, &out, &in);
            FUZZ_CHECK(out > 0 && in > 0);
            FUZZ_CHECK(!__builtin_mul_overflow(out, in, &n));
            FUZZ_CHECK(!__builtin_mul_overflow(n, 32 * c.layers, &n));
        }
        gm_real cos[3 * 128], sin[3 * 128];
        if (c.head_dim <= 256) gm_rope_angles(&c, 3, NULL, cos, sin);
    }
    gm_arena_free(&arena);
}
