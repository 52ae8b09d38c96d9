/* test_grad_fit.c: the gradient of Stage I's objective in theta, for each
   relaxation and norm, through softmax, sample, mixture, block and loss,
   against central differences; built in double (-DGM_DOUBLE).  Prints the
   worst relative errors.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats/formats.h"
#include "gamma.h"
#include "test.h"

#include <math.h>

enum { K = 3, MOST = 64 };
static const double alpha = 0.3, rho = 7, tau = 0.8, lambda = 0.4;

/* One step at the fit's theta.  A step with rate 1e-300 moves nothing; step 1
   keeps E_0 as it is and draws the same noise each time. */
static void look(gm_fit *fit) {
    fit->lambda = lambda;
    fit->step = 1;
    memset(fit->moment1, 0, (size_t)(fit->M * K) * sizeof *fit->moment1);
    CHECK(STATUS(gm_fit_step(fit)) == GM_OK, "%s", err.text);
}

/* J at the fit's theta.  The straight-through gradient is that of the loss's
   linearisation at the sample, <g, y>, with g [M, K] as it was there. */
static double objective(gm_fit *fit, const double *g) {
    look(fit);
    double J = fit->E;
    if (fit->options.relaxation == GM_HARD) {
        J = 0;
        for (long i = 0; i < fit->M * K; i++) J += g[i] * fit->y[i];
    }
    for (long i = 0; i < fit->M * K; i++)       /* S = 0 but for corrected */
        J += (fit->p[i] - fit->p[i] * fit->p[i]) * fit->separable[i];
    return J - alpha * fit->entropy + lambda * fit->c +
           rho / 2 * fit->c * fit->c;
}

typedef struct {
    gm_arena arena;
    gm_model model;
    gm_candidates candidates;
    gm_fit fit;
    int32_t tokens[10];
    bool allowed[MOST];
} fixture;

/* masked: module m lacks candidate m mod 4. */
static void begin(fixture *f, const char *dir, const gm_fit_options *o,
                  bool masked) {
    gm_recipe recipe;
    memset(f, 0, sizeof *f);
    for (int i = 0; i < 10; i++) f->tokens[i] = (7 * i + 3) % 40;
    for (int i = 0; i < MOST; i++) f->allowed[i] = i % K != i / K % 4;
    gm_status s = STATUS(gm_model_open(&f->arena, dir, &f->model));
    if (!s) s = STATUS(gm_recipe_parse("2,3,4", 32, &recipe));
    if (!s) s = STATUS(gm_candidates_open(&f->arena, &f->model, &recipe, NULL,
                                   "build/double/fit-work", NULL, &f->candidates));
    if (!s && masked) f->candidates.allowed = f->allowed;
    if (!s) s = STATUS(gm_fit_begin(&f->arena, &f->candidates, f->tokens, o, &f->fit));
    CHECK(s == GM_OK, "%s", err.text);
    for (long i = 0; i < f->fit.M * K; i++) {
        f->fit.theta[i] = gm_uniform(1, 2, (uint64_t)i) - 0.5;
        if (o->relaxation == GM_SOFT_CORRECTED && (!masked || f->allowed[i]))
            f->fit.separable[i] = gm_uniform(1, 3, (uint64_t)i);
    }
    f->fit.E0 = 0.05;
}

/* Of every `every`-th theta: 4 and 2 meet every k. */
static void gradient_is_right(const char *dir, gm_relaxation relaxation,
                              gm_loss_norm norm, double first, bool masked,
                              int every) {
    static fixture f;
    gm_fit_options o = {.relaxation = relaxation, .norm = norm,
                        .sequences = 2, .T = 5,
                        .batch = 2, .steps = 100, .alpha = alpha, .rho = rho,
                        .tau = tau,
                        .tau_last = gm_sampled(relaxation) ? 0.5 : 0,
                        .first_weight = first, .rate = 1e-300, .budget = 2.7,
                        .seed = 1};
    begin(&f, dir, &o, masked);
    gm_fit *fit = &f.fit;
    double worst = 0, size = 0, exact[MOST], g[MOST];
    look(fit);
    for (long i = 0; i < fit->M * K; i++) {
        exact[i] = fit->moment1[i] / 0.1;       /* (1 - beta1) dJ/dtheta */
        g[i] = fit->g[i];
        size = fmax(size, fabs(exact[i]));
    }
    for (long i = 0; i < fit->M * K; i += every) {
        /* central differences of h and h/2, h^2 term cancelled (Richardson):
           error O(h^4) + eps/h ~ 1e-11 of J */
        const double h = 2e-3, at = fit->theta[i];
        double d[2];
        for (int r = 0; r < 2; r++) {
            double step = r ? h / 2 : h;
            fit->theta[i] = at + step;
            double up = objective(fit, g);
            fit->theta[i] = at - step;
            d[r] = (up - objective(fit, g)) / (2 * step);
        }
        fit->theta[i] = at;
        worst = fmax(worst, fabs((4 * d[1] - d[0]) / 3 - exact[i]) / size);
    }
    printf("%s: %s, %s, first %g%s: dJ/dtheta worst relative error %.2e\n", dir,
           gm_relaxation_name[relaxation], gm_loss_norm_name[norm], first,
           masked ? ", masked" : "", worst);
    CHECK(worst < 1e-7, "%s: %.3g", dir, worst);
    gm_candidates_close(&f.candidates);
    gm_model_close(&f.model);
    gm_arena_free(&f.arena);
}

static int test_main(void) {
    const char *llama = "tests/golden/tiny-llama";
    for (int r = 0; r < GM_RELAXATIONS; r++)
        for (int n = 0; n < GM_NORMS; n++)
            gradient_is_right(llama, (gm_relaxation)r, (gm_loss_norm)n, 3,
                              false, 4);
    for (int r = 0; r < GM_RELAXATIONS; r++)
        gradient_is_right(llama, (gm_relaxation)r, GM_NORM_TOKEN, 1, true,
                          2);
    gradient_is_right("tests/golden/tiny-qwen2", GM_SOFT_CORRECTED,
                      GM_NORM_TOKEN, 1, false, 1);
    gradient_is_right("tests/golden/tiny-qwen3", GM_GUMBEL, GM_NORM_UPDATE, 1,
                      false, 1);
    return test_end("test_grad_fit");
}

TEST_MAIN(test_main())
