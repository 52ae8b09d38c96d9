/* test_check.c: `gamma check` (check.c): accepts every certificate that the
   solvers write, refuses each of its numbers when changed, computes the bound
   of a worked example by hand.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd/cmd.h"
#include "test.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static uint64_t seed, counter;
static const char dir[] = "build/test/check-work";

static int64_t draw(int64_t n) {
    return (int64_t)(gm_random(seed, 11, counter++) % (uint64_t)n);
}

/* Seven modules a block as in a Llama, odd shapes, scores falling with bits. */
static void make_scores(gm_arena *a, gm_scores *s, long M) {
    static const int bits[5] = {2, 3, 4, 8, 16};
    static const char *const part[7] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
        "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
    STATUS(gm_scores_new(a, M, 5, bits, s));
    s->overhead = 4321;
    gm_keys_set(a, &s->keys, "model_hash", "%s", "cafe");
    for (long m = 0; m < M; m++) {
        double scale = 1 + (double)draw(1000) / 100;
        s->name[m] = gm_format(a, "model.layers.%ld.%s", m / 7, part[m % 7]);
        s->out[m] = 64 + 8 * draw(8), s->in[m] = 96;
        s->N += s->weights[m] = s->out[m] * s->in[m];
        for (int k = 0; k < 5; k++) {
            long i = m * 5 + k;
            s->bytes[i] = s->weights[m] * bits[k] / 8 + 3 * s->out[m] + draw(5);
            s->score[i] = scale * ldexp(0.8 + (double)draw(400) / 1000,
                                        -2 * (bits[k] - 2)) + 1e-3;
            s->error[i] = 0.1 * s->score[i];
        }
        if (m % 5 == 3) s->bytes[m * 5 + 4] = -1;   /* no 16 bits here */
    }
}

/* A table of costs, two decimals: out / 100 milliseconds a bit; beside 16.cost
   16 is of something else. */
static void write_resource(const gm_scores *s, const char *path) {
    FILE *f = fopen(path, "w");
    fprintf(f, "# resource latency\nmodule\t2\t3\t4\t8\t16.cost\t16\n");
    for (long m = s->M - 1; m >= 0; m--) {          /* any order of rows */
        fprintf(f, "%s", s->name[m]);
        for (int k = 0; k < 5; k++)
            fprintf(f, "\t%d.%02d", s->bits[k] * (int)s->out[m] / 100,
                    s->bits[k] * (int)s->out[m] % 100);
        fprintf(f, "\t0.01\n");
    }
    fclose(f);
}

/* A claim that fails is an answer; it counts as GM_EDIFFER here. */
static gm_status checked(gm_status s, const gm_check *c) {
    return !s && c->failed ? GM_EDIFFER : s;
}

/* Solves, writes, reads back; false: infeasible. */
static bool solve_file(gm_arena *a, const gm_scores *s, gm_convention in,
                       const char *text, const gm_constraints *c,
                       gm_allocation *out) {
    static const char path[] = "build/test/check-work/alloc.tsv";
    gm_budget budget;
    gm_mckp p;
    gm_certificate t;
    gm_solve_options o = {.solver = GM_BOTH};
    int *choice = gm_alloc(a, (size_t)s->M, sizeof *choice);
    CHECK(STATUS(budget = gm_budget_parse(s, in, text)) == GM_OK &&
          STATUS(gm_problem_build(a, s, &budget, 30, &p)) == GM_OK &&
          STATUS(gm_problem_constrain(a, c, &p)) == GM_OK, "%s", err.text);
    gm_status status = SOLVED(gm_mckp_solve(a, &p, &o, choice, &t), t);
    if (status == GM_EINFEASIBLE) return false;
    CHECK(status == GM_OK, "%s", err.text);
    CHECK(STATUS(*out = gm_allocation_make(a, &p, choice, &t)) ==
              GM_OK && STATUS(gm_allocation_write(a, path, out)) == GM_OK &&
          STATUS(gm_allocation_read(a, path, out)) == GM_OK, "%s", err.text);
    return true;
}

/* What the solvers write holds: every convention, with and without couplings,
   extra rows (which need GLPK) and exact budgets. */
