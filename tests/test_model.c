/* test_model.c: model.c against transformers (golden vectors made by
   tools/golden_model.py), its refusals word for word, and its properties.

   Tolerance of every comparison with a golden value: MARGIN times the
   `distance` recorded beside it, which is how far transformers' own float32
   result lies from the same quantity in float64 (largest over all elements).
   Ours may be as far on the other side, which makes 2; the rest is for sums
   taken in another order.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "test.h"
#include "vec.h"

#include <math.h>

enum { MARGIN = 4, SEED = 2605 };
static const char scratch_dir[] = "build/test/model";

/* A call that must succeed for the test to go on. */
#define MUST(call)                                                        \
    do {                                                                  \
        gm_status status_ = (call);                                       \
        CHECK(status_ == GM_OK, "%s", err.text);                          \
        if (status_) exit(test_end("test_model"));                        \
    } while (0)

/* x_i = base + (u_i - 1/2) spread, as in tools/golden_model.py */
static void fill(uint64_t seed, uint64_t stream, double base, double spread,
                 gm_real *x, long count) {
#pragma omp parallel for num_threads(gm_threads())
    for (long i = 0; i < count; i++)
        x[i] = (gm_real)(base + (gm_uniform(seed, stream, (uint64_t)i) - 0.5) *
                                spread);
}

static void *room(gm_arena *arena, long count) {
    void *p = gm_alloc(arena, (size_t)count, sizeof(gm_real));
    CHECK(p, "%ld numbers", count);
    if (!p) exit(test_end("test_model"));
    return p;
}

/* Largest difference; infinite when any is NaN. */
static double apart(const gm_real *x, const double *y, long count) {
    double worst = 0;
    for (long i = 0; i < count; i++) {
        double d = fabs((double)x[i] - y[i]);
        worst = d <= worst ? worst : isnan(d) ? (double)INFINITY : d;
    }
    return worst;
}

/* The record `name` of `path` is matched by found[0..]. */
static void compare(const char *path, const char *name,
                    const gm_real *found) {
    char label[300];
    snprintf(label, sizeof label, "%s.distance", name);
    gm_vec golden = vec_read(path, name), distance = vec_read(path, label);
    double worst = apart(found, golden.f, golden.count);
    CHECK(worst <= MARGIN * distance.f[0],
          "%s: off by %.3g, transformers' own distance is %.3g", name, worst,
          distance.f[0]);
    vec_free(&golden), vec_free(&distance);
}

/* json, written to a file and read. */
static gm_status read_config(gm_arena *arena, const char *json, gm_config *c) {
    char file[100];
    snprintf(file, sizeof file, "%s/config.json", scratch_dir);
    FILE *f = fopen(file, "w");
    if (f) fputs(json, f), fclose(f);
    return STATUS(gm_config_read(arena, scratch_dir, c));
}

/* A model opened with everything a run over S sequences of T needs. */
struct setup {
    gm_arena arena;
    gm_model model;
    gm_block block;
    gm_acts acts;
    gm_real *h, *y;
    long R, d;
};

static void open_model(struct setup *u, const char *name, long S, long T) {
    char dir[100];
    snprintf(dir, sizeof dir, "tests/golden/%s", name);
    *u = (struct setup){.R = S * T};
    MUST(STATUS(gm_model_open(&u->arena, dir, &u->model)));
    const gm_config *c = &u->model.config;
    u->d = c->d;
    u->h = room(&u->arena, u->R * u->d);
    u->y = room(&u->arena, u->R * u->d);
    MUST(STATUS(gm_block_alloc(&u->arena, c, &u->block)));
    MUST(STATUS(gm_block_load(&u->model, c->layers - 1, &u->block)));
    MUST(STATUS(gm_acts_alloc(&u->arena, c, S, T, true, &u->acts)));
}

static void close_model(struct setup *u) {
    gm_model_close(&u->model);
    gm_arena_free(&u->arena);
}

static void forward(struct setup *u, const gm_real *h, gm_real *y) {
    gm_block_forward(&u->acts, &u->block, h, y);
}

/* --------------------------------------------- whole models, 2048 positions */

/* Claim: embeddings, every block and the head give transformers' numbers, at
   positions up to 2047.  `rope`: a directory whose rotary angles are used
   instead of the model's own. */
static void test_whole(const char *name, const char *rope) {
    enum { T = 2048 };
    static const char path[] = "tests/golden/model.vec";
    gm_vec at = vec_read(path, "positions");
    struct setup u;
    char label[100], dir[100];
    int32_t tokens[T];
    gm_head head;
    open_model(&u, name, 1, T);
    if (rope) {
        gm_config other;
        snprintf(dir, sizeof dir, "tests/golden/%s", rope);
        MUST(STATUS(gm_config_read(&u.arena, dir, &other)));
        gm_rope_angles(&other, T, NULL, u.acts.cos, u.acts.sin);
    }
    long d = u.d, vocab = u.model.config.vocab;
    gm_real *rows = room(&u.arena, at.count * d);
    gm_real *logits = room(&u.arena, at.count * vocab);
    for (int t = 0; t < T; t++)
        tokens[t] = (int32_t)(gm_random(SEED, 1, (uint64_t)t) % 64);
    MUST(STATUS(gm_embed(&u.model, tokens, T, u.h)));
    for (long l = 0; l < u.model.config.layers; l++) {
        MUST(STATUS(gm_block_load(&u.model, l, &u.block)));
        forward(&u, u.h, u.h);
        for (long i = 0; i < at.count; i++)
            memcpy(rows + i * d, u.h + at.i[i] * d,
                   (size_t)d * sizeof *rows);
        snprintf(label, sizeof label, "%s.h%ld", rope ? rope : name, l + 1);
        compare(path, label, rows);
    }
    MUST(STATUS(gm_head_load(&u.arena, &u.model, &head)));
    gm_head_forward(&head, rows, at.count, room(&u.arena, at.count * d),
                    logits);
    snprintf(label, sizeof label, "%s.logits", rope ? rope : name);
    compare(path, label, logits);
    vec_free(&at);
    close_model(&u);
}

