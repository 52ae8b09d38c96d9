/* choice.c: multiple choice: which of some continuations of a text a model
   finds most likely.  Formulas and tokenization are those of
   EleutherAI/lm-evaluation-harness: lm_eval/api/model.py (TemplateLM.
   _encode_pair), lm_eval/models/huggingface.py (_loglikelihood_tokens),
   lm_eval/api/task.py (process_results).
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------ reading */

/* The line being read. */
typedef struct {
    gm_call *call;
    const gm_tokenizer *tokenizer;
    long line;
} reading;

_Noreturn static void wrong(const reading *r, const char *what,
                            const char *expected, const gm_json *found) {
    static const char *const name[] = {"nothing", "a boolean", "a number",
                                       "a string", "a list", "an object"};
    char value[48];
    gm_json_type type = found ? found->type : GM_JSON_NULL;
    bool holds = type == GM_JSON_STRING || type == GM_JSON_ARRAY;
    snprintf(value, sizeof value, "%s", holds && !found->length ? "an empty one"
             : name[type]);
    if (type == GM_JSON_NUMBER)
        snprintf(value, sizeof value, "%.10g", found->number);
    gm_bad(r->call->choices, "line %ld: %s: expected %s, found %s", r->line,
           what, expected, value);
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

/* The harness' pair: white space at the end of the context goes to the
   continuation; continuation = tokens of the whole behind the number of tokens
   that the context alone has; and of both together the last positions + 1. */
static gm_pair_tokens encode_pair(const reading *r, const gm_json *context,
                                  const gm_json *choice) {
    gm_arena *a = &r->call->arena;
    const long positions = r->call->model.config.max_position;
    const char *delimiter = r->call->delimiter;
    size_t kept = stripped(context->string, context->length);
    size_t gap = strlen(delimiter);
    size_t bytes = context->length + gap + choice->length;
    char *whole = gm_alloc(a, bytes + 1, 1);
    memcpy(whole, context->string, context->length);
    memcpy(whole + context->length, delimiter, gap);
    memcpy(whole + context->length + gap, choice->string, choice->length);
    int32_t *first, *both;
    long n_first, n_both;
    gm_tokenize(r->tokenizer, a, whole, kept, &first, &n_first);
    gm_tokenize(r->tokenizer, a, whole, bytes, &both, &n_both);
    if (n_first < 1 || n_both <= n_first || n_both - n_first > positions)
        gm_bad(r->call->choices, "line %ld: expected at least one token of "
               "context and 1 to %ld of each choice, found %ld and %ld",
               r->line, positions, n_first, n_both - n_first);
    memcpy(both, first, (size_t)n_first * sizeof *both);
    long cut = n_both - (positions + 1);
    if (cut < 0) cut = 0;
    gm_pair_tokens out = {both + cut, n_both - cut, n_first - cut, 0,
                          (long)choice->length};
    for (size_t i = 0; i < choice->length; i++)
        out.characters += (choice->string[i] & 0xC0) != 0x80;
    return out;
}

static gm_question read_question(const reading *r, const gm_json *object) {
    const gm_json *context = gm_json_get(object, "context");
    const gm_json *choices = gm_json_get(object, "choices");
    const gm_json *answer = gm_json_get(object, "answer");
    char expected[64];
    if (object->type != GM_JSON_OBJECT)
        wrong(r, "the line", "an object with context, choices and answer",
              object);
    if (!context || context->type != GM_JSON_STRING || !context->length)
        wrong(r, "context", "a text", context);
    if (!choices || choices->type != GM_JSON_ARRAY || choices->length < 2)
        wrong(r, "choices", "a list of two or more texts", choices);
    snprintf(expected, sizeof expected, "a whole number from 0 to %zu",
             choices->length - 1);
    if (!answer || !answer->is_integer || answer->integer < 0 ||
        answer->integer >= (int64_t)choices->length)
        wrong(r, "answer", expected, answer);
    gm_question q = {r->line, (long)choices->length, (long)answer->integer,
                     gm_alloc(&r->call->arena, choices->length,
                              sizeof *q.pair)};
    long i = 0;
    for (const gm_json *c = choices->child; c; c = c->next, i++) {
        snprintf(expected, sizeof expected, "choices[%ld]", i);
        if (c->type != GM_JSON_STRING || !c->length)
            wrong(r, expected, "a text", c);
        q.pair[i] = encode_pair(r, context, c);
    }
    return q;
}

gm_questions gm_questions_read(gm_call *call, const gm_tokenizer *tokenizer) {
    gm_arena *a = &call->arena;
    gm_questions out = {0};
    reading r = {call, tokenizer, 1};
    size_t bytes;
    char *text = gm_file_text(a, call->choices, &bytes), *end = text + bytes;
    long lines = 1;
    for (const char *c = text; c < end; c++) lines += *c == '\n';
    out.question = gm_alloc(a, (size_t)lines, sizeof *out.question);
    for (char *stop; text < end; text = stop + 1, r.line++) {
        stop = memchr(text, '\n', (size_t)(end - text));
        if (!stop) stop = end;
        *stop = 0;
        bytes = (size_t)(stop - text);
        if (stripped(text, bytes) == 0) continue;
        out.question[out.count] = read_question(
            &r, gm_json_parse(a, call->choices, r.line, text, bytes));
        out.pairs += out.question[out.count++].count;
    }
    if (!out.count)
        gm_bad(call->choices, "expected questions, one JSON object a line, "
               "found none");
    return out;
}

/* ---------------------------------------------------------- log-likelihoods

   log p(choice | context) = sum over the choice's tokens of log p(token | all
   before it).  Some pairs run together, padded at the end: attention looks back
   only, so the padding changes nothing. */

enum { BATCH_ROWS = 8192 };

/* The states that predict a token of a choice, moved to the front of h;
   next[i]: the token. */
static long gather(const gm_pair_tokens **p, long pairs, long T, long d,
                   gm_real *h, int32_t *next) {
    long rows = 0;
    for (long i = 0; i < pairs; i++)
        for (long t = p[i]->context; t < p[i]->count; t++) {
            memmove(h + rows * d, h + (i * T + t - 1) * d,
                    (size_t)d * sizeof *h);
            next[rows++] = p[i]->tokens[t];
        }
    return rows;
}

static void run_batch(gm_call *call, const gm_pair_tokens **p, long pairs,
                      long T, const int *choice, double *out) {
    gm_arena *a = &call->arena;
    const long d = call->model.config.d;
    const size_t rows = (size_t)(pairs * T);
    gm_real *h = gm_alloc(a, rows, (size_t)d * sizeof *h);
    int32_t *tokens = gm_alloc(a, rows, sizeof *tokens);
    int32_t *next = gm_alloc(a, rows, sizeof *next);
    double *nll = gm_alloc(a, rows, sizeof *nll);
    for (long i = 0; i < pairs; i++)
        memcpy(tokens + i * T, p[i]->tokens,
               (size_t)(p[i]->count - 1) * sizeof *tokens);
    gm_sequences text = {tokens, pairs, T};
    gm_final_states(a, &call->model, &call->candidates, choice, &text, NULL, h);
    long used = gather(p, pairs, T, d, h, next);
    gm_token_losses(a, &call->on.head, h, next, used, nll);
    for (long i = 0; i < pairs; i++) {
        out[i] = 0;
        for (long t = p[i]->context; t < p[i]->count; t++) out[i] -= *nll++;
    }
}

void gm_questions_likelihoods(gm_call *call, const gm_questions *questions,
                              const int *choice, double *out) {
    gm_arena *a = &call->arena;
    long n = 0;
    const gm_pair_tokens **p = gm_alloc(a, (size_t)questions->pairs, sizeof *p);
    if (!call->on.head.w) gm_head_load(a, &call->model, &call->on.head);
    for (long q = 0; q < questions->count; q++)
        for (long i = 0; i < questions->question[q].count; i++)
            p[n++] = &questions->question[q].pair[i];
    for (long done = 0, pairs; done < n; done += pairs) {
        long T = p[done]->count - 1, longer;
        for (pairs = 1; done + pairs < n; pairs++, T = longer) {
            longer = p[done + pairs]->count - 1;
            if (longer < T) longer = T;
            if ((pairs + 1) * longer > BATCH_ROWS) break;
        }
        gm_mark mark = gm_arena_mark(a);
        run_batch(call, p + done, pairs, T, choice, out + done);
        gm_arena_rewind(a, mark);
        gm_say(&call->report, "choices", done + pairs, n);
    }
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

/* Shares a of n with their standard errors sqrt(a (1 - a) / (n - 1)), which are
   those of means of zeros and ones. */
gm_accuracy gm_questions_score(const gm_questions *questions,
                               const double *likelihood) {
    const long n = questions->count;
    gm_accuracy out = {0};
    for (long q = 0; q < n; q++) {
        for (int by = 0; by < 3; by++)
            out.share[by] += is_right(&questions->question[q], likelihood, by);
        likelihood += questions->question[q].count;
    }
    for (int by = 0; by < 3; by++) {
        double *a = &out.share[by];
        *a /= (double)n;
        if (n > 1) out.error[by] = sqrt(*a * (1 - *a) / (double)(n - 1));
    }
    return out;
}
