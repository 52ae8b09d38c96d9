/* checkpoint.c: a Hugging Face directory as a model: config.json, and the
   tensors of the checkpoint, each checked for presence and shape before any is
   used.  Follows the definitions of the `transformers` library.  Uses io.c for
   files and touches nothing but what it is handed.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------- config.json */

/* An object of config.json being read. */
struct fields {
    const char *path, *prefix;          /* ".../config.json", "rope_scaling." */
    const gm_json *object;              /* may be NULL: nothing given */
};

/* A member that is there and not null, else NULL. */
static const gm_json *field(const struct fields *f, const char *key) {
    const gm_json *v = f->object ? gm_json_get(f->object, key) : NULL;
    return v && v->type != GM_JSON_NULL ? v : NULL;
}

_Noreturn static void refuse(const struct fields *f, const char *key, const char *expected,
                   const gm_json *v) {
    static const char *const name[] = {
        [GM_JSON_NULL] = "nothing", [GM_JSON_BOOL] = "false",
        [GM_JSON_ARRAY] = "a list", [GM_JSON_OBJECT] = "an object"
    };
    gm_json_type type = v ? v->type : GM_JSON_NULL;
    char found[80];
    if (type == GM_JSON_NUMBER)
        snprintf(found, sizeof found, "%.10g", v->number);
    else if (type == GM_JSON_STRING)
        snprintf(found, sizeof found, "\"%.60s\"", v->string);
    else
        snprintf(found, sizeof found, "%s",
                 type == GM_JSON_BOOL && v->number != 0 ? "true" : name[type]);
    gm_fail(GM_EINPUT, "%s: %s%s: expected %s, found %s", f->path, f->prefix,
            key, expected, found);
}

/* An integer in 1..most. */
static long read_long(const struct fields *f, const char *key, long fallback,
                      long most) {
    const gm_json *v = field(f, key);
    char expected[80];
    if (!v) return fallback;
    if (v->type == GM_JSON_NUMBER && v->is_integer && v->integer >= 1 &&
        v->integer <= most)
        return (long)v->integer;
    snprintf(expected, sizeof expected, "an integer in 1..%ld", most);
    refuse(f, key, expected, v);
}

/* A number in least..most; fallback NAN: it must be there. */
static double read_double(const struct fields *f, const char *key, double fallback,
                          double least, double most) {
    const gm_json *v = field(f, key);
    char expected[80];
    if (!v && !isnan(fallback)) return fallback;
    if (v && v->type == GM_JSON_NUMBER && v->number >= least &&
        v->number <= most)
        return v->number;
    snprintf(expected, sizeof expected, "a number in %g..%g", least, most);
    refuse(f, key, expected, v);
}

static bool read_bool(const struct fields *f, const char *key, bool fallback) {
    const gm_json *v = field(f, key);
    if (v && v->type != GM_JSON_BOOL) refuse(f, key, "true or false", v);
    return v ? v->number != 0 : fallback;
}

/* The string must be one of name[0..count-1]; which one.  Absent: 0. */
static int read_choice(const struct fields *f, const char *key, const gm_json *v,
                       const char *const *name, int count,
                       const char *expected) {
    if (!v) return 0;
    for (int i = 0; i < count; i++)
        if (v->type == GM_JSON_STRING && strcmp(v->string, name[i]) == 0)
            return i;
    refuse(f, key, expected, v);
}

/* What transformers takes for a field that is not given (0: derived). */
static const struct {
    const char *class_name;
    long layers, d, ff, heads, kv_heads, head_dim, vocab, max_position;
} defaults[] = {
    [GM_LLAMA] = {"LlamaForCausalLM",
                  32, 4096, 11008, 32, 0, 0, 32000, 2048},
    [GM_QWEN2] = {"Qwen2ForCausalLM",
                  32, 4096, 22016, 32, 32, 0, 151936, 32768},
    [GM_QWEN3] = {"Qwen3ForCausalLM",
                  32, 4096, 22016, 32, 32, 128, 151936, 32768},
};

