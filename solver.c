/* solver.c: Stage II, the integer program [GAMMA], solved twice.

     minimise sum_mk u_mk x_mk   s.t.  sum_k x_mk = 1,
              sum_mk s_mk x_mk <= B (or = B),  x binary,  couplings

   Three parts: preparation (exact reductions, LP bound), the dynamic program,
   GLPK.  All decisions are taken on integers; GLPK's answers are recomputed.
   May touch: memory, the clock, GLPK, and the file of --lp.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifndef GM_NO_GLPK
#include <glpk.h>
#include <setjmp.h>
#endif

typedef __int128 wide;

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

struct option { int64_t w, v; int k; };

struct group {
    long module;                /* first of its modules                      */
    int options, base;          /* base: choice of the LP prefix, see below  */
    struct option *option;      /* ascending in w, then v, then k            */
};

/* A slope num/den; den = 0: there is none. */
struct slope { int64_t num, den; };

struct core {
    const gm_mckp *p;
    long G;
    struct group *group;
    long *group_of, *next;      /* [M]; next: module of the same group or -1 */
    int64_t size0, score0, unit, room;
    bool room_rest;             /* exact, and unit does not divide the room  */
    bool exact, coupled;        /* coupled: rows or pairs */
    struct slope lambda;        /* score per w                              */
    int64_t w0, v0;             /* sums over the base choices               */
    wide lp;                    /* lambda.den * (v0 + lambda (w0 - room))   */
    int64_t most_v;             /* sum of the largest v                     */
};

static int64_t gcd(int64_t a, int64_t b) {
    while (b) {
        int64_t t = a % b;
        a = b, b = t;
    }
    return a;
}

static wide ceil_div(wide a, wide b) {          /* b > 0 */
    return a / b + (a % b > 0);
}

static int by_size(const void *a, const void *b) {
    const struct option *x = a, *y = b;
    if (x->w != y->w) return x->w < y->w ? -1 : 1;
    if (x->v != y->v) return x->v < y->v ? -1 : 1;
    return x->k - y->k;
}

/* Sums of |largest| must stay below 2^61: then no sum, difference or product
   with a slope below overflows 64 (sums) or 128 bits (products). */
static gm_status check_sums(const gm_mckp *p, gm_error *err) {
    wide size = 0, score = 0, limit = (wide)1 << 61;
    if (p->M < 1 || p->K < 1 || p->K > GM_MAX_CANDIDATES)
        return gm_fail(err, GM_EINPUT, "integer program: expected at least 1 "
                       "module and 1 to %d candidates, found %ld and %d",
                       GM_MAX_CANDIDATES, p->M, p->K);
    for (long m = 0; m < p->M; m++) {
        wide s = 0, u = 0;
        for (long i = m * p->K; i < (m + 1) * p->K; i++) {
            if (!p->allowed[i]) continue;
            wide a = p->size[i], b = p->score[i];
            a = a < 0 ? -a : a, b = b < 0 ? -b : b;
            s = a > s ? a : s, u = b > u ? b : u;
        }
        size += s, score += u;
    }
    if (size >= limit || score >= limit)
        return gm_fail(err, GM_EINPUT, "integer program: sizes or scores sum "
                       "to 2^61 or more");
    return GM_OK;
}

