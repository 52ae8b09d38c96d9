/* lesson.c: the cases of lesson 4.  The answers are central differences of the
   forward functions, in long double; those of slope itself, of a polynomial of
   degree three, are known exactly.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "check.h"
#include "4-block/exercise.h"

/* E = sum_i d_y_i y_i of a forward function of all its inputs, z[...]. */
typedef struct { long n, out, in, R; double eps; const double *d_y; } shape;
typedef long double energy(const shape *s, const long double *z);

static void differentiate(energy *E, const shape *s, long n, const double *z,
                          double *d_z) {
    long double *at = malloc((size_t)n * sizeof *at);
    const long double h = 1e-5L;
    for (long i = 0; i < n; i++) at[i] = z[i];
    for (long i = 0; i < n; i++) {
        at[i] = z[i] + h;
        const long double up = E(s, at);
        at[i] = z[i] - h;
        d_z[i] += (double)((up - E(s, at)) / (2 * h));
        at[i] = z[i];
    }
    free(at);
}

/* z: W, then x. */
static long double linear(const shape *s, const long double *z) {
    const long double *x = z + s->out * s->in;
    long double sum = 0;
    for (long r = 0; r < s->R; r++)
        for (long i = 0; i < s->out; i++)
            for (long j = 0; j < s->in; j++)
                sum += s->d_y[r * s->out + i] * z[i * s->in + j] *
                       x[r * s->in + j];
    return sum;
}

/* z: g, then u. */
static long double swiglu(const shape *s, const long double *z) {
    long double sum = 0;
    for (long i = 0; i < s->n; i++)
        sum += s->d_y[i] * z[i] / (1 + expl(-z[i])) * z[s->n + i];
    return sum;
}

/* z: x, then w. */
static long double norm(const shape *s, const long double *z) {
    long double sum = 0, square = 0;
    for (long i = 0; i < s->n; i++) square += z[i] * z[i];
    for (long i = 0; i < s->n; i++) sum += s->d_y[i] * z[s->n + i] * z[i];
    return sum / sqrtl(square / s->n + s->eps);
}

/* Both halves of z, one after the other, to both of d_z. */
static void both(energy *E, const shape *s, const double *a, long na,
                 const double *b, long nb, double *d_a, double *d_b) {
    double *z = calloc((size_t)(na + nb), 2 * sizeof *z), *d_z = z + na + nb;
    memcpy(z, a, (size_t)na * sizeof *z);
    memcpy(z + na, b, (size_t)nb * sizeof *z);
    differentiate(E, s, na + nb, z, d_z);
    for (long i = 0; i < na; i++) d_a[i] = d_z[i];
    for (long i = 0; i < nb; i++) d_b[i] = d_z[na + i];
    free(z);
}

static void right_linear(const double *W, long out, long in, const double *x,
                         long R, const double *d_y, double *d_x, double *d_W) {
    const shape s = {0, out, in, R, 0, d_y};
    double *own = malloc((size_t)(out * in) * sizeof *own);
    both(linear, &s, W, out * in, x, R * in, own, d_x);
    for (long i = 0; i < out * in; i++) d_W[i] += own[i];
    free(own);
}

static void right_swiglu(const double *g, const double *u, long n,
                         const double *d_a, double *d_g, double *d_u) {
    both(swiglu, &(shape){n, 0, 0, 0, 0, d_a}, g, n, u, n, d_g, d_u);
}

static void right_norm(const double *x, const double *w, long n, double eps,
                       const double *d_y, double *d_x, double *d_w) {
    both(norm, &(shape){n, 0, 0, 0, eps, d_y}, x, n, w, n, d_x, d_w);
}

/* sum_i (i + 1) x_i^3 */
typedef struct { long n; } cubic;
static double cubes(void *context, const double *x) {
    double sum = 0;
    for (long i = 0; i < ((cubic *)context)->n; i++)
        sum += (double)(i + 1) * x[i] * x[i] * x[i];
    return sum;
}

static double right_slope(double (*f)(void *, const double *), void *context,
                          double *x, long i, double h) {
    (void)f, (void)context;
    return (double)(i + 1) * (3 * x[i] * x[i] + h * h);
}

/* ------------------------------------------------------------------- cases */

static void normals(task *t, const char *name, long n, double size) {
    double *x = give(t, name, n);
    for (long i = 0; i < n; i++) x[i] = size * draw_normal(t);
}

static void make_slope(task *t) {
    const long n = draw_between(t, 1, 6);
    normals(t, "x", n, 1);
    give_one(t, "i", (double)draw_between(t, 0, n - 1));
    give_one(t, "h", 0.01 + 0.3 * draw(t));
}

static void make_linear(task *t) {
    const long out = draw_between(t, 1, 5), in = draw_between(t, 1, 5);
    const long R = draw_between(t, 1, 4);
    give_one(t, "out", (double)out);
    give_one(t, "in", (double)in);
    give_one(t, "R", (double)R);
    normals(t, "W", out * in, 1);
    normals(t, "x", R * in, 1);
    normals(t, "d_y", R * out, 1);
    normals(t, "d_W_before", out * in, 1);
}

static void make_swiglu(task *t) {
    const long n = draw_between(t, 1, 6);
    normals(t, "g", n, 2);
    normals(t, "u", n, 1);
    normals(t, "d_a", n, 1);
}

static void make_norm(task *t) {
    const long n = draw_between(t, 2, 6);
    normals(t, "x", n, 0.5);
    normals(t, "w", n, 1);
    normals(t, "d_y", n, 1);
    give_one(t, "eps", 0.05 + draw(t) / 4);
}

static void call_slope(function *f, task *t) {
    cubic context = {count_of(t, "x")};
    const double *from = given(t, "x");
    double *x = wanted("x_afterwards", context.n);
    memcpy(x, from, (size_t)context.n * sizeof *x);
    answer("slope", ((typeof(slope) *)f)(cubes, &context, x,
                                         (long)number(t, "i"),
                                         number(t, "h")));
}

static void call_linear(function *f, task *t) {
    const long out = (long)number(t, "out"), in = (long)number(t, "in");
    const long R = (long)number(t, "R");
    const double *before = given(t, "d_W_before");
    double *d_x = wanted("d_x", R * in), *d_W = wanted("d_W", out * in);
    memcpy(d_W, before, (size_t)(out * in) * sizeof *d_W);
    ((typeof(linear_backward) *)f)(given(t, "W"), out, in, given(t, "x"), R,
                                   given(t, "d_y"), d_x, d_W);
}

static void call_swiglu(function *f, task *t) {
    const long n = count_of(t, "g");
    ((typeof(swiglu_backward) *)f)(given(t, "g"), given(t, "u"), n,
                                   given(t, "d_a"), wanted("d_g", n),
                                   wanted("d_u", n));
}

static void call_norm(function *f, task *t) {
    const long n = count_of(t, "x");
    ((typeof(norm_backward) *)f)(given(t, "x"), given(t, "w"), n,
                                 number(t, "eps"), given(t, "d_y"),
                                 wanted("d_x", n), wanted("d_w", n));
}

const lesson the_lesson = {"Lesson 4: a block, forward and backward", 4, {
    {"slope", "the central difference", 2, 1e-9, make_slope, call_slope,
     (function *)right_slope},
    {"linear_backward", "of y = W x", 3, 1e-6, make_linear, call_linear,
     (function *)right_linear},
    {"swiglu_backward", "of a = g s(g) u", 2, 1e-6, make_swiglu, call_swiglu,
     (function *)right_swiglu},
    {"norm_backward", "of y = w x / r", 3, 1e-6, make_norm, call_norm,
     (function *)right_norm}}};
