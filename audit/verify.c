/* verify.c: compares two dumps (dump.c, or another program's with the same
   names) in the order of computation.  Each quantity has a tolerance derived
   from how it is computed; what both sides already agreed to differ in (p, the
   mixed weights) is passed on to what is computed from it, so the first
   departure is where the programs part, not where rounding ends up.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- elements */

long gm_element_count(const gm_tensor *t) {
    size_t size = gm_dtype_bytes(t->dtype);
    return size ? (long)(t->bytes / size) : 0;
}

/* The bytes are read into the end of x: element i lies at or behind x[i]. */
double *gm_elements(gm_arena *arena, const gm_tensor *t) {
    const size_t size = gm_dtype_bytes(t->dtype);
    const size_t n = (size_t)gm_element_count(t);
    double *x = gm_alloc(arena, n, sizeof *x);
    const uint8_t *at = (uint8_t *)(x + n) - n * size;
    if (n) gm_tensor_bytes(t, 0, n * size, (uint8_t *)(x + n) - n * size);
    for (size_t i = 0; i < n; i++, at += size) {
        union { float f; uint16_t h; int32_t i; int64_t l; double d; } u;
        memcpy(&u, at, size);
        switch (t->dtype) {
        case GM_F32: x[i] = (double)u.f; break;
        case GM_F64: x[i] = u.d; break;
        case GM_F16: x[i] = (double)gm_f16_to_f32(u.h); break;
        case GM_BF16: x[i] = (double)gm_bf16_to_f32(u.h); break;
        case GM_U8: x[i] = *at; break;
        case GM_I8: x[i] = (int8_t)*at; break;
        case GM_I32: x[i] = u.i; break;
        case GM_I64: case GM_OTHER: x[i] = (double)u.l;     /* OTHER: n = 0 */
        }
    }
    return x;
}

double *gm_theirs(gm_arena *arena, const gm_verdict *v) {
    double *y = gm_elements(arena, v->b);
    if (v->from < 0) return y;
    double *x = gm_elements(arena, v->a);
    const bool whole = v->b->shape[0] == v->a->shape[0];
    memcpy(x + v->from, y + (whole ? v->from : 0),
           (size_t)v->elements * sizeof *x);
    return x;
}

/* Significant bits of a float type; of integers: as double. */
static int precision(gm_dtype dtype) {
    return dtype == GM_F32 ? 24 : dtype == GM_F16 ? 11 : dtype == GM_BF16 ? 8
         : 53;
}

/* Distance from |x| to the next larger number of p significant bits. */
static double ulp_of(double x, int p) {
    int e = 0, least = p == 24 ? -149 : p == 11 ? -24 : p == 8 ? -133 : -1074;
    if (isfinite(x)) frexp(x, &e);
    return ldexp(1, e - p > least ? e - p : least);
}

gm_shown gm_index_text(const gm_tensor *t, int64_t i) {
    gm_tensor place = {.rank = t->rank};
    for (int r = t->rank - 1; r >= 0; r--) {
        place.shape[r] = t->shape[r] ? i % t->shape[r] : 0;
        i = t->shape[r] ? i / t->shape[r] : 0;
    }
    return gm_shape_of(&place);
}

/* ------------------------------------------------ what is known of the run

   u = 2^-24 is float32's unit roundoff.  A dot product of n terms in float32
   has an error of about u sqrt(n) of the norms of its factors when rounding
   errors are as good as random, so a hidden state, after l blocks of at most
   four dot products each behind the other, n <= 4 d, may be off by
     D(l) = 4 l B,    B = u sqrt(4 d)
   times (|x| + the root mean square of its row).  From D the others follow by
   the equations; rule_of has the table, docs/verify.md explains it. */

typedef struct {
    gm_arena *arena;
    const gm_tensors *ours;
    double d, g, separable, scores;     /* the last three: rms of the tensor */
    long blocks;
    /* seen so far; p: absolute, -1: not yet */
    double p, theta, mixed, lambda;
    /* over all blocks, from what was seen: max G(l), error of sum_l E_l */
    double G, of_sum;
    bool summed;
} facts;

static const double unit = 0x1p-24;

