/* glpk.c: the second solver of Stage II, and the only one of extra rows: (11) and
   its half of (12) in solver.c.

   GLPK's model is a binary column for each option still alive, a row for each
   group, for size and each extra row.  In those rows the least alive cost of
   each group is subtracted, the common divisor taken out, and a slack column
   costs the multiplier: the same program, but its numbers are of the size of the
   gap.  With plain byte sizes GLPK times out and calls over-budget answers
   optimal (measured, 5.0: its tolerance is 1e-5 on coefficients of 1e7); with
   plain scores near 2^40 that tolerance hid differences of 1.
   May touch: memory, the clock, GLPK, the file of gm_mckp_write_lp.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "solver.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#ifdef GM_NO_GLPK

bool gm_have_glpk(void) { return false; }
const char *gm_glpk_version(void) { return "none"; }

_Noreturn static void no_glpk(void) {
    gm_fail(GM_EUSAGE, "this program was built without GLPK (make GLPK=0)");
}

gm_status gm_glpk_solve(gm_arena *arena, struct core *c,
                        const gm_solve_options *options, bool ties,
                        struct answer *a, gm_certificate *t) {
    (void)arena, (void)c, (void)options, (void)ties, (void)a, (void)t;
    no_glpk();
}

void gm_mckp_write_lp(gm_arena *arena, const gm_mckp *p, const char *path) {
    (void)arena, (void)p, (void)path;
    no_glpk();
}

#else

#include <glpk.h>

bool gm_have_glpk(void) { return true; }
const char *gm_glpk_version(void) { return glp_version(); }

struct glpk {
    struct core *c;
    const gm_solve_options *options;
    gm_certificate *t;
    const char *lp;             /* the file to write the model to            */
    double deadline;
    bool *alive;                /* [G, K] options that GLPK may take         */
    int *index;                 /* a row of the model, from 1 on             */
    double *value;
    int64_t unit[GM_MAX_ROWS + 1];      /* of row r at r + 1; 0: no row      */
    bool impossible;            /* nothing alive meets some row              */
    double constant, scale;     /* of the objective; its largest number      */
    int code, status;           /* GLPK's own                                */
    double bound;               /* GLPK's, in its floating point             */
    bool found, none;           /* an assignment; proof that there is none   */
    int *option;                /* [G] of it                                 */
    int64_t v, w, low;          /* low: nothing alive has a smaller v        */
    jmp_buf back;
    char last[160];             /* what GLPK said last                       */
};

static int add_column(struct glpk *q, glp_prob *P, double cost, int kind) {
    const int j = glp_add_cols(P, 1);
    glp_set_col_kind(P, j, kind);
    if (kind == GLP_CV) glp_set_col_bnds(P, j, GLP_LO, 0, 0);
    glp_set_obj_coef(P, j, cost);
    q->scale = fmax(q->scale, cost);
    return j;
}

/* What comes out of the names: module (the first of its group), candidate. */
static void add_groups(struct glpk *q, glp_prob *P) {
    const struct core *c = q->c;
    char name[256];
    for (long g = 0; g < c->G; g++) {
        const long m = c->group[g].module;
        int n = 0, row = glp_add_rows(P, 1);
        for (int i = 0; i < c->group[g].options; i++) {
            if (!q->alive[g * c->p->K + i]) continue;
            snprintf(name, sizeof name, "x%ld_%d.%.200s", m,
                     c->group[g].option[i].k, c->p->name ? c->p->name[m] : "");
            q->index[++n] = add_column(q, P, (double)gm_core_excess(c, g, i) /
                                             (double)c->lambda.den, GLP_BV);
            q->value[n] = 1;
            glp_set_col_name(P, q->index[n], name);
        }
        glp_set_row_bnds(P, row, GLP_FX, 1, 1);
        glp_set_mat_row(P, row, n, q->index, q->value);
    }
}

/* The size row, r = -1, or an extra row.  What its divisor leaves of the limit
   is slack in any case. */
