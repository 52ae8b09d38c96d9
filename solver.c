/* solver.c: Stage II, the integer program [GAMMA]: preparation, LP bound, the
   dynamic program, the certificate.

     minimise sum_mk u_mk x_mk   s.t.  sum_k x_mk = 1,
              sum_mk s_mk x_mk <= B (or = B),  x binary,  couplings

   All decisions are taken on integers.  The second solver, GLPK, is glpk.c.
   May touch: memory and the clock.
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
        return gm_fail(err, GM_EINPUT, "integer program: expected at least 1 "
                       "module and 1 to %d candidates, found %ld and %d",
                       GM_MAX_CANDIDATES, p->M, p->K);
    if (p->rows < 0 || p->rows > GM_MAX_ROWS)
        return gm_fail(err, GM_EINPUT, "integer program: expected at most %d "
                       "extra rows, found %ld", GM_MAX_ROWS, p->rows);
    for (long m = 0; m < p->M; m++) {
        gm_wide s = 0, u = 0;
        for (long i = m * p->K; i < (m + 1) * p->K; i++) {
            if (!p->allowed[i]) continue;
            gm_wide a = magnitude(p->size[i]), b = magnitude(p->score[i]);
            for (long r = 0; r < p->rows; r++) a += magnitude(p->row[r].cost[i]);
            s = a > s ? a : s, u = b > u ? b : u;
        }
        size += s, score += u;
    }
    if (magnitude(p->budget) > limit)
        return gm_fail(err, GM_EINPUT, "integer program: budget beyond 2^61");
    if (size >= limit || score >= limit)
        return gm_fail(err, GM_EINPUT, "integer program: sizes, costs or scores "
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
    if (!c->group_of || !c->group || !c->next || !seen) return gm_nomem(err);
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
    if (!all || !members) return gm_nomem(err);
    long *size = gm_alloc(arena, (size_t)c->G, sizeof *size);
    if (!size) return gm_nomem(err);
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
        gm_fail(err, GM_EINFEASIBLE, "module %s: the constraints leave it no "
                "candidate", p->name ? p->name[group->module] : "?");
        return GM_EINFEASIBLE;
    }
    return GM_OK;
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
    for (long g = 0; g < c->G && !c->coupled; g++)
        for (int i = 0; i < c->group[g].options; i++)
            c->unit = gm_gcd(c->unit, c->group[g].option[i].w);
    if (c->unit == 0) c->unit = 1;
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
    if (!step) return gm_nomem(err);
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
    return gm_fail(err, GM_EINFEASIBLE, "budget of %" PRId64 " %s: every "
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

/* ------------------------------------------------------ the dynamic program

   Every state is a complete assignment: groups not yet visited stand at their
   base choice.  Groups are visited in order of how close their rates lie to
   lambda (the "core" first, Pisinger 1995), so good assignments appear early
   and far groups rarely move.  A state (w, v) is dropped when
     - another is no larger and no worse (exact: has the same w and is no
       worse).  Of states equal in both, the lexicographically smaller stays;
     - no completion can reach the target value: groups still to come sell score
       at a rate of at most `up` and buy back size at `down` or dearer,
       v - up (room - w) > target, or v + down (w - room) > target;
     - identical groups would not be in ascending order of candidates.
   None of these can drop the assignment that the tie rule asks for: a prefix
   of it that was beaten, or equalled by a smaller one, would give a better or
   smaller assignment with the same completion. */

struct state { int64_t w, v; uint32_t node; };
struct node { uint32_t parent, item, option; };     /* only for non-base */

/* A growing array; its arena holds nothing else. */
struct table { gm_arena arena; void *data; size_t fill, room, item; };

struct item {
    long group;
    bool twin;                  /* same options as the item before it        */
    double key;
    gm_slope up, down;      /* of this group, from its base              */
};

