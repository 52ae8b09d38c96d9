/* plan.c: what a run will take: seconds, memory and disk of each step, before
   it starts.

   Memory and disk are sums over what each step allocates and writes, for the
   shapes of config.json (M = 7 L modules, n weights in a block, R rows, K
   candidates):

     candidates  a block, its packed candidates; GPTQ: the states [S T, d], H of
                 the four inputs, for the widest U, A and L^-1, a pass's
                 activations
     fit         a block and its gradient, activations forward and backward of
                 R = batch T rows, mapped candidates of a block
     eval        states of all windows, twice; the output head; a block; a pass
     rivals      states of all blocks [L + 1, S T, d], a block, a pass, what
                 eval holds
     quantize    one module

   so nothing but rivals and disk grows with L.  Time is measured: each kind of
   work is done once for a cut-down block, on one thread, by the clock of the
   processor (others may use the machine), split by --profile's counters into
   products (they grow with R n), attention (S T (T + 1) Hq hd) and the rest,
   and scaled by these counts; threads divide it.
   Touches only what it is handed, and a temporary file of the C library.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <assert.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { INPUTS = 4 };
static const int input_module[INPUTS] = {GM_Q, GM_O, GM_GATE, GM_DOWN};

static const char *const step_name[GM_PLAN_STEPS] = {
    "hash", "teacher_states", "hessians", "candidates", "separable_errors",
    "fit_steps", "solve", "quantize", "rivals", "eval"};

const char *gm_plan_step_name(gm_plan_step step) { return step_name[step]; }

static double largest(double a, double b) { return a > b ? a : b; }

/* ------------------------------------------------------------------- counts */

/* Weights of one block, of its largest module, of its widest input. */
typedef struct { double n, module, widest, tallest, squares, cubes; } weights;

static weights weights_of(const gm_config *c) {
    weights w = {0};
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        w.n += (double)out * (double)in;
        w.module = largest(w.module, (double)out * (double)in);
        w.widest = largest(w.widest, (double)in);
    }
    w.tallest = (double)gm_tallest(c);
    for (int i = 0; i < INPUTS; i++) {
        long out, in;
        gm_linear_shape(c, input_module[i], &out, &in);
        w.squares += pow((double)in, 2);
        w.cubes += pow((double)in, 3);
    }
    return w;
}

/* Stored bytes of all candidates of a block, and how many are made. */
static double packed_of(const gm_config *c, const gm_recipe *r, int *made) {
    double bytes = 0;
    for (*made = 0; *made < r->count && r->bits[*made] < 16; ++*made)
        for (int j = 0; j < GM_LINEARS; j++) {
            long out, in;
            gm_linear_shape(c, j, &out, &in);
            bytes += (double)gm_packed_bytes(out, in, r->bits[*made], r->group);
        }
    return bytes;
}

/* What gm_block_alloc and gm_acts_alloc take, counted by themselves. */
static double block_bytes(const gm_config *c) {
    gm_arena count = {.dry = true};
    gm_block block;
    gm_block_alloc(&count, c, &block, NULL);
    return (double)count.peak;
}

static double acts_bytes(const gm_config *c, long S, long T, bool backward) {
    gm_arena count = {.dry = true};
    gm_acts acts;
    gm_acts_alloc(&count, c, S, T, backward, &acts, NULL);
    return (double)count.peak + (double)(T * c->head_dim) * sizeof(gm_real);
}

/* Pages of the embedding that R tokens touch, 16 at a time as the system maps
   them. */
static double embed_bytes(const gm_plan *p, double rows) {
    const gm_config *c = &p->config;
    return fmin(rows * 65536, (double)c->vocab * (double)c->d * p->stored);
}

/* ------------------------------------------------------------------- memory */

static bool is_gptq(const gm_plan *p) {
    return p->recipe.quantizer == GM_GPTQ;
}

