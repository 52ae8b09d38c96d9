/* probe.c: what a candidate costs the whole model's predictions, to second
   order: all modules and candidates from a few backward passes, so that scores
   learned block by block also count what later blocks make of an error.
   Reads the model and its candidates, writes nothing.

   At the weights W~ of an assignment, with q_t the student's distribution of
   the token after position t, and e_mk = Q_mk - W_m:

     KL_mk = 1/(2 T) e_mk^T F e_mk,   F = sum_t J_t^T (diag q_t - q_t q_t^T) J_t

   is the Gauss-Newton estimate of KL(without || with e_mk), J_t the Jacobian of
   the logits by W_m.  F is the covariance of s = d/dW_m sum_t ln q_t(y_t) when
   the labels y_t are drawn from q_t (Fisher; positions are independent given
   the text), hence, over sequences and draws,

     KL_mk = mean <s_m, e_mk>^2 / (2 T)

   One draw is one backward pass and gives all M K numbers; with n draws
   in all the relative standard error of each is sqrt(2/n).
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <math.h>
#include <string.h>

enum { BATCH_ROWS = 1024,       /* rows whose states are kept at once */
       CHUNK_ROWS = 64 };       /* rows whose logits exist at once    */

typedef struct {
    const gm_candidates *candidates;
    const gm_sequences *text;
    const int *choice;          /* [M]; NULL: the original              */
    long draws;
    uint64_t seed;
    long L, d, batch;           /* sequences whose states are kept      */
    gm_head head;
    gm_block original, block, grad;
    gm_acts acts;
    gm_rope_table rope;
    gm_real *h;                 /* [L + 1, batch T, d] of the student   */
    gm_real *d_h;               /* [draws, batch T, d]                  */
    gm_real *d_x;               /* [T, d]                               */
    gm_real *logits, *e, *d_logits;     /* [CHUNK_ROWS, vocab]          */
    gm_real *scratch;           /* [CHUNK_ROWS, d]                      */
    double *row_g;              /* [widest, K] workspace of gm_inner    */
    double *loss;               /* [M, K]                               */
} probe;

static gm_status buffers(gm_arena *arena, probe *p, gm_error *err) {
    const gm_config *c = &p->candidates->model->config;
    const size_t d = (size_t)c->d, T = (size_t)p->text->T;
    const size_t rows = (size_t)p->batch * T;
    size_t widest = 0;
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        if ((size_t)out > widest) widest = (size_t)out;
    }
    gm_status s = gm_block_alloc(arena, c, &p->original, err);
    if (!s) s = gm_block_alloc(arena, c, &p->block, err);
    if (!s) s = gm_block_alloc(arena, c, &p->grad, err);
    if (!s) s = gm_acts_alloc(arena, c, p->batch, p->text->T, true, &p->acts,
                              err);
    if (!s) s = gm_rope_build(arena, c, p->text->T, NULL, &p->rope, err);
    if (!s) s = gm_head_load(arena, p->candidates->model, &p->head, err);
    if (s) return s;
    /* only the gradients of the seven linears are wanted */
    memset(p->grad.bias, 0, sizeof p->grad.bias);
    p->grad.norm1 = p->grad.norm2 = p->grad.q_norm = p->grad.k_norm = NULL;
    const size_t logits = CHUNK_ROWS * (size_t)c->vocab;
    p->h = gm_alloc(arena, (size_t)(p->L + 1) * rows, d * sizeof *p->h);
    p->d_h = gm_alloc(arena, (size_t)p->draws * rows, d * sizeof *p->d_h);
    p->d_x = gm_alloc(arena, T, d * sizeof *p->d_x);
    p->logits = gm_alloc(arena, logits, sizeof *p->logits);
    p->e = gm_alloc(arena, logits, sizeof *p->e);
    p->d_logits = gm_alloc(arena, logits, sizeof *p->d_logits);
    p->scratch = gm_alloc(arena, CHUNK_ROWS * d, sizeof *p->scratch);
    p->row_g = gm_alloc(arena, widest * (size_t)p->candidates->recipe.count,
                        sizeof *p->row_g);
    if (!p->h || !p->d_h || !p->d_x || !p->logits || !p->e || !p->d_logits ||
        !p->scratch || !p->row_g)
        return gm_nomem(err);
    return GM_OK;
}

/* ------------------------------------------------------------ drawn labels */

/* One chunk of rows under one draw; row r is position `first` + r of all. */
typedef struct { const probe *p; long first; uint64_t draw; } label_job;