static void test_accepts(void) {
    static const char resource[] = "build/test/check-work/latency.tsv";
    static const gm_constraints plain[] = {
        {0}, {.min_bits = "3"}, {.pin = "*.layers.0.*=4", .max_bits = "8"},
        {.fuse = "q_proj+k_proj+v_proj,gate_proj+up_proj"},
        {.exact = true, .max_bits = "4"}};
    static const gm_constraints coupled[] = {
        {.resources = "build/test/check-work/latency.tsv:38", .pin = "o_proj=4"},
        {.resources = "build/test/check-work/latency.tsv:40.25"},
        {.resources = "build/test/check-work/latency.tsv:45.5",
         .max_bits = "8"},
        {.fuse = "q_proj+k_proj+v_proj",
         .resources = "build/test/check-work/latency.tsv:35"}};
    static const char *const budget[3][2] = {{"3", "2.5"}, {"3.75", "4"},
                                             {"45K", "0.05M"}};
    long solved = 0, tables = 0;
    for (int i = 0; i < 120; i++) {
        gm_arena a = {0};
        gm_scores s;
        gm_allocation x;
        gm_check c;
        seed = (uint64_t)i, counter = 0;
        make_scores(&a, &s, 14);
        write_resource(&s, resource);
        const gm_constraints *k = i % 2 && gm_have_glpk() ? &coupled[i / 2 % 4]
                                                          : &plain[i / 2 % 5];
        if (solve_file(&a, &s, (gm_convention)(i % 3), budget[i % 3][i / 3 % 2],
                       k, &x)) {
            gm_status status = checked(STATUS(gm_check_allocation(
                &a, &x, &s, k->resources ? resource : NULL, &c)), &c);
            CHECK(status == GM_OK && c.failed == 0 && c.count >= 15 &&
                  c.certified, "seed %d: %s, %ld claims", i, err.text, c.count);
            for (long j = 0; j < c.count; j++)
                CHECK(c.claim[j].holds, "seed %d: %s: %s, %s", i,
                      c.claim[j].claim, c.claim[j].stated, c.claim[j].found);
            CHECK(c.bound <= c.score + 14 * ldexp(1, -20), "bound %g above %g",
                  c.bound, c.score);
            solved++;
            if (k->resources) {
                tables++;
                CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) ==
                      GM_EUSAGE, "without the table");
                CHECK_TEXT(err.text, "build/test/check-work/alloc.tsv limits "
                           "the resource \"latency\": give its table with "
                           "--resource");
            } else {
                CHECK(STATUS(gm_check_allocation(&a, &x, &s, resource, &c)) ==
                      GM_EUSAGE, "a table of nothing");
                CHECK_TEXT(err.text, gm_format(&a, "--resource: expected "
                           "tables of all that build/test/check-work/alloc.tsv "
                           "limits, 0, found \"%s\"", resource));
            }
        }
        gm_arena_free(&a);
    }
    CHECK(solved > 60, "%ld of 120 solved", solved);
    CHECK(tables > 10 || !gm_have_glpk(), "%ld with a resource", tables);
}

/* Each number of the certificate is looked at: changed, a claim fails. */
static void test_refuses(void) {
    static const char *const key[] = {
        "modules", "weights", "overhead_bytes", "code_bits", "effective_bits",
        "file_bytes", "budget_asked", "budget", "size", "slack", "objective",
        "bound", "gap", "objective_real", "lp_bound", "multiplier_num",
        "multiplier_den", "score_shift", "model_hash", "optimal"};
    gm_arena a = {0};
    gm_scores s;
    gm_allocation x;
    gm_check c;
    seed = 1, counter = 0;
    make_scores(&a, &s, 14);
    CHECK(solve_file(&a, &s, GM_BITS, "3", &(gm_constraints){0}, &x), "solved");
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_OK, "%s",
          err.text);
    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        const char *was = gm_keys_get(&x.keys, key[i]);
        CHECK(was != NULL, "no key %s", key[i]);
        if (!was) continue;
        gm_keys_set(&a, &x.keys, key[i], "%.17g", 2 * strtod(was, NULL) + 1);
        gm_status status = checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c);
        CHECK(status == GM_EDIFFER || status == GM_EINPUT, "%s changed: status "
              "%d", key[i], status);
        gm_keys_set(&a, &x.keys, key[i], "%s", was);
    }
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_OK, "restored");
    gm_keys_set(&a, &x.keys, "multiplier_num", "-5");
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_EDIFFER,
          "a negative multiplier");
    CHECK(c.failed == 1 && c.count == 16, "%ld of %ld claims", c.failed,
          c.count);
    gm_keys_set(&a, &x.keys, "multiplier_num", "many");
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_EINPUT, "text");
    CHECK_TEXT(err.text, "build/test/check-work/alloc.tsv: multiplier_num: "
                         "expected a whole number, found \"many\"");
    /* another choice than the certificate's */
    CHECK(solve_file(&a, &s, GM_BITS, "3", &(gm_constraints){0}, &x), "solved");
    x.bits[0] = x.bits[0] == 2 ? 3 : 2;
    x.bytes[0] = s.bytes[x.bits[0] - 2];
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_EDIFFER,
          "other bits");
    x.bytes[0] = 7;
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_EINPUT,
          "bytes that the scores do not have");
    /* constraints broken */
    CHECK(solve_file(&a, &s, GM_BITS, "3", &(gm_constraints){
          .fuse = "gate_proj+up_proj", .min_bits = "3"}, &x), "solved");
    x.fused[0] = x.fused[4];
    CHECK(x.bits[0] == x.bits[4] ||
          checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_EDIFFER,
          "a fused module apart");
    x.allowed[0] = "16";
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_EDIFFER,
          "bits that are not allowed");
    gm_arena_free(&a);
}

/* ------------------------------------------------------------------ forgery

   An alloc.tsv that the solvers wrote, as lines; one is changed, and the file
   read and checked again. */
typedef struct {
    gm_arena *arena;
    const gm_scores *s;
    const char *resources;
    char *line[128];
    long lines, columns;        /* where the column names stand */
    char claims[2048];          /* the message, or what did not hold */
    long forged;
} forging;

static const char forged_path[] = "build/test/check-work/forged.tsv";

static void read_lines(forging *f, const char *path) {
    char *text = gm_file_text(f->arena, path, NULL);
    for (char *line; (line = strsep(&text, "\n")) && *line;)
        f->line[f->lines++] = line;
    while (*f->line[f->columns] == '#') f->columns++;
}

