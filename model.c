/* model.c: Llama, Qwen2 and Qwen3, forward and backward.

   In reading order: config.json; the tensors of a checkpoint; rotary angles;
   each operation with its backward pass right below it; the block as a list
   of those operations, forwards and backwards; embedding and head.  Follows
   the definition in the `transformers` library, which the golden vectors of
   tests/test_model.c come from.  Uses kernels.c for every heavy loop, io.c for
   files, and touches nothing but what it is handed.

   Letters: R = S T rows of activations, hd head_dim, Hq and Hkv query and
   key/value heads.  All matrices are row-major; a linear module maps
   x [R, in] to x W^T [R, out].
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <string.h>

/* ------------------------------------------------------------- config.json */

/* An object of config.json being read.  The first failure sticks: later reads
   give their defaults, and whoever reads asks `status` once, at the end. */
struct fields {
    const char *path, *prefix;          /* ".../config.json", "rope_scaling." */
    const gm_json *object;              /* may be NULL: nothing given */
    gm_status status;
    gm_error *err;
};

/* A member that is there and not null, else NULL. */
static const gm_json *field(const struct fields *f, const char *key) {
    const gm_json *v = f->object ? gm_json_get(f->object, key) : NULL;
    return v && v->type != GM_JSON_NULL ? v : NULL;
}

static void refuse(struct fields *f, const char *key, const char *expected,
                   const gm_json *v) {
    static const char *const name[] = {
        [GM_JSON_NULL] = "nothing", [GM_JSON_BOOL] = "false",
        [GM_JSON_ARRAY] = "a list", [GM_JSON_OBJECT] = "an object"
    };
    gm_json_type type = v ? v->type : GM_JSON_NULL;
    char found[80];
    if (f->status) return;
    if (type == GM_JSON_NUMBER)
        snprintf(found, sizeof found, "%.10g", v->number);
    else if (type == GM_JSON_STRING)
        snprintf(found, sizeof found, "\"%.60s\"", v->string);
    else
        snprintf(found, sizeof found, "%s",
                 type == GM_JSON_BOOL && v->number != 0 ? "true" : name[type]);
    f->status = gm_fail(f->err, GM_EINPUT, "%s: %s%s: expected %s, found %s",
                        f->path, f->prefix, key, expected, found);
}

/* An integer in 1..most. */
static long read_long(struct fields *f, const char *key, long fallback,
                      long most) {
    const gm_json *v = field(f, key);
    char expected[80];
    if (!v) return fallback;
    if (v->type == GM_JSON_NUMBER && v->is_integer && v->integer >= 1 &&
        v->integer <= most)
        return (long)v->integer;
    snprintf(expected, sizeof expected, "an integer in 1..%ld", most);
    refuse(f, key, expected, v);
    return fallback;
}

/* A number in least..most; fallback NAN: it must be there. */
static double read_double(struct fields *f, const char *key, double fallback,
                          double least, double most) {
    const gm_json *v = field(f, key);
    char expected[80];
    if (!v && !isnan(fallback)) return fallback;
    if (v && v->type == GM_JSON_NUMBER && v->number >= least &&
        v->number <= most)
        return v->number;
    snprintf(expected, sizeof expected, "a number in %g..%g", least, most);
    refuse(f, key, expected, v);
    return least;
}

static bool read_bool(struct fields *f, const char *key, bool fallback) {
    const gm_json *v = field(f, key);
    if (v && v->type != GM_JSON_BOOL) refuse(f, key, "true or false", v);
    return v ? v->number != 0 : fallback;
}

