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
#include <stdlib.h>
#include <string.h>

enum { MOST_LEVELS = 256, TILE = 8 };       /* TILE: rows that share U's rows */

static const double LN2 = 0.69314718055994530942;

/* ------------------------------------------------------ columns of a weight */

typedef struct {
    const gm_factor *f;
    const gm_real *w;
    const int *levels;
    long out, in;
    gm_real *q;
    uint8_t *code;
    double *loss;               /* [tiles, in] */
} column_job;

/* lo and hi of a row as stored; a row of zeros has -1 and 1, as published. */
static void row_range(long n, const gm_real *w, float *lo, float *hi) {
    *lo = *hi = 0;
    for (long j = 0; j < n; j++) {
        *lo = (float)w[j] < *lo ? (float)w[j] : *lo;
        *hi = (float)w[j] > *hi ? (float)w[j] : *hi;
    }
    *lo = gm_f16_to_f32(gm_f32_to_f16(*lo < -65504 ? -65504 : *lo));
    *hi = gm_f16_to_f32(gm_f32_to_f16(*hi > 65504 ? 65504 : *hi));
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

/* TILE rows through all columns: w_t -= e_j U_jt for t > j. */
static void tile_columns(void *context, long tile) {
    const column_job *job = context;
    const long in = job->in, first = tile * TILE;
    const long rows = job->out - first < TILE ? job->out - first : TILE;
    gm_real *w = job->q + first * in;       /* turns into q, column by column */
    float lo[TILE], hi[TILE];
    for (long r = 0; r < rows; r++) {
        for (long j = 0; j < in; j++)
            w[r * in + j] = job->f->dead[j] ? 0 : job->w[(first + r) * in + j];
        row_range(in, w + r * in, lo + r, hi + r);
    }
    for (long j = 0; j < in; j++) {
        const gm_real *u = job->f->U + j * in;
        double loss = 0;
        for (long r = 0; r < rows; r++) {
            gm_real *row = w + r * in;
            float q = round_one((float)row[j], lo[r], hi[r], job->levels[j],
                                job->code + (first + r) * in + j);
            float e = ((float)row[j] - q) / (float)u[j];
            for (long t = j + 1; t < in; t++) row[t] -= (gm_real)e * u[t];
            loss += (double)e * (double)e;
            row[j] = q;
        }
        job->loss[tile * in + j] = loss / 2;
    }
}

void gm_baq_round(gm_arena *arena, const gm_real *w, long out, long in,
                       const gm_factor *factor, const int *levels, gm_real *q,
                       uint8_t *code, double *loss) {
    const long tiles = (out + TILE - 1) / TILE;
    gm_mark mark = gm_arena_mark(arena);
    column_job job = {factor, w, levels, out, in, q, code,
                      gm_alloc(arena, (size_t)(tiles * in), sizeof(double))};
    gm_parallel(tiles, tile_columns, &job);
    for (long j = 0; j < in; j++) {
        loss[j] = 0;
        for (long i = 0; i < tiles; i++) loss[j] += job.loss[i * in + j];
    }
    gm_arena_rewind(arena, mark);
}

/* -------------------------------------------------------------- allocation */

static double log2_of(double x) { return gm_logd(x) / LN2; }

static int whole_levels(double ln) {
    if (ln <= 0) return 1;
    if (ln >= 6) return MOST_LEVELS;
    double x = rint(gm_expd(ln));
    return x > MOST_LEVELS ? MOST_LEVELS : (int)x;
}

void gm_baq_levels(long n, const double *loss, double rate, int *levels) {
    double mean = 0;
    for (long j = 0; j < n; j++) mean += gm_logd(loss[j] + 1e-8);
    mean /= (double)n;
    for (long j = 0; j < n; j++)
        levels[j] = loss[j] > 0
            ? whole_levels(rate * LN2 + (gm_logd(loss[j]) - mean) / 1.95) : 1;
}

static int code_width(int levels) {         /* ceil log2 levels */
    int bits = 0;
    while (1 << bits < levels) bits++;
    return bits;
}

/* Codes as rows of whole bits, padded to a byte; two fp16 a row; a byte a
   column unless all have the same levels. */
static int64_t stored_bytes(long out, long in, const int *levels) {
    int64_t bits = 0;
    bool same = true;
    for (long j = 0; j < in; j++) {
        bits += code_width(levels[j]);
        same = same && levels[j] == levels[0];
    }
    return out * ((bits + 7) / 8 + 4) + (same ? 1 : in);
}

/* ------------------------------------------------------------- whole model */

/* What the next sweep does with it: round for the losses, write, nothing. */
typedef enum { LEARN, WRITE, DONE } baq_state;

/* Columns of all modules stand in one row; module m's begin at at[m]. */
typedef struct {
    baq_state state;
    const gm_model *model;
    const gm_baq_options *o;
    gm_arena *arena;
    gm_baq_report *r;
    double *loss, *after;       /* [columns] of pass 1 and of pass 2          */
    int *levels;                /* [columns]                                  */
    long *at, columns, modules;
    char *words, *path, *table;
    gm_out file;                /* of pass 2                                  */
} baq;

/* Several at once: they share the sweep over the blocks. */
typedef struct { baq *list; int count; const gm_report *report; } batch;

static void baq_begin(gm_arena *arena, const gm_model *model,
                           const gm_baq_options *o, gm_baq_report *r, baq *b) {
    *b = (baq){.model = model, .o = o, .arena = arena, .r = r,
               .modules = model->config.layers * GM_LINEARS};
    b->at = gm_alloc(arena, (size_t)b->modules + 1, sizeof *b->at);
    r->M = b->modules;
    r->module = gm_alloc(arena, (size_t)b->modules, sizeof *r->module);
    for (long m = 0; m < b->modules; m++) {
        gm_baq_module *x = &r->module[m];
        gm_linear_shape(&model->config, (int)(m % GM_LINEARS), &x->out, &x->in);
        r->weights += x->out * x->in;
        b->at[m + 1] = b->columns += x->in;
    }
    size_t n = (size_t)b->columns;
    b->loss = gm_alloc(arena, n, sizeof *b->loss);
    b->after = gm_alloc(arena, n, sizeof *b->after);
    b->levels = gm_alloc(arena, n, sizeof *b->levels);
    for (long j = 0; j < b->columns; j++)
        b->levels[j] = whole_levels(o->rate * LN2);
}

/* Module m, rounded with the levels as they are; in the second pass written. */
static void baq_module(baq *b, long m, const gm_factor *factor) {
    gm_mark mark = gm_arena_mark(b->arena);
    const long out = b->r->module[m].out, in = b->r->module[m].in;
    const size_t count = (size_t)(out * in);
    double *loss = b->state == WRITE ? b->after : b->loss;
    gm_real *w = gm_alloc(b->arena, count, sizeof *w);
    gm_real *q = gm_alloc(b->arena, count, sizeof *q);
    uint8_t *code = gm_alloc(b->arena, count, sizeof(float));
    gm_tensor_read(gm_linear_tensor(b->model, m / GM_LINEARS,
                                                  (int)(m % GM_LINEARS)), 0,
                                 out * in, w);
    gm_baq_round(b->arena, w, out, in, factor, b->levels + b->at[m],
                             q, code, loss + b->at[m]);
    if (b->state == WRITE) {
        gm_store(GM_F32, q, (long)count, code);
        gm_out_write(&b->file, code, count * sizeof(float));
    }
    gm_arena_rewind(b->arena, mark);
}

/* The modules of input i of block l, for all of the batch. */
static void baq_input(void *context, long l, int i, long n,
                           const double *H) {
    static const int first[] = {GM_Q, GM_O, GM_GATE, GM_DOWN, GM_LINEARS};
    const batch *all = context;
    gm_arena *arena = all->list->arena;
    gm_factor factor;
    gm_mark mark = gm_arena_mark(arena);
    gm_gptq_factor(arena, n, H, all->list->o->damping, false,
                                 &factor);
    for (int j = first[i]; j < first[i + 1]; j++)
        for (int k = 0; k < all->count; k++)
            if (all->list[k].state != DONE)
                baq_module(&all->list[k], l * GM_LINEARS + j, &factor);
    gm_arena_rewind(arena, mark);
    gm_say(all->report, "BAQ", l * 4 + i + 1,
           all->list->model->config.layers * 4);
}

/* All levels with R_ref moved by `shift`; the average bits that gives. */
static double allocate(baq *b, double shift) {
    double total = 0;
    for (long m = 0; m < b->modules; m++) {
        gm_baq_module *x = &b->r->module[m];
        int *levels = b->levels + b->at[m];
        gm_baq_levels(x->in, b->loss + b->at[m], b->o->rate + shift, levels);
        double bits = 0;
        for (long j = 0; j < x->in; j++) bits += log2_of(levels[j]);
        total += b->o->rule == GM_BAQ_EBITS
            ? 8 * (double)stored_bytes(x->out, x->in, levels)
            : (double)x->out * bits;
    }
    return total / (double)b->r->weights;
}

/* The largest shift (to 2^-40) whose average is within the rate; the average
   grows with the shift. */
static void fit_rate(baq *b) {
    double low = -64, high = 64;
    double least = allocate(b, low);
    if (least > b->o->rate)
        gm_fail(GM_EINFEASIBLE, "--rate %g: with all columns "
                       "pruned, ranges and levels still take %.4f bits per "
                       "weight", b->o->rate, least);
    while (high - low > 0x1p-40) {
        double middle = low + (high - low) / 2;
        if (allocate(b, middle) <= b->o->rate) low = middle;
        else high = middle;
    }
    b->r->shift = low;
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
        sum += x, squares += x * x, count++;
        least = x < least ? x : least;
        most = x > most ? x : most;
    }
    if (!count) return (gm_baq_spread){1, 0};
    double mean = sum / (double)count;
    double variance = squares / (double)count - mean * mean;
    return (gm_baq_spread){gm_expd((most - least) * LN2),
                           variance > 0 ? sqrt(variance) : 0};
}

