/* checkpoint.c: a Hugging Face directory as a model: config.json, and the
   tensors of the checkpoint, each checked for presence and shape before any is
   used.  Follows the definitions of the `transformers` library.  Uses tensors.c
   for files and touches nothing but what it is handed.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------- config.json
   What a file says goes into a draft; what it does not say, or says is null,
   stays there as it was. */

struct draft {
    gm_config c;
    bool window, causal;            /* use_sliding_window, is_causal        */
    long full_layers;                               /* max_window_layers    */
    double attention_factor, mscale, all_dim;       /* yarn                 */
    double rotary;                                  /* share that is turned */
    int unused;
};

/* When a field is read: of all models, where windows may be used, where one is,
   of a kind of rotary table (in the order of gm_rope_kind); MUST be there. */
enum {
    ARCH = 1, MODEL = 2, WINDOW = 4, WINDOW_FROM = 8, DEFAULT = 16,
    LINEAR = 32, LLAMA3 = 64, YARN = 128, DYNAMIC = 256, LONG = 512,
    SCALED = LINEAR | LLAMA3 | YARN | DYNAMIC, ROPE = DEFAULT | SCALED | LONG,
    OUTSIDE = 1024, THETA = 2048, LIMIT = 4096, MUST = 8192
};

/* What a field may hold, as messages say it: an integer (long) or a number
   (double) in a range, true or false (bool; null is false, as in Python), nothing
   but 0, false or null, or one of some words (int, which). */
enum kind { COUNT, NUMBER, FLAG, NONE, SILU, ARCHS, ROPES };
static const char *const holds[] = {
    [COUNT] = "an integer in %g..%.0f", [NUMBER] = "a number in %g..%g",
    [FLAG] = "true or false", [NONE] = "none (not supported)",
    [SILU] = "\"silu\" or \"swish\"",
    [ARCHS] = "\"llama\", \"qwen2\", \"qwen3\", \"mistral\" or \"phi3\"",
    [ROPES] = ("\"default\", \"linear\", \"llama3\", \"yarn\", \"dynamic\" or "
               "\"longrope\""),
};

#define AT(member) offsetof(struct draft, member)
enum { HEADS = 0 };             /* as many as there are heads */
static const struct field {
    int when;
    enum kind kind;
    const char *key;
    size_t at;                  /* its place in the draft */
    double least, most;
} fields[] = {
    {ARCH | MUST, ARCHS, "model_type", AT(c.arch), 0, 0},
    {MODEL, SILU, "hidden_act", AT(unused), 0, 0},
    {MODEL, NONE, "num_experts", AT(unused), 0, 0},
    {MODEL, NONE, "num_local_experts", AT(unused), 0, 0},
    {MODEL, NONE, "n_routed_experts", AT(unused), 0, 0},
    {MODEL, NONE, "num_experts_per_tok", AT(unused), 0, 0},
    {MODEL, NONE, "moe_intermediate_size", AT(unused), 0, 0},
    {MODEL, NONE, "per_layer_config", AT(unused), 0, 0},
    {MODEL, NONE, "transformers_weights", AT(unused), 0, 0},
    {MODEL, FLAG, "is_causal", AT(causal), 0, 0},
    {MODEL, COUNT, "num_hidden_layers", AT(c.layers), 1, 10000},
    {MODEL, COUNT, "hidden_size", AT(c.d), 1, 1 << 20},
    {MODEL, COUNT, "intermediate_size", AT(c.ff), 1, 1 << 22},
    {MODEL, COUNT, "num_attention_heads", AT(c.heads), 1, 1 << 14},
    {MODEL, COUNT, "num_key_value_heads", AT(c.kv_heads), 1, HEADS},
    {MODEL, COUNT, "head_dim", AT(c.head_dim), 1, 1 << 14},
    {MODEL, COUNT, "vocab_size", AT(c.vocab), 1, 1 << 28},
    {MODEL, COUNT, "max_position_embeddings", AT(c.max_position), 1, 1 << 30},
    {MODEL, NUMBER, "rms_norm_eps", AT(c.norm_eps), 0, 1},
    {MODEL, FLAG, "attention_bias", AT(c.qkv_bias), 0, 0},
    {MODEL, FLAG, "tie_word_embeddings", AT(c.tied), 0, 0},
    {MODEL, FLAG, "mlp_bias", AT(c.mlp_bias), 0, 0},
    {THETA | ROPE, NUMBER, "rope_theta", AT(c.rope.theta), 1.0001, 1e12},
    {MODEL | ROPE, NUMBER, "partial_rotary_factor", AT(rotary), 0, 1},
    {LIMIT, COUNT, "sliding_window", AT(c.limit), 1, 1 << 30},
    {WINDOW, FLAG, "use_sliding_window", AT(window), 0, 0},
    {WINDOW_FROM, COUNT, "max_window_layers", AT(full_layers), -1e15, 1e15},
    {SCALED | MUST, NUMBER, "factor", AT(c.rope.factor), 1, 1e6},
    {LONG, NUMBER, "factor", AT(c.rope.factor), 1e-6, 1e6},
    {LLAMA3 | YARN | LONG, COUNT, "original_max_position_embeddings",
     AT(c.rope.original_max_position), 1, 1 << 30},
    {OUTSIDE | MUST, COUNT, "original_max_position_embeddings",
     AT(c.rope.original_max_position), 1, 1 << 30},
    {LLAMA3 | MUST, NUMBER, "low_freq_factor", AT(c.rope.low_freq_factor),
     1e-6, 1e6},
    {LLAMA3 | MUST, NUMBER, "high_freq_factor", AT(c.rope.high_freq_factor),
     1e-6, 1e6},
    {YARN, NUMBER, "beta_fast", AT(c.rope.beta_fast), 0, 1e6},
    {YARN, NUMBER, "beta_slow", AT(c.rope.beta_slow), 0, 1e6},
    {YARN, FLAG, "truncate", AT(c.rope.truncate), 0, 0},
    {YARN | LONG, NUMBER, "attention_factor", AT(attention_factor), 0, 1e6},
    {YARN, NUMBER, "mscale", AT(mscale), 0, 1e6},
    {YARN, NUMBER, "mscale_all_dim", AT(all_dim), 0, 1e6},
};

