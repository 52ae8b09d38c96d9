/* solver.c: Stage II, the integer program, solved exactly [GAMMA].

     minimise    sum_mk u_mk x_mk,  x binary                              (1)
     subject to  sum_k x_mk = 1 for each module m                         (2)
                 sum_mk s_mk x_mk <= B, or = B                            (3)
                 sum_mk c_rmk x_mk <= C_r for further resources r         (4)
                 fused modules take the same candidate                    (5)

   In the order of the code:
     integers     u = round(score 2^shift), s in the budget's unit:
                  gm_problem_build                                        (6)
     preparation  a group g is one module, or fused ones summed up;
                  w = (s - min s) / unit,  v = u,
                  sum w <= room = floor((B - sum min s) / unit)           (7)
     LP bound     walk up the lower hulls of the groups' points (w, v),
                  best rate first, until an edge does not fit: its rate is
                  lambda, the options reached so far are the bases, and
                  their sums w0 and v0                                    (8)
     weak duality for any lambda >= 0 (exact: of any sign), mu_r >= 0,
                    sum_g min_i (v + lambda w + sum_r mu_r c_r)
                    - lambda room - sum_r mu_r C_r
                  is no larger than any feasible sum of v                 (9)
     the list     of states (w, v): assignments whose groups not yet
                  visited stand at their bases; what (9), the rates of
                  the groups to come or another state beat is dropped    (10)
     GLPK         (1) to (5) with the reduced costs
                  v + lambda w + sum_r mu_r c_r - min_i of it            (11)
     ties         smallest sum of w, then lowest candidates in module
                  order: the list compares equals, GLPK solves again     (12)
     certificate  (9) in the units of (1) and (3)                        (13)

   All decisions are taken on integers.  (4) is GLPK's alone.
   May touch: memory, the clock, the file of --lp.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------- the problem */

enum { FINEST = 1074 };             /* every double times 2^1074 is whole */

void gm_mckp_new(gm_arena *arena, long M, int K, gm_mckp *out) {
    size_t cells = (size_t)M * (size_t)K;
    *out = (gm_mckp){.M = M, .K = K};
    out->size = gm_alloc(arena, cells, sizeof *out->size);
    out->score = gm_alloc(arena, cells, sizeof *out->score);
    out->allowed = gm_alloc(arena, cells, sizeof *out->allowed);
    memset(out->allowed, true, cells);
}

/* The shift: the widest module's range becomes at most 2^score_bits, and
   |u| stays below 2^44, so that sums over many modules stay far from 2^61. */
static int shift_for(double most, double range, int score_bits) {
    int exponent;                   /* x = f 2^exponent, 1/2 <= f < 1 */
    frexp(most, &exponent);
    const int largest = exponent > 44 - FINEST ? 44 - exponent : FINEST;
    const double f = frexp(range, &exponent);
    const int shift = score_bits - exponent + (f == 0.5);
    return range > 0 && shift < largest ? shift : largest;
}

/* u below 2^bits sum to less than 2^60; never less than shift_for leaves. */
static int bits_for(long M) {
    int exponent;
    frexp((double)M, &exponent);
    return exponent > 16 ? 44 : 60 - exponent;
}

/* (6).  A power of two keeps the product exact, so each score moves by at most
   1/2, an assignment's sum by M/2, and the order of two assignments can only be
   wrong when their real scores differ by at most M 2^-shift.  A larger u than
   the sums hold counts as the largest: (1) and any bound of it only fall, so
   an answer that takes none of those stands. */
static void round_scores(gm_mckp *p, int shift) {
    const double most = ldexp(1, bits_for(p->M));
    p->shift = shift;
    p->rounding = ldexp((double)p->M, -shift);
    for (long i = 0; i < p->M * p->K; i++)      /* of what is forbidden, too */
        p->score[i] = llrint(fmax(-0x1p60, fmin(ldexp(p->scores->score[i],
                                                      shift), most)));
}

void gm_problem_build(gm_arena *arena, const gm_scores *s,
                      const gm_budget *budget, int score_bits, gm_mckp *out) {
    const gm_convention in = budget->convention;
    double most = 0, range = 0, sum = 0;
    gm_mckp_new(arena, s->M, s->K, out);
    out->scores = s = gm_scores_at(arena, s, budget), out->asked = budget;
    out->budget = budget->limit - (in == GM_BYTES ? s->overhead : 0);
    for (long m = 0; m < s->M; m++) {
        double low = INFINITY, high = -INFINITY;
        for (long i = m * s->K; i < (m + 1) * s->K; i++) {
            out->allowed[i] = s->bytes[i] >= 0;
            if (!out->allowed[i]) continue;
            out->size[i] = in == GM_BITS
                               ? s->weights[m] * s->bits[i % s->K]
                               : (in == GM_EBITS ? 8 : 1) * s->bytes[i];
            low = fmin(low, s->score[i]), high = fmax(high, s->score[i]);
        }
        most = fmax(most, fmax(-low, high));
        range = fmax(range, high - low);
        sum += fabs(low) + fabs(high);
    }
    if (!isfinite(2 * sum))
        gm_bad(s->path, "scores sum to more than half the largest double");
    if (most > 0) round_scores(out, shift_for(most, range, score_bits));
}

/* What (6) leaves open of a choice (NULL: of all), in real scores: it lies no
   more above the best than `hidden`, with d = score - u 2^-shift the lesser of
     sum_m (d_m,x(m) - min_k d_mk)  and  over = sum_m (score_m,x(m) - min_k ..)
   which is in doubt when it is more than half of `apart`, the least difference
   between two scores of one module.  true: now rounded finer, to hold `over`,
   for no optimum takes more above a module's least; else `why` [128] has it. */
