/* glpk.c: the second solver of Stage II: builds GLPK's model of the prepared
   problem, runs GLPK with its errors and output under control, and recomputes
   what comes back in integers; writes the model as a CPLEX LP file.
   May touch: memory, the clock, GLPK, the file of gm_mckp_write_lp.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifndef GM_NO_GLPK
#include <glpk.h>
#include <setjmp.h>
#endif

/* -------------------------------------------------- GLPK's model of the core

   One integer column per option still alive: how many of a set of identical
   groups take it (merged only without rows and pairs).  Groups with a single
   option alive are constants and leave the model.  Costs are reduced costs
     r = v + lambda w + mu c - min,     lambda (mu) for each unit of slack,
     sum v = bound + sum r x + lambda slack + mu slack',
   the same program, but its numbers are of the size of the gap: with plain
   scores near 2^40 GLPK's tolerance hid differences of 1 (measured, 5.0). */

struct column { long set; int option; double cost; };
/* resource: -2 set or pair, -1 size, r an extra row; unit: taken out.
   slack: number of its slack column or -1, which costs `price` each. */
struct row { int resource; bool equal; int64_t limit, unit; long slack;
             double price; };
struct entry { int row, column; int64_t value; };

struct model {
    long sets, columns, slacks, rows, entries;
    long *first, *count;        /* [sets] representative group, its members  */
    long *start;                /* [sets+1] first column of each set         */
    long *set_of;               /* [G] or -1: constant                       */
    struct column *column;
    struct row *row;
    struct entry *entry;
    double constant;            /* v of the objective's zero                 */
    bool impossible;            /* a row cannot be met by anything alive     */
};

/* What may vary: alive[g K + i], and the room. */
struct view { const gm_core *c; const bool *alive; int64_t room; };

static int alive_count(const struct view *s, long g, int *only) {
    int n = 0;
    for (int i = 0; i < s->c->group[g].options; i++)
        if (s->alive[g * s->c->p->K + i]) n++, *only = i;
    return n;
}

static bool same_alive(const struct view *s, long g, long h) {
    const gm_core *c = s->c;
    return gm_core_compare(&c->group[g], &c->group[h]) == 0 &&
           memcmp(s->alive + g * c->p->K, s->alive + h * c->p->K,
                  (size_t)c->group[g].options) == 0;
}

struct keyed { const struct view *s; long g; };

static int by_alive(const void *a, const void *b) {
    const struct keyed *x = a, *y = b;
    const gm_core *c = x->s->c;
    int order = gm_core_compare(&c->group[x->g], &c->group[y->g]);
    if (!order)
        order = memcmp(x->s->alive + x->g * c->p->K,
                       x->s->alive + y->g * c->p->K,
                       (size_t)c->group[x->g].options);
    return order ? order : x->g < y->g ? -1 : 1;
}

/* Sets of identical groups, constants left out. */
static gm_status find_sets(gm_arena *arena, const struct view *s,
                           struct model *model, gm_error *err) {
    const gm_core *c = s->c;
    size_t G = (size_t)c->G;
    struct keyed *order = gm_alloc(arena, G, sizeof *order);
    model->first = gm_alloc(arena, G, sizeof *model->first);
    model->count = gm_alloc(arena, G, sizeof *model->count);
    model->set_of = gm_alloc(arena, G, sizeof *model->set_of);
    for (long g = 0; g < c->G; g++) order[g] = (struct keyed){s, g};
    if (!c->coupled) qsort(order, G, sizeof *order, by_alive);
    for (long j = 0; j < c->G; j++) {
        int only = 0;
        long g = order[j].g;
        model->set_of[g] = -1;
        int alive = alive_count(s, g, &only);
        if (alive == 0) model->impossible = true;
        if (alive < 2) continue;
        bool joins = j > 0 && !c->coupled && model->sets &&
                     same_alive(s, g, order[j - 1].g);
        if (!joins) model->first[model->sets++] = g;
        model->set_of[g] = model->sets - 1;
        model->count[model->sets - 1]++;
    }
    return GM_OK;
}

static double reduced_cost(const gm_core *c, long g, int i) {
    return (double)gm_core_excess(c, g, i) / (double)c->lambda.den;
}

