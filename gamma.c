/* gamma.c: GAMMA itself.  Stage I learns, by a differentiable relaxation, how
   much each linear module minds each candidate; weights never change.

     p_m   = softmax(theta_m / tau)                                  [K]
     W~_m  = sum_k p_mk Q_mk                              [out, in]  [choice]
     E_l   = mean_t w_t ||f_l(h_{l-1}; W~)_t - h_l,t||^2 / D_lt      [choice]
     c     = (1/N) sum_m n_m sum_k b_k p_mk - B              (average bits)

     J = sum_l E_l / E_0 - (alpha/M) sum_m H(p_m) + lambda c + rho/2 c^2

   minimised over theta by Adam while lambda ascends on rho c, slowly: the
   relaxation, the teacher-forced reconstruction of hidden states and the
   augmented Lagrangian are [GAMMA]; the loss's norm, the entropy term and the
   schedule are [choice], measured in docs/results.md.

   Relaxations.  The above is `soft`.  Candidates' errors are nearly
   uncorrelated, so the mixture's error falls as sum_k p_mk^2 S_mk, S_mk the
   separable error of candidate k alone: a mixture looks better than any
   candidate, and theta learns log errors.  `soft-corrected` [choice] measures
   S_mk in its first steps, on each sequence once, and minimises
   J + sum_mk (p_mk - p_mk^2) S_mk: at one-hot p nothing is added, elsewhere
   exactly what the mixture hides.
   `gumbel` mixes a sample instead (Jang, Gu, Poole 2017): in each step, with
   fresh noise G and tau falling from step to step,
     pi_m = softmax(theta_m),   y_m = softmax((theta_m + G_m) / tau),   p = y
   where c and H are those of pi, the expectation; J is differentiated at the
   sampled noise.  `hard`: p_m = one-hot(argmax_k theta_mk + G_mk), a sample of
   pi_m itself, with the straight-through gradient dE/dtheta = (dy/dtheta)
   dE/dp: as if p moved as y does.

   Norms, D_lt (y = h_l, the mean over the rows of this step):
     token   ||y_t||^2            robust  the same, and x = error / D_lt
     plain   1                            counts as s ln(1 + x/s), s = 0.1
     energy  mean_t ||y_t||^2     update  mean_t ||y_t - h_{l-1,t}||^2
   w_t = W at the first position of a sequence, else 1.

   Every block sees the original model's input h_{l-1} (teacher forcing), so
   blocks are independent given lambda.  One step is one sweep that recomputes
   the teacher's stream as it goes: memory is one block, not the model.  With
   several processes each sweeps its own blocks (mpi.c).
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

/* ------------------------------------------------------------------- tap */

/* Shows the tap one array [rows, columns], or [rows] when columns = 0, under a
   printed name; names and shapes: docs/verify.md. */
__attribute__((format(printf, 6, 7)))
static void tap(const gm_fit *fit, gm_dtype dtype, long rows, long columns,
                     const void *data, const char *format, ...) {
    char name[256];
    const gm_tap *t = fit->tap;
    if (!t) return;
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    if (!t->wants(t->context, name)) return;
    t->put(t->context, name, dtype, columns ? 2 : 1,
                  (int64_t[]){rows, columns}, data);
}

static const gm_dtype real_dtype = sizeof(gm_real) == 8 ? GM_F64 : GM_F32;

/* mixed.NAME or grad.NAME of the seven linears of block l, [out, in]. */
static void tap_linears(const gm_fit *fit, const char *what, long l, gm_real *const *w) {
    const gm_model *model = fit->candidates->model;
    for (int j = 0; j < GM_LINEARS && fit->tap; j++) {
        const char *name = gm_linear_tensor(model, l, j)->name;
        long out, in;
        gm_linear_shape(&model->config, j, &out, &in);
        tap(fit, real_dtype, out, in, w[j], "%s.%.*s", what,
                (int)(strlen(name) - strlen(".weight")), name);
    }
}

/* Scalars by their names. */
typedef struct { const char *name; double value; } tapped;
static void tap_scalars(const gm_fit *fit, const tapped *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        tap(fit, GM_F64, 1, 0, &x[i].value, "%s", x[i].name);
}

