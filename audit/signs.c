/* signs.c: what usually causes a departure, told from the numbers.  The usual
   mistakes are the table of docs/mistakes.md (mistakes.h is made from it):
   whose quantity, an equation over what both dumps agree on that gives THEIRS
   when it was made, the cause in words.  One driver tries those of the first
   tensor that departs, in order.  With the original model the mistakes of a
   block's forward pass are tried out, too.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"
#include "mistakes.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) ((long)(sizeof(a) / sizeof *(a)))

typedef struct { long rows, columns; double *x; } array;

/* The first tensor that departs, x of ours and y of theirs. */
typedef struct {
    gm_arena *arena;
    const gm_tensors *ours, *theirs;
    const gm_model *model;      /* NULL: not given */
    gm_verification *out;
    const char *name;
    double *x, *y;              /* [rows, columns] */
    long rows, columns, l;      /* l: the number in the name */
} signs;

__attribute__((format(printf, 2, 3)))
static void hint(signs *s, const char *format, ...) {
    va_list list;
    va_start(list, format);
    if (s->out->hints < COUNT(s->out->hint))
        s->out->hint[s->out->hints++] = gm_vformat(s->arena, format, list);
    va_end(list);
}

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

/* A text that our dump's metadata, or theirs', have: "" if neither. */
static const char *metadata(const signs *s, const char *key) {
    const gm_json *v = gm_json_get(s->ours->metadata, key);
    if (!v) v = gm_json_get(s->theirs->metadata, key);
    return v && v->string ? v->string : "";
}

/* The same as a count; 0 where none is stated or none that can be meant. */
static long count_in(const signs *s, const char *key) {
    double x = strtod(metadata(s, key), NULL);
    return x >= 1 && x <= 1 << 20 ? (long)x : 0;
}

/* Of a sequence, if it divides the rows; else 0. */
static long length_of(const signs *s) {
    const gm_tensor *t = gm_tensor_find(s->ours, "tokens");
    long T = t && t->rank == 2 ? (long)t->shape[1] : count_in(s, "length");
    return T > 1 && s->rows % T == 0 ? T : 0;
}

/* All elements, the last dimension across; missing: x is NULL. */
static array elements(signs *s, const gm_tensor *t) {
    const long n = t ? gm_element_count(t) : 0;
    const long columns = n && t->rank > 1 ? (long)t->shape[t->rank - 1] : 1;
    return (array){n / columns, columns, n ? gm_elements(s->arena, t) : NULL};
}

static void begin(signs *s, const gm_verdict *v) {
    const char *at = strstr(v->name, "layers.");
    s->name = v->name;
    const array x = elements(s, v->a);
    s->rows = x.rows, s->columns = x.columns, s->x = x.x;
    s->y = elements(s, v->b).x;
    if (!at) at = v->name;
    s->l = strtol(at + strcspn(at, ".") + !!strchr(at, '.'), NULL, 10);
    if (s->l < 0 || s->l > 1000000) s->l = 0;   /* anyone may have written it */
}

/* ---------------------------------------------------------------- equations

   An equation holds numbers, + - * / < (1 or 0), names, functions of an array.
   An array is [rows, columns]; in operations a side with one row or column
   stands for as many as the other has.  What cannot be told, a name that is
   missing or shapes that do not fit, makes the whole missing. */

static const array missing = {0, 0, NULL};

static array make(signs *s, long rows, long columns) {
    return (array){rows, columns, gm_alloc(s->arena, (size_t)rows,
                                           (size_t)columns * sizeof(double))};
}

static array number(signs *s, double x) {
    array a = make(s, 1, 1);
    *a.x = x;
    return a;
}

static array operation(signs *s, char op, array a, array b) {
    if (!a.x || !b.x || (a.rows != b.rows && a.rows != 1 && b.rows != 1) ||
        (a.columns != b.columns && a.columns != 1 && b.columns != 1))
        return missing;
    array c = make(s, a.rows == 1 ? b.rows : a.rows,
                   a.columns == 1 ? b.columns : a.columns);
    for (long k = 0; k < c.rows * c.columns; k++) {
        const long i = k / c.columns, j = k % c.columns;
        double x = a.x[(a.rows == 1 ? 0 : i * a.columns) +
                       (a.columns == 1 ? 0 : j)];
        double y = b.x[(b.rows == 1 ? 0 : i * b.columns) +
                       (b.columns == 1 ? 0 : j)];
        c.x[k] = op == '+' ? x + y : op == '-' ? x - y : op == '*' ? x * y
               : op == '/' ? x / y : x < y;
    }
    return c;
}

