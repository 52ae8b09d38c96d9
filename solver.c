/* solver.c: Stage II, the integer program, solved exactly [GAMMA].

     minimise    sum_mk u_mk x_mk,  x binary                              (1)
     subject to  sum_k x_mk = 1 for each module m                         (2)
                 sum_mk s_mk x_mk <= B, or = B                            (3)
                 sum_mk c_rmk x_mk <= C_r for further resources r         (4)
                 fused modules take the same candidate                    (5)

   In the order of the code:
     integers     u = round(score 2^shift), s in the budget's unit        (6)
     preparation  a group g is one module, or fused ones summed up;
                  w = (s - min s) / unit,  v = u - min u,
                  sum w <= room = floor((B - sum min s) / unit)           (7)
     LP bound     walk up the lower hulls of the groups' points (w, v),
                  best rate first, until a step does not fit: its rate is
                  lambda, the choices made so far are the bases, and
                  their sums w0 and v0                                    (8)
     weak duality for any lambda >= 0 (exact: of any sign), mu_r >= 0,
                    sum_g min_i (v + lambda w + sum_r mu_r c_r)
                    - lambda room - sum_r mu_r C_r
                  is no larger than any feasible sum of v                 (9)
     the list     of states (w, v): assignments whose groups not yet
                  visited stand at their bases; what (9), the rates of
                  the groups to come or another state beat is dropped    (10)
     GLPK         (1) to (5) with the reduced costs
                  v + lambda w + sum_r mu_r c_r - min_i of it: glpk.c    (11)
     ties         smallest sum of w, then lowest candidates in module
                  order: the list compares equals, GLPK solves again     (12)
     certificate  (9) in the units of (1) and (3)                        (13)

   All decisions are taken on integers.  (4) is GLPK's alone.
   May touch: memory, the clock.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "solver.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

gm_status gm_says(gm_certificate *t, gm_status status, const char *format,
                  ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(t->why, sizeof t->why, format, list);
    va_end(list);
    gm_clean(t->why, "");
    return status;
}

/* ---------------------------------------------------------------- integers

   A power of two keeps the product of (6) exact, so each score moves by at most
   1/2, an assignment's sum by M/2, and the order of two assignments can only be
   wrong when their real scores differ by at most M 2^-shift.  |u| 2^shift is
   kept below 2^44 so that sums over many modules stay far from 2^61. */

static gm_rounding choose_rounding(const gm_scores *s, int score_bits) {
    gm_rounding r = {0};
    double most = 0;
    int exponent;                   /* x = f 2^exponent, 1/2 <= f < 1 */
    for (long m = 0; m < s->M; m++) {
        double low = INFINITY, high = -INFINITY;
        for (long i = m * s->K; i < (m + 1) * s->K; i++) {
            if (s->bytes[i] < 0) continue;
            low = fmin(low, s->score[i]), high = fmax(high, s->score[i]);
            most = fmax(most, fabs(s->score[i]));
        }
        r.range = fmax(r.range, high - low);
    }
    if (!(most > 0)) return r;
    frexp(most, &exponent);
    r.shift = 44 - exponent;
    double f = frexp(r.range, &exponent);
    int shift = score_bits - exponent + (f == 0.5);
    if (r.range > 0 && shift < r.shift) r.shift = shift;
    r.bound = ldexp((double)s->M, -r.shift);
    return r;
}

void gm_mckp_new(gm_arena *arena, long M, int K, gm_mckp *out) {
    size_t cells = (size_t)M * (size_t)K;
    *out = (gm_mckp){.M = M, .K = K};
    out->size = gm_alloc(arena, cells, sizeof *out->size);
    out->score = gm_alloc(arena, cells, sizeof *out->score);
    out->allowed = gm_alloc(arena, cells, sizeof *out->allowed);
    memset(out->allowed, true, cells);
}

/* (6) */
void gm_problem_build(gm_arena *arena, const gm_scores *s,
                      const gm_budget *budget, int score_bits, gm_mckp *out,
                      gm_rounding *rounding) {
    const gm_convention in = budget->convention;
    gm_mckp_new(arena, s->M, s->K, out);
    *rounding = choose_rounding(s, score_bits);
    if (!isfinite(rounding->range))
        gm_fail(GM_EINPUT, "%s: scores span more than the largest double",
                s->path);
    out->name = s->name;
    out->unit = in == GM_BYTES ? "bytes" : "bits";
    out->budget = budget->limit;
    if (in == GM_BYTES) out->budget -= s->overhead;
    for (long i = 0; i < s->M * s->K; i++) {
        out->allowed[i] = s->bytes[i] >= 0;
        if (!out->allowed[i]) continue;
        out->size[i] = in == GM_BITS
                           ? s->weights[i / s->K] * s->bits[i % s->K]
                           : (in == GM_EBITS ? 8 : 1) * s->bytes[i];
        out->score[i] = llrint(ldexp(s->score[i], rounding->shift));
    }
}

/* ------------------------------------------------------------- preparation */

int64_t gm_gcd(int64_t a, int64_t b) {
    while (b) {
        int64_t t = a % b;
        a = b, b = t;
    }
    return a;
}

static wide ceil_div(wide a, wide b) { return a / b + (a % b > 0); }

