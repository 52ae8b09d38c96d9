/* run.c: the command `run`, the whole path.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

typedef struct {
    gm_call *call;
    gm_scores scores;
    gm_rivals *rivals;
    gm_compared *row;                   /* of table.tsv */
    long rows;
} running;

/* A row of what a method chose. */
static const gm_compared *add_row(running *r, const char *method,
                                  const gm_budget *budget, const int *choice) {
    gm_call *call = r->call;
    gm_compared *row = r->row + r->rows++;
    *row = (gm_compared){
        .method = method, .run = "", .budget = budget->text,
        .convention = gm_convention_name(budget->convention),
        .quantizer = gm_quantizer_name[call->recipe.quantizer],
        .measure = gm_call_measure_once(call, choice)};
    gm_compared_sizes(row, &r->scores, choice);
    return row;
}

static int *choose(running *r, gm_method method, const gm_budget *budget) {
    int *choice = gm_alloc(&r->call->arena, (size_t)r->scores.M,
                           sizeof *choice);
    gm_rivals_choose(r->rivals, method, budget, choice, NULL);
    return choice;
}

/* One budget: solve, write, measure GAMMA and the largest uniform choice that
   fits; append its row.  Where more would fit than that, the mix too. */
static void run_budget(running *r, const gm_budget *budget) {
    gm_call *call = r->call;
    gm_arena *a = &call->arena;
    const gm_scores *scores = &r->scores;
    gm_certificate certificate;
    gm_allocation allocation;
    gm_solve_options options = {.solver = gm_have_glpk() ? GM_BOTH : GM_DP,
                                .seconds = 60, .report = &call->report};
    int *choice = gm_alloc(a, (size_t)scores->M, sizeof *choice), k = 0;
    const char *text = budget->text;
    gm_allocate(a, scores, budget, &options, choice, &certificate,
                &allocation);           /* GM_ELIMIT: the row says so */
    const char *alloc = gm_format(a, "%s/alloc-%s.tsv", call->out, text);
    if (!call->no_models) {         /* never beside another one's model */
        gm_remove_file(a, alloc);
        gm_export_dequantized(a, &call->candidates, choice,
                              gm_format(a, "%s/model-%s", call->out, text),
                              &call->report);
    }
    gm_allocation_write(a, alloc, &allocation);
    const int *same = choose(r, GM_UNIFORM, budget);
    const int *mix = choose(r, GM_MIX, budget);
    for (long m = 0; m < scores->M; m++)        /* some may have less */
        if (same[m] > k) k = same[m];
    const gm_compared *u = add_row(r, "uniform", budget, same);
    if (memcmp(mix, same, (size_t)scores->M * sizeof *mix) != 0)
        add_row(r, "mix", budget, mix);
    const gm_compared *gamma = add_row(r, "gamma", budget, choice);
    gm_result_row("%s\t%.3f\t%d\t%.3f\t%.0f\t%.4f\t%.3f\t%.0f\t%.5f\t%s", text,
                  r->row->measure.perplexity, scores->bits[k],
                  u->measure.perplexity, u->bytes, gamma->code_bits,
                  gamma->measure.perplexity, gamma->bytes, gamma->measure.kl,
                  certificate.rounded ? "not proven: rounding" :
                  !certificate.optimal ? "not proven: gap in its file" :
                  certificate.agreed ? "optimal, both solvers agree"
                                     : "optimal");
}

static void begin_stage(gm_call *call, int number, const char *name) {
    call->stage = gm_format(&call->arena, "step %d of %d, %s", number,
                            3 + call->plan.budgets + call->plan.whole, name);
}

/* ----------------------------------------------------------------- anchors */

/* --anchors of them, evenly from the lowest budget of the run to the highest,
   to four digits, equal ones once; their number. */
static int spread(running *r, gm_budget *out) {
    gm_call *call = r->call;
    const bool bytes = call->in == GM_BYTES;
    gm_budget low = *call->budget, high = low;
    const long last = call->anchors - 1;
    int count = 0;
    for (int i = 1; i < call->plan.budgets; i++) {
        if (call->budget[i].limit < low.limit) low = call->budget[i];
        if (call->budget[i].limit > high.limit) high = call->budget[i];
    }
    const double all = (double)(high.limit - low.limit);
    for (long i = 0; i <= last; i++) {
        const double share = last ? (double)i / (double)last : 0.5;
        const double at = (double)low.limit + share * all;
        const gm_budget b = !(all * share > 0) ? low : i == last && i ? high
            : gm_budget_parse(&r->scores, call->in, gm_format(
                  &call->arena, bytes ? "%.0f" : "%.4g",
                  bytes ? at : at / (double)r->scores.N));
        if (b.limit <= high.limit && (!count || b.limit > out[count - 1].limit))
            out[count++] = b;
    }
    return count;
}

