/* test_plot.c: the text plot puts points, ticks and numbers where they belong;
   the SVG is well-formed XML, tells every series apart without colour, and
   stays within its frame; bad series are refused by name.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "show/show.h"
#include "test.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static const char svg_path[] = "build/test/plot.svg";

/* ------------------------------------------------- a strict parser of XML

   Elements, attributes in double quotes, text with the five entities; no
   comments, no CDATA.  Returns where it stopped for good: *at == 0 and depth 0
   at the end of a well-formed document. */
typedef struct { const char *at; const char *wrong; long elements, texts; } xml;

static void spaces(xml *x) { while (isspace((unsigned char)*x->at)) x->at++; }

static long name(xml *x) {
    long n = 0;
    while (isalnum((unsigned char)x->at[n]) || x->at[n] == '-' ||
           x->at[n] == ':')
        n++;
    x->at += n;
    return n;
}

/* Characters up to `end`; '<' and bare '&' are wrong. */
static void characters(xml *x, char end) {
    static const char *const entity[] = {"&amp;", "&lt;", "&gt;", "&quot;",
                                         "&#39;"};
    for (; *x->at && *x->at != end && !x->wrong; x->at++) {
        if (*x->at == '<') x->wrong = "'<' in characters";
        if (*x->at != '&') continue;
        bool known = false;
        for (int i = 0; i < 5; i++)
            known |= strncmp(x->at, entity[i], strlen(entity[i])) == 0;
        if (!known) x->wrong = "unknown entity";
    }
}

/* name="value" ..., each name once. */
static void attributes(xml *x) {
    const char *seen[32];
    long length[32];
    int count = 0;
    for (;;) {
        bool apart = isspace((unsigned char)*x->at);
        spaces(x);
        if (*x->at == '>' || *x->at == '/' || *x->at == '?') return;
        seen[count] = x->at;
        length[count] = name(x);
        if (!apart || !length[count] || x->at[0] != '=' || x->at[1] != '"') {
            x->wrong = "attribute";
            return;
        }
        for (int i = 0; i < count; i++)
            if (length[i] == length[count] &&
                strncmp(seen[i], seen[count], (size_t)length[i]) == 0)
                x->wrong = "attribute twice";
        x->at += 2;
        characters(x, '"');
        if (*x->at++ != '"' || ++count == 32) x->wrong = "attribute value";
        if (x->wrong) return;
    }
}

static void element(xml *x) {
    if (*x->at++ != '<') { x->wrong = "'<' expected"; return; }
    const char *tag = x->at;
    long n = name(x);
    x->elements++;
    if (!n) x->wrong = "element name";
    attributes(x);
    if (x->wrong) return;
    if (x->at[0] == '/' && x->at[1] == '>') { x->at += 2; return; }
    if (*x->at++ != '>') { x->wrong = "'>' expected"; return; }
    while (!x->wrong) {
        const char *from = x->at;
        while (*x->at && *x->at != '<') {
            if (*x->at == '&') characters(x, ';');
            if (x->wrong) return;
            x->at++;
        }
        x->texts += x->at > from && !isspace((unsigned char)*from);
        if (x->at[0] == '<' && x->at[1] == '/') break;
        if (!*x->at) { x->wrong = "end of file inside an element"; return; }
        element(x);
    }
    if (x->wrong) return;
    x->at += 2;
    if (strncmp(x->at, tag, (size_t)n) != 0 || x->at[n] != '>')
        x->wrong = "closing tag differs";
    x->at += n + 1;
}

static xml parse_xml(const char *text) {
    xml x = {.at = text};
    if (strncmp(x.at, "<?xml", 5) == 0) {
        x.at += 5;
        attributes(&x);
        if (strncmp(x.at, "?>", 2) != 0) x.wrong = "xml declaration";
        x.at += 2;
    }
    spaces(&x);
    if (!x.wrong) element(&x);
    if (!x.wrong) spaces(&x);
    if (!x.wrong && *x.at) x.wrong = "more than one root";
    return x;
}

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, 1 << 20);
    if (file && fread(text, 1, (1 << 20) - 1, file) == 0) text[0] = 0;
    if (file) fclose(file);
    return text;
}