/* Line i replaced by `now` (NULL: left out) and, beside it, `more`. */
static gm_status check_lines(forging *f, long i, const char *now,
                             const char *more, gm_check *c) {
    gm_arena a = {0};
    gm_allocation x;
    FILE *file = fopen(forged_path, "w");
    for (long j = 0; j < f->lines; j++) {
        const char *line = j == i ? now : f->line[j];
        if (line) fprintf(file, "%s\n", line);
        if (j == i && more) fprintf(file, "%s\n", more);
    }
    fclose(file);
    gm_status status = STATUS(gm_allocation_read(&a, forged_path, &x));
    if (!status)
        status = checked(STATUS(gm_check_allocation(&a, &x, f->s, f->resources,
                                                    c)), c);
    strcpy(f->claims, err.text);
    for (long j = 0; status == GM_EDIFFER && j < c->count; j++)
        if (!c->claim[j].holds) {
            strcat(f->claims, c->claim[j].claim);
            strcat(f->claims, "; ");
        }
    gm_arena_free(&a);
    return status;
}

static void refused(forging *f, long i, const char *now, const char *more,
                    const char *name) {
    gm_check c;
    const gm_status status = check_lines(f, i, now, more, &c);
    f->forged++;
    CHECK(status == GM_EDIFFER || status == GM_EINPUT,
          "\"%s\" for \"%s\": status %d", now ? now : "nothing", f->line[i],
          status);
    CHECK(!status || strstr(f->claims, name), "\"%s\" for \"%s\": %s is not "
          "named: %s", now ? now : "nothing", f->line[i], name, f->claims);
}

/* A key's line left out, twice, beside one that nobody knows, and with a value
   that is another in every way a text or a number can be. */
static void forge_key(forging *f, long i) {
    char name[64] = "", value[256] = "";
    static const char *const others[] = {
        "%s x", "%sx", "%s 3", "-%s", " -%s", "+%s", "0%s", "%s1", "1%s",
        "%s.0", "%s,", "x", "", "0x%s", "nan", "-1", "9223372036854775807",
        "99999999999999999999", "1e3", "3 %s", "%s%%", "proven", "="};
    sscanf(f->line[i], "# %63s %255[^\n]", name, value);
    refused(f, i, NULL, NULL, name);
    refused(f, i, f->line[i], f->line[i], name);
    refused(f, i, f->line[i], gm_format(f->arena, "# %s_too 1", name),
            gm_format(f->arena, "%s_too", name));
    refused(f, i, gm_format(f->arena, "# %sx %s", name, value), NULL, name);
    for (size_t j = 0; j < sizeof others / sizeof *others; j++) {
        char other[600];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(other, sizeof other, others[j], value);
#pragma GCC diagnostic pop
        if (strcmp(other, value) == 0) continue;
        /* the same budget as text, 03 or 3.0: nothing is claimed wrongly */
        if (strcmp(name, "budget_asked") == 0 &&
            (strcmp(others[j], "0%s") == 0 || strcmp(others[j], "%s.0") == 0))
            continue;
        /* what is reached exactly is the best of less, too */
        if (strcmp(name, "relation") == 0 && strcmp(other, "=") == 0) continue;
        refused(f, i, gm_format(f->arena, "# %s %s", name, other), NULL, name);
    }
}

/* Each cell of a row: other bits, sizes and names. */
static void forge_row(forging *f, long i) {
    static const char *const others[] = {"", "*", "x", "0", "1", "99", "-2",
                                         "%s x", "%s,", "%s,%s", "*%s", "-",
                                         "%s1", "1%s", "2,3,4,8,16,32"};
    char cell[5][128];
    const int columns = sscanf(f->line[i], "%127[^\t]\t%127[^\t]\t%127[^\t]\t"
                               "%127[^\t]\t%127[^\t]", cell[0], cell[1],
                               cell[2], cell[3], cell[4]);
    const bool allowed = strstr(f->line[f->columns], "allowed") != NULL;
    refused(f, i, NULL, NULL, cell[0]);
    refused(f, i, f->line[i], f->line[i], cell[0]);
    for (int k = 0; k < columns && k < 3 + allowed; k++)
        for (size_t j = 0; j < sizeof others / sizeof *others; j++) {
            char other[600], line[1024] = "";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(other, sizeof other, others[j], cell[k], cell[k]);
#pragma GCC diagnostic pop
            for (int n = 0; n < columns; n++) {
                if (n) strcat(line, "\t");
                strcat(line, n == k ? other : cell[n]);
            }
            refused(f, i, line, NULL, k ? "" : "module");
        }
}

/* One file of the solvers; rows and keys one by one. */
static void forge_file(const gm_scores *s, gm_convention in, const char *budget,
                       const gm_constraints *constraints, const char *resource,
                       const char *among) {
    gm_arena a = {0};
    gm_allocation x;
    gm_check c;
    forging *f = gm_alloc(&a, 1, sizeof *f);
    *f = (forging){.arena = &a, .s = s, .resources = resource};
    CHECK(solve_file(&a, s, in, budget, constraints, &x), "%s", budget);
    read_lines(f, x.path);
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, s, resource, &c)), &c) ==
          GM_OK, "%s", err.text);
    CHECK_TEXT(c.among, among);
    for (long i = 0; i < f->columns; i++) forge_key(f, i);
    for (long i = f->columns + 1; i < f->lines; i++) forge_row(f, i);
    /* the names of columns */
    const long i = f->columns;
    refused(f, i, NULL, NULL, "column");
    refused(f, i, gm_format(&a, "%s", strchr(f->line[i], '\t') + 1), NULL, "");
    for (const char *at = f->line[i]; at; at = strchr(at, '\t'), at += at != 0)
        refused(f, i, gm_format(&a, "%.*sx%s", (int)(at - f->line[i]),
                                f->line[i], at), NULL, "column");
    CHECK(f->forged > 1000, "%ld forged", f->forged);
    gm_arena_free(&a);
}

