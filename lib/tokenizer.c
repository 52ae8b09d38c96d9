/* tokenizer.c: byte-level BPE (Sennrich et al. 2016; bytes: Radford et al.
   2019) from a tokenizer.json, giving the ids that the `tokenizers` library
   gives with add_special_tokens = False.  What is done to a text, in order:

     1. added tokens that match raw text become ids, what lies between: pieces
     2. a piece is normalized (NFC)
     3. added tokens that match normalized text become ids
     4. pre-tokenizers (Digits, Split, ByteLevel) cut a piece into words
     5. each byte of a word becomes the token that stands for it
     6. merges: the pair of lowest rank becomes one token, until none is left

   Sees untrusted bytes, both the file's and the text's.  May touch: tensors.c
   for JSON and UTF-8, unicode.h for its tables, base.c.  What it does not know
   it refuses, by field and value: a near miss would change every id after it.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"
#include "unicode.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    MAX_STEPS = 8,                  /* pre-tokenizers before ByteLevel */
    MAX_TEXT = 1 << 29,             /* NFC makes at most 3 times as much,
                                       which int32 still counts */
    NONE_OF = 1 << 7,               /* beside classes of unicode.h */
    ALL = INT_MAX                   /* as many characters as there are */
};

/* A pre-tokenizer: the end of the piece that begins at `at` < `end`, in which
   at most so many digits stand together.  match NULL: all is one piece. */
struct step {
    const char *(*match)(const char *at, const char *end, int digits);
    int digits;
};

/* A token outside the model's vocabulary proper, found in the text itself. */
struct added {
    const char *content;
    size_t length;
    int32_t id;
    bool lstrip, rstrip, single_word, normalized;
};

/* Tokens by text (key: its hash) or merges by pair (text: NULL, key: both ids).
   Open addressing, a power of two of slots, at most half of them used. */
struct slot {
    const char *text;
    uint64_t key;
    uint32_t order;         /* 0: empty; of merges, the lower the earlier */
    int32_t id;
};
struct table { struct slot *slot; size_t mask; };

struct gm_tokenizer {
    const char *path;
    bool nfc, prefix_space, ignore_merges, fuse_unk;
    struct step step[MAX_STEPS + 1];        /* the last is ByteLevel's      */
    int steps;
    const struct added *added;      /* a longer one before what begins it   */
    long first[257];                /* how many begin with byte b or more   */
    int32_t byte_id[256];           /* -1: no such token                    */
    int32_t unk;                    /* -1: none                             */
    struct table vocab, merges;
    long size;                      /* largest id + 1                       */
};

struct symbol { int32_t id, previous, next; };      /* id -1: it is gone */

/* All that one call of gm_tokenize needs. */
struct work {
    const gm_tokenizer *t;
    gm_arena arena, scratch;        /* of the call; of a word or stretch    */
    int32_t *id;                    /* [ids] the result                     */
    size_t ids, id_room;
    struct symbol *symbol;          /* of one word                          */
    uint64_t *heap;                 /* order, place of merges, lowest first */
    size_t heaps;
};

static void push_id(struct work *w, int32_t id) {
    w->id = gm_grow(&w->arena, w->id, w->ids, &w->id_room, sizeof *w->id);
    w->id[w->ids++] = id;
}

/* The last row of a sorted table that is not behind (a, b). */
static const uint32_t *row_of(const uint32_t (*table)[3], size_t bytes,
                              uint32_t a, uint32_t b) {
    size_t low = 0, high = bytes / sizeof *table;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        const uint32_t *row = table[middle];
        if (row[0] < a || (row[0] == a && row[1] <= b)) low = middle;
        else high = middle;
    }
    return table[low];
}

/* The classes of the character at `at`, and its bytes. */
static int classes(const char *at, const char *end, int *length) {
    uint32_t point = 0;
    *length = gm_utf8(at, end, &point);
    if (point < sizeof ascii_classes) return ascii_classes[point];
    const uint32_t *row = row_of(class_ranges, sizeof class_ranges, point,
                                 UINT32_MAX);
    return point <= row[1] ? (int)row[2] : 0;
}

/* Past at most `most` characters of any class in `mask`, or of no class in it
   when NONE_OF is in it too. */
static const char *take(const char *at, const char *end, int mask, int most) {
    bool outside = mask & NONE_OF;
    int length;
    while (at < end && most-- && !(classes(at, end, &length) & mask) == outside)
        at += length;
    return at;
}

