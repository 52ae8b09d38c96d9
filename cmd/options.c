/* options.c: every option of every command, in one table: name, value, who has
   it, the field that it fills, what it does, default, range.  Parsing, checks
   and help of all commands are this table's.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

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
    const char *was;
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
    {"--eval", "FILE", READ, RUNS | COMPARE | EVAL | BAQ, &now.text,
     "evaluation text, UTF-8, another one", .was = "--text"},
    {"--eval-tokens", "FILE", READ, RUNS | COMPARE | BAQ, &now.text_tokens,
     "instead of --eval: tokens, .npy, int32, 1-D"},
    {"--eval-tokens", "FILE", READ, EVAL, &now.text_tokens,
     "instead of --eval: tokens, .npy, int32, 1-D", .was = "--tokens"},
    {"--out", "DIR", WRITE, FIT | RUN | COMPARE | BAQ, &now.out,
     "where everything goes", REQUIRED},
    {"--out", "DIR", WRITE, PLAN, &now.out, "of gamma run"},
    {"--out", "PATH", WRITE, QUANTIZE, &now.out,
     "directory to write, or file (packed)", REQUIRED},
    {"--out", "FILE", WRITE, DUMP | REFINE, &now.out,
     "the dump, safetensors (scalars beside it); the scores", REQUIRED},
    {"--out", "FILE", WRITE, SOLVE, &now.out,
     "the assignment (-: standard output, results go to standard error); of "
     "several budgets, % stands for the budget"},
    {"--alloc", "FILE", READ, QUANTIZE, &now.alloc,
     "of gamma solve, or any table of module and bits", REQUIRED},
    {"--alloc", "FILE", READ, EVAL, &now.alloc,
     "measure what this allocation makes of the model too"},
    {"--format", "hf|packed|mlx|compressed-tensors|gptq", NAME, QUANTIZE,
     &now.format, "a Hugging Face directory of dequantized weights, one "
     "safetensors file of codes, scales and zeros, or a directory as another "
     "runtime loads it (docs/deploy.md)", "hf"},
    {"--for", "mlx|compressed-tensors|gptq", NAME, SOLVE | FIT | DUMP,
     &now.layout, "sizes of the directory that quantize --format writes for "
     "that runtime, of its weight files to the byte; only candidates that it "
     "holds; fit, dump: with the values that it gives them"},
    {"--no-fuse", NULL, FLAG, SOLVE, &now.no_fuse, "--for compressed-tensors "
     "and gptq: q, k, v, and gate, up may differ, which vLLM refuses"},
    {"--scale-type", "f32|f16|bf16", NAME, QUANTIZE | SOLVE | FIT | DUMP,
     &now.scale_type,
     "of scales in mlx (as the model) and compressed-tensors (f16)"},
    {"--keep-odd", NULL, FLAG, QUANTIZE, &now.keep_odd, "modules that the "
     "layout cannot hold stay as stored"},
    {"--choices", "FILE", READ, EVAL, &now.choices, "multiple choice, a line "
     "each: {\"context\": \"...\", \"choices\": [\"...\"], \"answer\": index}"},
    {"--delimiter", "TEXT", TEXT, EVAL, &now.delimiter,
     "between a context and its choices, escapes as in JSON: \\n", " "},
    {"--bos", "tokenizer|always|never", NAME, EVAL, &now.bos, "before context "
     "and choice: what the tokenizer puts around a text, its bos_token, or "
     "nothing", "tokenizer"},

    /* budgets, and the exact solver */
    {"--budget", "LIST", TEXT, RUNS | COMPARE, &now.budgets,
     "a,b,c: each solved exactly from one run's scores, in the convention --in",
     "2.25,2.5,3,3.5", .was = "--budgets"},
    {"--budget", "B", TEXT, SOLVE | REFINE | CHECK | AUDIT, &now.budgets,
     "B > 0, in the convention --in; also several, a,b,c (solve: one line "
     "each; refine: anchors, between which solve takes scores)",
     .was = "--budgets"},
    {"--in", "bits|ebits|bytes", NAME, RUNS | COMPARE | SOLVE | REFINE | CHECK
     | AUDIT, &now.in, "what budgets count: sum n_m b_k <= floor(B N), average "
     "code bits; 8 sum s_mk <= floor(B N), with scales and zeros; overhead + "
     "sum s_mk <= B, bytes of the packed file, 50M or 47.5MiB (bits; "
     "--frontier: bytes)"},
    {"--bits", "B", TEXT, SOLVE | REFINE | CHECK | AUDIT, &now.bits,
     "short for --budget B --in bits"},
    {"--ebits", "B", TEXT, SOLVE | REFINE | CHECK | AUDIT, &now.ebits,
     "short for --budget B --in ebits"},
    {"--bytes", "X", TEXT, SOLVE | REFINE | CHECK | AUDIT, &now.bytes,
     "short for --budget X --in bytes"},
    {"--default", "TYPE", TEXT, AUDIT, &now.otherwise, "llama.cpp's type of "
     "tensors that the list does not name, such as q4_K"},
    {"--frontier", NULL, FLAG, SOLVE, &now.frontier,
     "every Pareto-optimal (size, score), sizes in the convention --in"},
    {"--lp", "FILE", WRITE, SOLVE, &now.solve.lp,
     "GLPK's model in CPLEX LP format (% as in --out)"},
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
     "PATTERN=BITS,...: these modules take BITS, or a label (or PATTERN>=BITS, "
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
    {"--overhead", "BYTES", TEXT, SOLVE, &now.overhead, "of another tool's "
     "file beside the modules, in place of the scores' overhead_bytes"},
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
    {"--hash", NULL, FLAG, INFO, &now.hash, "also SHA-256 over the tensors, "
     "model_hash of scores and allocations"},

    /* candidates; quantize and eval take what the allocation was made for */
    {"--bits", "LIST", TEXT, RECIPE | SHOW, &now.bits, "candidates b_k, "
     "ascending: 1..8; 16 (32): as stored in a 16-bit (F32) checkpoint "
     "(2,3,4)"},
    {"--group", "N", WHOLE, RECIPE | SHOW, &now.recipe.group,
     "columns that share a scale and zero (128)", NULL, 1, GM_MAX_GROUP},
    {"--quantizer", "rtn|gptq", NAME, RECIPE | SHOW, &now.recipe.quantizer,
     "each weight to its nearest code; column by column, w_t -= (w_j - q_j) "
     "U_jt / U_jj for t > j, U^T U = H^-1 (rtn)"},
    {"--scales", "minmax|mse", NAME, RECIPE | SHOW, &now.scales,
     "of a group: from lo = min(0, w) to hi = max(0, w); from r lo to r hi, r "
     "of 1, 0.99, ..., 0.21 with the least sum (w - q)^2 (minmax)"},
    {"--symmetric", NULL, FLAG, RECIPE | SHOW, &now.symmetric,
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
     "tool's candidates, NAME.bK or NAME.LABEL (docs/formats.md), or "
     "DIR,DIR,...: quantized models, NAME=DIR (docs/deploy.md); --bits picks "
     "among them"},
    {"--allow", "LIST", TEXT, FIT | DUMP, &now.allow,
     "PATTERN=2,3;PATTERN=4;...: modules (or their last parts) that match, '*' "
     "for anything, have only these candidates"},
    {"--force", NULL, FLAG, CHOSEN | RUN, &now.force,
     "take these candidates though the allocation was made for others; write "
     "where files are that gamma did not write"},
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
     "sequences in one step, at most S", "4", 1, 1 << 20},
    {"--steps", "N", WHOLE, LEARN, &now.fit.steps,
     "sweeps over the blocks (--score scaled: 15, else 60)", NULL, 1, 1000000},
    {"--recipe", "default|paper", NAME, LEARN, &now.paper, "paper, its "
     "abstract read plainly: --relaxation soft --norm plain --score theta "
     "(run: --anchors 0), where not given", "default"},
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
    {"--resume", NULL, FLAG, FIT | RUNS, &now.resume,
     "fit, run: go on from DIR/fit.state, to the same bits"},

    /* what came of it */
    {"--window", "T", WHOLE, RUNS | COMPARE, &now.window,
     "tokens in an evaluation window", "512", 2, 1 << 20},
    {"--window", "T", WHOLE, BAQ, &now.window,
     "tokens in an evaluation window", "1024", 2, 1 << 20},
    {"--window", "T", WHOLE, EVAL, &now.window, "tokens in an evaluation "
     "window; 0: the protocol's", "0", 0, 1 << 20},
    {"--protocol", "default|gptq|llama.cpp|stride|harness", NAME, EVAL,
     &now.protocol, "which tokens of the text are predicted from which, as "
     "published tables have it (docs/results.md)", "default"},
    {"--windows", "N", WHOLE, RUNS | COMPARE | EVAL | BAQ, &now.windows,
     "from the start of the text; 0: all whole ones", "0", 0, 1 << 30},
    {"--no-models", NULL, FLAG, RUNS, &now.no_models, "no DIR/model-B"},
    {"--methods", "LIST", TEXT, COMPARE, &now.methods, "docs/rivals.md; also "
     "refined",
     "uniform,random,first-high,last-high,greedy,gram,separable,closed-form,"
     "anneal,evolve,evolve-kl,baq,gamma"},
    {"--evaluations", "N", WHOLE, COMPARE, &now.evaluations,
     "most passes over the text, of a search", "200", 1, 1000000},
    {"--anchors", "N", WHOLE, RUNS, &now.anchors, "budgets, spread evenly from "
     "the lowest to the highest of --budget (one of several: the middle), at "
     "which the scores are corrected as gamma refine does; 0: as they were "
     "learned (3; --recipe paper: 0)", "3", 0, 32},
    {"--evaluations", "N", WHOLE, REFINE | RUNS, &now.evaluations,
     "most passes over the text for an anchor: 1, then at most 15 a round",
     "16", 1, 1000000},
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
    {"--block", "L", WHOLE, VERIFY, &now.block, "only what is of block L, from "
     "0, or of none; THEIRS may have its rows alone, [7, K] for [M, K]", NULL,
     0, 9999},
    {"--all", NULL, FLAG, VERIFY, &now.all,
     "a row for every tensor instead of one for each family"},
    {"--max-memory", "SIZE", TEXT, RECIPE | REFINE, &now.max_memory, "2G, "
     "1.5GiB: fewer sequences and windows at a time, to the same results, or a "
     "refusal before the start; where there is room, learning keeps the "
     "original's states from step to step"},

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
     "scalar, avx2, avx512, neon (the widest); no result depends on it"},
    {"--json", NULL, FLAG, ALL, &now.json,
     "results as JSON instead of tab-separated lines"},
    {"--quiet", NULL, FLAG, ALL, &now.quiet, "no talk or progress on stderr"},
    {"--verbose", NULL, FLAG, INFO | RECIPE | REFINE | BAQ, &now.verbose,
     "names the tensors that the model does not need"},
    {"--help", NULL, FLAG, ALL, &now.help, "the options most used"},
    {"--help-all", NULL, FLAG, ALL, &now.help, "all options"}};