/* What the levels mean, module by module and in all. */
static void count_up(baq *b) {
    gm_baq_report *r = b->r;
    double bits = 0, stored = 0;
    for (long m = 0; m < b->modules; m++) {
        gm_baq_module *x = &r->module[m];
        const int *levels = b->levels + b->at[m];
        double log2s = 0, width = 0;
        for (long j = 0; j < x->in; j++) {
            log2s += log2_of(levels[j]);
            width += code_width(levels[j]);
            x->pruned += levels[j] == 1;
            x->clamped += levels[j] == MOST_LEVELS;
        }
        x->bytes = stored_bytes(x->out, x->in, levels);
        x->bits = log2s / (double)x->in;
        bits += (double)x->out * log2s;
        stored += (double)x->out * width;
        r->bytes += x->bytes;
    }
    r->bits = bits / (double)r->weights;
    r->stored_bits = stored / (double)r->weights;
    r->effective_bits = 8 * (double)r->bytes / (double)r->weights;
}

/* -------------------------------------------------------------------- files */

static const char *const rule_name[] = {"uniform", "published", "bits",
                                        "ebits"};

/* The number in a tensor's name: R_ref as a whole number of bits. */
static int label_of(double rate) {
    return rate < 1 ? 1 : rate > 8 ? 8 : (int)rint(rate);
}

