/* check.c: verifies an assignment and its certificate against the scores they
   came from.  Shares no code with the solvers; every number here is a sum or
   a minimum that a reader can repeat with a pocket calculator.

   The bound.  For any lambda >= 0 (any sign for "="), mu_r >= 0 and any
   assignment x that meets the limits,
     sum_m u_m,x(m)  >=  sum_m (u + lambda s + sum_r mu_r c_r)_m,x(m)
                         - lambda B - sum_r mu_r limit_r
                     >=  sum_m min_k (u + lambda s + sum_r mu_r c_r)_mk
                         - lambda B - sum_r mu_r limit_r,
   because what is subtracted is at least what was added.  u = round(score
   2^score_shift), sizes s in the budget's convention, over one denominator.

   Reads the tables of further resources, nothing else.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What is checked, and how far we are. */
struct checker {
    gm_arena *arena;
    const gm_allocation *a;
    const gm_scores *s;
    int *choice;                    /* [M] */
    gm_check *out;
    bool bytes, ebits, exact;       /* convention (neither: bits), relation  */
    int64_t budget, num, den;       /* budget without the overhead           */
    int64_t shift, bound;
    bool beyond;                    /* a sum was beyond 128 bits             */
    int rows;
    struct { const char *name; int64_t *cost, limit, mu; } row[GM_MAX_ROWS];
};

/* ------------------------------------------------------------------- claims */

static void claim(struct checker *c, const char *name, const char *stated,
                       const char *found, bool holds) {
    gm_check *o = c->out;
    if (o->count == o->room) {
        long room = o->room ? 2 * o->room : 32;
        gm_claim *more = gm_alloc(c->arena, (size_t)room, sizeof *more);
        for (long i = 0; i < o->count; i++) more[i] = o->claim[i];
        o->claim = more, o->room = room;
    }
    gm_claim *new = &o->claim[o->count++];
    *new = (gm_claim){.claim = gm_format(c->arena, "%s", name),
                      .stated = gm_format(c->arena, "%s", stated),
                      .found = gm_format(c->arena, "%s", found),
                      .holds = holds};
    o->failed += !holds;
}

/* The file's statement under `key` against our own count, if it makes one. */
static void claim_int(struct checker *c, const char *key, int64_t found) {
    const char *stated = gm_keys_get(&c->a->keys, key);
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, found);
    if (!stated) return;
    claim(c, key, stated, text, strcmp(stated, text) == 0);
}

static void claim_text(struct checker *c, const char *key,
                            const char *found) {
    const char *stated = gm_keys_get(&c->a->keys, key);
    if (!stated || !found) return;
    claim(c, key, stated, found, strcmp(stated, found) == 0);
}

/* An integer that the certificate must have. */
static void need(struct checker *c, const char *key, int64_t *out) {
    const char *text = gm_keys_get(&c->a->keys, key);
    char *end;
    *out = text ? strtoll(text, &end, 10) : 0;
    if (text && end != text && !*end && *out > INT64_MIN / 2 &&
        *out < INT64_MAX / 2)
        return;
    gm_fail(GM_EINPUT, "%s: %s: expected a whole number, found "
                   "\"%s\"", c->a->path, key, text ? text : "");
}

/* *sum += a b; a product of two 64-bit numbers fits, a sum may not. */
static void add_product(struct checker *c, __int128 *sum, int64_t a,
                        int64_t b) {
    if (__builtin_add_overflow(*sum, (__int128)a * b, sum)) c->beyond = true;
}

/* A sum as 64 bits; the file's numbers alone can make it larger. */
static void narrow(struct checker *c, const char *what, __int128 sum,
                        int64_t *out) {
    *out = (int64_t)sum;
    if (!c->beyond && sum < INT64_MAX / 2 && sum > INT64_MIN / 2) return;
    gm_fail(GM_EINPUT, "%s: %s: sums to 2^62 or more",
                   c->a->path, what);
}

/* -------------------------------------------------------- sizes and scores */

static int64_t size_of(const struct checker *c, long i) {
    const gm_scores *s = c->s;
    if (c->bytes) return s->bytes[i];
    return c->ebits ? 8 * s->bytes[i]
                    : s->weights[i / s->K] * s->bits[i % s->K];
}

