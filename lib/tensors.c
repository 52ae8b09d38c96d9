/* tensors.c: JSON, safetensors and checkpoints of shards, npy, TSV: what sees,
   with tokenizer.c, bytes that nobody vouches for.

   May touch: files.c and base.c.  Every length, offset and product read from a
   file is checked where it is read; what passes here needs no check later.
   Numbers are read and printed with the C library's own routines: the program
   never calls setlocale, so the C locale is in force and the decimal point is
   a point whatever the user's environment says.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A name from a file, shortened so that what follows it in a message of 1024
   bytes is never cut off. */
#define NAME "\"%.160s\""

enum {
    MAX_DEPTH = 64,             /* of JSON: bounds our recursion            */
    MAX_NUMBER = 512,           /* characters of one JSON number            */
    MAX_HEADER = 100000000,     /* safetensors' own limit on header bytes   */
    STRIP = 4096                /* elements converted at once               */
};

/* ------------------------------------------------------------------ UTF-8 */

int gm_utf8(const char *at, const char *end, uint32_t *point) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *b = (const uint8_t *)at;
    if (at >= end) return 0;
    if (*b < 0x80) return *point = *b, 1;
    int n = *b < 0xC0 ? 0 : *b < 0xE0 ? 2 : *b < 0xF0 ? 3 : *b < 0xF8 ? 4 : 0;
    if (n == 0 || end - at < n) return 0;
    uint32_t value = *b & (0x7Fu >> n);
    for (int i = 1; i < n; i++) {
        if ((b[i] & 0xC0) != 0x80) return 0;
        value = value << 6 | (b[i] & 0x3Fu);
    }
    /* neither longer than it needs to be, nor beyond Unicode, nor a surrogate:
       what table 3-7 of the standard calls well-formed */
    if (value < least[n] || value > 0x10FFFF || value >> 11 == 0xD800 >> 11)
        return 0;
    *point = value;
    return n;
}

int gm_utf8_put(uint32_t point, char *to) {
    if (point < 0x80) return to[0] = (char)point, 1;
    int n = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, point >>= 6)
        to[i] = (char)(0x80 | (point & 0x3F));
    to[0] = (char)((0xF00u >> n & 0xFF) | point);
    return n;
}

/* ------------------------------------------------------------------- JSON */

/* The text ends with a NUL at `end`, where nothing matches any more. */
struct parser {
    gm_arena *arena;
    const char *path, *text, *at, *end;
    long line;              /* of the first byte of the text      */
    char *strings;          /* where the next decoded string goes */
    bool python;            /* what Python's json takes, too      */
};

/* "PATH: line L, column C" of a byte of the text; columns from 1, in bytes. */
static const char *place(const struct parser *p, const char *at) {
    long line = p->line, column = 1;
    for (const char *c = p->text; c < at; c++) {
        column++;
        if (*c == '\n') line++, column = 1;
    }
    return gm_format(p->arena, "%s: line %ld, column %ld", p->path, line,
                     column);
}

/* "expected WANTED, found 'x'" (or byte 0x01, or the end) at p->at. */
_Noreturn static void json_expected(const struct parser *p,
                                    const char *wanted) {
    const uint8_t c = (uint8_t)*p->at;
    char found[16] = "the end";
    if (p->at < p->end)
        snprintf(found, sizeof found, c > ' ' && c < 0x7F ? "'%c'"
                 : "byte 0x%02X", c);
    gm_bad(place(p, p->at), "expected %s, found %s", wanted, found);
}

static void skip_space(struct parser *p) {
    p->at += strspn(p->at, " \n\t\r");
}

static bool take(struct parser *p, char c) {
    if (*p->at != c) return false;      /* never c = NUL */
    p->at++;
    return true;
}

static void need(struct parser *p, char c, const char *wanted) {
    skip_space(p);
    if (!take(p, c)) json_expected(p, wanted);
}

/* Four hexadecimal digits at p->at, or -1. */
static int32_t json_hex4(struct parser *p) {
    char four[5] = "";
    if (strspn(p->at, "0123456789abcdefABCDEF") < 4) return -1;
    memcpy(four, p->at, 4);
    p->at += 4;
    return (int32_t)strtol(four, NULL, 16);
}

/* Writes what the escape at p->at means; returns its bytes.  \uD800..DBFF
   takes a second \uDC00..DFFF. */