/* --------------------------------------------------------------- gradients */

static void compare_samples(const char *model, const char *tensor,
                            const gm_real *grad, long count) {
    char label[200];
    gm_real found[32];
    for (uint64_t i = 0; i < 32; i++)
        found[i] = grad[gm_random(SEED, 300, i) % (uint64_t)count];
    snprintf(label, sizeof label, "%s.%s", model, tensor);
    compare("tests/golden/grad.vec", label, found);
}

/* Claim: dE/dW, dE/db, dE/dnorm and dE/dh of a block are torch autograd's. */
static void test_gradient(const char *name, uint64_t number) {
    struct setup u;
    gm_block grad;
    char label[100];
    const char *linear;
    open_model(&u, name, 2, 450);
    const gm_config *c = &u.model.config;
    gm_real *d_y = room(&u.arena, u.R * u.d);
    gm_real *d_h = room(&u.arena, u.R * u.d);
    MUST(STATUS(gm_block_alloc(&u.arena, c, &grad)));
    fill(SEED, 100 + number, 0, 3, u.h, u.R * u.d);
    fill(SEED, 200 + number, 0, 2, d_y, u.R * u.d);
    forward(&u, u.h, u.y);
    gm_block_backward(&u.acts, &u.block, u.h, d_y, &grad, d_h);
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        MUST(STATUS(linear = gm_linear_name(&u.arena, 0, j)));
        linear += strlen("model.layers.0.");
        snprintf(label, sizeof label, "%s.weight", linear);
        compare_samples(name, label, grad.w[j], out * in);
        snprintf(label, sizeof label, "%s.bias", linear);
        if (grad.bias[j]) compare_samples(name, label, grad.bias[j], out);
    }
    compare_samples(name, "input_layernorm.weight", grad.norm1, u.d);
    compare_samples(name, "post_attention_layernorm.weight", grad.norm2, u.d);
    if (c->qk_norm) {
        compare_samples(name, "self_attn.q_norm.weight", grad.q_norm,
                        c->head_dim);
        compare_samples(name, "self_attn.k_norm.weight", grad.k_norm,
                        c->head_dim);
    }
    compare_samples(name, "h", d_h, u.R * u.d);
    close_model(&u);
}

/* -------------------------------------------------------------- properties */

static bool same(const gm_real *a, const gm_real *b, long count) {
    return memcmp(a, b, (size_t)count * sizeof *a) == 0;
}

/* Claims, all bit for bit: y may be h; a second sequence does not see the
   first; rows before t do not see row t; a longer sequence begins like a
   shorter one; threads and instruction sets do not matter. */
static void test_forward_properties(const char *name) {
    enum { S = 2, T = 450, CUT = 300 };
    struct setup u, one;
    open_model(&u, name, S, T);
    open_model(&one, name, 1, T);
    long d = u.d, n = u.R * d;
    gm_real *y = room(&u.arena, n);
    fill(SEED, 1, 0, 3, u.h, n);
    forward(&u, u.h, u.y);
    memcpy(y, u.h, (size_t)n * sizeof *y);
    forward(&u, y, y);
    CHECK(same(y, u.y, n), "%s: y = h in place", name);
    forward(&one, u.h + T * d, one.y);
    CHECK(same(one.y, u.y + T * d, T * d), "%s: sequence 1 alone", name);
    one.acts.T = CUT;
    forward(&one, u.h, one.y);
    CHECK(same(one.y, u.y, CUT * d), "%s: a prefix alone", name);
    u.h[CUT * d] += 1;
    forward(&u, u.h, y);
    CHECK(same(y, u.y, CUT * d), "%s: the past sees the future", name);
    CHECK(!same(y + CUT * d, u.y + CUT * d, (T - CUT) * d) &&
          !same(y + (T - 1) * d, u.y + (T - 1) * d, d),
          "%s: the future does not see the past", name);
    CHECK(same(y + T * d, u.y + T * d, T * d), "%s: sequences leak", name);
    close_model(&u), close_model(&one);
}

/* One forward and backward pass; all gradients in one array. */
static gm_real *run_backward(struct setup *u, gm_block *grad, gm_real *d_h) {
    gm_real *d_y = room(&u->arena, u->R * u->d);
    fill(SEED, 2, 0, 2, d_y, u->R * u->d);
    forward(u, u->h, u->y);
    gm_block_backward(&u->acts, &u->block, u->h, d_y, grad, d_h);
    return d_h;
}

static bool same_weights(const gm_config *c, const gm_block *a,
                         const gm_block *b) {
    bool all = true;
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        all = all && same(a->w[j], b->w[j], out * in);
    }
    return all;
}

/* Claims: gradients do not depend on threads, on the instruction set, or on
   whether biases, norms and dE/dh are asked for (bit for bit); they add into
   what is there; absent buffers are skipped. */
