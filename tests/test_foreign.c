/* test_foreign.c: other tools' allocations (audit/foreign.c) give each module
   what the tools' own code gives it (tests/golden/foreign, by
   tools/golden_foreign.py); expressions match where Python's, PCRE's and
   std::regex's do; what is refused, with its exact message.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit/audit.h"
#include "test.h"

#include <stdlib.h>

static const char golden[] = "tests/golden/foreign";
static const char path[] = "build/test/foreign.json";

static gm_scores scores;
static gm_foreign file;
static gm_arena arena;

static int64_t cell(const gm_table *t, long row, const char *column) {
    return atoll(t->cell[row * t->columns + gm_table_column(t, column)]);
}

/* Every module's bits, codes, bytes, and whether the file names it. */
static void same_as(const char *name, const char *format) {
    gm_table t;
    const char *from = gm_format(&arena, "%s/%s", golden, name);
    gm_table_read(&arena, gm_format(&arena, "%s.tsv", from), &t);
    gm_status s = STATUS(gm_foreign_read(&arena, from, &scores, NULL, &file));
    CHECK(s == GM_OK && t.rows == scores.M, "%s: %s", name, err.text);
    if (s) return;
    CHECK_TEXT(file.format, format);
    for (long m = 0; m < scores.M; m++) {
        const gm_gets *g = &file.module[m];
        CHECK(g->bits == cell(&t, m, "bits") && g->codes == cell(&t, m, "codes")
              && g->bytes == cell(&t, m, "bytes") &&
              (g->from != NULL) == cell(&t, m, "named"),
              "%s: %s: %s: %d bits, %lld, %lld bytes, expected %lld, %lld, "
              "%lld",
              name, scores.name[m], g->type, g->bits, (long long)g->codes,
              (long long)g->bytes, (long long)cell(&t, m, "bits"),
              (long long)cell(&t, m, "codes"), (long long)cell(&t, m, "bytes"));
    }
}

static void unmatched(const char *names) {
    const char *all = "";
    for (size_t i = 0; i < file.unmatched_count; i++)
        all = gm_format(&arena, "%s%s%s", all, i ? " " : "",
                        file.unmatched[i]);
    CHECK_TEXT(all, names);
}

static void target(const char *text, gm_convention in) {
    CHECK_TEXT(file.target ? file.target : "none", text);
    CHECK(file.in == in, "convention %d, expected %d", file.in, in);
}

static void test_formats(void) {
    same_as("gptq-first.json", "GPTQModel");
    unmatched("mlp +:lm_head");
    target("none", GM_BITS);
    same_as("gptq-lookahead.json", "GPTQModel");
    unmatched("");
    same_as("gptq-plain.json", "GPTQModel");
    same_as("autoround.json", "AutoRound");
    unmatched("lm_head");
    same_as("autoround-outside.json", "AutoRound");
    same_as("autoround-layers.json", "AutoRound layer_config");
    unmatched("");
    same_as("modelopt-mixed.json", "ModelOpt");
    same_as("modelopt-one.json", "ModelOpt");
    unmatched("lm_head model.layers.1");
    same_as("modelopt-summary.txt", "ModelOpt summary");
    unmatched("lm_head");
    same_as("exl2-job.json", "ExLlamaV2 job");
    target("4", GM_EBITS);
    same_as("exl3.json", "ExLlamaV3 quantization_config");
    unmatched("model.norm");
    target("3", GM_BITS);
    same_as("rco.json", "RCO assignment");
    target("2.5", GM_BITS);
    same_as("rco-map.json", "RCO assignment");
    target("9.5", GM_EBITS);
    same_as("mlx.json", "MLX quantization");
    unmatched("model.embed_tokens");
    same_as("llama.txt", "llama.cpp tensor types");
    unmatched("token_embd=q8_0");
}

