/* tokenizer.c: byte-level BPE (Sennrich et al. 2016; bytes: Radford et al.
   2019) from a tokenizer.json, giving the ids that the `tokenizers` library
   gives with add_special_tokens = False.

     text -> added tokens that match raw text | pieces
     piece -> NFC -> added tokens that match normalized text | pieces
     piece -> Digits, Split -> ByteLevel -> words
     word -> one symbol a byte -> merges, lowest rank first -> ids

   Sees untrusted bytes, both the file's and the text's.  May touch: io.c for
   JSON and UTF-8, unicode.c for its tables, base.c.  What it does not know it
   refuses, by field and value: a near miss would change every id after it.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_STEPS = 8,                  /* pre-tokenizers before ByteLevel */
    MAX_TEXT = 1 << 29,             /* NFC makes at most 3 times as much,
                                       which int32 still counts */
    POINTS = 0x110000
};

/* The end of the piece that begins at `at` < `end`. */
typedef const char *(*matcher)(const gm_tokenizer *t, const char *at,
                               const char *end);

/* A token outside the model's vocabulary proper, found in the text itself. */
struct added {
    const char *content;
    size_t length;
    int32_t id;
    bool lstrip, rstrip, single_word, normalized;
};

/* Those of one pass, sorted by first byte, longest first: first[b] to
   first[b+1] begin with byte b. */
struct added_set { const struct added *token; long first[257]; };

struct vocab_slot { const char *key; int32_t id; };
struct merge_slot { uint64_t pair; uint32_t rank; int32_t id; };

/* Open addressing, a power of two of slots, at most half of them used. */
struct vocab { struct vocab_slot *slot; size_t mask; };
struct merges { struct merge_slot *slot; size_t mask; };

struct gm_tokenizer {
    const char *path;
    uint8_t *flags;                 /* [POINTS] classes of each code point  */
    const gm_composition **join;    /* compositions by (first, second)      */
    long joins;
    bool nfc, prefix_space, ignore_merges, fuse_unk;
    matcher step[MAX_STEPS];
    int steps;
    matcher byte_level;             /* NULL: ByteLevel with use_regex false */
    struct added_set raw, normalized;
    int32_t byte_id[256];           /* -1: no such token                    */
    int32_t unk;                    /* -1: none                             */
    struct vocab vocab;             /* only kept for ignore_merges          */
    struct merges merges;
    long size;
};

/* --------------------------------------------------------- pre-tokenizers */

static uint8_t flags_at(const gm_tokenizer *t, const char *at, const char *end,
                        int *length) {
    uint32_t point = 0;
    *length = gm_utf8(at, end, &point);
    return t->flags[point];
}

/* Past all characters whose being in any class of `mask` equals `in`. */
static const char *skip(const gm_tokenizer *t, const char *at, const char *end,
                        uint8_t mask, bool in) {
    int length;
    while (at < end && ((flags_at(t, at, end, &length) & mask) != 0) == in)
        at += length;
    return at;
}

static bool is_newline(char c) { return c == '\r' || c == '\n'; }

/* Past 's 't 're 've 'm 'll 'd, or `at`.  When case is ignored, U+017F (long
   s) counts as s, as Unicode folds it. */
static const char *contraction(const char *at, const char *end, bool fold) {
    char lower[3] = {0};
    if (*at != '\'') return at;
    if (fold && end - at >= 3 && memcmp(at + 1, "\xC5\xBF", 2) == 0)
        return at + 3;
    for (int i = 0; i < 2 && i + 1 < end - at; i++) {
        lower[i] = at[i + 1];
        if (fold && lower[i] >= 'A' && lower[i] <= 'Z')
            lower[i] = (char)(lower[i] + 'a' - 'A');
    }
    if (lower[0] && strchr("stmd", lower[0])) return at + 2;
    if (!strcmp(lower, "re") || !strcmp(lower, "ve") || !strcmp(lower, "ll"))
        return at + 3;
    return at;
}

/* \s+(?!\S)|\s+ : white space, but its last character is left to what comes
   next, unless it is the only one. */
static const char *match_space(const gm_tokenizer *t, const char *at,
                               const char *end) {
    const char *run = skip(t, at, end, GM_SPACE, true);
    if (run == end) return run;
    const char *last = run - 1;
    while ((*last & 0xC0) == 0x80) last--;
    return last > at ? last : run;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static const char *match_gpt2(const gm_tokenizer *t, const char *at,
                              const char *end) {
    const char *past = contraction(at, end, false);
    if (past > at) return past;
    const char *start = at + (*at == ' ');
    uint8_t all = GM_LETTER | GM_NUMBER | GM_SPACE;
    if ((past = skip(t, start, end, GM_LETTER, true)) > start) return past;
    if ((past = skip(t, start, end, GM_NUMBER, true)) > start) return past;
    if ((past = skip(t, start, end, all, false)) > start) return past;
    return match_space(t, at, end);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,D}|
    ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+       with D = digits */
static const char *match_llama(const gm_tokenizer *t, const char *at,
                               const char *end, int digits) {
    const char *past = contraction(at, end, true);
    if (past > at) return past;
    int length;
    uint8_t here = flags_at(t, at, end, &length);
    const char *start = here & GM_LETTER ? at : at + length;
    if (!(here & GM_NUMBER) && !is_newline(*at) &&
        (past = skip(t, start, end, GM_LETTER, true)) > start)
        return past;
    for (past = at; here & GM_NUMBER; here = flags_at(t, past, end, &length)) {
        past += length;
        if (--digits == 0 || past == end) break;
    }
    if (past > at) return past;
    uint8_t all = GM_LETTER | GM_NUMBER | GM_SPACE;
    start = at + (*at == ' ');
    if ((past = skip(t, start, end, all, false)) > start) {
        while (past < end && is_newline(*past)) past++;
        return past;
    }
    past = skip(t, at, end, GM_SPACE, true);
    while (past > at && !is_newline(past[-1])) past--;
    return past > at ? past : match_space(t, at, end);
}

static const char *match_llama3(const gm_tokenizer *t, const char *at,
                                const char *end) {
    return match_llama(t, at, end, 3);
}

static const char *match_qwen2(const gm_tokenizer *t, const char *at,
                               const char *end) {
    return match_llama(t, at, end, 1);
}

/* Digits: each alone, or runs of them. */
static const char *match_digit(const gm_tokenizer *t, const char *at,
                               const char *end) {
    int length;
    if (flags_at(t, at, end, &length) & GM_DIGIT) return at + length;
    return skip(t, at, end, GM_DIGIT, false);
}

static const char *match_digits(const gm_tokenizer *t, const char *at,
                                const char *end) {
    const char *past = skip(t, at, end, GM_DIGIT, true);
    return past > at ? past : skip(t, at, end, GM_DIGIT, false);
}

static const struct { const char *pattern; matcher match; } patterns[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
     "\\s+(?!\\S)|\\s+", match_gpt2},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
     " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     match_llama3},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
     " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     match_qwen2},
};
enum { PATTERNS = sizeof patterns / sizeof patterns[0] };

