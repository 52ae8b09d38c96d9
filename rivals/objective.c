/* objective.c: what an assignment costs on a calibration text, as the rivals
   see it: errors of single candidates, of whole blocks, of the whole model.
   Reads the model and its candidates, writes nothing.

   All but the KL divergence are teacher-forced: block l gets the original
   model's h_{l-1}, so blocks are independent.  The states h_0 .. h_L of the
   whole text are kept: (L + 1) S T d numbers.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "rivals.h"

#include <math.h>
#include <string.h>

/* E_l of a block and its seven choices; key 0: the place is free. */
typedef struct { uint64_t key; double E; } memory;

struct gm_objective {
    const gm_candidates *candidates;
    gm_arena *arena;
    gm_text text;
    const gm_report *report;
    long L, d, R, batch;        /* R = S T rows; sequences in one pass     */
    gm_real *h;                 /* [L + 1, R, d] of the original model     */
    gm_real *y;                 /* [R, d]                                  */
    gm_real *w, *out;           /* one weight; [batch T, tallest]          */
    double *row;                /* [R]                                     */
    gm_block block;
    gm_acts acts;
    gm_rope_table rope;
    gm_head head;
    gm_real *states;            /* [R, d] of the quantized model           */
    memory *memo;               /* [room], a power of two                  */
    size_t room, used;
    int64_t work;               /* in linears of one block of one sequence */
};

/* ----------------------------------------------------------- original model */

/* y = f(h; block), batch after batch. */
static void forward(gm_objective *o, const gm_real *h, gm_real *y) {
    const long T = o->text.window;
    for (long i = 0; i < o->text.windows; i += o->batch) {
        long rest = o->text.windows - i;
        o->acts.S = rest < o->batch ? rest : o->batch;
        gm_block_forward(&o->candidates->model->config, &o->block, &o->rope,
                         h + i * T * o->d, &o->acts, y + i * T * o->d);
    }
}

static gm_real *state(const gm_objective *o, long l) {
    return o->h + l * o->R * o->d;
}

static void buffers(gm_objective *o) {
    const gm_config *c = &o->candidates->model->config;
    size_t R = (size_t)o->R, d = (size_t)c->d, weights = 0;
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        if ((size_t)(out * in) > weights) weights = (size_t)(out * in);
    }
    size_t rows = (size_t)(o->batch * o->text.window);
    o->h = gm_alloc(o->arena, (size_t)(o->L + 1) * R, d * sizeof *o->h);
    o->y = gm_alloc(o->arena, R, d * sizeof *o->y);
    o->w = gm_alloc(o->arena, weights, sizeof *o->w);
    o->out = gm_alloc(o->arena, rows,
                      (size_t)gm_tallest(c) * sizeof *o->out);
    o->row = gm_alloc(o->arena, R, sizeof *o->row);
    gm_block_alloc(o->arena, c, &o->block);
    gm_acts_alloc(o->arena, c, o->batch, o->text.window, false,
                              &o->acts);
    gm_rope_build(o->arena, c, o->text.window, NULL, &o->rope);
}

void gm_objective_begin(gm_arena *arena, const gm_candidates *candidates,
                             const gm_sequences *text, const gm_report *report,
                             gm_objective **out) {
    const gm_model *model = candidates->model;
    gm_objective *o = gm_alloc(arena, 1, sizeof *o);
    if (!text->tokens || text->S < 1 || text->T < 1)
        gm_fail(GM_EUSAGE, "expected a calibration text, found "
                       "%ld sequences of %ld tokens", text->S, text->T);
    *out = o;
    *o = (gm_objective){
        .candidates = candidates, .arena = arena, .report = report,
        .text = {text->tokens, text->S, text->T}, .L = model->config.layers,
        .d = model->config.d, .R = text->S * text->T,
        .batch = gm_batch(text->S, text->T)};
    buffers(o);
    gm_embed(model, text->tokens, o->R, o->h);
    for (long l = 0; l < o->L; l++) {
        gm_block_load(model, l, &o->block);
        forward(o, state(o, l), state(o, l + 1));
        gm_states_check(model, l, "output", state(o, l + 1), o->R,
                                    o->d);
        gm_say(report, "original states", l + 1, o->L);
    }
}

double gm_objective_evaluations(const gm_objective *o) {
    return (double)o->work / (double)(o->L * GM_LINEARS * o->text.windows);
}

/* ------------------------------------------------------------- block errors */

/* Row t: ||y_t - h_t||^2 / ||h_t||^2, h the original's output. */
typedef struct { const gm_objective *o; const gm_real *h; } error_job;

