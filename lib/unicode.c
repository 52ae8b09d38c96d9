/* unicode.c: what a tokenizer needs of Unicode, as the `tokenizers` library has
   it: normal form C, and the regular expressions of its patterns (Oniguruma's),
   compiled to a list of operations and matched by going back over what was
   left open.  What is not known here is refused, with the pattern.
   Sees untrusted bytes, both the pattern's and the text's.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"
#include "unicode.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

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
static char *normal_stretch(gm_arena *arena, const char *at, const char *end,
                            char *to) {
    gm_mark before = gm_arena_mark(arena);
    struct mark *m = gm_alloc(arena, 4 * (size_t)(end - at), sizeof *m);
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
    gm_arena_rewind(arena, before);
    return to;
}

/* Past the characters of which all or none are NFC_MAYBE. */
static const char *past_maybe(const char *at, const char *end, bool maybe) {
    uint32_t point = 0;
    for (int length; at < end; at += length) {
        length = gm_utf8(at, end, &point);
        if (length == 1 && !maybe) continue;
        const uint32_t *row = row_of(class_ranges, sizeof class_ranges, point,
                                     UINT32_MAX);
        if ((point <= row[1] && row[2] >> (NFC_MAYBE - 27) & 1) != maybe) break;
    }
    return at;
}

/* No code point and no composition needs more than 3 times the bytes that it
   is made of. */
void gm_nfc(gm_arena *arena, const char **text, const char **text_end) {
    const char *at = *text, *end = *text_end, *next;
    if (past_maybe(at, end, false) == end) return;
    char *to = gm_alloc(arena, (size_t)(end - at), 3);
    for (*text = to; at < end; at = next) {
        uint32_t point;
        const char *one = at + gm_utf8(at, end, &point);
        bool maybe = past_maybe(at, one, true) == one;
        next = past_maybe(one, end, true);
        if (maybe || next > one) to = normal_stretch(arena, at, next, to);
        else to = (char *)memcpy(to, at, (size_t)(one - at)) + (one - at);
    }
    *text_end = to;
}

/* ------------------------------------------------------ sets of characters */

/* Character c belongs to it when an odd number of edges, which rise, are at
   most c. */
struct chars { uint64_t ascii[2]; const uint32_t *edge; size_t edges; };

enum { OR = 0xE, AND = 0x8, XOR = 0x6, POINTS = 0x110000 };

static const uint32_t from_zero[] = {0};
static const struct chars nothing = {{0, 0}, NULL, 0},
                          everything = {{~0ull, ~0ull}, from_zero, 1};

static bool has(const struct chars *s, uint32_t c) {
    if (c < 128) return s->ascii[c >> 6] >> (c & 63) & 1;
    size_t low = 0, high = s->edges;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->edge[middle] <= c) low = middle + 1;
        else high = middle;
    }
    return low & 1;
}

/* Bit 2 a + b of `how`: whether what is in the first set or not (a), in the
   second or not (b), is in the result. */
static struct chars combine(gm_arena *arena, struct chars x, struct chars y,
                            int how) {
    uint32_t *edge = gm_alloc(arena, x.edges + y.edges, sizeof *edge);
    struct chars out = {{0, 0}, edge, 0};
    for (size_t i = 0, j = 0; i < x.edges || j < y.edges;) {
        const uint32_t a = i < x.edges ? x.edge[i] : POINTS;
        const uint32_t b = j < y.edges ? y.edge[j] : POINTS;
        i += a <= b;
        j += b <= a;
        if ((how >> (2 * (i & 1) + (j & 1)) & 1) != (int)(out.edges & 1))
            edge[out.edges++] = a < b ? a : b;
    }
    for (size_t i = 0, in = 0; i < 128; i++) {
        while (in < out.edges && edge[in] <= i) in++;
        out.ascii[i >> 6] |= (uint64_t)(in & 1) << (i & 63);
    }
    return out;
}

static struct chars range(gm_arena *arena, uint32_t low, uint32_t high) {
    const struct chars one = {{0, 0}, (uint32_t[]){low, high + 1}, 2};
    return combine(arena, one, nothing, OR);
}

/* The characters with one of these categories (bits below 32) or flags; what
   no table names has the last category, Cn. */
