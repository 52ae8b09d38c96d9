/* show.c: the command `show`: one row as it is rounded; scores and allocations
   as grids.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ------------------------------------------------------------------- grids */

static void print_line(const char *line) {
    fprintf(gm_results(), "%s\n", line);
}

void gm_call_grid(gm_call *call, const gm_scores *scores,
                  const gm_allocation *chosen) {
    const char *no_colour = getenv("NO_COLOR"), *set = getenv("LC_ALL");
    if (!set || !*set) set = getenv("LC_CTYPE");
    if (!set || !*set) set = getenv("LANG");
    set = set ? strchr(set, '.') : NULL;
    const gm_style style = {
        .utf8 = set && (!strncasecmp(set, ".UTF-8", 6) ||
                        !strncasecmp(set, ".UTF8", 5)),
        .colour = isatty(fileno(gm_results())) && !(no_colour && *no_colour),
        .width = gm_width(gm_results()), .print = print_line};
    const bool both = scores && chosen;
    if (both) print_line("");
    if (scores) gm_grid_scores(&call->arena, scores, &style);
    if (both) print_line("");
    if (chosen) gm_grid_bits(&call->arena, chosen, &style);
}

static void show_table(gm_call *call) {
    gm_table t;
    gm_scores scores;
    gm_allocation chosen;
    gm_table_read(&call->arena, call->operand[0], &t);
    const bool bits = gm_table_column(&t, "bits") >= 0;
    if (bits) gm_allocation_read(&call->arena, call->operand[0], &chosen);
    else gm_scores_read(&call->arena, call->operand[0], &scores);
    if (!call->json) {
        gm_call_grid(call, bits ? NULL : &scores, bits ? &chosen : NULL);
        return;
    }
    gm_result_begin(!bits ? "module\tsensitivity" : chosen.label
                    ? "module\tbits\tlabel" : "module\tbits");
    for (long m = 0; m < t.rows; m++)
        if (bits) gm_result_row("%s\t%d%s%s", chosen.name[m], chosen.bits[m],
                                chosen.label ? "\t" : "",
                                chosen.label ? chosen.label[m] : "");
        else gm_result_row("%s\t%.9g", scores.name[m],
                           gm_sensitivity(&scores, m));
    gm_result_end(call);
}

/* -------------------------------------------------------------------- rows */

/* A column: its weight when its turn came, value, code, and what the column
   after it then got; a group's grid, lo and hi before fp16. */
typedef struct { double w, q; int code; double next; } column;
typedef struct { double lo, hi, fp16; int zero; } group;

/* A row w of n weights, rounded to `bits` by RTN [0] and, with H and its
   factor, GPTQ [1].  only: one of its groups; -1: all. */
typedef struct {
    gm_call *call;
    long n, groups, only;
    int ways, bits, decimals;
    gm_real *w;
    double *H;
    gm_factor factor;
    column *column[2];
    group *group[2];
} showing;

/* (1) of quant.c; (4): times the r whose scale is the one that was taken. */
static void find_range(const showing *s, long n, const double *w, group *g) {
    double r = 1;
    for (long j = 0; j < n; j++) {
        g->lo = fmin(g->lo, w[j]);
        g->hi = fmax(g->hi, w[j]);
    }
    if (s->call->recipe.scales & GM_SYMMETRIC) {
        g->hi = fmax(g->hi, -g->lo);
        g->lo = 0 - g->hi;
    }
    if (s->call->recipe.scales & GM_MSE && g->hi > g->lo)
        r = nearbyint(100 * g->fp16 * ((1 << s->bits) - 1) / (g->hi - g->lo));
    if (r > 1) g->lo *= fmin(r / 100, 1), g->hi *= fmin(r / 100, 1);
}

/* As the method rounds it; then (6) of quant.c with the values that it took,
   for what each weight was when its turn came. */
static void round_row(showing *s, int way) {
    gm_arena *a = &s->call->arena;
    const gm_recipe *r = &s->call->recipe;
    const gm_factor *f = way ? &s->factor : NULL;
    const long n = s->n, *order = f ? f->order : NULL;
    uint8_t *code = gm_alloc(a, (size_t)n, 2), *zero = code + n;
    gm_real *q = gm_alloc(a, (size_t)n, sizeof *q);
    double *w = gm_alloc(a, (size_t)(2 * n), sizeof *w);
    gm_packed p = gm_packed_at(1, n, s->bits, r->group, gm_alloc(
        a, (size_t)gm_packed_bytes(1, n, s->bits, r->group), 1));
    s->column[way] = gm_alloc(a, (size_t)n, sizeof(column));
    s->group[way] = gm_alloc(a, (size_t)s->groups, sizeof(group));
    gm_quantize(a, s->w, r->scales, f, &p);
    gm_unpack(p.codes, n, s->bits, code);
    gm_unpack(p.zeros, s->groups, s->bits, zero);
    gm_dequantize(&p, q);
    for (long j = 0; j < n; j++)
        w[j] = w[n + j] = f && f->dead[j] ? 0 : s->w[j];
    for (long i = 0; i < n; i++) {
        const long j = order ? order[i] : i, g = i / r->group;
        if (i % r->group == 0) {        /* act-order: of the original weights */
            const uint8_t *half = p.scales + 2 * g;
            s->group[way][g] = (group){0, 0, gm_f16_to_f32((uint16_t)(
                half[0] | half[1] << 8)), zero[g]};
            find_range(s, gm_min(r->group, n - i), (order ? w + n : w) + i,
                       s->group[way] + g);
        }
        s->column[way][j] = (column){w[j], q[j], code[j], 0};
        for (long t = i + 1; f && t < n; t++) {
            const double move = (q[j] - w[j]) * f->U[i * n + t] /
                                f->U[i * n + i];
            w[order ? order[t] : t] += move;
            if (t == i + 1) s->column[way][j].next = move;
        }
    }
}

