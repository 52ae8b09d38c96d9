/* main_solve.c: the command `solve`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const gm_option solve_options[] = {
    {"--bits", "B", NULL, "budget: sum n_m b_k <= floor(B N), average code "
                          "bits; B > 0"},
    {"--ebits", "B", NULL, "budget: 8 sum s_mk <= floor(B N), average bits "
                           "with scales and zeros; B > 0"},
    {"--bytes", "X", NULL, "budget: overhead + sum s_mk <= X file bytes; "
                           "50000000, 50M, 47.5MiB"},
    {"--budgets", "LIST", NULL, "many budgets, a,b,c, in the convention --in; "
                                "one line each"},
    {"--frontier", NULL, NULL, "every Pareto-optimal (size, score), sizes in "
                               "the convention --in"},
    {"--in", "NAME", NULL, "bits, ebits or bytes, for --budgets (bits) and "
                           "--frontier (bytes)"},
    {"--out", "FILE", NULL, "write the assignment and its certificate here; "
                            "with --budgets, % in FILE stands for the budget"},
    {"--lp", "FILE", NULL, "write GLPK's model in CPLEX LP format"},
    {"--exact", NULL, NULL, "sum = budget instead of <="},
    {"--pin", "LIST...", NULL, "PATTERN=BITS,...: these modules take BITS (or "
                               "PATTERN>=BITS, PATTERN<=BITS); a PATTERN is a "
                               "module, its last part, or has *"},
    {"--min-bits", "LIST...", NULL, "BITS or PATTERN=BITS,...: at least BITS"},
    {"--max-bits", "LIST...", NULL, "BITS or PATTERN=BITS,...: at most BITS"},
    {"--fuse", "LIST...", NULL, "a+b+c,...: modules of one parent (or whole "
                             "names) that take the same bits, such as "
                             "q_proj+k_proj+v_proj,gate_proj+up_proj"},
    {"--resource", "LIST...", NULL, "FILE:LIMIT,...: sum of costs <= LIMIT; FILE "
                                 "has columns module and one for each number "
                                 "of bits (GLPK)"},
    {"--robust", "R", NULL, "solve R times with scores drawn from their "
                            "standard errors, R 1..1e6: how often each "
                            "module's bits change"},
    {"--edge", "P", "0.05", "--robust: modules that change in a share of at "
                            "least P of the draws are on the edge, 0..1"},
    {"--seed", "N", "1", "of --robust"},
    {"--solver", "NAME", NULL, "both, dp (dynamic program) or glpk (both; dp "
                               "for more than 32 budgets and for --robust)"},
    {"--score-bits", "N", "30", "scores enter as round(u 2^shift), range "
                                "2^shift <= 2^N, 1..44"},
    {"--time-limit", "S", "60", "seconds for each solver, 0.001..1e6; then "
                                "incumbent, bound and gap, exit code 4"},
    {"--memory", "MIB", "1024", "limit of the dynamic program's lists, "
                                "1..1048576 MiB"},
    {"--glpk-log", NULL, NULL, "GLPK's own output on stderr"},
    {0}};

struct solve {
    gm_call *call;
    gm_scores scores;
    gm_constraints constraints;
    gm_solve_options options;
    long score_bits;
    gm_convention convention;
    gm_budget budget;
    gm_mckp problem;
    gm_rounding rounding;
    gm_certificate certificate;
    gm_allocation allocation;
    int *choice;
};

/* ----------------------------------------------------------------- options */

void gm_call_way(gm_call *call, const char *const *ways, int count,
                      const char **way) {
    char list[128] = "";
    int given = 0;
    for (int i = 0; i < count; i++) {
        if (gm_arg_given(call, ways[i])) given++, *way = ways[i];
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s",
                 i ? ", " : "", ways[i]);
    }
    if (given == 1) return;
    gm_fail(GM_EUSAGE, "%s: expected one of %s, found %s",
                   call->command->name, list, given ? "several" : "none");
}