/* -------------------------------------------------------------- workspace */

struct mark { uint32_t point; uint8_t order; int32_t place; };
struct symbol { int32_t id, previous, next; bool gone; };
struct candidate { uint32_t rank; int32_t place, id; };

/* All that one call of gm_tokenize needs; arrays grow by doubling. */
struct work {
    const gm_tokenizer *t;
    gm_arena arena;
    int32_t *id;                /* [ids] the result                        */
    size_t ids, id_room;
    struct mark *mark;          /* [marks] one stretch of NFC              */
    size_t marks, mark_room;
    char *normal;               /* [normals] a normalized piece            */
    size_t normals, normal_room;
    struct symbol *symbol;      /* of one word                             */
    size_t symbol_room;
    struct candidate *heap;     /* merges that could be made in that word  */
    size_t heaps, heap_room;
    char *word;                 /* a word written as the vocabulary does,  */
    size_t word_room;           /*   or with a space put before it         */
    char *spaced;
    size_t spaced_room;
};

/* `array` with room for `need` elements, its `used` first ones kept. */
static void *grow(struct work *w, void *array, size_t used, size_t need,
                  size_t size, size_t *room) {
    if (need <= *room) return array;
    size_t more = *room < 128 ? 256 : 2 * *room;
    if (more < need) more = need;
    void *bigger = gm_alloc(&w->arena, more, size);
    if (used) memcpy(bigger, array, used * size);
    *room = more;
    return bigger;
}

static void push_id(struct work *w, int32_t id) {
    int32_t *a = grow(w, w->id, w->ids, w->ids + 1, sizeof *a, &w->id_room);
    w->id = a;
    w->id[w->ids++] = id;
}

/* -------------------------------------------------------------------- NFC
   Unicode Standard Annex 15.  A character that is not GM_NFC_MAYBE begins a
   stretch that no earlier character can influence; stretches of one such
   character, nearly all of most texts, are copied. */

enum { S_BASE = 0xAC00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11A7,
       L_COUNT = 19, V_COUNT = 21, T_COUNT = 28,
       S_COUNT = L_COUNT * V_COUNT * T_COUNT };

static uint8_t mark_order(uint32_t point) {
    int low = 0, high = point < 0x300 ? 0 : gm_mark_range_count;
    while (low < high) {
        int mid = (low + high) / 2;
        if (gm_mark_ranges[mid].last < point) low = mid + 1;
        else high = mid;
    }
    return point >= 0x300 && low < gm_mark_range_count &&
           gm_mark_ranges[low].first <= point ? gm_mark_ranges[low].order : 0;
}

static const gm_composition *find_whole(uint32_t point) {
    int low = 0, high = gm_composition_count;
    while (low < high) {
        int mid = (low + high) / 2;
        if (gm_compositions[mid].whole < point) low = mid + 1;
        else high = mid;
    }
    return low < gm_composition_count && gm_compositions[low].whole == point
           ? &gm_compositions[low] : NULL;
}

static void push_mark(struct work *w, uint32_t point) {
    struct mark *a = grow(w, w->mark, w->marks, w->marks + 1, sizeof *a,
                          &w->mark_room);
    w->mark = a;
    a[w->marks] = (struct mark){point, mark_order(point), (int32_t)w->marks};
    w->marks++;
}

/* Appends the full canonical decomposition, at most three levels deep.  Hangul
   syllables stay whole: composing their parts again would give them back, and
   join() lets a final consonant join a whole syllable. */
static void decompose(struct work *w, uint32_t point) {
    const gm_composition *c = point < 0xC0 ? NULL : find_whole(point);
    if (!c) {
        push_mark(w, point);
        return;
    }
    decompose(w, c->first);
    if (c->second) push_mark(w, c->second);
}

