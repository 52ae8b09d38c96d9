/* signs.c: what usually causes a departure, told from the numbers: for each
   quantity the usual mistakes are computed from what both dumps agree on, and
   a mistake that gives THEIRS is named.  With the original model the mistakes
   of a block's forward pass are tried out too.  Reads mapped files, writes
   nothing.  docs/verify.md has the table of signatures and causes.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* The first tensor that departs, x of ours and y of theirs. */
typedef struct {
    gm_arena *arena;
    const gm_tensors *ours, *theirs;
    gm_verification *out;
    const gm_verdict *v;
    const char *name;
    double *x, *y, *guess;      /* [n]; guess: workspace for predictions */
    long n, rows, columns;
    double departure;           /* sum (y - x)^2 */
    bool centred;               /* up to a constant in each row */
} signs;

enum { HINTS = 8 };

__attribute__((format(printf, 2, 3)))
static void hint(signs *s, const char *format, ...) {
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    const char *copy = gm_format(s->arena, "%s", text);
    if (copy && s->out->hints < HINTS) s->out->hint[s->out->hints++] = copy;
}

static bool starts(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

static bool named(const signs *s, const char *name) {
    return strcmp(s->name, name) == 0;
}

static long count_of(const gm_tensor *t) {
    size_t size = gm_dtype_bytes(t->dtype);
    return size ? (long)(t->bytes / size) : 0;
}

/* A tensor as doubles; NULL when absent or not of n elements (n < 0: any). */
static double *load(signs *s, const gm_tensors *from, const char *name,
                    long n) {
    const gm_tensor *t = gm_tensor_find(from, name);
    double *x;
    if (!t || (n >= 0 && count_of(t) != n)) return NULL;
    gm_elements(s->arena, t, &x);
    return x;
}

static double scalar(signs *s, const char *name, double other) {
    double *x = load(s, s->ours, name, 1);
    return x ? *x : other;
}

/* A number that our dump's metadata state, or theirs'. */
static double metadata(const signs *s, const char *key, double other) {
    const gm_json *v = gm_json_get(s->ours->metadata, key);
    if (!v) v = gm_json_get(s->theirs->metadata, key);
    return v && v->string ? strtod(v->string, NULL) : other;
}

/* The same as a count; 0 where none is stated or none that can be meant. */
static long count_in(const signs *s, const char *key) {
    double x = metadata(s, key, 0);
    return x >= 1 && x <= 1 << 20 ? (long)x : 0;
}

/* sum (y - guess)^2, where `centred` up to a constant in each row. */
static double distance(const signs *s, const double *guess) {
    double left = 0;
    for (long r = 0; r < s->rows; r++) {
        double mean = 0;
        const long at = r * s->columns;
        for (long c = 0; s->centred && c < s->columns; c++)
            mean += (s->y[at + c] - guess[at + c]) / (double)s->columns;
        for (long c = 0; c < s->columns; c++) {
            double d = s->y[at + c] - guess[at + c] - mean;
            left += d * d;
        }
    }
    return left;
}

/* Share of the departure that taking `guess` for ours leaves: 0 when it is
   theirs, 1 when it explains nothing. */
static double unexplained(const signs *s, const double *guess) {
    double left = distance(s, guess);
    return isfinite(left) && s->departure > 0 ? sqrt(left / s->departure) : 1;
}

/* Names the cause when s->guess is theirs, up to a hundredth. */
__attribute__((format(printf, 2, 3)))
static bool explains(signs *s, const char *format, ...) {
    char text[400];
    if (unexplained(s, s->guess) > 0.01) return false;
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    hint(s, "%s", text);
    return true;
}

/* The factor r with theirs = r ours in all elements that count, if any. */
static bool constant_factor(const signs *s, double *factor) {
    double xy = 0, xx = 0, left = 0;
    for (long i = 0; i < s->n; i++)
        xy += s->x[i] * s->y[i], xx += s->x[i] * s->x[i];
    if (!(xx > 0)) return false;
    *factor = xy / xx;
    for (long i = 0; i < s->n; i++) {
        double d = s->y[i] - *factor * s->x[i];
        left += d * d;
    }
    return isfinite(left) && sqrt(left / s->departure) < 0.01;
}

static bool close_to(double x, double y) {
    return fabs(x - y) <= 1e-3 * fabs(y);
}

/* Known factors, each with its cause; the rest is only stated. */
typedef struct { double factor; const char *cause; } known;

static bool factor_signs(signs *s, const known *list, int count) {
    double r;
    if (!constant_factor(s, &r)) return false;
    for (int i = 0; i < count; i++)
        if (close_to(r, list[i].factor)) {
            hint(s, "theirs = %.6g ours everywhere: %s", r, list[i].cause);
            return true;
        }
    if (close_to(r, -1))
        hint(s, "theirs = -ours: a sign");
    else
        hint(s, "theirs = %.6g ours everywhere: a missing or extra constant "
             "factor", r);
    return true;
}

/* ------------------------------------------------------------ general signs */

static bool nan_signs(signs *s) {
    long nan = 0;
    for (long i = 0; i < s->n; i++) nan += !isfinite(s->y[i]);
    if (nan == 0) return false;
    hint(s, "%ld elements of theirs are NaN or infinite: a softmax over "
         "nothing but masked positions, 0/0 in a group of equal weights, or "
         "ln 0 where p underflows", nan);
    return true;
}

static bool transposed(signs *s) {
    if (s->rows != s->columns || s->n < 4) return false;
    for (long i = 0; i < s->rows; i++)
        for (long j = 0; j < s->rows; j++)
            s->guess[i * s->rows + j] = s->x[j * s->rows + i];
    return explains(s, "theirs is the transpose of ours: weights and their "
                    "gradients are [out, in], y = x W^T");
}

/* Rows of theirs that stand elsewhere in ours. */
static bool permuted_rows(signs *s) {
    long moved = 0, lost = 0;
    if (s->rows < 2 || s->rows > 4096 || s->columns < 2) return false;
    for (long i = 0; i < s->rows; i++) {
        const double *y = s->y + i * s->columns;
        long found = -1;
        for (long k = 0; k < s->rows && found < 0; k++) {
            long j = (i + k) % s->rows;
            bool same = true;
            for (long c = 0; c < s->columns && same; c++)
                same = fabs(y[c] - s->x[j * s->columns + c]) <=
                       1e-5 * fabs(y[c]);
            if (same) found = j;
        }
        moved += found >= 0 && found != i;
        lost += found < 0;
    }
    if (!moved || lost) return false;
    hint(s, "theirs has our rows in another order (%ld moved): sequences or "
         "modules are ordered differently", moved);
    return true;
}

static void general_signs(signs *s) {
    if (!transposed(s) && !permuted_rows(s)) factor_signs(s, NULL, 0);
}

static void shape_signs(signs *s) {
    const gm_tensor *a = s->v->a, *b = s->v->b;
    if (a->rank == 2 && b->rank == 2 && a->shape[0] == b->shape[1] &&
        a->shape[1] == b->shape[0])
        hint(s, "the shapes are each other's transpose: weights are [out, in], "
             "hidden states [tokens, hidden size]");
    else if (count_of(a) == count_of(b))
        hint(s, "as many elements in another shape: sequences and positions "
             "are one dimension, batch T rows");
    else
        hint(s, "another model, batch, length, group size or list of bits");
}

/* ----------------------------------------------- hidden states, by position */

/* Largest error of the rows whose position in the sequence is t (-1: any),
   and of all others, relative to each row's norm. */
static void error_at(const signs *s, long T, long t, double *at,
                     double *others) {
    *at = *others = 0;
    for (long r = 0; r < s->rows; r++) {
        double e = 0, norm = 0;
        for (long c = 0; c < s->columns; c++) {
            double x = s->x[r * s->columns + c], d = s->y[r * s->columns + c] -
                       x;
            e += d * d, norm += x * x;
        }
        e = norm > 0 ? sqrt(e / norm) : e;
        double *place = r % T == t ? at : others;
        *place = fmax(*place, e);
    }
}

static long length_of(const signs *s) {
    const gm_tensor *t = gm_tensor_find(s->ours, "tokens");
    long T = t && t->rank == 2 ? (long)t->shape[1]
                               : count_in(s, "length");
    return T > 1 && s->rows % T == 0 ? T : 0;
}

/* Slope and correlation of ln(error of a row) against ln(mean square of the
   same row of the block's input): -1 and -1 when an epsilon is wrong. */
static double epsilon_slope(signs *s, const double *h, double *correlation) {
    double n = 0, sx = 0, sy = 0, xx = 0, xy = 0, yy = 0;
    for (long r = 0; r < s->rows; r++) {
        double e = 0, norm = 0, square = 0;
        for (long c = 0; c < s->columns; c++) {
            long i = r * s->columns + c;
            double d = s->y[i] - s->x[i];
            e += d * d, norm += s->x[i] * s->x[i], square += h[i] * h[i];
        }
        if (e == 0 || square == 0 || norm == 0) continue;
        double a = log(square), b = log(e / norm) / 2;
        n++, sx += a, sy += b, xx += a * a, xy += a * b, yy += b * b;
    }
    double vx = xx - sx * sx / n, vy = yy - sy * sy / n;
    double cov = xy - sx * sy / n;
    *correlation = vx > 0 && vy > 0 ? cov / sqrt(vx * vy) : 0;
    return vx > 0 ? cov / vx : 0;
}

/* Without the inside of the block: which positions depart says which part. */
static void position_signs(signs *s, long l) {
    double first, later, last, earlier, r;
    long T = length_of(s);
    char name[32];
    snprintf(name, sizeof name, "teacher.%ld", l - 1);
    double *h = load(s, s->ours, name, s->n);
    if (T) {
        error_at(s, T, 0, &first, &later);
        error_at(s, T, T - 1, &last, &earlier);
        if (first < 1e-3 * later) {
            hint(s, "the first position of every sequence agrees, later ones "
                 "do not: RoPE pairing (interleaved (2i, 2i+1) where the "
                 "checkpoint means half-split (i, i + head_dim/2)), its base, "
                 "or positions that do not start at 0");
            hint(s, "as that, but the angles are right: softmax temperature "
                 "of attention, 1/sqrt(head_dim) missing or doubled");
            return;
        }
        if (last < 1e-3 * earlier) {
            hint(s, "the last position of every sequence agrees, earlier ones "
                 "do not: no causal mask, tokens see later ones");
            return;
        }
    }
    const double eps = metadata(s, "norm_eps", 1e-5);
    error_at(s, s->rows + 1, -1, &earlier, &later);
    if (h && epsilon_slope(s, h, &r) < -0.5 && r < -0.8)
        hint(s, "errors fall with the size of a row (correlation %.2f): "
             "epsilon of RMSNorm, %g inside the root", r, eps);
    else if (later < 0.02)
        hint(s, "every position departs by little (at most %.1g of its row): "
             "epsilon of RMSNorm, %g inside the root, or less precision than "
             "float32 (TF32, BF16)", later, eps);
    double heads = metadata(s, "heads", 0), kv = metadata(s, "kv_heads", 0);
    if (heads > kv && kv > 0)
        hint(s, "the first position departs as well, where attention is just "
             "v of its key/value head: head repeat order in GQA, query head h "
             "reads h / %g (repeat), not h mod %g (tile)", heads / kv, kv);
    hint(s, "one of the weights: a transposed square one, gate and up "
         "swapped, an activation other than silu, RMSNorm's weight");
}

/* -------------------------------------------------- inside a block (detail) */

static double *detail(signs *s, const gm_tensors *from, long l,
                      const char *what, long n) {
    char name[64];
    snprintf(name, sizeof name, "detail.%ld.%s", l, what);
    return load(s, from, name, n);
}

/* norm1, norm2: with m = mean x^2, theirs / ours = sqrt((m + e) / (m + e'))
   in a row gives their epsilon e' = (m + e) (ours/theirs)^2 - m. */
static void norm_signs(signs *s, const double *h) {
    const double eps = metadata(s, "norm_eps", 1e-5);
    double least = HUGE_VAL, most = 0, r;
    for (long i = 0; h && i < s->rows; i++) {
        double xy = 0, yy = 0, m = 0;
        for (long c = 0; c < s->columns; c++) {
            long k = i * s->columns + c;
            xy += s->x[k] * s->y[k], yy += s->y[k] * s->y[k];
            m += h[k] * h[k] / (double)s->columns;
        }
        double ratio = yy > 0 ? xy / yy : 0, e = (m + eps) * ratio * ratio - m;
        if (m > 1e3 * eps && fabs(ratio - 1) < 1e-4) continue;  /* no signal */
        least = fmin(least, e), most = fmax(most, e);
    }
    if (most - least < 0.1 * fmax(fabs(most), eps))
        hint(s, "theirs is a norm with epsilon %.2g, expected %g (inside the "
             "root: 1/sqrt(mean x^2 + epsilon))", (least + most) / 2, eps);
    else if (constant_factor(s, &r))
        factor_signs(s, NULL, 0);
    else
        hint(s, "RMSNorm: x / sqrt(mean x^2 + epsilon) * weight; the mean is "
             "not taken off, the weight is not 1 + w");
}

/* Largest relative difference of the norms of pairs (or of whole heads) in
   each row: a rotation keeps them. */
static double pair_norms(const signs *s, long hd, bool whole) {
    double worst = 0, size = 0;
    for (long at = 0; at < s->n; at += hd) {
        double X = 0, Y = 0;
        for (long i = 0; i < hd / 2; i++) {
            const double *x = s->x + at + i, *y = s->y + at + i;
            double a = x[0] * x[0] + x[hd / 2] * x[hd / 2];
            double b = y[0] * y[0] + y[hd / 2] * y[hd / 2];
            X += a, Y += b;
            if (!whole) worst = fmax(worst, fabs(a - b)), size = fmax(size, a);
        }
        if (whole) worst = fmax(worst, fabs(X - Y)), size = fmax(size, X);
    }
    return size > 0 ? worst / size : 0;
}

/* q and k after rotation. */
static void rope_signs(signs *s) {
    long hd = count_in(s, "head_dim"), T = length_of(s);
    double first = 1, later = 0;
    if (T) error_at(s, T, 0, &first, &later);
    if (!T || first > 1e-3 * later || !hd || s->columns % hd) {
        hint(s, "the first position, where RoPE turns by 0, departs: "
             "projection, bias, or (Qwen3) the norm of q and k before RoPE");
        return;
    }
    if (pair_norms(s, hd, true) > 1e-3)
        hint(s, "the first position agrees and heads change their length: not "
             "a rotation; sine and cosine of different angles, or a factor");
    else if (pair_norms(s, hd, false) > 1e-3)
        hint(s, "RoPE pairing: heads keep their length but not the pairs (i, "
             "i + %ld): theirs turns other pairs, interleaved (2i, 2i+1)",
             hd / 2);
    else
        hint(s, "RoPE angles: pairs (i, i + %ld) keep their length, so the "
             "pairing is right: base (rope_theta), scaling, the sign of the "
             "sine, or positions", hd / 2);
}

/* At the first position attention gives v of the key/value head that is read:
   which one is it? */
static bool head_signs(signs *s, long l, long T) {
    long hd = count_in(s, "head_dim"), wrong = 0;
    long heads = count_in(s, "heads");
    long kv = count_in(s, "kv_heads");
    if (!T || heads * hd != s->columns || kv < 2 || heads < kv) return false;
    double *v = detail(s, s->ours, l, "v", s->rows * kv * hd);
    if (!v) return false;
    char seen[128] = "";
    for (long h = 0; h < heads; h++) {
        long read = -1;
        for (long k = 0; k < kv && read < 0; k++) {
            double e = 0, norm = 0;
            for (long i = 0; i < hd; i++) {
                double a = v[k * hd + i], d = s->y[h * hd + i] - a;
                e += d * d, norm += a * a;
            }
            if (e < 1e-6 * norm) read = k;
        }
        wrong += read >= 0 && read != h / (heads / kv);
        size_t n = strlen(seen);
        if (n < 100) snprintf(seen + n, sizeof seen - n, "%s%ld", h ? ", " : "",
                              read);
    }
    if (!wrong) return false;
    hint(s, "head repeat order in GQA: their query heads read key/value heads "
         "%s; expected h / %ld for head h, each key/value head repeated, not "
         "tiled", seen, heads / kv);
    return true;
}

static void attention_signs(signs *s, long l) {
    long T = length_of(s);
    double first = 1, later = 0, last = 1, earlier = 0;
    if (head_signs(s, l, T)) return;
    if (T) error_at(s, T, 0, &first, &later);
    if (T) error_at(s, T, T - 1, &last, &earlier);
    if (first < 1e-3 * later)
        hint(s, "the first position agrees: softmax temperature of attention, "
             "1/sqrt(head_dim) missing or doubled, or the mask");
    else if (last < 1e-3 * earlier)
        hint(s, "the last position agrees, earlier ones do not: no causal "
             "mask");
    else
        hint(s, "q, k and v agree, the first position of attention does not: "
             "heads are put together in another order");
}

static void detail_signs(signs *s, long l, const char *what) {
    char input[32];
    snprintf(input, sizeof input, "teacher.%ld", l);
    if (strcmp(what, "norm1") == 0) norm_signs(s, load(s, s->ours, input,
                                                       s->n));
    else if (strcmp(what, "norm2") == 0)
        norm_signs(s, detail(s, s->ours, l, "mid", s->n));
    else if (strcmp(what, "q") == 0 || strcmp(what, "k") == 0) rope_signs(s);
    else if (strcmp(what, "attention") == 0) attention_signs(s, l);
    else if (strcmp(what, "mid") == 0)
        hint(s, "attention agrees: o_proj (transposed?), its bias, or the "
             "residual: mid = h + o(attention)");
    else if (strcmp(what, "act") == 0)
        hint(s, "gate and up agree: act = silu(gate) up, silu(g) = g / (1 + "
             "exp(-g)); not gelu, not silu(up) gate");
    else
        hint(s, "its input agrees: the weight (transposed?), its bias, or gate "
             "and up swapped");
}

/* ------------------------------------ mistakes tried out on the original model

   Many mistakes of a block are our own block with other weights: interleaved
   RoPE pairs are half-split ones after the rows of q_proj and k_proj changed
   places, tiled heads are repeated ones after q's heads did, and so on.  The
   block is run on what both agree it sees. */

typedef struct {
    gm_config config;
    gm_block block;
    gm_acts acts;
    long l, T;
    const double *h;
    gm_real *in, *out, *keep;
} trial;

/* Row r of each head of q_proj or k_proj (and its bias and norm) comes from
   row from(r). */
static void permute_heads(trial *t, int j, long (*from)(long r, long hd)) {
    const long hd = t->config.head_dim, in = t->config.d;
    const long heads = j == GM_Q ? t->config.heads : t->config.kv_heads;
    gm_real *norm = j == GM_Q ? t->block.q_norm : t->block.k_norm;
    gm_real *array[3] = {t->block.w[j], t->block.bias[j], norm};
    const long width[3] = {in, 1, 1}, count[3] = {heads, heads, 1};
    for (int a = 0; a < 3; a++)
        for (long h = 0; array[a] && h < count[a]; h++) {
            size_t n = (size_t)(hd * width[a]);
            gm_real *head = array[a] + h * hd * width[a];
            memcpy(t->keep, head, n * sizeof *head);
            for (long r = 0; r < hd; r++)
                memcpy(head + r * width[a], t->keep + from(r, hd) * width[a],
                       (size_t)width[a] * sizeof *head);
        }
}

static long interleaved_row(long r, long hd) {
    return r < hd / 2 ? 2 * r : 2 * (r - hd / 2) + 1;
}

static long swapped_row(long r, long hd) { return (r + hd / 2) % hd; }

static void try_interleaved(trial *t) {
    permute_heads(t, GM_Q, interleaved_row);
    permute_heads(t, GM_K, interleaved_row);
}

/* Swapping the halves of a head turns the rotation round. */
static void try_other_sense(trial *t) {
    permute_heads(t, GM_Q, swapped_row);
    permute_heads(t, GM_K, swapped_row);
}

/* Query head h reads h mod kv: k and v heads cannot say that, so q's heads
   and o's columns change places: head i of ours becomes the one that reads
   what head i reads. */
static void try_tiled(trial *t) {
    const long hd = t->config.head_dim, d = t->config.d;
    const long H = t->config.heads, kv = t->config.kv_heads;
    gm_real *q = t->block.w[GM_Q], *o = t->block.w[GM_O];
    gm_real *bias = t->block.bias[GM_Q];
    const size_t row = sizeof *q;
    for (int pass = 0; pass < 3; pass++) {
        gm_real *w = pass == 0 ? q : pass == 1 ? bias : o;
        size_t n = (size_t)(H * hd * (pass == 1 ? 1 : d));
        if (!w) continue;
        memcpy(t->keep, w, n * row);
        for (long i = 0; i < H; i++) {
            long from = i % (H / kv) * kv + i / (H / kv);
            if (pass == 2)
                for (long r = 0; r < d; r++)
                    memcpy(w + (r * H + i) * hd, t->keep + (r * H + from) * hd,
                           (size_t)hd * row);
            else
                memcpy(w + i * hd * (pass ? 1 : d),
                       t->keep + from * hd * (pass ? 1 : d),
                       (size_t)(hd * (pass ? 1 : d)) * row);
        }
    }
}

static void scale_queries(trial *t, double factor) {
    const long n = t->config.heads * t->config.head_dim;
    gm_real f = (gm_real)factor;
    if (t->block.q_norm)
        for (long i = 0; i < t->config.head_dim; i++) t->block.q_norm[i] *= f;
    else
        for (long i = 0; i < n * t->config.d; i++) t->block.w[GM_Q][i] *= f;
    for (long i = 0; t->block.bias[GM_Q] && !t->block.q_norm && i < n; i++)
        t->block.bias[GM_Q][i] *= f;
}

static void try_no_scale(trial *t) {
    scale_queries(t, sqrt((double)t->config.head_dim));
}
static void try_twice_scale(trial *t) {
    scale_queries(t, 1 / sqrt((double)t->config.head_dim));
}

static void try_gate_up(trial *t) {
    gm_real *gate = t->block.w[GM_GATE];
    t->block.w[GM_GATE] = t->block.w[GM_UP];
    t->block.w[GM_UP] = gate;
}

static void transpose_weight(trial *t, int j) {
    long out, in;
    gm_linear_shape(&t->config, j, &out, &in);
    gm_real *w = t->block.w[j];
    for (long i = 0; i < out && out == in; i++)
        for (long k = 0; k < i; k++) {
            gm_real x = w[i * in + k];
            w[i * in + k] = w[k * in + i];
            w[k * in + i] = x;
        }
}
static void try_q_transposed(trial *t) { transpose_weight(t, GM_Q); }
static void try_o_transposed(trial *t) { transpose_weight(t, GM_O); }
static void try_both_transposed(trial *t) {
    transpose_weight(t, GM_Q);
    transpose_weight(t, GM_O);
}

static void try_unit_norms(trial *t) {
    for (long i = 0; i < t->config.d; i++)
        t->block.norm1[i] += 1, t->block.norm2[i] += 1;
}
static void try_eps_0(trial *t) { t->config.norm_eps = 0; }
static void try_eps_8(trial *t) { t->config.norm_eps = 1e-8; }
static void try_eps_6(trial *t) { t->config.norm_eps = 1e-6; }
static void try_eps_5(trial *t) { t->config.norm_eps = 1e-5; }
static void try_eps_4(trial *t) { t->config.norm_eps = 1e-4; }
static void try_eps_3(trial *t) { t->config.norm_eps = 1e-3; }
static void try_base(trial *t) { t->config.rope.theta = 10000; }
static void try_no_rope_scaling(trial *t) {
    t->config.rope.kind = GM_ROPE_DEFAULT;
}

static const struct {
    void (*change)(trial *t);
    const char *cause;
} trials[] = {
    {try_interleaved, "RoPE pairing: interleaved pairs (2i, 2i+1) instead of "
                      "half-split (i, i + head_dim/2)"},
    {try_other_sense, "RoPE: the sign of the sine"},
    {try_tiled, "head repeat order in GQA: query head h reads key/value head h "
                "mod kv_heads (tile), expected h / (heads/kv_heads) (repeat)"},
    {try_no_scale, "softmax temperature of attention: 1/sqrt(head_dim) is "
                   "missing"},
    {try_twice_scale, "softmax temperature of attention: 1/sqrt(head_dim) is "
                      "applied twice"},
    {try_gate_up, "gate and up are swapped: act = silu(gate) up"},
    {try_q_transposed, "q_proj is transposed"},
    {try_o_transposed, "o_proj is transposed"},
    {try_both_transposed, "square weights (q_proj, o_proj) are transposed"},
    {try_unit_norms, "RMSNorm multiplies by 1 + weight"},
    {try_eps_0, "epsilon of RMSNorm is 0"},
    {try_eps_8, "epsilon of RMSNorm is 1e-8"},
    {try_eps_6, "epsilon of RMSNorm is 1e-6"},
    {try_eps_5, "epsilon of RMSNorm is 1e-5"},
    {try_eps_4, "epsilon of RMSNorm is 1e-4"},
    {try_eps_3, "epsilon of RMSNorm is 1e-3"},
    {try_base, "RoPE's base is 10000"},
    {try_no_rope_scaling, "RoPE's scaling (rope_scaling) is left out"}};

static void trial_begin(signs *s, const gm_model *model, trial *t) {
    const gm_config *c = &model->config;
    size_t n = (size_t)s->n, widest = (size_t)(c->heads * c->head_dim * c->d);
    t->in = gm_alloc(s->arena, n, sizeof *t->in);
    t->out = gm_alloc(s->arena, n, sizeof *t->out);
    t->keep = gm_alloc(s->arena, widest, sizeof *t->keep);
    gm_block_alloc(s->arena, c, &t->block);
    gm_acts_alloc(s->arena, c, s->rows / t->T, t->T,
                                           false, &t->acts);
}

/* Mistake i (-1: none) into s->guess. */
static void trial_run(signs *s, const gm_model *model, trial *t, int i) {
    gm_mark mark = gm_arena_mark(s->arena);
    gm_rope_table rope;
    t->config = model->config;
    gm_block block = t->block;
    gm_block_load(model, t->l, &t->block);
    if (i >= 0) trials[i].change(t);
    gm_rope_build(s->arena, &t->config, t->T, NULL,
                                        &rope);
    for (long k = 0; k < s->n; k++) t->in[k] = (gm_real)t->h[k];
    gm_block_forward(&t->config, &t->block, &rope, t->in, &t->acts, t->out);
    for (long k = 0; k < s->n; k++) s->guess[k] = (double)t->out[k];
    t->block = block;
    gm_arena_rewind(s->arena, mark);
}

/* Names the mistake that gives theirs best, if it leaves a twentieth. */
static void model_signs(signs *s, const gm_model *model, long l,
                             bool *found) {
    char name[32];
    snprintf(name, sizeof name, "teacher.%ld", l - 1);
    trial t = {.l = l - 1, .T = length_of(s)};
    t.h = load(s, s->ours, name, s->n);
    if (!t.h || !t.T || l > model->config.layers ||
        s->columns != model->config.d)
        return;
    trial_begin(s, model, &t);
    double least = 1;
    int best = -1;
    for (int i = 0; i < (int)(sizeof trials / sizeof *trials); i++) {
        trial_run(s, model, &t, i);
        double left = unexplained(s, s->guess);
        if (left < least) least = left, best = i;
    }
    if (least > 0.05) return;
    *found = true;
    hint(s, "%s: with that our own block gives theirs but for %.2g of the "
         "departure", trials[best].cause, least);
}

/* ------------------------------------------------------------ GPTQ's inputs */

static void hessian_signs(signs *s) {
    static const known factors[] = {
        {0.5, "H = (2/tokens) X^T X, the 2 is missing"},
        {2, "a factor 2 too many"}};
    double r;
    if (constant_factor(s, &r)) {
        factor_signs(s, factors, 2);
        return;
    }
    double lower = 0;
    for (long i = 0; i < s->rows; i++)
        for (long j = i + 1; j < s->columns; j++)
            lower += fabs(s->y[i * s->columns + j]);
    if (lower == 0)
        hint(s, "theirs has only the lower triangle; expected the full matrix");
    else
        hint(s, "no constant factor: token weights (w_t = 1/||x_t||, times 4 "
             "at the first token; --hessian plain: none), or other "
             "calibration sequences");
}

/* A = H + damping = M M^T with M = U^-1 upper triangular: the last diagonal
   element of A is 1/U_nn^2, so each side's damping can be read off. */
static void factor_signs_of(signs *s) {
    char name[64];
    if (transposed(s)) {
        hint(s, "that is, lower triangular; expected upper, U^T U = "
             "(H + damping)^-1");
        return;
    }
    snprintf(name, sizeof name, "hessian%s", s->name + strlen("factor"));
    long n = s->rows, last = s->n - 1;
    double *H = n == s->columns ? load(s, s->ours, name, s->n) : NULL, mean = 0;
    for (long i = 0; H && i < n; i++) mean += H[i * n + i] / (double)n;
    if (!H || !(mean > 0)) {
        hint(s, "H agrees or is not there: damping (1 %% of its mean "
             "diagonal), the order of columns, U^T U = H^-1 against U U^T");
        return;
    }
    double ours = (1 / (s->x[last] * s->x[last]) - H[last]) / mean;
    double theirs = (1 / (s->y[last] * s->y[last]) - H[last]) / mean;
    if (ours > 0 && fabs(theirs) < 0.02 * ours)
        hint(s, "missing damping: H agrees, and 1/U_nn^2 - H_nn says that "
             "theirs adds %.1g of the mean diagonal, ours %.4g", theirs, ours);
    else if (ours > 0 && fabs(theirs / ours - 1) > 0.01)
        hint(s, "other damping: 1/U_nn^2 - H_nn says that theirs adds %.4g of "
             "the mean diagonal, ours %.4g", theirs, ours);
    else
        hint(s, "H and its damping agree: the factor is of H instead of its "
             "inverse, or U U^T = H^-1 instead of U^T U");
}

/* --------------------------------------------------------------- candidates */

/* First column that departs in any row; departing columns from there on. */
static long first_column(const signs *s, long *after) {
    long first = s->columns;
    *after = 0;
    for (long j = 0; j < s->columns; j++) {
        bool same = true;
        for (long i = 0; i < s->rows && same; i++)
            same = s->x[i * s->columns + j] == s->y[i * s->columns + j];
        if (same) continue;
        if (j < first) first = j;
        ++*after;
    }
    return first;
}

static bool of_gptq(const signs *s) {
    const gm_json *v = gm_json_get(s->ours->metadata, "candidates");
    if (!v) v = gm_json_get(s->theirs->metadata, "candidates");
    return v && v->string && starts(v->string, "gptq");
}

static void scales_signs(signs *s) {
    long after, first = first_column(s, &after);
    double most = 0, r;
    const char *b = strstr(s->name, "_proj.b");
    double bits = b ? strtod(b + 7, NULL) : 0, levels = pow(2, bits);
    for (long i = 0; i < s->n; i++)
        most = fmax(most, fabs(s->y[i] / s->x[i] - 1));
    const known factors[] = {
        {(levels - 1) / levels, "divided by 2^b, expected 2^b - 1"},
        {2 * (levels - 1) / (levels - 2 + (bits < 2)), "symmetric: divided by "
         "2^(b-1) - 1"}};
    if (most < 0x1p-10)
        hint(s, "differences below one unit of fp16: scales are rounded to "
             "fp16 before codes are computed");
    else if (first > 0 && of_gptq(s))
        hint(s, "stale group scales: groups before %ld agree, later ones do "
             "not: a group's scale comes from the weights as corrected when "
             "its first column is reached, not from the original ones or a "
             "copy as old as the column block", first);
    else if (constant_factor(s, &r))
        factor_signs(s, factors, 2);
    else
        hint(s, "lo = min(0, min w), hi = max(0, max w) of each group of "
             "consecutive input columns; the last group may be smaller%s",
             of_gptq(s) && first == 0 ? "; with act-order, groups keep the "
             "original columns and weights" : "");
}

static void codes_signs(signs *s) {
    double least = HUGE_VAL, most = -HUGE_VAL, other = 0;
    long after, first = first_column(s, &after);
    for (long i = 0; i < s->n; i++) {
        double d = s->y[i] - s->x[i];
        least = fmin(least, d), most = fmax(most, d), other += d != 0;
    }
    double share = other / (double)s->n;
    if (least == most)
        hint(s, "theirs = ours %+g everywhere: unsigned codes 0 .. 2^b - 1 are "
             "expected, or zeros stored as zero - 1", least);
    else if (share < 1e-3 && least >= -1 && most <= 1)
        hint(s, "%g of %ld differ, by one: ties and rounding of w/scale; if "
             "that is all, --tolerance %s=%g", other, s->n,
             strrchr(s->name, '.') + 1, other);
    else if (least == -1 && most == 0)
        hint(s, "theirs is one less in %.0f %% and never more: cut off (floor) "
             "instead of rounded to nearest, ties to even", 100 * share);
    else if (first > 0 && of_gptq(s))
        hint(s, "columns before %ld agree, %ld later ones do not: what "
             "rounding column j lost is moved onto the later columns, w_t -= "
             "(w_j - q_j) U_jt / U_jj%s", first, after,
             first % 32 == 0 ? "; here at a column block's end: the trailing "
             "update" : "");
    else
        hint(s, "code = clamp(round(w/scale) + zero, 0, 2^b - 1), one per "
             "element, unpacked");
}

/* Columns of a group: what our metadata say, else an even share. */
static long group_of(const signs *s, long groups) {
    const gm_json *v = gm_json_get(s->ours->metadata, "candidates");
    const char *at = v && v->string ? strstr(v->string, "group=") : NULL;
    long group = at ? strtol(at + 6, NULL, 10) : 0;
    return group > 0 || groups < 1 ? group
                                   : (s->columns + groups - 1) / groups;
}

/* Our codes, and scales and zeros spread over them; false: not all there, or
   not of one weight. */
static bool dequantized_parts(signs *s, double *x[3]) {
    static const char *const part[] = {"codes", "scales", "zeros"};
    const int n = (int)strlen(s->name) - (int)strlen("dequantized");
    for (int i = 0; i < 3; i++) {
        char name[512];
        snprintf(name, sizeof name, "%.*s%s", n, s->name, part[i]);
        const gm_tensor *t = gm_tensor_find(s->ours, name);
        x[i] = load(s, s->ours, name, i ? -1 : s->n);
        if (!x[i] || t->rank != 2) return false;
        if (i == 0) continue;
        const long groups = (long)t->shape[1], group = group_of(s, groups);
        if (group < 1 || groups != (s->columns + group - 1) / group ||
            t->shape[0] != s->rows)
            return false;
        double *spread = gm_alloc(s->arena, (size_t)s->n, sizeof *spread);
        for (long k = 0; spread && k < s->n; k++)
            spread[k] = x[i][k / s->columns * groups + k % s->columns / group];
        if (!(x[i] = spread)) return false;
    }
    return true;
}

/* scale code, scale code - zero. */
static void dequantized_signs(signs *s) {
    double *x[3];
    bool all = dequantized_parts(s, x);
    for (long k = 0; all && k < s->n; k++) s->guess[k] = x[0][k] * x[1][k];
    if (all && explains(s, "theirs is scale code: the zero is not subtracted"))
        return;
    for (long k = 0; all && k < s->n; k++) s->guess[k] -= x[2][k];
    if (all && explains(s, "theirs is scale code - zero, expected scale (code "
                        "- zero)"))
        return;
    hint(s, "Q = scale (code - zero) in float32, scale and zero of the row's "
         "group floor(column / group)");
}

/* ----------------------------------------------------------- the relaxation */

/* ln(p_mj / p_mk) = (theta_mj - theta_mk) / tau gives their tau. */
static void p_signs(signs *s) {
    double *theta = load(s, s->ours, "theta_before", s->n);
    const double tau = scalar(s, "tau", 1);
    double xy = 0, yy = 0, sums = 0;
    for (long m = 0; m < s->rows; m++) {
        double sum = 0;
        for (long k = 0; k < s->columns; k++) sum += s->y[m * s->columns + k];
        sums = fmax(sums, fabs(sum - 1));
        for (long k = 1; theta && k < s->columns; k++) {
            long i = m * s->columns;
            double t = theta[i + k] - theta[i], ratio = s->y[i + k] / s->y[i];
            if (!(ratio > 0)) continue;
            xy += t * log(ratio), yy += log(ratio) * log(ratio);
        }
    }
    double theirs = yy > 0 ? xy / yy : 0;
    if (sums > 1e-4)
        hint(s, "sum_k p_mk is not 1 (off by up to %.2g): the softmax is over "
             "the K candidates of a module", sums);
    else if (theirs != 0 && fabs(theirs / tau - 1) > 1e-3)
        hint(s, "softmax temperature: theirs is softmax(theta / %.4g), "
             "expected theta / tau with tau = %g", theirs, tau);
    else
        hint(s, "p = softmax(theta_before / tau), without noise");
}

/* n_m / N of module m: equal blocks, seven shapes from the metadata. */
static double share(const signs *s, long m, long M) {
    const gm_json *v = gm_json_get(s->ours->metadata, "weights");
    if (!v) v = gm_json_get(s->theirs->metadata, "weights");
    double n[GM_LINEARS], sum = 0;
    const char *at = v && v->string ? v->string : "";
    for (int j = 0; j < GM_LINEARS; j++) {
        char *end;
        n[j] = strtod(at, &end);
        at = *end == ',' ? end + 1 : end;
        sum += n[j];
    }
    return sum > 0 ? n[m % GM_LINEARS] / (sum * (double)M / GM_LINEARS)
                   : 1 / (double)M;
}

/* b_k, from the metadata's "bits=2,3,4". */
static bool bits_of(const signs *s, long K, double *bits) {
    const gm_json *v = gm_json_get(s->ours->metadata, "candidates");
    if (!v) v = gm_json_get(s->theirs->metadata, "candidates");
    const char *at = v && v->string ? strstr(v->string, "bits=") : NULL;
    if (!at) return false;
    at += 5;
    for (long k = 0; k < K; k++) {
        char *end;
        bits[k] = strtod(at, &end);
        if (end == at) return false;
        at = *end == ',' ? end + 1 : end;
    }
    return true;
}

static void c_signs(signs *s) {
    const gm_tensor *t = gm_tensor_find(s->ours, "p");
    double *p = load(s, s->ours, "p", -1), B = scalar(s, "train_bits", 0);
    double bits[64], soft = 0, hard = 0, even = 0, y = s->y[0];
    const long M = t && t->rank == 2 ? (long)t->shape[0] : 0;
    const long K = M ? (long)t->shape[1] : 0;
    const bool told = p && K >= 1 && K <= 64 && bits_of(s, K, bits);
    for (long m = 0; told && m < M; m++) {
        long best = 0;
        double mean = 0;
        for (long k = 0; k < K; k++) {
            mean += p[m * K + k] * bits[k];
            if (p[m * K + k] > p[m * K + best]) best = k;
        }
        soft += share(s, m, M) * mean, even += mean / (double)M;
        hard += share(s, m, M) * bits[best];
    }
    const struct { double c; const char *cause; } usual[] = {
        {hard - B, "soft against hard budget: theirs counts the bits of the "
                   "most likely candidate; expected the mean under p"},
        {fmax(soft - B, 0), "theirs is max(c, 0); c keeps its sign"},
        {even - B, "modules weigh alike; expected n_m / N"},
        {soft, "the target B is not taken off"},
        {B - soft, "the sign: c = average bits - B"},
        {(soft - B) / B, "relative to B; expected in bits"},
        {(soft - B) * 1e0 / 8, "in bytes; expected in bits"}};
    for (size_t i = 0; told && i < sizeof usual / sizeof *usual; i++)
        if (fabs(y - usual[i].c) < 1e-6 * (1 + fabs(y))) {
            hint(s, "%s", usual[i].cause);
            return;
        }
    hint(s, "c = (1/N) sum_m n_m sum_k b_k p_mk - B");
}

static void entropy_signs(signs *s) {
    const gm_tensor *p = gm_tensor_find(s->ours, "p");
    const known factors[] = {
        {p ? (double)p->shape[0] : 1, "the sum over modules; expected the "
         "mean"}, {-1, "the sign: H(p) = - sum_k p_k ln p_k >= 0"},
        {1.4426950408889634, "log to base 2; expected natural"}};
    if (!factor_signs(s, factors, 3)) hint(s, "mean over modules of - sum_k "
                                           "p_mk ln p_mk");
}

/* One of the candidates, or the most likely one, instead of the mixture. */
static void mixed_signs(signs *s) {
    const char *module = s->name + strlen("mixed.");
    for (int b = 1; b <= 32; b++) {
        char name[512];
        snprintf(name, sizeof name, "candidates.%s.b%d.dequantized", module, b);
        double *q = load(s, s->ours, name, s->n);
        if (!q) continue;
        memcpy(s->guess, q, (size_t)s->n * sizeof *q);
        if (explains(s, "theirs is the %d-bit candidate itself, not the "
                     "mixture sum_k p_mk Q_mk", b)) return;
    }
    if (!transposed(s))
        hint(s, "p and candidates agree where compared: W~ = sum_k p_mk Q_mk, "
             "modules in the order q, k, v, o, gate, up, down of each block");
}

static void student_signs(signs *s, long l) {
    char name[64];
    snprintf(name, sizeof name, "teacher.%ld", l);
    double *teacher = load(s, s->ours, name, s->n);
    if (teacher) {
        memcpy(s->guess, teacher, (size_t)s->n * sizeof *teacher);
        if (explains(s, "theirs is the original's hidden state: the block ran "
                     "with its own weights, not the mixed ones")) return;
    }
    if (l > 1) hint(s, "earlier blocks agree: every block sees the original's "
                    "hidden states, teacher.%ld (teacher forcing), not the "
                    "student's before it", l - 1);
    else hint(s, "the original's block agrees: the mixed weights, or the "
              "order of its modules");
}

/* --------------------------------------------------------------- the losses */

/* Row t of ||e||^2 and ||y||^2, e = y~ - y. */
static bool loss_terms(signs *s, long l, double **e, double **y, double **z) {
    char name[32];
    snprintf(name, sizeof name, "teacher.%ld", l);
    const gm_tensor *t = gm_tensor_find(s->ours, name);
    double *teacher = load(s, s->ours, name, -1), *student;
    snprintf(name, sizeof name, "student.%ld", l);
    student = load(s, s->ours, name, t ? count_of(t) : 0);
    *e = gm_alloc(s->arena, (size_t)s->n, 8);
    *y = gm_alloc(s->arena, (size_t)s->n, 8);
    *z = gm_alloc(s->arena, (size_t)s->n, 8);
    if (!t || !teacher || !student || t->shape[0] != s->n || !*e || !*y || !*z)
        return false;
    const long d = (long)t->shape[1];
    for (long r = 0; r < s->n; r++)
        for (long i = 0; i < d; i++) {
            double a = teacher[r * d + i], b = student[r * d + i];
            (*e)[r] += (b - a) * (b - a), (*y)[r] += a * a, (*z)[r] += b * b;
        }
    return true;
}

enum { PLAIN, HALF, SQUARED, ENERGY, ROOT, OWN };
static const char *const loss_cause[] = {
    "plain squared error ||e||^2", "half the relative error",
    "mean squared error ||e||^2 / d",
    "relative to the mean energy of all tokens, ||e||^2 / mean_t ||y_t||^2",
    "||e|| / ||y||, not squared", "relative to the student's norm"};

static void loss_signs(signs *s, long l) {
    double *e, *y, *z, mean = 0;
    char name[32];
    snprintf(name, sizeof name, "teacher.%ld", l);
    const gm_tensor *t = gm_tensor_find(s->ours, name);
    if (!loss_terms(s, l, &e, &y, &z)) {
        if (!factor_signs(s, NULL, 0))
            hint(s, "loss norm: the ratio to ours changes from token to token: "
                 "each token's ||e||^2 is relative to its own ||y||^2");
        return;
    }
    for (long r = 0; r < s->n; r++) mean += y[r] / (double)s->n;
    for (int way = PLAIN; way <= OWN; way++) {
        for (long r = 0; r < s->n; r++)
            s->guess[r] = way == PLAIN ? e[r] : way == HALF ? e[r] / y[r] / 2
                : way == SQUARED ? e[r] / (double)t->shape[1]
                : way == ENERGY ? e[r] / mean
                : way == ROOT ? sqrt(e[r] / y[r]) : e[r] / z[r];
        if (explains(s, "loss norm: theirs is %s; expected ||e_t||^2 / "
                     "||y_t||^2 per token, e = y~ - y", loss_cause[way]))
            return;
    }
    if (!factor_signs(s, NULL, 0))
        hint(s, "student and teacher agree: ||y~_t - y_t||^2 / ||y_t||^2 per "
             "token, y of the original");
}

static void mean_loss_signs(signs *s, long l) {
    char name[32];
    snprintf(name, sizeof name, "loss.%ld", l);
    const gm_tensor *t = gm_tensor_find(s->ours, name);
    const double R = t ? (double)count_of(t) : 1;
    const known factors[] = {
        {R, "the sum over tokens; expected the mean"},
        {R / (R - 1), "divided by R - 1; expected the mean over R tokens"}};
    if (t) {
        factor_signs(s, factors, 2);
        return;
    }
    factor_signs(s, NULL, 0);
    hint(s, "loss.%ld is not in both; loss norm: mean over tokens of ||e_t||^2 "
         "/ ||y_t||^2, each token relative to its own norm", l);
}

static void sum_signs(signs *s, bool first) {
    double E0 = scalar(s, "E0", 1), L = 1;
    char name[32];
    while (snprintf(name, sizeof name, "E.%g", L + 1),
           gm_tensor_find(s->ours, name))
        L++;
    const known factors[] = {
        {E0, "missing 1/E_0: E is in units of the first step's"},
        {1 / L, "mean over blocks; expected the sum"},
        {E0 / L, "mean over blocks, and missing 1/E_0"}};
    factor_signs(s, first ? factors + 1 : factors, first ? 1 : 3);
}

/* ---------------------------------------------------- gradients, the update */

static void begin(signs *s, const gm_verdict *v);
static void loss_signs(signs *s, long l);
static long number_in(const char *name);

/* S is the same loss: when a token's loss departs as well, that says why. */
static bool loss_departs(signs *s) {
    for (long i = 0; i < s->out->count; i++) {
        const gm_verdict *v = s->out->verdict + i;
        if (v->outcome != GM_DEPARTS || v->problem || strcmp(v->family, "loss"))
            continue;
        signs loss = *s;
        begin(&loss, v);
        loss_signs(&loss, number_in(v->name));
        hint(s, "(seen in %s; S is the same loss)", v->name);
        return true;
    }
    return false;
}

static void separable_signs(signs *s) {
    const known factors[] = {
        {scalar(s, "E0", 1), "missing 1/E_0: S_mk is in units of E_0"}};
    if (!factor_signs(s, factors, 1) && !loss_departs(s))
        hint(s, "module m alone at candidate k, everything else original, on "
             "the first step's sequences; the same loss norm");
}

static void grad_signs(signs *s) {
    const double E0 = scalar(s, "E0", 1);
    const gm_tensor *t = gm_tensor_find(s->ours, "tokens");
    const known factors[] = {
        {1 / E0, "divided by E_0 already; grad.NAME is dE_l/dW~"},
        {0.5, "the 2 of d||e||^2 is missing"},
        {t ? (double)count_of(t) : 1, "the sum over tokens; E_l is a mean"}};
    if (!transposed(s) && !factor_signs(s, factors, 3))
        hint(s, "losses agree: backward of the block; ||y||^2 is a constant "
             "(no gradient through the teacher); in GQA k and v add up over "
             "the query heads that share them");
}

static void g_signs(signs *s) {
    const double E0 = scalar(s, "E0", 1);
    double *p = load(s, s->ours, "p", s->n);
    const known factors[] = {{E0, "missing 1/E_0: g = <dE/dW~, Q> / E_0"},
                             {1 / E0, "divided by E_0 twice"}};
    if (factor_signs(s, factors, 2)) return;
    for (long i = 0; p && i < s->n; i++) s->guess[i] = p[i] * s->x[i];
    if (p && explains(s, "theirs is p_mk g_mk: dE/dp_mk = <dE/dW~_m, Q_mk>, "
                      "without p")) return;
    hint(s, "g_mk = <dE/dW~_m, Q_mk> / E_0, Q dequantized, summed over all of "
         "the weight");
}

/* What v_mk is made of. */
typedef struct {
    double *g, *S, *p, *base;   /* base: ours without the budget term */
    double *budget;             /* n_m b_k / N */
    double *entropy;            /* (alpha/M) ln p */
    double lambda, rho, c, E0, M;
} terms;

static bool v_terms(signs *s, terms *t) {
    const size_t n = (size_t)s->n;
    double bits[64];
    *t = (terms){load(s, s->ours, "g", s->n), load(s, s->ours, "separable",
                 s->n), load(s, s->ours, "p", s->n),
                 gm_alloc(s->arena, n, 8), gm_alloc(s->arena, n, 8),
                 gm_alloc(s->arena, n, 8), scalar(s, "lambda_before", 0),
                 scalar(s, "rho", 0), scalar(s, "c", 0), scalar(s, "E0", 1),
                 (double)s->rows};
    if (!t->g || !t->p || !t->base || !t->budget || !t->entropy ||
        s->columns > 64 || !bits_of(s, s->columns, bits))
        return false;
    const double alpha = scalar(s, "alpha", 0);
    for (long i = 0; i < s->n; i++) {
        t->budget[i] = share(s, i / s->columns, s->rows) * bits[i % s->columns];
        t->entropy[i] = t->p[i] > 0 ? alpha / t->M * log(t->p[i]) : 0;
        t->base[i] = s->x[i] - (t->lambda + t->rho * t->c) * t->budget[i];
    }
    return true;
}

/* theirs = base + mu budget + w entropy: the usual mu and w. */
static bool multiplier_signs(signs *s, const terms *t) {
    const double mu = t->lambda + t->rho * t->c;
    const struct { double mu, w; const char *cause; } usual[] = {
        {-mu, 0, "lambda sign: the budget term enters as -(lambda + rho c) "
                 "n_m b_k / N"},
        {t->lambda, 0, "soft against hard budget: lambda alone, the penalty's "
                       "rho c is missing"},
        {t->rho * t->c, 0, "the multiplier lambda is missing, only rho c"},
        {t->rho * t->c - t->lambda, 0, "lambda sign: rho c - lambda, expected "
                                       "rho c + lambda"},
        {t->lambda - t->rho * t->c, 0, "the sign of rho c: lambda - rho c"},
        {t->lambda + t->rho * t->c / 2, 0, "rho c / 2: the derivative of rho/2 "
                                           "c^2 is rho c"},
        {t->lambda + 2 * t->rho * t->c, 0, "2 rho c: the derivative of rho/2 "
                                           "c^2 is rho c"},
        {fmax(mu, 0), 0, "max(0, lambda + rho c): the multiplier keeps its "
                         "sign while c is two-sided"},
        {0, 0, "the budget term is missing"},
        {mu, -2, "entropy sign: v has + (alpha/M) ln p for J's - (alpha/M) "
                 "sum H(p)"},
        {mu, -1, "the entropy term is missing"},
        {mu, t->M - 1, "alpha ln p: alpha is divided by the number of "
                       "modules M"}};
    for (size_t k = 0; k < sizeof usual / sizeof *usual; k++) {
        for (long i = 0; i < s->n; i++)
            s->guess[i] = t->base[i] + usual[k].mu * t->budget[i] +
                          usual[k].w * t->entropy[i];
        if (explains(s, "%s", usual[k].cause)) return true;
    }
    return false;
}

/* v = loss + budget and entropy terms: the usual other losses. */
static bool correction_signs(signs *s, const terms *t) {
    static const char *const cause[] = {
        "soft instead of soft-corrected: g alone, S_mk (1 - 2 p_mk) is "
        "missing", "the correction has S_mk - p_mk S_mk; the derivative of "
        "(p - p^2) S is S - 2 p S", "S_mk alone, the interaction g - 2 p S is "
        "missing", "S_mk + g_mk without - 2 p_mk S_mk",
        "the correction is in units of E, not of E_0"};
    for (int k = 0; t->S && k < 5; k++) {
        for (long i = 0; i < s->n; i++) {
            double S = t->S[i], full = S - 2 * t->p[i] * S;
            double other = k == 0 ? 0 : k == 1 ? S - t->p[i] * S
                : k == 2 ? S - t->g[i] : k == 3 ? S : full * t->E0;
            s->guess[i] = s->x[i] - full + other;
        }
        if (explains(s, "%s", cause[k])) return true;
    }
    for (long i = 0; i < s->n; i++)
        s->guess[i] = s->x[i] + (t->E0 - 1) * t->g[i];
    if (explains(s, "missing 1/E_0: g enters as dE, not dE / E_0")) return true;
    return false;
}

/* A constant per module, when p is uniform: the entropy term is one too. */
static bool uniform_signs(signs *s) {
    static const char *const cause[] = {
        "entropy sign: v has + (alpha/M) ln p for J's - (alpha/M) sum H(p) (p "
        "is uniform: dumps of --step 2 show more)",
        "the entropy term is missing (p is uniform: dumps of --step 2 show "
        "more)"};
    terms t;
    bool found = false;
    s->centred = false;
    s->departure = distance(s, s->x);
    for (int k = 0; k < 4 && !found && v_terms(s, &t); k++) {
        const double w = k % 2 ? -1 : -2, one = k < 2 ? 0 : 1;
        const double alpha = scalar(s, "alpha", 0) / t.M;
        for (long i = 0; i < s->n; i++)
            s->guess[i] = s->x[i] + w * (t.entropy[i] + one * alpha);
        found = explains(s, "%s", cause[k % 2]);
    }
    return found;
}

static void v_signs(signs *s) {
    terms t;
    const double all = s->departure;
    s->centred = true;          /* theta does not see a constant */
    s->departure = distance(s, s->x);
    if (s->departure < 1e-6 * all) {
        if (uniform_signs(s)) return;
        hint(s, "a constant per module (ln p + 1 where ln p is expected?): the "
             "softmax's gradient takes it out, theta does not see it");
        return;
    }
    if (v_terms(s, &t) && (multiplier_signs(s, &t) || correction_signs(s, &t)))
        return;
    if (!factor_signs(s, NULL, 0))
        hint(s, "g agrees: v = loss + (lambda + rho c) n_m b_k / N + (alpha/M) "
             "ln p, loss = g (soft) or S + g - 2 p S (soft-corrected)");
}

/* d_mk = p_mk (v_mk - sum_j p_mj v_mj) / tau, and what is often taken for it.
   way 0 is right. */
enum { RIGHT, NO_MEAN, NO_P, NO_TAU, ASCENT, WAYS };
static const char *const gradient_cause[WAYS] = {
    "", "p v / tau: the softmax's gradient takes off the mean, p (v - sum_j "
    "p_j v_j) / tau", "v - mean v: the softmax's gradient has p, p (v - sum_j "
    "p_j v_j) / tau", "the 1/tau of the softmax's gradient is missing",
    "the sign: Adam descends along +dJ/dtheta"};

static void theta_gradient(signs *s, const double *p, const double *v, int way,
                           double *d) {
    const double tau = scalar(s, "tau", 1);
    for (long m = 0; m < s->rows; m++) {
        double mean = 0;
        const long i = m * s->columns;
        for (long k = 0; k < s->columns; k++) mean += p[i + k] * v[i + k];
        for (long k = 0; k < s->columns; k++)
            d[i + k] = (way == NO_P ? 1 : p[i + k]) *
                       (v[i + k] - (way == NO_MEAN ? 0 : mean)) /
                       (way == NO_TAU ? 1 : tau) * (way == ASCENT ? -1 : 1);
    }
}

static void moment_signs(signs *s, bool second) {
    const double beta = second ? 0.999 : 0.9;
    const double tau = pow(scalar(s, "tau", 1), second ? 2 : 1);
    double *p = load(s, s->ours, "p", s->n), *v = load(s, s->ours, "v", s->n);
    double *d = gm_alloc(s->arena, (size_t)s->n, 8);
    double *other = gm_alloc(s->arena, (size_t)s->n, 8);
    const known factors[] = {
        {1 / (1 - beta), "the 1 - beta is missing: m = beta m + (1 - beta) d"},
        {beta / (1 - beta), "beta and 1 - beta are swapped"},
        {tau, "softmax temperature: the gradient of softmax(theta / tau) has "
              "1/tau"}, {1 / tau, "softmax temperature: 1/tau twice"}};
    const double step = scalar(s, "step", 1);
    if (step == 1 && factor_signs(s, factors, 4)) return;
    const bool told = p && v && d && other;
    if (told) theta_gradient(s, p, v, RIGHT, d);
    for (int way = 1; told && way < WAYS; way++) {
        theta_gradient(s, p, v, way, other);
        for (long i = 0; i < s->n; i++)
            s->guess[i] = s->x[i] + (1 - beta) * (second
                ? other[i] * other[i] - d[i] * d[i] : other[i] - d[i]);
        if (explains(s, "%s", gradient_cause[way])) return;
    }
    if (second)
        hint(s, "m2 = 0.999 m2 + 0.001 d^2, of the gradient itself (no "
             "variance about its mean)");
    else
        hint(s, "d = p (v - sum_j p_j v_j) / tau, m1 = 0.9 m1 + "
             "0.1 d%s", step > 1 ? "; the moments of earlier steps" : "");
}

/* theta_after from the moments that agree: Adam without parts of it. */
static void theta_signs(signs *s) {
    double *m1 = load(s, s->ours, "moment1", s->n);
    double *m2 = load(s, s->ours, "moment2", s->n);
    double *theta = load(s, s->ours, "theta_before", s->n);
    const double one = 1 - scalar(s, "beta1_power", 0.9), tiny = 1e-8;
    const double two = 1 - scalar(s, "beta2_power", 0.999);
    const double rate = scalar(s, "rate", 0.1), bias = sqrt(two) / one;
    const char *const cause[] = {
        "missing Adam bias correction: moments agree, theta moves by m1 / "
        "sqrt(m2) instead of (m1 / (1 - beta1^t)) / sqrt(m2 / (1 - beta2^t))",
        "biased variance: only m1 is corrected, sqrt(m2) instead of sqrt(m2 / "
        "(1 - beta2^t))",
        "biased mean: only m2 is corrected, m1 instead of m1 / (1 - beta1^t)",
        "the sign: theta ascends", "epsilon inside the root: sqrt(v^ + 1e-8)",
        "epsilon is added before the bias correction",
        "no Adam: theta -= rate m1", "no Adam: theta -= rate d"};
    for (int way = 0; m1 && m2 && theta && way < 8; way++) {
        for (long i = 0; i < s->n; i++) {
            double root = sqrt(m2[i]), step = m1[i] / one /
                                              (root / sqrt(two) + tiny);
            const double of[] = {
                m1[i] / (root + tiny), m1[i] / one / (root + tiny),
                m1[i] / (root / sqrt(two) + tiny), -step,
                m1[i] / one / sqrt(m2[i] / two + tiny),
                m1[i] / (root + tiny) * bias, m1[i], m1[i] / one};
            s->guess[i] = theta[i] - rate * of[way];
        }
        if (explains(s, "%s", cause[way])) return;
    }
    double xy = 0, xx = 0;
    for (long i = 0; theta && i < s->n; i++) {
        double a = s->x[i] - theta[i];
        xy += a * (s->y[i] - theta[i]), xx += a * a;
    }
    for (long i = 0; theta && i < s->n; i++)
        s->guess[i] = theta[i] + xy / xx * (s->x[i] - theta[i]);
    if (xx > 0 && explains(s, "theirs moves by %.5g times our step: the rate, "
                           "or Adam's bias correction", xy / xx)) return;
    hint(s, "moments agree: theta -= rate (m1 / (1 - beta1^t)) / (sqrt(m2 / "
         "(1 - beta2^t)) + 1e-8)");
}

static void lambda_signs(signs *s) {
    const double l = scalar(s, "lambda_before", 0), c = scalar(s, "c", 0);
    const double eta = scalar(s, "eta", 0), rho = scalar(s, "rho", 0);
    const double y = s->y[0];
    const struct { double value; const char *cause; } usual[] = {
        {l - eta * rho * c, "lambda sign: it descends; expected lambda += eta "
                            "rho c"},
        {l + rho * c, "eta is missing: lambda += rho c oscillates"},
        {l + eta * c, "rho is missing: lambda += eta rho c"},
        {fmax(l + eta * rho * c, 0), "max(0, lambda): c is two-sided, lambda "
                                     "may be negative"},
        {l, "lambda is not updated"},
        {l + 2 * eta * rho * c, "updated twice"}};
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (fabs(y - usual[i].value) < 1e-6 * fabs(eta * rho * c)) {
            hint(s, "%s", usual[i].cause);
            return;
        }
    hint(s, "lambda_after = lambda_before + eta rho c, with c of this step's "
         "p");
}

static void scores_signs(signs *s, bool error) {
    double r;
    if (error && constant_factor(s, &r) && r < 1 && r > 0) {
        double n = 1 / (1 - r * r);
        if (fabs(n - floor(n + 0.5)) < 0.02 && n > 1.5) {
            hint(s, "biased variance: theirs = ours sqrt((n - 1)/n), n = %.0f: "
                 "divided by n where n - 1 is expected", n);
            return;
        }
    }
    if (factor_signs(s, NULL, 0)) return;
    bool offset = true;
    for (long m = 0; m < s->rows; m++)
        for (long k = 1; k < s->columns; k++) {
            long i = m * s->columns;
            double d = (s->y[i + k] - s->x[i + k]) - (s->y[i] - s->x[i]);
            offset = offset && fabs(d) < 1e-3 * fabs(s->v->absolute);
        }
    if (offset)
        hint(s, "a constant per module: the least score of each module is 0");
    else
        hint(s, "means over the last `tail` of the steps, in units of E_0; "
             "theta and multiplier before each step's update");
}

/* ----------------------------------------------------------------- dispatch */

static long number_in(const char *name) {
    const char *dot = strchr(name, '.');
    long n = dot ? strtol(dot + 1, NULL, 10) : 0;
    return n < 0 || n > 1000000 ? 0 : n;        /* anyone may have written it */
}

static void block_signs(signs *s, const gm_model *model) {
    const long l = number_in(s->name);
    bool found = false;
    const char *last = strrchr(s->name, '.') + 1;
    if (starts(s->name, "teacher.") && l > 0) {
        if (model) model_signs(s, model, l, &found);
        if (!found) position_signs(s, l);
    } else if (starts(s->name, "teacher.")) {
        general_signs(s);
        hint(s, "tokens agree: rows of the embedding, not scaled");
    } else if (starts(s->name, "detail.")) detail_signs(s, l, last);
    else if (starts(s->name, "hessian.")) hessian_signs(s);
    else if (starts(s->name, "factor.")) factor_signs_of(s);
    else if (strcmp(last, "scales") == 0) scales_signs(s);
    else if (strcmp(last, "zeros") == 0 || strcmp(last, "codes") == 0)
        codes_signs(s);
    else if (strcmp(last, "dequantized") == 0) dequantized_signs(s);
    else if (starts(s->name, "mixed.")) mixed_signs(s);
    else if (starts(s->name, "student.")) student_signs(s, l);
    else if (starts(s->name, "loss.")) loss_signs(s, l);
    else if (starts(s->name, "E.")) mean_loss_signs(s, l);
    else if (starts(s->name, "grad.")) grad_signs(s);
    else general_signs(s);
}

static void step_signs(signs *s) {
    if (named(s, "tokens")) {
        permuted_rows(s);
        hint(s, "the step sees other sequences: sequence i starts at floor(i "
             "count/S); step t takes places t batch .. of a permutation drawn "
             "by Fisher and Yates with gm_random (docs/verify.md)");
    } else if (named(s, "separable")) separable_signs(s);
    else if (named(s, "p")) p_signs(s);
    else if (named(s, "c")) c_signs(s);
    else if (named(s, "entropy")) entropy_signs(s);
    else if (named(s, "E0")) sum_signs(s, true);
    else if (named(s, "E")) sum_signs(s, false);
    else if (named(s, "g")) g_signs(s);
    else if (named(s, "v")) v_signs(s);
    else if (named(s, "moment1")) moment_signs(s, false);
    else if (named(s, "moment2")) moment_signs(s, true);
    else if (named(s, "theta_after")) theta_signs(s);
    else if (named(s, "lambda_after")) lambda_signs(s);
    else if (starts(s->name, "scores")) scores_signs(s, named(s,
                                                     "scores_error"));
    else if (named(s, "theta_before") || named(s, "lambda_before"))
        hint(s, "an earlier step departs: compare dumps of --step 1 first");
    else if (starts(s->name, "beta"))
        hint(s, "beta1^t and beta2^t after the update of step t = 1, 2, ...");
    else
        hint(s, "the runs have different settings: nothing after this can be "
             "compared");
}

/* Both sides' elements and what they differ by. */
static void begin(signs *s, const gm_verdict *v) {
    const gm_tensor *t = v->a;
    s->v = v, s->name = v->name;
    s->n = count_of(t);
    s->columns = t->rank > 1 ? (long)t->shape[t->rank - 1] : 1;
    s->rows = s->columns ? s->n / s->columns : 0;
    s->guess = gm_alloc(s->arena, (size_t)s->n, sizeof *s->guess);
    gm_elements(s->arena, v->a, &s->x);
    gm_elements(s->arena, v->b, &s->y);
    s->departure = distance(s, s->x);
}

void gm_recognise(gm_arena *arena, const gm_tensors *ours,
                       const gm_tensors *theirs, const gm_model *model,
                       gm_verification *out) {
    if (out->first < 0) return;
    const gm_verdict *v = out->verdict + out->first;
    signs s = {.arena = arena, .ours = ours, .theirs = theirs, .out = out,
               .v = v, .name = v->name};
    out->hints = 0;
    if (v->problem) {
        shape_signs(&s);
        return;
    }
    begin(&s, v);
    if (nan_signs(&s)) return;
    if (strchr(s.name, '.')) block_signs(&s, model);
    else step_signs(&s);
}
