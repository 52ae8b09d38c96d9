/* plan.c: what a run will take, before it starts: memory (the process's peak)
   and disk of each step, for --max-memory and the command `plan`, and a lower
   bound of its time.  A step's memory is what it allocates at once, for the
   shapes of config.json; nothing but rivals and disk grows with the blocks.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <math.h>
#include <string.h>

/* lower: the option that makes the step fit. */
static const struct { const char *name, *lower; } steps[GM_PLAN_STEPS] = {
    {"candidates", "; lower --sequences, --length or the number of --bits"},
    {"fit_steps", "; lower --batch or --length"},
    {"quantize", ""},
    {"rivals", "; lower --sequences or --length"},
    {"eval", "; lower --window"}};

static const char *name_of(const gm_call *call, int step) {
    return step == GM_PLAN_RIVALS && call->plan.whole ? "anchors"
         : steps[step].name;
}

/* Weights of a block, of its largest module, of the head, of the model; widest
   input; squares of its four inputs; bytes of the block and of its packed
   candidates, of which `made` are. */
typedef struct {
    double n, module, head, all, widest, squares, block, packed;
    int made;
} shapes;

static shapes shapes_of(const gm_call *call) {
    const gm_config *c = &call->model.config;
    const gm_recipe *r = &call->recipe;
    const double d = (double)c->d, ff = (double)c->ff;
    const double q = (double)(c->heads * c->head_dim);
    const double kv = (double)(c->kv_heads * c->head_dim);
    shapes w = {.n = d * (2 * q + 2 * kv + 3 * ff), .module = d * fmax(q, ff),
                .head = (double)c->vocab * d, .widest = fmax(d, fmax(q, ff)),
                .squares = 2 * d * d + q * q + ff * ff};
    w.block = w.n * sizeof(gm_real);
    w.all = (double)c->layers * w.n + (c->tied ? 1 : 2) * w.head;
    for (; w.made < r->count && r->bits[w.made] < 16; w.made++)
        w.packed += w.n * (r->bits[w.made] / 8. +
                           (2 + r->bits[w.made] / 8.) / (double)r->group);
    return w;
}

static double acts_bytes(const gm_config *c, long S, long T, bool backward) {
    gm_arena count = {.dry = true};
    gm_acts acts;
    gm_acts_alloc(&count, c, S, T, backward, &acts);
    return (double)count.peak;
}

/* ------------------------------------------------------------------- memory */

/* Windows whose states are held at once. */
static long held(const gm_call *call) {
    const long group = call->on.group, windows = call->on.text.sequences;
    return group ? gm_min(group, windows) : windows;
}

/* A pass over `count` sequences of T tokens: a block, then logits. */
static double pass_memory(const gm_call *call, const shapes *w, long count,
                          long T) {
    const gm_config *c = &call->model.config;
    const double logits = (double)(
        gm_logit_rows(c->vocab, T - 1) * (2 * c->vocab + c->d) +
        gm_threads() * c->vocab);
    return fmax(w->block + acts_bytes(c, gm_batch(count, T), T, false),
                logits * sizeof(gm_real));
}

/* GPTQ's states (one set, or one for each number of bits) and H; then the
   factor U of the widest input with A and L^-1, or with what rounds a module of
   it.  RTN: the codes of a module. */
static double rounding_memory(const gm_call *call, const shapes *w) {
    const gm_config *c = &call->model.config;
    const gm_recipe *r = &call->recipe;
    const long S = call->fit.sequences, T = call->fit.T;
    const long at_once = gm_at_once(r, S);
    const double real = sizeof(gm_real), wide = pow(w->widest, 2);
    const double codes = w->module * (1 + 3 / (double)r->group);
    if (r->quantizer != GM_GPTQ) return codes;
    return (double)(S * T * c->d) * real * (r->sequential ? w->made : 1) +
           acts_bytes(c, at_once, T, false) + w->squares * 8 + wide * real +
           fmax(wide * 16, codes + w->module * (1 + 64 / w->widest) * real);
}

/* What the rivals keep beside evaluation, and what passes. */
static double rivals_memory(const gm_call *call, const shapes *w,
                            double *kept) {
    const gm_config *c = &call->model.config;
    const gm_measures measures = call->plan.rivals;
    const long S = call->fit.sequences, T = call->fit.T, batch = gm_batch(S, T);
    const double real = sizeof(gm_real), states = (double)(S * T * c->d) * real;
    double passes = 0;
    *kept += w->block + w->module * real + states;
    if (!call->plan.whole)
        *kept += states * (double)(c->layers + 1) +
                 acts_bytes(c, batch, T, false) +
                 (double)(batch * T * gm_tallest(c)) * real;
    if (measures >= GM_MEASURES_MODELS) {
        *kept += w->head * real + states;
        passes = pass_memory(call, w, S, T);
    }
    if (measures == GM_MEASURES_GRADIENTS)
        passes = fmax(passes, (double)gm_expand_bytes(c, T));
    return *kept + passes;
}