/* scores.tsv is written after each, so that a killed run goes on behind it. */
static void make_anchors(running *r) {
    gm_call *call = r->call;
    gm_arena work = {0};                    /* gone before evaluation */
    gm_budget *budget = gm_alloc(&call->arena, (size_t)call->anchors,
                                 sizeof *budget);
    const gm_scores learned = r->scores;
    const char *path = gm_format(&call->arena, "%s/scores.tsv", call->out);
    const int count = spread(r, budget);
    gm_rivals *rivals = gm_call_refine(call, &work, &learned, count,
                                       &r->scores);
    gm_refined found;
    if (call->resume)
        gm_call_anchors_left(call, path, budget, count, &r->scores);
    gm_scores_write(&call->arena, path, &r->scores);
    for (int i = r->scores.anchors; i < count; i++) {
        begin_stage(call, 3, gm_format(&call->arena, "anchor %s",
                                       budget[i].text));
        gm_call_anchor(call, rivals, budget + i, &r->scores, &found);
        gm_scores_write(&call->arena, path, &r->scores);
        gm_talk(call, "anchor %s: %ld of %ld modules moved, KL on the "
                "calibration text %.5f, by the scores as learned %.5f",
                budget[i].text, found.moved, learned.M, found.kl,
                found.kl_before);
    }
    if (!gm_keys_get(&r->scores.keys, "kl_gain")) {
        gm_call_judge(call, rivals, budget, &r->scores);
        gm_scores_write(&call->arena, path, &r->scores);
    }
    gm_arena_free(&work);
}

/* ------------------------------------------------------------------ the run */

static void run_run(gm_call *call) {
    running r = {.call = call};
    gm_arena *a = &call->arena;
    gm_call_prepare(call);
    int number = 3 + call->plan.whole;
    begin_stage(call, 1, "candidates");
    gm_check_names(call->out, "alloc-*.tsv," GM_PAGE);
    const char *names = gm_export_names(a, &call->model);
    char *list = gm_format(a, "%s", call->budgets);
    for (char *item; (item = strsep(&list, ","));) {
        const char *dir = gm_format(a, "%s/model-%s", call->out, item);
        gm_check_names(dir, names);
        if (!call->force && !call->no_models) gm_export_check(a, dir);
    }
    gm_call_begin(call);
    begin_stage(call, 2, "learning");
    gm_call_learn(call, &r.scores);
    if (gm_rank() > 0) return;      /* the rest is done by one process */
    if (call->anchors) make_anchors(&r);
    r.rivals = gm_rivals_begin(a, &(gm_rivals_options){
        .candidates = &call->candidates, .evaluations = 1,
        .overhead = call->table.overhead}, &call->report);
    r.row = gm_alloc(a, 1 + 3 * (size_t)call->plan.budgets, sizeof *r.row);
    r.row[r.rows++] = (gm_compared){.method = "original", .run = ""};
    begin_stage(call, number++, "the original");
    gm_call_original(call, r.row);
    gm_result_begin("budget\toriginal_ppl\tuniform_bits\tuniform_ppl\t"
                    "uniform_bytes\tgamma_bits\tgamma_ppl\tgamma_bytes\t"
                    "gamma_kl\tproof");
    for (int i = 0; i < call->plan.budgets; i++) {
        begin_stage(call, number++, gm_format(a, "budget %s",
                                              call->budget[i].text));
        run_budget(&r, call->budget + i);
    }
    gm_result_end(call);
    gm_call_page(call, r.row, r.rows);
    gm_talk(call, "%s: report.html, scores.tsv (reusable: gamma solve), "
            "alloc-BUDGET.tsv (the bits and their certificates)%s", call->out,
            call->no_models ? "" : ", model-BUDGET (quantized, Hugging Face "
            "format)");
}

const gm_command gm_command_run = {
    "run", "MODEL --calib FILE --eval FILE --out DIR",
    "The whole path: learn, solve for each budget, write, measure",
    "gamma fit, then gamma refine at --anchors budgets, then for each budget\n"
    "gamma solve, gamma quantize and gamma eval.  uniform: the most bits that\n"
    "fit the budget everywhere.  bytes: the packed file (gamma quantize\n"
    "--format packed), to the byte.  Steps: candidates, learning, anchors,\n"
    "the original's perplexity, then one a budget.",
    1, RUN, run_run};
