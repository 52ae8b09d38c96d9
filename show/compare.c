/* compare.c: the table of `gamma compare`: rows keyed by what determines them,
   kept in DIR/compare.tsv with each row's window means beside it, so that an
   interrupted comparison goes on; paired differences; the plot's series.
   Touches only those files.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "show.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char format_name[] = "gamma-compare 1";

/* ------------------------------------------------------------ rows as text

   WORD: a text, at most so many characters of it; NUMBER: a double with so many
   digits; PAIRED: one that is "-" in rows without their gamma; LOOSE: one that
   may be infinite.  From `seconds` on they are no part of the result.  All
   results are below GM_ROW_TEXT together. */
typedef enum { WORD, NUMBER, PAIRED, LOOSE } kind;

static const struct { const char *name; kind kind; int most; size_t at; }
column[] = {
    {"method", WORD, 40, offsetof(gm_compared, method)},
    {"quantizer", WORD, 20, offsetof(gm_compared, quantizer)},
    {"budget", WORD, 40, offsetof(gm_compared, budget)},
    {"convention", WORD, 8, offsetof(gm_compared, convention)},
    {"code_bits", NUMBER, 8, offsetof(gm_compared, code_bits)},
    {"effective_bits", NUMBER, 8, offsetof(gm_compared, effective_bits)},
    {"file_bytes", NUMBER, 17, offsetof(gm_compared, bytes)},
    {"perplexity", LOOSE, 8, offsetof(gm_compared, measure.perplexity)},
    {"nll", NUMBER, 8, offsetof(gm_compared, measure.nll)},
    {"nll_error", NUMBER, 8, offsetof(gm_compared, measure.nll_error)},
    {"kl", NUMBER, 8, offsetof(gm_compared, measure.kl)},
    {"kl_error", NUMBER, 8, offsetof(gm_compared, measure.kl_error)},
    {"top1", NUMBER, 8, offsetof(gm_compared, measure.top1)},
    {"top1_error", NUMBER, 8, offsetof(gm_compared, measure.top1_error)},
    {"kl_above_gamma", PAIRED, 8, offsetof(gm_compared, above)},
    {"kl_above_gamma_error", PAIRED, 8, offsetof(gm_compared, above_error)},
    {"evaluations", NUMBER, 8, offsetof(gm_compared, evaluations)},
    {"seconds", NUMBER, 0, offsetof(gm_compared, seconds)},
    {"run", WORD, 0, offsetof(gm_compared, run)},
    {"key", WORD, 0, offsetof(gm_compared, key)}};
enum { COLUMNS = sizeof column / sizeof *column, RESULTS = COLUMNS - 3 };

/* A double, or of a WORD a pointer. */
static void *place(const gm_compared *r, int c) {
    return (char *)(uintptr_t)r + column[c].at;
}

void gm_compared_text(const gm_compared *r, char text[GM_ROW_TEXT]) {
    char *at = text;
    for (int c = 0; c < RESULTS; c++) {
        if (c) *at++ = '\t';
        size_t room = (size_t)(text + GM_ROW_TEXT - at);
        if (!r)
            at += snprintf(at, room, "%s", column[c].name);
        else if (column[c].kind == WORD)
            at += snprintf(at, room, "%.*s", column[c].most,
                           *(const char **)place(r, c));
        else if (column[c].kind == PAIRED && !r->paired)
            at += snprintf(at, room, "-");
        else
            at += snprintf(at, room, "%.*g", column[c].most,
                           *(double *)place(r, c));
    }
}

/* All but the seconds, which are the clock's. */
static void rows_hash(const gm_comparison *c, char hex[65]) {
    char text[GM_ROW_TEXT];
    gm_sha sha;
    gm_sha_begin(&sha);
    for (long i = 0; i < c->count; i++) {
        gm_compared_text(&c->row[i], text);
        gm_sha_add(&sha, text, strlen(text) + 1);
        gm_sha_add(&sha, c->row[i].run, strlen(c->row[i].run) + 1);
        gm_sha_add(&sha, c->row[i].key, strlen(c->row[i].key) + 1);
    }
    gm_sha_end(&sha, hex);
}

/* ---------------------------------------------------------- paired differences

   The same windows under two models: d_w = KL_w - KL_w(gamma); the mean of d
   and its standard error, sqrt(sum (d_w - mean)^2 / (n - 1) / n), in which what
   the windows have in common cancels. */

static bool is_gamma(const gm_compared *r) {
    return strcmp(r->method, "gamma") == 0;
}

