/* check.h: what a lesson tells the checker, and what it may ask of it.  A case
   is a list of named arrays: those given, and those that an answer consists of.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef CHECK_H
#define CHECK_H

#include "gamma.h"

enum { MOST_ARRAYS = 16, MOST_CASES = 256 };
typedef struct { char name[24]; long n; double *x; } numbers;
typedef struct {
    char title[120];
    uint64_t seed, drawn;
    bool unfair;                /* make() may say so: the next seed, then */
    int ins, outs;
    numbers in[MOST_ARRAYS], out[MOST_ARRAYS];
} task;

/* The student's function, or the oracle, which has the same type. */
typedef void function(void);
typedef struct {
    const char *name, *what;    /* of the function; what it finds          */
    double points, tolerance;   /* of an array's largest number            */
    void (*make)(task *t);      /* the arrays given, of a case drawn       */
    void (*call)(function *f, task *t);
    function *oracle;
} exercise;
typedef struct {
    const char *title;
    int count;
    exercise exercise[6];
} lesson;
extern const lesson the_lesson;         /* in N-name/lesson.c */

/* case.c.  The lists of arrays; one by its name, or NULL; what an array for
   answers holds until one is written. */
enum { WORDS = 1000 };
extern gm_arena arena;
extern const double unset;
_Noreturn void stop(const char *what, const char *which);   /* exit code 2 */
double *add(numbers *list, int *count, const char *name, long n);
const numbers *find(const numbers *list, int count, const char *name);
/* t->out by f, in a child process; false: words [WORDS] say how it ended. */
void run_begin(void);
bool run(const exercise *e, function *f, task *t, char *words);

/* For make(): random numbers of the case's seed, and a new array. */
double draw(task *t);                           /* in [0, 1)               */
double draw_normal(task *t);
long draw_between(task *t, long least, long most);
double *give(task *t, const char *name, long n);
void give_one(task *t, const char *name, double x);

/* For call(): an array given, which cannot be written to or left at its ends;
   one for answers, full of numbers that no answer has; what was returned. */
long count_of(const task *t, const char *name);
double number(const task *t, const char *name);
const double *given(task *t, const char *name);
const int *given_ints(task *t, const char *name);
double *wanted(const char *name, long n);
int *wanted_ints(const char *name, long n);
void answer(const char *name, double x);

#endif
