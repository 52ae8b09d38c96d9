/* base.c: errors, arenas, random numbers, SHA-256, numbers written by people.
   Uses libc and gm_utf8; everything else stands on this file.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ errors */

/* U+0080 to U+009F, as two bytes or as one: some terminals obey them too. */
char *gm_control(const char *text) {
    const char *end = text + strlen(text);
    uint32_t point = 0;
    for (int n; text < end; text += n) {
        n = gm_utf8(text, end, &point);
        if (!n || point < ' ' || (point >= 0x7F && point < 0xA0))
            return (char *)(uintptr_t)text;
    }
    return NULL;
}

void gm_clean(char *text, const char *keep) {
    for (char *c = text; (c = gm_control(c)); c++) {
        if (strchr(keep, (unsigned char)*c)) continue;
        if (*c == (char)0xC2 && (c[1] & 0xC0) == 0x80) *c++ = '?';
        *c = '?';
    }
}

/* The innermost open frame of this thread, and what is owned, newest first. */
static _Thread_local gm_frame *innermost;
static _Thread_local gm_owned *newest;

void gm_own(gm_owned *o, void (*release)(void *thing), void *thing) {
    *o = (gm_owned){newest, release, thing};
    newest = o;
}

const gm_owned *gm_owned_all(void) { return newest; }

void gm_disown(gm_owned *o) {
    gm_owned **at = &newest;
    while (*at && *at != o) at = &(*at)->below;
    if (!*at) return;
    for (gm_frame *f = innermost; f; f = f->below)
        if (f->newest == o) f->newest = o->below;
    *at = o->below;
    *o = (gm_owned){0};
}

void gm_frame_open(gm_frame *frame) {
    *frame = (gm_frame){.below = innermost, .newest = newest};
    innermost = frame;
}

void gm_frame_close(gm_frame *frame) { innermost = frame->below; }

gm_status gm_try(void (*body)(void *context), void *context, gm_error *err) {
    gm_frame frame;
    gm_frame_open(&frame);
    if (setjmp(frame.at) == 0) {
        body(context);
        gm_frame_close(&frame);
    }
    if (err && frame.status) *err = frame.error;
    return frame.status;
}

void gm_fail(gm_status status, const char *format, ...) {
    gm_frame *frame = innermost;
    gm_error error;                 /* the arguments may be in the frame's */
    va_list list;
    assert(frame && status != GM_OK);
    va_start(list, format);
    vsnprintf(error.text, sizeof error.text, format, list);
    va_end(list);
    gm_clean(error.text, "");
    frame->error = error;
    frame->status = status;
    while (newest != frame->newest) {
        gm_owned *o = newest;
        newest = o->below;
        o->release(o->thing);
    }
    gm_frame_close(frame);
    longjmp(frame->at, 1);
}

void gm_bad(const char *where, const char *format, ...) {
    gm_error error;
    va_list list;
    va_start(list, format);
    vsnprintf(error.text, sizeof error.text, format, list);
    va_end(list);
    gm_fail(GM_EINPUT, "%s: %s", strcmp(where, GM_STANDARD) ? where
            : "standard input", error.text);
}

static _Noreturn void out_of_memory(void) {
    gm_fail(GM_EMEM, "out of memory");
}

/* ------------------------------------------------------------------ arenas */

/* 0 under the sanitizers: each allocation its own block, guarded at its end. */
#ifndef GM_CHUNK
#define GM_CHUNK (1 << 20)
#endif
enum { ALIGN = 64, CHUNK = GM_CHUNK };

/* Chunks form a stack; `data` begins ALIGN bytes into the chunk itself. */
struct gm_chunk {
    struct gm_chunk *below;
    size_t capacity, fill;
};
_Static_assert(sizeof(struct gm_chunk) <= ALIGN, "chunk header fits");

static void arena_release(void *arena) { gm_arena_free(arena); }

void *gm_alloc(gm_arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2)
        out_of_memory();
    bytes = (bytes + ALIGN) / ALIGN * ALIGN;        /* never 0 */
    if (arena->dry) {
        arena->peak = arena->used += bytes;
        return arena;
    }
    struct gm_chunk *chunk = arena->chunk;
    if (!chunk || chunk->capacity - chunk->fill < bytes) {
        size_t capacity = bytes > CHUNK ? bytes : CHUNK;
        chunk = aligned_alloc(ALIGN, ALIGN + capacity);
        if (!chunk) out_of_memory();
        if (!arena->chunk) gm_own(&arena->owned, arena_release, arena);
        *chunk = (struct gm_chunk){arena->chunk, capacity, 0};
        arena->chunk = chunk;
    }
    uint8_t *data = (uint8_t *)chunk + ALIGN + chunk->fill;
    chunk->fill += bytes;
    arena->used += bytes;
    if (arena->used > arena->peak) arena->peak = arena->used;
    return memset(data, 0, bytes);
}

