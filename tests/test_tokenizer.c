/* test_tokenizer.c: token ids equal those of the `tokenizers` library for each
   kind of tokenizer.json that is accepted; every other kind is refused with
   its message; broken files and texts never crash.  Writes only below
   build/test/.  Golden data: tools/golden_tokenizer.py.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "lib/unicode.h"

#include <unistd.h>

#include "tests/test.h"
#include "tests/vec.h"

#define GOLDEN "tests/golden/tokenizer"
#define VEC GOLDEN ".vec"
#define SCRATCH "build/test/tokenizer"

static const char *const names[] = {"gpt2", "smollm2", "llama3", "qwen2",
                                    "mixed", "llama2", "mistral"};
enum { NAMES = 7 };

/* A growing text. */
struct text { char *data; size_t n, room; };

static void add(struct text *t, const char *data, size_t n) {
    if (!t->data || t->n + n > t->room) {
        t->room = 2 * (t->n + n) + 1;
        t->data = realloc(t->data, t->room);
    }
    memcpy(t->data + t->n, data, n);
    t->n += n;
}

/* The pieces of `pattern` between '#', with the code point at each '#'. */
static void add_around(struct text *t, const char *pattern, uint32_t point) {
    char bytes[4];
    int n = gm_utf8_put(point, bytes);
    for (; *pattern; pattern++)
        if (*pattern == '#') add(t, bytes, (size_t)n);
        else add(t, pattern, 1);
}

/* FNV-1a over the ids as little-endian 32-bit integers, 62 bits of it. */
static int64_t fold(const int32_t *id, long n) {
    uint64_t h = 0xCBF29CE484222325u;
    for (long i = 0; i < n; i++)
        for (int b = 0; b < 32; b += 8)
            h = (h ^ ((uint32_t)id[i] >> b & 0xFF)) * 0x100000001B3u;
    return (int64_t)(h & 0x3FFFFFFFFFFFFFFFu);
}

/* gm_tokenize of a copy that has no readable byte before or after it. */
static gm_status tokenize(const gm_tokenizer *t, gm_arena *arena,
                          const char *text, size_t n, int32_t **id,
                          long *count) {
    char *copy = malloc(n ? n : 1);
    if (n) memcpy(copy, text, n);
    gm_status status = STATUS(*id = gm_tokenize(t, arena, "text", copy, n,
                                                count));
    free(copy);
    return status;
}

static char *record_name(const char *name, const char *what) {
    static char text[64];
    snprintf(text, sizeof text, "%s.%s", name, what);
    return text;
}

/* One text against the recorded count and fold of its ids. */
static void check_fold(const gm_tokenizer *t, const char *name,
                       const char *what, const char *text, size_t bytes) {
    gm_vec v = vec_read(VEC, record_name(name, what));
    gm_arena arena = {0};
    int32_t *id = NULL;
    long n = -1;
    gm_status status = STATUS(id = gm_tokenize(t, &arena, "text", text, bytes,
                                               &n));
    CHECK(status == GM_OK, "%s %s: %s", name, what, err.text);
    CHECK(n == v.i[0] && fold(id, n) == v.i[1],
          "%s %s: %ld ids, expected %ld, or others", name, what, n,
          (long)v.i[0]);
    vec_free(&v);
    gm_arena_free(&arena);
}

/* A short line against all of its ids. */
static void check_line(const gm_tokenizer *t, const char *name,
                       const char *what, const char *text) {
    gm_vec v = vec_read(VEC, record_name(name, what));
    gm_arena arena = {0};
    int32_t *id = NULL;
    long n = -1;
    gm_status status = STATUS(id = gm_tokenize(t, &arena, "text", text,
                                               strlen(text), &n));
    CHECK(status == GM_OK && n == v.count, "%s %s: %ld ids, expected %ld %s",
          name, what, n, v.count, err.text);
    for (long i = 0; i < n && i < v.count; i++)
        CHECK(id[i] == v.i[i], "%s %s: id %ld is %d, expected %ld", name,
              what, i, id[i], (long)v.i[i]);
    vec_free(&v);
    gm_arena_free(&arena);
}

static void check_cases(const gm_tokenizer *t, const char *name) {
    gm_arena arena = {0};
    const gm_json *cases = NULL;
    gm_status status = STATUS(cases = gm_json_read(&arena, GOLDEN
                                                   "-cases.json", false));
    CHECK(status == GM_OK, "%s", err.text);
    if (status != GM_OK) return;
    gm_vec counts = vec_read(VEC, record_name(name, "counts"));
    gm_vec folds = vec_read(VEC, record_name(name, "folds"));
    CHECK((long)cases->length == counts.count, "%zu strings, %ld counts",
          cases->length, counts.count);
    long i = 0;
    for (const gm_json *c = cases->child; c; c = c->next, i++) {
        int32_t *id = NULL;
        long n = -1;
        status = tokenize(t, &arena, c->string, c->length, &id, &n);
        CHECK(status == GM_OK && n == counts.i[i] &&
              fold(id, n) == folds.i[i], "%s: case %ld \"%s\": %ld ids, "
              "expected %ld, or others", name, i, c->string, n,
              (long)counts.i[i]);
    }
    vec_free(&counts), vec_free(&folds);
    gm_arena_free(&arena);
}

