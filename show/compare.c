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

static double number(const gm_compared *r, int c) {
    return *(double *)place(r, c);
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
            at += snprintf(at, room, "%.*g", column[c].most, number(r, c));
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
                                     g->measure.window_kl, &r->above_error);
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
    char text[32];
    gm_out_open(arena, windows_path(arena, c->dir, r->key), &out);
    gm_out_print(&out, "# format gamma-windows 1\n# method %s\n# budget %s\n"
                 "window\tnll\tkl\ttop1\n", r->method, r->budget);
    for (long w = 0; w < m->windows; w++) {
        gm_out_print(&out, "%ld", w);
        for (int i = 0; i < 3; i++) {
            gm_double_text(x[i][w], text);
            gm_out_print(&out, "\t%s", text);
        }
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

/* The key is a part of a path; sizes and losses are finite, but a perplexity
   may be beyond a double.  Anything else that is no number makes the hash
   differ. */
static void read_row(const gm_table *t, long i, gm_compared *r) {
    for (int c = 0; c < COLUMNS; c++) {
        const char *text = t->cell[i * COLUMNS + c];
        if (column[c].kind == WORD) *(const char **)place(r, c) = text;
        else *(double *)place(r, c) = strtod(text, NULL);
        if (column[c].kind == PAIRED) r->paired = strcmp(text, "-") != 0;
    }
    size_t n = strspn(r->key, "0123456789abcdef");
    if (n == 0 || r->key[n])
        gm_bad(t->path, "line %ld: key: expected hexadecimal digits, found "
               "\"%.160s\"", t->line[i], r->key);
    for (int c = 0; c < COLUMNS; c++)
        if ((column[c].kind == NUMBER || column[c].kind == PAIRED) &&
            !isfinite(number(r, c)))
            gm_bad(t->path, "line %ld: expected finite numbers, found %g",
                   t->line[i], number(r, c));
}

static void read_rows(gm_arena *arena, gm_comparison *c) {
    gm_table t;
    char hash[65];
    gm_table_read(arena, c->path, &t);
    const char *format = gm_table_key(&t, "format");
    if (!format || strcmp(format, format_name) != 0)
        gm_bad(t.path, "format: expected \"%s\", found \"%s\"", format_name,
               format ? format : "none");
    if (t.columns != COLUMNS)
        gm_bad(t.path, "expected the columns of gamma compare, found %ld",
               t.columns);
    for (int i = 0; i < COLUMNS; i++)
        if (strcmp(t.column[i], column[i].name) != 0)
            gm_bad(t.path, "column %d: expected the columns of gamma compare, "
                   "found \"%s\"", i + 1, t.column[i]);
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

/* -------------------------------------------------------------------- the plot

   One series a method, points in order of size; a KL of 0 has no place on a
   logarithmic axis. */

static char letter_of(const char *method) {
    static const struct { const char *method; char letter; } table[] = {
        {"uniform", 'u'}, {"random", 'r'}, {"first-high", 'f'},
        {"last-high", 'l'}, {"greedy", 'y'}, {"gram", 'm'}, {"separable", 's'},
        {"closed-form", 'c'}, {"anneal", 'a'}, {"evolve", 'e'},
        {"evolve-kl", 'k'}, {"gamma", 'G'}, {"refined", 'R'}, {"baq", 'B'}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].method, method) == 0) return table[i].letter;
    return 0;
}

gm_plot gm_comparison_series(gm_arena *arena, const gm_compared *const *rows,
                             long count, gm_convention in) {
    static const char *const label[] = {
        "average code bits", "average effective bits (scales and zeros too)",
        "file size in MB (10^6 bytes)"};
    gm_series *series = gm_alloc(arena, (size_t)count, sizeof *series);
    double *xy = gm_alloc(arena, 2 * (size_t)count, (size_t)count * sizeof *xy);
    gm_plot plot = {"KL divergence from the original, lower is better",
                    {label[in], "mean KL in nats"}, {false, true}, series, 0};
    for (long i = 0; i < count; i++) {
        const gm_compared *r = rows[i];
        const double all[] = {r->code_bits, r->effective_bits, r->bytes / 1e6};
        const double size = all[in], kl = r->measure.kl;
        if (!(kl > 0) || !isfinite(kl) || !isfinite(size)) continue;
        long j = 0;
        while (j < plot.count && strcmp(series[j].name, r->method) != 0) j++;
        double *x = xy + 2 * j * count, *y = x + count;
        if (j == plot.count)
            series[plot.count++] = (gm_series){
                r->method, letter_of(r->method), true, 0, {x, y}};
        long at = series[j].count++;
        for (; at > 0 && x[at - 1] > size; at--) {
            x[at] = x[at - 1];
            y[at] = y[at - 1];
        }
        x[at] = size;
        y[at] = kl;
    }
    return plot;
}

const char *gm_comparison_verdict(gm_arena *arena,
                                  const gm_compared *const *rows, long count) {
    static const char *const side[] = {"gamma is better than",
                                       "gamma is worse than",
                                       "no difference to"};
    const char *text = "";
    for (int v = 0; v < 3; v++) {
        const char *names = "";
        for (long i = 0; i < count; i++) {
            double two = 2 * rows[i]->above_error, above = rows[i]->above;
            int is = above > two ? 0 : above < -two ? 1 : 2;
            if (rows[i]->paired && is == v)
                names = gm_format(arena, "%s %s@%s", names, rows[i]->method,
                                  rows[i]->budget);
        }
        if (*names) text = gm_format(arena, "%s%s%s\n", text, side[v], names);
    }
    return gm_format(arena, "%s(KL, by two standard errors of the paired "
                     "difference)", text);
}
