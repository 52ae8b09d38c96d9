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

/* A table of costs, two decimals: out / 100 milliseconds a bit. */
static void write_resource(const gm_scores *s, const char *path) {
    FILE *f = fopen(path, "w");
    fprintf(f, "# resource latency\nmodule\t2\t3\t4\t8\t16.cost\n");
    for (long m = s->M - 1; m >= 0; m--) {          /* any order of rows */
        fprintf(f, "%s", s->name[m]);
        for (int k = 0; k < 5; k++)
            fprintf(f, "\t%d.%02d", s->bits[k] * (int)s->out[m] / 100,
                    s->bits[k] * (int)s->out[m] % 100);
        fprintf(f, "\n");
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
            gm_status status = checked(STATUS(gm_check_allocation(&a, &x, &s, resource, &c)), &c);
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
        CHECK(status == GM_EDIFFER && c.failed > 0, "%s changed: status %d",
              key[i], status);
        gm_keys_set(&a, &x.keys, key[i], "%s", was);
    }
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_OK, "restored");
    gm_keys_set(&a, &x.keys, "multiplier_num", "-5");
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_EDIFFER,
          "a negative multiplier");
    CHECK(c.failed == 1 && c.count == 13, "%ld of %ld claims", c.failed,
          c.count);
    gm_keys_set(&a, &x.keys, "multiplier_num", "many");
    CHECK(checked(STATUS(gm_check_allocation(&a, &x, &s, NULL, &c)), &c) == GM_EINPUT, "text");
    CHECK_TEXT(err.text, "build/test/check-work/alloc.tsv: multiplier_num: "
                         "expected a whole number, found \"many\"");
    /* another choice than the certificate's */
    CHECK(solve_file(&a, &s, GM_BITS, "3", &(gm_constraints){0}, &x), "solved");
    x.bits[0] = x.bits[0] == 2 ? 3 : 2;
    x.bytes[0] = -1;
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

/* Two modules of 10 weights at 2 or 4 bits, 6 bits a weight in all: by hand.
     u = {8, 0}, {6, 2}; s = 20, 40; B = 60; lambda = 4/20 = 1/5:
     min(8 + 4, 0 + 8) + min(6 + 4, 2 + 8) - 12 = 8 + 10 - 12 = 6 = u(4, 2). */
static void make_hand(gm_arena *a, gm_scores *s, gm_allocation *x) {
    static const int bits[2] = {2, 4};
    static const double score[4] = {8, 0, 6, 2};
    static const char *name[2] = {"b", "a"};        /* rows in any order */
    static int chosen[2] = {2, 4};
    static int64_t bytes[2] = {-1, 7};
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
        {"convention", "bits"}, {"budget_asked", "3"}, {"budget", "60"},
        {"score_shift", "0"}, {"objective", "6"}, {"bound", "6"},
        {"multiplier_num", "1"}, {"multiplier_den", "5"}, {"lp_bound", "6"}};
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
        &a, x, s, "build/test/check-work/ones.tsv", &c)), &c);
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
    gm_keys_set(&a, &x.keys, "limit.at_4", "1");
    looks(&x, &s, "limit.at_4", true);
    gm_keys_set(&a, &x.keys, "limit.at_4", "0");
    looks(&x, &s, "limit.at_4", false);
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
    gm_keys_set(&a, &x.keys, "places.ms", "1");
    gm_keys_set(&a, &x.keys, "multiplier_num.ms", "0");
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
    refuses("convention", "pounds", NULL, "hand: convention: expected bits, "
            "ebits or bytes, found \"pounds\"");
    refuses("score_shift", "1101", NULL, "hand: score_shift: expected -1100 to "
            "1100, found 1101");
    refuses("score_shift", "57", NULL, "hand: score_shift: scores overflow at "
            "57");                          /* 8 2^57 = 2^60 */
    refuses("limit.ms", "3", both, "build/test/check-work/ms.tsv: no cost of "
            "module b at 2 bits");
    f = fopen(table, "a");
    fprintf(f, "b\t1\tsome\n");
    fclose(f);
    refuses("limit.ms", "3", both, "build/test/check-work/ms.tsv: expected a "
            "decimal number such as 2.5 (at most 12 places), found \"some\"");
}

static int test_main(void) {
    STATUS(gm_make_dir(dir));
    test_accepts();
    test_refuses();
    test_by_hand();
    test_couplings();
    test_many_limits();
    test_messages();
    return test_end("test_check");
}

TEST_MAIN(test_main())
