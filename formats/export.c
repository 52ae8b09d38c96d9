/* export.c: writes quantized models: a Hugging Face directory that
   transformers loads unchanged, or one packed safetensors file.  Every file
   appears whole or not at all; the input directory is never written to.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats.h"

#include <stdlib.h>
#include <string.h>

/* module[i]: 7 layer + linear whose weight is tensor i of the model, or -1. */
static long *modules_of(gm_arena *arena, const gm_model *model) {
    const gm_tensors *all = &model->tensors;
    long *module = gm_alloc(arena, (size_t)all->count, sizeof *module);
    for (long i = 0; i < all->count; i++) module[i] = -1;
    for (long m = 0; m < gm_modules(model); m++)
        module[gm_module_weight(model, m) - all->tensor] = m;
    return module;
}

/* A tensor as it is stored.  What is no finite number goes into no model; what
   the model does not use is nobody's number. */
static void write_stored(gm_out *out, const gm_tensor *t, bool used) {
    if (used) gm_tensor_check(t);
    uint8_t piece[1 << 16];
    for (size_t at = 0; at < t->bytes; at += sizeof piece) {
        size_t n = t->bytes - at < sizeof piece ? t->bytes - at : sizeof piece;
        gm_tensor_bytes(t, (int64_t)at, n, piece);
        gm_out_write(out, piece, n);
    }
}

/* -------------------------------------------------- Hugging Face directory */

/* What makes a directory loadable, besides the weights; config.json last: a
   directory without it is visibly unfinished. */