static void read_mode(struct solve *s, const char **mode) {
    static const char *const ways[] = {"--bits", "--ebits", "--bytes",
                                       "--budgets", "--frontier"};
    gm_call *call = s->call;
    gm_call_way(call, ways, 5, mode);
    const char *name = gm_arg(call, "--in");
    if (name && (*mode)[2] != 'f' && strcmp(*mode, "--budgets") != 0)
        gm_fail(GM_EUSAGE, "--in goes with --budgets and "
                       "--frontier; %s says it already", *mode);
    if (strcmp(*mode, "--frontier") == 0) name = name ? name : "bytes";
    else if (strcmp(*mode, "--budgets") == 0) name = name ? name : "bits";
    else name = *mode + 2;
    s->convention = gm_convention_parse("--in", name);
}

static void read_solver(struct solve *s, bool many) {
    static const char *const names[] = {"both", "dp", "glpk"};
    gm_call *call = s->call;
    long mib;
    int solver = gm_have_glpk() && !many ? GM_BOTH : GM_DP;
    if (gm_arg(call, "--solver"))
        solver = gm_parse_name("--solver", gm_arg(call, "--solver"), names, 3);
    if (solver == GM_GLPK && !gm_have_glpk())
        gm_fail(GM_EUSAGE, "--solver glpk: this program was "
                       "built without GLPK (make GLPK=0)");
    s->options = (gm_solve_options){.solver = (gm_solver)solver,
                                    .report = &call->report,
                                    .verbose = gm_arg_given(call, "--glpk-log")};
    gm_arg_double(call, "--time-limit", 1e-3, 1e6,
                               &s->options.seconds);
    gm_arg_long(call, "--memory", 1, 1 << 20, &mib);
    gm_arg_long(call, "--score-bits", 1, 44, &s->score_bits);
    s->options.memory = (size_t)mib << 20;
    gm_talk(call, "%s%s; the dynamic program's lists take at most %ld MiB",
            solver == GM_BOTH ? "dynamic program and GLPK" :
            solver == GM_DP ? "dynamic program" : "GLPK",
            gm_have_glpk() ? "" : " (built without GLPK)", mib);
}

static void read_constraints(struct solve *s) {
    gm_call *call = s->call;
    s->constraints = (gm_constraints){
        .exact = gm_arg_given(call, "--exact"),
        .min_bits = gm_arg(call, "--min-bits"),
        .max_bits = gm_arg(call, "--max-bits"), .pin = gm_arg(call, "--pin"),
        .fuse = gm_arg(call, "--fuse"),
        .resources = gm_arg(call, "--resource")};
}

/* -------------------------------------------------------------- one budget */

static void build(struct solve *s, const char *text) {
    gm_call *call = s->call;
    gm_arena *a = &call->arena;
    s->budget = gm_budget_parse(a, &s->scores, s->convention, text);
    gm_problem_build(a, &s->scores, &s->budget,
                                  (int)s->score_bits, &s->problem,
                                  &s->rounding);
    gm_problem_constrain(a, &s->scores, &s->constraints,
                                      &s->problem);
}

static void print_times(const struct solve *s) {
    const gm_certificate *t = &s->certificate;
    if (t->dp_ran)
        gm_talk(s->call, "dynamic program: %.3f s, %ld states, %.1f MB",
                t->dp_seconds, t->states, (double)t->memory / 1e6);
    if (t->glpk_ran)
        gm_talk(s->call, "GLPK %s: %.3f s, %ld nodes", gm_glpk_version(),
                t->glpk_seconds, t->nodes);
}

/* Of GM_OK or GM_ELIMIT with an incumbent, s->allocation is filled. */
static gm_status solve_budget(struct solve *s, const char *text) {
    gm_call *call = s->call;
    s->certificate = (gm_certificate){0};
    build(s, text);
    gm_status status = gm_mckp_solve(&call->arena, &s->problem, &s->options,
                                     s->choice, &s->certificate);
    if (s->certificate.found && (!status || status == GM_ELIMIT))
        gm_allocation_make(&call->arena, &s->scores, &s->budget, &s->problem,
                           &s->rounding, s->choice, &s->certificate,
                           &s->allocation);
    return status;
}

static void unless_found(const struct solve *s, gm_status status) {
    if (status == GM_EINFEASIBLE)
        gm_explain_infeasible(&s->scores, &s->budget, &s->certificate);
    if (status && !(status == GM_ELIMIT && s->certificate.found))
        gm_fail(status, "%s", s->certificate.why);
}