/* The characters on both sides of every boundary of every class in the compiled
   table (the library's own table has the same: else the text is another), and
   everything that canonical composition touches, in surroundings that show the
   class in the ids. */
static void check_sweeps(const gm_tokenizer *t, const char *name) {
    gm_vec nfc = vec_read(VEC, "nfc");
    struct text a = {0}, b = {0};
    long done = -1, rows = sizeof class_ranges / sizeof *class_ranges;
    for (long i = 0; i < 4 * rows; i++) {
        const long point = class_ranges[i / 4][i % 4 / 2] + (i % 4 == 3) -
                           (i % 4 == 0);
        if (point <= done || point >= 0x110000 ||
            (point >= 0xD800 && point < 0xE000))
            continue;
        add_around(&a, "a#1#!#<w>#<b>#", (uint32_t)point);
        done = point;
    }
    for (long i = 0; i < nfc.count; i++)
        add_around(&b, "a#\xCC\xA3#\xCC\x81", (uint32_t)nfc.i[i]);
    check_fold(t, name, "sweep", a.data, a.n);
    check_fold(t, name, "nfc", b.data, b.n);
    free(a.data), free(b.data);
    vec_free(&nfc);
}

/* One word of 100,000 letters, one character with 15,000 marks: quadratic
   time would not pass unnoticed under the sanitizers. */
static void check_long(const gm_tokenizer *t, const char *name) {
    struct text word = {0}, marks = {0};
    uint32_t x = 1;
    for (int i = 0; i < 100000; i++) {
        x = (x * 1103515245u + 12345u) & 0x7FFFFFFF;
        add(&word, &"abcdefghijklmnopqrstuvwxyz"[(x >> 16) % 26], 1);
    }
    add(&marks, "a", 1);
    for (int i = 0; i < 5000; i++) add(&marks, "\xCC\x81\xCC\xA3\xCD\x85", 6);
    check_fold(t, name, "word", word.data, word.n);
    check_fold(t, name, "marks", marks.data, marks.n);
    free(word.data), free(marks.data);
}

/* The ids of tokenizer `name` are those of the library. */
static void test_golden(const char *name) {
    gm_arena arena = {0};
    gm_tokenizer *t;
    const char *text = NULL;
    size_t bytes = 0;
    char dir[64];
    snprintf(dir, sizeof dir, GOLDEN "-%s", name);
    gm_status status = STATUS(t = gm_tokenizer_open(&arena, dir));
    CHECK(status == GM_OK, "%s", err.text);
    if (status != GM_OK) return;
    check_line(t, name, "hello", "Hello, world! How's it going?");
    check_line(t, name, "prices", "In 2024, 1,234,567 units cost $89.");
    check_line(t, name, "space", "  two\n\n three \r\n\tfour   ");
    check_line(t, name, "special",
               "a <l> b<|endoftext|>c<|a|>bc caf\xC3\xA9");
    check_cases(t, name);
    check_sweeps(t, name);
    check_long(t, name);
    status = STATUS(text = gm_file_text(&arena, GOLDEN "-text.txt",
                                       &bytes));
    CHECK(status == GM_OK, "%s", err.text);
    check_fold(t, name, "text", text, bytes);
    gm_arena_free(&arena);
}

/* --------------------------------------------------------- refused files */

static const char base[] =
    "{\"version\":\"1.0\",\"truncation\":{\"max_length\":3},\"added_tokens\":["
    "{\"id\":3,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,"
    "\"rstrip\":true,\"normalized\":false,\"special\":true},"
    "{\"id\":1,\"content\":\"b\",\"single_word\":true,\"lstrip\":false,"
    "\"rstrip\":false,\"normalized\":true,\"special\":false}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
    "{\"type\":\"NFC\"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
    "{\"type\":\"Digits\",\"individual_digits\":true},"
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"'s|'t|'re|'ve|'m|'ll|'d"
    "| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)"
    "|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
    "\"trim_offsets\":true,\"use_regex\":true}]},\"post_processor\":null,"
    "\"model\":{\"type\":\"BPE\",\"dropout\":0.0,\"unk_token\":null,"
    "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":\"\","
    "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":true,"
    "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"#version: 1\","
    "\"a b\",[\"a\",\"b\"]]}}";

