/* foreign.c: allocations that other tools made, told apart by their content.
   Every format becomes a list of rules, a name or a pattern and what it gives,
   resolved as the tool itself resolves it.  Where each format and its rules are
   defined: docs/audit.md.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include <strings.h>

enum { MOST = 1 << 16 };        /* weights in a group */

/* What a rule gives.  A weight has eighths / 8 bits of code; `block` weights
   along a row (0: the whole row) share `extra` bits of scales and zeros. */
typedef struct {
    const char *type;
    int eighths;
    long block;
    int extra;
    const char *fallback;       /* in llama, where blocks do not divide rows */
    double all;                 /* not 0: bits a weight, scales included     */
    int64_t bytes;              /* not 0: just these                         */
    const gm_json *mixed;       /* ExLlamaV2: bits in shares of the columns  */
} kind;

typedef enum { EXACT, START, ANYWHERE } manner;
typedef struct {
    const char *name, *pattern; /* as the file has it; as it is matched      */
    manner how;
    kind gives;
    long module, hits;          /* module: of the name, or -1                */
} rule;

typedef struct {
    gm_arena *arena;
    const char *path;
    const gm_scores *s;
    const gm_json *root;
    gm_foreign *out;
    rule *rules;
    size_t count, room;
    bool last;                  /* not the first that matches decides        */
    bool *outside;              /* [M] not in the blocks that are quantized  */
    kind otherwise;
    const char **tensor;        /* [M] names that patterns see               */
    const gm_named *names;      /* [M] of the modules, in order              */
} reading;

#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
/* Types of a GGUF file: gguf-py/gguf/constants.py, ggml/src/ggml-common.h. */
static const kind llama[] = {
    {"q1_0", 8, 128, 16, 0}, {"q2_0", 16, 64, 16, "q4_0"},
    {"q4_0", 32, 32, 16, "f16"}, {"q4_1", 32, 32, 32, 0},
    {"q5_0", 40, 32, 16, "f16"}, {"q5_1", 40, 32, 32, "f16"},
    {"q8_0", 64, 32, 16, "f16"}, {"q2_K", 16, 256, 160, "q4_0"},
    {"q3_K", 24, 256, 112, "q4_0"}, {"q4_K", 32, 256, 128, "q5_0"},
    {"q5_K", 40, 256, 128, "q5_1"}, {"q6_K", 48, 256, 144, "q8_0"},
    {"iq1_s", 8, 256, 144, "iq4_nl"}, {"iq1_m", 8, 256, 192, "iq4_nl"},
    {"iq2_xxs", 16, 256, 16, "iq4_nl"}, {"iq2_xs", 16, 256, 80, "iq4_nl"},
    {"iq2_s", 16, 256, 144, "iq4_nl"}, {"iq3_xxs", 24, 256, 16, "iq4_nl"},
    {"iq3_s", 24, 256, 112, "iq4_nl"}, {"iq4_xs", 32, 256, 64, "iq4_nl"},
    {"iq4_nl", 32, 32, 16, "f16"}, {"tq1_0", 13, 256, 16, "q4_0"},
    {"tq2_0", 16, 256, 16, "q4_0"}, {"mxfp4", 32, 32, 8, 0},
    {"nvfp4", 32, 64, 32, 0}, {"f16", 128, 1, 0, 0}, {"bf16", 128, 1, 0, 0},
    {"f32", 256, 1, 0, 0}, {NULL}};

/* ModelOpt's quant_algo; block: where the file has no group_size. */
static const kind modelopt[] = {
    {"FP8", 64, 1, 0}, {"FP8_PER_CHANNEL_PER_TOKEN", 64, 1, 0},
    {"W8A16", 64, 1, 0}, {"W8A8_SQ_PER_CHANNEL", 64, 1, 0},
    {"NVFP4", 32, 16, 8}, {"NVFP4_AWQ", 32, 16, 8},
    {"W4A8_NVFP4_FP8", 32, 32, 8}, {"W4A8_MXFP4_FP8", 32, 32, 8},
    {"W4A16_AWQ", 32, 128, 16}, {"W4A8_AWQ", 32, 128, 16}, {NULL}};