static int by_order(const void *a, const void *b) {
    const struct mark *x = a, *y = b;
    if (x->order != y->order) return x->order < y->order ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

/* Canonical order: each run of marks, stably, by combining class. */
static void order_marks(struct work *w) {
    for (size_t i = 0; i < w->marks; i++) {
        size_t end = i;
        while (end < w->marks && w->mark[end].order) end++;
        if (end - i > 1) qsort(w->mark + i, end - i, sizeof *w->mark, by_order);
        if (end > i) i = end - 1;
    }
}

static int by_parts(const void *a, const void *b) {
    const gm_composition *x = *(const gm_composition *const *)a;
    const gm_composition *y = *(const gm_composition *const *)b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return (x->second > y->second) - (x->second < y->second);
}

/* The character that a and b make together, or 0. */
static uint32_t join(const gm_tokenizer *t, uint32_t a, uint32_t b) {
    if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT)
        return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
    if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 &&
        b - (T_BASE + 1) < T_COUNT - 1)
        return a + (b - T_BASE);
    const gm_composition key = {.first = a, .second = b}, *at = &key;
    const gm_composition **found = bsearch(&at, t->join, (size_t)t->joins,
                                           sizeof at, by_parts);
    return found ? (*found)->whole : 0;
}

/* Each character joins the last starter unless something between them has
   combining class 0 or one at least as high as its own. */
static void compose(struct work *w) {
    size_t out = 0, starter = 0;
    bool any = false;
    uint8_t last = 0;
    for (size_t i = 0; i < w->marks; i++) {
        struct mark m = w->mark[i];
        bool free = any && (last < m.order ||
                            (last == 0 && starter + 1 == out));
        uint32_t whole = free ? join(w->t, w->mark[starter].point, m.point)
                              : 0;
        if (whole) {
            w->mark[starter].point = whole;
            continue;
        }
        if (m.order == 0) starter = out, any = true;
        last = m.order;
        w->mark[out++] = m;
    }
    w->marks = out;
}

/* Normalizes the collected stretch and appends it to w->normal. */
static void end_stretch(struct work *w) {
    if (w->marks == 0) return;
    order_marks(w);
    compose(w);
    char *a = grow(w, w->normal, w->normals, w->normals + 4 * w->marks, 1,
                   &w->normal_room);
    w->normal = a;
    for (size_t i = 0; i < w->marks; i++)
        w->normals += (size_t)gm_utf8_put(w->mark[i].point, a + w->normals);
    w->marks = 0;
}

/* *text, *text_end become its normal form, in w->normal if it differs. */
static void normalize(struct work *w, const char **text,
                           const char **text_end) {
    const char *at = *text, *end = *text_end;
    uint32_t point = 0;
    if (!w->t->nfc || skip(w->t, at, end, GM_NFC_MAYBE, false) == end)
        return;
    w->normals = 0;
    while (at < end) {
        at += gm_utf8(at, end, &point);
        bool starts = !(w->t->flags[point] & GM_NFC_MAYBE);
        if (starts) end_stretch(w);
        decompose(w, point);
    }
    end_stretch(w);
    *text = w->normal;
    *text_end = w->normal + w->normals;
}

/* ------------------------------------------------------------------ merges */

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 32) * 0x9E3779B97F4A7C15u;
    return x ^ x >> 29;
}

static uint64_t pair_key(int32_t a, int32_t b) {
    return (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
}

/* The slot of the pair, or the empty one (rank = UINT32_MAX) where it goes. */
static struct merge_slot *merge_find(const struct merges *m, int32_t a,
                                     int32_t b) {
    uint64_t pair = pair_key(a, b);
    size_t i = mix(pair) & m->mask;
    while (m->slot[i].rank != UINT32_MAX && m->slot[i].pair != pair)
        i = (i + 1) & m->mask;
    return &m->slot[i];
}

static bool goes_first(struct candidate a, struct candidate b) {
    return a.rank != b.rank ? a.rank < b.rank : a.place < b.place;
}

static void heap_push(struct work *w, struct candidate c) {
    size_t i = w->heaps++;
    while (i > 0 && goes_first(c, w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = c;
}

static struct candidate heap_pop(struct work *w) {
    struct candidate top = w->heap[0], c = w->heap[--w->heaps];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < w->heaps) {
        if (child + 1 < w->heaps &&
            goes_first(w->heap[child + 1], w->heap[child]))
            child++;
        if (!goes_first(w->heap[child], c)) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = c;
    return top;
}

/* Queues the merge of the symbol at `place` with the one after it, if any. */
static void consider(struct work *w, int32_t place) {
    int32_t next = place < 0 ? -1 : w->symbol[place].next;
    if (next < 0) return;
    const struct merge_slot *m = merge_find(
        &w->t->merges, w->symbol[place].id, w->symbol[next].id);
    if (m->rank != UINT32_MAX)
        heap_push(w, (struct candidate){m->rank, place, m->id});
}

/* A queued merge may have lost its symbols to an earlier one since. */
static bool still_there(const struct work *w, struct candidate c) {
    const struct symbol *s = &w->symbol[c.place];
    if (s->gone || s->next < 0) return false;
    const struct merge_slot *m = merge_find(&w->t->merges, s->id,
                                            w->symbol[s->next].id);
    return m->rank != UINT32_MAX && m->id == c.id;
}

/* Lowest rank first, leftmost first among equals.  Every merge removes a
   symbol and queues at most two more: the heap stays below 3 n. */
static void merge_word(struct work *w, int32_t n) {
    w->heaps = 0;
    for (int32_t i = 0; i + 1 < n; i++) consider(w, i);
    while (w->heaps) {
        struct candidate c = heap_pop(w);
        if (!still_there(w, c)) continue;
        struct symbol *s = &w->symbol[c.place], *right = &w->symbol[s->next];
        s->id = c.id;
        s->next = right->next;
        right->gone = true;
        if (s->next >= 0) w->symbol[s->next].previous = c.place;
        consider(w, s->previous);
        consider(w, c.place);
    }
}

/* ------------------------------------------------------------- vocabulary */

/* The character that stands for a byte in the vocabulary: itself when it is
   visible in Latin-1, else the next one free from U+0100 on. */
static uint32_t byte_point(uint8_t byte) {
    if (byte >= 0x21 && byte <= 0x7E) return byte;
    if (byte >= 0xA1 && byte != 0xAD) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte <= 0xA0) return 0x121u + (byte - 0x7Fu);
    return 0x143;
}

static uint64_t hash_text(const char *text, size_t n) {
    uint64_t h = 0xCBF29CE484222325u;           /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)text[i]) * 0x100000001B3u;
    return mix(h);
}