/* 0 where there is no logarithm: p ln p of p = 0. */
static double ln(double x) { return x > 0 ? log(x) : 0; }
static double square(double x) { return x * x; }
static double finite_one(double x) { return isfinite(x); }

static const struct { const char *name; double (*of)(double); } elementwise[] =
    {{"sqrt", sqrt}, {"ln", ln}, {"sq", square}, {"abs", fabs},
     {"round", round}, {"finite", finite_one}};

/* turned: the transpose; top: 1 at each row's first largest, else 0; pairs:
   x_i^2 + x_(i + hd/2)^2 of each head; spread: of a row's groups, one for each
   column of ours. */
static array rearranged(signs *s, const char *function, array a) {
    const char *key = strstr(metadata(s, "candidates"), "group=");
    const long stated = key ? strtol(key + 6, NULL, 10) : 0;
    const long hd = count_in(s, "head_dim"), columns = s->columns;
    const long group = stated > 0 ? stated
                                  : (columns + a.columns - 1) / a.columns;
    const bool pairs = is(function, "pairs") && hd > 1 && a.columns % hd == 0;
    const bool spread = is(function, "spread") &&
                        a.columns == (columns + group - 1) / group;
    const bool turned = is(function, "turned") && a.rows == a.columns;
    if (!pairs && !spread && !turned && !is(function, "top")) return missing;
    array c = pairs ? make(s, a.rows * a.columns / hd, hd / 2)
                    : make(s, a.rows, spread ? columns : a.columns);
    for (long k = 0; k < c.rows * c.columns; k++) {
        const long i = k / c.columns, j = k % c.columns;
        const double *row = a.x + i * (pairs ? hd : a.columns);
        c.x[k] = pairs ? square(row[j]) + square(row[j + hd / 2])
               : spread ? row[j / group]
               : turned ? a.x[j * a.columns + i] : 1;
        for (long m = 0; is(function, "top") && m < a.columns; m++)
            if (row[m] > row[j] || (row[m] == row[j] && m < j)) c.x[k] = 0;
    }
    return c;
}

/* rows: sums of each row; sum, max, size: of all; corner: the last element;
   trace: the diagonal's sum. */
static array applied(signs *s, const char *function, array a) {
    const bool rows = is(function, "rows"), max = is(function, "max");
    const bool trace = is(function, "trace");
    const long n = a.rows * a.columns, across = rows ? a.columns : n;
    if (n == 0) return missing;
    for (long k = 0; k < COUNT(elementwise); k++) {
        if (!is(function, elementwise[k].name)) continue;
        array c = make(s, a.rows, a.columns);
        for (long i = 0; i < n; i++) c.x[i] = elementwise[k].of(a.x[i]);
        return c;
    }
    if (is(function, "size")) return number(s, (double)n);
    if (is(function, "corner")) return number(s, a.x[n - 1]);
    if (!rows && !max && !trace && !is(function, "sum"))
        return rearranged(s, function, a);
    array c = make(s, n / across, 1);
    if (max) *c.x = -HUGE_VAL;
    for (long i = 0; i < n; i++) {
        double *x = c.x + i / across;
        if (max) *x = fmax(*x, a.x[i]);
        else if (!trace || i / a.columns == i % a.columns) *x += a.x[i];
    }
    return c;
}

/* Numbers of a metadata's list "...KEY4,2,1" as a row, or missing. */
static array listed(signs *s, const char *text, long count) {
    array a = make(s, 1, count);
    for (long i = 0; i < count; i++) {
        char *end;
        a.x[i] = strtod(text, &end);
        if (end == text) return missing;
        text = *end == ',' ? end + 1 : end;
    }
    return a;
}

/* bits: b_k of each candidate; else n_m / N of each module: blocks are equal.
   From the metadata. */
static array of_modules(signs *s, bool bits) {
    const gm_tensor *p = gm_tensor_find(s->ours, "p");
    const char *b = strstr(metadata(s, "candidates"), "bits=");
    if (!p || p->rank != 2) return missing;
    if (bits) return listed(s, b ? b + 5 : "", (long)p->shape[1]);
    array n = listed(s, metadata(s, "weights"), GM_LINEARS);
    array a = make(s, (long)p->shape[0], 1);
    double sum = 0;
    if (!n.x) return missing;
    for (long m = 0; m < a.rows; m++) sum += n.x[m % GM_LINEARS];
    for (long m = 0; m < a.rows; m++) a.x[m] = n.x[m % GM_LINEARS] / sum;
    return a;
}

