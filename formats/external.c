/* external.c: candidates that another tool made: one safetensors file of
   dequantized weights, NAME.bK for K code bits of module NAME, or NAME.LABEL
   for what that tool calls it, some modules perhaps without some.  Reads that
   file and the model's shapes only.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of a module: 0 .. 32 bits, then labels. */
enum { NUMBERS = 33, LABELS = 64, SLOTS = NUMBERS + LABELS };

static const char example[] = "model.layers.0.self_attn.q_proj.b3";

/* What is being read. */
typedef struct {
    gm_arena *arena;
    const gm_model *model;
    const char *path;
    gm_tensors tensors;
    long M;
    const gm_tensor **of;       /* [M, SLOTS] by module and bits         */
    int64_t *bytes;             /* the same; -1: the file does not say   */
    char label[LABELS][GM_LABEL];
    int labels, bits[LABELS];
} reading;

/* A whole number of the metadata; -1: it is not there. */
static long number_of(const reading *r, const char *key, long least, long most,
                      const char *as) {
    const gm_json *text = gm_json_get(r->tensors.metadata, key);
    long value = -1;
    if (text && !gm_is_long(text->string, least, most, &value))
        gm_bad(r->path, "metadata \"%s\": expected a whole number from %ld to "
               "%s, found \"%s\"", key, least, as, text->string);
    return value;
}

/* Slot of a label within a module's; its bits are metadata LABEL.bits. */
static long label_slot(reading *r, const char *name, const char *label) {
    const char *key = gm_format(r->arena, "%s.bits", label);
    const gm_tensor *t = gm_tensor_find(&r->tensors, name);
    int i = 0;
    while (i < r->labels && strcmp(r->label[i], label) != 0) i++;
    if (i < r->labels) return NUMBERS + i;
    const bool made = t && t->made;     /* of a directory's codes */
    const long bits = made ? t->made->bits : number_of(r, key, 1, 32, "32");
    if (bits < 0)
        gm_bad(r->path, "tensor \"%s\": expected a module's name and bits such "
               "as %s, found no .b and number at its end and no metadata "
               "\"%s\" of a label", name, example, key);
    if (i == LABELS)
        gm_bad(r->path, "tensor \"%s\": expected at most %d labels, found more",
               name, LABELS);
    strcpy(r->label[i], label);
    r->bits[r->labels++] = (int)bits;
    return NUMBERS + i;
}

/* Slot of the tensor "NAME.bK" or "NAME.LABEL" in of[] and bytes[]. */
static long slot_of(reading *r, const char *name) {
    const char *dot = strrchr(name, '.');
    const size_t length = dot ? (size_t)(dot - name) : 0;
    const bool label = dot && gm_is_label(dot + 1, strlen(dot + 1));
    char *end = NULL;
    long bits = 0;
    if (dot && dot[1] == 'b' && dot[2] >= '1' && dot[2] <= '9')
        bits = strtol(dot + 2, &end, 10);
    if (!label && (!bits || *end))
        gm_bad(r->path, "tensor \"%s\": expected a module's name and bits such "
               "as %s, found no .b and number at its end", name, example);
    if (!label && !gm_is_bits(bits))
        gm_bad(r->path, "tensor \"%s\": expected bits 1 to 8, 16 or 32, found "
               "%ld", name, bits);
    const long slot = label ? label_slot(r, name, dot + 1) : bits;
    for (long m = 0; m < r->M; m++) {
        const char *w = gm_module_weight(r->model, m)->name;
        if (strncmp(w, name, length) == 0 && strcmp(w + length, ".weight") == 0)
            return m * SLOTS + slot;
    }
    gm_bad(r->path, "tensor \"%s\": expected a linear module of %s such as %s, "
           "found \"%.*s\"", name, r->model->dir, example, (int)length, name);
}

/* Tensors of a directory: of each module the weight, NAME.bK, or, where the
   directory is called `as`, NAME.as_K. */