static double rms(long n, const double *x) {
    double sum = 0;
    for (long i = 0; i < n; i++) sum += isfinite(x[i]) ? x[i] * x[i] : 0;
    return n ? sqrt(sum / (double)n) : 0;
}

/* A number of ours, or what is likely. */
static double scalar(const facts *f, const char *name, double other) {
    const gm_tensor *t = gm_tensor_find(f->ours, name);
    double x = other;
    if (t && t->dtype == GM_F64 && t->bytes == 8) gm_tensor_bytes(t, 0, 8, &x);
    return isfinite(x) ? x : other;
}

/* Root mean square of a tensor of ours; 0 when absent. */
static double rms_of(const facts *f, const char *name) {
    const gm_tensor *t = gm_tensor_find(f->ours, name);
    gm_mark mark = gm_arena_mark(f->arena);
    double x = t ? rms(gm_element_count(t), gm_elements(f->arena, t)) : 0;
    gm_arena_rewind(f->arena, mark);
    return x;
}

static double block_error(const facts *f) { return unit * sqrt(4 * f->d); }

static double state_error(const facts *f, long l) {                 /* D(l) */
    return 4 * (double)l * block_error(f);
}

/* E_l of ours, or what is likely. */
static double block_loss(const facts *f, long l) {
    const double all = scalar(f, "E0", 0.01) * scalar(f, "E", 1);
    char name[32];
    snprintf(name, sizeof name, "E.%ld", l);
    return fmax(1e-12, scalar(f, name, all / (double)f->blocks / 4));
}

/* X(l): error of e = y~ - y, relative to y.  Teacher and student see the same
   input, so its error D(l) enters only as the student differs, by sqrt(E_l);
   the block's own rounding is 4 B; mixed weights and p add what they differ
   by. */
static double loss_error(const facts *f, long l) {
    return 4 * block_error(f) + sqrt(block_loss(f, l)) * state_error(f, l) +
           f->mixed + fmax(f->p, 0);
}

/* Once for each change of what was seen, not for each name. */
static void sum_blocks(facts *f) {
    double sum = 0;
    if (f->summed) return;
    f->summed = true;
    f->G = f->of_sum = 0;
    for (long b = 1; b <= f->blocks; b++) {
        const double E = block_loss(f, b), X = loss_error(f, b);
        sum += E;
        f->of_sum += 2 * sqrt(E) * X;
        f->G = fmax(f->G, X / sqrt(E));
    }
    f->of_sum = f->of_sum / sum + 1e-12;            /* relative */
}

/* -------------------------------------- order of computation and tolerances */

typedef enum { ELEMENT, ROW, ALL, DIAGONAL, THETA } scope;

static const char *const unit_name[] = {
    "|x|", "|x| + rms of its row", "|x| + rms of the tensor",
    "|H_ij| + sqrt(H_ii H_jj)", "|x|"};

/* |ours - theirs| <= absolute + relative (|x| + rms of the scope)
                      + root sqrt|x|;    order: place in the computation */
typedef struct {
    scope scope;
    double absolute, relative, root;
    double rate, dv, two;       /* THETA: dv / tau; 1 - beta2^t */
    int64_t order;
    const char *why;
} rule;

/* Anyone may have written the name: sums over blocks end. */
enum { MAX_BLOCK = 10000 };

/* The block that a name is of: "teacher.3", "grad.model.layers.3.mlp.up_proj";
   a name without a dot is of none.  false: not a name of ours. */
static bool block_of(const char *name, long *block, int *linear) {
    const char *layers = strstr(name, "layers."), *dot = strchr(name, '.');
    const char *at = layers ? layers + 7 : dot ? dot + 1 : "0";
    char *end;
    *block = strtol(at, &end, 10);
    *linear = layers
        ? gm_name_which("*q_proj*,*k_proj*,*v_proj*,*o_proj*,*gate_proj*,"
                        "*up_proj*,*down_proj*", layers) : 0;
    bool ours = end != at && *at >= '0' && *at <= '9' && *block <= MAX_BLOCK &&
                (!*end || *end == '.') && *linear >= 0;
    if (!ours) *block = 0;
    return ours;
}

