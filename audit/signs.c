/* signs.c: what usually causes a departure, told from the numbers.  The usual
   mistakes are the table of docs/mistakes.md (mistakes.h is made from it):
   whose quantity, an equation over what both dumps agree on that gives THEIRS
   when it was made, the cause in words.  One driver tries those of the first
   tensor that departs, in order.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"
#include "mistakes.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) ((long)(sizeof(a) / sizeof *(a)))

/* All elements of a tensor, the last dimension across; x NULL: missing. */
typedef struct { long rows, columns; double *x; } array;
static const array missing = {0, 0, NULL};

/* The first tensor that departs, x of ours and y of theirs. */
typedef struct {
    gm_arena *arena;
    const gm_tensors *ours, *theirs;
    gm_verification *out;
    const char *name;
    array x, y;
    long l;                     /* the number in the name */
    long from, M;               /* --block: its first element, or -1; rows   */
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
static double square(double x) { return x * x; }

static array make(signs *s, long rows, long columns) {
    return (array){rows, columns, gm_alloc(s->arena, (size_t)rows,
                                           (size_t)columns * sizeof(double))};
}

static array number(signs *s, double x) {
    array a = make(s, 1, 1);
    *a.x = x;
    return a;
}

static array elements(signs *s, const gm_tensor *t) {
    const long n = t ? gm_element_count(t) : 0;
    const long columns = n && t->rank > 1 ? (long)t->shape[t->rank - 1] : 1;
    array a = {n / columns, columns, n ? gm_elements(s->arena, t) : NULL};
    if (s->from >= 0 && n && a.rows == s->M)        /* of a block its rows */
        a = (array){GM_LINEARS, columns, a.x + s->from};
    return a;
}

__attribute__((format(printf, 2, 3)))
static array tensor(signs *s, const char *format, ...) {
    va_list list;
    va_start(list, format);
    const char *name = gm_vformat(s->arena, format, list);
    va_end(list);
    return elements(s, gm_tensor_find(s->ours, name));
}

static void begin(signs *s, const gm_verdict *v) {
    const char *at = strstr(v->name, "layers.");
    s->name = v->name;
    s->from = v->from;
    s->M = (long)v->a->shape[0];
    s->x = s->y = elements(s, v->a);
    if (s->x.x) s->y.x = gm_theirs(s->arena, v) + (v->from > 0 ? v->from : 0);
    if (!at) at = v->name;
    s->l = strtol(at + strcspn(at, ".") + !!strchr(at, '.'), NULL, 10);
    if (s->l < 0 || s->l > 1000000) s->l = 0;   /* anyone may have written it */
}

/* A text that our dump's metadata, or theirs', have: "" if neither. */
static const char *metadata(const signs *s, const char *key) {
    const gm_json *v = gm_json_get(s->ours->metadata, key);
    if (!v) v = gm_json_get(s->theirs->metadata, key);
    return v && v->string ? v->string : "";
}

/* Its numbers, "4,2,1", as a row; of bits and group those of the recipe. */
static array listed(signs *s, const char *key) {
    const char *text = metadata(s, key);
    const char *at = strstr(metadata(s, "candidates"),
                            gm_format(s->arena, "%s=", key));
    char *end;
    if (at) text = strchr(at, '=') + 1;
    array a = make(s, 1, (long)strlen(text) + 1);
    for (a.columns = 0;; text = end + (*end == ',')) {
        const double x = strtod(text, &end);
        if (end == text) return a.columns ? a : missing;
        a.x[a.columns++] = x;
    }
}

/* The first as a count; 0 where none is stated or none that can be meant. */
static long count_in(signs *s, const char *key) {
    const array a = listed(s, key);
    return a.x && *a.x >= 1 && *a.x <= 1 << 20 ? (long)*a.x : 0;
}

/* Of a sequence, if it divides the rows; else 0. */
static long length_of(signs *s) {
    const gm_tensor *t = gm_tensor_find(s->ours, "tokens");
    long T = t && t->rank == 2 ? (long)t->shape[1] : count_in(s, "length");
    return T > 1 && s->x.rows % T == 0 ? T : 0;
}

/* ---------------------------------------------------------------- equations

   An equation holds numbers, + - * / < (1 or 0), names, functions of an array.
   An array is [rows, columns]; in operations a side with one row or column
   stands for as many as the other has.  What cannot be told, a name that is
   missing or shapes that do not fit, makes the whole missing; so does a column
   with a row that is larger than the tensor that departs: anyone may have
   written the shapes. */

static array operation(signs *s, char op, array a, array b) {
    if (!a.x || !b.x || (a.rows != b.rows && a.rows != 1 && b.rows != 1) ||
        (a.columns != b.columns && a.columns != 1 && b.columns != 1))
        return missing;
    const long rows = a.rows == 1 ? b.rows : a.rows;
    const long columns = a.columns == 1 ? b.columns : a.columns;
    if (rows > a.rows * a.columns / columns &&
        rows > b.rows * b.columns / columns &&
        rows > s->x.rows * s->x.columns / columns) return missing;
    array c = make(s, rows, columns);
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
static double finite_one(double x) { return isfinite(x); }

static const struct { const char *name; double (*of)(double); } elementwise[] =
    {{"sqrt", sqrt}, {"ln", ln}, {"sq", square}, {"abs", fabs},
     {"round", round}, {"finite", finite_one}};

/* turned: the transpose; top: 1 at each row's first largest, else 0; pairs:
   x_i^2 + x_(i + hd/2)^2 of each head; spread: of a row's groups, one for each
   column of ours. */
static array rearranged(signs *s, const char *function, array a) {
    const long hd = count_in(s, "head_dim"), columns = s->x.columns;
    const long stated = count_in(s, "group");
    const long group = stated ? stated : (columns + a.columns - 1) / a.columns;
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
               : turned ? a.x[j * a.columns + i] : 0;
    }
    for (long i = 0; i < a.rows && is(function, "top"); i++) {
        const double *row = a.x + i * a.columns;
        long first = 0;
        for (long j = 1; j < a.columns; j++)
            if (row[j] > row[first]) first = j;
        c.x[i * c.columns + first] = 1;
    }
    return c;
}

/* rows: sums of each row; sum, max, size: of all. */
static array applied(signs *s, const char *function, array a) {
    const bool rows = is(function, "rows"), max = is(function, "max");
    const long n = a.rows * a.columns, across = rows ? a.columns : n;
    if (n == 0) return missing;
    for (long k = 0; k < COUNT(elementwise); k++) {
        if (!is(function, elementwise[k].name)) continue;
        array c = make(s, a.rows, a.columns);
        for (long i = 0; i < n; i++) c.x[i] = elementwise[k].of(a.x[i]);
        return c;
    }
    if (is(function, "size")) return number(s, (double)n);
    if (!rows && !max && !is(function, "sum"))
        return rearranged(s, function, a);
    array c = make(s, n / across, 1);
    if (max) *c.x = -HUGE_VAL;
    for (long i = 0; i < n; i++) {
        double *x = c.x + i / across;
        *x = max ? fmax(*x, a.x[i]) : *x + a.x[i];
    }
    return c;
}

/* The norm of theirs - a; centred: but for a constant in each row. */
static double distance(const signs *s, array a, bool centred) {
    double sum = 0;
    for (long i = 0; i < a.rows; i++) {
        const double *x = a.x + i * a.columns, *y = s->y.x + i * a.columns;
        double mean = 0;
        for (long j = 0; j < a.columns && centred; j++)
            mean += (y[j] - x[j]) / (double)a.columns;
        for (long j = 0; j < a.columns; j++) sum += square(y[j] - x[j] - mean);
    }
    return sqrt(sum);
}

/* Share of the departure that taking `guess` for ours leaves: 0 when it is
   theirs, 1 when it explains nothing. */
static double unexplained(const signs *s, array guess, bool centred) {
    if (!guess.x || guess.rows != s->x.rows || guess.columns != s->x.columns)
        return 1;
    const double left = distance(s, guess, centred);
    const double departure = distance(s, s->x, centred);
    return isfinite(left) && departure > 0 ? left / departure : 1;
}

/* Equal but for `error` of the norm. */
static bool same(long n, const double *x, const double *y, double error) {
    double e = 0, norm = 0;
    for (long i = 0; i < n; i++) {
        e += square(y[i] - x[i]);
        norm += square(y[i]);
    }
    return e <= error * error * norm;
}

/* How many rows of theirs stand elsewhere in ours; 0: not all are there.  Each
   is looked for in its place, then behind the one before, then further: whole
   sequences move.  Where that takes 64 looks a row, nobody waits for it. */
static long moved_rows(const signs *s) {
    const long R = s->x.rows, n = s->x.columns;
    long moved = 0, shift = 0, looks = 64 * R;
    if (R < 2 || n < 2) return 0;
    for (long i = 0; i < R; i++) {
        long at = i, k = 0;
        while (k <= R && looks-- > 0 &&
               !same(n, s->x.x + at * n, s->y.x + i * n, 1e-5))
            at = (i + shift + k++) % R;
        if (k > R || looks < 0) return 0;
        moved += k > 0;
        if (k > 0) shift = (at - i + R) % R;
    }
    return moved;
}

/* The bits of the candidate that theirs is; 0: none. */
static int bits_of_theirs(signs *s) {
    for (int b = 1; b <= 32; b++)
        if (unexplained(s, tensor(s, "candidates.%s.b%d.dequantized",
                                  s->name + strcspn(s->name, ".") + 1, b),
                        false) <= 0.01)
            return b;
    return 0;
}

/* n_m of each module: blocks are equal. */
static array weights_of_modules(signs *s) {
    const array w = listed(s, "weights");
    array n = make(s, tensor(s, "p").rows, 1);
    if (w.columns < GM_LINEARS || n.rows == 0) return missing;
    for (long m = 0; m < n.rows; m++) n.x[m] = w.x[m % GM_LINEARS];
    return n;
}

static array equation(signs *s, const char *text);

/* Names that are no tensor's. */
static array built_in(signs *s, const char *name) {
    const long T = length_of(s);
    const char *bits = strstr(s->name, "_proj.b");
    if (is(name, "ours")) return s->x;
    if (is(name, "theirs")) return s->y;
    if (is(name, "n")) return weights_of_modules(s);
    if (is(name, "l")) return number(s, (double)s->l);
    if (is(name, "M")) {
        const long M = s->from < 0 ? tensor(s, "p").rows : s->M;
        return M ? number(s, (double)M) : missing;
    }
    if (is(name, "length") && T) return number(s, (double)T);
    if (is(name, "elsewhere")) return number(s, (double)moved_rows(s));
    if (is(name, "itself")) return number(s, bits_of_theirs(s));
    if (is(name, "levels") && bits)
        return number(s, pow(2, strtod(bits + 7, NULL)));
    if (is(name, "norm_eps") && !*metadata(s, name)) return number(s, 1e-5);
    if (is(name, "gptq"))
        return number(s, strncmp(metadata(s, "candidates"), "gptq", 4) == 0);
    for (long i = 0; i < COUNT(names); i++)
        if (is(name, names[i].name)) return equation(s, names[i].equation);
    const bool across = is(name, "column");
    if (!across && !is(name, "row") && !(T && is(name, "position")))
        return missing;
    array a = make(s, across ? 1 : s->x.rows, across ? s->x.columns : 1);
    for (long i = 0; i < a.rows * a.columns; i++)
        a.x[i] = (double)(is(name, "position") ? i % T : i);
    return a;
}

/* A tensor of ours: "teacher" is teacher.3 for what is of block 3, "codes" the
   codes of the same candidate.  Last, numbers of the metadata. */
static array named(signs *s, const char *name) {
    const char *last = strrchr(s->name, '.');
    array a = built_in(s, name);
    if (a.x) return a;
    if (is(name, "before")) {           /* NaN: no error falls with it */
        a = tensor(s, "teacher.%ld", s->l - 1);
        return a.x ? a : number(s, NAN);
    }
    if (is(name, "H"))
        return tensor(s, "hessian%s", s->name + strcspn(s->name, "."));
    if (is(name, "input"))
        name = strstr(s->name, "norm1") ? "teacher" : gm_format(
            s->arena, "detail.%ld.mid", s->l);
    a = tensor(s, "%s", name);
    if (!a.x) a = tensor(s, "%s.%ld", name, s->l);
    if (!a.x && last)
        a = tensor(s, "%.*s.%s", (int)(last - s->name), s->name, name);
    return a.x ? a : listed(s, name);
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

/* ---------------------------------------------- what no equation can tell */

/* At the first position attention gives v of the key/value head that is read:
   which one is it? */
static bool heads_misread(signs *s) {
    const long hd = count_in(s, "head_dim"), heads = count_in(s, "heads");
    const long kv = count_in(s, "kv_heads");
    const array v = tensor(s, "detail.%ld.v", s->l);
    const char *seen = "";
    long wrong = 0;
    if (length_of(s) == 0 || heads * hd != s->x.columns || kv < 2 ||
        heads < kv || heads > 512 || v.columns != kv * hd) return false;
    for (long h = 0; h < heads; h++) {
        long k = 0;
        while (k < kv && !same(hd, v.x + k * hd, s->y.x + h * hd, 1e-3)) k++;
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

static void recognise(signs *s);

/* S is the same loss: when a token's loss departs as well, that says why. */
static bool loss_departs(signs *s) {
    const gm_verdict *v = s->out->verdict, *end = v + s->out->count;
    while (v < end && (v->outcome != GM_DEPARTS || v->problem ||
                       !is(v->family, "loss")))
        v++;
    if (v == end) return false;
    signs loss = *s;
    begin(&loss, v);
    recognise(&loss);
    hint(s, "(seen in %s; S is the same loss)", v->name);
    return true;
}

/* --------------------------------------------------------------- the driver */

/* Whether what a row says after its sign is so; *p moves behind it.  r: theirs
   as a multiple of ours, or NaN. */
static bool holds(signs *s, char sign, const char **p, double r) {
    if (sign == '@')
        return is(*p, "heads_misread") ? heads_misread(s) : loss_departs(s);
    if (sign == '*' && !**p) return !isnan(r);
    const array a = part(s, p, 0);
    if (sign == '=' || sign == '~')         /* one number agrees by chance */
        return unexplained(s, a, sign == '=' && is(s->name, "v")) <=
               (s->x.rows * s->x.columns > 1 ? 0.01 : 1e-4);
    if (sign == '*') return a.x && fabs(r - *a.x) <= 1e-3 * fabs(*a.x);
    return sign == '!' ? !a.x : a.x && *a.x != 0;
}

/* theirs = r ours in all elements that count; else NaN. */
static double factor(signs *s) {
    const array r = named(s, "times");
    const array multiple = operation(s, '*', r, s->x);
    return r.x && unexplained(s, multiple, false) < 0.01 ? *r.x : NAN;
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
        if (sign == '*' && fabs(r + 1) <= 1e-3 && p[-1] == '*')
            hint(s, "theirs = -ours: a sign");
        else if (sign == '*')
            hint(s, "theirs = %.6g ours everywhere: %s", r, words);
        else if (words)
            hint(s, words, shown[0], shown[1], shown[2]);
        if (*when != '+') return;
    }
}

static void shape_signs(signs *s, const gm_tensor *a, const gm_tensor *b) {
    if (is(gm_shape_of(a).text, gm_shape_of(b).text)) return;   /* the type */
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

/* Whether an equation gives ours, but for what was allowed. */
static bool gives_ours(signs *s, const char *text, double tolerance) {
    const array a = equation(s, text);
    if (!a.x || a.rows != s->x.rows || a.columns != s->x.columns) return false;
    for (long i = 0; i < a.rows * a.columns; i++)
        if (!(fabs(a.x[i] - s->x.x[i]) <= tolerance)) return false;
    return true;
}

/* What agrees, and would with a mistake. */
static void doubt(signs *s) {
    const char *said = "";
    for (long i = 0; i < COUNT(untold); i++) {
        const gm_verdict *v = s->out->verdict, *end = v + s->out->count;
        while (v < end && !(v->a && v->b && is(v->name, untold[i].of))) v++;
        if (v == end || is(said, v->name)) continue;
        begin(s, v);
        if (!gives_ours(s, untold[i].when, v->tolerance)) continue;
        hint(s, "%s: %s", said = v->name, untold[i].words);
    }
}

void gm_recognise(gm_arena *arena, const gm_tensors *ours,
                  const gm_tensors *theirs, gm_verification *out) {
    signs s = {.arena = arena, .ours = ours, .theirs = theirs, .out = out};
    out->hints = 0;
    if (out->first < 0) {
        doubt(&s);
        return;
    }
    const gm_verdict *v = out->verdict + out->first;
    if (v->problem) {
        shape_signs(&s, v->a, v->b);
        return;
    }
    begin(&s, v);
    recognise(&s);
}
