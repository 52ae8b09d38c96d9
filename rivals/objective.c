/* objective.c: what an assignment costs on a calibration text, as the rivals
   see it: errors of single candidates, of whole blocks, of the whole model,
   and how the last changes.  Reads the model and its candidates, writes
   nothing.

   All but the KL divergence are teacher-forced: block l gets the original
   model's h_{l-1}, so blocks are independent.  The states h_0 .. h_L of the
   whole text are kept, (L + 1) S T d numbers; for KL alone h_L.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "rivals.h"

#include <math.h>
#include <string.h>

/* E_l of a block and its seven choices, in a list of those of equal hash. */
enum { HASHES = 1024 };
typedef struct memory { struct memory *next; uint64_t key; double E; } memory;

struct gm_objective {
    const gm_candidates *candidates;
    const gm_model *model;
    const gm_report *report;
    gm_arena *arena;
    gm_sequences text;
    long L, d, R, batch;        /* R = S T rows; sequences in one pass     */
    int K;
    gm_real *h;                 /* [L + 1, R, d] of the original; or NULL  */
    gm_real *last;              /* [R, d] its h_L                          */
    gm_real *y;                 /* [R, d]                                  */
    double *row;                /* [R]                                     */
    gm_block block;
    gm_acts acts;
    gm_head head;
    gm_real *states;            /* [R, d] of the quantized model           */
    memory *memo[HASHES];
    int64_t work;               /* in linears of one block of one sequence */
};

static gm_real *state(const gm_objective *o, long l) {
    return o->h + l * o->R * o->d;
}

/* y = f(h_l; o->block) for the batch of sequences that begins with i. */
static void pass(gm_objective *o, long l, long i, gm_real *y) {
    const long at = i * o->text.T * o->d;
    o->acts.sequences = gm_min(o->batch, o->text.sequences - i);
    gm_block_forward(&o->acts, &o->block, state(o, l) + at, y + at);
}

gm_objective *gm_objective_begin(gm_arena *arena,
                                 const gm_candidates *candidates,
                                 const gm_sequences *text, bool blocks,
                                 const gm_report *report) {
    const gm_model *model = candidates->model;
    const gm_config *c = &model->config;
    const size_t row = (size_t)c->d * sizeof(gm_real);
    if (!text->tokens || text->sequences < 1 || text->T < 1)
        gm_fail(GM_EUSAGE, "expected a calibration text, found %ld sequences "
                "of %ld tokens", text->sequences, text->T);
    gm_objective *o = gm_alloc(arena, 1, sizeof *o);
    *o = (gm_objective){
        .candidates = candidates, .model = model, .arena = arena,
        .report = report, .text = *text,
        .L = c->layers, .d = c->d,
        .K = candidates->recipe.count, .R = text->sequences * text->T,
        .batch = gm_batch(text->sequences, text->T)};
    gm_block_alloc(arena, c, &o->block);
    if (!blocks) {
        o->last = gm_alloc(arena, (size_t)o->R, row);
        gm_final_states(arena, model, NULL, NULL, text, report, o->last);
        return o;
    }
    gm_acts_alloc(arena, c, o->batch, text->T, false, &o->acts);
    o->h = gm_alloc(arena, (size_t)((o->L + 1) * o->R), row);
    o->y = gm_alloc(arena, (size_t)o->R, row);
    o->row = gm_alloc(arena, (size_t)o->R, sizeof *o->row);
    o->last = state(o, o->L);
    gm_embed(model, text->tokens, o->R, o->h);
    for (long l = 0; l < o->L; l++) {
        gm_block_load(model, l, &o->block);
        for (long i = 0; i < text->sequences; i += o->batch)
            pass(o, l, i, state(o, l + 1));
        gm_states_check(model, l, "output", state(o, l + 1), o->R, o->d);
        gm_states_weigh(model, l, state(o, l + 1), o->R, o->d);
        gm_say(report, "original states", l + 1, o->L);
    }
    return o;
}

double gm_objective_evaluations(const gm_objective *o) {
    return (double)o->work / (double)(o->L * GM_LINEARS * o->text.sequences);
}

long gm_objective_sequences(const gm_objective *o) { return o->text.sequences; }

void gm_objective_forget(gm_objective *o) {
    memset(o->memo, 0, sizeof o->memo);
    o->work = 0;
}

/* ------------------------------------------------------------- block errors */

/* E_l of a choice: the mean over rows of ||y_t - h_t||^2 / ||h_t||^2, h the
   original's output. */