static void candidates_memory(const gm_plan *p, gm_planned *step) {
    const gm_config *c = &p->config;
    const gm_recipe *r = &p->recipe;
    const double d = (double)c->d, real = sizeof(gm_real);
    const double rows = (double)p->fit.S * (double)p->fit.T;
    const weights w = weights_of(c);
    int made;
    double packed = packed_of(c, r, &made);
    double memory = block_bytes(c) + packed;
    if (made == 0) return;
    if (!is_gptq(p)) {
        /* scales of a module; while it is loaded, its stored bytes */
        memory += largest(w.module / (double)r->group * 2, w.module *
                                                            p->stored);
    } else {
        long at_once = gm_at_once(r, p->fit.S);
        memory += rows * d * real * (r->sequential ? made : 1) +
                  (double)(4 * p->fit.T) * 16 + /* weights, attention mass */
                  acts_bytes(c, at_once, p->fit.T, false);
        step[GM_PLAN_STATES].memory =
            (int64_t)(p->base + memory + largest(w.module * p->stored,
                                                 embed_bytes(p, rows)));
        memory += w.squares * 8;
        step[GM_PLAN_HESSIANS].memory =
            (int64_t)(p->base + memory + pow(w.widest, 2) * (real + 16));
        /* U of the widest input, w, e and codes of a module of it */
        double gptq = pow(w.widest, 2) * real +
                      w.module * (real + 1 + 1 / (double)r->group) +
                      w.module / w.widest * 64 * real;
        memory += largest(pow(w.widest, 2) * (real + 16), gptq);
    }
    step[GM_PLAN_CANDIDATES].memory = (int64_t)(p->base + memory);
    /* a header line a tensor, as in candidates.c */
    double header = (double)(c->layers * GM_LINEARS * made * 3) * 112 + 300;
    step[GM_PLAN_CANDIDATES].disk =
        (int64_t)((double)c->layers * packed + header);
}

static void fit_memory(const gm_plan *p, gm_planned *step) {
    const gm_config *c = &p->config;
    const weights w = weights_of(c);
    const double R = (double)p->fit.batch * (double)p->fit.T;
    int made;
    double mapped = largest(packed_of(c, &p->recipe, &made),
                            largest(w.module * p->stored, embed_bytes(p, R)));
    double memory = p->base + 2 * block_bytes(c) + mapped +
                    acts_bytes(c, p->fit.batch, p->fit.T, true) +
                    R * ((double)c->d * 4 * sizeof(gm_real) + 12) +
                    (double)(c->layers * GM_LINEARS * p->recipe.count) * 15 * 8;
    step[GM_PLAN_STEPS_OF_FIT].memory = (int64_t)memory;
    if (p->fit.relaxation == GM_SOFT_CORRECTED)
        step[GM_PLAN_SEPARABLE].memory = (int64_t)memory;
}

/* Windows whose states are held at once. */
static long held(const gm_plan *p) {
    return p->group && p->group < p->windows ? p->group : p->windows;
}

/* What loading the head, then a pass over `count` windows of T tokens takes
   while it lasts. */
static double pass_bytes(const gm_plan *p, long count, long T) {
    const gm_config *c = &p->config;
    double pass = block_bytes(c) + weights_of(c).module * p->stored +
                  acts_bytes(c, gm_batch(count, T), T, false);
    long chunk = gm_logit_rows(c->vocab, T - 1);
    double logits = (double)(chunk * (2 * c->vocab + c->d) +
                             gm_threads() * c->vocab) * sizeof(gm_real);
    double head = (double)c->vocab * (double)c->d * p->stored;
    return largest(head, largest(pass, logits));
}

/* objective.c: kept until the end, evaluation's `kept` beside it. */
static double rivals_memory(const gm_plan *p, double kept, gm_planned *step) {
    const gm_config *c = &p->config;
    const weights w = weights_of(c);
    const long S = p->fit.S, T = p->fit.T;
    const double rows = (double)S * (double)T, real = sizeof(gm_real);
    const double head = (double)c->vocab * (double)c->d;
    if (p->rivals == GM_MEASURES_NOTHING) return 0;
    long batch = gm_batch(S, T);
    double own = rows * (double)c->d * (double)(c->layers + 2) * real +
                 (w.module + (double)(batch * T) * w.tallest) * real +
                 rows * 8 + block_bytes(c) + acts_bytes(c, batch, T, false);
    double most = w.module * p->stored;
    if (p->rivals >= GM_MEASURES_MODELS) {
        own += (head + rows * (double)c->d) * real;
        most = pass_bytes(p, S, T);
    }
    if (p->rivals == GM_MEASURES_GRADIENTS)
        most = largest(most, (double)gm_expand_bytes(c, T, p->recipe.count));
    step[GM_PLAN_RIVALS].memory = (int64_t)(kept + own + most);
    return own;
}