/* The character before `at`. */
static const char *back(const char *at) {
    do at--; while ((*at & 0xC0) == 0x80);
    return at;
}

/* -------------------------------------------------------------------- NFC
   Unicode Standard Annex 15.  A character that is not NFC_MAYBE begins a
   stretch that no earlier character can influence; stretches of one such
   character, nearly all of most texts, are copied. */

/* A character of a stretch: its combining class, its place before sorting. */
struct mark { uint32_t point; int order, place; };

static int by_order(const void *a, const void *b) {
    const struct mark *x = a, *y = b;
    if (x->order != y->order) return x->order < y->order ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

/* Appends the full canonical decomposition, at most three levels deep, to the
   n characters of m; how many there are then.  Hangul syllables stay whole:
   composing their parts again would give them back, and join() lets a final
   consonant join a whole syllable. */
static int decompose(uint32_t point, struct mark *m, int n) {
    const uint32_t *row = row_of(decompositions, sizeof decompositions, point,
                                 UINT32_MAX);
    if (point && row[0] == point) {
        n = decompose(row[1], m, n);
        point = row[2];
        if (!point) return n;
    }
    row = row_of(mark_ranges, sizeof mark_ranges, point, UINT32_MAX);
    m[n] = (struct mark){point, point <= row[1] ? (int)row[2] : 0, n};
    return n + 1;
}

/* The character that a and b make together, or 0.  Hangul: one of 19 leading
   consonants, one of 21 vowels and one of 27 final consonants. */
static uint32_t join(uint32_t a, uint32_t b) {
    if (a - 0x1100 < 19 && b - 0x1161 < 21)
        return 0xAC00 + ((a - 0x1100) * 21 + (b - 0x1161)) * 28;
    if (a - 0xAC00 < 19 * 21 * 28 && (a - 0xAC00) % 28 == 0 && b - 0x11A8 < 27)
        return a + (b - 0x11A7);
    const uint32_t *row = row_of(compositions, sizeof compositions, a, b);
    return row[0] == a && row[1] == b ? row[2] : 0;
}

/* Each character joins the last starter unless something between them has
   combining class 0 or one at least as high as its own. */
static int compose(struct mark *m, int n) {
    int out = 0, starter = -1, last = 0;
    for (int i = 0; i < n; i++) {
        struct mark next = m[i];
        bool free = starter >= 0 && (last < next.order ||
                                     (last == 0 && starter + 1 == out));
        uint32_t whole = free ? join(m[starter].point, next.point) : 0;
        if (whole) {
            m[starter].point = whole;
            continue;
        }
        if (next.order == 0) starter = out;
        last = next.order;
        m[out++] = next;
    }
    return out;
}

/* Writes the normal form of a stretch; its end. */
static char *normal_stretch(struct work *w, const char *at, const char *end,
                            char *to) {
    gm_mark before = gm_arena_mark(&w->scratch);
    struct mark *m = gm_alloc(&w->scratch, 4 * (size_t)(end - at), sizeof *m);
    int n = 0, stop;
    uint32_t point = 0;
    while (at < end) {
        at += gm_utf8(at, end, &point);
        n = decompose(point, m, n);
    }
    for (int i = 0; i < n; i = stop + 1) {      /* each run of marks */
        for (stop = i; stop < n && m[stop].order;) stop++;
        qsort(m + i, (size_t)(stop - i), sizeof *m, by_order);
    }
    n = compose(m, n);
    for (int i = 0; i < n; i++) to += gm_utf8_put(m[i].point, to);
    gm_arena_rewind(&w->scratch, before);
    return to;
}

/* *text, *text_end become its normal form.  No code point and no composition
   needs more than 3 times the bytes that it is made of. */
static void normalize(struct work *w, const char **text,
                      const char **text_end) {
    const char *at = *text, *end = *text_end, *next;
    if (!w->t->nfc || take(at, end, NONE_OF | NFC_MAYBE, ALL) == end) return;
    char *to = gm_alloc(&w->arena, (size_t)(end - at), 3);
    for (*text = to; at < end; at = next) {
        int length;
        bool maybe = classes(at, end, &length) & NFC_MAYBE;
        next = take(at + length, end, NFC_MAYBE, ALL);
        if (maybe || next > at + length) to = normal_stretch(w, at, next, to);
        else to = (char *)memcpy(to, at, (size_t)length) + length;
    }
    *text_end = to;
}

/* --------------------------------------------------------- pre-tokenizers */

static bool is_newline(char c) { return c == '\r' || c == '\n'; }

/* Past 's 't 're 've 'm 'll 'd, or `at`.  When case is ignored, U+017F (long
   s) counts as s, as Unicode folds it. */
static const char *contraction(const char *at, const char *end, bool fold) {
    static const char *const tail[] = {"s", "t", "re", "ve", "m", "ll", "d",
                                       "\xC5\xBF"};
    for (int i = 0; *at == '\'' && i < 7 + fold; i++) {
        size_t n = strlen(tail[i]);
        if ((size_t)(end - at) > n &&
            (fold ? strncasecmp : strncmp)(at + 1, tail[i], n) == 0)
            return at + 1 + n;
    }
    return at;
}

/* The patterns of GPT-2 (without a limit on digits) and of Llama 3 and Qwen. */
static const char *match_words(const char *at, const char *end, int digits) {
    const bool gpt2 = digits == ALL;
    const char *spaced = at + (*at == ' '), *start = gpt2 ? spaced : at;
    const char *past = contraction(at, end, !gpt2), *line;
    if (past > at) return past;
    if ((past = take(start, end, NUMBER, digits)) > start) return past;
    if (!gpt2 && !is_newline(*at)) start = take(at, end, NONE_OF | LETTER, 1);
    if ((past = take(start, end, LETTER, ALL)) > start) return past;
    past = take(spaced, end, NONE_OF | LETTER | NUMBER | SPACE, ALL);
    if (past > spaced) {
        while (!gpt2 && past < end && is_newline(*past)) past++;
        return past;
    }
    line = past = take(at, end, SPACE, ALL);
    while (line > at && (gpt2 || !is_newline(line[-1]))) line--;
    if (line > at) return line;
    /* the last white space is left to what comes next, but not the only one */
    return past == end || back(past) == at ? past : back(past);
}

/* Digits, or what lies between them. */
static const char *match_digits(const char *at, const char *end, int digits) {
    const char *past = take(at, end, DIGIT, digits);
    return past > at ? past : take(at, end, NONE_OF | DIGIT, ALL);
}

static const struct { const char *regex; struct step step; } patterns[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
     "\\s+(?!\\S)|\\s+", {match_words, ALL}},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
     " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     {match_words, 3}},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
     " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     {match_words, 1}},
};
enum { PATTERNS = sizeof patterns / sizeof *patterns };