struct dp {
    const gm_core *c;
    const gm_solve_options *options;
    struct item *item;          /* [G], visiting order                       */
    gm_slope *up, *down;    /* [G+1] best over items i..                 */
    int64_t *grow, *shrink;     /* [G+1] size that items i.. can add, remove */
    struct table now, next, node;
    size_t memory, limit, peak; /* bytes of the three tables                 */
    long states;                /* ever kept                                 */
    double start, deadline;
    int64_t target;             /* keep what may reach v <= target           */
    int64_t high;               /* finds must lie below this                 */
    bool strict;                /* lower target below each find; no ties     */
    bool found;
    struct state best;
};

static bool enlarge(struct dp *d, struct table *t) {
    size_t room = t->room ? 2 * t->room : 1024, bytes = room * t->item;
    if (bytes > d->limit || d->memory > d->limit - bytes) return false;
    struct table big = {.fill = t->fill, .room = room, .item = t->item};
    big.data = gm_alloc(&big.arena, room, t->item);
    if (!big.data) return false;
    if (d->memory + bytes > d->peak) d->peak = d->memory + bytes;
    if (t->fill) memcpy(big.data, t->data, t->fill * t->item);
    gm_arena_free(&t->arena);
    d->memory += bytes - t->room * t->item;
    *t = big;
    return true;
}

static gm_slope steeper(gm_slope a, gm_slope b, bool largest) {
    if (a.den == 0 || b.den == 0) return a.den ? a : b;
    bool more = (gm_wide)a.num * b.den > (gm_wide)b.num * a.den;
    return more == largest ? a : b;
}

static double slope_value(gm_slope s) {
    return (double)s.num / (double)s.den;
}

/* Rates at which the group leaves its base: up = best score per added size,
   down = cheapest score per removed size; up <= lambda <= down. */
