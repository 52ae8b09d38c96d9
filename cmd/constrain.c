/* constrain.c: couplings written as text (fused groups, pins, bounds, further
   resources) into an integer program.  Reads the resource tables, no more.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>
#include <strings.h>

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

static char *copy_of(gm_arena *arena, const char *text) {
    return text ? gm_format(arena, "%s", text) : NULL;
}

_Noreturn static void unknown(const gm_scores *s, const char *option,
                              const char *pattern) {
    gm_fail(GM_EUSAGE, "%s: no module of %s matches \"%s\"", option, s->path,
            pattern);
}

/* ---------------------------------------------------------- pins and bounds */

/* What stays as stored is no module: pinning it to the 16 or 32 bits it has
   changes nothing, anything else is refused with that reason. */
static void unmatched(const gm_scores *s, const char *option,
                      const char *pattern, long least) {
    static const char *const kept[] = {"lm_head", "embed_tokens", "norm"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        if (!strstr(pattern, kept[i])) continue;
        if (least >= 16) return;
        gm_fail(GM_EUSAGE, "%s: \"%s\" is none of the modules of %s: "
                "embeddings, norms and the output head stay as stored", option,
                pattern, s->path);
    }
    unknown(s, option, pattern);
}

/* Whether candidate k is of b bits, or has the label `text`, in any case. */
static bool is_called(const gm_scores *s, int k, long b, const char *text) {
    return s->bits[k] == b ||
           (s->label[k][0] >= 'a' && strcasecmp(s->label[k], text) == 0);
}

/* BITS as a number; of a label that there is, 0. */
static long parse_bits(const gm_scores *s, const char *option,
                       const char *text) {
    for (int k = 0; k < s->K; k++)
        if (is_called(s, k, 0, text)) return 0;
    if (gm_labelled(s) && (*text < '0' || *text > '9'))
        gm_fail(GM_EUSAGE, "%s: expected bits from 1 to 32 or a label of %s, "
                "found \"%s\"", option, s->path, text);
    return gm_parse_long(option, text, 1, 32);
}

/* "PATTERN=BITS,..."; a bare number means all modules.  relation: '>' at least
   BITS, '<' at most; '=' exactly, or as PATTERN>=BITS, PATTERN<=BITS say; BITS
   may then be a label. */
static void limit_bits(gm_arena *arena, const char *option, const char *text,
                       char relation, gm_mckp *p) {
    const gm_scores *s = p->scores;
    char *rest = copy_of(arena, text);
    for (char *item; (item = strsep(&rest, ","));) {
        char *sign = strchr(item, '='), kind = relation;
        const char *pattern = sign ? item : "*";
        const char *bits = sign ? sign + 1 : item;
        if (sign && sign > item && relation == '=' &&
            (sign[-1] == '<' || sign[-1] == '>'))
            kind = *--sign;
        if (sign) *sign = 0;
        const long b = kind == '=' ? parse_bits(s, option, bits)
                                   : gm_parse_long(option, bits, 1, 32);
        const long least = kind == '<' ? 0 : b, most = kind == '>' ? 32 : b;
        long hits = 0;
        for (long m = 0; m < s->M; m++) {
            if (!matches(pattern, s->name[m])) continue;
            hits++;
            for (int k = 0; k < s->K; k++)
                if (kind == '=' ? !is_called(s, k, b, bits)
                                : s->bits[k] < least || s->bits[k] > most)
                    p->allowed[m * s->K + k] = false;
        }
        if (!hits) unmatched(s, option, pattern, least);
    }
}