static void test_backward_properties(const char *name) {
    struct setup u;
    gm_block grad, again;
    open_model(&u, name, 2, 200);
    const gm_config *c = &u.model.config;
    fill(SEED, 1, 0, 3, u.h, u.R * u.d);
    gm_real *d_h = room(&u.arena, u.R * u.d);
    MUST(STATUS(gm_block_alloc(&u.arena, c, &grad)));
    run_backward(&u, &grad, d_h);
    int threads = gm_threads();
    gm_isa isa = gm_isa_now();
    for (int way = 0; way < 2 + GM_ISA_COUNT; way++) {
        if (way < 2) gm_threads_use(way ? threads : 1);
        else if (!gm_isa_use((gm_isa)(way - 2))) continue;
        gm_real *other = room(&u.arena, u.R * u.d);
        MUST(STATUS(gm_block_alloc(&u.arena, c, &again)));
        run_backward(&u, &again, other);
        CHECK(same_weights(c, &grad, &again) &&
              same(d_h, other, u.R * u.d) &&
              same(grad.norm1, again.norm1, u.d), "%s: way %d", name, way);
    }
    gm_isa_use(isa);
    MUST(STATUS(gm_block_alloc(&u.arena, c, &again)));
    for (int j = 0; j < GM_LINEARS; j++) again.bias[j] = NULL;
    again.norm1 = again.norm2 = again.q_norm = again.k_norm = NULL;
    gm_real *up = again.w[GM_UP];
    again.w[GM_UP] = NULL;
    run_backward(&u, &again, NULL);
    again.w[GM_UP] = up;
    CHECK(up[0] == 0 && grad.w[GM_UP][0] != 0, "%s: NULL is skipped", name);
    memcpy(up, grad.w[GM_UP], (size_t)(c->ff * c->d) * sizeof *up);
    CHECK(same_weights(c, &grad, &again), "%s: weights alone", name);
    gm_real first = grad.w[GM_Q][0], h0 = d_h[0], norm = grad.norm1[0];
    run_backward(&u, &grad, d_h);
    /* 2 x, computed as x + parts of x: a few roundings of 2 x */
    CHECK(fabs((double)(grad.w[GM_Q][0] - 2 * first)) <=
              1e-5 * fabs((double)first) &&
          fabs((double)(d_h[0] - 2 * h0)) <= 1e-5 * fabs((double)h0) &&
          fabs((double)(grad.norm1[0] - 2 * norm)) <=
              1e-5 * fabs((double)norm), "%s: gradients add", name);
    close_model(&u);
}

/* Claim: a token outside the vocabulary is named. */
static void test_embed(void) {
    struct setup u;
    int32_t tokens[] = {0, 63, 64}, negative[] = {-1};
    open_model(&u, "tiny-llama", 1, 3);
    CHECK(STATUS(gm_embed(&u.model, tokens, 2, u.h)) == GM_OK, "in range");
    CHECK(STATUS(gm_embed(&u.model, tokens, 3, u.h)) == GM_EINPUT, "64");
    CHECK_TEXT(err.text, "token 2 is 64, expected 0..63");
    CHECK(STATUS(gm_embed(&u.model, negative, 1, u.h)) == GM_EINPUT, "-1");
    CHECK_TEXT(err.text, "token 0 is -1, expected 0..63");
    close_model(&u);
}

/* ------------------------------------------------------------ rotary angles */

/* Claim: cosines and sines are transformers' for every rope type we take, at
   positions where one unit in the last place of an inverse frequency shows.
   Both sides round a value of at most 1.5 to float32 and torch's cosine is
   good to one more unit: 2 units of 2^-23.  torch's float32 power is itself
   not always correctly rounded (1 of 512 frequencies here): then the angle is
   off by 2^-23 of itself.  Counted, and allowed for 1 in 100. */
static long values, off_by_power;

static void compare_angles(const char *name, const char *kind,
                           const int32_t position[4], const gm_real *found) {
    static const char path[] = "tests/golden/rope.vec";
    char label[100];
    snprintf(label, sizeof label, "%s.%s", name, kind);
    gm_vec golden = vec_read(path, label);
    snprintf(label, sizeof label, "%s.frequency", name);
    gm_vec f = vec_read(path, label);
    double worst = 0;
    CHECK(golden.count == 4 * f.count, "%s: count", label);
    for (long i = 0; i < golden.count; i++) {
        double angle = position[i / f.count] * f.f[i % f.count];
        double d = fabs((double)found[i] - golden.f[i]);
        off_by_power += !(d <= 0x1p-22);
        worst = fmax(worst, d / (0x1p-22 + angle * 0x1p-23));
    }
    CHECK(worst <= 1, "%s.%s: off by %.3g of the bound", name, kind, worst);
    values += golden.count;
    vec_free(&golden), vec_free(&f);
}

static void test_rope_case(const char *name, const char *json) {
    const int32_t position[] = {1, 17, 2000, 8191};
    gm_arena arena = {0};
    gm_config c;
    MUST(read_config(&arena, json, &c));
    gm_real *cosine = room(&arena, 2 * c.head_dim);
    gm_real *sine = room(&arena, 2 * c.head_dim);
    gm_rope_angles(&c, 4, position, cosine, sine);
    compare_angles(name, "cos", position, cosine);
    compare_angles(name, "sin", position, sine);
    gm_arena_free(&arena);
}

#define HEADS(hd, rest)                                                    \
    "{\"model_type\": \"llama\", \"num_attention_heads\": 2, "             \
    "\"hidden_size\": " #hd "0, \"head_dim\": " #hd ", "                   \
    "\"max_position_embeddings\": 131072, " rest "}"