static void config_arch(const struct fields *f, gm_config *c) {
    static const char *const type[] = {"llama", "qwen2", "qwen3"};
    static const char *const silu[] = {"silu"};
    const gm_json *v = field(f, "model_type");
    if (!v) refuse(f, "model_type", "\"llama\", \"qwen2\" or \"qwen3\"", v);
    c->arch = (gm_arch)read_choice(f, "model_type", v, type, 3,
                                   "\"llama\", \"qwen2\" or \"qwen3\"");
    const char *name = defaults[c->arch].class_name;
    char expected[40];
    snprintf(expected, sizeof expected, "\"%s\"", name);
    v = field(f, "architectures");
    if (v && (v->type != GM_JSON_ARRAY || !v->child))
        refuse(f, "architectures", "a list of one class name", v);
    else if (v)
        read_choice(f, "architectures", v->child, &name, 1, expected);
    read_choice(f, "hidden_act", field(f, "hidden_act"), silu, 1, "\"silu\"");
}

static void config_sizes(const struct fields *f, gm_config *c) {
    const gm_json *given =
        f->object ? gm_json_get(f->object, "num_key_value_heads") : NULL;
    long kv_heads = given ? 0 : defaults[c->arch].kv_heads;
    c->layers = read_long(f, "num_hidden_layers", defaults[c->arch].layers,
                          10000);
    c->d = read_long(f, "hidden_size", defaults[c->arch].d, 1 << 20);
    c->ff = read_long(f, "intermediate_size", defaults[c->arch].ff, 1 << 22);
    c->heads = read_long(f, "num_attention_heads", defaults[c->arch].heads,
                         1 << 14);
    c->kv_heads = read_long(f, "num_key_value_heads",   /* null: as heads */
                            kv_heads ? kv_heads : c->heads, c->heads);
    c->head_dim = read_long(f, "head_dim", defaults[c->arch].head_dim,
                            1 << 14);
    c->vocab = read_long(f, "vocab_size", defaults[c->arch].vocab, 1 << 28);
    c->max_position = read_long(f, "max_position_embeddings",
                                defaults[c->arch].max_position, 1L << 30);
    c->norm_eps = read_double(f, "rms_norm_eps", 1e-6, 0, 1);
    if (c->d % c->heads && !c->head_dim)
        refuse(f, "hidden_size", "a multiple of num_attention_heads",
               field(f, "hidden_size"));
    if (c->heads % c->kv_heads)
        refuse(f, "num_key_value_heads", "a divisor of num_attention_heads",
               field(f, "num_key_value_heads"));
    if (!c->head_dim) c->head_dim = c->d / c->heads;
    if (c->head_dim % 2)
        refuse(f, "head_dim", "an even number", field(f, "head_dim"));
}

/* Which biases and norms a block has.  Qwen2's are fixed by its class: an
   attention_bias that says otherwise is a different model. */
static void config_parts(const struct fields *f, gm_config *c) {
    bool bias = read_bool(f, "attention_bias", c->arch == GM_QWEN2);
    if (c->arch == GM_QWEN2 && !bias)
        refuse(f, "attention_bias", "true (qwen2)", field(f,
               "attention_bias"));
    c->tied = read_bool(f, "tie_word_embeddings", false);
    c->qkv_bias = bias;
    c->o_bias = bias && c->arch != GM_QWEN2;
    c->mlp_bias = read_bool(f, "mlp_bias", false);
    if (c->mlp_bias && c->arch != GM_LLAMA)
        refuse(f, "mlp_bias", "false (not llama)", field(f, "mlp_bias"));
    c->qk_norm = c->arch == GM_QWEN3;
}

/* Would some layer attend to a window only?  Qwen: the layers from
   max_window_layers (28) on, when use_sliding_window is true and
   sliding_window (4096) is not null.  Llama knows no windows: one that is
   given means another model. */
static void config_window(const struct fields *f, const gm_config *c) {
    const gm_json *window = field(f, "sliding_window");
    const gm_json *use = field(f, "use_sliding_window");
    bool null = !window && gm_json_get(f->object, "sliding_window");
    bool used = read_bool(f, "use_sliding_window", c->arch == GM_LLAMA);
    if (c->arch == GM_LLAMA && used && window)
        refuse(f, "sliding_window", "null", window);
    if (c->arch != GM_LLAMA && used && !null &&
        c->layers > read_long(f, "max_window_layers", 28, 10000))
        refuse(f, "use_sliding_window", "false", use);
}

