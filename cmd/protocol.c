/* protocol.c: perplexity as published tables have it: how a text is cut into
   windows, which of their tokens are predicted, what their sum is divided by.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

/* Window i begins at token i * stride; a token is predicted once, from those
   before it in its window. */
typedef struct {
    long window, stride;        /* 0: the model's longest input; the window   */
    enum {
        DROPPED,                /* what is left at the end; the first token of
                                   a window is predicted by none              */
        SHORTER,                /* the last window is, to the text's end      */
        MOVED                   /* to the left; a window's last row predicts
                                   the token behind it                        */
    } last;
    enum { NOTHING, AROUND, EACH, PREFIX } added;
    bool half;                  /* predicted: tokens behind the middle        */
    const char *says;
} protocol;

/* In the order of the option's names. */
static const protocol table[] = {
    {1024, 0, DROPPED, NOTHING, false,
     "non-overlapping; in each, tokens 2..T predicted from those "
     "before them; no BOS added"},
    {2048, 0, DROPPED, AROUND, false,
     "non-overlapping; in each, tokens 2..T predicted from those "
     "before them; around the text what the tokenizer adds"},
    {512, 0, DROPPED, EACH, true,
     "non-overlapping; in each, tokens T/2+2..T predicted; a BOS that "
     "the tokenizer adds takes the place of each first token"},
    {0, 512, SHORTER, AROUND, false,
     "one every 512 tokens; in each, those predicted that no window before "
     "has; windows weighted by them less 1, but the first; around the "
     "text what the tokenizer adds"},
    {0, 0, MOVED, PREFIX, false,
     "which predict every token of the document once; before it BOS, or else "
     "EOS, and what the tokenizer adds"}};

/* As many as re.split(r"\s+", text) of Python gives. */
static double words_of(const char *text, size_t bytes) {
    const char *end = text + bytes;
    double words = 1;
    uint32_t point;
    for (bool was = false, space; text < end; was = space) {
        text += gm_utf8(text, end, &point);
        space = gm_is_space(point);
        words += space && !was;
    }
    return words;
}

/* Token ids of the text with what is added; *bos: what each window begins with,
   or -1. */
static const int32_t *read_text(gm_call *call, int added, long *n,
                                int32_t *bos) {
    gm_arena *a = &call->arena;
    int32_t *x = gm_call_tokens(call, "--eval FILE, --eval-tokens FILE.npy",
                                call->text, call->text_tokens, n);
    *bos = -1;
    if (added == NOTHING) return x;
    if (!call->text)
        gm_fail(GM_EUSAGE, "--protocol %s is one of texts: expected --eval "
                "FILE, found --eval-tokens", call->on.protocol);
    const gm_specials s = gm_specials_read(a, gm_call_tokenizer(call));
    if (added == PREFIX && s.prefix < 0)
        gm_bad(call->model.dir, "protocol %s needs a bos_token or eos_token "
               "that is a token, found none in tokenizer_config.json",
               call->on.protocol);
    if (added != PREFIX || *x != s.prefix) x = gm_surround(a, &s, x, n);
    if (added == EACH && s.bos >= 0 && s.count > 1 && s.around[0] == s.bos)
        *bos = s.bos;
    gm_call_known(call, "what the tokenizer adds", x, *n);
    if (added != PREFIX) return x;
    return gm_surround(a, &(gm_specials){(int32_t[]){s.prefix, -1}, .count = 2},
                       x, n);
}

/* How many tokens a window has. */
static long length_of(const gm_call *call, const protocol *p, long n) {
    const long most = call->model.config.max_position, own = p->window;
    long T = call->window ? call->window : own ? gm_min(own, most) : most;
    if (!call->window && T < own)
        gm_talk(call, "windows of %ld tokens, the model's longest input, "
                "instead of %ld", T, own);
    if (T < 2 + p->half)
        gm_fail(GM_EUSAGE, "expected windows of at least %d tokens, found %ld",
                2 + p->half, T);
    return p->last == DROPPED ? T : gm_min(T, n - (p->last == MOVED));
}

void gm_call_windows(gm_call *call) {
    gm_arena *a = &call->arena;
    const protocol *p = &table[call->protocol];
    const int last = (int)p->last;
    const char *name = gm_given("--protocol");
    gm_measuring *on = &call->on;
    int32_t bos;
    long n, w = 0, done = 1, windows = call->windows;
    if (last == MOVED && windows)
        gm_fail(GM_EUSAGE, "--protocol %s takes a whole document: --windows "
                "does not go with it", name);
    on->protocol = name ? name : "default";
    on->path = call->text ? call->text : call->text_tokens;
    const int32_t *x = read_text(call, (int)p->added, &n, &bos);
    if (n < 2) gm_bad(on->path, "expected at least 2 tokens, found %ld", n);
    const long T = length_of(call, p, n);
    const long each = p->stride ? gm_min(p->stride, T) : T;
    const size_t cells = (size_t)((n / each + 1) * T);
    int32_t *in = gm_alloc(a, cells, 2 * sizeof *in), *next = in + cells;
    double *weight = gm_alloc(a, (size_t)(n / each + 1), sizeof *weight);
    for (; done < n && (!windows || w < windows); w++) {
        long from = w * each, to = gm_min(from + T + (last == MOVED), n);
        if (from + (last == DROPPED ? T : 2) > n) break;    /* predicts none */
        if (last == DROPPED) done = from + 1 + (p->half ? T / 2 : 0);
        if (last == MOVED) from = to - 1 - T;
        for (long t = 0; t < T; t++) {
            const long at = from + t + 1;       /* behind the text: anything */
            in[w * T + t] = x[gm_min(at, n) - 1];
            next[w * T + t] = at >= done && at < to ? x[at] : -1;
        }
        if (bos >= 0) in[w * T] = bos;
        weight[w] = (double)(to - done - (last == SHORTER && w > 0));
        on->all += weight[w];
        done = to;
    }
    if (w < (windows ? windows : 1))
        gm_bad(on->path, "expected at least %ld tokens (%ld windows of %ld), "
               "found %ld", (windows ? windows - 1 : 0) * each + T,
               windows ? windows : 1, T, n);
    on->text = (gm_sequences){in, w, T};
    on->next = next;
    on->weight = weight;
    if (last == MOVED) {
        size_t bytes;
        const char *text = gm_file_text(a, call->text, &bytes);
        on->words = words_of(text, bytes);
        on->bytes = (double)bytes;
    }
    gm_talk(call, "text: %ld tokens; protocol %s: first %ld windows of T = %ld "
            "tokens, %s; mean over all predicted tokens in double", n,
            on->protocol, w, T, p->says);
}
