/* test_tables.c: scores.tsv and alloc.tsv read back as written, files of other
   tools, every refusal word for word, budgets in three conventions.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "test.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static const char path[] = "build/test/tables.tsv";

static void write_text(const char *text) {
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

static char *read_text(gm_arena *a, const char *from) {
    FILE *f = fopen(from, "r");
    char *text = gm_alloc(a, 1 << 16, 1);
    text[fread(text, 1, (1 << 16) - 1, f)] = 0;
    fclose(f);
    return text;
}

/* Numbers that need all 17 digits, a module that lacks candidates, unknown
   errors and keys: back as they were, and written again byte for byte. */
static void test_round_trip(void) {
    static const int bits[3] = {2, 4, 16};
    static const double value[] = {0.1, 1.0 / 3, 1e-300, -2.5, 5e-324,
                                   1.7976931348623157e308, 3, 0,
                                   123456789.123456789};
    gm_arena a = {0};
    gm_scores s, back;
    gm_scores_new(&a, 3, 3, bits, &s);
    s.overhead = INT64_C(1) << 40;
    gm_keys_set(&a, &s.keys, "recipe", "rtn bits=2,4,16 group=128");
    gm_keys_set(&a, &s.keys, "of_later_versions", "%s", "kept  as is");
    for (long m = 0; m < 3; m++) {
        s.name[m] = gm_format(&a, "layer %ld", m);      /* spaces are fine */
        s.out[m] = 10 + m, s.in[m] = 7;
        s.N += s.weights[m] = s.out[m] * s.in[m];
        for (int k = 0; k < 3; k++) {
            long i = 3 * m + k;
            s.bytes[i] = m == 1 && k == 2 ? -1 : 100000 * i;
            s.score[i] = s.bytes[i] < 0 ? 0 : value[i];
            s.error[i] = k == 1 || s.bytes[i] < 0 ? -1 : fabs(value[i]) / 3;
        }
    }
    double at[2][9] = {{0}};
    gm_anchor anchor[2] = {{"2.5", {25, 30, INT64_C(1) << 50}, at[0], 0, -1},
                           {"3", {30, 30, (INT64_C(1) << 50) + 1}, at[1],
                            0, -1}};
    s.anchors = 2, s.anchor = anchor;
    for (long i = 0; i < 9; i++)
        if (s.bytes[i] >= 0) at[0][i] = value[8 - i], at[1][i] = value[i];
    CHECK(STATUS(gm_scores_write(&a, path, &s)) == GM_OK, "%s", err.text);
    char *first = read_text(&a, path);
    CHECK(STATUS(gm_scores_read(&a, path, &back)) == GM_OK, "%s", err.text);
    CHECK(back.M == 3 && back.K == 3 && back.N == s.N &&
          back.overhead == s.overhead && !memcmp(back.bits, bits, sizeof bits),
          "header");
    for (long i = 0; i < 9; i++)
        CHECK(back.bytes[i] == s.bytes[i] && back.score[i] == s.score[i] &&
              back.error[i] == s.error[i], "cell %ld: %.17g, expected %.17g", i,
              back.score[i], s.score[i]);
    for (long m = 0; m < 3; m++)
        CHECK(!strcmp(back.name[m], s.name[m]) && back.out[m] == s.out[m] &&
              back.in[m] == 7 && back.weights[m] == s.weights[m], "row %ld", m);
    CHECK(back.anchors == 2 &&
          !memcmp(back.anchor[0].score, at[0], sizeof at[0]) &&
          !memcmp(back.anchor[1].score, at[1], sizeof at[1]) &&
          !memcmp(back.anchor[1].at, anchor[1].at, sizeof anchor[1].at) &&
          back.anchor[1].error == -1 &&
          !strcmp(back.anchor[0].text, "2.5"), "anchors");
    CHECK_TEXT(gm_keys_get(&back.keys, "of_later_versions"), "kept  as is");
    CHECK(gm_keys_get(&back.keys, "none") == NULL, "a key that is not there");
    gm_scores_write(&a, path, &back);
    CHECK_TEXT(read_text(&a, path), first);
    gm_arena_free(&a);
}

/* Of smoothed anchors: between them the straight line, beyond them the nearest;
   of one alone its own; the table itself without any. */