enum { ROWS = sizeof table / sizeof *table };
_Static_assert(ROWS <= (int)GM_OPTIONS, "gm_call has room for all options");

/* Of these commands any of `of` would do nothing without one of `with`, or,
   never, beside one: an option that does nothing is refused. */
static const struct {
    unsigned commands;
    const char *of, *with;
    bool never;
} beside[] = {
    {SOLVE | FIT | DUMP, "--scale-type", "--for"},
    {SOLVE, "--in", "--budget|--frontier"},
    {REFINE | CHECK | AUDIT, "--in", "--budget"},
    {SOLVE, "--out|--certificate|--lp|--lp-plain|--proof|--exact|--solver|"
     "--glpk-log", "--frontier", true},
    {EVAL, "--calib|--bits|--group|--quantizer|--scales|--symmetric|--hessian|"
     "--damping|--act-order|--sequential|--external|--force|--cache", "--alloc"},
    {CHOSEN, "--sequences|--length", "--calib"},
    {SHOW, "--sequences|--length", "--calib|--tokens"},
    {EVAL, "--max-memory", "--eval|--eval-tokens|--alloc"},
    {EVAL | BAQ, "--window|--windows|--protocol", "--eval|--eval-tokens"},
    {EVAL, "--delimiter|--bos", "--choices"},
    {RUN, "--force", "--no-models", true},
    {COMPARE, "--batch|--steps|--recipe|--relaxation|--norm|--first-weight|"
     "--score|--train-bits|--alpha|--rho|--eta|--tau|--tau-last|--rate|--tail",
     "--scores", true},
    {DUMP, "--limit", "--only", true}};