static void error_row(void *context, long t) {
    const error_job *job = context;
    const gm_objective *o = job->o;
    const gm_real *h = job->h + t * o->d;
    gm_real *y = o->y + t * o->d;
    for (long i = 0; i < o->d; i++) y[i] -= h[i];
    o->row[t] = gm_dot(o->d, y, y) / gm_dot(o->d, h, h);
}

/* E_l of the weights that now stand in o->block. */
static void block_error(gm_objective *o, long l, double *E) {
    error_job job = {o, state(o, l + 1)};
    forward(o, state(o, l), o->y);
    gm_parallel(o->R, error_row, &job);
    *E = 0;
    for (long t = 0; t < o->R; t++) *E += o->row[t];
    *E /= (double)o->R;
    o->work += GM_LINEARS * o->text.windows;
    if (*E < HUGE_VAL) return;
    gm_fail(GM_EINPUT, "%s: block %ld: the reconstruction error is "
                   "%g; expected a finite number", o->candidates->model->dir,
                   l, *E);
}

/* The weight as stored has no error, and needs no pass. */
static bool original(const gm_objective *o, int k) {
    return o->candidates->recipe.bits[k] >= 16;
}

static void separable_module(gm_objective *o, long l, int j,
                                  const bool *wanted, double *S) {
    gm_real *kept = o->block.w[j];
    o->block.w[j] = o->w;
    for (int k = 0; k < o->candidates->recipe.count; k++) {
        S[k] = 0;
        if (!wanted[k] || original(o, k)) continue;
        gm_candidate_weight(o->candidates, l, j, k, o->w);
        block_error(o, l, S + k);
    }
    o->block.w[j] = kept;
}

void gm_objective_separable(gm_objective *o, const bool *wanted,
                                 double *S) {
    const long M = o->L * GM_LINEARS, K = o->candidates->recipe.count;
    for (long m = 0; m < M; m++) {
        long l = m / GM_LINEARS;
        int j = (int)(m % GM_LINEARS);
        if (j == 0) gm_block_load(o->candidates->model, l, &o->block);
        separable_module(o, l, j, wanted + m * K, S + m * K);
        gm_say(o->report, "separable errors", m + 1, M);
    }
}

/* ------------------------------------------------- output error of one linear

   D_mk = tr(dW H dW^T) / tr(W H W^T),  dW = Q_mk - W_m,  H = X^T X,
   X [S T, in] what the module sees in the original model.  Computed as
   ||X dW^T||^2 / ||X W^T||^2, the same without H: a sum of squares loses no
   digits to cancellation. */

typedef struct { const gm_objective *o; long n; } square_job;

static void square_row(void *context, long t) {
    const square_job *job = context;
    const gm_real *y = job->o->out + t * job->n;
    job->o->row[t] = gm_dot(job->n, y, y);
}

/* ||X w^T||^2 over the rows of the batch. */
static double output_energy(gm_objective *o, const gm_real *x, const gm_real *w,
                            long out, long in) {
    const long rows = o->acts.S * o->text.window;
    square_job job = {o, out};
    double sum = 0;
    gm_gemm(rows, out, in, x, in, 1, w, 1, in, o->out, out, false);
    gm_parallel(rows, square_row, &job);
    for (long t = 0; t < rows; t++) sum += o->row[t];
    return sum;
}

/* Adds one batch of module (l, j): energy of W, and of each dW to D[k]. */
static void gram_module(gm_objective *o, long l, int j,
                             const bool *wanted, double *energy, double *D) {
    const gm_acts *a = &o->acts;
    const gm_real *input[GM_LINEARS] = {a->x1, a->x1, a->x1, a->attn,
                                        a->x2, a->x2, a->act};
    long out, in;
    gm_linear_shape(&o->candidates->model->config, j, &out, &in);
    *energy += output_energy(o, input[j], o->block.w[j], out, in);
    for (int k = 0; k < o->candidates->recipe.count; k++) {
        if (!wanted[k] || original(o, k)) continue;
        gm_candidate_weight(o->candidates, l, j, k, o->w);
        for (long i = 0; i < out * in; i++) o->w[i] -= o->block.w[j][i];
        D[k] += output_energy(o, input[j], o->w, out, in);
        o->work += a->S;
    }
}

