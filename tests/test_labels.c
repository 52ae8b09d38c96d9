/* test_labels.c: candidates with labels, several of one number of bits: what a
   file says is what is offered; learning does not depend on what they are
   called; scores, allocation, check say the label; every bad word by its
   message; the solvers against all assignments where sizes are equal.
   `test_labels MODEL FILE` writes a file for test_external.sh.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd/cmd.h"
#include "test.h"

#include <math.h>
#include <unistd.h>

static const char work[] = "build/test/labels-work";
enum { GROUP = 32, MOST = 8 };
#define Q "model.layers.0.self_attn.q_proj"

static gm_arena arena;
static gm_model model;
static gm_candidates own;               /* RTN, 2, 3, 4 and 8 bits */

static void must(gm_status s) {
    if (!s) return;
    CHECK(s == GM_OK, "%s", err.text);
    exit(test_end("test_labels"));
}

/* Candidate `from` of own is called `label`, its bits are said to be `bits`; a
   number of bits: "b4", NULL.  Its bytes are the packed ones of own candidate
   `sized` plus `more`. */
typedef struct { const char *label, *bits; int from, sized; long more; } named;
static const named usual[] = {{"q8_0", "8", 3, 3, 0}, {"q4_k", "4", 2, 2, 0},
                              {"q4_0", "4", 1, 1, 100}, {"q2", "2", 0, 0, 0}};
static const int is[] = {2, 3, 4, 8};

/* A key of the metadata is left out, or becomes another. */
typedef struct { const char *key, *to; long gap; const char *added; } change;

static const char *stem(long m) {
    return gm_linear_name(&arena, m / 7, (int)(m % 7));
}

/* gap: this module lacks the first; 0: none. */
static const char *write_file(const char *path, const named *n, int count,
                              const change *c) {
    const long M = model.config.layers * 7;
    const char **meta = gm_alloc(&arena, (size_t)(2 * (M + 2) * (count + 1)),
                                 sizeof *meta);
    gm_tensor *t = gm_alloc(&arena, (size_t)(M * count), sizeof *t);
    long keys = 0, tensors = 0;
    gm_out out;
    for (int i = 0; i < count; i++)
        for (long m = -1; m < M; m++) {
            const char *key = gm_format(&arena, "%s.bits", n[i].label);
            const char *value = n[i].bits;
            if (c->gap && m == c->gap && i == 0) continue;
            if (m >= 0) {
                gm_packed q = gm_candidate(&arena, &own, m / 7, (int)(m % 7),
                                           n[i].from);
                key = gm_format(&arena, "%s.%s.bytes", stem(m), n[i].label);
                value = gm_format(&arena, "%ld", (long)gm_packed_bytes(
                    q.out, q.in, is[n[i].sized], GROUP) + n[i].more);
                t[tensors++] = (gm_tensor){
                    .name = gm_format(&arena, "%s.%s", stem(m), n[i].label),
                    .dtype = GM_F32, .rank = 2, .shape = {q.out, q.in},
                    .bytes = (size_t)(4 * q.out * q.in)};
            }
            const bool changed = c->key && strcmp(key, c->key) == 0;
            if (!value || (changed && !c->to)) continue;
            meta[keys++] = key;
            meta[keys++] = changed ? c->to : value;
        }
    if (c->added) meta[keys++] = c->added, meta[keys++] = c->to;
    gm_safetensors_begin(&arena, path, t, tensors, meta, 0, &out);
    for (int i = 0; i < count; i++)
        for (long m = 0; m < M; m++) {
            if (c->gap && m == c->gap && i == 0) continue;
            gm_packed q = gm_candidate(&arena, &own, m / 7, (int)(m % 7),
                                       n[i].from);
            const size_t size = (size_t)(q.out * q.in);
            gm_real *x = gm_alloc(&arena, size, sizeof *x);
            uint8_t *bytes = gm_alloc(&arena, size, 4);
            gm_dequantize(&q, x);
            gm_store(GM_F32, x, (long)size, bytes);
            gm_out_write(&out, bytes, 4 * size);
        }
    gm_out_commit(&out);
    return path;
}

