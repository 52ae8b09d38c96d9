/* candidates.c: the file that holds all candidates of a model: its layout,
   making it block after block (for GPTQ, with the inputs that the original
   model's modules see), finding it again by the hash of all it depends on.
   Writes only that file.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <math.h>
#include <string.h>

/* Three tensors a candidate, in file order. */
static void describe(gm_arena *arena, const gm_model *model,
                          const gm_recipe *recipe, gm_tensor *t, long *count) {
    *count = 0;
    for (long l = 0; l < model->config.layers; l++)
        for (int j = 0; j < GM_LINEARS; j++)
            for (int k = 0; k < recipe->count && recipe->bits[k] < 16; k++) {
                const char *name;
                long out, in;
                gm_linear_name(arena, l, j, &name);
                gm_linear_shape(&model->config, j, &out, &in);
                gm_parts p = gm_packed_parts(out, in, recipe->bits[k],
                                             recipe->group);
                int b = recipe->bits[k];
                gm_tensor three[3] = {
                    {gm_format(arena, "%s.b%d.codes", name, b), GM_U8, 2,
                     {out, p.codes / out}, .bytes = (size_t)p.codes},
                    {gm_format(arena, "%s.b%d.scales", name, b), GM_F16, 2,
                     {out, p.scales / out / 2}, .bytes = (size_t)p.scales},
                    {gm_format(arena, "%s.b%d.zeros", name, b), GM_U8, 2,
                     {out, p.zeros / out}, .bytes = (size_t)p.zeros}};
                for (int i = 0; i < 3; i++) {
                    t[(*count)++] = three[i];
                }
            }
}

/* ------------------------------------------------------- what modules see

   The seven modules of a block have four inputs: q, k, v | o | gate, up |
   down.  They are those of the original model, block after block over all
   calibration sequences, a few at a time, so memory is one block,
   its activations for one batch, and the states.  --sequential: a stream of
   states for each number of bits instead, which goes through the blocks
   quantized to these bits. */

enum { INPUTS = 4 };
static const int input_of[GM_LINEARS] = {0, 0, 0, 1, 2, 2, 3};

/* No result depends on it. */
long gm_at_once(const gm_recipe *recipe, long S) {
    return gm_min(S, recipe->at_once ? recipe->at_once : 4);
}

typedef struct {
    const gm_model *model;
    const gm_recipe *recipe;
    const gm_sequences *text;
    const gm_report *report;
    long layer;                 /* of this block                              */
    int streams, made;          /* made: numbers of bits below 16             */
    gm_real *h;                 /* [streams, S T, d] inputs of the next block */
    gm_block block;
    gm_acts acts;
    double *weight, *mass;      /* [B T], B = gm_at_once                      */
    double *H[INPUTS];          /* [n, n] of this block, n = inputs[i]        */
    long inputs[INPUTS];
    uint8_t *data[GM_LINEARS][GM_MAX_CANDIDATES];   /* of this block, packed  */
} maker;

/* s_mk of a module of any block. */
static int64_t candidate_bytes(const maker *t, int j, int k) {
    const gm_recipe *r = t->recipe;
    long out, in;
    gm_linear_shape(&t->model->config, j, &out, &in);
    return gm_packed_bytes(out, in, r->bits[k], r->group);
}

/* Room for one block and its candidates. */
static void block_room(gm_arena *arena, maker *t) {
    const gm_config *c = &t->model->config;
    const gm_recipe *r = t->recipe;
    while (t->made < r->count && r->bits[t->made] < 16) t->made++;
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        t->inputs[input_of[j]] = in;
        for (int k = 0; k < t->made; k++) {
            t->data[j][k] = gm_alloc(arena, (size_t)candidate_bytes(t, j, k),
                                     1);
        }
    }
    gm_block_alloc(arena, c, &t->block);
}