static void add_modules(gm_arena *arena, const char *dir, const char *as,
                        const gm_model *from, size_t *room, gm_tensors *all) {
    for (long m = 0; m < gm_modules(from); m++) {
        const gm_tensor *w = gm_module_weight(from, m);
        if (!w->made) continue;
        const char *name = gm_format(arena, "%.*s.%s%s%d",
                                     (int)strlen(w->name) - 7, w->name,
                                     as ? as : "b", as ? "_" : "",
                                     w->made->bits);
        for (long i = 0; i < all->count; i++)
            if (strcmp(all->tensor[i].name, name) == 0)
                gm_fail(GM_EUSAGE, "--external: %s is in %s and in %s: "
                        "expected names for directories that have the same "
                        "bits, such as a=DIR,b=DIR", name,
                        all->tensor[i].path, dir);
        all->tensor = gm_grow(arena, all->tensor, (size_t)all->count, room,
                              sizeof *all->tensor);
        all->tensor[all->count] = *w;
        all->tensor[all->count++].name = name;
    }
}

/* A directory's modules are candidates beside the model's own norms and biases:
   where a tool moved factors between the two (AWQ, rotations), they are not.
   Types may differ, so what rounding does is none. */
static void check_others(gm_arena *arena, const gm_model *model,
                         const gm_model *other) {
    for (long i = 0; i < model->tensors.count; i++) {
        const gm_tensor *t = model->tensors.tensor + i;
        const gm_tensor *u = gm_tensor_find(&other->tensors, t->name);
        if (!model->used[i] || t->rank != 1 || !u || u->rank != 1 ||
            u->shape[0] != t->shape[0])
            continue;
        gm_mark mark = gm_arena_mark(arena);
        const long n = (long)t->shape[0];
        gm_real *x = gm_alloc(arena, (size_t)n, sizeof *x);
        gm_real *y = gm_alloc(arena, (size_t)n, sizeof *y), most = 0;
        gm_tensor_read(t, 0, n, x);
        gm_tensor_read(u, 0, n, y);
        for (long k = 0; k < n; k++) most = (gm_real)fmax(most, fabs(x[k]));
        for (long k = 0; k < n; k++)
            if (!(fabs(x[k] - y[k]) <= most / 64))
                gm_bad(u->path, "tensor \"%s\": element %ld: expected %g as in "
                       "%s, found %g: modules of another model", t->name, k,
                       (double)x[k], t->path, (double)y[k]);
        gm_arena_rewind(arena, mark);
    }
}

/* A file, or directories of quantized models with commas between; the layout of
   all of them, or NULL. */
static const char *open_all(gm_arena *arena, const gm_model *model,
                            const char *path, gm_tensors *all) {
    char *list = gm_format(arena, "%s", path);
    size_t room = 0, files = 0;
    const bool folder = gm_exists(gm_format(arena, "%s/.", path));
    if (!folder && (gm_exists(path) || !strpbrk(path, ",="))) {
        gm_safetensors_open(arena, path, all);
        return NULL;
    }
    const char *layout = NULL;
    for (char *dir; (dir = strsep(&list, ","));) {
        gm_model other;
        char *equals = gm_exists(dir) ? NULL : strchr(dir, '=');
        const char *as = equals ? dir : NULL;
        if (equals) *equals = 0, dir = equals + 1;
        if (as && (strlen(as) > GM_LABEL - 4 || !gm_is_label(as, strlen(as))))
            gm_fail(GM_EUSAGE, "--external: expected a name of at most %d "
                    "letters, digits and _ before =, such as mlx=DIR, found "
                    "\"%s\"", GM_LABEL - 4, as);
        if (!*dir)
            gm_fail(GM_EUSAGE, "--external: expected directories with commas "
                    "between, found nothing in one's place in \"%s\"", path);
        gm_layout_open(arena, dir, &other);
        if (!other.layout)
            gm_bad(dir, "expected a quantized model as mlx, compressed-tensors "
                   "or gptq store it, found another");
        check_others(arena, model, &other);
        layout = !all->files || layout == other.layout ? other.layout : NULL;
        for (long i = 0; i < other.tensors.files; i++) {
            all->file = gm_grow(arena, all->file, (size_t)all->files, &files,
                                sizeof *all->file);
            all->file[all->files++] = other.tensors.file[i];
        }
        add_modules(arena, dir, as, &other, &room, all);
    }
    gm_tensors_sort(all);
    return layout;
}

