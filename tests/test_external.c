/* test_external.c: candidates from another tool's file: what is read from it
   equals what was put in, in every dtype; Stage I cannot tell it from our own
   candidates; sizes, missing candidates; every kind of bad file by its exact
   message.  `test_external MODEL FILE` writes one for test_external.sh.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd/cmd.h"
#include "formats/formats.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static const char work[] = "build/test/external-work";
static const char model_dir[] = "tests/golden/tiny-qwen3";
enum { GROUP = 32 };

static gm_arena arena;
static gm_model model;
static gm_candidates own;       /* RTN, 2, 3 and 4 bits */

static void must(gm_status s) {
    if (!s) return;
    CHECK(s == GM_OK, "%s", err.text);
    exit(test_end("test_external"));
}

/* What a file is to hold: tensors as name, dtype, shape and values of `own`. */
typedef struct {
    gm_dtype dtype;
    long skip;                  /* this module lacks 3 bits; -1: none     */
    const char *rename, *to;    /* tensor `rename` is called `to` instead */
    const char *odd;            /* this tensor has one row less           */
    const char *nan;            /* a NaN at element 70 of this tensor     */
    const char *key, *value;    /* metadata                               */
    bool integers, empty;
} plan;

static void module_name(long m, char name[128]) {
    const char *w = gm_linear_tensor(&model, m / 7, (int)(m % 7))->name;
    snprintf(name, 128, "%.*s", (int)strlen(w) - 7, w);
}

/* x in the plan's dtype at `to`; F64, which gm_store lacks, by hand. */
static void put(const plan *p, const gm_real *x, long n, uint8_t *to) {
    if (p->dtype != GM_F64) gm_store(p->dtype, x, n, to);
    else
        for (long i = 0; i < n; i++)
            memcpy(to + 8 * i, &(double){(double)x[i]}, 8);
}

static void write_file(const char *path, const plan *p) {
    const char *metadata[] = {p->key ? p->key : "format",
                              p->key ? p->value : "pt", NULL};
    long M = model.config.layers * 7, count = 0;
    gm_tensor *t = gm_alloc(&arena, (size_t)M * 3, sizeof *t);
    long *from = gm_alloc(&arena, (size_t)M * 3, sizeof *from);
    for (long i = 0; i < M * 3 && !p->empty; i++) {
        char name[128];
        long out, in;
        module_name(i / 3, name);
        if (i / 3 == p->skip && i % 3 == 1) continue;
        gm_linear_shape(&model.config, (int)(i / 3 % 7), &out, &in);
        char *full = gm_format(&arena, "%s.b%ld", name, i % 3 + 2);
        if (p->odd && strcmp(full, p->odd) == 0) out--;
        if (p->rename && strcmp(full, p->rename) == 0)
            full = gm_format(&arena, "%s", p->to);
        from[count] = i;
        t[count++] = (gm_tensor){
            .name = full, .dtype = p->integers ? GM_I32 : p->dtype, .rank = 2,
            .shape = {out, in},
            .bytes = (size_t)(out * in) * gm_dtype_bytes(p->dtype)};
    }
    gm_out out;
    must(STATUS(gm_safetensors_begin(&arena, path, t, count, metadata, 0, &out)));
    for (long i = 0; i < count; i++) {
        gm_packed packed;
        long m = from[i] / 3;
        must(STATUS(packed = gm_candidate(&arena, &own, m / 7, (int)(m % 7), (int)(from[i] % 3))));
        size_t n = (size_t)(packed.out * packed.in);
        gm_real *x = gm_alloc(&arena, n, sizeof *x);
        uint8_t *bytes = gm_alloc(&arena, n, 8);
        must(STATUS(gm_dequantize(&packed, x)));
        if (p->nan && strcmp(t[i].name, p->nan) == 0) x[70] = (gm_real)NAN;
        put(p, x, (long)n, bytes);
        must(STATUS(gm_out_write(&out, bytes, t[i].bytes)));
    }
    must(STATUS(gm_out_commit(&out)));
}

