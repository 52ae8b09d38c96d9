/* ranks.c: several processes, called ranks, share the blocks of a model.  Rank
   r of P owns the blocks floor(r L / P) .. floor((r+1) L / P) - 1.

   Given theta and lambda blocks are independent, so a step of Stage I needs
   from the others only each block's loss and K numbers a module.  Each goes to
   its place in [M, K]; then every rank makes the same step of theta from all of
   them, all sums in module order: the same bytes for any number of ranks.  The
   original's states before its first block a rank makes itself, once: cheaper
   than a step, and nothing to exchange.

   A rank that fails unwinds to main, as everywhere, and main agrees with the
   others on how it ends.  Whatever else is exchanged begins by agreeing that
   all is well: so the others meet the failure at their next exchange, and
   unwind too.  No rank waits for one that is gone; one that is killed is the
   launcher's to see (mpirun ends the job).

   Built without MPI there is one rank; nothing else depends on how it is built.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static gm_transport job = {.size = 1};
static gm_status failed;        /* agreed: no exchange follows */
static int64_t moved;

void gm_ranks_use(const gm_transport *transport) {
    job = transport ? *transport : (gm_transport){.size = 1};
    failed = GM_OK;
    moved = 0;
}

int gm_rank(void) { return job.rank; }
int gm_ranks(void) { return job.size; }
int64_t gm_ranks_bytes(void) { return moved; }

long gm_rank_first(long blocks, int rank) {
    return (long)((__int128)rank * blocks / job.size);
}

/* -------------------------------------------------------------- exchanges */

void gm_ranks_move(int from, int to, void *data, size_t bytes) {
    if (from == to) return;
    moved += (int64_t)bytes;
    if (job.rank == from || job.rank == to)
        job.move(job.context, from, to, data, bytes);
}

/* data: rank `from`'s, on all ranks. */
static void tell(int from, void *data, size_t bytes) {
    for (int r = 0; r < job.size; r++) gm_ranks_move(from, r, data, bytes);
}

gm_status gm_ranks_end(gm_status own, gm_error *err) {
    gm_status status[job.size];
    int r = 0;
    if (job.size == 1) return own;
    if (failed) return failed;
    status[job.rank] = own;
    for (int i = 0; i < job.size; i++) tell(i, &status[i], sizeof *status);
    while (r < job.size && !status[r]) r++;
    if (r == job.size) return GM_OK;
    failed = status[r];
    gm_error first = *err;
    tell(r, &first, sizeof first);
    snprintf(err->text, sizeof err->text, "rank %d: %.1000s", r, first.text);
    if (r == 0) *err = first;
    return failed;
}

void gm_ranks_check(void) {
    gm_error err = {0};
    gm_status s = gm_ranks_end(GM_OK, &err);
    if (s) gm_fail(s, "%s", err.text);
}

void gm_ranks_tell(void *data, size_t bytes) {
    gm_ranks_check();
    tell(0, data, bytes);
}

void gm_ranks_same(const char *what, const char *text) {
    char first[128] = "";
    assert(strlen(text) < sizeof first);
    strcpy(first, text);
    gm_ranks_tell(first, sizeof first);
    if (strcmp(first, text) != 0)
        gm_bad(what, "expected that of rank 0, %s, found %s; all ranks need "
               "the same command and the same files", first, text);
}

void gm_ranks_gather(double *x, long blocks, long each) {
    gm_ranks_check();
    for (int r = 0; r < job.size; r++) {
        const long first = gm_rank_first(blocks, r);
        const long count = gm_rank_first(blocks, r + 1) - first;
        tell(r, x + first * each, (size_t)(count * each) * sizeof *x);
    }
}

/* -------------------------------------------------------------------- MPI */

#ifdef GM_MPI
#include <mpi.h>

/* Waits asleep: MPI itself would spin, and keep a core from a rank that works.
   In parts, since MPI counts in int. */
static void mpi_move(void *context, int from, int to, void *data,
                     size_t bytes) {
    const size_t MOST = 1 << 30;
    (void)context;
    for (size_t at = 0; at < bytes; at += MOST) {
        const int n = (int)(bytes - at < MOST ? bytes - at : MOST);
        const double start = gm_seconds();
        uint8_t *part = (uint8_t *)data + at;
        MPI_Request request;
        if (job.rank == from)
            MPI_Isend(part, n, MPI_BYTE, to, 0, MPI_COMM_WORLD, &request);
        else
            MPI_Irecv(part, n, MPI_BYTE, from, 0, MPI_COMM_WORLD, &request);
        for (int done = 0; !done;) {
            MPI_Test(&request, &done, MPI_STATUS_IGNORE);
            if (!done && gm_seconds() - start > 1e-3)
                nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        }
    }
}

static void end(void) { MPI_Finalize(); }

void gm_ranks_start(int *argc, char ***argv) {
    gm_transport mpi = {.move = mpi_move};
    int got;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &got);
    atexit(end);
    MPI_Comm_rank(MPI_COMM_WORLD, &mpi.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &mpi.size);
    gm_ranks_use(&mpi);
}
#else
void gm_ranks_start(int *argc, char ***argv) { (void)argc, (void)argv; }
#endif
