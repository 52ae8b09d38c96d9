/* measure.c: how good a model is on a text: perplexity, KL divergence from the
   original, top-1 agreement.  Reads models, writes nothing.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "rivals.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------ hidden states */

enum { BATCH_ROWS = 1024 };     /* rows in one forward pass of a block */

long gm_batch(long windows, long window) {
    return gm_min(windows, window < BATCH_ROWS ? BATCH_ROWS / window : 1);
}

void gm_final_states(gm_arena *arena, const gm_model *model,
                     const gm_candidates *candidates, const int *choice,
                     const gm_sequences *text, const gm_report *report,
                     gm_real *h) {
    const gm_config *c = &model->config;
    const long T = text->T, batch = gm_batch(text->sequences, T);
    gm_mark mark = gm_arena_mark(arena);
    gm_block block;
    gm_acts acts;
    gm_block_alloc(arena, c, &block);
    gm_acts_alloc(arena, c, batch, T, false, &acts);
    gm_embed(model, text->tokens, text->sequences * T, h);
    for (long l = 0; l < c->layers; l++) {
        if (choice)
            gm_chosen_block(arena, candidates, l, choice + l * GM_LINEARS,
                            &block);
        else
            gm_block_load(model, l, &block);
        for (long s = 0; s < text->sequences; s += batch) {
            gm_real *rows = h + s * T * c->d;
            acts.sequences = gm_min(batch, text->sequences - s);
            gm_block_forward(&acts, &block, rows, rows);
            gm_states_check(model, l, "output", rows, acts.sequences * T, c->d);
        }
        gm_say(report, "forward", l + 1, c->layers);
    }
    gm_arena_rewind(arena, mark);
}

/* ------------------------------------------------------------------- losses */

/* The product's speed grows with the rows (tools/bench/gemm.c): 75 GF/s with
   64, 91 with 256. */
long gm_logit_rows(long vocab, long rows) {
    long most = gm_min(512, (1L << 24) / vocab);
    if (most < 64) most = 64;
    if (rows <= most) return rows;
    long chunks = (rows + most - 1) / most;
    return (rows + chunks - 1) / chunks;
}

/* Room for one chunk of rows, and its losses. */
typedef struct {
    long rows;
    gm_real *student, *teacher; /* [rows, vocab] logits; teacher may be NULL */
    gm_real *e;                 /* [threads, vocab]                          */
    gm_real *normed;            /* [rows, d]                                 */
    double *nll, *kl, *same;    /* [rows]                                    */
} chunk;

static chunk chunk_alloc(gm_arena *arena, const gm_head *head, long rows,
                         bool teacher) {
    const size_t n = (size_t)gm_logit_rows(head->vocab, rows);
    const size_t line = (size_t)head->vocab * sizeof(gm_real);
    chunk c = {.rows = (long)n};
    c.student = gm_alloc(arena, n, line);
    if (teacher) c.teacher = gm_alloc(arena, n, line);
    c.e = gm_alloc(arena, (size_t)gm_threads(), line);
    c.normed = gm_alloc(arena, n, (size_t)head->d * sizeof *c.normed);
    c.nll = gm_alloc(arena, 3 * n, sizeof *c.nll);
    c.kl = c.nll + n;
    c.same = c.kl + n;
    return c;
}

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

/* Of `rows` states of the student, and of the teacher unless NULL; next: the
   token that each row predicts.  With p = softmax(t), t the teacher's logits,
   s the student's:
     nll = lse(s) - s_next
     KL(p || q) = sum_i p_i (t_i - s_i) - lse(t) + lse(s) */
