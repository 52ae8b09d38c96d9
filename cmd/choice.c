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

enum { AS_TOKENIZER, ALWAYS, NEVER };           /* --bos */

/* The line being read. */
typedef struct {
    gm_call *call;
    const gm_tokenizer *tokenizer;
    gm_specials specials, before;       /* of a text; of one with no context */
    int32_t prefix;                     /* which has this                    */
    const gm_json *delimiter;
    long line;
    size_t room;
    gm_questions out;
} reading;

_Noreturn static void wrong(const reading *r, const char *what,
                            const char *expected, const gm_json *found) {
    gm_bad(r->call->choices, "line %ld: %s: expected %s, found %s", r->line,
           what, expected, gm_json_show(found).text);
}

static void need_text(const reading *r, const char *what, const gm_json *v,
                      size_t least) {
    if (!v || v->type != GM_JSON_STRING || v->length < least)
        wrong(r, what, "a text", v);
}

bool gm_is_space(uint32_t c) {
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
        if (!n || !gm_is_space(c)) keep = at;
    }
    return (size_t)(keep - text);
}

/* A backslash in an argument is that of a string in JSON. */
static const gm_json *unescaped(gm_arena *a, const char *text) {
    const char *quoted = strchr(text, '\\') ? gm_format(a, "\"%s\"", text)
                                            : gm_json_quote(a, text);
    return gm_json_parse(a, "--delimiter", 1, quoted, strlen(quoted));
}

/* The harness' tok_encode: a text that begins with the prefix token, written
   out, gets no other. */
static int32_t *encode(const reading *r, const gm_specials *specials,
                       const char *text, size_t bytes, long *count) {
    gm_arena *a = &r->call->arena;
    int32_t *out = gm_tokenize(r->tokenizer, a, r->call->choices, text, bytes,
                               count);
    if (!*count || *out != r->prefix)
        out = gm_surround(a, specials, out, count);
    gm_call_known(r->call, gm_format(a, "%s: line %ld", r->call->choices,
                                     r->line), out, *count);
    return out;
}

/* The harness' pair: white space at the end of the context goes to the
   continuation; continuation = tokens of the whole behind the number of tokens
   that the context alone has (no context: the prefix token is it); and of both
   together the last positions + 1. */
static gm_ending encode_pair(const reading *r, const gm_json *context,
                             const gm_json *choice) {
    gm_arena *a = &r->call->arena;
    const long positions = r->call->model.config.max_position;
    const gm_specials *specials = context->length ? &r->specials : &r->before;
    size_t kept = stripped(context->string, context->length);
    size_t gap = r->delimiter->length;
    size_t bytes = context->length + gap + choice->length;
    char *whole = gm_alloc(a, bytes + 1, 1);
    memcpy(whole, context->string, context->length);
    memcpy(whole + context->length, r->delimiter->string, gap);
    memcpy(whole + context->length + gap, choice->string, choice->length);
    long n_first = 1, n_both;
    const int32_t *first = &r->prefix;
    int32_t *both = encode(r, specials, whole, bytes, &n_both);
    if (context->length) first = encode(r, specials, whole, kept, &n_first);
    if (n_first < 1 || n_both <= n_first || n_both - n_first > positions)
        gm_bad(r->call->choices, "line %ld: expected at least one token of "
               "context and 1 to %ld of each choice, found %ld and %ld",
               r->line, positions, n_first, n_both - n_first);
    memcpy(both, first, (size_t)n_first * sizeof *both);
    const long cut = n_both - gm_min(n_both, positions + 1);
    gm_ending out = {both + cut, n_both - cut, n_first - cut,
                     {1, 0, (double)choice->length}, 0, false};
    for (size_t i = 0; i < choice->length; i++)
        out.size[1] += (choice->string[i] & 0xC0) != 0x80;
    return out;
}

static void read_question(reading *r, const gm_json *object) {
    const gm_json *context = gm_json_get(object, "context");
    const gm_json *choices = gm_json_get(object, "choices");
    const gm_json *answer = gm_json_get(object, "answer");
    gm_questions *q = &r->out;
    gm_arena *a = &r->call->arena;
    if (object->type != GM_JSON_OBJECT)
        wrong(r, "the line", "an object with context, choices and answer",
              object);
    need_text(r, "context", context, 0);
    if (!context->length && r->prefix < 0)
        wrong(r, "context", "a text, as bos_token and eos_token are no tokens",
              context);
    if (!choices || choices->type != GM_JSON_ARRAY || choices->length < 2)
        wrong(r, "choices", "a list of two or more texts", choices);
    if (!answer || !answer->is_integer || answer->integer < 0 ||
        answer->integer >= (int64_t)choices->length)
        wrong(r, "answer", gm_format(a, "a whole number from 0 to %zu",
                                     choices->length - 1), answer);
    int64_t i = 0;
    for (const gm_json *c = choices->child; c; c = c->next, i++) {
        need_text(r, gm_format(a, "choices[%ld]", (long)i), c, 1);
        q->ending = gm_grow(a, q->ending, (size_t)q->count, &r->room,
                            sizeof *q->ending);
        gm_ending *e = &q->ending[q->count++];
        *e = encode_pair(r, context, c);
        e->question = q->questions;
        e->right = i == answer->integer;
    }
    q->questions++;
}

