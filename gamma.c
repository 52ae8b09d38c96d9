/* gamma.c: GAMMA itself.  Stage I learns, by a differentiable relaxation, how
   much each linear module minds each candidate; weights never change.

   (1) p_m   = softmax(theta_m / tau)                               [K]
   (2) c     = (1/N) sum_m n_m sum_k b_k p_mk - B     (average bits, off target)
   (3) W~_m  = sum_k p_mk Q_mk                           [out, in]  [ours]
   (4) E_l   = mean_t w_t r(||f_l(h_{l-1}; W~)_t - h_lt||^2 / D_lt)   [ours]
   (5) g_mk  = <dE_l/dW~_m, Q_mk> = dE_l/dp_mk

   (6) J     = sum_l E_l / E_0 + sum_mk (p_mk - p_mk^2) S_mk
               - (alpha/M) sum_m entropy(p_m) + lambda c + rho/2 c^2

   minimised over theta by Adam on
   (7) v_mk  = dJ/dp_mk   = S_mk + (g_mk - 2 p_mk S_mk)
                            + (lambda + rho c) n_m b_k / N + (alpha/M) ln p_mk
   (8) dJ/dtheta_mk       = p_mk (v_mk - sum_j p_mj v_mj) / tau
   while
   (9) lambda            += eta rho c                   ascends, slowly;
   (10) the score of a candidate is read off the last steps.

   The relaxation, the teacher-forced reconstruction of hidden states and the
   augmented Lagrangian are [GAMMA]; the loss's norm, the entropy term and the
   schedule are [ours], measured in docs/results.md.

   Relaxations.  Candidates' errors are nearly uncorrelated, so the mixture's
   error falls as sum_k p_mk^2 S_mk, S_mk the separable error of candidate k
   alone: a mixture looks better than any candidate, and theta learns log
   errors.  `soft-corrected` [ours], written above, measures S_mk in its first
   steps, on each sequence once: at one-hot p its term adds nothing, elsewhere
   exactly what the mixture hides.  `soft` leaves it out (S = 0 in 6 and 7).
   `gumbel` mixes a sample instead (Jang, Gu, Poole 2017): in each step, with
   fresh noise G and tau falling from step to step,
     pi_m = softmax(theta_m),   y_m = softmax((theta_m + G_m) / tau),   p = y
   where c and entropy are of pi, the expectation; J is differentiated at the
   sampled noise.  `hard`: p_m = one-hot(argmax_k theta_mk + G_mk), a sample of
   pi_m itself, with the straight-through gradient dE/dtheta = (dy/dtheta)
   dE/dp: as if p moved as y does.

   Norms, D_lt (the mean over the rows of this step), r(x) = x:
     token   ||h_lt||^2           robust  the same, but r(x) = ln(1 + 10 x) / 10
     plain   1
     energy  mean_t ||h_lt||^2    update  mean_t ||h_lt - h_{l-1,t}||^2
   w_t: --first-weight at the first position of a sequence, else 1; but 0 where
   ||h_lt||^2 is 0 (an untrained token comes first), subnormal or infinite.

   Every block sees the original model's input h_{l-1} (teacher forcing), so
   blocks are independent given lambda.  One step is one sweep that recomputes
   the teacher's stream as it goes: memory is one block, not the model, unless
   `keep`.  With several processes each sweeps its own blocks (lib/ranks.c).
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------- calibration text */

void gm_calibration(gm_arena *arena, const char *path, const int32_t *tokens,
                    long count, long sequences, long T, int32_t **out) {
    if (count / T < sequences)
        gm_bad(path, "expected at least %ld tokens (%ld sequences of %ld), "
               "found %ld", sequences * T, sequences, T, count);
    *out = gm_alloc(arena, (size_t)(sequences * T), sizeof **out);
    /* sequence i starts at floor(i count / sequences): spread evenly, and
       T <= count / sequences keeps them apart */
    for (long i = 0; i < sequences; i++)
        memcpy(*out + i * T, tokens + (long)((__int128)i * count / sequences),
               (size_t)T * sizeof *tokens);
}

/* Which sequences step `step` sees: the next places of a permutation of
   0 .. sequences-1, drawn anew each time it is used up. */