static void chunk_losses(const gm_head *head, const gm_real *student,
                         const gm_real *teacher, const int32_t *next,
                         long rows, const chunk *c) {
    const long n = head->vocab;
    gm_head_forward(head, student, rows, c->normed, c->student);
    if (teacher) gm_head_forward(head, teacher, rows, c->normed, c->teacher);
#pragma omp parallel for num_threads(gm_threads())
    for (long r = 0; r < rows; r++) {
        gm_real *s = c->student + r * n, *e = c->e + gm_thread() * n;
        long best_s, best_t;
        double sum, lse_s = log_sum_exp(n, s, e, &best_s, &sum);
        c->nll[r] = lse_s - (double)s[next[r]];
        if (!teacher) continue;
        const gm_real *t = c->teacher + r * n;
        double lse_t = log_sum_exp(n, t, e, &best_t, &sum);
        for (long i = 0; i < n; i++) s[i] = t[i] - s[i];
        c->kl[r] = gm_dot(n, e, s) / sum - lse_t + lse_s;
        c->same[r] = best_s == best_t;
    }
}

/* Finite states can still overflow in the final norm and the head. */
static void check_loss(const char *what, long i, double nll, double kl) {
    if (isfinite(nll) && isfinite(kl)) return;
    gm_fail(GM_EINPUT, "logits of %s %ld: expected finite numbers, found an "
            "overflow (final norm, lm_head)", what, i);
}

void gm_token_losses(gm_arena *arena, const gm_head *head, const gm_real *h,
                     const int32_t *next, long rows, double *nll) {
    gm_mark mark = gm_arena_mark(arena);
    chunk c = chunk_alloc(arena, head, rows, false);
    for (long r = 0; r < rows; r += c.rows) {
        const long n = gm_min(c.rows, rows - r);
        chunk_losses(head, h + r * head->d, NULL, next + r, n, &c);
        memcpy(nll + r, c.nll, (size_t)n * sizeof *nll);
    }
    for (long i = 0; i < rows; i++) check_loss("position", i, nll[i], 0);
    gm_arena_rewind(arena, mark);
}

/* Rows of a window whose prediction counts: from the first target on. */
static long scored(const int32_t *target, long T, long *first) {
    long last;
    for (*first = 0; *first < T && target[*first] < 0;) ++*first;
    for (last = *first; last < T && target[last] >= 0;) last++;
    return last - *first;
}

void gm_evaluate(gm_arena *arena, const gm_head *head,
                 const gm_sequences *text, const int32_t *next,
                 const gm_real *student, const gm_real *teacher,
                 const gm_report *report, gm_measure *out) {
    const long T = text->T, d = head->d;
    const size_t n = (size_t)text->sequences;
    double *mean = gm_alloc(arena, 3 * n, sizeof *mean);
    *out = (gm_measure){.windows = text->sequences, .window = T,
                        .window_nll = mean, .window_kl = mean + n,
                        .window_top1 = mean + 2 * n};
    gm_mark mark = gm_arena_mark(arena);
    chunk c = chunk_alloc(arena, head, next ? T : T - 1, teacher != NULL);
    for (long i = 0; i < text->sequences; i++) {
        const int32_t *target = next ? next + i * T : text->tokens + i * T + 1;
        double nll = 0, kl = 0, same = 0;
        long first = 0, count = next ? scored(target, T, &first) : T - 1;
        for (long t = first; t < first + count; t += c.rows) {
            const long rows = gm_min(c.rows, first + count - t);
            const gm_real *h = student + (i * T + t) * d;
            chunk_losses(head, h, teacher ? teacher + (h - student) : NULL,
                         target + t, rows, &c);
            for (long r = 0; r < rows; r++) {
                nll += c.nll[r];
                kl += c.kl[r];
                same += c.same[r];
            }
        }
        check_loss("window", i, nll, kl);
        out->predicted += count;
        out->window_nll[i] = nll / (double)count;
        out->window_kl[i] = kl / (double)count;
        out->window_top1[i] = same / (double)count;
        gm_say(report, "perplexity", i + 1, text->sequences);
    }
    gm_arena_rewind(arena, mark);
    gm_measure_means(out);
}