/* In both spellings, the old one with `type` as well. */
static void test_rope(void) {
    test_rope_case("default-10000", HEADS(64, "\"rope_scaling\": null"));
    test_rope_case("default-1e6", HEADS(128, "\"rope_theta\": 1000000"));
    test_rope_case("smollm2", HEADS(64, "\"rope_scaling\": {}, "
        "\"rope_theta\": 100000.0"));
    test_rope_case("linear", HEADS(128,
        "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}"));
    test_rope_case("llama31", HEADS(128, "\"rope_theta\": 500000.0, "
        "\"rope_scaling\": {\"factor\": 8.0, \"low_freq_factor\": 1.0, "
        "\"high_freq_factor\": 4.0, \"rope_type\": \"llama3\", "
        "\"original_max_position_embeddings\": 8192}"));
    test_rope_case("llama32", HEADS(64, "\"rope_parameters\": {"
        "\"factor\": 32, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "
        "\"original_max_position_embeddings\": 8192, "
        "\"rope_theta\": 500000, \"rope_type\": \"llama3\"}"));
    test_rope_case("yarn", HEADS(128, "\"rope_theta\": 1000000.0, "
        "\"rope_scaling\": {\"factor\": 4.0, \"type\": \"yarn\", "
        "\"original_max_position_embeddings\": 32768}"));
    test_rope_case("yarn-mscale", HEADS(64, "\"rope_parameters\": {"
        "\"rope_theta\": 1000000.0, \"factor\": 40, \"rope_type\": \"yarn\", "
        "\"original_max_position_embeddings\": 32768, \"mscale\": 1.0, "
        "\"mscale_all_dim\": 0.8, \"beta_fast\": 24, \"beta_slow\": 2, "
        "\"truncate\": false}"));
    test_rope_case("yarn-attention", HEADS(64, "\"rope_theta\": 1000000.0, "
        "\"rope_parameters\": {\"factor\": 4.0, \"rope_type\": \"yarn\", "
        "\"attention_factor\": 1.25, "
        "\"original_max_position_embeddings\": 32768}"));
    CHECK(off_by_power * 100 <= values, "%ld of %ld angles", off_by_power,
          values);
}

/* ------------------------------------------------------------- config.json */

/* Claim: the fields of published checkpoints are read, and what a config does
   not say is what transformers' config classes say. */
static void test_config(void) {
    gm_arena arena = {0};
    gm_config c;
    MUST(read_config(&arena, "{\"model_type\": \"llama\"}", &c));
    CHECK(c.arch == GM_LLAMA && c.layers == 32 && c.d == 4096 &&
          c.ff == 11008 && c.heads == 32 && c.kv_heads == 32 &&
          c.head_dim == 128 && c.vocab == 32000 && c.max_position == 2048 &&
          c.norm_eps == 1e-6 && !c.tied && !c.qkv_bias && !c.o_bias &&
          !c.mlp_bias && !c.qk_norm && c.rope.kind == GM_ROPE_DEFAULT &&
          c.rope.theta == 10000, "llama defaults");
    MUST(read_config(&arena, "{\"model_type\": \"qwen2\"}", &c));
    CHECK(c.arch == GM_QWEN2 && c.layers == 32 && c.d == 4096 &&
          c.ff == 22016 && c.heads == 32 && c.kv_heads == 32 &&
          c.head_dim == 128 && c.vocab == 151936 && c.max_position == 32768 &&
          c.norm_eps == 1e-6 && !c.tied && c.qkv_bias && !c.o_bias &&
          !c.mlp_bias && !c.qk_norm && c.rope.theta == 10000,
          "qwen2 defaults");
    MUST(read_config(&arena, "{\"model_type\": \"qwen3\", "
                     "\"hidden_size\": 1024, \"num_attention_heads\": 64}",
                     &c));
    CHECK(c.arch == GM_QWEN3 && c.d == 1024 && c.heads == 64 &&
          c.kv_heads == 32 && c.head_dim == 128 && c.vocab == 151936 &&
          !c.qkv_bias && !c.o_bias && c.qk_norm, "qwen3 defaults");
    MUST(read_config(&arena, "{\"model_type\": \"qwen2\", "
                     "\"num_key_value_heads\": null, \"head_dim\": null, "
                     "\"num_attention_heads\": 64, \"layer_types\": null}",
                     &c));
    CHECK(c.kv_heads == 64 && c.head_dim == 64, "null is not absent");
    MUST(read_config(&arena, "{\"model_type\": \"qwen3\", "
                     "\"attention_bias\": true}", &c));
    CHECK(c.qkv_bias && c.o_bias, "qwen3 attention_bias");
    MUST(read_config(&arena, "{\"model_type\": \"llama\", "
        "\"architectures\": [\"LlamaForCausalLM\"], \"rope_theta\": 5e5, "
        "\"rope_parameters\": {\"rope_type\": \"default\", "
        "\"rope_theta\": 7e4}, \"pretraining_tp\": 1}", &c));
    CHECK(c.rope.theta == 7e4, "rope_parameters.rope_theta wins: %g",
          c.rope.theta);
    MUST(read_config(&arena, "{\"model_type\": \"llama\", "
        "\"rope_theta\": 5e5, \"rope_scaling\": {\"type\": \"linear\", "
        "\"factor\": 2}, \"rope_parameters\": {\"rope_theta\": 7e4}}", &c));
    CHECK(c.rope.theta == 5e5 && c.rope.kind == GM_ROPE_LINEAR,
          "rope_scaling wins: %g", c.rope.theta);
    gm_arena_free(&arena);
}

#define SMALL "\"hidden_size\": 4, \"num_hidden_layers\": 1, " \
    "\"num_attention_heads\": 1, \"num_key_value_heads\": 1, " \
    "\"intermediate_size\": 4"
#define LONG_2 "\"rope_scaling\": {\"type\": \"longrope\", " \
    "\"long_factor\": [2, 3], \"short_factor\": [1.5, 2]}"

