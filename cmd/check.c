/* check.c: the command `check`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <math.h>

/* 100 x / |score|, of what is lost. */
static double percent(const gm_check *c, double x) {
    return x > 0 ? 100 * x / fabs(c->score) : 0;
}

static void print_verdict(gm_call *call, const gm_check *c) {
    const double lost = percent(c, c->score - c->bound);
    const double hidden = fmin(lost, percent(c, c->hidden));
    if (!c->certified)
        gm_talk(call, "no certificate in the file; score %.9g, no assignment "
                "of its code bits scores below %.9g: within %.3g %% of optimal",
                c->score, c->bound, lost);
    else if (c->gap == 0 && lost < 1e-3)
        gm_talk(call, "optimal among the assignments of %s: the multiplier "
                "alone proves it (within %.2g %%, the scores' rounding)",
                c->among, lost);
    else
        gm_talk(call, "all claims hold; among the assignments of %s the "
                "multiplier alone proves this one within %.3g %% of optimal, "
                "%.2g %% of it the scores' rounding (the rest of the bound is "
                "the solvers' word)", c->among, lost, hidden);
}

/* "gap, optimal": what does not hold. */
static const char *wrong_claims(gm_arena *arena, const gm_check *c) {
    const char *list = "";
    for (long i = 0; i < c->count; i++)
        if (!c->claim[i].holds)
            list = gm_format(arena, "%s%s%s", list, *list ? "; " : "",
                             c->claim[i].claim);
    return list;
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
                      c.claim[i].found, c.claim[i].word ? "the file's word" :
                      c.claim[i].holds ? "holds" : "WRONG");
    gm_result_end(call);
    if (c.failed)
        gm_fail(GM_EDIFFER, "%s: %ld of %ld claims do not hold: %s",
                allocation.path, c.failed, c.count, wrong_claims(a, &c));
    print_verdict(call, &c);
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
