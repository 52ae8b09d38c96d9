/* verify.c: two dumps, told line by line, compared and explained.  A line is a
   tensor of both:

       NAME TYPE SHAPE OURS [THEIRS [TYPE SHAPE]]

   TYPE is a letter of `types`, SHAPE 3,4 or . for a scalar.  OURS is - where
   ours has none, else a number, all its elements, and changes: +N, *N, rN adds
   N times the place, nN, iN put NaN, infinity at place N, mN moves elements by
   N places.  THEIRS is -, or changes of ours; the type and shape are ours
   unless stated.  "# KEY VALUE" is metadata of both.  Whatever the words are,
   they mean something: mutations change what the dumps hold, not only bytes.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"
#include "audit/audit.h"

#include <float.h>
#include <math.h>

int gamma_main(int argc, char **argv);

enum { MOST = 1 << 14, LINES = 64 };    /* elements of a dump, tensors */

static const struct { char letter; const char *name; gm_dtype dtype; }
types[] = {{'f', "F32", GM_F32}, {'d', "F64", GM_F64}, {'h', "F16", GM_F16},
           {'b', "BF16", GM_BF16}, {'u', "U8", GM_U8}, {'c', "I8", GM_I8},
           {'i', "I32", GM_I32}, {'l', "I64", GM_I64}, {'o', "BOOL", GM_OTHER}};
enum { TYPES = sizeof types / sizeof *types };

/* One dump as it grows: header and data. */
typedef struct {
    char head[1 << 16], *at;
    uint8_t data[8 * MOST];
    size_t bytes;
    long elements;
    bool metadata;
} dump;

/* What must come of a tensor: unknown, equal, NaN. */
typedef struct { char name[256]; enum { ANY, EQUAL, NANS } must; } expectation;

static int type_of(const char *word) {
    int i = 0;
    while (i < TYPES && types[i].letter != *word) i++;
    return i % TYPES;
}

/* "[3,4]" of 3,4; *count: its elements, or -1: more than MOST. */
static void shape_of(const char *word, char *shape, long *count) {
    char *to = shape;
    bool zero = false;
    *count = 1;
    for (int i = 0; i < 8 && *word >= '0' && *word <= '9'; i++) {
        char *end;
        const long long n = strtoll(word, &end, 10);
        zero |= n == 0;
        *count = *count < 0 || n > MOST || *count * n > MOST ? -1 : *count * n;
        to += sprintf(to, "%c%lld", i ? ',' : '[', n);
        word = end + (*end == ',');
    }
    if (to == shape) *to++ = '[';
    if (zero) *count = 0;
    strcpy(to, "]");
}

/* Applies the changes to n elements. */
static void change(const char *word, long n, double *x) {
    static double old[MOST];
    while (*word) {
        char *end;
        const char op = *word++;
        const double by = strtod(word, &end);
        const long at = n && fabs(by) < MOST ? (labs((long)by)) % n : 0;
        memcpy(old, x, (size_t)n * sizeof *x);
        for (long k = 0; k < n; k++)
            x[k] = op == '+' ? x[k] + by : op == '*' ? x[k] * by
                 : op == 'r' ? x[k] + by * (double)k
                 : op == 'm' ? old[(k + at) % n]
                 : op == 'n' && k == at ? (double)NAN
                 : op == 'i' && k == at ? HUGE_VAL : x[k];
        word = end;
    }
}

static void store(int type, const double *x, long n, uint8_t *to) {
    const gm_dtype dtype = types[type].dtype;
    for (long k = 0; k < n; k++) {
        const gm_real f = fabs(x[k]) > (double)FLT_MAX ? (gm_real)HUGE_VAL
                                                       : (gm_real)x[k];
        const int64_t l = fabs(x[k]) < 0x1p62 ? (int64_t)x[k] : 0;
        const size_t size = dtype == GM_OTHER ? 1 : gm_dtype_bytes(dtype);
        if (dtype == GM_F64) memcpy(to, x + k, 8);
        else if (dtype < GM_F64) gm_store(dtype, &f, 1, to);
        else memcpy(to, &l, size);
        to += size;
    }
}