/* ------------------------------------------------------------- calibration */

void gm_calibration(gm_arena *arena, const int32_t *tokens, long count,
                         long S, long T, int32_t **out) {
    if (count / T < S)
        gm_fail(GM_EINPUT, "calibration text: expected at least "
                       "%ld tokens (%ld sequences of %ld), found %ld", S * T,
                       S, T, count);
    int32_t *chosen = gm_alloc(arena, (size_t)(S * T), sizeof *chosen);
    /* sequence i starts at floor(i count/S): spread evenly, and T <= count/S
       keeps them apart */
    for (long i = 0; i < S; i++)
        memcpy(chosen + i * T,
               tokens + (long)((__int128)i * count / S),
               (size_t)T * sizeof *tokens);
    *out = chosen;
}

/* Which sequences step `step` sees: consecutive places of a permutation of
   0..S-1 that is drawn anew each time it is used up, so that all sequences
   are used equally often. */
static void pick_sequences(const gm_fit_options *o, long step, long *order,
                           long *picked) {
    for (long i = 0; i < o->batch; i++) {
        long place = step * o->batch + i;
        uint64_t epoch = (uint64_t)(place / o->S);
        for (long j = 0; j < o->S; j++) order[j] = j;
        for (long j = o->S - 1; j > 0; j--) {           /* Fisher, Yates */
            uint64_t r = gm_random(o->seed, epoch, (uint64_t)j);
            long other = (long)(r % (uint64_t)(j + 1)), keep = order[j];
            order[j] = order[other];
            order[other] = keep;
        }
        picked[i] = order[place % o->S];
    }
}

/* ---------------------------------------------------------------- one sweep */

/* Buffers of one step; R = batch T rows. */
struct gm_sweep {
    gm_block block, grad;       /* W or W~; dE/dW~ */
    gm_acts acts;
    gm_rope_table rope;
    gm_real *h, *y, *student, *d_y;     /* [R, d] */
    gm_real *inputs;                    /* [S, T, d] of this rank's first
                                           block; NULL: the embeddings */
    double *row_E;                      /* [R] */
    double *row_g;                      /* [out, K] workspace of gm_inner */
    long R, *order, *picked;
    int32_t *tokens;                    /* [R] */
    double *scores;                     /* [2, M, K] for the tap */
};

static void sweep_alloc(gm_arena *arena, const gm_config *c,
                             const gm_fit_options *o, int K,
                             struct gm_sweep *w) {
    w->R = o->batch * o->T;
    size_t R = (size_t)w->R, d = (size_t)c->d;
    gm_block_alloc(arena, c, &w->block);
    gm_grad_alloc(arena, c, &w->grad);
    gm_acts_alloc(arena, c, o->batch, o->T, true, &w->acts);
    gm_rope_build(arena, c, o->T, NULL, &w->rope);
    w->h = gm_alloc(arena, R * d, sizeof *w->h);
    w->y = gm_alloc(arena, R * d, sizeof *w->y);
    w->student = gm_alloc(arena, R * d, sizeof *w->student);
    w->d_y = gm_alloc(arena, R * d, sizeof *w->d_y);
    w->row_E = gm_alloc(arena, R, sizeof *w->row_E);
    w->row_g = gm_alloc(arena, (size_t)(gm_tallest(c) * K), sizeof *w->row_g);
    w->order = gm_alloc(arena, (size_t)o->S, sizeof *w->order);
    w->picked = gm_alloc(arena, (size_t)o->batch, sizeof *w->picked);
    w->tokens = gm_alloc(arena, R, sizeof *w->tokens);
}

static double block_loss(const gm_fit *fit) {
    const struct gm_sweep *w = fit->sweep;
    const gm_fit_options *o = &fit->options;
    double first = o->first_weight == 0 ? 1 : o->first_weight;
    return gm_loss_block(&(gm_loss){o->norm, first, w->R, o->T,
                                    fit->candidates->model->config.d, w->h,
                                    w->y, w->student, w->d_y, w->row_E});
}

/* S_mk is the mean over the first steps, until each sequence was seen. */
static bool measuring(const gm_fit *fit) {
    const gm_fit_options *o = &fit->options;
    return o->relaxation == GM_SOFT_CORRECTED &&
           (fit->step == 0 || fit->step * o->batch < o->S);
}