/* Claim: windows are accepted exactly when no layer would use them. */
static void test_unused_windows(void) {
    static const char *const fine[] = {
        "{\"model_type\": \"qwen2\", \"use_sliding_window\": false, "
            "\"sliding_window\": 4096, \"max_window_layers\": 2}",
        "{\"model_type\": \"qwen2\", \"use_sliding_window\": true, "
            "\"sliding_window\": null}",
        "{\"model_type\": \"qwen2\", \"use_sliding_window\": true, "
            "\"sliding_window\": 4096, \"max_window_layers\": 32}",
        "{\"model_type\": \"qwen3\", \"num_hidden_layers\": 2, "
            "\"sliding_window\": 4096, \"use_sliding_window\": true, "
            "\"layer_types\": [\"full_attention\", \"full_attention\"]}",
        "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 28, "
            "\"use_sliding_window\": true}",
        "{\"model_type\": \"llama\", \"sliding_window\": null}",
        "{\"model_type\": \"llama\", \"sliding_window\": 4096, "
            "\"use_sliding_window\": false}",
        "{\"model_type\": \"llama\", \"num_experts\": 0, "
            "\"quantization_config\": null, \"partial_rotary_factor\": 1.0}",
    };
    gm_arena arena = {0};
    gm_config c;
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        CHECK(read_config(&arena, fine[i], &c) == GM_OK, "%s\n%s",
              fine[i], err.text);
    }
    gm_arena_free(&arena);
}

/* Claim: Mistral's and Phi-3's window and LongRoPE's original length are the
   longest sequence: one as long passes, one longer is refused by name. */
static void test_limits(void) {
    static const struct { const char *json; long most; const char *by; } of[] = {
        {"{\"model_type\": \"mistral\", " SMALL "}", 4096, "sliding_window"},
        {"{\"model_type\": \"mistral\", \"sliding_window\": null, " SMALL "}",
         0, ""},
        {"{\"model_type\": \"mistral\", \"sliding_window\": 7, "
         "\"use_sliding_window\": false, \"layer_types\": "
         "[\"full_attention\"], " SMALL "}", 7, "sliding_window"},
        {"{\"model_type\": \"phi3\", " SMALL "}", 0, ""},
        {"{\"model_type\": \"phi3\", \"sliding_window\": 9, " SMALL "}", 9,
         "sliding_window"},
        {"{\"model_type\": \"phi3\", \"sliding_window\": 9, " LONG_2 ", "
         "\"original_max_position_embeddings\": 8, " SMALL "}", 8,
         "original_max_position_embeddings"},
        {"{\"model_type\": \"phi3\", \"sliding_window\": 9, " LONG_2 ", " SMALL
         "}", 9, "sliding_window"},
        {"{\"model_type\": \"phi3\", " LONG_2 ", " SMALL "}", 4096,
         "original_max_position_embeddings"},
        {"{\"model_type\": \"llama\", " LONG_2 ", " SMALL "}", 2048,
         "original_max_position_embeddings"},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        gm_arena arena = {0};
        gm_config c;
        gm_acts acts;
        char expected[200];
        const long most = of[i].most ? of[i].most : 5000;
        MUST(read_config(&arena, of[i].json, &c));
        CHECK(c.limit == of[i].most, "%s: limit %ld", of[i].json, c.limit);
        CHECK(STATUS(gm_acts_alloc(&arena, &c, 1, most, true, &acts)) ==
              GM_OK, "%s: %s", of[i].json, err.text);
        snprintf(expected, sizeof expected, "%s: expected sequences of at most "
                 "%ld tokens, which it leaves as they are, found %ld",
                 of[i].by, most, most + 1);
        gm_status s = STATUS(gm_acts_alloc(&arena, &c, 1, most + 1, false,
                                           &acts));
        CHECK(s == (of[i].most ? GM_EINPUT : GM_OK), "%s: one more passes",
              of[i].json);
        if (of[i].most) CHECK_TEXT(err.text, expected);
        gm_arena_free(&arena);
    }
}

/* Claim: Mistral and Phi-3 know no attention_bias; Phi-3's head is turned in
   part; LongRoPE's factor on cos and sin follows transformers' formula. */
static void test_families(void) {
    gm_arena arena = {0};
    gm_config c;
    MUST(read_config(&arena, "{\"model_type\": \"mistral\", "
                     "\"attention_bias\": true, \"mlp_bias\": true}", &c));
    CHECK(!c.qkv_bias && !c.o_bias && !c.mlp_bias && c.kv_heads == 8 &&
          c.ff == 14336 && c.head_dim == 128 && c.still == 0 &&
          c.norm_eps == 1e-6, "mistral's defaults");
    MUST(read_config(&arena, "{\"model_type\": \"phi3\", "
                     "\"partial_rotary_factor\": 0.75}", &c));
    CHECK(!c.qkv_bias && !c.o_bias && c.kv_heads == 32 && c.head_dim == 96 &&
          c.still == 24 && c.norm_eps == 1e-5 && c.vocab == 32064,
          "phi3's defaults");
    MUST(read_config(&arena, "{\"model_type\": \"phi3\", "
                     "\"max_position_embeddings\": 131072, " LONG_2 ", " SMALL
                     "}", &c));
    CHECK(fabs(c.rope.attention_factor -
               sqrt(1 + log(131072. / 4096) / log(4096.))) < 1e-15 &&
          c.rope.slower[0] == 1.5, "factor %.17g", c.rope.attention_factor);
    MUST(read_config(&arena, "{\"model_type\": \"phi3\", " LONG_2 ", " SMALL
                     "}", &c));
    CHECK(c.rope.attention_factor == 1, "no longer than it was");
    gm_arena_free(&arena);
}

