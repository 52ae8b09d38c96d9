/* test_readback.c: directories of other runtimes' layouts read back.  Claims:
   zeros less one (GPTQ's v1), groups in any order (act-order), a quantized
   embedding are read as they are meant; whatever is missing, of another shape,
   type or kind is refused by its name; directories are candidates, and a
   mixture of them is written as if their widths had been written at once.
   That every weight in every width is what was written: test_layouts.c.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "../formats/formats.h"
#include "test.h"

#include <stdlib.h>

#define WORK "build/test/readback-work"
static const char from[] = "data/tiny-llama";
enum { GROUP = 32 };

static gm_arena arena;
static gm_model model;
static gm_candidates own;       /* 4 and 8 bits, RTN */
static int choice[64];

static void must(gm_status s) {
    if (!s) return;
    CHECK(s == GM_OK, "%s", err.text);
    exit(test_end("test_readback"));
}

/* What differs from a directory as written. */
typedef struct {
    const char *layout;
    const char *tensor, *to;    /* this tensor gets that name; "": it goes   */
    int rows, columns;          /* as many more of them                      */
    const char *type;
    long at;                    /* byte `at` of the tensor becomes `byte`;   */
    int byte;                   /* 0: none does                              */
    const char *find, *replace; /* in config.json                            */
    void (*change)(gm_tensor *t);       /* of every tensor                   */
    const char *expected;       /* end of the message                        */
} edit;

static char *swap(char *text, const char *find, const char *replace) {
    for (char *at; find && (at = strstr(text, find));) {
        CHECK(!strstr(replace, find), "%s would never end", find);
        text = gm_format(&arena, "%.*s%s%s", (int)(at - text), text, replace,
                         at + strlen(find));
    }
    return text;
}

static const char *directory(const edit *e, const char *name) {
    const char *dir = gm_format(&arena, WORK "/%s", name);
    const char *source = gm_format(&arena, WORK "/%s-written", e->layout);
    const char *metadata[] = {"format", "pt", NULL};
    const char *path = gm_format(&arena, "%s/model.safetensors", dir);
    gm_tensors all;
    gm_out out, text;
    must(STATUS(gm_make_dir(dir)));
    must(STATUS(gm_safetensors_open(&arena, gm_format(
        &arena, "%s/model.safetensors", source), &all)));
    long n = 0;
    gm_tensor *t = gm_alloc(&arena, (size_t)all.count, sizeof *t);
    for (long i = 0; i < all.count; i++) {
        gm_tensor x = all.tensor[i];
        size_t bytes = x.bytes;
        uint8_t *data = gm_alloc(&arena, 2 * bytes + 4096, 1);
        gm_tensor_bytes(&x, 0, bytes, data);
        x.file = NULL, x.data = data;
        if (e->tensor && strcmp(x.name, e->tensor) == 0) {
            const size_t each = bytes / (size_t)(x.shape[0] * (
                x.rank > 1 ? x.shape[1] : 1));
            if (e->to && !*e->to) continue;
            if (e->to) x.name = e->to;
            x.shape[0] += e->rows;
            x.shape[1] += e->columns;
            x.bytes = each * (size_t)(x.shape[0] * (x.rank > 1 ? x.shape[1]
                                                               : 1));
            if (e->type) {
                x.type = NULL;
                x.dtype = strcmp(e->type, "I32") ? GM_I8 : GM_I32;
                if (x.dtype == GM_I8) x.shape[x.rank - 1] *= (int64_t)each;
            }
            if (e->byte) data[e->at] = (uint8_t)e->byte;
        }
        if (e->change) e->change(&x);
        t[n++] = x;
    }
    must(STATUS(gm_safetensors_begin(&arena, path, t, n, metadata, 0, &out)));
    for (long i = 0; i < n; i++)
        must(STATUS(gm_out_write(&out, t[i].data, t[i].bytes)));
    must(STATUS(gm_out_commit(&out)));
    char *config = gm_file_text(&arena, gm_format(&arena, "%s/config.json",
                                                  source), NULL);
    config = swap(config, e->find, e->replace);
    must(STATUS(gm_out_open(&arena, gm_format(&arena, "%s/config.json", dir),
                            &text)));
    must(STATUS(gm_out_print(&text, "%s", config)));
    must(STATUS(gm_out_commit(&text)));
    gm_tensors_close(&all);
    return dir;
}

/* ----------------------------------------------------- what must be the same */