static bool is_named(const option *o, const char *name) {
    return strcmp(name, o->name) == 0 || (o->was && !strcmp(name, o->was));
}

/* The row of an option of this command, or -1. */
static int row_of(const char *name) {
    for (int i = 0; i < ROWS; i++)
        if (table[i].commands & now.command->bit && is_named(table + i, name))
            return i;
    return -1;
}

const char *gm_given(const char *name) {
    int i = row_of(name);
    return i < 0 ? NULL : now.given[i];
}

const char *gm_given_of(const char *names) {
    char *list = gm_format(&now.arena, "%s", names), *name;
    while ((name = strsep(&list, "|")) && !gm_given(name)) continue;
    return name;
}

static void check_beside(void) {
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        if (!(beside[i].commands & now.command->bit)) continue;
        const char *odd = gm_given_of(beside[i].of);
        const char *other = gm_given_of(beside[i].with);
        if (odd && !other != beside[i].never)
            gm_fail(GM_EUSAGE, beside[i].never ? "%s does not go with %s"
                    : "%s goes with %s, found none", odd,
                    other ? other : beside[i].with);
    }
}

/* What may have been meant: the option of this command whose name, of before
   too, is one letter off; the commands that have one of that name; the nearest
   option of this one. */
static const char *meant(const char *name) {
    const char *nearest = NULL, *others = "";
    unsigned of = 0;
    int least = 99;
    for (const option *o = table; o < table + ROWS; o++) {
        if (is_named(o, name)) of |= o->commands;
        if (!(o->commands & now.command->bit)) continue;
        for (int old = 0; old <= (o->was != NULL); old++) {
            int far = gm_distance(name + 2, (old ? o->was : o->name) + 2);
            if (far < least) least = far, nearest = o->name;
        }
    }
    for (int i = 0; gm_commands[i]; i++)
        if (of & gm_commands[i]->bit)
            others = gm_format(&now.arena, "%s%s%s", others, *others ? ", " :
                               "; it belongs to gamma ", gm_commands[i]->name);
    return least > 1 && (*others || least == 99) ? others
         : gm_format(&now.arena, "; did you mean %s", nearest);
}

