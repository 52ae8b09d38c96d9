/* cmd.h: the command line: options, results and what several commands do alike.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_CMD_H
#define GM_CMD_H

#include "../gamma.h"
#include "../formats/formats.h"
#include "../rivals/rivals.h"
#include "../audit/audit.h"
#include "../show/show.h"

/* ------------------------------------------------------------------ cost.c
   What a run will take, before it starts.  docs/performance.md compares. */

typedef enum {
    GM_PLAN_HASH, GM_PLAN_STATES, GM_PLAN_HESSIANS, GM_PLAN_CANDIDATES,
    GM_PLAN_SEPARABLE, GM_PLAN_STEPS_OF_FIT, GM_PLAN_SOLVE, GM_PLAN_QUANTIZE,
    GM_PLAN_RIVALS, GM_PLAN_EVAL, GM_PLAN_STEPS
} gm_plan_step;
const char *gm_plan_step_name(gm_plan_step step);

/* What is to be done.  base: bytes held before it.  stored: bytes of a weight
   in the checkpoint.  candidates, learns, models: whether they are made. */
typedef struct {
    gm_config config;
    gm_recipe recipe;
    gm_fit_options fit;
    double model_bytes, base, stored;
    bool candidates, learns, models;
    gm_measures rivals;
    int budgets, uniforms;      /* measured beside the original */
    long windows, window;       /* of the evaluation text; 0: none */
    long group;                 /* windows whose states are held; 0: all */
} gm_plan;
/* memory: the process's peak in that step; 0: the step is not taken. */
typedef struct { int64_t memory, disk; } gm_planned;

void gm_plan_memory(const gm_plan *plan, gm_planned step[GM_PLAN_STEPS]);
int64_t gm_plan_peak(const gm_planned step[GM_PLAN_STEPS]);
/* Fewer windows and sequences at a time (group, recipe.at_once: no result
   depends on them) until the peak is within `limit` bytes.  GM_EMEM: it can
   not; the message says which option to lower. */
void gm_plan_fit(gm_plan *plan, int64_t limit);
/* Multiply-adds of all its products; how many of them a second this machine
   does in one product, all threads (0: no memory). */
double gm_plan_products(const gm_plan *plan);
double gm_plan_rate(gm_arena *arena);

/* ------------------------------------------------------------- constrain.c */

/* Couplings as on the command line; NULL: none.  A PATTERN is a module's name
   or its last part, '*' stands for anything. */
typedef struct {
    bool exact;                 /* the budget is to be met exactly           */
    const char *min_bits;       /* "PATTERN=3,..." or "3"                    */
    const char *max_bits;
    const char *pin;            /* "PATTERN=4,PATTERN>=3,PATTERN<=8,..."     */
    const char *fuse;           /* "q_proj+k_proj+v_proj,gate_proj+up_proj"  */
    const char *resources;      /* "FILE:LIMIT,..."                          */
} gm_constraints;
/* Adds them to a built problem. */
void gm_problem_constrain(gm_arena *arena, const gm_scores *scores,
                          const gm_constraints *c, gm_mckp *problem);
/* "PATTERN=2,3;PATTERN=4": a module that matches keeps only those bits of what
   allowed[M, K] gives it; every module must keep one. */
void gm_allow(gm_arena *arena, const gm_scores *scores, const char *text,
              bool *allowed);

/* -------------------------------------------------------------- allocate.c */

/* The answer with its certificate as "# key value" lines.  Bytes depend on
   the inputs alone (times are left out). */
void gm_allocation_make(gm_arena *arena, const gm_scores *scores,
                        const gm_budget *budget, const gm_mckp *problem,
                        const gm_rounding *rounding, const int *choice,
                        const gm_certificate *certificate, gm_allocation *out);
/* All of it: problem, solution, allocation.  GM_OK, or GM_ELIMIT with what was
   found. */
gm_status gm_allocate(gm_arena *arena, const gm_scores *scores,
                      const gm_budget *budget, const gm_solve_options *options,
                      int *choice, gm_certificate *certificate,
                      gm_allocation *out);

/* The budget solved again with scores drawn from their standard errors.
   share[m, k]: how often module m took candidate k; changed[m]: how often not
   choice[m]; regret: mean of score(choice) - score(optimum) under the draws,
   in units of the scores. */
typedef struct { long resamples; double *share, *changed, regret; } gm_robust;
void gm_robust_find(gm_arena *arena, const gm_scores *scores,
                    const gm_budget *budget, const gm_mckp *problem,
                    int score_bits, const gm_solve_options *options,
                    const int *choice, long resamples, uint64_t seed,
                    gm_robust *out);

