/* test_eval.c: perplexity, KL divergence and top-1 agreement against their
   definitions written out in double on the same logits; batching of windows
   changes nothing; exports hold what they should.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats/formats.h"
#include "rivals/rivals.h"
#include "test.h"
#include "vec.h"

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { WINDOWS = 3, WINDOW = 70 };
static const char work[] = "build/test/eval-work";

typedef struct {
    gm_arena arena;
    gm_model model;
    gm_candidates candidates;
    gm_head head;
    gm_sequences text;
    int *choice;
    long M;
    gm_real *original, *student;
} fixture;

static void fixture_begin(fixture *f, const char *dir, const char *bits) {
    gm_recipe recipe;
    memset(f, 0, sizeof *f);
    gm_arena *a = &f->arena;
    gm_status s = STATUS(gm_model_open(a, dir, &f->model));
    if (!s) s = STATUS(gm_recipe_parse(bits, 32, &recipe));
    if (!s) s = STATUS(gm_candidates_open(a, &f->model, &recipe, NULL, work, NULL,
                                   &f->candidates));
    if (!s) s = STATUS(gm_head_load(a, &f->model, &f->head));
    CHECK(s == GM_OK, "%s: %s", dir, err.text);
    if (s) exit(test_end("test_eval"));
    f->M = f->model.config.layers * GM_LINEARS;
    f->choice = gm_alloc(a, (size_t)f->M, sizeof *f->choice);
    for (long m = 0; m < f->M; m++) f->choice[m] = (int)(m % recipe.count);
    int32_t *tokens = gm_alloc(a, WINDOWS * WINDOW, sizeof *tokens);
    for (int i = 0; i < WINDOWS * WINDOW; i++)
        tokens[i] = (int32_t)(gm_random(9, 0, (uint64_t)i) %
                              (uint64_t)f->model.config.vocab);
    f->text = (gm_sequences){tokens, WINDOWS, WINDOW};
    size_t n = (size_t)(WINDOWS * WINDOW * f->model.config.d);
    f->original = gm_alloc(a, n, sizeof *f->original);
    f->student = gm_alloc(a, n, sizeof *f->student);
    s = STATUS(gm_final_states(a, &f->model, NULL, NULL, &f->text, NULL, f->original));
    if (!s) s = STATUS(gm_final_states(a, &f->model, &f->candidates, f->choice,
                                &f->text, NULL, f->student));
    CHECK(s == GM_OK, "%s: %s", dir, err.text);
}

static void fixture_end(fixture *f) {
    gm_candidates_close(&f->candidates);
    gm_model_close(&f->model);
    gm_arena_free(&f->arena);
}

/* log softmax of one row of logits, all in double with libm. */
static void log_softmax(const gm_real *x, long n, double *out) {
    double sum = 0;
    for (long i = 0; i < n; i++) sum += exp((double)x[i]);
    for (long i = 0; i < n; i++) out[i] = (double)x[i] - log(sum);
}

