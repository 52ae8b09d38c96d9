/* external.c: candidates that another tool made: one safetensors file of
   dequantized weights, NAME.bK for K code bits of module NAME, some modules
   perhaps without some K.  Reads that file and the model's shapes only.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 33 };            /* of a module: 0 .. 32 bits */

static const char example[] = "model.layers.0.self_attn.q_proj.b3";

/* What is being read. */
typedef struct {
    const gm_model *model;
    const char *path;
    gm_tensors tensors;
    long M;
    const gm_tensor **of;       /* [M, SLOTS] by module and bits         */
    int64_t *bytes;             /* the same; -1: the file does not say   */
} reading;

static const gm_tensor *weight_of(const gm_model *model, long m) {
    return gm_linear_tensor(model, m / GM_LINEARS, (int)(m % GM_LINEARS));
}

/* Slot of the tensor "NAME.bK" in of[] and bytes[]. */
static long slot_of(const reading *r, const char *name) {
    const char *dot = strrchr(name, '.');
    const size_t length = dot ? (size_t)(dot - name) : 0;
    char *end = NULL;
    long bits = 0;
    if (dot && dot[1] == 'b' && dot[2] >= '1' && dot[2] <= '9')
        bits = strtol(dot + 2, &end, 10);
    if (!bits || *end)
        gm_bad(r->path, "tensor \"%s\": expected a module's name and bits such "
               "as %s, found no .b and number at its end", name, example);
    if (!gm_is_bits(bits))
        gm_bad(r->path, "tensor \"%s\": expected bits 1 to 8, 16 or 32, found "
               "%ld", name, bits);
    for (long m = 0; m < r->M; m++) {
        const char *w = weight_of(r->model, m)->name;
        if (strncmp(w, name, length) == 0 && strcmp(w + length, ".weight") == 0)
            return m * SLOTS + bits;
    }
    gm_bad(r->path, "tensor \"%s\": expected a linear module of %s such as %s, "
           "found \"%.*s\"", name, r->model->dir, example, (int)length, name);
}

/* A file, or directories of quantized models with commas between: of each its
   modules' weights, NAME.bK. */
static void open_all(gm_arena *arena, const char *path, gm_tensors *all) {
    char *list = gm_format(arena, "%s", path);
    size_t room = 0, files = 0;
    const bool folder = gm_exists(gm_format(arena, "%s/.", path));
    if (!folder && (gm_exists(path) || !strchr(path, ','))) {
        gm_safetensors_open(arena, path, all);
        return;
    }
    for (char *dir; (dir = strsep(&list, ","));) {
        gm_model other;
        gm_layout_open(arena, dir, &other);
        if (!other.layout)
            gm_bad(dir, "expected a quantized model as mlx, compressed-tensors "
                   "or gptq store it, found another");
        for (long i = 0; i < other.tensors.files; i++) {
            all->file = gm_grow(arena, all->file, (size_t)all->files, &files,
                                sizeof *all->file);
            all->file[all->files++] = other.tensors.file[i];
        }
        for (long m = 0; m < other.config.layers * GM_LINEARS; m++) {
            const gm_tensor *w = weight_of(&other, m);
            if (!w->made) continue;
            all->tensor = gm_grow(arena, all->tensor, (size_t)all->count, &room,
                                  sizeof *all->tensor);
            gm_tensor *t = all->tensor + all->count++;
            *t = *w;
            t->name = gm_format(arena, "%.*s.b%d", (int)strlen(w->name) - 7,
                                w->name, w->made->bits);
        }
    }
    gm_tensors_sort(all);
}

static void read_tensors(reading *r) {
    for (long i = 0; i < r->tensors.count; i++) {
        const gm_tensor *t = r->tensors.tensor + i;
        const long slot = slot_of(r, t->name);
        const int64_t *shape = weight_of(r->model, slot / SLOTS)->shape;
        if (t->rank != 2 || t->shape[0] != shape[0] || t->shape[1] != shape[1])
            gm_bad(r->path, "tensor \"%s\": expected shape [%lld, %lld], found "
                   "%s", t->name, (long long)shape[0], (long long)shape[1],
                   gm_shape_of(t).text);
        gm_tensor_check(t);
        r->of[slot] = t;
        if (t->made) r->bytes[slot] = t->made->stored;
    }
}

/* Metadata "NAME.bK.bytes": what the tool itself stores for the candidate. */
static void read_bytes(reading *r) {
    const gm_json *c = r->tensors.metadata ? r->tensors.metadata->child : NULL;
    for (; c; c = c->next) {
        char name[512];
        long value, n = (long)strlen(c->key) - 6;
        if (n < 0 || strcmp(c->key + n, ".bytes") != 0) continue;
        snprintf(name, sizeof name, "%.*s", (int)n, c->key);
        if (!gm_tensor_find(&r->tensors, name))
            gm_bad(r->path, "metadata \"%s\": expected a tensor \"%s\", found "
                   "none", c->key, name);
        if (!gm_is_long(c->string, 0, 1L << 53, &value))
            gm_bad(r->path, "metadata \"%s\": expected a whole number from 0 "
                   "to 2^53, found \"%s\"", c->key, c->string);
        r->bytes[slot_of(r, name)] = value;
    }
}