/* One tensor a module, and metadata that states each one's bytes. */
static void begin_file(baq *b) {
    gm_arena *a = b->arena;
    size_t M = (size_t)b->modules;
    gm_tensor *t = gm_alloc(a, M, sizeof *t);
    const char **metadata = gm_alloc(a, 2 * M + 3, sizeof *metadata);
    metadata[0] = "baq", metadata[1] = b->words;
    for (long m = 0; m < b->modules; m++) {
        const gm_baq_module *x = &b->r->module[m];
        const char *name;
        gm_linear_name(a, m / GM_LINEARS, (int)(m % GM_LINEARS),
                                     &name);
        t[m] = (gm_tensor){
            .name = gm_format(a, "%s.b%d", name, label_of(b->o->rate)),
            .dtype = GM_F32, .rank = 2, .shape = {x->out, x->in},
            .bytes = (size_t)(x->out * x->in) * sizeof(float)};
        metadata[2 * m + 2] = gm_format(a, "%s.bytes", t[m].name);
        metadata[2 * m + 3] = gm_format(a, "%lld", (long long)x->bytes);
    }
    gm_safetensors_begin(a, b->path, t, b->modules, metadata, 0,
                                &b->file);
}

/* Columns of the table; %.17g reads back exactly. */
static const char *const column[] = {
    "bits", "bytes", "pruned", "clamped", "before.ratio", "before.log2",
    "predicted.ratio", "predicted.log2", "after.ratio", "after.log2"};