static bool round_finer(gm_mckp *p, const int *choice, char *why) {
    double apart = INFINITY, hidden = 0, over = 0, reach = 0;
    int exponent;
    for (long m = 0; p->rounding > 0 && m < p->M; m++) {
        const double *f = p->scores->score + m * p->K;
        double low = INFINITY, high = -low, least = low, own = -low;
        for (int k = 0; k < p->K; k++) {
            const long i = m * p->K + k;
            if (!p->allowed[i]) continue;
            const double d = f[k] - ldexp((double)p->score[i], -p->shift);
            own = !choice || choice[m] == k ? fmax(own, d) : own;
            low = fmin(low, f[k]), high = fmax(high, f[k]);
            least = fmin(least, d);
            for (int j = 0; j < k; j++)
                if (p->allowed[m * p->K + j] && f[j] != f[k])
                    apart = fmin(apart, fabs(f[j] - f[k]));
        }
        over += (choice ? f[choice[m]] : high) - low;
        hidden += own - least;
        reach = fmax(reach, fabs(low));
    }
    hidden = fmin(hidden, over);
    frexp(fmax(reach, over), &exponent);
    const int finer = bits_for(p->M) - 1 - exponent;
    const int shift = finer < FINEST ? finer : FINEST;
    const bool doubt = 2 * hidden > apart, more = doubt && shift > p->shift;
    if (more) round_scores(p, shift);
    else if (doubt)
        snprintf(why, 128, "not proven: rounding: scores as integers, times "
                 "2^%d, may hide a loss of %.3g", p->shift, 1.005 * hidden);
    return more;
}

/* A size as the reader counts: bits per weight or file bytes. */
static const char *size_text(const gm_mckp *p, int64_t size, char text[48]) {
    if (p->asked && p->asked->convention != GM_BYTES)
        snprintf(text, 48, "%.9g", (double)size / (double)p->scores->N);
    else snprintf(text, 48, "%" PRId64,
                  size + (p->asked ? p->scores->overhead : 0));
    return size < 0 ? "none" : text;
}

void gm_problem_refuse(const gm_mckp *p, const gm_reach *t) {
    char text[5][48];
    snprintf(text[4], 48, "%" PRId64, p->budget);
    gm_fail(GM_EINFEASIBLE, "a budget of %s %s: no assignment %s; reachable are "
            "%s to %s %s, %s below: %s, above: %s",
            p->asked ? p->asked->text : text[4],
            p->asked ? gm_convention_name(p->asked->convention) : "units",
            p->budget < t->smallest ? "is that small" :
            p->budget > t->largest ? "is that large" : "meets it exactly",
            size_text(p, t->smallest, text[0]),
            size_text(p, t->largest, text[1]), !p->asked ? "units" :
            p->asked->convention == GM_BYTES ? "file bytes" : "bits per weight",
            t->proven ? "next" : "nearest found",
            size_text(p, t->below, text[2]), size_text(p, t->above, text[3]));
}

/* ------------------------------------------------------------- preparation */

typedef __int128 wide;              /* products of sums below 2^61 */

struct option { int64_t w, v; int k; };

struct group {
    long module;                /* its first                                 */
    int options, base;
    struct option *option;      /* ascending in w, then v, then k            */
    wide least;                 /* lambda.den times the minimum in (9)       */
};

/* The prepared problem, and what its solution may use and says. */
struct core {
    const gm_mckp *p;
    gm_arena *arena;
    const gm_solve_options *options;
    gm_certificate *t;
    double seconds;             /* that a solver may take                    */
    long G;
    struct group *group;        /* [G]                                       */
    long *group_of;             /* [M]                                       */
    int64_t *cost;              /* [rows, M, K]: of group g at candidate k   */
    int64_t size0;              /* sum of min s                              */
    int64_t unit, room, most;   /* most: sum of the largest v                */
    bool off;                   /* exact, and no multiple of unit meets it   */
    bool refuted;               /* what GLPK claims is not so in integers    */
    int64_t w0, v0;
    struct { int64_t num, den; } lambda;
    int64_t mu[GM_MAX_ROWS];    /* over lambda.den                           */
    wide lp;                    /* lambda.den times (9)                      */
};

/* What a solver knows: the optimum lies in low .. high; option [G], if found,
   has value high; rule: it is the one that (12) asks for. */
struct answer { int64_t low, high; bool found, rule; int *option; };

static int64_t gcd(int64_t a, int64_t b) {      /* a, b >= 0 */
    while (b) {
        int64_t rest = a % b;
        a = b, b = rest;
    }
    return a;
}

static wide ceil_div(wide a, wide b) { return a / b + (a % b > 0); }
static wide magnitude(wide a) { return a < 0 ? -a : a; }
static int64_t lower(int64_t a, int64_t b) { return a < b ? a : b; }

/* Sums of |largest| stay below 2^61: no sum and no product with a rate
   overflows. */
static void check_problem(const gm_mckp *p) {
    const wide limit = (wide)1 << 61;
    wide size = 0, score = 0;
    if (p->M < 1 || p->K < 1 || p->K > GM_MAX_CANDIDATES)
        gm_bad("integer program", "expected at least 1 module and 1 to %d "
               "candidates, found %ld and %d", GM_MAX_CANDIDATES, p->M, p->K);
    if (p->rows < 0 || p->rows > GM_MAX_ROWS)
        gm_bad("integer program", "expected at most %d extra rows, found %ld",
               GM_MAX_ROWS, p->rows);
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
        gm_bad("integer program", "budget beyond 2^61");
    if (size >= limit || score >= limit)
        gm_bad("integer program", "sizes, costs or scores sum to 2^61 or more");
}

static int by_size(const void *a, const void *b) {
    const struct option *x = a, *y = b;
    if (x->w != y->w) return x->w < y->w ? -1 : 1;
    if (x->v != y->v) return x->v < y->v ? -1 : 1;
    return x->k - y->k;
}

