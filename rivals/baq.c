/* baq.c: BAQ (Zhang, Wang, Lasaulce, Debbah 2025, arXiv 2506.05664), a whole
   rival: bits for each input COLUMN of a linear.  Writes a file of dequantized
   weights, which formats/external.c reads, and a table beside it.

   GPTQ without groups moves the error of column j on as e_j = (w_j - q_j) /
   U_jj (gptq.c), so what the column costs is

     l_j = 1/2 sum_i (w_ij - q_ij)^2 / U_jj^2,

   and it falls as 2^(-2 R_j) with the column's bits R_j.  Least sum_j l_j at a
   given mean of R_j is where all are equal.  Pass 1: all columns at the rate
   R_ref give l_j.  Pass 2 (the published code's 1.95 where theory has 2):

     R_j = R_ref + (1/1.95) log2(l_j / GM(l)),  GM = exp(mean ln(l + 1e-8)),
     levels_j = round(2^R_j) >= 1,  R_j = log2 levels_j, and all again;

   one level: the column is pruned to its zero point, 0.  Row i has one range
   lo_i = min(0, min_j w_ij), hi_i = max(0, max_j w_ij) for all its columns:

     scale = (hi - lo) / (levels - 1),  zero = round(-lo / scale).

   Differences from the public code (CSU-ModelCompression/BAQ): ranges are
   rounded to fp16, as stored; at most 256 levels (there: codes above 1000 fall
   back to the row's mean); pass 1 too rounds 2^R_ref to whole levels; inputs
   are those of the original model in both passes (there: of the model as
   quantized so far); dead columns do not enter the damping; Hessian weights of
   gptq's are a choice; so is a common shift of all R_j that meets a budget.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "rivals.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { MOST_LEVELS = 256, TILE = 8 };       /* TILE: rows that share U's rows */

static const double LN2 = 0.69314718055994530942;

/* ------------------------------------------------------ columns of a weight */

/* lo and hi of a row as stored, short of it by no more than half a step of the
   finest columns; a row of zeros has -1 and 1, as published. */
static void row_range(long n, const gm_real *w, float *lo, float *hi) {
    *lo = *hi = 0;
    for (long j = 0; j < n; j++) {
        *lo = (float)w[j] < *lo ? (float)w[j] : *lo;
        *hi = (float)w[j] > *hi ? (float)w[j] : *hi;
    }
    const float half = (*hi - *lo) / (2 * (MOST_LEVELS - 1));
    *lo = -gm_f16_to_f32(gm_f16_reach(-*lo, half, false));
    *hi = gm_f16_to_f32(gm_f16_reach(*hi, half, false));
    if (*lo == 0 && *hi == 0) *lo = -1, *hi = 1;
}

/* q of one weight; its code into *code. */
static float round_one(float w, float lo, float hi, int levels, uint8_t *code) {
    const float top = (float)(levels - 1);
    *code = 0;
    if (levels == 1) return 0;
    float scale = (hi - lo) / top, zero = gm_nearest(-lo / scale);
    float c = gm_code(w, scale, zero, top);
    *code = (uint8_t)c;
    return (c - zero) * scale;
}

/* At most TILE rows through all columns: w_t -= e_j U_jt for t > j.  q holds
   w and turns into the result, column by column. */
static void round_rows(long rows, long in, const gm_factor *f,
                       const int *levels, gm_real *q, uint8_t *code,
                       double *loss) {
    float lo[TILE], hi[TILE];
    for (long r = 0; r < rows; r++) {
        for (long j = 0; j < in; j++)
            if (f->dead[j]) q[r * in + j] = 0;
        row_range(in, q + r * in, lo + r, hi + r);
    }
    for (long j = 0; j < in; j++) {
        const gm_real *u = f->U + j * in;
        double sum = 0;
        for (long r = 0; r < rows; r++) {
            gm_real *row = q + r * in;
            float x = round_one((float)row[j], lo[r], hi[r], levels[j],
                                code + r * in + j);
            float e = ((float)row[j] - x) / (float)u[j];
            for (long t = j + 1; t < in; t++) row[t] -= (gm_real)e * u[t];
            sum += (double)e * (double)e;
            row[j] = x;
        }
        loss[j] = sum / 2;
    }
}

