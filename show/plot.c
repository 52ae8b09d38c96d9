/* plot.c: series of points as a text plot and as SVG.  Black on white: series
   differ by letter, marker and dashes, never by colour.  Writes the SVG file
   through files.c, nothing else.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "show.h"

#include <math.h>
#include <string.h>

enum { MAX_TICKS = 24, MAX_SERIES = 26 };

/* -------------------------------------------------------------------- axes

   A value x lies at the fraction (f(x) - lo) / (hi - lo) of its axis,
   f = identity or log. */
typedef struct {
    bool log;
    double lo, hi;
    int ticks;
    double tick[MAX_TICKS];
} axis;

static double on_axis(const axis *a, double x) {
    return a->log ? gm_logd(x) : x;
}

static double fraction(const axis *a, double x) {
    return (on_axis(a, x) - a->lo) / (a->hi - a->lo);
}

static void add_tick(axis *a, double x) {
    const double f = fraction(a, x);
    if (f >= 0 && f <= 1 && a->ticks < MAX_TICKS) a->tick[a->ticks++] = x;
}

/* The largest 10^n <= x, x > 0. */
static double decade_below(double x) {
    double p = 1;
    while (p > x) p /= 10;
    while (p * 10 <= x) p *= 10;
    return p;
}

/* Linear: multiples of 1, 2 or 5 times 10^n, the finest that gives at most
   `most`.  Logarithmic: 1, 2, 5 in each decade, over more than three decades
   the 1 alone, within half a decade as on a linear axis. */
static void choose_ticks(axis *a, int most) {
    static const double steps[] = {1, 2, 5, 10, 20};
    const double lo = a->log ? gm_expd(a->lo) : a->lo;
    const double hi = a->log ? gm_expd(a->hi) : a->hi;
    const double ratio = a->log ? hi / lo : 1, range = hi - lo;
    if (ratio < 4) {
        const double unit = decade_below(range / most);
        int i = 0;
        while (i < 4 && range / (unit * steps[i]) > most) i++;
        const double step = unit * steps[i];
        for (double n = ceil(lo / step); n * step <= hi; n++)
            add_tick(a, n * step);
        return;
    }
    /* ends: hi is finite.  NOLINTNEXTLINE(*.FloatLoopCounter) */
    for (double p = decade_below(lo); p <= hi; p *= 10)
        for (int i = 0; i < (ratio < 1000 ? 3 : 1); i++)
            add_tick(a, steps[i] * p);
}

/* Ranges of all points and a little beyond, so that none lies on the frame.  A
   single value gets room on both sides. */
static void axes_of(const gm_plot *plot, axis xy[2]) {
    const double beyond = 0.05;
    long points = 0;
    for (int d = 0; d < 2; d++) {
        axis *a = xy + d;
        *a = (axis){.log = plot->log[d], .lo = INFINITY, .hi = -INFINITY};
        points = 0;
        for (long i = 0; i < plot->count; i++)
            for (long j = 0; j < plot->series[i].count; j++, points++) {
                double v = plot->series[i].at[d][j];
                if (!isfinite(v) || (a->log && v <= 0))
                    gm_fail(GM_EINPUT, "plot: %s: point %ld: expected a %s%s, "
                            "found %g", plot->series[i].name, j, a->log ?
                            "positive number on the logarithmic axis " :
                            "finite number as ", plot->label[d], v);
                a->lo = fmin(a->lo, on_axis(a, v));
                a->hi = fmax(a->hi, on_axis(a, v));
            }
    }
    if (!points || plot->count > MAX_SERIES)
        gm_fail(GM_EINPUT, "plot: expected at least one point and at most %d "
                "series, found %ld points, %ld series", MAX_SERIES, points,
                plot->count);
    for (int d = 0; d < 2; d++) {
        axis *a = xy + d;
        double grow = beyond * (a->hi - a->lo);
        if (grow == 0)
            grow = a->log ? 0.5 : a->lo == 0 ? 1 : beyond * fabs(a->lo);
        a->lo -= grow;
        a->hi += grow;
        choose_ticks(a, d ? 8 : 7);
    }
}

static const char *label_of(gm_arena *arena, const gm_plot *plot, int d) {
    return gm_format(arena, "%s%s", plot->label[d],
                     plot->log[d] ? " (log scale)" : "");
}

static char letter_of(const gm_plot *plot, long i) {
    char given = plot->series[i].letter;
    return given ? given : (char)('a' + i);
}

/* -------------------------------------------------------------------- text */

enum { MARGIN = 10 };       /* columns left of the frame, for numbers */

static long cell_of(double f, long cells) {
    long i = (long)(f * (double)(cells - 1) + 0.5);
    return i < 0 ? 0 : i >= cells ? cells - 1 : i;
}

