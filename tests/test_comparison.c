/* test_comparison.c: the table of gamma compare without a model: what is added
   is found again, rows pair with gamma's last of their run and budget, damage
   is refused word for word, series are in order of size.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "show/show.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

static const char dir[] = "build/test/comparison-work";
static const char path[] = "build/test/comparison-work/compare.tsv";
static gm_arena arena;

/* A row of three windows of KL `kl` - 1, kl, kl + 1. */
static void add(gm_comparison *c, const char *method, const char *budget,
                const char *run, const char *key, double bits, double kl) {
    double window[] = {kl - 1, kl, kl + 1}, other[] = {3, 4, 5};
    double *kept = gm_alloc(&arena, 3, sizeof *kept);
    memcpy(kept, window, sizeof window);
    gm_compared row = {.method = method, .quantizer = "rtn", .budget = budget,
                       .convention = "bits", .run = run, .key = key,
                       .code_bits = bits, .effective_bits = bits + 0.25,
                       .bytes = bits * 1e6, .evaluations = 7,
                       .seconds = 1.5};
    row.measure = (gm_measure){.perplexity = exp(4), .nll = 4, .nll_error = 0.5, .kl = kl,
                    .kl_error = 0.25, .top1 = 0.5, .top1_error = 0.125,
                    .windows = 3, .window_nll = other, .window_kl = kept,
                    .window_top1 = other};
    CHECK(!STATUS(gm_comparison_add(&arena, c, &row)), "%s: %s", key, err.text);
}

static gm_comparison opened(void) {
    gm_comparison c = {0};
    CHECK(!STATUS(c = gm_comparison_open(&arena, dir)), "%s", err.text);
    return c;
}

static void make_table(void) {
    gm_comparison c = opened();
    CHECK(c.count == 0, "%ld rows of nothing", c.count);
    add(&c, "uniform", "3", "run", "c3", 3, 5);
    add(&c, "gamma", "3", "run", "d3", 2.9, 2);
    add(&c, "gamma", "3", "run", "e3", 2.8, 3);     /* the last one counts */
    add(&c, "gamma", "3", "another", "a3", 2.9, 1);
    add(&c, "uniform", "2", "run", "c2", 2, 9);
    add(&c, "gamma", "2", "run", "d2", 1.9, 8);
    add(&c, "greedy", "4", "run", "f4", 4, 0);
}

static void found_again(void) {
    gm_comparison c = opened();
    static const struct { const char *key; double above; } rows[] = {
        {"c3", 2}, {"d3", NAN}, {"e3", NAN}, {"a3", NAN}, {"c2", 1},
        {"d2", NAN}, {"f4", NAN}};
    char text[GM_ROW_TEXT];
    CHECK(c.count == 7, "%ld rows", c.count);
    CHECK(!gm_comparison_find(&c, "u") && !gm_comparison_find(&c, "u33"),
          "a key that is not there");
    for (int i = 0; i < 7; i++) {
        const gm_compared *r = gm_comparison_find(&c, rows[i].key);
        CHECK(r && r == &c.row[i], "%s", rows[i].key);
        if (!r) continue;
        CHECK(r->paired == !isnan(rows[i].above), "%s: paired", rows[i].key);
        /* all three windows differ by as much: no error */
        CHECK(!r->paired || (r->above == rows[i].above && r->above_error == 0),
              "%s: %g above, error %g", rows[i].key, r->above, r->above_error);
        const gm_measure *m = &r->measure;
        CHECK(m->windows == 3 && m->window_kl[2] == m->kl + 1, "windows");
    }
    gm_compared_text(gm_comparison_find(&c, "c2"), text);
    CHECK_TEXT(text, "uniform\trtn\t2\tbits\t2\t2.25\t2000000\t54.59815\t4\t0.5"
                     "\t9\t0.25\t0.5\t0.125\t1\t0\t7");
}

/* The file as it is, with the first `from` replaced; then opening it says. */
static void refused(const char *file, const char *from, const char *to,
                    const char *message) {
    char *text = NULL;
    CHECK(!STATUS(text = gm_file_text(&arena, file, NULL)), "%s", err.text);
    char *at = strstr(text, from);
    CHECK(at != NULL, "%s has no \"%s\"", file, from);
    FILE *f = fopen(file, "w");
    if (at) fprintf(f, "%.*s%s%s", (int)(at - text), text, to,
                    at + strlen(from));
    fclose(f);
    CHECK(STATUS(gm_comparison_open(&arena, dir)) == GM_EINPUT, "%s", from);
    CHECK(strstr(err.text, message), "\n  found    %s\n  expected %s", err.text,
          message);
    f = fopen(file, "w");
    fputs(text, f);
    fclose(f);
}