/* ---------------------------------------------------------------- choice.c
   Multiple choice as lm-evaluation-harness does it. */

/* Context and one choice: tokens[0 .. context-1], then the choice's. */
typedef struct {
    const int32_t *tokens;
    long count, context;
    long characters, bytes;     /* of the choice's text */
} gm_pair_tokens;
typedef struct { long line, count, answer; gm_pair_tokens *pair; } gm_question;
typedef struct {
    const char *path;
    long count, pairs;          /* pairs: sum of the questions' counts */
    gm_question *question;
} gm_questions;

/* One JSON object a line: {"context": "...", "choices": ["...", ...],
   "answer": index}.  The text is context, delimiter (the harness has one
   space), choice.  positions: the model's longest input; of longer ones the
   front is cut off.  No BOS. */
void gm_questions_read(gm_arena *arena, const char *path,
                            const gm_tokenizer *tokenizer, long positions,
                            const char *delimiter, gm_questions *out);

/* A model, or (choice not NULL) its candidates. */
typedef struct {
    const gm_model *model;
    const gm_candidates *candidates;
    const int *choice;
    const gm_head *head;
} gm_scored_model;

/* out[pairs]: ln p(choice | context), question by question. */
void gm_questions_likelihoods(gm_arena *arena, const gm_scored_model *m,
                                   const gm_questions *questions,
                                   const gm_report *report, double *out);

/* Shares of questions whose answer has the largest ln p (acc), ln p divided by
   the choice's characters (acc_norm) or bytes (acc_bytes); of equal ones the
   first counts.  Errors: standard errors over questions. */
typedef struct {
    long questions;
    double acc, acc_error, acc_norm, acc_norm_error, acc_bytes,
           acc_bytes_error;
} gm_accuracy;
void gm_questions_score(const gm_questions *questions,
                        const double *likelihood, gm_accuracy *out);

/* ----------------------------------------------------------------- commands
   The command line, nothing else.  Each command is a table of options and a
   function; options, operands and results all go through these. */

enum { GM_MAX_OPTIONS = 64, GM_MAX_OPERANDS = 8 };

/* "--steps", "N" (NULL: a flag), "60" (NULL: none), what it does: formula,
   range.  A table ends with a NULL name; the help of that row, if not NULL,
   names a command whose options follow. */
typedef struct { const char *name, *value, *fallback, *help; } gm_option;

typedef struct gm_call gm_call;
typedef struct gm_command {
    const char *name, *operands, *summary, *about;
    int least_operands, most_operands;
    const gm_option *options;
    void (*run)(gm_call *call);
} gm_command;

/* One invocation.  stdout gets results (gm_result_*), stderr talk. */
struct gm_call {
    gm_lock *claim;             /* of the output directory, or NULL */
    const gm_command *command;
    const char *value[GM_MAX_OPTIONS];      /* by position in options */
    bool given[GM_MAX_OPTIONS];
    const char *operand[GM_MAX_OPERANDS];
    int operands;
    bool quiet, json;
    FILE *to;                   /* where results go; NULL: stdout */
    gm_arena arena;
    gm_report report;
};

/* Value of an option of this command: its argument, else its fallback, else
   NULL.  A name that the command's table lacks is our own mistake (assert). */
const char *gm_arg(const gm_call *call, const char *name);
bool gm_arg_given(const gm_call *call, const char *name);
/* Another fallback for an option that was not given. */
void gm_arg_default(gm_call *call, const char *name, const char *value);
void gm_arg_long(gm_call *call, const char *name, long least, long most,
                      long *out);
void gm_arg_double(gm_call *call, const char *name, double least,
                        double most, double *out);

/* The one table printer.  Columns are named once ("method\tbytes\tppl"); each
   row is a format giving tab-separated cells.  Prints TSV; aligned columns
   when stdout is a terminal; an array of objects with --json.  Numbers are
   those cells that read as JSON numbers.  Control characters in cells are
   shown as '?'. */
