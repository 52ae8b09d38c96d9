/* test_tensors.c: what tensors.c accepts it reads right, what it refuses it
   names, and no bytes crash it.  Writes only below build/test/.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib/lib.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/test.h"

#define DIR "build/test/tensors"

static gm_arena arena;

/* A new file each time: some file systems flush one that is truncated. */
static void write_file(const char *path, const void *data, size_t n) {
    unlink(path);
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(data, 1, n, file) == n && fclose(file) == 0,
          "cannot write %s", path);
}

/* The call was refused with `status` and exactly this message. */
static void refused(gm_status found, gm_status status, const char *message) {
    CHECK(found == status, "status %d, expected %d: %s", found, status,
          message);
    CHECK_TEXT(err.text, message);
    err = (gm_error){""};
}

/* ---------------------------------------------------------------- numbers */

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

/* The value of a half from its definition, IEEE 754 binary16. */
static double half_value(uint32_t h) {
    int e = (int)(h >> 10 & 31), f = (int)(h & 1023);
    double x = e == 0 ? ldexp(f, -24) : ldexp(1024 + f, e - 25);
    if (e == 31) x = f ? NAN : INFINITY;
    return h & 0x8000 ? -x : x;
}

/* Every half is read exactly.  Rounding is monotonic, so a rounding function
   is the right one when for neighbours a < b with mean m it gives a at a and
   just below m, b just above m, and at m the one with even last bit. */
static void test_half(void) {
    long wrong = 0;
    for (uint32_t h = 0; h < 0x10000; h++) {
        double x = half_value(h);
        float y = gm_f16_to_f32((uint16_t)h);
        bool nan = isnan(x);
        wrong += nan ? !isnan(y) : y != (float)x || !signbit(x) != !signbit(y);
        wrong += nan ? (gm_f32_to_f16(y) & 0x7FFF) <= 0x7C00
                     : gm_f32_to_f16(y) != h;
    }
    CHECK(wrong == 0, "%ld halves are not read and written exactly", wrong);
    for (uint32_t h = 0; h < 0x7C00; h++) {
        double up = h == 0x7BFF ? 65536 : half_value(h + 1);
        float m = (float)((half_value(h) + up) / 2);      /* exact: 12 bits */
        uint32_t even = h & 1 ? h + 1 : h;
        for (int sign = -1; sign <= 1; sign += 2) {
            uint32_t s = sign < 0 ? 0x8000 : 0;
            float below = nextafterf(m, 0) * (float)sign;
            float above = nextafterf(m, INFINITY) * (float)sign;
            wrong += gm_f32_to_f16(m * (float)sign) != (even | s);
            wrong += gm_f32_to_f16(below) != (h | s);
            wrong += gm_f32_to_f16(above) != ((h + 1) | s);
        }
    }
    CHECK(wrong == 0, "%ld midpoints of halves round wrong", wrong);
    CHECK(gm_f32_to_f16(INFINITY) == 0x7C00, "infinity stays");
    CHECK(gm_f32_to_f16(-3e38f) == 0xFC00, "overflow is infinite");
    CHECK(gm_f32_to_f16(1e-40f) == 0, "float subnormals become 0");
}

/* Halves that bfloat16 has too: each is reached from itself, the nearer one from
   beside the middle between two, the next one where too much would be left. */
static void test_reach(void) {
    long wrong = 0, count = 0, below = -1;
    for (long h = 0; h < 0x7C00; h++) {
        const float x = gm_f16_to_f32((uint16_t)h);
        if (bits_of(x) & 0xFFFF) continue;
        count++;
        wrong += gm_f16_reach(x, 0, true) != h;
        if (below >= 0) {
            const float a = gm_f16_to_f32((uint16_t)below), m = (a + x) / 2;
            const float lower = nextafterf(m, 0), half = x - a;
            wrong += gm_f16_reach(lower, half, true) != below;
            wrong += gm_f16_reach(nextafterf(m, 1e9f), half, true) != h;
            wrong += gm_f16_reach(lower, (lower - a) / 2, true) != h;
        }
        below = h;
    }
    CHECK(wrong == 0 && count > 3000, "%ld of %ld wrong", wrong, count);
    CHECK(gm_f16_to_f32(gm_f16_reach(65504, 0, true)) == 65280 &&
          gm_f16_to_f32(gm_f16_reach(1e9f, 0, false)) == 65504, "the largest");
}

/* The same argument for bfloat16, whose values are floats cut to 16 bits. */
static void test_bfloat(void) {
    long wrong = 0;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float x = gm_bf16_to_f32((uint16_t)h);
        bool nan = (h & 0x7FFF) > 0x7F80;
        wrong += bits_of(x) != h << 16;
        wrong += nan ? (gm_f32_to_bf16(x) & 0x7FFF) <= 0x7F80
                     : gm_f32_to_bf16(x) != h;
        if ((h & 0x7FFF) >= 0x7F80) continue;
        for (uint32_t low = 0x7FFF; low <= 0x8001; low++) {
            uint32_t bits = h << 16 | low, up;
            float y;
            memcpy(&y, &bits, 4);
            up = low > 0x8000 || (low == 0x8000 && (h & 1));
            wrong += gm_f32_to_bf16(y) != h + up;
        }
    }
    CHECK(wrong == 0, "%ld bfloat16 round wrong", wrong);
    uint32_t quiet = 0x7F800001;        /* payload only in the cut-off bits */
    float nan;
    memcpy(&nan, &quiet, 4);
    CHECK(gm_f32_to_bf16(nan) == 0x7FC0, "NaN stays NaN, not infinity");
}

/* gm_store writes what the conversions give, little endian. */
static void test_store(void) {
    const gm_real x[3] = {1, -2.5, (gm_real)65504};
    uint8_t out[12];
    gm_store(GM_F16, x, 3, out);
    CHECK(memcmp(out, "\x00\x3C\x00\xC1\xFF\x7B", 6) == 0, "F16");
    gm_store(GM_BF16, x, 3, out);
    CHECK(memcmp(out, "\x80\x3F\x20\xC0\x80\x47", 6) == 0, "BF16");
    gm_store(GM_F32, x, 2, out);
    CHECK(memcmp(out, "\x00\x00\x80\x3F\x00\x00\x20\xC0", 8) == 0, "F32");
    CHECK(gm_dtype_bytes(GM_BF16) == 2 && gm_dtype_bytes(GM_F64) == 8 &&
          gm_dtype_bytes(GM_OTHER) == 0, "element sizes");
    CHECK_TEXT(gm_dtype_name(GM_BF16), "BF16");
    CHECK_TEXT(gm_dtype_name(GM_I64), "I64");
}

/* Every code point survives; every other sequence of up to 3 bytes, and the
   4-byte ones past the ends, are refused. */
static void test_utf8(void) {
    long wrong = 0, valid = 0;
    char text[4];
    uint32_t point = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000) continue;
        int n = gm_utf8_put(c, text);
        wrong += gm_utf8(text, text + n, &point) != n || point != c;
        wrong += n > 1 && gm_utf8(text, text + n - 1, &point) != 0;
    }
    CHECK(wrong == 0, "%ld code points do not survive", wrong);
    for (uint32_t b = 0; b < 1 << 24; b++) {
        memcpy(text, &b, 3);
        valid += gm_utf8(text, text + 3, &point) == 3;
    }
    CHECK(valid == 0x10000 - 0x800 - 0x800, "%ld sequences of 3 bytes are "
          "valid, expected 61440", valid);
    CHECK(!gm_utf8("\xF4\x90\x80\x80", text + 4, &point), "above 10FFFF");
    CHECK(!gm_utf8("\xF0\x8F\xBF\xBF", text + 4, &point), "overlong");
    CHECK(!gm_utf8("\xF5\x80\x80\x80", text + 4, &point), "F5");
}

/* ------------------------------------------------------------------- JSON */

static gm_status parse(const char *text, const gm_json **out) {
    return STATUS(*out = gm_json_parse(&arena, "x.json", 1, text, strlen(text)));
}

