/* tables.c: scores.tsv and alloc.tsv, the files between Stage I, Stage II and
   the reader; sizes and budgets in the three conventions.  Reads and writes
   those files through tensors.c and files.c, nothing else.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST (INT64_C(1) << 53)     /* of sums: exact as a double, too */

void gm_double_text(double x, char text[32]) {
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, x);
        if (strtod(text, NULL) == x) return;
    }
}

static void write_keys(gm_out *out, const gm_keys *keys) {
    for (const gm_key *k = keys->key; k < keys->key + keys->count; k++)
        gm_out_print(out, "# %s %s\n", k->name, k->value);
}

/* ------------------------------------------------------------------- cells */

/* One cell of a table, for messages that name file, line, module, column. */
struct place { const gm_table *table; long row, column; const char *module; };

static const char *cell_text(const struct place *at) {
    return at->table->cell[at->row * at->table->columns + at->column];
}

_Noreturn static void cell_error(const struct place *at, const char *expected) {
    gm_bad(at->table->path, "line %ld: %s: column %s: expected %s, found "
           "\"%s\"", at->table->line[at->row], at->module,
           at->table->column[at->column], expected, cell_text(at));
}

/* 0 .. 2^53: so large a file or matrix is a mistake, and sums stay exact. */
static int64_t cell_count(const struct place *at) {
    const char *text = cell_text(at);
    size_t n = strlen(text);
    if (n == 0 || n > 16 || strspn(text, "0123456789") != n)
        cell_error(at, "a whole number");
    int64_t value = strtoll(text, NULL, 10);
    if (value > MOST) cell_error(at, "a number up to 2^53");
    return value;
}

static double cell_real(const struct place *at) {
    const char *text = cell_text(at);
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        cell_error(at, "a finite number");
    return value;
}

static bool is_absent(const struct place *at) {
    return strcmp(cell_text(at), "-") == 0;
}

/* Column `name`, which there must be. */
static long need_column(const gm_table *table, const char *name) {
    long column = gm_table_column(table, name);
    if (column < 0) gm_bad(table->path, "no column \"%s\"", name);
    return column;
}

/* An optional column as an array of texts, or NULL. */
static const char **text_column(gm_arena *arena, const gm_table *table,
                                const char *name) {
    long column = gm_table_column(table, name);
    if (column < 0) return NULL;
    const char **out = gm_alloc(arena, (size_t)table->rows, sizeof *out);
    for (long m = 0; m < table->rows; m++)
        out[m] = table->cell[m * table->columns + column];
    return out;
}

/* Module names in order, each with its row. */
struct named { const char *name; long m; };

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct named *)a)->name,
                  ((const struct named *)b)->name);
}

static struct named *sort_names(gm_arena *arena, const char *const *name,
                                long M) {
    struct named *list = gm_alloc(arena, (size_t)M, sizeof *list);
    for (long m = 0; m < M; m++) list[m] = (struct named){name[m], m};
    qsort(list, (size_t)M, sizeof *list, by_name);
    return list;
}

/* A table of this format: "format gamma-scores 1" with another name or version
   is refused, none at all is taken as written by hand. */
static void read_table(gm_arena *arena, const char *path, const char *format,
                       gm_table *table) {
    gm_table_read(arena, path, table);
    const char *found = gm_table_key(table, "format");
    if (found && strcmp(found, format) != 0)
        gm_bad(path, "format: expected \"%s\", found \"%s\"", format, found);
}

/* The column of module names, which must differ. */
static const char **module_names(gm_arena *arena, const gm_table *table,
                                 const char *column) {
    const char **name = text_column(arena, table, column);
    gm_arena scratch = {0};
    if (table->rows == 0) gm_bad(table->path, "no modules");
    for (long m = 0; m < table->rows; m++) {
        gm_name_check(table->path, "module", name[m]);
        if (!*name[m])
            gm_bad(table->path, "line %ld: empty module name", table->line[m]);
    }
    struct named *sorted = sort_names(&scratch, name, table->rows);
    for (long m = 1; m < table->rows; m++)
        if (by_name(&sorted[m - 1], &sorted[m]) == 0)
            gm_bad(table->path, "module %s appears twice", sorted[m].name);
    gm_arena_free(&scratch);
    return name;
}

