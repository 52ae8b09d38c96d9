/* main_solve.c: the commands `solve` and `check`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <inttypes.h>
#include <string.h>

static const gm_option solve_options[] = {
    {"--bits", "B", NULL, "budget: sum n_m b_k <= floor(B N), average code "
                          "bits; B > 0"},
    {"--ebits", "B", NULL, "budget: 8 sum s_mk <= floor(B N), average bits "
                           "with scales and zeros; B > 0"},
    {"--bytes", "X", NULL, "budget: overhead + sum s_mk <= X file bytes; "
                           "50000000, 50M, 47.5MiB"},
    {"--out", "FILE", NULL, "write the assignment and its certificate here"},
    {"--solver", "NAME", NULL, "both, dp (dynamic program) or glpk (both)"},
    {"--time-limit", "S", "60", "seconds for each solver, 0.001..1e6"},
    {0}};

static gm_status read_budget(gm_call *call, const gm_scores *scores,
                             gm_budget *out) {
    static const char *const name[] = {"--bits", "--ebits", "--bytes"};
    int given = 0;
    gm_convention convention = GM_BITS;
    for (int i = 0; i < 3; i++)
        if (gm_arg(call, name[i])) given++, convention = (gm_convention)i;
    if (given != 1)
        return gm_fail(&call->err, GM_EUSAGE, "solve: expected one of --bits, "
                       "--ebits, --bytes, found %d of them", given);
    return gm_budget_parse(&call->arena, scores, convention,
                           gm_arg(call, name[convention]), out, &call->err);
}

static gm_status read_solver(gm_call *call, gm_solve_options *out) {
    const char *name = gm_arg(call, "--solver");
    if (!name) name = gm_have_glpk() ? "both" : "dp";
    static const char *const names[] = {"both", "dp", "glpk"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            out->solver = (gm_solver)i;
            return gm_arg_double(call, "--time-limit", 1e-3, 1e6,
                                 &out->seconds);
        }
    return gm_fail(&call->err, GM_EUSAGE, "--solver: expected both, dp or "
                   "glpk, found \"%s\"", name);
}

static gm_status run_solve(gm_call *call) {
    gm_scores scores;
    gm_budget budget;
    gm_certificate certificate;
    gm_allocation allocation;
    gm_solve_options options = {.report = &call->report};
    gm_arena *a = &call->arena;
    gm_status s = gm_scores_read(a, call->operand[0], &scores, &call->err);
    if (!s) s = read_budget(call, &scores, &budget);
    if (!s) s = read_solver(call, &options);
    if (s) return s;
    int *choice = gm_alloc(a, (size_t)scores.M, sizeof *choice);
    if (!choice) return gm_nomem(&call->err);
    s = gm_allocate(a, &scores, &budget, &options, choice, &certificate,
                    &allocation, &call->err);
    if (!certificate.found) return s;
    gm_result_begin(call, "key\tvalue");
    for (long i = 0; i < allocation.keys.count; i++)
        gm_result_row(call, "%s\t%s", allocation.keys.key[i],
                      allocation.keys.value[i]);
    gm_result_end(call);
    const char *out = gm_arg(call, "--out");
    if (out && (s == GM_OK || s == GM_ELIMIT)) {
        gm_status written = gm_allocation_write(a, out, &allocation,
                                                &call->err);
        if (written) return written;
    }
    return s;
}

const gm_command gm_command_solve = {
    "solve", "SCORES.tsv", "bits within a budget, solved exactly",
    "minimise sum_mk u_mk x_mk subject to one candidate a module and the "
    "budget.\nPrints the certificate; --out writes the assignment.",
    1, 1, solve_options, run_solve};

static const gm_option check_options[] = {{0}};

static gm_status run_check(gm_call *call) {
    return gm_fail(&call->err, GM_EUSAGE, "check: not yet written");
}

const gm_command gm_command_check = {
    "check", "ALLOC.tsv SCORES.tsv", "verify an assignment and its certificate",
    "Recomputes sizes, sums and the bound from the multiplier.",
    2, 2, check_options, run_check};