static void same_model(const char *dir) {
    gm_model other;
    long wrong = 0;
    gm_status s = STATUS(gm_layout_open(&arena, dir, &other));
    CHECK(s == GM_OK, "%s", err.text);
    if (s) return;
    for (long m = 0; m < model.config.layers * GM_LINEARS; m++) {
        const gm_tensor *w = gm_linear_tensor(&other, m / GM_LINEARS,
                                              (int)(m % GM_LINEARS));
        const int64_t n = w->shape[0] * w->shape[1];
        gm_real *x = gm_alloc(&arena, (size_t)n, sizeof *x);
        gm_real *y = gm_alloc(&arena, (size_t)n, sizeof *y);
        must(STATUS(gm_candidate_weight(&arena, &own, m / GM_LINEARS,
                                        (int)(m % GM_LINEARS), choice[m], x)));
        s = STATUS(gm_tensor_read(w, 0, n, y));
        CHECK(s == GM_OK, "%s", err.text);
        wrong += s || memcmp(x, y, (size_t)n * sizeof *x) != 0;
        CHECK(w->made && w->made->bits == own.recipe.bits[choice[m]], "%s",
              w->name);
    }
    CHECK(wrong == 0, "%s: %ld modules differ", dir, wrong);
    gm_model_close(&other);
}

/* Codes of 4 and 8 bits do not straddle words: less one in each field. */
static void less_one(gm_tensor *t) {
    if (!strstr(t->name, ".qzeros")) return;
    const gm_tensor *w = gm_tensor_find(&model.tensors, swap(gm_format(
        &arena, "%s", t->name), "qzeros", "weight"));
    const int bits = (int)(t->shape[1] * 32 / w->shape[0]);
    uint32_t *word = (uint32_t *)(uintptr_t)t->data;
    for (size_t i = 0; i < t->bytes / 4; i++)
        for (int at = 0; at < 32; at += bits)
            word[i] -= 1u << at;
}

/* Groups from the last to the first: rows of scales and zeros, and the index. */
static void turn_round(gm_tensor *t) {
    uint8_t *data = (uint8_t *)(uintptr_t)t->data;
    int32_t *index = (int32_t *)(uintptr_t)data;
    if (strstr(t->name, ".g_idx")) {
        const int32_t last = index[t->shape[0] - 1];
        for (int64_t i = 0; i < t->shape[0]; i++) index[i] = last - index[i];
    } else if (strstr(t->name, ".qzeros") || strstr(t->name, ".scales")) {
        const size_t row = t->bytes / (size_t)t->shape[0];
        for (uint8_t *a = data, *b = data + t->bytes - row; a < b;
             a += row, b -= row)
            for (size_t i = 0; i < row; i++) {
                const uint8_t was = a[i];
                a[i] = b[i], b[i] = was;
            }
    }
}

/* A head and an embedding that are quantized too, as mlx-lm leaves them. */
static void quantized_embedding(void) {
    gm_model other;
    gm_layout t = {.row = gm_layout_row("mlx"), .scale = GM_F32};
    const gm_tensor *w = model.embedding;
    const long out = (long)w->shape[0], in = (long)w->shape[1];
    gm_real *x = gm_alloc(&arena, (size_t)(out * in), sizeof *x);
    gm_real *y = gm_alloc(&arena, (size_t)(out * in), sizeof *y);
    uint8_t *data = gm_alloc(&arena, (size_t)gm_packed_bytes(out, in, 4, GROUP),
                             1);
    gm_packed q = gm_packed_at(out, in, 4, GROUP, data);
    gm_tensor_read(w, 0, out * in, x);
    must(STATUS(gm_quantize(&arena, x, GM_MINMAX, NULL, &q)));
    gm_dequantize(&q, x);
    const char *dir = directory(&(edit){.layout = "mlx"}, "embedding");
    const char *path = gm_format(&arena, "%s/model.safetensors", dir);
    gm_tensors all;
    gm_out file;
    must(STATUS(gm_safetensors_open(&arena, path, &all)));
    gm_tensor *list = gm_alloc(&arena, (size_t)all.count + 2, sizeof *list);
    long n = 0;
    for (long i = 0; i < all.count; i++) {
        list[n] = all.tensor[i];
        uint8_t *copy = gm_alloc(&arena, list[n].bytes, 1);
        gm_tensor_bytes(list + n, 0, list[n].bytes, copy);
        list[n].file = NULL, list[n].data = copy;
        n += strcmp(list[n].name, w->name) != 0;
    }
    const char *const parts[] = {"weight", "scales", "biases"};
    for (int i = 0; i < 3; i++) {
        gm_tensor p = {.rank = 2, .shape = {out, i ? in / GROUP : in / 8},
                       .dtype = i ? GM_F32 : GM_OTHER, .type = i ? NULL : "U32"};
        p.bytes = (size_t)(p.shape[0] * p.shape[1]) * 4;
        uint8_t *bytes = gm_alloc(&arena, p.bytes, 1);
        must(STATUS(gm_layout_fill(&arena, &t, parts[i], &q, bytes)));
        p.data = bytes;
        p.name = gm_format(&arena, "model.embed_tokens.%s", parts[i]);
        list[n++] = p;
    }
    must(STATUS(gm_safetensors_begin(&arena, path, list, n, NULL, 0, &file)));
    for (long i = 0; i < n; i++)
        must(STATUS(gm_out_write(&file, list[i].data, list[i].bytes)));
    must(STATUS(gm_out_commit(&file)));
    gm_tensors_close(&all);
    gm_status s = STATUS(gm_layout_open(&arena, dir, &other));
    if (!s) s = STATUS(gm_tensor_read(other.embedding, 0, out * in, y));
    CHECK(s == GM_OK, "%s", err.text);
    CHECK(memcmp(x, y, (size_t)(out * in) * sizeof *x) == 0, "embedding");
    CHECK(other.config.tied == model.config.tied, "head");
    gm_model_close(&other);
}

