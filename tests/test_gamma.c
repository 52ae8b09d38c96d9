/* test_gamma.c: Stage I against torch autograd in float64 (three
   architectures, three steps; every relaxation and norm, two), resuming against
   an uninterrupted run, identical bits for all threads and instruction sets,
   per-module candidates, the tap, refusals.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd/cmd.h"
#include "large.h"
#include "test.h"
#include "vec.h"

#include <math.h>
#include <unistd.h>

static const char stage1_vec[] = "tests/golden/stage1.vec";
static const char work[] = "build/test/gamma-work";

static const char relax_vec[] = "tests/golden/relax.vec";

/* The settings in the header of stage1.vec. */
static const gm_fit_options golden_options = {
    .sequences = 2, .T = 24, .batch = 2, .steps = 3, .alpha = 0.1, .rho = 10,
    .eta = 0.02, .tau = 0.7, .rate = 0.1, .tail = 0, .budget = 2.5, .seed = 1};

static const char *fixture_bits = "2,3,4";

typedef struct {
    gm_arena arena;
    gm_model model;
    gm_candidates candidates;
    int32_t *tokens;
    gm_fit fit;
} fixture;

static gm_vec record(const char *set, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s", set, what);
    return vec_read(stage1_vec, name);
}

static void fixture_begin(fixture *f, const char *set,
                          const gm_fit_options *options) {
    gm_recipe recipe;
    char dir[64];
    snprintf(dir, sizeof dir, "tests/golden/tiny-%s", set);
    memset(f, 0, sizeof *f);
    gm_status s = STATUS(gm_model_open(&f->arena, dir, &f->model));
    if (!s) s = STATUS(gm_recipe_parse(fixture_bits, 32, &recipe));
    if (!s) s = STATUS(gm_candidates_open(&f->arena, &f->model, &recipe, NULL, work,
                                   NULL, &f->candidates));
    gm_vec tokens = record(set, "tokens");
    f->tokens = gm_alloc(&f->arena, (size_t)tokens.count, sizeof *f->tokens);
    for (long i = 0; i < tokens.count; i++)
        f->tokens[i] = (int32_t)tokens.i[i];
    vec_free(&tokens);
    if (!s) s = STATUS(gm_fit_begin(&f->arena, &f->candidates, f->tokens, options,
                             &f->fit));
    CHECK(s == GM_OK, "%s: %s", dir, err.text);
    if (s) exit(test_end("test_gamma"));
}

static void fixture_end(fixture *f) {
    gm_candidates_close(&f->candidates);
    gm_model_close(&f->model);
    gm_arena_free(&f->arena);
}

/* Largest |x - y| over the largest |y|. */
static double distance(const double *x, const double *y, long n) {
    double most = 0, size = 0;
    for (long i = 0; i < n; i++) {
        most = fmax(most, fabs(x[i] - y[i]));
        size = fmax(size, fabs(y[i]));
    }
    return most / size;
}

/* torch's own float32 run is within 1e-6 (E0, g) and 2e-6 (theta) of float64,
   says the file's header; our float32 sums in another order: ten times that. */
static void equals_torch(const char *set) {
    fixture f;
    fixture_begin(&f, set, &golden_options);
    gm_fit *fit = &f.fit;
    const long n = fit->M * fit->K;
    gm_vec E0 = record(set, "E0"), g = record(set, "g"), E = record(set, "E"),
           c = record(set, "c"), entropy = record(set, "entropy"),
           lambda = record(set, "lambda"), theta = record(set, "theta"),
           block = record(set, "block_E");
    gm_learning l;
    gm_learning_begin(&f.arena, fit, &l);
    for (int step = 0; step < 3; step++) {
        const double before = fit->lambda;
        CHECK(STATUS(gm_fit_step(fit)) == GM_OK, "%s", err.text);
        CHECK(l.at[0][step] == fit->E && l.at[1][step] == fit->c &&
              l.at[2][step] == before && l.at[3][step] == fit->entropy,
              "%s step %d: what learning.tsv will say", set, step);
        if (step == 0) {
            CHECK(distance(&fit->E0, E0.f, 1) < 1e-5, "%s: E0 %.9g, torch %.9g",
                  set, fit->E0, E0.f[0]);
            CHECK(distance(fit->block_E, block.f, block.count) < 1e-5,
                  "%s: block losses", set);
            CHECK(distance(fit->g, g.f, n) < 1e-5, "%s: g departs by %.2g", set,
                  distance(fit->g, g.f, n));
        }
        CHECK(distance(&fit->E, E.f + step, 1) < 1e-5, "%s step %d: E %.9g, "
              "torch %.9g", set, step, fit->E, E.f[step]);
        /* c of step 1 is exact, later ones follow theta */
        CHECK(fabs(fit->c - c.f[step]) < 1e-5, "%s step %d: c %.9g, torch %.9g",
              set, step, fit->c, c.f[step]);
        CHECK(distance(&fit->entropy, entropy.f + step, 1) < 1e-5,
              "%s step %d: entropy %.9g", set, step, fit->entropy);
        CHECK(fabs(fit->lambda - lambda.f[step]) < 1e-5, "%s step %d: lambda "
              "%.9g, torch %.9g", set, step, fit->lambda, lambda.f[step]);
        CHECK(distance(fit->theta, theta.f + step * n, n) < 2e-5, "%s step %d: "
              "theta departs by %.2g", set, step,
              distance(fit->theta, theta.f + step * n, n));
    }
    /* tail 0: the last step alone, with the theta and multiplier it used */
    double *score = gm_alloc(&f.arena, (size_t)n, 8);
    double *error = gm_alloc(&f.arena, (size_t)n, 8);
    double *expected = gm_alloc(&f.arena, (size_t)n, 8);
    gm_fit_scores(fit, score, error);
    for (long m = 0; m < fit->M; m++) {
        long out, in;
        double least = HUGE_VAL;
        gm_linear_shape(&f.model.config, (int)(m % 7), &out, &in);
        for (int k = 0; k < 3; k++) {
            double mu = lambda.f[1] + 10 * c.f[2];
            expected[m * 3 + k] = -0.1 / (double)fit->M *
                                      theta.f[n + m * 3 + k] / 0.7 -
                                  mu * (double)(out * in) * (2 + k) / fit->N;
            least = fmin(least, expected[m * 3 + k]);
        }
        for (int k = 0; k < 3; k++) expected[m * 3 + k] -= least;
    }
    CHECK(distance(score, expected, n) < 5e-5, "%s: scores depart by %.2g", set,
          distance(score, expected, n));
    vec_free(&E0), vec_free(&g), vec_free(&E), vec_free(&c), vec_free(&theta);
    vec_free(&entropy), vec_free(&lambda), vec_free(&block);
    fixture_end(&f);
}