/* What transformers takes for fields that are not given; 0: derived. */
static const gm_config defaults[] = {
    [GM_LLAMA] = {.arch = GM_LLAMA, .layers = 32, .d = 4096, .ff = 11008,
                  .heads = 32, .vocab = 32000, .max_position = 2048},
    [GM_QWEN2] = {.arch = GM_QWEN2, .layers = 32, .d = 4096, .ff = 22016,
                  .heads = 32, .kv_heads = 32, .vocab = 151936,
                  .max_position = 32768, .qkv_bias = true},
    [GM_QWEN3] = {.arch = GM_QWEN3, .layers = 32, .d = 4096, .ff = 22016,
                  .heads = 32, .kv_heads = 32, .head_dim = 128,
                  .vocab = 151936, .max_position = 32768, .qk_norm = true},
    [GM_MISTRAL] = {.arch = GM_MISTRAL, .layers = 32, .d = 4096, .ff = 14336,
                    .heads = 32, .kv_heads = 8, .vocab = 32000,
                    .max_position = 131072, .limit = 4096},
    [GM_PHI3] = {.arch = GM_PHI3, .layers = 32, .d = 3072, .ff = 8192,
                 .heads = 32, .vocab = 32064, .max_position = 4096,
                 .norm_eps = 1e-5},
};

/* An object of config.json being read. */
struct source {
    const char *path, *prefix;          /* ".../config.json", "rope_scaling." */
    const gm_json *object;              /* NULL: nothing given */
    bool quantized;                     /* it may be */
};

/* A member that is there and not null, else NULL. */
static const gm_json *given(const struct source *s, const char *key) {
    const gm_json *v = gm_json_get(s->object, key);
    return v && v->type != GM_JSON_NULL ? v : NULL;
}

/* null is nothing. */
_Noreturn static void refuse(const struct source *s, const char *key,
                             const char *expected, const gm_json *v) {
    gm_bad(s->path, "%s%s: expected %s, found %s", s->prefix, key, expected,
           gm_json_show(v && v->type != GM_JSON_NULL ? v : NULL).text);
}

/* Refuses what is given under `key` when a rule is broken. */
static void require(const struct source *s, bool fine, const char *key,
                    const char *expected) {
    if (!fine) refuse(s, key, expected, given(s, key));
}

/* Which of the quoted words of `expected` v is. */
static int read_word(const struct source *s, const char *key, const gm_json *v,
                     const char *expected) {
    const char *at = strchr(expected, '"');
    for (int i = 0; at && v && v->type == GM_JSON_STRING; i++) {
        size_t n = strcspn(at + 1, "\"");
        if (strlen(v->string) == n && memcmp(v->string, at + 1, n) == 0)
            return i;
        at = strchr(at + n + 2, '"');
    }
    refuse(s, key, expected, v);
}

static void read_field(const struct source *s, const struct field *row,
                       struct draft *d) {
    const gm_json *v = row->kind == FLAG ? gm_json_get(s->object, row->key)
                                         : given(s, row->key);
    double most = row->most == HEADS ? (double)d->c.heads : row->most;
    void *to = (char *)d + row->at;
    char expected[80];
    if (!v && !(row->when & MUST)) return;
    bool fits = v && v->type == GM_JSON_NUMBER && v->number >= row->least &&
                v->number <= most;
    snprintf(expected, sizeof expected, holds[row->kind], row->least, most);
    if (row->kind == COUNT && fits && v->is_integer)
        *(long *)to = (long)v->integer;
    else if (row->kind == NUMBER && fits)
        *(double *)to = v->number;
    else if (row->kind == FLAG && v->type <= GM_JSON_BOOL)
        *(bool *)to = v->number != 0;
    else if (row->kind >= SILU)
        *(int *)to = read_word(s, row->key, v, expected);
    else if (row->kind < NONE || v->type > GM_JSON_NUMBER || v->number != 0)
        refuse(s, row->key, expected, v);
}

