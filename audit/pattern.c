/* pattern.c: where a regular expression of another tool matches.  What Python's
   re, PCRE and ECMAScript have in common, and look-ahead; what they mean
   differently (back references, possessive repeats, flags, ...) is refused by
   name.  Whether there is a match does not depend on greed, so no search: an
   expression takes the set of places where it may begin to the set of those
   where it may end, and the text of the expression is its own program.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <ctype.h>
#include <string.h>

enum { PLACES = 512, DEEPEST = 32 };

/* There may be a match up to these places of the name. */
typedef struct { bool in[PLACES]; } places;

typedef struct {
    const char *path, *pattern, *at, *name;
    long length, *steps;
    int depth;
} matching;

_Noreturn static void refuse(const matching *m, const char *what) {
    gm_bad(m->path, "pattern \"%.200s\": expected what all dialects have, "
           "found %s at \"%.40s\"", m->pattern, what, m->at);
}

static bool any(const matching *m, const places *set) {
    return memchr(set->in, 1, (size_t)m->length + 1) != NULL;
}

static bool is_word(unsigned char c) {
    return isalnum(c) || c == '_';      /* in the C locale: ASCII */
}

/* Adds what \d, \w, \s and their opposites stand for; false: c is none. */
static bool add_kind(char c, bool set[256]) {
    const char *at = c ? strchr("dwsDWS", c) : NULL;
    const char kind = at ? "dwsdws"[at - "dwsDWS"] : 0;
    for (int i = 1; at && i < 256; i++) {
        const bool is = kind == 'd' ? i >= '0' && i <= '9' : kind == 'w' ?
            is_word((unsigned char)i) : i == ' ' || (i >= 9 && i <= 13);
        if (is == (c == kind)) set[i] = true;
    }
    return at != NULL;
}

/* A character, escaped or not, or (0) a kind, which is added. */
static unsigned char member(matching *m, bool set[256]) {
    const unsigned char c = (unsigned char)*m->at;
    if (!c || c >= 128 || (c == '[' && strchr(":=.", m->at[1])))
        refuse(m, "a set without end, or of named characters");
    m->at++;
    if (c != '\\') return c;
    const char escaped = *m->at;
    if (add_kind(escaped, set)) return m->at++, 0;
    if (!escaped || is_word((unsigned char)escaped))
        refuse(m, "an escape");
    return (unsigned char)*m->at++;
}

static void read_set(matching *m, bool set[256]) {
    const bool negated = m->at[1] == '^';
    m->at += 1 + negated;
    if (*m->at == ']') refuse(m, "an empty set");
    while (*m->at != ']') {
        const unsigned char low = member(m, set);
        unsigned char high = low;
        if (*m->at == '-' && m->at[1] != ']') {
            m->at++;
            high = member(m, set);
            if (!low || high < low) refuse(m, "a range from high to low");
        }
        for (int c = low; low && c <= high; c++) set[c] = true;
    }
    for (int c = 1; negated && c < 256; c++) set[c] = !set[c];
    m->at++;
}

/* One character out of a set. */
static void step(const matching *m, const bool set[256], places *x) {
    for (long p = m->length; p > 0; p--)
        x->in[p] = x->in[p - 1] && set[(unsigned char)m->name[p - 1]];
    x->in[0] = false;
}

/* Keeps the places where `^`, `$`, \b or \B holds. */
static void keep(const matching *m, char what, places *x) {
    for (long p = 0; p <= m->length; p++) {
        const bool edge =
            (p > 0 && is_word((unsigned char)m->name[p - 1])) !=
            (p < m->length && is_word((unsigned char)m->name[p]));
        x->in[p] = x->in[p] && (what == '^' ? p == 0 : what == '$' ?
                                p == m->length : edge == (what == 'b'));
    }
}

static void alternatives(matching *m, places *x);

/* (?=...) and (?!...): keeps the places from which it can, or cannot, end. */
static void look(matching *m, bool negative, places *x) {
    const char *inside = m->at;
    places none = {0};
    alternatives(m, &none);             /* reads it, even with no place */
    const char *end = m->at;
    for (long p = 0; p <= m->length; p++) {
        places from = {0};
        if (!x->in[p]) continue;
        from.in[p] = true;
        m->at = inside;
        alternatives(m, &from);
        x->in[p] = any(m, &from) != negative;
    }
    m->at = end;
}