/* S_mk: module m of block l alone at candidate k, all else original, in units
   of E_0 once that is known.  Needs the teacher's y; dE/dW~'s buffer holds the
   candidate meanwhile. */
static void measure_separable(gm_fit *fit, long l, const gm_offer *offers) {
    struct gm_sweep *w = fit->sweep;
    const gm_config *c = &fit->candidates->model->config;
    for (int j = 0; j < GM_LINEARS; j++) {
        gm_real *original = w->block.w[j];
        double *S = fit->separable + (l * GM_LINEARS + j) * fit->K;
        w->block.w[j] = w->grad.w[j];
        for (int i = 0; i < offers[j].count; i++) {
            gm_dequantize(&offers[j].packed[i], w->grad.w[j]);
            gm_block_forward(c, &w->block, &w->rope, w->h, &w->acts,
                             w->student);
            double unit = fit->step ? fit->E0 : 1, *mean = S + offers[j].k[i];
            *mean += (block_loss(fit) / unit - *mean) / (double)(fit->step + 1);
        }
        w->block.w[j] = original;
    }
}

/* W~_m = sum_k p_mk Q_mk over the candidates that module m has. */
static void mix(const gm_offer *o, const double *p, gm_real *w) {
    double share[GM_MAX_CANDIDATES];
    for (int i = 0; i < o->count; i++) share[i] = p[o->k[i]];
    gm_mix(o->packed, o->count, share, w);
}

static void tap_block(const gm_fit *fit, long l) {
    const struct gm_sweep *w = fit->sweep;
    long d = fit->candidates->model->config.d;
    tap_linears(fit, "mixed", l, w->block.w);
    tap(fit, real_dtype, w->R, d, w->student, "student.%ld", l + 1);
    tap(fit, GM_F64, w->R, 0, w->row_E, "loss.%ld", l + 1);
    tap(fit, GM_F64, 1, 0, fit->block_E + l, "E.%ld", l + 1);
    tap_linears(fit, "grad", l, w->grad.w);
}

/* Block l: teacher forward h -> y, student forward with mixed weights, loss,
   backward, g_mk = <dE/dW~_m, Q_mk>.  Leaves the teacher's y in w->h. */
static void sweep_block(gm_fit *fit, long l) {
    struct gm_sweep *w = fit->sweep;
    const gm_model *model = fit->candidates->model;
    const gm_config *c = &model->config;
    gm_offer offers[GM_LINEARS];
    gm_block_load(model, l, &w->block);
    gm_block_forward(c, &w->block, &w->rope, w->h, &w->acts, w->y);
    gm_states_check(fit->candidates->model, l, "output", w->y, w->R, c->d);
    tap(fit, real_dtype, w->R, c->d, w->y, "teacher.%ld", l + 1);
    for (int j = 0; j < GM_LINEARS; j++)
        gm_offer_find(fit->candidates, l, j, offers + j);
    if (measuring(fit)) measure_separable(fit, l, offers);
    for (int j = 0; j < GM_LINEARS; j++) {
        long m = l * GM_LINEARS + j;
        mix(offers + j, fit->p + m * fit->K, w->block.w[j]);
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        memset(w->grad.w[j], 0, (size_t)(out * in) * sizeof(gm_real));
    }
    gm_block_forward(c, &w->block, &w->rope, w->h, &w->acts, w->student);
    fit->block_E[l] = block_loss(fit);
    gm_block_backward(c, &w->block, &w->rope, w->h, &w->acts, w->d_y, &w->grad,
                      NULL);
    tap_block(fit, l);
    for (int j = 0; j < GM_LINEARS; j++)
        gm_offer_inner(offers + j, w->grad.w[j], w->row_g,
                           fit->g + (l * GM_LINEARS + j) * fit->K);
    gm_real *teacher = w->y;
    w->y = w->h;
    w->h = teacher;
}

/* ----------------------------------------------------- the update of theta */

/* n_m and b_k of the constraint c; code bits only [GAMMA: average bits]. */
static double module_weights(const gm_fit *fit, long m) {
    long out, in;
    gm_linear_shape(&fit->candidates->model->config, (int)(m % GM_LINEARS),
                    &out, &in);
    return (double)out * (double)in;
}

