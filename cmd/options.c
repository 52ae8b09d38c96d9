/* options.c: every option of every command, in one table: name, value, who has
   it, the field that it fills, what it does, default, range.  Parsing, checks
   and help of all commands are this table's.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

/* The invocation whose fields the table names; one at a time. */
static gm_call now;

/* FLAG: bool.  TEXT: const char *; READ, WRITE: that names an input, an output;
   LIST: of several parts, joined by commas; FILES: inputs, FILE or FILE:LIMIT.
   WHOLE: long.  REAL: double.  NAME: the place among the names of `value`, int
   or an enum.  A fallback of NULL leaves the field. */
typedef struct {
    const char *name, *value;
    enum { FLAG, TEXT, READ, WRITE, LIST, FILES, WHOLE, REAL, NAME } kind;
    unsigned commands;
    void *field;
    const char *help, *fallback;
    double least, most;
} option;

static const char REQUIRED[] = "required";
enum {
    RUNS = RUN | PLAN,
    LEARN = FIT | RUNS | COMPARE | DUMP,
    CHOSEN = QUANTIZE | EVAL,           /* by an allocation */
    RECIPE = LEARN | CHOSEN,
    ALL = COMMANDS_END - 1
};

#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
static const option table[] = {
    {"--calib", "FILE", READ, LEARN | CHOSEN | REFINE | BAQ | SHOW,
     &now.calib,
     "calibration text, UTF-8 (quantize, eval: for gptq's candidates)"},
    {"--tokens", "FILE", READ, LEARN | REFINE | BAQ | SHOW, &now.calib_tokens,
     "instead of --calib: tokens, .npy, int32, 1-D"},
    {"--eval", "FILE", READ, RUNS, &now.text, "evaluation text, another one"},
    {"--eval-tokens", "FILE", READ, RUNS | COMPARE | BAQ, &now.text_tokens,
     "instead of --eval, of compare and baq --text: tokens, .npy"},
    {"--text", "FILE", READ, COMPARE | EVAL | BAQ, &now.text,
     "evaluation text, UTF-8, another one"},
    {"--tokens", "FILE", READ, EVAL, &now.text_tokens,
     "instead of --text: tokens, .npy, int32, 1-D"},
    {"--out", "DIR", WRITE, FIT | RUN | COMPARE | BAQ, &now.out,
     "where everything goes", REQUIRED},
    {"--out", "DIR", WRITE, PLAN, &now.out, "of gamma run"},
    {"--out", "PATH", WRITE, QUANTIZE, &now.out,
     "directory to write, or file (packed)", REQUIRED},
    {"--out", "FILE", WRITE, DUMP | REFINE, &now.out,
     "the dump, safetensors (scalars beside it); the scores", REQUIRED},
    {"--out", "FILE", WRITE, SOLVE, &now.out,
     "the assignment (-: standard output, results go to standard error); with "
     "--budgets, % stands for the budget"},
    {"--alloc", "FILE", READ, QUANTIZE, &now.alloc,
     "of gamma solve, or any table of module and bits", REQUIRED},
    {"--alloc", "FILE", READ, EVAL, &now.alloc,
     "measure what this allocation makes of the model too"},
    {"--format", "hf|packed|mlx|compressed-tensors|gptq", NAME, QUANTIZE,
     &now.format, "a Hugging Face directory of dequantized weights, one "
     "safetensors file of codes, scales and zeros, or a directory as another "
     "runtime loads it (docs/deploy.md)", "hf"},
    {"--scale-type", "f32|f16|bf16", NAME, QUANTIZE, &now.scale_type,
     "of scales in mlx (as the model) and compressed-tensors (f16)"},
    {"--keep-odd", NULL, FLAG, QUANTIZE, &now.keep_odd, "modules that the "
     "layout cannot hold stay as stored"},
    {"--choices", "FILE", READ, EVAL, &now.choices, "multiple choice, a line "
     "each: {\"context\": \"...\", \"choices\": [\"...\"], \"answer\": index}"},
    {"--delimiter", "TEXT", TEXT, EVAL, &now.delimiter,
     "between a context and its choices", " "},

    /* budgets, and the exact solver */
    {"--bits", "B", TEXT, SOLVE | REFINE | CHECK | AUDIT, &now.bits,
     "budget: sum n_m b_k <= floor(B N), average code bits; B > 0"},
    {"--ebits", "B", TEXT, SOLVE | REFINE | CHECK | AUDIT, &now.ebits,
     "budget: 8 sum s_mk <= floor(B N), average bits with scales and zeros; "
     "B > 0"},
    {"--bytes", "X", TEXT, SOLVE | REFINE | CHECK | AUDIT, &now.bytes,
     "budget: overhead + sum s_mk <= X file bytes; 50000000, 50M, 47.5MiB"},
    {"--default", "TYPE", TEXT, AUDIT, &now.otherwise, "llama.cpp's type of "
     "tensors that the list does not name, such as q4_K"},
    {"--budgets", "LIST", TEXT, SOLVE, &now.budgets,
     "many budgets, a,b,c, in the convention --in; one line each"},
    {"--budgets", "LIST", TEXT, RUNS | COMPARE, &now.budgets,
     "each solved exactly from the same scores", "2.25,2.5,3,3.5"},
    {"--budgets", "LIST", TEXT, REFINE, &now.budgets, "anchors a,b,c, in the "
     "convention --in: solve interpolates between their scores"},
    {"--frontier", NULL, FLAG, SOLVE, &now.frontier,
     "every Pareto-optimal (size, score), sizes in the convention --in"},
    {"--in", "bits|ebits|bytes", NAME, RUNS | COMPARE | SOLVE | REFINE, &now.in, "what "
     "budgets count: codes; with scales and zeros; the packed file (50M, "
     "47.5MiB) (bits; --frontier: bytes)"},
    {"--lp", "FILE", WRITE, SOLVE, &now.solve.lp,
     "GLPK's model in CPLEX LP format"},
    {"--lp-plain", "FILE", WRITE, SOLVE, &now.lp_plain, "the program as asked, "
     "nothing reduced, with names, in CPLEX LP format (% as in --out)"},
    {"--proof", "FILE", WRITE, SOLVE, &now.proof, "that nothing is better, or "
     "feasible: VIPR 1.0 (% as in --out); beyond 1000 nodes of branch and "
     "bound, the bound that those prove"},
    {"--proof", "FILE", READ, CHECK, &now.proof, "verify this proof of gamma "
     "solve, and that it is of this program.  ALLOC.tsv as -, where nothing is "
     "feasible: the program that the options of gamma solve give"},
    {"--exact", NULL, FLAG, SOLVE | CHECK, &now.constraints.exact,
     "sum = budget"},
    {"--pin", "LIST...", LIST, SOLVE | CHECK, &now.constraints.pin,
     "PATTERN=BITS,...: these modules take BITS (or PATTERN>=BITS, "
     "PATTERN<=BITS); a PATTERN is a module, its last part, or has *"},
    {"--min-bits", "LIST...", LIST, SOLVE | CHECK, &now.constraints.min_bits,
     "BITS or PATTERN=BITS,...: at least BITS"},
    {"--max-bits", "LIST...", LIST, SOLVE | CHECK, &now.constraints.max_bits,
     "BITS or PATTERN=BITS,...: at most BITS"},
    {"--fuse", "LIST...", LIST, SOLVE | CHECK, &now.constraints.fuse,
     "a+b+c,...: modules of one parent (or whole names) that take the same "
     "bits, such as q_proj+k_proj+v_proj,gate_proj+up_proj"},
    {"--resource", "LIST...", FILES, SOLVE | CHECK, &now.constraints.resources,
     "FILE:LIMIT,...: sum of costs <= LIMIT; FILE has columns module and one "
     "for each number of bits (GLPK); check: FILE,..."},
    {"--solver", "both|dp|glpk", NAME, SOLVE, &now.solve.solver,
     "(both; dp for more than 32 budgets)"},
    {"--score-bits", "N", WHOLE, SOLVE | CHECK, &now.score_bits,
     "scores enter as round(u 2^shift), range 2^shift <= 2^N", "30", 1, 44},
    {"--time-limit", "S", REAL, SOLVE | AUDIT, &now.solve.seconds, "of each "
     "solver; then incumbent, bound, gap, exit code 4", "60", 1e-3, 1e6},
    {"--memory", "MIB", WHOLE, SOLVE, &now.solver_mib,
     "MiB for the dynamic program's lists", "1024", 1, 1 << 20},
    {"--certificate", NULL, FLAG, SOLVE, &now.certificate, "every key of the "
     "answer, as --out FILE has them, instead of a summary and grids"},
    {"--glpk-log", NULL, FLAG, SOLVE, &now.solve.verbose, "GLPK's output"},

    /* candidates; quantize and eval take what the allocation was made for */
    {"--bits", "LIST", TEXT, RECIPE | SHOW, &now.bits, "candidates b_k, "
     "ascending: 1..8; 16 (32): as stored in a 16-bit (F32) checkpoint "
     "(2,3,4)"},
    {"--group", "N", WHOLE, RECIPE | SHOW, &now.recipe.group,
     "columns that share a scale and zero (128)", NULL, 1, GM_MAX_GROUP},
    {"--quantizer", "rtn|gptq", NAME, RECIPE | SHOW, &now.recipe.quantizer,
     "each weight to its nearest code; column by column, w_t -= (w_j - q_j) "
     "U_jt / U_jj for t > j, U^T U = H^-1 (rtn)"},
    {"--scales", "minmax|mse", NAME, RECIPE | SHOW, &now.recipe.scales,
     "of a group: from lo = min(0, w) to hi = max(0, w); from r lo to r hi, r "
     "of 1, 0.99, ..., 0.21 with the least sum (w - q)^2 (minmax)"},
    {"--symmetric", NULL, FLAG, RECIPE | SHOW, &now.recipe.symmetric,
     "of a group hi = -lo = max |w| and zero = 2^(b-1), for b > 1: for kernels "
     "that know no zeros"},
    {"--hessian", "token|plain|attention", NAME, RECIPE | BAQ | SHOW,
     &now.recipe.hessian, "w_t in gptq's H = (2/tokens) sum_t w_t^2 x_t x_t^T: "
     "1/||x_t||, times 4 at a sequence's first; 1, as published; for q, k, v "
     "sqrt(a_t)/||x_t||, a_t the mean attention on t, else as token (token)"},
    {"--damping", "R", REAL, RECIPE | SHOW, &now.recipe.damping,
     "gptq: R times the mean of H_jj is added to each (0.01)", NULL, 1e-9, 1},
    {"--act-order", NULL, FLAG, RECIPE | SHOW, &now.recipe.act_order,
     "gptq: columns by falling H_jj, scales beforehand"},
    {"--sequential", NULL, FLAG, RECIPE, &now.recipe.sequential,
     "gptq: H from inputs that all before, so quantized, give"},
    {"--external", "FILE", READ, RECIPE | REFINE, &now.external, "another "
     "tool's candidates, NAME.bK (docs/formats.md); --bits picks among them"},
    {"--allow", "LIST", TEXT, FIT | DUMP, &now.allow,
     "PATTERN=2,3;PATTERN=4;...: modules (or their last parts) that match, '*' "
     "for anything, have only these candidates"},
    {"--force", NULL, FLAG, CHOSEN, &now.force,
     "take these candidates though the allocation was made for others"},
    {"--cache", "DIR", WRITE, CHOSEN | DUMP | REFINE, &now.cache,
     "of the candidates (beside the allocation, dump, scores)"},
    {"--sequences", "S", WHOLE, LEARN | CHOSEN | BAQ | SHOW, &now.fit.sequences,
     "calibration sequences, spread evenly over the text", "16", 1, 1 << 20},
    {"--length", "T", WHOLE, LEARN | CHOSEN | BAQ | SHOW, &now.fit.T,
     "tokens in each", "512", 2, 1 << 20},
    {"--sequences", "S", WHOLE, REFINE, &now.fit.sequences,
     "calibration sequences (as many as gamma fit had)", NULL, 1, 1 << 20},
    {"--length", "T", WHOLE, REFINE, &now.fit.T,
     "tokens in each (as gamma fit had)", NULL, 2, 1 << 20},

    /* Stage I: equations in gamma.c */
    {"--batch", "N", WHOLE, LEARN, &now.fit.batch,
     "sequences in one step, 1..S", "4", 1, 1 << 20},
    {"--steps", "N", WHOLE, LEARN, &now.fit.steps,
     "sweeps over the blocks (--score scaled: 15, else 60)", NULL, 1, 1000000},
    {"--recipe", "default|paper", NAME, LEARN, &now.paper, "paper, its "
     "abstract read plainly: --relaxation soft --norm plain --score theta, "
     "where not given", "default"},
    {"--relaxation", "soft|soft-corrected|gumbel|hard", NAME, LEARN,
     &now.fit.relaxation, "E_l of the mixture; plus sum_k (p_k - p_k^2) S_k, "
     "S_k the candidate's error alone; p = softmax((theta + G) / tau), G fresh "
     "Gumbel noise; its argmax, with the gradient of gumbel", "soft-corrected"},
    {"--norm", "token|robust|plain|energy|update", NAME, LEARN, &now.fit.norm,
     "D in E_l = mean_t w_t ||error_t||^2 / D: ||h_l,t||^2; the same, the "
     "quotient x as 0.1 ln(1 + 10 x); 1; mean_t ||h_l,t||^2; mean_t ||h_l,t - "
     "h_{l-1,t}||^2", "token"},
    {"--first-weight", "W", REAL, LEARN, &now.fit.first_weight,
     "w_t at the first position of a sequence, else 1", "1", 1e-9, 1e9},
    {"--score", "theta|loss|scaled", NAME, LEARN, &now.fit.score, "of a choice "
     "at a stationary point; mean dE/dp_k (soft-corrected: S_k + dE/dp_k - 2 "
     "p_k S_k); S_k times one factor from the losses (soft-corrected: scaled, "
     "else theta)"},
    {"--train-bits", "B", TEXT, LEARN, &now.train_bits,
     "target of the constraint c while learning (the middle)"},
    {"--alpha", "A", REAL, LEARN, &now.fit.alpha,
     "entropy weight: - (A/M) sum_m H(p_m)", "0.1", 1e-9, 1e9},
    {"--rho", "R", REAL, LEARN, &now.fit.rho, "penalty: R/2 c^2", "10", 0, 1e9},
    {"--eta", "E", REAL, LEARN, &now.fit.eta, "multiplier ascent: lambda += E "
     "R c each step; 0.2 oscillates", "0.02", 0, 1e3},
    {"--tau", "T", REAL, LEARN, &now.fit.tau, "temperature: p = softmax(theta "
     "/ T) (1; gumbel and hard: 2)", NULL, 1e-3, 1e3},
    {"--tau-last", "T", REAL, LEARN, &now.fit.tau_last, "gumbel, hard: of the "
     "last step, along a geometric line (0.5)", NULL, 1e-3, 1e3},
    {"--rate", "R", REAL, LEARN, &now.fit.rate, "of Adam", "0.1", 1e-9, 1e3},
    {"--tail", "F", REAL, LEARN, &now.fit.tail,
     "share of steps averaged into the scores", "0.33", 0, 1},
    {"--seed", "N", WHOLE, LEARN | REFINE, &now.fit.seed,
     "of sequences, noise, labels, rivals, draws", "1", 0, 0x1p62},
    {"--resume", NULL, FLAG, FIT | RUNS | DUMP, &now.resume,
     "fit, run: go on from DIR/fit.state, to the same bits"},

    /* what came of it */
    {"--window", "T", WHOLE, RUNS | COMPARE, &now.window,
     "tokens in an evaluation window", "512", 2, 1 << 20},
    {"--window", "T", WHOLE, EVAL | BAQ, &now.window,
     "tokens in an evaluation window", "1024", 2, 1 << 20},
    {"--windows", "N", WHOLE, RUNS | COMPARE | EVAL | BAQ, &now.windows,
     "from the start of the text; 0: all whole ones", "0", 0, 1 << 30},
    {"--no-models", NULL, FLAG, RUNS, &now.no_models, "no DIR/model-B"},
    {"--methods", "LIST", TEXT, COMPARE, &now.methods, "docs/rivals.md; also "
     "refined",
     "uniform,random,first-high,last-high,greedy,gram,separable,closed-form,"
     "anneal,evolve,evolve-kl,baq,gamma"},
    {"--evaluations", "N", WHOLE, COMPARE, &now.evaluations,
     "most passes over the text, of a search", "200", 1, 1000000},
    {"--evaluations", "N", WHOLE, REFINE, &now.evaluations,
     "most passes over the text: 1, then at most 15 a round", "16", 1,
     1000000},
    {"--search-text", "FILE", READ, COMPARE, &now.search, "what rivals measure "
     "errors and search on (--calib): for gptq another text than its "
     "candidates are made from"},
    {"--scores", "FILE", READ, COMPARE, &now.scores_from,
     "gamma's (else learned here, kept as DIR/scores.tsv)"},
    {"--rate", "LIST", TEXT, BAQ, &now.rates,
     "R_ref, 0 to 8 bits: round(2^R_ref) levels", "2,3,4"},
    {"--match", "none|bits|ebits", NAME, BAQ, &now.match, "as published, the "
     "average comes out near R_ref; all R_j moved alike to the most whose "
     "average (with ranges, levels) is within", "none"},
    {"--no-gptq", NULL, FLAG, BAQ, &now.no_gptq, "leave out the rows of GPTQ"},
    {"--step", "N", TEXT, DUMP, &now.step, "the step to show, 1..steps", "1"},
    {"--state", "FILE", READ, DUMP, &now.state,
     "begin from this fit.state, of a step before N"},
    {"--only", "LIST", TEXT, DUMP, &now.dump.only,
     "PATTERN,...: names to write, '*' for anything (all that --limit allows)"},
    {"--detail", NULL, FLAG, DUMP, &now.dump.detail,
     "also what happens inside the original blocks"},
    {"--limit", "MB", WHOLE, DUMP, &now.dump_mb,
     "size above which, without --only, large families go", "1024", 1, 1000000},
    {"--tolerance", "LIST", TEXT, VERIFY, &now.tolerance, "NAME=FACTOR,...: "
     "tolerances of these names or families times FACTOR, 0..1e300; of "
     "discrete ones: how many may differ"},
    {"--all", NULL, FLAG, VERIFY, &now.all,
     "a row for every tensor instead of one for each family"},
    {"--max-memory", "SIZE", TEXT, RECIPE | REFINE, &now.max_memory, "2G, "
     "1.5GiB: fewer sequences and windows at a time, to the same results, or a "
     "refusal before the start"},

    /* one row, looked at */
    {"--values", "LIST", TEXT, SHOW, &now.values,
     "weights a,b,c,..., at most 512: one group"},
    {"--row", "R", WHOLE, SHOW, &now.row, "row of the module", "0", 0, 1 << 30},
    {"--nth", "G", WHOLE, SHOW, &now.nth,
     "only the row's group G, from 0 on (all)", NULL, 0, 1 << 30},

    /* of every command */
    {"--threads", "N", WHOLE, ALL, &now.threads,
     "(all cores); no result depends on it", NULL, 1, 1024},
    {"--isa", "NAME", TEXT, ALL, &now.isa,
     "scalar, avx2, avx512 (the widest); no result depends on it"},
    {"--json", NULL, FLAG, ALL, &now.json,
     "results as JSON instead of tab-separated lines"},
    {"--quiet", NULL, FLAG, ALL, &now.quiet, "no talk or progress on stderr"},
    {"--verbose", NULL, FLAG, INFO | RECIPE | REFINE | BAQ, &now.verbose,
     "names the tensors that the model does not need"},
    {"--help", NULL, FLAG, ALL, &now.help, "this text"}};