void gm_baq_round(gm_arena *arena, const gm_real *w, long out, long in,
                  const gm_factor *factor, const int *levels, gm_real *q,
                  uint8_t *code, double *loss) {
    const long tiles = (out + TILE - 1) / TILE;
    gm_mark mark = gm_arena_mark(arena);
    double *part = gm_alloc(arena, (size_t)(tiles * in), sizeof *part);
    memcpy(q, w, (size_t)(out * in) * sizeof *q);
#pragma omp parallel for num_threads(gm_threads())
    for (long i = 0; i < tiles; i++)
        round_rows(gm_min(TILE, out - i * TILE), in, factor, levels,
                   q + i * TILE * in, code + i * TILE * in, part + i * in);
    for (long j = 0; j < in; j++) {
        loss[j] = 0;
        for (long i = 0; i < tiles; i++) loss[j] += part[i * in + j];
    }
    gm_arena_rewind(arena, mark);
}

/* -------------------------------------------------------------- allocation */

static double log2_of(double x) { return gm_logd(x) / LN2; }

static int whole_levels(double ln) {
    const double x = rint(gm_expd(ln));
    return x < 1 ? 1 : x > MOST_LEVELS ? MOST_LEVELS : (int)x;
}

void gm_baq_levels(long n, const double *loss, double rate, int *levels) {
    double mean = 0;
    for (long j = 0; j < n; j++) mean += gm_logd(loss[j] + 1e-8);
    mean /= (double)n;
    for (long j = 0; j < n; j++)
        levels[j] = loss[j] > 0
            ? whole_levels(rate * LN2 + (gm_logd(loss[j]) - mean) / 1.95) : 1;
}

/* The columns of one module; loss of pass 1, after: of pass 2. */
typedef struct { int *levels; double *loss, *after; } columns;

typedef struct {
    bool done;                  /* its files are there                        */
    const gm_model *model;
    const gm_baq_options *o;
    gm_arena *arena;
    gm_baq_report r;
    columns *column;            /* [M]                                        */
    char *words, *path, *table;
    gm_out file;                /* of pass 2                                  */
} baq;

/* What the levels mean, module by module and in all; the average that the rule
   limits.

   Stored are codes as rows of whole bits, padded to a byte; two fp16 a row; a
   byte a column unless all have the same levels. */
static double count_up(baq *b) {
    gm_baq_report *r = &b->r;
    double bits = 0, stored = 0;
    r->bytes = 0;
    for (long m = 0; m < r->M; m++) {
        gm_baq_module *x = &r->module[m];
        const int *levels = b->column[m].levels;
        double log2s = 0;
        long width = 0;
        bool same = true;
        x->pruned = x->clamped = 0;
        for (long j = 0; j < x->in; j++) {
            log2s += log2_of(levels[j]);
            for (int n = 1; n < levels[j]; n *= 2) width++;
            x->pruned += levels[j] == 1;
            x->clamped += levels[j] == MOST_LEVELS;
            same = same && levels[j] == levels[0];
        }
        x->bits = log2s / (double)x->in;
        int64_t bytes = x->out * ((width + 7) / 8 + 4) + (same ? 1 : x->in);
        x->bytes = (double)bytes;
        bits += (double)x->out * log2s;
        stored += (double)x->out * (double)width;
        r->bytes += bytes;
    }
    r->bits = bits / (double)r->weights;
    r->stored_bits = stored / (double)r->weights;
    r->effective_bits = 8 * (double)r->bytes / (double)r->weights;
    return b->o->rule == GM_BAQ_EBITS ? r->effective_bits : r->bits;
}

/* All levels with R_ref moved by `shift`; the average that gives. */
static double allocate(baq *b, double shift) {
    for (long m = 0; m < b->r.M; m++)
        gm_baq_levels(b->r.module[m].in, b->column[m].loss,
                      b->o->rate + shift, b->column[m].levels);
    b->r.shift = shift;
    return count_up(b);
}

/* The largest shift (to 2^-40) whose average is within the rate; the average
   grows with the shift. */
static void fit_rate(baq *b) {
    double low = -64, high = 64;
    double least = allocate(b, low);
    if (least > b->o->rate)
        gm_fail(GM_EINFEASIBLE, "--rate %g: with all columns pruned, ranges "
                "and levels still take %.4f bits per weight", b->o->rate,
                least);
    while (high - low > 0x1p-40) {
        double middle = low + (high - low) / 2;
        if (allocate(b, middle) <= b->o->rate) low = middle;
        else high = middle;
    }
    allocate(b, low);
}