gm_mark gm_arena_mark(const gm_arena *arena) {
    struct gm_chunk *chunk = arena->chunk;
    return (gm_mark){chunk, chunk ? chunk->fill : 0, arena->used};
}

/* What is owned by a node in this chunk, from byte `fill` on, goes with it. */
static void release_within(const struct gm_chunk *chunk, size_t fill) {
    uintptr_t first = (uintptr_t)chunk + ALIGN + fill;
    uintptr_t end = (uintptr_t)chunk + ALIGN + chunk->capacity;
    for (gm_owned *o = newest, *below; o; o = below) {
        gm_owned was = *o;
        below = o->below;
        if ((uintptr_t)o < first || (uintptr_t)o >= end) continue;
        gm_disown(o);
        was.release(was.thing);
    }
}

void gm_arena_rewind(gm_arena *arena, gm_mark mark) {
    while (arena->chunk != mark.chunk) {
        struct gm_chunk *below = arena->chunk->below;
        release_within(arena->chunk, 0);
        free(arena->chunk);
        arena->chunk = below;
    }
    if (mark.chunk) release_within(mark.chunk, mark.fill);
    if (mark.chunk) mark.chunk->fill = mark.fill;
    else gm_disown(&arena->owned);
    arena->used = mark.used;
}

void gm_arena_free(gm_arena *arena) {
    gm_arena_rewind(arena, (gm_mark){0});
}

void *gm_grow(gm_arena *arena, const void *array, size_t count, size_t *room,
              size_t size) {
    if (count < *room) return (void *)(uintptr_t)array;
    *room = 2 * *room + 32;
    void *larger = gm_alloc(arena, *room, size);
    if (count) memcpy(larger, array, count * size);
    return larger;
}

char *gm_vformat(gm_arena *arena, const char *format, va_list list) {
    va_list again;
    va_copy(again, list);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) out_of_memory();
    char *text = gm_alloc(arena, (size_t)length + 1, 1);
    vsnprintf(text, (size_t)length + 1, format, list);
    return text;
}

char *gm_format(gm_arena *arena, const char *format, ...) {
    va_list list;
    va_start(list, format);
    char *text = gm_vformat(arena, format, list);
    va_end(list);
    return text;
}

/* '*' stands for any characters; the pattern ends at a comma. */
static bool matches(const char *p, const char *name) {
    const char *star = NULL, *from = name;  /* the last '*', what it leaves */
    for (;;) {
        const bool end = !*p || *p == ',';
        if (*p == '*') star = ++p, from = name;
        else if (!end && *p == *name) p++, name++;
        else if (end && !*name) return true;
        else if (star && *name) p = star, name = ++from;
        else return false;
    }
}

int gm_name_which(const char *patterns, const char *name) {
    int i = 0;
    for (const char *p = patterns; p; i++) {
        if (matches(p, name)) return i;
        p = strchr(p, ',');
        if (p) p++;
    }
    return -1;
}

bool gm_name_matches(const char *patterns, const char *name) {
    return gm_name_which(patterns, name) >= 0;
}

long gm_count_char(const char *text, char c) {
    long n = 0;
    for (; *text; text++) n += *text == c;
    return n;
}

const char *gm_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *gm_parent(gm_arena *arena, const char *path) {
    int length = (int)(gm_base_name(path) - path);
    if (length > 1) length--;       /* "a/b" is in "a", "/b" in "/" */
    return gm_format(arena, "%.*s", length ? length : 1, length ? path : ".");
}

/* ---------------------------------------------------------- random numbers */

/* The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit
   words in which every input bit moves every output bit. */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t gm_random(uint64_t seed, uint64_t stream, uint64_t counter) {
    const uint64_t golden = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = mix(seed + golden);
    z = mix(z ^ (stream + golden));
    return mix(z ^ (counter + golden));
}

double gm_uniform(uint64_t seed, uint64_t stream, uint64_t counter) {
    return (double)(gm_random(seed, stream, counter) >> 11) * 0x1p-53;
}

/* ----------------------------------------------------------------- SHA-256 */

const uint32_t gm_sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
    0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

/* FIPS 180-4, 6.2.2: one 64-byte block; a .. h of the standard are v[0] ..
   v[7]. */
