/* solve.c: the command `solve`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef struct {
    gm_call *call;
    gm_scores scores;
    gm_budget budget;
    gm_mckp problem;
    gm_certificate certificate;
    gm_allocation allocation;
    int *choice;
    gm_status status;               /* of the solvers: GM_OK or GM_ELIMIT */
    const char *text;               /* one of many budgets */
} solving;

_Static_assert(GM_PROOF_NODES == 1000, "as --help says of --proof");

/* The options whose names have a % for one of many budgets. */
static const char *const files[] = {"--out", "--lp", "--proof", "--lp-plain"};
enum { FILES = sizeof files / sizeof *files };

/* The budget; call->in: what it counts; the solver. */
static void read_options(gm_call *call) {
    gm_solve_options *o = &call->solve;
    gm_call_way(call, 5);
    const char *list = strchr(call->budgets, ','), *odd;
    if (call->frontier && !gm_given("--in")) call->in = GM_BYTES;
    for (int i = 0; i < FILES; i++) {
        const char *to = gm_given(files[i]);
        if (to && list && !strchr(to, '%'))
            gm_fail(GM_EUSAGE, "%s: of several budgets a %% in the name stands "
                    "for each; found none in \"%s\"", files[i], to);
    }
    if (list && call->certificate)
        gm_fail(GM_EUSAGE, "--certificate is of one budget, found several; "
                "--out FILE has it of each");
    if (!gm_given("--solver"))
        o->solver = !gm_have_glpk() || call->frontier ||
                    (list && gm_count_char(list, ',') >= 32) ? GM_DP : GM_BOTH;
    if (o->solver == GM_GLPK && !gm_have_glpk())
        gm_fail(GM_EUSAGE, "--solver glpk: this program was built without GLPK "
                "(make GLPK=0)");
    odd = o->solver == GM_BOTH ? NULL : gm_given_of(
        o->solver == GM_DP ? "--lp|--glpk-log" : "--memory");
    if (odd)
        gm_fail(GM_EUSAGE, !gm_have_glpk() ? "%s: this program was built "
                "without GLPK (make GLPK=0)" : o->solver == GM_DP ? "%s is of "
                "GLPK: it goes with --solver both or glpk" : "%s is of the "
                "dynamic program: it goes with --solver both or dp", odd);
    o->report = &call->report;
    o->memory = (size_t)call->solver_mib << 20;
    gm_talk(call, "%s%s; the dynamic program's lists take at most %ld MiB",
            o->solver == GM_BOTH ? "dynamic program and GLPK" :
            o->solver == GM_DP ? "dynamic program" : "GLPK",
            gm_have_glpk() ? "" : " (built without GLPK)", call->solver_mib);
}

/* ------------------------------------------------- one budget, many budgets */

static void build(solving *s, const char *text) {
    gm_call *call = s->call;
    s->budget = gm_call_budget(call, &s->scores, text);
    gm_problem_build(&call->arena, &s->scores, &s->budget,
                     (int)call->score_bits, &s->problem);
    gm_problem_constrain(&call->arena, &call->constraints, &s->problem);
}

/* The file of an option, a % in it replaced by the budget, or NULL. */
static const char *file_of(solving *s, const char *option, const char *text) {
    const char *to = gm_given(option);
    const char *hole = to ? strchr(to, '%') : NULL;
    if (!hole) return to;
    return gm_format(&s->call->arena, "%.*s%s%s", (int)(hole - to), to, text,
                     hole + 1);
}

static void solve_problem(void *context) {
    solving *s = context;
    s->status = gm_mckp_solve(&s->call->arena, &s->problem, &s->call->solve,
                              s->choice, &s->certificate);
}

/* To `path`; choice NULL: that nothing is feasible. */
static void prove(solving *s, const int *choice, const char *path) {
    const gm_proven t = gm_proof_write(&s->call->arena, &s->problem, choice,
                                       path);
    if (t.none && t.lower < t.upper)
        gm_talk(s->call, "no proof within %ld nodes that nothing is feasible: "
                "%s is not written", t.nodes, path);
    else if (t.none)
        gm_talk(s->call, "%s: proof that nothing is feasible, %ld nodes", path,
                t.nodes);
    else
        gm_talk(s->call, "%s: proof that the objective is at least %" PRId64
                ", %ld nodes; %s", path, t.lower, t.nodes, t.lower == t.upper
                ? "optimal" : "a gap is left");
}

/* Fills s->allocation and writes it to --out.  GM_ELIMIT: with an incumbent;
   certificate.why says what the limit was. */
