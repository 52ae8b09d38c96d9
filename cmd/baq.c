/* main_baq.c: the command `baq`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

static const gm_option baq_options[] = {
    {"--calib", "FILE", NULL, "calibration text, UTF-8"},
    {"--tokens", "FILE", NULL, "instead of --calib: tokens, .npy"},
    {"--out", "DIR", NULL, "where the files of dequantized weights and their "
     "tables go; required"},
    {"--rate", "LIST", "2,3,4", "R_ref, each more than 0 and at most 8 bits, "
     "whole or not: round(2^R_ref) levels"},
    {"--match", "NAME", "none", "none: as published, the average comes out "
     "near R_ref; bits: all R_j moved alike to the most whose average is "
     "within R_ref; ebits: the same for effective bits"},
    {"--hessian", "NAME", "token", "token, plain or attention, see gamma fit; "
     "the published one is plain"},
    {"--sequences", "S", "16", "calibration sequences"},
    {"--length", "T", "512", "tokens in each"},
    {"--text", "FILE", NULL, "also measure both on this text"},
    {"--text-tokens", "FILE", NULL, "instead of --text: tokens, .npy"},
    {"--window", "T", "1024", "tokens in an evaluation window"},
    {"--windows", "N", "0", "evaluation windows; 0: all whole ones"},
    {"--no-gptq", NULL, NULL, "leave out the rows of GPTQ"},
    {0}};

enum { MOST = 32 };         /* rates times methods */

