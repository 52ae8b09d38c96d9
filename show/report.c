/* report.c: what a directory holds, as one page that needs nothing else, and
   its figures as files.  Cells of tables are those of the files named beside
   them; nothing here is of the clock.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "show.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 400, DRAWN = 6 };     /* of a table; methods of a figure */

/* A table that is not there has no columns; path: as the page names it. */
typedef struct {
    gm_arena *arena;
    const char *dir;
    gm_out out;
    gm_table table, learning, scored, frontier;
    gm_compared *row;
    gm_scores scores;
    gm_allocation *alloc;           /* those drawn, in order of their bytes */
    long allocs, methods;           /* methods: other files, of rivals */
    const char *apart;              /* files of other candidates */
    const char *model, *on;         /* the model; and the text */
} page;

static const char *in_dir(const page *p, const char *file) {
    return gm_format(p->arena, "%s/%s", p->dir, file);
}

/* ------------------------------------------------------------- what is read */

static bool read_one(page *p, const char *file, gm_table *t) {
    const char *path = in_dir(p, file);
    if (!gm_exists(path)) return false;
    gm_table_read(p->arena, path, t);
    t->path = file;
    return true;
}

/* Candidates that this file speaks of are those of the scores. */
static bool belongs(page *p, const char *file, const gm_keys *keys) {
    const char *ours = gm_keys_get(&p->scores.keys, "candidates_hash");
    const char *its = gm_keys_get(keys, "candidates_hash");
    if (!ours || !its || strcmp(ours, its) == 0) return true;
    p->apart = gm_format(p->arena, "%s%s%s", p->apart, *p->apart ? ", " : "",
                         file);
    return false;
}

static int by_size(const void *a, const void *b) {
    const gm_allocation *const of[] = {a, b};
    int64_t sum[2] = {0};
    for (int i = 0; i < 2; i++)
        for (long m = 0; m < of[i]->M; m++)
            sum[i] += of[i]->bytes[m] < 0 ? of[i]->bits[m] : of[i]->bytes[m];
    return sum[0] != sum[1] ? (sum[0] > sum[1]) - (sum[0] < sum[1])
                            : strcmp(of[0]->path, of[1]->path);
}

/* Figures of a report before this one go. */
static void read_allocs(page *p) {
    long count;
    const char **name = gm_dir_names(p->arena, p->dir,
                                     "report-*.svg,alloc*.tsv", &count);
    if (count < 0) gm_fail(GM_EIO, "%s: cannot open this directory", p->dir);
    p->alloc = gm_alloc(p->arena, (size_t)count, sizeof *p->alloc);
    for (long i = 0; i < count; i++) {
        gm_allocation *a = p->alloc + p->allocs;
        if (*name[i] == 'r') {
            gm_remove_file(p->arena, in_dir(p, name[i]));
            continue;
        }
        gm_allocation_read(p->arena, in_dir(p, name[i]), a);
        const char *method = gm_keys_get(&a->keys, "method");
        const bool other = method && strcmp(method, "gamma") != 0;
        a->path = name[i];
        p->methods += other;
        p->allocs += !other && belongs(p, name[i], &a->keys);
    }
    qsort(p->alloc, (size_t)p->allocs, sizeof *p->alloc, by_size);
}

/* DIR/frontier.tsv, of the scores: as gamma solve --frontier, within 64 MiB and
   without a clock; with anchors too of Stage I's scores. */
static void make_frontier(page *p) {
    const gm_solve_options o = {.solver = GM_DP, .memory = (size_t)64 << 20};
    const gm_budget budget = {GM_BYTES, 1, "1"};
    gm_mckp problem;
    gm_frontier f;
    gm_out out;
    gm_scores learned = p->scores;
    learned.anchors = 0;
    gm_problem_build(p->arena, &learned, &budget, 30, &problem);
    gm_frontier_find(p->arena, &problem, &o, &f);
    gm_out_open(p->arena, in_dir(p, "frontier.tsv"), &out);
    gm_out_print(&out, "# format gamma-frontier 1\n# points %s\nfile_bytes\t"
                 "score\n", *f.why ? f.why : "all");
    for (long i = 0; i < f.count; i++)
        gm_out_print(&out, "%ld\t%s\n",
                     (long)(f.point[i].size + p->scores.overhead),
                     gm_double_text(ldexp((double)f.point[i].score,
                                          -problem.shift)).text);
    gm_out_commit(&out);
    read_one(p, "frontier.tsv", &p->frontier);
}