static wide magnitude(wide a) { return a < 0 ? -a : a; }

/* Sums of |largest| stay below 2^61: no sum and no product with a rate
   overflows. */
static void check_problem(const gm_mckp *p) {
    const wide limit = (wide)1 << 61;
    wide size = 0, score = 0;
    if (p->M < 1 || p->K < 1 || p->K > GM_MAX_CANDIDATES)
        gm_fail(GM_EINPUT, "integer program: expected at least 1 module and 1 "
                "to %d candidates, found %ld and %d", GM_MAX_CANDIDATES, p->M,
                p->K);
    if (p->rows < 0 || p->rows > GM_MAX_ROWS)
        gm_fail(GM_EINPUT, "integer program: expected at most %d extra rows, "
                "found %ld", GM_MAX_ROWS, p->rows);
    for (long m = 0; m < p->M; m++) {
        wide s = 0, u = 0;
        for (long i = m * p->K; i < (m + 1) * p->K; i++) {
            if (!p->allowed[i]) continue;
            wide a = magnitude(p->size[i]), b = magnitude(p->score[i]);
            for (long r = 0; r < p->rows; r++)
                a += magnitude(p->row[r].cost[i]);
            s = a > s ? a : s, u = b > u ? b : u;
        }
        size += s, score += u;
    }
    if (magnitude(p->budget) > limit)
        gm_fail(GM_EINPUT, "integer program: budget beyond 2^61");
    if (size >= limit || score >= limit)
        gm_fail(GM_EINPUT, "integer program: sizes, costs or scores sum to "
                "2^61 or more");
}

static int by_size(const void *a, const void *b) {
    const struct option *x = a, *y = b;
    if (x->w != y->w) return x->w < y->w ? -1 : 1;
    if (x->v != y->v) return x->v < y->v ? -1 : 1;
    return x->k - y->k;
}

/* Groups in module order; what one member may not take, the group may not. */
static gm_status find_groups(gm_arena *arena, struct core *c,
                             gm_certificate *t) {
    const gm_mckp *p = c->p;
    const long M = p->M, K = p->K;
    struct option *all = gm_alloc(arena, (size_t)(M * K), sizeof *all);
    c->group = gm_alloc(arena, (size_t)M, sizeof *c->group);
    c->group_of = gm_alloc(arena, (size_t)M, sizeof *c->group_of);
    c->cost = gm_alloc(arena, (size_t)(p->rows * M * K), sizeof *c->cost);
    for (long m = 0; m < M; m++) {
        long g = -1;
        for (long n = 0; p->group && p->group[m] >= 0 && g < 0 && n < m; n++)
            if (p->group[n] == p->group[m]) g = c->group_of[n];
        if (g < 0) {
            g = c->G++;
            c->group[g] = (struct group){.module = m, .option = all + g * K};
            for (int k = 0; k < K; k++) c->group[g].option[k].k = k;
        }
        c->group_of[m] = g;
        for (int k = 0; k < K; k++) {
            struct option *o = &c->group[g].option[k];
            if (!p->allowed[m * K + k]) o->k = -1;
            if (o->k < 0) continue;
            o->w += p->size[m * K + k];
            o->v += p->score[m * K + k];
            for (long r = 0; r < p->rows; r++)
                c->cost[(r * M + g) * K + k] += p->row[r].cost[m * K + k];
        }
    }
    for (long g = 0; g < c->G; g++) {
        struct group *group = &c->group[g];
        struct option *o = group->option;
        for (int k = 0; k < K; k++)
            if (o[k].k >= 0) o[group->options++] = o[k];
        if (!group->options)
            return gm_says(t, GM_EINFEASIBLE, "module %s: the constraints leave "
                           "it no candidate",
                           p->name ? p->name[group->module] : "?");
        qsort(o, (size_t)group->options, sizeof *o, by_size);
    }
    return GM_OK;
}

static gm_status check_range(const struct core *c, gm_certificate *t) {
    const gm_mckp *p = c->p;
    for (long g = 0; g < c->G; g++) {
        t->smallest += c->group[g].option[0].w;
        t->largest += c->group[g].option[c->group[g].options - 1].w;
    }
    const bool small = p->budget < t->smallest, large = p->budget > t->largest;
    t->below = large ? t->largest : -1;
    t->above = small ? t->smallest : -1;
    t->neighbours_proven = true;
    if (!small && !(p->exact && large)) return GM_OK;
    return gm_says(t, GM_EINFEASIBLE, "budget of %" PRId64 " %s: every "
                   "assignment is %s; smallest reachable %" PRId64 ", largest %"
                   PRId64, p->budget, p->unit ? p->unit : "units",
                   small ? "larger" : "smaller", t->smallest, t->largest);
}

/* (7).  An option goes when another of its group is no larger and no worse
   (exact: as large; with extra rows any may be needed); of equals the lower
   candidate stays, so ties are not disturbed.  With extra rows the multipliers
   are fractions of 2^j, and the unit is 1. */