/* e = exp(x - max x); e is left for all draws. */
static void exponentials(void *context, long r) {
    const label_job *job = context;
    const long n = job->p->head.vocab;
    const gm_real *x = job->p->logits + r * n;
    gm_real *e = job->p->e + r * n, most = x[0];
    for (long i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
    for (long i = 0; i < n; i++) e[i] = x[i] - most;
    gm_exp(n, e, e);
}

/* y ~ q = e / sum e;  d/dlogits ln q(y) = onehot(y) - q. */
static void draw_label(void *context, long r) {
    const label_job *job = context;
    const long n = job->p->head.vocab;
    const gm_real *e = job->p->e + r * n;
    gm_real *d = job->p->d_logits + r * n;
    const double sum = gm_sum(n, e);
    double left = sum * gm_uniform(job->p->seed, job->draw,
                                   (uint64_t)(job->first + r));
    long y = -1;
    for (long i = 0; i < n; i++) {
        if (e[i] > 0 && left >= 0) y = i;       /* the last passed, if rounding
                                                   leaves something */
        left -= (double)e[i];
        d[i] = (gm_real)(-(double)e[i] / sum);
    }
    d[y] += 1;
}

/* d_h of each draw at the last states; `first`: of the batch's sequences. */
static void head_backward(probe *p, long first, long rows) {
    const long T = p->text->T, d = p->d, size = p->batch * T * d;
    const gm_real *h = p->h + p->L * size;
    memset(p->d_h, 0, (size_t)(p->draws * size) * sizeof *p->d_h);
    for (long t = 0; t < rows; t += CHUNK_ROWS) {
        long n = rows - t < CHUNK_ROWS ? rows - t : CHUNK_ROWS;
        label_job job = {p, first * T + t, 0};
        gm_head_forward(&p->head, h + t * d, n, p->scratch, p->logits);
        gm_parallel(n, exponentials, &job);
        for (long i = 0; i < p->draws; i++) {
            job.draw = (uint64_t)i;
            gm_parallel(n, draw_label, &job);
            gm_head_backward(&p->head, h + t * d, n, p->d_logits, p->scratch,
                             p->d_h + i * size + t * d);
        }
    }
}

/* ------------------------------------------------------------------ blocks */

/* Block l of the student. */
static gm_status load(probe *p, long l, gm_error *err) {
    return p->choice ? gm_chosen_block(p->candidates, l,
                                       p->choice + l * GM_LINEARS, &p->block,
                                       err)
                     : gm_block_load(p->candidates->model, l, &p->block, err);
}

/* loss_mk += <s_m, e_mk>^2 for the module's gradient s_m. */
static gm_status add_module(probe *p, long l, int j, gm_error *err) {
    const int K = p->candidates->recipe.count;
    const long m = l * GM_LINEARS + j;
    long out, in;
    gm_linear_shape(&p->candidates->model->config, j, &out, &in);
    const double original = gm_dot(out * in, p->grad.w[j], p->original.w[j]);
    for (int k = 0; k < K; k++) {
        gm_packed packed;
        double g;
        if (!gm_allowed(p->candidates, m, k)) continue;
        gm_status s = gm_candidate(p->candidates, l, j, k, &packed, err);
        if (!s) s = gm_inner(&packed, 1, p->grad.w[j], p->row_g, &g, err);
        if (s) return s;
        p->loss[m * K + k] += (g - original) * (g - original);
    }
    return GM_OK;
}

/* One sequence and draw through block l: d_h becomes that of its input. */
static gm_status backward(probe *p, long l, const gm_real *h, gm_real *d_h,
                          gm_error *err) {
    const gm_config *c = &p->candidates->model->config;
    const size_t size = (size_t)(p->text->T * p->d) * sizeof *d_h;
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        memset(p->grad.w[j], 0, (size_t)(out * in) * sizeof *d_h);
    }
    memset(p->d_x, 0, size);
    gm_block_backward(c, &p->block, &p->rope, h, &p->acts, d_h, &p->grad,
                      p->d_x);
    memcpy(d_h, p->d_x, size);
    gm_status s = GM_OK;
    for (int j = 0; j < GM_LINEARS && !s; j++) s = add_module(p, l, j, err);
    return s;
}

