/* tables.c: scores.tsv and alloc.tsv, the files between Stage I, Stage II and
   the reader; sizes and budgets in the three conventions.  Reads and writes
   those files through io.c, nothing else.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------- keys */

void gm_keys_set(gm_arena *arena, gm_keys *keys, const char *key,
                 const char *format, ...) {
    va_list list;
    va_start(list, format);
    int length = vsnprintf(NULL, 0, format, list);
    va_end(list);
    if (length < 0) gm_fail(GM_EMEM, "out of memory");
    char *value = gm_alloc(arena, (size_t)length + 1, 1);
    va_start(list, format);
    vsnprintf(value, (size_t)length + 1, format, list);
    va_end(list);
    for (long i = 0; i < keys->count; i++)
        if (strcmp(keys->key[i], key) == 0) {
            keys->value[i] = value;
            return;
        }
    if (keys->count == keys->room) {
        long room = keys->room ? 2 * keys->room : 32;
        const char **both = gm_alloc(arena, 2 * (size_t)room, sizeof *both);
        for (long i = 0; i < keys->count; i++)
            both[i] = keys->key[i], both[room + i] = keys->value[i];
        keys->key = both, keys->value = both + room, keys->room = room;
    }
    const char *name = gm_format(arena, "%s", key);
    keys->key[keys->count] = name;
    keys->value[keys->count++] = value;
}

const char *gm_keys_get(const gm_keys *keys, const char *key) {
    for (long i = 0; i < keys->count; i++)
        if (strcmp(keys->key[i], key) == 0) return keys->value[i];
    return NULL;
}

static void copy_keys(gm_arena *arena, const gm_table *table,
                           gm_keys *keys) {
    *keys = (gm_keys){0};
    for (long i = 0; i < table->keys; i++)
        gm_keys_set(arena, keys, table->key[i], "%s",
                             table->value[i]);
}

/* "format gamma-scores 1": another name or version is refused; none at all is
   taken as written by hand. */
static void check_format(const gm_table *table, const char *expected) {
    const char *found = gm_table_key(table, "format");
    if (!found || strcmp(found, expected) == 0) return;
    gm_fail(GM_EINPUT, "%s: format: expected \"%s\", found \"%s\"",
                   table->path, expected, found);
}

void gm_double_text(double x, char text[32]) {
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, x);
        if (strtod(text, NULL) == x) return;
    }
}

static void write_keys(gm_out *out, const gm_keys *keys) {
    for (long i = 0; i < keys->count; i++)
        gm_out_print(out, "# %s %s\n", keys->key[i], keys->value[i]);
}

/* ------------------------------------------------------------------- cells */

/* One cell of a table, for messages that name file, line, module, column. */
struct place { const gm_table *table; long row, column; const char *module; };

static const char *cell_text(const struct place *at) {
    return at->table->cell[at->row * at->table->columns + at->column];
}

_Noreturn static void cell_error(const struct place *at, const char *expected) {
    gm_fail(GM_EINPUT, "%s: line %ld: %s: column %s: expected %s, "
                   "found \"%s\"", at->table->path, at->table->line[at->row],
                   at->module, at->table->column[at->column], expected,
                   cell_text(at));
}

/* 0 .. 2^53: so large a file or matrix is a mistake, and sums stay exact. */
static void cell_count(const struct place *at, int64_t *out) {
    const char *text = cell_text(at);
    size_t n = strlen(text);
    if (n == 0 || n > 16 || strspn(text, "0123456789") != n)
        cell_error(at, "a whole number");
    *out = strtoll(text, NULL, 10);
    if (*out > INT64_C(1) << 53)
        cell_error(at, "a number up to 2^53");
}

static void cell_real(const struct place *at, double *out) {
    const char *text = cell_text(at);
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end || !isfinite(*out))
        cell_error(at, "a finite number");
}

