/* frontier.c: beyond one budget: every Pareto-optimal (size, score) point, and
   how an assignment reacts to the scores' standard errors.
   Pure computation; its own dynamic program, apart from solver.c's.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- frontier

   A dominance list holds the points (w, v) that no other is at least as good
   as, ascending in w, hence descending in v.  The list of the first g groups
   and the options of the next give the list of g + 1:
     L'  =  minimal elements of  { p + o : p in L, o in options }.
   No bound is used, so the last list is the whole frontier. */

struct list { gm_arena arena; gm_point *point; long count, room; };

/* Room for `need` points in a list whose content may go. */
static void make_room(struct list *list, long need) {
    if (need <= list->room) return;
    gm_arena_free(&list->arena);
    list->room = need + need / 2;
    list->point = gm_alloc(&list->arena, (size_t)list->room,
                           sizeof *list->point);
}

/* out = minimal elements of `a` and of `b` shifted by o; room for all. */
static void merge(const struct list *a, const struct list *b,
                  const gm_choice *o, struct list *out) {
    long i = 0, j = 0;
    int64_t least = INT64_MAX;
    out->count = 0;
    while (i < a->count || j < b->count) {
        gm_point x = {INT64_MAX, INT64_MAX}, y = x;
        if (i < a->count) x = a->point[i];
        if (j < b->count)
            y = (gm_point){b->point[j].size + o->w, b->point[j].score + o->v};
        bool first = x.size != y.size ? x.size < y.size : x.score <= y.score;
        gm_point next = first ? x : y;
        if (first) i++;
        else j++;
        if (next.score >= least) continue;
        least = next.score;
        out->point[out->count++] = next;
    }
}

/* The supported points: the LP's whole parts.  Taking hull steps in order of
   rate passes only through points that minimise v + lambda w for some lambda,
   and those are Pareto-optimal whatever else there is. */
static void supported(gm_arena *arena, const gm_core *c, gm_frontier *out) {
    gm_step *step;
    long n;
    gm_core_steps(arena, c, &step, &n, NULL);
    out->point = gm_alloc(arena, (size_t)n + 1, sizeof *out->point);
    gm_point p = {0, 0};
    for (long g = 0; g < c->G; g++) p.score += c->group[g].option[0].v;
    out->point[0] = p;
    for (long i = 0; i < n; i++) {
        p.size += step[i].dw;
        p.score -= step[i].gain;
        out->point[i + 1] = p;
    }
    out->count = n + 1;
}

static void swap(struct list **a, struct list **b) {
    struct list *t = *a;
    *a = *b, *b = t;
}

/* Runs the lists while all three fit into the memory and before the deadline;
   list[0] is the frontier.  false: they did not. */
static bool all_points(const gm_core *c, const gm_solve_options *options,
                       struct list *list[3], char why[128]) {
    size_t memory = options->memory ? options->memory : (size_t)1 << 30;
    long most = (long)(memory / (3 * sizeof(gm_point)) / 3 * 2);
    double end = gm_seconds() + options->seconds;
    make_room(list[0], 1);
    list[0]->point[0] = (gm_point){0, 0};
    list[0]->count = 1;
    for (long g = 0; g < c->G; g++) {
        list[1]->count = 0;
        for (int i = 0; i < c->group[g].options; i++) {
            long need = list[0]->count + list[1]->count;
            if (need > most || (options->seconds > 0 && gm_seconds() > end)) {
                snprintf(why, 128, "limit reached after %ld of %ld groups, at "
                         "%ld points", g, c->G, need);
                return false;
            }
            make_room(list[2], need);
            merge(list[1], list[0], &c->group[g].option[i], list[2]);
            swap(&list[1], &list[2]);
        }
        swap(&list[0], &list[1]);
        gm_say(options->report, "frontier", g + 1, c->G);
    }
    return true;
}