/* Largest over smallest, and standard deviation of log2, of
   l_j 2^(2 (R_from - R_j)) where that is not zero; levels NULL: of l_j. */
static gm_baq_spread spread_of(long n, const double *loss, double from,
                               const int *levels) {
    double sum = 0, squares = 0, least = HUGE_VAL, most = -HUGE_VAL;
    long count = 0;
    for (long j = 0; j < n; j++) {
        if (!(loss[j] > 0)) continue;
        double x = log2_of(loss[j]);
        if (levels) x += 2 * (from - log2_of(levels[j]));
        sum += x;
        squares += x * x;
        count++;
        least = fmin(least, x);
        most = fmax(most, x);
    }
    if (!count) return (gm_baq_spread){1, 0};
    double mean = sum / (double)count;
    double variance = squares / (double)count - mean * mean;
    return (gm_baq_spread){gm_expd((most - least) * LN2),
                           variance > 0 ? sqrt(variance) : 0};
}

static void spreads(baq *b) {
    const double from = log2_of(whole_levels(b->o->rate * LN2));
    for (long m = 0; m < b->r.M; m++) {
        gm_baq_module *x = &b->r.module[m];
        const columns *c = b->column + m;
        const double *loss = b->o->rule == GM_BAQ_UNIFORM ? c->after : c->loss;
        x->before = spread_of(x->in, loss, 0, NULL);
        x->predicted = spread_of(x->in, loss, from, c->levels);
        x->after = spread_of(x->in, c->after, 0, NULL);
    }
}

/* -------------------------------------------------------------------- files */

static const char *module_name(const baq *b, long m) {
    return gm_linear_name(b->arena, m / GM_LINEARS, (int)(m % GM_LINEARS));
}

/* One tensor a module, and metadata that states each one's bytes.  The number
   in a tensor's name is R_ref as a whole number of bits. */
static void begin_file(baq *b) {
    gm_arena *a = b->arena;
    size_t M = (size_t)b->r.M;
    double bits = b->o->rate < 1 ? 1 : rint(b->o->rate);
    gm_tensor *t = gm_alloc(a, M, sizeof *t);
    const char **metadata = gm_alloc(a, 2 * M + 3, sizeof *metadata);
    metadata[0] = "baq", metadata[1] = b->words;
    for (size_t m = 0; m < M; m++) {
        const gm_baq_module *x = &b->r.module[m];
        t[m] = (gm_tensor){
            .name = gm_format(a, "%s.b%g", module_name(b, (long)m), bits),
            .dtype = GM_F32, .rank = 2, .shape = {x->out, x->in},
            .bytes = (size_t)(x->out * x->in) * sizeof(float)};
        metadata[2 * m + 2] = gm_format(a, "%s.bytes", t[m].name);
        metadata[2 * m + 3] = gm_format(a, "%.0f", x->bytes);
    }
    gm_safetensors_begin(a, b->path, t, b->r.M, metadata, 0, &b->file);
}

/* The table: a line for each number of the report, a column for each of a
   module; %.17g reads back exactly. */
static const char *const line_name[] = {"shift", "bits", "stored_bits",
                                        "effective_bits"};
static const char *const column_name[] = {
    "bits", "bytes", "pruned", "clamped", "before.ratio", "before.log2",
    "predicted.ratio", "predicted.log2", "after.ratio", "after.log2"};
enum { LINES = sizeof line_name / sizeof *line_name,
       COLUMNS = sizeof column_name / sizeof *column_name };

static void write_table(baq *b) {
    char hex[65];
    gm_out out;
    gm_file_hash(b->path, hex);
    gm_out_open(b->arena, b->table, &out);
    gm_out_print(&out, "# format gamma-baq 1\n# baq %s\n# weights_sha256 %s\n",
                 b->words, hex);
    for (int i = 0; i < LINES; i++)
        gm_out_print(&out, "# %s %.17g\n", line_name[i], b->r.number[i]);
    gm_out_print(&out, "module");
    for (int i = 0; i < COLUMNS; i++)
        gm_out_print(&out, "\t%s", column_name[i]);
    for (long m = 0; m < b->r.M; m++) {
        gm_out_print(&out, "\n%s", module_name(b, m));
        for (int i = 0; i < COLUMNS; i++)
            gm_out_print(&out, "\t%.17g", b->r.module[m].number[i]);
    }
    gm_out_print(&out, "\n");
    gm_out_commit(&out);
}

