/* command.c: any words as a command line, through the whole of main.c; only
   the files scores.tsv and alloc.tsv are there, and nothing can be written.
   Words end with a NUL or a line break.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

int gamma_main(int argc, char **argv);

static const char scores_text[] =
    "module\tout\tin\tweights\t2.bytes\t2.score\t2.stderr\t4.bytes\t4.score\t"
    "4.stderr\n"
    "a\t8\t16\t128\t40\t1\t-\t72\t0.25\t-\n"
    "b\t16\t16\t256\t80\t2\t-\t144\t0.5\t-\n";
static const char alloc_text[] = "module\tbits\na\t2\nb\t4\n";

void fuzz_command(const uint8_t *data, size_t size) {
    enum { WORDS = 32 };
    char name[] = "gamma", *argv[WORDS + 2] = {name};
    int argc = 1;
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = 0;
    for (size_t i = 0; i < size; i++)
        if (text[i] == '\n') text[i] = 0;
    for (size_t i = 0; i < size && argc <= WORDS; i += strlen(text + i) + 1)
        argv[argc++] = text + i;
    fuzz_begin();
    fuzz_file("scores.tsv", scores_text, sizeof scores_text - 1);
    fuzz_file("alloc.tsv", alloc_text, sizeof alloc_text - 1);
    int code = gamma_main(argc, argv);
    FUZZ_CHECK(code >= 0 && code <= GM_EDIFFER);
    /* --profile copies 16 MiB; "3," is a solve of its own */
    fuzz_end(1024, (1 << 24) + (1 << 25) + (size << 16));
    free(text);
}
