/* main_eval.c: the command `eval`, and the measuring that `run` and `compare`
   do as well.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

/* -------------------------------------------------------------------- eval */

/* The windows are checked before anything is computed. */
void gm_call_windows(gm_call *call, const gm_model *model,
                          const char *path, const char *npy,
                          gm_measuring *out) {
    long count, window, windows;
    int32_t *tokens;
    gm_arg_long(call, "--window", 2, 1 << 20, &window);
    gm_arg_long(call, "--windows", 0, 1 << 30, &windows);
    gm_call_tokens(call, model, path, npy, &tokens, &count);
    long there = count / window;
    if (there < 1 || there < windows)
        gm_fail(GM_EINPUT, "%s: expected at least %ld "
                       "tokens (%ld windows of %ld), found %ld",
                       path ? path : npy, (windows ? windows : 1) * window,
                       windows ? windows : 1, window, count);
    if (!windows) windows = there;
    *out = (gm_measuring){.text = {tokens, windows, window}};
    gm_talk(call, "text: %ld tokens; first %ld non-overlapping windows of %ld; "
            "in each, tokens 2..%ld predicted from those before them; no BOS "
            "added; mean over all predicted tokens in double", count, windows,
            window, window);
}

/* Rows of states: all windows, or the group that memory allows. */
static void begin_measuring(gm_call *call, const gm_model *model,
                                 gm_measuring *on) {
    gm_arena *a = &call->arena;
    if (!on->group || on->group > on->text.windows)
        on->group = on->text.windows;
    size_t rows = (size_t)(on->group * on->text.window);
    size_t row = (size_t)model->config.d * sizeof(gm_real);
    on->student = gm_alloc(a, rows, row);
    on->original = gm_alloc(a, rows, row);
    gm_head_load(a, model, &on->head);
}

/* Windows first .. first + count - 1 into their places in *out. */
static void measure_group(gm_call *call, const gm_model *model,
                               const gm_candidates *candidates,
                               const int *choice, long first, long count,
                               gm_measuring *on, gm_measure *out) {
    gm_arena *a = &call->arena;
    const long T = on->text.window;
    gm_text text = {on->text.tokens + first * T, count, T};
    gm_measure part;
    gm_mark mark = gm_arena_mark(a);
    if (on->held != first + 1)
        gm_final_states(a, model, NULL, NULL, &text, &call->report,
                            on->original);
    on->held = first + 1;
    if (choice)
        gm_final_states(a, model, candidates, choice, &text, &call->report,
                            on->student);
    gm_evaluate(a, &on->head, &text,
                            choice ? on->student : on->original,
                            choice ? on->original : NULL, &call->report, &part);
    for (long i = 0; i < count; i++) {
        out->window_nll[first + i] = part.window_nll[i];
        out->window_kl[first + i] = part.window_kl[i];
        out->window_top1[first + i] = part.window_top1[i];
    }
    gm_arena_rewind(a, mark);
}

void gm_call_measure(gm_call *call, const gm_model *model,
                          const gm_candidates *candidates, const int *choice,
                          gm_measuring *on, gm_measure *out) {
    const long windows = on->text.windows, window = on->text.window;
    if (!on->original) begin_measuring(call, model, on);
    double *x = gm_alloc(&call->arena, (size_t)(3 * windows), sizeof *x);
    *out = (gm_measure){.windows = windows, .window = window,
                        .predicted = windows * (window - 1), .window_nll = x,
                        .window_kl = x + windows,
                        .window_top1 = x + 2 * windows};
    for (long i = 0; i < windows; i += on->group)
        measure_group(call, model, candidates, choice, i,
                          gm_min(on->group, windows - i), on, out);
    gm_measure_means(out);
}

static const gm_option eval_options[] = {
    {"--text", "FILE", NULL, "evaluation text, UTF-8"},
    {"--tokens", "FILE", NULL, "instead of --text: tokens, .npy, int32, 1-D"},
    {"--alloc", "FILE", NULL, "also measure the model quantized by this "
     "allocation, with KL divergence from the original and top-1 agreement"},
    {"--choices", "FILE", NULL, "multiple choice, with --text or alone: jsonl, "
     "one {\"context\": \"...\", \"choices\": [\"...\"], \"answer\": "
     "index} a line"},
    {"--delimiter", "TEXT", " ", "between a context and its choices"},
    {"--window", "T", "1024", "tokens in a window, >= 2"},
    {"--windows", "N", "0", "windows from the start of the text; 0: all whole "
     "ones"},
    GM_CHOSEN_OPTIONS,
    {0}};

/* What one model showed; a part not asked for is not printed. */
typedef struct {
    gm_call *call;
    gm_model model;
    gm_chosen chosen;
    gm_measuring on;
    gm_questions questions;
    double *likelihood;             /* [pairs] */
    bool text, choices;
} evaluating;