static void reduce(struct core *c) {
    const gm_mckp *p = c->p;
    for (long g = 0; g < c->G; g++) {
        struct option *o = c->group[g].option;
        int n = 0;
        for (int i = 0; i < c->group[g].options; i++) {
            bool beaten = !p->rows && n && (p->exact ? o[n - 1].w == o[i].w
                                                     : o[n - 1].v <= o[i].v);
            if (!beaten) o[n++] = o[i];
        }
        int64_t w = o[0].w, v = o[0].v, most = o[0].v;
        for (int i = 1; i < n; i++) {
            if (o[i].v < v) v = o[i].v;
            if (o[i].v > most) most = o[i].v;
        }
        for (int i = 0; i < n; i++) {
            o[i].w -= w, o[i].v -= v;
            c->unit = gm_gcd(c->unit, o[i].w);
        }
        c->group[g].options = n;
        c->size0 += w, c->score0 += v, c->most += most - v;
    }
    if (p->rows || c->unit == 0) c->unit = 1;
    for (long g = 0; g < c->G; g++)
        for (int i = 0; i < c->group[g].options; i++)
            c->group[g].option[i].w /= c->unit;
    c->room = (p->budget - c->size0) / c->unit;
    c->off = p->exact && (p->budget - c->size0) % c->unit;
}

/* ------------------------------------------------------------ the LP bound */

/* Up the hull of a group to option `to`: dw > 0 more size buys `gain`. */
struct step { long group; int to; int64_t dw, gain; };

static int by_rate(const void *a, const void *b) {
    const struct step *x = a, *y = b;
    wide l = (wide)x->gain * y->dw, r = (wide)y->gain * x->dw;
    if (l != r) return l > r ? -1 : 1;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    return x->to - y->to;
}

/* All groups' hull steps, best rate gain / dw first. */
static struct step *find_steps(gm_arena *arena, const struct core *c,
                               long *count) {
    struct step *step = gm_alloc(arena, (size_t)(c->G * c->p->K), sizeof *step);
    *count = 0;
    for (long g = 0; g < c->G; g++) {
        const struct option *o = c->group[g].option;
        int corner[GM_MAX_CANDIDATES] = {0}, n = 1;
        for (int i = 1; i < c->group[g].options; i++) {
            const struct option *b = &o[corner[n - 1]];
            if (b->w == o[i].w || (!c->p->exact && b->v <= o[i].v)) continue;
            for (; n >= 2; n--) {           /* do rates fall at b? */
                const struct option *a = &o[corner[n - 2]];
                b = &o[corner[n - 1]];
                if ((wide)(a->v - b->v) * (o[i].w - b->w) >=
                    (wide)(b->v - o[i].v) * (b->w - a->w))
                    break;
            }
            corner[n++] = i;
        }
        for (int j = 1; j < n; j++) {
            const struct option *a = &o[corner[j - 1]], *b = &o[corner[j]];
            step[(*count)++] =
                (struct step){g, corner[j], b->w - a->w, a->v - b->v};
        }
    }
    qsort(step, (size_t)*count, sizeof *step, by_rate);
    return step;
}

int64_t gm_core_cost(const struct core *c, long r, long g, int i) {
    const struct option *o = &c->group[g].option[i];
    return r < 0 ? o->w : c->cost[(r * c->p->M + g) * c->p->K + o->k];
}

wide gm_core_excess(const struct core *c, long g, int i) {
    const struct option *o = &c->group[g].option[i];
    wide sum = (wide)c->lambda.den * o->v + (wide)c->lambda.num * o->w;
    for (long r = 0; r < c->p->rows; r++)
        if (c->mu[r]) sum += (wide)c->mu[r] * gm_core_cost(c, r, g, i);
    return sum - c->group[g].least;
}

/* (9) */
void gm_core_bound(struct core *c) {
    c->lp = -(wide)c->lambda.num * c->room;
    for (long r = 0; r < c->p->rows; r++)
        c->lp -= (wide)c->mu[r] * c->p->row[r].limit;
    for (long g = 0; g < c->G; g++) {
        c->group[g].least = 0;
        wide least = gm_core_excess(c, g, 0);
        for (int i = 1; i < c->group[g].options; i++) {
            const wide x = gm_core_excess(c, g, i);
            least = x < least ? x : least;
        }
        c->lp += c->group[g].least = least;
    }
}

/* (8) (Sinha, Zoltners 1979) */
static void solve_lp(gm_arena *arena, struct core *c) {
    gm_mark mark = gm_arena_mark(arena);
    long n, i = 0;
    const struct step *step = find_steps(arena, c, &n);
    for (long g = 0; g < c->G; g++) c->v0 += c->group[g].option[0].v;
    for (; i < n && c->w0 + step[i].dw <= c->room; i++) {
        c->group[step[i].group].base = step[i].to;
        c->w0 += step[i].dw;
        c->v0 -= step[i].gain;
    }
    c->lambda = (struct rate){0, 1};
    if (i == n && c->p->exact) i = n - 1;   /* any rate up to the last is one */
    if (i >= 0 && i < n) {
        int64_t gain = step[i].gain;
        int64_t d = gm_gcd(gain < 0 ? -gain : gain, step[i].dw);
        c->lambda = (struct rate){gain / d, step[i].dw / d};
    }
    gm_core_bound(c);
    gm_arena_rewind(arena, mark);
}

