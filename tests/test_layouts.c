/* test_layouts.c: the layouts of other runtimes: words against those that their
   own libraries make (tests/golden/layouts.vec); written directories read back
   from the equations of the layouts, every module, in every width; what a
   layout cannot hold.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "../formats/formats.h"
#include "test.h"
#include "vec.h"

#include <math.h>
#include <unistd.h>

static const char golden[] = "tests/golden/layouts.vec";
static const char work[] = "build/test/layouts-work",
    dir[] = "build/test/layouts-work/dir";

/* Code or zero number i of the golden file. */
static unsigned number(long i, int bits) {
    return (uint32_t)i * 2654435761u >> (32 - bits);
}

/* A packed weight with these codes and zeros, and scales 1. */
static gm_packed numbers(gm_arena *a, long out, long in, int bits, long group) {
    const long groups = (in + group - 1) / group;
    uint8_t *data = gm_alloc(a, (size_t)gm_packed_bytes(out, in, bits, group),
                             1);
    gm_packed q = gm_packed_at(out, in, bits, group, data);
    const gm_parts row = gm_packed_parts(1, in, bits, group);
    for (long o = 0; o < out; o++) {
        for (long i = 0; i < in * bits; i++)
            if (number(o * in + i / bits + 1, bits) >> i % bits & 1)
                q.codes[o * row.codes + i / 8] |= (uint8_t)(1 << i % 8);
        for (long g = 0; g < groups * bits; g++)
            if (number(o * groups + g / bits + 7777, bits) >> g % bits & 1)
                q.zeros[o * row.zeros + g / 8] |= (uint8_t)(1 << g % 8);
        for (long g = 0; g < groups; g++)
            memcpy(q.scales + 2 * (o * groups + g), &(uint16_t){0x3C00}, 2);
    }
    return q;
}

static void golden_words(const char *kind, const char *layout,
                         const char *codes, const char *zeros, int bits,
                         long out, long in, long group) {
    gm_arena a = {0};
    char name[64];
    gm_layout t = {.row = gm_layout_row(layout),
                   .planar = strcmp(kind, "gptq_p") == 0};
    gm_packed q = numbers(&a, out, in, bits, group);
    for (int i = 0; i < 2; i++) {
        const char *part = i ? zeros : codes;
        if (!part) continue;
        snprintf(name, sizeof name, "%s.b%d.%s", kind, bits,
                 i ? "zeros" : "words");
        gm_vec v = vec_read(golden, name);
        uint32_t *words = gm_alloc(&a, (size_t)v.count, sizeof *words);
        gm_status s = STATUS(gm_layout_fill(&a, &t, part, &q,
                                            (uint8_t *)words));
        long wrong = s != GM_OK;
        for (long w = 0; w < v.count; w++) wrong += words[w] != v.i[w];
        CHECK(wrong == 0, "%s: %ld of %ld words", name, wrong, v.count);
        vec_free(&v);
    }
    gm_arena_free(&a);
}

static void all_golden(void) {
    for (int b = 1; b <= 8; b++) {
        if (b != 1 && b != 7)
            golden_words("mlx", "mlx", "weight", NULL, b, 3, 96, 32);
        golden_words("compressed-tensors", "compressed-tensors",
                     "weight_packed", "weight_zero_point", b, 5, 60, 20);
        if (b == 2 || b == 3 || b == 4 || b == 8)
            golden_words("gptq", "gptq", "qweight", "qzeros", b, 32, 96, 64);
        if (b > 1)
            golden_words("gptq_p", "gptq", "qweight", "qzeros", b, 32, 96, 64);
    }
}

/* ------------------------------------------------------ whole directories */

typedef struct {
    gm_arena a;
    gm_model model;
    gm_recipe recipe;
    gm_candidates candidates;
    long M;
    int choice[256];
} fixture;

static void begin(fixture *f, const char *from, const char *bits, long group) {
    *f = (fixture){0};
    gm_status s = STATUS(gm_recipe_parse(bits, group, &f->recipe));
    if (!s) s = STATUS(gm_model_open(&f->a, from, &f->model));
    if (!s) s = STATUS(gm_candidates_open(&f->a, &f->model, &f->recipe, NULL,
                                          work, NULL, &f->candidates));
    CHECK(s == GM_OK, "%s: %s", from, err.text);
    f->M = f->model.config.layers * GM_LINEARS;
    for (long m = 0; m < f->M; m++)
        f->choice[m] = (int)(m % f->recipe.count);
}

