/* run.c: the command `run`, the whole path.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

typedef struct {
    gm_call *call;
    gm_scores scores;
    gm_measure original, *uniform;      /* uniform: [K], windows 0: not yet */
} running;

/* The largest candidate that all modules have and that is within the budget
   everywhere, or -1. */
static int uniform_within(const gm_scores *scores, const gm_budget *budget,
                          int *choice) {
    for (int k = scores->K - 1; k >= 0; k--) {
        bool all = true;
        for (long m = 0; m < scores->M; m++) {
            choice[m] = k;
            all = all && scores->bytes[m * scores->K + k] >= 0;
        }
        gm_sizes z = gm_sizes_of(scores, choice);
        if (all && gm_size_in(&z, budget->convention) <= budget->limit)
            return k;
    }
    return -1;
}

static const char *proof_text(gm_arena *arena, const gm_certificate *c) {
    if (c->optimal && c->agreed) return "optimal, both solvers agree";
    if (c->optimal) return "optimal";
    double gap = (double)(c->objective - c->bound);
    return gm_format(arena, "within %.3g%% of optimal",
                     100 * gap / (double)(c->objective ? c->objective : 1));
}

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
    int *choice = gm_alloc(a, (size_t)scores->M, sizeof *choice);
    int *same = gm_alloc(a, (size_t)scores->M, sizeof *same);
    gm_budget budget = gm_budget_parse(scores, call->in, text);
    gm_allocate(a, scores, &budget, &options, choice, &certificate,
                &allocation);           /* GM_ELIMIT: the row says so */
    gm_allocation_write(a, gm_format(a, "%s/alloc-%s.tsv", call->out, text),
                        &allocation);
    if (!call->no_models)
        gm_export_dequantized(a, &call->candidates, choice,
                              gm_format(a, "%s/model-%s", call->out, text),
                              &call->report);
    int k = uniform_within(scores, &budget, same);
    if (k >= 0 && !r->uniform[k].windows)
        r->uniform[k] = gm_call_measure(call, &call->candidates, same);
    gm_measure gamma = gm_call_measure(call, &call->candidates, choice);
    gm_sizes z = gm_sizes_of(scores, choice), u = gm_sizes_of(scores, same);
    gm_result_row("%s\t%.3f\t%d\t%.3f\t%lld\t%.4f\t%.3f\t%lld\t%.5f\t%s", text,
                  r->original.perplexity, k < 0 ? 0 : scores->bits[k],
                  k < 0 ? 0 : r->uniform[k].perplexity,
                  k < 0 ? 0 : (long long)u.file_bytes,
                  (double)z.code_bits / (double)scores->N, gamma.perplexity,
                  (long long)z.file_bytes, gamma.kl,
                  proof_text(a, &certificate));
}

static void run_run(gm_call *call) {
    running r = {.call = call};
    char hash[65];
    gm_call_prepare(call);
    gm_call_begin(call);
    gm_call_learn(call, &r.scores, hash);
    if (gm_rank() > 0) return;      /* the rest is done by one process */
    r.uniform = gm_alloc(&call->arena, (size_t)r.scores.K, sizeof *r.uniform);
    r.original = gm_call_measure(call, NULL, NULL);
    gm_result_begin("budget\toriginal_ppl\tuniform_bits\tuniform_ppl\t"
                    "uniform_bytes\tgamma_bits\tgamma_ppl\tgamma_bytes\t"
                    "gamma_kl\tproof");
    char *list = gm_format(&call->arena, "%s", call->budgets);
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