static void test_patterns(void) {
    gm_table t;
    gm_table_read(&arena, gm_format(&arena, "%s/patterns.tsv", golden), &t);
    for (long i = 0; i < t.rows; i++) {
        const char *const *c = (const char *const *)t.cell + i * t.columns;
        char *pattern = gm_format(&arena, "%s", c[0] + 1);
        pattern[strlen(pattern) - 1] = 0;
        for (int start = 0; start < 2; start++) {
            long steps = 1 << 19;
            bool found = false;
            gm_status s = STATUS(found = gm_pattern_matches(
                "p", pattern, c[1], !start, &steps));
            CHECK(s == GM_OK && found == (atoi(c[2 + start]) != 0),
                  "%s in %s, start %d: %d %s", pattern, c[1], start, found,
                  err.text);
        }
    }
}

static void refused_pattern(const char *pattern, const char *what) {
    long steps = 1 << 19;
    gm_status s = STATUS(gm_pattern_matches("p", pattern, "aaaaaaaaaaaaaaaaaaa",
                                            true, &steps));
    CHECK(s == GM_EINPUT, "%s: status %d", pattern, s);
    CHECK_TEXT(err.text, gm_format(&arena, "p: pattern \"%s\": expected what "
                                   "all dialects have, found %s", pattern,
                                   what));
}

/* Python's . and \w take a letter of two bytes, std::regex' one byte. */
static void test_refused_names(void) {
    static char longest[513];
    memset(longest, 'a', 512);
    const char *const names[] = {"caf\xc3\xa9", longest};
    for (int i = 0; i < 2; i++) {
        long steps = 1 << 19;
        CHECK(STATUS(gm_pattern_matches("p", "a", names[i], true, &steps)) ==
              GM_EINPUT, "%s", names[i]);
        CHECK_TEXT(err.text, gm_format(&arena, "p: expected names of ASCII, "
                   "below 512 bytes, found \"%.60s...\"", names[i]));
    }
}

/* What dialects read differently, or none reads. */
static void test_refused_patterns(void) {
    refused_pattern("(a)\\1", "an escape at \"1\"");
    refused_pattern("a\\", "an escape at \"\"");
    refused_pattern("[\\q]", "an escape at \"q]\"");
    refused_pattern("(?<=a)b", "a special group at \"?<=a)b\"");
    refused_pattern("(?i)b", "a special group at \"?i)b\"");
    refused_pattern("(ab", "a group without end at \"\"");
    refused_pattern("ab)", "a group's end without a beginning at \")\"");
    refused_pattern("*a", "nothing to repeat at \"*a\"");
    refused_pattern("a|+", "nothing to repeat at \"+\"");
    refused_pattern("^*a", "nothing to repeat at \"*a\"");
    refused_pattern("a\\b?", "nothing to repeat at \"?\"");
    refused_pattern("(?=a){2}", "nothing to repeat at \"{2}\"");
    refused_pattern("a**", "a repeat of a repeat at \"*\"");
    refused_pattern("a++", "a repeat of a repeat at \"+\"");
    refused_pattern("a{,3}", "a number of repeats at \"{,3}\"");
    refused_pattern("a{3,2}", "a number of repeats at \"}\"");
    refused_pattern("a{1x}", "a number of repeats at \"x}\"");
    refused_pattern("[]a]", "an empty set at \"]a]\"");
    refused_pattern("[a", "a set without end, or of named characters at \"\"");
    refused_pattern("[[:alpha:]]", "a set without end, or of named characters "
                    "at \"[:alpha:]]\"");
    refused_pattern("[z-a]", "a range from high to low at \"]\"");
    refused_pattern("[\\d-z]", "a range from high to low at \"]\"");
    refused_pattern("\xc3\xa9", "a character beyond ASCII at \"\xc3\xa9\"");
    refused_pattern("((((((((((((((((((((((((((((((((((a))))))))))))))))))))))"
                    "))))))))))))", "more than 32 groups in each other at "
                    "\"((a))))))))))))))))))))))))))))))))))\"");
    refused_pattern("((((((a?){99}){99}){99}){99}){99})", "too many steps at "
                    "\"(a?){99}){99}){99}){99}){99})\"");
}