static int64_t integer_score(const struct checker *c, long i) {
    return llrint(ldexp(c->s->score[i], (int)c->shift));
}

static void check_sizes(struct checker *c) {
    const gm_scores *s = c->s;
    gm_sizes z = {0};
    for (long m = 0; m < s->M; m++) {
        int k = c->choice[m];
        z.code_bits += s->weights[m] * s->bits[k];
        z.file_bytes += s->bytes[m * s->K + k];
        c->out->score += s->score[m * s->K + k];
    }
    z.effective_bits = 8 * z.file_bytes;
    z.file_bytes += s->overhead;
    c->out->sizes = z;
    claim_int(c, "modules", s->M);
    claim_int(c, "weights", s->N);
    claim_int(c, "overhead_bytes", s->overhead);
    claim_int(c, "code_bits", z.code_bits);
    claim_int(c, "effective_bits", z.effective_bits);
    claim_int(c, "file_bytes", z.file_bytes);
    static const char *const same[] = {"model_hash", "calibration_hash",
                                       "recipe"};
    for (int i = 0; i < 3; i++)
        claim_text(c, same[i], gm_keys_get(&s->keys, same[i]));
}

/* floor(budget as asked), from its text alone: "2.5" bits per weight, "50M"
   bytes. */
static void asked_budget(struct checker *c, const char *text,
                              int64_t *out) {
    static const char suffix[] = "KMG";
    int64_t unit = c->bytes ? 1 : c->s->N;
    char digits[64];
    size_t n = strspn(text, "0123456789.");
    snprintf(digits, sizeof digits, "%.*s", n < 63 ? (int)n : 63, text);
    const char *at = text[n] ? strchr(suffix, text[n]) : NULL;
    bool binary = at && text[n + 1] == 'i';
    for (int power = 0; c->bytes && at && power <= at - suffix; power++)
        unit *= binary ? 1024 : 1000;
    *out = gm_parse_scaled("budget_asked", digits, unit);
}

static void check_budget(struct checker *c) {
    const gm_keys *keys = &c->a->keys;
    const char *convention = gm_keys_get(keys, "convention");
    const char *relation = gm_keys_get(keys, "relation");
    const char *asked = gm_keys_get(keys, "budget_asked");
    int64_t limit, size = 0;
    c->bytes = strcmp(convention, "bytes") == 0;
    c->ebits = strcmp(convention, "ebits") == 0;
    c->exact = relation && strcmp(relation, "=") == 0;
    if (!c->bytes && !c->ebits && strcmp(convention, "bits") != 0)
        gm_fail(GM_EINPUT, "%s: convention: expected bits, "
                       "ebits or bytes, found \"%s\"", c->a->path, convention);
    need(c, "budget", &limit);
    if (asked) {
        int64_t found;
        asked_budget(c, asked, &found);
        claim_int(c, "budget", found);
    }
    c->budget = limit - (c->bytes ? c->s->overhead : 0);
    for (long m = 0; m < c->s->M; m++)
        size += size_of(c, m * c->s->K + c->choice[m]);
    char stated[64], found[64];
    snprintf(stated, sizeof stated, "size %s %" PRId64, c->exact ? "=" : "<=",
             c->budget);
    snprintf(found, sizeof found, "%" PRId64, size);
    claim(c, "within the budget", stated, found,
                       c->exact ? size == c->budget : size <= c->budget);
    claim_int(c, "size", size);
    claim_int(c, "slack", c->budget - size);
}

/* -------------------------------------------------------- other constraints */

/* Whether "2,3,4" has b. */
static bool listed(const char *list, int b) {
    while (*list) {
        char *end;
        if (strtol(list, &end, 10) == b) return true;
        if (end == list) return false;
        list = *end == ',' ? end + 1 : end;
    }
    return false;
}

/* Row of the allocation that module m of the scores is in: names are unique
   (gm_allocation_match has seen to it). */
static long row_of(const struct checker *c, long m) {
    long i = 0;
    if (m < c->a->M && strcmp(c->a->name[m], c->s->name[m]) == 0) return m;
    while (strcmp(c->a->name[i], c->s->name[m]) != 0) i++;
    return i;
}

