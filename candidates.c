/* candidates.c: the file that holds all candidates of a model: its layout,
   making it block after block, finding it again by the hash of all it depends
   on.  Writes only that file.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <string.h>
#include <unistd.h>

/* Three tensors a candidate, in file order. */
static gm_status describe(gm_arena *arena, const gm_model *model,
                          const gm_recipe *recipe, gm_tensor *t, long *count,
                          gm_error *err) {
    *count = 0;
    for (long l = 0; l < model->config.layers; l++)
        for (int j = 0; j < GM_LINEARS; j++)
            for (int k = 0; k < recipe->count && recipe->bits[k] < 16; k++) {
                const char *name;
                long out, in;
                gm_status s = gm_linear_name(arena, l, j, &name, err);
                if (s) return s;
                gm_linear_shape(&model->config, j, &out, &in);
                gm_parts p = gm_packed_parts(out, in, recipe->bits[k],
                                             recipe->group);
                int b = recipe->bits[k];
                gm_tensor three[3] = {
                    {gm_format(arena, "%s.b%d.codes", name, b), GM_U8, 2,
                     {out, p.codes / out}, NULL, (size_t)p.codes, NULL},
                    {gm_format(arena, "%s.b%d.scales", name, b), GM_F16, 2,
                     {out, p.scales / out / 2}, NULL, (size_t)p.scales, NULL},
                    {gm_format(arena, "%s.b%d.zeros", name, b), GM_U8, 2,
                     {out, p.zeros / out}, NULL, (size_t)p.zeros, NULL}};
                for (int i = 0; i < 3; i++) {
                    if (!three[i].name) return gm_nomem(err);
                    t[(*count)++] = three[i];
                }
            }
    return GM_OK;
}

/* All candidates of one weight, made and appended to the file. */
static gm_status write_module(gm_arena *arena, const gm_model *model,
                              const gm_recipe *recipe, long layer, int j,
                              gm_out *file, gm_error *err) {
    long out, in;
    gm_linear_shape(&model->config, j, &out, &in);
    gm_real *w = gm_alloc(arena, (size_t)(out * in), sizeof *w);
    if (!w) return gm_nomem(err);
    gm_status s = gm_tensor_read(gm_linear_tensor(model, layer, j), 0,
                                 (int64_t)out * in, w, err);
    for (int k = 0; k < recipe->count && recipe->bits[k] < 16 && !s; k++) {
        gm_parts p = gm_packed_parts(out, in, recipe->bits[k], recipe->group);
        size_t bytes = (size_t)(p.codes + p.scales + p.zeros);
        gm_mark mark = gm_arena_mark(arena);
        uint8_t *data = gm_alloc(arena, bytes + 2, 1);
        uint16_t *scales = gm_alloc(arena, (size_t)p.scales, 1);
        if (!data || !scales) return gm_nomem(err);
        gm_rtn(w, out, in, recipe->bits[k], recipe->group, data, scales,
               data + p.codes + p.scales);
        memcpy(data + p.codes, scales, (size_t)p.scales);
        s = gm_out_write(file, data, bytes, err);
        gm_arena_rewind(arena, mark);
    }
    return s;
}

static gm_status write_candidates(gm_arena *arena, const gm_model *model,
                                  const gm_recipe *recipe, const char *path,
                                  const gm_report *report, gm_error *err) {
    const gm_config *c = &model->config;
    long count, modules = c->layers * GM_LINEARS;
    char text[128];
    gm_recipe_text(recipe, text);
    const char *metadata[] = {"gamma_candidates", "1", "recipe", text,
                              "model_hash", model->hash, NULL};
    gm_tensor *t = gm_alloc(arena, (size_t)(modules * recipe->count * 3),
                            sizeof *t);
    if (!t) return gm_nomem(err);
    gm_status s = describe(arena, model, recipe, t, &count, err);
    gm_out file = {0};
    if (!s) s = gm_safetensors_begin(arena, path, t, count, metadata, 0, &file,
                                     err);
    for (long m = 0; m < modules && !s; m++) {
        gm_mark mark = gm_arena_mark(arena);
        s = write_module(arena, model, recipe, m / GM_LINEARS,
                         (int)(m % GM_LINEARS), &file, err);
        gm_arena_rewind(arena, mark);
        gm_say(report, "candidates", m + 1, modules);
    }
    if (!s) s = gm_out_commit(&file, err);
    if (s) gm_out_abandon(&file);
    return s;
}