/* --------------------------------------------------------------- scores.tsv */

void gm_scores_new(gm_arena *arena, long M, int K, const int *bits,
                   gm_scores *out) {
    size_t m = (size_t)M, cells = m * (size_t)K;
    *out = (gm_scores){.path = "scores", .M = M, .K = K};
    memcpy(out->bits, bits, (size_t)K * sizeof *bits);
    out->name = gm_alloc(arena, m, sizeof *out->name);
    out->out = gm_alloc(arena, m, sizeof *out->out);
    out->in = gm_alloc(arena, m, sizeof *out->in);
    out->weights = gm_alloc(arena, m, sizeof *out->weights);
    out->bytes = gm_alloc(arena, cells, sizeof *out->bytes);
    out->score = gm_alloc(arena, cells, sizeof *out->score);
    out->error = gm_alloc(arena, cells, sizeof *out->error);
    gm_keys_set(arena, &out->keys, "format", "gamma-scores 1");
}

static void write_scores_row(gm_out *out, const gm_scores *s, long m) {
    char score[32], error[32];
    gm_out_print(out, "%s\t%" PRId64 "\t%" PRId64 "\t%" PRId64,
                 s->name[m], s->out[m], s->in[m], s->weights[m]);
    for (long i = m * s->K; i < (m + 1) * s->K; i++) {
        if (s->bytes[i] < 0) {
            gm_out_print(out, "\t-\t-\t-");
            continue;
        }
        gm_double_text(s->score[i], score);
        gm_double_text(s->error[i], error);
        gm_out_print(out, "\t%" PRId64 "\t%s\t%s", s->bytes[i], score,
                     s->error[i] < 0 ? "-" : error);
    }
    gm_out_print(out, "\n");
}

void gm_scores_write(gm_arena *arena, const char *path,
                     const gm_scores *scores) {
    gm_out out;
    gm_keys keys = scores->keys;
    gm_keys_set(arena, &keys, "weights", "%" PRId64, scores->N);
    gm_keys_set(arena, &keys, "overhead_bytes", "%" PRId64, scores->overhead);
    gm_out_open(arena, path, &out);
    write_keys(&out, &keys);
    gm_out_print(&out, "module\tout\tin\tweights");
    for (int k = 0; k < scores->K; k++)
        gm_out_print(&out, "\t%d.bytes\t%d.score\t%d.stderr",
                     scores->bits[k], scores->bits[k], scores->bits[k]);
    gm_out_print(&out, "\n");
    for (long m = 0; m < scores->M; m++)
        write_scores_row(&out, scores, m);
    gm_out_commit(&out);
}

/* Candidates are the columns "b.bytes" or "b.score", in ascending b.  Their
   number. */
static int find_candidates(const gm_table *table, int *bits) {
    int K = 0;
    for (long c = 0; c < table->columns; c++) {
        char *end;
        long b = strtol(table->column[c], &end, 10);
        if (end == table->column[c] ||
            (strcmp(end, ".bytes") != 0 && strcmp(end, ".score") != 0))
            continue;
        int known = 0;
        for (int k = 0; k < K; k++) known += bits[k] == b;
        if (known) continue;
        if (b < 1 || b > 32 || K == GM_MAX_CANDIDATES)
            gm_bad(table->path, "column %s: expected bits from 1 to 32 and at "
                   "most %d candidates", table->column[c], GM_MAX_CANDIDATES);
        int at = K++;
        for (; at > 0 && bits[at - 1] > b; at--) bits[at] = bits[at - 1];
        bits[at] = (int)b;
    }
    if (K == 0)
        gm_bad(table->path, "no column \"b.score\" for any number of bits b");
    return K;
}

/* ceil(n b / 8): bytes of a stream of n codes of b bits. */
static int64_t stream_bytes(long n, int bits) {
    return ((int64_t)n * bits + 7) / 8;
}

gm_parts gm_packed_parts(long out, long in, int bits, long group) {
    if (bits >= 16) return (gm_parts){(int64_t)out * in * (bits / 8), 0, 0};
    long groups = (in + group - 1) / group;
    return (gm_parts){out * stream_bytes(in, bits), (int64_t)out * groups * 2,
                      out * stream_bytes(groups, bits)};
}