/* Column numbers are consecutive within a set. */
static gm_status add_columns(gm_arena *arena, const struct view *s,
                             struct model *model, gm_error *err) {
    const gm_core *c = s->c;
    size_t most = (size_t)(model->sets * c->p->K);
    model->column = gm_alloc(arena, most, sizeof *model->column);
    model->start = gm_alloc(arena, (size_t)model->sets + 1,
                            sizeof *model->start);
    model->row = gm_alloc(arena, (size_t)(model->sets + 1 + c->p->rows +
                                          c->p->pairs), sizeof *model->row);
    model->entry = gm_alloc(arena, (most + 1) * (size_t)(2 + c->p->rows) +
                            2 * (size_t)c->p->pairs, sizeof *model->entry);
    for (long j = 0; j < model->sets; j++) {
        const gm_group *group = &c->group[model->first[j]];
        model->row[model->rows++] =
            (struct row){-2, true, model->count[j], 1, -1, 0};
        for (int i = 0; i < group->options; i++) {
            if (!s->alive[model->first[j] * c->p->K + i]) continue;
            model->column[model->columns++] =
                (struct column){j, i, reduced_cost(c, model->first[j], i)};
            model->entry[model->entries++] = (struct entry){
                (int)model->rows - 1, (int)model->columns - 1, 1};
        }
        model->start[j + 1] = model->columns;
    }
    return GM_OK;
}

/* The objective where all x and slacks are 0: the Lagrangian bound and what
   the constant groups exceed it by. */
static void set_constant(const struct view *s, struct model *model) {
    const gm_core *c = s->c;
    double den = (double)c->lambda.den;
    gm_wide lp = c->lp + (gm_wide)c->lambda.num * (c->room - s->room);
    model->constant = (double)lp / den;
    for (long g = 0; g < c->G; g++) {
        int only = 0;
        if (model->set_of[g] < 0 && alive_count(s, g, &only))
            model->constant += reduced_cost(c, g, only);
    }
}

/* What the row's limit leaves after the smallest alive cost of every group;
   appends the entries of what lies above it. */
static int64_t add_costs(const struct view *s, long r, struct model *model) {
    const gm_core *c = s->c;
    int64_t limit = r < 0 ? s->room : c->p->row[r].limit;
    for (long g = 0; g < c->G; g++) {
        int only = 0;
        if (model->set_of[g] < 0 && alive_count(s, g, &only))
            limit -= gm_core_cost(c, r, g, only);
    }
    for (long set = 0; set < model->sets; set++) {
        long g = model->first[set];
        int64_t least = INT64_MAX;
        for (long j = model->start[set]; j < model->start[set + 1]; j++) {
            int64_t cost = gm_core_cost(c, r, g, model->column[j].option);
            if (cost < least) least = cost;
        }
        limit -= least * model->count[set];
        for (long j = model->start[set]; j < model->start[set + 1]; j++) {
            int64_t cost = gm_core_cost(c, r, g, model->column[j].option);
            if (cost > least)
                model->entry[model->entries++] =
                    (struct entry){(int)model->rows, (int)j, cost - least};
        }
    }
    return limit;
}

/* The size row (r = -1) or an extra row, its common divisor taken out.  What
   the divisor leaves of the limit is slack in any case. */
static void add_row(const struct view *s, long r, struct model *model) {
    const gm_core *c = s->c;
    bool equal = r < 0 && c->exact;
    long start = model->entries;
    int64_t limit = add_costs(s, r, model), unit = 0;
    for (long e = start; e < model->entries; e++)
        unit = gm_gcd(unit, model->entry[e].value);
    int64_t rest = unit ? limit % unit : limit;
    double price = (double)(r < 0 ? c->lambda.num : c->mu[r]) /
                   (double)c->lambda.den;
    if (limit < 0 || (equal && rest)) model->impossible = true;
    model->constant += price * (double)rest;
    if (unit == 0) return;              /* nothing alive differs in cost */
    for (long e = start; e < model->entries; e++) model->entry[e].value /= unit;
    struct row row = {(int)r, equal, limit / unit, unit, -1, 0};
    if (price > 0 && !equal) {
        row.slack = model->columns + model->slacks++;
        row.price = price * (double)unit;
        model->entry[model->entries++] =
            (struct entry){(int)model->rows, (int)row.slack, 1};
    }
    model->row[model->rows++] = row;
}

