/* cost.c: what a run will take: memory and disk of each step, and its
   products, before it starts.

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

   so nothing but rivals and disk grows with L.  Time is the multiply-adds of
   all products over the rate of one product, measured: a lower bound that
   leaves out reading, hashing, rounding and writing.
   Touches only what it is handed.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <math.h>
#include <string.h>

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
    gm_block_alloc(&count, c, &block);
    return (double)count.peak;
}

static double acts_bytes(const gm_config *c, long S, long T, bool backward) {
    gm_arena count = {.dry = true};
    gm_acts acts;
    gm_acts_alloc(&count, c, S, T, backward, &acts);
    return (double)count.peak;
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
        most = largest(most, (double)gm_expand_bytes(c, T));
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

void gm_plan_fit(gm_plan *p, int64_t limit) {
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
    if (gm_plan_peak(step) <= limit) return;
    static const char *const lower[GM_PLAN_STEPS] = {
        [GM_PLAN_CANDIDATES] = "--sequences, --length or the number of --bits",
        [GM_PLAN_STEPS_OF_FIT] = "--batch or --length",
        [GM_PLAN_RIVALS] = "--sequences or --length",
        [GM_PLAN_EVAL] = "--window"};
    int most = 0;
    for (int i = 0; i < GM_PLAN_STEPS; i++)
        if (step[i].memory >= step[most].memory) most = i;
    gm_fail(GM_EMEM, "--max-memory: %s needs %.1f MB, expected at "
                   "most %.1f MB%s%s", step_name[most],
                   (double)step[most].memory / 1e6, (double)limit / 1e6,
                   lower[most] ? "; lower " : "",
                   lower[most] ? lower[most] : "");
}

/* --------------------------------------------------------------------- time */

/* Multiply-adds of `rows` rows in sequences of T through all blocks. */
static double pass_products(const gm_config *c, double rows, double T) {
    double attention = (double)(c->heads * c->head_dim) * (T + 1);
    return rows * (double)c->layers * (weights_of(c).n + attention);
}

double gm_plan_products(const gm_plan *p) {
    const gm_config *c = &p->config;
    const gm_fit_options *o = &p->fit;
    const weights w = weights_of(c);
    const double L = (double)c->layers, T = (double)o->T;
    const double rows = (double)o->S * T, batch = (double)o->batch * T;
    const double sweeps = (double)((o->S + o->batch - 1) / o->batch);
    int made;
    double all = 0, others = p->uniforms + p->budgets;
    packed_of(c, &p->recipe, &made);
    if (p->candidates && is_gptq(p)) {
        double streams = p->recipe.sequential ? made : 1;
        all += streams * (pass_products(c, rows, T) +
                          L * (rows * w.squares / 2 + w.cubes)) +
               made * L * w.n * w.widest / 2;
    }
    if (p->learns && o->relaxation == GM_SOFT_CORRECTED)
        all += sweeps * p->recipe.count * GM_LINEARS *
               pass_products(c, batch, T);
    if (p->learns)      /* teacher, student, and twice that backward */
        all += (double)o->steps * 4 * pass_products(c, batch, T);
    if (p->windows) {
        double tokens = (double)p->windows * (double)p->window;
        all += (1 + others) * (pass_products(c, tokens, (double)p->window) +
                               tokens * (double)c->vocab * (double)c->d);
    }
    return all;
}

double gm_plan_rate(gm_arena *arena) {
    enum { N = 768, TURNS = 3 };
    gm_mark mark = gm_arena_mark(arena);
    gm_real *x = gm_alloc(arena, (size_t)N * N, sizeof *x);
    gm_real *y = gm_alloc(arena, (size_t)N * N, sizeof *y);
    double least = HUGE_VAL;
    for (int i = 0; i < TURNS; i++) {
        double start = gm_seconds();
        gm_gemm(N, N, N, x, N, 1, x, 1, N, y, N, false);
        least = fmin(least, gm_seconds() - start);
    }
    gm_arena_rewind(arena, mark);
    return pow(N, 3) / least;
}