enum { COLUMNS = sizeof column / sizeof *column };

static void write_table(baq *b) {
    const gm_baq_report *r = b->r;
    gm_out out;
    gm_out_open(b->arena, b->table, &out);
    gm_out_print(&out, "# format gamma-baq 1\n# baq %s\n# shift %.17g\n"
                 "# bits %.17g\n# stored_bits %.17g\n# effective_bits %.17g\n"
                 "module", b->words, r->shift, r->bits, r->stored_bits,
                 r->effective_bits);
    for (int i = 0; i < COLUMNS; i++)
        gm_out_print(&out, "\t%s", column[i]);
    for (long m = 0; m < r->M; m++) {
        const gm_baq_module *x = &r->module[m];
        const char *name;
        gm_linear_name(b->arena, m / GM_LINEARS, (int)(m % GM_LINEARS),
                           &name);
        gm_out_print(&out, "\n%s\t%.17g\t%lld\t%ld\t%ld\t%.17g\t%.17g\t"
                     "%.17g\t%.17g\t%.17g\t%.17g", name, x->bits,
                     (long long)x->bytes, x->pruned, x->clamped,
                     x->before.ratio, x->before.log2, x->predicted.ratio,
                     x->predicted.log2, x->after.ratio, x->after.log2);
    }
    gm_out_print(&out, "\n");
    gm_out_commit(&out);
}

static void read_number(const gm_table *t, const char *what,
                             const char *text, double *out) {
    char *end;
    *out = text ? strtod(text, &end) : 0;
    if (text && end != text && !*end && fabs(*out) <= 1e300) return;
    gm_fail(GM_EINPUT, "%s: %s: expected a number, found \"%s\"",
                   t->path, what, text ? text : "nothing");
}

static void read_row(const gm_table *t, long m, gm_baq_module *x) {
    double v[COLUMNS];
    for (int i = 0; i < COLUMNS; i++) {
        long c = gm_table_column(t, column[i]);
        read_number(t, column[i], c < 0 ? NULL
                        : t->cell[m * t->columns + c], v + i);
    }
    *x = (gm_baq_module){.out = x->out, .in = x->in, .bits = v[0],
                         .bytes = (int64_t)v[1], .pruned = (long)v[2],
                         .clamped = (long)v[3], .before = {v[4], v[5]},
                         .predicted = {v[6], v[7]}, .after = {v[8], v[9]}};
}

/* The report of a file made before. */
static void read_table(baq *b) {
    gm_baq_report *r = b->r;
    gm_table t;
    gm_table_read(b->arena, b->table, &t);
    if (t.rows != r->M)
        gm_fail(GM_EINPUT, "%s: expected %ld modules, found %ld",
                    b->table, r->M, t.rows);
    const char *const key[] = {"shift", "bits", "stored_bits",
                               "effective_bits"};
    double *to[] = {&r->shift, &r->bits, &r->stored_bits, &r->effective_bits};
    for (int i = 0; i < 4; i++)
        read_number(&t, key[i], gm_table_key(&t, key[i]), to[i]);
    for (long m = 0; m < r->M; m++) {
        read_row(&t, m, &r->module[m]);
        r->bytes += r->module[m].bytes;
    }
}

/* ----------------------------------------------------------- the two passes */

static void spreads(baq *b) {
    const double from = log2_of(whole_levels(b->o->rate * LN2));
    for (long m = 0; m < b->modules; m++) {
        gm_baq_module *x = &b->r->module[m];
        const double *loss = b->loss + b->at[m];
        x->before = spread_of(x->in, loss, 0, NULL);
        x->predicted = spread_of(x->in, loss, from, b->levels + b->at[m]);
        x->after = spread_of(x->in, b->after + b->at[m], 0, NULL);
    }
}

static void sweep(batch *all, const gm_sequences *text) {
    const gm_recipe recipe = {.quantizer = GM_GPTQ,
                              .hessian = all->list->o->hessian};
    gm_hessians(all->list->arena, all->list->model, &recipe, text,
                       baq_input, all);
}

/* From losses to levels to the head of the file. */
static void begin_second(baq *b) {
    if (b->o->rule == GM_BAQ_PUBLISHED) allocate(b, 0);
    if (b->o->rule > GM_BAQ_PUBLISHED) fit_rate(b);
    count_up(b);
    b->state = WRITE;
    begin_file(b);
}

