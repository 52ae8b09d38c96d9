/* solver.c: Stage II, the integer program [GAMMA]: preparation, LP bound, both
   solvers, the certificate.

     minimise sum_mk u_mk x_mk   s.t.  sum_k x_mk = 1,
              sum_mk s_mk x_mk <= B (or = B),  x binary,  couplings

   All decisions are taken on integers.  The solvers are dynamic.c and glpk.c.
   May touch: memory.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------- preparation

   A group is one module, or modules that must take the same candidate (sizes
   and scores add up).  Per group the smallest size and the smallest score are
   subtracted, sizes are divided by their common divisor `unit`, and the right-
   hand side is rounded down:  w = (s - min s) / unit,  v = u - min u,
     sum w <= room = floor((B - sum min s) / unit).
   Without this GLPK times out on byte sizes and calls over-budget answers
   optimal (measured, GLPK 5.0: its tolerance is 1e-5 on coefficients of 1e7).
   An option is dropped when another of its group is no larger and no worse;
   of equals the lower candidate number stays, so ties are not disturbed. */

int64_t gm_gcd(int64_t a, int64_t b) {
    while (b) {
        int64_t t = a % b;
        a = b, b = t;
    }
    return a;
}

gm_wide gm_ceil_div(gm_wide a, gm_wide b) {          /* b > 0 */
    return a / b + (a % b > 0);
}

static int by_size(const void *a, const void *b) {
    const gm_choice *x = a, *y = b;
    if (x->w != y->w) return x->w < y->w ? -1 : 1;
    if (x->v != y->v) return x->v < y->v ? -1 : 1;
    return x->k - y->k;
}

static gm_wide magnitude(gm_wide a) { return a < 0 ? -a : a; }

/* Sums of |largest| must stay below 2^61: then no sum, difference or product
   with a slope below overflows 64 (sums) or 128 bits (products). */
static gm_status check_sums(const gm_mckp *p, gm_error *err) {
    gm_wide size = 0, score = 0, limit = (gm_wide)1 << 61;
    if (p->M < 1 || p->K < 1 || p->K > GM_MAX_CANDIDATES)
        return gm_note(err, GM_EINPUT, "integer program: expected at least 1 "
                       "module and 1 to %d candidates, found %ld and %d",
                       GM_MAX_CANDIDATES, p->M, p->K);
    if (p->rows < 0 || p->rows > GM_MAX_ROWS)
        return gm_note(err, GM_EINPUT, "integer program: expected at most %d "
                       "extra rows, found %ld", GM_MAX_ROWS, p->rows);
    for (long m = 0; m < p->M; m++) {
        gm_wide s = 0, u = 0;
        for (long i = m * p->K; i < (m + 1) * p->K; i++) {
            if (!p->allowed[i]) continue;
            gm_wide a = magnitude(p->size[i]), b = magnitude(p->score[i]);
            for (long r = 0; r < p->rows; r++)
                a += magnitude(p->row[r].cost[i]);
            s = a > s ? a : s, u = b > u ? b : u;
        }
        size += s, score += u;
    }
    if (magnitude(p->budget) > limit)
        return gm_note(err, GM_EINPUT, "integer program: budget beyond 2^61");
    if (size >= limit || score >= limit)
        return gm_note(err, GM_EINPUT, "integer program: sizes, costs or scores "
                       "sum to 2^61 or more");
    return GM_OK;
}

/* group_of and G: fused modules share a group; groups in module order. */
static gm_status find_groups(gm_arena *arena, gm_core *c, gm_error *err) {
    const gm_mckp *p = c->p;
    long *seen, numbers = 0;     /* seen: last module so far, plus 1 */
    for (long m = 0; p->group && m < p->M; m++)
        if (p->group[m] >= numbers) numbers = p->group[m] + 1;
    c->group_of = gm_alloc(arena, (size_t)p->M, sizeof *c->group_of);
    c->group = gm_alloc(arena, (size_t)p->M, sizeof *c->group);
    c->next = gm_alloc(arena, (size_t)p->M, sizeof *c->next);
    seen = gm_alloc(arena, (size_t)numbers, sizeof *seen);
    for (long m = 0; m < p->M; m++) {
        long number = p->group ? p->group[m] : -1;
        long last = number >= 0 ? seen[number] - 1 : -1;
        if (last >= 0) c->next[last] = m;
        else c->group[c->G].module = m;
        c->group_of[m] = last >= 0 ? c->group_of[last] : c->G++;
        c->next[m] = -1;
        if (number >= 0) seen[number] = m + 1;
    }
    return GM_OK;
}

