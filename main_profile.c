/* main_profile.c: the table of --profile: what gm_profile counted, beside what
   one thread of this machine can do, measured in the same run.

   The roofline (Williams, Waterman, Patterson 2009): F operations and B bytes
   take at least max(F / (threads P), B / (threads W)) seconds; of_peak is that
   over the seconds taken.  P counts fused multiply-adds of floats; half of it
   for operations in double.  Operands in a cache can be faster than W.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

static void kernel_row(gm_call *call, const gm_kernel_time *k, double wall,
                       double flops, double bytes) {
    double compute = k->flops / (k->wide ? flops / 2 : flops);
    double memory = bytes > 0 ? k->bytes / bytes : 0;
    double least = compute > memory ? compute : memory;
    double seconds = k->seconds > 1e-9 ? k->seconds : 1e-9;
    if (!k->calls) return;
    gm_result_row(call, "%s\t%.3f\t%.3f\t%ld\t%.1f\t%.2f\t%.2f", k->name,
                  k->seconds, k->seconds / wall, k->calls,
                  k->flops / seconds / 1e9, k->bytes / seconds / 1e9,
                  least / seconds);
}

void gm_call_profile(gm_call *call, double wall) {
    const gm_kernel_time *k = gm_profile();
    const double threads = gm_threads();
    double other = wall;
    gm_profile_stop();
    if (gm_rank() > 0) return;
    double flops = gm_peak_flops() * threads, bytes = gm_peak_bytes() * threads;
    call->to = stderr;
    gm_result_begin(call, "kernel\tseconds\tshare\tcalls\tGF/s\tGB/s\tof_peak");
    for (int i = 0; i < GM_KERNELS; i++) {
        kernel_row(call, k + i, wall, flops, bytes);
        other -= k[i].seconds;
    }
    gm_result_row(call, "other\t%.3f\t%.3f\t-\t-\t-\t-", other, other / wall);
    gm_result_row(call, "total\t%.3f\t1.000\t-\t-\t-\t-", wall);
    gm_result_row(call, "peak\t-\t-\t%d\t%.1f\t%.2f\t1.00", gm_threads(),
                  flops / 1e9, bytes / 1e9);
    gm_result_end(call);
    call->to = NULL;
}
