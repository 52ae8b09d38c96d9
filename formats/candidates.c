/* candidates.c: recipes as text, and the file of a model's candidates: named by
   the hash of all it depends on, made when it is not there, found again,
   checked.  Writes DIR/candidates-HASH.safetensors and, before it,
   DIR/sha256-HASH.txt.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ recipe */

void gm_recipe_list(const char *bits, long group, bool labels, gm_recipe *out) {
    *out = (gm_recipe){.group = group, .damping = GM_DAMPING};
    for (const char *c = bits; ; c++) {
        const size_t n = strcspn(c, ",");
        const bool label = labels && gm_is_label(c, n);
        char *end = NULL;
        long b = strtol(c, &end, 10);
        if (label) b = 0, end = (char *)c + n;
        if (end == c || (!label && !gm_is_bits(b)) || (*end && *end != ',') ||
            out->count == GM_MAX_CANDIDATES ||
            (!label && out->count && b <= out->bits[out->count - 1]))
            gm_fail(GM_EUSAGE, "--bits: expected an ascending list of 1..8, 16 "
                    "or 32 such as 2,3,4%s, found \"%s\"", labels &&
                    strpbrk(bits, "_abcdefghijklmnopqrstuvwxyz") ?
                    ", or labels such as q4_0,q8_0" : "", bits);
        if (label) memcpy(out->label[out->count], c, n);
        out->bits[out->count++] = (int)b;
        c = end;
        if (!*c) return;
    }
}

void gm_recipe_bits(const gm_recipe *r, char text[GM_RECIPE_TEXT]) {
    int n = 0;
    for (int k = 0; k < r->count; k++) {
        char number[16];
        snprintf(number, sizeof number, "%d", r->bits[k]);
        n += snprintf(text + n, GM_RECIPE_TEXT - (size_t)n, "%s%s",
                      k ? "," : "", *r->label[k] ? r->label[k] : number);
    }
}

/* A word is written only where it is not the default (but the Hessian's), so
   that a recipe keeps its text, and a file its hash, when words are added. */
void gm_recipe_text(const gm_recipe *r, char text[GM_RECIPE_TEXT]) {
    const bool gptq = r->quantizer == GM_GPTQ;
    const size_t most = GM_RECIPE_TEXT;
    char bits[GM_RECIPE_TEXT];
    gm_recipe_bits(r, bits);
    size_t n = (size_t)snprintf(text, most, "%s bits=%s group=%ld",
                                gm_quantizer_name[r->quantizer], bits,
                                r->group);
    if (gptq)
        n += (size_t)snprintf(text + n, most - n, " hessian=%s%s",
                              gm_hessian_name[r->hessian],
                              r->act_order ? " act-order" : "");
    if (gptq && r->damping != GM_DAMPING)
        n += (size_t)snprintf(text + n, most - n, " damping=%.9g", r->damping);
    snprintf(text + n, most - n, "%s%s%s%s%s",
             r->scales & GM_MSE ? " scales=mse" : "",
             r->scales & GM_SYMMETRIC ? " symmetric" : "",
             gptq && r->sequential ? " sequential" : "",
             r->scales & GM_BF16_SCALE ? " scale-type=bf16" : "",
             r->scales & GM_BIAS ? " bias" : "");
}

void gm_recipe_check(const gm_recipe *r) {
    if (r->scales & GM_SYMMETRIC && r->bits[0] == 1)
        gm_fail(GM_EUSAGE, "--symmetric: expected 2 bits or more, found 1, "
                "whose only values would be 0 and -2 max |w|");
}

/* What follows `start` in a word that begins so, else NULL. */
static const char *after(const char *word, const char *start) {
    const size_t n = strlen(start);
    return strncmp(word, start, n) == 0 ? word + n : NULL;
}