/* --------------------------------------------------------------- choosing K */

static bool file_has(const reading *r, int bits) {
    for (long m = 0; m < r->M; m++)
        if (r->of[m * SLOTS + bits]) return true;
    return false;
}

/* The recipe's bits: those of --bits, or all of the file.  16 (32), asked for
   and not in the file, is the weight as stored. */
static void choose_bits(const reading *r, const char *bits, long group,
                        gm_recipe *out) {
    if (bits) {
        gm_recipe_parse(bits, group, out);
        for (int k = 0; k < out->count; k++)
            if (out->bits[k] < 16 && !file_has(r, out->bits[k]))
                gm_fail(GM_EUSAGE, "--bits: expected bits that %s has, found "
                        "%d", r->path, out->bits[k]);
        return;
    }
    *out = (gm_recipe){.group = group, .damping = GM_DAMPING};
    for (int b = 1; b < SLOTS; b++)
        if (file_has(r, b)) out->bits[out->count++] = b;
    if (out->count == 0)
        gm_bad(r->path, "expected tensors such as %s, found none", example);
}

/* What module m is offered into the tables; the largest of their bytes. */
static int64_t choose(const reading *r, const gm_recipe *recipe, long m,
                      gm_external *e) {
    const gm_tensor *w = weight_of(r->model, m);
    const int stem = (int)strlen(w->name) - (int)strlen(".weight");
    int64_t largest = -1;
    for (int k = 0; k < recipe->count; k++) {
        const int b = recipe->bits[k];
        const long i = m * recipe->count + k;
        const bool stored = b >= 16 && !file_has(r, b);
        if (stored && (int)gm_dtype_bytes(w->dtype) * 8 != b)
            gm_fail(GM_EUSAGE, "--bits: %d stands for the weight as stored "
                    "where %s has none, but %s is %s in %s", b, r->path,
                    w->name, gm_dtype_name(w->dtype), w->path);
        e->tensor[i] = stored ? w : r->of[m * SLOTS + b];
        e->allowed[i] = e->tensor[i] != NULL;
        e->bytes[i] = r->bytes[m * SLOTS + b];
        if (e->allowed[i] && e->bytes[i] < 0)
            e->bytes[i] = gm_packed_bytes(w->shape[0], w->shape[1], b,
                                          recipe->group);
        if (e->bytes[i] > largest) largest = e->bytes[i];
    }
    if (largest < 0)
        gm_bad(r->path, "module %.*s: expected at least one tensor %.*s.bK, "
               "found none", stem, w->name, stem, w->name);
    return largest;
}

/* Of the tensors and of what each candidate is taken to weigh. */
static void hash_of(const reading *r, long cells, gm_external *e) {
    char tensors[65];
    gm_sha sha;
    gm_tensors_hash(&r->tensors, tensors);
    gm_sha_begin(&sha);
    gm_sha_add(&sha, tensors, 64);
    for (long i = 0; i < cells; i++) {
        char text[32];
        int n = snprintf(text, sizeof text, "%lld\n", (long long)e->bytes[i]);
        gm_sha_add(&sha, text, (size_t)n);
    }
    gm_sha_end(&sha, e->hash);
}

void gm_external_open(gm_arena *arena, const gm_model *model,
                      const char *path, const char *bits, long group,
                      gm_recipe *out) {
    reading r = {.model = model, .path = path,
                 .M = model->config.layers * GM_LINEARS};
    const size_t slots = (size_t)(r.M * SLOTS);
    const int64_t most = INT64_C(1) << 53;  /* 64 bits hold 8 to the byte */
    int64_t total = 0;
    r.of = gm_alloc(arena, slots, sizeof *r.of);
    r.bytes = gm_alloc(arena, slots, sizeof *r.bytes);
    for (size_t i = 0; i < slots; i++) r.bytes[i] = -1;
    open_all(arena, path, &r.tensors);
    read_tensors(&r);
    read_bytes(&r);
    choose_bits(&r, bits, group, out);
    const size_t cells = (size_t)(r.M * out->count);
    gm_external *e = gm_alloc(arena, 1, sizeof *e);
    *e = (gm_external){.tensors = r.tensors,
                       .tensor = gm_alloc(arena, cells, sizeof *e->tensor),
                       .allowed = gm_alloc(arena, cells, sizeof *e->allowed),
                       .bytes = gm_alloc(arena, cells, sizeof *e->bytes)};
    out->quantizer = GM_EXTERNAL;
    out->external = e;
    for (long m = 0; m < r.M; m++) {
        const int64_t largest = choose(&r, out, m, e);
        if (largest > most - total)
            gm_bad(path, "metadata: expected stored bytes of at most 2^53 in "
                   "all, found more with module %ld of %ld", m + 1, r.M);
        total += largest;
    }
    hash_of(&r, (long)cells, e);
}
