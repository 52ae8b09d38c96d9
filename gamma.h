/* gamma.h: every type and every public function, in reading order.

   GAMMA: global bit allocation for mixed-precision models under arbitrary
   budgets (arXiv 2605.18475), in plain C.  Learn once how much each linear
   module of a Llama-like checkpoint minds having fewer bits (Stage I,
   gamma.c); then, for any memory budget, solve an integer program exactly
   (Stage II, solver.c); write the quantized model (quant.c).

   Letters used everywhere (code, comments, docs, tests):
     L blocks        M = 7 L linear modules     T tokens in one sequence
     R rows: tokens  d hidden size              n_m weights in module m
     N = sum_m n_m   K candidates per module    b_k code bits of candidate k
     W_m weight of module m, [out, in]          Q_mk its candidate k, [out, in]
     s_mk stored bytes of module m with candidate k

   Calls go downwards only:
     main > gamma > solver, quant, model > lib
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GAMMA_H
#define GAMMA_H

#include "lib/lib.h"

/* ----------------------------------------------------------------- model.c
   One block forward and backward, and the output head (equations: model.c). */

/* cos and sin [T, half the turned elements of a head] of the rotary angles of
   positions position[0] .. position[T-1]; NULL: 0 .. T-1. */
void gm_rope_angles(const gm_config *config, long T, const int32_t *position,
                    gm_real *cos, gm_real *sin);

/* What the backward pass needs from a forward pass over R = sequences T rows.
   Allocated once, used for every block; both may be set lower. */
typedef struct {
    const gm_config *config;
    long sequences, T;
    long room, threads;             /* T and gm_threads() when allocated      */
    gm_real *cos, *sin;             /* [room, hd/2] of the positions 0 .. T-1 */
    gm_real *x1, *q, *k, *v;        /* [R, d] normed h; [R, heads hd] ...     */
    gm_real *q_raw, *k_raw;         /* before q_norm and k_norm; Qwen3 only   */
    gm_real *attn;                  /* [R, heads hd] attention's output       */
    gm_real *lse;                   /* [R, heads] log-sum-exp of its scores   */
    gm_real *mid, *x2;              /* [R, d] h + o of it; normed             */
    gm_real *gate, *up, *act;       /* [R, ff]; act = gate sigma(gate) up     */
    gm_real *scratch;               /* [threads, 2, 64, room] scores          */
    gm_real *d_attn, *d_mid;        /* backward workspace, NULL unless asked  */
    gm_real *d_q, *d_k, *d_v, *d_gate, *d_up, *d_act, *d_x1, *d_x2;
} gm_acts;
void gm_acts_alloc(gm_arena *arena, const gm_config *config, long sequences,
                   long T, bool backward, gm_acts *acts);

/* y = f(h; W): h, y [R, d]; y may be h. */
void gm_block_forward(gm_acts *acts, const gm_block *block, const gm_real *h,
                      gm_real *y);
/* Only as far as the inputs of modules need: last_input 0: x1 (of q, k, v),
   1: attn (of o), 2: x2 (of gate, up), 3: act (of down); of each linear: */
extern const int gm_input_of[GM_LINEARS];
void gm_block_inputs(gm_acts *acts, const gm_block *block, const gm_real *h,
                     int last_input);
/* y where linear j alone has another weight than in acts' forward pass, without
   what stands before it; acts serve for further swaps, not for backward. */
void gm_block_swapped(const gm_acts *acts, const gm_block *block, int j,
                      const gm_real *h, gm_real *y);
/* Given d_y = dE/dy after a forward pass, ADDS dE/dW to what grad has (not
   NULL) of weights, biases and norms, and dE/dh to d_h unless NULL.  h must
   still be the input when d_h or grad->norm1 is asked for, d_y another array
   than d_h. */
void gm_block_backward(gm_acts *acts, const gm_block *block, const gm_real *h,
                       const gm_real *d_y, gm_block *grad, gm_real *d_h);
/* mass [R] after a forward pass, at least as far as attn: the attention that
   a position receives from itself and all later ones, mean over the heads. */