static int json_escape(struct parser *p, char *to) {
    static const char from[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *start = p->at++;
    if (!take(p, 'u')) {
        const char *which = *p->at ? strchr(from, *p->at) : NULL;
        if (!which) json_expected(p, "one of \"\\/bfnrtu after \\");
        p->at++;
        *to = meant[which - from];
        return 1;
    }
    int32_t point = json_hex4(p), low;
    bool fine = point >= 0 && point >> 10 != 0xDC00 >> 10;
    if (fine && point >> 10 == 0xD800 >> 10) {
        low = take(p, '\\') && take(p, 'u') ? json_hex4(p) : -1;
        fine = low >> 10 == 0xDC00 >> 10;
        point = 0x10000 + ((point & 0x3FF) << 10) + (low & 0x3FF);
    }
    if (!fine)
        gm_bad(place(p, start), "expected \\u and 4 hexadecimal digits, or two "
               "such, a high and a low surrogate");
    return gm_utf8_put((uint32_t)point, to);
}

/* A decoded string is never longer than its literal less the two quotes, so
   that with its NUL it fits where one buffer of the text's size is shared by
   all strings. */
static const char *json_string(struct parser *p, size_t *length) {
    const char *string = p->strings;
    char *to = p->strings;
    p->at++;
    while (!take(p, '"')) {
        uint32_t point;
        if (*p->at == '\\') {
            to += json_escape(p, to);
            continue;
        }
        int n = gm_utf8(p->at, p->end, &point);
        if (n == 0 || point < ' ')
            json_expected(p, "a quote or UTF-8 that is no control character");
        while (n-- > 0) *to++ = *p->at++;
    }
    *length = (size_t)(to - string);
    *to++ = 0;
    p->strings = to;
    return string;
}

static void json_digits(struct parser *p) {
    size_t n = strspn(p->at, "0123456789");
    if (n == 0) json_expected(p, "a digit");
    p->at += n;
}

/* v->integer when the literal is one that fits; v->number always.  strtod and
   strtoll read no further than the literal does, or what follows is wrong. */
static void json_number(struct parser *p, gm_json *v) {
    const char *start = p->at;
    bool real = false;
    v->type = GM_JSON_NUMBER;
    take(p, '-');
    if (!take(p, '0')) json_digits(p);
    if (take(p, '.')) {
        real = true;
        json_digits(p);
    }
    if (take(p, 'e') || take(p, 'E')) {
        real = true;
        if (!take(p, '-')) take(p, '+');
        json_digits(p);
    }
    const int length = (int)(p->at - start);
    errno = 0;
    v->integer = real ? 0 : strtoll(start, NULL, 10);
    v->is_integer = !real && errno == 0;
    v->number = v->is_integer ? (double)v->integer : strtod(start, NULL);
    if (length > MAX_NUMBER || (!isfinite(v->number) && !p->python))
        gm_bad(place(p, start), "number %.*s does not fit a double",
               length < 40 ? length : 40, start);
}

static void json_word(struct parser *p, gm_json *v) {
    static const char *const word[] = {"null", "false", "true",
                                       "NaN", "Infinity", "-Infinity"};
    const int known = p->python ? 6 : 3;
    int i = 0;
    while (i < known && strncmp(p->at, word[i], strlen(word[i])) != 0) i++;
    if (i == known) json_expected(p, "a value");
    p->at += strlen(word[i]);
    v->type = i == 0 ? GM_JSON_NULL : i < 3 ? GM_JSON_BOOL : GM_JSON_NUMBER;
    v->number = i < 3 ? i == 2 : strtod(word[i], NULL);
    v->integer = i == 2;
}

static int by_key(const void *a, const void *b) {
    const gm_json *x = *(gm_json *const *)a, *y = *(gm_json *const *)b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->at > y->at) - (x->at < y->at);
}

/* Sorted, not compared pairwise: a vocabulary has 10^5 keys. */
static void json_unique(struct parser *p, const gm_json *object) {
    gm_mark mark = gm_arena_mark(p->arena);
    const gm_json **member = gm_alloc(p->arena, object->length, sizeof *member);
    size_t n = 0;
    for (const gm_json *c = object->child; c; c = c->next) member[n++] = c;
    qsort(member, n, sizeof *member, by_key);
    for (size_t i = 1; i < n; i++)
        if (strcmp(member[i - 1]->key, member[i]->key) == 0)
            gm_bad(place(p, p->text + member[i]->at), "key " NAME " appears "
                   "twice in one object", member[i]->key);
    gm_arena_rewind(p->arena, mark);
}

static void json_value(struct parser *p, int depth, gm_json *v);

/* The members or elements between brackets; p->at is at the opening one.  Keys
   are C strings for everyone else, so NUL is refused. */
static void json_list(struct parser *p, int depth, gm_json *v) {
    const bool object = *p->at == '{';
    const char close = object ? '}' : ']';
    const gm_json **link = &v->child;
    v->type = object ? GM_JSON_OBJECT : GM_JSON_ARRAY;
    if (depth >= MAX_DEPTH)
        gm_bad(place(p, p->at), "nested more than %d deep", MAX_DEPTH);
    p->at++;
    skip_space(p);
    if (take(p, close)) return;
    do {
        gm_json *child = gm_alloc(p->arena, 1, sizeof *child);
        if (object) {
            size_t length;
            skip_space(p);
            const char *start = p->at;
            if (*start != '"') json_expected(p, "a key in quotes");
            child->key = json_string(p, &length);
            if (strlen(child->key) != length)
                gm_bad(place(p, start), "key contains \\u0000");
            need(p, ':', "':'");
        }
        json_value(p, depth + 1, child);
        *link = child;
        link = &child->next;
        v->length++;
        skip_space(p);
    } while (take(p, ','));
    need(p, close, object ? "',' or '}'" : "',' or ']'");
    if (object && !p->python) json_unique(p, v);
}

static void json_value(struct parser *p, int depth, gm_json *v) {
    skip_space(p);
    v->at = (size_t)(p->at - p->text);
    const char c = *p->at;
    if (c == '{' || c == '[') {
        json_list(p, depth, v);
    } else if (c == '"') {
        v->type = GM_JSON_STRING;
        v->string = json_string(p, &v->length);
    } else if ((c == '-' && !(p->python && p->at[1] == 'I')) ||
               (c >= '0' && c <= '9')) {
        json_number(p, v);
    } else {
        json_word(p, v);
    }
}

static const gm_json *parse(gm_arena *arena, const char *path, long line,
                            const char *text, size_t bytes, bool python) {
    struct parser p = {arena, path, text, text, text + bytes, line,
                       gm_alloc(arena, bytes + 1, 1), python};
    gm_json *root = gm_alloc(arena, 1, sizeof *root);
    assert(!*p.end);
    json_value(&p, 0, root);
    skip_space(&p);
    if (p.at != p.end) json_expected(&p, "the end");
    return root;
}

const gm_json *gm_json_parse(gm_arena *arena, const char *path, long line,
                             const char *text, size_t bytes) {
    return parse(arena, path, line, text, bytes, false);
}

const gm_json *gm_json_read(gm_arena *arena, const char *path, bool python) {
    gm_arena scratch = {0};
    size_t bytes;
    const char *text = gm_regular_text(&scratch, path, &bytes);
    const gm_json *root = parse(arena, path, 1, text, bytes, python);
    gm_arena_free(&scratch);
    return root;
}