static void test_json(void) {
    const gm_json *j = NULL, *v;
    gm_status status = parse(
        " {\"a\" : [1, -2.5e3 ,true,false,null, \"\\u00e9\\n\\\"\\/\\ud83d"
        "\\ude00\\u0000z\"],\n\t\"\":{}, \"\xC3\xA9\":9223372036854775807,"
        "\"big\":9223372036854775808, \"real\":1E0,\"neg\":-0} \r\n", &j);
    CHECK(status == GM_OK, "%s", err.text);
    if (status != GM_OK) return;
    CHECK(j->type == GM_JSON_OBJECT && j->length == 6, "%zu", j->length);
    v = gm_json_get(j, "a")->child;
    CHECK(v->is_integer && v->integer == 1 && v->number == 1, "1");
    v = v->next;
    CHECK(!v->is_integer && v->number == -2500 && v->at == 12, "-2.5e3");
    v = v->next;
    CHECK(v->type == GM_JSON_BOOL && v->number == 1, "true");
    v = v->next;
    CHECK(v->type == GM_JSON_BOOL && v->number == 0, "false");
    v = v->next;
    CHECK(v->type == GM_JSON_NULL, "null");
    v = v->next;
    CHECK(v->length == 11 && memcmp(v->string, "\xC3\xA9\n\"/\xF0\x9F\x98\x80"
          "\0z", 12) == 0, "escapes, %zu bytes", v->length);
    CHECK(!v->next, "end of the array");
    CHECK(gm_json_get(j, "")->type == GM_JSON_OBJECT, "empty key");
    v = gm_json_get(j, "\xC3\xA9");
    CHECK(v->is_integer && v->integer == INT64_MAX, "largest integer");
    v = gm_json_get(j, "big");
    CHECK(!v->is_integer && v->number == 9223372036854775808.0, "2^63");
    CHECK(!gm_json_get(j, "real")->is_integer, "1E0 is no integer");
    CHECK(gm_json_get(j, "neg")->is_integer, "-0 is one");
    CHECK(!gm_json_get(j, "b") && !gm_json_get(v, "b") &&
          !gm_json_get(NULL, "b"), "absent members");
    CHECK_TEXT(gm_json_quote(&arena, "a\"\\\n\x01\xC3\xA9"),
               "\"a\\\"\\\\\\u000a\\u0001\xC3\xA9\"");
}

static void test_bad_json(void) {
    static const struct { const char *text, *message; } bad[] = {
        {"", "line 1, column 1: expected a value, found the end"},
        {" \n ", "line 2, column 2: expected a value, found the end"},
        {"{}x", "line 1, column 3: expected the end, found 'x'"},
        {"[1,]", "line 1, column 4: expected a value, found ']'"},
        {"[1 2]", "line 1, column 4: expected ',' or ']', found '2'"},
        {"[1", "line 1, column 3: expected ',' or ']', found the end"},
        {"{\"a\":1", "line 1, column 7: expected ',' or '}', found the end"},
        {"{\"a\" 1}", "line 1, column 6: expected ':', found '1'"},
        {"{a:1}", "line 1, column 2: expected a key in quotes, found 'a'"},
        {"{\"a\":1,}",
         "line 1, column 8: expected a key in quotes, found '}'"},
        {"{\n\"a\":1,\n\"a\":2}",
         "line 3, column 5: key \"a\" appears twice in one object"},
        {"{\"a\\u0000\":1}", "line 1, column 2: key contains \\u0000"},
        {"tru", "line 1, column 1: expected a value, found 't'"},
        {"trux", "line 1, column 1: expected a value, found 't'"},
        {"NaN", "line 1, column 1: expected a value, found 'N'"},
        {"-Infinity", "line 1, column 2: expected a digit, found 'I'"},
        {"01", "line 1, column 2: expected the end, found '1'"},
        {"+1", "line 1, column 1: expected a value, found '+'"},
        {"1.", "line 1, column 3: expected a digit, found the end"},
        {".5", "line 1, column 1: expected a value, found '.'"},
        {"1e+", "line 1, column 4: expected a digit, found the end"},
        {"0x10", "line 1, column 2: expected the end, found 'x'"},
        {"1e999", "line 1, column 1: number 1e999 does not fit a double"},
        {"\"a",
         "line 1, column 3: expected a quote or UTF-8 that is no control "
         "character, found the end"},
        {"\"\\x\"",
         "line 1, column 3: expected one of \"\\/bfnrtu after \\, found 'x'"},
        {"\"\\ \"", "line 1, column 3: expected one of \"\\/bfnrtu after \\, "
         "found byte 0x20"},
        {"\"\\", "line 1, column 3: expected one of \"\\/bfnrtu after \\, "
         "found the end"},
        {"\"\\u12g4\"",
         "line 1, column 2: expected \\u and 4 hexadecimal digits, or two "
         "such, a high and a low surrogate"},
        {"\"\\u12",
         "line 1, column 2: expected \\u and 4 hexadecimal digits, or two "
         "such, a high and a low surrogate"},
        {"\"\\ud800\"",
         "line 1, column 2: expected \\u and 4 hexadecimal digits, or two "
         "such, a high and a low surrogate"},
        {"\"\\ud800\\u0041\"",
         "line 1, column 2: expected \\u and 4 hexadecimal digits, or two "
         "such, a high and a low surrogate"},
        {"\"\\udc00\"",
         "line 1, column 2: expected \\u and 4 hexadecimal digits, or two "
         "such, a high and a low surrogate"},
        {"\"a\nb\"",
         "line 1, column 3: expected a quote or UTF-8 that is no control "
         "character, found byte 0x0A"},
        {"\"\xFF\"",
         "line 1, column 2: expected a quote or UTF-8 that is no control "
         "character, found byte 0xFF"},
        {"\"\xED\xA0\x80\"",
         "line 1, column 2: expected a quote or UTF-8 that is no control "
         "character, found byte 0xED"},
        {"\"\xC3",
         "line 1, column 2: expected a quote or UTF-8 that is no control "
         "character, found byte 0xC3"},
        {"\xEF\xBB\xBF{}",
         "line 1, column 1: expected a value, found byte 0xEF"},
    };
    const gm_json *j;
    char text[1200], expected[256];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(expected, sizeof expected, "x.json: %s", bad[i].message);
        refused(parse(bad[i].text, &j), GM_EINPUT, expected);
    }
    refused(STATUS(j = gm_json_parse(&arena, "x.json", 1, "\"\0\"", 3)), GM_EINPUT,
            "x.json: line 1, column 2: expected a quote or UTF-8 that is no "
         "control character, found byte 0x00");
    refused(STATUS(j = gm_json_parse(&arena, "x.json", 1, "1\0", 2)), GM_EINPUT,
            "x.json: line 1, column 2: expected the end, found byte 0x00");
    memset(text, '1', 513), text[513] = 0;
    refused(parse(text, &j), GM_EINPUT,
         "x.json: line 1, column 1: number "
         "1111111111111111111111111111111111111111 does not fit a double");
    memset(text, '[', 64), memset(text + 64, ']', 64), text[128] = 0;
    CHECK(parse(text, &j) == GM_OK, "64 deep: %s", err.text);
    memset(text, '[', 65), text[65] = 0;
    refused(parse(text, &j), GM_EINPUT,
            "x.json: line 1, column 65: nested more than 64 deep");
}

/* ------------------------------------------------------------ safetensors */

/* Header length, header, then bytes 0, 1, 2, ... */
static void write_tensors(const char *path, const char *header, size_t data) {
    static uint8_t file[8192];
    uint64_t n = strlen(header);
    memcpy(file, &n, 8);
    memcpy(file + 8, header, n);
    for (size_t i = 0; i < data; i++) file[8 + n + i] = (uint8_t)i;
    write_file(path, file, 8 + n + data);
}

#define ST DIR "/model.safetensors"
#define T(name, dtype, shape, begin, end)                                  \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape               \
    ",\"data_offsets\":[" #begin "," #end "]}"

