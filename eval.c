/* eval.c: how good a model is on a text: perplexity, KL divergence from the
   original, top-1 agreement.  Reads models, writes nothing.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <math.h>

/* ------------------------------------------------------------ hidden states */

enum { BATCH_ROWS = 1024 };     /* rows in one forward pass of a block */

long gm_batch(long windows, long window) {
    return gm_min(windows, window < BATCH_ROWS ? BATCH_ROWS / window : 1);
}

void gm_final_states(gm_arena *arena, const gm_model *model,
                          const gm_candidates *candidates, const int *choice,
                          const gm_text *text, const gm_report *report,
                          gm_real *h) {
    const gm_config *c = &model->config;
    const long T = text->window;
    const long batch = gm_batch(text->windows, T);
    gm_mark mark = gm_arena_mark(arena);
    gm_block block;
    gm_acts acts;
    gm_block_alloc(arena, c, &block);
    gm_acts_alloc(arena, c, batch, T, false, &acts);
    gm_embed(model, text->tokens, text->windows * T, h);
    for (long l = 0; l < c->layers; l++) {
        if (choice)
            gm_chosen_block(candidates, l, choice + l * GM_LINEARS, &block);
        else
            gm_block_load(model, l, &block);
        for (long i = 0; i < text->windows; i += batch) {
            gm_real *rows = h + i * T * c->d;
            acts.S = gm_min(batch, text->windows - i);
            gm_block_forward(&acts, &block, rows, rows);
            gm_states_check(model, l, "output", rows, acts.S * T, c->d);
        }
        gm_say(report, "forward", l + 1, c->layers);
    }
    gm_arena_rewind(arena, mark);
}

/* ------------------------------------------------------------------- losses */

/* The product's speed grows with the rows (bench/gemm.c): 75 GF/s with 64, 91
   with 256. */
long gm_logit_rows(long vocab, long rows) {
    long most = gm_min(512, (1L << 24) / vocab);
    if (most < 64) most = 64;
    if (rows <= most) return rows;
    long chunks = (rows + most - 1) / most;
    return (rows + chunks - 1) / chunks;
}

/* One chunk of rows of one window. */
typedef struct {
    long vocab;
    const int32_t *next;                    /* the token that row r predicts */
    gm_real *student, *teacher;             /* [rows, vocab] */
    gm_real *e;                             /* [threads, vocab] */
    double *nll, *kl, *same;                /* [rows] */
} loss_job;

/* log sum_i exp(x_i) = max + log sum_i exp(x_i - max).  Leaves exp(x_i - max)
   in e and their sum in *sum. */
static double log_sum_exp(long n, const gm_real *x, gm_real *e, long *argmax,
                          double *sum) {
    long most = 0;
    gm_real top = gm_largest(n, x);
    while (most < n - 1 && x[most] != top) most++;
    for (long i = 0; i < n; i++) e[i] = x[i] - top;
    gm_exp(n, e, e);
    *sum = gm_sum(n, e);
    *argmax = most;
    return (double)top + gm_logd(*sum);
}

/* With p = softmax(t), t the teacher's logits, s the student's:
     -ln q_next = lse(s) - s_next
     KL(p || q) = sum_i p_i (t_i - s_i) - lse(t) + lse(s) */
static void loss_row(void *context, long r) {
    const loss_job *job = context;
    long n = job->vocab, best_s, best_t;
    gm_real *s = job->student + r * n, *e = job->e + gm_thread() * n;
    double sum, lse_s = log_sum_exp(n, s, e, &best_s, &sum);
    job->nll[r] = lse_s - (double)s[job->next[r]];
    if (!job->teacher) return;
    const gm_real *t = job->teacher + r * n;
    double lse_t = log_sum_exp(n, t, e, &best_t, &sum);
    for (long i = 0; i < n; i++) s[i] = t[i] - s[i];
    job->kl[r] = gm_dot(n, e, s) / sum - lse_t + lse_s;
    job->same[r] = best_s == best_t;
}

static void loss_rows(loss_job *job, long rows) {
    gm_parallel(rows, loss_row, job);
}

typedef struct {
    long rows;                              /* of a chunk */
    gm_real *student, *teacher, *e, *normed;
    double *nll, *kl, *same;
} buffers;

static void buffers_alloc(gm_arena *arena, const gm_head *head,
                               long rows, bool teacher, buffers *b) {
    const size_t chunk = (size_t)gm_logit_rows(head->vocab, rows);
    const size_t line = (size_t)head->vocab * sizeof(gm_real);
    b->rows = (long)chunk;
    b->student = gm_alloc(arena, chunk, line);
    b->teacher = teacher ? gm_alloc(arena, chunk, line) : NULL;
    b->e = gm_alloc(arena, (size_t)gm_threads(), line);
    b->normed = gm_alloc(arena, chunk, (size_t)head->d * sizeof *b->normed);
    b->nll = gm_alloc(arena, 3 * chunk, sizeof *b->nll);
    b->kl = b->nll + b->rows;
    b->same = b->kl + b->rows;
}