static const char *file(const char *name, const plan *p) {
    const char *path = gm_format(&arena, "%s/%s.safetensors", work, name);
    write_file(path, p);
    return path;
}

static void open_file(const char *path, const char *bits, gm_recipe *recipe,
                      gm_candidates *c) {
    must(STATUS(gm_external_open(&arena, &model, path, bits, GROUP, recipe)));
    must(STATUS(gm_candidates_open(&arena, &model, recipe, NULL, work, NULL, c)));
}

/* ------------------------------------------------------------------ claims */

/* The tensor's values, rounded to its dtype, are what every reader gets. */
static void reads_what_was_written(gm_dtype dtype) {
    gm_recipe recipe;
    gm_candidates c;
    open_file(file(gm_dtype_name(dtype), &(plan){.dtype = dtype, .skip = -1}),
              NULL, &recipe, &c);
    CHECK(recipe.count == 3 && recipe.bits[0] == 2 && recipe.bits[2] == 4,
          "%d candidates", recipe.count);
    long wrong = 0;
    for (long m = 0; m < 21; m++)
        for (int k = 0; k < 3; k++) {
            gm_packed ours, theirs;
            must(STATUS(ours = gm_candidate(&arena, &own, m / 7, (int)(m % 7), k)));
            must(STATUS(theirs = gm_candidate(&arena, &c, m / 7, (int)(m % 7), k)));
            size_t n = (size_t)(ours.out * ours.in);
            gm_real *x = gm_alloc(&arena, n, sizeof *x);
            gm_real *y = gm_alloc(&arena, n, sizeof *y);
            must(STATUS(gm_dequantize(&ours, x)));
            must(STATUS(gm_dequantize(&theirs, y)));
            for (size_t i = 0; i < n; i++) {
                float f = (float)x[i];
                if (dtype == GM_F16) f = gm_f16_to_f32(gm_f32_to_f16(f));
                if (dtype == GM_BF16) f = gm_bf16_to_f32(gm_f32_to_bf16(f));
                wrong += (float)y[i] != f;
            }
        }
    CHECK(wrong == 0, "%s: %ld elements differ", gm_dtype_name(dtype), wrong);
    gm_candidates_close(&c);
}

/* RTN's own weights handed in as F32: scores and sizes equal to the bit. */
static void stage_one_cannot_tell(void) {
    enum { S = 2, T = 16 };
    const gm_fit_options o = {.relaxation = GM_SOFT_CORRECTED,
                              .sequences = S, .T = T,
                              .batch = 1, .steps = 3, .alpha = 0.1, .rho = 10,
                              .eta = 0.02, .tau = 1, .rate = 0.1, .tail = 1,
                              .budget = 3, .seed = 1};
    int32_t tokens[S * T];
    gm_recipe recipe;
    gm_candidates c;
    gm_fit fit[2];
    gm_scores scores[2];
    for (int i = 0; i < S * T; i++) tokens[i] = (i * 7 + 3) % 60;
    open_file(file("same", &(plan){.dtype = GM_F32, .skip = -1}), NULL,
              &recipe, &c);
    for (int i = 0; i < 2; i++) {
        must(STATUS(gm_fit_begin(&arena, i ? &c : &own, tokens, &o, &fit[i])));
        while (fit[i].step < o.steps) must(STATUS(gm_fit_step(&fit[i])));
        must(STATUS(gm_fit_table(&arena, &fit[i], &scores[i])));
    }
    long wrong = 0;
    for (long i = 0; i < 63; i++)
        wrong += scores[0].score[i] != scores[1].score[i] ||
                 scores[0].bytes[i] != scores[1].bytes[i];
    CHECK(wrong == 0, "%ld of 63 scores or sizes differ", wrong);
    CHECK(gm_packed_overhead(&arena, &model, &own.recipe) ==
          gm_packed_overhead(&arena, &model, &recipe), "overhead");
    CHECK_TEXT(gm_keys_get(&scores[1].keys, "candidates"),
               "external bits=2,3,4 group=32");
    CHECK(strcmp(own.hash, c.hash) != 0, "the hash ignores the quantizer");
    gm_candidates_close(&c);
}

