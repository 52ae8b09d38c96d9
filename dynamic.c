/* dynamic.c: the exact solver of Stage II, a dynamic program over two lists,
   and the first incumbent that it starts from.  May touch: memory, the clock.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Every state is a complete assignment: groups not yet visited stand at their
   base choice (solver.c, the LP bound).  The groups are dealt out to two
   halves; each half has a list of states that moved only its own groups.  A
   state of one and a state of the other make an assignment,
     w = w_a + w_b - w0,   v = v_a + v_b - v0,
   and the best pair is found in one sweep over both (meet in the middle,
   Horowitz, Sahni 1974): lists of 10^5 states stand for 10^10 assignments.
   Groups are visited in order of how close their rates lie to lambda (the
   "core" first, Pisinger 1995), so good assignments appear early and far groups
   rarely move.  A state (w, v) is dropped when
     - another of its list is no larger and no worse (exact: has the same w and
       is no worse).  Of states equal in both, the lexicographically smaller
       stays;
     - no completion can reach the target value: groups still to come, the other
       half's included, sell score at a rate of at most `up` and buy back size
       at `down` or dearer,
       v - up (room - w) > target, or v + down (w - room) > target;
     - identical groups, which are always in one half, would not be in ascending
       order of candidates.
   None of these can drop the assignment that the tie rule asks for: a half of
   it that was beaten, or equalled by a smaller one, would give a better or
   smaller assignment with the same other half.

   A list longer than `cap` loses its worst states.  Then what is found is an
   incumbent, which is proven only where it meets the LP bound (with strongly
   correlated scores it does); otherwise the search is repeated with a longer
   cap until nothing is cut or a limit is reached. */

enum { FIRST_CAP = 1 << 12, TIES_CAP = 1 << 17 };

struct state { int64_t w, v; uint32_t node; };
struct node { uint32_t parent, item, option; };     /* only for non-base */

/* A growing array; its arena holds nothing else. */
struct table { gm_arena arena; void *data; size_t fill, room, item; };

struct item {
    long group;
    bool twin;                  /* same options as the item before it        */
    double key;
    gm_slope up, down;          /* of this group, from its base              */
};

/* Best rates over the items still to come, sizes that they add and remove. */
struct rest { gm_slope up, down; int64_t grow, shrink; };

struct half {
    long first, last, at;       /* its items, the next one to visit          */
    struct table now, next, node;
    size_t alive;               /* nodes when they were last compacted       */
};

/* Two states that make an assignment. */
struct pair { int64_t w, v; uint32_t node[2]; };

struct dp {
    const gm_core *c;
    const gm_solve_options *options;
    struct item *item;          /* [G], half by half in visiting order       */
    struct rest *rest;          /* [G+2] items i.. of a half: rest[i + half] */
    struct half half[2];
    struct table flag;          /* which states of a list stay               */
    size_t memory, limit, peak; /* bytes of all tables                       */
    size_t cap;                 /* states in a list                          */
    long states;                /* ever kept                                 */
    double start, deadline;
    int64_t target;             /* keep what may reach v <= target           */
    int64_t high;               /* finds must lie below this                 */
    bool strict;                /* lower target below each find; no ties     */
    bool found, cut;            /* cut: a list was longer than cap           */
    int *option;                /* [G] of the find                           */
};

static void move_table(struct table *to, struct table *from) {
    struct table was = *from;
    gm_arena_move(&to->arena, &from->arena);
    to->data = was.data, to->fill = was.fill;
    to->room = was.room, to->item = was.item;
}

static bool enlarge(struct dp *d, struct table *t) {
    size_t room = t->room ? 2 * t->room : 1024, bytes = room * t->item;
    if (bytes > d->limit || d->memory > d->limit - bytes) return false;
    struct table big = {.fill = t->fill, .room = room, .item = t->item};
    big.data = gm_alloc(&big.arena, room, t->item);
    if (d->memory + bytes > d->peak) d->peak = d->memory + bytes;
    if (t->fill) memcpy(big.data, t->data, t->fill * t->item);
    gm_arena_free(&t->arena);
    d->memory += bytes - t->room * t->item;
    move_table(t, &big);
    return true;
}

/* ------------------------------------------------------- order and bounds */

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