static void test_tensors(void) {
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
        T("b", "F32", "[2,3]", 3, 27) "," T("a", "F16", "[]", 27, 29) ","
        T("c", "U8", "[3]", 0, 3) "," T("z", "BF16", "[4,0]", 3, 3) ","
        T("w", "F8_E4M3", "[5]", 29, 34) "," T("d", "F64", "[1]", 34, 42)
        "," T("v", "NOVEL", "[3,9223372036854775807,9]", 42, 43) "}   ";
    gm_tensors t;
    write_tensors(ST, header, 43);
    gm_status status = STATUS(gm_checkpoint_open(&arena, DIR, &t));
    CHECK(status == GM_OK, "%s", err.text);
    if (status != GM_OK) return;
    CHECK(t.count == 7 && t.files == 1, "%ld tensors", t.count);
    for (long i = 0; i < t.count; i++)
        CHECK(t.tensor[i].name[0] == "abcdvwz"[i], "order by name");
    const gm_tensor *b = gm_tensor_find(&t, "b");
    uint8_t first = 0;
    if (b) gm_tensor_bytes(b, 0, 1, &first);
    CHECK(b && b->rank == 2 && b->shape[0] == 2 && b->shape[1] == 3 &&
          b->bytes == 24 && first == 3 && b->dtype == GM_F32, "b");
    CHECK_TEXT(b->path, ST);
    CHECK(gm_tensor_find(&t, "z")->bytes == 0, "empty tensor");
    CHECK(gm_tensor_find(&t, "w")->dtype == GM_OTHER, "known, not read");
    CHECK_TEXT(gm_type_of(gm_tensor_find(&t, "w")), "F8_E4M3");
    CHECK_TEXT(gm_type_of(gm_tensor_find(&t, "v")), "NOVEL");
    CHECK_TEXT(gm_type_of(b), "F32");
    CHECK(gm_tensor_find(&t, "a")->rank == 0, "scalar");
    CHECK(!gm_tensor_find(&t, "bb"), "no such tensor");
    CHECK_TEXT(gm_json_get(t.metadata, "format")->string, "pt");
    gm_tensors_close(&t);
    gm_tensors_close(&t);
    CHECK(!gm_tensor_find(&t, "b"), "nothing after closing");
    write_tensors(ST, "{\"__metadata__\":null," T("b", "F32", "[]", 0, 4) "}",
                  4);
    status = STATUS(gm_checkpoint_open(&arena, DIR, &t));
    CHECK(status == GM_OK && t.count == 1, "metadata null: %s", err.text);
    gm_tensors_close(&t);
}

/* For each: what follows the header length, bytes of data, message. */
#define ONES ",1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"
static void test_bad_tensors(void) {
    static const struct { const char *header; size_t data; const char *says; }
    bad[] = {
        {"[]", 0,
         ": header: expected an object, found a list"},
        {"", 0, ": header: line 1, column 1: expected a value, found the end"},
        {"{", 0, ": header: line 1, column 2: expected a key in quotes, "
         "found the end"},
        {"{" T("a", "F32", "[1]", 0, 4) "," T("a", "F32", "[1]", 4, 8) "}", 8,
         ": header: line 1, column 59: key \"a\" appears twice in one object"},
        {"{\"a\":3}", 0,
         ": tensor \"a\": dtype: expected a string, found nothing"},
        {"{\"a\":{}}", 0,
         ": tensor \"a\": dtype: expected a string, found nothing"},
        {"{\"a\":{\"dtype\":1}}", 0,
         ": tensor \"a\": dtype: expected a string, found 1"},
        {"{" T("a", "", "[1]", 0, 4) "}", 4,
         ": tensor \"a\": dtype: expected a type, found \"\""},
        {"{" T("a", "F8\\u0000", "[1]", 0, 1) "}", 1,
         ": tensor \"a\": dtype: expected a type, found \"F8\""},
        {"{" T("a", "F\\u001b", "[1]", 0, 1) "}", 1,
         ": tensor \"a\": dtype: expected a type, found \"F?\""},
        {"{" T("a", "F4", "[5]", 0, 2) "}", 2,
         ": tensor \"a\": data_offsets: expected 3 bytes for shape [5] of "
         "F4, found 2"},
        {"{" T("a", "F6_E2M3", "[4]", 0, 4) "}", 4,
         ": tensor \"a\": data_offsets: expected 3 bytes for shape [4] of "
         "F6_E2M3, found 4"},
        {"{" T("a", "NEW", "[-1]", 0, 4) "}", 4,
         ": tensor \"a\": shape: expected integers >= 0, of less than 2^63 "
         "bits, found -1"},
        {"{\"a\":{\"dtype\":\"F32\"}}", 0,
         ": tensor \"a\": shape: expected a list, found nothing"},
        {"{" T("a", "F32", "6", 0, 24) "}", 24,
         ": tensor \"a\": shape: expected a list, found 6"},
        {"{" T("a", "F32", "[2,-3]", 0, 24) "}", 24,
         ": tensor \"a\": shape: expected integers >= 0, of less than 2^63 "
         "bits, found -3"},
        {"{" T("a", "F32", "[2.0]", 0, 8) "}", 8,
         ": tensor \"a\": shape: expected integers >= 0, of less than 2^63 "
         "bits, found 2"},
        {"{" T("a", "F32", "[1" ONES ONES "]", 0, 4) "}", 4,
         ": tensor \"a\": shape: expected at most 16 dimensions, found 65"},
        {"{" T("a", "F32", "[4294967296,4294967296]", 0, 0) "}", 0,
         ": tensor \"a\": shape: expected integers >= 0, of less than 2^63 "
         "bits, found 4294967296"},
        {"{" T("a", "F32", "[2305843009213693952]", 0, 0) "}", 0,
         ": tensor \"a\": shape: expected integers >= 0, of less than 2^63 "
         "bits, found 2.305843009e+18"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 4,
         ": tensor \"a\": data_offsets: expected a list, found nothing"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0]}}", 4,
         ": tensor \"a\": data_offsets: expected two integers, 0 <= "
         "begin <= end <= 4, found 0, nothing"},
        {"{" T("a", "F32", "[]", -4, 0) "}", 4,
         ": tensor \"a\": data_offsets: expected two integers, 0 <= "
         "begin <= end <= 4, found -4, 0"},
        {"{" T("a", "F32", "[]", 0, 4.0) "}", 4,
         ": tensor \"a\": data_offsets: expected two integers, 0 <= "
         "begin <= end <= 4, found 0, 4"},
        {"{" T("a", "F32", "[]", 0, 99999999999999999999) "}", 4,
         ": tensor \"a\": data_offsets: expected two integers, 0 <= "
         "begin <= end <= 4, found 0, 1e+20"},
        {"{" T("a", "F32", "[]", 4, 0) "}", 4,
         ": tensor \"a\": data_offsets: expected two integers, 0 <= begin <= "
         "end <= 4, found 4, 0"},
        {"{" T("a", "F32", "[]", 1, 5) "}", 4,
         ": tensor \"a\": data_offsets: expected two integers, 0 <= begin <= "
         "end <= 4, found 1, 5"},
        {"{" T("a", "F32", "[1]", 9223372036854775803, 9223372036854775807)
         "}", 4,
         ": tensor \"a\": data_offsets: expected two integers, 0 <= begin <= "
         "end <= 4, found 9.223372037e+18, 9.223372037e+18"},
        {"{" T("a.weight", "F32", "[2, 3]", 0, 20) "}", 24,
         ": tensor \"a.weight\": data_offsets: expected 24 bytes for shape "
         "[2, 3] of F32, found 20"},
        {"{" T("a", "F32", "[1]", 0, 8) "}", 8,
         ": tensor \"a\": data_offsets: expected 4 bytes for shape [1] of "
         "F32, found 8"},
        {"{" T("a", "BOOL", "[5]", 0, 4) "}", 4,
         ": tensor \"a\": data_offsets: expected 5 bytes for shape [5] of "
         "BOOL, found 4"},
        {"{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 2, 6) "}", 6,
         ": tensor \"b\": expected to begin at offset 4, where the one "
         "before ends, found 2"},
        {"{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 0, 4) "}", 4,
         ": tensor \"b\": expected to begin at offset 4, where the one "
         "before ends, found 0"},
        {"{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 8, 12) "}",
         12,
         ": tensor \"b\": expected to begin at offset 4, where the one "
         "before ends, found 8"},
        {"{" T("a", "F32", "[1]", 4, 8) "}", 8,
         ": tensor \"a\": expected to begin at offset 0, where the one "
         "before ends, found 4"},
        {"{" T("a", "F32", "[1]", 0, 4) "}", 7,
         ": expected 66 bytes, all of tensors, found 69"},
        {"{}", 1,
         ": expected 10 bytes, all of tensors, found 11"},
        {"{\"__metadata__\":[]}", 0,
         ": __metadata__: expected an object, found a list"},
        {"{\"__metadata__\":{\"a\":1}}", 0,
         ": a: expected a string, found 1"},
        {"{\"\xFF\":{}}", 0,
         ": header: line 1, column 3: expected a quote or UTF-8 that is no "
         "control character, found byte 0xFF"},
    };
    gm_tensors t = {0};
    char expected[512];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_tensors(ST, bad[i].header, bad[i].data);
        snprintf(expected, sizeof expected, ST "%s", bad[i].says);
        refused(STATUS(gm_safetensors_open(&arena, ST, &t)), GM_EINPUT,
                expected);
        CHECK(t.files == 0 && t.count == 0, "nothing stays open");
    }
}

