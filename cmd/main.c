/* main.c: the command line's dispatcher, option parser and table printer.
   The commands themselves are in main_*.c.  Only these files print or exit.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <assert.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const gm_command *const commands[] = {
    &gm_command_run,      &gm_command_info,   &gm_command_fit,
    &gm_command_refine,   &gm_command_solve,  &gm_command_check,
    &gm_command_quantize, &gm_command_eval,   &gm_command_dump,
    &gm_command_verify,   &gm_command_baq,    &gm_command_compare,
    &gm_command_plan};
enum { COMMANDS = sizeof commands / sizeof *commands };

/* Options that every command takes. */
static const gm_option common[] = {
    {"--threads", "N", NULL, "threads, 1..1024 (all cores); no result "
                             "depends on it"},
    {"--isa", "NAME", NULL, "scalar, avx2 or avx512 (the widest here); no "
                            "result depends on it"},
    {"--json", NULL, NULL, "results as JSON instead of tab-separated lines"},
    {"--quiet", NULL, NULL, "no talk or progress on stderr"},
    {"--help", NULL, NULL, "this text"},
    {0}};

static const gm_command *find_command(const char *name) {
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

/* ------------------------------------------------------------------- help */

/* Option i of a command, or NULL.  Where a table's closing row has a help text
   it names the command whose options follow. */
static const gm_option *option_at(const gm_command *command, int i) {
    const gm_option *o = command->options;
    while (o->name || o->help)
        if (!o->name) o = find_command(o->help)->options;
        else if (i-- == 0) return o;
        else o++;
    return NULL;
}

static int option_index(const gm_command *command, const char *name) {
    for (int i = 0; option_at(command, i); i++)
        if (strcmp(option_at(command, i)->name, name) == 0) return i;
    return -1;
}

static void print_option(const gm_option *option) {
    char head[80];
    snprintf(head, sizeof head, "%s %s", option->name,
             option->value ? option->value : "");
    printf("  %-22s ", head);
    /* wrap the help text at 54 columns */
    const char *text = option->help;
    while (strlen(text) > 54) {
        int cut = 54;
        while (cut && text[cut] != ' ') cut--;
        if (!cut) break;
        printf("%.*s\n%25s", cut, text, "");
        text += cut + 1;
    }
    printf("%s\n", text);
    if (option->fallback) printf("%25s[%s]\n", "", option->fallback);
}

static void print_command_help(const gm_command *command) {
    printf("gamma %s %s\n\n%s.\n\n%s\n\nOptions [default]:\n", command->name,
           command->operands, command->summary, command->about);
    const gm_option *o;
    for (int i = 0; (o = option_at(command, i)); i++)
        if (option_index(command, o->name) == i) print_option(o);
    printf("\nFor every command:\n");
    for (o = common; o->name; o++) print_option(o);
}

static void print_help(void) {
    printf("gamma %s: global bit allocation for mixed-precision models\n\n"
           "usage: gamma COMMAND ... [--help]\n\n", GM_VERSION);
    for (int i = 0; i < COMMANDS; i++)
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    printf("\nThe whole path in one command:\n"
           "  gamma run data/tiny-llama --calib data/calib.txt --eval "
           "data/test.txt --out out\n\n"
           "Exit codes: 0 done, 1 bad input, 2 wrong usage, 3 infeasible "
           "budget,\n4 limit reached before a proof, 5 read or write failed, "
           "6 out of memory,\n7 a check did not agree.\n");
}

/* ---------------------------------------------------------------- parsing */

/* Levenshtein distance of short words, for "did you mean". */
static int distance(const char *a, const char *b) {
    int row[64];
    int n = (int)strlen(b);
    if (n > 60) return 99;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

_Noreturn static void unknown_option(gm_call *call, const char *name) {
    const char *nearest = NULL;
    int least = 4;
    const gm_option *o;
    for (int i = 0; (o = option_at(call->command, i)); i++)
        if (distance(name, o->name) < least)
            least = distance(name, o->name), nearest = o->name;
    for (o = common; o->name; o++)
        if (distance(name, o->name) < least)
            least = distance(name, o->name), nearest = o->name;
    gm_fail(GM_EUSAGE, "%s: unknown option %s%s%s (gamma %s "
                   "--help lists them)", call->command->name, name,
                   nearest ? "; did you mean " : "", nearest ? nearest : "",
                   call->command->name);
}

static const gm_option *common_option(const char *name) {
    for (const gm_option *o = common; o->name; o++)
        if (strcmp(o->name, name) == 0) return o;
    return NULL;
}

static void set_common(gm_call *call, const char *name,
                            const char *value) {
    if (strcmp(name, "--quiet") == 0) call->quiet = true;
    if (strcmp(name, "--json") == 0) call->json = true;
    if (strcmp(name, "--threads") == 0) {
        gm_threads_use((int)gm_parse_long(name, value, 1, 1024));
    }
    if (strcmp(name, "--isa") == 0) {
        assert(value);
        for (int isa = 0; isa < GM_ISA_COUNT; isa++)
            if (strcmp(value, gm_isa_name((gm_isa)isa)) == 0 &&
                gm_isa_use((gm_isa)isa))
                return;
        gm_fail(GM_EUSAGE, "--isa: expected scalar, avx2 or "
                       "avx512, as far as this machine has it; found \"%s\"",
                       value);
    }
}

/* Takes argv[*at] (and its value) into the call.  A LIST... may be given in
   several parts. */
static void take_option(gm_call *call, char **argv, int *at) {
    char name[64];
    const char *word = argv[*at], *value = strchr(word, '=');
    size_t length = value ? (size_t)(value++ - word) : strlen(word);
    if (length >= sizeof name) unknown_option(call, word);
    memcpy(name, word, length);
    name[length] = 0;
    int i = option_index(call->command, name);
    bool own = i >= 0;
    const gm_option *o = own ? option_at(call->command, i)
                             : common_option(name);
    if (!o) unknown_option(call, name);
    if (!o->value && value)
        gm_fail(GM_EUSAGE, "%s takes no value, found \"%s\"",
                       name, value);
    if (o->value && !value) value = argv[++*at];
    if (o->value && (!value || strncmp(value, "--", 2) == 0))
        gm_fail(GM_EUSAGE, "%s: expected %s after it, found "
                       "%s", name, o->value,
                       value ? value : "the end of the line");
    if (!own) {
        set_common(call, name, value);
        return;
    }
    if (call->given[i] && o->value && !strcmp(o->value, "LIST..."))
        value = gm_format(&call->arena, "%s,%s", call->value[i], value);
    else if (call->given[i])
        gm_fail(GM_EUSAGE, "%s is given twice", name);
    call->given[i] = true;
    call->value[i] = value;
}

/* A tab in a name would be another cell of a result, a newline another row. */
static void check_argument(const char *text) {
    const char *c = gm_control(text);
    if (!c) return;
    gm_fail(GM_EUSAGE, "argument \"%.160s\": control "
                   "character 0x%02X", text, (unsigned char)*c);
}

static void parse(gm_call *call, char **argv) {
    for (int i = 0; argv[i]; i++) check_argument(argv[i]);
    for (int i = 0; argv[i]; i++) {
        if (argv[i][0] == '-' && argv[i][1]) {
            take_option(call, argv, &i);
        } else if (call->operands == call->command->most_operands) {
            gm_fail(GM_EUSAGE, "%s: one argument too many: "
                           "\"%s\" (usage: gamma %s %s)", call->command->name,
                           argv[i], call->command->name,
                           call->command->operands);
        } else {
            call->operand[call->operands++] = argv[i];
        }
    }
    if (call->operands < call->command->least_operands)
        gm_fail(GM_EUSAGE, "%s: an argument is missing "
                       "(usage: gamma %s %s)", call->command->name,
                       call->command->name, call->command->operands);
}

/* An output that is there is no input of the same command, and no file of its
   model. */
static void check_output(gm_call *call, const char *name) {
    int i = option_index(call->command, name);
    const char *to = i < 0 ? NULL : call->value[i];
    struct stat info;
    if (!to || stat(to, &info) != 0 || !S_ISREG(info.st_mode)) return;
    bool input = false;
    for (int j = 0; j < call->operands; j++)
        input = input || gm_same_file(to, call->operand[j]);
    for (int j = 0; j < GM_MAX_OPTIONS; j++)
        input = input || (j != i && call->value[j] &&
                          gm_same_file(to, call->value[j]));
    if (input)
        gm_fail(GM_EUSAGE, "%s: %s is also an input; "
                       "expected another file", name, to);
    const char *parent = gm_parent(&call->arena, to);
    if (call->operands && gm_same_file(parent, call->operand[0]))
        gm_fail(GM_EUSAGE, "%s: %s is a file of the model; "
                       "expected another", name, to);
}

static int own_index(const gm_call *call, const char *name) {
    int i = option_index(call->command, name);
    assert(i >= 0);
    return i;
}

const char *gm_arg(const gm_call *call, const char *name) {
    int i = own_index(call, name);
    return call->value[i] ? call->value[i]
                          : option_at(call->command, i)->fallback;
}

void gm_arg_default(gm_call *call, const char *name, const char *value) {
    int i = own_index(call, name);
    if (!call->given[i]) call->value[i] = value;
}

bool gm_arg_given(const gm_call *call, const char *name) {
    return call->given[own_index(call, name)];
}

void gm_arg_long(gm_call *call, const char *name, long least, long most,
                      long *out) {
    *out = gm_parse_long(name, gm_arg(call, name), least, most);
}

void gm_arg_double(gm_call *call, const char *name, double least,
                        double most, double *out) {
    *out = gm_parse_double(name, gm_arg(call, name), least, most);
}

/* ------------------------------------------------------------------ tables */

/* The table being printed: one at a time, whole in memory when aligned.
   lost: there was no memory for a part of it, so that none is printed. */
static struct {
    char **cell;
    long cells, room, columns;
    bool lost;
} table;

static void add_cell(const char *text) {
    if (table.cells == table.room) {
        long room = table.room ? 2 * table.room : 256;
        char **more = realloc(table.cell, (size_t)room * sizeof *more);
        if (!more) {
            table.lost = true;
            return;
        }
        table.cell = more;
        table.room = room;
    }
    char *copy = strdup(text);
    if (copy) table.cell[table.cells++] = copy;
    else table.lost = true;
}

/* What printf would print, to be freed; NULL: no memory. */
static char *text_of(const char *format, va_list list) {
    va_list again;
    va_copy(again, list);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *text = length < 0 ? NULL : malloc((size_t)length + 1);
    if (text) vsnprintf(text, (size_t)length + 1, format, list);
    return text;
}

/* Cells are separated by tabs; the text is used up. */
static void add_cells(char *text) {
    gm_clean(text, "\t");
    for (char *cell; (cell = strsep(&text, "\t"));) add_cell(cell);
}

static bool is_number(const char *s) {
    const char *digits = "0123456789";
    s += *s == '-';
    size_t n = strspn(s, digits);
    if (!n || (n > 1 && *s == '0')) return false;
    s += n;
    if (*s == '.') {
        if (!(n = strspn(s + 1, digits))) return false;
        s += n + 1;
    }
    if (*s == 'e' || *s == 'E') {
        s += 1 + (s[1] == '-' || s[1] == '+');
        if (!(n = strspn(s, digits))) return false;
        s += n;
    }
    return !*s;
}

static void drop_table(void) {
    for (long i = 0; i < table.cells; i++) free(table.cell[i]);
    free(table.cell);
    memset(&table, 0, sizeof table);
}

static void print_json(gm_call *call, FILE *to) {
    for (long i = table.columns; i < table.cells; i++) {
        long column = i % table.columns;
        const char *head = i == table.columns ? "[{" : column ? ", " : ",\n {";
        char *key = gm_json_quote(&call->arena, table.cell[column]);
        const char *cell = table.cell[i];
        char *quoted = gm_json_quote(&call->arena, cell);
        table.lost = table.lost || !key || !quoted;
        if (table.lost) return;
        fprintf(to, "%s%s: %s%s", head, key, is_number(cell) ? cell : quoted,
               column + 1 == table.columns ? "}" : "");
    }
    fprintf(to, "%s]\n", table.cells <= table.columns ? "[" : "");
}

static void print_text(bool aligned, FILE *to) {
    for (long i = 0; i < table.cells; i++) {
        size_t width = 0;
        bool last = (i + 1) % table.columns == 0;
        for (long j = i % table.columns; j < table.cells; j += table.columns)
            if (strlen(table.cell[j]) > width) width = strlen(table.cell[j]);
        int pad = aligned && !last ? (int)width : 0;
        fprintf(to, "%-*s%s", pad, table.cell[i], last ? "\n" : aligned ? "  "
               : "\t");
    }
}

void gm_result_begin(gm_call *call, const char *columns) {
    char *copy = gm_format(&call->arena, "%s", columns);
    if (copy) add_cells(copy);
    table.lost = table.lost || !copy;
    table.columns = table.cells;
}

void gm_result_row(gm_call *call, const char *format, ...) {
    (void)call;
    va_list list;
    va_start(list, format);
    char *row = text_of(format, list);
    va_end(list);
    if (!row) {
        table.lost = true;
        return;
    }
    add_cells(row);
    free(row);
    assert(table.lost || table.cells % table.columns == 0);
}

void gm_result_end(gm_call *call) {
    FILE *to = call->to ? call->to : stdout;
    if (!table.lost && call->json)
        print_json(call, to);
    else if (!table.lost)
        /* mpirun puts a terminal between us and a file */
        print_text(isatty(fileno(to)) && gm_ranks() == 1, to);
    bool lost = table.lost;
    drop_table();
    table.lost = lost;              /* main says so */
    fflush(to);
}

/* -------------------------------------------------------------------- talk */

void gm_talk(const gm_call *call, const char *format, ...) {
    if (call->quiet) return;
    va_list list;
    va_start(list, format);
    char *text = text_of(format, list);
    va_end(list);
    if (!text) return;
    gm_clean(text, "\n");
    fprintf(stderr, "%s\n", text);
    free(text);
}

/* One line, rewritten, on a terminal; elsewhere a line every 30 seconds. */
static void progress(void *context, const char *what, long done, long total) {
    static const char *now;
    static double start, last;
    static long first;
    const gm_call *call = context;
    double t = gm_seconds();
    if (call->quiet) return;
    if (!total) {
        gm_talk(call, "%s", what);
        return;
    }
    if (!now || strcmp(now, what) != 0)
        now = what, start = last = t, first = done;
    bool terminal = isatty(STDERR_FILENO), end = done == total;
    if (end) now = NULL;
    if (t - last < (terminal ? 0.2 : 30) && !(end && terminal)) return;
    last = t;
    double rate = t > start ? (double)(done - first) / (t - start) : 0;
    double left = rate > 0 ? (double)(total - done) / rate : 0;
    fprintf(stderr, "%s%s %ld/%ld  %.3g/s  %.0f s left%s", terminal ? "\r" : "",
            what, done, total, rate, left,
            terminal && !end ? "\033[K" : terminal ? "\033[K\n" : "\n");
}

/* ------------------------------------------------------------------- ranks */

/* Whether the command may be one of several processes. */
static void check_ranks(gm_call *call) {
    if (gm_ranks() == 1 || call->command == &gm_command_fit ||
        call->command == &gm_command_run)
        return;
    gm_fail(GM_EUSAGE, "%s: expected one process (only fit "
                   "and run share the blocks among several), found %d",
                   call->command->name, gm_ranks());
}

/* ----------------------------------------------------------------- signals */

/* Ctrl-C and its like: no partial file stays; then as without a handler. */
static void on_end(int signal) {
    gm_out_remove_all();
    raise(signal);
}

static void catch_signals(void) {
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction end = {.sa_handler = on_end,
                            .sa_flags = (int)SA_RESETHAND}, was;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (!sigaction(ends[i], NULL, &was) && was.sa_handler == SIG_DFL)
            sigaction(ends[i], &end, NULL);
    signal(SIGXFSZ, SIG_IGN);       /* ulimit -f: an error of write instead */
}

/* -------------------------------------------------------------------- main */

static int unknown_command(const char *name) {
    const char *nearest = NULL;
    for (int i = 0; i < COMMANDS; i++)
        if (distance(name, commands[i]->name) < 3) nearest = commands[i]->name;
    char text[1024];
    snprintf(text, sizeof text, "unknown command \"%s\"%s%s (gamma --help "
             "lists them)", name, nearest ? "; did you mean " : "",
             nearest ? nearest : "");
    gm_clean(text, "");
    if (gm_rank() == 0) fprintf(stderr, "gamma: %s\n", text);
    return GM_EUSAGE;
}

/* What only shows at the end: inputs that changed, results that were lost. */
static void finish(void) {
    gm_inputs_check();
    if (table.lost) gm_fail(GM_EMEM, "out of memory");
    bool unwritten = fflush(stdout) != 0;
    if (unwritten || ferror(stdout))
        gm_fail(GM_EIO, "standard output could not be written");
}

#if defined(_OPENMP) && !defined(main)      /* main: renamed by a fuzzer */
enum { MAY_SPIN = 1 };
#else
enum { MAY_SPIN = 0 };
#endif

/* OpenMP's threads spin while they wait for each other, which on a busy machine
   takes the processor from those they wait for: a fit of 20 steps, beside 20
   other processes, took 380 s (74 s of processor) spinning, 136 s (12 s)
   sleeping.  The policy is read before main begins, so it begins again. */
static void begin_without_spinning(char **argv) {
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 1 || getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    self[n] = 0;
    if (!setenv("OMP_WAIT_POLICY", "passive", 1)) execv(self, argv);
}

typedef struct { gm_call *call; char **argv; } job;

/* The frame's body: what of it fails ends it with its message. */
static void do_job(void *context) {
    const job *j = context;
    gm_call *call = j->call;
    parse(call, j->argv);
    if (gm_rank() > 0) call->quiet = true;
    check_ranks(call);
    check_output(call, "--out");
    check_output(call, "--lp");
    call->command->run(call);
    finish();
}

int main(int argc, char **argv) {
    gm_call call = {0};
    gm_error err;
    if (argc < 2 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help();
        return argc < 2 ? GM_EUSAGE : GM_OK;
    }
    if (strcmp(argv[1], "--version") == 0) return !printf("%s\n", GM_VERSION);
    if (MAY_SPIN) begin_without_spinning(argv);
    gm_ranks_start(&argc, &argv);
    if (!(call.command = find_command(argv[1])))
        return unknown_command(argv[1]);
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0) {
            print_command_help(call.command);
            return GM_OK;
        }
    catch_signals();
    call.report = (gm_report){&call, progress};
    double start = gm_seconds();
    gm_status s = gm_try(do_job, &(job){&call, argv + 2}, &err);
    s = gm_ranks_end(s, &err);
    if (s && gm_rank() == 0) fprintf(stderr, "gamma: %s\n", err.text);
    struct rusage usage;
    if (!s && !getrusage(RUSAGE_SELF, &usage))
        gm_talk(&call, "%.1f s, peak memory %.1f MB", gm_seconds() - start,
                (double)usage.ru_maxrss * 1024 / 1e6);
    if (!s && gm_ranks() > 1)
        gm_talk(&call, "%d processes exchanged %.1f MB", gm_ranks(),
                (double)gm_ranks_bytes() / 1e6);
    drop_table();               /* of a command that failed in the middle */
    if (!s) gm_dir_unlock(call.claim);
    gm_arena_free(&call.arena);
    return (int)s;
}