static void refused(const char *text, const char *otherwise,
                    const char *message) {
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    gm_status s = STATUS(gm_foreign_read(&arena, path, &scores, otherwise,
                                         &file));
    CHECK(s == GM_EINPUT, "%s: status %d", text, s);
    CHECK_TEXT(err.text, gm_format(&arena, "%s: %s", path, message));
}

static void test_refused_files(void) {
    refused("# convention ebits\n# budget_asked x\nmodule\tbits\na\t3\n",
            NULL, "budget: expected bits a weight, such as 2.5, found \"x\"");
    refused("# convention bytes\n# budget_asked 0\nmodule\tbits\na\t3\n",
            NULL, "budget: expected bytes, such as 50M, found \"0\"");
    refused("{\"assignment\": {}, \"target_avg_bits\": 1e-9}", NULL, "budget: "
            "expected bits a weight, such as 2.5, found \"1e-09\"");
    refused("{\"x\": 1}", NULL, "expected an allocation (docs/audit.md), found "
            "JSON without strategy, tensor_storage, assignment, quantization, "
            "extra_config, dynamic, bits or layers with bits");
    refused("{}", NULL, "expected an allocation (docs/audit.md), found JSON "
            "without strategy, tensor_storage, assignment, quantization, "
            "extra_config, dynamic, bits or layers with bits");
    refused("{\"bits\": 4.5}", NULL,
            "bits: bits: expected a whole number from 1 to 32, found 4.5");
    refused("{\"dynamic\": {}}", NULL,
            "bits: bits: expected a whole number, found nothing");
    refused("{\"bits\": 4, \"dynamic\": {\"a\": 3}}", NULL,
            "a: value: expected an object, found 3");
    refused("{\"bits\": 4, \"group_size\": 0.5}", NULL, "bits: group_size: "
            "expected a whole number from -1 to 65536, found 0.5");
    refused("{\"bits\": 4, \"dynamic\": {\"(a\": {}}}", NULL, "pattern \"(a\": "
            "expected what all dialects have, found a group without end at "
            "\"\"");
    static const char *const lists[][2] = {
        {"{\"strategy\": [{\"a\": {}}]}", "strategy"},
        {"{\"strategy\": {\"a\": [{}]}}", "a"},
        {"{\"tensor_storage\": [{}]}", "tensor_storage"},
        {"{\"tensor_storage\": {\"a\": {\"stored_tensors\": [1]}}}", "a"},
        {"{\"assignment\": [4]}", "assignment"},
        {"{\"quantization\": {\"quant_algo\": \"MIXED_PRECISION\", "
         "\"quantized_layers\": [{}]}}", "quantized_layers"},
        {"{\"bits\": 4, \"dynamic\": [{}]}", "dynamic"},
        {"{\"bits\": 4, \"extra_config\": [{}]}", "extra_config"}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        refused(lists[i][0], NULL, gm_format(&arena, "%s: value: expected an "
                "object, found a list", lists[i][1]));
    refused("{\"quantization\": {\"bits\": 4, \"group_size\": -1}}", NULL,
            "quantization: group_size: expected a whole number from 1 to "
            "65536, found -1");
    refused("{\"assignment\": {\"a\": 33}}", NULL,
            "a: bits: expected a whole number from 1 to 32, found 33");
    refused("{\"assignment\": {}, \"target_avg_bits\": -1}", NULL, "budget: "
            "target_avg_bits: expected bits above 0, at most 64, found -1");
    refused("{\"assignment\": {\"a\": 2}, \"bitwidth_map\": {\"2\": \"x\"}}",
            NULL, "bitwidth_map: 2: expected bits above 0, at most 64, found "
            "\"x\"");
    refused("{\"quantization\": {\"quant_algo\": \"FP5\"}}", NULL,
            "quantization: expected a type such as FP8, found \"FP5\"");
    refused("{\"quantization\": {\"quant_algo\": \"FP8\", \"exclude_modules\": "
            "[3]}}", NULL, "exclude_modules: name: expected a text, found 3");
    refused("{\"extra_config\": {}, \"to_quant_block_names\": 3}", NULL,
            "block_name_to_quantize: value: expected a text or a list, found "
            "3");
    refused("{\"extra_config\": {}, \"to_quant_block_names\": [3]}", NULL,
            "block_name_to_quantize: name: expected a text, found 3");
    refused("{\"q_proj\": \"GGUF:Q4_K\"}", NULL, "q_proj: scheme: expected one "
            "such as W4A16, found \"GGUF:Q4_K\"");
    refused("a=q9_K", NULL,
            "a=q9_K: expected a type such as q4_K, found \"q9_K\"");
    refused("a=q4_K b", NULL,
            "expected PATTERN=TYPE such as ffn_down=q4_K, found \"b\"");
    refused("a=q4_K =q4_K", NULL,
            "expected PATTERN=TYPE such as ffn_down=q4_K, found \"=q4_K\"");
    refused("ffn=q4_K", NULL, "module model.layers.0.self_attn.q_proj: "
            "expected --default TYPE for what the file does not name, found "
            "none");
    refused("ffn=q4_K", "q4", "--default: expected a type such as q4_K, found "
            "\"q4\"");
    refused("{\"strategy\": {\"model.layers.0.mlp\": {\"up_proj\": {\"bits\": "
            "[4], \"bits_prop\": [0.5], \"group_size\": {\"4\": 32}}}}}", NULL,
            "model.layers.0.mlp.up_proj: bits_prop: expected shares of all "
            "columns, found nothing");
    refused("{\"strategy\": {\"model.layers.0.mlp\": {\"up_proj\": {\"bits\": "
            "[4], \"bits_prop\": [1], \"group_size\": {\"3\": 32}}}}}", NULL,
            "model.layers.0.mlp.up_proj: group_size: expected one for each "
            "number of bits, found an object");
    refused("{\"strategy\": {\"model.layers.0.mlp\": {\"up_proj\": {\"bits\": "
            "[4, 3], \"bits_prop\": [1], \"group_size\": 32}}}}", NULL,
            "model.layers.0.mlp.up_proj: bits: expected as many as bits_prop, "
            "and out, in of the scores, found a list");
}

#define UP "model.layers.0.mlp.up_proj.weight_quantizer "
#define END "\n1 TensorQuantizers found in model\n"

/* A line of ModelOpt's summary that says of a weight what none there says. */
static void test_refused_summary(void) {
    static const char *const lines[] = {
        "", ")", "4)", "bit)", "0 bit per-tensor)", "33 bit per-tensor)",
        "-4 bit per-tensor)", "4.5 bit per-tensor)", "444 bit per-tensor)",
        "(2, 1 bit fake)", "(2) bit fake)", "(-2, 1) bit fake)",
        "(22, 1) bit fake)", "(2, -1) bit fake)", "unsigned disabled)",
        "4 bit fake per-tensor", "disabled", "4 bit block_sizes={})",
        "4 bit block_sizes={-1: 128)", "4 bit block_sizes={-1: 0})",
        "4 bit block_sizes={-1: -128})", "4 bit block_sizes={-1: None})",
        "4 bit block_sizes={-1: 128000})", "4 bit block_sizes={-1: 1.5})",
        "4 bit block_sizes={'type': 'static'})",
        "4 bit block_sizes={-1: 128'type': 'static'})",
        "4 bit block_sizes={-1: 128, -2: 128})",
        "4 bit block_sizes={-1: 64, 'scale_bits': 8})",
        ("4 bit block_sizes={-1: 64, 'scale_bits': (4, 3), "
         "'scale_block_sizes': {-1: 256}})")};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        refused(gm_format(&arena, "Inserted\n" UP "TensorQuantizer(%s" END,
                          lines[i]), NULL,
                gm_format(&arena, "line 2: expected disabled, 4 bit or (2, 1) "
                          "bit, in blocks such as {-1: 128}, found \"%.80s\"",
                          lines[i]));
    refused(UP "TensorQuantizer(disabled)\n2 TensorQuantizers found in model",
            NULL, "expected the 2 quantizers of its last line, found 1");
    refused("x TensorQuantizers found in model", NULL,
            "expected the -1 quantizers of its last line, found 0");
    refused(UP "TensorQuantizer(disabled)\n" UP "TensorQuantizer(disabled)\n2 "
            "TensorQuantizers found in model", NULL,
            "module model.layers.0.mlp.up_proj appears twice");
}

/* What the summary may say otherwise: bits and bytes of a 256 x 128 weight. */
static void test_summary_spellings(void) {
    static const struct { const char *text; int bits; long bytes; } says[] = {
        {"unsigned 4 bit narrow fake axis=0 amax=dynamic quant)", 4, -1},
        {"16 bit fake per-tensor amax=None)\r", 16, 65536},
        {"(5, 2) bit fake axis=0 amax=meta)", 8, -1},
        {"(8, 7) bit fake block_sizes={-1: 32}, amax=None)", 16, 65536},
        {"disabled pre_quant_scale=1.00e+00 rotated)", 16, 65536},
        {"4 bit block_sizes={'type': 'dynamic', -1: 48}, amax=None)", 4,
         16384 + 256 * 3 * 2},
        {"(2, 1) bit fake block_sizes={'scale_bits': (4, 3), -1: 16, 'type': "
         "'static', 'four_over_six': True}, amax=None)", 4, 16384 + 256 * 8}};
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        FILE *f = fopen(path, "w");
        fprintf(f, "Inserted 1\n" UP " NVFP4StaticQuantizer(%s" END,
                says[i].text);
        fclose(f);
        CHECK(STATUS(gm_foreign_read(&arena, path, &scores, NULL, &file)) ==
              GM_OK, "%s: %s", says[i].text, err.text);
        CHECK(file.module[5].bits == says[i].bits && file.module[5].from &&
              file.module[5].bytes == says[i].bytes, "%s: %d bits, %lld bytes",
              says[i].text, file.module[5].bits,
              (long long)file.module[5].bytes);
        CHECK(!file.module[4].from && file.module[4].bits == 16,
              "what no line names stays as stored");
    }
}

