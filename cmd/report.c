/* report.c: the command `report`, and how run and compare end.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

/* The stored model: its weight files, its linear modules' bits. */
void gm_call_original(gm_call *call, gm_compared *row) {
    const gm_model *model = &call->model;
    size_t bytes = 0;
    for (long i = 0; i < call->table.M; i++)
        bytes += gm_linear_tensor(model, i / GM_LINEARS,
                                  (int)(i % GM_LINEARS))->bytes;
    for (long i = 0; i < model->tensors.files; i++)
        row->bytes += (double)model->tensors.file[i]->size;
    row->quantizer = row->budget = row->convention = "-";
    row->code_bits = row->effective_bits = 8 * (double)bytes /
                                           (double)call->table.N;
    row->measure = gm_call_measure(call, NULL, NULL);
    row->measure.top1 = 1;
}

static void write_page(void *context) {
    gm_call *call = context;
    gm_page_write(&call->arena, call->out);
}

/* Other files of the directory may be anybody's: what they say wrong cannot
   undo what the command did. */
void gm_call_page(gm_call *call, gm_compared *row, long count) {
    gm_arena *a = &call->arena;
    const gm_sequences *text = &call->on.text;
    gm_keys keys = {0};
    gm_error err;
    char hash[65];
    gm_sha_tokens(text->tokens, text->sequences, text->T, hash);
    const struct { const char *key, *value; } is[] = {
        {"command", gm_options_text(call)},
        {"model", gm_model_name(a, &call->model)},
        {"model_hash", call->model.hash}, {"candidates", call->candidates.text},
        {"candidates_hash", call->candidates.hash},
        {"text", gm_base_name(call->on.path)}, {"text_hash", hash},
        {"windows", gm_format(a, "%ld", text->sequences)},
        {"window", gm_format(a, "%ld", text->T)}};
    for (size_t i = 0; i < sizeof is / sizeof *is; i++)
        gm_keys_set(a, &keys, is[i].key, "%s", is[i].value);
    gm_compared_write(a, gm_format(a, "%s/table.tsv", call->out), &keys, row,
                      count);
    const gm_status s = gm_try(write_page, call, &err);
    if (s == GM_EINPUT) gm_talk(call, "no report: %s", err.text);
    else if (s) gm_fail(s, "%s", err.text);
}

static void run_report(gm_call *call) {
    const char *dir = call->operand[0];
    call->claim = gm_dir_lock(&call->arena, dir);
    gm_page_write(&call->arena, dir);
    gm_result_begin("report");
    gm_result_row("%s/report.html", dir);
    gm_result_end(call);
}

const gm_command gm_command_report = {
    "report", "DIR", "A page with tables and figures of what DIR holds",
    "Of table.tsv, scores.tsv, learning.tsv, alloc*.tsv, whichever gamma run,\n"
    "compare, fit and solve left in DIR: methods at equal sizes, KL against\n"
    "size, the bits of each module, how it was learned, sensitivities, the\n"
    "optima of all budgets (frontier.tsv), certificates in words, settings,\n"
    "commands.  report.html needs no other file; each figure is an SVG too.",
    1, REPORT, run_report};