/* layer_types, when given, overrides those fields. */
static void config_layers(const struct fields *f, const gm_config *c) {
    static const char *const full[] = {"full_attention"};
    const gm_json *types = field(f, "layer_types");
    char text[80];
    long i = 0;
    if (!types) {
        config_window(f, c);
        return;
    }
    if (types->type != GM_JSON_ARRAY || types->length != (size_t)c->layers) {
        snprintf(text, sizeof text, "a list of %ld names", c->layers);
        refuse(f, "layer_types", text, types);
    }
    for (const gm_json *v = types->child; v; v = v->next) {
        snprintf(text, sizeof text, "layer_types[%ld]", i++);
        read_choice(f, text, v, full, 1, "\"full_attention\"");
    }
}

/* Fields of models that differ from the three in ways we do not compute. */
static void config_refused(const struct fields *f) {
    static const char *const key[] = {
        "quantization_config", "num_experts", "num_local_experts",
        "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"
    };
    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        const gm_json *v = field(f, key[i]);
        if (v && (v->type == GM_JSON_OBJECT || v->number != 0))
            refuse(f, key[i], i == 0 ? "none (unquantized weights)"
                                     : "none (no experts)", v);
    }
}

/* YaRN's factor on cos and sin (Peng et al. 2023, section 3.4):
   m(s) = 0.1 s ln factor + 1; m(1), or m(mscale)/m(mscale_all_dim). */
static double yarn_attention(const struct fields *f, double factor) {
    double given = read_double(f, "attention_factor", -1, 0, 1e6);
    double mscale = read_double(f, "mscale", 0, 0, 1e6);
    double all_dim = read_double(f, "mscale_all_dim", 0, 0, 1e6);
    double slope = 0.1 * gm_logd(factor);
    if (given >= 0) return given;
    if (mscale > 0 && all_dim > 0)
        return (slope * mscale + 1) / (slope * all_dim + 1);
    return slope + 1;
}

/* The parameters of one rope type; f reads rope_parameters. */
static void config_rope_kind(const struct fields *f, const gm_config *c,
                             gm_rope *r) {
    if (r->kind == GM_ROPE_DEFAULT) return;
    r->factor = read_double(f, "factor", NAN, 1, 1e6);
    r->original_max_position = read_long(
        f, "original_max_position_embeddings", c->max_position, 1L << 30);
    if (r->kind == GM_ROPE_LLAMA3) {
        r->low_freq_factor = read_double(f, "low_freq_factor", NAN,
                                         1e-6, 1e6);
        r->high_freq_factor = read_double(f, "high_freq_factor", NAN,
                                          1e-6, 1e6);
        if (r->high_freq_factor <= r->low_freq_factor)
            refuse(f, "high_freq_factor", "more than low_freq_factor",
                   field(f, "high_freq_factor"));
    }
    if (r->kind == GM_ROPE_YARN) {
        r->beta_fast = read_double(f, "beta_fast", 32, 0, 1e6);
        r->beta_slow = read_double(f, "beta_slow", 1, 0, 1e6);
        if (r->beta_fast <= 0) r->beta_fast = 32;   /* 0 means the default */
        if (r->beta_slow <= 0) r->beta_slow = 1;
        r->truncate = read_bool(f, "truncate", true);
        r->attention_factor = yarn_attention(f, r->factor);
    }
}

/* Two spellings: rope_scaling with rope_theta beside it, its type under
   rope_type or type, and the newer rope_parameters with everything inside.
   A rope_scaling that is there and not empty wins. */
