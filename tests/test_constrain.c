/* test_constrain.c: couplings as text become the integer program they describe
   (constrain.c): patterns, bounds, fused groups, resources; each refusal word
   for word; and the solved answer obeys.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd/cmd.h"
#include "test.h"

#include <stdlib.h>

static const int bits[4] = {2, 3, 4, 16};
static const char *const part[7] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
    "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};

/* Two blocks of a Llama, 100 weights a module; module 3 has no 16 bits. */
static void make_scores(gm_arena *a, gm_scores *s) {
    STATUS(gm_scores_new(a, 14, 4, bits, s));
    s->path = "s.tsv";
    for (long m = 0; m < 14; m++) {
        s->name[m] = gm_format(a, "model.layers.%ld.%s", m / 7, part[m % 7]);
        s->N += s->weights[m] = 100;
        for (int k = 0; k < 4; k++) {
            s->bytes[4 * m + k] = m == 3 && k == 3 ? -1 : 13 * bits[k];
            s->score[4 * m + k] = (double)(1 + m % 5) / (1 << bits[k] / 2);
        }
    }
}

static gm_status apply(gm_arena *a, const gm_constraints *c, gm_mckp *p) {
    static gm_scores s;
    static gm_budget budget;
    make_scores(a, &s);
    budget = gm_budget_parse(&s, GM_BITS, "3.5");
    gm_problem_build(a, &s, &budget, 30, p);
    return STATUS(gm_problem_constrain(a, c, p));
}

/* What is allowed, one digit a module: bit k of it is candidate k. */
static const char *allowed(const gm_mckp *p) {
    static char text[16];
    for (long m = 0; m < 14; m++) {
        int mask = 0;
        for (int k = 0; k < 4; k++) mask |= p->allowed[4 * m + k] << k;
        text[m] = "0123456789abcdef"[mask];
    }
    return text;
}