/* One word after "bits=... group=...". */
static void read_word(const char *word, gm_recipe *r) {
    static const char *const scales[] = {"minmax", "mse"};
    const bool gptq = r->quantizer == GM_GPTQ;
    const char *value, *expected = gptq
        ? "hessian=, act-order, damping=, scales=, symmetric, sequential, "
          "scale-type=bf16 or bias"
        : r->quantizer == GM_EXTERNAL ? "nothing"
        : "nothing but scales=, symmetric, scale-type=bf16 or bias";
    const bool ours = r->quantizer != GM_EXTERNAL;
    if (ours && strcmp(word, "symmetric") == 0)
        r->scales |= GM_SYMMETRIC;
    else if (ours && strcmp(word, "scale-type=bf16") == 0)
        r->scales |= GM_BF16_SCALE;
    else if (ours && strcmp(word, "bias") == 0)
        r->scales |= GM_BIAS;
    else if (ours && (value = after(word, "scales=")))
        r->scales |= (gm_scales)gm_parse_name("--scales", value, scales, 2);
    else if (gptq && (value = after(word, "hessian=")))
        r->hessian = (gm_hessian)gm_parse_name("--hessian", value,
                                               gm_hessian_name, 3);
    else if (gptq && (value = after(word, "damping=")))
        r->damping = gm_parse_double("damping", value, 1e-9, 1);
    else if (gptq && strcmp(word, "act-order") == 0)
        r->act_order = true;
    else if (gptq && strcmp(word, "sequential") == 0)
        r->sequential = true;
    else
        gm_fail(GM_EINPUT, "candidates: expected %s after group=, found \"%s\"",
                expected, word);
}

void gm_recipe_read(const char *text, gm_recipe *out) {
    char quantizer[16], bits[GM_RECIPE_TEXT], rest[GM_RECIPE_TEXT];
    long group;
    int n = 0;
    if (strlen(text) >= sizeof rest ||
        /* NOLINTNEXTLINE(cert-err34-c): nine digits */
        sscanf(text, "%15s bits=%511s group=%9ld%n", quantizer, bits, &group,
               &n) != 3 || group < 1 || group > GM_MAX_GROUP)
        gm_fail(GM_EINPUT, "candidates: expected a text such as "
                "\"rtn bits=2,3,4 group=128\", found \"%s\"", text);
    /* nobody asks for external by name */
    const bool external = strcmp(quantizer, "external") == 0;
    gm_recipe_list(bits, group, external, out);
    out->quantizer = external ? GM_EXTERNAL
        : (gm_quantizer)gm_parse_name("--quantizer", quantizer,
                                      gm_quantizer_name, GM_EXTERNAL);
    strcpy(rest, text + n);
    for (char *words = rest, *word; (word = strsep(&words, " "));)
        if (*word) read_word(word, out);
    gm_recipe_check(out);
}

/* ---------------------------------------------------------------- its names */

/* What the file depends on, so that a stale one is never opened. */
static void hash_of(const gm_candidates *c, const gm_sequences *text,
                    char hex[65]) {
    char tokens[65], shape[64];
    gm_sha sha;
    gm_sha_begin(&sha);
    gm_sha_add(&sha, "gamma_candidates 1", 18);
    gm_sha_add(&sha, c->text, strlen(c->text) + 1);
    gm_sha_add(&sha, c->model->hash, 64);
    if (c->recipe.quantizer == GM_GPTQ) {
        gm_sha_tokens(text->tokens, text->sequences, text->T, tokens);
        int n = snprintf(shape, sizeof shape, "S=%ld T=%ld", text->sequences,
                         text->T);
        gm_sha_add(&sha, tokens, 64);
        gm_sha_add(&sha, shape, (size_t)n);
    }
    if (c->recipe.external) gm_sha_add(&sha, c->recipe.external->hash, 64);
    gm_sha_end(&sha, hex);
}

static char *file_path(gm_arena *arena, const char *dir, const char *hash) {
    return gm_format(arena, "%s/candidates-%.12s.safetensors", dir, hash);
}

