/* dump.c: what one step of Stage I saw, written as one safetensors file whose
   names, shapes and equations docs/verify.md lists.  One table names each
   tensor with shape and data.  It is walked twice: first in the order of the
   file, so that the header can be written and the size is known; then, when the
   step shows that data is complete (gm_watcher), each tensor goes to its place.
   Writes only that file and the table of scalars beside it.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <assert.h>
#include <string.h>

/* One tensor of the file; `at`: its first byte, after the header. */
typedef struct { int64_t at; double scalar; bool written; } place;

typedef struct {
    gm_arena *arena;
    gm_fit *fit;
    const gm_dump_options *options;
    gm_tensor *tensor;          /* [count], in order of computation          */
    place *place;               /* [count]; NULL: the layout is being made   */
    long count;
    size_t room;
    int64_t bytes;
    const char *without;        /* what is left out, "PATTERN,..."           */
    double step, *score;        /* the file's, from 1; [2, M, K] of the last */
    gm_out out;
} dump;

/* What is left out first when the file would be larger than the limit. */
static const char *const families[] = {
    "candidates.*.dequantized", "mixed.*", "grad.*", "factor.*", "hessian.*",
    "detail.*", "candidates.*", NULL};

static const gm_dtype real_dtype = sizeof(gm_real) == 8 ? GM_F64 : GM_F32;

/* ------------------------------------------------------------- one tensor */

/* The first of the layout whose name starts with these n bytes, or -1. */
static long find(const dump *d, const char *name, size_t n) {
    for (long i = 0; i < d->count; i++)
        if (strncmp(d->tensor[i].name, name, n) == 0) return i;
    return -1;
}

static bool any(const dump *d, const char *start) {
    return find(d, start, strlen(start)) >= 0;
}

/* Names a tensor [rows, columns], or [rows] when columns = 0: into the layout,
   or, once there is a file, its data to its place, type and shape being what
   was promised. */
__attribute__((format(printf, 6, 7)))
static void item(dump *d, gm_dtype dtype, long rows, long columns,
                 const void *data, const char *format, ...) {
    char name[512];
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    const size_t n = (size_t)(rows * (columns ? columns : 1));
    const size_t bytes = n * gm_dtype_bytes(dtype);
    const long i = find(d, name, strlen(name) + 1);
    if (d->place && i >= 0) {
        assert(d->tensor[i].dtype == dtype && d->tensor[i].bytes == bytes &&
               !d->place[i].written);
        d->place[i].written = true;
        if (n == 1 && dtype == GM_F64)
            memcpy(&d->place[i].scalar, data, sizeof(double));
        gm_out_write_at(&d->out, d->place[i].at, data, bytes);
    }
    if (d->place || gm_name_matches(d->without, name) ||
        !gm_name_matches(d->options->only ? d->options->only : "*", name))
        return;
    d->tensor = gm_grow(d->arena, d->tensor, (size_t)d->count, &d->room,
                        sizeof *d->tensor);
    d->tensor[d->count++] = (gm_tensor){
        .name = gm_format(d->arena, "%s", name), .dtype = dtype,
        .rank = columns ? 2 : 1, .shape = {rows, columns}, .bytes = bytes};
    d->bytes += (int64_t)bytes;
}

/* Room for data, once there is a file. */
static void *room(const dump *d, long count, size_t size) {
    return d->place ? gm_alloc(d->arena, (size_t)count, size) : NULL;
}

/* Gives it back; the layout itself stays. */
static void release(const dump *d, gm_mark mark) {
    if (d->place) gm_arena_rewind(d->arena, mark);
}

/* ----------------------------------------------------- what a step computes */

/* Scales, zeros and codes of candidate k of linear j of block l, unpacked, and
   the weight that they stand for. */