/* The parser itself refuses what is not well-formed. */
static void parser_is_strict(void) {
    static const char *const wrong[] = {
        "<a><b></a>", "<a b=1/>", "<a b=\"1\" b=\"2\"/>", "<a>&nbsp;</a>",
        "<a>", "<a/><b/>", "<a b=\"<\"/>", "<a b=\"1\"c=\"2\"/>", "text"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(parse_xml(wrong[i]).wrong != NULL, "accepted %s", wrong[i]);
    CHECK(parse_xml("<a b='1'/>").wrong != NULL, "single quotes");
    CHECK(!parse_xml("<a b=\"1 &amp; 2\"><c/>x &lt; y</a>\n").wrong, "good");
}

/* The n-th number behind `what`. */
static double number_behind(const char *text, const char *what, int n) {
    const char *at = strstr(text, what);
    double x = NAN;
    if (!at) return x;
    at += strlen(what);
    for (char *end; n >= 0; n--, at = end) {
        at += strcspn(at, "-0123456789");
        x = strtod(at, &end);
    }
    return x;
}

/* -------------------------------------------------------------------- plots */

static const double size[3] = {2.25, 2.5, 3}, kl[3] = {0.3, 0.1, 0.02};
static const double size2[2] = {2.25, 3}, kl2[2] = {0.9, 0.02};

static const gm_series two[2] = {
    {"gamma", 'G', true, 3, {size, kl}},
    {"<uniform> & \"others\"", 'u', true, 2, {size2, kl2}}};
static const gm_plot pareto = {
    "KL against size", {"average code bits", "KL in nats"}, {false, true}, two,
    2};

/* Each point's letter at its place: for 61 columns right of the margin and 21
   rows, column = round(60 f), row = round(20 (1 - f)), f by definition. */
static void text_places(void) {
    gm_arena a = {0};
    const char *text = "";
    CHECK(STATUS(text = gm_plot_text(&a, &pareto, 72, 21)) == GM_OK, "%s",
          err.text);
    /* the ranges, 5 % wider on both sides */
    double x0 = 2.25 - 0.05 * 0.75, x1 = 3 + 0.05 * 0.75;
    double span = log(0.9 / 0.02);
    double y0 = log(0.02) - 0.05 * span, y1 = log(0.9) + 0.05 * span;
    static const char expected[5] = {'G', 'G', '*', 'u', '*'};
    const double *xs[5] = {size, size + 1, size + 2, size2, size2 + 1};
    const double *ys[5] = {kl, kl + 1, kl + 2, kl2, kl2 + 1};
    const char *row = strchr(strchr(text, '\n') + 1, '\n') + 1;
    for (int i = 0; i < 5; i++) {
        long c = lround(60 * (*xs[i] - x0) / (x1 - x0));
        long r = lround(20 * (1 - (log(*ys[i]) - y0) / (y1 - y0)));
        char found = row[r * 73 + 11 + c];
        CHECK(found == expected[i], "point %d: expected %c at row %ld column "
              "%ld, found %c in\n%s", i, expected[i], r, c, found, text);
    }
    CHECK(strncmp(text, "KL against size\nKL in nats (log scale)\n", 39) == 0,
          "%s", text);
    CHECK(strstr(text, "\n     0.05 +") && strstr(text, "\n      0.5 +") &&
          strstr(text, "\n      0.1 +"), "numbers of y:\n%s", text);
    CHECK(strstr(text, " 2.4 ") && strstr(text, " 2.8 ") &&
          strstr(text, "average code bits\n"), "numbers of x:\n%s", text);
    CHECK(strstr(text, "G gamma   u <uniform> & \"others\"\n") != NULL,
          "legend:\n%s", text);
    gm_arena_free(&a);
}

/* Thirteen series: well-formed, all names there, no two series with the same
   marker, no colour, all points within the frame. */
static void svg_of_many(void) {
    gm_arena a = {0};
    gm_series many[13];
    char names[13][32];
    for (int i = 0; i < 13; i++) {
        snprintf(names[i], sizeof names[i], "method-%d", i);
        many[i] = (gm_series){names[i], 0, true, 3, {size, kl}};
    }
    many[12].name = two[1].name;
    many[11].name = "short\n= and another much longer one";
    gm_plot plot = pareto;
    plot.series = many, plot.count = 13;
    CHECK(STATUS(gm_figure_file(&a, gm_plot_svg, &plot, svg_path)) == GM_OK, "%s", err.text);
    char *text = read_file(svg_path);
    xml x = parse_xml(text);
    CHECK(!x.wrong, "%s at ...%.60s", x.wrong, x.at);
    CHECK(x.texts >= 13 + 3 + 6, "%ld texts", x.texts);
    CHECK(strstr(text, "&lt;uniform&gt; &amp; &quot;others&quot;") != NULL,
          "escaped name");
    CHECK(strstr(text, ">KL in nats (log scale)<") &&
          strstr(text, ">average code bits<"), "axes' labels");
    char *marker[13], *at = text;
    for (int i = 0; i < 13; i++) {
        /* the legend's marker of series i stands at x = 635 */
        at = strstr(at, "translate(635.0");
        marker[i] = at ? strstr(at, "d=\"") : "";
        CHECK(at != NULL, "no legend entry %d", i);
        if (at) at++;
    }
    for (int i = 0; i < 13; i++)
        for (int j = 0; j < i; j++)
            CHECK(strncmp(marker[i], marker[j],
                          strcspn(marker[i], "\n")) != 0,
                  "series %d and %d have the same marker", i, j);
    /* looks are classes that the style knows, so that a page can say them */
    CHECK(!strstr(text, "stroke=\"") && !strstr(text, "fill=\""), "a look");
    for (at = strstr(text, "</style>"); (at = strstr(at, "class=\"")); at++) {
        char known[32] = "svg .";
        sscanf(at, "class=\"%20[a-z0-9]", known + 5);
        CHECK(strstr(gm_svg_style, known) != NULL, "%s", known);
    }
    const double width = number_behind(text, "width=", 0);
    CHECK(width >= 590 + 25 + 48 + 7 * strlen("= and another much longer one"),
          "a legend of %g pixels", width);
    for (at = text; (at = strstr(at, "translate(")); at++) {
        double px, py;
        CHECK(sscanf(at, "translate(%lf %lf)", &px, &py) == 2 && (px == 635 ||
              (px > 80 && px < 590 && py > 40 && py < 400)), "%.24s", at);
    }
    free(text);
    gm_arena_free(&a);
}

/* Ticks: few, within the range, at round numbers, for ranges of all sizes. */
static void ticks_are_round(void) {
    gm_arena a = {0};
    const char *text;
    for (int log_y = 0; log_y < 2; log_y++)
        for (int i = 0; i < 12; i++) {
            double y[2] = {1e-6, 1e-6 * pow(10, 0.7 * i) + 1e-12};
            double x[2] = {1e6, 1e6 + pow(9, i)};
            gm_series s = {"s", 0, false, 2, {x, y}};
            gm_plot p = {"t", {"x", "y"}, {false, log_y}, &s, 1};
            gm_status status = STATUS(text = gm_plot_text(&a, &p, 72, 20));
            long ticks = 0;
            CHECK(status == GM_OK, "%s", err.text);
            for (const char *at = text; (at = strchr(at, '\n')); at++)
                if (strlen(at) > 11 && at[11] == '+' && at[10] == ' ') {
                    double v = atof(at + 1), p10 = pow(10, floor(log10(v) +
                                                                 1e-9));
                    double digits = v / p10;
                    ticks++;
                    CHECK(v == 0 || !log_y || y[1] / y[0] < 5 ||
                          fabs(digits - 1) < 1e-6 || fabs(digits - 2) < 1e-6 ||
                          fabs(digits - 5) < 1e-6, "log tick %g", v);
                }
            CHECK(ticks >= 2 && ticks <= 16, "%ld ticks, range %g .. %g:\n%s",
                  ticks, y[0], y[1], text);
        }
    gm_arena_free(&a);
}

/* Of many decades few have a tick; the last number of a small figure, whose
   middle may stand at the frame's end, is not cut. */
static void numbers_have_room(void) {
    gm_arena a = {0};
    static const double x[2] = {0, 1}, y[2] = {1e-200, 1e200};
    const gm_series s = {"", 0, false, 2, {x, y}};
    const gm_plot p = {"t", {"x", "y"}, {false, true}, &s, 1};
    long lines = 0;
    CHECK(!STATUS(gm_figure_file(&a, gm_plot_svg, &p, svg_path)), "%s",
          err.text);
    char *text = read_file(svg_path);
    for (char *at = text; (at = strstr(at, "class=\"gr\"")); at++) lines++;
    CHECK(lines >= 2 + 4 && lines <= 4 + 9, "%ld ticks", lines);
    CHECK(number_behind(text, "width=", 0) >= 320 + 3 * 7.5, "cut at the right");
    free(text);
    gm_arena_free(&a);
}

/* A bar is two errors long on either side, to the frame's end where that is
   below 0 on a logarithmic axis; GM_STEPS goes level, then up or down. */
static void bars_and_steps(void) {
    gm_arena a = {0};
    static const double x[2] = {0, 1}, y[2] = {10, 1}, e[2] = {2, 0.75};
    const gm_series s = {"s", 0, GM_STEPS, 2, {x, y, e}};
    const gm_plot p = {"t", {"x", "y", "note"}, {false, true}, &s, 1};
    CHECK(!STATUS(gm_figure_file(&a, gm_plot_svg, &p, svg_path)), "%s",
          err.text);
    char *text = read_file(svg_path);
    CHECK(!parse_xml(text).wrong, "%s", parse_xml(text).wrong);
    /* the axis: from 1 (1 - 1.5 is none) to 14, and 5 % on both sides */
    const double span = log(14), lo = -0.05 * span, all = 1.1 * span;
    const double at[] = {14, 6, 2.5};
    const char *bar = strstr(text, "<path d=\"M");
    for (int i = 0; i < 3; i++) {
        const double expected = 400 - (log(at[i]) - lo) / all * 360;
        double found = number_behind(bar, "M", 1 + i % 2);
        CHECK(fabs(found - expected) < 0.06, "end %d: %g, expected %g", i,
              found, expected);
        if (i == 1) bar = strstr(bar + 1, "<path d=\"M");
    }
    CHECK(number_behind(bar, "M", 2) == 400, "to the frame: %.40s", bar);
    double q[6];
    for (int i = 0; i < 6; i++) q[i] = number_behind(text, "points=", i);
    CHECK(q[0] < q[2] && q[2] == q[4] && q[1] == q[3] && q[3] < q[5],
          "steps: %g,%g %g,%g %g,%g", q[0], q[1], q[2], q[3], q[4], q[5]);
    CHECK(strstr(text, "<title>t</title>\n<desc>note: y (log scale) against x."
                 " s: (0, 10), (1, 1).</desc>") != NULL, "%.400s", text);
    free(text);
    gm_arena_free(&a);
}

/* A hundred thousand points: at most two a pixel, the ends among them. */
static void thinned(void) {
    gm_arena a = {0};
    enum { MANY = 100000 };
    double *x = calloc(2 * MANY, sizeof *x), *y = x + MANY;
    for (int i = 0; i < MANY; i++) x[i] = i, y[i] = i % 7;
    const gm_series s = {"", 0, GM_LINE, MANY, {x, y, NULL}};
    const gm_plot p = {"t", {"x", "y", NULL}, {false, false}, &s, 1};
    CHECK(!STATUS(gm_figure_file(&a, gm_plot_svg, &p, svg_path)), "%s",
          err.text);
    char *text = read_file(svg_path), *at = strstr(text, "points=\"");
    long points = 0;
    double from = number_behind(text, "points=", 0), to = 0;
    for (char *end = at + 8; *end != '"'; points++) {
        to = strtod(end, &end);
        strtod(end + 1, &end);
    }
    CHECK(points > 200 && points <= 2 * 240 + 2, "%ld points", points);
    /* 5 % of the range on both sides of 240 pixels */
    CHECK(fabs(from - (80 + 240 * 0.05 / 1.1)) < 0.06 &&
          fabs(to - (320 - 240 * 0.05 / 1.1)) < 0.06, "%g .. %g", from, to);
    free(text);
    free(x);
    gm_arena_free(&a);
}

static void one_point(void) {
    gm_arena a = {0};
    const char *text = "";
    gm_series s = {"alone", 0, true, 1, {size, kl}};
    gm_plot p = {"t", {"x", "y"}, {false, true}, &s, 1};
    CHECK(STATUS(text = gm_plot_text(&a, &p, 50, 10)) == GM_OK &&
          strchr(text, '|') && strstr(text, "a alone"), "%s%s", err.text, text);
    CHECK(STATUS(gm_figure_file(&a, gm_plot_svg, &p, svg_path)) == GM_OK, "%s", err.text);
    gm_arena_free(&a);
}

/* Values that differ by a last bit, or by more than a double: a figure, and at
   once (alarm ends a test that hangs). */
static void extremes(void) {
    static const double y[][2] = {
        {1.0986122886681078, 1.098612288668108}, {1e-320, 2e-320},
        {5e-324, 1e308}, {1e308, 1.7e308}, {0, 5e-324}, {-1.7e308, 1.7e308}};
    gm_arena a = {0};
    alarm(100);
    for (int i = 0; i < 12; i++) {
        const double *at = y[i % 6];
        const gm_series s = {"s", 0, GM_LINE, 2, {size, at, NULL}};
        const gm_plot p = {"t", {"x", "y"}, {false, i >= 6}, &s, 1};
        if (i >= 6 && at[0] <= 0) continue;
        CHECK(!STATUS(gm_plot_text(&a, &p, 70, 20)) &&
              !STATUS(gm_figure_file(&a, gm_plot_svg, &p, svg_path)), "%s",
              err.text);
        char *text = read_file(svg_path);
        CHECK(!parse_xml(text).wrong && !strstr(text, "nan") &&
              !strstr(text, "inf"), "%d: %s", i, text);
        free(text);
    }
    alarm(0);
    gm_arena_free(&a);
}

static void refused(void) {
    gm_arena a = {0};
    double zero[3] = {0.3, 0, 0.1}, nan[3] = {2, 3, NAN};
    gm_series s = {"gamma", 0, true, 3, {size, zero}};
    gm_plot p = {"t", {"bits", "KL"}, {false, true}, &s, 1};
    CHECK(STATUS(gm_plot_text(&a, &p, 70, 20)) == GM_EINPUT, "zero");
    CHECK_TEXT(err.text, "plot: gamma: point 1: expected a positive number on "
               "the logarithmic axis KL, found 0");
    s.at[0] = nan, s.at[1] = kl;
    CHECK(STATUS(gm_figure_file(&a, gm_plot_svg, &p, svg_path)) == GM_EINPUT, "nan");
    CHECK_TEXT(err.text, "plot: gamma: point 2: expected a finite number as "
               "bits, found nan");
    s.count = 0;
    CHECK(STATUS(gm_plot_text(&a, &p, 70, 20)) == GM_EINPUT, "empty");
    CHECK_TEXT(err.text, "plot: expected at least one point and at most 26 "
               "series, found 0 points, 1 series");
    gm_arena_free(&a);
}

static int test_main(void) {
    parser_is_strict();
    text_places();
    svg_of_many();
    ticks_are_round();
    numbers_have_room();
    bars_and_steps();
    thinned();
    one_point();
    extremes();
    refused();
    return test_end("test_plot");
}

TEST_MAIN(test_main())
