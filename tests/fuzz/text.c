/* text.c: any bytes as text for the seven tokenizers of tests/golden; the
   first byte chooses.  Accepted: exactly well-formed UTF-8; every token is
   below the size stated; there are no more tokens than bytes of normalised
   text (NFC makes a code point at most three).
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

static const gm_tokenizer *golden(int i) {
    static const char *const dir[] = {
        "tests/golden/tokenizer-gpt2", "tests/golden/tokenizer-llama3",
        "tests/golden/tokenizer-mixed", "tests/golden/tokenizer-qwen2",
        "tests/golden/tokenizer-smollm2", "tests/golden/tokenizer-llama2",
        "tests/golden/tokenizer-mistral"};
    static gm_arena arena;
    static gm_tokenizer *t[7];
    if (!t[i] && STATUS(t[i] = gm_tokenizer_open(&arena, dir[i])) != GM_OK)
        fprintf(stderr, "%s\n", err.text), abort();
    return t[i];
}

void fuzz_text(const uint8_t *data, size_t size) {
    if (!size) return;
    const gm_tokenizer *t = golden(data[0] % 7);
    char *text = malloc(size);          /* not one byte more than it says */
    size_t n = size - 1;
    memcpy(text, data + 1, n);
    gm_arena arena = {0};
    int32_t *tokens = NULL;
    long count = 0;
    bool valid = true;
    fuzz_begin();
    fuzz_file("/fuzz/text", text, n);
    gm_status s = STATUS(tokens = gm_tokenize(t, &arena, "text", text, n,
                                              &count));
    fuzz_end(512, 1 << 16);
    for (size_t i = 0; i < n && valid;) {
        uint32_t point;
        int step = gm_utf8(text + i, text + n, &point);
        valid = step > 0;
        i += (size_t)step;
    }
    FUZZ_CHECK((s == GM_OK) == valid && (size_t)count <= 3 * n);
    for (long i = 0; !s && i < count; i++)
        FUZZ_CHECK(tokens[i] >= 0);
    gm_arena_free(&arena);
    free(text);
}