static void add_row(struct glpk *q, glp_prob *P, long r, int64_t limit) {
    const struct core *c = q->c;
    const bool equal = r < 0 && c->p->exact;
    const double price = (double)(r < 0 ? c->lambda.num : c->mu[r]) /
                         (double)c->lambda.den;
    int64_t unit = 0;
    int n = 0, column = 0, row = glp_add_rows(P, 1);
    for (long g = 0; g < c->G; g++) {
        const bool *alive = q->alive + g * c->p->K;
        int64_t least = INT64_MAX;
        for (int i = 0; i < c->group[g].options; i++)
            if (alive[i] && gm_core_cost(c, r, g, i) < least)
                least = gm_core_cost(c, r, g, i);
        if (least == INT64_MAX) q->impossible = true;
        else limit -= least;
        for (int i = 0; i < c->group[g].options; i++) {
            const int64_t cost = gm_core_cost(c, r, g, i) - least;
            column += alive[i];
            if (!alive[i] || cost == 0) continue;
            q->index[++n] = column, q->value[n] = (double)cost;
            unit = gm_gcd(unit, cost);
        }
    }
    const int64_t rest = unit ? limit % unit : limit;
    if (limit < 0 || (equal && rest)) q->impossible = true;
    q->constant += price * (double)rest;
    q->unit[r + 1] = unit;
    if (unit == 0) return;              /* nothing alive differs in cost */
    for (int i = 1; i <= n; i++) q->value[i] /= (double)unit;
    if (price > 0 && !equal) {
        q->index[++n] = add_column(q, P, price * (double)unit, GLP_CV);
        q->value[n] = 1;
    }
    limit /= unit;
    glp_set_row_bnds(P, row, equal || price > 0 ? GLP_FX : GLP_UP,
                     (double)limit, (double)limit);
    glp_set_mat_row(P, row, n, q->index, q->value);
}

static int on_output(void *info, const char *text) {
    struct glpk *q = info;
    size_t used = strlen(q->last);
    if (used > sizeof q->last / 2) used = 0;
    snprintf(q->last + used, sizeof q->last - used, "%s", text);
    if (q->options->verbose) gm_say(q->options->report, text, 0, 0);
    return 1;                           /* GLPK itself prints nothing */
}

static void on_error(void *info) { longjmp(((struct glpk *)info)->back, 1); }

/* work(the model of what is alive within `room`) with GLPK's errors and output
   under control: it ends the process on misuse or exhausted memory unless its
   hook jumps away; after that only glp_free_env is defined. */
static void with_model(struct glpk *q, int64_t room,
                       void (*work)(struct glpk *q, glp_prob *P)) {
    const struct core *c = q->c;
    const wide lp = c->lp + (wide)c->lambda.num * (c->room - room);
    if (glp_init_env() > 1) gm_fail(GM_EMEM, "out of memory");
    glp_term_hook(on_output, q);
    if (setjmp(q->back)) {
        glp_free_env();
        gm_fail(GM_EMEM, "GLPK gave up: %s", q->last);
    }
    glp_error_hook(on_error, q);
    glp_prob *P = glp_create_prob();
    q->constant = (double)lp / (double)c->lambda.den;
    q->impossible = false, q->scale = 0;
    add_groups(q, P);
    add_row(q, P, -1, room);
    for (long r = 0; r < c->p->rows; r++) add_row(q, P, r, c->p->row[r].limit);
    work(q, P);
    glp_delete_prob(P);
    glp_error_hook(NULL, NULL);
    glp_term_hook(NULL, NULL);
}

static void write_model(struct glpk *q, glp_prob *P) {
    const int one = add_column(q, P, (double)q->c->score0 + q->constant,
                               GLP_CV);
    glp_set_col_name(P, one, "one");
    glp_set_col_bnds(P, one, GLP_FX, 1, 1);
    q->code = glp_write_lp(P, NULL, q->lp);
}

/* Multipliers of all rows from GLPK's LP, as fractions of a power of two; any
   non-negative ones give a valid bound (9), these a good one.  The costs carry
   the present multipliers: a dual y means price - y. */
static void find_multipliers(struct glpk *q, glp_prob *P) {
    struct core *c = q->c;
    double price[GM_MAX_ROWS + 1] = {(double)c->lambda.num /
                                     (double)c->lambda.den}, most = 0;
    int shift = 0;
    glp_smcp s;
    glp_init_smcp(&s);
    s.msg_lev = GLP_MSG_OFF;
    glp_scale_prob(P, GLP_SF_AUTO);
    glp_adv_basis(P, 0);
    glp_simplex(P, &s);
    for (int r = 0; r <= c->p->rows; r++) {
        if (q->unit[r])
            price[r] -= glp_get_row_dual(P, (int)c->G + 1 + r) /
                        (double)q->unit[r];
        if (!(price[r] > 0) && !(r == 0 && c->p->exact)) price[r] = 0;
        most = fmax(most, fabs(price[r]));
    }
    while (shift < 40 && ldexp(most, shift) < 0x1p40) shift++;
    if (!(most < 0x1p60)) return;
    c->lambda.num = llround(ldexp(price[0], shift));
    c->lambda.den = (int64_t)1 << shift;
    for (int r = 0; r < c->p->rows; r++)
        c->mu[r] = llround(ldexp(price[r + 1], shift));
    gm_core_bound(c);
}

