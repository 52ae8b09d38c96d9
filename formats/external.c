/* external.c: candidates that another tool made: one safetensors file of
   dequantized weights, NAME.bK for K code bits of module NAME, some modules
   perhaps without some K.  Reads that file and the model's shapes only.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_BITS = 32 };

static const char example[] = "model.layers.0.self_attn.q_proj.b3";

/* What is being read. */
typedef struct {
    const gm_model *model;
    const char *path;
    gm_tensors tensors;
    long M;
    const gm_tensor **of;       /* [M, MOST_BITS + 1] by module and bits */
    int64_t *bytes;             /* the same; -1: the file does not say   */
} reading;

/* Length of "NAME" in "NAME.bK"; *bits = K, or 0 when there is no ".bK". */
static int split_name(const char *name, long *bits) {
    const char *dot = strrchr(name, '.');
    char *end;
    *bits = 0;
    if (!dot || dot[1] != 'b' || dot[2] < '1' || dot[2] > '9') return 0;
    *bits = strtol(dot + 2, &end, 10);
    if (*end) *bits = 0;
    return (int)(dot - name);
}

/* The module whose weight is NAME.weight, or -1. */
static long module_named(const gm_model *model, const char *name, int length) {
    for (long m = 0; m < model->config.layers * GM_LINEARS; m++) {
        const char *w = gm_linear_tensor(model, m / GM_LINEARS,
                                         (int)(m % GM_LINEARS))->name;
        if (strncmp(w, name, (size_t)length) == 0 &&
            strcmp(w + length, ".weight") == 0)
            return m;
    }
    return -1;
}

/* Slot of a tensor's name in of[] and bytes[]. */
static long slot_of(const reading *r, const char *name) {
    long bits;
    int length = split_name(name, &bits);
    long m = bits ? module_named(r->model, name, length) : -1;
    if (!bits)
        gm_fail(GM_EINPUT, "%s: tensor \"%s\": expected a module's name "
                "and bits such as %s, found no .b and number at its end",
                r->path, name, example);
    if (!gm_is_bits(bits))
        gm_fail(GM_EINPUT, "%s: tensor \"%s\": expected bits 1 to 8, 16 "
                "or 32, found %ld", r->path, name, bits);
    if (m < 0)
        gm_fail(GM_EINPUT, "%s: tensor \"%s\": expected a linear module "
                "of %s such as %s, found \"%.*s\"", r->path, name,
                r->model->dir, example, length, name);
    return m * (MOST_BITS + 1) + bits;
}

static void check_tensor(const reading *r, const gm_tensor *t, long m) {
    long out, in;
    gm_linear_shape(&r->model->config, (int)(m % GM_LINEARS), &out, &in);
    if (t->rank != 2 || t->shape[0] != out || t->shape[1] != in)
        gm_bad(r->path, "tensor \"%s\": expected shape [%ld, %ld], found %s",
               t->name, out, in, gm_shape_of(t).text);
    gm_tensor_check(t);
}

static void read_tensors(reading *r) {
    for (long i = 0; i < r->tensors.count; i++) {
        const gm_tensor *t = r->tensors.tensor + i;
        long slot = slot_of(r, t->name);
        check_tensor(r, t, slot / (MOST_BITS + 1));
        r->of[slot] = t;
    }
}

/* Metadata "NAME.bK.bytes": what the tool itself stores for the candidate. */
static void read_bytes(reading *r) {
    const gm_json *c = r->tensors.metadata ? r->tensors.metadata->child : NULL;
    for (; c; c = c->next) {
        char name[512];
        size_t n = strlen(c->key);
        if (n < 6 || strcmp(c->key + n - 6, ".bytes") != 0) continue;
        snprintf(name, sizeof name, "%.*s", (int)(n - 6), c->key);
        const gm_tensor *t = gm_tensor_find(&r->tensors, name);
        if (!t)
            gm_fail(GM_EINPUT, "%s: metadata \"%s\": expected a "
                           "tensor \"%s\", found none", r->path, c->key, name);
        long value;
        if (!gm_is_long(c->string, 0, 1L << 53, &value))
            gm_fail(GM_EINPUT, "%s: metadata \"%s\": expected a "
                           "whole number from 0 to 2^53, found \"%s\"",
                           r->path, c->key, c->string);
        r->bytes[slot_of(r, name)] = value;
    }
}

/* --------------------------------------------------------------- choosing K */

