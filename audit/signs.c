/* signs.c: what usually causes a departure, told from the numbers.  One table
   of usual mistakes: whose quantity, an equation over what both dumps agree on
   that gives THEIRS when it was made, the cause in words.  One driver tries
   those of the first tensor that departs, in order.  With the original model
   the mistakes of a block's forward pass are tried out too.
   docs/verify.md has signatures and causes.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* The first tensor that departs, x of ours and y of theirs. */
typedef struct {
    gm_arena *arena;
    const gm_tensors *ours, *theirs;
    const gm_model *model;      /* NULL: not given */
    gm_verification *out;
    const gm_verdict *v;
    const char *name;
    double *x, *y;              /* [rows, columns] */
    long n, rows, columns, l;   /* l: the number in the name */
} signs;

__attribute__((format(printf, 2, 3)))
static void hint(signs *s, const char *format, ...) {
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (s->out->hints < (long)(sizeof s->out->hint / sizeof *s->out->hint))
        s->out->hint[s->out->hints++] = gm_format(s->arena, "%s", text);
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

/* Sides' elements and what belongs to the name. */
static void begin(signs *s, const gm_verdict *v) {
    const gm_tensor *t = v->a;
    const char *layers = strstr(v->name, "layers."), *dot = strchr(v->name, '.');
    s->v = v, s->name = v->name;
    s->n = gm_element_count(t);
    s->columns = t->rank > 1 ? (long)t->shape[t->rank - 1] : 1;
    s->rows = s->columns ? s->n / s->columns : 0;
    s->l = layers ? strtol(layers + 7, NULL, 10)
                  : dot ? strtol(dot + 1, NULL, 10) : 0;
    if (s->l < 0 || s->l > 1000000) s->l = 0;   /* anyone may have written it */
    s->x = gm_elements(s->arena, t);
    s->y = gm_elements(s->arena, v->b);
}

/* ---------------------------------------------------------------- equations

   An equation holds numbers, + - * / < (1 or 0), names, functions of an array.
   An array is [rows, columns]; in operations a side with one row or column
   stands for as many as the other has.  What cannot be told, a name that is
   missing or shapes that do not fit, makes the whole missing: x is NULL. */

typedef struct { long rows, columns; double *x; } array;

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

static const struct { const char *name; double (*of)(double); } elementwise[] =
    {{"sqrt", sqrt}, {"ln", ln}, {"sq", square}, {"abs", fabs},
     {"round", round}};

/* turned: the transpose; top: 1 at each row's first largest, else 0; pairs:
   x_i^2 + x_(i + hd/2)^2 of each head; moment: x of moment1, x^2 of moment2. */
static array rearranged(signs *s, const char *function, array a) {
    const long hd = count_in(s, "head_dim"), n = a.rows * a.columns;
    if (is(function, "moment"))
        return is(s->name, "moment1") ? a : operation(s, '*', a, a);
    if (is(function, "pairs")) {
        if (hd < 2 || a.columns % hd) return missing;
        array c = make(s, n / hd, hd / 2);
        for (long i = 0; i < c.rows * c.columns; i++) {
            const double *x = a.x + i / c.columns * hd + i % c.columns;
            c.x[i] = x[0] * x[0] + x[hd / 2] * x[hd / 2];
        }
        return c;
    }
    const bool turned = is(function, "turned") && a.rows == a.columns;
    if (!turned && !is(function, "top")) return missing;
    array c = make(s, a.rows, a.columns);
    for (long i = 0; i < a.rows; i++) {
        const double *x = a.x + i * a.columns;
        long at = 0;
        for (long k = 0; k < a.columns; k++) {
            if (turned) c.x[k * a.columns + i] = x[k];
            if (x[k] > x[at]) at = k;
        }
        if (!turned) c.x[i * a.columns + at] = 1;
    }
    return c;
}

/* rows: sums of each row; sum, max, size: of all; corner: the last element;
   trace: the diagonal's sum. */
static array applied(signs *s, const char *function, array a) {
    static const char *const reductions[] = {"rows", "sum", "trace", "max",
                                             "size", "corner"};
    const long n = a.x ? a.rows * a.columns : 0;
    int way = 0;
    if (n == 0) return missing;
    for (size_t k = 0; k < sizeof elementwise / sizeof *elementwise; k++) {
        if (!is(function, elementwise[k].name)) continue;
        array c = make(s, a.rows, a.columns);
        for (long i = 0; i < n; i++) c.x[i] = elementwise[k].of(a.x[i]);
        return c;
    }
    while (way < 6 && !is(function, reductions[way])) way++;
    if (way == 6) return rearranged(s, function, a);
    if (way > 3) return number(s, way == 4 ? (double)n : a.x[n - 1]);
    array c = make(s, way ? 1 : a.rows, 1);
    if (way == 3) *c.x = -HUGE_VAL;
    for (long i = 0; i < n; i++) {
        double *x = c.x + (way ? 0 : i / a.columns);
        if (way == 3) *x = fmax(*x, a.x[i]);
        else if (way < 2 || i / a.columns == i % a.columns) *x += a.x[i];
    }
    return c;
}

/* Names for what is not simply a tensor of ours. */
static const char *const definitions[][2] = {
    {"D", "theirs - ours"}, {"K", "size(ours)/size(rows(ours))"},
    {"M", "size(rows(p))"},
    /* of each row; the largest of which positions in a sequence */
    {"error", "sqrt(rows(sq(D))/rows(sq(ours)))"},
    {"first", "max(error*(position < 1))"},
    {"later", "max(error*(0 < position))"},
    {"last", "max(error*(length - 2 < position))"},
    {"earlier", "max(error*(position < length - 1))"},
    /* ln(error of a row) against ln(mean square of the same row of the block's
       input): slope and correlation are -1 when an epsilon is wrong */
    {"a", "ln(rows(sq(before))) - sum(ln(rows(sq(before))))/size(rows(ours))"},
    {"b", "ln(error) - sum(ln(error))/size(error)"},
    {"slope", "sum(a*b)/sum(sq(a))"},
    {"correlation", "sum(a*b)/sqrt(sum(sq(a))*sum(sq(b)))"},
    /* with m = mean x^2, theirs / ours = sqrt((m + e) / (m + e')) in a row
       gives their epsilon e' = (m + e) (ours/theirs)^2 - m */
    {"m", "rows(sq(input))/K"}, {"r", "rows(ours*theirs)/rows(sq(theirs))"},
    {"e", "(m + norm_eps)*sq(r) - m"},
    {"told", "1 - (1000*norm_eps < m)*(abs(r - 1) < 1e-4)"},
    {"eps", "sum(e*told)/sum(told)"},
    /* a rotation keeps the length of heads, and that of the pairs it turns */
    {"head_change", "max(abs(rows(pairs(theirs)) - rows(pairs(ours))))/"
                    "max(rows(pairs(ours)))"},
    {"pair_change", "max(abs(pairs(theirs) - pairs(ours)))/max(pairs(ours))"},
    /* A = H + damping = M M^T with M = U^-1 upper triangular: the last diagonal
       element of A is 1/U_nn^2, so each side's damping can be read off */
    {"added", "(1/sq(corner(ours)) - corner(H))*K/trace(H)"},
    {"they_add", "(1/sq(corner(theirs)) - corner(H))*K/trace(H)"},
    /* first column that departs, how many elements do */
    {"from", "-max(-column/(0 < abs(D)))"}, {"count", "sum(0 < abs(D))"},
    /* ln(p_mj / p_mk) = (theta_mj - theta_mk) / tau */
    {"theta", "theta_before - rows(theta_before)/K"},
    {"logs", "ln(theirs) - rows(ln(theirs))/K"},
    {"their_tau", "sum(theta*logs)/sum(sq(logs))"},
    {"soft", "sum(share*rows(p*bits))"},
    /* ||e||^2, ||y||^2, ||y~||^2 of each row */
    {"ee", "rows(sq(student - teacher))"}, {"yy", "rows(sq(teacher))"},
    {"zz", "rows(sq(student))"},
    /* v = loss + mu budget + entropies, d its softmax's gradient */
    {"mu", "lambda_before + rho*c"}, {"budget", "share*bits"},
    {"entropies", "alpha/M*ln(p)"}, {"S", "separable"},
    {"even", "max(p) + max(-p) < 1e-9"}, {"d", "p*(v - rows(p*v)) / tau"},
    {"root", "sqrt(moment2)"}, {"moved", "ours - theta_before"},
    {"one", "1 - beta1_power"}, {"two", "1 - beta2_power"},
    {"move", "sum(moved*(theirs - theta_before))/sum(sq(moved))"},
    {"times", "sum(ours*theirs)/sum(sq(ours))"},
    {"whole", "round(1/(1 - sq(times)))"}};

/* Numbers of a metadata's list "...KEY4,2,1" as a row, or missing. */
static array listed(signs *s, const char *key, const char *part, long count) {
    const char *text = strstr(metadata(s, key), part);
    array a = make(s, 1, count);
    text = text ? text + strlen(part) : "";
    for (long i = 0; i < count; i++) {
        char *end;
        a.x[i] = strtod(text, &end);
        if (end == text) return missing;
        text = *end == ',' ? end + 1 : end;
    }
    return a;
}

/* n_m / N of each module, b_k of each candidate: from the metadata. */
static array of_modules(signs *s, bool bits) {
    const gm_tensor *p = gm_tensor_find(s->ours, "p");
    if (!p || p->rank != 2) return missing;
    if (bits) return listed(s, "candidates", "bits=", (long)p->shape[1]);
    array n = listed(s, "weights", "", GM_LINEARS), a = make(s, p->shape[0], 1);
    double sum = 0;
    for (int j = 0; n.x && j < GM_LINEARS; j++)
        sum += n.x[j] * (double)a.rows / GM_LINEARS;
    for (long m = 0; m < a.rows; m++)
        a.x[m] = sum > 0 ? n.x[m % GM_LINEARS] / sum : 1 / (double)a.rows;
    return a;
}

/* A tensor of ours.  Scales and zeros of groups: one for each column. */
static array tensor(signs *s, const char *name) {
    const gm_tensor *t = gm_tensor_find(s->ours, name);
    const long n = t ? gm_element_count(t) : 0;
    if (n == 0) return missing;
    const long columns = t->rank > 1 ? (long)t->shape[t->rank - 1] : 1;
    array a = {n / columns, columns, gm_elements(s->arena, t)};
    if (!gm_name_matches("*.scales,*.zeros", name)) return a;
    array group = listed(s, "candidates", "group=", 1);
    const long g = group.x && *group.x >= 1 && *group.x < 1e9
        ? (long)*group.x : (s->columns + columns - 1) / columns;
    if (a.rows != s->rows || columns != (s->columns + g - 1) / g) return missing;
    array c = make(s, s->rows, s->columns);
    for (long i = 0; i < s->n; i++)
        c.x[i] = a.x[i / s->columns * columns + i % s->columns / g];
    return c;
}

/* Numbers from the name, the shape or the metadata; 0: not told. */
static double told_number(const signs *s, const char *name) {
    const char *bits = strstr(s->name, "_proj.b");
    double L = 0;
    if (gm_name_matches("heads,kv_heads,head_dim", name))
        return (double)count_in(s, name);
    if (is(name, "length")) return (double)length_of(s);
    if (is(name, "l")) return (double)s->l;
    if (is(name, "levels") && bits) return pow(2, strtod(bits + 7, NULL));
    if (is(name, "beta")) return is(s->name, "moment1") ? 0.9 : 0.999;
    if (is(name, "norm_eps"))
        return *metadata(s, name) ? strtod(metadata(s, name), NULL) : 1e-5;
    if (is(name, "gptq"))
        return strncmp(metadata(s, "candidates"), "gptq", 4) == 0;
    while (is(name, "L") && gm_tensor_find(s->ours, gm_format(
               s->arena, "E.%g", L + 1)))
        L++;
    return L;
}

static array equation(signs *s, const char *text);

/* "teacher" is teacher.3 for what is of block 3, "codes" the codes of the same
   candidate. */
static array named(signs *s, const char *name) {
    const long T = length_of(s), l = s->l;
    if (is(name, "ours")) return (array){s->rows, s->columns, s->x};
    if (is(name, "theirs")) return (array){s->rows, s->columns, s->y};
    if (gm_name_matches("share,bits", name)) return of_modules(s, *name == 'b');
    for (size_t i = 0; i < sizeof definitions / sizeof *definitions; i++)
        if (is(name, definitions[i][0])) return equation(s, definitions[i][1]);
    if (is(name, "column") || is(name, "row") || (T && is(name, "position"))) {
        const bool across = *name == 'c';
        array a = make(s, across ? 1 : s->rows, across ? s->columns : 1);
        for (long i = 0; i < a.rows * a.columns; i++)
            a.x[i] = (double)(*name == 'p' ? i % T : i);
        return a;
    }
    if (is(name, "before")) name = gm_format(s->arena, "teacher.%ld", l - 1);
    if (is(name, "input"))
        name = gm_format(s->arena, strstr(s->name, "norm1") ? "teacher.%ld"
                         : "detail.%ld.mid", l);
    if (is(name, "H"))
        name = gm_format(s->arena, "hessian%s", s->name + strcspn(s->name, "."));
    const char *last = strrchr(s->name, '.');
    array a = tensor(s, name);
    if (!a.x) a = tensor(s, gm_format(s->arena, "%s.%ld", name, l));
    if (!a.x && last)
        a = tensor(s, gm_format(s->arena, "%.*s.%s", (int)(last - s->name),
                                s->name, name));
    const double x = a.x ? 0 : told_number(s, name);
    return x == 0 ? a : number(s, x);
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

static bool not_finite(signs *s) {
    long nan = 0;
    for (long i = 0; i < s->n; i++) nan += !isfinite(s->y[i]);
    if (nan)
        hint(s, "%ld elements of theirs are NaN or infinite: a softmax over "
             "nothing but masked positions, 0/0 in a group of equal weights, or "
             "ln 0 where p underflows", nan);
    return nan > 0;
}

static bool same_row(long n, const double *x, const double *y) {
    for (long i = 0; i < n; i++)
        if (!(fabs(y[i] - x[i]) <= 1e-5 * fabs(y[i]))) return false;
    return true;
}

/* Rows of theirs that stand elsewhere in ours. */
static bool permuted_rows(signs *s) {
    const long R = s->rows, n = s->columns;
    long moved = 0;
    if (R < 2 || R > 4096 || n < 2) return false;
    for (long i = 0; i < R; i++) {
        long k = 0;
        while (k < R && !same_row(n, s->x + (i + k) % R * n, s->y + i * n)) k++;
        if (k == R) return false;
        moved += k > 0;
    }
    if (moved)
        hint(s, "theirs has our rows in another order (%ld moved): sequences or "
             "modules are ordered differently", moved);
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
    if (length_of(s) == 0 || heads * hd != s->columns || kv < 2 || heads < kv ||
        v.columns != kv * hd) return false;
    for (long h = 0; h < heads; h++) {
        long read = -1;
        for (long k = 0; k < kv && read < 0; k++) {
            double e = 0, norm = 0;
            for (long i = 0; i < hd; i++) {
                double a = v.x[k * hd + i], d = s->y[h * hd + i] - a;
                e += d * d, norm += a * a;
            }
            if (e < 1e-6 * norm) read = k;
        }
        wrong += read >= 0 && read != h / (heads / kv);
        if (h < 32)
            seen = gm_format(s->arena, "%s%s%ld", seen, h ? ", " : "", read);
    }
    if (wrong)
        hint(s, "head repeat order in GQA: their query heads read key/value "
             "heads %s; expected h / %ld for head h, each key/value head "
             "repeated, not tiled", seen, heads / kv);
    return wrong > 0;
}

/* Theirs is one of the candidates instead of the mixture. */
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

typedef struct {
    gm_config config;
    gm_block block;
} trial;

typedef long row_map(const gm_config *c, long row);

static long interleaved(const gm_config *c, long row) {
    const long hd = c->head_dim, r = row % hd;
    return row - r + (r < hd / 2 ? 2 * r : 2 * (r - hd / 2) + 1);
}

/* Swapping the halves of a head turns the rotation round. */
static long other_sense(const gm_config *c, long row) {
    const long hd = c->head_dim, r = row % hd;
    return row - r + (r + hd / 2) % hd;
}

/* Query head h reads h mod kv_heads. */
static long tiled(const gm_config *c, long row) {
    return row % (c->kv_heads * c->head_dim);
}

/* Row r of [rows, columns] comes from row from(r). */
static void gather(signs *s, const gm_config *c, gm_real *w, long rows,
                   long columns, row_map *from) {
    const size_t row = (size_t)columns * sizeof *w;
    if (!w) return;
    gm_real *keep = gm_alloc(s->arena, (size_t)rows, row);
    memcpy(keep, w, (size_t)rows * row);
    for (long r = 0; r < rows; r++)
        memcpy(w + r * columns, keep + from(c, r) * columns, row);
}

static void gather_heads(signs *s, trial *t, int j, row_map *from) {
    const gm_config *c = &t->config;
    const long rows = (from == tiled || j == GM_Q ? c->heads : c->kv_heads) *
                      c->head_dim;
    gather(s, c, t->block.w[j], rows, c->d, from);
    gather(s, c, t->block.bias[j], rows, 1, from);
    if (from != tiled)      /* the norms are shared by all heads */
        gather(s, c, j == GM_Q ? t->block.q_norm : t->block.k_norm,
               c->head_dim, 1, from);
}

static void scale_queries(trial *t, double factor) {
    const long hd = t->config.head_dim, n = t->config.heads * hd;
    gm_real *of[] = {t->block.w[GM_Q], t->block.bias[GM_Q]};
    const long count[] = {n * t->config.d, n};
    for (long i = 0; t->block.q_norm && i < hd; i++)
        t->block.q_norm[i] *= (gm_real)factor;
    for (int k = 0; k < 2 && !t->block.q_norm; k++)
        for (long i = 0; of[k] && i < count[k]; i++)
            of[k][i] *= (gm_real)factor;
}

static void transpose(trial *t, int j) {
    const long n = t->config.d;
    gm_real *w = t->block.w[j];
    for (long i = 0; i < n && n == t->config.heads * t->config.head_dim; i++)
        for (long k = 0; k < i; k++) {
            gm_real x = w[i * n + k];
            w[i * n + k] = w[k * n + i];
            w[k * n + i] = x;
        }
}

enum { INTERLEAVED, OTHER_SENSE, TILED, SCALED, GATE_UP, TRANSPOSED, UNIT_NORMS,
       EPSILON, BASE, NO_SCALING };

static const struct { int way; double value; const char *cause; } trials[] = {
    {INTERLEAVED, 0, "RoPE pairing: interleaved pairs (2i, 2i+1) instead of "
     "half-split (i, i + head_dim/2)"},
    {OTHER_SENSE, 0, "RoPE: the sign of the sine"},
    {TILED, 0, "head repeat order in GQA: query head h reads key/value head h "
     "mod kv_heads (tile), expected h / (heads/kv_heads) (repeat)"},
    {SCALED, 0.5, "softmax temperature of attention: 1/sqrt(head_dim) is "
     "missing"},
    {SCALED, -0.5, "softmax temperature of attention: 1/sqrt(head_dim) is "
     "applied twice"},
    {GATE_UP, 0, "gate and up are swapped: act = silu(gate) up"},
    {TRANSPOSED, 1 << GM_Q, "q_proj is transposed"},
    {TRANSPOSED, 1 << GM_O, "o_proj is transposed"},
    {TRANSPOSED, 1 << GM_Q | 1 << GM_O, "square weights (q_proj, o_proj) are "
     "transposed"},
    {UNIT_NORMS, 0, "RMSNorm multiplies by 1 + weight"},
    {EPSILON, 0, "epsilon of RMSNorm is 0"},
    {EPSILON, 1e-8, "epsilon of RMSNorm is 1e-8"},
    {EPSILON, 1e-6, "epsilon of RMSNorm is 1e-6"},
    {EPSILON, 1e-5, "epsilon of RMSNorm is 1e-5"},
    {EPSILON, 1e-4, "epsilon of RMSNorm is 1e-4"},
    {EPSILON, 1e-3, "epsilon of RMSNorm is 1e-3"},
    {BASE, 10000, "RoPE's base is 10000"},
    {NO_SCALING, 0, "RoPE's scaling (rope_scaling) is left out"}};

static void change(signs *s, trial *t, int way, double value) {
    gm_config *c = &t->config;
    gm_block *b = &t->block;
    row_map *const maps[] = {interleaved, other_sense, tiled};
    switch (way) {
    case INTERLEAVED: case OTHER_SENSE:
        gather_heads(s, t, GM_Q, maps[way]);
        gather_heads(s, t, GM_K, maps[way]);
        break;
    case TILED:
        gather_heads(s, t, GM_K, tiled);
        gather_heads(s, t, GM_V, tiled);
        c->kv_heads = c->heads;
        break;
    case SCALED: scale_queries(t, pow((double)c->head_dim, value)); break;
    case GATE_UP: {
        gm_real *gate = b->w[GM_GATE];
        b->w[GM_GATE] = b->w[GM_UP], b->w[GM_UP] = gate;
        break;
    }
    case TRANSPOSED:
        for (int j = GM_Q; j <= GM_O; j++)
            if ((int)value >> j & 1) transpose(t, j);
        break;
    case UNIT_NORMS:
        for (long i = 0; i < c->d; i++) b->norm1[i] += 1, b->norm2[i] += 1;
        break;
    case EPSILON: c->norm_eps = value; break;
    case BASE: c->rope.theta = value; break;
    case NO_SCALING: c->rope.kind = GM_ROPE_DEFAULT;
    }
}

/* Our block with mistake i on what it sees, [rows, columns]. */
static array trial_run(signs *s, const array *h, int i) {
    trial t = {.config = s->model->config};
    const long T = length_of(s);
    gm_config wide = t.config;      /* room for tiled heads */
    gm_rope_table rope;
    gm_acts acts;
    wide.kv_heads = wide.heads;
    array out = make(s, h->rows, h->columns);
    gm_real *x = gm_alloc(s->arena, 2 * (size_t)s->n, sizeof *x);
    gm_block_alloc(s->arena, &wide, &t.block);
    gm_acts_alloc(s->arena, &wide, s->rows / T, T, false, &acts);
    gm_block_load(s->model, s->l - 1, &t.block);
    change(s, &t, trials[i].way, trials[i].value);
    gm_rope_build(s->arena, &t.config, T, NULL, &rope);
    for (long k = 0; k < s->n; k++) x[k] = (gm_real)h->x[k];
    gm_block_forward(&t.config, &t.block, &rope, x, &acts, x + s->n);
    for (long k = 0; k < s->n; k++) out.x[k] = (double)x[s->n + k];
    return out;
}

/* Names the mistake that gives theirs best, if it leaves a twentieth. */
static bool block_mistake(signs *s) {
    const array h = named(s, "before");
    double least = 1;
    int best = 0;
    if (!s->model || !h.x || h.rows * h.columns != s->n || !length_of(s) ||
        s->l > s->model->config.layers || s->columns != s->model->config.d)
        return false;
    for (int i = 0; i < (int)(sizeof trials / sizeof *trials); i++) {
        gm_mark mark = gm_arena_mark(s->arena);
        double left = unexplained(s, trial_run(s, &h, i), false);
        if (left < least) least = left, best = i;
        gm_arena_rewind(s->arena, mark);
    }
    if (least <= 0.05)
        hint(s, "%s: with that our own block gives theirs but for %.2g of the "
             "departure", trials[best].cause, least);
    return least <= 0.05;
}

/* -------------------------------------------------------- the usual mistakes

   `when` begins with: = theirs is what the equation gives (all but a hundredth
   of the departure); ~ the same, and of v a constant in each row counts;
   * theirs is so many times ours; ? it is not 0; ! it is missing; nothing:
   whenever none before was it.  Then, after ':', numbers that the words show.
   + before all that: the search goes on.  @: one of `looks`. */
static const struct { const char *name; bool (*look)(signs *s); } looks[] = {
    {"not_finite", not_finite}, {"heads_misread", heads_misread},
    {"candidate_itself", candidate_itself}, {"loss_departs", loss_departs},
    {"block_mistake", block_mistake}};

#define LACKS "the entropy term is missing"
#define SIGN "entropy sign: v has + (alpha/M) ln p for J's - (alpha/M) sum H(p)"
#define UNIFORM " (p is uniform: dumps of --step 2 show more)"
#define LOSS(what) "loss norm: theirs is " what "; expected ||e_t||^2 / " \
                   "||y_t||^2 per token, e = y~ - y"
#define NORMS "detail.*.norm1,detail.*.norm2"
#define ROTATED "detail.*.q,detail.*.k"
#define CODES "*.codes,*.zeros"

static const struct { const char *of, *when, *words; } mistakes[] = {
{"*", "@not_finite", NULL},
{"tokens", "", "the step sees other sequences: sequence i starts at floor(i "
 "count/S); step t takes places t batch .. of a permutation drawn by Fisher "
 "and Yates with gm_random (docs/verify.md)"},
{"teacher.0", "", "tokens agree: rows of the embedding, not scaled"},
{"teacher.*", "@block_mistake", NULL},
{"teacher.*", "+? first < 0.001*later", "the first position of every sequence "
 "agrees, later ones do not: RoPE pairing (interleaved (2i, 2i+1) where the "
 "checkpoint means half-split (i, i + head_dim/2)), its base, or positions "
 "that do not start at 0"},
{"teacher.*", "? first < 0.001*later", "as that, but the angles are right: "
 "softmax temperature of attention, 1/sqrt(head_dim) missing or doubled"},
{"teacher.*", "? last < 0.001*earlier", "the last position of every sequence "
 "agrees, earlier ones do not: no causal mask, tokens see later ones"},
{"teacher.*", "+? (slope < -0.5)*(correlation < -0.8) : correlation, norm_eps",
 "errors fall with the size of a row (correlation %.2f): epsilon of RMSNorm, "
 "%g inside the root"},
{"teacher.*", "+? max(error) < 0.02 : max(error), norm_eps", "every position "
 "departs by little (at most %.1g of its row): epsilon of RMSNorm, %g inside "
 "the root, or less precision than float32 (TF32, BF16)"},
{"teacher.*", "+? kv_heads < heads : heads/kv_heads, kv_heads", "the first "
 "position departs as well, where attention is just v of its key/value head: "
 "head repeat order in GQA, query head h reads h / %g (repeat), not h mod %g "
 "(tile)"},
{"teacher.*", "", "one of the weights: a transposed square one, gate and up "
 "swapped, an activation other than silu, RMSNorm's weight"},

{NORMS, "? max(abs(e - eps)*told) < 0.05*(abs(eps) + norm_eps) : eps, norm_eps",
 "theirs is a norm with epsilon %.2g, expected %g (inside the root: 1/sqrt("
 "mean x^2 + epsilon))"},
{NORMS, "", "RMSNorm: x / sqrt(mean x^2 + epsilon) * weight; the mean is not "
 "taken off, the weight is not 1 + w"},
{ROTATED, "? (first < 0.001*later)*(0.001 < head_change)", "the first position "
 "agrees and heads change their length: not a rotation; sine and cosine of "
 "different angles, or a factor"},
{ROTATED, "? (first < 0.001*later)*(0.001 < pair_change) : head_dim/2", "RoPE "
 "pairing: heads keep their length but not the pairs (i, i + %g): theirs turns "
 "other pairs, interleaved (2i, 2i+1)"},
{ROTATED, "? (first < 0.001*later)*(pair_change < 1) : head_dim/2", "RoPE "
 "angles: pairs (i, i + %g) keep their length, so the pairing is right: base "
 "(rope_theta), scaling, the sign of the sine, or positions"},
{ROTATED, "", "the first position, where RoPE turns by 0, departs: projection, "
 "bias, or (Qwen3) the norm of q and k before RoPE"},
{"detail.*.attention", "@heads_misread", NULL},
{"detail.*.attention", "? first < 0.001*later", "the first position agrees: "
 "softmax temperature of attention, 1/sqrt(head_dim) missing or doubled, or "
 "the mask"},
{"detail.*.attention", "? last < 0.001*earlier", "the last position agrees, "
 "earlier ones do not: no causal mask"},
{"detail.*.attention", "", "q, k and v agree, the first position of attention "
 "does not: heads are put together in another order"},
{"detail.*.mid", "", "attention agrees: o_proj (transposed?), its bias, or the "
 "residual: mid = h + o(attention)"},
{"detail.*.act", "", "gate and up agree: act = silu(gate) up, silu(g) = g / (1 "
 "+ exp(-g)); not gelu, not silu(up) gate"},
{"detail.*", "", "its input agrees: the weight (transposed?), its bias, or "
 "gate and up swapped"},

{"hessian.*", "* 0.5", "H = (2/tokens) X^T X, the 2 is missing"},
{"hessian.*", "* 2", "a factor 2 too many"},
{"hessian.*", "= ours*(column < row + 1)", "theirs has only the lower "
 "triangle; expected the full matrix"},
{"hessian.*", "", "no constant factor: token weights (w_t = 1/||x_t||, times 4 "
 "at the first token; --hessian plain: none), or other calibration sequences"},
{"factor.*", "= turned(ours)", "theirs is the transpose of ours, that is, "
 "lower triangular; expected upper, U^T U = (H + damping)^-1"},
{"factor.*", "? (0 < added)*(abs(they_add) < 0.02*added) : they_add, added",
 "missing damping: H agrees, and 1/U_nn^2 - H_nn says that theirs adds %.1g of "
 "the mean diagonal, ours %.4g"},
{"factor.*", "? (0 < added)*(0.01 < abs(they_add/added - 1)) : they_add, added",
 "other damping: 1/U_nn^2 - H_nn says that theirs adds %.4g of the mean "
 "diagonal, ours %.4g"},
{"factor.*", "! H", "H agrees or is not there: damping (1 %% of its mean "
 "diagonal), the order of columns, U^T U = H^-1 against U U^T"},
{"factor.*", "", "H and its damping agree: the factor is of H instead of its "
 "inverse, or U U^T = H^-1 instead of U^T U"},

{"*.scales", "? max(abs(theirs/ours - 1)) < 0.0009765625", "differences below "
 "one unit of fp16: scales are rounded to fp16 before codes are computed"},
{"*.scales", "? gptq*(0 < from) : from", "stale group scales: groups before %g "
 "agree, later ones do not: a group's scale comes from the weights as "
 "corrected when its first column is reached, not from the original ones or a "
 "copy as old as the column block"},
{"*.scales", "* 1 - 1/levels", "divided by 2^b, expected 2^b - 1"},
{"*.scales", "* 2*(levels - 1)/(levels - 2 + (levels < 4))", "symmetric: "
 "divided by 2^(b-1) - 1"},
{"*.scales", "", "lo = min(0, min w), hi = max(0, max w) of each group of "
 "consecutive input columns; the last group may be smaller; with act-order, "
 "groups keep the original columns and weights"},
{CODES, "? max(D) + max(-D) < 0.5 : max(D)", "theirs = ours %+g everywhere: "
 "unsigned codes 0 .. 2^b - 1 are expected, or zeros stored as zero - 1"},
{CODES, "? (count < 0.001*size(D))*(max(abs(D)) < 1.5) : count, size(D), "
 "count", "%g of %g differ, by one: ties and rounding of w/scale; if that is "
 "all, --tolerance NAME=%g"},
{CODES, "? (max(D) < 0.5)*(max(-D) < 1.5) : 100*count/size(D)", "theirs is one "
 "less in %.0f %% and never more: cut off (floor) instead of rounded to "
 "nearest, ties to even"},
{CODES, "? gptq*(0 < from) : from", "columns before %g agree, later ones do "
 "not: what rounding column j lost is moved onto the later columns, w_t -= "
 "(w_j - q_j) U_jt / U_jj; at a column block's end: the trailing update"},
{CODES, "", "code = clamp(round(w/scale) + zero, 0, 2^b - 1), one per element, "
 "unpacked"},
{"*.dequantized", "= codes*scales", "theirs is scale code: the zero is not "
 "subtracted"},
{"*.dequantized", "= codes*scales - zeros", "theirs is scale code - zero, "
 "expected scale (code - zero)"},
{"*.dequantized", "", "Q = scale (code - zero) in float32, scale and zero of "
 "the row's group floor(column / group)"},

{"separable", "* E0", "missing 1/E_0: S_mk is in units of E_0"},
{"separable", "@loss_departs", NULL},
{"separable", "", "module m alone at candidate k, everything else original, on "
 "the first step's sequences; the same loss norm"},
{"theta_before,lambda_before", "", "an earlier step departs: compare dumps of "
 "--step 1 first"},
{"p", "? 1e-4 < max(abs(rows(theirs) - 1)) : max(abs(rows(theirs) - 1))",
 "sum_k p_mk is not 1 (off by up to %.2g): the softmax is over the K "
 "candidates of a module"},
{"p", "? (0 < sq(their_tau))*(0.001 < abs(their_tau/tau - 1)) : their_tau, tau",
 "softmax temperature: theirs is softmax(theta / %.4g), expected theta / tau "
 "with tau = %g"},
{"p", "", "p = softmax(theta_before / tau), without noise"},
{"entropy", "* M", "the sum over modules; expected the mean"},
{"entropy", "* -1", "the sign: H(p) = - sum_k p_k ln p_k >= 0"},
{"entropy", "* 1.4426950408889634", "log to base 2; expected natural"},
{"entropy", "", "mean over modules of - sum_k p_mk ln p_mk"},
{"c", "= sum(share*rows(top(p)*bits)) - train_bits", "soft against hard "
 "budget: theirs counts the bits of the most likely candidate; expected the "
 "mean under p"},
{"c", "= (soft - train_bits)*(train_bits < soft)", "theirs is max(c, 0); c "
 "keeps its sign"},
{"c", "= sum(p*bits)/M - train_bits", "modules weigh alike; expected n_m / N"},
{"c", "= soft", "the target B is not taken off"},
{"c", "= train_bits - soft", "the sign: c = average bits - B"},
{"c", "= soft/train_bits - 1", "relative to B; expected in bits"},
{"c", "= (soft - train_bits)/8", "in bytes; expected in bits"},
{"c", "", "c = (1/N) sum_m n_m sum_k b_k p_mk - B"},

{"mixed.*", "@candidate_itself", NULL},
{"mixed.*", "", "p and candidates agree where compared: W~ = sum_k p_mk Q_mk, "
 "modules in the order q, k, v, o, gate, up, down of each block"},
{"student.*", "= teacher", "theirs is the original's hidden state: the block "
 "ran with its own weights, not the mixed ones"},
{"student.1", "", "the original's block agrees: the mixed weights, or the "
 "order of its modules"},
{"student.*", "? 1 : l - 1", "earlier blocks agree: every block sees the "
 "original's hidden states, teacher.%g (teacher forcing), not the student's "
 "before it"},
{"loss.*", "= ee", LOSS("plain squared error ||e||^2")},
{"loss.*", "= ee/yy/2", LOSS("half the relative error")},
{"loss.*", "= ee*size(ee)/size(teacher)", LOSS("mean squared error ||e||^2 / "
 "d")},
{"loss.*", "= ee/(sum(yy)/size(yy))", LOSS("relative to the mean energy of all "
 "tokens, ||e||^2 / mean_t ||y_t||^2")},
{"loss.*", "= sqrt(ee/yy)", LOSS("||e|| / ||y||, not squared")},
{"loss.*", "= ee/zz", LOSS("relative to the student's norm")},
{"loss.*", "! ee", "loss norm: the ratio to ours changes from token to token: "
 "each token's ||e||^2 is relative to its own ||y||^2"},
{"loss.*", "", "student and teacher agree: ||y~_t - y_t||^2 / ||y_t||^2 per "
 "token, y of the original"},
{"E.*", "* size(loss)", "the sum over tokens; expected the mean"},
{"E.*", "* size(loss)/(size(loss) - 1)", "divided by R - 1; expected the mean "
 "over R tokens"},
{"E.*", "! loss : l", "loss.%g is not in both; loss norm: mean over tokens of "
 "||e_t||^2 / ||y_t||^2, each token relative to its own norm"},
{"E", "* E0", "missing 1/E_0: E is in units of the first step's"},
{"E0,E", "* 1/L", "mean over blocks; expected the sum"},
{"E", "* E0/L", "mean over blocks, and missing 1/E_0"},

{"grad.*", "* 1/E0", "divided by E_0 already; grad.NAME is dE_l/dW~"},
{"grad.*", "* 0.5", "the 2 of d||e||^2 is missing"},
{"grad.*", "* size(tokens)", "the sum over tokens; E_l is a mean"},
{"grad.*", "", "losses agree: backward of the block; ||y||^2 is a constant (no "
 "gradient through the teacher); in GQA k and v add up over the query heads "
 "that share them"},
{"g", "* E0", "missing 1/E_0: g = <dE/dW~, Q> / E_0"},
{"g", "* 1/E0", "divided by E_0 twice"},
{"g", "= p*ours", "theirs is p_mk g_mk: dE/dp_mk = <dE/dW~_m, Q_mk>, without "
 "p"},
{"g", "", "g_mk = <dE/dW~_m, Q_mk> / E_0, Q dequantized, summed over all of "
 "the weight"},
/* a constant for each module: theta does not see it */
{"v", "~ ours - 2*even*entropies", SIGN UNIFORM},
{"v", "~ ours - even*entropies", LACKS UNIFORM},
{"v", "~ ours - 2*even*(entropies + alpha/M)", SIGN UNIFORM},
{"v", "~ ours - even*(entropies + alpha/M)", LACKS UNIFORM},
{"v", "? 1e6*sum(sq(D - rows(D)/K)) < sum(sq(D))", "a constant per module (ln "
 "p + 1 where ln p is expected?): the softmax's gradient takes it out, theta "
 "does not see it"},
{"v", "= ours - 2*mu*budget", "lambda sign: the budget term enters as -(lambda "
 "+ rho c) n_m b_k / N"},
{"v", "= ours - rho*c*budget", "soft against hard budget: lambda alone, the "
 "penalty's rho c is missing"},
{"v", "= ours - lambda_before*budget", "the multiplier lambda is missing, only "
 "rho c"},
{"v", "= ours - 2*lambda_before*budget", "lambda sign: rho c - lambda, "
 "expected rho c + lambda"},
{"v", "= ours - 2*rho*c*budget", "the sign of rho c: lambda - rho c"},
{"v", "= ours - rho*c/2*budget", "rho c / 2: the derivative of rho/2 c^2 is "
 "rho c"},
{"v", "= ours + rho*c*budget", "2 rho c: the derivative of rho/2 c^2 is rho c"},
{"v", "= ours - mu*(mu < 0)*budget", "max(0, lambda + rho c): the multiplier "
 "keeps its sign while c is two-sided"},
{"v", "= ours - mu*budget", "the budget term is missing"},
{"v", "= ours - 2*entropies", SIGN},
{"v", "= ours - entropies", LACKS},
{"v", "= ours + (M - 1)*entropies", "alpha ln p: alpha is divided by the "
 "number of modules M"},
{"v", "= ours - S + 2*p*S", "soft instead of soft-corrected: g alone, S_mk (1 "
 "- 2 p_mk) is missing"},
{"v", "= ours + p*S", "the correction has S_mk - p_mk S_mk; the derivative of "
 "(p - p^2) S is S - 2 p S"},
{"v", "= ours + 2*p*S - g", "S_mk alone, the interaction g - 2 p S is "
 "missing"},
{"v", "= ours + 2*p*S", "S_mk + g_mk without - 2 p_mk S_mk"},
{"v", "= ours + (E0 - 1)*(S - 2*p*S)", "the correction is in units of E, not "
 "of E_0"},
{"v", "= ours + (E0 - 1)*g", "missing 1/E_0: g enters as dE, not dE / E_0"},
{"v", "", "g agrees: v = loss + (lambda + rho c) n_m b_k / N + (alpha/M) ln p, "
 "loss = g (soft) or S + g - 2 p S (soft-corrected)"},

{"moment*", "* 1/(1 - beta)", "the 1 - beta is missing: m = beta m + (1 - "
 "beta) d"},
{"moment*", "* beta/(1 - beta)", "beta and 1 - beta are swapped"},
{"moment*", "* moment(tau)", "softmax temperature: the gradient of softmax("
 "theta / tau) has 1/tau"},
{"moment*", "* 1/moment(tau)", "softmax temperature: 1/tau twice"},
{"moment*", "= ours + (1 - beta)*(moment(p*v/tau) - moment(d))", "p v / tau: "
 "the softmax's gradient takes off the mean, p (v - sum_j p_j v_j) / tau"},
{"moment*", "= ours + (1 - beta)*(moment(d/p) - moment(d))", "v - mean v: the "
 "softmax's gradient has p, p (v - sum_j p_j v_j) / tau"},
{"moment*", "= ours + (1 - beta)*(moment(d*tau) - moment(d))", "the 1/tau of "
 "the softmax's gradient is missing"},
{"moment1", "= ours - 0.2*d", "the sign: Adam descends along +dJ/dtheta"},
{"moment1", "", "d = p (v - sum_j p_j v_j) / tau, m1 = 0.9 m1 + 0.1 d; the "
 "moments of earlier steps"},
{"moment2", "", "m2 = 0.999 m2 + 0.001 d^2, of the gradient itself (no "
 "variance about its mean)"},
{"beta*", "", "beta1^t and beta2^t after the update of step t = 1, 2, ..."},
{"theta_after", "= theta_before - rate*moment1/(root + 1e-8)", "missing Adam "
 "bias correction: moments agree, theta moves by m1 / sqrt(m2) instead of (m1 "
 "/ (1 - beta1^t)) / sqrt(m2 / (1 - beta2^t))"},
{"theta_after", "= theta_before - rate*moment1/one/(root + 1e-8)", "biased "
 "variance: only m1 is corrected, sqrt(m2) instead of sqrt(m2 / (1 - "
 "beta2^t))"},
{"theta_after", "= theta_before - rate*moment1/(root/sqrt(two) + 1e-8)",
 "biased mean: only m2 is corrected, m1 instead of m1 / (1 - beta1^t)"},
{"theta_after", "= theta_before - moved", "the sign: theta ascends"},
{"theta_after", "= theta_before - rate*moment1/one/sqrt(moment2/two + 1e-8)",
 "epsilon inside the root: sqrt(v^ + 1e-8)"},
{"theta_after", "= theta_before - rate*moment1/one*sqrt(two)/(root + 1e-8)",
 "epsilon is added before the bias correction"},
{"theta_after", "= theta_before - rate*moment1", "no Adam: theta -= rate m1"},
{"theta_after", "= theta_before - rate*moment1/one", "no Adam: theta -= rate "
 "d"},
{"theta_after", "= theta_before + move*moved : move", "theirs moves by %.5g "
 "times our step: the rate, or Adam's bias correction"},
{"theta_after", "", "moments agree: theta -= rate (m1 / (1 - beta1^t)) / (sqrt("
 "m2 / (1 - beta2^t)) + 1e-8)"},
{"lambda_after", "= lambda_before - eta*rho*c", "lambda sign: it descends; "
 "expected lambda += eta rho c"},
{"lambda_after", "= lambda_before + rho*c", "eta is missing: lambda += rho c "
 "oscillates"},
{"lambda_after", "= lambda_before + eta*c", "rho is missing: lambda += eta rho "
 "c"},
{"lambda_after", "= ours*(0 < ours)", "max(0, lambda): c is two-sided, lambda "
 "may be negative"},
{"lambda_after", "= lambda_before", "lambda is not updated"},
{"lambda_after", "= lambda_before + 2*eta*rho*c", "updated twice"},
{"lambda_after", "", "lambda_after = lambda_before + eta rho c, with c of this "
 "step's p"},
{"scores_error", "= ours*sqrt(1 - 1/whole)/(1 < whole) : whole", "biased "
 "variance: theirs = ours sqrt((n - 1)/n), n = %.0f: divided by n where n - 1 "
 "is expected"},
{"scores*", "? max(abs(D - rows(D)/K)) < 0.001*max(abs(D))", "a constant per "
 "module: the least score of each module is 0"},
{"scores*", "", "means over the last `tail` of the steps, in units of E_0; "
 "theta and multiplier before each step's update"},
{"*", "", "the runs have different settings: nothing after this can be "
 "compared"}};

/* --------------------------------------------------------------- the driver */

/* What any tensor may be of ours: transposed, in another order, a multiple. */
static void general(signs *s, double times) {
    if (unexplained(s, equation(s, "turned(ours)"), false) < 0.01)
        hint(s, "theirs is the transpose of ours: weights and their gradients "
             "are [out, in], y = x W^T");
    permuted_rows(s);
    if (isnan(times) || (s->n == 1 && *s->name != 'E')) return;
    if (fabs(times + 1) <= 1e-3)
        hint(s, "theirs = -ours: a sign");
    else
        hint(s, "theirs = %.6g ours everywhere: a missing or extra constant "
             "factor", times);
}

/* Row m of the table, *p behind its sign; moves *p behind its equation. */
static bool holds(signs *s, char sign, const char **p, double times) {
    for (size_t i = 0; sign == '@' && i < sizeof looks / sizeof *looks; i++)
        if (is(*p, looks[i].name)) return looks[i].look(s);
    const array a = part(s, p, 0);
    if (sign == '=' || sign == '~')         /* one number agrees by chance */
        return unexplained(s, a, sign == '=' && is(s->name, "v")) <=
               (s->n > 1 ? 0.01 : 1e-4);
    if (sign == '*')
        return a.x && fabs(times - *a.x) <= 1e-3 * fabs(*a.x);
    return sign == '!' ? !a.x : a.x && *a.x != 0;
}

static void recognise(signs *s) {
    const array r = equation(s, "times");
    const double times = r.x && unexplained(s, equation(s, "times*ours"), false)
                         < 0.01 ? *r.x : NAN;
    bool looked = false;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        const char *when = mistakes[i].when, *words = mistakes[i].words;
        const char *p = when + (*when == '+');
        double shown[3] = {0};
        if (!gm_name_matches(mistakes[i].of, s->name)) continue;
        const char sign = *p;
        if (!looked && (!sign || sign == '!'))
            looked = true, general(s, times);
        if (sign && (p++, !holds(s, sign, &p, times))) continue;
        for (int k = 0; k < 3 && (*p == ':' || *p == ','); k++) {
            p++;
            const array a = part(s, &p, 0);
            shown[k] = a.x ? *a.x : NAN;
        }
        if (sign == '*')
            hint(s, "theirs = %.6g ours everywhere: %s", times, words);
        else if (words)
            hint(s, words, shown[0], shown[1], shown[2]);
        if (*when != '+') return;
    }
}

static void shape_signs(signs *s) {
    const gm_tensor *a = s->v->a, *b = s->v->b;
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
               .out = out, .v = out->verdict + out->first};
    out->hints = 0;
    if (s.v->problem) {
        shape_signs(&s);
        return;
    }
    begin(&s, s.v);
    recognise(&s);
}