/* Room for what GPTQ needs; the first states are the embeddings. */
static void stream_room(gm_arena *arena, maker *t) {
    const gm_config *c = &t->model->config;
    const gm_sequences *text = t->text;
    const long at_once = gm_at_once(t->recipe, text->S);
    size_t batch = (size_t)(text->T * at_once);
    size_t row = (size_t)c->d * sizeof *t->h;
    long all = text->S * text->T;
    t->streams = t->recipe->sequential ? t->made : 1;
    t->h = gm_alloc(arena, (size_t)(t->streams * all), row);
    t->weight = gm_alloc(arena, batch, sizeof *t->weight);
    t->mass = gm_alloc(arena, batch, sizeof *t->mass);
    for (int i = 0; i < INPUTS; i++) {
        size_t n = (size_t)t->inputs[i];
        t->H[i] = gm_alloc(arena, n * n, sizeof *t->H[i]);
    }
    gm_acts_alloc(arena, c, at_once, text->T, false, &t->acts);
    for (int k = 0; k < t->streams; k++)
        gm_embed(t->model, text->tokens, all, t->h + k * all * c->d);
}

/* w_t of the rows of a batch, x [rows, n] = input i.  One token in 512 hardly
   weighs in a plain H, but the first of a sequence, which all later ones
   attend to, is ruined by that: SmolLM2-135M, 3 bits, groups of 64, has
   perplexity 98 by RTN, 304 with position 0 left out of H, 75 with
   w = 1/||x||, and 61 with that times 4 at position 0 (8 windows;
   docs/results.md). */
static void token_weights(const maker *t, int i, long rows, const gm_real *x) {
    const long n = t->inputs[i];
    const gm_hessian hessian = t->recipe->hessian;
    for (long r = 0; r < rows; r++) {
        double norm = sqrt(gm_dot(n, x + r * n, x + r * n));
        double size = r % t->text->T == 0 ? 4 : 1;
        if (hessian == GM_ATTENTION && i == 0) size = sqrt(t->mass[r]);
        t->weight[r] = hessian == GM_PLAIN ? 1 : norm > 0 ? size / norm : 0;
    }
}

/* One pass of the states h through the block.  H_i = (2 / S T) sum_t w_t^2 x_t
   x_t^T for the inputs first..end-1; move: h become the block's outputs, else
   the pass ends at input `first`, the only one. */
static void pass(maker *t, gm_real *h, int first, int end, bool move) {
    static const char *const name[INPUTS] = {
        "input of q, k and v", "input of o", "input of gate and up",
        "input of down"};
    const gm_config *c = &t->model->config;
    gm_acts *a = &t->acts;
    const gm_real *input[INPUTS] = {a->x1, a->attn, a->x2, a->act};
    const long S = t->text->S, T = t->text->T;
    for (int i = first; i < end; i++) {
        size_t n = (size_t)t->inputs[i];
        memset(t->H[i], 0, n * n * sizeof *t->H[i]);
    }
    const long at_once = gm_at_once(t->recipe, S);
    for (long q = 0; q < S; q += at_once) {
        gm_real *at = h + q * T * c->d;
        a->S = gm_min(S - q, at_once);
        bool mass = t->recipe->hessian == GM_ATTENTION && first == 0 && end > 0;
        if (move) gm_block_forward(a, &t->block, at, at);
        else gm_block_inputs(a, &t->block, at, mass ? 1 : first);
        if (mass) gm_attention_mass(a, t->mass);
        for (int i = first; i < end; i++) {
            gm_states_check(t->model, t->layer, name[i], input[i],
                                a->S * T, t->inputs[i]);
            token_weights(t, i, a->S * T, input[i]);
            gm_gram(a->S * T, t->inputs[i], input[i], t->weight, t->H[i]);
        }
        if (move)
            gm_states_check(t->model, t->layer, "output", at, a->S * T,
                                c->d);
    }
    for (int i = first; i < end; i++)
        for (long k = 0; k < t->inputs[i] * t->inputs[i]; k++)
            t->H[i][k] *= 2 / ((double)S * (double)T);
}