/* Groups in module order; what one member may not take, the group may not. */
static void find_groups(struct core *c) {
    const gm_mckp *p = c->p;
    const long M = p->M, K = p->K;
    gm_reach *reach = &c->t->reach;
    struct option *all = gm_alloc(c->arena, (size_t)(M * K), sizeof *all);
    c->group = gm_alloc(c->arena, (size_t)M, sizeof *c->group);
    c->group_of = gm_alloc(c->arena, (size_t)M, sizeof *c->group_of);
    c->cost = gm_alloc(c->arena, (size_t)(p->rows * M * K), sizeof *c->cost);
    for (long m = 0; m < M; m++) {
        long g = c->G;
        for (long n = 0; p->group && p->group[m] >= 0 && n < m; n++)
            if (p->group[n] == p->group[m]) g = c->group_of[n];
        if (g == c->G)
            c->group[c->G++] = (struct group){.module = m,
                                              .option = all + g * K};
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
            if (o[k].k == 0)
                o[group->options++] = (struct option){o[k].w, o[k].v, k};
        if (!group->options)
            gm_fail(GM_EINFEASIBLE, "module %s: the constraints leave it no "
                    "candidate",
                    p->scores ? p->scores->name[group->module] : "?");
        qsort(o, (size_t)group->options, sizeof *o, by_size);
        reach->smallest += o[0].w;
        reach->largest += o[group->options - 1].w;
    }
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
        const int64_t w = o[0].w;
        int64_t most = o[0].v;
        for (int i = 0; i < n; i++) {
            o[i].w -= w;
            c->unit = gcd(c->unit, o[i].w);
            if (o[i].v > most) most = o[i].v;
        }
        c->group[g].options = n;
        c->size0 += w, c->most += most;
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
struct edge { long group; int to; int64_t dw, gain; };

static int by_rate(const void *a, const void *b) {
    const struct edge *x = a, *y = b;
    wide l = (wide)x->gain * y->dw, r = (wide)y->gain * x->dw;
    if (l != r) return l > r ? -1 : 1;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    return x->to - y->to;
}

/* The edges of all groups, best rate gain / dw first. */
static struct edge *find_edges(const struct core *c, long *count) {
    const size_t cells = (size_t)(c->G * c->p->K);
    struct edge *edge = gm_alloc(c->arena, cells, sizeof *edge);
    *count = 0;
    for (long g = 0; g < c->G; g++) {
        const struct option *o = c->group[g].option;
        int from, at = 0;
        do {                            /* the best rate from `at` upwards */
            struct edge best = {.to = at};
            for (int i = at + 1; i < c->group[g].options; i++) {
                struct edge e = {g, i, o[i].w - o[at].w, o[at].v - o[i].v};
                if (e.dw == 0 || (!c->p->exact && e.gain <= 0)) continue;
                if (best.to == at || by_rate(&e, &best) < 0) best = e;
            }
            from = at, at = best.to;
            if (at > from) edge[(*count)++] = best;
        } while (at > from);
    }
    qsort(edge, (size_t)*count, sizeof *edge, by_rate);
    return edge;
}

/* What option i of group g takes of extra row r; r = -1: of size. */
static int64_t cost_of(const struct core *c, long r, long g, int i) {
    const struct option *o = &c->group[g].option[i];
    return r < 0 ? o->w : c->cost[(r * c->p->M + g) * c->p->K + o->k];
}

/* lambda.den (v + lambda w + sum_r mu_r c_r) - least: what (9) rises by for all
   that take the option. */
static wide excess(const struct core *c, long g, int i) {
    const struct option *o = &c->group[g].option[i];
    wide sum = (wide)c->lambda.den * o->v + (wide)c->lambda.num * o->w;
    for (long r = 0; r < c->p->rows; r++)
        sum += (wide)c->mu[r] * cost_of(c, r, g, i);
    return sum - c->group[g].least;
}

/* (9) */
static void find_bound(struct core *c) {
    c->lp = -(wide)c->lambda.num * c->room;
    for (long r = 0; r < c->p->rows; r++)
        c->lp -= (wide)c->mu[r] * c->p->row[r].limit;
    for (long g = 0; g < c->G; g++) {
        c->group[g].least = 0;
        wide least = excess(c, g, 0);
        for (int i = 1; i < c->group[g].options; i++) {
            const wide x = excess(c, g, i);
            least = x < least ? x : least;
        }
        c->lp += c->group[g].least = least;
    }
}

/* (8) (Sinha, Zoltners 1979) */
static void solve_lp(struct core *c) {
    gm_mark mark = gm_arena_mark(c->arena);
    long n, i = 0;
    const struct edge *edge = find_edges(c, &n);
    for (long g = 0; g < c->G; g++) c->v0 += c->group[g].option[0].v;
    for (; i < n && c->w0 + edge[i].dw <= c->room; i++) {
        c->group[edge[i].group].base = edge[i].to;
        c->w0 += edge[i].dw;
        c->v0 -= edge[i].gain;
    }
    c->lambda.den = 1;
    if (i == n && c->p->exact) i = n - 1;   /* any rate up to the last is one */
    if (i >= 0 && i < n) {
        int64_t d = gcd((int64_t)magnitude(edge[i].gain), edge[i].dw);
        c->lambda.num = edge[i].gain / d, c->lambda.den = edge[i].dw / d;
    }
    find_bound(c);
    gm_arena_rewind(c->arena, mark);
}

/* (7), (8), (9); fails when a module has no candidate or no size fits. */
static struct core prepare(gm_arena *arena, const gm_mckp *p,
                           const gm_solve_options *options, gm_certificate *t) {
    struct core c = {.p = p, .arena = arena, .options = options, .t = t};
    gm_reach *reach = &t->reach;
    *t = (gm_certificate){.reach = {0, 0, -1, -1, true}};
    c.seconds = options->seconds > 0 ? options->seconds : INFINITY;
    check_problem(p);
    find_groups(&c);
    const bool small = p->budget < reach->smallest;
    const bool large = p->budget > reach->largest;
    if (small) reach->above = reach->smallest;
    if (large) reach->below = reach->largest;
    if (small || (p->exact && large)) gm_problem_refuse(p, reach);
    reduce(&c);
    solve_lp(&c);
    return c;
}

/* Whether option [G] meets all constraints within `room`; its sums. */
static bool is_feasible(const struct core *c, int64_t room, const int *option,
                        int64_t *v, int64_t *w) {
    *v = *w = 0;
    for (long g = 0; g < c->G; g++) {
        *v += c->group[g].option[option[g]].v;
        *w += c->group[g].option[option[g]].w;
    }
    bool good = c->p->exact ? *w == room : *w <= room;
    for (long r = 0; r < c->p->rows; r++) {
        int64_t left = c->p->row[r].limit;
        for (long g = 0; g < c->G; g++) left -= cost_of(c, r, g, option[g]);
        good = good && left >= 0;
    }
    return good;
}

/* Before a search; `a` may hold an incumbent. */
static void start_answer(const struct core *c, struct answer *a) {
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

   (10), from the last group to the first.  A state, itself a complete
   assignment, is dropped when
     - another is no larger and no worse (exact: as large and no worse); of
       equals the one stays that takes the lower candidate in the group just
       visited, which is the earliest in which they differ;
     - (9) of all that it can become is above target.
   Neither drops the assignment that (12) asks for: with the same options in the
   groups to come, what beat it would be better, smaller or earlier.

   A list longer than `cap` keeps those of least excess over (9) that one more
   change can bring to the budget.  The best found is an incumbent, the least
   excess dropped bounds the rest, and the next pass has 8 times the cap. */

enum { FIRST_CAP = 1 << 12, TIES_CAP = 1 << 17 };

struct state { int64_t w, v; uint32_t node; };
/* An option that is not the base.  Node 0: none. */
struct node { uint32_t parent, group : 28, option : 4; };
struct table { void *data; size_t fill, room, each; };

struct list {
    const struct core *c;
    struct answer *best;        /* NULL: only (w, v) of all points           */
    struct option *change;      /* of one group from its base, by size; k =
                                   group GM_MAX_CANDIDATES + option; negative:
                                   none                                      */
    long changes, g;            /* g: visited now; those below are to come   */
    struct table now, next, node;
    size_t memory, limit;       /* bytes of the tables                       */
    size_t cap;
    int64_t target, reach;      /* reach: the largest change                 */
    wide dropped;               /* least excess lost to cap; -1: none was    */
    long states;
    double start, deadline;
};

static bool enlarge(struct list *d, struct table *t) {
    const size_t room = t->room ? 2 * t->room : 1024, bytes = room * t->each;
    if (d->memory + bytes > d->limit || room > (size_t)1 << 32) return false;
    void *data = realloc(t->data, bytes);           /* nodes are uint32_t */
    if (!data) return false;
    d->memory += bytes - t->room * t->each;
    t->data = data, t->room = room;
    return true;
}

/* How far (9) lies higher for a state than for the bases. */
static wide rise(const struct core *c, const struct state *s) {
    return (wide)c->lambda.den * (s->v - c->v0) +
           (wide)c->lambda.num * (s->w - c->w0);
}

/* The list shifted by each option of the group that (9) leaves, merged in order
   of (w, v, k), without what a state or (9) excludes.  false: no memory. */
static bool visit(struct list *d) {
    const struct core *c = d->c;
    const struct group *group = &c->group[d->g];
    const struct option *o = group->option, *b = o + group->base;
    const struct state *now = d->now.data;
    struct table *next = &d->next, *chain = &d->node;
    struct { int option; size_t at; } cursor[GM_MAX_CANDIDATES];
    int n = 0;
    for (int i = 0; i < group->options; i++)
        if (c->lp + excess(c, d->g, i) <= (wide)d->target * c->lambda.den)
            cursor[n].option = i, cursor[n++].at = 0;
    next->fill = 0;
    while (n > 0) {
        struct option least = {INT64_MAX, INT64_MAX, 0};
        int from = 0;
        for (int j = 0; j < n; j++) {
            const struct option *x = &o[cursor[j].option];
            const struct state *y = &now[cursor[j].at];
            const struct option sum = {y->w + x->w - b->w, y->v + x->v - b->v,
                                       x->k};
            if (by_size(&sum, &least) < 0) least = sum, from = j;
        }
        const int option = cursor[from].option;
        struct state s = {least.w, least.v, now[cursor[from].at].node};
        if (++cursor[from].at == d->now.fill) cursor[from] = cursor[--n];
        if ((next->fill == next->room && !enlarge(d, next)) ||
            (chain->fill == chain->room && !enlarge(d, chain)))
            return false;
        struct state *to = (struct state *)next->data + next->fill;
        if (c->lp + rise(c, &s) > (wide)d->target * c->lambda.den ||
            (next->fill && (c->p->exact ? s.w == to[-1].w : s.v >= to[-1].v)))
            continue;
        if (d->g == 0 && (s.v > d->target ||
                          (c->p->exact ? s.w != c->room : s.w > c->room)))
            continue;                   /* misses it at the end */
        if (option != group->base && d->best) {
            ((struct node *)chain->data)[chain->fill] = (struct node){
                s.node, (uint32_t)d->g & 0xfffffff, (uint32_t)option & 15};
            s.node = (uint32_t)chain->fill++;
        }
        *to = s, next->fill++, d->states++;
    }
    return true;
}

/* A state with one change more is the answer. */
static void adopt(struct list *d, const struct state *s,
                  const struct option *change) {
    const struct node *node = d->node.data;
    struct answer *a = d->best;
    for (long g = 0; g < d->c->G; g++) a->option[g] = d->c->group[g].base;
    for (uint32_t n = s->node; n; n = node[n].parent)
        a->option[node[n].group] = (int)node[n].option;
    if (change->k >= 0)
        a->option[change->k / GM_MAX_CANDIDATES] =
            change->k % GM_MAX_CANDIDATES;
    a->found = true;
    a->high = s->v + change->v;
}

/* The best of a state with one change of a group to come, in one sweep down the
   states and up the changes: 10^4 states and 10^3 changes stand for 10^7
   assignments.  Without it budgets are not met to the byte, nor bounds. */
static void close_list(struct list *d) {
    const struct state *s = d->now.data;
    const struct option *best = NULL, *x = d->change;
    const bool exact = d->c->p->exact;
    for (size_t i = d->now.fill; i-- > 0;) {
        const int64_t left = d->c->room - s[i].w;
        for (; x < d->change + d->changes && x->w <= left; x++)
            if (x->k < d->g * GM_MAX_CANDIDATES &&
                (!best || x->v < best->v || (exact && x->w > best->w)))
                best = x;
        if (best && (!exact || best->w == left) &&
            s[i].v + best->v < d->best->high)
            adopt(d, &s[i], best);
    }
    d->target = lower(d->target, d->best->high - 1);
}

/* Keeps at most `cap` states: as often as needed those of at most the mean
   excess, of those at it every second. */
static void cut_list(struct list *d) {
    struct state *s = d->now.data;
    while (d->now.fill > d->cap) {
        size_t fill = 0;
        wide mean = 0;
        for (size_t i = 0; i < d->now.fill; i++) mean += rise(d->c, &s[i]);
        mean /= (wide)d->now.fill;
        for (size_t i = 0; i < d->now.fill; i++) {
            const wide x = rise(d->c, &s[i]);
            const bool near = magnitude(d->c->room - s[i].w) <= d->reach;
            if (near && (x < mean || (x == mean && i % 2))) s[fill++] = s[i];
            else if (d->dropped < 0 || x < d->dropped) d->dropped = x;
        }
        d->now.fill = fill;
    }
}

/* One pass over the groups: all of value <= target but for what cap drops; with
   nothing to improve, as for (12), cap is the end.  false: memory, time. */
static bool search(struct list *d, int64_t target, size_t cap) {
    d->target = target, d->cap = cap, d->dropped = -1;
    for (struct table *t = &d->now; t <= &d->node; t++)
        if (!t->room && !enlarge(d, t)) return false;
    *(struct state *)d->now.data = (struct state){d->c->w0, d->c->v0, 0};
    d->now.fill = d->node.fill = 1;
    for (d->g = d->c->G - 1; d->g >= 0 && d->now.fill; d->g--) {
        const double now = gm_seconds();
        const bool open = !d->best || d->best->low == d->best->high;
        if (now > d->deadline || !visit(d)) return false;
        struct table t = d->now;
        d->now = d->next, d->next = t;
        if (!open) close_list(d);
        if (d->now.fill > d->cap && open) return false;
        if (d->now.fill > d->cap) cut_list(d);
        if (now > d->start + 1)         /* most take milliseconds */
            gm_say(d->c->options->report, d->best ? "dynamic program" :
                   "frontier", d->c->G - d->g, d->c->G);
    }
    return true;
}

static void start_list(const struct core *c, struct answer *best,
                       struct list *d) {
    const size_t cells = (size_t)(c->G * c->p->K);
    *d = (struct list){.c = c, .best = best, .start = gm_seconds()};
    d->now.each = d->next.each = sizeof(struct state);
    d->node.each = sizeof(struct node);
    d->limit = c->options->memory ? c->options->memory : (size_t)1 << 30;
    d->deadline = d->start + c->seconds;
    d->change = gm_alloc(c->arena, cells + 1, sizeof *d->change);
    d->change[d->changes++].k = -GM_MAX_CANDIDATES;
    for (long g = 0; g < c->G; g++) {
        const struct group *group = &c->group[g];
        const struct option *o = group->option, *b = o + group->base;
        const int64_t largest = o[group->options - 1].w;
        if (largest > d->reach) d->reach = largest;
        for (int i = 0; i < group->options; i++)
            if (i != group->base)
                d->change[d->changes++] = (struct option){
                    o[i].w - b->w, o[i].v - b->v,
                    (int)g * GM_MAX_CANDIDATES + i};
    }
    qsort(d->change, (size_t)d->changes, sizeof *d->change, by_size);
}

static void free_list(struct list *d) {
    for (struct table *t = &d->now; t <= &d->node; t++) free(t->data);
}

/* The optimum, then (12) among the assignments that reach it.  true: proven. */
static bool list_solve(const struct core *c, struct answer *a) {
    gm_certificate *t = c->t;
    struct list d;
    start_list(c, a, &d);
    start_answer(c, a);
    for (size_t cap = FIRST_CAP; a->low < a->high; cap *= 8) {
        if (!search(&d, a->high - 1, cap)) break;
        const wide low = ceil_div(c->lp + d.dropped, c->lambda.den);
        if (d.dropped < 0 || low > a->high) a->low = a->high;
        else if (low > a->low) a->low = (int64_t)low;
    }
    t->dp_ran = true;
    t->dp_ended = a->low == a->high;
    if (t->dp_ended && a->found && !c->options->any) {
        a->rule = search(&d, a->high, TIES_CAP);
        assert(!a->rule || d.now.fill == 1);
        if (a->rule) adopt(&d, d.now.data, &(struct option){.k = -1});
    }
    t->states = d.states;
    t->memory = d.memory;
    t->dp_seconds = gm_seconds() - d.start;
    free_list(&d);
    return t->dp_ended;
}

/* -------------------------------------------------------------------- GLPK

   (11): a binary column for each option still alive, a row for each group, for
   size and each extra row.  In those rows the least alive cost of each group is
   subtracted, the common divisor taken out, and a slack column costs the
   multiplier: the same program, but its numbers are of the size of the gap.
   With plain byte sizes GLPK times out and calls over-budget answers optimal
   (measured, 5.0: its tolerance is 1e-5 on coefficients of 1e7); with plain
   scores near 2^40 that tolerance hid differences of 1. */

#ifdef GM_NO_GLPK

static bool glpk_solve(struct core *c, bool ties, struct answer *a) {
    (void)c, (void)ties, (void)a;
    gm_fail(GM_EUSAGE, "this program was built without GLPK (make GLPK=0)");
}

#else

struct glpk {
    struct core *c;
    double deadline;
    bool *alive;                /* [G, K] options that GLPK may take         */
    int *index;                 /* a row of the model, from 1 on             */
    double *value;
    int64_t unit[GM_MAX_ROWS + 1];      /* of row r at r + 1; 0: no row      */
    bool impossible;            /* nothing alive meets some row              */
    double constant, scale;     /* of the objective; its largest number      */
    bool found;                 /* an assignment, recomputed                 */
    int *option;                /* [G] of it                                 */
    int64_t v, w, low;          /* low: nothing alive has a smaller v        */
};

/* (2), with what the names say: module (the first of its group), candidate. */
static void add_groups(struct glpk *q, gm_mip *mip) {
    const struct core *c = q->c;
    const gm_scores *s = c->p->scores;
    char name[256];
    for (long g = 0; g < c->G; g++) {
        const long m = c->group[g].module;
        int n = 0;
        for (int i = 0; i < c->group[g].options; i++) {
            if (!q->alive[g * c->p->K + i]) continue;
            snprintf(name, sizeof name, "x%ld_%d.%.200s", m,
                     c->group[g].option[i].k, s ? s->name[m] : "");
            const double cost = (double)excess(c, g, i) / (double)c->lambda.den;
            q->scale = fmax(q->scale, cost);
            q->index[++n] = gm_mip_column(mip, cost, true, name);
            q->value[n] = 1;
        }
        gm_mip_row(mip, n, q->index, q->value, true, 1);
    }
}

/* (3), r = -1, or a row of (4).  What its divisor leaves of the limit is slack
   in any case. */
static void add_row(struct glpk *q, gm_mip *mip, long r, int64_t limit) {
    const struct core *c = q->c;
    const bool equal = r < 0 && c->p->exact;
    const double price = (double)(r < 0 ? c->lambda.num : c->mu[r]) /
                         (double)c->lambda.den;
    int64_t unit = 0;
    int n = 0, column = 0;
    for (long g = 0; g < c->G; g++) {
        const bool *alive = q->alive + g * c->p->K;
        int64_t least = INT64_MAX;
        for (int i = 0; i < c->group[g].options; i++)
            if (alive[i]) least = lower(least, cost_of(c, r, g, i));
        if (least == INT64_MAX) q->impossible = true;
        else limit -= least;
        for (int i = 0; i < c->group[g].options; i++) {
            const int64_t cost = cost_of(c, r, g, i) - least;
            column += alive[i];
            if (!alive[i] || cost == 0) continue;
            q->index[++n] = column, q->value[n] = (double)cost;
            unit = gcd(unit, cost);
        }
    }
    const int64_t rest = unit ? limit % unit : limit;
    if (limit < 0 || (equal && rest)) q->impossible = true;
    q->constant += price * (double)rest;
    q->unit[r + 1] = unit;
    if (unit == 0) limit = 0, unit = 1;         /* nothing alive differs */
    else if (price > 0 && !equal) {
        q->scale = fmax(q->scale, price * (double)unit);
        q->index[++n] = gm_mip_column(mip, price * (double)unit, false, NULL);
        q->value[n] = (double)unit;
    }
    for (int i = 1; i <= n; i++) q->value[i] /= (double)unit;
    gm_mip_row(mip, n, q->index, q->value, equal || price > 0,
               (double)(limit / unit));
}

/* The model of what is alive within `room`. */
static gm_mip *begin_model(struct glpk *q, int64_t room) {
    const struct core *c = q->c;
    gm_mip *mip = gm_mip_begin(c->arena, c->options->verbose
                                             ? c->options->report : NULL);
    q->constant = (double)(c->lp + (wide)c->lambda.num * (c->room - room)) /
                  (double)c->lambda.den;
    q->impossible = false, q->scale = 0;
    add_groups(q, mip);
    add_row(q, mip, -1, room);
    for (long r = 0; r < c->p->rows; r++)
        add_row(q, mip, r, c->p->row[r].limit);
    return mip;
}

/* Lets live what an assignment of value <= target may use. */
static void revive(struct glpk *q, int64_t target) {
    const struct core *c = q->c;
    for (long g = 0; g < c->G; g++)
        for (int i = 0; i < c->group[g].options; i++)
            q->alive[g * c->p->K + i] =
                c->lp + excess(c, g, i) <= (wide)target * c->lambda.den;
}

/* The model with a column that is 1 and costs the constant. */
static void write_model(struct glpk *q) {
    if (!q->c->p->exact && !q->c->p->rows) revive(q, q->c->v0); /* bases fit */
    gm_mip *mip = begin_model(q, q->c->room);
    const int one[2] = {0, gm_mip_column(mip, q->constant, false, "one")};
    gm_mip_row(mip, 1, one, (double[]){0, 1}, true, 1);
    gm_mip_write(q->c->arena, mip, q->c->options->lp);
    gm_mip_end(mip);
}

/* Multipliers of all rows from GLPK's LP, as fractions of a power of two; any
   non-negative ones give a valid bound (9), these a good one.  The costs carry
   the present multipliers: a dual y means price - y. */
static void find_multipliers(struct glpk *q) {
    struct core *c = q->c;
    double *dual = gm_alloc(c->arena, (size_t)(c->G + c->p->rows) + 2,
                            sizeof *dual);
    double price[GM_MAX_ROWS + 1] = {(double)c->lambda.num /
                                     (double)c->lambda.den}, most = 0;
    int shift = 0;
    gm_mip *mip = begin_model(q, c->room);
    gm_mip_duals(mip, dual);
    gm_mip_end(mip);
    for (int r = 0; r <= c->p->rows; r++) {
        if (q->unit[r])
            price[r] -= dual[c->G + 1 + r] / (double)q->unit[r];
        if (!(price[r] > 0) && !(r == 0 && c->p->exact)) price[r] = 0;
        most = fmax(most, fabs(price[r]));
    }
    while (shift < 40 && ldexp(most, shift) < 0x1p40) shift++;
    if (!(most < 0x1p60)) return;
    c->lambda.num = llround(ldexp(price[0], shift));
    c->lambda.den = (int64_t)1 << shift;
    for (int r = 0; r < c->p->rows; r++)
        c->mu[r] = llround(ldexp(price[r + 1], shift));
    find_bound(c);
}

/* min v over what is alive within `room`, recomputed in integers; whether it is
   proven.  GLPK compares doubles: its optimum may lie above the true one by
   2e-10 of the objective it saw and of its largest cost (the worst on 60,000
   instances, GLPK 5.0); that is below 1, hence 0, for scores of 30 bits.  What
   integers refute proves nothing (seen with rows of numbers from 2^19 on). */
static bool minimum(struct glpk *q, int64_t room) {
    struct core *c = q->c;
    int column = 0;
    gm_mip *mip = begin_model(q, room);
    gm_mip_answer x = {.proven = true};
    if (!q->impossible) x = gm_mip_solve(mip, q->deadline - gm_seconds());
    for (long g = 0; g < c->G && x.found; g++)
        for (int i = 0; i < c->group[g].options; i++)
            if (q->alive[g * c->p->K + i] && gm_mip_takes(mip, ++column))
                q->option[g] = i;
    gm_mip_end(mip);
    c->t->nodes += x.nodes;
    q->found = x.found && is_feasible(c, room, q->option, &q->v, &q->w);
    q->low = INT64_MIN;
    c->refuted = c->refuted || (x.proven && x.found && !q->found);
    if (x.proven && !q->found) return !c->refuted;
    const double bound = q->constant + x.bound - 1e-6 * (1 + fabs(x.bound)) -
                         1e-12 * fabs(q->constant);
    if (fabs(bound) < 0x1p61) q->low = (int64_t)ceil(bound);
    if (!x.proven) return false;
    q->scale = fmax(q->scale, fabs((double)q->v - q->constant));
    q->low = q->v - (int64_t)(2e-10 * q->scale);
    return true;
}

static void take(const struct glpk *q, struct answer *a) {
    a->found = true;
    a->high = q->v;
    memcpy(a->option, q->option, (size_t)q->c->G * sizeof *a->option);
}

/* The optimum, with the options alive that a target leaves: the incumbent, or
   without one a value near the LP bound, raised until the answer is below it.
   true: proven. */
static bool glpk_optimum(struct glpk *q, struct answer *a) {
    int64_t more = a->high - a->low;
    if (!a->found) more = more / 4096 + 1;
    for (bool last = false; !last; more *= 16) {    /* once in any case */
        last = more >= a->high - a->low;
        const int64_t target = last ? a->high : a->low + more;
        revive(q, target);
        const bool proven = minimum(q, q->c->room);
        if (proven && !q->found) q->low = target + 1;
        if (q->found && (!a->found || q->v < a->high)) take(q, a);
        if (a->found && (q->low > a->high || a->low > a->high))
            q->c->refuted = true;
        q->low = lower(lower(q->low, target + 1), a->high);
        if (q->low > a->low) a->low = q->low;
        if (!proven) return false;
        if (a->low == a->high || (q->found && q->v <= target)) last = true;
    }
    return !a->found || a->low == a->high;
}

/* Whether what is alive reaches a->high within `room`; then it is the answer.
   `rule` stays as long as GLPK proves all that it is asked. */
static bool reaches(struct glpk *q, int64_t room, struct answer *a) {
    a->rule = minimum(q, room);
    if (!a->rule || !q->found || q->v > a->high) return false;
    if (q->v < a->high) q->c->refuted = true;
    take(q, a);
    return a->rule = !q->c->refuted;
}

/* (12): the smallest room (first one unit less, usually the end; then by
   halving), then for each module in order the lowest candidate. */
static void glpk_ties(struct glpk *q, struct answer *a) {
    const struct core *c = q->c;
    const int K = c->p->K;
    int64_t v, w, low = -1;
    a->rule = true;
    revive(q, a->high);
    is_feasible(c, c->room, a->option, &v, &w);
    for (int64_t room = w - 1; a->rule && !c->p->exact && low + 1 < w;
         room = low + (w - low) / 2) {
        if (reaches(q, room, a)) w = q->w;
        else low = room;
    }
    for (long g = 0; g < c->G; g++) {
        const struct option *o = c->group[g].option;
        bool *alive = q->alive + g * K, was[GM_MAX_CANDIDATES];
        memcpy(was, alive, (size_t)K);
        for (int k = 0; a->rule && k < o[a->option[g]].k; k++)
            for (int i = 0; i < c->group[g].options; i++) {
                if (o[i].k != k || !was[i]) continue;
                memset(alive, false, (size_t)K);
                alive[i] = true;
                reaches(q, w, a);
            }
        memset(alive, false, (size_t)K);
        alive[a->option[g]] = true;
    }
}

/* GLPK's optimum, better than an incumbent in `a` if there is one; with `ties`
   the one that (12) asks for.  true: proven. */
static bool glpk_solve(struct core *c, bool ties, struct answer *a) {
    const double start = gm_seconds();
    const size_t cells = (size_t)(c->G * c->p->K);
    struct glpk *q = gm_alloc(c->arena, 1, sizeof *q);
    q->c = c, q->deadline = start + c->seconds;
    q->alive = gm_alloc(c->arena, cells, sizeof *q->alive);
    q->index = gm_alloc(c->arena, cells + 2, sizeof *q->index);
    q->value = gm_alloc(c->arena, cells + 2, sizeof *q->value);
    q->option = gm_alloc(c->arena, (size_t)c->G, sizeof *q->option);
    revive(q, INT64_MAX);
    if (c->p->rows) find_multipliers(q);
    if (c->options->lp) write_model(q);
    start_answer(c, a);
    const bool proven = glpk_optimum(q, a);
    if (proven && a->found && ties) glpk_ties(q, a);
    c->t->glpk_ran = true;
    c->t->glpk_seconds = gm_seconds() - start;
    if (c->refuted) a->low = INT64_MIN;
    return proven && !c->refuted;
}

#endif

/* ------------------------------------------------------------- certificate */

/* (13), with the budget as asked: not rounded down to `unit`, hence not simply
   c->lp. */
static void certify(const struct core *c, const struct answer *a) {
    gm_certificate *t = c->t;
    const wide num = c->lambda.num, den = (wide)c->lambda.den * c->unit;
    const wide left = c->p->budget - c->size0 - (wide)c->unit * c->room;
    int64_t v, w;
    t->found = a->found;
    t->lambda_num = (int64_t)num;
    t->lambda_den = (int64_t)den;
    memcpy(t->mu_num, c->mu, sizeof t->mu_num);
    t->lp_bound = (int64_t)ceil_div(c->lp * c->unit - num * left, den);
    t->bound = a->low > t->lp_bound ? a->low : t->lp_bound;
    if (!a->found) return;
    bool good = is_feasible(c, c->room, a->option, &v, &w);
    assert(good && v == a->high);
    (void)good;
    t->objective = v;
    t->size = c->size0 + w * c->unit;
    t->slack = c->p->budget - t->size;
    t->optimal = t->bound == t->objective;
    t->unique_rule = a->rule && t->optimal;
}

/* Next to a budget that nothing meets exactly: the largest reachable size below
   it, then the smallest above.  The same program with score = -size; the
   smallest and the largest size fit, so there is always one. */
static void find_neighbours(const struct core *c) {
    const gm_mckp *p = c->p;
    gm_reach *reach = &c->t->reach;
    gm_certificate near;
    gm_solve_options plain = *c->options;
    gm_mckp q;
    int *choice = gm_alloc(c->arena, (size_t)p->M, sizeof *choice);
    gm_mckp_new(c->arena, p->M, p->K, &q);
    q.allowed = p->allowed, q.group = p->group;
    plain.solver = GM_DP, plain.any = true;
    for (int sign = 1; sign >= -1; sign -= 2) {
        q.budget = sign * p->budget;
        for (long i = 0; i < p->M * p->K; i++) {
            q.size[i] = sign * p->size[i];
            q.score[i] = -q.size[i];
        }
        if (gm_mckp_solve(c->arena, &q, &plain, choice, &near))
            reach->proven = false;
        *(sign > 0 ? &reach->below : &reach->above) = sign * near.size;
    }
}

/* Both, or the one that is asked for; GLPK's answer b is merged into a.  true:
   proven. */
static bool run_solvers(struct core *c, struct answer *a) {
    const bool have = gm_have_glpk();
    const bool list = c->options->solver != GM_GLPK && !c->p->rows;
    const bool glpk = c->options->solver != GM_DP && (have || !list);
    if (c->p->rows && (!glpk || !have))
        gm_fail(GM_EUSAGE, "further resources need GLPK%s",
                have ? "" : ", and this program was built without it");
    const bool first = list && list_solve(c, a);
    if (list && (!glpk || (first && !a->found))) return first;
    struct answer b = *a;       /* an incumbent leaves GLPK few columns */
    b.option = gm_alloc(c->arena, (size_t)c->G, sizeof *b.option);
    memcpy(b.option, a->option, (size_t)c->G * sizeof *b.option);
    const bool second = glpk_solve(c, !first && !c->options->any, &b);
    c->t->agreed = first && second && a->high == b.high;
    if (first && b.high < a->high)
        gm_fail(GM_EDIFFER, "the dynamic program found %" PRId64 ", GLPK %"
                PRId64, a->high, b.high);
    if (first) return true;
    if (b.low < a->low) b.low = a->low;
    *a = b;
    return second;
}

enum { FEW = 1 << 20 };

/* All assignments, where they are few: GLPK's tolerances can leave a gap, or an
   answer that it proves but not its tie.  true: done. */
static bool enumerate(const struct core *c, struct answer *a) {
    int64_t count = 1, v, w, size = 0;
    int *x = gm_alloc(c->arena, (size_t)c->G, sizeof *x);
    for (long g = 0; g < c->G && count <= FEW; g++)
        count *= c->group[g].options;
    if (count > FEW) return false;
    a->found = false;
    for (int64_t n = 0; n < count; n++) {
        int64_t rest = n;
        long differ = -1;
        for (long g = c->G - 1; g >= 0; rest /= c->group[g--].options) {
            x[g] = (int)(rest % c->group[g].options);
            if (x[g] != a->option[g]) differ = g;
        }
        if (!is_feasible(c, c->room, x, &v, &w) ||
            (a->found && (v != a->high ? v > a->high : w != size ? w > size :
                          c->group[differ].option[x[differ]].k >
                          c->group[differ].option[a->option[differ]].k)))
            continue;
        a->found = true, a->high = v, size = w;
        memcpy(a->option, x, (size_t)c->G * sizeof *x);
    }
    a->low = a->high;
    return a->rule = c->t->enumerated = true;
}

/* The program in its integers. */
static gm_status solve(gm_arena *arena, const gm_mckp *p,
                       const gm_solve_options *options, int *choice,
                       gm_certificate *t) {
    struct answer a = {.low = INT64_MIN};
    bool proven = true;
    gm_mark mark = gm_arena_mark(arena);
    struct core c = prepare(arena, p, options, t);
    if (!c.off) {
        a.option = gm_alloc(arena, (size_t)c.G, sizeof *a.option);
        proven = run_solvers(&c, &a) && (a.rule || !a.found || options->any);
        proven = proven || enumerate(&c, &a) || (a.found && a.low == a.high);
        certify(&c, &a);
    }
    if (proven && !a.found) {
        if (p->exact) find_neighbours(&c);
        if (p->exact && t->reach.below != p->budget)    /* but for resources */
            gm_problem_refuse(p, &t->reach);
        gm_fail(GM_EINFEASIBLE, "no assignment meets the budget together with "
                "the other constraints");
    }
    if (!proven)
        snprintf(t->why, sizeof t->why, "%s: objective %s%" PRId64 ", bound %"
                 PRId64, c.refuted ? "not proven: GLPK's doubles are too coarse"
                 : "limit reached before a proof", a.found ? "" :
                 "none found, at most ", a.found ? t->objective : c.most,
                 t->bound);
    if (!a.found) gm_fail(GM_ELIMIT, "%s", t->why);
    for (long m = 0; m < p->M; m++) {
        const long g = c.group_of[m];
        choice[m] = c.group[g].option[a.option[g]].k;
    }
    gm_arena_rewind(arena, mark);
    return proven ? GM_OK : GM_ELIMIT;
}

/* Where rounding leaves the answer in doubt, again in finer integers. */
gm_status gm_mckp_solve(gm_arena *arena, gm_mckp *p,
                        const gm_solve_options *options, int *choice,
                        gm_certificate *t) {
    gm_status status;
    do status = solve(arena, p, options, choice, t);
    while (!status && round_finer(p, choice, t->why));
    if (status || !*t->why) return status;
    t->rounded = true, t->optimal = t->unique_rule = false;
    return GM_ELIMIT;
}

/* ---------------------------------------------------------------- frontier */

/* The list (10) with nothing to reach and nothing to keep within.  Where it
   outgrows the memory: the points at which (8) would stop for some room, which
   minimise v + lambda w and so are Pareto-optimal whatever else there is. */
gm_status gm_frontier_find(gm_arena *arena, gm_mckp *problem,
                           const gm_solve_options *options, gm_frontier *out) {
    struct list d;
    gm_certificate t;
    if (problem->rows)
        gm_fail(GM_EUSAGE, "the frontier of size and score takes no further "
                "resources");
    *out = (gm_frontier){0};
    while (round_finer(problem, NULL, out->why)) continue;
    gm_mckp whole = *problem;
    whole.exact = false, whole.budget = INT64_MAX >> 2; /* above every sum */
    const struct core c = prepare(arena, &whole, options, &t);
    start_list(&c, NULL, &d);
    const bool all = search(&d, INT64_MAX >> 2, SIZE_MAX);
    out->count = (long)d.now.fill, out->all = all;
    const struct state *s = d.now.data;
    const struct edge *edge = NULL;
    if (!all) {
        snprintf(out->why, sizeof out->why, "limit reached after %ld of %ld "
                 "groups, at %ld points", c.G - 1 - d.g, c.G, out->count);
        edge = find_edges(&c, &out->count);
        out->count++;
    }
    out->point = gm_alloc(arena, (size_t)out->count, sizeof *out->point);
    int64_t w = 0, v = 0;
    for (long g = 0; g < c.G; g++) v += c.group[g].option[0].v;
    for (long i = 0; i < out->count; i++) {
        if (!all && i) w += edge[i - 1].dw, v -= edge[i - 1].gain;
        if (all) w = s[i].w, v = s[i].v;
        out->point[i] = (gm_point){c.size0 + w * c.unit, v};
    }
    free_list(&d);
    return *out->why ? GM_ELIMIT : GM_OK;
}
