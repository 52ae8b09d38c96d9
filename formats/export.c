/* export.c: writes quantized models: a Hugging Face directory that
   transformers loads unchanged, or one packed safetensors file.  Every file
   appears whole or not at all; the input directory is never written to.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* module[i]: 7 layer + linear whose weight is tensor i of the model, or -1. */
static void module_of_tensor(gm_arena *arena, const gm_model *model,
                                  long **module) {
    long count = model->tensors.count;
    *module = gm_alloc(arena, (size_t)count, sizeof **module);
    for (long i = 0; i < count; i++) (*module)[i] = -1;
    for (long m = 0; m < model->config.layers * GM_LINEARS; m++) {
        const gm_tensor *t = gm_linear_tensor(model, m / GM_LINEARS,
                                              (int)(m % GM_LINEARS));
        (*module)[t - model->tensors.tensor] = m;
    }
}

/* -------------------------------------------------- Hugging Face directory */

/* What makes a directory loadable, besides config.json and the weights. */
static const char *const companions[] = {
    "tokenizer.json", "tokenizer_config.json", "generation_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.jinja", "model.safetensors.index.json", "config.json"};

static void same_directory(const char *a, const char *b) {
    if (!gm_same_file(a, b)) return;
    gm_fail(GM_EUSAGE, "%s: the output directory is the model's "
                   "own; expected another", b);
}

/* A tensor as it is stored.  What is no finite number goes into no model. */
static void write_stored(gm_out *out, const gm_tensor *t) {
    if (t->dtype <= GM_F64) gm_tensor_check(t);
    uint8_t piece[1 << 16];
    for (size_t at = 0; at < t->bytes; at += sizeof piece) {
        size_t n = t->bytes - at < sizeof piece ? t->bytes - at : sizeof piece;
        gm_tensor_bytes(t, (int64_t)at, n, piece);
        gm_out_write(out, piece, n);
    }
}

/* The dequantized candidate, or the stored weight, in the tensor's dtype. */
static void write_weight(gm_arena *arena, const gm_candidates *candidates,
                              const gm_tensor *t, long m, int k, gm_out *out) {
    const long l = m / GM_LINEARS, count = t->shape[0] * t->shape[1];
    const int j = (int)(m % GM_LINEARS);
    const gm_tensor *whole = gm_candidate_tensor(candidates, l, j, k);
    if (whole == gm_linear_tensor(candidates->model, l, j)) {
        write_stored(out, t);
        return;
    }
    gm_mark mark = gm_arena_mark(arena);
    gm_real *q = gm_alloc(arena, (size_t)count, sizeof *q);
    uint8_t *bytes = gm_alloc(arena, t->bytes, 1);
    gm_candidate_weight(candidates, l, j, k, q);
    gm_store(t->dtype, q, count, bytes);
    /* a finite float may be infinite in the tensor's type */
    gm_tensor stored = *t;
    stored.file = NULL;
    stored.data = bytes;
    stored.path = out->path;
    gm_tensor_check(&stored);
    gm_out_write(out, bytes, t->bytes);
    gm_arena_rewind(arena, mark);
}

/* One shard: the tensors that lie in file `path`, in name order. */
static void write_shard(gm_arena *arena, const gm_model *model,
                             const gm_candidates *candidates, const int *choice,
                             const long *module, const char *path,
                             const char *to, int64_t *bytes) {
    static const char *const metadata[] = {"format", "pt", NULL};
    const gm_tensors *all = &model->tensors;
    gm_tensor *t = gm_alloc(arena, (size_t)all->count, sizeof *t);
    long *from = gm_alloc(arena, (size_t)all->count, sizeof *from), count = 0;
    for (long i = 0; i < all->count; i++)
        if (strcmp(all->tensor[i].path, path) == 0) {
            t[count] = all->tensor[i];
            from[count++] = i;
        }
    gm_out out = {0};
    gm_safetensors_begin(arena, to, t, count, metadata, 0, &out);
    for (long i = 0; i < count; i++) {
        long m = module[from[i]];
        if (m < 0) write_stored(&out, t + i);
        else write_weight(arena, candidates, t + i, m, choice[m], &out);
    }
    *bytes += out.bytes;
    gm_out_commit(&out);
}

/* Several shards in place of an older model's: without config.json nobody
   takes a mixture of both for a model. */
static void mark_unfinished(gm_arena *arena, const gm_model *model,
                                 const char *dir) {
    const char *config = gm_format(arena, "%s/config.json", dir);
    if (model->tensors.files < 2 || unlink(config) == 0 || errno == ENOENT)
        return;
    gm_fail(GM_EIO, "%s: cannot remove: %s", config,
                   strerror(errno));
}

void gm_export_dequantized(gm_arena *arena, const gm_model *model,
                                const gm_candidates *candidates,
                                const int *choice, const char *dir,
                                const gm_report *report, int64_t *bytes) {
    long *module;
    *bytes = 0;
    same_directory(model->dir, dir);
    gm_make_dir(dir);
    gm_lock *lock = gm_dir_lock(arena, dir);
    module_of_tensor(arena, model, &module);
    mark_unfinished(arena, model, dir);
    for (long i = 0; i < model->tensors.files; i++) {
        const char *path = model->tensors.file[i]->path;
        const char *to = gm_format(arena, "%s/%s", dir, gm_base_name(path));
        write_shard(arena, model, candidates, choice, module, path, to, bytes);
        gm_say(report, "writing shards", i + 1, model->tensors.files);
    }
    /* config.json last: a directory without it is visibly unfinished */
    for (size_t i = 0; i < sizeof companions / sizeof *companions; i++) {
        const char *from = gm_format(arena, "%s/%s", model->dir, companions[i]);
        const char *to = gm_format(arena, "%s/%s", dir, companions[i]);
        if (gm_exists(from)) gm_copy_file(arena, from, to);
    }
    gm_dir_unlock(lock);
}