/* One record of relax.vec against what the run has. */
static void compares(const char *of, const char *what, const double *found,
                     double bound) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s", of, what);
    gm_vec v = vec_read(relax_vec, name);
    CHECK(distance(found, v.f, v.count) < bound, "%s departs by %.2g", name,
          distance(found, v.f, v.count));
    vec_free(&v);
}

/* Two steps of a relaxation with a norm; the settings of relax.vec's header.
   p of step 1 is of double arithmetic alone: 1e-13.  The others carry the
   float32 forward pass, as in equals_torch; theta of step 2 follows Adam's
   m / sqrt(v), near 1 whatever the size of a gradient, so that small ones'
   relative errors enter: 1e-3 of the largest theta, 0.2. */
static void relaxation_equals_torch(gm_relaxation relaxation,
                                    gm_loss_norm norm) {
    fixture f;
    char of[64];
    double E[2], c[2], entropy[2], lambda[2];
    gm_fit_options o = golden_options;
    o.relaxation = relaxation, o.norm = norm, o.steps = 2, o.seed = 5;
    o.tau_last = gm_sampled(relaxation) ? 0.4 : 0, o.first_weight = 3;
    snprintf(of, sizeof of, "%s.%s", gm_relaxation_name[relaxation],
             gm_loss_norm_name[norm]);
    fixture_begin(&f, "llama", &o);
    for (int step = 0; step < 2; step++) {
        CHECK(STATUS(gm_fit_step(&f.fit)) == GM_OK, "%s", err.text);
        E[step] = f.fit.E, c[step] = f.fit.c, entropy[step] = f.fit.entropy;
        lambda[step] = f.fit.lambda;
        if (step) continue;
        compares(of, "E0", &f.fit.E0, 1e-5);
        compares(of, "p", f.fit.p, 1e-13);
        compares(of, "g", f.fit.g, 1e-5);
    }
    compares(of, "E", E, 1e-5);
    compares(of, "c", c, 1e-4);
    compares(of, "entropy", entropy, 1e-4);
    compares(of, "lambda", lambda, 1e-4);
    compares(of, "theta", f.fit.theta, 1e-3);
    fixture_end(&f);
}

/* S_mk of soft-corrected, in units of E_0, against its definition: the block's
   relative error, token by token, with one weight replaced. */
static void separable_by_definition(long l, int j, int k) {
    fixture f;
    gm_fit_options o = golden_options;
    o.relaxation = GM_SOFT_CORRECTED;
    fixture_begin(&f, "qwen3", &o);
    gm_arena *a = &f.arena;
    const gm_config *c = &f.model.config;
    long R = o.sequences * o.T, n = R * c->d;
    gm_real *h = gm_alloc(a, (size_t)n, sizeof *h);
    gm_real *y = gm_alloc(a, (size_t)n, sizeof *y);
    gm_real *z = gm_alloc(a, (size_t)n, sizeof *z);
    gm_block block;
    gm_acts acts;
    gm_packed packed;
    gm_status s = STATUS(gm_fit_step(&f.fit));
    if (!s) s = STATUS(gm_block_alloc(a, c, &block));
    if (!s) s = STATUS(gm_acts_alloc(a, c, o.sequences, o.T, false, &acts));
    if (!s) s = STATUS(gm_embed(&f.model, f.tokens, R, h));
    for (long i = 0; i <= l && !s; i++) {
        s = STATUS(gm_block_load(&f.model, i, &block));
        gm_block_forward(&acts, &block, h, i < l ? h : y);
    }
    if (!s) s = STATUS(packed = gm_candidate(&f.arena, &f.candidates, l, j, k));
    if (!s) s = STATUS(gm_dequantize(&packed, block.w[j]));
    CHECK(s == GM_OK, "%s", err.text);
    gm_block_forward(&acts, &block, h, z);
    double E = 0;
    for (long t = 0; t < R; t++) {
        double top = 0, bottom = 0;
        for (long i = t * c->d; i < (t + 1) * c->d; i++) {
            top += pow((double)z[i] - (double)y[i], 2);
            bottom += pow((double)y[i], 2);
        }
        E += top / bottom / (double)R;
    }
    double S = f.fit.separable[(l * GM_LINEARS + j) * f.fit.K + k] * f.fit.E0;
    /* the library subtracts in float: relative 1e-7 of y against an error of
       at least 1e-2 of it */
    CHECK(fabs(S - E) < 1e-4 * E, "block %ld, linear %d, candidate %d: S %.9g, "
          "by definition %.9g", l, j, k, S, E);
    fixture_end(&f);
}

/* What S_mk is by whole passes of a block, noted where the teacher's pass has
   been made: module after module, candidate after candidate. */
typedef struct {
    gm_acts acts;
    gm_block block;
    gm_real *y;
    double *S;
} whole_passes;

static void note_whole(void *context, const gm_fit *fit, gm_moment moment,
                       long l) {
    whole_passes *n = context;
    const gm_sweep *w = fit->sweep;
    const gm_config *c = &fit->candidates->model->config;
    double *S = n->S + l * GM_LINEARS * fit->K;
    if (moment == GM_END)
        for (long i = 0; i < fit->M * fit->K && fit->step == 1; i++)
            n->S[i] /= fit->E0;
    if (moment != GM_TEACHER) return;
    gm_mark mark = gm_arena_mark(fit->arena);
    gm_real *d_y = gm_alloc(fit->arena, (size_t)(w->R * c->d), sizeof *d_y);
    double *row = gm_alloc(fit->arena, (size_t)w->R, sizeof *row);
    for (int i = GM_LINEARS * fit->K; i-- > 0;) {   /* gamma.c goes up */
        const int j = i / fit->K;
        gm_packed packed = gm_candidate(fit->arena, fit->candidates, l, j,
                                        i % fit->K);
        gm_block_load(fit->candidates->model, l, &n->block);
        gm_dequantize(&packed, n->block.w[j]);
        gm_block_forward(&n->acts, &n->block, w->h, n->y);
        gm_block_swapped(&w->acts, &n->block, j, w->h, d_y);
        CHECK(!memcmp(d_y, n->y, (size_t)(w->R * c->d) * sizeof *d_y),
              "block %ld, linear %d swapped", l, j);
        const double E = gm_loss_block(&(gm_loss){
            fit->options.norm, 1, w->R, fit->options.T, c->d, w->h, w->y, n->y,
            d_y, row});
        S[i] += (E / (fit->step ? fit->E0 : 1) - S[i]) /
                (double)(fit->step + 1);
    }
    gm_arena_rewind(fit->arena, mark);
}

