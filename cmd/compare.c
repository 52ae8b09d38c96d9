/* compare.c: the command `compare`: every way to choose bits on the same
   candidates, sizes, budgets and text.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

enum { BAQ_ROW = GM_METHODS, METHODS, ORIGINAL = METHODS,
       MAX_ROWS = GM_MAX_ROWS_COMPARED };

static const char *name_of(int method) {
    return method == ORIGINAL ? "original" : method == BAQ_ROW ? "baq"
         : gm_method_name((gm_method)method);
}

static bool is_learned(int method) {
    return method == GM_LEARNED || method == GM_REFINED;
}

typedef struct {
    gm_call *call;
    gm_rivals_options options;
    gm_rivals *rivals;
    const gm_scores *table;
    gm_scores scores;
    gm_effort learning;             /* of gamma's scores, if learned here */
    bool wanted[METHODS], learned;  /* learned: a method needs them */
    int method[METHODS], methods;   /* in the order asked for */
    const char *run;                /* hash of what all rows depend on */
    char scores_hash[65];
    gm_comparison all;
    const char *asked[MAX_ROWS];    /* keys of the rows asked for */
    long rows;
} comparing;

/* --methods, in the order given, each once; what they need. */
static void read_methods(comparing *c) {
    gm_call *call = c->call;
    const char *names[METHODS];
    char *list = gm_format(&call->arena, "%s", call->methods);
    for (int m = 0; m < METHODS; m++) names[m] = name_of(m);
    for (char *item; (item = strsep(&list, ","));) {
        const int m = gm_parse_name("--methods", item, names, METHODS);
        const gm_measures measures = m == BAQ_ROW ? GM_MEASURES_NOTHING
                                   : gm_method_measures((gm_method)m);
        if (c->wanted[m])
            gm_fail(GM_EUSAGE, "--methods: %s is given twice", item);
        c->wanted[m] = true;
        c->method[c->methods++] = m;
        c->learned = c->learned || is_learned(m);
        if (measures > call->plan.rivals) call->plan.rivals = measures;
    }
    /* the original's row, and each method's for each budget */
    const long rows = 1 + c->methods * (1 + gm_count_char(call->budgets, ','));
    if (rows > MAX_ROWS)
        gm_fail(GM_EUSAGE, "compare: expected at most %d rows, found %ld",
                MAX_ROWS, rows);
}

/* ------------------------------------------------------ what rows depend on */

/* The first `digits` digits of the hash of a text. */
static const char *short_hash(gm_call *call, const char *text, int digits) {
    char hex[65];
    gm_sha_of(text, strlen(text), hex);
    return gm_format(&call->arena, "%.*s", digits, hex);
}

static const char *name_run(const comparing *c) {
    gm_call *call = c->call;
    const gm_sequences *t[3] = {&call->calibration, &call->on.text,
                                &c->options.text};
    const bool own = t[2]->tokens != t[0]->tokens;      /* --search-text */
    char hash[3][65];
    for (int i = 0; i < 3; i++)
        gm_sha_tokens(t[i]->tokens, t[i]->sequences, t[i]->T, hash[i]);
    return short_hash(call, gm_format(
        &call->arena, "gamma %s\nmodel %s\ncandidates %s\ncalibration %s\n"
        "sequences %ld %ld\ntext %s\nwindows %ld %ld\nseed %llu\n"
        "evaluations %ld\n%s%s", GM_VERSION, call->model.hash,
        call->candidates.hash, hash[0], t[0]->sequences, t[0]->T, hash[1],
        t[1]->sequences, t[1]->T, (unsigned long long)c->options.seed,
        c->options.evaluations,
        own ? "search " : "", own ? hash[2] : ""), 12);
}

/* budget NULL: the original. */
static const char *key_of(const comparing *c, int method,
                          const gm_budget *budget) {
    return short_hash(c->call, gm_format(
        &c->call->arena, "run %s\nmethod %s\nbudget %s %lld\nscores %s\n",
        c->run, name_of(method),
        budget ? gm_convention_name(budget->convention) : "-",
        budget ? (long long)budget->limit : 0LL,
        is_learned(method) ? c->scores_hash : "-"), 16);
}

/* ------------------------------------------------------------------ one row */

/* GAMMA's scores: from a file (scores of other candidates would compare
   nothing), or from Stage I in DIR, gone on with where it was interrupted.  Its
   passes over the text: `batch` of S sequences a step, forward and backward. */
