/* vipr.c: checks a proof in VIPR 1.0 (Cheung, Gleixner, Steffy 2017) line by
   line: that its program is the one that a problem gives, that its solution
   meets every row, and that each derived line follows,
     lin   a sum of earlier lines with multipliers, inequalities one way round,
           that is the line or stronger
     rnd   the same, its coefficients whole, its side rounded
     uns   from two lines and a sum <= n or >= n + 1, of which they may assume
           one each
     asm   an assumption; the last line may rest on none.
   Accepted are whole coefficients and sides below 2^63 and fractions as
   multipliers; sums in 128 bits, what is beyond is refused.  Not accepted:
   continuous variables, maximisation, decimals, the reason sol, bounds of
   infinity, solutions beside RTP infeas, an index of a last use.

   Reads the file, no more.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef __int128 wide;

/* A line of the program or a derived one. */
struct fact {
    gm_line line;
    long assumptions, *assumed;
};

struct checker {
    gm_arena *arena;
    const gm_program *q;
    const char *path;
    char *at, *end;                 /* what is not read yet */
    long number;                    /* of the text's line, for messages */
    bool ended;                     /* it ended behind the last word */
    struct fact *fact;
    long facts;
    long *seen, stamp;              /* variables and facts met since a stamp */
    long *assumed, assumptions, kept;   /* of the line at hand; of all */
    wide *sum, side, den;           /* a combination, times den */
    int sense;
};

_Noreturn static void wrong(const struct checker *c, const char *format, ...)
    GM_PRINTF(2, 3);
_Noreturn static void wrong(const struct checker *c, const char *format, ...) {
    va_list list;
    va_start(list, format);
    const char *text = gm_vformat(c->arena, format, list);
    va_end(list);
    gm_fail(GM_EDIFFER, "%s: line %ld: %s", c->path, c->number, text);
}

/* ------------------------------------------------------------------ reading */

static const char *word(struct checker *c) {
    c->number += c->ended;
    for (; c->at < c->end && strchr(" \t\r\n", *c->at); c->at++)
        c->number += *c->at == '\n';
    c->ended = false;
    if (c->at == c->end) wrong(c, "the file ends early");
    const char *text = c->at;
    c->at += strcspn(text, " \t\r\n");
    if (c->at == c->end) return text;
    c->ended = *c->at == '\n';
    *c->at++ = 0;
    return text;
}

static void expect(struct checker *c, const char *expected) {
    const char *found = word(c);
    if (strcmp(found, expected) != 0)
        wrong(c, "expected \"%s\", found \"%s\"", expected, found);
}

/* Digits with a sign or without, up to `end`. */
static bool read_wide(const char *text, const char *end, wide *out) {
    const bool minus = *text == '-';
    *out = 0;
    text += minus;
    if (text == end) return false;
    for (; text < end; text++)
        if (*text < '0' || *text > '9' ||
            __builtin_mul_overflow(*out, (wide)10, out) ||
            __builtin_sub_overflow(*out, (wide)(*text - '0'), out))
            return false;
    return minus || !__builtin_sub_overflow((wide)0, *out, out);
}

static int64_t whole_of(const struct checker *c, const char *text,
                        int64_t least, int64_t most) {
    wide x;
    if (!read_wide(text, text + strlen(text), &x) || x < least || x > most)
        wrong(c, "expected a whole number from %" PRId64 " to %" PRId64
              ", found \"%s\"", least, most, text);
    return (int64_t)x;
}

static int64_t whole(struct checker *c, int64_t least, int64_t most) {
    return whole_of(c, word(c), least, most);
}

/* Among the first `most`, and not met since the last stamp. */
static long fresh(struct checker *c, long most) {
    const long i = whole(c, 0, most - 1);
    if (c->seen[i] == c->stamp) wrong(c, "%ld stands there twice", i);
    c->seen[i] = c->stamp;
    return i;
}