#define HINT "; token ids made elsewhere: --tokens FILE.npy"
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true},"
#define FOUR DIGITS DIGITS DIGITS DIGITS
static const struct { const char *from, *to, *message; } refused[] = {
    {"\"1.0\"", "\"1.1\"", "version: \"1.1\", expected 1.0"},
    {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}",
     "{\"type\":\"NFKC\"}",
     "normalizer.type: \"NFKC\", expected null, NFC, Prepend, Replace or a "
     "Sequence of them"},
    {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}",
     "\"NFC\"",
     "normalizer.type: \"NFC\", expected null, NFC, Prepend, Replace or a "
     "Sequence of them"},
    {"\"normalizers\":[{\"type\":\"NFC\"}]",
     "\"normalizers\":3",
     "normalizer.normalizers: 3, expected an array"},
    {"[{\"type\":\"NFC\"}]",
     "[{\"type\":\"Lowercase\"}]",
     "normalizer.type: \"Lowercase\", expected null, NFC, Prepend, Replace or "
     "a Sequence of them"},
    {"[{\"type\":\"NFC\"}]",
     "[{\"type\":\"Prepend\"}]",
     "normalizer.prepend: nothing, expected a string without \\u0000"},
    {"[{\"type\":\"NFC\"}]",
     "[{\"type\":\"Replace\",\"content\":\"\",\"pattern\":\"a\"}]",
     "normalizer.pattern: \"a\", expected {\"Regex\": text} or {\"String\": "
     "text}"},
    {"[{\"type\":\"NFC\"}]",
     "[{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"String\":\"b"
     "\"}}]",
     "added_tokens: nothing is left of \"b\" when normalized"},
    {"[{\"type\":\"NFC\"}]",
     "[{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"Regex\":\"a*"
     "\"}}]",
     "normalizer.pattern: expected a character at least where it matches, found "
     "none"},
    {"\"type\":\"ByteLevel\"",
     "\"type\":\"Whitespace\"",
     "pre_tokenizer.type: \"Whitespace\", expected null, ByteLevel, "
     "Metaspace, Split, Digits, Punctuation or a Sequence of them"},
    {"{\"type\":\"Digits\",\"individual_digits\":true},",
     FOUR FOUR FOUR FOUR FOUR FOUR FOUR FOUR,
     "more than 32 normalizers and pre-tokenizers"},
    {"\"type\":\"Digits\"",
     "\"type\":\"Metaspace\"",
     "pre_tokenizer.replacement: nothing, expected a string without \\u0000"},
    {"\"type\":\"Digits\"",
     "\"type\":\"Metaspace\",\"replacement\":\"ab\"",
     "pre_tokenizer.replacement: \"ab\", expected one character"},
    {"\"type\":\"Digits\"",
     "\"type\":\"Metaspace\",\"replacement\":\"a\",\"prepend_scheme\":\"last"
     "\"",
     "pre_tokenizer.prepend_scheme: \"last\", expected always, first or "
     "never"},
    {"\"type\":\"Digits\"",
     "\"type\":\"Metaspace\",\"replacement\":\"a\",\"prepend_scheme\":"
     "\"first\",\"add_prefix_space\":false",
     "pre_tokenizer.prepend_scheme: \"first\", expected never, with "
     "add_prefix_space false"},
    {"\"type\":\"Digits\"", "\"type\":\"Metaspace\",\"replacement\":\"a\","
     "\"add_prefix_space\":false", "pre_tokenizer.prepend_scheme: nothing, "
     "expected never, with add_prefix_space false"},
    {"\"type\":\"Digits\"",
     "\"type\":\"Punctuation\",\"behavior\":\"Split\"",
     "pre_tokenizer.behavior: \"Split\", expected Isolated, Removed, "
     "Contiguous, MergedWithPrevious or MergedWithNext"},
    {"\"pretokenizers\"",
     "\"p\"",
     "pre_tokenizer.pretokenizers: nothing, expected an array"},
    {"\"individual_digits\":true",
     "\"individual_digits\":1",
     "pre_tokenizer.individual_digits: 1, expected true or false"},
    {"\"Regex\"",
     "\"Rex\"",
     "pre_tokenizer.pattern: an object, expected {\"Regex\": text} or "
     "{\"String\": text}"},
    {"\"Isolated\"",
     "\"Apart\"",
     "pre_tokenizer.behavior: \"Apart\", expected Isolated, Removed, "
     "Contiguous, MergedWithPrevious or MergedWithNext"},
    {"\"invert\":false",
     "\"invert\":null",
     "pre_tokenizer.invert: null, expected true or false"},
    {"\"add_prefix_space\":false", "\"add_prefix_space\":[]",
     "pre_tokenizer.add_prefix_space: a list, expected true or false"},
    {"\"use_regex\":true", "\"use_regex\":{}",
     "pre_tokenizer.use_regex: an object, expected true or false"},
    {"\"type\":\"BPE\"", "\"type\":\"Unigram\"",
     "model.type: \"Unigram\", expected BPE"},
    {"\"model\"", "\"m\"", "model.vocab: nothing, expected an object"},
    {"\"dropout\":0.0", "\"dropout\":0.25",
     "model.dropout: 0.25, expected null or 0"},
    {"\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":"
     "\"##\"", "model.continuing_subword_prefix: \"##\", expected null or "
     "\"\""},
    {"\"end_of_word_suffix\":\"\"", "\"end_of_word_suffix\":\"</w>\"",
     "model.end_of_word_suffix: \"</w>\", expected null or \"\""},
    {"\"byte_fallback\":false", "\"byte_fallback\":1",
     "model.byte_fallback: 1, expected true or false"},
    {"\"fuse_unk\":false", "\"fuse_unk\":\"no\"",
     "model.fuse_unk: \"no\", expected true or false"},
    {"\"unk_token\":null", "\"unk_token\":3",
     "model.unk_token: 3, expected null or a token"},
    {"\"vocab\":{", "\"v\":{", "model.vocab: nothing, expected an object"},
    {"\"ab\":2", "\"ab\":-1",
     "id of \"ab\": expected an integer from 0 to 2147483646"},
    {"\"ab\":2", "\"ab\":2147483647",
     "id of \"ab\": expected an integer from 0 to 2147483646"},
    {"\"ab\":2", "\"ab\":2.0",
     "id of \"ab\": expected an integer from 0 to 2147483646"},
    {"\"merges\":", "\"m\":", "model.merges: nothing, expected an array"},
    {"\"a b\"", "\"ab\"",
     "model.merges[1]: expected \"a b\" or [\"a\", \"b\"]"},
    {"\"a b\"", "\"a b \"",
     "model.merges[1]: expected \"a b\" or [\"a\", \"b\"]"},
    {"[\"a\",\"b\"]", "[\"a\"]",
     "model.merges[2]: expected \"a b\" or [\"a\", \"b\"]"},
    {"[\"a\",\"b\"]", "[\"a\",1]",
     "model.merges[2]: expected \"a b\" or [\"a\", \"b\"]"},
    {"[\"a\",\"b\"]", "[\"c\",\"b\"]",
     "model.merges[2]: \"c\" is not in model.vocab"},
    {"[\"a\",\"b\"]", "[\"b\",\"a\"]",
     "model.merges[2]: \"ba\" is not in model.vocab"},
    {"\"added_tokens\":[", "\"added_tokens\":3,\"other\":[",
     "added_tokens: 3, expected an array"},
    {"\"id\":3", "\"id\":4", "added_tokens: \"<s>\" has id 4, expected 3 "
     "(the next free one)"},
    {"\"id\":1", "\"id\":7", "added_tokens: \"b\" has id 7, expected 1 "
     "(its id in model.vocab)"},
    {"\"id\":3", "\"id\":null",
     "id of \"<s>\": expected an integer from 0 to 2147483646"},
    {"\"content\":\"b\"", "\"content\":\"\\u0000\"",
     "added_tokens[].content: \"\", expected a string without \\u0000"},
    {"\"id\":1,\"content\":\"b\"", "\"id\":4,\"content\":\"<s>\"",
     "added_tokens: \"<s>\" has id 4, expected 3 (its id where it stands "
     "first)"},
    {"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":true,"
     "\"normalized\":false", "\xC3\xA9\",\"single_word\":false,\"lstrip\":"
     "false,\"rstrip\":true,\"normalized\":true,\"special\":true},{\"id\":4,"
     "\"content\":\"e\xCC\x81\",\"single_word\":false,\"lstrip\":false,"
     "\"rstrip\":true,\"normalized\":true", "added_tokens: ids 3 and 4 are "
     "both \"\xC3\xA9\" when normalized, which of them a text means is open"},
    {"\"rstrip\":true", "\"rstrip\":0",
     "added_tokens[].rstrip: 0, expected true or false"},
    {"\"normalized\":true", "\"n\":true",
     "added_tokens[].normalized: nothing, expected true or false"},
    {"{\"a\":0,\"b\":1", "{\"b\":0,\"b\":1",
     "line 1, column 893: key \"b\" appears twice in one object"},
};