gm_status gm_core_prepare(gm_arena *arena, const gm_mckp *p, struct core *c,
                          gm_certificate *t) {
    *c = (struct core){.p = p};
    check_problem(p);
    gm_status status = find_groups(arena, c, t);
    if (status == GM_OK) status = check_range(c, t);
    if (status == GM_OK) reduce(c);
    if (status == GM_OK) solve_lp(arena, c);
    return status;
}

bool gm_core_feasible(const struct core *c, int64_t room, const int *option,
                      int64_t *v, int64_t *w) {
    *v = *w = 0;
    for (long g = 0; g < c->G; g++) {
        *v += c->group[g].option[option[g]].v;
        *w += c->group[g].option[option[g]].w;
    }
    bool good = c->p->exact ? *w == room : *w <= room;
    for (long r = 0; r < c->p->rows; r++) {
        int64_t sum = 0;
        for (long g = 0; g < c->G; g++) sum += gm_core_cost(c, r, g, option[g]);
        good = good && sum <= c->p->row[r].limit;
    }
    return good;
}

void gm_core_start(const struct core *c, struct answer *a) {
    if (!a->found) a->high = c->most + 1;           /* above all */
    if (!a->found && !c->p->exact && !c->p->rows) { /* the bases fit */
        a->found = true;
        a->high = c->v0;
        for (long g = 0; g < c->G; g++) a->option[g] = c->group[g].base;
    }
    const wide low = ceil_div(c->lp, c->lambda.den);
    a->low = low < a->high ? (int64_t)low : a->high;
}

/* ---------------------------------------------------------------- the list

   (10), the groups in order of how close their rates lie to lambda (the core
   first: Pisinger 1995): good assignments appear early, far groups rarely move.
   A state, itself a complete assignment, is dropped when
     - another is no larger and no worse (exact: as large and no worse); of
       equals the lexicographically smaller stays;
     - nothing to come brings it within room and target: groups to come sell
       score at a rate of at most `up` and buy back size at `down` or dearer,
         v - up (room - w) > target, or v + down (w - room) > target.
   Neither drops the assignment that (12) asks for: with the same choices in the
   groups to come, what beat it would be better, smaller or earlier.

   A list longer than `cap` keeps those of least excess over (9), first those
   that one more change can bring to the budget.  What is found then is an
   incumbent, and the least excess that was dropped bounds the rest; the next
   pass has the incumbent as target and 8 times the cap. */

enum { FIRST_CAP = 1 << 12, TIES_CAP = 1 << 17, BINS = 4096 };

struct state { int64_t w, v; uint32_t node; };
/* A choice that is not the base.  Items count from 1 here; node 0: none. */
struct node { uint32_t parent, item : 28, option : 4; };
struct table { void *data; size_t fill, room, each; };

/* A group, with those after it: the best rates at which they leave their bases,
   up <= lambda <= down, and the sizes that they add and remove. */
struct item { long group; double key; struct rate up, down;
              int64_t grow, shrink; };

struct list {
    const struct core *c;
    const gm_solve_options *options;
    struct answer *best;
    struct item *item;          /* [G+1] in visiting order                   */
    struct option *change;      /* of one item from its base, by size; k =
                                   item GM_MAX_CANDIDATES + option, item G:
                                   none                                      */
    long changes, at;           /* at: the item that is visited              */
    struct table now, next, node;
    size_t memory, limit, peak; /* bytes of the tables                       */
    size_t cap;
    bool open;                  /* no cap, no incumbents: ties, frontier     */
    bool points;                /* only (w, v): no nodes                     */
    int64_t target, reach;      /* reach: the largest change                 */
    wide dropped;               /* least excess lost to cap; -1: none was    */
    long states, ticks;
    double start, deadline;
};

static bool enlarge(struct list *d, struct table *t) {
    size_t room = t->room ? 2 * t->room : 1024, bytes = room * t->each;
    if (bytes > d->limit || d->memory > d->limit - bytes) return false;
    if (room > (size_t)1 << 32) return false;       /* nodes are uint32_t */
    void *data = realloc(t->data, bytes);
    if (!data) return false;
    if (d->memory + bytes > d->peak) d->peak = d->memory + bytes;
    d->memory += bytes - t->room * t->each;
    t->data = data, t->room = room;
    return true;
}

static struct rate steeper(struct rate a, struct rate b, bool largest) {
    if (a.den == 0 || b.den == 0) return a.den ? a : b;
    bool more = (wide)a.num * b.den > (wide)b.num * a.den;
    return more == largest ? a : b;
}

static double value_of(struct rate r) { return (double)r.num / (double)r.den; }

static int by_key(const void *a, const void *b) {
    const struct item *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->group < y->group ? -1 : 1;
}