/* x_a + x_b <= 1 for a forbidden pair.  Sets are single groups here. */
static void add_pair(const struct view *s, const gm_pair *pair,
                     struct model *model) {
    const gm_core *c = s->c;
    long g[2] = {c->group_of[pair->m], c->group_of[pair->n]};
    int k[2] = {pair->j, pair->k}, limit = 1;
    long start = model->entries;
    bool fused = g[0] == g[1];          /* then j = k is forbidden outright */
    if (fused && k[0] != k[1]) return;
    for (int side = fused; side < 2; side++) {
        int only = 0;
        const gm_choice *o = c->group[g[side]].option;
        long set = model->set_of[g[side]];
        if (set < 0) {
            alive_count(s, g[side], &only);
            limit -= o[only].k == k[side];
            continue;
        }
        for (long j = model->start[set]; j < model->start[set + 1]; j++)
            if (o[model->column[j].option].k == k[side])
                model->entry[model->entries++] =
                    (struct entry){(int)model->rows, (int)j, 1};
    }
    limit -= fused;
    if (limit < 0) model->impossible = true;
    if (model->entries == start) return;
    model->row[model->rows++] =
        (struct row){-2, false, limit < 0 ? 0 : limit, 1, -1, 0};
}

static gm_status build_model(gm_arena *arena, const struct view *s,
                             struct model *model, gm_error *err) {
    *model = (struct model){0};
    gm_status status = find_sets(arena, s, model, err);
    if (status == GM_OK) status = add_columns(arena, s, model, err);
    if (status != GM_OK) return status;
    set_constant(s, model);
    for (long r = -1; r < s->c->p->rows; r++) add_row(s, r, model);
    for (long i = 0; i < s->c->p->pairs; i++)
        add_pair(s, &s->c->p->pair[i], model);
    return GM_OK;
}

/* Options that an assignment of value <= target may use. */
static void filter(const gm_core *c, int64_t target, bool *alive) {
    for (long g = 0; g < c->G; g++)
        for (int i = 0; i < c->group[g].options; i++)
            if (c->lp + gm_core_excess(c, g, i) >
                (gm_wide)target * c->lambda.den)
                alive[g * c->p->K + i] = false;
}

/* ------------------------------------------------------------------- GLPK */

bool gm_have_glpk(void) {
#ifdef GM_NO_GLPK
    return false;
#else
    return true;
#endif
}

/* What came back for a model: code and status are GLPK's own. */
struct glpk_run {
    int code, status;
    double bound;               /* GLPK's, in its floating point             */
    long nodes;
    bool verbose;
    const gm_report *report;
};

#ifdef GM_NO_GLPK

const char *gm_glpk_version(void) { return "none"; }

static gm_status glpk_solve(const struct model *model, double seconds,
                            struct glpk_run *run, int64_t *value,
                            gm_error *err) {
    (void)model, (void)seconds, (void)run, (void)value;
    return gm_note(err, GM_EUSAGE, "this program was built without GLPK "
                   "(make GLPK=0)");
}

static gm_status glpk_duals(const struct model *model, double *dual,
                            gm_error *err) {
    (void)model, (void)dual;
    return gm_note(err, GM_EUSAGE, "this program was built without GLPK");
}

#else

const char *gm_glpk_version(void) { return glp_version(); }

/* GLPK ends the process on misuse or exhausted memory unless its hook jumps
   away; after that only glp_free_env is defined. */
struct guard { jmp_buf back; const gm_report *report; char last[160]; };

static void on_error(void *info) {
    struct guard *guard = info;
    longjmp(guard->back, 1);
}

static int on_output(void *info, const char *text) {
    struct guard *guard = info;
    size_t used = strlen(guard->last);
    if (used > sizeof guard->last / 2) used = 0;
    snprintf(guard->last + used, sizeof guard->last - used, "%s", text);
    if (guard->report) gm_say(guard->report, text, 0, 0);
    return 1;                   /* GLPK itself prints nothing */
}

/* Runs body with GLPK's errors and output under control. */
static gm_status guarded(void (*body)(void *), void *context,
                         const gm_report *report, gm_error *err) {
    static const struct guard none;
    struct guard guard = none;
    guard.report = report;
    if (glp_init_env() > 1) return gm_note(err, GM_EMEM, "out of memory");   /* it would abort later */
    glp_term_hook(on_output, &guard);
    if (setjmp(guard.back)) {
        glp_free_env();
        return gm_note(err, GM_EMEM, "GLPK gave up: %s", guard.last);
    }
    glp_error_hook(on_error, &guard);
    body(context);
    glp_error_hook(NULL, NULL);
    glp_term_hook(NULL, NULL);
    return GM_OK;
}

struct job {
    const struct model *model;
    double seconds;
    struct glpk_run *run;
    int64_t *value;             /* [columns] */
    double *dual;               /* [rows] */
    glp_prob *problem;
};

