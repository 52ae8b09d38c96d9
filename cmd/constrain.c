/* constrain.c: couplings written as text (fused groups, pins, bounds, further
   resources) into an integer program.  Reads the resource tables, no more.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

/* What the text is about and what it builds. */
struct maker { gm_arena *arena; const gm_scores *s; gm_mckp *p; };

/* ---------------------------------------------------------------- patterns */

static const char *last_part(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* The whole name, or its part after the last dot. */
static bool matches(const char *pattern, const char *name) {
    return gm_name_matches(pattern, name) ||
           gm_name_matches(pattern, last_part(name));
}

static char *copy_of(const struct maker *k, const char *text) {
    return text ? gm_format(k->arena, "%s", text) : NULL;
}

_Noreturn static void unknown(const struct maker *k, const char *option,
                              const char *pattern) {
    gm_fail(GM_EUSAGE, "%s: no module of %s matches \"%s\"", option, k->s->path,
            pattern);
}

/* ---------------------------------------------------------- pins and bounds */

enum limit { AT_LEAST, AT_MOST, EXACTLY };

/* What stays as stored is no module: pinning it to the 16 or 32 bits it has
   changes nothing, anything else is refused with that reason. */
static void unmatched(const struct maker *k, const char *option,
                      const char *pattern, enum limit kind, long bits) {
    static const char *const kept[] = {"lm_head", "embed_tokens", "norm"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        if (!strstr(pattern, kept[i])) continue;
        if (bits >= 16 && kind != AT_MOST) return;
        gm_fail(GM_EUSAGE, "%s: \"%s\" is none of the modules of %s: "
                "embeddings, norms and the output head stay as stored", option,
                pattern, k->s->path);
    }
    unknown(k, option, pattern);
}

/* Splits "PATTERN=BITS", "PATTERN>=BITS" or "PATTERN<=BITS" (the last two
   where `kind` says EXACTLY, and change it); a bare number means all modules.
   Returns BITS. */
static const char *split_limit(char *item, const char **pattern,
                               enum limit *kind) {
    char *sign = strchr(item, '=');
    *pattern = sign ? item : "*";
    if (!sign) return item;
    bool relation = sign > item && (sign[-1] == '<' || sign[-1] == '>');
    if (relation && *kind == EXACTLY) {
        *kind = sign[-1] == '<' ? AT_MOST : AT_LEAST;
        sign[-1] = 0;
    }
    *sign = 0;
    return sign + 1;
}

/* "PATTERN=BITS,..." */
static void limit_bits(struct maker *k, const char *option, const char *text,
                       enum limit way) {
    const int K = k->s->K;
    char *rest = copy_of(k, text);
    for (char *item; (item = strsep(&rest, ","));) {
        enum limit kind = way;
        const char *pattern, *bits = split_limit(item, &pattern, &kind);
        const long b = gm_parse_long(option, bits, 1, 32);
        long hits = 0;
        for (long i = 0; i < k->s->M * K; i++) {
            if (!matches(pattern, k->s->name[i / K])) continue;
            hits++;
            if ((kind != AT_MOST && k->s->bits[i % K] < b) ||
                (kind != AT_LEAST && k->s->bits[i % K] > b))
                k->p->allowed[i] = false;
        }
        if (!hits) unmatched(k, option, pattern, kind, b);
    }
}

void gm_allow(gm_arena *arena, const gm_scores *s, const char *text,
              bool *allowed) {
    struct maker k = {arena, s, NULL};
    char *rest = gm_format(arena, "%s", text);
    for (char *item; (item = strsep(&rest, ";"));) {
        bool list[GM_MAX_CANDIDATES] = {false};
        char *bits = strchr(item, '=');
        long hits = 0;
        if (!bits)
            gm_fail(GM_EUSAGE, "--allow: expected PATTERN=BITS,...;..., found "
                    "\"%s\"", item);
        *bits++ = 0;
        for (char *one; (one = strsep(&bits, ","));) {
            const long b = gm_parse_long("--allow", one, 1, 32);
            int j = 0;
            while (j < s->K && s->bits[j] != b) j++;
            if (j == s->K)
                gm_fail(GM_EUSAGE, "--allow: there are no candidates of %ld "
                        "bits", b);
            list[j] = true;
        }
        for (long m = 0; m < s->M; m++) {
            int left = 0;
            if (!matches(item, s->name[m])) continue;
            hits++;
            for (int j = 0; j < s->K; j++)
                left += allowed[m * s->K + j] &= list[j];
            if (!left)
                gm_fail(GM_EUSAGE, "--allow: %s is left without a candidate",
                        s->name[m]);
        }
        if (!hits) unknown(&k, "--allow", item);
    }
}

/* ------------------------------------------------------------- fused groups */

/* Same module path up to the last dot: q_proj and k_proj of one block. */
static bool siblings(const char *a, const char *b) {
    size_t n = (size_t)(last_part(a) - a);
    return n == (size_t)(last_part(b) - b) && memcmp(a, b, n) == 0;
}

/* The nearest sibling of module m in a group numbered `first` or later. */
static long sibling_group(const struct maker *k, long m, long first) {
    const long *group = k->p->group;
    for (long d = 1; d < k->s->M; d++)
        for (long n = m - d; n <= m + d; n += 2 * d)
            if (n >= 0 && n < k->s->M && group[n] >= first &&
                siblings(k->s->name[n], k->s->name[m]))
                return group[n];
    return -1;
}

/* One set "a+b+c": parts of names fuse siblings, whole names each other. */
static void fuse_set(struct maker *k, char *set, long *count) {
    long first = *count, whole = -1;
    for (char *item; (item = strsep(&set, "+"));) {
        long hits = 0, before = *count;
        for (long m = 0; m < k->s->M; m++) {
            const char *name = k->s->name[m];
            bool is_whole = strcmp(item, name) == 0;
            if (!is_whole && strcmp(item, last_part(name)) != 0) continue;
            if (k->p->group[m] >= 0)
                gm_fail(GM_EUSAGE, "--fuse: module %s appears twice", name);
            long group = is_whole ? whole :
                         before > first ? sibling_group(k, m, first) : -1;
            if (group < 0) group = (*count)++;
            if (is_whole) whole = group;
            k->p->group[m] = group;
            hits++;
        }
        if (!hits) unknown(k, "--fuse", item);
    }
}

/* "q_proj+k_proj+v_proj,gate_proj+up_proj" */
static void fuse(struct maker *k, const char *text) {
    long count = 0;
    char *rest = copy_of(k, text);
    if (!text) return;
    k->p->group = gm_alloc(k->arena, (size_t)k->s->M, sizeof *k->p->group);
    for (long m = 0; m < k->s->M; m++) k->p->group[m] = -1;
    for (char *set; (set = strsep(&rest, ","));) fuse_set(k, set, &count);
}

/* --------------------------------------------------------------- resources */

/* Digits after the point, at most 9. */
static int decimals(const char *text) {
    const char *point = strchr(text, '.');
    size_t n = point ? strlen(point + 1) : 0;
    return n > 9 ? 9 : (int)n;
}

/* Decimal costs times 10^places, exact: the places first, then the costs.  A
   module's row goes by name, candidate 4's column is "4" or "4.cost". */
static void read_costs(struct maker *k, const gm_table *t, const char *limit,
                       gm_row *row) {
    const gm_scores *s = k->s;
    const long names = gm_table_column(t, "module");
    int64_t unit = 1;
    if (names < 0) gm_fail(GM_EINPUT, "%s: no column \"module\"", t->path);
    row->places = decimals(limit);
    row->cost = gm_alloc(k->arena, (size_t)(s->M * s->K), sizeof *row->cost);
    for (int pass = 0; pass < 2; pass++) {
        for (long i = 0, r = 0; i < s->M * s->K; i++) {
            const char *name = s->name[i / s->K];
            const int bits = s->bits[i % s->K];
            long tries = 0;             /* rows in order are found at once */
            while (tries < t->rows &&
                   strcmp(t->cell[r * t->columns + names], name) != 0)
                r = (r + 1) % t->rows, tries++;
            if (tries == t->rows)
                gm_fail(GM_EINPUT, "%s: module %s is missing", t->path, name);
            if (s->bytes[i] < 0) continue;
            long c = gm_table_column(t, gm_format(k->arena, "%d", bits));
            if (c < 0)
                c = gm_table_column(t, gm_format(k->arena, "%d.cost", bits));
            if (c < 0)
                gm_fail(GM_EINPUT, "%s: no column \"%d\"", t->path, bits);
            const char *cell = t->cell[r * t->columns + c];
            if (pass == 0 && decimals(cell) > row->places)
                row->places = decimals(cell);
            if (pass == 1 && !gm_is_scaled(cell, unit, &row->cost[i]))
                gm_fail(GM_EINPUT, "%s: module %s: expected a cost such as "
                        "0.25, found \"%s\"", t->path, name, cell);
        }
        for (int d = 0; pass == 0 && d < row->places; d++) unit *= 10;
    }
    row->limit = gm_parse_scaled("--resource", limit, unit);
}

/* "FILE:LIMIT,...": module and one column of costs for each number of bits;
   the row is called what "# resource NAME" says, else after the file. */
static void resources(struct maker *k, const char *text) {
    char *rest = copy_of(k, text);
    k->p->row = gm_alloc(k->arena, GM_MAX_ROWS, sizeof *k->p->row);
    for (char *item; (item = strsep(&rest, ","));) {
        char *limit = strrchr(item, ':');
        gm_table table;
        if (!limit)
            gm_fail(GM_EUSAGE, "--resource: expected FILE:LIMIT,..., found "
                    "\"%s\"", item);
        *limit++ = 0;
        if (k->p->rows == GM_MAX_ROWS)
            gm_fail(GM_EUSAGE, "at most %d resources", GM_MAX_ROWS);
        gm_table_read(k->arena, item, &table);
        gm_row *row = &k->p->row[k->p->rows++];
        row->name = gm_table_key(&table, "resource");
        if (!row->name) row->name = gm_base_name(item);
        read_costs(k, &table, limit, row);
    }
}

void gm_problem_constrain(gm_arena *arena, const gm_scores *scores,
                          const gm_constraints *c, gm_mckp *problem) {
    struct maker k = {arena, scores, problem};
    problem->exact = c->exact;
    limit_bits(&k, "--min-bits", c->min_bits, AT_LEAST);
    limit_bits(&k, "--max-bits", c->max_bits, AT_MOST);
    limit_bits(&k, "--pin", c->pin, EXACTLY);
    fuse(&k, c->fuse);
    resources(&k, c->resources);
}
