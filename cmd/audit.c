/* audit.c: the command `audit`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <strings.h>

/* What the file gives, what of it the scores have, the best of that size. */
typedef struct {
    gm_call *call;
    gm_scores all, some;        /* as read; the modules whose bits they have */
    gm_foreign file;
    int *has, *best;            /* [some.M] candidates                       */
    gm_sizes sizes, scored;     /* as the tool stores them; as the scores do */
    long resized;               /* modules for which these differ            */
    const char *given;          /* the budget of the command line, or NULL   */
    gm_convention in;           /* what the budget counts                    */
    gm_certificate proof;
    gm_status status;           /* of the solvers: proof.why                 */
} auditing;

/* The candidate that has the type's name as its label, else the only one of its
   bits; -1: none, or several. */
static int find(const gm_scores *s, long m, const gm_gets *g) {
    int found = -1, count = 0;
    for (int k = 0; k < s->K; k++) {
        if (s->bytes[m * s->K + k] < 0) continue;
        if (strcasecmp(s->label[k], g->type) == 0) return k;
        if (s->bits[k] == g->bits) found = k, count++;
    }
    return count == 1 ? found : -1;
}

/* Sizes; and `some`, the scores without modules whose bits they lack. */
static void measure(auditing *x) {
    gm_arena *a = &x->call->arena;
    const gm_scores *s = &x->all;
    gm_scores *t = &x->some;
    for (long m = 0; m < s->M; m++)
        x->sizes.code_bits += x->file.module[m].codes;
    const gm_budget own = {GM_BITS, x->sizes.code_bits, ""};
    const double *score = gm_scores_at(a, s, &own)->score;
    gm_scores_new(a, s->M, s->K, s->bits, t);
    memcpy(t->label, s->label, sizeof t->label);
    t->path = s->path;
    t->overhead = s->overhead;
    t->M = 0;
    x->has = gm_alloc(a, (size_t)s->M, sizeof *x->has);
    x->best = gm_alloc(a, (size_t)s->M, sizeof *x->best);
    x->sizes.file_bytes = x->scored.file_bytes = s->overhead;
    for (long m = 0; m < s->M; m++) {
        const gm_gets *g = &x->file.module[m];
        const int k = find(s, m, g);
        const int64_t theirs = k < 0 ? -1 : s->bytes[m * s->K + k];
        const int64_t bytes = g->bytes >= 0 ? g->bytes : theirs >= 0 ? theirs
                            : (g->codes + 7) / 8;
        x->sizes.file_bytes += bytes;
        x->scored.file_bytes += k < 0 ? bytes : theirs;
        x->resized += k >= 0 && bytes != theirs;
        if (k < 0) continue;
        const long n = t->M++;
        x->has[n] = k;
        t->name[n] = s->name[m];
        t->out[n] = s->out[m], t->in[n] = s->in[m];
        t->N += t->weights[n] = s->weights[m];
        for (int j = 0; j < s->K; j++) {
            t->bytes[n * s->K + j] = s->bytes[m * s->K + j];
            t->score[n * s->K + j] = score[m * s->K + j];
        }
    }
    x->sizes.effective_bits = 8 * (x->sizes.file_bytes - s->overhead);
    x->scored.effective_bits = 8 * (x->scored.file_bytes - s->overhead);
}

static void print_sizes(const auditing *x) {
    const double N = (double)x->all.N;
    const gm_sizes *z = &x->sizes, *t = &x->scored;
    gm_result_row("average_code_bits\t-\t%.9g\t%" PRId64 " bits",
                  (double)z->code_bits / N, z->code_bits);
    gm_result_row("average_effective_bits\t-\t%.9g\t%" PRId64 " bits",
                  (double)z->effective_bits / N, z->effective_bits);
    gm_result_row("file_bytes\t-\t%" PRId64 "\t%" PRId64 " beside the modules",
                  z->file_bytes, x->all.overhead);
    if (x->resized)
        gm_result_row("file_bytes_as_scored\t-\t%" PRId64 "\t%ld modules have "
                      "other scales and zeros than the scores' candidates",
                      t->file_bytes, x->resized);
}

/* The first row; the distance above the budget, 0: within, or none known. */
static int64_t print_budget(auditing *x) {
    const gm_call *call = x->call;
    const char *text = x->given ? x->given : x->file.target;
    const char *by = x->given ? "as given" : "stated in the file";
    const gm_convention in = x->given ? call->in : x->file.in;
    x->in = in;
    if (!text) {
        gm_result_row("budget\t-\t-\tnone stated: --budget gives one");
        return 0;
    }
    const gm_budget b = gm_budget_parse(&x->all, in, text);
    const int64_t over = gm_size_in(&x->sizes, in) - b.limit;
    gm_result_row("%s\t-\t%" PRId64 "\t%s: %s %s, %" PRId64 " %s",
                  over > 0 ? "OVER_BUDGET" : "within_budget",
                  over > 0 ? over : -over, by, text, gm_convention_name(in),
                  b.limit, in == GM_BYTES ? "bytes" : "bits");
    return over > 0 ? over : 0;
}

/* ------------------------------------------------------------- the optimum */