static void load_bounds(glp_prob *P, const struct model *model) {
    glp_set_obj_dir(P, GLP_MIN);
    if (model->rows) glp_add_rows(P, (int)model->rows);
    glp_add_cols(P, (int)(model->columns + model->slacks));
    for (int r = 0; r < model->rows; r++) {
        double limit = (double)model->row[r].limit;
        int slack = (int)model->row[r].slack + 1;
        glp_set_row_bnds(P, r + 1, model->row[r].equal || slack ? GLP_FX
                                                                : GLP_UP,
                         limit, limit);
        if (!slack) continue;
        glp_set_col_bnds(P, slack, GLP_LO, 0, 0);
        glp_set_obj_coef(P, slack, model->row[r].price);
    }
    for (int j = 0; j < model->columns; j++) {
        double most = (double)model->count[model->column[j].set];
        glp_set_col_kind(P, j + 1, GLP_IV);
        glp_set_col_bnds(P, j + 1, GLP_DB, 0, most);
        glp_set_obj_coef(P, j + 1, model->column[j].cost);
    }
}

static void load_problem(struct job *job) {
    const struct model *model = job->model;
    glp_prob *P = job->problem = glp_create_prob();
    load_bounds(P, model);
    int last = -1, n = 0;
    size_t most = (size_t)(model->columns + model->slacks) + 1;
    int *index = glp_alloc((int)most, sizeof *index);
    double *value = glp_alloc((int)most, sizeof *value);
    for (long e = 0; e <= model->entries; e++) {
        const struct entry *entry = &model->entry[e];
        if (n && (e == model->entries || entry->row != last)) {
            glp_set_mat_row(P, last + 1, n, index, value);
            n = 0;
        }
        if (e == model->entries) break;
        last = entry->row;
        index[++n] = entry->column + 1;
        value[n] = (double)entry->value;
    }
    glp_free(index);
    glp_free(value);
}

static void on_node(glp_tree *tree, void *info) {
    struct glpk_run *run = info;
    int active, now, total, best = glp_ios_best_node(tree);
    glp_ios_tree_size(tree, &active, &now, &total);
    run->nodes = total;
    if (best) run->bound = glp_ios_node_bound(tree, best);
}

static void run_intopt(void *context) {
    struct job *job = context;
    glp_iocp p;
    load_problem(job);
    glp_init_iocp(&p);
    p.msg_lev = job->run->verbose ? GLP_MSG_ALL : GLP_MSG_OFF;
    p.presolve = GLP_ON;
    p.mip_gap = 0;
    p.mir_cuts = GLP_ON;
    p.tol_int = 1e-9;
    p.tol_obj = 1e-12;
    p.cb_func = on_node;
    p.cb_info = job->run;
    if (job->seconds > 0)
        p.tm_lim = (int)fmin(1000 * job->seconds + 1, INT32_MAX);
    job->run->bound = -INFINITY;
    job->run->code = glp_intopt(job->problem, &p);
    job->run->status = glp_mip_status(job->problem);
    for (int j = 0; j < job->model->columns; j++)
        job->value[j] = llround(glp_mip_col_val(job->problem, j + 1));
    glp_delete_prob(job->problem);
}

static void run_simplex(void *context) {
    struct job *job = context;
    glp_smcp p;
    load_problem(job);
    glp_init_smcp(&p);
    p.msg_lev = GLP_MSG_OFF;
    glp_scale_prob(job->problem, GLP_SF_AUTO);
    glp_adv_basis(job->problem, 0);
    glp_simplex(job->problem, &p);
    for (int r = 0; r < job->model->rows; r++)
        job->dual[r] = glp_get_row_dual(job->problem, r + 1);
    glp_delete_prob(job->problem);
}

static gm_status glpk_solve(const struct model *model, double seconds,
                            struct glpk_run *run, int64_t *value,
                            gm_error *err) {
    struct job job = {.model = model, .seconds = seconds, .run = run,
                      .value = value};
    return guarded(run_intopt, &job, run->verbose ? run->report : NULL, err);
}

static gm_status glpk_duals(const struct model *model, double *dual,
                            gm_error *err) {
    struct job job = {.model = model, .dual = dual};
    return guarded(run_simplex, &job, NULL, err);
}

#endif

/* The outcome of one GLPK solve, recomputed in integers.  low: no assignment
   that was alive has a smaller v. */
struct outcome { bool found, proven, infeasible; int64_t v, w, low; };