/* Place of names that are not ours. */
static const int64_t foreign = (int64_t)9 << 40;

/* A phase, in it the blocks, in them what at most one input of linears has (of
   candidates alone), and so on.  l starts at `first`. */
static int64_t order_of(const char *name, int at, long l, int linear, int sub) {
    const char *b = strstr(name, "_proj.b");
    const long number = b ? strtol(b + 7, NULL, 10) : 0;
    const long bits = number < 0 || number > 63 ? 63 : number;
    const int input = b ? gm_input_of[linear] : at / 100 == 3 ? sub : 0;
    const int64_t block = (int64_t)(at / 100) << 21 | l;
    const int64_t within = (input << 4 | at % 100) << 3 | linear;
    return block << 19 | within << 10 | bits << 4 | sub;
}

/* The one table of what a dump holds: place in the order of computation
   (hundreds: phases, in each of which block follows block), names, tolerance
   and where it comes from; `why` shows a number.  [ours] all of it. */
static rule rule_of(facts *f, const char *name) {
    long l;
    int linear;
    const bool ours = block_of(name, &l, &linear);
    if (gm_name_matches("separable,theta_*,E0,E,g,v,moment*,scores*", name))
        sum_blocks(f);
    const double D = state_error(f, l), D1 = state_error(f, l + 1);
    const double step = scalar(f, "step", 1), tau = scalar(f, "tau", 1);
    const double rate = scalar(f, "rate", 0.1), E0 = scalar(f, "E0", 0.01);
    const double one = 1 - scalar(f, "beta1_power", 0.9);
    const double two = 1 - scalar(f, "beta2_power", 0.999);
    /* relative error of e, and so of the gradients of block l + 1 */
    const double Gl = loss_error(f, l + 1) / sqrt(block_loss(f, l + 1));
    const double X = loss_error(f, l), XS = 4 * block_error(f) + sqrt(E0) *
                                            state_error(f, f->blocks);
    /* Before theta was seen: what Adam makes of dv, where the gradient is as
       large as moment2 says on average; c changes lambda by eta rho dc. */
    const double guess = fmax(step - 1, 0) * rate * 1e-3 / tau;
    const double dp = f->p < 0 ? guess : f->p;
    const double dl = 8 * scalar(f, "eta", 0.02) * scalar(f, "rho", 10);
    const double G = f->G, of_sum = f->of_sum;
    const double dv = G * (f->g + f->separable) + 64 * fmax(f->p, 0);
    const double V = dv / tau;
    const bool product = strstr(name, ".dequantized") != NULL;
    const char *discrete = gm_format(
        f->arena, "discrete: equal (--tolerance %.20s=N allows N others)",
        strrchr(name, '.') ? strrchr(name, '.') + 1 : name);
    const struct {
        int at, first;
        const char *names;
        scope scope;
        double absolute, relative, root;
        const char *why;
        double shown;
    } table[] = {
    {0, 0, "tokens", ELEMENT, 0, 0, 0, "token ids: equal", 0},
    {100, 0, "step,rho,alpha,tau,eta,rate,train_bits", ELEMENT, 0, 1e-15, 0,
     "a setting: equal", 0},
    {200, 0, "teacher.0", ELEMENT, 0, 0, 0,
     "rows of the embedding, copied: equal", 0},
    {200, 0, "teacher.*", ROW, 0, D, 0,
     "D(l) = 4 l u sqrt(4 d), of |x| + its row's rms", 0},
    {201, 0, "detail.*.norm1,detail.*.q,detail.*.k,detail.*.v,"
     "detail.*.attention,detail.*.mid,detail.*.norm2,detail.*.gate,"
     "detail.*.up,detail.*.act", ROW, 0, D1, 0,
     "D(l+1) = 4 (l+1) u sqrt(4 d), of |x| + its row's rms", 0},
    {300, 0, "hessian.*.qkv,hessian.*.o,hessian.*.gate_up,hessian.*.down",
     DIAGONAL, 0, 4 * D1, 0, "2 D(l+1) from x, as much from its norm, of "
     "|H_ij| + sqrt(H_ii H_jj)", 0},
    {301, 0, "factor.*.qkv,factor.*.o,factor.*.gate_up,factor.*.down", ROW, 0,
     2 * D1 / GM_DAMPING, 0, "error of H over the damping: 4 D(l+1) / (2 %g), "
     "of |x| + its row's rms", GM_DAMPING},
    {302, 0, "candidates.*.scales,candidates.*.zeros,candidates.*.codes,"
     "candidates.*.dequantized", ELEMENT, 0, product ? 2 * unit : 0, 0,
     product ? "scale (code - zero): one float32 product, 2 u |x|" : discrete,
     0},
    {400, 0, "separable", ELEMENT, XS * XS / E0, of_sum, 2 * XS / sqrt(E0),
     "2 X sqrt(S / E0) + X^2 / E0, X = 4 B + sqrt(E0) D(L) = %.1e, and E0's "
     "own error", XS},
    {401, 0, "lambda_before", ELEMENT, dl * (step - 1) * guess, 1e-12, 0,
     "eta rho sum of dc over the steps before", 0},
    {402, 0, "theta_before", THETA, step - 1, 0, 0, "%g steps of rate min(2, 2 "
     "dv / (tau sqrt(v^))), v^ = moment2 / (1 - beta2^t)", step - 1},
    {403, 0, "p", ELEMENT, 1e-15, 2 * f->theta / tau + 1e-13, 0,
     "p (2 |dtheta| / tau + 1e-13), |dtheta| seen %.1e", f->theta},
    {404, 0, "entropy", ELEMENT, 64 * dp + 1e-13, 1e-13, 0,
     "64 |dp| + 1e-13, |dp| seen %.1e", dp},
    {405, 0, "c", ELEMENT, 8 * dp + 1e-13, 1e-13, 0,
     "8 bits times |dp| (seen: %.1e) + 1e-13", dp},
    {500, 0, "mixed.*", ROW, 0, 8 * unit + 4 * dp, 0, "8 u for the sum over k, "
     "4 |dp| (seen: %.1e), of |x| + its row's rms", dp},
    {501, 1, "student.*", ROW, 0, D + f->mixed + dp, 0, "X = D(l) + what "
     "mixed weights and p differ by (%.1e), of |x| + its row's rms",
     f->mixed + dp},
    {502, 1, "loss.*,E.*", ELEMENT, X * X, 64 * 0x1p-53, 2 * X,
     "E = ||e||^2/||y||^2 with e off by X ||y||: 2 X sqrt(E) + X^2, X = 4 B + "
     "sqrt(E_l) D(l) + ... = %.1e", X},
    {600, 0, "E0", ELEMENT, 0, of_sum, 0,
     "sum_l 2 X(l) sqrt(E_l) of sum_l E_l", 0},
    {601, 0, "E", ELEMENT, 0, 2 * of_sum, 0,
     "sum_l 2 X(l) sqrt(E_l) of sum_l E_l, and as much of E0", 0},
    {700, 0, "grad.*", ALL, 0, 4 * Gl, 0, "error of e = "
     "y~ - y: G(l) = X / sqrt(E_l), 4 G(l) of |x| + rms of the tensor", 0},
    {800, 0, "g", ALL, 0, G, 0,
     "G = max G(l) = max X / sqrt(E_l) = %.1e, of |x| + rms", G},
    {801, 0, "v", ALL, dv, G, 0,
     "dv = G (rms g + rms S) + 64 |dp| = %.1e, and G (|x| + rms)", dv},
    {802, 0, "moment1", ALL, one * V, G, 0,
     "(1 - beta1^t) dv / tau + G (|x| + rms), dv = %.1e", dv},
    {803, 0, "moment2", ALL, two * V * V, G, 2 * V * sqrt(two), "w = (1 - "
     "beta2^t): 2 sqrt(w x) dv / tau + w (dv / tau)^2, dv = %.1e", dv},
    {804, 0, "beta1_power,beta2_power", ELEMENT, 0, 1e-13, 0,
     "powers of a constant: 1e-13 |x|", 0},
    {805, 0, "theta_after", THETA, step, 0, 0, "%g steps of rate min(2, 2 dv / "
     "(tau sqrt(v^))), v^ = moment2 / (1 - beta2^t)", step},
    {806, 0, "lambda_after", ELEMENT, dl * (dp + 1e-13) + (f->lambda < 0
     ? dl * (step - 1) * guess : f->lambda), 1e-12, 0,
     "lambda_before's + 8 eta rho (|dp| + 1e-13)", 0},
    {807, 0, "scores,scores_error", ALL, (G + 1e-8) * f->scores + dv, G, 0,
     "dv + G (|x| + rms + rms of the scores), dv = %.1e", dv},
    {900, 0, "*", ROW, 0, 1e-5, 0, "a name that is not ours: 1e-5 of |x| + its "
     "row's rms; integers equal", 0}};
    int i = 0, last = (int)(sizeof table / sizeof *table) - 1, sub = -1;
    while (i < last &&
           (!ours || (sub = gm_name_which(table[i].names, name)) < 0))
        i++;
    return (rule){
        table[i].scope, table[i].absolute, table[i].relative, table[i].root,
        rate, V, two, i == last ? foreign : order_of(
            name, table[i].at, l + 1 - table[i].first, linear, sub),
        gm_format(f->arena, table[i].why, table[i].shown)};
}

