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
};

/* One call of gm_rivals_choose. */
typedef struct {
    gm_rivals *r;
    gm_arena *arena;            /* workspace */
    const gm_budget *budget;
    gm_mckp p;                  /* sizes in the budget's unit, scores zero */
    int *choice;                /* [M] */
    gm_refined *refined;        /* what GM_REFINED tells beside it, or NULL */
} asked;

static const char *const method_name[GM_METHODS] = {
    "uniform", "random", "first-high", "last-high", "greedy", "gram",
    "separable", "closed-form", "anneal", "evolve", "evolve-kl", "gamma",
    "refined"};

const char *gm_method_name(gm_method method) { return method_name[method]; }

gm_measures gm_method_measures(gm_method method) {
    switch (method) {
    case GM_GREEDY:
    case GM_GRAM:
    case GM_SEPARABLE:
    case GM_CLOSED_FORM:
    case GM_ANNEAL:
    case GM_EVOLVE:
        return GM_MEASURES_BLOCKS;
    case GM_EVOLVE_KL:
        return GM_MEASURES_MODELS;
    case GM_REFINED:
        return GM_MEASURES_GRADIENTS;
    default:
        return GM_MEASURES_NOTHING;
    }
}

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

/* The smallest size of every module. */
static void all_least(const asked *a) {
    for (long m = 0; m < a->p.M; m++) a->choice[m] = gm_step_up(&a->p, m, -1);
}

/* max u with sum_m s_mu <= B.  Returns u; -1: not even level 0 fits (sizes that
   do not grow with bits), and all modules take their least size. */
static int uniform(const asked *a) {
    int u = a->p.K - 1;
    while (u >= 0 && level_size(&a->p, u) > a->p.budget) u--;
    if (u < 0) all_least(a);
    for (long m = 0; m < a->p.M && u >= 0; m++)
        a->choice[m] = at_level(&a->p, m, u);
    return u;
}

/* Uniform's level u; then, block after block (from the first or the last),
   q k v o gate up down within it, each module that still fits goes to u + 1. */
static void ends_high(const asked *a, bool last) {
    const gm_mckp *p = &a->p;
    const long L = p->M / GM_LINEARS;
    int u = uniform(a);
    int64_t slack = p->budget - gm_size_of(p, a->choice);
    for (long i = 0; i < p->M && u + 1 < p->K; i++) {
        long l = i / GM_LINEARS, m = i;
        if (last) m = (L - 1 - l) * GM_LINEARS + i % GM_LINEARS;
        int k = at_level(p, m, u + 1);
        int64_t more = p->size[m * p->K + k] -
                       p->size[m * p->K + a->choice[m]];
        if (more > slack) continue;
        a->choice[m] = k;
        slack -= more;
    }
}

/* -------------------------------------------------------- scores and solver */

/* The optimum by the dynamic program, proven, or an error. */
static void solve(const asked *a, const gm_scores *scores) {
    gm_mckp p;
    gm_rounding rounding;
    gm_certificate t = {0};
    gm_solve_options o = {.solver = GM_DP, .report = a->r->report};
    gm_problem_build(a->arena, scores, a->budget, 30, &p, &rounding);
    gm_status s = gm_mckp_solve(a->arena, &p, &o, a->choice, &t);
    if (s) gm_fail(s, "%s", t.why);
}

/* Exact minimum of sum_m error_mk. */
static void solve_errors(const asked *a, double *error) {
    gm_scores scores = a->r->table;
    scores.score = error;
    solve(a, &scores);
}