/* A new file each time: some file systems flush one that is truncated. */
static void write_file(const char *path, const char *data, size_t n) {
    unlink(path);
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(data, 1, n, file) == n && fclose(file) == 0,
          "cannot write %s", path);
}

/* Opens SCRATCH/tokenizer.json holding `text`; the message in *err. */
static gm_status open_text(gm_arena *arena, const char *text, size_t n,
                           gm_tokenizer **t) {
    write_file(SCRATCH "/tokenizer.json", text, n);
    return STATUS(*t = gm_tokenizer_open(arena, SCRATCH));
}

/* `base` with the first `from` replaced by `to`. */
static void replaced(struct text *t, const char *from, const char *to) {
    const char *at = strstr(base, from);
    CHECK(at != NULL, "no %s in the base text", from);
    t->n = 0;
    if (!at) return;
    add(t, base, (size_t)(at - base));
    add(t, to, strlen(to));
    at += strlen(from);
    add(t, at, strlen(at));
}

/* Each refusal names the file, the field, what was found and expected. */
static void test_refused(void) {
    struct text t = {0};
    gm_arena arena = {0};
    gm_tokenizer *tokenizer;
    char expected[512];
    gm_status status = open_text(&arena, base, strlen(base), &tokenizer);
    CHECK(status == GM_OK, "%s", err.text);
    replaced(&t, "\"model\":{\"type\":\"BPE\",", "\"model\":{");
    status = open_text(&arena, t.data, t.n, &tokenizer);
    CHECK(status == GM_OK, "without a type: %s", err.text);
    long n;
    replaced(&t, "\"unk_token\":null", "\"unk_token\":\"<unk>\"");
    status = open_text(&arena, t.data, t.n, &tokenizer);
    if (!status)
        status = STATUS(gm_tokenize(tokenizer, &arena, "text", "ab", 2, &n));
    CHECK(status == GM_OK && n == 1, "unk_token is not needed: %s", err.text);
    status = STATUS(gm_tokenize(tokenizer, &arena, "text", "abc", 3, &n));
    CHECK_TEXT(err.text, SCRATCH "/tokenizer.json: model.unk_token is no token "
               "of the vocabulary, and \"c\" has none");
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        replaced(&t, refused[i].from, refused[i].to);
        status = open_text(&arena, t.data, t.n, &tokenizer);
        CHECK(status == GM_EINPUT, "%s gave %d", refused[i].to, status);
        snprintf(expected, sizeof expected, SCRATCH "/tokenizer.json: %s" HINT,
                 refused[i].message);
        CHECK_TEXT(err.text, expected);
    }
    status = STATUS(tokenizer = gm_tokenizer_open(&arena, SCRATCH "/none"));
    CHECK(status == GM_EIO, "%d", status);
    CHECK_TEXT(err.text, SCRATCH "/none/tokenizer.json: cannot open: "
               "No such file or directory" HINT);
    gm_arena_free(&arena);
    free(t.data);
}