static void test_forgery(void) {
    static const char resource[] = "build/test/check-work/latency.tsv";
    gm_arena a = {0};
    gm_scores s;
    seed = 5, counter = 0;
    make_scores(&a, &s, 14);
    gm_keys_set(&a, &s.keys, "version", GM_VERSION);
    gm_keys_set(&a, &s.keys, "model", "tiny");
    gm_keys_set(&a, &s.keys, "calibration", "wiki");
    gm_keys_set(&a, &s.keys, "calibration_hash", "beef");
    gm_keys_set(&a, &s.keys, "candidates", "rtn bits=2,3,4,8,16 group=64");
    gm_keys_set(&a, &s.keys, "candidates_hash", "fade");
    gm_keys_set(&a, &s.keys, "scores_at", "3 to 4, t = 0.5");
    write_resource(&s, resource);
    forge_file(&s, GM_BITS, "3", &(gm_constraints){0}, NULL,
               "at most 382464 code bits");
    forge_file(&s, GM_EBITS, "3.75", &(gm_constraints){.fuse =
               "q_proj+k_proj+v_proj,gate_proj+up_proj"}, NULL,
               "at most 478080 effective bits, 6 of 14 bound to others by "
               "the fused column");
    forge_file(&s, GM_BYTES, "45K", &(gm_constraints){.pin = "o_proj=4",
               .max_bits = "8"}, NULL, "at most 45000 file bytes, 12 of 14 "
               "modules restricted by the allowed column");
    forge_file(&s, GM_BITS, "3", &(gm_constraints){.exact = true,
               .max_bits = "8"}, NULL, "exactly 382464 code bits, 11 of 14 "
               "modules restricted by the allowed column");
    if (gm_have_glpk())
        forge_file(&s, GM_BITS, "4", &(gm_constraints){.resources =
                   "build/test/check-work/latency.tsv:35"}, resource,
                   "at most 509952 code bits, resource latency <= 35.00");
    gm_arena_free(&a);
}

/* ------------------------------------------------- lies that fit each other

   A file of which every number was made up, but so that they fit each other:
   any assignment, shift, multipliers, lists of allowed bits and fused groups;
   objective and lp_bound from all 625 assignments.  What check then says it
   has proven is so. */
enum { FEW = 4, KINDS = 5, ALL = 625 };

/* Assignment number n as candidates. */
static void spell(long n, int *choice) {
    for (int m = 0; m < FEW; m++, n /= KINDS) choice[m] = (int)(n % KINDS);
}

static bool is_allowed(const gm_mckp *p, const int *choice) {
    for (int m = 0; m < FEW; m++) {
        if (!p->allowed[m * KINDS + choice[m]]) return false;
        for (int n = 0; p->group && n < m; n++)
            if (p->group[m] >= 0 && p->group[m] == p->group[n] &&
                choice[m] != choice[n])
                return false;
    }
    return true;
}

static int64_t sum_of(const int64_t *x, const int *choice) {
    int64_t sum = 0;
    for (int m = 0; m < FEW; m++) sum += x[m * KINDS + choice[m]];
    return sum;
}

static bool is_within(const gm_mckp *p, const int *choice) {
    const int64_t size = sum_of(p->size, choice);
    return is_allowed(p, choice) && size <= p->budget &&
           (!p->exact || size == p->budget) &&
           (!p->rows || sum_of(p->row->cost, choice) <= p->row->limit);
}

/* Restrictions of any kind, the scores rounded by any shift. */
static void restrict_any(gm_arena *a, const gm_scores *s, gm_mckp *p) {
    p->exact = draw(4) == 0;
    for (int i = 0; i < FEW * KINDS; i++)
        p->allowed[i] = p->allowed[i] && draw(6) > 0;
    if (draw(2)) {
        p->group = gm_alloc(a, FEW, sizeof *p->group);
        for (int m = 0; m < FEW; m++) p->group[m] = draw(3) - 1;
    }
    p->shift = (int)draw(24) - 4;
    p->rounding = ldexp(FEW, -p->shift);
    for (int i = 0; i < FEW * KINDS; i++)
        p->score[i] = p->allowed[i] ? llrint(ldexp(s->score[i], p->shift)) : 0;
    if (draw(3)) return;
    p->rows = 1;
    p->row = gm_alloc(a, 1, sizeof *p->row);
    *p->row = (gm_row){"latency", gm_alloc(a, FEW * KINDS, sizeof(int64_t)),
                       500 + draw(4000), 2};
    for (int i = 0; i < FEW * KINDS; i++)
        p->row->cost[i] = s->bits[i % KINDS] * s->out[i / KINDS];
}

/* The bound of the certificate's multipliers, from all assignments. */
static int64_t bound_of(const gm_mckp *p, const gm_certificate *t) {
    int choice[FEW];
    __int128 least = 0;
    bool any = false;
    for (long n = 0; n < ALL; n++) {
        spell(n, choice);
        if (!is_allowed(p, choice)) continue;
        __int128 value = (__int128)t->lambda_den * sum_of(p->score, choice) +
                         (__int128)t->lambda_num * (sum_of(p->size, choice) -
                                                    p->budget);
        if (p->rows)
            value += t->mu_num[0] * (sum_of(p->row->cost, choice) -
                                     p->row->limit);
        if (!any || value < least) least = value;
        any = true;
    }
    return (int64_t)(least / t->lambda_den + (least % t->lambda_den > 0));
}

