/* eval.c: the command `eval`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

static const char *text_cells(gm_call *call, const int *choice) {
    gm_measure m = gm_call_measure(call, &call->candidates, choice);
    const char *kl = "-\t-\t-\t-";
    if (choice)
        kl = gm_format(&call->arena, "%.6f\t%.6f\t%.6f\t%.6f", m.kl,
                       m.kl_error, m.top1, m.top1_error);
    const gm_measuring *on = &call->on;
    const char *whole = "";
    const double sum = m.nll * on->all;
    if (on->words > 0)
        whole = gm_format(&call->arena, "\t%.6f\t%.6f\t%.6f",
                          gm_expd(sum / on->words), gm_expd(sum / on->bytes),
                          sum / on->bytes / gm_logd(2));
    return gm_format(&call->arena, "\t%.6f\t%.6f\t%.6f\t%s\t%ld\t%ld\t%ld"
                     "\t%s%s", m.perplexity, m.nll, m.nll_error, kl, m.windows,
                     m.window, m.predicted, on->protocol, whole);
}

static const char *choice_cells(gm_call *call, const gm_questions *questions,
                                const int *choice) {
    double *likelihood = gm_alloc(&call->arena, (size_t)questions->count,
                                  sizeof *likelihood);
    gm_questions_likelihoods(call, questions, choice, likelihood);
    gm_accuracy a = gm_questions_score(questions, likelihood);
    return gm_format(&call->arena, "\t%ld\t%.6f\t%.6f\t%.6f\t%.6f\t%.6f\t%.6f",
                     questions->questions, a.share[0], a.error[0], a.share[1],
                     a.error[1], a.share[2], a.error[2]);
}

static void run_eval(gm_call *call) {
    gm_questions questions;
    const bool text = call->text || call->text_tokens || !call->choices;
    (call->alloc ? gm_model_open : gm_layout_open)(
        &call->arena, call->operand[0], &call->model);
    if (call->choices) {
        const gm_tokenizer *tokenizer = gm_call_tokenizer(call);
        const gm_specials specials = gm_specials_read(&call->arena, tokenizer);
        questions = gm_questions_read(call, tokenizer, &specials);
    }
    if (call->alloc) {
        gm_call_choose(call);
        gm_call_chosen(call);
    }
    if (text) gm_call_windows(call);
    call->plan = (gm_plan){0};
    if (text) gm_call_plan(call);
    gm_result_begin(gm_format(
        &call->arena, "model%s%s%s", !text ? "" : "\tperplexity\tnll\t"
        "nll_error\tkl\tkl_error\ttop1\ttop1_error\twindows\twindow\t"
        "predicted\tprotocol", !(call->on.words > 0) ? "" :
        "\tword_perplexity\tbyte_perplexity\tbits_per_byte",
        !call->choices ? "" : "\tquestions\tacc\tacc_error\tacc_norm\t"
        "acc_norm_error\tacc_bytes\tacc_bytes_error"));
    for (int quantized = 0; quantized <= (call->alloc != NULL); quantized++) {
        const int *choice = quantized ? call->choice : NULL;
        const char *left = text ? text_cells(call, choice) : "";
        gm_result_row("%s%s%s", quantized ? "quantized" : "original", left,
                      call->choices ? choice_cells(call, &questions, choice)
                                    : "");
    }
    gm_result_end(call);
}

const gm_command gm_command_eval = {
    "eval", "MODEL --eval FILE [--alloc FILE] [--choices FILE]",
    "Perplexity, KL divergence, top-1 agreement, multiple choice",
    "nll = - mean ln q(token | those before it in its window), natural log;\n"
    "perplexity = exp(nll); kl = mean KL(original || quantized) in nats;\n"
    "top1: share of positions where both have the same most likely token;\n"
    "errors are standard errors over windows.  Multiple choice: the share of\n"
    "questions whose answer has the largest ln p(choice | context) (acc), or\n"
    "that divided by the choice's characters (acc_norm, as in\n"
    "lm-evaluation-harness) or bytes (acc_bytes).",
    1, EVAL, run_eval};