static void prepare_gamma(comparing *c) {
    gm_call *call = c->call;
    const gm_fit_options *o = &call->fit;
    const double start = gm_seconds();
    const gm_scores *s = &c->scores;
    gm_sha sha;
    if (call->scores_from) {
        gm_scores_read(&call->arena, call->scores_from, &c->scores);
        gm_call_match(call, &c->scores, call->candidates.hash);
    } else {
        call->resume = true;
        gm_call_learn(call, &c->scores);
        c->learning = (gm_effort){
            (double)(o->steps * o->batch) / (double)o->sequences,
            gm_seconds() - start};
    }
    const size_t bytes = (size_t)(s->M * s->K) * sizeof *s->score;
    gm_sha_begin(&sha);
    gm_sha_add(&sha, s->score, bytes);
    for (int i = 0; i < s->anchors; i++) {
        gm_sha_add(&sha, s->anchor[i].at, sizeof s->anchor[i].at);
        gm_sha_add(&sha, s->anchor[i].score, bytes);
        gm_sha_add(&sha, &s->anchor[i].gain, 2 * sizeof(double));
    }
    gm_sha_end(&sha, c->scores_hash);
    c->options.learned = &c->scores;
}

/* alloc-METHOD-2.5.tsv, -2.75-ebits.tsv, -50M-bytes.tsv */
static void write_alloc(comparing *c, const gm_budget *budget,
                        const char *method, const int *choice) {
    gm_call *call = c->call;
    gm_arena *a = &call->arena;
    gm_allocation out = gm_allocation_of(a, c->table, choice);
    const char *in = gm_convention_name(budget->convention);
    const bool bits = budget->convention == GM_BITS;
    char recipe[GM_RECIPE_TEXT];
    gm_recipe_text(&call->recipe, recipe);
    const char *const keys[][2] = {
        {"format", "gamma-alloc 1"}, {"version", GM_VERSION},
        {"method", method}, {"model_hash", call->model.hash},
        {"candidates", recipe}, {"candidates_hash", call->candidates.hash},
        {"asked", budget->text}, {"asked_in", in}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        gm_keys_set(a, &out.keys, keys[i][0], "%s", keys[i][1]);
    gm_allocation_write(a, gm_format(a, "%s/alloc-%s-%s%s%s.tsv", call->out,
                                     method, budget->text, bits ? "" : "-",
                                     bits ? "" : in), &out);
}

static void measure_method(comparing *c, int method, const gm_budget *budget,
                           gm_compared *row) {
    const gm_scores *t = c->table;
    int *choice = gm_alloc(&c->call->arena, (size_t)t->M, sizeof *choice);
    gm_effort spent = gm_rivals_choose(c->rivals, (gm_method)method, budget,
                                       choice, NULL);
    row->measure = gm_call_measure_once(c->call, choice);
    write_alloc(c, budget, row->method, choice);
    gm_compared_sizes(row, t, choice);
    row->quantizer = gm_quantizer_name[c->call->recipe.quantizer];
    row->evaluations = spent.evaluations;
    row->seconds = spent.seconds;
    if (is_learned(method)) {
        row->evaluations += c->learning.evaluations;
        row->seconds += c->learning.seconds;
    }
}

/* BAQ makes weights of its own; its rate is the budget in bits a weight, and
   its sizes are its report's. */
static void measure_baq(comparing *c, const gm_budget *budget,
                        gm_compared *row) {
    gm_call *call = c->call;
    const gm_scores *t = c->table;
    const double start = gm_seconds(), limit = (double)budget->limit;
    const bool bytes = budget->convention == GM_BYTES;
    const gm_baq_options o = {
        .damping = GM_DAMPING, .hessian = call->recipe.hessian == GM_PLAIN
                                          ? GM_PLAIN : GM_TOKEN,
        .rule = budget->convention == GM_BITS ? GM_BAQ_BITS : GM_BAQ_EBITS,
        .rate = (bytes ? 8 * (limit - (double)t->overhead) : limit) /
                (double)t->N};
    gm_candidates made;
    gm_baq_report report = gm_call_baq(call, &o, &made);
    row->seconds = gm_seconds() - start;
    const int *first = gm_alloc(&call->arena, (size_t)t->M, sizeof *first);
    row->measure = gm_call_measure(call, &made, first);
    row->quantizer = "baq";
    row->evaluations = 1;           /* one pass for the Hessians */
    row->code_bits = report.bits;
    row->effective_bits = report.effective_bits;
    row->bytes = (double)(t->overhead + report.bytes);
    gm_candidates_close(&made);
}

/* Measured, unless a row of that key is there. */
static void one_row(comparing *c, int method, const gm_budget *budget) {
    gm_compared row = {.method = name_of(method), .run = c->run,
                       .key = key_of(c, method, budget)};
    c->asked[c->rows++] = row.key;
    if (gm_comparison_find(&c->all, row.key)) return;
    if (budget) {
        row.budget = budget->text;
        row.convention = gm_convention_name(budget->convention);
        gm_talk(c->call, "%s %s", row.method, row.budget);
    }
    if (method == ORIGINAL) gm_call_original(c->call, &row);
    else if (method == BAQ_ROW) measure_baq(c, budget, &row);
    else measure_method(c, method, budget, &row);
    gm_comparison_add(&c->call->arena, &c->all, &row);
}

/* ----------------------------------------------------------------- all rows */

/* All that can be refused before anything is computed; then the candidates,
   the scores, the errors. */
static void begin(comparing *c) {
    gm_call *call = c->call;
    gm_arena *a = &call->arena;
    read_methods(c);
    gm_call_prepare(call);
    call->plan.learns = !call->scores_from && c->learned;
    c->options = (gm_rivals_options){.candidates = &call->candidates,
                                     .evaluations = call->evaluations,
                                     .seed = call->fit.seed};
    if (call->search)
        c->options.text = gm_call_sequences(call, call->search, NULL);
    gm_check_names(call->out, "compare.tsv,compare.svg,windows-*.tsv,"
                   "alloc-*.tsv,baq-*.tsv," GM_PAGE);
    gm_call_begin(call);
    if (!c->options.text.tokens) c->options.text = call->calibration;
    c->options.overhead = call->table.overhead;
    c->all = gm_comparison_open(a, call->out);
    c->run = name_run(c);
    if (c->learned) prepare_gamma(c);
    if (!call->search) c->options.separable = call->separable;
    c->rivals = gm_rivals_begin(a, &c->options, &call->report);
    c->table = gm_rivals_table(c->rivals);
}

static void run_compare(gm_call *call) {
    comparing c = {.call = call};
    gm_arena *a = &call->arena;
    char text[GM_ROW_TEXT];
    begin(&c);
    one_row(&c, ORIGINAL, NULL);
    for (int b = 0; b < call->plan.budgets; b++)
        for (int i = 0; i < c.methods; i++)
            one_row(&c, c.method[i], call->budget + b);
    gm_compared *row = gm_alloc(a, (size_t)c.rows, sizeof *row);
    gm_compared_text(NULL, text);
    gm_result_begin(gm_format(a, "%s\tseconds", text));
    for (long i = 0; i < c.rows; i++) {
        row[i] = *gm_comparison_find(&c.all, c.asked[i]);
        gm_compared_text(row + i, text);
        gm_result_row("%s\t%.1f", text, row[i].seconds);
    }
    gm_result_end(call);
    gm_plot plot = gm_comparison_series(a, row, c.rows, call->in, 0, NULL);
    if (plot.count) {
        gm_talk(call, "\n%s", gm_plot_text(a, &plot, 78, 22));
        plot = gm_comparison_series(a, row, c.rows, call->in, c.rows, NULL);
        plot.label[2] = gm_format(a, "%s, %s", gm_model_name(a, &call->model),
                                  gm_base_name(call->on.path));
        gm_figure_file(a, gm_plot_svg, &plot,
                       gm_format(a, "%s/compare.svg", call->out));
    }
    if (c.wanted[GM_LEARNED])
        gm_talk(call, "%s", gm_comparison_verdict(a, row, c.rows));
    gm_call_page(call, row, c.rows);
}

const gm_command gm_command_compare = {
    "compare", "MODEL --calib FILE --eval FILE --out DIR",
    "Every way to choose bits, at equal sizes, in one table",
    "Each method chooses bits for each budget from the same candidates; each\n"
    "choice is measured on the evaluation text.  kl_above_gamma: mean over\n"
    "windows of KL minus gamma's, with its standard error.  evaluations:\n"
    "passes over the calibration text (gamma: of learning, for all budgets).\n"
    "baq makes weights of its own; its sizes are its report's.\n"
    "Rows already in DIR/compare.tsv are taken over; a killed run goes on.",
    1, COMPARE, run_compare};