static void on_node(glp_tree *tree, void *info) {
    struct glpk *q = info;
    int active, now, total, best = glp_ios_best_node(tree);
    glp_ios_tree_size(tree, &active, &now, &total);
    if (best) q->bound = glp_ios_node_bound(tree, best);
    q->status = total;
}

static void branch_and_cut(struct glpk *q, glp_prob *P) {
    const struct core *c = q->c;
    const double left = q->deadline - gm_seconds();
    int column = 0;
    glp_iocp s;
    glp_init_iocp(&s);
    s.msg_lev = q->options->verbose ? GLP_MSG_ALL : GLP_MSG_OFF;
    s.presolve = s.mir_cuts = GLP_ON;
    s.mip_gap = 0, s.tol_int = 1e-9, s.tol_obj = 1e-12;
    s.cb_func = on_node, s.cb_info = q;
    if (q->deadline > 0) s.tm_lim = (int)fmin(1000 * left + 1, INT32_MAX);
    q->status = 0;
    if (q->impossible) q->code = GLP_ENOPFS;
    else if (q->deadline > 0 && left <= 0) q->code = GLP_ETMLIM;
    else q->code = glp_intopt(P, &s);
    q->t->nodes += q->status;
    q->status = glp_mip_status(P);
    for (long g = 0; g < c->G; g++)
        for (int i = 0; i < c->group[g].options; i++)
            if (q->alive[g * c->p->K + i] &&
                glp_mip_col_val(P, ++column) > 0.5)
                q->option[g] = i;
}

/* min v over what is alive within `room`, recomputed in integers.  GLPK compares
   doubles: its optimum may lie above the true one by 2e-10 of the objective it
   saw and of its largest cost (the worst on 60,000 instances, GLPK 5.0); that is
   below 1, hence 0, for scores of 30 bits. */
static gm_status minimum(struct glpk *q, int64_t room) {
    q->found = false, q->low = 0, q->bound = -INFINITY;
    with_model(q, room, branch_and_cut);
    const bool claimed = q->status == GLP_OPT || q->status == GLP_FEAS;
    const bool proven = q->code == 0 && q->status == GLP_OPT;
    if (q->code == GLP_ENOPFS || (q->code == 0 && q->status == GLP_NOFEAS))
        return GM_OK;
    const double bound = q->constant + q->bound - 1e-6 * (1 + fabs(q->bound)) -
                         1e-12 * fabs(q->constant);
    if (bound > 0 && bound < 0x1p61) q->low = (int64_t)ceil(bound);
    q->found = claimed && gm_core_feasible(q->c, room, q->option, &q->v, &q->w);
    if (!proven) return GM_ELIMIT;
    if (!q->found)
        return gm_says(q->t, GM_EDIFFER, "GLPK's answer does not meet the "
                    "constraints when recomputed in integers");
    q->scale = fmax(q->scale, fabs((double)q->v - q->constant));
    q->low = q->v - (int64_t)(2e-10 * q->scale);
    return GM_OK;
}

/* Lets live what an assignment of value <= target may use. */
static void revive(struct glpk *q, int64_t target) {
    const struct core *c = q->c;
    for (long g = 0; g < c->G; g++)
        for (int i = 0; i < c->group[g].options; i++)
            q->alive[g * c->p->K + i] =
                c->lp + gm_core_excess(c, g, i) <= (wide)target * c->lambda.den;
}

static void take(const struct glpk *q, struct answer *a) {
    a->found = true;
    a->high = q->v;
    memcpy(a->option, q->option, (size_t)q->c->G * sizeof *a->option);
}

/* The optimum, with the options alive that a target leaves: the incumbent, or
   without one a value near the LP bound, raised until the answer is below it. */
static gm_status glpk_optimum(struct glpk *q, struct answer *a) {
    int64_t step = a->high - a->low;
    if (!a->found) step = step / 4096 + 1;
    for (bool last = false; !last; step *= 16) {    /* once in any case */
        last = step >= a->high - a->low;
        const int64_t target = last ? a->high : a->low + step;
        revive(q, target);
        gm_status status = minimum(q, q->c->room);
        if (status == GM_OK && !q->found) q->low = target + 1;
        if (status == GM_OK && a->found && q->low > a->high)
            return gm_says(q->t, GM_EDIFFER, "GLPK finds nothing below %" PRId64
                        ", but %" PRId64 " is reached", q->c->score0 + q->low,
                        q->c->score0 + a->high);
        if (q->found && (!a->found || q->v < a->high)) take(q, a);
        if (q->low > target + 1) q->low = target + 1;
        if (q->low > a->low) a->low = q->low < a->high ? q->low : a->high;
        if (status != GM_OK) return status;
        if (a->low == a->high || (q->found && q->v <= target)) last = true;
    }
    return a->found && a->low < a->high ? GM_ELIMIT : GM_OK;
}