static void test_anchors(void) {
    static const struct { gm_convention in; int64_t limit; double first, last;
                          const char *says; } want[] = {
        {GM_BITS, 1, 7, 2, "2.5"}, {GM_BITS, 20, 7, 2, "2.5"},
        {GM_BITS, 25, 6.25, 2.25, "2.5 to 3, t = 0.25"},
        {GM_BITS, 40, 4, 3, "3"}, {GM_BITS, 50, 2.5, 2.5, "3 to 4, t = 0.5"},
        {GM_BITS, 60, 1, 2, "4"}, {GM_BITS, 1000, 1, 2, "4"},
        {GM_EBITS, 75, 5.5, 2.5, "2.5 to 3, t = 0.5"},
        {GM_BYTES, 9, 7, 2, "2.5"}, {GM_BYTES, 10, 4, 3, "3"},
        {GM_BYTES, 11, 2.5, 2.5, "3 to 4, t = 0.5"}};
    gm_arena a = {0};
    gm_scores s;
    write_text("# anchors 2.5 20 50 9, 3 40 100 10, 4 60 100 12\n"
               "module\tweights\t2.score\t3.score\t2.score@3\t3.score@3\t"
               "2.score@2.5\t3.score@2.5\t2.score@4\t3.score@4\n"
               "x\t9\t70\t60\t4\t5\t8\t1\t0\t1\n");
    CHECK(STATUS(gm_scores_read(&a, path, &s)) == GM_OK, "%s", err.text);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const gm_budget b = {want[i].in, want[i].limit, "x"};
        const gm_scores *at = gm_scores_at(&a, &s, &b);
        CHECK(at->score[0] == want[i].first && at->score[1] == want[i].last,
              "case %zu: %g %g", i, at->score[0], at->score[1]);
        CHECK_TEXT(gm_keys_get(&at->keys, "scores_at"), want[i].says);
    }
    CHECK(s.score[0] == 70 && !gm_keys_get(&s.keys, "scores_at"), "untouched");
    /* not by two errors at 3: nearer to it than half way, as learned */
    static const struct { int64_t limit; double first; const char *says; } near[] =
        {{10, 7, "2.5"}, {25, 6.25, "2.5 to 3, t = 0.25"},
         {30, 5.5, "2.5 to 3, t = 0.5"}, {31, 70, "2.5 to 3, t = 0.55, as learned"},
         {40, 70, "3, as learned"}, {49, 70, "3 to 4, t = 0.45, as learned"},
         {50, 2.5, "3 to 4, t = 0.5"}, {55, 1.75, "3 to 4, t = 0.75"}, {60, 1, "4"}};
    for (int i = 0; i < 3; i++) s.anchor[i].error = 1;
    s.anchor[0].gain = 3.5, s.anchor[1].gain = 1.5, s.anchor[2].gain = 4;
    for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
        const gm_budget b = {GM_BITS, near[i].limit, "x"};
        const gm_scores *x = gm_scores_at(&a, &s, &b);
        CHECK(x->score[0] == near[i].first, "%zu: %g", i, x->score[0]);
        CHECK_TEXT(gm_keys_get(&x->keys, "scores_at"), near[i].says);
    }
    for (int i = 0; i < 3; i++) s.anchor[i].error = -1;
    s.anchors = 1, s.anchor[0].score[0] = 0.7;
    CHECK(gm_scores_at(&a, &s, &(gm_budget){GM_BITS, 50, "x"})->score[0] == 0.7,
          "one alone");
    s.anchors = 0;
    CHECK(gm_scores_at(&a, &s, &(gm_budget){GM_BITS, 20, "x"}) == &s, "none");
    gm_arena_free(&a);
}

/* Shortest text that reads back: 17 digits only where they are needed. */
static void test_doubles(void) {
    CHECK_TEXT(gm_double_text(0.1).text, "0.1");
    CHECK_TEXT(gm_double_text(100000).text, "1e+05");
    CHECK_TEXT(gm_double_text(1.0 / 3).text, "0.3333333333333333");
    for (int i = 0; i < 20000; i++) {
        uint64_t word = gm_random(1, 2, (uint64_t)i);
        double x;
        memcpy(&x, &word, sizeof x);
        if (!isfinite(x)) continue;
        const gm_shown text = gm_double_text(x);
        CHECK(strtod(text.text, NULL) == x, "%.17g became %s", x, text.text);
    }
}