static void answer_questions(evaluating *e, const int *choice,
                                  gm_accuracy *out) {
    gm_call *call = e->call;
    if (!e->on.head.w)
        gm_head_load(&call->arena, &e->model, &e->on.head);
    gm_scored_model m = {&e->model, &e->chosen.candidates, choice, &e->on.head};
    gm_questions_likelihoods(&call->arena, &m, &e->questions,
                                         &call->report, e->likelihood);
    gm_questions_score(&e->questions, e->likelihood, out);
}

static const char text_columns[] =
    "\tperplexity\tnll\tnll_error\tkl\tkl_error\ttop1\ttop1_error\twindows"
    "\twindow\tpredicted";
static const char choice_columns[] =
    "\tquestions\tacc\tacc_error\tacc_norm\tacc_norm_error\tacc_bytes"
    "\tacc_bytes_error";

static void text_cells(const gm_measure *m, bool original, char to[256]) {
    char kl[128] = "-\t-\t-\t-";
    if (!original)
        snprintf(kl, sizeof kl, "%.6f\t%.6f\t%.6f\t%.6f", m->kl, m->kl_error,
                 m->top1, m->top1_error);
    snprintf(to, 256, "\t%.6f\t%.6f\t%.6f\t%s\t%ld\t%ld\t%ld", m->perplexity,
             m->nll, m->nll_error, kl, m->windows, m->window, m->predicted);
}

static void choice_cells(const gm_accuracy *a, char to[256]) {
    snprintf(to, 256, "\t%ld\t%.6f\t%.6f\t%.6f\t%.6f\t%.6f\t%.6f",
             a->questions, a->acc, a->acc_error, a->acc_norm, a->acc_norm_error,
             a->acc_bytes, a->acc_bytes_error);
}

/* The row of the original (choice NULL) or of the quantized model. */
static void eval_row(evaluating *e, const int *choice) {
    gm_measure measure = {0};
    gm_accuracy accuracy = {0};
    char text[256] = "", choices[256] = "";
    if (e->text)
        gm_call_measure(e->call, &e->model, &e->chosen.candidates, choice,
                            &e->on, &measure);
    if (e->choices) answer_questions(e, choice, &accuracy);
    if (e->text) text_cells(&measure, !choice, text);
    if (e->choices) choice_cells(&accuracy, choices);
    gm_result_row(e->call, "%s%s%s", choice ? "quantized" : "original", text,
                  choices);
}

static void read_questions(evaluating *e) {
    gm_call *call = e->call;
    gm_tokenizer *tokenizer;
    gm_tokenizer_open(&call->arena, e->model.dir, &tokenizer);
    gm_questions_read(&call->arena, gm_arg(call, "--choices"),
                                  tokenizer, e->model.config.max_position,
                                  gm_arg(call, "--delimiter"), &e->questions);
    e->likelihood = gm_alloc(&call->arena, (size_t)e->questions.pairs,
                             sizeof *e->likelihood);
}

static void run_eval(gm_call *call) {
    const char *text = gm_arg(call, "--text"), *npy = gm_arg(call, "--tokens");
    const char *alloc = gm_arg(call, "--alloc");
    evaluating e = {.call = call, .choices = gm_arg(call, "--choices") != NULL};
    e.text = text || npy || !e.choices;
    gm_model_open(&call->arena, call->operand[0], &e.model);
    if (e.choices) read_questions(&e);
    if (alloc) gm_call_chosen(call, &e.model, alloc, &e.chosen);
    if (e.text) gm_call_windows(call, &e.model, text, npy, &e.on);
    gm_plan plan = {.windows = e.on.text.windows, .window = e.on.text.window,
                    .budgets = alloc != NULL};
    if (e.text) gm_call_plan(call, &e.model, &plan);
    e.on.group = plan.group;
    char columns[512];
    snprintf(columns, sizeof columns, "model%s%s", e.text ? text_columns : "",
             e.choices ? choice_columns : "");
    gm_result_begin(call, columns);
    eval_row(&e, NULL);
    if (alloc) eval_row(&e, e.chosen.choice);
    gm_result_end(call);
}

const gm_command gm_command_eval = {
    "eval", "MODEL --text FILE [--alloc FILE] [--choices FILE]",
    "Perplexity, KL divergence, top-1 agreement, multiple choice",
    "nll = - mean ln q(token | those before it in its window), natural log;\n"
    "perplexity = exp(nll); kl = mean KL(original || quantized) in nats;\n"
    "top1: share of positions where both have the same most likely token;\n"
    "errors are standard errors over windows.  Multiple choice: the share of\n"
    "questions whose answer has the largest ln p(choice | context) (acc), or\n"
    "that divided by the choice's characters (acc_norm, as in\n"
    "lm-evaluation-harness) or bytes (acc_bytes).",
    1, 1, eval_options, run_eval};