/* Whether what is alive reaches a->high within `room`; then it is the answer. */
static gm_status reaches(struct glpk *q, int64_t room, struct answer *a,
                         bool *yes) {
    gm_status status = minimum(q, room);
    *yes = status == GM_OK && q->found && q->v <= a->high;
    if (*yes && q->v < a->high)
        return gm_says(q->t, GM_EDIFFER, "GLPK called %" PRId64 " optimal, then "
                    "found %" PRId64, q->c->score0 + a->high,
                    q->c->score0 + q->v);
    if (*yes) take(q, a);
    return status;
}

/* (12): the smallest room (first one unit less, usually the end; then by
   halving), then for each module in order the lowest candidate. */
static gm_status glpk_ties(struct glpk *q, struct answer *a) {
    const struct core *c = q->c;
    const int K = c->p->K;
    gm_status status = GM_OK;
    int64_t v, w, low = -1;
    bool yes = true;
    revive(q, a->high);
    gm_core_feasible(c, c->room, a->option, &v, &w);
    for (int64_t room = w - 1; status == GM_OK && !c->p->exact && low + 1 < w;
         room = low + (w - low) / 2) {
        status = reaches(q, room, a, &yes);
        if (yes) w = q->w;
        else low = room;
    }
    for (long g = 0; status == GM_OK && g < c->G; g++) {
        const struct option *o = c->group[g].option;
        bool *alive = q->alive + g * K, was[GM_MAX_CANDIDATES];
        memcpy(was, alive, (size_t)K);
        for (int k = 0; status == GM_OK && k < o[a->option[g]].k; k++)
            for (int i = 0; i < c->group[g].options; i++) {
                if (o[i].k != k || !was[i]) continue;
                memset(alive, false, (size_t)K);
                alive[i] = true;
                status = reaches(q, w, a, &yes);
            }
        memset(alive, false, (size_t)K);
        alive[a->option[g]] = true;
    }
    a->rule = status == GM_OK;
    return status;
}

static struct glpk *start_glpk(gm_arena *arena, struct core *c,
                               const gm_solve_options *options,
                               gm_certificate *t) {
    struct glpk *q = gm_alloc(arena, 1, sizeof *q);
    const size_t cells = (size_t)(c->G * c->p->K);
    *q = (struct glpk){.c = c, .options = options, .t = t};
    if (options->seconds > 0) q->deadline = gm_seconds() + options->seconds;
    q->alive = gm_alloc(arena, cells, sizeof *q->alive);
    q->index = gm_alloc(arena, cells + 2, sizeof *q->index);
    q->value = gm_alloc(arena, cells + 2, sizeof *q->value);
    q->option = gm_alloc(arena, (size_t)c->G, sizeof *q->option);
    revive(q, INT64_MAX);
    if (c->p->rows) with_model(q, c->room, find_multipliers);
    return q;
}

gm_status gm_glpk_solve(gm_arena *arena, struct core *c,
                        const gm_solve_options *options, bool ties,
                        struct answer *a, gm_certificate *t) {
    const double start = gm_seconds();
    struct glpk *q = start_glpk(arena, c, options, t);
    gm_core_start(c, a);
    gm_status status = glpk_optimum(q, a);
    if (status == GM_OK && a->found && ties && glpk_ties(q, a) == GM_EDIFFER)
        status = GM_EDIFFER;
    t->glpk_ran = true;
    t->glpk_seconds = gm_seconds() - start;
    return status;
}

void gm_mckp_write_lp(gm_arena *arena, const gm_mckp *p, const char *path) {
    struct core c;
    gm_certificate t = {0};
    gm_out out;
    gm_mark mark = gm_arena_mark(arena);
    if (gm_core_prepare(arena, p, &c, &t)) gm_fail(GM_EINFEASIBLE, "%s", t.why);
    if (c.off)
        gm_fail(GM_EINFEASIBLE, "%s: the sizes have the common divisor %" PRId64
                ", the budget has not", path, c.unit);
    struct glpk *q = start_glpk(arena, &c, &(gm_solve_options){0}, &t);
    if (!p->exact && !p->rows) revive(q, c.v0);     /* the bases fit */
    gm_out_open(arena, path, &out);
    q->lp = out.partial;
    with_model(q, c.room, write_model);
    if (q->code) gm_fail(GM_EIO, "%s: cannot write", path);
    gm_out_commit(&out);
    gm_arena_rewind(arena, mark);
}

#endif