/* Deals the sorted groups out: a run of identical groups goes to the half that
   has fewer items so far. */
static void deal(struct dp *d, const struct sorted *s) {
    long G = d->c->G, count[2] = {0, 0}, size = 0;
    for (int pass = 0; pass < 2; pass++) {      /* count, then place */
        long at[2] = {0, size}, side = 0;
        count[0] = count[1] = 0;
        for (long i = 0; i < G; i++) {
            bool twin = i && gm_core_compare(s[i].group, s[i - 1].group) == 0;
            if (!twin) side = count[1] < count[0];
            count[side]++;
            if (pass == 0) continue;
            d->item[at[side]] = s[i].item;
            d->item[at[side]++].twin = twin;
        }
        size = count[0];
    }
    d->half[0].last = d->half[1].first = size;
    d->half[1].last = G;
}

static gm_status order_items(gm_arena *arena, gm_core *c, struct dp *d,
                             gm_error *err) {
    struct sorted *s = gm_alloc(arena, (size_t)c->G, sizeof *s);
    d->item = gm_alloc(arena, (size_t)c->G, sizeof *d->item);
    for (long g = 0; g < c->G; g++) {
        s[g] = (struct sorted){{.group = g}, &c->group[g]};
        item_rates(c, &s[g].item);
    }
    qsort(s, (size_t)c->G, sizeof *s, by_visit);
    deal(d, s);
    sort_bases(c, d->item, c->G);
    for (long i = 0; i < c->G; i++) item_rates(c, &d->item[i]);
    return GM_OK;
}

/* The rest before item i, given the rest after it. */
static struct rest before(const struct dp *d, long i, struct rest r) {
    const gm_group *group = &d->c->group[d->item[i].group];
    int64_t base = group->option[group->base].w;
    r.up = steeper(d->item[i].up, r.up, true);
    r.down = steeper(d->item[i].down, r.down, false);
    r.grow += group->option[group->options - 1].w - base;
    r.shrink += base - group->option[0].w;
    return r;
}

static gm_status sum_rests(gm_arena *arena, struct dp *d, gm_error *err) {
    d->rest = gm_alloc(arena, (size_t)d->c->G + 2, sizeof *d->rest);
    for (int side = 0; side < 2; side++)
        for (long i = d->half[side].last - 1; i >= d->half[side].first; i--)
            d->rest[i + side] = before(d, i, d->rest[i + 1 + side]);
    return GM_OK;
}

/* Items i.. of half `side`, and items j.. of the other. */
static struct rest still_to_come(const struct dp *d, int side, long i, long j) {
    struct rest a = d->rest[i + side], b = d->rest[j + !side];
    return (struct rest){steeper(a.up, b.up, true),
                         steeper(a.down, b.down, false), a.grow + b.grow,
                         a.shrink + b.shrink};
}

/* Nothing that is still to come brings (w, v) within room and target. */
static bool hopeless(const struct dp *d, const struct rest *r, int64_t w,
                     int64_t v) {
    int64_t over = w - d->c->room;
    if (over > r->shrink) return true;
    if (d->c->exact && -over > r->grow) return true;
    gm_slope s = over > 0 ? r->down : r->up;
    if (s.den == 0) return v > d->target;
    return (gm_wide)v * s.den + (gm_wide)over * s.num >
           (gm_wide)d->target * s.den;
}

/* ------------------------------------------------------------- tie breaking */

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

/* As above over two chains of nodes, a and b, of one half.  Nodes of later
   items have higher numbers; a chain lists only the items that left their
   base. */
static void chain_difference(const struct dp *d, const struct node *node,
                             uint32_t a, uint32_t b, long *module, bool *less) {
    while (a != b) {
        uint32_t ia = node[a].item, ib = node[b].item;
        bool move_a = a && (!b || ia >= ib), move_b = b && (!a || ib >= ia);
        uint32_t item = move_a ? ia : ib;
        note_difference(d, item, move_a ? node[a].option : base_of(d, item),
                        move_b ? node[b].option : base_of(d, item), module,
                        less);
        if (move_a) a = node[a].parent;
        if (move_b) b = node[b].parent;
    }
}

/* A candidate state before it gets a node. */
struct draft { int64_t w, v; uint32_t parent, option; bool set; };