enum { ROWS = sizeof table / sizeof *table };
_Static_assert(ROWS <= (int)GM_OPTIONS, "gm_call has room for all options");

/* The row of an option of this command, or -1; *nearest: of the row whose name
   is the least edits away, below 4 of them, or -1. */
static int row_of(const char *name, int *nearest) {
    int least = 4;
    *nearest = -1;
    for (int i = 0; i < ROWS; i++) {
        if (!(table[i].commands & now.command->bit)) continue;
        int far = gm_distance(name, table[i].name);
        if (far < least) least = far, *nearest = i;
    }
    return least == 0 ? *nearest : -1;
}

const char *gm_given(const char *name) {
    int nearest, i = row_of(name, &nearest);
    return i < 0 ? NULL : now.given[i];
}

void gm_options_help(const gm_command *command) {
    const size_t COLUMNS = 70;
    printf("gamma %s %s\n\n%s.\n\n%s\n\nOptions [default] (range):\n",
           command->name, command->operands, command->summary, command->about);
    for (const option *o = table; o < table + ROWS; o++) {
        if (!(o->commands & command->bit)) continue;
        if (o->field == &now.threads) printf("\nFor every command:\n");
        printf("  %s%s%s", o->name, o->value ? " " : "",
               o->value ? o->value : "");
        if (o->fallback) printf(" [%s]", o->fallback);
        if (o->most > 0) printf(" (%.7g .. %.7g)", o->least, o->most);
        printf("\n");
        size_t cut;
        for (const char *text = o->help; *text; text += cut) {
            text += *text == ' ';
            cut = strlen(text);
            if (cut > COLUMNS)
                for (cut = COLUMNS; cut > 1 && text[cut] != ' ';) cut--;
            printf("        %.*s\n", (int)cut, text);
        }
    }
}