/* -------------------------------------------------------------------- help */

/* Of --help: the first ten of these that the command has, in this order. */
static const struct { const char *name, *text; unsigned commands; } often[] = {
    {"--values", "weights a,b,c,...: one group", ALL},
    {"--calib", "calibration text", ALL},
    {"--eval", "evaluation text, another one", ALL},
    {"--out", "where to write", ALL},
    {"--alloc", "the allocation, of gamma solve or any table", ALL},
    {"--budget", "the average bits, 2.5, or several, 2.25,2.5,3", ALL},
    {"--in", "what the budget counts: bits, ebits, bytes (50M)", ALL},
    {"--frontier", "instead of a budget: all that are worth asking for", ALL},
    {"--bits", "of the candidates, such as 2,3,4", RECIPE | SHOW},
    {"--format", "a Hugging Face directory, or one packed file", ALL},
    {"--choices", "multiple choice questions, a JSON object a line", ALL},
    {"--methods", "which ways to choose bits", ALL},
    {"--step", "the step to show", ALL},
    {"--only", "the names to write: PATTERN,...", ALL},
    {"--proof", "that nothing is better, for another program", ALL},
    {"--pin", "PATTERN=BITS,...: modules that take these bits", ALL},
    {"--fuse", "q_proj+k_proj+v_proj,...: that take the same", ALL},
    {"--group", "columns that share a scale and zero", ALL},
    {"--quantizer", "to the nearest code, or by GPTQ", ALL},
    {"--tolerance", "NAME=FACTOR,...: wider or narrower ones", ALL},
    {"--all", "a row for every tensor", ALL},
    {"--block", "THEIRS has arrays of this block alone", ALL},
    {"--resume", "go on where it was interrupted", FIT | RUN},
    {"--no-models", "measure without writing the models", RUN},
    {"--max-memory", "such as 2G: make it fit, or refuse at once", ALL},
    {"--sequences", "how many pieces of the calibration text", ALL},
    {"--length", "tokens in each of them", ALL},
    {"--steps", "of learning", ALL},
    {"--rate", "average bits, such as 2,3,4", BAQ},
    {"--window", "tokens in a window of the evaluation text", ALL},
    {"--cache", "directory of the candidates", ALL},
    {"--row", "row of the module, from 0 on", ALL},
    {"--nth", "one group of it alone", ALL},
    {"--certificate", "all that the answer is proven by", ALL},
    {"--json", "results as JSON", ALL},
    {"--quiet", "results and errors alone", ALL},
    {"--threads", "no result depends on it", ALL}};