static void item_rates(const gm_core *c, struct item *item) {
    const gm_group *group = &c->group[item->group];
    const gm_choice *b = &group->option[group->base];
    item->up = item->down = (gm_slope){0, 0};
    for (int i = 0; i < group->options; i++) {
        const gm_choice *o = &group->option[i];
        if (o->w > b->w)
            item->up = steeper((gm_slope){b->v - o->v, o->w - b->w},
                               item->up, true);
        if (o->w < b->w)
            item->down = steeper((gm_slope){o->v - b->v, b->w - o->w},
                                 item->down, false);
    }
    double lambda = slope_value(c->lambda);
    item->key = INFINITY;
    if (item->up.den) item->key = lambda - slope_value(item->up);
    if (item->down.den)
        item->key = fmin(item->key, slope_value(item->down) - lambda);
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

struct sorted { struct item item; const gm_group *group; };

static int by_visit(const void *a, const void *b) {
    const struct sorted *x = a, *y = b;
    if (x->item.key != y->item.key) return x->item.key < y->item.key ? -1 : 1;
    int order = gm_core_compare(x->group, y->group);
    return order ? order : x->item.group < y->item.group ? -1 : 1;
}

/* Identical groups' bases in ascending candidate order (which of them moved up
   in the LP is arbitrary). */
static void sort_bases(gm_core *c, struct item *item, long n) {
    for (long i = 1; i < n; i++)
        for (long j = i; j > 0 && item[j].twin; j--) {
            gm_group *a = &c->group[item[j - 1].group];
            gm_group *b = &c->group[item[j].group];
            if (a->option[a->base].k <= b->option[b->base].k) break;
            int t = a->base;
            a->base = b->base, b->base = t;
        }
}

static gm_status order_items(gm_arena *arena, gm_core *c, struct dp *d,
                             gm_error *err) {
    struct sorted *s = gm_alloc(arena, (size_t)c->G, sizeof *s);
    d->item = gm_alloc(arena, (size_t)c->G, sizeof *d->item);
    if (!s || !d->item) return gm_nomem(err);
    for (long g = 0; g < c->G; g++) {
        s[g] = (struct sorted){{.group = g}, &c->group[g]};
        item_rates(c, &s[g].item);
    }
    qsort(s, (size_t)c->G, sizeof *s, by_visit);
    for (long i = 0; i < c->G; i++) {
        d->item[i] = s[i].item;
        d->item[i].twin =
            i > 0 && gm_core_compare(s[i].group, s[i - 1].group) == 0;
    }
    sort_bases(c, d->item, c->G);
    for (long i = 0; i < c->G; i++) item_rates(c, &d->item[i]);
    return GM_OK;
}

/* Bounds over the items still to come. */
static gm_status suffixes(gm_arena *arena, struct dp *d, gm_error *err) {
    const gm_core *c = d->c;
    size_t n = (size_t)c->G + 1;
    d->up = gm_alloc(arena, n, sizeof *d->up);
    d->down = gm_alloc(arena, n, sizeof *d->down);
    d->grow = gm_alloc(arena, n, sizeof *d->grow);
    d->shrink = gm_alloc(arena, n, sizeof *d->shrink);
    if (!d->up || !d->down || !d->grow || !d->shrink) return gm_nomem(err);
    for (long i = c->G - 1; i >= 0; i--) {
        const gm_group *group = &c->group[d->item[i].group];
        int64_t base = group->option[group->base].w;
        d->up[i] = steeper(d->item[i].up, d->up[i + 1], true);
        d->down[i] = steeper(d->item[i].down, d->down[i + 1], false);
        d->grow[i] = d->grow[i + 1] +
                     group->option[group->options - 1].w - base;
        d->shrink[i] = d->shrink[i + 1] + base - group->option[0].w;
    }
    return GM_OK;
}

/* Nothing that items i.. can do brings (w, v) within room and target. */
static bool hopeless(const struct dp *d, long i, int64_t w, int64_t v) {
    int64_t over = w - d->c->room;
    if (over > d->shrink[i]) return true;
    if (d->c->exact && -over > d->grow[i]) return true;
    gm_slope s = over > 0 ? d->down[i] : d->up[i];
    if (s.den == 0) return v > d->target;
    return (gm_wide)v * s.den + (gm_wide)over * s.num > (gm_wide)d->target * s.den;
}

/* Options x and y of item i differ: notes the first module and the smaller
   side in *module, *first_is_less when it comes before those seen so far. */
static void note_difference(const struct dp *d, long i, uint32_t x, uint32_t y,
                            long *module, bool *less) {
    const gm_group *group = &d->c->group[d->item[i].group];
    if (x == y || group->module >= *module) return;
    *module = group->module;
    *less = group->option[x].k < group->option[y].k;
}

static uint32_t base_of(const struct dp *d, uint32_t item) {
    return (uint32_t)d->c->group[d->item[item].group].base;
}

/* Assignment (node a, option x at item i) is lexicographically smaller than
   (b, y).  Nodes of later items have higher numbers; a chain lists only the
   items that left their base. */
static bool lex_less(const struct dp *d, long i, uint32_t a, uint32_t x,
                     uint32_t b, uint32_t y) {
    const struct node *node = d->node.data;
    long module = d->c->p->M;
    bool less = false;
    note_difference(d, i, x, y, &module, &less);
    while (a != b) {
        uint32_t ia = node[a].item, ib = node[b].item;
        bool move_a = a && (!b || ia >= ib), move_b = b && (!a || ib >= ia);
        uint32_t item = move_a ? ia : ib;
        note_difference(d, item, move_a ? node[a].option : base_of(d, item),
                        move_b ? node[b].option : base_of(d, item), &module,
                        &less);
        if (move_a) a = node[a].parent;
        if (move_b) b = node[b].parent;
    }
    return less;
}

/* The list shifted by one option, read in order of (w, v). */
struct cursor { int64_t w, v; size_t at; uint32_t option; };

static bool earlier(const struct cursor *a, const struct cursor *b) {
    return a->w != b->w ? a->w < b->w : a->v < b->v;
}

static void sift(struct cursor *heap, int n, int i) {
    for (int j; (j = 2 * i + 1) < n; i = j) {
        if (j + 1 < n && earlier(&heap[j + 1], &heap[j])) j++;
        if (!earlier(&heap[j], &heap[i])) return;
        struct cursor t = heap[i];
        heap[i] = heap[j], heap[j] = t;
    }
}

/* Cursors for the options of item i that can still matter. */
static int open_cursors(const struct dp *d, long i, struct cursor *heap) {
    const gm_core *c = d->c;
    const gm_group *group = &c->group[d->item[i].group];
    const gm_choice *o = group->option, *b = &o[group->base];
    const struct state *first = d->now.data;
    int n = 0;
    for (int k = 0; k < group->options; k++) {
        gm_wide bound = c->lp + gm_core_excess(c, d->item[i].group, k);
        if (bound > (gm_wide)d->target * c->lambda.den) continue;
        heap[n++] = (struct cursor){first->w + o[k].w - b->w,
                                    first->v + o[k].v - b->v, 0, (uint32_t)k};
    }
    for (int j = n / 2 - 1; j >= 0; j--) sift(heap, n, j);
    return n;
}

/* Moves the first cursor on; returns how many are left. */
static int advance(const struct dp *d, struct cursor *heap, int n) {
    const struct state *s = (const struct state *)d->now.data + heap->at;
    if (++heap->at == d->now.fill) {
        heap[0] = heap[--n];
    } else {
        heap->w += s[1].w - s[0].w;
        heap->v += s[1].v - s[0].v;
    }
    sift(heap, n, 0);
    return n;
}

/* A candidate state before it gets a node. */
struct draft { int64_t w, v; uint32_t parent, option; bool set; };

/* Ascending order among twins: item i may not go below the item before it. */
static bool out_of_order(const struct dp *d, long i, const struct draft *s) {
    if (!d->item[i].twin) return false;
    const struct node *node = d->node.data;
    const gm_group *group = &d->c->group[d->item[i].group];
    uint32_t before = (uint32_t)(i - 1);
    uint32_t option = s->parent && node[s->parent].item == before
                          ? node[s->parent].option : base_of(d, before);
    return group->option[s->option].k < group->option[option].k;
}

static bool keep(struct dp *d, long i, const struct draft *s) {
    if (!s->set) return true;
    if (d->next.fill == d->next.room && !enlarge(d, &d->next)) return false;
    if (d->node.fill == d->node.room && !enlarge(d, &d->node)) return false;
    if (d->node.fill == UINT32_MAX) return false;
    uint32_t id = s->parent;
    if (s->option != base_of(d, (uint32_t)i)) {
        id = (uint32_t)d->node.fill++;
        ((struct node *)d->node.data)[id] =
            (struct node){s->parent, (uint32_t)i, s->option};
    }
    ((struct state *)d->next.data)[d->next.fill++] =
        (struct state){s->w, s->v, id};
    d->states++;
    return true;
}

/* Whether `s`, not before `last` in (w, v), is beaten by it; an equal state
   that is lexicographically smaller takes its place. */
static bool beaten(const struct dp *d, long i, const struct draft *s,
                   struct draft *last) {
    if (!last->set) return false;
    if (d->c->exact ? s->w != last->w : s->v < last->v) return false;
    if (s->w == last->w && s->v == last->v &&
        lex_less(d, i, s->parent, s->option, last->parent, last->option))
        *last = *s;
    return true;
}

/* Merges the shifted lists of item i from `now` into `next`. */
static gm_status visit(struct dp *d, long i) {
    struct cursor heap[GM_MAX_CANDIDATES];
    struct draft last = {0};
    int n = open_cursors(d, i, heap);
    d->next.fill = 0;
    for (long tick = 1; n > 0; tick++) {
        const struct state *from = d->now.data;
        struct draft s = {heap->w, heap->v, from[heap->at].node, heap->option,
                          true};
        n = advance(d, heap, n);
        if (out_of_order(d, i, &s) || hopeless(d, i + 1, s.w, s.v)) continue;
        if (beaten(d, i, &s, &last)) continue;
        if (!keep(d, i, &last)) return GM_ELIMIT;
        last = s;
        if (tick % 4096 == 0 && d->deadline > 0 && gm_seconds() > d->deadline)
            return GM_ELIMIT;
    }
    if (!keep(d, i, &last)) return GM_ELIMIT;
    struct table t = d->now;
    d->now = d->next, d->next = t;
    return GM_OK;
}

/* The best state of the list that meets the budget: v falls as w grows. */
static void update_best(struct dp *d) {
    const struct state *s = d->now.data;
    size_t low = 0, high = d->now.fill;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s[middle].w <= d->c->room) low = middle + 1;
        else high = middle;
    }
    if (low == 0 || (d->c->exact && s[low - 1].w != d->c->room)) return;
    if (s[low - 1].v >= d->high) return;
    d->found = true;
    d->best = s[low - 1];
    if (!d->strict) return;
    d->high = d->best.v;
    if (d->target >= d->high) d->target = d->high - 1;
}

