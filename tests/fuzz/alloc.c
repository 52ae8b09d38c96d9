/* alloc.c: any bytes as alloc.tsv, read, matched with a fixed score table and
   checked against it.  Accepted: written and read again it is the same.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

static const char scores_text[] =
    "# format gamma-scores 1\n"
    "module\tout\tin\tweights\t2.bytes\t2.score\t2.stderr\t4.bytes\t4.score\t"
    "4.stderr\n"
    "a\t8\t16\t128\t40\t1\t-\t72\t0.25\t-\n"
    "b\t16\t16\t256\t80\t2\t-\t144\t0.5\t-\n";

static char *written(const gm_allocation *a, size_t *size) {
    gm_arena arena = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/out", fuzz_dir());
    if (STATUS(gm_allocation_write(&arena, path, a)) != GM_OK)
        fprintf(stderr, "%s\n", err.text), abort();
    gm_arena_free(&arena);
    return fuzz_load(path, size);
}

static void check_again(gm_arena *arena, const gm_allocation *a) {
    gm_allocation again;
    size_t n, n2;
    char *first = written(a, &n), *second;
    fuzz_begin();
    fuzz_file("/fuzz/again", first, n);
    gm_status s = STATUS(gm_allocation_read(arena, "/fuzz/again", &again));
    fuzz_end(256, 16384);
    if (s) fprintf(stderr, "%s\n%s\n", err.text, first);
    FUZZ_CHECK(s == GM_OK && again.M == a->M);
    for (long m = 0; m < a->M; m++) {
        FUZZ_CHECK(strcmp(a->name[m], again.name[m]) == 0);
        FUZZ_CHECK(a->bits[m] == again.bits[m]);
        FUZZ_CHECK(a->bytes[m] == again.bytes[m]);
    }
    second = written(&again, &n2);
    FUZZ_CHECK(n == n2 && memcmp(first, second, n) == 0);
    free(first), free(second);
}

void fuzz_alloc(const uint8_t *data, size_t size) {
    gm_arena arena = {0};
    gm_allocation a;
    gm_scores scores;
    gm_check checked;
    int choice[2];
    fuzz_begin();
    fuzz_file("/fuzz/alloc.tsv", data, size);
    fuzz_file("/fuzz/scores.tsv", scores_text, sizeof scores_text - 1);
    gm_status s = STATUS(gm_scores_read(&arena, "/fuzz/scores.tsv", &scores));
    FUZZ_CHECK(s == GM_OK);
    s = STATUS(gm_allocation_read(&arena, "/fuzz/alloc.tsv", &a));
    if (!s && !STATUS(gm_allocation_match(&a, &scores, choice))) {
        gm_sizes_of(&scores, choice);
        STATUS(gm_check_allocation(&arena, &a, &scores, NULL, &checked));
    }
    fuzz_end(256, 65536);
    if (!s) check_again(&arena, &a);
    gm_arena_free(&arena);
}
