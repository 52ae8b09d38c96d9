/* main_compare.c: the command `compare`: every way to choose bits on the same
   candidates, sizes, budgets and text.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

static const gm_option compare_options[] = {
    {"--calib", "FILE", NULL, "calibration text"},
    {"--tokens", "FILE", NULL, "instead of --calib: tokens, .npy"},
    {"--text", "FILE", NULL, "evaluation text, another one; required"},
    {"--eval-tokens", "FILE", NULL, "instead of --text: tokens, .npy"},
    {"--out", "DIR", NULL, "where compare.tsv, compare.svg, alloc-METHOD-"
     "BUDGET.tsv and the candidates go; required"},
    {"--budgets", "LIST", "2.25,2.5,3,3.5", "each a row for each method"},
    {"--in", "NAME", "bits", "what budgets count: bits: average code bits; "
     "ebits: with scales and zeros; bytes: the packed file (50M, 47.5MiB)"},
    {"--methods", "LIST", "uniform,random,first-high,last-high,greedy,gram,"
     "separable,closed-form,anneal,evolve,evolve-kl,baq,gamma", "see "
     "docs/rivals.md; also refined"},
    {"--evaluations", "N", "200", "most evaluations of a search, 1..1000000; a "
     "forward pass of the calibration text each; 16: one round of refined"},
    {"--search-text", "FILE", NULL, "what the rivals' errors and searches are "
     "measured on, --sequences of --length (the calibration text): for gptq a "
     "text that its candidates were not made from"},
    {"--search-tokens", "FILE", NULL, "instead of --search-text: tokens, .npy"},
    {"--scores", "FILE", NULL, "gamma's scores (else learned here as gamma fit "
     "does, and kept as DIR/scores.tsv)"},
    {"--window", "T", "512", "tokens in an evaluation window"},
    {"--windows", "N", "0", "evaluation windows; 0: all whole ones"},
    GM_LEARN_OPTIONS,
    GM_MEMORY_OPTION,
    {0}};

enum { BAQ = GM_METHODS, METHODS, MAX_ROWS = 1024 };

static const char *name_of(int method) {
    return method == BAQ ? "baq" : gm_method_name((gm_method)method);
}

/* An assignment of the candidates, and what it was measured to be. */
typedef struct { const int *choice; gm_measure measure; } measured;

typedef struct {
    gm_call *call;
    gm_model model;
    gm_recipe recipe;
    gm_fit_options fit;
    gm_sequences calibration;
    gm_candidates candidates;
    gm_measuring on;
    gm_rivals_options options;
    gm_rivals *rivals;
    const gm_scores *table;
    gm_scores scores;
    gm_effort learning;             /* of gamma's scores, if learned here */
    gm_convention in;
    bool wanted[METHODS];
    int method[METHODS], methods;   /* in the order asked for */
    const char *dir, *run;
    char scores_hash[65];
    gm_comparison all;
    const char *asked[MAX_ROWS];    /* keys of the rows asked for */
    long rows;
    measured seen[MAX_ROWS];        /* different ones, in this process */
    long seen_count;
} comparing;

/* --------------------------------------------------------- the command line */

static void read_methods(comparing *c) {
    const char *names[METHODS];
    gm_call *call = c->call;
    char *list = gm_format(&call->arena, "%s", gm_arg(call, "--methods"));
    for (int m = 0; m < METHODS; m++) names[m] = name_of(m);
    for (char *item; (item = strsep(&list, ","));) {
        const int m = gm_parse_name("--methods", item, names, METHODS);
        if (c->wanted[m])
            gm_fail(GM_EUSAGE, "--methods: %s is given "
                           "twice", item);
        c->wanted[m] = true;
        c->method[c->methods++] = m;
    }
}

/* The original's, and each method's for each budget. */
static long count_rows(const comparing *c) {
    const char *budgets = gm_arg(c->call, "--budgets");
    return 1 + c->methods * (1 + gm_count_char(budgets, ','));
}

