/* encode.c: prints the token ids of a file, one a line: the C side of
   tools/check_tokenizer.py.      build/test/encode MODEL_DIR TEXT_FILE
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

int main(int argc, char **argv) {
    gm_arena arena = {0};
    gm_error err = {""};
    gm_tokenizer *t;
    gm_map text;
    int32_t *id;
    long count;
    if (argc != 3) return fprintf(stderr, "encode MODEL_DIR TEXT_FILE\n"), 2;
    double begin = gm_seconds();
    gm_status status = gm_tokenizer_open(&arena, argv[1], &t, &err);
    double opened = gm_seconds();
    if (status == GM_OK) status = gm_map_open(&arena, argv[2], &text, &err);
    if (status == GM_OK)
        status = gm_tokenize(t, &arena, (const char *)text.data, text.size,
                             &id, &count, &err);
    if (status != GM_OK) return fprintf(stderr, "%s\n", err.text), (int)status;
    fprintf(stderr, "open %.3f s, encode %.3f s\n", opened - begin,
            gm_seconds() - opened);
    for (long i = 0; i < count; i++) printf("%d\n", id[i]);
    gm_map_close(&text);
    gm_arena_free(&arena);
    return 0;
}