static void candidate(dump *d, long l, int j, int k) {
    const gm_candidates *c = d->fit->candidates;
    const int b = c->recipe.bits[k];
    const bool packed = b < 16 && c->recipe.quantizer != GM_EXTERNAL;
    long out, in;
    gm_mark mark = gm_arena_mark(d->arena);
    const char *name = gm_linear_name(d->arena, l, j);
    gm_linear_shape(&c->model->config, j, &out, &in);
    name = gm_format(d->arena, *c->recipe.label[k] ? "candidates.%s.%s"
                     : "candidates.%s.b%s", name, *c->recipe.label[k]
                     ? c->recipe.label[k] : gm_format(d->arena, "%d", b));
    if (!gm_allowed(c, l * GM_LINEARS + j, k) || (d->place && !any(d, name)))
        return;
    const long groups = (in + c->recipe.group - 1) / c->recipe.group;
    gm_real *q = room(d, out * in, sizeof *q);
    float *scale = room(d, out * groups, sizeof *scale);
    uint8_t *zero = room(d, out * groups, 1), *code = room(d, out * in, 1);
    gm_packed p;
    if (d->place) {
        p = gm_candidate(d->arena, c, l, j, k);
        gm_dequantize(&p, q);
    }
    if (d->place && packed) {
        const gm_parts row = gm_packed_parts(1, in, b, c->recipe.group);
        for (long i = 0; i < out * groups; i++) {
            uint16_t h;
            memcpy(&h, p.scales + 2 * i, 2);
            scale[i] = gm_f16_to_f32(h);
        }
        for (long r = 0; r < out; r++) {
            gm_unpack(p.zeros + r * row.zeros, groups, b, zero + r * groups);
            gm_unpack(p.codes + r * row.codes, in, b, code + r * in);
        }
    }
    if (packed) {
        item(d, GM_F32, out, groups, scale, "%s.scales", name);
        item(d, GM_U8, out, groups, zero, "%s.zeros", name);
        item(d, GM_U8, out, in, code, "%s.codes", name);
    }
    item(d, real_dtype, out, in, q, "%s.dequantized", name);
    release(d, mark);
}

/* H of input i of block l as a full symmetric matrix, then U of the damped
   one; H NULL while the layout is made. */
static void hessian(void *context, long l, int i, long n, const double *H) {
    static const char *const inputs[] = {"qkv", "o", "gate_up", "down"};
    dump *d = context;
    const gm_recipe *r = &d->fit->candidates->recipe;
    gm_mark mark = gm_arena_mark(d->arena);
    double *full = room(d, n * n, sizeof *full);
    gm_factor factor = {0};
    for (long a = 0; a < n && H; a++)
        for (long b = 0; b <= a; b++)
            full[a * n + b] = full[b * n + a] = H[a * n + b];
    item(d, GM_F64, n, n, full, "hessian.%ld.%s", l, inputs[i]);
    release(d, mark);
    if (H && any(d, "factor."))
        gm_gptq_factor(d->arena, n, H, r->damping, r->act_order, &factor);
    item(d, real_dtype, n, n, factor.U, "factor.%ld.%s", l, inputs[i]);
    release(d, mark);
}

/* The layout of Hessians, and the candidates of block l. */
static void candidates(dump *d, long l) {
    static const int module[] = {GM_Q, GM_O, GM_GATE, GM_DOWN};
    const gm_candidates *c = d->fit->candidates;
    const bool gptq = c->recipe.quantizer == GM_GPTQ;
    for (int i = 0; i < 4 && gptq && !d->place; i++) {
        long out, in;
        gm_linear_shape(&c->model->config, module[i], &out, &in);
        hessian(d, l, i, in, NULL);
    }
    for (int i = 0; i < GM_LINEARS * d->fit->K; i++)
        candidate(d, l, i / d->fit->K, i % d->fit->K);
}

