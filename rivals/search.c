/* search.c: assignments found by moving from one to the next: filling a budget
   at random, simulated annealing, evolutionary search, for any cost function.
   Pure computation on its arguments; random numbers are a function of the seed.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "rivals.h"

#include <string.h>

/* ------------------------------------------------------------ single steps */

/* Candidates of a module stand in a row by (size, k); those of equal size are
   both there, so that a step up may cost nothing.  Does j come before k on the
   way up, or down? */
static bool before(const gm_mckp *p, long m, int j, int k, bool up) {
    if (!up) return before(p, m, k, j, true);
    int64_t a = p->size[m * p->K + j], b = p->size[m * p->K + k];
    return a < b || (a == b && j < k);
}

int gm_neighbour(const gm_mckp *p, long m, int k, bool up, int64_t room) {
    const int64_t *size = p->size + m * p->K;
    int next = -1;
    for (int j = 0; j < p->K; j++)
        if (p->allowed[m * p->K + j] && (k < 0 || before(p, m, k, j, up)) &&
            (next < 0 || before(p, m, j, next, up)))
            next = j;
    return up && k >= 0 && next >= 0 && size[next] - size[k] > room ? -1 : next;
}

int64_t gm_size_of(const gm_mckp *p, const int *choice) {
    int64_t size = 0;
    for (long m = 0; m < p->M; m++) size += p->size[m * p->K + choice[m]];
    return size;
}

int64_t gm_take(const gm_mckp *p, int *choice, long m, int k) {
    const int64_t *size = p->size + m * p->K;
    int64_t more = size[k] - size[choice[m]];
    choice[m] = k;
    return more;
}

/* ------------------------------------------------------------ random steps */

static long draw(gm_draws *d, long n) {
    return (long)(gm_random(d->seed, d->stream, d->counter++) % (uint64_t)n);
}

/* Steps one module, drawn from all that can but `except`; *size follows.
   Returns the module; -1: none can. */
static long random_step(const gm_mckp *p, int *choice, bool up, int64_t room,
                        long except, gm_draws *draws, int64_t *size) {
    long can = 0, m = -1;
    for (long i = 0; i < p->M; i++)
        can += i != except && gm_neighbour(p, i, choice[i], up, room) >= 0;
    if (!can) return -1;
    long which = draw(draws, can);
    while (which >= 0) {
        m++;
        which -= m != except && gm_neighbour(p, m, choice[m], up, room) >= 0;
    }
    *size += gm_take(p, choice, m, gm_neighbour(p, m, choice[m], up, room));
    return m;
}

void gm_fill_random(const gm_mckp *p, int *choice, gm_draws *draws) {
    int64_t size = gm_size_of(p, choice);
    while (size > p->budget)
        if (random_step(p, choice, false, 0, -1, draws, &size) < 0) return;
    while (random_step(p, choice, true, p->budget - size, -1, draws, &size) >=
           0);
}

/* ------------------------------------------------------------------ annealing

   Simulated annealing (Kirkpatrick, Gelatt, Vecchi 1983).  A move raises one
   module by a step and lowers others, one at a time, until the budget holds;
   it is accepted when cost falls or with probability exp(-rise / t).
   t = t0 (t1/t0)^f, f the share of the evaluations that is used up; t0: a tenth
   of the start's cost per module, t1 = t0 / 100 [ours: ten to a hundred times
   colder or hotter changed no result by more than 1.1 %; docs/rivals.md]. */

enum { MOST_LOWERED = 7 };
static const double hottest = 0.1, cooling = 100;
static const double patience = 20;  /* moves that cost nothing end too */

/* *moved from *from: false when the draw led nowhere. */
static bool propose(const gm_mckp *p, const int *from, int *moved,
                    gm_draws *draws) {
    int64_t size = gm_size_of(p, from);
    memcpy(moved, from, (size_t)p->M * sizeof *moved);
    long raised = random_step(p, moved, true, INT64_MAX, -1, draws, &size);
    for (int i = 0; raised >= 0 && i < MOST_LOWERED && size > p->budget; i++)
        if (random_step(p, moved, false, 0, raised, draws, &size) < 0)
            return false;
    return raised >= 0 && size <= p->budget;
}

