/* dump.c: what one step of Stage I saw, written as one safetensors file whose
   names, shapes and equations docs/verify.md lists.  Each family of tensors is
   one function that names them with shape and data.  It runs twice: first to
   lay out the file, so that the header can be written and the size is known;
   then, when the step shows that its data is complete (gm_watcher), each tensor
   goes to its place.  Writes only that file and the table of scalars beside
   it.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <assert.h>
#include <stdarg.h>
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
    const char *without;        /* families left out, "PATTERN,..."          */
    gm_out out;
} dump;

/* ------------------------------------------------------------------ names */

/* '*' stands for any characters; the pattern ends at a comma. */
static bool matches(const char *p, const char *name) {
    if (*p == '*')
        return matches(p + 1, name) || (*name && matches(p, name + 1));
    if (!*p || *p == ',') return !*name;
    return *p == *name && matches(p + 1, name + 1);
}

int gm_name_which(const char *patterns, const char *name) {
    int i = 0;
    for (const char *p = patterns; p; p = strchr(p, ','), p += p != NULL, i++)
        if (matches(p, name)) return i;
    return -1;
}

bool gm_name_matches(const char *patterns, const char *name) {
    return gm_name_which(patterns, name) >= 0;
}

/* What is left out first when the file would be larger than the limit. */
static const char *const families[] = {
    "candidates.*.dequantized", "mixed.*", "grad.*", "factor.*", "hessian.*",
    "detail.*", "candidates.*", NULL};

static const gm_dtype real_dtype = sizeof(gm_real) == 8 ? GM_F64 : GM_F32;
static const char *const inputs[] = {"qkv", "o", "gate_up", "down"};

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

static void lay_out(dump *d, const gm_tensor *t) {
    if (d->options->only && !gm_name_matches(d->options->only, t->name)) return;
    if (gm_name_matches(d->without, t->name)) return;
    d->tensor = gm_grow(d->arena, d->tensor, (size_t)d->count, &d->room,
                        sizeof *d->tensor);
    d->tensor[d->count] = *t;
    d->tensor[d->count++].name = gm_format(d->arena, "%s", t->name);
    d->bytes += (int64_t)t->bytes;
}

/* Gives back what a family took; the layout itself stays. */
static void release(dump *d, gm_mark mark) {
    if (d->place) gm_arena_rewind(d->arena, mark);
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
    size_t n = (size_t)(rows * (columns ? columns : 1));
    gm_tensor t = {.name = name, .dtype = dtype, .rank = columns ? 2 : 1,
                   .shape = {rows, columns},
                   .bytes = n * gm_dtype_bytes(dtype)};
    if (!d->place) {
        lay_out(d, &t);
        return;
    }
    long i = find(d, name, strlen(name) + 1);
    if (i < 0) return;
    assert(d->tensor[i].dtype == dtype && d->tensor[i].bytes == t.bytes &&
           !d->place[i].written);
    d->place[i].written = true;
    if (n == 1 && dtype == GM_F64)
        memcpy(&d->place[i].scalar, data, sizeof(double));
    gm_out_write_at(&d->out, d->place[i].at, data, t.bytes);
}

static void scalar(dump *d, const char *name, double value) {
    item(d, GM_F64, 1, 0, &value, "%s", name);
}

static void array(dump *d, const char *name, const double *x) {
    item(d, GM_F64, d->fit->M, d->fit->K, x, "%s", name);
}

/* -------------------------------------------------- families, as they come */

/* h_l for all rows, l = 0 being the embeddings. */
static void teacher(dump *d, long l, const gm_real *h) {
    const gm_sweep *w = d->fit->sweep;
    item(d, real_dtype, w->R, d->fit->candidates->model->config.d, h,
         "teacher.%ld", l);
}