/* p, y and pi of module m. */
static void update_module(gm_fit *fit, long m) {
    const int K = fit->K;
    const bool *all = fit->candidates->allowed, *allowed = all ? all + m * K
                                                               : NULL;
    const double *theta = fit->theta + m * K;
    double noisy[GM_MAX_CANDIDATES];
    if (!gm_sampled(fit->options.relaxation)) {
        gm_softmax(K, allowed, theta, fit->tau, fit->p + m * K);
        return;
    }
    for (int k = 0; k < K; k++)
        noisy[k] = theta[k] + gm_gumbel(fit->options.seed, fit->step,
                                        m * K + k);
    gm_softmax(K, allowed, theta, 1, fit->pi + m * K);
    gm_softmax(K, allowed, noisy, fit->tau, fit->y + m * K);
    if (fit->options.relaxation == GM_HARD)
        gm_one_hot(K, allowed, noisy, fit->p + m * K);
}

/* p, y and pi of all modules; c and mean entropy follow from pi. */
static void update_p(gm_fit *fit) {
    const gm_fit_options *o = &fit->options;
    const int K = fit->K;
    double last = o->tau_last == 0 ? o->tau : o->tau_last;
    fit->tau = gm_temperature(o->tau, last, fit->step, o->steps);
    fit->c = fit->entropy = 0;
    for (long m = 0; m < fit->M; m++) {
        const double *pi = fit->pi + m * K;
        double bits = 0;
        update_module(fit, m);
        for (int k = 0; k < K; k++) {
            bits += pi[k] * fit->candidates->recipe.bits[k];
            if (pi[k] > 0) fit->entropy -= pi[k] * gm_logd(pi[k]);
        }
        fit->c += module_weights(fit, m) * bits;
    }
    fit->c = fit->c / fit->N - o->budget;
    fit->entropy /= (double)fit->M;
}

/* What more of candidate k costs, without budget and entropy; i = m K + k:
     soft-corrected: S_mk + (g_mk - 2 p_mk S_mk)      else: g_mk
   the separable error plus the interaction that the joint pass measured. */
static double candidate_loss(const gm_fit *fit, long i) {
    if (fit->options.relaxation != GM_SOFT_CORRECTED) return fit->g[i];
    return fit->separable[i] +
           (fit->g[i] - 2 * fit->p[i] * fit->separable[i]);
}

/* loss + (lambda + rho c) n_m b_k / N + (alpha/M) ln pi_mk */
static double with_charges(const gm_fit *fit, long i, double loss) {
    const gm_fit_options *o = &fit->options;
    double v = loss + (fit->lambda + o->rho * fit->c) *
                          module_weights(fit, i / fit->K) *
                          fit->candidates->recipe.bits[i % fit->K] / fit->N;
    if (fit->pi[i] > 0)
        v += o->alpha / (double)fit->M * gm_logd(fit->pi[i]);
    return v;
}

/* dJ/dtheta_m: not sampled, through p = y = pi = softmax(theta / tau) of the
   whole v; sampled, the loss through y, budget and entropy through pi. */
static void theta_gradient(const gm_fit *fit, long m, double *d) {
    const int K = fit->K;
    const long at = m * K;
    double loss[GM_MAX_CANDIDATES], charges[GM_MAX_CANDIDATES];
    for (int k = 0; k < K; k++) {
        d[k] = 0;
        loss[k] = candidate_loss(fit, at + k);
        charges[k] = with_charges(fit, at + k, 0);
    }
    if (gm_sampled(fit->options.relaxation)) {
        gm_softmax_backward(K, fit->y + at, loss, fit->tau, d);
        gm_softmax_backward(K, fit->pi + at, charges, 1, d);
    } else {
        gm_softmax_backward(K, fit->p + at, fit->v + at, fit->tau, d);
    }
}

