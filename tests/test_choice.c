/* test_choice.c: multiple choice against lm-evaluation-harness
   (tests/golden/choice.jsonl: tokens, log-likelihoods, accuracies, errors, what
   it refuses; tools/golden_choice.py); padding and batching change
   nothing; a quantized model is measured; every kind of bad line is refused
   with its place.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "cmd/cmd.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

static const char golden[] = "tests/golden/choice.jsonl";
static const char file[] = "build/test/choices.jsonl";

typedef struct {
    gm_call call;
    gm_tokenizer *tokenizer;
    gm_specials specials;
    gm_questions questions;
    double *likelihood;
} fixture;

static gm_status read_file(fixture *f, const char *path, gm_questions *out) {
    f->call.choices = path;
    return STATUS(*out = gm_questions_read(&f->call, f->tokenizer,
                                             &f->specials));
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
    if (!s) s = STATUS(f->specials = gm_specials_read(a, f->tokenizer));
    if (!s) s = read_file(f, "data/choices.jsonl", &f->questions);
    CHECK(s == GM_OK, "%s", err.text);
    if (s) exit(test_end("test_choice"));
    f->likelihood = gm_alloc(a, (size_t)f->questions.count, sizeof(double));
    s = likelihoods(f, &f->questions, NULL, f->likelihood);
    CHECK(s == GM_OK, "%s", err.text);
    const gm_ending *e = f->questions.ending;
    while (e->question < 20) e++;
    /* a sign of three bytes, then " day of the month." */
    CHECK(e[2].size[1] == 19 && e[2].size[2] == 21, "%g characters, %g bytes",
          e[2].size[1], e[2].size[2]);
}

/* ---------------------------------------- against lm-evaluation-harness */

static const char *text_of(const gm_json *task, const char *key) {
    const gm_json *v = gm_json_get(task, key);
    return v && v->type == GM_JSON_STRING ? v->string : NULL;
}

static void write_file(const char *path, const char *text) {
    FILE *to = fopen(path, "w");
    CHECK(to && fputs(text, to) >= 0 && fclose(to) == 0, "%s", path);
}

/* The model's tokenizer, changed as the task says, in a directory. */
static gm_status tokenizer_of(fixture *f, const gm_json *task) {
    gm_arena *a = &f->call.arena;
    const char *dir = text_of(task, "model"), to[] = "build/test/choice-tokens";
    const char *post = text_of(task, "post_processor");
    const char *config = text_of(task, "tokenizer_config");
    size_t bytes;
    char *whole = gm_file_text(a, gm_format(a, "%s/tokenizer.json", dir),
                               &bytes);
    if (post) {                 /* in place of what stands before "decoder" */
        static const char name[] = "\"post_processor\": ";
        char *at = strstr(whole, name) + strlen(name);
        const char *behind = strstr(at, "\"decoder\"");
        *at = 0;
        whole = gm_format(a, "%s%s,\n  %s", whole, post, behind);
    }
    if (!config)
        config = gm_file_text(a, gm_format(a, "%s/tokenizer_config.json", dir),
                              &bytes);
    gm_make_dir(to);
    write_file(gm_format(a, "%s/tokenizer.json", to), whole);
    write_file(gm_format(a, "%s/tokenizer_config.json", to), config);
    gm_status s = STATUS(f->tokenizer = gm_tokenizer_open(a, to));
    return s ? s : STATUS(f->specials = gm_specials_read(a, f->tokenizer));
}

/* Of the task's questions, the lines whose numbers are `first` and, `all`, the
   next ones', into a file that is read. */
static gm_status read_lines(fixture *f, const gm_json *task,
                            const gm_json *first, bool all,
                            gm_questions *out) {
    size_t bytes;
    char *text = gm_file_text(&f->call.arena, text_of(task, "questions"),
                              &bytes);
    FILE *to = fopen(file, "w");
    for (int64_t i = 0; first && *text; i++) {
        const size_t line = strcspn(text, "\n") + 1;
        if (i == first->integer) {
            fwrite(text, 1, line, to);
            first = all ? first->next : NULL;
        }
        text += line;
    }
    CHECK(fclose(to) == 0, "%s", file);
    return read_file(f, file, out);
}

