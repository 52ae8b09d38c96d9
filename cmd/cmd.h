/* cmd.h: the command line: what a command is, what one invocation holds, and
   the steps that several commands share.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_CMD_H
#define GM_CMD_H

#include "../gamma.h"
#include "../formats/formats.h"
#include "../rivals/rivals.h"
#include "../audit/audit.h"
#include "../show/show.h"

/* A command is one file with one function, its options rows of options.c. */
enum {
    RUN = 1, INFO = 2, FIT = 4, REFINE = 8, SOLVE = 16, CHECK = 32,
    QUANTIZE = 64, EVAL = 128, DUMP = 256, VERIFY = 512, BAQ = 1024,
    COMPARE = 2048, PLAN = 4096, SHOW = 8192, AUDIT = 16384,
    REPORT = 32768, COMMANDS_END = 65536
};
enum { GM_OPTIONS = 128, GM_OPERANDS = 2 };
enum { GM_HF, GM_PACKED };              /* --format; then layouts by name */

typedef struct gm_call gm_call;
typedef struct {
    const char *name, *operands, *summary, *about;
    int takes;                  /* operands; show: at most */
    unsigned bit;               /* of the options it has */
    void (*run)(gm_call *call);
} gm_command;
extern const gm_command gm_command_info, gm_command_fit, gm_command_solve,
    gm_command_check, gm_command_quantize, gm_command_eval, gm_command_run,
    gm_command_dump, gm_command_verify, gm_command_baq, gm_command_compare,
    gm_command_plan, gm_command_refine, gm_command_show,
    gm_command_audit, gm_command_report;
extern const gm_command *const gm_commands[];       /* ends in NULL; main.c */

/* What is to be done, for plan.c.  base: bytes held before it; then what is
   made, and how many models. */
typedef struct {
    double base, model_bytes;
    bool candidates, learns, models;
    gm_measures rivals;
    bool whole;                 /* the whole model's KL is all they ask for,
                                   and they are gone before evaluation */
    int budgets;
} gm_plan;

/* An evaluation text in windows; the head and the original's states are there
   once something was measured. */
typedef struct {
    gm_sequences text;
    const char *path;           /* of it */
    const char *protocol;       /* by which it was cut                        */
    const int32_t *next;        /* gm_evaluate's                              */
    const double *weight;       /* a gm_measure's                             */
    double all, words, bytes;   /* weights together; of a whole document: what
                                   it has, 0: none is asked for               */
    gm_head head;
    long group;                 /* windows whose states are held; 0: all      */
    long held;                  /* 1 + first of those in `original`; 0: none  */
    gm_real *original, *student;        /* [group window, d]; NULL: not yet   */
    /* choices among call->candidates, and what they were measured to be */
    struct gm_measured { const int *choice; gm_measure is; } *seen;
    size_t seen_count, seen_room;
} gm_measuring;

/* Couplings as options.c describes them; NULL: none. */
typedef struct {
    bool exact;
    const char *min_bits, *max_bits, *pin, *fuse, *resources;
} gm_constraints;

/* One invocation. */
struct gm_call {
    const gm_command *command;
    const char *operand[GM_OPERANDS];
    const char *given[GM_OPTIONS];      /* as written, by row of the table */
    const char *stage;          /* "step 2 of 5, learning", or NULL       */
    gm_arena arena;
    gm_report report;
    gm_lock *claim;                     /* of --out, a directory */

    /* What the options say, in the order of options.c; NULL or 0: nothing. */
    const char *calib, *calib_tokens, *text, *text_tokens, *out, *alloc,
        *choices, *delimiter, *bits, *ebits, *bytes, *budgets, *external,
        *allow, *cache, *train_bits, *methods, *search, *scores_from, *rates,
        *step, *state, *tolerance, *max_memory, *isa, *values, *otherwise,
        *proof, *lp_plain, *overhead;
    bool frontier, hash, force, certificate, resume, no_models, no_gptq, all,
        json, quiet, verbose, help, keep_odd, no_fuse, symmetric;
    /* which of the row's names */
    int layout, format, paper, match, scale_type, bos, protocol, scales;
    gm_convention in;
    long score_bits, solver_mib, window, windows, evaluations, dump_mb, threads,
        row, nth, block, anchors;
    gm_constraints constraints;
    gm_solve_options solve;
    gm_recipe recipe;
    gm_fit_options fit;
    gm_dump_options dump;