/* "N i a i a ..."; OBJ: the objective. */
static void read_sum(struct checker *c, gm_line *line) {
    const char *text = word(c);
    if (strcmp(text, "OBJ") == 0) {
        line->terms = c->q->objective.terms;
        line->index = c->q->objective.index;
        line->value = c->q->objective.value;
        return;
    }
    const long n = whole_of(c, text, 0, c->q->variables);
    line->index = gm_alloc(c->arena, (size_t)n, sizeof *line->index);
    line->value = gm_alloc(c->arena, (size_t)n, sizeof *line->value);
    c->stamp++;
    for (line->terms = 0; line->terms < n; line->terms++) {
        line->index[line->terms] = fresh(c, c->q->variables);
        line->value[line->terms] = whole(c, -INT64_MAX, INT64_MAX);
    }
}

static gm_line read_line(struct checker *c) {
    gm_line line = {.name = word(c)};
    const char *sense = word(c);
    if (!strchr("LEG", *sense) || sense[1])
        wrong(c, "expected L, E or G, found \"%s\"", sense);
    line.sense = *sense == 'L' ? -1 : *sense == 'G';
    line.side = whole(c, -INT64_MAX, INT64_MAX);
    read_sum(c, &line);
    return line;
}

/* -------------------------------------------------------------- the program */

/* The file begins, behind comments, with the problem's program as it is
   written: nothing of it need be read. */
static void match_program(struct checker *c) {
    char *own;
    size_t bytes, same = 0;
    gm_out out = {.file = open_memstream(&own, &bytes), .partial = "memory"};
    if (!out.file) gm_fail(GM_EMEM, "out of memory");
    gm_program_print(c->q, &out);
    fclose(out.file);
    const char *expected = memcpy(gm_alloc(c->arena, bytes + 1, 1), own, bytes);
    free(own);
    for (; *c->at == '%'; c->number++)
        c->at += strcspn(c->at, "\n") + (strchr(c->at, '\n') != NULL);
    for (; same < bytes && c->at[same] == expected[same]; same++)
        c->number += expected[same] == '\n';
    if (same < bytes) {
        while (same > 0 && !strchr(" \n", expected[same - 1])) same--;
        wrong(c, "not the program that the scores, the budget and the "
              "constraints give: expected \"%.*s\", found \"%.*s\"",
              (int)strcspn(expected + same, " \n"), expected + same,
              (int)strcspn(c->at + same, " \n"), c->at + same);
    }
    c->at += bytes;
}

static void add(struct checker *c, wide *to, wide a, wide b) {
    if (__builtin_mul_overflow(a, b, &a) || __builtin_add_overflow(*to, a, to))
        wrong(c, "a sum is beyond 128 bits");
}

/* c->sum = the line itself, times 1. */
static void take(struct checker *c, const gm_line *line) {
    memset(c->sum, 0, (size_t)c->q->variables * sizeof *c->sum);
    for (long i = 0; i < line->terms; i++)
        c->sum[line->index[i]] = line->value[i];
    c->side = line->side, c->den = 1, c->sense = line->sense;
}

/* sum value x of a line, x in c->sum. */
static wide value_of(struct checker *c, const gm_line *line) {
    wide sum = 0;
    for (long i = 0; i < line->terms; i++)
        add(c, &sum, line->value[i], c->sum[line->index[i]]);
    return sum;
}

/* The objective of the file's one solution, which meets the program. */
static wide read_solution(struct checker *c) {
    gm_line x = {0};
    expect(c, "SOL");
    expect(c, "1");
    word(c);
    read_sum(c, &x);
    take(c, &x);
    for (long i = 0; i < c->q->lines; i++) {
        const gm_line *line = &c->q->line[i];
        const wide sum = value_of(c, line);
        if ((line->sense <= 0 && sum > line->side) ||
            (line->sense >= 0 && sum < line->side))
            wrong(c, "the solution does not meet %s", line->name);
    }
    return value_of(c, &c->q->objective);
}

/* ----------------------------------------------------------- the derivation */

/* f's assumptions but `without` join those of the line at hand. */
static void inherit(struct checker *c, const struct fact *f, long without) {
    for (long i = 0; i < f->assumptions; i++) {
        if (f->assumed[i] == without || c->seen[f->assumed[i]] == c->stamp)
            continue;
        c->seen[f->assumed[i]] = c->stamp;
        c->assumed[c->assumptions++] = f->assumed[i];
    }
}