/* The slot of the key, or the empty one where it goes. */
static struct vocab_slot *vocab_find(const struct vocab *v, const char *key,
                                     size_t n) {
    size_t i = hash_text(key, n) & v->mask;
    while (v->slot[i].key && (strncmp(v->slot[i].key, key, n) != 0 ||
                              v->slot[i].key[n] != 0))
        i = (i + 1) & v->mask;
    return &v->slot[i];
}

/* The id of the whole word if the vocabulary has it, else -1. */
static int32_t whole_word(struct work *w, const char *at, const char *end) {
    size_t n = 0, bytes = (size_t)(end - at);
    char *a = grow(w, w->word, 0, 2 * bytes + 1, 1, &w->word_room);
    w->word = a;
    for (; at < end; at++)
        n += (size_t)gm_utf8_put(byte_point((uint8_t)*at), a + n);
    a[n] = 0;
    const struct vocab_slot *slot = vocab_find(&w->t->vocab, a, n);
    return slot->key ? slot->id : -1;
}

/* One symbol a byte, linked in order; returns how many.  A byte without a
   token becomes the unknown token, or nothing where there is none. */
static int32_t spell(struct work *w, const char *at, const char *end) {
    int32_t n = 0;
    bool unknown = false;
    for (; at < end; at++) {
        int32_t id = w->t->byte_id[(uint8_t)*at];
        bool known = id >= 0, again = unknown && w->t->fuse_unk;
        unknown = !known;
        if (!known) id = again ? -1 : w->t->unk;
        if (id < 0) continue;
        w->symbol[n] = (struct symbol){id, n - 1, n + 1, false};
        n++;
    }
    if (n) w->symbol[n - 1].next = -1;
    return n;
}

static void encode_word(struct work *w, const char *at, const char *end) {
    size_t bytes = (size_t)(end - at);
    if (w->t->ignore_merges) {
        int32_t id = whole_word(w, at, end);
        if (id >= 0) {
            push_id(w, id);
            return;
        }
    }
    struct symbol *s = grow(w, w->symbol, 0, bytes, sizeof *s,
                            &w->symbol_room);
    struct candidate *h = grow(w, w->heap, 0, 3 * bytes, sizeof *h,
                               &w->heap_room);
    w->symbol = s;
    w->heap = h;
    int32_t n = spell(w, at, end);
    merge_word(w, n);
    for (int32_t i = n ? 0 : -1; i >= 0; i = s[i].next)
        push_id(w, s[i].id);
}

/* ----------------------------------------------------------------- pieces */

static void byte_level(struct work *w, const char *at, const char *end) {
    const gm_tokenizer *t = w->t;
    size_t bytes = (size_t)(end - at);
    if (t->prefix_space && *at != ' ') {
        char *a = grow(w, w->spaced, 0, bytes + 1, 1, &w->spaced_room);
        w->spaced = a;
        a[0] = ' ';
        memcpy(a + 1, at, bytes);
        at = a, end = a + bytes + 1;
    }
    while (at < end) {
        const char *next = t->byte_level ? t->byte_level(t, at, end) : end;
        encode_word(w, at, next);
        at = next;
    }
}

/* Cuts a piece by pre-tokenizer `step`, its parts by the next one, ... */
static void pre_tokenize(struct work *w, int step, const char *at,
                              const char *end) {
    if (step == w->t->steps) {
        byte_level(w, at, end);
        return;
    }
    while (at < end) {
        const char *next = w->t->step[step](w->t, at, end);
        pre_tokenize(w, step + 1, at, next);
        at = next;
    }
}

/* The longest token of the set that the text at `at` begins with, or NULL. */
static const struct added *added_at(const struct added_set *set,
                                    const char *at, const char *end) {
    uint8_t b = (uint8_t)*at;
    for (long i = set->first[b]; i < set->first[b + 1]; i++) {
        const struct added *a = &set->token[i];
        if ((size_t)(end - at) >= a->length &&
            memcmp(at, a->content, a->length) == 0)
            return a;
    }
    return NULL;
}

/* Whether the character before / at `at` belongs to a word. */
static bool word_before(const gm_tokenizer *t, const char *text,
                        const char *at) {
    const char *last = at;
    int length;
    if (at == text) return false;
    do last--; while ((*last & 0xC0) == 0x80);
    return flags_at(t, last, at, &length) & GM_WORD;
}

static bool word_after(const gm_tokenizer *t, const char *at,
                       const char *end) {
    int length;
    return at < end && (flags_at(t, at, end, &length) & GM_WORD);
}

static const char *space_before(const gm_tokenizer *t, const char *text,
                                const char *at) {
    int length;
    while (at > text) {
        const char *last = at;
        do last--; while ((*last & 0xC0) == 0x80);
        if (!(flags_at(t, last, at, &length) & GM_SPACE)) break;
        at = last;
    }
    return at;
}

typedef void (*piece_body)(struct work *w, const char *at, const char *end);

/* Finds the tokens of `set`, leftmost and longest; what lies between goes to
   `body`.  lstrip and rstrip take the white space around along, as far as it
   is not yet taken. */