static const gm_json *list_of(const gm_json *task, const char *key) {
    return gm_json_get(task, key)->child;
}

/* Tokens, log-likelihoods and shares of one line of the golden file. */
static void task_agrees(fixture *f, const gm_json *task, long *pairs) {
    gm_questions q;
    gm_status s = read_lines(f, task, list_of(task, "ask"), true, &q);
    CHECK(s == GM_OK, "%s", err.text);
    if (s) return;
    const long positions = f->call.model.config.max_position;
    double *found = gm_alloc(&f->call.arena, (size_t)q.count, sizeof *found);
    const gm_json *context = list_of(task, "context");
    const gm_json *tokens = list_of(task, "tokens");
    const gm_json *expected = list_of(task, "likelihood");
    s = likelihoods(f, &q, NULL, found);
    CHECK(s == GM_OK, "%s", err.text);
    for (long i = 0; i < q.count && expected; i++, ++*pairs) {
        const gm_ending *e = &q.ending[i];
        const long kept = gm_min(context->integer,
                                 positions + 1 - tokens->integer);
        CHECK(e->context == kept && e->count - kept == tokens->integer,
              "question %ld, pair %ld: %ld + %ld tokens", e->question, i,
              e->context, e->count - e->context);
        /* two programs in float32: 1e-5 of it, 1e-5 where that is less */
        const double bound = 1e-5 * fmax(1, fabs(expected->number));
        CHECK(fabs(found[i] - expected->number) < bound, "question %ld, pair "
              "%ld: %.9g, by the harness %.9g", e->question, i, found[i],
              expected->number);
        context = context->next, tokens = tokens->next;
        expected = expected->next;
    }
    CHECK(!expected && !context && !tokens, "%ld pairs", q.count);
    const gm_accuracy a = gm_questions_score(&q, found);
    const gm_json *share = list_of(task, "accuracy");
    const gm_json *error = list_of(task, "error");
    for (int i = 0; i < 3; i++, share = share->next, error = error->next)
        CHECK(fabs(a.share[i] - share->number) < 1e-12 &&
              fabs(a.error[i] - error->number) < 1e-12, "accuracy %d: %.9g "
              "+- %.9g, expected %.9g +- %.9g", i, a.share[i], a.error[i],
              share->number, error->number);
    for (const gm_json *n = list_of(task, "refused"); n; n = n->next)
        CHECK(read_lines(f, task, n, false, &q) == GM_EINPUT, "question %ld "
              "is accepted", (long)n->integer);
}

static void equals_harness(void) {
    gm_arena arena = {0};
    size_t bytes;
    char *text = gm_file_text(&arena, golden, &bytes);
    long tasks = 0, pairs = 0;
    for (char *line; (line = strsep(&text, "\n")) && *line;) {
        const gm_json *task = gm_json_parse(&arena, golden, 1, line,
                                            strlen(line));
        const gm_json *bos = gm_json_get(task, "bos");
        const gm_json *positions = gm_json_get(task, "positions");
        fixture f = {.call.delimiter = text_of(task, "delimiter")};
        if (!f.call.delimiter) continue;        /* the first names versions */
        gm_status s = STATUS(gm_model_open(&f.call.arena, text_of(task, "model"),
                                           &f.call.model));
        if (!s) s = tokenizer_of(&f, task);
        CHECK(s == GM_OK, "%s", err.text);
        f.call.bos = bos->type != GM_JSON_BOOL ? 0 : bos->number > 0 ? 1 : 2;
        if (positions->is_integer)
            f.call.model.config.max_position = (long)positions->integer;
        if (!s) task_agrees(&f, task, &pairs);
        gm_model_close(&f.call.model);
        gm_arena_free(&f.call.arena);
        tasks++;
    }
    CHECK(tasks == 17 && pairs >= 1000, "%ld tasks, %ld pairs", tasks, pairs);
    gm_arena_free(&arena);
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
    f->call.model.config.vocab = 270;
    refused(f, GOOD "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], "
            "\"answer\": 0}", "line 1: token 1: expected an id below vocab_size 270, "
            "found 270");
    f->call.model.config.vocab = 768;
    f->call.delimiter = "\\ud800";
    CHECK(read_text(f, GOOD, 512, &(gm_questions){0}) == GM_EINPUT, "accepted");
    CHECK_TEXT(err.text, "--delimiter: line 1, column 2: expected \\u and 4 "
               "hexadecimal digits, or two such, a high and a low surrogate");
    f->call.delimiter = " ";
    f->call.bos = 1;
    CHECK(read_text(f, GOOD, 512, &(gm_questions){0}) == GM_EUSAGE, "accepted");
    CHECK_TEXT(err.text, "--bos always: the tokenizer has no bos_token");
    f->call.bos = 0;
    refused(f, "\n \n", "expected questions, one JSON object a line, found "
            "none");
}