/* Sequences first .. first + n - 1: forward, labels, and back. */
static gm_status batch(probe *p, long first, long n, gm_error *err) {
    const gm_model *model = p->candidates->model;
    const long T = p->text->T, d = p->d, size = p->batch * T * d;
    gm_status s = gm_embed(model, p->text->tokens + first * T, n * T, p->h,
                           err);
    p->acts.S = n;
    for (long l = 0; l < p->L && !s; l++) {
        s = load(p, l, err);
        if (!s) gm_block_forward(&model->config, &p->block, &p->rope,
                                 p->h + l * size, &p->acts,
                                 p->h + (l + 1) * size);
    }
    if (!s) head_backward(p, first, n * T);
    p->acts.S = 1;
    for (long l = p->L - 1; l >= 0 && !s; l--) {
        s = gm_block_load(model, l, &p->original, err);
        if (!s) s = load(p, l, err);
        for (long i = 0; i < n && !s; i++) {
            const gm_real *h = p->h + l * size + i * T * d;
            gm_block_forward(&model->config, &p->block, &p->rope, h, &p->acts,
                             p->d_x);
            for (long j = 0; j < p->draws && !s; j++)
                s = backward(p, l, h, p->d_h + j * size + i * T * d, err);
        }
    }
    return s;
}

gm_status gm_probe(gm_arena *arena, const gm_candidates *candidates,
                   const gm_sequences *text, const int *choice, long draws,
                   uint64_t seed, const gm_report *report, double *loss,
                   gm_error *err) {
    const gm_config *c = &candidates->model->config;
    const long M = c->layers * GM_LINEARS, K = candidates->recipe.count;
    const long fitting = text->T < BATCH_ROWS ? BATCH_ROWS / text->T : 1;
    gm_mark mark = gm_arena_mark(arena);
    probe p = {.candidates = candidates, .text = text, .choice = choice,
               .draws = draws, .seed = seed, .L = c->layers, .d = c->d,
               .batch = text->S < fitting ? text->S : fitting, .loss = loss};
    gm_status s = buffers(arena, &p, err);
    memset(loss, 0, (size_t)(M * K) * sizeof *loss);
    for (long i = 0; i < text->S && !s; i += p.batch) {
        long rest = text->S - i;
        s = batch(&p, i, rest < p.batch ? rest : p.batch, err);
        gm_say(report, "probing", i + p.batch < text->S ? i + p.batch : text->S,
               text->S);
    }
    gm_arena_rewind(arena, mark);
    for (long i = 0; i < M * K && !s; i++) {
        loss[i] /= 2 * (double)text->T * (double)(text->S * draws);
        if (!(loss[i] < HUGE_VAL))
            s = gm_fail(err, GM_EINPUT, "%s: module %ld: the probed loss is "
                        "%g; expected a finite number", candidates->model->dir,
                        i / K, loss[i]);
    }
    return s;
}

/* ------------------------------------------------------------------ scores

   A module's scores keep their shape over the candidates, less noisy than the
   probes, and get one factor from them:
     ln r_m = mean_k ln((KL_mk - KL_mb) / u_mk) - mean over the modules,
   b the candidate of score 0, over the k where both are positive (no such k:
   ln r_m = 0).  Noise of n probes gives it a variance of up to 2/n; with V its
   mean square over the modules the best linear guess of the truth is
     max(0, 1 - 2/(n V)) ln r_m. */

/* false: no candidate tells. */
static bool log_factor(const gm_scores *t, const double *loss, long m,
                       double *out) {
    double sum = 0;
    long n = 0, best = -1;
    for (long i = m * t->K; i < (m + 1) * t->K; i++)
        if (t->bytes[i] >= 0 && (best < 0 || t->score[i] < t->score[best]))
            best = i;
    for (long i = m * t->K; i < (m + 1) * t->K; i++) {
        double u = t->score[i] - t->score[best], more = loss[i] - loss[best];
        if (t->bytes[i] < 0 || !(u > 0) || !(more > 0)) continue;
        sum += gm_logd(more / u);
        n++;
    }
    *out = n ? sum / (double)n : 0;
    return n > 0;
}

gm_status gm_probe_scores(gm_arena *arena, gm_scores *scores,
                          const double *loss, double probes, gm_error *err) {
    const size_t M = (size_t)scores->M;
    double *r = gm_alloc(arena, M, sizeof *r), mean = 0, square = 0;
    bool *told = gm_alloc(arena, M, sizeof *told);
    long n = 0;
    if (!r || !told) return gm_nomem(err);
    for (long m = 0; m < scores->M; m++) {
        told[m] = log_factor(scores, loss, m, &r[m]);
        mean += r[m];
        n += told[m];
    }
    mean = n ? mean / (double)n : 0;
    for (long m = 0; m < scores->M; m++) {
        r[m] = told[m] ? r[m] - mean : 0;
        square += r[m] * r[m] / (double)n;
    }
    double trust = square > 0 ? fmax(0, 1 - 2 / (probes * square)) : 0;
    for (long i = 0; i < scores->M * scores->K; i++) {
        double by = gm_expd(trust * r[i / scores->K]);
        scores->score[i] *= by;
        if (scores->error[i] >= 0) scores->error[i] *= by;
    }
    return GM_OK;
}
