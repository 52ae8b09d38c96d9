/* tables.c: scores.tsv and alloc.tsv, the files between Stage I, Stage II and
   the reader; sizes and budgets in the three conventions.  Reads and writes
   those files through tensors.c and files.c, nothing else.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MOST (INT64_C(1) << 53)     /* of sums: exact as a double, too */

gm_shown gm_double_text(double x) {
    gm_shown out;
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out.text, sizeof out.text, "%.*g", digits, x);
        if (strtod(out.text, NULL) == x) break;
    }
    return out;
}

bool gm_is_label(const char *text, size_t n) {
    const char *const all = "abcdefghijklmnopqrstuvwxyz0123456789_";
    return n > 0 && n < GM_LABEL && *text >= 'a' && *text <= 'z' &&
           strspn(text, all) >= n &&
           !(*text == 'b' && n > 1 && strspn(text + 1, all + 26) >= n - 1 &&
             !memchr(text, '_', n));
}

bool gm_labelled(const gm_scores *s) {
    int k = 0;
    while (k < s->K && s->label[k][0] < 'a') k++;
    return k < s->K;
}

gm_shown gm_called(int bits, const char *label) {
    gm_shown out;
    if (*label >= 'a') snprintf(out.text, sizeof out.text, "%s", label);
    else snprintf(out.text, sizeof out.text, "%d bits", bits);
    return out;
}

static void write_keys(gm_out *out, const gm_keys *keys) {
    for (size_t i = 0; i < keys->count; i++)
        gm_out_print(out, "# %s %s\n", keys->key[i].name, keys->key[i].value);
}

/* ------------------------------------------------------------------- cells */

/* A row of a table, for messages that name file, line, module, column. */
struct row { const gm_table *table; long m; const char *module; };

static const char *cell(const struct row *r, long column) {
    return r->table->cell[r->m * r->table->columns + column];
}

_Noreturn static void cell_error(const struct row *r, long column,
                                 const char *expected) {
    const char *found = cell(r, column);
    gm_bad(r->table->path, "line %ld: %s: column %s: expected %s%s, found "
           "\"%s\"", r->table->line[r->m], r->module,
           r->table->column[column], expected,
           strchr(found, ',') ? " with a point, not a comma" : "", found);
}

/* 0 .. 2^53: so large a file or matrix is a mistake, and sums stay exact.
   "3.0" is how pandas writes a column of whole numbers. */
static int64_t cell_count(const struct row *r, long column) {
    const char *text = cell(r, column);
    size_t n = strspn(text, "0123456789"), end = n;
    if (text[n] == '.') end += 1 + strspn(text + n + 1, "0");
    if (n == 0 || n > 16 || text[end])
        cell_error(r, column, "a whole number");
    int64_t value = strtoll(text, NULL, 10);
    if (value > MOST) cell_error(r, column, "a number up to 2^53");
    return value;
}

static double cell_real(const struct row *r, long column) {
    double value;
    if (!gm_is_double(cell(r, column), -DBL_MAX, DBL_MAX, &value))
        cell_error(r, column, "a finite number");
    return value;
}

/* "-", or no such column. */
static bool is_absent(const struct row *r, long column) {
    return column < 0 || strcmp(cell(r, column), "-") == 0;
}

/* Column `name`, which there must be. */
static long need_column(const gm_table *table, const char *name) {
    long column = gm_table_column(table, name);
    if (column < 0) gm_bad(table->path, "no column \"%s\"", name);
    return column;
}

/* A column as an array of texts, or NULL. */
static const char **text_column(gm_arena *arena, const gm_table *table,
                                const char *name) {
    const long column = gm_table_column(table, name);
    if (column < 0) return NULL;
    const char **out = gm_alloc(arena, (size_t)table->rows, sizeof *out);
    for (long m = 0; m < table->rows; m++)
        out[m] = table->cell[m * table->columns + column];
    return out;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const gm_named *)a)->name, ((const gm_named *)b)->name);
}

gm_named *gm_names_sort(gm_arena *arena, const char *path,
                        const char *const *name, long count) {
    gm_named *list = gm_alloc(arena, (size_t)count, sizeof *list);
    for (long i = 0; i < count; i++) list[i] = (gm_named){name[i], i};
    qsort(list, (size_t)count, sizeof *list, by_name);
    for (long i = 1; i < count && path; i++)
        if (by_name(&list[i - 1], &list[i]) == 0)
            gm_bad(path, "module %s appears twice", list[i].name);
    return list;
}