/* ------------------------------------------------------------------ refusals */

#define Q "model.layers.0.self_attn.q_proj"
static const edit edits[] = {
    {"mlx", Q ".scales", "", .expected = "tensor " Q ".scales is missing, but " Q ".weight is there"},
    {"mlx", Q ".biases", "", .expected = "tensor " Q ".biases is missing, but " Q ".weight is there"},
    {"mlx", Q ".weight", "", .expected = "tensor " Q ".weight is missing, but " Q ".scales is there"},
    {"mlx", Q ".weight", .columns = 1, .expected = "expected 128 outputs of 128 inputs in bits that config.json names and mlx has, found [128, 17]"},
    {"mlx", Q ".weight", .rows = 1, .expected = "expected 128 outputs of 128 inputs in bits that config.json names and mlx has, found [129, 16]"},
    {"mlx", Q ".weight", .type = "I8", .expected = "found [128, 64]"},
    {"mlx", Q ".scales", .rows = 1, .expected = Q ".scales: expected [128, 4], found [129, 4]"},
    {"mlx", Q ".scales", .columns = -1, .expected = Q ".weight: expected 128 inputs in whole groups, found 3 groups"},
    {"mlx", Q ".biases", .columns = 1, .expected = Q ".biases: expected [128, 4], found [128, 5]"},
    {"mlx", Q ".scales", .type = "I32", .expected = Q ".scales: expected type F32,F16,BF16, found I32"},
    {"mlx", Q ".scales", .at = 3, .byte = 0x7f, .expected = "tensor \"" Q ".scales\": element 0 of shape [128, 4] is"},
    {"mlx", .find = "\"affine\"", .replace = "\"mxfp4\"", .expected = "config.json: mode: expected \"affine\", found \"mxfp4\""},
    {"mlx", .find = "\"bits\": 4", .replace = "\"bits\": 5", .expected = "in bits that config.json names and mlx has, found [128, 16]"},
    {"mlx", .find = "\"group_size\"", .replace = "\"groups\"", .expected = "this checkpoint is quantized already; give the checkpoint in F16, BF16 or F32 that it was made from"},
    {"compressed-tensors", Q ".weight_zero_point", .columns = -1, .expected = Q ".weight_zero_point: expected [16, 4], found [16, 3]"},
    {"compressed-tensors", Q ".weight_shape", .rows = 1, .expected = Q ".weight_shape: expected [2], found [3]"},
    {"compressed-tensors", Q ".weight_shape", .at = 1, .byte = 7, .expected = Q ".weight_shape: expected 128 and 128, found 1920 and 128"},
    {"compressed-tensors", Q ".weight_shape", Q ".weight_g_idx", .expected = "tensor " Q ".weight_g_idx: expected none beside " Q ".weight_packed, found one"},
    {"compressed-tensors", .find = "\"input_activations\": null", .replace = "\"input_activations\": {}", .expected = "config.json: input_activations: expected null, found an object"},
    {"gptq", Q ".qzeros", "", .expected = "tensor " Q ".qzeros is missing, but " Q ".qweight is there"},
    {"gptq", Q ".qweight", .rows = -1, .expected = "expected 128 outputs of 128 inputs in bits that config.json names and gptq has, found [15, 128]"},
    {"gptq", Q ".scales", .rows = -4, .expected = Q ".qweight: expected 128 inputs in whole groups, found 0 groups"},
    {"gptq", Q ".scales", .rows = -1, .expected = Q ".qzeros: expected [3, 16], found [4, 16]"},
    {"gptq", Q ".g_idx", .rows = 1, .expected = Q ".g_idx: expected [128], found [129]"},
    {"gptq", Q ".g_idx", .at = 8, .byte = 4, .expected = Q ".g_idx: element 2: expected a group below 4, found 4"},
    {"gptq", Q ".g_idx", .at = 11, .byte = 255, .expected = Q ".g_idx: element 2: expected a group below 4, found -16777216"},
    {"gptq", .find = "gptq_v2", .replace = "gptq_v9", .expected = "quantization_config.checkpoint_format: expected \"gptq\", \"gptq_v2\" or \"gptq_p\", found \"gptq_v9\""},
    {"gptq", .find = "\"quant_method\": \"gptq\"", .replace = "\"quant_method\": \"awq\"", .expected = "found \"awq\": this checkpoint is quantized already; give the checkpoint in F16, BF16 or F32 that it was made from"},
};

