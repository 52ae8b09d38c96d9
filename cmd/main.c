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
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

const gm_command *const gm_commands[] = {
    &gm_command_run,      &gm_command_info,   &gm_command_fit,
    &gm_command_refine,   &gm_command_solve,  &gm_command_check,
    &gm_command_quantize, &gm_command_eval,   &gm_command_dump,
    &gm_command_verify,   &gm_command_baq,    &gm_command_compare,
    &gm_command_plan,     &gm_command_show,   &gm_command_audit,
    &gm_command_report,   NULL};

static const char ABOUT[] =
    "Learns how bad each linear module of a model is at each number of bits, "
    "finds\nthe bits that fit a budget exactly, writes and measures the model.",
    CODES[] =
    "0 done, 1 bad input, 2 wrong usage, 3 infeasible budget,\n"
    "4 limit reached before a proof, 5 read or write failed, 6 out of memory,\n"
    "7 a check did not agree.";

static void print_help(bool all) {
    printf("gamma %s: global bit allocation for mixed-precision models\n\n",
           GM_VERSION);
    if (all) printf("%s\n\n", ABOUT);
    for (int i = 0; gm_commands[i]; i++)
        printf("  %-10s %s\n", gm_commands[i]->name, gm_commands[i]->summary);
    printf("\n gamma run data/tiny-llama --calib data/calib.txt --eval "
           "data/test.txt --out out\n gamma show out/alloc-2.5.tsv\n gamma "
           "solve out/scores.tsv --budget 2.75 --out out/alloc-2.75.tsv\n\n"
           "gamma COMMAND --help: the ten options most used; --help-all: "
           "everything\n");
    if (all) printf("\nExit codes: %s\n", CODES);
    for (int i = 0; gm_commands[i] && all; i++) {
        printf("\n\n");
        gm_options_help(gm_commands[i], true);
    }
}

int gm_distance(const char *a, const char *b) {
    int row[64], n = (int)strlen(b), m = (int)strlen(a);
    if (n > 60) return 99;
    if (m > 2 && m != n && !strncmp(a, b, (size_t)gm_min(m, n))) return 1;
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
    return row[n] > (gm_min(m, n) + 1) / 3 ? 99 : row[n];
}

static const gm_command *find_command(const char *name) {
    const char *nearest = NULL;
    int least = 99;
    for (int i = 0; gm_commands[i]; i++) {
        int far = gm_distance(name, gm_commands[i]->name);
        if (far == 0) return gm_commands[i];
        if (far < least) least = far, nearest = gm_commands[i]->name;
    }
    gm_fail(GM_EUSAGE, "unknown command \"%s\"%s%s (gamma --help lists them)",
            name, nearest ? "; did you mean " : "", nearest ? nearest : "");
}

/* A line of progress that the next one, or what is said, takes the place of. */
static bool line_is_open;

