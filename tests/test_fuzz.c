/* test_fuzz.c: replays the corpus of every fuzz target, tests/fuzz/corpus/NAME,
   under the sanitizers: nothing in it may crash, leak, take a second, or more
   memory than the target states; an entry that does ends the program.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"
#include "test.h"

#include <dirent.h>
#include <unistd.h>

static const struct { const char *name; void (*run)(const uint8_t *, size_t); }
    target[] = {{"json", fuzz_json}, {"safetensors", fuzz_safetensors},
                {"tokenizer", fuzz_tokenizer}, {"text", fuzz_text},
                {"config", fuzz_config}, {"npy", fuzz_npy},
                {"scores", fuzz_scores}, {"alloc", fuzz_alloc},
                {"vec", fuzz_vec}, {"compare", fuzz_compare},
                {"choices", fuzz_choices}, {"foreign", fuzz_foreign},
                {"layout", fuzz_layout}, {"external", fuzz_external},
                {"command", fuzz_command}, {"verify", fuzz_verify}};

/* Exact blocks, so that a read beyond the input is seen. */
static void replay(void (*run)(const uint8_t *, size_t), const char *path) {
    size_t size;
    char *text = fuzz_load(path, &size);
    uint8_t *data = malloc(size ? size : 1);
    memcpy(data, text, size);
    free(text);
    run(data, size);
    free(data);
}

static long replay_all(int i) {
    char dir[300], path[600];
    long count = 0;
    target[i].run((const uint8_t *)"", 0);
    snprintf(dir, sizeof dir, "tests/fuzz/corpus/%s", target[i].name);
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (*e->d_name == '.') continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        fprintf(stderr, "%s\n", path);      /* the last one is the culprit */
        replay(target[i].run, path);
        count++;
    }
    if (d) closedir(d);
    return count;
}

/* What gamma prints under the targets `command` and `verify` is not for the test's log. */
static long quietly(int i) {
    fflush(stdout);
    int out = dup(STDOUT_FILENO);
    if (out < 0 || !freopen("/dev/null", "w", stdout)) return 0;
    long count = replay_all(i);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out);
    return count;
}

/* The table of a command that fails in the middle is not the next one's:
   fuzz_command ends the program if it is. */
static void commands_in_turn(void) {
    const char *word[] = {"solve\nscores.tsv\n--budgets\n3,1",
                          "solve\nscores.tsv\n--bits\n3"};
    for (int i = 0; i < 2; i++)
        fuzz_command((const uint8_t *)word[i], strlen(word[i]));
}

static int test_main(void) {
    commands_in_turn();
    for (int i = 0; i < (int)(sizeof target / sizeof *target); i++) {
        long count = quietly(i);
        CHECK(count >= 5, "corpus of %s: %ld entries", target[i].name, count);
    }
    return test_end("test_fuzz");
}

TEST_MAIN(test_main())