static void pick_sequences(const gm_fit_options *o, long step, long *order,
                           long *picked) {
    for (long i = 0; i < o->batch; i++) {
        long place = step * o->batch + i;
        uint64_t epoch = (uint64_t)(place / o->sequences);
        for (long j = 0; j < o->sequences; j++) order[j] = j;
        for (long j = o->sequences - 1; j > 0; j--) {       /* Fisher, Yates */
            uint64_t r = gm_random(o->seed, epoch, (uint64_t)j);
            long other = (long)(r % (uint64_t)(j + 1)), keep = order[j];
            order[j] = order[other];
            order[other] = keep;
        }
        picked[i] = order[place % o->sequences];
    }
}

/* ---------------------------------------------------------- relaxations (1) */

const char *const gm_relaxation_name[] = {"soft", "soft-corrected", "gumbel",
                                          "hard"};
const char *const gm_loss_norm_name[] = {"token", "robust", "plain", "energy",
                                         "update"};
const char *const gm_score_name[] = {"theta", "loss", "scaled"};

bool gm_sampled(gm_relaxation relaxation) {
    return relaxation == GM_GUMBEL || relaxation == GM_HARD;
}

/* tau_s = tau (tau_last / tau)^(s / (steps - 1)), s = 0 .. steps-1. */
double gm_temperature(double tau, double last, long step, long steps) {
    if (last == tau || steps < 2) return tau;
    double done = (double)step / (double)(steps - 1);
    return tau * gm_expd(done * gm_logd(last / tau));
}

/* Standard Gumbel noise, -ln(-ln u), u uniform in (0, 1).  Its streams count
   down from the last: those of the sequences' permutations count up from 0. */
double gm_gumbel(uint64_t seed, long step, long i) {
    double u = gm_uniform(seed, UINT64_MAX - (uint64_t)step, (uint64_t)i);
    u = (1 - 0x1p-52) * u + 0x1p-54;            /* [0, 1) into (0, 1) */
    return -gm_logd(-gm_logd(u));
}

/* (1) over the allowed candidates; 0 elsewhere. */
void gm_softmax(int K, const bool *allowed, const double *x, double tau,
                double *p) {
    double most = -HUGE_VAL, sum = 0;
    for (int k = 0; k < K; k++)
        if ((!allowed || allowed[k]) && x[k] > most) most = x[k];
    for (int k = 0; k < K; k++)
        sum += p[k] = !allowed || allowed[k] ? gm_expd((x[k] - most) / tau) : 0;
    for (int k = 0; k < K; k++) p[k] /= sum;
}

/* dJ/dx_k = p_k (v_k - sum_j p_j v_j) / tau for p = softmax(x / tau) and
   v = dJ/dp; ADDS it to d. */
static void softmax_backward(int K, const double *p, const double *v,
                             double tau, double *d) {
    double mean = 0;
    for (int k = 0; k < K; k++) mean += p[k] * v[k];
    for (int k = 0; k < K; k++) d[k] += p[k] * (v[k] - mean) / tau;
}

void gm_one_hot(int K, const bool *allowed, const double *x, double *p) {
    int best = -1;
    for (int k = 0; k < K; k++) {
        p[k] = 0;
        if ((!allowed || allowed[k]) && (best < 0 || x[k] > x[best])) best = k;
    }
    p[best] = 1;
}

/* n_m and b_k of (2): code bits [GAMMA: average bits], but of candidates with
   labels what they take: learning must not depend on what they are called. */
static double module_weights(const gm_fit *fit, long m) {
    long out, in;
    gm_linear_shape(&fit->candidates->model->config, (int)(m % GM_LINEARS),
                    &out, &in);
    return (double)out * (double)in;
}

static double bits_of(const gm_fit *fit, long i) {
    const gm_recipe *r = &fit->candidates->recipe;
    const double *stored = r->external ? r->external->stored : NULL;
    return stored ? stored[i] : r->bits[i % fit->K];
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
            bits += pi[k] * bits_of(fit, m * K + k);
            if (pi[k] > 0) fit->entropy -= pi[k] * gm_logd(pi[k]);
        }
        fit->c += module_weights(fit, m) * bits;
    }
    fit->c = fit->c / fit->N - o->budget;
    fit->entropy /= (double)fit->M;
}

/* --------------------------------------------------------------- norms (4) */

/* Relative error beyond which `robust` counts a token's error less and less. */
#define ROBUST 0.1