#define LLAMA "{\"model_type\": \"llama\", "
#define QWEN2 "{\"model_type\": \"qwen2\", "
#define QWEN3 "{\"model_type\": \"qwen3\", "
#define FAMILIES "\"llama\", \"qwen2\", \"qwen3\", \"mistral\" or \"phi3\""
#define MISTRAL "{\"model_type\": \"mistral\", "
#define PHI3 "{\"model_type\": \"phi3\", "
#define LONG LLAMA "\"rope_scaling\": {\"rope_type\": \"longrope\", "

#define ALREADY "quantized already; give the checkpoint in F16, BF16 or F32 " \
                "that it was made from"

/* config.json, then the message after "build/test/model/config.json: " */
static const char *const refusals[][2] = {
    {"[]", "expected an object"},
    {"{}", "model_type: expected " FAMILIES ", found nothing"},
    {"{\"model_type\": \"smollm3\"}",
     "model_type: expected " FAMILIES ", found \"smollm3\""},
    {"{\"model_type\": 3}", "model_type: expected " FAMILIES ", found 3"},
    {"{\"model_type\": \"qwen3_moe\"}",
     "model_type: expected " FAMILIES ", found \"qwen3_moe\""},
    {LLAMA "\"hidden_act\": \"gelu\"}",
     "hidden_act: expected \"silu\" or \"swish\", found \"gelu\""},
    {LLAMA "\"quantization_config\": {\"bits\": 4}}", "quantization_config: "
     "expected none, found an object: this checkpoint is " ALREADY},
    {LLAMA "\"quantization_config\": {\"quant_method\": \"gptq\"}}",
     "quantization_config: expected none, found \"gptq\": this checkpoint is "
     ALREADY},
    {LLAMA "\"quantization\": {\"group_size\": 64, \"bits\": 4}}",
     "quantization: expected none, found an object: this checkpoint is "
     ALREADY},
    {LLAMA "\"compression_config\": {\"quant_method\": "
     "\"compressed-tensors\"}}", "compression_config: expected none, found "
     "\"compressed-tensors\": this checkpoint is " ALREADY},
    {LLAMA "\"quantization\": true}", "quantization: expected none, found "
     "true: this checkpoint is " ALREADY},
    {QWEN3 "\"num_experts\": 128}",
     "num_experts: expected none (not supported), found 128"},
    {LLAMA "\"num_local_experts\": 8}",
     "num_local_experts: expected none (not supported), found 8"},
    {QWEN2 "\"moe_intermediate_size\": 1408}",
     "moe_intermediate_size: expected none (not supported), found 1408"},
    {LLAMA "\"num_hidden_layers\": 0}",
     "num_hidden_layers: expected an integer in 1..10000, found 0"},
    {LLAMA "\"hidden_size\": 4096.5}",
     "hidden_size: expected an integer in 1..1048576, found 4096.5"},
    {LLAMA "\"intermediate_size\": \"11008\"}", "intermediate_size: expected "
     "an integer in 1..4194304, found \"11008\""},
    {LLAMA "\"hidden_size\": 100, \"num_attention_heads\": 3}",
     "hidden_size: expected a multiple of num_attention_heads, found 100"},
    {LLAMA "\"num_key_value_heads\": 12}",
     "num_key_value_heads: expected a divisor of num_attention_heads, found "
     "12"},
    {LLAMA "\"num_key_value_heads\": 64}",
     "num_key_value_heads: expected an integer in 1..32, found 64"},
    {QWEN3 "\"head_dim\": 33}",
     "head_dim: expected an even number, found 33"},
    {LLAMA "\"vocab_size\": -1}",
     "vocab_size: expected an integer in 1..268435456, found -1"},
    {LLAMA "\"rms_norm_eps\": -1e-6}",
     "rms_norm_eps: expected a number in 0..1, found -1e-06"},
    {LLAMA "\"tie_word_embeddings\": 1}",
     "tie_word_embeddings: expected true or false, found 1"},
    {LLAMA "\"sliding_window\": 4096}",
     "sliding_window: expected null, found 4096"},
    {QWEN2 "\"use_sliding_window\": true}",
     "use_sliding_window: expected false, found true"},
    {QWEN3 "\"use_sliding_window\": true, \"sliding_window\": 4096, "
     "\"max_window_layers\": 31}",
     "use_sliding_window: expected false, found true"},
    {QWEN3 "\"num_hidden_layers\": 2, \"layer_types\": [\"full_attention\", "
     "\"sliding_attention\"]}", "layer_types[1]: expected "
     "\"full_attention\", found \"sliding_attention\""},
    {QWEN3 "\"num_hidden_layers\": 2, \"layer_types\": [\"full_attention\"]}",
     "layer_types: expected a list of 2 names, found a list"},
    {LLAMA "\"partial_rotary_factor\": 0.5}",
     "partial_rotary_factor: expected 1, found 0.5"},
    {LLAMA "\"rope_parameters\": {\"partial_rotary_factor\": 0.25}}",
     "rope_parameters.partial_rotary_factor: expected 1, found 0.25"},
    {PHI3 "\"partial_rotary_factor\": 1.5}",
     "partial_rotary_factor: expected a number in 0..1, found 1.5"},
    {PHI3 "\"partial_rotary_factor\": 0.22}",     /* 21 of 96 */
     "partial_rotary_factor: expected an even number of a head's elements, "
     "found 0.22"},
    {PHI3 "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}",
     "rope_scaling.type: expected \"default\" or \"longrope\", found "
     "\"linear\""},
    {MISTRAL "\"sliding_window\": 0}",
     "sliding_window: expected an integer in 1..1073741824, found 0"},
    {LONG "\"long_factor\": [1]}}", "rope_scaling.long_factor: expected a list "
     "of 64 numbers, found a list"},

    {LLAMA "\"rope_scaling\": 4}",
     "rope_scaling: expected an object, found 4"},
    {LLAMA "\"head_dim\": 2, \"rope_scaling\": {\"type\": \"dynamic\", "
     "\"factor\": 2}}", "rope_scaling.type: expected another type for a "
     "head_dim of 2, found \"dynamic\""},
    {LLAMA "\"rope_scaling\": {\"rope_type\": \"longrope\"}}",
     "rope_scaling.long_factor: expected a list of 64 numbers, found nothing"},
    {LLAMA "\"rope_scaling\": {\"rope_type\": \"su\"}}",
     "rope_scaling.rope_type: expected \"default\", \"linear\", \"llama3\", "
     "\"yarn\", \"dynamic\" or \"longrope\", found \"su\""},
    {QWEN3 "\"rope_parameters\": {\"full_attention\": {}}}",
     "rope_parameters.full_attention: expected one set of parameters for all "
     "layers, found an object"},
    {LLAMA "\"rope_theta\": 0}",
     "rope_theta: expected a number in 1.0001..1e+12, found 0"},
    {LLAMA "\"rope_scaling\": {\"type\": \"linear\"}}",
     "rope_scaling.factor: expected a number in 1..1e+06, found nothing"},
    {LLAMA "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0.5}}",
     "rope_scaling.factor: expected a number in 1..1e+06, found 0.5"},
    {LLAMA "\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8, "
     "\"low_freq_factor\": 4, \"high_freq_factor\": 4}}",
     "rope_parameters.high_freq_factor: expected more than low_freq_factor, "
     "found 4"},
    {LLAMA "\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8, "
     "\"high_freq_factor\": 4}}", "rope_parameters.low_freq_factor: expected "
     "a number in 1e-06..1e+06, found nothing"},
    {LLAMA "\"original_max_position_embeddings\": null, \"rope_scaling\": "
     "{\"type\": \"yarn\", \"factor\": 4}}",
     "original_max_position_embeddings: expected an integer in 1..1073741824, "
     "found nothing"},
    {LLAMA "\"rms_norm_eps\": NaN}",
     "rms_norm_eps: expected a number in 0..1, found nan"},
    {LLAMA "\"rope_theta\": 1e999}",
     "rope_theta: expected a number in 1.0001..1e+12, found inf"},
    {LLAMA "\"hidden_size\": -Infinity}",
     "hidden_size: expected an integer in 1..1048576, found -inf"},
};

