/* test_spellings.c: checkpoints as they lie on people's disks: each spelling of
   config.json, of tensors' names and types, of shards and directories loads as
   transformers loads it, to the same likelihood, or is refused with a message.
   The cases and their values: tools/golden_spellings.py.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats/formats.h"
#include "rivals/rivals.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR "build/test/spellings"
enum { T = 64, ROOM = 80 };
static const char EMBED[] = "model.embed_tokens.weight";
static const char HEAD[] = "lm_head.weight";

/* ---------------------------------------------------- stored in another way */

typedef struct {
    gm_arena arena;
    gm_tensor t[ROOM];
    long count;
} tensors;

static const char *text(tensors *s, const char *x) {
    return gm_format(&s->arena, "%s", x);
}

/* One more tensor like `t`, of another name. */
static void also(tensors *s, const gm_tensor *t, const char *name) {
    s->t[s->count] = *t;
    s->t[s->count++].name = text(s, name);
}

static const char *without_model(const char *name) {
    return strncmp(name, "model.", 6) ? name : name + 6;
}

/* Its numbers, `times` as large, in another type. */
static void store_as(tensors *s, gm_tensor *t, gm_dtype type, double times) {
    const size_t n = t->bytes / gm_dtype_bytes(t->dtype);
    gm_real *x = gm_alloc(&s->arena, n, sizeof *x);
    uint8_t *bytes = gm_alloc(&s->arena, n, gm_dtype_bytes(type));
    gm_tensor_read(t, 0, (int64_t)n, x);
    for (size_t i = 0; i < n; i++) x[i] *= (gm_real)times;
    gm_store(type, x, (long)n, bytes);
    t->dtype = type;
    t->bytes = n * gm_dtype_bytes(type);
    t->file = NULL;
    t->data = bytes;
}

/* A tensor that no model needs, of any type. */
static void extra(tensors *s, const char *name, gm_dtype dtype,
                  const char *type, long count, size_t bytes) {
    uint8_t *data = gm_alloc(&s->arena, bytes, 1);
    memset(data, 0xFF, bytes);              /* of floats: NaN */
    s->t[s->count++] = (gm_tensor){.name = name, .dtype = dtype, .type = type,
        .rank = 1, .shape = {count}, .bytes = bytes, .data = data};
}

static void store(tensors *s, const char *how) {
    const long n = s->count;
    for (long i = 0; i < n; i++) {
        gm_tensor *t = s->t + i;
        const bool embedding = strcmp(t->name, EMBED) == 0;
        if (embedding && strstr(how, "alone")) t->name = HEAD;
        if (embedding && gm_name_matches("twice,differ", how))
            also(s, t, HEAD);
        if (embedding && strcmp(how, "differ") == 0)
            store_as(s, s->t + s->count - 1, t->dtype, 2);
        if (strcmp(how, "both") == 0 && strncmp(t->name, "model.", 6) == 0)
            also(s, t, without_model(t->name));
        if (strncmp(how, "bare", 4) == 0) t->name = without_model(t->name);
        if (strcmp(how, "double") == 0) store_as(s, t, GM_F64, 1);
        if (strcmp(how, "mixed") == 0)
            store_as(s, t, i % 2 ? GM_F32 : GM_F64, 1);
    }
    if (strcmp(how, "extra") != 0) return;
    extra(s, "model.layers.0.self_attn.rotary_emb.inv_freq", GM_F32, NULL, 6,
          24);
    extra(s, "a.mask", GM_OTHER, "BOOL", 3, 3);
    extra(s, "a.short", GM_OTHER, "I16", 3, 6);
    extra(s, "a.f8", GM_OTHER, "F8_E4M3", 5, 5);
    extra(s, "a.scale", GM_OTHER, "F8_E8M0", 1, 1);
    extra(s, "a.four", GM_OTHER, "F4", 4, 2);
    extra(s, "a.complex", GM_OTHER, "C64", 2, 16);
    extra(s, "a.novel", GM_OTHER, "F5_\"1", 1 << 20, 7);
}