/* S_mk, whose passes begin with the candidate's module, has the bits of whole
   passes; so has the next step, whose student begins from those acts. */
static void separable_is_of_whole_passes(const char *set, gm_loss_norm norm) {
    fixture f;
    gm_fit_options o = golden_options;
    whole_passes n;
    const gm_watcher watcher = {note_whole, &n};
    o.relaxation = GM_SOFT_CORRECTED, o.norm = norm, o.batch = 1;
    fixture_begin(&f, set, &o);
    const gm_config *c = &f.model.config;
    const long cells = f.fit.M * f.fit.K;
    gm_acts_alloc(&f.arena, c, 1, o.T, false, &n.acts);
    gm_block_alloc(&f.arena, c, &n.block);
    n.y = gm_alloc(&f.arena, (size_t)(o.T * c->d), sizeof *n.y);
    n.S = gm_alloc(&f.arena, (size_t)cells, sizeof *n.S);
    f.fit.watcher = &watcher;
    for (int step = 0; step < 2; step++)
        CHECK(STATUS(gm_fit_step(&f.fit)) == GM_OK, "%s", err.text);
    for (long i = 0; i < cells; i++)
        CHECK(f.fit.separable[i] > 0 && n.S[i] == f.fit.separable[i],
              "%s: S of %ld: %.17g, by whole passes %.17g", set, i,
              f.fit.separable[i], n.S[i]);
    fixture_end(&f);
}

/* theta after five steps of one sequence each. */
static void run_five(fixture *f, gm_relaxation relaxation, gm_loss_norm norm,
                     bool interrupt, bool keep) {
    gm_fit_options o = golden_options;
    o.relaxation = relaxation, o.norm = norm;
    o.score = relaxation == GM_SOFT ? GM_SCORE_THETA : GM_SCORE_LOSS;
    o.batch = 1, o.steps = 5, o.tail = 0.6, o.first_weight = 2, o.keep = keep;
    o.tau_last = gm_sampled(relaxation) ? 0.3 : 0;
    fixture_begin(f, "qwen3", &o);
    for (int step = 0; step < 5; step++) {
        CHECK(STATUS(gm_fit_step(&f->fit)) == GM_OK, "%s", err.text);
        if (!interrupt)
            CHECK(f->fit.sweep->taught == (keep && step > 1), "step %d: taught "
                  "%d", step, f->fit.sweep->taught);
        if (!interrupt || step != 2) continue;
        CHECK(STATUS(gm_fit_save(&f->arena, &f->fit, NULL, "build/test/gamma-work/state")) == GM_OK, "%s", err.text);
        fixture_end(f);
        fixture_begin(f, "qwen3", &o);
        CHECK(STATUS(gm_fit_load(&f->arena, &f->fit, NULL, "build/test/gamma-work/state")) == GM_OK, "%s", err.text);
        CHECK(f->fit.step == 3, "resumed at step %ld", f->fit.step);
    }
}

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0, "%s", path);
}

/* learning.tsv of five steps, seen from its first step and through a state
   saved after step 2: the same bytes; its rows obey (9) and the definitions. */
static void learning_table(gm_relaxation relaxation) {
    static const char *const path[] = {"build/test/gamma-work/learning",
                                       "build/test/gamma-work/learned"};
    static const char state[] = "build/test/gamma-work/state";
    gm_fit_options o = golden_options;
    o.relaxation = relaxation, o.batch = 1, o.steps = 5;
    o.score = GM_SCORE_THETA;
    gm_arena arena = {0};
    for (int part = 0; part < 2; part++) {
        fixture f;
        gm_learning l;
        fixture_begin(&f, "llama", &o);
        gm_learning_begin(&f.arena, &f.fit, &l);
        for (int step = 0; step < 5; step++) {
            CHECK(STATUS(gm_fit_step(&f.fit)) == GM_OK, "%s", err.text);
            if (!part || step != 1) continue;
            gm_fit_save(&f.arena, &f.fit, &l, state);
            fixture_end(&f);
            fixture_begin(&f, "llama", &o);
            gm_learning_begin(&f.arena, &f.fit, &l);
            CHECK(STATUS(gm_fit_load(&f.arena, &f.fit, &l, state)) == GM_OK,
                  "%s", err.text);
        }
        gm_learning_write(&f.arena, &f.fit, &l, path[part]);
        gm_table t;
        gm_table_read(&arena, path[part], &t);
        CHECK(t.rows == 5 && t.columns == 7, "%ld x %ld", t.rows, t.columns);
        double lambda = 0, x[7] = {0};
        for (long r = 0; r < 5; r++) {
            for (int i = 0; i < 7; i++) x[i] = strtod(t.cell[r * 7 + i], NULL);
            CHECK(x[0] == (double)(r + 1) && x[3] == lambda &&
                  x[4] == x[3] + o.rho * x[2] && x[6] == x[2] + o.budget,
                  "step %ld: lambda %g, after the one before %g", r + 1, x[3],
                  lambda);
            lambda += o.eta * o.rho * x[2];
        }
        CHECK(lambda == f.fit.lambda && x[1] == f.fit.E && x[2] == f.fit.c &&
              x[5] == f.fit.entropy, "the last row is not the last step's");
        fixture_end(&f);
    }
    char *text[2];
    for (int i = 0; i < 2; i++) text[i] = gm_file_text(&arena, path[i], NULL);
    CHECK_TEXT(text[1], text[0]);
    gm_arena_free(&arena);
}