/* Missing candidates and stated sizes appear in mask, table and messages. */
static void sizes_and_gaps(void) {
    gm_recipe recipe;
    gm_candidates c, plain;
    gm_scores table;
    char expected[512];
    const char *path = file("gap", &(plan){
        .dtype = GM_F32, .skip = 8, .value = "1234",
        .key = "model.layers.0.mlp.up_proj.b4.bytes"});
    open_file(path, NULL, &recipe, &c);
    must(STATUS(gm_module_table(&arena, &model, &recipe, &table)));
    CHECK(c.allowed && !c.allowed[8 * 3 + 1] && table.bytes[8 * 3 + 1] == -1,
          "module 8 has a candidate of 3 bits");
    long given = 0;
    for (long i = 0; i < 63; i++) given += c.allowed[i];
    CHECK(given == 62, "%ld candidates", given);
    CHECK(table.bytes[5 * 3 + 2] == 1234, "%lld bytes",
          (long long)table.bytes[5 * 3 + 2]);
    CHECK(table.bytes[5 * 3 + 1] == gm_packed_bytes(96, 56, 3, GROUP),
          "the convention");
    CHECK(STATUS(gm_candidate(&arena, &c, 1, 1, 1)) == GM_EINPUT, "a gap");
    snprintf(expected, sizeof expected, "%s: module model.layers.1.self_attn."
             "k_proj: expected a candidate of 3 bits, found none", path);
    CHECK_TEXT(err.text, expected);
    /* the size is part of what the hash covers; so is every tensor */
    open_file(file("gap2", &(plan){.dtype = GM_F32, .skip = 8}), NULL, &recipe,
              &plain);
    CHECK(strcmp(plain.hash, c.hash) != 0, "the hash ignores sizes");
    gm_candidates_close(&plain);
    gm_candidates_close(&c);
    /* --bits picks; 16 is the weight as stored in a BF16 checkpoint */
    open_file(path, "2,4,16", &recipe, &c);
    CHECK(recipe.count == 3 && recipe.bits[1] == 4, "--bits");
    CHECK(gm_candidate_tensor(&c, 1, 1, 2) == gm_linear_tensor(&model, 1, 1),
          "16 bits");
    must(STATUS(gm_module_table(&arena, &model, &recipe, &table)));
    CHECK(table.bytes[2] == 2 * table.weights[0], "16 bits: bytes");
    gm_candidates_close(&c);
}

static uint8_t *bytes_of(const char *path, size_t *size) {
    char *text = NULL;
    must(STATUS(text = gm_file_text(&arena, path, size)));
    return (uint8_t *)text;
}

static void exported_alike(void) {
    gm_recipe recipe;
    gm_candidates c;
    int choice[21];
    char path[2][128];
    for (int m = 0; m < 21; m++) choice[m] = m % 3;
    open_file(file("export", &(plan){.dtype = GM_F32, .skip = -1}), NULL,
              &recipe, &c);
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/hf%d", work, i);
        must(STATUS(gm_export_dequantized(&arena, i ? &c : &own, choice,
                                   path[i], NULL)));
    }
    for (int shard = 1; shard <= 4; shard++) {
        size_t size[2];
        uint8_t *data[2];
        for (int i = 0; i < 2; i++)
            data[i] = bytes_of(gm_format(&arena, "%s/model-%05d-of-00004"
                                         ".safetensors", path[i], shard),
                               &size[i]);
        CHECK(size[0] == size[1] && memcmp(data[0], data[1], size[0]) == 0,
              "shard %d differs", shard);
    }
    CHECK(STATUS(gm_export_packed(&arena, &c, choice, "x", NULL)) ==
          GM_EUSAGE && access("x", F_OK) != 0, "packed");
    CHECK_TEXT(err.text, "x: external candidates have no codes to pack: "
               "expected --format hf, found packed");
    gm_candidates_close(&c);
}

