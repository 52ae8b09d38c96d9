/* choice.c: multiple choice: which of some continuations of a text a model
   finds most likely.  Formulas and tokenization are those of
   EleutherAI/lm-evaluation-harness: lm_eval/api/model.py (TemplateLM.
   _encode_pair), lm_eval/models/huggingface.py (_loglikelihood_tokens),
   lm_eval/api/task.py (process_results).  Reads a jsonl file, writes nothing.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ reading */

/* One line being read. */
typedef struct {
    gm_arena *arena;
    const gm_tokenizer *tokenizer;
    const char *path, *delimiter;
    long line, positions;       /* positions: longest input of the model */
} reading;

_Noreturn static void wrong(const reading *r, const char *what,
                       const char *expected, const gm_json *found) {
    static const char *const name[] = {"nothing", "a boolean", "a number",
                                       "a string", "a list", "an object"};
    char value[48];
    gm_json_type type = found ? found->type : GM_JSON_NULL;
    snprintf(value, sizeof value, "%s", name[type]);
    if (type == GM_JSON_NUMBER)
        snprintf(value, sizeof value, "%.10g", found->number);
    if ((type == GM_JSON_STRING || type == GM_JSON_ARRAY) && !found->length)
        snprintf(value, sizeof value, "%s", "an empty one");
    gm_fail(GM_EINPUT, "%s: line %ld: %s: expected %s, found %s",
                   r->path, r->line, what, expected, value);
}

/* What Python's str.isspace takes for white space. */
static bool is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 ||
           c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

/* Bytes of `text` without the white space at its end. */
static size_t stripped(const char *text, size_t length) {
    const char *end = text + length, *keep = text;
    for (const char *at = text; at < end;) {
        uint32_t c;
        int n = gm_utf8(at, end, &c);
        at += n ? n : 1;
        if (!n || !is_space(c)) keep = at;
    }
    return (size_t)(keep - text);
}

/* A text's first `kept` bytes and all of it, as tokens; a failure is given its
   place by encode_pair. */
typedef struct {
    const reading *r;
    const char *whole;
    size_t kept, bytes;
    int32_t *first, *both;
    long n_first, n_both;
} pair_tokens;

static void tokenize_pair(void *context) {
    pair_tokens *t = context;
    gm_tokenize(t->r->tokenizer, t->r->arena, t->whole, t->kept, &t->first,
                &t->n_first);
    gm_tokenize(t->r->tokenizer, t->r->arena, t->whole, t->bytes, &t->both,
                &t->n_both);
}

/* The harness' pair: white space at the end of the context goes to the
   continuation; continuation = tokens of the whole behind the number of tokens
   that the context alone has; and of both together the last positions + 1. */
static void encode_pair(const reading *r, const gm_json *context,
                             const gm_json *choice, gm_pair_tokens *out) {
    gm_arena *a = r->arena;
    size_t kept = stripped(context->string, context->length);
    size_t gap = strlen(r->delimiter);
    size_t bytes = context->length + gap + choice->length;
    char *whole = gm_alloc(a, bytes + 1, 1);
    memcpy(whole, context->string, context->length);
    memcpy(whole + context->length, r->delimiter, gap);
    memcpy(whole + context->length + gap, choice->string, choice->length);
    pair_tokens t = {r, whole, kept, bytes, NULL, NULL, 0, 0};
    gm_error inner;
    gm_status s = gm_try(tokenize_pair, &t, &inner);
    if (s) gm_fail(s, "%s: line %ld: %s", r->path, r->line, inner.text);
    int32_t *const both = t.both;
    const long n_first = t.n_first, n_both = t.n_both;
    if (n_first < 1 || n_both <= n_first || n_both - n_first > r->positions)
        gm_fail(GM_EINPUT, "%s: line %ld: expected at least one "
                       "token of context and 1 to %ld of each choice, found "
                       "%ld and %ld", r->path, r->line, r->positions, n_first,
                       n_both - n_first);
    memcpy(both, t.first, (size_t)n_first * sizeof *both);
    long cut = n_both - (r->positions + 1);
    if (cut < 0) cut = 0;
    *out = (gm_pair_tokens){both + cut, n_both - cut, n_first - cut, 0,
                            (long)choice->length};
    for (size_t i = 0; i < choice->length; i++)
        out->characters += (choice->string[i] & 0xC0) != 0x80;
}