static void refused(const edit *e) {
    gm_model other = {0};
    const char *dir = directory(e, "edited");
    gm_status s = STATUS(gm_layout_open(&arena, dir, &other));
    if (!s) {                   /* what is seen when the weight is read */
        const gm_tensor *w = gm_linear_tensor(&other, 0, GM_Q);
        s = STATUS(gm_tensor_check(w));
        gm_model_close(&other);
    }
    CHECK(s == GM_EINPUT && strstr(err.text, e->expected), "%s, %s: %d, %s\n"
          "expected %s", e->layout, e->tensor ? e->tensor : e->find, s,
          s ? err.text : "taken", e->expected);
}

/* A zero of 0 where zeros are stored less one. */
static void no_zero(void) {
    gm_model other;
    const char *dir = directory(&(edit){"gptq", Q ".qzeros", .byte = 0xFF,
                                        .find = "gptq_v2", .replace = "gptq"},
                                "zero");
    gm_status s = STATUS(gm_layout_open(&arena, dir, &other));
    CHECK(s == GM_OK, "%s", err.text);
    if (s) return;
    s = STATUS(gm_tensor_check(gm_linear_tensor(&other, 0, GM_Q)));
    CHECK(s == GM_EINPUT && strstr(err.text, Q ".qzeros: expected zeros of 1 "
          "to 15, found 0, which checkpoint_format gptq cannot hold, in"), "%s",
          err.text);
    gm_model_close(&other);
}

/* ---------------------------------------------------------------- candidates */