/* Options of all groups in original units; what one member may not take, the
   group may not take. */
static gm_status sum_options(gm_arena *arena, gm_core *c, gm_error *err) {
    const gm_mckp *p = c->p;
    size_t cells = (size_t)(c->G * p->K);
    gm_choice *all = gm_alloc(arena, cells, sizeof *all);
    int *members = gm_alloc(arena, cells, sizeof *members);
    long *size = gm_alloc(arena, (size_t)c->G, sizeof *size);
    for (long m = 0; m < p->M; m++) {
        long g = c->group_of[m];
        size[g]++;
        for (int k = 0; k < p->K; k++) {
            long i = m * p->K + k, j = g * p->K + k;
            if (!p->allowed[i]) continue;
            all[j].w += p->size[i];
            all[j].v += p->score[i];
            members[j]++;
        }
    }
    for (long g = 0; g < c->G; g++) {
        gm_group *group = &c->group[g];
        group->option = all + g * p->K;
        for (int k = 0; k < p->K; k++)
            if (members[g * p->K + k] == size[g]) {
                gm_choice o = group->option[k];
                o.k = k;
                group->option[group->options++] = o;
            }
        if (group->options) continue;
        gm_note(err, GM_EINFEASIBLE, "module %s: the constraints leave it no "
                "candidate", p->name ? p->name[group->module] : "?");
        return GM_EINFEASIBLE;
    }
    return GM_OK;
}

/* Order of groups by their options, to find identical ones. */
int gm_core_compare(const gm_group *a, const gm_group *b) {
    if (a->options != b->options) return a->options - b->options;
    for (int i = 0; i < a->options; i++) {
        int order = by_size(&a->option[i], &b->option[i]);
        if (order) return order;
    }
    return 0;
}

/* Sorts; drops what another option beats (rows and pairs may need any of
   them); subtracts the smallest size and score. */
static void reduce_group(gm_core *c, gm_group *group) {
    gm_choice *o = group->option;
    int n = 0;
    qsort(o, (size_t)group->options, sizeof *o, by_size);
    for (int i = 0; i < group->options; i++) {
        bool beaten = !c->coupled && n &&
                      (c->exact ? o[n - 1].w == o[i].w : o[n - 1].v <= o[i].v);
        if (!beaten) o[n++] = o[i];
    }
    int64_t v = o[0].v, w = o[0].w, most = o[0].v;
    for (int i = 1; i < n; i++) {
        if (o[i].v < v) v = o[i].v;
        if (o[i].v > most) most = o[i].v;
    }
    for (int i = 0; i < n; i++) o[i].w -= w, o[i].v -= v;
    group->options = n;
    c->size0 += w;
    c->score0 += v;
    c->most_v += most - v;
}

/* With extra rows the multipliers are fractions of 2^j, so sizes stay whole. */
static void divide_sizes(gm_core *c) {
    c->unit = c->coupled;
    for (long g = 0; g < c->G; g++)
        for (int i = 0; i < c->group[g].options; i++) {
            if (!c->coupled)
                c->unit = gm_gcd(c->unit, c->group[g].option[i].w);
            c->score_unit = gm_gcd(c->score_unit, c->group[g].option[i].v);
        }
    if (c->unit == 0) c->unit = 1;
    if (c->score_unit == 0) c->score_unit = 1;
    for (long g = 0; g < c->G; g++)
        for (int i = 0; i < c->group[g].options; i++)
            c->group[g].option[i].w /= c->unit;
}

/* ------------------------------------------------------------ the LP bound

   Lower convex hulls: walking up a group's hull buys score for size at falling
   rates.  Taking all hull steps in order of rate until one does not fit solves
   the LP (Sinha, Zoltners 1979); the rate of that step is the multiplier
   lambda, and the choices made so far (`base`) minimise v + lambda w in every
   group:  LP = v0 + lambda (w0 - room). */