/* false: it has no room. */
static bool add(dump *d, const char *name, int type, const char *shape, long n,
                const double *x) {
    const size_t size = types[type].dtype == GM_OTHER
                        ? 1 : gm_dtype_bytes(types[type].dtype);
    if (n < 0 || d->elements + n > MOST) return false;
    store(type, x, n, d->data + d->bytes);
    d->at += sprintf(d->at, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,"
                     "\"data_offsets\":[%zu,%zu]}", d->at == d->head ? "{" : ",",
                     name, types[type].name, shape, d->bytes,
                     d->bytes + size * (size_t)n);
    d->bytes += size * (size_t)n;
    d->elements += n;
    return true;
}

/* Of a float type, which holds x to the end. */
static bool is_finite(int type, long n, const double *x) {
    for (long k = 0; k < n; k++)
        if (!(fabs(x[k]) < (types[type].dtype == GM_F64 ? HUGE_VAL : 6e4)))
            return false;
    return types[type].dtype != GM_OTHER;
}

static void tensor(char **word, int words, dump d[2], expectation *e) {
    static double x[MOST], y[MOST];
    char shape[2][256];
    long n[2];
    const char *theirs = words > 4 ? word[4] : "";
    const int type[2] = {type_of(word[1]), type_of(word[words > 5 ? 5 : 1])};
    bool there[2] = {*word[3] != '-', *theirs != '-'}, nan = false;
    shape_of(word[2], shape[0], n);
    shape_of(word[words > 6 ? 6 : 2], shape[1], n + 1);
    const long most = n[0] > n[1] ? n[0] : n[1];
    char *end;
    const double all = strtod(word[3], &end);
    for (long k = 0; k < most; k++) x[k] = all;
    if (most > 0) change(end, most, x), memcpy(y, x, (size_t)most * sizeof *y);
    if (most > 0 && there[1]) change(theirs, most, y);
    if (there[0]) there[0] = add(d, word[0], type[0], shape[0], n[0], x);
    if (there[1]) there[1] = add(d + 1, word[0], type[1], shape[1], n[1], y);
    snprintf(e->name, sizeof e->name, "%s", word[0]);
    const bool same = there[0] && there[1] && strcmp(shape[0], shape[1]) == 0;
    for (long k = 0; k < n[1] && same; k++) nan |= isnan(y[k]);
    if (same && nan && types[type[1]].dtype <= GM_F64) e->must = NANS;
    if (same && type[0] == type[1] && !*theirs && is_finite(type[0], n[0], x))
        e->must = EQUAL;
}

static void metadata(const char *key, const char *value, dump *d) {
    d->at += sprintf(d->at, "%s\"%s\":\"%s\"", d->metadata ? "," :
                     "{\"__metadata__\":{", key, value);
    d->metadata = true;
}

/* The text's lines as two dumps; returns how many tensors. */
static long build(char *text, dump d[2], expectation *e) {
    long count = 0, keys = 0;
    char *key[LINES];
    d[0].at = d[0].head, d[1].at = d[1].head;
    for (int pass = 0; pass < 2; pass++) {
        char *copy = strdup(text), *rest = copy;
        for (char *line; (line = strsep(&rest, "\n"));) {
            char *word[7] = {0}, *w;
            int words = 0;
            while (words < 7 && (w = strsep(&line, " ")))
                if (*w) word[words++] = w;
            if (!words || (*word[0] == '#') == pass) continue;
            bool again = false;
            for (long i = 0; i < keys && !pass && words == 3; i++)
                again |= strcmp(key[i], word[1]) == 0;
            for (long i = 0; i < count && pass; i++)
                again |= strcmp(e[i].name, word[0]) == 0;
            if (again || strlen(word[0]) > 250) continue;
            if (!pass && words == 3 && keys < LINES / 2) {
                metadata(word[1], word[2], d), metadata(word[1], word[2], d + 1);
                key[keys++] = strdup(word[1]);
            }
            if (pass && words > 3 && count < LINES)
                tensor(word, words, d, e + count++);
        }
        free(copy);
        for (int i = 0; i < 2 && !pass && keys; i++)
            d[i].at += sprintf(d[i].at, "}");
    }
    while (keys) free(key[--keys]);
    return count;
}