static struct chars classes(gm_arena *arena, uint64_t mask) {
    const size_t rows = sizeof class_ranges / sizeof *class_ranges;
    const int unnamed = (int)sizeof category_names / 2 - 1;
    if (mask >> unnamed & 1)
        return combine(arena, classes(arena, mask ^ UINT32_MAX), everything,
                       XOR);
    uint32_t *edge = gm_alloc(arena, 2 * rows, sizeof *edge);
    struct chars s = {{0, 0}, edge, 0};
    for (size_t i = 0; i < rows; i++) {
        const uint32_t *row = class_ranges[i];
        uint64_t bits = 1ull << (row[2] & 31) | (uint64_t)(row[2] >> 5) << 32;
        if (!(bits & mask)) continue;
        if (s.edges && edge[s.edges - 1] == row[0]) s.edges--;
        else edge[s.edges++] = row[0];
        edge[s.edges++] = row[1] + 1;
    }
    return combine(arena, s, nothing, OR);
}

/* ----------------------------------------------------- regular expressions */

/* `to` is counted from the operation itself. */
struct op {
    enum kind {
        CHARS,          /* min to max characters of the set                  */
        FORK,           /* goes on behind, or at `to`                        */
        JUMP,           /* goes on at `to`                                   */
        ALONE,          /* what stands up to `to`, as it first matches       */
        AHEAD,          /* that matches here, or (negated) does not          */
        PLACE,          /* ^ $ \A \z \Z, its letter in min                   */
        DONE
    } kind;
    bool held, negated;             /* held: nothing of it is given back */
    int to, min, max;
    struct chars set;
};
struct gm_regex { const char *pattern; struct op *op; };

enum { MANY = INT_MAX, MAX_OPS = 1 << 12, MAX_DEPTH = 200, MAX_COUNT = 1000 };

struct parser {
    gm_arena *arena;
    const char *path, *pattern, *at, *end;
    struct op *op;
    size_t ops, room;
    bool fold;                      /* in (?i: */
    uint32_t last;                  /* the letter just before, when folding */
    int depth;
};

_Noreturn static void refuse(const struct parser *p, const char *at,
                             const char *why) {
    gm_bad(p->path, "pattern \"%.400s\", at \"%.20s\": %s", p->pattern, at,
           why);
}

static bool accept(struct parser *p, const char *text) {
    const size_t n = strlen(text);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, text, n)) return false;
    p->at += n;
    return true;
}

static void emit(struct parser *p, struct op op) {
    if (p->ops == MAX_OPS) refuse(p, p->at, "the pattern is too large");
    p->op = gm_grow(p->arena, p->op, p->ops, &p->room, sizeof op);
    p->op[p->ops++] = op;
}

/* The set with the other case of its letters; U+017F folds to s, U+212A to k.
   Not known here: other letters, and what is one character and several. */
static struct chars folded(struct parser *p, struct chars s) {
    if (p->fold && s.edges && s.edge[s.edges - 1] > 128)
        refuse(p, p->at, "(?i:) beyond ASCII is not known");
    for (uint32_t c = 'A'; p->fold && c <= 'z'; c++) {
        const uint32_t k = c | 32;
        if (k < 'a' || k > 'z' || !has(&s, c)) continue;
        s = combine(p->arena, s, range(p->arena, c ^ 32, c ^ 32), OR);
        if (k != 's' && k != 'k') continue;
        const uint32_t other = k == 's' ? 0x17F : 0x212A;
        s = combine(p->arena, s, range(p->arena, other, other), OR);
    }
    return s;
}

/* Between braces: a category, its first letter alone, or a name. */
static struct chars property(struct parser *p, const char *from) {
    static const struct { const char *name; int flag; } names[] = {
        {"Han", HAN}, {"=digit", DIGIT}, {"=word", WORD},
        {"=punctuation", PUNCTUATION}};
    bool negated = accept(p, "^");
    const char *name = p->at, *stop = strchr(name, '}');
    const size_t n = stop ? (size_t)(stop - name) : 0;
    uint64_t mask = 0;
    for (size_t i = 0; (n == 1 || n == 2) && i + 1 < sizeof category_names;
         i += 2)
        if (!memcmp(category_names + i, name, n)) mask |= 1ull << i / 2;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == n && !memcmp(names[i].name, name, n))
            mask |= 1ull << names[i].flag;
    if (!mask) refuse(p, from, "this property is not known");
    p->at = stop + 1;
    struct chars s = classes(p->arena, mask);
    return negated ? combine(p->arena, s, everything, XOR) : s;
}