/* ------------------------------------------------------------------- values */

_Noreturn static void wrong(const reading *r, const char *name,
                            const char *key, const char *expected,
                            const gm_json *found) {
    gm_bad(r->path, "%.200s: %s: expected %s, found %s", name, key, expected,
           gm_json_show(found).text);
}

/* A whole number of an object; `otherwise` where it has none, or null. */
static long number(const reading *r, const char *name, const gm_json *object,
                   const char *key, long least, long most, long otherwise) {
    const gm_json *v = gm_json_get(object, key);
    if (!v || v->type == GM_JSON_NULL) return otherwise;
    if (!v->is_integer || v->integer < least || v->integer > most)
        wrong(r, name, key, gm_format(r->arena, "a whole number from %ld to "
                                      "%ld", least, most), v);
    return (long)v->integer;
}

/* The members of what is an object, null, or not there. */
static const gm_json *members(const reading *r, const char *name,
                              const gm_json *v) {
    if (v && v->type != GM_JSON_OBJECT && v->type != GM_JSON_NULL)
        wrong(r, name, "value", "an object", v);
    return v ? v->child : NULL;
}

static kind find_kind(const reading *r, const kind *table, const char *name,
                      const char *type) {
    const kind *k = table;
    while (k->type && (!type || strcasecmp(k->type, type) != 0)) k++;
    if (!k->type)
        gm_bad(r->path, "%.200s: expected a type such as %s, found \"%.60s\"",
               name, table[table == llama ? 9 : 0].type, type ? type : "");
    return *k;
}

/* The weight as it is in the checkpoint; or so many bits and nothing else. */
static kind plain(const reading *r, long bits) {
    return (kind){gm_format(r->arena, "%ld", bits), (int)(8 * bits), 1, 0};
}

static kind as_stored(const reading *r) {
    const gm_scores *s = r->s;
    kind k = plain(r, s->bits[s->K - 1] == 32 ? 32 : 16);
    k.type = "as stored";
    return k;
}

/* {"bits", "group_size", ...}, where missing as `base` has it.  GPTQ's layout
   has a scale of 16 bits and a zero in a group, MLX' two of 16; formats of the
   kind of MX a scale of 8. */
static kind grouped(const reading *r, const char *name, const gm_json *v,
                    const kind *base, bool mlx) {
    const gm_json *mode = gm_json_get(v, mlx ? "mode" : "data_type");
    const char *text = mode && mode->type == GM_JSON_STRING ? mode->string : "";
    const long b = number(r, name, v, "bits", 1, 32, base->eighths / 8);
    long g = number(r, name, v, "group_size", mlx ? 1 : -1, MOST, base->block);
    const bool mx = strstr(text, "mx") || strstr(text, "nv");
    if (v->type != GM_JSON_OBJECT) wrong(r, name, "value", "an object", v);
    if (!b) wrong(r, name, "bits", "a whole number", gm_json_get(v, "bits"));
    if (b >= 16) return as_stored(r);
    if (g < 1) g = 0;
    kind k = plain(r, b);
    k.type = gm_format(r->arena, "%ld bits, group %ld%s%s", b, g,
                       *text ? ", " : "", text);
    k.block = g;
    k.extra = mx ? 8 : mlx ? 32 : 16 + (int)b;
    return k;
}

/* -------------------------------------------------------------------- rules */

static long module_of(const reading *r, const char *name) {
    return gm_names_find(r->names, r->s->M, name);
}

static rule *add(reading *r, const char *name, manner how, kind gives) {
    if (r->count == r->room || !r->rules)
        r->rules = gm_grow(r->arena, r->rules, r->count, &r->room,
                           sizeof *r->rules);
    if (gm_control(name))
        gm_bad(r->path, "a name with control character 0x%02X",
               (unsigned char)*gm_control(name));
    rule *at = r->rules + r->count++;
    *at = (rule){name, name, how, gives, module_of(r, name), 0};
    return at;
}