static void test_bad_header_length(void) {
    static const struct { const char *file; size_t n; const char *says; }
    bad[] = {
        {"", 0,
         ": expected 8 bytes of header length and at most 100000000 of "
         "header, found 0 in a file of 0"},
        {"\1\0\0\0\0\0\0", 7,
         ": expected 8 bytes of header length and at most 100000000 of "
         "header, found 0 in a file of 7"},
        {"\3\0\0\0\0\0\0\0{}", 10,
         ": expected 8 bytes of header length and at most 100000000 of "
         "header, found 3 in a file of 10"},
        {"\0\0\0\0\0\0\0\x80{}", 10,
         ": expected 8 bytes of header length and at most 100000000 of "
         "header, found 9223372036854775808 in a file of 10"},
        {"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10,
         ": expected 8 bytes of header length and at most 100000000 of "
         "header, found 18446744073709551615 in a file of 10"},
    };
    gm_tensors t = {0};
    char expected[512];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_file(ST, bad[i].file, bad[i].n);
        snprintf(expected, sizeof expected, ST "%s", bad[i].says);
        refused(STATUS(gm_safetensors_open(&arena, ST, &t)), GM_EINPUT,
                expected);
    }
    refused(STATUS(gm_safetensors_open(&arena, DIR "/none", &t)), GM_EIO,
            DIR "/none: cannot open: No such file or directory");
    refused(STATUS(gm_safetensors_open(&arena, DIR, &t)), GM_EINPUT,
            DIR ": not a regular file");
}

/* Values come out exactly; NaN, infinity, integers and ranges beyond the end
   are refused, naming the element. */
static void test_tensor_read(void) {
    static const float x[6] = {1, -2, 0.5f, 3e38f, -0.0f, 1e-45f};
    static const double y[2] = {1e300, 0.1}, z[2] = {0.1, -3};
    static const uint16_t h[3] = {0x3C00, 0x7C01, 0xFC00};
    gm_tensor t = {.name = "w", .dtype = GM_F32, .rank = 2, .shape = {2, 3},
                   .bytes = 24, .path = "x"};
    uint8_t bytes[1 + sizeof x];            /* odd address on purpose */
    gm_real out[6];
    memcpy(bytes + 1, x, sizeof x);
    t.data = bytes + 1;
    CHECK(STATUS(gm_tensor_read(&t, 0, 6, out)) == GM_OK, "%s", err.text);
    for (int i = 0; i < 6; i++) CHECK(out[i] == (gm_real)x[i], "F32 %d", i);
    CHECK(STATUS(gm_tensor_read(&t, 6, 0, out)) == GM_OK, "%s", err.text);
    CHECK(STATUS(gm_tensor_read(&t, 4, 2, out)) == GM_OK &&
          out[1] == (gm_real)1e-45f, "the last two");
    refused(STATUS(gm_tensor_read(&t, 4, 3, out)), GM_EINPUT, "x: tensor \"w\": "
            "elements 4 to 7 asked for, it holds 6");
    refused(STATUS(gm_tensor_read(&t, -1, 3, out)), GM_EINPUT, "x: tensor \"w\":"
            " elements -1 to 2 asked for, it holds 6");
    t = (gm_tensor){.name = "h", .dtype = GM_F16, .rank = 1, .shape = {3},
                    .bytes = 6, .path = "x", .data = (const uint8_t *)h};
    refused(STATUS(gm_tensor_read(&t, 0, 3, out)), GM_EINPUT, "x: tensor \"h\": "
            "element 1 of shape [3] is NaN, expected a finite number");
    refused(STATUS(gm_tensor_read(&t, 2, 1, out)), GM_EINPUT, "x: tensor \"h\": "
            "element 2 of shape [3] is infinite, expected a finite number");
    t.dtype = GM_BF16;
    CHECK(STATUS(gm_tensor_read(&t, 0, 1, out)) == GM_OK &&
          out[0] == (gm_real)0.0078125, "BF16 0x3C00 = 2^-7");
    t = (gm_tensor){.name = "d", .dtype = GM_F64, .rank = 1, .shape = {2},
                    .bytes = 16, .path = "x", .data = (const uint8_t *)y};
    CHECK(STATUS(gm_tensor_read(&t, 1, 1, out)) == GM_OK &&
          out[0] == (gm_real)0.1, "F64");
    t.data = (const uint8_t *)z;
    CHECK(STATUS(gm_tensor_read(&t, 0, 2, out)) == GM_OK &&
          out[0] == (gm_real)0.1 && out[1] == -3, "two F64");
    t.data = (const uint8_t *)y;
    if (sizeof(gm_real) == 4)
        refused(STATUS(gm_tensor_read(&t, 0, 1, out)), GM_EINPUT, "x: tensor "
                "\"d\": element 0 of shape [2] is infinite, expected a finite "
                "number");
    t.dtype = GM_I32;
    refused(STATUS(gm_tensor_read(&t, 0, 1, out)), GM_EINPUT, "x: tensor \"d\": "
            "type I32, expected F32, F16, BF16 or F64");
}

/* The 5000th element is found whatever the block it is read in. */
static void test_nan_position(void) {
    static float x[10000];
    static gm_real out[10000];
    gm_tensor t = {.name = "w", .dtype = GM_F32, .rank = 1, .shape = {10000},
                   .bytes = sizeof x, .path = "x",
                   .data = (const uint8_t *)x};
    x[5000] = NAN, x[5001] = INFINITY;
    refused(STATUS(gm_tensor_read(&t, 17, 9983, out)), GM_EINPUT, "x: tensor "
            "\"w\": element 5000 of shape [10000] is NaN, expected a finite "
            "number");
}

/* What is written is read back, byte for byte; the header has the size that
   was announced; a script makes the same hash:
     hashlib.sha256(b"a\nBF16\n3\n" + bytes(range(6)) +
                    b"b\"\nF32\n1,2\n" + bytes(range(8))).hexdigest() */