static void finish(baq *b) {
    gm_out_commit(&b->file);
    if (b->o->rule == GM_BAQ_UNIFORM) b->loss = b->after;
    spreads(b);
    b->state = DONE;
    write_table(b);
}

/* Two sweeps over the blocks, or one if all are uniform: their one pass is the
   second. */
static void make_all(batch *all, const gm_sequences *text) {
    for (int k = 0; k < all->count; k++)
        if (all->list[k].state == LEARN &&
            all->list[k].o->rule == GM_BAQ_UNIFORM)
            begin_second(&all->list[k]);
    for (int pass = 0; pass < 2; pass++) {
        bool any = false;
        for (int k = 0; k < all->count; k++)
            any = any || all->list[k].state != DONE;
        if (any) sweep(all, text);
        for (int k = 0; k < all->count; k++)
            if (all->list[k].state == WRITE) finish(&all->list[k]);
            else if (all->list[k].state == LEARN)
                begin_second(&all->list[k]);
    }
}

/* What the result depends on, in words, and the hash that names its files. */
static char *words_of(const baq *b, const gm_sequences *text, char hash[65]) {
    const gm_baq_options *o = b->o;
    gm_sha sha;
    char tokens[65];
    gm_sha_tokens(text->tokens, text->S, text->T, tokens);
    char *words = gm_format(b->arena, "rate=%.17g rule=%s hessian=%s damping="
                            "%.17g model=%s tokens=%s S=%ld T=%ld", o->rate,
                            rule_name[o->rule], gm_hessian_name(o->hessian),
                            o->damping, b->model->hash, tokens, text->S,
                            text->T);
    gm_sha_begin(&sha);
    gm_sha_add(&sha, "gamma_baq 1", 12);
    gm_sha_add(&sha, words, strlen(words));
    gm_sha_end(&sha, hash);
    return words;
}

static void check_options(const gm_baq_options *o,
                               const gm_sequences *text) {
    if (!(o->rate > 0 && o->rate <= 8))
        gm_fail(GM_EUSAGE, "--rate: expected more than 0 and at "
                       "most 8 bits, found %g", o->rate);
    if (text) return;
    gm_fail(GM_EUSAGE, "BAQ needs a calibration text: expected "
                   "one, found none");
}

/* Names and room; DONE when the files are there. */
static void prepare(gm_arena *arena, gm_model *model,
                         const gm_baq_options *o, const gm_sequences *text,
                         const char *dir, gm_baq_report *r, baq *b) {
    char hash[65];
    check_options(o, text);
    if (!*model->hash) gm_model_hash(model);
    baq_begin(arena, model, o, r, b);
    b->words = words_of(b, text, hash);
    b->path = gm_format(arena, "%s/baq-%.12s.safetensors", dir, hash);
    b->table = gm_format(arena, "%s/baq-%.12s.tsv", dir, hash);
    if (gm_exists(b->path) && gm_exists(b->table))
        b->state = DONE;
}

void gm_baq_make(gm_arena *arena, gm_model *model,
                      const gm_baq_options *options, int count,
                      const gm_sequences *calibration, const char *dir,
                      const gm_report *report) {
    gm_mark mark = gm_arena_mark(arena);
    batch all = {gm_alloc(arena, (size_t)count, sizeof(baq)), count, report};
    gm_baq_report *r = gm_alloc(arena, (size_t)count, sizeof *r);
    gm_make_dir(dir);
    for (int k = 0; k < count; k++) {
        assert(options[k].hessian == options->hessian &&
               options[k].damping == options->damping);
        prepare(arena, model, options + k, calibration, dir, r + k,
                    all.list + k);
    }
    make_all(&all, calibration);
    gm_arena_rewind(arena, mark);
}

void gm_baq_open(gm_arena *arena, gm_model *model,
                      const gm_baq_options *options,
                      const gm_sequences *calibration, const char *dir,
                      const gm_report *report, gm_baq_report *r) {
    baq b;
    *r = (gm_baq_report){0};
    gm_baq_make(arena, model, options, 1, calibration, dir,
                              report);
    prepare(arena, model, options, calibration, dir, r, &b);
    read_table(&b);
    r->path = b.path;
}
