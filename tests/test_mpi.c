/* test_mpi.c: several ranks without MPI: processes of this program that
   exchange bytes through pipes.  Which blocks a rank owns; a failure anywhere
   reaches all; candidates and Stage I are those of one process, bit for bit.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats/formats.h"
#include "gamma.h"
#include "test.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef GM_COUNTED           /* make coverage: counts of a process that forked */
void __gcov_dump(void);
#endif

static const char work[] = "build/test/mpi-work";
enum { MOST = 5 };

/* ----------------------------------------------------- ranks that are forks */

static int pipes[MOST][MOST][2];            /* from, to: read end, write end */

/* false: the other process is gone */
static bool all_bytes(int fd, uint8_t *data, size_t bytes, bool out) {
    while (bytes) {
        ssize_t n = out ? write(fd, data, bytes) : read(fd, data, bytes);
        if (n <= 0) return false;
        data += n;
        bytes -= (size_t)n;
    }
    return true;
}

static int me;

static void pipe_move(void *context, int from, int to, void *data,
                      size_t bytes) {
    (void)context;
    if (!all_bytes(pipes[from][to][me == from], data, bytes, me == from))
        _exit(99);
}

typedef struct { gm_status status; gm_error err; int64_t bytes; } ending;
static struct shared {
    ending end[MOST];
    double numbers[1 << 16];
} *shared;

/* Runs `body` in `size` processes; how each ended is in shared->end.  Bodies
   return as commands do, and agree as main does. */
static void run_ranks(int size, void (*body)(void *context),
                      void *context) {
    pid_t child[MOST];
    memset(shared->end, 0, sizeof shared->end);
    for (int i = 0; i < size * size; i++)
        if (pipe(pipes[i / size][i % size]) != 0) exit(1);
    for (int r = 0; r < size; r++) {
        if ((child[r] = fork()) != 0) continue;
        ending *end = shared->end + r;
        me = r;
        for (int i = 0; i < size * size; i++) {     /* so that an end shows */
            int from = i / size, to = i % size;
            if (from != me) close(pipes[from][to][1]);
            if (to != me) close(pipes[from][to][0]);
        }
        gm_ranks_use(&(gm_transport){r, size, NULL, pipe_move});
        end->status = gm_try(body, context, &end->err);
        end->status = gm_ranks_end(end->status, &end->err);
        end->bytes = gm_ranks_bytes();
#ifdef GM_COUNTED
        __gcov_dump();
#endif
        _exit(0);
    }
    for (int i = 0; i < size * size; i++)
        close(pipes[i / size][i % size][0]), close(pipes[i / size][i % size][1]);
    for (int r = 0; r < size; r++) {
        int how = -1;
        waitpid(child[r], &how, 0);
        CHECK(how == 0, "rank %d of %d ended with %x", r, size, (unsigned)how);
    }
}

/* ------------------------------------------------------------------- ranges */

static gm_transport alone(int size) { return (gm_transport){.size = size}; }

/* Every block has one owner, in order, and shares differ by one at most. */
static void owns_blocks(void) {
    for (int size = 1; size <= 9; size++) {
        gm_transport t = alone(size);
        gm_ranks_use(&t);
        for (long n = 0; n <= 40; n++) {
            long least = n, most = 0;
            for (int r = 0; r < size; r++) {
                long own = gm_rank_first(n, r + 1) - gm_rank_first(n, r);
                if (own < least) least = own;
                if (own > most) most = own;
            }
            CHECK(gm_rank_first(n, 0) == 0 && gm_rank_first(n, size) == n &&
                  least >= 0 && most - least <= 1, "%ld blocks, %d ranks: "
                  "%ld to %ld each", n, size, least, most);
        }
    }
    gm_ranks_use(NULL);
    CHECK(gm_rank() == 0 && gm_ranks() == 1 && gm_ranks_bytes() == 0,
          "one rank");
}

/* -------------------------------------------------------- numbers, failures */