static void test_writer(void) {
    static const char *const metadata[] = {"format", "pt", "a\"b", "c\n", NULL};
    static const uint8_t bytes[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    const gm_tensor tensor[2] = {
        {.name = "b\"", .dtype = GM_F32, .rank = 2, .shape = {1, 2}},
        {.name = "a", .dtype = GM_BF16, .rank = 1, .shape = {3}}};
    for (size_t pad = 0; pad <= 1000; pad += 500) {
        gm_out out;
        size_t size = 0;
        const char *file = NULL;
        uint8_t found[8] = {9};
        gm_tensors t;
        char hex[65];
        size_t plain = gm_safetensors_header(tensor, 2, metadata);
        gm_status status = STATUS(gm_safetensors_begin(&arena, ST, tensor, 2,
                                                metadata, pad, &out));
        if (status == GM_OK) status = STATUS(gm_out_write(&out, bytes, 8));
        if (status == GM_OK) status = STATUS(gm_out_write(&out, bytes, 6));
        if (status == GM_OK) status = STATUS(gm_out_commit(&out));
        if (status == GM_OK) status = STATUS(file = gm_file_text(&arena, ST, &size));
        CHECK(status == GM_OK, "%s", err.text);
        size_t expected = ((pad > plain ? pad : plain) + 7) / 8 * 8;
        CHECK(size == expected + 14 && out.bytes == (int64_t)size,
              "%zu bytes, expected %zu", size, expected + 14);
        CHECK(file[plain - 1] == '}' && file[expected - 1] == ' ',
              "header of %zu bytes, padded to %zu", plain, expected);
        status = STATUS(gm_safetensors_open(&arena, ST, &t));
        CHECK(status == GM_OK && t.count == 2, "%s", err.text);
        CHECK_TEXT(gm_json_get(t.metadata, "a\"b")->string, "c\n");
        const gm_tensor *b = gm_tensor_find(&t, "b\"");
        CHECK(b && b->rank == 2 && b->shape[1] == 2 && b->bytes == 8, "b");
        if (b) gm_tensor_bytes(b, 0, 8, found);
        CHECK(memcmp(found, bytes, 8) == 0, "the bytes of b");
        CHECK(STATUS(gm_tensors_hash(&t, hex)) == GM_OK, "%s", err.text);
        CHECK_TEXT(hex, "23646d2976984692a42a8c79def250c553e790ffac4b21af372516b2420396af");
        gm_tensors_close(&t);
    }
}

static void test_writer_refuses(void) {
    gm_tensor t = {.name = "a", .dtype = GM_OTHER, .rank = 1, .shape = {1}};
    gm_out out;
    const char *says = DIR "/w: tensor \"a\": type, rank or size cannot be "
                       "written";
    unlink(DIR "/w.partial");           /* of an earlier, failed run */
    refused(STATUS(gm_safetensors_begin(&arena, DIR "/w", &t, 1, NULL, 0, &out)),
            GM_EINPUT, says);
    t = (gm_tensor){.name = "a", .dtype = GM_F32, .rank = 2,
                    .shape = {1LL << 32, 1LL << 32}};
    refused(STATUS(gm_safetensors_begin(&arena, DIR "/w", &t, 1, NULL, 0, &out)),
            GM_EINPUT, says);
    t.shape[0] = -1;
    refused(STATUS(gm_safetensors_begin(&arena, DIR "/w", &t, 1, NULL, 0, &out)),
            GM_EINPUT, says);
    t = (gm_tensor){.name = "a", .dtype = GM_F32, .rank = 17};
    refused(STATUS(gm_safetensors_begin(&arena, DIR "/w", &t, 1, NULL, 0, &out)),
            GM_EINPUT, says);
    t.rank = 16;
    CHECK(STATUS(gm_safetensors_begin(&arena, DIR "/w", &t, 1, NULL, 0, &out))
          == GM_OK, "rank 16: %s", err.text);
    gm_out_abandon(&out);
    refused(STATUS(gm_safetensors_begin(&arena, DIR "/w", &t, 1, NULL, 100000009,
                                 &out)), GM_ELIMIT, DIR "/w: header of "
            "100000008 bytes, the format allows 100000000");
    CHECK(access(DIR "/w.partial", F_OK) != 0, "nothing was created");
    t.rank = 0;
    refused(STATUS(gm_safetensors_begin(&arena, DIR "/none/w", &t, 1, NULL, 0, &out)), GM_EIO, DIR "/none/w.partial: cannot "
            "create: No such file or directory");
}

/* Claim: a tensor of any type comes back as it was, by name, shape and bytes;
   written once more, the file is the same.  The hash is that of
   hashlib.sha256(b"a\nF4\n3\n\0\1" + b"b\nF\"9\n9223372036854775807,4\n\2") */
static void test_other_types(void) {
    static const char *const metadata[] = {"format", "pt", NULL};
    gm_tensors t;
    gm_out out;
    char hex[65], first[65], second[65];
    gm_real x;
    write_tensors(ST, "{\"__metadata__\":{\"format\":\"pt\"},"
                  T("a", "F4", "[3]", 0, 2) ","
                  T("b", "F\\\"9", "[9223372036854775807,4]", 2, 3) "}", 3);
    CHECK(STATUS(gm_safetensors_open(&arena, ST, &t)) == GM_OK, "%s", err.text);
    CHECK(STATUS(gm_tensors_hash(&t, hex)) == GM_OK, "%s", err.text);
    CHECK_TEXT(hex, "8671991f3458b22f746bbf31e249b8e0a56271c312ab167c554bbc7b3763e175");
    refused(STATUS(gm_tensor_read(t.tensor, 0, 1, &x)), GM_EINPUT, ST ": tensor "
            "\"a\": type F4, expected F32, F16, BF16 or F64");
    for (int i = 0; i < 2; i++) {
        const char *to = i ? DIR "/2.safetensors" : DIR "/1.safetensors";
        gm_status s = STATUS(gm_safetensors_begin(&arena, to, t.tensor, 2,
                                                  metadata, 0, &out));
        if (!s) s = STATUS(gm_out_write(&out, "\0\1\2", 3));
        if (!s) s = STATUS(gm_out_commit(&out));
        gm_tensors_close(&t);
        if (!s) s = STATUS(gm_safetensors_open(&arena, to, &t));
        CHECK(s == GM_OK, "%s", err.text);
        CHECK_TEXT(gm_type_of(t.tensor + 1), "F\"9");
        gm_file_hash(to, i ? second : first);
    }
    CHECK_TEXT(second, first);
    gm_tensors_close(&t);
}

/* ----------------------------------------------------------------- shards */

#define SH DIR "/shards"
#define INDEX SH "/model.safetensors.index.json"

static gm_status open_index(const char *weight_map, gm_tensors *t) {
    char text[1024];
    snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":8},"
             "\"weight_map\":%s}", weight_map);
    write_file(INDEX, text, strlen(text));
    return STATUS(gm_checkpoint_open(&arena, SH, t));
}

static void test_shards(void) {
    gm_tensors t;
    CHECK(STATUS(gm_make_dir(SH)) == GM_OK, "%s", err.text);
    unlink(INDEX);
    refused(STATUS(gm_checkpoint_open(&arena, SH, &t)), GM_EIO, SH ": neither "
            "model.safetensors nor model.safetensors.index.json is there");
    write_tensors(SH "/1.safetensors", "{" T("b", "F32", "[]", 0, 4) "}", 4);
    write_tensors(SH "/2.safetensors", "{" T("a", "F32", "[]", 0, 4) ","
                  T("c", "F32", "[]", 4, 8) "}", 8);
    write_tensors(SH "/3.safetensors", "{" T("c", "F32", "[]", 0, 4) "}", 4);
    gm_status status = open_index("{\"a\":\"2.safetensors\","
                                  "\"b\":\"1.safetensors\"}", &t);
    CHECK(status == GM_OK && t.count == 3 && t.files == 2, "%s", err.text);
    CHECK(t.tensor[0].name[0] == 'a' && t.tensor[2].name[0] == 'c', "sorted");
    CHECK_TEXT(gm_tensor_find(&t, "b")->path, SH "/1.safetensors");
    gm_tensors_close(&t);
    /* no shard has x, another b, an entry is there twice: as transformers */
    status = open_index("{\"a\":\"2.safetensors\",\"x\":\"2.safetensors\","
                        "\"b\":\"2.safetensors\",\"c\":\"1.safetensors\","
                        "\"c\":\"2.safetensors\"}", &t);
    CHECK(status == GM_OK && t.count == 3 && t.files == 2, "%s", err.text);
    gm_tensors_close(&t);
    status = open_index("{}", &t);
    CHECK(status == GM_OK && t.count == 0, "an empty map: %s", err.text);
    gm_tensors_close(&t);
}

