/* safetensors.c: one file as it is, or a directory with an index and two
   shards.  Accepted: every tensor lies inside its file with the bytes that its
   shape needs, no two overlap, the names ascend.

   The first byte says which.  'r': the rest is the file.  Else texts end with
   a NUL: 'h' header; 'i' index, header of a, header of b.  The harness puts
   the 8-byte length before a header and as many bytes of data behind it as
   the digit after the first byte says: 0, 4, 16, ... 4^9.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

enum { DATA = 1 << 12 };

/* One shard: length, header, data; takes the header off *at. */
static uint8_t *shard(const uint8_t **at, const uint8_t *end, size_t bytes,
                      size_t *size) {
    const uint8_t *stop = memchr(*at, 0, (size_t)(end - *at));
    size_t n = (size_t)((stop ? stop : end) - *at);
    uint8_t *file = calloc(8 + n + bytes, 1);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)n >> 8 * i);
    memcpy(file + 8, *at, n);
    *at = stop ? stop + 1 : end;
    *size = 8 + n + bytes;
    return file;
}

static void check_tensors(const gm_tensors *all) {
    gm_real x[64];
    char hex[65];
    for (long i = 0; i < all->count; i++) {
        const gm_tensor *t = &all->tensor[i];
        uint64_t elements = 1;
        for (int r = 0; r < t->rank; r++) {
            FUZZ_CHECK(t->shape[r] >= 0);
            elements *= (uint64_t)t->shape[r];
        }
        if (t->dtype != GM_OTHER)
            FUZZ_CHECK(elements * gm_dtype_bytes(t->dtype) == t->bytes);
        FUZZ_CHECK(gm_tensor_find(all, t->name) == t);
        FUZZ_CHECK(!i || strcmp(all->tensor[i - 1].name, t->name) < 0);
        FUZZ_CHECK(t->at >= 8 && t->at + (int64_t)t->bytes <=
                   (int64_t)t->file->size);
        for (const gm_tensor *u = all->tensor; u < t && t->bytes; u++)
            FUZZ_CHECK(u->file != t->file ||
                       u->at + (int64_t)u->bytes <= t->at ||
                       t->at + (int64_t)t->bytes <= u->at);
        STATUS(gm_tensor_read(t, 0, elements < 64 ? (int64_t)elements : 64, x));
    }
    FUZZ_CHECK(STATUS(gm_tensors_hash(all, hex)) == GM_OK);
}

void fuzz_safetensors(const uint8_t *data, size_t size) {
    if (size < 2) return;
    const uint8_t *at = data + 2, *end = data + size;
    size_t bytes = (size_t)1 << 2 * (data[1] % 10), n = 0;
    if (data[1] % 10 == 0 || bytes > DATA) bytes = 0;
    uint8_t *file[2] = {0};
    fuzz_begin();
    if (data[0] == 'i') {
        const uint8_t *stop = memchr(at, 0, (size_t)(end - at));
        if (!stop) stop = end;
        fuzz_file("/fuzz/model.safetensors.index.json", at, (size_t)(stop - at));
        at = stop < end ? stop + 1 : end;
        file[0] = shard(&at, end, bytes, &n);
        fuzz_file("/fuzz/a.safetensors", file[0], n);
        file[1] = shard(&at, end, bytes, &n);
        fuzz_file("/fuzz/b.safetensors", file[1], n);
    } else if (data[0] == 'r') {
        fuzz_file("/fuzz/model.safetensors", at, size - 2);
    } else {
        file[0] = shard(&at, end, bytes, &n);
        fuzz_file("/fuzz/model.safetensors", file[0], n);
    }
    gm_arena arena = {0};
    gm_tensors all = {0};
    gm_status s = STATUS(gm_checkpoint_open(&arena, "/fuzz", &all));
    if (s == GM_OK) check_tensors(&all), gm_tensors_close(&all);
    fuzz_end(192, 65536);
    gm_arena_free(&arena);
    free(file[0]), free(file[1]);
}