/* Lines of steps in a state: none (an older version's), too few numbers, too
   many, none that is one. */
static void learning_of_states(void) {
    static const char state[] = "build/test/gamma-work/state";
    static const struct { const char *line, *says; } wrong[] = {
        {"0x1p+0", "steps.E: expected 2 finite numbers, found \"0x1p+0\""},
        {"1 2 3", "steps.E: expected 2 finite numbers, found \"1 2 3\""},
        {"1 nan", "steps.E: expected 2 finite numbers, found \"1 nan\""},
        {"x", "steps.E: expected 2 finite numbers, found \"x\""},
        {"1 2", NULL}};
    fixture f;
    gm_learning l, none;
    char *text, *at, *cells;
    fixture_begin(&f, "llama", &golden_options);
    gm_learning_begin(&f.arena, &f.fit, &l);
    for (int step = 0; step < 2; step++) gm_fit_step(&f.fit);
    gm_fit_save(&f.arena, &f.fit, &l, state);
    text = gm_file_text(&f.arena, state, NULL);
    memcpy(strstr(text, "# sha256"), "# sha255", 8);    /* as if it had none */
    at = strstr(text, "# steps.E ");
    cells = strstr(text, "theta\t");
    CHECK(at && cells, "no lines of steps in %s", text);
    for (int i = 0; at && cells && i < 5; i++) {
        write_text(state, gm_format(&f.arena, "%.*s# steps.E %s\n%s",
                   (int)(at - text), text, wrong[i].line, cells));
        gm_learning_begin(&f.arena, &f.fit, &none);
        gm_status s = STATUS(gm_fit_load(&f.arena, &f.fit, &none, state));
        CHECK(s == (wrong[i].says ? GM_EINPUT : GM_OK), "%s", wrong[i].line);
        if (wrong[i].says)
            CHECK_TEXT(err.text, gm_format(&f.arena, "%s: %s", state,
                                           wrong[i].says));
    }
    CHECK(none.at[0][0] == 1 && none.at[0][1] == 2 && isnan(none.at[1][0]),
          "E of the two steps");
    gm_learning_write(&f.arena, &f.fit, &none, state);
    text = gm_file_text(&f.arena, state, NULL);
    CHECK(strstr(text, "\n2\t2\t-\t-\t-\t-\t-\n"), "what is not known: %s", text);
    /* a state that knows nothing of its steps, from here on */
    gm_fit_save(&f.arena, &f.fit, NULL, state);
    gm_learning_begin(&f.arena, &f.fit, &none);
    CHECK(STATUS(gm_fit_load(&f.arena, &f.fit, &none, state)) == GM_OK &&
          isnan(none.at[0][1]), "%s", err.text);
    gm_fit_save(&f.arena, &f.fit, &none, state);
    CHECK(!strstr(gm_file_text(&f.arena, state, NULL), "nan"), "a NaN is saved");
    fixture_end(&f);
}

static bool same_bits(const gm_fit *a, const gm_fit *b) {
    size_t bytes = (size_t)(a->M * a->K) * sizeof(double);
    double score[2][64], error[2][64];
    gm_fit_scores(a, score[0], error[0]);
    gm_fit_scores(b, score[1], error[1]);
    return !memcmp(a->theta, b->theta, bytes) && a->lambda == b->lambda &&
           !memcmp(score[0], score[1], bytes) &&
           !memcmp(error[0], error[1], bytes);
}

static void resume_is_identical(gm_relaxation relaxation, gm_loss_norm norm) {
    fixture whole, resumed;
    run_five(&whole, relaxation, norm, false, false);
    for (int keep = 1; keep >= 0; keep--) {
        fixture kept;
        run_five(&kept, relaxation, norm, false, keep);
        run_five(&resumed, relaxation, norm, true, keep);
        CHECK(same_bits(&whole.fit, &resumed.fit) &&
              same_bits(&whole.fit, &kept.fit), "%s, %s: a resumed run departs, "
              "or one that keeps the teacher's states: %d",
              gm_relaxation_name[relaxation], gm_loss_norm_name[norm], keep);
        fixture_end(&kept);
        if (keep) fixture_end(&resumed);
    }
    /* killed after the last step: what scores.tsv says of it is in the state */
    static const char path[] = "build/test/gamma-work/state";
    gm_fit *a = &whole.fit, *b = &resumed.fit;
    CHECK(STATUS(gm_fit_save(&whole.arena, a, NULL, path)) == GM_OK, "%s", err.text);
    b->E = b->c = b->entropy = 0;
    CHECK(STATUS(gm_fit_load(&resumed.arena, b, NULL, path)) == GM_OK, "%s", err.text);
    CHECK(b->E == a->E && b->c == a->c && b->entropy == a->entropy && a->E > 0,
          "E %g, c %g, entropy %g after the last step, resumed %g, %g, %g",
          a->E, a->c, a->entropy, b->E, b->c, b->entropy);
    fixture_end(&resumed);
    fixture_end(&whole);
}

/* The hash that ties a state to its run: what is not the default changes it,
   what says the default in other words does not. */
static void hash_of_every_option(void) {
    const gm_fit_options plain = golden_options;
    gm_fit_options o[12];
    char hash[12][65];
    for (int i = 0; i < 12; i++) o[i] = plain;
    o[1].first_weight = 1, o[1].tau_last = plain.tau;       /* the same */
    o[2].norm = GM_NORM_ROBUST, o[3].first_weight = 2, o[4].tau_last = 0.1;
    o[5].relaxation = GM_GUMBEL, o[6].relaxation = GM_HARD, o[7].tau = 0.8;
    o[8].steps = 4, o[9].seed = 3, o[10].norm = GM_NORM_UPDATE, o[11].tail = 1;
    for (int i = 0; i < 12; i++) {
        fixture f;
        fixture_begin(&f, "llama", o + i);
        gm_fit_hash(&f.fit, hash[i]);
        fixture_end(&f);
        for (int j = 0; j < i; j++)
            CHECK((strcmp(hash[i], hash[j]) == 0) == (i == 1), "options %d and "
                  "%d", i, j);
    }
}

/* argmax(theta + G) takes k with probability softmax(theta)_k (Gumbel-max):
   over 20,000 draws the share's standard error is below 0.0036; 5 of them. */
