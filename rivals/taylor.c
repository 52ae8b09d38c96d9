/* taylor.c: the KL divergence of the whole quantized model around an
   assignment x, to second order, from one backward pass over each sequence.

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
   gradients by the logits are q - p for KL and e_y - q for ln q(y).
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "rivals.h"

#include <math.h>
#include <string.h>

enum { DRAWS = 4, WAYS = 1 + DRAWS };   /* [choice]; way 0: KL */

typedef struct {
    const gm_expansion *x;
    const gm_config *c;
    long T, K, rows;                /* rows: of a chunk of logits */
    gm_block block, grad;
    gm_acts acts;
    gm_rope_table rope;
    gm_real *h;                     /* [L + 1, T, d] of the quantized model */
    gm_real *d_y[WAYS], *d_h;       /* [T, d] */
    gm_real *q, *p, *d_z;           /* [rows, vocab] */
    gm_real *normed;                /* [rows, d] */
    double *row;                    /* [tallest, K] of gm_inner */
    double *slope, *curve;          /* [M, K] sums over sequences */
} expansion;

static void expansion_alloc(gm_arena *arena, expansion *e) {
    const gm_config *c = e->c;
    const size_t d = (size_t)c->d, T = (size_t)e->T, real = sizeof(gm_real);
    const size_t chunk = (size_t)(e->rows = gm_logit_rows(c->vocab, e->T - 1));
    gm_block_alloc(arena, c, &e->block);
    gm_grad_alloc(arena, c, &e->grad);
    gm_acts_alloc(arena, c, 1, e->T, true, &e->acts);
    for (int i = 0; i < WAYS; i++)
        e->d_y[i] = gm_alloc(arena, T, d * real);
    e->h = gm_alloc(arena, (size_t)(c->layers + 1) * T, d * real);
    e->d_h = gm_alloc(arena, T, d * real);
    e->q = gm_alloc(arena, chunk, (size_t)c->vocab * real);
    e->p = gm_alloc(arena, chunk, (size_t)c->vocab * real);
    e->d_z = gm_alloc(arena, chunk, (size_t)c->vocab * real);
    e->normed = gm_alloc(arena, chunk, d * real);
    e->row = gm_alloc(arena, (size_t)(gm_tallest(c) * e->K), sizeof *e->row);
}

/* ------------------------------------------------------------------- logits */

/* Row r of a chunk: softmax in place. */
typedef struct { long n; gm_real *x; } softmax_job;

static void softmax_row(void *context, long r) {
    const softmax_job *job = context;
    gm_real *x = job->x + r * job->n, top = gm_largest(job->n, x);
    for (long i = 0; i < job->n; i++) x[i] -= top;
    gm_exp(job->n, x, x);
    double sum = gm_sum(job->n, x);
    for (long i = 0; i < job->n; i++) x[i] = (gm_real)(x[i] / sum);
}

static void probabilities(const gm_head *head, const gm_real *h, long rows,
                          gm_real *normed, gm_real *p) {
    softmax_job job = {head->vocab, p};
    gm_head_forward(head, h, rows, normed, p);
    gm_parallel(rows, softmax_row, &job);
}

/* d_z of the rows of a chunk, way by way. */
typedef struct {
    const expansion *e;
    int way;
    uint64_t first;                 /* the number of row 0 in the text */
} way_job;

static void way_row(void *context, long r) {
    const way_job *job = context;
    const expansion *e = job->e;
    const long n = e->c->vocab;
    const gm_real *q = e->q + r * n, *p = e->p + r * n;
    gm_real *d = e->d_z + r * n;
    if (job->way == 0) {
        for (long i = 0; i < n; i++) d[i] = q[i] - p[i];
        return;
    }
    double u = gm_uniform(e->x->seed, (uint64_t)job->way,
                          job->first + (uint64_t)r), below = 0;
    long y = 0;
    for (long i = 0; i < n; i++) d[i] = -q[i];
    while (y < n - 1 && (below += (double)q[y]) <= u) y++;
    d[y] += 1;
}

/* d_y[way] of sequence s: the gradient by h_L; the last position predicts
   nothing. */
static void head_gradients(expansion *e, long s) {
    const gm_head *head = e->x->head;
    const long d = e->c->d, T = e->T;
    const gm_real *h = e->h + e->c->layers * T * d;
    const gm_real *teacher = e->x->teacher + s * T * d;
    for (int way = 0; way < WAYS; way++)
        memset(e->d_y[way], 0, (size_t)(T * d) * sizeof(gm_real));
    for (long t = 0; t < T - 1; t += e->rows) {
        long n = gm_min(e->rows, T - 1 - t);
        probabilities(head, h + t * d, n, e->normed, e->q);
        probabilities(head, teacher + t * d, n, e->normed, e->p);
        for (int way = 0; way < WAYS; way++) {
            way_job job = {e, way, (uint64_t)(s * T + t)};
            gm_parallel(n, way_row, &job);
            gm_head_backward(head, h + t * d, n, e->d_z, e->normed,
                             e->d_y[way] + t * d);
        }
    }
}