/* tests/golden/tiny-`model` in DIR, stored as `how` says. */
static void write_model(const char *model, const char *how) {
    tensors s = {0};
    gm_tensors from;
    gm_out out;
    gm_checkpoint_open(&s.arena, gm_format(&s.arena, "tests/golden/tiny-%s",
                                           model), &from);
    for (long i = 0; i < from.count; i++)
        if (!strstr(how, "alone") || strcmp(from.tensor[i].name, HEAD) != 0)
            also(&s, from.tensor + i, from.tensor[i].name);
    store(&s, how);
    gm_safetensors_begin(&s.arena, DIR "/model.safetensors", s.t, s.count, NULL,
                         0, &out);
    for (const gm_tensor *t = s.t; t < s.t + s.count; t++) {
        uint8_t *bytes = gm_alloc(&s.arena, t->bytes, 1);
        gm_tensor_bytes(t, 0, t->bytes, bytes);
        gm_out_write(&out, bytes, t->bytes);
    }
    gm_out_commit(&out);
    gm_tensors_close(&from);
    gm_arena_free(&s.arena);
}

static void write_text(const char *path, const char *what) {
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(what, f) >= 0 && fclose(f) == 0, "cannot write %s", path);
}

/* ------------------------------------------------------------- likelihoods */

static double nll(const char *dir) {
    gm_arena a = {0};
    gm_model model;
    gm_head head;
    gm_measure m;
    int32_t tokens[T];
    for (int i = 0; i < T; i++) tokens[i] = (7 * i * i + 3 * i) % 64;
    const gm_sequences all = {tokens, 1, T};
    gm_model_open(&a, gm_model_dir(&a, dir), &model);
    gm_real *h = gm_alloc(&a, T, (size_t)model.config.d * sizeof *h);
    gm_final_states(&a, &model, NULL, NULL, &all, NULL, h);
    gm_head_load(&a, &model, &head);
    gm_evaluate(&a, &head, &all, NULL, h, NULL, NULL, &m);
    gm_model_close(&model);
    gm_arena_free(&a);
    return m.nll;
}

/* nll of 5 to 60 in floats, two of 2^24 of which apart are 1e-6 of it; measured
   0.3 of the bound. */
static void loads_as(const char *dir, const char *what, double expected) {
    double found = NAN;
    gm_status s = STATUS(found = nll(dir));
    CHECK(s == GM_OK && fabs(found - expected) < 1e-6 * expected,
          "%s: nll %.8g, in transformers %.8g: %s", what, found, expected,
          err.text);
}

static void test_cases(void) {
    gm_arena a = {0};
    gm_table t;
    gm_table_read(&a, "tests/golden/spellings.tsv", &t);
    for (long r = 0; r < t.rows; r++) {
        const char *const *cell = t.cell + r * t.columns;
        const char *model = cell[0], *how = cell[1], *says = cell[4];
        const char *what = gm_format(&a, "line %ld, %s %s", t.line[r], model,
                                     how);
        write_model(model, how);
        write_text(DIR "/config.json", cell[5]);
        if (strcmp(says, "-") == 0) {
            loads_as(DIR, what, strtod(cell[2], NULL));
            continue;
        }
        CHECK(STATUS(nll(DIR)) == GM_EINPUT && strstr(err.text, says) &&
              !strchr(err.text, '\n'), "%s: %s", what, err.text);
    }
    CHECK(t.rows > 70, "%ld cases", t.rows);
    unlink(DIR "/model.safetensors");
    gm_arena_free(&a);
}

/* ---------------------------------------------------- files and directories */

static void copy(const char *from, const char *to) {
    gm_arena a = {0};
    CHECK(STATUS(gm_copy_file(&a, from, to)) == GM_OK, "%s", err.text);
    gm_arena_free(&a);
}

/* The files of tests/golden/tiny-qwen2 but the index, in `dir`. */
static void copy_qwen2(const char *dir, bool links) {
    static const char *const files[] = {
        "config.json", "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"};
    gm_arena a = {0};
    char *here = realpath("tests/golden/tiny-qwen2", NULL);
    for (int i = 0; i < 4; i++) {
        const char *from = gm_format(&a, "%s/%s", here, files[i]);
        const char *to = gm_format(&a, "%s/%s", dir, files[i]);
        unlink(to);
        if (links) CHECK(symlink(from, to) == 0, "cannot link %s", to);
        else copy(from, to);
    }
    free(here);
    gm_arena_free(&a);
}

/* Claim: what the shards hold counts, not what the index says of it; a shard
   may be a link to anywhere: transformers finds the same nll for all of these. */