static void samples_follow_pi(void) {
    const double theta[4] = {0.3, -1, 9, 1.1};
    const bool allowed[4] = {true, true, false, true};
    double pi[4], share[4] = {0}, mean = 0, x[4], p[4];
    gm_softmax(4, allowed, theta, 1, pi);
    CHECK(pi[2] == 0 && fabs(pi[0] + pi[1] + pi[3] - 1) < 1e-15 &&
          fabs(pi[3] / pi[0] - exp(0.8)) < 1e-14, "softmax over the allowed");
    for (int draw = 0; draw < 20000; draw++) {
        for (int k = 0; k < 4; k++) {
            double noise = gm_gumbel(7, draw, k);
            x[k] = theta[k] + noise;
            mean += noise / 80000;
        }
        gm_one_hot(4, allowed, x, p);
        for (int k = 0; k < 4; k++) share[k] += p[k] / 20000;
    }
    for (int k = 0; k < 4; k++)
        CHECK(fabs(share[k] - pi[k]) < 0.018, "candidate %d: share %g, pi %g",
              k, share[k], pi[k]);
    /* Euler's constant; standard error pi / sqrt(6 * 80,000) = 0.0045 */
    CHECK(fabs(mean - 0.5772156649) < 0.023, "mean of the noise %g", mean);
    CHECK(gm_temperature(2, 0.5, 0, 5) == 2 &&
          fabs(gm_temperature(2, 0.5, 2, 5) - 1) < 1e-15 &&
          fabs(gm_temperature(2, 0.5, 4, 5) - 0.5) < 1e-15 &&
          gm_temperature(2, 0.5, 0, 1) == 2 &&
          gm_temperature(0.7, 0.7, 3, 5) == 0.7, "temperatures");
}

/* A watcher that notes the points of a step and what is complete at each; fails
   at call `refuse`. */
typedef struct { long calls, refuse, wrong; char order[64]; } notes;

static void note(void *context, const gm_fit *fit, gm_moment moment, long l) {
    notes *n = context;
    gm_sweep *w = fit->sweep;
    const long d = fit->candidates->model->config.d;
    n->order[n->calls++] = moment == GM_BLOCK ? (char)('0' + l)
                         : "bt.e"[moment];
    if (n->calls == n->refuse) gm_fail(GM_EIO, "call %ld refused", n->calls);
    if (moment == GM_BEGIN) {
        gm_real *h = calloc((size_t)(w->R * d), sizeof *h);
        double sum = 0;
        for (int k = 0; k < fit->K; k++) sum += fit->p[k];
        gm_embed(fit->candidates->model, w->tokens, w->R, h);
        n->wrong += fabs(sum - 1) > 1e-12;
        n->wrong += memcmp(h, w->h, (size_t)(w->R * d) * sizeof *h) != 0;
        free(h);
    } else if (moment == GM_TEACHER) {      /* the same pass once more */
        const long ff = fit->candidates->model->config.ff;
        const size_t acts = (size_t)(w->R * ff) * sizeof(gm_real);
        gm_real *y = calloc((size_t)(w->R * d), sizeof *y), *act = malloc(acts);
        memcpy(act, w->acts.act, acts);
        gm_block_forward(&w->acts, &w->block, w->h, y);
        n->wrong += memcmp(act, w->acts.act, acts) != 0;
        n->wrong += memcmp(y, w->y, (size_t)(w->R * d) * sizeof *y) != 0;
        free(y), free(act);
    } else if (moment == GM_BLOCK) {
        gm_loss x = {fit->options.norm, 1, w->R, fit->options.T, d, w->h, w->y,
                     w->student, calloc((size_t)(w->R * d), sizeof(gm_real)),
                     calloc((size_t)w->R, sizeof(double))};
        n->wrong += gm_loss_block(&x) != fit->block_E[l];
        n->wrong += memcmp(x.error, w->row_E, (size_t)w->R * sizeof(double));
        free(x.d_student), free(x.error);
    } else {
        n->wrong += fit->E <= 0 || fit->theta[0] == 0;
    }
}

/* The points of two steps of three blocks in order; looking changes nothing; a
   look that fails ends the step. */
static void watcher_sees_a_step(void) {
    static notes all;
    fixture f, plain;
    gm_fit_options o = golden_options;
    o.relaxation = GM_SOFT_CORRECTED, o.steps = 2;
    fixture_begin(&plain, "qwen3", &o);
    fixture_begin(&f, "qwen3", &o);
    f.fit.watcher = &(gm_watcher){note, &all};
    for (int i = 0; i < 2; i++) {
        CHECK(STATUS(gm_fit_step(&plain.fit)) == GM_OK, "%s", err.text);
        CHECK(STATUS(gm_fit_step(&f.fit)) == GM_OK, "%s", err.text);
    }
    CHECK(same_bits(&plain.fit, &f.fit), "a watched run departs");
    CHECK_TEXT(all.order, "bt0t1t2ebt0t1t2e");
    CHECK(all.wrong == 0, "%ld not complete", all.wrong);
    for (int refuse = 1; refuse <= 8; refuse++) {
        char expected[32];
        all = (notes){.refuse = refuse};
        CHECK(STATUS(gm_fit_step(&f.fit)) == GM_EIO, "call %d", refuse);
        snprintf(expected, sizeof expected, "call %d refused", refuse);
        CHECK_TEXT(err.text, expected);
    }
    fixture_end(&f);
    fixture_end(&plain);
}

/* Three steps with candidates 2,3,4, of which the mask leaves 2,3 everywhere,
   are three steps with candidates 2,3, bit for bit. */
