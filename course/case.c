/* case.c: the arrays of a case, and a function called with them in a process of
   its own, where a crash, a loop or a step beyond an array ends nothing but the
   case.  SPDX-License-Identifier: GPL-3.0-or-later */
#include "check.h"

#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

gm_arena arena;

_Noreturn void stop(const char *what, const char *which) {
    fprintf(stderr, "check: %s: %s\n", what, which);
    exit(2);
}

/* ------------------------------------------------------- arrays of a case */

double draw(task *t) { return gm_uniform(t->seed, 22, t->drawn++); }

double draw_normal(task *t) {
    const double r = sqrt(-2 * log(1 - draw(t)));
    return r * cos(6.283185307179586 * draw(t));
}

long draw_between(task *t, long least, long most) {
    return least + (long)(draw(t) * (double)(most - least + 1));
}

double *add(numbers *list, int *count, const char *name, long n) {
    if (*count == MOST_ARRAYS || n < 0) stop("no room for the array", name);
    numbers *a = &list[(*count)++];
    snprintf(a->name, sizeof a->name, "%s", name);
    a->n = n;
    return a->x = gm_alloc(&arena, (size_t)n, sizeof *a->x);
}

double *give(task *t, const char *name, long n) {
    return add(t->in, &t->ins, name, n);
}

void give_one(task *t, const char *name, double x) { *give(t, name, 1) = x; }

const numbers *find(const numbers *list, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (!strcmp(list[i].name, name)) return &list[i];
    return NULL;
}

static const numbers *input(const task *t, const char *name) {
    const numbers *a = find(t->in, t->ins, name);
    if (!a) stop("a case lacks the array", name);
    return a;
}

long count_of(const task *t, const char *name) { return input(t, name)->n; }

double number(const task *t, const char *name) {
    if (input(t, name)->n != 1) stop("expected one number", name);
    return input(t, name)->x[0];
}

/* ------------------------------------------------ a case in a child process */

/* What a child leaves its parent: why it did not answer; its arrays, each in a
   slot that ends where a page begins which the child may not touch. */
enum { SLOT = 1 << 16, PAGE = 4096, UNSET = INT_MIN + 7 };
const double unset = 5.4321e-300;
typedef struct { char name[24], *at; long n; bool ints, out; } array;
static struct {
    char words[WORDS];
    bool done;
    int arrays;
    array array[2 * MOST_ARRAYS];
} *shared;
static char *slots;

static void *slot(const char *name, long n, bool ints, const double *from) {
    array *a = &shared->array[shared->arrays++];
    const long bytes = n * (long)(ints ? sizeof(int) : sizeof(double));
    if (a == shared->array + 2 * MOST_ARRAYS || bytes > SLOT)
        stop("too large", name);
    char *end = slots + (SLOT + PAGE) * (long)shared->arrays - PAGE;
    *a = (array){.at = end - bytes, .n = n, .ints = ints, .out = !from};
    snprintf(a->name, sizeof a->name, "%s", name);
    for (long i = 0; i < n; i++)
        if (ints) ((int *)(void *)a->at)[i] = from ? (int)from[i] : UNSET;
        else ((double *)(void *)a->at)[i] = from ? from[i] : unset;
    mprotect(end, PAGE, PROT_NONE);
    if (from) mprotect(end - SLOT, SLOT, PROT_READ);
    return a->at;
}

const double *given(task *t, const char *name) {
    return slot(name, count_of(t, name), false, input(t, name)->x);
}

const int *given_ints(task *t, const char *name) {
    return slot(name, count_of(t, name), true, input(t, name)->x);
}

double *wanted(const char *name, long n) { return slot(name, n, false, NULL); }
int *wanted_ints(const char *name, long n) { return slot(name, n, true, NULL); }
void answer(const char *name, double x) { *wanted(name, 1) = x; }

static void crashed(int sign, siginfo_t *info, void *context) {
    const char *at = info->si_addr;
    snprintf(shared->words, WORDS, "it crashed (%s): %s", strsignal(sign),
             sign == SIGFPE ? "a whole number divided by 0" : "a pointer that "
             "leads nowhere, or a recursion without end");
    for (int i = 0; i < shared->arrays && sign == SIGSEGV; i++) {
        const array a = shared->array[i];
        char *end = slots + (SLOT + PAGE) * (i + 1L);
        if (at >= end - SLOT - PAGE && at < end)
            snprintf(shared->words, WORDS, at >= a.at && at < end - PAGE
                     ? "it writes into `%s`, which is given, not wanted"
                     : "it reads or writes beyond the ends of `%s`, which has "
                     "%ld numbers", a.name, a.n);
    }
    (void)context;
    _exit(0);
}

/* A second of processor time, 4 GiB, no input; what it prints is talk. */
static void limit(void) {
    static char stack[1 << 16];
    const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction act = {.sa_sigaction = crashed,
                            .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    for (int i = 0; i < 5; i++) sigaction(fatal[i], &act, NULL);
    setrlimit(RLIMIT_AS, &(struct rlimit){(rlim_t)4 << 30, (rlim_t)4 << 30});
    setitimer(ITIMER_VIRTUAL, &(struct itimerval){.it_value = {1, 0}}, NULL);
    alarm(30);
    dup2(open("/dev/null", O_RDONLY), 0);
    dup2(2, 1);
}

/* t->out by f; false: `words` say how it ended instead. */
bool run(const exercise *e, function *f, task *t, char *words) {
    int status;
    memset(shared, 0, sizeof *shared);
    fflush(NULL);
    const pid_t child = fork();
    if (child < 0) stop("fork", e->name);
    if (!child) {
        limit();
        e->call(f, t);
        shared->done = true;
        _exit(0);
    }
    waitpid(child, &status, 0);
    snprintf(words, WORDS, "%s", shared->words);
    if (WIFSIGNALED(status))
        snprintf(words, WORDS, WTERMSIG(status) == SIGVTALRM
                 ? "it ran for a second of processor time: a loop without end?"
                 : "it was stopped: %s", strsignal(WTERMSIG(status)));
    else if (!shared->done && !*words)
        snprintf(words, WORDS, "it ended the program before it had answered");
    t->outs = 0;
    for (array *a = shared->array; a->at && !*words; a++) {
        double *x = a->out ? add(t->out, &t->outs, a->name, a->n) : NULL;
        for (long k = 0; x && k < a->n; k++) {
            const int i = a->ints ? ((int *)(void *)a->at)[k] : 0;
            x[k] = !a->ints ? ((double *)(void *)a->at)[k]
                            : i == UNSET ? unset : i;
        }
    }
    return !*words;
}

void run_begin(void) {
    const int prot = PROT_READ | PROT_WRITE, map = MAP_SHARED | MAP_ANONYMOUS;
    slots = mmap(NULL, (SLOT + PAGE) * 2 * MOST_ARRAYS, prot, map, -1, 0);
    shared = mmap(NULL, sizeof *shared, prot, map, -1, 0);
    if (slots == MAP_FAILED || (void *)shared == MAP_FAILED)
        stop("memory", "mmap");
    gm_threads_use(1);          /* threads do not survive a fork */
}
