/* grid.c: one character for each module, its bits or how much it minds having
   few: a line for each kind of module, a column for each block.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "show.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A kind is a name without its block, the first part that is a number below
   COLUMNS; a name without one stands in column 0. */
enum { LINES = 64, COLUMNS = 1000 };
typedef struct {
    long lines, columns, label, left_out;
    const char *kind[LINES], *name[LINES];      /* name: a kind's last part */
    long at[LINES][COLUMNS];                    /* 1 + module; 0: none      */
} layout;

static void place(gm_arena *arena, const char *name, long m, layout *to) {
    const char *part = name, *kind = name;
    long block = -1, line = 0, number;
    for (size_t n; *part && block < 0; part += n + (part[n] == '.')) {
        n = strcspn(part, ".");
        const char *text = gm_format(arena, "%.*s", (int)n, part);
        if (!gm_is_long(text, 0, COLUMNS - 1, &number)) continue;
        block = number;
        kind = gm_format(arena, "%.*s%s", (int)(part - name), name, part + n);
    }
    while (line < to->lines && strcmp(to->kind[line], kind) != 0) line++;
    if (block < 0) block = 0;
    if (line == LINES || to->at[line][block]) {
        to->left_out++;
        return;
    }
    const char *dot = strrchr(kind, '.');
    to->kind[line] = kind;
    to->name[line] = dot ? dot + 1 : kind;
    to->at[line][block] = m + 1;
    if (line == to->lines) to->lines++;
    if (block >= to->columns) to->columns = block + 1;
    to->label = -gm_min(-to->label, -(long)strlen(to->name[line]));
}

/* glyph[m] of each module; colour (NULL: none)[m]: its SGR parameters.  As many
   blocks side by side as fit, in tens, their numbers above. */
static void draw(gm_arena *arena, long M, const char *const *name,
                 const char *const *glyph, const char *const *colour,
                 const gm_style *style) {
    layout *p = gm_alloc(arena, 1, sizeof *p);
    for (long m = 0; m < M; m++) place(arena, name[m], m, p);
    long each = (style->width - p->label - 2) / 10 * 10, end;
    if (each < 10) each = 10;
    for (long from = 0; from < p->columns; from = end) {
        const gm_mark mark = gm_arena_mark(arena);
        char *text = gm_format(arena, "%*s", (int)p->label + 2, "");
        end = gm_min(from + each, p->columns);
        for (long c = from; c < end && p->columns > 1; c += 10)
            text = gm_format(arena, "%s%-*ld", text, c + 10 < end ? 10 : 1, c);
        if (p->columns > 1) style->print(text);
        for (long line = 0; line < p->lines; line++) {
            int gap = 2;
            text = gm_format(arena, "%-*s", (int)p->label, p->name[line]);
            for (long c = from; c < end; c++, gap++) {
                const long m = p->at[line][c] - 1;
                if (m < 0) continue;
                text = gm_format(arena, colour ? "%s%*s\033[%sm%s\033[0m"
                                               : "%s%*s%.0s%s", text, gap, "",
                                 colour ? colour[m] : "", glyph[m]);
                gap = -1;
            }
            style->print(text);
        }
        gm_arena_rewind(arena, mark);
    }
    if (p->left_out)
        style->print(gm_format(arena, "not shown: %ld", p->left_out));
}

/* A letter for each of at most 26 kinds of candidates; the legend. */
static char *letters(gm_arena *arena, const gm_allocation *a,
                     const char **glyph) {
    char *legend = gm_format(arena, "candidates, modules:");
    const char **kind = gm_alloc(arena, (size_t)a->M, sizeof *kind);
    char letter = 'a';
    for (long m = 0; m < a->M; m++)
        kind[m] = gm_format(arena, "%02d%s", a->bits[m], a->label[m]);
    const gm_named *sorted = gm_names_sort(arena, NULL, kind, a->M);
    for (long i = 0, n; i < a->M; i += n) {
        const long m = sorted[i].at;
        for (n = 0; i + n < a->M && strcmp(sorted[i + n].name, kind[m]) == 0;
             n++)
            glyph[sorted[i + n].at] = gm_format(arena, "%c", letter);
        legend = gm_format(arena, "%s  %c = %s: %ld", legend, letter,
                           strcmp(a->label[m], "-") != 0 ? a->label[m] :
                           gm_format(arena, "%d", a->bits[m]), n);
        if (letter < 'z') letter++;
    }
    return legend;
}

