/* quantize.c: the command `quantize`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

/* Says what the layout does to the weights, and leaves as they are. */
static void tell_errors(const gm_call *call, const gm_layout *layout) {
    long kept = 0;
    for (long m = 0; m < layout->M; m++)
        kept += !layout->bits[m] &&
                call->candidates.recipe.bits[call->choice[m]] < 16;
    if (kept)
        gm_talk(call, "quantize: %ld of %ld modules stay as stored, which %s "
                "cannot hold: sizes are those of the allocation, written is "
                "that of the files", kept, layout->M, gm_given("--format"));
    for (int b = 1; b <= 8; b++)
        if (layout->error[b] > 0)
            gm_talk(call, "%s: scales of %s move weights of %d bits by at most "
                    "%.2g steps%s", layout->error[b] > 0.25 ? "warning"
                    : "quantize", gm_dtype_name(layout->scale), b,
                    layout->error[b], layout->error[b] > 0.25
                    ? "; --scale-type f16 or f32 less" : "");
}

static void run_quantize(gm_call *call) {
    gm_arena *a = &call->arena;
    const bool packed = call->format == GM_PACKED;
    const bool other = call->format > GM_PACKED;
    const char *type = gm_given("--scale-type"), *name = gm_given("--format");
    gm_layout layout;
    if ((type || call->keep_odd) && !other)
        gm_fail(GM_EUSAGE, "%s: belongs to --format mlx, compressed-tensors "
                "or gptq, found %s", type ? "--scale-type" : "--keep-odd",
                name ? name : "hf");
    gm_model_open(a, call->operand[0], &call->model);
    if (!packed && !gm_same_file(call->out, call->operand[0])) {
        gm_check_names(call->out, gm_export_names(a, &call->model));
        if (!call->force) gm_export_check(a, call->out);
    }
    gm_call_choose(call);
    /* else the type of scales that the allocation was solved for */
    if (other)
        gm_layout_plan(a, "--format", name, &call->candidates, call->choice,
                       type ? (gm_dtype)call->scale_type
                            : gm_layout_scale(call->sizes, name),
                       call->keep_odd, &layout);
    gm_call_chosen(call);
    int64_t bytes = packed
        ? gm_export_packed(a, &call->candidates, call->choice, call->out,
                           &call->report)
        : gm_export_directory(a, &call->candidates, call->choice,
                              other ? &layout : NULL, call->out,
                              &call->report);
    if (other) tell_errors(call, &layout);
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