const gm_json *gm_json_get(const gm_json *object, const char *key) {
    if (!object || object->type != GM_JSON_OBJECT) return NULL;
    const gm_json *last = NULL;
    for (const gm_json *c = object->child; c; c = c->next)
        if (strcmp(c->key, key) == 0) last = c;
    return last;
}

bool gm_json_is(const gm_json *v, const char *text) {
    return v && v->type == GM_JSON_STRING && strcmp(v->string, text) == 0;
}

static const char *const kinds[] = {"null", "true or false", "a number",
                                    "a string", "a list", "an object"};

gm_shown gm_json_show(const gm_json *v) {
    gm_shown shown = {"nothing"};
    if (v && v->type == GM_JSON_STRING)
        snprintf(shown.text, sizeof shown, "\"%.200s\"", v->string);
    else if (v && v->type == GM_JSON_NUMBER)
        snprintf(shown.text, sizeof shown, "%.10g", v->number);
    else if (v && v->type == GM_JSON_BOOL)
        snprintf(shown.text, sizeof shown, v->number != 0 ? "true" : "false");
    else if (v)
        snprintf(shown.text, sizeof shown, "%s", kinds[v->type]);
    return shown;
}

/* "WHERE: KEY: expected EXPECTED, found 3". */
_Noreturn static void refuse(const char *where, const char *key,
                             const char *expected, const gm_json *found) {
    gm_bad(where, "%s: expected %s, found %s", key, expected,
           gm_json_show(found).text);
}

/* The member, which must be there and of this type. */
static const gm_json *member(const char *where, const gm_json *object,
                             const char *key, gm_json_type type) {
    const gm_json *v = gm_json_get(object, key);
    if (!v || v->type != type) refuse(where, key, kinds[type], v);
    return v;
}

char *gm_json_quote(gm_arena *arena, const char *text) {
    char *literal = gm_alloc(arena, 6 * strlen(text) + 3, 1), *to = literal;
    *to++ = '"';
    for (; *text; text++) {
        bool control = (uint8_t)*text < ' ';
        if (*text == '"' || *text == '\\') *to++ = '\\';
        to += sprintf(to, control ? "\\u%04x" : "%c", *text);
    }
    *to = '"';
    return literal;
}

/* ----------------------------------------------------- numbers of a tensor */

static const struct { const char *name; int bits; gm_dtype dtype; }
dtypes[] = {
    {"F32", 32, GM_F32}, {"F16", 16, GM_F16}, {"BF16", 16, GM_BF16},
    {"F64", 64, GM_F64}, {"U8", 8, GM_U8}, {"I8", 8, GM_I8},
    {"I32", 32, GM_I32}, {"I64", 64, GM_I64},
    /* Never read, only skipped and copied: types that are not known here, of
       any size, and those whose size can be checked. */
    {"OTHER", 0, GM_OTHER}, {"BOOL", 8, GM_OTHER}, {"I16", 16, GM_OTHER},
    {"U16", 16, GM_OTHER}, {"U32", 32, GM_OTHER}, {"U64", 64, GM_OTHER},
    {"F8_E4M3", 8, GM_OTHER}, {"F8_E5M2", 8, GM_OTHER},
    {"F8_E8M0", 8, GM_OTHER}, {"C64", 64, GM_OTHER}, {"F4", 4, GM_OTHER},
    {"F6_E2M3", 6, GM_OTHER}, {"F6_E3M2", 6, GM_OTHER},
};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

size_t gm_dtype_bytes(gm_dtype dtype) {
    return (size_t)dtypes[dtype].bits / 8;
}
const char *gm_dtype_name(gm_dtype dtype) { return dtypes[dtype].name; }

const char *gm_type_of(const gm_tensor *t) {
    return t->type ? t->type : gm_dtype_name(t->dtype);
}

union single { uint32_t bits; float x; };

static float float_of_bits(uint32_t bits) {
    return (union single){.bits = bits}.x;
}

static uint32_t bits_of_float(float x) { return (union single){.x = x}.bits; }

/* Exponent and fraction, shifted into place, are read as a float that is
   2^112 = 2^(127-15) too small, subnormals included; infinities and NaN are
   patched.  No branch, so that loops over it vectorise. */
float gm_f16_to_f32(uint16_t h) {
    uint32_t bits = (uint32_t)(h & 0x7FFF) << 13;
    float x = float_of_bits(bits) * 0x1p112f;
    uint32_t special = (h & 0x7C00) == 0x7C00 ? 0x7F800000u : 0;
    return float_of_bits(bits_of_float(x) | special |
                         (uint32_t)(h & 0x8000) << 16);
}

/* Adding 0.5 ulp - 1, plus the last kept bit, and cutting rounds to nearest
   even; a carry out of the fraction increments the exponent as it should. */
static uint32_t round_shift(uint32_t bits, int shift) {
    uint32_t half = (1u << (shift - 1)) - 1;
    return (bits + half + (bits >> shift & 1)) >> shift;
}

uint16_t gm_f32_to_f16(float x) {
    uint32_t bits = bits_of_float(x), magnitude = bits & 0x7FFFFFFF, h;
    if (magnitude > 0x7F800000)                 /* NaN: quiet, top payload */
        h = 0x7E00 | (magnitude >> 13 & 0x1FF);
    else if (magnitude >= 0x477FF000)           /* >= 65520 rounds to inf  */
        h = 0x7C00;
    else if (magnitude >= 0x38800000)           /* normal: >= 2^-14        */
        h = round_shift(magnitude - 0x38000000, 13);
    else if (magnitude < 0x33000000)            /* < 2^-25 rounds to 0     */
        h = 0;
    else    /* x = f 2^(e-150), f with its hidden bit; unit 2^-24 */
        h = round_shift((magnitude & 0x7FFFFF) | 0x800000,
                        126 - (int)(magnitude >> 23));
    return (uint16_t)(bits >> 16 & 0x8000) | (uint16_t)h;
}

float gm_bf16_to_f32(uint16_t h) { return float_of_bits((uint32_t)h << 16); }