int gm_plan_memory(const gm_call *call, gm_planned step[GM_PLAN_STEPS]) {
    const gm_config *c = &call->model.config;
    const gm_plan *p = &call->plan;
    const gm_sequences *on = &call->on.text;
    const shapes w = shapes_of(call);
    const double real = sizeof(gm_real), L = (double)c->layers;
    const double parts = 3 * GM_LINEARS * L * w.made;   /* of the file */
    const double R = (double)(call->fit.batch * call->fit.T);
    double kept = 0, gone = 0;  /* by evaluation: states twice, the head */
    int most = 0;
    memset(step, 0, GM_PLAN_STEPS * sizeof *step);
    if (on->sequences)
        kept = (2 * (double)(held(call) * on->T * c->d) + w.head) * real;
    if (p->candidates && w.made)
        step[GM_PLAN_CANDIDATES] = (gm_planned){
            w.block + w.packed + rounding_memory(call, &w) + 400 * parts,
            L * w.packed + 112 * parts + 300};
    if (p->learns)  /* W~, its gradient; 15 numbers a candidate, some a step */
        step[GM_PLAN_FIT].memory =
            2 * w.block + w.packed + R * ((double)c->d * 4 * real + 12) +
            acts_bytes(c, call->fit.batch, call->fit.T, true) +
            call->fit.keep * L * real *
                (double)(call->fit.sequences * call->fit.T * c->d) +
            L * GM_LINEARS * call->recipe.count * 15 * 8 +
            (double)call->fit.steps * GM_FOUND * 8;
    if (p->rivals > GM_MEASURES_NOTHING)
        step[GM_PLAN_RIVALS].memory = rivals_memory(call, &w, p->whole ? &gone
                                                    : &kept);
    if (on->sequences)
        step[GM_PLAN_EVAL].memory = kept + pass_memory(call, &w, held(call),
                                                       on->T);
    if (p->models)              /* a module's values, and as it is stored */
        step[GM_PLAN_QUANTIZE] = (gm_planned){
            kept + w.module * (real + p->model_bytes / w.all),
            p->model_bytes * p->budgets};
    for (int i = 0; i < GM_PLAN_STEPS; i++) {
        if (step[i].memory > 0) step[i].memory += p->base;
        if (step[i].memory >= step[most].memory) most = i;
    }
    return most;
}

void gm_plan_fit(gm_call *call, double limit) {
    const bool gptq = call->recipe.quantizer == GM_GPTQ;
    gm_planned step[GM_PLAN_STEPS];
    int most;
    while (most = gm_plan_memory(call, step), step[most].memory > limit) {
        const bool made = most == GM_PLAN_CANDIDATES;
        const long at_once = gm_at_once(&call->recipe, call->fit.sequences);
        const long pieces = made ? gptq * at_once
                            : most == GM_PLAN_FIT ? 0 : held(call);
        if (pieces < 2)
            gm_fail(GM_EMEM, "--max-memory: %s needs %.1f MB, expected at most "
                    "%.1f MB%s%s", name_of(call, most), step[most].memory / 1e6,
                    limit / 1e6, steps[most].lower, most == GM_PLAN_RIVALS &&
                    call->anchors ? ", or --anchors 0" : "");
        if (made) call->recipe.at_once = pieces / 2;
        else call->on.group = (pieces + 1) / 2;
    }
}

void gm_call_plan(gm_call *call) {
    /* the program, its libraries and their tables; workspaces of a thread */
    const double PROGRAM = 8e6, THREAD = 1.2e6;
    const gm_tensors *t = &call->model.tensors;
    gm_plan *p = &call->plan;
    gm_fit_options *o = &call->fit;
    gm_planned step[GM_PLAN_STEPS];
    char text[256] = "";
    int64_t limit = INT64_MAX;
    if (call->max_memory &&
        !gm_is_bytes(call->max_memory, &limit))
        gm_fail(GM_EUSAGE, "--max-memory: expected a positive number of bytes, "
                "such as 500M or 2.5GiB, found \"%s\"", call->max_memory);
    p->base = PROGRAM + THREAD * gm_threads() + (double)call->arena.used;
    for (long i = 0; i < t->count; i++)
        p->model_bytes += (double)t->tensor[i].bytes;
    gm_plan_fit(call, (double)limit);
    /* the teacher's states of all sequences are kept between steps where that
       takes no more than --max-memory, or than the peak there is without */
    double room = step[gm_plan_memory(call, step)].memory;
    if (call->max_memory) room = fmax(room, (double)limit);
    o->keep = p->learns && o->steps * o->batch > o->sequences;
    gm_plan_memory(call, step);
    if (step[GM_PLAN_FIT].memory > room) o->keep = false;
    int most = gm_plan_memory(call, step);
    for (int i = 0; i < GM_PLAN_STEPS; i++)
        if (step[i].memory > 0)
            snprintf(text + strlen(text), 40, "%s%s %.1f", *text ? ", " : "",
                     name_of(call, i), step[i].memory / 1e6);
    gm_talk(call, "memory: about %.1f MB (%s)", step[most].memory / 1e6, text);
}

