/* test_choice.c: multiple choice against transformers (tests/golden/choice.vec:
   tokens, log-likelihoods, accuracies, errors); padding and batching change
   nothing; a quantized model is measured; every kind of bad line is refused
   with its place.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "cmd/cmd.h"
#include "test.h"
#include "vec.h"

#include <math.h>
#include <stdlib.h>

static const char golden[] = "tests/golden/choice.vec";
static const char file[] = "build/test/choices.jsonl";

typedef struct {
    gm_call call;
    gm_tokenizer *tokenizer;
    gm_questions questions;
    double *likelihood;
} fixture;

static gm_status read_file(fixture *f, const char *path, gm_questions *out) {
    f->call.choices = path;
    return STATUS(*out = gm_questions_read(&f->call, f->tokenizer));
}

static gm_status likelihoods(fixture *f, const gm_questions *questions,
                             const int *choice, double *out) {
    return STATUS(gm_questions_likelihoods(&f->call, questions, choice, out));
}

static void fixture_begin(fixture *f) {
    memset(f, 0, sizeof *f);
    gm_arena *a = &f->call.arena;
    f->call.delimiter = " ";
    gm_status s = STATUS(gm_model_open(a, "data/tiny-llama", &f->call.model));
    if (!s) s = STATUS(f->tokenizer = gm_tokenizer_open(a, "data/tiny-llama"));
    if (!s) s = read_file(f, "data/choices.jsonl", &f->questions);
    CHECK(s == GM_OK, "%s", err.text);
    if (s) exit(test_end("test_choice"));
    f->likelihood = gm_alloc(a, (size_t)f->questions.count, sizeof(double));
}

/* The whole file against transformers. */
static void equals_transformers(fixture *f) {
    gm_vec sums = vec_read(golden, "likelihood");
    gm_vec tokens = vec_read(golden, "tokens");
    gm_vec context = vec_read(golden, "context_tokens");
    gm_vec accuracy = vec_read(golden, "accuracy");
    gm_vec error = vec_read(golden, "error");
    gm_status s = likelihoods(f, &f->questions, NULL, f->likelihood);
    CHECK(s == GM_OK, "%s", err.text);
    CHECK(f->questions.count == sums.count, "%ld pairs", f->questions.count);
    const gm_ending *e = f->questions.ending;
    for (long n = 0; n < f->questions.count; n++) {
        CHECK(e[n].context == context.i[n] &&
              e[n].count - e[n].context == tokens.i[n], "question %ld, pair "
              "%ld: %ld + %ld tokens", e[n].question, n, e[n].context,
              e[n].count - e[n].context);
        /* each token's NLL, up to 20, by two float32 programs: as in test_eval
           1e-5 each */
        double bound = 1e-5 * (double)tokens.i[n];
        CHECK(fabs(f->likelihood[n] - sums.f[n]) < bound, "question %ld, pair "
              "%ld: %.9g, by transformers %.9g", e[n].question, n,
              f->likelihood[n], sums.f[n]);
    }
    /* a sign of three bytes, then " day of the month." */
    long sign = 0;
    while (e[sign].question < 20) sign++;
    sign += 2;
    CHECK(e[sign].size[1] == 19 && e[sign].size[2] == 21, "%g characters, %g "
          "bytes", e[sign].size[1], e[sign].size[2]);
    gm_accuracy a = gm_questions_score(&f->questions, f->likelihood);
    double found[6] = {a.share[0], a.share[1], a.share[2], a.error[0],
                       a.error[1], a.error[2]};
    for (int i = 0; i < 6; i++) {
        double expected = i < 3 ? accuracy.f[i] : error.f[i - 3];
        CHECK(fabs(found[i] - expected) < 1e-8, "accuracy %d: %.9g, expected "
              "%.9g", i, found[i], expected);
    }
    vec_free(&sums), vec_free(&tokens), vec_free(&context);
    vec_free(&accuracy), vec_free(&error);
}

/* A pair alone has the likelihood that it has among longer ones. */
static void padding_changes_nothing(fixture *f) {
    long wrong = 0;
    for (long at = 0; at < f->questions.count; at += 5) {
        gm_questions one = {1, 1, f->questions.ending + at};
        double likelihood;
        CHECK(likelihoods(f, &one, NULL, &likelihood) == GM_OK, "%s", err.text);
        wrong += likelihood != f->likelihood[at];
    }
    CHECK(wrong == 0, "%ld pairs depend on their batch", wrong);
}

/* Candidates at 8 bits move the likelihoods a little, at 2 bits a lot. */
static void quantized_models(fixture *f) {
    gm_recipe recipe;
    gm_candidates *c = &f->call.candidates;
    gm_status s = STATUS(gm_recipe_parse("2,8", 64, &recipe));
    if (!s) s = STATUS(gm_candidates_open(&f->call.arena, &f->call.model,
                                          &recipe, NULL,
                                          "build/test/choice-work", NULL, c));
    CHECK(s == GM_OK, "%s", err.text);
    if (s) return;
    long M = f->call.model.config.layers * GM_LINEARS;
    int *choice = gm_alloc(&f->call.arena, (size_t)M, sizeof *choice);
    double moved[2] = {0};
    for (int k = 0; k < 2; k++) {
        double *found = gm_alloc(&f->call.arena, (size_t)f->questions.count,
                                 sizeof *found);
        for (long j = 0; j < M; j++) choice[j] = k;
        s = likelihoods(f, &f->questions, choice, found);
        CHECK(s == GM_OK, "%s", err.text);
        for (long i = 0; i < f->questions.count; i++)
            moved[k] += fabs(found[i] - f->likelihood[i]) /
                        (double)f->questions.count;
    }
    CHECK(moved[1] > 0 && moved[1] < 0.2 && moved[0] > 1, "mean change at 8 "
          "bits %g, at 2 bits %g", moved[1], moved[0]);
    gm_candidates_close(c);
}

