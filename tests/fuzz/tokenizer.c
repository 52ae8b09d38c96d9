/* tokenizer.c: any bytes as tokenizer.json and, after a NUL, a text for it.
   Accepted: every token is below the size that the tokenizer states.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

void fuzz_tokenizer(const uint8_t *data, size_t size) {
    static const char fallback[] = "It's 12345 \u00e9e\u0301\n\n  <s>ab";
    const uint8_t *stop = memchr(data, 0, size);
    const char *text = stop ? (const char *)stop + 1 : fallback;
    size_t bytes = stop ? size - (size_t)(stop + 1 - data) : strlen(fallback);
    gm_arena arena = {0};
    gm_tokenizer *t = NULL;
    int32_t *tokens = NULL;
    long count = 0;
    fuzz_begin();
    fuzz_file("/fuzz/tokenizer.json", data, stop ? (size_t)(stop - data) : size);
    fuzz_file("/fuzz/text", text, bytes);       /* counted as input */
    gm_status s = STATUS(t = gm_tokenizer_open(&arena, "/fuzz"));
    if (!s) s = STATUS(tokens = gm_tokenize(t, &arena, "text", text, bytes, &count));
    fuzz_end(1 << 14, 1 << 20);     /* \p{L}, 5 bytes, is 650 ranges */
    for (long i = 0; !s && i < count; i++)
        FUZZ_CHECK(tokens[i] >= 0);
    gm_arena_free(&arena);
}
