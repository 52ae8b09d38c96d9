/* npy.c: any bytes as tokens in a .npy file.  Accepted: no token is negative
   and there are no more than the bytes can hold.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

void fuzz_npy(const uint8_t *data, size_t size) {
    gm_arena arena = {0};
    int32_t *tokens;
    long count;
    fuzz_begin();
    fuzz_file("/fuzz/x.npy", data, size);
    gm_status s = STATUS(tokens = gm_npy_read(&arena, "/fuzz/x.npy", &count));
    fuzz_end(4, 1024);
    FUZZ_CHECK(s || (count >= 0 && 2 * (size_t)count <= size));
    for (long i = 0; !s && i < count; i++) FUZZ_CHECK(tokens[i] >= 0);
    gm_arena_free(&arena);
}