uint16_t gm_f32_to_bf16(float x) {
    uint32_t bits = bits_of_float(x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000)       /* NaN stays NaN */
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)round_shift(bits, 16);
}

/* Both types have h of 8 bits from the first that is 1, or of fewer: below 2^-16
   that is all of fp16. */
uint16_t gm_f16_reach(float x, float slack, bool bf16) {
    const float most = bf16 ? 65280 : 65504;
    float near = gm_clamp(x, 0, most);
    if (bf16 && near >= 0x1p-16f)
        near = gm_bf16_to_f32(gm_f32_to_bf16(near));
    const uint16_t h = gm_f32_to_f16(near);
    const int next = !bf16 || h < 256 ? 1 : h < 512 ? 2 : h < 1024 ? 4 : 8;
    near = gm_f16_to_f32(h);
    return (uint16_t)(near < most && x - near > slack ? h + next : h);
}

void gm_pack(const uint8_t *code, long n, int bits, uint8_t *stream) {
    memset(stream, 0, (size_t)((n * bits + 7) / 8));
    for (long i = 0; i < n; i++) {
        const long at = i * bits / 8, shift = i * bits % 8;
        stream[at] |= (uint8_t)(code[i] << shift);
        if (shift + bits > 8)
            stream[at + 1] |= (uint8_t)(code[i] >> (8 - shift));
    }
}

/* Code i of a stream. */
uint8_t gm_unpack_one(const uint8_t *stream, long i, int bits) {
    const long at = i * bits / 8, shift = i * bits % 8;
    unsigned two = stream[at];
    if (shift + bits > 8) two |= (unsigned)stream[at + 1] << 8;
    return (uint8_t)(two >> shift & ((1u << bits) - 1));
}

/* Eight codes of b bits are b bytes, and are spread over eight by halves: 4 and
   4, then 2 and 2, then 1 and 1; four times as fast as one by one, which the
   last codes are, where eight bytes could end after the stream. */
void gm_unpack(const uint8_t *stream, long n, int bits, uint8_t *code) {
    const uint64_t one = ((uint64_t)1 << bits) - 1;
    const uint64_t four = ((uint64_t)1 << 4 * bits) - 1;
    const uint64_t two = (((uint64_t)1 << 2 * bits) - 1) * 0x100000001;
    const uint64_t each = one * 0x1000100010001;
    uint64_t word;
    long i = 0;
    for (; (n - i) * bits >= 64; i += 8) {
        memcpy(&word, stream + i / 8 * bits, 8);
        word = (word & four) | (word >> 4 * bits & four) << 32;
        word = (word & two) | (word >> 2 * bits & two) << 16;
        word = (word & each) | (word >> bits & each) << 8;
        memcpy(code + i, &word, 8);
    }
    for (; i < n; i++) code[i] = gm_unpack_one(stream, i, bits);
}

/* out[i] = element i of the little-endian array `from`. */
static void convert(gm_dtype dtype, const void *from, long n, gm_real *out) {
    const uint16_t *half = from;
    const float *single = from;
    const double *twice = from;
    if (dtype == GM_F16)
        for (long i = 0; i < n; i++) out[i] = gm_f16_to_f32(half[i]);
    else if (dtype == GM_BF16)
        for (long i = 0; i < n; i++) out[i] = gm_bf16_to_f32(half[i]);
    else if (dtype == GM_F32)
        for (long i = 0; i < n; i++) out[i] = single[i];
    else
        for (long i = 0; i < n; i++) out[i] = (gm_real)twice[i];
}

void gm_store(gm_dtype dtype, const gm_real *x, long count, uint8_t *out) {
    for (long i = 0; i < count; i++) {
        float f = (float)x[i];
        double d = (double)x[i];
        uint16_t h = dtype == GM_F16 ? gm_f32_to_f16(f) : gm_f32_to_bf16(f);
        if (dtype == GM_F64) memcpy(out + 8 * i, &d, 8);
        else if (dtype == GM_F32) memcpy(out + 4 * i, &f, 4);
        else memcpy(out + 2 * i, &h, 2);
    }
}

gm_shown gm_shape_of(const gm_tensor *t) {
    gm_shown shape = {"["};
    size_t n = 1;               /* a number and its comma: 22 characters */
    for (int i = 0; i < t->rank && n < sizeof shape.text - 24; i++)
        n += (size_t)sprintf(shape.text + n, "%s%lld", i ? ", " : "",
                             (long long)t->shape[i]);
    strcat(shape.text, "]");
    return shape;
}

void gm_tensor_bytes(const gm_tensor *t, int64_t first, size_t count,
                     void *to) {
    assert(first >= 0 && (size_t)first + count <= t->bytes);
    if (t->made)
        memcpy(to, (const char *)t->made->values(t->made) + first, count);
    else if (t->file) gm_input_read(t->file, t->at + first, count, to);
    else memcpy(to, t->data + first, count);
}

void gm_tensor_read(const gm_tensor *t, int64_t first, int64_t count,
                    gm_real *out) {
    const int64_t size = (int64_t)gm_dtype_bytes(t->dtype);
    double raw[STRIP];                  /* room and place for any type */
    gm_real strip[STRIP];
    if (t->dtype > GM_F64)      /* integers and GM_OTHER come after */
        gm_bad(t->path, "tensor " NAME ": type %s, expected F32, F16, BF16 or "
               "F64", t->name, gm_type_of(t));
    const int64_t total = (int64_t)t->bytes / size;
    if (first < 0 || count < 0 || first > total || count > total - first)
        gm_bad(t->path, "tensor " NAME ": elements %lld to %lld asked for, it "
               "holds %lld", t->name, (long long)first,
               (long long)(first + count), (long long)total);
    for (int64_t at = 0; at < count; at += STRIP) {
        gm_real *x = out ? out + at : strip;
        long n = gm_min(STRIP, count - at), i = 0;
        int fine = 1;
        gm_tensor_bytes(t, (first + at) * size, (size_t)(n * size), raw);
        convert(t->dtype, raw, n, x);
        for (long j = 0; j < n; j++) fine &= isfinite(x[j]) != 0;
        if (fine) continue;
        while (isfinite(x[i])) i++;
        gm_bad(t->path, "tensor " NAME ": element %lld of shape %s is %s, "
               "expected a finite number", t->name, (long long)(first + at + i),
               gm_shape_of(t).text, isnan(x[i]) ? "NaN" : "infinite");
    }
}