static void eval_memory(const gm_plan *p, gm_planned *step) {
    const gm_config *c = &p->config;
    const weights w = weights_of(c);
    const double head = (double)c->vocab * (double)c->d, real = sizeof(gm_real);
    double kept = p->base;
    if (p->windows) {
        long rows = held(p) * p->window;
        kept += (2 * (double)(rows * c->d) + head) * real +
                (double)p->windows * 24 * (1 + p->uniforms + p->budgets);
    }
    kept += rivals_memory(p, kept, step);
    if (p->windows)
        step[GM_PLAN_EVAL].memory =
            (int64_t)(kept + pass_bytes(p, held(p), p->window));
    if (p->models) {
        /* a module's values, its stored bytes, what it was packed in; or the
           embedding, which is copied */
        double module = w.module * (real + 2 * p->stored);
        double memory = kept + largest(module, head * p->stored);
        step[GM_PLAN_QUANTIZE].memory = (int64_t)memory;
        step[GM_PLAN_QUANTIZE].disk = (int64_t)(p->model_bytes * p->budgets);
    }
}

void gm_plan_memory(const gm_plan *p, gm_planned step[GM_PLAN_STEPS]) {
    memset(step, 0, GM_PLAN_STEPS * sizeof *step);
    step[GM_PLAN_HASH].memory =
        (int64_t)(p->base + fmin(p->model_bytes, 1 << 24));
    if (p->candidates) candidates_memory(p, step);
    if (p->learns) fit_memory(p, step);
    if (p->budgets) step[GM_PLAN_SOLVE].memory = (int64_t)p->base;
    eval_memory(p, step);
}

int64_t gm_plan_peak(const gm_planned step[GM_PLAN_STEPS]) {
    int64_t most = 0;
    for (int i = 0; i < GM_PLAN_STEPS; i++)
        if (step[i].memory > most) most = step[i].memory;
    return most;
}

gm_status gm_plan_fit(gm_plan *p, int64_t limit, gm_error *err) {
    gm_planned step[GM_PLAN_STEPS];
    gm_plan_memory(p, step);
    while ((step[GM_PLAN_EVAL].memory > limit ||
            step[GM_PLAN_RIVALS].memory > limit) && held(p) > 1) {
        p->group = (held(p) + 1) / 2;
        gm_plan_memory(p, step);
    }
    while (step[GM_PLAN_CANDIDATES].memory > limit && is_gptq(p) &&
           gm_at_once(&p->recipe, p->fit.S) > 1) {
        p->recipe.at_once = gm_at_once(&p->recipe, p->fit.S) / 2;
        gm_plan_memory(p, step);
    }
    if (gm_plan_peak(step) <= limit) return GM_OK;
    static const char *const lower[GM_PLAN_STEPS] = {
        [GM_PLAN_CANDIDATES] = "--sequences, --length or the number of --bits",
        [GM_PLAN_STEPS_OF_FIT] = "--batch or --length",
        [GM_PLAN_RIVALS] = "--sequences or --length",
        [GM_PLAN_EVAL] = "--window"};
    int most = 0;
    for (int i = 0; i < GM_PLAN_STEPS; i++)
        if (step[i].memory >= step[most].memory) most = i;
    return gm_fail(err, GM_EMEM, "--max-memory: %s needs %.1f MB, expected at "
                   "most %.1f MB%s%s", step_name[most],
                   (double)step[most].memory / 1e6, (double)limit / 1e6,
                   lower[most] ? "; lower " : "",
                   lower[most] ? lower[most] : "");
}

/* --------------------------------------------------------------------- time */

/* Seconds of one thread for a piece of work. */
typedef struct { double gemm, attention, rest; } cost;

static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The least of a few turns, since a machine in use only ever takes longer. */
static cost measure(void (*work)(void *context), void *context) {
    enum { TURNS = 3 };
    cost least = {HUGE_VAL, HUGE_VAL, HUGE_VAL};
    for (int i = 0; i < TURNS; i++) {
        gm_profile_start(processor_seconds);
        double start = processor_seconds();
        work(context);
        double all = processor_seconds() - start;
        gm_profile_stop();
        const gm_kernel_time *k = gm_profile();
        double gemm = k[GM_AT_GEMM].seconds;
        double attention = k[GM_AT_ATTENTION].seconds +
                           k[GM_AT_ATTENTION_BACKWARD].seconds;
        least.gemm = fmin(least.gemm, gemm);
        least.attention = fmin(least.attention, attention);
        least.rest = fmin(least.rest, all - gemm - attention);
    }
    return least;
}