static void mask_is_the_smaller_set(gm_relaxation relaxation) {
    fixture masked, small;
    gm_fit_options o = golden_options;
    bool allowed[63];
    double score[2][63], error[2][63];
    o.relaxation = relaxation, o.batch = 1, o.tail = 0.7;
    o.score = relaxation == GM_SOFT ? GM_SCORE_THETA : GM_SCORE_LOSS;
    fixture_begin(&masked, "qwen3", &o);
    for (int i = 0; i < 63; i++) allowed[i] = i % 3 < 2;
    masked.candidates.allowed = allowed;
    fixture_bits = "2,3";
    fixture_begin(&small, "qwen3", &o);
    fixture_bits = "2,3,4";
    for (int step = 0; step < 3; step++)
        CHECK(STATUS(gm_fit_step(&masked.fit)) == GM_OK &&
              STATUS(gm_fit_step(&small.fit)) == GM_OK, "%s", err.text);
    gm_fit_scores(&masked.fit, score[0], error[0]);
    gm_fit_scores(&small.fit, score[1], error[1]);
    CHECK(masked.fit.lambda == small.fit.lambda && masked.fit.E == small.fit.E,
          "lambda, E");
    for (int m = 0; m < 21; m++) {
        for (int k = 0; k < 2; k++) {
            int i = 3 * m + k, j = 2 * m + k;
            CHECK(masked.fit.theta[i] == small.fit.theta[j] &&
                  masked.fit.separable[i] == small.fit.separable[j] &&
                  score[0][i] == score[1][j] && error[0][i] == error[1][j],
                  "module %d, candidate %d", m, k);
        }
        int i = 3 * m + 2;
        CHECK(masked.fit.theta[i] == 0 && masked.fit.p[i] == 0 &&
              masked.fit.separable[i] == 0 && score[0][i] == 0 &&
              error[0][i] == -1, "module %d: the absent candidate", m);
    }
    fixture_end(&small);
    fixture_end(&masked);
}

/* scores.tsv says "-", the state belongs to its mask, solve never takes what a
   module lacks even when everything else would fit. */
static void absent_candidates_are_not_taken(void) {
    fixture f;
    gm_scores table;
    gm_budget budget;
    gm_certificate certificate;
    gm_allocation allocation;
    gm_solve_options options = {.solver = GM_DP};
    bool allowed[63];
    int choice[21];
    char unmasked[65], masked[65];
    fixture_begin(&f, "qwen3", &golden_options);
    for (int i = 0; i < 63; i++) allowed[i] = i % 3 != 2 || i / 3 % 2;
    allowed[0] = false;
    gm_fit_hash(&f.fit, unmasked);
    f.candidates.allowed = allowed;
    gm_fit_hash(&f.fit, masked);
    CHECK(strcmp(unmasked, masked) != 0, "the hash ignores the mask");
    CHECK(STATUS(gm_fit_step(&f.fit)) == GM_OK, "%s", err.text);
    gm_status s = STATUS(gm_fit_table(&f.arena, &f.fit, &table));
    if (!s) s = STATUS(gm_scores_write(&f.arena, "build/test/gamma-work/m.tsv", &table));
    if (!s) s = STATUS(gm_scores_read(&f.arena, "build/test/gamma-work/m.tsv", &table));
    for (int i = 0; i < 63; i++)
        CHECK((table.bytes[i] >= 0) == allowed[i], "cell %d", i);
    if (!s) s = STATUS(budget = gm_budget_parse(&table, GM_BITS, "4"));
    if (!s) s = SOLVED(gm_allocate(&f.arena, &table, &budget, &options, choice,
                            &certificate, &allocation), certificate);
    CHECK(s == GM_OK, "%s", err.text);
    for (int m = 0; m < 21; m++)
        CHECK(allowed[m * 3 + choice[m]], "module %d at %d", m, choice[m]);
    fixture_end(&f);
}

static void allow_as_text(void) {
    fixture f;
    gm_scores table;
    bool allowed[63];
    fixture_begin(&f, "qwen3", &golden_options);
    gm_status s = STATUS(gm_module_table(&f.arena, &f.model, &f.candidates.recipe,
                                  &table));
    memset(allowed, 1, sizeof allowed);
    if (!s) s = STATUS(gm_allow(&f.arena, &table, "q_proj=2,3;*.1.*=3,4;"
                         "model.layers.2.mlp.up_proj=4", allowed));
    CHECK(s == GM_OK, "%s", err.text);
    for (int m = 0; m < 21; m++) {
        bool q = m % 7 == GM_Q, one = m / 7 == 1, up = m == 14 + GM_UP;
        CHECK(allowed[3 * m] == (!one && !up), "2 bits, module %d", m);
        CHECK(allowed[3 * m + 1] == !up, "3 bits, module %d", m);
        CHECK(allowed[3 * m + 2] == !q, "4 bits, module %d", m);
    }
    const char *bad[][2] = {
        {"x", "--allow: expected PATTERN=BITS,...;..., found \"x\""},
        {"x=2", "--allow: no module of scores matches \"x\""},
        {"q_proj=5", "--allow: there are no candidates of 5 bits"},
        {"q_proj=", "--allow: expected a whole number from 1 to 32, found "
         "\"\""},
        {"q_proj=4", "--allow: model.layers.0.self_attn.q_proj is left without "
         "a candidate"}};
    for (int i = 0; i < 5; i++) {
        CHECK(STATUS(gm_allow(&f.arena, &table, bad[i][0], allowed)) ==
              GM_EUSAGE, "%s", bad[i][0]);
        CHECK_TEXT(err.text, bad[i][1]);
    }
    fixture_end(&f);
}

static void threads_and_instruction_sets(gm_relaxation relaxation,
                                         gm_loss_norm norm) {
    fixture one, other;
    gm_isa best = gm_isa_now();
    int threads = gm_threads();
    gm_threads_use(1);
    run_five(&one, relaxation, norm, false, false);
    for (int isa = 0; isa < GM_ISA_COUNT; isa++)
        for (int n = 1; n <= 3; n++) {
            if (!gm_isa_use((gm_isa)isa)) continue;
            gm_threads_use(n);
            run_five(&other, relaxation, norm, false, false);
            CHECK(same_bits(&one.fit, &other.fit), "%s, %d threads: other "
                  "bits", gm_isa_name((gm_isa)isa), n);
            fixture_end(&other);
        }
    gm_isa_use(best);
    gm_threads_use(threads);
    fixture_end(&one);
}

/* Every sequence is used once before any is used again: with one sequence a
   step, the blocks' losses of each pair of steps are of both sequences, in an
   order that is drawn anew. */