/* Small tokenizers with their texts and the ids that the library gives. */
static void test_small(void) {
    gm_arena arena = {0};
    const gm_json *all = NULL;
    gm_status status = STATUS(all = gm_json_read(&arena, GOLDEN
                                                 "-small.json", false));
    long texts = 0;
    CHECK(status == GM_OK, "%s", err.text);
    for (const gm_json *c = all->child; c; c = c->next) {
        const gm_json *json = c->child, *text = json->next->child;
        const gm_json *ids = json->next->next->child;
        gm_tokenizer *t = NULL;
        status = open_text(&arena, json->string, json->length, &t);
        CHECK(status == GM_OK, "%s: %s", json->string, err.text);
        for (; !status && text; text = text->next, ids = ids->next, texts++) {
            int32_t *id = NULL;
            long n = -1, k = 0;
            status = tokenize(t, &arena, text->string, text->length, &id, &n);
            CHECK(status == GM_OK, "%s: %s", text->string, err.text);
            for (const gm_json *e = ids->child; e; e = e->next, k++)
                CHECK(k < n && id[k] == e->integer, "%s \"%s\": id %ld",
                      json->string, text->string, k);
            CHECK(k == n, "%s \"%s\": %ld ids, expected %ld", json->string,
                  text->string, n, k);
        }
    }
    CHECK(texts > 100, "only %ld texts", texts);
    gm_arena_free(&arena);
}

/* The normalizers and pre-tokenizers of the families that people use, with the
   vocabulary of another golden tokenizer, on all strings and the text. */