static void read_fields(const struct source *s, int when, struct draft *d) {
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].when & when) read_field(s, &fields[i], d);
}

/* What to do where weights are found in another form than a checkpoint's. */
#define INSTEAD "give the checkpoint in F16, BF16 or F32 that it was made from"

/* Under whatever key a tool says that it has quantized the weights. */
static void refuse_quantized(const struct source *s) {
    static const char *const keys[] = {"quantization_config", "quantization",
                                       "compression_config"};
    for (int i = 0; i < 3; i++) {
        const gm_json *v = given(s, keys[i]);
        if (!v || (v->type == GM_JSON_BOOL && v->number == 0)) continue;
        const gm_json *by = gm_json_get(v, "quant_method");
        gm_bad(s->path, "%s: expected none, found %s: this checkpoint is "
               "quantized already; " INSTEAD, keys[i],
               gm_json_show(by ? by : v).text);
    }
}

/* How the fields of a model fit together.  As in transformers model_type alone
   says which class it is, whatever `architectures` names, and the class which
   biases there may be: Qwen2's attention has them, Qwen's MLP has none. */
static void read_model(const struct source *s, struct draft *d) {
    gm_config *c = &d->c;
    const gm_json *kv = gm_json_get(s->object, "num_key_value_heads");
    if (!s->quantized) refuse_quantized(s);
    read_fields(s, MODEL, d);
    require(s, d->causal, "is_causal", "true");
    if (!c->kv_heads || (kv && kv->type == GM_JSON_NULL))
        c->kv_heads = c->heads;
    require(s, c->d % c->heads == 0 || c->head_dim, "hidden_size",
            "a multiple of num_attention_heads");
    require(s, c->heads % c->kv_heads == 0, "num_key_value_heads",
            "a divisor of num_attention_heads");
    if (!c->head_dim) c->head_dim = c->d / c->heads;
    require(s, c->head_dim % 2 == 0, "head_dim", "an even number");
    c->qkv_bias &= c->arch < GM_MISTRAL;
    c->o_bias = c->qkv_bias && c->arch != GM_QWEN2;
    c->qkv_bias |= c->arch == GM_QWEN2;
    c->mlp_bias &= c->arch == GM_LLAMA;
}

/* Would some layer attend to a window only?  Qwen: the layers from
   max_window_layers (28) on, when use_sliding_window is true and
   sliding_window (4096) is not null.  Llama knows no windows: one that is
   given means another model.  layer_types, when given, overrides them.  Mistral
   and Phi-3: all layers, of sliding_window (4096; none) tokens: as long as no
   sequence is longer, it changes nothing. */
static void read_windows(const struct source *s, struct draft *d) {
    const gm_json *types = given(s, "layer_types"), *v;
    char text[80];
    snprintf(text, sizeof text, "a list of %ld names", d->c.layers);
    require(s, !types || (types->type == GM_JSON_ARRAY &&
                          types->length == (size_t)d->c.layers),
            "layer_types", text);
    long i = 0;
    for (v = types ? types->child : NULL; v; v = v->next) {
        snprintf(text, sizeof text, "layer_types[%ld]", i++);
        read_word(s, text, v, "\"full_attention\"");
    }
    v = gm_json_get(s->object, "sliding_window");
    if (d->c.arch >= GM_MISTRAL) {
        if (v && v->type == GM_JSON_NULL) d->c.limit = 0;
        read_fields(s, LIMIT, d);
        d->c.limited_by = "sliding_window";
        return;
    }
    if (types) return;
    read_fields(s, WINDOW, d);
    if (!d->window || (v && v->type == GM_JSON_NULL)) return;
    if (d->c.arch == GM_LLAMA) {
        require(s, !v, "sliding_window", "null");
    } else {
        read_fields(s, WINDOW_FROM, d);
        require(s, d->c.layers <= d->full_layers, "use_sliding_window",
                "false");
    }
}

/* YaRN's factor on cos and sin (Peng et al. 2023, section 3.4):
   m(s) = 0.1 s ln factor + 1; m(1), or m(mscale)/m(mscale_all_dim). */
static double yarn_attention(const struct draft *d) {
    double slope = 0.1 * gm_logd(d->c.rope.factor);
    if (d->attention_factor >= 0) return d->attention_factor;
    if (d->mscale > 0 && d->all_dim > 0)
        return (slope * d->mscale + 1) / (slope * d->all_dim + 1);
    return slope + 1;
}

/* LongRoPE (Ding et al. 2024): omega_i / short_factor_i in sequences up to the
   original length, on which cos and sin grow by
   sqrt(1 + ln factor / ln original).  Longer ones, with long_factor, are not
   supported. */