/* Heads, hidden and MLP sizes divided alike until a pass is short. */
static gm_config cut_config(const gm_config *c, double most) {
    gm_config small = *c;
    for (long f = 2; weights_of(&small).n > most && c->kv_heads % f == 0 &&
                     c->d % (64 * f) == 0 && c->ff % (8 * f) == 0; f *= 2) {
        small.heads = c->heads / f;
        small.kv_heads = c->kv_heads / f;
        small.d = c->d / f;
        small.ff = c->ff / f;
    }
    return small;
}

/* Small values of either sign, about as many as a layer has. */
static void fill(gm_real *x, double n) {
    assert(x);
    for (long i = 0; i < (long)n; i++)
        x[i] = (gm_real)((double)(i * 2654435761 % 1021) / 25000 - 0.02);
}

/* A cut-down block and what it works on. */
typedef struct {
    gm_config c;
    long T;
    gm_block block, grad;
    gm_acts acts;
    gm_rope_table rope;
    gm_real *h, *y, *d_y;
} probe;

static void work_forward(void *context) {
    probe *b = context;
    gm_block_forward(&b->c, &b->block, &b->rope, b->h, &b->acts, b->y);
}

static void work_backward(void *context) {
    probe *b = context;
    gm_block_backward(&b->c, &b->block, &b->rope, b->h, &b->acts, b->d_y,
                      &b->grad, NULL);
}

static gm_status probe_room(gm_arena *arena, const gm_plan *p, probe *b,
                            gm_error *err) {
    *b = (probe){.c = cut_config(&p->config, 8e6)};
    b->T = gm_min(p->fit.T, 256);
    double values = (double)(b->T * b->c.d);
    b->h = gm_alloc(arena, (size_t)values, sizeof *b->h);
    b->y = gm_alloc(arena, (size_t)values, sizeof *b->y);
    b->d_y = gm_alloc(arena, (size_t)values, sizeof *b->d_y);
    if (!b->h || !b->y || !b->d_y) return gm_nomem(err);
    gm_status s = gm_block_alloc(arena, &b->c, &b->block, err);
    if (!s) s = gm_grad_alloc(arena, &b->c, &b->grad, err);
    if (!s) s = gm_acts_alloc(arena, &b->c, 1, b->T, true, &b->acts, err);
    if (!s) s = gm_rope_build(arena, &b->c, b->T, NULL, &b->rope, err);
    if (s) return s;
    fill(b->h, values);
    fill(b->d_y, values);
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(&b->c, j, &out, &in);
        fill(b->block.w[j], (double)out * (double)in);
    }
    fill(b->block.norm1, (double)b->c.d);
    fill(b->block.norm2, (double)b->c.d);
    return GM_OK;
}

/* `of` the cut-down block, of S sequences of T tokens through the true one. */
static double passed(const gm_plan *p, const probe *b, cost of, double S,
                     double T) {
    const gm_config *c = &p->config;
    double R = S * T, R0 = (double)b->T;
    double q = (double)(c->heads * c->head_dim);
    double q0 = (double)(b->c.heads * b->c.head_dim);
    return of.gemm * R * weights_of(c).n / (R0 * weights_of(&b->c).n) +
           of.attention * R * (T + 1) * q / (R0 * (R0 + 1) * q0) +
           of.rest * R * (double)(4 * c->d + c->ff) /
               (R0 * (double)(4 * b->c.d + b->c.ff));
}

/* One weight [out, in] and all that is done to weights alone. */
typedef struct {
    const gm_plan *p;
    gm_arena *arena;
    long out, in, rows;
    int made;
    gm_real *w, *x;
    uint8_t *stored;
    gm_tensor tensor;
    gm_packed packed[GM_MAX_CANDIDATES];
    uint16_t *scales;
    double *row, *H, *weight;
    gm_factor factor;
} material;

static void work_rtn(void *context) {
    material *m = context;
    for (int k = 0; k < m->made; k++)
        gm_rtn(m->w, m->out, m->in, m->packed[k].bits, m->packed[k].group,
               m->p->recipe.scales, (uint8_t *)(uintptr_t)m->packed[k].codes,
               m->scales, (uint8_t *)(uintptr_t)m->packed[k].zeros);
}