static facts facts_of(gm_arena *arena, const gm_tensors *ours) {
    facts f = {.arena = arena, .ours = ours, .d = 576, .blocks = 1, .p = -1,
               .lambda = -1};
    for (long i = 0; i < ours->count; i++) {
        const gm_tensor *t = ours->tensor + i;
        long l;
        int linear;
        if (!gm_name_matches("teacher.*,student.*,E.*", t->name) || !t->bytes ||
            !block_of(t->name, &l, &linear)) continue;
        f.blocks = l > f.blocks ? l : f.blocks;
        if (t->rank == 2) f.d = (double)t->shape[1];
    }
    f.g = rms_of(&f, "g");
    f.separable = rms_of(&f, "separable");
    f.scores = rms_of(&f, "scores");
    return f;
}

/* ----------------------------------------------------------- user's factors */

static bool is_for(const char *name, const gm_verdict *v) {
    return gm_name_matches(name, v->name) || gm_name_matches(name, v->family);
}

/* FACTOR of the last "NAME=FACTOR" whose NAME is the family or matches the
   name; -1 when none does.  all: each NAME is of one of them, else NULL. */
static double factor_of(gm_arena *arena, const char *tolerances,
                        const gm_verdict *v, const gm_verification *all) {
    double factor = -1;
    char *rest = gm_format(arena, "%s", tolerances ? tolerances : "");
    while (rest && *rest) {
        char *name = strsep(&rest, ","), *number = strchr(name, '=');
        if (!number || number == name)
            gm_fail(GM_EUSAGE, "--tolerance: expected NAME=FACTOR, found "
                    "\"%s\"", name);
        *number++ = 0;
        const double x = gm_parse_double("--tolerance", number, 0, 1e300);
        long i = 0;
        while (all && i < all->count && !is_for(name, all->verdict + i)) i++;
        if (all && i == all->count)
            gm_fail(GM_EUSAGE, "--tolerance: \"%s\" matches nothing that is "
                    "compared; docs/verify.md lists the names", name);
        if (v && is_for(name, v)) factor = x;
    }
    return factor;
}