static void read_tensors(reading *r) {
    for (long i = 0; i < r->tensors.count; i++) {
        const gm_tensor *t = r->tensors.tensor + i;
        const long slot = slot_of(r, t->name);
        const int64_t *shape = gm_module_weight(r->model, slot / SLOTS)->shape;
        if (t->rank != 2 || t->shape[0] != shape[0] || t->shape[1] != shape[1])
            gm_bad(r->path, "tensor \"%s\": expected shape [%lld, %lld], found "
                   "%s", t->name, (long long)shape[0], (long long)shape[1],
                   gm_shape_of(t).text);
        gm_tensor_check(t);
        r->of[slot] = t;
        if (t->made) r->bytes[slot] = t->made->stored;
    }
}

/* Metadata "NAME.bK.bytes": what the tool itself stores for the candidate; a
   label's size does not follow from its bits. */
static void read_bytes(reading *r) {
    const gm_json *c = r->tensors.metadata ? r->tensors.metadata->child : NULL;
    for (; c; c = c->next) {
        const long n = (long)strlen(c->key) - 6;
        if (n < 0 || strcmp(c->key + n, ".bytes") != 0) continue;
        const char *name = gm_format(r->arena, "%.*s", (int)n, c->key);
        if (!gm_tensor_find(&r->tensors, name))
            gm_bad(r->path, "metadata \"%s\": expected a tensor \"%s\", found "
                   "none", c->key, name);
        r->bytes[slot_of(r, name)] = number_of(r, c->key, 0, 1L << 53, "2^53");
    }
    for (long i = 0; i < r->M * SLOTS; i++)
        if (i % SLOTS >= NUMBERS && r->of[i] && r->bytes[i] < 0)
            gm_bad(r->path, "tensor \"%s\": expected metadata \"%s.bytes\", "
                   "found none", r->of[i]->name, r->of[i]->name);
}

/* --------------------------------------------------------------- choosing K */

static bool file_has(const reading *r, long slot) {
    for (long m = 0; m < r->M; m++)
        if (r->of[m * SLOTS + slot]) return true;
    return false;
}

/* Of candidate k; a label that the file lacks: SLOTS. */
static long slot_in(const reading *r, const gm_recipe *recipe, int k) {
    int i = 0;
    if (!*recipe->label[k]) return recipe->bits[k];
    while (i < r->labels && strcmp(r->label[i], recipe->label[k]) != 0) i++;
    return i < r->labels ? NUMBERS + i : SLOTS;
}

/* Marks the slots of --bits; 16 (32) that the file lacks is the weight as
   stored. */
static void pick(const reading *r, const char *bits, bool *want) {
    char *list = gm_format(r->arena, "%s", bits);
    gm_recipe p;
    for (char *c = list; *c; c++) *c = (char)tolower((unsigned char)*c);
    gm_recipe_list(list, 1, true, &p);
    for (int k = 0; k < p.count; k++) {
        const long slot = slot_in(r, &p, k);
        const char *name = *p.label[k] ? p.label[k]
                         : gm_format(r->arena, "%d", p.bits[k]);
        if (slot == SLOTS || (p.bits[k] < 16 && !file_has(r, slot)))
            gm_fail(GM_EUSAGE, "--bits: expected bits that %s has, found %s",
                    r->path, name);
        if (want[slot]) gm_fail(GM_EUSAGE, "--bits: %s is given twice", name);
        want[slot] = true;
    }
}

/* The recipe's bits and labels, in this order: those of --bits, or all of the
   file. */