/* Each row with the last one of gamma at the same budget in the same run. */
static void pair_rows(gm_comparison *c) {
    for (gm_compared *r = c->row; r < c->row + c->count; r++) {
        const long n = r->measure.windows;
        r->paired = false;
        for (const gm_compared *g = c->row; g < c->row + c->count; g++) {
            if (!is_gamma(g) || is_gamma(r) || strcmp(g->run, r->run) != 0 ||
                strcmp(g->budget, r->budget) != 0 ||
                strcmp(g->convention, r->convention) != 0 ||
                g->measure.windows != n)
                continue;
            r->paired = true;
            r->above = gm_mean_error(n, r->measure.window_kl,
                                     g->measure.window_kl, NULL,
                                     &r->above_error);
        }
    }
}

/* ------------------------------------------------------------------ windows */

static char *windows_path(gm_arena *arena, const char *dir, const char *key) {
    return gm_format(arena, "%s/windows-%s.tsv", dir, key);
}

static void write_windows(gm_arena *arena, const gm_comparison *c,
                          const gm_compared *r) {
    const gm_measure *m = &r->measure;
    const double *const x[] = {m->window_nll, m->window_kl, m->window_top1};
    gm_out out;
    gm_out_open(arena, windows_path(arena, c->dir, r->key), &out);
    gm_out_print(&out, "# format gamma-windows 1\n# method %s\n# budget %s\n"
                 "window\tnll\tkl\ttop1\n", r->method, r->budget);
    for (long w = 0; w < m->windows; w++) {
        gm_out_print(&out, "%ld", w);
        for (int i = 0; i < 3; i++)
            gm_out_print(&out, "\t%s", gm_double_text(x[i][w]).text);
        gm_out_print(&out, "\n");
    }
    gm_out_commit(&out);
}

/* The KL of each window; their mean must be the row's, to its digits. */
static void read_windows(gm_arena *arena, const gm_comparison *c,
                         gm_compared *r) {
    gm_table t;
    gm_measure *m = &r->measure;
    const char *path = windows_path(arena, c->dir, r->key);
    gm_table_read(arena, path, &t);
    long kl = gm_table_column(&t, "kl");
    m->windows = kl < 0 ? 0 : t.rows;
    m->window_kl = gm_alloc(arena, (size_t)m->windows, sizeof *m->window_kl);
    double mean = 0;
    for (long w = 0; w < m->windows; w++) {
        m->window_kl[w] = strtod(t.cell[w * t.columns + kl], NULL);
        mean += m->window_kl[w] / (double)m->windows;
    }
    const char *stated = gm_format(arena, "%.8g", m->kl);
    const char *found = gm_format(arena, "%.8g", mean);
    if (strcmp(stated, found) != 0)
        gm_bad(path, "expected windows of mean KL %s, as %s has it for %s %s; "
               "found %ld of mean %s", stated, c->path, r->method, r->budget,
               m->windows, found);
}

/* ----------------------------------------------------------------- the file */

static void write_rows(gm_arena *arena, const gm_comparison *c) {
    gm_out out;
    char text[GM_ROW_TEXT], hash[65];
    rows_hash(c, hash);
    gm_compared_text(NULL, text);
    gm_out_open(arena, c->path, &out);
    gm_out_print(&out, "# format %s\n# version %s\n# rows %ld\n# hash "
                 "%s\n%s\tseconds\trun\tkey\n", format_name, GM_VERSION,
                 c->count, hash, text);
    for (long i = 0; i < c->count; i++) {
        gm_compared_text(&c->row[i], text);
        gm_out_print(&out, "%s\t%.1f\t%s\t%s\n", text, c->row[i].seconds,
                     c->row[i].run, c->row[i].key);
    }
    gm_out_commit(&out);
}

/* Sizes and losses are finite, but a perplexity may be beyond a double; the key
   is a part of a path. */
static void read_row(const gm_table *t, long i, gm_compared *r) {
    for (int c = 0; c < t->columns; c++) {
        const char *text = t->cell[i * t->columns + c];
        char *end;
        const double x = strtod(text, &end);
        if (column[c].kind == PAIRED) r->paired = strcmp(text, "-") != 0;
        if (column[c].kind == WORD) *(const char **)place(r, c) = text;
        else *(double *)place(r, c) = x;
        if (column[c].kind == WORD || (column[c].kind == PAIRED && !r->paired))
            continue;
        if (end == text || *end || isnan(x) ||
            (isinf(x) && column[c].kind != LOOSE))
            gm_bad(t->path, "line %ld: column %s: expected a finite number, "
                   "found \"%.160s\"", t->line[i], column[c].name, text);
    }
    size_t n = r->key ? strspn(r->key, "0123456789abcdef") : 0;
    if (r->key && (n == 0 || r->key[n]))
        gm_bad(t->path, "line %ld: key: expected hexadecimal digits, found "
               "\"%.160s\"", t->line[i], r->key);
}