static void read_long(gm_arena *arena, const struct source *in,
                      struct draft *d) {
    static const char *const keys[] = {"long_factor", "short_factor"};
    gm_config *c = &d->c;
    gm_rope *r = &c->rope;
    const size_t n = (size_t)(c->head_dim - c->still) / 2;
    const double original = (double)r->original_max_position;
    for (int k = 0; k < 2; k++) {
        const gm_json *list = given(in, keys[k]);
        const char *expected = gm_format(arena, "a list of %zu numbers", n);
        require(in, list && list->type == GM_JSON_ARRAY && list->length == n,
                keys[k], expected);
        double *slower = gm_alloc(arena, n, sizeof *slower);
        r->slower = slower;
        for (const gm_json *v = list->child; v; v = v->next) {
            require(in, v->type == GM_JSON_NUMBER && v->number > 0, keys[k],
                    "positive numbers");
            *slower++ = v->number;
        }
    }
    if (r->factor == 0) r->factor = (double)c->max_position / original;
    r->attention_factor = d->attention_factor;
    if (d->attention_factor < 0)
        r->attention_factor = r->factor <= 1 ? 1
            : sqrt(1 + gm_logd(r->factor) / gm_logd(original));
    if (c->limit && c->limit <= r->original_max_position) return;
    c->limit = r->original_max_position;
    c->limited_by = "original_max_position_embeddings";
}

/* How many elements of a head are turned: all, but in Phi-3. */
static void read_partial(const struct source *s, const struct source *in,
                         struct draft *d) {
    static const char key[] = "partial_rotary_factor";
    const bool phi = d->c.arch == GM_PHI3;
    const long turned = (long)((double)d->c.head_dim * d->rotary);
    require(given(in, key) ? in : s,
            phi ? turned > 0 && turned % 2 == 0 : d->rotary == 1, key,
            phi ? "an even number of a head's elements" : "1");
    d->c.still = d->c.head_dim - turned;
}

/* Two spellings: rope_scaling with rope_theta beside it, its type under
   rope_type or type, and the newer rope_parameters with everything inside.
   A rope_scaling that is there and not empty wins. */
static void read_rope(gm_arena *arena, const struct source *s,
                      struct draft *d) {
    gm_rope *r = &d->c.rope;
    const gm_json *old = given(s, "rope_scaling");
    if (old && old->type == GM_JSON_OBJECT && !old->child) old = NULL;
    const char *key = old ? "rope_scaling" : "rope_parameters";
    const struct source in = {s->path,
                              old ? "rope_scaling." : "rope_parameters.",
                              given(s, key), false};
    require(s, !in.object || in.object->type == GM_JSON_OBJECT, key,
            "an object");
    for (const gm_json *v = in.object ? in.object->child : NULL; v; v = v->next)
        require(&in, v->type != GM_JSON_OBJECT, v->key,
                "one set of parameters for all layers");
    key = given(&in, "rope_type") ? "rope_type" : "type";
    if (given(&in, key))
        r->kind = (gm_rope_kind)read_word(&in, key, given(&in, key),
                                          holds[ROPES]);
    if (r->kind != GM_ROPE_DEFAULT)
        r->original_max_position = d->c.max_position;
    r->truncate = r->kind == GM_ROPE_YARN;
    if (r->kind == GM_ROPE_LONG) r->factor = 0;
    require(&in, d->c.arch != GM_PHI3 || r->kind == GM_ROPE_DEFAULT ||
            r->kind == GM_ROPE_LONG, key, "\"default\" or \"longrope\"");
    if (!given(&in, "rope_theta")) read_fields(s, THETA, d);
    read_fields(&in, DEFAULT << r->kind, d);
    require(&in, r->kind != GM_ROPE_LLAMA3 ||
            r->high_freq_factor > r->low_freq_factor, "high_freq_factor",
            "more than low_freq_factor");
    if (r->kind == GM_ROPE_YARN) {
        if (r->beta_fast <= 0) r->beta_fast = 32;   /* 0 means the default */
        if (r->beta_slow <= 0) r->beta_slow = 1;
        r->attention_factor = yarn_attention(d);
    }
    /* where it stands outside as well, that one counts; Phi-3 has it always */
    if (r->kind != GM_ROPE_DEFAULT && d->c.arch == GM_PHI3)
        r->original_max_position = 4096;
    if ((r->kind == GM_ROPE_LLAMA3 || r->kind == GM_ROPE_YARN ||
         r->kind == GM_ROPE_LONG) &&
        gm_json_get(s->object, "original_max_position_embeddings"))
        read_fields(s, OUTSIDE, d);
    read_partial(s, &in, d);
    if (r->kind == GM_ROPE_LONG) read_long(arena, &in, d);
    require(&in, r->kind != GM_ROPE_DYNAMIC || d->c.head_dim > 2, key,
            "another type for a head_dim of 2");
}