static void work_gptq(void *context) {
    material *m = context;
    for (int k = 0; k < m->made; k++)
        gm_gptq(m->arena, m->w, m->out, m->in, m->packed[k].bits,
                m->packed[k].group, m->p->recipe.scales, &m->factor,
                (uint8_t *)(uintptr_t)m->packed[k].codes, m->scales,
                (uint8_t *)(uintptr_t)m->packed[k].zeros, NULL);
}

static void work_mix(void *context) {
    material *m = context;
    double p[GM_MAX_CANDIDATES];
    for (int k = 0; k < m->made; k++) p[k] = 1. / m->made;
    gm_mix(m->packed, m->made, p, m->x, NULL);
}

static void work_inner(void *context) {
    material *m = context;
    double g[GM_MAX_CANDIDATES];
    gm_inner(m->packed, m->made, m->w, m->row, g, NULL);
}

static void work_dequantize(void *context) {
    material *m = context;
    gm_dequantize(m->packed, m->x, NULL);
}

static void work_load(void *context) {
    material *m = context;
    gm_tensor_read(&m->tensor, 0, m->out * m->in, m->x, NULL);
}

static void work_store(void *context) {
    material *m = context;
    gm_store(m->tensor.dtype, m->w, m->out * m->in, m->stored);
}

static void work_hash(void *context) {
    material *m = context;
    gm_sha sha;
    gm_sha_begin(&sha);
    gm_sha_add(&sha, m->w, (size_t)(m->out * m->in) * sizeof *m->w);
}

static void work_gram(void *context) {
    material *m = context;
    gm_gram(m->rows, m->in, m->w, m->weight, m->H);
}

static void work_factor(void *context) {
    material *m = context;
    for (long i = 0; i < m->in; i++) m->H[i * m->in + i] += 1;
    gm_gptq_factor(m->arena, m->in, m->H, m->p->recipe.damping,
                   m->p->recipe.act_order, &m->factor, NULL);
}

static gm_status material_room(gm_arena *arena, const gm_plan *p, material *m,
                               gm_error *err) {
    *m = (material){.p = p, .arena = arena, .out = 768, .rows = 512};
    const gm_recipe *r = &p->recipe;
    m->in = p->config.d < 1024 ? p->config.d : 1024;
    packed_of(&p->config, r, &m->made);
    size_t n = (size_t)(m->out * m->in);
    m->w = gm_alloc(arena, n, sizeof *m->w);
    m->x = gm_alloc(arena, n, sizeof *m->x);
    m->stored = gm_alloc(arena, n, 4);
    m->scales = gm_alloc(arena, n, sizeof *m->scales);
    m->row = gm_alloc(arena, (size_t)m->out * GM_MAX_CANDIDATES,
                      sizeof *m->row);
    m->H = gm_alloc(arena, (size_t)(m->in * m->in), sizeof *m->H);
    m->weight = gm_alloc(arena, (size_t)m->rows, sizeof *m->weight);
    if (!m->w || !m->x || !m->stored || !m->scales || !m->row || !m->H ||
        !m->weight)
        return gm_nomem(err);
    fill(m->w, (double)n);
    for (long i = 0; i < m->rows; i++) m->weight[i] = 1;
    for (int k = 0; k < m->made; k++) {
        gm_parts b = gm_packed_parts(m->out, m->in, r->bits[k], r->group);
        uint8_t *data = gm_alloc(arena, (size_t)(b.codes + b.scales + b.zeros),
                                 1);
        if (!data) return gm_nomem(err);
        m->packed[k] = (gm_packed){r->bits[k], m->out, m->in, r->group, data,
                                   data + b.codes, data + b.codes + b.scales,
                                   NULL};
    }
    m->tensor = (gm_tensor){"", p->stored == 4 ? GM_F32 : GM_BF16, 2,
                            {m->out, m->in}, m->stored,
                            n * (size_t)p->stored, ""};
    return GM_OK;
}

static double all_of(cost c) { return c.gemm + c.attention + c.rest; }

/* A chunk of logits of a vocabulary cut to what is short. */
enum { HEAD_ROWS = 256 };
typedef struct { gm_arena *arena; gm_head head; gm_real *h; } heading;

static void work_head(void *context) {
    heading *h = context;
    int32_t tokens[HEAD_ROWS + 1] = {0};
    gm_text text = {tokens, 1, HEAD_ROWS + 1};
    gm_measure out;
    gm_evaluate(h->arena, &h->head, &text, h->h, h->h, NULL, &out, NULL);
}