/* Visits everything of value <= target.  d->best: the best of value < high
   that came by, d->found if any.  Without `strict` and with target the optimum
   it is the one the tie rule asks for. */
static gm_status search(struct dp *d, int64_t target, int64_t high,
                        bool strict) {
    d->target = target;
    d->high = high;
    d->strict = strict;
    d->found = false;
    d->now.fill = d->next.fill = d->node.fill = 0;
    for (struct table *t = &d->now; t <= &d->node; t++)
        if (!t->room && !enlarge(d, t)) return GM_ELIMIT;
    d->node.fill = 1;           /* node 0: all at base */
    *(struct state *)d->now.data = (struct state){d->c->w0, d->c->v0, 0};
    d->now.fill = hopeless(d, 0, d->c->w0, d->c->v0) ? 0 : 1;
    gm_status status = GM_OK;
    for (long i = 0; status == GM_OK && d->now.fill && i < d->c->G; i++) {
        update_best(d);
        status = visit(d, i);
        if (d->deadline > 0 && gm_seconds() > d->deadline) status = GM_ELIMIT;
        if (gm_seconds() > d->start + 1)    /* most take milliseconds */
            gm_say(d->options->report, "dynamic program", i, d->c->G);
    }
    if (status == GM_OK && d->now.fill) update_best(d);
    return status;
}