static void read_all(page *p) {
    gm_arena *a = p->arena;
    if (read_one(p, "scores.tsv", &p->scored)) {
        gm_scores_read(a, in_dir(p, "scores.tsv"), &p->scores);
        make_frontier(p);
    }
    read_one(p, "learning.tsv", &p->learning);
    if (read_one(p, "table.tsv", &p->table)) {
        p->row = gm_compared_read(a, in_dir(p, "table.tsv"), &p->table);
        p->table.path = "table.tsv";
        belongs(p, "table.tsv", &p->table.keys);
    }
    read_allocs(p);
    if (!p->scored.columns && !p->table.columns && !p->learning.columns &&
        !p->allocs)
        gm_bad(p->dir, "expected table.tsv, scores.tsv, learning.tsv or "
               "alloc*.tsv, as gamma run, compare, fit and solve write them, "
               "found none");
    const gm_keys *const keys[] = {&p->scores.keys, &p->table.keys,
                                   p->allocs ? &p->alloc->keys : NULL};
    for (int i = 0; i < 3 && !p->model; i++)
        p->model = keys[i] ? gm_keys_get(keys[i], "model") : NULL;
    if (!p->model) p->model = "a model without a name";
    const gm_table *t = &p->table;
    const char *const text[] = {gm_table_key(t, "text"), gm_table_key(
        t, "windows"), gm_table_key(t, "window")};
    p->on = text[0] && text[1] && text[2] ? gm_format(
        a, "%s, %s (%s windows of %s tokens)", p->model, text[0], text[1],
        text[2]) : p->model;
}

/* ------------------------------------------------------- how it is written

   say: %s, its only directive, is a text, escaped; fill: {KEY} is its value. */

static void say(page *p, const char *format, ...) GM_PRINTF(2, 3);
static void say(page *p, const char *format, ...) {
    va_list list;
    va_start(list, format);
    for (const char *at; (at = strstr(format, "%s")); format = at + 2) {
        gm_out_print(&p->out, "%.*s", (int)(at - format), format);
        gm_print_escaped(&p->out, va_arg(list, const char *));
    }
    va_end(list);
    gm_out_print(&p->out, "%s", format);
}

static void fill(page *p, const gm_keys *keys, const char *text) {
    for (const char *at; (at = strchr(text, '{')); text = strchr(at, '}') + 1) {
        const char *value = gm_keys_get(keys, gm_format(
            p->arena, "%.*s", (int)strcspn(at + 1, "}"), at + 1));
        gm_out_print(&p->out, "%.*s", (int)(at - text), text);
        gm_print_escaped(&p->out, value ? value : "-");
    }
    gm_out_print(&p->out, "%s", text);
}

/* As its file has it; of a number of many digits five, and all as its value. */
static void write_cell(page *p, const char *text) {
    double x;
    const bool number = gm_is_double(text, -DBL_MAX, DBL_MAX, &x);
    say(p, number ? "<td class=\"n\">" : "<td>");
    if (number && strlen(text) > 9 && strpbrk(text, ".e"))
        say(p, "<data value=\"%s\">%s</data></td>", text,
            gm_format(p->arena, "%.5g", x));
    else
        say(p, "%s</td>", text);
}

/* The columns whose names match, in the table's order; rows of gamma stand out.
   A long name may be broken behind an underscore. */