static struct source config_read(gm_arena *arena, const char *dir,
                                 bool quantized, gm_config *out) {
    struct draft d = {.full_layers = 28, .attention_factor = -1, .rotary = 1,
                      .causal = true};
    struct source s = {gm_format(arena, "%s/config.json", dir), "", NULL,
                       quantized};
    s.object = gm_json_read(arena, s.path, true);
    if (s.object->type != GM_JSON_OBJECT)
        gm_bad(s.path, "expected an object");
    read_fields(&s, ARCH, &d);
    d.c = defaults[d.c.arch];
    if (d.c.norm_eps == 0) d.c.norm_eps = 1e-6;
    d.c.rope = (gm_rope){.theta = 10000, .factor = 1, .attention_factor = 1};
    d.window = d.c.arch == GM_LLAMA;
    read_model(&s, &d);
    read_windows(&s, &d);
    read_rope(arena, &s, &d);
    *out = d.c;
    return s;
}

void gm_config_read(gm_arena *arena, const char *dir, gm_config *out) {
    config_read(arena, dir, false, out);
}

/* ------------------------------------------------------ rotary frequencies */

/* The base in a text of T tokens: theta; dynamic, T > max_position:
   theta (factor T / max_position - factor + 1)^(head_dim / (head_dim - 2)). */
static double rope_theta(const gm_config *c, long T) {
    const gm_rope *r = &c->rope;
    const double n = (double)c->head_dim;
    if (r->kind != GM_ROPE_DYNAMIC || T <= c->max_position) return r->theta;
    double stretch = r->factor * (double)T / (double)c->max_position;
    return r->theta * gm_expd(gm_logd(stretch - (r->factor - 1)) * n / (n - 2));
}

/* YaRN's correction: the (real) index i at which angles make `rotations` turns
   within the original context. */
static double yarn_index(const gm_config *c, double rotations) {
    double length = (double)c->rope.original_max_position;
    return (double)c->head_dim *
           gm_logd(length / (rotations * 6.283185307179586)) /
           (2 * gm_logd(c->rope.theta));
}

/* YaRN (Peng et al. 2023): omega for the fast angles, omega/factor for the
   slow ones, and a linear ramp over i between the two indices. */
static float yarn_frequency(const gm_config *c, long i, float power) {
    const gm_rope *r = &c->rope;
    double low = yarn_index(c, r->beta_fast);
    double high = yarn_index(c, r->beta_slow);
    if (r->truncate) low = floor(low), high = ceil(high);
    low = low > 0 ? low : 0;
    high = high < (double)(c->head_dim - 1) ? high : (double)(c->head_dim - 1);
    if (high - low == 0) high += 0.001;
    float ramp = ((float)i - (float)low) / (float)(high - low);
    float keep = 1.0f - gm_clamp(ramp, 0, 1);
    return 1.0f / ((float)r->factor * power) * (1.0f - keep) +
           1.0f / power * keep;
}

/* Llama 3.1: wavelengths 2 pi / omega above original/low are slowed by the
   factor, those below original/high kept, in between in proportion `keep`,
   keep = (original/wavelength - low) / (high - low). */
static float llama3_frequency(const gm_rope *r, float omega) {
    const float two_pi = (float)6.283185307179586;
    float factor = (float)r->factor, low = (float)r->low_freq_factor;
    double length = (double)r->original_max_position;
    float wavelength = 1.0f / omega * two_pi;
    if (wavelength > (float)(length / r->low_freq_factor))
        return omega / factor;
    if (wavelength < (float)(length / r->high_freq_factor)) return omega;
    float keep = (1.0f / wavelength * (float)length - low) /
                 (float)(r->high_freq_factor - r->low_freq_factor);
    return (1.0f - keep) * omega / factor + keep * omega;
}

/* omega_i in the float32 arithmetic of transformers: at position 2000 a unit
   in the last place of omega_1 turns the angle by 1e-4, so the checkpoint means
   these floats and no better ones. */
float gm_rope_frequency(const gm_config *c, long T, long i) {
    const float exponent = (float)(2 * i) / (float)(c->head_dim - c->still);
    const float power = (float)gm_expd((double)exponent *
                                       gm_logd(rope_theta(c, T)));
    switch (c->rope.kind) {
    case GM_ROPE_LINEAR: return 1.0f / power / (float)c->rope.factor;
    case GM_ROPE_LLAMA3: return llama3_frequency(&c->rope, 1.0f / power);
    case GM_ROPE_YARN: return yarn_frequency(c, i, power);
    case GM_ROPE_LONG: return 1.0f / ((float)c->rope.slower[i] * power);
    case GM_ROPE_DEFAULT: case GM_ROPE_DYNAMIC: break;
    }
    return 1.0f / power;
}

/* -------------------------------------------------- tensors of a checkpoint */

static const char embedding_name[] = "model.embed_tokens.weight";
static const char final_norm_name[] = "model.norm.weight";
static const char head_name[] = "lm_head.weight";

/* The tensors of a block, first the seven linears' weights: shape [rows,
   columns], or [rows] of a VECTOR; the flag of gm_config without which a model
   has none of it; its place in gm_block. */
