/* rivals.h: every other way to choose bits, on the same candidates, sizes and
   budgets.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_RIVALS_H
#define GM_RIVALS_H

#include "../gamma.h"

/* --------------------------------------------------------------- measure.c */

/* Windows in one forward pass of a block; rows whose logits exist at once. */
long gm_batch(long windows, long window);
long gm_logit_rows(long vocab, long rows);

/* Hidden states h [S T, d] after the last block, before the final norm, in the
   memory of one block beside them.  choice: candidate of each module, or NULL
   for the original weights. */
void gm_final_states(gm_arena *arena, const gm_model *model,
                     const gm_candidates *candidates, const int *choice,
                     const gm_sequences *text, const gm_report *report,
                     gm_real *h);

/* nll[i] = -ln softmax(head(h_i))[next_i] for rows h_i, [rows, d]. */
void gm_token_losses(gm_arena *arena, const gm_head *head, const gm_real *h,
                     const int32_t *next, long rows, double *nll);

/* Perplexity, and KL divergence and top-1 agreement with the teacher: final
   states like the student's, or NULL.  next [S T]: what each row predicts, -1
   where that does not count, a stretch a window; NULL: all but a window's first
   token. */
void gm_evaluate(gm_arena *arena, const gm_head *head,
                 const gm_sequences *text, const int32_t *next,
                 const gm_real *student, const gm_real *teacher,
                 const gm_report *report, gm_measure *out);

/* ------------------------------------------------------------- objective.c
   What an assignment costs on a calibration text: what the rivals minimise. */

/* blocks: what is teacher-forced will be asked too, else KL and its expansion
   alone, without the states of all blocks. */
typedef struct gm_objective gm_objective;
gm_objective *gm_objective_begin(gm_arena *arena,
                                 const gm_candidates *candidates,
                                 const gm_sequences *text, bool blocks,
                                 const gm_report *report);

/* Work since begin or forget, in forward passes of all blocks over the text. */
double gm_objective_evaluations(const gm_objective *objective);
long gm_objective_sequences(const gm_objective *objective);
void gm_objective_forget(gm_objective *objective);

/* [M, K]: E_l with module m alone at candidate k (known: unless NULL, what that
   is, in any unit); the error of module m's own output.  0 where there is no
   candidate. */
void gm_objective_separable(gm_objective *objective, const double *known,
                            double *S);
void gm_objective_gram(gm_objective *objective, double *D);

/* sum_l E_l of a choice; blocks are remembered, in the arena, until forget. */
double gm_objective_blocks(gm_objective *objective, const int *choice);

/* Mean KL(original || quantized) over the text, nats; each: or NULL, that of
   each sequence.  _begin: once before. */
void gm_objective_kl_begin(gm_objective *objective);
double gm_objective_kl(gm_objective *objective, const int *choice);
double gm_objective_kl_each(gm_objective *objective, const int *choice,
                            double *each);

/* KL(choice, but module m at candidate k) ~ KL(choice) + slope_mk + curve_mk,
   both [M, K], 0 where choice has k or m lacks it; seed: of curve's labels.
   Then its work in forward passes of the model over the text, its memory. */
void gm_objective_expand(gm_objective *objective, const int *choice,
                         uint64_t seed, double *slope, double *curve);
/* slope alone, on `count` sequences from the first on, round and round; 4
   passes over those. */
void gm_objective_slope(gm_objective *objective, const int *choice, long first,
                        long count, double *slope);
/* [M, K]: the mean of (Q_mk - Q_mK)^2 over weights, K the module's last. */
void gm_objective_weights(gm_objective *objective, double *D);
long gm_expand_evaluations(void);
int64_t gm_expand_bytes(const gm_config *config, long T);

/* ---------------------------------------------------------------- search.c */

/* The candidate of module m next above k by (size, k), if it takes no more than
   `room` above k's size, or next below; of k = -1: the first, the last.
   -1: none. */
int gm_neighbour(const gm_mckp *problem, long m, int k, bool up, int64_t room);
/* choice[m] = k; what that adds to the size. */
int64_t gm_take(const gm_mckp *problem, int *choice, long m, int k);
int64_t gm_size_of(const gm_mckp *problem, const int *choice);