/* Length, header, data: a file. */
static char *file_of(dump *d, size_t *size) {
    d->at += sprintf(d->at, "%s", d->at == d->head ? "{}" : "}");
    const size_t n = (size_t)(d->at - d->head);
    *size = 8 + n + d->bytes;
    char *file = malloc(*size);
    for (int i = 0; i < 8; i++) file[i] = (char)((uint64_t)n >> 8 * i);
    memcpy(file + 8, d->head, n);
    memcpy(file + 8 + n, d->data, d->bytes);
    return file;
}

static void check(const gm_verification *r, const expectation *e, long count) {
    long compared = 0, failed = 0, first = -1;
    for (long i = 0; i < r->count; i++) {
        const gm_verdict *v = r->verdict + i;
        const bool departs = v->outcome == GM_DEPARTS;
        compared += v->outcome != GM_ABSENT;
        failed += departs;
        if (departs && first < 0) first = i;
        FUZZ_CHECK((v->a && v->b) == (v->outcome != GM_ABSENT));
        FUZZ_CHECK(!i || v[-1].order <= v->order);
        FUZZ_CHECK(!v->problem || departs);
        for (long j = 0; j < count; j++) {
            if (strcmp(e[j].name, v->name) != 0) continue;
            FUZZ_CHECK(e[j].must != EQUAL || !departs);
            FUZZ_CHECK(e[j].must != NANS || departs);
        }
    }
    FUZZ_CHECK(r->compared == compared && r->failed == failed);
    FUZZ_CHECK(r->first == first && (r->message != NULL) == (first >= 0));
    FUZZ_CHECK(r->hints >= 0 && r->hints <= (first >= 0 ? 8 : 12));
    for (long i = 0; i < r->hints; i++) FUZZ_CHECK(*r->hint[i]);
}

void fuzz_verify(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1), *file[2];
    char argv[4][16] = {"gamma", "verify", "/fuzz/a", "/fuzz/b"};
    dump *d = calloc(2, sizeof *d);
    expectation *e = calloc(LINES, sizeof *e);
    size_t n[2];
    for (size_t i = 0; i < size; i++)
        text[i] = data[i] == '\n' || (data[i] >= ' ' && data[i] < 0x7F &&
                  !strchr("\"\\/", data[i])) ? (char)data[i] : '_';
    text[size] = 0;
    const long count = size > 4096 ? 0 : build(text, d, e);
    gm_arena arena = {0};
    gm_tensors tensors[2] = {{0}};
    gm_verification r = {.first = -1};
    fuzz_begin();
    for (int i = 0; i < 2; i++) {
        file[i] = file_of(d + i, n + i);
        fuzz_file(argv[2 + i], file[i], n[i]);
    }
    gm_status s = GM_OK;
    for (int i = 0; i < 2 && !s; i++)
        s = STATUS(gm_safetensors_open(&arena, argv[2 + i], tensors + i));
    if (!s) s = STATUS(gm_verify(&arena, tensors, tensors + 1, NULL, -1, &r));
    if (!s) s = STATUS(gm_recognise(&arena, tensors, tensors + 1, &r));
    if (!s) check(&r, e, count);
    /* of one block: no more, unless it is not there */
    gm_verification one = {.first = -1};
    const gm_status t = s ? s : STATUS(gm_verify(
        &arena, tensors, tensors + 1, NULL, (long)(size % 4), &one));
    FUZZ_CHECK(s || !t || t == GM_EINPUT);
    if (!t) {
        FUZZ_CHECK(one.compared > 0 && one.compared <= r.compared);
        FUZZ_CHECK(STATUS(gm_recognise(&arena, tensors, tensors + 1, &one)) ==
                   GM_OK);
    }
    for (int i = 0; i < 2; i++) gm_tensors_close(tensors + i);
    gm_arena_free(&arena);
    char *word[5] = {argv[0], argv[1], argv[2], argv[3], NULL};
    FUZZ_CHECK(gamma_main(4, word) == (s ? (int)s : r.message ? GM_EDIFFER
                                                             : GM_OK));
    fuzz_end(4096, 1 << 22);
    free(file[0]), free(file[1]), free(text), free(d), free(e);
}
