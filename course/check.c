/* check.c: the checker of the course, linked with case.c and one lesson.

     check-N LESSON SOURCE.c [--seed S] [--json FILE] [--mistake WRONG.c]...
     check-N LESSON --case FUNCTION SEED     prints that case, with its answer

   Compiles SOURCE.c (`oracle`: the lesson's own answers); runs the cases of
   LESSON/tests.txt and some drawn from a seed, each in a process of its own;
   compares with the expected numbers; and says what is wrong: a crash, a loop
   without end, a NaN, or the first line of that WRONG.c among the known
   mistakes which gives the same wrong numbers.  Exit code 0: all points.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "check.h"

#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DRAWN = 6, MISTAKES = 64 };          /* DRAWN: of a function */

/* --------------------------------------------------------------- comparing */

/* The first place where a differs from b; b->n: none. */
static long differs(const exercise *e, const numbers *a, const numbers *b) {
    double most = 0;
    long i = 0;
    for (long k = 0; k < b->n; k++)
        if (isfinite(b->x[k])) most = fmax(most, fabs(b->x[k]));
    while (i < b->n && (a->x[i] == b->x[i] ||
                        (isnan(a->x[i]) && isnan(b->x[i])) ||
                        (a->x[i] != unset && b->x[i] != unset &&
                         fabs(a->x[i] - b->x[i]) <= e->tolerance * most))) i++;
    return i;
}

/* In words, what differs first; false: nothing. */
static bool different(const exercise *e, const task *found, const task *right,
                      char *words) {
    for (const numbers *b = right->out; b < right->out + right->outs; b++) {
        const numbers *a = find(found->out, found->outs, b->name);
        const bool counts = a && a->n == b->n;
        const long k = counts ? differs(e, a, b) : 0;
        if (counts && k == b->n) continue;
        char place[32] = "";
        if (b->n > 1) snprintf(place, sizeof place, "[%ld]", k);
        if (!counts)
            snprintf(words, WORDS, "`%s`: expected %ld numbers, found %ld",
                     b->name, b->n, a ? a->n : 0);
        else if (a->x[k] == unset)
            snprintf(words, WORDS, "nothing was written into `%s%s`", b->name,
                     place);
        else
            snprintf(words, WORDS, "`%s%s`: expected %.6g, found %.6g%s",
                     b->name, place, b->x[k], a->x[k], isnan(a->x[k]) ?
                     ", not a number: 0/0, or never set" : "");
        return true;
    }
    return false;
}

/* ------------------------------------------------- cases: of a file, drawn */

typedef struct {
    const exercise *e;
    task t;
    bool drawn, hit[MISTAKES];
    double score, most;
    char words[WORDS];          /* what is wrong */
} one_case;
static one_case all[MOST_CASES];
static int cases;

static one_case *new_case(const char *name) {
    if (cases == MOST_CASES) stop("more cases than there is room for", name);
    one_case *c = &all[cases++];
    for (int i = 0; i < the_lesson.count; i++)
        if (!strcmp(the_lesson.exercise[i].name, name))
            c->e = &the_lesson.exercise[i];
    if (!c->e) stop("the lesson has no function", name);
    return c;
}