/* ------------------------------------------------------------------- blocks */

static void forward(expansion *e, long s) {
    const gm_expansion *x = e->x;
    const long d = e->c->d, T = e->T;
    gm_embed(x->candidates->model, x->text.tokens + s * T, T,
                                e->h);
    for (long l = 0; l < e->c->layers; l++) {
        gm_real *h = e->h + l * T * d;
        gm_chosen_block(x->candidates, l, x->choice + l * GM_LINEARS,
                                 &e->block);
        gm_block_forward(e->c, &e->block, &e->rope, h, &e->acts, h + T * d);
        gm_states_check(x->candidates->model, l, "output", h + T * d,
                                 T, d);
    }
}

/* Adds what way `way` says of module (l, j) from its gradient. */
static void add_module(expansion *e, long l, int j, int way) {
    const long m = l * GM_LINEARS + j;
    gm_offer offer;
    double g[GM_MAX_CANDIDATES];
    gm_offer_find(e->x->candidates, l, j, &offer);
    gm_offer_inner(&offer, e->grad.w[j], e->row, g);
    for (int i = 0; i < offer.count; i++) {
        const int k = offer.k[i];
        double along = g[k] - g[e->x->choice[m]];
        if (way == 0) e->slope[m * e->K + k] += along;
        else e->curve[m * e->K + k] += along * along;
    }
}

static void block_backward(expansion *e, long l, int way) {
    const size_t bytes = (size_t)(e->T * e->c->d) * sizeof(gm_real);
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(e->c, j, &out, &in);
        memset(e->grad.w[j], 0, (size_t)(out * in) * sizeof(gm_real));
    }
    memset(e->d_h, 0, bytes);
    gm_block_backward(e->c, &e->block, &e->rope, e->h + l * e->T * e->c->d,
                      &e->acts, e->d_y[way], &e->grad, l ? e->d_h : NULL);
    memcpy(e->d_y[way], e->d_h, bytes);
    for (int j = 0; j < GM_LINEARS; j++)
        add_module(e, l, j, way);
}

static void backward(expansion *e) {
    for (long l = e->c->layers - 1; l >= 0; l--) {
        gm_chosen_block(e->x->candidates, l,
                            e->x->choice + l * GM_LINEARS, &e->block);
        gm_block_inputs(e->c, &e->block, &e->rope, e->h + l * e->T * e->c->d,
                        &e->acts, 3);
        for (int way = 0; way < WAYS; way++)
            block_backward(e, l, way);
    }
}

long gm_expand_evaluations(void) { return 2 + 2 * WAYS; }

/* Counted by the allocation itself; the rotary table beside it. */
int64_t gm_expand_bytes(const gm_config *c, long T, int K) {
    gm_arena count = {.dry = true};
    expansion e = {.c = c, .T = T, .K = K};
    expansion_alloc(&count, &e);
    return (int64_t)count.peak + T * c->head_dim * (int64_t)sizeof(gm_real);
}

void gm_expand(gm_arena *arena, const gm_expansion *x, double *slope,
                    double *curve) {
    const gm_config *c = &x->candidates->model->config;
    const double S = (double)x->text.S, T = (double)x->text.T;
    expansion e = {.x = x, .c = c, .T = x->text.T,
                   .K = x->candidates->recipe.count, .slope = slope,
                   .curve = curve};
    const long n = c->layers * GM_LINEARS * e.K;
    gm_mark mark = gm_arena_mark(arena);
    if (x->text.T < 2)
        gm_fail(GM_EUSAGE, "expected sequences of at least 2 "
                       "tokens, found %ld", x->text.T);
    expansion_alloc(arena, &e);
    gm_rope_build(arena, c, e.T, NULL, &e.rope);
    memset(slope, 0, (size_t)n * sizeof *slope);
    memset(curve, 0, (size_t)n * sizeof *curve);
    for (long i = 0; i < x->text.S; i++) {
        forward(&e, i);
        head_gradients(&e, i);
        backward(&e);
        gm_say(x->report, "end-to-end gradients", i + 1, x->text.S);
    }
    gm_arena_rewind(arena, mark);
    for (long i = 0; i < n; i++) {
        slope[i] /= S * (T - 1);
        curve[i] /= 2 * DRAWS * S * (T - 1);
        if (!isfinite(slope[i]) || !isfinite(curve[i]))
            gm_fail(GM_EINPUT, "%s: block %ld, linear %ld: the "
                        "gradients of the whole model overflow",
                        x->candidates->model->dir, i / e.K / GM_LINEARS,
                        i / e.K % GM_LINEARS);
    }
}