static void write_table(page *p, const gm_table *t, const char *columns) {
    const long method = gm_table_column(t, "method");
    const long rows = gm_min(t->rows, ROWS);
    say(p, "<div class=\"box\"><table data-from=\"%s\">\n<caption>%s", t->path,
        t->path);
    if (rows < t->rows)
        say(p, ", the first %s of %s rows", gm_format(p->arena, "%ld", rows),
            gm_format(p->arena, "%ld", t->rows));
    say(p, "</caption>\n<thead><tr>");
    for (long c = 0; c < t->columns; c++) {
        char *name = gm_format(p->arena, "%s", t->column[c]), *part;
        if (!gm_name_matches(columns, name)) continue;
        say(p, "<th scope=\"col\">%s", strsep(&name, "_"));
        while ((part = strsep(&name, "_"))) say(p, "_<wbr>%s", part);
        say(p, "</th>");
    }
    say(p, "</tr></thead>\n<tbody>\n");
    for (long i = 0; i < rows; i++) {
        const char **cell = t->cell + i * t->columns;
        say(p, method >= 0 && strcmp(cell[method], "gamma") == 0
            ? "<tr class=\"own\">" : "<tr>");
        for (long c = 0; c < t->columns; c++)
            if (gm_name_matches(columns, t->column[c])) write_cell(p, cell[c]);
        say(p, "</tr>\n");
    }
    say(p, "</tbody></table></div>\n");
}

/* To be opened, for who wants the numbers. */
static void fold_table(page *p, const gm_table *t, const char *columns) {
    say(p, "<details><summary>the numbers</summary>\n");
    write_table(p, t, columns);
    say(p, "</details>\n");
}

/* In the page, and as DIR/report-NAME.svg. */
static void figure(page *p, const char *name, gm_figure *draw,
                   const void *what) {
    const char *file = gm_format(p->arena, "report-%s.svg", name);
    gm_figure_file(p->arena, draw, what, in_dir(p, file));
    say(p, "<figure><div class=\"box\">\n");
    draw(p->arena, &p->out, false, what);
    say(p, "</div><figcaption>%s</figcaption></figure>\n", file);
}

/* A column as numbers. */
static double *numbers(const page *p, const gm_table *t, const char *name) {
    const long c = gm_table_column(t, name);
    double *x = gm_alloc(p->arena, (size_t)t->rows, sizeof *x);
    if (c < 0) gm_bad(in_dir(p, t->path), "no column \"%s\"", name);
    for (long i = 0; i < t->rows; i++) {
        const char *text = t->cell[i * t->columns + c];
        if (!gm_is_double(text, -DBL_MAX, DBL_MAX, &x[i]))
            gm_bad(in_dir(p, t->path), "line %ld: column %s: expected a finite "
                   "number, found \"%.160s\"", t->line[i], name, text);
    }
    return x;
}

/* ---------------------------------------------------------------- sections */

static void write_sizes(page *p) {
    write_table(p, &p->table, "budget,method,code_bits,effective_bits,"
                "file_bytes,perplexity,kl,kl_error,kl_above_gamma,"
                "kl_above_gamma_error,top1");
    char *lines = gm_format(p->arena, "%s", gm_comparison_verdict(
        p->arena, p->row, p->table.rows));
    for (char *line; (line = strsep(&lines, "\n"));)
        say(p, "<p>%s</p>\n", line);
}

static void write_curve(page *p) {
    const long last = p->table.rows - 1;
    const char *left;
    const int in = last < 0 ? -1 : gm_convention_of(p->row[last].convention);
    const gm_convention axis = in < 0 ? GM_BITS : (gm_convention)in;
    gm_plot plot = gm_comparison_series(p->arena, p->row, p->table.rows, axis,
                                        DRAWN, &left);
    plot.label[2] = p->on;
    if (plot.count) figure(p, "curve", gm_plot_svg, &plot);
    else say(p, "<p>No row has a KL above 0.</p>\n");
    if (*left) say(p, "<p>Not drawn, for their KL is higher: %s.</p>\n", left);
}