static bool is_zero(const struct checker *c) {
    long v = 0;
    while (v < c->q->variables && c->sum[v] == 0) v++;
    return v == c->q->variables;
}

/* Whether c->sum has the sum of `line`, whose multiple it loses. */
static bool is_same(struct checker *c, const gm_line *line) {
    for (long i = 0; i < line->terms; i++)
        add(c, &c->sum[line->index[i]], -(wide)line->value[i], c->den);
    return is_zero(c);
}

/* Whether what c->sum has is `line`, or stronger, or absurd. */
static bool dominates(struct checker *c, const gm_line *line) {
    wide side = 0;
    add(c, &side, line->side, c->den);
    if (is_zero(c) && ((c->sense >= 0 && c->side > 0) ||
                       (c->sense <= 0 && c->side < 0)))
        return true;
    return is_same(c, line) &&
           (line->sense > 0 ? c->sense >= 0 && c->side >= side :
            line->sense < 0 ? c->sense <= 0 && c->side <= side :
            c->sense == 0 && c->side == side);
}

struct multiplier { struct fact *fact; wide num, den; };

/* "N i multiplier ..." into c->sum, times the least common denominator. */
static void combine(struct checker *c) {
    const long n = whole(c, 0, c->facts);
    gm_mark mark = gm_arena_mark(c->arena);
    struct multiplier *m = gm_alloc(c->arena, (size_t)n, sizeof *m);
    gm_line nothing = {0};
    take(c, &nothing);
    c->stamp++;
    for (long i = 0; i < n; i++) {
        m[i].fact = &c->fact[fresh(c, c->facts)];
        const char *text = word(c), *bar = strchr(text, '/');
        const char *end = text + strlen(text);
        m[i].den = 1;
        if (!read_wide(text, bar ? bar : end, &m[i].num) ||
            (bar && (!read_wide(bar + 1, end, &m[i].den) || m[i].den < 1)))
            wrong(c, "expected a multiplier such as -3 or 5/8, found \"%s\"",
                  text);
        if (__builtin_mul_overflow(c->den / gm_gcd(c->den, m[i].den), m[i].den,
                                   &c->den))
            wrong(c, "a common denominator is beyond 128 bits");
    }
    for (long i = 0; i < n; i++) {
        const gm_line *line = &m[i].fact->line;
        const int sign = line->sense * ((m[i].num > 0) - (m[i].num < 0));
        wide times = 0;
        if (sign * c->sense < 0)
            wrong(c, "the multiplier of %s has the wrong sign", line->name);
        if (sign) c->sense = sign;
        add(c, &times, m[i].num, c->den / m[i].den);
        for (long j = 0; j < line->terms; j++)
            add(c, &c->sum[line->index[j]], times, line->value[j]);
        add(c, &c->side, times, line->side);
    }
    c->stamp++;
    for (long i = 0; i < n; i++) inherit(c, m[i].fact, -1);
    gm_arena_rewind(c->arena, mark);
}

/* Coefficients need not be looked at: those of the line to come are whole. */
static void round_side(struct checker *c) {
    if (c->sense == 0) wrong(c, "an equation is not rounded");
    const wide rest = (c->side % c->den + c->den) % c->den;
    add(c, &c->side, 1, c->sense < 0 || rest == 0 ? -rest : c->den - rest);
}

/* "i1 l1 i2 l2": the line holds under l1 by i1, under l2 by i2. */
static void unsplit(struct checker *c, const gm_line *line) {
    const gm_line *branch[2];
    c->stamp++;
    for (int i = 0; i < 2; i++) {
        const struct fact *f = &c->fact[whole(c, 0, c->facts - 1)];
        const long l = whole(c, 0, c->facts - 1);
        branch[i] = &c->fact[l].line;
        take(c, &f->line);
        if (!dominates(c, line))
            wrong(c, "%s does not give %s", f->line.name, line->name);
        inherit(c, f, l);
    }
    take(c, branch[0]);
    if (c->sense == 0 || branch[1]->sense != -c->sense ||
        c->side - c->sense != branch[1]->side || !is_same(c, branch[1]))
        wrong(c, "%s and %s are not n and n + 1 of one sum", branch[0]->name,
              branch[1]->name);
}