static const char *quoted(const char *text) {
    if (*text && !text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP"
                              "QRSTUVWXYZ0123456789-_./,:=+%@")])
        return text;
    char *out = gm_format(&now.arena, "'"), *copy, *part;
    copy = gm_format(&now.arena, "%s", text);
    for (const char *quote = ""; (part = strsep(&copy, "'")); quote = "'\\''")
        out = gm_format(&now.arena, "%s%s%s", out, quote, part);
    return gm_format(&now.arena, "%s'", out);
}

const char *gm_options_text(const gm_call *call) {
    static const char idle[] = "--resume,--max-memory,--cache";
    const char *text = gm_format(&now.arena, "gamma %s", call->command->name);
    for (int i = 0; i < GM_OPERANDS && call->operand[i]; i++)
        text = gm_format(&now.arena, "%s %s", text, quoted(call->operand[i]));
    for (int i = 0; i < ROWS; i++)
        if (call->given[i] && table[i].commands != ALL &&
            !gm_name_matches(idle, table[i].name))
            text = gm_format(&now.arena, "%s %s%s%s", text, table[i].name,
                             table[i].kind == FLAG ? "" : " ",
                             table[i].kind == FLAG ? "" :
                             table[i].kind == WRITE ? "DIR"
                             : quoted(call->given[i]));
    return text;
}