void gm_attention_mass(const gm_acts *acts, double *mass);

/* A text: sequences, or windows, of T tokens, [sequences, T]. */
typedef struct { const int32_t *tokens; long sequences, T; } gm_sequences;
/* h [R, d]: the states before block `first` of the original model.  block,
   acts (as many sequences pass at a time as it has): workspace. */
void gm_states_before(const gm_model *model, long first,
                      const gm_sequences *text, gm_block *block,
                      gm_acts *acts, gm_real *h);

/* logits [rows, vocab] = norm(h) w^T; given d_logits, ADDS dE/dh to d_h.
   scratch, h, d_h [rows, d]. */
void gm_head_forward(const gm_head *head, const gm_real *h, long rows,
                     gm_real *scratch, gm_real *logits);
void gm_head_backward(const gm_head *head, const gm_real *h, long rows,
                      const gm_real *d_logits, gm_real *scratch, gm_real *d_h);

/* ----------------------------------------------------------------- quant.c
   Rounding of one weight; the candidates of a model.  Equations: quant.c. */

typedef enum { GM_RTN, GM_GPTQ, GM_EXTERNAL } gm_quantizer;
/* w_t of (10): token 1 / ||x_t||, times 4 at position 0 of a sequence [ours];
   plain 1 (Frantar et al. 2022); attention sqrt(a_t) / ||x_t|| for q, k and v,
   a_t by gm_attention_mass, else as token [ours]. */
typedef enum { GM_TOKEN, GM_PLAIN, GM_ATTENTION } gm_hessian;
/* A set: (1) to (4) in quant.c. */
typedef enum { GM_MINMAX, GM_MSE, GM_SYMMETRIC, GM_BF16_SCALE = 4, GM_BIAS = 8
} gm_scales;
extern const char *const gm_quantizer_name[], *const gm_hessian_name[];
#define GM_DAMPING 0.01

/* Candidates that another tool made, dequantized: formats/external.c. */
typedef struct gm_external {
    gm_tensors tensors;
    const gm_tensor **tensor;   /* [M, K]; NULL: no such candidate           */
    bool *allowed;              /* [M, K] whether there is one               */
    int64_t *bytes;             /* [M, K] s_mk; -1: no such candidate        */
    double *stored;             /* [M, K] 8 s_mk / n_m; NULL: no labels      */
    int64_t overhead;           /* of the tool's file; -1: it does not say   */
    char hash[65];              /* of tensors and bytes                      */
} gm_external;

/* How candidates are made; what is hashed into every file that uses them. */
typedef struct {
    int count;                          /* K                                 */
    int bits[GM_MAX_CANDIDATES];        /* b_k, ascending, 1..8; 16 or 32: the
                                           weight as stored                  */
    char label[GM_MAX_CANDIDATES][GM_LABEL];    /* another tool's, or ""     */
    long group;                         /* input columns per scale           */
    gm_quantizer quantizer;
    gm_scales scales;                   /* SYMMETRIC: b > 1                  */
    gm_hessian hessian;                 /* GPTQ only, as the next three      */
    bool act_order;                     /* largest H_jj first                */
    double damping;                     /* share of mean H_jj added to it    */
    bool sequential;                    /* inputs from modules before, already
                                           quantized                         */
    const gm_external *external;        /* GM_EXTERNAL: what its file holds  */
    long at_once;                       /* sequences in a pass; 0: 4         */
    bool *weightless;                   /* NULL, or [S, T]: gets w_t = 0     */
} gm_recipe;

/* One packed candidate of a weight [out, in], groups = ceil(in/group):
   codes: each row is a bit stream, least significant bit first, padded to a
   byte; scales: fp16 [out, groups], little endian, at any alignment; zeros:
   like codes, [out, groups].  Values: scale (code - zero) - shift, float32. */
typedef struct {
    int bits;
    long out, in, group;
    uint8_t *codes, *scales, *zeros;
    gm_real *original;          /* [out, in] or NULL: the values themselves */
    gm_scales rule;             /* BIAS: shift is not 0; (3) in quant.c     */
} gm_packed;
/* Its parts one after the other at data [gm_packed_bytes]; and as tensors
   STEM.codes, STEM.scales, STEM.zeros of a file. */