static void read_question(const reading *r, const gm_json *object,
                               gm_question *q) {
    const gm_json *context = gm_json_get(object, "context");
    const gm_json *choices = gm_json_get(object, "choices");
    const gm_json *answer = gm_json_get(object, "answer");
    if (object->type != GM_JSON_OBJECT)
        wrong(r, "the line", "an object with context, choices and "
                     "answer", object);
    if (!context || context->type != GM_JSON_STRING || !context->length)
        wrong(r, "context", "a text", context);
    if (!choices || choices->type != GM_JSON_ARRAY || choices->length < 2)
        wrong(r, "choices", "a list of two or more texts", choices);
    char expected[64];
    snprintf(expected, sizeof expected, "a whole number from 0 to %zu",
             choices->length - 1);
    if (!answer || !answer->is_integer || answer->integer < 0 ||
        answer->integer >= (int64_t)choices->length)
        wrong(r, "answer", expected, answer);
    *q = (gm_question){.count = (long)choices->length,
                       .answer = (long)answer->integer};
    q->pair = gm_alloc(r->arena, choices->length, sizeof *q->pair);
    long i = 0;
    for (const gm_json *c = choices->child; c; c = c->next, i++) {
        snprintf(expected, sizeof expected, "choices[%ld]", i);
        if (c->type != GM_JSON_STRING || !c->length)
            wrong(r, expected, "a text", c);
        encode_pair(r, context, c, &q->pair[i]);
    }
}

void gm_questions_read(gm_arena *arena, const char *path,
                       const gm_tokenizer *tokenizer, long positions,
                       const char *delimiter, gm_questions *out) {
    char *text = gm_file_text(arena, path, NULL);
    reading r = {arena, tokenizer, path, delimiter, 0, positions};
    *out = (gm_questions){.path = path};
    out->question = gm_alloc(arena, (size_t)gm_count_char(text, '\n') + 1,
                             sizeof *out->question);
    for (char *line; (line = strsep(&text, "\n"));) {
        const size_t bytes = strlen(line);
        r.line++;
        if (stripped(line, bytes) == 0) continue;
        gm_question *q = &out->question[out->count++];
        read_question(&r, gm_json_parse(arena, path, r.line, line, bytes), q);
        q->line = r.line;
        out->pairs += q->count;
    }
    if (!out->count)
        gm_bad(path, "expected questions, one JSON object a line, found none");
}

/* ---------------------------------------------------------- log-likelihoods

   log p(choice | context) = sum over the choice's tokens of log p(token | all
   before it).  Pairs of like length run together, padded at the end: attention
   looks back only, so the padding changes nothing. */

enum { BATCH_ROWS = 8192 };

typedef struct { const gm_pair_tokens *pair; double *likelihood; long n; }
ranked;

static int by_length(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    return x->pair->count != y->pair->count
               ? (x->pair->count < y->pair->count ? -1 : 1)
               : (x->n > y->n) - (x->n < y->n);
}

/* The states that predict a token of a choice, moved to the front of h;
   next[i]: the token. */
static long gather(const ranked *r, long pairs, long T, long d, gm_real *h,
                   int32_t *next) {
    long rows = 0;
    for (long i = 0; i < pairs; i++)
        for (long t = r[i].pair->context; t < r[i].pair->count; t++) {
            memmove(h + rows * d, h + (i * T + t - 1) * d,
                    (size_t)d * sizeof *h);
            next[rows++] = r[i].pair->tokens[t];
        }
    return rows;
}