/* GAMMA's scores must be of this table: same modules, candidates and sizes. */
static void learned(const asked *a) {
    const gm_scores *s = a->r->options.learned, *t = &a->r->table;
    if (!s)
        gm_fail(GM_EUSAGE, "method gamma: expected learned "
                       "scores, found none");
    if (s->M != t->M || s->K != t->K)
        gm_fail(GM_EINPUT, "%s: expected %ld modules with %d "
                       "candidates, found %ld with %d", s->path, t->M, t->K,
                       s->M, s->K);
    for (long i = 0; i < t->M * t->K; i++) {
        long m = i / t->K, k = i % t->K;
        if (strcmp(s->name[m], t->name[m]) == 0 && s->bits[k] == t->bits[k] &&
            s->bytes[i] == t->bytes[i])
            continue;
        gm_fail(GM_EINPUT, "%s: expected %s at %d bits: %lld "
                       "bytes, found %s at %d bits: %lld bytes", s->path,
                       t->name[m], t->bits[k], (long long)t->bytes[i],
                       s->name[m], s->bits[k], (long long)s->bytes[i]);
    }
    solve(a, s);
}

/* ------------------------------------------------------------------- greedy */

/* From the least sizes up: of all steps j -> k that fit and gain, the one of
   largest (S_mj - S_mk) / (s_mk - s_mj); ties: the first module, the smallest
   step.  k need not be next to j, or a step that gains little would hide a
   better one behind it. */
