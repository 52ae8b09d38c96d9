/* plot.c: series of points as a text plot and as SVG: series differ by letter,
   marker and dashes, never by colour alone.  Writes through files.c, nothing
   else.
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

/* Within what a double has when the axis goes beyond it. */
static double on_axis(const axis *a, double x) {
    const double most = a->log ? 600 : 1e300;
    return fmax(-most, fmin(most, a->log ? gm_logd(x) : x));
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
   the 1 alone, of more than `most` decades only each second, third, ...; within
   half a decade as on a linear axis. */
static void choose_ticks(axis *a, int most) {
    static const double steps[] = {1, 2, 5, 10, 20};
    const double lo = a->log ? gm_expd(a->lo) : a->lo;
    const double hi = a->log ? gm_expd(a->hi) : a->hi;
    const double ratio = a->log ? hi / lo : 1, range = hi - lo;
    double leap = 10;
    if (ratio < 4) {
        const double unit = decade_below(range / most);
        int i = 0;
        while (i < 4 && range / (unit * steps[i]) > most) i++;
        const double step = unit * steps[i];
        for (double n = ceil(lo / step); n * step <= hi; n++)
            add_tick(a, n * step + 0);      /* -0 + 0 = 0 */
        return;
    }
    while (a->hi - a->lo > most * gm_logd(leap)) leap *= 10;
    /* ends: on_axis.  NOLINTNEXTLINE(*.FloatLoopCounter) */
    for (double p = decade_below(lo); p <= hi; p *= leap)
        for (int i = 0; i < (ratio < 1000 ? 3 : 1); i++)
            add_tick(a, steps[i] * p);
}

/* Ranges of all points and bars and a little beyond, so that none lies on the
   frame.  A single value, or values that a tick cannot tell apart (n + 1 = n in
   choose_ticks), get room on both sides.  across: most ticks of x. */
static void axes_of(const gm_plot *plot, int across, axis xy[2]) {
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
                const double *error = d ? plot->series[i].at[2] : NULL;
                const double more = error ? 2 * error[j] : 0;
                if (!a->log || v > more)
                    a->lo = fmin(a->lo, on_axis(a, v - more));
                a->lo = fmin(a->lo, on_axis(a, v));
                a->hi = fmax(a->hi, on_axis(a, v + more));
            }
    }
    if (!points || plot->count > MAX_SERIES)
        gm_fail(GM_EINPUT, "plot: expected at least one point and at most %d "
                "series, found %ld points, %ld series", MAX_SERIES, points,
                plot->count);
    for (int d = 0; d < 2; d++) {
        axis *a = xy + d;
        const double size = a->log ? 1 : fmax(fabs(a->lo), fabs(a->hi));
        double grow = beyond * (a->hi - a->lo);
        if (!(grow > 1e-12 * size) || size < 1e-290)
            grow = a->log ? 0.5 : size < 1e-290 ? 1 : beyond * size;
        a->lo -= grow;
        a->hi += grow;
        choose_ticks(a, d ? 8 : across);
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

static long cell_of(double f, long cells) {         /* 0 <= f <= 1 */
    return (long)(f * (double)(cells - 1) + 0.5);
}

/* Copies `text` over line, its middle at `at`, unless it would touch what is
   there. */
static void put_text(char *line, long width, long at, const char *text) {
    long n = (long)strlen(text);
    at = at < n / 2 ? 0 : at - n / 2;
    if (at + n > width) at = width - n;
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
    axes_of(plot, 7, xy);
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

/* --------------------------------------------------------------------- SVG

   Looks are classes, so that a page says them once for all its figures.  Series
   differ by marker and dashes too, for paper and for eyes that tell few colours
   apart: the palette of Okabe and Ito (2008), darkened on white. */

const char gm_svg_style[] =
    "svg{background:#fff}svg text{font:13px sans-serif;fill:#222}"
    "svg .t{font-weight:bold}svg .fr{fill:none;stroke:#444}"
    "svg .gr{stroke:#ddd}svg .l{fill:none;stroke:currentColor;stroke-width:1.4}"
    "svg .m{stroke:currentColor;fill:currentColor;stroke-width:1.4}"
    "svg .m.h{fill:#fff}svg .w{stroke-width:3}"
    "svg .c0{color:#005f9e}svg .c1{color:#222}svg .c2{color:#c24e00}"
    "svg .c3{color:#00735a}svg .c4{color:#9c4a83}svg .c5{color:#6b5a00}"
    "svg .s0{fill:#f2f2f2}svg .s1{fill:#e9f1fa}svg .s2{fill:#d3e3f3}"
    "svg .s3{fill:#b5d2ea}svg .s4{fill:#8dbbe0}svg .s5{fill:#5f9fd1}"
    "svg .s6{fill:#2f79b9}svg .s7{fill:#12568f}svg .s8{fill:#08306b}"
    "svg .k{fill:#000;text-anchor:middle}svg .k.x{fill:#fff}\n"
    "@media screen and (prefers-color-scheme:dark){svg{background:#1b1b1b}"
    "svg text{fill:#ddd}svg .fr{stroke:#999}svg .gr{stroke:#3a3a3a}"
    "svg .m.h{fill:#1b1b1b}svg .c0{color:#6cc0f5}svg .c1{color:#eee}"
    "svg .c2{color:#ff9a52}svg .c3{color:#3fd0a8}svg .c4{color:#e6a3cf}"
    "svg .c5{color:#e3c94f}svg .k{fill:#000}svg .k.x{fill:#fff}}\n";

void gm_print_escaped(gm_out *out, const char *text) {
    static const char special[] = "&<>\"'";
    static const char *const name[] = {"&amp;", "&lt;", "&gt;", "&quot;",
                                       "&#39;"};
    for (; *text; text++) {
        const char *at = strchr(special, *text);
        if (at) gm_out_print(out, "%s", name[at - special]);
        else gm_out_print(out, "%c", *text);
    }
}

void gm_svg_text(gm_out *out, double x, double y, const char *attributes,
                 const char *text) {
    gm_out_print(out, "<text x=\"%.1f\" y=\"%.1f\"%s>", x, y, attributes);
    gm_print_escaped(out, text);
    gm_out_print(out, "</text>\n");
}

void gm_svg_begin(gm_out *out, bool alone, double width, double height,
                  const char *title, const char *says) {
    if (alone)
        gm_out_print(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    gm_out_print(out, "<svg%s role=\"img\" width=\"%.0f\" height=\"%.0f\" "
                 "viewBox=\"0 0 %.0f %.0f\">\n<title>", alone ?
                 " xmlns=\"http://www.w3.org/2000/svg\"" : "", width, height,
                 width, height);
    gm_print_escaped(out, title);
    gm_out_print(out, "</title>\n<desc>");
    gm_print_escaped(out, says);
}

void gm_svg_said(gm_out *out, bool alone) {
    gm_out_print(out, "</desc>\n");
    if (alone) gm_out_print(out, "<style>\n%s</style>\n", gm_svg_style);
}

/* A frame: LEFT to right, TOP to bottom; behind it, if any series has a name,
   the legend. */
enum { LEFT = 80, TOP = 40, LEGEND = 25, MARKED = 60 };
typedef struct {
    gm_out *file;
    const gm_plot *plot;
    axis xy[2];
    double right, bottom, legend;
} svg;

static double place(const svg *g, int d, double v) {
    double f = fmin(fmax(fraction(&g->xy[d], v), 0), 1);
    return d ? g->bottom - f * (g->bottom - TOP) : LEFT + f * (g->right - LEFT);
}

static void write_axes(const svg *g, gm_arena *arena) {
    const gm_plot *plot = g->plot;
    gm_out_print(g->file, "<rect x=\"%d\" y=\"%d\" width=\"%.0f\" "
                 "height=\"%.0f\" class=\"fr\"/>\n", LEFT, TOP, g->right - LEFT,
                 g->bottom - TOP);
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < g->xy[d].ticks; i++) {
            const double at = place(g, d, g->xy[d].tick[i]);
            const double x = d ? LEFT : at, y = d ? at : g->bottom;
            gm_out_print(g->file, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" "
                         "y2=\"%.1f\" class=\"gr\"/>\n", x, y, d ? g->right : x,
                         d ? y : TOP);
            gm_svg_text(g->file, d ? x - 6 : x, d ? y + 4 : y + 18, d ?
                        " text-anchor=\"end\"" : " text-anchor=\"middle\"",
                        gm_format(arena, "%.6g", g->xy[d].tick[i]));
        }
    gm_svg_text(g->file, LEFT, TOP - 24, " class=\"t\"", plot->title);
    if (plot->label[2])
        gm_svg_text(g->file, LEFT, TOP - 8, "", plot->label[2]);
    gm_svg_text(g->file, (LEFT + g->right) / 2, g->bottom + 42,
                " text-anchor=\"middle\"", label_of(arena, plot, 0));
    gm_svg_text(g->file, 20, (TOP + g->bottom) / 2,
                gm_format(arena, " text-anchor=\"middle\" transform=\"rotate("
                          "-90 20 %.0f)\"", (TOP + g->bottom) / 2),
                label_of(arena, plot, 1));
}

/* Marker of series i around (x, y): ten filled or hollow shapes, then three of
   strokes, then again. */
static void write_marker(const svg *g, long i, double x, double y) {
    static const char *const shape[] = {
        "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", "M-4 -4h8v8h-8z",
        "M0 -5L5 0L0 5L-5 0z", "M0 -5L5 4H-5z", "M0 5L5 -4H-5z",
        "M-4 -4L4 4M-4 4L4 -4", "M-5 0H5M0 -5V5",
        "M-5 0H5M-3 -4L3 4M-3 4L3 -4"};
    long k = i % 13;
    gm_out_print(g->file, "<path transform=\"translate(%.1f %.1f)\" "
                 "d=\"%s\" class=\"m%s\"/>\n", x, y,
                 shape[k < 10 ? k % 5 : k - 5], k < 5 ? "" : " h");
}

/* Points nearer than half a pixel to the last are left out, of thousands also
   those above or below it. */
static void write_line(const svg *g, const gm_series *s, const char *dash) {
    double x = 0, y = 0;
    gm_out_print(g->file, "<polyline class=\"l%s\"%s points=\"",
                 s->line == GM_STRONG ? " w" : "", dash);
    for (long j = 0; j < s->count; j++) {
        const double to = place(g, 0, s->at[0][j]);
        const double up = place(g, 1, s->at[1][j]);
        if (j && j + 1 < s->count && fabs(to - x) < 0.5 &&
            (s->count > 5000 || fabs(up - y) < 0.5))
            continue;
        if (j && s->line == GM_STEPS)
            gm_out_print(g->file, " %.1f,%.1f", to, y);
        gm_out_print(g->file, "%s%.1f,%.1f", j ? " " : "", to, up);
        x = to, y = up;
    }
    gm_out_print(g->file, "\"/>\n");
}

/* GM_STRONG has the first colour, the others the next ones in turn. */
static void write_series(svg *g, gm_arena *arena, long i) {
    static const char *const dash[] = {
        "", " stroke-dasharray=\"6 3\"", " stroke-dasharray=\"2 3\"",
        " stroke-dasharray=\"9 3 2 3\"", " stroke-dasharray=\"12 4\"",
        " stroke-dasharray=\"1 5\""};
    const gm_series *s = g->plot->series + i;
    const bool strong = s->line == GM_STRONG;
    const char *dashes = strong ? "" : dash[i % 6];
    gm_out_print(g->file, "<g class=\"c%ld\">\n", strong ? 0 : 1 + i % 5);
    if (s->line && s->count > 1) write_line(g, s, dashes);
    for (long j = 0; j < s->count; j++) {
        const double x = place(g, 0, s->at[0][j]), y = s->at[1][j];
        if (s->at[2])
            gm_out_print(g->file, "<path d=\"M%.1f %.1fV%.1f\" class=\"l\"/>\n",
                         x, place(g, 1, y + 2 * s->at[2][j]),
                         g->xy[1].log && y <= 2 * s->at[2][j] ? g->bottom
                         : place(g, 1, y - 2 * s->at[2][j]));
        if (s->count <= MARKED) write_marker(g, i, x, place(g, 1, y));
    }
    char *names = gm_format(arena, "%s", s->name);
    if (*s->name && s->line)
        gm_out_print(g->file, "<line x1=\"%.0f\" y1=\"%.1f\" x2=\"%.0f\" "
                     "y2=\"%.1f\" class=\"l%s\"%s/>\n", g->right + LEGEND,
                     g->legend, g->right + LEGEND + 40, g->legend,
                     strong ? " w" : "", dashes);
    if (*s->name && s->count <= MARKED)
        write_marker(g, i, g->right + LEGEND + 20, g->legend);
    const char *bold = strong ? " class=\"t\"" : "";
    for (char *name; *s->name && (name = strsep(&names, "\n"));
         g->legend += 18, bold = "")
        gm_svg_text(g->file, g->right + LEGEND + 48, g->legend + 4, bold, name);
    g->legend += 4;
    gm_out_print(g->file, "</g>\n");
}

/* Of each series its points, of many the ends. */
static void say_series(gm_arena *arena, gm_out *out, const gm_series *s) {
    gm_print_escaped(out, gm_format(arena, " %s:", s->name));
    for (long j = 0; j < s->count; j++)
        if (s->count <= 12 || j == 0 || j + 1 == s->count)
            gm_out_print(out, "%s (%.6g, %.6g)", !j ? "" : s->count > 12 ?
                         " to" : ",", s->at[0][j], s->at[1][j]);
    gm_out_print(out, ".");
}

void gm_plot_svg(gm_arena *arena, gm_out *out, bool alone, const void *what) {
    const gm_plot *plot = what;
    const bool named = plot->count > 1 || *plot->series->name;
    svg g = {out, plot, .right = named ? 590 : 320, .bottom = named ? 400 : 190,
             .legend = TOP + 14};
    const char *note = plot->label[2] ? plot->label[2] : "";
    double width = g.right + 28, lines = 0;     /* half of a last number */
    axes_of(plot, named ? 7 : 4, g.xy);
    for (long i = 0; i < plot->count; i++) {
        const char *name = plot->series[i].name;
        lines += 4 + 18 * (1 + (double)gm_count_char(name, '\n'));
        for (size_t n; named && *name; name += n + (name[n] == '\n')) {
            n = strcspn(name, "\n");
            width = fmax(width, g.right + LEGEND + 65 + 8 * (double)n);
        }
    }
    width = fmax(width, LEFT + 7.5 * fmax((double)strlen(plot->title),
                                          (double)strlen(note)));
    gm_svg_begin(out, alone, width, fmax(g.bottom + 60, TOP + 30 + lines),
                 plot->title, gm_format(arena, "%s%s%s against %s.", note,
                                        *note ? ": " : "",
                                        label_of(arena, plot, 1),
                                        label_of(arena, plot, 0)));
    for (long i = 0; i < plot->count; i++)
        say_series(arena, out, plot->series + i);
    gm_svg_said(out, alone);
    write_axes(&g, arena);
    for (long i = 0; i < plot->count; i++) write_series(&g, arena, i);
    gm_out_print(out, "</svg>\n");
}

void gm_figure_file(gm_arena *arena, gm_figure *figure, const void *what,
                    const char *path) {
    gm_out out;
    gm_out_open(arena, path, &out);
    figure(arena, &out, true, what);
    gm_out_commit(&out);
}