void gm_hessians(gm_arena *arena, const gm_model *model,
                      const gm_recipe *recipe, const gm_sequences *calibration,
                      gm_hessian_look *look, void *context) {
    gm_mark mark = gm_arena_mark(arena);
    maker t = {.model = model, .recipe = recipe, .text = calibration};
    block_room(arena, &t);
    stream_room(arena, &t);
    for (long l = 0; l < model->config.layers; l++) {
        t.layer = l;
        gm_block_load(model, l, &t.block);
        pass(&t, t.h, 0, INPUTS, true);
        for (int i = 0; i < INPUTS; i++)
            look(context, l, i, t.inputs[i], t.H[i]);
    }
    gm_arena_rewind(arena, mark);
}

/* ------------------------------------------------------------ making a file */

/* Candidate k of module j of the block into its place: codes, scales, zeros in
   a row.  factor: of GPTQ; NULL for RTN. */
static void make_candidate(gm_arena *arena, maker *t, int j, int k,
                                const gm_factor *factor) {
    const gm_recipe *r = t->recipe;
    const gm_real *w = t->block.w[j];
    uint8_t *data = t->data[j][k];
    long out, in;
    gm_linear_shape(&t->model->config, j, &out, &in);
    gm_parts p = gm_packed_parts(out, in, r->bits[k], r->group);
    gm_mark mark = gm_arena_mark(arena);
    uint16_t *scales = gm_alloc(arena, (size_t)p.scales, 1);
    uint8_t *zeros = data + p.codes + p.scales;
    if (factor)
        gm_gptq(arena, w, out, in, r->bits[k], r->group, r->scales, factor,
                    data, scales, zeros);
    else
        gm_rtn(w, out, in, r->bits[k], r->group, r->scales, data, scales,
               zeros);
    memcpy(data + p.codes, scales, (size_t)p.scales);
    gm_arena_rewind(arena, mark);
}

/* Module j of the block becomes its candidate k. */
static void take_candidate(maker *t, int j, int k) {
    const gm_recipe *r = t->recipe;
    gm_packed q = {.bits = r->bits[k], .group = r->group,
                   .codes = t->data[j][k]};
    gm_linear_shape(&t->model->config, j, &q.out, &q.in);
    gm_parts p = gm_packed_parts(q.out, q.in, q.bits, q.group);
    q.scales = q.codes + p.codes;
    q.zeros = q.scales + p.scales;
    gm_dequantize(&q, t->block.w[j]);
}

/* Candidates first..end-1 of the modules with input i, from its H. */
static void make_input(gm_arena *arena, maker *t, int i, int first,
                            int end) {
    const gm_recipe *r = t->recipe;
    gm_mark mark = gm_arena_mark(arena);
    gm_factor factor;
    bool gptq = r->quantizer == GM_GPTQ;
    if (gptq)
        gm_gptq_factor(arena, t->inputs[i], t->H[i], r->damping,
                           r->act_order, &factor);
    for (int j = 0; j < GM_LINEARS; j++)
        for (int k = first; k < end && input_of[j] == i; k++)
            make_candidate(arena, t, j, k, gptq ? &factor : NULL);
    gm_arena_rewind(arena, mark);
}

/* All candidates of the block from one set of inputs. */
static void make_block(gm_arena *arena, maker *t) {
    if (t->recipe->quantizer == GM_GPTQ)
        pass(t, t->h, 0, INPUTS, true);
    for (int i = 0; i < INPUTS; i++)
        make_input(arena, t, i, 0, t->made);
}

/* Candidates k of the block, each from the inputs that it gets when all
   modules before it, those of this block too, are their candidates k. */
static void make_stream(gm_arena *arena, maker *t, int k) {
    gm_real *h = t->h + k * t->text->S * t->text->T * t->model->config.d;
    for (int i = 0; i < INPUTS; i++) {
        pass(t, h, i, i + 1, false);
        make_input(arena, t, i, k, k + 1);
        for (int j = 0; j < GM_LINEARS; j++)
            if (input_of[j] == i) take_candidate(t, j, k);
    }
    pass(t, h, 0, 0, true);
}

