/* plan.c: what a run will take, before it starts: memory and disk of each step,
   for --max-memory and the command `plan`, and a lower bound of its time.

   Memory and disk are sums over what each step allocates and writes, for the
   shapes of config.json (R rows, K candidates):

     candidates  a block, its packed candidates; GPTQ: the states [S T, d], H of
                 the four inputs, for the widest U, A and L^-1, activations
     fit_steps   a block and its gradient, activations forward and backward of
                 R = batch T rows, candidates of a block
     eval        states of all windows, twice; the output head; a block; a pass
     rivals      states of all blocks [L + 1, S T, d], a block, a pass, what
                 eval holds
     quantize    one module

   so nothing but rivals and disk grows with L.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <math.h>
#include <string.h>

static const char *const step_name[GM_PLAN_STEPS] = {
    "candidates", "fit_steps", "quantize", "rivals", "eval"};

/* Of a block: weights, of its largest module, of its widest input, sums over
   its four inputs, bytes of its packed candidates and of itself; weights of the
   head; candidates that are made. */
typedef struct {
    double n, module, widest, squares, cubes, packed, block, head;
    int made;
} shapes;

static shapes shapes_of(const gm_call *call) {
    const gm_config *c = &call->model.config;
    const gm_recipe *r = &call->recipe;
    shapes w = {.head = (double)(c->vocab * c->d)};
    gm_arena count = {.dry = true};
    gm_block block;
    gm_block_alloc(&count, c, &block);
    w.block = (double)count.peak;
    while (w.made < r->count && r->bits[w.made] < 16) w.made++;
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        w.n += (double)(out * in);
        w.module = fmax(w.module, (double)(out * in));
        w.widest = fmax(w.widest, (double)in);
        if (j == GM_Q || j == GM_O || j == GM_GATE || j == GM_DOWN) {
            w.squares += pow((double)in, 2);
            w.cubes += pow((double)in, 3);
        }
        for (int k = 0; k < w.made; k++)
            w.packed += (double)gm_packed_bytes(out, in, r->bits[k], r->group);
    }
    return w;
}

static double acts_bytes(const gm_config *c, long S, long T, bool backward) {
    gm_arena count = {.dry = true};
    gm_acts acts;
    gm_acts_alloc(&count, c, S, T, backward, &acts);
    return (double)count.peak;
}

/* ------------------------------------------------------------------- memory */

/* While a module is loaded: its stored bytes, or so many pages of the embedding
   as its tokens touch, 16 at a time as the system maps them. */
static double loading(const gm_call *call, const shapes *w, long tokens) {
    const double stored = call->plan.stored;
    return fmax(w->module * stored, fmin((double)tokens * 65536,
                                         w->head * stored));
}

static gm_planned candidates_step(const gm_call *call, const shapes *w) {
    const gm_config *c = &call->model.config;
    const gm_recipe *r = &call->recipe;
    const long S = call->fit.S, T = call->fit.T;
    const double real = sizeof(gm_real), wide = pow(w->widest, 2);
    double memory = call->plan.base + w->block + w->packed;
    if (r->quantizer != GM_GPTQ) {
        memory += w->module * fmax(2 / (double)r->group, call->plan.stored);
    } else {
        /* U of the widest input, w, e and codes of a module of it */
        double rounding = wide * real + w->module / w->widest * 64 * real +
                          w->module * (real + 1 + 1 / (double)r->group);
        memory += (double)(S * T * c->d) * real *
                  (r->sequential ? w->made : 1) + (double)T * 64 +
                  acts_bytes(c, gm_at_once(r, S), T, false) +
                  fmax(loading(call, w, S * T), w->squares * 8 +
                       fmax(wide * (real + 16), rounding));
    }
    const double header = 112 * 3 * GM_LINEARS * w->made;  /* a line a tensor */
    return (gm_planned){memory, (double)c->layers * (w->packed + header) + 300};
}

static double fit_memory(const gm_call *call, const shapes *w) {
    const gm_config *c = &call->model.config;
    const long R = call->fit.batch * call->fit.T;
    return call->plan.base + 2 * w->block +
           fmax(w->packed, loading(call, w, R)) +
           acts_bytes(c, call->fit.batch, call->fit.T, true) +
           (double)R * ((double)c->d * 4 * sizeof(gm_real) + 12) +
           (double)(c->layers * GM_LINEARS * call->recipe.count) * 15 * 8;
}

/* Windows whose states are held at once. */
static long held(const gm_call *call) {
    const long group = call->on.group, windows = call->on.text.S;
    return group ? gm_min(group, windows) : windows;
}

/* What loading the head, then a pass over `count` windows of T tokens takes
   while it lasts. */
static double pass_bytes(const gm_call *call, const shapes *w, long count,
                         long T) {
    const gm_config *c = &call->model.config;
    const double stored = call->plan.stored;
    double pass = w->block + w->module * stored +
                  acts_bytes(c, gm_batch(count, T), T, false);
    double logits = (double)(gm_logit_rows(c->vocab, T - 1) *
                             (2 * c->vocab + c->d) + gm_threads() * c->vocab);
    return fmax(w->head * stored, fmax(pass, logits * sizeof(gm_real)));
}

