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

   What rounding hides.  A score above 2^b / 2^score_shift counts as that much
   (b = 60 less the bits of the number of modules, at least 44), which lowers
   the bound only.  With d_mk = score_mk - u_mk / 2^score_shift the answer x
   lies above any other assignment by at most
     2^-score_shift gap + sum_m (d_m,x(m) - min_k d_mk).
   That is proof enough where the sum is at most half of the least difference
   between two scores of one module.

   Every key is compared with what follows from the scores; what nobody can
   compute again (which solver ran) is taken for the file's word, and said so.
   Reads the tables of further resources, nothing else.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <math.h>
#include <string.h>

struct checker {
    gm_arena *arena;
    const gm_allocation *a;
    const gm_scores *s;
    gm_check *out;
    int *choice;                    /* [M] */
    long *row, *leader;             /* [M] in the file; one of its group */
    const char *by_row;             /* sum of scores in order of the rows */
    bool *may;                      /* [M, K] a candidate, and allowed */
    gm_convention in;               /* of the budget; of none: bits */
    bool exact;                     /* relation */
    int64_t den, shift, *u;         /* u: [M, K], what score_shift makes */
    bool beyond;                    /* a sum was beyond 128 bits */
    const char *factors;            /* multiplier_num, multiplier_den, ... */
    int rows;
    struct { int64_t *cost, limit, mu; } limits[1 + GM_MAX_ROWS];
};

/* ------------------------------------------------------------------- claims */

static void claim(struct checker *c, bool holds, const char *name,
                  const char *stated, const char *found) {
    c->out->claim[c->out->count++] = (gm_claim){name, stated, found, holds, 0};
    c->out->failed += !holds;
}

/* What nobody can compute again; `holds`: it fits the rest. */
static void claim_word(struct checker *c, bool holds, const char *name,
                       const char *stated, const char *found) {
    claim(c, holds, name, stated, found);
    c->out->claim[c->out->count - 1].word = holds;
}

static const char *get(const struct checker *c, const char *key) {
    return gm_keys_get(&c->a->keys, key);
}

/* What the file states under the first word of `name`, if it does, against what
   is so. */
static void claim_text(struct checker *c, const char *name, const char *found) {
    const char *stated = get(c, gm_format(c->arena, "%.*s",
                                          (int)strcspn(name, " "), name));
    if (stated) claim(c, strcmp(stated, found) == 0, name, stated, found);
}

static void claim_int(struct checker *c, const char *name, int64_t found) {
    claim_text(c, name, gm_format(c->arena, "%ld", (long)found));
}

static const char *real_text(const struct checker *c, double x) {
    return gm_format(c->arena, "%s", gm_double_text(x).text);
}

/* An integer that the certificate must have, and nothing behind it. */
static int64_t need(struct checker *c, const char *key) {
    const char *text = get(c, key);
    long x;
    if (!text || !gm_is_long(text, INT64_MIN / 2 + 1, INT64_MAX / 2 - 1, &x) ||
        strcmp(text, gm_format(c->arena, "%ld", x)) != 0)
        gm_bad(c->a->path, "%s: expected a whole number, found \"%s\"", key,
               text ? text : "");
    return x;
}

