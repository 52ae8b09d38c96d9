/* check.c: verifies an assignment and its certificate against the scores they
   came from.  Shares no code with the solvers; every number here is a sum or
   a minimum that a reader can repeat with a pocket calculator.

   The bound.  Row 0 limits the size, c_0 = s, by the budget, further rows are
   resources.  For any mu_r >= 0 (mu_0, lambda, of any sign for "=") and any
   assignment x that meets the limits,
     sum_m u_m,x(m) >= sum_m (u + sum_r mu_r c_r)_m,x(m) - sum_r mu_r limit_r
                    >= sum_m min_k (u + sum_r mu_r c_r)_mk - sum_r mu_r limit_r
   because what is subtracted is at least what was added.  u = round(score
   2^score_shift), sizes s in the budget's convention, over one denominator.

   Reads the tables of further resources, nothing else.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct checker {
    gm_arena *arena;
    const gm_allocation *a;
    const gm_scores *s;
    gm_check *out;
    int *choice;                    /* [M] */
    long *row, *leader;             /* [M] of the allocation; first one fused */
    bool bytes, ebits, exact;       /* convention (neither: bits), relation */
    int64_t den, shift;
    bool beyond;                    /* a sum was beyond 128 bits */
    int rows;
    struct { int64_t *cost, limit, mu; } limits[1 + GM_MAX_ROWS];
};

/* ------------------------------------------------------------------- claims */

static void claim(struct checker *c, bool holds, const char *name,
                  const char *stated, const char *found) {
    c->out->claim[c->out->count++] = (gm_claim){name, stated, found, holds};
    c->out->failed += !holds;
}

/* The file's statement under `key`, if it makes one, against what is so. */
static void claim_text(struct checker *c, const char *key, const char *found) {
    const char *stated = gm_keys_get(&c->a->keys, key);
    if (stated && found)
        claim(c, strcmp(stated, found) == 0, key, stated, found);
}

static void claim_int(struct checker *c, const char *key, int64_t found) {
    claim_text(c, key, gm_format(c->arena, "%ld", (long)found));
}

/* An integer that the certificate must have. */
static int64_t need(struct checker *c, const char *key) {
    const char *text = gm_keys_get(&c->a->keys, key);
    long x;
    if (!text || !gm_is_long(text, INT64_MIN / 2 + 1, INT64_MAX / 2 - 1, &x))
        gm_bad(c->a->path, "%s: expected a whole number, found \"%s\"", key,
               text ? text : "");
    return x;
}

/* *sum += a b; a product of two 64-bit numbers fits, a sum may not. */
static void add_product(struct checker *c, __int128 *sum, int64_t a,
                        int64_t b) {
    if (__builtin_add_overflow(*sum, (__int128)a * b, sum)) c->beyond = true;
}

/* A sum as 64 bits; the file's numbers alone can make it larger. */
static int64_t narrow(const struct checker *c, const char *what, __int128 sum) {
    if (c->beyond || sum >= INT64_MAX / 2 || sum <= INT64_MIN / 2)
        gm_bad(c->a->path, "%s: sums to 2^62 or more", what);
    return (int64_t)sum;
}

/* -------------------------------------------------------- sizes and scores */

/* Row 0 but for its multiplier. */
static void begin_rows(struct checker *c, int64_t budget) {
    const gm_scores *s = c->s;
    int64_t *size = gm_alloc(c->arena, (size_t)(s->M * s->K), sizeof *size);
    for (long i = 0; i < s->M * s->K; i++)
        size[i] = c->bytes ? s->bytes[i] : c->ebits ? 8 * s->bytes[i]
                : s->weights[i / s->K] * s->bits[i % s->K];
    c->limits[0].cost = size;
    c->limits[0].limit = budget;
    c->rows = 1;
}

/* What the assignment has of row r is within its limit. */
static int64_t claim_limit(struct checker *c, int r, const char *what,
                           const char *name) {
    const bool exact = r == 0 && c->exact;
    const int64_t limit = c->limits[r].limit;
    __int128 sum = 0;
    for (long m = 0; m < c->s->M; m++)
        sum += c->limits[r].cost[m * c->s->K + c->choice[m]];
    const int64_t found = narrow(c, what, sum);
    claim(c, exact ? found == limit : found <= limit, name,
          gm_format(c->arena, "%s%s %ld", r ? "" : "size ", exact ? "=" : "<=",
                    (long)limit), gm_format(c->arena, "%ld", (long)found));
    return found;
}

static int64_t integer_score(const struct checker *c, long i) {
    return llrint(ldexp(c->s->score[i], (int)c->shift));
}