/* The name says what the file depends on, so a stale one is never opened. */
static void candidates_hash(const gm_model *model, const char *recipe,
                            char hex[65]) {
    gm_sha sha;
    gm_sha_begin(&sha);
    gm_sha_add(&sha, "gamma_candidates 1", 18);
    gm_sha_add(&sha, recipe, strlen(recipe) + 1);
    gm_sha_add(&sha, model->hash, 64);
    gm_sha_end(&sha, hex);
}

/* "16" needs a checkpoint of 16-bit weights, "32" one of F32. */
static gm_status check_originals(const gm_model *model,
                                 const gm_recipe *recipe, gm_error *err) {
    int last = recipe->bits[recipe->count - 1];
    for (long m = 0; m < model->config.layers * GM_LINEARS && last >= 16; m++) {
        const gm_tensor *t = gm_linear_tensor(model, m / GM_LINEARS,
                                              (int)(m % GM_LINEARS));
        int stored = (int)gm_dtype_bytes(t->dtype) * 8;
        if (last != stored || recipe->bits[0] >= 16)
            return gm_fail(err, GM_EUSAGE, "--bits: %d stands for the weight "
                           "as stored, beside fewer bits, but %s is %s "
                           "(%d bits) in %s", last, t->name,
                           gm_dtype_name(t->dtype), stored, t->path);
    }
    return GM_OK;
}

gm_status gm_candidates_open(gm_arena *arena, gm_model *model,
                             const gm_recipe *recipe, const char *dir,
                             const gm_report *report, gm_candidates *out,
                             gm_error *err) {
    *out = (gm_candidates){.recipe = *recipe, .model = model};
    if (recipe->group < 1 || recipe->group > GM_MAX_GROUP)
        return gm_fail(err, GM_EUSAGE, "--group: expected 1 to %d, found %ld",
                       GM_MAX_GROUP, recipe->group);
    gm_status s = check_originals(model, recipe, err);
    if (!s && !*model->hash) s = gm_model_hash(model, err);
    if (s) return s;
    char text[128];
    gm_recipe_text(recipe, text);
    candidates_hash(model, text, out->hash);
    const char *path = gm_format(arena, "%s/candidates-%.12s.safetensors", dir,
                                 out->hash);
    if (!path) return gm_nomem(err);
    if (access(path, F_OK) != 0) {
        gm_mark mark = gm_arena_mark(arena);
        s = gm_make_dir(dir, err);
        if (!s) s = write_candidates(arena, model, recipe, path, report, err);
        gm_arena_rewind(arena, mark);
        if (s) return s;
    }
    return gm_safetensors_open(arena, path, &out->tensors, err);
}

void gm_candidates_close(gm_candidates *candidates) {
    gm_tensors_close(&candidates->tensors);
}

/* One part of a candidate; its size is checked, for the file is mapped. */
static gm_status find_part(const gm_candidates *c, const char *module, int bits,
                           const char *part, int64_t bytes,
                           const uint8_t **data, gm_error *err) {
    char name[512];
    snprintf(name, sizeof name, "%s.b%d.%s", module, bits, part);
    const gm_tensor *t = gm_tensor_find(&c->tensors, name);
    if (!t || (int64_t)t->bytes != bytes)
        return gm_fail(err, GM_EINPUT, "%s: tensor \"%s\": expected %lld "
                       "bytes, found %lld", c->tensors.map[0].path, name,
                       (long long)bytes, t ? (long long)t->bytes : 0LL);
    *data = t->data;
    return GM_OK;
}

gm_status gm_candidate(const gm_candidates *c, long layer, int j, int k,
                       gm_packed *out, gm_error *err) {
    const gm_tensor *w = gm_linear_tensor(c->model, layer, j);
    *out = (gm_packed){.bits = c->recipe.bits[k], .group = c->recipe.group};
    gm_linear_shape(&c->model->config, j, &out->out, &out->in);
    if (out->bits >= 16) {
        out->original = w;
        return GM_OK;
    }
    char module[256];       /* the weight's name without ".weight" */
    snprintf(module, sizeof module, "%.*s", (int)strlen(w->name) - 7, w->name);
    gm_parts p = gm_packed_parts(out->out, out->in, out->bits, out->group);
    gm_status s = find_part(c, module, out->bits, "codes", p.codes,
                            &out->codes, err);
    if (!s) s = find_part(c, module, out->bits, "scales", p.scales,
                          &out->scales, err);
    if (!s) s = find_part(c, module, out->bits, "zeros", p.zeros, &out->zeros,
                          err);
    return s;
}