static void split_added(struct work *w, const struct added_set *set,
                             const char *text, const char *end,
                             piece_body body) {
    const char *done = text;
    for (const char *at = text; at < end;) {
        const struct added *a = added_at(set, at, end);
        const char *start = at, *stop = at + (a ? a->length : 1);
        at = stop;
        if (!a || (a->single_word && (word_before(w->t, text, start) ||
                                      word_after(w->t, stop, end))))
            continue;
        if (a->lstrip) start = space_before(w->t, text, start);
        if (a->rstrip) stop = skip(w->t, stop, end, GM_SPACE, true);
        if (done < start) body(w, done, start);
        push_id(w, a->id);
        done = stop;
    }
    if (done < end) body(w, done, end);
}

static void normal_piece(struct work *w, const char *at,
                              const char *end) {
    pre_tokenize(w, 0, at, end);
}

static void raw_piece(struct work *w, const char *at, const char *end) {
    normalize(w, &at, &end);
    split_added(w, &w->t->normalized, at, end, normal_piece);
}

static void check_text(const char *text, size_t bytes) {
    const char *at = text, *end = text + bytes;
    uint32_t point;
    if (bytes >= MAX_TEXT)
        gm_fail(GM_ELIMIT, "text of %zu bytes, expected fewer "
                       "than %d", bytes, MAX_TEXT);
    while (at < end) {
        int n = gm_utf8(at, end, &point);
        if (n == 0)
            gm_fail(GM_EINPUT, "text: byte 0x%02X at offset %td "
                           "is not valid UTF-8", (uint8_t)*at, at - text);
        at += n;
    }
}

void gm_tokenize(const gm_tokenizer *tokenizer, gm_arena *arena,
                      const char *text, size_t bytes, int32_t **tokens,
                      long *count) {
    struct work w = {.t = tokenizer};
    check_text(text, bytes);
    if (bytes)
        split_added(&w, &tokenizer->raw, text, text + bytes,
                             raw_piece);
    int32_t *out = gm_alloc(arena, w.ids, sizeof *out);
    if (w.ids) memcpy(out, w.id, w.ids * sizeof *out);
    *tokens = out;
    *count = (long)w.ids;
    gm_arena_free(&w.arena);
}

long gm_tokenizer_size(const gm_tokenizer *tokenizer) {
    return tokenizer->size;
}

/* ---------------------------------------------------------------- loading */

struct load {
    gm_tokenizer *t;
    gm_arena *arena;            /* the caller's, for what stays             */
    gm_arena scratch;           /* for the JSON and what goes               */
    const gm_json *model;
    struct vocab vocab;         /* keys in `scratch`                        */
    size_t keys;                /* in it                                    */
    char *merged;               /* room for a merged token's text           */
    struct added *added;        /* all of them                              */
    long added_count;
};

/* "pre_tokenizer.type: "Whitespace", expected ..."; absent is "nothing". */
_Noreturn static void refuse(const struct load *l, const char *field,
                        const gm_json *found, const char *expected) {
    static const char *const name[] = {"null", "boolean", "number", "string",
                                       "an array", "an object"};
    const char *path = l->t->path;
    if (found && found->type == GM_JSON_STRING)
        gm_fail(GM_EINPUT, "%s: %s: \"%.200s\", expected %s",
                       path, field, found->string, expected);
    if (found && found->type == GM_JSON_BOOL)
        gm_fail(GM_EINPUT, "%s: %s: %s, expected %s", path,
                       field, found->number != 0 ? "true" : "false",
                       expected);
    if (found && found->type == GM_JSON_NUMBER)
        gm_fail(GM_EINPUT, "%s: %s: %.17g, expected %s", path,
                       field, found->number, expected);
    gm_fail(GM_EINPUT, "%s: %s: %s, expected %s", path, field,
                   found ? name[found->type] : "nothing", expected);
}

static bool is_null(const gm_json *v) {
    return !v || v->type == GM_JSON_NULL;
}

static bool is_text(const gm_json *v, const char *text) {
    return v && v->type == GM_JSON_STRING && strcmp(v->string, text) == 0;
}

/* A boolean member; `absent` < 0: it must be there. */
static void get_bool(const struct load *l, const gm_json *object,
                          const char *key, const char *field, int absent,
                          bool *out) {
    const gm_json *v = gm_json_get(object, key);
    if (is_null(v) && absent >= 0) {
        *out = absent != 0;
        return;
    }
    if (!v || v->type != GM_JSON_BOOL)
        refuse(l, field, v, "true or false");
    *out = v->number != 0;
}

static void load_normalizer(const struct load *l, const gm_json *n) {
    static const char expected[] = "null, NFC or a Sequence of NFC";
    const gm_json *type = gm_json_get(n, "type");
    if (is_null(n)) return;
    if (n->type != GM_JSON_OBJECT) refuse(l, "normalizer", n, expected);
    if (is_text(type, "NFC")) {
        l->t->nfc = true;
        return;
    }
    if (!is_text(type, "Sequence"))
        refuse(l, "normalizer.type", type, expected);
    const gm_json *list = gm_json_get(n, "normalizers");
    if (!list || list->type != GM_JSON_ARRAY)
        refuse(l, "normalizer.normalizers", list, "an array");
    for (const gm_json *c = list->child; c; c = c->next) {
        type = gm_json_get(c, "type");
        if (!is_text(type, "NFC"))
            refuse(l, "normalizer.normalizers[].type", type, "NFC");
        l->t->nfc = true;
    }
}

static void add_step(const struct load *l, matcher match) {
    if (l->t->steps == MAX_STEPS)
        gm_fail(GM_EINPUT, "%s: pre_tokenizer: more than %d "
                       "steps", l->t->path, MAX_STEPS);
    l->t->step[l->t->steps++] = match;
}

