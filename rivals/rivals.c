/* rivals.c: the other ways to choose bits, each from the same candidates, the
   same table of sizes and the same budget as GAMMA.  docs/rivals.md has their
   equations and sources.  Reads the model through objective.c, writes nothing.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "rivals.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Errors of single candidates [M, K], once measured, and what that took. */
typedef struct { double *value, evaluations, seconds; } errors;

struct gm_rivals {
    gm_rivals_options options;
    const gm_report *report;
    gm_arena *arena;
    gm_scores table;            /* sizes; scores zero                       */
    gm_objective *objective;    /* NULL until a method needs it             */
    double begin_seconds;       /* for the objective's states               */
    errors separable, gram;
    /* of the call under way: */
    gm_method method;
    const gm_budget *budget;
    gm_mckp p;                  /* sizes in the budget's unit, scores zero  */
    double *error;              /* [M, K] of the method's kind              */
    int *choice;                /* [M] the answer                           */
    gm_refined *refined;        /* what GM_REFINED tells beside it, or NULL */
};

/* -------------------------------------------------- uniform and nearly so */

/* Module m at level u: its candidate of most bits <= b_u; if it has none, the
   one of fewest bits. */
static int at_level(const gm_mckp *p, long m, int u) {
    int fewest = -1;
    for (int k = p->K - 1; k >= 0; k--) {
        if (!p->allowed[m * p->K + k]) continue;
        if (k <= u) return k;
        fewest = k;
    }
    return fewest;
}

static int64_t level_size(const gm_mckp *p, int u) {
    int64_t size = 0;
    for (long m = 0; m < p->M; m++)
        size += p->size[m * p->K + at_level(p, m, u)];
    return size;
}

/* max u with sum_m s_mu <= B; -1: not even level 0 fits (sizes that do not grow
   with bits). */
static int level(const gm_mckp *p) {
    int u = p->K - 1;
    while (u >= 0 && level_size(p, u) > p->budget) u--;
    return u;
}

/* The smallest size of every module, or the largest; their sum. */
static int64_t all(const gm_rivals *r, bool smallest) {
    for (long m = 0; m < r->p.M; m++)
        r->choice[m] = gm_neighbour(&r->p, m, -1, smallest, 0);
    return gm_size_of(&r->p, r->choice);
}

static void uniform(const gm_rivals *r) {
    const int u = level(&r->p);
    if (u < 0) all(r, true);
    for (long m = 0; m < r->p.M && u >= 0; m++)
        r->choice[m] = at_level(&r->p, m, u);
}

static void fill_random(const gm_rivals *r) {
    gm_draws draws = {r->options.seed, 0, 0};
    all(r, true);
    gm_fill_random(&r->p, r->choice, &draws);
}

/* Uniform's level u; then, block after block (from the first or the last),
   q k v o gate up down within it, each module that still fits goes to u + 1.
   mix, before that: each that its share of the slack pays, in which the slack
   is what all of them would take times slack / (what all would take). */
static void next_level(const gm_rivals *r) {
    const gm_mckp *p = &r->p;
    const long L = p->M / GM_LINEARS;
    const int u = level(p);
    uniform(r);
    const int64_t size = gm_size_of(p, r->choice), room = p->budget - size;
    if (u + 1 == p->K) return;
    const int64_t all = level_size(p, u + 1) - size;
    int64_t slack = room;
    __int128 due = 0;               /* times `all` */
    for (int pass = r->method != GM_MIX; pass < 2; pass++)
        for (long i = 0; i < p->M; i++) {
            const long m = r->method == GM_LAST_HIGH ? (L - 1 - i / GM_LINEARS)
                         * GM_LINEARS + i % GM_LINEARS : i;
            const int k = at_level(p, m, u + 1);
            const int64_t more = p->size[m * p->K + k] -
                                 p->size[m * p->K + r->choice[m]];
            due += (__int128)room * more;
            if (more > slack || (pass == 0 && (__int128)all * more > due))
                continue;
            slack -= gm_take(p, r->choice, m, k);
            due -= (__int128)all * more;
        }
}

