/* compare.c: any bytes as the columns and rows of compare.tsv and, after a NUL,
   the window means of the rows with key "k".  The rows' hash, which stops
   damage, would stop the fuzzer too: it is taken from the refusal.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

static gm_status look(gm_arena *arena, const char *hash, const uint8_t *data,
                      size_t size, gm_comparison *c) {
    static const char head[] = "# format gamma-compare 1\n# hash ";
    const uint8_t *stop = memchr(data, 0, size);
    size_t n = stop ? (size_t)(stop - data) : size, at = sizeof head - 1;
    char *text = malloc(at + 65 + n);
    memcpy(text, head, at);
    memcpy(text + at, hash, 64);
    text[at + 64] = '\n';
    memcpy(text + at + 65, data, n);
    fuzz_begin();
    fuzz_file("/fuzz/compare.tsv", text, at + 65 + n);
    if (stop) fuzz_file("/fuzz/windows-k.tsv", stop + 1, size - n - 1);
    gm_status s = STATUS(*c = gm_comparison_open(arena, "/fuzz"));
    /* every row may name the same windows */
    fuzz_end(64.0 * (double)size + 256, 16384);
    free(text);
    return s;
}

void fuzz_compare(const uint8_t *data, size_t size) {
    static const char zeros[] =
        "0000000000000000000000000000000000000000000000000000000000000000";
    char text[GM_ROW_TEXT];
    gm_arena arena = {0};
    gm_comparison c;
    gm_status s = look(&arena, zeros, data, size, &c);
    const char *found = s ? strstr(err.text, ", found ") : NULL;
    if (found && strstr(err.text, "damaged or edited") && strlen(found) > 72)
        s = look(&arena, found + 8, data, size, &c);
    for (long i = 0; !s && i < c.count; i++) {
        gm_compared_text(&c.row[i], text);
        FUZZ_CHECK(gm_comparison_find(&c, c.row[i].key));
    }
    gm_arena_free(&arena);
}