static void test_families(void) {
    gm_arena arena = {0};
    struct text all = {0}, file = {0};
    const gm_json *rows = NULL, *cases = NULL;
    const char *text = NULL, *whole = NULL;
    size_t bytes;
    long families = 0;
    CHECK(!STATUS(rows = gm_json_read(&arena, GOLDEN "-families.json",
                                      false)) &&
          !STATUS(cases = gm_json_read(&arena, GOLDEN "-cases.json", false)) &&
          !STATUS(text = gm_file_text(&arena, GOLDEN "-text.txt", &bytes)),
          "%s", err.text);
    for (const gm_json *c = cases->child; c; c = c->next) {
        add(&all, c->string, c->length);
        add(&all, "\n", 1);
    }
    add(&all, text, bytes);
    for (const gm_json *c = rows->child; c; c = c->next, families++) {
        const gm_json *from = c->child->next, *steps = from->next;
        const char *name = c->child->string;
        gm_tokenizer *t = NULL;
        int32_t *id = NULL;
        long n = -1;
        char path[64];
        snprintf(path, sizeof path, GOLDEN "-%s/tokenizer.json", from->string);
        CHECK(!STATUS(whole = gm_file_text(&arena, path, &bytes)), "%s",
              err.text);
        const char *old = strstr(whole, "\"normalizer\":");
        const char *rest = strstr(whole, ",\"post_processor\":");
        file.n = 0;
        add(&file, whole, (size_t)(old - whole));
        add(&file, steps->string, steps->length);
        add(&file, rest, strlen(rest));
        gm_status status = open_text(&arena, file.data, file.n, &t);
        CHECK(status == GM_OK, "%s: %s", name, err.text);
        if (!status) status = tokenize(t, &arena, all.data, all.n, &id, &n);
        CHECK(status == GM_OK && n == steps->next->integer &&
              fold(id, n) == steps->next->next->integer,
              "%s: %ld ids, expected %ld, or others %s", name, n,
              (long)steps->next->integer, err.text);
    }
    CHECK(families > 25, "only %ld families", families);
    free(all.data), free(file.data);
    gm_arena_free(&arena);
}

/* A text that is not UTF-8 is refused at its first wrong byte. */
static void test_bad_text(void) {
    static const struct { const char *text, *message; } bad[] = {
        {"ab\xFF", "text: byte 0xFF at offset 2 is not valid UTF-8"},
        {"a\xC3", "text: byte 0xC3 at offset 1 is not valid UTF-8"},
        {"\xE2\x82", "text: byte 0xE2 at offset 0 is not valid UTF-8"},
        {"\xC0\x80", "text: byte 0xC0 at offset 0 is not valid UTF-8"},
        {"\xED\xA0\x80", "text: byte 0xED at offset 0 is not valid UTF-8"},
        {"\xF4\x90\x80\x80", "text: byte 0xF4 at offset 0 is not valid UTF-8"},
        {"\xE0\x9F\xBF", "text: byte 0xE0 at offset 0 is not valid UTF-8"},
        {"\xF0\x8F\xBF\xBF", "text: byte 0xF0 at offset 0 is not valid UTF-8"},
    };
    gm_arena arena = {0};
    gm_tokenizer *t;
    int32_t *id;
    long n;
    CHECK(STATUS(t = gm_tokenizer_open(&arena, GOLDEN "-llama3")) == GM_OK,
          "%s", err.text);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        gm_status status = tokenize(t, &arena, bad[i].text,
                                    strlen(bad[i].text), &id, &n);
        CHECK(status == GM_EINPUT, "%d", status);
        CHECK_TEXT(err.text, bad[i].message);
    }
    gm_status status = STATUS(id = gm_tokenize(t, &arena, "text", "",
                                                (size_t)1 << 29, &n));
    CHECK(status == GM_ELIMIT, "%d", status);
    CHECK_TEXT(err.text, "text: 536870912 bytes of text, expected fewer than "
               "536870912");
    gm_arena_free(&arena);
}

/* Of patterns, what a reader could take for known is refused with its place.
   What is known: tools/check_tokenizer.py --patterns, against Oniguruma. */