static void clear_line(void) {
    if (line_is_open) fprintf(stderr, "\r\033[K");
    line_is_open = false;
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

/* Whether a cell reads as a JSON number, which is less than strtod takes. */
static bool is_number(const char *s) {
    static const char all[] = "0123456789-+.eE", digits[] = "0123456789";
    const char *first = s + (*s == '-'), *dot = strchr(s, '.');
    const size_t n = strspn(first, digits);
    char *end;
    (void)strtod(s, &end);
    return n && (n == 1 || *first != '0') && !*end && !s[strspn(s, all)] &&
           (!dot || strspn(dot + 1, digits));
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

static long width_of(const char *s) {           /* characters of UTF-8 */
    long n = 0;
    for (; *s; s++) n += (*s & 0xC0) != 0x80;
    return n;
}

long gm_width(FILE *to) {
    struct winsize size = {0};
    const char *columns = getenv("COLUMNS");
    long width;
    if (columns && gm_is_long(columns, 1, 100000, &width)) return width;
    ioctl(fileno(to), TIOCGWINSZ, &size);
    return size.ws_col ? size.ws_col : 80;
}

/* Columns of words are narrowed, the widest first, to 12 characters or their
   head, until the table fits.  Where that does not do, it is printed in parts,
   and only what would fill one alone is cut.  A cell is cut from the left and
   begins with "..." then. */
static void shorten(long *width, long most) {
    const long n = table.columns;
    long *least = gm_alloc(&table.arena, (size_t)n, sizeof *least);
    long *was = gm_alloc(&table.arena, (size_t)n, sizeof *was);
    long all = -2, widest = 0;
    for (long i = 0; i < n; i++) {
        const long head = width_of(table.first->cell[i]);
        least[i] = was[i] = width[i];
        all += width[i] + 2;
        for (const row *r = table.first->next; r; r = r->next)
            if (!is_number(r->cell[i])) least[i] = head > 12 ? head : 12;
    }
    for (; all > most && widest >= 0; all--) {
        widest = -1;
        for (long i = 0; i < n; i++)
            if (width[i] > least[i] && (widest < 0 || width[i] > width[widest]))
                widest = i;
        if (widest >= 0) width[widest]--;
    }
    for (long i = 0; i < n && widest < 0; i++) {
        const long room = i ? most - width[0] - 2 : most / 2;
        width[i] = was[i] <= room || least[i] >= was[i] ? was[i] :
                   room > least[i] ? room : least[i];
    }
    for (row *r = table.first->next; r; r = r->next)
        for (long i = 0; i < n; i++) {
            char *cell = r->cell[i];
            long over = width_of(cell) - width[i];
            if (over <= 0) continue;
            for (over += 3; over > 0 || (*cell & 0xC0) == 0x80; cell++)
                over -= (*cell & 0xC0) != 0x80;
            r->cell[i] = (char *)gm_format(&table.arena, "...%s", cell);
        }
}

/* Aligned; where that is wider than the terminal, in parts below each other,
   each with the first column. */
static void print_aligned(FILE *to, long most) {
    long *width = gm_alloc(&table.arena, (size_t)table.columns, sizeof *width);
    for (const row *r = table.first; r; r = r->next)
        for (long i = 0; i < table.columns; i++)
            if (width_of(r->cell[i]) > width[i])
                width[i] = width_of(r->cell[i]);
    shorten(width, most);
    for (long from = 1, to_column = 1; from == 1 || from < table.columns;
         from = to_column) {
        long all = width[0];
        while (to_column < table.columns &&
               (to_column == from || all + 2 + width[to_column] <= most))
            all += 2 + width[to_column++];
        for (const row *r = table.first; r; r = r->next)
            for (long i = 0; i < to_column; i = i ? i + 1 : from) {
                const bool last = i + 1 == to_column || table.columns == 1;
                fprintf(to, "%s%*s", r->cell[i], last ? 0 :
                        (int)(width[i] + 2 - width_of(r->cell[i])), "");
                if (last) fprintf(to, "\n");
            }
        if (table.columns == 1) return;
        if (to_column < table.columns) fprintf(to, "\n");
    }
}

static void print_text(FILE *to) {
    for (const row *r = table.first; r; r = r->next)
        for (long i = 0; i < table.columns; i++)
            fprintf(to, "%s%s", r->cell[i], i + 1 == table.columns ? "\n"
                                                                   : "\t");
}

FILE *gm_results(void) { return gm_stdout_taken ? stderr : stdout; }

void gm_result_end(const gm_call *call) {
    FILE *to = gm_results();
    clear_line();
    /* mpirun puts a terminal between us and a file */
    if (call->json) print_json(to);
    else if (isatty(fileno(to)) && gm_ranks() == 1)
        print_aligned(to, gm_width(to));
    else print_text(to);
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
    clear_line();
    fprintf(stderr, "%s\n", text);
}

/* One line, rewritten, on a terminal, by a command of several stages over all
   of them; elsewhere a line every 30 seconds. */
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
    fprintf(stderr, "%s%s%s%s %ld/%ld  %.3g/s  %.0f s left%s", terminal ? "\r"
            : "", call->stage ? call->stage : "", call->stage ? ": " : "", what,
            done, total, rate, left, terminal ? "\033[K" : "\n");
    line_is_open = terminal;
    if (end && !call->stage && terminal) {
        line_is_open = false;
        fprintf(stderr, "\n");
    }
}

/* ----------------------------------------------------------------- signals */

/* How to go on, for on_end, which may do next to nothing. */
static char how[4096];

/* Ctrl-C and its like: no partial file stays; then as without a handler. */
static void on_end(int signal) {
    gm_out_remove_all();
    for (size_t n = strlen(how), at = 0; at < n;) {
        ssize_t wrote = write(STDERR_FILENO, how + at, n - at);
        if (wrote <= 0) break;
        at += (size_t)wrote;
    }
    raise(signal);
}

/* The command again: it goes on by itself (compare, baq) or has --resume. */
static void say_how(char **argv, gm_call *call) {
    gm_arena *a = &call->arena;
    const bool resumes = call->command->bit & (FIT | RUN);
    const char *line = "";
    for (int i = 0; argv[i]; i++)
        line = gm_format(a, "%s%s ", line, gm_quoted(argv[i]));
    snprintf(how, sizeof how, "%sgamma: ended by a signal; no file is half "
             "written.  %s:\n  %s%s\n", isatty(STDERR_FILENO) ? "\n" : "",
             resumes ? "To go on" : call->command->bit & (COMPARE | BAQ)
             ? "What was measured is kept; to go on"
             : "To begin again", line, resumes && !gm_given("--resume")
             ? "--resume" : "");
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
   sleeping.  GNU's reads the policy before main begins, so it begins again;
   macOS has no /proc, and its OpenMP reads the policy later. */
static void begin_without_spinning(char **argv) {
    char self[4096];
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") ||
        setenv("OMP_WAIT_POLICY", "passive", 1))
        return;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 1) return;
    self[n] = 0;
    execv(self, argv);
}