/* Finite states can still overflow in the final norm and the head. */
static void check_loss(const char *what, long i, double nll, double kl) {
    if (isfinite(nll) && isfinite(kl)) return;
    gm_fail(GM_EINPUT, "logits of %s %ld: expected finite numbers, "
                   "found an overflow (final norm, lm_head)", what, i);
}

void gm_token_losses(gm_arena *arena, const gm_head *head,
                          const gm_real *h, const int32_t *next, long rows,
                          double *nll) {
    gm_mark mark = gm_arena_mark(arena);
    buffers b = {0};
    buffers_alloc(arena, head, rows, false, &b);
    for (long r = 0; r < rows; r += b.rows) {
        long n = gm_min(b.rows, rows - r);
        gm_head_forward(head, h + r * head->d, n, b.normed, b.student);
        loss_job job = {head->vocab, next + r, b.student, NULL, b.e, nll + r,
                        NULL, NULL};
        loss_rows(&job, n);
        for (long i = r; i < r + n; i++)
            check_loss("position", i, nll[i], 0);
    }
    gm_arena_rewind(arena, mark);
}

/* Sums of nll, kl and same over the predicted tokens of window `i`. */
static void window_sums(const gm_head *head, const gm_text *text, long i,
                        const gm_real *student, const gm_real *teacher,
                        const buffers *b, double sum[3]) {
    const long T = text->window;
    for (long t = 0; t < T - 1; t += b->rows) {
        long rows = gm_min(b->rows, T - 1 - t), first = i * T + t;
        gm_head_forward(head, student + first * head->d, rows, b->normed,
                        b->student);
        if (teacher)
            gm_head_forward(head, teacher + first * head->d, rows, b->normed,
                            b->teacher);
        loss_job job = {head->vocab, text->tokens + first + 1, b->student,
                        b->teacher, b->e, b->nll, b->kl, b->same};
        loss_rows(&job, rows);
        for (long r = 0; r < rows; r++) {
            sum[0] += b->nll[r];
            sum[1] += b->kl[r];
            sum[2] += b->same[r];
        }
    }
}

double gm_mean_error(long n, const double *x, const double *y, double *error) {
    double mean = 0, squares = 0;
    for (long i = 0; i < n; i++) mean += (x[i] - (y ? y[i] : 0)) / (double)n;
    for (long i = 0; i < n; i++) {
        double d = x[i] - (y ? y[i] : 0) - mean;
        squares += d * d;
    }
    *error = n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : 0;
    return mean;
}

void gm_measure_means(gm_measure *m) {
    m->nll = gm_mean_error(m->windows, m->window_nll, NULL, &m->nll_error);
    m->kl = gm_mean_error(m->windows, m->window_kl, NULL, &m->kl_error);
    m->top1 = gm_mean_error(m->windows, m->window_top1, NULL, &m->top1_error);
    m->perplexity = gm_expd(m->nll);
}

void gm_evaluate(gm_arena *arena, const gm_head *head,
                      const gm_text *text, const gm_real *student,
                      const gm_real *teacher, const gm_report *report,
                      gm_measure *out) {
    const double predicted = (double)(text->window - 1);
    *out = (gm_measure){.windows = text->windows, .window = text->window,
                        .predicted = text->windows * (text->window - 1)};
    size_t n = (size_t)text->windows;
    out->window_nll = gm_alloc(arena, n, sizeof *out->window_nll);
    out->window_kl = gm_alloc(arena, n, sizeof *out->window_kl);
    out->window_top1 = gm_alloc(arena, n, sizeof *out->window_top1);
    gm_mark mark = gm_arena_mark(arena);
    buffers b = {0};
    buffers_alloc(arena, head, text->window - 1, teacher != NULL,
                                &b);
    for (long i = 0; i < text->windows; i++) {
        double sum[3] = {0};
        window_sums(head, text, i, student, teacher, &b, sum);
        check_loss("window", i, sum[0], sum[1]);
        out->window_nll[i] = sum[0] / predicted;
        out->window_kl[i] = sum[1] / predicted;
        out->window_top1[i] = sum[2] / predicted;
        gm_say(report, "perplexity", i + 1, text->windows);
    }
    gm_arena_rewind(arena, mark);
    gm_measure_means(out);
}