/* A matrix for each of the seven linears of block l: mixed or grad. */
static void linears(dump *d, const char *what, long l, gm_real *const *w) {
    for (int j = 0; j < GM_LINEARS; j++) {
        const char *name = gm_linear_name(d->arena, l, j);
        long out, in;
        gm_linear_shape(&d->fit->candidates->model->config, j, &out, &in);
        item(d, real_dtype, out, in, w[j], "%s.%s", what, name);
    }
}

/* The parts of the file in order: whether they are a block's, and the moment of
   a step at which they are complete. */
enum { GIVEN, ORIGINAL, CANDIDATES, SEPARABLE, BEFORE, STUDENT, LOSS, GRADIENTS,
       AFTER, PARTS };
static const struct { bool block; int moment; } of_part[PARTS] = {
    [GIVEN] = {false, GM_BEGIN}, [ORIGINAL] = {true, GM_TEACHER},
    [CANDIDATES] = {true, -1}, [SEPARABLE] = {false, GM_END},
    [BEFORE] = {false, GM_BEGIN}, [STUDENT] = {true, GM_BLOCK},
    [LOSS] = {false, GM_END}, [GRADIENTS] = {true, GM_BLOCK},
    [AFTER] = {false, GM_END}};

/* All of a part, of block l. */
static void write_part(dump *d, int part, long l) {
    enum { SCALAR = 0, ARRAY = -1, ROWS = -2 };     /* [1], [M, K], [R] */
    const gm_fit *f = d->fit;
    const gm_fit_options *o = &f->options;
    const gm_sweep *w = f->sweep;
    const gm_acts *a = &w->acts;
    const gm_config *c = &f->candidates->model->config;
    const long q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const struct {
        int part;
        const char *name;
        long l, columns;        /* more than 0: real, [R, columns] */
        const void *x;
    } table[] = {
        {GIVEN, "step", 0, SCALAR, &d->step},
        {GIVEN, "rho", 0, SCALAR, &o->rho},
        {GIVEN, "alpha", 0, SCALAR, &o->alpha},
        {GIVEN, "tau", 0, SCALAR, &f->tau},
        {GIVEN, "eta", 0, SCALAR, &o->eta},
        {GIVEN, "rate", 0, SCALAR, &o->rate},
        {GIVEN, "train_bits", 0, SCALAR, &o->budget},
        {GIVEN, "teacher.%ld", 0, c->d, w->h},
        {ORIGINAL, "detail.%ld.norm1", l, c->d, a->x1},
        {ORIGINAL, "detail.%ld.q", l, q, a->q},
        {ORIGINAL, "detail.%ld.k", l, kv, a->k},
        {ORIGINAL, "detail.%ld.v", l, kv, a->v},
        {ORIGINAL, "detail.%ld.attention", l, q, a->attn},
        {ORIGINAL, "detail.%ld.mid", l, c->d, a->mid},
        {ORIGINAL, "detail.%ld.norm2", l, c->d, a->x2},
        {ORIGINAL, "detail.%ld.gate", l, c->ff, a->gate},
        {ORIGINAL, "detail.%ld.up", l, c->ff, a->up},
        {ORIGINAL, "detail.%ld.act", l, c->ff, a->act},
        {ORIGINAL, "teacher.%ld", l + 1, c->d, w->y},
        {SEPARABLE, "separable", 0, ARRAY, f->separable},
        {BEFORE, "lambda_before", 0, SCALAR, &f->lambda},
        {BEFORE, "theta_before", 0, ARRAY, f->theta},
        {BEFORE, "p", 0, ARRAY, f->p},
        {BEFORE, "entropy", 0, SCALAR, &f->entropy},
        {BEFORE, "c", 0, SCALAR, &f->c},
        {STUDENT, "student.%ld", l + 1, c->d, w->student},
        {STUDENT, "loss.%ld", l + 1, ROWS, w->row_E},
        {STUDENT, "E.%ld", l + 1, SCALAR, f->block_E + l},
        {LOSS, "E0", 0, SCALAR, &f->E0},
        {LOSS, "E", 0, SCALAR, &f->E},
        {AFTER, "g", 0, ARRAY, f->g},
        {AFTER, "v", 0, ARRAY, f->v},
        {AFTER, "moment1", 0, ARRAY, f->moment1},
        {AFTER, "moment2", 0, ARRAY, f->moment2},
        {AFTER, "beta1_power", 0, SCALAR, &f->beta1_power},
        {AFTER, "beta2_power", 0, SCALAR, &f->beta2_power},
        {AFTER, "theta_after", 0, ARRAY, f->theta},
        {AFTER, "lambda_after", 0, SCALAR, &f->lambda},
        {AFTER, "scores", 0, ARRAY, d->score},
        {AFTER, "scores_error", 0, ARRAY, d->score + f->M * f->K}};
    if (part == GIVEN) item(d, GM_I32, o->batch, o->T, w->tokens, "tokens");
    if (part == CANDIDATES) candidates(d, l);
    if (part == STUDENT) linears(d, "mixed", l, w->block.w);
    if (part == GRADIENTS) linears(d, "grad", l, w->grad.w);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const long columns = table[i].columns;
        if (table[i].part == part)
            item(d, columns > 0 ? real_dtype : GM_F64,
                 columns == SCALAR ? 1 : columns == ARRAY ? f->M : w->R,
                 columns == ARRAY ? f->K : columns > 0 ? columns : 0,
                 table[i].x, table[i].name, table[i].l);
    }
}