/* case FUNCTION TITLE, then lines: in NAME numbers, out NAME numbers. */
static void read_cases(const char *path) {
    one_case *c = NULL;
    char *rest, *text = gm_file_text(&arena, path, NULL);
    for (char *line = strtok_r(text, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        char *word = strtok(line, " "), *name = strtok(NULL, " "), *next;
        double x[4096];
        long n = 0;
        if (!word || *word == '#') continue;
        if (!name) stop(path, "a line ends early");
        if (!strcmp(word, "case")) {
            c = new_case(name);
            next = strtok(NULL, "");
            snprintf(c->t.title, sizeof c->t.title, "%s", next ? next : "");
            continue;
        }
        const bool in = !strcmp(word, "in");
        if (!c || (!in && strcmp(word, "out"))) stop(path, word);
        while ((next = strtok(NULL, " ")) && n < (long)(sizeof x / sizeof *x))
            x[n++] = gm_parse_double(path, next, -1e300, 1e300);
        memcpy(add(in ? c->t.in : c->t.out, in ? &c->t.ins : &c->t.outs, name,
                   n), x, (size_t)n * sizeof *x);
    }
}

/* The case of a seed or of the next fair one; the seed behind it. */
static long draw_case(const char *name, long seed) {
    one_case *c = new_case(name);
    do {
        c->t = (task){.seed = (uint64_t)seed++};
        c->e->make(&c->t);
    } while (c->t.unfair);
    c->drawn = true;
    snprintf(c->t.title, sizeof c->t.title, "seed %ld", seed - 1);
    if (!run(c->e, c->e->oracle, &c->t, c->words)) stop("oracle", c->words);
    return seed;
}

static void print_case(const task *t, const char *name) {
    printf("case %s %s\n", name, t->title);
    for (int i = 0; i < t->ins + t->outs; i++) {
        const numbers *a = i < t->ins ? &t->in[i] : &t->out[i - t->ins];
        printf("%s %s", i < t->ins ? "in" : "out", a->name);
        for (long k = 0; k < a->n; k++) {
            char text[32];
            for (int digits = 6; digits <= 17; digits++) {
                snprintf(text, sizeof text, "%.*g", digits, a->x[k]);
                if (strtod(text, NULL) == a->x[k]) break;
            }
            printf(" %s", text);
        }
        printf("\n");
    }
}

/* -------------------------------------------------- programs, and mistakes */

/* Of a file: its first line, which says what is wrong; how many of the cases
   have its numbers; its functions; NULL: the oracle's. */
typedef struct { const char *words; void *code; int hits; } program;

static void *compile(const char *source) {
    const char *end = strrchr(source, '.');
    if (end && !strcmp(end, ".so")) return dlopen(source, RTLD_NOW);
    char so[] = "/tmp/course-XXXXXX";
    const int fd = mkstemp(so);
    const char *cc = getenv("CC");
    if (fd < 0) stop("no temporary file", so);
    close(fd);
    fflush(NULL);
    const int failed = system(gm_format(
        &arena, "%s -std=gnu11 -O1 -g -Wall -Wextra -Wno-unused-parameter "
        "-ffp-contract=off -I.. -I. -shared -fPIC '%s' -o %s >&2",
        cc ? cc : "cc", source, so));
    void *code = failed ? NULL : dlopen(so, RTLD_NOW | RTLD_LOCAL);
    unlink(so);
    return code;
}

static function *entry(const program *p, const exercise *e) {
    function *f = e->oracle;
    void *at = p->code ? dlsym(p->code, e->name) : NULL;
    if (p->code) memcpy(&f, &at, sizeof f);
    return f;
}

/* FILE.c, which make has compiled to FILE.so beside the checker. */
static program known_mistake(const char *checker, const char *path) {
    char *text = gm_file_text(&arena, path, NULL), *end = strstr(text, "*/");
    const int stem = (int)strlen(gm_base_name(path)) - 2;
    program p = {text + 3, compile(gm_format(
        &arena, "%s/%.*s.so", gm_parent(&arena, checker), stem,
        gm_base_name(path))), 0};
    if (strncmp(text, "/* ", 3) || !end || !p.code) stop("no mistake", path);
    *end = 0;
    for (char *c = text; *c; c++)
        if (*c == '\n') *c = ' ';
    while (end[-1] == ' ') *--end = 0;
    return p;
}

/* ----------------------------------------------------------------- grading */

/* Which mistakes give what the student's function gave? */
static void recognise(one_case *c, const task *found, program *mistake) {
    char words[WORDS];
    for (program *m = mistake; m->code; m++) {
        task other = c->t;
        c->hit[m - mistake] = run(c->e, entry(m, c->e), &other, words) &&
                              !different(c->e, found, &other, words);
        m->hits += c->hit[m - mistake];
    }
}

static void grade(const program *student, program *mistake) {
    const exercise *endless = NULL;
    for (one_case *c = all; c < all + cases; c++) {
        function *f = entry(student, c->e);
        task found = c->t;
        if (!f)
            snprintf(c->words, WORDS, "there is no function %s", c->e->name);
        else if (endless == c->e)
            snprintf(c->words, WORDS, "not run: a case before did not end");
        else if (!run(c->e, f, &found, c->words))
            endless = strstr(c->words, "processor time") ? c->e : NULL;
        else if (different(c->e, &found, &c->t, c->words))
            recognise(c, &found, mistake);
        else c->score = c->most;
    }
    for (one_case *c = all; c < all + cases; c++) {
        const program *best = NULL;
        const size_t at = strlen(c->words);
        for (program *m = mistake; m->code; m++)
            if (c->hit[m - mistake] && (!best || m->hits > best->hits))
                best = m;
        if (best) snprintf(c->words + at, WORDS - at, "\n%s", best->words);
    }
}

static void print_json(FILE *out, const char *text) {
    fputc('"', out);
    for (; *text; text++)
        if (*text == '\n') fputs("\\n", out);
        else if (*text == '"' || *text == '\\') fprintf(out, "\\%c", *text);
        else if ((unsigned char)*text >= ' ') fputc(*text, out);
    fputc('"', out);
}

/* What Gradescope's autograder reads; drawn cases of a teacher's seed are for
   the student's eyes when grades are published. */
static void write_json(const char *path, bool hidden) {
    FILE *out = fopen(path, "w");
    if (!out) stop("cannot write", path);
    fprintf(out, "{\"tests\": [");
    for (one_case *c = all; c < all + cases; c++) {
        fprintf(out, "%s\n {\"name\": ", c > all ? "," : "");
        print_json(out, gm_format(&arena, "%s: %s", c->e->name, hidden &&
                                  c->drawn ? "drawn" : c->t.title));
        fprintf(out, ", \"score\": %.12g, \"max_score\": %.12g,\n"
                "  \"output\": ", c->score, c->most);
        print_json(out, c->words);
        fprintf(out, ",\n  \"visibility\": \"%s\"}",
                hidden && c->drawn ? "after_published" : "visible");
    }
    fprintf(out, "\n]}\n");
    if (fclose(out)) stop("cannot write", path);
}

/* What is said again is not printed again. */
static void report(const exercise *e) {
    const char *last = "";
    printf("\n%s: %s\n", e->name, e->what);
    for (one_case *c = all; c < all + cases; c++) {
        if (c->e != e) continue;
        const char *more = strchr(c->words, '\n');
        printf("  %-5s  %s\n", *c->words ? "WRONG" : "right", c->t.title);
        if (*c->words && strcmp(c->words, last))
            printf("         %.*s\n", (int)strcspn(c->words, "\n"), c->words);
        if (more)
            printf("         > %s\n",
                   strcmp(more, last) ? more + 1 : "the same");
        last = more ? more : c->words;
    }
}

static void body(void *arguments) {
    char **arg = arguments;
    static program mistake[MISTAKES + 1];
    program student = {0}, *m = mistake;
    const char *json = NULL;
    bool hidden = false;
    long seed = 1;
    double sum = 0, most = 0;
    if (!arg[1] || !arg[2]) stop("usage", "check-N LESSON SOURCE.c ...");
    if (!strcmp(arg[2], "--case") && arg[3] && arg[4]) {
        draw_case(arg[3], gm_parse_long("seed", arg[4], 0, LONG_MAX / 2));
        print_case(&all[0].t, arg[3]);
        exit(0);
    }
    for (char **a = arg + 3; *a; a += 2) {
        if (!a[1]) stop("a word is missing behind", *a);
        if (!strcmp(*a, "--json")) json = a[1];
        else if (!strcmp(*a, "--mistake") && m < mistake + MISTAKES)
            *m++ = known_mistake(arg[0], a[1]);
        else if (!strcmp(*a, "--seed")) {
            seed = gm_parse_long("seed", a[1], 0, LONG_MAX / 2);
            hidden = true;
        } else stop("what is", *a);
    }
    read_cases(gm_format(&arena, "%s/tests.txt", arg[1]));
    for (int i = 0; i < the_lesson.count * DRAWN; i++)
        seed = draw_case(the_lesson.exercise[i / DRAWN].name, seed);
    for (one_case *c = all; c < all + cases; c++) {
        for (one_case *d = all; d < all + cases; d++) c->most += d->e == c->e;
        c->most = c->e->points / c->most;
        snprintf(c->words, WORDS, "%s does not compile: the compiler's first "
                 "message says where", arg[2]);
    }
    if (strcmp(arg[2], "oracle")) student.code = compile(arg[2]);
    if (student.code || !strcmp(arg[2], "oracle")) grade(&student, mistake);
    printf("%s\n", the_lesson.title);
    for (int i = 0; i < the_lesson.count; i++) report(&the_lesson.exercise[i]);
    for (one_case *c = all; c < all + cases; c++)
        sum += c->score, most += c->most;
    printf("\n%.4g of %.4g points\n", sum, most);
    if (json) write_json(json, hidden);
    exit(sum < most - 1e-9);
}

int main(int count, char **arg) {
    gm_error err;
    (void)count;
    run_begin();
    gm_try(body, arg, &err);
    stop("cannot go on", err.text);
}
