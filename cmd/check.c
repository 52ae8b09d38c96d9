/* check.c: the command `check`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <math.h>

static void print_bound(gm_call *call, const gm_check *c) {
    double percent = 100 * (c->score - c->bound) / fabs(c->score);
    if (!c->certified)
        gm_talk(call, "no certificate in the file; score %.9g, no assignment "
                "of its code bits scores below %.9g: within %.3g %% of optimal",
                c->score, c->bound, percent);
    else if (c->failed == 0 && c->gap == 0)
        gm_talk(call, "optimal: the multiplier alone proves it");
    else if (c->failed == 0)
        gm_talk(call, "all claims hold; the multiplier alone proves the "
                "assignment within %.3g %% of optimal (the rest of the "
                "bound is the solvers')", percent);
}

static void run_check(gm_call *call) {
    gm_allocation allocation;
    gm_scores scores;
    gm_check c;
    gm_arena *a = &call->arena;
    gm_allocation_read(a, call->operand[0], &allocation);
    gm_scores_read(a, call->operand[1], &scores);
    gm_check_allocation(a, &allocation, &scores, call->constraints.resources,
                        &c);
    gm_result_begin("claim\tstated\tfound\tverdict");
    for (long i = 0; i < c.count; i++)
        gm_result_row("%s\t%s\t%s\t%s", c.claim[i].claim, c.claim[i].stated,
                      c.claim[i].found, c.claim[i].holds ? "holds" : "WRONG");
    gm_result_end(call);
    print_bound(call, &c);
    if (c.failed)
        gm_fail(GM_EDIFFER, "%s: %ld of %ld claims do not hold",
                allocation.path, c.failed, c.count);
}

const gm_command gm_command_check = {
    "check", "ALLOC.tsv SCORES.tsv",
    "Verify an assignment and its certificate, without the solvers",
    "Recomputes sizes, limits and objective, and the bound that anyone can\n"
    "repeat with a pocket calculator: for lambda = multiplier_num /\n"
    "multiplier_den and u = round(score 2^score_shift),\n"
    "  sum_m min_k (u_mk + lambda s_mk) - lambda B  <=  every objective.\n"
    "Exit code 7 when a claim does not hold.",
    2, CHECK, run_check};