/* On a terminal in columns, else six digits. */
static const char *number(const showing *s, double x, int more) {
    if (s->call->json || !isatty(STDOUT_FILENO))
        return gm_format(&s->call->arena, "%.6g", x);
    return gm_format(&s->call->arena, "% .*f", s->decimals + more, x);
}

static bool shown(const showing *s, long j) {
    return s->only < 0 || j / s->call->recipe.group == s->only;
}

/* A line a group; of the row (w - q) H (w - q)^T, which GPTQ makes small. */
static void print_grids(const showing *s, int way) {
    const char *name = gm_quantizer_name[way];
    const long each = s->call->recipe.group;
    double *e = gm_alloc(&s->call->arena, (size_t)s->n, 2 * sizeof *e);
    double *sum = e + s->n, loss = 0;
    for (long j = 0; j < s->n; j++) {
        e[j] = (double)s->w[j] - s->column[way][j].q;
        sum[j / each] += e[j] * e[j];
        for (long t = 0; t <= j && s->H; t++)
            loss += (t < j ? 2 : 1) * e[j] * e[t] * s->H[j * s->n + t];
    }
    for (long g = 0; g < s->groups; g++) {
        const group *x = s->group[way] + g;
        if (shown(s, g * each))
            gm_result_row("%s\t%d\t%ld\t%s\t%s\t%s\t%s\t%d\t%.4g", name,
                          s->bits, g, number(s, x->lo, 0), number(s, x->hi, 0),
                          number(s, (x->hi - x->lo) / ((1 << s->bits) - 1), 2),
                          number(s, x->fp16, 2), x->zero, sum[g]);
    }
    if (s->H) gm_talk(s->call, "%d bits, %s: (w - q) H (w - q)^T = %.4g",
                      s->bits, name, loss);
}

/* In the order in which the columns are rounded. */
static void print_columns(const showing *s) {
    for (long i = 0; i < s->n; i++) {
        const long j = s->factor.order ? s->factor.order[i] : i;
        const char *row = gm_format(&s->call->arena, "%ld", j);
        for (int way = 0; way < s->ways; way++) {
            const column *x = s->column[way] + j;
            row = gm_format(&s->call->arena, "%s\t%s\t%d\t%s\t%s", row,
                            number(s, x->w, 0), x->code, number(s, x->q, 0),
                            number(s, x->w - x->q, 0));
        }
        if (shown(s, j))
            gm_result_row(s->H ? "%s\t%s" : "%s%.0s", row,
                          number(s, s->column[s->ways - 1][j].next, 0));
    }
}

static void show_row(showing *s) {
    gm_call *call = s->call;
    const gm_recipe *r = &call->recipe;
    double most = 1e-9;
    s->ways = s->H ? 2 : 1;
    s->groups = (s->n + r->group - 1) / r->group;
    s->only = gm_given("--nth") ? call->nth : -1;
    if (s->only >= s->groups)
        gm_fail(GM_EUSAGE, "--nth: expected a group of the row, 0 to %ld, "
                "found %ld", s->groups - 1, s->only);
    for (long j = 0; j < s->n; j++)     /* gcc 12 for AArch64 crashes on fmax */
        if (fabs((double)s->w[j]) > most) most = fabs((double)s->w[j]);
    s->decimals = (int)fmin(fmax(4, 3 - floor(log10(most))), 9);
    gm_talk(call, "j column, w weight, c code, q = fp16 (c - zero), e = w - q"
            "%s", s->H ? ";\ngptq: w' the weight when its turn came, e' = w' - "
            "q', next: what column j+1\nthen got, -e' U_j,j+1 / U_jj" : "");
    for (int k = 0; k < r->count; k++) {
        s->bits = r->bits[k];
        if (s->bits > 8)
            gm_fail(GM_EUSAGE, "show: --bits: expected 1 to 8, found %d",
                    s->bits);
        if (call->json)
            printf("%s{\"bits\": %d, \"grids\": ", k ? ",\n" : "[", s->bits);
        else if (k) printf("\n");
        gm_result_begin("quantizer\tbits\tgroup\tlo\thi\tscale\tfp16\tzero\t"
                        "sum_e2");
        for (int way = 0; way < s->ways; way++) {
            round_row(s, way);
            print_grids(s, way);
        }
        gm_result_end(call);
        printf(call->json ? ", \"weights\": " : "\n");
        gm_result_begin(s->H ? "j\tw\tc\tq\te\tw'\tc'\tq'\te'\tnext"
                             : "j\tw\tc\tq\te");
        print_columns(s);
        gm_result_end(call);
        if (call->json) printf(k + 1 < r->count ? "}" : "}]\n");
    }
}

