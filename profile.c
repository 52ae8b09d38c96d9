/* profile.c: where the time of a command goes (--profile).

   Kernels say when they begin and end and how much they computed and moved.
   Only the thread that called gm_profile_start counts, and only kernels that
   are not inside another one, so that seconds add up.  Off, a kernel costs one
   look at a flag.  Nothing here enters a result.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

static gm_kernel_time spent[GM_KERNELS] = {
    [GM_AT_GEMM] = {.name = "gemm"},
    [GM_AT_ATTENTION] = {.name = "attention"},
    [GM_AT_ATTENTION_BACKWARD] = {.name = "attention_backward"},
    [GM_AT_ROWS] = {.name = "norm_rope_swiglu"},
    [GM_AT_LOSS] = {.name = "loss"},
    [GM_AT_LOAD] = {.name = "load_weights"},
    [GM_AT_MIX] = {.name = "mix"},
    [GM_AT_INNER] = {.name = "inner", .wide = true},
    [GM_AT_RTN] = {.name = "rtn"},
    [GM_AT_GRAM] = {.name = "hessian", .wide = true},
    [GM_AT_CHOLESKY] = {.name = "cholesky", .wide = true},
    [GM_AT_INVERSE] = {.name = "inverse", .wide = true},
    [GM_AT_GPTQ] = {.name = "gptq_columns"},
    [GM_AT_LOGITS] = {.name = "log_softmax"},
    [GM_AT_SOLVE] = {.name = "solve"},
    [GM_AT_TOKENIZE] = {.name = "tokenize"},
    [GM_AT_HASH] = {.name = "sha256"},
    [GM_AT_WRITE] = {.name = "write"}};

static _Thread_local bool counting;     /* on, and not inside a kernel */

static double (*seconds)(void);

void gm_profile_start(double (*clock)(void)) {
    seconds = clock;
    for (int i = 0; i < GM_KERNELS; i++)
        spent[i] = (gm_kernel_time){spent[i].name, spent[i].wide, 0, 0, 0, 0};
    counting = true;
}

void gm_profile_stop(void) { counting = false; }

double gm_profile_enter(void) {
    if (!counting) return 0;
    counting = false;
    return seconds();
}

void gm_profile_leave(double since, gm_kernel kernel, double flops,
                      double bytes) {
    if (since == 0) return;
    gm_kernel_time *k = spent + kernel;
    k->seconds += seconds() - since;
    k->calls++;
    k->flops += flops;
    k->bytes += bytes;
    counting = true;
}

const gm_kernel_time *gm_profile(void) { return spent; }