/* The candidates of one block, in t->data. */
static void fill_block(gm_arena *arena, maker *t, long layer) {
    const gm_recipe *r = t->recipe;
    t->layer = layer;
    gm_block_load(t->model, layer, &t->block);
    if (!r->sequential) make_block(arena, t);
    for (int k = 0; k < t->made && r->sequential; k++) {
        if (k) gm_block_load(t->model, layer, &t->block);
        make_stream(arena, t, k);
    }
}

/* A block that `rank` made to byte `at` of rank 0's file: moved as a whole
   before any of it is written, so that no rank sends to one that failed. */
static void put_block(maker *t, int rank, int64_t at, gm_out *file) {
    for (int j = 0; j < GM_LINEARS; j++)
        for (int k = 0; k < t->made; k++)
            gm_ranks_move(rank, 0, t->data[j][k],
                          (size_t)candidate_bytes(t, j, k));
    for (int j = 0; j < GM_LINEARS && gm_rank() == 0; j++)
        for (int k = 0; k < t->made; k++) {
            size_t n = (size_t)candidate_bytes(t, j, k);
            gm_out_write_at(file, at, t->data[j][k], n);
            at += (int64_t)n;
        }
}

/* Rank r makes the blocks first(r) .. first(r + 1) - 1; with --sequential,
   where each block needs the one before it, rank 0 makes all. */
static long first_block(const maker *t, int rank) {
    long L = t->model->config.layers;
    return !t->recipe->sequential ? gm_rank_first(L, rank) : rank ? L : 0;
}

/* In turn i every rank makes its block i and rank 0 writes them all. */
static void write_blocks(gm_arena *arena, maker *t, gm_out *file) {
    const long L = t->model->config.layers;
    const int64_t start = file->bytes;
    int64_t size = 0;
    for (int j = 0; j < GM_LINEARS; j++)
        for (int k = 0; k < t->made; k++) size += candidate_bytes(t, j, k);
    for (long i = 0, done = 0; done < L; i++) {
        long mine = first_block(t, gm_rank()) + i;
        if (mine < first_block(t, gm_rank() + 1))
            fill_block(arena, t, mine);
        for (int r = 0; r < gm_ranks(); r++) {
            long l = first_block(t, r) + i;
            if (l >= first_block(t, r + 1)) continue;
            gm_ranks_check();       /* all have made, rank 0 has written */
            put_block(t, r, start + l * size, file);
            done++;
        }
        gm_say(t->report, "candidates", done * GM_LINEARS, L * GM_LINEARS);
    }
}

/* DIR/sha256-HASH.txt beside DIR/candidates-HASH.safetensors, as sha256sum -c
   reads it. */
static void write_digest(gm_arena *arena, gm_out *file) {
    const char *name = gm_base_name(file->path);
    const char *hash = strrchr(name, '-') + 1;
    const char *to = gm_format(arena, "%.*ssha256-%.12s.txt",
                               (int)(name - file->path), file->path, hash);
    char hex[65];
    gm_out out;
    if (fflush(file->file) != 0)
        gm_fail(GM_EIO, "%s: cannot write", file->partial);
    gm_file_hash(file->partial, hex);
    gm_out_open(arena, to, &out);
    gm_out_print(&out, "%s  %s\n", hex, name);
    gm_out_commit(&out);
}

void gm_candidates_verify(gm_arena *arena, const gm_candidates *candidates,
                               const char *dir) {
    if (candidates->recipe.quantizer == GM_EXTERNAL) return;
    const char *path = candidates->tensors.file[0]->path;
    const char *from = gm_format(arena, "%s/sha256-%.12s.txt", dir,
                                 candidates->hash);
    char hex[65];
    if (!gm_exists(from))
        gm_bad(path, "expected its SHA-256 in %s, found no such file; remove it "
               "and it will be made again", from);
    const char *said = gm_file_text(arena, from, NULL);
    gm_file_hash(path, hex);
    if (strncmp(said, hex, 64) != 0)
        gm_bad(path, "damaged: expected SHA-256 %.64s (%s), found %s; remove "
               "it and it will be made again", said, from, hex);
}