    /* What the steps below open, where a command takes them. */
    gm_model model;
    gm_tokenizer *tokenizer;
    gm_plan plan;
    gm_budget *budget;          /* [plan.budgets] of run and compare */
    gm_sequences calibration;
    gm_candidates candidates;
    gm_measuring on;
    gm_scores table;            /* of the candidates' sizes, scores zero */
    int *choice;                /* [M], --alloc's */
    double *separable;          /* [M, K] S_mk that the rivals can take, or NULL */
    const char *sizes;          /* that it was solved for, or that scores get:
                                   "mlx F16"; NULL: the packed file's        */
    const char *made;           /* hash of candidates to be found, or NULL */
};

/* --------------------------------------------------------------- options.c
   A new call (one at a time): argv, checked, in its fields. */
gm_call *gm_options_read(const gm_command *command, char **argv);
/* The fields again as the options say, where a file filled some of them. */
void gm_options_fill(void);
const char *gm_given(const char *name);     /* as written; NULL: it is not */
const char *gm_given_of(const char *names); /* the first given of "A|B|..." */
/* What will be written, for the option `name`, is no input of the command and
   no file of its model; nor are the files of a directory whose names match
   "NAME,PATTERN*,...". */
void gm_check_output(const char *name, const char *to);
void gm_check_names(const char *dir, const char *names);
/* On one screen, or all of it; the same of all commands as a manual page, and
   as completions of bash or zsh. */
void gm_options_help(const gm_command *command, bool all);
void gm_options_man(const char *intro, const char *ending);
void gm_options_complete(bool zsh);
/* The command as it was typed, for a shell; the output is DIR, what no result
   depends on is left out. */
const char *gm_options_text(const gm_call *call);
const char *gm_quoted(const char *text);

/* ------------------------------------------------------------------ main.c */
int gm_distance(const char *a, const char *b);  /* Levenshtein's */
/* Standard output, or, where a file of the command is that, error. */
FILE *gm_results(void);
long gm_width(FILE *to);        /* of its terminal; 80 where there is none */
/* A table of tab-separated cells, columns first: printed as TSV, aligned and
   no wider than it on a terminal, or, with --json, as objects in which numbers
   are numbers. */