gm_packed gm_packed_at(long out, long in, int bits, long group, uint8_t *data);
void gm_packed_tensors(gm_arena *arena, const char *stem, const gm_packed *p,
                       gm_tensor out[3]);

/* What GPTQ of all weights with the same input shares: (5), in the order the
   columns are rounded in. */
typedef struct {
    long n;
    gm_real *U;                 /* [n, n]                                    */
    long *order;                /* [n] act-order; NULL: from left to right   */
    bool *dead;                 /* [n] H_jj = 0: the weight becomes 0        */
} gm_factor;
/* H [n, n], lower triangle read.  damping: share of the mean H_jj (of columns
   that are not dead) added to each. */
void gm_gptq_factor(gm_arena *arena, long n, const double *H, double damping,
                    bool act_order, gm_factor *out);

/* Rounds w [out, in] into codes, scales and zeros of q, whose shape is given:
   GPTQ with its inputs' factor; factor NULL: RTN.  The arena is workspace. */
void gm_quantize(gm_arena *arena, const gm_real *w, gm_scales rule,
                 const gm_factor *factor, gm_packed *q);
float gm_shift(gm_scales rule, float scale, int zero);
/* The values of all of the weight, q [out, in]. */
void gm_dequantize(const gm_packed *packed, gm_real *q);

/* The candidates that one module has: their numbers k and weights. */
typedef struct {
    int count, k[GM_MAX_CANDIDATES];
    gm_packed packed[GM_MAX_CANDIDATES];
} gm_offer;
/* W~ = sum_k p[k] Q_k, [out, in], summed in order in gm_real. */
void gm_mix(const gm_offer *offer, const double *p, gm_real *w);
/* g[k] = <G, Q_k> of those; the other g[k] stay.  Each row by gm_dot, rows
   added in order.  The arena is workspace. */
void gm_inner(gm_arena *arena, const gm_offer *offer, const gm_real *G,
              double *g);

/* Sequences in one pass of GPTQ's inputs: a matter of memory. */
long gm_at_once(const gm_recipe *recipe, long sequences);
/* (10) of the original model: look(context, l, i, n, H) for each block l and
   input i of its modules (q, k, v | o | gate, up | down), H [n, n], lower
   triangle. */
typedef void gm_hessian_look(void *context, long l, int i, long n,
                             const double *H);
void gm_hessians(gm_arena *arena, const gm_model *model,
                 const gm_recipe *recipe, const gm_sequences *calibration,
                 gm_hessian_look *look, void *context);
/* Makes all candidates below 16 bits and, on rank 0, writes them to `file`, in
   the order of blocks, linears, bits.  calibration: for GPTQ. */
void gm_candidates_make(gm_arena *arena, const gm_model *model,
                        const gm_recipe *recipe,
                        const gm_sequences *calibration,
                        const gm_report *report, gm_out *file);

/* The candidates of a whole model in one safetensors file, NAME.b3.codes,
   NAME.b3.scales, NAME.b3.zeros; opened by formats/candidates.c. */
typedef struct {
    gm_recipe recipe;
    char text[GM_RECIPE_TEXT];  /* of the recipe, as files have it */
    const gm_model *model;
    gm_tensors tensors;
    char hash[65];              /* of recipe, model, for GPTQ the calibration */
    const bool *allowed;        /* [M, K] has m a candidate k; NULL: all do */
} gm_candidates;

static inline bool gm_allowed(const gm_candidates *c, long m, int k) {
    return !c->allowed || c->allowed[m * c->recipe.count + k];
}

/* Candidate k of module (layer, j), in the arena; and all that the module has.
   One that is a tensor as it stands (the stored weight, another tool's) can be
   had as that: else NULL; the others' tensors: names, types, shapes. */
gm_packed gm_candidate(gm_arena *arena, const gm_candidates *candidates,
                       long layer, int j, int k);
gm_offer gm_offer_read(gm_arena *arena, const gm_candidates *candidates,
                       long layer, int j);
