/* test_baq.c: BAQ's column loop, losses and levels against torch in float64;
   levels against their formula in long double; the whole method on a trained
   tiny model: averages within their budgets, equalised losses, pruned columns,
   sizes, the files found again; refusals.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "formats/formats.h"
#include "rivals/rivals.h"
#include "test.h"
#include "vec.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static const char gptq_vec[] = "tests/golden/gptq.vec";
static const char baq_vec[] = "tests/golden/baq.vec";
static const char work[] = "build/test/baq-work";

static void *room(gm_arena *a, long n, size_t size) {
    void *p = gm_alloc(a, (size_t)n, size);
    if (!p) exit(test_end("test_baq"));
    return p;
}

/* ------------------------------------------------------ against torch */

static gm_vec record(const char *set, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s", set, what);
    return vec_read(baq_vec, name);
}

/* The inputs of tools/golden_baq.py, from those of gptq.vec. */
static gm_status golden_factor(gm_arena *a, bool spread, gm_factor *f) {
    gm_vec v = vec_read(gptq_vec, "x");
    long R = v.dim[0], in = v.dim[1];
    gm_real *x = room(a, R * in, sizeof *x);
    double *weight = room(a, R, sizeof *weight);
    double *H = room(a, in * in, sizeof *H);
    for (long t = 0; t < R; t++) {
        double square = 0;
        for (long j = 0; j < in; j++) {
            double scale = spread ? pow(4, (double)(j % 5 - 2)) : 1;
            x[t * in + j] = spread && j == 5 ? 0
                          : (gm_real)(v.f[t * in + j] * scale);
            square += v.f[t * in + j] * v.f[t * in + j];
        }
        weight[t] = spread ? 1 : (t % 36 == 0 ? 4 : 1) / sqrt(square);
    }
    gm_gram(R, in, x, weight, H);
    for (long i = 0; i < in * in; i++) H[i] *= 2 / (double)R;
    vec_free(&v);
    return STATUS(gm_gptq_factor(a, in, H, 0.01, false, f));
}

/* Largest relative difference. */
static double departs(long n, const double *x, const double *y) {
    double worst = 0;
    for (long i = 0; i < n; i++)
        if (x[i] != y[i]) worst = fmax(worst, fabs(x[i] - y[i]) / fabs(y[i]));
    return worst;
}

/* Codes as torch's up to the first near-tie (within 1e-3 of a boundary, see
   test_gptq.c) of each row, of which at most one row has any. */
static void same_codes(const char *set, long out, long in, const uint8_t *code,
                       const gm_vec *codes, const gm_vec *margin) {
    long rows = 0, wrong = 0;
    for (long i = 0; i < out; i++)
        for (long j = 0; j < in; j++) {
            if (code[i * in + j] == codes->i[i * in + j]) continue;
            wrong += margin->f[i * in + j] > 1e-3;
            rows++;
            break;
        }
    CHECK(wrong == 0, "%s: %ld codes differ from torch's", set, wrong);
    CHECK(rows <= 1, "%s: %ld rows of %ld with a near-tie", set, rows, out);
}

/* Losses within 1e-3: e is a difference of a float32 weight, 2^-24 of the
   weight off after each of 128 updates, from a point of a grid at most 22
   steps wide, so off by up to 128 2^-24 22 = 2e-4 steps against an rms error
   of 0.29: 6e-4 of e, 1.2e-3 of its square when all errors conspired, far less
   in a sum over rows.  A single code that ties (same_codes) would move its
   column alone by far more, so none has in these losses. */
