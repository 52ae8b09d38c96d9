/* check.c: the command `check`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 100 x / |score|, of what is lost. */
static double percent(const gm_check *c, double x) {
    return x > 0 ? 100 * x / fabs(c->score) : 0;
}

static void print_verdict(gm_call *call, const gm_check *c) {
    const char *by = call->proof ? "proof shows" : "multiplier alone proves";
    const double lost = percent(c, c->score - c->bound);
    const double hidden = fmin(lost, percent(c, c->hidden));
    if (!c->certified)
        gm_talk(call, "no certificate in the file; score %.9g, no assignment "
                "of its code bits scores below %.9g: within %.3g %% of optimal",
                c->score, c->bound, lost);
    else if (c->gap == 0 && lost < 1e-3 && !c->rounded)
        gm_talk(call, "optimal among the assignments of %s: the %s it "
                "(within %.2g %%, the scores' rounding)", c->among, by, lost);
    else
        gm_talk(call, "all claims hold; among the assignments of %s the %s "
                "this one within %.3g %% of optimal, %.2g %% of it the "
                "scores' rounding (the rest of the bound is the solvers' word)",
                c->among, by, lost, hidden);
}

/* ------------------------------------------------------------------- proofs */

/* The proof of the program that the assignment states, as one more claim. */
static void check_proof(gm_call *call, const gm_allocation *allocation,
                        gm_check *c) {
    if (!c->certified)
        gm_bad(allocation->path, "--proof: expected an assignment with its "
               "certificate");
    if (c->failed) return;
    const gm_proven t = gm_proof_check(&call->arena, call->proof, &c->program);
    const char *stated = t.none ? "nothing is feasible" :
        gm_format(&call->arena, "%" PRId64 " <= optimum <= %" PRId64, t.lower,
                  t.upper);
    const char *found = gm_keys_get(&allocation->keys, "objective");
    const int64_t objective = strtoll(found, NULL, 10);
    const bool holds = !t.none && objective == t.upper;
    c->claim[c->count++] = (gm_claim){"proof", stated, found, holds, false};
    c->failed += !holds;
    if (holds && objective - t.lower < c->gap) {
        c->gap = objective - t.lower;
        c->bound = fmax(c->bound, c->score - c->hidden -
                        ldexp((double)c->gap, -c->program.shift));
    }
    gm_talk(call, "%s: each line follows: %s", call->proof, stated);
}

/* Without an assignment: the program is what the options say. */
static void run_proof(gm_call *call) {
    gm_arena *a = &call->arena;
    gm_scores scores;
    gm_mckp problem;
    gm_scores_read(a, call->operand[1], &scores);
    gm_call_way(call, 4);
    const gm_budget budget = gm_budget_parse(&scores, call->in, call->budgets);
    gm_problem_build(a, &scores, &budget, (int)call->score_bits, &problem);
    gm_problem_constrain(a, &call->constraints, &problem);
    const gm_proven t = gm_proof_check(a, call->proof, &problem);
    gm_result_begin("proven\tlower\tupper");
    if (t.none) gm_result_row("nothing is feasible\t-\t-");
    else gm_result_row("%s\t%" PRId64 "\t%" PRId64, t.lower == t.upper ?
                       "optimum" : "bounds", t.lower, t.upper);
    gm_result_end(call);
}

static void run_check(gm_call *call) {
    gm_allocation allocation;
    gm_scores scores;
    gm_check c;
    gm_arena *a = &call->arena;
    const char *wrong = "";
    /* else standard input */
    if (call->proof && strcmp(call->operand[0], GM_STANDARD) == 0) {
        run_proof(call);
        return;
    }
    const char *said = gm_given_of("--budget|--in|--bits|--ebits|--bytes|"
        "--exact|--pin|--min-bits|--max-bits|--fuse|--score-bits");
    if (said)
        gm_fail(GM_EUSAGE, "check: %s goes with --proof and - in place of "
                "ALLOC.tsv, which says it already", said);
    gm_allocation_read(a, call->operand[0], &allocation);
    gm_scores_read(a, call->operand[1], &scores);
    gm_layout_sizes(a, gm_keys_get(&allocation.keys, "sizes"), &scores);
    gm_overhead_give(a, allocation.path,
                     gm_keys_get(&allocation.keys, "overhead_given"), &scores);
    gm_check_allocation(a, &allocation, &scores, call->constraints.resources,
                        &c);
    if (call->proof) check_proof(call, &allocation, &c);
    gm_result_begin("claim\tstated\tfound\tverdict");
    for (const gm_claim *x = c.claim; x < c.claim + c.count; x++) {
        gm_result_row("%s\t%s\t%s\t%s", x->claim, x->stated, x->found,
                      x->word ? "the file's word" : x->holds ? "holds"
                                                             : "WRONG");
        if (!x->holds)
            wrong = gm_format(a, "%s%s%s", wrong, *wrong ? "; " : "", x->claim);
    }
    gm_result_end(call);
    if (c.failed)
        gm_fail(GM_EDIFFER, "%s: %ld of %ld claims do not hold: %s",
                allocation.path, c.failed, c.count, wrong);
    print_verdict(call, &c);
}

const gm_command gm_command_check = {
    "check", "ALLOC.tsv SCORES.tsv",
    "Verify an assignment and its certificate, without the solvers",
    "Recomputes sizes, limits and objective, and the bound that anyone can\n"
    "repeat with a pocket calculator: for lambda = multiplier_num /\n"
    "multiplier_den and u = round(score 2^score_shift),\n"
    "  sum_m min_k (u_mk + lambda s_mk) - lambda B  <=  every objective.\n"
    "--proof: the whole proof, line by line (docs/solver.md).\n"
    "Says among what the answer is the best, and within what.  Exit code 7\n"
    "when a claim does not hold, 1 for keys that are missing or unknown.",
    2, CHECK, run_check};