static void write_candidates(gm_arena *arena, const gm_model *model,
                                  const gm_recipe *recipe,
                                  const gm_sequences *text, const char *path,
                                  const gm_report *report) {
    long count, modules = model->config.layers * GM_LINEARS;
    char recipe_text[128], tokens[65];
    bool gptq = recipe->quantizer == GM_GPTQ;
    maker t = {.model = model, .recipe = recipe, .text = text,
               .report = report};
    gm_recipe_text(recipe, recipe_text);
    if (gptq) gm_sha_tokens(text->tokens, text->S, text->T, tokens);
    const char *metadata[] = {"gamma_candidates", "1", "recipe", recipe_text,
                              "model_hash", model->hash,
                              gptq ? "calibration_hash" : NULL, tokens, NULL};
    gm_tensor *tensor = gm_alloc(arena, (size_t)(modules * recipe->count * 3),
                                 sizeof *tensor);
    describe(arena, model, recipe, tensor, &count);
    block_room(arena, &t);
    if (gptq) stream_room(arena, &t);
    gm_out file = {0};
    bool writes = gm_rank() == 0;
    if (writes)
        gm_safetensors_begin(arena, path, tensor, count, metadata, 0,
                                 &file);
    if (gptq && !recipe->sequential)
        gm_states_before(model, first_block(&t, gm_rank()), text, &t.block,
                             &t.acts, t.h);
    write_blocks(arena, &t, &file);
    if (writes) write_digest(arena, &file);
    if (writes) gm_out_commit(&file);
}

/* ---------------------------------------------------------- finding a file */

/* The name says what the file depends on, so a stale one is never opened. */
static void candidates_hash(const gm_model *model, const gm_recipe *recipe,
                            const gm_sequences *text, char hex[65]) {
    char recipe_text[128];
    gm_sha sha;
    gm_recipe_text(recipe, recipe_text);
    gm_sha_begin(&sha);
    gm_sha_add(&sha, "gamma_candidates 1", 18);
    gm_sha_add(&sha, recipe_text, strlen(recipe_text) + 1);
    gm_sha_add(&sha, model->hash, 64);
    if (recipe->quantizer == GM_GPTQ) {
        char tokens[65], shape[64];
        gm_sha_tokens(text->tokens, text->S, text->T, tokens);
        gm_sha_add(&sha, tokens, 64);
        int n = snprintf(shape, sizeof shape, "S=%ld T=%ld", text->S, text->T);
        gm_sha_add(&sha, shape, (size_t)n);
    }
    if (recipe->external) gm_sha_add(&sha, recipe->external->hash, 64);
    gm_sha_end(&sha, hex);
}

/* "16" needs a checkpoint of 16-bit weights, "32" one of F32. */
static void check_originals(const gm_model *model,
                                 const gm_recipe *recipe) {
    int last = recipe->bits[recipe->count - 1];
    if (recipe->quantizer == GM_EXTERNAL) return;     /* external.c did */
    for (long m = 0; m < model->config.layers * GM_LINEARS && last >= 16; m++) {
        const gm_tensor *t = gm_linear_tensor(model, m / GM_LINEARS,
                                              (int)(m % GM_LINEARS));
        int stored = (int)gm_dtype_bytes(t->dtype) * 8;
        if (last != stored || recipe->bits[0] >= 16)
            gm_fail(GM_EUSAGE, "--bits: %d stands for the weight "
                           "as stored, beside fewer bits, but %s is %s "
                           "(%d bits) in %s", last, t->name,
                           gm_dtype_name(t->dtype), stored, t->path);
    }
}

/* Checks that need no file, and the model's hash. */
static void begin(gm_model *model, const gm_recipe *recipe,
                       gm_candidates *out) {
    *out = (gm_candidates){.recipe = *recipe, .model = model};
    if (recipe->group < 1 || recipe->group > GM_MAX_GROUP)
        gm_fail(GM_EUSAGE, "--group: expected 1 to %d, found %ld",
                       GM_MAX_GROUP, recipe->group);
    check_originals(model, recipe);
    if (!*model->hash) gm_model_hash(model);
}