static int by_rate(const void *a, const void *b) {
    const gm_step *x = a, *y = b;
    gm_wide l = (gm_wide)x->gain * y->dw, r = (gm_wide)y->gain * x->dw;
    if (l != r) return l > r ? -1 : 1;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    return x->to - y->to;
}

/* Appends the hull steps of group g; returns how many. */
static long hull_steps(const gm_core *c, long g, gm_step *step) {
    const gm_choice *o = c->group[g].option;
    int corner[GM_MAX_CANDIDATES], n = 0;
    for (int i = 0; i < c->group[g].options; i++) {
        if (n && o[corner[n - 1]].w == o[i].w) continue;
        if (n && !c->exact && o[corner[n - 1]].v <= o[i].v) continue;
        while (n >= 2) {
            const gm_choice *a = &o[corner[n - 2]], *b = &o[corner[n - 1]];
            gm_wide ab = (gm_wide)(a->v - b->v) * (o[i].w - b->w);
            gm_wide bc = (gm_wide)(b->v - o[i].v) * (b->w - a->w);
            if (ab >= bc) break;        /* rates fall: b is a corner */
            n--;
        }
        corner[n++] = i;
    }
    for (int j = 1; j < n; j++) {
        const gm_choice *a = &o[corner[j - 1]], *b = &o[corner[j]];
        step[j - 1] = (gm_step){g, corner[j], b->w - a->w, a->v - b->v};
    }
    return n - 1;
}

int64_t gm_core_cost(const gm_core *c, long r, long g, int i) {
    const gm_choice *o = &c->group[g].option[i];
    if (r < 0) return o->w;
    int64_t sum = 0;
    for (long m = c->group[g].module; m >= 0; m = c->next[m])
        sum += c->p->row[r].cost[m * c->p->K + o->k];
    return sum;
}

/* den (v + lambda w + sum_r mu_r c_r). */
static gm_wide penalised(const gm_core *c, long g, int i) {
    const gm_choice *o = &c->group[g].option[i];
    gm_wide sum = (gm_wide)c->lambda.den * o->v + (gm_wide)c->lambda.num * o->w;
    for (long r = 0; r < c->p->rows; r++)
        if (c->mu[r]) sum += (gm_wide)c->mu[r] * gm_core_cost(c, r, g, i);
    return sum;
}

/* Weak duality, whatever lambda >= 0 (any sign if exact) and mu >= 0 are:
     sum_g min_i penalised - den (lambda room + sum_r mu_r limit_r)
       <=  den * every feasible v. */
void gm_core_lagrangian(gm_core *c) {
    c->lp = -(gm_wide)c->lambda.num * c->room;
    for (long r = 0; r < c->p->rows; r++)
        c->lp -= (gm_wide)c->mu[r] * c->p->row[r].limit;
    for (long g = 0; g < c->G; g++) {
        gm_wide least = penalised(c, g, 0);
        for (int i = 1; i < c->group[g].options; i++) {
            gm_wide value = penalised(c, g, i);
            if (value < least) least = value;
        }
        c->group[g].least = least;
        c->lp += least;
    }
}

gm_wide gm_core_excess(const gm_core *c, long g, int i) {
    return penalised(c, g, i) - c->group[g].least;
}

gm_status gm_core_steps(gm_arena *arena, const gm_core *c, gm_step **out,
                        long *count, gm_error *err) {
    gm_step *step = gm_alloc(arena, (size_t)(c->G * c->p->K), sizeof *step);
    *count = 0;
    for (long g = 0; g < c->G; g++) *count += hull_steps(c, g, step + *count);
    qsort(step, (size_t)*count, sizeof *step, by_rate);
    *out = step;
    return GM_OK;
}