static array tensor(signs *s, const char *name) {
    return elements(s, gm_tensor_find(s->ours, name));
}

static array equation(signs *s, const char *text);

/* Names that are no tensor's. */
static array built_in(signs *s, const char *name) {
    const long T = length_of(s);
    const char *bits = strstr(s->name, "_proj.b");
    if (is(name, "ours")) return (array){s->rows, s->columns, s->x};
    if (is(name, "theirs")) return (array){s->rows, s->columns, s->y};
    if (is(name, "share")) return of_modules(s, false);
    if (is(name, "bits")) return of_modules(s, true);
    if (is(name, "l")) return number(s, (double)s->l);
    if (is(name, "length") && T) return number(s, (double)T);
    if (is(name, "levels") && bits)
        return number(s, pow(2, strtod(bits + 7, NULL)));
    if (is(name, "norm_eps") && !*metadata(s, name)) return number(s, 1e-5);
    if (is(name, "gptq"))
        return number(s, strncmp(metadata(s, "candidates"), "gptq", 4) == 0);
    for (long i = 0; i < COUNT(names); i++)
        if (is(name, names[i].name)) return equation(s, names[i].equation);
    if (!is(name, "column") && !is(name, "row") && !(T && is(name, "position")))
        return missing;
    const bool across = is(name, "column");
    array a = make(s, across ? 1 : s->rows, across ? s->columns : 1);
    for (long i = 0; i < a.rows * a.columns; i++)
        a.x[i] = (double)(is(name, "position") ? i % T : i);
    return a;
}

/* A tensor of ours: "teacher" is teacher.3 for what is of block 3, "codes" the
   codes of the same candidate.  Last, a number of the metadata. */
static array named(signs *s, const char *name) {
    const char *last = strrchr(s->name, '.'), *text = metadata(s, name);
    array a = built_in(s, name);
    if (a.x) return a;
    if (is(name, "before")) {           /* NaN: no error falls with it */
        a = tensor(s, gm_format(s->arena, "teacher.%ld", s->l - 1));
        return a.x ? a : number(s, NAN);
    }
    if (is(name, "input"))
        name = gm_format(s->arena, strstr(s->name, "norm1") ? "teacher.%ld"
                         : "detail.%ld.mid", s->l);
    if (is(name, "H"))
        name = gm_format(s->arena, "hessian%s", s->name + strcspn(s->name,
                                                                  "."));
    a = tensor(s, name);
    if (!a.x) a = tensor(s, gm_format(s->arena, "%s.%ld", name, s->l));
    if (!a.x && last)
        a = tensor(s, gm_format(s->arena, "%.*s.%s", (int)(last - s->name),
                                s->name, name));
    return a.x || !*text ? a : number(s, strtod(text, NULL));
}

/* Level 0 compares, 1 adds, 2 multiplies, 3 is a number, a name, f(...), (...)
   or -...; *p moves behind it. */
static array part(signs *s, const char **p, int level) {
    static const char *const operators[] = {"<", "+-", "*/"};
    *p += strspn(*p, " ");
    const char *name = *p;
    char *end;
    array a;
    if (level < 3) {
        a = part(s, p, level + 1);
        while (**p && strchr(operators[level], **p)) {
            const char op = *(*p)++;
            a = operation(s, op, a, part(s, p, level + 1));
        }
        return a;
    }
    while (isalnum((unsigned char)**p) || **p == '_') ++*p;
    if (isalpha((unsigned char)*name)) {
        name = gm_format(s->arena, "%.*s", (int)(*p - name), name);
        if (**p != '(') a = named(s, name);
        else ++*p, a = applied(s, name, part(s, p, 0)), ++*p;
    } else if (*name == '(') {
        ++*p, a = part(s, p, 0), ++*p;
    } else if (*name == '-') {
        ++*p, a = operation(s, '-', number(s, 0), part(s, p, 3));
    } else {
        a = number(s, strtod(name, &end));
        *p = end;
    }
    *p += strspn(*p, " ");
    return a;
}

static array equation(signs *s, const char *text) {
    return part(s, &text, 0);
}

/* Share of the departure that taking `guess` for ours leaves: 0 when it is
   theirs, 1 when it explains nothing.  centred: up to a constant in each
   row. */
