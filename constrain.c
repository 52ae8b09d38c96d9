/* constrain.c: couplings written as text (fused groups, pins, bounds, limits on
   a number of bits, forbidden pairs, further resources) into an integer
   program.  Reads the resource tables, nothing else.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Where the text stands and what it builds. */
struct maker {
    gm_arena *arena;
    const gm_scores *s;
    gm_mckp *p;
};

/* ---------------------------------------------------------------- patterns */

/* '*' stands for any characters. */
static bool glob(const char *pattern, const char *text) {
    for (; *pattern && *pattern != '*'; pattern++, text++)
        if (*pattern != *text) return false;
    if (!*pattern) return !*text;
    for (;; text++) {
        if (glob(pattern + 1, text)) return true;
        if (!*text) return false;
    }
}

static const char *last_part(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* The whole name, or its part after the last dot. */
static bool matches(const char *pattern, const char *name) {
    return glob(pattern, name) || glob(pattern, last_part(name));
}

/* Cuts *text at the first `stop` (or its end): the part before it, or NULL at
   the end of the text. */
static char *cut(char **text, char stop) {
    char *start = *text;
    if (!start) return NULL;
    char *at = strchr(start, stop);
    *text = at ? at + 1 : NULL;
    if (at) *at = 0;
    return start;
}

_Noreturn static void expect(struct maker *k, const char *option, const char *form,
                        const char *found) {
    gm_fail(GM_EUSAGE, "%s: expected %s, found \"%s\"", option,
                   form, found);
}

_Noreturn static void unknown(struct maker *k, const char *option,
                         const char *pattern) {
    gm_fail(GM_EUSAGE, "%s: no module of %s matches \"%s\"",
                   option, k->s->path, pattern);
}

/* ---------------------------------------------------------- pins and bounds */

enum limit { AT_LEAST, AT_MOST, EXACTLY };

/* What stays as stored is no module: pinning it to the 16 or 32 bits it has
   changes nothing, anything else is refused with that reason. */
static void unmatched(struct maker *k, const char *option,
                           const char *pattern, enum limit kind, long bits) {
    static const char *const kept[] = {"lm_head", "embed_tokens", "norm"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (strstr(pattern, kept[i]) && bits >= 16 && kind != AT_MOST)
            return;
        else if (strstr(pattern, kept[i]))
            gm_fail(GM_EUSAGE, "%s: \"%s\" is none of the "
                           "modules of %s: embeddings, norms and the output "
                           "head stay as stored", option, pattern, k->s->path);
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
static void limit_bits(struct maker *k, const char *option,
                            const char *text, enum limit way) {
    char *rest = text ? gm_format(k->arena, "%s", text) : NULL;
    for (char *item; (item = cut(&rest, ','));) {
        enum limit kind = way;
        const char *pattern, *bits = split_limit(item, &pattern, &kind);
        const long b = gm_parse_long(option, bits, 1, 32);
        long hits = 0;
        for (long m = 0; m < k->s->M; m++) {
            if (!matches(pattern, k->s->name[m])) continue;
            hits++;
            for (int j = 0; j < k->s->K; j++)
                if ((kind != AT_MOST && k->s->bits[j] < b) ||
                    (kind != AT_LEAST && k->s->bits[j] > b))
                    k->p->allowed[m * k->s->K + j] = false;
        }
        if (!hits) unmatched(k, option, pattern, kind, b);
    }
}

/* Marks in list[K] the candidates "2,3". */
static void read_bits(struct maker *k, const char *option, char *bits,
                           bool *list) {
    memset(list, 0, (size_t)k->s->K * sizeof *list);
    for (char *item; (item = cut(&bits, ','));) {
        const long b = gm_parse_long(option, item, 1, 32);
        int j = 0;
        while (j < k->s->K && k->s->bits[j] != b) j++;
        if (j == k->s->K)
            gm_fail(GM_EUSAGE, "%s: there are no candidates of "
                           "%ld bits", option, b);
        list[j] = true;
    }
}

void gm_allow(gm_arena *arena, const gm_scores *scores, const char *text,
                   bool *allowed) {
    gm_mckp p = {.allowed = allowed};
    struct maker k = {arena, scores, &p};
    char *rest = gm_format(arena, "%s", text);
    for (char *item; (item = cut(&rest, ';'));) {
        bool list[GM_MAX_CANDIDATES];
        char *bits = strchr(item, '=');
        long hits = 0;
        if (!bits) expect(&k, "--allow", "PATTERN=BITS,...;...", item);
        *bits++ = 0;
        read_bits(&k, "--allow", bits, list);
        for (long m = 0; m < scores->M; m++) {
            int left = 0;
            if (!matches(item, scores->name[m])) continue;
            hits++;
            for (int j = 0; j < scores->K; j++)
                left += allowed[m * scores->K + j] &= list[j];
            if (!left)
                gm_fail(GM_EUSAGE, "--allow: %s is left without "
                               "a candidate", scores->name[m]);
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
    for (char *item; (item = cut(&set, '+'));) {
        long hits = 0, before = *count;
        for (long m = 0; m < k->s->M; m++) {
            const char *name = k->s->name[m];
            bool is_whole = strcmp(item, name) == 0;
            if (!is_whole && strcmp(item, last_part(name)) != 0) continue;
            if (k->p->group[m] >= 0)
                gm_fail(GM_EUSAGE, "--fuse: module %s appears "
                               "twice", name);
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
    if (!text) return;
    char *rest = gm_format(k->arena, "%s", text);
    k->p->group = gm_alloc(k->arena, (size_t)k->s->M, sizeof *k->p->group);
    for (long m = 0; m < k->s->M; m++) k->p->group[m] = -1;
    long count = 0;
    for (char *set; (set = cut(&rest, ','));)
        fuse_set(k, set, &count);
}

/* ---------------------------------------------------------- forbidden pairs */

/* "NAME=BITS" of one whole module name. */
static void one_choice(struct maker *k, char *text, long *m, int *j) {
    char *bits = strchr(text, '=');
    if (!bits)
        expect(k, "--forbid", "NAME=BITS+NAME=BITS,...", text);
    *bits++ = 0;
    const long b = gm_parse_long("--forbid", bits, 1, 32);
    for (*m = 0; *m < k->s->M && strcmp(k->s->name[*m], text) != 0; ++*m);
    for (*j = 0; *j < k->s->K && k->s->bits[*j] != b; ++*j);
    if (*m == k->s->M) unknown(k, "--forbid", text);
    if (*j < k->s->K) return;
    gm_fail(GM_EUSAGE, "--forbid: %s has no candidates of %ld "
                   "bits", k->s->path, b);
}

static void forbid(struct maker *k, const char *text) {
    if (!text) return;
    char *rest = gm_format(k->arena, "%s", text);
    k->p->pair = gm_alloc(k->arena, (size_t)gm_count_char(text, ',') + 1,
                          sizeof *k->p->pair);
    for (char *item; (item = cut(&rest, ','));) {
        char *second = strchr(item, '+');
        gm_pair *pair = &k->p->pair[k->p->pairs++];
        if (!second)
            expect(k, "--forbid", "NAME=BITS+NAME=BITS,...", item);
        *second++ = 0;
        one_choice(k, item, &pair->m, &pair->j);
        one_choice(k, second, &pair->n, &pair->k);
        if (pair->m == pair->n)
            gm_fail(GM_EUSAGE, "--forbid: a pair needs two "
                           "modules, found %s twice", item);
    }
}

/* --------------------------------------------------------------- extra rows */

static void new_row(struct maker *k, const char *name, gm_row **out) {
    const char *copy = gm_format(k->arena, "%s", name);
    if (k->p->rows == GM_MAX_ROWS)
        gm_fail(GM_EUSAGE, "at most %d resources and limits on "
                       "a number of bits", GM_MAX_ROWS);
    *out = &k->p->row[k->p->rows++];
    (*out)->name = copy;
    (*out)->cost = gm_alloc(k->arena, (size_t)(k->s->M * k->s->K),
                            sizeof *(*out)->cost);
}

/* "16:5,8:20": at most 5 modules at 16 bits, at most 20 at 8. */
static void at_most(struct maker *k, const char *text) {
    char name[32], *rest = text ? gm_format(k->arena, "%s", text) : NULL;
    for (char *item; (item = cut(&rest, ','));) {
        char *count = strchr(item, ':');
        long hits = 0;
        gm_row *row;
        if (!count) expect(k, "--at-most", "BITS:COUNT,...", item);
        *count++ = 0;
        const long b = gm_parse_long("--at-most", item, 1, 32);
        const long n = gm_parse_long("--at-most", count, 0, k->s->M);
        snprintf(name, sizeof name, "modules_at_%ld_bits", b);
        new_row(k, name, &row);
        row->limit = n;
        for (long i = 0; i < k->s->M * k->s->K; i++)
            hits += row->cost[i] = k->s->bits[i % k->s->K] == b;
        if (!hits)
            gm_fail(GM_EUSAGE, "--at-most: %s has no candidates "
                           "of %ld bits", k->s->path, b);
    }
}

/* Digits after the point, at most 9. */
static int decimals(const char *text) {
    const char *point = strchr(text, '.');
    size_t n = point ? strlen(point + 1) : 0;
    return n > 9 ? 9 : (int)n;
}

/* The column of candidate j: "4" or "4.cost". */
static long cost_column(const gm_table *table, int bits) {
    char name[32];
    snprintf(name, sizeof name, "%d", bits);
    long column = gm_table_column(table, name);
    snprintf(name, sizeof name, "%d.cost", bits);
    return column >= 0 ? column : gm_table_column(table, name);
}

/* Row of the table for each module, by name. */
static void find_rows(struct maker *k, const gm_table *table, long *row) {
    long column = gm_table_column(table, "module");
    if (column < 0)
        gm_fail(GM_EINPUT, "%s: no column \"module\"",
                       table->path);
    for (long m = 0, r = -1; m < k->s->M; m++) {
        long tries = 0;
        do r = (r + 1) % (table->rows ? table->rows : 1);   /* in order: fast */
        while (tries++ < table->rows &&
               strcmp(table->cell[r * table->columns + column],
                      k->s->name[m]) != 0);
        if (tries > table->rows)
            gm_fail(GM_EINPUT, "%s: module %s is missing",
                           table->path, k->s->name[m]);
        row[m] = r;
    }
}

/* Decimal costs times 10^places, exact. */
static void read_costs(struct maker *k, const gm_table *table,
                            const long *from, const char *limit, gm_row *row) {
    int places = decimals(limit);
    int64_t unit = 1;
    for (int pass = 0; pass < 2; pass++) {
        for (long i = 0; i < k->s->M * k->s->K; i++) {
            long column = cost_column(table, k->s->bits[i % k->s->K]);
            if (k->s->bytes[i] < 0) continue;
            if (column < 0)
                gm_fail(GM_EINPUT, "%s: no column \"%d\"",
                               table->path, k->s->bits[i % k->s->K]);
            const char *cell =
                table->cell[from[i / k->s->K] * table->columns + column];
            if (pass == 0 && decimals(cell) > places) places = decimals(cell);
            if (pass == 0) continue;
            if (!gm_is_scaled(cell, unit, &row->cost[i]))
                gm_fail(GM_EINPUT, "%s: module %s: expected a cost "
                            "such as 0.25, found \"%s\"", table->path,
                            k->s->name[i / k->s->K], cell);
        }
        for (int d = 0; pass == 0 && d < places; d++) unit *= 10;
    }
    row->places = places;
    row->limit = gm_parse_scaled("--resource", limit, unit);
}

/* "FILE:LIMIT,...": module and one column of costs for each number of bits;
   the row is called what "# resource NAME" says, else after the file. */
static void resources(struct maker *k, const char *text) {
    char *rest = text ? gm_format(k->arena, "%s", text) : NULL;
    for (char *item; (item = cut(&rest, ','));) {
        char *limit = strrchr(item, ':');
        gm_table table;
        gm_row *row;
        if (!limit) expect(k, "--resource", "FILE:LIMIT,...", item);
        *limit++ = 0;
        gm_table_read(k->arena, item, &table);
        long *from = gm_alloc(k->arena, (size_t)k->s->M, sizeof *from);
        const char *name = gm_table_key(&table, "resource");
        if (!name) name = gm_base_name(item);
        find_rows(k, &table, from);
        new_row(k, name, &row);
        read_costs(k, &table, from, limit, row);
    }
}

void gm_problem_constrain(gm_arena *arena, const gm_scores *scores,
                               const gm_constraints *c, gm_mckp *problem) {
    struct maker k = {arena, scores, problem};
    problem->exact = c->exact;
    problem->row = gm_alloc(arena, GM_MAX_ROWS, sizeof *problem->row);
    limit_bits(&k, "--min-bits", c->min_bits, AT_LEAST);
    limit_bits(&k, "--max-bits", c->max_bits, AT_MOST);
    limit_bits(&k, "--pin", c->pin, EXACTLY);
    fuse(&k, c->fuse);
    forbid(&k, c->forbid);
    at_most(&k, c->at_most);
    resources(&k, c->resources);
}