/* Seconds for a window's logits, student's and teacher's: per token. */
static gm_status head_cost(gm_arena *arena, const gm_plan *p, double *token,
                           gm_error *err) {
    const gm_config *c = &p->config;
    heading h = {arena, {.d = c->d, .eps = 1e-5}, NULL};
    h.head.vocab = c->vocab < 4096 ? c->vocab : 4096;
    double n = (double)(h.head.vocab * c->d);
    h.head.w = gm_alloc(arena, (size_t)n, sizeof *h.head.w);
    h.head.norm = gm_alloc(arena, (size_t)c->d, sizeof *h.head.norm);
    h.h = gm_alloc(arena, (size_t)((HEAD_ROWS + 1) * c->d),
                   sizeof *h.h);
    if (!h.head.w || !h.head.norm || !h.h) return gm_nomem(err);
    fill(h.head.w, n);
    fill(h.head.norm, (double)c->d);
    fill(h.h, (HEAD_ROWS + 1.) * (double)c->d);
    *token = all_of(measure(work_head, &h)) / HEAD_ROWS * (double)c->vocab /
             (double)h.head.vocab;
    return GM_OK;
}

/* Bytes a second to a file and its disk. */
static double disk_rate(const void *data, size_t bytes) {
    double best = 0;
    for (int i = 0; i < 2; i++) {
        FILE *file = tmpfile();
        double start = gm_seconds();
        bool done = file && fwrite(data, 1, bytes, file) == bytes &&
                    fflush(file) == 0 && fsync(fileno(file)) == 0;
        if (done) best = fmax(best, (double)bytes / (gm_seconds() - start));
        if (file) fclose(file);
    }
    return best > 0 ? best : 1e8;
}

/* Seconds a weight, on one thread. */
typedef struct {
    double rtn, gptq, mix, inner, one, load, store, hash, gram, factor, head;
    double disk;
} rates;

static gm_status measure_rates(gm_arena *arena, const gm_plan *p, rates *r,
                               gm_error *err) {
    material m;
    gm_status s = material_room(arena, p, &m, err);
    if (!s) s = head_cost(arena, p, &r->head, err);
    if (s) return s;
    double n = (double)(m.out * m.in), square = pow((double)m.in, 2);
    r->rtn = all_of(measure(work_rtn, &m)) / n;
    r->mix = all_of(measure(work_mix, &m)) / n;
    r->inner = all_of(measure(work_inner, &m)) / n;
    r->one = m.made ? all_of(measure(work_dequantize, &m)) / n : 0;
    r->load = all_of(measure(work_load, &m)) / n;
    r->store = all_of(measure(work_store, &m)) / n;
    r->hash = all_of(measure(work_hash, &m)) / n / sizeof *m.w;
    r->disk = disk_rate(m.w, (size_t)n * sizeof *m.w);
    if (is_gptq(p) && p->candidates) {
        r->gram = all_of(measure(work_gram, &m)) / square / (double)m.rows;
        r->factor = all_of(measure(work_factor, &m)) / square / (double)m.in;
        cost g = measure(work_gptq, &m);
        double widest = 0, n_block = weights_of(&p->config).n;
        for (int j = 0; j < GM_LINEARS; j++) {
            long out, in;
            gm_linear_shape(&p->config, j, &out, &in);
            widest += (double)out * (double)in * (double)in / n_block;
        }
        r->gptq = g.rest / n + g.gemm / n * widest / (double)m.in;
    }
    return GM_OK;
}

/* Passes of --sequential for a number of bits: to each input, and the last. */
#define SEQUENTIAL_PASSES 2.4