/* -------------------------------------------------------- scores and solver */

/* The optimum by the dynamic program, proven, or an error. */
static void solve(const gm_rivals *r, const gm_scores *scores, int *choice) {
    gm_arena *arena = r->arena;
    gm_mckp p;
    gm_certificate t;
    gm_solve_options o = {.solver = GM_DP, .report = r->report};
    gm_mark mark = gm_arena_mark(arena);
    gm_problem_build(arena, scores, r->budget, 30, &p);
    gm_status s = gm_mckp_solve(arena, &p, &o, choice, &t);
    if (s) gm_fail(s, "%s", t.why);
    gm_arena_rewind(arena, mark);
}

/* Exact minimum of sum_m error_mk. */
static void least_error(const gm_rivals *r) {
    gm_scores scores = r->table;
    scores.score = r->error;
    solve(r, &scores, r->choice);
}

/* GAMMA's scores must be of this table: same modules, candidates and sizes. */
static void learned(const gm_rivals *r) {
    const gm_scores *s = r->options.learned, *t = &r->table;
    if (!s)
        gm_fail(GM_EUSAGE, "method gamma: expected learned scores, found none");
    if (s->M != t->M || s->K != t->K)
        gm_bad(s->path, "expected %ld modules with %d candidates, found %ld "
               "with %d", t->M, t->K, s->M, s->K);
    for (long i = 0; i < t->M * t->K; i++) {
        long m = i / t->K, k = i % t->K;
        if (strcmp(s->name[m], t->name[m]) == 0 && s->bits[k] == t->bits[k] &&
            strcmp(s->label[k], t->label[k]) == 0 && s->bytes[i] == t->bytes[i])
            continue;
        gm_bad(s->path, "expected %s at %s: %ld bytes, found %s at %s: %ld "
               "bytes", t->name[m], gm_called(t->bits[k], t->label[k]).text,
               (long)t->bytes[i], s->name[m],
               gm_called(s->bits[k], s->label[k]).text, (long)s->bytes[i]);
    }
    solve(r, s, r->choice);
}

/* ------------------------------------------------------------------- greedy */

/* From the least sizes up: of all steps j -> k that fit and gain, the one of
   largest (S_mj - S_mk) / (s_mk - s_mj); ties: the first module, the smallest
   step.  k need not be next to j, or a step that gains little would hide a
   better one behind it. */
static void greedy(const gm_rivals *r) {
    const gm_mckp *p = &r->p;
    const double *S = r->error;
    int64_t slack = p->budget - all(r, true);
    for (;;) {
        double gain = 0, more = 1;
        long at = -1;
        int to = -1;
        for (long m = 0; m < p->M; m++) {
            const long row = m * p->K, from = row + r->choice[m];
            for (int k = r->choice[m];
                 (k = gm_neighbour(p, m, k, true, INT64_MAX)) >= 0;) {
                int64_t size = p->size[row + k] - p->size[from];
                double g = S[from] - S[row + k];
                if (size > slack || !(g * more > gain * (double)size)) continue;
                gain = g, more = (double)size, at = m, to = k;
            }
        }
        if (at < 0) return;
        slack -= gm_take(p, r->choice, at, to);
    }
}

/* -------------------------------------------------------------- closed form

   BAQ's (arXiv 2506.05664) equal-loss rule, for modules instead of columns:
   were the error of module m  n_m l_m 2^(-1.95 (R_m - R_ref)),  the least sum
   with sum_m n_m R_m = N B would have
     R_m = B + (1/1.95) log2(l_m / GM),   ln GM = (1/N) sum_m n_m ln l_m
   l_m = D_mk / n_m, the output error per weight at the reference candidate:
   uniform's, or the one of most bits below 16 where that is the original. */

/* B in code bits: what uniform would have if levels were a continuum. */
static double target_bits(const gm_rivals *r, int u) {
    const gm_mckp *p = &r->p;
    const int *bits = r->table.bits;
    if (u < 0) return bits[0];
    if (u + 1 == p->K) return bits[u];
    int64_t low = level_size(p, u), high = level_size(p, u + 1);
    if (high <= low) return bits[u];
    return bits[u] + (bits[u + 1] - bits[u]) * (double)(p->budget - low) /
                         (double)(high - low);
}

