/* main_verify.c: the commands `dump` and `verify`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <math.h>
#include <string.h>

/* -------------------------------------------------------------------- dump */

static const gm_option dump_options[] = {
    {"--out", "FILE", NULL, "the dump, safetensors; scalars also go to the "
     "same name with .tsv; required"},
    {"--step", "N", "1", "the step to show, 1..steps"},
    {"--state", "FILE", NULL, "begin from this fit.state of the same run, "
     "of a step before N, instead of from step 1"},
    {"--only", "LIST", NULL, "PATTERN,...: names to write, '*' for anything "
     "(all that --limit allows)"},
    {"--detail", NULL, NULL, "also what happens inside the original blocks: "
     "detail.L.norm1, q, k, v, attention, mid, norm2, gate, up, act"},
    {"--limit", "MB", "1024", "size above which, without --only, these are "
     "left out, one after the other: candidates.*.dequantized, mixed, grad, "
     "factor, hessian, detail, candidates; 1..1000000"},
    {"--cache", "DIR", NULL, "where the candidate file is or goes (beside the "
     "dump)"},
    {"--resume", NULL, NULL, "of gamma fit; here: --state FILE"},
    {.name = NULL, .help = "fit"}};

static void check_state(const char *path, long step, const gm_fit *fit) {
    if (fit->step < step) return;
    gm_fail(GM_EINPUT, "%s: is after step %ld; expected one "
                   "from before step %ld", path, fit->step, step);
}

/* Stage I up to the step before the asked one, then that step. */
static void dump_run(gm_call *call, gm_fit *fit, long step) {
    const char *state = gm_arg(call, "--state"), *out = gm_arg(call, "--out");
    long limit;
    gm_arg_long(call, "--limit", 1, 1000000, &limit);
    gm_dump_options options = {gm_arg(call, "--only"),
                               gm_arg_given(call, "--detail"),
                               (int64_t)limit * 1000000};
    if (state) gm_fit_load(&call->arena, fit, state);
    if (state) check_state(state, step, fit);
    while (fit->step < step - 1) {
        gm_fit_step(fit);
        gm_say(&call->report, "learning", fit->step, step);
    }
    gm_dump_step(&call->arena, fit, &options, out,
                                &call->report);
}

static void dump_options_of(gm_call *call, gm_recipe *recipe,
                                 gm_fit_options *options, long *step) {
    if (!gm_arg(call, "--out"))
        gm_fail(GM_EUSAGE, "dump: --out FILE is missing");
    if (gm_arg_given(call, "--resume"))
        gm_fail(GM_EUSAGE, "dump: --resume belongs to gamma "
                       "fit; expected --state FILE");
    gm_call_recipe(call, recipe);
    gm_call_fit_options(call, recipe, options);
    gm_arg_long(call, "--step", 1, options->steps, step);
}

static void run_dump(gm_call *call) {
    gm_model model;
    gm_candidates candidates;
    gm_recipe recipe;
    gm_fit_options o;
    gm_sequences calibration;
    long step;
    gm_fit fit;
    gm_arena *a = &call->arena;
    dump_options_of(call, &recipe, &o, &step);
    const char *out = gm_arg(call, "--out"), *cache = gm_arg(call, "--cache");
    if (!cache) cache = gm_parent(a, out);
    gm_model_open(a, call->operand[0], &model);
    gm_call_external(call, &model, NULL, &recipe);
    gm_call_calibration(call, &model, gm_arg(call, "--calib"),
                                    gm_arg(call, "--tokens"), o.S, o.T,
                                    &calibration);
    gm_candidates_open(a, &model, &recipe, &calibration, cache,
                                   &call->report, &candidates);
    gm_call_allow(call, &candidates, &o);
    gm_fit_begin(a, &candidates, calibration.tokens, &o, &fit);
    dump_run(call, &fit, step);
    gm_result_begin(call, "dump\tstep\tE0\tE\tc\tlambda");
    gm_result_row(call, "%s\t%ld\t%.9g\t%.9g\t%.9g\t%.9g", out, step, fit.E0,
                  fit.E, fit.c, fit.lambda);
    gm_result_end(call);
    gm_candidates_close(&candidates);
    gm_model_close(&model);
}

const gm_command gm_command_dump = {
    "dump", "MODEL --calib FILE --out DUMP.safetensors",
    "What one step of Stage I saw, tensor by tensor, for other programs",
    "Runs Stage I up to step N and writes what that step saw: hidden states,\n"
    "candidates, mixed weights, losses, gradients, multipliers, theta before\n"
    "and after.  docs/verify.md lists every name with equation and shape.\n"
    "Compare with: gamma verify DUMP.safetensors THEIRS.safetensors.",
    1, 1, dump_options, run_dump};

/* ------------------------------------------------------------------ verify */

static const gm_option verify_options[] = {
    {"--tolerance", "LIST", NULL, "NAME=FACTOR,...: tolerances of these names "
     "or families ('*' for anything) times FACTOR, 0..1e300; of discrete ones "
     "(codes): FACTOR elements may differ"},
    {"--model", "DIR", NULL, "the original: for a block that departs, the "
     "usual mistakes are tried out"},
    {"--all", NULL, NULL, "a row for every tensor instead of one for each "
     "family"},
    {0}};