static void equals_definition(const char *dir) {
    fixture f;
    fixture_begin(&f, dir, "2,4,8");
    const long V = f.head.vocab, R = WINDOWS * WINDOW;
    gm_arena *a = &f.arena;
    gm_real *s = gm_alloc(a, (size_t)(R * V), sizeof *s);
    gm_real *t = gm_alloc(a, (size_t)(R * V), sizeof *t);
    gm_real *scratch = gm_alloc(a, (size_t)(R * f.head.d), sizeof *scratch);
    double *q = gm_alloc(a, (size_t)V, sizeof *q);
    double *p = gm_alloc(a, (size_t)V, sizeof *p);
    gm_head_forward(&f.head, f.student, R, scratch, s);
    gm_head_forward(&f.head, f.original, R, scratch, t);
    double nll = 0, kl = 0, same = 0;
    for (long r = 0; r < R; r++) {
        if (r % WINDOW == WINDOW - 1) continue;     /* predicts nothing */
        long best_s = 0, best_t = 0;
        log_softmax(s + r * V, V, q);
        log_softmax(t + r * V, V, p);
        nll -= q[f.text.tokens[r + 1]];
        for (long i = 0; i < V; i++) {
            kl += exp(p[i]) * (p[i] - q[i]);
            if (q[i] > q[best_s]) best_s = i;
            if (p[i] > p[best_t]) best_t = i;
        }
        same += best_s == best_t;
    }
    const double n = WINDOWS * (WINDOW - 1);
    gm_measure m;
    CHECK(STATUS(gm_evaluate(a, &f.head, &f.text, NULL, f.student, f.original, NULL, &m)) == GM_OK, "%s", err.text);
    CHECK(m.predicted == (long)n, "predicted %ld", m.predicted);
    /* logits below 20: gm_exp is good to 1e-7, so is the log of its sum */
    CHECK(fabs(m.nll - nll / n) < 1e-6, "%s: nll %.9g, by definition %.9g", dir,
          m.nll, nll / n);
    CHECK(fabs(m.kl - kl / n) < 1e-6, "%s: kl %.9g, by definition %.9g", dir,
          m.kl, kl / n);
    CHECK(fabs(m.top1 - same / n) < 1e-12, "%s: top-1 %.9g, by definition %.9g",
          dir, m.top1, same / n);
    CHECK(fabs(m.perplexity - exp(nll / n)) < 1e-5 * m.perplexity,
          "%s: perplexity %.9g", dir, m.perplexity);
    CHECK(m.kl > 0, "quantization was seen: kl %g", m.kl);
    /* errors from the window means, by definition */
    double mean = 0, squares = 0;
    for (int i = 0; i < WINDOWS; i++) mean += m.window_nll[i] / WINDOWS;
    for (int i = 0; i < WINDOWS; i++) squares += pow(m.window_nll[i] - mean, 2);
    CHECK(fabs(m.nll_error - sqrt(squares / (WINDOWS - 1) / WINDOWS)) < 1e-12,
          "standard error %g", m.nll_error);
    squares = 0;
    for (int i = 0; i < WINDOWS; i++)
        squares += pow(m.window_top1[i] - m.top1, 2);
    CHECK(fabs(m.top1_error - sqrt(squares / (WINDOWS - 1) / WINDOWS)) < 1e-12
          && m.top1_error > 0, "standard error of top-1 %g", m.top1_error);
    /* the original against itself */
    CHECK(STATUS(gm_evaluate(a, &f.head, &f.text, NULL, f.original, f.original, NULL, &m)) == GM_OK, "%s", err.text);
    CHECK(fabs(m.kl) < 1e-6 && m.top1 == 1, "self: kl %g, top-1 %g", m.kl,
          m.top1);
    fixture_end(&f);
}

/* The trained models on real text, tokenizer included, against transformers.
   The mean over 2,040 tokens of NLLs that two float32 programs compute with
   errors below 1e-5 each. */
static void perplexity_of_transformers(const char *name) {
    gm_arena a = {0};
    gm_model model;
    gm_head head;
    gm_tokenizer *tokenizer;
    const char *all = NULL;
    size_t bytes = 0;
    gm_measure m = {0};
    int32_t *tokens = NULL;
    long count = 0;
    char dir[64];
    snprintf(dir, sizeof dir, "data/tiny-%s", name);
    gm_vec nll = vec_read("tests/golden/perplexity.vec", name);
    gm_status s = STATUS(gm_model_open(&a, dir, &model));
    if (!s) s = STATUS(gm_head_load(&a, &model, &head));
    if (!s) s = STATUS(tokenizer = gm_tokenizer_open(&a, dir));
    if (!s) s = STATUS(all = gm_file_text(&a, "data/test.txt", &bytes));
    if (!s) s = STATUS(tokens = gm_tokenize(tokenizer, &a, dir, all, bytes, &count));
    CHECK(s == GM_OK && count >= 8 * 256, "%s: %s", dir, err.text);
    if (s) return;
    gm_sequences text = {tokens, 8, 256};
    gm_real *h = gm_alloc(&a, (size_t)(8 * 256 * model.config.d), sizeof *h);
    s = STATUS(gm_final_states(&a, &model, NULL, NULL, &text, NULL, h));
    if (!s) s = STATUS(gm_evaluate(&a, &head, &text, NULL, h, NULL, NULL, &m));
    CHECK(s == GM_OK && fabs(m.nll - nll.f[0]) < 1e-5, "%s: nll %.9g, by "
          "transformers %.9g", dir, m.nll, nll.f[0]);
    vec_free(&nll);
    gm_model_close(&model);
    gm_arena_free(&a);
}