static bool group(matching *m, places *x) {
    char kind = ':';
    if (++m->depth > DEEPEST) refuse(m, "more than 32 groups in each other");
    m->at++;
    if (*m->at == '?') {
        kind = m->at[1];
        if (!kind || !strchr(":=!", kind)) refuse(m, "a special group");
        m->at += 2;
    }
    if (kind == ':') alternatives(m, x);
    else look(m, kind == '!', x);
    if (*m->at != ')') refuse(m, "a group without end");
    m->at++;
    m->depth--;
    return kind == ':';
}

/* false: it takes no characters, so dialects do not agree on its repeats. */
static bool atom(matching *m, places *x) {
    bool set[256] = {false};
    const char c = *m->at;
    if (--*m->steps < 0) refuse(m, "too many steps");
    if (strchr("*+?{", c)) refuse(m, "nothing to repeat");
    if (c & 0x80) refuse(m, "a character beyond ASCII");
    if (c == '(') return group(m, x);
    if (c == '^' || c == '$' || (c == '\\' && (m->at[1] | 32) == 'b')) {
        m->at += c == '\\' ? 2 : 1;
        keep(m, m->at[-1], x);
        return false;
    }
    if (c == '[') read_set(m, set);
    else if (c == '.') m->at++, memset(set, true, sizeof set);
    else set[member(m, set)] = true;        /* no name has a 0 */
    step(m, set, x);
    return true;
}

/* *, +, ?, {n}, {n,}, {n,k} and these with ? behind; false: none follows. */
static bool repeats(matching *m, long *least, long *most) {
    int read = 0, more = 0;
    const char c = *m->at;
    *least = c == '+';
    *most = c == '?' ? 1 : PLACES;
    if (!c || !strchr("*+?{", c)) return false;
    if (c != '{') {
        m->at++;
    } else if (m->at[1] >= '0' && m->at[1] <= '9' &&
               sscanf(m->at, "{%3ld%n", least, &read) == 1) {
        m->at += read;
        if (*m->at != ',') *most = *least;
        else if (*++m->at >= '0' && *m->at <= '9' &&
                 sscanf(m->at, "%3ld%n", most, &more) == 1) m->at += more;
        if (*m->at != '}' || *most < *least) refuse(m, "a number of repeats");
        m->at++;
    } else {
        refuse(m, "a number of repeats");
    }
    if (*m->at == '?') m->at++;
    if (*m->at && strchr("*+?{", *m->at)) refuse(m, "a repeat of a repeat");
    return true;
}

/* An atom and its repeats: the places after each number of them.  Those once
   reached need not be gone on from again. */
static void repeated(matching *m, places *x) {
    const char *begin = m->at;
    places reached = *x, now = *x;
    long least, most;
    const bool some = atom(m, &now);
    if (!some && *m->at && strchr("*+?{", *m->at))
        refuse(m, "nothing to repeat");
    if (!repeats(m, &least, &most)) {
        *x = now;
        return;
    }
    const char *end = m->at;
    if (least > 0) memset(&reached, 0, sizeof reached);
    for (long i = 1; i <= most && any(m, &now); i++) {
        for (long p = 0; p <= m->length && i >= least; p++) {
            now.in[p] = now.in[p] && !reached.in[p];
            reached.in[p] = reached.in[p] || now.in[p];
        }
        m->at = begin;
        atom(m, &now);
    }
    m->at = end;
    *x = reached;
}

static void alternatives(matching *m, places *x) {
    const places from = *x;
    places all = {0};
    for (;; m->at++) {
        *x = from;
        while (*m->at && *m->at != '|' && *m->at != ')') repeated(m, x);
        for (long p = 0; p <= m->length; p++)
            all.in[p] = all.in[p] || x->in[p];
        if (*m->at != '|') break;
    }
    *x = all;
}

bool gm_pattern_matches(const char *path, const char *pattern,
                        const char *name, bool anywhere, long *steps) {
    matching m = {.path = path, .pattern = pattern, .at = pattern,
                  .name = name, .steps = steps};
    places x = {0};
    while (name[m.length] && !(name[m.length] & 0x80)) m.length++;
    if (name[m.length] || m.length >= PLACES)
        gm_bad(path, "expected names of ASCII, below %d bytes, found "
               "\"%.60s...\"", PLACES, name);
    memset(x.in, true, anywhere ? (size_t)m.length + 1 : 1);
    alternatives(&m, &x);
    if (*m.at) refuse(&m, "a group's end without a beginning");
    return any(&m, &x);
}