static const char *outcome_text(const gm_verdict *v) {
    return v->outcome == GM_PASSES ? "pass" : v->outcome == GM_DEPARTS
         ? "FAIL" : v->a ? "absent in theirs" : "absent in ours";
}

/* One row: a tensor, or the worst of a family. */
static void print_row(gm_call *call, const gm_verdict *v, long tensors,
                      long failed) {
    if (v->outcome == GM_ABSENT || v->problem) {
        gm_result_row(call, "%s\t%s\t%ld\t%ld\t-\t-\t-\t-\t-\t-\t%s", v->family,
                      v->name, tensors, failed, outcome_text(v));
        return;
    }
    gm_result_row(call, "%s\t%s\t%ld\t%ld\t%lld\t%lld\t%.3g\t%.3g\t%.3g\t%.3g"
                  "\t%s", v->family, v->name, tensors, failed,
                  (long long)v->elements, (long long)v->differing, v->absolute,
                  v->relative, v->ulp, v->tolerance, outcome_text(v));
}

/* A family's row: its first failure, else its tightest pass, else absent. */
static void print_family(gm_call *call, const gm_verification *r, long first) {
    const gm_verdict *worst = r->verdict + first;
    long tensors = 0, failed = 0;
    for (long i = first; i < r->count; i++) {
        const gm_verdict *v = r->verdict + i;
        if (strcmp(v->family, worst->family) != 0) continue;
        tensors++;
        failed += v->outcome == GM_DEPARTS;
        if (worst->outcome == GM_DEPARTS || v->outcome == GM_ABSENT) continue;
        if (v->outcome == GM_DEPARTS || worst->outcome == GM_ABSENT ||
            v->excess > worst->excess)
            worst = v;
    }
    print_row(call, worst, tensors, failed);
}

static void print_table(gm_call *call, const gm_verification *r, bool all) {
    gm_result_begin(call, "family\ttensor\ttensors\tfailed\telements\tdiffering"
                    "\tabsolute\trelative\tulp\ttolerance\tverdict");
    for (long i = 0; i < r->count; i++) {
        bool seen = false;
        for (long j = 0; j < i && !all && !seen; j++)
            seen = strcmp(r->verdict[j].family, r->verdict[i].family) == 0;
        if (all)
            print_row(call, r->verdict + i, 1,
                      r->verdict[i].outcome == GM_DEPARTS);
        else if (!seen)
            print_family(call, r, i);
    }
    gm_result_end(call);
}

static void explain(gm_call *call, const gm_verification *r) {
    const gm_verdict *v = r->verdict + r->first;
    char index[96];
    if (v->problem)
        gm_talk(call, "first departure: %s\n  %s", v->name, v->problem);
    else
        gm_talk(call, "first departure: %s %s\n  ours      %.17g\n  theirs    "
                "%.17g\n  error     absolute %.3g, relative %.3g (to %s), "
                "%.3g ulp\n  tolerance %.3g: %s\n  %lld of %lld elements are "
                "beyond their tolerance", v->name,
                gm_index_text(v->a, v->worst, index), v->ours, v->theirs,
                v->absolute, v->relative, v->unit, v->ulp, v->tolerance,
                v->why, (long long)v->differing, (long long)v->elements);
    for (long i = 0; i < r->hints; i++)
        gm_talk(call, "%s %s", i ? "  or:      " : "  cause?   ", r->hint[i]);
}

static void run_verify(gm_call *call) {
    gm_tensors ours, theirs;
    gm_model model;
    gm_verification r = {.first = -1};
    gm_arena *a = &call->arena;
    const char *dir = gm_arg(call, "--model");
    gm_safetensors_open(a, call->operand[0], &ours);
    gm_safetensors_open(a, call->operand[1], &theirs);
    if (dir) gm_model_open(a, dir, &model);
    gm_verify(a, &ours, &theirs, gm_arg(call, "--tolerance"), &r);
    if (r.message) {
        gm_recognise(a, &ours, &theirs, dir ? &model : NULL, &r);
        explain(call, &r);
    }
    print_table(call, &r, gm_arg_given(call, "--all"));
    gm_talk(call, "%ld tensors compared, %ld depart, %ld are in one dump only",
            r.compared, r.failed, r.count - r.compared);
    gm_tensors_close(&theirs);
    gm_tensors_close(&ours);
    if (dir) gm_model_close(&model);
    if (r.message) gm_fail(GM_EDIFFER, "%s", r.message);
}

const gm_command gm_command_verify = {
    "verify", "OURS.safetensors THEIRS.safetensors",
    "Compare two dumps: where does another implementation depart first?",
    "Compares the names that both have, in the order of computation; types\n"
    "may differ, shapes may not.  Each quantity's tolerance is derived from\n"
    "how it is computed (docs/verify.md) and printed with the first tensor\n"
    "that departs.  NaN never passes.\n"
    "Exit code 0: all that was compared agrees; 7: something departs; 1: no\n"
    "name is in both (nothing compared) or a file is not readable.",
    2, 2, verify_options, run_verify};