static void write_maps(page *p) {
    int least = 32, most = 1;
    for (long i = 0; i < p->allocs; i++)
        for (long m = 0; m < p->alloc[i].M; m++) {
            least = (int)gm_min(least, p->alloc[i].bits[m]);
            most = (int)-gm_min(-most, -p->alloc[i].bits[m]);
        }
    for (long i = 0; i < p->allocs; i++) {
        const gm_allocation *a = &p->alloc[i];
        const gm_keys *keys = &a->keys;
        const char *asked = gm_keys_get(keys, "budget_asked");
        const char *in = gm_keys_get(keys, asked ? "convention" : "asked_in");
        if (!asked) asked = gm_keys_get(keys, "asked");
        int *shade = gm_alloc(p->arena, (size_t)a->M, sizeof *shade);
        const char **text = gm_alloc(p->arena, (size_t)a->M, sizeof *text);
        const char **said = gm_alloc(p->arena, (size_t)a->M, sizeof *said);
        for (long m = 0; m < a->M; m++) {
            shade[m] = most > least ? 1 + 7 * (a->bits[m] - least) /
                                          (most - least) : 4;
            said[m] = text[m] = gm_format(p->arena, "%d", a->bits[m]);
            if (a->label && strcmp(a->label[m], "-") != 0)
                said[m] = gm_format(p->arena, "%s, %d", a->label[m],
                                    a->bits[m]);
        }
        const gm_map map = {
            asked && in ? gm_format(p->arena, "Bits of each module: %s %s",
                                    asked, in) : "Bits of each module ",
            gm_format(p->arena, "%s, %s", p->model, a->path), "bits", a->M,
            a->name, shade, text, said};
        figure(p, gm_format(p->arena, "bits-%ld", i + 1), gm_map_svg, &map);
    }
    if (p->methods)
        say(p, "<p>Files of other methods, not drawn: %s.</p>\n",
            gm_format(p->arena, "%ld", p->methods));
}

static void write_learning(page *p) {
    static const char *const of[][3] = {
        {"E", "E", "Loss of all blocks (first step: 1)"},
        {"c", "c in bits", "Average bits above the target"},
        {"lambda", "lambda", "Multiplier: the price of a bit"},
        {"entropy", "mean entropy in nats", "How undecided modules are"}};
    const double *step = numbers(p, &p->learning, "step");
    for (int i = 0; i < 4; i++) {
        const gm_series s = {"", 0, GM_STRONG, p->learning.rows,
                             {step, numbers(p, &p->learning, of[i][0]), NULL}};
        const gm_plot plot = {of[i][2], {"step", of[i][1], p->model},
                              {false, false}, &s, 1};
        if (s.count)
            figure(p, gm_format(p->arena, "learning-%s", of[i][0]), gm_plot_svg,
                   &plot);
    }
    fold_table(p, &p->learning, "*");
}

/* Shades 1 .. 8 of scores above 0 in steps of equal ratio, over all
   candidates. */
static void write_sensitivities(page *p) {
    const gm_scores *s = &p->scores;
    double least = HUGE_VAL, most = 0;
    for (long i = 0; i < s->M * s->K; i++)
        if (s->bytes[i] >= 0 && s->score[i] > 0) {
            least = fmin(least, s->score[i]);
            most = fmax(most, s->score[i]);
        }
    const double each = log(most / least) / 8;
    for (int k = 0; k < s->K; k++) {
        int *shade = gm_alloc(p->arena, (size_t)s->M, sizeof *shade), any = 0;
        const char **value = gm_alloc(p->arena, (size_t)s->M, sizeof *value);
        const gm_shown called = gm_called(s->bits[k], s->label[k]);
        const long c = gm_table_column(&p->scored, gm_format(
            p->arena, "%s.score", s->label[k]));
        for (long m = 0; m < s->M; m++) {
            const double u = s->score[m * s->K + k];
            shade[m] = s->bytes[m * s->K + k] < 0 ? -1 : !(u > 0) ? 0 : 1 +
                       (each > 0 ? (int)fmin(7, log(u / least) / each) : 7);
            value[m] = p->scored.cell[m * p->scored.columns + c];
            any = any || shade[m] > 0;
        }
        const gm_map map = {
            gm_format(p->arena, "Score of each module at %s", called.text),
            gm_format(p->arena, "%s; 1 to 8: %.3g to %.3g", p->model, least,
                      most),
            gm_format(p->arena, "at %s", called.text), s->M, s->name, shade,
            NULL, value};
        if (any)
            figure(p, gm_format(p->arena, "scores-%s", s->label[k]), gm_map_svg,
                   &map);
    }
    if (s->anchors)
        fill(p, &s->keys, "<p>As learned. What gamma solve adds up is these, "
             "corrected by the whole model's KL: a mean of the anchors around "
             "its budget (columns score@BUDGET of scores.tsv, in nats). "
             "KL on the calibration text at each anchor by the scores as "
             "learned: {kl_before}; as corrected: {kl}; by how much the "
             "mean lowers it: {kl_gain}, standard error {kl_gain_error}. Budgets "
             "nearest to one where that is not two errors take the scores as "
             "learned.</p>\n");
    fold_table(p, &p->scored, "module,name,weights,*.score,*.stderr");
}