long gm_names_find(const gm_named *sorted, long count, const char *name) {
    const gm_named key = {name, 0};
    const gm_named *found = bsearch(&key, sorted, (size_t)count, sizeof key,
                                    by_name);
    return found ? found->at : -1;
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

const char **gm_table_modules(gm_arena *arena, const gm_table *table) {
    const size_t tail = strlen(".weight");
    const char **name = text_column(arena, table, "module");
    if (!name) name = text_column(arena, table, "name");
    gm_arena scratch = {0};
    if (!name) gm_bad(table->path, "no column \"module\" or \"name\"");
    if (table->rows == 0) gm_bad(table->path, "no modules");
    for (long m = 0; m < table->rows; m++) {
        gm_name_check(table->path, "module", name[m]);
        if (!*name[m] || *name[m] == '#')   /* written, that begins a key */
            gm_bad(table->path, "line %ld: %s module name", table->line[m],
                   *name[m] ? "# before a" : "empty");
        size_t n = strlen(name[m]);
        while (n > tail && strncmp(name[m] + n - tail, ".weight", tail) == 0)
            n -= tail;
        name[m] = gm_format(arena, "%.*s", (int)n, name[m]);
    }
    gm_names_sort(&scratch, table->path, name, table->rows);
    gm_arena_free(&scratch);
    return name;
}

/* --------------------------------------------------------------- scores.tsv */

void gm_scores_new(gm_arena *arena, long M, int K, const int *bits,
                   gm_scores *out) {
    size_t m = (size_t)M, cells = m * (size_t)K;
    *out = (gm_scores){.path = "scores", .M = M, .K = K};
    memcpy(out->bits, bits, (size_t)K * sizeof *bits);
    for (int k = 0; k < K; k++)
        snprintf(out->label[k], GM_LABEL, "%d", bits[k]);
    out->name = gm_alloc(arena, m, sizeof *out->name);
    out->out = gm_alloc(arena, m, sizeof *out->out);
    out->in = gm_alloc(arena, m, sizeof *out->in);
    out->weights = gm_alloc(arena, m, sizeof *out->weights);
    out->bytes = gm_alloc(arena, cells, sizeof *out->bytes);
    out->score = gm_alloc(arena, cells, sizeof *out->score);
    out->error = gm_alloc(arena, cells, sizeof *out->error);
    gm_keys_set(arena, &out->keys, "format", "gamma-scores 1");
}

/* Columns of `at` in each row of x [M, K]; both types are of 8 bytes. */
static void permute(gm_arena *arena, long M, int K, const int *at, void *x) {
    int64_t *row = x, *was = gm_alloc(arena, (size_t)K, sizeof *was);
    for (long m = 0; m < M; m++, row += K) {
        memcpy(was, row, (size_t)K * sizeof *was);
        for (int k = 0; k < K; k++) row[k] = was[at[k]];
    }
}

void gm_scores_sort(gm_arena *arena, gm_scores *s) {
    const gm_scores was = *s;
    int at[GM_MAX_CANDIDATES];
    for (int k = 0; k < s->K; k++) {
        int place = 0;                  /* how many come before it */
        for (int j = 0; j < s->K; j++) {
            int order = was.bits[j] - was.bits[k];
            if (!order) order = strcmp(was.label[j], was.label[k]);
            place += order < 0 || (!order && j < k);
        }
        at[place] = k;
        s->bits[place] = was.bits[k];
        memcpy(s->label[place], was.label[k], GM_LABEL);
    }
    permute(arena, s->M, s->K, at, s->bytes);
    permute(arena, s->M, s->K, at, s->score);
    permute(arena, s->M, s->K, at, s->error);
    for (int a = 0; a < s->anchors; a++)
        permute(arena, s->M, s->K, at, s->anchor[a].score);
}

static void write_scores_row(gm_out *out, const gm_scores *s, long m) {
    gm_out_print(out, "%s\t%" PRId64 "\t%" PRId64 "\t%" PRId64,
                 s->name[m], s->out[m], s->in[m], s->weights[m]);
    for (long i = m * s->K; i < (m + 1) * s->K; i++) {
        if (s->bytes[i] < 0) {
            gm_out_print(out, "\t-\t-\t-");
            continue;
        }
        gm_out_print(out, "\t%" PRId64 "\t%s\t%s", s->bytes[i],
                     gm_double_text(s->score[i]).text, s->error[i] < 0 ? "-"
                     : gm_double_text(s->error[i]).text);
    }
    for (int a = 0; a < s->anchors; a++)
        for (long i = m * s->K; i < (m + 1) * s->K; i++)
            gm_out_print(out, "\t%s", s->bytes[i] < 0 ? "-"
                         : gm_double_text(s->anchor[a].score[i]).text);
    gm_out_print(out, "\n");
}

void gm_scores_write(gm_arena *arena, const char *path,
                     const gm_scores *scores) {
    gm_out out;
    gm_keys keys = scores->keys;
    const char *list = "";
    gm_keys_set(arena, &keys, "weights", "%" PRId64, scores->N);
    gm_keys_set(arena, &keys, "overhead_bytes", "%" PRId64, scores->overhead);
    for (int a = 0; a < scores->anchors; a++) {
        const gm_anchor *x = &scores->anchor[a];
        list = gm_format(arena, "%s%s%s %" PRId64 " %" PRId64 " %" PRId64,
                         list, a ? ", " : "", x->text, x->at[GM_BITS],
                         x->at[GM_EBITS], x->at[GM_BYTES]);
    }
    if (*list) gm_keys_set(arena, &keys, "anchors", "%s", list);
    list = "";
    for (int k = 0; k < scores->K; k++)
        if (scores->label[k][0] >= 'a')
            list = gm_format(arena, "%s%s%s=%d", list, *list ? " " : "",
                             scores->label[k], scores->bits[k]);
    if (*list) gm_keys_set(arena, &keys, "label_bits", "%s", list);
    gm_out_open(arena, path, &out);
    write_keys(&out, &keys);
    gm_out_print(&out, "module\tout\tin\tweights");
    for (int k = 0; k < scores->K; k++)
        gm_out_print(&out, "\t%s.bytes\t%s.score\t%s.stderr",
                     scores->label[k], scores->label[k], scores->label[k]);
    for (int i = 0; i < scores->anchors * scores->K; i++)
        gm_out_print(&out, "\t%s.score@%s", scores->label[i % scores->K],
                     scores->anchor[i / scores->K].text);
    gm_out_print(&out, "\n");
    for (long m = 0; m < scores->M; m++)
        write_scores_row(&out, scores, m);
    gm_out_commit(&out);
}

static long candidate_column(const gm_table *table, const char *label,
                             const char *what) {
    char name[GM_LABEL + 16];
    snprintf(name, sizeof name, "%.*s.%s", GM_LABEL - 1, label, what);
    return gm_table_column(table, name);
}

/* "q4_0=4 q8_0=8" behind the K candidates that there are.  Columns of a label
   that is none of these would be lost without a word. */
static int find_labels(gm_arena *arena, const gm_table *table, int K, int *bits,
                       char (*label)[GM_LABEL]) {
    const char *given = gm_table_key(table, "label_bits");
    char *list = given ? gm_format(arena, "%s", given) : NULL;
    for (char *item; (item = strsep(&list, " "));) {
        const size_t n = strcspn(item, "=");
        long b = 0;
        bool good = K < GM_MAX_CANDIDATES && gm_is_label(item, n) && item[n] &&
                    gm_is_long(item + n + 1, 1, 32, &b);
        item[n] = 0;
        for (int k = 0; k < K; k++) good = good && strcmp(label[k], item) != 0;
        if (!good)
            gm_bad(table->path, "label_bits: expected labels that differ and "
                   "their bits, such as q4_0=4 q8_0=8, at most %d candidates, "
                   "found \"%s\"", GM_MAX_CANDIDATES, given);
        strcpy(label[K], item);
        bits[K++] = (int)b;
    }
    for (long c = 0; c < table->columns; c++) {
        const size_t n = strcspn(table->column[c], ".");
        char name[GM_LABEL];
        int k = 0;
        if (strcmp(table->column[c] + n, ".score") != 0 ||
            !gm_is_label(table->column[c], n)) continue;
        snprintf(name, sizeof name, "%.*s", (int)n, table->column[c]);
        while (k < K && strcmp(label[k], name) != 0) k++;
        if (k == K && candidate_column(table, name, "bytes") >= 0)
            gm_bad(table->path, "column %s.score: expected its code bits in a "
                   "line \"# label_bits %s=4\", found none", name, name);
    }
    return K;
}

/* Candidates are the columns "b.bytes" or "b.score", in ascending b, and those
   of labels.  Their number. */
static int find_candidates(gm_arena *arena, const gm_table *table, int *bits,
                           char (*label)[GM_LABEL]) {
    bool there[33] = {false};
    int K = 0;
    for (long c = 0; c < table->columns; c++) {
        char *end;
        const long b = strtol(table->column[c], &end, 10);
        if (end == table->column[c] ||
            (strcmp(end, ".bytes") != 0 && strcmp(end, ".score") != 0))
            continue;
        if (b >= 1 && b <= 32) K += !there[b];
        if (b < 1 || b > 32 || K > GM_MAX_CANDIDATES)
            gm_bad(table->path, "column %s: expected bits from 1 to 32 and at "
                   "most %d candidates", table->column[c], GM_MAX_CANDIDATES);
        there[b] = true;
    }
    for (int b = 1, k = 0; b <= 32; b++) {
        if (!there[b]) continue;
        snprintf(label[k], GM_LABEL, "%d", b);
        bits[k++] = b;
    }
    K = find_labels(arena, table, K, bits, label);
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

/* Where a table has what it says of candidates, or -1. */
struct columns { long bytes, score, error; };

/* Candidate k of row m; "-" in its first column: the module lacks it.  Stored
   bytes that a file of another tool does not say are those of the packed
   layout; without shape, of the codes alone. */
static void read_candidate(const struct row *r, const struct columns *c,
                           gm_scores *s, int k, long group) {
    const long m = r->m, i = m * s->K + k;
    const int b = s->bits[k];
    s->bytes[i] = -1;
    s->error[i] = -1;
    if (is_absent(r, c->bytes < 0 ? c->score : c->bytes)) return;
    s->bytes[i] = c->bytes >= 0 ? cell_count(r, c->bytes)
                : s->out[m] && s->in[m]
                ? gm_packed_bytes(s->out[m], s->in[m], b, group)
                : stream_bytes(s->weights[m], b);
    s->score[i] = cell_real(r, c->score);
    if (is_absent(r, c->error)) return;
    s->error[i] = cell_real(r, c->error);
    if (s->error[i] < 0) cell_error(r, c->error, "a standard error >= 0");
}

/* out, in and weights; the last may follow from the others. */
static void read_shape(const struct row *r, gm_scores *s) {
    int64_t *into[3] = {&s->out[r->m], &s->in[r->m], &s->weights[r->m]};
    static const char *const side[3] = {"out", "in", "weights"};
    int64_t product;
    long column = -1;
    for (int j = 0; j < 3; j++)
        if ((column = gm_table_column(r->table, side[j])) >= 0)
            *into[j] = cell_count(r, column);
    if (__builtin_mul_overflow(*into[0], *into[1], &product) || product > MOST)
        gm_bad(r->table->path, "more than 2^53 weights");
    if (column < 0) *into[2] = product;
    if (*into[2] > 0) return;
    if (column < 0) column = gm_table_column(r->table, side[*into[0] != 0]);
    cell_error(r, column, "at least 1");
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

static void read_modules(const gm_table *table, const struct columns *columns,
                         gm_scores *s) {
    const long group = key_long(table, "group", 1, GM_MAX_GROUP, 128);
    int64_t bytes = 0;
    for (long m = 0; m < s->M; m++) {
        const struct row r = {table, m, s->name[m]};
        int64_t largest = -1;
        read_shape(&r, s);
        for (int k = 0; k < s->K; k++) {
            read_candidate(&r, &columns[k], s, k, group);
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

/* Key `name`, a number of each anchor; of no key -1. */
static void read_list(gm_arena *arena, const gm_table *table, const char *name,
                      gm_scores *s, size_t field) {
    const char *given = gm_table_key(table, name);
    char *list = given ? gm_format(arena, "%s", given) : NULL;
    for (int i = 0; i < s->anchors; i++) {
        double *x = (double *)((char *)&s->anchor[i] + field);
        const char *text = list ? strsep(&list, ",") : "-1";
        text += strspn(text, " ");
        if (!gm_is_double(text, -DBL_MAX, DBL_MAX, x) || (given &&
            !list != (i == s->anchors - 1)))
            gm_bad(table->path, "%s: expected a number of each of %d anchors, "
                   "found \"%s\"", name, s->anchors, given);
    }
}

/* "3 CODE_BITS EFFECTIVE_BITS FILE_BYTES, 3.5 ..." and the columns of each. */
static void read_anchors(gm_arena *arena, const gm_table *table, gm_scores *s) {
    const char *given = gm_table_key(table, "anchors");
    static const char *const of[] = {"kl_gain", "kl_gain_error", "scores_at"};
    for (int i = given ? 2 : 0; i < 3; i++)
        if (gm_table_key(table, of[i]))
            gm_bad(table->path, "%s: expected %s, found \"%s\"", of[i], i < 2
                   ? "anchors that it is of" : "it in allocations alone",
                   gm_table_key(table, of[i]));
    if (!given) return;
    char *list = gm_format(arena, "%s", given), *next = list;
    s->anchor = gm_alloc(arena, strlen(given), sizeof *s->anchor);
    while ((list = strsep(&next, ","))) {
        gm_anchor *x = &s->anchor[s->anchors++];
        list += strspn(list, " ");
        bool good = *(x->text = strsep(&list, " "));
        for (int c = GM_BITS; c <= GM_BYTES; c++) {
            const char *text = list ? strsep(&list, " ") : "";
            long at = -1;
            good = gm_is_long(text, 0, MOST, &at) && good &&
                   (s->anchors == 1 || (at >= x[-1].at[c] &&
                                        strcmp(x->text, x[-1].text) != 0));
            x->at[c] = at;
        }
        if (!good || list)
            gm_bad(table->path, "anchors: expected \"BUDGET CODE_BITS "
                   "EFFECTIVE_BITS FILE_BYTES, ...\", none of which falls, "
                   "found \"%s\"", given);
    }
    read_list(arena, table, "kl_gain", s, offsetof(gm_anchor, gain));
    read_list(arena, table, "kl_gain_error", s, offsetof(gm_anchor, error));
    const char *gain = gm_table_key(table, "kl_gain");
    const char *error = gm_table_key(table, "kl_gain_error");
    for (gm_anchor *x = s->anchor; x < s->anchor + s->anchors; x++) {
        if (!gain != !error || (error && x->error < 0))
            gm_bad(table->path, "kl_gain_error: expected numbers >= 0 beside "
                   "kl_gain, found \"%s\" beside \"%s\"",
                   error ? error : "none", gain ? gain : "none");
        x->score = gm_alloc(arena, (size_t)(s->M * s->K), sizeof *x->score);
        for (int k = 0; k < s->K; k++) {
            const long column = need_column(table, gm_format(arena,
                "%s.score@%s", s->label[k], x->text));
            for (long m = 0; m < s->M; m++)
                if (s->bytes[m * s->K + k] >= 0)
                    x->score[m * s->K + k] = cell_real(
                        &(struct row){table, m, s->name[m]}, column);
        }
    }
}

void gm_scores_read(gm_arena *arena, const char *path, gm_scores *out) {
    gm_table table;
    int bits[GM_MAX_CANDIDATES];
    char label[GM_MAX_CANDIDATES][GM_LABEL];
    struct columns columns[GM_MAX_CANDIDATES];
    read_table(arena, path, "gamma-scores 1", &table);
    const int K = find_candidates(arena, &table, bits, label);
    const char **name = gm_table_modules(arena, &table);
    bool shaped = gm_table_column(&table, "out") >= 0 &&
                  gm_table_column(&table, "in") >= 0;
    if (!shaped) need_column(&table, "weights");
    for (int k = 0; k < K; k++) {
        columns[k] = (struct columns){
            candidate_column(&table, label[k], "bytes"),
            candidate_column(&table, label[k], "score"),
            candidate_column(&table, label[k], "stderr")};
        const bool bare = *label[k] >= 'a' && columns[k].bytes < 0;
        if (columns[k].score < 0 || bare)
            gm_bad(path, "no column \"%s.%s\"", label[k],
                   bare ? "bytes" : "score");
    }
    gm_scores_new(arena, table.rows, K, bits, out);
    memcpy(out->label, label, (size_t)K * sizeof *label);
    out->path = table.path;
    out->name = name;
    out->keys = table.keys;
    read_modules(&table, columns, out);
    read_anchors(arena, &table, out);
    gm_scores_sort(arena, out);
    /* where neither bytes nor shapes are given, a key says so */
    if (!shaped && columns[0].bytes < 0)
        gm_keys_set(arena, &out->keys, "sizes", "codes");
    out->overhead = key_long(&table, "overhead_bytes", 0, MOST, 0);
    const long N = key_long(&table, "weights", 1, MOST, out->N);
    if (N != out->N)
        gm_bad(path, "weights: the header says %ld, the modules sum to %"
               PRId64, N, out->N);
}

/* ---------------------------------------------------------------- alloc.tsv */

const gm_known_key gm_alloc_keys[] = {
    {"format", GM_KEY_FILE, "gamma-alloc 1"}, {"version", GM_KEY_FILE, NULL},
    {"model", GM_KEY_SCORES, NULL}, {"model_hash", GM_KEY_SCORES, NULL},
    {"calibration", GM_KEY_SCORES, NULL},
    {"calibration_hash", GM_KEY_SCORES, NULL},
    {"candidates", GM_KEY_SCORES, NULL},
    {"candidates_hash", GM_KEY_SCORES, NULL}, {"sizes", GM_KEY_SCORES, NULL},
    {"scores_at", GM_KEY_SCORES, NULL}, {"overhead_given", GM_KEY_SCORES, NULL},
    {"convention", GM_KEY_PROOF, "bits|ebits|bytes"},
    {"budget_asked", GM_KEY_PROOF, NULL}, {"budget", GM_KEY_PROOF, NULL},
    {"relation", GM_KEY_PROOF, "<=|="}, {"modules", GM_KEY_PROOF, NULL},
    {"weights", GM_KEY_PROOF, NULL}, {"overhead_bytes", GM_KEY_PROOF, NULL},
    {"code_bits", GM_KEY_PROOF, NULL}, {"effective_bits", GM_KEY_PROOF, NULL},
    {"file_bytes", GM_KEY_PROOF, NULL},
    {"average_code_bits", GM_KEY_PROOF, NULL},
    {"average_effective_bits", GM_KEY_PROOF, NULL},
    {"size", GM_KEY_PROOF, NULL}, {"slack", GM_KEY_PROOF, NULL},
    {"score_shift", GM_KEY_PROOF, NULL}, {"objective", GM_KEY_PROOF, NULL},
    {"bound", GM_KEY_PROOF, NULL}, {"gap", GM_KEY_PROOF, NULL},
    {"objective_real", GM_KEY_PROOF, NULL},
    {"rounding_error", GM_KEY_PROOF, NULL}, {"lp_bound", GM_KEY_PROOF, NULL},
    {"multiplier_num", GM_KEY_PROOF, NULL},
    {"multiplier_den", GM_KEY_PROOF, NULL}, {"places.", GM_KEY_ROW, NULL},
    {"limit.", GM_KEY_ROW, NULL}, {"multiplier_num.", GM_KEY_ROW, NULL},
    {"optimal", GM_KEY_PROOF, "proven|not proven|not proven: rounding"},
    {"ties", GM_KEY_PROOF,
     "smallest size, then fewest bits in module order: proven|any optimum"},
    {"solvers", GM_KEY_PROOF,
     "dynamic program and GLPK agree|dynamic program; GLPK did not finish|"
     "GLPK; the dynamic program did not finish|dynamic program|GLPK|"
     "enumeration|enumeration after GLPK"},
    {"glpk_version", GM_KEY_GLPK, NULL}, {NULL, GM_KEY_FILE, NULL}};

void gm_allocation_write(gm_arena *arena, const char *path,
                         const gm_allocation *a) {
    gm_out out;
    gm_out_open(arena, path, &out);
    write_keys(&out, &a->keys);
    gm_out_print(&out, "module\tbits\tbytes%s%s%s\n",
                 a->label ? "\tlabel" : "", a->allowed ? "\tallowed" : "",
                 a->fused ? "\tfused" : "");
    for (long m = 0; m < a->M; m++) {
        gm_out_print(&out, "%s\t%d", a->name[m], a->bits[m]);
        if (a->bytes[m] < 0) gm_out_print(&out, "\t-");
        else gm_out_print(&out, "\t%" PRId64, a->bytes[m]);
        if (a->label) gm_out_print(&out, "\t%s", a->label[m]);
        if (a->allowed) gm_out_print(&out, "\t%s", a->allowed[m]);
        if (a->fused) gm_out_print(&out, "\t%s", a->fused[m]);
        gm_out_print(&out, "\n");
    }
    gm_out_commit(&out);
}

void gm_allocation_read(gm_arena *arena, const char *path, gm_allocation *out) {
    gm_table table;
    read_table(arena, path, "gamma-alloc 1", &table);
    *out = (gm_allocation){.path = table.path, .M = table.rows,
                           .keys = table.keys, .line = table.line};
    out->name = gm_table_modules(arena, &table);
    const char *known = gm_table_column(&table, "module") >= 0
        ? "module,bits,bytes,label,allowed,fused"
        : "name,bits,bytes,label,allowed,fused";
    const long bits = need_column(&table, "bits");
    const long bytes = gm_table_column(&table, "bytes");
    const size_t n = (size_t)table.rows;
    for (long i = 0; i < table.columns; i++)
        if (!gm_name_matches(known, table.column[i]))
            out->other = table.column[i];
    out->bits = gm_alloc(arena, n, sizeof *out->bits);
    out->bytes = gm_alloc(arena, n, sizeof *out->bytes);
    out->label = text_column(arena, &table, "label");
    out->allowed = text_column(arena, &table, "allowed");
    out->fused = text_column(arena, &table, "fused");
    for (long m = 0; m < out->M; m++) {
        const struct row r = {&table, m, out->name[m]};
        const int64_t b = cell_count(&r, bits);
        if (b < 1 || b > 32) cell_error(&r, bits, "1 to 32");
        out->bits[m] = (int)b;
        out->bytes[m] = is_absent(&r, bytes) ? -1 : cell_count(&r, bytes);
    }
}

void gm_overhead_give(gm_arena *arena, const char *from, const char *text,
                      gm_scores *s) {
    long bytes;
    if (!text) return;
    if (!gm_is_long(text, 0, MOST, &bytes))
        gm_bad(from, "overhead_given: expected a whole number of bytes up to "
               "2^53, found \"%s\"", text);
    for (gm_anchor *x = s->anchor; x < s->anchor + s->anchors; x++)
        x->at[GM_BYTES] += bytes - s->overhead;
    s->overhead = bytes;
    gm_keys_set(arena, &s->keys, "overhead_given", "%ld", bytes);
}

/* "line 5: " of a row of a file, else "". */
static gm_shown line_of(const gm_allocation *a, long row) {
    gm_shown text = {""};
    if (a->line) snprintf(text.text, sizeof text, "line %ld: ", a->line[row]);
    return text;
}

/* Module m's candidate of these bits; of this label, "-": none, in any case, as
   spreadsheets write TRUE; or, label NULL, whichever there is.  Else -1. */
static int find_candidate(const gm_scores *s, long m, int bits,
                          const char *label, int from) {
    char number[16];
    snprintf(number, sizeof number, "%d", bits);
    if (label && strcmp(label, "-") == 0) label = number;
    for (int k = from; k < s->K; k++)
        if (s->bits[k] == bits && s->bytes[m * s->K + k] >= 0 &&
            (!label || strcasecmp(s->label[k], label) == 0))
            return k;
    return -1;
}

/* The candidate of scores' module m with the bits and label of row `from`. */
static int match_bits(const gm_allocation *a, const gm_scores *s, long from,
                      long m, const char *label) {
    const char *sizes = gm_keys_get(&a->keys, "sizes");
    const char *theirs = gm_keys_get(&s->keys, "sizes");
    const int k = find_candidate(s, m, a->bits[from], label, 0);
    const int other = label || k < 0 ? -1 :
                      find_candidate(s, m, a->bits[from], NULL, k + 1);
    const bool named = label && strcmp(label, "-") != 0;
    if (k < 0)
        gm_bad(a->path, "%smodule %s: %s has no candidate %s%sof %d bits for "
               "it", line_of(a, from).text, s->name[m], s->path,
               named ? label : "", named ? " " : "", a->bits[from]);
    if (other >= 0)
        gm_bad(a->path, "%smodule %s: %s has %s and %s of %d bits for it: "
               "expected a column label", line_of(a, from).text, s->name[m],
               s->path, s->label[k], s->label[other], a->bits[from]);
    const int64_t bytes = s->bytes[m * s->K + k];
    if (a->bytes[from] >= 0 && a->bytes[from] != bytes &&
        !(sizes && (strcmp(sizes, "codes") == 0 || !theirs ||
                    strcmp(sizes, theirs) != 0)))
        gm_bad(a->path, "%smodule %s at %s: %" PRId64 " bytes, but %s says %"
               PRId64, line_of(a, from).text, s->name[m],
               gm_called(s->bits[k], s->label[k]).text, a->bytes[from],
               s->path, bytes);
    return k;
}

/* Both name lists sorted, walked side by side. */
void gm_allocation_match(const gm_allocation *a, const gm_scores *scores,
                         int *choice) {
    gm_arena arena = {0};
    gm_named *x = gm_names_sort(&arena, NULL, a->name, a->M);
    gm_named *y = gm_names_sort(&arena, NULL, scores->name,
                                scores->M);
    for (long i = 0; i < a->M || i < scores->M; i++) {
        int order = i == a->M ? 1 : i == scores->M ? -1 : by_name(&x[i], &y[i]);
        if (order < 0)
            gm_bad(a->path, "%smodule %s is not in %s",
                   line_of(a, x[i].at).text, x[i].name, scores->path);
        if (order > 0)
            gm_bad(a->path, "module %s of %s is missing", y[i].name,
                   scores->path);
        choice[y[i].at] = match_bits(a, scores, x[i].at, y[i].at,
                                     a->label ? a->label[x[i].at] : NULL);
    }
    gm_arena_free(&arena);
}

/* ------------------------------------------------------- sizes and budgets */

gm_sizes gm_sizes_of(const gm_scores *scores, const int *choice) {
    gm_sizes sizes = {.file_bytes = scores->overhead};
    for (long m = 0; m < scores->M; m++) {
        const long at = m * scores->K + choice[m];
        const int64_t bytes = scores->bytes[at];
        sizes.score += scores->score[at];
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

int gm_convention_of(const char *name) {
    return name ? gm_name_which("bits,ebits,bytes", name) : -1;
}

bool gm_is_bytes(const char *text, int64_t *out) {
    static const struct { const char *suffix; int64_t unit; } table[] = {
        {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
        {"KB", 1000}, {"MB", 1000000}, {"GB", 1000000000},
        {"K", 1000}, {"M", 1000000}, {"G", 1000000000}, {"B", 1}, {"", 1}};
    const size_t n = strcspn(text, "KMGB");
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(text + n, table[i].suffix) == 0)
            return gm_is_scaled(text, n, table[i].unit, out) && *out > 0;
    return false;
}

bool gm_is_budget(const char *text, gm_convention convention, int64_t N,
                  int64_t *limit) {
    return convention == GM_BYTES ? gm_is_bytes(text, limit)
         : gm_is_scaled(text, strlen(text), N, limit) && *limit > 0;
}

gm_budget gm_budget_parse(const gm_scores *scores, gm_convention convention,
                          const char *text) {
    gm_budget budget = {convention, 0, text};
    if (!gm_is_budget(text, convention, scores->N, &budget.limit))
        gm_fail(GM_EUSAGE, "budget: expected a positive decimal number of %s, "
                "found \"%s\"", convention == GM_BYTES ?
                "bytes, such as 50000000, 50M or 47.5MiB" :
                "bits per weight, such as 2.5", text);
    return budget;
}

/* Cell j of an anchor, 1 : 2 : 1 with its neighbours; at an end 3 : 1. */
static double smoothed(const gm_scores *s, const gm_anchor *x, long j) {
    const gm_anchor *first = s->anchor, *last = first + s->anchors - 1;
    const gm_anchor *below = x > first ? x - 1 : x;
    const gm_anchor *above = x < last ? x + 1 : x;
    return 0.5 * x->score[j] + 0.25 * (below->score[j] + above->score[j]);
}

const gm_scores *gm_scores_at(gm_arena *arena, const gm_scores *scores,
                              const gm_budget *budget) {
    const gm_convention in = budget->convention;
    const long cells = scores->M * scores->K;
    int i = 0;
    if (!scores->anchors) return scores;
    while (i < scores->anchors - 1 && scores->anchor[i].at[in] < budget->limit)
        i++;
    const gm_anchor *b = &scores->anchor[i];
    const gm_anchor *a = i && budget->limit < b->at[in] ? b - 1 : b;
    const double t = a == b ? 0 : (double)(budget->limit - a->at[in]) /
                                  (double)(b->at[in] - a->at[in]);
    gm_scores *out = gm_alloc(arena, 1, sizeof *out);
    *out = *scores;
    gm_keys *keys = &out->keys;         /* of its own: one is added */
    keys->room = keys->count;
    keys->key = gm_grow(arena, keys->key, keys->count, &keys->room,
                        sizeof *keys->key);
    out->score = gm_alloc(arena, (size_t)cells, sizeof *out->score);
    const bool learned = !(t <= 0.5 && gm_anchor_stands(a)) &&
                         !(t >= 0.5 && gm_anchor_stands(b));
    for (long j = 0; j < cells; j++)
        out->score[j] = learned ? scores->score[j]
                      : (1 - t) * smoothed(scores, a, j) +
                        t * smoothed(scores, b, j);
    gm_keys_set(arena, &out->keys, "scores_at", "%s%s%s%s%s", a->text,
                a == b ? "" : " to ", a == b ? "" : gm_format(
                    arena, "%s, t = %s", b->text, gm_double_text(t).text),
                learned ? ", " : "", learned ? "as learned" : "");
    return out;
}

/* ------------------------------------------------------------- measurements */

double gm_mean_error(long n, const double *x, const double *y,
                     const double *weight, double *error) {
    double mean = 0, squares = 0, all = 0;
    for (long i = 0; i < n; i++) all += weight ? weight[i] : 1;
    for (long i = 0; i < n; i++) {
        const double v = weight ? weight[i] * (double)n / all : 1;
        mean += v * (x[i] - (y ? y[i] : 0)) / (double)n;
    }
    for (long i = 0; i < n; i++) {
        const double v = weight ? weight[i] * (double)n / all : 1;
        const double e = v * (x[i] - (y ? y[i] : 0) - mean);
        squares += e * e;
    }
    *error = n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : 0;
    return mean;
}

void gm_measure_means(gm_measure *m) {
    const double *w = m->weight;
    m->nll = gm_mean_error(m->windows, m->window_nll, NULL, w, &m->nll_error);
    m->kl = gm_mean_error(m->windows, m->window_kl, NULL, w, &m->kl_error);
    m->top1 = gm_mean_error(m->windows, m->window_top1, NULL, w,
                            &m->top1_error);
    m->perplexity = gm_expd(m->nll);
}