/* Option of each group in the found assignment. */
static void unwind(const struct dp *d, const struct state *s, int *option) {
    const struct node *node = d->node.data;
    for (long g = 0; g < d->c->G; g++) option[g] = d->c->group[g].base;
    for (uint32_t a = s->node; a; a = node[a].parent)
        option[d->item[node[a].item].group] = (int)node[a].option;
}

/* A first incumbent: from the base choices (they fit), again and again the
   change of one group, or of two among those nearest to lambda, that saves most
   and still fits.  Pairs matter: a good incumbent fixes most columns of GLPK's
   model (exact 4,096 x 1,024 sizes with odd bytes: gap 488,000 -> 26,000). */

enum { NEAR = 64 };

struct move { long g, h; int i, j; int64_t gain; };

static void try_move(const gm_core *c, const int *option, int64_t left,
                     struct move *best, long g, long h) {
    const gm_group *a = &c->group[g], *b = &c->group[h];
    const gm_choice *x = &a->option[option[g]], *y = &b->option[option[h]];
    for (int i = 0; i < a->options; i++) {
        int64_t dw = a->option[i].w - x->w, gain = x->v - a->option[i].v;
        for (int j = 0; j < (g == h ? 1 : b->options); j++) {
            int64_t more = dw, sum = gain;
            if (g != h) more += b->option[j].w - y->w;
            if (g != h) sum += y->v - b->option[j].v;
            if (more <= left && sum > best->gain)
                *best = (struct move){g, h, i, j, sum};
        }
    }
}