/* ---------------------------------------------------------------- parsing */

/* Takes argv[*at] and its value into now.given. */
static void take_option(char **argv, int *at) {
    const char *value = strchr(argv[*at], '='), *command = now.command->name;
    const char *name = gm_format(&now.arena, "%.*s",
                                 (int)strcspn(argv[*at], "="), argv[*at]);
    int nearest, i = row_of(name, &nearest);
    if (i < 0)
        gm_fail(GM_EUSAGE, "%s: unknown option %s%s%s (gamma %s --help lists "
                "them)", command, name, nearest < 0 ? "" : "; did you mean ",
                nearest < 0 ? "" : table[nearest].name, command);
    const option *o = table + i;
    const bool flag = o->kind == FLAG;
    if (flag && value)
        gm_fail(GM_EUSAGE, "%s takes no value, found \"%s\"", name, value + 1);
    value = flag ? "" : value ? value + 1 : argv[++*at];
    if (!flag && (!value || strncmp(value, "--", 2) == 0))
        gm_fail(GM_EUSAGE, "%s: expected %s after it, found %s", name, o->value,
                value ? value : "the end of the line");
    if (now.given[i] && (o->kind == LIST || o->kind == FILES))
        value = gm_format(&now.arena, "%s,%s", now.given[i], value);
    else if (now.given[i] && o->commands != ALL)
        gm_fail(GM_EUSAGE, "%s is given twice", name);
    now.given[i] = value;
}

