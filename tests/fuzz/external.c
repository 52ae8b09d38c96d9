/* external.c: another tool's candidates of a model of one block, all of its
   linears [8, 8].  The bytes are --bits ("-": not given) and, a line each,
   tensors, NAME or NAME ROWS,COLUMNS, and metadata, KEY=VALUE.  Accepted: at
   most 16 candidates in order, each label one and in the file, every module
   with one, bytes and labels through the text of the recipe and a table and
   back, and an order for learning that has each once.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

enum { MOST = 1 << 16 };

typedef struct {
    size_t n, total;
    char header[2 * MOST], file[4 * MOST];
} checkpoint;

/* One tensor more, F32, if it fits. */
static void add(checkpoint *c, const char *name, long rows, long columns) {
    const size_t size = 4 * (size_t)rows * (size_t)(columns ? columns : 1);
    char shape[64];
    if (rows < 0 || columns < 0 || rows > 64 || columns > 64 ||
        c->total + size > MOST || c->n + 512 > MOST) return;
    snprintf(shape, sizeof shape, columns ? "%ld,%ld" : "%ld", rows, columns);
    c->n += (size_t)sprintf(c->header + c->n, "%s\"%s\":{\"dtype\":\"F32\","
                            "\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                            c->n > 9 ? "," : "", name, shape, c->total,
                            c->total + size);
    c->total += size;
}

/* Closed, with its data, at /fuzz/NAME. */
static void finish(checkpoint *c, const char *name, int fill) {
    c->header[c->n++] = '}';
    for (int i = 0; i < 8; i++) c->header[i] = (char)((c->n - 8) >> 8 * i);
    memcpy(c->file, c->header, c->n);
    memset(c->file + c->n, fill, c->total);
    fuzz_file(name, c->file, c->n + c->total);
}

static void make_model(void) {
    static const char config[] =
        "{\"model_type\": \"llama\", \"num_hidden_layers\": 1, \"hidden_size\":"
        "8, \"intermediate_size\": 8, \"num_attention_heads\": 1, \"vocab_size"
        "\": 8, \"num_key_value_heads\": 1, \"tie_word_embeddings\": true}";
    static const char *const part[] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
        "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
        "input_layernorm", "post_attention_layernorm"};
    static checkpoint c;
    char name[100];
    c.n = 9, c.total = 0, memcpy(c.header, "        {", 9);
    add(&c, "model.embed_tokens.weight", 8, 8);
    add(&c, "model.norm.weight", 8, 0);
    for (int i = 0; i < 9; i++) {
        snprintf(name, sizeof name, "model.layers.0.%s.weight", part[i]);
        add(&c, name, 8, i < 7 ? 8 : 0);
    }
    fuzz_file("/fuzz/config.json", config, strlen(config));
    finish(&c, "/fuzz/model.safetensors", 61);
}

/* Whatever was accepted is whole. */
static void look(gm_arena *arena, gm_model *model, gm_recipe *r) {
    gm_candidates c = {.recipe = *r, .model = model,
                       .allowed = r->external->allowed}, ordered;
    char text[GM_RECIPE_TEXT];
    gm_recipe again;
    gm_scores table;
    FUZZ_CHECK(r->count >= 1 && r->count <= GM_MAX_CANDIDATES);
    gm_recipe_text(r, text);
    FUZZ_CHECK(STATUS(gm_recipe_read(text, &again)) == GM_OK);
    FUZZ_CHECK(again.count == r->count);
    FUZZ_CHECK(STATUS(gm_module_table(arena, model, r, &table)) == GM_OK);
    for (int k = 0; k < r->count; k++) {
        const char *label = r->label[k];
        FUZZ_CHECK(r->bits[k] >= 1 && r->bits[k] <= 32);
        FUZZ_CHECK(!*label || gm_is_label(label, strlen(label)));
        FUZZ_CHECK(strcmp(label, again.label[k]) == 0);
        FUZZ_CHECK(k == 0 || r->bits[k - 1] < r->bits[k] ||
                   (r->bits[k - 1] == r->bits[k] &&
                    strcmp(r->label[k - 1], label) < 0));
        FUZZ_CHECK(*table.label[k] != 0);
    }
    FUZZ_CHECK(STATUS(gm_external_order(arena, &c, &ordered)) == GM_OK);
    for (long m = 0; m < GM_LINEARS; m++) {
        int64_t sum = 0;
        int own = 0;
        for (int k = 0; k < r->count; k++) {
            const long i = m * r->count + k;
            own += gm_allowed(&c, m, k);
            FUZZ_CHECK(gm_allowed(&c, m, k) == (r->external->bytes[i] >= 0));
            FUZZ_CHECK(gm_allowed(&ordered, m, k) ==
                       (ordered.recipe.external->tensor[i] != NULL));
            sum += r->external->bytes[i] - ordered.recipe.external->bytes[i];
        }
        FUZZ_CHECK(own > 0 && sum == 0);
    }
}

void fuzz_external(const uint8_t *data, size_t size) {
    static checkpoint c;
    static char metadata[MOST];
    size_t n = 0;
    if (size >= MOST / 4) return;
    char *lines = strndup(size ? (const char *)data : "", size), *list = lines;
    char *bits = strsep(&list, "\n");
    gm_arena arena = {0};
    gm_model model = {0};
    gm_recipe recipe;
    c.n = 9, c.total = 0, memcpy(c.header, "        {", 9);
    fuzz_begin();
    make_model();
    for (char *line; (line = strsep(&list, "\n"));) {
        char name[100];
        long rows = 8, columns = 8;
        char *equal = strchr(line, '=');
        for (char *at = line; *at; at++)
            if (*at == '"' || *at == '\\' || (unsigned char)*at < 32) *at = '~';
        if (equal) {
            *equal++ = 0;
            n += (size_t)snprintf(metadata + n, sizeof metadata - n,
                                  "%s\"%s\":\"%s\"", n ? "," : "", line, equal);
        } else if (sscanf(line, "%99[A-Za-z0-9_.~-] %ld,%ld", name, &rows,
                          &columns) >= 1) {
            add(&c, name, rows, columns);
        }
    }
    if (n && c.n + n + 64 < MOST)
        c.n += (size_t)sprintf(c.header + c.n, "%s\"__metadata__\":{%s}",
                               c.n > 9 ? "," : "", metadata);
    finish(&c, "/fuzz/x.safetensors", 62);
    FUZZ_CHECK(STATUS(gm_model_open(&arena, "/fuzz", &model)) == GM_OK);
    const gm_status s = STATUS(gm_external_open(
        &arena, &model, "/fuzz/x.safetensors",
        strcmp(bits, "-") != 0 ? bits : NULL, 4, &recipe));
    FUZZ_CHECK(s == GM_OK || s == GM_EINPUT || s == GM_EUSAGE);
    if (s == GM_OK) {
        look(&arena, &model, &recipe);
        gm_tensors *t = &((gm_external *)(uintptr_t)recipe.external)->tensors;
        gm_tensors_close(t);
    }
    gm_model_close(&model);
    fuzz_end(256, 4 << 20);
    gm_arena_free(&arena);
    free(lines);
}