void gm_tensor_check(const gm_tensor *t) {
    const size_t size = gm_dtype_bytes(t->dtype);
    if (size) gm_tensor_read(t, 0, (int64_t)(t->bytes / size), NULL);
}

/* Every line of it can be made by a script: for each tensor in name order
   "NAME\nDTYPE\nD0,D1\n" and then its bytes. */
void gm_tensors_hash(const gm_tensors *tensors, char hex[65]) {
    gm_arena scratch = {0};
    gm_sha sha;
    uint8_t piece[1 << 16];
    gm_sha_begin(&sha);
    for (long i = 0; i < tensors->count; i++) {
        const gm_tensor *t = &tensors->tensor[i];
        char *line = gm_format(&scratch, "%s\n%s\n", t->name, gm_type_of(t));
        for (int j = 0; j < t->rank; j++)
            line = gm_format(&scratch, "%s%s%lld", line, j ? "," : "",
                             (long long)t->shape[j]);
        gm_sha_add(&sha, line, strlen(line));
        gm_sha_add(&sha, "\n", 1);
        for (size_t at = 0, n; at < t->bytes; at += n) {
            n = t->bytes - at < sizeof piece ? t->bytes - at : sizeof piece;
            gm_tensor_bytes(t, (int64_t)at, n, piece);
            gm_sha_add(&sha, piece, n);
        }
    }
    gm_sha_end(&sha, hex);
    gm_arena_free(&scratch);
}

/* ------------------------------------------------------------ safetensors */

void gm_name_check(const char *path, const char *what, const char *name) {
    const char *bad = gm_control(name);
    if (bad)
        gm_bad(path, "%s " NAME ": control character 0x%02X in its name", what,
               name, (uint8_t)*bad);
    if (strpbrk(name, "/\\") || strcmp(name, "..") == 0)
        gm_bad(path, "%s " NAME ": part of a path in its name", what, name);
}

/* The tensor of one entry of the header that ends at byte `start`; refuses
   whatever does not add up.  Of an unknown type, of 0 bits, only the extent is
   checked: what needs no such tensor may still be read. */
static gm_tensor entry_read(const gm_input *file, int64_t start,
                            const gm_json *entry) {
    const int64_t left = (int64_t)file->size - start;
    char at[1024];
    int i = 0;
    snprintf(at, sizeof at, "%s: tensor " NAME, file->path, entry->key);
    gm_name_check(file->path, "tensor", entry->key);
    const gm_json *dtype = member(at, entry, "dtype", GM_JSON_STRING);
    const gm_json *shape = member(at, entry, "shape", GM_JSON_ARRAY);
    const gm_json *o = member(at, entry, "data_offsets", GM_JSON_ARRAY);
    const gm_json *from = o->child, *to = from ? from->next : NULL;
    if (o->length != 2 || !from->is_integer || !to->is_integer ||
        from->integer < 0 || from->integer > to->integer || to->integer > left)
        gm_bad(at, "data_offsets: expected two integers, 0 <= begin <= end <= "
               "%" PRId64 ", found %s, %s", left, gm_json_show(from).text,
               gm_json_show(to).text);
    while (i < DTYPES && strcmp(dtypes[i].name, dtype->string) != 0) i++;
    if (i == DTYPES) i = GM_OTHER;
    if (!dtype->length || gm_control(dtype->string) || dtype->length > 40 ||
        dtype->length != strlen(dtype->string))
        refuse(at, "dtype", "a type", dtype);
    int64_t bytes = to->integer - from->integer, needed = dtypes[i].bits;
    gm_tensor t = {.name = entry->key, .dtype = dtypes[i].dtype, .file = file,
                   .path = file->path, .at = start + from->integer,
                   .bytes = (size_t)bytes};
    if (i >= GM_OTHER) t.type = dtype->string;
    if (shape->length > GM_MAX_RANK)
        gm_bad(at, "shape: expected at most %d dimensions, found %zu",
               GM_MAX_RANK, shape->length);
    for (const gm_json *c = shape->child; c; c = c->next) {
        if (!c->is_integer || c->integer < 0 ||
            __builtin_mul_overflow(needed, c->integer, &needed))
            refuse(at, "shape", "integers >= 0, of less than 2^63 bits", c);
        t.shape[t.rank++] = c->integer;
    }
    needed = needed / 8 + (needed % 8 > 0);
    if (i != GM_OTHER && needed != bytes)
        gm_bad(at, "data_offsets: expected %" PRId64 " bytes for shape %s of "
               "%s, found %" PRId64, needed, gm_shape_of(&t).text,
               dtypes[i].name, bytes);
    return t;
}

static int by_place(const void *a, const void *b) {
    const gm_tensor *x = a, *y = b;
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const gm_tensor *)a)->name, ((const gm_tensor *)b)->name);
}

/* Every byte after the header, which ends at `start`, belongs to exactly one
   tensor. */
static void check_cover(const gm_input *file, int64_t start,
                        gm_tensor *tensor, long count) {
    int64_t at = start;
    qsort(tensor, (size_t)count, sizeof *tensor, by_place);
    for (long i = 0; i < count; at += (int64_t)tensor[i++].bytes)
        if (tensor[i].at != at)
            gm_bad(file->path, "tensor " NAME ": expected to begin at offset %"
                   PRId64 ", where the one before ends, found %" PRId64,
                   tensor[i].name, at - start, tensor[i].at - start);
    if (at != (int64_t)file->size)
        gm_bad(file->path, "expected %" PRId64 " bytes, all of tensors, found "
               "%zu", at, file->size);
}