/* What takes each module from the file's bits to the optimum's. */
static void print_moves(const auditing *x) {
    const gm_scores *s = &x->some;
    for (long m = 0; m < s->M; m++) {
        const long from = m * s->K + x->has[m], to = m * s->K + x->best[m];
        if (from == to) continue;
        gm_result_row("move\t%s\t%.9g\t%s to %s%s, %+" PRId64 " bytes",
                      s->name[m], s->score[from] - s->score[to],
                      s->label[x->has[m]], s->label[x->best[m]],
                      gm_labelled(s) ? "" : " bits",
                      s->bytes[to] - s->bytes[from]);
    }
}

static void print_score(auditing *x) {
    gm_call *call = x->call;
    gm_scores *s = &x->some;
    const gm_convention in = x->in;
    const char *note = s->M == x->all.M ? "" :
        gm_format(&call->arena, ", %ld of %ld modules", s->M, x->all.M);
    gm_certificate *t = &x->proof;
    gm_mckp p;
    if (!s->M) {
        gm_result_row("score\t-\t-\tthe scores have none of these bits");
        return;
    }
    const gm_sizes z = gm_sizes_of(s, x->has);
    const gm_budget b = {in, gm_size_in(&z, in), "the file's own size"};
    gm_solve_options *o = &call->solve;
    o->solver = gm_have_glpk() ? GM_BOTH : GM_DP;
    o->report = &call->report;
    gm_problem_build(&call->arena, s, &b, 30, &p);
    x->status = gm_mckp_solve(&call->arena, &p, o, x->best, t);
    const double own = z.score, best = gm_sizes_of(s, x->best).score;
    const double bound = t->optimal ? fmin(best, own)
                                   : ldexp((double)t->bound, -p.shift);
    gm_result_row("score\t-\t%.9g\tsum of the scores%s", own, note);
    gm_result_row("optimum\t-\t%.9g\t%s, at most %" PRId64 " %s%s", best,
                  t->optimal ? "proven" : t->why, b.limit,
                  in == GM_BYTES ? "bytes" : in == GM_BITS ? "bits of code"
                  : "bits with scales and zeros", note);
    gm_result_row("gap\t-\t%.9g\t%.4g %% of the score is the most to be "
                  "gained at this size; the scores' rounding hides %.2g",
                  own - bound, own > bound ? 100 * (own - bound) / fabs(own)
                  : 0, p.rounding);
    if (best < own) print_moves(x);
}

/* ------------------------------------------------------------ what is named */

static void print_names(const auditing *x) {
    const gm_scores *s = &x->all;
    for (size_t i = 0; i < x->file.unmatched_count; i++)
        gm_result_row("matches_nothing\t%s\t-\tno module of %s",
                      x->file.unmatched[i], s->path);
    for (long m = 0; m < s->M; m++) {
        const gm_gets *g = &x->file.module[m];
        const double n = (double)s->weights[m];
        if (!g->from)
            gm_result_row("not_named\t%s\t%.9g\t%s", s->name[m],
                          (double)g->codes / n, g->type);
        if (find(s, m, g) < 0)
            gm_result_row("not_scored\t%s\t%.9g\t%s: no such candidate; %"
                          PRId64 " bytes", s->name[m], (double)g->codes / n,
                          g->type, g->bytes >= 0 ? g->bytes
                          : (g->codes + 7) / 8);
    }
}

static void run_audit(gm_call *call) {
    gm_arena *a = &call->arena;
    auditing *x = gm_alloc(a, 1, sizeof *x);
    x->call = call;
    if (gm_given_of("--budget|--bits|--ebits|--bytes")) gm_call_way(call, 4);
    x->given = call->budgets;
    gm_scores_read(a, call->operand[1], &x->all);
    gm_foreign_read(a, call->operand[0], &x->all, call->otherwise, &x->file);
    if (call->otherwise && !strstr(x->file.format, "llama.cpp"))
        gm_fail(GM_EUSAGE, "--default goes with a list of llama.cpp, found %s",
                x->file.format);
    gm_overhead_give(a, x->file.path, x->file.overhead, &x->all);
    measure(x);
    gm_result_begin("key\tname\tvalue\tnote");
    const int64_t over = print_budget(x);
    gm_result_row("format\t-\t%s\t%s", x->file.format, x->file.path);
    print_sizes(x);
    print_score(x);
    print_names(x);
    gm_result_end(call);
    if (over)
        gm_fail(GM_EDIFFER, "%s: over its budget by %" PRId64, x->file.path,
                over);
    if (x->status)
        gm_fail(x->status, "the optimum is not proven: %s", x->proof.why);
}

const gm_command gm_command_audit = {
    "audit", "FILE SCORES.tsv",
    "Another tool's allocation: its sizes, how far from the optimum",
    "FILE: a table of modules and bits, GPTQModel's quantize_config.json,\n"
    "AutoRound's config or layer_config, ModelOpt's hf_quant_config.json or\n"
    "printed summary, MLX' config.json, a list of llama.cpp's tensor types,\n"
    "RCO's assignment.json, ExLlamaV2's job, ExLlamaV3's\n"
    "quantization_config.json (docs/audit.md).\n"
    "Sizes are as that tool stores them; the score, by the candidates of the\n"
    "same bits, stands against the proven optimum of the same size, and which\n"
    "modules would move.  Exit code 7 when FILE is over its budget.",
    2, AUDIT, run_audit};
