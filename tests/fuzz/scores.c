/* scores.c: any bytes as scores.tsv.  Accepted: written and read again it is
   the same table, byte for byte the same file.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

#include <unistd.h>

static char *written(const gm_scores *s, size_t *size) {
    gm_arena arena = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/out", fuzz_dir());
    if (STATUS(gm_scores_write(&arena, path, s)) != GM_OK)
        fprintf(stderr, "%s\n", err.text), abort();
    gm_arena_free(&arena);
    return fuzz_load(path, size);
}

static void check_equal(const gm_scores *a, const gm_scores *b) {
    FUZZ_CHECK(a->M == b->M && a->K == b->K && a->N == b->N);
    FUZZ_CHECK(a->overhead == b->overhead);
    for (int k = 0; k < a->K; k++) FUZZ_CHECK(a->bits[k] == b->bits[k]);
    for (long m = 0; m < a->M; m++) {
        FUZZ_CHECK(strcmp(a->name[m], b->name[m]) == 0);
        FUZZ_CHECK(a->weights[m] == b->weights[m]);
    }
    for (long i = 0; i < a->M * a->K; i++) {
        FUZZ_CHECK(a->bytes[i] == b->bytes[i]);
        FUZZ_CHECK(a->score[i] == b->score[i] && a->error[i] == b->error[i]);
    }
}

void fuzz_scores(const uint8_t *data, size_t size) {
    gm_arena arena = {0};
    gm_scores s, again;
    fuzz_begin();
    fuzz_file("/fuzz/scores.tsv", data, size);
    gm_status status = STATUS(gm_scores_read(&arena, "/fuzz/scores.tsv", &s));
    fuzz_end(256, 16384);
    if (status == GM_OK) {
        size_t n, n2;
        char *first = written(&s, &n), *second;
        fuzz_begin();
        fuzz_file("/fuzz/again", first, n);
        status = STATUS(gm_scores_read(&arena, "/fuzz/again", &again));
        fuzz_end(256, 16384);
        if (status) fprintf(stderr, "%s\n%s\n", err.text, first);
        FUZZ_CHECK(status == GM_OK);
        check_equal(&s, &again);
        second = written(&again, &n2);
        FUZZ_CHECK(n == n2 && memcmp(first, second, n) == 0);
        free(first), free(second);
    }
    gm_arena_free(&arena);
}