static void test_bad_shards(void) {
    static const struct { const char *map; gm_status status; const char *says; }
    bad[] = {
        {"[]", GM_EINPUT,
         INDEX
         ": weight_map: expected an object, found a list"},
        {"{\"a\":1}", GM_EINPUT,
         INDEX
         ": weight_map: \"a\": expected NAME.safetensors without a path, "
         "found 1"},
        {"{\"a\":\"../x.safetensors\"}", GM_EINPUT,
         INDEX
         ": weight_map: \"a\": expected NAME.safetensors without a path, "
         "found \"../x.safetensors\""},
        {"{\"a\":\"/etc/x.safetensors\"}", GM_EINPUT,
         INDEX
         ": weight_map: \"a\": expected NAME.safetensors without a path, "
         "found \"/etc/x.safetensors\""},
        {"{\"a\":\"b\\\\x.safetensors\"}", GM_EINPUT,
         INDEX
         ": weight_map: \"a\": expected NAME.safetensors without a path, "
         "found \"b\\x.safetensors\""},
        {"{\"a\":\".safetensors\"}", GM_EINPUT,
         INDEX
         ": weight_map: \"a\": expected NAME.safetensors without a path, "
         "found \".safetensors\""},
        {"{\"a\":\"2.safetensors\\u0000.safetensors\"}", GM_EINPUT,
         INDEX
         ": weight_map: \"a\": expected NAME.safetensors without a path, "
         "found \"2.safetensors\""},
        {"{\"a\":\"..\"}", GM_EINPUT,
         INDEX
         ": weight_map: \"a\": expected NAME.safetensors without a path, "
         "found \"..\""},
        {"{\"a\":\"9.safetensors\"}", GM_EIO,
         SH "/9.safetensors: cannot open: No such file or directory"},
        {"{\"a\":\"2.safetensors\",\"c\":\"3.safetensors\"}", GM_EINPUT,
         SH "/3.safetensors: tensor \"c\" is also in " SH "/2.safetensors"},
    };
    gm_tensors t = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        refused(open_index(bad[i].map, &t), bad[i].status, bad[i].says);
        CHECK(t.files == 0, "nothing stays open");
    }
    write_file(INDEX, "{}", 2);
    refused(STATUS(gm_checkpoint_open(&arena, SH, &t)), GM_EINPUT, INDEX
            ": weight_map: expected an object, found nothing");
    unlink(INDEX);
}

/* -------------------------------------------------------------------- TSV */

static void start_again(void) {
    gm_arena_free(&arena);
    arena = (gm_arena){0};
}

static gm_status table(const char *text, size_t n, gm_table *t) {
    write_file(DIR "/t.tsv", text, n);
    return STATUS(gm_table_read(&arena, DIR "/t.tsv", t));
}

static void test_table(void) {
    static const char text[] = "# format 1\n#hash\tab cd \n# empty\n\n"
        "name\tbits\tbytes\r\na\t4\t\n\nb b\t16\t8\r\n\t\tx";
    gm_table t;
    gm_status status = table(text, sizeof text - 1, &t);
    CHECK(status == GM_OK, "%s", err.text);
    if (status != GM_OK) return;
    CHECK(t.keys.count == 3 && t.columns == 3 && t.rows == 3, "%zu keys, %ld "
          "columns, %ld rows", t.keys.count, t.columns, t.rows);
    CHECK_TEXT(gm_table_key(&t, "format"), "1");
    CHECK_TEXT(gm_table_key(&t, "hash"), "ab cd ");
    CHECK_TEXT(gm_table_key(&t, "empty"), "");
    CHECK(!gm_table_key(&t, "none"), "absent key");
    CHECK(gm_table_column(&t, "bytes") == 2, "column by name");
    CHECK(gm_table_column(&t, "byte") == -1, "absent column");
    CHECK_TEXT(t.cell[0 * 3 + 0], "a");
    CHECK_TEXT(t.cell[0 * 3 + 2], "");
    CHECK_TEXT(t.cell[1 * 3 + 0], "b b");
    CHECK_TEXT(t.cell[1 * 3 + 2], "8");
    CHECK_TEXT(t.cell[2 * 3 + 2], "x");
    CHECK(t.line[0] == 6 && t.line[1] == 8 && t.line[2] == 9, "line numbers");
    CHECK(table("a", 1, &t) == GM_OK && t.columns == 1 && t.rows == 0,
          "column names alone: %s", err.text);
}

#define UTF16 ": expected UTF-8, found UTF-16, as a spreadsheet's \"Unicode " \
              "text\""
#define QUOTE(line) ": line " #line ": expected a whole cell between the " \
                    "quotes that it begins with"
static void test_bad_table(void) {
    static const struct { const char *text; size_t n; const char *says; }
    bad[] = {
        {"", 0, ": no line of column names"},
        {"# a b\n", 6, ": no line of column names"},
        {"#\na\n", 4, ": line 1: expected \"# key value\""},
        {"# \t\na\n", 6, ": line 1: expected \"# key value\""},
        {"# a 1\n# a 2\nx\n", 14, ": line 2: key \"a\" appears twice"},
        {"a\tb\n1\n", 6, ": line 2: expected 2 cells, found 1"},
        {"a\tb\n1\t2\n1\t2\t3\n", 14, ": line 3: expected 2 cells, found 3"},
        {"a\ta\n", 4, ": line 1: column 2 has the repeated name \"a\""},
        {"a\t\tb\n", 5, ": line 1: column 2 has the empty name \"\""},
        {"a\n# k v\n", 8,
         ": line 2: \"# key value\" lines come before the column names"},
        {"a\nb\xFF\n", 5, ": line 2: byte 0xFF is not valid text"},
        {"a\n\0\n", 4, ": line 2: byte 0x00 is not valid text"},
        {"\xFF\xFE" "a\0", 4, UTF16}, {"\xFE\xFF\0a", 4, UTF16},
        {"a;b\n", 4, ": line 1: expected cells separated by tabs, found "
         "\"a;b\""},
        {"a\tb\n\"1\t2\n", 9, QUOTE(2)}, {"\"# a\nb\n", 7, QUOTE(1)},
        {"a\tb\n\"1\"2\t2\n", 11, QUOTE(2)},
        {"a\tb\n1\t\"\"\"2\"\n", 12, QUOTE(2)},
        {"a\tb\n1\t\"\n", 8, QUOTE(2)},
        {"a\tb\n1\t\t\n", 8, NULL}, {"a\tb\n1\t\t\t3\n", 10,
         ": line 2: expected 2 cells, found 4"},
    };
    gm_table t;
    char expected[256];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(expected, sizeof expected, DIR "/t.tsv%s", bad[i].says);
        if (!bad[i].says)
            CHECK(table(bad[i].text, bad[i].n, &t) == GM_OK, "%s", err.text);
        else
            refused(table(bad[i].text, bad[i].n, &t), GM_EINPUT, expected);
    }
    refused(STATUS(gm_table_read(&arena, DIR "/none", &t)), GM_EIO,
            DIR "/none: cannot open: No such file or directory");
}

/* Claim: a table that a spreadsheet has saved is the table: with a mark, CRLF,
   cells and comments in quotes, tabs at the ends of lines and lines of tabs. */
