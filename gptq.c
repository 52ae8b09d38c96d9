/* gptq.c: rounding one weight so that its output changes least (Frantar et
   al. 2022, GPTQ).  Touches only what it is handed.

   With inputs X [T, in] of a linear module and H = X^T X, choose the codes of
   a row w to make (w - q) H (w - q)^T small: round the columns one after the
   other and move what each rounding lost onto the columns still to come,

     e_j = (w_j - q_j) / U_jj,     w_t -= e_j U_jt  for t > j,

   U upper triangular, U^T U = H^-1: row j of U is the column of the inverse
   Hessian of the columns j.. that optimal brain surgeon asks for, divided by
   the root of its diagonal.  tests/test_gptq.c has that definition.

   Where this differs from the published code [choice]: a group's scale and
   zero come from the weights as they stand when its first column is reached
   (there: from a copy as old as the block when a group is smaller than the
   block); dead columns do not enter the mean that damping is a share of; U is
   computed without forming H^-1; scales are rounded to fp16 before use, also
   while they are searched (rule mse).  Which H, and which order, grids and
   inputs gain how much: docs/results.md.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Columns between two updates of all that follows, and rows handled side by
   side: every row is rounded by itself, so rows are vector lanes. */
enum { BLOCK = 64, LANES = GM_LANES };

/* --------------------------------------------------------------- the factor */

typedef struct { double h; long j; } ranked;

/* Largest first; equal ones from left to right. */
static int by_diagonal(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->h != y->h) return x->h > y->h ? -1 : 1;
    return x->j < y->j ? -1 : 1;
}

static void choose_order(gm_arena *arena, long n, const double *H,
                              long *order) {
    ranked *rank = gm_alloc(arena, (size_t)n, sizeof *rank);
    for (long j = 0; j < n; j++) rank[j] = (ranked){H[j * n + j], j};
    qsort(rank, (size_t)n, sizeof *rank, by_diagonal);
    for (long j = 0; j < n; j++) order[j] = rank[j].j;
}

/* What damping adds to the diagonal: a share of the mean of live columns. */
static double damp_of(long n, const double *H, double damping) {
    double sum = 0;
    long live = 0;
    for (long j = 0; j < n; j++) {
        sum += H[j * n + j];
        live += H[j * n + j] != 0;
    }
    return live ? damping * (sum / (double)live) : 0;
}

/* A = J (P H P^T + damp) J, lower triangle: columns in the order they are
   rounded in, last first (J reverses); dead columns get a diagonal of 1. */
static void arrange(long n, const double *H, const long *order, double damp,
                    double *A) {
    for (long i = 0; i < n; i++)
        for (long k = 0; k <= i; k++) {
            long a = n - 1 - i, b = n - 1 - k;
            if (order) a = order[a], b = order[b];
            A[i * n + k] = a > b ? H[a * n + b] : H[b * n + a];
            if (i == k) A[i * n + k] += damp;
            if (i == k && H[a * n + a] == 0) A[i * n + k] = 1;
        }
}

/* A = L L^T gives H = M M^T with M = J L J upper triangular, so U = M^-1
   = J L^-1 J has U^T U = H^-1. */
void gm_gptq_factor(gm_arena *arena, long n, const double *H,
                         double damping, bool act_order, gm_factor *out) {
    size_t square = (size_t)n * (size_t)n;
    *out = (gm_factor){n, gm_alloc(arena, square, sizeof(gm_real)), NULL,
                       gm_alloc(arena, (size_t)n, sizeof(bool))};
    if (act_order) out->order = gm_alloc(arena, (size_t)n, sizeof(long));
    gm_mark mark = gm_arena_mark(arena);
    double *A = gm_alloc(arena, square, sizeof *A);
    double *X = gm_alloc(arena, square, sizeof *X);
    for (long j = 0; j < n; j++) out->dead[j] = H[j * n + j] == 0;
    if (act_order) choose_order(arena, n, H, out->order);
    arrange(n, H, out->order, damp_of(n, H, damping), A);
    bool positive = gm_cholesky(n, A);
    if (!positive)
        gm_fail(GM_EINPUT, "the Hessian of %ld inputs, damped by "
                       "%g of its mean diagonal, is not positive definite: "
                       "expected finite activations", n, damping);
    gm_lower_inverse(n, A, X);
    for (long i = 0; i < n; i++)
        for (long j = 0; j < n; j++)
            out->U[i * n + j] = (gm_real)X[(n - 1 - i) * n + n - 1 - j];
    gm_arena_rewind(arena, mark);
}

/* ------------------------------------------------------------- the columns */

typedef struct {
    const gm_factor *f;
    long out, in, group, groups, first, end;    /* columns of this block   */
    int bits;
    gm_scales rule;
    gm_real *w, *e;             /* [out, in] in rounding order; [out, BLOCK] */
    uint8_t *code, *zero;       /* [out, in] in place; [out, groups]         */
    uint16_t *scale;            /* [out, groups]                             */
} gptq_job;

/* LANES rows of a block: w, e [columns][LANES] and the grid in use. */
typedef struct {
    float w[BLOCK][LANES], e[BLOCK][LANES], scale[LANES], zero[LANES];
    long row, rows;
} panel;

/* Scale and zero of group g from columns first.. of the weights as they are
   now: those of this block in the panel, later ones (a group wider than the
   block begins with it) still in job->w. */