static void check_sizes(struct checker *c) {
    static const char *const same[] = {"model_hash", "calibration_hash",
                                       "recipe"};
    const gm_scores *s = c->s;
    gm_sizes *z = &c->out->sizes;
    for (long m = 0; m < s->M; m++) {
        int k = c->choice[m];
        z->code_bits += s->weights[m] * s->bits[k];
        z->file_bytes += s->bytes[m * s->K + k];
        c->out->score += s->score[m * s->K + k];
    }
    z->effective_bits = 8 * z->file_bytes;
    z->file_bytes += s->overhead;
    claim_int(c, "modules", s->M);
    claim_int(c, "weights", s->N);
    claim_int(c, "overhead_bytes", s->overhead);
    claim_int(c, "code_bits", z->code_bits);
    claim_int(c, "effective_bits", z->effective_bits);
    claim_int(c, "file_bytes", z->file_bytes);
    for (int i = 0; i < 3; i++)
        claim_text(c, same[i], gm_keys_get(&s->keys, same[i]));
}

/* floor(budget as asked), from its text alone: "2.5" bits per weight, "50M"
   bytes. */
static int64_t asked_budget(const struct checker *c, const char *text) {
    int64_t unit = c->bytes ? 1 : c->s->N;
    const size_t n = strspn(text, "0123456789.");
    const char *at = text[n] ? strchr("KMG", text[n]) : NULL;
    for (const char *power = "KMG"; c->bytes && at; power++) {
        unit *= text[n + 1] == 'i' ? 1024 : 1000;
        if (*power == *at) break;
    }
    return gm_parse_scaled("budget_asked", gm_format(c->arena, "%.*s", (int)n,
                                                     text), unit);
}

static void check_budget(struct checker *c) {
    const gm_keys *keys = &c->a->keys;
    const char *convention = gm_keys_get(keys, "convention");
    const char *relation = gm_keys_get(keys, "relation");
    const char *asked = gm_keys_get(keys, "budget_asked");
    c->bytes = strcmp(convention, "bytes") == 0;
    c->ebits = strcmp(convention, "ebits") == 0;
    c->exact = relation && strcmp(relation, "=") == 0;
    if (!c->bytes && !c->ebits && strcmp(convention, "bits") != 0)
        gm_bad(c->a->path, "convention: expected bits, ebits or bytes, found "
               "\"%s\"", convention);
    const int64_t budget = need(c, "budget") - (c->bytes ? c->s->overhead : 0);
    if (asked) claim_int(c, "budget", asked_budget(c, asked));
    begin_rows(c, budget);
    const int64_t size = claim_limit(c, 0, "size", "within the budget");
    claim_int(c, "size", size);
    claim_int(c, "slack", budget - size);
}

/* -------------------------------------------------------- other constraints */

/* Row of the allocation of each module (gm_allocation_match has seen to it that
   names are unique), and the first module that it is fused with, or itself. */
static void match_rows(struct checker *c) {
    const gm_allocation *a = c->a;
    c->row = gm_alloc(c->arena, (size_t)c->s->M, sizeof *c->row);
    c->leader = gm_alloc(c->arena, (size_t)c->s->M, sizeof *c->leader);
    for (long m = 0; m < c->s->M; m++) {
        long i = m < a->M && strcmp(a->name[m], c->s->name[m]) == 0 ? m : 0, n;
        while (strcmp(a->name[i], c->s->name[m]) != 0) i++;
        c->row[m] = i, c->leader[m] = m;
        if (!a->fused || strcmp(a->fused[i], "-") == 0) continue;
        for (n = 0; strcmp(a->fused[c->row[n]], a->fused[i]) != 0;) n++;
        c->leader[m] = n;
    }
}

/* Candidate k is one, and listed in "2,3,4" if the file lists what is allowed.
   */
static bool may_take(const struct checker *c, long m, int k) {
    char bits[16];
    snprintf(bits, sizeof bits, "%d", c->s->bits[k]);
    return c->s->bytes[m * c->s->K + k] >= 0 &&
           (!c->a->allowed || gm_name_matches(c->a->allowed[c->row[m]], bits));
}

static void claim_none(struct checker *c, const char *name, long count,
                       const char *where) {
    claim(c, count == 0, name, gm_format(c->arena, "0 %s", where),
          gm_format(c->arena, "%ld %s", count, where));
}