const gm_tensor *gm_candidate_tensor(const gm_candidates *candidates,
                                     long layer, int j, int k);
void gm_candidate_parts(gm_arena *arena, const gm_candidates *candidates,
                        long layer, int j, int k, gm_tensor out[3]);
/* Dequantized, w [out, in]; and a block with candidate choice[j] for linear
   j, 0..6, or its stored weight where that is -1.  The arena is workspace. */
void gm_candidate_weight(gm_arena *arena, const gm_candidates *candidates,
                         long layer, int j, int k, gm_real *w);
void gm_chosen_block(gm_arena *arena, const gm_candidates *candidates,
                     long layer, const int *choice, gm_block *block);

/* ---------------------------------------------------------------- solver.c
   Stage II: the integer program, solved exactly (equations: solver.c). */

/* sum_mk cost[m K + k] x_mk <= limit.  Costs may have any sign. */
typedef struct {
    const char *name;
    int64_t *cost, limit;       /* cost: [M, K] */
    int places;                 /* both were multiplied by 10^places */
} gm_row;

/* The problem.  All sums over modules must stay below 2^61. */
typedef struct {
    long M;
    int K;                      /* <= GM_MAX_CANDIDATES                      */
    int64_t *size, *score;      /* [M, K] s_mk, u_mk                         */
    bool *allowed;              /* [M, K] false: the module may not take k   */
    int64_t budget;
    bool exact;                 /* sizes must sum to the budget, not below   */
    long rows;
    gm_row *row;
    long *group;                /* [M] or NULL: modules with equal numbers
                                   take the same candidate; -1: none         */
    int shift;                  /* u_mk = round(2^shift real score)          */
    double rounding;            /* two assignments whose real scores differ
                                   by more are ordered alike                 */
    const gm_scores *scores;    /* for names and messages, or NULL           */
    const gm_budget *asked;
} gm_mckp;

/* A problem with all arrays zeroed and everything allowed; and that of a table
   and a budget, which must outlive it (score_bits 1..44, 30 is the design's:
   of the widest module's range). */
void gm_mckp_new(gm_arena *arena, long M, int K, gm_mckp *out);
void gm_problem_build(gm_arena *arena, const gm_scores *scores,
                      const gm_budget *budget, int score_bits, gm_mckp *out);

/* Sizes that can be reached; next to a budget that cannot be met, -1: none
   (`proven`: the next ones, else the nearest found); said in a reader's units. */
typedef struct {
    int64_t smallest, largest, below, above;
    bool proven;
} gm_reach;
_Noreturn void gm_problem_refuse(const gm_mckp *problem, const gm_reach *reach);

typedef enum { GM_BOTH, GM_DP, GM_GLPK } gm_solver;
typedef struct {
    gm_solver solver;
    double seconds;             /* time limit of each solver; 0: none        */
    size_t memory;              /* bytes for the dynamic program; 0: 1 GiB   */
    bool any;                   /* any optimum will do: no tie rule          */
    bool verbose;               /* GLPK's own output goes to report          */
    const char *lp;             /* file for GLPK's model, CPLEX LP; or NULL  */
    const gm_report *report;
} gm_solve_options;

/* What is known about the answer, in the problem's integers.  Weak duality:
   for lambda = lambda_num / lambda_den and mu_r = mu_num[r] / lambda_den
     sum_m min_k (u_mk + lambda s_mk + sum_r mu_r c_rmk)
       - lambda B - sum_r mu_r limit_r   <=  every feasible objective;
   lp_bound is its ceiling. */
typedef struct {
    bool found;                 /* choice[] holds a feasible assignment      */
    bool optimal;               /* objective = bound, and not rounded        */
    bool rounded;               /* rounding may hide a better one: why       */
    bool unique_rule;           /* ties proven resolved by the rule          */
    int64_t objective, size, slack;
    int64_t bound;              /* no assignment has a smaller objective     */
    int64_t lp_bound, lambda_num, lambda_den, mu_num[GM_MAX_ROWS];
    gm_reach reach;             /* when infeasible; rows ignored             */
    bool dp_ran, glpk_ran, agreed;          /* agreed: both ran, same value  */
    bool enumerated;            /* all assignments, for they were few        */
    bool dp_ended;              /* not stopped by a limit or lack of memory  */
    long states, nodes;         /* of the dynamic program; of GLPK           */
    size_t memory;              /* of the dynamic program's tables           */
    double dp_seconds, glpk_seconds;
    char why[128];              /* GM_ELIMIT: in words                       */
} gm_certificate;