static void test_spreadsheet(void) {
    static const char *const cells[] = {"a", "b \"c\"", "-", "0.5", "1,2;3",
        "\xC3\xA9", "x#", "it's", " ", "1e-300", ""};
    static const char *const values[] = {"1", "two words", "\"q\" and, ; more",
        "", "x  y ", "'"};
    uint64_t at = 0;
    for (int round = 0; round < 2000; round++) {
        char plain[2048] = "", saved[4096] = "\xEF\xBB\xBF";
        char *p = plain, *q = saved + 3 * (gm_random(8, 1, at++) % 2);
        const char *end = gm_random(8, 1, at++) % 2 ? "\r\n" : "\n";
        const int columns = 1 + (int)(gm_random(8, 1, at++) % 4);
        const int rows = (int)(gm_random(8, 1, at++) % 4);
        const int keys = (int)(gm_random(8, 1, at++) % 3);
        *q = 0;
        for (int i = 0; i < keys + 1 + rows; i++) {
            const bool key = i < keys;
            if (!p[0] && gm_random(8, 1, at++) % 4 == 0) {
                p += sprintf(p, "\n");
                q += sprintf(q, "\t\t%s", end);
            }
            for (int c = 0; c < (key ? 1 : columns); c++) {
                char text[64], column[16];
                sprintf(column, "c%d", c);
                const char *cell = key ? values[gm_random(8, 1, at++) % 6]
                    : i == keys ? column : cells[gm_random(8, 1, at++) %
                                                 (c ? 11 : 10)];
                if (key) sprintf(text, "# k%d %s", i, cell);
                else strcpy(text, cell);
                p += sprintf(p, "%s%s", c ? "\t" : "", text);
                q += sprintf(q, "%s", c ? "\t" : "");
                const bool quoted = strchr(text, '"') ||
                                    gm_random(8, 1, at++) % 2;
                if (quoted) *q++ = '"';
                for (const char *x = text; *x; *q++ = *x++)
                    if (quoted && *x == '"') *q++ = '"';
                if (quoted) *q++ = '"';
            }
            p += sprintf(p, "\n");
            for (uint64_t n = gm_random(8, 1, at++) % 4; n > 0; n--) *q++ = '\t';
            q += sprintf(q, "%s", end);
        }
        gm_table x, y;
        gm_status s = table(plain, (size_t)(p - plain), &x);
        if (!s) s = table(saved, (size_t)(q - saved), &y);
        CHECK(s == GM_OK && x.rows == y.rows && x.columns == y.columns &&
              x.keys.count == y.keys.count, "%s: %s", saved, err.text);
        if (s) continue;
        for (long i = 0; i < x.rows * x.columns; i++)
            CHECK_TEXT(y.cell[i], x.cell[i]);
        for (size_t i = 0; i < x.keys.count; i++)
            CHECK_TEXT(y.keys.key[i].value, x.keys.key[i].value);
        for (long i = 0; i < x.rows; i++)
            CHECK(x.line[i] == y.line[i], "line %ld", y.line[i]);
        if (round % 64 == 0) start_again();
    }
}

/* -------------------------------------------------------------------- npy */

static gm_status npy(int version, const char *header, const void *data,
                     size_t n, int32_t **tokens, long *count) {
    uint8_t file[512] = "\x93NUMPY";
    size_t length = strlen(header), at = version == 1 ? 10 : 12;
    file[6] = (uint8_t)version;
    file[8] = (uint8_t)length;
    memcpy(file + at, header, length);
    if (n) memcpy(file + at + length, data, n);
    write_file(DIR "/t.npy", file, at + length + n);
    return STATUS(*tokens = gm_npy_read(&arena, DIR "/t.npy", count));
}

#define NPY(descr, order, shape) "{'descr': '" descr "', 'fortran_order': " \
    order ", 'shape': " shape ", }     \n"

static void test_npy(void) {
    static const int32_t i4[3] = {7, 0, INT32_MAX};
    static const int64_t i8[3] = {7, 0, INT32_MAX};
    static const uint16_t u2[3] = {7, 0, 65535};
    static const uint32_t u4[3] = {7, 0, INT32_MAX};
    int32_t *t = NULL;
    long n = 0;
    gm_status status = npy(1, NPY("<i4", "False", "(3,)"), i4, 12, &t, &n);
    CHECK(status == GM_OK && n == 3 && t[0] == 7 && t[2] == INT32_MAX, "%s",
          err.text);
    status = npy(2, NPY("<i8", "False", "(3,)"), i8, 24, &t, &n);
    CHECK(status == GM_OK && n == 3 && t[0] == 7 && t[2] == INT32_MAX, "%s",
          err.text);
    status = npy(3, NPY("<u2", "False", "(3,)"), u2, 6, &t, &n);
    CHECK(status == GM_OK && n == 3 && t[2] == 65535, "%s", err.text);
    status = npy(1, NPY("<u4", "False", "(3,)"), u4, 12, &t, &n);
    CHECK(status == GM_OK && n == 3 && t[2] == INT32_MAX, "%s", err.text);
    status = npy(1, NPY("<i4", "False", "(0,)"), NULL, 0, &t, &n);
    CHECK(status == GM_OK && n == 0, "no tokens: %s", err.text);
}

#define HEADER "npy header: expected a descr of <i4 <i8 <u2 <u4, fortran_order " \
    "False and shape (COUNT,), found "
#define LAYOUT "expected an npy file of version 1.0, 2.0 or 3.0 with its " \
    "header, found "

static void test_bad_npy(void) {
    static const int32_t i4[2] = {7, -1};
    static const int64_t i8[2] = {7, 1LL << 31};
    static const struct { const char *header; size_t n; const char *says; }
    bad[] = {
        {NPY(">i4", "False", "(2,)"), 8, NULL},
        {NPY("<f4", "False", "(2,)"), 8, NULL},
        {NPY("<i", "False", "(2,)"), 8, NULL},
        {NPY("<i4", "True", "(2,)"), 8, NULL},
        {NPY("<i4", "False", "(1, 2)"), 8, NULL},
        {NPY("<i4", "False", "()"), 4, NULL},
        {NPY("<i4", "False", "(3,)"), 8,
         "expected 3 elements of 4 bytes each, found 8 bytes of data"},
        {NPY("<i4", "False", "(2,)"), 7,
         "expected 2 elements of 4 bytes each, found 7 bytes of data"},
        {NPY("<i4", "False", "(4611686018427387904,)"), 0,
         "expected 4611686018427387904 elements of 4 bytes each, found 0 "
         "bytes of data"},
        {NPY("<i4", "False", "(2,)"), 8, "element 1 is -1, expected a token id"
         " from 0 to 2147483647"},
        {"{'descr': '<i4', 'shape': (2,)}", 8, NULL},
        {"{'descr': '<i4', 'descr': '<i4', 'shape': (2,)}", 8, NULL},
        {NPY("<i4", "False", "(99999999999999999999,)"), 8, NULL},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (2,), 'x'}", 8, NULL},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (2,), "
         "'descr': '<i4'}", 8, NULL},
        {NPY("<i4", "False", "(,)"), 8, NULL},
        {NPY("<i4", "Maybe", "(2,)"), 8, NULL},
        {"", 8, NULL},
    };
    int32_t *t;
    long n;
    char expected[512];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(expected, sizeof expected, DIR "/t.npy: %s%s",
                 bad[i].says ? bad[i].says : HEADER,
                 bad[i].says ? "" : bad[i].header);
        gm_clean(expected, "");
        refused(npy(1, bad[i].header, i4, bad[i].n, &t, &n), GM_EINPUT,
                expected);
    }
    refused(npy(1, NPY("<i8", "False", "(2,)"), i8, 16, &t, &n), GM_EINPUT,
            DIR "/t.npy: element 1 is 2147483648, expected a token id from 0 "
            "to 2147483647");
    refused(npy(4, NPY("<i4", "False", "(2,)"), i4, 8, &t, &n), GM_EINPUT,
            DIR "/t.npy: " LAYOUT "83 bytes");
    write_file(DIR "/t.npy", "PK\3\4 a zip file", 15);
    refused(STATUS(t = gm_npy_read(&arena, DIR "/t.npy", &n)), GM_EINPUT,
            DIR "/t.npy: " LAYOUT "15 bytes");
    write_file(DIR "/t.npy", "\x93NUMPY\1\0\xFF\xFF{}", 12);
    refused(STATUS(t = gm_npy_read(&arena, DIR "/t.npy", &n)), GM_EINPUT,
            DIR "/t.npy: " LAYOUT "12 bytes");
    write_file(DIR "/t.npy", "\x93NUMPY\1\0\5\0{'descr': '<i4', "
               "'fortran_order': False, 'shape': (0,), }", 67);
    refused(STATUS(gm_npy_read(&arena, DIR "/t.npy", &n)), GM_EINPUT,
            DIR "/t.npy: " HEADER "{'des");
}