/* Ways to write what the examples write otherwise. */
static void test_spellings(void) {
    const char *const list = "--tensor-type\nffn=q4_K --tensor-type attn=Q8_0";
    FILE *f = fopen(path, "w");
    fputs(list, f);
    fclose(f);
    CHECK(STATUS(gm_foreign_read(&arena, path, &scores, NULL, &file)) == GM_OK,
          "%s", err.text);
    CHECK_TEXT(file.module[0].type, "q8_0");
    CHECK_TEXT(file.module[0].from, "attn=Q8_0");
    CHECK_TEXT(file.module[5].type, "q4_K -> q5_0");
    f = fopen(path, "w");
    fputs("{\"q_proj\": \"W3A16\", \"up_proj\": {\"bits\": 16}}", f);
    fclose(f);
    CHECK(STATUS(gm_foreign_read(&arena, path, &scores, NULL, &file)) == GM_OK,
          "%s", err.text);
    CHECK(file.module[0].bits == 3 && file.module[5].bits == 16 &&
          file.module[6].bits == 4, "%d, %d, %d bits", file.module[0].bits,
          file.module[5].bits, file.module[6].bits);
    CHECK_TEXT(file.module[5].type, "as stored");
    /* 128 scales of 16 and zeros of 3 bits */
    CHECK(file.module[0].bytes == 128 * 128 * 3 / 8 + 128 * 19 / 8,
          "%lld bytes", (long long)file.module[0].bytes);
}

static int test_main(void) {
    const char *from = gm_format(&arena, "%s/scores.tsv", golden);
    if (STATUS(gm_scores_read(&arena, from, &scores))) return 1;
    test_formats();
    test_patterns();
    test_refused_patterns();
    test_refused_names();
    test_refused_files();
    test_refused_summary();
    test_summary_spellings();
    test_spellings();
    gm_arena_free(&arena);
    return test_end("test_foreign");
}

TEST_MAIN(test_main())