/* A certificate whose multipliers are the best of ten, or any. */
static void make_up(const gm_mckp *p, const int *choice, gm_certificate *t) {
    gm_certificate best = {.lp_bound = INT64_MIN};
    for (int tries = draw(2) ? 10 : 1; tries > 0; tries--) {
        *t = (gm_certificate){.dp_ran = !p->rows, .glpk_ran = p->rows};
        t->lambda_den = 1 + draw(100000);
        t->lambda_num = draw(3) ? (int64_t)ldexp(1, p->shift) * draw(2000) : 0;
        t->mu_num[0] = p->rows && draw(2) ? draw(100) : 0;
        t->lp_bound = bound_of(p, t);
        if (t->lp_bound > best.lp_bound) best = *t;
    }
    *t = best;
    t->objective = sum_of(p->score, choice);
    t->size = sum_of(p->size, choice);
    t->slack = p->budget - t->size;
    t->bound = draw(2) ? t->objective : t->lp_bound;
    t->optimal = t->bound == t->objective;
}

static double real_sum(const gm_scores *s, const int *choice) {
    double sum = 0;
    for (int m = 0; m < FEW; m++) sum += s->score[m * KINDS + choice[m]];
    return sum;
}

/* The least sum of scores within the limits; *best: which, if any. */
static double optimum(const gm_scores *s, const gm_mckp *p, long *best) {
    double least = INFINITY;
    int choice[FEW];
    for (long n = 0; n < ALL; n++) {
        spell(n, choice);
        if (!is_within(p, choice) || real_sum(s, choice) >= least) continue;
        least = real_sum(s, choice);
        *best = n;
    }
    return least;
}

static void test_lies(void) {
    static const char resource[] = "build/test/check-work/latency.tsv";
    long accepted = 0, proven = 0;
    for (int i = 0; i < 3000; i++) {
        gm_arena a = {0};
        gm_scores s;
        gm_mckp p;
        gm_certificate t;
        gm_check c;
        int choice[FEW];
        seed = 1000 + (uint64_t)i, counter = 0;
        make_scores(&a, &s, FEW);
        write_resource(&s, resource);
        gm_budget budget = gm_budget_parse(&s, (gm_convention)(i % 3), i % 3 < 2
            ? gm_format(&a, "%ld.%ld", 2 + draw(8), draw(100))
            : gm_format(&a, "%ldK", 10 + draw(24)));
        gm_problem_build(&a, &s, &budget, 30, &p);
        restrict_any(&a, &s, &p);
        long n = draw(ALL);
        const double least = optimum(&s, &p, draw(2) ? &n : &(long){0});
        spell(n, choice);
        make_up(&p, choice, &t);
        gm_allocation x = gm_allocation_make(&a, &p, choice, &t);
        gm_status status = checked(STATUS(gm_check_allocation(
            &a, &x, &s, p.rows ? resource : NULL, &c)), &c);
        if (status) {                   /* the word for what is too coarse */
            gm_keys_set(&a, &x.keys, "optimal", "not proven: rounding");
            status = checked(STATUS(gm_check_allocation(
                &a, &x, &s, p.rows ? resource : NULL, &c)), &c);
        }
        CHECK(is_within(&p, choice) || status, "seed %d: not within", i);
        if (!status) {
            accepted++;
            proven += c.score - c.bound <= 0.05 * c.score;
            CHECK(c.bound <= least * (1 + 1e-12), "seed %d: bound %.17g, "
                  "optimum %.17g, among %s", i, c.bound, least, c.among);
        }
        gm_arena_free(&a);
    }
    CHECK(accepted > 800, "%ld accepted", accepted);
    CHECK(proven > 20, "%ld proven", proven);
}

/* Two modules of 10 weights at 2 or 4 bits, 6 bits a weight in all: by hand.
     u = {8, 0}, {6, 2}; s = 20, 40; B = 60; lambda = 4/20 = 1/5:
     min(8 + 4, 0 + 8) + min(6 + 4, 2 + 8) - 12 = 8 + 10 - 12 = 6 = u(4, 2). */
static void make_hand(gm_arena *a, gm_scores *s, gm_allocation *x) {
    static const int bits[2] = {2, 4};
    static const double score[4] = {8, 0, 6, 2};
    static const char *name[2] = {"b", "a"};        /* rows in any order */
    static int chosen[2] = {2, 4};
    static int64_t bytes[2] = {5, 7};
    STATUS(gm_scores_new(a, 2, 2, bits, s));
    for (long m = 0; m < 2; m++) {
        s->name[m] = m ? "b" : "a";
        s->N += s->weights[m] = 10;
        for (int k = 0; k < 2; k++) {
            s->bytes[2 * m + k] = 5 + 2 * k;
            s->score[2 * m + k] = score[2 * m + k];
        }
    }
    *x = (gm_allocation){.path = "hand", .M = 2, .name = name, .bits = chosen,
                         .bytes = bytes};
}