/* The header as JSON; *start: the byte behind it. */
static const gm_json *header_read(gm_arena *arena, const gm_input *file,
                                  int64_t *start) {
    uint64_t n = 0;
    if (file->size >= 8) gm_input_read(file, 0, 8, &n);
    if (file->size < 8 || n > MAX_HEADER || n > file->size - 8)
        gm_bad(file->path, "expected 8 bytes of header length and at most %d "
               "of header, found %" PRIu64 " in a file of %zu", MAX_HEADER, n,
               file->size);
    gm_arena scratch = {0};
    char *text = gm_alloc(&scratch, n + 1, 1);
    char *name = gm_format(&scratch, "%s: header", file->path);
    gm_input_read(file, 8, n, text);
    const gm_json *header = gm_json_parse(arena, name, 1, text, n);
    if (header->type != GM_JSON_OBJECT)
        refuse(file->path, "header", "an object", header);
    gm_arena_free(&scratch);
    *start = 8 + (int64_t)n;
    return header;
}

/* Opens `count` files together; no name may be in two. */
static gm_tensors open_files(gm_arena *arena, const char *const *path,
                             long count) {
    gm_tensors all = {.files = count};
    size_t room = 0;
    all.file = gm_alloc(arena, (size_t)count, sizeof *all.file);
    all.tensor = gm_grow(arena, NULL, 0, &room, sizeof *all.tensor);
    for (long i = 0; i < count; i++) {
        int64_t start;
        gm_input *file = all.file[i] = gm_input_open(arena, path[i]);
        const gm_json *header = header_read(arena, file, &start);
        const gm_json *metadata = gm_json_get(header, "__metadata__");
        const long first = all.count;
        if (metadata && metadata->type != GM_JSON_NULL)
            member(path[i], header, "__metadata__", GM_JSON_OBJECT);
        for (const gm_json *c = metadata ? metadata->child : NULL; c;
             c = c->next)
            if (c->type != GM_JSON_STRING)
                refuse(path[i], c->key, kinds[GM_JSON_STRING], c);
        if (i == 0) all.metadata = metadata;
        for (const gm_json *e = header->child; e; e = e->next) {
            if (e == metadata) continue;
            all.tensor = gm_grow(arena, all.tensor, (size_t)all.count, &room,
                                 sizeof *all.tensor);
            all.tensor[all.count++] = entry_read(file, start, e);
        }
        check_cover(file, start, all.tensor + first, all.count - first);
    }
    gm_tensors_sort(&all);
    return all;
}

void gm_safetensors_open(gm_arena *arena, const char *path, gm_tensors *out) {
    *out = open_files(arena, &path, 1);
}

void gm_tensors_close(gm_tensors *tensors) {
    for (long i = 0; i < tensors->files; i++) gm_input_close(tensors->file[i]);
    *tensors = (gm_tensors){0};
}

void gm_tensors_sort(gm_tensors *all) {
    const gm_tensor *t = all->tensor, *end = t + all->count;
    qsort(all->tensor, (size_t)all->count, sizeof *t, by_name);
    for (t++; t < end; t++)
        if (by_name(t - 1, t) == 0)
            gm_bad(t->path, "tensor " NAME " is also in %s", t->name,
                   t[-1].path);
}

const gm_tensor *gm_tensor_find(const gm_tensors *tensors, const char *name) {
    const gm_tensor key = {.name = name};
    if (tensors->count == 0) return NULL;
    return bsearch(&key, tensors->tensor, (size_t)tensors->count, sizeof key,
                   by_name);
}

/* ------------------------------------------------------ sharded checkpoint */

/* A shard is a plain name in the index's own directory. */
static void check_shard_name(const char *index, const gm_json *entry) {
    const bool text = entry->type == GM_JSON_STRING;
    const char *name = text ? entry->string : "";
    size_t n = strlen(name);
    if (!text || n != entry->length || gm_control(name) ||
        strpbrk(name, "/\\") || n <= 12 ||
        strcmp(name + n - 12, ".safetensors") != 0)
        gm_bad(index, "weight_map: " NAME ": expected NAME.safetensors without "
               "a path, found %s", entry->key, gm_json_show(entry).text);
}

static int by_string(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The shards that the index names, for which it is read: what they hold says
   which tensors there are, as in transformers. */
static gm_tensors index_open(gm_arena *arena, const char *dir,
                             const char *index) {
    const gm_json *map = member(index, gm_json_read(arena, index, true),
                                "weight_map", GM_JSON_OBJECT);
    long n = 0, kept = 0;
    const char **path = gm_alloc(arena, map->length, sizeof *path);
    for (const gm_json *c = map->child; c; c = c->next) {
        check_shard_name(index, c);
        path[n++] = c->string;
    }
    qsort(path, (size_t)n, sizeof *path, by_string);
    for (long i = 0; i < n; i++)
        if (i == 0 || strcmp(path[kept - 1], path[i]) != 0)
            path[kept++] = path[i];
    for (long i = 0; i < kept; i++)
        path[i] = gm_format(arena, "%s/%s", dir, path[i]);
    return open_files(arena, path, kept);
}

void gm_checkpoint_open(gm_arena *arena, const char *dir, gm_tensors *out) {
    const char *one = gm_format(arena, "%s/model.safetensors", dir);
    const char *index = gm_format(arena, "%s.index.json", one);
    if (gm_exists(one)) gm_safetensors_open(arena, one, out);
    else if (gm_exists(index)) *out = index_open(arena, dir, index);
    else gm_fail(GM_EIO, "%s: neither model.safetensors nor "
                 "model.safetensors.index.json is there", dir);
}

/* -------------------------------------------------------- safetensors out */

/* {"__metadata__":{...},"name":{"dtype":"F32","shape":[2,3],
   "data_offsets":[0,24]},...}.  The layout must be expressible: known type,
   rank, total below 2^63. */
static void header_write(gm_out *out, const char *path,
                         const gm_tensor *tensor, long count,
                         const char *const *metadata) {
    gm_arena scratch = {0};
    int64_t begin = 0, end = 0;
    gm_out_print(out, "{%s", metadata ? "\"__metadata__\":{" : "");
    for (int i = 0; metadata && metadata[i]; i += 2)
        gm_out_print(out, "%s%s:%s", i ? "," : "",
                     gm_json_quote(&scratch, metadata[i]),
                     gm_json_quote(&scratch, metadata[i + 1]));
    if (metadata) gm_out_print(out, "}");
    for (const gm_tensor *t = tensor; t < tensor + count; t++, begin = end) {
        const bool other = t->dtype == GM_OTHER;    /* copied, of its size */
        int64_t bytes = (int64_t)(other ? t->bytes : gm_dtype_bytes(t->dtype));
        bool fits = (t->type || !other) && t->rank >= 0 &&
                    t->rank <= GM_MAX_RANK;
        gm_out_print(out, "%s%s:{\"dtype\":%s,\"shape\":[",
                     t > tensor || metadata ? "," : "",
                     gm_json_quote(&scratch, t->name),
                     gm_json_quote(&scratch, gm_type_of(t)));
        for (int j = 0; fits && j < t->rank; j++) {
            fits = t->shape[j] >= 0 && (other || !__builtin_mul_overflow(
                bytes, t->shape[j], &bytes));
            gm_out_print(out, "%s%" PRId64, j ? "," : "", t->shape[j]);
        }
        if (!fits || __builtin_add_overflow(begin, bytes, &end))
            gm_bad(path, "tensor " NAME ": type, rank or size cannot be "
                   "written", t->name);
        gm_out_print(out, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}",
                     begin, end);
    }
    gm_out_print(out, "}");
    gm_arena_free(&scratch);
}