/* Digits, from 10 on letters; on colours, warm where bits are few. */
void gm_grid_bits(gm_arena *arena, const gm_allocation *a,
                  const gm_style *style) {
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvw";
    static const char *const colours[] = {"7", "97;41", "30;41", "30;43",
                                          "30;42", "30;46", "97;44", "97;45"};
    const char **glyph = gm_alloc(arena, (size_t)a->M, sizeof *glyph);
    const char **colour = gm_alloc(arena, (size_t)a->M, sizeof *colour);
    char *legend = gm_format(arena, "bits, modules:");
    long count[33] = {0};
    for (long m = 0; m < a->M; m++) {
        glyph[m] = gm_format(arena, "%c", digits[a->bits[m]]);
        colour[m] = colours[a->bits[m] < 8 ? a->bits[m] : 0];
        count[a->bits[m]]++;
    }
    if (a->label) legend = letters(arena, a, glyph);
    for (int b = 1; b < 33 && !a->label; b++)
        if (count[b])
            legend = gm_format(arena, "%s  %c%s: %ld", legend, digits[b],
                               b > 9 ? gm_format(arena, " = %d", b) : "",
                               count[b]);
    style->print(legend);
    draw(arena, a->M, a->name, glyph, style->colour ? colour : NULL, style);
}

double gm_sensitivity(const gm_scores *s, long m) {
    const int64_t *bytes = s->bytes + m * s->K;
    int first = 0, last = s->K - 1;
    while (first < last && bytes[first] < 0) first++;
    while (last > first && bytes[last] < 0) last--;
    return s->score[m * s->K + first] - s->score[m * s->K + last];
}

/* Eight bars, in steps of equal ratio. */
void gm_grid_scores(gm_arena *arena, const gm_scores *s,
                    const gm_style *style) {
    static const char *const bars[2][8] = {
        {".", ":", "-", "=", "+", "*", "#", "@"},
        {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}};
    const char *const *bar = bars[style->utf8];
    const char **glyph = gm_alloc(arena, (size_t)s->M, sizeof *glyph);
    double least = HUGE_VAL, most = 0;
    for (long m = 0; m < s->M; m++) {
        const double x = gm_sensitivity(s, m);
        if (x > 0 && x < least) least = x;
        if (x > most) most = x;
    }
    if (!(most > 0)) least = most;
    for (long m = 0; m < s->M; m++) {
        const double x = gm_sensitivity(s, m);
        glyph[m] = bar[x > least ? (int)fmin(7, 8 * log(x / least) /
                                                log(most / least)) : 0];
    }
    style->print(gm_format(arena, "score at the fewest bits less that at the "
                           "most, %s %.3g to %s %.3g:", bar[0], least, bar[7],
                           most));
    draw(arena, s->M, s->name, glyph, NULL, style);
}

/* -------------------------------------------------------------------- maps */

void gm_map_svg(gm_arena *arena, gm_out *out, bool alone, const void *what) {
    const gm_map *map = what;
    const double CELL = 20, TOP = 62;
    layout *p = gm_alloc(arena, 1, sizeof *p);
    for (long m = 0; m < map->M; m++)
        if (map->shade[m] >= 0) place(arena, map->name[m], m, p);
    const double left = 20 + 7.5 * (double)p->label;
    const double bottom = TOP + CELL * (double)p->lines;
    const double words = 7.5 * fmax((double)strlen(map->title),
                                    (double)strlen(map->note));
    gm_svg_begin(out, alone, 10 + fmax(left + CELL * (double)p->columns,
                 10 + words), bottom + 30, map->title, map->note);
    gm_print_escaped(out, gm_format(arena, "; columns are blocks%s",
                                    p->left_out ? ", some not shown" : ""));
    gm_svg_said(out, alone);
    gm_svg_text(out, 10, 16, " class=\"t\"", map->title);
    gm_svg_text(out, 10, 34, "", map->note);
    for (long c = 0; c < p->columns; c += 5)
        gm_svg_text(out, left + CELL * ((double)c + 0.5), TOP - 6,
                    " text-anchor=\"middle\"", gm_format(arena, "%ld", c));
    for (long line = 0; line < p->lines; line++) {
        const double y = TOP + CELL * (double)line;
        gm_svg_text(out, 10, y + 15, "", p->name[line]);
        for (long c = 0; c < p->columns; c++) {
            const long m = p->at[line][c] - 1;
            const double x = left + CELL * (double)c;
            if (m < 0) continue;
            gm_out_print(out, "<g><title>");
            gm_print_escaped(out, gm_format(arena, "%s: %s %s", map->name[m],
                                            map->value[m], map->unit));
            gm_out_print(out, "</title><rect x=\"%.1f\" y=\"%.1f\" width=\"%.0f"
                         "\" height=\"%.0f\" class=\"s%d\"/>", x, y, CELL - 1,
                         CELL - 1, map->shade[m]);
            gm_svg_text(out, x + CELL / 2 - 0.5, y + 14.5, map->shade[m] > 5 ?
                        " class=\"k x\"" : " class=\"k\"", map->text ?
                        map->text[m] : gm_format(arena, "%d", map->shade[m]));
            gm_out_print(out, "</g>\n");
        }
    }
    gm_svg_text(out, 10, bottom + 20, "", gm_format(arena, p->left_out ?
                "columns are blocks; not shown: %ld" : "columns are blocks",
                p->left_out));
    gm_out_print(out, "</svg>\n");
}