static void certify_hand(gm_arena *a, gm_allocation *x) {
    static const char *const pair[][2] = {
        {"format", "gamma-alloc 1"}, {"version", GM_VERSION},
        {"convention", "bits"}, {"budget_asked", "3"}, {"budget", "60"},
        {"relation", "<="}, {"modules", "2"}, {"weights", "20"},
        {"overhead_bytes", "0"}, {"code_bits", "60"},
        {"effective_bits", "96"}, {"file_bytes", "12"},
        {"average_code_bits", "3"}, {"average_effective_bits", "4.8"},
        {"size", "60"}, {"slack", "0"}, {"score_shift", "0"},
        {"objective", "6"}, {"bound", "6"}, {"gap", "0"},
        {"objective_real", "6"}, {"rounding_error", "2"}, {"lp_bound", "6"},
        {"multiplier_num", "1"}, {"multiplier_den", "5"},
        {"optimal", "proven"}, {"ties", "any optimum"},
        {"solvers", "dynamic program"}};
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++)
        gm_keys_set(a, &x->keys, pair[i][0], "%s", pair[i][1]);
}

static void test_by_hand(void) {
    gm_arena a = {0};
    gm_scores s;
    gm_allocation x;
    gm_check c;
    make_hand(&a, &s, &x);
    /* no certificate: the bound is for the 60 code bits it has */
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_OK &&
          !c.certified && c.score == 6, "%s", err.text);
    /* bisection to lambda within 2^-100 */
    CHECK(fabs(c.bound - 6) <= 1e-12, "bound %.17g", c.bound);
    CHECK(c.sizes.code_bits == 60 && c.sizes.effective_bits == 96 &&
          c.sizes.file_bytes == 12, "sizes");
    certify_hand(&a, &x);
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_OK &&
          c.bound == 6 && c.gap == 0, "%s", err.text);
    /* another multiplier proves less: lambda = 1/10: 4 + 6 - 6 = 4 */
    gm_keys_set(&a, &x.keys, "multiplier_den", "10");
    gm_keys_set(&a, &x.keys, "lp_bound", "4");
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_OK &&
          c.bound == 4 && c.gap == 2, "%s", err.text);
    gm_arena_free(&a);
}

/* Claim `name` is made and holds; or it is the one claim that does not. */
static void looks(const gm_allocation *x, const gm_scores *s, const char *name,
                  bool holds) {
    gm_arena a = {0};
    gm_check c;
    gm_status status = checked(STATUS(gm_check_allocation(
        &a, x, s, gm_keys_get(&x->keys, "limit.at_4")
            ? "build/test/check-work/ones.tsv" : NULL, &c)), &c);
    long made = 0;
    CHECK(status == (holds ? GM_OK : GM_EDIFFER) && c.failed == !holds,
          "%s: %ld failed: %s", name, c.failed, err.text);
    for (long i = 0; i < c.count; i++)
        if (strcmp(c.claim[i].claim, name) == 0) {
            made++;
            CHECK(c.claim[i].holds == holds, "%s: %s, %s", name,
                  c.claim[i].stated, c.claim[i].found);
        }
    CHECK(made == 1, "%s: made %ld times", name, made);
    gm_arena_free(&a);
}

/* A broken coupling fails its own claim alone.  Module b is at 2 bits, a at 4
   (rows b, a).  The bound stays 6: what it loses, min = 10 of b and 8 of a,
   and 18 of both at 4 bits, are the minima that remain. */
static void test_couplings(void) {
    const char *right[2] = {"2", "2,4"}, *wrong[2] = {"4", "2,4"};
    const char *apart[2] = {"-", "-"}, *together[2] = {"0", "0"};
    gm_arena a = {0};
    gm_scores s;
    gm_allocation x;
    make_hand(&a, &s, &x);
    certify_hand(&a, &x);
    x.allowed = right;
    looks(&x, &s, "allowed bits", true);
    x.allowed = wrong;
    looks(&x, &s, "allowed bits", false);
    x.allowed = NULL, x.fused = apart;
    looks(&x, &s, "fused modules", true);
    x.fused = together;
    looks(&x, &s, "fused modules", false);
    x.fused = NULL;
    FILE *f = fopen("build/test/check-work/ones.tsv", "w");
    fprintf(f, "# resource at_4\nmodule\t2\t4\na\t0\t1\nb\t0\t1\n");
    fclose(f);
    gm_keys_set(&a, &x.keys, "places.at_4", "0");
    gm_keys_set(&a, &x.keys, "multiplier_num.at_4", "0");
    gm_keys_set(&a, &x.keys, "solvers", "GLPK");
    gm_keys_set(&a, &x.keys, "glpk_version", "5.0");
    gm_keys_set(&a, &x.keys, "limit.at_4", "1");
    looks(&x, &s, "limit.at_4, places.at_4", true);
    gm_keys_set(&a, &x.keys, "limit.at_4", "0");
    looks(&x, &s, "limit.at_4, places.at_4", false);
    /* 0.95 is none of 0 decimals */
    f = fopen("build/test/check-work/ones.tsv", "w");
    fprintf(f, "# resource at_4\nmodule\t2\t4\na\t0\t0.950\nb\t0\t1\n");
    fclose(f);
    looks(&x, &s, "places.at_4", false);
    gm_keys_set(&a, &x.keys, "places.at_4", "2");
    gm_keys_set(&a, &x.keys, "limit.at_4", "95");
    looks(&x, &s, "limit.at_4, places.at_4", true);
    gm_arena_free(&a);
}