/* ------------------------------------------------------ bytes, vocabulary */

/* The character that stands for a byte in the vocabulary: itself when it is
   visible in Latin-1, else the next one free from U+0100 on. */
static uint32_t byte_point(uint8_t byte) {
    if (byte >= 0x21 && byte <= 0x7E) return byte;
    if (byte >= 0xA1 && byte != 0xAD) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte <= 0xA0) return 0x121u + (byte - 0x7Fu);
    return 0x143;
}

static struct table new_table(gm_arena *arena, size_t count) {
    size_t slots = 16;
    while (slots < 2 * count) slots *= 2;
    return (struct table){gm_alloc(arena, slots, sizeof(struct slot)),
                          slots - 1};
}

/* The slot of the key, or the empty one where it goes. */
static struct slot *slot_of(const struct table *t, uint64_t key,
                            const char *text) {
    uint64_t x = (key ^ key >> 32) * 0x9E3779B97F4A7C15u;
    for (size_t i = (x ^ x >> 29) & t->mask;; i = (i + 1) & t->mask) {
        struct slot *s = &t->slot[i];
        if (!s->order || (s->key == key && (!text || !strcmp(s->text, text))))
            return s;
    }
}

static uint64_t text_key(const char *text) {
    uint64_t hash = 0xCBF29CE484222325u;            /* FNV-1a */
    for (; *text; text++) hash = (hash ^ (uint8_t)*text) * 0x100000001B3u;
    return hash;
}