/* D of the norms that divide by a mean over the R rows; 1: plain. */
static double mean_divisor(const gm_loss *x) {
    const bool update = x->norm == GM_NORM_UPDATE;
    double sum = 0;
    if (x->norm != GM_NORM_ENERGY && !update) return 1;
    #pragma omp parallel for schedule(static) num_threads(gm_threads())
    for (long t = 0; t < x->R; t++) {
        const gm_real *y = x->y + t * x->d, *h = x->h + t * x->d;
        gm_real *e = x->d_student + t * x->d;
        for (long i = 0; i < x->d && update; i++) e[i] = y[i] - h[i];
        const gm_real *of = update ? e : y;
        x->error[t] = gm_weighs(x->d, y) ? gm_dot(x->d, of, of) : 0;
    }
    for (long t = 0; t < x->R; t++) sum += x->error[t];
    return sum / (double)x->R;
}

/* (4) and its gradient.  With e the student's error of a row:
     x = ||e||^2 / D,   E_t = w_t r(x),   dE/de = (2/R) w_t r'(x) e / D
   r(x) = x; robust: r(x) = ln(1 + 10 x) / 10, r'(x) = 1 / (1 + 10 x). */
double gm_loss_block(const gm_loss *x) {
    const bool own = x->norm == GM_NORM_TOKEN || x->norm == GM_NORM_ROBUST;
    const double mean = mean_divisor(x);
    #pragma omp parallel for schedule(static) num_threads(gm_threads())
    for (long t = 0; t < x->R; t++) {
        const gm_real *y = x->y + t * x->d, *student = x->student + t * x->d;
        gm_real *e = x->d_student + t * x->d;
        const double norm = gm_dot(x->d, y, y);
        double D = own ? norm : mean;
        const bool counts = isnormal((gm_real)norm) && isnormal((gm_real)D);
        for (long i = 0; i < x->d; i++) e[i] = counts ? student[i] - y[i] : 0;
        if (!counts) D = 1;
        double weight = t % x->T == 0 ? x->first_weight : 1;
        double relative = gm_dot(x->d, e, e) / D, slope = 1;
        if (x->norm == GM_NORM_ROBUST) {
            slope = 1 / (1 + relative / ROBUST);
            relative = ROBUST * gm_logd(1 + relative / ROBUST);
        }
        x->error[t] = weight * relative;
        gm_real scale = (gm_real)(2 * weight * slope / (D * (double)x->R));
        for (long i = 0; i < x->d; i++) e[i] *= scale;
    }
    double sum = 0;
    for (long t = 0; t < x->R; t++) sum += x->error[t];
    return sum / (double)x->R;
}

/* -------------------------------------------------------- one sweep (3 - 5) */

/* What a watcher sees: gamma.h says what is complete at each point. */
static void watch(const gm_fit *fit, gm_moment moment, long l) {
    if (fit->watcher) fit->watcher->look(fit->watcher->context, fit, moment, l);
}

static void sweep_alloc(gm_arena *arena, const gm_config *c,
                        const gm_fit_options *o, gm_sweep *w) {
    w->R = o->batch * o->T;
    size_t R = (size_t)w->R, d = (size_t)c->d;
    gm_block_alloc(arena, c, &w->block);
    gm_grad_alloc(arena, c, &w->grad);
    gm_acts_alloc(arena, c, o->batch, o->T, true, &w->acts);
    w->h = gm_alloc(arena, R * d, sizeof *w->h);
    w->y = gm_alloc(arena, R * d, sizeof *w->y);
    w->student = gm_alloc(arena, R * d, sizeof *w->student);
    w->d_y = gm_alloc(arena, R * d, sizeof *w->d_y);
    w->row_E = gm_alloc(arena, R, sizeof *w->row_E);
    w->order = gm_alloc(arena, (size_t)o->sequences, sizeof *w->order);
    w->picked = gm_alloc(arena, (size_t)o->batch, sizeof *w->picked);
    w->tokens = gm_alloc(arena, R, sizeof *w->tokens);
    w->known = gm_alloc(arena, (size_t)o->sequences, sizeof *w->known);
    if (o->keep)
        w->kept = gm_alloc(arena, (size_t)(c->layers * o->sequences * o->T),
                           d * sizeof *w->kept);
}

/* E_l of what the student gave; its gradient in w->d_y. */
static double block_loss(const gm_fit *fit) {
    const gm_sweep *w = fit->sweep;
    const gm_fit_options *o = &fit->options;
    return gm_loss_block(&(gm_loss){
        o->norm, o->first_weight == 0 ? 1 : o->first_weight, w->R, o->T,
        w->acts.config->d, w->h, w->y, w->student, w->d_y, w->row_E});
}