_Noreturn static void row_error(const struct checker *c, long m,
                                const char *column, const char *expected,
                                const char *found) {
    const long i = c->row[m];
    gm_bad(c->a->path, "line %ld: %s: column %s: expected %s, found \"%s\"",
           c->a->line ? c->a->line[i] : i + 1, c->s->name[m], column, expected,
           found);
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

/* -------------------------------------------------------------------- keys */

static const gm_known_key *known(const char *key) {
    for (const gm_known_key *k = gm_alloc_keys; k->name; k++) {
        const size_t n = strlen(k->name);
        if (strncmp(key, k->name, n) == 0 &&
            (k->kind == GM_KEY_ROW ? key[n] != 0 : key[n] == 0))
            return k;
    }
    return NULL;
}

/* One of "this|that". */
static bool is_word(const char *words, const char *text) {
    const size_t n = strlen(text);
    size_t length = strcspn(words, "|");
    while (words[length] && (length != n || strncmp(words, text, n) != 0)) {
        words += length + 1;
        length = strcspn(words, "|");
    }
    return length == n && strncmp(words, text, n) == 0;
}

/* Whether there is a certificate: it has every key of the list and no other,
   and the file no other column. */
static bool check_keys(const struct checker *c) {
    const gm_keys *keys = &c->a->keys;
    bool certified = false;
    for (size_t i = 0; i < keys->count; i++) {
        const gm_known_key *of = known(keys->key[i].name);
        certified = certified || (of && of->kind >= GM_KEY_PROOF);
    }
    for (size_t i = 0; certified && i < keys->count; i++) {
        const gm_key *k = &keys->key[i];
        const gm_known_key *of = known(k->name);
        if (!of) gm_bad(c->a->path, "%s: no key of a certificate", k->name);
        for (const gm_known_key *o = gm_alloc_keys; o->name; o++)
            if (of->kind == GM_KEY_ROW && o->kind == GM_KEY_ROW &&
                !get(c, gm_format(c->arena, "%s%s", o->name,
                                  k->name + strlen(of->name))))
                gm_bad(c->a->path, "%s: expected %s%s beside it, found none",
                       k->name, o->name, k->name + strlen(of->name));
        if (of->words && !is_word(of->words, k->value))
            gm_bad(c->a->path, "%s: expected %s, found \"%s\"", k->name,
                   of->words, k->value);
    }
    for (const gm_known_key *k = gm_alloc_keys; certified && k->name; k++)
        if ((k->kind == GM_KEY_FILE || k->kind == GM_KEY_PROOF) &&
            !get(c, k->name))
            gm_bad(c->a->path, "%s: the certificate lacks this key", k->name);
    if (certified && c->a->other)
        gm_bad(c->a->path, "column %s: none of an allocation with a "
               "certificate", c->a->other);
    return certified;
}

/* What the file says of its origin is what the scores say. */
static void check_origin(struct checker *c) {
    for (const gm_known_key *k = gm_alloc_keys; k->name; k++) {
        const char *stated = get(c, k->name);
        const char *found = gm_keys_get(&c->s->keys, k->name);
        if (k->kind != GM_KEY_SCORES || (!stated && !found)) continue;
        if (!c->out->certified && (!stated || !found ||
                                   strcmp(k->name, "scores_at") == 0))
            continue;                   /* of the budget, which is not stated */
        /* from outside both files: nobody can compute it again */
        (strcmp(k->name, "overhead_given") == 0 ? claim_word : claim)(
            c, stated && found && strcmp(stated, found) == 0, k->name,
            stated ? stated : "none", found ? found : "none");
    }
    /* this program's, or that of the scores */
    const char *stated = get(c, "version");
    const char *version = gm_keys_get(&c->s->keys, "version");
    if (!version || !stated || strcmp(stated, version) != 0)
        version = GM_VERSION;
    if (c->out->certified) claim_text(c, "version", version);
}

/* -------------------------------------------------------- sizes and scores */

/* Row 0 but for its multiplier. */
static void begin_rows(struct checker *c, int64_t budget) {
    const gm_scores *s = c->s;
    int64_t *size = gm_alloc(c->arena, (size_t)(s->M * s->K), sizeof *size);
    for (long i = 0; i < s->M * s->K; i++)
        size[i] = c->in == GM_BYTES ? s->bytes[i]
                : c->in == GM_EBITS ? 8 * s->bytes[i]
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

static void check_sizes(struct checker *c) {
    const gm_scores *s = c->s;
    gm_sizes *z = &c->out->sizes;
    double sum = 0, *score = gm_alloc(c->arena, (size_t)s->M, sizeof *score);
    for (long m = 0; m < s->M; m++) {
        const int k = c->choice[m];
        const int64_t bytes = s->bytes[m * s->K + k];
        const int64_t stated = c->a->bytes[c->row[m]];
        if (stated != bytes && (stated >= 0 || c->out->certified))
            row_error(c, m, "bytes", gm_format(c->arena, "%ld", (long)bytes),
                      stated < 0 ? "-" :
                      gm_format(c->arena, "%ld", (long)stated));
        z->code_bits += s->weights[m] * s->bits[k];
        z->file_bytes += bytes;
        c->out->score += s->score[m * s->K + k];
        score[c->row[m]] = s->score[m * s->K + k];
    }
    for (long i = 0; i < s->M; i++) sum += score[i];
    c->by_row = real_text(c, sum);
    z->effective_bits = 8 * z->file_bytes;
    z->file_bytes += s->overhead;
    claim(c, true, "modules and bytes", "as in the scores",
          "as in the scores");
    claim_int(c, "modules", s->M);
    claim_int(c, "weights", s->N);
    claim_int(c, "overhead_bytes", s->overhead);
    claim_int(c, "code_bits", z->code_bits);
    claim_int(c, "effective_bits", z->effective_bits);
    claim_int(c, "file_bytes", z->file_bytes);
    claim_text(c, "average_code_bits",
               real_text(c, (double)z->code_bits / (double)s->N));
    claim_text(c, "average_effective_bits",
               real_text(c, (double)z->effective_bits / (double)s->N));
}

static void check_budget(struct checker *c) {
    static const char *const counted[] = {"code bits", "effective bits",
                                          "file bytes"};
    int64_t budget;
    c->exact = strcmp(get(c, "relation"), "=") == 0;
    if (gm_is_budget(get(c, "budget_asked"), c->in, c->s->N, &budget))
        claim_int(c, "budget from budget_asked", budget);
    else
        claim_text(c, "budget from budget_asked", "no number");
    budget = need(c, "budget");
    c->out->among = gm_format(c->arena, "%s %ld %s%s", c->exact ? "exactly" :
                              "at most", (long)budget, counted[c->in],
                              c->out->among);
    if (c->in == GM_BYTES) budget -= c->s->overhead;
    begin_rows(c, budget);
    const int64_t size = claim_limit(c, 0, "size", "relation");
    claim_int(c, "size in convention", size);
    claim_int(c, "slack = budget - size", budget - size);
}

/* ------------------------------------------------------ other constraints */

/* Row of the allocation of each module (gm_allocation_match has seen to it that
   names are unique), and one module that it is fused with, or itself. */
static void match_rows(struct checker *c) {
    const gm_allocation *a = c->a;
    const long M = c->s->M;
    const gm_named *rows = gm_names_sort(c->arena, NULL, a->name, M);
    c->row = gm_alloc(c->arena, (size_t)M, sizeof *c->row);
    c->leader = gm_alloc(c->arena, (size_t)M, sizeof *c->leader);
    const char **mark = gm_alloc(c->arena, (size_t)M, sizeof *mark);
    for (long m = 0; m < M; m++) {
        c->row[m] = gm_names_find(rows, M, c->s->name[m]);
        c->leader[m] = m;
        mark[m] = a->fused ? a->fused[c->row[m]] : "-";
    }
    const gm_named *marks = gm_names_sort(c->arena, NULL, mark, M);
    for (long i = 1; i < M; i++)
        if (strcmp(marks[i].name, "-") != 0 && strcmp(marks[i].name,
                                                      marks[i - 1].name) == 0)
            c->leader[marks[i].at] = c->leader[marks[i - 1].at];
}

/* What module m may take: its candidates; those listed as "2,3,4" if the file
   lists them. */
static void read_allowed(struct checker *c, long m) {
    const gm_scores *s = c->s;
    const char *text = c->a->allowed ? c->a->allowed[c->row[m]] : NULL;
    const char *at = text;
    for (int k = 0; k < s->K; k++) {
        bool *may = &c->may[m * s->K + k];
        const size_t n = strlen(s->label[k]);
        *may = s->bytes[m * s->K + k] >= 0;
        if (!text) continue;
        *may = *may && strncmp(at, s->label[k], n) == 0 &&
               (at[n] == ',' ? at[n + 1] != 0 : at[n] == 0);
        if (*may) at += n + (at[n] == ',');
    }
    if (text && (*at || !*text))
        row_error(c, m, "allowed", "bits of its candidates such as 2,3,4",
                  text);
}

static void claim_none(struct checker *c, const char *name, long count,
                       const char *where) {
    claim(c, count == 0, name, gm_format(c->arena, "0 %s", where),
          gm_format(c->arena, "%ld %s", count, where));
}

/* Also says what the answer is one of. */
static void check_choices(struct checker *c) {
    const long M = c->s->M, K = c->s->K;
    long bad = 0, apart = 0, restricted = 0, fused = 0;
    const char **among = &c->out->among;
    c->may = gm_alloc(c->arena, (size_t)(M * K), sizeof *c->may);
    for (long m = 0; m < M; m++) {
        bool less = false;
        read_allowed(c, m);
        for (long i = m * K; i < (m + 1) * K; i++)
            less = less || c->may[i] != (c->s->bytes[i] >= 0);
        restricted += less;
        fused += c->leader[m] != m;
        bad += !c->may[m * K + c->choice[m]];
        apart += c->choice[m] != c->choice[c->leader[m]];
    }
    if (c->a->allowed) claim_none(c, "allowed bits", bad, "outside");
    if (c->a->fused) claim_none(c, "fused modules", apart, "apart");
    *among = "";
    if (restricted)
        *among = gm_format(c->arena, ", %ld of %ld modules restricted by the "
                           "allowed column", restricted, M);
    if (fused)
        *among = gm_format(c->arena, "%s, %ld of %ld bound to others by the "
                           "fused column", *among, fused, M);
}

/* The table of resource `name` among "a.tsv,b.tsv". */
static gm_table find_table(struct checker *c, const char *paths,
                           const char *name) {
    char *rest = gm_format(c->arena, "%s", paths ? paths : "");
    while (rest && *rest) {
        const char *path = strsep(&rest, ",");
        gm_table table;
        gm_table_read(c->arena, path, &table);
        const char *key = gm_table_key(&table, "resource");
        if (strcmp(key ? key : gm_base_name(path), name) == 0) return table;
    }
    gm_fail(GM_EUSAGE, "%s limits the resource \"%s\": give its table with "
            "--resource", c->a->path, name);
}

/* Digits after the point that are not zeros at the end. */
static int decimals(const char *text) {
    const char *point = strchr(text, '.');
    size_t n = point ? strlen(point + 1) : 0;
    while (n && point[n] == '0') n--;
    return (int)n;
}

/* Costs of all candidates times `unit` into limits[r]; the most decimals. */
static int read_costs(struct checker *c, const gm_table *t, int64_t unit,
                      int r) {
    const gm_scores *s = c->s;
    const char **name = gm_table_modules(c->arena, t);
    long column[GM_MAX_CANDIDATES];
    int most = 0;
    const gm_named *rows = gm_names_sort(c->arena, NULL, name, t->rows);
    for (int k = 0; k < s->K; k++) {
        column[k] = gm_table_column(t, gm_format(c->arena, "%s.cost",
                                                 s->label[k]));
        if (column[k] < 0) column[k] = gm_table_column(t, s->label[k]);
    }
    for (long i = 0; i < s->M * s->K; i++) {
        const char *module = s->name[i / s->K];
        const long at = gm_names_find(rows, t->rows, module);
        if (s->bytes[i] < 0) continue;
        if (at < 0 || column[i % s->K] < 0)
            gm_bad(t->path, "no cost of module %s at %s", module,
                   gm_called(s->bits[i % s->K], s->label[i % s->K]).text);
        const char *text = t->cell[at * t->columns + column[i % s->K]];
        c->limits[r].cost[i] = gm_parse_scaled(t->path, text, unit);
        if (decimals(text) > most) most = decimals(text);
    }
    return most;
}

static void check_row(struct checker *c, const char *name, const char *paths) {
    const size_t cells = (size_t)(c->s->M * c->s->K);
    const char *places = gm_format(c->arena, "places.%s", name);
    const char *limit = gm_format(c->arena, "limit.%s", name);
    const char *mu = gm_format(c->arena, "multiplier_num.%s", name);
    const int r = c->rows++;
    int64_t unit = 1;
    if (r > GM_MAX_ROWS)
        gm_bad(c->a->path, "more than %d limits", GM_MAX_ROWS);
    const int64_t digits = need(c, places);
    if (digits < 0 || digits > 9)
        gm_bad(c->a->path, "%s: expected 0 to 9, found %ld", places,
               (long)digits);
    for (int64_t p = 0; p < digits; p++) unit *= 10;
    c->limits[r].mu = need(c, mu);
    c->factors = gm_format(c->arena, "%s, %s, %s", c->factors, mu, limit);
    c->limits[r].limit = need(c, limit);
    c->limits[r].cost = gm_alloc(c->arena, cells, sizeof *c->limits[r].cost);
    const gm_table table = find_table(c, paths, name);
    const int most = read_costs(c, &table, unit, r);
    claim(c, most <= digits, places, gm_format(c->arena, "%d", (int)digits),
          gm_format(c->arena, "costs of %d decimals", most));
    claim_limit(c, r, name, gm_format(c->arena, "%s, %s", limit, places));
    c->out->among = gm_format(c->arena, "%s, resource %s <= %.*Lf",
        c->out->among, name,
        (int)digits, (long double)c->limits[r].limit / (long double)unit);
}

/* ------------------------------------------------------ objective and bound */

/* The bound above, rounded up: the objective is an integer.  at[m K + k]: den u
   + sum_r mu_r c_r of candidate k of all that module m leads. */
static int64_t weak_bound(struct checker *c) {
    const long M = c->s->M, K = c->s->K;
    const size_t cells = (size_t)(M * K);
    __int128 sum = 0, *at = gm_alloc(c->arena, cells, sizeof *at);
    bool *barred = gm_alloc(c->arena, cells, sizeof *barred);
    for (int r = 0; r < c->rows; r++)
        add_product(c, &sum, -c->limits[r].mu, c->limits[r].limit);
    for (long i = 0; i < M * K; i++) {
        const long to = c->leader[i / K] * K + i % K;
        barred[to] = barred[to] || !c->may[i];
        if (!c->may[i]) continue;
        add_product(c, &at[to], c->den, c->u[i]);
        for (int r = 0; r < c->rows; r++)
            add_product(c, &at[to], c->limits[r].mu, c->limits[r].cost[i]);
    }
    for (long m = 0; m < M; m++) {
        const __int128 *least = NULL;
        for (long i = m * K; i < (m + 1) * K && c->leader[m] == m; i++)
            if (!barred[i] && (!least || at[i] < *least)) least = &at[i];
        if (least && __builtin_add_overflow(sum, *least, &sum))
            c->beyond = true;
    }
    __int128 below = sum / c->den;
    return narrow(c, "the multipliers' bound",
                  below + (sum > below * c->den));
}

/* The scores as integers, if score_shift makes them fit; the choice's sum. */
static int64_t objective_of(struct checker *c) {
    const gm_scores *s = c->s;
    const size_t cells = (size_t)(s->M * s->K);
    __int128 sum = 0;
    int bits;
    frexp((double)s->M, &bits);
    const double most = ldexp(1, bits > 16 ? 44 : 60 - bits);
    c->u = gm_alloc(c->arena, cells, sizeof *c->u);
    if (c->shift < -1100 || c->shift > 1100)
        gm_bad(c->a->path, "score_shift: expected -1100 to 1100, found %ld",
               (long)c->shift);
    for (long i = 0; i < s->M * s->K; i++) {
        const double u = ldexp(s->score[i], (int)c->shift);
        if (c->may[i] && u < -0x1p60)
            gm_bad(c->a->path, "score_shift: scores overflow at %ld",
                   (long)c->shift);
        c->u[i] = llrint(fmax(-0x1p60, fmin(u, most)));
    }
    for (long m = 0; m < s->M; m++) sum += c->u[m * s->K + c->choice[m]];
    return narrow(c, "objective", sum);
}

/* What rounding hides, sum_m (d_m,x(m) - min_k d_mk); *least: the sum of each
   module's least score; *apart: the least difference between two of one module.
   A shift that tells scores apart counts the widest module's range as 1 or
   more, or the largest score as 2^43, or every double as a whole number. */
static double check_rounding(struct checker *c, double *least, double *apart) {
    const gm_scores *s = c->s;
    const int shift = (int)c->shift;
    double hidden = 0, over = 0, range = 0, most = 0;
    *least = 0, *apart = INFINITY;
    for (long m = 0; m < s->M; m++) {
        double low = INFINITY, high = -INFINITY, below = INFINITY, own = 0,
               smallest = INFINITY;
        for (long i = m * s->K; i < (m + 1) * s->K; i++) {
            const double score = s->score[i];
            if (s->bytes[i] < 0) continue;
            low = fmin(low, score), high = fmax(high, score);
            if (!c->may[i]) continue;
            const double d = score - ldexp((double)c->u[i], -shift);
            for (long j = m * s->K; j < i; j++)
                if (c->may[j] && s->score[j] != score)
                    *apart = fmin(*apart, fabs(s->score[j] - score));
            smallest = fmin(smallest, score), below = fmin(below, d);
            if (i == m * s->K + c->choice[m]) own = d;
        }
        range = fmax(range, high - low), most = fmax(most, fmax(-low, high));
        if (below < own) hidden += own - below;
        if (smallest < INFINITY) *least += smallest;
        over += s->score[m * s->K + c->choice[m]] - smallest;
    }
    hidden = fmin(hidden, over);
    claim(c, ldexp(range, shift) >= 1 || ldexp(most, shift) >= 0x1p43 ||
             shift == 1074 || (most <= 0 && shift == 0), "score_shift",
          get(c, "score_shift"),
          gm_format(c->arena, "a range of %g", ldexp(range, shift)));
    claim_text(c, "rounding_error = modules 2^-score_shift",
               real_text(c, most > 0 ? ldexp((double)s->M, -shift) : 0));
    return hidden;
}

/* What nobody can compute again, as far as it fits the rest. */
static void check_words(struct checker *c, bool proven, bool rounded) {
    const char *solvers = get(c, "solvers"), *ties = get(c, "ties");
    const char *version = get(c, "glpk_version"), *gap = proven ? "gap 0"
                                                                : "gap > 0";
    const bool glpk = strstr(solvers, "GLPK") != NULL;
    claim_word(c, (proven && !rounded) || !strstr(ties, "proven"), "ties",
               ties, rounded ? "rounding" : gap);
    claim_word(c, (proven || !strstr(solvers, "agree")) &&
               (c->rows == 1 ||
                is_word("GLPK|enumeration after GLPK", solvers)), "solvers",
               solvers, c->rows > 1 ? "resources: GLPK" : gap);
    if (!glpk && !version) return;
    if (!version) version = "none";
    claim_word(c, glpk && (is_word("4.65|5.0", version) ||
                           strcmp(version, gm_glpk_version()) == 0),
               "glpk_version", version, glpk ? "4.65, 5.0 or this program's"
                                             : "none");
}

static void check_bound(struct checker *c) {
    gm_check *out = c->out;
    c->shift = need(c, "score_shift");
    const int64_t lambda = c->limits[0].mu = need(c, "multiplier_num");
    c->den = need(c, "multiplier_den");
    const int64_t bound = need(c, "bound");
    bool signs = c->den > 0 && (lambda >= 0 || c->exact);
    for (int r = 1; r < c->rows; r++) signs = signs && c->limits[r].mu >= 0;
    claim(c, signs, gm_format(c->arena, "signs of %s", c->factors), ">= 0",
          signs ? ">= 0" : "wrong");
    if (!signs) return;
    const int64_t objective = objective_of(c), weak = weak_bound(c);
    const int64_t gap = objective - bound;
    double least, apart;
    out->gap = objective - weak;
    out->hidden = check_rounding(c, &least, &apart);
    const bool rounded = out->rounded = 2 * out->hidden > apart;
    out->bound = fmax(least, out->score - out->hidden -
                             ldexp((double)out->gap, -(int)c->shift));
    claim_int(c, "objective", objective);
    claim_text(c, "objective_real", strcmp(get(c, "objective_real"),
                                           c->by_row) == 0
                                        ? c->by_row : real_text(c, out->score));
    claim_int(c, gm_format(c->arena, "lp_bound from %s", c->factors), weak);
    claim_int(c, "gap = objective - bound", gap);
    static const char order[] = "lp_bound <= bound <= objective";
    claim(c, weak <= bound && gap >= 0, "order", order, weak > bound
          ? "bound is lower" : gap < 0 ? "bound is higher" : order);
    claim_text(c, "optimal", gap ? "not proven" :
               rounded ? "not proven: rounding" : "proven");
    check_words(c, gap == 0, rounded);
}

/* What a proof must be about. */
static gm_mckp program_of(const struct checker *c) {
    const gm_scores *s = c->s;
    gm_mckp p = {.M = s->M, .K = s->K, .size = c->limits[0].cost,
                 .allowed = c->may, .budget = c->limits[0].limit,
                 .exact = c->exact, .rows = c->rows - 1, .group = c->leader,
                 .score = c->u, .shift = (int)c->shift, .scores = s};
    p.row = gm_alloc(c->arena, (size_t)c->rows, sizeof *p.row);
    for (int r = 1; r < c->rows; r++)
        p.row[r - 1] = (gm_row){"", c->limits[r].cost, c->limits[r].limit, 0};
    return p;
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

/* The scores at the budget that is stated, or at the file's own code bits. */
static const gm_scores *scores_for(struct checker *c) {
    gm_budget b = {c->in, c->out->certified ? need(c, "budget")
                   : gm_sizes_of(c->s, c->choice).code_bits, ""};
    return gm_scores_at(c->arena, c->s, &b);
}

void gm_check_allocation(gm_arena *arena, const gm_allocation *allocation,
                         const gm_scores *scores, const char *resources,
                         gm_check *out) {
    const gm_keys *keys = &allocation->keys;
    *out = (gm_check){0};
    struct checker c = {
        .arena = arena, .a = allocation, .s = scores, .out = out,
        .factors = "multiplier_num, multiplier_den"};
    out->certified = check_keys(&c);
    if (out->certified)
        c.in = (gm_convention)gm_convention_of(get(&c, "convention"));
    c.choice = gm_alloc(arena, (size_t)scores->M, sizeof *c.choice);
    gm_allocation_match(allocation, scores, c.choice);
    c.s = scores_for(&c);
    match_rows(&c);
    check_sizes(&c);
    check_origin(&c);
    check_choices(&c);
    if (out->certified) check_budget(&c);
    else begin_rows(&c, out->sizes.code_bits);
    for (const gm_key *k = keys->key; k < keys->key + keys->count; k++)
        if (out->certified && strncmp(k->name, "limit.", 6) == 0)
            check_row(&c, k->name + 6, resources);
    if (resources && gm_count_char(resources, ',') + 1 != c.rows - 1)
        gm_fail(GM_EUSAGE, "--resource: expected tables of all that %s limits, "
                "%d, found \"%s\"", allocation->path, c.rows - 1, resources);
    if (out->certified) check_bound(&c);
    else out->bound = own_bound(&c);
    if (out->certified && !out->failed) out->program = program_of(&c);
}