static void config_rope(const struct fields *f, gm_config *c) {
    static const char *const kind[] = {"default", "linear", "llama3", "yarn"};
    const gm_json *scaling = field(f, "rope_scaling");
    bool old = scaling && !(scaling->type == GM_JSON_OBJECT &&
                            !scaling->child);
    const char *name = old ? "rope_scaling" : "rope_parameters";
    const gm_json *given = old ? scaling : field(f, name);
    struct fields r = {f->path, old ? "rope_scaling." : "rope_parameters.",
                       given};
    if (given && given->type != GM_JSON_OBJECT)
        refuse(f, name, "an object", given);
    for (const gm_json *v = given ? given->child : NULL; v; v = v->next)
        if (v->type == GM_JSON_OBJECT)
            refuse(&r, v->key, "one set of parameters for all layers", v);
    const char *key = field(&r, "rope_type") ? "rope_type" : "type";
    c->rope = (gm_rope){.factor = 1, .attention_factor = 1};
    c->rope.kind = (gm_rope_kind)read_choice(
        &r, key, field(&r, key), kind, 4,
        "\"default\", \"linear\", \"llama3\" or \"yarn\"");
    c->rope.theta = read_double(f, "rope_theta", 10000, 1.0001, 1e12);
    c->rope.theta = read_double(&r, "rope_theta", c->rope.theta, 1.0001,
                                1e12);
    read_double(f, "partial_rotary_factor", 1, 1, 1);
    read_double(&r, "partial_rotary_factor", 1, 1, 1);
    config_rope_kind(&r, c, &c->rope);
    /* transformers reads this one in two places that can disagree */
    if (c->rope.kind >= GM_ROPE_LLAMA3 &&
        field(f, "original_max_position_embeddings"))
        refuse(f, "original_max_position_embeddings",
               "it inside the rope parameters only",
               field(f, "original_max_position_embeddings"));
}

void gm_config_read(gm_arena *arena, const char *dir, gm_config *out) {
    const char *path = gm_format(arena, "%s/config.json", dir);
    const gm_json *root = gm_json_read(arena, path);
    if (root->type != GM_JSON_OBJECT)
        gm_fail(GM_EINPUT, "%s: expected an object", path);
    struct fields f = {path, "", root};
    *out = (gm_config){0};
    config_arch(&f, out);
    config_refused(&f);
    config_sizes(&f, out);
    config_parts(&f, out);
    config_layers(&f, out);
    config_rope(&f, out);
}

/* -------------------------------------------------- tensors of a checkpoint */

static const char embedding_name[] = "model.embed_tokens.weight";
static const char final_norm_name[] = "model.norm.weight";
static const char head_name[] = "lm_head.weight";
static const char *const linear_name[GM_LINEARS] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
    "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"
};

void gm_linear_shape(const gm_config *c, int j, long *out, long *in) {
    long q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const long shape[GM_LINEARS][2] = {
        {q, c->d}, {kv, c->d}, {kv, c->d}, {c->d, q},
        {c->ff, c->d}, {c->ff, c->d}, {c->d, c->ff}
    };
    *out = shape[j][0], *in = shape[j][1];
}

long gm_tallest(const gm_config *c) {
    long most = 0;
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        if (out > most) most = out;
    }
    return most;
}

/* The tensors of a block: seven weights, seven biases, four norms. */
enum { NORMS = 2 * GM_LINEARS, PARTS = NORMS + 4, NAME = 80 };
static const char *const norm_name[PARTS - NORMS] = {
    "input_layernorm", "post_attention_layernorm",
    "self_attn.q_norm", "self_attn.k_norm"
};

/* One of them: [rows, columns] of a weight, [rows] otherwise (columns 1); its
   place in gm_block; whether a model of this configuration has it. */
struct part { long rows, columns; bool weight, wanted; gm_real **place; };

static struct part block_part(const gm_config *c, gm_block *b, int i) {
    gm_real **norm[] = {&b->norm1, &b->norm2, &b->q_norm, &b->k_norm};
    long out, in;
    if (i >= NORMS)
        return (struct part){i < NORMS + 2 ? c->d : c->head_dim, 1, false,
                             i < NORMS + 2 || c->qk_norm, norm[i - NORMS]};
    int j = i % GM_LINEARS;
    bool bias = j <= GM_V ? c->qkv_bias : j == GM_O ? c->o_bias : c->mlp_bias;
    gm_linear_shape(c, j, &out, &in);
    return i == j ? (struct part){out, in, true, true, &b->w[j]}
                  : (struct part){out, 1, false, bias, &b->bias[j]};
}