static void end(fixture *f) {
    gm_candidates_close(&f->candidates);
    gm_model_close(&f->model);
    gm_arena_free(&f->a);
}

/* Number i of those packed in the words w[0], w[step], w[2 step] ...: one behind
   the other, or (planar) 32 to as many words as they have bits, a plane of 4, 2
   or 1 bits after another. */
static long code_of(const uint32_t *w, long step, long i, int bits,
                    bool planar) {
    const int plane[3] = {bits > 4 && bits < 8 ? 4 : bits == 3 ? 2 : bits,
                          bits == 5 || bits == 3 ? 1
                          : bits == 6 || bits == 7 ? 2 : 0,
                          bits == 7};
    const long at = i * bits / 32, shift = i * bits % 32;
    uint64_t code = w[at * step] >> shift;
    if (shift + bits > 32) code |= (uint64_t)w[(at + 1) * step] << (32 - shift);
    if (!planar) return (long)(code & ((1u << bits) - 1));
    code = 0;
    for (int p = 0, from = 0; p < 3 && plane[p]; from += plane[p++])
        code |= (w[(i / 32 * bits + from + i % 32 * plane[p] / 32) * step] >>
                 i % (32 / plane[p]) * plane[p] & ((1u << plane[p]) - 1))
                << from;
    return (long)code;
}

/* Weight (o, i) of a module as the runtime reads it, from its definition. */
static double value(const char *layout, const gm_tensors *all, const char *stem,
                    int bits, bool planar, long out, long in, long group,
                    long o, long i) {
    char name[128];
    const long groups = (in + group - 1) / group, g = i / group;
    const long W = (in * bits + 31) / 32;
#define FIND(suffix)                                                         \
    (snprintf(name, sizeof name, "%s." suffix, stem),                        \
     gm_tensor_find(all, name))
#define BYTES(suffix) (const void *)FIND(suffix)->data
    gm_real s, b = 0;
    if (strcmp(layout, "gptq") == 0) {
        const uint32_t *w = BYTES("qweight"), *z = BYTES("qzeros");
        const int32_t *index = BYTES("g_idx");
        const uint16_t *scales = BYTES("scales");
        z += g * ((out * bits + 31) / 32);
        return index[i] != g ? INFINITY : gm_f16_to_f32(scales[g * out + o]) *
               (double)(code_of(w + o, out, i, bits, planar) -
                        code_of(z, 1, o, bits, planar));
    }
    if (strcmp(layout, "mlx") == 0) {
        const uint32_t *w = BYTES("weight");
        gm_tensor_read(FIND("biases"), o * groups + g, 1, &b);
        gm_tensor_read(FIND("scales"), o * groups + g, 1, &s);
        return (double)s * (double)code_of(w + o * W, 1, i, bits, false) + b;
    }
    const uint32_t *w = BYTES("weight_packed"), *z = BYTES("weight_zero_point");
    gm_tensor_read(FIND("weight_scale"), o * groups + g, 1, &s);
    return s * (double)(code_of(w + o * W, 1, i, bits, false) -
                        code_of(z + g, groups, o, bits, false));
}

/* Every module of the directory is gamma's, within `steps` of its scale, by
   the layout's definition and as gm_layout_open reads it. */