/* The whole of an invocation, in main's frame. */
static void do_command(void *context) {
    char **argv = context;
    const gm_command *command = find_command(argv[1]);
    for (int i = 2; argv[i]; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "--help-all")) {
            gm_options_help(command, argv[i][6] != 0);
            return;
        }
    double start = gm_seconds();
    struct rusage used;
    gm_call *call = gm_options_read(command, argv + 2);
    call->report = (gm_report){call, progress};
    if (gm_rank() > 0) call->quiet = true;
    else say_how(argv, call);
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
                (double)used.ru_maxrss * GM_RSS_UNIT / 1e6);
    if (gm_ranks() > 1)
        gm_talk(call, "%d processes exchanged %.1f MB", gm_ranks(),
                (double)gm_ranks_bytes() / 1e6);
    gm_arena_free(&call->arena);
}

int main(int argc, char **argv) {
    gm_error err;
    hold_closed();
    if (argc > 2 && !strcmp(argv[1], "help"))       /* gamma help COMMAND */
        argv[1] = argv[2], argv[2] = "--help";
    const char *first = argc < 2 ? "--help" : argv[1];
    const bool all = strcmp(first, "--help-all") == 0;
    if (all || !strcmp(first, "--help") || !strcmp(first, "help")) {
        print_help(all);
        return argc < 2 ? GM_EUSAGE : GM_OK;
    }
    if (strcmp(first, "--version") == 0) return !printf("%s\n", GM_VERSION);
    /* for make install: all from the same tables */
    if (strcmp(first, "--man") == 0) return gm_options_man(ABOUT, CODES), 0;
    if (strcmp(first, "--complete-bash") == 0 ||
        strcmp(first, "--complete-zsh") == 0)
        return gm_options_complete(first[11] == 'z'), 0;
    if (MAY_SPIN) begin_without_spinning(argv);
    gm_ranks_start(&argc, &argv);
    catch_signals();
    gm_status s = gm_ranks_end(gm_try(do_command, argv, &err), &err);
    clear_line();
    if (s && gm_rank() == 0) fprintf(stderr, "gamma: %s\n", err.text);
    return (int)s;
}