/* --------------------------------------------------------------- mutations */

static const char swap[] = "{}[]\",:\\0129-+.eEunltf \t\n#'()\xC3\x00\xFF";

/* A copy of `from` with a few bytes changed, dropped or cut off. */
static size_t mutate(const char *from, size_t n, char *to, uint64_t stream,
                     uint64_t round) {
    memcpy(to, from, n);
    for (uint64_t k = 0; k <= round % 3 && n; k++) {
        uint64_t r = gm_random(stream, round, k);
        size_t at = r % n;
        if (r >> 60 == 0) n = at;
        else if (r >> 60 < 4) memmove(to + at, to + at + 1, --n - at);
        else if (r >> 60 < 6) to[at] = (char)(r >> 40);
        else to[at] = swap[(r >> 32) % (sizeof swap - 1)];
    }
    return n;
}

/* Whatever opens can be read to its last byte; all else has a message that
   begins with the file's name. */
static void fuzz_tensors(void) {
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
        T("b", "F32", "[2,3]", 3, 27) "," T("a", "F16", "[]", 27, 29) ","
        T("c", "U8", "[3]", 0, 3) "," T("d", "F64", "[1]", 29, 37) "}";
    char good[8 + sizeof header + 37], file[sizeof good];
    gm_real out[64];
    gm_tensors t = {0};
    long opened = 0, messages = 0;
    uint64_t n = sizeof header - 1;
    memset(good, 1, sizeof good);
    memcpy(good, &n, 8);
    memcpy(good + 8, header, n);
    for (uint64_t round = 0; round < 3000; round++) {
        size_t size = mutate(good + 8 * (round % 4 != 0),
                             round % 4 ? n : 8 + n + 37, file, 3, round);
        if (round % 4) {        /* the header alone, with its true length */
            uint64_t length = size;
            memmove(file + 8, file, size);
            memcpy(file, &length, 8);
            memset(file + 8 + size, 1, 37);
            size += 8 + 37;
        }
        write_file(ST, file, size);
        gm_status status = STATUS(gm_safetensors_open(&arena, ST, &t));
        opened += status == GM_OK;
        messages += status == GM_EINPUT &&
                    strncmp(err.text, ST ": ", strlen(ST) + 2) == 0;
        for (long i = 0; i < t.count; i++) {
            const gm_tensor *a = &t.tensor[i];
            size_t element = gm_dtype_bytes(a->dtype);
            int64_t count = element ? (int64_t)(a->bytes / element) : 0;
            CHECK(count <= 64, "%s: %lld elements", a->name, (long long)count);
            STATUS(gm_tensor_read(a, 0, count, out));
        }
        gm_tensors_close(&t);
        if (round % 64 == 0) start_again();
    }
    CHECK(opened + messages == 3000 && opened > 50 && messages > 2000,
          "%ld opened, %ld messages", opened, messages);
}

static void fuzz_text(void) {
    static const char json[] = "{\"a\":[1,-2.5e3,true,null,\"\\u00e9\\ud83d"
        "\\ude00\\n\"],\"b\":{\"c\":\"\xC3\xA9\",\"d\":[[[]],{}]},\"e\":false}";
    static const char tsv[] = "# format 1\n# b c d\nname\tbits\tbytes\r\n"
        "a\t4\t\n\nb b\t16\t8\r\n\xC3\xA9\t1\t2";
    char text[sizeof json + sizeof tsv];
    gm_table t;
    long fine = 0, messages = 0;
    for (uint64_t round = 0; round < 20000; round++) {
        size_t n = mutate(json, sizeof json - 1, text, 4, round);
        char *exact = malloc(n + 1);            /* so that overreads show */
        memcpy(exact, text, n);
        exact[n] = 0;
        gm_status status = STATUS(gm_json_parse(&arena, "x", 1, exact, n));
        fine += status == GM_OK;
        messages += status == GM_EINPUT && !strncmp(err.text, "x: line ", 8);
        free(exact);
        if (round % 100 == 0) start_again();
    }
    CHECK(fine + messages == 20000 && fine > 500 && messages > 10000,
          "JSON: %ld fine, %ld messages", fine, messages);
    fine = messages = 0;
    for (uint64_t round = 0; round < 1000; round++) {
        size_t n = mutate(tsv, sizeof tsv - 1, text, 5, round);
        gm_status status = table(text, n, &t);
        fine += status == GM_OK;
        messages += status == GM_EINPUT &&
                    !strncmp(err.text, DIR "/t.tsv: ", sizeof DIR + 7);
        for (long i = 0; status == GM_OK && i < t.rows * t.columns; i++)
            CHECK(strlen(t.cell[i]) < sizeof tsv, "cell %ld", i);
        if (round % 64 == 0) start_again();
    }
    CHECK(fine + messages == 1000 && fine > 150 && messages > 150,
          "TSV: %ld fine, %ld messages", fine, messages);
}

static void fuzz_npy(void) {
    static const char good[] = "\x93NUMPY\1\0\x3c\0"
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }   \n"
        "\1\0\0\0\2\0\0\0\3\0\0";         /* and the NUL that ends it */
    char file[sizeof good];
    long n, fine = 0, messages = 0;
    for (uint64_t round = 0; round < 1000; round++) {
        size_t size = mutate(good, sizeof good, file, 6, round);
        write_file(DIR "/t.npy", file, size);
        gm_status status = STATUS(gm_npy_read(&arena, DIR "/t.npy", &n));
        fine += status == GM_OK && n <= 8;
        messages += status == GM_EINPUT &&
                    !strncmp(err.text, DIR "/t.npy: ", sizeof DIR + 7);
        if (round % 64 == 0) start_again();
    }
    CHECK(fine + messages == 1000 && fine > 20 && messages > 500,
          "npy: %ld fine, %ld messages", fine, messages);
}

static void fuzz_index(void) {
    static const char good[] = "{\"metadata\":{},\"weight_map\":{\"a\":\"2."
        "safetensors\",\"b\":\"1.safetensors\",\"c\":\"2.safetensors\"}}";
    char text[sizeof good];
    gm_tensors t = {0};
    long fine = 0, messages = 0;
    for (uint64_t round = 0; round < 1000; round++) {
        size_t n = mutate(good, sizeof good - 1, text, 7, round);
        write_file(INDEX, text, n);
        gm_status status = STATUS(gm_checkpoint_open(&arena, SH, &t));
        fine += status == GM_OK;
        messages += status != GM_OK && !strncmp(err.text, SH "/", sizeof SH);
        gm_tensors_close(&t);
        if (round % 64 == 0) start_again();
    }
    CHECK(fine + messages == 1000 && fine > 5 && messages > 500,
          "index: %ld fine, %ld messages", fine, messages);
    unlink(INDEX);
}

static int test_main(void) {
    CHECK(STATUS(gm_make_dir(DIR)) == GM_OK, "%s", err.text);
    test_half(), test_reach(), test_bfloat(), test_store(), test_utf8();
    test_json(), test_bad_json();
    test_tensors(), test_bad_tensors(), test_bad_header_length();
    test_tensor_read(), test_nan_position();
    test_writer(), test_writer_refuses(), test_other_types();
    test_shards(), test_bad_shards();
    test_table(), test_bad_table(), test_spreadsheet();
    test_npy(), test_bad_npy();
    fuzz_tensors(), fuzz_text(), fuzz_npy(), fuzz_index();
    gm_arena_free(&arena);
    return test_end("test_tensors");
}

TEST_MAIN(test_main())