/* S_mk is the mean over the first steps, until each sequence was seen. */
static bool measuring(const gm_fit *fit) {
    const gm_fit_options *o = &fit->options;
    return o->relaxation == GM_SOFT_CORRECTED &&
           fit->step * o->batch < o->sequences;
}

/* S_mk: module m of block l alone at candidate k, all else original, in units
   of E_0 once that is known.  Needs the teacher's acts and y; dE/dW~'s buffer
   holds the candidate meanwhile. */
static void measure_separable(gm_fit *fit, long l, const gm_offer *offers) {
    gm_sweep *w = fit->sweep;
    for (int j = 0; j < GM_LINEARS; j++) {
        gm_real *original = w->block.w[j];
        double *S = fit->separable + (l * GM_LINEARS + j) * fit->K;
        w->block.w[j] = w->grad.w[j];
        for (int i = 0; i < offers[j].count; i++) {
            gm_dequantize(&offers[j].packed[i], w->grad.w[j]);
            gm_block_swapped(&w->acts, &w->block, j, w->h, w->student);
            double unit = fit->step ? fit->E0 : 1, *mean = S + offers[j].k[i];
            *mean += (block_loss(fit) / unit - *mean) / (double)(fit->step + 1);
        }
        w->block.w[j] = original;
    }
}

/* The teacher's h -> y in block l, or what it gave in an earlier step. */
static void teach(gm_fit *fit, long l) {
    gm_sweep *w = fit->sweep;
    const gm_model *model = fit->candidates->model;
    const long d = model->config.d, each = fit->options.T * d;
    if (!w->taught) {
        gm_block_forward(&w->acts, &w->block, w->h, w->y);
        gm_states_check(model, l, "output", w->y, w->R, d);
    }
    for (long i = 0; i < fit->options.batch && fit->options.keep; i++) {
        gm_real *y = w->y + i * each, *kept = w->kept +
            (l * fit->options.sequences + w->picked[i]) * each;
        memcpy(w->taught ? y : kept, w->taught ? kept : y,
               (size_t)each * sizeof *y);
    }
}

/* Block l: the teacher's h -> y; S_mk while they are measured; (3) W~; the
   student's h -> y~; (4) E_l; backward, dE/dW~; (5) g.  Leaves the teacher's y
   in w->h, the next block's input. */
static void sweep_block(gm_fit *fit, long l) {
    gm_sweep *w = fit->sweep;
    const gm_model *model = fit->candidates->model;
    const gm_config *c = &model->config;
    gm_offer offers[GM_LINEARS];
    gm_mark mark = gm_arena_mark(fit->arena);
    gm_block_load(model, l, &w->block);
    teach(fit, l);
    watch(fit, GM_TEACHER, l);
    for (int j = 0; j < GM_LINEARS; j++)
        offers[j] = gm_offer_read(fit->arena, fit->candidates, l, j);
    if (measuring(fit)) measure_separable(fit, l, offers);
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_mix(offers + j, fit->p + (l * GM_LINEARS + j) * fit->K,
               w->block.w[j]);
        gm_linear_shape(c, j, &out, &in);
        memset(w->grad.w[j], 0, (size_t)(out * in) * sizeof(gm_real));
    }
    gm_block_forward(&w->acts, &w->block, w->h, w->student);
    fit->block_E[l] = block_loss(fit);
    gm_block_backward(&w->acts, &w->block, w->h, w->d_y, &w->grad, NULL);
    for (int j = 0; j < GM_LINEARS; j++)
        gm_inner(fit->arena, offers + j, w->grad.w[j],
                 fit->g + (l * GM_LINEARS + j) * fit->K);
    gm_arena_rewind(fit->arena, mark);
    watch(fit, GM_BLOCK, l);
    gm_real *teacher = w->y;
    w->y = w->h;
    w->h = teacher;
}