static uint64_t pair_key(int32_t a, int32_t b) {
    return (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
}

/* -1: not in the vocabulary. */
static int32_t token_id(const gm_tokenizer *t, const char *text) {
    const struct slot *s = slot_of(&t->vocab, text_key(text), text);
    return s->order ? s->id : -1;
}

/* The id of the whole word if the vocabulary has it, else -1. */
static int32_t whole_word(struct work *w, const char *at, const char *end) {
    gm_mark before = gm_arena_mark(&w->scratch);
    char *key = gm_alloc(&w->scratch, 2 * (size_t)(end - at) + 1, 1), *to = key;
    for (; at < end; at++) to += gm_utf8_put(byte_point((uint8_t)*at), to);
    int32_t id = token_id(w->t, key);
    gm_arena_rewind(&w->scratch, before);
    return id;
}

/* One symbol a byte, linked in order; returns how many.  A byte without a
   token becomes the unknown token, or nothing where there is none. */
static int32_t spell(struct work *w, const char *at, const char *end) {
    int32_t n = 0;
    bool known = true;
    for (; at < end; at++) {
        int32_t id = w->t->byte_id[(uint8_t)*at];
        bool fused = !known && w->t->fuse_unk;
        known = id >= 0;
        if (!known && !fused) id = w->t->unk;
        if (id < 0) continue;
        w->symbol[n] = (struct symbol){id, n - 1, n + 1};
        n++;
    }
    if (n) w->symbol[n - 1].next = -1;
    return n;
}

/* ------------------------------------------------------------------ merges */

static void heap_push(struct work *w, uint64_t c) {
    size_t i = w->heaps++;
    for (; i > 0 && c < w->heap[(i - 1) / 2]; i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static uint64_t heap_pop(struct work *w) {
    uint64_t *h = w->heap, top = h[0], c = h[--w->heaps];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < w->heaps; i = child) {
        child += child + 1 < w->heaps && h[child + 1] < h[child];
        if (h[child] >= c) break;
        h[i] = h[child];
    }
    h[i] = c;
    return top;
}

/* The merge of the symbol at `place` with the one after it, or NULL. */
static const struct slot *merge_at(const struct work *w, int32_t place) {
    const struct symbol *s = w->symbol;
    if (place < 0 || s[place].id < 0 || s[place].next < 0) return NULL;
    const uint64_t pair = pair_key(s[place].id, s[s[place].next].id);
    const struct slot *m = slot_of(&w->t->merges, pair, NULL);
    return m->order ? m : NULL;
}

static void consider(struct work *w, int32_t place) {
    const struct slot *m = merge_at(w, place);
    if (m) heap_push(w, (uint64_t)m->order << 32 | (uint32_t)place);
}

/* Lowest rank first, leftmost first among equals; what is queued may have lost
   its symbols to an earlier merge since.  Every merge removes a symbol and
   queues at most two more: the heap stays below 3 n. */
static void merge_word(struct work *w, int32_t n) {
    w->heaps = 0;
    for (int32_t i = 0; i + 1 < n; i++) consider(w, i);
    while (w->heaps) {
        const uint64_t first = heap_pop(w);
        const int32_t place = (int32_t)(first & INT32_MAX);
        const struct slot *m = merge_at(w, place);
        if (!m || m->order != first >> 32) continue;
        struct symbol *s = &w->symbol[place], *right = &w->symbol[s->next];
        s->id = m->id;
        s->next = right->next;
        right->id = -1;
        if (s->next >= 0) w->symbol[s->next].previous = place;
        consider(w, s->previous);
        consider(w, place);
    }
}

static void encode_word(struct work *w, const char *at, const char *end) {
    size_t bytes = (size_t)(end - at);
    int32_t id = w->t->ignore_merges ? whole_word(w, at, end) : -1;
    if (id >= 0) {
        push_id(w, id);
        return;
    }
    gm_mark before = gm_arena_mark(&w->scratch);
    w->symbol = gm_alloc(&w->scratch, bytes, sizeof *w->symbol);
    w->heap = gm_alloc(&w->scratch, bytes, 3 * sizeof *w->heap);
    int32_t n = spell(w, at, end);
    merge_word(w, n);
    for (int32_t i = n ? 0 : -1; i >= 0; i = w->symbol[i].next)
        push_id(w, w->symbol[i].id);
    gm_arena_rewind(&w->scratch, before);
}

/* ------------------------------------------------- pieces and added tokens */

/* Cuts a piece by pre-tokenizer `step`, its parts by the next one, ...; what
   the last one, ByteLevel, leaves are words. */
static void cut(struct work *w, int step, const char *at, const char *end) {
    const gm_tokenizer *t = w->t;
    const struct step *s = &t->step[step];
    bool last = step == t->steps - 1;
    gm_mark before = gm_arena_mark(&w->scratch);
    if (last && t->prefix_space && *at != ' ') {
        size_t bytes = (size_t)(end - at);
        char *spaced = gm_alloc(&w->scratch, bytes + 1, 1);
        *spaced = ' ';
        memcpy(spaced + 1, at, bytes);
        at = spaced;
        end = spaced + bytes + 1;
    }
    for (const char *next; at < end; at = next) {
        next = s->match ? s->match(at, end, s->digits) : end;
        if (last) encode_word(w, at, next);
        else cut(w, step + 1, at, next);
    }
    gm_arena_rewind(&w->scratch, before);
}

/* The longest added token of a pass (0: over raw text, 1: over normalized
   text) that stands at `at`, or NULL. */
static const struct added *added_at(const gm_tokenizer *t, int pass,
                                    const char *at, const char *end) {
    const long *first = &t->first[(uint8_t)*at];
    for (long i = first[1]; i < first[0]; i++) {
        const struct added *a = &t->added[i];
        if (a->normalized == pass && (size_t)(end - at) >= a->length &&
            memcmp(at, a->content, a->length) == 0)
            return a;
    }
    return NULL;
}

/* Finds added tokens, leftmost and longest; what lies between goes to the next
   pass, then to the pre-tokenizers.  As in the library, lstrip takes the white
   space before a token along as far as none has it yet, rstrip that after it,
   be it other tokens; one that is left nothing of its own gives no id. */
static void find(struct work *w, int pass, const char *text, const char *end) {
    if (text >= end) return;
    if (pass == 1) normalize(w, &text, &end);
    if (pass == 2) {
        cut(w, 0, text, end);
        return;
    }
    const char *done = text;
    for (const char *at = text; at < end;) {
        const struct added *a = added_at(w->t, pass, at, end);
        const char *start = at, *stop = at + (a ? a->length : 1);
        at = stop;
        if (!a) continue;
        if (a->single_word &&
            ((start > text && take(back(start), start, WORD, 1) == start) ||
             take(stop, end, WORD, 1) > stop))
            continue;
        while (a->lstrip && start > done &&
               take(back(start), start, SPACE, 1) == start)
            start = back(start);
        if (a->lstrip && start < done) start = done;
        if (a->rstrip) stop = take(stop, end, SPACE, ALL);
        if (start >= stop) continue;
        find(w, pass + 1, done, start);
        push_id(w, a->id);
        done = stop;
    }
    find(w, pass + 1, done, end);
}

int32_t *gm_tokenize(const gm_tokenizer *tokenizer, gm_arena *arena,
                     const char *text, size_t bytes, long *count) {
    struct work w = {.t = tokenizer};
    const char *end = text + bytes;
    uint32_t point;
    if (bytes >= MAX_TEXT)
        gm_fail(GM_ELIMIT, "text of %zu bytes, expected fewer than %d", bytes,
                MAX_TEXT);
    for (const char *at = text; at < end; at += gm_utf8(at, end, &point))
        if (!gm_utf8(at, end, &point))
            gm_bad("text", "byte 0x%02X at offset %td is not valid UTF-8",
                   (uint8_t)*at, at - text);
    gm_alloc(&w.scratch, 1, 1);     /* keeps the first chunk for all words */
    find(&w, 0, text, end);
    int32_t *tokens = gm_alloc(arena, w.ids, sizeof *tokens);
    if (w.ids) memcpy(tokens, w.id, w.ids * sizeof *tokens);
    *count = (long)w.ids;
    gm_arena_free(&w.scratch);
    gm_arena_free(&w.arena);
    return tokens;
}

long gm_tokenizer_size(const gm_tokenizer *tokenizer) {
    return tokenizer->size;
}

/* ---------------------------------------------------------- tokenizer.json */

struct load {
    gm_tokenizer *t;
    gm_arena *arena;            /* the caller's, for what stays             */
    gm_arena scratch;           /* for the JSON and what goes               */
    const gm_json *model;
};

/* "pre_tokenizer.type: "Whitespace", expected ..."; absent is "nothing". */
_Noreturn static void refuse(const struct load *l, const char *field,
                             const gm_json *found, const char *expected) {
    gm_bad(l->t->path, "%s: %s, expected %s", field, gm_json_show(found).text,
           expected);
}

/* The member that the last part of `field` names: "model.vocab". */
static const gm_json *member(const gm_json *object, const char *field) {
    const char *dot = strrchr(field, '.');
    return gm_json_get(object, dot ? dot + 1 : field);
}

static bool is_null(const gm_json *v) {
    return !v || v->type == GM_JSON_NULL;
}

/* A string without \u0000. */
static bool is_plain(const gm_json *v) {
    return v && v->type == GM_JSON_STRING && strlen(v->string) == v->length;
}

/* A boolean member; `absent` < 0: it must be there. */
static bool flag(const struct load *l, const gm_json *object,
                 const char *field, int absent) {
    const gm_json *v = member(object, field);
    if (is_null(v) && absent >= 0) return absent != 0;
    if (!v || v->type != GM_JSON_BOOL) refuse(l, field, v, "true or false");
    return v->number != 0;
}

/* A list or object that must be there. */
static const gm_json *parts(const struct load *l, const gm_json *object,
                            const char *field, gm_json_type type) {
    const gm_json *v = member(object, field);
    if (!v || v->type != type)
        refuse(l, field, v, type == GM_JSON_ARRAY ? "an array" : "an object");
    return v;
}

static void load_normalizer(const struct load *l, const gm_json *n) {
    static const char expected[] = "null, NFC or a Sequence of NFC";
    const gm_json *type = gm_json_get(n, "type");
    if (is_null(n)) return;
    if (n->type != GM_JSON_OBJECT) refuse(l, "normalizer", n, expected);
    l->t->nfc = gm_json_is(type, "NFC");
    if (l->t->nfc) return;
    if (!gm_json_is(type, "Sequence"))
        refuse(l, "normalizer.type", type, expected);
    n = parts(l, n, "normalizer.normalizers", GM_JSON_ARRAY)->child;
    for (l->t->nfc = n; n; n = n->next)
        if (!gm_json_is(gm_json_get(n, "type"), "NFC"))
            refuse(l, "normalizer.normalizers[].type", gm_json_get(n, "type"),
                   "NFC");
}

/* Isolated keeps all pieces; so does Removed of what does not match, since the
   known patterns leave nothing unmatched. */
static struct step load_split(const struct load *l, const gm_json *p) {
    const gm_json *regex = gm_json_get(gm_json_get(p, "pattern"), "Regex");
    const gm_json *behavior = gm_json_get(p, "behavior");
    bool invert = flag(l, p, "pre_tokenizer.invert", -1);
    if (!gm_json_is(behavior, "Isolated") &&
        !(gm_json_is(behavior, "Removed") && invert))
        refuse(l, "pre_tokenizer.behavior", behavior,
               "Isolated (or Removed with invert)");
    for (int i = 0; i < PATTERNS; i++)
        if (gm_json_is(regex, patterns[i].regex)) return patterns[i].step;
    refuse(l, "pre_tokenizer.pattern.Regex", regex,
           "the pattern of GPT-2, Llama 3 or Qwen2");
}

/* One pre-tokenizer; the last one, and only that, must be ByteLevel. */
static void load_step(const struct load *l, const gm_json *p, bool last) {
    const gm_json *type = gm_json_get(p, "type");
    gm_tokenizer *t = l->t;
    struct step step = {NULL, ALL};
    if (last && gm_json_is(type, "ByteLevel")) {
        t->prefix_space = flag(l, p, "pre_tokenizer.add_prefix_space", -1);
        if (flag(l, p, "pre_tokenizer.use_regex", 1)) step.match = match_words;
    } else if (!last && gm_json_is(type, "Split")) {
        step = load_split(l, p);
    } else if (!last && gm_json_is(type, "Digits")) {
        step.match = match_digits;
        if (flag(l, p, "pre_tokenizer.individual_digits", -1)) step.digits = 1;
    } else {
        refuse(l, "pre_tokenizer.type", type, last ? "ByteLevel as the last" :
               "Digits or Split before ByteLevel");
    }
    if (!last && t->steps == MAX_STEPS)
        gm_bad(t->path, "pre_tokenizer: more than %d steps", MAX_STEPS);
    t->step[t->steps++] = step;
}

static void load_pre_tokenizer(const struct load *l, const gm_json *p) {
    const gm_json *list = gm_json_get(p, "pretokenizers");
    const bool many = gm_json_is(gm_json_get(p, "type"), "Sequence");
    if (many && (!list || list->type != GM_JSON_ARRAY || !list->child))
        refuse(l, "pre_tokenizer.pretokenizers", list,
               "an array ending in ByteLevel");
    if (!many) load_step(l, p, true);
    else for (p = list->child; p; p = p->next) load_step(l, p, !p->next);
}

/* What would change the ids in ways that are not written here: values, as
   messages show them, that would not. */
static void load_options(const struct load *l) {
    static const struct { const char *field, *fine, *expected; } options[] = {
        {"model.type", "\"BPE\"", "BPE"},
        {"model.dropout", "nothing null -0", "null or 0"},
        {"model.continuing_subword_prefix", "nothing null \"\"",
         "null or \"\""},
        {"model.end_of_word_suffix", "nothing null \"\"", "null or \"\""},
        {"model.byte_fallback", "nothing null false", "false"},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        const gm_json *v = member(l->model, options[i].field);
        const char *at = strstr(options[i].fine, gm_json_show(v).text);
        if (!at) refuse(l, options[i].field, v, options[i].expected);
    }
    l->t->fuse_unk = flag(l, l->model, "model.fuse_unk", 0);
    l->t->ignore_merges = flag(l, l->model, "model.ignore_merges", 0);
}

/* The id of a token, below 2^31 - 1, so that id + 1 is a count too. */
static int32_t load_id(const struct load *l, const gm_json *v,
                       const char *token) {
    if (!v || !v->is_integer || v->integer < 0 || v->integer >= INT32_MAX)
        gm_bad(l->t->path, "id of \"%.160s\": expected an integer from 0 to %d",
               token, INT32_MAX - 1);
    if (v->integer + 1 > l->t->size) l->t->size = (long)v->integer + 1;
    return (int32_t)v->integer;
}

static void load_vocab(const struct load *l) {
    const gm_json *v = parts(l, l->model, "model.vocab", GM_JSON_OBJECT);
    const gm_json *unk = gm_json_get(l->model, "unk_token");
    gm_tokenizer *t = l->t;
    char letter[5];
    t->vocab = new_table(l->arena, v->length);
    for (const gm_json *c = v->child; c; c = c->next) {
        const uint64_t key = text_key(c->key);
        const char *text = gm_format(l->arena, "%s", c->key);
        *slot_of(&t->vocab, key, text) =
            (struct slot){text, key, 1, load_id(l, c, text)};
    }
    for (int b = 0; b < 256; b++) {
        letter[gm_utf8_put(byte_point((uint8_t)b), letter)] = 0;
        t->byte_id[b] = token_id(t, letter);
    }
    t->unk = unk && unk->type == GM_JSON_STRING ? token_id(t, unk->string) : -1;
    if (t->unk < 0 && !is_null(unk))
        refuse(l, "model.unk_token", unk, "null or a token of the vocabulary");
}

/* The two halves of a merge, written "a b" or ["a", "b"], or false. */
static bool merge_halves(gm_arena *a, const gm_json *v, const char *half[2]) {
    if (is_plain(v) && gm_count_char(v->string, ' ') == 1) {
        half[1] = strchr(v->string, ' ') + 1;
        half[0] = gm_format(a, "%.*s", (int)(half[1] - v->string - 1),
                            v->string);
        return true;
    }
    if (v->type != GM_JSON_ARRAY || v->length != 2) return false;
    half[0] = v->child->string;
    half[1] = v->child->next->string;
    return is_plain(v->child) && is_plain(v->child->next);
}

/* A pair that comes twice keeps its last rank, as in the library. */
static void load_merges(struct load *l) {
    const gm_json *list = parts(l, l->model, "model.merges", GM_JSON_ARRAY);
    gm_tokenizer *t = l->t;
    long index = 0;
    uint32_t order = 0;
    if (list->length >= UINT32_MAX)
        refuse(l, "model.merges", list, "fewer than 2^32 merges");
    t->merges = new_table(l->arena, list->length);
    for (const gm_json *v = list->child; v; v = v->next, index++) {
        const char *text[3];
        int32_t id[3];
        if (v->type == GM_JSON_STRING && !strncmp(v->string, "#version", 8))
            continue;
        gm_mark before = gm_arena_mark(&l->scratch);
        if (!merge_halves(&l->scratch, v, text))
            gm_bad(t->path, "model.merges[%ld]: expected \"a b\" or "
                   "[\"a\", \"b\"]", index);
        text[2] = gm_format(&l->scratch, "%s%s", text[0], text[1]);
        for (int i = 0; i < 3; i++)
            if ((id[i] = token_id(t, text[i])) < 0)
                gm_bad(t->path, "model.merges[%ld]: \"%.160s\" is not in "
                       "model.vocab", index, text[i]);
        const uint64_t pair = pair_key(id[0], id[1]);
        *slot_of(&t->merges, pair, NULL) =
            (struct slot){NULL, pair, ++order, id[2]};
        gm_arena_rewind(&l->scratch, before);
    }
}

/* ------------------------------------------------------------ added tokens */

/* The library numbers added tokens itself: a token of the vocabulary, or one
   that stands before, keeps its id, others continue from the vocabulary's
   size.  A file that says otherwise would silently get other ids there, so it
   is refused here.  Of two tokens with one id the later one's flags count. */
static void load_added_token(const struct load *l, const gm_json *v,
                             const struct table *seen, struct added *list,
                             long *n, int32_t *next) {
    const gm_json *content = gm_json_get(v, "content");
    if (!is_plain(content))
        refuse(l, "added_tokens[].content", content,
               "a string without \\u0000");
    if (!content->length) return;           /* ignored there too */
    const int32_t id = load_id(l, gm_json_get(v, "id"), content->string);
    const struct added a = {
        .content = gm_format(l->arena, "%s", content->string),
        .length = content->length,
        .id = id,
        .lstrip = flag(l, v, "added_tokens[].lstrip", -1),
        .rstrip = flag(l, v, "added_tokens[].rstrip", -1),
        .single_word = flag(l, v, "added_tokens[].single_word", -1),
        .normalized = flag(l, v, "added_tokens[].normalized", -1),
    };
    const uint64_t key = text_key(a.content);
    struct slot *s = slot_of(seen, key, a.content);
    if (!s->order) *s = (struct slot){a.content, key, 1, (int32_t)*n};
    const int32_t i = s->id, known = token_id(l->t, a.content);
    const int32_t given = known >= 0 ? known : i < *n ? list[i].id : *next;
    if (given != id)
        gm_bad(l->t->path, "added_tokens: \"%.160s\" has id %d, expected %d "
               "(%s)", a.content, id, given,
               known >= 0 ? "its id in model.vocab" :
               i < *n ? "its id where it stands first" : "the next free one");
    *next += known < 0 && i == *n;
    *n += i == *n;
    list[i] = a;
}

/* A token that matches normalized text is searched in its normal form. */
static void normalize_added(const struct load *l, struct added *a) {
    struct work w = {.t = l->t};
    const char *at = a->content, *end = at + a->length;
    normalize(&w, &at, &end);
    a->length = (size_t)(end - at);
    a->content = gm_format(l->arena, "%.*s", (int)a->length, at);
    gm_arena_free(&w.scratch);
    gm_arena_free(&w.arena);
}

/* A longer token comes before the ones that it begins with. */
static int by_text(const void *a, const void *b) {
    const struct added *x = a, *y = b;
    int order = strcmp(y->content, x->content);
    return order ? order : x->normalized - y->normalized;
}

static void load_added(struct load *l, const gm_json *root) {
    int32_t next = (int32_t)gm_json_get(l->model, "vocab")->length;
    if (is_null(gm_json_get(root, "added_tokens"))) return;
    const gm_json *list = parts(l, root, "added_tokens", GM_JSON_ARRAY);
    struct added *a = gm_alloc(l->arena, list->length, sizeof *a);
    const struct table seen = new_table(&l->scratch, list->length);
    long n = 0, at = 0;
    for (const gm_json *v = list->child; v; v = v->next)
        load_added_token(l, v, &seen, a, &n, &next);
    for (long i = 0; i < n; i++)
        if (a[i].normalized) normalize_added(l, &a[i]);
    qsort(a, (size_t)n, sizeof *a, by_text);
    for (long i = 1; i < n; i++)
        if (strcmp(a[i - 1].content, a[i].content) == 0 &&
            a[i - 1].normalized == a[i].normalized)
            gm_bad(l->t->path, "added_tokens: ids %d and %d are both "
                   "\"%.160s\" when normalized, which of them a text means is "
                   "open", a[i - 1].id, a[i].id, a[i].content);
    for (int b = 256; b >= 0; l->t->first[b--] = at)
        while (at < n && (uint8_t)a[at].content[0] >= b) at++;
    l->t->added = a;
}

gm_tokenizer *gm_tokenizer_open(gm_arena *arena, const char *dir) {
    gm_tokenizer *t = gm_alloc(arena, 1, sizeof *t);
    struct load l = {.t = t, .arena = arena};
    t->path = gm_format(arena, "%s/tokenizer.json", dir);
    const gm_json *root = gm_json_read(&l.scratch, t->path);
    const gm_json *version = gm_json_get(root, "version");
    if (version && !gm_json_is(version, "1.0"))
        refuse(&l, "version", version, "1.0");
    l.model = gm_json_get(root, "model");
    load_normalizer(&l, gm_json_get(root, "normalizer"));
    load_pre_tokenizer(&l, gm_json_get(root, "pre_tokenizer"));
    load_options(&l);
    load_vocab(&l);
    load_merges(&l);
    load_added(&l, root);
    gm_arena_free(&l.scratch);
    return t;
}