/* The stored weight, chosen at 16 bits, is written as it is. */
static void stored_weights_exported(void) {
    gm_recipe recipe;
    gm_candidates c;
    int choice[21];
    open_file(file("stored", &(plan){.dtype = GM_F32, .skip = -1}), "2,16",
              &recipe, &c);
    for (int m = 0; m < 21; m++) choice[m] = 1;
    const char *dir = gm_format(&arena, "%s/stored", work);
    must(STATUS(gm_export_dequantized(&arena, &c, choice, dir, NULL)));
    gm_model again;
    must(STATUS(gm_model_open(&arena, dir, &again)));
    must(STATUS(gm_model_hash(&again)));
    CHECK_TEXT(again.hash, model.hash);
    gm_model_close(&again);
    gm_candidates_close(&c);
}

/* ------------------------------------------------------------- bad files */

static void refused(const char *name, const plan *p, const char *bits,
                    const char *message) {
    gm_recipe recipe;
    char expected[700];
    const char *path = file(name, p);
    gm_status s = STATUS(gm_external_open(&arena, &model, path, bits, GROUP, &recipe));
    snprintf(expected, sizeof expected, "%s%s", bits ? "" : path, message);
    CHECK(s == (bits ? GM_EUSAGE : GM_EINPUT), "%s: status %d", name, s);
    CHECK_TEXT(err.text, expected);
}

static void bad_files(void) {
#define Q "model.layers.0.self_attn.q_proj"
#define PLAN(...) &(plan){.dtype = GM_F32, .skip = -1, __VA_ARGS__}
    refused("shape", PLAN(.odd = Q ".b2"), NULL, ": tensor \"" Q ".b2\": "
            "expected shape [64, 56], found [63, 56]");
    refused("nan", PLAN(.nan = Q ".b3"), NULL, ": tensor \"" Q ".b3\": element "
            "70 of shape [64, 56] is NaN, expected a finite number");
    refused("type", PLAN(.integers = true), NULL, ": tensor \"model.layers.0."
            "mlp.down_proj.b2\": type I32, expected F32, F16, BF16 or F64");
    refused("module", PLAN(.rename = Q ".b2", .to = "model.layers.3.mlp.x.b2"),
            NULL, ": tensor \"model.layers.3.mlp.x.b2\": expected a linear "
            "module of tests/golden/tiny-qwen3 such as " Q ".b3, found "
            "\"model.layers.3.mlp.x\"");
    refused("weight", PLAN(.rename = Q ".b2", .to = Q ".weight.b2"), NULL,
            ": tensor \"" Q ".weight.b2\": expected a linear module of "
            "tests/golden/tiny-qwen3 such as " Q ".b3, found \"" Q
            ".weight\"");
    refused("nine", PLAN(.rename = Q ".b2", .to = Q ".b9"), NULL, ": tensor \""
            Q ".b9\": expected bits 1 to 8, 16 or 32, found 9");
    refused("name", PLAN(.rename = Q ".b2", .to = Q ".b2x"), NULL, ": tensor \""
            Q ".b2x\": expected a module's name and bits such as " Q ".b3, "
            "found no .b and number at its end and no metadata \"b2x.bits\" "
            "of a label");
    refused("dash", PLAN(.rename = Q ".b2", .to = Q ".b2-"), NULL, ": tensor \""
            Q ".b2-\": expected a module's name and bits such as " Q ".b3, "
            "found no .b and number at its end");
    refused("zero", PLAN(.rename = Q ".b2", .to = Q ".b02"), NULL, ": tensor \""
            Q ".b02\": expected a module's name and bits such as " Q ".b3, "
            "found no .b and number at its end");
    refused("negative", PLAN(.key = Q ".b2.bytes", .value = "-1"), NULL,
            ": metadata \"" Q ".b2.bytes\": expected a whole number from 0 to "
            "2^53, found \"-1\"");
    refused("huge", PLAN(.key = Q ".b2.bytes", .value = "9007199254740993"),
            NULL, ": metadata \"" Q ".b2.bytes\": expected a whole number from "
            "0 to 2^53, found \"9007199254740993\"");
    refused("sum", PLAN(.key = Q ".b2.bytes", .value = "9007199254740992"),
            NULL, ": metadata: expected stored bytes of at most 2^53 in all, "
            "found more with module 2 of 21");
    refused("bytes", PLAN(.key = Q ".b5.bytes", .value = "1"), NULL,
            ": metadata \"" Q ".b5.bytes\": expected a tensor \"" Q ".b5\", "
            "found none");
    refused("empty", PLAN(.empty = true), NULL, ": expected tensors such as " Q
            ".b3, found none");
    char message[256];
    snprintf(message, sizeof message, "--bits: expected bits that %s/pick."
             "safetensors has, found 5", work);
    refused("pick", PLAN(.odd = NULL), "2,5", message);
    snprintf(message, sizeof message, "--bits: 32 stands for the weight as "
             "stored where %s/width.safetensors has none, but " Q ".weight is "
             "BF16 in tests/golden/tiny-qwen3/model-00001-of-00004.safetensors",
             work);
    refused("width", PLAN(.odd = NULL), "2,32", message);
}

