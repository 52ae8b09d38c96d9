/* dump.c: what one step of Stage I saw, written as one safetensors file whose
   names, shapes and equations docs/verify.md lists.  First the layout is
   computed from the model and the options, so that the header can be written
   and the size is known; then tensors go to their places in the file as the
   step shows them (gm_tap), one at a time in memory.  Writes only that file
   and the table of scalars beside it.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* One tensor of the file; `at`: its first byte, after the header. */
typedef struct { int64_t at; double scalar; bool written; } place;

typedef struct {
    gm_arena *arena;
    gm_fit *fit;
    const gm_dump_options *options;
    gm_tensor *tensor;          /* [count], in order of computation          */
    place *place;               /* [count]                                   */
    long count, room;
    int64_t bytes;
    const char *without;        /* families left out, "PATTERN,..."          */
    int32_t *tokens;            /* [R] of this step                          */
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

bool gm_name_matches(const char *patterns, const char *name) {
    for (const char *p = patterns; p; p = strchr(p, ','), p += p != NULL)
        if (matches(p, name)) return true;
    return false;
}

/* What is left out first when the file would be larger than the limit. */
static const char *const families[] = {
    "candidates.*.dequantized", "mixed.*", "grad.*", "factor.*", "hessian.*",
    "detail.*", "candidates.*", NULL};

static const gm_dtype real_dtype = sizeof(gm_real) == 8 ? GM_F64 : GM_F32;
static const char *const inputs[] = {"qkv", "o", "gate_up", "down"};

/* ----------------------------------------------------------------- layout */

/* Adds a tensor to the layout if it is wanted; columns = 0: [rows]. */
__attribute__((format(printf, 6, 7)))
static gm_status add(dump *d, gm_error *err, gm_dtype dtype, long rows,
                     long columns, const char *format, ...) {
    char name[512];
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    if (d->options->only && !gm_name_matches(d->options->only, name))
        return GM_OK;
    if (gm_name_matches(d->without, name)) return GM_OK;
    if (d->count == d->room) {
        long room = d->room ? 2 * d->room : 64;
        gm_tensor *more = gm_alloc(d->arena, (size_t)room, sizeof *more);
        if (!more) return gm_nomem(err);
        if (d->count)
            memcpy(more, d->tensor, (size_t)d->count * sizeof *more);
        d->tensor = more;
        d->room = room;
    }
    int64_t n = (int64_t)rows * (columns ? columns : 1);
    size_t bytes = (size_t)n * gm_dtype_bytes(dtype);
    d->tensor[d->count++] = (gm_tensor){
        gm_format(d->arena, "%s", name), dtype, columns ? 2 : 1,
        {rows, columns}, NULL, bytes, NULL};
    d->bytes += (int64_t)bytes;
    return d->tensor[d->count - 1].name ? GM_OK : gm_nomem(err);
}

static gm_status add_scalars(dump *d, gm_error *err, const char *names) {
    gm_status s = GM_OK;
    for (const char *p = names; *p && !s; p += strcspn(p, " "), p += *p == ' ')
        s = add(d, err, GM_F64, 1, 0, "%.*s", (int)strcspn(p, " "), p);
    return s;
}

/* "model.layers.0.mlp.up_proj" of module m, without ".weight". */
static const char *module_name(const dump *d, long m, int *length) {
    const char *name = gm_linear_tensor(d->fit->candidates->model,
                                        m / GM_LINEARS,
                                        (int)(m % GM_LINEARS))->name;
    *length = (int)(strlen(name) - strlen(".weight"));
    return name;
}

/* teacher.l+1 and, before it, what block l computes on the way there. */
static gm_status add_teacher(dump *d, long l, gm_error *err) {
    const gm_config *c = &d->fit->candidates->model->config;
    const long R = d->fit->options.batch * d->fit->options.T;
    const long q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const struct { const char *name; long n; } inside[] = {
        {"norm1", c->d}, {"q", q}, {"k", kv}, {"v", kv}, {"attention", q},
        {"mid", c->d}, {"norm2", c->d}, {"gate", c->ff}, {"up", c->ff},
        {"act", c->ff}};
    gm_status s = GM_OK;
    bool wanted = d->options->detail || d->options->only;
    for (size_t i = 0; wanted && i < sizeof inside / sizeof *inside && !s; i++)
        s = add(d, err, real_dtype, R, inside[i].n, "detail.%ld.%s", l,
                inside[i].name);
    return s ? s : add(d, err, real_dtype, R, c->d, "teacher.%ld", l + 1);
}

static bool has_candidate(const gm_candidates *c, long m, int k) {
    return !c->allowed || c->allowed[m * c->recipe.count + k];
}

static gm_status add_candidate(dump *d, long m, int k, gm_error *err) {
    const gm_candidates *c = d->fit->candidates;
    long out, in;
    int n, b = c->recipe.bits[k];
    const char *name = module_name(d, m, &n);
    gm_linear_shape(&c->model->config, (int)(m % GM_LINEARS), &out, &in);
    long groups = (in + c->recipe.group - 1) / c->recipe.group;
    gm_status s = GM_OK;
    if (!has_candidate(c, m, k)) return s;
    bool coded = b < 16 && c->recipe.quantizer != GM_EXTERNAL;
    if (coded)
        s = add(d, err, GM_F32, out, groups, "candidates.%.*s.b%d.scales", n,
                name, b);
    if (coded && !s)
        s = add(d, err, GM_U8, out, groups, "candidates.%.*s.b%d.zeros", n,
                name, b);
    if (coded && !s)
        s = add(d, err, GM_U8, out, in, "candidates.%.*s.b%d.codes", n, name,
                b);
    return s ? s : add(d, err, real_dtype, out, in,
                       "candidates.%.*s.b%d.dequantized", n, name, b);
}

static gm_status add_hessian(dump *d, long l, int i, gm_error *err) {
    static const int module[] = {GM_Q, GM_O, GM_GATE, GM_DOWN};
    long out, n;
    gm_linear_shape(&d->fit->candidates->model->config, module[i], &out, &n);
    gm_status s = add(d, err, GM_F64, n, n, "hessian.%ld.%s", l, inputs[i]);
    return s ? s : add(d, err, real_dtype, n, n, "factor.%ld.%s", l,
                       inputs[i]);
}

/* The student's side of block l, or the gradients of its mixed weights. */
static gm_status add_modules(dump *d, const char *what, long l,
                             gm_error *err) {
    gm_status s = GM_OK;
    for (int j = 0; j < GM_LINEARS && !s; j++) {
        long out, in;
        int n;
        const char *name = module_name(d, l * GM_LINEARS + j, &n);
        gm_linear_shape(&d->fit->candidates->model->config, j, &out, &in);
        s = add(d, err, real_dtype, out, in, "%s.%.*s", what, n, name);
    }
    return s;
}

static gm_status add_student(dump *d, long l, gm_error *err) {
    const long R = d->fit->options.batch * d->fit->options.T;
    gm_status s = add_modules(d, "mixed", l, err);
    if (!s) s = add(d, err, real_dtype, R,
                    d->fit->candidates->model->config.d, "student.%ld", l + 1);
    if (!s) s = add(d, err, GM_F64, R, 0, "loss.%ld", l + 1);
    return s ? s : add(d, err, GM_F64, 1, 0, "E.%ld", l + 1);
}

static gm_status add_arrays(dump *d, gm_error *err, const char *names) {
    gm_status s = GM_OK;
    for (const char *p = names; *p && !s; p += strcspn(p, " "), p += *p == ' ')
        s = add(d, err, GM_F64, d->fit->M, d->fit->K, "%.*s",
                (int)strcspn(p, " "), p);
    return s;
}

/* All tensors in the order of computation. */
static gm_status layout(dump *d, gm_error *err) {
    const gm_fit_options *o = &d->fit->options;
    const gm_candidates *c = d->fit->candidates;
    const long L = c->model->config.layers;
    d->count = 0, d->bytes = 0;
    gm_status s = add(d, err, GM_I32, o->batch, o->T, "tokens");
    if (!s) s = add_scalars(d, err, "step rho alpha tau eta rate train_bits");
    if (!s) s = add(d, err, real_dtype, o->batch * o->T, c->model->config.d,
                    "teacher.0");
    for (long l = 0; l < L && !s; l++) s = add_teacher(d, l, err);
    for (long l = 0; l < L && !s; l++) {
        for (int i = 0; i < 4 && !s && c->recipe.quantizer == GM_GPTQ; i++)
            s = add_hessian(d, l, i, err);
        for (int i = 0; i < GM_LINEARS * d->fit->K && !s; i++)
            s = add_candidate(d, l * GM_LINEARS + i / d->fit->K,
                              i % d->fit->K, err);
    }
    if (!s && o->relaxation == GM_SOFT_CORRECTED)
        s = add_arrays(d, err, "separable");
    if (!s) s = add_scalars(d, err, "lambda_before");
    if (!s) s = add_arrays(d, err, "theta_before p");
    if (!s) s = add_scalars(d, err, "entropy c");
    for (long l = 0; l < L && !s; l++) s = add_student(d, l, err);
    if (!s) s = add_scalars(d, err, "E0 E");
    for (long l = 0; l < L && !s; l++) s = add_modules(d, "grad", l, err);
    if (!s) s = add_arrays(d, err, "g v moment1 moment2");
    if (!s) s = add_scalars(d, err, "beta1_power beta2_power");
    if (!s) s = add_arrays(d, err, "theta_after");
    if (!s) s = add_scalars(d, err, "lambda_after");
    if (!s && d->fit->step + 1 == o->steps)
        s = add_arrays(d, err, "scores scores_error");
    return s;
}

/* Lays out all that is asked for; without `only`, as much of it as the limit
   allows, the largest and most easily recomputed families going first. */
static gm_status choose(dump *d, const gm_report *report, gm_error *err) {
    d->without = "";
    gm_status s = layout(d, err);
    for (int i = 0; !s && !d->options->only && families[i] &&
                    d->bytes > d->options->limit; i++) {
        d->without = gm_format(d->arena, "%s%s%s", d->without,
                               *d->without ? "," : "", families[i]);
        if (!d->without) return gm_nomem(err);
        s = layout(d, err);
    }
    if (s) return s;
    if (d->count == 0)
        return gm_fail(err, GM_EUSAGE, "--only: \"%s\" matches no name of this "
                       "dump; docs/verify.md lists them", d->options->only);
    const char *line = gm_format(
        d->arena, "%ld tensors, %.1f MB%s%s", d->count,
        (double)d->bytes / 1e6, *d->without ? "; over the limit, left out: "
        : "", d->without);
    if (!line) return gm_nomem(err);
    gm_say(report, line, 0, 0);
    return s;
}

/* ---------------------------------------------------------------- contents */

static long find(const dump *d, const char *name) {
    for (long i = 0; i < d->count; i++)
        if (strcmp(d->tensor[i].name, name) == 0) return i;
    return -1;
}

/* Tensor i of the layout, its type and shape being what was promised. */
static gm_status write_tensor(dump *d, long i, gm_dtype dtype, int64_t n,
                              const void *data, gm_error *err) {
    const gm_tensor *t = d->tensor + i;
    assert(t->dtype == dtype && !d->place[i].written &&
           t->bytes == (size_t)n * gm_dtype_bytes(dtype));
    d->place[i].written = true;
    if (n == 1 && dtype == GM_F64)
        memcpy(&d->place[i].scalar, data, sizeof(double));
    return gm_out_write_at(&d->out, d->place[i].at, data, t->bytes, err);
}

/* `step` counts from 1 in the file: the tap's own is not taken. */
static bool wants(void *context, const char *name) {
    return strcmp(name, "tokens") == 0 ||
           (strcmp(name, "step") != 0 && find(context, name) >= 0);
}

static gm_status put(void *context, const char *name, gm_dtype dtype, int rank,
                     const int64_t *shape, const void *data, gm_error *err) {
    dump *d = context;
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    long i = find(d, name);
    if (strcmp(name, "tokens") == 0)
        memcpy(d->tokens, data, (size_t)n * sizeof *d->tokens);
    return i < 0 ? GM_OK : write_tensor(d, i, dtype, n, data, err);
}

/* Candidate k of module m: `part` of its name, from the packed file. */
static gm_status fill_part(const gm_packed *p, const char *part, int64_t n,
                           void *data, gm_error *err) {
    if (strcmp(part, "dequantized") == 0) return gm_dequantize(p, data, err);
    gm_parts row = gm_packed_parts(1, p->in, p->bits, p->group);
    long groups = (p->in + p->group - 1) / p->group;
    float *scale = data;
    uint8_t *code = data;
    uint16_t h;
    if (strcmp(part, "scales") == 0)
        for (int64_t i = 0; i < n; i++)
            memcpy(&h, p->scales + 2 * i, 2), scale[i] = gm_f16_to_f32(h);
    else if (strcmp(part, "zeros") == 0)
        for (long r = 0; r < p->out; r++)
            gm_unpack(p->zeros + r * row.zeros, groups, p->bits,
                      code + r * groups);
    else
        for (long r = 0; r < p->out; r++)
            gm_unpack(p->codes + r * row.codes, p->in, p->bits,
                      code + r * p->in);
    return GM_OK;
}

static gm_status put_candidate(dump *d, long m, int k, gm_error *err) {
    static const char *const parts[] = {"scales", "zeros", "codes",
                                        "dequantized"};
    const gm_candidates *c = d->fit->candidates;
    gm_packed packed;
    int n;
    const char *module = module_name(d, m, &n);
    if (!has_candidate(c, m, k)) return GM_OK;
    gm_status s = gm_candidate(c, m / GM_LINEARS, (int)(m % GM_LINEARS), k,
                               &packed, err);
    for (int i = 0; i < 4 && !s; i++) {
        char name[512];
        snprintf(name, sizeof name, "candidates.%.*s.b%d.%s", n, module,
                 c->recipe.bits[k], parts[i]);
        long at = find(d, name);
        if (at < 0) continue;
        gm_mark mark = gm_arena_mark(d->arena);
        const gm_tensor *t = d->tensor + at;
        void *data = gm_alloc(d->arena, t->bytes, 1);
        if (!data) return gm_nomem(err);
        int64_t count = t->shape[0] * t->shape[1];
        s = fill_part(&packed, parts[i], count, data, err);
        if (!s) s = write_tensor(d, at, t->dtype, count, data, err);
        gm_arena_rewind(d->arena, mark);
    }
    return s;
}

/* H as a full symmetric matrix, then U of the damped one. */
static gm_status put_hessian(void *context, long l, int i, long n,
                             const double *H, gm_error *err) {
    dump *d = context;
    const gm_recipe *r = &d->fit->candidates->recipe;
    char name[64];
    gm_mark mark = gm_arena_mark(d->arena);
    gm_status s = GM_OK;
    snprintf(name, sizeof name, "hessian.%ld.%s", l, inputs[i]);
    long at = find(d, name);
    if (at >= 0) {
        double *full = gm_alloc(d->arena, (size_t)n, (size_t)n * sizeof *full);
        if (!full) return gm_nomem(err);
        for (long a = 0; a < n; a++)
            for (long b = 0; b <= a; b++)
                full[a * n + b] = full[b * n + a] = H[a * n + b];
        s = write_tensor(d, at, GM_F64, (int64_t)n * n, full, err);
        gm_arena_rewind(d->arena, mark);
    }
    snprintf(name, sizeof name, "factor.%ld.%s", l, inputs[i]);
    if (s || (at = find(d, name)) < 0) return s;
    gm_factor factor;
    s = gm_gptq_factor(d->arena, n, H, r->damping, r->act_order, &factor, err);
    if (!s) s = write_tensor(d, at, real_dtype, (int64_t)n * n, factor.U, err);
    gm_arena_rewind(d->arena, mark);
    return s;
}

/* Any name of the layout that starts so. */
static bool any(const dump *d, const char *start) {
    for (long i = 0; i < d->count; i++)
        if (strncmp(d->tensor[i].name, start, strlen(start)) == 0) return true;
    return false;
}

static gm_status put_hessians(dump *d, gm_error *err) {
    const gm_candidates *c = d->fit->candidates;
    const gm_fit_options *o = &d->fit->options;
    gm_sequences text = {d->fit->tokens, o->S, o->T};
    if (!any(d, "hessian.") && !any(d, "factor.")) return GM_OK;
    return gm_hessians(d->arena, c->model, &c->recipe, &text, put_hessian, d,
                       err);
}

/* The original model's blocks once more, on this step's tokens. */
static gm_status put_block_details(dump *d, long l, const gm_acts *a,
                                   gm_error *err) {
    const struct { const char *name; const gm_real *x; } inside[] = {
        {"norm1", a->x1}, {"q", a->q}, {"k", a->k}, {"v", a->v},
        {"attention", a->attn}, {"mid", a->mid}, {"norm2", a->x2},
        {"gate", a->gate}, {"up", a->up}, {"act", a->act}};
    gm_status s = GM_OK;
    for (size_t i = 0; i < sizeof inside / sizeof *inside && !s; i++) {
        char name[64];
        snprintf(name, sizeof name, "detail.%ld.%s", l, inside[i].name);
        long at = find(d, name);
        if (at < 0) continue;
        const gm_tensor *t = d->tensor + at;
        s = write_tensor(d, at, t->dtype, t->shape[0] * t->shape[1],
                         inside[i].x, err);
    }
    return s;
}

static gm_status put_details(dump *d, gm_error *err) {
    const gm_fit_options *o = &d->fit->options;
    const gm_model *model = d->fit->candidates->model;
    const gm_config *c = &model->config;
    gm_block block;
    gm_acts acts;
    gm_rope_table rope;
    if (!any(d, "detail.")) return GM_OK;
    gm_mark mark = gm_arena_mark(d->arena);
    gm_real *h = gm_alloc(d->arena, (size_t)(o->batch * o->T),
                          (size_t)c->d * sizeof *h);
    if (!h) return gm_nomem(err);
    gm_status s = gm_block_alloc(d->arena, c, &block, err);
    if (!s) s = gm_acts_alloc(d->arena, c, o->batch, o->T, false, &acts, err);
    if (!s) s = gm_rope_build(d->arena, c, o->T, NULL, &rope, err);
    if (!s) s = gm_embed(model, d->tokens, o->batch * o->T, h, err);
    for (long l = 0; l < c->layers && !s; l++) {
        s = gm_block_load(model, l, &block, err);
        if (s) break;
        gm_block_forward(c, &block, &rope, h, &acts, h);
        s = put_block_details(d, l, &acts, err);
    }
    gm_arena_rewind(d->arena, mark);
    return s;
}

/* ---------------------------------------------------------------- the file */

/* What a reader of the dump alone needs to interpret it. */
static gm_status metadata_of(dump *d, const char **pair, gm_error *err) {
    const gm_fit *fit = d->fit;
    const gm_candidates *c = fit->candidates;
    const gm_config *config = &c->model->config;
    char recipe[128];
    gm_recipe_text(&c->recipe, recipe);
    const struct { const char *key; long value; } number[] = {
        {"heads", config->heads}, {"kv_heads", config->kv_heads},
        {"head_dim", config->head_dim}, {"length", fit->options.T}};
    char weights[8 * 32] = "";
    for (int j = 0, n = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(config, j, &out, &in);
        n += snprintf(weights + n, sizeof weights - (size_t)n, "%s%lld",
                      j ? "," : "", (long long)out * in);
    }
    char eps[32];
    gm_double_text(config->norm_eps, eps);
    const char *const text[] = {
        "format", "gamma-dump 1", "version", GM_VERSION, "model_hash",
        c->model->hash, "candidates", recipe, "norm_eps", eps, "weights",
        weights, "relaxation", gm_relaxation_name(fit->options.relaxation),
        "norm", gm_loss_norm_name(fit->options.norm)};
    int n = 0;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        if (!(pair[n++] = gm_format(d->arena, "%s", text[i])))
            return gm_nomem(err);
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        pair[n++] = number[i].key;
        if (!(pair[n++] = gm_format(d->arena, "%ld", number[i].value)))
            return gm_nomem(err);
    }
    pair[n] = NULL;
    return GM_OK;
}