/* v_mk, and one Adam step (Kingma, Ba 2015) along dJ/dtheta. */
static void update_theta(gm_fit *fit) {
    const double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    fit->beta1_power *= beta1;
    fit->beta2_power *= beta2;
    for (long i = 0; i < fit->M * fit->K; i++)
        fit->v[i] = with_charges(fit, i, candidate_loss(fit, i));
    for (long m = 0; m < fit->M; m++) {
        double d[GM_MAX_CANDIDATES];
        theta_gradient(fit, m, d);
        for (int k = 0; k < fit->K; k++) {
            long i = m * fit->K + k;
            double *m1 = fit->moment1 + i, *m2 = fit->moment2 + i;
            *m1 = beta1 * *m1 + (1 - beta1) * d[k];
            *m2 = beta2 * *m2 + (1 - beta2) * d[k] * d[k];
            fit->theta[i] -= fit->options.rate *
                             (*m1 / (1 - fit->beta1_power)) /
                             (sqrt(*m2 / (1 - fit->beta2_power)) + epsilon);
        }
    }
}

/* The steps that enter the scores: the last `tail` of all. */
static long tail_steps(const gm_fit_options *o) {
    long n = (long)((double)o->steps * o->tail);
    return n < 1 ? 1 : n;
}

static void accumulate_tail(gm_fit *fit) {
    if (fit->step < fit->options.steps - tail_steps(&fit->options)) return;
    fit->multiplier_sum += fit->lambda + fit->options.rho * fit->c;
    for (long m = 0; m < fit->M; m++) {
        double mean = 0;
        int count = 0;
        for (int k = 0; k < fit->K; k++)
            count += gm_allowed(fit->candidates, m, k);
        for (int k = 0; k < fit->K; k++)
            mean += candidate_loss(fit, m * fit->K + k) / count;
        for (int k = 0; k < fit->K; k++) {
            long i = m * fit->K + k;
            if (!gm_allowed(fit->candidates, m, k)) continue;
            double loss = candidate_loss(fit, i) - mean;    /* only differences
                                                               decide */
            fit->theta_sum[i] += fit->theta[i];
            fit->loss_sum[i] += loss;
            fit->loss_squares[i] += loss * loss;
        }
    }
}

/* This step's sequences, as tokens and as states before the first block. */
static void sweep_begin(gm_fit *fit) {
    const gm_fit_options *o = &fit->options;
    const gm_model *model = fit->candidates->model;
    struct gm_sweep *w = fit->sweep;
    const long d = model->config.d;
    pick_sequences(o, fit->step, w->order, w->picked);
    for (long i = 0; i < o->batch; i++) {
        memcpy(w->tokens + i * o->T, fit->tokens + w->picked[i] * o->T,
               (size_t)o->T * sizeof *w->tokens);
        if (w->inputs)
            memcpy(w->h + i * o->T * d, w->inputs + w->picked[i] * o->T * d,
                   (size_t)(o->T * d) * sizeof *w->h);
    }
    tap(fit, GM_I32, o->batch, o->T, w->tokens,
                      "tokens");
    if (!w->inputs) gm_embed(model, w->tokens, w->R, w->h);
    tap(fit, real_dtype, w->R, d, w->h, "teacher.0");
}

/* What other ranks found in their blocks. */
static void sweep_gather(gm_fit *fit) {
    const long L = fit->candidates->model->config.layers;
    const long each = GM_LINEARS * fit->K;
    gm_ranks_gather(fit->block_E, L, 1);
    gm_ranks_gather(fit->g, L, each);
    if (measuring(fit))
        gm_ranks_gather(fit->separable, L, each);
}

/* What overflowed in a block's mixture or its gradients. */
static void check_sweep(const gm_fit *fit) {
    const char *dir = fit->candidates->model->dir;
    const long each = GM_LINEARS * fit->K;
    for (long i = 0; i < fit->M * fit->K; i++) {
        double E = fit->block_E[i / each];
        if (isfinite(E) && isfinite(fit->g[i]) && isfinite(fit->separable[i]))
            continue;
        const char *what = !isfinite(E) ? "reconstruction error"
                         : !isfinite(fit->g[i]) ? "gradient"
                         : "separable error";
        gm_fail(GM_EINPUT, "%s: block %ld: the %s of step %ld is "
                       "not finite", dir, i / each, what, fit->step + 1);
    }
}