/* choice: [M].  Of the optimal assignments the one smallest in size, then
   lexicographically smallest in module order (lower candidate first).
   Scores of a table may be rounded anew.  GM_ELIMIT: a limit came first, or
   `rounded`; incumbent and bound are there.  Fails where nothing is feasible
   (reach is set) or found in time, or the solvers disagree (GM_EDIFFER). */
gm_status gm_mckp_solve(gm_arena *arena, gm_mckp *problem,
                        const gm_solve_options *options, int *choice,
                        gm_certificate *out);

/* Every Pareto-optimal point of the problem (its budget is ignored), ascending
   in size.  GM_ELIMIT, `why` says it: rounding may hide some; or, not `all`,
   seconds or memory ended: those that some multiplier makes optimal. */
typedef struct { int64_t size, score; } gm_point;
typedef struct {
    long count; gm_point *point; bool all; char why[128]; } gm_frontier;
gm_status gm_frontier_find(gm_arena *arena, gm_mckp *problem,
                           const gm_solve_options *options, gm_frontier *out);

/* ----------------------------------------------------------------- gamma.c
   Stage I: learn theta, from it scores.  Equations: gamma.c. */

typedef enum { GM_SOFT, GM_SOFT_CORRECTED, GM_GUMBEL, GM_HARD,
               GM_RELAXATIONS } gm_relaxation;
typedef enum { GM_NORM_TOKEN, GM_NORM_ROBUST, GM_NORM_PLAIN, GM_NORM_ENERGY,
               GM_NORM_UPDATE, GM_NORMS } gm_loss_norm;
/* What becomes the score: theta at a stationary point, the averaged loss, or
   S_mk times one factor from it: gm_fit_scores in gamma.c. */
typedef enum { GM_SCORE_THETA, GM_SCORE_LOSS, GM_SCORE_SCALED } gm_score;
extern const char *const gm_relaxation_name[], *const gm_loss_norm_name[],
    *const gm_score_name[];                     /* "soft", "token", "theta"  */
bool gm_sampled(gm_relaxation relaxation);      /* gumbel, hard */

/* Temperature of step 0 .. steps-1, from tau to last along a geometric line. */
double gm_temperature(double tau, double last, long step, long steps);
double gm_gumbel(uint64_t seed, long step, long i);         /* noise */
/* p = softmax(x / tau) over the allowed (NULL: all), 0 elsewhere; [K]. */
void gm_softmax(int K, const bool *allowed, const double *x, double tau,
                double *p);
/* 1 at the allowed largest x (the first of equals), 0 elsewhere. */
void gm_one_hot(int K, const bool *allowed, const double *x, double *p);

/* A block's reconstruction: R rows in sequences of T; h its input, y the
   teacher's output, student what the mixed weights gave; all [R, d]. */
typedef struct {
    gm_loss_norm norm;
    double first_weight;
    long R, T, d;
    const gm_real *h, *y, *student;
    gm_real *d_student;                 /* gets dE/d student */
    double *error;                      /* [R] gets E_t */
} gm_loss;
/* E = (1/R) sum_t E_t, rows added in order: (4). */
double gm_loss_block(const gm_loss *loss);

