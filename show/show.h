/* show.h: plots, grids of modules, tables of comparison.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_SHOW_H
#define GM_SHOW_H

#include "../gamma.h"

/* ------------------------------------------------------------------ plot.c
   Series of points as text and as SVG, legible in black and white. */

/* letter: in the text plot; 0: a, b, ... in order.  line: SVG joins the points
   in the order given. */
typedef struct {
    const char *name;
    char letter;
    bool line;
    long count;
    const double *at[2];        /* x, y */
} gm_series;
/* At most 26 series.  Values must be finite, on a log axis positive. */
typedef struct {
    const char *title, *label[2];       /* of x, of y, with their units */
    bool log[2];
    const gm_series *series;
    long count;
} gm_plot;
/* width x height characters (at least 40 x 8) and a legend, in the arena. */
const char *gm_plot_text(gm_arena *arena, const gm_plot *plot, long width,
                         long height);
void gm_plot_svg(gm_arena *arena, const gm_plot *plot, const char *path);

/* ------------------------------------------------------------------ grid.c
   One character for each module: a line for each kind of module (its name
   without the block's number), a column for each block. */
typedef struct {
    bool utf8, colour;
    long width;                         /* characters of a line */
    void (*print)(const char *line);
} gm_style;
/* Counts, then digits: bits[M], 1 .. 32. */
void gm_grid_bits(gm_arena *arena, long M, const char *const *name,
                  const int *bits, const gm_style *style);
/* Bars for what modules mind: gm_sensitivity, on a logarithmic scale. */
void gm_grid_scores(gm_arena *arena, const gm_scores *s,
                    const gm_style *style);
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
enum { GM_ROW_TEXT = 512 };
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
const char *gm_comparison_verdict(gm_arena *arena,
                                  const gm_compared *const *rows, long count);
/* KL against size, a series for each method. */
gm_plot gm_comparison_series(gm_arena *arena, const gm_compared *const *rows,
                             long count, gm_convention in);

#endif