static void exchange(void *context) {
    double x[7 * 3];
    long word = 70 + gm_rank();
    for (int i = 0; i < 21; i++) x[i] = -1;
    for (long l = gm_rank_first(7, gm_rank());
         l < gm_rank_first(7, gm_rank() + 1); l++)
        for (int i = 0; i < 3; i++) x[l * 3 + i] = (double)(l * 3 + i) / 7;
    gm_ranks_gather(x, 7, 3);
    gm_ranks_tell(&word, sizeof word);
    gm_ranks_same("words", "alike");
    for (int i = 0; i < 21; i++)
        if (x[i] != (double)i / 7) gm_fail(GM_EDIFFER, "x %d", i);
    if (word != 70) gm_fail(GM_EDIFFER, "word %ld", word);
    (void)context;
}

/* Rank 1 and 2 fail at once, before an exchange that 0 has begun. */
static void fails(void *context) {
    double x[4] = {0};
    (void)context;
    if (gm_rank() > 0) gm_fail(GM_EIO, "disk of %d", gm_rank());
    gm_ranks_gather(x, 4, 1);
    gm_ranks_gather(x, 4, 1);
}

static void fails_first(void *context) {
    (void)context;
    if (gm_rank() == 0) gm_fail(GM_EINFEASIBLE, "too small");
    gm_ranks_same("words", "alike");
}

static void differs(void *context) {
    (void)context;
    gm_ranks_same("a word", gm_rank() == 2 ? "other" : "this");
}

static void all_end_with(int size, gm_status status, const char *text) {
    for (int r = 0; r < size; r++) {
        CHECK(shared->end[r].status == status, "rank %d: status %d, expected "
              "%d", r, (int)shared->end[r].status, (int)status);
        CHECK_TEXT(shared->end[r].err.text, text);
    }
}

static void exchanges(void) {
    for (int size = 2; size <= MOST; size++) {
        run_ranks(size, exchange, NULL);
        all_end_with(size, GM_OK, "");
        /* 4 agreements of all with all; to each from another 7 blocks of 3
           doubles, and from rank 0 a word and the 128 bytes of a text */
        int64_t expected = (size - 1) * (size * 4 * 4 + 7 * 24 + 8 + 128);
        CHECK(shared->end[0].bytes == expected, "%lld bytes, expected %lld",
              (long long)shared->end[0].bytes, (long long)expected);
    }
    run_ranks(3, fails, NULL);
    all_end_with(3, GM_EIO, "rank 1: disk of 1");
    run_ranks(3, fails_first, NULL);
    all_end_with(3, GM_EINFEASIBLE, "too small");
    run_ranks(3, differs, NULL);
    all_end_with(3, GM_EINPUT, "rank 2: a word: expected that of rank 0, this, "
                 "found other; all ranks need the same command and the same "
                 "files");
}

/* ------------------------------------------------------------- the real job */

/* Candidates of a model by `recipe`, then steps of Stage I. */
typedef struct {
    const char *model, *recipe, *dir;
    gm_fit_options options;
    bool fail;                  /* the last rank, before the first step */
} job;

static long numbers(const gm_fit *fit, double *to) {
    const double *from[] = {fit->theta, fit->g, fit->v, fit->separable,
                            fit->theta_sum, fit->loss_sum, fit->moment2};
    const long n = fit->M * fit->K;
    long at = 0;
    for (size_t i = 0; i < sizeof from / sizeof *from; i++, at += n)
        memcpy(to + at, from[i], (size_t)n * sizeof *to);
    memcpy(to + at, fit->block_E, (size_t)(fit->M / GM_LINEARS) * sizeof *to);
    at += fit->M / GM_LINEARS;
    double rest[] = {fit->E0, fit->E, fit->c, fit->lambda, fit->entropy};
    memcpy(to + at, rest, sizeof rest);
    return at + 5;
}