static bool may_take(const struct checker *c, long m, int k) {
    if (c->s->bytes[m * c->s->K + k] < 0) return false;
    return !c->a->allowed ||
           listed(c->a->allowed[row_of(c, m)], c->s->bits[k]);
}

/* The first module that m is fused with; m itself when with none. */
static long leader(const struct checker *c, long m) {
    if (!c->a->fused) return m;
    const char *mark = c->a->fused[row_of(c, m)];
    if (strcmp(mark, "-") == 0) return m;
    for (long n = 0; n < m; n++)
        if (strcmp(c->a->fused[row_of(c, n)], mark) == 0) return n;
    return m;
}

static void check_choices(struct checker *c) {
    long bad = 0, apart = 0;
    char text[32];
    for (long m = 0; m < c->s->M; m++) {
        bad += !may_take(c, m, c->choice[m]);
        apart += c->choice[m] != c->choice[leader(c, m)];
    }
    snprintf(text, sizeof text, "%ld outside", bad);
    if (c->a->allowed)
        claim(c, "allowed bits", "0 outside", text, bad == 0);
    snprintf(text, sizeof text, "%ld apart", apart);
    if (c->a->fused)
        claim(c, "fused modules", "0 apart", text, apart == 0);
}

/* "NAME=BITS" is what the assignment does. */
static bool taken(const struct checker *c, const char *text, size_t length) {
    for (long m = 0; m < c->s->M; m++) {
        size_t n = strlen(c->s->name[m]);
        if (n < length && memcmp(c->s->name[m], text, n) == 0 &&
            text[n] == '=' &&
            strtol(text + n + 1, NULL, 10) == c->s->bits[c->choice[m]])
            return true;
    }
    return false;
}

static void check_pairs(struct checker *c) {
    const char *at = gm_keys_get(&c->a->keys, "forbid");
    if (!at) return;
    long broken = 0;
    char text[32];
    while (*at) {
        size_t n = strcspn(at, "+"), rest = at[n] ? n + 1 : n;
        size_t end = strcspn(at, ",");
        if (rest < end)
            broken += taken(c, at, n) && taken(c, at + rest, end - rest);
        at += end + (at[end] == ',');
    }
    snprintf(text, sizeof text, "%ld taken", broken);
    claim(c, "forbidden pairs", "0 taken", text, broken == 0);
}

/* Decimal costs of one resource table times 10^places. */
static void table_costs(struct checker *c, const gm_table *t,
                             int64_t places, int64_t *cost) {
    long name = gm_table_column(t, "module");
    int64_t unit = 1;
    for (int64_t i = 0; i < places && i < 9; i++) unit *= 10;
    for (long i = 0; i < c->s->M * c->s->K; i++) {
        long m = i / c->s->K, r = 0;
        char head[32];
        if (c->s->bytes[i] < 0) continue;
        snprintf(head, sizeof head, "%d", c->s->bits[i % c->s->K]);
        long column = gm_table_column(t, head);
        snprintf(head, sizeof head, "%d.cost", c->s->bits[i % c->s->K]);
        if (column < 0) column = gm_table_column(t, head);
        while (name >= 0 && r < t->rows &&
               strcmp(t->cell[r * t->columns + name], c->s->name[m]) != 0)
            r++;
        if (name < 0 || column < 0 || r == t->rows)
            gm_fail(GM_EINPUT, "%s: no cost of module %s at %d "
                           "bits", t->path, c->s->name[m],
                           c->s->bits[i % c->s->K]);
        cost[i] = gm_parse_scaled(t->path, t->cell[r * t->columns + column],
                                  unit);
    }
}

/* Opens the table of resource `name` among "a.tsv,b.tsv". */
static void find_table(struct checker *c, const char *paths,
                            const char *name, gm_table *out) {
    for (const char *at = paths; at && *at;) {
        size_t n = strcspn(at, ",");
        char *path = gm_format(c->arena, "%.*s", (int)n, at);
        gm_table_read(c->arena, path, out);
        const char *key = gm_table_key(out, "resource");
        if (!key) key = gm_base_name(path);
        if (strcmp(key, name) == 0) return;
        at += n + (at[n] == ',');
    }
    gm_fail(GM_EUSAGE, "%s limits the resource \"%s\": give its "
                   "table with --resource", c->a->path, name);
}