static void write_frontier(page *p) {
    const gm_table *t = &p->frontier;
    if (p->scores.anchors)
        say(p, "<p>By the scores as learned, the same for all sizes; what was "
            "solved here is by those of its own budget (anchors), most in "
            "another unit, and not drawn.</p>\n");
    double *x = numbers(p, t, "file_bytes"), *y = numbers(p, t, "score");
    double *at = gm_alloc(p->arena, (size_t)p->allocs, 2 * sizeof *at);
    double *u = at + p->allocs;
    long n = 0, solved = 0;
    for (long i = 0; i < t->rows; i++)
        if (y[i] > 0) x[n] = x[i] / 1e6, y[n++] = y[i];
    for (long i = 0; i < p->allocs; i++) {
        const char *size = gm_keys_get(&p->alloc[i].keys, "file_bytes");
        const char *sum = gm_keys_get(&p->alloc[i].keys, "objective_real");
        if (size && sum && !p->scores.anchors &&
            gm_is_double(size, 1, DBL_MAX, at + solved) &&
            gm_is_double(sum, DBL_MIN, DBL_MAX, u + solved))
            at[solved++] /= 1e6;
    }
    const gm_series s[] = {
        {"any budget", 0, GM_STEPS, n, {x, y, NULL}},
        {"solved here", 0, GM_POINTS, solved, {at, u, NULL}}};
    const gm_plot plot = {"The least sum of scores within any size",
                          {"file size in MB (10^6 bytes)", "sum of scores",
                           p->model}, {false, true}, s, solved ? 2 : 1};
    if (n) figure(p, "frontier", gm_plot_svg, &plot);
    fill(p, &t->keys, "<p>Points: {points}. A sum of 0 has no place in the "
         "figure.</p>\n");
    fold_table(p, t, "*");
}

static void write_certificates(page *p) {
    static const char *const taken[] = {
        "{code_bits} of {budget} bits of codes",
        "{effective_bits} of {budget} bits with scales and zeros",
        "{file_bytes} of {budget} bytes of the file"};
    for (long i = 0; i < p->allocs; i++) {
        const gm_keys *keys = &p->alloc[i].keys;
        const char *is = gm_keys_get(keys, "optimal");
        const int in = gm_convention_of(gm_keys_get(keys, "convention"));
        say(p, "<p data-from=\"%s\"><b>%s</b> ", p->alloc[i].path,
            p->alloc[i].path);
        if (!is) {
            say(p, "has no certificate: gamma solve writes one.</p>\n");
            continue;
        }
        fill(p, keys, "for {budget_asked} {convention}: ");
        fill(p, keys, taken[in < 0 ? GM_BITS : in]);
        fill(p, keys, " are taken, {slack} left. ");
        const char *at = gm_keys_get(keys, "scores_at");
        if (at)
            fill(p, keys, strstr(at, "learned") ? "Scores are taken at the "
                 "anchors {scores_at}: their mean is not shown to lower the KL "
                 "of the whole model there. " : "Scores are taken at the "
                 "anchors {scores_at}; theirs are what a choice adds to the KL "
                 "of the whole model, in nats. ");
        fill(p, keys, "Scores times 2 to the power "
             "{score_shift}, rounded, add up to {objective}; no choice within "
             "the budget has less than {bound}, ");
        fill(p, keys, strcmp(is, "proven") == 0 ? "so this one is optimal: "
             "{optimal}" : "a gap of {gap}: {optimal}");
        fill(p, keys, " ({solvers}). By hand: with the multiplier "
             "{multiplier_num} / {multiplier_den} every module takes its best "
             "candidate for itself, which bounds the sum by {lp_bound} from "
             "below. Two choices whose sums of scores differ by more than "
             "{rounding_error} are in the order of the rounded ones. gamma "
             "check verifies all this.</p>\n");
    }
}