/* What the step sees, and its settings, the file's `step` counting from 1. */
static void given(dump *d) {
    const gm_fit_options *o = &d->fit->options;
    const gm_sweep *w = d->fit->sweep;
    item(d, GM_I32, o->batch, o->T, w->tokens, "tokens");
    scalar(d, "step", (double)d->fit->step + 1);
    scalar(d, "rho", o->rho);
    scalar(d, "alpha", o->alpha);
    scalar(d, "tau", d->fit->tau);
    scalar(d, "eta", o->eta);
    scalar(d, "rate", o->rate);
    scalar(d, "train_bits", o->budget);
    teacher(d, 0, w->h);
}

/* What block l computes on the way from teacher.l to teacher.l+1. */
static void details(dump *d, long l, const gm_acts *a) {
    const gm_config *c = &d->fit->candidates->model->config;
    const long q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const struct { const char *name; long n; const gm_real *x; } inside[] = {
        {"norm1", c->d, a->x1}, {"q", q, a->q}, {"k", kv, a->k},
        {"v", kv, a->v}, {"attention", q, a->attn}, {"mid", c->d, a->mid},
        {"norm2", c->d, a->x2}, {"gate", c->ff, a->gate},
        {"up", c->ff, a->up}, {"act", c->ff, a->act}};
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
        item(d, real_dtype, d->fit->sweep->R, inside[i].n, inside[i].x,
             "detail.%ld.%s", l, inside[i].name);
}

/* Scales, zeros and codes of candidate k of module m, unpacked, and the weight
   that they stand for. */