/* Other tools' allocations: name or module, bits, anything else besides. */
static void test_foreign(void) {
    static const int bits[2] = {3, 8};
    gm_arena a = {0};
    gm_scores s;
    gm_allocation x;
    int choice[2];
    gm_scores_new(&a, 2, 2, bits, &s);
    s.path = "s.tsv";
    s.name[0] = "a", s.name[1] = "b";
    s.bytes[3] = -1;
    write_text("bits\tname\tcomment\n3\tb\tok\n8\ta\t\n");
    CHECK(STATUS(gm_allocation_read(&a, path, &x)) == GM_OK, "%s", err.text);
    CHECK(STATUS(gm_allocation_match(&x, &s, choice)) == GM_OK && choice[0] == 1 &&
          choice[1] == 0, "%s", err.text);
    static const struct { const char *text, *message; } bad[] = {
        {"module\tbits\na\t3\n", "build/test/tables.tsv: module b of s.tsv is "
                                 "missing"},
        {"module\tbits\na\t3\nb\t3\nc\t3\n", "build/test/tables.tsv: line 4: "
                                             "module c is not in s.tsv"},
        {"module\tbits\na\t3\nb\t8\n", "build/test/tables.tsv: line 3: module "
                                       "b: s.tsv has no candidate of 8 bits for it"},
        {"module\tbits\tbytes\na\t3\t5\nb\t3\t0\n", "build/test/tables.tsv: "
         "line 2: module a at 3 bits: 5 bytes, but s.tsv says 0"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(bad[i].text);
        CHECK(STATUS(gm_allocation_read(&a, path, &x)) == GM_OK, "%s", err.text);
        CHECK(STATUS(gm_allocation_match(&x, &s, choice)) == GM_EINPUT, "match");
        CHECK_TEXT(err.text, bad[i].message);
    }
    gm_arena_free(&a);
}

/* Only module (or name), weights (or out and in) and scores: sizes by the packed
   layout with the header's group, or of the codes alone, which the key `sizes`
   then says and which no table of sizes is held against. */
static void test_scores_of_other_tools(void) {
    gm_arena a = {0};
    gm_scores s;
    gm_allocation alloc;
    int choice[2] = {0, 0};
    write_text("name\tout\tin\t3.score\t2.score\nx\t6\t200\t0\t1.5\n"
               "y\t2\t100\t-\t0.25\n");
    CHECK(STATUS(gm_scores_read(&a, path, &s)) == GM_OK, "%s", err.text);
    CHECK(s.K == 2 && s.bits[0] == 2 && s.bits[1] == 3, "candidates");
    CHECK(s.weights[0] == 1200 && s.N == 1400, "%" PRId64 " weights", s.N);
    CHECK(s.score[0] == 1.5 && s.score[1] == 0 && s.score[2] == 0.25, "scores");
    /* 2 bits: 50 code bytes a row, 2 groups of 128: 4 + 1 */
    CHECK(s.bytes[0] == 6 * (50 + 4 + 1) && s.bytes[1] == 6 * (75 + 4 + 1) &&
          s.bytes[2] == 2 * (25 + 2 + 1) && s.bytes[3] == -1,
          "bytes %" PRId64, s.bytes[0]);
    CHECK(s.error[0] == -1 && s.overhead == 0, "what is not there");
    CHECK(gm_keys_get(&s.keys, "sizes") == NULL, "sizes");
    write_text("# group 64\nmodule\tout\tin\t2.score\nx\t6\t200\t1.5\n");
    CHECK(STATUS(gm_scores_read(&a, path, &s)) == GM_OK, "%s", err.text);
    CHECK(s.bytes[0] == 6 * (50 + 8 + 1), "group: bytes %" PRId64, s.bytes[0]);
    /* weights alone */
    write_text("module\tweights\t2.score\t3.score\nx\t5\t2\t1\ny\t9\t1\t0\n");
    CHECK(STATUS(gm_scores_read(&a, path, &s)) == GM_OK, "%s", err.text);
    CHECK(s.bytes[0] == 2 && s.bytes[1] == 2 && s.bytes[2] == 3 &&
          s.bytes[3] == 4, "bytes of codes");
    CHECK_TEXT(gm_keys_get(&s.keys, "sizes"), "codes");
    s.bytes[2] = 1000;          /* another tool's table of sizes */
    write_text("# sizes codes\nname\tbits\tbytes\ny\t2\t3\nx\t3\t2\n");
    CHECK(STATUS(gm_allocation_read(&a, path, &alloc)) == GM_OK, "%s", err.text);
    CHECK(STATUS(gm_allocation_match(&alloc, &s, choice)) == GM_OK &&
          choice[0] == 1 && choice[1] == 0, "%s", err.text);
    gm_arena_free(&a);
}

#define HEAD "module\tout\tin\tweights\t2.bytes\t2.score\t2.stderr\n"
#define ROW "a\t1\t8\t8\t2\t0.5\t-\n"
#define T "build/test/tables.tsv: "

static void test_refused(void) {
    static const struct { bool alloc; const char *text, *message; } bad[] = {
        {false, "# format gamma-scores 2\n" HEAD ROW, T "format: expected "
         "\"gamma-scores 1\", found \"gamma-scores 2\""},
        {false, HEAD, T "no modules"},
        {false, "module\tweights\na\t1\n", T "no column \"b.score\" for any "
         "number of bits b"},
        {false, "module\tout\tin\t2.score\na\t0\t3\t1\n", T "line 2: a: column "
         "out: expected at least 1, found \"0\""},
        {false, "module\tout\tin\t2.score\na\t2\t0\t1\n", T "line 2: a: column "
         "in: expected at least 1, found \"0\""},
        {false, "module\tout\tin\t2.score\na\t9007199254740992\t"
         "9007199254740992\t1\n", T "more than 2^53 weights"},
        {false, "module\tweights\t2.bytes\t2.score\na\t9007199254740992\t1\t1\n"
         "b\t1\t1\t1\n", T "more than 2^53 weights"},
        {false, "module\tout\t2.score\na\t1\t1\n", T "no column "
         "\"weights\""},
        {false, "# group 0\nmodule\tout\tin\t2.score\na\t2\t8\t1\n", T "group: "
         "expected a whole number from 1 to 512, found \"0\""},
        {false, "module\tweights\t2.bytes\t2.score\na\t1\t9007199254740992\t1\n"
         "b\t1\t1\t1\n", T "more than 2^53 bytes"},
        {false, "module\tweights\t2.score\na\t8\t-\n", T "line 2: a: no "
         "candidate at all"},
        {false, "weights\t2.bytes\t2.score\n1\t1\t1\n", T "no column "
         "\"module\" or \"name\""},
        {false, "module\t2.bytes\t2.score\na\t1\t1\n", T "no column "
         "\"weights\""},
        {false, "module\tweights\t2.bytes\na\t1\t1\n", T "no column "
         "\"2.score\""},
        {false, "module\tweights\t33.bytes\na\t1\t1\n", T "column 33.bytes: "
         "expected bits from 1 to 32 and at most 16 candidates"},
        {false, HEAD "a\t1\t8\t8\t-1\t0.5\t-\n", T "line 2: a: column 2.bytes: "
         "expected a whole number, found \"-1\""},
        {false, HEAD "a\t1\t8\t8\t2\tnan\t-\n", T "line 2: a: column 2.score: "
         "expected a finite number, found \"nan\""},
        {false, HEAD "a\t1\t8\t8\t2\t1e999\t-\n", T "line 2: a: column "
         "2.score: expected a finite number, found \"1e999\""},
        {false, HEAD "a\t1\t8\t8\t2\t1x\t-\n", T "line 2: a: column 2.score: "
         "expected a finite number, found \"1x\""},
        {false, HEAD "a\t1\t8\t8\t2\t1\t-3\n", T "line 2: a: column 2.stderr: "
         "expected a standard error >= 0, found \"-3\""},
        {false, HEAD "a\t1\t8\t0\t2\t1\t-\n", T "line 2: a: column weights: "
         "expected at least 1, found \"0\""},
        {false, HEAD "a\t1\t8\t9007199254740993\t2\t1\t-\n", T "line 2: a: "
         "column weights: expected a number up to 2^53, found "
         "\"9007199254740993\""},
        {false, HEAD "a\t1\t8\t8\t-\t-\t-\n", T "line 2: a: no candidate at "
         "all"},
        {false, HEAD ROW ROW, T "module a appears twice"},
        {false, HEAD "\t1\t8\t8\t2\t1\t-\n", T "line 2: empty module name"},
        {false, "# weights 9\n" HEAD ROW, T "weights: the header says 9, the "
         "modules sum to 8"},
        {false, "# overhead_bytes -5\n" HEAD ROW, T "overhead_bytes: expected "
         "a whole number from 0 to 9007199254740992, found \"-5\""},
        {false, "# anchors 3 1 2\n" HEAD ROW, T "anchors: expected "
         "\"BUDGET CODE_BITS EFFECTIVE_BITS FILE_BYTES, ...\", none of which "
         "falls, found \"3 1 2\""},
        {false, "# anchors 3 1 2 3 4\n" HEAD ROW, T "anchors: expected "
         "\"BUDGET CODE_BITS EFFECTIVE_BITS FILE_BYTES, ...\", none of which "
         "falls, found \"3 1 2 3 4\""},
        {false, "# anchors 3 1 2 x\n" HEAD ROW, T "anchors: expected "
         "\"BUDGET CODE_BITS EFFECTIVE_BITS FILE_BYTES, ...\", none of which "
         "falls, found \"3 1 2 x\""},
        {false, "# anchors 3 5 6 7, 4 5 5 8\n" HEAD ROW, T "anchors: expected "
         "\"BUDGET CODE_BITS EFFECTIVE_BITS FILE_BYTES, ...\", none of which "
         "falls, found \"3 5 6 7, 4 5 5 8\""},
        {false, "# anchors 3 5 6 7,\n" HEAD ROW, T "anchors: expected "
         "\"BUDGET CODE_BITS EFFECTIVE_BITS FILE_BYTES, ...\", none of which "
         "falls, found \"3 5 6 7,\""},
        {false, "# anchors 3 -1 2 3\n" HEAD ROW, T "anchors: expected "
         "\"BUDGET CODE_BITS EFFECTIVE_BITS FILE_BYTES, ...\", none of which "
         "falls, found \"3 -1 2 3\""},
        {false, "# anchors 3 1 2 3, , 4 5 6 7\n" HEAD ROW, T "anchors: expected "
         "\"BUDGET CODE_BITS EFFECTIVE_BITS FILE_BYTES, ...\", none of which "
         "falls, found \"3 1 2 3, , 4 5 6 7\""},
        {false, "# anchors 3 1 2 3\n" HEAD ROW, T "no column \"2.score@3\""},
        {false, "# anchors 3 1 2 3\n# kl_gain x\n" HEAD ROW, T "kl_gain: "
         "expected a number of each of 1 anchors, found \"x\""},
        {false, "# anchors 3 1 2 3\n# kl_gain 1, 2\n" HEAD ROW, T "kl_gain: "
         "expected a number of each of 1 anchors, found \"1, 2\""},
        {false, "# anchors 3 1 2 3, 4 5 6 7\n# kl_gain_error 1\n" HEAD ROW, T
         "kl_gain_error: expected a number of each of 2 anchors, found \"1\""},
        {true, "# format gamma-scores 1\nmodule\tbits\na\t2\n", T "format: "
         "expected \"gamma-alloc 1\", found \"gamma-scores 1\""},
        {true, "layer\tbits\na\t2\n", T "no column \"module\" or \"name\""},
        {true, "module\twidth\na\t2\n", T "no column \"bits\""},
        {true, "module\tbits\n", T "no modules"},
        {true, "module\tbits\na\t0\n", T "line 2: a: column bits: expected 1 "
         "to 32, found \"0\""},
        {true, "module\tbits\na\t2.5\n", T "line 2: a: column bits: expected a "
         "whole number, found \"2.5\""},
        {true, "module\tbits\na\t2\na\t3\n", T "module a appears twice"},
        {true, "module\tbits\na\t2\na.weight\t3\n", T "module a appears "
         "twice"},
        {true, "module\tbits\na.weight.weight\t2\na\t3\n", T "module a "
         "appears twice"},
        {true, "bits\tmodule\n2\t#a\n", T "line 2: # before a module name"},
        {true, "module\tbits\n\"#a\"\t2\n", T "line 2: # before a module "
         "name"},
        {true, "module\tbits\na\t3,0\n", T "line 2: a: column bits: expected "
         "a whole number with a point, not a comma, found \"3,0\""},
        {true, "module\tbits\na\t3.01\n", T "line 2: a: column bits: expected "
         "a whole number, found \"3.01\""},
        {true, "module\tbits\na\t.0\n", T "line 2: a: column bits: expected "
         "a whole number, found \".0\""},
        {true, "module\tbits\na\t\n", T "line 2: a: column bits: expected "
         "a whole number, found \"\""},
        {true, "module,bits\na,3\n", T "line 1: expected cells separated by "
         "tabs, found \"module,bits\""},
        {false, HEAD "a\t1\t8\t8\t2\t0,5\t-\n", T "line 2: a: column 2.score: "
         "expected a finite number with a point, not a comma, found "
         "\"0,5\""}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gm_arena a = {0};
        gm_scores s;
        gm_allocation x;
        write_text(bad[i].text);
        gm_status status = bad[i].alloc ? STATUS(gm_allocation_read(&a, path, &x))
                                        : STATUS(gm_scores_read(&a, path, &s));
        CHECK(status == GM_EINPUT, "case %zu: status %d", i, status);
        CHECK_TEXT(err.text, bad[i].message);
        gm_arena_free(&a);
    }
}

/* floor(decimal * unit) in integers: 2.3 * 10 is 23, though 2.3 as a double
   times 10 may fall short. */
static void test_budgets(void) {
    static const struct { gm_convention in; const char *text; int64_t limit; }
        good[] = {{GM_BITS, "2.3", 23}, {GM_BITS, "0.19", 1}, {GM_EBITS, "4", 40},
                  {GM_BYTES, "1234567", 1234567}, {GM_BYTES, "1.5K", 1500},
                  {GM_BYTES, "1.5KB", 1500}, {GM_BYTES, "1.5KiB", 1536},
                  {GM_BYTES, "2M", 2000000}, {GM_BYTES, "0.5GiB", 536870912},
                  {GM_BYTES, "3G", INT64_C(3000000000)}, {GM_BYTES, "7B", 7},
                  {GM_BYTES, "1.9999", 1},
                  {GM_BYTES, "1.00000000000000000000000000000000000000001K",
                   1000}, {GM_BITS, "0.19999999999999999999", 1}};
    static const char *const bad[] = {"", "-1", "0", "0.0000001", "1e3", "M",
                                      "1 M", "2T", "1KKB", "inf",
                                      "99999999999999999999"};
    gm_arena a = {0};
    gm_scores s = {.N = 10};
    gm_budget b;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        gm_status status = STATUS(b = gm_budget_parse(&s, good[i].in, good[i].text));
        CHECK(status == GM_OK && b.limit == good[i].limit, "%s: %" PRId64
              ", expected %" PRId64, good[i].text, b.limit, good[i].limit);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char message[160];
        CHECK(STATUS(b = gm_budget_parse(&s, GM_BYTES, bad[i])) == GM_EUSAGE,
              "accepted \"%s\"", bad[i]);
        snprintf(message, sizeof message, "budget: expected a positive decimal"
                 " number of bytes, such as 50000000, 50M or 47.5MiB, found "
                 "\"%s\"", bad[i]);
        CHECK_TEXT(err.text, message);
    }
    gm_arena_free(&a);
}