static void golden_layer(const char *set, bool spread, double rate) {
    gm_arena a = {0};
    gm_factor f;
    gm_vec w = vec_read(gptq_vec, "w"), loss = record(set, "loss");
    gm_vec levels = record(set, "levels"), codes = record(set, "codes");
    gm_vec near = record(set, "level_margin"), margin = record(set, "margin");
    gm_vec after = record(set, "after");
    long out = w.dim[0], in = w.dim[1], wrong = 0, ties = 0;
    gm_real *weight = room(&a, out * in, sizeof *weight);
    gm_real *q = room(&a, out * in, sizeof *q);
    uint8_t *code = room(&a, out * in, 1);
    double *l = room(&a, in, sizeof *l);
    int *level = room(&a, in, sizeof *level);
    for (long i = 0; i < out * in; i++) weight[i] = (gm_real)w.f[i];
    CHECK(golden_factor(&a, spread, &f) == GM_OK, "%s: factor", set);
    for (long j = 0; j < in; j++) level[j] = (int)rint(pow(2, rate));
    CHECK(!STATUS(gm_baq_round(&a, weight, out, in, &f, level, q, code, l)),
          "%s", set);
    CHECK(departs(in, l, loss.f) < 1e-3, "%s: losses depart by %.2g", set,
          departs(in, l, loss.f));
    gm_baq_levels(in, l, rate, level);
    for (long j = 0; j < in; j++) {
        ties += level[j] != levels.i[j];
        /* 2^R_j <= 64 moves by 1e-3/1.95 of itself at most */
        wrong += level[j] != levels.i[j] && near.f[j] > 0.04;
        level[j] = (int)levels.i[j];
    }
    CHECK(wrong == 0 && ties <= 1, "%s: %ld levels differ, %ld of them ties",
          set, wrong + ties, ties);
    CHECK(!STATUS(gm_baq_round(&a, weight, out, in, &f, level, q, code, l)),
          "%s", set);
    same_codes(set, out, in, code, &codes, &margin);
    CHECK(departs(in, l, after.f) < 1e-3, "%s: losses after depart by %.2g",
          set, departs(in, l, after.f));
    long pruned = 0, nonzero = 0;
    for (long j = 0; j < in; j++)
        for (long i = 0; i < out && level[j] == 1; i++)
            pruned += i == 0, nonzero += q[i * in + j] != 0;
    CHECK(pruned == (spread ? 2 : 0) && nonzero == 0,
          "%s: %ld columns pruned, %ld of their weights not 0", set, pruned,
          nonzero);
    gm_vec *all[] = {&w, &loss, &levels, &codes, &near, &margin, &after};
    for (int i = 0; i < 7; i++) vec_free(all[i]);
    gm_arena_free(&a);
}

/* --------------------------------------------------- rounding and levels */

/* With H = 1 no error moves on, so each weight is rounded by itself: q is the
   nearest of the grid's points (by trying them all), the loss its square. */
static void rounds_to_nearest(void) {
    enum { OUT = 19, IN = 9 };
    gm_arena a = {0};
    const int levels[IN] = {1, 2, 3, 4, 6, 7, 16, 100, 256};
    double H[IN * IN] = {0}, loss[IN];
    gm_real w[OUT * IN], q[OUT * IN];
    uint8_t code[OUT * IN];
    gm_factor f;
    long wrong = 0;
    for (int i = 0; i < OUT * IN; i++)
        w[i] = (gm_real)(gm_uniform(5, 1, (uint64_t)i) - 0.3);
    for (int j = 0; j < IN; j++) w[18 * IN + j] = 0;    /* a row of zeros */
    for (int j = 0; j < IN; j++) H[j * IN + j] = 1;
    CHECK(!STATUS(gm_gptq_factor(&a, IN, H, 0.01, false, &f)), "factor");
    CHECK(!STATUS(gm_baq_round(&a, w, OUT, IN, &f, levels, q, code, loss)),
          "round");
    for (int j = 0; j < IN; j++) {
        double sum = 0;
        for (int i = 0; i < OUT; i++) {
            double lo = 0, hi = 0, best = HUGE_VAL;
            for (int t = 0; t < IN; t++) {
                lo = fmin(lo, w[i * IN + t]), hi = fmax(hi, w[i * IN + t]);
            }
            lo = gm_f16_to_f32(gm_f32_to_f16((float)lo));
            hi = gm_f16_to_f32(gm_f32_to_f16((float)hi));
            if (lo == 0 && hi == 0) lo = -1, hi = 1;
            double step = levels[j] > 1 ? (hi - lo) / (levels[j] - 1) : 0;
            double zero = levels[j] > 1 ? rint(-lo / step) : 0;
            for (int c = 0; c < levels[j]; c++)
                best = fmin(best, fabs(w[i * IN + j] - (c - zero) * step));
            /* float32 arithmetic: 2^-22 of a weight below 1 */
            double e = w[i * IN + j] - q[i * IN + j];
            wrong += fabs(fabs(e) - best) > 0x1p-22;
            /* the zero of a row of zeros is itself a tie */
            wrong += i < 18 && fabs(q[i * IN + j] - (code[i * IN + j] - zero) *
                                    step) > 0x1p-22;
            sum += e * e / 2;
        }
        /* U = 1 / sqrt(1.01); e in float32 */
        CHECK(fabs(loss[j] - 1.01 * sum) <= 1e-5 * sum, "column %d: loss %g, "
              "expected %g", j, loss[j], 1.01 * sum);
    }
    CHECK(wrong == 0, "%ld weights are not rounded to the nearest point",
          wrong);
    gm_arena_free(&a);
}