static double block_error(gm_objective *o, long l, const int *choice) {
    const gm_loss loss = {GM_NORM_TOKEN, 1, o->R, o->text.T, o->d, NULL,
                          state(o, l + 1), o->y, o->y, o->row};
    gm_chosen_block(o->arena, o->candidates, l, choice, &o->block);
    for (long i = 0; i < o->text.sequences; i += o->batch) pass(o, l, i, o->y);
    const double E = gm_loss_block(&loss);
    o->work += GM_LINEARS * o->text.sequences;
    if (!(E < HUGE_VAL))
        gm_bad(o->model->dir, "block %ld: the reconstruction error is %g; "
               "expected a finite number", l, E);
    return E;
}

/* The weight as stored has no error, and needs no pass. */
static bool measured(const gm_objective *o, long m, int k) {
    const gm_candidates *c = o->candidates;
    const long l = m / GM_LINEARS;
    const int j = (int)(m % GM_LINEARS);
    return gm_allowed(c, m, k) &&
           gm_candidate_tensor(c, l, j, k) != gm_linear_tensor(c->model, l, j);
}

void gm_objective_separable(gm_objective *o, const double *known, double *S) {
    const long M = o->L * GM_LINEARS;
    for (long m = 0; m < M; m++) {
        int choice[GM_LINEARS] = {-1, -1, -1, -1, -1, -1, -1};
        for (int k = 0; k < o->K; k++) {
            choice[m % GM_LINEARS] = k;
            double *E = S + m * o->K + k;
            if (!measured(o, m, k)) *E = 0;
            else if (!known) *E = block_error(o, m / GM_LINEARS, choice);
            else *E = known[E - S], o->work += GM_LINEARS * o->text.sequences;
        }
        gm_say(o->report, "separable errors", m + 1, M);
    }
}

double gm_objective_blocks(gm_objective *o, const int *choice) {
    double sum = 0;
    for (long l = 0; l < o->L; l++, choice += GM_LINEARS) {
        uint64_t key = (uint64_t)l;     /* of at most 16 candidates each */
        for (int j = 0; j < GM_LINEARS; j++)
            key = key << 4 | (uint64_t)choice[j];
        memory **list = o->memo + gm_random(key, 0, 0) % HASHES, *x = *list;
        while (x && x->key != key) x = x->next;
        if (!x) {
            const double E = block_error(o, l, choice);
            x = gm_alloc(o->arena, 1, sizeof *x);
            *x = (memory){*list, key, E};
            *list = x;
        }
        sum += x->E;
    }
    return sum;
}

/* ------------------------------------------------- output error of one linear

   D_mk = tr(dW H dW^T) / tr(W H W^T),  dW = Q_mk - W_m,  H = X^T X,
   X [S T, in] what the module sees in the original model.  Computed as
   ||X dW^T||^2 / ||X W^T||^2, the same without H: a sum of squares loses no
   digits to cancellation. */

/* ||X w^T||^2 over the rows of the batch.  y: [rows, out]. */
static double output_energy(gm_objective *o, const gm_real *x, const gm_real *w,
                            long out, long in, gm_real *y) {
    const long rows = o->acts.sequences * o->text.T;
    double sum = 0;
    gm_gemm(rows, out, in, x, in, 1, w, 1, in, y, out, false);
#pragma omp parallel for num_threads(gm_threads())
    for (long t = 0; t < rows; t++)
        o->row[t] = gm_dot(out, y + t * out, y + t * out);
    for (long t = 0; t < rows; t++) sum += o->row[t];
    return sum;
}

/* Adds one batch of module (l, j): energy of W, and of each dW to D[k]. */
static void gram_module(gm_objective *o, long l, int j, double *energy,
                        double *D) {
    const gm_acts *a = &o->acts;
    const gm_real *input[GM_LINEARS] = {a->x1, a->x1, a->x1, a->attn,
                                        a->x2, a->x2, a->act};
    gm_mark mark = gm_arena_mark(o->arena);
    long out, in;
    gm_linear_shape(&o->model->config, j, &out, &in);
    gm_real *w = gm_alloc(o->arena, (size_t)(out * in), sizeof *w);
    gm_real *y = gm_alloc(o->arena, (size_t)(a->sequences * o->text.T * out),
                          sizeof *y);
    *energy += output_energy(o, input[j], o->block.w[j], out, in, y);
    for (int k = 0; k < o->K; k++) {
        if (!measured(o, l * GM_LINEARS + j, k)) continue;
        gm_candidate_weight(o->arena, o->candidates, l, j, k, w);
        for (long i = 0; i < out * in; i++) w[i] -= o->block.w[j][i];
        D[k] += output_energy(o, input[j], w, out, in, y);
        o->work += a->sequences;
    }
    gm_arena_rewind(o->arena, mark);
}