/* Copies `text` over line, its middle at `at`, unless it would touch what is
   there. */
static void put_text(char *line, long width, long at, const char *text) {
    long n = (long)strlen(text);
    at = at < n / 2 ? 0 : at - n / 2;
    if (at + n > width) at = width - n;
    if (at < 0) return;
    for (long i = at ? at - 1 : 0; i <= at + n && i < width; i++)
        if (line[i] != ' ') return;
    memcpy(line + at, text, (size_t)n);
}

/* Rows 0 .. height-1: points; then the axis and its numbers. */
static void draw(const gm_plot *plot, const axis xy[2], char *grid, long width,
                 long height) {
    const long row = width + 1, across = width - MARGIN - 1;
    char *line = grid + height * row, number[32];
    for (long r = 0; r < height; r++) grid[r * row + MARGIN] = '|';
    for (int i = 0; i < xy[1].ticks; i++) {
        long r = cell_of(1 - fraction(&xy[1], xy[1].tick[i]), height);
        int n = snprintf(number, sizeof number, "%.6g", xy[1].tick[i]);
        if (n < MARGIN)
            memcpy(grid + r * row + MARGIN - 1 - n, number, (size_t)n);
        grid[r * row + MARGIN] = '+';
    }
    memset(line + MARGIN, '-', (size_t)(width - MARGIN));
    line[MARGIN] = '+';
    for (int i = 0; i < xy[0].ticks; i++) {
        long c = MARGIN + 1 + cell_of(fraction(&xy[0], xy[0].tick[i]), across);
        line[c] = '+';
        snprintf(number, sizeof number, "%.6g", xy[0].tick[i]);
        put_text(line + row, width, c, number);
    }
    for (long i = 0; i < plot->count; i++)
        for (long j = 0; j < plot->series[i].count; j++) {
            const gm_series *s = plot->series + i;
            long c = cell_of(fraction(&xy[0], s->at[0][j]), across);
            long r = cell_of(1 - fraction(&xy[1], s->at[1][j]), height);
            char *at = grid + r * row + MARGIN + 1 + c;
            char letter = letter_of(plot, i);
            *at = *at == ' ' || *at == letter ? letter : '*';
        }
}

const char *gm_plot_text(gm_arena *arena, const gm_plot *plot, long width,
                         long height) {
    axis xy[2];
    axes_of(plot, xy);
    if (width < 40) width = 40;
    if (height < 8) height = 8;
    size_t cells = (size_t)((height + 2) * (width + 1));
    char *grid = gm_alloc(arena, cells + 1, 1);
    const char *legend = "";
    memset(grid, ' ', cells);
    for (long r = 0; r < height + 2; r++) grid[r * (width + 1) + width] = '\n';
    draw(plot, xy, grid, width, height);
    for (long i = 0; i < plot->count; i++)
        legend = gm_format(arena, "%s%s%c %s", legend, i == 0 ? "" :
                           i % 5 == 0 ? "\n  " : "   ", letter_of(plot, i),
                           plot->series[i].name);
    return gm_format(arena, "%s\n%s\n%s%*s%s\n\n  %s\n  (* several in one "
                     "place)\n", plot->title, label_of(arena, plot, 1), grid,
                     MARGIN, "", label_of(arena, plot, 0), legend);
}

/* --------------------------------------------------------------------- SVG */

enum { WIDTH = 780, HEIGHT = 460, LEFT = 80, TOP = 40, RIGHT = 590,
       BOTTOM = 400, LEGEND = 615 };

typedef struct { gm_out file; const gm_plot *plot; axis xy[2]; } svg;

static double place(const svg *g, int d, double v) {
    double f = fraction(&g->xy[d], v);
    return d ? BOTTOM - f * (BOTTOM - TOP) : LEFT + f * (RIGHT - LEFT);
}

/* Text with the five characters that XML keeps for itself written out. */
static void write_text(svg *g, double x, double y, const char *attributes,
                       const char *text) {
    static const char special[] = "&<>\"'";
    static const char *const name[] = {"&amp;", "&lt;", "&gt;", "&quot;",
                                       "&#39;"};
    gm_out_print(&g->file, "<text x=\"%.1f\" y=\"%.1f\"%s>", x, y,
                 attributes);
    for (; *text; text++) {
        const char *at = strchr(special, *text);
        if (at) gm_out_print(&g->file, "%s", name[at - special]);
        else gm_out_print(&g->file, "%c", *text);
    }
    gm_out_print(&g->file, "</text>\n");
}