/* A table of this format and the first `columns` of ours. */
static void read_table(gm_arena *arena, const char *path, const char *expected,
                       int columns, gm_table *t) {
    gm_table_read(arena, path, t);
    const char *format = gm_table_key(t, "format");
    if (!format || strcmp(format, expected) != 0)
        gm_bad(t->path, "format: expected \"%s\", found \"%s\"", expected,
               format ? format : "none");
    if (t->columns != columns)
        gm_bad(t->path, "expected the columns of gamma compare, found %ld",
               t->columns);
    for (int i = 0; i < columns; i++)
        if (strcmp(t->column[i], column[i].name) != 0)
            gm_bad(t->path, "column %d: expected the columns of gamma compare, "
                   "found \"%s\"", i + 1, t->column[i]);
}

static void read_rows(gm_arena *arena, gm_comparison *c) {
    gm_table t;
    char hash[65];
    read_table(arena, c->path, format_name, COLUMNS, &t);
    c->count = t.rows;
    c->room = (size_t)t.rows;
    c->row = gm_alloc(arena, c->room, sizeof *c->row);
    for (long i = 0; i < t.rows; i++) read_row(&t, i, &c->row[i]);
    rows_hash(c, hash);
    const char *stated = gm_table_key(&t, "hash");
    if (!stated || strcmp(stated, hash) != 0)
        gm_bad(c->path, "damaged or edited: expected rows of hash %s, found "
               "%s; move it away to measure anew", stated ? stated : "none",
               hash);
    for (long i = 0; i < c->count; i++) read_windows(arena, c, &c->row[i]);
}

gm_comparison gm_comparison_open(gm_arena *arena, const char *dir) {
    gm_comparison c = {.dir = dir};
    c.path = gm_format(arena, "%s/compare.tsv", dir);
    if (gm_exists(c.path)) read_rows(arena, &c);
    return c;
}

const gm_compared *gm_comparison_find(const gm_comparison *c,
                                      const char *key) {
    for (long i = 0; i < c->count; i++)
        if (strcmp(c->row[i].key, key) == 0) return &c->row[i];
    return NULL;
}

/* The windows are there before the row that needs them. */
void gm_comparison_add(gm_arena *arena, gm_comparison *c,
                       const gm_compared *row) {
    c->row = gm_grow(arena, c->row, (size_t)c->count, &c->room,
                     sizeof *c->row);
    gm_make_dir(c->dir);
    write_windows(arena, c, row);
    c->row[c->count++] = *row;
    pair_rows(c);
    write_rows(arena, c);
}

/* ---------------------------------------------------------------- table.tsv */

static const char table_format[] = "gamma-table 1";

void gm_compared_write(gm_arena *arena, const char *path, const gm_keys *keys,
                       gm_compared *row, long count) {
    gm_comparison c = {.row = row, .count = count};
    char text[GM_ROW_TEXT];
    gm_out out;
    pair_rows(&c);
    gm_out_open(arena, path, &out);
    gm_out_print(&out, "# format %s\n# version %s\n", table_format, GM_VERSION);
    for (size_t i = 0; i < keys->count; i++)
        gm_out_print(&out, "# %s %s\n", keys->key[i].name, keys->key[i].value);
    gm_compared_text(NULL, text);
    for (long i = -1; i < count; i++) {
        if (i >= 0) gm_compared_text(&row[i], text);
        gm_out_print(&out, "%s\n", text);
    }
    gm_out_commit(&out);
}

gm_compared *gm_compared_read(gm_arena *arena, const char *path,
                              gm_table *t) {
    read_table(arena, path, table_format, RESULTS, t);
    if (t->rows > GM_MAX_ROWS_COMPARED)
        gm_bad(path, "expected at most %d rows, found %ld",
               GM_MAX_ROWS_COMPARED, t->rows);
    gm_compared *row = gm_alloc(arena, (size_t)t->rows, sizeof *row);
    for (long i = 0; i < t->rows; i++) read_row(t, i, row + i);
    return row;
}

void gm_compared_sizes(gm_compared *row, const gm_scores *s,
                       const int *choice) {
    const gm_sizes z = gm_sizes_of(s, choice);
    row->code_bits = (double)z.code_bits / (double)s->N;
    row->effective_bits = (double)z.effective_bits / (double)s->N;
    row->bytes = (double)z.file_bytes;
}

/* -------------------------------------------------------------------- the plot

   One series a method, points in order of size; a KL of 0 has no place on a
   logarithmic axis. */

static char letter_of(const char *method) {
    static const struct { const char *method; char letter; } table[] = {
        {"uniform", 'u'}, {"mix", 'x'}, {"random", 'r'}, {"first-high", 'f'},
        {"last-high", 'l'}, {"greedy", 'y'}, {"gram", 'm'}, {"separable", 's'},
        {"closed-form", 'c'}, {"anneal", 'a'}, {"evolve", 'e'},
        {"evolve-kl", 'k'}, {"gamma", 'G'}, {"refined", 'R'}, {"baq", 'B'}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].method, method) == 0) return table[i].letter;
    return 0;
}

