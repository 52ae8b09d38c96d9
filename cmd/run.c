/* run.c: the command `run`, the whole path.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

typedef struct {
    gm_call *call;
    gm_scores scores;
    gm_rivals *rivals;
    gm_measure original, *uniform;      /* [K], windows 0: not yet */
} running;

/* One budget: solve, write, measure GAMMA and the largest uniform choice that
   fits; append its row. */
static void run_budget(running *r, const char *text) {
    gm_call *call = r->call;
    gm_arena *a = &call->arena;
    const gm_scores *scores = &r->scores;
    gm_certificate certificate;
    gm_allocation allocation;
    gm_solve_options options = {.solver = gm_have_glpk() ? GM_BOTH : GM_DP,
                                .seconds = 60, .report = &call->report};
    int *choice = gm_alloc(a, (size_t)scores->M, sizeof *choice), k = 0;
    int *same = gm_alloc(a, (size_t)scores->M, sizeof *same);
    gm_budget budget = gm_budget_parse(scores, call->in, text);
    gm_allocate(a, scores, &budget, &options, choice, &certificate,
                &allocation);           /* GM_ELIMIT: the row says so */
    const char *alloc = gm_format(a, "%s/alloc-%s.tsv", call->out, text);
    if (!call->no_models) {         /* never beside another one's model */
        gm_remove_file(a, alloc);
        gm_export_dequantized(a, &call->candidates, choice,
                              gm_format(a, "%s/model-%s", call->out, text),
                              &call->report);
    }
    gm_allocation_write(a, alloc, &allocation);
    gm_rivals_choose(r->rivals, GM_UNIFORM, &budget, same, NULL);
    for (long m = 0; m < scores->M; m++)        /* some may have less */
        if (same[m] > k) k = same[m];
    if (!r->uniform[k].windows)
        r->uniform[k] = gm_call_measure(call, &call->candidates, same);
    gm_measure gamma = gm_call_measure(call, &call->candidates, choice);
    gm_sizes z = gm_sizes_of(scores, choice), u = gm_sizes_of(scores, same);
    gm_result_row("%s\t%.3f\t%d\t%.3f\t%lld\t%.4f\t%.3f\t%lld\t%.5f\t%s", text,
                  r->original.perplexity, scores->bits[k],
                  r->uniform[k].perplexity, (long long)u.file_bytes,
                  (double)z.code_bits / (double)scores->N, gamma.perplexity,
                  (long long)z.file_bytes, gamma.kl,
                  certificate.rounded ? "not proven: rounding" :
                  !certificate.optimal ? "not proven: gap in its file" :
                  certificate.agreed ? "optimal, both solvers agree"
                                     : "optimal");
}

static void run_run(gm_call *call) {
    running r = {.call = call};
    gm_arena *a = &call->arena;
    char hash[65];
    gm_call_prepare(call);
    gm_check_names(call->out, "alloc-*.tsv");
    const char *names = gm_export_names(a, &call->model);
    char *list = gm_format(a, "%s", call->budgets);
    for (char *item; (item = strsep(&list, ","));)
        gm_check_names(gm_format(a, "%s/model-%s", call->out, item), names);
    gm_call_begin(call);
    gm_call_learn(call, &r.scores, hash);
    if (gm_rank() > 0) return;      /* the rest is done by one process */
    r.rivals = gm_rivals_begin(a, &(gm_rivals_options){
        .candidates = &call->candidates, .evaluations = 1,
        .overhead = call->table.overhead}, &call->report);
    r.uniform = gm_alloc(a, (size_t)r.scores.K, sizeof *r.uniform);
    r.original = gm_call_measure(call, NULL, NULL);
    gm_result_begin("budget\toriginal_ppl\tuniform_bits\tuniform_ppl\t"
                    "uniform_bytes\tgamma_bits\tgamma_ppl\tgamma_bytes\t"
                    "gamma_kl\tproof");
    list = gm_format(a, "%s", call->budgets);
    for (char *item; (item = strsep(&list, ","));) run_budget(&r, item);
    gm_result_end(call);
    gm_talk(call, "%s: scores.tsv (reusable: gamma solve), alloc-BUDGET.tsv "
            "(the bits and their certificates)%s", call->out, call->no_models
            ? "" : ", model-BUDGET (quantized, Hugging Face format)");
}

const gm_command gm_command_run = {
    "run", "MODEL --calib FILE --eval FILE --out DIR",
    "The whole path: learn, solve for each budget, write, measure",
    "gamma fit, then for each budget gamma solve, gamma quantize and gamma\n"
    "eval.  uniform: the most bits that fit the budget everywhere.  bytes:\n"
    "the packed file (gamma quantize --format packed), to the byte.",
    1, RUN, run_run};