/* As they stand after `gamma fit`, `solve` and so on above them. */
static const char *const examples[] = {
    "run MODEL --calib calib.txt --eval test.txt --out out",
    "run MODEL --calib calib.txt --eval test.txt --out out --budget 2.5,3",
    "run MODEL --calib calib.txt --eval test.txt --out out --resume",
    "info MODEL", "info MODEL --json",
    "fit MODEL --calib calib.txt --out out",
    "fit MODEL --calib calib.txt --out out --quantizer gptq --group 64",
    "refine MODEL out/scores.tsv --calib calib.txt --budget 2.5 --out r.tsv",
    "solve out/scores.tsv --budget 2.5 --out out/alloc.tsv",
    "solve out/scores.tsv --budget 2.25,2.5,3 --out out/alloc-%.tsv",
    "solve out/scores.tsv --budget 900K --in bytes",
    "check out/alloc.tsv out/scores.tsv",
    "quantize MODEL --alloc out/alloc.tsv --out out/model-2.5",
    "quantize MODEL --alloc out/alloc.tsv --out out/packed --format packed",
    "eval MODEL --eval test.txt",
    "eval MODEL --eval test.txt --alloc out/alloc.tsv",
    "compare MODEL --calib calib.txt --eval test.txt --out out",
    "compare MODEL --calib calib.txt --eval test.txt --out out --in ebits",
    "baq MODEL --calib calib.txt --eval test.txt --out out",
    "dump MODEL --calib calib.txt --out ours.safetensors",
    "dump MODEL --calib calib.txt --out ours.safetensors --step 2",
    "verify ours.safetensors theirs.safetensors",
    "verify ours.safetensors theirs.safetensors --all",
    "plan MODEL --calib calib.txt",
    "show --values -1,-0.2,0.1,0.9 --bits 2",
    "show MODEL model.layers.0.self_attn.q_proj --row 3",
    "show out/alloc.tsv",
    "report out",
    "audit quantize_config.json out/scores.tsv",
    "audit out/alloc.tsv out/scores.tsv --budget 2.5"};
enum { EXAMPLES = sizeof examples / sizeof *examples };

/* How much of the text goes into so many columns: whole words. */
static int fit(const char *text, size_t columns) {
    size_t cut = strlen(text);
    if (cut > columns)
        for (cut = columns; cut > 1 && text[cut] != ' ';) cut--;
    return (int)cut;
}

/* What every form of help says of an option, its default, its range. */
static const char *label(const option *o) {
    return gm_format(&now.arena, "%s%s%s%s%s%s%s", o->name,
                     o->value ? " " : "", o->value ? o->value : "",
                     o->fallback ? " [" : "", o->fallback ? o->fallback : "",
                     o->fallback ? "]" : "", o->most > 0 ?
                     gm_format(&now.arena, " (%.7g .. %.7g)", o->least, o->most)
                     : "");
}