/* What evaluation keeps, the rivals beside it, then what passes. */
static void measuring_steps(const gm_call *call, const shapes *w,
                            gm_planned *step) {
    const gm_config *c = &call->model.config;
    const gm_plan *p = &call->plan;
    const long S = call->fit.S, T = call->fit.T, batch = gm_batch(S, T);
    const long windows = call->on.text.S, window = call->on.text.T;
    const double real = sizeof(gm_real), states = (double)(S * T * c->d) * real;
    double kept = p->base, most = w->module * p->stored;
    if (windows)
        kept += (2 * (double)(held(call) * window * c->d) + w->head) * real +
                (double)windows * 24 * (1 + p->uniforms + p->budgets);
    if (p->rivals > GM_MEASURES_NOTHING)
        kept += states * (double)(c->layers + 2) + (double)(S * T) * 8 +
                (w->module + (double)(batch * T * gm_tallest(c))) * real +
                w->block + acts_bytes(c, batch, T, false);
    if (p->rivals >= GM_MEASURES_MODELS) {
        kept += w->head * real + states;
        most = pass_bytes(call, w, S, T);
    }
    if (p->rivals == GM_MEASURES_GRADIENTS)
        most = fmax(most, (double)gm_expand_bytes(c, T));
    if (p->rivals > GM_MEASURES_NOTHING)
        step[GM_PLAN_RIVALS].memory = kept + most;
    if (windows)
        step[GM_PLAN_EVAL].memory = kept + pass_bytes(call, w, held(call),
                                                      window);
    /* a module's values, its stored bytes, what it was packed in; or the
       embedding, which is copied */
    most = fmax(w->module * (real + 2 * p->stored), w->head * p->stored);
    if (p->models)
        step[GM_PLAN_QUANTIZE] = (gm_planned){kept + most,
                                              p->model_bytes * p->budgets};
}

int gm_plan_memory(const gm_call *call, gm_planned step[GM_PLAN_STEPS]) {
    const shapes w = shapes_of(call);
    int most = 0;
    memset(step, 0, GM_PLAN_STEPS * sizeof *step);
    if (call->plan.candidates && w.made)
        step[GM_PLAN_CANDIDATES] = candidates_step(call, &w);
    if (call->plan.learns) step[GM_PLAN_FIT].memory = fit_memory(call, &w);
    measuring_steps(call, &w, step);
    for (int i = 0; i < GM_PLAN_STEPS; i++)
        if (step[i].memory >= step[most].memory) most = i;
    return most;
}

void gm_plan_fit(gm_call *call, double limit) {
    static const char *const lower[GM_PLAN_STEPS] = {
        "; lower --sequences, --length or the number of --bits",
        "; lower --batch or --length", "", "; lower --sequences or --length",
        "; lower --window"};
    gm_planned step[GM_PLAN_STEPS];
    int most;
    while (most = gm_plan_memory(call, step), step[most].memory > limit) {
        const long at_once = gm_at_once(&call->recipe, call->fit.S);
        if (held(call) > 1 && fmax(step[GM_PLAN_EVAL].memory,
                                   step[GM_PLAN_RIVALS].memory) > limit)
            call->on.group = (held(call) + 1) / 2;
        else if (call->recipe.quantizer == GM_GPTQ && at_once > 1 &&
                 step[GM_PLAN_CANDIDATES].memory > limit)
            call->recipe.at_once = at_once / 2;
        else
            gm_fail(GM_EMEM, "--max-memory: %s needs %.1f MB, expected at most "
                    "%.1f MB%s", step_name[most], step[most].memory / 1e6,
                    limit / 1e6, lower[most]);
    }
}

void gm_call_plan(gm_call *call) {
    /* the program, its libraries and their tables; workspaces of a thread */
    const double PROGRAM = 8e6, THREAD = 1.2e6;
    const gm_tensors *t = &call->model.tensors;
    gm_plan *p = &call->plan;
    gm_planned step[GM_PLAN_STEPS];
    char text[256] = "";
    int64_t limit = INT64_MAX;
    const char *most_text = call->max_memory;
    if (most_text && !gm_is_bytes(&call->arena, most_text, &limit))
        gm_fail(GM_EUSAGE, "--max-memory: expected a positive number of bytes, "
                "such as 500M or 2.5GiB, found \"%s\"", most_text);
    p->base = PROGRAM + THREAD * gm_threads() + (double)call->arena.used;
    for (long i = 0; i < t->count; i++)
        p->model_bytes += (double)t->tensor[i].bytes;
    if (t->count)               /* else `plan` has said it */
        p->stored = (double)gm_dtype_bytes(
            gm_linear_tensor(&call->model, 0, 0)->dtype);
    gm_plan_fit(call, (double)limit);
    int most = gm_plan_memory(call, step);
    for (int i = 0; i < GM_PLAN_STEPS; i++)
        if (step[i].memory > 0)
            snprintf(text + strlen(text), 40, "%s%s %.1f", *text ? ", " : "",
                     step_name[i], step[i].memory / 1e6);
    gm_talk(call, "memory: about %.1f MB (%s)", step[most].memory / 1e6, text);
}