/* `text` into the option's field. */
static void fill(const option *o, const char *text) {
    const char *names[8];
    int count = 0;
    char *list = gm_format(&now.arena, "%s", o->value ? o->value : "");
    if (o->kind == FLAG) *(bool *)o->field = true;
    if (o->kind >= TEXT && o->kind <= FILES) *(const char **)o->field = text;
    if (o->kind == WHOLE)
        *(long *)o->field = gm_parse_long(o->name, text, (long)o->least,
                                          (long)o->most);
    if (o->kind == REAL)
        *(double *)o->field = gm_parse_double(o->name, text, o->least, o->most);
    if (o->kind != NAME) return;
    while (list) names[count++] = strsep(&list, "|");
    *(int *)o->field = gm_parse_name(o->name, text, names, count);
}

void gm_options_fill(void) {
    for (int i = 0; i < ROWS; i++) {
        const option *o = table + i;
        const char *text = now.given[i] ? now.given[i] : o->fallback;
        if (!(o->commands & now.command->bit) || !text) continue;
        if (text == REQUIRED)
            gm_fail(GM_EUSAGE, "%s: %s %s is missing", now.command->name,
                    o->name, o->value);
        fill(o, text);
    }
}

/* ----------------------------------------------------- inputs and outputs */

typedef struct { const char **path; size_t count, room; } paths;
static paths inputs;            /* all that the command reads ...          */
static size_t named;            /* ... and, from here, the model's files   */