/* States of window 2 alone equal those of window 2 among three. */
static void windows_are_apart(void) {
    fixture f;
    fixture_begin(&f, "tests/golden/tiny-qwen3", "2,4,8");
    gm_sequences one = {f.text.tokens + WINDOW, 1, WINDOW};
    long n = WINDOW * f.model.config.d;
    CHECK(STATUS(gm_final_states(&f.arena, &f.model, &f.candidates, f.choice, &one,
                          NULL, f.original)) == GM_OK, "%s", err.text);
    CHECK(memcmp(f.original, f.student + n, (size_t)n * sizeof(gm_real)) == 0,
          "a window depends on its neighbours");
    fixture_end(&f);
}

static const uint8_t *bytes_of(gm_arena *arena, const gm_tensor *t) {
    uint8_t *bytes = gm_alloc(arena, t->bytes, 1);
    gm_tensor_bytes(t, 0, t->bytes, bytes);
    return bytes;
}

static long file_bytes(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 ? (long)s.st_size : -1;
}

/* Packed file: its size is overhead + sum s_mk, to the byte, for assignments
   of all kinds; its parts are the candidates'. */
static void packed_size(const char *dir, const char *bits) {
    fixture f;
    gm_scores table;
    const char path[] = "build/test/eval-work/packed.safetensors";
    fixture_begin(&f, dir, bits);
    gm_status s = STATUS(gm_module_table(&f.arena, &f.model, &f.candidates.recipe,
                                  &table));
    CHECK(s == GM_OK, "%s", err.text);
    table.overhead = gm_packed_overhead(&f.arena, &f.model,
                                        &f.candidates.recipe);
    for (int kind = 0; kind < 6; kind++) {
        for (long m = 0; m < f.M; m++)
            f.choice[m] = kind < f.candidates.recipe.count ? kind
                          : (int)(gm_random(4, (uint64_t)kind, (uint64_t)m) %
                                  (uint64_t)f.candidates.recipe.count);
        s = STATUS(gm_export_packed(&f.arena, &f.candidates, f.choice, path,
                             NULL));
        CHECK(s == GM_OK, "%s", err.text);
        gm_sizes z = gm_sizes_of(&table, f.choice);
        CHECK(z.file_bytes == file_bytes(path), "%s: stated %lld bytes, file "
              "has %ld", dir, (long long)z.file_bytes, file_bytes(path));
    }
    gm_tensors t;
    gm_packed p;
    s = STATUS(gm_safetensors_open(&f.arena, path, &t));
    CHECK(s == GM_OK, "%s", err.text);
    if (!s && !STATUS(p = gm_candidate(&f.arena, &f.candidates, 0, GM_V, f.choice[GM_V])) &&
        !p.original) {
        const gm_tensor *codes =
            gm_tensor_find(&t, "model.layers.0.self_attn.v_proj.codes");
        CHECK(codes && codes->shape[0] == p.out &&
              memcmp(bytes_of(&f.arena, codes), p.codes, codes->bytes) == 0,
              "codes differ");
    }
    gm_tensors_close(&t);
    fixture_end(&f);
}

/* A written Hugging Face directory, read back, is the dequantized model: the
   weights stored in BF16 or F16 are the candidates rounded to that type. */