/* Claim: what we do not compute is refused by field name and value. */
static void test_refusals(void) {
    gm_arena arena = {0};
    gm_config c;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        char expected[400];
        snprintf(expected, sizeof expected, "%s/config.json: %s", scratch_dir,
                 refusals[i][1]);
        CHECK(read_config(&arena, refusals[i][0], &c) == GM_EINPUT,
              "%s", refusals[i][0]);
        CHECK_TEXT(err.text, expected);
    }
    gm_arena_free(&arena);
}

/* ------------------------------------------------------------- checkpoints */

/* A copy of tests/golden/`name` in which config.json has `from` replaced by
   `to`; the model must be refused with `message`. */
static void refuse_model(const char *name, const char *from, const char *to,
                         const char *message) {
    gm_arena arena = {0};
    gm_model model;
    char path[100], file[100], text[4096] = "", *at;
    snprintf(path, sizeof path, "tests/golden/%s/config.json", name);
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = 0;
    if (f) fclose(f);
    CHECK((at = strstr(text, from)) != NULL, "%s has %s", path, from);
    snprintf(file, sizeof file, "%s/config.json", scratch_dir);
    if (at && (f = fopen(file, "w"))) {
        fprintf(f, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
        fclose(f);
    }
    snprintf(path, sizeof path, "tests/golden/%s/model.safetensors", name);
    snprintf(file, sizeof file, "%s/model.safetensors", scratch_dir);
    MUST(STATUS(gm_copy_file(&arena, path, file)));
    CHECK(STATUS(gm_model_open(&arena, scratch_dir, &model)) == GM_EINPUT,
          "%s with %s", name, to);
    CHECK_TEXT(err.text, message);
    gm_arena_free(&arena);
}

/* A checkpoint of one tensor of the wrong type. */
static void refuse_type(void) {
    static const gm_tensor tensor = {
        .name = "model.embed_tokens.weight", .dtype = GM_I32, .rank = 2,
        .shape = {2, 2}, .bytes = 16
    };
    static const uint8_t zeros[16];
    gm_arena arena = {0};
    gm_model model;
    gm_config c;
    gm_out out;
    char file[100];
    snprintf(file, sizeof file, "%s/model.safetensors", scratch_dir);
    MUST(read_config(&arena, LLAMA "\"vocab_size\": 2, \"hidden_size\": 2, "
                     "\"num_attention_heads\": 1}", &c));
    MUST(STATUS(gm_safetensors_begin(&arena, file, &tensor, 1, NULL, 0, &out)));
    MUST(STATUS(gm_out_write(&out, zeros, sizeof zeros)));
    MUST(STATUS(gm_out_commit(&out)));
    CHECK(STATUS(gm_model_open(&arena, scratch_dir, &model)) == GM_EINPUT,
          "integers");
    CHECK_TEXT(err.text, "model.embed_tokens.weight: expected F32, F16, BF16 "
               "or F64, found I32 in build/test/model/model.safetensors: "
               "weights that are " ALREADY);
    gm_arena_free(&arena);
}

/* Claim: a checkpoint that is not the model its config.json describes is
   refused with tensor, expected and found shape, and file. */
static void test_checkpoints(void) {
    refuse_model("tiny-llama", "\"intermediate_size\": 80",
                 "\"intermediate_size\": 81",
                 "model.layers.0.mlp.gate_proj.weight: expected [81, 48], "
                 "found [80, 48] in build/test/model/model.safetensors");
    refuse_model("tiny-llama", "\"vocab_size\": 64", "\"vocab_size\": 65",
                 "model.embed_tokens.weight: expected [65, 48], found "
                 "[64, 48] in build/test/model/model.safetensors");
    refuse_model("tiny-llama", "\"num_hidden_layers\": 2",
                 "\"num_hidden_layers\": 3", "build/test/model: tensor "
                 "model.layers.2.self_attn.q_proj.weight is missing");
    refuse_model("tiny-llama", "\"num_hidden_layers\": 2",
                 "\"num_hidden_layers\": 1", "build/test/model: tensor "
                 "model.layers.1.self_attn.q_proj.weight is there, but "
                 "config.json says num_hidden_layers 1");
    refuse_model("tiny-llama", "\"attention_bias\": false",
                 "\"attention_bias\": true", "build/test/model: tensor "
                 "model.layers.0.self_attn.q_proj.bias is missing");
    refuse_model("tiny-bias", "\"attention_bias\": true",
                 "\"attention_bias\": false", "build/test/model: tensor "
                 "model.layers.0.self_attn.q_proj.bias is there, but not in "
                 "the model that config.json describes");
    refuse_model("tiny-bias", "\"tie_word_embeddings\": true",
                 "\"tie_word_embeddings\": false",
                 "build/test/model: tensor lm_head.weight is missing");
    refuse_type();
}

/* ------------------------------------------------------- full-width layers */

/* The parameters of tools/golden_model.py's FULL. */
static void fill_block(const gm_config *c, uint64_t seed, gm_block *b) {
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        fill(seed, (uint64_t)j, 0, (j <= GM_K ? 0.03 : 0.02) * sqrt(12),
             b->w[j], out * in);
    }
    fill(seed, 7, 0.5, 0.1 * sqrt(12), b->norm1, c->d);
    fill(seed, 8, 0.5, 0.1 * sqrt(12), b->norm2, c->d);
    if (c->qk_norm) {
        fill(seed, 9, 1.5, 0.2 * sqrt(12), b->q_norm, c->head_dim);
        fill(seed, 10, 1.5, 0.2 * sqrt(12), b->k_norm, c->head_dim);
    }
}

