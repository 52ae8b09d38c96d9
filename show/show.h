/* show.h: plots and tables of comparison.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_SHOW_H
#define GM_SHOW_H

#include "../gamma.h"
#include "../rivals/rivals.h"

/* ------------------------------------------------------------------ plot.c
   Series of points as text and as SVG, legible in black and white. */

/* letter: in the text plot; 0: a, b, ... in order.  line: SVG joins the points
   in the order given. */
typedef struct {
    const char *name;
    char letter;
    bool line;
    long count;
    const double *x, *y;
} gm_series;
/* At most 26 series.  Values must be finite, on a log axis positive. */
typedef struct {
    const char *title, *x_label, *y_label;      /* labels with their units */
    bool log_x, log_y;
    const gm_series *series;
    long count;
} gm_plot;
/* width x height characters (at least 40 x 8) and a legend, in the arena. */
void gm_plot_text(gm_arena *arena, const gm_plot *plot, long width,
                       long height, const char **out);
void gm_plot_svg(gm_arena *arena, const gm_plot *plot, const char *path);

/* --------------------------------------------------------------- compare.c
   The table of `gamma compare`, kept in a directory: docs/formats.md. */

/* One method at one budget.  run: hash of all that the rows of one comparison
   share; key: of that, method and budget.  above: mean over windows of KL minus
   gamma's at the same budget (if paired), with its standard error. */
typedef struct {
    const char *method, *quantizer, *budget, *convention, *run, *key;
    double code_bits, effective_bits;
    int64_t bytes;
    double perplexity, nll, nll_error, kl, kl_error, top1, top1_error;
    double above, above_error, evaluations, seconds;
    bool paired;
    long windows;
    double *window_kl;          /* [windows] */
} gm_compared;
enum { GM_ROW_TEXT = 512 };
extern const char gm_comparison_columns[];      /* those of a row as text */
void gm_compared_text(const gm_compared *row, char text[GM_ROW_TEXT]);

/* All rows of DIR/compare.tsv in the order in which they were measured. */
typedef struct {
    const char *dir, *path;
    long count, room;
    gm_compared *row;
} gm_comparison;
/* No file: no rows.  One that is damaged is an error. */
void gm_comparison_open(gm_arena *arena, const char *dir,
                             gm_comparison *out);
const gm_compared *gm_comparison_find(const gm_comparison *c,
                                      const char *key);
/* Appends the row with what was measured and writes the file anew. */
void gm_comparison_add(gm_arena *arena, gm_comparison *c,
                            const gm_compared *row, const gm_measure *m);
/* KL against size, a series for each method. */
void gm_comparison_series(gm_arena *arena, const gm_compared *const *rows,
                               long count, gm_convention in, gm_plot *out);

#endif