/* Levels by the formula in long double, far and near losses, 0 and clamps. */
static void levels_by_formula(void) {
    enum { N = 400 };
    double loss[N];
    int levels[N];
    long wrong = 0, ones = 0, most = 0;
    for (int j = 0; j < N; j++)
        loss[j] = j % 50 == 7 ? 0
                : exp(20 * gm_uniform(6, 2, (uint64_t)j) - 14);
    const double rate[] = {0.3, 2, 2.5, 3, 4, 7.5};
    for (int r = 0; r < 6; r++) {
        long double mean = 0;
        for (int j = 0; j < N; j++) mean += logl((long double)loss[j] + 1e-8L);
        mean /= N;
        gm_baq_levels(N, loss, rate[r], levels);
        for (int j = 0; j < N; j++) {
            long double x = powl(2, rate[r]) *
                            expl((logl(loss[j]) - mean) / 1.95L);
            long double n = loss[j] > 0 ? rintl(fmaxl(x, 1)) : 1;
            if (n > 256) n = 256;
            /* a tie within double's error of the formula may go either way */
            if (fabsl(x - floorl(x) - 0.5L) < 1e-9L) continue;
            wrong += levels[j] != (int)n;
            ones += levels[j] == 1, most += levels[j] == 256;
        }
    }
    CHECK(wrong == 0, "%ld levels depart from the formula", wrong);
    CHECK(ones > 48 && most > 20, "%ld clamped to 1, %ld to 256", ones, most);
    /* equal losses: the reference everywhere, 1e-8 aside */
    for (int j = 0; j < N; j++) loss[j] = 0.25;
    gm_baq_levels(N, loss, 3, levels);
    for (int j = 0; j < N; j++) wrong += levels[j] != 8;
    CHECK(wrong == 0, "equal losses: not 8 levels everywhere");
}

/* The same bits for any instruction set and number of threads. */
static void same_bits(void) {
    enum { OUT = 37, IN = 70 };
    char first[65] = "", hex[65];
    gm_arena a = {0};
    gm_real *w = room(&a, OUT * IN, sizeof *w), *q = room(&a, OUT * IN, 8);
    gm_real *x = room(&a, 200 * IN, sizeof *x);
    double *H = room(&a, IN * IN, sizeof *H), loss[IN], ones[200];
    uint8_t *code = room(&a, OUT * IN, 1);
    int levels[IN];
    for (int i = 0; i < OUT * IN; i++)
        w[i] = (gm_real)(gm_uniform(8, 1, (uint64_t)i) - 0.5);
    for (int i = 0; i < 200 * IN; i++)
        x[i] = (gm_real)(gm_uniform(8, 2, (uint64_t)i) - 0.5);
    for (int i = 0; i < 200; i++) ones[i] = 1;
    for (int j = 0; j < IN; j++) levels[j] = 2 + j % 7;
    for (gm_isa isa = 0; isa <= gm_isa_best(); isa++)
        for (int threads = 1; threads <= 3; threads++) {
            gm_factor f;
            gm_sha sha;
            gm_isa_use(isa);
            gm_threads_use(threads);
            memset(H, 0, IN * IN * sizeof *H);
            gm_gram(200, IN, x, ones, H);
            if (STATUS(gm_gptq_factor(&a, IN, H, 0.01, false, &f)) ||
                STATUS(gm_baq_round(&a, w, OUT, IN, &f, levels, q, code, loss)))
                exit(test_end("test_baq"));
            gm_sha_begin(&sha);
            gm_sha_add(&sha, q, OUT * IN * sizeof *q);
            gm_sha_add(&sha, loss, sizeof loss);
            gm_sha_end(&sha, hex);
            if (!*first) memcpy(first, hex, sizeof first);
            CHECK(strcmp(first, hex) == 0, "%s, %d threads: other bits",
                  gm_isa_name(isa), threads);
        }
    gm_isa_use(gm_isa_best());
    gm_threads_use(2);
    gm_arena_free(&a);
}