/* Text as roff has it; what is of one line is broken. */
static void print_roff(const char *text) {
    static const char special[] = "\\-^~'`";
    static const char *const as[] = {"\\e", "\\-", "\\(ha", "\\(ti", "\\(aq",
                                     "\\(ga"};
    int n = strchr(text, '\n') ? -10000 : 0;
    for (bool first = true; *text; first = *text++ == '\n') {
        const char *at = strchr(special, *text);
        n++;
        if (first && *text == '.') printf("\\&");
        if (at) printf("%s", as[at - special]);
        else if (*text == ' ' && n > 55 && text[1] != '.') n = !putchar('\n');
        else putchar(*text);
    }
    printf("\n");
}

static void print_examples(const gm_command *command, bool roff) {
    for (int i = 0; i < EXAMPLES; i++) {
        const size_t n = strcspn(examples[i], " ");
        if (strncmp(examples[i], command->name, n) != 0 || command->name[n])
            continue;
        printf(roff ? "    gamma " : "  gamma %s\n", examples[i]);
        if (roff) print_roff(examples[i]);
    }
}

static void print_often(const gm_command *command) {
    int shown = 0, all = 0;
    for (const option *o = table; o < table + ROWS; o++)
        all += (o->commands & command->bit) != 0;
    for (size_t i = 0; i < sizeof often / sizeof *often; i++)
        for (const option *o = table; o < table + ROWS && shown < 10; o++) {
            if (!(o->commands & often[i].commands & command->bit) ||
                strcmp(often[i].name, o->name) != 0)
                continue;
            const bool value = o->value && strlen(o->value) < 15;
            printf("%-24s%s\n", gm_format(&now.arena, "  %s %s", o->name, value
                   ? o->value : ""), often[i].text);
            shown++;
        }
    printf("\ngamma %s --help-all: all of its %d options, equations, defaults, "
           "ranges\n", command->name, all);
}

void gm_options_help(const gm_command *command, bool all) {
    printf("gamma %s %s\n\n%s.\n\n", command->name, command->operands,
           command->summary);
    if (all) printf("%s\n\n", command->about);
    print_examples(command, false);
    printf("\n%s:\n", all ? "Options [default] (range)" : "Most used");
    if (!all) print_often(command);
    for (const option *o = table; all && o < table + ROWS; o++) {
        if (!(o->commands & command->bit)) continue;
        if (o->field == &now.threads) printf("\nFor every command:\n");
        printf("  %s\n", label(o));
        int cut;
        for (const char *text = o->help; *text; text += cut) {
            text += *text == ' ';
            cut = fit(text, 70);
            printf("        %.*s\n", cut, text);
        }
    }
    gm_arena_free(&now.arena);
}

void gm_options_man(const char *intro, const char *ending) {
    printf(".TH GAMMA 1 2026-11-26 \"gamma %s\" \"User Commands\"\n.SH NAME\n"
           "gamma \\- global bit allocation for mixed\\-precision models\n"
           ".SH SYNOPSIS\n.B gamma\n.I COMMAND\n\\&... [options]\n"
           ".SH DESCRIPTION\n", GM_VERSION);
    print_roff(intro);
    printf(".SH COMMANDS\n");
    for (int i = 0; gm_commands[i]; i++) {
        const gm_command *c = gm_commands[i];
        printf(".SS gamma %s\n", c->name);
        print_roff(gm_format(&now.arena, "gamma %s %s", c->name, c->operands));
        printf(".PP\n");
        print_roff(gm_format(&now.arena, "%s.", c->summary));
        printf(".PP\n.nf\n");
        print_roff(c->about);
        printf(".fi\n.PP\n.nf\n");
        print_examples(c, true);
        printf(".fi\n");
    }
    printf(".SH OPTIONS\nWhich commands have it, what it does; [default] "
           "(range).\n");
    for (const option *o = table; o < table + ROWS; o++) {
        const char *list = o->commands == ALL ? "all commands" : "";
        for (int i = 0; gm_commands[i] && o->commands != ALL; i++)
            if (o->commands & gm_commands[i]->bit)
                list = gm_format(&now.arena, "%s%s%s", list, *list ? ", " : "",
                                 gm_commands[i]->name);
        printf(".TP\n");
        print_roff(label(o));
        print_roff(gm_format(&now.arena, "(%s) %s", list, o->help));
    }
    printf(".SH EXIT STATUS\n");
    print_roff(ending);
    gm_arena_free(&now.arena);
}