/* Column `name`, which there must be. */
static long need_column(const gm_table *table, const char *name) {
    long column = gm_table_column(table, name);
    if (column < 0)
        gm_fail(GM_EINPUT, "%s: no column \"%s\"", table->path, name);
    return column;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Module names must be present and differ. */
static void check_names(gm_arena *arena, const gm_table *table,
                             const char **name) {
    gm_mark mark = gm_arena_mark(arena);
    const char **sorted =
        gm_alloc(arena, (size_t)table->rows, sizeof *sorted);
    for (long m = 0; m < table->rows; m++) {
        gm_name_check(table->path, "module", name[m]);
        sorted[m] = name[m];
        if (!*name[m])
            gm_fail(GM_EINPUT, "%s: line %ld: empty module name",
                           table->path, table->line[m]);
    }
    qsort(sorted, (size_t)table->rows, sizeof *sorted, by_name);
    for (long m = 1; m < table->rows; m++)
        if (strcmp(sorted[m - 1], sorted[m]) == 0)
            gm_fail(GM_EINPUT, "%s: module %s appears twice",
                           table->path, sorted[m]);
    gm_arena_rewind(arena, mark);
}

/* --------------------------------------------------------------- scores.tsv */

void gm_scores_new(gm_arena *arena, long M, int K, const int *bits,
                        gm_scores *out) {
    size_t m = (size_t)M, cells = m * (size_t)K;
    *out = (gm_scores){.path = "scores", .M = M, .K = K};
    for (int k = 0; k < K; k++) out->bits[k] = bits[k];
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
    gm_mark mark = gm_arena_mark(arena);
    gm_keys_set(arena, &keys, "weights", "%" PRId64,
                                   scores->N);
    gm_keys_set(arena, &keys, "overhead_bytes", "%" PRId64,
                             scores->overhead);
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
    gm_arena_rewind(arena, mark);
}

/* Candidates are the columns "b.bytes" or "b.score", in ascending b. */
static void find_candidates(const gm_table *table, int *K, int *bits) {
    *K = 0;
    for (long c = 0; c < table->columns; c++) {
        char *end;
        long b = strtol(table->column[c], &end, 10);
        if (end == table->column[c] ||
            (strcmp(end, ".bytes") != 0 && strcmp(end, ".score") != 0))
            continue;
        int known = 0;
        for (int k = 0; k < *K; k++) known += bits[k] == b;
        if (known) continue;
        if (b < 1 || b > 32 || *K == GM_MAX_CANDIDATES)
            gm_fail(GM_EINPUT, "%s: column %s: expected bits from "
                           "1 to 32 and at most %d candidates", table->path,
                           table->column[c], GM_MAX_CANDIDATES);
        int at = (*K)++;
        for (; at > 0 && bits[at - 1] > b; at--) bits[at] = bits[at - 1];
        bits[at] = (int)b;
    }
    if (*K) return;
    gm_fail(GM_EINPUT, "%s: no column \"b.score\" for any number "
                   "of bits b", table->path);
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
    return (s->weights[m] * bits + 7) / 8;
}

static bool is_absent(const struct place *at) {
    return strcmp(cell_text(at), "-") == 0;
}

/* Candidate k of row m; "-" in its first column: the module lacks it. */
static void read_candidate(const gm_table *table, gm_scores *s, long m,
                                int k, long group) {
    char name[32];
    long i = m * s->K + k;
    struct place bytes = {table, m, 0, s->name[m]}, at = bytes;
    snprintf(name, sizeof name, "%d.bytes", s->bits[k]);
    bytes.column = gm_table_column(table, name);
    bool given = bytes.column >= 0;
    s->bytes[i] = -1;
    s->error[i] = -1;
    if (given && is_absent(&bytes)) return;
    if (given) cell_count(&bytes, &s->bytes[i]);
    snprintf(name, sizeof name, "%d.score", s->bits[k]);
    at.column = need_column(table, name);
    if (!given && is_absent(&at)) return;
    cell_real(&at, &s->score[i]);
    if (!given) s->bytes[i] = convention_bytes(s, m, s->bits[k], group);
    snprintf(name, sizeof name, "%d.stderr", s->bits[k]);
    at.column = gm_table_column(table, name);
    if (at.column < 0 || is_absent(&at)) return;
    cell_real(&at, &s->error[i]);
    if (s->error[i] < 0)
        cell_error(&at, "a standard error >= 0");
}

/* out, in and weights; the last may follow from the others. */
static void read_shape(const gm_table *table, gm_scores *s, long m) {
    struct place at = {table, m, 0, s->name[m]};
    int64_t *into[3] = {&s->out[m], &s->in[m], &s->weights[m]};
    const char *side[3] = {"out", "in", "weights"};
    for (int j = 0; j < 3; j++)
        if ((at.column = gm_table_column(table, side[j])) >= 0)
            cell_count(&at, into[j]);
    int64_t product;
    if (__builtin_mul_overflow(s->out[m], s->in[m], &product) ||
        product > INT64_C(1) << 53)
        gm_fail(GM_EINPUT, "%s: more than 2^53 weights",
                       table->path);
    if (at.column < 0) s->weights[m] = product;
    if (s->weights[m] > 0) return;
    if (at.column < 0) at.column = gm_table_column(table, s->out[m] ? "in"
                                                                    : "out");
    cell_error(&at, "at least 1");
}

static void read_module(const gm_table *table, gm_scores *s, long m,
                             long group, int64_t *bytes) {
    read_shape(table, s, m);
    int64_t largest = -1;
    for (int k = 0; k < s->K; k++) {
        read_candidate(table, s, m, k, group);
        if (s->bytes[m * s->K + k] > largest) largest = s->bytes[m * s->K + k];
    }
    if (largest < 0)
        gm_fail(GM_EINPUT, "%s: line %ld: %s: no candidate at all",
                       table->path, table->line[m], s->name[m]);
    s->N += s->weights[m];
    *bytes += largest;
    if (s->N > INT64_C(1) << 53)
        gm_fail(GM_EINPUT, "%s: more than 2^53 weights",
                       table->path);
    if (*bytes > INT64_C(1) << 53)
        gm_fail(GM_EINPUT, "%s: more than 2^53 bytes",
                       table->path);
}

/* The whole number of a "# key" line. */
static void key_long(const gm_table *table, const char *key, const char *text,
                     long least, long most, long *out) {
    if (!gm_is_long(text, least, most, out))
        gm_fail(GM_EINPUT, "%s: %s: expected a whole number from %ld to %ld, "
                "found \"%s\"", table->path, key, least, most, text);
}

/* All rows.  Where neither bytes nor shapes are given, a key says so. */
static void read_modules(gm_arena *arena, const gm_table *table,
                              gm_scores *s) {
    const char *text = gm_table_key(table, "group");
    long group = 128;
    int64_t bytes = 0;
    if (text) key_long(table, "group", text, 1, GM_MAX_GROUP, &group);
    for (long m = 0; m < s->M; m++)
        read_module(table, s, m, group, &bytes);
    char first[32];
    snprintf(first, sizeof first, "%d.bytes", s->bits[0]);
    bool shaped = gm_table_column(table, "out") >= 0 &&
                  gm_table_column(table, "in") >= 0;
    if (!shaped && gm_table_column(table, first) < 0)
        gm_keys_set(arena, &s->keys, "sizes", "codes");
}

/* The header's weights and overhead_bytes. */
static void read_totals(const gm_table *table, gm_scores *s) {
    const char *overhead = gm_table_key(table, "overhead_bytes");
    const char *weights = gm_table_key(table, "weights");
    long N = 0, bytes = 0;
    if (overhead)
        key_long(table, "overhead_bytes", overhead, 0, 1L << 53, &bytes);
    if (weights) key_long(table, "weights", weights, 1, 1L << 53, &N);
    s->overhead = bytes;
    if (weights && N != s->N)
        gm_fail(GM_EINPUT, "%s: weights: the header says %ld, the "
                       "modules sum to %" PRId64, table->path, N, s->N);
}

void gm_scores_read(gm_arena *arena, const char *path, gm_scores *out) {
    gm_table table;
    int K = 0, bits[GM_MAX_CANDIDATES];
    gm_table_read(arena, path, &table);
    check_format(&table, "gamma-scores 1");
    find_candidates(&table, &K, bits);
    long module = gm_table_column(&table, "module");
    if (module < 0) module = gm_table_column(&table, "name");
    if (module < 0) module = need_column(&table, "module");
    bool shaped = gm_table_column(&table, "out") >= 0 &&
                  gm_table_column(&table, "in") >= 0;
    if (!shaped) need_column(&table, "weights");
    if (table.rows == 0)
        gm_fail(GM_EINPUT, "%s: no modules", path);
    gm_scores_new(arena, table.rows, K, bits, out);
    out->path = table.path;
    for (long m = 0; m < out->M; m++)
        out->name[m] = table.cell[m * table.columns + module];
    check_names(arena, &table, out->name);
    copy_keys(arena, &table, &out->keys);
    read_modules(arena, &table, out);
    read_totals(&table, out);
}

/* ---------------------------------------------------------------- alloc.tsv */

void gm_allocation_write(gm_arena *arena, const char *path,
                              const gm_allocation *allocation) {
    const gm_allocation *a = allocation;
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

static void read_choice(const gm_table *table, gm_allocation *a, long m) {
    struct place at = {table, m, gm_table_column(table, "bits"), a->name[m]};
    int64_t bits = 0;
    cell_count(&at, &bits);
    if ((bits < 1 || bits > 32))
        cell_error(&at, "1 to 32");
    a->bits[m] = (int)bits;
    a->bytes[m] = -1;
    at.column = gm_table_column(table, "bytes");
    if (at.column < 0 || is_absent(&at)) return;
    cell_count(&at, &a->bytes[m]);
}

/* An optional column as an array of texts, or NULL. */
static void text_column(gm_arena *arena, const gm_table *table,
                             const char *name, const char ***out) {
    long column = gm_table_column(table, name);
    *out = NULL;
    if (column < 0) return;
    *out = gm_alloc(arena, (size_t)table->rows, sizeof **out);
    for (long m = 0; m < table->rows; m++)
        (*out)[m] = table->cell[m * table->columns + column];
}

void gm_allocation_read(gm_arena *arena, const char *path,
                             gm_allocation *out) {
    gm_table table;
    gm_table_read(arena, path, &table);
    check_format(&table, "gamma-alloc 1");
    const char *key = gm_table_column(&table, "module") < 0 ? "name" : "module";
    if (gm_table_column(&table, key) < 0)
        gm_fail(GM_EINPUT, "%s: no column \"module\" or \"name\"",
                       path);
    need_column(&table, "bits");
    if (table.rows == 0)
        gm_fail(GM_EINPUT, "%s: no modules", path);
    size_t n = (size_t)table.rows;
    *out = (gm_allocation){.path = table.path, .M = table.rows};
    out->bits = gm_alloc(arena, n, sizeof *out->bits);
    out->bytes = gm_alloc(arena, n, sizeof *out->bytes);
    text_column(arena, &table, key, &out->name);
    text_column(arena, &table, "allowed", &out->allowed);
    text_column(arena, &table, "fused", &out->fused);
    check_names(arena, &table, out->name);
    for (long m = 0; m < out->M; m++)
        read_choice(&table, out, m);
    copy_keys(arena, &table, &out->keys);
}

/* Both name lists sorted, walked side by side. */
struct named { const char *name; long m; };

static int by_named(const void *a, const void *b) {
    return strcmp(((const struct named *)a)->name,
                  ((const struct named *)b)->name);
}

static struct named *sort_names(gm_arena *arena, const char *const *name,
                                long M) {
    struct named *list = gm_alloc(arena, (size_t)M, sizeof *list);
    for (long m = 0; m < M; m++) list[m] = (struct named){name[m], m};
    qsort(list, (size_t)M, sizeof *list, by_named);
    return list;
}

static void match_bits(const gm_allocation *a, const gm_scores *s,
                            long from, long m, int *choice) {
    for (int k = 0; k < s->K; k++) {
        long i = m * s->K + k;
        if (s->bits[k] != a->bits[from] || s->bytes[i] < 0) continue;
        choice[m] = k;
        const char *sizes = gm_keys_get(&a->keys, "sizes");
        if (a->bytes[from] < 0 || a->bytes[from] == s->bytes[i] ||
            (sizes && strcmp(sizes, "codes") == 0))
            return;
        gm_fail(GM_EINPUT, "%s: module %s at %d bits: %" PRId64
                       " bytes, but %s says %" PRId64, a->path, s->name[m],
                       a->bits[from], a->bytes[from], s->path, s->bytes[i]);
    }
    gm_fail(GM_EINPUT, "%s: module %s: %s has no candidate of %d "
                   "bits for it", a->path, s->name[m], s->path, a->bits[from]);
}

void gm_allocation_match(const gm_allocation *allocation,
                              const gm_scores *scores, int *choice) {
    const gm_allocation *a = allocation;
    gm_arena arena = {0};
    struct named *x = sort_names(&arena, a->name, a->M);
    struct named *y = sort_names(&arena, scores->name, scores->M);
    for (long i = 0, j = 0; i < a->M || j < scores->M; i++, j++) {
        int order = i == a->M ? 1 : j == scores->M ? -1
                                                   : by_named(&x[i], &y[j]);
        if (order < 0)
            gm_fail(GM_EINPUT, "%s: module %s is not in %s",
                             a->path, x[i].name, scores->path);
        else if (order > 0)
            gm_fail(GM_EINPUT, "%s: module %s of %s is missing",
                             a->path, y[j].name, scores->path);
        else
            match_bits(a, scores, x[i].m, y[j].m, choice);
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

void gm_convention_parse(const char *what, const char *text,
                              gm_convention *out) {
    int found = 0;
    gm_parse_name(what, text, convention_name, 3, &found);
    *out = (gm_convention)found;
}

int64_t gm_size_in(const gm_sizes *sizes, gm_convention convention) {
    return convention == GM_BITS ? sizes->code_bits
         : convention == GM_EBITS ? sizes->effective_bits : sizes->file_bytes;
}

/* "50M" -> 50 and 10^6. */
static int64_t split_suffix(gm_arena *arena, const char *text, char **digits) {
    static const struct { const char *suffix; int64_t unit; } table[] = {
        {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
        {"KB", 1000}, {"MB", 1000000}, {"GB", 1000000000},
        {"K", 1000}, {"M", 1000000}, {"G", 1000000000}, {"B", 1}};
    size_t length = strlen(text);
    *digits = gm_format(arena, "%s", text);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        size_t n = strlen(table[i].suffix);
        if (length <= n || strcmp(text + length - n, table[i].suffix) != 0)
            continue;
        (*digits)[length - n] = 0;
        return table[i].unit;
    }
    return 1;
}

void gm_budget_parse(gm_arena *arena, const gm_scores *scores,
                          gm_convention convention, const char *text,
                          gm_budget *out) {
    char what[16], *digits = NULL;
    int64_t unit = scores->N;
    *out = (gm_budget){convention, 0, text};
    snprintf(what, sizeof what, "--%s", gm_convention_name(convention));
    if (convention == GM_BYTES) unit = split_suffix(arena, text, &digits);
    else digits = gm_format(arena, "%s", text);
    if (gm_is_scaled(digits, unit, &out->limit) && out->limit > 0) return;
    gm_fail(GM_EUSAGE, "%s: expected a positive decimal number%s, "
                   "found \"%s\"", what, convention == GM_BYTES ?
                   " of bytes, such as 50000000, 50M or 47.5MiB" :
                   " of bits per weight, such as 2.5", text);
}
