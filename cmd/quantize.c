/* main_quantize.c: the command `quantize`, and what it shares with `eval`: an
   allocation file and the candidates it was made for.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ------------------------------------------------------------ shared pieces */

static int ascending(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

/* The distinct bits of an allocation, "2,3,4". */
static void bits_of(gm_call *call, const gm_allocation *allocation,
                         char bits[128]) {
    int *all = gm_alloc(&call->arena, (size_t)allocation->M, sizeof *all);
    memcpy(all, allocation->bits, (size_t)allocation->M * sizeof *all);
    qsort(all, (size_t)allocation->M, sizeof *all, ascending);
    for (long m = 0; m < allocation->M && strlen(bits) < 100; m++)
        if (m == 0 || all[m] != all[m - 1])
            snprintf(bits + strlen(bits), 12, "%s%d", m ? "," : "", all[m]);
}

/* The recipe that an allocation was made for: its `candidates` key, as
   scores.tsv has it; else RTN of its distinct bits, group 128.  --bits,
   --group and the quantizer's options override. */
static void recipe_of(gm_call *call, const gm_allocation *allocation,
                           gm_recipe *recipe) {
    const char *text = gm_keys_get(&allocation->keys, "candidates");
    const char *asked = gm_arg(call, "--bits");
    char bits[128] = "";
    if (!text) bits_of(call, allocation, bits);
    if (text) gm_recipe_read(text, recipe);
    else gm_recipe_parse(asked ? asked : bits, 128, recipe);
    if (text && asked) {
        gm_recipe other;
        gm_recipe_parse(asked, recipe->group, &other);
        recipe->count = other.count;
        memcpy(recipe->bits, other.bits, sizeof other.bits);
    }
    if (gm_arg(call, "--group"))
        gm_arg_long(call, "--group", 1, GM_MAX_GROUP, &recipe->group);
    gm_call_quantizer(call, recipe);
}

/* --external FILE with the bits that the allocation was made for. */
static void external_of(gm_call *call, const gm_model *model,
                             const gm_allocation *allocation,
                             gm_recipe *recipe) {
    char bits[64] = "";
    if (gm_keys_get(&allocation->keys, "candidates"))
        gm_recipe_bits(recipe, bits);
    gm_call_external(call, model, *bits ? bits : NULL, recipe);
}

/* The candidates of an allocation.  RTN's are made again when they are not
   there; GPTQ's are looked for by the hash in the allocation, or made from
   --calib. */
static void open_candidates(gm_call *call, gm_model *model,
                                 const gm_allocation *allocation,
                                 const gm_recipe *recipe, long S, long T,
                                 const char *cache, gm_candidates *out) {
    gm_arena *a = &call->arena;
    const char *calib = gm_arg(call, "--calib");
    const char *hash = gm_keys_get(&allocation->keys, "candidates_hash");
    gm_sequences text;
    if (recipe->quantizer != GM_GPTQ) {
        gm_candidates_open(a, model, recipe, NULL, cache, &call->report, out);
        return;
    }
    if (!calib && hash) {
        gm_candidates_find(a, model, recipe, hash, cache, out);
        return;
    }
    if (!calib)
        gm_fail(GM_EUSAGE, "%s has no candidates_hash and GPTQ "
                       "candidates are made from a calibration text: --calib "
                       "FILE is missing", allocation->path);
    gm_call_calibration(call, model, calib, NULL, S, T, &text);
    gm_candidates_open(a, model, recipe, &text, cache,
                                      &call->report, out);
}

void gm_call_table(gm_call *call, const gm_model *model,
                   const gm_recipe *recipe, gm_scores *out) {
    gm_module_table(&call->arena, model, recipe, out);
    out->overhead = gm_packed_overhead(&call->arena, model, recipe);
}

void gm_call_chosen(gm_call *call, gm_model *model, const char *path,
                         gm_chosen *out) {
    gm_arena *a = &call->arena;
    gm_allocation_read(a, path, &out->allocation);
    recipe_of(call, &out->allocation, &out->recipe);
    external_of(call, model, &out->allocation, &out->recipe);
    const bool calib = gm_arg(call, "--calib"),
               writes = call->command == &gm_command_quantize;
    gm_plan plan = {.recipe = out->recipe, .fit = {.S = 16, .T = 512},
                    .models = writes, .budgets = writes};
    plan.candidates = !out->recipe.external &&
                      (out->recipe.quantizer != GM_GPTQ || calib);
    if (calib)
        gm_arg_long(call, "--sequences", 1, 1 << 20, &plan.fit.S);
    if (calib)
        gm_arg_long(call, "--length", 2, 1 << 20, &plan.fit.T);
    gm_call_plan(call, model, &plan);
    out->recipe.at_once = plan.recipe.at_once;
    const char *cache = gm_arg(call, "--cache");
    if (!cache) cache = gm_parent(a, path);
    open_candidates(call, model, &out->allocation, &out->recipe,
                                plan.fit.S, plan.fit.T, cache,
                                &out->candidates);
    const char *hash = gm_keys_get(&out->allocation.keys, "model_hash");
    if (hash && strcmp(hash, model->hash) != 0)
        gm_fail(GM_EINPUT, "%s: was made for another model: "
                       "expected model_hash %s (%s), found %s", path,
                       model->hash, model->dir, hash);
    const char *made = gm_keys_get(&out->allocation.keys, "candidates_hash");
    if (made && out->recipe.external && strcmp(made, out->candidates.hash) != 0)
        gm_fail(GM_EINPUT, "%s: was made for other candidates: "
                       "expected candidates_hash %s (--external %s), found %s",
                       path, out->candidates.hash, gm_arg(call, "--external"),
                       made);
    gm_call_table(call, model, &out->recipe, &out->table);
    out->choice = gm_alloc(a, (size_t)out->table.M, sizeof *out->choice);
    gm_allocation_match(&out->allocation, &out->table, out->choice);
}

/* ---------------------------------------------------------------- quantize */

static const gm_option quantize_options[] = {
    {"--alloc", "FILE", NULL, "alloc.tsv of gamma solve, or any table with "
     "the columns module and bits; required"},
    {"--out", "PATH", NULL, "directory to write (hf) or file (packed); "
     "required"},
    {"--format", "NAME", "hf", "hf: a Hugging Face directory with dequantized "
     "weights, loads in transformers; packed: one safetensors file of codes, "
     "scales and zeros, whose size is the allocation's file bytes"},
    GM_CHOSEN_OPTIONS,
    {0}};

static void print_sizes(gm_call *call, const gm_scores *table,
                        const int *choice, int64_t written) {
    gm_sizes z = gm_sizes_of(table, choice);
    double N = (double)table->N;
    gm_result_begin(call, "code_bits\teffective_bits\tfile_bytes\twritten");
    gm_result_row(call, "%.6f\t%.6f\t%lld\t%lld", (double)z.code_bits / N,
                  (double)z.effective_bits / N, (long long)z.file_bytes,
                  (long long)written);
    gm_result_end(call);
}

static void run_quantize(gm_call *call) {
    static const char *const formats[] = {"hf", "packed"};
    const char *from = gm_arg(call, "--alloc"), *to = gm_arg(call, "--out");
    if (!to || !from)
        gm_fail(GM_EUSAGE, "quantize: %s is missing",
                       to ? "--alloc FILE" : "--out PATH");
    gm_model model;
    gm_chosen c;
    int64_t bytes = 0;
    struct stat stat_of;
    int packed = gm_parse_name("--format", gm_arg(call, "--format"), formats,
                               2);
    gm_model_open(&call->arena, call->operand[0], &model);
    gm_call_chosen(call, &model, from, &c);
    if (packed) {
        gm_export_packed(&call->arena, &model, &c.candidates, c.choice, to,
                             &call->report);
        if (stat(to, &stat_of) == 0) bytes = stat_of.st_size;
    } else {
        gm_export_dequantized(&call->arena, &model, &c.candidates, c.choice,
                                  to, &call->report, &bytes);
    }
    print_sizes(call, &c.table, c.choice, bytes);
}

const gm_command gm_command_quantize = {
    "quantize", "MODEL --alloc FILE --out PATH",
    "Write the quantized model for an allocation",
    "Replaces each linear module by its candidate with the allocation's bits.\n"
    "MODEL itself is never written to.  Prints the three sizes of the\n"
    "allocation and the bytes of weight files written.  hf rounds the\n"
    "dequantized weights to the checkpoint's type: with BF16 that moves the\n"
    "perplexity by about 1e-4 of itself against gamma eval --alloc.",
    1, 1, quantize_options, run_quantize};