static const char *file(const char *name, const named *n, int count,
                        const change *c) {
    const char *path = gm_format(&arena, "%s/%s.safetensors", work, name);
    must(STATUS(write_file(path, n, count, c)));
    return path;
}

static void open_file(const char *path, const char *bits, gm_recipe *recipe,
                      gm_candidates *c) {
    must(STATUS(gm_external_open(&arena, &model, path, bits, GROUP, recipe)));
    must(STATUS(gm_candidates_open(&arena, &model, recipe, NULL, work, NULL, c)));
}

/* --------------------------------------------------- what a file says */

static void offered(void) {
    gm_recipe r;
    gm_candidates c;
    gm_scores t;
    char list[GM_RECIPE_TEXT];
    const char *path = file("usual", usual, 4, &(change){
        .gap = 8, .added = "overhead_bytes", .to = "12345"});
    open_file(path, NULL, &r, &c);
    CHECK_TEXT(c.text, "external bits=q2,q4_0,q4_k,q8_0 group=32");
    must(STATUS(gm_module_table(&arena, &model, &r, &t)));
    const int bits[] = {2, 4, 4, 8};
    long wrong = 0;
    for (long i = 0; i < t.M * 4; i++) {
        const int k = (int)(i % 4);
        const bool gap = i == 8 * 4 + 3;
        const int64_t bytes = gm_packed_bytes(t.out[i / 4], t.in[i / 4], is[k],
                                              GROUP) + (k == 1 ? 100 : 0);
        wrong += t.bits[k] != bits[k] || c.allowed[i] == gap ||
                 t.bytes[i] != (gap ? -1 : bytes);
        if (gap) continue;
        gm_packed a = gm_candidate(&arena, &own, i / 28, (int)(i / 4 % 7), k);
        gm_packed b = gm_candidate(&arena, &c, i / 28, (int)(i / 4 % 7), k);
        const size_t n = (size_t)(a.out * a.in);
        gm_real *x = gm_alloc(&arena, n, sizeof *x);
        gm_real *y = gm_alloc(&arena, n, sizeof *y);
        gm_dequantize(&a, x), gm_dequantize(&b, y);
        wrong += memcmp(x, y, n * sizeof *x) != 0;
    }
    CHECK(wrong == 0, "%ld bits, gaps, sizes or weights differ", wrong);
    CHECK(r.external->overhead == 12345, "overhead %ld",
          (long)r.external->overhead);
    CHECK(STATUS(gm_candidate(&arena, &c, 1, 1, 3)) == GM_EINPUT, "a gap");
    CHECK_TEXT(err.text, gm_format(&arena, "%s: module %s: expected a candidate "
                                   "of q8_0, found none", path, stem(8)));
    /* --bits: in any order and case, beside numbers; 16: the weight as stored */
    open_file(path, "Q8_0,q4_0,16", &r, &c);
    gm_recipe_bits(&r, list);
    CHECK_TEXT(list, "q4_0,q8_0,16");
    CHECK(r.bits[0] == 4 && r.bits[1] == 8 && r.bits[2] == 16 &&
          gm_candidate_tensor(&c, 1, 1, 2) == gm_linear_tensor(&model, 1, 1) &&
          r.external->stored[8 * 3 + 2] == 16, "16 beside labels: %g bits",
          r.external->stored[8 * 3 + 2]);
    /* a number of bits beside labels of the same */
    const named mixed[] = {{"b4", NULL, 2, 2, 7}, {"q4_0", "4", 1, 1, 0},
                           {"a", "4", 0, 0, 0}, {"b_4", "4", 3, 3, 0}};
    open_file(file("mixed", mixed, 4, &(change){0}), NULL, &r, &c);
    gm_recipe_bits(&r, list);
    CHECK_TEXT(list, "4,a,b_4,q4_0");
    /* one that the file's first tensor is not of comes first all the same */
    gm_recipe late;
    gm_candidates d;
    open_file(file("late", (named[]){{"a", "4", 0, 0, 0}, {"z", "4", 1, 1, 0}},
                   2, &(change){.gap = 6}), NULL, &late, &d);
    gm_recipe_bits(&late, list);
    CHECK_TEXT(list, "a,z");
    gm_recipe again;
    must(STATUS(gm_recipe_read(c.text, &again)));
    gm_recipe_bits(&again, list);
    CHECK_TEXT(list, "4,a,b_4,q4_0");
}

