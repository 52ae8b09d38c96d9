/* foreign.c: any bytes as another tool's allocation of two modules.  Accepted:
   every module has a type, codes, and bytes that hold them.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

static const char scores_text[] =
    "module\tout\tin\tweights\t2.score\t4.score\n"
    "model.layers.0.self_attn.q_proj\t8\t32\t256\t1\t0.25\n"
    "model.layers.1.mlp.down_proj\t16\t256\t4096\t2\t0.5\n";

void fuzz_foreign(const uint8_t *data, size_t size) {
    gm_arena arena = {0};
    gm_scores scores;
    gm_foreign file;
    fuzz_begin();
    fuzz_file("/fuzz/foreign", data, size);
    fuzz_file("/fuzz/scores.tsv", scores_text, sizeof scores_text - 1);
    gm_status s = STATUS(gm_scores_read(&arena, "/fuzz/scores.tsv", &scores));
    FUZZ_CHECK(s == GM_OK);
    s = STATUS(gm_foreign_read(&arena, "/fuzz/foreign", &scores,
                               size % 2 ? "q4_K" : NULL, &file));
    fuzz_end(512, 65536);
    FUZZ_CHECK(s == GM_OK || s == GM_EINPUT || s == GM_EIO);
    for (long m = 0; m < 2 && !s; m++) {
        const gm_gets *g = file.module + m;
        FUZZ_CHECK(g->type && g->codes > 0 && g->bytes >= -1);
        FUZZ_CHECK(g->bits == 0 || g->codes == g->bits * scores.weights[m]);
    }
    gm_arena_free(&arena);
}