/* The groups whose rates lie nearest to lambda; returns how many. */
static int nearest(const gm_core *c, long *near) {
    double key[NEAR];
    int n = 0;
    for (long g = 0; g < c->G; g++) {
        struct item item = {.group = g};
        item_rates(c, &item);
        int at = n < NEAR ? n++ : NEAR;
        for (; at > 0 && key[at - 1] > item.key; at--)
            if (at < NEAR) key[at] = key[at - 1], near[at] = near[at - 1];
        if (at < NEAR) key[at] = item.key, near[at] = g;
    }
    return n;
}

int64_t gm_core_greedy(const gm_core *c, int *option) {
    long near[NEAR];
    int64_t left = c->room - c->w0, v = c->v0;
    int n = nearest(c, near);
    for (long g = 0; g < c->G; g++) option[g] = c->group[g].base;
    for (int pass = 0; pass < 1000; pass++) {
        struct move m = {.gain = 0};
        for (long g = 0; g < c->G; g++) try_move(c, option, left, &m, g, g);
        for (int x = 0; x < n && m.gain == 0; x++)
            for (int y = 0; y < x; y++)
                try_move(c, option, left, &m, near[x], near[y]);
        if (m.gain == 0) break;
        const gm_choice *a = c->group[m.g].option;
        const gm_choice *b = c->group[m.h].option;
        left -= a[m.i].w - a[option[m.g]].w;
        if (m.h != m.g) left -= b[m.j].w - b[option[m.h]].w;
        option[m.g] = m.i;
        if (m.h != m.g) option[m.h] = m.j;
        v -= m.gain;
    }
    return v;
}

/* Optimum first (targets from the LP bound upwards, so that a poor incumbent
   costs little), then the tie rule among the assignments that reach it. */
