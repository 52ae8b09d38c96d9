/* choices.c: any bytes as a file of multiple-choice questions.  Accepted: the
   right answer is one of the choices, and every pair has tokens of both.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

void fuzz_choices(const uint8_t *data, size_t size) {
    static gm_arena kept;
    static gm_tokenizer *t;
    /* as much around a text as there may be, and a prefix token */
    gm_specials specials = {(int32_t[]){5, -1, 6}, 3, 5, 5};
    gm_call call = {.choices = "/fuzz/q.jsonl", .delimiter = " ",
                    .model.config = {.max_position = 64, .vocab = 1 << 20}};
    gm_questions q;
    if (!t && STATUS(t = gm_tokenizer_open(&kept, "tests/golden/tokenizer-gpt2")))
        fprintf(stderr, "%s\n", err.text), abort();
    fuzz_begin();
    fuzz_file("/fuzz/q.jsonl", data, size);
    gm_status s = STATUS(q = gm_questions_read(&call, t, &specials));
    /* the context is tokenized anew for each choice */
    fuzz_end(64.0 * (double)size + 1024, 1 << 16);
    long right = 0;
    for (long i = 0; !s && i < q.count; i++) {
        right += q.ending[i].right;
        FUZZ_CHECK(q.ending[i].context > 0 &&
                   q.ending[i].count > q.ending[i].context);
    }
    FUZZ_CHECK(s || right == q.questions);
    gm_arena_free(&call.arena);
}