static void check_row(struct checker *c, const char *name,
                           const char *paths) {
    char key[256];
    int r = c->rows, bits = 0, length = 0;
    int64_t places, sum;
    __int128 wide = 0;
    size_t cells = (size_t)(c->s->M * c->s->K);
    if (c->rows == GM_MAX_ROWS)
        gm_fail(GM_EINPUT, "%s: more than %d limits",
                       c->a->path, GM_MAX_ROWS);
    int64_t *cost = c->row[r].cost = gm_alloc(c->arena, cells, sizeof *cost);
    c->row[c->rows++].name = name;
    snprintf(key, sizeof key, "places.%s", name);
    need(c, key, &places);
    snprintf(key, sizeof key, "multiplier_num.%s", name);
    need(c, key, &c->row[r].mu);
    snprintf(key, sizeof key, "limit.%s", name);
    need(c, key, &c->row[r].limit);
    /* NOLINTNEXTLINE(cert-err34-c): two digits */
    if (sscanf(name, "modules_at_%2d_bits%n", &bits, &length) == 1 &&
        length == (int)strlen(name)) {
        for (size_t i = 0; i < cells; i++)
            cost[i] = c->s->bits[i % (size_t)c->s->K] == bits;
    } else {
        gm_table table;
        find_table(c, paths, name, &table);
        table_costs(c, &table, places, cost);
    }
    for (long m = 0; m < c->s->M; m++)
        wide += cost[m * c->s->K + c->choice[m]];
    narrow(c, name, wide, &sum);
    char stated[64], found[32];
    snprintf(stated, sizeof stated, "<= %" PRId64, c->row[r].limit);
    snprintf(found, sizeof found, "%" PRId64, sum);
    claim(c, key, stated, found, sum <= c->row[r].limit);
}

static void check_rows(struct checker *c, const char *paths) {
    const gm_keys *keys = &c->a->keys;
    for (long i = 0; i < keys->count; i++)
        if (strncmp(keys->key[i], "limit.", 6) == 0)
            check_row(c, keys->key[i] + 6, paths);
}

/* ------------------------------------------------------ objective and bound */

/* *sum += den (u + lambda s) + sum_r mu_r c_r of candidate i. */
static void add_penalised(struct checker *c, long i, __int128 *sum) {
    add_product(c, sum, c->den, integer_score(c, i));
    add_product(c, sum, c->num, size_of(c, i));
    for (int r = 0; r < c->rows; r++)
        add_product(c, sum, c->row[r].mu, c->row[r].cost[i]);
}

/* The bound above, rounded up: the objective is an integer. */
static void weak_bound(struct checker *c) {
    const gm_scores *s = c->s;
    __int128 sum = -(__int128)c->num * c->budget;
    for (int r = 0; r < c->rows; r++)
        add_product(c, &sum, -c->row[r].mu, c->row[r].limit);
    for (long m = 0; m < s->M; m++) {
        if (leader(c, m) != m) continue;
        __int128 least = 0;
        bool any = false;
        for (int k = 0; k < s->K; k++) {
            __int128 value = 0;
            bool all = true;
            for (long n = m; all && n < (c->a->fused ? s->M : m + 1); n++) {
                if (n != m && leader(c, n) != m) continue;
                all = may_take(c, n, k);
                if (all) add_penalised(c, n * s->K + k, &value);
            }
            if (all && (!any || value < least)) least = value, any = true;
        }
        if (__builtin_add_overflow(sum, least, &sum)) c->beyond = true;
    }
    __int128 below = sum / c->den;
    narrow(c, "the multipliers' bound",
                  below + (sum > below * c->den), &c->bound);
}

static void check_real(struct checker *c) {
    const char *stated = gm_keys_get(&c->a->keys, "objective_real");
    char found[32];
    gm_double_text(c->out->score, found);
    if (!stated) return;
    /* both sum in module order: equal; another order may differ by rounding */
    double difference = fabs(strtod(stated, NULL) - c->out->score);
    claim(c, "objective_real", stated, found,
                 difference <= 1e-12 * fabs(c->out->score));
}

