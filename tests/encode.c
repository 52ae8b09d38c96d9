/* encode.c: prints the token ids of a file, one a line: the C side of
   tools/check_tokenizer.py.      build/test/encode MODEL_DIR TEXT_FILE
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

typedef struct { char **argv; gm_arena arena; } job;

static void encode(void *context) {
    job *j = context;
    gm_tokenizer *t;
    const char *text;
    size_t bytes;
    int32_t *id;
    long count;
    double begin = gm_seconds();
    t = gm_tokenizer_open(&j->arena, j->argv[1]);
    double opened = gm_seconds();
    text = gm_file_text(&j->arena, j->argv[2], &bytes);
    id = gm_tokenize(t, &j->arena, text, bytes, &count);
    fprintf(stderr, "open %.3f s, encode %.3f s\n", opened - begin,
            gm_seconds() - opened);
    for (long i = 0; i < count; i++) printf("%d\n", id[i]);
}

int main(int argc, char **argv) {
    gm_error err;
    job j = {argv, {0}};
    if (argc != 3) return fprintf(stderr, "encode MODEL_DIR TEXT_FILE\n"), 2;
    gm_status status = gm_try(encode, &j, &err);
    if (status) fprintf(stderr, "%s\n", err.text);
    gm_arena_free(&j.arena);
    return (int)status;
}
