/* compare.c: the table of `gamma compare`: rows keyed by what determines them,
   kept in DIR/compare.tsv with each row's window means beside it, so that an
   interrupted comparison goes on; paired differences; the plot's series.
   Touches only those files.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "show.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char format_name[] = "gamma-compare 1";
static const char windows_format[] = "gamma-windows 1";

const char gm_comparison_columns[] =
    "method\tquantizer\tbudget\tconvention\tcode_bits\teffective_bits\t"
    "file_bytes\tperplexity\tnll\tnll_error\tkl\tkl_error\ttop1\ttop1_error\t"
    "kl_above_gamma\tkl_above_gamma_error\tevaluations";

/* ------------------------------------------------------------- rows as text */

void gm_compared_text(const gm_compared *r, char text[GM_ROW_TEXT]) {
    char above[64] = "-\t-";
    if (r->paired)
        snprintf(above, sizeof above, "%.8g\t%.8g", r->above, r->above_error);
    snprintf(text, GM_ROW_TEXT, "%.40s\t%.20s\t%.40s\t%.8s\t%.8g\t%.8g\t%"
             PRId64 "\t%.8g\t%.8g\t%.8g\t%.8g\t%.8g\t%.8g\t%.8g\t%s\t%.8g",
             r->method, r->quantizer, r->budget, r->convention, r->code_bits,
             r->effective_bits, r->bytes, r->perplexity, r->nll, r->nll_error,
             r->kl, r->kl_error, r->top1, r->top1_error, above,
             r->evaluations);
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
static void pair_with(gm_compared *r, const gm_compared *gamma) {
    r->paired = true;
    r->above = gm_mean_error(r->windows, r->window_kl, gamma->window_kl,
                             &r->above_error);
}

static bool is_gamma(const gm_compared *r) {
    return strcmp(r->method, gm_method_name(GM_LEARNED)) == 0;
}

/* Each row with the last one of gamma at the same budget in the same run. */
static void pair_rows(gm_comparison *c) {
    for (long i = 0; i < c->count; i++) {
        gm_compared *r = &c->row[i];
        r->paired = false;
        for (long j = c->count - 1; j >= 0 && !is_gamma(r); j--) {
            const gm_compared *g = &c->row[j];
            if (!is_gamma(g) || strcmp(g->run, r->run) != 0 ||
                strcmp(g->budget, r->budget) != 0 ||
                strcmp(g->convention, r->convention) != 0 ||
                g->windows != r->windows)
                continue;
            pair_with(r, g);
            break;
        }
    }
}

/* ------------------------------------------------------------------ windows */

static char *windows_path(gm_arena *arena, const char *dir, const char *key) {
    return gm_format(arena, "%s/windows-%s.tsv", dir, key);
}

static void write_windows(gm_arena *arena, const gm_comparison *c,
                               const gm_compared *r, const gm_measure *m) {
    gm_out out;
    char nll[32], kl[32], top1[32];
    const char *path = windows_path(arena, c->dir, r->key);
    gm_out_open(arena, path, &out);
    gm_out_print(&out, "# format %s\n# method %s\n# budget %s\n"
                 "window\tnll\tkl\ttop1\n", windows_format, r->method,
                 r->budget);
    for (long w = 0; w < m->windows; w++) {
        gm_double_text(m->window_nll[w], nll);
        gm_double_text(m->window_kl[w], kl);
        gm_double_text(m->window_top1[w], top1);
        gm_out_print(&out, "%ld\t%s\t%s\t%s\n", w, nll, kl, top1);
    }
    gm_out_commit(&out);
}

/* The KL of each window; their mean must be the row's, to its digits. */
static void read_windows(gm_arena *arena, const gm_comparison *c,
                              gm_compared *r) {
    gm_table t;
    const char *path = windows_path(arena, c->dir, r->key);
    gm_table_read(arena, path, &t);
    long column = gm_table_column(&t, "kl");
    r->windows = column < 0 ? 0 : t.rows;
    r->window_kl = gm_alloc(arena, (size_t)r->windows, sizeof *r->window_kl);
    double mean = 0;
    for (long w = 0; w < r->windows; w++) {
        r->window_kl[w] = strtod(t.cell[w * t.columns + column], NULL);
        mean += r->window_kl[w] / (double)r->windows;
    }
    char stated[32], found[32];
    snprintf(stated, sizeof stated, "%.8g", r->kl);
    snprintf(found, sizeof found, "%.8g", mean);
    if (strcmp(stated, found) == 0) return;
    gm_fail(GM_EINPUT, "%s: expected windows of mean KL %s, as %s "
                   "has it for %s %s; found %ld of mean %s", path, stated,
                   c->path, r->method, r->budget, r->windows, found);
}

/* ----------------------------------------------------------------- the file */

static void write_rows(gm_arena *arena, const gm_comparison *c) {
    gm_out out;
    char text[GM_ROW_TEXT], hash[65];
    rows_hash(c, hash);
    gm_out_open(arena, c->path, &out);
    gm_out_print(&out, "# format %s\n# version %s\n# rows %ld\n# hash "
                 "%s\n%s\tseconds\trun\tkey\n", format_name, GM_VERSION,
                 c->count, hash, gm_comparison_columns);
    for (long i = 0; i < c->count; i++) {
        gm_compared_text(&c->row[i], text);
        gm_out_print(&out, "%s\t%.1f\t%s\t%s\n", text, c->row[i].seconds,
                     c->row[i].run, c->row[i].key);
    }
    gm_out_commit(&out);
}

static double number(const gm_table *t, long row, const char *name) {
    return strtod(t->cell[row * t->columns + gm_table_column(t, name)], NULL);
}

static const char *word(const gm_table *t, long row, const char *name) {
    return t->cell[row * t->columns + gm_table_column(t, name)];
}

/* Anything that is no number here makes the hash differ. */
static gm_compared row_of(const gm_table *t, long i) {
    return (gm_compared){
        .method = word(t, i, "method"), .quantizer = word(t, i, "quantizer"),
        .budget = word(t, i, "budget"), .convention = word(t, i, "convention"),
        .run = word(t, i, "run"), .key = word(t, i, "key"),
        .code_bits = number(t, i, "code_bits"),
        .effective_bits = number(t, i, "effective_bits"),
        .bytes = strtoll(word(t, i, "file_bytes"), NULL, 10),
        .perplexity = number(t, i, "perplexity"), .nll = number(t, i, "nll"),
        .nll_error = number(t, i, "nll_error"), .kl = number(t, i, "kl"),
        .kl_error = number(t, i, "kl_error"), .top1 = number(t, i, "top1"),
        .top1_error = number(t, i, "top1_error"),
        .paired = strcmp(word(t, i, "kl_above_gamma"), "-") != 0,
        .above = number(t, i, "kl_above_gamma"),
        .above_error = number(t, i, "kl_above_gamma_error"),
        .evaluations = number(t, i, "evaluations"),
        .seconds = number(t, i, "seconds")};
}

/* The columns must be ours, the rows as they were written. */
static void check_table(const gm_table *t) {
    const char *found = gm_table_key(t, "format");
    if (!found || strcmp(found, format_name) != 0)
        gm_fail(GM_EINPUT, "%s: format: expected \"%s\", found "
                       "\"%s\"", t->path, format_name, found ? found : "none");
    const char *at = gm_comparison_columns;
    for (long c = 0; c < t->columns; c++) {
        size_t n = strcspn(at, "\t");
        const char *last[] = {"seconds", "run", "key"};
        long behind = c - (t->columns - 3);
        bool same = behind >= 0 ? strcmp(t->column[c], last[behind]) == 0
                  : strlen(t->column[c]) == n && strncmp(t->column[c], at, n)
                    == 0;
        if (!same || (behind == 0 && *at))
            gm_fail(GM_EINPUT, "%s: column %ld: expected the "
                           "columns of gamma compare, found \"%s\"", t->path,
                           c + 1, t->column[c]);
        if (behind < 0) at += n + (at[n] == '\t');
    }
    if (t->columns < 3 || *at)
        gm_fail(GM_EINPUT, "%s: expected the columns of gamma "
                       "compare, found %ld", t->path, t->columns);
}

/* The key is a part of a path; sizes and losses are finite, but a perplexity
   may be beyond a double. */
static void check_row(const gm_table *t, long i, const gm_compared *r) {
    const double x[] = {r->code_bits, r->effective_bits, r->nll, r->nll_error,
                        r->kl, r->kl_error, r->top1, r->top1_error, r->above,
                        r->above_error, r->evaluations, r->seconds};
    size_t n = strspn(r->key, "0123456789abcdef");
    if (n == 0 || r->key[n])
        gm_fail(GM_EINPUT, "%s: line %ld: key: expected "
                       "hexadecimal digits, found \"%.160s\"", t->path,
                       t->line[i], r->key);
    for (size_t j = 0; j < sizeof x / sizeof *x; j++)
        if (!isfinite(x[j]))
            gm_fail(GM_EINPUT, "%s: line %ld: expected finite "
                           "numbers, found %g", t->path, t->line[i], x[j]);
}

static void read_rows(gm_arena *arena, gm_comparison *c) {
    gm_table t;
    char hash[65];
    gm_table_read(arena, c->path, &t);
    check_table(&t);
    c->count = c->room = t.rows;
    c->row = gm_alloc(arena, (size_t)t.rows, sizeof *c->row);
    for (long i = 0; i < t.rows; i++) c->row[i] = row_of(&t, i);
    for (long i = 0; i < t.rows; i++)
        check_row(&t, i, &c->row[i]);
    rows_hash(c, hash);
    const char *stated = gm_table_key(&t, "hash");
    if (!stated || strcmp(stated, hash) != 0)
        gm_fail(GM_EINPUT, "%s: damaged or edited: expected rows "
                       "of hash %s, found %s; move it away to measure anew",
                       c->path, stated ? stated : "none", hash);
    for (long i = 0; i < c->count; i++)
        read_windows(arena, c, &c->row[i]);
}

void gm_comparison_open(gm_arena *arena, const char *dir,
                             gm_comparison *out) {
    *out = (gm_comparison){.dir = dir};
    out->path = gm_format(arena, "%s/compare.tsv", dir);
    if (gm_exists(out->path)) read_rows(arena, out);
}

const gm_compared *gm_comparison_find(const gm_comparison *c,
                                      const char *key) {
    for (long i = 0; i < c->count; i++)
        if (strcmp(c->row[i].key, key) == 0) return &c->row[i];
    return NULL;
}

/* The windows are there before the row that needs them. */
void gm_comparison_add(gm_arena *arena, gm_comparison *c,
                            const gm_compared *row, const gm_measure *m) {
    if (c->count == c->room) {
        long room = 2 * c->room + 16;
        gm_compared *more = gm_alloc(arena, (size_t)room, sizeof *more);
        if (c->count)
            memcpy(more, c->row, (size_t)c->count * sizeof *more);
        c->row = more, c->room = room;
    }
    gm_compared *r = &c->row[c->count];
    *r = *row;
    r->perplexity = m->perplexity, r->nll = m->nll, r->nll_error = m->nll_error;
    r->kl = m->kl, r->kl_error = m->kl_error;
    r->top1 = m->top1, r->top1_error = m->top1_error;
    r->windows = m->windows, r->window_kl = m->window_kl;
    gm_make_dir(c->dir);
    write_windows(arena, c, r, m);
    c->count++;
    pair_rows(c);
    write_rows(arena, c);
}

/* -------------------------------------------------------------------- the plot

   One series a method, points in order of size; a KL of 0 has no place on a
   logarithmic axis. */

static double size_of(const gm_compared *r, gm_convention in) {
    return in == GM_BITS ? r->code_bits
         : in == GM_EBITS ? r->effective_bits : (double)r->bytes / 1e6;
}

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

/* Inserts a point so that x ascends. */
static void insert(gm_series *s, double *x, double *y, double px, double py) {
    long at = s->count++;
    for (; at > 0 && x[at - 1] > px; at--)
        x[at] = x[at - 1], y[at] = y[at - 1];
    x[at] = px, y[at] = py;
}

void gm_comparison_series(gm_arena *arena, const gm_compared *const *rows,
                               long count, gm_convention in, gm_plot *out) {
    static const char *const label[] = {
        "average code bits", "average effective bits (scales and zeros too)",
        "file size in MB (10^6 bytes)"};
    gm_series *series = gm_alloc(arena, (size_t)count, sizeof *series);
    double *xy = gm_alloc(arena, 2 * (size_t)count, (size_t)count * sizeof *xy);
    *out = (gm_plot){"KL divergence from the original, lower is better",
                     label[in], "mean KL in nats", false, true, series, 0};
    for (long i = 0; i < count; i++) {
        const gm_compared *r = rows[i];
        if (!(r->kl > 0) || !isfinite(r->kl) || !isfinite(size_of(r, in)))
            continue;
        long j = 0;
        while (j < out->count && strcmp(series[j].name, r->method) != 0) j++;
        double *x = xy + 2 * j * count, *y = x + count;
        if (j == out->count)
            series[out->count++] = (gm_series){r->method, letter_of(r->method),
                                               true, 0, x, y};
        insert(&series[j], x, y, size_of(r, in), r->kl);
    }
}