/* Drawn steps down until the budget holds, then up until none fits. */
typedef struct { uint64_t seed, stream, counter; } gm_draws;
void gm_fill_random(const gm_mckp *problem, int *choice, gm_draws *draws);

typedef struct {
    const gm_mckp *problem;
    gm_objective *objective;
    double (*cost)(gm_objective *objective, const int *choice);
    double (*spent)(const gm_objective *objective);     /* evaluations so far */
    double share;               /* most that a change of one module costs, a
                                   whole assignment being 1                  */
    double evaluations;         /* what is spent stays below                 */
    uint64_t seed;
    const gm_report *report;
} gm_search;

/* choice: a feasible start, replaced by the best assignment evaluated. */
void gm_anneal(gm_arena *arena, const gm_search *search, int *choice);
/* starts [given, M]: first members of the population, feasible. */
void gm_evolve(gm_arena *arena, const gm_search *search, const int *starts,
               long given, uint64_t stream, int *choice);

/* ------------------------------------------------------------------- rco.c
   RCO (arXiv 2605.00649): gradients on the manifold of assignments that take
   the budget on average.  choice: the answer. */
void gm_rco(gm_arena *arena, const gm_search *search, int *choice);

/* ---------------------------------------------------------------- rivals.c
   The ways themselves: docs/rivals.md.  Every answer is within the budget and
   depends on options, method and budget alone. */

typedef enum {
    GM_MEASURES_NOTHING,
    GM_MEASURES_LINEARS,        /* errors of single linears' outputs         */
    GM_MEASURES_BLOCKS,
    GM_MEASURES_MODELS,         /* of blocks, and KL of quantized models     */
    GM_MEASURES_GRADIENTS       /* the latter and its gradients              */
} gm_measures;

typedef enum {
    GM_UNIFORM,         /* the most bits that fit everywhere                 */
    GM_MIX,             /* that, and the next bits evenly as far as they fit */
    GM_RANDOM,          /* seeded                                            */
    GM_FIRST_HIGH,      /* more bits to the first blocks                     */
    GM_LAST_HIGH,
    GM_GREEDY,          /* separable errors, by marginal gain per size       */
    GM_GRAM,            /* per-linear output error, exact solver             */
    GM_SEPARABLE,       /* per-block separable error S_mk, exact solver      */
    GM_CLOSED_FORM,     /* BAQ's formula per module, rounded to candidates   */
    GM_ANNEAL,          /* simulated annealing on the block objective        */
    GM_EVOLVE,          /* evolutionary search on the block objective        */
    GM_EVOLVE_KL,       /* the same on end-to-end KL                         */
    GM_RCO,             /* gradients of KL on the manifold of the budget     */
    GM_LEARNED,         /* GAMMA's scores, exact solver                      */
    GM_REFINED,         /* the same, scores corrected by end-to-end KL       */
    GM_METHODS
} gm_method;
const char *gm_method_name(gm_method method);   /* "uniform" ... "refined" */
gm_measures gm_method_measures(gm_method method);

typedef struct {
    const gm_candidates *candidates;
    gm_sequences text;          /* calibration, never the evaluation text    */
    const gm_scores *learned;   /* GAMMA's; NULL: GM_LEARNED and GM_REFINED
                                   are refused */
    long evaluations;           /* most evaluations of a search, >= 1        */
    uint64_t seed;
    int64_t overhead;           /* of the table: file bytes beside sum s_mk  */
    const int64_t *bytes;       /* [M, K] its s_mk; NULL: the packed file's  */
    bool whole;                 /* GM_MEASURES_GRADIENTS and _NOTHING alone
                                   are asked: less memory */
    const double *separable;    /* [M, K] Stage I's S_mk of this text, or NULL */
} gm_rivals_options;

typedef struct gm_rivals gm_rivals;     /* sizes; errors measured so far */
gm_rivals *gm_rivals_begin(gm_arena *arena, const gm_rivals_options *options,
                           const gm_report *report);
/* The table that budgets are parsed against: sizes, scores zero. */
const gm_scores *gm_rivals_table(const gm_rivals *rivals);