/* R[m]; -inf for a module without error at the reference, which is left out of
   GM. */
static void real_bits(const gm_rivals *r, double *R) {
    const gm_scores *t = &r->table;
    const double slope = 1.95, ln2 = 0.69314718055994531;
    const int u = level(&r->p);
    int reference = u < 0 ? 0 : u;
    while (reference > 0 && t->bits[reference] >= 16) reference--;
    double sum = 0, weights = 0;
    for (long m = 0; m < t->M; m++) {
        double n = (double)t->weights[m];
        double l = r->error[m * t->K + at_level(&r->p, m, reference)] / n;
        R[m] = l > 0 ? gm_logd(l) : -HUGE_VAL;
        if (!(l > 0)) continue;
        sum += n * R[m];
        weights += n;
    }
    for (long m = 0; m < t->M; m++)
        R[m] = target_bits(r, u) +
               (R[m] - (weights > 0 ? sum / weights : 0)) / (slope * ln2);
}

/* The allowed candidate of bits nearest to R; the lower of two. */
static int nearest(const gm_rivals *r, long m, double R) {
    const gm_scores *t = &r->table;
    int best = -1;
    for (int k = 0; k < t->K; k++)
        if (r->p.allowed[m * t->K + k] &&
            (best < 0 || fabs(t->bits[k] - R) < fabs(t->bits[best] - R)))
            best = k;
    return best;
}

/* One step of the module that is furthest on the wrong side of its R: down, or
   up if it fits the slack.  false: no module can. */
static bool mend(const gm_rivals *r, const double *R, bool up, int64_t *slack) {
    double most = 0;
    long at = -1;
    int to = -1;
    for (long m = 0; m < r->p.M; m++) {
        int k = gm_neighbour(&r->p, m, r->choice[m], up, *slack);
        double wrong = R[m] - r->table.bits[r->choice[m]];
        if (!up) wrong = -wrong;
        if (k >= 0 && (at < 0 || wrong > most)) most = wrong, at = m, to = k;
    }
    if (at >= 0) *slack -= gm_take(&r->p, r->choice, at, to);
    return at >= 0;
}

static void closed_form(const gm_rivals *r) {
    double *R = gm_alloc(r->arena, (size_t)r->p.M, sizeof *R);
    real_bits(r, R);
    for (long m = 0; m < r->p.M; m++) r->choice[m] = nearest(r, m, R[m]);
    int64_t slack = r->p.budget - gm_size_of(&r->p, r->choice);
    while (slack < 0 && mend(r, R, false, &slack));
    while (mend(r, R, true, &slack));
}

/* ----------------------------------------------------------------- searches */

/* Annealing from greedy's answer; evolution from greedy's, uniform's and random
   ones. */
static void search(const gm_rivals *r) {
    const bool kl = r->method == GM_EVOLVE_KL;
    const size_t M = (size_t)r->p.M;
    const gm_search s = {
        &r->p, r->objective, kl ? gm_objective_kl : gm_objective_blocks,
        gm_objective_evaluations, kl ? 1 : GM_LINEARS / (double)M,
        (double)r->options.evaluations, r->options.seed, r->report};
    if (r->method == GM_RCO) {
        gm_rco(r->arena, &s, r->choice);
        return;
    }
    greedy(r);
    if (r->method == GM_ANNEAL) {
        gm_anneal(r->arena, &s, r->choice);
        return;
    }
    int *starts = gm_alloc(r->arena, 2 * M, sizeof *starts);
    memcpy(starts, r->choice, M * sizeof *starts);
    uniform(r);
    memcpy(starts + M, r->choice, M * sizeof *starts);
    gm_evolve(r->arena, &s, starts, 2, kl ? 3 : 2, r->choice);
}