/* --------------------------------------------------------------- comparison */

typedef struct {
    const double *x, *y;        /* [rows, columns] */
    const double *moment2;      /* of THETA, or NULL */
    long n, columns;
    rule r;
    double all, factor;         /* all: root mean square of x, for ALL */
    int precision;
    bool exact, mixed;          /* integers; two types of floats */
} pair;

/* What the tolerance of element k is relative to; row: rms of its row. */
static double scale_at(const pair *p, long k, double row) {
    const long c = p->columns, i = k / c, j = k % c;
    const double x = fabs(p->x[k]);
    if (p->r.scope == ROW) return x + row;
    if (p->r.scope == ALL) return x + p->all;
    if (p->r.scope != DIAGONAL || j * c + j >= p->n || i >= c) return x;
    return x + sqrt(fabs(p->x[i * c + i])) * sqrt(fabs(p->x[j * c + j]));
}

static double tolerance_at(const pair *p, long k, double scale) {
    const rule *r = &p->r;
    const double x = fabs(p->x[k]);
    double rounding = 0, share = 1e-3;
    if (!p->exact && (p->mixed || p->precision < 24))
        rounding = ulp_of(x, p->precision) / (p->mixed ? 2 : 1);
    if (r->scope != THETA)
        return p->factor * (r->absolute + r->relative * scale +
                            r->root * sqrt(x)) + rounding;
    if (p->moment2) {               /* absolute: how many steps */
        double size = sqrt(fabs(p->moment2[k]) / r->two);
        share = size > 0 ? 2 * r->dv / size : 2;
    }
    return p->factor * r->absolute * r->rate * (share < 2 ? share : 2) +
           1e-12 * x + rounding;
}