static gm_status search_optimum(struct dp *d, gm_answer *a) {
    gm_status status = GM_OK;
    int64_t step = (a->high - a->low) / 4096 + 1;
    while (status == GM_OK && a->low < a->high) {
        int64_t most = a->high - 1 - a->low;
        int64_t target = a->low + (step < most ? step : most);
        status = search(d, target, a->high, true);
        if (d->found) {
            a->high = d->best.v;
            a->found = true;
            unwind(d, &d->best, a->option);
        }
        if (status == GM_OK) a->low = a->high <= target ? a->high : target + 1;
        step = step < most ? step * 16 : step;
    }
    if (status != GM_OK || !a->found || d->options->any) return status;
    a->rule = search(d, a->high, a->high + 1, false) == GM_OK;
    assert(!a->rule || d->found);
    if (a->rule) unwind(d, &d->best, a->option);
    return GM_OK;
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

static void dp_free(struct dp *d) {
    gm_arena_free(&d->now.arena);
    gm_arena_free(&d->next.arena);
    gm_arena_free(&d->node.arena);
}

/* The dynamic program.  GM_ELIMIT: a->low and a->high are what is known. */
static gm_status solve_dp(gm_arena *arena, gm_core *c,
                          const gm_solve_options *options, gm_answer *a,
                          gm_certificate *out, gm_error *err) {
    double start = gm_seconds();
    struct dp d = {.c = c, .options = options, .start = start};
    d.now.item = d.next.item = sizeof(struct state);
    d.node.item = sizeof(struct node);
    d.limit = options->memory ? options->memory : (size_t)1 << 30;
    if (options->seconds > 0) d.deadline = start + options->seconds;
    gm_mark mark = gm_arena_mark(arena);
    gm_status status = order_items(arena, c, &d, err);
    if (status == GM_OK) status = suffixes(arena, &d, err);
    if (status == GM_OK) {
        a->low = (int64_t)gm_ceil_div(c->lp, c->lambda.den);
        a->high = c->most_v + 1;
        a->found = !c->exact;
        if (a->found) a->high = gm_core_greedy(c, a->option);
        status = search_optimum(&d, a);
    }
    out->dp_ran = true;
    out->states = d.states;
    out->memory = d.peak;
    dp_free(&d);
    gm_arena_rewind(arena, mark);
    out->dp_seconds = gm_seconds() - start;
    return status;
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
    gm_status status = gm_mckp_solve(arena, &q, &plain, choice, &t, NULL);
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
        return gm_fail(err, GM_EINFEASIBLE, "no assignment of exactly %" PRId64
                       " %s meets the constraints", p->budget,
                       p->unit ? p->unit : "units");
    return gm_fail(err, GM_EINFEASIBLE, "no assignment has exactly %" PRId64
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
        return gm_fail(err, GM_EDIFFER, "the dynamic program found %" PRId64
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
    if (!b.option) return gm_nomem(err);
    if (c->coupled && !glpk)
        return gm_fail(err, GM_EUSAGE, "extra rows, limits on a candidate and "
                       "forbidden pairs need GLPK%s", gm_have_glpk() ? "" :
                       ", and this program was built without it");
    if (!dp && !glpk)
        return gm_fail(err, GM_EUSAGE, "this program was built without GLPK "
                       "(make GLPK=0)");
    if (dp) status = solve_dp(arena, c, options, a, t, err);
    if (dp && (!glpk || (status != GM_OK && status != GM_ELIMIT) ||
               (status == GM_OK && !a->found)))
        return status;
    bool ties = status != GM_OK && !options->any;
    gm_status second = gm_glpk_solve(arena, c, options, ties, dp ? &b : a, t,
                                     err);
    if (dp) return combine(c, status, second, a, &b, t, err);
    t->glpk_objective = c->score0 + a->high;
    return second;
}

gm_status gm_mckp_solve(gm_arena *arena, const gm_mckp *problem,
                        const gm_solve_options *options, int *choice,
                        gm_certificate *out, gm_error *err) {
    gm_core c;
    gm_answer a = {0};
    *out = (gm_certificate){0};
    gm_mark mark = gm_arena_mark(arena);
    gm_status status = gm_core_prepare(arena, problem, &c, out, err);
    if (status == GM_OK && c.room_rest) {
        status = unreachable(arena, problem, options, out, err);
    } else if (status == GM_OK) {
        a.option = gm_alloc(arena, (size_t)c.G, sizeof *a.option);
        status = a.option ? run_solvers(arena, &c, options, &a, out, err)
                          : gm_nomem(err);
        if (status == GM_OK && !a.found && c.exact)
            status = unreachable(arena, problem, options, out, err);
        else if (status == GM_OK && !a.found)
            status = gm_fail(err, GM_EINFEASIBLE, "no assignment meets the "
                             "budget together with the other constraints");
        if (status == GM_OK || status == GM_ELIMIT || status == GM_EDIFFER)
            certify(&c, &a, out);
        for (long m = 0; a.found && m < problem->M; m++) {
            const gm_group *group = &c.group[c.group_of[m]];
            choice[m] = group->option[a.option[c.group_of[m]]].k;
        }
    }
    if (status == GM_ELIMIT)
        gm_fail(err, status, "limit reached before a proof: objective %s%"
                PRId64 ", bound %" PRId64, a.found ? "" : "none found, at most ",
                a.found ? out->objective : c.score0 + c.most_v, out->bound);
    gm_arena_rewind(arena, mark);
    return status;
}

gm_status gm_mckp_new(gm_arena *arena, long M, int K, gm_mckp *out,
                      gm_error *err) {
    size_t cells = (size_t)M * (size_t)K;
    *out = (gm_mckp){.M = M, .K = K};
    out->size = gm_alloc(arena, cells, sizeof *out->size);
    out->score = gm_alloc(arena, cells, sizeof *out->score);
    out->allowed = gm_alloc(arena, cells, sizeof *out->allowed);
    if (!out->size || !out->score || !out->allowed) return gm_nomem(err);
    memset(out->allowed, true, cells);
    return GM_OK;
}