static void directory_round_trip(const char *dir) {
    fixture f;
    gm_model written;
    const char to[] = "build/test/eval-work/hf";
    fixture_begin(&f, dir, "2,4,8");
    gm_status s = STATUS(gm_export_dequantized(&f.arena, &f.candidates,
                                        f.choice, to, NULL));
    if (!s) s = STATUS(gm_model_open(&f.arena, to, &written));
    CHECK(s == GM_OK, "%s: %s", dir, err.text);
    if (s) return;
    long wrong = 0, others = 0;
    for (long m = 0; m < f.M; m++) {
        const gm_tensor *w = gm_linear_tensor(&written, m / 7, (int)(m % 7));
        long n = w->shape[0] * w->shape[1];
        gm_real *q = gm_alloc(&f.arena, (size_t)n, sizeof *q);
        uint8_t *stored = gm_alloc(&f.arena, w->bytes, 1);
        gm_packed p;
        s = STATUS(p = gm_candidate(&f.arena, &f.candidates, m / 7, (int)(m % 7), f.choice[m]));
        if (!s) s = STATUS(gm_dequantize(&p, q));
        gm_store(w->dtype, q, n, stored);
        wrong += s || memcmp(stored, bytes_of(&f.arena, w), w->bytes) != 0;
    }
    CHECK(wrong == 0, "%s: %ld modules differ", dir, wrong);
    for (long i = 0; i < f.model.tensors.count; i++) {
        const gm_tensor *a = f.model.tensors.tensor + i;
        const gm_tensor *b = gm_tensor_find(&written.tensors, a->name);
        bool same = b && a->bytes == b->bytes &&
                    memcmp(bytes_of(&f.arena, a), bytes_of(&f.arena, b),
                           a->bytes) == 0;
        others += !same;
    }
    CHECK(others == f.M, "%s: %ld tensors changed, %ld modules", dir, others,
          f.M);
    gm_model_close(&written);
    s = STATUS(gm_export_dequantized(&f.arena, &f.candidates, f.choice, dir,
                              NULL));
    CHECK(s == GM_EUSAGE, "writing over the input must be refused");
    char expected[256];
    snprintf(expected, sizeof expected, "%s: the output directory is the "
             "model's own; expected another", dir);
    CHECK_TEXT(err.text, expected);
    fixture_end(&f);
}

/* What was written of tiny-phi3 has its tensors: names, types, shapes, order. */
static void stored_joined(void) {
    gm_arena a = {0};
    gm_tensors from, to;
    STATUS(gm_checkpoint_open(&a, "tests/golden/tiny-phi3", &from));
    STATUS(gm_checkpoint_open(&a, "build/test/eval-work/hf", &to));
    CHECK(from.count == 15 && to.count == 15, "%ld tensors", to.count);
    for (long i = 0; i < gm_min(from.count, to.count); i++) {
        const gm_tensor *x = from.tensor + i, *y = to.tensor + i;
        CHECK(strcmp(x->name, y->name) == 0 && x->dtype == y->dtype &&
              strcmp(gm_shape_of(x).text, gm_shape_of(y).text) == 0 &&
              strcmp(gm_base_name(x->path), gm_base_name(y->path)) == 0,
              "%s %s became %s %s", x->name, gm_shape_of(x).text, y->name,
              gm_shape_of(y).text);
    }
    gm_tensors_close(&from);
    gm_tensors_close(&to);
    gm_arena_free(&a);
}

static int test_main(void) {
    STATUS(gm_make_dir(work));
    equals_definition("tests/golden/tiny-llama");
    equals_definition("tests/golden/tiny-qwen2");
    equals_definition("tests/golden/tiny-qwen3");
    equals_definition("tests/golden/tiny-phi3");
    perplexity_of_transformers("llama");
    perplexity_of_transformers("qwen2");
    perplexity_of_transformers("qwen3");
    windows_are_apart();
    packed_size("tests/golden/tiny-llama", "1,2,3,4,5,8");
    packed_size("tests/golden/tiny-qwen2", "2,3,4");
    packed_size("tests/golden/tiny-phi3", "2,3,16");
    directory_round_trip("tests/golden/tiny-qwen2");
    directory_round_trip("tests/golden/tiny-qwen3");
    directory_round_trip("tests/golden/tiny-phi3");
    stored_joined();
    return test_end("test_eval");
}

TEST_MAIN(test_main())