/* One derived line. */
static void derive(struct checker *c) {
    struct fact f = {.line = read_line(c)};
    expect(c, "{");
    const char *how = word(c);
    const bool rounded = strcmp(how, "rnd") == 0;
    c->assumptions = 0;
    if (strcmp(how, "asm") == 0)
        c->assumed[c->assumptions++] = c->facts;
    else if (strcmp(how, "uns") == 0)
        unsplit(c, &f.line);
    else if (rounded || strcmp(how, "lin") == 0) {
        combine(c);
        if (rounded) round_side(c);
        if (!dominates(c, &f.line))
            wrong(c, "%s does not follow from its multipliers", f.line.name);
    } else
        wrong(c, "expected asm, lin, rnd or uns, found \"%s\"", how);
    expect(c, "}");
    expect(c, "-1");
    f.assumptions = c->assumptions;
    const size_t bytes = (size_t)f.assumptions * sizeof *f.assumed;
    if ((c->kept += f.assumptions) > 1 << 26)
        wrong(c, "more than 2^26 assumptions");
    f.assumed = gm_alloc(c->arena, 1, bytes);
    memcpy(f.assumed, c->assumed, bytes);
    c->fact[c->facts++] = f;
}

/* "range LOWER UPPER" and a solution, or "infeas" and none; `goal`: what the
   last line must give. */
static gm_proven read_goal(struct checker *c, gm_line *goal) {
    gm_proven t = {0};
    expect(c, "RTP");
    const char *what = word(c);
    *goal = (gm_line){.sense = 1, .side = 1};
    t.none = strcmp(what, "infeas") == 0;
    if (t.none) {
        expect(c, "SOL");
        expect(c, "0");
        return t;
    }
    if (strcmp(what, "range") != 0)
        wrong(c, "expected infeas or range, found \"%s\"", what);
    *goal = c->q->objective;
    goal->sense = 1;
    goal->side = t.lower = whole(c, -INT64_MAX, INT64_MAX);
    t.upper = whole(c, t.lower, INT64_MAX);
    if (read_solution(c) > t.upper)
        wrong(c, "the solution's objective is above %" PRId64, t.upper);
    return t;
}

gm_proven gm_proof_check(gm_arena *arena, const char *path, const gm_mckp *p) {
    gm_program q;
    gm_line goal;
    size_t bytes;
    char *text = gm_file_text(arena, path, &bytes);
    gm_program_build(arena, p, &q);
    struct checker c = {.arena = arena, .q = &q, .path = path, .at = text,
                        .end = text + bytes, .number = 1};
    c.sum = gm_alloc(arena, (size_t)q.variables, sizeof *c.sum);
    c.seen = gm_alloc(arena, (size_t)q.variables, sizeof *c.seen);
    if (strlen(text) != bytes) wrong(&c, "a NUL byte");
    match_program(&c);
    const gm_proven proven = read_goal(&c, &goal);
    expect(&c, "DER");
    const long all = q.lines + whole(&c, 1, (int64_t)bytes);
    c.stamp = 0;
    c.seen = gm_alloc(arena, (size_t)all, sizeof *c.seen);
    c.fact = gm_alloc(arena, (size_t)all, sizeof *c.fact);
    c.assumed = gm_alloc(arena, (size_t)all, sizeof *c.assumed);
    for (; c.facts < q.lines; c.facts++) c.fact[c.facts].line = q.line[c.facts];
    while (c.facts < all) derive(&c);
    const struct fact *last = &c.fact[c.facts - 1];
    take(&c, &last->line);
    if (last->assumptions)
        wrong(&c, "the last line still assumes %s",
              c.fact[last->assumed[0]].line.name);
    if (!dominates(&c, &goal))
        wrong(&c, "the last line, %s, does not give what is to be proven",
              last->line.name);
    c.number += c.ended;
    if (c.at[strspn(c.at, " \t\r\n")]) wrong(&c, "text behind the last line");
    return proven;
}