static bool needs_scores(const comparing *c) {
    return c->wanted[GM_LEARNED] || c->wanted[GM_REFINED];
}

/* All that can be refused before anything is computed. */
static void read_options(comparing *c) {
    gm_call *call = c->call;
    long seed;
    gm_scores table;
    if (!(c->dir = gm_arg(call, "--out")))
        gm_fail(GM_EUSAGE, "compare: --out DIR is missing");
    if (!gm_arg(call, "--text") && !gm_arg(call, "--eval-tokens"))
        gm_fail(GM_EUSAGE, "compare: --text FILE is "
                       "missing");
    read_methods(c);
    c->in = gm_convention_parse("--in", gm_arg(call, "--in"));
    gm_arg_long(call, "--evaluations", 1, 1000000,
                            &c->options.evaluations);
    gm_arg_long(call, "--seed", 0, 1L << 62, &seed);
    gm_call_recipe(call, &c->recipe);
    gm_model_open(&call->arena, call->operand[0], &c->model);
    gm_call_external(call, &c->model, NULL, &c->recipe);
    gm_call_fit_options(call, &c->recipe, &c->fit);
    gm_call_table(call, &c->model, &c->recipe, &table);
    c->options.overhead = table.overhead;
    gm_call_budgets(call, &table);
    if (count_rows(c) > MAX_ROWS)
        gm_fail(GM_EUSAGE, "compare: expected at most %d rows, "
                    "found %ld", MAX_ROWS, count_rows(c));
    c->options.seed = (uint64_t)seed;
}

static void read_texts(comparing *c) {
    gm_call *call = c->call;
    const char *search = gm_arg(call, "--search-text");
    const char *tokens = gm_arg(call, "--search-tokens");
    gm_call_windows(call, &c->model, gm_arg(call, "--text"),
                                  gm_arg(call, "--eval-tokens"), &c->on);
    gm_call_calibration(call, &c->model, gm_arg(call, "--calib"),
                                    gm_arg(call, "--tokens"), c->fit.S,
                                    c->fit.T, &c->calibration);
    c->options.text = c->calibration;
    if (!search && !tokens) return;
    gm_call_calibration(call, &c->model, search, tokens, c->fit.S,
                               c->fit.T, &c->options.text);
}

/* Says how much memory this takes, and makes it fit --max-memory. */
static void plan_memory(comparing *c) {
    gm_plan plan = {.recipe = c->recipe, .fit = c->fit, .candidates = true,
                    .windows = c->on.text.windows,
                    .window = c->on.text.window,
                    .budgets = (int)count_rows(c) - 1};
    plan.learns = needs_scores(c) && !gm_arg(c->call, "--scores");
    for (int m = 0; m < GM_METHODS; m++)
        if (c->wanted[m] && gm_method_measures((gm_method)m) > plan.rivals)
            plan.rivals = gm_method_measures((gm_method)m);
    gm_call_plan(c->call, &c->model, &plan);
    c->recipe.at_once = plan.recipe.at_once;
    c->on.group = plan.group;
}

/* ----------------------------------------------------------------- what rows
   depend on */

/* The first `digits` digits of the hash of a text. */
static const char *short_hash(gm_call *call, const char *text, int digits) {
    char hex[65];
    if (!text) return NULL;
    gm_sha_of(text, strlen(text), hex);
    return gm_format(&call->arena, "%.*s", digits, hex);
}