enum size { VECTOR, WIDTH, INNER, QUERY, KEY, HEAD };
enum { ALWAYS, NAME = 80 };
#define IF(member) offsetof(gm_config, member)
#define OF(member) offsetof(gm_block, member)
static const struct part {
    const char *name;
    enum size rows, columns;
    size_t flag, at;
} parts[] = {
    {"self_attn.q_proj.weight", QUERY, WIDTH, ALWAYS, OF(w[GM_Q])},
    {"self_attn.k_proj.weight", KEY, WIDTH, ALWAYS, OF(w[GM_K])},
    {"self_attn.v_proj.weight", KEY, WIDTH, ALWAYS, OF(w[GM_V])},
    {"self_attn.o_proj.weight", WIDTH, QUERY, ALWAYS, OF(w[GM_O])},
    {"mlp.gate_proj.weight", INNER, WIDTH, ALWAYS, OF(w[GM_GATE])},
    {"mlp.up_proj.weight", INNER, WIDTH, ALWAYS, OF(w[GM_UP])},
    {"mlp.down_proj.weight", WIDTH, INNER, ALWAYS, OF(w[GM_DOWN])},
    {"self_attn.q_proj.bias", QUERY, VECTOR, IF(qkv_bias), OF(bias[GM_Q])},
    {"self_attn.k_proj.bias", KEY, VECTOR, IF(qkv_bias), OF(bias[GM_K])},
    {"self_attn.v_proj.bias", KEY, VECTOR, IF(qkv_bias), OF(bias[GM_V])},
    {"self_attn.o_proj.bias", WIDTH, VECTOR, IF(o_bias), OF(bias[GM_O])},
    {"mlp.gate_proj.bias", INNER, VECTOR, IF(mlp_bias), OF(bias[GM_GATE])},
    {"mlp.up_proj.bias", INNER, VECTOR, IF(mlp_bias), OF(bias[GM_UP])},
    {"mlp.down_proj.bias", WIDTH, VECTOR, IF(mlp_bias), OF(bias[GM_DOWN])},
    {"input_layernorm.weight", WIDTH, VECTOR, ALWAYS, OF(norm1)},
    {"post_attention_layernorm.weight", WIDTH, VECTOR, ALWAYS, OF(norm2)},
    {"self_attn.q_norm.weight", HEAD, VECTOR, IF(qk_norm), OF(q_norm)},
    {"self_attn.k_norm.weight", HEAD, VECTOR, IF(qk_norm), OF(k_norm)},
};
enum { PARTS = sizeof parts / sizeof *parts };
_Static_assert(offsetof(gm_config, arch) == ALWAYS, "no flag is at 0");

static long size_of(const gm_config *c, enum size which) {
    const long size[] = {1, c->d, c->ff, c->heads * c->head_dim,
                         c->kv_heads * c->head_dim, c->head_dim};
    return size[which];
}

void gm_linear_shape(const gm_config *c, int j, long *out, long *in) {
    *out = size_of(c, parts[j].rows);
    *in = size_of(c, parts[j].columns);
}

long gm_tallest(const gm_config *c) {
    long most = 0;
    for (int j = 0; j < GM_LINEARS; j++)
        if (size_of(c, parts[j].rows) > most) most = size_of(c, parts[j].rows);
    return most;
}

/* Where the part goes, or NULL: such a model has none of it. */
static gm_real **place(const gm_config *c, const struct part *p, gm_block *b) {
    bool has = p->flag == ALWAYS || *(const bool *)((const char *)c + p->flag);
    return has ? (gm_real **)((char *)b + p->at) : NULL;
}

/* A tensor by its name, or without "model.": a model without head is stored so
   (Qwen3-Embedding). */
static const gm_tensor *find(const gm_model *model, const char *name) {
    const gm_tensor *t = gm_tensor_find(&model->tensors, name);
    const size_t n = strlen("model.");
    if (t || strncmp(name, "model.", n) != 0) return t;
    return gm_tensor_find(&model->tensors, name + n);
}

/* "model.layers.3.mlp.up_proj.weight" */
static const gm_tensor *part_tensor(const gm_model *model, long layer,
                                    const struct part *p, char name[NAME]) {
    snprintf(name, NAME, "model.layers.%ld.%s", layer, p->name);
    return find(model, name);
}

/* Where NAME.weight is missing, what else of NAME is there: every tool that
   changes weights leaves something. */
_Noreturn static void missing(const gm_model *model, const char *name) {
    const size_t n = (size_t)(strrchr(name, '.') + 1 - name);
    const gm_tensor *t = model->tensors.tensor, *end = t + model->tensors.count;
    while (t < end && (strncmp(t->name, name, n) != 0 ||
                       gm_name_matches("weight,bias", t->name + n)))
        t++;
    if (t < end)
        gm_bad(model->dir, "tensor %s is missing, but %s is there: weights "
               "that are quantized or changed already; " INSTEAD, name,
               t->name);
    gm_bad(model->dir, "tensor %s is missing", name);
}

/* t, of this name, must be there, as floats of shape [rows, columns], or [rows]
   when columns is 0.  It is used. */