int64_t gm_packed_bytes(long out, long in, int bits, long group) {
    gm_parts p = gm_packed_parts(out, in, bits, group);
    return p.codes + p.scales + p.zeros;
}

/* Stored bytes that a file of another tool does not say: those of the packed
   layout; without shape, of the codes alone. */
static int64_t convention_bytes(const gm_scores *s, long m, int bits,
                                long group) {
    if (s->out[m] && s->in[m])
        return gm_packed_bytes(s->out[m], s->in[m], bits, group);
    return stream_bytes(s->weights[m], bits);
}

/* Candidate k of row m; "-" in its first column: the module lacks it. */
static void read_candidate(const gm_table *table, gm_scores *s, long m, int k,
                           long group) {
    const long i = m * s->K + k;
    const int b = s->bits[k];
    char name[32];
    struct place at = {table, m, 0, s->name[m]};
    s->bytes[i] = -1;
    s->error[i] = -1;
    snprintf(name, sizeof name, "%d.bytes", b);
    at.column = gm_table_column(table, name);
    const bool given = at.column >= 0;
    if (given && is_absent(&at)) return;
    if (given) s->bytes[i] = cell_count(&at);
    snprintf(name, sizeof name, "%d.score", b);
    at.column = need_column(table, name);
    if (!given && is_absent(&at)) return;
    s->score[i] = cell_real(&at);
    if (!given) s->bytes[i] = convention_bytes(s, m, b, group);
    snprintf(name, sizeof name, "%d.stderr", b);
    at.column = gm_table_column(table, name);
    if (at.column < 0 || is_absent(&at)) return;
    s->error[i] = cell_real(&at);
    if (s->error[i] < 0) cell_error(&at, "a standard error >= 0");
}

/* out, in and weights; the last may follow from the others. */
static void read_shape(const gm_table *table, gm_scores *s, long m) {
    struct place at = {table, m, 0, s->name[m]};
    int64_t *into[3] = {&s->out[m], &s->in[m], &s->weights[m]};
    const char *side[3] = {"out", "in", "weights"};
    int64_t product;
    for (int j = 0; j < 3; j++)
        if ((at.column = gm_table_column(table, side[j])) >= 0)
            *into[j] = cell_count(&at);
    if (__builtin_mul_overflow(s->out[m], s->in[m], &product) || product > MOST)
        gm_bad(table->path, "more than 2^53 weights");
    if (at.column < 0) s->weights[m] = product;
    if (s->weights[m] > 0) return;
    if (at.column < 0)
        at.column = gm_table_column(table, s->out[m] ? "in" : "out");
    cell_error(&at, "at least 1");
}

/* The whole number of a "# key" line; `otherwise` when there is none. */
static long key_long(const gm_table *table, const char *key, long least,
                     long most, long otherwise) {
    const char *text = gm_table_key(table, key);
    long value = otherwise;
    if (text && !gm_is_long(text, least, most, &value))
        gm_bad(table->path, "%s: expected a whole number from %ld to %ld, "
               "found \"%s\"", key, least, most, text);
    return value;
}

static void read_modules(const gm_table *table, gm_scores *s) {
    const long group = key_long(table, "group", 1, GM_MAX_GROUP, 128);
    int64_t bytes = 0;
    for (long m = 0; m < s->M; m++) {
        int64_t largest = -1;
        read_shape(table, s, m);
        for (int k = 0; k < s->K; k++) {
            read_candidate(table, s, m, k, group);
            if (s->bytes[m * s->K + k] > largest)
                largest = s->bytes[m * s->K + k];
        }
        if (largest < 0)
            gm_bad(table->path, "line %ld: %s: no candidate at all",
                   table->line[m], s->name[m]);
        s->N += s->weights[m];
        bytes += largest;
        if (s->N > MOST || bytes > MOST)
            gm_bad(table->path, "more than 2^53 %s",
                   s->N > MOST ? "weights" : "bytes");
    }
}