/* The string must be one of name[0..count-1]; which one.  Absent: 0. */
static int read_choice(struct fields *f, const char *key, const gm_json *v,
                       const char *const *name, int count,
                       const char *expected) {
    if (!v) return 0;
    for (int i = 0; i < count; i++)
        if (v->type == GM_JSON_STRING && strcmp(v->string, name[i]) == 0)
            return i;
    refuse(f, key, expected, v);
    return 0;
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

static void config_arch(struct fields *f, gm_config *c) {
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

static void config_sizes(struct fields *f, gm_config *c) {
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
static void config_parts(struct fields *f, gm_config *c) {
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
static void config_window(struct fields *f, const gm_config *c) {
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
static void config_layers(struct fields *f, const gm_config *c) {
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
static void config_refused(struct fields *f) {
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
static double yarn_attention(struct fields *f, double factor) {
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
static void config_rope_kind(struct fields *f, const gm_config *c,
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
static void config_rope(struct fields *f, gm_config *c) {
    static const char *const kind[] = {"default", "linear", "llama3", "yarn"};
    const gm_json *scaling = field(f, "rope_scaling");
    bool old = scaling && !(scaling->type == GM_JSON_OBJECT &&
                            !scaling->child);
    const char *name = old ? "rope_scaling" : "rope_parameters";
    const gm_json *given = old ? scaling : field(f, name);
    struct fields r = {f->path, old ? "rope_scaling." : "rope_parameters.",
                       given, f->status, f->err};
    if (given && given->type != GM_JSON_OBJECT) {
        refuse(f, name, "an object", given);
        return;
    }
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
    if (!f->status) f->status = r.status;
}

gm_status gm_config_read(gm_arena *arena, const char *dir, gm_config *out,
                         gm_error *err) {
    const char *path = gm_format(arena, "%s/config.json", dir);
    const gm_json *root;
    if (!path) return gm_nomem(err);
    gm_status status = gm_json_read(arena, path, &root, err);
    if (status) return status;
    if (root->type != GM_JSON_OBJECT)
        return gm_fail(err, GM_EINPUT, "%s: expected an object", path);
    struct fields f = {path, "", root, GM_OK, err};
    *out = (gm_config){0};
    config_arch(&f, out);
    config_refused(&f);
    config_sizes(&f, out);
    config_parts(&f, out);
    config_layers(&f, out);
    config_rope(&f, out);
    return f.status;
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
static gm_status check_tensor(const gm_model *model, const char *name,
                              const struct part *p, gm_error *err) {
    const gm_tensor *t = gm_tensor_find(&model->tensors, name);
    char expected[64], found[200] = "";
    if (!t)
        return gm_fail(err, GM_EINPUT, "%s: tensor %s is missing",
                       model->dir, name);
    if (t->dtype != GM_F32 && t->dtype != GM_F16 && t->dtype != GM_BF16)
        return gm_fail(err, GM_EINPUT, "%s: expected F32, F16 or BF16, "
                       "found %s in %s", name, gm_dtype_name(t->dtype),
                       t->path);
    if (t->rank == 1 + p->weight && t->shape[0] == p->rows &&
        (!p->weight || t->shape[1] == p->columns))
        return GM_OK;
    for (int i = 0; i < t->rank; i++) {
        size_t n = strlen(found);
        snprintf(found + n, sizeof found - n, "%s%lld", i ? ", " : "",
                 (long long)t->shape[i]);
    }
    snprintf(expected, sizeof expected, p->weight ? "%ld, %ld" : "%ld",
             p->rows, p->columns);
    return gm_fail(err, GM_EINPUT, "%s: expected [%s], found [%s] in %s",
                   name, expected, found, t->path);
}

/* Every part of block `layer` that the configuration has is there, and none
   that it has not: a bias we would leave out is a different model. */
static gm_status check_block(const gm_model *model, long layer,
                             gm_error *err) {
    gm_block none = {0};
    char name[NAME];
    for (int i = 0; i < PARTS; i++) {
        struct part p = block_part(&model->config, &none, i);
        bool there = part_tensor(model, layer, i, name) != NULL;
        if (there && !p.wanted)
            return gm_fail(err, GM_EINPUT, "%s: tensor %s is there, but not "
                           "in the model that config.json describes",
                           model->dir, name);
        gm_status status =
            p.wanted ? check_tensor(model, name, &p, err) : GM_OK;
        if (status) return status;
    }
    return GM_OK;
}

/* A tied head is the embedding.  Some checkpoints store it twice; two that
   differ contradict config.json. */
static gm_status check_tied(const gm_model *model, gm_error *err) {
    const gm_tensor *e = gm_tensor_find(&model->tensors, embedding_name);
    const gm_tensor *w = gm_tensor_find(&model->tensors, head_name);
    if (w && (w->dtype != e->dtype || w->bytes != e->bytes ||
              memcmp(w->data, e->data, w->bytes) != 0))
        return gm_fail(err, GM_EINPUT, "%s: tensor %s differs from %s, but "
                       "config.json says tie_word_embeddings true",
                       model->dir, head_name, embedding_name);
    return GM_OK;
}

static gm_status check_model(const gm_model *model, gm_error *err) {
    const gm_config *c = &model->config;
    const struct part table = {c->vocab, c->d, true, true, NULL};
    const struct part norm = {c->d, 1, false, true, NULL};
    char name[NAME];
    gm_status status = check_tensor(model, embedding_name, &table, err);
    if (!status) status = check_tensor(model, final_norm_name, &norm, err);
    if (!status)
        status = c->tied ? check_tied(model, err)
                         : check_tensor(model, head_name, &table, err);
    for (long l = 0; l < c->layers && !status; l++)
        status = check_block(model, l, err);
    if (!status && part_tensor(model, c->layers, 0, name))
        return gm_fail(err, GM_EINPUT, "%s: tensor %s is there, but "
                       "config.json says num_hidden_layers %ld", model->dir,
                       name, c->layers);
    return status;
}

gm_status gm_model_open(gm_arena *arena, const char *dir, gm_model *out,
                        gm_error *err) {
    *out = (gm_model){.dir = gm_format(arena, "%s", dir)};
    if (!out->dir) return gm_nomem(err);
    gm_status status = gm_config_read(arena, dir, &out->config, err);
    if (!status) status = gm_checkpoint_open(arena, dir, &out->tensors, err);
    if (status) return status;
    status = check_model(out, err);
    if (status) gm_model_close(out);
    return status;
}

gm_status gm_model_hash(gm_model *model, gm_error *err) {
    return model->hash[0] ? GM_OK
                          : gm_tensors_hash(&model->tensors, model->hash, err);
}

void gm_model_close(gm_model *model) {
    gm_tensors_close(&model->tensors);
}

gm_status gm_linear_name(gm_arena *arena, long layer, int j,
                         const char **name, gm_error *err) {
    *name = gm_format(arena, "model.layers.%ld.%s", layer, linear_name[j]);
    return *name ? GM_OK : gm_nomem(err);
}

const gm_tensor *gm_linear_tensor(const gm_model *model, long layer, int j) {
    char name[NAME];
    return part_tensor(model, layer, j, name);
}

gm_status gm_block_alloc(gm_arena *arena, const gm_config *config,
                         gm_block *out, gm_error *err) {
    *out = (gm_block){0};
    for (int i = 0; i < PARTS; i++) {
        struct part p = block_part(config, out, i);
        if (!p.wanted) continue;
        *p.place = gm_alloc(arena, (size_t)p.rows,
                            (size_t)p.columns * sizeof(gm_real));
        if (!*p.place) return gm_nomem(err);
    }
    return GM_OK;
}

gm_status gm_block_load(const gm_model *model, long layer, gm_block *out,
                        gm_error *err) {
    char name[NAME];
    for (int i = 0; i < PARTS; i++) {
        struct part p = block_part(&model->config, out, i);
        gm_status status = !p.wanted ? GM_OK :
            gm_tensor_read(part_tensor(model, layer, i, name), 0,
                           p.rows * p.columns, *p.place, err);
        if (status) return status;
    }
    return GM_OK;
}

/* ---------------------------------------------------------- rotary angles */

/* Inverse frequencies f_i, i < hd/2, in the float32 arithmetic of
   transformers: at position 2000 a unit in the last place of f_1 turns the
   angle by 1e-4, so the checkpoint means these floats and no better ones. */
static float base_power(const gm_config *c, long i) {
    float exponent = (float)(2 * i) / (float)c->head_dim;
    return (float)gm_expd((double)exponent * gm_logd(c->rope.theta));
}

/* Llama 3.1: wavelengths w = 2 pi / f above original/low are slowed by the
   factor, those below original/high kept, in between s f + (1-s) f/factor,
   s = (original/w - low) / (high - low). */
static float llama3_frequency(const gm_rope *r, float f) {
    const float two_pi = (float)6.283185307179586;
    float factor = (float)r->factor, low = (float)r->low_freq_factor;
    double length = (double)r->original_max_position;
    float w = 1.0f / f * two_pi;
    if (w > (float)(length / r->low_freq_factor)) return f / factor;
    if (w < (float)(length / r->high_freq_factor)) return f;
    float s = (1.0f / w * (float)length - low) /
              (float)(r->high_freq_factor - r->low_freq_factor);
    return (1.0f - s) * f / factor + s * f;
}

/* YaRN's correction: the (real) index i at which angles make `rotations` turns
   within the original context. */
static double yarn_index(const gm_config *c, double rotations) {
    double length = (double)c->rope.original_max_position;
    return (double)c->head_dim *
           gm_logd(length / (rotations * 6.283185307179586)) /
           (2 * gm_logd(c->rope.theta));
}

/* YaRN (Peng et al. 2023): f for the fast angles, f/factor for the slow ones,
   and a linear ramp over i between the two indices. */
static float yarn_frequency(const gm_config *c, long i) {
    const gm_rope *r = &c->rope;
    double low = yarn_index(c, r->beta_fast);
    double high = yarn_index(c, r->beta_slow);
    if (r->truncate) low = floor(low), high = ceil(high);
    low = low > 0 ? low : 0;
    high = high < (double)(c->head_dim - 1) ? high : (double)(c->head_dim - 1);
    if (high - low == 0) high += 0.001;
    float ramp = ((float)i - (float)low) / (float)(high - low);
    float keep = 1.0f - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);
    float power = base_power(c, i);
    return 1.0f / ((float)r->factor * power) * (1.0f - keep) +
           1.0f / power * keep;
}

static float inverse_frequency(const gm_config *c, long i) {
    switch (c->rope.kind) {
    case GM_ROPE_LINEAR:
        return 1.0f / base_power(c, i) / (float)c->rope.factor;
    case GM_ROPE_LLAMA3:
        return llama3_frequency(&c->rope, 1.0f / base_power(c, i));
    case GM_ROPE_YARN: return yarn_frequency(c, i);
    case GM_ROPE_DEFAULT: break;
    }
    return 1.0f / base_power(c, i);
}

gm_status gm_rope_build(gm_arena *arena, const gm_config *c, long T,
                        const int32_t *position, gm_rope_table *out,
                        gm_error *err) {
    long half = c->head_dim / 2;
    size_t row = (size_t)half * sizeof(gm_real);
    *out = (gm_rope_table){T, gm_alloc(arena, (size_t)T, row),
                           gm_alloc(arena, (size_t)T, row)};
    if (!out->cos || !out->sin) return gm_nomem(err);
    for (long i = 0; i < half; i++) {
        float f = inverse_frequency(c, i);
        for (long t = 0; t < T; t++) {
            float angle = (float)(position ? position[t] : t) * f;
            double sine, cosine;
            gm_sincosd((double)angle, &sine, &cosine);
            out->cos[t * half + i] =
                (gm_real)(cosine * c->rope.attention_factor);
            out->sin[t * half + i] =
                (gm_real)(sine * c->rope.attention_factor);
        }
    }
    return GM_OK;
}

/* ------------------------------------------------------------- operations */

/* Work items of row operations: ROWS rows each, enough to be worth a thread's
   while.  Item i is rows i ROWS .. last(i, rows) - 1. */
enum { ROWS = 16 };

static long items(long rows) { return (rows + ROWS - 1) / ROWS; }

static long last(long i, long rows) {
    return (i + 1) * ROWS < rows ? (i + 1) * ROWS : rows;
}

/* RMS norm: y_ri = w_i x_ri s_r,   s_r = 1 / sqrt(mean_i x_ri^2 + eps)
   x, y [rows, n], w [n]. */
struct norm {
    long rows, n;
    double eps;
    const gm_real *x, *w;
    gm_real *y, *dy, *dx, *dw;
};

static gm_real norm_scale(const struct norm *a, const gm_real *x) {
    return (gm_real)(1 / sqrt(gm_dot(a->n, x, x) / (double)a->n + a->eps));
}

static void norm_rows(void *context, long item) {
    const struct norm *a = context;
    for (long r = item * ROWS; r < last(item, a->rows); r++) {
        const gm_real *x = a->x + r * a->n;
        gm_real *y = a->y + r * a->n, s = norm_scale(a, x);
        for (long i = 0; i < a->n; i++) y[i] = a->w[i] * (x[i] * s);
    }
}

static void norm_forward(double eps, long rows, long n, const gm_real *x,
                         const gm_real *w, gm_real *y) {
    struct norm a = {.rows = rows, .n = n, .eps = eps, .x = x, .w = w, .y = y};
    gm_parallel(items(rows), norm_rows, &a);
}

/* out_i += sum_r a_ri, in double, in r order; a [rows, n]. */
struct columns { long rows, n; const gm_real *a; gm_real *out; };

static void column_sums(void *context, long item) {
    const struct columns *c = context;
    long first = item * ROWS, end = last(item, c->n);
    double sum[ROWS] = {0};
    for (long r = 0; r < c->rows; r++)
        for (long i = first; i < end; i++)
            sum[i - first] += (double)c->a[r * c->n + i];
    for (long i = first; i < end; i++)
        c->out[i] += (gm_real)sum[i - first];
}

static void add_columns(long rows, long n, const gm_real *a, gm_real *out) {
    struct columns c = {rows, n, a, out};
    gm_parallel(items(n), column_sums, &c);
}

/* With g = w dy:   dx_i += s g_i - x_i s^3 (sum_j g_j x_j) / n,
                    dw_i += sum_r dy_ri x_ri s_r.
   dx or dw may be NULL.  Asked for dw, dy is left holding dy x s. */
static void norm_row_dx(const struct norm *a, const gm_real *x,
                        const gm_real *dy, gm_real *dx) {
    gm_real g[256], s = norm_scale(a, x);
    double sum = 0;
    for (long first = 0; first < a->n; first += 256) {
        long count = a->n - first < 256 ? a->n - first : 256;
        for (long i = 0; i < count; i++)
            g[i] = a->w[first + i] * dy[first + i];
        sum += gm_dot(count, g, x + first);
    }
    gm_real t = (gm_real)(sum / (double)a->n) * s * s * s;
    for (long i = 0; i < a->n; i++) dx[i] += s * (a->w[i] * dy[i]) - t * x[i];
}

static void norm_rows_backward(void *context, long item) {
    const struct norm *a = context;
    for (long r = item * ROWS; r < last(item, a->rows); r++) {
        const gm_real *x = a->x + r * a->n;
        gm_real *dy = a->dy + r * a->n;
        if (a->dx) norm_row_dx(a, x, dy, a->dx + r * a->n);
        if (!a->dw) continue;
        gm_real s = norm_scale(a, x);
        for (long i = 0; i < a->n; i++) dy[i] *= x[i] * s;
    }
}

static void norm_backward(double eps, long rows, long n, const gm_real *x,
                          const gm_real *w, gm_real *dy, gm_real *dx,
                          gm_real *dw) {
    struct norm a = {rows, n, eps, x, w, NULL, dy, dx, dw};
    gm_parallel(items(rows), norm_rows_backward, &a);
    if (dw) add_columns(rows, n, dy, dw);
}

/* Linear: Y = X W^T + 1 b^T, or Y += that when `add`;
   X [R, in], W [out, in], b [out] or NULL, Y [R, out]. */
struct bias { long rows, n; const gm_real *b; gm_real *y; };

static void bias_rows(void *context, long item) {
    const struct bias *a = context;
    for (long r = item * ROWS; r < last(item, a->rows); r++)
        for (long i = 0; i < a->n; i++) a->y[r * a->n + i] += a->b[i];
}

static void linear_forward(const gm_config *c, const gm_block *block, int j,
                           long R, const gm_real *x, gm_real *y, bool add) {
    long out, in;
    gm_linear_shape(c, j, &out, &in);
    gm_gemm(R, out, in, x, in, 1, block->w[j], 1, in, y, out, add);
    struct bias a = {R, out, block->bias[j], y};
    if (a.b) gm_parallel(items(R), bias_rows, &a);
}

/* dW += dY^T X,   db += dY^T 1,   dX = dY W, or dX += that when `add`.
   dX NULL: not wanted. */
static void linear_backward(const gm_config *c, const gm_block *block, int j,
                            long R, const gm_real *x, const gm_real *dy,
                            const gm_block *grad, gm_real *dx, bool add) {
    long out, in;
    gm_linear_shape(c, j, &out, &in);
    if (grad->w[j])
        gm_gemm(out, in, R, dy, 1, out, x, in, 1, grad->w[j], in, true);
    if (grad->bias[j]) add_columns(R, out, dy, grad->bias[j]);
    if (dx)
        gm_gemm(R, in, out, dy, out, 1, block->w[j], in, 1, dx, in, add);
}

/* Rotary embedding, half-split: the pair (x_i, x_{i+hd/2}) of each head is
   turned by the angle phi_ti of its row's position t = r mod T:
     (x_i, x_{i+hd/2}) <- (x_i cos - x_{i+hd/2} sin, x_{i+hd/2} cos + x_i sin)
   in place; x [R, heads hd].  The gradient is turned back: sign = -1. */
struct turn {
    long rows, heads, half;
    const gm_rope_table *table;
    gm_real sign, *x;
};

static void turn_rows(void *context, long item) {
    const struct turn *a = context;
    const long half = a->half;
    for (long r = item * ROWS; r < last(item, a->rows); r++) {
        const gm_real *cos_ = a->table->cos + r % a->table->T * half;
        const gm_real *sin_ = a->table->sin + r % a->table->T * half;
        for (long head = 0; head < a->heads; head++) {
            gm_real *x = a->x + (r * a->heads + head) * 2 * half;
            for (long i = 0; i < half; i++) {
                gm_real u = x[i], v = x[i + half], s = a->sign * sin_[i];
                x[i] = u * cos_[i] - v * s;
                x[i + half] = v * cos_[i] + u * s;
            }
        }
    }
}

static void rotate(const gm_config *c, const gm_rope_table *table, long R,
                   long heads, gm_real sign, gm_real *x) {
    struct turn a = {R, heads, c->head_dim / 2, table, sign, x};
    gm_parallel(items(R), turn_rows, &a);
}

/* Causal attention of one query head h with its key/value head h Hkv / Hq:
     s_tj = q_t . k_j / sqrt(hd)  for j <= t,   lse_t = log sum_j exp s_tj,
     P_tj = exp(s_tj - lse_t),    o_t = sum_j P_tj v_j
   Worked in tiles of TILE query rows against all columns a tile can see, so a
   thread needs TILE T scores.  The sum over j runs in parts of SPAN columns
   added in order; a masked column adds an exact 0, so no result depends on
   TILE, on T, or on what comes later in the sequence. */
enum { TILE = 64, SPAN = 384 };

struct attention {
    const gm_config *c;
    const gm_acts *a;
    long T, tiles, q_row, kv_row;   /* q_row: elements in a row of q, attn */
    gm_real scale;                  /* 1 / sqrt(hd) */
};

static struct attention attention_of(const gm_config *c, const gm_acts *a) {
    return (struct attention){
        c, a, a->T, (a->T + TILE - 1) / TILE, c->heads * c->head_dim,
        c->kv_heads * c->head_dim,
        (gm_real)(1 / sqrt((double)c->head_dim))
    };
}

/* The first of two TILE x T workspaces of the calling thread. */
static gm_real *attention_scratch(const struct attention *x) {
    return x->a->scratch + gm_thread() * 2 * TILE * x->a->room;
}

/* max_i x_i: eight lanes, which compilers turn into vector maxima. */
static gm_real largest(long n, const gm_real *x) {
    gm_real m[8];
    long i = 0;
    for (int l = 0; l < 8; l++) m[l] = x[0];
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) m[l] = x[i + l] > m[l] ? x[i + l] : m[l];
    for (; i < n; i++) m[0] = x[i] > m[0] ? x[i] : m[0];
    for (int l = 1; l < 8; l++) m[0] = m[l] > m[0] ? m[l] : m[0];
    return m[0];
}

/* Turns the first n = t + 1 raw products of a row into exp(s - max s), zeroes
   the rest up to `width`, gives the sum and the log-sum-exp. */
static double softmax_row(gm_real *s, long n, long width, gm_real scale,
                          gm_real *lse) {
    gm_real top = scale * largest(n, s);
    for (long j = 0; j < n; j++) s[j] = s[j] * scale - top;
    gm_exp(n, s, s);
    memset(s + n, 0, (size_t)(width - n) * sizeof *s);
    double sum = gm_sum(n, s);
    *lse = (gm_real)((double)top + gm_logd(sum));
    return sum;
}

/* One tile of one head of one sequence. */
static void attention_tile(void *context, long item) {
    const struct attention *x = context;
    const long T = x->T, hd = x->c->head_dim, heads = x->c->heads;
    long first = item % x->tiles * TILE, end = first + TILE;
    long head = item / x->tiles % heads, s = item / x->tiles / heads;
    if (end > T) end = T;
    long row = s * T + first, kv = head / (heads / x->c->kv_heads) * hd;
    const gm_real *q = x->a->q + row * x->q_row + head * hd;
    const gm_real *k = x->a->k + s * T * x->kv_row + kv;
    const gm_real *v = x->a->v + s * T * x->kv_row + kv;
    gm_real *o = x->a->attn + row * x->q_row + head * hd;
    gm_real *lse = x->a->lse + row * heads + head;
    gm_real *P = attention_scratch(x);
    double sum[TILE];
    gm_gemm(end - first, end, hd, q, x->q_row, 1, k, 1, x->kv_row, P, T,
            false);
    for (long t = first; t < end; t++)
        sum[t - first] = softmax_row(P + (t - first) * T, t + 1, end,
                                     x->scale, lse + (t - first) * heads);
    for (long j = 0; j < end; j += SPAN)
        gm_gemm(end - first, hd, end - j < SPAN ? end - j : SPAN, P + j, T, 1,
                v + j * x->kv_row, x->kv_row, 1, o, x->q_row, j > 0);
    for (long t = 0; t < end - first; t++)
        for (long i = 0; i < hd; i++)
            o[t * x->q_row + i] *= (gm_real)(1 / sum[t]);
}

static void attention_forward(const gm_config *c, const gm_acts *a) {
    struct attention x = attention_of(c, a);
    gm_parallel(a->S * c->heads * x.tiles, attention_tile, &x);
}

/* With D_t = do_t . o_t (= sum_j P_tj dP_tj):
     dv_j += sum_t P_tj do_t,   dP_tj = do_t . v_j,
     ds_tj = P_tj (dP_tj - D_t) / sqrt(hd),
     dq_t = sum_j ds_tj k_j,    dk_j += sum_t ds_tj q_t
   Turns raw products into P and dP into ds for one row of n = t + 1 columns;
   columns from n up to `width` become 0. */
static void softmax_row_backward(gm_real *s, gm_real *dP, long n, long width,
                                 gm_real scale, gm_real lse, gm_real D) {
    for (long j = 0; j < n; j++) s[j] = s[j] * scale - lse;
    gm_exp(n, s, s);
    for (long j = 0; j < n; j++) dP[j] = s[j] * (dP[j] - D) * scale;
    memset(s + n, 0, (size_t)(width - n) * sizeof *s);
    memset(dP + n, 0, (size_t)(width - n) * sizeof *dP);
}

/* Query rows first..end-1 of sequence s, query head `head`. */
static void attention_tile_backward(const struct attention *x, long s,
                                    long head, long first, long end) {
    const gm_acts *a = x->a;
    const long T = x->T, hd = x->c->head_dim, heads = x->c->heads;
    const long q_row = x->q_row, kv_row = x->kv_row, rows = end - first;
    long at = (s * T + first) * q_row + head * hd;
    long kv = s * T * kv_row + head / (heads / x->c->kv_heads) * hd;
    const gm_real *q = a->q + at, *o = a->attn + at, *d_o = a->d_attn + at;
    const gm_real *lse = a->lse + (s * T + first) * heads + head;
    gm_real *P = attention_scratch(x), *dP = P + TILE * a->room;
    gm_gemm(rows, end, hd, q, q_row, 1, a->k + kv, 1, kv_row, P, T, false);
    gm_gemm(rows, end, hd, d_o, q_row, 1, a->v + kv, 1, kv_row, dP, T, false);
    for (long t = 0; t < rows; t++) {
        double D = gm_dot(hd, d_o + t * q_row, o + t * q_row);
        softmax_row_backward(P + t * T, dP + t * T, first + t + 1, end,
                             x->scale, lse[t * heads], (gm_real)D);
    }
    gm_gemm(end, hd, rows, P, 1, T, d_o, q_row, 1, a->d_v + kv, kv_row, true);
    gm_gemm(rows, hd, end, dP, T, 1, a->k + kv, kv_row, 1, a->d_q + at,
            q_row, false);
    gm_gemm(end, hd, rows, dP, 1, T, q, q_row, 1, a->d_k + kv, kv_row, true);
}

/* One key/value head of one sequence with all query heads that share it, in
   head order: nobody else adds to its dk and dv. */
static void attention_head_backward(void *context, long item) {
    const struct attention *x = context;
    long kv = item % x->c->kv_heads, s = item / x->c->kv_heads;
    long group = x->c->heads / x->c->kv_heads;
    for (long head = kv * group; head < (kv + 1) * group; head++)
        for (long t = 0; t < x->T; t += TILE)
            attention_tile_backward(x, s, head, t,
                                    t + TILE < x->T ? t + TILE : x->T);
}

static void attention_backward(const gm_config *c, const gm_acts *a) {
    struct attention x = attention_of(c, a);
    size_t bytes = (size_t)(a->S * a->T * x.kv_row) * sizeof(gm_real);
    memset(a->d_k, 0, bytes);
    memset(a->d_v, 0, bytes);
    gm_parallel(a->S * c->kv_heads, attention_head_backward, &x);
}

/* SwiGLU: act = silu(gate) up,   silu(g) = g sigma(g) = g / (1 + exp(-g));
   all [rows, n]. */
struct swiglu {
    long rows, n;
    const gm_real *gate, *up, *d_act;
    gm_real *act, *d_gate, *d_up;
};

static void swiglu_rows(void *context, long item) {
    const struct swiglu *a = context;
    long first = item * ROWS * a->n, end = last(item, a->rows) * a->n;
    gm_real *e = a->act;                            /* exp(-gate), then act */
    for (long i = first; i < end; i++) e[i] = -a->gate[i];
    gm_exp(end - first, e + first, e + first);
    for (long i = first; i < end; i++)
        a->act[i] = a->gate[i] / (1 + e[i]) * a->up[i];
}

static void swiglu_forward(long rows, long n, const gm_real *gate,
                           const gm_real *up, gm_real *act) {
    struct swiglu a = {.rows = rows, .n = n, .gate = gate, .up = up,
                       .act = act};
    gm_parallel(items(rows), swiglu_rows, &a);
}

/* d_gate = d_act up sigma (1 + gate (1 - sigma)),   d_up = d_act silu(gate) */
static void swiglu_rows_backward(void *context, long item) {
    const struct swiglu *a = context;
    long first = item * ROWS * a->n, end = last(item, a->rows) * a->n;
    gm_real *e = a->d_gate;                         /* exp(-gate) at first */
    for (long i = first; i < end; i++) e[i] = -a->gate[i];
    gm_exp(end - first, e + first, e + first);
    for (long i = first; i < end; i++) {
        gm_real g = a->gate[i], sigma = 1 / (1 + e[i]);
        a->d_up[i] = a->d_act[i] * (g * sigma);
        a->d_gate[i] = a->d_act[i] * a->up[i] *
                       (sigma * (1 + g * (1 - sigma)));
    }
}

static void swiglu_backward(long rows, long n, const gm_real *gate,
                            const gm_real *up, const gm_real *d_act,
                            gm_real *d_gate, gm_real *d_up) {
    struct swiglu a = {rows, n, gate, up, d_act, NULL, d_gate, d_up};
    gm_parallel(items(rows), swiglu_rows_backward, &a);
}

static void copy(gm_real *to, const gm_real *from, long count) {
    memcpy(to, from, (size_t)count * sizeof *to);
}

/* ------------------------------------------------------------------ block */

gm_status gm_acts_alloc(gm_arena *arena, const gm_config *c, long S, long T,
                        bool backward, gm_acts *out, gm_error *err) {
    gm_acts *a = out;
    const long q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    *a = (gm_acts){.S = S, .T = T, .room = T, .threads = gm_threads()};
    const struct { gm_real **place; long n; bool wanted; } row[] = {
        {&a->x1, c->d, true}, {&a->q, q, true}, {&a->k, kv, true},
        {&a->v, kv, true}, {&a->q_raw, q, c->qk_norm},
        {&a->k_raw, kv, c->qk_norm}, {&a->attn, q, true},
        {&a->lse, c->heads, true}, {&a->mid, c->d, true},
        {&a->x2, c->d, true}, {&a->gate, c->ff, true},
        {&a->up, c->ff, true}, {&a->act, c->ff, true},
        {&a->d_x1, c->d, backward}, {&a->d_q, q, backward},
        {&a->d_k, kv, backward}, {&a->d_v, kv, backward},
        {&a->d_attn, q, backward}, {&a->d_mid, c->d, backward},
        {&a->d_x2, c->d, backward}, {&a->d_gate, c->ff, backward},
        {&a->d_up, c->ff, backward}, {&a->d_act, c->ff, backward},
    };
    if (S < 1 || T < 1 || S > LONG_MAX / T) return gm_nomem(err);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        if (!row[i].wanted) continue;
        *row[i].place = gm_alloc(arena, (size_t)(S * T),
                                 (size_t)row[i].n * sizeof(gm_real));
        if (!*row[i].place) return gm_nomem(err);
    }
    a->scratch = gm_alloc(arena, (size_t)T, (size_t)a->threads * 2 * TILE *
                                            sizeof(gm_real));
    return a->scratch ? GM_OK : gm_nomem(err);
}

void gm_block_forward(const gm_config *c, const gm_block *b,
                      const gm_rope_table *rope, const gm_real *h, gm_acts *a,
                      gm_real *y) {
    const long R = a->S * a->T, hd = c->head_dim;
    gm_real *q = c->qk_norm ? a->q_raw : a->q;
    gm_real *k = c->qk_norm ? a->k_raw : a->k;
    assert(rope->T == a->T && a->T <= a->room && gm_threads() <= a->threads);
    /* mid = h + o(attention(norm1(h))) */
    norm_forward(c->norm_eps, R, c->d, h, b->norm1, a->x1);
    linear_forward(c, b, GM_Q, R, a->x1, q, false);
    linear_forward(c, b, GM_K, R, a->x1, k, false);
    linear_forward(c, b, GM_V, R, a->x1, a->v, false);
    if (c->qk_norm) {
        norm_forward(c->norm_eps, R * c->heads, hd, q, b->q_norm, a->q);
        norm_forward(c->norm_eps, R * c->kv_heads, hd, k, b->k_norm, a->k);
    }
    rotate(c, rope, R, c->heads, 1, a->q);
    rotate(c, rope, R, c->kv_heads, 1, a->k);
    attention_forward(c, a);
    copy(a->mid, h, R * c->d);
    linear_forward(c, b, GM_O, R, a->attn, a->mid, true);
    /* y = mid + down(swiglu(norm2(mid))) */
    norm_forward(c->norm_eps, R, c->d, a->mid, b->norm2, a->x2);
    linear_forward(c, b, GM_GATE, R, a->x2, a->gate, false);
    linear_forward(c, b, GM_UP, R, a->x2, a->up, false);
    swiglu_forward(R, c->ff, a->gate, a->up, a->act);
    copy(y, a->mid, R * c->d);
    linear_forward(c, b, GM_DOWN, R, a->act, y, true);
}

/* From dE/dq and dE/dk after norm and rotation to dE/dq, dE/dk as q_proj and
   k_proj gave them, in place. */
static void qk_backward(const gm_config *c, const gm_block *b,
                        const gm_rope_table *rope, const gm_acts *a,
                        const gm_block *grad) {
    const long R = a->S * a->T, hd = c->head_dim;
    const long q = R * c->heads, k = R * c->kv_heads;
    rotate(c, rope, R, c->heads, -1, a->d_q);
    rotate(c, rope, R, c->kv_heads, -1, a->d_k);
    if (!c->qk_norm) return;
    gm_real *room = a->d_attn;              /* no longer needed by now */
    memset(room, 0, (size_t)(q * hd) * sizeof *room);
    norm_backward(c->norm_eps, q, hd, a->q_raw, b->q_norm, a->d_q, room,
                  grad->q_norm);
    copy(a->d_q, room, q * hd);
    memset(room, 0, (size_t)(k * hd) * sizeof *room);
    norm_backward(c->norm_eps, k, hd, a->k_raw, b->k_norm, a->d_k, room,
                  grad->k_norm);
    copy(a->d_k, room, k * hd);
}

void gm_block_backward(const gm_config *c, const gm_block *b,
                       const gm_rope_table *rope, const gm_real *h,
                       gm_acts *a, const gm_real *d_y, gm_block *grad,
                       gm_real *d_h) {
    const long R = a->S * a->T;
    gm_real *d_x1 = d_h || grad->norm1 ? a->d_x1 : NULL;
    assert(rope->T == a->T && a->T <= a->room && gm_threads() <= a->threads);
    /* y = mid + down(swiglu(norm2(mid))) */
    copy(a->d_mid, d_y, R * c->d);
    linear_backward(c, b, GM_DOWN, R, a->act, d_y, grad, a->d_act, false);
    swiglu_backward(R, c->ff, a->gate, a->up, a->d_act, a->d_gate, a->d_up);
    linear_backward(c, b, GM_UP, R, a->x2, a->d_up, grad, a->d_x2, false);
    linear_backward(c, b, GM_GATE, R, a->x2, a->d_gate, grad, a->d_x2, true);
    norm_backward(c->norm_eps, R, c->d, a->mid, b->norm2, a->d_x2, a->d_mid,
                  grad->norm2);
    /* mid = h + o(attention(norm1(h))) */
    linear_backward(c, b, GM_O, R, a->attn, a->d_mid, grad, a->d_attn, false);
    attention_backward(c, a);
    qk_backward(c, b, rope, a, grad);
    linear_backward(c, b, GM_V, R, a->x1, a->d_v, grad, d_x1, false);
    linear_backward(c, b, GM_K, R, a->x1, a->d_k, grad, d_x1, true);
    linear_backward(c, b, GM_Q, R, a->x1, a->d_q, grad, d_x1, true);
    if (d_h)
        for (long i = 0; i < R * c->d; i++) d_h[i] += a->d_mid[i];
    if (d_x1)
        norm_backward(c->norm_eps, R, c->d, h, b->norm1, d_x1, d_h,
                      grad->norm1);
}

/* ------------------------------------------------------ embedding and head */

gm_status gm_embed(const gm_model *model, const int32_t *tokens, long count,
                   gm_real *h, gm_error *err) {
    const gm_tensor *e = gm_tensor_find(&model->tensors, embedding_name);
    const long d = model->config.d;
    for (long r = 0; r < count; r++) {
        if (tokens[r] < 0 || tokens[r] >= model->config.vocab)
            return gm_fail(err, GM_EINPUT, "token %ld is %d, expected "
                           "0..%ld", r, tokens[r], model->config.vocab - 1);
        gm_status status = gm_tensor_read(e, tokens[r] * d, d, h + r * d,
                                          err);
        if (status) return status;
    }
    return GM_OK;
}

gm_status gm_head_load(gm_arena *arena, const gm_model *model, gm_head *out,
                       gm_error *err) {
    const gm_config *c = &model->config;
    *out = (gm_head){
        gm_alloc(arena, (size_t)c->d, sizeof(gm_real)),
        gm_alloc(arena, (size_t)c->vocab, (size_t)c->d * sizeof(gm_real)),
        c->d, c->vocab, c->norm_eps
    };
    if (!out->norm || !out->w) return gm_nomem(err);
    const gm_tensor *norm = gm_tensor_find(&model->tensors, final_norm_name);
    const gm_tensor *w = gm_tensor_find(&model->tensors,
                                        c->tied ? embedding_name : head_name);
    gm_status status = gm_tensor_read(norm, 0, c->d, out->norm, err);
    return status ? status
                  : gm_tensor_read(w, 0, c->vocab * c->d, out->w, err);
}

/* logits = norm(h) W^T */
void gm_head_forward(const gm_head *head, const gm_real *h, long rows,
                     gm_real *scratch, gm_real *logits) {
    const long d = head->d;
    norm_forward(head->eps, rows, d, h, head->norm, scratch);
    gm_gemm(rows, head->vocab, d, scratch, d, 1, head->w, 1, d, logits,
            head->vocab, false);
}