/* All modules of block l: passes over the text, then the division. */
static void gram_block(gm_objective *o, long l, const bool *wanted,
                            double *D) {
    const gm_model *model = o->candidates->model;
    const long K = o->candidates->recipe.count, T = o->text.window;
    double energy[GM_LINEARS] = {0};
    gm_block_load(model, l, &o->block);
    memset(D, 0, (size_t)(GM_LINEARS * K) * sizeof *D);
    for (long i = 0; i < o->text.windows; i += o->batch) {
        long rest = o->text.windows - i;
        o->acts.S = rest < o->batch ? rest : o->batch;
        gm_block_forward(&model->config, &o->block, &o->rope,
                         state(o, l) + i * T * o->d, &o->acts, o->y);
        for (int j = 0; j < GM_LINEARS; j++)
            gram_module(o, l, j, wanted + j * K, energy + j, D + j * K);
    }
    for (int j = 0; j < GM_LINEARS; j++)
        for (long i = j * K; i < (j + 1) * K; i++) {
            if (D[i] > 0) D[i] /= energy[j];
            if (!(D[i] < HUGE_VAL))
                gm_fail(GM_EINPUT, "%s: block %ld, linear %d: the "
                            "output error is %g; expected a finite number",
                            model->dir, l, j, D[i]);
        }
}

void gm_objective_gram(gm_objective *o, const bool *wanted, double *D) {
    const long K = o->candidates->recipe.count;
    for (long l = 0; l < o->L; l++) {
        long i = l * GM_LINEARS * K;
        gram_block(o, l, wanted + i, D + i);
        gm_say(o->report, "output errors", l + 1, o->L);
    }
}

/* ------------------------------------------------ whole blocks, remembered */

void gm_objective_forget(gm_objective *o) {
    o->memo = NULL;
    o->room = o->used = 0;
    o->work = 0;
}

/* Block and seven choices of at most 16 candidates in one number, never 0. */
static uint64_t memo_key(long l, const int *choice) {
    uint64_t key = (uint64_t)l + 1;
    for (int j = 0; j < GM_LINEARS; j++)
        key = key << 4 | (uint64_t)choice[j];
    return key;
}

/* The place of a key: its own, or the free one where it belongs. */
static memory *memo_place(const gm_objective *o, uint64_t key) {
    size_t i = (size_t)gm_random(key, 0, 0) & (o->room - 1);
    while (o->memo[i].key && o->memo[i].key != key)
        i = (i + 1) & (o->room - 1);
    return o->memo + i;
}

/* Keeps at least half of all places free. */
static void memo_grow(gm_objective *o) {
    if (o->room && 2 * o->used < o->room) return;
    memory *old = o->memo;
    size_t n = o->room;
    o->room = n ? 2 * n : 1024;
    o->memo = gm_alloc(o->arena, o->room, sizeof *o->memo);
    for (size_t i = 0; i < n; i++)
        if (old[i].key) *memo_place(o, old[i].key) = old[i];
}

/* E_l with the seven candidates of block l. */
static void joint_error(gm_objective *o, long l, const int *choice,
                             double *E) {
    gm_chosen_block(o->candidates, l, choice, &o->block);
    block_error(o, l, E);
}

void gm_objective_blocks(gm_objective *o, const int *choice, double *sum) {
    *sum = 0;
    for (long l = 0; l < o->L; l++) {
        memo_grow(o);
        uint64_t key = memo_key(l, choice + l * GM_LINEARS);
        memory *place = memo_place(o, key);
        if (!place->key) {
            joint_error(o, l, choice + l * GM_LINEARS, &place->E);
            place->key = key;
            o->used++;
        }
        *sum += place->E;
    }
}

/* --------------------------------------------------------------- end to end */

void gm_objective_kl_begin(gm_objective *o) {
    if (!o->head.w)
        gm_head_load(o->arena, o->candidates->model, &o->head);
    if (o->states) return;
    o->states = gm_alloc(o->arena, (size_t)o->R,
                         (size_t)o->d * sizeof *o->states);
}

void gm_objective_kl(gm_objective *o, const int *choice, double *kl) {
    gm_measure measure;
    gm_mark mark = gm_arena_mark(o->arena);
    gm_final_states(o->arena, o->candidates->model, o->candidates,
                                  choice, &o->text, NULL, o->states);
    gm_evaluate(o->arena, &o->head, &o->text, o->states,
                            state(o, o->L), NULL, &measure);
    *kl = measure.kl;
    gm_arena_rewind(o->arena, mark);
    o->work += o->L * GM_LINEARS * o->text.windows;
}

void gm_objective_expand(gm_objective *o, const int *choice,
                              uint64_t seed, double *slope, double *curve) {
    gm_expansion x = {o->candidates, &o->head,
                      {o->text.tokens, o->text.windows, o->text.window},
                      state(o, o->L), choice, seed, o->report};
    gm_expand(o->arena, &x, slope, curve);
    o->work += gm_expand_evaluations() * o->L * GM_LINEARS * o->text.windows;
}
