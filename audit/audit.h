/* audit.h: checking what this program, or another, computed.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_AUDIT_H
#define GM_AUDIT_H

#include "../gamma.h"

/* ----------------------------------------------------------------- check.c
   Verifies an assignment and its certificate; shares no code with solver.c,
   cmd/allocate.c. */

/* One claim of the file, and what follows from the scores. */
typedef struct {
    const char *claim, *stated, *found;
    bool holds, word;           /* word: fits, but is the file's word alone  */
} gm_claim;
typedef struct {
    gm_claim claim[96];         /* 41 at most beside 2 of each resource      */
    long count, failed;
    gm_sizes sizes;
    double score;               /* sum of the real scores                    */
    double bound;               /* from the multiplier alone, real scores    */
    double hidden;              /* what the scores' rounding may hide of it  */
    bool rounded;               /* too much of it for a proof                */
    int64_t gap;                /* objective - that bound, integers          */
    bool certified;             /* the file has a certificate                */
    gm_mckp program;            /* certified, nothing failed: what it solves */
    const char *among;          /* "at most 60 code bits, 2 of 9 modules ..." */
} gm_check;

/* resources: "a.tsv,b.tsv", tables of what the certificate limits, or NULL.
   Without a certificate the bound is for the assignment's own code bits. */
void gm_check_allocation(gm_arena *arena, const gm_allocation *allocation,
                         const gm_scores *scores, const char *resources,
                         gm_check *out);

/* ----------------------------------------------------------------- proof.c
   The integer program of Stage II with nothing left out, as text that other
   programs read, and a proof of its bound in VIPR 1.0 (docs/solver.md). */

/* sum value x[index] <= (sense -1), = (0) or >= (1) side. */
typedef struct {
    const char *name;
    int sense;
    int64_t side;
    long terms, *index;
    int64_t *value;
} gm_line;
/* Variables x_mk. */
typedef struct {
    gm_arena *arena;
    const gm_mckp *p;
    long variables, lines, budget;      /* budget: its line, resources next  */
    const char **name;                  /* [variables]                       */
    gm_line objective;          /* minimised */
    gm_line *line;              /* the first `variables`: x >= 0; then one of
                                   each module; ...                          */
    long *variable, *row_of;    /* [M, K] -1: no candidate; what keeps it at 0
                                   or at its leader's value                  */
    long *leader;               /* [M] the first module fused with it        */
    bool *live;                 /* [M, K] of leaders: all members may take it */
} gm_program;
/* Of a problem with scores, for the names. */
void gm_program_build(gm_arena *arena, const gm_mckp *p, gm_program *out);
void gm_program_print(const gm_program *program, gm_out *out);  /* VER to CON */
void gm_program_write_lp(const gm_program *program, const char *path);
__int128 gm_gcd(__int128 a, __int128 b);    /* a, b >= 0 */

enum { GM_PROOF_NODES = 1000 };
/* What a file proves: lower <= optimum <= upper, or `none` is feasible. */
typedef struct {
    int64_t lower, upper;
    long nodes;
    bool none;
} gm_proven;
/* A proof that nothing is better than choice [M], or as near to it as
   GM_PROOF_NODES nodes come; choice NULL: that nothing is feasible, and where
   lower stays below upper there is no file. */
gm_proven gm_proof_write(gm_arena *arena, const gm_mckp *p, const int *choice,
                         const char *path);

/* ------------------------------------------------------------------ vipr.c
   The file proves this about this problem, or GM_EDIFFER says in which line it
   does not. */
gm_proven gm_proof_check(gm_arena *arena, const char *path, const gm_mckp *p);

/* ------------------------------------------------------------------ dump.c
   What one step of Stage I saw, as a safetensors file; docs/verify.md lists
   every name with its equation and shape. */
typedef struct {
    const char *only;       /* "PATTERN,...", '*' for anything, or NULL       */
    bool detail;            /* also what happens inside the original blocks   */
    int64_t limit;          /* bytes above which large families are left out
                               when `only` is NULL                            */
} gm_dump_options;

/* The table of scalars beside a dump: the same name with .tsv. */
const char *gm_dump_scalars(gm_arena *arena, const char *path);
/* Takes the next step of the fit and writes what it saw to `path`, with the
   memory of one tensor; its scalars beside it, if `path` is a file. */