static gm_status solve_budget(solving *s, const char *text) {
    gm_arena *a = &s->call->arena;
    const char *to = file_of(s, "--out", text);
    const char *plain = file_of(s, "--lp-plain", text);
    const char *proof = file_of(s, "--proof", text);
    gm_error err;
    build(s, text);
    if (plain) {
        gm_program program;
        gm_program_build(a, &s->problem, &program);
        gm_program_write_lp(&program, plain);
    }
    s->call->solve.lp = file_of(s, "--lp", text);
    const gm_status failed = gm_try(solve_problem, s, &err);
    if (failed == GM_EINFEASIBLE && proof) prove(s, NULL, proof);
    if (failed) gm_fail(failed, "%s", err.text);
    s->allocation = gm_allocation_make(a, &s->problem, s->choice,
                                       &s->certificate);
    if (to) gm_allocation_write(a, to, &s->allocation);
    if (proof) prove(s, s->choice, proof);
    return s->status;
}

/* What is said unless all of the certificate is asked for. */
static const char SUMMARY[] =
    "convention,budget_asked,average_code_bits,average_effective_bits,"
    "file_bytes,slack,scores_at,objective_real,gap,optimal,solvers";

static void solve_one(solving *s, const char *text) {
    gm_call *call = s->call;
    const gm_certificate *t = &s->certificate;
    const gm_keys *keys = &s->allocation.keys;
    gm_status status = solve_budget(s, text);
    if (t->dp_ran)
        gm_talk(call, "dynamic program: %.3f s, %ld states, %.1f MB",
                t->dp_seconds, t->states, (double)t->memory / 1e6);
    if (t->glpk_ran)
        gm_talk(call, "GLPK %s: %.3f s, %ld nodes", gm_glpk_version(),
                t->glpk_seconds, t->nodes);
    gm_result_begin("key\tvalue");
    const bool all = call->certificate || call->json;
    for (const gm_key *k = keys->key; k < keys->key + keys->count; k++)
        if (all || gm_name_matches(SUMMARY, k->name))
            gm_result_row("%s\t%s", k->name, k->value);
    if (all) gm_result_row("states\t%ld", t->states);
    if (all) gm_result_row("nodes\t%ld", t->nodes);
    if (all) gm_result_row("seconds\t%.3f", t->dp_seconds + t->glpk_seconds);
    gm_result_end(call);
    const char *at = gm_keys_get(keys, "scores_at");
    if (at)
        gm_talk(call, "scores: at the anchors %s; %s", at,
                strstr(at, "learned") ? "in units of E_0: the anchors' mean is "
                "not shown to lower KL there" : "theirs are what a choice adds "
                "to the whole model's KL, in nats");
    if (!all) gm_call_grid(call, s->problem.scores, &s->allocation);
    if (status) gm_fail(status, "%s", t->why);
}

static void solve_next(void *context) {
    solving *s = context;
    solve_budget(s, s->text);
}

/* A budget that nothing meets has no row; the others have theirs. */
static void solve_many(solving *s) {
    gm_call *call = s->call;
    const gm_certificate *t = &s->certificate;
    gm_status first = GM_OK;        /* that was missed */
    gm_error missed, err;
    char *list = gm_format(&call->arena, "%s", call->budgets);
#define COLUMNS "budget\tsize\tslack\tcode_bits\tfile_bytes\tscore\t" \
                "objective\tbound\tgap\tlp_bound\toptimal\tagreed"
    gm_result_begin(s->scores.anchors ? COLUMNS "\tscores_at" : COLUMNS);
    while ((s->text = strsep(&list, ","))) {
        gm_mark mark = gm_arena_mark(&call->arena);
        const gm_status none = gm_try(solve_next, s, &err);
        const gm_status got = none ? none : s->status;
        if (none && none != GM_EINFEASIBLE && none != GM_ELIMIT)
            gm_fail(none, "%s", err.text);
        if (got && !first)
            snprintf(missed.text, sizeof missed.text, "%s", none ? err.text
                     : t->why);
        first = first ? first : got;
        if (none) continue;
        gm_sizes z = gm_sizes_of(&s->scores, s->choice);
        const char *at = gm_keys_get(&s->allocation.keys, "scores_at");
        gm_result_row("%s\t%" PRId64 "\t%" PRId64 "\t%.9g\t%" PRId64
                      "\t%s\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64
                      "\t%s\t%s%s%s", s->text, t->size, t->slack,
                      (double)z.code_bits / (double)s->scores.N, z.file_bytes,
                      gm_keys_get(&s->allocation.keys, "objective_real"),
                      t->objective, t->bound, t->objective - t->bound,
                      t->lp_bound, t->optimal ? "proven" : "no",
                      t->agreed ? "yes" : t->glpk_ran ? "no" : "one solver",
                      at ? "\t" : "", at ? at : "");
        gm_arena_rewind(&call->arena, mark);
    }
    gm_result_end(call);
    if (first) gm_fail(first, "%s", missed.text);
}