static char *digest_path(gm_arena *arena, const char *dir, const char *hash) {
    return gm_format(arena, "%s/sha256-%.12s.txt", dir, hash);
}

/* --------------------------------------------------------------- writing it */

/* As sha256sum -c reads it. */
static void write_digest(gm_arena *arena, const gm_out *file, const char *to) {
    char hex[65];
    gm_out out;
    if (fflush(file->file) != 0)
        gm_fail(GM_EIO, "%s: cannot write", file->partial);
    gm_file_hash(file->partial, hex);
    gm_out_open(arena, to, &out);
    gm_out_print(&out, "%s  %s\n", hex, gm_base_name(file->path));
    gm_out_commit(&out);
}

/* The file is what was written. */
static void check_digest(gm_arena *arena, const char *path, const char *hash,
                         const char *dir) {
    const char *from = digest_path(arena, dir, hash);
    char hex[65];
    if (!gm_exists(from))
        gm_bad(path, "expected its SHA-256 in %s, found no such file; remove "
               "it and it will be made again", from);
    const char *said = gm_regular_text(arena, from, NULL);
    gm_file_hash(path, hex);
    if (strncmp(said, hex, 64) != 0)
        gm_bad(path, "damaged: expected SHA-256 %.64s (%s), found %s; remove "
               "it and it will be made again", said, from, hex);
}

/* All ranks make, rank 0 writes. */
static void write_file(gm_arena *arena, const gm_candidates *c,
                       const gm_sequences *text, const char *path,
                       const char *dir, const gm_report *report) {
    const gm_recipe *r = &c->recipe;
    const long M = gm_modules(c->model);
    const bool gptq = r->quantizer == GM_GPTQ;
    char tokens[65];
    gm_out file = {0};
    if (gptq) gm_sha_tokens(text->tokens, text->sequences, text->T, tokens);
    const char *metadata[] = {"gamma_candidates", "1", "recipe", c->text,
                              "model_hash", c->model->hash,
                              gptq ? "calibration_hash" : NULL, tokens, NULL};
    gm_tensor *part = gm_alloc(arena, (size_t)(3 * M * r->count), sizeof *part);
    long count = 0;
    for (long m = 0; m < M; m++)
        for (int k = 0; k < r->count && r->bits[k] < 16; k++, count += 3)
            gm_candidate_parts(arena, c, m / GM_LINEARS, (int)(m % GM_LINEARS),
                               k, part + count);
    if (gm_rank() == 0)
        gm_safetensors_begin(arena, path, part, count, metadata, 0, &file);
    gm_candidates_make(arena, c->model, r, text, report, &file);
    if (gm_rank() > 0) return;
    write_digest(arena, &file, digest_path(arena, dir, c->hash));
    gm_out_commit(&file);
}

/* Rank 0 looks whether the file is there, as it was made, and if not holds the
   directory while all make it. */
static void ensure_file(gm_arena *arena, const gm_candidates *c,
                        const gm_sequences *text, const char *path,
                        const char *dir, const gm_report *report) {
    const bool first = gm_rank() == 0;
    bool missing = first && !gm_exists(path);
    gm_lock *lock = NULL;
    gm_ranks_tell(&missing, sizeof missing);
    if (!missing) {
        if (first) check_digest(arena, path, c->hash, dir);
        gm_ranks_check();
        return;
    }
    gm_mark mark = gm_arena_mark(arena);
    if (first) gm_make_dir(dir);
    if (first) lock = gm_dir_lock(arena, dir);
    missing = first && !gm_exists(path);
    gm_ranks_tell(&missing, sizeof missing);
    if (missing) write_file(arena, c, text, path, dir, report);
    gm_ranks_check();           /* it is there */
    gm_dir_unlock(lock);
    gm_arena_rewind(arena, mark);
}

/* ---------------------------------------------------------- opening a file */

/* Checks that need no file, and the model's hash.  "16" needs a checkpoint of
   16-bit weights, "32" one of F32. */
