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
__attribute__((format(printf, 5, 6)))
static void add(dump *d, gm_dtype dtype, long rows, long columns,
                const char *format, ...) {
    char name[512];
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    if (d->options->only && !gm_name_matches(d->options->only, name))
        return;
    if (gm_name_matches(d->without, name)) return;
    if (d->count == d->room) {
        long room = d->room ? 2 * d->room : 64;
        gm_tensor *more = gm_alloc(d->arena, (size_t)room, sizeof *more);
        if (d->count)
            memcpy(more, d->tensor, (size_t)d->count * sizeof *more);
        d->tensor = more;
        d->room = room;
    }
    int64_t n = (int64_t)rows * (columns ? columns : 1);
    size_t bytes = (size_t)n * gm_dtype_bytes(dtype);
    d->tensor[d->count++] = (gm_tensor){
        gm_format(d->arena, "%s", name), dtype, columns ? 2 : 1,
        {rows, columns}, .bytes = bytes};
    d->bytes += (int64_t)bytes;
}

static void add_scalars(dump *d, const char *names) {
    for (const char *p = names; *p; p += strcspn(p, " "), p += *p == ' ')
        add(d, GM_F64, 1, 0, "%.*s", (int)strcspn(p, " "), p);
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
static void add_teacher(dump *d, long l) {
    const gm_config *c = &d->fit->candidates->model->config;
    const long R = d->fit->options.batch * d->fit->options.T;
    const long q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const struct { const char *name; long n; } inside[] = {
        {"norm1", c->d}, {"q", q}, {"k", kv}, {"v", kv}, {"attention", q},
        {"mid", c->d}, {"norm2", c->d}, {"gate", c->ff}, {"up", c->ff},
        {"act", c->ff}};
    bool wanted = d->options->detail || d->options->only;
    for (size_t i = 0; wanted && i < sizeof inside / sizeof *inside; i++)
        add(d, real_dtype, R, inside[i].n, "detail.%ld.%s", l,
                inside[i].name);
    add(d, real_dtype, R, c->d, "teacher.%ld", l + 1);
}

static bool has_candidate(const gm_candidates *c, long m, int k) {
    return !c->allowed || c->allowed[m * c->recipe.count + k];
}

static void add_candidate(dump *d, long m, int k) {
    const gm_candidates *c = d->fit->candidates;
    long out, in;
    int n, b = c->recipe.bits[k];
    const char *name = module_name(d, m, &n);
    gm_linear_shape(&c->model->config, (int)(m % GM_LINEARS), &out, &in);
    long groups = (in + c->recipe.group - 1) / c->recipe.group;
    if (!has_candidate(c, m, k)) return;
    bool coded = b < 16 && c->recipe.quantizer != GM_EXTERNAL;
    if (coded)
        add(d, GM_F32, out, groups, "candidates.%.*s.b%d.scales", n,
                name, b);
    if (coded)
        add(d, GM_U8, out, groups, "candidates.%.*s.b%d.zeros", n,
                name, b);
    if (coded)
        add(d, GM_U8, out, in, "candidates.%.*s.b%d.codes", n, name,
                b);
    add(d, real_dtype, out, in,
                       "candidates.%.*s.b%d.dequantized", n, name, b);
}

static void add_hessian(dump *d, long l, int i) {
    static const int module[] = {GM_Q, GM_O, GM_GATE, GM_DOWN};
    long out, n;
    gm_linear_shape(&d->fit->candidates->model->config, module[i], &out, &n);
    add(d, GM_F64, n, n, "hessian.%ld.%s", l, inputs[i]);
    add(d, real_dtype, n, n, "factor.%ld.%s", l,
                       inputs[i]);
}

/* The student's side of block l, or the gradients of its mixed weights. */
static void add_modules(dump *d, const char *what, long l) {
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        int n;
        const char *name = module_name(d, l * GM_LINEARS + j, &n);
        gm_linear_shape(&d->fit->candidates->model->config, j, &out, &in);
        add(d, real_dtype, out, in, "%s.%.*s", what, n, name);
    }
}

static void add_student(dump *d, long l) {
    const long R = d->fit->options.batch * d->fit->options.T;
    add_modules(d, "mixed", l);
    add(d, real_dtype, R,
                    d->fit->candidates->model->config.d, "student.%ld", l + 1);
    add(d, GM_F64, R, 0, "loss.%ld", l + 1);
    add(d, GM_F64, 1, 0, "E.%ld", l + 1);
}

static void add_arrays(dump *d, const char *names) {
    for (const char *p = names; *p; p += strcspn(p, " "), p += *p == ' ')
        add(d, GM_F64, d->fit->M, d->fit->K, "%.*s",
                (int)strcspn(p, " "), p);
}