static char *candidates_path(gm_arena *arena, const char *dir,
                             const char *hash) {
    return gm_format(arena, "%s/candidates-%.12s.safetensors", dir, hash);
}

/* Rank 0 looks whether the file is there, and holds the directory while all
   make it. */
static void ensure_file(gm_arena *arena, const gm_model *model,
                             const gm_recipe *recipe,
                             const gm_sequences *calibration, const char *path,
                             const char *dir, const gm_report *report) {
    const bool first = gm_rank() == 0;
    bool missing = first && !gm_exists(path);
    gm_lock *lock = NULL;
    gm_ranks_tell(&missing, sizeof missing);
    if (!missing) return;
    gm_mark mark = gm_arena_mark(arena);
    if (first) gm_make_dir(dir);
    if (first) lock = gm_dir_lock(arena, dir);
    missing = first && !gm_exists(path);
    gm_ranks_tell(&missing, sizeof missing);
    if (missing)
        write_candidates(arena, model, recipe, calibration, path, report);
    gm_ranks_check();           /* it is there */
    gm_dir_unlock(lock);
    gm_arena_rewind(arena, mark);
}

void gm_candidates_open(gm_arena *arena, gm_model *model,
                             const gm_recipe *recipe,
                             const gm_sequences *calibration, const char *dir,
                             const gm_report *report, gm_candidates *out) {
    begin(model, recipe, out);
    if (recipe->quantizer == GM_EXTERNAL && !recipe->external)
        gm_fail(GM_EUSAGE, "the candidates are another tool's: "
                       "expected its file (--external FILE), found none");
    if (recipe->quantizer == GM_GPTQ && !calibration)
        gm_fail(GM_EUSAGE, "GPTQ candidates are made from a "
                       "calibration text: expected one, found none");
    candidates_hash(model, recipe, calibration, out->hash);
    gm_ranks_same("the candidates' hash", out->hash);
    if (recipe->quantizer == GM_EXTERNAL) {
        out->tensors = recipe->external->tensors;
        out->allowed = recipe->external->allowed;
        gm_make_dir(dir);       /* for what is written there later */
        return;
    }
    const char *path = candidates_path(arena, dir, out->hash);
    ensure_file(arena, model, recipe, calibration, path, dir, report);
    gm_safetensors_open(arena, path, &out->tensors);
}

/* One key of the file's metadata must be `expected`. */
static void check_key(const gm_candidates *c, const char *path,
                           const char *key, const char *expected) {
    const gm_json *v = gm_json_get(c->tensors.metadata, key);
    if (v && v->string && strcmp(v->string, expected) == 0) return;
    gm_fail(GM_EINPUT, "%s: %s: expected \"%s\", found \"%s\"",
                   path, key, expected, v && v->string ? v->string : "nothing");
}

void gm_candidates_find(gm_arena *arena, gm_model *model,
                             const gm_recipe *recipe, const char *hash,
                             const char *dir, gm_candidates *out) {
    begin(model, recipe, out);
    const char *path = candidates_path(arena, dir, hash);
    if (strlen(hash) != 64 || strspn(hash, "0123456789abcdef") != 64)
        gm_fail(GM_EINPUT, "candidates_hash: expected 64 "
                       "hexadecimal digits, found \"%s\"", hash);
    if (!gm_exists(path))
        gm_fail(GM_EINPUT, "%s: no such file, and GPTQ candidates "
                       "are made from a calibration text: expected the "
                       "directory that gamma fit wrote to (--cache DIR), or "
                       "that text (--calib FILE)", path);
    char text[128];
    gm_recipe_text(recipe, text);
    memcpy(out->hash, hash, 65);
    gm_safetensors_open(arena, path, &out->tensors);
    check_key(out, path, "recipe", text);
    check_key(out, path, "model_hash", model->hash);
}