/* group_of and G: fused modules share a group; groups in module order. */
static gm_status find_groups(gm_arena *arena, struct core *c, gm_error *err) {
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
static gm_status sum_options(gm_arena *arena, struct core *c, gm_error *err) {
    const gm_mckp *p = c->p;
    size_t cells = (size_t)(c->G * p->K);
    struct option *all = gm_alloc(arena, cells, sizeof *all);
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
        struct group *group = &c->group[g];
        group->option = all + g * p->K;
        for (int k = 0; k < p->K; k++)
            if (members[g * p->K + k] == size[g]) {
                struct option o = group->option[k];
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
static void reduce_group(struct core *c, struct group *group) {
    struct option *o = group->option;
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

static void divide_sizes(struct core *c) {
    c->unit = 0;
    for (long g = 0; g < c->G; g++)
        for (int i = 0; i < c->group[g].options; i++)
            c->unit = gcd(c->unit, c->group[g].option[i].w);
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

struct step { long group; int to; int64_t dw, gain; };

static int by_rate(const void *a, const void *b) {
    const struct step *x = a, *y = b;
    wide l = (wide)x->gain * y->dw, r = (wide)y->gain * x->dw;
    if (l != r) return l > r ? -1 : 1;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    return x->to - y->to;
}

/* Appends the hull steps of group g; returns how many. */
static long hull_steps(const struct core *c, long g, struct step *step) {
    const struct option *o = c->group[g].option;
    int corner[GM_MAX_CANDIDATES], n = 0;
    for (int i = 0; i < c->group[g].options; i++) {
        if (n && o[corner[n - 1]].w == o[i].w) continue;
        if (n && !c->exact && o[corner[n - 1]].v <= o[i].v) continue;
        while (n >= 2) {
            const struct option *a = &o[corner[n - 2]], *b = &o[corner[n - 1]];
            wide ab = (wide)(a->v - b->v) * (o[i].w - b->w);
            wide bc = (wide)(b->v - o[i].v) * (b->w - a->w);
            if (ab >= bc) break;        /* rates fall: b is a corner */
            n--;
        }
        corner[n++] = i;
    }
    for (int j = 1; j < n; j++) {
        const struct option *a = &o[corner[j - 1]], *b = &o[corner[j]];
        step[j - 1] = (struct step){g, corner[j], b->w - a->w, a->v - b->v};
    }
    return n - 1;
}

static gm_status solve_lp(gm_arena *arena, struct core *c, gm_error *err) {
    gm_mark mark = gm_arena_mark(arena);
    struct step *step = gm_alloc(arena, (size_t)(c->G * c->p->K), sizeof *step);
    if (!step) return gm_nomem(err);
    long n = 0, i = 0;
    for (long g = 0; g < c->G; g++) {
        c->group[g].base = 0;
        c->v0 += c->group[g].option[0].v;
        n += hull_steps(c, g, step + n);
    }
    qsort(step, (size_t)n, sizeof *step, by_rate);
    for (; i < n && c->w0 + step[i].dw <= c->room; i++) {
        c->group[step[i].group].base = step[i].to;
        c->w0 += step[i].dw;
        c->v0 -= step[i].gain;
    }
    c->lambda = (struct slope){0, 1};
    if (i == n && c->exact) i = n - 1;  /* any rate up to the last will do */
    if (i >= 0 && i < n) {
        int64_t d = gcd(step[i].gain < 0 ? -step[i].gain : step[i].gain,
                        step[i].dw);
        c->lambda = (struct slope){step[i].gain / d, step[i].dw / d};
    }
    c->lp = (wide)c->v0 * c->lambda.den +
            (wide)c->lambda.num * (c->w0 - c->room);
    gm_arena_rewind(arena, mark);
    return GM_OK;
}

/* den * (bound on all assignments with option i in group g):
   the LP value plus the option's reduced cost. */
static wide option_bound(const struct core *c, long g, int i) {
    const struct option *o = &c->group[g].option[i];
    const struct option *b = &c->group[g].option[c->group[g].base];
    return c->lp + (wide)c->lambda.den * (o->v - b->v) +
           (wide)c->lambda.num * (o->w - b->w);
}

/* Fills smallest and largest (before anything is dropped); GM_EINFEASIBLE when
   the budget lies outside. */
static gm_status check_range(const struct core *c, gm_certificate *out,
                             gm_error *err) {
    int64_t budget = c->p->budget, smallest = 0, largest = 0;
    for (long g = 0; g < c->G; g++) {
        const struct group *group = &c->group[g];
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

static gm_status prepare(gm_arena *arena, const gm_mckp *p, struct core *c,
                         gm_certificate *out, gm_error *err) {
    *c = (struct core){.p = p, .exact = p->exact,
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
    struct slope up, down;      /* of this group, from its base              */
};

struct dp {
    const struct core *c;
    const gm_solve_options *options;
    struct item *item;          /* [G], visiting order                       */
    struct slope *up, *down;    /* [G+1] best over items i..                 */
    int64_t *grow, *shrink;     /* [G+1] size that items i.. can add, remove */
    struct table now, next, node;
    size_t memory, limit, peak; /* bytes of the three tables                 */
    long states;                /* ever kept                                 */
    double deadline;
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

static struct slope steeper(struct slope a, struct slope b, bool largest) {
    if (a.den == 0 || b.den == 0) return a.den ? a : b;
    bool more = (wide)a.num * b.den > (wide)b.num * a.den;
    return more == largest ? a : b;
}

static double slope_value(struct slope s) {
    return (double)s.num / (double)s.den;
}

/* Rates at which the group leaves its base: up = best score per added size,
   down = cheapest score per removed size; up <= lambda <= down. */
static void item_rates(const struct core *c, struct item *item) {
    const struct group *group = &c->group[item->group];
    const struct option *b = &group->option[group->base];
    item->up = item->down = (struct slope){0, 0};
    for (int i = 0; i < group->options; i++) {
        const struct option *o = &group->option[i];
        if (o->w > b->w)
            item->up = steeper((struct slope){b->v - o->v, o->w - b->w},
                               item->up, true);
        if (o->w < b->w)
            item->down = steeper((struct slope){o->v - b->v, b->w - o->w},
                                 item->down, false);
    }
    double lambda = slope_value(c->lambda);
    item->key = INFINITY;
    if (item->up.den) item->key = lambda - slope_value(item->up);
    if (item->down.den)
        item->key = fmin(item->key, slope_value(item->down) - lambda);
}

/* Order of groups by their options, to find identical ones. */
static int compare_options(const struct group *a, const struct group *b) {
    if (a->options != b->options) return a->options - b->options;
    for (int i = 0; i < a->options; i++) {
        int order = by_size(&a->option[i], &b->option[i]);
        if (order) return order;
    }
    return 0;
}

struct sorted { struct item item; const struct group *group; };

static int by_visit(const void *a, const void *b) {
    const struct sorted *x = a, *y = b;
    if (x->item.key != y->item.key) return x->item.key < y->item.key ? -1 : 1;
    int order = compare_options(x->group, y->group);
    return order ? order : x->item.group < y->item.group ? -1 : 1;
}

/* Identical groups' bases in ascending candidate order (which of them moved up
   in the LP is arbitrary). */
static void sort_bases(struct core *c, struct item *item, long n) {
    for (long i = 1; i < n; i++)
        for (long j = i; j > 0 && item[j].twin; j--) {
            struct group *a = &c->group[item[j - 1].group];
            struct group *b = &c->group[item[j].group];
            if (a->option[a->base].k <= b->option[b->base].k) break;
            int t = a->base;
            a->base = b->base, b->base = t;
        }
}

static gm_status order_items(gm_arena *arena, struct core *c, struct dp *d,
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
            i > 0 && compare_options(s[i].group, s[i - 1].group) == 0;
    }
    sort_bases(c, d->item, c->G);
    for (long i = 0; i < c->G; i++) item_rates(c, &d->item[i]);
    return GM_OK;
}

/* Bounds over the items still to come. */
static gm_status suffixes(gm_arena *arena, struct dp *d, gm_error *err) {
    const struct core *c = d->c;
    size_t n = (size_t)c->G + 1;
    d->up = gm_alloc(arena, n, sizeof *d->up);
    d->down = gm_alloc(arena, n, sizeof *d->down);
    d->grow = gm_alloc(arena, n, sizeof *d->grow);
    d->shrink = gm_alloc(arena, n, sizeof *d->shrink);
    if (!d->up || !d->down || !d->grow || !d->shrink) return gm_nomem(err);
    for (long i = c->G - 1; i >= 0; i--) {
        const struct group *group = &c->group[d->item[i].group];
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
    struct slope s = over > 0 ? d->down[i] : d->up[i];
    if (s.den == 0) return v > d->target;
    return (wide)v * s.den + (wide)over * s.num > (wide)d->target * s.den;
}

/* Options x and y of item i differ: notes the first module and the smaller
   side in *module, *first_is_less when it comes before those seen so far. */
static void note_difference(const struct dp *d, long i, uint32_t x, uint32_t y,
                            long *module, bool *less) {
    const struct group *group = &d->c->group[d->item[i].group];
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
    const struct core *c = d->c;
    const struct group *group = &c->group[d->item[i].group];
    const struct option *o = group->option, *b = &o[group->base];
    const struct state *first = d->now.data;
    int n = 0;
    for (int k = 0; k < group->options; k++) {
        wide bound = option_bound(c, d->item[i].group, k);
        if (bound > (wide)d->target * c->lambda.den) continue;
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
    const struct group *group = &d->c->group[d->item[i].group];
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
        if (d->options->report && i % 64 == 0)
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

static void try_move(const struct core *c, const int *option, int64_t left,
                     struct move *best, long g, long h) {
    const struct group *a = &c->group[g], *b = &c->group[h];
    const struct option *x = &a->option[option[g]], *y = &b->option[option[h]];
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
static int nearest(const struct core *c, long *near) {
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

static int64_t greedy(const struct core *c, int *option) {
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
        const struct option *a = c->group[m.g].option;
        const struct option *b = c->group[m.h].option;
        left -= a[m.i].w - a[option[m.g]].w;
        if (m.h != m.g) left -= b[m.j].w - b[option[m.h]].w;
        option[m.g] = m.i;
        if (m.h != m.g) option[m.h] = m.j;
        v -= m.gain;
    }
    return v;
}

/* What a solver knows: the optimum lies in low .. high; option (if found) has
   value high. */
struct answer { int64_t low, high; bool found, rule; int *option; };

/* Optimum first (targets from the LP bound upwards, so that a poor incumbent
   costs little), then the tie rule among the assignments that reach it. */
static gm_status search_optimum(struct dp *d, struct answer *a) {
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

static void dp_free(struct dp *d) {
    gm_arena_free(&d->now.arena);
    gm_arena_free(&d->next.arena);
    gm_arena_free(&d->node.arena);
}

/* The dynamic program.  GM_ELIMIT: a->low and a->high are what is known. */
static gm_status solve_dp(gm_arena *arena, struct core *c,
                          const gm_solve_options *options, struct answer *a,
                          gm_certificate *out, gm_error *err) {
    double start = gm_seconds();
    struct dp d = {.c = c, .options = options};
    d.now.item = d.next.item = sizeof(struct state);
    d.node.item = sizeof(struct node);
    d.limit = options->memory ? options->memory : (size_t)1 << 30;
    if (options->seconds > 0) d.deadline = start + options->seconds;
    gm_mark mark = gm_arena_mark(arena);
    gm_status status = order_items(arena, c, &d, err);
    if (status == GM_OK) status = suffixes(arena, &d, err);
    if (status == GM_OK) {
        a->low = (int64_t)ceil_div(c->lp, c->lambda.den);
        a->high = c->most_v + 1;
        a->found = !c->exact;
        if (a->found) a->high = greedy(c, a->option);
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

/* -------------------------------------------------- GLPK's model of the core

   One integer column per option still alive: how many of a set of identical
   groups take it (merged only without rows and pairs).  Groups with a single
   option alive are constants and leave the model.  Costs are reduced costs
     r = v + lambda w - min (v + lambda w),   lambda for each unit of slack,
     sum v = LP + sum r x + lambda slack,
   the same program, but its numbers are of the size of the gap: with plain
   scores near 2^40 GLPK's tolerance hid differences of 1 (measured, 5.0). */

struct column { long set; int option; double cost; };
/* resource: -2 set or pair, -1 size, r an extra row; unit: taken out. */
struct row { int resource; bool equal; int64_t limit, unit; };
struct entry { int row, column; int64_t value; };

struct model {
    long sets, columns, rows, entries;
    long *first, *count;        /* [sets] representative group, its members  */
    long *start;                /* [sets+1] first column of each set         */
    long *set_of;               /* [G] or -1: constant                       */
    struct column *column;
    struct row *row;
    struct entry *entry;
    double constant;            /* v of the objective's zero                 */
    double slack_cost;          /* of the slack column, the last; 0: none    */
    bool impossible;            /* a row cannot be met by anything alive     */
};

/* What may vary: alive[g K + i], and the room. */
struct view { const struct core *c; const bool *alive; int64_t room; };

static int alive_count(const struct view *s, long g, int *only) {
    int n = 0;
    for (int i = 0; i < s->c->group[g].options; i++)
        if (s->alive[g * s->c->p->K + i]) n++, *only = i;
    return n;
}

static bool same_alive(const struct view *s, long g, long h) {
    const struct core *c = s->c;
    return compare_options(&c->group[g], &c->group[h]) == 0 &&
           memcmp(s->alive + g * c->p->K, s->alive + h * c->p->K,
                  (size_t)c->group[g].options) == 0;
}

struct keyed { const struct view *s; long g; };

static int by_alive(const void *a, const void *b) {
    const struct keyed *x = a, *y = b;
    const struct core *c = x->s->c;
    int order = compare_options(&c->group[x->g], &c->group[y->g]);
    if (!order)
        order = memcmp(x->s->alive + x->g * c->p->K,
                       x->s->alive + y->g * c->p->K,
                       (size_t)c->group[x->g].options);
    return order ? order : x->g < y->g ? -1 : 1;
}

/* Sets of identical groups, constants left out. */
static gm_status find_sets(gm_arena *arena, const struct view *s,
                           struct model *model, gm_error *err) {
    const struct core *c = s->c;
    size_t G = (size_t)c->G;
    struct keyed *order = gm_alloc(arena, G, sizeof *order);
    model->first = gm_alloc(arena, G, sizeof *model->first);
    model->count = gm_alloc(arena, G, sizeof *model->count);
    model->set_of = gm_alloc(arena, G, sizeof *model->set_of);
    if (!order || !model->first || !model->count || !model->set_of)
        return gm_nomem(err);
    for (long g = 0; g < c->G; g++) order[g] = (struct keyed){s, g};
    if (!c->coupled) qsort(order, G, sizeof *order, by_alive);
    for (long j = 0; j < c->G; j++) {
        int only = 0;
        long g = order[j].g;
        model->set_of[g] = -1;
        if (alive_count(s, g, &only) < 2) continue;
        bool joins = j > 0 && !c->coupled && model->sets &&
                     same_alive(s, g, order[j - 1].g);
        if (!joins) model->first[model->sets++] = g;
        model->set_of[g] = model->sets - 1;
        model->count[model->sets - 1]++;
    }
    return GM_OK;
}

static double reduced_cost(const struct core *c, long g, int i) {
    return (double)(option_bound(c, g, i) - c->lp) / (double)c->lambda.den;
}

/* Column numbers are consecutive within a set. */
static gm_status add_columns(gm_arena *arena, const struct view *s,
                             struct model *model, gm_error *err) {
    const struct core *c = s->c;
    size_t most = (size_t)(model->sets * c->p->K);
    model->column = gm_alloc(arena, most, sizeof *model->column);
    model->start = gm_alloc(arena, (size_t)model->sets + 1,
                            sizeof *model->start);
    model->row = gm_alloc(arena, (size_t)(model->sets + 1 + c->p->rows +
                                          c->p->pairs), sizeof *model->row);
    model->entry = gm_alloc(arena, most * (size_t)(2 + c->p->rows) + 1 +
                            2 * (size_t)c->p->pairs, sizeof *model->entry);
    if (!model->column || !model->start || !model->row || !model->entry)
        return gm_nomem(err);
    for (long j = 0; j < model->sets; j++) {
        const struct group *group = &c->group[model->first[j]];
        model->row[model->rows++] = (struct row){-2, true, model->count[j], 1};
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

/* Cost of option i of group g in extra row r; r = -1: its size w. */
static int64_t row_cost(const struct core *c, long r, long g, int i) {
    const struct option *o = &c->group[g].option[i];
    if (r < 0) return o->w;
    int64_t sum = 0;
    for (long m = c->group[g].module; m >= 0; m = c->next[m])
        sum += c->p->row[r].cost[m * c->p->K + o->k];
    return sum;
}

/* sum v = constant + sum r x + slack_cost * slack, in units of the size row;
   what the unit leaves of the limit is slack in any case. */
static void set_constant(const struct view *s, struct model *model,
                         int64_t limit, int64_t unit) {
    const struct core *c = s->c;
    double lambda = slope_value(c->lambda);
    wide lp = (wide)c->v0 * c->lambda.den +
              (wide)c->lambda.num * (c->w0 - s->room);
    model->constant = (double)lp / (double)c->lambda.den +
                      lambda * (double)(unit ? limit % unit : limit);
    model->slack_cost = c->exact || unit == 0 ? 0 : lambda * (double)unit;
    for (long g = 0; g < c->G; g++) {
        int only = 0;
        if (model->set_of[g] < 0 && alive_count(s, g, &only))
            model->constant += reduced_cost(c, g, only);
    }
}

/* The size row (r = -1) or an extra row, again with the smallest alive cost of
   every group subtracted and the common divisor taken out. */
static void add_row(const struct view *s, long r, struct model *model) {
    const struct core *c = s->c;
    bool equal = r < 0 && c->exact;
    int64_t limit = r < 0 ? s->room : c->p->row[r].limit, unit = 0;
    long start = model->entries;
    for (long g = 0; g < c->G; g++) {
        int only = 0;
        if (model->set_of[g] < 0 && alive_count(s, g, &only))
            limit -= row_cost(c, r, g, only);
    }
    for (long set = 0; set < model->sets; set++) {
        long g = model->first[set];
        int64_t least = INT64_MAX;
        for (long j = model->start[set]; j < model->start[set + 1]; j++) {
            int64_t cost = row_cost(c, r, g, model->column[j].option);
            if (cost < least) least = cost;
        }
        limit -= least * model->count[set];
        for (long j = model->start[set]; j < model->start[set + 1]; j++) {
            int64_t cost = row_cost(c, r, g, model->column[j].option) - least;
            if (cost == 0) continue;
            unit = gcd(unit, cost);
            model->entry[model->entries++] =
                (struct entry){(int)model->rows, (int)j, cost};
        }
    }
    if (limit < 0 || (equal && (unit ? limit % unit : limit)))
        model->impossible = true;
    if (r < 0) set_constant(s, model, limit, unit);
    if (unit == 0) return;              /* nothing alive differs in cost */
    for (long e = start; e < model->entries; e++) model->entry[e].value /= unit;
    if (r < 0 && model->slack_cost > 0)
        model->entry[model->entries++] =
            (struct entry){(int)model->rows, (int)model->columns, 1};
    model->row[model->rows++] = (struct row){(int)r, equal, limit / unit, unit};
}

/* x_a + x_b <= 1 for a forbidden pair.  Sets are single groups here. */
static void add_pair(const struct view *s, const gm_pair *pair,
                     struct model *model) {
    const struct core *c = s->c;
    long g[2] = {c->group_of[pair->m], c->group_of[pair->n]};
    int k[2] = {pair->j, pair->k}, limit = 1;
    bool fused = g[0] == g[1];          /* then j = k is forbidden outright */
    if (fused && k[0] != k[1]) return;
    for (int side = fused; side < 2; side++) {
        int only = 0;
        const struct option *o = c->group[g[side]].option;
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
    model->row[model->rows++] =
        (struct row){-2, false, limit < 0 ? 0 : limit, 1};
}

static gm_status build_model(gm_arena *arena, const struct view *s,
                             struct model *model, gm_error *err) {
    *model = (struct model){0};
    gm_status status = find_sets(arena, s, model, err);
    if (status == GM_OK) status = add_columns(arena, s, model, err);
    if (status != GM_OK) return status;
    for (long r = -1; r < s->c->p->rows; r++) add_row(s, r, model);
    for (long i = 0; i < s->c->p->pairs; i++)
        add_pair(s, &s->c->p->pair[i], model);
    return GM_OK;
}

/* Options that an assignment of value <= target may use. */
static void filter(const struct core *c, int64_t target, bool *alive) {
    for (long g = 0; g < c->G; g++)
        for (int i = 0; i < c->group[g].options; i++)
            if (option_bound(c, g, i) > (wide)target * c->lambda.den)
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
    return gm_fail(err, GM_EUSAGE, "this program was built without GLPK "
                   "(make GLPK=0)");
}

static gm_status glpk_duals(const struct model *model, double *dual,
                            gm_error *err) {
    (void)model, (void)dual;
    return gm_fail(err, GM_EUSAGE, "this program was built without GLPK");
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
    glp_term_hook(on_output, &guard);
    if (setjmp(guard.back)) {
        glp_free_env();
        return gm_fail(err, GM_EMEM, "GLPK gave up: %s", guard.last);
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

static void load_problem(struct job *job) {
    const struct model *model = job->model;
    glp_prob *P = job->problem = glp_create_prob();
    glp_set_obj_dir(P, GLP_MIN);
    if (model->rows) glp_add_rows(P, (int)model->rows);
    int slack = model->slack_cost > 0;
    glp_add_cols(P, (int)model->columns + slack);
    for (int r = 0; r < model->rows; r++) {
        double limit = (double)model->row[r].limit;
        bool equal = model->row[r].equal ||
                     (model->row[r].resource == -1 && model->slack_cost > 0);
        glp_set_row_bnds(P, r + 1, equal ? GLP_FX : GLP_UP, limit, limit);
    }
    for (int j = 0; j < model->columns; j++) {
        double most = (double)model->count[model->column[j].set];
        glp_set_col_kind(P, j + 1, GLP_IV);
        glp_set_col_bnds(P, j + 1, GLP_DB, 0, most);
        glp_set_obj_coef(P, j + 1, model->column[j].cost);
    }
    if (slack) {
        glp_set_col_bnds(P, (int)model->columns + 1, GLP_LO, 0, 0);
        glp_set_obj_coef(P, (int)model->columns + 1, model->slack_cost);
    }
    int last = -1, n = 0;
    size_t most = (size_t)model->columns + 2;
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
   that was alive has a smaller v.  GLPK compares doubles: after an optimum, v
   is lowered by 1e-11 of its distance from the LP bound (errors of 1e-13 were
   seen, GLPK 5.0); that is 0 unless scores have many more than 30 bits. */
struct outcome { bool found, proven, infeasible; int64_t v, w, low; };

/* Turns column counts into options: within a set of identical groups, lower
   candidates first in module order. */
static bool read_values(const struct view *s, const struct model *model,
                        int64_t *value, int *option) {
    const struct core *c = s->c;
    for (long g = 0; g < c->G; g++) {
        const struct option *o = c->group[g].option;
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

static bool feasible(const struct view *s, const int *option, int64_t *v,
                     int64_t *w) {
    const struct core *c = s->c;
    *v = *w = 0;
    for (long g = 0; g < c->G; g++) {
        *v += c->group[g].option[option[g]].v;
        *w += c->group[g].option[option[g]].w;
    }
    if (c->exact ? *w != s->room : *w > s->room) return false;
    for (long r = 0; r < c->p->rows; r++) {
        int64_t sum = 0;
        for (long g = 0; g < c->G; g++) sum += row_cost(c, r, g, option[g]);
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

/* The state of one use of GLPK. */
struct glpk {
    const struct core *c;
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
        return gm_fail(err, GM_ELIMIT, "GLPK: time limit reached");
    if (out->infeasible || out->proven) return GM_OK;
    return gm_fail(err, GM_ELIMIT, "GLPK stopped with code %d, status %d",
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
    if (status == GM_OK && !value) status = gm_nomem(err);
    if (status == GM_OK && model.impossible) {
        out->infeasible = true;
    } else if (status == GM_OK && model.columns == 0) {
        out->proven = true;
    } else if (status == GM_OK && q->deadline > 0 && left <= 0) {
        status = gm_fail(err, GM_ELIMIT, "GLPK: time limit reached");
        claimed = false;
    } else if (status == GM_OK) {
        status = glpk_solve(&model, left, &run, value, err);
        q->nodes += run.nodes;
        if (status == GM_OK) status = interpret(&run, out, &claimed, err);
        double bound = model.constant + run.bound;
        bound -= 1e-6 * (1 + fabs(run.bound)) + 1e-12 * fabs(model.constant);
        if (bound > 0 && bound < 0x1p61) out->low = (int64_t)ceil(bound);
    }
    if (!out->infeasible && claimed && (status == GM_OK || status == GM_ELIMIT)) {
        out->found = read_values(&s, &model, value, q->trial) &&
                     feasible(&s, q->trial, &out->v, &out->w);
        if (!out->found && status == GM_OK)
            status = gm_fail(err, GM_EDIFFER, "GLPK's answer does not meet the "
                             "constraints when recomputed in integers");
        if (out->found && status == GM_OK)
            out->low = out->v -
                (int64_t)(1e-11 * fabs((double)out->v - model.constant));
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
                  struct answer *a) {
    a->found = true;
    a->high = o->v;
    memcpy(a->option, q->trial, (size_t)q->c->G * sizeof *a->option);
}

/* The optimum.  Options whose bound exceeds a target are fixed to 0; the
   target starts at the incumbent, or without one near the LP bound and grows
   until the answer lies below it. */
static gm_status glpk_optimum(gm_arena *arena, struct glpk *q,
                              struct answer *a, gm_error *err) {
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
            return gm_fail(err, GM_EDIFFER, "GLPK finds nothing below %" PRId64
                           ", but %" PRId64 " is reached",
                           q->c->score0 + o.low, q->c->score0 + a->high);
        if (o.found && (!a->found || o.v < a->high)) adopt(q, &o, a);
        if (o.low > target + 1) o.low = target + 1;
        if (o.low > a->low) a->low = o.low;
        if (a->low > a->high) a->low = a->high;
        if (status == GM_OK && o.found && o.v <= target) break;
        step = step < most ? step * 16 : step;
    }
    if (status == GM_OK && a->low < a->high && a->found)
        status = gm_fail(err, GM_ELIMIT, "GLPK's floating point cannot "
                         "separate the last units");
    return status;
}

/* Whether an assignment of value a->high fits into `room` with what is alive;
   if so it becomes the answer and *w its size. */
static gm_status glpk_again(gm_arena *arena, struct glpk *q, int64_t room,
                            struct answer *a, bool *yes, int64_t *w,
                            gm_error *err) {
    struct outcome o;
    gm_status status = glpk_minimum(arena, q, room, &o, err);
    *yes = status == GM_OK && o.found && o.v <= a->high;
    if (!*yes) return status;
    adopt(q, &o, a);
    *w = o.w;
    return GM_OK;
}

/* The tie rule by repeated solves: the smallest room in which the optimum still
   fits (first one unit less, usually the end; then by halving), then for each
   module in order the lowest candidate with which it is still reached. */
static gm_status glpk_ties(gm_arena *arena, struct glpk *q, struct answer *a,
                           gm_error *err) {
    const struct core *c = q->c;
    int64_t w = 0, v, low = -1;
    struct view s = {c, q->alive, c->room};
    gm_status status = GM_OK;
    bool yes, first = true;
    all_alive(q);
    filter(c, a->high, q->alive);
    feasible(&s, a->option, &v, &w);
    while (status == GM_OK && !c->exact && low + 1 < w) {
        int64_t room = first ? w - 1 : low + (w - low) / 2;
        status = glpk_again(arena, q, room, a, &yes, &w, err);
        if (!yes) low = room;
        first = false;
    }
    for (long g = 0; status == GM_OK && g < c->G; g++) {
        const struct option *o = c->group[g].option;
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

static gm_status solve_glpk(gm_arena *arena, const struct core *c,
                            const gm_solve_options *options, bool ties,
                            struct answer *a, gm_certificate *out,
                            gm_error *err) {
    double start = gm_seconds();
    gm_mark mark = gm_arena_mark(arena);
    struct glpk q = {.c = c, .options = options};
    if (options->seconds > 0) q.deadline = start + options->seconds;
    q.alive = gm_alloc(arena, (size_t)(c->G * c->p->K), sizeof *q.alive);
    q.trial = gm_alloc(arena, (size_t)c->G, sizeof *q.trial);
    if (!q.alive || !q.trial) return gm_nomem(err);
    a->low = (int64_t)ceil_div(c->lp, c->lambda.den);
    a->high = c->most_v + 1;
    a->found = !c->exact && !c->coupled;
    if (a->found) a->high = greedy(c, a->option);
    gm_status status = glpk_optimum(arena, &q, a, err);
    if (status == GM_OK && a->found && ties)
        if (glpk_ties(arena, &q, a, err) == GM_EDIFFER) status = GM_EDIFFER;
    out->glpk_ran = true;
    out->nodes = q.nodes;
    gm_arena_rewind(arena, mark);
    out->glpk_seconds = gm_seconds() - start;
    return status;
}

/* ------------------------------------------------------------- certificate */

/* ceil of  sum_g min_i (u + lambda s + sum_r mu_r c_r) - lambda B
            - sum_r mu_r limit_r,   lambda = num/den, mu_r = mu_num[r]/den:
   a bound on every assignment, whatever lambda >= 0 and mu >= 0 are. */
static int64_t weak_duality(const struct core *c, const gm_certificate *t) {
    const gm_mckp *p = c->p;
    wide num = t->lambda_num, den = t->lambda_den;
    wide sum = den * c->score0 + num * c->size0 - num * p->budget;
    for (long g = 0; g < c->G; g++) {
        wide least = 0;
        for (int i = 0; i < c->group[g].options; i++) {
            const struct option *o = &c->group[g].option[i];
            wide value = den * o->v + num * c->unit * o->w;
            for (long r = 0; r < t->rows; r++)
                value += (wide)t->mu_num[r] * row_cost(c, r, g, i);
            if (i == 0 || value < least) least = value;
        }
        sum += least;
    }
    for (long r = 0; r < t->rows; r++)
        sum -= (wide)t->mu_num[r] * p->row[r].limit;
    return (int64_t)ceil_div(sum, den);
}

/* Multipliers with extra rows: GLPK's LP duals rounded to fractions of a
   power of two; any non-negative values give a valid bound. */
static void coupled_multipliers(gm_arena *arena, const struct core *c,
                                gm_certificate *t) {
    gm_mark mark = gm_arena_mark(arena);
    bool *alive = gm_alloc(arena, (size_t)(c->G * c->p->K), sizeof *alive);
    struct glpk q = {.c = c, .alive = alive};
    struct view s = {c, alive, c->room};
    struct model model;
    double dual[GM_MAX_ROWS + 1] = {0}, most = 0, *y = NULL;
    if (alive) {
        all_alive(&q);
        if (build_model(arena, &s, &model, NULL) == GM_OK)
            y = gm_alloc(arena, (size_t)model.rows, sizeof *y);
        if (y && glpk_duals(&model, y, NULL) == GM_OK)
            for (long j = model.sets; j < model.rows; j++)
                if (model.row[j].resource >= -1)
                    dual[model.row[j].resource + 1] =
                        -y[j] / (double)model.row[j].unit;
    }
    dual[0] /= (double)c->unit;
    for (int r = 0; r <= t->rows; r++) {
        if (!(dual[r] > 0) && !(r == 0 && c->exact)) dual[r] = 0;
        most = fmax(most, fabs(dual[r]));
    }
    int shift = 0;
    while (shift < 40 && ldexp(most, shift) < 0x1p40) shift++;
    t->lambda_den = (int64_t)1 << shift;
    t->lambda_num = llround(ldexp(dual[0], shift));
    for (int r = 0; r < t->rows; r++)
        t->mu_num[r] = llround(ldexp(dual[r + 1], shift));
    gm_arena_rewind(arena, mark);
}

static void certify(gm_arena *arena, const struct core *c,
                    const struct answer *a, gm_certificate *t) {
    t->found = a->found;
    t->rows = c->p->rows;
    t->bound = c->score0 + a->low;
    t->lambda_num = c->lambda.num;
    t->lambda_den = c->lambda.den * c->unit;
    if (c->coupled) coupled_multipliers(arena, c, t);
    t->lp_bound = weak_duality(c, t);
    if (t->bound < t->lp_bound) t->bound = t->lp_bound;
    if (!a->found) return;
    int64_t v, w;
    bool good = feasible(&(struct view){c, NULL, c->room}, a->option, &v, &w);
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
static gm_status combine(const struct core *c, gm_status first,
                         gm_status second, struct answer *a,
                         const struct answer *b, gm_certificate *t,
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

static gm_status run_solvers(gm_arena *arena, struct core *c,
                             const gm_solve_options *options,
                             struct answer *a, gm_certificate *t,
                             gm_error *err) {
    struct answer b = {0};
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
    gm_status second = solve_glpk(arena, c, options, ties, dp ? &b : a, t, err);
    if (dp) return combine(c, status, second, a, &b, t, err);
    t->glpk_objective = c->score0 + a->high;
    return second;
}

gm_status gm_mckp_solve(gm_arena *arena, const gm_mckp *problem,
                        const gm_solve_options *options, int *choice,
                        gm_certificate *out, gm_error *err) {
    struct core c;
    struct answer a = {0};
    *out = (gm_certificate){0};
    gm_mark mark = gm_arena_mark(arena);
    gm_status status = prepare(arena, problem, &c, out, err);
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
            certify(arena, &c, &a, out);
        for (long m = 0; a.found && m < problem->M; m++) {
            const struct group *group = &c.group[c.group_of[m]];
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

/* ----------------------------------------------------------- CPLEX LP file */

/* x12_3: module 12 (or its set of identical groups) at candidate 3. */
static void column_name(const struct core *c, const struct model *model,
                        long j, char text[48]) {
    if (j == model->columns) {
        snprintf(text, 48, "slack");
        return;
    }
    long g = model->first[model->column[j].set];
    snprintf(text, 48, "x%ld_%d", c->group[g].module,
             c->group[g].option[model->column[j].option].k);
}

static void write_legend(gm_out *out, const struct core *c,
                         const struct model *model) {
    const gm_mckp *p = c->p;
    for (long m = 0; m < p->M; m++) {
        long g = c->group_of[m], set = model->set_of[g];
        const char *name = p->name ? p->name[m] : "?";
        if (set < 0)
            gm_out_print(out, NULL, "\\ module %ld %s: constant\n", m, name);
        else
            gm_out_print(out, NULL, "\\ module %ld %s: counted in x%ld_*\n", m,
                         name, c->group[model->first[set]].module);
    }
}

static void write_terms(gm_out *out, const struct core *c,
                        const struct model *model) {
    char x[48];
    gm_out_print(out, NULL, "Minimize\n obj: %.17g one\n",
                 (double)c->score0 + model->constant);
    for (long j = 0; j < model->columns; j++) {
        column_name(c, model, j, x);
        gm_out_print(out, NULL, " + %.17g %s\n", model->column[j].cost, x);
    }
    if (model->slack_cost > 0)
        gm_out_print(out, NULL, " + %.17g slack\n", model->slack_cost);
    gm_out_print(out, NULL, "Subject To\n");
    for (long e = 0, r = 0; r < model->rows; r++) {
        bool slack = model->row[r].resource == -1 && model->slack_cost > 0;
        gm_out_print(out, NULL, " r%ld:", r);
        for (; e < model->entries && model->entry[e].row == r; e++) {
            column_name(c, model, model->entry[e].column, x);
            gm_out_print(out, NULL, "\n  %+" PRId64 " %s",
                         model->entry[e].value, x);
        }
        gm_out_print(out, NULL, " %s %" PRId64 "\n",
                     model->row[r].equal || slack ? "=" : "<=",
                     model->row[r].limit);
    }
}

static void write_domains(gm_out *out, const struct core *c,
                          const struct model *model) {
    char x[48];
    gm_out_print(out, NULL, "Bounds\n one = 1\n");
    for (long j = 0; j < model->columns; j++) {
        column_name(c, model, j, x);
        gm_out_print(out, NULL, " 0 <= %s <= %ld\n", x,
                     model->count[model->column[j].set]);
    }
    if (model->columns) gm_out_print(out, NULL, "General\n");
    for (long j = 0; j < model->columns; j++) {
        column_name(c, model, j, x);
        gm_out_print(out, NULL, " %s\n", x);
    }
    gm_out_print(out, NULL, "End\n");
}

gm_status gm_mckp_write_lp(gm_arena *arena, const gm_mckp *problem,
                           const char *path, gm_error *err) {
    struct core c;
    struct model model;
    gm_certificate t;
    gm_out out;
    gm_mark mark = gm_arena_mark(arena);
    gm_status status = prepare(arena, problem, &c, &t, err);
    if (status == GM_OK && c.room_rest)
        status = gm_fail(err, GM_EINFEASIBLE, "%s: the sizes have the common "
                         "divisor %" PRId64 ", the budget has not", path,
                         c.unit);
    if (status != GM_OK) return status;
    struct glpk q = {.c = &c};
    q.alive = gm_alloc(arena, (size_t)(c.G * c.p->K), sizeof *q.alive);
    q.trial = gm_alloc(arena, (size_t)c.G, sizeof *q.trial);
    if (!q.alive || !q.trial) return gm_nomem(err);
    all_alive(&q);
    if (!c.exact && !c.coupled) filter(&c, greedy(&c, q.trial), q.alive);
    status = build_model(arena, &(struct view){&c, q.alive, c.room}, &model,
                         err);
    if (status == GM_OK) status = gm_out_open(arena, path, &out, err);
    if (status != GM_OK) return status;
    gm_out_print(&out, NULL,
                 "\\ The integer program as GLPK gets it: per set of identical "
                 "modules one column\n\\ for each candidate that may be in an "
                 "optimum; smallest sizes subtracted,\n\\ common divisors "
                 "taken out.  Costs are reduced costs: `one` carries the\n\\ "
                 "LP bound, x what a choice costs beyond it, slack the\n\\ "
                 "multiplier for each unit of the budget not used.\n");
    write_legend(&out, &c, &model);
    write_terms(&out, &c, &model);
    write_domains(&out, &c, &model);
    status = gm_out_commit(&out, err);
    gm_arena_rewind(arena, mark);
    return status;
}