static bool same_points(const gm_series *a, const gm_series *b) {
    const size_t bytes = (size_t)a->count * sizeof **a->at;
    return a->count == b->count && memcmp(a->at[0], b->at[0], bytes) == 0 &&
           memcmp(a->at[1], b->at[1], bytes) == 0;
}

/* Series of the same points become one, with the names of all. */
static void merge(gm_arena *arena, gm_series *s, long *count) {
    long kept = 0;
    for (long i = 0; i < *count; i++) {
        long j = 0;
        while (j < kept && !same_points(s + j, s + i)) j++;
        if (j == kept) {
            s[kept++] = s[i];
            continue;
        }
        const bool better = s[i].line > s[j].line;      /* GM_STRONG first */
        s[j].name = gm_format(arena, "%s\n= %s", s[better ? i : j].name,
                              s[better ? j : i].name);
        if (better) s[j].line = s[i].line;
    }
    *count = kept;
}

/* Those of largest mean ln KL go, until `most` are left; their names. */
static const char *thin(gm_arena *arena, gm_series *s, long *count, long most) {
    const char *left = "";
    for (long at = 0; at >= 0 && *count > most;) {
        double highest = -HUGE_VAL;
        at = -1;
        for (long i = 0; i < *count; i++) {
            double mean = 0;
            for (long j = 0; j < s[i].count; j++)
                mean += gm_logd(s[i].at[1][j]) / (double)s[i].count;
            if (s[i].line == GM_STRONG || s[i].letter == 'u' ||
                s[i].letter == 'x' || mean <= highest)
                continue;
            highest = mean, at = i;
        }
        if (at < 0) continue;
        left = gm_format(arena, "%s%s%s", left, *left ? ", " : "", s[at].name);
        memmove(s + at, s + at + 1, (size_t)(--*count - at) * sizeof *s);
    }
    return left;
}

gm_plot gm_comparison_series(gm_arena *arena, const gm_compared *row,
                             long count, gm_convention in, long most,
                             const char **left) {
    static const char *const label[] = {
        "average code bits", "average effective bits (scales and zeros too)",
        "file size in MB (10^6 bytes)"};
    gm_series *series = gm_alloc(arena, (size_t)count, sizeof *series);
    double *xy = gm_alloc(arena, 3 * (size_t)count, (size_t)count * sizeof *xy);
    gm_plot plot = {"KL divergence from the original, lower is better",
                    {label[in], "mean KL in nats", NULL}, {false, true}, series,
                    0};
    for (const gm_compared *r = row; r < row + count; r++) {
        const double all[] = {r->code_bits, r->effective_bits, r->bytes / 1e6};
        const double size = all[in], kl = r->measure.kl;
        if (!(kl > 0) || !isfinite(kl) || !isfinite(size)) continue;
        long j = 0;
        while (j < plot.count && strcmp(series[j].name, r->method) != 0) j++;
        double *x = xy + 3 * j * count, *y = x + count, *error = y + count;
        const char letter = letter_of(r->method);
        const bool apart = letter == 'u' || letter == 'x';
        if (j == plot.count)    /* no uniform lies between two, nor its mix */
            series[plot.count++] = (gm_series){
                r->method, letter, apart ? GM_POINTS : letter == 'G' ? GM_STRONG
                : GM_LINE, 0, {x, y, error}};
        long at = series[j].count++;
        for (; at > 0 && x[at - 1] > size; at--) {
            x[at] = x[at - 1];
            y[at] = y[at - 1];
            error[at] = error[at - 1];
        }
        x[at] = size;
        y[at] = kl;
        error[at] = r->measure.kl_error;
    }
    if (most) merge(arena, series, &plot.count);
    const char *out = most ? thin(arena, series, &plot.count, most) : "";
    if (left) *left = out;
    return plot;
}

const char *gm_comparison_verdict(gm_arena *arena, const gm_compared *row,
                                  long count) {
    static const char *const side[] = {"gamma is better than",
                                       "gamma is worse than",
                                       "no difference to"};
    const char *text = "";
    for (int v = 0; v < 3; v++) {
        const char *names = "";
        for (const gm_compared *r = row; r < row + count; r++) {
            const double two = 2 * r->above_error;
            const int is = r->above > two ? 0 : r->above < -two ? 1 : 2;
            if (r->paired && is == v)
                names = gm_format(arena, "%s %s@%s", names, r->method,
                                  r->budget);
        }
        if (*names) text = gm_format(arena, "%s%s%s\n", text, side[v], names);
    }
    return gm_format(arena, "%s(KL, by two standard errors of the paired "
                     "difference)", text);
}