/* Two drafts of item i: x is the lexicographically smaller assignment. */
static bool lex_less(const struct dp *d, const struct half *h, long i,
                     const struct draft *x, const struct draft *y) {
    long module = d->c->p->M;
    bool less = false;
    note_difference(d, i, x->option, y->option, &module, &less);
    chain_difference(d, h->node.data, x->parent, y->parent, &module, &less);
    return less;
}

static bool pair_less(const struct dp *d, const struct pair *x,
                      const struct pair *y) {
    long module = d->c->p->M;
    bool less = false;
    if (x->v != y->v) return x->v < y->v;
    if (x->w != y->w) return x->w < y->w;
    for (int side = 0; side < 2; side++)
        chain_difference(d, d->half[side].node.data, x->node[side],
                         y->node[side], &module, &less);
    return less;
}

/* ----------------------------------------------------- one item of one half */

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
static int open_cursors(const struct dp *d, const struct half *h, long i,
                        struct cursor *heap) {
    const gm_core *c = d->c;
    const gm_group *group = &c->group[d->item[i].group];
    const gm_choice *o = group->option, *b = &o[group->base];
    const struct state *first = h->now.data;
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
static int advance(const struct table *now, struct cursor *heap, int n) {
    const struct state *s = (const struct state *)now->data + heap->at;
    if (++heap->at == now->fill) {
        heap[0] = heap[--n];
    } else {
        heap->w += s[1].w - s[0].w;
        heap->v += s[1].v - s[0].v;
    }
    sift(heap, n, 0);
    return n;
}

/* Ascending order among twins: item i may not go below the item before it. */
static bool out_of_order(const struct dp *d, const struct half *h, long i,
                         const struct draft *s) {
    if (!d->item[i].twin) return false;
    const struct node *node = h->node.data;
    const gm_group *group = &d->c->group[d->item[i].group];
    uint32_t last = (uint32_t)(i - 1);
    uint32_t option = s->parent && node[s->parent].item == last
                          ? node[s->parent].option : base_of(d, last);
    return group->option[s->option].k < group->option[option].k;
}

static bool keep(struct dp *d, struct half *h, long i, const struct draft *s) {
    if (!s->set) return true;
    if (h->next.fill == h->next.room && !enlarge(d, &h->next)) return false;
    if (h->node.fill == h->node.room && !enlarge(d, &h->node)) return false;
    if (h->node.fill == UINT32_MAX) return false;
    uint32_t id = s->parent;
    if (s->option != base_of(d, (uint32_t)i)) {
        id = (uint32_t)h->node.fill++;
        ((struct node *)h->node.data)[id] =
            (struct node){s->parent, (uint32_t)i, s->option};
    }
    ((struct state *)h->next.data)[h->next.fill++] =
        (struct state){s->w, s->v, id};
    d->states++;
    return true;
}

/* Whether `s`, not before `last` in (w, v), is beaten by it; an equal state
   that is lexicographically smaller takes its place. */
static bool beaten(const struct dp *d, const struct half *h, long i,
                   const struct draft *s, struct draft *last) {
    if (!last->set) return false;
    if (d->c->exact ? s->w != last->w : s->v < last->v) return false;
    if (s->w == last->w && s->v == last->v && lex_less(d, h, i, s, last))
        *last = *s;
    return true;
}

/* Merges the shifted lists of item i from `now` into `next`. */
static gm_status merge(struct dp *d, struct half *h, long i) {
    struct cursor heap[GM_MAX_CANDIDATES];
    struct draft last = {0};
    int side = h == &d->half[1];
    struct rest rest = still_to_come(d, side, i + 1, d->half[!side].first);
    int n = open_cursors(d, h, i, heap);
    h->next.fill = 0;
    for (long tick = 1; n > 0; tick++) {
        const struct state *from = h->now.data;
        struct draft s = {heap->w, heap->v, from[heap->at].node, heap->option,
                          true};
        n = advance(&h->now, heap, n);
        if (tick % 4096 == 0 && d->deadline > 0 && gm_seconds() > d->deadline)
            return GM_ELIMIT;
        if (out_of_order(d, h, i, &s) || hopeless(d, &rest, s.w, s.v)) continue;
        if (beaten(d, h, i, &s, &last)) continue;
        if (!keep(d, h, i, &last)) return GM_ELIMIT;
        last = s;
    }
    return keep(d, h, i, &last) ? GM_OK : GM_ELIMIT;
}

/* The best that states of the other half can do for one that leaves them `left`
   of size: where b fits, what is still to come buys score at the rate up;
   where it does not, size at the rate down.  v scaled by the rate's den. */
static gm_wide value(const struct state *b, gm_slope rate) {
    return (gm_wide)b->v * rate.den + (gm_wide)b->w * rate.num;
}

static bool reaches(const struct dp *d, const struct state *a, gm_wide best,
                    int64_t left, gm_slope rate) {
    return best - (gm_wide)left * rate.num <=
           (gm_wide)rate.den * (d->target + d->c->v0 - a->v);
}

/* Drops the states that reach the target with no state of the other half.  One
   sweep upwards for partners that do not fit, one downwards for those that
   do: the partners of a state are then those of the one before, and more. */
static gm_status match(struct dp *d, struct half *h) {
    int side = h == &d->half[1];
    const struct half *o = &d->half[!side];
    struct rest r = still_to_come(d, side, h->at, o->at);
    struct state *a = h->now.data;
    const struct state *b = o->now.data;
    const gm_slope flat = {0, 1};
    gm_slope up = r.up.den ? r.up : flat;
    size_t n = h->now.fill, j = o->now.fill, fill = 0;
    int64_t sum = d->c->room + d->c->w0;
    gm_wide best = 0;
    while (d->flag.room < n)
        if (!enlarge(d, &d->flag)) return GM_ELIMIT;
    unsigned char *stays = d->flag.data;
    for (size_t i = 0; i < n; i++) {
        int64_t left = sum - a[i].w;
        for (; r.down.den && j > 0 && b[j - 1].w > left; j--) {
            gm_wide x = value(&b[j - 1], r.down);
            if (j == o->now.fill || x < best) best = x;
        }
        stays[i] = j < o->now.fill && reaches(d, &a[i], best, left, r.down);
    }
    j = 0;
    for (size_t i = n; i-- > 0;) {
        int64_t left = sum - a[i].w;
        for (; j < o->now.fill && b[j].w <= left; j++) {
            gm_wide x = value(&b[j], up);
            if (j == 0 || x < best) best = x;
        }
        if (j > 0 && reaches(d, &a[i], best, left, up)) stays[i] = 1;
    }
    for (size_t i = 0; i < n; i++)
        if (stays[i]) a[fill++] = a[i];
    h->now.fill = fill;
    return GM_OK;
}

/* How far the state's bound lies above the base's, as a double. */
static double excess(const gm_core *c, const struct state *s) {
    return (double)((gm_wide)c->lambda.den * (s->v - c->v0) +
                    (gm_wide)c->lambda.num * (s->w - c->w0));
}

/* Cuts the list to `cap` states: those of least excess, by a histogram; of the
   last bin that fits evenly spread ones. */
static void cut_list(struct dp *d, struct table *list) {
    enum { BINS = 4096 };
    size_t count[BINS] = {0}, bin = 0, below = 0, fill = 0, seen = 0;
    struct state *s = list->data;
    double most = 0;
    for (size_t i = 0; i < list->fill; i++)
        most = fmax(most, excess(d->c, &s[i]));
    double scale = most > 0 ? (BINS - 1) / most : 0;
    for (size_t i = 0; i < list->fill; i++)
        count[(size_t)(excess(d->c, &s[i]) * scale)]++;
    while (below + count[bin] <= d->cap) below += count[bin++];
    size_t some = d->cap - below, of = count[bin];
    for (size_t i = 0; i < list->fill; i++) {
        size_t at = (size_t)(excess(d->c, &s[i]) * scale);
        bool stays = at < bin;
        if (at == bin) stays = (seen + 1) * some / of > seen * some / of;
        seen += at == bin;
        if (stays) s[fill++] = s[i];
    }
    list->fill = fill;
    d->cut = true;
}

/* Drops the nodes that no state of the list goes back to. */
static gm_status compact(struct dp *d, struct half *h) {
    struct node *node = h->node.data;
    struct state *s = h->now.data;
    size_t bytes = h->node.fill * sizeof(uint32_t);
    gm_arena arena = {0};
    if (bytes > d->limit - d->memory) return GM_ELIMIT;
    uint32_t *map = gm_alloc(&arena, h->node.fill, sizeof *map), fill = 1;
    if (!map) return GM_ELIMIT;
    if (d->memory + bytes > d->peak) d->peak = d->memory + bytes;
    for (size_t i = 0; i < h->now.fill; i++)
        for (uint32_t a = s[i].node; a && !map[a]; a = node[a].parent)
            map[a] = 1;
    for (size_t a = 1; a < h->node.fill; a++) {
        if (!map[a]) continue;
        node[fill] = node[a];
        node[fill].parent = map[node[a].parent];
        map[a] = fill++;
    }
    for (size_t i = 0; i < h->now.fill; i++) s[i].node = map[s[i].node];
    h->node.fill = h->alive = fill;
    gm_arena_free(&arena);
    return GM_OK;
}

/* -------------------------------------------------------------- both halves */

static void unwind(const struct dp *d, const uint32_t node[2], int *option) {
    for (long g = 0; g < d->c->G; g++) option[g] = d->c->group[g].base;
    for (int side = 0; side < 2; side++) {
        const struct node *n = d->half[side].node.data;
        for (uint32_t a = node[side]; a; a = n[a].parent)
            option[d->item[n[a].item].group] = (int)n[a].option;
    }
}

/* The best pair that meets the budget.  w grows along a list; v falls, except
   where w is to be met exactly. */
static void combine(struct dp *d) {
    const struct state *a = d->half[0].now.data, *b = d->half[1].now.data;
    const gm_core *c = d->c;
    size_t j = d->half[1].now.fill;
    struct pair best = {0, d->high, {0, 0}};
    bool found = false;
    for (size_t i = 0; i < d->half[0].now.fill; i++) {
        int64_t left = c->room + c->w0 - a[i].w;
        while (j > 0 && b[j - 1].w > left) j--;
        if (j == 0) break;
        if (c->exact && b[j - 1].w != left) continue;
        struct pair x = {a[i].w + b[j - 1].w - c->w0,
                         a[i].v + b[j - 1].v - c->v0,
                         {a[i].node, b[j - 1].node}};
        if (x.v > best.v || (x.v == best.v && (d->strict || !found))) continue;
        if (found && !pair_less(d, &x, &best)) continue;
        best = x, found = true;
    }
    if (!found) return;
    d->found = true;
    d->high = best.v;
    if (d->target >= d->high && d->strict) d->target = d->high - 1;
    unwind(d, best.node, d->option);
}

/* The next item of a half, if one is left. */
static gm_status visit(struct dp *d, struct half *h) {
    if (h->at == h->last) return GM_OK;
    gm_status status = merge(d, h, h->at++);
    if (status != GM_OK) return status;
    struct table t;
    move_table(&t, &h->now);
    move_table(&h->now, &h->next);
    move_table(&h->next, &t);
    if (d->strict) combine(d);      /* near misses too, before they go */
    status = match(d, h);
    if (status != GM_OK) return status;
    if (h->now.fill > d->cap) {
        if (!d->strict) return GM_ELIMIT;
        cut_list(d, &h->now);
    }
    return h->node.fill > 4 * h->alive + 4 * h->now.fill + 1024
               ? compact(d, h) : GM_OK;
}

static gm_status start_half(struct dp *d, struct half *h) {
    h->at = h->first;
    for (struct table *t = &h->now; t <= &h->node; t++)
        if (!t->room && !enlarge(d, t)) return GM_ELIMIT;
    *(struct state *)h->now.data = (struct state){d->c->w0, d->c->v0, 0};
    h->now.fill = h->node.fill = h->alive = 1;      /* node 0: all at base */
    h->next.fill = 0;
    return GM_OK;
}

/* Visits everything of value <= target.  d->found: something of value < high
   came by; d->high and d->option are the best of it.  Without `strict` and with
   target the optimum it is the one the tie rule asks for. */
static gm_status search(struct dp *d, int64_t target, int64_t high,
                        bool strict) {
    struct half *a = &d->half[0], *b = &d->half[1];
    d->target = target;
    d->high = high;
    d->strict = strict;
    d->found = d->cut = false;
    gm_status status = start_half(d, a);
    if (status == GM_OK) status = start_half(d, b);
    while (status == GM_OK && a->now.fill && b->now.fill) {
        if (a->at == a->last && b->at == b->last) {
            combine(d);
            break;
        }
        status = visit(d, a);
        if (status == GM_OK) status = visit(d, b);
        if (d->deadline > 0 && gm_seconds() > d->deadline) status = GM_ELIMIT;
        if (gm_seconds() > d->start + 1)    /* most take milliseconds */
            gm_say(d->options->report, "dynamic program",
                   a->at + b->at - b->first, d->c->G);
    }
    return status;
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

/* ---------------------------------------------------------------- targets */

/* The least multiple of the scores' common divisor from v on. */
static int64_t above(const gm_core *c, int64_t v) {
    return (int64_t)gm_ceil_div(v, c->score_unit) * c->score_unit;
}

/* Targets from the LP bound upwards, so that a poor incumbent costs little.
   Cut lists prove nothing; with an incumbent from them a longer cap comes
   next. */
static gm_status raise_target(struct dp *d, int64_t *step, gm_answer *a) {
    gm_status status = GM_OK;
    while (status == GM_OK && a->low < a->high) {
        int64_t most = a->high - 1 - a->low;
        if (*step > most) *step = most;
        int64_t target = a->low + *step;
        status = search(d, target, a->high, true);
        if (d->found) {
            a->high = d->high;
            a->found = true;
            memcpy(a->option, d->option, (size_t)d->c->G * sizeof *a->option);
        }
        if (status != GM_OK) break;
        if (d->cut) break;
        a->low = a->high <= target ? a->high : above(d->c, target + 1);
        *step = *step > most / 4 ? most : 4 * *step;
    }
    return status;
}

/* The optimum, then the tie rule among the assignments that reach it. */
static gm_status search_optimum(struct dp *d, gm_answer *a) {
    gm_status status = GM_OK;
    int64_t step = 1;
    for (d->cap = FIRST_CAP; status == GM_OK && a->low < a->high; d->cap *= 8)
        status = raise_target(d, &step, a);
    if (a->low >= a->high) status = GM_OK;
    if (status != GM_OK || !a->found || d->options->any) return status;
    d->cap = TIES_CAP;
    a->rule = search(d, a->high, a->high + 1, false) == GM_OK;
    assert(!a->rule || d->found);
    if (a->rule)
        memcpy(a->option, d->option, (size_t)d->c->G * sizeof *a->option);
    return GM_OK;
}

static void dp_free(struct dp *d) {
    for (int side = 0; side < 2; side++)
        for (struct table *t = &d->half[side].now; t <= &d->half[side].node;
             t++)
            gm_arena_free(&t->arena);
    gm_arena_free(&d->flag.arena);
}

gm_status gm_dynamic_solve(gm_arena *arena, gm_core *c,
                           const gm_solve_options *options, gm_answer *a,
                           gm_certificate *out, gm_error *err) {
    struct dp d = {.c = c, .options = options, .start = gm_seconds()};
    for (int side = 0; side < 2; side++) {
        d.half[side].now.item = d.half[side].next.item = sizeof(struct state);
        d.half[side].node.item = sizeof(struct node);
    }
    d.flag.item = 1;
    d.limit = options->memory ? options->memory : (size_t)1 << 30;
    if (options->seconds > 0) d.deadline = d.start + options->seconds;
    gm_mark mark = gm_arena_mark(arena);
    d.option = gm_alloc(arena, (size_t)c->G, sizeof *d.option);
    gm_status status = d.option ? order_items(arena, c, &d, err)
                                : gm_note(err, GM_EMEM, "out of memory");
    if (status == GM_OK) status = sum_rests(arena, &d, err);
    if (status == GM_OK) {
        a->low = above(c, (int64_t)gm_ceil_div(c->lp, c->lambda.den));
        a->high = c->most_v + 1;
        a->found = !c->exact;
        if (a->found) a->high = gm_core_greedy(c, a->option);
        status = search_optimum(&d, a);
    }
    out->dp_ran = true;
    out->dp_ended = status == GM_OK;
    out->states = d.states;
    out->memory = d.peak;
    dp_free(&d);
    gm_arena_rewind(arena, mark);
    out->dp_seconds = gm_seconds() - d.start;
    return status;
}