static void order_items(gm_arena *arena, struct list *d) {
    const struct core *c = d->c;
    const double lambda = value_of(c->lambda);
    d->item = gm_alloc(arena, (size_t)c->G + 1, sizeof *d->item);
    d->change = gm_alloc(arena, (size_t)(c->G * c->p->K) + 1,
                         sizeof *d->change);
    for (long g = 0; g < c->G; g++) {
        const struct option *o = c->group[g].option, *b = o + c->group[g].base;
        struct item *x = &d->item[g];
        x->group = g;
        for (int i = 0; i < c->group[g].options; i++)
            if (o[i].w > b->w)
                x->up = steeper((struct rate){b->v - o[i].v, o[i].w - b->w},
                                x->up, true);
            else if (o[i].w < b->w)
                x->down = steeper((struct rate){o[i].v - b->v, b->w - o[i].w},
                                  x->down, false);
        x->key = x->up.den ? lambda - value_of(x->up) : INFINITY;
        if (x->down.den) x->key = fmin(x->key, value_of(x->down) - lambda);
    }
    qsort(d->item, (size_t)c->G, sizeof *d->item, by_key);
    for (long i = c->G; i >= 0; i--) {
        struct item *x = &d->item[i];
        const struct group *group = &c->group[x->group];
        const struct option *o = group->option, *b = o + group->base;
        if (i == c->G) d->change[d->changes++].k = (int)i * GM_MAX_CANDIDATES;
        if (i == c->G) continue;
        for (int k = 0; k < group->options; k++)
            if (k != group->base)
                d->change[d->changes++] = (struct option){
                    o[k].w - b->w, o[k].v - b->v,
                    (int)i * GM_MAX_CANDIDATES + k};
        x->up = steeper(x->up, x[1].up, true);
        x->down = steeper(x->down, x[1].down, false);
        x->grow = x[1].grow + o[group->options - 1].w - b->w;
        x->shrink = x[1].shrink + b->w;
        if (o[group->options - 1].w > d->reach)
            d->reach = o[group->options - 1].w;
    }
    qsort(d->change, (size_t)d->changes, sizeof *d->change, by_size);
}

/* Nothing that is still to come brings (w, v) within room and target. */
static bool hopeless(const struct list *d, int64_t w, int64_t v) {
    const struct item *rest = &d->item[d->at + 1];
    const int64_t over = w - d->c->room;
    if (over > rest->shrink || (d->c->p->exact && -over > rest->grow))
        return true;
    struct rate s = over > 0 ? rest->down : rest->up;
    if (s.den == 0) return v > d->target;
    return (wide)v * s.den + (wide)over * s.num > (wide)d->target * s.den;
}

/* Of two chains of nodes: in the first module in which they differ, a has the
   lower candidate.  A chain lists later items first. */
static bool earlier(const struct list *d, uint32_t a, uint32_t b) {
    const struct node *node = d->node.data;
    long first = d->c->p->M;
    bool less = false;
    while (a != b) {
        const struct node x = node[a], y = node[b];
        const uint32_t item = x.item > y.item ? x.item : y.item;
        const struct group *group = &d->c->group[d->item[item - 1].group];
        int i = x.item == item ? (int)x.option : group->base;
        int j = y.item == item ? (int)y.option : group->base;
        if (i != j && group->module < first) {
            first = group->module;
            less = group->option[i].k < group->option[j].k;
        }
        if (x.item == item) a = x.parent;
        if (y.item == item) b = y.parent;
    }
    return less;
}

/* Puts a state, in order of (w, v), behind those of `next`, or drops it; of
   equals one stays.  false: no memory. */
static bool add_state(struct list *d, struct state s, int option) {
    struct table *n = &d->next, *chain = &d->node;
    if ((n->fill == n->room && !enlarge(d, n)) ||
        (chain->fill == chain->room && !enlarge(d, chain)))
        return false;
    struct state *to = (struct state *)n->data + n->fill;
    struct state *last = n->fill ? to - 1 : NULL;
    bool beaten = last && (d->c->p->exact ? s.w == last->w : s.v >= last->v);
    if (beaten && (s.w != last->w || s.v != last->v)) return true;
    const size_t nodes = chain->fill;
    if (option != d->c->group[d->item[d->at].group].base && !d->points) {
        ((struct node *)chain->data)[nodes] =
            (struct node){s.node, (uint32_t)(d->at + 1) & 0xfffffff,
                          (uint32_t)option & 15};
        s.node = (uint32_t)chain->fill++;
    }
    if (!beaten) *to = s, n->fill++, d->states++;
    else if (earlier(d, s.node, last->node)) last->node = s.node;
    else chain->fill = nodes;
    return true;
}

/* The list shifted by each option of the item that (9) leaves, merged in order
   of (w, v). */
static gm_status visit(struct list *d) {
    const struct core *c = d->c;
    const struct group *group = &c->group[d->item[d->at].group];
    const struct option *o = group->option, *b = o + group->base;
    const struct state *now = d->now.data;
    struct { int option; size_t at; } cursor[GM_MAX_CANDIDATES];
    int n = 0;
    for (int k = 0; k < group->options; k++)
        if (c->lp + gm_core_excess(c, d->item[d->at].group, k) <=
            (wide)d->target * c->lambda.den)
            cursor[n].option = k, cursor[n++].at = 0;
    d->next.fill = 0;
    while (n > 0) {
        struct state s = {INT64_MAX, INT64_MAX, 0};
        int from = 0;
        for (int j = 0; j < n; j++) {
            const struct state *x = &now[cursor[j].at];
            int64_t w = x->w + o[cursor[j].option].w - b->w;
            int64_t v = x->v + o[cursor[j].option].v - b->v;
            if (w > s.w || (w == s.w && v >= s.v)) continue;
            s = (struct state){w, v, x->node};
            from = j;
        }
        const int option = cursor[from].option;
        if (++cursor[from].at == d->now.fill) cursor[from] = cursor[--n];
        if (d->ticks++ % 4096 == 0 && d->deadline > 0 &&
            gm_seconds() > d->deadline)
            return GM_ELIMIT;
        if (!hopeless(d, s.w, s.v) && !add_state(d, s, option))
            return GM_ELIMIT;
    }
    return GM_OK;
}