/* ----------------------------------------------------------------- layout */

static void layout(dump *d) {
    const gm_fit *f = d->fit;
    const long L = f->candidates->model->config.layers;
    d->count = 0;
    d->bytes = 0;
    for (int part = 0; part < PARTS; part++)
        for (long l = 0; l < (of_part[part].block ? L : 1); l++)
            write_part(d, part, l);
}

/* Lays out all that is asked for; without `only`, as much of it as the limit
   allows, the largest and most easily recomputed families going first. */
static void choose(dump *d, const gm_report *report) {
    const gm_fit *f = d->fit;
    const char *over = "";
    d->without = gm_format(
        d->arena, "%s,%s,%s",
        d->options->detail || d->options->only ? "" : "detail.*",
        f->options.relaxation == GM_SOFT_CORRECTED ? "" : "separable",
        f->step + 1 == f->options.steps ? "" : "scores*");
    layout(d);
    for (int i = 0; !d->options->only && families[i] &&
                    d->bytes > d->options->limit; i++) {
        over = gm_format(d->arena, "%s%s%s", over, *over ? "," : "",
                         families[i]);
        d->without = gm_format(d->arena, "%s,%s", d->without, families[i]);
        layout(d);
    }
    char *list = d->options->only ? gm_format(d->arena, "%s", d->options->only)
                                  : NULL;
    for (char *name; (name = strsep(&list, ","));) {
        long i = 0;
        while (i < d->count && !gm_name_matches(name, d->tensor[i].name)) i++;
        if (i == d->count)
            gm_fail(GM_EUSAGE, "--only: \"%s\" matches no name of this dump; "
                    "docs/verify.md lists them", name);
    }
    gm_say(report, gm_format(d->arena, "%ld tensors, %.1f MB%s%s", d->count,
                             (double)d->bytes / 1e6, *over ?
                             "; over the limit, left out: " : "", over), 0, 0);
}

/* ---------------------------------------------------------------- the file */

static void look(void *context, const gm_fit *fit, gm_moment moment, long l) {
    dump *d = context;
    if (moment == GM_END && fit->step == fit->options.steps)
        gm_fit_scores(fit, d->score, d->score + fit->M * fit->K);
    for (int part = 0; part < PARTS; part++)
        if (of_part[part].moment == (int)moment) write_part(d, part, l);
}