static void same_weights(fixture *f, const char *layout, const gm_layout *t,
                         double steps) {
    gm_tensors all;
    gm_model again;
    gm_status s = STATUS(gm_checkpoint_open(&f->a, dir, &all));
    if (!s) s = STATUS(gm_layout_open(&f->a, dir, &again));
    CHECK(s == GM_OK, "%s: %s", layout, err.text);
    if (s) return;
    for (gm_tensor *x = all.tensor; x < all.tensor + all.count; x++) {
        uint8_t *data = gm_alloc(&f->a, x->bytes, 1);
        gm_tensor_bytes(x, 0, x->bytes, data);
        x->data = data;
    }
    for (long m = 0; m < f->M; m++) {
        const char *stem = gm_linear_name(&f->a, m / 7, (int)(m % 7));
        gm_packed p = {0};
        const gm_tensor *was = gm_linear_tensor(&f->model, m / 7, (int)(m % 7));
        const gm_tensor *is = gm_tensor_find(&all, was->name);
        if (!t->bits[m]) {
            uint8_t *data = gm_alloc(&f->a, was->bytes, 1);
            gm_tensor_bytes(was, 0, was->bytes, data);
            CHECK(was->shape[0] % 32 || was->shape[1] % 32, "%s", was->name);
            CHECK(is && memcmp(is->data, data, was->bytes) == 0, "%s is not "
                  "as stored", was->name);
            continue;
        }
        s = STATUS(p = gm_candidate(&f->a, &f->candidates, m / 7, (int)(m % 7),
                                    f->choice[m]));
        gm_real *q = gm_alloc(&f->a, (size_t)(p.out * p.in), sizeof *q);
        if (!s) s = STATUS(gm_dequantize(&p, q));
        gm_real *back = gm_alloc(&f->a, (size_t)(p.out * p.in), sizeof *back);
        if (!s) s = STATUS(gm_tensor_read(gm_linear_tensor(
            &again, m / 7, (int)(m % 7)), 0, p.out * p.in, back));
        double worst = s ? INFINITY : 0;
        const long groups = (p.in + p.group - 1) / p.group;
        /* ends of groups, and what lies between in steps */
        for (long o = 0; o < p.out && !s; o += o > 2 && o < p.out - 25 ? 21 : 1)
            for (long i = 0; i < p.in; i += i % p.group > 3 ? 9 : 1) {
                uint16_t half;
                memcpy(&half, p.scales + 2 * (o * groups + i / p.group), 2);
                const double e = value(layout, &all, stem, p.bits, t->planar,
                                       p.out, p.in, p.group, o, i) -
                                 q[o * p.in + i];
                const double step = gm_f16_to_f32(half);
                const double read = back[o * p.in + i] - q[o * p.in + i];
                if (!(fabs(e) <= steps * step)) worst = fmax(worst, fabs(e));
                if (!(fabs(read - e) <= 1e-6 * step)) worst = INFINITY;
            }
        CHECK(worst == 0, "%s %s: %d bits, off by %g", layout, stem, p.bits,
              worst);
    }
    gm_tensors_close(&all);
    gm_model_close(&again);
}