static gm_status solve_lp(gm_arena *arena, gm_core *c, gm_error *err) {
    gm_mark mark = gm_arena_mark(arena);
    gm_step *step;
    long n = 0, i = 0;
    gm_status status = gm_core_steps(arena, c, &step, &n, err);
    if (status != GM_OK) return status;
    for (long g = 0; g < c->G; g++) {
        c->group[g].base = 0;
        c->v0 += c->group[g].option[0].v;
    }
    for (; i < n && c->w0 + step[i].dw <= c->room; i++) {
        c->group[step[i].group].base = step[i].to;
        c->w0 += step[i].dw;
        c->v0 -= step[i].gain;
    }
    c->lambda = (gm_slope){0, 1};
    if (i == n && c->exact) i = n - 1;  /* any rate up to the last will do */
    if (i >= 0 && i < n) {
        int64_t d = gm_gcd(step[i].gain < 0 ? -step[i].gain : step[i].gain,
                        step[i].dw);
        c->lambda = (gm_slope){step[i].gain / d, step[i].dw / d};
    }
    gm_core_lagrangian(c);
    gm_arena_rewind(arena, mark);
    return GM_OK;
}

/* Fills smallest and largest (before anything is dropped); GM_EINFEASIBLE when
   the budget lies outside. */
static gm_status check_range(const gm_core *c, gm_certificate *out,
                             gm_error *err) {
    int64_t budget = c->p->budget, smallest = 0, largest = 0;
    for (long g = 0; g < c->G; g++) {
        const gm_group *group = &c->group[g];
        int64_t least = group->option[0].w, most = least;
        for (int i = 1; i < group->options; i++) {
            int64_t w = group->option[i].w;
            least = w < least ? w : least, most = w > most ? w : most;
        }
        smallest += least, largest += most;
    }
    out->smallest = smallest;
    out->largest = largest;
    out->below = out->above = -1;
    out->neighbours_proven = true;
    if (budget >= smallest && !(c->exact && budget > largest)) return GM_OK;
    if (budget < smallest) out->above = smallest;
    if (budget > largest) out->below = largest;
    return gm_note(err, GM_EINFEASIBLE, "budget of %" PRId64 " %s: every "
                   "assignment is %s; smallest reachable %" PRId64
                   ", largest %" PRId64, budget,
                   c->p->unit ? c->p->unit : "units",
                   budget < smallest ? "larger" : "smaller", smallest, largest);
}

gm_status gm_core_prepare(gm_arena *arena, const gm_mckp *p, gm_core *c,
                          gm_certificate *out, gm_error *err) {
    *c = (gm_core){.p = p, .exact = p->exact,
                       .coupled = p->rows > 0 || p->pairs > 0};
    gm_status status = check_sums(p, err);
    if (status == GM_OK) status = find_groups(arena, c, err);
    if (status == GM_OK) status = sum_options(arena, c, err);
    if (status != GM_OK) return status;
    status = check_range(c, out, err);
    if (status != GM_OK) return status;
    for (long g = 0; g < c->G; g++) reduce_group(c, &c->group[g]);
    divide_sizes(c);
    c->room = (p->budget - c->size0) / c->unit;
    c->room_rest = c->exact && (p->budget - c->size0) % c->unit;
    return solve_lp(arena, c, err);
}

bool gm_core_feasible(const gm_core *c, int64_t room, const int *option,
                      int64_t *v, int64_t *w) {
    *v = *w = 0;
    for (long g = 0; g < c->G; g++) {
        *v += c->group[g].option[option[g]].v;
        *w += c->group[g].option[option[g]].w;
    }
    if (c->exact ? *w != room : *w > room) return false;
    for (long r = 0; r < c->p->rows; r++) {
        int64_t sum = 0;
        for (long g = 0; g < c->G; g++) sum += gm_core_cost(c, r, g, option[g]);
        if (sum > c->p->row[r].limit) return false;
    }
    for (long i = 0; i < c->p->pairs; i++) {
        const gm_pair *pair = &c->p->pair[i];
        long a = c->group_of[pair->m], b = c->group_of[pair->n];
        if (c->group[a].option[option[a]].k == pair->j &&
            c->group[b].option[option[b]].k == pair->k)
            return false;
    }
    return true;
}

/* ------------------------------------------------------------- certificate */

/* The multipliers in the problem's own units, and the bound that anyone can
   recompute from them with the budget as asked (not rounded down to `unit`,
   hence not simply c->lp). */