void gm_result_begin(const char *columns);
void gm_result_row(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
void gm_result_end(const gm_call *call);
/* A line of talk on stderr, unless --quiet. */
void gm_talk(const gm_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ----------------------------------------------------------------- steps.c
   What learning starts from: recipe, model, settings of Stage I. */
void gm_call_prepare(gm_call *call);
/* Then texts (run and compare: budgets too, while nothing is spent), memory,
   --out as a directory of ours, the candidates. */
void gm_call_begin(gm_call *call);
/* Stage I to its end; DIR/scores.tsv.  Arrays of the fit are given back. */
gm_fit gm_call_learn(gm_call *call, gm_scores *scores);
/* The model has an embedding of each of these tokens. */
void gm_call_known(const gm_call *call, const char *path, const int32_t *tokens,
                   long count);
/* S sequences of T tokens of a text or a .npy file, whichever is not NULL; of
   --calib, into the call. */
gm_sequences gm_call_sequences(gm_call *call, const char *text,
                               const char *npy);
void gm_call_calibrate(gm_call *call);
/* Says which of its tokens were found to weigh nothing, if any. */
void gm_call_notes(const gm_call *call);
gm_tokenizer *gm_call_tokenizer(gm_call *call);    /* the model's */
/* All tokens of either; `options` names both. */
int32_t *gm_call_tokens(gm_call *call, const char *options, const char *text,
                        const char *npy, long *count);
/* What a choice among the candidates (NULL: the original) is on call->on. */
gm_measure gm_call_measure(gm_call *call, const gm_candidates *candidates,
                           const int *choice);
/* Of call->candidates; methods often choose the same, which is kept. */
gm_measure gm_call_measure_once(gm_call *call, const int *choice);
/* --out, a directory: not the model's own, ours alone until the end. */
void gm_call_claim(gm_call *call);
/* --cache, or the directory of `path`, but none of devices. */
const char *gm_call_cache(gm_call *call, const char *path);
/* Hashes that the scores name are these (candidates NULL: not known yet). */
void gm_call_match(const gm_call *call, const gm_scores *scores,
                   const char *candidates);
/* call->candidates in DIR: those of a known hash, or (NULL) those of recipe
   and calibration, made if need be. */
void gm_call_open(gm_call *call, const char *dir, const char *hash);
/* BAQ's weights as candidates, made if need be.  baq.c */
gm_baq_report gm_call_baq(gm_call *call, const gm_baq_options *options,
                          gm_candidates *out);
/* File bytes beside the modules: the other tool's, or the packed file's. */
int64_t gm_call_overhead(gm_call *call);
/* --alloc: call->table, call->choice, and of call->candidates what they are;
   then gm_call_chosen opens these, made if need be. */
void gm_call_choose(gm_call *call);
void gm_call_chosen(gm_call *call);
/* The one option given of the first `count` of --budget, --bits, --ebits,
   --bytes, --frontier; call->in: what it counts. */
const char *gm_call_way(gm_call *call, int count);
/* The options of a recipe over call->recipe. */
void gm_call_recipe(gm_call *call);
/* "mlx F16", or "mlx": of --for and --scale-type; NULL: --for is not given. */
const char *gm_call_for(gm_call *call);
int64_t gm_size_in(const gm_sizes *sizes, gm_convention in);
/* Of what call->in says; one above the largest assignment is said to be. */
gm_budget gm_call_budget(gm_call *call, const gm_scores *scores,
                         const char *text);

/* -------------------------------------------------------------- protocol.c
   --eval, cut into windows by --protocol, --window, --windows: call->on. */
void gm_call_windows(gm_call *call);

/* ---------------------------------------------------------------- refine.c
   Scores corrected at some budgets by --evaluations passes over the text.  Who
   is asked, in an arena that may go before the anchors, and *out, the scores
   with room for `most`; then each in ascending order, the last of out. */
gm_rivals *gm_call_refine(gm_call *call, gm_arena *arena,
                          const gm_scores *scores, int most, gm_scores *out);
gm_effort gm_call_anchor(gm_call *call, gm_rivals *rivals,
                         const gm_budget *budget, gm_scores *out,
                         gm_refined *found);
/* Of all of them, when they are made: which stand. */
void gm_call_judge(gm_call *call, gm_rivals *rivals, const gm_budget *budget,
                   gm_scores *out);
/* The first ones, if the scores at `path` have them and as they would be made
   here. */
void gm_call_anchors_left(gm_call *call, const char *path,
                          const gm_budget *budget, int count, gm_scores *out);

/* ------------------------------------------------------------------ show.c
   Sensitivities and bits (NULL: not these) as grids, on standard output. */
void gm_call_grid(gm_call *call, const gm_scores *scores,
                  const gm_allocation *chosen);

/* ---------------------------------------------------------------- report.c
   The original's row; DIR/table.tsv of these rows, DIR/report.html and what
   goes with them, whose names are: */
#define GM_PAGE "table.tsv,report.html,report-*.svg,frontier.tsv"
void gm_call_original(gm_call *call, gm_compared *row);
void gm_call_page(gm_call *call, gm_compared *row, long count);

/* ----------------------------------------------------------------- state.c
   Stage I's state as text, exact, tied by `hash` to candidates, tokens and
   options; loading refuses a state of another. */
void gm_fit_hash(const gm_fit *fit, char hash[65]);
/* What each step found: E, c, lambda, entropy; NAN where it is not known.
   Begun, it watches the fit, and goes with its state (NULL: no such lines). */
enum { GM_FOUND = 4 };
typedef struct { double *at[GM_FOUND]; gm_watcher watcher; } gm_learning;
void gm_learning_begin(gm_arena *arena, gm_fit *fit, gm_learning *out);
void gm_fit_save(gm_arena *arena, const gm_fit *fit, const gm_learning *l,
                 const char *path);
void gm_fit_load(gm_arena *arena, gm_fit *fit, gm_learning *l,
                 const char *path);
void gm_learning_write(gm_arena *arena, const gm_fit *fit,
                       const gm_learning *l, const char *path); /* .tsv */
/* The last part of its path, the same by whatever path. */
const char *gm_model_name(gm_arena *arena, const gm_model *model);
/* gm_module_table with the learned scores and all settings: scores.tsv. */
void gm_fit_table(gm_arena *arena, const gm_fit *fit, gm_scores *out);

/* ------------------------------------------------------------------ plan.c
   Memory (the process's peak) and disk of each step; 0: it is not taken. */
enum {
    GM_PLAN_CANDIDATES, GM_PLAN_FIT, GM_PLAN_QUANTIZE, GM_PLAN_RIVALS,
    GM_PLAN_EVAL, GM_PLAN_STEPS
};
typedef struct { double memory, disk; } gm_planned;
/* Gives the step that takes most. */
int gm_plan_memory(const gm_call *call, gm_planned step[GM_PLAN_STEPS]);
/* Multiply-adds of learning and evaluation. */
double gm_plan_products(const gm_call *call);
/* Fewer windows and sequences at a time, to the same results, until the peak is
   within `limit` bytes, or GM_EMEM with the option to lower. */
void gm_plan_fit(gm_call *call, double limit);
/* Says what the call takes; --max-memory makes it fit, or refuses it. */
void gm_call_plan(gm_call *call);

/* ------------------------------------------------------------- constrain.c
   Adds them to a built problem. */
void gm_problem_constrain(gm_arena *arena, const gm_constraints *c,
                          gm_mckp *problem);
/* "PATTERN=2,3;PATTERN=4": a module that matches keeps only those bits of what
   allowed[M, K] gives it; every module must keep one. */
void gm_allow(gm_arena *arena, const gm_scores *scores, const char *text,
              bool *allowed);

/* -------------------------------------------------------------- allocate.c
   Each module's bits and bytes; no keys. */
gm_allocation gm_allocation_of(gm_arena *arena, const gm_scores *scores,
                               const int *choice);
/* The answer to a built problem, with its certificate as "# key value" lines.
   Bytes depend on the inputs alone (times are left out). */
gm_allocation gm_allocation_make(gm_arena *arena, const gm_mckp *problem,
                                 const int *choice,
                                 const gm_certificate *certificate);
/* All of it: problem, solution (gm_mckp_solve's status), allocation. */
gm_status gm_allocate(gm_arena *arena, const gm_scores *scores,
                      const gm_budget *budget, const gm_solve_options *options,
                      int *choice, gm_certificate *certificate,
                      gm_allocation *out);

/* ---------------------------------------------------------------- choice.c
   Context and one of a question's choices: tokens[0 .. context-1], then the
   choice's.  size: what ln p is divided by: 1, characters, bytes of it. */
typedef struct {
    const int32_t *tokens;
    long count, context;
    double size[3];
    long question;
    bool right;
} gm_ending;
typedef struct { long questions, count; gm_ending *ending; } gm_questions;
bool gm_is_space(uint32_t c);           /* as Python's str.isspace */

/* --choices, one JSON object a line: {"context": "...", "choices": ["...",
   ...], "answer": index}.  The text is context, --delimiter, choice, with the
   specials that --bos leaves; of one longer than the model's longest input the
   front is cut off. */
gm_questions gm_questions_read(gm_call *call, const gm_tokenizer *tokenizer,
                               const gm_specials *specials);
/* out[count]: ln p(choice | context) by the model, or (choice not NULL) its
   candidates. */
void gm_questions_likelihoods(gm_call *call, const gm_questions *questions,
                              const int *choice, double *out);
/* Shares of questions whose answer has the largest ln p / size, and their
   standard errors over questions. */
typedef struct { double share[3], error[3]; } gm_accuracy;
gm_accuracy gm_questions_score(const gm_questions *questions,
                               const double *likelihood);

#endif