static double unexplained(const signs *s, array guess, bool centred) {
    double left = 0, departure = 0;
    if (!guess.x || guess.rows != s->rows || guess.columns != s->columns)
        return 1;
    for (long i = 0; i < s->rows; i++) {
        const double *x = s->x + i * s->columns, *y = s->y + i * s->columns;
        const double *z = guess.x + i * s->columns;
        double mean[2] = {0};
        for (long c = 0; c < s->columns && centred; c++) {
            mean[0] += (y[c] - z[c]) / (double)s->columns;
            mean[1] += (y[c] - x[c]) / (double)s->columns;
        }
        for (long c = 0; c < s->columns; c++) {
            left += square(y[c] - z[c] - mean[0]);
            departure += square(y[c] - x[c] - mean[1]);
        }
    }
    return isfinite(left) && departure > 0 ? sqrt(left / departure) : 1;
}

/* ---------------------------------------------- what no equation can tell */

/* theirs = r ours in all elements that count; else NaN. */
static double factor(signs *s) {
    const array r = equation(s, "sum(ours*theirs)/sum(sq(ours))");
    const array multiple = operation(s, '*', r, named(s, "ours"));
    return unexplained(s, multiple, false) < 0.01 ? *r.x : NAN;
}

static bool any_factor(signs *s) {
    const double r = factor(s);
    if (isnan(r)) return false;
    if (fabs(r + 1) <= 1e-3)
        hint(s, "theirs = -ours: a sign");
    else
        hint(s, "theirs = %.6g ours everywhere: a missing or extra constant "
             "factor", r);
    return true;
}

/* Equal but for `error` of the norm. */
static bool same(long n, const double *x, const double *y, double error) {
    double e = 0, norm = 0;
    for (long i = 0; i < n; i++)
        e += square(y[i] - x[i]), norm += square(y[i]);
    return e <= error * error * norm;
}

/* Rows of theirs that stand elsewhere in ours. */
static bool permuted_rows(signs *s) {
    const long R = s->rows, n = s->columns;
    long moved = 0;
    if (R < 2 || R > 4096 || n < 2) return false;
    for (long i = 0; i < R; i++) {
        long k = 0;
        while (k < R && !same(n, s->x + (i + k) % R * n, s->y + i * n, 1e-5))
            k++;
        if (k == R) return false;
        moved += k > 0;
    }
    if (moved)
        hint(s, "theirs has our rows in another order (%ld moved): sequences "
             "or modules are ordered differently", moved);
    return moved > 0;
}

/* At the first position attention gives v of the key/value head that is read:
   which one is it? */
static bool heads_misread(signs *s) {
    const long hd = count_in(s, "head_dim"), heads = count_in(s, "heads");
    const long kv = count_in(s, "kv_heads");
    const array v = tensor(s, gm_format(s->arena, "detail.%ld.v", s->l));
    const char *seen = "";
    long wrong = 0;
    if (length_of(s) == 0 || heads * hd != s->columns || kv < 2 ||
        heads < kv || v.columns != kv * hd) return false;
    for (long h = 0; h < heads; h++) {
        long k = 0;
        while (k < kv && !same(hd, v.x + k * hd, s->y + h * hd, 1e-3)) k++;
        wrong += k < kv && k != h / (heads / kv);
        if (h < 32)
            seen = gm_format(s->arena, "%s%s%ld", seen, h ? ", " : "",
                             k < kv ? k : -1);
    }
    if (wrong)
        hint(s, "head repeat order in GQA: their query heads read key/value "
             "heads %s; expected h / %ld for head h, each key/value head "
             "repeated, not tiled", seen, heads / kv);
    return wrong > 0;
}

static bool candidate_itself(signs *s) {
    for (int b = 1; b <= 32; b++) {
        const array q = tensor(s, gm_format(s->arena,
            "candidates.%s.b%d.dequantized", s->name + strlen("mixed."), b));
        if (!q.x || unexplained(s, q, false) > 0.01) continue;
        hint(s, "theirs is the %d-bit candidate itself, not the mixture sum_k "
             "p_mk Q_mk", b);
        return true;
    }
    return false;
}

static void recognise(signs *s);

/* S is the same loss: when a token's loss departs as well, that says why. */
static bool loss_departs(signs *s) {
    for (long i = 0; i < s->out->count; i++) {
        const gm_verdict *v = s->out->verdict + i;
        if (v->outcome != GM_DEPARTS || v->problem || !is(v->family, "loss"))
            continue;
        signs loss = *s;
        begin(&loss, v);
        recognise(&loss);
        hint(s, "(seen in %s; S is the same loss)", v->name);
        return true;
    }
    return false;
}