static void greedy(const asked *a, const double *S) {
    const gm_mckp *p = &a->p;
    all_least(a);
    int64_t slack = p->budget - gm_size_of(p, a->choice);
    for (;;) {
        double gain = 0, more = 1;
        long at = -1;
        int to = -1;
        for (long m = 0; m < p->M; m++) {
            const long row = m * p->K, from = row + a->choice[m];
            for (int k = gm_step_up(p, m, a->choice[m]); k >= 0;
                 k = gm_step_up(p, m, k)) {
                int64_t size = p->size[row + k] - p->size[from];
                double g = S[from] - S[row + k];
                if (size > slack || !(g * more > gain * (double)size)) continue;
                gain = g, more = (double)size, at = m, to = k;
            }
        }
        if (at < 0) return;
        slack -= p->size[at * p->K + to] - p->size[at * p->K + a->choice[at]];
        a->choice[at] = to;
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
static double target_bits(const asked *a, int u) {
    const gm_mckp *p = &a->p;
    const int *bits = a->r->table.bits;
    if (u < 0) return bits[0];
    if (u + 1 == p->K) return bits[u];
    int64_t low = level_size(p, u), high = level_size(p, u + 1);
    if (high <= low) return bits[u];
    return bits[u] + (bits[u + 1] - bits[u]) * (double)(p->budget - low) /
                         (double)(high - low);
}

/* R[m]; -inf for a module without error at the reference, which is left out of
   GM. */
static void real_bits(const asked *a, const double *D, double *R) {
    const gm_scores *t = &a->r->table;
    const double slope = 1.95, ln2 = 0.69314718055994531;
    const int u = uniform(a);
    int reference = u < 0 ? 0 : u;
    while (reference > 0 && t->bits[reference] >= 16) reference--;
    double sum = 0, weights = 0;
    for (long m = 0; m < t->M; m++) {
        double n = (double)t->weights[m];
        double l = D[m * t->K + at_level(&a->p, m, reference)] / n;
        R[m] = l > 0 ? gm_logd(l) : -HUGE_VAL;
        if (!(l > 0)) continue;
        sum += n * R[m];
        weights += n;
    }
    for (long m = 0; m < t->M; m++)
        R[m] = target_bits(a, u) +
               (R[m] - (weights > 0 ? sum / weights : 0)) / (slope * ln2);
}

/* The allowed candidate of bits nearest to R; the lower of two. */
static int nearest(const asked *a, long m, double R) {
    const gm_scores *t = &a->r->table;
    int best = -1;
    for (int k = 0; k < t->K; k++)
        if (a->p.allowed[m * t->K + k] &&
            (best < 0 || fabs(t->bits[k] - R) < fabs(t->bits[best] - R)))
            best = k;
    return best;
}

/* One step of the module that is furthest on the wrong side of its R: down
   (sign -1), or up if it fits the slack.  false: no module can. */
static bool mend(const asked *a, const double *R, int sign, int64_t *slack) {
    const gm_mckp *p = &a->p;
    double most = 0;
    long at = -1;
    int to = -1;
    for (long m = 0; m < p->M; m++) {
        int from = a->choice[m];
        int k = sign > 0 ? gm_step_up(p, m, from) : gm_step_down(p, m, from);
        double wrong = sign * (R[m] - a->r->table.bits[from]);
        if (k < 0 || (sign > 0 && p->size[m * p->K + k] -
                                  p->size[m * p->K + from] > *slack))
            continue;
        if (at < 0 || wrong > most) most = wrong, at = m, to = k;
    }
    if (at < 0) return false;
    *slack -= p->size[at * p->K + to] - p->size[at * p->K + a->choice[at]];
    a->choice[at] = to;
    return true;
}

static void closed_form(const asked *a, const double *D) {
    double *R = gm_alloc(a->arena, (size_t)a->p.M, sizeof *R);
    real_bits(a, D, R);
    for (long m = 0; m < a->p.M; m++) a->choice[m] = nearest(a, m, R[m]);
    int64_t slack = a->p.budget - gm_size_of(&a->p, a->choice);
    while (slack < 0 && mend(a, R, -1, &slack));
    while (mend(a, R, 1, &slack));
}

/* ----------------------------------------------------------------- searches */

static void block_cost(void *context, const int *choice, double *cost) {
    gm_objective_blocks(context, choice, cost);
}

static void kl_cost(void *context, const int *choice, double *cost) {
    gm_objective_kl(context, choice, cost);
}

static double spent(void *context) { return gm_objective_evaluations(context); }

static gm_search search_of(const asked *a, bool kl) {
    const gm_rivals *r = a->r;
    return (gm_search){
        .problem = &a->p, .cost = kl ? kl_cost : block_cost, .spent = spent,
        .context = r->objective, .seed = r->options.seed, .report = r->report,
        .share = kl ? 1 : GM_LINEARS / (double)a->p.M,
        .evaluations = (double)r->options.evaluations};
}

static void anneal(const asked *a) {
    gm_search search = search_of(a, false);
    greedy(a, a->r->separable.value);
    gm_anneal(a->arena, &search, a->choice);
}

/* Members: greedy, uniform, random. */
static void evolve(const asked *a, bool kl) {
    gm_search search = search_of(a, kl);
    const size_t M = (size_t)a->p.M;
    int *starts = gm_alloc(a->arena, 2 * M, sizeof *starts);
    greedy(a, a->r->separable.value);
    memcpy(starts, a->choice, M * sizeof *starts);
    uniform(a);
    memcpy(starts + M, a->choice, M * sizeof *starts);
    gm_evolve(a->arena, &search, starts, 2, kl ? 3 : 2, a->choice);
}

/* ------------------------------------------------------------------ refined

   GAMMA's scores u, corrected by the whole model's KL around their optimum x.
   In each round, with A and C of taylor.c at x, and f the u of before:

     t_mk  = A_mk + C_mk                                       (nats)
     u'_mk = w t_mk + (1-w) kappa f_mk            for w = 1/2, 1/4, 3/4
                                      kappa: the median of t_mk / (f_mk - f_mx)
                                      over the steps up and down from x
     x'    = the exact optimum of u'

   and x', u' with the least KL on the calibration text, if it is less than that
   of x, are the next round's; else x is the answer.  t says how one module
   alone moves from x, from few tokens and draws; u holds for all budgets: w
   trusts the one or the other.  [choice] */

static const double trust[] = {0.5, 0.25, 0.75};
enum { TRUSTS = sizeof trust / sizeof *trust };

typedef struct {
    double *slope, *curve;      /* [M, K]; slope: t after that */
    double *prior, kappa;       /* [M, K] f, whose optimum is best; to nats */
    double *ratio;              /* [2 M] */
    gm_scores scores;           /* u' */
    int *best, *tried;          /* [M], [TRUSTS, M] */
    double kl;                  /* of best */
} refining;

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* kappa, 0 where none is found. */
static double nats_of_scores(const asked *a, const refining *f) {
    const long K = a->p.K;
    size_t n = 0;
    for (long m = 0; m < a->p.M; m++) {
        const long now = f->best[m], at = m * K;
        const int next[2] = {gm_step_up(&a->p, m, (int)now),
                             gm_step_down(&a->p, m, (int)now)};
        for (int i = 0; i < 2; i++) {
            if (next[i] < 0) continue;
            double change = f->prior[at + next[i]] - f->prior[at + now];
            if (change == 0) continue;
            f->ratio[n++] = f->slope[at + next[i]] / change;
        }
    }
    if (!n) return 0;
    qsort(f->ratio, n, sizeof *f->ratio, ascending);
    return f->ratio[n / 2] > 0 ? f->ratio[n / 2] : 0;
}

/* t and kappa at f->best. */
static void expand(const asked *a, refining *f, long round) {
    const long n = a->p.M * a->p.K;
    gm_objective_expand(a->r->objective, f->best,
                                      a->r->options.seed + (uint64_t)round,
                                      f->slope, f->curve);
    for (long i = 0; i < n; i++) f->slope[i] += f->curve[i];
    f->kappa = nats_of_scores(a, f);
}

/* u' of w, each module's least 0. */
static void mix(const asked *a, refining *f, double w) {
    const long K = a->p.K;
    for (long m = 0; m < a->p.M; m++) {
        double least = HUGE_VAL;
        for (long i = m * K; i < (m + 1) * K; i++) {
            double u = w * f->slope[i] + (1 - w) * (f->kappa * f->prior[i]);
            f->scores.score[i] = u;
            if (a->p.allowed[i] && u < least) least = u;
        }
        for (long i = m * K; i < (m + 1) * K; i++)
            f->scores.score[i] = a->p.allowed[i] ? f->scores.score[i] - least
                                                 : 0;
    }
}

static bool affordable(const asked *a, long evaluations) {
    return gm_objective_evaluations(a->r->objective) + (double)evaluations <=
           (double)a->r->options.evaluations;
}

/* Tries the i-th w; *taken is i if the KL fell. */
static void attempt(const asked *a, refining *f, int i, int *taken) {
    const size_t M = (size_t)a->p.M, bytes = M * sizeof *f->best;
    double kl;
    assert(i < TRUSTS);
    mix(a, f, trust[i]);
    gm_mark mark = gm_arena_mark(a->arena);
    solve(a, &f->scores);
    gm_arena_rewind(a->arena, mark);
    memcpy(f->tried + (size_t)i * M, a->choice, bytes);
    if (memcmp(a->choice, f->best, bytes) == 0) return;
    for (int j = 0; j < i; j++)
        if (memcmp(a->choice, f->tried + (size_t)j * M, bytes) == 0)
            return;
    gm_objective_kl(a->r->objective, a->choice, &kl);
    if (kl >= f->kl) return;
    f->kl = kl;
    *taken = i;
}

/* *moved: to less KL. */
static void refine_once(const asked *a, refining *f, long round,
                             bool *moved) {
    const long M = a->p.M, n = M * a->p.K;
    int taken = -1;
    expand(a, f, round);
    for (int i = 0; i < TRUSTS && affordable(a, 1); i++)
        attempt(a, f, i, &taken);
    *moved = taken >= 0;
    if (!*moved) return;
    mix(a, f, trust[taken]);
    memcpy(f->best, f->tried + taken * M, (size_t)M * sizeof *f->best);
    memcpy(f->prior, f->scores.score, (size_t)n * sizeof *f->prior);
}

static void refine(const asked *a, refining *f) {
    const size_t bytes = (size_t)a->p.M * sizeof *a->choice;
    const long most = a->r->options.evaluations;
    bool moved = true;
    memcpy(f->best, a->choice, bytes);
    gm_objective_kl(a->r->objective, a->choice, &f->kl);
    if (a->refined) {
        memcpy(a->refined->start, f->best, bytes);
        a->refined->kl_before = f->kl;
    }
    for (long i = 0; moved; i++) {
        if (!affordable(a, gm_expand_evaluations() + 1)) break;
        refine_once(a, f, i, &moved);
        gm_say(a->r->report, "refining", (long)gm_objective_evaluations(
               a->r->objective), most);
    }
    memcpy(a->choice, f->best, bytes);
    if (a->refined) a->refined->kl = f->kl;
}

static void refined(const asked *a) {
    learned(a);
    refining f = {.scores = *a->r->options.learned};
    const size_t M = (size_t)a->p.M, n = M * (size_t)a->p.K;
    const double *u = f.scores.score;
    f.slope = gm_alloc(a->arena, n, sizeof *f.slope);
    f.curve = gm_alloc(a->arena, n, sizeof *f.curve);
    f.prior = a->refined ? a->refined->score
                         : gm_alloc(a->arena, n, sizeof *f.prior);
    f.ratio = gm_alloc(a->arena, 2 * M, sizeof *f.ratio);
    f.best = gm_alloc(a->arena, M, sizeof *f.best);
    f.tried = gm_alloc(a->arena, TRUSTS * M, sizeof *f.tried);
    f.scores.score = gm_alloc(a->arena, n, sizeof *f.scores.score);
    memcpy(f.prior, u, n * sizeof *u);
    refine(a, &f);
}

/* -------------------------------------------------------------- the methods */

void gm_rivals_begin(gm_arena *arena, const gm_rivals_options *options,
                          const gm_report *report, gm_rivals **out) {
    gm_rivals *r = gm_alloc(arena, 1, sizeof *r);
    *out = r;
    *r = (gm_rivals){.options = *options, .report = report, .arena = arena};
    if (options->evaluations < 1)
        gm_fail(GM_EUSAGE, "evaluations: expected at least 1, "
                       "found %ld", options->evaluations);
    const gm_candidates *c = options->candidates;
    gm_module_table(arena, c->model, &c->recipe, &r->table);
    r->table.overhead = options->overhead;
    for (long i = 0; i < r->table.M * r->table.K && c->allowed; i++)
        if (!c->allowed[i]) r->table.bytes[i] = -1;
}

const gm_scores *gm_rivals_table(const gm_rivals *rivals) {
    return &rivals->table;
}

/* The least sizes fit, or the reachable range in the reader's unit. */
static void check_feasible(const asked *a) {
    gm_certificate t = {.below = -1, .neighbours_proven = true};
    for (long m = 0; m < a->p.M; m++) {
        int k = gm_step_up(&a->p, m, -1), most = k;
        if (k < 0)
            gm_fail(GM_EINPUT, "%s: module %s has no candidate",
                           a->r->table.path, a->r->table.name[m]);
        for (int up = k; up >= 0; up = gm_step_up(&a->p, m, up)) most = up;
        t.smallest += a->p.size[m * a->p.K + k];
        t.largest += a->p.size[m * a->p.K + most];
    }
    t.above = t.smallest;
    if (t.smallest <= a->p.budget) return;
    gm_explain_infeasible(&a->r->table, a->budget, &t);
}

/* Errors of all candidates that exist, measured at the first call. */
static void measure(gm_rivals *r, errors *e,
                    void (*all)(gm_objective *, const bool *, double *)) {
    const size_t n = (size_t)(r->table.M * r->table.K);
    const double start = gm_seconds();
    if (e->value) return;
    double *value = gm_alloc(r->arena, n, sizeof *value);
    bool *wanted = gm_alloc(r->arena, n, sizeof *wanted);
    for (size_t i = 0; i < n; i++) wanted[i] = r->table.bytes[i] >= 0;
    gm_objective_forget(r->objective);
    all(r->objective, wanted, value);
    *e = (errors){value, gm_objective_evaluations(r->objective),
                          gm_seconds() - start};
}

/* What outlives the call, and its share of the effort. */
static void prepare(gm_rivals *r, gm_method method, gm_effort *effort) {
    const bool gram = method == GM_GRAM || method == GM_CLOSED_FORM;
    const gm_measures measures = gm_method_measures(method);
    errors *e = gram ? &r->gram : &r->separable;
    if (measures == GM_MEASURES_NOTHING) return;
    if (!r->objective) {
        double start = gm_seconds();
        gm_objective *o;
        gm_objective_begin(r->arena, r->options.candidates,
                           &r->options.text, r->report, &o);
        r->objective = o;
        r->begin_seconds = gm_seconds() - start;
    }
    if (method != GM_REFINED) measure(r, e, gram ? gm_objective_gram
                                   : gm_objective_separable);
    if (measures >= GM_MEASURES_MODELS)
        gm_objective_kl_begin(r->objective);
    gm_objective_forget(r->objective);
    *effort = (gm_effort){0, r->begin_seconds};
    if (method == GM_REFINED) return;         /* its learning comes on top */
    *effort = (gm_effort){e->evaluations, r->begin_seconds + e->seconds};
}

static void dispatch(const asked *a, gm_method method) {
    gm_draws draws = {a->r->options.seed, 0, 0};
    switch (method) {
    case GM_UNIFORM: uniform(a); return;
    case GM_RANDOM:
        all_least(a);
        gm_fill_random(&a->p, a->choice, &draws);
        return;
    case GM_FIRST_HIGH: ends_high(a, false); return;
    case GM_LAST_HIGH: ends_high(a, true); return;
    case GM_GREEDY: greedy(a, a->r->separable.value); return;
    case GM_GRAM: solve_errors(a, a->r->gram.value); return;
    case GM_SEPARABLE: solve_errors(a, a->r->separable.value); return;
    case GM_CLOSED_FORM: closed_form(a, a->r->gram.value); return;
    case GM_ANNEAL: anneal(a); return;
    case GM_EVOLVE: evolve(a, false); return;
    case GM_EVOLVE_KL: evolve(a, true); return;
    case GM_LEARNED: learned(a); return;
    case GM_REFINED: refined(a); return;
    default: gm_fail(GM_EUSAGE, "no such method: %d",
                            (int)method);
    }
}

static void choose(asked *a, gm_method method, gm_effort *effort) {
    gm_rivals *r = a->r;
    *effort = (gm_effort){0};
    gm_rounding rounding;
    gm_mark mark = gm_arena_mark(r->arena);
    gm_problem_build(r->arena, &r->table, a->budget, 30, &a->p,
                                   &rounding);
    check_feasible(a);
    gm_arena_rewind(r->arena, mark);
    prepare(r, method, effort);
    const double start = gm_seconds();
    mark = gm_arena_mark(r->arena);
    gm_problem_build(r->arena, &r->table, a->budget, 30, &a->p, &rounding);
    dispatch(a, method);
    if (r->objective) {
        effort->evaluations += gm_objective_evaluations(r->objective);
        gm_objective_forget(r->objective);
    }
    gm_arena_rewind(r->arena, mark);
    effort->seconds += gm_seconds() - start;
}

void gm_rivals_choose(gm_rivals *r, gm_method method,
                           const gm_budget *budget, int *choice,
                           gm_effort *effort) {
    choose(&(asked){.r = r, .arena = r->arena, .budget = budget,
                           .choice = choice}, method, effort);
}

void gm_rivals_refine(gm_rivals *r, const gm_budget *budget, int *choice,
                           gm_refined *out, gm_effort *effort) {
    choose(&(asked){.r = r, .arena = r->arena, .budget = budget,
                           .choice = choice, .refined = out},
                  GM_REFINED, effort);
}