gm_status gm_frontier_find(gm_arena *arena, const gm_mckp *problem,
                           const gm_solve_options *options, gm_frontier *out) {
    gm_core c;
    gm_certificate t;
    gm_error why;
    gm_mckp whole = *problem;
    struct list room[3] = {{.room = 0}}, *list[3] = {room, room + 1, room + 2};
    *out = (gm_frontier){0};
    if (problem->rows || problem->pairs)
        gm_fail(GM_EUSAGE, "the frontier of size and score takes "
                "no further resources or pairs");
    whole.exact = false;
    whole.budget = INT64_MAX >> 2;      /* no budget: above every sum */
    gm_status status = gm_core_prepare(arena, &whole, &c, &t, &why);
    if (status) gm_fail(status, "%s", why.text);
    out->complete = all_points(&c, options, list, out->why);
    if (out->complete) {
        out->count = list[0]->count;
        out->point = gm_alloc(arena, (size_t)out->count, sizeof(gm_point));
        memcpy(out->point, list[0]->point,
               (size_t)out->count * sizeof(gm_point));
    } else {
        supported(arena, &c, out);
    }
    for (int i = 0; i < 3; i++) gm_arena_free(&room[i].arena);
    for (long i = 0; i < out->count; i++) {
        out->point[i].size = c.size0 + out->point[i].size * c.unit;
        out->point[i].score += c.score0;
    }
    return out->complete ? GM_OK : GM_ELIMIT;
}

/* ------------------------------------------------------------------ robust

   u'_mk = u_mk + e_mk z, z standard normal, independent; each resample solved
   anew at the same budget. */

static void resample(const gm_scores *s, uint64_t seed, long r,
                          gm_scores *out) {
    for (long i = 0; i < s->M * s->K; i++) {
        if (s->bytes[i] < 0) continue;
        if (s->error[i] < 0)
            gm_fail(GM_EINPUT, "%s: module %s: no standard error "
                           "at %d bits; --robust needs them all", s->path,
                           s->name[i / s->K], s->bits[i % s->K]);
        out->score[i] = s->score[i] +
                        s->error[i] * gm_normal(seed, (uint64_t)r,
                                                2 * (uint64_t)i);
    }
}

/* One resample: its optimum, and how much worse the given choice is there. */
static void robust_step(gm_arena *arena, const gm_scores *s,
                             const gm_mckp *problem, int score_bits,
                             const gm_budget *budget,
                             const gm_solve_options *options,
                             const int *choice, gm_robust *out) {
    gm_mckp p;
    gm_rounding rounding;
    gm_certificate t;
    int *x = gm_alloc(arena, (size_t)s->M, sizeof *x);
    gm_problem_build(arena, s, budget, score_bits, &p, &rounding);
    int64_t *score = p.score;
    p = *problem;               /* all couplings, only the scores are new */
    p.score = score;
    gm_status status = gm_mckp_solve(arena, &p, options, x, &t);
    if (status) gm_fail(status, "%s", t.why);
    double regret = 0;
    for (long m = 0; m < s->M; m++) {
        out->share[m * s->K + x[m]] += 1;
        out->changed[m] += x[m] != choice[m];
        regret += s->score[m * s->K + choice[m]] - s->score[m * s->K + x[m]];
    }
    out->regret += regret;
}

void gm_robust_find(gm_arena *arena, const gm_scores *scores,
                         const gm_budget *budget, const gm_mckp *problem,
                         int score_bits, const gm_solve_options *options,
                         const int *choice, long resamples, uint64_t seed,
                         gm_robust *out) {
    gm_scores s = *scores;
    size_t cells = (size_t)(s.M * s.K);
    out->resamples = resamples;
    out->regret = 0;
    out->share = gm_alloc(arena, cells, sizeof *out->share);
    out->changed = gm_alloc(arena, (size_t)s.M, sizeof *out->changed);
    s.score = gm_alloc(arena, cells, sizeof *s.score);
    for (long r = 0; r < resamples; r++) {
        gm_mark mark = gm_arena_mark(arena);
        resample(scores, seed, r, &s);
        robust_step(arena, &s, problem, score_bits, budget, options, choice,
                    out);
        gm_arena_rewind(arena, mark);
        gm_say(options->report, "resamples", r + 1, resamples);
    }
    for (size_t i = 0; i < cells; i++) out->share[i] /= (double)resamples;
    for (long m = 0; m < s.M; m++) out->changed[m] /= (double)resamples;
    out->regret /= (double)resamples;
}