static void sha_block(uint32_t h[8], const uint8_t *b) {
    uint32_t w[64], v[8];
    for (int t = 0; t < 16; t++, b += 4)
        w[t] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 |
               (uint32_t)b[2] << 8 | b[3];
    for (int t = 16; t < 64; t++) {
        uint32_t x = w[t - 15], y = w[t - 2];
        x = rotate(x, 7) ^ rotate(x, 18) ^ x >> 3;
        y = rotate(y, 17) ^ rotate(y, 19) ^ y >> 10;
        w[t] = w[t - 16] + x + w[t - 7] + y;
    }
    memcpy(v, h, sizeof v);
    for (int t = 0; t < 64; t++) {
        uint32_t a = v[0], e = v[4];
        uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
        uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
        uint32_t t1 = v[7] + s1 + ((e & v[5]) ^ (~e & v[6]));
        t1 += gm_sha_k[t] + w[t];
        uint32_t t2 = s0 + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        for (int i = 7; i > 0; i--) v[i] = v[i - 1];
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h[i] += v[i];
}

void gm_sha_scalar(uint32_t h[8], const uint8_t *b, size_t n) {
    for (; n--; b += 64) sha_block(h, b);
}

static void sha_blocks(uint32_t h[8], const uint8_t *b, size_t n) {
    if (gm_isa_now() == GM_SCALAR || !gm_sha_x86(h, b, n))
        gm_sha_scalar(h, b, n);
}

void gm_sha_begin(gm_sha *sha) {
    *sha = (gm_sha){.h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                          0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void gm_sha_add(gm_sha *sha, const void *data, size_t bytes) {
    const uint8_t *p = data;
    size_t fill = sha->length % 64;
    sha->length += bytes;
    for (size_t n; bytes; p += n, bytes -= n, fill = (fill + n) % 64) {
        n = bytes < 64 - fill ? bytes : 64 - fill;
        if (n == 64) {              /* as they stand there */
            n = bytes / 64 * 64;
            sha_blocks(sha->h, p, n / 64);
            continue;
        }
        memcpy(sha->block + fill, p, n);
        if (fill + n == 64) sha_blocks(sha->h, sha->block, 1);
    }
}

void gm_sha_end(gm_sha *sha, char hex[65]) {
    uint64_t bits = sha->length * 8;
    uint8_t tail[72] = {0x80};
    size_t pad = (119 - sha->length % 64) % 64 + 1;
    for (int i = 0; i < 8; i++)
        tail[pad + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    gm_sha_add(sha, tail, pad + 8);
    for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08x", sha->h[i]);
}

void gm_sha_of(const void *data, size_t bytes, char hex[65]) {
    gm_sha sha;
    gm_sha_begin(&sha);
    gm_sha_add(&sha, data, bytes);
    gm_sha_end(&sha, hex);
}

void gm_sha_tokens(const int32_t *tokens, long S, long T, char hex[65]) {
    gm_sha_of(tokens, (size_t)(S * T) * sizeof *tokens, hex);
}

/* --------------------------------------------- numbers written by people */

bool gm_is_long(const char *text, long least, long most, long *out) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (end == text || *end || errno || value < least || value > most)
        return false;
    *out = value;
    return true;
}

long gm_parse_long(const char *what, const char *text, long least, long most) {
    long value;
    if (!gm_is_long(text, least, most, &value))
        gm_fail(GM_EUSAGE, "%s: expected a whole number from %ld to %ld, found "
                "\"%s\"", what, least, most, text);
    return value;
}

bool gm_is_double(const char *text, double least, double most, double *out) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least && value <= most))
        return false;
    *out = value;
    return true;
}

double gm_parse_double(const char *what, const char *text, double least,
                       double most) {
    double value;
    if (!gm_is_double(text, least, most, &value))
        gm_fail(GM_EUSAGE, "%s: expected a number from %g to %g, found \"%s\"",
                what, least, most, text);
    return value;
}

int gm_parse_name(const char *what, const char *text, const char *const *name,
                  int count) {
    char list[256] = "";
    for (int i = 0; i < count; i++) {
        if (strcmp(text, name[i]) == 0) return i;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s",
                 i == 0 ? "" : i == count - 1 ? " or " : ", ", name[i]);
    }
    gm_fail(GM_EUSAGE, "%s: expected %s, found \"%s\"", what, list, text);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* The digits after the point from the last on: of whole numbers a and any x,
   floor((a + x) / 10) = floor((a + floor(x)) / 10), so that nothing is lost. */
bool gm_is_scaled(const char *text, size_t n, int64_t unit, int64_t *out) {
    __int128 value = 0, rest = 0;
    size_t point = 0;
    for (; point < n && is_digit(text[point]); point++) {
        value = value * 10 + (text[point] - '0');
        if (value > INT64_MAX) return false;
    }
    if (point < n && text[point] != '.') return false;
    for (size_t i = n; i > point + 1; i--) {
        if (!is_digit(text[i - 1])) return false;
        rest = ((text[i - 1] - '0') * (__int128)unit + rest) / 10;
    }
    value = value * unit + rest;        /* below 2^126 + 2^63 */
    if (n == 0 || (n == 1 && point == 0) || value > INT64_MAX) return false;
    *out = (int64_t)value;
    return true;
}

int64_t gm_parse_scaled(const char *what, const char *text, int64_t unit) {
    int64_t value;
    if (!gm_is_scaled(text, strlen(text), unit, &value))
        gm_fail(GM_EUSAGE, "%s: expected a decimal number such as 2.5, found "
                "\"%s\"", what, text);
    return value;
}

/* ------------------------------------------------------- progress and time */

void gm_say(const gm_report *report, const char *what, long done, long total) {
    if (report && report->progress)
        report->progress(report->context, what, done, total);
}

double gm_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