/* How far GLPK's optimum v may lie above the true one: it compares doubles.
   2e-10 of the objective it saw and of its largest cost (the worst error seen
   on 60,000 instances, GLPK 5.0); below 1, hence 0, for scores of 30 bits. */
static int64_t blur(const struct model *model, int64_t v) {
    double scale = fabs((double)v - model->constant);
    for (long r = 0; r < model->rows; r++)
        scale = fmax(scale, model->row[r].price);
    for (long j = 0; j < model->columns; j++)
        scale = fmax(scale, model->column[j].cost);
    return (int64_t)(2e-10 * scale);
}

/* Turns column counts into options: within a set of identical groups, lower
   candidates first in module order. */
static bool read_values(const struct view *s, const struct model *model,
                        int64_t *value, int *option) {
    const gm_core *c = s->c;
    for (long g = 0; g < c->G; g++) {
        const gm_choice *o = c->group[g].option;
        long set = model->set_of[g], best = -1;
        if (set < 0) {
            alive_count(s, g, &option[g]);
            continue;
        }
        for (long j = model->start[set]; j < model->start[set + 1]; j++)
            if (value[j] > 0 && (best < 0 || o[model->column[j].option].k <
                                 o[model->column[best].option].k))
                best = j;
        if (best < 0) return false;
        value[best]--;
        option[g] = model->column[best].option;
    }
    for (long j = 0; j < model->columns; j++)
        if (value[j] != 0) return false;
    return true;
}

/* The state of one use of GLPK. */
struct glpk {
    const gm_core *c;
    const gm_solve_options *options;
    double deadline;
    bool *alive;                /* [G K] */
    int *trial;                 /* [G] options of the last outcome           */
    long nodes;
};

/* What GLPK's codes mean; `claimed` is whether it gave an assignment. */
static gm_status interpret(const struct glpk_run *run, struct outcome *out,
                           bool *claimed, gm_error *err) {
#ifdef GM_NO_GLPK
    (void)run, (void)out, (void)claimed, (void)err;
    return GM_EUSAGE;
#else
    *claimed = run->status == GLP_OPT || run->status == GLP_FEAS;
    out->infeasible = run->code == GLP_ENOPFS ||
                      (run->code == 0 && run->status == GLP_NOFEAS);
    out->proven = run->code == 0 && run->status == GLP_OPT;
    if (run->code == GLP_ETMLIM)
        return gm_note(err, GM_ELIMIT, "GLPK: time limit reached");
    if (out->infeasible || out->proven) return GM_OK;
    return gm_note(err, GM_ELIMIT, "GLPK stopped with code %d, status %d",
                   run->code, run->status);
#endif
}

/* min v over what is alive within `room`; the assignment goes to q->trial. */
static gm_status glpk_minimum(gm_arena *arena, struct glpk *q, int64_t room,
                              struct outcome *out, gm_error *err) {
    struct view s = {q->c, q->alive, room};
    struct model model;
    struct glpk_run run = {.report = q->options->report,
                           .verbose = q->options->verbose};
    gm_mark mark = gm_arena_mark(arena);
    *out = (struct outcome){0};
    gm_status status = build_model(arena, &s, &model, err);
    int64_t *value = gm_alloc(arena, (size_t)model.columns, sizeof *value);
    bool claimed = true;
    double left = q->deadline > 0 ? q->deadline - gm_seconds() : 0;
    if (status == GM_OK && !value) status = gm_note(err, GM_EMEM, "out of memory");
    if (status == GM_OK && model.impossible) {
        out->infeasible = true;
    } else if (status == GM_OK && model.columns == 0) {
        out->proven = true;
    } else if (status == GM_OK && q->deadline > 0 && left <= 0) {
        status = gm_note(err, GM_ELIMIT, "GLPK: time limit reached");
        claimed = false;
    } else if (status == GM_OK) {
        status = glpk_solve(&model, left, &run, value, err);
        q->nodes += run.nodes;
        if (status == GM_OK) status = interpret(&run, out, &claimed, err);
        double bound = model.constant + run.bound;
        bound -= 1e-6 * (1 + fabs(run.bound)) + 1e-12 * fabs(model.constant);
        if (bound > 0 && bound < 0x1p61) out->low = (int64_t)ceil(bound);
    }
    if (!out->infeasible && claimed &&
        (status == GM_OK || status == GM_ELIMIT)) {
        out->found = read_values(&s, &model, value, q->trial) &&
                     gm_core_feasible(q->c, room, q->trial, &out->v, &out->w);
        if (!out->found && status == GM_OK)
            status = gm_note(err, GM_EDIFFER, "GLPK's answer does not meet the "
                             "constraints when recomputed in integers");
        if (out->found && status == GM_OK)
            out->low = out->v - blur(&model, out->v);
    }
    gm_arena_rewind(arena, mark);
    return status;
}