static void directories(void) {
    static const struct {
        const char *layout, *bits;
        gm_dtype scale;
        double steps[4];
    } cases[] = {
        {"mlx", "2,3,4,5,6,8", GM_F32, {0}},
        {"mlx", "2,3,4,5,6,8", GM_F16, {0.126}},
        {"mlx", "2,4", GM_BF16, {0.2}},
        {"compressed-tensors", "1,2,3,4,5,6,7,8", GM_OTHER, {0}},
        {"gptq", "2,3,4,8", GM_OTHER, {0}},
        {"gptq", "2,3,4,5,6,7,8", GM_OTHER, {0}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        gm_layout t;
        begin(&f, i % 2 ? "data/tiny-llama" : "data/tiny-qwen2", cases[i].bits,
              32);
        gm_status s = STATUS(gm_layout_plan(&f.a, "--format", cases[i].layout,
                                            &f.candidates, f.choice,
                                            cases[i].scale, i % 2 == 0, &t));
        if (!s) s = STATUS(gm_export_directory(&f.a, &f.candidates, f.choice,
                                               &t, dir, NULL));
        CHECK(s == GM_OK, "%s: %s", cases[i].layout, err.text);
        if (!s) same_weights(&f, cases[i].layout, &t, cases[i].steps[0]);
        for (int b = 1; b <= 8 && !s; b++)
            CHECK(t.error[b] <= cases[i].steps[0], "%s: states %g",
                  cases[i].layout, t.error[b]);
        end(&f);
    }
}

/* GPTQ's rules: of q, k, v and of gate, up also by the name vLLM joins them to,
   but only where all that are joined are alike. */
static void joined_rules(void) {
    static const char *const expected[] = {
        "+1.self_attn.q_proj", "+1.self_attn.k_proj", "+1.self_attn.v_proj",
        "+1.self_attn.qkv_proj", "+1.mlp.gate_proj",
        "+2.self_attn.q_proj", "+2.self_attn.v_proj", "+2.mlp.up_proj",
        "-3.self_attn.k_proj", "-3.self_attn.v_proj", "-4.self_attn.q_proj",
        "-4.self_attn.k_proj", "-4.self_attn.v_proj", "-4.self_attn.qkv_proj",
        "+7.mlp.gate_proj", "+7.mlp.up_proj", "+7.mlp.gate_up_proj"};
    enum { L = GM_LINEARS, N = sizeof expected / sizeof *expected };
    static const int wide[] = {L + GM_Q, L + GM_K, L + GM_V, L + GM_GATE,
                               2 * L + GM_Q, 2 * L + GM_V, 2 * L + GM_UP,
                               7 * L + GM_GATE, 7 * L + GM_UP},
        kept[] = {3 * L + GM_K, 3 * L + GM_V, 4 * L + GM_Q, 4 * L + GM_K,
                  4 * L + GM_V};
    fixture f;
    gm_layout t;
    begin(&f, "data/tiny-llama", "4,8,16", 32);
    for (long m = 0; m < f.M; m++) f.choice[m] = 0;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        f.choice[wide[i]] = 1;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        f.choice[kept[i]] = 2;
    gm_status s = STATUS(gm_layout_plan(&f.a, "--format", "gptq", &f.candidates,
                                        f.choice, GM_OTHER, false, &t));
    if (!s) s = STATUS(gm_export_directory(&f.a, &f.candidates, f.choice, &t,
                                           dir, NULL));
    CHECK(s == GM_OK, "%s", err.text);
    const gm_json *r = gm_json_get(gm_json_read(
        &f.a, gm_format(&f.a, "%s/config.json", dir), true), "quantization_config");
    r = gm_json_get(r, "dynamic")->child;
    for (int i = 0; i < N; i++, r = r ? r->next : NULL) {
        const char *rest = strchr(expected[i], '.') + 1;
        const char *last = strchr(rest, '.') + 1;
        const char *key = gm_format(
            &f.a, "%c:^model\\.layers\\.%c\\.%.*s\\.%s$", expected[i][0],
            expected[i][1], (int)(last - rest - 1), rest, last);
        const gm_json *b = gm_json_get(r, "bits");
        CHECK(r && strcmp(r->key, key) == 0, "rule %d: expected %s, found %s",
              i, key, r ? r->key : "none");
        CHECK(*key == '-' ? !b : b && b->integer == 8, "rule %d: bits", i);
    }
    CHECK(!r, "expected %d rules, found more", N);
    end(&f);
}

/* What a layout cannot hold is refused with what it can, or kept. */
static void refused(const char *layout, const char *from, const char *bits,
                    long group, const char *expected) {
    fixture f;
    gm_layout t;
    begin(&f, from, bits, group);
    gm_status s = STATUS(gm_layout_plan(&f.a, "--format", layout, &f.candidates,
                                        f.choice, GM_OTHER, false, &t));
    CHECK(s == GM_EUSAGE && strstr(err.text, expected), "%s", err.text);
    s = STATUS(gm_layout_plan(&f.a, "--format", layout, &f.candidates, f.choice,
                              GM_OTHER, true, &t));
    if (strstr(expected, "group of")) CHECK(s == GM_EUSAGE, "%s", err.text);
    else CHECK(s == GM_OK && !t.bits[0], "kept: %s", err.text);
    end(&f);
}

static int test_main(void) {
    STATUS(gm_make_dir(work));
    all_golden();
    directories();
    joined_rules();
    refused("mlx", "data/tiny-llama", "7", 32,
            "expected bits of 1, 2, 3, 4, 5, 6, 8, found 7");
    refused("mlx", "data/tiny-llama", "4", 16,
            "expected a group of 32, 64 or 128, found 16");
    refused("mlx", "tests/golden/tiny-llama", "4", 32,
            "expected inputs in whole groups of 32, found 48 inputs");
    refused("compressed-tensors", "tests/golden/tiny-llama", "4", 32,
            "expected inputs in whole groups of 32, found 48 inputs");
    refused("gptq", "tests/golden/tiny-llama", "1", 16,
            "expected bits of 2, 3, 4, 5, 6, 7, 8, found 1");
    refused("gptq", "tests/golden/tiny-llama", "5", 16,
            "expected inputs and outputs in multiples of 32 for 5 bits, found "
            "[48, 48]");
    refused("gptq", "data/tiny-llama", "4", 48,
            "expected a group of a power of two from 16 on, found 48");
    return test_end("test_layouts");
}

TEST_MAIN(test_main())