static void check_tensor(const gm_model *model, const char *name,
                         const gm_tensor *t, long rows, long columns) {
    char expected[64];
    if (!t) missing(model, name);
    if (t->dtype > GM_F64)
        gm_bad(name, "expected F32, F16, BF16 or F64, found %s in %s: weights "
               "that are quantized already; " INSTEAD, gm_type_of(t), t->path);
    model->used[t - model->tensors.tensor] = true;
    snprintf(expected, sizeof expected, columns ? "[%ld, %ld]" : "[%ld]", rows,
             columns);
    if (strcmp(expected, gm_shape_of(t).text) != 0)
        gm_bad(name, "expected %s, found %s in %s", expected,
               gm_shape_of(t).text, t->path);
}

/* A bias of zeros, as AutoGPTQ wrote beside every linear. */
static bool adds_nothing(const gm_tensor *t) {
    enum { N = 1024 };
    const bool bias = strcmp(strrchr(t->name, '.'), ".bias") == 0;
    if (!bias || t->dtype > GM_F64) return false;
    const int64_t n = (int64_t)(t->bytes / gm_dtype_bytes(t->dtype));
    gm_real x[N];
    bool zeros = true;
    for (int64_t i = 0; i < n && zeros; i += N) {
        const long some = gm_min(N, n - i);
        gm_tensor_read(t, i, some, x);
        for (long k = 0; k < some; k++) zeros = zeros && x[k] == 0;
    }
    return zeros;
}

/* Every part of a block that the configuration has is there, and none that it
   has not: a bias we would leave out is a different model. */
static void check_block(const gm_model *model, long layer) {
    const gm_config *c = &model->config;
    gm_block none;
    char name[NAME];
    for (const struct part *p = parts; p < parts + PARTS; p++) {
        const gm_tensor *t = part_tensor(model, layer, p, name);
        if (place(c, p, &none))
            check_tensor(model, name, t, size_of(c, p->rows),
                         p->columns ? size_of(c, p->columns) : 0);
        else if (t && !adds_nothing(t))
            gm_bad(model->dir, "tensor %s is there, but not in the model that "
                   "config.json describes", name);
    }
}

/* Phi-3 stores the linears of one input joined, one below the other: here each
   is a tensor of its own, with the name it has elsewhere. */
static void split_joined(gm_arena *arena, gm_model *model) {
    static const struct { const char *name; int first, end; } joints[] = {
        {"self_attn.qkv_proj.weight", GM_Q, GM_O},
        {"mlp.gate_up_proj.weight", GM_GATE, GM_DOWN}};
    const gm_config *c = &model->config;
    gm_tensors *all = &model->tensors;
    long count = all->count;
    const size_t most = 3 * (size_t)count;
    gm_tensor *out = gm_alloc(arena, most, sizeof *out);
    memcpy(out, all->tensor, (size_t)count * sizeof *out);
    for (long i = 0; i < 2 * c->layers; i++) {
        const char *name = gm_format(arena, "model.layers.%ld.%s", i / 2,
                                     joints[i % 2].name);
        const gm_tensor *t = find(model, name);
        const int first = joints[i % 2].first, end = joints[i % 2].end;
        long rows = 0;
        int64_t at = t ? t->at : 0;
        for (int j = first; j < end; j++) rows += size_of(c, parts[j].rows);
        check_tensor(model, name, t, rows, c->d);
        for (int j = first; j < end; j++) {
            gm_tensor *part = j > first ? out + count++
                                        : out + (t - all->tensor);
            *part = *t;
            part->joined = t->name;
            part->name = gm_format(arena, "model.layers.%ld.%s", i / 2,
                                   parts[j].name);
            part->shape[0] = size_of(c, parts[j].rows);
            part->bytes = t->bytes / (size_t)rows * (size_t)part->shape[0];
            part->at = at;
            at += (int64_t)part->bytes;
        }
    }
    all->tensor = out;
    all->count = count;
    gm_tensors_sort(all);
    model->used = gm_alloc(arena, most, sizeof *model->used);
}

/* A tied head is the embedding, whichever of the two is stored; where both are,
   they may differ, and each is what it is. */
void gm_model_open_as(gm_arena *arena, const char *dir, gm_maker *make,
                      gm_model *out) {
    *out = (gm_model){.dir = gm_format(arena, "%s", dir)};
    gm_config *c = &out->config;
    char name[NAME];
    const struct source s = config_read(arena, dir, make, c);
    gm_checkpoint_open(arena, dir, &out->tensors);
    if (make && !make(arena, s.object, out)) refuse_quantized(&s);
    out->used = gm_alloc(arena, (size_t)out->tensors.count, sizeof *out->used);
    if (c->arch == GM_PHI3) split_joined(arena, out);
    out->embedding = find(out, embedding_name);
    out->head = find(out, head_name);
    if (c->tied && !out->embedding) out->embedding = out->head;
    if (c->tied && !out->head) out->head = out->embedding;
    c->tied = out->head == out->embedding;
    check_tensor(out, embedding_name, out->embedding, c->vocab, c->d);
    check_tensor(out, final_norm_name, find(out, final_norm_name), c->d, 0);
    check_tensor(out, head_name, out->head, c->vocab, c->d);
    for (long l = 0; l < c->layers; l++) check_block(out, l);
    if (part_tensor(out, c->layers, parts, name))
        gm_bad(dir, "tensor %s is there, but config.json says "
               "num_hidden_layers %ld", name, c->layers);
}