/* The blocks in order, on this step's sequences: block_E, E, g and, in the
   first step, E_0, all in units of it. */
static void sweep(gm_fit *fit) {
    const gm_model *model = fit->candidates->model;
    const long L = model->config.layers, end = gm_rank_first(L, gm_rank() + 1);
    sweep_begin(fit);
    for (long l = gm_rank_first(L, gm_rank()); l < end; l++)
        sweep_block(fit, l);
    sweep_gather(fit);
    check_sweep(fit);
    fit->E = 0;
    for (long l = 0; l < L; l++) fit->E += fit->block_E[l];
    if (!(fit->E > 0))
        gm_fail(GM_EINPUT, "%s: the reconstruction error of step "
                       "%ld is %g; expected a positive finite number",
                       model->dir, fit->step + 1, fit->E);
    if (fit->step == 0) {
        fit->E0 = fit->E;
        for (long i = 0; i < fit->M * fit->K; i++)
            fit->separable[i] /= fit->E0;
    }
    fit->E /= fit->E0;
    for (long i = 0; i < fit->M * fit->K; i++) fit->g[i] /= fit->E0;
}

/* What of [M, K] and scalars a step started from (after = false), or what it
   made of that. */
static void tap_step(const gm_fit *fit, bool after) {
    const gm_fit_options *o = &fit->options;
    const struct { const char *name; const double *x; } before[] = {
        {"theta_before", fit->theta}, {"p", fit->p}}, done[] = {
        {"separable", fit->separable}, {"g", fit->g}, {"v", fit->v},
        {"moment1", fit->moment1}, {"moment2", fit->moment2},
        {"theta_after", fit->theta}}, *array = after ? done : before;
    for (int i = 0; i < (after ? 6 : 2); i++)
        tap(fit, GM_F64, fit->M, fit->K, array[i].x, "%s",
                array[i].name);
    if (!after)
        tap_scalars(fit, (tapped[]){
            {"step", (double)fit->step}, {"c", fit->c},
            {"entropy", fit->entropy}, {"lambda_before", fit->lambda},
            {"rho", o->rho}, {"alpha", o->alpha}, {"tau", fit->tau},
            {"eta", o->eta}, {"rate", o->rate}, {"train_bits", o->budget}}, 10);
    else tap_scalars(fit, (tapped[]){
        {"E0", fit->E0}, {"E", fit->E}, {"beta1_power", fit->beta1_power},
        {"beta2_power", fit->beta2_power}, {"lambda_after", fit->lambda}}, 5);
}

static void tap_scores(const gm_fit *fit) {
    if (!fit->tap || fit->step < fit->options.steps) return;
    double *score = fit->sweep->scores, *error = score + fit->M * fit->K;
    gm_fit_scores(fit, score, error);
    tap(fit, GM_F64, fit->M, fit->K, score, "scores");
    tap(fit, GM_F64, fit->M, fit->K, error, "scores_error");
}

void gm_fit_step(gm_fit *fit) {
    const gm_fit_options *o = &fit->options;
    update_p(fit);
    tap_step(fit, false);
    sweep(fit);
    accumulate_tail(fit);
    update_theta(fit);
    fit->lambda += o->eta * o->rho * fit->c;
    fit->step++;
    tap_step(fit, true);
    tap_scores(fit);
}

/* --------------------------------------------------------------- beginning */

/* The states before the first of this rank's blocks, of all sequences. */
static void rank_inputs(gm_arena *arena, gm_fit *fit) {
    struct gm_sweep *w = fit->sweep;
    const gm_fit_options *o = &fit->options;
    const gm_model *model = fit->candidates->model;
    gm_ranks_same("the run's hash", fit->hash);
    if (gm_rank() == 0) return;
    w->inputs = gm_alloc(arena, (size_t)(o->S * o->T * model->config.d),
                         sizeof *w->inputs);
    gm_states_before(model, gm_rank_first(model->config.layers,
                            gm_rank()), &(gm_sequences){fit->tokens, o->S,
                            o->T}, &w->block, &w->acts, &w->rope, w->inputs);
}

