/* verify.c: compares two dumps (dump.c, or another program's with the same
   names) in the order of computation.  Each quantity has a tolerance derived
   from how it is computed; what both sides already agreed to differ in (p, the
   mixed weights) is passed on to what is computed from it, so the first
   departure is where the programs part, not where rounding ends up.  Reads
   mapped files, writes nothing.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------- order of computation */

typedef struct { int phase; long block; int item, sub; } order;

enum { TOKENS, SETTINGS, TEACHER, CANDIDATES, SEPARABLE, RELAXATION, STUDENT,
       LOSS, GRADIENT, UPDATE, OTHER };

static const struct { const char *name; int phase, item; } singles[] = {
    {"tokens", TOKENS, 0}, {"step", SETTINGS, 0}, {"rho", SETTINGS, 1},
    {"alpha", SETTINGS, 2}, {"tau", SETTINGS, 3}, {"eta", SETTINGS, 4},
    {"rate", SETTINGS, 5}, {"train_bits", SETTINGS, 6},
    {"separable", SEPARABLE, 0}, {"lambda_before", RELAXATION, 0},
    {"theta_before", RELAXATION, 1}, {"p", RELAXATION, 2},
    {"entropy", RELAXATION, 3}, {"c", RELAXATION, 4}, {"E0", LOSS, 0},
    {"E", LOSS, 1}, {"g", UPDATE, 0}, {"v", UPDATE, 1},
    {"moment1", UPDATE, 2}, {"moment2", UPDATE, 3},
    {"beta1_power", UPDATE, 4}, {"beta2_power", UPDATE, 5},
    {"theta_after", UPDATE, 6}, {"lambda_after", UPDATE, 7},
    {"scores", UPDATE, 8}, {"scores_error", UPDATE, 9}};

static const char *const inside[] = {
    "norm1", "q", "k", "v", "attention", "mid", "norm2", "gate", "up", "act"};
static const char *const linears[] = {
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
    "down_proj"};
static const char *const inputs[] = {"qkv", "o", "gate_up", "down"};
static const char *const parts[] = {"scales", "zeros", "codes",
                                    "dequantized"};
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* The first word that `text` contains or ends with, or -1. */
static int which(const char *text, const char *const *word, int count) {
    for (int i = 0; i < count; i++)
        if (strcmp(text, word[i]) == 0) return i;
    return -1;
}