static void fill_file(dump *d) {
    const gm_candidates *c = d->fit->candidates;
    const gm_fit_options *o = &d->fit->options;
    gm_watcher watcher = {look, d};
    /* the teacher's acts too, which kept states would save */
    memset(d->fit->sweep->known, 0, (size_t)o->sequences * sizeof(bool));
    d->fit->watcher = &watcher;
    gm_fit_step(d->fit);
    d->fit->watcher = NULL;
    for (long l = 0; l < c->model->config.layers; l++) candidates(d, l);
    if (any(d, "hessian.") || any(d, "factor."))
        gm_hessians(d->arena, c->model, &c->recipe,
                    &(gm_sequences){d->fit->tokens, o->sequences, o->T},
                    hessian, d);
    for (long i = 0; i < d->count; i++) assert(d->place[i].written);
}

/* The head of the file.  Its metadata: what a reader of the dump alone needs to
   interpret it. */
static void begin_file(dump *d, const char *path) {
    const gm_fit_options *o = &d->fit->options;
    const gm_candidates *c = d->fit->candidates;
    const gm_config *config = &c->model->config;
    gm_arena *a = d->arena;
    const gm_shown eps = gm_double_text(config->norm_eps);
    const char *weights = "";
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(config, j, &out, &in);
        weights = gm_format(a, "%s%s%ld", weights, j ? "," : "", out * in);
    }
    const char *const metadata[] = {
        "format", "gamma-dump 1", "version", GM_VERSION,
        "model_hash", c->model->hash, "candidates", c->text,
        "norm_eps", eps.text, "weights", weights,
        "relaxation", gm_relaxation_name[o->relaxation],
        "norm", gm_loss_norm_name[o->norm],
        "heads", gm_format(a, "%ld", config->heads),
        "kv_heads", gm_format(a, "%ld", config->kv_heads),
        "head_dim", gm_format(a, "%ld", config->head_dim),
        "length", gm_format(a, "%ld", o->T), NULL};
    gm_safetensors_begin(a, path, d->tensor, d->count, metadata, 0, &d->out);
    d->place = gm_alloc(a, (size_t)d->count, sizeof *d->place);
    int64_t at = d->out.bytes;
    gm_out_write_at(&d->out, at, "", 0);        /* a pipe has no places */
    for (long i = 0; i < d->count; i++) {
        d->place[i].at = at;
        at += (int64_t)d->tensor[i].bytes;
    }
}

const char *gm_dump_scalars(gm_arena *arena, const char *path) {
    size_t n = strlen(path), end = strlen(".safetensors");
    if (n > end && strcmp(path + n - end, ".safetensors") == 0) n -= end;
    return gm_format(arena, "%.*s.tsv", (int)n, path);
}

/* The scalars as a table, name and value. */
static void write_scalars(const dump *d, const char *name) {
    gm_out out;
    gm_out_open(d->arena, name, &out);
    gm_out_print(&out, "name\tvalue\n");
    for (long i = 0; i < d->count; i++)
        if (d->tensor[i].dtype == GM_F64 && d->tensor[i].bytes == 8)
            gm_out_print(&out, "%s\t%.17g\n", d->tensor[i].name,
                         d->place[i].scalar);
    gm_out_commit(&out);
}

void gm_dump_step(gm_arena *arena, gm_fit *fit, const gm_dump_options *options,
                  const char *path, const gm_report *report) {
    dump d = {.arena = arena, .fit = fit, .options = options,
              .step = (double)fit->step + 1};
    d.score = gm_alloc(arena, (size_t)(2 * fit->M * fit->K), sizeof *d.score);
    choose(&d, report);
    begin_file(&d, path);
    fill_file(&d);
    const char *scalars = d.out.partial ? gm_dump_scalars(arena, path) : NULL;
    /* never a table beside tensors of another run */
    if (scalars) gm_remove_file(arena, scalars);
    gm_out_commit(&d.out);
    if (scalars) write_scalars(&d, scalars);
}