/* ------------------------------------ mistakes tried out on the original model

   Many mistakes of a block are our own block with other weights: interleaved
   RoPE pairs are half-split ones after the rows of q_proj and k_proj changed
   places, tiled heads are repeated ones with a copy of k and v for each query
   head, and so on.  The block is run on what both agree it sees. */

/* Row r of [rows, columns] becomes what row from[r] was. */
static void gather(signs *s, gm_real *w, long rows, long columns,
                   const long *from) {
    const size_t row = (size_t)columns * sizeof *w;
    if (!w) return;
    gm_real *keep = gm_alloc(s->arena, (size_t)rows, row);
    memcpy(keep, w, (size_t)rows * row);
    for (long r = 0; r < rows; r++)
        memcpy(w + r * columns, keep + from[r] * columns, row);
}

/* Rows of linear j and of what belongs to it.  tiled: query head h reads
   h mod kv_heads; else pairs (2i, 2i+1) are rotated as (i, i + head_dim/2). */
static void gather_heads(signs *s, const gm_config *c, gm_block *b, int j,
                         bool tiled) {
    const long hd = c->head_dim, kv = c->kv_heads * hd;
    const long rows = tiled || j == GM_Q ? c->heads * hd : kv;
    long *from = gm_alloc(s->arena, (size_t)rows, sizeof *from);
    for (long i = 0; i < rows; i++) {
        const long r = i % hd;
        from[i] = tiled ? i % kv
                : i - r + (r < hd / 2 ? 2 * r : 2 * (r - hd / 2) + 1);
    }
    gather(s, b->w[j], rows, c->d, from);
    gather(s, b->bias[j], rows, 1, from);
    if (!tiled)             /* the norms are shared by all heads */
        gather(s, j == GM_Q ? b->q_norm : b->k_norm, hd, 1, from);
}

static void transpose(long n, gm_real *w) {
    for (long i = 0; i < n; i++)
        for (long k = 0; k < i; k++) {
            gm_real x = w[i * n + k];
            w[i * n + k] = w[k * n + i];
            w[k * n + i] = x;
        }
}

/* Row i of the table block_mistakes; value: its number. */
static void change(signs *s, gm_config *c, gm_block *b, const char *what,
                   double value) {
    const bool square_q = c->heads * c->head_dim == c->d;
    if (is(what, "interleaved")) {
        gather_heads(s, c, b, GM_Q, false);
        gather_heads(s, c, b, GM_K, false);
    }
    if (is(what, "tiled")) {
        gather_heads(s, c, b, GM_K, true);
        gather_heads(s, c, b, GM_V, true);
        c->kv_heads = c->heads;
    }
    if (is(what, "scaled"))         /* both q and k are turned by the table */
        c->rope.attention_factor *= pow((double)c->head_dim, value / 2);
    if (is(what, "swapped")) {
        gm_real *gate = b->w[GM_GATE];
        b->w[GM_GATE] = b->w[GM_UP], b->w[GM_UP] = gate;
    }
    if (square_q && strstr(what, "q_proj")) transpose(c->d, b->w[GM_Q]);
    if (square_q && strstr(what, "o_proj")) transpose(c->d, b->w[GM_O]);
    for (long i = 0; is(what, "unit norms") && i < c->d; i++)
        b->norm1[i] += 1, b->norm2[i] += 1;
    if (is(what, "epsilon")) c->norm_eps = value;
    if (is(what, "base")) c->rope.theta = value;
    if (is(what, "unscaled")) c->rope.kind = GM_ROPE_DEFAULT;
}

/* Our block with mistake i on h, what it sees. */
static array block_with(signs *s, array h, long i) {
    const long T = length_of(s), n = h.rows * h.columns;
    gm_config c = s->model->config, wide = c;
    gm_block block;
    gm_acts acts;
    array out = make(s, h.rows, h.columns);
    gm_real *x = gm_alloc(s->arena, 2 * (size_t)n, sizeof *x);
    wide.kv_heads = wide.heads;             /* room for tiled heads */
    gm_block_alloc(s->arena, &wide, &block);
    gm_acts_alloc(s->arena, &wide, s->rows / T, T, false, &acts);
    gm_block_load(s->model, s->l - 1, &block);
    change(s, &c, &block, block_mistakes[i].what, block_mistakes[i].value);
    acts.config = &c;
    gm_rope_angles(&c, T, NULL, acts.cos, acts.sin);
    for (long k = 0; is(block_mistakes[i].what, "other sense") &&
                     k < T * c.head_dim / 2; k++)
        acts.sin[k] = -acts.sin[k];
    for (long k = 0; k < n; k++) x[k] = (gm_real)h.x[k];
    gm_block_forward(&acts, &block, x, x + n);
    for (long k = 0; k < n; k++) out.x[k] = (double)x[n + k];
    return out;
}