/* Isolated keeps all pieces; so does Removed of what does not match, since the
   known patterns leave nothing unmatched. */
static void load_split(const struct load *l, const gm_json *p) {
    const gm_json *pattern = gm_json_get(p, "pattern");
    const gm_json *regex = gm_json_get(pattern, "Regex");
    const gm_json *behavior = gm_json_get(p, "behavior");
    bool invert = false;
    int i = 0;
    get_bool(l, p, "invert", "pre_tokenizer.invert", -1,
                                &invert);
    if (!is_text(behavior, "Isolated") &&
        !(is_text(behavior, "Removed") && invert))
        refuse(l, "pre_tokenizer.behavior", behavior,
                      "Isolated (or Removed with invert)");
    while (i < PATTERNS && !is_text(regex, patterns[i].pattern)) i++;
    if (i == PATTERNS)
        refuse(l, "pre_tokenizer.pattern.Regex", regex,
                      "the pattern of GPT-2, Llama 3 or Qwen2");
    add_step(l, patterns[i].match);
}

static void load_byte_level(const struct load *l, const gm_json *p) {
    bool regex = true;
    get_bool(l, p, "add_prefix_space",
                                "pre_tokenizer.add_prefix_space", -1,
                                &l->t->prefix_space);
    get_bool(l, p, "use_regex", "pre_tokenizer.use_regex", 1,
                          &regex);
    if (regex) l->t->byte_level = match_gpt2;
}

/* One pre-tokenizer; the last one, and only that, must be ByteLevel. */
static void load_step(const struct load *l, const gm_json *p, bool last) {
    const gm_json *type = gm_json_get(p, "type");
    if (last && is_text(type, "ByteLevel")) {
        load_byte_level(l, p);
        return;
    }
    if (last)
        refuse(l, "pre_tokenizer.type", type, "ByteLevel as the last");
    if (is_text(type, "Split")) {
        load_split(l, p);
        return;
    }
    if (!is_text(type, "Digits"))
        refuse(l, "pre_tokenizer.type", type,
                      "Digits or Split before ByteLevel");
    bool each = false;
    get_bool(l, p, "individual_digits",
                                "pre_tokenizer.individual_digits", -1, &each);
    add_step(l, each ? match_digit : match_digits);
}

static void load_pre_tokenizer(const struct load *l, const gm_json *p) {
    if (!is_text(gm_json_get(p, "type"), "Sequence")) {
        load_step(l, p, true);
        return;
    }
    const gm_json *list = gm_json_get(p, "pretokenizers");
    if (!list || list->type != GM_JSON_ARRAY || !list->child)
        refuse(l, "pre_tokenizer.pretokenizers", list,
                      "an array ending in ByteLevel");
    for (const gm_json *c = list->child; c; c = c->next)
        load_step(l, c, !c->next);
}

/* What would change the ids in ways that are not written here. */
static void load_model_options(struct load *l) {
    static const char *const empty[] = {"continuing_subword_prefix",
                                        "end_of_word_suffix"};
    const gm_json *m = l->model, *v = gm_json_get(m, "type");
    char field[64];
    bool fallback = false;
    if (!is_text(v, "BPE")) refuse(l, "model.type", v, "BPE");
    v = gm_json_get(m, "dropout");
    if (!is_null(v) && !(v->type == GM_JSON_NUMBER && v->number == 0))
        refuse(l, "model.dropout", v, "null or 0");
    for (int i = 0; i < 2; i++) {
        v = gm_json_get(m, empty[i]);
        snprintf(field, sizeof field, "model.%s", empty[i]);
        if (!is_null(v) && !is_text(v, ""))
            refuse(l, field, v, "null or \"\"");
    }
    get_bool(l, m, "byte_fallback", "model.byte_fallback",
                                0, &fallback);
    if (fallback)
        refuse(l, "model.byte_fallback",
                        gm_json_get(m, "byte_fallback"), "false");
    get_bool(l, m, "fuse_unk", "model.fuse_unk", 0,
                          &l->t->fuse_unk);
    get_bool(l, m, "ignore_merges", "model.ignore_merges", 0,
                          &l->t->ignore_merges);
}

static void note_id(gm_tokenizer *t, int64_t id) {
    if (id + 1 > t->size) t->size = (long)id + 1;
}

/* An id is below 2^31 - 1, so that id + 1 is a count too. */
static void check_id(const struct load *l, const gm_json *v,
                          const char *token) {
    if (!v || !v->is_integer || v->integer < 0 || v->integer >= INT32_MAX)
        gm_fail(GM_EINPUT, "%s: id of \"%.160s\": expected an integer from "
                "0 to %d", l->t->path, token, INT32_MAX - 1);
    note_id(l->t, v->integer);
}

static size_t slots_for(size_t count) {
    size_t slots = 16;
    while (slots < 2 * count) slots *= 2;
    return slots;
}

static int32_t vocab_get(const struct load *l, const char *key) {
    const struct vocab_slot *slot = vocab_find(&l->vocab, key, strlen(key));
    return slot->key ? slot->id : -1;
}

/* The text of all tokens is kept only where whole words are looked up. */
static void load_vocab(struct load *l) {
    const gm_json *v = gm_json_get(l->model, "vocab");
    gm_arena *where = l->t->ignore_merges ? l->arena : &l->scratch;
    if (!v || v->type != GM_JSON_OBJECT)
        refuse(l, "model.vocab", v, "an object");
    size_t slots = slots_for(v->length), bytes = 0;
    for (const gm_json *c = v->child; c; c = c->next)
        bytes += strlen(c->key) + 1;
    char *text = gm_alloc(where, bytes, 1);
    l->vocab.slot = gm_alloc(where, slots, sizeof *l->vocab.slot);
    l->vocab.mask = slots - 1;
    l->keys = v->length;
    for (const gm_json *c = v->child; c; c = c->next) {
        size_t n = strlen(c->key);
        check_id(l, c, c->key);
        memcpy(text, c->key, n + 1);
        *vocab_find(&l->vocab, text, n) =
            (struct vocab_slot){text, (int32_t)c->integer};
        text += n + 1;
    }
    if (l->t->ignore_merges) l->t->vocab = l->vocab;
}