static bool starts(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

/* A number in a name, which anyone may have written. */
enum { MOST_NUMBER = 1000000 };
static long number_at(const char *text) {
    long n = strtol(text, NULL, 10);
    return n < 0 || n > MOST_NUMBER ? MOST_NUMBER : n;
}

/* Block and linear of a name that holds "layers.3.mlp.up_proj". */
static bool module_of(const char *name, long *block, int *linear) {
    const char *at = strstr(name, "layers.");
    if (!at) return false;
    *block = number_at(at + 7);
    for (*linear = 0; *linear < GM_LINEARS; ++*linear)
        if (strstr(at, linears[*linear])) return true;
    return false;
}

/* "teacher.3": the number after `word`, and what follows it. */
static bool numbered(const char *name, const char *word, long *number,
                     const char **rest) {
    char *end;
    if (!starts(name, word) || name[strlen(word)] < '0' ||
        name[strlen(word)] > '9')
        return false;
    *number = strtol(name + strlen(word), &end, 10);
    if (*number > MOST_NUMBER) return false;
    *rest = *end == '.' ? end + 1 : end;
    return rest[0] == end ? !*end : true;
}

static order order_of_block(const char *name) {
    static const int input_of[] = {0, 0, 0, 1, 2, 2, 3};
    const char *rest;
    long l;
    int j;
    if (numbered(name, "teacher.", &l, &rest))
        return (order){TEACHER, l, 0, 0};
    if (numbered(name, "detail.", &l, &rest))
        return (order){TEACHER, l, 1 + which(rest, inside, COUNT(inside)), 0};
    if (numbered(name, "hessian.", &l, &rest))
        return (order){CANDIDATES, l, 10 * which(rest, inputs, 4), 0};
    if (numbered(name, "factor.", &l, &rest))
        return (order){CANDIDATES, l, 10 * which(rest, inputs, 4) + 1, 0};
    if (numbered(name, "student.", &l, &rest))
        return (order){STUDENT, l - 1, 10, 0};
    if (numbered(name, "loss.", &l, &rest))
        return (order){STUDENT, l - 1, 11, 0};
    if (numbered(name, "E.", &l, &rest)) return (order){STUDENT, l - 1, 12, 0};
    if (!module_of(name, &l, &j)) return (order){OTHER, 0, 0, 0};
    if (starts(name, "mixed.")) return (order){STUDENT, l, j, 0};
    if (starts(name, "grad.")) return (order){GRADIENT, l, j, 0};
    const char *b = strstr(name, "_proj.b"), *part = strrchr(name, '.');
    if (!starts(name, "candidates.") || !b) return (order){OTHER, 0, 0, 0};
    return (order){CANDIDATES, l, 10 * input_of[j] + 2 + j,
                   4 * (int)number_at(b + 7) +
                       which(part + 1, parts, COUNT(parts))};
}

static order order_of(const char *name) {
    for (int i = 0; i < COUNT(singles); i++)
        if (strcmp(name, singles[i].name) == 0)
            return (order){singles[i].phase, 0, singles[i].item, 0};
    return order_of_block(name);
}

static int by_order(const void *x, const void *y) {
    const char *s = ((const gm_verdict *)x)->name;
    const char *t = ((const gm_verdict *)y)->name;
    order a = order_of(s), b = order_of(t);
    if (a.phase != b.phase) return a.phase < b.phase ? -1 : 1;
    if (a.block != b.block) return a.block < b.block ? -1 : 1;
    if (a.item != b.item) return a.item < b.item ? -1 : 1;
    if (a.sub != b.sub) return a.sub < b.sub ? -1 : 1;
    return strcmp(s, t);
}

/* What rows of the summary stand for: "teacher", "scales", "detail.q". */
static const char *family_of(gm_arena *arena, const char *name) {
    order o = order_of(name);
    if (starts(name, "candidates.")) return strrchr(name, '.') + 1;
    if (starts(name, "detail.")) return gm_format(arena, "detail.%s",
                                                  strrchr(name, '.') + 1);
    if (starts(name, "E.")) return "E.l";
    if (o.phase == OTHER || !strchr(name, '.')) return name;
    return gm_format(arena, "%.*s", (int)strcspn(name, "."), name);
}

/* ---------------------------------------------------------------- elements */

void gm_elements(gm_arena *arena, const gm_tensor *t, double **out) {
    size_t size = gm_dtype_bytes(t->dtype), n = size ? t->bytes / size : 0;
    double *x = *out = gm_alloc(arena, n, sizeof *x);
    gm_mark mark = gm_arena_mark(arena);
    const uint8_t *data = gm_tensor_data(arena, t);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *at = data + i * size;
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
    gm_arena_rewind(arena, mark);
}

static int64_t count_of(const gm_tensor *t) {
    size_t size = gm_dtype_bytes(t->dtype);
    return size ? (int64_t)(t->bytes / size) : 0;
}

/* Significant bits of a float type; of integers: as double. */
static int precision(gm_dtype dtype) {
    return dtype == GM_F32 ? 24 : dtype == GM_F16 ? 11 : dtype == GM_BF16 ? 8
         : 53;
}

/* Distance from |x| to the next larger number of p significant bits. */
static double ulp_of(double x, int p) {
    int e, least = p == 24 ? -149 : p == 11 ? -24 : p == 8 ? -133 : -1074;
    frexp(x, &e);
    return ldexp(1, e - p > least ? e - p : least);
}

const char *gm_index_text(const gm_tensor *t, int64_t i, char text[96]) {
    int64_t stride = 1;
    int n = 0;
    for (int r = 1; r < t->rank; r++) stride *= t->shape[r];
    for (int r = 0; r < t->rank && n < 90; r++) {
        n += snprintf(text + n, 96 - (size_t)n, "%s%lld", r ? ", " : "[",
                      (long long)(stride ? i / stride : 0));
        if (r + 1 < t->rank && stride) {
            i %= stride;
            stride /= t->shape[r + 1];
        }
    }
    snprintf(text + n, 96 - (size_t)n, n ? "]" : "[]");
    return text;
}

/* -------------------------------------------------------------- tolerances

   u = 2^-24 is float32's unit roundoff.  A dot product of n terms in float32
   has an error of about u sqrt(n) of the norms of its factors when rounding
   errors are as good as random, so a hidden state, after l blocks of at most
   four dot products each behind the other, n <= 4 d, may be off by
     D(l) = 4 l B,    B = u sqrt(4 d)
   times (|x| + the root mean square of its row).  From D the others follow by
   the equations; docs/verify.md has the table. */

typedef enum { ELEMENT, ROW, ALL, DIAGONAL, THETA } scope;

/* |ours - theirs| <= absolute + relative (|x| + rms of the scope)
                      + root sqrt|x| */
typedef struct {
    double absolute, relative, root;
    scope scope;
    char why[200];
} rule;

/* What is known of the run from the dumps, and what was agreed so far. */
typedef struct {
    const gm_tensors *ours, *theirs;
    gm_arena *arena;
    double d, blocks, step, tau, rate, eta, rho, E0, E, damping;
    double p_error, theta_error, mixed_error;   /* seen; p: absolute */
    double lambda_error;
    bool p_seen, lambda_seen;
    double rms_v, rms_g, rms_S, rms_scores;     /* of ours */
} facts;

static double scalar_of(const gm_tensors *t, const char *name, double other) {
    const gm_tensor *x = gm_tensor_find(t, name);
    double value = other;
    if (x && x->dtype == GM_F64 && x->bytes == 8) gm_tensor_bytes(x, 0, 8, &value);
    return isfinite(value) ? value : other;
}

/* Root mean square of a tensor of ours; 0 when absent. */
static double rms_of(facts *f, const char *name) {
    const gm_tensor *t = gm_tensor_find(f->ours, name);
    double *x, sum = 0;
    if (!t) return 0;
    gm_mark mark = gm_arena_mark(f->arena);
    gm_elements(f->arena, t, &x);
    int64_t n = count_of(t);
    for (int64_t i = 0; i < n; i++) sum += isfinite(x[i]) ? x[i] * x[i] : 0;
    gm_arena_rewind(f->arena, mark);
    return n ? sqrt(sum / (double)n) : 0;
}

static facts facts_of(gm_arena *arena, const gm_tensors *ours,
                      const gm_tensors *theirs) {
    facts f = {.arena = arena, .ours = ours, .theirs = theirs, .d = 576,
               .blocks = 1, .damping = GM_DAMPING};
    for (long i = 0; i < ours->count; i++) {
        const gm_tensor *t = ours->tensor + i;
        long l;
        const char *rest;
        if (!numbered(t->name, "teacher.", &l, &rest) &&
            !numbered(t->name, "student.", &l, &rest) &&
            !numbered(t->name, "E.", &l, &rest)) continue;
        f.blocks = (double)l > f.blocks ? (double)l : f.blocks;
        if (t->rank == 2) f.d = (double)t->shape[1];
    }
    f.step = scalar_of(ours, "step", 1);
    f.tau = scalar_of(ours, "tau", 1);
    f.rate = scalar_of(ours, "rate", 0.1);
    f.eta = scalar_of(ours, "eta", 0.02);
    f.rho = scalar_of(ours, "rho", 10);
    f.E0 = scalar_of(ours, "E0", 0.01);
    f.E = scalar_of(ours, "E", 1);
    f.rms_v = rms_of(&f, "v");
    f.rms_g = rms_of(&f, "g");
    f.rms_S = rms_of(&f, "separable");
    f.rms_scores = rms_of(&f, "scores");
    return f;
}

static const double unit = 0x1p-24;

/* B and D(l). */
static double block_error(const facts *f) { return unit * sqrt(4 * f->d); }
static double state_error(const facts *f, double l) {
    return 4 * l * block_error(f);
}

/* E_l of ours, or what is likely. */
static double block_loss(const facts *f, long l) {
    char name[32];
    snprintf(name, sizeof name, "E.%ld", l);
    double E = scalar_of(f->ours, name, f->E0 * f->E / f->blocks / 4);
    return E > 1e-12 ? E : 1e-12;
}

/* X(l): error of e = y~ - y, relative to y.  Teacher and student see the same
   input, so its error D(l) enters only as the student differs, by sqrt(E_l);
   the block's own rounding is 4 B; mixed weights and p add what they differ
   by. */
static double loss_error(const facts *f, long l) {
    return 4 * block_error(f) + sqrt(block_loss(f, l)) *
           state_error(f, (double)l) + f->mixed_error + f->p_error;
}

/* G(l) = X(l) / sqrt(E_l): relative error of e, and so of block l's
   gradients.  G: the largest. */
static double gradient_error(const facts *f, long l) {
    return loss_error(f, l) / sqrt(block_loss(f, l));
}

/* Error of sum_l E_l, relative to it. */
static double sum_error(const facts *f) {
    double error = 0, sum = 0;
    for (long l = 1; l <= (long)f->blocks; l++) {
        sum += block_loss(f, l);
        error += 2 * sqrt(block_loss(f, l)) * loss_error(f, l);
    }
    return error / sum + 1e-12;
}

static double largest_gradient_error(const facts *f) {
    double most = 0;
    for (long l = 1; l <= (long)f->blocks; l++)
        most = fmax(most, gradient_error(f, l));
    return most;
}

/* Error of v, and so of its softmax gradient. */
static double v_error(const facts *f) {
    return largest_gradient_error(f) * (f->rms_g + f->rms_S) +
           64 * f->p_error;
}

/* Before theta was seen: what Adam makes of v_error after `steps`, where the
   gradient is as large as moment2 says on average. */
static double theta_guess(const facts *f, double steps) {
    return steps <= 0 ? 0 : steps * f->rate * 1e-3;
}

/* Of lambda: eta rho dc for each step before. */
static double before_error(const facts *f) {
    return f->eta * f->rho * 8 * (f->step - 1) *
           theta_guess(f, f->step - 1) / f->tau;
}

static double p_error(const facts *f) {
    return f->p_seen ? f->p_error
                     : theta_guess(f, f->step - 1) / f->tau;
}

__attribute__((format(printf, 6, 7)))
static void set(rule *r, scope where, double absolute, double relative,
                double root, const char *why, ...) {
    va_list list;
    va_start(list, why);
    *r = (rule){absolute, relative, root, where, ""};
    vsnprintf(r->why, sizeof r->why, why, list);
    va_end(list);
}

/* Quantities of a block. */
static void block_rule(const facts *f, const char *name, long l, rule *r) {
    const double D = state_error(f, (double)l), p = p_error(f);
    if (starts(name, "teacher.") && l == 0)
        set(r, ELEMENT, 0, 0, 0, "rows of the embedding, copied: equal");
    else if (starts(name, "teacher."))
        set(r, ROW, 0, D, 0, "D(l) = 4 l u sqrt(4 d), of |x| + its row's rms");
    else if (starts(name, "detail."))
        set(r, ROW, 0, state_error(f, (double)l + 1), 0,
            "D(l+1) = 4 (l+1) u sqrt(4 d), of |x| + its row's rms");
    else if (starts(name, "hessian."))
        set(r, DIAGONAL, 0, 4 * state_error(f, (double)l + 1), 0,
            "2 D(l+1) from x, as much from its norm, of |H_ij| + "
            "sqrt(H_ii H_jj)");
    else if (starts(name, "factor."))
        set(r, ROW, 0, 2 * state_error(f, (double)l + 1) / f->damping, 0,
            "error of H over the damping: 4 D(l+1) / (2 %g), of |x| + its "
            "row's rms", f->damping);
    else if (starts(name, "mixed."))
        set(r, ROW, 0, 8 * unit + 4 * p, 0,
            "8 u for the sum over k, 4 |dp| (seen: %.1e), of |x| + its row's "
            "rms", p);
    else if (starts(name, "student."))
        set(r, ROW, 0, D + f->mixed_error + p, 0,
            "X = D(l) + what mixed weights and p differ by (%.1e), of |x| + "
            "its row's rms", f->mixed_error + p);
    else if (starts(name, "grad."))
        set(r, ALL, 0, 4 * gradient_error(f, l + 1), 0,
            "error of e = y~ - y: G(l) = X / sqrt(E_l), 4 G(l) of |x| + rms "
            "of the tensor");
    else {                                      /* loss.l, E.l */
        double X = loss_error(f, l);
        set(r, ELEMENT, X * X, 64 * 0x1p-53, 2 * X,
            "E = ||e||^2/||y||^2 with e off by X ||y||: 2 X sqrt(E) + X^2, X = "
            "4 B + sqrt(E_l) D(l) + ... = %.1e", X);
    }
}

/* candidates.*: discrete, hence equal; dequantized within a rounding. */
static void candidate_rule(const char *name, rule *r) {
    if (strstr(name, ".dequantized"))
        set(r, ELEMENT, 0, 2 * unit, 0,
            "scale (code - zero): one float32 product, 2 u |x|");
    else
        set(r, ELEMENT, 0, 0, 0, "discrete: equal (--tolerance %s=N allows "
            "N others)", strrchr(name, '.') + 1);
}

static void relaxation_rule(const facts *f, const char *name, rule *r) {
    const double p = p_error(f);
    if (strcmp(name, "theta_before") == 0)
        set(r, THETA, f->step - 1, 0, 0, "%g steps of rate min(2, 2 dv / "
            "(tau sqrt(v^))), v^ = moment2 / (1 - beta2^t)", f->step - 1);
    else if (strcmp(name, "p") == 0)
        set(r, ELEMENT, 1e-15, 2 * f->theta_error / f->tau + 1e-13, 0,
            "p (2 |dtheta| / tau + 1e-13), |dtheta| seen %.1e",
            f->theta_error);
    else if (strcmp(name, "lambda_before") == 0)
        set(r, ELEMENT, before_error(f), 1e-12, 0,
            "eta rho sum of dc over the steps before");
    else if (strcmp(name, "entropy") == 0)
        set(r, ELEMENT, 64 * p + 1e-13, 1e-13, 0,
            "64 |dp| + 1e-13, |dp| seen %.1e", p);
    else
        set(r, ELEMENT, 8 * p + 1e-13, 1e-13, 0,
            "8 bits times |dp| (seen: %.1e) + 1e-13", p);
}

static void update_rule(const facts *f, const char *name, rule *r) {
    const double G = largest_gradient_error(f), V = v_error(f) / f->tau;
    const double one = 1 - scalar_of(f->ours, "beta1_power", 0.9);
    const double two = 1 - scalar_of(f->ours, "beta2_power", 0.999);
    if (strcmp(name, "g") == 0)
        set(r, ALL, 0, G, 0, "G = max G(l) = max X / sqrt(E_l) = %.1e, of |x| "
            "+ rms", G);
    else if (strcmp(name, "v") == 0)
        set(r, ALL, v_error(f), G, 0, "dv = G (rms g + rms S) + 64 |dp| = "
            "%.1e, and G (|x| + rms)", v_error(f));
    else if (strcmp(name, "moment1") == 0)
        set(r, ALL, one * V, G, 0, "(1 - beta1^t) dv / tau + G (|x| + rms), "
            "dv = %.1e", v_error(f));
    else if (strcmp(name, "moment2") == 0)
        set(r, ALL, two * V * V, G, 2 * V * sqrt(two), "w = (1 - beta2^t): "
            "2 sqrt(w x) dv / tau + w (dv / tau)^2, dv = %.1e", v_error(f));
    else if (strcmp(name, "theta_after") == 0)
        set(r, THETA, f->step, 0, 0, "%g steps of rate min(2, 2 dv / (tau "
            "sqrt(v^))), v^ = moment2 / (1 - beta2^t)", f->step);
    else if (strcmp(name, "lambda_after") == 0)
        set(r, ELEMENT, f->eta * f->rho * 8 * p_error(f) + (f->lambda_seen
            ? f->lambda_error : before_error(f)), 1e-12, 0,
            "lambda_before's + eta rho 8 |dp|");
    else if (starts(name, "scores"))
        set(r, ALL, (G + 1e-8) * f->rms_scores + v_error(f), G, 0,
            "dv + G (|x| + rms + rms of the scores), dv = %.1e", v_error(f));
    else                                        /* powers of beta */
        set(r, ELEMENT, 0, 1e-13, 0, "powers of a constant: 1e-13 |x|");
}

static void rule_of(const facts *f, const char *name, rule *r) {
    const char *rest;
    long l = 0;
    int j;
    order o = order_of(name);
    const double X = 4 * block_error(f) + sqrt(f->E0) *
                     state_error(f, f->blocks);
    switch (o.phase) {
    case TOKENS: set(r, ELEMENT, 0, 0, 0, "token ids: equal"); break;
    case SETTINGS: set(r, ELEMENT, 0, 1e-15, 0, "a setting: equal"); break;
    case SEPARABLE:
        set(r, ELEMENT, X * X / f->E0, sum_error(f), 2 * X / sqrt(f->E0),
            "2 X sqrt(S / E0) + X^2 / E0, X = 4 B + sqrt(E0) D(L) = %.1e, and "
            "E0's own error", X);
        break;
    case LOSS:
        set(r, ELEMENT, 0, (1 + (*name == 'E' && !name[1])) * sum_error(f), 0,
            "sum_l 2 X(l) sqrt(E_l) of sum_l E_l%s", name[1] ? "" :
            ", and as much of E0");
        break;
    case RELAXATION: relaxation_rule(f, name, r); break;
    case UPDATE: update_rule(f, name, r); break;
    case OTHER:
        set(r, ROW, 0, 1e-5, 0, "a name that is not ours: 1e-5 of |x| + its "
            "row's rms; integers equal");
        break;
    default:
        if (starts(name, "candidates.")) {
            candidate_rule(name, r);
            break;
        }
        if (!numbered(name, "teacher.", &l, &rest) &&
            !numbered(name, "detail.", &l, &rest) &&
            !numbered(name, "hessian.", &l, &rest) &&
            !numbered(name, "factor.", &l, &rest) &&
            !numbered(name, "student.", &l, &rest) &&
            !numbered(name, "loss.", &l, &rest) &&
            !numbered(name, "E.", &l, &rest))
            module_of(name, &l, &j);
        block_rule(f, name, l, r);
    }
}

/* ----------------------------------------------------------- user's factors */

/* FACTOR of the last "NAME=FACTOR" whose NAME is the family or matches the
   name; 1 when none does. */
static double factor_of(const char *tolerances, const gm_verdict *v,
                        bool *given) {
    double factor = 1;
    *given = false;
    for (const char *p = tolerances; p && *p; p += strcspn(p, ","),
         p += *p == ',') {
        char pattern[256];
        size_t n = strcspn(p, "=");
        snprintf(pattern, sizeof pattern, "%.*s", (int)n, p);
        if (!gm_name_matches(pattern, v->name) &&
            !gm_name_matches(pattern, v->family)) continue;
        factor = strtod(p + n + 1, NULL);
        *given = true;
    }
    return factor;
}

static void check_factors(gm_arena *arena, const char *tolerances) {
    for (const char *p = tolerances; p && *p; p += strcspn(p, ","),
         p += *p == ',') {
        size_t n = strcspn(p, ","), name = strcspn(p, "=,");
        if (name == 0 || p[name] != '=')
            gm_fail(GM_EUSAGE, "--tolerance: expected NAME=FACTOR, "
                           "found \"%.*s\"", (int)n, p);
        const char *text = gm_format(arena, "%.*s", (int)(n - name - 1),
                                     p + name + 1);
        gm_parse_double("--tolerance", text, 0, 1e300);
    }
}

/* --------------------------------------------------------------- comparison */

typedef struct {
    const gm_tensor *a, *b;
    const double *x, *y;
    const double *moment2;      /* of THETA, or NULL */
    double *rms;                /* of each row, or of all, or the diagonal */
    int64_t n, columns;
    rule r;
    double factor, steps_error, bias2, rate;
    int precision;
    bool exact;                 /* integers */
} pair;

static bool same_shape(const gm_tensor *a, const gm_tensor *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

static const char *shape_of(const gm_tensor *t, char text[160]) {
    int n = snprintf(text, 160, "[");
    for (int i = 0; i < t->rank; i++)
        n += snprintf(text + n, 160 - (size_t)n, "%s%lld", i ? ", " : "",
                      (long long)t->shape[i]);
    snprintf(text + n, 160 - (size_t)n, "]");
    return text;
}

/* Scales that the tolerances are relative to. */
static void scales_of(gm_arena *arena, pair *p) {
    const int64_t c = p->columns, rows = c ? p->n / c : 0;
    p->rms = gm_alloc(arena, (size_t)(rows > c ? rows : c) + 1,
                      sizeof *p->rms);      /* DIAGONAL needs both */
    if (p->r.scope == DIAGONAL)
        for (int64_t i = 0; i < c && i < rows; i++)
            p->rms[i] = sqrt(fabs(p->x[i * c + i]));
    if (p->r.scope != ROW && p->r.scope != ALL) return;
    double all = 0;
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0;
        for (int64_t j = 0; j < c; j++) sum += p->x[i * c + j] *
                                               p->x[i * c + j];
        all += sum;
        p->rms[i] = sqrt(sum / (double)c);
    }
    for (int64_t i = 0; i < rows && p->r.scope == ALL; i++)
        p->rms[i] = sqrt(all / (double)p->n);
}

/* What the tolerance of element i is relative to. */
static double scale_at(const pair *p, int64_t i) {
    const double x = fabs(p->x[i]);
    switch (p->r.scope) {
    case ROW: case ALL: return x + p->rms[i / p->columns];
    case DIAGONAL: return x + p->rms[i / p->columns] * p->rms[i % p->columns];
    case ELEMENT: case THETA: break;
    }
    return x;
}

static double tolerance_at(const pair *p, int64_t i) {
    const rule *r = &p->r;
    double x = fabs(p->x[i]), rounding = 0;
    if (p->a->dtype != p->b->dtype)
        rounding = ulp_of(x, p->precision) / 2;
    else if (p->precision < 24)
        rounding = ulp_of(x, p->precision);
    if (p->exact) rounding = 0;
    if (r->scope == THETA) {        /* absolute: how many steps */
        double share = 1e-3;
        if (p->moment2) {
            double size = sqrt(fabs(p->moment2[i]) / p->bias2);
            share = size > 0 ? 2 * p->steps_error / size : 2;
        }
        return p->factor * r->absolute * p->rate * (share < 2 ? share : 2) +
               1e-12 * x + rounding;
    }
    return p->factor * (r->absolute + r->relative * scale_at(p, i) +
                        r->root * sqrt(x)) + rounding;
}

/* The worst element and how many are beyond their tolerance. */
static void measure(const pair *p, gm_verdict *v) {
    v->excess = -1;
    for (int64_t i = 0; i < p->n; i++) {
        double d = fabs(p->x[i] - p->y[i]), t = tolerance_at(p, i);
        double excess = d == 0 ? 0 : t > 0 ? d / t : HUGE_VAL;
        if (!(d < HUGE_VAL)) excess = HUGE_VAL;             /* NaN, infinity */
        v->differing += excess > 1;
        bool worse = excess > v->excess ||
                     (excess == v->excess && excess == HUGE_VAL &&
                      (isnan(d) ? !isnan(v->absolute) : d > v->absolute));
        if (!worse) continue;
        v->excess = excess;
        v->worst = i;
        v->absolute = d;
        v->tolerance = t;
    }
    if (p->n == 0) return;
    v->ours = p->x[v->worst];
    v->theirs = p->y[v->worst];
    double scale = scale_at(p, v->worst);
    v->relative = v->absolute == 0 ? 0 : v->absolute / scale;
    v->ulp = v->absolute / ulp_of(fabs(v->ours), p->precision);
    if (p->exact) v->ulp = v->absolute;
}

static const char *unit_of(scope s) {
    return s == ROW ? "|x| + rms of its row" : s == ALL ?
           "|x| + rms of the tensor" : s == DIAGONAL ?
           "|H_ij| + sqrt(H_ii H_jj)" : "|x|";
}

/* Shapes and types first. */
static void check_pair(gm_arena *arena, gm_verdict *v) {
    char a[160], b[160];
    v->excess = HUGE_VAL;
    if (!same_shape(v->a, v->b))
        v->problem = gm_format(arena, "shape: ours %s, theirs %s",
                               shape_of(v->a, a), shape_of(v->b, b));
    else if (v->a->dtype == GM_OTHER || v->b->dtype == GM_OTHER)
        v->problem = gm_format(arena, "%s has a type that cannot be compared; "
                               "expected F16, BF16, F32, F64, U8, I8, I32 or "
                               "I64", v->a->dtype == GM_OTHER ? "ours"
                               : "theirs");
}

/* What was accepted in p, theta and W~ is passed on. */
static void remember(facts *f, const gm_verdict *v, const pair *p) {
    double worst = 0, difference = 0, size = 0;
    for (int64_t i = 0; i < p->n; i++) {
        double d = p->x[i] - p->y[i];
        worst = fabs(d) > worst ? fabs(d) : worst;
        difference += d * d;
        size += p->x[i] * p->x[i];
    }
    if (strcmp(v->name, "p") == 0) f->p_error = worst, f->p_seen = true;
    if (strcmp(v->name, "theta_before") == 0) f->theta_error = worst;
    if (strcmp(v->name, "lambda_before") == 0)
        f->lambda_error = worst, f->lambda_seen = true;
    if (starts(v->name, "mixed.") && size > 0) {
        double e = sqrt(difference / size);
        f->mixed_error = e > f->mixed_error ? e : f->mixed_error;
    }
}

static void load_pair(facts *f, const gm_verdict *v, pair *p) {
    gm_arena *a = f->arena;
    p->n = count_of(v->a);
    p->columns = v->a->rank ? v->a->shape[v->a->rank - 1] : 1;
    if (v->a->rank == 1) p->columns = 1;
    p->precision = precision(v->a->dtype) < precision(v->b->dtype)
                 ? precision(v->a->dtype) : precision(v->b->dtype);
    p->exact = v->a->dtype > GM_F64 && v->b->dtype > GM_F64;
    double *x, *y, *m2;
    gm_elements(a, v->a, &x);
    gm_elements(a, v->b, &y);
    p->x = x, p->y = y;
    const gm_tensor *t = gm_tensor_find(f->ours, "moment2");
    if (p->r.scope == THETA && t && count_of(t) == p->n) {
        gm_elements(a, t, &m2);
        p->moment2 = m2;
        p->bias2 = 1 - scalar_of(f->ours, "beta2_power", 0.999);
        p->steps_error = v_error(f) / f->tau;
    }
    p->rate = f->rate;
    scales_of(a, p);
}

static void compare(facts *f, const char *tolerances, gm_verdict *v) {
    check_pair(f->arena, v);
    v->elements = count_of(v->a);
    v->outcome = GM_DEPARTS;
    if (v->problem) return;
    pair p = {.a = v->a, .b = v->b};
    bool given;
    rule_of(f, v->name, &p.r);
    v->why = gm_format(f->arena, "%s", p.r.why);
    gm_mark mark = gm_arena_mark(f->arena);
    p.factor = factor_of(tolerances, v, &given);
    if (starts(v->name, "theta_before") || starts(v->name, "theta_after"))
        p.r.scope = THETA;
    load_pair(f, v, &p);
    if (p.exact && p.r.scope == ROW) p.r.relative = 0;
    measure(&p, v);
    v->unit = unit_of(p.r.scope);
    bool discrete = p.r.absolute == 0 && p.r.relative == 0 && p.r.root == 0;
    double allowed = discrete && given ? p.factor : 0;
    if ((double)v->differing <= allowed) {
        v->outcome = GM_PASSES;
        remember(f, v, &p);
    }
    gm_arena_rewind(f->arena, mark);
}

/* All names of both, in order. */
static void collect(gm_arena *arena, const gm_tensors *ours,
                         const gm_tensors *theirs, gm_verification *out) {
    out->verdict = gm_alloc(arena, (size_t)(ours->count + theirs->count) + 1,
                            sizeof *out->verdict);
    for (long i = 0; i < ours->count; i++) {
        const gm_tensor *t = ours->tensor + i;
        out->verdict[out->count++] = (gm_verdict){
            .name = t->name, .a = t, .b = gm_tensor_find(theirs, t->name)};
    }
    for (long i = 0; i < theirs->count; i++)
        if (!gm_tensor_find(ours, theirs->tensor[i].name))
            out->verdict[out->count++] = (gm_verdict){
                .name = theirs->tensor[i].name, .b = theirs->tensor + i};
    for (long i = 0; i < out->count; i++) {
        gm_verdict *v = out->verdict + i;
        v->outcome = GM_ABSENT;
        v->family = family_of(arena, v->name);
    }
    qsort(out->verdict, (size_t)out->count, sizeof *out->verdict, by_order);
}

/* The message about the first departure. */
static const char *departure(gm_arena *arena, const gm_verification *v) {
    const gm_verdict *d = v->verdict + v->first;
    char index[96];
    if (d->problem)
        return gm_format(arena, "%s departs: %s", d->name, d->problem);
    return gm_format(arena, "%s departs first, at %s: ours %.9g, theirs %.9g "
                     "(absolute %.3g, relative %.3g, %.3g ulp; tolerance %.3g; "
                     "%lld of %lld elements); %ld of %ld tensors depart",
                     d->name, gm_index_text(d->a, d->worst, index), d->ours,
                     d->theirs, d->absolute, d->relative, d->ulp, d->tolerance,
                     (long long)d->differing, (long long)d->elements,
                     v->failed, v->compared);
}

void gm_verify(gm_arena *arena, const gm_tensors *ours,
                    const gm_tensors *theirs, const char *tolerances,
                    gm_verification *out) {
    *out = (gm_verification){.first = -1};
    check_factors(arena, tolerances);
    collect(arena, ours, theirs, out);
    facts f = facts_of(arena, ours, theirs);
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
        gm_fail(GM_EINPUT, "nothing compared: no name is in both "
                       "%s and %s; docs/verify.md lists the names",
                       ours->file[0]->path, theirs->file[0]->path);
    if (out->first >= 0) out->message = departure(arena, out);
}