void gm_model_open(gm_arena *arena, const char *dir, gm_model *out) {
    gm_model_open_as(arena, dir, NULL, out);
}

const char *gm_model_dir(gm_arena *arena, const char *path) {
    const char *ref = gm_format(arena, "%s/refs/main", path);
    if (!gm_exists(gm_format(arena, "%s/snapshots", path)) ||
        gm_exists(gm_format(arena, "%s/config.json", path)))
        return path;
    if (!gm_exists(ref))
        gm_bad(path, "a cache of the hub without refs/main; give a directory "
               "of its snapshots");
    char *revision = gm_regular_text(arena, ref, NULL);
    revision[strcspn(revision, "\r\n")] = 0;
    gm_name_check(ref, "snapshot", revision);
    return gm_format(arena, "%s/snapshots/%s", path, revision);
}

void gm_model_hash(gm_model *model) {
    if (!*model->hash) gm_tensors_hash(&model->tensors, model->hash);
}

void gm_model_close(gm_model *model) { gm_tensors_close(&model->tensors); }

const char *gm_linear_name(gm_arena *arena, long layer, int j) {
    int length = (int)(strlen(parts[j].name) - strlen(".weight"));
    return gm_format(arena, "model.layers.%ld.%.*s", layer, length,
                     parts[j].name);
}

const gm_tensor *gm_linear_tensor(const gm_model *model, long layer, int j) {
    char name[NAME];
    return part_tensor(model, layer, &parts[j], name);
}

void gm_block_alloc(gm_arena *arena, const gm_config *c, gm_block *out) {
    *out = (gm_block){0};
    for (const struct part *p = parts; p < parts + PARTS; p++) {
        gm_real **to = place(c, p, out);
        size_t rows = (size_t)size_of(c, p->rows);
        size_t columns = (size_t)size_of(c, p->columns);
        if (to) *to = gm_alloc(arena, rows, columns * sizeof **to);
    }
}

void gm_grad_alloc(gm_arena *arena, const gm_config *c, gm_block *out) {
    gm_block_alloc(arena, c, out);
    memset(out->bias, 0, sizeof out->bias);
    out->norm1 = out->norm2 = out->q_norm = out->k_norm = NULL;
}

void gm_block_load(const gm_model *model, long layer, gm_block *out) {
    const gm_config *c = &model->config;
    char name[NAME];
    for (const struct part *p = parts; p < parts + PARTS; p++) {
        gm_real **to = place(c, p, out);
        long count = size_of(c, p->rows) * size_of(c, p->columns);
        if (to)
            gm_tensor_read(part_tensor(model, layer, p, name), 0, count, *to);
    }
}

void gm_embed(const gm_model *model, const int32_t *tokens, long count,
              gm_real *h) {
    const long d = model->config.d;
    for (long r = 0; r < count; r++) {
        if (tokens[r] < 0 || tokens[r] >= model->config.vocab)
            gm_fail(GM_EINPUT, "token %ld is %d, expected 0..%ld", r,
                    tokens[r], model->config.vocab - 1);
        gm_tensor_read(model->embedding, tokens[r] * d, d, h + r * d);
    }
}

void gm_states_check(const gm_model *model, long layer, const char *what,
                     const gm_real *x, long rows, long columns) {
    for (long i = 0; i < rows * columns; i++)
        if (!isfinite(x[i]))
            gm_bad(model->dir, "block %ld, %s: element [%ld, %ld] is %s, "
                   "expected a finite number", layer, what, i / columns,
                   i % columns, isnan(x[i]) ? "NaN" : "infinite");
}

bool gm_weighs(long n, const gm_real *x) {
    return isnormal((gm_real)gm_dot(n, x, x));
}

void gm_states_weigh(const gm_model *model, long layer, const gm_real *x,
                     long rows, long columns) {
    bool zero = true;
    for (long t = 0; t < rows; t++, x += columns) {
        if (gm_weighs(columns, x)) return;
        for (long i = 0; i < columns; i++) zero = zero && x[i] == 0;
    }
    if (!zero)
        gm_bad(model->dir, "block %ld, output: expected tokens whose squared "
               "norm is an ordinary number, found none", layer);
}

void gm_head_load(gm_arena *arena, const gm_model *model, gm_head *out) {
    const gm_config *c = &model->config;
    gm_real *norm = gm_alloc(arena, (size_t)c->d, sizeof *norm);
    gm_real *w = gm_alloc(arena, (size_t)c->vocab, (size_t)c->d * sizeof *w);
    gm_tensor_read(find(model, final_norm_name), 0, c->d, norm);
    gm_tensor_read(model->head, 0, c->vocab * c->d, w);
    *out = (gm_head){norm, w, c->d, c->vocab, c->norm_eps};
}