void gm_scores_read(gm_arena *arena, const char *path, gm_scores *out) {
    gm_table table;
    char first[32];
    int bits[GM_MAX_CANDIDATES];
    read_table(arena, path, "gamma-scores 1", &table);
    const int K = find_candidates(&table, bits);
    const char *module = gm_table_column(&table, "module") < 0 &&
                         gm_table_column(&table, "name") >= 0 ? "name"
                                                              : "module";
    need_column(&table, module);
    bool shaped = gm_table_column(&table, "out") >= 0 &&
                  gm_table_column(&table, "in") >= 0;
    if (!shaped) need_column(&table, "weights");
    const char **name = module_names(arena, &table, module);
    gm_scores_new(arena, table.rows, K, bits, out);
    out->path = table.path;
    out->name = name;
    out->keys = table.keys;
    read_modules(&table, out);
    /* where neither bytes nor shapes are given, a key says so */
    snprintf(first, sizeof first, "%d.bytes", bits[0]);
    if (!shaped && gm_table_column(&table, first) < 0)
        gm_keys_set(arena, &out->keys, "sizes", "codes");
    out->overhead = key_long(&table, "overhead_bytes", 0, MOST, 0);
    const long N = key_long(&table, "weights", 1, MOST, out->N);
    if (N != out->N)
        gm_bad(path, "weights: the header says %ld, the modules sum to %"
               PRId64, N, out->N);
}

/* ---------------------------------------------------------------- alloc.tsv */

void gm_allocation_write(gm_arena *arena, const char *path,
                         const gm_allocation *a) {
    gm_out out;
    gm_out_open(arena, path, &out);
    write_keys(&out, &a->keys);
    gm_out_print(&out, "module\tbits\tbytes%s%s\n",
                 a->allowed ? "\tallowed" : "", a->fused ? "\tfused" : "");
    for (long m = 0; m < a->M; m++) {
        gm_out_print(&out, "%s\t%d", a->name[m], a->bits[m]);
        if (a->bytes[m] < 0) gm_out_print(&out, "\t-");
        else gm_out_print(&out, "\t%" PRId64, a->bytes[m]);
        if (a->allowed) gm_out_print(&out, "\t%s", a->allowed[m]);
        if (a->fused) gm_out_print(&out, "\t%s", a->fused[m]);
        gm_out_print(&out, "\n");
    }
    gm_out_commit(&out);
}

void gm_allocation_read(gm_arena *arena, const char *path, gm_allocation *out) {
    gm_table table;
    read_table(arena, path, "gamma-alloc 1", &table);
    const char *key = gm_table_column(&table, "module") < 0 ? "name" : "module";
    if (gm_table_column(&table, key) < 0)
        gm_bad(path, "no column \"module\" or \"name\"");
    const long bits = need_column(&table, "bits");
    const long bytes = gm_table_column(&table, "bytes");
    size_t n = (size_t)table.rows;
    *out = (gm_allocation){.path = table.path, .M = table.rows,
                           .keys = table.keys};
    out->name = module_names(arena, &table, key);
    out->bits = gm_alloc(arena, n, sizeof *out->bits);
    out->bytes = gm_alloc(arena, n, sizeof *out->bytes);
    out->allowed = text_column(arena, &table, "allowed");
    out->fused = text_column(arena, &table, "fused");
    for (long m = 0; m < out->M; m++) {
        struct place at = {&table, m, bits, out->name[m]};
        int64_t b = cell_count(&at);
        if (b < 1 || b > 32) cell_error(&at, "1 to 32");
        out->bits[m] = (int)b;
        at.column = bytes;
        out->bytes[m] = bytes < 0 || is_absent(&at) ? -1 : cell_count(&at);
    }
}

/* The candidate of scores' module m with the bits of row `from`. */
static int match_bits(const gm_allocation *a, const gm_scores *s, long from,
                      long m) {
    const char *sizes = gm_keys_get(&a->keys, "sizes");
    int k = 0;
    while (k < s->K && (s->bits[k] != a->bits[from] ||
                        s->bytes[m * s->K + k] < 0))
        k++;
    if (k == s->K)
        gm_bad(a->path, "module %s: %s has no candidate of %d bits for it",
               s->name[m], s->path, a->bits[from]);
    const int64_t bytes = s->bytes[m * s->K + k];
    if (a->bytes[from] >= 0 && a->bytes[from] != bytes &&
        !(sizes && strcmp(sizes, "codes") == 0))
        gm_bad(a->path, "module %s at %d bits: %" PRId64 " bytes, but %s says %"
               PRId64, s->name[m], a->bits[from], a->bytes[from], s->path,
               bytes);
    return k;
}