static void check_choices(struct checker *c) {
    long bad = 0, apart = 0;
    for (long m = 0; m < c->s->M; m++) {
        bad += !may_take(c, m, c->choice[m]);
        apart += c->choice[m] != c->choice[c->leader[m]];
    }
    if (c->a->allowed) claim_none(c, "allowed bits", bad, "outside");
    if (c->a->fused) claim_none(c, "fused modules", apart, "apart");
}

/* The table of resource `name` among "a.tsv,b.tsv". */
static gm_table find_table(struct checker *c, const char *paths,
                           const char *name) {
    for (const char *at = paths; at && *at;) {
        size_t n = strcspn(at, ",");
        const char *path = gm_format(c->arena, "%.*s", (int)n, at);
        gm_table table;
        gm_table_read(c->arena, path, &table);
        const char *key = gm_table_key(&table, "resource");
        if (strcmp(key ? key : gm_base_name(path), name) == 0) return table;
        at += n + (at[n] == ',');
    }
    gm_fail(GM_EUSAGE, "%s limits the resource \"%s\": give its table with "
            "--resource", c->a->path, name);
}

/* Decimal cost of candidate i in one resource table, times unit. */
static int64_t table_cost(const struct checker *c, const gm_table *t,
                          int64_t unit, long i) {
    const char *module = c->s->name[i / c->s->K];
    const int bits = c->s->bits[i % c->s->K];
    const long name = gm_table_column(t, "module");
    long r = 0, column = gm_table_column(t, gm_format(c->arena, "%d", bits));
    if (column < 0)
        column = gm_table_column(t, gm_format(c->arena, "%d.cost", bits));
    while (name >= 0 && r < t->rows &&
           strcmp(t->cell[r * t->columns + name], module) != 0)
        r++;
    if (name < 0 || column < 0 || r == t->rows)
        gm_bad(t->path, "no cost of module %s at %d bits", module, bits);
    return gm_parse_scaled(t->path, t->cell[r * t->columns + column], unit);
}

static void check_row(struct checker *c, const char *name, const char *paths) {
    const gm_scores *s = c->s;
    const char *key = gm_format(c->arena, "limit.%s", name);
    const int r = c->rows++;
    int64_t unit = 1;
    if (r > GM_MAX_ROWS)
        gm_bad(c->a->path, "more than %d limits", GM_MAX_ROWS);
    const int64_t places = need(c, gm_format(c->arena, "places.%s", name));
    for (int64_t p = 0; p < places && p < 9; p++) unit *= 10;
    c->limits[r].mu = need(c, gm_format(c->arena, "multiplier_num.%s", name));
    c->limits[r].limit = need(c, key);
    c->limits[r].cost = gm_alloc(c->arena, (size_t)(s->M * s->K),
                                 sizeof *c->limits[r].cost);
    const gm_table table = find_table(c, paths, name);
    for (long i = 0; i < s->M * s->K; i++)
        if (s->bytes[i] >= 0)
            c->limits[r].cost[i] = table_cost(c, &table, unit, i);
    claim_limit(c, r, name, key);
}

/* ------------------------------------------------------ objective and bound */

/* den u + sum_r mu_r c_r of candidate k of module m and of all that are fused
   with it; false: one of them may not take it. */
static bool penalised(struct checker *c, long m, int k, __int128 *sum) {
    *sum = 0;
    for (long n = m; n < (c->a->fused ? c->s->M : m + 1); n++) {
        const long i = n * c->s->K + k;
        if (c->leader[n] != m) continue;
        if (!may_take(c, n, k)) return false;
        add_product(c, sum, c->den, integer_score(c, i));
        for (int r = 0; r < c->rows; r++)
            add_product(c, sum, c->limits[r].mu, c->limits[r].cost[i]);
    }
    return true;
}

/* The bound above, rounded up: the objective is an integer. */
static int64_t weak_bound(struct checker *c) {
    __int128 sum = 0;
    for (int r = 0; r < c->rows; r++)
        add_product(c, &sum, -c->limits[r].mu, c->limits[r].limit);
    for (long m = 0; m < c->s->M; m++) {
        __int128 least = 0, value;
        bool any = false;
        for (int k = 0; k < c->s->K && c->leader[m] == m; k++) {
            if (penalised(c, m, k, &value) && (!any || value < least))
                least = value, any = true;
        }
        if (__builtin_add_overflow(sum, least, &sum)) c->beyond = true;
    }
    __int128 below = sum / c->den;
    return narrow(c, "the multipliers' bound",
                  below + (sum > below * c->den));
}