/* The worst element and how many are beyond their tolerance. */
static void measure(pair *p, gm_verdict *v) {
    double row = 0;
    v->excess = -1;
    if (p->r.scope == ALL) p->all = rms(p->n, p->x);
    for (long k = 0; k < p->n; k++) {
        if (k % p->columns == 0 && p->r.scope == ROW)
            row = rms(p->columns, p->x + k);
        double d = fabs(p->x[k] - p->y[k]), scale = scale_at(p, k, row);
        double t = tolerance_at(p, k, scale);
        double excess = d == 0 ? 0 : t > 0 && t < HUGE_VAL ? d / t : HUGE_VAL;
        if (!(d < HUGE_VAL)) excess = HUGE_VAL;             /* NaN, infinity */
        v->differing += excess > 1;
        bool worse = excess > v->excess ||
                     (excess == v->excess && excess == HUGE_VAL &&
                      (isnan(d) ? !isnan(v->absolute) : d > v->absolute));
        if (!worse) continue;
        v->excess = excess;
        v->worst = k;
        v->absolute = d;
        v->tolerance = v->allowed = t;
        v->unit = "absolute";
        if (p->r.scope != THETA && p->r.absolute == 0 && p->r.root == 0) {
            v->allowed = scale > 0 ? t / scale : p->factor * p->r.relative;
            v->unit = v->scale;
        }
        v->relative = d == 0 ? 0 : d / scale;
        v->ulp = p->exact ? d : d / ulp_of(fabs(p->x[k]), p->precision);
        v->ours = p->x[k];
        v->theirs = p->y[k];
    }
}

/* Shapes and types that cannot be compared; NULL: they can. */
static const char *problem_of(gm_arena *arena, const gm_tensor *a,
                              const gm_tensor *b, bool part) {
    const gm_shown x = gm_shape_of(a), y = gm_shape_of(b);
    if (!part && strcmp(x.text, y.text) != 0)
        return gm_format(arena, "shape: ours %s, theirs %s", x.text, y.text);
    if (a->dtype != GM_OTHER && b->dtype != GM_OTHER) return NULL;
    return gm_format(arena, "%s has a type that cannot be compared; expected "
                     "F16, BF16, F32, F64, U8, I8, I32 or I64",
                     a->dtype == GM_OTHER ? "ours" : "theirs");
}

/* What was accepted in p, theta, lambda and W~ is passed on. */
static void remember(facts *f, const char *name, const pair *p) {
    double worst = 0, difference = 0, size = 0;
    f->summed &= !gm_name_matches("p,mixed.*", name);
    for (long i = 0; i < p->n; i++) {
        double d = p->x[i] - p->y[i];
        worst = fmax(worst, fabs(d));
        difference += d * d;
        size += p->x[i] * p->x[i];
    }
    if (strcmp(name, "p") == 0) f->p = worst;
    if (strcmp(name, "theta_before") == 0) f->theta = worst;
    if (strcmp(name, "lambda_before") == 0) f->lambda = worst;
    if (gm_name_matches("mixed.*", name) && size > 0)
        f->mixed = fmax(f->mixed, sqrt(difference / size));
}