/* ------------------------------------------------------------ whole model */

static gm_arena arena;
static gm_model model;
static gm_sequences text;

static gm_baq_options options_of(double rate, gm_baq_rule rule) {
    return (gm_baq_options){.rate = rate, .rule = rule, .hessian = GM_TOKEN,
                            .damping = GM_DAMPING};
}

static gm_baq_report open_baq(double rate, gm_baq_rule rule,
                              gm_candidates *c) {
    gm_baq_report r;
    gm_baq_options o = options_of(rate, rule);
    gm_recipe recipe;
    gm_status s = STATUS(
        r = gm_baq_open(&arena, &model, &o, &text, work, NULL));
    if (!s) s = STATUS(gm_external_open(&arena, &model, r.path, NULL, 512,
                                        &recipe));
    if (!s) s = STATUS(gm_candidates_open(&arena, &model, &recipe, NULL, work,
                                          NULL, c));
    CHECK(s == GM_OK, "%s", err.text);
    if (s) exit(test_end("test_baq"));
    return r;
}

static void begin(void) {
    enum { S = 8, T = 48 };
    int32_t *tokens = room(&arena, S * T, sizeof *tokens);
    CHECK(system("rm -rf build/test/baq-work") == 0, "rm");
    if (STATUS(gm_model_open(&arena, "data/tiny-llama", &model))) {
        CHECK(false, "%s", err.text);
        exit(test_end("test_baq"));
    }
    /* common tokens: the model is trained, its inputs are as uneven as real */
    for (int i = 0; i < S * T; i++)
        tokens[i] = (int32_t)(gm_random(3, 0, (uint64_t)i) % 700);
    text = (gm_sequences){tokens, S, T};
}

/* What the report says of each module holds in the file, as far as the file
   shows it: bytes in its metadata, pruned columns all 0, no column with more
   different values than 256. */
static void report_holds(const gm_baq_report *r, const gm_candidates *c) {
    int64_t bytes = 0, weights = 0;
    for (long m = 0; m < r->M; m++) {
        const gm_baq_module *x = r->module + m;
        gm_packed p;
        gm_status s = STATUS(p = gm_candidate(&arena, c, m / 7, (int)(m % 7), 0));
        CHECK(s == GM_OK && p.out == x->out && p.in == x->in, "module %ld", m);
        gm_real *q = room(&arena, p.out * p.in, sizeof *q);
        CHECK(STATUS(gm_dequantize(&p, q)) == GM_OK, "%s", err.text);
        long zero = 0;
        for (long j = 0; j < p.in; j++) {
            bool all = true;
            for (long i = 0; i < p.out; i++) all = all && q[i * p.in + j] == 0;
            zero += all;
        }
        CHECK((double)zero >= x->pruned, "module %ld: %g columns pruned, %ld "
              "zero", m, x->pruned, zero);
        CHECK(c->recipe.external->bytes[m] == (int64_t)x->bytes,
              "module %ld: bytes", m);
        bytes += (int64_t)x->bytes, weights += x->out * x->in;
    }
    CHECK(bytes == r->bytes && weights == r->weights, "sums");
    CHECK(fabs(r->effective_bits - 8 * (double)bytes / (double)weights) < 1e-12,
          "effective bits");
    CHECK(r->bits <= r->stored_bits && r->stored_bits < r->effective_bits,
          "code bits %g, stored %g, effective %g", r->bits, r->stored_bits,
          r->effective_bits);
}