static void set_all(gm_arena *a, gm_allocation *x, const char *keys) {
    char *rest = gm_format(a, "%s", keys);
    for (char *key; (key = strsep(&rest, " "));) {
        char *value = strsep(&rest, " ");
        gm_keys_set(a, &x->keys, key, "%s", value);
    }
}

/* Files whose numbers fit each other, and what gives them away. */
static void test_consistent(void) {
    gm_arena a = {0};
    gm_scores s;
    gm_allocation x;
    gm_check c;
    make_hand(&a, &s, &x);
    certify_hand(&a, &x);
    looks(&x, &s, "score_shift", true);
    /* every u rounds to 0 */
    set_all(&a, &x, "score_shift -100 objective 0 bound 0 lp_bound 0 "
            "multiplier_num 0 rounding_error 2.535301200456459e+30");
    gm_keys_set(&a, &x.keys, "optimal", "not proven: rounding");
    gm_keys_set(&a, &x.keys, "ties", "any optimum");
    looks(&x, &s, "score_shift", false);
    gm_keys_set(&a, &x.keys, "optimal", "proven");
    /* one unit: u = 1 and 0, 1 and 0 for 8 and 0, 6 and 2; what is left, 0, 0,
       -2, 2, hides nothing below 0 + 6 */
    set_all(&a, &x, "score_shift -3 objective 1 bound 1 lp_bound 1 "
            "multiplier_num 1 multiplier_den 20 rounding_error 16");
    CHECK(!checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c),
          "%s", err.text);
    CHECK(c.gap == 0 && c.hidden == 0 && c.bound == 6, "%g hidden, bound %g",
          c.hidden, c.bound);
    /* bytes of ones */
    make_hand(&a, &s, &x);
    certify_hand(&a, &x);
    x.bytes[0] = x.bytes[1] = 1;
    gm_keys_set(&a, &x.keys, "sizes", "codes");
    CHECK(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)) == GM_EINPUT,
          "bytes of ones");
    CHECK_TEXT(err.text, "hand: line 2: a: column bytes: expected 7, found "
                         "\"1\"");
    x.bytes[0] = 5, x.bytes[1] = 7;
    looks(&x, &s, "sizes", false);
    gm_keys_set(&a, &s.keys, "sizes", "codes");
    looks(&x, &s, "sizes", true);
    /* a program of another version wrote the scores, and maybe this file */
    gm_keys_set(&a, &s.keys, "version", "0.0");
    looks(&x, &s, "version", true);
    gm_keys_set(&a, &x.keys, "version", "0.0");
    looks(&x, &s, "version", true);
    gm_keys_set(&a, &x.keys, "version", "0.2");
    looks(&x, &s, "version", false);
    gm_arena_free(&a);
    /* all scores 0: nothing to round */
    make_hand(&a, &s, &x);
    certify_hand(&a, &x);
    for (int i = 0; i < 4; i++) s.score[i] = 0;
    set_all(&a, &x, "objective 0 bound 0 lp_bound 0 multiplier_num 0 "
            "objective_real 0 rounding_error 0");
    looks(&x, &s, "score_shift", true);
    set_all(&a, &x, "score_shift 1");
    looks(&x, &s, "score_shift", false);
    s.score[0] = -8;                    /* -8 2^57 = -2^60, the last that fits */
    set_all(&a, &x, "score_shift 58");
    CHECK(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)) == GM_EINPUT, "58");
    CHECK_TEXT(err.text, "hand: score_shift: scores overflow at 58");
    gm_arena_free(&a);
}

/* Without a certificate other keys claim nothing; with a part of one the rest
   must be there. */
static void test_uncertified(void) {
    gm_arena a = {0};
    gm_scores s;
    gm_allocation x;
    gm_check c;
    make_hand(&a, &s, &x);
    set_all(&a, &x, "tool other-1 method greedy model_hash 1 asked 3");
    CHECK(!checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) &&
          !c.certified, "%s", err.text);
    gm_keys_set(&a, &s.keys, "model_hash", "2");
    looks(&x, &s, "model_hash", false);
    gm_keys_set(&a, &s.keys, "model_hash", "1");
    gm_keys_set(&a, &x.keys, "optimal", "proven");
    CHECK(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)) == GM_EINPUT,
          "a part of a certificate");
    CHECK_TEXT(err.text, "hand: tool: no key of a certificate");
    x.keys.count = 0;
    gm_keys_set(&a, &x.keys, "optimal", "proven");
    CHECK(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)) == GM_EINPUT,
          "a part of a certificate");
    CHECK_TEXT(err.text, "hand: format: the certificate lacks this key");
    gm_arena_free(&a);
}

/* 10,000 modules fused by twos, the rows in another order: each step that
   looked through all of them for each would take minutes here. */