static void test_shards(void) {
    static const double expected = 30.8768271;  /* the golden nll of qwen2 */
    static const char *const edits[][2] = {
        {"", ""},
        /* a tensor that no shard has */
        {"\"weight_map\": {", "\"weight_map\": {\"model.none\": \"model-00001-"
         "of-00003.safetensors\","},
        /* one that another shard has, one that is not in the index */
        {"\"model.norm.weight\": \"model-00003", "\"model.norm.weight\": "
         "\"model-00001"},
        {"\"model.norm.weight\":", "\"model.other.weight\":"},
        {"\"weight_map\": {", "\"a\": [NaN, Infinity, 1e999], \"weight_map\": "
         "{"}};
    gm_arena a = {0};
    const char *index = gm_file_text(&a, "tests/golden/tiny-qwen2/"
                                     "model.safetensors.index.json", NULL);
    for (int links = 0; links < 2; links++) {
        copy_qwen2(DIR "/shards", links);
        for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
            const char *at = strstr(index, edits[i][0]);
            CHECK(at, "the index has %s", edits[i][0]);
            if (!at) continue;
            write_text(DIR "/shards/model.safetensors.index.json",
                       gm_format(&a, "%.*s%s%s", (int)(at - index), index,
                                 edits[i][1], at + strlen(edits[i][0])));
            loads_as(DIR "/shards", edits[i][1], expected);
        }
    }
    /* what is needed and nowhere is refused */
    write_text(DIR "/shards/model.safetensors.index.json", "{\"weight_map\":"
               "{\"model.norm.weight\":\"model-00001-of-00003.safetensors\"}}");
    CHECK(STATUS(nll(DIR "/shards")) == GM_EINPUT, "two shards are missing");
    CHECK_TEXT(err.text, DIR "/shards: tensor model.norm.weight is missing");
    gm_arena_free(&a);
}

/* Claim: a cache of the hub is the snapshot that refs/main names. */
static void test_hub(void) {
#define HUB DIR "/models--org--name"
    gm_make_dir(HUB "/snapshots/abc");
    gm_make_dir(HUB "/snapshots/old");
    gm_make_dir(HUB "/refs");
    unlink(HUB "/config.json");         /* of an earlier run */
    copy_qwen2(HUB "/snapshots/abc", true);
    copy("tests/golden/tiny-qwen2/model.safetensors.index.json",
         HUB "/snapshots/abc/model.safetensors.index.json");
    write_text(HUB "/refs/main", "abc");
    loads_as(HUB, "a cache", 30.8768271);
    loads_as(HUB "/", "a cache/", 30.8768271);
    loads_as(HUB "/snapshots/abc", "a snapshot", 30.8768271);
    write_text(HUB "/refs/main", "abc\n");
    loads_as(HUB, "with an end of line", 30.8768271);
    write_text(HUB "/refs/main", "old");
    CHECK(STATUS(nll(HUB)) == GM_EIO, "an empty snapshot");
    CHECK_TEXT(err.text, HUB "/snapshots/old/config.json: cannot open: No such "
               "file or directory");
    write_text(HUB "/refs/main", "../../..");
    CHECK(STATUS(nll(HUB)) == GM_EINPUT, "no name");
    CHECK_TEXT(err.text, HUB "/refs/main: snapshot \"../../..\": part of a "
               "path in its name");
    unlink(HUB "/refs/main");
    CHECK(STATUS(nll(HUB)) == GM_EINPUT, "no refs/main");
    CHECK_TEXT(err.text, HUB ": a cache of the hub without refs/main; give a "
               "directory of its snapshots");
    /* a model that has a directory of this name */
    copy("tests/golden/tiny-llama/config.json", HUB "/config.json");
    copy("tests/golden/tiny-llama/model.safetensors", HUB "/model.safetensors");
    loads_as(HUB, "a model", 4.6491123);
}

/* ------------------------------------------------------------- other types */

/* Claim: a tensor that is used must be floats, or is refused by name, place and
   type, and where there is something else instead of it, by that. */