gm_questions gm_questions_read(gm_call *call, const gm_tokenizer *tokenizer,
                               const gm_specials *specials) {
    int32_t before[] = {specials->prefix, -1}, bos[] = {specials->bos, -1};
    reading r = {.call = call, .tokenizer = tokenizer, .specials = *specials,
                 .before = {.around = before, 2}, .prefix = specials->prefix,
                 .delimiter = unescaped(&call->arena, call->delimiter),
                 .line = 1};
    if (call->bos == ALWAYS && *bos < 0)
        gm_fail(GM_EUSAGE, "--bos always: the tokenizer has no bos_token");
    if (call->bos == ALWAYS) r.specials = (gm_specials){.around = bos, 2};
    if (call->bos == NEVER) r.specials = (gm_specials){.around = bos + 1, 1};
    size_t bytes;
    char *text = gm_file_text(&call->arena, call->choices, &bytes);
    char *end = text + bytes;
    for (char *stop; text < end; text = stop + 1, r.line++) {
        stop = memchr(text, '\n', (size_t)(end - text));
        if (!stop) stop = end;
        *stop = 0;
        bytes = (size_t)(stop - text);
        if (stripped(text, bytes))
            read_question(&r, gm_json_parse(&call->arena, call->choices,
                                            r.line, text, bytes));
    }
    if (!r.out.count)
        gm_bad(call->choices, "expected questions, one JSON object a line, "
               "found none");
    return r.out;
}

/* ---------------------------------------------------------- log-likelihoods

   log p(choice | context) = sum over the choice's tokens of log p(token | all
   before it).  Some pairs run together, padded at the end: attention looks back
   only, so the padding changes nothing. */

static void run_batch(gm_call *call, const gm_ending *e, long pairs, long T,
                      const int *choice, double *out) {
    gm_arena *a = &call->arena;
    const long d = call->model.config.d;
    const size_t rows = (size_t)(pairs * T);
    gm_real *h = gm_alloc(a, rows, (size_t)d * sizeof *h);
    int32_t *tokens = gm_alloc(a, rows, sizeof *tokens);
    int32_t *next = gm_alloc(a, rows, sizeof *next);
    double *nll = gm_alloc(a, rows, sizeof *nll);
    long used = 0;
    for (long i = 0; i < pairs; i++)
        memcpy(tokens + i * T, e[i].tokens,
               (size_t)(e[i].count - 1) * sizeof *tokens);
    gm_sequences text = {tokens, pairs, T};
    gm_final_states(a, &call->model, &call->candidates, choice, &text, NULL, h);
    /* the states that predict a token of a choice, to the front */
    for (long i = 0; i < pairs; i++)
        for (long t = e[i].context; t < e[i].count; t++) {
            memmove(h + used * d, h + (i * T + t - 1) * d,
                    (size_t)d * sizeof *h);
            next[used++] = e[i].tokens[t];
        }
    gm_token_losses(a, &call->on.head, h, next, used, nll);
    for (long i = 0; i < pairs; i++) {
        out[i] = 0;
        for (long t = e[i].context; t < e[i].count; t++) out[i] -= *nll++;
    }
}

void gm_questions_likelihoods(gm_call *call, const gm_questions *questions,
                              const int *choice, double *out) {
    enum { BATCH_ROWS = 8192 };
    gm_arena *a = &call->arena;
    const gm_ending *e = questions->ending;
    const long n = questions->count;
    if (!call->on.head.w) gm_head_load(a, &call->model, &call->on.head);
    for (long done = 0, pairs; done < n; done += pairs) {
        long T = 0;
        for (pairs = 0; done + pairs < n; pairs++) {
            const long own = e[done + pairs].count - 1;
            const long longest = own > T ? own : T;
            if (pairs && (pairs + 1) * longest > BATCH_ROWS) break;
            T = longest;
        }
        gm_mark mark = gm_arena_mark(a);
        run_batch(call, e + done, pairs, T, choice, out + done);
        gm_arena_rewind(a, mark);
        gm_say(&call->report, "choices", done + pairs, n);
    }
}

/* --------------------------------------------------------------- accuracies */

/* Shares a of n with their standard errors sqrt(a (1 - a) / (n - 1)), which are
   those of means of zeros and ones.  The most likely ending is the first of the
   largest, as numpy.argmax. */
gm_accuracy gm_questions_score(const gm_questions *questions,
                               const double *likelihood) {
    const double n = (double)questions->questions;
    gm_accuracy out = {0};
    for (int by = 0; by < 3; by++) {
        double *a = &out.share[by];
        for (long i = 0, next; i < questions->count; i = next) {
            const gm_ending *e = questions->ending;
            long best = i;
            for (next = i; next < questions->count &&
                 e[next].question == e[i].question; next++)
                if (likelihood[next] / e[next].size[by] >
                    likelihood[best] / e[best].size[by])
                    best = next;
            *a += e[best].right;
        }
        *a /= n;
        if (n > 1) out.error[by] = sqrt(*a * (1 - *a) / (n - 1));
    }
    return out;
}