static void stage1(void *context) {
    const job *j = context;
    gm_arena arena = {0};
    gm_model model;
    gm_recipe recipe;
    gm_candidates candidates;
    gm_fit fit;
    int32_t tokens[7 * 24];
    const gm_fit_options *o = &j->options;
    for (long i = 0; i < o->sequences * o->T; i++)
        tokens[i] = (int32_t)(gm_random(3, 0, (uint64_t)i) % 64);
    gm_model_open(&arena, j->model, &model);
    gm_recipe_read(j->recipe, &recipe);
    gm_candidates_open(&arena, &model, &recipe,
                       &(gm_sequences){tokens, o->sequences, o->T}, j->dir,
                       NULL,
                       &candidates);
    gm_fit_begin(&arena, &candidates, tokens, o, &fit);
    if (j->fail && gm_rank() == gm_ranks() - 1) gm_fail(GM_EMEM, "no memory");
    while (fit.step < o->steps) gm_fit_step(&fit);
    if (gm_rank() == gm_ranks() - 1) numbers(&fit, shared->numbers);
    gm_candidates_close(&candidates);
    gm_model_close(&model);
    gm_arena_free(&arena);
}

static bool same_files(const char *a, const char *b) {
    char command[256];
    snprintf(command, sizeof command, "cd %s && diff -r %s %s", work, a, b);
    return system(command) == 0;
}

/* The states that a rank gets come in parts: of `batch` sequences in Stage I,
   7 = 3 + 3 + 1, of 4 for candidates. */
static void equals_one_process(const char *model, const char *recipe,
                               gm_fit_options o) {
    static double one[1 << 16];
    char dir[MOST + 1][64];
    for (int size = 1; size <= 3; size++) {
        snprintf(dir[size], sizeof *dir, "%s/%d", work, size);
        job j = {model, recipe, dir[size], o, false};
        char text[80];
        snprintf(text, sizeof text, "rm -rf %s", dir[size]);
        if (system(text) != 0) exit(1);
        memset(shared->numbers, 0, sizeof shared->numbers);
        run_ranks(size, stage1, &j);
        all_end_with(size, GM_OK, "");
        if (size == 1) memcpy(one, shared->numbers, sizeof one);
        CHECK(memcmp(one, shared->numbers, sizeof one) == 0, "%s, %s, "
              "relaxation %d: %d ranks give other numbers", model, recipe,
              (int)o.relaxation, size);
        CHECK(one[0] != 0, "theta moved");
        if (size > 1)
            CHECK(same_files("1", strrchr(dir[size], '/') + 1), "%s: %d ranks "
                  "wrote another file", recipe, size);
    }
}

static int test_main(void) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    gm_threads_use(1);
    gm_fit_options o = {
        .relaxation = GM_SOFT_CORRECTED, .score = GM_SCORE_LOSS, .sequences = 7,
        .T = 24, .batch = 3, .steps = 3, .alpha = 0.1, .rho = 10, .eta = 0.02,
        .tau = 1, .rate = 0.1, .tail = 0.7, .budget = 3, .seed = 1};
    owns_blocks();
    exchanges();
    const char *small = "tests/golden/tiny-llama";      /* 2 blocks: of 3
                                       ranks the first has none */
    equals_one_process("data/tiny-llama", "gptq bits=2,3,4 group=64 "
                       "hessian=token", o);             /* 8 = 2 + 3 + 3 */
    equals_one_process(small, "gptq bits=2,4 group=32 hessian=attention "
                       "sequential", o);
    o.relaxation = GM_GUMBEL;
    o.tau_last = 0.5;
    equals_one_process(small, "rtn bits=2,3,4 group=32", o);
    job j = {small, "rtn bits=2,3,4 group=32", "build/test/mpi-work/1", o,
             true};
    run_ranks(3, stage1, &j);
    all_end_with(3, GM_EMEM, "rank 2: no memory");
    return test_end("test_mpi");
}

TEST_MAIN(test_main())