void gm_candidates_close(gm_candidates *candidates) {
    gm_tensors_close(&candidates->tensors);
}

/* One part of a candidate; its size is checked, for the file is mapped. */
static void find_part(const gm_candidates *c, const char *module, int bits,
                           const char *part, int64_t bytes,
                           const uint8_t **data) {
    char name[512];
    snprintf(name, sizeof name, "%s.b%d.%s", module, bits, part);
    const gm_tensor *t = gm_tensor_find(&c->tensors, name);
    bool scales = strcmp(part, "scales") == 0;
    if (!t || (int64_t)t->bytes != bytes)
        gm_fail(GM_EINPUT, "%s: tensor \"%s\": expected %lld "
                       "bytes, found %lld", c->tensors.file[0]->path, name,
                       (long long)bytes, t ? (long long)t->bytes : 0LL);
    if (t->dtype != (scales ? GM_F16 : GM_U8))
        gm_fail(GM_EINPUT, "%s: tensor \"%s\": expected type %s, "
                       "found %s", t->path, name, scales ? "F16" : "U8",
                       gm_dtype_name(t->dtype));
    *data = t->data;
    if (scales) gm_tensor_check(t);
}

/* The tensor itself, in the place of the stored weight. */
static void find_external(const gm_candidates *c, long layer, int j, int k,
                               gm_packed *out) {
    const gm_tensor *w = gm_linear_tensor(c->model, layer, j);
    long i = (layer * GM_LINEARS + j) * c->recipe.count + k;
    out->original = c->recipe.external->tensor[i];
    if (out->original) return;
    gm_fail(GM_EINPUT, "%s: module %.*s: expected a candidate of "
                   "%d bits, found none", c->tensors.file[0]->path,
                   (int)strlen(w->name) - 7, w->name, out->bits);
}

void gm_candidate(const gm_candidates *c, long layer, int j, int k,
                       gm_packed *out) {
    const gm_tensor *w = gm_linear_tensor(c->model, layer, j);
    *out = (gm_packed){.bits = c->recipe.bits[k], .group = c->recipe.group};
    gm_linear_shape(&c->model->config, j, &out->out, &out->in);
    if (c->recipe.external) { find_external(c, layer, j, k, out); return; }
    if (out->bits >= 16) {
        out->original = w;
        return;
    }
    char module[256];       /* the weight's name without ".weight" */
    snprintf(module, sizeof module, "%.*s", (int)strlen(w->name) - 7, w->name);
    gm_parts p = gm_packed_parts(out->out, out->in, out->bits, out->group);
    find_part(c, module, out->bits, "codes", p.codes,
                            &out->codes);
    find_part(c, module, out->bits, "scales", p.scales,
                          &out->scales);
    find_part(c, module, out->bits, "zeros", p.zeros, &out->zeros);
}

void gm_candidate_weight(const gm_candidates *c, long layer, int j, int k,
                              gm_real *w) {
    gm_packed packed;
    gm_candidate(c, layer, j, k, &packed);
    gm_dequantize(&packed, w);
}

void gm_chosen_block(const gm_candidates *c, long layer, const int *choice,
                          gm_block *block) {
    gm_block_load(c->model, layer, block);
    for (int j = 0; j < GM_LINEARS; j++)
        gm_candidate_weight(c, layer, j, choice[j], block->w[j]);
}

void gm_offer_find(const gm_candidates *c, long layer, int j,
                        gm_offer *out) {
    out->count = 0;
    for (int k = 0; k < c->recipe.count; k++) {
        if (!gm_allowed(c, layer * GM_LINEARS + j, k)) continue;
        out->k[out->count] = k;
        gm_candidate(c, layer, j, k, &out->packed[out->count++]);
    }
}

void gm_offer_inner(const gm_offer *o, const gm_real *G, double *row,
                         double *g) {
    double of[GM_MAX_CANDIDATES];
    gm_inner(o->packed, o->count, G, row, of);
    for (int i = 0; i < o->count; i++) g[o->k[i]] = of[i];
}