static void test_patterns(void) {
    static const struct { const char *pattern, *at, *why; } bad[] = {
        {"a(?<=b)", "(?<=b)", "this kind of group is not known"},
        {"a(?i)b", "(?i)b", "this kind of group is not known"},
        {"(a", "(a", "expected )"}, {"a)b", ")b", "unexpected )"},
        {"[ab", "[ab", "expected ]"}, {"[b-a]", "b-a]", "expected a range"},
        {"[a-\\d]", "a-\\d]", "expected a range"},
        {"[[:alpha:]]", "[[:alpha:]]", "[: is not known"},
        {"\\bfoo", "\\bfoo", "this escape is not known"},
        {"(a)\\1", "\\1", "this escape is not known"},
        {"a\\", "\\", "nothing is escaped"},
        {"\\pL", "\\pL", "expected \\p{...}"},
        {"\\p{L&}", "\\p{L&}", "this property is not known"},
        {"\\p{L", "\\p{L", "this property is not known"},
        {"\\x41", "\\x41", "this escape is not known"},
        {"a|*", "*", "nothing is repeated"},
        {"{2}", "{2}", "nothing is repeated"},
        {"(a?)+", "+", "this may repeat nothing without end"},
        {"(?=a)*", "*", "this may repeat nothing without end"},
        {"a{2}?", "{2}?", "lazy repetition is not known"},
        {"(ab)*?", "*?", "lazy repetition is not known"},
        {"a{1,12345678901}", "{1,12345678901}", "this count is not known"},
        {"a{12345678901}", "{12345678901}", "this count is not known"},
        {"a{2,1}", "{2,1}", "this count is not known"},
        {"a{1001}", "{1001}", "this count is not known"},
        {"((a{2}b){1000}){9}", "", "the pattern is too large"},
        {"(?i:\xC3\xA9)", ")", "(?i:) beyond ASCII is not known"},
        {"(?i:glass)", "s)", "(?i:) of letters that fold to one character"},
    };
    gm_arena arena = {0};
    char expected[256];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gm_status status = STATUS(gm_regex_new(&arena, "f", bad[i].pattern,
                                               false));
        snprintf(expected, sizeof expected, "f: pattern \"%s\", at \"%s\": %s",
                 bad[i].pattern, bad[i].at, bad[i].why);
        CHECK(status == GM_EINPUT, "%s: %d", bad[i].pattern, status);
        CHECK_TEXT(err.text, expected);
    }
    gm_arena_free(&arena);
}