/* The scores as integers, if score_shift makes them fit. */
static int64_t objective_of(struct checker *c) {
    const gm_scores *s = c->s;
    __int128 sum = 0;
    if (c->shift < -1100 || c->shift > 1100)
        gm_bad(c->a->path, "score_shift: expected -1100 to 1100, found %ld",
               (long)c->shift);
    for (long i = 0; i < s->M * s->K; i++)
        if (s->bytes[i] >= 0 &&
            !(fabs(ldexp(s->score[i], (int)c->shift)) < 0x1p60))
            gm_bad(c->a->path, "score_shift: scores overflow at %ld",
                   (long)c->shift);
    for (long m = 0; m < s->M; m++)
        sum += integer_score(c, m * s->K + c->choice[m]);
    return narrow(c, "objective", sum);
}

static void check_bound(struct checker *c) {
    const gm_keys *keys = &c->a->keys;
    gm_check *out = c->out;
    c->shift = need(c, "score_shift");
    const int64_t lambda = c->limits[0].mu = need(c, "multiplier_num");
    c->den = need(c, "multiplier_den");
    const int64_t bound = need(c, "bound");
    bool signs = c->den > 0 && (lambda >= 0 || c->exact);
    for (int r = 1; r < c->rows; r++) signs = signs && c->limits[r].mu >= 0;
    claim(c, signs, "signs of the multipliers", ">= 0",
          signs ? ">= 0" : "wrong");
    if (!signs) return;
    const int64_t objective = objective_of(c), weak = weak_bound(c);
    const int64_t gap = objective - bound;
    out->bound = ldexp((double)weak, -(int)c->shift);
    out->gap = objective - weak;
    claim_int(c, "objective", objective);
    const char *real = gm_keys_get(keys, "objective_real");
    char *text = gm_alloc(c->arena, 32, 1);
    gm_double_text(out->score, text);
    /* both sum in module order: equal; another order may differ by rounding */
    if (real)
        claim(c, fabs(strtod(real, NULL) - out->score) <=
              1e-12 * fabs(out->score), "objective_real", real, text);
    claim_int(c, "lp_bound", weak);
    claim_int(c, "gap", gap);
    static const char order[] = "lp_bound <= bound <= objective";
    claim(c, weak <= bound && gap >= 0, "order", order, weak > bound
          ? "bound is lower" : gap < 0 ? "bound is higher" : order);
    const char *proven = gm_keys_get(keys, "optimal");
    if (proven)
        claim(c, (strcmp(proven, "proven") == 0) == (gap == 0), "optimal",
              proven, gap == 0 ? "gap 0" : "gap > 0");
}

/* Without a certificate: a bound for the assignment's own code bits, lambda by
   bisection (any lambda >= 0 is valid), in floating point. */
static double own_bound(const struct checker *c) {
    const gm_scores *s = c->s;
    const double budget = (double)c->limits[0].limit;
    double low = 0, high = 1, best = -INFINITY;
    bool between = false;
    for (int step = 0; step < 200; step++) {
        const double lambda = between ? (low + high) / 2 : high;
        double sum = -lambda * budget, size = 0;
        for (long m = 0; m < s->M; m++) {
            double least = INFINITY, of_least = 0;
            for (long i = m * s->K; i < (m + 1) * s->K; i++) {
                const double own = (double)c->limits[0].cost[i];
                const double value = s->score[i] + lambda * own;
                if (s->bytes[i] < 0 || value >= least) continue;
                least = value;
                of_least = own;
            }
            sum += least;
            size += of_least;
        }
        best = fmax(best, sum);
        if (size > budget) low = lambda;
        else high = lambda;
        between = between || size <= budget;
        if (!between) high *= 4;
    }
    return best;
}

void gm_check_allocation(gm_arena *arena, const gm_allocation *allocation,
                         const gm_scores *scores, const char *resources,
                         gm_check *out) {
    const gm_keys *keys = &allocation->keys;
    *out = (gm_check){.certified = gm_keys_get(keys, "convention") != NULL};
    struct checker c = {.arena = arena, .a = allocation, .s = scores,
                        .out = out};
    c.choice = gm_alloc(arena, (size_t)scores->M, sizeof *c.choice);
    gm_allocation_match(allocation, scores, c.choice);
    match_rows(&c);
    claim(&c, true, "modules and bytes", "as in the scores",
          "as in the scores");
    check_sizes(&c);
    check_choices(&c);
    if (!out->certified) {
        begin_rows(&c, out->sizes.code_bits);
        out->bound = own_bound(&c);
        return;
    }
    check_budget(&c);
    for (const gm_key *k = keys->key; k < keys->key + keys->count; k++)
        if (strncmp(k->name, "limit.", 6) == 0)
            check_row(&c, k->name + 6, resources);
    check_bound(&c);
}