/* "model.layers.3.mlp.up_proj.weight" */
static const gm_tensor *part_tensor(const gm_model *model, long layer, int i,
                                    char name[NAME]) {
    snprintf(name, NAME, "model.layers.%ld.%s.%s", layer,
             i < NORMS ? linear_name[i % GM_LINEARS] : norm_name[i - NORMS],
             i < GM_LINEARS || i >= NORMS ? "weight" : "bias");
    return gm_tensor_find(&model->tensors, name);
}

/* `name` must be there, as floats of shape [rows, columns], or [rows] of what
   is no weight. */
static void check_tensor(const gm_model *model, const char *name,
                              const struct part *p) {
    const gm_tensor *t = gm_tensor_find(&model->tensors, name);
    char expected[64], found[200] = "";
    if (!t)
        gm_fail(GM_EINPUT, "%s: tensor %s is missing",
                       model->dir, name);
    if (t->dtype != GM_F32 && t->dtype != GM_F16 && t->dtype != GM_BF16)
        gm_fail(GM_EINPUT, "%s: expected F32, F16 or BF16, "
                       "found %s in %s", name, gm_dtype_name(t->dtype),
                       t->path);
    if (t->rank == 1 + p->weight && t->shape[0] == p->rows &&
        (!p->weight || t->shape[1] == p->columns))
        return;
    for (int i = 0; i < t->rank; i++) {
        size_t n = strlen(found);
        snprintf(found + n, sizeof found - n, "%s%lld", i ? ", " : "",
                 (long long)t->shape[i]);
    }
    snprintf(expected, sizeof expected, p->weight ? "%ld, %ld" : "%ld",
             p->rows, p->columns);
    gm_fail(GM_EINPUT, "%s: expected [%s], found [%s] in %s",
                   name, expected, found, t->path);
}

/* Every part of block `layer` that the configuration has is there, and none
   that it has not: a bias we would leave out is a different model. */
static void check_block(const gm_model *model, long layer) {
    gm_block none = {0};
    char name[NAME];
    for (int i = 0; i < PARTS; i++) {
        struct part p = block_part(&model->config, &none, i);
        bool there = part_tensor(model, layer, i, name) != NULL;
        if (there && !p.wanted)
            gm_fail(GM_EINPUT, "%s: tensor %s is there, but not "
                           "in the model that config.json describes",
                           model->dir, name);
        if (p.wanted) check_tensor(model, name, &p);
    }
}

/* A tied head is the embedding.  Some checkpoints store it twice; two that
   differ contradict config.json. */
static void check_tied(const gm_model *model) {
    const gm_tensor *e = gm_tensor_find(&model->tensors, embedding_name);
    const gm_tensor *w = gm_tensor_find(&model->tensors, head_name);
    uint8_t a[1 << 14], b[sizeof a];
    bool same = !w || (w->dtype == e->dtype && w->bytes == e->bytes);
    for (size_t at = 0; w && same && at < w->bytes; at += sizeof a) {
        size_t n = w->bytes - at < sizeof a ? w->bytes - at : sizeof a;
        gm_tensor_bytes(w, (int64_t)at, n, a);
        gm_tensor_bytes(e, (int64_t)at, n, b);
        same = memcmp(a, b, n) == 0;
    }
    if (!same)
        gm_fail(GM_EINPUT, "%s: tensor %s differs from %s, but "
                       "config.json says tie_word_embeddings true",
                       model->dir, head_name, embedding_name);
}

static void check_model(const gm_model *model) {
    const gm_config *c = &model->config;
    const struct part table = {c->vocab, c->d, true, true, NULL};
    const struct part norm = {c->d, 1, false, true, NULL};
    char name[NAME];
    check_tensor(model, embedding_name, &table);
    check_tensor(model, final_norm_name, &norm);
    if (c->tied) check_tied(model);
    else check_tensor(model, head_name, &table);
    for (long l = 0; l < c->layers; l++)
        check_block(model, l);
    if (part_tensor(model, c->layers, 0, name))
        gm_fail(GM_EINPUT, "%s: tensor %s is there, but "
                       "config.json says num_hidden_layers %ld", model->dir,
                       name, c->layers);
}