static void test_bounds(void) {
    static const struct { gm_constraints c; const char *expected; } table[] = {
        {{0}, "fff7ffffffffff"},
        {{.min_bits = "3"}, "eee6eeeeeeeeee"},
        {{.max_bits = "4"}, "77777777777777"},
        {{.min_bits = "3", .max_bits = "mlp.*=4,*.mlp.*=4"}, "?"},
        {{.pin = "down_proj=4"}, "fff7ff4ffffff4"},
        {{.pin = "model.layers.1.*=2"}, "fff7fff1111111"},
        {{.pin = "*.0.*.q_proj=3", .min_bits = "model.layers.1.mlp.up_proj=16"},
         "2ff7ffffffff8f"},
        {{.pin = "*.down_proj>=3,q_proj<=4,o_proj=3"}, "7ff2ffe7ff2ffe"},
        {{.max_bits = "*_proj=4,q*=2"}, "17777771777777"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        gm_arena a = {0};
        gm_mckp p;
        gm_status s = apply(&a, &table[i].c, &p);
        if (*table[i].expected == '?') {
            CHECK(s == GM_EUSAGE, "status %d", s);
            CHECK_TEXT(err.text, "--max-bits: no module of s.tsv matches "
                                 "\"mlp.*\"");
        } else {
            CHECK(s == GM_OK, "%s", err.text);
            CHECK_TEXT(allowed(&p), table[i].expected);
        }
        gm_arena_free(&a);
    }
}

/* Group numbers, '-' for none. */
static void test_fuse(void) {
    static const struct { const char *fuse, *expected; } table[] = {
        {"q_proj+k_proj+v_proj", "000----111----"},
        {"q_proj+k_proj+v_proj,gate_proj+up_proj", "000-22-111-33-"},
        {"model.layers.0.self_attn.o_proj+model.layers.1.mlp.down_proj",
         "---0---------0"},
        {"up_proj+down_proj,o_proj", "---2-00---3-11"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        gm_arena a = {0};
        gm_mckp p;
        char found[15] = "";
        gm_status s = apply(&a, &(gm_constraints){.fuse = table[i].fuse}, &p);
        CHECK(s == GM_OK, "%s", err.text);
        for (long m = 0; s == GM_OK && m < 14; m++)
            found[m] = (char)(p.group[m] < 0 ? '-' : '0' + p.group[m]);
        CHECK_TEXT(found, table[i].expected);
        gm_arena_free(&a);
    }
}

/* Siblings share the module path, whatever stands between them. */
static void test_fuse_order(void) {
    static const char *const name[4] = {"a.q", "b.q", "b.k", "a.k"};
    static const long expected[4] = {0, 1, 1, 0};
    gm_arena a = {0};
    gm_scores s;
    gm_mckp p;
    gm_constraints c = {.fuse = "q+k"};
    STATUS(gm_scores_new(&a, 4, 4, bits, &s));
    STATUS(gm_mckp_new(&a, 4, 4, &p));
    p.scores = &s;
    for (int m = 0; m < 4; m++) s.name[m] = gm_format(&a, "%s", name[m]);
    CHECK(STATUS(gm_problem_constrain(&a, &c, &p)) == GM_OK, "%s", err.text);
    for (int m = 0; m < 4; m++)
        CHECK(p.group[m] == expected[m], "%s: group %ld", name[m], p.group[m]);
    gm_arena_free(&a);
}

static void test_rows(void) {
    static const char path[] = "build/test/constrain.tsv";
    gm_arena a = {0};
    gm_mckp p;
    gm_scores s;
    make_scores(&a, &s);
    FILE *f = fopen(path, "w");
    fprintf(f, "# resource latency\nmodule\t16\t2\t3\t4\n");
    for (long m = 13; m >= 0; m--)
        fprintf(f, "%s\t%s\t0.25\t%ld.5\t1\n", s.name[m], m == 3 ? "-" : "9",
                m);
    fclose(f);
    f = fopen("build/test/constrain-plain.tsv", "w");
    fprintf(f, "module\t2\t3\t4\t16.cost\n");
    for (long m = 0; m < 14; m++) fprintf(f, "%s\t1\t2\t3\t4\n", s.name[m]);
    fclose(f);
    gm_constraints c = {.resources = "build/test/constrain.tsv:12.125,"
                                     "build/test/constrain-plain.tsv:20"};
    CHECK(apply(&a, &c, &p) == GM_OK, "%s", err.text);
    CHECK(p.rows == 2, "%ld rows", p.rows);
    CHECK_TEXT(p.row[0].name, "latency");
    CHECK_TEXT(p.row[1].name, "constrain-plain.tsv");
    CHECK(p.row[1].limit == 20 && p.row[1].places == 0, "limit");
    for (long i = 0; i < 56; i++)
        CHECK(p.row[1].cost[i] == (i == 15 ? 0 : 1 + i % 4), "cost %ld", i);
    /* three places, those of the limit: everything times 1000 */
    CHECK(p.row[0].limit == 12125 && p.row[0].places == 3, "limit");
    for (long m = 0; m < 14; m++)
        CHECK(p.row[0].cost[4 * m] == 250 &&
              p.row[0].cost[4 * m + 1] == 1000 * m + 500 &&
              p.row[0].cost[4 * m + 2] == 1000 &&
              p.row[0].cost[4 * m + 3] == (m == 3 ? 0 : 9000), "costs of %ld",
              m);
    c.resources = "build/test/constrain.tsv:12";    /* those of the costs */
    CHECK(apply(&a, &c, &p) == GM_OK, "%s", err.text);
    CHECK(p.row[0].limit == 1200 && p.row[0].places == 2 &&
          p.row[0].cost[0] == 25, "two places");
    gm_arena_free(&a);
}

/* A table of costs: `head`, then `cells` for modules first .. 13 (cells NULL:
   none). */
static void write_costs(const char *path, const char *mode, const char *head,
                        int first, const char *cells) {
    FILE *f = fopen(path, mode);
    fprintf(f, "%s", head);
    for (int m = first; cells && m < 14; m++)
        fprintf(f, "model.layers.%d.%s\t%s\n", m / 7, part[m % 7], cells);
    fclose(f);
}

/* The solved answer obeys all at once (GLPK for the rows). */
static void test_obeyed(void) {
    gm_arena a = {0};
    gm_mckp p;
    gm_certificate t;
    gm_constraints c = {.fuse = "q_proj+k_proj+v_proj", .pin = "o_proj=4",
                        .min_bits = "down_proj=3"};
    write_costs("build/test/constrain-16.tsv", "w",
                "module\t2\t3\t4\t16\n", 0, "0\t0\t0\t1");  /* how many at 16 */
    if (gm_have_glpk()) c.resources = "build/test/constrain-16.tsv:1";
    int x[14];
    gm_solve_options options = {.solver = GM_BOTH};
    CHECK(apply(&a, &c, &p) == GM_OK &&
          SOLVED(gm_mckp_solve(&a, &p, &options, x, &t), t) == GM_OK && t.optimal,
          "%s", err.text);
    int high = 0;
    for (int m = 0; m < 14; m++) high += x[m] == 3;
    CHECK(x[0] == x[1] && x[1] == x[2] && x[7] == x[8] && x[8] == x[9], "fused");
    CHECK(x[3] == 2 && x[10] == 2 && x[6] >= 1 && x[13] >= 1, "pin, bound");
    CHECK(!gm_have_glpk() || high <= 1, "%d modules at 16 bits", high);
    gm_arena_free(&a);
}

static void refused(const gm_constraints *c, const char *message) {
    gm_arena a = {0};
    gm_mckp p;
    gm_status s = apply(&a, c, &p);
    CHECK(s == GM_EUSAGE || s == GM_EINPUT || s == GM_EIO, "accepted: %s",
          message);
    CHECK_TEXT(err.text, message);
    gm_arena_free(&a);
}

#define REFUSED(field, value, message)                                         \
    refused(&(gm_constraints){.field = value}, message)

static void test_refused(void) {
    static const char path[] = "build/test/constrain-bad.tsv";
    static const char other[] = "build/test/constrain-other.tsv";
    write_costs(path, "w", "module\t2\t3\t4\t16\n"
                "model.layers.0.self_attn.q_proj\t1\t1\t0.5\t1\n", 0, NULL);
    REFUSED(pin, "q_proj=", "--pin: expected a whole number from 1 to 32, found"
            " \"\"");
    REFUSED(pin, "lm_head=8", "--pin: \"lm_head\" is none of the modules of "
            "s.tsv: embeddings, norms and the output head stay as stored");
    REFUSED(min_bits, "q_proj>=3", "--min-bits: no module of s.tsv matches "
            "\"q_proj>\"");
    REFUSED(pin, ">=3", "--pin: no module of s.tsv matches \"\"");
    REFUSED(pin, "nothing=4", "--pin: no module of s.tsv matches \"nothing\"");
    REFUSED(min_bits, "many", "--min-bits: expected a whole number from 1 to "
            "32, found \"many\"");
    REFUSED(fuse, "q_proj+x", "--fuse: no module of s.tsv matches \"x\"");
    REFUSED(fuse, "q_proj+k_proj,v_proj+q_proj", "--fuse: module "
            "model.layers.0.self_attn.q_proj appears twice");
    write_costs(other, "w", "layer\t2\nx\t1\n", 0, NULL);
    REFUSED(resources, "build/test/constrain-other.tsv:1",
            "build/test/constrain-other.tsv: no column \"module\" or \"name\"");
    write_costs(other, "w", "module\t2\t3\t4\n", 0, "1\t1\t1");
    REFUSED(resources, "build/test/constrain-other.tsv:1",
            "build/test/constrain-other.tsv: no column \"16\"");
    REFUSED(resources, "build/test/constrain-16.tsv:1,"
            "build/test/constrain-16.tsv:1,build/test/constrain-16.tsv:1,"
            "build/test/constrain-16.tsv:1,build/test/constrain-16.tsv:1,"
            "build/test/constrain-16.tsv:1,build/test/constrain-16.tsv:1,"
            "build/test/constrain-16.tsv:1,build/test/constrain-16.tsv:1,"
            "build/test/constrain-16.tsv:1,build/test/constrain-16.tsv:1,"
            "build/test/constrain-16.tsv:1,build/test/constrain-16.tsv:1,"
            "build/test/constrain-16.tsv:1,build/test/constrain-16.tsv:1,"
            "build/test/constrain-16.tsv:1,build/test/constrain-16.tsv:1",
            "at most 16 resources");
    REFUSED(resources, "build/test/constrain-16.tsv:1,"
            "build/test/constrain-16.tsv:2",
            "--resource: two are named \"constrain-16.tsv\"");
    write_costs(other, "w", "# resource my costs\nmodule\t2\nx\t1\n", 0, NULL);
    REFUSED(resources, "build/test/constrain-other.tsv:1",
            "build/test/constrain-other.tsv: resource: expected a name without "
            "spaces, which stands in keys, found \"my costs\"");
    REFUSED(resources, "build/test/constrain-16.tsv:1.0000000001",
            "--resource: expected at most 9 digits after the point, found "
            "\"1.0000000001\"");
    write_costs(other, "w", "module\t2\nx\t1\nx\t2\n", 0, NULL);
    REFUSED(resources, "build/test/constrain-other.tsv:1",
            "build/test/constrain-other.tsv: module x appears twice");
    write_costs(other, "w", "module\t2\t3\t4\t16\n", 0,
                "0.0000000001\t1\t1\t1");
    REFUSED(resources, "build/test/constrain-other.tsv:1",
            "build/test/constrain-other.tsv: expected at most 9 digits after "
            "the point, found \"0.0000000001\"");
    REFUSED(resources, "file", "--resource: expected FILE:LIMIT,..., found "
            "\"file\"");
    REFUSED(resources, "build/test/constrain-bad.tsv:3",
            "build/test/constrain-bad.tsv: module "
            "model.layers.0.self_attn.k_proj is missing");
    write_costs(path, "w", "module\t2\t3\t4\t16\n", 0, "1\t1\t-1\t1");
    REFUSED(resources, "build/test/constrain-bad.tsv:3",
            "build/test/constrain-bad.tsv: line 2: module "
            "model.layers.0.self_attn.q_proj: expected a cost such as 0.25, "
            "found \"-1\"");
    REFUSED(resources, "build/test/constrain-bad.tsv:x", "build/test/"
            "constrain-bad.tsv: line 2: module model.layers.0.self_attn.q_proj: "
            "expected a cost such as 0.25, found \"-1\"");
}

static int test_main(void) {
    test_bounds();
    test_fuse();
    test_fuse_order();
    test_rows();
    test_obeyed();
    test_refused();
    return test_end("test_constrain");
}

TEST_MAIN(test_main())