static void every_sequence_equally(void) {
    enum { STEPS = 16 };
    gm_fit_options o = golden_options;
    o.batch = 1, o.steps = STEPS, o.rate = 1e-300;  /* theta stays put */
    fixture f;
    double E[STEPS];
    int turned = 0;
    fixture_begin(&f, "qwen3", &o);
    for (int i = 0; i < STEPS; i++) {
        CHECK(STATUS(gm_fit_step(&f.fit)) == GM_OK, "step");
        E[i] = f.fit.E;
    }
    CHECK(E[0] != E[1], "two sequences");
    for (int i = 2; i < STEPS; i += 2) {
        const bool turn = E[i] == E[1] && E[i + 1] == E[0];
        CHECK(turn || (E[i] == E[0] && E[i + 1] == E[1]),
              "the same two again: %g %g, %g %g", E[0], E[1], E[i], E[i + 1]);
        turned += turn;
    }
    CHECK(turned > 0 && turned < STEPS / 2 - 1, "%d of %d orders are the "
          "first's reversed", turned, STEPS / 2 - 1);
    fixture_end(&f);
}

/* S after one epoch of single sequences is that of both in one step: means over
   the same rows, added in another order and then divided by another E_0.  And
   the scaled score: S_mk (1 + (L_w - L_b) / (S_w - S_b)) / 2 less the module's
   least. */
static void separable_of_an_epoch(void) {
    gm_fit_options o = golden_options;
    fixture one, both;
    double score[512], error[512];
    o.relaxation = GM_SOFT_CORRECTED, o.score = GM_SCORE_SCALED;
    o.steps = 3, o.tail = 0.4;
    fixture_begin(&both, "qwen3", &o);
    o.batch = 1;
    fixture_begin(&one, "qwen3", &o);
    for (int i = 0; i < 3; i++) {
        CHECK(STATUS(gm_fit_step(&one.fit)) == GM_OK, "step");
        if (i == 0) CHECK(STATUS(gm_fit_step(&both.fit)) == GM_OK, "step");
    }
    const long n = one.fit.M * one.fit.K;
    gm_fit_scores(&one.fit, score, error);
    for (long i = 0; i < n; i++) {
        double a = one.fit.separable[i] * one.fit.E0;
        double b = both.fit.separable[i] * both.fit.E0;
        CHECK(fabs(a - b) <= 1e-6 * b, "S of %ld: %g by one, %g by two", i, a,
              b);
    }
    for (long i = 0; i < n; i += one.fit.K) {
        const double *S = one.fit.separable + i, *L = one.fit.loss_sum + i;
        double f = (L[0] - L[2]) / (S[0] - S[2]);
        f = fmin(fmax((1 + f) / 2, 0.5), 2);
        CHECK(fabs(score[i] - f * (S[0] - S[2])) <= 1e-12 * score[i] &&
              score[i + 2] == 0, "scaled score of %ld: %g, by hand %g", i,
              score[i], f * (S[0] - S[2]));
    }
    fixture_end(&one);
    fixture_end(&both);
}

/* The standard error of a score is that of the mean over the tail's steps, from
   each step's loss by itself; a module's bytes are those of its candidates. */
static void errors_and_bytes(void) {
    enum { STEPS = 4 };
    gm_fit_options o = golden_options;
    fixture f;
    gm_scores table;
    double score[512], error[512], loss[STEPS][512];
    o.score = GM_SCORE_LOSS, o.steps = STEPS, o.tail = 1, o.batch = 1;
    fixture_begin(&f, "qwen3", &o);
    const long n = f.fit.M * f.fit.K;
    for (int t = 0; t < STEPS; t++) {
        CHECK(STATUS(gm_fit_step(&f.fit)) == GM_OK, "%s", err.text);
        for (long i = 0; i < n; i++) {
            loss[t][i] = f.fit.loss_sum[i];
            for (int u = 0; u < t; u++) loss[t][i] -= loss[u][i];
        }
    }
    gm_fit_scores(&f.fit, score, error);
    gm_module_table(&f.arena, &f.model, &f.candidates.recipe, &table);
    for (long i = 0; i < n; i++) {
        double mean = 0, squares = 0;
        for (int t = 0; t < STEPS; t++) mean += loss[t][i] / STEPS;
        for (int t = 0; t < STEPS; t++) squares += pow(loss[t][i] - mean, 2);
        double by_hand = sqrt(squares / (STEPS * (STEPS - 1)));
        CHECK(fabs(error[i] - by_hand) <= 1e-6 * by_hand,
              "error of %ld: %g, by hand %g", i, error[i], by_hand);
        const long m = i / f.fit.K;
        CHECK(table.bytes[i] == gm_packed_bytes(table.out[m], table.in[m],
                                                table.bits[i % f.fit.K], 32),
              "bytes of %ld: %ld", i, (long)table.bytes[i]);
    }
    fixture_end(&f);
}

/* E, c and entropy are what the last step found: a state of a run on its way
   need not have them, for the next step finds them anew. */
static void states_of_older_versions(fixture *f, const char *path) {
    char *text = NULL, *at;
    CHECK(!STATUS(gm_fit_save(&f->arena, &f->fit, NULL, path)) &&
          !STATUS(text = gm_file_text(&f->arena, path, NULL)), "%s", err.text);
    for (int i = 0; i < 4; i++) {
        static const char *const key[] = {"# E ", "# c ", "# entropy ",
                                          "# sha256 "};
        CHECK((at = strstr(text, key[i])) != NULL, "no %s", key[i]);
        if (at) memmove(at, strchr(at, '\n') + 1,
                        strlen(strchr(at, '\n') + 1) + 1);
    }
    write_text(path, text);
    CHECK(STATUS(gm_fit_load(&f->arena, &f->fit, NULL, path)) == GM_OK, "%s", err.text);
}

/* No byte of a state can be another, but those that say where its hash is. */
static void states_are_whole(fixture *f, const char *path) {
    size_t bytes;
    gm_fit_save(&f->arena, &f->fit, NULL, path);
    char *text = gm_file_text(&f->arena, path, &bytes);
    const size_t key = (size_t)(strstr(text, "# sha256 ") - text);
    long taken = 0;
    for (size_t i = 0; i < bytes; i += i < 400 ? 1 : 37) {
        if (i >= key && i < key + 9) continue;
        text[i] ^= 1;
        write_text(path, text);
        taken += STATUS(gm_fit_load(&f->arena, &f->fit, NULL, path)) == GM_OK;
        text[i] ^= 1;
    }
    CHECK(taken == 0, "%ld changed states were taken", taken);
    char *theta = strstr(text, "loss_squares\n") + strlen("loss_squares\n");
    write_text(path, gm_format(&f->arena, "%.*s0x1p+0%s", (int)(theta - text),
                               text, strchr(theta, '\t')));
    CHECK(STATUS(gm_fit_load(&f->arena, &f->fit, NULL, path)) == GM_EINPUT &&
          strstr(err.text, ": damaged or edited: expected sha256 "), "%s",
          err.text);
}