/* Both name lists sorted, walked side by side. */
void gm_allocation_match(const gm_allocation *a, const gm_scores *scores,
                         int *choice) {
    gm_arena arena = {0};
    struct named *x = sort_names(&arena, a->name, a->M);
    struct named *y = sort_names(&arena, scores->name, scores->M);
    for (long i = 0; i < a->M || i < scores->M; i++) {
        int order = i == a->M ? 1 : i == scores->M ? -1 : by_name(&x[i], &y[i]);
        if (order < 0)
            gm_bad(a->path, "module %s is not in %s", x[i].name, scores->path);
        if (order > 0)
            gm_bad(a->path, "module %s of %s is missing", y[i].name,
                   scores->path);
        choice[y[i].m] = match_bits(a, scores, x[i].m, y[i].m);
    }
    gm_arena_free(&arena);
}

/* ------------------------------------------------------- sizes and budgets */

gm_sizes gm_sizes_of(const gm_scores *scores, const int *choice) {
    gm_sizes sizes = {.file_bytes = scores->overhead};
    for (long m = 0; m < scores->M; m++) {
        int64_t bytes = scores->bytes[m * scores->K + choice[m]];
        sizes.code_bits += scores->weights[m] * scores->bits[choice[m]];
        sizes.effective_bits += 8 * bytes;
        sizes.file_bytes += bytes;
    }
    return sizes;
}

static const char *const convention_name[] = {"bits", "ebits", "bytes"};

const char *gm_convention_name(gm_convention convention) {
    return convention_name[convention];
}

gm_convention gm_convention_parse(const char *what, const char *text) {
    return (gm_convention)gm_parse_name(what, text, convention_name, 3);
}

int64_t gm_size_in(const gm_sizes *sizes, gm_convention convention) {
    return convention == GM_BITS ? sizes->code_bits
         : convention == GM_EBITS ? sizes->effective_bits : sizes->file_bytes;
}

/* "50M" becomes "50"; 10^6. */
static int64_t take_suffix(char *text) {
    static const struct { const char *suffix; int64_t unit; } table[] = {
        {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
        {"KB", 1000}, {"MB", 1000000}, {"GB", 1000000000},
        {"K", 1000}, {"M", 1000000}, {"G", 1000000000}, {"B", 1}};
    const size_t length = strlen(text);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        size_t n = strlen(table[i].suffix);
        if (length <= n || strcmp(text + length - n, table[i].suffix) != 0)
            continue;
        text[length - n] = 0;
        return table[i].unit;
    }
    return 1;
}

bool gm_is_bytes(gm_arena *arena, const char *text, int64_t *out) {
    char *digits = gm_format(arena, "%s", text);
    int64_t unit = take_suffix(digits);
    return gm_is_scaled(digits, unit, out) && *out > 0;
}

gm_budget gm_budget_parse(gm_arena *arena, const gm_scores *scores,
                          gm_convention convention, const char *text) {
    gm_budget budget = {convention, 0, text};
    bool good = convention == GM_BYTES
              ? gm_is_bytes(arena, text, &budget.limit)
              : gm_is_scaled(text, scores->N, &budget.limit);
    if (!good || budget.limit <= 0)
        gm_fail(GM_EUSAGE, "--%s: expected a positive decimal number%s, found "
                "\"%s\"", convention_name[convention],
                convention == GM_BYTES ?
                " of bytes, such as 50000000, 50M or 47.5MiB" :
                " of bits per weight, such as 2.5", text);
    return budget;
}

/* ------------------------------------------------------------- measurements */

double gm_mean_error(long n, const double *x, const double *y, double *error) {
    double mean = 0, squares = 0;
    for (long i = 0; i < n; i++) mean += (x[i] - (y ? y[i] : 0)) / (double)n;
    for (long i = 0; i < n; i++) {
        double d = x[i] - (y ? y[i] : 0) - mean;
        squares += d * d;
    }
    *error = n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : 0;
    return mean;
}

void gm_measure_means(gm_measure *m) {
    m->nll = gm_mean_error(m->windows, m->window_nll, NULL, &m->nll_error);
    m->kl = gm_mean_error(m->windows, m->window_kl, NULL, &m->kl_error);
    m->top1 = gm_mean_error(m->windows, m->window_top1, NULL, &m->top1_error);
    m->perplexity = gm_expd(m->nll);
}