static void read_number(const gm_table *t, const char *name, const char *text,
                        double *out) {
    if (!text || !gm_is_double(text, -1e300, 1e300, out))
        gm_bad(t->path, "%s: expected a number, found \"%s\"", name,
               text ? text : "nothing");
}

/* The report of a file made before, which is still what was written. */
static void read_table(baq *b) {
    gm_baq_report *r = &b->r;
    gm_table t;
    char hex[65];
    gm_table_read(b->arena, b->table, &t);
    if (t.rows != r->M)
        gm_bad(b->table, "expected %ld modules, found %ld", r->M, t.rows);
    for (int i = 0; i < LINES; i++)
        read_number(&t, line_name[i], gm_table_key(&t, line_name[i]),
                    r->number + i);
    for (int i = 0; i < COLUMNS; i++) {
        const long c = gm_table_column(&t, column_name[i]);
        for (long m = 0; m < r->M; m++)
            read_number(&t, column_name[i],
                        c < 0 ? NULL : t.cell[m * t.columns + c],
                        r->module[m].number + i);
    }
    for (long m = 0; m < r->M; m++) r->bytes += (int64_t)r->module[m].bytes;
    const char *said = gm_table_key(&t, "weights_sha256");
    gm_file_hash(b->path, hex);
    if (!said || strcmp(said, hex) != 0)
        gm_bad(b->path, "damaged: expected SHA-256 %s (weights_sha256 of %s), "
               "found %s; remove it and it will be made again",
               said ? said : "none", b->table, hex);
}

/* ----------------------------------------------------------- the two passes */

/* Several at once: they share the sweeps over the blocks, the first of which
   only learns the losses. */
typedef struct {
    baq *list;
    int count;
    bool write;
    const gm_report *report;
} batch;

/* Uniform ones need no losses: their one pass is the second. */
static bool takes_part(const batch *all, const baq *b) {
    return !b->done && (all->write || b->o->rule != GM_BAQ_UNIFORM);
}

/* Module m, rounded with the levels as they are; in the second pass written. */
static void do_module(baq *b, long m, const gm_factor *factor, bool write) {
    gm_mark mark = gm_arena_mark(b->arena);
    const columns *c = b->column + m;
    const long out = b->r.module[m].out, in = b->r.module[m].in;
    const size_t count = (size_t)(out * in);
    gm_real *w = gm_alloc(b->arena, count, sizeof *w);
    gm_real *q = gm_alloc(b->arena, count, sizeof *q);
    uint8_t *code = gm_alloc(b->arena, count, sizeof(float));
    gm_tensor_read(gm_linear_tensor(b->model, m / GM_LINEARS,
                                    (int)(m % GM_LINEARS)), 0, out * in, w);
    gm_baq_round(b->arena, w, out, in, factor, c->levels, q, code,
                 write ? c->after : c->loss);
    if (write) {
        gm_store(GM_F32, q, (long)count, code);
        gm_out_write(&b->file, code, count * sizeof(float));
    }
    gm_arena_rewind(b->arena, mark);
}

/* The modules of input i of block l, for all of the batch. */
static void do_input(void *context, long l, int i, long n, const double *H) {
    static const int first[] = {GM_Q, GM_O, GM_GATE, GM_DOWN, GM_LINEARS};
    const batch *all = context;
    gm_arena *arena = all->list->arena;
    gm_factor factor;
    gm_mark mark = gm_arena_mark(arena);
    gm_gptq_factor(arena, n, H, all->list->o->damping, false, &factor);
    for (int j = first[i]; j < first[i + 1]; j++)
        for (int k = 0; k < all->count; k++)
            if (takes_part(all, &all->list[k]))
                do_module(&all->list[k], l * GM_LINEARS + j, &factor,
                          all->write);
    gm_arena_rewind(arena, mark);
    gm_say(all->report, "BAQ", l * 4 + i + 1,
           all->list->model->config.layers * 4);
}

/* From losses to levels to the head of the file. */
static void begin_second(baq *b) {
    count_up(b);
    if (b->o->rule == GM_BAQ_PUBLISHED) allocate(b, 0);
    if (b->o->rule > GM_BAQ_PUBLISHED) fit_rate(b);
    begin_file(b);
}