/* 2^3 levels everywhere: 3 bits, sizes by hand. */
static void uniform_is_plain(void) {
    gm_candidates c;
    gm_baq_report r = open_baq(3, GM_BAQ_UNIFORM, &c);
    CHECK(r.bits == 3 && r.stored_bits == 3, "%.17g bits", r.bits);
    for (long m = 0; m < r.M; m++)
        CHECK((int64_t)r.module[m].bytes == r.module[m].out *
              ((r.module[m].in * 3 + 7) / 8 + 4) + 1, "module %ld", m);
    report_holds(&r, &c);
    gm_candidates_close(&c);
}

/* As published: the average near R_ref (clamps and rounding of levels move
   it: 0.05 bits, seen 0.003), losses less unequal than before, as predicted
   and as measured, in the median module and in nearly all. */
static void published_equalises(double rate) {
    gm_candidates c;
    gm_baq_report r = open_baq(rate, GM_BAQ_PUBLISHED, &c);
    long predicted = 0, after = 0;
    CHECK(fabs(r.bits - rate) < 0.05, "%g bits at R_ref = %g", r.bits, rate);
    CHECK(r.shift == 0, "shift %g", r.shift);
    for (long m = 0; m < r.M; m++) {
        predicted += r.module[m].predicted.log2 < r.module[m].before.log2;
        after += r.module[m].after.log2 < r.module[m].before.log2;
        CHECK(r.module[m].before.ratio >= exp2(r.module[m].before.log2),
              "module %ld: spread", m);
    }
    /* columns that differ take a byte each for their levels, as those of a
       module with out that does not divide in - 1 show */
    long listed = 0;
    for (long m = 0; m < r.M; m++)
        listed += ((long)r.module[m].bytes - r.module[m].in) %
                          r.module[m].out == 0 &&
                  (r.module[m].in - 1) % r.module[m].out != 0;
    CHECK(listed == r.M, "levels of %ld of %ld modules are counted", listed,
          r.M);
    CHECK(predicted == r.M && after == r.M, "R_ref %g: losses of %ld modules "
          "more equal, %ld predicted, of %ld", rate, after, predicted, r.M);
    report_holds(&r, &c);
    gm_candidates_close(&c);
}

/* The budget is kept and used: one more column's level would not matter by
   more than 0.01 bits. */
static void budgets_are_met(double rate) {
    gm_candidates c;
    gm_baq_report r = open_baq(rate, GM_BAQ_BITS, &c);
    CHECK(r.bits <= rate && r.bits > rate - 0.01, "%g bits for %g", r.bits,
          rate);
    report_holds(&r, &c);
    gm_candidates_close(&c);
    r = open_baq(rate, GM_BAQ_EBITS, &c);
    CHECK(r.effective_bits <= rate && r.effective_bits > rate - 0.02,
          "%g effective bits for %g", r.effective_bits, rate);
    report_holds(&r, &c);
    gm_candidates_close(&c);
}

static bool same_file(const char *a, const char *b) {
    const char *x = NULL, *y = NULL;
    size_t m, n;
    if (STATUS(x = gm_file_text(&arena, a, &m)) ||
        STATUS(y = gm_file_text(&arena, b, &n)))
        return false;
    return m == n && memcmp(x, y, n) == 0;
}

static char *text_in(const char *path) {
    char *out = NULL;
    CHECK(!STATUS(out = gm_file_text(&arena, path, NULL)), "%s", err.text);
    return out;
}

/* A second opening reads the same report from the table; without the table
   (killed between the two files) both are made again, the same. */