/* A character, escaped or not, in *c, or a set of them (true) in *s. */
static bool character(struct parser *p, uint32_t *c, struct chars *s) {
    static const char plain[] = "rntfvae", meaning[] = "\r\n\t\f\v\a\033";
    const char *from = p->at;
    if (!accept(p, "\\")) {
        p->at += gm_utf8(p->at, p->end, c);
        return false;
    }
    if (p->at == p->end) refuse(p, from, "nothing is escaped");
    const char e = *p->at, *known = e ? strchr(plain, e) : NULL;
    p->at += gm_utf8(p->at, p->end, c);
    if (known) *c = (uint32_t)meaning[known - plain];
    if (known) return false;
    if (!e || !strchr("sSdDwWpP", e)) {
        if ((e >= '0' && e <= '9') || ((e | 32) >= 'a' && (e | 32) <= 'z'))
            refuse(p, from, "this escape is not known");
        return false;
    }
    if ((e | 32) == 'p') {
        if (!accept(p, "{")) refuse(p, from, "expected \\p{...}");
        *s = property(p, from);
    } else {
        const size_t digit = (size_t)(strstr(category_names, "Nd") -
                                      category_names) / 2;
        *s = classes(p->arena, 1ull << ((e | 32) == 's' ? SPACE :
                                        (e | 32) == 'w' ? W : digit));
    }
    if (e < 'a') *s = combine(p->arena, *s, everything, XOR);
    return true;
}

/* Behind [: up to its ].  && stands between sets that all must have it. */
static struct chars bracket(struct parser *p, const char *from) {
    const bool negated = accept(p, "^");
    struct chars all = everything, s = nothing, item;
    if (++p->depth > MAX_DEPTH) refuse(p, from, "nested too deeply");
    for (bool first = true; first || !accept(p, "]"); first = false) {
        uint32_t low, high;
        if (p->at == p->end) refuse(p, from, "expected ]");
        if (accept(p, "[:")) refuse(p, from, "[: is not known");
        if (accept(p, "&&")) {
            all = combine(p->arena, all, s, AND);
            s = nothing;
            continue;
        }
        const char *here = p->at;
        if (accept(p, "[")) {
            item = bracket(p, here);
        } else if (!character(p, &low, &item)) {
            high = low;
            if (p->end - p->at > 1 && *p->at == '-' && p->at[1] != ']') {
                p->at++;
                if (*p->at == '[' || character(p, &high, &item) || high < low)
                    refuse(p, here, "expected a range");
            }
            item = range(p->arena, low, high);
        }
        s = combine(p->arena, s, item, OR);
    }
    p->depth--;
    s = folded(p, combine(p->arena, all, s, AND));
    return negated ? combine(p->arena, s, everything, XOR) : s;
}

static bool alternatives(struct parser *p);

/* Behind (: up to its ).  Whether it takes a character in any case. */
static bool group(struct parser *p, const char *from) {
    static const struct {
        const char *text; enum kind kind; bool negated; int fold;
    } kinds[] = {{"?:", DONE, false, -1}, {"?i:", DONE, false, 1},
                 {"?-i:", DONE, false, 0}, {"?=", AHEAD, false, -1},
                 {"?!", AHEAD, true, -1}, {"?>", ALONE, false, -1},
                 {"", DONE, false, -1}};
    const bool fold = p->fold;
    const size_t begin = p->ops;
    int i = 0;
    if (++p->depth > MAX_DEPTH) refuse(p, from, "nested too deeply");
    while (!accept(p, kinds[i].text)) i++;
    if (!*kinds[i].text && p->at < p->end && *p->at == '?')
        refuse(p, from, "this kind of group is not known");
    if (kinds[i].fold >= 0) p->fold = kinds[i].fold;
    if (kinds[i].kind != DONE)
        emit(p, (struct op){.kind = kinds[i].kind,
                            .negated = kinds[i].negated});
    bool moves = alternatives(p);
    if (!accept(p, ")")) refuse(p, from, "expected )");
    if (kinds[i].kind != DONE) {
        emit(p, (struct op){.kind = DONE});
        p->op[begin].to = (int)(p->ops - begin);
    }
    p->fold = fold;
    p->depth--;
    return moves && kinds[i].kind != AHEAD;
}