static void certify_bound(const gm_core *c, gm_certificate *t) {
    gm_wide num = c->lambda.num, den = (gm_wide)c->lambda.den * c->unit;
    t->rows = c->p->rows;
    t->lambda_num = (int64_t)num;
    t->lambda_den = (int64_t)den;
    for (long r = 0; r < t->rows; r++) t->mu_num[r] = c->mu[r];
    gm_wide left = c->p->budget - c->size0 - (gm_wide)c->unit * c->room;
    t->lp_bound = c->score0 + (int64_t)gm_ceil_div(c->lp * c->unit - num * left,
                                                   den);
}

static void certify(const gm_core *c, const gm_answer *a, gm_certificate *t) {
    int64_t v, w;
    t->found = a->found;
    t->bound = c->score0 + a->low;
    certify_bound(c, t);
    if (t->bound < t->lp_bound) t->bound = t->lp_bound;
    if (!a->found) return;
    bool good = gm_core_feasible(c, c->room, a->option, &v, &w);
    assert(good && v == a->high);
    (void)good;
    t->objective = c->score0 + v;
    t->size = c->size0 + w * c->unit;
    t->slack = c->p->budget - t->size;
    t->optimal = t->bound == t->objective;
    t->unique_rule = a->rule && t->optimal;
}

/* The largest reachable size <= budget (mirror: the smallest >= budget): the
   same program with score = -size. */
static bool reach(gm_arena *arena, const gm_mckp *p, bool mirror,
                  const gm_solve_options *options, int64_t *size) {
    gm_mckp q = *p;
    gm_certificate t;
    gm_solve_options plain = *options;
    size_t cells = (size_t)(p->M * p->K);
    q.rows = q.pairs = 0, q.exact = false;
    q.size = gm_alloc(arena, cells, sizeof *q.size);
    q.score = gm_alloc(arena, cells, sizeof *q.score);
    int *choice = gm_alloc(arena, (size_t)p->M, sizeof *choice);
    if (!q.size || !q.score || !choice) return false;
    for (size_t i = 0; i < cells; i++) {
        q.size[i] = mirror ? -p->size[i] : p->size[i];
        q.score[i] = -q.size[i];
    }
    if (mirror) q.budget = -p->budget;
    plain.solver = GM_DP, plain.any = true;
    gm_status status = gm_mckp_solve(arena, &q, &plain, choice, &t);
    if (t.found) *size = mirror ? -t.size : t.size;
    return status == GM_OK;
}

static gm_status unreachable(gm_arena *arena, const gm_mckp *p,
                             const gm_solve_options *options,
                             gm_certificate *t, gm_error *err) {
    gm_mark mark = gm_arena_mark(arena);
    bool below = reach(arena, p, false, options, &t->below);
    bool above = reach(arena, p, true, options, &t->above);
    gm_arena_rewind(arena, mark);
    t->neighbours_proven = below && above;
    if (p->rows || p->pairs)
        return gm_note(err, GM_EINFEASIBLE, "no assignment of exactly %" PRId64
                       " %s meets the constraints", p->budget,
                       p->unit ? p->unit : "units");
    return gm_note(err, GM_EINFEASIBLE, "no assignment has exactly %" PRId64
                   " %s; the %s reachable sizes are %" PRId64 " and %" PRId64,
                   p->budget, p->unit ? p->unit : "units",
                   t->neighbours_proven ? "next" : "nearest found", t->below,
                   t->above);
}

/* ------------------------------------------------------------ both solvers */

/* Merges what GLPK says (b) into what the dynamic program said (a). */
static gm_status combine(const gm_core *c, gm_status first,
                         gm_status second, gm_answer *a,
                         const gm_answer *b, gm_certificate *t,
                         gm_error *err) {
    t->glpk_objective = c->score0 + b->high;
    t->agreed = first == GM_OK && second == GM_OK && a->high == b->high;
    if (second != GM_OK && second != GM_ELIMIT) return second;
    if (first == GM_OK && (b->low > a->high || b->high < a->high))
        return gm_note(err, GM_EDIFFER, "the dynamic program found %" PRId64
                       ", GLPK %" PRId64, c->score0 + a->high,
                       c->score0 + b->high);
    if (first == GM_OK) return GM_OK;
    if (b->found && (!a->found || b->high < a->high || second == GM_OK)) {
        a->found = true, a->high = b->high, a->rule = b->rule;
        memcpy(a->option, b->option, (size_t)c->G * sizeof *a->option);
    }
    if (b->low > a->low) a->low = b->low;
    return second;
}