static void adopt(struct list *d, const struct state *s,
                  const struct option *change) {
    const struct node *node = d->node.data;
    struct answer *a = d->best;
    for (long g = 0; g < d->c->G; g++) a->option[g] = d->c->group[g].base;
    for (uint32_t n = s->node; n; n = node[n].parent)
        a->option[d->item[node[n].item - 1].group] = (int)node[n].option;
    long item = change->k / GM_MAX_CANDIDATES;
    if (item < d->c->G)
        a->option[d->item[item].group] = change->k % GM_MAX_CANDIDATES;
    a->found = true;
    a->high = s->v + change->v;
}

/* The best of a state with one change of an item to come, in one sweep down the
   states and up the changes: 10^4 states and 10^3 changes stand for 10^7
   assignments.  Without it budgets are not met to the byte, nor bounds. */
static void close_list(struct list *d) {
    const struct state *s = d->now.data;
    const struct option *best = NULL, *x = d->change;
    const bool exact = d->c->p->exact;
    for (size_t i = d->now.fill; i-- > 0;) {
        const int64_t left = d->c->room - s[i].w;
        for (; x < d->change + d->changes && x->w <= left; x++)
            if (x->k / GM_MAX_CANDIDATES > d->at &&
                (!best || x->v < best->v || (exact && x->w > best->w)))
                best = x;
        if (best && (!exact || best->w == left) &&
            s[i].v + best->v < d->best->high)
            adopt(d, &s[i], best);
    }
    if (d->target >= d->best->high) d->target = d->best->high - 1;
}

/* How far (9) lies higher for a state than for the bases. */
static wide rise(const struct core *c, const struct state *s) {
    return (wide)c->lambda.den * (s->v - c->v0) +
           (wide)c->lambda.num * (s->w - c->w0);
}

/* The bin of a state; what one change cannot bring to the budget: one up. */
static size_t bin_of(const struct list *d, const struct state *s, double most) {
    double share = most > 0 ? (double)rise(d->c, s) / most : 0;
    return (size_t)(share * (BINS - 1)) +
           (magnitude(d->c->room - s->w) > d->reach);
}

/* Keeps `cap` states: the lowest bins, of the last evenly spread ones. */
static void cut_list(struct list *d) {
    size_t count[BINS + 1] = {0}, bin = 0, below = 0, fill = 0, seen = 0;
    struct state *s = d->now.data;
    double most = 0;
    for (size_t i = 0; i < d->now.fill; i++)
        most = fmax(most, (double)rise(d->c, &s[i]));
    for (size_t i = 0; i < d->now.fill; i++) count[bin_of(d, &s[i], most)]++;
    while (below + count[bin] <= d->cap) below += count[bin++];
    for (size_t i = 0; i < d->now.fill; i++) {
        const size_t at = bin_of(d, &s[i], most), some = d->cap - below;
        seen += at == bin;
        if (at < bin || (at == bin && seen * some / count[bin] >
                                          (seen - 1) * some / count[bin]))
            s[fill++] = s[i];
        else if (d->dropped < 0 || rise(d->c, &s[i]) < d->dropped)
            d->dropped = rise(d->c, &s[i]);
    }
    d->now.fill = fill;
}

/* One pass over the items: all of value <= target, but for what cap drops. */
static gm_status search(struct list *d, int64_t target, size_t cap) {
    d->target = target, d->cap = cap, d->dropped = -1;
    for (struct table *t = &d->now; t <= &d->node; t++)
        if (!t->room && !enlarge(d, t)) return GM_ELIMIT;
    *(struct state *)d->now.data = (struct state){d->c->w0, d->c->v0, 0};
    *(struct node *)d->node.data = (struct node){0, 0, 0};
    d->now.fill = d->node.fill = 1;
    for (d->at = 0; d->at < d->c->G && d->now.fill; d->at++) {
        gm_status status = visit(d);
        if (status != GM_OK) return status;
        struct table t = d->now;
        d->now = d->next, d->next = t;
        if (!d->open) close_list(d);
        if (d->now.fill > d->cap && d->open) return GM_ELIMIT;
        if (d->now.fill > d->cap) cut_list(d);
        if (gm_seconds() > d->start + 1)        /* most take milliseconds */
            gm_say(d->options->report, d->points ? "frontier" :
                   "dynamic program", d->at + 1, d->c->G);
    }
    return GM_OK;
}

static void start_list(gm_arena *arena, const struct core *c,
                       const gm_solve_options *options, struct answer *best,
                       struct list *d) {
    *d = (struct list){.c = c, .options = options, .best = best};
    d->now.each = d->next.each = sizeof(struct state);
    d->node.each = sizeof(struct node);
    d->start = gm_seconds();
    d->limit = options->memory ? options->memory : (size_t)1 << 30;
    if (options->seconds > 0) d->deadline = d->start + options->seconds;
    order_items(arena, d);
}

static void free_list(struct list *d) {
    for (struct table *t = &d->now; t <= &d->node; t++) free(t->data);
}

