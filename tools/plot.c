/* plot.c (tools): series as an SVG.  stdin: a header "x NAME NAME ...", then
   rows of numbers, all separated by tabs.  Arguments: TITLE X-LABEL Y-LABEL
   OUT.svg.  Build:
     cc -std=gnu11 -O1 -I. tools/plot.c show/plot.c lib/base.c lib/files.c \
        lib/tensors.c lib/kernels.c -lm -fopenmp
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "show/show.h"

#include <stdlib.h>
#include <string.h>

enum { SERIES = 12, POINTS = 1000 };

typedef struct { gm_arena *arena; const gm_plot *plot; const char *path; }
plotting;

static void draw(void *context) {
    plotting *p = context;
    gm_figure_file(p->arena, gm_plot_svg, p->plot, p->path);
}

int main(int argc, char **argv) {
    static char head[4096], line[4096];
    static double x[POINTS], y[SERIES][POINTS];
    gm_series series[SERIES] = {0};
    gm_arena arena = {0};
    long n = 0, rows = 0;
    if (argc != 5 || !fgets(head, sizeof head, stdin)) return 2;
    head[strcspn(head, "\n")] = 0;
    strtok(head, "\t");
    for (char *name; n < SERIES && (name = strtok(NULL, "\t")); n++)
        series[n] = (gm_series){name, 0, GM_LINE, 0, {x, y[n], NULL}};
    while (rows < POINTS && fgets(line, sizeof line, stdin)) {
        char *at = line;
        x[rows] = strtod(at, &at);
        for (long i = 0; i < n; i++) y[i][rows] = strtod(at, &at);
        rows++;
    }
    for (long i = 0; i < n; i++) series[i].count = rows;
    gm_plot plot = {argv[1], {argv[2], argv[3], NULL}, {false, true}, series,
                    n};
    plotting p = {&arena, &plot, argv[4]};
    gm_error err;
    gm_status s = gm_try(draw, &p, &err);
    if (s) fprintf(stderr, "plot: %s\n", err.text);
    gm_arena_free(&arena);
    return (int)s;
}