void gm_anneal(gm_arena *arena, const gm_search *s, int *choice) {
    const gm_mckp *p = s->problem;
    const size_t bytes = (size_t)p->M * sizeof *choice;
    int *now = gm_alloc(arena, bytes, 1), *next = gm_alloc(arena, bytes, 1);
    memcpy(now, choice, bytes);
    double E = s->cost(s->objective, now), E_best = E;
    const double t0 = hottest * E / (double)p->M;
    const double reserve = s->share * (MOST_LOWERED + 1);
    const double moves = patience * s->evaluations / s->share;
    gm_draws draws = {s->seed, 1, 0};
    for (long i = 0; (double)i < moves; i++) {
        double used = s->spent(s->objective), f = used / s->evaluations;
        if (used + (reserve < 1 ? reserve : 1) > s->evaluations) break;
        if ((double)i / moves > f) f = (double)i / moves;
        if (!propose(p, now, next, &draws)) continue;
        double E_next = s->cost(s->objective, next);
        double t = t0 * gm_expd(-f * gm_logd(cooling));
        if (E_next > E && gm_uniform(s->seed, draws.stream, draws.counter++) >=
                              gm_expd((E - E_next) / t))
            continue;
        memcpy(now, next, bytes);
        E = E_next;
        if (E < E_best) {
            memcpy(choice, now, bytes);
            E_best = E;
        }
        gm_say(s->report, "annealing", (long)used, (long)s->evaluations);
    }
}

/* ------------------------------------------------------------------ evolution

   A steady-state genetic algorithm: two parents, each the best of TOURNAMENT
   drawn members; each module from either parent; each module steps up or down
   with probability MUTATED / M; drawn steps down until the budget holds, then
   up until nothing fits; the child takes the worst member's place if it costs
   less, and is not evaluated if it is a member already. */

enum { POPULATION = 16, TOURNAMENT = 3, MUTATED = 2 };

typedef struct {
    const gm_search *s;
    long count;
    int *member[POPULATION + 1];        /* the last one: the child */
    double cost[POPULATION + 1];
    gm_draws draws;
} population;

static bool room(const gm_search *s) {
    return s->spent(s->objective) + 1 <= s->evaluations;
}

static void evaluate(population *q, long i) {
    const gm_search *s = q->s;
    q->cost[i] = s->cost(s->objective, q->member[i]);
    gm_say(s->report, "evolution", (long)s->spent(s->objective),
           (long)s->evaluations);
}

static long tournament(population *q) {
    long best = draw(&q->draws, q->count);
    for (int i = 1; i < TOURNAMENT; i++) {
        long other = draw(&q->draws, q->count);
        if (q->cost[other] < q->cost[best]) best = other;
    }
    return best;
}

static void make_child(population *q) {
    const gm_mckp *p = q->s->problem;
    int *child = q->member[POPULATION];
    const int *a = q->member[tournament(q)], *b = q->member[tournament(q)];
    for (long m = 0; m < p->M; m++) {
        child[m] = draw(&q->draws, 2) ? a[m] : b[m];
        if (draw(&q->draws, p->M) >= MUTATED) continue;
        int k = gm_neighbour(p, m, child[m], draw(&q->draws, 2), INT64_MAX);
        if (k >= 0) child[m] = k;
    }
    gm_fill_random(p, child, &q->draws);
}

static bool is_member(const population *q) {
    size_t bytes = (size_t)q->s->problem->M * sizeof(int);
    for (long i = 0; i < q->count; i++)
        if (!memcmp(q->member[i], q->member[POPULATION], bytes)) return true;
    return false;
}

/* The first members are given, the others random. */
static void settle(population *q, const int *starts, long given) {
    const gm_mckp *p = q->s->problem;
    while (q->count < POPULATION && (q->count == 0 || room(q->s))) {
        int *member = q->member[q->count];
        for (long m = 0; m < p->M; m++)
            member[m] = q->count < given ? starts[q->count * p->M + m]
                                         : gm_neighbour(p, m, -1, true, 0);
        if (q->count >= given) gm_fill_random(p, member, &q->draws);
        evaluate(q, q->count++);
    }
}

static long extreme(const population *q, bool worst) {
    long at = 0;
    for (long i = 1; i < q->count; i++)
        if (worst ? q->cost[i] > q->cost[at] : q->cost[i] < q->cost[at])
            at = i;
    return at;
}

void gm_evolve(gm_arena *arena, const gm_search *s, const int *starts,
               long given, uint64_t stream, int *choice) {
    const size_t M = (size_t)s->problem->M;
    population q = {.s = s, .draws = {s->seed, stream, 0}};
    const double children = patience * s->evaluations / s->share;
    for (int i = 0; i <= POPULATION; i++)
        q.member[i] = gm_alloc(arena, M, sizeof *choice);
    settle(&q, starts, given);
    for (long i = 0; (double)i < children && room(s); i++) {
        make_child(&q);
        if (is_member(&q)) continue;
        evaluate(&q, POPULATION);
        long worst = extreme(&q, true);
        if (q.cost[POPULATION] >= q.cost[worst]) continue;
        int *child = q.member[POPULATION];
        q.member[POPULATION] = q.member[worst];
        q.member[worst] = child;
        q.cost[worst] = q.cost[POPULATION];
    }
    memcpy(choice, q.member[extreme(&q, false)], M * sizeof *choice);
}