/* The pattern of a name in which * stands for any characters. */
static const char *starred(const reading *r, const char *name) {
    char *out = gm_alloc(r->arena, 2 * strlen(name) + 1, 1), *to = out;
    for (; *name; name++) {
        if (ispunct((unsigned char)*name) && *name != '_')
            *to++ = *name == '*' ? '.' : '\\';
        *to++ = *name;
    }
    return out;
}

/* The budget that the file states, an average. */
static void state(reading *r, const char *key, gm_convention in) {
    const gm_json *v = gm_json_get(r->root, key);
    if (!v || v->type == GM_JSON_NULL) return;
    if (v->type != GM_JSON_NUMBER || !(v->number > 0 && v->number <= 64))
        wrong(r, "budget", key, "bits above 0, at most 64", v);
    r->out->target = gm_format(r->arena, "%.11g", v->number);
    r->out->in = in;
}

/* ------------------------------------------------------------- the formats */

/* ExLlamaV2: {"strategy": {"model.layers.0.mlp": {"down_proj": {...}, ...}}} */
static void read_exl2(reading *r, const gm_json *at) {
    const gm_json *part = members(r, "strategy", at), *v;
    for (; part; part = part->next)
        for (v = members(r, part->key, part); v; v = v->next)
            if (v->type == GM_JSON_OBJECT)
                add(r, gm_format(r->arena, "%s.%s", part->key, v->key), EXACT,
                    (kind){.mixed = v});
    state(r, "bits", GM_EBITS);
}

/* ExLlamaV3: {"tensor_storage": {NAME: {"bits_per_weight", "stored_tensors":
   {TENSOR: {"n_bytes"}}}}} */
static void read_exl3(reading *r, const gm_json *at) {
    const gm_json *v = members(r, "tensor_storage", at);
    for (; v; v = v->next) {
        const gm_json *t = gm_json_get(v, "stored_tensors");
        const long b = number(r, v->key, v, "bits_per_weight", 1, 8, 0);
        kind k = b ? plain(r, b) : as_stored(r);
        for (t = members(r, v->key, t); t; t = t->next)
            k.bytes += number(r, t->key, t, "n_bytes", 0, 1L << 40, 0);
        add(r, v->key, EXACT, k);
    }
    state(r, "bits", GM_BITS);
}

/* RCO: {"assignment": {NAME: BITS}, "bitwidth_map": {BITS: bits with scales}};
   its budget counts the latter. */
static void read_rco(reading *r, const gm_json *at) {
    const gm_json *map = gm_json_get(r->root, "bitwidth_map");
    const gm_json *v = members(r, "assignment", at);
    for (; v; v = v->next) {
        if (!v->is_integer || v->integer < 1 || v->integer > 32)
            wrong(r, v->key, "bits", "a whole number from 1 to 32", v);
        kind k = plain(r, (long)v->integer);
        const gm_json *all = gm_json_get(map, k.type);
        if (all && !(all->number > 0 && all->number <= 64))
            wrong(r, "bitwidth_map", k.type, "bits above 0, at most 64", all);
        k.all = all ? all->number : 0;
        add(r, v->key, EXACT, k);
    }
    state(r, "target_avg_bits", map ? GM_EBITS : GM_BITS);
}

/* ModelOpt: {"quant_algo": "MIXED_PRECISION", "quantized_layers": {NAME:
   {"quant_algo", "group_size"}}}, all else as stored; or one algorithm, and
   "exclude_modules" ("ignore" in config.json) with *. */
static kind algorithm(const reading *r, const char *name, const gm_json *v) {
    const gm_json *algo = gm_json_get(v, "quant_algo");
    kind k = find_kind(r, modelopt, name, algo ? algo->string : NULL);
    if (k.extra) k.block = number(r, name, v, "group_size", 1, MOST,
                                  k.block);
    return k;
}

static void read_modelopt(reading *r, const gm_json *at) {
    const gm_json *v = gm_json_get(at, "quantized_layers");
    if (gm_json_is(gm_json_get(at, "quant_algo"), "MIXED_PRECISION")) {
        for (v = members(r, "quantized_layers", v); v; v = v->next)
            add(r, v->key, EXACT, algorithm(r, v->key, v));
        return;
    }
    r->otherwise = algorithm(r, "quantization", at);
    v = gm_json_get(at, "exclude_modules");
    if (!v) v = gm_json_get(at, "ignore");
    for (v = v ? v->child : NULL; v; v = v->next) {
        if (v->type != GM_JSON_STRING)
            wrong(r, "exclude_modules", "name", "a text", v);
        rule *new = add(r, v->string, START, as_stored(r));
        new->pattern = gm_format(r->arena, "%s$", starred(r, v->string));
    }
}