/* How far a pattern reaches; asked of Oniguruma too. */
static void test_matches(void) {
    static const struct { const char *pattern, *text; int end; } cases[] = {
        {"a++a", "aaa", -1}, {"a+a", "aaa", 3}, {"(?>a+)a", "aaa", -1},
        {"a?+a", "a", -1}, {"a{,2}", "aaa", 2}, {"a{2,}", "aaa", 3},
        {"a{1,2}+", "aaaaa", 5}, {"(ab){2}", "abab", 4}, {"a{x", "a{x", 3},
        {"a{,}", "a{,}", 4}, {"a{", "a{", 2}, {"a{1", "a{1", 3},
        {"(?i:k)", "\xE2\x84\xAA", 3}, {"(?i:[s])", "\xC5\xBF", 2},
        {"(?i:a(?-i:b))", "AB", -1}, {"a$", "a\nb", 1}, {"a\\Z", "a\n", 1},
        {"a\\z", "a\n", -1}, {"[]a]+", "]a", 2}, {"[a-c-e]+", "b-ed", 3},
        {"[\\w&&[^a]]+", "bca", 2}, {"\\p{^Lu}+", "aB", 1},
        {".+", "a\nb", 1}, {"(a|ab)(c|bcd)", "abcd", 4}, {"", "a", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *text = cases[i].text, *end = text + strlen(text);
        const char *stop = NULL;
        gm_arena arena = {0};
        gm_matcher m = {.steps = 1000};
        const gm_regex *r = NULL;
        gm_status status = STATUS(r = gm_regex_new(&arena, "f",
                                                   cases[i].pattern, false));
        if (!status)
            status = STATUS(stop = gm_regex_match(r, &m, text, text, end));
        const int found = status ? -2 : stop ? (int)(stop - text) : -1;
        CHECK(found == cases[i].end, "%s on %s: %d, expected %d",
              cases[i].pattern, text, found, cases[i].end);
        gm_arena_free(&m.arena);
        gm_arena_free(&arena);
    }
}

/* Matching may not take for ever: "a*a*a*b" on n letters a tries n^4 ways. */
static void test_steps(void) {
    gm_arena arena = {0};
    const gm_regex *r = NULL;
    gm_matcher m = {.steps = 100000};
    char text[1000];
    memset(text, 'a', sizeof text);
    CHECK(!STATUS(r = gm_regex_new(&arena, "f", "a*a*a*b", false)), "%s",
          err.text);
    gm_status status = STATUS(gm_regex_match(r, &m, text, text, text + 1000));
    CHECK(status == GM_ELIMIT, "%d", status);
    CHECK_TEXT(err.text, "pattern \"a*a*a*b\" takes more than 2000 steps a "
               "byte on this text");
    m = (gm_matcher){.steps = 100000};
    const char *stop = NULL;
    CHECK(!STATUS(stop = gm_regex_match(r, &m, text, text + 990, text + 1000))
          && !stop, "%s", err.text);
    gm_arena_free(&m.arena);
    gm_arena_free(&arena);
}

/* Llama 3 splits digits by threes, Qwen one by one: with the merges 1 2 and
   3 4, "1234" is 12 3 4 there and 1 2 3 4 here (four together: 12 34). */
static void test_digits(void) {
    static const char before[] =
        "{\"version\":\"1.0\",\"added_tokens\":[],\"normalizer\":null,"
        "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
        "\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
        "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}";
    static const char after[] =
        "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
        "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","
        "\"add_prefix_space\":false,\"use_regex\":false}]},\"model\":{\"type\":"
        "\"BPE\",\"vocab\":{\"1\":1,\"2\":2,\"3\":3,\"4\":4,\"12\":12,\"34\":34},"
        "\"merges\":[\"1 2\",\"3 4\"]}}";
    static const struct { const char *digits; long n; int32_t id[4]; }
        model[] = {{"{1,3}", 3, {12, 3, 4}}, {"", 4, {1, 2, 3, 4}}};
    for (int i = 0; i < 2; i++) {
        gm_arena arena = {0};
        gm_tokenizer *t;
        int32_t *id;
        long n = 0;
        char text[1024];
        int length = snprintf(text, sizeof text, "%s%s%s", before,
                              model[i].digits, after);
        gm_status status = open_text(&arena, text, (size_t)length, &t);
        CHECK(status == GM_OK, "%s", err.text);
        CHECK(status == GM_OK &&
              tokenize(t, &arena, "1234", 4, &id, &n) == GM_OK &&
              n == model[i].n && !memcmp(id, model[i].id, (size_t)n * 4),
              "{1,3} or one: %ld tokens %s", n, err.text);
        gm_arena_free(&arena);
    }
}

/* Changed files open or give a message; those that open still tokenize. */
static void test_mutations(void) {
    static const char swap[] = "{}[]\",:\\0129-.eaunltf \xC3\x00\xFF";
    gm_arena arena = {0};
    char text[sizeof base + 8];
    long opened = 0, refusals = 0;
    for (uint64_t round = 0; round < 2000; round++) {
        size_t n = sizeof base - 1;
        memcpy(text, base, n);
        for (uint64_t k = 0; k <= round % 3; k++) {
            uint64_t r = gm_random(1, round, k);
            size_t at = r % n;
            if (r >> 60 == 0) n = at + 1;
            else if (r >> 60 < 4) memmove(text + at, text + at + 1, --n - at);
            else text[at] = swap[(r >> 32) % (sizeof swap - 1)];
        }
        gm_tokenizer *t;
        long count;
        gm_status status = open_text(&arena, text, n, &t);
        if (status == GM_OK) {
            opened++;
            status = STATUS(gm_tokenize(t, &arena, "text",
                                        "ab<s> b 12e\xCC\x81", 14, &count));
            CHECK(status == GM_OK, "%s", err.text);
        } else {
            refusals++;
            CHECK(strncmp(err.text, SCRATCH "/tokenizer.json: ",
                          strlen(SCRATCH) + 17) == 0, "\"%s\"", err.text);
        }
        gm_arena_free(&arena);
        arena = (gm_arena){0};
    }
    CHECK(opened > 60 && refusals > 700, "%ld opened, %ld refused", opened,
          refusals);
}

/* Damaged texts are refused or tokenized, by every tokenizer. */
static void test_text_mutations(void) {
    gm_arena arena = {0};
    const char *all = NULL;
    size_t size = 0;
    CHECK(!STATUS(all = gm_file_text(&arena, GOLDEN "-text.txt", &size)), "%s",
          err.text);
    for (int k = 0; k < NAMES; k++) {
        gm_tokenizer *t;
        char dir[64], text[64];
        long fine = 0;
        snprintf(dir, sizeof dir, GOLDEN "-%s", names[k]);
        CHECK(STATUS(t = gm_tokenizer_open(&arena, dir)) == GM_OK, "%s",
              err.text);
        for (uint64_t round = 0; round < 1000; round++) {
            uint64_t r = gm_random(2, (uint64_t)k, round);
            size_t n = r % sizeof text, at = (r >> 8) % (size - n);
            memcpy(text, all + at, n);
            if (n && r >> 62 == 0) text[(r >> 32) % n] = (char)(r >> 40);
            while (n && (text[0] & 0xC0) == 0x80) memmove(text, text + 1, --n);
            int32_t *id;
            long count;
            fine += tokenize(t, &arena, text, n, &id, &count) == GM_OK;
        }
        CHECK(fine > 200, "%s: only %ld texts were fine", names[k], fine);
    }
    gm_arena_free(&arena);
}

int main(void) {
    CHECK(STATUS(gm_make_dir(SCRATCH)) == GM_OK, "%s", err.text);
    for (int i = 0; i < NAMES; i++) test_golden(names[i]);
    test_refused();
    test_small();
    test_families();
    test_bad_text();
    test_patterns();
    test_matches();
    test_steps();
    test_digits();
    test_mutations();
    test_text_mutations();
    return test_end("test_tokenizer");
}