/* What the result depends on in words, whose hash names its files; room for
   it. */
static void prepare(gm_arena *a, gm_model *model, const gm_baq_options *o,
                    const gm_sequences *text, const char *dir, baq *b) {
    static const char *const rule[] = {"uniform", "published", "bits", "ebits"};
    const size_t M = (size_t)model->config.layers * GM_LINEARS;
    char tokens[65], hash[65];
    if (!(o->rate > 0 && o->rate <= 8))
        gm_fail(GM_EUSAGE, "--rate: expected more than 0 and at most 8 bits, "
                "found %g", o->rate);
    if (!text)
        gm_fail(GM_EUSAGE, "BAQ needs a calibration text: expected one, found "
                "none");
    if (!*model->hash) gm_model_hash(model);
    gm_sha_tokens(text->tokens, text->sequences, text->T, tokens);
    char *words = gm_format(
        a, "rate=%.17g rule=%s hessian=%s damping=%.17g model=%s tokens=%s "
        "S=%ld T=%ld", o->rate, rule[o->rule], gm_hessian_name[o->hessian],
        o->damping, model->hash, tokens, text->sequences, text->T);
    gm_sha_of(gm_format(a, "gamma_baq 1%c%s", 0, words), 12 + strlen(words),
              hash);
    *b = (baq){.model = model, .o = o, .arena = a, .r.M = (long)M,
               .words = words};
    b->r.module = gm_alloc(a, M, sizeof *b->r.module);
    b->column = gm_alloc(a, M, sizeof *b->column);
    b->path = gm_format(a, "%s/baq-%.12s.safetensors", dir, hash);
    b->table = gm_format(a, "%s/baq-%.12s.tsv", dir, hash);
    b->done = gm_exists(b->path) && gm_exists(b->table);
    for (size_t m = 0; m < M; m++) {
        gm_baq_module *x = b->r.module + m;
        columns *c = b->column + m;
        gm_linear_shape(&model->config, (int)(m % GM_LINEARS), &x->out, &x->in);
        b->r.weights += x->out * x->in;
        c->loss = gm_alloc(a, (size_t)x->in, sizeof *c->loss);
        c->after = gm_alloc(a, (size_t)x->in, sizeof *c->after);
        c->levels = gm_alloc(a, (size_t)x->in, sizeof *c->levels);
        for (long j = 0; j < x->in; j++)
            c->levels[j] = whole_levels(o->rate * LN2);
    }
}

void gm_baq_make(gm_arena *arena, gm_model *model,
                 const gm_baq_options *options, int count,
                 const gm_sequences *calibration, const char *dir,
                 const gm_report *report) {
    gm_mark mark = gm_arena_mark(arena);
    batch all = {gm_alloc(arena, (size_t)count, sizeof(baq)), count, false,
                 report};
    const gm_recipe recipe = {.quantizer = GM_GPTQ,
                              .hessian = options->hessian,
                              .weightless = options->weightless};
    gm_make_dir(dir);
    for (int k = 0; k < count; k++) {
        assert(options[k].hessian == options->hessian &&
               options[k].damping == options->damping);
        prepare(arena, model, options + k, calibration, dir, all.list + k);
    }
    for (int sweep = 0; sweep < 2; sweep++) {
        bool any = false;
        all.write = sweep == 1;
        for (int k = 0; k < count; k++) {
            if (all.write && !all.list[k].done) begin_second(all.list + k);
            any = any || takes_part(&all, all.list + k);
        }
        if (any)
            gm_hessians(arena, model, &recipe, calibration, do_input, &all);
    }
    for (int k = 0; k < count; k++) {
        if (all.list[k].done) continue;
        gm_out_commit(&all.list[k].file);
        spreads(all.list + k);
        write_table(all.list + k);
    }
    gm_arena_rewind(arena, mark);
}

gm_baq_report gm_baq_open(gm_arena *arena, gm_model *model,
                          const gm_baq_options *options,
                          const gm_sequences *calibration, const char *dir,
                          const gm_report *report) {
    baq b;
    gm_baq_make(arena, model, options, 1, calibration, dir, report);
    prepare(arena, model, options, calibration, dir, &b);
    read_table(&b);
    b.r.path = b.path;
    return b.r;
}