/* ------------------------------------------------------------------ refined

   GAMMA's scores u, corrected by the whole model's KL around their optimum x.
   In each round, with A and C of objective.c at x, and f the u of before:

     t_mk  = A_mk + C_mk                                       (nats)
     u'_mk = w t_mk + (1-w) kappa f_mk            for w = 1/2, 1/4, 3/4
                                      kappa: the median of t_mk / (f_mk - f_mx)
                                      over the steps up and down from x
     x'    = the exact optimum of u'

   and x', u' with the least KL on the calibration text, if it is less than that
   of x, are the next round's; else x is the answer.  t says how one module
   alone moves from x, from few tokens and draws; u holds for all budgets: w
   trusts the one or the other.  [ours] */

static const double trust[] = {0.5, 0.25, 0.75};
enum { TRUSTS = sizeof trust / sizeof *trust };

typedef struct {
    double *slope, *curve;      /* [M, K]; slope: t after that */
    double *prior, kappa;       /* [M, K] f, whose optimum is x; to nats */
    double *ratio;              /* [2 M] */
    gm_scores scores;           /* u' */
    int *tried;                 /* [1 + TRUSTS, M] x; of each w */
    double kl;                  /* of x */
} refining;

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* kappa, 0 where none is found. */
static double nats_of_scores(const gm_rivals *r, const refining *f) {
    size_t n = 0;
    for (long m = 0; m < r->p.M; m++)
        for (int up = 0; up < 2; up++) {
            const long row = m * r->p.K, now = row + f->tried[m];
            int k = gm_neighbour(&r->p, m, f->tried[m], up, INT64_MAX);
            double change = k < 0 ? 0 : f->prior[row + k] - f->prior[now];
            if (change != 0) f->ratio[n++] = f->slope[row + k] / change;
        }
    if (!n) return 0;
    qsort(f->ratio, n, sizeof *f->ratio, ascending);
    return f->ratio[n / 2] > 0 ? f->ratio[n / 2] : 0;
}

/* u' of w, each module's least 0. */
static void mix(const gm_rivals *r, refining *f, double w) {
    const long K = r->p.K;
    for (long m = 0; m < r->p.M; m++) {
        double least = HUGE_VAL;
        for (long i = m * K; i < (m + 1) * K; i++) {
            double u = w * f->slope[i] + (1 - w) * (f->kappa * f->prior[i]);
            f->scores.score[i] = u;
            if (r->p.allowed[i] && u < least) least = u;
        }
        for (long i = m * K; i < (m + 1) * K; i++)
            f->scores.score[i] = r->p.allowed[i] ? f->scores.score[i] - least
                                                 : 0;
    }
}

static bool affordable(const gm_rivals *r, long evaluations) {
    return gm_objective_evaluations(r->objective) + (double)evaluations <=
           (double)r->options.evaluations;
}

/* One round: the optima of u' of each w, and that of least KL; false: x
   stays. */
static bool refine(const gm_rivals *r, refining *f, uint64_t round) {
    const long M = r->p.M, n = M * r->p.K;
    const size_t bytes = (size_t)M * sizeof *f->tried;
    int taken = 0;
    gm_objective_expand(r->objective, f->tried, r->options.seed + round,
                        f->slope, f->curve);
    for (long i = 0; i < n; i++) f->slope[i] += f->curve[i];
    f->kappa = nats_of_scores(r, f);
    for (int i = 1; i <= TRUSTS && affordable(r, 1); i++) {
        int *x = f->tried + i * M, j = 0;
        mix(r, f, trust[i - 1]);
        solve(r, &f->scores, x);
        while (memcmp(x, f->tried + j * M, bytes) != 0) j++;
        const double kl = j < i ? f->kl : gm_objective_kl(r->objective, x);
        if (kl >= f->kl) continue;
        f->kl = kl;
        taken = i;
    }
    for (long i = 0; i < n && !taken && f->kappa > 0; i++)
        f->prior[i] *= f->kappa;
    if (!taken) return false;
    mix(r, f, trust[taken - 1]);
    memcpy(f->tried, f->tried + taken * M, bytes);
    memcpy(f->prior, f->scores.score, (size_t)n * sizeof *f->prior);
    return true;
}