static gm_status begin_file(dump *d, const char *path, gm_error *err) {
    const char *metadata[32];
    gm_status s = metadata_of(d, metadata, err);
    if (!s) s = gm_safetensors_begin(d->arena, path, d->tensor, d->count,
                                     metadata, 0, &d->out, err);
    int64_t at = d->out.bytes;
    for (long i = 0; i < d->count && !s; i++) {
        d->place[i].at = at;
        at += (int64_t)d->tensor[i].bytes;
    }
    return s;
}

static gm_status fill_file(dump *d, gm_error *err) {
    gm_tap tap = {d, wants, put};
    d->fit->tap = &tap;
    gm_status s = gm_fit_step(d->fit, err);
    d->fit->tap = NULL;
    for (long i = 0; i < d->fit->M * d->fit->K && !s; i++)
        s = put_candidate(d, i / d->fit->K, (int)(i % d->fit->K), err);
    if (!s) s = put_hessians(d, err);
    if (!s) s = put_details(d, err);
    double step = (double)d->fit->step;
    long at = find(d, "step");
    if (at >= 0 && !s) s = write_tensor(d, at, GM_F64, 1, &step, err);
    for (long i = 0; i < d->count && !s; i++) assert(d->place[i].written);
    return s;
}

/* The scalars as a table, name and value. */
static gm_status write_scalars(const dump *d, const char *path,
                               gm_error *err) {
    size_t n = strlen(path), end = strlen(".safetensors");
    if (n > end && strcmp(path + n - end, ".safetensors") == 0) n -= end;
    const char *name = gm_format(d->arena, "%.*s.tsv", (int)n, path);
    gm_out out;
    if (!name) return gm_nomem(err);
    gm_status s = gm_out_open(d->arena, name, &out, err);
    if (s) return s;
    gm_out_print(&out, err, "name\tvalue\n");
    for (long i = 0; i < d->count; i++)
        if (d->tensor[i].dtype == GM_F64 && d->tensor[i].bytes == 8)
            gm_out_print(&out, err, "%s\t%.17g\n", d->tensor[i].name,
                         d->place[i].scalar);
    s = gm_out_commit(&out, err);       /* reports an earlier failure */
    if (s) gm_out_abandon(&out);
    return s;
}

gm_status gm_dump_step(gm_arena *arena, gm_fit *fit,
                       const gm_dump_options *options, const char *path,
                       const gm_report *report, gm_error *err) {
    dump d = {.arena = arena, .fit = fit, .options = options};
    gm_status s = choose(&d, report, err);
    if (s) return s;
    d.place = gm_alloc(arena, (size_t)d.count, sizeof *d.place);
    d.tokens = gm_alloc(arena, (size_t)(fit->options.batch * fit->options.T),
                        sizeof *d.tokens);
    if (!d.place || !d.tokens) return gm_nomem(err);
    s = begin_file(&d, path, err);
    if (!s) s = fill_file(&d, err);
    if (!s) s = write_scalars(&d, path, err);
    if (!s) s = gm_out_commit(&d.out, err);
    if (s) gm_out_abandon(&d.out);
    return s;
}