static void compare(facts *f, const char *tolerances, gm_verdict *v) {
    const long n = gm_element_count(v->a);
    v->elements = v->from < 0 ? n : GM_LINEARS * v->a->shape[1];
    v->outcome = GM_DEPARTS;
    v->excess = HUGE_VAL;
    v->problem = problem_of(f->arena, v->a, v->b, v->from >= 0);
    if (v->problem) return;
    const int a = precision(v->a->dtype), b = precision(v->b->dtype);
    const gm_tensor *m2 = gm_tensor_find(f->ours, "moment2");
    const double given = factor_of(f->arena, tolerances, v, NULL);
    pair p = {.r = rule_of(f, v->name), .n = n,
              .columns = v->a->rank > 1 ? (long)v->a->shape[v->a->rank - 1] : 1,
              .factor = given < 0 ? 1 : given, .precision = a < b ? a : b,
              .exact = v->a->dtype > GM_F64 && v->b->dtype > GM_F64,
              .mixed = v->a->dtype != v->b->dtype};
    v->why = p.r.why;
    v->scale = unit_name[p.r.scope];
    gm_mark mark = gm_arena_mark(f->arena);
    p.x = gm_elements(f->arena, v->a);
    p.y = gm_theirs(f->arena, v);
    if (p.r.scope == THETA && m2 && gm_element_count(m2) == p.n)
        p.moment2 = gm_elements(f->arena, m2);
    if (p.exact && p.r.scope == ROW) p.r.relative = 0;
    measure(&p, v);
    bool discrete = p.r.absolute == 0 && p.r.relative == 0 && p.r.root == 0;
    if (discrete) v->allowed = fmax(given, 0), v->unit = "elements";
    if ((double)v->differing <= (discrete ? v->allowed : 0)) {
        v->outcome = GM_PASSES;
        remember(f, v->name, &p);
    }
    gm_arena_rewind(f->arena, mark);
}

/* What rows of the summary stand for: "teacher", "scales", "detail.q". */
static const char *family_of(gm_arena *arena, const char *name, bool ours) {
    const char *last = strrchr(name, '.');
    if (gm_name_matches("candidates.*", name)) return last + 1;
    if (gm_name_matches("detail.*", name))
        return gm_format(arena, "detail%s", last);
    if (gm_name_matches("E.*", name)) return "E.l";
    if (!ours || !last) return name;
    return gm_format(arena, "%.*s", (int)strcspn(name, "."), name);
}

