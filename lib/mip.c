/* mip.c: linear programs with 0-1 columns, minimised by GLPK.  The only file
   that knows GLPK; its errors and its output become ours.
   Touches memory, the clock, the file of gm_mip_write.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#ifdef GM_NO_GLPK

bool gm_have_glpk(void) { return false; }
const char *gm_glpk_version(void) { return "none"; }

#else

#include <glpk.h>
#include <limits.h>
#include <math.h>
#include <string.h>

bool gm_have_glpk(void) { return true; }
const char *gm_glpk_version(void) { return glp_version(); }

struct gm_mip {
    glp_prob *P;
    const gm_report *log;
    char last[160];             /* what GLPK said last */
    int nodes;
    double bound;
};

static int on_output(void *info, const char *text) {
    gm_mip *mip = info;
    size_t used = strlen(mip->last);
    if (used > sizeof mip->last / 2) used = 0;
    snprintf(mip->last + used, sizeof mip->last - used, "%s", text);
    if (mip->log) gm_say(mip->log, text, 0, 0);
    return 1;                           /* GLPK itself prints nothing */
}

/* GLPK ends the process on misuse or exhausted memory unless this hook jumps
   away; after that only glp_free_env is defined. */
static void on_error(void *info) {
    glp_free_env();
    gm_fail(GM_EMEM, "GLPK gave up: %s", ((gm_mip *)info)->last);
}

gm_mip *gm_mip_begin(gm_arena *arena, const gm_report *log) {
    gm_mip *mip = gm_alloc(arena, 1, sizeof *mip);
    if (glp_init_env() > 1) gm_fail(GM_EMEM, "out of memory");
    mip->log = log;
    glp_term_hook(on_output, mip);
    glp_error_hook(on_error, mip);
    mip->P = glp_create_prob();
    return mip;
}

void gm_mip_end(gm_mip *mip) {
    glp_delete_prob(mip->P);
    glp_error_hook(NULL, NULL);
    glp_term_hook(NULL, NULL);
}

int gm_mip_column(gm_mip *mip, double cost, bool binary, const char *name) {
    const int j = glp_add_cols(mip->P, 1);
    glp_set_col_kind(mip->P, j, binary ? GLP_BV : GLP_CV);
    if (!binary) glp_set_col_bnds(mip->P, j, GLP_LO, 0, 0);
    glp_set_obj_coef(mip->P, j, cost);
    if (name) glp_set_col_name(mip->P, j, name);
    return j;
}

void gm_mip_row(gm_mip *mip, int n, const int *column, const double *value,
                bool equal, double limit) {
    const int row = glp_add_rows(mip->P, 1);
    glp_set_row_bnds(mip->P, row, equal ? GLP_FX : GLP_UP, limit, limit);
    glp_set_mat_row(mip->P, row, n, column, value);
}

void gm_mip_duals(gm_mip *mip, double *dual) {
    glp_smcp s;
    glp_init_smcp(&s);
    s.msg_lev = GLP_MSG_OFF;
    glp_scale_prob(mip->P, GLP_SF_AUTO);
    glp_adv_basis(mip->P, 0);
    glp_simplex(mip->P, &s);
    for (int r = 1; r <= glp_get_num_rows(mip->P); r++)
        dual[r] = glp_get_row_dual(mip->P, r);
}

static void on_node(glp_tree *tree, void *info) {
    gm_mip *mip = info;
    const int best = glp_ios_best_node(tree);
    glp_ios_tree_size(tree, NULL, NULL, &mip->nodes);
    if (best) mip->bound = glp_ios_node_bound(tree, best);
}

gm_mip_answer gm_mip_solve(gm_mip *mip, double seconds) {
    glp_iocp s;
    glp_init_iocp(&s);
    s.msg_lev = mip->log ? GLP_MSG_ALL : GLP_MSG_OFF;
    s.presolve = s.mir_cuts = GLP_ON;
    s.mip_gap = 0, s.tol_int = 1e-9, s.tol_obj = 1e-12;
    s.cb_func = on_node, s.cb_info = mip;
    s.tm_lim = (int)fmin(1000 * seconds + 1, INT_MAX);
    mip->nodes = 0, mip->bound = -INFINITY;
    const int code = seconds > 0 ? glp_intopt(mip->P, &s) : GLP_ETMLIM;
    const int status = glp_mip_status(mip->P);
    const bool none = code == GLP_ENOPFS || (code == 0 && status == GLP_NOFEAS);
    return (gm_mip_answer){
        .proven = none || (code == 0 && status == GLP_OPT),
        .found = !none && (status == GLP_OPT || status == GLP_FEAS),
        .bound = mip->bound, .nodes = mip->nodes};
}

bool gm_mip_takes(gm_mip *mip, int column) {
    return glp_mip_col_val(mip->P, column) > 0.5;
}

void gm_mip_write(gm_arena *arena, gm_mip *mip, const char *path) {
    gm_out out;
    gm_out_open(arena, path, &out);
    /* GLPK wants a name; what has none, or is none to open again, gets a copy
       of a file without one */
    FILE *copy = out.partial ? NULL : tmpfile();
    const char *to = copy ? gm_format(arena, "/dev/fd/%d", fileno(copy))
                          : out.partial;
    const bool written = to && glp_write_lp(mip->P, NULL, to) == 0;
    char piece[4096];
    if (copy) rewind(copy);     /* macOS: both names have one place in it */
    for (size_t n = 1; written && copy && n; gm_out_write(&out, piece, n))
        n = fread(piece, 1, sizeof piece, copy);
    if (copy) fclose(copy);
    if (!written) gm_fail(GM_EIO, "%s: cannot write", out.path);
    gm_out_commit(&out);
}

#endif