/* ModelOpt's print_quant_summary, a line a quantizer.  (2, 1) bit: exponent
   and mantissa beside a sign.  A block's scale: 16 bits, or 8 by scale_bits. */
static kind quantizer(const reading *r, long line, const char *text) {
    static const char form[] =
        "(disabled|(unsigned )?([1-9]|[12]\\d|3[0-2]|\\(\\d, \\d\\)) bit)\\b"
        "(?!.*block_sizes=\\{(?!(?=[^}]*-1: )((-1: [1-9]\\d{0,4}|'type': '\\w+'"
        "|'scale_bits': \\((4, 3|8, 0)\\)|'four_over_six': True)(, |(?=\\})))+"
        "\\})).*\\)\\s*$";
    const char *at = text + strcspn(text, "(0123456789");
    const char *sizes = strstr(text, "block_sizes={");
    long bits = 0, low = 0, steps = 1 << 24;
    if (!gm_pattern_matches(r->path, form, text, false, &steps))
        gm_bad(r->path, "line %ld: expected disabled, 4 bit or (2, 1) bit, in "
               "blocks such as {-1: 128}, found \"%.80s\"", line, text);
    if (sscanf(at, "(%ld, %ld", &bits, &low) == 2) bits += 1 + low;
    else sscanf(at, "%ld", &bits);
    if (*text == 'd' || bits >= 16) return as_stored(r);
    if (!sizes) return plain(r, bits);
    sscanf(strstr(sizes, "-1: "), "-1: %ld", &low);
    return (kind){gm_format(r->arena, "%ld bits, group %ld", bits, low),
                  (int)(8 * bits), low, strstr(sizes, "'scale_") ? 8 : 16};
}

/* Of quantizers that a weight passes one after another .0 makes its codes. */
static void read_summary(reading *r, char *text) {
    long found = 0, said = -1, n = 1;
    for (char *line; (line = strsep(&text, "\n")); n++) {
        const char *what = strstr(line, "Quantizer(");
        char *end = strstr(line, ".weight_quantizer");
        found += what != NULL;
        if (!what) sscanf(line, "%9ld TensorQuantizers found", &said);
        if (!what || !end || (end[17] != ' ' && strncmp(end + 17, ".0 ", 3)))
            continue;
        *end = 0;
        add(r, line, EXACT, quantizer(r, n, what + 10));
    }
    if (found != said)
        gm_bad(r->path, "expected the %ld quantizers of its last line, found "
               "%ld", said, found);
    const char **name = gm_alloc(r->arena, r->count, sizeof *name);
    for (size_t i = 0; i < r->count; i++) name[i] = r->rules[i].name;
    gm_names_sort(r->arena, r->path, name, (long)r->count);
}

/* MLX: {"bits", "group_size", NAME: {"bits", "group_size"} or false or true} */
static void read_mlx(reading *r, const gm_json *at) {
    const kind mlx = {"", 32, 64, 0};
    r->otherwise = grouped(r, "quantization", at, &mlx, true);
    r->otherwise.fallback = "f16";      /* rows that groups do not divide */
    for (const gm_json *v = at->child; v; v = v->next) {
        if (v->type == GM_JSON_OBJECT)
            add(r, v->key, EXACT, grouped(r, v->key, v, &mlx, true));
        if (v->type == GM_JSON_BOOL)
            add(r, v->key, EXACT, v->number != 0 ? r->otherwise : as_stored(r));
    }
}

/* GPTQModel: {"bits", "group_size", "dynamic": {"+:REGEX": {"bits", ...},
   "-:REGEX": {}}}: from the name's start on, those with - first. */