void gm_objective_gram(gm_objective *o, double *D) {
    const long K = o->K, M = o->L * GM_LINEARS;
    memset(D, 0, (size_t)(M * K) * sizeof *D);
    for (long l = 0; l < o->L; l++) {
        double energy[GM_LINEARS] = {0};
        double *of_block = D + l * GM_LINEARS * K;
        gm_block_load(o->model, l, &o->block);
        for (long i = 0; i < o->text.sequences; i += o->batch) {
            pass(o, l, i, o->y);
            for (int j = 0; j < GM_LINEARS; j++)
                gram_module(o, l, j, energy + j, of_block + j * K);
        }
        for (long i = 0; i < GM_LINEARS * K; i++) {
            double *x = of_block + i;
            if (*x > 0) *x /= energy[i / K];
            if (!(*x < HUGE_VAL))
                gm_bad(o->model->dir, "block %ld, linear %ld: the output error "
                       "is %g; expected a finite number", l, i / K, *x);
        }
        gm_say(o->report, "output errors", l + 1, o->L);
    }
}

/* --------------------------------------------------------------- end to end */

void gm_objective_kl_begin(gm_objective *o) {
    if (o->states) return;
    gm_head_load(o->arena, o->model, &o->head);
    o->states = gm_alloc(o->arena, (size_t)o->R,
                         (size_t)o->d * sizeof *o->states);
}

double gm_objective_kl_each(gm_objective *o, const int *choice, double *each) {
    gm_measure measure;
    gm_mark mark = gm_arena_mark(o->arena);
    gm_final_states(o->arena, o->model, o->candidates, choice, &o->text, NULL,
                    o->states);
    gm_evaluate(o->arena, &o->head, &o->text, NULL, o->states, o->last, NULL,
                &measure);
    for (long s = 0; each && s < measure.windows; s++)
        each[s] = measure.window_kl[s];
    gm_arena_rewind(o->arena, mark);
    o->work += o->L * GM_LINEARS * o->text.sequences;
    return measure.kl;
}

double gm_objective_kl(gm_objective *o, const int *choice) {
    return gm_objective_kl_each(o, choice, NULL);
}

/* ------------------------------------------------------------ around a choice

   The KL divergence around an assignment x to second order, from one backward
   pass over each sequence.

     KL = 1/(S (T-1)) sum_st KL(p_st || q_st)     p original, q quantized with x
     D_mk = Q_mk - Q_m,x(m)                                       [out, in]
     slope  A_mk = <dKL/dW_m, D_mk>      at W = Q_x
     curve  C_mk = 1/2 D_mk^T F_m D_mk
     KL(x, but module m at k) ~ KL(x) + A_mk + C_mk

   Each module is seen in the company of all others as they stand, errors that
   travel on through later blocks included: what Stage I's teacher-forced loss
   leaves out.  A_mk holds twice the error that module m has now, with a minus,
   and its products with all other errors.

   F = 1/(S (T-1)) sum_st J_st^T (diag q_st - q_st q_st^T) J_st, J the logits'
   Jacobian, is the Gauss-Newton matrix of KL, and the Fisher matrix of q.  With
   labels y_st drawn from q_st, independent,
     D^T F D = 1/(S (T-1)) sum_s E <sum_t d ln q_st(y_st) / dW, D>^2
   of which DRAWS samples a sequence are taken: all M K numbers at once.  The
   gradients by the logits are q - p for KL and e_y - q for ln q(y). */

enum { DRAWS = 4, WAYS = 1 + DRAWS };   /* [ours]; way 0: KL */

typedef struct {
    gm_objective *o;
    const int *choice;
    uint64_t seed;
    int ways;                       /* WAYS, or 1: KL alone */
    long rows;                      /* of a chunk of logits */
    gm_block grad;
    gm_acts acts;
    gm_real *h;                     /* [L + 1, T, d] of the quantized model */
    gm_real *d_y, *d_h;             /* [WAYS, T, d]; [T, d] */
    gm_real *q, *p, *d_z;           /* [rows, vocab] */
    gm_real *normed;                /* [rows, d] */
    double *slope, *curve;          /* [M, K] sums over sequences */
} expansion;