/* FILE, with % replaced by the budget. */
static void write_answer(struct solve *s, bool many) {
    gm_call *call = s->call;
    gm_arena *a = &call->arena;
    const char *path = gm_arg(call, "--out");
    if (!path) return;
    const char *hole = strchr(path, '%');
    if (many && !hole)
        gm_fail(GM_EUSAGE, "--out: with --budgets a %% in "
                       "the name stands for the budget; found none in \"%s\"",
                       path);
    if (many)
        path = gm_format(a, "%.*s%s%s", (int)(hole - path), path,
                         s->budget.text, hole + 1);
    gm_allocation_write(a, path, &s->allocation);
}

static void run_robust(struct solve *s);

static void run_one(struct solve *s, const char *text) {
    gm_call *call = s->call;
    const char *lp = gm_arg(call, "--lp");
    build(s, text);
    if (lp) gm_mckp_write_lp(&call->arena, &s->problem, lp);
    gm_status status = solve_budget(s, text);
    print_times(s);
    unless_found(s, status);
    write_answer(s, false);
    if (gm_arg(call, "--robust") && !status) {
        run_robust(s);
        return;
    }
    if (gm_arg(call, "--robust")) gm_fail(status, "%s", s->certificate.why);
    gm_result_begin(call, "key\tvalue");
    const gm_keys *keys = &s->allocation.keys;
    for (const gm_key *k = keys->key; k < keys->key + keys->count; k++)
        gm_result_row(call, "%s\t%s", k->name, k->value);
    gm_result_row(call, "states\t%ld", s->certificate.states);
    gm_result_row(call, "nodes\t%ld", s->certificate.nodes);
    gm_result_row(call, "seconds\t%.3f", s->certificate.dp_seconds +
                                         s->certificate.glpk_seconds);
    gm_result_end(call);
    if (status) gm_fail(status, "%s", s->certificate.why);
}

/* ------------------------------------------------------------- many budgets */

static const char *const many_columns =
    "budget\tsize\tslack\tcode_bits\tfile_bytes\tscore\tobjective\tbound\tgap\t"
    "lp_bound\toptimal\tagreed";

static void many_row(struct solve *s) {
    const gm_certificate *t = &s->certificate;
    gm_sizes z = gm_sizes_of(&s->scores, s->choice);
    gm_result_row(s->call, "%s\t%" PRId64 "\t%" PRId64 "\t%.9g\t%" PRId64
                  "\t%s\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64
                  "\t%s\t%s", s->budget.text, t->size, t->slack,
                  (double)z.code_bits / (double)s->scores.N, z.file_bytes,
                  gm_keys_get(&s->allocation.keys, "objective_real"),
                  t->objective, t->bound, t->objective - t->bound, t->lp_bound,
                  t->optimal ? "proven" : "no",
                  t->agreed ? "yes" : t->glpk_ran ? "no" : "one solver");
}

static void run_many(struct solve *s, char *list) {
    gm_call *call = s->call;
    gm_status worst = GM_OK;
    gm_certificate limit;
    gm_result_begin(call, many_columns);
    for (char *text = list, *next; text; text = next) {
        next = strchr(text, ',');
        if (next) *next++ = 0;
        text = gm_format(&call->arena, "%s", text);
        gm_mark mark = gm_arena_mark(&call->arena);
        gm_status status = solve_budget(s, text);
        unless_found(s, status);
        if (status) worst = status, limit = s->certificate;
        many_row(s);
        write_answer(s, true);
        gm_arena_rewind(&call->arena, mark);
    }
    gm_result_end(call);
    if (worst) gm_fail(worst, "%s", limit.why);
}

/* ---------------------------------------------------- frontier and robust */

static void run_frontier(struct solve *s) {
    gm_call *call = s->call;
    gm_frontier f = {0};
    bool bytes = s->convention == GM_BYTES;
    build(s, "1");
    gm_status status = gm_frontier_find(&call->arena, &s->problem, &s->options,
                                        &f);
    gm_result_begin(call, bytes ? "file_bytes\tscore\tobjective"
                                : "average_bits\tscore\tobjective\tbits");
    for (long i = 0; i < f.count; i++) {
        int64_t size = f.point[i].size, score = f.point[i].score;
        char text[32];
        gm_double_text(ldexp((double)score, -s->rounding.shift), text);
        if (bytes)
            gm_result_row(call, "%" PRId64 "\t%s\t%" PRId64,
                          size + s->scores.overhead, text, score);
        else
            gm_result_row(call, "%.9g\t%s\t%" PRId64 "\t%" PRId64,
                          (double)size / (double)s->scores.N, text, score,
                          size);
    }
    gm_result_end(call);
    gm_talk(call, "%ld points, %s; score = objective 2^-%d, off by at most %g",
            f.count, f.complete ? "all there are" :
            "only the supported ones: those that some multiplier makes optimal",
            s->rounding.shift, s->rounding.bound / 2);
    if (status) gm_fail(status, "%s", f.why);
}