static void choose_bits(const reading *r, const char *bits, long group,
                        gm_recipe *out) {
    bool want[SLOTS] = {false};
    if (bits) pick(r, bits, want);
    *out = (gm_recipe){.group = group, .damping = GM_DAMPING};
    for (long slot = 1; slot < SLOTS; slot++) {
        const int b = slot < NUMBERS ? (int)slot : r->bits[slot - NUMBERS];
        const char *label = slot < NUMBERS ? "" : r->label[slot - NUMBERS];
        int k = out->count;
        if (bits ? !want[slot] : !file_has(r, slot)) continue;
        if (out->count++ == GM_MAX_CANDIDATES)
            gm_bad(r->path, "expected at most %d candidates, found more; "
                   "--bits picks among them", GM_MAX_CANDIDATES);
        for (; k > 0 && (out->bits[k - 1] > b || (out->bits[k - 1] == b &&
                         strcmp(out->label[k - 1], label) > 0)); k--) {
            out->bits[k] = out->bits[k - 1];
            memcpy(out->label[k], out->label[k - 1], GM_LABEL);
        }
        out->bits[k] = b;
        strcpy(out->label[k], label);
    }
    if (out->count == 0)
        gm_bad(r->path, "expected tensors such as %s, found none", example);
}

/* What module m is offered into the tables; the largest of their bytes. */
static int64_t choose(const reading *r, const gm_recipe *recipe, long m,
                      gm_external *e) {
    const gm_tensor *w = gm_module_weight(r->model, m);
    const int stem = (int)strlen(w->name) - (int)strlen(".weight");
    int64_t largest = -1;
    for (int k = 0; k < recipe->count; k++) {
        const int b = recipe->bits[k];
        const long i = m * recipe->count + k, slot = slot_in(r, recipe, k);
        const bool stored = b >= 16 && !file_has(r, slot);
        if (stored && (int)gm_dtype_bytes(w->dtype) * 8 != b)
            gm_fail(GM_EUSAGE, "--bits: %d stands for the weight as stored "
                    "where %s has none, but %s is %s in %s", b, r->path,
                    w->name, gm_dtype_name(w->dtype), w->path);
        e->tensor[i] = stored ? w : r->of[m * SLOTS + slot];
        e->allowed[i] = e->tensor[i] != NULL;
        e->bytes[i] = r->bytes[m * SLOTS + slot];
        if (e->allowed[i] && e->bytes[i] < 0)
            e->bytes[i] = gm_packed_bytes(w->shape[0], w->shape[1], b,
                                          recipe->group);
        e->stored[i] = 8 * (double)e->bytes[i] /
                       (double)(w->shape[0] * w->shape[1]);
        if (e->bytes[i] > largest) largest = e->bytes[i];
    }
    if (largest < 0)
        gm_bad(r->path, "module %.*s: expected at least one tensor %.*s.bK, "
               "found none", stem, w->name, stem, w->name);
    return largest;
}

/* Of the tool's file beside the modules: metadata overhead_bytes; or of what
   `quantize --format` writes, where all are of one layout. */