/* Claim: one decoder layer of a real model's width, tokens at positions up to
   2000, gives transformers' numbers. */
static void test_full(const char *name, const char *json, uint64_t seed) {
    static const char path[] = "tests/golden/full.vec";
    gm_vec at = vec_read(path, "positions");
    int32_t position[16];
    gm_arena arena = {0};
    gm_config c;
    gm_block block;
    gm_acts acts;
    gm_real found[1024];
    CHECK(at.count == 16, "16 positions");
    for (int t = 0; t < 16; t++) position[t] = (int32_t)at.i[t];
    MUST(read_config(&arena, json, &c));
    MUST(STATUS(gm_block_alloc(&arena, &c, &block)));
    MUST(STATUS(gm_acts_alloc(&arena, &c, 1, 16, false, &acts)));
    gm_rope_angles(&c, 16, position, acts.cos, acts.sin);
    gm_real *h = room(&arena, 16 * c.d);
    fill_block(&c, seed, &block);
    fill(seed, 11, 0, 2, h, 16 * c.d);
    gm_block_forward(&acts, &block, h, h);
    for (uint64_t i = 0; i < 1024; i++)
        found[i] = h[gm_random(seed, 12, i) % (uint64_t)(16 * c.d)];
    compare(path, name, found);
    vec_free(&at);
    gm_arena_free(&arena);
}

static void test_full_width(void) {
    test_full("llama31", LLAMA "\"hidden_size\": 4096, "
              "\"intermediate_size\": 14336, \"num_key_value_heads\": 8, "
              "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-5, "
              "\"rope_theta\": 500000.0, \"rope_scaling\": {\"factor\": 8.0, "
              "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
              "\"original_max_position_embeddings\": 8192, "
              "\"rope_type\": \"llama3\"}}", 31);
    test_full("qwen3", QWEN3 "\"hidden_size\": 4096, "
              "\"intermediate_size\": 12288, \"num_key_value_heads\": 8, "
              "\"max_position_embeddings\": 40960, \"rms_norm_eps\": 1e-6, "
              "\"rope_theta\": 1000000}", 38);
}

static int test_main(void) {
    static const char *const models[] = {"tiny-llama", "tiny-bias",
                                         "tiny-qwen2", "tiny-qwen3",
                                         "tiny-mistral", "tiny-phi3"};
    gm_isa_use(gm_isa_best());
    MUST(STATUS(gm_make_dir(scratch_dir)));
    test_config();
    test_unused_windows();
    test_limits();
    test_families();
    test_refusals();
    test_checkpoints();
    test_rope();
    test_embed();
    for (uint64_t i = 0; i < sizeof models / sizeof *models; i++) {
        test_whole(models[i], NULL);
        test_gradient(models[i], i);
        test_forward_properties(models[i]);
        test_backward_properties(models[i]);
    }
    test_whole("tiny-llama", "rope-linear");
    test_whole("tiny-llama", "rope-yarn");
    test_full_width();
    return test_end("test_model");
}

TEST_MAIN(test_main())