#define PUTS                                                              \
    "{\\\"type\\\": \\\"TemplateProcessing\\\", \\\"single\\\": "             \
    "[{\\\"SpecialToken\\\": {\\\"id\\\": \\\"~\\\"}}, {\\\"Sequence\\\": "     \
    "{}}], \\\"special_tokens\\\": {\\\"~\\\": {\\\"ids\\\": [93]}}}"

/* What the harness would do is not known, or it has no token to put before. */
static void unusable_specials(void) {
    static const struct { const char *post, *config, *context, *message; }
    cases[] = {
        {"{\\\"type\\\": \\\"RobertaProcessing\\\"}", "{}", "a",
         "build/test/choice-tokens/tokenizer.json: post_processor.type: "
         "\"RobertaProcessing\", expected null, ByteLevel, "
         "TemplateProcessing, or a Sequence of one of each"},
        {"{\\\"type\\\": \\\"TemplateProcessing\\\", \\\"single\\\": "
         "[{\\\"SpecialToken\\\": {\\\"id\\\": \\\"~\\\"}}], "
         "\\\"special_tokens\\\": {}}", "{}", "a",
         "build/test/choice-tokens/tokenizer.json: post_processor.ids: "
         "nothing, expected an array"},
        {"{\\\"type\\\": \\\"Sequence\\\", \\\"processors\\\": [" PUTS ", " PUTS
         "]}", "{}", "a", "build/test/choice-tokens/tokenizer.json: "
         "post_processor.type: \"TemplateProcessing\", expected null, "
         "ByteLevel, TemplateProcessing, or a Sequence of one of each"},
        {"null", "{}", "", "build/test/choices.jsonl: line 1: context: "
         "expected a text, as bos_token and eos_token are no tokens, found "
         "\"\""},
        {"null", "{\\\"bos_token\\\": \\\"<none>\\\", \\\"eos_token\\\": "
         "\\\"~\\\"}", "", "build/test/choices.jsonl: line 1: context: "
         "expected a text, as bos_token and eos_token are no tokens, found "
         "\"\""},
        {"null", "{\\\"eos_token\\\": \\\"~\\\"}", "", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = {.call.delimiter = " "};
        gm_arena *a = &f.call.arena;
        gm_questions q;
        const char *task = gm_format(
            a, "{\"model\": \"data/tiny-llama\", \"post_processor\": \"%s\", "
            "\"tokenizer_config\": \"%s\"}", cases[i].post, cases[i].config);
        gm_status s = STATUS(gm_model_open(a, "data/tiny-llama",
                                           &f.call.model));
        if (!s) s = tokenizer_of(&f, gm_json_parse(a, "task", 1, task,
                                                   strlen(task)));
        write_file(file, gm_format(a, "{\"context\": \"%s\", \"choices\": "
                                   "[\"b\", \"c\"], \"answer\": 1}\n",
                                   cases[i].context));
        if (!s) s = read_file(&f, file, &q);
        CHECK(s == (cases[i].message ? GM_EINPUT : GM_OK), "case %zu", i);
        if (cases[i].message) CHECK_TEXT(err.text, cases[i].message);
        gm_model_close(&f.call.model);
        gm_arena_free(a);
    }
}

static int test_main(void) {
    fixture f;
    fixture_begin(&f);
    equals_harness();
    padding_changes_nothing(&f);
    quantized_models(&f);
    scores_by_hand();
    long_contexts(&f);
    bad_lines(&f);
    unusable_specials();
    gm_model_close(&f.call.model);
    gm_arena_free(&f.call.arena);
    return test_end("test_choice");
}

TEST_MAIN(test_main())