void gm_fit_begin(gm_arena *arena, const gm_candidates *candidates,
                       const int32_t *tokens, const gm_fit_options *options,
                       gm_fit *fit) {
    const gm_config *c = &candidates->model->config;
    *fit = (gm_fit){.options = *options, .candidates = candidates,
                    .tokens = tokens, .K = candidates->recipe.count,
                    .M = c->layers * GM_LINEARS,
                    .beta1_power = 1, .beta2_power = 1};
    for (long m = 0; m < fit->M; m++) fit->N += module_weights(fit, m);
    double **array[] = {&fit->theta, &fit->moment1, &fit->moment2,
                        &fit->separable, &fit->theta_sum, &fit->loss_sum,
                        &fit->loss_squares, &fit->p, &fit->g, &fit->v,
                        &fit->block_E, &fit->y, &fit->pi};
    for (size_t i = 0; i < sizeof array / sizeof *array; i++)
        *array[i] = gm_alloc(arena, (size_t)(fit->M * fit->K),
                             sizeof **array[i]);
    if (options->relaxation != GM_HARD) fit->y = fit->p;
    if (!gm_sampled(options->relaxation)) fit->pi = fit->p;
    fit->sweep = gm_alloc(arena, 1, sizeof *fit->sweep);
    gm_fit_hash(fit);
    fit->sweep->scores = gm_alloc(arena, (size_t)(2 * fit->M * fit->K),
                                  sizeof *fit->sweep->scores);
    sweep_alloc(arena, c, options, fit->K, fit->sweep);
    rank_inputs(arena, fit);
}

/* ------------------------------------------------------------------- scores */

/* scaled: S_mk f_m.  L_mk is S_mk plus an interaction, the product of e_mk and
   the others' errors at the budget of learning: linear in e_mk, so for a small
   e_mk larger than S_mk.  But at a budget where m gets such a candidate the
   others' errors are small too; if all shrink together the interaction stays in
   proportion to S_mk.  So it is read where it weighs least against S_mk,
   between the module's worst candidate w and its best b, and half of it belongs
   to the others, that the scores add up to the joint error [choice]:
     f_m = (1 + (L_mw - L_mb) / (S_mw - S_mb)) / 2,  within 1/2 and 2. */
static double joint_factor(const gm_fit *fit, long m, double n) {
    long w = -1, b = -1;
    for (long i = m * fit->K; i < (m + 1) * fit->K; i++) {
        if (!gm_allowed(fit->candidates, m, (int)(i - m * fit->K))) continue;
        if (w < 0 || fit->separable[i] > fit->separable[w]) w = i;
        if (b < 0 || fit->separable[i] < fit->separable[b]) b = i;
    }
    double S = fit->separable[w] - fit->separable[b];
    double f = S > 0 ? (fit->loss_sum[w] - fit->loss_sum[b]) / n / S : 1;
    return fmin(fmax((1 + f) / 2, 0.5), 2);
}

/* loss: the mean of candidate_loss over the tail's steps.
   theta: at a stationary point v_mk is the same for all k, so, up to a constant
   of the module,
     loss_mk = -(alpha/M) theta_mk / tau - (lambda + rho c) n_m b_k / N
   is what choosing k adds, as the joint relaxation saw it [choice]; theta and
   the multiplier are means over the tail; tau = 1 when sampled, whose entropy
   is that of pi.
   The standard error is that of the mean over the tail's steps, each on other
   sequences, of candidate_loss less its mean over the module's candidates (only
   differences decide); -1, unknown, when the tail is a single step. */
static double raw_score(const gm_fit *fit, long m, int k, double n) {
    const gm_fit_options *o = &fit->options;
    const double tau = gm_sampled(o->relaxation) ? 1 : o->tau;
    long i = m * fit->K + k;
    if (o->score == GM_SCORE_LOSS) return fit->loss_sum[i] / n;
    if (o->score == GM_SCORE_SCALED)
        return fit->separable[i] * joint_factor(fit, m, n);
    return -o->alpha / (double)fit->M * (fit->theta_sum[i] / n) / tau -
           fit->multiplier_sum / n * module_weights(fit, m) *
               fit->candidates->recipe.bits[k] / fit->N;
}