/* ------------------------------------------------------------- packed file */

static const char *const packed_metadata[] = {"format", "gamma-packed 1", NULL};

/* The entries of weight `t` with `bits`: three parts, or itself. */
static void entries(gm_arena *arena, const gm_tensor *t, int bits,
                         long group, gm_tensor *out, long *count) {
    if (bits >= 16) {
        out[(*count)++] = *t;
        return;
    }
    gm_packed p = gm_packed_at(t->shape[0], t->shape[1], bits, group, NULL);
    int stem = (int)strlen(t->name) - (int)strlen(".weight");
    gm_packed_tensors(arena, gm_format(arena, "%.*s", stem, t->name), &p,
                      out + *count);
    *count += 3;
}

/* The file's layout; bits_of[m] for each module.  tensors: [3 count]. */
static void layout(gm_arena *arena, const gm_model *model,
                        const long *module, const int *bits_of, long group,
                        gm_tensor *tensors, long *count) {
    *count = 0;
    for (long i = 0; i < model->tensors.count; i++) {
        const gm_tensor *t = model->tensors.tensor + i;
        if (module[i] < 0)
            tensors[(*count)++] = *t;
        else
            entries(arena, t, bits_of[module[i]], group, tensors, count);
    }
}

static int digits(int64_t x) {
    int n = 1;
    while (x >= 10) x /= 10, n++;
    return n;
}

/* A header long enough for every assignment: that of the largest candidate
   below 16 bits everywhere, whose shapes and offsets have the most digits.
   Choosing "as stored" replaces three entries by one but may lengthen later
   offsets, by at most digits(largest file) - 1 digits in two numbers each. */
static void header_bytes(gm_arena *arena, const gm_model *model,
                              const gm_recipe *recipe, const long *module,
                              size_t *bytes) {
    long modules = model->config.layers * GM_LINEARS, count;
    int *bits = gm_alloc(arena, (size_t)modules, sizeof *bits);
    gm_tensor *t = gm_alloc(arena, (size_t)model->tensors.count * 3, sizeof *t);
    int last = recipe->bits[recipe->count - 1], top = last;
    if (top >= 16 && recipe->count > 1) top = recipe->bits[recipe->count - 2];
    for (long m = 0; m < modules; m++) bits[m] = top;
    layout(arena, model, module, bits, recipe->group, t, &count);
    *bytes = gm_safetensors_header(t, count, packed_metadata);
    int64_t all = 0;
    for (long i = 0; i < model->tensors.count; i++)
        all += (int64_t)model->tensors.tensor[i].bytes;
    if (last >= 16) *bytes += (size_t)(count * 2 * (digits(all) - 1));
    *bytes = (*bytes + 7) / 8 * 8;
}

int64_t gm_packed_overhead(gm_arena *arena, const gm_model *model,
                           const gm_recipe *recipe) {
    gm_mark mark = gm_arena_mark(arena);
    long *module;
    size_t header = 0;
    module_of_tensor(arena, model, &module);
    header_bytes(arena, model, recipe, module, &header);
    int64_t bytes = (int64_t)header;
    for (long i = 0; i < model->tensors.count; i++)
        if (module[i] < 0) bytes += (int64_t)model->tensors.tensor[i].bytes;
    gm_arena_rewind(arena, mark);
    return bytes;
}

/* The parts of one module, in the order of `entries`. */
static void write_packed(const gm_candidates *candidates, long m, int k,
                              gm_out *out) {
    const long l = m / GM_LINEARS;
    const int j = (int)(m % GM_LINEARS);
    const gm_tensor *whole = gm_candidate_tensor(candidates, l, j, k);
    gm_packed p;
    if (whole) {
        write_stored(out, whole);
        return;
    }
    gm_mark mark = gm_arena_mark(candidates->arena);
    gm_candidate(candidates, l, j, k, &p);
    gm_out_write(out, p.codes, (size_t)gm_packed_bytes(p.out, p.in, p.bits,
                                                       p.group));
    gm_arena_rewind(candidates->arena, mark);
}

void gm_export_packed(gm_arena *arena, const gm_model *model,
                           const gm_candidates *candidates, const int *choice,
                           const char *path, const gm_report *report) {
    const gm_recipe *recipe = &candidates->recipe;
    long *module, count, modules = model->config.layers * GM_LINEARS;
    size_t header;
    int *bits = gm_alloc(arena, (size_t)modules, sizeof *bits);
    gm_tensor *t = gm_alloc(arena, (size_t)model->tensors.count * 3, sizeof *t);
    if (recipe->quantizer == GM_EXTERNAL)
        gm_fail(GM_EUSAGE, "%s: external candidates have no codes "
                       "to pack: expected --format hf, found packed", path);
    for (long m = 0; m < modules; m++) bits[m] = recipe->bits[choice[m]];
    module_of_tensor(arena, model, &module);
    header_bytes(arena, model, recipe, module, &header);
    layout(arena, model, module, bits, recipe->group, t, &count);
    gm_out out = {0};
    gm_safetensors_begin(arena, path, t, count, packed_metadata,
                                     header, &out);
    for (long i = 0; i < model->tensors.count; i++) {
        const gm_tensor *stored = model->tensors.tensor + i;
        if (module[i] < 0) write_stored(&out, stored);
        else write_packed(candidates, module[i], choice[module[i]], &out);
        gm_say(report, "writing packed", i + 1, model->tensors.count);
    }
    gm_out_commit(&out);
}