/* Weights that are finite, and so large that activations are not. */
static void overflow_is_named(void) {
    fixture f;
    fixture_begin(&f, "llama", &golden_options);
    gm_tensor *t = (gm_tensor *)(uintptr_t)gm_linear_tensor(&f.model, 1,
                                                            GM_DOWN);
    make_large(&f.arena, t);
    CHECK(STATUS(gm_fit_step(&f.fit)) == GM_EINPUT, "a step that is not finite");
    CHECK(strstr(err.text, "block 1, output: element [0, 0] is ") != NULL,
          "%s", err.text);
    fixture_end(&f);
}

static void refusals(void) {
    fixture f;
    const char path[] = "build/test/gamma-work/bad-state";
    char expected[512];
    fixture_begin(&f, "llama", &golden_options);
    write_text(path, "# format gamma-state 2\na\tb\n1\t2\n");
    CHECK(STATUS(gm_fit_load(&f.arena, &f.fit, NULL, path)) == GM_EINPUT, "format");
    CHECK_TEXT(err.text, "build/test/gamma-work/bad-state: expected format "
               "gamma-state 1 with 42 rows of 7, found gamma-state 2 with 1 "
               "rows of 2");
    /* numbers that no run has */
    const double E0 = f.fit.E0;
    f.fit.step = f.fit.options.steps + 1;
    gm_fit_save(&f.arena, &f.fit, NULL, path);
    CHECK(STATUS(gm_fit_load(&f.arena, &f.fit, NULL, path)) == GM_EINPUT, "step");
    snprintf(expected, sizeof expected, "%s: step: expected 0 to %ld, found "
             "%ld", path, f.fit.options.steps, f.fit.options.steps + 1);
    CHECK_TEXT(err.text, expected);
    f.fit.step = 0, f.fit.E0 = INFINITY;
    gm_fit_save(&f.arena, &f.fit, NULL, path);
    CHECK(STATUS(gm_fit_load(&f.arena, &f.fit, NULL, path)) == GM_EINPUT, "E0");
    CHECK(strstr(err.text, ": expected a finite number, found \"inf\""), "%s",
          err.text);
    f.fit.E0 = E0;
    states_of_older_versions(&f, path);
    states_are_whole(&f, path);
    /* a state of other settings */
    CHECK(STATUS(gm_fit_save(&f.arena, &f.fit, NULL, path)) == GM_OK, "%s", err.text);
    gm_fit_options o = golden_options;
    fixture_end(&f);
    o.seed = 2;
    fixture_begin(&f, "llama", &o);
    CHECK(STATUS(gm_fit_load(&f.arena, &f.fit, NULL, path)) == GM_EINPUT, "hash");
    snprintf(expected, sizeof expected, "%s: belongs to another run: its "
             "--seed was %ld, here it is 2; give that again to go on, or leave "
             "out --resume (compare: take another --out) to begin anew", path,
             (long)golden_options.seed);
    CHECK_TEXT(err.text, expected);
    int32_t *out, few[10] = {0};
    CHECK(STATUS(gm_calibration(&f.arena, "t.npy", few, 10, 3, 4, &out)) == GM_EINPUT,
          "short text");
    CHECK_TEXT(err.text, "t.npy: expected at least 12 tokens (3 "
               "sequences of 4), found 10");
    fixture_end(&f);
}

/* Sequences lie apart, in order, inside the text, first at its start. */
static void calibration_spreads(void) {
    gm_arena a = {0};
    int32_t tokens[100], *out;
    for (int i = 0; i < 100; i++) tokens[i] = i;
    CHECK(STATUS(gm_calibration(&a, "", tokens, 100, 7, 14, &out)) == GM_OK,
          "fits");
    for (int i = 0; i < 7; i++)
        for (int t = 0; t < 14; t++)
            CHECK(out[i * 14 + t] == i * 100 / 7 + t, "sequence %d token %d: "
                  "%d", i, t, out[i * 14 + t]);
    gm_arena_free(&a);
}

static int test_main(void) {
    STATUS(gm_make_dir(work));
    equals_torch("llama");
    equals_torch("qwen2");
    equals_torch("qwen3");
    for (int r = 0; r < GM_RELAXATIONS; r++)
        for (int n = 0; n < GM_NORMS; n++)
            relaxation_equals_torch((gm_relaxation)r, (gm_loss_norm)n);
    separable_by_definition(0, GM_V, 0);
    separable_by_definition(1, GM_GATE, 1);
    separable_by_definition(1, GM_DOWN, 2);
    separable_is_of_whole_passes("llama", GM_NORM_TOKEN);
    separable_is_of_whole_passes("qwen2", GM_NORM_UPDATE);
    separable_is_of_whole_passes("qwen3", GM_NORM_ROBUST);
    learning_table(GM_SOFT);
    learning_table(GM_GUMBEL);
    learning_of_states();
    for (int i = 0; i < GM_NORMS; i++)
        resume_is_identical((gm_relaxation)(i % GM_RELAXATIONS),
                            (gm_loss_norm)i);
    hash_of_every_option();
    samples_follow_pi();
    mask_is_the_smaller_set(GM_SOFT);
    mask_is_the_smaller_set(GM_SOFT_CORRECTED);
    absent_candidates_are_not_taken();
    allow_as_text();
    watcher_sees_a_step();
    threads_and_instruction_sets(GM_SOFT_CORRECTED, GM_NORM_TOKEN);
    threads_and_instruction_sets(GM_GUMBEL, GM_NORM_ROBUST);
    threads_and_instruction_sets(GM_HARD, GM_NORM_UPDATE);
    every_sequence_equally();
    separable_of_an_epoch();
    errors_and_bytes();
    calibration_spreads();
    overflow_is_named();
    refusals();
    return test_end("test_gamma");
}

TEST_MAIN(test_main())