void gm_fit_scores(const gm_fit *fit, double *score, double *error) {
    const double n = (double)tail_steps(&fit->options);
    for (long m = 0; m < fit->M; m++) {
        double least = HUGE_VAL;
        for (int k = 0; k < fit->K; k++) {
            long i = m * fit->K + k;
            double mean = fit->loss_sum[i] / n;
            double variance = fit->loss_squares[i] / n - mean * mean;
            error[i] = n > 1 ? sqrt(fmax(variance, 0) / (n - 1)) : -1;
            score[i] = raw_score(fit, m, k, n);
            if (gm_allowed(fit->candidates, m, k) && score[i] < least)
                least = score[i];
        }
        for (int k = 0; k < fit->K; k++) {
            long i = m * fit->K + k;
            score[i] -= least;
            if (!gm_allowed(fit->candidates, m, k))
                score[i] = 0, error[i] = -1;
        }
    }
}

/* ---------------------------------------------------------------- the table */

void gm_module_table(gm_arena *arena, const gm_model *model,
                          const gm_recipe *recipe, gm_scores *out) {
    const gm_config *c = &model->config;
    const int K = recipe->count;
    gm_scores_new(arena, c->layers * GM_LINEARS, K, recipe->bits,
                                out);
    for (long m = 0; m < out->M; m++) {
        long rows, columns;
        int j = (int)(m % GM_LINEARS);
        gm_linear_name(arena, m / GM_LINEARS, j, &out->name[m]);
        gm_linear_shape(c, j, &rows, &columns);
        out->out[m] = rows;
        out->in[m] = columns;
        out->N += out->weights[m] = rows * columns;
        for (int k = 0; k < K; k++) {
            out->bytes[m * K + k] = recipe->external
                ? recipe->external->bytes[m * K + k]
                : gm_packed_bytes(rows, columns, recipe->bits[k],
                                  recipe->group);
            out->error[m * K + k] = -1;
        }
    }
}

void gm_fit_table(gm_arena *arena, const gm_fit *fit, gm_scores *out) {
    const gm_fit_options *o = &fit->options;
    const gm_recipe *recipe = &fit->candidates->recipe;
    const gm_model *model = fit->candidates->model;
    gm_module_table(arena, model, recipe, out);
    gm_fit_scores(fit, out->score, out->error);
    for (long i = 0; i < fit->M * fit->K; i++)
        if (!gm_allowed(fit->candidates, i / fit->K, (int)(i % fit->K)))
            out->bytes[i] = -1;
    char bits[128], calibration[65];
    gm_fit_tokens_hash(fit, calibration);
    gm_recipe_text(recipe, bits);
    const struct { const char *key, *text; double number; } keys[] = {
        {"version", GM_VERSION, 0}, {"model", gm_base_name(model->dir), 0},
        {"model_hash", model->hash, 0}, {"calibration_hash", calibration, 0},
        {"candidates", bits, 0}, {"candidates_hash", fit->candidates->hash, 0},
        {"relaxation", gm_relaxation_name(o->relaxation), 0},
        {"norm", gm_loss_norm_name(o->norm), 0},
        {"score", gm_score_name(o->score), 0},
        {"sequences", NULL, (double)o->S}, {"length", NULL, (double)o->T},
        {"batch", NULL, (double)o->batch}, {"steps", NULL, (double)o->steps},
        {"seed", NULL, (double)o->seed}, {"alpha", NULL, o->alpha},
        {"rho", NULL, o->rho}, {"eta", NULL, o->eta}, {"tau", NULL, o->tau},
        {"tau_last", NULL, o->tau_last},
        {"first_weight", NULL, o->first_weight},
        {"rate", NULL, o->rate}, {"tail", NULL, o->tail},
        {"train_bits", NULL, o->budget}, {"E0", NULL, fit->E0},
        {"E", NULL, fit->E}, {"c", NULL, fit->c},
        {"lambda", NULL, fit->lambda}, {"entropy", NULL, fit->entropy}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char number[32];
        double x = keys[i].number;
        if (x == floor(x) && fabs(x) < 1e15)
            snprintf(number, sizeof number, "%.0f", x);
        else
            gm_double_text(x, number);
        gm_keys_set(arena, &out->keys, keys[i].key, "%s",
                        keys[i].text ? keys[i].text : number);
    }
}
