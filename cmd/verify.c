/* verify.c: the commands `dump` and `verify`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

/* -------------------------------------------------------------------- dump */

/* Stage I up to the step before the asked one, then that step. */
static void run_dump(gm_call *call) {
    gm_arena *a = &call->arena;
    gm_fit fit;
    gm_candidates ordered;
    gm_call_prepare(call);
    gm_check_output("--out", gm_dump_scalars(a, call->out));
    const long step = gm_parse_long("--step", call->step, 1, call->fit.steps);
    call->dump.limit = call->dump_mb * 1000000;
    gm_call_begin(call);
    gm_external_order(a, &call->candidates, &ordered);  /* as fit, --state */
    gm_recipe_text(&ordered.recipe, ordered.text);
    gm_fit_begin(a, &ordered, call->calibration.tokens, &call->fit, &fit);
    if (call->state) gm_fit_load(a, &fit, NULL, call->state);
    if (fit.step >= step)
        gm_bad(call->state, "is after step %ld; expected one from before step "
               "%ld", fit.step, step);
    while (fit.step < step - 1) {
        gm_fit_step(&fit);
        gm_say(&call->report, "learning", fit.step, step);
    }
    gm_dump_step(a, &fit, &call->dump, call->out, &call->report);
    gm_result_begin("dump\tstep\tE0\tE\tc\tlambda");
    gm_result_row("%s\t%ld\t%.9g\t%.9g\t%.9g\t%.9g", call->out, step, fit.E0,
                  fit.E, fit.c, fit.lambda);
    gm_result_end(call);
}

const gm_command gm_command_dump = {
    "dump", "MODEL --calib FILE --out DUMP.safetensors",
    "What one step of Stage I saw, tensor by tensor, for other programs",
    "Runs Stage I up to step N and writes what that step saw: hidden states,\n"
    "candidates, mixed weights, losses, gradients, multipliers, theta before\n"
    "and after.  docs/verify.md lists every name with equation and shape.\n"
    "Compare with: gamma verify DUMP.safetensors THEIRS.safetensors.",
    1, DUMP, run_dump};

/* ------------------------------------------------------------------ verify */

/* A tensor, or the worst of a family.  used: the error in its tolerance. */
static void print_row(const gm_verdict *v, long tensors, long failed) {
    char cells[192] = "-\t-\t-\t-\t-\t-\t-\t-";
    if (v->outcome != GM_ABSENT && !v->problem)
        snprintf(cells, sizeof cells, "%lld\t%lld\t%.3g\t%.3g\t%.3g\t%.3g\t"
                 "%s\t%.2g", (long long)v->elements, (long long)v->differing,
                 v->absolute, v->relative, v->ulp, v->allowed, v->unit,
                 v->excess);
    gm_result_row("%s\t%s\t%ld\t%ld\t%s\t%s", v->family, v->name, tensors,
                  failed, cells, v->outcome == GM_PASSES ? "pass" :
                  v->outcome == GM_DEPARTS ? "FAIL" :
                  v->a ? "absent in theirs" : "absent in ours");
}

/* A row for every tensor (--all), or for each family: its first failure, else
   its tightest pass, else absent. */
static void print_table(gm_call *call, const gm_verification *r) {
    typedef struct { const gm_verdict *worst; long tensors, failed; } summary;
    summary *of = gm_alloc(&call->arena, (size_t)r->count, sizeof *of);
    summary *end = of, *s;
    for (const gm_verdict *v = r->verdict; v < r->verdict + r->count; v++) {
        s = call->all ? end : of;
        while (s < end && strcmp(s->worst->family, v->family) != 0) s++;
        if (s == end) *end++ = (summary){.worst = v};
        s->tensors++;
        s->failed += v->outcome == GM_DEPARTS;
        if (s->worst->outcome == GM_DEPARTS || v->outcome == GM_ABSENT)
            continue;
        if (v->outcome == GM_DEPARTS || s->worst->outcome == GM_ABSENT ||
            v->excess > s->worst->excess)
            s->worst = v;
    }
    gm_result_begin("family\ttensor\ttensors\tfailed\telements\tdiffering\t"
                    "absolute\trelative\tulp\ttolerance\tunit\tused\t"
                    "verdict");
    for (s = of; s < end; s++) print_row(s->worst, s->tensors, s->failed);
    gm_result_end(call);
}

static void explain(gm_call *call, const gm_verification *r) {
    const gm_verdict *v = r->verdict + r->first;
    if (v->problem)
        gm_talk(call, "first departure: %s\n  %s", v->name, v->problem);
    else
        gm_talk(call, "first departure: %s %s\n  ours      %.17g\n  theirs    "
                "%.17g\n  error     absolute %.3g, relative %.3g (to %s), "
                "%.3g ulp\n  tolerance %.3g: %s\n  %lld of %lld elements are "
                "beyond their tolerance", v->name,
                gm_index_text(v->a, v->worst).text, v->ours, v->theirs,
                v->absolute, v->relative, v->scale, v->ulp, v->tolerance,
                v->why, (long long)v->differing, (long long)v->elements);
    for (long i = 0; i < r->hints; i++)
        gm_talk(call, "%s %s", i ? "  or:      " : "  cause?   ", r->hint[i]);
}

/* What exit code 0 does not say. */
static void print_untested(gm_call *call, const gm_verification *r) {
    static const char *const where[] = {"in ours alone", "in theirs alone",
                                        "in neither"};
    for (int i = 0; i < 3; i++)
        if (*r->missing[i])
            gm_talk(call, "not compared, %s: %s", where[i], r->missing[i]);
    for (long i = 0; !r->message && i < r->hints; i++)
        gm_talk(call, "not told apart here, %s", r->hint[i]);
}

static void run_verify(gm_call *call) {
    gm_tensors ours, theirs;
    gm_verification r = {.first = -1};
    gm_arena *a = &call->arena;
    gm_safetensors_open(a, call->operand[0], &ours);
    gm_safetensors_open(a, call->operand[1], &theirs);
    gm_verify(a, &ours, &theirs, call->tolerance,
              gm_given("--block") ? call->block : -1, &r);
    gm_recognise(a, &ours, &theirs, &r);
    if (r.message) explain(call, &r);
    print_table(call, &r);
    print_untested(call, &r);
    gm_talk(call, "%ld tensors compared, %ld depart, %ld are in one dump only",
            r.compared, r.failed, r.count - r.compared);
    gm_tensors_close(&theirs);
    gm_tensors_close(&ours);
    if (r.message) gm_fail(GM_EDIFFER, "%s", r.message);
}

const gm_command gm_command_verify = {
    "verify", "OURS.safetensors THEIRS.safetensors",
    "Compare two dumps: where another implementation departs first",
    "Compares the names that both have, in the order of computation; types\n"
    "may differ, shapes may not.  Each quantity's tolerance is derived from\n"
    "how it is computed (docs/verify.md) and printed with the first tensor\n"
    "that departs.  NaN never passes.\n"
    "Exit code 0: all that was compared agrees; 7: something departs; 1: no\n"
    "name is in both (nothing compared) or a file is not readable.",
    2, VERIFY, run_verify};