/* The optimum, then (12) among the assignments that reach it. */
static gm_status list_solve(gm_arena *arena, const struct core *c,
                            const gm_solve_options *options, struct answer *a,
                            gm_certificate *t) {
    struct list d;
    gm_status status = GM_OK;
    start_list(arena, c, options, a, &d);
    gm_core_start(c, a);
    for (size_t cap = FIRST_CAP; a->low < a->high; cap *= 8) {
        status = search(&d, a->high - 1, cap);
        if (status != GM_OK) break;
        const wide low = ceil_div(c->lp + d.dropped, c->lambda.den);
        if (d.dropped < 0 || low > a->high) a->low = a->high;
        else if (low > a->low) a->low = (int64_t)low;
    }
    if (a->low == a->high) status = GM_OK;
    if (status == GM_OK && a->found && !options->any) {
        d.open = true;
        a->rule = search(&d, a->high, TIES_CAP) == GM_OK;
        assert(!a->rule || d.now.fill == 1);
        if (a->rule) adopt(&d, d.now.data, &(struct option){.k = INT_MAX});
    }
    t->dp_ran = true;
    t->dp_ended = status == GM_OK;
    t->states = d.states;
    t->memory = d.peak;
    t->dp_seconds = gm_seconds() - d.start;
    free_list(&d);
    return status;
}

/* ------------------------------------------------------------- certificate */

/* (13), with the budget as asked: not rounded down to `unit`, hence not simply
   c->lp. */
static void certify(const struct core *c, const struct answer *a,
                    gm_certificate *t) {
    const wide num = c->lambda.num, den = (wide)c->lambda.den * c->unit;
    const wide left = c->p->budget - c->size0 - (wide)c->unit * c->room;
    int64_t v, w;
    t->found = a->found;
    t->rows = c->p->rows;
    t->lambda_num = (int64_t)num;
    t->lambda_den = (int64_t)den;
    for (long r = 0; r < t->rows; r++) t->mu_num[r] = c->mu[r];
    t->lp_bound = c->score0 +
                  (int64_t)ceil_div(c->lp * c->unit - num * left, den);
    t->bound = c->score0 + a->low;
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
    const size_t cells = (size_t)(p->M * p->K);
    gm_mckp q = *p;
    gm_certificate t;
    gm_solve_options plain = *options;
    int *choice = gm_alloc(arena, (size_t)p->M, sizeof *choice);
    q.size = gm_alloc(arena, cells, sizeof *q.size);
    q.score = gm_alloc(arena, cells, sizeof *q.score);
    for (size_t i = 0; i < cells; i++) {
        q.size[i] = mirror ? -p->size[i] : p->size[i];
        q.score[i] = -q.size[i];
    }
    q.rows = 0, q.exact = false;
    q.budget = mirror ? -p->budget : p->budget;
    plain.solver = GM_DP, plain.any = true;
    gm_status status = gm_mckp_solve(arena, &q, &plain, choice, &t);
    if (t.found) *size = mirror ? -t.size : t.size;
    return status == GM_OK;
}

static gm_status unreachable(gm_arena *arena, const gm_mckp *p,
                             const gm_solve_options *options,
                             gm_certificate *t) {
    const char *unit = p->unit ? p->unit : "units";
    if (!p->exact)
        return gm_says(t, GM_EINFEASIBLE, "no assignment meets the budget "
                       "together with the other constraints");
    bool below = reach(arena, p, false, options, &t->below);
    bool above = reach(arena, p, true, options, &t->above);
    t->neighbours_proven = below && above;
    if (p->rows)
        return gm_says(t, GM_EINFEASIBLE, "no assignment of exactly %" PRId64
                       " %s meets the constraints", p->budget, unit);
    return gm_says(t, GM_EINFEASIBLE, "no assignment has exactly %" PRId64
                   " %s; the %s reachable sizes are %" PRId64 " and %" PRId64,
                   p->budget, unit, below && above ? "next" : "nearest found",
                   t->below, t->above);
}

/* Both, or the one that is asked for; GLPK's answer b is merged into a. */
static gm_status run_solvers(gm_arena *arena, struct core *c,
                             const gm_solve_options *options, struct answer *a,
                             gm_certificate *t) {
    const bool list = options->solver != GM_GLPK && !c->p->rows;
    const bool glpk = options->solver != GM_DP &&
                      (gm_have_glpk() || (!list && !c->p->rows));
    if (c->p->rows && !glpk)
        gm_fail(GM_EUSAGE, "further resources need GLPK%s", gm_have_glpk() ? ""
                : ", and this program was built without it");
    gm_status first = GM_ELIMIT;
    if (list) first = list_solve(arena, c, options, a, t);
    if (list && (!glpk || (first == GM_OK && !a->found))) return first;
    struct answer b = *a;       /* an incumbent leaves GLPK few columns */
    b.option = gm_alloc(arena, (size_t)c->G, sizeof *b.option);
    memcpy(b.option, a->option, (size_t)c->G * sizeof *b.option);
    const bool ties = first != GM_OK && !options->any;
    gm_status second = gm_glpk_solve(arena, c, options, ties, &b, t);
    t->glpk_objective = c->score0 + b.high;
    t->agreed = first == GM_OK && second == GM_OK && a->high == b.high;
    if (second != GM_OK && second != GM_ELIMIT) return second;
    if (first == GM_OK && (b.low > a->high || b.high < a->high))
        return gm_says(t, GM_EDIFFER, "the dynamic program found %" PRId64
                       ", GLPK %" PRId64, c->score0 + a->high,
                       c->score0 + b.high);
    if (first == GM_OK) return GM_OK;
    if (b.low < a->low) b.low = a->low;
    *a = b;
    return second;
}