static void candidates(void) {
    gm_recipe recipe;
    gm_candidates c;
    const char *mixed = WORK "/mlx-written";
    gm_status s = STATUS(gm_external_open(&arena, &model, mixed, NULL, GROUP,
                                          &recipe));
    if (!s) s = STATUS(gm_candidates_open(&arena, &model, &recipe, NULL, WORK,
                                          NULL, &c));
    CHECK(s == GM_OK && recipe.count == 2, "%s", err.text);
    if (s) return;
    for (long m = 0; m < model.config.layers * GM_LINEARS; m++)
        for (int k = 0; k < 2; k++)
            CHECK(gm_allowed(&c, m, k) == (k == choice[m]), "module %ld, %d", m,
                  k);
    const int64_t bytes = recipe.external->bytes[choice[0]];
    CHECK(bytes == 128 * 16 * 4 + 2 * 128 * 4 * 4, "%lld bytes",
          (long long)bytes);
    gm_candidates_close(&c);
    /* a module kept as stored is no candidate */
    gm_layout t;
    s = STATUS(gm_layout_plan(&arena, "--format", "mlx", &own, choice, GM_F32,
                              false, &t));
    t.bits[0] = 0;
    if (!s) s = STATUS(gm_export_directory(&arena, &own, choice, &t,
                                           WORK "/kept", NULL));
    CHECK(s == GM_OK, "%s", err.text);
    s = STATUS(gm_external_open(&arena, &model, WORK "/kept", NULL, GROUP,
                                &recipe));
    CHECK(s == GM_EINPUT && strstr(err.text, "module " Q ": expected at least "
          "one tensor " Q ".bK, found none"), "%s", err.text);
    s = STATUS(gm_external_open(&arena, &model, WORK "/mlx-written," WORK
                                "/gptq-written", NULL, GROUP, &recipe));
    CHECK(s == GM_EUSAGE && strstr(err.text, "expected names for directories "
          "that have the same bits"), "%s", err.text);
    s = STATUS(gm_external_open(&arena, &model, "a=" WORK "/mlx-written,b=" WORK
                                "/gptq-written", NULL, GROUP, &recipe));
    CHECK(s == GM_OK && recipe.count == 4, "%s", err.text);
    for (int k = 0; k < recipe.count && !s; k++)
        CHECK_TEXT(recipe.label[k], ((const char *[]){"a_4", "b_4", "a_8",
                                                      "b_8"})[k]);
    s = STATUS(gm_external_open(&arena, &model, WORK "/mlx-written,data/"
                                "tiny-llama", NULL, GROUP, &recipe));
    CHECK(s == GM_EINPUT, "taken");
    CHECK_TEXT(err.text, "data/tiny-llama: expected a quantized model as mlx, "
               "compressed-tensors or gptq store it, found another");
}

/* ------------------------------------------------------- written once more */

/* The same tensors, to the byte, and config.json. */
static void same_directory(const char *dir, const char *expected) {
    gm_tensors all[2];
    const char *text[2];
    for (int i = 0; i < 2; i++) {
        const char *of = i ? expected : dir;
        must(STATUS(gm_safetensors_open(&arena, gm_format(
            &arena, "%s/model.safetensors", of), all + i)));
        text[i] = gm_file_text(&arena, gm_format(&arena, "%s/config.json", of),
                               NULL);
    }
    CHECK_TEXT(text[0], text[1]);
    CHECK(all[0].count == all[1].count, "%ld tensors", all[0].count);
    for (long i = 0; i < all[0].count && i < all[1].count; i++) {
        const gm_tensor *t = all[0].tensor + i, *u = all[1].tensor + i;
        uint8_t *x = gm_alloc(&arena, t->bytes, 1);
        uint8_t *y = gm_alloc(&arena, u->bytes, 1);
        CHECK_TEXT(t->name, u->name);
        CHECK_TEXT(gm_shape_of(t).text, gm_shape_of(u).text);
        CHECK_TEXT(gm_type_of(t), gm_type_of(u));
        gm_tensor_bytes(t, 0, t->bytes, x);
        gm_tensor_bytes(u, 0, u->bytes, y);
        CHECK(t->bytes == u->bytes && memcmp(x, y, t->bytes) == 0, "%s in %s",
              t->name, dir);
    }
    gm_tensors_close(all);
    gm_tensors_close(all + 1);
}

static const char *write_layout(const gm_candidates *c, const char *layout,
                                const int *which, const char *name) {
    gm_layout t;
    const char *dir = gm_format(&arena, WORK "/%s-%s-written", layout, name);
    must(STATUS(gm_layout_plan(&arena, "--format", layout, c, which, GM_OTHER,
                               false, &t)));
    must(STATUS(gm_export_directory(&arena, c, which, &t, dir, NULL)));
    return dir;
}

/* Directories of either width of c, mixed; first: that of the fewer bits, or
   NULL. */
