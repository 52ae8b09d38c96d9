/* tokenizer.c: BPE (Sennrich et al. 2016), over bytes (Radford et al. 2019) or
   over characters (SentencePiece: Kudo and Richardson 2018), from a
   tokenizer.json, giving the ids that the `tokenizers` library gives with
   add_special_tokens = False.  What is done to a text, in order:

     1. added tokens that match raw text become ids, what lies between: pieces
     2. a piece is normalized (NFC, Prepend, Replace)
     3. added tokens that match normalized text become ids
     4. pre-tokenizers (Split, Digits, Punctuation, ByteLevel, Metaspace)
        rewrite a piece and cut it into words
     5. each character of a word becomes its token, else those of its bytes
     6. merges: the pair of lowest rank becomes one token, until none is left

   Sees untrusted bytes, both the file's and the text's.  May touch: tensors.c
   for JSON and UTF-8, unicode.c for patterns, base.c.  What it does not know
   it refuses, by field and value: a near miss would change every id after it.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_STEPS = 32,                 /* of normalizers and pre-tokenizers */
    MAX_TEXT = 1 << 29,
    MAX_GROWTH = 9,                 /* NFC and a longer space: 3 times each */
    LETTERS = 0x180                 /* has all characters that are bytes */
};

static const char SPACE[] = "\xE2\x96\x81";      /* U+2581: SentencePiece's */
enum { SPACE_BYTES = sizeof SPACE - 1, MISSING = -2 };

/* What normalizers and pre-tokenizers consist of.  What SPLIT makes of matches
   and of what lies between: as the library's SplitDelimiterBehavior. */
struct step {
    enum kind { NFC, PREPEND, REPLACE, BYTES, SPLIT } kind;
    const gm_regex *pattern;            /* of REPLACE and SPLIT              */
    const char *text;                   /* that PREPEND and REPLACE put      */
    bool unless, first;                 /* PREPEND: not before itself; only  */
    bool invert;                        /* where the whole text begins       */
    enum behavior { ISOLATED, REMOVED, CONTIGUOUS, PREVIOUS, NEXT } behavior;
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
    const char *dir, *path;
    bool ignore_merges, fuse_unk;
    bool apart;         /* SPACE is a token; no merge puts it behind others */
    struct step step[MAX_STEPS];
    int normalizers, steps;             /* the former come first            */
    const gm_regex *space, *word;       /* of lstrip, rstrip, single_word   */
    const struct added *added;          /* a longer one before its parts    */
    long first[257];                    /* how many begin with byte b or more */
    int32_t letter_id[LETTERS];         /* of characters; -1: no such token */
    int32_t byte_id[256];               /* of <0x00> ... when falling back  */
    int32_t unk;                        /* -1: none; MISSING: not in vocab  */
    struct table vocab, merges;
};

struct symbol { int32_t id, previous, next; };      /* id -1: it is gone */

/* All that one call of gm_tokenize needs. */
struct work {
    const gm_tokenizer *t;
    gm_arena arena, scratch;        /* of the call; of a word or stretch    */
    gm_matcher matcher;
    size_t bytes;                   /* of the text                          */
    bool begun;                     /* something of it is done              */
    int32_t *id;                    /* [ids] the result                     */
    size_t ids, id_room;
    struct symbol *symbol;          /* of one word                          */
    int32_t symbols;
    uint64_t *heap;                 /* order, place of merges, lowest first */
    size_t heaps;
};

static void push_id(struct work *w, int32_t id) {
    w->id = gm_grow(&w->arena, w->id, w->ids, &w->id_room, sizeof *w->id);
    w->id[w->ids++] = id;
}

/* The place of the next character. */
static const char *ahead(const char *at, const char *end) {
    do at++; while (at < end && (*at & 0xC0) == 0x80);
    return at;
}

/* ------------------------------------------------------ bytes, vocabulary */

static struct table new_table(gm_arena *arena, size_t count) {
    size_t slots = 16;
    while (slots < 2 * count) slots *= 2;
    return (struct table){gm_alloc(arena, slots, sizeof(struct slot)),
                          slots - 1};
}