static void all_alive(struct glpk *q) {
    for (long g = 0; g < q->c->G; g++)
        for (int i = 0; i < q->c->p->K; i++)
            q->alive[g * q->c->p->K + i] = i < q->c->group[g].options;
}

static void adopt(const struct glpk *q, const struct outcome *o,
                  gm_answer *a) {
    a->found = true;
    a->high = o->v;
    memcpy(a->option, q->trial, (size_t)q->c->G * sizeof *a->option);
}

/* The optimum.  Options whose bound exceeds a target are fixed to 0; the
   target starts at the incumbent, or without one near the LP bound and grows
   until the answer lies below it. */
static gm_status glpk_optimum(gm_arena *arena, struct glpk *q,
                              gm_answer *a, gm_error *err) {
    int64_t step = a->found ? a->high - a->low : (a->high - a->low) / 4096 + 1;
    gm_status status = GM_OK;
    bool first = true;          /* also when the LP bound already proves it */
    for (; status == GM_OK && (first || a->low < a->high); first = false) {
        int64_t most = a->high - a->low;
        int64_t target = a->low + (step < most ? step : most);
        struct outcome o;
        all_alive(q);
        filter(q->c, target, q->alive);
        status = glpk_minimum(arena, q, q->c->room, &o, err);
        if (status == GM_OK && !o.found) o.low = target + 1;
        if (status == GM_OK && a->found && o.low > a->high)
            return gm_note(err, GM_EDIFFER, "GLPK finds nothing below %" PRId64
                           ", but %" PRId64 " is reached",
                           q->c->score0 + o.low, q->c->score0 + a->high);
        if (o.found && (!a->found || o.v < a->high)) adopt(q, &o, a);
        if (o.low > target + 1) o.low = target + 1;
        if (o.low > a->low) a->low = o.low;
        if (a->low > a->high) a->low = a->high;
        if (step >= most || (o.found && o.v <= target)) break;
        step = step < most ? step * 16 : step;
    }
    if (status == GM_OK && a->low < a->high && a->found)
        status = gm_note(err, GM_ELIMIT, "GLPK's floating point cannot "
                         "separate %" PRId64 " units", a->high - a->low);
    return status;
}

/* Whether an assignment of value a->high fits into `room` with what is alive;
   if so it becomes the answer and *w its size. */
static gm_status glpk_again(gm_arena *arena, struct glpk *q, int64_t room,
                            gm_answer *a, bool *yes, int64_t *w,
                            gm_error *err) {
    struct outcome o;
    gm_status status = glpk_minimum(arena, q, room, &o, err);
    *yes = status == GM_OK && o.found && o.v <= a->high;
    if (!*yes) return status;
    if (o.v < a->high)
        return gm_note(err, GM_EDIFFER, "GLPK called %" PRId64 " optimal, then "
                       "found %" PRId64, q->c->score0 + a->high,
                       q->c->score0 + o.v);
    adopt(q, &o, a);
    *w = o.w;
    return GM_OK;
}

/* The tie rule by repeated solves: the smallest room in which the optimum still
   fits (first one unit less, usually the end; then by halving), then for each
   module in order the lowest candidate with which it is still reached. */
static gm_status glpk_ties(gm_arena *arena, struct glpk *q, gm_answer *a,
                           gm_error *err) {
    const gm_core *c = q->c;
    int64_t w = 0, v, low = -1;
    gm_status status = GM_OK;
    bool yes, first = true;
    all_alive(q);
    filter(c, a->high, q->alive);
    gm_core_feasible(c, c->room, a->option, &v, &w);
    while (status == GM_OK && !c->exact && low + 1 < w) {
        int64_t room = first ? w - 1 : low + (w - low) / 2;
        status = glpk_again(arena, q, room, a, &yes, &w, err);
        if (!yes) low = room;
        first = false;
    }
    for (long g = 0; status == GM_OK && g < c->G; g++) {
        const gm_choice *o = c->group[g].option;
        bool *alive = q->alive + g * c->p->K, was[GM_MAX_CANDIDATES];
        memcpy(was, alive, sizeof was / GM_MAX_CANDIDATES * (size_t)c->p->K);
        for (int k = 0; status == GM_OK && k < o[a->option[g]].k; k++)
            for (int i = 0; i < c->group[g].options; i++) {
                if (o[i].k != k || !was[i]) continue;
                memset(alive, 0, (size_t)c->p->K);
                alive[i] = true;
                status = glpk_again(arena, q, w, a, &yes, &w, err);
            }
        memset(alive, 0, (size_t)c->p->K);
        alive[a->option[g]] = true;
    }
    a->rule = status == GM_OK;
    return status;
}