/* All tensors in the order of computation. */
static void layout(dump *d) {
    const gm_fit_options *o = &d->fit->options;
    const gm_candidates *c = d->fit->candidates;
    const long L = c->model->config.layers;
    d->count = 0, d->bytes = 0;
    add(d, GM_I32, o->batch, o->T, "tokens");
    add_scalars(d, "step rho alpha tau eta rate train_bits");
    add(d, real_dtype, o->batch * o->T, c->model->config.d,
                    "teacher.0");
    for (long l = 0; l < L; l++) add_teacher(d, l);
    for (long l = 0; l < L; l++) {
        for (int i = 0; i < 4 && c->recipe.quantizer == GM_GPTQ; i++)
            add_hessian(d, l, i);
        for (int i = 0; i < GM_LINEARS * d->fit->K; i++)
            add_candidate(d, l * GM_LINEARS + i / d->fit->K,
                              i % d->fit->K);
    }
    if (o->relaxation == GM_SOFT_CORRECTED)
        add_arrays(d, "separable");
    add_scalars(d, "lambda_before");
    add_arrays(d, "theta_before p");
    add_scalars(d, "entropy c");
    for (long l = 0; l < L; l++) add_student(d, l);
    add_scalars(d, "E0 E");
    for (long l = 0; l < L; l++) add_modules(d, "grad", l);
    add_arrays(d, "g v moment1 moment2");
    add_scalars(d, "beta1_power beta2_power");
    add_arrays(d, "theta_after");
    add_scalars(d, "lambda_after");
    if (d->fit->step + 1 == o->steps)
        add_arrays(d, "scores scores_error");
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
        gm_fail(GM_EUSAGE, "--only: \"%s\" matches no name of this "
                       "dump; docs/verify.md lists them", d->options->only);
    const char *line = gm_format(
        d->arena, "%ld tensors, %.1f MB%s%s", d->count,
        (double)d->bytes / 1e6, *d->without ? "; over the limit, left out: "
        : "", d->without);
    gm_say(report, line, 0, 0);
}

/* ---------------------------------------------------------------- contents */

static long find(const dump *d, const char *name) {
    for (long i = 0; i < d->count; i++)
        if (strcmp(d->tensor[i].name, name) == 0) return i;
    return -1;
}

/* Tensor i of the layout, its type and shape being what was promised. */
static void write_tensor(dump *d, long i, gm_dtype dtype, int64_t n,
                              const void *data) {
    const gm_tensor *t = d->tensor + i;
    assert(t->dtype == dtype && !d->place[i].written &&
           t->bytes == (size_t)n * gm_dtype_bytes(dtype));
    d->place[i].written = true;
    if (n == 1 && dtype == GM_F64)
        memcpy(&d->place[i].scalar, data, sizeof(double));
    gm_out_write_at(&d->out, d->place[i].at, data, t->bytes);
}

/* `step` counts from 1 in the file: the tap's own is not taken. */
static bool wants(void *context, const char *name) {
    return strcmp(name, "tokens") == 0 ||
           (strcmp(name, "step") != 0 && find(context, name) >= 0);
}

static void put(void *context, const char *name, gm_dtype dtype, int rank,
                     const int64_t *shape, const void *data) {
    dump *d = context;
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    long i = find(d, name);
    if (strcmp(name, "tokens") == 0)
        memcpy(d->tokens, data, (size_t)n * sizeof *d->tokens);
    if (!(i < 0)) write_tensor(d, i, dtype, n, data);
}

/* Candidate k of module m: `part` of its name, from the packed file. */
static void fill_part(const gm_packed *p, const char *part, int64_t n,
                           void *data) {
    if (strcmp(part, "dequantized") == 0) { gm_dequantize(p, data); return; }
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
}

static void put_candidate(dump *d, long m, int k) {
    static const char *const parts[] = {"scales", "zeros", "codes",
                                        "dequantized"};
    const gm_candidates *c = d->fit->candidates;
    gm_packed packed;
    int n;
    const char *module = module_name(d, m, &n);
    if (!has_candidate(c, m, k)) return;
    gm_candidate(c, m / GM_LINEARS, (int)(m % GM_LINEARS), k,
                               &packed);
    for (int i = 0; i < 4; i++) {
        char name[512];
        snprintf(name, sizeof name, "candidates.%.*s.b%d.%s", n, module,
                 c->recipe.bits[k], parts[i]);
        long at = find(d, name);
        if (at < 0) continue;
        gm_mark mark = gm_arena_mark(d->arena);
        const gm_tensor *t = d->tensor + at;
        void *data = gm_alloc(d->arena, t->bytes, 1);
        int64_t count = t->shape[0] * t->shape[1];
        fill_part(&packed, parts[i], count, data);
        write_tensor(d, at, t->dtype, count, data);
        gm_arena_rewind(d->arena, mark);
    }
}

/* H as a full symmetric matrix, then U of the damped one. */
static void put_hessian(void *context, long l, int i, long n,
                             const double *H) {
    dump *d = context;
    const gm_recipe *r = &d->fit->candidates->recipe;
    char name[64];
    gm_mark mark = gm_arena_mark(d->arena);
    snprintf(name, sizeof name, "hessian.%ld.%s", l, inputs[i]);
    long at = find(d, name);
    if (at >= 0) {
        double *full = gm_alloc(d->arena, (size_t)n, (size_t)n * sizeof *full);
        for (long a = 0; a < n; a++)
            for (long b = 0; b <= a; b++)
                full[a * n + b] = full[b * n + a] = H[a * n + b];
        write_tensor(d, at, GM_F64, (int64_t)n * n, full);
        gm_arena_rewind(d->arena, mark);
    }
    snprintf(name, sizeof name, "factor.%ld.%s", l, inputs[i]);
    if ((at = find(d, name)) < 0) return;
    gm_factor factor;
    gm_gptq_factor(d->arena, n, H, r->damping, r->act_order, &factor);
    write_tensor(d, at, real_dtype, (int64_t)n * n, factor.U);
    gm_arena_rewind(d->arena, mark);
}