static void mixed_again(const gm_candidates *c, const char *layout,
                        const char *first) {
    static int all[2][64];
    gm_recipe recipe;
    gm_candidates others;
    gm_layout t;
    for (int m = 0; m < 64; m++) all[1][m] = 1;
    const char *few = write_layout(c, layout, all[0], "few");
    const char *many = write_layout(c, layout, all[1], "many");
    const char *once = write_layout(c, layout, choice, "once");
    const char *again = gm_format(&arena, WORK "/%s-again", layout);
    int64_t promised, bytes = 0;
    must(STATUS(gm_external_open(&arena, &model, gm_format(
        &arena, "%s,%s", first ? first : few, many), NULL, GROUP, &recipe)));
    must(STATUS(gm_candidates_open(&arena, &model, &recipe, NULL, WORK, NULL,
                                   &others)));
    gm_status s = STATUS(gm_layout_plan(&arena, "--format", layout, &others,
                                        choice, GM_OTHER, false, &t));
    if (!s) s = STATUS(bytes = gm_export_directory(&arena, &others, choice, &t,
                                                   again, NULL));
    CHECK(s == GM_OK, "%s", err.text);
    promised = recipe.external->overhead;
    for (long m = 0; m < t.M; m++)
        promised += recipe.external->bytes[2 * m + choice[m]];
    CHECK(bytes == promised, "%s: %lld bytes promised, %lld written", layout,
          (long long)promised, (long long)bytes);
    if (!s) same_directory(again, once);
    /* in another layout, or with another type */
    const char *other = strcmp(layout, "mlx") ? "mlx" : "gptq";
    s = STATUS(gm_layout_plan(&arena, "--format", other, &others, choice,
                              GM_OTHER, false, &t));
    CHECK(s == GM_EUSAGE && strstr(err.text, gm_format(
        &arena, "--format %s cannot hold module " Q ": expected codes of %s, "
        "found those of %s in " WORK "/", other, other, layout)), "%s",
        err.text);
    s = STATUS(gm_layout_plan(&arena, "--format", other, &others, choice,
                              GM_OTHER, true, &t));
    CHECK(s == GM_OK && t.bits[0] == 0, "--keep-odd");
    s = STATUS(gm_layout_plan(&arena, "--format", layout, &others, choice,
                              GM_BF16, false, &t));
    CHECK(s == GM_EUSAGE, "%d", s);
    CHECK_TEXT(err.text, "--scale-type: another tool's candidates keep theirs, "
               "found BF16");
    gm_candidates_close(&others);
}

static void written_again(void) {
    gm_recipe recipe;
    gm_candidates odd, even;
    must(STATUS(gm_recipe_parse("3,5", GROUP, &recipe)));
    must(STATUS(gm_candidates_open(&arena, &model, &recipe, NULL, WORK, NULL,
                                   &odd)));
    recipe.scales = GM_SYMMETRIC;
    must(STATUS(gm_candidates_open(&arena, &model, &recipe, NULL, WORK, NULL,
                                   &even)));
    mixed_again(&own, "mlx", NULL);
    mixed_again(&odd, "mlx", NULL);
    mixed_again(&odd, "compressed-tensors", NULL);
    mixed_again(&even, "compressed-tensors", NULL);     /* no zeros */
    mixed_again(&even, "gptq", NULL);
    mixed_again(&odd, "gptq", NULL);    /* 3 bits dense, with 5 in planes */
    mixed_again(&own, "gptq", NULL);
    /* zeros less one, 4 bits, beside gptq_v2 */
    mixed_again(&own, "gptq", directory(&(edit){
        "gptq-few", .change = less_one, .find = "gptq_v2", .replace = "gptq"},
        "few-v1"));
    gm_candidates_close(&odd);
    gm_candidates_close(&even);
}

static int test_main(void) {
    gm_recipe recipe;
    static const char *const layouts[] = {"mlx", "compressed-tensors", "gptq"};
    must(STATUS(gm_make_dir(WORK)));
    must(STATUS(gm_recipe_parse("4,8", GROUP, &recipe)));
    must(STATUS(gm_model_open(&arena, from, &model)));
    must(STATUS(gm_candidates_open(&arena, &model, &recipe, NULL, WORK, NULL,
                                   &own)));
    for (long m = 0; m < model.config.layers * GM_LINEARS; m++)
        choice[m] = (int)(m % 2);
    for (int i = 0; i < 3; i++) {
        gm_layout t;
        const char *dir = gm_format(&arena, WORK "/%s-written", layouts[i]);
        must(STATUS(gm_layout_plan(&arena, "--format", layouts[i], &own, choice,
                                   i ? GM_OTHER : GM_F32, false, &t)));
        must(STATUS(gm_export_directory(&arena, &own, choice, &t, dir, NULL)));
        same_model(dir);
    }
    same_model(directory(&(edit){"gptq", .change = less_one, .find = "gptq_v2",
                                 .replace = "gptq"}, "v1"));
    same_model(directory(&(edit){"gptq", .change = turn_round}, "act-order"));
    quantized_embedding();
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++)
        refused(edits + i);
    no_zero();
    candidates();
    written_again();
    gm_candidates_close(&own);
    gm_model_close(&model);
    gm_arena_free(&arena);
    return test_end("test_readback");
}

TEST_MAIN(test_main())
