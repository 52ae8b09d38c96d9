/* layout.c: a model of one block in another runtime's layout.  The bytes are the
   object "quantization_config" and, behind a NUL, a line for each tensor of its
   linears, head and embedding: NAME TYPE D0,D1 FILL, of which every byte is
   FILL.  Accepted: every made weight is finite or refused when it is read, with
   1 to 8 bits, and the model's hash can be taken.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

enum { MOST = 1 << 16 };

static const char config_text[] =
    "{\"model_type\": \"llama\", \"num_hidden_layers\": 1, \"hidden_size\": 64,"
    "\"intermediate_size\": 64, \"num_attention_heads\": 2, \"vocab_size\": 64,"
    "\"num_key_value_heads\": 2, \"quantization_config\": ";

/* One tensor more in header and data; false: it does not fit. */
static bool add(char *header, size_t *n, uint8_t *data, size_t *bytes,
                const char *name, const char *type, long rows, long columns,
                int fill) {
    const size_t each = strchr(type, '3') ? 4 : strchr(type, '6') &&
                        !strchr(type, '4') ? 2 : strchr(type, '4') ? 8 : 1;
    char shape[64] = "";
    if (rows < 0 || columns < 0 || rows > 4096 || columns > 4096) return false;
    const size_t size = each * (size_t)rows * (size_t)(columns ? columns : 1);
    if (*bytes + size > MOST || *n + 512 > MOST) return false;
    if (columns) snprintf(shape, sizeof shape, "%ld,%ld", rows, columns);
    else snprintf(shape, sizeof shape, "%ld", rows);
    *n += (size_t)sprintf(header + *n, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":"
                          "[%s],\"data_offsets\":[%zu,%zu]}", *n > 9 ? "," : "",
                          name, type, shape, *bytes, *bytes + size);
    memset(data + *bytes, fill, size);
    *bytes += size;
    return true;
}

static void read_all(const gm_model *model) {
    char hex[65];
    for (long i = 0; i < model->tensors.count; i++) {
        const gm_tensor *t = model->tensors.tensor + i;
        if (!t->made) continue;
        FUZZ_CHECK(t->made->bits >= 1 && t->made->bits <= 8);
        FUZZ_CHECK(t->made->stored > 0);
        STATUS(gm_tensor_check(t));
    }
    STATUS(gm_tensors_hash(&model->tensors, hex));
}

void fuzz_layout(const uint8_t *data, size_t size) {
    static char config[MOST + sizeof config_text + 2], header[2 * MOST];
    static uint8_t bytes[MOST], file[3 * MOST];
    const uint8_t *stop = size ? memchr(data, 0, size) : NULL;
    const size_t first = stop ? (size_t)(stop - data) : size;
    size_t n = 9, total = 0;
    if (size >= MOST) return;
    strcpy(header, "        {");
    snprintf(config, sizeof config, "%s%.*s}", config_text, (int)first,
             (const char *)data);
    const char *const norms[] = {"model.norm.weight",
                                 "model.layers.0.input_layernorm.weight",
                                 ("model.layers.0.post_attention_layernorm."
                                  "weight")};
    for (int i = 0; i < 3; i++)
        add(header, &n, bytes, &total, norms[i], "F32", 64, 0, 0);
    char *lines = strndup(stop ? (const char *)stop + 1 : "",
                          stop ? size - first - 1 : 0), *list = lines;
    for (char *line; (line = strsep(&list, "\n"));) {
        char name[100], type[5];
        long rows, columns = 0, fill = 0;
        if (sscanf(line, "%99[a-z0-9_.] %4[A-Z0-9] %ld,%ld %ld", name, type,
                   &rows, &columns, &fill) >= 3)
            add(header, &n, bytes, &total, name, type, rows, columns,
                (int)fill);
    }
    free(lines);
    header[n++] = '}';
    for (int i = 0; i < 8; i++) header[i] = (char)((n - 8) >> 8 * i);
    memcpy(file, header, n);
    memcpy(file + n, bytes, total);
    gm_arena arena = {0};
    gm_model model = {0};
    fuzz_begin();
    fuzz_file("/fuzz/config.json", config, strlen(config));
    fuzz_file("/fuzz/model.safetensors", file, n + total);
    gm_status s = STATUS(gm_layout_open(&arena, "/fuzz", &model));
    FUZZ_CHECK(s == GM_OK || s == GM_EINPUT || s == GM_EIO);
    if (s == GM_OK) read_all(&model), gm_model_close(&model);
    fuzz_end(256, 1 << 20);
    gm_arena_free(&arena);
}