static void add(paths *list, const char *path) {
    list->path = gm_grow(&now.arena, list->path, list->count, &list->room,
                         sizeof *list->path);
    list->path[list->count++] = strcmp(path, GM_STANDARD) ? path : "/dev/stdin";
}

/* The files of a directory whose names match. */
static void add_files(paths *list, const char *dir, const char *patterns) {
    DIR *all = opendir(dir);
    for (const struct dirent *e; all && (e = readdir(all));)
        if (gm_name_matches(patterns, e->d_name))
            add(list, gm_format(&now.arena, "%s/%s", dir, e->d_name));
    if (all) closedir(all);
}

static void list_inputs(void) {
    inputs = (paths){0};
    for (int i = 0; i < GM_OPERANDS && now.operand[i]; i++)
        add(&inputs, now.operand[i]);
    for (int i = 0; i < ROWS; i++) {
        if (!now.given[i]) continue;
        if (table[i].kind == READ) add(&inputs, now.given[i]);
        char *list = gm_format(&now.arena, "%s", now.given[i]), *limit;
        for (char *item; table[i].kind == FILES && (item = strsep(&list, ","));
             add(&inputs, item))
            if ((limit = strrchr(item, ':'))) *limit = 0;
    }
    named = inputs.count;
    if (now.operand[0]) add_files(&inputs, now.operand[0], "*");
}