static void write_axes(svg *g, gm_arena *arena) {
    gm_out_print(&g->file, "<rect x=\"%d\" y=\"%d\" width=\"%d\" "
                 "height=\"%d\" fill=\"none\" stroke=\"black\"/>\n", LEFT, TOP,
                 RIGHT - LEFT, BOTTOM - TOP);
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < g->xy[d].ticks; i++) {
            const double at = place(g, d, g->xy[d].tick[i]);
            const double x = d ? LEFT : at, y = d ? at : BOTTOM;
            gm_out_print(&g->file, "<line x1=\"%.1f\" y1=\"%.1f\" "
                         "x2=\"%.1f\" y2=\"%.1f\" stroke=\"#ccc\"/>\n", x, y,
                         d ? RIGHT : x, d ? y : TOP);
            write_text(g, d ? x - 6 : x, d ? y + 4 : y + 18, d ?
                       " text-anchor=\"end\"" : " text-anchor=\"middle\"",
                       gm_format(arena, "%.6g", g->xy[d].tick[i]));
        }
    write_text(g, LEFT, TOP - 14, " font-weight=\"bold\"", g->plot->title);
    write_text(g, (LEFT + RIGHT) / 2., BOTTOM + 42, " text-anchor=\"middle\"",
               label_of(arena, g->plot, 0));
    write_text(g, 20, (TOP + BOTTOM) / 2.,
               gm_format(arena, " text-anchor=\"middle\" transform=\"rotate("
                         "-90 20 %d)\"", (TOP + BOTTOM) / 2),
               label_of(arena, g->plot, 1));
}

/* Marker of series i around (x, y): ten filled or hollow shapes, then three of
   strokes, then again. */
static void write_marker(svg *g, long i, double x, double y) {
    static const char *const shape[] = {
        "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", "M-4 -4h8v8h-8z",
        "M0 -5L5 0L0 5L-5 0z", "M0 -5L5 4H-5z", "M0 5L5 -4H-5z",
        "M-4 -4L4 4M-4 4L4 -4", "M-5 0H5M0 -5V5",
        "M-5 0H5M-3 -4L3 4M-3 4L3 -4"};
    long k = i % 13;
    gm_out_print(&g->file, "<path transform=\"translate(%.1f %.1f)\" "
                 "d=\"%s\" fill=\"%s\" stroke=\"black\" "
                 "stroke-width=\"1.4\"/>\n", x, y,
                 shape[k < 10 ? k % 5 : k - 5], k < 5 ? "black" : "white");
}

static void write_series(svg *g, long i) {
    static const char *const dash[] = {
        "", " stroke-dasharray=\"6 3\"", " stroke-dasharray=\"2 3\"",
        " stroke-dasharray=\"9 3 2 3\"", " stroke-dasharray=\"12 4\"",
        " stroke-dasharray=\"1 5\""};
    const gm_series *s = g->plot->series + i;
    const double y = TOP + 14 + 22 * (double)i;
    if (s->line && s->count > 1) {
        gm_out_print(&g->file, "<polyline fill=\"none\" stroke=\"black\""
                     "%s points=\"", dash[i % 6]);
        for (long j = 0; j < s->count; j++)
            gm_out_print(&g->file, "%s%.1f,%.1f", j ? " " : "",
                         place(g, 0, s->at[0][j]), place(g, 1, s->at[1][j]));
        gm_out_print(&g->file, "\"/>\n");
    }
    for (long j = 0; j < s->count; j++)
        write_marker(g, i, place(g, 0, s->at[0][j]), place(g, 1, s->at[1][j]));
    if (s->line)
        gm_out_print(&g->file, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" "
                     "y2=\"%.1f\" stroke=\"black\"%s/>\n", LEGEND, y,
                     LEGEND + 40, y, dash[i % 6]);
    write_marker(g, i, LEGEND + 20, y);
    write_text(g, LEGEND + 48, y + 4, "", s->name);
}

void gm_plot_svg(gm_arena *arena, const gm_plot *plot, const char *path) {
    svg g = {.plot = plot};
    axes_of(plot, g.xy);
    gm_out_open(arena, path, &g.file);
    long height = TOP + 30 + 22 * plot->count;      /* a long legend */
    if (height < HEIGHT) height = HEIGHT;
    gm_out_print(&g.file, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                 "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
                 "height=\"%ld\" viewBox=\"0 0 %d %ld\" font-family=\""
                 "sans-serif\" font-size=\"13\">\n<rect width=\"%d\" "
                 "height=\"%ld\" fill=\"white\"/>\n", WIDTH, height, WIDTH,
                 height, WIDTH, height);
    write_axes(&g, arena);
    for (long i = 0; i < plot->count; i++) write_series(&g, i);
    gm_out_print(&g.file, "</svg>\n");
    gm_out_commit(&g.file);
}