static void damage(void) {
    static const char edited[] = ": damaged or edited: expected rows of hash ";
    refused(path, "gamma-compare 1", "gamma-compare 2", "format: expected "
            "\"gamma-compare 1\", found \"gamma-compare 2\"");
    refused(path, "# format gamma-compare 1\n", "", "found \"none\"");
    refused(path, "\tkl\t", "\tKL\t", "column 11: expected the columns of "
            "gamma compare, found \"KL\"");
    refused(path, "\tseconds\t", "\tminutes\t", "column 18: expected the "
            "columns of gamma compare, found \"minutes\"");
    refused(path, "\t54.59815\t", "\t54.59816\t", edited);
    refused(path, "\tanother\t", "\trun\t", edited);
    refused(path, "\tc3\n", "\tc5\n", edited);
    refused(path, "# hash ", "# hush ", "expected rows of hash none, found ");
    refused("build/test/comparison-work/windows-c2.tsv", "8", "7",
            "windows-c2.tsv: expected windows of mean KL 9, as build/test/"
            "comparison-work/compare.tsv has it for uniform 2; found 3 of "
            "mean 8.66");
    refused("build/test/comparison-work/windows-c2.tsv", "\tkl\t", "\tk\t",
            "found 0 of mean 0");
    CHECK(opened().count == 7, "mended again");
}

/* A KL of 0 has no place on a logarithmic axis; sizes ascend. */
static void series(void) {
    gm_comparison c = opened();
    gm_plot plot;
    for (int in = 0; in < 3; in++) {
        plot = gm_comparison_series(&arena, c.row, 7, (gm_convention)in, 0,
                                    NULL);
        CHECK(plot.count == 2 && plot.series[0].count == 2 &&
              plot.series[1].count == 4, "%ld series", plot.count);
        const gm_series *u = &plot.series[0], *g = &plot.series[1];
        CHECK_TEXT(u->name, "uniform");
        CHECK(u->letter == 'u' && g->letter == 'G', "letters");
        CHECK(u->at[0][0] == (in == 1 ? 2.25 : 2) && u->at[1][0] == 9 &&
              u->at[0][1] == (in == 1 ? 3.25 : 3) && u->at[1][1] == 5,
              "uniform: %g %g", u->at[0][0], u->at[0][1]);
        for (int i = 1; i < 4; i++)
            CHECK(g->at[0][i - 1] <= g->at[0][i], "gamma: %g after %g",
                  g->at[0][i], g->at[0][i - 1]);
    }
    CHECK_TEXT(plot.label[0], "file size in MB (10^6 bytes)");
}

/* Ten methods at two sizes, the larger first: KL = f at 2 bits, f / 4 at 3.
   Those of equal f are one series, named in order but gamma first; those of
   largest f go, but never uniform, mix and gamma. */
static void few_series(void) {
    static const struct { const char *method; double f; } m[] = {
        {"uniform", 9}, {"mix", 8}, {"random", 7}, {"greedy", 1},
        {"gram", 2}, {"gamma", 1}, {"first-high", 7}, {"anneal", 1},
        {"evolve", 6}, {"other", 5}};
    static const struct { const char *name; gm_joined line; } left[] = {
        {"uniform", GM_POINTS}, {"mix", GM_POINTS},
        {"gamma\n= greedy\n= anneal", GM_STRONG}, {"gram", GM_LINE},
        {"other", GM_LINE}};
    gm_compared row[20];
    const char *out = NULL;
    for (int i = 0; i < 20; i++) {
        const double f = m[i / 2].f;
        row[i] = (gm_compared){.method = m[i / 2].method,
                               .code_bits = 3 - i % 2};
        row[i].measure.kl = i % 2 ? f : f / 4;
        row[i].measure.kl_error = i % 2 ? f / 100 : f / 200;
    }
    gm_plot p = gm_comparison_series(&arena, row, 20, GM_BITS, 5, &out);
    CHECK(p.count == 5, "%ld series", p.count);
    for (int i = 0; i < 5; i++) {
        const gm_series *s = &p.series[i];
        CHECK_TEXT(s->name, left[i].name);
        CHECK(s->line == left[i].line, "%s: %d", s->name, (int)s->line);
        CHECK(s->at[0][0] == 2 && s->at[0][1] == 3 &&
              s->at[1][0] == 4 * s->at[1][1] && s->at[2][0] == s->at[1][0] / 100
              && s->at[2][1] == s->at[1][1] / 50, "%s: points", s->name);
    }
    CHECK_TEXT(out, "random\n= first-high, evolve");
    p = gm_comparison_series(&arena, row, 20, GM_BITS, 1, &out);
    CHECK(p.count == 3, "uniform, mix and gamma stay: %ld", p.count);
    p = gm_comparison_series(&arena, row, 20, GM_BITS, 0, NULL);
    CHECK(p.count == 10, "all: %ld", p.count);
}

static int test_main(void) {
    CHECK(system("rm -rf build/test/comparison-work") == 0, "rm");
    make_table();
    found_again();
    damage();
    series();
    few_series();
    gm_arena_free(&arena);
    return test_end("test_comparison");
}

TEST_MAIN(test_main())