static gm_status run_solvers(gm_arena *arena, gm_core *c,
                             const gm_solve_options *options,
                             gm_answer *a, gm_certificate *t,
                             gm_error *err) {
    gm_answer b = {0};
    bool dp = options->solver != GM_GLPK && !c->coupled;
    bool glpk = options->solver != GM_DP && gm_have_glpk();
    gm_status status = GM_ELIMIT;
    b.option = gm_alloc(arena, (size_t)c->G, sizeof *b.option);
    if (c->coupled && !glpk)
        return gm_note(err, GM_EUSAGE, "extra rows, limits on a candidate and "
                       "forbidden pairs need GLPK%s", gm_have_glpk() ? "" :
                       ", and this program was built without it");
    if (!dp && !glpk)
        return gm_note(err, GM_EUSAGE, "this program was built without GLPK "
                       "(make GLPK=0)");
    if (dp) status = gm_dynamic_solve(arena, c, options, a, t, err);
    if (dp && (!glpk || (status != GM_OK && status != GM_ELIMIT) ||
               (status == GM_OK && !a->found)))
        return status;
    if (dp && status == GM_OK) {    /* leaves GLPK only columns that matter */
        b.found = true, b.high = a->high;
        memcpy(b.option, a->option, (size_t)c->G * sizeof *b.option);
    }
    bool ties = status != GM_OK && !options->any;
    gm_status second = gm_glpk_solve(arena, c, options, ties, dp ? &b : a, t,
                                     err);
    if (dp) return combine(c, status, second, a, &b, t, err);
    t->glpk_objective = c->score0 + a->high;
    return second;
}

gm_status gm_mckp_solve(gm_arena *arena, const gm_mckp *problem,
                        const gm_solve_options *options, int *choice,
                        gm_certificate *out) {
    gm_core c;
    gm_answer a = {0};
    gm_error why = {0}, *err = &why;
    *out = (gm_certificate){0};
    gm_mark mark = gm_arena_mark(arena);
    gm_status status = gm_core_prepare(arena, problem, &c, out, err);
    if (status == GM_OK && c.room_rest) {
        status = unreachable(arena, problem, options, out, err);
    } else if (status == GM_OK) {
        a.option = gm_alloc(arena, (size_t)c.G, sizeof *a.option);
        status = a.option ? run_solvers(arena, &c, options, &a, out, err)
                          : gm_note(err, GM_EMEM, "out of memory");
        if (status == GM_OK && !a.found && c.exact)
            status = unreachable(arena, problem, options, out, err);
        else if (status == GM_OK && !a.found)
            status = gm_note(err, GM_EINFEASIBLE, "no assignment meets the "
                             "budget together with the other constraints");
        if (status == GM_OK || status == GM_ELIMIT || status == GM_EDIFFER)
            certify(&c, &a, out);
        for (long m = 0; a.found && m < problem->M; m++) {
            const gm_group *group = &c.group[c.group_of[m]];
            choice[m] = group->option[a.option[c.group_of[m]]].k;
        }
    }
    if (status == GM_ELIMIT)
        gm_note(err, status, "limit reached before a proof: objective %s%"
                PRId64 ", bound %" PRId64, a.found ? "" : "none found, at most ",
                a.found ? out->objective : c.score0 + c.most_v, out->bound);
    gm_arena_rewind(arena, mark);
    if (status && status != GM_ELIMIT && status != GM_EINFEASIBLE &&
        status != GM_EDIFFER)
        gm_fail(status, "%s", why.text);
    memcpy(out->why, why.text, sizeof out->why);
    return status;
}

void gm_mckp_new(gm_arena *arena, long M, int K, gm_mckp *out) {
    size_t cells = (size_t)M * (size_t)K;
    *out = (gm_mckp){.M = M, .K = K};
    out->size = gm_alloc(arena, cells, sizeof *out->size);
    out->score = gm_alloc(arena, cells, sizeof *out->score);
    out->allowed = gm_alloc(arena, cells, sizeof *out->allowed);
    memset(out->allowed, true, cells);
}