/* The slot of the key, or the empty one where it goes. */
static struct slot *slot_of(const struct table *t, uint64_t key,
                            const char *text, size_t bytes) {
    uint64_t x = (key ^ key >> 32) * 0x9E3779B97F4A7C15u;
    for (size_t i = (x ^ x >> 29) & t->mask;; i = (i + 1) & t->mask) {
        struct slot *s = &t->slot[i];
        if (!s->order || (s->key == key &&
                          (!text || (strlen(s->text) == bytes &&
                                     !memcmp(s->text, text, bytes)))))
            return s;
    }
}

static uint64_t text_key(const char *text, size_t bytes) {
    uint64_t hash = 0xCBF29CE484222325u;            /* FNV-1a */
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ (uint8_t)text[i]) * 0x100000001B3u;
    return hash;
}

static uint64_t pair_key(int32_t a, int32_t b) {
    return (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
}

/* -1: not in the vocabulary. */
static int32_t token_id(const gm_tokenizer *t, const char *text, size_t bytes) {
    const struct slot *s = slot_of(&t->vocab, text_key(text, bytes), text,
                                   bytes);
    return s->order ? s->id : -1;
}

static void push_symbol(struct work *w, int32_t id) {
    const int32_t n = w->symbols++;
    w->symbol[n] = (struct symbol){id, n - 1, n + 1};
}

/* One symbol a character, linked in order.  One without a token becomes the
   tokens of its bytes, when all have one, else the unknown token if there is
   one, which (as in the library) waits for the next token that is known or,
   unless several are fused, unknown. */
static void spell(struct work *w, const char *at, const char *end) {
    const gm_tokenizer *t = w->t;
    bool waits = false;
    w->symbols = 0;
    for (const char *next; at < end; at = next) {
        uint32_t c;
        next = at + gm_utf8(at, end, &c);
        const int32_t id = c < LETTERS ? t->letter_id[c] :
                           token_id(t, at, (size_t)(next - at));
        const char *byte = at;
        while (id < 0 && byte < next && t->byte_id[(uint8_t)*byte] >= 0) byte++;
        if (id < 0 && byte == next) {
            for (byte = at; byte < next; byte++)
                push_symbol(w, t->byte_id[(uint8_t)*byte]);
            continue;
        }
        if (waits && (id >= 0 || !t->fuse_unk)) push_symbol(w, t->unk);
        waits = id < 0 && t->unk != -1;
        if (waits && t->unk == MISSING)
            gm_bad(t->path, "model.unk_token is no token of the vocabulary, "
                   "and \"%.*s\" has none", (int)(next - at), at);
        if (id >= 0) push_symbol(w, id);
    }
    if (waits) push_symbol(w, t->unk);
    if (w->symbols) w->symbol[w->symbols - 1].next = -1;
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
    const struct slot *m = slot_of(&w->t->merges, pair, NULL, 0);
    return m->order ? m : NULL;
}

static void consider(struct work *w, int32_t place) {
    const struct slot *m = merge_at(w, place);
    if (m) heap_push(w, (uint64_t)m->order << 32 | (uint32_t)place);
}

/* Lowest rank first, leftmost first among equals; what is queued may have lost
   its symbols to an earlier merge since.  Every merge leaves the queue and
   puts at most two there: it stays below 2 n. */
static void merge_word(struct work *w) {
    w->heaps = 0;
    for (int32_t i = 0; i + 1 < w->symbols; i++) consider(w, i);
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

static void encode_part(struct work *w, const char *at, const char *end) {
    gm_mark before = gm_arena_mark(&w->scratch);
    w->symbol = gm_alloc(&w->scratch, (size_t)(end - at), sizeof *w->symbol);
    spell(w, at, end);
    w->heap = gm_alloc(&w->scratch, (size_t)w->symbols, 2 * sizeof *w->heap);
    merge_word(w);
    for (int32_t i = w->symbols ? 0 : -1; i >= 0; i = w->symbol[i].next)
        push_id(w, w->symbol[i].id);
    gm_arena_rewind(&w->scratch, before);
}

static bool is_space(const char *at, const char *end) {
    return end - at >= SPACE_BYTES && !memcmp(at, SPACE, SPACE_BYTES);
}

/* A whole text may be one word: parts that no merge can join are shorter. */
static void encode_word(struct work *w, const char *at, const char *end) {
    const size_t bytes = (size_t)(end - at);
    int32_t id = w->t->ignore_merges ? token_id(w->t, at, bytes) : -1;
    w->begun = true;
    if (id >= 0) {
        push_id(w, id);
        return;
    }
    const char *part = at;
    for (bool space = true, was; w->t->apart && at < end; at = ahead(at, end)) {
        was = space;
        space = is_space(at, end);
        if (!space || was) continue;
        encode_part(w, part, at);
        part = at;
    }
    encode_part(w, part, end);
}

/* ------------------------------------------------------------------- steps */

/* A stretch of a piece: a match of the step's pattern or what lies between. */
struct cut {
    struct work *w;
    const struct step *step;
    void (*act)(struct cut *c, const char *at, const char *end, bool match);
    const char *begin, *stop;       /* SPLIT: of what is not passed on yet   */
    bool match;                     /* whether its last stretch is one       */
    char *to;                       /* REPLACE: its end, NULL: measures only */
    size_t bytes;                   /* of the result                         */
};

/* Matches from left to right; an empty one not right behind another. */
static void each(struct cut *c, const char *text, const char *end) {
    const char *at = text, *done = text, *past = NULL, *stop;
    uint32_t point;
    for (;;) {
        stop = gm_regex_match(c->step->pattern, &c->w->matcher, text, at, end);
        if (stop && (stop > at || past != at)) {
            if (at > done) c->act(c, done, at, false);
            c->act(c, at, stop, true);
            at = done = past = stop;
        } else if (at < end) {
            at += gm_utf8(at, end, &point);
        } else {
            break;
        }
    }
    if (done < end) c->act(c, done, end, false);
}

static void apply(struct work *w, int step, const char *at, const char *end);

static void pass_on(struct cut *c) {
    if (c->begin == c->stop) return;
    if (c->step->behavior != REMOVED || !c->match)
        apply(c->w, (int)(c->step - c->w->t->step) + 1, c->begin, c->stop);
    c->w->begun = true;
}

static void split(struct cut *c, const char *at, const char *end, bool match) {
    const struct step *s = c->step;
    match ^= s->invert;
    if (!c->begin || !(s->behavior == CONTIGUOUS ? match == c->match :
                       s->behavior == PREVIOUS ? match && !c->match :
                       s->behavior == NEXT && c->match && !match)) {
        pass_on(c);
        c->begin = at;
    }
    c->stop = end;
    c->match = match;
}

static void replace(struct cut *c, const char *at, const char *end,
                    bool match) {
    const char *from = match ? c->step->text : at;
    const size_t n = match ? strlen(from) : (size_t)(end - at);
    if (at == end)          /* the library goes on with wrong offsets there */
        gm_bad(c->w->t->path, "normalizer.pattern: expected a character at least "
               "where it matches, found none");
    if (c->to) c->to = (char *)memcpy(c->to, from, n) + n;
    c->bytes += n;
}

/* The character that stands for a byte in the vocabulary: itself when it is
   visible in Latin-1, else the next one free from U+0100 on. */
static uint32_t byte_point(uint8_t byte) {
    if (byte >= 0x21 && byte <= 0x7E) return byte;
    if (byte >= 0xA1 && byte != 0xAD) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte <= 0xA0) return 0x121u + (byte - 0x7Fu);
    return 0x143;
}

/* Room for what a step makes of a piece. */
static char *room_for(struct work *w, size_t bytes) {
    if (bytes > MAX_GROWTH * w->bytes + 1024)
        gm_fail(GM_ELIMIT, "%s: its steps make more than %d times as much of a "
                "text", w->t->path, MAX_GROWTH);
    return gm_alloc(&w->scratch, bytes, 1);
}

/* Rewrites a piece, in the scratch arena, as a step that is no SPLIT says. */
static void rewrite(struct work *w, const struct step *s, const char **text,
                    const char **text_end) {
    const char *at = *text, *end = *text_end;
    const size_t n = (size_t)(end - at), k = s->text ? strlen(s->text) : 0;
    struct cut c = {.w = w, .step = s, .act = replace};
    char *to;
    switch (s->kind) {
    case PREPEND:
        if ((s->first && w->begun) ||
            (s->unless && n >= k && !memcmp(at, s->text, k)))
            return;
        *text = to = room_for(w, n + k);
        memcpy(to, s->text, k);
        memcpy(to + k, at, n);
        *text_end = to + k + n;
        return;
    case REPLACE:
        each(&c, at, end);
        *text = c.to = room_for(w, c.bytes);
        each(&c, at, end);
        *text_end = c.to;
        return;
    case BYTES:
        *text = to = room_for(w, 2 * n);
        while (at < end) to += gm_utf8_put(byte_point((uint8_t)*at++), to);
        *text_end = to;
        return;
    case NFC: gm_nfc(&w->scratch, text, text_end); return;
    case SPLIT: return;
    }
}

/* All steps from `step` on; what the last one leaves are words. */
static void apply(struct work *w, int step, const char *at, const char *end) {
    const gm_tokenizer *t = w->t;
    gm_mark before = gm_arena_mark(&w->scratch);
    for (; step < t->steps && t->step[step].kind != SPLIT; step++)
        rewrite(w, &t->step[step], &at, &end);
    struct cut c = {.w = w, .step = &t->step[step], .act = split};
    if (at < end && step == t->steps) encode_word(w, at, end);
    if (at < end && step < t->steps) each(&c, at, end), pass_on(&c);
    gm_arena_rewind(&w->scratch, before);
}

/* ------------------------------------------------- pieces and added tokens */

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

static bool one_of(struct work *w, const gm_regex *set, const char *at,
                   const char *end) {
    return at < end && gm_regex_match(set, &w->matcher, at, at, end);
}

/* Finds added tokens, leftmost and longest; what lies between goes to the next
   pass, then to the pre-tokenizers.  As in the library, lstrip takes the white
   space before a token along as far as none has it yet, rstrip that after it,
   be it other tokens; one that is left nothing of its own gives no id. */
static void find(struct work *w, int pass, const char *text, const char *end) {
    const gm_tokenizer *t = w->t;
    gm_mark before = gm_arena_mark(&w->scratch);
    if (text == end) return;
    for (int i = 0; pass == 1 && i < t->normalizers && text < end; i++)
        rewrite(w, &t->step[i], &text, &end);
    if (pass == 2) {
        apply(w, t->normalizers, text, end);
        return;
    }
    const char *done = text;
    for (const char *at = text; at < end;) {
        const struct added *a = added_at(t, pass, at, end);
        const char *start = at, *stop = at + (a ? a->length : 1);
        at = stop;
        if (!a) continue;
        if (a->single_word &&
            ((start > text && one_of(w, t->word, gm_utf8_back(start), end)) ||
             one_of(w, t->word, stop, end)))
            continue;
        while (a->lstrip && start > done &&
               one_of(w, t->space, gm_utf8_back(start), end))
            start = gm_utf8_back(start);
        if (a->lstrip && start < done) start = done;
        while (a->rstrip && one_of(w, t->space, stop, end))
            stop = ahead(stop, end);
        if (start >= stop) continue;
        if (start > done) find(w, pass + 1, done, start);
        push_id(w, a->id);
        w->begun = true;
        done = stop;
    }
    find(w, pass + 1, done, end);
    gm_arena_rewind(&w->scratch, before);
}

int32_t *gm_tokenize(const gm_tokenizer *tokenizer, gm_arena *arena,
                     const char *path, const char *text, size_t bytes,
                     long *count) {
    struct work w = {.t = tokenizer, .bytes = bytes};
    const char *end = text + bytes;
    uint32_t point;
    if (bytes >= MAX_TEXT)
        gm_fail(GM_ELIMIT, "%s: %zu bytes of text, expected fewer than %d",
                path, bytes, MAX_TEXT);
    for (const char *at = text; at < end; at += gm_utf8(at, end, &point))
        if (!gm_utf8(at, end, &point))
            gm_bad(path, "byte 0x%02X at offset %td is not valid UTF-8",
                   (uint8_t)*at, at - text);
    w.matcher.steps = 10000000 + GM_REGEX_STEPS * (uint64_t)bytes;
    gm_alloc(&w.scratch, 1, 1);     /* keeps the first chunk for all words */
    find(&w, 0, text, end);
    int32_t *tokens = gm_alloc(arena, w.ids, sizeof *tokens);
    if (w.ids) memcpy(tokens, w.id, w.ids * sizeof *tokens);
    *count = (long)w.ids;
    gm_arena_free(&w.scratch);
    gm_arena_free(&w.arena);
    gm_arena_free(&w.matcher.arena);
    return tokens;
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

static struct step *new_step(const struct load *l, enum kind kind,
                             const char *text, const gm_regex *pattern) {
    gm_tokenizer *t = l->t;
    if (t->steps == MAX_STEPS)
        gm_bad(t->path, "more than %d normalizers and pre-tokenizers",
               MAX_STEPS);
    t->step[t->steps] = (struct step){kind, .text = text, .pattern = pattern};
    return &t->step[t->steps++];
}

static const gm_regex *known(const struct load *l, const char *pattern) {
    return gm_regex_new(l->arena, l->t->path, pattern, false);
}

/* A text that is put somewhere. */
static const char *content(const struct load *l, const gm_json *object,
                           const char *field) {
    const gm_json *v = member(object, field);
    if (!is_plain(v)) refuse(l, field, v, "a string without \\u0000");
    return gm_format(l->arena, "%s", v->string);
}

/* {"Regex": text} or {"String": text} */
static const gm_regex *load_pattern(const struct load *l, const gm_json *v,
                                    const char *field) {
    const gm_json *pattern = member(v, field);
    const gm_json *regex = gm_json_get(pattern, "Regex");
    const gm_json *string = gm_json_get(pattern, "String");
    if (!is_plain(regex ? regex : string))
        refuse(l, field, pattern, "{\"Regex\": text} or {\"String\": text}");
    return gm_regex_new(l->arena, gm_format(l->arena, "%s: %s", l->t->path,
                                            field),
                        (regex ? regex : string)->string, !regex);
}

static void load_normalizer(const struct load *l, const gm_json *n) {
    const gm_json *type = gm_json_get(n, "type");
    if (is_null(n)) return;
    if (gm_json_is(type, "NFC")) {
        new_step(l, NFC, NULL, NULL);
    } else if (gm_json_is(type, "Prepend")) {
        new_step(l, PREPEND, content(l, n, "normalizer.prepend"), NULL);
    } else if (gm_json_is(type, "Replace")) {
        new_step(l, REPLACE, content(l, n, "normalizer.content"),
                 load_pattern(l, n, "normalizer.pattern"));
    } else if (gm_json_is(type, "Sequence")) {
        n = parts(l, n, "normalizer.normalizers", GM_JSON_ARRAY)->child;
        for (; n; n = n->next) load_normalizer(l, n);
    } else {
        refuse(l, "normalizer.type", type ? type : n,
               "null, NFC, Prepend, Replace or a Sequence of them");
    }
}

static void load_behavior(const struct load *l, const gm_json *p) {
    const gm_json *v = gm_json_get(p, "behavior");
    const int i = is_plain(v) ? gm_name_which(
        "Isolated,Removed,Contiguous,MergedWithPrevious,MergedWithNext",
        v->string) : -1;
    if (i < 0)
        refuse(l, "pre_tokenizer.behavior", v, "Isolated, Removed, Contiguous, "
               "MergedWithPrevious or MergedWithNext");
    l->t->step[l->t->steps - 1].behavior = (enum behavior)i;
}

/* Each space becomes the replacement, which begins what it begins. */
static void load_metaspace(const struct load *l, const gm_json *p) {
    const gm_json *scheme = gm_json_get(p, "prepend_scheme");
    const char *to = content(l, p, "pre_tokenizer.replacement");
    uint32_t point;
    if (!*to || to[gm_utf8(to, to + strlen(to), &point)])
        refuse(l, "pre_tokenizer.replacement", gm_json_get(p, "replacement"),
               "one character");
    const bool never = gm_json_is(scheme, "never"),
               first = gm_json_is(scheme, "first");
    if (scheme && !never && !first && !gm_json_is(scheme, "always"))
        refuse(l, "pre_tokenizer.prepend_scheme", scheme,
               "always, first or never");
    if (!flag(l, p, "pre_tokenizer.add_prefix_space", 1) && !never)
        refuse(l, "pre_tokenizer.prepend_scheme", scheme,
               "never, with add_prefix_space false");
    new_step(l, REPLACE, to, known(l, " "));
    if (!never) {
        struct step *s = new_step(l, PREPEND, to, NULL);
        s->unless = true;
        s->first = first;
    }
    if (flag(l, p, "pre_tokenizer.split", 1))
        new_step(l, SPLIT, NULL, gm_regex_new(l->arena, l->t->path, to, true))
            ->behavior = NEXT;
}

static void load_byte_level(const struct load *l, const gm_json *p) {
    if (flag(l, p, "pre_tokenizer.add_prefix_space", -1))
        new_step(l, PREPEND, " ", NULL)->unless = true;
    if (flag(l, p, "pre_tokenizer.use_regex", 1))
        new_step(l, SPLIT, NULL,
                 known(l, "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|"
                       " ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"));
    new_step(l, BYTES, NULL, NULL);
}

static void load_pre_tokenizer(const struct load *l, const gm_json *p) {
    const gm_json *type = gm_json_get(p, "type");
    if (is_null(p)) return;
    if (gm_json_is(type, "ByteLevel")) {
        load_byte_level(l, p);
    } else if (gm_json_is(type, "Metaspace")) {
        load_metaspace(l, p);
    } else if (gm_json_is(type, "Split")) {
        new_step(l, SPLIT, NULL, load_pattern(l, p, "pre_tokenizer.pattern"))
            ->invert = flag(l, p, "pre_tokenizer.invert", -1);
        load_behavior(l, p);
    } else if (gm_json_is(type, "Digits")) {
        const bool one = flag(l, p, "pre_tokenizer.individual_digits", -1);
        new_step(l, SPLIT, NULL, known(l, "\\p{=digit}"))->behavior =
            one ? ISOLATED : CONTIGUOUS;
    } else if (gm_json_is(type, "Punctuation")) {
        new_step(l, SPLIT, NULL, known(l, "\\p{=punctuation}"));
        if (gm_json_get(p, "behavior")) load_behavior(l, p);
    } else if (gm_json_is(type, "Sequence")) {
        p = parts(l, p, "pre_tokenizer.pretokenizers", GM_JSON_ARRAY)->child;
        for (; p; p = p->next) load_pre_tokenizer(l, p);
    } else {
        refuse(l, "pre_tokenizer.type", type ? type : p, "null, ByteLevel, "
               "Metaspace, Split, Digits, Punctuation or a Sequence of them");
    }
}

/* What would change the ids in ways that are not written here: values, as
   messages show them, that would not. */
static void load_options(const struct load *l) {
    static const struct { const char *field, *fine, *expected; } options[] = {
        {"model.type", "nothing \"BPE\"", "BPE"},
        {"model.dropout", "nothing null -0", "null or 0"},
        {"model.continuing_subword_prefix", "nothing null \"\"",
         "null or \"\""},
        {"model.end_of_word_suffix", "nothing null \"\"", "null or \"\""},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        const gm_json *v = member(l->model, options[i].field);
        const char *at = strstr(options[i].fine, gm_json_show(v).text);
        if (!at) refuse(l, options[i].field, v, options[i].expected);
    }
    l->t->fuse_unk = flag(l, l->model, "model.fuse_unk", 0);
    l->t->ignore_merges = flag(l, l->model, "model.ignore_merges", 0);
}

/* The id of a token, below 2^31 - 1. */
static int32_t load_id(const struct load *l, const gm_json *v,
                       const char *token) {
    if (!v || !v->is_integer || v->integer < 0 || v->integer >= INT32_MAX)
        gm_bad(l->t->path, "id of \"%.160s\": expected an integer from 0 to %d",
               token, INT32_MAX - 1);
    return (int32_t)v->integer;
}

static void load_vocab(const struct load *l) {
    const gm_json *v = parts(l, l->model, "model.vocab", GM_JSON_OBJECT);
    const gm_json *unk = gm_json_get(l->model, "unk_token");
    const bool fallback = flag(l, l->model, "model.byte_fallback", 0);
    gm_tokenizer *t = l->t;
    t->vocab = new_table(l->arena, v->length);
    for (const gm_json *c = v->child; c; c = c->next) {
        const size_t bytes = strlen(c->key);
        const uint64_t key = text_key(c->key, bytes);
        const char *text = gm_format(l->arena, "%s", c->key);
        *slot_of(&t->vocab, key, text, bytes) =
            (struct slot){text, key, 1, load_id(l, c, text)};
    }
    for (int i = 0; i < LETTERS; i++) {
        char letter[5];
        t->letter_id[i] = token_id(t, letter, (size_t)gm_utf8_put((uint32_t)i,
                                                                  letter));
    }
    for (int b = 0; b < 256; b++) {
        char code[8];
        snprintf(code, sizeof code, "<0x%02X>", (unsigned)b);
        t->byte_id[b] = fallback ? token_id(t, code, 6) : -1;
    }
    t->unk = -1;
    if (is_null(unk)) return;
    if (!is_plain(unk)) refuse(l, "model.unk_token", unk, "null or a token");
    t->unk = token_id(t, unk->string, unk->length);
    if (t->unk < 0) t->unk = MISSING;       /* of no matter until it is used */
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
    t->apart = token_id(t, SPACE, SPACE_BYTES) >= 0;
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
            if ((id[i] = token_id(t, text[i], strlen(text[i]))) < 0)
                gm_bad(t->path, "model.merges[%ld]: \"%.160s\" is not in "
                       "model.vocab", index, text[i]);
        const size_t n = strlen(text[0]), m = strlen(text[1]);
        if (is_space(text[1], text[1] + m) &&
            (n < SPACE_BYTES || strcmp(text[0] + n - SPACE_BYTES, SPACE)))
            t->apart = false;
        const uint64_t pair = pair_key(id[0], id[1]);
        *slot_of(&t->merges, pair, NULL, 0) =
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
    const uint64_t key = text_key(a.content, a.length);
    struct slot *s = slot_of(seen, key, a.content, a.length);
    if (!s->order) *s = (struct slot){a.content, key, 1, (int32_t)*n};
    const int32_t i = s->id, known = token_id(l->t, a.content, a.length);
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
    struct work w = {.t = l->t, .bytes = a->length,
                     .matcher.steps = 10000000};
    const char *at = a->content, *end = at + a->length;
    for (int i = 0; i < l->t->normalizers && at < end; i++)
        rewrite(&w, &l->t->step[i], &at, &end);
    if (at == end)
        gm_bad(l->t->path, "added_tokens: nothing is left of \"%.160s\" when "
               "normalized", a->content);
    a->length = (size_t)(end - at);
    a->content = gm_format(l->arena, "%.*s", (int)a->length, at);
    gm_arena_free(&w.scratch);
    gm_arena_free(&w.matcher.arena);
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

static void load(void *context) {
    struct load *l = context;
    gm_tokenizer *t = l->t;
    const gm_json *root = gm_json_read(&l->scratch, t->path, false);
    const gm_json *version = gm_json_get(root, "version");
    if (version && !gm_json_is(version, "1.0"))
        refuse(l, "version", version, "1.0");
    l->model = gm_json_get(root, "model");
    load_normalizer(l, gm_json_get(root, "normalizer"));
    t->normalizers = t->steps;
    load_pre_tokenizer(l, gm_json_get(root, "pre_tokenizer"));
    load_options(l);
    load_vocab(l);
    load_merges(l);
    load_added(l, root);
    t->space = known(l, "\\s");
    t->word = known(l, "\\p{=word}");
}

gm_tokenizer *gm_tokenizer_open(gm_arena *arena, const char *dir) {
    gm_tokenizer *t = gm_alloc(arena, 1, sizeof *t);
    struct load l = {.t = t, .arena = arena};
    gm_error error;
    t->dir = gm_format(arena, "%s", dir);
    t->path = gm_format(arena, "%s/tokenizer.json", dir);
    const gm_status status = gm_try(load, &l, &error);
    gm_arena_free(&l.scratch);
    if (status)
        gm_fail(status, "%s%s", error.text,
                status == GM_EINPUT || !gm_exists(t->path)
                ? "; token ids made elsewhere: --tokens FILE.npy" : "");
    return t;
}

/* ----------------------------------------------------------- around a text */

/* A post-processor's ids in order, -1 for those of the text. */
static void load_around(const struct load *l, const gm_json *p,
                        gm_specials *s) {
    const gm_json *type = gm_json_get(p, "type");
    const gm_json *known = gm_json_get(p, "special_tokens");
    if (gm_json_is(type, "Sequence")) {
        p = parts(l, p, "post_processor.processors", GM_JSON_ARRAY)->child;
        for (; p; p = p->next) load_around(l, p, s);
        return;
    }
    if (is_null(p) || gm_json_is(type, "ByteLevel")) return;
    if (!gm_json_is(type, "TemplateProcessing") || s->count > 1)
        refuse(l, "post_processor.type", type ? type : p, "null, ByteLevel, "
               "TemplateProcessing, or a Sequence of one of each");
    p = parts(l, p, "post_processor.single", GM_JSON_ARRAY);
    s->around = gm_alloc(l->arena, p->length, sizeof *s->around);
    s->count = 0;
    for (p = p->child; p; p = p->next) {
        const gm_json *special = gm_json_get(p, "SpecialToken");
        s->around[s->count++] = -1;
        if (!special) continue;
        const char *name = content(l, special, "post_processor.id");
        const gm_json *id = parts(l, gm_json_get(known, name),
                                  "post_processor.ids", GM_JSON_ARRAY);
        s->around[s->count - 1] = load_id(l, id->child, name);
    }
}

/* A token of tokenizer_config.json, given as a text or an object. */
static int32_t named(const gm_tokenizer *t, const gm_json *config,
                     const char *name) {
    const gm_json *v = gm_json_get(config, name);
    if (v && v->type == GM_JSON_OBJECT) v = gm_json_get(v, "content");
    if (!is_plain(v)) return is_null(v) ? -1 : MISSING;
    const int32_t id = token_id(t, v->string, v->length);
    for (long i = 0; i < t->first[0]; i++)
        if (strcmp(t->added[i].content, v->string) == 0) return t->added[i].id;
    return id < 0 ? MISSING : id;
}

gm_specials gm_specials_read(gm_arena *arena, const gm_tokenizer *tokenizer) {
    static int32_t alone[] = {-1};
    gm_tokenizer t = *tokenizer;
    struct load l = {.t = &t, .arena = arena};
    gm_arena *a = &l.scratch;
    const char *path = gm_format(a, "%s/tokenizer_config.json", t.dir);
    const gm_json *config = gm_exists(path) ? gm_json_read(a, path, true)
                                            : NULL;
    const int32_t bos = named(&t, config, "bos_token");
    gm_specials out = {alone, 1, bos, bos != -1 ? bos
                                      : named(&t, config, "eos_token")};
    load_around(&l, gm_json_get(gm_json_read(a, t.path, false),
                                "post_processor"), &out);
    gm_arena_free(a);
    return out;
}

int32_t *gm_surround(gm_arena *arena, const gm_specials *s,
                     const int32_t *tokens, long *count) {
    const size_t most = (size_t)(s->count * (*count + 1));
    int32_t *out = gm_alloc(arena, most, sizeof *out), *to = out;
    for (long i = 0; i < s->count; i++)
        if (s->around[i] >= 0) *to++ = s->around[i];
        else for (long j = 0; j < *count; j++) *to++ = tokens[j];
    *count = to - out;
    return out;
}