static void plan_seconds(const gm_plan *p, const probe *b, const rates *r,
                         cost forward, cost backward, gm_planned *step) {
    const gm_config *c = &p->config;
    const gm_fit_options *o = &p->fit;
    const weights w = weights_of(c);
    const double L = (double)c->layers, N = L * w.n, threads = gm_threads();
    const double S = (double)o->S, T = (double)o->T, batch = (double)o->batch;
    int made;
    double packed = packed_of(c, &p->recipe, &made) * L;
    double fwd = L * passed(p, b, forward, batch, T) / threads;
    double bwd = L * passed(p, b, backward, batch, T) / threads;
    step[GM_PLAN_HASH].seconds = p->model_bytes * r->hash;
    if (p->candidates && made) {
        double passes = p->recipe.sequential ? SEQUENTIAL_PASSES * made : 1;
        double write = packed * (r->hash + 1 / r->disk);
        double make = N * (is_gptq(p) ? r->gptq : r->rtn) / threads;
        step[GM_PLAN_CANDIDATES].seconds = N * r->load + make + write;
        if (is_gptq(p)) {
            step[GM_PLAN_STATES].seconds =
                passes * L * passed(p, b, forward, S, T) / threads;
            step[GM_PLAN_HESSIANS].seconds =
                (p->recipe.sequential ? made : 1) * L / threads *
                (S * T * w.squares * r->gram + w.cubes * r->factor);
        }
    }
    const long sweeps = (o->S + o->batch - 1) / o->batch;
    if (p->learns && o->relaxation == GM_SOFT_CORRECTED)
        step[GM_PLAN_SEPARABLE].seconds = (double)sweeps *
            p->recipe.count * (GM_LINEARS * fwd + N * r->one / threads);
    if (p->learns)
        step[GM_PLAN_STEPS_OF_FIT].seconds =
            (double)o->steps * (N * r->load + 2 * fwd + bwd +
                                N * (r->mix + r->inner) / threads);
    if (p->models)
        step[GM_PLAN_QUANTIZE].seconds = p->budgets *
            (N * (r->one / threads + r->store) + p->model_bytes / r->disk);
    double states = p->windows ? L * passed(p, b, forward, (double)p->windows,
                                            (double)p->window) / threads : 0;
    double tokens = (double)p->windows * (double)p->window;
    double others = p->uniforms + p->budgets;
    if (p->windows)         /* the original's row has one of two heads */
        step[GM_PLAN_EVAL].seconds = (1 + others) * (states + N * r->load) +
            others * N * r->one / threads +
            tokens * (others + 0.5) * r->head / threads;
}

/* A problem of the same modules and candidates, scores falling as 4^-b. */
static gm_status solve_seconds(gm_arena *arena, const gm_plan *p,
                               double *seconds, gm_error *err) {
    const long M = p->config.layers * GM_LINEARS;
    const int K = p->recipe.count;
    gm_mckp q;
    gm_certificate certificate;
    int *choice = gm_alloc(arena, (size_t)M, sizeof *choice);
    gm_status s = choice ? gm_mckp_new(arena, M, K, &q, err) : gm_nomem(err);
    for (long i = 0; i < M * K && !s; i++) {
        long out, in;
        gm_linear_shape(&p->config, (int)(i / K % GM_LINEARS), &out, &in);
        int bits = p->recipe.bits[i % K];
        q.size[i] = gm_packed_bytes(out, in, bits, p->recipe.group);
        q.score[i] = (int64_t)((1 + gm_uniform(1, 0, (uint64_t)(i / K))) *
                               (double)(1 << 28 >> 2 * (bits < 14 ? bits
                                                                  : 14)));
        q.budget += q.size[i] / K;
    }
    gm_solve_options o = {.solver = gm_have_glpk() ? GM_BOTH : GM_DP,
                          .seconds = 10};
    double start = processor_seconds();
    if (!s) s = gm_mckp_solve(arena, &q, &o, choice, &certificate, err);
    *seconds = processor_seconds() - start;
    return s == GM_ELIMIT ? GM_OK : s;
}

gm_status gm_plan_time(gm_arena *arena, const gm_plan *p,
                       gm_planned step[GM_PLAN_STEPS], gm_error *err) {
    const int threads = gm_threads();
    gm_mark mark = gm_arena_mark(arena);
    probe b;
    rates r = {0};
    cost forward = {0}, backward = {0};
    gm_threads_use(1);
    gm_status s = probe_room(arena, p, &b, err);
    if (!s) forward = measure(work_forward, &b);
    if (!s && p->learns) backward = measure(work_backward, &b);
    if (!s) s = measure_rates(arena, p, &r, err);
    gm_threads_use(threads);
    double solve = 0;
    if (!s && p->budgets) s = solve_seconds(arena, p, &solve, err);
    step[GM_PLAN_SOLVE].seconds = solve * p->budgets;
    if (!s) plan_seconds(p, &b, &r, forward, backward, step);
    gm_arena_rewind(arena, mark);
    return s;
}
