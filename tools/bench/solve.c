/* solve.c: how long Stage II takes.  A seeded instance of 448 modules (64
   blocks) and 7 candidates, 1,000 budgets between the smallest and the largest
   size, solved by the dynamic program; every 125th again by GLPK on the model
   that `--lp` writes, and by GLPK left alone with the plain program (raw sizes,
   a row for each module): the ratios are what the preparation is worth.
     build/bench/solve [BUDGETS] [odd bytes] [FILE.tsv]
   FILE.tsv: the instance as a score file for tools/peer_solve.py.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef GM_NO_GLPK
#include <glpk.h>
#endif

enum { M = 448, K = 7 };

static uint64_t counter;

static int64_t draw(int64_t n) {
    return (int64_t)(gm_random(2000, 7, counter++) % (uint64_t)n);
}

/* Llama-like: four sizes of modules, groups of 128, scores about 4^-bits. */
static void make_instance(gm_arena *arena, gm_mckp *p, int64_t odd) {
    static const int64_t shape[7] = {4096, 1024, 1024, 4096, 14336, 14336,
                                     14336};
    gm_mckp_new(arena, M, K, p);
    for (long m = 0; m < M; m++) {
        double scale = ldexp(1 + (double)draw(1000) / 100, 26);
        for (int k = 0; k < K; k++) {
            int64_t n = shape[m % 7] * 4096;
            p->size[m * K + k] = n / 8 * (k + 2) + n / 64 + draw(odd);
            p->score[m * K + k] = llround(ldexp(scale, -2 * k) *
                                          (0.7 + (double)draw(600) / 1000));
        }
    }
}

static void write_scores(const gm_mckp *p, const char *path) {
    FILE *f = fopen(path, "w");
    if (!f) return;
    fprintf(f, "# format gamma-scores 1\nmodule\tout\tin\tweights");
    for (int k = 0; k < K; k++)
        fprintf(f, "\t%d.bytes\t%d.score", k + 2, k + 2);
    for (long m = 0; m < M; m++) {
        fprintf(f, "\nm%ld\t4096\t4096\t16777216", m);
        for (int k = 0; k < K; k++)
            fprintf(f, "\t%" PRId64 "\t%" PRId64, p->size[m * K + k],
                    p->score[m * K + k]);
    }
    fprintf(f, "\n");
    fclose(f);
}

#ifndef GM_NO_GLPK

/* The program as a textbook writes it; at most `limit` seconds. */
static double plain_glpk(const gm_mckp *p, double limit, int64_t *value) {
    static int row[1 + 2 * M * K], column[1 + 2 * M * K];
    static double a[1 + 2 * M * K];
    double start = gm_seconds();
    glp_term_out(GLP_OFF);
    glp_prob *P = glp_create_prob();
    glp_add_rows(P, M + 1);
    glp_add_cols(P, M * K);
    glp_set_row_bnds(P, M + 1, GLP_UP, 0, (double)p->budget);
    int n = 0;
    for (int i = 0; i < M * K; i++) {
        int m = i / K;
        glp_set_row_bnds(P, m + 1, GLP_FX, 1, 1);
        glp_set_col_kind(P, i + 1, GLP_BV);
        glp_set_obj_coef(P, i + 1, (double)p->score[i]);
        n++, row[n] = m + 1, column[n] = i + 1, a[n] = 1;
        n++, row[n] = M + 1, column[n] = i + 1, a[n] = (double)p->size[i];
    }
    glp_load_matrix(P, n, row, column, a);
    glp_iocp c;
    glp_init_iocp(&c);
    c.presolve = GLP_ON;
    c.mip_gap = 0;
    c.tm_lim = (int)(1000 * limit);
    bool proven = glp_intopt(P, &c) == 0 && glp_mip_status(P) == GLP_OPT;
    *value = proven ? llround(glp_mip_obj_val(P)) : -1;
    glp_delete_prob(P);
    return gm_seconds() - start;
}

static void peers(gm_mckp *p, gm_arena *arena, int64_t value, double ours,
                  double sum[3], int wrong[2]) {
    static int x[M];
    gm_certificate t;
    int64_t plain;
    gm_solve_options options = {.solver = GM_GLPK, .any = true, .seconds = 10};
    gm_status s = gm_mckp_solve(arena, p, &options, x, &t);
    wrong[0] += s != GM_OK || t.objective != value;
    sum[0] += ours;
    sum[1] += t.glpk_seconds;
    sum[2] += plain_glpk(p, 10, &plain);
    wrong[1] += plain != value;
}

#endif

static int run(int argc, char **argv) {
    long budgets = argc > 1 ? atol(argv[1]) : 1000;
    gm_arena arena = {0};
    gm_mckp p;
    int64_t low = 0, high = 0;
    make_instance(&arena, &p, argc > 2 ? 1 + atol(argv[2]) : 1);
    if (argc > 3) write_scores(&p, argv[3]);
    for (long m = 0; m < M; m++)
        low += p.size[m * K], high += p.size[m * K + K - 1];
    double total = 0, worst = 0, sum[3] = {0};
    long proven = 0;
    int wrong[2] = {0};
    for (long i = 0; i < budgets; i++) {
        static int x[M];
        gm_certificate t;
        gm_solve_options options = {.solver = GM_DP, .seconds = 60};
        gm_mark mark = gm_arena_mark(&arena);
        p.budget = low + (high - low) / budgets * i;
        gm_mckp_solve(&arena, &p, &options, x, &t);
        total += t.dp_seconds;
        if (t.dp_seconds > worst) worst = t.dp_seconds;
        proven += t.optimal && t.unique_rule;
#ifndef GM_NO_GLPK
        if (i % 125 == 62) peers(&p, &arena, t.objective, t.dp_seconds, sum,
                                wrong);
#endif
        gm_arena_rewind(&arena, mark);
    }
    printf("modules\tcandidates\tbudgets\tproven\tseconds\tslowest\n"
           "%d\t%d\t%ld\t%ld\t%.3f\t%.3f\n", M, K, budgets, proven, total,
           worst);
    if (sum[0] > 0)
        printf("peer\tseconds / ours\twrong or no proof in 10 s\n"
               "GLPK on the prepared program\t%.1f\t%d\n"
               "GLPK on the plain program\t%.1f\t%d\n", sum[1] / sum[0],
               wrong[0], sum[2] / sum[0], wrong[1]);
    gm_arena_free(&arena);
    return proven != budgets;
}

static struct { int argc, result; char **argv; } whole;

static void run_all(void *context) {
    (void)context;
    whole.result = run(whole.argc, whole.argv);
}

int main(int argc, char **argv) {
    gm_error err;
    whole.argc = argc, whole.argv = argv;
    gm_status s = gm_try(run_all, NULL, &err);
    if (s) fprintf(stderr, "solve: %s\n", err.text);
    return s ? (int)s : whole.result;
}