static void name_run(comparing *c) {
    gm_call *call = c->call;
    const gm_sequences *t = &c->calibration;
    const gm_text *e = &c->on.text;
    const gm_sequences *r = &c->options.text;
    char calibration[65], text[65], rivals[65] = "";
    gm_sha_tokens(t->tokens, t->S, t->T, calibration);
    gm_sha_tokens(e->tokens, e->windows, e->window, text);
    bool own = r->tokens != t->tokens;      /* --search-text */
    if (own) gm_sha_tokens(r->tokens, r->S, r->T, rivals);
    const char *all = gm_format(
        &call->arena, "gamma %s\nmodel %s\ncandidates %s\ncalibration %s\n"
        "sequences %ld %ld\ntext %s\nwindows %ld %ld\nseed %llu\n"
        "evaluations %ld\n%s%s", GM_VERSION, c->model.hash,
        c->candidates.hash, calibration, t->S, t->T, text, e->windows,
        e->window, (unsigned long long)c->options.seed, c->options.evaluations,
        own ? "search " : "", rivals);
    c->run = short_hash(call, all, 12);
}

/* budget NULL: the original. */
static const char *key_of(comparing *c, const char *method,
                          const gm_budget *budget) {
    bool learned = strcmp(method, gm_method_name(GM_LEARNED)) == 0 ||
                   strcmp(method, gm_method_name(GM_REFINED)) == 0;
    const char *all = gm_format(
        &c->call->arena, "run %s\nmethod %s\nbudget %s %lld\nscores %s\n",
        c->run, method, budget ? gm_convention_name(budget->convention) : "-",
        budget ? (long long)budget->limit : 0LL,
        learned ? c->scores_hash : "-");
    return short_hash(c->call, all, 16);
}

/* ----------------------------------------------------------- gamma's scores */

/* What learning took is kept for rows that are measured later; `hash` is the
   fit's. */
static void keep_learning(comparing *c, const char *hash) {
    gm_call *call = c->call;
    gm_table t;
    gm_out out;
    const char *path = gm_format(&call->arena, "%s/learning.tsv", c->dir);
    if (gm_exists(path)) {
        gm_table_read(&call->arena, path, &t);
        const char *of = gm_table_key(&t, "hash");
        if (of && strcmp(of, hash) == 0 && t.rows == 1) {
            c->learning.seconds = gm_parse_double(path, t.cell[0], 0, 1e12);
            return;
        }
    }
    gm_out_open(&call->arena, path, &out);
    gm_out_print(&out, "# hash %s\nseconds\n%.1f\n", hash,
                 c->learning.seconds);
    gm_out_commit(&out);
}

/* Stage I in DIR, gone on with where it was interrupted.  Its passes over the
   text: `batch` of S sequences a step, forward and backward. */
static void learn(comparing *c) {
    gm_call *call = c->call;
    gm_fit fit;
    double start = gm_seconds();
    gm_arena learning = {0};        /* as large as evaluation, and before it */
    gm_call_fit(call, &learning, &c->candidates,
                              c->calibration.tokens,
                              &c->fit, c->dir, true, &fit);
    double passes = (double)(c->fit.steps * c->fit.batch) / (double)c->fit.S;
    c->learning = (gm_effort){passes, gm_seconds() - start};
    gm_call_scores(call, &fit, c->dir, &c->scores);
    char hash[65];
    gm_fit_hash(&fit, hash);
    keep_learning(c, hash);
    gm_arena_free(&learning);
}

void gm_call_match(const gm_scores *scores,
                        const char *model, const char *candidates) {
    const struct { const char *key, *expected; } same[] = {
        {"model_hash", model}, {"candidates_hash", candidates}};
    for (int i = 0; i < 2; i++) {
        const char *found = gm_keys_get(&scores->keys, same[i].key);
        if (found && same[i].expected && strcmp(found, same[i].expected) != 0)
            gm_fail(GM_EINPUT, "%s: %s: expected %s, found "
                           "%s", scores->path, same[i].key, same[i].expected,
                           found);
    }
}

/* Scores of other candidates would compare nothing. */
static void read_scores(comparing *c, const char *path) {
    gm_call *call = c->call;
    gm_scores_read(&call->arena, path, &c->scores);
    gm_call_match(&c->scores, c->model.hash,
                                 c->candidates.hash);
}