static void check_bound(struct checker *c) {
    int64_t objective, bound, gap;
    __int128 wide = 0;
    need(c, "score_shift", &c->shift);
    need(c, "multiplier_num", &c->num);
    need(c, "multiplier_den", &c->den);
    need(c, "bound", &bound);
    bool signs = c->den > 0 && (c->num >= 0 || c->exact);
    for (int r = 0; r < c->rows; r++) signs = signs && c->row[r].mu >= 0;
    claim(c, "signs of the multipliers", ">= 0",
                   signs ? ">= 0" : "wrong", signs);
    if (!signs) return;
    if (c->shift < -1100 || c->shift > 1100)
        gm_fail(GM_EINPUT, "%s: score_shift: expected -1100 to "
                       "1100, found %" PRId64, c->a->path, c->shift);
    for (long i = 0; i < c->s->M * c->s->K; i++)
        if (c->s->bytes[i] >= 0 &&
            !(fabs(ldexp(c->s->score[i], (int)c->shift)) < 0x1p60))
            gm_fail(GM_EINPUT, "%s: score_shift: scores overflow"
                           " at %" PRId64, c->a->path, c->shift);
    for (long m = 0; m < c->s->M; m++)
        wide += integer_score(c, m * c->s->K + c->choice[m]);
    narrow(c, "objective", wide, &objective);
    weak_bound(c);
    c->out->bound = ldexp((double)c->bound, -(int)c->shift);
    c->out->gap = objective - c->bound;
    claim_int(c, "objective", objective);
    check_real(c);
    claim_int(c, "lp_bound", c->bound);
    claim_int(c, "gap", objective - bound);
    char stated[48], found[64];
    gap = objective - bound;
    snprintf(stated, sizeof stated, "lp_bound <= bound <= objective");
    snprintf(found, sizeof found, "%s", c->bound > bound ? "bound is lower" :
             gap < 0 ? "bound is higher" : stated);
    claim(c, "order", stated, found,
                       c->bound <= bound && gap >= 0);
    const char *proven = gm_keys_get(&c->a->keys, "optimal");
    if (proven)
        claim(c, "optimal", proven, gap == 0 ? "gap 0" : "gap > 0",
                       (strcmp(proven, "proven") == 0) == (gap == 0));
}

/* Without a certificate: a bound for the assignment's own code bits, lambda by
   bisection (any lambda >= 0 is valid), in floating point. */
static void own_bound(struct checker *c) {
    const gm_scores *s = c->s;
    double low = 0, high = 1, best = -INFINITY;
    double budget = (double)c->out->sizes.code_bits;
    for (int step = 0; step < 200; step++) {
        double lambda = step < 100 ? high : (low + high) / 2;
        double sum = -lambda * budget, size = 0;
        for (long m = 0; m < s->M; m++) {
            long at = -1;
            double least = INFINITY;
            for (long i = m * s->K; i < (m + 1) * s->K; i++) {
                double value = s->score[i] + lambda * (double)size_of(c, i);
                if (s->bytes[i] >= 0 && value < least) least = value, at = i;
            }
            sum += least;
            size += (double)size_of(c, at);
        }
        best = fmax(best, sum);
        if (step < 100 && size > budget) low = high, high *= 4;
        else if (step < 100) step = 99;
        else if (size > budget) low = lambda;
        else high = lambda;
    }
    c->out->bound = best;
}

void gm_check_allocation(gm_arena *arena, const gm_allocation *allocation,
                              const gm_scores *scores, const char *resources,
                              gm_check *out) {
    *out = (gm_check){0};
    struct checker c = {.arena = arena, .a = allocation, .s = scores,
                        .out = out};
    c.choice = gm_alloc(arena, (size_t)scores->M, sizeof *c.choice);
    gm_allocation_match(allocation, scores, c.choice);
    claim(&c, "modules and bytes", "as in the scores",
                       "as in the scores", true);
    check_sizes(&c);
    check_choices(&c);
    out->certified = gm_keys_get(&allocation->keys, "convention") != NULL;
    if (!out->certified) own_bound(&c);
    if (out->certified) check_budget(&c);
    if (out->certified) check_pairs(&c);
    if (out->certified) check_rows(&c, resources);
    if (out->certified) check_bound(&c);
}
