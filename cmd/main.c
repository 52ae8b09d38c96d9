/* main.c: the command line's dispatcher, its table printer, progress, signals.
   The commands are in the other files of this folder.  Only they print or exit.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const gm_command *const commands[] = {
    &gm_command_run,      &gm_command_info,   &gm_command_fit,
    &gm_command_refine,   &gm_command_solve,  &gm_command_check,
    &gm_command_quantize, &gm_command_eval,   &gm_command_dump,
    &gm_command_verify,   &gm_command_baq,    &gm_command_compare,
    &gm_command_plan,     &gm_command_show,   &gm_command_audit,
    &gm_command_report};
enum { COMMANDS = sizeof commands / sizeof *commands };

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

int gm_distance(const char *a, const char *b) {
    int row[64], n = (int)strlen(b);
    if (n > 60) return 99;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = (int)gm_min(best, gm_min(row[j], row[j - 1]) + 1);
        }
    }
    return row[n];
}

static const gm_command *find_command(const char *name) {
    const char *nearest = NULL;
    for (int i = 0; i < COMMANDS; i++) {
        int far = gm_distance(name, commands[i]->name);
        if (far == 0) return commands[i];
        if (far < 3) nearest = commands[i]->name;
    }
    gm_fail(GM_EUSAGE, "unknown command \"%s\"%s%s (gamma --help lists them)",
            name, nearest ? "; did you mean " : "", nearest ? nearest : "");
}

/* ------------------------------------------------------------------ tables */

/* The table being printed: one at a time, whole in memory, since a command that
   fails in the middle prints none. */
typedef struct row { struct row *next; char *cell[]; } row;
static struct {
    gm_arena arena;
    long columns;
    row *first, **end;
} table;

void gm_result_row(const char *format, ...) {
    va_list list;
    va_start(list, format);
    char *text = gm_vformat(&table.arena, format, list);
    va_end(list);
    gm_clean(text, "\t");
    const long cells = gm_count_char(text, '\t') + 1;
    if (!table.first) table.columns = cells;
    assert(cells == table.columns);
    row *r = gm_alloc(&table.arena, 1, sizeof *r +
                      (size_t)cells * sizeof *r->cell);
    for (long i = 0; i < cells; i++) r->cell[i] = strsep(&text, "\t");
    *table.end = r;
    table.end = &r->next;
}

void gm_result_begin(const char *columns) {
    gm_arena_free(&table.arena);
    table.first = NULL;
    table.end = &table.first;
    gm_result_row("%s", columns);
}

/* Whether a cell reads as a JSON number. */
static bool is_number(const char *s) {
    const char *digits = "0123456789";
    s += *s == '-';
    size_t n = strspn(s, digits);
    if (!n || (n > 1 && *s == '0')) return false;
    s += n;
    if (*s == '.' && !(n = strspn(s + 1, digits))) return false;
    if (*s == '.') s += n + 1;
    if (*s == 'e' || *s == 'E') {
        s += 1 + (s[1] == '-' || s[1] == '+');
        if (!(n = strspn(s, digits))) return false;
        s += n;
    }
    return !*s;
}

static void print_json(FILE *to) {
    const char *before = "[{";
    for (const row *r = table.first->next; r; r = r->next, before = ",\n {")
        for (long i = 0; i < table.columns; i++)
            fprintf(to, "%s%s: %s%s", i ? ", " : before,
                    gm_json_quote(&table.arena, table.first->cell[i]),
                    is_number(r->cell[i]) ? r->cell[i]
                    : gm_json_quote(&table.arena, r->cell[i]),
                    i + 1 == table.columns ? "}" : "");
    fprintf(to, "%s]\n", table.first->next ? "" : "[");
}

static void print_text(FILE *to, bool aligned) {
    size_t *width = gm_alloc(&table.arena, (size_t)table.columns,
                             sizeof *width);
    for (const row *r = table.first; r && aligned; r = r->next)
        for (long i = 0; i + 1 < table.columns; i++)
            if (strlen(r->cell[i]) > width[i]) width[i] = strlen(r->cell[i]);
    for (const row *r = table.first; r; r = r->next)
        for (long i = 0; i < table.columns; i++)
            fprintf(to, "%-*s%s", (int)width[i], r->cell[i],
                    i + 1 == table.columns ? "\n" : aligned ? "  " : "\t");
}