/* This step's sequences, as tokens and as states before the first block. */
static void sweep_begin(gm_fit *fit) {
    const gm_fit_options *o = &fit->options;
    const gm_model *model = fit->candidates->model;
    gm_sweep *w = fit->sweep;
    long d = model->config.d, known = 0;
    pick_sequences(o, fit->step, w->order, w->picked);
    for (long i = 0; i < o->batch; i++) {
        known += w->known[w->picked[i]];
        w->known[w->picked[i]] = o->keep;
        memcpy(w->tokens + i * o->T, fit->tokens + w->picked[i] * o->T,
               (size_t)o->T * sizeof *w->tokens);
        if (w->inputs)
            memcpy(w->h + i * o->T * d, w->inputs + w->picked[i] * o->T * d,
                   (size_t)(o->T * d) * sizeof *w->h);
    }
    w->taught = known == o->batch;
    if (!w->inputs) gm_embed(model, w->tokens, w->R, w->h);
    watch(fit, GM_BEGIN, 0);
}

/* What overflowed in a block's mixture or its gradients. */
static void check_sweep(const gm_fit *fit) {
    const long each = GM_LINEARS * fit->K;
    for (long i = 0; i < fit->M * fit->K; i++) {
        double E = fit->block_E[i / each];
        if (isfinite(E) && isfinite(fit->g[i]) && isfinite(fit->separable[i]))
            continue;
        const char *what = !isfinite(E) ? "reconstruction error"
                         : !isfinite(fit->g[i]) ? "gradient"
                         : "separable error";
        gm_fail(GM_EINPUT, "%s: block %ld: the %s of step %ld is not finite",
                fit->candidates->model->dir, i / each, what, fit->step + 1);
    }
}

/* This rank's blocks in order; then every rank has all of block_E, g and S: E
   in units of E_0, that of the first step. */
static void sweep(gm_fit *fit) {
    const gm_model *model = fit->candidates->model;
    const long L = model->config.layers, each = GM_LINEARS * fit->K;
    sweep_begin(fit);
    for (long l = gm_rank_first(L, gm_rank());
         l < gm_rank_first(L, gm_rank() + 1); l++)
        sweep_block(fit, l);
    gm_ranks_gather(fit->block_E, L, 1);
    gm_ranks_gather(fit->g, L, each);
    if (measuring(fit)) gm_ranks_gather(fit->separable, L, each);
    check_sweep(fit);
    fit->E = 0;
    for (long l = 0; l < L; l++) fit->E += fit->block_E[l];
    if (fit->step == 0) {
        if (!(fit->E > 0))
            gm_fail(GM_EINPUT, "%s: the reconstruction error of step 1 is 0; "
                    "expected a positive finite number", model->dir);
        fit->E0 = fit->E;
        for (long i = 0; i < fit->M * fit->K; i++)
            fit->separable[i] /= fit->E0;
    }
    fit->E /= fit->E0;
    for (long i = 0; i < fit->M * fit->K; i++) fit->g[i] /= fit->E0;
}

/* ---------------------------------------------- the update of theta (7 - 9) */

/* (7) without budget and entropy; i = m K + k.  The separable error plus the
   interaction that the joint pass measured. */
static double candidate_loss(const gm_fit *fit, long i) {
    if (fit->options.relaxation != GM_SOFT_CORRECTED) return fit->g[i];
    return fit->separable[i] +
           (fit->g[i] - 2 * fit->p[i] * fit->separable[i]);
}

/* (7): loss + (lambda + rho c) n_m b_k / N + (alpha/M) ln pi_mk */
static double with_charges(const gm_fit *fit, long i, double loss) {
    const gm_fit_options *o = &fit->options;
    double v = loss + (fit->lambda + o->rho * fit->c) *
                          module_weights(fit, i / fit->K) * bits_of(fit, i) /
                          fit->N;
    if (fit->pi[i] > 0)
        v += o->alpha / (double)fit->M * gm_logd(fit->pi[i]);
    return v;
}

/* (8), dJ/dtheta_m: not sampled, through p = y = pi = softmax(theta / tau) of
   the whole v; sampled, the loss through y, budget and entropy through pi. */
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
        softmax_backward(K, fit->y + at, loss, fit->tau, d);
        softmax_backward(K, fit->pi + at, charges, 1, d);
    } else {
        softmax_backward(K, fit->p + at, fit->v + at, fit->tau, d);
    }
}

/* (7), and one Adam step (Kingma, Ba 2015) along dJ/dtheta. */
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
            /* only differences decide */
            double loss = candidate_loss(fit, i) - mean;
            fit->theta_sum[i] += fit->theta[i];
            fit->loss_sum[i] += loss;
            fit->loss_squares[i] += loss * loss;
        }
    }
}