static void test_used(void) {
    static const char up[] = "model.layers.1.mlp.up_proj.weight";
    static const struct { gm_dtype dtype; const char *name, *found; int bits; }
    bad[] = {
        {GM_U8, NULL, "U8", 8}, {GM_I8, NULL, "I8", 8},
        {GM_I32, NULL, "I32", 32}, {GM_I64, NULL, "I64", 64},
        {GM_OTHER, "BOOL", "BOOL", 8}, {GM_OTHER, "F8_E4M3", "F8_E4M3", 8},
        {GM_OTHER, "F8_E5M2", "F8_E5M2", 8}, {GM_OTHER, "F4", "F4", 4},
        {GM_OTHER, "F6_E3M2", "F6_E3M2", 6}, {GM_OTHER, "U16", "U16", 16},
        {GM_OTHER, "C64", "C64", 64}, {GM_OTHER, "F2_NEW", "F2_NEW", 2}};
    static const char *const instead[] = {"qweight", "weight_packed", "W_q",
                                          "codes", "lora_A.weight"};
    copy("tests/golden/tiny-llama/config.json", DIR "/config.json");
    for (size_t i = 0; i < sizeof bad / sizeof *bad + 5; i++) {
        tensors s = {0};
        gm_tensors from;
        gm_out out;
        gm_checkpoint_open(&s.arena, "tests/golden/tiny-llama", &from);
        const bool type = i < sizeof bad / sizeof *bad;
        const char *other = type ? NULL : gm_format(&s.arena, "%.*s%s", (int)
            strlen(up) - 6, up, instead[i - sizeof bad / sizeof *bad]);
        gm_tensor *t = (gm_tensor *)(uintptr_t)gm_tensor_find(&from, up);
        if (type) {
            t->dtype = bad[i].dtype;
            t->type = bad[i].name;
            t->bytes = (size_t)(t->shape[0] * t->shape[1] * bad[i].bits / 8);
        } else {
            t->name = other;
        }
        gm_safetensors_begin(&s.arena, DIR "/model.safetensors", from.tensor,
                             from.count, NULL, 0, &out);
        static const uint8_t zeros[1 << 16];
        for (long k = 0; k < from.count; k++)
            gm_out_write(&out, zeros, from.tensor[k].bytes);
        gm_out_commit(&out);
        gm_tensors_close(&from);
        CHECK(STATUS(nll(DIR)) == GM_EINPUT, "case %zu", i);
        const char *end = "already; give the checkpoint in F16, BF16 or F32 "
                          "that it was made from";
        if (type)
            CHECK_TEXT(err.text, gm_format(&s.arena, "%s: expected F32, F16, "
                "BF16 or F64, found %s in " DIR "/model.safetensors: weights "
                "that are quantized %s", up, bad[i].found, end));
        else
            CHECK_TEXT(err.text, gm_format(&s.arena, DIR ": tensor %s is "
                "missing, but %s is there: weights that are quantized or "
                "changed %s", up, other, end));
        gm_arena_free(&s.arena);
    }
}

/* Claim: what the model does not use is copied as it is, of whatever type and
   numbers; the copy loads, to the likelihood of its weights. */
static void test_copied(void) {
    gm_arena a = {0};
    gm_model model, copied;
    gm_recipe recipe;
    gm_candidates candidates;
    long unused = 0;
    write_model("llama", "extra");
    gm_recipe_parse("8,16", 16, &recipe);
    gm_model_open(&a, DIR, &model);
    gm_candidates_open(&a, &model, &recipe, NULL, DIR, NULL, &candidates);
    int *choice = gm_alloc(&a, (size_t)model.config.layers * GM_LINEARS,
                           sizeof *choice);
    for (long m = 0; m < model.config.layers * GM_LINEARS; m++) choice[m] = 1;
    gm_export_dequantized(&a, &candidates, choice, DIR "/copy", NULL);
    loads_as(DIR "/copy", "all as stored", 4.6491123);
    gm_model_open(&a, DIR "/copy", &copied);
    CHECK(copied.tensors.count == model.tensors.count, "as many tensors");
    for (long i = 0; i < copied.tensors.count; i++) {
        const gm_tensor *x = model.tensors.tensor + i;
        const gm_tensor *y = copied.tensors.tensor + i;
        uint8_t *p = gm_alloc(&a, x->bytes, 1), *q = gm_alloc(&a, x->bytes, 1);
        gm_tensor_bytes(x, 0, x->bytes, p);
        gm_tensor_bytes(y, 0, x->bytes, q);
        CHECK(x->bytes == y->bytes && memcmp(p, q, x->bytes) == 0, "%s",
              x->name);
        CHECK_TEXT(y->name, x->name);
        CHECK_TEXT(gm_type_of(y), gm_type_of(x));
        CHECK_TEXT(gm_shape_of(y).text, gm_shape_of(x).text);
        unused += !model.used[i];
    }
    CHECK(unused == 8 && copied.head != copied.embedding, "%ld unused", unused);
    gm_candidates_close(&candidates);
    gm_model_close(&copied);
    gm_model_close(&model);
    gm_arena_free(&a);
}

static int test_main(void) {
    gm_make_dir(DIR "/shards");
    test_cases(), test_shards(), test_hub(), test_used(), test_copied();
    return test_end("test_spellings");
}

TEST_MAIN(test_main())