/* Keys of a file that match. */
static void write_keys(page *p, const char *file, const gm_keys *keys,
                       const char *which) {
    for (const gm_key *k = keys->key; k < keys->key + keys->count; k++) {
        if (!gm_name_matches(which, k->name)) continue;
        say(p, "<tr><td>%s</td><td>%s</td>", file, k->name);
        write_cell(p, k->value);
        say(p, "</tr>\n");
    }
}

static void write_settings(page *p) {
    say(p, "<div class=\"box\"><table data-from=\"keys\">\n<thead><tr><th "
        "scope=\"col\">file</th><th scope=\"col\">key</th><th scope=\"col\">"
        "value</th></tr></thead>\n<tbody>\n");
    write_keys(p, "scores.tsv", &p->scored.keys, "*");
    write_keys(p, "table.tsv", &p->table.keys, "*");
    for (long i = 0; i < p->allocs; i++)
        write_keys(p, p->alloc[i].path, &p->alloc[i].keys,
                   "version,candidates_hash,glpk_version");
    say(p, "</tbody></table></div>\n");
    if (*p->apart)
        say(p, "<p>Of other candidates than scores.tsv, not of this run: "
            "%s.</p>\n", p->apart);
}

/* gamma fit as the keys of scores.tsv have it. */
static void write_fit(page *p) {
    const gm_keys *keys = &p->scored.keys;
    char *words = gm_format(p->arena, "quantizer=%s",
                            gm_keys_get(keys, "candidates")), *word;
    say(p, "gamma fit %s --calib TEXT --out DIR", p->model);
    while ((word = strsep(&words, " "))) {
        say(p, " --%s", strsep(&word, "="));
        if (word) say(p, " %s", word);
    }
    for (const gm_key *k = keys->key; k < keys->key + keys->count; k++) {
        char *name = gm_format(p->arena, "%s", k->name), *low;
        while ((low = strchr(name, '_'))) *low = '-';
        if (gm_name_matches("relaxation,norm,score,sequences,length,batch,"
                            "steps,seed,alpha,rho,eta,tau,first_weight,rate,"
                            "tail,train_bits", k->name))
            say(p, " --%s %s", name, k->value);
    }
    say(p, "\n");
}

static void write_commands(page *p) {
    const char *command = gm_table_key(&p->table, "command");
    say(p, "<div class=\"box\"><pre>");
    if (command) say(p, "%s\n", command);
    else if (gm_table_key(&p->scored, "candidates")) write_fit(p);
    for (long i = 0; i < p->allocs; i++) {
        const gm_allocation *a = &p->alloc[i];
        if (!gm_keys_get(&a->keys, "convention")) continue;
        fill(p, &a->keys, "gamma solve DIR/scores.tsv --{convention} "
             "{budget_asked}");
        say(p, " --out DIR/%s\ngamma check DIR/%s DIR/scores.tsv\n", a->path,
            a->path);
    }
    say(p, "gamma report DIR\n</pre></div>\n");
}

/* The page, section by section, with what is said first; one whose file is not
   there says so. */