/* -------------------------------------------------------------------- plan */

/* Multiply-adds of all products of a run. */
static double products_of(const gm_call *call) {
    const gm_config *c = &call->model.config;
    const gm_fit_options *o = &call->fit;
    const gm_plan *p = &call->plan;
    const shapes w = shapes_of(call);
    const double L = (double)c->layers;
    const double heads = (double)(c->heads * c->head_dim);
    const double S = (double)o->S, T = (double)o->T;
    const double windows = (double)call->on.text.S;
    const double window = (double)call->on.text.T;
    /* sequences through all blocks: teacher, student, twice that backward; each
       candidate of a module alone; GPTQ's inputs */
    double sequences = (double)(o->steps * o->batch) * 4, all = 0;
    if (o->relaxation == GM_SOFT_CORRECTED)
        sequences += S * GM_LINEARS * call->recipe.count;
    if (call->recipe.quantizer == GM_GPTQ) {
        const double streams = call->recipe.sequential ? w.made : 1;
        sequences += streams * S;
        all = streams * L * (S * T * w.squares / 2 + w.cubes) +
              w.made * L * w.n * w.widest / 2;
    }
    return all + sequences * T * L * (w.n + heads * (T + 1)) +
           (1 + p->uniforms + p->budgets) * windows * window *
           (L * (w.n + heads * (window + 1)) + w.head);
}

/* How many of them a second this machine does in one product, all threads. */
static double rate_here(gm_arena *arena) {
    enum { N = 768, TURNS = 3 };
    gm_real *x = gm_alloc(arena, (size_t)N * N, sizeof *x);
    gm_real *y = gm_alloc(arena, (size_t)N * N, sizeof *y);
    double least = HUGE_VAL;
    for (int i = 0; i < TURNS; i++) {
        double start = gm_seconds();
        gm_gemm(N, N, N, x, N, 1, x, 1, N, y, N, false);
        least = fmin(least, gm_seconds() - start);
    }
    return pow(N, 3) / least;
}

/* A directory with config.json alone: weights of torch_dtype's size. */
static void read_shapes(gm_call *call, const char *dir) {
    gm_arena *a = &call->arena;
    gm_config *c = &call->model.config;
    gm_plan *p = &call->plan;
    call->model.dir = dir;
    gm_config_read(a, dir, c);
    const gm_json *root = gm_json_read(a, gm_format(a, "%s/config.json", dir));
    const gm_json *type = gm_json_get(root, "torch_dtype");
    if (!type) type = gm_json_get(root, "dtype");
    p->stored = gm_json_is(type, "float32") ? 4 : 2;
    const shapes w = shapes_of(call);
    p->model_bytes = p->stored * ((double)c->layers * w.n +
                                  (c->tied ? 1 : 2) * w.head);
    gm_talk(call, "%s: no weights there; %.2f GB from its config.json", dir,
            p->model_bytes / 1e9);
}

static void run_plan(gm_call *call) {
    gm_arena *a = &call->arena;
    const char *dir = call->operand[0];
    gm_planned step[GM_PLAN_STEPS];
    double disk = 0;
    if (!gm_exists(gm_format(a, "%s/model.safetensors", dir)) &&
        !gm_exists(gm_format(a, "%s/model.safetensors.index.json", dir)))
        read_shapes(call, dir);
    gm_call_prepare(call);
    /* the texts that `run` would hold, or what they will take */
    call->on.text.S = call->windows ? call->windows : 16;
    call->on.text.T = call->window;
    if (call->text || call->text_tokens)
        gm_call_windows(call);
    else if (!call->windows)
        gm_talk(call, "no --eval and no --windows: 16 windows are assumed");
    if (call->calib || call->calib_tokens)
        gm_call_calibrate(call);
    else
        gm_alloc(a, (size_t)(call->fit.S * call->fit.T), sizeof(int32_t));
    gm_call_plan(call);
    int most = gm_plan_memory(call, step);
    gm_result_begin("step\tmemory_MB\tdisk_MB");
    for (int i = 0; i < GM_PLAN_STEPS; i++) {
        if (!(step[i].memory > 0)) continue;
        gm_result_row("%s\t%.1f\t%.1f", step_name[i], step[i].memory / 1e6,
                      step[i].disk / 1e6);
        disk += step[i].disk / 1e6;
    }
    gm_result_row("all\t%.1f\t%.1f", step[most].memory / 1e6, disk);
    gm_result_end(call);
    double products = products_of(call), rate = rate_here(a);
    gm_talk(call, "%.3g multiply-adds in products, %.3g a second here: at "
            "least %.1f s", products, rate, products / rate);
}

const gm_command gm_command_plan = {
    "plan", "MODEL [options of run]",
    "What gamma run will take: memory and disk of each step, products",
    "The process's peak memory in each step and the bytes it leaves on disk;\n"
    "then the multiply-adds of all products over this machine's measured\n"
    "rate, a lower bound of the time.  MODEL may hold a config.json alone.\n"
    "With --max-memory, what it takes within that.",
    1, PLAN, run_plan};