/* -------------------------------------------------------------------- plan */

/* Of seven passes, each of which begins with another linear, for a row; those
   of attention given. */
static double swaps(const gm_config *c, double attention) {
    double sum = 0;
    for (int j = 0; j < GM_LINEARS; j++) {
        if (gm_input_of[j] == 0) sum += attention;
        for (int i = 0; i < GM_LINEARS; i++) {
            long out, in;
            gm_linear_shape(c, i, &out, &in);
            if (i == j || gm_input_of[i] > gm_input_of[j])
                sum += (double)out * (double)in;
        }
    }
    return sum;
}

/* A sequence through all blocks for the teacher, once where it is kept, for the
   student, twice that backward; each candidate alone, from its linear on; for
   an anchor the optimum and one expansion around it, if that is paid for, and
   two to judge it. */
double gm_plan_products(const gm_call *call) {
    const gm_config *c = &call->model.config;
    const gm_fit_options *o = &call->fit;
    const gm_sequences *on = &call->on.text;
    const shapes w = shapes_of(call);
    const double L = (double)c->layers, T = (double)o->T;
    const double window = (double)on->T;
    const double heads = (double)(c->heads * c->head_dim);
    const long passes = o->steps * o->batch;
    const long taught = call->fit.keep ? o->sequences : passes;
    double row = (double)(3 * passes + taught) * (w.n + heads * (T + 1));
    if (o->relaxation == GM_SOFT_CORRECTED)
        row += (double)o->sequences * call->recipe.count *
               swaps(c, heads * (T + 1));
    const long around = call->evaluations > gm_expand_evaluations()
                      ? gm_expand_evaluations() : 0;
    if (call->anchors)
        row += (double)((call->plan.budgets > 1 ? call->anchors : 1) *
                        o->sequences * (3 + around)) * (w.n + heads * (T + 1));
    return row * T * L +
           (1 + call->plan.budgets) * (double)on->sequences * window *
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

static void run_plan(gm_call *call) {
    const char *dir = call->operand[0];
    gm_arena *a = &call->arena;
    gm_plan *p = &call->plan;
    gm_planned step[GM_PLAN_STEPS];
    double disk = 0;
    if (!gm_exists(gm_format(a, "%s/model.safetensors", dir)) &&
        !gm_exists(gm_format(a, "%s/model.safetensors.index.json", dir))) {
        call->model.dir = dir;          /* weights of 16 bits */
        gm_config_read(a, dir, &call->model.config);
        p->model_bytes = 2 * shapes_of(call).all;
        gm_talk(call, "%s: no weights there; %.2f GB from its config.json",
                dir, p->model_bytes / 1e9);
    }
    gm_call_prepare(call);
    /* the texts that `run` would hold, or what they will take */
    call->on.text.sequences = call->windows ? call->windows : 16;
    call->on.text.T = call->window;
    if (call->text || call->text_tokens)
        gm_call_windows(call);
    else if (!call->windows)
        gm_talk(call, "no --eval and no --windows: 16 windows are assumed");
    if (call->calib || call->calib_tokens) gm_call_calibrate(call);
    gm_call_plan(call);
    int most = gm_plan_memory(call, step);
    gm_result_begin("step\tmemory_MB\tdisk_MB");
    for (int i = 0; i < GM_PLAN_STEPS; i++) {
        if (!(step[i].memory > 0)) continue;
        gm_result_row("%s\t%.1f\t%.1f", name_of(call, i), step[i].memory / 1e6,
                      step[i].disk / 1e6);
        disk += step[i].disk / 1e6;
    }
    gm_result_row("all\t%.1f\t%.1f", step[most].memory / 1e6, disk);
    gm_result_end(call);
    double products = gm_plan_products(call), rate = rate_here(a);
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