void gm_model_open(gm_arena *arena, const char *dir, gm_model *out) {
    *out = (gm_model){.dir = gm_format(arena, "%s", dir)};
    gm_config_read(arena, dir, &out->config);
    gm_checkpoint_open(arena, dir, &out->tensors);
    check_model(out);
}

void gm_model_hash(gm_model *model) {
    if (!(model->hash[0])) gm_tensors_hash(&model->tensors, model->hash);
}

void gm_model_close(gm_model *model) {
    gm_tensors_close(&model->tensors);
}

void gm_linear_name(gm_arena *arena, long layer, int j,
                         const char **name) {
    *name = gm_format(arena, "model.layers.%ld.%s", layer, linear_name[j]);
}

const gm_tensor *gm_linear_tensor(const gm_model *model, long layer, int j) {
    char name[NAME];
    return part_tensor(model, layer, j, name);
}

void gm_block_alloc(gm_arena *arena, const gm_config *config,
                         gm_block *out) {
    *out = (gm_block){0};
    for (int i = 0; i < PARTS; i++) {
        struct part p = block_part(config, out, i);
        if (!p.wanted) continue;
        *p.place = gm_alloc(arena, (size_t)p.rows,
                            (size_t)p.columns * sizeof(gm_real));
    }
}

void gm_grad_alloc(gm_arena *arena, const gm_config *config,
                        gm_block *out) {
    gm_block_alloc(arena, config, out);
    memset(out->bias, 0, sizeof out->bias);
    out->norm1 = out->norm2 = out->q_norm = out->k_norm = NULL;
}

void gm_block_load(const gm_model *model, long layer, gm_block *out) {
    char name[NAME];
    for (int i = 0; i < PARTS; i++) {
        struct part p = block_part(&model->config, out, i);
        if (!p.wanted) continue;
        const gm_tensor *t = part_tensor(model, layer, i, name);
        gm_tensor_read(t, 0, p.rows * p.columns, *p.place);
    }
}


void gm_embed(const gm_model *model, const int32_t *tokens, long count,
                   gm_real *h) {
    const gm_tensor *e = gm_tensor_find(&model->tensors, embedding_name);
    const long d = model->config.d;
    for (long r = 0; r < count; r++) {
        if (tokens[r] < 0 || tokens[r] >= model->config.vocab)
            gm_fail(GM_EINPUT, "token %ld is %d, expected "
                           "0..%ld", r, tokens[r], model->config.vocab - 1);
        gm_tensor_read(e, tokens[r] * d, d, h + r * d);
    }
}

void gm_states_check(const gm_model *model, long layer, const char *what,
                          const gm_real *x, long rows, long columns) {
    for (long r = 0; r < rows; r++, x += columns) {
        int fine = 1;
        for (long i = 0; i < columns; i++) fine &= isfinite(x[i]) != 0;
        for (long i = 0; i < columns && !fine; i++)
            if (!isfinite(x[i]))
                gm_fail(GM_EINPUT, "%s: block %ld, %s: element "
                               "[%ld, %ld] is %s, expected a finite number",
                               model->dir, layer, what, r, i,
                               isnan(x[i]) ? "NaN" : "infinite");
    }
}

void gm_head_load(gm_arena *arena, const gm_model *model, gm_head *out) {
    const gm_config *c = &model->config;
    *out = (gm_head){
        gm_alloc(arena, (size_t)c->d, sizeof(gm_real)),
        gm_alloc(arena, (size_t)c->vocab, (size_t)c->d * sizeof(gm_real)),
        c->d, c->vocab, c->norm_eps
    };
    const gm_tensor *norm = gm_tensor_find(&model->tensors, final_norm_name);
    const gm_tensor *w = gm_tensor_find(&model->tensors,
                                        c->tied ? embedding_name : head_name);
    gm_tensor_read(norm, 0, c->d, out->norm);
    gm_tensor_read(w, 0, c->vocab * c->d, out->w);
}