/* All of Stage I's settings; the defaults are in the option table of cmd/. */
typedef struct {
    gm_relaxation relaxation;
    gm_loss_norm norm;
    gm_score score;     /* which is written as the score       */
    long sequences, T;  /* of the calibration text                        */
    long batch, steps;  /* batch: sequences in one step                   */
    double alpha;       /* weight of the entropy term, units of E_0       */
    double rho;         /* penalty on the squared constraint              */
    double eta;         /* multiplier ascent: lambda += eta rho c         */
    double tau;         /* softmax temperature                            */
    double tau_last;    /* gumbel, hard: of the last step; 0: tau         */
    double first_weight;        /* of a sequence's first token in E_l; 0: 1 */
    double rate;        /* Adam's step                                    */
    double tail;        /* share of the last steps averaged into scores   */
    double budget;      /* B: target average code bits while learning     */
    uint64_t seed;      /* sequences of each step, Gumbel noise           */
    bool keep;          /* the teacher's y, for later steps: the same bits */
} gm_fit_options;

/* Buffers of one step; R = batch T rows. */
typedef struct {
    gm_block block, grad;       /* W or W~; dE/dW~                            */
    gm_acts acts;
    gm_real *h, *y, *student, *d_y;     /* [R, d] h_{l-1}, h_l, f_l(W~), dE/d */
    gm_real *inputs;            /* its first block's own; NULL: embeddings    */
    gm_real *kept;              /* [L, sequences, T, d] y of earlier steps    */
    bool *known, taught;        /* [sequences] in kept; all of this step are  */
    double *row_E;              /* [R] E_t                                    */
    long R, *order, *picked;    /* [sequences], [batch]                       */
    int32_t *tokens;            /* [R]                                        */
} gm_sweep;

/* Who looks on: at four points of a step, with what is complete by then.
   GM_BEGIN    theta, p, y, pi, c, entropy, tau; sweep: tokens, h = embeddings
   GM_TEACHER  block l as in the original; sweep: block, h, y; not kept: acts
   GM_BLOCK    block l: block_E[l]; sweep: h, y, student, row_E, block = W~,
               grad = dE/dW~
   GM_END      all of gm_fit, the step being counted */
typedef enum { GM_BEGIN, GM_TEACHER, GM_BLOCK, GM_END } gm_moment;
typedef struct gm_fit gm_fit;
typedef struct {
    void (*look)(void *context, const gm_fit *fit, gm_moment moment, long l);
    void *context;
} gm_watcher;

/* The whole state of Stage I: what a resumed run needs, bit for bit.  Arrays
   are [M, K], module m = 7 layer + linear. */
struct gm_fit {
    gm_fit_options options;
    const gm_candidates *candidates;
    gm_arena *arena;                    /* of begin; a step's workspace      */
    const int32_t *tokens;              /* [sequences, T]                    */
    const gm_watcher *watcher;          /* NULL: nobody looks                */
    long M, step;                       /* step: done so far                 */
    int K;
    double N, E0, lambda;
    double beta1_power, beta2_power;    /* Adam's bias correction            */
    double *theta, *moment1, *moment2;
    double *separable;                  /* S_mk, soft-corrected only         */
    double *theta_sum, *loss_sum, *loss_squares, multiplier_sum; /* of tail  */
    double E, c, entropy, tau;  /* of the last step, E in units of E0        */
    double *p, *g, *v;          /* p: what was mixed                         */
    double *y, *pi;             /* sampled relaxations; else p itself        */
    double *block_E;            /* [L]                                       */
    gm_sweep *sweep;
};

/* Sequences of T tokens from a text, evenly spread over it, no overlap. */
void gm_calibration(gm_arena *arena, const char *path, const int32_t *tokens,
                    long count, long sequences, long T, int32_t **out);
void gm_fit_begin(gm_arena *arena, const gm_candidates *candidates,
                  const int32_t *tokens, const gm_fit_options *options,
                  gm_fit *out);
/* One sweep over the blocks, one Adam step, one multiplier step. */
void gm_fit_step(gm_fit *fit);
/* score[M, K]: estimated loss of module m at candidate k, units of E_0,
   smallest of each module 0; error[M, K]: its standard error (see gamma.c);
   a candidate that the module lacks: 0 and -1. */
void gm_fit_scores(const gm_fit *fit, double *score, double *error);

/* All modules and candidates with their sizes; scores and overhead: zero. */
void gm_module_table(gm_arena *arena, const gm_model *model,
                     const gm_recipe *recipe, gm_scores *out);

#endif