static void begin(gm_model *model, const gm_recipe *recipe,
                  gm_candidates *out) {
    const int last = recipe->bits[recipe->count - 1];
    const bool own = recipe->quantizer != GM_EXTERNAL && last >= 16;
    *out = (gm_candidates){.recipe = *recipe, .model = model};
    gm_recipe_text(recipe, out->text);
    if (recipe->group < 1 || recipe->group > GM_MAX_GROUP)
        gm_fail(GM_EUSAGE, "--group: expected 1 to %d, found %ld",
                GM_MAX_GROUP, recipe->group);
    for (long m = 0; own && m < gm_modules(model); m++) {
        const gm_tensor *t = gm_module_weight(model, m);
        int stored = (int)gm_dtype_bytes(t->dtype) * 8;
        if (last != stored || recipe->bits[0] >= 16)
            gm_fail(GM_EUSAGE, "--bits: %d stands for the weight as stored, "
                    "beside fewer bits, but %s is %s (%d bits) in %s", last,
                    t->name, gm_dtype_name(t->dtype), stored, t->path);
    }
    if (!*model->hash) gm_model_hash(model);
}

void gm_candidates_name(gm_model *model, const gm_recipe *recipe,
                        const gm_sequences *calibration, gm_candidates *out) {
    begin(model, recipe, out);
    if (recipe->quantizer == GM_EXTERNAL && !recipe->external)
        gm_fail(GM_EUSAGE, "the candidates are another tool's: expected its "
                "file (--external FILE), found none");
    if (recipe->quantizer == GM_GPTQ && !calibration)
        gm_fail(GM_EUSAGE, "GPTQ candidates are made from a calibration text: "
                "expected one, found none");
    hash_of(out, calibration, out->hash);
    gm_ranks_same("the candidates' hash", out->hash);
}

void gm_candidates_open(gm_arena *arena, gm_model *model,
                        const gm_recipe *recipe,
                        const gm_sequences *calibration, const char *dir,
                        const gm_report *report, gm_candidates *out) {
    gm_candidates_name(model, recipe, calibration, out);
    if (recipe->quantizer == GM_EXTERNAL) {
        out->tensors = recipe->external->tensors;
        out->allowed = recipe->external->allowed;
        gm_make_dir(dir);       /* for what is written there later */
        return;
    }
    const char *path = file_path(arena, dir, out->hash);
    ensure_file(arena, out, calibration, path, dir, report);
    gm_safetensors_open(arena, path, &out->tensors);
}

/* One key of the file's metadata must be `expected`. */
static void check_key(const gm_candidates *c, const char *path,
                      const char *key, const char *expected) {
    const gm_json *v = gm_json_get(c->tensors.metadata, key);
    if (v && v->string && strcmp(v->string, expected) == 0) return;
    gm_bad(path, "%s: expected \"%s\", found \"%s\"", key, expected,
           v && v->string ? v->string : "nothing");
}

void gm_candidates_find(gm_arena *arena, gm_model *model,
                        const gm_recipe *recipe, const char *hash,
                        const char *dir, gm_candidates *out) {
    const char *path = file_path(arena, dir, hash);
    begin(model, recipe, out);
    if (strlen(hash) != 64 || strspn(hash, "0123456789abcdef") != 64)
        gm_fail(GM_EINPUT, "candidates_hash: expected 64 hexadecimal digits, "
                "found \"%s\"", hash);
    if (!gm_exists(path))
        gm_bad(path, "no such file, and GPTQ candidates are made from a "
               "calibration text: expected the directory that gamma fit wrote "
               "to (--cache DIR), or that text (--calib FILE)");
    memcpy(out->hash, hash, 65);
    check_digest(arena, path, hash, dir);
    gm_safetensors_open(arena, path, &out->tensors);
    check_key(out, path, "recipe", out->text);
    check_key(out, path, "model_hash", model->hash);
}

void gm_candidates_close(gm_candidates *candidates) {
    gm_tensors_close(&candidates->tensors);
}