/* {n}, {n,}, {,m}, {n,m}; anything else is no count. */
static bool braces(struct parser *p, struct op *how) {
    static const char digits[] = "0123456789";
    const char *low = p->at + 1, *high, *stop;
    if (p->at == p->end || *p->at != '{') return false;
    stop = high = low + strspn(low, digits);
    const bool two = *high == ',';
    if (two) stop = high + 1 + strspn(high + 1, digits);
    if (*stop != '}' || stop - low == two) return false;
    how->min = how->max = stop - low > 9 ? MAX_COUNT + 1 : atoi(low);
    if (two && stop - low <= 9)
        how->max = stop > high + 1 ? atoi(high + 1) : MANY;
    if (how->min > MAX_COUNT || how->max < how->min ||
        (how->max > MAX_COUNT && how->max != MANY))
        refuse(p, p->at, "this count is not known");
    p->at = stop + 1;
    return true;
}

/* What stands from `begin` on, min to max times. */
static void repeat(struct parser *p, size_t begin, struct op how) {
    const size_t n = p->ops - begin;
    struct op *block = gm_alloc(p->arena, n, sizeof *block);
    memcpy(block, p->op + begin, n * sizeof *block);
    if (n == 1 && block->kind == CHARS && block->min == 1 && block->max == 1) {
        how.set = block->set;
        p->op[begin] = how;
        return;
    }
    p->ops = begin;
    if (how.held) emit(p, (struct op){.kind = ALONE});
    for (int i = 0; i < how.min; i++)
        for (size_t k = 0; k < n; k++) emit(p, block[k]);
    const int times = how.max == MANY ? 1 : how.max - how.min;
    const int each = (int)n + 1;
    for (int i = times; i > 0; i--) {
        emit(p, (struct op){.kind = FORK,
                            .to = i * each + (how.max == MANY)});
        for (size_t k = 0; k < n; k++) emit(p, block[k]);
    }
    if (how.max == MANY) emit(p, (struct op){.kind = JUMP, .to = -each});
    if (!how.held) return;
    emit(p, (struct op){.kind = DONE});
    p->op[begin].to = (int)(p->ops - begin);
}

/* One thing and how often it stands there.  `moves` as in group(). */
static bool item(struct parser *p) {
    const size_t begin = p->ops;
    const char *from = p->at;
    struct op one = {.kind = CHARS, .min = 1, .max = 1};
    bool moves = true;
    uint32_t c = 0, last = p->last;
    p->last = 0;
    if (accept(p, "(")) {
        moves = group(p, from);
    } else if (accept(p, "^") || accept(p, "$") || accept(p, "\\A") ||
               accept(p, "\\z") || accept(p, "\\Z")) {
        emit(p, (struct op){.kind = PLACE, .min = p->at[-1]});
        moves = false;
    } else {
        if (strchr("*+?", *from) || braces(p, &one))
            refuse(p, from, "nothing is repeated");
        if (accept(p, "[")) {
            one.set = bracket(p, from);
        } else if (accept(p, ".")) {
            one.set = combine(p->arena, range(p->arena, '\n', '\n'),
                              everything, XOR);
        } else if (!character(p, &c, &one.set)) {
            static const char several[] = "ss st ff fi fl";
            one.set = folded(p, range(p->arena, c, c));
            p->last = p->fold && c < 128 ? c | 32 : 0;
            if (last && p->last &&
                strstr(several, (char[]){(char)last, (char)p->last, 0}))
                refuse(p, from, "(?i:) of letters that fold to one character");
        }
        emit(p, one);
    }
    for (;;) {
        struct op how = {.kind = CHARS, .min = 1, .max = MANY};
        from = p->at;
        if (accept(p, "?")) how.max = 1, how.min = 0;
        else if (accept(p, "*")) how.min = 0;
        else if (!accept(p, "+") && !braces(p, &how)) break;
        how.held = p->at[-1] != '}' && accept(p, "+");
        if (accept(p, "?")) refuse(p, from, "lazy repetition is not known");
        if (how.max == MANY && !moves)
            refuse(p, from, "this may repeat nothing without end");
        repeat(p, begin, how);
        moves = moves && how.min;
        p->last = 0;
    }
    return moves;
}

static bool alternatives(struct parser *p) {
    const size_t begin = p->ops;
    bool moves = false;
    p->last = 0;
    while (p->at < p->end && *p->at != '|' && *p->at != ')') moves |= item(p);
    const char *from = p->at;
    if (!accept(p, "|")) return moves;
    if (++p->depth > MAX_DEPTH) refuse(p, from, "too many alternatives");
    emit(p, (struct op){.kind = FORK});
    memmove(p->op + begin + 1, p->op + begin,
            (p->ops - begin - 1) * sizeof *p->op);
    p->op[begin] = (struct op){.kind = FORK, .to = (int)(p->ops - begin) + 1};
    const size_t jump = p->ops;
    emit(p, (struct op){.kind = JUMP});
    moves &= alternatives(p);
    p->op[jump].to = (int)(p->ops - jump);
    p->depth--;
    return moves;
}