static void read_gptqmodel(reading *r, const gm_json *at) {
    const kind base = {"", 0, 128, 0};
    const gm_json *all = gm_json_get(at, "dynamic");
    r->otherwise = grouped(r, "bits", at, &base, false);
    for (int keeps = 1; keeps >= 0; keeps--)
        for (const gm_json *v = members(r, "dynamic", all); v; v = v->next) {
            const bool negative = strncmp(v->key, "-:", 2) == 0;
            if (negative != (keeps == 1)) continue;
            rule *new = add(r, v->key, START, negative ? as_stored(r) :
                            grouped(r, v->key, v, &r->otherwise, false));
            if (negative || strncmp(v->key, "+:", 2) == 0) new->pattern += 2;
        }
}

static void set_outside(reading *r, const char *blocks) {
    char *rest = gm_format(r->arena, "%s", blocks);
    for (char *block; (block = strsep(&rest, ","));)
        for (long m = 0; m < r->s->M; m++)
            if (strncmp(r->s->name[m], block, strlen(block)) == 0)
                r->outside[m] = false;
}

/* AutoRound, as exported: {"bits", ..., "extra_config": {NAME or REGEX: {...}},
   "block_name_to_quantize": "A,B" or list}.  A whole name comes before every
   pattern; patterns go to modules outside the blocks only if none inside
   matches. */
static void read_autoround(reading *r, const gm_json *at) {
    const kind base = {"", 32, 128, 0};
    const gm_json *all = gm_json_get(at, "extra_config");
    const gm_json *blocks = gm_json_get(at, "block_name_to_quantize");
    if (!blocks) blocks = gm_json_get(at, "to_quant_block_names");
    r->otherwise = grouped(r, "bits", at, &base, false);
    for (int whole = 1; whole >= 0; whole--)
        for (const gm_json *v = members(r, "extra_config", all); v; v = v->next)
            if ((module_of(r, v->key) >= 0) == (whole == 1) &&
                (whole || v->type != GM_JSON_OBJECT || v->length))
                add(r, v->key, whole ? EXACT : ANYWHERE,
                    grouped(r, v->key, v, &r->otherwise, false));
    if (!blocks || blocks->type == GM_JSON_NULL) return;
    memset(r->outside, true, (size_t)r->s->M * sizeof *r->outside);
    if (blocks->type == GM_JSON_STRING) set_outside(r, blocks->string);
    else if (blocks->type != GM_JSON_ARRAY)
        wrong(r, "block_name_to_quantize", "value", "a text or a list", blocks);
    for (const gm_json *v = blocks->child; v; v = v->next) {
        if (v->type != GM_JSON_STRING)
            wrong(r, "block_name_to_quantize", "name", "a text", v);
        set_outside(r, v->string);
    }
}

/* AutoRound's layer_config: {NAME or part or REGEX: {"bits", ...} or "W4A16"}.
   A name that is none of the model's becomes a pattern in which a dot is one,
   but before *; the last that matches decides, also over whole names. */
static const char *standard(const reading *r, const char *name) {
    const bool regex = strpbrk(name, "^$|()[]?+") || strstr(name, ".*");
    char *out = gm_alloc(r->arena, 2 * strlen(name) + 1, 1), *to = out;
    for (const char *c = name; *c; c++) {
        if (regex ? *c == '.' && c[1] != '*' : ispunct((unsigned char)*c) &&
            *c != '_')
            *to++ = '\\';
        *to++ = *c;
    }
    return out;
}

static void read_layers(reading *r, const gm_json *at) {
    const kind base = {"", 32, 128, 0};
    r->last = true;
    r->otherwise = grouped(r, "default", &(gm_json){.type = GM_JSON_OBJECT},
                           &base, false);
    for (int whole = 1; whole >= 0; whole--)
        for (const gm_json *v = at->child; v; v = v->next) {
            long b = 0, act = 0;
            if ((module_of(r, v->key) >= 0) != (whole == 1)) continue;
            kind k = r->otherwise;
            if (v->type == GM_JSON_STRING) {
                if (sscanf(v->string, "W%2ldA%2ld", &b, &act) != 2 || b < 1 ||
                    strlen(v->string) > 6)
                    wrong(r, v->key, "scheme", "one such as W4A16", v);
                k = b >= 16 ? as_stored(r) : plain(r, b);
                if (b < 16) k.block = 128, k.extra = 16 + (int)b;
            } else {
                k = grouped(r, v->key, v, &base, false);
            }
            rule *new = add(r, v->key, whole ? EXACT : ANYWHERE, k);
            if (!whole) new->pattern = standard(r, v->key);
        }
}