static void show_values(gm_call *call) {
    char *list = gm_format(&call->arena, "%s", call->values);
    gm_real w[GM_MAX_GROUP];
    showing s = {.call = call, .w = w};
    for (char *item; (item = strsep(&list, ","));) {
        if (s.n == GM_MAX_GROUP)
            gm_fail(GM_EUSAGE, "--values: expected at most %d, found more",
                    GM_MAX_GROUP);
        w[s.n++] = (gm_real)gm_parse_double("--values", item, -1e38, 1e38);
    }
    gm_recipe_parse(call->bits ? call->bits : "2,3,4", GM_MAX_GROUP,
                    &call->recipe);
    gm_call_recipe(call);
    show_row(&s);
}

/* (10) of quant.c for one input of one block. */
typedef struct { long layer; int input; double *H; } wanted;

static void take(void *context, long l, int i, long n, const double *H) {
    const wanted *to = context;
    if (l == to->layer && i == to->input)
        memcpy(to->H, H, (size_t)(n * n) * sizeof *H);
}

static void show_module(gm_call *call) {
    gm_arena *a = &call->arena;
    showing s = {.call = call};
    gm_call_prepare(call);
    const long modules = call->model.config.layers * GM_LINEARS;
    long m = 0, out;
    while (m < modules && strcmp(call->operand[1], gm_linear_name(
               a, m / GM_LINEARS, (int)(m % GM_LINEARS))) != 0)
        m++;
    if (m == modules)
        gm_fail(GM_EUSAGE, "show: %s: expected one of %ld linear modules such "
                "as %s, found \"%s\"", call->operand[0], modules,
                gm_linear_name(a, 0, 0), call->operand[1]);
    const long layer = m / GM_LINEARS;
    const int j = (int)(m % GM_LINEARS);
    gm_linear_shape(&call->model.config, j, &out, &s.n);
    if (call->row >= out)
        gm_fail(GM_EUSAGE, "--row: expected 0 to %ld, found %ld", out - 1,
                call->row);
    s.w = gm_alloc(a, (size_t)s.n, sizeof *s.w);
    gm_tensor_read(gm_linear_tensor(&call->model, layer, j), call->row * s.n,
                   s.n, s.w);
    if (call->recipe.quantizer == GM_GPTQ) {
        s.H = gm_alloc(a, (size_t)s.n, (size_t)s.n * sizeof *s.H);
        gm_model first = call->model;   /* no further than this block */
        first.config.layers = layer + 1;
        gm_call_calibrate(call);
        gm_hessians(a, &first, &call->recipe, &call->calibration, take,
                    &(wanted){layer, gm_input_of[j], s.H});
        gm_gptq_factor(a, s.n, s.H, call->recipe.damping,
                       call->recipe.act_order, &s.factor);
    }
    show_row(&s);
}

/* The shape, by its operands; options that it has no use for are refused. */
static void run_show(gm_call *call) {
    const int given = !call->operand[0] ? 0 : !call->operand[1] ? 1 : 2;
    if (!given != !!call->values)
        gm_fail(GM_EUSAGE, "show: expected MODEL MODULE, SCORES.tsv, ALLOC.tsv "
                "or --values, found %s", given ? "several" : "none");
    const char *odd = given == 1 ? gm_given_of("--bits|--scales|--symmetric")
                                 : NULL;
    if (!odd && given < 2)
        odd = gm_given_of("--group|--quantizer|--hessian|--damping|--act-order|"
                          "--row|--nth|--calib|--tokens|--sequences|--length");
    if (odd) gm_fail(GM_EUSAGE, "show: %s belongs to a row of a model", odd);
    (given == 2 ? show_module : given ? show_table : show_values)(call);
}

const gm_command gm_command_show = {
    "show", "--values LIST | MODEL MODULE | SCORES.tsv | ALLOC.tsv",
    "One row as it is rounded; bits and sensitivities of all modules",
    "--values, or a row of a linear module of MODEL (its full name): lo, hi,\n"
    "scale before and after fp16, zero, codes, values, errors, by RTN; with\n"
    "--quantizer gptq --calib FILE beside it GPTQ, column by column, with\n"
    "what each error moves on.  Of a table a character for each module, a\n"
    "line for each kind of module, a column for each block: bits as digits (in\n"
    "colour on a terminal unless NO_COLOR is set), sensitivities as bars.",
    2, SHOW, run_show};
