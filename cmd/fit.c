/* fit.c: the commands `info` and `fit`.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

/* Of a model in another runtime's layout: how many modules have which width,
   and the sizes of all of them. */
static void tell_layout(const gm_model *model, double weights) {
    const long M = model->config.layers * GM_LINEARS;
    double codes = 0, bytes = 0;
    long count[65] = {0};
    for (long m = 0; m < M; m++) {
        const gm_tensor *t = gm_linear_tensor(model, m / GM_LINEARS,
                                              (int)(m % GM_LINEARS));
        const int bits = t->made ? t->made->bits
                                 : 8 * (int)gm_dtype_bytes(t->dtype);
        count[bits]++;
        codes += (double)(t->shape[0] * t->shape[1]) * bits;
        bytes += t->made ? (double)t->made->stored : (double)t->bytes;
    }
    gm_result_row("layout\t%s", model->layout);
    for (int b = 1; b <= 64; b++)
        if (count[b]) gm_result_row("modules_of_%d_bits\t%ld", b, count[b]);
    gm_result_row("linear_bytes\t%.0f", bytes);
    gm_result_row("code_bits\t%.6f", codes / weights);
    gm_result_row("effective_bits\t%.6f", 8 * bytes / weights);
}

static void run_info(gm_call *call) {
    static const char *const arch[] = {"llama", "qwen2", "qwen3",
                                       "mistral", "phi3"};
    static const char *const rope[] = {"default", "linear", "llama3", "yarn",
                                       "dynamic", "longrope"};
    const gm_model *model = &call->model;
    const gm_config *c = &model->config;
    int64_t linear = 0, all = 0, bytes = 0;
    gm_layout_open(&call->arena, call->operand[0], &call->model);
    if (call->hash) gm_model_hash(&call->model);
    for (long i = 0; i < model->tensors.count; i++) {
        const gm_tensor *t = model->tensors.tensor + i;
        if (model->used[i])
            all += (int64_t)(t->bytes / gm_dtype_bytes(t->dtype));
        bytes += t->made ? t->made->stored : (int64_t)t->bytes;
    }
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        linear += (int64_t)out * in * c->layers;
    }
    const struct { const char *key; long value; } numbers[] = {
        {"blocks", c->layers}, {"modules", c->layers * GM_LINEARS},
        {"hidden_size", c->d}, {"intermediate_size", c->ff},
        {"heads", c->heads}, {"kv_heads", c->kv_heads},
        {"head_dim", c->head_dim}, {"vocab_size", c->vocab}};
    gm_result_begin("key\tvalue");
    gm_result_row("architecture\t%s", arch[c->arch]);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        gm_result_row("%s\t%ld", numbers[i].key, numbers[i].value);
    gm_result_row("rope\t%s", rope[c->rope.kind]);
    gm_result_row("tied_head\t%s", c->tied ? "yes" : "no");
    gm_result_row("weights\t%lld", (long long)all);
    gm_result_row("linear_weights\t%lld", (long long)linear);
    gm_result_row("tensor_bytes\t%lld", (long long)bytes);
    gm_result_row("dtype\t%s",
                  gm_dtype_name(gm_linear_tensor(model, 0, 0)->dtype));
    gm_result_row("files\t%ld", model->tensors.files);
    if (model->layout) tell_layout(model, (double)linear);
    if (call->hash) gm_result_row("model_hash\t%s", model->hash);
    gm_result_end(call);
}

const gm_command gm_command_info = {
    "info", "MODEL", "What a checkpoint is: architecture and sizes",
    "MODEL is a Hugging Face directory: config.json, model.safetensors or\n"
    "sharded model.safetensors.index.json, tokenizer.json; or the hub's cache\n"
    "of one, models--ORG--NAME.  Presence, type and shape of every tensor\n"
    "that is used are checked; data is read for --hash alone.",
    1, INFO, run_info};

static void run_fit(gm_call *call) {
    gm_scores scores;
    gm_call_prepare(call);
    gm_call_begin(call);
    const gm_fit fit = gm_call_learn(call, &scores);
    if (gm_rank() > 0) return;
    gm_result_begin("scores\tmodules\tE\tc\tlambda");
    gm_result_row("%s/scores.tsv\t%ld\t%.6f\t%.6f\t%.6g", call->out, fit.M,
                  fit.E, fit.c, fit.lambda);
    gm_result_end(call);
}

const gm_command gm_command_fit = {
    "fit", "MODEL --calib FILE --out DIR",
    "Stage I: learn a score for each module and candidate",
    "Minimises  sum_l E_l/E_0 - (alpha/M) sum_m H(p_m) + lambda c + rho/2 c^2\n"
    "over theta, p_m = softmax(theta_m/tau); see gamma.c.  Writes\n"
    "DIR/scores.tsv (reusable for every budget: gamma solve),\n"
    "DIR/learning.tsv (E, c, lambda, entropy of each step),\n"
    "DIR/candidates-HASH.safetensors and DIR/fit.state.",
    1, FIT, run_fit};