/* llama.cpp: REGEX=TYPE ..., in lower case, anywhere in the tensor's name. */
static void read_llama(reading *r, char *text, const char *otherwise) {
    static const char *const part[GM_LINEARS][2] = {
        {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"},
        {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"},
        {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"}};
    for (char *word; (word = strsep(&text, " \t\r\n"));) {
        char *type = strchr(word, '=');
        if (!*word || strcmp(word, "--tensor-type") == 0) continue;
        if (!type || type == word)
            gm_bad(r->path, "expected PATTERN=TYPE such as ffn_down=q4_K, "
                   "found \"%.60s\"", word);
        rule *new = add(r, gm_format(r->arena, "%s", word), ANYWHERE,
                        find_kind(r, llama, word, type + 1));
        *type = 0;
        for (char *c = word; *c; c++) *c = (char)tolower(*c);
        new->pattern = word;
    }
    if (otherwise) r->otherwise = find_kind(r, llama, "--default", otherwise);
    else r->otherwise.type = NULL;
    r->tensor = gm_alloc(r->arena, (size_t)r->s->M, sizeof *r->tensor);
    for (long m = 0; m < r->s->M; m++) {
        long block, n = 0;
        int j = 0, end = 0;
        const char *name = r->s->name[m];
        if (sscanf(name, "model.layers.%4ld.%n", &block, &end) == 1) n = end;
        while (n && j < GM_LINEARS && strcmp(name + n, part[j][0]) != 0) j++;
        if (!n || j == GM_LINEARS)
            gm_bad(r->s->path, "module %s: expected one that llama.cpp names, "
                   "such as model.layers.0.mlp.up_proj", name);
        r->tensor[m] = gm_format(r->arena, "blk.%ld.%s.weight", block,
                                 part[j][1]);
    }
}

static void read_tsv(reading *r) {
    gm_allocation a;
    gm_allocation_read(r->arena, r->path, &a);
    for (long m = 0; m < a.M; m++) {
        kind k = plain(r, a.bits[m]);
        if (a.bytes[m] > 0) k.bytes = a.bytes[m];
        if (a.label && strcmp(a.label[m], "-") != 0) k.type = a.label[m];
        add(r, a.name[m], EXACT, k);
    }
    r->out->overhead = gm_keys_get(&a.keys, "overhead_given");
    const int in = gm_convention_of(gm_keys_get(&a.keys, "convention"));
    if (in < 0) return;
    r->out->target = gm_keys_get(&a.keys, "budget_asked");
    r->out->in = (gm_convention)in;
}

/* Told apart by a member of the file or of its parts; the first decides. */
enum { TOP = 1, QUANTIZATION = 2, CONFIG = 4 };
static const char *const part_name[] = {NULL, "quantization",
                                        "quantization_config"};
static const struct {
    const char *name, *key;
    int where;
    bool inner;                 /* it reads that member, not what has it     */
    void (*read)(reading *r, const gm_json *at);
} formats[] = {
    {"ExLlamaV2 job", "strategy", TOP, true, read_exl2},
    {"ExLlamaV3 quantization_config", "tensor_storage", TOP, true, read_exl3},
    {"RCO assignment", "assignment", TOP, true, read_rco},
    {"ModelOpt", "quant_algo", QUANTIZATION | CONFIG, false, read_modelopt},
    {"MLX quantization", "group_size", QUANTIZATION, false, read_mlx},
    {"AutoRound", "extra_config", TOP | CONFIG, false, read_autoround},
    {"GPTQModel", "dynamic", TOP | CONFIG, false, read_gptqmodel},
    {"AutoRound", "autoround_version", TOP | CONFIG, false, read_autoround},
    {"GPTQModel", "bits", TOP | CONFIG, false, read_gptqmodel}};

static void read_json(reading *r, const gm_json *root) {
    r->root = root;
    bool layers = root->child != NULL;
    for (size_t i = 0; i < 3 * sizeof formats / sizeof *formats; i++) {
        const int part = (int)(i % 3);
        const gm_json *at = part ? gm_json_get(root, part_name[part]) : root;
        const gm_json *inner = gm_json_get(at, formats[i / 3].key);
        if (!inner || !(formats[i / 3].where & 1 << part)) continue;
        r->out->format = formats[i / 3].name;
        formats[i / 3].read(r, formats[i / 3].inner ? inner : at);
        return;
    }
    for (const gm_json *v = root->child; v; v = v->next)
        layers = layers && (gm_json_get(v, "bits") ||
                            v->type == GM_JSON_STRING);
    if (!layers)
        gm_bad(r->path, "expected an allocation (docs/audit.md), found JSON "
               "without strategy, tensor_storage, assignment, quantization, "
               "extra_config, dynamic, bits or layers with bits");
    r->out->format = "AutoRound layer_config";
    read_layers(r, root);
}

/* --------------------------------------------------------------- resolution */

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

/* ExLlamaV2, conversion/qparams.py, total_bits: rows are the inputs; a share of
   them, in groups, for each number of bits. */
static void mixed(const reading *r, const char *name, const gm_json *v,
                  int64_t out, int64_t in, gm_gets *gets) {
    const gm_json *share = gm_json_get(v, "bits_prop");
    const gm_json *b = gm_json_get(v, "bits"), *size = gm_json_get(v,
                                                                  "group_size");
    const long scale = number(r, name, v, "scale_bits", 1, 16, 4);
    int64_t left = in, rows = in, groups = 0;
    gets->type = "";
    gets->codes = 0;
    if (!b || !share || b->length != share->length || !b->child || !out)
        wrong(r, name, "bits", "as many as bits_prop, and out, in of the "
              "scores", b);
    gets->bits = b->length == 1 ? (int)b->child->integer : 0;
    for (b = b->child, share = share->child; b; b = b->next,
         share = share->next) {
        if (!b->is_integer || b->integer < 1 || b->integer > 8 ||
            !(share->number > 0 && share->number <= 1))
            wrong(r, name, "bits", "1 to 8, shares up to 1", b);
        char *key = gm_format(r->arena, "%d", (int)b->integer);
        const long g = size && size->is_integer
            ? number(r, name, v, "group_size", 1, MOST, 0)
            : number(r, name, size, key, 1, MOST, 0);
        if (!g) wrong(r, name, "group_size", "one for each number of bits",
                      size);
        const int64_t n = (int64_t)ceil(fmin((double)in * share->number,
                                             (double)left) / (double)g);
        const int64_t here = n * g < rows ? n * g : rows;
        groups += n;
        left -= n * g;
        rows -= here;
        gets->codes += here * out * b->integer;
        gets->type = gm_format(r->arena, "%s%s%g:%db_%ldg", gets->type,
                               *gets->type ? "/" : "", share->number,
                               (int)b->integer, g);
    }
    if (left > 0)
        wrong(r, name, "bits_prop", "shares of all columns", share);
    gets->bytes = ceil_div(gets->codes + groups * (48 + out * scale) + in * 32,
                           8);
}

static gm_gets resolve(const reading *r, long m, const rule *by) {
    const gm_scores *s = r->s;
    const int64_t n = s->weights[m], in = s->in[m] ? s->in[m] : n;
    const int64_t rows = s->in[m] ? s->out[m] : 1;
    kind k = by ? by->gives : r->otherwise;
    gm_gets gets = {.from = by ? by->name : NULL, .bytes = -1};
    if (!by && r->outside[m]) k = as_stored(r);
    if (!by && !k.type && !k.mixed)
        gm_bad(r->path, "module %s: expected --default TYPE for what the file "
               "does not name, found none", s->name[m]);
    if (k.mixed) {
        mixed(r, s->name[m], k.mixed, s->out[m], s->in[m], &gets);
        return gets;
    }
    gets.type = k.type;
    while (k.fallback && in % k.block != 0) {
        k = find_kind(r, llama, s->name[m], k.fallback);
        gets.type = gm_format(r->arena, "%s -> %s", gets.type, k.type);
    }
    gets.bits = k.eighths % 8 ? 0 : k.eighths / 8;
    gets.codes = ceil_div(n * k.eighths, 8);
    if (k.bytes) gets.bytes = k.bytes;
    else if (k.all > 0) gets.bytes = (int64_t)ceil((double)n * k.all / 8);
    else if (k.extra || k.eighths >= 128)
        gets.bytes = ceil_div(gets.codes + rows * ceil_div(in, k.block
                              ? k.block : in) * k.extra, 8);
    return gets;
}

/* Whether a rule matches module m. */
static bool matches(const reading *r, const rule *x, long m, long *steps) {
    const char *name = r->tensor ? r->tensor[m] : r->s->name[m];
    return x->how == EXACT ? x->module == m
         : gm_pattern_matches(r->path, x->pattern, name, x->how == ANYWHERE,
                              steps);
}

/* Rules go to modules outside the blocks only if they matched none inside. */
static void resolve_all(reading *r) {
    const long M = r->s->M;
    long steps = 1 << 26;               /* of all patterns: half a minute */
    const int64_t most = INT64_C(1) << 53;
    int64_t bytes = 0;
    const rule **by = gm_alloc(r->arena, (size_t)M, sizeof *by);
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < r->count; i++) {
            rule *x = r->rules + i;
            const bool spent = pass && x->how == ANYWHERE && x->hits;
            for (long m = 0; m < M && !spent; m++) {
                if (r->outside[m] != (pass == 1) || !matches(r, x, m, &steps))
                    continue;
                x->hits++;
                if (!by[m] || r->last) by[m] = x;
            }
        }
    for (long m = 0; m < M; m++) {
        r->out->module[m] = resolve(r, m, by[m]);
        const int64_t b = r->out->module[m].bytes;
        if (b > most - bytes)
            gm_bad(r->path, "expected at most 2^53 bytes, found more with "
                   "module %s", r->s->name[m]);
        bytes += b > 0 ? b : 0;
    }
    r->out->unmatched = gm_alloc(r->arena, r->count, sizeof(char *));
    for (size_t i = 0; i < r->count; i++)
        if (!r->rules[i].hits)
            r->out->unmatched[r->out->unmatched_count++] = r->rules[i].name;
}

void gm_foreign_read(gm_arena *arena, const char *path,
                     const gm_scores *scores, const char *otherwise,
                     gm_foreign *out) {
    const size_t M = (size_t)scores->M;
    reading r = {.arena = arena, .path = path, .s = scores, .out = out};
    *out = (gm_foreign){.path = path};
    out->module = gm_alloc(arena, M, sizeof *out->module);
    r.outside = gm_alloc(arena, M, sizeof *r.outside);
    r.otherwise = as_stored(&r);
    r.names = gm_names_sort(arena, NULL, scores->name, scores->M);
    size_t bytes;
    char *text = gm_file_text(arena, path, &bytes);
    char *line = text + strspn(text, " \t\r\n");
    if (*line == '{') {
        read_json(&r, gm_json_parse(arena, path, 1, text, bytes));
    } else {
        while (*line == '#') line += strcspn(line, "\n"), line += *line == '\n';
        if (strstr(line, "TensorQuantizers found in model")) {
            out->format = "ModelOpt summary";
            read_summary(&r, text);
        } else if (memchr(line, '=', strcspn(line, "\n")) ||
                   strncmp(line, "--tensor-type", 13) == 0) {
            out->format = "llama.cpp tensor types";
            read_llama(&r, line, otherwise);
        } else {
            out->format = "table of modules and bits";
            read_tsv(&r);
        }
    }
    resolve_all(&r);
    int64_t limit;
    if (out->target && !gm_is_budget(out->target, out->in, scores->N, &limit))
        gm_bad(path, "budget: expected %s, found \"%.60s\"", out->in == GM_BYTES
               ? "bytes, such as 50M" : "bits a weight, such as 2.5",
               out->target);
}