/* Three choices of 4, 2 and 1 characters, 4, 2 and 2 bytes, likelihoods by
   hand. */
static void scores_by_hand(void) {
    gm_ending e[6] = {{.size = {1, 4, 4}, .right = true},
                      {.size = {1, 2, 2}}, {.size = {1, 1, 2}}};
    for (int i = 3; i < 6; i++) e[i] = e[i - 3], e[i].question = 1;
    e[3].right = false, e[4].right = true;
    gm_questions both = {2, 6, e};
    /* per character -1, -1.5, -1.9; per byte -1, -1.5, -0.95 */
    double l[6] = {-4, -3, -1.9, -4, -2, -2};
    gm_accuracy a = gm_questions_score(&both, l);
    /* first: 2 wins the sum, 0 per character, 2 per byte; second: 1 the sum
       (before its equal 2), 0 per character (before its equal 1), 0 per byte:
       -1, -1, -1 */
    CHECK(a.share[0] == 0.5 && a.share[1] == 0.5 && a.share[2] == 0,
          "acc %g acc_norm %g acc_bytes %g", a.share[0], a.share[1],
          a.share[2]);
    CHECK(a.error[0] == 0.5 && a.error[2] == 0, "errors %g %g", a.error[0],
          a.error[2]);
}

static gm_status read_text(fixture *f, const char *text, long positions,
                           gm_questions *out) {
    FILE *to = fopen(file, "w");
    fputs(text, to);
    fclose(to);
    f->call.model.config.max_position = positions;
    return read_file(f, file, out);
}

/* Of too long an input the front is cut off: positions + 1 tokens remain. */
static void long_contexts(fixture *f) {
    gm_questions whole, cut;
    static const char text[] = "\n{\"context\": \"And the LORD spake unto "
        "Moses in the wilderness of Sinai\", \"choices\": [\"saying,\", "
        "\"in the tabernacle\"], \"answer\": 0}\n  \n";
    CHECK(read_text(f, text, 512, &whole) == GM_OK &&
          read_text(f, text, 8, &cut) == GM_OK, "%s", err.text);
    CHECK(whole.questions == 1 && whole.count == 2, "%ld questions, %ld pairs",
          whole.questions, whole.count);
    for (int i = 0; i < 2; i++) {
        gm_ending w = whole.ending[i], c = cut.ending[i];
        CHECK(c.count == 9 && w.count > 9 &&
              w.count - w.context == c.count - c.context &&
              memcmp(c.tokens, w.tokens + w.count - 9, 9 * sizeof *c.tokens)
              == 0, "choice %d: %ld of %ld tokens", i, c.count, w.count);
    }
}

static void refused(fixture *f, const char *text, const char *message) {
    char expected[512];
    gm_questions out;
    snprintf(expected, sizeof expected, "%s: %s", file, message);
    CHECK(read_text(f, text, 512, &out) == GM_EINPUT, "accepted %s", text);
    CHECK_TEXT(err.text, expected);
}

#define GOOD                                                              \
    "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 1}\n"

static void bad_lines(fixture *f) {
    refused(f, GOOD "{\"context\": \"a\", \"choices\": [\"b\", \"c\"]}",
            "line 2: answer: expected a whole number from 0 to 1, found "
            "nothing");
    refused(f, "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": "
            "2}", "line 1: answer: expected a whole number from 0 to 1, found "
            "2");
    refused(f, "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": "
            "\"b\"}", "line 1: answer: expected a whole number from 0 to 1, "
            "found \"b\"");
    refused(f, "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": "
            "true}", "line 1: answer: expected a whole number from 0 to 1, "
            "found true");
    refused(f, GOOD GOOD "{\"choices\": [\"b\", \"c\"], \"answer\": 0}",
            "line 3: context: expected a text, found nothing");
    refused(f, "{\"context\": \"\", \"choices\": [\"b\", \"c\"], \"answer\": "
            "0}", "line 1: context: expected a text, found \"\"");
    refused(f, "{\"context\": \"a\", \"choices\": [\"b\"], \"answer\": 0}",
            "line 1: choices: expected a list of two or more texts, found a "
            "list");
    refused(f, "{\"context\": \"a\", \"choices\": [\"b\", 7], \"answer\": 0}",
            "line 1: choices[1]: expected a text, found 7");
    refused(f, "{\"context\": \"a\", \"choices\": [\"b\", \"\"], \"answer\": "
            "0}", "line 1: choices[1]: expected a text, found \"\"");
    refused(f, GOOD "[1]", "line 2: the line: expected an object with "
            "context, choices and answer, found a list");
    refused(f, GOOD "{\"context\" \"a\"}", "line 2, column 12: expected ':', "
            "found '\"'");
    refused(f, "{\"context\": \"  \", \"choices\": [\"b\", \"c\"], \"answer\": "
            "0}", "line 1: expected at least one token of context and 1 to 512 "
            "of each choice, found 0 and 3");
    refused(f, "\n \n", "expected questions, one JSON object a line, found "
            "none");
}

static int test_main(void) {
    fixture f;
    fixture_begin(&f);
    equals_transformers(&f);
    padding_changes_nothing(&f);
    quantized_models(&f);
    scores_by_hand();
    long_contexts(&f);
    bad_lines(&f);
    gm_model_close(&f.call.model);
    gm_arena_free(&f.call.arena);
    return test_end("test_choice");
}

TEST_MAIN(test_main())
