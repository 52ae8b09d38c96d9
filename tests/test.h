/* test.h: the whole test harness.  CHECK counts, prints what failed, goes on.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_TEST_H
#define GM_TEST_H

#include "status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long test_passed, test_failed;

/* One claim.  The message, printed on failure, names it with its numbers. */
#define CHECK(condition, ...)                                              \
    do {                                                                   \
        if (condition) {                                                   \
            test_passed++;                                                 \
        } else {                                                           \
            test_failed++;                                                 \
            printf("FAILED %s:%d: %s: ", __FILE__, __LINE__, #condition);  \
            printf(__VA_ARGS__);                                           \
            printf("\n");                                                  \
            if (getenv("STOP")) exit(1);    /* mutants.sh: one is enough */ \
        }                                                                  \
    } while (0)

/* Two texts are equal; prints both when not. */
#define CHECK_TEXT(found, expected)                                        \
    CHECK(strcmp((found), (expected)) == 0,                                \
          "\n  found    \"%s\"\n  expected \"%s\"", (found), (expected))

/* The closing line that tests/run.sh adds up.  A program that checked nothing
   has failed. */
static inline int test_end(const char *name) {
    if (test_passed + test_failed == 0) test_failed = 1;
    printf("%s: %ld passed, %ld failed\n", name, test_passed, test_failed);
    return test_failed != 0;
}

/* A test program is a function test_main; what it lets fail is a failure. */
#define TEST_MAIN(call)                                                    \
    int main(int argc, char **argv) {                                      \
        int result = 1;                                                    \
        (void)argc, (void)argv;                                            \
        gm_status s = STATUS(result = (call));                             \
        if (s) printf("FAILED not caught: %s\n", err.text);                \
        return s ? 1 : result;                                             \
    }

#endif