static void refined(const gm_rivals *r) {
    gm_arena *arena = r->arena;
    gm_objective *o = r->objective;
    const size_t M = (size_t)r->p.M, n = M * (size_t)r->p.K;
    gm_refined own = {0}, *out = r->refined ? r->refined : &own;
    learned(r);                         /* says what does not fit */
    own.score = gm_alloc(arena, n, sizeof *own.score);
    memcpy(out->score, gm_scores_at(arena, r->options.learned,
                                    r->budget)->score, n * sizeof *own.score);
    refining f = {.scores = r->table, .prior = out->score};
    f.slope = gm_alloc(arena, n, sizeof *f.slope);
    f.curve = gm_alloc(arena, n, sizeof *f.curve);
    f.ratio = gm_alloc(arena, 2 * M, sizeof *f.ratio);
    f.tried = gm_alloc(arena, (1 + TRUSTS) * M, sizeof *f.tried);
    memcpy(f.tried, r->choice, M * sizeof *f.tried);
    f.scores.score = gm_alloc(arena, n, sizeof *f.scores.score);
    out->kl_before = f.kl = gm_objective_kl(o, f.tried);
    for (uint64_t i = 0; affordable(r, gm_expand_evaluations() + 1); i++) {
        const bool moved = refine(r, &f, i);
        gm_say(r->report, "refining", (long)gm_objective_evaluations(o),
               r->options.evaluations);
        if (!moved) break;
    }
    out->kl = f.kl;
    out->moved = 0;
    for (size_t m = 0; m < M; m++) out->moved += r->choice[m] != f.tried[m];
    memcpy(r->choice, f.tried, M * sizeof *f.tried);
}

/* -------------------------------------------------------------- the methods */

static const struct {
    const char *name;
    gm_measures measures;
    void (*choose)(const gm_rivals *r);
} methods[GM_METHODS] = {
    [GM_UNIFORM] = {"uniform", GM_MEASURES_NOTHING, uniform},
    [GM_MIX] = {"mix", GM_MEASURES_NOTHING, next_level},
    [GM_RANDOM] = {"random", GM_MEASURES_NOTHING, fill_random},
    [GM_FIRST_HIGH] = {"first-high", GM_MEASURES_NOTHING, next_level},
    [GM_LAST_HIGH] = {"last-high", GM_MEASURES_NOTHING, next_level},
    [GM_GREEDY] = {"greedy", GM_MEASURES_BLOCKS, greedy},
    [GM_GRAM] = {"gram", GM_MEASURES_LINEARS, least_error},
    [GM_SEPARABLE] = {"separable", GM_MEASURES_BLOCKS, least_error},
    [GM_CLOSED_FORM] = {"closed-form", GM_MEASURES_LINEARS, closed_form},
    [GM_ANNEAL] = {"anneal", GM_MEASURES_BLOCKS, search},
    [GM_EVOLVE] = {"evolve", GM_MEASURES_BLOCKS, search},
    [GM_EVOLVE_KL] = {"evolve-kl", GM_MEASURES_MODELS, search},
    [GM_RCO] = {"rco", GM_MEASURES_GRADIENTS, search},
    [GM_LEARNED] = {"gamma", GM_MEASURES_NOTHING, learned},
    [GM_REFINED] = {"refined", GM_MEASURES_GRADIENTS, refined}};

const char *gm_method_name(gm_method method) { return methods[method].name; }

gm_measures gm_method_measures(gm_method method) {
    return methods[method].measures;
}

gm_rivals *gm_rivals_begin(gm_arena *arena, const gm_rivals_options *options,
                           const gm_report *report) {
    const gm_candidates *c = options->candidates;
    gm_rivals *r = gm_alloc(arena, 1, sizeof *r);
    *r = (gm_rivals){.options = *options, .report = report, .arena = arena};
    if (options->evaluations < 1)
        gm_fail(GM_EUSAGE, "evaluations: expected at least 1, found %ld",
                options->evaluations);
    gm_module_table(arena, c->model, &c->recipe, &r->table);
    const long K = r->table.K;
    r->table.overhead = options->overhead;
    for (long i = 0; i < r->table.M * K && options->bytes; i++)
        r->table.bytes[i] = options->bytes[i];
    for (long m = 0; m < r->table.M; m++) {
        int count = 0;
        for (int k = 0; k < K; k++) {
            if (gm_allowed(c, m, k)) count++;
            else r->table.bytes[m * K + k] = -1;
        }
        if (!count)
            gm_bad(r->table.path, "module %s has no candidate",
                   r->table.name[m]);
    }
    return r;
}

