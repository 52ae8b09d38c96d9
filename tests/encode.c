/* encode.c: prints the token ids of files, the C side of
   tools/check_tokenizer.py.   build/test/encode MODEL_DIR TEXT_FILE ...
   A file holds texts with the byte FF between them, which no UTF-8 has; a line
   each, ids or "! message".
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <string.h>

typedef struct {
    const char *dir, *path, *text;
    const gm_tokenizer *t;
    size_t bytes;
    gm_arena texts, arena, call;
} job;

static void read_text(void *context) {
    job *j = context;
    j->text = gm_file_text(&j->texts, j->path, &j->bytes);
}

static void open_tokenizer(void *context) {
    job *j = context;
    double begin = gm_seconds();
    j->t = gm_tokenizer_open(&j->arena, j->dir);
    fprintf(stderr, "open %.3f s\n", gm_seconds() - begin);
}

static void encode(void *context) {
    job *j = context;
    long count;
    double begin = gm_seconds();
    int32_t *id = gm_tokenize(j->t, &j->call, j->path, j->text, j->bytes,
                              &count);
    if (j->bytes > 100000)
        fprintf(stderr, "encode %.3f s\n", gm_seconds() - begin);
    for (long i = 0; i < count; i++) printf("%d ", id[i]);
    putchar('\n');
}

int main(int argc, char **argv) {
    gm_error err;
    if (argc < 3 || argc % 2 == 0)
        return fprintf(stderr, "encode MODEL_DIR TEXT_FILE ...\n"), 2;
    for (int i = 1; i < argc; i += 2) {
        job j = {.dir = argv[i], .path = argv[i + 1]};
        if (gm_try(read_text, &j, &err))
            return fprintf(stderr, "%s\n", err.text), 1;
        const bool bad = gm_try(open_tokenizer, &j, &err);
        const char *at = j.text, *end = at + j.bytes;
        for (const char *stop; at <= end; at = stop + 1) {
            stop = memchr(at, 0xFF, (size_t)(end - at));
            if (!stop) stop = end;
            j.text = at;
            j.bytes = (size_t)(stop - at);
            if (bad || gm_try(encode, &j, &err)) printf("! %s\n", err.text);
            gm_arena_free(&j.call);
        }
        gm_arena_free(&j.arena);
        gm_arena_free(&j.texts);
    }
    return 0;
}