/* In forward passes of the model, or of all its blocks, over the text: what a
   method would spend alone; errors measured for an earlier call count again. */
typedef struct { double evaluations, seconds; } gm_effort;

/* Of GM_REFINED: the scores [M, K] (the caller's) whose optimum it is; the KL
   of what the learned ones chose and of that on the text, nats a token; how many
   modules it moved. */
typedef struct { double *score, kl_before, kl; long moved; } gm_refined;

/* choice [M]; GM_EINFEASIBLE when not even the least sizes fit.  refined: NULL
   but for GM_REFINED. */
gm_effort gm_rivals_choose(gm_rivals *rivals, gm_method method,
                           const gm_budget *budget, int *choice,
                           gm_refined *refined);
/* KL on each sequence of the text, of the optimum of some scores. */
void gm_rivals_kl(gm_rivals *rivals, const gm_scores *scores,
                  const gm_budget *budget, double *each);

/* ------------------------------------------------------------------- baq.c
   BAQ (arXiv 2506.05664), a whole rival: GPTQ without groups, with bits for
   each input column so that all columns cost the same. */

/* w [out, in] column by column, column j with levels[j] of 1..256, one range a
   row; factor without act-order.  q, code [out, in]; loss [in]: l_j. */
void gm_baq_round(gm_arena *arena, const gm_real *w, long out, long in,
                  const gm_factor *factor, const int *levels, gm_real *q,
                  uint8_t *code, double *loss);
/* levels_j of the losses at R_ref = rate. */
void gm_baq_levels(long n, const double *loss, double rate, int *levels);

/* uniform: pass 1 alone, GPTQ without groups; published: R_ref = rate; bits,
   ebits: all R_j moved alike to the most that keeps the average code bits
   (log2 of levels), or the effective bits, within the rate [ours]. */
typedef enum { GM_BAQ_UNIFORM, GM_BAQ_PUBLISHED, GM_BAQ_BITS, GM_BAQ_EBITS }
gm_baq_rule;
typedef struct {
    double rate;                /* R_ref, 0 < rate <= 8, whole or not        */
    gm_baq_rule rule;
    gm_hessian hessian;
    double damping;             /* GM_DAMPING                                */
    bool *weightless;           /* as a recipe's                             */
} gm_baq_options;

/* How unequal the columns of a module are: largest over smallest loss, and the
   standard deviation of log2 of the losses (those of 0 left out). */
typedef struct { double ratio, log2; } gm_baq_spread;
typedef struct {
    long out, in;
    union {
        double number[10];              /* all of these, for the table       */
        struct {
            double bits;                /* mean log2 levels                  */
            double bytes;               /* whole-bit codes, ranges, levels   */
            double pruned, clamped;     /* columns of 1 and of 256 levels    */
            gm_baq_spread before, predicted, after; /* of l_j in pass 1; of that
                               times 2^(2 (R_ref - R_j)); of l_j in pass 2   */
        };
    };
} gm_baq_module;
typedef struct {
    union {
        double number[4];
        struct {
            double shift, bits; /* of all R_j; mean log2 levels a weight     */
            double stored_bits; /* the same with codes of whole bits         */
            double effective_bits;  /* with ranges and levels: 8 bytes / N   */
        };
    };
    int64_t bytes, weights;
    long M;
    gm_baq_module *module;      /* [M]                                       */
    const char *path;           /* of the file                               */
} gm_baq_report;

/* Makes, where not there, DIR/baq-HASH.safetensors of each option (all with the
   same Hessian and damping) and its table, in two sweeps for all together.
   GM_EINFEASIBLE: rule ebits with a rate that ranges alone exceed. */
void gm_baq_make(gm_arena *arena, gm_model *model,
                 const gm_baq_options *options, int count,
                 const gm_sequences *calibration, const char *dir,
                 const gm_report *report);
/* Makes one, if need be.  The file at the report's path is candidates with
   K = 1, whose code bits stand for the rate only: the report's are true. */
gm_baq_report gm_baq_open(gm_arena *arena, gm_model *model,
                          const gm_baq_options *options,
                          const gm_sequences *calibration, const char *dir,
                          const gm_report *report);

#endif