FILE *gm_results(void) { return gm_stdout_taken ? stderr : stdout; }

void gm_result_end(const gm_call *call) {
    FILE *to = gm_results();
    /* mpirun puts a terminal between us and a file */
    if (call->json) print_json(to);
    else print_text(to, isatty(fileno(to)) && gm_ranks() == 1);
    gm_arena_free(&table.arena);
    fflush(to);
}

/* -------------------------------------------------------------------- talk */

void gm_talk(const gm_call *call, const char *format, ...) {
    char text[8192];            /* a plot; longer ones are cut off */
    if (call->quiet) return;
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    gm_clean(text, "\n");
    fprintf(stderr, "%s\n", text);
}

/* One line, rewritten, on a terminal; elsewhere a line every 30 seconds. */
static void progress(void *context, const char *what, long done, long total) {
    static const char *now;
    static double start, last;
    static long first;
    const gm_call *call = context;
    double t = gm_seconds();
    if (!total) gm_talk(call, "%s", what);
    if (!total || call->quiet) return;
    if (!now || strcmp(now, what) != 0)
        now = what, start = last = t, first = done;
    bool terminal = isatty(STDERR_FILENO), end = done == total;
    if (end) now = NULL;
    if (t - last < (terminal ? 0.2 : 30) && !(end && terminal)) return;
    last = t;
    double rate = t > start ? (double)(done - first) / (t - start) : 0;
    double left = rate > 0 ? (double)(total - done) / rate : 0;
    fprintf(stderr, "%s%s %ld/%ld  %.3g/s  %.0f s left%s%s", terminal ? "\r"
            : "", what, done, total, rate, left, terminal ? "\033[K" : "",
            terminal && !end ? "" : "\n");
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

/* A descriptor that the caller closed must not become a file of ours, into
   which our messages would go: it stays as good as closed. */
static void hold_closed(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
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

/* The whole of an invocation, in main's frame. */
static void do_command(void *context) {
    char **argv = context;
    const gm_command *command = find_command(argv[1]);
    for (int i = 2; argv[i]; i++)
        if (strcmp(argv[i], "--help") == 0) {
            gm_options_help(command);
            return;
        }
    double start = gm_seconds();
    struct rusage used;
    gm_call *call = gm_options_read(command, argv + 2);
    call->report = (gm_report){call, progress};
    if (gm_rank() > 0) call->quiet = true;
    if (gm_ranks() > 1 && !(command->bit & (FIT | RUN)))
        gm_fail(GM_EUSAGE, "%s: expected one process (only fit and run share "
                "the blocks among several), found %d", command->name,
                gm_ranks());
    command->run(call);
    gm_call_notes(call);
    gm_inputs_check();          /* have they changed meanwhile? */
    gm_candidates_close(&call->candidates);
    gm_model_close(&call->model);
    gm_dir_unlock(call->claim);
    bool unwritten = fflush(stdout) != 0;
    if (unwritten || ferror(stdout))
        gm_fail(GM_EIO, "standard output could not be written");
    gm_ranks_check();
    if (!getrusage(RUSAGE_SELF, &used))
        gm_talk(call, "%.1f s, peak memory %.1f MB", gm_seconds() - start,
                (double)used.ru_maxrss * 1024 / 1e6);
    if (gm_ranks() > 1)
        gm_talk(call, "%d processes exchanged %.1f MB", gm_ranks(),
                (double)gm_ranks_bytes() / 1e6);
    gm_arena_free(&call->arena);
}

int main(int argc, char **argv) {
    gm_error err;
    hold_closed();
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
        print_help();
        return argc < 2 ? GM_EUSAGE : GM_OK;
    }
    if (strcmp(argv[1], "--version") == 0) return !printf("%s\n", GM_VERSION);
    if (MAY_SPIN) begin_without_spinning(argv);
    gm_ranks_start(&argc, &argv);
    catch_signals();
    gm_status s = gm_ranks_end(gm_try(do_command, argv, &err), &err);
    if (s && gm_rank() == 0) fprintf(stderr, "gamma: %s\n", err.text);
    return (int)s;
}