static void load_bytes(struct load *l) {
    const gm_json *unk = gm_json_get(l->model, "unk_token");
    char key[5];
    for (int b = 0; b < 256; b++) {
        key[gm_utf8_put(byte_point((uint8_t)b), key)] = 0;
        l->t->byte_id[b] = vocab_get(l, key);
    }
    l->t->unk = -1;
    if (is_null(unk)) return;
    if (unk->type == GM_JSON_STRING) l->t->unk = vocab_get(l, unk->string);
    if (!(l->t->unk >= 0)) refuse(l, "model.unk_token", unk,
                                           "null or a token of the vocabulary");
}

/* The two halves of a merge, written "a b" or ["a", "b"]. */
static bool merge_halves(const gm_json *v, const char **a, size_t *na,
                         const char **b, size_t *nb) {
    if (v->type == GM_JSON_STRING) {
        const char *space = strchr(v->string, ' ');
        if (!space || strchr(space + 1, ' ')) return false;
        *a = v->string, *na = (size_t)(space - v->string);
        *b = space + 1, *nb = strlen(*b);
        return strlen(v->string) == v->length;
    }
    if (v->type != GM_JSON_ARRAY || v->length != 2 ||
        v->child->type != GM_JSON_STRING ||
        v->child->next->type != GM_JSON_STRING)
        return false;
    *a = v->child->string, *na = v->child->length;
    *b = v->child->next->string, *nb = v->child->next->length;
    return strlen(*a) == *na && strlen(*b) == *nb;
}

_Noreturn static void merge_unknown(const struct load *l, long index,
                               const char *text, size_t n) {
    gm_fail(GM_EINPUT, "%s: model.merges[%ld]: \"%.*s\" is not "
                   "in model.vocab", l->t->path, index,
                   n > 160 ? 160 : (int)n, text);
}

/* A pair that comes twice keeps its last rank, as in the library. */
static void load_merge(struct load *l, const gm_json *v, long index,
                            uint32_t rank) {
    const char *text[3];
    size_t n[3];
    int32_t id[3];
    if (!merge_halves(v, &text[0], &n[0], &text[1], &n[1]))
        gm_fail(GM_EINPUT, "%s: model.merges[%ld]: expected "
                       "\"a b\" or [\"a\", \"b\"]", l->t->path, index);
    memcpy(l->merged, text[0], n[0]);
    memcpy(l->merged + n[0], text[1], n[1]);
    text[2] = l->merged, n[2] = n[0] + n[1];
    for (int i = 0; i < 3; i++) {
        const struct vocab_slot *slot = vocab_find(&l->vocab, text[i], n[i]);
        if (!slot->key) merge_unknown(l, index, text[i], n[i]);
        id[i] = slot->id;
    }
    *merge_find(&l->t->merges, id[0], id[1]) =
        (struct merge_slot){pair_key(id[0], id[1]), rank, id[2]};
}

/* Room for the longest merged text: no half is longer than the file. */
static size_t longest_merge(const gm_json *list) {
    size_t longest = 0;
    for (const gm_json *v = list->child; v; v = v->next) {
        size_t n = v->type == GM_JSON_STRING ? v->length : 0;
        if (v->type == GM_JSON_ARRAY)
            for (const gm_json *c = v->child; c; c = c->next) n += c->length;
        if (n > longest) longest = n;
    }
    return longest;
}

static void load_merges(struct load *l) {
    const gm_json *list = gm_json_get(l->model, "merges");
    if (!list || list->type != GM_JSON_ARRAY)
        refuse(l, "model.merges", list, "an array");
    if (list->length >= UINT32_MAX)
        refuse(l, "model.merges", list, "fewer than 2^32 merges");
    struct merges *m = &l->t->merges;
    size_t slots = slots_for(list->length);
    m->slot = gm_alloc(l->arena, slots, sizeof *m->slot);
    l->merged = gm_alloc(&l->scratch, longest_merge(list) + 1, 1);
    m->mask = slots - 1;
    for (size_t i = 0; i < slots; i++) m->slot[i].rank = UINT32_MAX;
    long index = 0;
    uint32_t rank = 0;
    for (const gm_json *v = list->child; v; v = v->next) {
        bool comment = v->type == GM_JSON_STRING &&
                       strncmp(v->string, "#version", 8) == 0;
        if (!comment) load_merge(l, v, index, rank++);
        index++;
    }
}

/* ----------------------------------------------------- added tokens, tables */

/* The library numbers added tokens itself: a token of the vocabulary keeps its
   id, others continue from the vocabulary's size.  A file that says otherwise
   would silently get other ids there, so it is refused here. */
static void check_added_id(const struct load *l, struct added *a,
                                int64_t *next) {
    int32_t known = vocab_get(l, a->content);
    int64_t given = known >= 0 ? known : (*next)++;
    if (given == a->id) return;
    gm_fail(GM_EINPUT, "%s: added_tokens: \"%.160s\" has id %d,"
                   " expected %lld (%s)", l->t->path, a->content, a->id,
                   (long long)given, known >= 0 ? "its id in model.vocab" :
                   "the next free one");
}