/* Multipliers for all rows from GLPK's LP, rounded to fractions of a power of
   two; any non-negative ones give a valid bound, these a good one.  The model's
   costs already carry the present multipliers: a dual y means price - y. */
static gm_status find_multipliers(gm_arena *arena, gm_core *c,
                                  struct glpk *q, gm_error *err) {
    gm_mark mark = gm_arena_mark(arena);
    struct view s = {c, q->alive, c->room};
    struct model model;
    double price[GM_MAX_ROWS + 1] = {0}, most = 0, *y = NULL;
    all_alive(q);
    price[0] = (double)c->lambda.num / (double)c->lambda.den;
    gm_status status = build_model(arena, &s, &model, err);
    if (status == GM_OK && model.columns == 0) return GM_OK;
    if (status == GM_OK) y = gm_alloc(arena, (size_t)model.rows, sizeof *y);
    if (status == GM_OK)
        status = y ? glpk_duals(&model, y, err) : gm_note(err, GM_EMEM, "out of memory");
    if (status != GM_OK) return status;
    for (long j = model.sets; j < model.rows; j++)
        if (model.row[j].resource >= -1)
            price[model.row[j].resource + 1] -=
                y[j] / (double)model.row[j].unit;
    for (int r = 0; r <= c->p->rows; r++) {
        if (!(price[r] > 0) && !(r == 0 && c->exact)) price[r] = 0;
        most = fmax(most, fabs(price[r]));
    }
    int shift = 0;
    while (shift < 40 && ldexp(most, shift) < 0x1p40) shift++;
    if (most < 0x1p60) {
        c->lambda = (gm_slope){llround(ldexp(price[0], shift)),
                               (int64_t)1 << shift};
        for (int r = 0; r < c->p->rows; r++)
            c->mu[r] = llround(ldexp(price[r + 1], shift));
        gm_core_lagrangian(c);
    }
    gm_arena_rewind(arena, mark);
    return GM_OK;
}

gm_status gm_glpk_solve(gm_arena *arena, gm_core *c,
                        const gm_solve_options *options, bool ties,
                        gm_answer *a, gm_certificate *out, gm_error *err) {
    double start = gm_seconds();
    gm_mark mark = gm_arena_mark(arena);
    struct glpk q = {.c = c, .options = options};
    if (options->seconds > 0) q.deadline = start + options->seconds;
    q.alive = gm_alloc(arena, (size_t)(c->G * c->p->K), sizeof *q.alive);
    q.trial = gm_alloc(arena, (size_t)c->G, sizeof *q.trial);
    gm_status status = GM_OK;
    if (c->coupled) status = find_multipliers(arena, c, &q, err);
    if (status != GM_OK) return status;
    gm_wide low = gm_ceil_div(c->lp, c->lambda.den);
    if (!a->found) a->high = c->most_v + 1;
    a->low = low < a->high ? (int64_t)low : a->high;    /* none is that good */
    if (!a->found && !c->exact && !c->coupled) {
        a->found = true;
        a->high = gm_core_greedy(c, a->option);
    }
    status = glpk_optimum(arena, &q, a, err);
    if (status == GM_OK && a->found && ties)
        if (glpk_ties(arena, &q, a, err) == GM_EDIFFER) status = GM_EDIFFER;
    out->glpk_ran = true;
    out->nodes = q.nodes;
    gm_arena_rewind(arena, mark);
    out->glpk_seconds = gm_seconds() - start;
    return status;
}

/* ----------------------------------------------------------- CPLEX LP file */

/* x12_3: module 12 (or its set of identical groups) at candidate 3. */
static void column_name(const gm_core *c, const struct model *model,
                        long j, char text[48]) {
    if (j >= model->columns) {
        snprintf(text, 48, "slack%ld", j - model->columns);
        return;
    }
    long g = model->first[model->column[j].set];
    snprintf(text, 48, "x%ld_%d", c->group[g].module,
             c->group[g].option[model->column[j].option].k);
}