static void expansion_alloc(gm_arena *arena, const gm_config *c, long T,
                            expansion *e) {
    const size_t d = (size_t)c->d, real = sizeof(gm_real);
    const size_t rows = (size_t)(e->rows = gm_logit_rows(c->vocab, T - 1));
    const size_t logits = rows * (size_t)c->vocab;
    gm_grad_alloc(arena, c, &e->grad);
    gm_acts_alloc(arena, c, 1, T, true, &e->acts);
    e->d_y = gm_alloc(arena, (size_t)(WAYS * T), d * real);
    e->h = gm_alloc(arena, (size_t)((c->layers + 1) * T), d * real);
    e->d_h = gm_alloc(arena, (size_t)T, d * real);
    e->q = gm_alloc(arena, logits, real);
    e->p = gm_alloc(arena, logits, real);
    e->d_z = gm_alloc(arena, logits, real);
    e->normed = gm_alloc(arena, rows, d * real);
}

/* p [rows, vocab] = softmax of the logits of h. */
static void probabilities(const gm_head *head, const gm_real *h, long rows,
                          gm_real *normed, gm_real *p) {
    const long n = head->vocab;
    gm_head_forward(head, h, rows, normed, p);
#pragma omp parallel for num_threads(gm_threads())
    for (long r = 0; r < rows; r++) {
        gm_real *x = p + r * n, top = gm_largest(n, x);
        for (long i = 0; i < n; i++) x[i] -= top;
        gm_exp(n, x, x);
        double sum = gm_sum(n, x);
        for (long i = 0; i < n; i++) x[i] = (gm_real)(x[i] / sum);
    }
}

/* d [n] of one position; u draws its label. */
static void logit_gradient(int way, double u, long n, const gm_real *q,
                           const gm_real *p, gm_real *d) {
    double below = 0;
    long y = 0;
    for (long i = 0; i < n; i++) d[i] = way ? -q[i] : q[i] - p[i];
    while (way && y < n - 1 && (below += (double)q[y]) <= u) y++;
    if (way) d[y] += 1;
}

/* d_y[way] of sequence s: the gradient by h_L; the last position predicts
   nothing. */
static void head_gradients(expansion *e, long s) {
    const gm_objective *o = e->o;
    const long d = o->d, T = o->text.T, V = o->head.vocab;
    const gm_real *h = e->h + o->L * T * d;
    const gm_real *teacher = o->last + s * T * d;
    memset(e->d_y, 0, (size_t)(WAYS * T * d) * sizeof(gm_real));
    for (long t = 0; t < T - 1; t += e->rows) {
        long n = gm_min(e->rows, T - 1 - t);
        probabilities(&o->head, h + t * d, n, e->normed, e->q);
        probabilities(&o->head, teacher + t * d, n, e->normed, e->p);
        for (int way = 0; way < e->ways; way++) {
#pragma omp parallel for num_threads(gm_threads())
            for (long r = 0; r < n; r++)
                logit_gradient(way, gm_uniform(e->seed, (uint64_t)way,
                                               (uint64_t)(s * T + t + r)),
                               V, e->q + r * V, e->p + r * V, e->d_z + r * V);
            gm_head_backward(&o->head, h + t * d, n, e->d_z, e->normed,
                             e->d_y + (way * T + t) * d);
        }
    }
}

/* Adds what way `way` says of module (l, j) from its gradient. */
static void add_module(expansion *e, long l, int j, int way) {
    const long m = l * GM_LINEARS + j, row = m * e->o->K;
    double g[GM_MAX_CANDIDATES];
    gm_mark mark = gm_arena_mark(e->o->arena);
    const gm_offer offer = gm_offer_read(e->o->arena, e->o->candidates, l, j);
    gm_inner(e->o->arena, &offer, e->grad.w[j], g);
    gm_arena_rewind(e->o->arena, mark);
    for (int i = 0; i < offer.count; i++) {
        const int k = offer.k[i];
        double along = g[k] - g[e->choice[m]];
        if (way == 0) e->slope[row + k] += along;
        else e->curve[row + k] += along * along;
    }
}

/* From d_y[way] behind block l to that before it. */
static void block_backward(expansion *e, long l, int way) {
    gm_objective *o = e->o;
    const gm_config *c = &o->model->config;
    const long each = o->text.T * o->d;
    gm_real *d_y = e->d_y + way * each;
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        memset(e->grad.w[j], 0, (size_t)(out * in) * sizeof(gm_real));
    }
    memset(e->d_h, 0, (size_t)each * sizeof(gm_real));
    gm_block_backward(&e->acts, &o->block, e->h + l * each, d_y, &e->grad,
                      l ? e->d_h : NULL);
    memcpy(d_y, e->d_h, (size_t)each * sizeof(gm_real));
    for (int j = 0; j < GM_LINEARS; j++) add_module(e, l, j, way);
}