static void panel_grid(const gptq_job *job, const panel *p, long r, long g) {
    long first = g * job->group, end = gm_min(first + job->group, job->in);
    float x[GM_MAX_GROUP];
    for (long j = first; j < end; j++)
        x[j - first] = j < job->end
            ? p->w[j - job->first][r]
            : (float)job->w[(p->row + r) * job->in + j];
    long at = (p->row + r) * job->groups + g;
    gm_grid_of(x, end - first, job->bits, job->rule, job->scale + at,
               job->zero + at);
}

/* The grid of column j (in rounding order) into p->scale and p->zero. */
static void panel_column(const gptq_job *job, panel *p, long j) {
    const long *order = job->f->order;
    long g = (order ? order[j] : j) / job->group;
    if (!order && j % job->group != 0 && j != job->first) return;
    for (long r = 0; r < p->rows; r++) {
        long at = (p->row + r) * job->groups + g;
        if (!order && j % job->group == 0) panel_grid(job, p, r, g);
        p->scale[r] = gm_f16_to_f32(job->scale[at]);
        p->zero[r] = (float)job->zero[at];
    }
}

/* Rounds column j of the panel: codes, e, and what is left of the block. */
static void panel_round(const gptq_job *job, panel *p, long j) {
    const long at = j - job->first;
    float code[LANES];
    gm_round_column(&(gm_column){
        job->end - j, (float)((1 << job->bits) - 1), p->scale, p->zero,
        job->f->U + j * job->in + j, p->w + at, p->e[at], code});
    long place = job->f->order ? job->f->order[j] : j;
    for (long r = 0; r < p->rows; r++)
        job->code[(p->row + r) * job->in + place] = (uint8_t)code[r];
}

static void gptq_rows(void *context, long item) {
    const gptq_job *job = context;
    panel p = {.row = item * LANES};
    p.rows = gm_min(LANES, job->out - p.row);
    for (long r = 0; r < LANES; r++) p.scale[r] = 1;
    for (long r = 0; r < p.rows; r++)
        for (long j = job->first; j < job->end; j++)
            p.w[j - job->first][r] =
                (float)job->w[(p.row + r) * job->in + j];
    for (long j = job->first; j < job->end; j++) {
        panel_column(job, &p, j);
        panel_round(job, &p, j);
    }
    for (long r = 0; r < p.rows; r++)
        for (long j = 0; j < job->end - job->first; j++)
            job->e[(p.row + r) * BLOCK + j] = (gm_real)-p.e[j][r];
}

/* The block that begins at column `first`.  It ends before a group that
   begins inside it but does not end there, so that all of that group's
   weights are up to date when its grid is chosen. */
static long block_end(const gptq_job *job, long first) {
    long end = gm_min(first + BLOCK, job->in);
    long start = end / job->group * job->group;
    if (!job->f->order && start > first && start < end &&
        gm_min(start + job->group, job->in) > end)
        return start;
    return end;
}

/* Block after block; W[:, end..] -= E U[first..end-1, end..]. */
static void gptq_blocks(gptq_job *job) {
    const long in = job->in;
    for (job->first = 0; job->first < in; job->first = job->end) {
        job->end = block_end(job, job->first);
        gm_parallel((job->out + LANES - 1) / LANES, gptq_rows, job);
        gm_gemm(job->out, in - job->end, job->end - job->first, job->e, BLOCK,
                1, job->f->U + job->first * in + job->end, in, 1,
                job->w + job->end, in, true);
    }
}

typedef struct { const gptq_job *gptq; const gm_real *w; } static_job;

/* Static groups: every grid from the weights before any is rounded. */
static void static_grids(void *context, long i) {
    const static_job *job = context;
    const gptq_job *q = job->gptq;
    float x[GM_MAX_GROUP];
    for (long g = 0; g < q->groups; g++) {
        long first = g * q->group, end = gm_min(first + q->group, q->in);
        for (long j = first; j < end; j++)
            x[j - first] = q->f->dead[j] ? 0 : (float)job->w[i * q->in + j];
        gm_grid_of(x, end - first, q->bits, q->rule,
                   q->scale + i * q->groups + g, q->zero + i * q->groups + g);
    }
}

void gm_gptq(gm_arena *arena, const gm_real *w, long out, long in,
                  int bits, long group, gm_scales rule,
                  const gm_factor *factor, uint8_t *codes,
                  uint16_t *scales, uint8_t *zeros) {
    assert(bits >= 1 && bits <= 8 && group >= 1 &&
           group <= GM_MAX_GROUP && in == factor->n);
    gm_mark mark = gm_arena_mark(arena);
    gptq_job job = {.f = factor, .out = out, .in = in, .group = group,
                    .groups = (in + group - 1) / group, .bits = bits,
                    .rule = rule, .scale = scales};
    job.w = gm_alloc(arena, (size_t)out, (size_t)in * sizeof *job.w);
    job.e = gm_alloc(arena, (size_t)out, BLOCK * sizeof *job.e);
    job.code = gm_alloc(arena, (size_t)out, (size_t)in);
    job.zero = gm_alloc(arena, (size_t)out, (size_t)job.groups);
    for (long i = 0; i < out; i++)
        for (long j = 0; j < in; j++) {
            long from = factor->order ? factor->order[j] : j;
            job.w[i * in + j] = factor->dead[from] ? 0 : w[i * in + from];
        }
    static_job grids = {&job, w};
    if (factor->order) gm_parallel(out, static_grids, &grids);
    gptq_blocks(&job);
    for (long i = 0; i < out; i++) {
        gm_pack(job.code + i * in, in, bits,
                codes + i * gm_packed_parts(1, in, bits, group).codes);
        gm_pack(job.zero + i * job.groups, job.groups, bits,
                zeros + i * gm_packed_parts(1, in, bits, group).zeros);
    }
    gm_arena_rewind(arena, mark);
}