void gm_check_output(const char *name, const char *to) {
    struct stat info;
    if (stat(to, &info) != 0 || !S_ISREG(info.st_mode)) return;
    for (size_t i = 0; i < inputs.count; i++)
        if (gm_same_file(inputs.path[i], to))
            gm_fail(GM_EUSAGE, "%s: %s is %s", name, to, i < named ? "also an "
                    "input; expected another file" : "a file of the model; "
                    "expected another");
}

void gm_check_names(const char *dir, const char *names) {
    paths found = {0};
    add_files(&found, dir, names);
    for (size_t i = 0; i < found.count; i++)
        gm_check_output("--out", found.path[i]);
}

gm_call *gm_options_read(const gm_command *c, char **argv) {
    int operands = 0, isa = 0;
    now = (gm_call){.command = c};
    /* a tab in a name would be another cell of a result, a newline a row, and
       what is no UTF-8 could not be read back */
    for (int i = 0; argv[i]; i++) {
        const uint8_t *at = (const uint8_t *)gm_control(argv[i]);
        if (at)
            gm_fail(GM_EUSAGE, "argument \"%.160s\": %s 0x%02X", argv[i],
                    *at < 0xA0 || *at == 0xC2 ? "control character"
                                              : "expected UTF-8, found", *at);
    }
    for (int i = 0; argv[i]; i++)
        if (argv[i][0] == '-' && argv[i][1])
            take_option(argv, &i);
        else if (operands == c->takes)
            gm_fail(GM_EUSAGE, "%s: one argument too many: \"%s\" (usage: "
                    "gamma %s %s)", c->name, argv[i], c->name, c->operands);
        else
            now.operand[operands++] = argv[i];
    if (operands < c->takes && c->bit != SHOW)
        gm_fail(GM_EUSAGE, "%s: an argument is missing (usage: gamma %s %s)",
                c->name, c->name, c->operands);
    if (now.operand[0])
        now.operand[0] = gm_model_dir(&now.arena, now.operand[0]);
    gm_options_fill();
    if (now.threads) gm_threads_use((int)now.threads);
    while (now.isa && isa < GM_ISA_COUNT &&
           strcmp(now.isa, gm_isa_name((gm_isa)isa)) != 0)
        isa++;
    if (now.isa && (isa == GM_ISA_COUNT || !gm_isa_use((gm_isa)isa)))
        gm_fail(GM_EUSAGE, "--isa: expected scalar, avx2 or avx512, as far as "
                "this machine has it; found \"%s\"", now.isa);
    list_inputs();
    for (int i = 0; i < ROWS; i++)
        if (now.given[i] && table[i].kind == WRITE) {
            const char kind = *table[i].value;  /* DIR, FILE; PATH of either */
            if (strcmp(now.given[i], GM_STANDARD) == 0 &&
                (kind == 'D' || (kind == 'P' && now.format != 1)))
                gm_fail(GM_EUSAGE, "%s: expected a directory, found - "
                        "(standard output)", table[i].name);
            gm_check_output(table[i].name, now.given[i]);
        }
    return &now;
}