/* Forward, keeping the states, then backward. */
static void expand_sequence(expansion *e, long s) {
    gm_objective *o = e->o;
    const long T = o->text.T, each = T * o->d;
    gm_embed(o->model, o->text.tokens + s * T, T, e->h);
    for (long l = 0; l < o->L; l++) {
        gm_real *h = e->h + l * each;
        gm_chosen_block(o->arena, o->candidates, l, e->choice + l * GM_LINEARS,
                        &o->block);
        gm_block_forward(&e->acts, &o->block, h, h + each);
        gm_states_check(o->model, l, "output", h + each, T, o->d);
    }
    head_gradients(e, s);
    for (long l = o->L - 1; l >= 0; l--) {
        gm_chosen_block(o->arena, o->candidates, l, e->choice + l * GM_LINEARS,
                        &o->block);
        gm_block_inputs(&e->acts, &o->block, e->h + l * each, 3);
        for (int way = 0; way < e->ways; way++) block_backward(e, l, way);
    }
}

long gm_expand_evaluations(void) { return 2 + 2 * WAYS; }

/* Counted by the allocation itself. */
int64_t gm_expand_bytes(const gm_config *c, long T) {
    gm_arena count = {.dry = true};
    expansion_alloc(&count, c, T, &(expansion){0});
    return (int64_t)count.peak;
}

/* Sums over `count` sequences from the first on, then again from sequence 0,
   made means. */
static void expand(gm_objective *o, expansion *e, long first, long count) {
    const double T = (double)o->text.T, S = (double)count;
    const long n = o->L * GM_LINEARS * o->K;
    gm_mark mark = gm_arena_mark(o->arena);
    if (o->text.T < 2)
        gm_fail(GM_EUSAGE, "expected sequences of at least 2 tokens, found "
                "%ld", o->text.T);
    expansion_alloc(o->arena, &o->model->config, o->text.T, e);
    memset(e->slope, 0, (size_t)n * sizeof *e->slope);
    if (e->curve) memset(e->curve, 0, (size_t)n * sizeof *e->curve);
    for (long i = 0; i < count; i++) {
        expand_sequence(e, (first + i) % o->text.sequences);
        if (e->curve) gm_say(o->report, "end-to-end gradients", i + 1, count);
    }
    gm_arena_rewind(o->arena, mark);
    o->work += (2 + 2 * e->ways) * o->L * GM_LINEARS * count;
    for (long i = 0; i < n; i++) {
        e->slope[i] /= S * (T - 1);
        if (e->curve) e->curve[i] /= 2 * DRAWS * S * (T - 1);
        if (!isfinite(e->slope[i]) || (e->curve && !isfinite(e->curve[i])))
            gm_bad(o->model->dir, "block %ld, linear %ld: the gradients of the "
                   "whole model overflow", i / o->K / GM_LINEARS,
                   i / o->K % GM_LINEARS);
    }
}

void gm_objective_expand(gm_objective *o, const int *choice, uint64_t seed,
                         double *slope, double *curve) {
    expansion e = {.o = o, .choice = choice, .seed = seed, .ways = WAYS,
                   .slope = slope, .curve = curve};
    expand(o, &e, 0, o->text.sequences);
}

void gm_objective_slope(gm_objective *o, const int *choice, long first,
                        long count, double *slope) {
    expansion e = {.o = o, .choice = choice, .ways = 1, .slope = slope};
    expand(o, &e, first, count);
}

void gm_objective_weights(gm_objective *o, double *D) {
    memset(D, 0, (size_t)(o->L * GM_LINEARS * o->K) * sizeof *D);
    for (long m = 0; m < o->L * GM_LINEARS; m++) {
        gm_mark mark = gm_arena_mark(o->arena);
        long out, in;
        gm_linear_shape(&o->model->config, (int)(m % GM_LINEARS), &out, &in);
        gm_real *w = gm_alloc(o->arena, (size_t)(2 * out * in), sizeof *w);
        bool last = true;
        for (int k = o->K - 1; k >= 0; k--) {
            gm_real *v = last ? w : w + out * in;
            if (!gm_allowed(o->candidates, m, k)) continue;
            gm_candidate_weight(o->arena, o->candidates, m / GM_LINEARS,
                                (int)(m % GM_LINEARS), k, v);
            for (long i = 0; i < out * in && !last; i++) v[i] -= w[i];
            if (!last)
                D[m * o->K + k] = gm_dot(out * in, v, v) / (double)(out * in);
            last = false;
        }
        gm_arena_rewind(o->arena, mark);
    }
}
