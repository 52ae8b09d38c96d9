/* quantize.c: the command `quantize`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

static void run_quantize(gm_call *call) {
    gm_arena *a = &call->arena;
    gm_model_open(a, call->operand[0], &call->model);
    if (!call->packed && !gm_same_file(call->out, call->operand[0]))
        gm_check_names(call->out, gm_export_names(a, &call->model));
    gm_call_chosen(call);
    int64_t bytes = (call->packed ? gm_export_packed : gm_export_dequantized)(
        a, &call->candidates, call->choice, call->out, &call->report);
    gm_sizes z = gm_sizes_of(&call->table, call->choice);
    double N = (double)call->table.N;
    gm_result_begin("code_bits\teffective_bits\tfile_bytes\twritten");
    gm_result_row("%.6f\t%.6f\t%lld\t%lld", (double)z.code_bits / N,
                  (double)z.effective_bits / N, (long long)z.file_bytes,
                  (long long)bytes);
    gm_result_end(call);
}

const gm_command gm_command_quantize = {
    "quantize", "MODEL --alloc FILE --out PATH",
    "Write the quantized model for an allocation",
    "Replaces each linear module by its candidate with the allocation's bits.\n"
    "MODEL itself is never written to.  Prints the three sizes of the\n"
    "allocation and the bytes of weight files written.  hf rounds the\n"
    "dequantized weights to the checkpoint's type: with BF16 that moves the\n"
    "perplexity by about 1e-4 of itself against gamma eval --alloc.",
    1, QUANTIZE, run_quantize};