/* A module that has none of the bits asked for. */
static void module_without_candidate(void) {
    gm_recipe recipe;
    char expected[512];
    const char *path = file("without", &(plan){.dtype = GM_F32, .skip = 8});
    CHECK(STATUS(gm_external_open(&arena, &model, path, "3", GROUP, &recipe)) ==
          GM_EINPUT, "a module without candidate");
    snprintf(expected, sizeof expected, "%s: module model.layers.1.self_attn."
             "k_proj: expected at least one tensor model.layers.1.self_attn."
             "k_proj.bK, found none", path);
    CHECK_TEXT(err.text, expected);
    gm_recipe bare;
    gm_candidates c;
    must(STATUS(gm_recipe_read("external bits=2,3 group=32", &bare)));
    CHECK(STATUS(gm_candidates_open(&arena, &model, &bare, NULL, work, NULL, &c)) == GM_EUSAGE, "no file");
    CHECK_TEXT(err.text, "the candidates are another tool's: expected its file "
               "(--external FILE), found none");
}

static int test_main(int argc, char **argv) {
    gm_recipe recipe;
    if (argc != 1 && argc != 3) return 2;
    must(STATUS(gm_make_dir(work)));
    must(STATUS(gm_model_open(&arena, argc == 3 ? argv[1] : model_dir, &model)));
    must(STATUS(gm_recipe_parse("2,3,4", GROUP, &recipe)));
    must(STATUS(gm_candidates_open(&arena, &model, &recipe, NULL, work, NULL, &own)));
    if (argc == 3) {
        write_file(argv[2], &(plan){.dtype = GM_F16, .skip = 3});
        return 0;
    }
    const gm_dtype dtype[] = {GM_F32, GM_F16, GM_BF16, GM_F64};
    for (int i = 0; i < 4; i++) reads_what_was_written(dtype[i]);
    stage_one_cannot_tell();
    sizes_and_gaps();
    exported_alike();
    stored_weights_exported();
    bad_files();
    module_without_candidate();
    gm_candidates_close(&own);
    gm_model_close(&model);
    gm_arena_free(&arena);
    return test_end("test_external");
}

TEST_MAIN(test_main(argc, argv))