static void candidate(dump *d, long m, int k) {
    const gm_candidates *c = d->fit->candidates;
    const int j = (int)(m % GM_LINEARS), b = c->recipe.bits[k];
    const bool packed = b < 16 && c->recipe.quantizer != GM_EXTERNAL;
    const char *name;
    long out, in;
    gm_mark mark = gm_arena_mark(d->arena), read = gm_arena_mark(c->arena);
    gm_linear_name(d->arena, m / GM_LINEARS, j, &name);
    gm_linear_shape(&c->model->config, j, &out, &in);
    name = gm_format(d->arena, "candidates.%s.b%d", name, b);
    if (!gm_allowed(c, m, k) || (d->place && !any(d, name))) return;
    const long groups = (in + c->recipe.group - 1) / c->recipe.group;
    gm_packed p;
    float *scale = NULL;
    uint8_t *zero = NULL, *code = NULL;
    gm_real *q = NULL;
    if (d->place) {
        gm_candidate(c, m / GM_LINEARS, j, k, &p);
        q = gm_alloc(d->arena, (size_t)(out * in), sizeof *q);
        gm_dequantize(&p, q);
    }
    if (d->place && packed) {
        const gm_parts row = gm_packed_parts(1, in, b, c->recipe.group);
        scale = gm_alloc(d->arena, (size_t)(out * groups), sizeof *scale);
        zero = gm_alloc(d->arena, (size_t)(out * groups), 1);
        code = gm_alloc(d->arena, (size_t)(out * in), 1);
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
    if (d->place) gm_arena_rewind(c->arena, read);
    release(d, mark);
}

/* H of input i of block l as a full symmetric matrix, then U of the damped
   one; H NULL while the layout is made. */
static void hessian(void *context, long l, int i, long n, const double *H) {
    dump *d = context;
    const gm_recipe *r = &d->fit->candidates->recipe;
    gm_mark mark = gm_arena_mark(d->arena);
    double *full = NULL;
    gm_factor factor = {0};
    if (H) {
        full = gm_alloc(d->arena, (size_t)n, (size_t)n * sizeof *full);
        for (long a = 0; a < n; a++)
            for (long b = 0; b <= a; b++)
                full[a * n + b] = full[b * n + a] = H[a * n + b];
    }
    item(d, GM_F64, n, n, full, "hessian.%ld.%s", l, inputs[i]);
    release(d, mark);
    if (H && any(d, "factor."))
        gm_gptq_factor(d->arena, n, H, r->damping, r->act_order, &factor);
    item(d, real_dtype, n, n, factor.U, "factor.%ld.%s", l, inputs[i]);
    release(d, mark);
}

/* A matrix for each of the seven linears of block l: mixed or grad. */
static void linears(dump *d, const char *what, long l, gm_real *const *w) {
    for (int j = 0; j < GM_LINEARS; j++) {
        const char *name;
        long out, in;
        gm_linear_name(d->arena, l, j, &name);
        gm_linear_shape(&d->fit->candidates->model->config, j, &out, &in);
        item(d, real_dtype, out, in, w[j], "%s.%s", what, name);
    }
}

static void student(dump *d, long l) {
    const gm_sweep *w = d->fit->sweep;
    linears(d, "mixed", l, w->block.w);
    item(d, real_dtype, w->R, d->fit->candidates->model->config.d, w->student,
         "student.%ld", l + 1);
    item(d, GM_F64, w->R, 0, w->row_E, "loss.%ld", l + 1);
    item(d, GM_F64, 1, 0, d->fit->block_E + l, "E.%ld", l + 1);
}

/* What the step starts from, and what it ends with. */
static void before(dump *d) {
    scalar(d, "lambda_before", d->fit->lambda);
    array(d, "theta_before", d->fit->theta);
    array(d, "p", d->fit->p);
    scalar(d, "entropy", d->fit->entropy);
    scalar(d, "c", d->fit->c);
}

static void after(dump *d) {
    const gm_fit *f = d->fit;
    array(d, "g", f->g);
    array(d, "v", f->v);
    array(d, "moment1", f->moment1);
    array(d, "moment2", f->moment2);
    scalar(d, "beta1_power", f->beta1_power);
    scalar(d, "beta2_power", f->beta2_power);
    array(d, "theta_after", f->theta);
    scalar(d, "lambda_after", f->lambda);
}

static void scores(dump *d) {
    const long n = d->fit->M * d->fit->K;
    gm_mark mark = gm_arena_mark(d->arena);
    double *score = gm_alloc(d->arena, (size_t)(2 * n), sizeof *score);
    gm_fit_scores(d->fit, score, score + n);
    array(d, "scores", score);
    array(d, "scores_error", score + n);
    release(d, mark);
}

/* ----------------------------------------------------------------- layout */

/* All tensors in the order of computation. */
static void layout(dump *d) {
    static const int module[] = {GM_Q, GM_O, GM_GATE, GM_DOWN};
    const gm_fit *f = d->fit;
    const gm_candidates *c = f->candidates;
    const long L = c->model->config.layers;
    d->count = 0, d->bytes = 0;
    given(d);
    for (long l = 0; l < L; l++) {
        if (d->options->detail || d->options->only)
            details(d, l, &f->sweep->acts);
        teacher(d, l + 1, NULL);
    }
    for (long l = 0; l < L; l++) {
        for (int i = 0; i < 4 && c->recipe.quantizer == GM_GPTQ; i++) {
            long out, in;
            gm_linear_shape(&c->model->config, module[i], &out, &in);
            hessian(d, l, i, in, NULL);
        }
        for (int i = 0; i < GM_LINEARS * f->K; i++)
            candidate(d, l * GM_LINEARS + i / f->K, i % f->K);
    }
    if (f->options.relaxation == GM_SOFT_CORRECTED)
        array(d, "separable", NULL);
    before(d);
    for (long l = 0; l < L; l++) student(d, l);
    scalar(d, "E0", f->E0);
    scalar(d, "E", f->E);
    for (long l = 0; l < L; l++) linears(d, "grad", l, f->sweep->grad.w);
    after(d);
    if (f->step + 1 == f->options.steps) scores(d);
}

/* Lays out all that is asked for; without `only`, as much of it as the limit
   allows, the largest and most easily recomputed families going first. */
static void choose(dump *d, const gm_report *report) {
    d->without = "";
    layout(d);
    for (int i = 0; !d->options->only && families[i] &&
                    d->bytes > d->options->limit; i++) {
        d->without = gm_format(d->arena, "%s%s%s", d->without,
                               *d->without ? "," : "", families[i]);
        layout(d);
    }
    if (d->count == 0)
        gm_fail(GM_EUSAGE, "--only: \"%s\" matches no name of this dump; "
                "docs/verify.md lists them", d->options->only);
    const char *line = gm_format(
        d->arena, "%ld tensors, %.1f MB%s%s", d->count, (double)d->bytes / 1e6,
        *d->without ? "; over the limit, left out: " : "", d->without);
    gm_say(report, line, 0, 0);
}

/* ---------------------------------------------------------------- the file */

static void look(void *context, const gm_fit *fit, gm_moment moment, long l) {
    dump *d = context;
    if (moment == GM_BEGIN) {
        given(d);
        before(d);
    } else if (moment == GM_TEACHER) {
        details(d, l, &fit->sweep->acts);
        teacher(d, l + 1, fit->sweep->y);
    } else if (moment == GM_BLOCK) {
        student(d, l);
        linears(d, "grad", l, fit->sweep->grad.w);
    } else {
        array(d, "separable", fit->separable);
        scalar(d, "E0", fit->E0);
        scalar(d, "E", fit->E);
        after(d);
        if (fit->step == fit->options.steps) scores(d);
    }
}

static void fill_file(dump *d) {
    const gm_candidates *c = d->fit->candidates;
    const gm_fit_options *o = &d->fit->options;
    gm_watcher watcher = {look, d};
    d->fit->watcher = &watcher;
    gm_fit_step(d->fit);
    d->fit->watcher = NULL;
    for (long i = 0; i < d->fit->M * d->fit->K; i++)
        candidate(d, i / d->fit->K, (int)(i % d->fit->K));
    if (any(d, "hessian.") || any(d, "factor."))
        gm_hessians(d->arena, c->model, &c->recipe,
                    &(gm_sequences){d->fit->tokens, o->S, o->T}, hessian, d);
    for (long i = 0; i < d->count; i++) assert(d->place[i].written);
}

/* The head of the file.  Its metadata: what a reader of the dump alone needs to
   interpret it. */
static void begin_file(dump *d, const char *path) {
    const gm_fit_options *o = &d->fit->options;
    const gm_candidates *c = d->fit->candidates;
    const gm_config *config = &c->model->config;
    gm_arena *a = d->arena;
    char recipe[128], eps[32];
    const char *weights = "";
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(config, j, &out, &in);
        weights = gm_format(a, "%s%s%ld", weights, j ? "," : "", out * in);
    }
    gm_recipe_text(&c->recipe, recipe);
    gm_double_text(config->norm_eps, eps);
    const char *const metadata[] = {
        "format", "gamma-dump 1", "version", GM_VERSION,
        "model_hash", c->model->hash, "candidates", recipe, "norm_eps", eps,
        "weights", weights, "relaxation", gm_relaxation_name(o->relaxation),
        "norm", gm_loss_norm_name(o->norm),
        "heads", gm_format(a, "%ld", config->heads),
        "kv_heads", gm_format(a, "%ld", config->kv_heads),
        "head_dim", gm_format(a, "%ld", config->head_dim),
        "length", gm_format(a, "%ld", o->T), NULL};
    gm_safetensors_begin(a, path, d->tensor, d->count, metadata, 0, &d->out);
    d->place = gm_alloc(a, (size_t)d->count, sizeof *d->place);
    int64_t at = d->out.bytes;
    for (long i = 0; i < d->count; i++) {
        d->place[i].at = at;
        at += (int64_t)d->tensor[i].bytes;
    }
}

/* The scalars as a table, name and value. */
static void write_scalars(const dump *d, const char *path) {
    size_t n = strlen(path), end = strlen(".safetensors");
    if (n > end && strcmp(path + n - end, ".safetensors") == 0) n -= end;
    const char *name = gm_format(d->arena, "%.*s.tsv", (int)n, path);
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
    dump d = {.arena = arena, .fit = fit, .options = options};
    choose(&d, report);
    begin_file(&d, path);
    fill_file(&d);
    write_scalars(&d, path);
    gm_out_commit(&d.out);
}