const gm_scores *gm_rivals_table(const gm_rivals *rivals) {
    return &rivals->table;
}

/* What outlives the call, made by the first that needs it: the original's
   states, errors of all candidates; its share of the effort. */
static gm_effort prepare(gm_rivals *r) {
    const gm_measures what = methods[r->method].measures;
    const bool linears = what == GM_MEASURES_LINEARS;
    errors *e = linears ? &r->gram : &r->separable;
    double start = gm_seconds();
    if (what == GM_MEASURES_NOTHING) return (gm_effort){0};
    assert(!r->options.whole || what == GM_MEASURES_GRADIENTS);
    if (!r->objective) {
        r->objective = gm_objective_begin(r->arena, r->options.candidates,
                                          &r->options.text, !r->options.whole,
                                          r->report);
        r->begin_seconds = gm_seconds() - start;
    }
    if (what >= GM_MEASURES_MODELS) gm_objective_kl_begin(r->objective);
    if (what == GM_MEASURES_GRADIENTS)      /* its learning comes on top */
        return (gm_effort){0, r->begin_seconds};
    if (!e->value) {
        start = gm_seconds();
        e->value = gm_alloc(r->arena, (size_t)(r->table.M * r->table.K),
                            sizeof *e->value);
        gm_objective_forget(r->objective);
        if (linears) gm_objective_gram(r->objective, e->value);
        else gm_objective_separable(r->objective, r->options.separable,
                                    e->value);
        e->evaluations = gm_objective_evaluations(r->objective);
        e->seconds = gm_seconds() - start;
    }
    r->error = e->value;
    return (gm_effort){e->evaluations, r->begin_seconds + e->seconds};
}

gm_effort gm_rivals_choose(gm_rivals *r, gm_method method,
                           const gm_budget *budget, int *choice,
                           gm_refined *out) {
    if ((unsigned)method >= GM_METHODS)
        gm_fail(GM_EUSAGE, "no such method: %d", (int)method);
    r->method = method;
    r->budget = budget;
    r->choice = choice;
    r->refined = out;
    gm_mark mark = gm_arena_mark(r->arena);
    gm_problem_build(r->arena, &r->table, budget, 30, &r->p);
    const int64_t smallest = all(r, true);
    if (smallest > r->p.budget)
        gm_problem_refuse(&r->p, &(gm_reach){smallest, all(r, false), -1,
                                             smallest, true});
    gm_arena_rewind(r->arena, mark);
    gm_effort effort = prepare(r);
    const double start = gm_seconds();
    mark = gm_arena_mark(r->arena);
    gm_problem_build(r->arena, &r->table, budget, 30, &r->p);
    if (r->objective) gm_objective_forget(r->objective);
    methods[method].choose(r);
    if (r->objective)
        effort.evaluations += gm_objective_evaluations(r->objective);
    gm_arena_rewind(r->arena, mark);
    effort.seconds += gm_seconds() - start;
    return effort;
}

void gm_rivals_kl(gm_rivals *r, const gm_scores *scores,
                  const gm_budget *budget, double *each) {
    r->method = GM_REFINED;
    r->budget = budget;
    prepare(r);                         /* what it makes stays */
    gm_mark mark = gm_arena_mark(r->arena);
    int *choice = gm_alloc(r->arena, (size_t)r->table.M, sizeof *choice);
    solve(r, gm_scores_at(r->arena, scores, budget), choice);
    gm_objective_kl_each(r->objective, choice, each);
    gm_arena_rewind(r->arena, mark);
}