const gm_regex *gm_regex_new(gm_arena *arena, const char *path,
                             const char *pattern, bool literal) {
    struct parser p = {.arena = arena, .path = path, .pattern = pattern,
                       .at = pattern, .end = pattern + strlen(pattern)};
    gm_regex *r = gm_alloc(arena, 1, sizeof *r);
    if (p.end - p.at > 4 * MAX_OPS) refuse(&p, "", "the pattern is too large");
    for (uint32_t c = 0; literal && p.at < p.end;) {
        p.at += gm_utf8(p.at, p.end, &c);
        emit(&p, (struct op){.kind = CHARS, .min = 1, .max = 1,
                             .set = range(arena, c, c)});
    }
    alternatives(&p);
    if (p.at < p.end) refuse(&p, p.at, "unexpected )");
    emit(&p, (struct op){.kind = DONE});
    r->op = p.op;
    r->pattern = gm_format(arena, "%s", pattern);
    return r;
}

/* ---------------------------------------------------------------- matching */

/* Where to go on when what was tried fails: at any place from `high` down to
   `low`. */
struct gm_fork { const struct op *op; const char *low, *high; };

/* Past at most `most` characters of the set; how many in *count. */
static const char *take(const struct chars *s, const char *at, const char *end,
                        int most, int *count) {
    uint32_t c;
    for (*count = 0; at < end && *count < most; ++*count) {
        const int length = (uint8_t)*at < 128 ? 1 : gm_utf8(at, end, &c);
        if (!has(s, length == 1 ? (uint8_t)*at : c)) break;
        at += length;
    }
    return at;
}

static bool stands(char place, const char *text, const char *at,
                   const char *end) {
    if (place == '^') return at == text || (at[-1] == '\n' && at < end);
    if (place == 'A') return at == text;
    return at == end || (place == '$' && *at == '\n') ||
           (place == 'Z' && end - at == 1 && *at == '\n');
}

static void fork_off(gm_matcher *m, struct gm_fork f) {
    m->fork = gm_grow(&m->arena, m->fork, m->forks, &m->room, sizeof f);
    m->fork[m->forks++] = f;
}

static const char *run(const gm_regex *r, gm_matcher *m, const struct op *o,
                       const char *text, const char *at, const char *end) {
    const size_t base = m->forks;
    for (;;) {
        const char *past = at, *low;
        bool fine = true;
        int count = 0;
        switch (o->kind) {
        case CHARS:
            low = take(&o->set, at, end, o->min, &count);
            fine = count == o->min;
            past = low;
            if (!fine || o->max == o->min) break;
            past = take(&o->set, low, end, o->max == MANY ? MANY :
                        o->max - o->min, &count);
            if (past == low || o->held) break;
            fork_off(m, (struct gm_fork){o + 1, low, gm_utf8_back(past)});
            break;
        case FORK: fork_off(m, (struct gm_fork){o + o->to, at, at}); break;
        case JUMP: o += o->to - 1; break;
        case ALONE: case AHEAD:
            low = run(r, m, o + 1, text, at, end);
            fine = !low == o->negated;
            if (o->kind == ALONE && low) past = low;
            if (fine) o += o->to - 1;
            break;
        case PLACE: fine = stands((char)o->min, text, at, end); break;
        case DONE: m->forks = base; return at;
        }
        const uint64_t cost = 1 + (uint64_t)(past - at);
        if (m->steps < cost)
            gm_fail(GM_ELIMIT, "pattern \"%.400s\" takes more than %d steps a "
                    "byte on this text", r->pattern, GM_REGEX_STEPS);
        m->steps -= cost;
        at = past;
        o++;
        if (fine) continue;
        if (m->forks == base) return NULL;
        struct gm_fork *f = &m->fork[m->forks - 1];
        o = f->op;
        at = f->high;
        if (f->low == f->high) m->forks--;
        else f->high = gm_utf8_back(f->high);
    }
}

const char *gm_regex_match(const gm_regex *r, gm_matcher *m, const char *text,
                           const char *at, const char *end) {
    m->forks = 0;
    return run(r, m, r->op, text, at, end);
}