/* ------------------------------------------------------------- completions */

/* "a|b|c" as "a b c". */
static const char *spaced(const char *names) {
    char *text = gm_format(&now.arena, "%s", names);
    for (char *bar; (bar = strchr(text, '|'));) *bar = ' ';
    return text;
}

/* In a string of the shell, and before what zsh splits at. */
static void print_quoted(const char *s, const char *special) {
    for (; *s; s++)
        printf(*s == '\'' ? "'\\''" : strchr(special, *s) ? "\\%c" : "%c", *s);
}

/* An option as zsh's _arguments has it. */
static void print_argument(const option *o) {
    const bool files = o->kind == READ || o->kind == WRITE || o->kind == FILES;
    printf(" \\\n    '%s[", o->name);
    print_quoted(o->help, "[]:\\");
    printf("]");
    if (o->kind == NAME) printf(":name:(%s)", spaced(o->value));
    else if (o->value) printf(":%s:%s", o->value, files ? "_files" : "");
    printf("'");
}

void gm_options_complete(bool zsh) {
    printf(zsh ? "#compdef gamma\nlocal -a names\nlocal name=$words[2]\nnames=("
           : "_gamma() {\n    local words cur=${COMP_WORDS[COMP_CWORD]}\n"
             "    local prev=${COMP_WORDS[COMP_CWORD-1]}\n    words='--help "
             "--help-all --version");
    for (int i = 0; gm_commands[i]; i++) {
        const gm_command *c = gm_commands[i];
        printf(zsh ? "\n    '%s:" : " %s", c->name);
        if (zsh) print_quoted(c->summary, "\\");
        if (zsh) printf("'");
    }
    printf(zsh ? ")\n(( CURRENT == 2 )) && { _describe command names; return "
           "}\nshift words; (( CURRENT-- ))\ncase $name in\n"
           : "'\n    [ \"$COMP_CWORD\" = 1 ] || case ${COMP_WORDS[1]} in\n");
    for (int i = 0; gm_commands[i]; i++) {
        printf(zsh ? "%s) _arguments" : "    %s) words='",
               gm_commands[i]->name);
        for (const option *o = table; o < table + ROWS; o++) {
            if (!(o->commands & gm_commands[i]->bit)) continue;
            if (zsh) print_argument(o);
            else printf(" %s", o->name);
        }
        printf(zsh ? " \\\n    '*:file:_files' ;;\n" : "' ;;\n");
    }
    printf(zsh ? "esac\n" : "    *) words= ;;\n    esac\n    case $prev in\n");
    for (const option *o = table; o < table + ROWS && !zsh; o++)
        if (o->kind == NAME)
            printf("    %s) words='%s' ;;\n", o->name, spaced(o->value));
    if (!zsh)
        printf("    *) [ \"$COMP_CWORD\" = 1 ] || [ \"${cur:0:1}\" = - ] || "
               "words= ;;\n    esac\n    COMPREPLY=($(compgen -W \"$words\" -- "
               "\"$cur\"))\n}\ncomplete -o default -F _gamma gamma\n");
    gm_arena_free(&now.arena);
}

const char *gm_quoted(const char *text) {
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
        text = gm_format(&now.arena, "%s %s", text,
                         gm_quoted(call->operand[i]));
    for (int i = 0; i < ROWS; i++)
        if (call->given[i] && table[i].commands != ALL &&
            !gm_name_matches(idle, table[i].name))
            text = gm_format(&now.arena, "%s %s%s%s", text, table[i].name,
                             table[i].kind == FLAG ? "" : " ",
                             table[i].kind == FLAG ? "" :
                             table[i].kind == WRITE ? "DIR"
                             : gm_quoted(call->given[i]));
    return text;
}

