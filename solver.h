/* solver.h: what solver.c and glpk.c share, and nobody else: the prepared
   problem.  Equations (1) to (13): solver.c.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_SOLVER_H
#define GM_SOLVER_H

#include "gamma.h"

typedef __int128 wide;              /* products of sums below 2^61 */

struct option { int64_t w, v; int k; };
struct rate { int64_t num, den; };  /* den = 0: there is none */

struct group {
    long module;                /* its first                                 */
    int options, base;
    struct option *option;      /* ascending in w, then v, then k            */
    wide least;                 /* lambda.den times the minimum in (9)       */
};

struct core {
    const gm_mckp *p;
    long G;
    struct group *group;        /* [G]                                       */
    long *group_of;             /* [M]                                       */
    int64_t *cost;              /* [rows, M, K]: of group g at candidate k   */
    int64_t size0, score0;      /* sums of min s, of min u                   */
    int64_t unit, room, most;   /* most: sum of the largest v                */
    bool off;                   /* exact, and no multiple of unit meets it   */
    int64_t w0, v0;
    struct rate lambda;
    int64_t mu[GM_MAX_ROWS];    /* over lambda.den                           */
    wide lp;                    /* lambda.den times (9)                      */
};

/* What a solver knows: the optimum lies in low .. high; option [G], if found,
   has value high; rule: it is the one that (12) asks for. */
struct answer { int64_t low, high; bool found, rule; int *option; };

/* Writes why a solve ends so, and returns that. */
gm_status gm_says(gm_certificate *t, gm_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

int64_t gm_gcd(int64_t a, int64_t b);                   /* a, b >= 0 */
/* (7), (8), (9); GM_EINFEASIBLE when no module or no budget has a choice. */
gm_status gm_core_prepare(gm_arena *arena, const gm_mckp *p, struct core *c,
                          gm_certificate *t);
/* What option i of group g takes of extra row r; r = -1: of size. */
int64_t gm_core_cost(const struct core *c, long r, long g, int i);
/* lambda.den (v + lambda w + sum_r mu_r c_r) - least: what (9) rises by for all
   that take the option. */
wide gm_core_excess(const struct core *c, long g, int i);
void gm_core_bound(struct core *c);                     /* (9) anew */
/* Whether option [G] meets all constraints within `room`; its sums. */
bool gm_core_feasible(const struct core *c, int64_t room, const int *option,
                      int64_t *v, int64_t *w);
/* Before a search; `a` may hold an incumbent. */
void gm_core_start(const struct core *c, struct answer *a);

/* GLPK's optimum, better than an incumbent in `a` if there is one; with `ties`
   the one that (12) asks for.  glpk.c */
gm_status gm_glpk_solve(gm_arena *arena, struct core *c,
                        const gm_solve_options *options, bool ties,
                        struct answer *a, gm_certificate *t);

#endif