static void read_overhead(const reading *r, const char *layout,
                          const gm_recipe *recipe, gm_external *e) {
    const gm_candidates c = {.recipe = *recipe, .model = r->model};
    e->overhead = number_of(r, "overhead_bytes", 0, 1L << 53, "2^53");
    if (layout && !gm_module_weight(r->model, 0)->joined)
        e->overhead = gm_layout_overhead(r->arena, &c, gm_layout_row(layout));
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
    reading r = {.arena = arena, .model = model, .path = path,
                 .M = gm_modules(model)};
    const size_t slots = (size_t)(r.M * SLOTS);
    const int64_t most = INT64_C(1) << 53;  /* 64 bits hold 8 to the byte */
    int64_t total = 0;
    bool labelled = false;
    r.of = gm_alloc(arena, slots, sizeof *r.of);
    r.bytes = gm_alloc(arena, slots, sizeof *r.bytes);
    for (size_t i = 0; i < slots; i++) r.bytes[i] = -1;
    const char *layout = open_all(arena, model, path, &r.tensors);
    read_tensors(&r);
    read_bytes(&r);
    choose_bits(&r, bits, group, out);
    const size_t cells = (size_t)(r.M * out->count);
    gm_external *e = gm_alloc(arena, 1, sizeof *e);
    *e = (gm_external){.tensors = r.tensors,
                       .tensor = gm_alloc(arena, cells, sizeof *e->tensor),
                       .allowed = gm_alloc(arena, cells, sizeof *e->allowed),
                       .bytes = gm_alloc(arena, cells, sizeof *e->bytes),
                       .stored = gm_alloc(arena, cells, sizeof *e->stored)};
    out->quantizer = GM_EXTERNAL;
    out->external = e;
    for (long m = 0; m < r.M; m++) {
        const int64_t largest = choose(&r, out, m, e);
        if (largest > most - total)
            gm_bad(path, "metadata: expected stored bytes of at most 2^53 in "
                   "all, found more with module %ld of %ld", m + 1, r.M);
        total += largest;
    }
    for (int k = 0; k < out->count; k++)
        labelled = labelled || *out->label[k];
    if (!labelled) e->stored = NULL;
    read_overhead(&r, layout, out, e);
    hash_of(&r, (long)cells, e);
}

/* Which of columns a and b of [M, K] comes first: the first module where they
   differ has fewer bytes, or smaller weights as memcmp sees them; -, 0, +. */
static int order_of(gm_arena *arena, const gm_external *e, long M, int K, int a,
                    int b) {
    enum { N = 4096 };
    gm_mark mark = gm_arena_mark(arena);
    gm_real *x = gm_alloc(arena, N, sizeof *x);
    gm_real *y = gm_alloc(arena, N, sizeof *y);
    int order = 0;
    for (long m = 0; m < M && !order; m++) {
        const gm_tensor *s = e->tensor[m * K + a], *t = e->tensor[m * K + b];
        const int64_t d = e->bytes[m * K + a] - e->bytes[m * K + b];
        order = (d > 0) - (d < 0);
        if (order || !s || !t) continue;
        const long n = (long)(s->shape[0] * s->shape[1]);
        for (long i = 0, some; i < n && !order; i += some) {
            some = gm_min(N, n - i);
            gm_tensor_read(s, i, some, x);
            gm_tensor_read(t, i, some, y);
            order = memcmp(x, y, (size_t)some * sizeof *x);
        }
    }
    gm_arena_rewind(arena, mark);
    return order;
}

void gm_external_order(gm_arena *arena, const gm_candidates *c,
                       gm_candidates *out) {
    const gm_external *e = c->recipe.external;
    const long M = gm_modules(c->model);
    const int K = c->recipe.count;
    const size_t cells = (size_t)(M * K);
    int at[GM_MAX_CANDIDATES];
    *out = *c;
    if (!e || !e->stored) return;
    for (int k = 0; k < K; k++) {
        int j = k;
        for (; j > 0 && order_of(arena, e, M, K, at[j - 1], k) > 0; j--)
            at[j] = at[j - 1];
        at[j] = k;
    }
    gm_external *o = gm_alloc(arena, 1, sizeof *o);
    bool *allowed = gm_alloc(arena, cells, sizeof *allowed);
    *o = *e;
    o->tensor = gm_alloc(arena, cells, sizeof *o->tensor);
    o->bytes = gm_alloc(arena, cells, sizeof *o->bytes);
    o->stored = gm_alloc(arena, cells, sizeof *o->stored);
    for (long i = 0; i < M * K; i++) {
        const long from = i / K * K + at[i % K];
        o->tensor[i] = e->tensor[from];
        o->bytes[i] = e->bytes[from];
        o->stored[i] = e->stored[from];
        allowed[i] = gm_allowed(c, from / K, (int)(from % K));
    }
    for (int k = 0; k < K; k++) {
        out->recipe.bits[k] = c->recipe.bits[at[k]];
        memcpy(out->recipe.label[k], c->recipe.label[at[k]], GM_LABEL);
    }
    out->recipe.external = o;
    out->allowed = o->allowed = allowed;
}