void gm_dump_step(gm_arena *arena, gm_fit *fit,
                  const gm_dump_options *options, const char *path,
                  const gm_report *report);

/* ---------------------------------------------------------------- verify.c
   Compares two dumps in the order of computation; tolerances are derived per
   quantity (docs/verify.md). */

typedef enum { GM_PASSES, GM_DEPARTS, GM_ABSENT } gm_outcome;

/* One name.  Errors are those of the worst element: the one with the largest
   error in units of its tolerance.  `excess` is that ratio (> 1 departs),
   infinite for NaN and for other shapes. */
typedef struct {
    const char *name, *family;
    gm_outcome outcome;
    int64_t elements, worst, differing;     /* differing: above tolerance    */
    double ours, theirs, absolute, relative, ulp, tolerance, excess;
    const char *scale;      /* what `relative` is relative to                */
    double allowed;         /* the tolerance in `unit`: "absolute", "elements"
                               that may differ, or relative to `scale`       */
    const char *unit;
    const char *why;        /* derivation of the tolerance                   */
    const char *problem;    /* shapes or types that cannot be compared       */
    const gm_tensor *a, *b;                 /* NULL: absent                  */
    long from;              /* --block: first element that counts, or -1     */
    int64_t order;          /* place in the computation */
} gm_verdict;

typedef struct {
    gm_verdict *verdict;    /* in the order of computation                   */
    long count, compared, failed, first;    /* first that departs, or -1     */
    const char *message;    /* says what departs first; NULL: nothing        */
    long hints;             /* causes that the data point to, likeliest first */
    const char *hint[12];
    const char *missing[3]; /* families not compared at all: in ours alone, in
                               theirs alone, in neither; "": none            */
} gm_verification;

/* tolerances: "NAME=FACTOR,..." or NULL; NAME may hold '*'.  block: compares
   what is of that block or of none, of arrays [M, K] its rows, of which theirs
   may have no others; -1: all.  GM_EINPUT: nothing (of it) was compared. */
void gm_verify(gm_arena *arena, const gm_tensors *ours,
               const gm_tensors *theirs, const char *tolerances, long block,
               gm_verification *out);

/* "[3, 5]": element i of a tensor. */
gm_shown gm_index_text(const gm_tensor *tensor, int64_t i);
/* How many elements, and all of them in double, whatever their type. */
long gm_element_count(const gm_tensor *tensor);
double *gm_elements(gm_arena *arena, const gm_tensor *tensor);
/* Theirs; of another block's rows, ours. */
double *gm_theirs(gm_arena *arena, const gm_verdict *v);

/* --------------------------------------------------------------- pattern.c */

/* Whether a regular expression matches from the start of the name on, or
   anywhere in it.  steps: what is left to spend.  GM_EINPUT, naming `path`:
   an expression that dialects read differently, or one that takes too long. */
bool gm_pattern_matches(const char *path, const char *pattern,
                        const char *name, bool anywhere, long *steps);

/* --------------------------------------------------------------- foreign.c
   Allocations that other tools made: docs/audit.md. */

/* What a module gets, as the tool calls it.  bits: of a code, 0: of none of a
   whole number; codes: bits of all codes; bytes: with scales and zeros as the
   tool stores them, -1: the file does not say.  from: the line of the file that
   decided, NULL: none, what the tool does then. */
typedef struct {
    const char *type, *from;
    int bits;
    int64_t codes, bytes;
} gm_gets;
typedef struct {
    const char *path, *format;
    gm_gets *module;            /* [M], in the order of the scores           */
    const char **unmatched;     /* lines that match no module                */
    size_t unmatched_count;
    const char *target;         /* budget that the file states, or NULL      */
    gm_convention in;           /* what that counts                          */
    const char *overhead;       /* overhead_given of gamma's own, or NULL    */
} gm_foreign;

/* Whichever of the formats it is.  otherwise: the type of modules that the file
   does not name (NULL: as its tool does, which llama.cpp's does not say). */
void gm_foreign_read(gm_arena *arena, const char *path,
                     const gm_scores *scores, const char *otherwise,
                     gm_foreign *out);

/* ----------------------------------------------------------------- signs.c */

/* Fills out->hint with what usually causes the first departure; where there is
   none, with what agrees but could not show the usual mistakes. */
void gm_recognise(gm_arena *arena, const gm_tensors *ours,
                  const gm_tensors *theirs, gm_verification *out);

#endif