static const char *const companions[] = {
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.jinja", "model.safetensors.index.json", "config.json"};
enum { COMPANIONS = sizeof companions / sizeof *companions,
       INDEX = COMPANIONS - 2, CONFIG };

/* Candidate k of module m, dequantized, in the dtype of its weight t; or t. */
static void write_weight(gm_arena *arena, const gm_candidates *candidates,
                         const gm_tensor *t, long m, int k, gm_out *out) {
    const long l = m / GM_LINEARS, count = t->shape[0] * t->shape[1];
    const int j = (int)(m % GM_LINEARS);
    if (gm_candidate_tensor(candidates, l, j, k) ==
        gm_linear_tensor(candidates->model, l, j)) {
        write_stored(out, t, true);
        return;
    }
    gm_mark mark = gm_arena_mark(arena);
    gm_real *q = gm_alloc(arena, (size_t)count, sizeof *q);
    uint8_t *bytes = gm_alloc(arena, t->bytes, 1);
    gm_candidate_weight(arena, candidates, l, j, k, q);
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

/* One tensor of a file: as stored; the chosen weight of module m; or, from 1
   on, part of what the layout or the packed file makes of it. */
typedef struct {
    gm_tensor t;
    long m;                     /* -1: of no module */
    bool used;
    int part;
} piece;

static int by_place(const void *a, const void *b) {
    const gm_tensor *x = &((const piece *)a)->t, *y = &((const piece *)b)->t;
    return x->at != y->at ? (x->at > y->at) - (x->at < y->at)
                          : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* t in the order of the file, as it has them: those that are rows of a joined
   one follow each other there.  How many there are. */
static long join(gm_tensor *t, long count) {
    long n = 0;
    for (long i = 0; i < count; i++) {
        const char *joined = t[i].joined;
        if (joined && n && strcmp(t[n - 1].name, joined) == 0) {
            t[n - 1].shape[0] += t[i].shape[0];
            continue;
        }
        t[n] = t[i];
        if (joined) t[n].name = joined;
        n++;
    }
    return n;
}

static size_t element(const gm_tensor *t) {
    size_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= (size_t)t->shape[i];
    return n ? t->bytes / n : 0;
}

/* The widest elements first: each tensor is as aligned as it must be. */
static int by_element(const void *a, const void *b) {
    const piece *x = a, *y = b;
    const size_t n = element(&x->t), m = element(&y->t);
    return n != m ? (n < m) - (n > m) : strcmp(x->t.name, y->t.name);
}

/* What goes to `out` and where. */
typedef struct {
    gm_arena *arena;
    const gm_candidates *candidates;
    const int *choice;
    const long *module;
    gm_layout *layout;          /* NULL, not packed: a Hugging Face directory */
    bool packed;
    const char *dir;
    gm_out *index;              /* weight_map of a layout's shards, or NULL  */
    int64_t stored;             /* bytes of tensors                          */
} writing;

/* What tensor t of module m becomes; 0: one tensor still. */
static int parts_of(const writing *w, long m, const gm_tensor *t,
                    gm_tensor part[GM_LAYOUT_PARTS]) {
    const gm_recipe *r = &w->candidates->recipe;
    if (m >= 0 && w->layout && w->layout->bits[m])
        return gm_layout_parts(w->arena, w->layout, m, part);
    if (m < 0 || !w->packed || r->bits[w->choice[m]] >= 16) return 0;
    const gm_packed p = gm_packed_at(t->shape[0], t->shape[1],
                                     r->bits[w->choice[m]], r->group, NULL);
    const int stem = (int)strlen(t->name) - (int)strlen(".weight");
    gm_packed_tensors(w->arena, gm_format(w->arena, "%.*s", stem, t->name), &p,
                      part);
    return 3;
}

/* The tensors of file `path` of the model (NULL: of all), as they will be: a
   packed file's by name, a directory's in the order of the file, so that each
   is as aligned as it was there (torch refuses others).  How many. */
static long pieces_of(const writing *w, const char *path, piece **out,
                      gm_tensor **tensors) {
    const gm_model *model = w->candidates->model;
    const gm_tensors *all = &model->tensors;
    const size_t most = (size_t)all->count * GM_LAYOUT_PARTS;
    piece *p = gm_alloc(w->arena, most, sizeof *p);
    gm_tensor *t = gm_alloc(w->arena, most, sizeof *t);
    long count = 0;
    for (long i = 0; i < all->count; i++) {
        gm_tensor part[GM_LAYOUT_PARTS] = {all->tensor[i]};
        const long m = w->module[i];
        if (path && strcmp(part->path, path) != 0) continue;
        const int n = parts_of(w, m, all->tensor + i, part);
        for (int j = 0; j == 0 || j < n; j++)
            p[count++] = (piece){part[j], m, model->used[i], n ? j + 1 : 0};
    }
    if (!w->packed)
        qsort(p, (size_t)count, sizeof *p, w->layout ? by_element : by_place);
    for (long i = 0; i < count; i++) t[i] = p[i].t;
    *out = p;
    *tensors = t;
    return count;
}

static const char *mode_of(const writing *w) {
    return w->packed ? "gamma-packed 1"
                     : w->layout ? gm_layout_mode(w->layout) : "pt";
}

/* Choosing "as stored" replaces some of `count` entries by one but may lengthen
   later offsets, by at most digits(largest file) - 1 digits in two numbers
   each; so may another order of other tools' tensors. */
static size_t slack(const writing *w, long count) {
    const gm_recipe *r = &w->candidates->recipe;
    const gm_tensors *t = &w->candidates->model->tensors;
    const bool any = r->bits[r->count - 1] >= 16 || (w->layout && r->external);
    size_t bytes = 0;
    int64_t all = 0;
    for (long i = 0; i < t->count; i++) all += (int64_t)t->tensor[i].bytes;
    for (; any && all >= 10; all /= 10) bytes += 2 * (size_t)count;
    return bytes;
}

/* A header of file `path` that is long enough for every assignment and type of
   scales: that of the most bits, whose shapes and offsets have the most digits,
   with scales of four bytes or of two, which stand elsewhere, and the longest
   name of a type. */
static size_t longest_header(const writing *w, const char *path) {
    static const gm_dtype types[] = {GM_F32, GM_BF16};
    const gm_recipe *r = &w->candidates->recipe;
    const long M = gm_modules(w->candidates->model);
    gm_mark mark = gm_arena_mark(w->arena);
    int top = r->count - 1, *choice = gm_alloc(w->arena, (size_t)M,
                                               sizeof *choice);
    if (r->bits[top] >= 16 && top > 0) top--;
    for (long m = 0; m < M; m++) choice[m] = top;
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        gm_layout layout;
        writing widest = *w;
        piece *p;
        gm_tensor *t;
        widest.choice = choice;
        if (w->layout)
            gm_layout_widest(w->arena, w->layout->row, w->candidates,
                             r->bits[top], types[i], widest.layout = &layout);
        const char *metadata[] = {"format", mode_of(w), NULL};
        const long count = pieces_of(&widest, path, &p, &t);
        const size_t bytes = gm_safetensors_header(t, count, metadata) +
                             slack(w, count);
        if (bytes > most) most = bytes;
    }
    gm_arena_rewind(w->arena, mark);
    return (most + 7) / 8 * 8;
}

/* Parts of the packed file lie in it as they do in memory. */
static void write_packed(gm_arena *arena, const gm_candidates *c, long m, int k,
                         gm_out *out) {
    gm_mark mark = gm_arena_mark(arena);
    const gm_packed p = gm_candidate(arena, c, m / GM_LINEARS,
                                     (int)(m % GM_LINEARS), k);
    gm_out_write(out, p.codes, (size_t)gm_packed_bytes(p.out, p.in, p.bits,
                                                       p.group));
    gm_arena_rewind(arena, mark);
}

static void write_piece(const writing *w, const piece *p, gm_out *out) {
    if (p->part && w->layout)
        gm_layout_write(w->arena, w->layout, p->m, &p->t, out);
    else if (p->part == 1)
        write_packed(w->arena, w->candidates, p->m, w->choice[p->m], out);
    else if (p->m < 0 || w->layout) write_stored(out, &p->t, p->used);
    else if (!p->part)
        write_weight(w->arena, w->candidates, &p->t, p->m, w->choice[p->m],
                     out);
}

/* One file, of the model's file `path` or of all, to `to`.  Its bytes. */
static int64_t write_file(writing *w, const char *path, const char *to,
                          const gm_report *report) {
    gm_arena *arena = w->arena;
    const char *metadata[] = {"format", mode_of(w), NULL};
    const bool own = w->layout || w->packed;
    piece *p;
    gm_tensor *t;
    gm_out out = {0};
    const long count = pieces_of(w, path, &p, &t);
    for (long i = 0; i < count; i++) {
        w->stored += (int64_t)t[i].bytes;
        if (w->index)
            gm_out_print(w->index, "%s\n    %s: \"%s\"",
                         w->stored > (int64_t)t[i].bytes ? "," : "",
                         gm_json_quote(arena, t[i].name), gm_base_name(to));
    }
    gm_safetensors_begin(arena, to, t, own ? count : join(t, count), metadata,
                         own ? longest_header(w, path) : 0, &out);
    for (long i = 0; i < count; i++) {
        write_piece(w, p + i, &out);
        if (w->packed) gm_say(report, "writing packed", i + 1, count);
    }
    const int64_t bytes = out.bytes;
    gm_out_commit(&out);
    return bytes;
}

const char *gm_export_names(gm_arena *arena, const gm_model *model) {
    const char *names = "gamma.sha256,model*.safetensors";
    for (long i = 0; i < model->tensors.files; i++)
        names = gm_format(arena, "%s,%s", names,
                          gm_base_name(model->tensors.file[i]->path));
    for (size_t i = 0; i < COMPANIONS; i++)
        names = gm_format(arena, "%s,%s", names, companions[i]);
    return names;
}

/* Of shard i; a layout's own, for its loaders want such names. */
static const char *shard_name(const writing *w, long i) {
    const gm_tensors *all = &w->candidates->model->tensors;
    if (!w->layout) return gm_base_name(all->file[i]->path);
    if (all->files == 1) return "model.safetensors";
    return gm_format(w->arena, "model-%05ld-of-%05ld.safetensors", i + 1,
                     all->files);
}

/* ------------------------------------------------------ whose files are there
   DIR/gamma.sha256 lists the files of the model in DIR, as `sha256sum -c` reads
   it.  It comes before the first of them, without config.json and with "-" for
   hashes; with all, when only config.json is missing.  So what it does not list
   or what has another hash is not gamma's, however a write ended. */

static const char listing[] = "gamma.sha256";

/* Of the files to be written. */
static const char *new_list(const writing *w) {
    const gm_model *model = w->candidates->model;
    const char *list = "";
    for (long i = 0; i < model->tensors.files; i++)
        list = gm_format(w->arena, "%s-  %s\n", list, shard_name(w, i));
    for (size_t i = 0; i < COMPANIONS; i++) {
        const bool index = i == INDEX;
        if (index && w->layout ? model->tensors.files > 1
            : gm_exists(gm_format(w->arena, "%s/%s", model->dir,
                                  companions[i])))
            list = gm_format(w->arena, "%s-  %s\n", list, companions[i]);
    }
    return list;
}

static void write_list(const writing *w, const char *list,
                       const gm_out *config) {
    gm_arena *arena = w->arena;
    char *lines = gm_format(arena, "%s", list), hex[65];
    gm_out out;
    gm_out_open(arena, gm_format(arena, "%s/%s", w->dir, listing), &out);
    for (char *line; *(line = strsep(&lines, "\n"));) {
        const char *name = line + strlen("-  ");
        const bool last = strcmp(name, companions[CONFIG]) == 0;
        const char *path = last && config ? config->now
                         : gm_format(arena, "%s/%s", w->dir, name);
        strcpy(hex, "-");
        if (config && gm_is_file(path)) gm_file_hash(path, hex);
        if (config || !last) gm_out_print(&out, "%s  %s\n", hex, name);
    }
    gm_out_commit(&out);
}

/* NAME without ".partial", which a write that was killed leaves. */
static const char *whole_name(gm_arena *arena, const char *name) {
    const char *end = strstr(name, ".partial");
    return end && !end[8] ? gm_format(arena, "%.*s", (int)(end - name), name)
                          : name;
}

/* The list's lines "HASH  NAME"; and of one name the end of its hash. */
static const char *read_list(gm_arena *arena, const char *dir) {
    const char *path = gm_format(arena, "%s/%s", dir, listing);
    return gm_exists(path) ? gm_regular_text(arena, path, NULL) : "";
}

static const char *in_list(gm_arena *arena, const char *list,
                           const char *name) {
    return strstr(list, gm_format(arena, "  %s\n", name));
}

static bool is_ours(gm_arena *arena, const char *dir, const char *list,
                    const char *name) {
    const char *whole = whole_name(arena, name);
    const char *at = in_list(arena, list, whole);
    char hex[65];
    if (strcmp(whole, listing) == 0) return true;
    if (whole != name) return at || strcmp(whole, companions[CONFIG]) == 0;
    if (!at || at == list) return false;
    if (at[-1] == '-') return true;
    gm_file_hash(gm_format(arena, "%s/%s", dir, name), hex);
    return at - list >= 64 && strncmp(at - 64, hex, 64) == 0;
}

void gm_export_check(gm_arena *arena, const char *dir) {
    long count, others = 0;
    const char **name = gm_dir_names(arena, dir, "*", &count), *first = NULL;
    const char *list = count > 0 ? read_list(arena, dir) : "";
    for (long i = 0; i < count; i++) {
        if (strcmp(name[i], ".") == 0 || strcmp(name[i], "..") == 0 ||
            is_ours(arena, dir, list, name[i]))
            continue;
        if (!others++ || strcmp(name[i], first) < 0) first = name[i];
    }
    if (others)
        gm_fail(GM_EUSAGE, "%s: expected nothing there but a model that gamma "
                "wrote, found %s%s; --force replaces the files of a checkpoint "
                "and keeps others", dir, first, others == 1 ? ""
                : gm_format(arena, " and %ld more", others - 1));
}

/* Before the first weight goes where an older model was: without config.json
   nobody takes a mixture of both for a model.  What only the older one has, in
   shards or in one file, would be taken for this one's. */
static void remove_older(const writing *w, const char *new) {
    gm_arena *arena = w->arena;
    const char *const kinds = gm_export_names(arena, w->candidates->model);
    const char *list = read_list(arena, w->dir);
    long count;
    const char **name = gm_dir_names(arena, w->dir, "*", &count);
    gm_remove_file(arena, gm_format(arena, "%s/config.json", w->dir));
    for (long i = 0; i < count; i++) {
        const char *whole = whole_name(arena, name[i]);
        if ((gm_name_matches(kinds, whole) || in_list(arena, list, whole)) &&
            strcmp(name[i], listing) != 0 && !in_list(arena, new, name[i]))
            gm_remove_file(arena, gm_format(arena, "%s/%s", w->dir, name[i]));
    }
}

int64_t gm_export_directory(gm_arena *arena, const gm_candidates *candidates,
                            const int *choice, gm_layout *layout,
                            const char *dir, const gm_report *report) {
    const gm_model *model = candidates->model;
    const long files = model->tensors.files;
    const bool index = layout && files > 1;
    int64_t bytes = 0;
    if (gm_same_file(model->dir, dir))
        gm_fail(GM_EUSAGE, "%s: the output directory is the model's own; "
                "expected another", dir);
    const gm_external *e = candidates->recipe.external;
    for (long i = 0; e && i < e->tensors.files; i++) {
        const char *from = e->tensors.file[i]->path;
        const char *parent = gm_format(arena, "%.*s.", (int)(gm_base_name(from)
                                       - from), from);
        if (gm_same_file(parent, dir))
            gm_fail(GM_EUSAGE, "%s: the output directory has the candidates "
                    "of %s; expected another", dir, from);
    }
    if (layout) gm_layout_zeros(arena, layout);
    gm_make_dir(dir);
    gm_lock *lock = gm_dir_lock(arena, dir);
    gm_out map, config;
    writing w = {.arena = arena, .candidates = candidates, .choice = choice,
                 .module = modules_of(arena, model), .layout = layout,
                 .dir = dir, .index = index ? &map : NULL};
    const char *list = new_list(&w);
    remove_older(&w, list);
    write_list(&w, list, NULL);
    if (index) {
        gm_out_open(arena, gm_format(arena, "%s/%s", dir, companions[INDEX]),
                    &map);
        gm_out_print(&map, "{\"weight_map\": {");
    }
    for (long i = 0; i < files; i++) {
        const char *path = model->tensors.file[i]->path;
        bytes += write_file(&w, path, gm_format(arena, "%s/%s", dir,
                                                shard_name(&w, i)), report);
        gm_say(report, "writing shards", i + 1, files);
    }
    if (index) {
        gm_out_print(&map, "\n  },\n  \"metadata\": {\"total_size\": %lld}}\n",
                     (long long)w.stored);
        gm_out_commit(&map);
    }
    for (size_t i = 0; i < CONFIG; i++)
        if (in_list(arena, list, companions[i]) && !(layout && i == INDEX))
            gm_copy_file(arena, gm_format(arena, "%s/%s", model->dir,
                                          companions[i]),
                         gm_format(arena, "%s/%s", dir, companions[i]));
    size_t n;
    const char *text = gm_file_text(arena, gm_format(arena, "%s/config.json",
                                                     model->dir), &n);
    gm_out_open(arena, gm_format(arena, "%s/config.json", dir), &config);
    if (layout) gm_layout_config(arena, layout, text, &config);
    else gm_out_write(&config, text, n);
    if (fflush(config.file) == 0) write_list(&w, list, &config);
    gm_out_commit(&config);
    gm_dir_unlock(lock);
    return bytes;
}

/* ------------------------------------------------------------- packed file */

int64_t gm_export_packed(gm_arena *arena, const gm_candidates *candidates,
                         const int *choice, const char *path,
                         const gm_report *report) {
    const gm_recipe *recipe = &candidates->recipe;
    if (recipe->quantizer == GM_EXTERNAL)
        gm_fail(GM_EUSAGE, "%s: external candidates have no codes to pack: "
                "expected --format hf, found packed", path);
    if (recipe->scales & GM_BIAS)
        gm_fail(GM_EUSAGE, "%s: these candidates were made for mlx, with its "
                "biases: expected --format mlx or hf, found packed", path);
    writing w = {.arena = arena, .candidates = candidates, .choice = choice,
                 .module = modules_of(arena, candidates->model),
                 .packed = true};
    return write_file(&w, NULL, path, report);
}

/* -------------------------------------------------- bytes beside the modules */

static int64_t overhead(gm_arena *arena, const gm_candidates *c,
                        gm_layout *layout) {
    const gm_tensors *all = &c->model->tensors;
    gm_mark mark = gm_arena_mark(arena);
    const writing w = {.arena = arena, .candidates = c, .layout = layout,
                       .module = modules_of(arena, c->model),
                       .packed = !layout};
    int64_t bytes = layout ? 0 : (int64_t)longest_header(&w, NULL);
    for (long f = 0; layout && f < all->files; f++)
        bytes += (int64_t)longest_header(&w, all->file[f]->path);
    for (long i = 0; i < all->count; i++)
        if (w.module[i] < 0) bytes += (int64_t)all->tensor[i].bytes;
    gm_arena_rewind(arena, mark);
    return bytes;
}

int64_t gm_packed_overhead(gm_arena *arena, const gm_model *model,
                           const gm_recipe *recipe) {
    return overhead(arena, &(gm_candidates){.recipe = *recipe, .model = model},
                    NULL);
}

int64_t gm_layout_overhead(gm_arena *arena, const gm_candidates *c,
                           const struct row *row) {
    return overhead(arena, c, &(gm_layout){.row = row});
}

void gm_layout_overheads(gm_arena *arena, const gm_candidates *c,
                         gm_keys *keys) {
    if (c->recipe.external || gm_module_weight(c->model, 0)->joined) return;
    for (int i = 0; gm_layout_name(i); i++) {
        const struct row *row = gm_layout_row(gm_layout_name(i));
        gm_keys_set(arena, keys, gm_format(arena, "overhead.%s",
                                           gm_layout_name(i)), "%lld %s",
                    (long long)gm_layout_overhead(arena, c, row),
                    gm_dtype_name(gm_layout_own(row, c->model)));
    }
}