size_t gm_safetensors_header(const gm_tensor *tensors, long count,
                             const char *const *metadata) {
    gm_out counted = {.bytes = 8};
    header_write(&counted, "header", tensors, count, metadata);
    return (size_t)counted.bytes;
}

void gm_safetensors_begin(gm_arena *arena, const char *path,
                          const gm_tensor *tensors, long count,
                          const char *const *metadata, size_t header_bytes,
                          gm_out *out) {
    gm_out counted = {.bytes = 8};
    header_write(&counted, path, tensors, count, metadata);
    uint64_t length = (uint64_t)counted.bytes;
    if (length < header_bytes) length = header_bytes;
    length = (length + 7) / 8 * 8 - 8;
    if (length > MAX_HEADER)
        gm_fail(GM_ELIMIT, "%s: header of %" PRIu64 " bytes, the format allows "
                "%d", path, length, MAX_HEADER);
    gm_out_open(arena, path, out);
    gm_out_write(out, &length, 8);
    header_write(out, path, tensors, count, metadata);
    gm_out_print(out, "%*s", (int)(length + 8) - (int)out->bytes, "");
}

/* -------------------------------------------------------------------- TSV */

static gm_key *key_find(const gm_keys *keys, const char *name) {
    for (size_t i = 0; i < keys->count; i++)
        if (strcmp(keys->key[i].name, name) == 0) return &keys->key[i];
    return NULL;
}

void gm_keys_set(gm_arena *arena, gm_keys *keys, const char *name,
                 const char *format, ...) {
    va_list list;
    va_start(list, format);
    const char *value = gm_vformat(arena, format, list);
    va_end(list);
    gm_key *key = key_find(keys, name);
    if (!key) {
        keys->key = gm_grow(arena, keys->key, keys->count, &keys->room,
                            sizeof *keys->key);
        key = &keys->key[keys->count++];
        key->name = gm_format(arena, "%s", name);
    }
    key->value = value;
}

const char *gm_keys_get(const gm_keys *keys, const char *name) {
    const gm_key *key = key_find(keys, name);
    return key ? key->value : NULL;
}

/* Valid UTF-8 without control characters, or a refusal naming line and byte. */
static void check_text(const char *path, const char *text, size_t bytes) {
    const char *at = text, *end = text + bytes;
    uint32_t point = 0;
    if (bytes > 1 && (!memcmp(at, "\xFF\xFE", 2) || !memcmp(at, "\xFE\xFF", 2)))
        gm_bad(path, "expected UTF-8, found UTF-16, as a spreadsheet's "
               "\"Unicode text\"");
    for (long line = 1; at < end;) {
        int n = gm_utf8(at, end, &point);
        bool end_of_line = point == '\r' && (at + 1 == end || at[1] == '\n');
        if (n == 0 || (point >= 0x7F && point < 0xA0) ||
            (point < ' ' && point != '\t' && point != '\n' && !end_of_line))
            gm_bad(path, "line %ld: byte 0x%02X is not valid text", line,
                   (uint8_t)*at);
        line += point == '\n';
        at += n;
    }
}

/* A whole cell or line that a spreadsheet has put into quotes, those inside it
   doubled. */
static char *unquoted(const char *path, char *text, long number) {
    char *to = text, *at = text + 1;
    if (*text != '"') return text;
    while (*at && (*at != '"' || at[1] == '"')) {
        at += *at == '"';
        *to++ = *at++;
    }
    /* nor may what was inside begin with one: it would be taken off again */
    if (*at != '"' || at[1] || (to > text && *text == '"'))
        gm_bad(path, "line %ld: expected a whole cell between the quotes that "
               "it begins with", number);
    *to = 0;
    return text;
}

/* "# key value": value may be empty and keeps its inner spaces; a tab counts as
   one, for values are cells of tables. */
static void table_key(gm_arena *arena, gm_table *t, char *line, long number) {
    char *key = line + 1 + strspn(line + 1, " \t");
    char *end = key + strcspn(key, " \t");
    char *value = end + strspn(end, " \t");
    for (char *at = value; (at = strchr(at, '\t'));) *at = ' ';
    *end = 0;
    if (!*key) gm_bad(t->path, "line %ld: expected \"# key value\"", number);
    if (gm_keys_get(&t->keys, key))
        gm_bad(t->path, "line %ld: key " NAME " appears twice", number, key);
    gm_keys_set(arena, &t->keys, key, "%s", value);
}