void gm_allow(gm_arena *arena, const gm_scores *s, const char *text,
              bool *allowed) {
    char *rest = copy_of(arena, text);
    for (char *item; (item = strsep(&rest, ";"));) {
        bool list[GM_MAX_CANDIDATES] = {false};
        char *bits = strchr(item, '=');
        long hits = 0;
        if (!bits)
            gm_fail(GM_EUSAGE, "--allow: expected PATTERN=BITS,...;..., found "
                    "\"%s\"", item);
        *bits++ = 0;
        for (char *one; (one = strsep(&bits, ","));) {
            const long b = parse_bits(s, "--allow", one);
            int found = 0;
            for (int j = 0; j < s->K; j++)
                if (is_called(s, j, b, one)) list[j] = true, found++;
            if (!found)
                gm_fail(GM_EUSAGE, "--allow: there are no candidates of %ld "
                        "bits", b);
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
        if (!hits) unknown(s, "--allow", item);
    }
}

/* ------------------------------------------------------------- fused groups */

/* The nearest module with m's path up to the last dot (q_proj and k_proj of one
   block) in a group numbered `first` or later: its group. */
static long sibling_group(const gm_mckp *p, long m, long first) {
    const char *const *name = p->scores->name;
    const size_t length = (size_t)(last_part(name[m]) - name[m]);
    for (long d = 1; d < p->M; d++)
        for (long n = m - d; n <= m + d; n += 2 * d)
            if (n >= 0 && n < p->M && p->group[n] >= first &&
                (size_t)(last_part(name[n]) - name[n]) == length &&
                memcmp(name[n], name[m], length) == 0)
                return p->group[n];
    return -1;
}

/* One set "a+b+c": parts of names fuse siblings, whole names each other. */
static void fuse_set(gm_mckp *p, char *set, long *count) {
    long first = *count, whole = -1;
    for (char *item; (item = strsep(&set, "+"));) {
        long hits = 0, before = *count;
        for (long m = 0; m < p->M; m++) {
            const char *name = p->scores->name[m];
            bool is_whole = strcmp(item, name) == 0;
            if (!is_whole && strcmp(item, last_part(name)) != 0) continue;
            if (p->group[m] >= 0)
                gm_fail(GM_EUSAGE, "--fuse: module %s appears twice", name);
            long group = is_whole ? whole :
                         before > first ? sibling_group(p, m, first) : -1;
            if (group < 0) group = (*count)++;
            if (is_whole) whole = group;
            p->group[m] = group;
            hits++;
        }
        if (!hits) unknown(p->scores, "--fuse", item);
    }
}

/* "q_proj+k_proj+v_proj,gate_proj+up_proj" */
static void fuse(gm_arena *arena, const char *text, gm_mckp *p) {
    long count = 0;
    char *rest = copy_of(arena, text);
    if (!text) return;
    p->group = gm_alloc(arena, (size_t)p->M, sizeof *p->group);
    for (long m = 0; m < p->M; m++) p->group[m] = -1;
    for (char *set; (set = strsep(&rest, ","));) fuse_set(p, set, &count);
}

/* --------------------------------------------------------------- resources */

/* Digits after the point, at most 9: more would not fit and not be exact. */
static int decimals(const char *path, const char *text) {
    const char *point = strchr(text, '.');
    const size_t n = point ? strlen(point + 1) : 0;
    if (n > 9)
        gm_bad(path, "expected at most 9 digits after the point, found \"%s\"",
               text);
    return (int)n;
}

/* The column of costs of a candidate: "4" or "4.cost". */
static long cost_column(const gm_table *t, const char *label) {
    char name[GM_LABEL + 5];
    snprintf(name, sizeof name, "%s.cost", label);
    long c = gm_table_column(t, name);
    name[strlen(name) - 5] = 0;
    if (c < 0) c = gm_table_column(t, name);
    if (c < 0) gm_bad(t->path, "no column \"%s\"", name);
    return c;
}

/* Decimal costs times 10^places, exact; rows go by their names. */
static void read_costs(gm_arena *arena, const gm_table *t, const char *limit,
                       const gm_scores *s, gm_row *row) {
    const size_t cells = (size_t)(s->M * s->K);
    const char **text = gm_alloc(arena, cells, sizeof *text);
    const char **name = gm_table_modules(arena, t);
    int64_t unit = 1;
    const gm_named *sorted = gm_names_sort(arena, NULL, name, t->rows);
    row->places = decimals("--resource", limit);
    row->cost = gm_alloc(arena, cells, sizeof *row->cost);
    for (size_t i = 0; i < cells; i++) {
        const char *module = s->name[i / (size_t)s->K];
        const long r = gm_names_find(sorted, t->rows, module);
        if (s->bytes[i] < 0) continue;
        if (r < 0) gm_bad(t->path, "module %s is missing", module);
        text[i] = t->cell[r * t->columns +
                          cost_column(t, s->label[i % (size_t)s->K])];
        if (!gm_is_scaled(text[i], strlen(text[i]), 1, &row->cost[i]))
            gm_bad(t->path, "line %ld: module %s: expected a cost such as "
                   "0.25, found \"%s\"", t->line[r], module, text[i]);
        const int places = decimals(t->path, text[i]);
        if (places > row->places) row->places = places;
    }
    for (int d = 0; d < row->places; d++) unit *= 10;
    for (size_t i = 0; i < cells; i++)
        if (text[i]) row->cost[i] = gm_parse_scaled(t->path, text[i], unit);
    row->limit = gm_parse_scaled("--resource", limit, unit);
}

/* "FILE:LIMIT,...": module and one column of costs for each number of bits;
   the row is called what "# resource NAME" says, else after the file. */
static void resources(gm_arena *arena, const char *text, gm_mckp *p) {
    char *rest = copy_of(arena, text);
    p->row = gm_alloc(arena, GM_MAX_ROWS, sizeof *p->row);
    for (char *item; (item = strsep(&rest, ","));) {
        char *limit = strrchr(item, ':');
        gm_table table;
        if (!limit)
            gm_fail(GM_EUSAGE, "--resource: expected FILE:LIMIT,..., found "
                    "\"%s\"", item);
        *limit++ = 0;
        if (p->rows == GM_MAX_ROWS)
            gm_fail(GM_EUSAGE, "at most %d resources", GM_MAX_ROWS);
        gm_table_read(arena, item, &table);
        gm_row *row = &p->row[p->rows++];
        row->name = gm_table_key(&table, "resource");
        if (!row->name) row->name = gm_base_name(item);
        if (!*row->name || strpbrk(row->name, " \t"))
            gm_bad(item, "resource: expected a name without spaces, which "
                   "stands in keys, found \"%s\"", row->name);
        read_costs(arena, &table, limit, p->scores, row);
    }
    for (long r = 1; r < p->rows; r++)
        for (long q = 0; q < r; q++)
            if (strcmp(p->row[q].name, p->row[r].name) == 0)
                gm_fail(GM_EUSAGE, "--resource: two are named \"%s\"",
                        p->row[r].name);
}

void gm_problem_constrain(gm_arena *arena, const gm_constraints *c,
                          gm_mckp *problem) {
    problem->exact = c->exact;
    limit_bits(arena, "--min-bits", c->min_bits, '>', problem);
    limit_bits(arena, "--max-bits", c->max_bits, '<', problem);
    limit_bits(arena, "--pin", c->pin, '=', problem);
    fuse(arena, c->fuse, problem);
    resources(arena, c->resources, problem);
}
