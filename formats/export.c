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
    for (long m = 0; m < model->config.layers * GM_LINEARS; m++)
        module[gm_linear_tensor(model, m / GM_LINEARS, (int)(m % GM_LINEARS)) -
               all->tensor] = m;
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

/* One tensor of a file: as stored; the chosen weight of module m; or, part,
   one tensor of what the layout makes of it. */
typedef struct {
    gm_tensor t;
    long m;                     /* -1: of no module */
    bool used, part;
} piece;

static int by_place(const void *a, const void *b) {
    const gm_tensor *x = &((const piece *)a)->t, *y = &((const piece *)b)->t;
    return x->at != y->at ? (x->at > y->at) - (x->at < y->at)
                          : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* t in the order of the file, as it has them: those that are rows of a joined
   one follow each other there.  How many there are. */
static long join(const gm_tensor *t, long count, gm_tensor *out) {
    long n = 0;
    for (long i = 0; i < count; i++) {
        const char *joined = t[i].joined;
        if (joined && n && strcmp(out[n - 1].name, joined) == 0) {
            out[n - 1].shape[0] += t[i].shape[0];
            continue;
        }
        out[n] = t[i];
        if (joined) out[n].name = joined;
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
    gm_layout *layout;
    const char *dir;
    gm_out *index;              /* weight_map of a layout's shards, or NULL  */
    int64_t stored;             /* bytes of tensors                          */
} writing;

/* The tensors that lie in file `path`; in its order, so that each is as aligned
   as it was there (torch refuses others).  How many. */
static long shard_pieces(const writing *w, const char *path, piece **out) {
    const gm_model *model = w->candidates->model;
    const gm_tensors *all = &model->tensors;
    piece *p = gm_alloc(w->arena, (size_t)all->count * GM_LAYOUT_PARTS,
                        sizeof *p);
    long count = 0;
    for (long i = 0; i < all->count; i++) {
        gm_tensor part[GM_LAYOUT_PARTS] = {all->tensor[i]};
        const long m = w->module[i];
        const bool split = m >= 0 && w->layout && w->layout->bits[m];
        if (strcmp(part->path, path) != 0) continue;
        const int n = split ? gm_layout_parts(w->arena, w->layout, m, part) : 1;
        for (int j = 0; j < n; j++)
            p[count++] = (piece){part[j], m, model->used[i], split};
    }
    qsort(p, (size_t)count, sizeof *p, w->layout ? by_element : by_place);
    *out = p;
    return count;
}

static bool has_stored(const gm_recipe *r) {
    return r->bits[r->count - 1] >= 16;
}

static size_t stored_slack(const gm_model *model, bool any, long count);

/* A header of a layout's shard that is long enough for every assignment and
   type of scales: that of the most bits, with scales of four bytes or of two,
   which stand elsewhere, and the longest name of a type. */
static size_t layout_header(gm_arena *arena, const gm_candidates *c, int row,
                            const long *module, const char *path) {
    static const gm_dtype types[] = {GM_F32, GM_BF16};
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        gm_mark mark = gm_arena_mark(arena);
        gm_layout widest;
        piece *p;
        gm_layout_widest(arena, row, c, types[i], &widest);
        const writing w = {.arena = arena, .candidates = c, .module = module,
                           .layout = &widest};
        const long count = shard_pieces(&w, path, &p);
        gm_tensor *t = gm_alloc(arena, (size_t)count, sizeof *t);
        for (long j = 0; j < count; j++) t[j] = p[j].t;
        const char *metadata[] = {"format", gm_layout_mode(&widest), NULL};
        const size_t bytes = gm_safetensors_header(t, count, metadata) +
                             stored_slack(c->model, c->recipe.external ||
                                          has_stored(&c->recipe), count);
        gm_arena_rewind(arena, mark);
        if (bytes > most) most = bytes;
    }
    return (most + 7) / 8 * 8;
}

/* One shard, to `to`.  Its bytes. */
static int64_t write_shard(writing *w, const char *path, const char *to) {
    gm_arena *arena = w->arena;
    const char *metadata[] = {"format", w->layout ? gm_layout_mode(w->layout)
                                                  : "pt", NULL};
    piece *p;
    const long count = shard_pieces(w, path, &p);
    gm_tensor *t = gm_alloc(arena, (size_t)count, sizeof *t);
    const size_t header = !w->layout ? 0
        : layout_header(arena, w->candidates, gm_layout_which(w->layout),
                        w->module, path);
    for (long i = 0; i < count; i++) {
        t[i] = p[i].t;
        w->stored += (int64_t)t[i].bytes;
        if (w->index)
            gm_out_print(w->index, "%s\n    %s: \"%s\"",
                         w->stored > (int64_t)t[i].bytes ? "," : "",
                         gm_json_quote(arena, t[i].name), gm_base_name(to));
    }
    gm_out out = {0};
    gm_tensor *stored = gm_alloc(arena, (size_t)count, sizeof *stored);
    gm_safetensors_begin(arena, to, stored, join(t, count, stored), metadata,
                         header, &out);
    for (long i = 0; i < count; i++) {
        const long m = p[i].m;
        if (p[i].part)
            gm_layout_write(arena, w->layout, m, t + i, &out);
        else if (m < 0 || w->layout) write_stored(&out, t + i, p[i].used);
        else write_weight(arena, w->candidates, t + i, m, w->choice[m], &out);
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

/* The files to be written, each between two line feeds. */
static const char *new_names(const writing *w) {
    const gm_model *model = w->candidates->model;
    const char *names = "\n";
    for (long i = 0; i < model->tensors.files; i++)
        names = gm_format(w->arena, "%s%s\n", names, shard_name(w, i));
    for (size_t i = 0; i < COMPANIONS; i++) {
        const bool index = i == INDEX;
        if (index && w->layout ? model->tensors.files > 1
            : gm_exists(gm_format(w->arena, "%s/%s", model->dir,
                                  companions[i])))
            names = gm_format(w->arena, "%s%s\n", names, companions[i]);
    }
    return names;
}

/* NAME is in "\nA\nB\n". */
static bool listed(gm_arena *arena, const char *names, const char *name) {
    return strstr(names, gm_format(arena, "\n%s\n", name)) != NULL;
}

/* ------------------------------------------------------ whose files are there
   DIR/gamma.sha256 lists the files of the model in DIR, as `sha256sum -c` reads
   it.  It comes before the first of them, without config.json and with "-" for
   hashes; with all, when only config.json is missing.  So what it does not list
   or what has another hash is not gamma's, however a write ended. */

static const char listing[] = "gamma.sha256";

static void write_list(const writing *w, const char *names,
                       const gm_out *config) {
    gm_arena *arena = w->arena;
    char *list = gm_format(arena, "%s", names + 1), hex[65];
    gm_out out;
    gm_out_open(arena, gm_format(arena, "%s/%s", w->dir, listing), &out);
    for (char *name; *(name = strsep(&list, "\n"));) {
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
    return gm_exists(path) ? gm_file_text(arena, path, NULL) : "";
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
    if (!at || at == list || at[-1] == '-') return at > list;
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
static void remove_older(const writing *w, const char *names) {
    gm_arena *arena = w->arena;
    const char *const kinds = gm_export_names(arena, w->candidates->model);
    const char *list = read_list(arena, w->dir);
    long count;
    const char **name = gm_dir_names(arena, w->dir, "*", &count);
    gm_remove_file(arena, gm_format(arena, "%s/config.json", w->dir));
    for (long i = 0; i < count; i++) {
        const char *whole = whole_name(arena, name[i]);
        if ((gm_name_matches(kinds, whole) || in_list(arena, list, whole)) &&
            strcmp(name[i], listing) != 0 && !listed(arena, names, name[i]))
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
    if (layout) gm_layout_zeros(arena, layout);
    gm_make_dir(dir);
    gm_lock *lock = gm_dir_lock(arena, dir);
    gm_out map, config;
    writing w = {arena, candidates, choice, modules_of(arena, model), layout,
                 dir, index ? &map : NULL, 0};
    const char *names = new_names(&w);
    remove_older(&w, names);
    write_list(&w, names, NULL);
    if (index) {
        gm_out_open(arena, gm_format(arena, "%s/%s", dir, companions[INDEX]),
                    &map);
        gm_out_print(&map, "{\"weight_map\": {");
    }
    for (long i = 0; i < files; i++) {
        const char *path = model->tensors.file[i]->path;
        bytes += write_shard(&w, path, gm_format(arena, "%s/%s", dir,
                                                 shard_name(&w, i)));
        gm_say(report, "writing shards", i + 1, files);
    }
    if (index) {
        gm_out_print(&map, "\n  },\n  \"metadata\": {\"total_size\": %lld}}\n",
                     (long long)w.stored);
        gm_out_commit(&map);
    }
    for (size_t i = 0; i < CONFIG; i++)
        if (listed(arena, names, companions[i]) && !(layout && i == INDEX))
            gm_copy_file(arena, gm_format(arena, "%s/%s", model->dir,
                                          companions[i]),
                         gm_format(arena, "%s/%s", dir, companions[i]));
    size_t n;
    const char *text = gm_file_text(arena, gm_format(arena, "%s/config.json",
                                                     model->dir), &n);
    gm_out_open(arena, gm_format(arena, "%s/config.json", dir), &config);
    if (layout) gm_layout_config(arena, layout, text, &config);
    else gm_out_write(&config, text, n);
    if (fflush(config.file) == 0) write_list(&w, names, &config);
    gm_out_commit(&config);
    gm_dir_unlock(lock);
    return bytes;
}

/* ------------------------------------------------------------- packed file */

static const char *const packed_metadata[] = {"format", "gamma-packed 1", NULL};

/* The file's tensors, in its order: those of the model, but three parts for the
   weight of a module m that gets bits[m] < 16. */
static gm_tensor *layout(gm_arena *arena, const gm_model *model,
                         const long *module, const int *bits, long group,
                         long *count) {
    const gm_tensors *all = &model->tensors;
    gm_tensor *out = gm_alloc(arena, 3 * (size_t)all->count, sizeof *out);
    *count = 0;
    for (long i = 0; i < all->count; i++) {
        const gm_tensor *t = all->tensor + i;
        const int b = module[i] < 0 ? 16 : bits[module[i]];
        if (b >= 16) {
            out[(*count)++] = *t;
            continue;
        }
        const int stem = (int)strlen(t->name) - (int)strlen(".weight");
        const gm_packed p = gm_packed_at(t->shape[0], t->shape[1], b, group,
                                         NULL);
        gm_packed_tensors(arena, gm_format(arena, "%.*s", stem, t->name), &p,
                          out + *count);
        *count += 3;
    }
    return out;
}

/* Choosing "as stored" replaces some of `count` entries by one but may lengthen
   later offsets, by at most digits(largest file) - 1 digits in two numbers
   each; so may another order of other tools' tensors. */
static size_t stored_slack(const gm_model *model, bool any, long count) {
    size_t bytes = 0;
    int64_t all = 0;
    for (long i = 0; i < model->tensors.count; i++)
        all += (int64_t)model->tensors.tensor[i].bytes;
    for (; any && all >= 10; all /= 10)
        bytes += 2 * (size_t)count;
    return bytes;
}

/* A header long enough for every assignment: that of the largest candidate
   below 16 bits everywhere, whose shapes and offsets have the most digits. */
static size_t header_bytes(gm_arena *arena, const gm_model *model,
                           const gm_recipe *recipe, const long *module) {
    const long M = model->config.layers * GM_LINEARS;
    const int last = recipe->bits[recipe->count - 1];
    const int top = last >= 16 && recipe->count > 1
                  ? recipe->bits[recipe->count - 2] : last;
    int *bits = gm_alloc(arena, (size_t)M, sizeof *bits);
    long count;
    for (long m = 0; m < M; m++) bits[m] = top;
    const gm_tensor *t = layout(arena, model, module, bits, recipe->group,
                                &count);
    return (gm_safetensors_header(t, count, packed_metadata) +
            stored_slack(model, has_stored(recipe), count) + 7) / 8 * 8;
}

int64_t gm_packed_overhead(gm_arena *arena, const gm_model *model,
                           const gm_recipe *recipe) {
    gm_mark mark = gm_arena_mark(arena);
    const long *module = modules_of(arena, model);
    int64_t bytes = (int64_t)header_bytes(arena, model, recipe, module);
    for (long i = 0; i < model->tensors.count; i++)
        if (module[i] < 0) bytes += (int64_t)model->tensors.tensor[i].bytes;
    gm_arena_rewind(arena, mark);
    return bytes;
}

int64_t gm_layout_overhead(gm_arena *arena, const gm_candidates *c, int i) {
    const gm_tensors *all = &c->model->tensors;
    gm_mark mark = gm_arena_mark(arena);
    const long *module = modules_of(arena, c->model);
    int64_t bytes = 0;
    for (long f = 0; f < all->files; f++)
        bytes += (int64_t)layout_header(arena, c, i, module,
                                        all->file[f]->path);
    for (long j = 0; j < all->count; j++)
        if (module[j] < 0) bytes += (int64_t)all->tensor[j].bytes;
    gm_arena_rewind(arena, mark);
    return bytes;
}

void gm_layout_overheads(gm_arena *arena, const gm_candidates *c,
                         gm_keys *keys) {
    const gm_tensor *first = gm_linear_tensor(c->model, 0, 0);
    if (c->recipe.external || first->joined) return;
    for (int i = 0; gm_layout_name(i); i++)
        gm_keys_set(arena, keys, gm_format(arena, "overhead.%s",
                                           gm_layout_name(i)), "%lld %s",
                    (long long)gm_layout_overhead(arena, c, i),
                    gm_dtype_name(gm_layout_own(i, first->dtype)));
}

/* The parts of one module follow each other as `layout` has them. */
static void write_packed(gm_arena *arena, const gm_candidates *candidates,
                         long m, int k, gm_out *out) {
    const long l = m / GM_LINEARS;
    const int j = (int)(m % GM_LINEARS);
    const gm_tensor *whole = gm_candidate_tensor(candidates, l, j, k);
    if (whole) {
        write_stored(out, whole, true);
        return;
    }
    gm_mark mark = gm_arena_mark(arena);
    const gm_packed p = gm_candidate(arena, candidates, l, j, k);
    gm_out_write(out, p.codes, (size_t)gm_packed_bytes(p.out, p.in, p.bits,
                                                       p.group));
    gm_arena_rewind(arena, mark);
}

int64_t gm_export_packed(gm_arena *arena, const gm_candidates *candidates,
                         const int *choice, const char *path,
                         const gm_report *report) {
    const gm_model *model = candidates->model;
    const gm_recipe *recipe = &candidates->recipe;
    const long M = model->config.layers * GM_LINEARS, n = model->tensors.count;
    long count;
    gm_out out = {0};
    int *bits = gm_alloc(arena, (size_t)M, sizeof *bits);
    if (recipe->quantizer == GM_EXTERNAL)
        gm_fail(GM_EUSAGE, "%s: external candidates have no codes to pack: "
                "expected --format hf, found packed", path);
    if (recipe->scales & GM_BIAS)
        gm_fail(GM_EUSAGE, "%s: these candidates were made for mlx, with its "
                "biases: expected --format mlx or hf, found packed", path);
    for (long m = 0; m < M; m++) bits[m] = recipe->bits[choice[m]];
    const long *module = modules_of(arena, model);
    const gm_tensor *t = layout(arena, model, module, bits, recipe->group,
                                &count);
    gm_safetensors_begin(arena, path, t, count, packed_metadata,
                         header_bytes(arena, model, recipe, module), &out);
    for (long i = 0; i < n; i++) {
        const long m = module[i];
        if (m < 0)
            write_stored(&out, model->tensors.tensor + i, model->used[i]);
        else write_packed(arena, candidates, m, choice[m], &out);
        gm_say(report, "writing packed", i + 1, n);
    }
    const int64_t bytes = out.bytes;
    gm_out_commit(&out);
    return bytes;
}