static void run_batch(gm_arena *arena, const gm_scored_model *m,
                           const ranked *r, long pairs, long T) {
    const long d = m->model->config.d;
    size_t rows = (size_t)(pairs * T);
    gm_real *h = gm_alloc(arena, rows, (size_t)d * sizeof *h);
    int32_t *tokens = gm_alloc(arena, 2 * rows, sizeof *tokens);
    double *nll = gm_alloc(arena, rows, sizeof *nll);
    for (long i = 0; i < pairs; i++)
        memcpy(tokens + i * T, r[i].pair->tokens,
               (size_t)(r[i].pair->count - 1) * sizeof *tokens);
    gm_text text = {tokens, pairs, T};
    gm_final_states(arena, m->model, m->candidates, m->choice,
                                  &text, NULL, h);
    int32_t *next = tokens + rows;
    long used = gather(r, pairs, T, d, h, next), at = 0;
    gm_token_losses(arena, m->head, h, next, used, nll);
    for (long i = 0; i < pairs; i++) {
        *r[i].likelihood = 0;
        for (long t = r[i].pair->context; t < r[i].pair->count; t++)
            *r[i].likelihood -= nll[at++];
    }
}

void gm_questions_likelihoods(gm_arena *arena, const gm_scored_model *m,
                                   const gm_questions *questions,
                                   const gm_report *report, double *out) {
    gm_mark start = gm_arena_mark(arena);
    long n = 0;
    ranked *r = gm_alloc(arena, (size_t)questions->pairs, sizeof *r);
    for (long q = 0; q < questions->count; q++)
        for (long i = 0; i < questions->question[q].count; i++, n++)
            r[n] = (ranked){&questions->question[q].pair[i], out + n, n};
    qsort(r, (size_t)n, sizeof *r, by_length);
    for (long done = 0; done < n;) {
        long pairs = 1;         /* the longest pair of a batch is its last */
        while (done + pairs < n && (pairs + 1) *
               (r[done + pairs].pair->count - 1) <= BATCH_ROWS)
            pairs++;
        gm_mark mark = gm_arena_mark(arena);
        run_batch(arena, m, r + done, pairs,
                      r[done + pairs - 1].pair->count - 1);
        gm_arena_rewind(arena, mark);
        done += pairs;
        gm_say(report, "choices", done, n);
    }
    gm_arena_rewind(arena, start);
}

/* --------------------------------------------------------------- accuracies */

/* The first of the largest likelihood / divisor, as numpy.argmax. */
static bool is_right(const gm_question *q, const double *likelihood, int by) {
    long best = 0;
    double most = 0;
    for (long i = 0; i < q->count; i++) {
        const gm_pair_tokens *p = &q->pair[i];
        double x = likelihood[i] / (double)(by == 0 ? 1 : by == 1
                                            ? p->characters : p->bytes);
        if (i == 0 || x > most) most = x, best = i;
    }
    return best == q->answer;
}

/* A share a of n with its standard error sqrt(a (1 - a) / (n - 1)), which is
   that of a mean of zeros and ones. */
static void share(long right, long n, double *a, double *error) {
    *a = (double)right / (double)n;
    *error = n > 1 ? sqrt(*a * (1 - *a) / (double)(n - 1)) : 0;
}

void gm_questions_score(const gm_questions *questions,
                        const double *likelihood, gm_accuracy *out) {
    long right[3] = {0}, at = 0;
    for (long q = 0; q < questions->count; q++) {
        for (int by = 0; by < 3; by++)
            right[by] += is_right(&questions->question[q], likelihood + at, by);
        at += questions->question[q].count;
    }
    out->questions = questions->count;
    share(right[0], out->questions, &out->acc, &out->acc_error);
    share(right[1], out->questions, &out->acc_norm, &out->acc_norm_error);
    share(right[2], out->questions, &out->acc_bytes, &out->acc_bytes_error);
}