static void found_again(void) {
    gm_candidates c;
    gm_baq_report one = open_baq(2.5, GM_BAQ_PUBLISHED, &c);
    gm_candidates_close(&c);
    gm_baq_report two = open_baq(2.5, GM_BAQ_PUBLISHED, &c);
    gm_candidates_close(&c);
    CHECK(one.bits == two.bits && one.shift == two.shift &&
          one.bytes == two.bytes && one.stored_bits == two.stored_bits &&
          one.effective_bits == two.effective_bits &&
          memcmp(one.module, two.module,
                 (size_t)one.M * sizeof *one.module) == 0,
          "the table gives another report");
    const char *kept = gm_format(&arena, "%s/kept", work);
    char *table = gm_format(&arena, "%s", one.path);
    strcpy(table + strlen(table) - strlen("safetensors"), "tsv");
    CHECK(!STATUS(gm_copy_file(&arena, one.path, kept)), "%s", err.text);
    CHECK(unlink(table) == 0, "%s", table);
    two = open_baq(2.5, GM_BAQ_PUBLISHED, &c);
    gm_candidates_close(&c);
    CHECK(same_file(one.path, kept) && access(table, F_OK) == 0,
          "made again, another file");
    /* a table that lacks something is refused by name */
    char *whole = text_in(table), *shift = strstr(whole, "# shift ");
    FILE *file = fopen(table, "w");
    fprintf(file, "%.*s# shift 1x%s", (int)(shift - whole), whole,
            strchr(shift, '\n'));
    fclose(file);
    gm_baq_options o = options_of(2.5, GM_BAQ_PUBLISHED);
    char expected[512];
    CHECK(STATUS(gm_baq_open(&arena, &model, &o, &text, work, NULL)) ==
          GM_EINPUT, "no number");
    snprintf(expected, sizeof expected, "%s: shift: expected a number, found "
             "\"1x\"", table);
    CHECK_TEXT(err.text, expected);
    file = fopen(table, "w");
    fputs("# format gamma-baq 1\nmodule\tbits\nx\t2\n", file);
    fclose(file);
    CHECK(STATUS(gm_baq_open(&arena, &model, &o, &text, work, NULL)) ==
          GM_EINPUT, "a damaged table");
    snprintf(expected, sizeof expected, "%s: expected 56 modules, found 1",
             table);
    CHECK_TEXT(err.text, expected);
    unlink(table);
}

static void refusals(void) {
    gm_baq_options o = options_of(0, GM_BAQ_PUBLISHED);
    CHECK(STATUS(gm_baq_open(&arena, &model, &o, &text, work, NULL)) ==
          GM_EUSAGE, "rate 0");
    CHECK_TEXT(err.text, "--rate: expected more than 0 and at most 8 bits, "
               "found 0");
    o.rate = 8.5;
    CHECK(STATUS(gm_baq_open(&arena, &model, &o, &text, work, NULL)) ==
          GM_EUSAGE, "rate 8.5");
    o.rate = NAN;
    CHECK(STATUS(gm_baq_open(&arena, &model, &o, &text, work, NULL)) ==
          GM_EUSAGE, "rate NaN");
    o.rate = 2;
    CHECK(STATUS(gm_baq_open(&arena, &model, &o, NULL, work, NULL)) ==
          GM_EUSAGE, "no text");
    CHECK_TEXT(err.text, "BAQ needs a calibration text: expected one, found "
               "none");
    o = options_of(0.1, GM_BAQ_EBITS);
    CHECK(STATUS(gm_baq_open(&arena, &model, &o, &text, work, NULL)) ==
          GM_EINFEASIBLE, "0.1 effective bits");
    double bytes = 0, weights = 0;      /* 4 bytes a row, 1 for the levels */
    for (int j = 0; j < 7; j++) {
        long out, in;
        gm_linear_shape(&model.config, j, &out, &in);
        bytes += (double)(4 * out + 1), weights += (double)(out * in);
    }
    char expected[128];
    snprintf(expected, sizeof expected, "--rate 0.1: with all columns pruned, "
             "ranges and levels still take %.4f bits per weight",
             8 * bytes / weights);
    CHECK_TEXT(err.text, expected);
}

static int test_main(void) {
    golden_layer("real", false, 3);
    golden_layer("spread", true, 2.25);
    rounds_to_nearest();
    levels_by_formula();
    same_bits();
    begin();
    uniform_is_plain();
    published_equalises(2.5);
    published_equalises(4);
    budgets_are_met(2.5);
    found_again();
    refusals();
    gm_model_close(&model);
    gm_arena_free(&arena);
    return test_end("test_baq");
}

TEST_MAIN(test_main())