static void load_added_token(struct load *l, const gm_json *v,
                                  struct added *a) {
    const gm_json *content = gm_json_get(v, "content");
    const gm_json *id = gm_json_get(v, "id");
    if (!content || content->type != GM_JSON_STRING ||
        strlen(content->string) != content->length || !content->length)
        refuse(l, "added_tokens[].content", content,
                      "a string, not empty, without \\u0000");
    check_id(l, id, content->string);
    a->content = gm_format(l->arena, "%s", content->string);
    a->length = content->length;
    a->id = (int32_t)id->integer;
    get_bool(l, v, "lstrip", "added_tokens[].lstrip", -1,
                      &a->lstrip);
    get_bool(l, v, "rstrip", "added_tokens[].rstrip", -1,
                          &a->rstrip);
    get_bool(l, v, "single_word", "added_tokens[].single_word",
                          -1, &a->single_word);
    get_bool(l, v, "normalized", "added_tokens[].normalized", -1,
                          &a->normalized);
}

/* A token that matches normalized text is searched in its normal form. */
static void normalize_added(struct load *l, struct added *a) {
    struct work w = {.t = l->t};
    const char *at = a->content, *end = at + a->length;
    normalize(&w, &at, &end);
    if (at != a->content) {
        char *copy = gm_alloc(l->arena, (size_t)(end - at) + 1, 1);
        memcpy(copy, at, (size_t)(end - at));
        a->content = copy;
        a->length = (size_t)(end - at);
    }
    gm_arena_free(&w.arena);
}

static int by_first_byte(const void *a, const void *b) {
    const struct added *x = a, *y = b;
    uint8_t p = (uint8_t)x->content[0], q = (uint8_t)y->content[0];
    if (p != q) return p < q ? -1 : 1;
    if (x->length != y->length) return x->length > y->length ? -1 : 1;
    return strcmp(x->content, y->content);
}

/* Two tokens of the same text could not be told apart. */
static void sort_added(const struct load *l, struct added *token,
                            long n) {
    qsort(token, (size_t)n, sizeof *token, by_first_byte);
    for (long i = 1; i < n; i++)
        if (by_first_byte(&token[i - 1], &token[i]) == 0)
            gm_fail(GM_EINPUT, "%s: added_tokens: \"%.160s\" "
                           "appears twice", l->t->path, token[i].content);
}

/* The tokens of one pass, indexed by first byte. */
static void make_set(struct load *l, bool normalized,
                          struct added_set *set) {
    struct added *token = gm_alloc(l->arena, (size_t)l->added_count,
                                   sizeof *token);
    long n = 0, b = 0;
    for (long i = 0; i < l->added_count; i++)
        if (l->added[i].normalized == normalized) token[n++] = l->added[i];
    sort_added(l, token, n);
    for (long i = 0; i < n; i++)
        while (b <= (uint8_t)token[i].content[0]) set->first[b++] = i;
    while (b <= 256) set->first[b++] = n;
    set->token = token;
}

static void load_added(struct load *l, const gm_json *list) {
    int64_t next = (int64_t)l->keys;
    if (!is_null(list) && list->type != GM_JSON_ARRAY)
        refuse(l, "added_tokens", list, "an array");
    size_t count = list ? list->length : 0;
    l->added = gm_alloc(&l->scratch, count, sizeof *l->added);
    for (const gm_json *v = list ? list->child : NULL;
         v; v = v->next) {
        struct added *a = &l->added[l->added_count++];
        load_added_token(l, v, a);
        check_added_id(l, a, &next);
    }
    sort_added(l, l->added, l->added_count);
    for (long i = 0; i < l->added_count; i++)
        if (l->added[i].normalized) normalize_added(l, &l->added[i]);
    make_set(l, false, &l->t->raw);
    make_set(l, true, &l->t->normalized);
}

static void load_tables(struct load *l) {
    gm_tokenizer *t = l->t;
    t->flags = gm_alloc(l->arena, POINTS, 1);
    t->join = gm_alloc(l->arena, (size_t)gm_composition_count,
                       sizeof *t->join);
    for (int c = 0; c < GM_CLASSES; c++) {
        const gm_class_runs *runs = &gm_classes[c];
        uint32_t point = 0;
        for (size_t i = 0; i < runs->count; point += runs->run[i++])
            for (uint32_t n = 0; i % 2 && n < runs->run[i]; n++)
                t->flags[point + n] |= runs->flag;
    }
    for (int i = 0; i < gm_composition_count; i++)
        if (gm_compositions[i].joins) t->join[t->joins++] = &gm_compositions[i];
    qsort(t->join, (size_t)t->joins, sizeof *t->join, by_parts);
}

static void load_all(struct load *l) {
    const gm_json *root = gm_json_read(&l->scratch, l->t->path);
    const gm_json *version = gm_json_get(root, "version");
    if (version && !is_text(version, "1.0"))
        refuse(l, "version", version, "1.0");
    l->model = gm_json_get(root, "model");
    load_normalizer(l, gm_json_get(root, "normalizer"));
    load_pre_tokenizer(l, gm_json_get(root, "pre_tokenizer"));
    load_model_options(l);
    load_vocab(l);
    load_bytes(l);
    load_merges(l);
    load_tables(l);
    load_added(l, gm_json_get(root, "added_tokens"));
}

void gm_tokenizer_open(gm_arena *arena, const char *dir,
                            gm_tokenizer **out) {
    struct load l = {.arena = arena, .t = gm_alloc(arena, 1, sizeof *l.t)};
    l.t->path = gm_format(arena, "%s/tokenizer.json", dir);
    load_all(&l);
    gm_arena_free(&l.scratch);
    *out = l.t;
}