typedef struct {
    gm_call *call;
    gm_model model;
    gm_sequences calibration;
    gm_baq_options options;
    gm_measuring on;
    bool measured;
    gm_baq_options row[MOST];
    const char *name[MOST];
    int rows;
} baq_run;

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(long n, double *x) {
    qsort(x, (size_t)n, sizeof *x, ascending);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

/* The medians over modules of the three spreads, as log2; shares of columns. */
static void summary(gm_call *call, const gm_baq_report *r,
                         double spread[3], double share[2]) {
    double *x = gm_alloc(&call->arena, (size_t)r->M, sizeof *x);
    double columns = 0, pruned = 0, clamped = 0;
    for (int i = 0; i < 3; i++) {
        for (long m = 0; m < r->M; m++) {
            const gm_baq_module *o = r->module + m;
            x[m] = (i == 0 ? o->before : i == 1 ? o->predicted : o->after).log2;
        }
        spread[i] = median(r->M, x);
    }
    for (long m = 0; m < r->M; m++) {
        columns += (double)r->module[m].in;
        pruned += r->module[m].pruned;
        clamped += r->module[m].clamped;
    }
    share[0] = pruned / columns;
    share[1] = clamped / columns;
}

gm_baq_report gm_call_baq(gm_call *call, gm_model *model,
                          const gm_baq_options *options,
                          const gm_sequences *text, const char *dir,
                          gm_candidates *out) {
    gm_recipe recipe;
    gm_baq_report report = gm_baq_open(&call->arena, model, options, text, dir,
                                       &call->report);
    gm_external_open(&call->arena, model, report.path, NULL, GM_MAX_GROUP,
                     &recipe);
    gm_candidates_open(&call->arena, model, &recipe, NULL, dir, &call->report,
                       out);
    return report;
}

/* Measures and prints one row. */
static void one(baq_run *b, int i) {
    gm_call *call = b->call;
    gm_candidates c;
    gm_measure m;
    char measured[128] = "-\t-\t-\t-";
    double spread[3] = {0}, share[2] = {0};
    gm_baq_report r = gm_call_baq(call, &b->model, &b->row[i], &b->calibration,
                                  gm_arg(call, "--out"), &c);
    int *choice = gm_alloc(&call->arena, (size_t)r.M, sizeof *choice);
    if (b->measured)
        gm_call_measure(call, &b->model, &c, choice, &b->on, &m);
    summary(call, &r, spread, share);
    if (b->measured)
        snprintf(measured, sizeof measured, "%.6f\t%.6f\t%.6f\t%.6f",
                 m.perplexity, m.kl, m.kl_error, m.top1);
    gm_result_row(call, "%s\t%s\t%.6f\t%.6f\t%.6f\t%lld\t%.5f\t%.5f\t%.3f\t"
                  "%.3f\t%.3f\t%s\t%s",
                  b->row[i].rule == GM_BAQ_UNIFORM ? "gptq" : "baq",
                  b->name[i], r.bits,
                  r.stored_bits, r.effective_bits, (long long)r.bytes, share[0],
                  share[1], spread[0], spread[1], spread[2], measured, r.path);
    gm_candidates_close(&c);
}

/* The rows: GPTQ and BAQ at each rate. */
static void read_rates(baq_run *b, gm_baq_rule rule) {
    gm_call *call = b->call;
    const bool gptq = !gm_arg_given(call, "--no-gptq");
    char *list = gm_format(&call->arena, "%s", gm_arg(call, "--rate"));
    for (char *item; (item = strsep(&list, ","));) {
        const double rate = gm_parse_double("--rate", item, 0, 8);
        if (b->rows + 2 > MOST)
            gm_fail(GM_EUSAGE, "--rate: expected at most %d "
                           "rates, found more", MOST / 2);
        b->options.rate = rate;
        for (int i = gptq ? 0 : 1; i < 2; i++) {
            b->options.rule = i ? rule : GM_BAQ_UNIFORM;
            b->name[b->rows] = item;
            b->row[b->rows++] = b->options;
        }
    }
}

static void all_rows(baq_run *b) {
    gm_call *call = b->call;
    gm_baq_make(&call->arena, &b->model, b->row, b->rows,
                              &b->calibration, gm_arg(call, "--out"),
                              &call->report);
    gm_result_begin(call, "method\trate\tbits\tstored_bits\teffective_bits\t"
                    "bytes\tpruned\tclamped\tbefore\tpredicted\tafter\t"
                    "perplexity\tkl\tkl_error\ttop1\tfile");
    for (int i = 0; i < b->rows; i++) one(b, i);
    gm_result_end(call);
}

static void run_baq(gm_call *call) {
    baq_run b = {.call = call, .options.damping = GM_DAMPING};
    gm_recipe recipe = {0};
    static const char *const rules[] = {"none", "bits", "ebits"};
    const char *text = gm_arg(call, "--text");
    const char *npy = gm_arg(call, "--text-tokens");
    if (!gm_arg(call, "--out"))
        gm_fail(GM_EUSAGE, "baq: --out DIR is missing");
    long S, T;
    int rule = gm_parse_name("--match", gm_arg(call, "--match"), rules, 3);
    gm_recipe_set(&recipe, "hessian", gm_arg(call, "--hessian"));
    b.options.hessian = recipe.hessian;
    read_rates(&b, (gm_baq_rule)(GM_BAQ_PUBLISHED + rule));
    gm_arg_long(call, "--sequences", 1, 1 << 20, &S);
    gm_arg_long(call, "--length", 2, 1 << 20, &T);
    gm_model_open(&call->arena, call->operand[0], &b.model);
    gm_call_calibration(call, &b.model, gm_arg(call, "--calib"),
                                    gm_arg(call, "--tokens"), S, T,
                                    &b.calibration);
    b.measured = text || npy;
    if (b.measured) gm_call_windows(call, &b.model, text, npy, &b.on);
    gm_call_claim(call, gm_arg(call, "--out"));
    all_rows(&b);
    gm_model_close(&b.model);
}

const gm_command gm_command_baq = {
    "baq", "MODEL --calib FILE --out DIR [--text FILE]",
    "BAQ, a rival: bits for each input column, beside GPTQ at the same rate",
    "GPTQ without groups at R_ref gives losses l_j of columns; then again\n"
    "with R_j = R_ref + (1/1.95) log2(l_j / GM(l)), in whole levels; see\n"
    "baq.c.  bits: average log2 of levels; stored_bits: codes of whole bits;\n"
    "effective_bits: with ranges and levels; pruned, clamped: shares of\n"
    "columns with 1 and 256 levels; before, predicted, after: the median\n"
    "module's standard deviation of log2 of column losses, at R_ref, as\n"
    "predicted for the R_j, and with them (0 would be equal losses).",
    1, 1, baq_options, run_baq};