/* One step: (1, 2), the sweep (3 - 5), Adam on (8), the multiplier (9). */
void gm_fit_step(gm_fit *fit) {
    const gm_fit_options *o = &fit->options;
    update_p(fit);
    sweep(fit);
    accumulate_tail(fit);
    update_theta(fit);
    fit->lambda += o->eta * o->rho * fit->c;
    fit->step++;
    watch(fit, GM_END, 0);
}

/* --------------------------------------------------------------- beginning */

void gm_fit_begin(gm_arena *arena, const gm_candidates *candidates,
                  const int32_t *tokens, const gm_fit_options *options,
                  gm_fit *fit) {
    const gm_model *model = candidates->model;
    const gm_config *c = &model->config;
    *fit = (gm_fit){.options = *options, .candidates = candidates,
                    .arena = arena, .tokens = tokens,
                    .K = candidates->recipe.count,
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
    gm_sweep *w = fit->sweep = gm_alloc(arena, 1, sizeof *w);
    sweep_alloc(arena, c, options, w);
    if (gm_rank() == 0) return;
    w->inputs = gm_alloc(arena, (size_t)(options->sequences * options->T),
                         (size_t)c->d * sizeof *w->inputs);
    gm_states_before(model, gm_rank_first(c->layers, gm_rank()),
                     &(gm_sequences){tokens, options->sequences, options->T},
                     &w->block, &w->acts, w->inputs);
}

/* -------------------------------------------------------------- scores (10) */

/* scaled: S_mk factor_m.  loss_mk is S_mk plus an interaction, the product of
   the candidate's error and the others' at the budget of learning: for a good
   candidate larger than S_mk.  But at a budget where m gets such a candidate
   the others' errors are small too: the interaction keeps its proportion.  So
   it is read where it weighs least, between the module's worst candidate and
   its best, and half of it belongs to the others, so that scores add up [ours]:
     factor_m = (1 + (loss_worst - loss_best) / (S_worst - S_best)) / 2,
   within 1/2 and 2. */
static double joint_factor(const gm_fit *fit, long m, double n) {
    const double *S = fit->separable, *loss = fit->loss_sum;
    long worst = -1, best = -1;
    for (long i = m * fit->K; i < (m + 1) * fit->K; i++) {
        if (!gm_allowed(fit->candidates, m, (int)(i - m * fit->K))) continue;
        if (worst < 0 || S[i] > S[worst]) worst = i;
        if (best < 0 || S[i] < S[best]) best = i;
    }
    const double apart = S[worst] - S[best], ratio = apart > 0
        ? (loss[worst] - loss[best]) / n / apart : 1;
    return fmin(fmax((1 + ratio) / 2, 0.5), 2);
}

/* loss: the mean of candidate_loss over the tail's steps.
   theta: at a stationary point v_mk is the same for all k, so, up to a constant
   of the module,
     loss_mk = -(alpha/M) theta_mk / tau - (lambda + rho c) n_m b_k / N
   is what choosing k adds, as the joint relaxation saw it [ours]; theta and
   the multiplier are means over the tail; tau = 1 when sampled: entropy of pi.
   The standard error is of the mean over the tail's steps, each on other
   sequences, of what accumulate_tail adds; -1, unknown, of a single step. */
static double raw_score(const gm_fit *fit, long m, int k, double n) {
    const gm_fit_options *o = &fit->options;
    const double tau = gm_sampled(o->relaxation) ? 1 : o->tau;
    long i = m * fit->K + k;
    if (o->score == GM_SCORE_LOSS) return fit->loss_sum[i] / n;
    if (o->score == GM_SCORE_SCALED)
        return fit->separable[i] * joint_factor(fit, m, n);
    return -o->alpha / (double)fit->M * (fit->theta_sum[i] / n) / tau -
           fit->multiplier_sum / n * module_weights(fit, m) *
               bits_of(fit, i) / fit->N;
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
    gm_scores_new(arena, c->layers * GM_LINEARS, K, recipe->bits, out);
    for (int k = 0; k < K; k++)
        if (*recipe->label[k]) strcpy(out->label[k], recipe->label[k]);
    for (long m = 0; m < out->M; m++) {
        long rows, columns;
        int j = (int)(m % GM_LINEARS);
        out->name[m] = gm_linear_name(arena, m / GM_LINEARS, j);
        gm_linear_shape(c, j, &rows, &columns);
        out->out[m] = rows, out->in[m] = columns;
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