/* -------------------------------------------------------------- all budgets */

static void solve_frontier(solving *s) {
    gm_call *call = s->call;
    gm_frontier f;
    const bool bytes = call->in == GM_BYTES;
    if (s->scores.anchors)
        gm_talk(call, "the scores of Stage I alone, the same for all sizes; "
                "--budget takes those between the anchors");
    s->scores.anchors = 0;
    build(s, "1");
    gm_status status = gm_frontier_find(&call->arena, &s->problem, &call->solve,
                                        &f);
    gm_result_begin(bytes ? "file_bytes\tscore\tobjective"
                          : "average_bits\tscore\tobjective\tbits");
    for (long i = 0; i < f.count; i++) {
        int64_t size = f.point[i].size, score = f.point[i].score;
        const gm_shown x = gm_double_text(
            ldexp((double)score, -s->problem.shift));
        if (bytes)
            gm_result_row("%" PRId64 "\t%s\t%" PRId64,
                          size + s->scores.overhead, x.text, score);
        else
            gm_result_row("%.9g\t%s\t%" PRId64 "\t%" PRId64,
                          (double)size / (double)s->scores.N, x.text, score,
                          size);
    }
    gm_result_end(call);
    gm_talk(call, "%ld points, %s; score = objective 2^-%d, off by at most %g",
            f.count, f.all ? "all there are" : "only the supported ones: those "
            "that some multiplier makes optimal", s->problem.shift,
            s->problem.rounding / 2);
    if (status) gm_fail(status, "%s", f.why);
}

/* The scores' sizes become those of --for, or are a layout's already; what vLLM
   joins shares its bits. */
static void size_for(gm_call *call, gm_scores *scores) {
    const char *asked = gm_call_for(call);
    const char *text = gm_keys_get(&scores->keys, "sizes");
    if (call->overhead && (asked || gm_layout_sized(text)))
        gm_fail(GM_EUSAGE, "expected either --for, whose files' overhead is "
                "known, or --overhead, found both");
    gm_layout_sizes(&call->arena, asked, scores);
    text = gm_keys_get(&scores->keys, "sizes");
    const bool joined = gm_layout_sized(text) &&
                        gm_layout_scale(text, "mlx") == GM_OTHER;
    if (call->no_fuse && !joined)
        gm_fail(GM_EUSAGE, "--no-fuse goes with --for compressed-tensors or "
                "gptq, found %s", text ? text : "none");
    if (joined && !call->no_fuse && !call->constraints.fuse)
        call->constraints.fuse = "q_proj+k_proj+v_proj,gate_proj+up_proj";
}

/* --overhead as a whole number, or NULL. */
static const char *overhead_of(gm_call *call) {
    int64_t bytes = 0;
    if (!call->overhead) return NULL;
    if (strcmp(call->overhead, "0") != 0 &&
        (!gm_is_bytes(call->overhead, &bytes) || bytes > INT64_C(1) << 53))
        gm_fail(GM_EUSAGE, "--overhead: expected bytes, such as 1800000 or "
                "1.8M, found \"%s\"", call->overhead);
    return gm_format(&call->arena, "%" PRId64, bytes);
}

static void run_solve(gm_call *call) {
    gm_arena *a = &call->arena;
    solving *s = gm_alloc(a, 1, sizeof *s);
    read_options(call);
    s->call = call;
    gm_scores_read(a, call->operand[0], &s->scores);
    size_for(call, &s->scores);
    gm_overhead_give(a, "--overhead", overhead_of(call), &s->scores);
    char *list = gm_format(a, "%s", call->budgets);
    for (char *text; (text = strsep(&list, ","));)
        for (int i = 0; i < FILES; i++)
            if (gm_given(files[i]))
                gm_check_output(files[i], file_of(s, files[i], text));
    s->choice = gm_alloc(a, (size_t)s->scores.M, sizeof *s->choice);
    if (call->frontier) solve_frontier(s);
    else if (strchr(call->budgets, ',')) solve_many(s);
    else solve_one(s, call->budgets);
}

const gm_command gm_command_solve = {
    "solve", "SCORES.tsv", "Bits within a budget, solved exactly",
    "minimise sum_mk u_mk x_mk subject to one candidate for each module and\n"
    "sum_mk s_mk x_mk <= budget (Stage II); among the optimal assignments the\n"
    "smallest in size, then with the fewest bits in module order.  Prints a\n"
    "summary, sensitivities and bits as grids (gamma show); the certificate,\n"
    "size, objective, bound, gap, multiplier, with --certificate or --json.\n"
    "docs/solver.md says how to check the numbers by hand.",
    1, SOLVE, run_solve};