static void test_many_modules(void) {
    enum { MANY = 10000 };
    gm_arena a = {0};
    gm_scores s;
    gm_check c;
    int *choice = gm_alloc(&a, MANY, sizeof *choice);   /* all at 2 bits */
    const char *fused[MANY];
    seed = 3, counter = 0;
    make_scores(&a, &s, MANY);
    gm_allocation x = gm_allocation_of(&a, &s, choice);
    x.name = gm_alloc(&a, MANY, sizeof *x.name);
    x.fused = fused;
    for (long m = 0; m < MANY; m++) {
        const long i = MANY - 1 - m;
        x.name[i] = s.name[m];
        x.bytes[i] = s.bytes[m * 5];
        fused[i] = gm_format(&a, "%ld", m / 2);
    }
    CHECK(!checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c),
          "%s", err.text);
    write_resource(&s, "build/test/check-work/latency.tsv");
    gm_budget budget = gm_budget_parse(&s, GM_BITS, "3");
    gm_mckp p;
    gm_problem_build(&a, &s, &budget, 30, &p);
    gm_problem_constrain(&a, &(gm_constraints){.resources =
        "build/test/check-work/latency.tsv:900000", .fuse =
        "q_proj+k_proj+v_proj,gate_proj+up_proj"}, &p);
    gm_certificate t = {.glpk_ran = true, .lambda_den = 1, .optimal = true};
    x = gm_allocation_make(&a, &p, choice, &t);
    gm_check_allocation(&a, &x, &s, "build/test/check-work/latency.tsv", &c);
    CHECK_TEXT(c.among, gm_format(&a, "at most %ld code bits, 4286 of 10000 "
        "bound to others by the fused column, resource latency <= 900000.00",
        (long)budget.limit));
    gm_arena_free(&a);
}

/* One key of the worked example changed; the message. */
static void refuses(const char *key, const char *value, const char *resources,
                    const char *message) {
    gm_arena a = {0};
    gm_scores s;
    gm_allocation x;
    gm_check c;
    make_hand(&a, &s, &x);
    certify_hand(&a, &x);
    if (resources) {
        gm_keys_set(&a, &x.keys, "places.ms", "1");
        gm_keys_set(&a, &x.keys, "multiplier_num.ms", "0");
        gm_keys_set(&a, &x.keys, "limit.ms", "3");
    }
    gm_keys_set(&a, &x.keys, key, "%s", value);
    gm_status status = checked(STATUS(gm_check_allocation(&a, &x, &s, resources, &c)), &c);
    CHECK(status == GM_EINPUT || status == GM_EUSAGE, "%s %s: status %d", key,
          value, status);
    CHECK_TEXT(err.text, message);
    gm_arena_free(&a);
}

/* One limit more than there is room for. */
static void test_many_limits(void) {
    gm_arena a = {0};
    gm_scores s;
    gm_allocation x;
    gm_check c;
    const char *paths = "";
    make_hand(&a, &s, &x);
    certify_hand(&a, &x);
    for (int r = 0; r <= GM_MAX_ROWS; r++) {
        const char *path = gm_format(&a, "build/test/check-work/r%d", r);
        FILE *f = fopen(path, "w");
        fprintf(f, "module\t2\t4\na\t0\t1\nb\t0\t1\n");
        fclose(f);
        paths = gm_format(&a, "%s%s%s", paths, *paths ? "," : "", path);
        gm_keys_set(&a, &x.keys, gm_format(&a, "places.r%d", r), "0");
        gm_keys_set(&a, &x.keys, gm_format(&a, "multiplier_num.r%d", r), "0");
        gm_keys_set(&a, &x.keys, gm_format(&a, "limit.r%d", r), "9");
    }
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, paths, &c)), &c) == GM_EINPUT, "17");
    CHECK_TEXT(err.text, "hand: more than 16 limits");
    gm_arena_free(&a);
}

static void test_messages(void) {
    static const char other[] = "build/test/check-work/other.tsv";
    static const char table[] = "build/test/check-work/ms.tsv";
    static const char both[] = "build/test/check-work/other.tsv,"
                               "build/test/check-work/ms.tsv";
    FILE *f = fopen(other, "w");
    fprintf(f, "module\t2\t4\na\t1\t1\nb\t1\t1\n");
    fclose(f);
    f = fopen(table, "w");
    fprintf(f, "# resource ms\nmodule\t2\t4\na\t1\t1\n");
    fclose(f);
    refuses("convention", "pounds", NULL, "hand: convention: expected "
            "bits|ebits|bytes, found \"pounds\"");
    refuses("relation", ">=", NULL, "hand: relation: expected <=|=, found "
            "\">=\"");
    refuses("ties", "optimum", NULL, "hand: ties: expected smallest size, then "
            "fewest bits in module order: proven|any optimum, found "
            "\"optimum\"");
    refuses("recipe", "rtn", NULL, "hand: recipe: no key of a certificate");
    refuses("limit.", "3", NULL, "hand: limit.: no key of a certificate");
    refuses("multiplier_num.ms", "3", NULL, "hand: multiplier_num.ms: expected "
            "places.ms beside it, found none");
    refuses("places.ms", "10", both, "hand: places.ms: expected 0 to 9, found "
            "10");
    refuses("score_shift", "1101", NULL, "hand: score_shift: expected -1100 to "
            "1100, found 1101");
    refuses("limit.ms", "3", both, "build/test/check-work/ms.tsv: no cost of "
            "module b at 2 bits");
    f = fopen(table, "a");
    fprintf(f, "b\t1\tsome\n");
    fclose(f);
    refuses("limit.ms", "3", both, "build/test/check-work/ms.tsv: expected a "
            "decimal number such as 2.5, found \"some\"");
}

static int test_main(void) {
    STATUS(gm_make_dir(dir));
    test_accepts();
    test_refuses();
    test_forgery();
    test_lies();
    test_by_hand();
    test_couplings();
    test_consistent();
    test_uncertified();
    test_many_modules();
    test_many_limits();
    test_messages();
    return test_end("test_check");
}

TEST_MAIN(test_main())