gm_status gm_mckp_solve(gm_arena *arena, const gm_mckp *p,
                        const gm_solve_options *options, int *choice,
                        gm_certificate *t) {
    struct core c;
    struct answer a = {0};
    gm_mark mark = gm_arena_mark(arena);
    *t = (gm_certificate){0};
    gm_status status = gm_core_prepare(arena, p, &c, t);
    if (status == GM_OK && !c.off) {
        a.option = gm_alloc(arena, (size_t)c.G, sizeof *a.option);
        status = run_solvers(arena, &c, options, &a, t);
        certify(&c, &a, t);
    }
    if (status == GM_OK && !a.found) status = unreachable(arena, p, options, t);
    for (long m = 0; a.found && m < p->M; m++) {
        const long g = c.group_of[m];
        choice[m] = c.group[g].option[a.option[g]].k;
    }
    if (status == GM_ELIMIT)
        gm_says(t, status, "limit reached before a proof: objective %s%" PRId64
                ", bound %" PRId64, a.found ? "" : "none found, at most ",
                a.found ? t->objective : c.score0 + c.most, t->bound);
    gm_arena_rewind(arena, mark);
    return status;
}

/* ---------------------------------------------------------------- frontier */

/* The list (10) with nothing to reach and nothing to keep within.  Where it
   outgrows the memory: the points at which (8) would stop for some room, which
   minimise v + lambda w and so are Pareto-optimal whatever else there is. */
gm_status gm_frontier_find(gm_arena *arena, const gm_mckp *problem,
                           const gm_solve_options *options, gm_frontier *out) {
    struct core c;
    struct list d;
    gm_certificate t = {0};
    gm_mckp whole = *problem;
    if (problem->rows)
        gm_fail(GM_EUSAGE, "the frontier of size and score takes no further "
                "resources");
    whole.exact = false;
    whole.budget = INT64_MAX >> 2;      /* above every sum */
    gm_status status = gm_core_prepare(arena, &whole, &c, &t);
    if (status != GM_OK) gm_fail(status, "%s", t.why);
    start_list(arena, &c, options, NULL, &d);
    d.open = d.points = true;
    status = search(&d, INT64_MAX >> 2, SIZE_MAX);
    *out = (gm_frontier){.complete = status == GM_OK};
    out->count = (long)d.now.fill;
    if (status != GM_OK)
        snprintf(out->why, sizeof out->why, "limit reached after %ld of %ld "
                 "groups, at %ld points", d.at, c.G, out->count);
    const struct state *s = d.now.data;
    const struct step *step = NULL;
    if (status != GM_OK) step = find_steps(arena, &c, &out->count);
    if (step) out->count++;
    out->point = gm_alloc(arena, (size_t)out->count, sizeof *out->point);
    int64_t w = 0, v = 0;
    for (long g = 0; g < c.G; g++) v += c.group[g].option[0].v;
    for (long i = 0; i < out->count; i++) {
        if (step && i) w += step[i - 1].dw, v -= step[i - 1].gain;
        if (!step) w = s[i].w, v = s[i].v;
        out->point[i] = (gm_point){c.size0 + w * c.unit, c.score0 + v};
    }
    free_list(&d);
    return status;
}

/* ----------------------------------------------------------------- budgets */

/* A size of the problem as the reader counts: bits per weight or file bytes. */
static const char *size_text(const gm_scores *s, const gm_budget *budget,
                             int64_t size, char text[48]) {
    if (size < 0)
        snprintf(text, 48, "none");
    else if (budget->convention == GM_BYTES)
        snprintf(text, 48, "%" PRId64, size + s->overhead);
    else
        snprintf(text, 48, "%.9g", (double)size / (double)s->N);
    return text;
}

void gm_explain_infeasible(const gm_scores *s, const gm_budget *budget,
                           const gm_certificate *t) {
    const bool bytes = budget->convention == GM_BYTES;
    const int64_t limit = budget->limit - (bytes ? s->overhead : 0);
    char text[4][48];
    if (t->largest == 0 || (t->below < 0 && t->above < 0))
        gm_fail(GM_EINFEASIBLE, "%s", t->why);
    gm_fail(GM_EINFEASIBLE, "--%s %s: no assignment %s; reachable are %s to %s "
            "%s, %s below: %s, above: %s",
            gm_convention_name(budget->convention), budget->text,
            limit < t->smallest ? "is that small" :
            limit > t->largest ? "is that large" : "meets it exactly",
            size_text(s, budget, t->smallest, text[0]),
            size_text(s, budget, t->largest, text[1]),
            bytes ? "file bytes" : "bits per weight",
            t->neighbours_proven ? "next" : "nearest found",
            size_text(s, budget, t->below, text[2]),
            size_text(s, budget, t->above, text[3]));
}