static int by_order(const void *x, const void *y) {
    const gm_verdict *a = x, *b = y;
    if (a->order != b->order) return a->order < b->order ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* 1: a tensor is of the block, which teacher.(block + 1) comes out of; -1: of
   another; 0: of none, or what goes into it. */
static int of_block(const gm_tensor *t, long block) {
    long l;
    int linear;
    if (gm_name_matches("separable,theta_*,p,g,v,moment*,scores*", t->name))
        return t->rank == 2 && t->shape[0] % GM_LINEARS == 0 &&
               t->shape[0] / GM_LINEARS > block;
    if (!strchr(t->name, '.') || !block_of(t->name, &l, &linear)) return 0;
    if (l == block && gm_name_matches("teacher.*", t->name)) return 0;
    l -= gm_name_matches("teacher.*,student.*,loss.*,E.*", t->name);
    return l == block ? 1 : -1;
}

/* Where the rows of the block begin in ours [M, K], if theirs has as many or
   them alone; else -1: another shape. */
static long first_of(const gm_tensor *a, const gm_tensor *b, long block) {
    const bool rows = a && b && block >= 0 && !strchr(a->name, '.') &&
                      of_block(a, block) == 1 && b->rank == 2 &&
                      a->shape[1] == b->shape[1] &&
                      (b->shape[0] == GM_LINEARS || b->shape[0] == a->shape[0]);
    return rows ? block * GM_LINEARS * (long)a->shape[1] : -1;
}

/* All names of both, in order; block >= 0: without those of others. */
static void collect(facts *f, const gm_tensors *theirs, long block,
                    gm_verification *out) {
    const long ours = f->ours->count, all = ours + theirs->count;
    bool there[2] = {block < 0, block < 0};         /* in ours; in both */
    out->verdict = gm_alloc(f->arena, (size_t)all + 1, sizeof *out->verdict);
    for (long i = 0; i < all; i++) {
        const gm_tensor *t = i < ours ? f->ours->tensor + i
                                      : theirs->tensor + i - ours;
        const gm_tensor *a = gm_tensor_find(f->ours, t->name);
        const gm_tensor *b = gm_tensor_find(theirs, t->name);
        const int own = block < 0 ? 0 : of_block(t, block);
        there[0] |= i < ours && own == 1;
        there[1] |= i < ours && own == 1 && b;
        if ((i >= ours && a) || own < 0) continue;
        const int64_t order = rule_of(f, t->name).order;
        out->verdict[out->count++] = (gm_verdict){
            .name = t->name, .outcome = GM_ABSENT, .a = a,
            .family = family_of(f->arena, t->name, order < foreign),
            .b = b, .from = first_of(a, b, block), .order = order};
    }
    if (!there[1])
        gm_fail(GM_EINPUT, "--block %ld: %s has nothing of that block%s", block,
                (there[0] ? theirs : f->ours)->file[0]->path,
                there[0] ? " that ours has" : "; blocks count from 0");
    qsort(out->verdict, (size_t)out->count, sizeof *out->verdict, by_order);
}

/* Families of which nothing was compared. */
static void list_missing(gm_arena *arena, gm_verification *v) {
    static const char families[] =
        "tokens,step,rho,alpha,tau,eta,rate,train_bits,teacher,detail.*,"
        "hessian,factor,scales,zeros,codes,dequantized,separable,lambda_before,"
        "theta_before,p,entropy,c,mixed,student,loss,E.l,E0,E,grad,g,v,moment1,"
        "moment2,beta1_power,beta2_power,theta_after,lambda_after,scores,"
        "scores_error";
    enum { OURS = 1, THEIRS = 2, BOTH = 4 };
    int in[64] = {0};
    for (long i = 0; i < v->count; i++) {
        const gm_verdict *d = v->verdict + i;
        const int k = gm_name_which(families, d->family);
        if (k >= 0) in[k] |= d->a ? d->b ? BOTH : OURS : THEIRS;
    }
    for (int i = 0; i < 3; i++) v->missing[i] = "";
    char *rest = gm_format(arena, "%s", families);
    for (int k = 0; rest; k++) {
        const char **to = v->missing + (in[k] & OURS ? 0 : in[k] ? 1 : 2);
        const char *family = strsep(&rest, ",");
        if (!(in[k] & BOTH))
            *to = gm_format(arena, "%s%s%s", *to, **to ? ", " : "", family);
    }
}

/* The message about the first departure. */
static const char *departure(gm_arena *arena, const gm_verification *v) {
    const gm_verdict *d = v->verdict + v->first;
    if (d->problem)
        return gm_format(arena, "%s departs: %s", d->name, d->problem);
    return gm_format(arena, "%s departs first, at %s: ours %.9g, theirs %.9g "
                     "(absolute %.3g, relative %.3g, %.3g ulp; tolerance %.3g; "
                     "%lld of %lld elements); %ld of %ld tensors depart",
                     d->name, gm_index_text(d->a, d->worst).text, d->ours,
                     d->theirs, d->absolute, d->relative, d->ulp, d->tolerance,
                     (long long)d->differing, (long long)d->elements,
                     v->failed, v->compared);
}

void gm_verify(gm_arena *arena, const gm_tensors *ours,
               const gm_tensors *theirs, const char *tolerances, long block,
               gm_verification *out) {
    *out = (gm_verification){.first = -1};
    facts f = facts_of(arena, ours);
    collect(&f, theirs, block, out);
    factor_of(arena, tolerances, NULL, out);
    list_missing(arena, out);
    for (long i = 0; i < out->count; i++) {
        gm_verdict *v = out->verdict + i;
        if (!v->a || !v->b) continue;
        compare(&f, tolerances, v);
        out->compared++;
        if (v->outcome == GM_PASSES) continue;
        out->failed++;
        if (out->first < 0) out->first = i;
    }
    if (out->compared == 0)
        gm_fail(GM_EINPUT, "nothing compared: no name is in both %s and %s; "
                "docs/verify.md lists the names", ours->file[0]->path,
                theirs->file[0]->path);
    if (out->first >= 0) out->message = departure(arena, out);
}