static void refused(const named *n, int count, const char *bits,
                    const change *c, const char *message) {
    gm_recipe r;
    const char *path = file("bad", n, count, c);
    const gm_status s = STATUS(gm_external_open(&arena, &model, path, bits, GROUP, &r));
    CHECK(s == (bits ? GM_EUSAGE : GM_EINPUT), "status %d: %s", s, message);
    CHECK_TEXT(err.text, gm_format(&arena, message, path));
}

static void bad_files(void) {
    refused(usual, 4, NULL, &(change){.key = "q4_k.bits"}, "%s: tensor \"model."
            "layers.0.mlp.down_proj.q4_k\": expected a module's name and bits "
            "such as " Q ".b3, found no .b and number at its end and no "
            "metadata \"q4_k.bits\" of a label");
    static const char *const bits[] = {"0", "33", "4.5", "", "-4", "04x", "0x4"};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
        refused(usual, 4, NULL, &(change){.key = "q8_0.bits", .to = bits[i]},
                gm_format(&arena, "%%s: metadata \"q8_0.bits\": expected a whole "
                          "number from 1 to 32, found \"%s\"", bits[i]));
    refused(usual, 4, NULL, &(change){.key = Q ".q2.bytes"}, "%s: tensor \"" Q
            ".q2\": expected metadata \"" Q ".q2.bytes\", found none");
    refused(usual, 4, NULL, &(change){.key = Q ".q2.bytes", .to = "1e3"},
            "%s: metadata \"" Q ".q2.bytes\": expected a whole number from 0 to "
            "2^53, found \"1e3\"");
    refused(usual, 4, NULL, &(change){.added = Q ".q5.bytes", .to = "1"},
            "%s: metadata \"" Q ".q5.bytes\": expected a tensor \"" Q ".q5\", "
            "found none");
    static const char *const over[] = {"", "-1", "12 ", "9007199254740993"};
    for (size_t i = 0; i < sizeof over / sizeof *over; i++)
        refused(usual, 4, NULL, &(change){.added = "overhead_bytes",
                                          .to = over[i]},
                gm_format(&arena, "%%s: metadata \"overhead_bytes\": expected a "
                          "whole number from 0 to 2^53, found \"%s\"", over[i]));
    /* names that are no labels: long, upper case, b and a number, odd signs */
    static const char *const bad[] = {"Q4_0", "q4-0", "_q4", "4q", "b04", "q 4",
                                      "abcdefghijklmnopqrstuvwx"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(&(named){bad[i], "4", 2, 2, 0}, 1, NULL, &(change){0},
                gm_format(&arena, "%%s: tensor \"model.layers.0.mlp.down_proj.%s"
                          "\": expected a module's name and bits such as " Q
                          ".b3, found no .b and number at its end", bad[i]));
    static const char *const pick[][2] = {
        {"q4_0,q5_k", "--bits: expected bits that %s has, found q5_k"},
        {"q4_0,4", "--bits: expected bits that %s has, found 4"},
        {"q4_0,q2,Q4_0", "--bits: q4_0 is given twice"},
        {"q4_0,,q2", "--bits: expected an ascending list of 1..8, 16 or 32 such "
         "as 2,3,4, or labels such as q4_0,q8_0, found \"q4_0,,q2\""},
        {"4,2", "--bits: expected an ascending list of 1..8, 16 or 32 such as "
         "2,3,4, found \"4,2\""}};
    for (size_t i = 0; i < sizeof pick / sizeof *pick; i++)
        refused(usual, 4, pick[i][0], &(change){0}, pick[i][1]);
    named many[17];
    for (int i = 0; i < 17; i++)
        many[i] = (named){gm_format(&arena, "t%d", i), "4", i % 4, 0, 0};
    refused(many, 17, NULL, &(change){0}, "%s: expected at most 16 candidates, "
            "found more; --bits picks among them");
    gm_recipe r;
    must(STATUS(gm_external_open(&arena, &model, file("many", many, 17, &(change){0}), "t16,t3", GROUP, &r)));
}

/* --------------------------------------------- learning knows no names */

enum { S = 2, T = 16 };

/* Scores of a file, as they are written. */
static void learn(const char *path, gm_relaxation relaxation, gm_scores *out) {
    const gm_fit_options o = {
        .relaxation = relaxation, .sequences = S, .T = T, .batch = 1,
        .score = relaxation == GM_SOFT_CORRECTED ? GM_SCORE_SCALED
                                                 : GM_SCORE_THETA,
        .steps = 3, .alpha = 0.1, .rho = 10, .eta = 0.02, .tau = 1,
        .rate = 0.1, .tail = 1, .budget = 5, .seed = 1};
    int32_t tokens[S * T];
    gm_recipe recipe;
    gm_candidates c, ordered;
    gm_fit fit;
    for (int i = 0; i < S * T; i++) tokens[i] = (i * 7 + 3) % 60;
    open_file(path, NULL, &recipe, &c);
    must(STATUS(gm_external_order(&arena, &c, &ordered)));
    must(STATUS(gm_fit_begin(&arena, &ordered, tokens, &o, &fit)));
    while (fit.step < o.steps) must(STATUS(gm_fit_step(&fit)));
    must(STATUS(gm_fit_table(&arena, &fit, out)));
    gm_candidates_close(&c);
}

static int column(const gm_scores *s, const char *label) {
    int k = 0;
    while (k < s->K && strcmp(s->label[k], label) != 0) k++;
    return k;
}

/* The same four under drawn names and bits. */
static void learning_is_blind(void) {
    static const char *const name[] = {"a", "q4_0", "zz9", "m_x", "b_2", "iq4",
                                       "c", "e5m2"};
    gm_scores first, other;
    for (int trial = 0; trial < 8; trial++) {
        named n[4];
        char number[4][16];
        const gm_relaxation relaxation = (gm_relaxation)(trial % GM_RELAXATIONS);
        for (int i = 0; i < 4; i++) {
            const uint64_t r = gm_random(7, (uint64_t)trial, (uint64_t)i);
            snprintf(number[i], sizeof number[i], "%d", 1 + (int)(r % 32));
            n[i] = (named){name[(trial + 3 * i) % 8], number[i], i,
                           i == 1 ? 2 : i, 0};
        }
        /* 3 and 4 bits of the same bytes */
        learn(file("one", (named[]){{"q2", "2", 0, 0, 0}, {"q3", "4", 1, 2, 0},
              {"q4", "4", 2, 2, 0}, {"q8", "8", 3, 3, 0}}, 4,
              &(change){.gap = 8}),
              relaxation, &first);
        learn(file("two", n, 4, &(change){.gap = 8}), relaxation, &other);
        long wrong = 0;
        for (int i = 0; i < 4; i++)
            for (long m = 0; m < first.M; m++) {
                static const char *const was[] = {"q2", "q3", "q4", "q8"};
                const long x = m * 4 + column(&first, was[i]);
                const long y = m * 4 + column(&other, n[i].label);
                wrong += first.score[x] != other.score[y] ||
                         first.error[x] != other.error[y] ||
                         first.bytes[x] != other.bytes[y];
            }
        CHECK(wrong == 0, "%s, trial %d: %ld scores differ",
              gm_relaxation_name[relaxation], trial, wrong);
    }
}

/* ----------------------------------------- scores, allocation and check */

static void same_scores(const gm_scores *a, const gm_scores *b) {
    long wrong = a->M != b->M || a->K != b->K || a->overhead != b->overhead;
    for (int k = 0; !wrong && k < a->K; k++)
        wrong += a->bits[k] != b->bits[k] || strcmp(a->label[k], b->label[k]) != 0;
    for (long i = 0; !wrong && i < a->M * a->K; i++)
        wrong += a->bytes[i] != b->bytes[i] || (a->bytes[i] >= 0 &&
                 (a->score[i] != b->score[i] || a->error[i] != b->error[i]));
    CHECK(wrong == 0, "scores read back differ");
}

/* A table of M modules; labels, bits, sizes and scores drawn so that many are
   equal; some gaps. */
static void draw(int trial, long M, gm_scores *s) {
    static const struct { const char *label; int bits; } set[][4] = {
        {{"2", 2}, {"q4_0", 4}, {"q4_k", 4}, {"4", 4}},
        {{"iq4", 4}, {"a8", 8}, {"q4_k", 4}, {"q8", 8}},
        {{"a8", 8}, {"q3", 3}, {"2", 2}, {"q4", 4}}};
    uint64_t at = 0;
    int bits[4];
    for (int k = 0; k < 4; k++) bits[k] = set[trial % 3][k].bits;
    must(STATUS(gm_scores_new(&arena, M, 4, bits, s)));
    s->overhead = trial % 5 * 100;
    for (int k = 0; k < 4; k++) strcpy(s->label[k], set[trial % 3][k].label);
    for (long m = 0; m < M; m++) {
        s->name[m] = gm_format(&arena, "m%ld", m);
        s->out[m] = 8, s->in[m] = 8 + m % 2 * 8;
        s->N += s->weights[m] = s->out[m] * s->in[m];
        for (long i = m * 4; i < m * 4 + 4; i++) {
            const uint64_t r = gm_random(11, (uint64_t)trial, at++);
            s->bytes[i] = i % 4 != m % 4 && r % 7 == 0 ? -1
                        : 20 + (int64_t)(r / 8 % 4) * 8;
            s->score[i] = s->bytes[i] < 0 ? 0 : (double)(r / 64 % 5) / 4;
            s->error[i] = -1;
        }
    }
}

/* The least score within a limit; the smallest size among those. */
static double enumerate(const gm_scores *s, const gm_budget *b, int *best) {
    double least = INFINITY;
    int64_t least_size = 0;
    int choice[8] = {0};
    for (long all = 1L << 2 * s->M, x = 0; x < all; x++) {
        bool there = true;
        double score = 0;
        for (long m = 0; m < s->M; m++) {       /* the first module slowest */
            const long i = m * 4 + (choice[m] = (int)(x >> 2 * (s->M - 1 - m) & 3));
            there = there && s->bytes[i] >= 0;
            score += s->score[i];
        }
        if (!there) continue;
        const gm_sizes z = gm_sizes_of(s, choice);
        const int64_t size = gm_size_in(&z, b->convention);
        if (size > b->limit || score > least ||
            (score == least && size >= least_size)) continue;
        least = score, least_size = size;
        memcpy(best, choice, (size_t)s->M * sizeof *best);
    }
    return least;
}

static void drop_columns(const char *from, const char *to, int column) {
    gm_out out;
    gm_table t;
    gm_table_read(&arena, from, &t);
    gm_out_open(&arena, to, &out);
    for (size_t i = 0; i < t.keys.count; i++)
        gm_out_print(&out, "# %s %s\n", t.keys.key[i].name, t.keys.key[i].value);
    for (long r = -1; r < t.rows; r++)
        for (long c = 0; c < t.columns; c++)
            if (c != column)
                gm_out_print(&out, "%s%s", r < 0 ? t.column[c]
                             : t.cell[r * t.columns + c],
                             c + 1 == t.columns - (column + 1 == t.columns)
                             ? "\n" : "\t");
    gm_out_commit(&out);
}

/* Scores to a file and back, solved in each convention as all assignments say,
   the allocation to a file and back, checked; without its labels it fits only
   where bits say all. */
static void solved(void) {
    static const char *const text[3][2] = {{"3", "5"}, {"3.5", "4.5"},
                                           {"150", "400"}};
    const char *path = gm_format(&arena, "%s/s.tsv", work);
    const char *to = gm_format(&arena, "%s/a.tsv", work);
    const char *bare = gm_format(&arena, "%s/bare.tsv", work);
    long optimal = 0, infeasible = 0, ambiguous = 0, plain = 0;
    for (int trial = 0; trial < 180; trial++) {
        gm_scores s, read;
        gm_allocation a;
        gm_certificate t;
        int choice[8], best[8], again[8];
        draw(trial, 3 + trial % 3, &s);
        must(STATUS(gm_scores_write(&arena, path, &s)));
        must(STATUS(gm_scores_sort(&arena, &s)));   /* as read, in order */
        must(STATUS(gm_scores_read(&arena, path, &read)));
        same_scores(&s, &read);
        const gm_convention in = (gm_convention)(trial / 2 % 3);
        gm_budget b;
        must(STATUS(b = gm_budget_parse(&read, in, text[in][trial % 2])));
        const gm_solve_options o = {.solver = gm_have_glpk() ? GM_BOTH : GM_DP};
        const double least = enumerate(&read, &b, best);
        const gm_status status = STATUS(gm_allocate(&arena, &read, &b, &o, choice, &t, &a));
        CHECK((status == GM_EINFEASIBLE) == (least == INFINITY), "trial %d: "
              "%s", trial, err.text);
        infeasible += status == GM_EINFEASIBLE;
        if (status) continue;
        optimal++;
        CHECK(memcmp(choice, best, (size_t)s.M * sizeof *best) == 0,
              "trial %d: not the one that all assignments give", trial);
        must(STATUS(gm_allocation_write(&arena, to, &a)));
        must(STATUS(gm_allocation_read(&arena, to, &a)));
        must(STATUS(gm_allocation_match(&a, &read, again)));
        CHECK(memcmp(choice, again, (size_t)s.M * sizeof *best) == 0,
              "trial %d: the allocation reads back as another", trial);
        gm_check c;
        must(STATUS(gm_check_allocation(&arena, &a, &read, NULL, &c)));
        CHECK(c.failed == 0 && c.certified, "trial %d: %ld claims", trial,
              c.failed);
        drop_columns(to, bare, 3);
        must(STATUS(gm_allocation_read(&arena, bare, &a)));
        bool two = false;
        for (long m = 0; m < s.M; m++)
            for (int k = 0; k < 4; k++)
                two = two || (k != choice[m] && s.bytes[m * 4 + k] >= 0 &&
                              s.bits[k] == s.bits[choice[m]]);
        CHECK(STATUS(gm_allocation_match(&a, &read, again)) == (two ? GM_EINPUT : GM_OK),
              "trial %d: %s", trial, err.text);
        ambiguous += two;
        plain += !two;
    }
    CHECK(optimal > 60 && infeasible > 2 && ambiguous > 60 && plain > 0,
          "%ld optimal, %ld infeasible, %ld ambiguous, %ld not", optimal,
          infeasible, ambiguous, plain);
}

/* What --allow, --pin, --min-bits, --max-bits leave, as bits of a mask over
   2, 4, q4_0, q4_k of the only module. */
static void restricted(void) {
    static const struct { char option; const char *text; int left; } c[] = {
        {'p', "q4_k", 8}, {'p', "m0=Q4_0", 4}, {'p', "4", 14}, {'p', "*=2", 1},
        {'p', "*>=3", 14}, {'p', "*<=3", 1}, {'m', "3", 14}, {'M', "2", 1},
        {'a', "m0=q4_k", 8}, {'a', "*=2,Q4_0", 5}, {'a', "*=4", 14},
        {'a', "*=4,2", 15}};
    static const struct { char option; const char *text, *message; } bad[] = {
        {'p', "q8", "--pin: expected bits from 1 to 32 or a label of T, found "
         "\"q8\""},
        {'p', "*>=q4_0", "--pin: expected a whole number from 1 to 32, found "
         "\"q4_0\""},
        {'m', "q4_0", "--min-bits: expected a whole number from 1 to 32, found "
         "\"q4_0\""},
        {'a', "*=q8", "--allow: expected bits from 1 to 32 or a label of T, "
         "found \"q8\""},
        {'a', "*=8", "--allow: there are no candidates of 8 bits"}};
    const int bits[] = {2, 4, 4, 4};
    gm_scores s;
    must(STATUS(gm_scores_new(&arena, 1, 4, bits, &s)));
    s.path = "T", s.name[0] = "m0", s.N = s.weights[0] = 8;
    strcpy(s.label[2], "q4_0"), strcpy(s.label[3], "q4_k");
    for (int i = 0; i < (int)(sizeof c / sizeof *c + sizeof bad / sizeof *bad);
         i++) {
        const int b = i - (int)(sizeof c / sizeof *c);
        const char option = b < 0 ? c[i].option : bad[b].option;
        const char *text = b < 0 ? c[i].text : bad[b].text;
        const gm_constraints k = {.pin = option == 'p' ? text : NULL,
                                  .min_bits = option == 'm' ? text : NULL,
                                  .max_bits = option == 'M' ? text : NULL};
        gm_mckp p;
        int left = 0;
        must(STATUS(gm_mckp_new(&arena, 1, 4, &p)));
        p.scores = &s;
        const gm_status status = option == 'a'
            ? STATUS(gm_allow(&arena, &s, text, p.allowed))
            : STATUS(gm_problem_constrain(&arena, &k, &p));
        for (int j = 0; j < 4; j++) left |= p.allowed[j] << j;
        if (b < 0) CHECK(!status && left == c[i].left, "%s leaves %d", text, left);
        else CHECK(status == GM_EUSAGE, "%s", text);
        if (b >= 0) CHECK_TEXT(err.text, bad[b].message);
    }
}

static const char *text_file(const char *name, const char *text) {
    const char *path = gm_format(&arena, "%s/%s", work, name);
    gm_out out;
    must(STATUS(gm_out_open(&arena, path, &out)));
    must(STATUS(gm_out_print(&out, "%s", text)));
    must(STATUS(gm_out_commit(&out)));
    return path;
}

static void bad_tables(void) {
    static const char head[] = "module\tout\tin\tq4_0.bytes\tq4_0.score\t"
                               "q4_k.bytes\tq4_k.score\n";
    static const char row[] = "a\t8\t8\t36\t.5\t36\t.25\n";
    static const char *const keys[][2] = {
        {"", "column q4_0.score: expected its code bits in a line \"# label_bits "
         "q4_0=4\", found none"},
        {"q4_0=4", "column q4_k.score: expected its code bits in a line \"# "
         "label_bits q4_k=4\", found none"},
        {"q4_0=4 q4_k=4 q8_0=8", "no column \"q8_0.bytes\""},
#define BAD "label_bits: expected labels that differ and their bits, such as " \
            "q4_0=4 q8_0=8, at most 16 candidates, found "
        {"q4_0=4 q4_k=0", BAD "\"q4_0=4 q4_k=0\""},
        {"q4_0=4 q4_k=33", BAD "\"q4_0=4 q4_k=33\""},
        {"q4_0=4 q4_k", BAD "\"q4_0=4 q4_k\""},
        {"q4_0=4 q4_0=4", BAD "\"q4_0=4 q4_0=4\""},
        {"Q4_0=4 q4_k=4", BAD "\"Q4_0=4 q4_k=4\""},
        {"q4_0=4, q4_k=4", BAD "\"q4_0=4, q4_k=4\""},
        {"b4=4", BAD "\"b4=4\""}};
    gm_scores s;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *path = text_file("bad.tsv", gm_format(
            &arena, *keys[i][0] ? "# label_bits %s\n%s%s" : "%s%s%s", keys[i][0],
            head, row));
        CHECK(STATUS(gm_scores_read(&arena, path, &s)) == GM_EINPUT, "%s", keys[i][0]);
        CHECK_TEXT(err.text, gm_format(&arena, "%s: %s", path, keys[i][1]));
    }
    const char *path = text_file("bare.tsv", "# label_bits q4_0=4\n"
                                 "module\tout\tin\tq4_0.score\na\t8\t8\t1\n");
    CHECK(STATUS(gm_scores_read(&arena, path, &s)) == GM_EINPUT, "no bytes");
    CHECK_TEXT(err.text, gm_format(&arena, "%s: no column \"q4_0.bytes\"", path));
    /* what an allocation may say of these */
    path = text_file("good.tsv", gm_format(&arena, "# label_bits q4_0=4 q4_k=4\n"
                                           "%s%s", head, row));
    must(STATUS(gm_scores_read(&arena, path, &s)));
    static const char *const rows[][2] = {
        {"bits\na\t4", "line 2: module a: P has q4_0 and q4_k of 4 bits for it: "
         "expected a column label"},
        {"bits\tlabel\na\t4\t-", "line 2: module a: P has no candidate of 4 bits "
         "for it"},
        {"bits\tlabel\na\t4\tq5", "line 2: module a: P has no candidate q5 of 4 "
         "bits for it"},
        {"bits\tlabel\na\t3\tq4_k", "line 2: module a: P has no candidate q4_k "
         "of 3 bits for it"},
        {"bits\tbytes\tlabel\na\t4\t35\tq4_k", "line 2: module a at q4_k: 35 "
         "bytes, but P says 36"},
        {"bits\tlabel\na\t4\tQ4_K", NULL}, {"label\tbits\na\tq4_k\t4.0", NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        gm_allocation a;
        int choice = -1;
        const char *to = text_file("bad-a.tsv", gm_format(&arena, "module\t%s\n",
                                                          rows[i][0]));
        must(STATUS(gm_allocation_read(&arena, to, &a)));
        const gm_status status = STATUS(gm_allocation_match(&a, &s, &choice));
        CHECK(status == (rows[i][1] ? GM_EINPUT : GM_OK) &&
              (status || choice == 1), "%s: %s", rows[i][0], err.text);
        if (!rows[i][1]) continue;
        const char *P = strstr(rows[i][1], "P ");
        CHECK_TEXT(err.text, gm_format(&arena, "%s: %.*s%s%s", to,
                   (int)(P - rows[i][1]), rows[i][1], path, P + 1));
    }
}

static int test_main(int argc, char **argv) {
    gm_recipe recipe;
    if (argc != 1 && argc != 3) return 2;
    must(STATUS(gm_make_dir(work)));
    must(STATUS(gm_model_open(&arena, argc == 3 ? argv[1] : "tests/golden/tiny-qwen3", &model)));
    must(STATUS(gm_recipe_parse("2,3,4,8", GROUP, &recipe)));
    must(STATUS(gm_candidates_open(&arena, &model, &recipe, NULL, work, NULL, &own)));
    if (argc == 3) {
        must(STATUS(write_file(argv[2], usual, 4, &(change){
            .gap = 8, .added = "overhead_bytes", .to = "12345"})));
        return 0;
    }
    offered();
    bad_files();
    learning_is_blind();
    solved();
    restricted();
    bad_tables();
    gm_candidates_close(&own);
    gm_model_close(&model);
    gm_arena_free(&arena);
    return test_end("test_labels");
}

TEST_MAIN(test_main(argc, argv))