static void write_legend(gm_out *out, const gm_core *c,
                         const struct model *model) {
    const gm_mckp *p = c->p;
    for (long m = 0; m < p->M; m++) {
        long g = c->group_of[m], set = model->set_of[g];
        const char *name = p->name ? p->name[m] : "?";
        if (set < 0)
            gm_out_print(out, "\\ module %ld %s: constant\n", m, name);
        else
            gm_out_print(out, "\\ module %ld %s: counted in x%ld_*\n", m,
                         name, c->group[model->first[set]].module);
    }
}

static void write_terms(gm_out *out, const gm_core *c,
                        const struct model *model) {
    char x[48];
    gm_out_print(out, "Minimize\n obj: %.17g one\n",
                 (double)c->score0 + model->constant);
    for (long j = 0; j < model->columns; j++) {
        column_name(c, model, j, x);
        gm_out_print(out, " + %.17g %s\n", model->column[j].cost, x);
    }
    for (long r = 0; r < model->rows; r++) {
        if (model->row[r].slack < 0) continue;
        column_name(c, model, model->row[r].slack, x);
        gm_out_print(out, " + %.17g %s\n", model->row[r].price, x);
    }
    gm_out_print(out, "Subject To\n");
    if (model->rows == 0) gm_out_print(out, " r0: one = 1\n");
    for (long e = 0, r = 0; r < model->rows; r++) {
        gm_out_print(out, " r%ld:", r);
        for (; e < model->entries && model->entry[e].row == r; e++) {
            column_name(c, model, model->entry[e].column, x);
            gm_out_print(out, "\n  %+" PRId64 " %s",
                         model->entry[e].value, x);
        }
        gm_out_print(out, " %s %" PRId64 "\n",
                     model->row[r].equal || model->row[r].slack >= 0
                         ? "=" : "<=",
                     model->row[r].limit);
    }
}

static void write_domains(gm_out *out, const gm_core *c,
                          const struct model *model) {
    char x[48];
    gm_out_print(out, "Bounds\n one = 1\n");
    for (long j = 0; j < model->columns; j++) {
        column_name(c, model, j, x);
        gm_out_print(out, " 0 <= %s <= %ld\n", x,
                     model->count[model->column[j].set]);
    }
    if (model->columns) gm_out_print(out, "General\n");
    for (long j = 0; j < model->columns; j++) {
        column_name(c, model, j, x);
        gm_out_print(out, " %s\n", x);
    }
    gm_out_print(out, "End\n");
}

void gm_mckp_write_lp(gm_arena *arena, const gm_mckp *problem,
                      const char *path) {
    gm_error why = {0}, *err = &why;
    gm_core c;
    struct model model;
    gm_certificate t;
    gm_out out;
    gm_mark mark = gm_arena_mark(arena);
    gm_status status = gm_core_prepare(arena, problem, &c, &t, err);
    if (status == GM_OK && c.room_rest)
        status = gm_note(err, GM_EINFEASIBLE, "%s: the sizes have the common "
                         "divisor %" PRId64 ", the budget has not", path,
                         c.unit);
    if (status != GM_OK) gm_fail(status, "%s", why.text);
    struct glpk q = {.c = &c};
    q.alive = gm_alloc(arena, (size_t)(c.G * c.p->K), sizeof *q.alive);
    q.trial = gm_alloc(arena, (size_t)c.G, sizeof *q.trial);
    if (c.coupled) status = find_multipliers(arena, &c, &q, err);
    if (status != GM_OK) gm_fail(status, "%s", why.text);
    all_alive(&q);
    if (!c.exact && !c.coupled)
        filter(&c, gm_core_greedy(&c, q.trial), q.alive);
    status = build_model(arena, &(struct view){&c, q.alive, c.room}, &model,
                         err);
    if (status != GM_OK) gm_fail(status, "%s", why.text);
    gm_out_open(arena, path, &out);
    gm_out_print(&out,
                 "\\ The integer program as GLPK gets it: per set of identical "
                 "modules one column\n\\ for each candidate that may be in an "
                 "optimum; smallest sizes subtracted,\n\\ common divisors "
                 "taken out.  Costs are reduced costs: `one` carries the\n\\ "
                 "LP bound, x what a choice costs beyond it, slack the\n\\ "
                 "multiplier for each unit of a limit not used.\n");
    write_legend(&out, &c, &model);
    write_terms(&out, &c, &model);
    write_domains(&out, &c, &model);
    gm_out_commit(&out);
    gm_arena_rewind(arena, mark);
}