static void prepare_gamma(comparing *c) {
    const char *path = gm_arg(c->call, "--scores");
    if (!needs_scores(c)) return;
    path ? read_scores(c, path) : learn(c);
    gm_sha_of(c->scores.score, (size_t)(c->scores.M * c->scores.K) *
              sizeof *c->scores.score, c->scores_hash);
    c->options.learned = &c->scores;
}

/* ------------------------------------------------------------------ one row */

/* "2.5", "2.75-ebits", "50M-bytes". */
static const char *alloc_path(comparing *c, const char *method,
                              const gm_budget *budget) {
    bool bits = budget->convention == GM_BITS;
    return gm_format(&c->call->arena, "%s/alloc-%s-%s%s%s.tsv", c->dir, method,
                     budget->text, bits ? "" : "-",
                     bits ? "" : gm_convention_name(budget->convention));
}

static void write_alloc(comparing *c, const char *method,
                             const gm_budget *budget, const int *choice) {
    gm_call *call = c->call;
    gm_arena *a = &call->arena;
    const gm_scores *t = c->table;
    const size_t M = (size_t)t->M;
    char recipe[128];
    gm_allocation out = {.M = t->M, .name = t->name};
    out.bits = gm_alloc(a, M, sizeof *out.bits);
    out.bytes = gm_alloc(a, M, sizeof *out.bytes);
    const char *path = alloc_path(c, method, budget);
    for (long m = 0; m < t->M; m++) {
        out.bits[m] = t->bits[choice[m]];
        out.bytes[m] = t->bytes[m * t->K + choice[m]];
    }
    gm_recipe_text(&c->recipe, recipe);
    const struct { const char *key, *value; } keys[] = {
        {"format", "gamma-alloc 1"}, {"version", GM_VERSION},
        {"method", method}, {"model_hash", c->model.hash},
        {"candidates", recipe}, {"candidates_hash", c->candidates.hash},
        {"asked", budget->text},
        {"asked_in", gm_convention_name(budget->convention)}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        gm_keys_set(a, &out.keys, keys[i].key, "%s",
                        keys[i].value);
    gm_allocation_write(a, path, &out);
}

static void fill_sizes(const comparing *c, const int *choice,
                       gm_compared *row) {
    gm_sizes z = gm_sizes_of(c->table, choice);
    row->code_bits = (double)z.code_bits / (double)c->table->N;
    row->effective_bits = (double)z.effective_bits / (double)c->table->N;
    row->bytes = (double)z.file_bytes;
}

/* Methods often choose the same: measured once. */
static void measure_choice(comparing *c, const int *choice,
                                gm_measure *m) {
    const size_t bytes = (size_t)c->table->M * sizeof *choice;
    for (long i = 0; i < c->seen_count; i++)
        if (memcmp(c->seen[i].choice, choice, bytes) == 0) {
            *m = c->seen[i].measure;
            return;
        }
    gm_call_measure(c->call, &c->model, &c->candidates, choice,
                                  &c->on, m);
    c->seen[c->seen_count++] = (measured){choice, *m};
}

static void choose_and_measure(comparing *c, gm_method method,
                                    const gm_budget *budget, gm_compared *row,
                                    gm_measure *m) {
    gm_call *call = c->call;
    int *choice = gm_alloc(&call->arena, (size_t)c->table->M, sizeof *choice);
    gm_effort effort = gm_rivals_choose(c->rivals, method, budget, choice,
                                        NULL);
    measure_choice(c, choice, m);
    write_alloc(c, row->method, budget, choice);
    bool learned = method == GM_LEARNED || method == GM_REFINED;
    row->quantizer = gm_quantizer_name[c->recipe.quantizer];
    row->evaluations = effort.evaluations +
                       (learned ? c->learning.evaluations : 0);
    row->seconds = effort.seconds + (learned ? c->learning.seconds : 0);
    fill_sizes(c, choice, row);
}

typedef struct {
    comparing *c;
    gm_baq_options options;
    gm_candidates made;
    gm_baq_report report;
} baq_making;

static void make_baq(void *context) {
    baq_making *b = context;
    comparing *c = b->c;
    b->report = gm_call_baq(c->call, &c->model, &b->options, &c->calibration,
                            c->dir, &b->made);
}

/* BAQ makes weights of its own; its rate is the budget in bits a weight, and
   its sizes are its report's.  false: a budget below what its ranges take. */
static bool measure_baq(comparing *c, const gm_budget *budget,
                             gm_compared *row, gm_measure *m) {
    gm_call *call = c->call;
    const gm_scores *t = c->table;
    baq_making b = {.c = c, .options = {.damping = GM_DAMPING,
                                        .hessian = c->recipe.hessian}};
    gm_baq_options *const o = &b.options;
    gm_error err;
    double start = gm_seconds(), limit = (double)budget->limit;
    if (o->hessian != GM_PLAIN) o->hessian = GM_TOKEN;
    o->rule = budget->convention == GM_BITS ? GM_BAQ_BITS : GM_BAQ_EBITS;
    if (budget->convention == GM_BYTES)
        limit = 8 * (limit - (double)t->overhead);
    o->rate = limit / (double)t->N;
    gm_status s = gm_try(make_baq, &b, &err);
    if (s == GM_EINFEASIBLE) {
        gm_talk(call, "no row: %s", err.text);
        return false;
    }
    if (s) gm_fail(s, "%s", err.text);
    row->seconds = gm_seconds() - start;
    int *first = gm_alloc(&call->arena, (size_t)t->M, sizeof *first);
    gm_call_measure(call, &c->model, &b.made, first, &c->on, m);
    row->quantizer = "baq";
    row->evaluations = 1;           /* one pass for the Hessians */
    row->code_bits = b.report.bits;
    row->effective_bits = b.report.effective_bits;
    row->bytes = (double)(t->overhead + b.report.bytes);
    gm_candidates_close(&b.made);
    return true;
}

/* The stored model: its weight files, its linear modules' bits. */
static void measure_original(comparing *c, gm_compared *row,
                                  gm_measure *m) {
    int64_t bytes = 0;
    for (long i = 0; i < c->table->M; i++)
        bytes += (int64_t)gm_linear_tensor(&c->model, i / GM_LINEARS,
                                           (int)(i % GM_LINEARS))->bytes;
    row->quantizer = row->budget = row->convention = "-";
    row->code_bits = 8 * (double)bytes / (double)c->table->N;
    row->effective_bits = row->code_bits;
    for (long i = 0; i < c->model.tensors.files; i++)
        row->bytes += (double)c->model.tensors.file[i]->size;
    gm_call_measure(c->call, &c->model, NULL, NULL, &c->on, m);
    m->top1 = 1;
}

/* Measured, unless a row of that key is there. */
static void one_row(comparing *c, int method, const gm_budget *budget) {
    gm_call *call = c->call;
    const char *name = budget ? name_of(method) : "original";
    gm_compared row = {.method = name, .run = c->run,
                       .key = key_of(c, name, budget)};
    if (!gm_comparison_find(&c->all, row.key)) {
        if (budget) {
            row.budget = budget->text;
            row.convention = gm_convention_name(budget->convention);
        }
        if (budget) gm_talk(call, "%s %s", name, budget->text);
        if (!budget)
            measure_original(c, &row, &row.measure);
        else if (method == BAQ && !measure_baq(c, budget, &row, &row.measure))
            return;
        else if (method != BAQ)
            choose_and_measure(c, (gm_method)method, budget, &row,
                               &row.measure);
        gm_comparison_add(&call->arena, &c->all, &row);
    }
    c->asked[c->rows++] = row.key;
}

/* ----------------------------------------------------------------- all rows */

static void all_rows(comparing *c) {
    gm_call *call = c->call;
    char *list = gm_format(&call->arena, "%s", gm_arg(call, "--budgets"));
    one_row(c, METHODS, NULL);
    for (char *item; (item = strsep(&list, ","));) {
        gm_budget budget = gm_budget_parse(&call->arena, c->table, c->in, item);
        for (int i = 0; i < c->methods; i++)
            one_row(c, c->method[i], &budget);
    }
}

static void print_rows(const comparing *c) {
    char text[GM_ROW_TEXT];
    gm_compared_text(NULL, text);
    gm_result_begin(c->call, gm_format(&c->call->arena, "%s\tseconds", text));
    for (long i = 0; i < c->rows; i++) {
        const gm_compared *r = gm_comparison_find(&c->all, c->asked[i]);
        gm_compared_text(r, text);
        gm_result_row(c->call, "%s\t%.1f", text, r->seconds);
    }
    gm_result_end(c->call);
}

/* Who is better or worse than gamma by two standard errors of the difference,
   window by window. */
static void talk_verdict(const comparing *c) {
    static const char *const side[] = {"gamma is better than",
                                       "gamma is worse than",
                                       "no difference to"};
    for (int v = 0; v < 3; v++) {
        char names[1024] = "";
        for (long i = 0; i < c->rows; i++) {
            const gm_compared *r = gm_comparison_find(&c->all, c->asked[i]);
            double two = 2 * r->above_error;
            int is = r->above > two ? 0 : r->above < -two ? 1 : 2;
            if (!r->paired || is != v) continue;
            size_t used = strlen(names);
            snprintf(names + used, sizeof names - used, " %s@%s", r->method,
                     r->budget);
        }
        if (*names) gm_talk(c->call, "%s%s", side[v], names);
    }
    gm_talk(c->call, "(KL, by two standard errors of the paired difference)");
}

static void draw(const comparing *c) {
    gm_call *call = c->call;
    const char *path = gm_format(&call->arena, "%s/compare.svg", c->dir);
    const gm_compared **rows = gm_alloc(&call->arena, (size_t)c->rows,
                                        sizeof *rows);
    for (long i = 0; i < c->rows; i++)
        rows[i] = gm_comparison_find(&c->all, c->asked[i]);
    gm_plot plot = gm_comparison_series(&call->arena, rows, c->rows, c->in);
    if (!plot.count) return;
    gm_plot_svg(&call->arena, &plot, path);
    gm_talk(call, "\n%s", gm_plot_text(&call->arena, &plot, 78, 22));
}

static void run_compare(gm_call *call) {
    static comparing c;
    c.call = call;
    read_options(&c);
    read_texts(&c);
    plan_memory(&c);
    gm_call_claim(call, c.dir);
    c.all = gm_comparison_open(&call->arena, c.dir);
    gm_candidates_open(&call->arena, &c.model, &c.recipe,
                                   &c.calibration, c.dir, &call->report,
                                   &c.candidates);
    gm_candidates_verify(&call->arena, &c.candidates, c.dir);
    name_run(&c);
    prepare_gamma(&c);
    c.options.candidates = &c.candidates;
    c.rivals = gm_rivals_begin(&call->arena, &c.options, &call->report);
    c.table = gm_rivals_table(c.rivals);
    all_rows(&c);
    print_rows(&c);
    draw(&c);
    if (c.wanted[GM_LEARNED]) talk_verdict(&c);
    gm_candidates_close(&c.candidates);
    gm_model_close(&c.model);
}

const gm_command gm_command_compare = {
    "compare", "MODEL --calib FILE --text FILE --out DIR",
    "Every way to choose bits, at equal sizes, in one table",
    "Each method chooses bits for each budget from the same candidates; each\n"
    "choice is measured on the evaluation text.  kl_above_gamma: mean over\n"
    "windows of KL minus gamma's, with its standard error.  evaluations:\n"
    "passes over the calibration text (gamma: of learning, forward and\n"
    "backward, once for all budgets).  baq makes weights of its own; its\n"
    "sizes are its report's.\n"
    "Rows already in DIR/compare.tsv are taken over; a killed run goes on.",
    1, 1, compare_options, run_compare};