/* The cells of a line: column names, when there are none yet, or a row. */
static void table_line(gm_table *t, char *line, long number) {
    const char **cell = t->columns ? t->cell + t->rows * t->columns : t->column;
    long found = 0, i = 0;          /* cells; empty ones behind do not count */
    for (char *at; (at = strsep(&line, "\t")); i++) {
        at = unquoted(t->path, at, number);
        if (i < t->columns || *at || !t->columns) found = i + 1;
        if (i < t->columns || !t->columns) cell[i] = at;
    }
    if (t->columns && found != t->columns)
        gm_bad(t->path, "line %ld: expected %ld cells, found %ld", number,
               t->columns, found);
    if (t->columns) {
        t->line[t->rows++] = number;
        return;
    }
    t->columns = found;
    if (found == 1 && strpbrk(*cell, ",;"))
        gm_bad(t->path, "line %ld: expected cells separated by tabs, found "
               NAME, number, *cell);
    for (i = 0; i < found; i++)
        if (!*t->column[i] || gm_table_column(t, t->column[i]) != i)
            gm_bad(t->path, "line %ld: column %ld has the %s name " NAME,
                   number, i + 1, *t->column[i] ? "repeated" : "empty",
                   t->column[i]);
}

/* No row has more cells than it has tabs plus one, which bounds the cells by
   tabs + lines. */
void gm_table_read(gm_arena *arena, const char *path, gm_table *out) {
    size_t bytes;
    char *text = gm_file_text(arena, path, &bytes);
    const size_t mark = strncmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    text += mark, bytes -= mark;
    check_text(path, text, bytes);
    const long lines = gm_count_char(text, '\n') + 1;
    const long cells = lines + gm_count_char(text, '\t');
    gm_table t = {.path = gm_format(arena, "%s", strcmp(path, GM_STANDARD)
                                    ? path : "standard input")};
    t.line = gm_alloc(arena, (size_t)lines, sizeof *t.line);
    t.column = gm_alloc(arena, (size_t)cells, sizeof *t.column);
    t.cell = gm_alloc(arena, (size_t)cells, sizeof *t.cell);
    long number = 1;
    for (char *line; (line = strsep(&text, "\n")); number++) {
        size_t n = strlen(line);
        if (n && line[n - 1] == '\r') line[--n] = 0;
        while (n && line[n - 1] == '\t') n--;
        if (n == 0) continue;
        if (!t.columns || *line == '#') line[n] = 0;
        if (!t.columns && strncmp(line, "\"#", 2) == 0)
            line = unquoted(path, line, number);
        if (*line != '#') {
            table_line(&t, line, number);
            continue;
        }
        if (t.columns)
            gm_bad(path, "line %ld: \"# key value\" lines come before the "
                   "column names", number);
        table_key(arena, &t, line, number);
    }
    if (!t.columns) gm_bad(path, "no line of column names");
    *out = t;
}

long gm_table_column(const gm_table *table, const char *name) {
    for (long i = 0; i < table->columns; i++)
        if (strcmp(table->column[i], name) == 0) return i;
    return -1;
}

/* -------------------------------------------------------------------- npy */

/* Where the header text of an npy file begins, after its magic number, version
   and length, which has 4 bytes from version 2 on; *data: where it ends. */
static size_t npy_layout(const char *path, const uint8_t *file, size_t size,
                         size_t *data) {
    const bool npy = size >= 12 && memcmp(file, "\x93NUMPY", 6) == 0;
    const size_t start = npy && file[6] == 1 ? 10 : 12;
    uint32_t length = 0;
    if (npy) memcpy(&length, file + 8, start - 8);
    if (!npy || file[6] < 1 || file[6] > 3 || length > size - start)
        gm_bad(path, "expected an npy file of version 1.0, 2.0 or 3.0 with its "
               "header, found %zu bytes", size);
    *data = start + length;
    return start;
}

int32_t *gm_npy_read(gm_arena *arena, const char *path, long *count) {
    static const char types[] = "<i4 <i8 <u2 <u4";
    gm_arena scratch = {0};
    size_t size, data;
    int end = 0;
    long length;
    char type[4] = "", digits[21];
    const char *file = gm_file_text(&scratch, path, &size);
    size_t start = npy_layout(path, (const uint8_t *)file, size, &data);
    /* as numpy writes it, on one line */
    sscanf(file + start, "{'descr': '%3[^' ]', 'fortran_order': False, 'shape':"
           " (%20[0-9],), }%n", type, digits, &end);
    if (!end || start + (size_t)end > data || strlen(type) != 3 ||
        !strstr(types, type) || !gm_is_long(digits, 0, LONG_MAX, &length))
        gm_bad(path, "npy header: expected a descr of %s, fortran_order False "
               "and shape (COUNT,), found %.*s", types,
               (int)strnlen(file + start, (size_t)gm_min(
                   (long)(data - start), 128)), file + start);
    const size_t each = (size_t)(type[2] - '0'), left = size - data;
    if (left % each || (size_t)length != left / each)
        gm_bad(path, "expected %ld elements of %zu bytes each, found %zu bytes "
               "of data", length, each, left);
    int32_t *tokens = gm_alloc(arena, (size_t)length, sizeof *tokens);
    for (long i = 0; i < length; i++) {
        int64_t value = 0;
        memcpy(&value, file + data + (size_t)i * each, each);
        if (strcmp(type, "<i4") == 0) value = (int32_t)value;
        if (value < 0 || value > INT32_MAX)
            gm_bad(path, "element %ld is %lld, expected a token id from 0 to "
                   "%d", i, (long long)value, INT32_MAX);
        tokens[i] = (int32_t)value;
    }
    *count = length;
    gm_arena_free(&scratch);
    return tokens;
}