static const struct {
    const char *title, *file, *first;
    void (*write)(page *p);
} sections[] = {
    {"Methods at equal sizes", "table.tsv",
     "Every method stays within the budget. uniform: the same bits everywhere, "
     "the most that fit; its bytes say what it leaves unused. mix, where it "
     "leaves some: the next bits to as many modules as fit, spread evenly. "
     "kl: mean KL divergence from the original model in nats a token, kl_error "
     "its standard error over windows. kl_above_gamma: mean over windows of KL "
     "less gamma's in the same window, with its own error.", write_sizes},
    {"KL against size", "table.tsv",
     "Bars: two standard errors up and down. Methods whose points are all the "
     "same are drawn once (=). No line joins the points of uniform, between "
     "which no model has the same bits everywhere, nor those of mix, which is "
     "uniform where that fills the budget.", write_curve},
    {"Bits of each module", "alloc*.tsv",
     "Few bits are light, many dark, alike in all maps.", write_maps},
    {"How it was learned", "learning.tsv",
     "c need not be 0 in the end: gamma solve, not learning, keeps the budget.",
     write_learning},
    {"What each module minds", "scores.tsv",
     "The loss that a number of bits adds, in units of the first step's. "
     "1 to 8: steps of equal ratio; 0: none.",
     write_sensitivities},
    {"All budgets", "scores.tsv",
     "Every choice than which none is both smaller and better by the scores.",
     write_frontier},
    {"Certificates", "alloc*.tsv", "", write_certificates},
    {"Settings, hashes, versions", "", "", write_settings},
    {"To make it again", "", "", write_commands}};

static const char style[] =
    "body{margin:0 auto;max-width:60rem;padding:0 12px 3rem;font:16px/1.5 "
    "sans-serif;color:#222;background:#fff}h1{font-size:1.5rem}h2{font-size:"
    "1.2rem;margin-top:2.5rem;border-bottom:1px solid #999}.box{overflow-x:"
    "auto}figure{display:inline-block;max-width:calc(100% - 16px);margin:8px "
    "16px 8px 0;vertical-align:top}figcaption,caption{font-size:13px;color:"
    "#555;text-align:left}h1,p{overflow-wrap:anywhere}svg{display:block}table{"
    "border-collapse:collapse;font-size:13px}th,td{padding:3px 8px;text-align:"
    "left;vertical-align:bottom;border-bottom:1px solid #ccc}td{white-space:"
    "nowrap}td.n{text-align:right;font-variant-numeric:tabular-nums}table["
    "data-from=keys] td{text-align:left}tr.own{font-weight:bold;background:"
    "#e9f1fa}pre{font-size:13px}\n"
    "@media screen and (prefers-color-scheme:dark){body{color:#ddd;"
    "background:#1b1b1b}figcaption,caption{color:#aaa}tr.own{background:"
    "#1d3144}th,td{border-color:#444}}\n"
    "@media print{body{max-width:none;font-size:11pt}figure,tr{break-inside:"
    "avoid}h2,h2+p{break-after:avoid}.box{overflow:visible}table{font-size:"
    "11px}th,td{padding:2px 5px}table[data-from=keys] td:last-child,pre{"
    "white-space:pre-wrap;overflow-wrap:anywhere}svg{max-width:100%;height:"
    "auto}}\n";

void gm_page_write(gm_arena *arena, const char *dir) {
    page *p = gm_alloc(arena, 1, sizeof *p);
    *p = (page){.arena = arena, .dir = dir, .apart = ""};
    read_all(p);
    gm_out_open(arena, in_dir(p, "report.html"), &p->out);
    say(p, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8"
        "\">\n<meta name=\"viewport\" content=\"width=device-width, "
        "initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark"
        "\">\n<title>gamma: %s</title>\n<style>\n", p->model);
    gm_out_print(&p->out, "%s%s</style>\n</head>\n<body>\n", style,
                 gm_svg_style);
    say(p, "<h1>gamma: %s</h1>\n<p>Bits of each module, learned once, chosen "
        "for each budget (GAMMA, arXiv 2605.18475). On %s. Every number stands "
        "in a file beside this one; the file is named with it.</p>\n",
        p->model, p->on);
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        const char *file = sections[i].file;
        const bool there = !*file || (*file == 'a' ? p->allocs : *file == 't'
            ? p->table.columns : *file == 'l' ? p->learning.columns
            : p->scored.columns) > 0;
        say(p, "<section>\n<h2>%s</h2>\n", sections[i].title);
        if (!there) say(p, "<p>%s is not here.</p>\n", file);
        else if (*sections[i].first) say(p, "<p>%s</p>\n", sections[i].first);
        if (there) sections[i].write(p);
        say(p, "</section>\n");
    }
    say(p, "</body>\n</html>\n");
    gm_out_commit(&p->out);
}
