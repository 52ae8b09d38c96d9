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

/* ------------------------------------------------------------------- proofs */

/* "FILE:LIMIT,..." from --resource FILE,... and the keys limit.NAME, whose
   integers are 10^places times the limit. */
static const char *resources_of(gm_call *call, const gm_allocation *allocation) {
    gm_arena *a = &call->arena;
    const gm_keys *keys = &allocation->keys;
    const char *out = NULL;
    for (const gm_key *k = keys->key; k < keys->key + keys->count; k++) {
        if (strncmp(k->name, "limit.", 6) != 0) continue;
        const char *places = gm_keys_get(keys, gm_format(a, "places.%s",
                                                         k->name + 6));
        const char *path = call->constraints.resources;
        char *rest = gm_format(a, "%s", path ? path : "");
        long digits = 0, limit, unit = 1;
        while ((path = strsep(&rest, ","))) {
            gm_table table;
            if (!*path) continue;
            gm_table_read(a, path, &table);
            const char *name = gm_table_key(&table, "resource");
            if (strcmp(name ? name : gm_base_name(path), k->name + 6) == 0)
                break;
        }
        if (!path)
            gm_fail(GM_EUSAGE, "%s limits the resource \"%s\": give its table "
                    "with --resource", allocation->path, k->name + 6);
        if (!gm_is_long(k->value, INT64_MIN / 2, INT64_MAX / 2, &limit) ||
            (places && !gm_is_long(places, 0, 9, &digits)))
            gm_bad(allocation->path, "%s: expected a whole number, and places "
                   "of 0 to 9", k->name);
        for (long i = 0; i < digits; i++) unit *= 10;
        out = gm_format(a, "%s%s%s:%s%ld", out ? out : "", out ? "," : "", path,
                        limit < 0 ? "-" : "", labs(limit / unit));
        if (digits)
            out = gm_format(a, "%s.%0*ld", out, (int)digits,
                            labs(limit % unit));
    }
    return out;
}

/* The program that an allocation states, of these scores. */
static void state_problem(gm_call *call, const gm_allocation *f,
                          const gm_scores *s, gm_budget *budget,
                          gm_mckp *p) {
    static const char *const name[] = {"bits", "ebits", "bytes"};
    const gm_keys *keys = &f->keys;
    const char *way = gm_keys_get(keys, "convention");
    const char *asked = gm_keys_get(keys, "budget_asked");
    const char *shift = gm_keys_get(keys, "score_shift");
    const char *relation = gm_keys_get(keys, "relation");
    long by = 0, label;
    if (!way || !asked || !shift || !gm_is_long(shift, -1100, 1100, &by))
        gm_bad(f->path, "expected a certificate: convention, budget_asked, "
               "score_shift");
    *budget = gm_budget_parse(s, (gm_convention)gm_parse_name(
        "convention", way, name, 3), asked);
    gm_problem_build(&call->arena, s, budget, 30, p);
    p->shift = (int)by;
    p->group = f->fused ? gm_alloc(&call->arena, (size_t)s->M, sizeof(long))
                        : NULL;
    for (long i = 0; i < s->M * s->K; i++) {
        const double x = ldexp(s->score[i], p->shift);
        if (!(fabs(x) < 0x1p60))
            gm_bad(f->path, "score_shift: scores overflow at %d", p->shift);
        p->score[i] = llrint(x);
    }
    for (long m = 0; m < s->M; m++) {
        long row = m;
        while (strcmp(f->name[row], s->name[m]) != 0) row = (row + 1) % f->M;
        for (int k = 0; k < s->K && f->allowed; k++)
            if (!gm_name_matches(f->allowed[row],
                                 gm_format(&call->arena, "%d", s->bits[k])))
                p->allowed[m * s->K + k] = false;
        if (!f->fused) continue;
        p->group[m] = -1;
        if (strcmp(f->fused[row], "-") == 0) continue;
        if (!gm_is_long(f->fused[row], 0, INT64_MAX, &label))
            gm_bad(f->path, "%s: fused: expected - or a number, found \"%s\"",
                   s->name[m], f->fused[row]);
        p->group[m] = label;
    }
    const gm_constraints c = {
        .exact = relation && strcmp(relation, "=") == 0,
        .resources = resources_of(call, f)};
    gm_problem_constrain(&call->arena, &c, p);
}

/* The proof against the assignment, as one more claim. */
static void check_proof(gm_call *call, const gm_allocation *allocation,
                        const gm_scores *s, gm_check *c) {
    gm_arena *a = &call->arena;
    gm_budget budget;
    gm_mckp problem;
    int64_t objective = 0;
    int *choice = gm_alloc(a, (size_t)s->M, sizeof *choice);
    state_problem(call, allocation, s, &budget, &problem);
    gm_allocation_match(allocation, s, choice);
    for (long m = 0; m < s->M; m++)
        objective += problem.score[m * s->K + choice[m]];
    const gm_proven t = gm_proof_check(a, call->proof, &problem);
    const bool holds = !t.none && objective == t.upper;
    c->claim[c->count++] = (gm_claim){
        "proof", t.none ? "nothing is feasible" :
        gm_format(a, "%" PRId64 " <= optimum <= %" PRId64, t.lower, t.upper),
        gm_format(a, "%" PRId64, objective), holds};
    c->failed += !holds;
    gm_talk(call, "%s: each line follows; %s", call->proof, t.none ?
            "nothing is feasible" : t.lower == t.upper ? "its solution is "
            "optimal" : "it leaves a gap");
}

/* Without an assignment: the program is what the options say. */
static void run_proof(gm_call *call) {
    gm_arena *a = &call->arena;
    gm_scores scores;
    gm_mckp problem;
    if (!call->proof)
        gm_fail(GM_EUSAGE, "check: - in place of ALLOC.tsv goes with --proof");
    gm_scores_read(a, call->operand[1], &scores);
    const char *text = gm_given(gm_call_way(call, 3));
    const gm_budget budget = gm_budget_parse(&scores, call->in, text);
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
    static const char *const others[] = {
        "--bits", "--ebits", "--bytes", "--exact", "--pin", "--min-bits",
        "--max-bits", "--fuse", "--score-bits"};
    gm_allocation allocation;
    gm_scores scores;
    gm_check c;
    gm_arena *a = &call->arena;
    if (strcmp(call->operand[0], "-") == 0) {
        run_proof(call);
        return;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (gm_given(others[i]))
            gm_fail(GM_EUSAGE, "check: %s goes with - in place of ALLOC.tsv, "
                    "which says it already", others[i]);
    gm_allocation_read(a, call->operand[0], &allocation);
    gm_scores_read(a, call->operand[1], &scores);
    gm_check_allocation(a, &allocation, &scores, call->constraints.resources,
                        &c);
    if (call->proof) check_proof(call, &allocation, &scores, &c);
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
