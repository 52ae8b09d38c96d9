/* baq.c: the command `baq`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

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
    gm_candidates c;
    char measured[128] = "-\t-\t-\t-";
    gm_baq_report r = gm_call_baq(call, o, &c);
    if (call->on.text.sequences) {
        const int *choice = gm_alloc(&call->arena, (size_t)r.M, sizeof *choice);
        gm_measure m = gm_call_measure(call, &c, choice);
        snprintf(measured, sizeof measured, "%.6f\t%.6f\t%.6f\t%.6f",
                 m.perplexity, m.kl, m.kl_error, m.top1);
    }
    gm_result_row("%s\t%g\t%.6f\t%.6f\t%.6f\t%lld\t%s\t%s",
                  o->rule == GM_BAQ_UNIFORM ? "gptq" : "baq", o->rate, r.bits,
                  r.stored_bits, r.effective_bits, (long long)r.bytes,
                  measured, r.path);
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
    for (int i = 0; i < rows; i++) row[i].weightless = call->recipe.weightless;
    if (call->text || call->text_tokens) gm_call_windows(call);
    gm_check_names(call->out, "baq-*.tsv");
    gm_call_claim(call);
    gm_baq_make(&call->arena, &call->model, row, rows, &call->calibration,
                call->out, &call->report);
    gm_result_begin("method\trate\tbits\tstored_bits\teffective_bits\tbytes\t"
                    "perplexity\tkl\tkl_error\ttop1\tfile");
    for (int i = 0; i < rows; i++) print_row(call, row + i);
    gm_result_end(call);
}

const gm_command gm_command_baq = {
    "baq", "MODEL --calib FILE --out DIR [--eval FILE]",
    "BAQ, a rival: bits for each input column, beside GPTQ",
    "GPTQ without groups at R_ref gives losses l_j of columns; then again\n"
    "with R_j = R_ref + (1/1.95) log2(l_j / GM(l)), in whole levels.  bits:\n"
    "average log2 of levels; stored_bits: of whole bits; effective_bits: with\n"
    "ranges and levels.  FILE's table has each module's columns and losses.",
    1, BAQ, run_baq};