static void run_robust(struct solve *s) {
    gm_call *call = s->call;
    gm_arena *a = &call->arena;
    long resamples, seed, edge = 0;
    double least;
    gm_robust r;
    gm_arg_long(call, "--robust", 1, 1000000, &resamples);
    gm_arg_long(call, "--seed", 0, INT64_MAX, &seed);
    gm_arg_double(call, "--edge", 0, 1, &least);
    gm_robust_find(a, &s->scores, &s->budget, &s->problem, (int)s->score_bits,
                   &s->options, s->choice, resamples, (uint64_t)seed, &r);
    const char *head = "module\tbits\tchanged\tedge";
    for (int k = 0; k < s->scores.K && head; k++)
        head = gm_format(a, "%s\tat_%d", head, s->scores.bits[k]);
    gm_result_begin(call, head);
    for (long m = 0; m < s->scores.M; m++) {
        bool on_edge = r.changed[m] > 0 && r.changed[m] >= least;
        const char *row = gm_format(a, "%s\t%d\t%.4f\t%s", s->scores.name[m],
                                    s->scores.bits[s->choice[m]], r.changed[m],
                                    on_edge ? "edge" : "-");
        for (int k = 0; k < s->scores.K && row; k++)
            row = gm_format(a, "%s\t%.4f", row, r.share[m * s->scores.K + k]);
        gm_result_row(call, "%s", row);
        edge += on_edge;
    }
    gm_result_end(call);
    gm_talk(call, "%ld of %ld modules on the edge; expected loss of keeping "
            "this assignment: %.3g of score", edge, s->scores.M, r.regret);
}

/* Scores of gamma refine, at a budget that they were not made for. */
static void talk_elsewhere(const struct solve *s, const char *mode) {
    const char *at = gm_keys_get(&s->scores.keys, "refined_at");
    const char *value = gm_arg(s->call, mode);
    const char *here = value ? gm_format(&s->call->arena, "%s %s", value,
                                         mode + 2) : NULL;
    if (at && (!here || strcmp(at, here) != 0))
        gm_talk(s->call, "%s: refined at %s; elsewhere the scores they came "
                "from are better", s->scores.path, at);
}

static void run_solve(gm_call *call) {
    struct solve *s = gm_alloc(&call->arena, 1, sizeof *s);
    const char *mode = NULL;
    s->call = call;
    read_mode(s, &mode);
    const char *list = gm_arg(call, "--budgets");
    const bool many = list && gm_count_char(list, ',') >= 32;
    read_solver(s, many || gm_arg(call, "--robust"));
    if (gm_arg(call, "--robust") && (list || mode[2] == 'f'))
        gm_fail(GM_EUSAGE, "--robust needs a single budget, "
                       "found %s", mode);
    gm_scores_read(&call->arena, call->operand[0], &s->scores);
    talk_elsewhere(s, mode);
    read_constraints(s);
    s->choice = gm_alloc(&call->arena, (size_t)s->scores.M, sizeof *s->choice);
    char *copy = list ? gm_format(&call->arena, "%s", list) : NULL;
    if (strcmp(mode, "--frontier") == 0) run_frontier(s);
    else if (list) run_many(s, copy);
    else run_one(s, gm_arg(call, mode));
}

const gm_command gm_command_solve = {
    "solve", "SCORES.tsv", "Bits within a budget, solved exactly",
    "minimise sum_mk u_mk x_mk subject to one candidate for each module and\n"
    "sum_mk s_mk x_mk <= budget (Stage II).  Prints the certificate: size,\n"
    "objective, bound, gap, multiplier; among the optimal assignments the\n"
    "smallest in size, then with the fewest bits in module order.\n"
    "docs/solver.md says how to check the numbers by hand.",
    1, 1, solve_options, run_solve};