/* Any name of the layout that starts so. */
static bool any(const dump *d, const char *start) {
    for (long i = 0; i < d->count; i++)
        if (strncmp(d->tensor[i].name, start, strlen(start)) == 0) return true;
    return false;
}

static void put_hessians(dump *d) {
    const gm_candidates *c = d->fit->candidates;
    const gm_fit_options *o = &d->fit->options;
    gm_sequences text = {d->fit->tokens, o->S, o->T};
    if (!any(d, "hessian.") && !any(d, "factor.")) return;
    gm_hessians(d->arena, c->model, &c->recipe, &text, put_hessian, d);
}

/* The original model's blocks once more, on this step's tokens. */
static void put_block_details(dump *d, long l, const gm_acts *a) {
    const struct { const char *name; const gm_real *x; } inside[] = {
        {"norm1", a->x1}, {"q", a->q}, {"k", a->k}, {"v", a->v},
        {"attention", a->attn}, {"mid", a->mid}, {"norm2", a->x2},
        {"gate", a->gate}, {"up", a->up}, {"act", a->act}};
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        char name[64];
        snprintf(name, sizeof name, "detail.%ld.%s", l, inside[i].name);
        long at = find(d, name);
        if (at < 0) continue;
        const gm_tensor *t = d->tensor + at;
        write_tensor(d, at, t->dtype, t->shape[0] * t->shape[1],
                         inside[i].x);
    }
}

static void put_details(dump *d) {
    const gm_fit_options *o = &d->fit->options;
    const gm_model *model = d->fit->candidates->model;
    const gm_config *c = &model->config;
    gm_block block;
    gm_acts acts;
    gm_rope_table rope;
    if (!any(d, "detail.")) return;
    gm_mark mark = gm_arena_mark(d->arena);
    gm_real *h = gm_alloc(d->arena, (size_t)(o->batch * o->T),
                          (size_t)c->d * sizeof *h);
    gm_block_alloc(d->arena, c, &block);
    gm_acts_alloc(d->arena, c, o->batch, o->T, false, &acts);
    gm_rope_build(d->arena, c, o->T, NULL, &rope);
    gm_embed(model, d->tokens, o->batch * o->T, h);
    for (long l = 0; l < c->layers; l++) {
        gm_block_load(model, l, &block);
        gm_block_forward(c, &block, &rope, h, &acts, h);
        put_block_details(d, l, &acts);
    }
    gm_arena_rewind(d->arena, mark);
}

/* ---------------------------------------------------------------- the file */

/* What a reader of the dump alone needs to interpret it. */
static void metadata_of(dump *d, const char **pair) {
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
        pair[n++] = gm_format(d->arena, "%s", text[i]);
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        pair[n++] = number[i].key;
        pair[n++] = gm_format(d->arena, "%ld", number[i].value);
    }
    pair[n] = NULL;
}

static void begin_file(dump *d, const char *path) {
    const char *metadata[32];
    metadata_of(d, metadata);
    gm_safetensors_begin(d->arena, path, d->tensor, d->count,
                                     metadata, 0, &d->out);
    int64_t at = d->out.bytes;
    for (long i = 0; i < d->count; i++) {
        d->place[i].at = at;
        at += (int64_t)d->tensor[i].bytes;
    }
}

static void fill_file(dump *d) {
    gm_tap tap = {d, wants, put};
    d->fit->tap = &tap;
    gm_fit_step(d->fit);
    d->fit->tap = NULL;
    for (long i = 0; i < d->fit->M * d->fit->K; i++)
        put_candidate(d, i / d->fit->K, (int)(i % d->fit->K));
    put_hessians(d);
    put_details(d);
    double step = (double)d->fit->step;
    long at = find(d, "step");
    if (at >= 0) write_tensor(d, at, GM_F64, 1, &step);
    for (long i = 0; i < d->count; i++) assert(d->place[i].written);
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
    gm_out_commit(&out);        /* reports an earlier failure */
}

void gm_dump_step(gm_arena *arena, gm_fit *fit,
                       const gm_dump_options *options, const char *path,
                       const gm_report *report) {
    dump d = {.arena = arena, .fit = fit, .options = options};
    choose(&d, report);
    d.place = gm_alloc(arena, (size_t)d.count, sizeof *d.place);
    d.tokens = gm_alloc(arena, (size_t)(fit->options.batch * fit->options.T),
                        sizeof *d.tokens);
    begin_file(&d, path);
    fill_file(&d);
    write_scalars(&d, path);
    gm_out_commit(&d.out);
}
