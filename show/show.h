/* show.h: plots, grids of modules, tables of comparison.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_SHOW_H
#define GM_SHOW_H

#include "../gamma.h"

/* ------------------------------------------------------------------ plot.c
   Series of points as text and as SVG, legible in black and white. */

/* letter: in the text plot; 0: a, b, ... in order.  line: joins the points in
   the order given: not where there can be none between; GM_STEPS: level, then
   up or down; GM_STRONG: what the figure is about.  name: "" for one alone, in
   a small figure; lines of it are lines of the legend. */
typedef enum { GM_POINTS, GM_LINE, GM_STEPS, GM_STRONG } gm_joined;
typedef struct {
    const char *name;
    char letter;
    gm_joined line;
    long count;
    const double *at[3];        /* x, y, standard errors of y or NULL */
} gm_series;
/* At most 26 series.  Values must be finite, on a log axis positive. */
typedef struct {
    const char *title, *label[3];       /* of x, of y, with their units; NULL
                                           or what is said below the title */
    bool log[2];
    const gm_series *series;
    long count;
} gm_plot;
/* width x height characters (at least 40 x 8) and a legend, in the arena. */
const char *gm_plot_text(gm_arena *arena, const gm_plot *plot, long width,
                         long height);

/* A figure, of a gm_plot or a gm_map, as SVG with its text alternative: part of
   an HTML page whose style has gm_svg_style, or alone, a file. */
typedef void gm_figure(gm_arena *arena, gm_out *out, bool alone,
                       const void *what);
gm_figure gm_plot_svg, gm_map_svg;
void gm_figure_file(gm_arena *arena, gm_figure *draw, const void *what,
                    const char *path);
extern const char gm_svg_style[];
/* Text with the five characters that XML keeps for itself written out. */
void gm_print_escaped(gm_out *out, const char *text);
/* Its description is begun with `says`, ended by gm_svg_said. */
void gm_svg_begin(gm_out *out, bool alone, double width, double height,
                  const char *title, const char *says);
void gm_svg_said(gm_out *out, bool alone);
void gm_svg_text(gm_out *out, double x, double y, const char *attributes,
                 const char *text);

/* ------------------------------------------------------------------ grid.c
   One character for each module: a line for each kind of module (its name
   without the block's number), a column for each block. */
typedef struct {
    bool utf8, colour;
    long width;                         /* characters of a line */
    void (*print)(const char *line);
} gm_style;
/* Counts, then digits; of labels a letter for each ("-": none, the bits) in
   order of bits and labels. */
void gm_grid_bits(gm_arena *arena, const gm_allocation *a,
                  const gm_style *style);
/* Bars for what modules mind: gm_sensitivity, on a logarithmic scale. */
void gm_grid_scores(gm_arena *arena, const gm_scores *s,
                    const gm_style *style);
/* The same as a figure: shade 0 .. 8 of each module (-1: empty), in its cell a
   character or two (NULL: the shade); what it says: NAME: VALUE UNIT. */
typedef struct {
    const char *title, *note, *unit;
    long M;
    const char *const *name;
    const int *shade;
    const char *const *text, *const *value;
} gm_map;
/* Score at the fewest bits that module m has, less that at the most. */
double gm_sensitivity(const gm_scores *s, long m);

/* --------------------------------------------------------------- compare.c
   The table of `gamma compare`, kept in a directory: docs/formats.md. */

/* One method at one budget.  run: hash of all that the rows of one comparison
   share; key: of that, method and budget.  above: mean over windows of KL minus
   gamma's at the same budget (if paired), with its standard error. */
typedef struct {
    const char *method, *quantizer, *budget, *convention, *run, *key;
    double code_bits, effective_bits, bytes;
    gm_measure measure;         /* from a file: window_kl alone, no others */
    double above, above_error, evaluations, seconds;
    bool paired;
} gm_compared;
enum { GM_ROW_TEXT = 512, GM_MAX_ROWS_COMPARED = 1024 };
/* Its columns before the seconds, behind tabs; of NULL: their names. */
void gm_compared_text(const gm_compared *row, char text[GM_ROW_TEXT]);

/* All rows of DIR/compare.tsv in the order in which they were measured. */
typedef struct {
    const char *dir, *path;
    long count;
    size_t room;
    gm_compared *row;
} gm_comparison;
/* No file: no rows.  One that is damaged is an error. */
gm_comparison gm_comparison_open(gm_arena *arena, const char *dir);
const gm_compared *gm_comparison_find(const gm_comparison *c,
                                      const char *key);
/* Appends the row and writes the file anew. */
void gm_comparison_add(gm_arena *arena, gm_comparison *c,
                       const gm_compared *row);
/* Whom gamma is better or worse than by two standard errors of the difference,
   window by window, as lines. */
const char *gm_comparison_verdict(gm_arena *arena, const gm_compared *row,
                                  long count);
/* KL against size, a series for each method.  most > 0: series of the same
   points are one; at most so many (the lowest, uniform, mix and gamma), *left:
   the names of the others. */
gm_plot gm_comparison_series(gm_arena *arena, const gm_compared *row,
                             long count, gm_convention in, long most,
                             const char **left);
/* DIR/table.tsv, the rows of one command without the clock; pairs them. */
void gm_compared_write(gm_arena *arena, const char *path, const gm_keys *keys,
                       gm_compared *row, long count);
gm_compared *gm_compared_read(gm_arena *arena, const char *path,
                              gm_table *table);
void gm_compared_sizes(gm_compared *row, const gm_scores *scores,
                       const int *choice);

/* ---------------------------------------------------------------- report.c
   DIR/report.html and its figures, DIR/report-*.svg, DIR/frontier.tsv, from
   table.tsv, scores.tsv, learning.tsv, alloc*.tsv of DIR, whichever there are:
   docs/formats.md. */
void gm_page_write(gm_arena *arena, const char *dir);

#endif
