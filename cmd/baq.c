/* baq.c: the command `baq`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(long n, double *x) {
    qsort(x, (size_t)n, sizeof *x, ascending);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

/* The medians over modules of the three spreads, as log2; shares of columns. */
static void summary(gm_arena *arena, const gm_baq_report *r, double spread[3],
                    double share[2]) {
    const size_t M = (size_t)r->M;
    double *x[3], columns = 0;
    for (int i = 0; i < 3; i++) x[i] = gm_alloc(arena, M, sizeof **x);
    for (long m = 0; m < r->M; m++) {
        const gm_baq_module *o = r->module + m;
        x[0][m] = o->before.log2;
        x[1][m] = o->predicted.log2;
        x[2][m] = o->after.log2;
        columns += (double)o->in;
        share[0] += (double)o->pruned;
        share[1] += (double)o->clamped;
    }
    for (int i = 0; i < 3; i++) spread[i] = median(r->M, x[i]);
    for (int i = 0; i < 2; i++) share[i] /= columns;
}

gm_baq_report gm_call_baq(gm_call *call, const gm_baq_options *options,
                          gm_candidates *out) {
    gm_recipe recipe;
    gm_baq_report report = gm_baq_open(&call->arena, &call->model, options,
                                       &call->calibration, call->out,
                                       &call->report);
    gm_external_open(&call->arena, &call->model, report.path, NULL,
                     GM_MAX_GROUP, &recipe);
    gm_candidates_open(&call->arena, &call->model, &recipe, NULL, call->out,
                       &call->report, out);
    return report;
}

/* Measures and prints one row. */
static void print_row(gm_call *call, const gm_baq_options *o) {
    gm_arena *a = &call->arena;
    gm_candidates c;
    char measured[128] = "-\t-\t-\t-";
    double spread[3], share[2] = {0};
    gm_baq_report r = gm_call_baq(call, o, &c);
    if (call->on.text.S) {
        const int *choice = gm_alloc(a, (size_t)r.M, sizeof *choice);
        gm_measure m = gm_call_measure(call, &c, choice);
        snprintf(measured, sizeof measured, "%.6f\t%.6f\t%.6f\t%.6f",
                 m.perplexity, m.kl, m.kl_error, m.top1);
    }
    summary(a, &r, spread, share);
    gm_result_row("%s\t%g\t%.6f\t%.6f\t%.6f\t%lld\t%.5f\t%.5f\t%.3f\t%.3f\t"
                  "%.3f\t%s\t%s", o->rule == GM_BAQ_UNIFORM ? "gptq" : "baq",
                  o->rate, r.bits, r.stored_bits, r.effective_bits,
                  (long long)r.bytes, share[0], share[1], spread[0], spread[1],
                  spread[2], measured, r.path);
    gm_candidates_close(&c);
}

static void run_baq(gm_call *call) {
    enum { MOST = 16 };             /* rates, each of GPTQ and BAQ */
    gm_baq_options row[2 * MOST];
    int rows = 0;
    char *list = gm_format(&call->arena, "%s", call->rates);
    for (char *item; (item = strsep(&list, ","));) {
        gm_baq_options o = {.damping = GM_DAMPING,
                            .hessian = call->recipe.hessian,
                            .rate = gm_parse_double("--rate", item, 0, 8)};
        if (rows + 2 > 2 * MOST)
            gm_fail(GM_EUSAGE, "--rate: expected at most %d rates, found more",
                    MOST);
        if (!call->no_gptq) row[rows++] = o;
        o.rule = (gm_baq_rule)(GM_BAQ_PUBLISHED + call->match);
        row[rows++] = o;
    }
    gm_model_open(&call->arena, call->operand[0], &call->model);
    gm_call_calibrate(call);
    if (call->text || call->text_tokens) gm_call_windows(call);
    gm_call_claim(call);
    gm_baq_make(&call->arena, &call->model, row, rows, &call->calibration,
                call->out, &call->report);
    gm_result_begin("method\trate\tbits\tstored_bits\teffective_bits\tbytes\t"
                    "pruned\tclamped\tbefore\tpredicted\tafter\tperplexity\t"
                    "kl\tkl_error\ttop1\tfile");
    for (int i = 0; i < rows; i++) print_row(call, row + i);
    gm_result_end(call);
}

const gm_command gm_command_baq = {
    "baq", "MODEL --calib FILE --out DIR [--text FILE]",
    "BAQ, a rival: bits for each input column, beside GPTQ at the same rate",
    "GPTQ without groups at R_ref gives losses l_j of columns; then again\n"
    "with R_j = R_ref + (1/1.95) log2(l_j / GM(l)), in whole levels.  bits:\n"
    "average log2 of levels; stored_bits: of whole bits; effective_bits: with\n"
    "ranges and levels; pruned, clamped: shares of columns with 1 and 256\n"
    "levels; before, predicted, after: the median module's standard deviation\n"
    "of log2 of column losses, at R_ref, predicted and found for the R_j.",
    1, BAQ, run_baq};