/* ---------------------------------------------------------------- parsing */

/* Takes argv[*at] and its value into now.given. */
static void take_option(char **argv, int *at) {
    const char *value = strchr(argv[*at], '='), *command = now.command->name;
    const char *name = gm_format(&now.arena, "%.*s",
                                 (int)strcspn(argv[*at], "="), argv[*at]);
    const int i = row_of(name);
    if (i < 0)
        gm_fail(GM_EUSAGE, "%s: unknown option %s%s (gamma %s --help-all lists "
                "them)", command, name, meant(name), command);
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
    long count;
    const char **name = gm_dir_names(&now.arena, dir, patterns, &count);
    for (long i = 0; i < count; i++)
        add(list, gm_format(&now.arena, "%s/%s", dir, name[i]));
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

/* What is often given as a checkpoint and is none: a file, a name of a hub. */
static void check_model(const char *path) {
    const char *name = gm_base_name(path);
    const int owner = (int)(name - path) - 1;
    struct stat info;
    char magic[5] = "";
    if (stat(path, &info) != 0 && owner > 0 && !strchr("./~", *path) && *name &&
        memchr(path, '/', (size_t)owner) == NULL)
        gm_fail(GM_EIO, "%s: no such directory; of a name on the Hugging Face "
                "hub, `hf download %s --local-dir %s` makes one, %s, to give "
                "here (fetched before: ~/.cache/huggingface/hub/models--%.*s--"
                "%s)", path, path, name, name, owner, path, name);
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode)) return;
    FILE *file = fopen(path, "rb");
    if (file && fread(magic, 1, 4, file) < 4) *magic = 0;
    if (file) fclose(file);
    gm_bad(path, strcmp(magic, "GGUF") == 0 ? "a GGUF file; expected the "
           "directory of the checkpoint that it was made from (config.json, "
           "model.safetensors, tokenizer.json)" : "a file; expected the "
           "directory that has it beside config.json and tokenizer.json");
}

gm_call *gm_options_read(const gm_command *c, char **argv) {
    int operands = 0, isa = 0;
    now = (gm_call){.command = c};
    /* a tab in a name would be another cell of a result, a newline a row, and
       what is no UTF-8 could not be read back */
    for (int i = 0; argv[i]; i++) {
        const uint8_t *at = (const uint8_t *)gm_control(argv[i]);
        if (i && strcmp(argv[i - 1], "--delimiter") == 0) continue;
        if (at && strncmp(argv[i], "--delimiter=", 12) != 0)
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
    if (now.operand[0] && (c->bit == SHOW ? now.operand[1] != NULL
                           : strncmp(c->operands, "MODEL", 5) == 0)) {
        check_model(now.operand[0]);
        now.operand[0] = gm_model_dir(&now.arena, now.operand[0]);
    }
    gm_options_fill();
    check_beside();
    if (now.threads) gm_threads_use((int)now.threads);
    while (now.isa && isa < GM_ISA_COUNT &&
           strcmp(now.isa, gm_isa_name((gm_isa)isa)) != 0)
        isa++;
    if (now.isa && (isa == GM_ISA_COUNT || !gm_isa_use((gm_isa)isa)))
        gm_fail(GM_EUSAGE, "--isa: expected scalar, avx2, avx512 or neon, as "
                "far as this machine has it; found \"%s\"", now.isa);
    list_inputs();
    for (int i = 0; i < ROWS; i++)
        if (now.given[i] && table[i].kind == WRITE) {
            const char kind = *table[i].value;  /* DIR, FILE; PATH of either */
            if (strcmp(now.given[i], GM_STANDARD) == 0 &&
                (kind == 'D' || (kind == 'P' && now.format != GM_PACKED)))
                gm_fail(GM_EUSAGE, "%s: expected a directory, found - "
                        "(standard output)", table[i].name);
            gm_check_output(table[i].name, now.given[i]);
        }
    return &now;
}