/* Names the mistake that gives theirs best, if it leaves a twentieth. */
static bool block_mistake(signs *s) {
    const array h = named(s, "before");
    double least = 1;
    long best = 0;
    if (!s->model || !h.x || h.rows * h.columns != s->rows * s->columns ||
        !length_of(s) || s->l > s->model->config.layers ||
        s->columns != s->model->config.d)
        return false;
    for (long i = 0; i < COUNT(block_mistakes); i++) {
        gm_mark mark = gm_arena_mark(s->arena);
        double left = unexplained(s, block_with(s, h, i), false);
        if (left < least) least = left, best = i;
        gm_arena_rewind(s->arena, mark);
    }
    if (least <= 0.05)
        hint(s, "%s: with that our own block gives theirs but for %.2g of the "
             "departure", block_mistakes[best].cause, least);
    return least <= 0.05;
}

static const struct { const char *name; bool (*look)(signs *s); } looks[] = {
    {"any_factor", any_factor}, {"permuted_rows", permuted_rows},
    {"heads_misread", heads_misread}, {"candidate_itself", candidate_itself},
    {"loss_departs", loss_departs}, {"block_mistake", block_mistake}};

/* --------------------------------------------------------------- the driver */

/* Whether what a row says after its sign is so; *p moves behind it.  r: theirs
   as a multiple of ours, or NaN. */
static bool holds(signs *s, char sign, const char **p, double r) {
    for (long i = 0; sign == '@' && i < COUNT(looks); i++)
        if (is(*p, looks[i].name)) return looks[i].look(s);
    const array a = part(s, p, 0);
    if (sign == '=' || sign == '~')         /* one number agrees by chance */
        return unexplained(s, a, sign == '=' && is(s->name, "v")) <=
               (s->rows * s->columns > 1 ? 0.01 : 1e-4);
    if (sign == '*') return a.x && fabs(r - *a.x) <= 1e-3 * fabs(*a.x);
    return sign == '!' ? !a.x : a.x && *a.x != 0;
}

static void recognise(signs *s) {
    const double r = factor(s);
    for (long i = 0; i < COUNT(mistakes); i++) {
        const char *when = mistakes[i].when, *words = mistakes[i].words;
        const char *p = when + (*when == '+');
        const char sign = *p;
        double shown[3] = {0};
        if (!gm_name_matches(mistakes[i].of, s->name)) continue;
        gm_mark mark = gm_arena_mark(s->arena);
        if (sign && (p++, !holds(s, sign, &p, r))) {
            gm_arena_rewind(s->arena, mark);
            continue;
        }
        for (int k = 0; k < 3 && (*p == ':' || *p == ','); k++) {
            p++;
            const array a = part(s, &p, 0);
            shown[k] = a.x ? *a.x : NAN;
        }
        if (sign == '*')
            hint(s, "theirs = %.6g ours everywhere: %s", r, words);
        else if (words)
            hint(s, words, shown[0], shown[1], shown[2]);
        if (*when != '+') return;
    }
}

static void shape_signs(signs *s, const gm_tensor *a, const gm_tensor *b) {
    if (a->rank == 2 && b->rank == 2 && a->shape[0] == b->shape[1] &&
        a->shape[1] == b->shape[0])
        hint(s, "the shapes are each other's transpose: weights are [out, in], "
             "hidden states [tokens, hidden size]");
    else if (gm_element_count(a) == gm_element_count(b))
        hint(s, "as many elements in another shape: sequences and positions "
             "are one dimension, batch T rows");
    else
        hint(s, "another model, batch, length, group size or list of bits");
}

void gm_recognise(gm_arena *arena, const gm_tensors *ours,
                  const gm_tensors *theirs, const gm_model *model,
                  gm_verification *out) {
    if (out->first < 0) return;
    signs s = {.arena = arena, .ours = ours, .theirs = theirs, .model = model,
               .out = out};
    const gm_verdict *v = out->verdict + out->first;
    out->hints = 0;
    if (v->problem) {
        shape_signs(&s, v->a, v->b);
        return;
    }
    begin(&s, v);
    recognise(&s);
}