static bool file_has(const reading *r, int bits) {
    for (long m = 0; m < r->M; m++)
        if (r->of[m * (MOST_BITS + 1) + bits]) return true;
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
                gm_fail(GM_EUSAGE, "--bits: expected bits that %s "
                            "has, found %d", r->path, out->bits[k]);
        return;
    }
    *out = (gm_recipe){.group = group, .damping = GM_DAMPING};
    for (int b = 1; b <= MOST_BITS; b++)
        if (gm_is_bits(b) && file_has(r, b)) out->bits[out->count++] = b;
    if (out->count) return;
    gm_fail(GM_EINPUT, "%s: expected tensors such as %s, found "
                   "none", r->path, example);
}

/* Sizes are counted in 64-bit integers, 8 bits to the byte. */
static void check_total(const reading *r, const gm_recipe *recipe,
                             const gm_external *e) {
    const int64_t most = INT64_C(1) << 53;
    int64_t total = 0;
    for (long m = 0; m < r->M; m++) {
        int64_t largest = 0;
        for (int k = 0; k < recipe->count; k++) {
            int64_t bytes = e->bytes[m * recipe->count + k];
            largest = bytes > largest ? bytes : largest;
        }
        if (largest > most - total)
            gm_fail(GM_EINPUT, "%s: metadata: expected stored "
                           "bytes of at most 2^53 in all, found more with "
                           "module %ld of %ld", r->path, m + 1, r->M);
        total += largest;
    }
}

/* Candidate k of module m into the tables; *found counts. */
static void choose_one(const reading *r, const gm_recipe *recipe, long m,
                            int k, gm_external *e, int *found) {
    const int b = recipe->bits[k];
    const long slot = m * (MOST_BITS + 1) + b, i = m * recipe->count + k;
    const gm_tensor *w = gm_linear_tensor(r->model, m / GM_LINEARS,
                                          (int)(m % GM_LINEARS));
    bool stored = b >= 16 && !file_has(r, b);
    if (stored && (int)gm_dtype_bytes(w->dtype) * 8 != b)
        gm_fail(GM_EUSAGE, "--bits: %d stands for the weight as "
                       "stored where %s has none, but %s is %s in %s", b,
                       r->path, w->name, gm_dtype_name(w->dtype), w->path);
    e->tensor[i] = stored ? w : r->of[slot];
    e->allowed[i] = e->tensor[i] != NULL;
    e->bytes[i] = !e->tensor[i] ? -1 : r->bytes[slot] >= 0 ? r->bytes[slot]
                : gm_packed_bytes(w->shape[0], w->shape[1], b, recipe->group);
    *found += e->allowed[i];
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

static void choose(gm_arena *arena, const reading *r, gm_recipe *recipe) {
    size_t cells = (size_t)(r->M * recipe->count);
    gm_external *e = gm_alloc(arena, 1, sizeof *e);
    *e = (gm_external){.tensors = r->tensors,
                       .tensor = gm_alloc(arena, cells, sizeof *e->tensor),
                       .allowed = gm_alloc(arena, cells, sizeof *e->allowed),
                       .bytes = gm_alloc(arena, cells, sizeof *e->bytes)};
    recipe->quantizer = GM_EXTERNAL;
    recipe->external = e;
    for (long m = 0; m < r->M; m++) {
        int found = 0;
        for (int k = 0; k < recipe->count; k++) {
            choose_one(r, recipe, m, k, e, &found);
        }
        const char *w = gm_linear_tensor(r->model, m / GM_LINEARS,
                                         (int)(m % GM_LINEARS))->name;
        if (!found)
            gm_fail(GM_EINPUT, "%s: module %.*s: expected at least "
                           "one tensor %.*s.bK, found none", r->path,
                           (int)strlen(w) - 7, w, (int)strlen(w) - 7, w);
    }
    check_total(r, recipe, e);
    hash_of(r, (long)cells, e);
}

void gm_external_open(gm_arena *arena, const gm_model *model,
                           const char *path, const char *bits, long group,
                           gm_recipe *out) {
    reading r = {.model = model, .path = path,
                 .M = model->config.layers * GM_LINEARS};
    size_t slots = (size_t)r.M * (MOST_BITS + 1);
    r.of = gm_alloc(arena, slots, sizeof *r.of);
    r.bytes = gm_alloc(arena, slots, sizeof *r.bytes);
    for (size_t i = 0; i < slots; i++) r.bytes[i] = -1;
    gm_safetensors_open(arena, path, &r.tensors);
    read_tensors(&r);
    read_bytes(&r);
    choose_bits(&r, bits, group, out);
    choose(arena, &r, out);
}