void gm_result_begin(gm_call *call, const char *columns);
void gm_result_row(gm_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void gm_result_end(gm_call *call);

/* A line of talk on stderr, unless --quiet. */
void gm_talk(const gm_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* An output directory: not the model's own, made if need be, and ours alone
   until the process ends. */
void gm_call_claim(gm_call *call, const char *dir);

/* state.c: Stage I's state as text, exact (hexadecimal floats).  `hash` ties it
   to candidates, tokens and all options that change the result; loading refuses
   a state of another. */
void gm_fit_hash(const gm_fit *fit, char hash[65]);
void gm_fit_save(gm_arena *arena, const gm_fit *fit, const char *path);
void gm_fit_load(gm_arena *arena, gm_fit *fit, const char *path);
/* gm_module_table with the learned scores and all settings: scores.tsv. */
void gm_fit_table(gm_arena *arena, const gm_fit *fit, gm_scores *out);

/* What several commands do alike (cmd/fit.c).  Tokens come from a text or a
   .npy file, whichever is not NULL; ids are checked against the vocabulary. */
void gm_call_tokens(gm_call *call, const gm_model *model, const char *text,
                         const char *npy, int32_t **tokens, long *count);
/* S sequences of T of them, as gm_calibration spreads them. */
void gm_call_calibration(gm_call *call, const gm_model *model,
                              const char *text, const char *npy, long S, long T,
                              gm_sequences *out);
void gm_call_recipe(gm_call *call, gm_recipe *recipe);
/* --quantizer, --scales, --hessian, --damping, --act-order and --sequential,
   where given, into a recipe; a command that calls this has all of them. */
void gm_call_quantizer(gm_call *call, gm_recipe *recipe);
/* --external FILE, where given: the recipe becomes its candidates with these
   bits ("2,3,4"; NULL: as --bits says, else all it has). */
void gm_call_external(gm_call *call, const gm_model *model,
                           const char *bits, gm_recipe *recipe);
void gm_call_fit_options(gm_call *call, const gm_recipe *recipe,
                              gm_fit_options *out);
/* --allow into candidates->allowed; the target B within what is left. */
void gm_call_allow(gm_call *call, gm_candidates *candidates,
                        gm_fit_options *options);
/* arena: for *fit, which may be much more than the scores. */
void gm_call_fit(gm_call *call, gm_arena *arena,
                      const gm_candidates *candidates,
                      const int32_t *tokens, const gm_fit_options *options,
                      const char *dir, bool resume, gm_fit *fit);
/* What was learned, also as DIR/scores.tsv. */
void gm_call_scores(gm_call *call, const gm_fit *fit, const char *dir,
                         gm_scores *out);

/* cmd/baq.c: BAQ's weights as candidates, made if need be. */
gm_baq_report gm_call_baq(gm_call *call, gm_model *model,
                          const gm_baq_options *options,
                          const gm_sequences *text, const char *dir,
                          gm_candidates *out);

/* cmd/quantize.c: an allocation file, the candidates it was made for, the
   candidate of each module.  Reads the options of GM_CHOSEN_OPTIONS. */
typedef struct {
    gm_allocation allocation;
    gm_recipe recipe;
    gm_candidates candidates;
    gm_scores table;
    int *choice;
} gm_chosen;
/* gm_module_table with the overhead of a packed file. */
void gm_call_table(gm_call *call, const gm_model *model,
                   const gm_recipe *recipe, gm_scores *out);
void gm_call_chosen(gm_call *call, gm_model *model, const char *path,
                         gm_chosen *out);

/* cmd/eval.c: an evaluation text cut into windows by --window and --windows;
   the head and the original's states are there once something was measured. */
typedef struct {
    gm_text text;
    gm_head head;
    long group;                 /* windows whose states are held; 0: all      */
    long held;                  /* 1 + first of those in `original`; 0: none  */
    gm_real *original, *student;        /* [group window, d]; NULL: not yet   */
} gm_measuring;
void gm_call_windows(gm_call *call, const gm_model *model,
                          const char *path, const char *npy,
                          gm_measuring *out);
/* The candidates at `choice` against the original; choice NULL: the original
   alone. */
void gm_call_measure(gm_call *call, const gm_model *model,
                          const gm_candidates *candidates, const int *choice,
                          gm_measuring *on, gm_measure *out);

/* cmd/solve.c: which one of `count` options that say a budget was given. */
void gm_call_way(gm_call *call, const char *const *ways, int count,
                      const char **way);

/* cmd/compare.c: the hashes of model and candidates, where scores name them,
   are these (NULL: not known yet). */
void gm_call_match(const gm_scores *scores,
                        const char *model, const char *candidates);

/* cmd/run.c: each of --budgets, in --in, checked to be within reach (sizes are
   known without scores). */
void gm_call_budgets(gm_call *call, const gm_scores *table);

/* cmd/plan.c: says how much memory what *plan asks for will take; with
   --max-memory, it is made to fit, or refused.  Sizes and base: filled here. */
void gm_call_plan(gm_call *call, const gm_model *model, gm_plan *plan);
/* How many --budgets there are, and different uniform choices beside them. */
int gm_call_uniforms(gm_call *call, const gm_recipe *recipe, int *budgets);
#define GM_MEMORY_OPTION                                                      \
    {"--max-memory", "SIZE", NULL, "such as 2G or 1.5GiB: fewer sequences "   \
     "and windows at a time, to the same results, as planned to fit; what needs " \
     "more is refused before it starts, naming the option to lower"}

/* Option rows that two commands share.  Of quantize and eval: */
#define GM_CHOSEN_OPTIONS                                                     \
    {"--bits", "LIST", NULL, "candidates (those the allocation was made "     \
     "for)"},                                                                 \
    {"--group", "N", NULL, "columns per scale, 1..512 (as the allocation "    \
     "was made for, else 128)"},                                              \
    {"--quantizer", "NAME", NULL, "rtn or gptq (as the allocation was made "  \
     "for, else rtn), see gamma fit"},                                        \
    {"--scales", "NAME", NULL, "minmax or mse, see gamma fit"},               \
    {"--hessian", "NAME", NULL, "of gptq: token, plain or attention, see "    \
     "gamma fit"},                                                            \
    {"--damping", "R", NULL, "of gptq, see gamma fit"},                       \
    {"--act-order", NULL, NULL, "of gptq, see gamma fit"},                    \
    {"--sequential", NULL, NULL, "of gptq, see gamma fit"},                   \
    {"--external", "FILE", NULL, "the file given to gamma fit --external"},   \
    {"--calib", "FILE", NULL, "make gptq's candidates from this text, if "    \
     "they are not in the cache (else: as gamma fit left them there)"},       \
    {"--sequences", "S", "16", "of --calib, as given to gamma fit"},          \
    {"--length", "T", "512", "of --calib, as given to gamma fit"},            \
    {"--cache", "DIR", NULL, "where the candidate file is or goes (beside "   \
     "the allocation)"},                                                      \
    GM_MEMORY_OPTION

/* Of run and compare: candidates and Stage I, as gamma fit explains them. */
#define GM_LEARN_OPTIONS                                                      \
    {"--bits", "LIST", "2,3,4", "candidates, see gamma fit, like all below"}, \
    {"--group", "N", "128", "columns per scale"},                             \
    {"--quantizer", "NAME", "rtn", "rtn or gptq"},                            \
    {"--scales", "NAME", "minmax", "minmax or mse"},                          \
    {"--hessian", "NAME", "token", "of gptq: token, plain or attention"},     \
    {"--damping", "R", "0.01", "of gptq"},                                    \
    {"--act-order", NULL, NULL, "of gptq"},                                   \
    {"--sequential", NULL, NULL, "of gptq"},                                  \
    {"--external", "FILE", NULL, "another tool's candidates, see gamma fit"}, \
    {"--sequences", "S", "16", "calibration sequences"},                      \
    {"--length", "T", "512", "tokens in a calibration sequence"},             \
    {"--batch", "N", "4", "sequences in one step"},                           \
    {"--steps", "N", NULL, "steps (--score scaled: 15, else 60)"},            \
    {"--recipe", "NAME", "default", "default or paper"},                      \
    {"--relaxation", "NAME", "soft-corrected", "soft, soft-corrected, "       \
     "gumbel or hard"},                                                       \
    {"--norm", "NAME", "token", "token, robust, plain, energy or update"},    \
    {"--first-weight", "W", "1", "of a sequence's first position"},           \
    {"--score", "NAME", NULL, "theta, loss or scaled"},                       \
    {"--train-bits", "B", NULL, "budget while learning (the middle)"},        \
    {"--alpha", "A", "0.1", "entropy weight"},                                \
    {"--rho", "R", "10", "penalty"},                                          \
    {"--eta", "E", "0.02", "multiplier ascent"},                              \
    {"--tau", "T", NULL, "temperature (1; gumbel and hard: 2)"},              \
    {"--tau-last", "T", NULL, "gumbel, hard: of the last step (0.5)"},        \
    {"--rate", "R", "0.1", "Adam's step"},                                    \
    {"--tail", "F", "0.33", "share of steps averaged"},                       \
    {"--seed", "N", "1", "seed"}

extern const gm_command gm_command_info, gm_command_fit, gm_command_solve,
    gm_command_check, gm_command_quantize, gm_command_eval, gm_command_run,
    gm_command_dump, gm_command_verify, gm_command_baq, gm_command_compare,
    gm_command_plan, gm_command_refine;

#endif