/* Claim: as pandas and torch write them: whole numbers with a point, the
   names of weights; with a spreadsheet's mark, line ends, quotes and padding. */
static void test_pandas(void) {
    gm_arena a = {0};
    gm_scores s;
    gm_allocation x;
    int choice[2] = {-1, -1};
    write_text("\xEF\xBB\xBF\"# model \"\"m\"\", a\"\t\t\r\n\t\t\t\r\nmodule\t"
               "weights\t2.bytes\t2.score\t3.bytes\t3.score\t\r\n"
               "\"a.weight\"\t8.0\t1.0\t1e0\t3.00\t\"0.5\"\r\n"
               "b\t8.\t1\t1\t3\t0.5\t\t\t\r\n");
    CHECK(STATUS(gm_scores_read(&a, path, &s)) == GM_OK, "%s", err.text);
    CHECK(s.M == 2 && s.weights[0] == 8 && s.bytes[1] == 3 &&
          s.score[1] == 0.5, "its numbers");
    CHECK_TEXT(s.name[0], "a");
    CHECK_TEXT(gm_keys_get(&s.keys, "model"), "\"m\", a");
    write_text("name\tbits\r\nb.weight\t2.0\r\na.weight\t3.0\r\n");
    CHECK(STATUS(gm_allocation_read(&a, path, &x)) == GM_OK, "%s", err.text);
    CHECK(STATUS(gm_allocation_match(&x, &s, choice)) == GM_OK &&
          choice[0] == 1 && choice[1] == 0, "%s", err.text);
    gm_arena_free(&a);
}

static int test_main(void) {
    STATUS(gm_make_dir("build/test"));
    test_round_trip();
    test_anchors();
    test_doubles();
    test_foreign();
    test_scores_of_other_tools();
    test_refused();
    test_budgets();
    test_pandas();
    return test_end("test_tables");
}

TEST_MAIN(test_main())
