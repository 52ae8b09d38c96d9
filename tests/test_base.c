/* test_base.c: arenas, random numbers against Python integers, SHA-256 against
   hashlib, exact decimals, refusals.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#include "test.h"

#include <math.h>
#include <stdint.h>

/* Made with Python's integers from the formula in gamma.h. */
static void random_numbers(void) {
    const uint64_t most = UINT64_MAX;
    CHECK(gm_random(0, 0, 0) == 0xfbe988335f36c931, "0 0 0");
    CHECK(gm_random(1, 2, 3) == 0xb19f667b2781fdf0, "1 2 3");
    CHECK(gm_random(most, most, most) == 0xfc5a804d0a8ade77, "all ones");
    CHECK(gm_random(42, 0, 7) == 0x19b06cf74db7ea4e, "42 0 7");
    /* mean of n uniform numbers: standard deviation sqrt(1/12/n); 5 of them */
    double sum = 0, least = 1, largest = 0;
    const int n = 100000;
    for (int i = 0; i < n; i++) {
        double u = gm_uniform(8, 1, (uint64_t)i);
        sum += u;
        least = fmin(least, u);
        largest = fmax(largest, u);
    }
    CHECK(fabs(sum / n - 0.5) < 5 * sqrt(1.0 / 12 / n), "mean %g", sum / n);
    CHECK(least >= 0 && least < 1e-3 && largest < 1 && largest > 1 - 1e-3,
          "range %g .. %g", least, largest);
}

/* hashlib's digest of n bytes 7 i mod 256, around every padding boundary. */
static void sha256(void) {
    static const struct { int n; const char *hex; } known[] = {
        {0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {55, "576a1bf8d4478657e6dc4af9398544765c2a92cde28478b019235cfed315fc09"},
        {56, "9b20501dfd1d99161c257950f3444f3e49230c351c5c8e0943ef369f85f5205d"},
        {63, "30b345906b493f06f69444b6521113511c242f30e29840462950035043682f1e"},
        {64, "d8bc63b4fc1156e5e7d95a418b9bf54cd3174bedbc2db40f74895349b229b3c0"},
        {65, "1ee23b0fbcaecc1aff4a9e8f1645f35ab2c8e13609cd73b68df8b5e3f63ce073"},
        {1000, "89f4ff56a25dd1db06a4ce6033603775d705fb96f30f8693733fef602a1ca532"}};
    uint8_t data[1000];
    for (int i = 0; i < 1000; i++) data[i] = (uint8_t)(i * 7);
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        for (size_t piece = 1, i = 0; piece <= 1000;
             piece = ++i % 2 ? piece : piece * 3 + 1) {
            gm_sha sha;
            gm_isa_use(i % 2 ? gm_isa_best() : GM_SCALAR);
            char hex[65];
            size_t n = (size_t)known[k].n;
            gm_sha_begin(&sha);
            for (size_t at = 0; at < n; at += piece)
                gm_sha_add(&sha, data + at, n - at < piece ? n - at : piece);
            gm_sha_end(&sha, hex);
            CHECK_TEXT(hex, known[k].hex);
        }
    gm_isa_use(gm_isa_best());
}

/* The processor's instructions against the scalar code: blocks drawn, any
   state before them, 0 to 9 blocks at any alignment. */
static void sha256_instructions(void) {
    static uint8_t data[9 * 64 + 16];
    uint32_t h[8], same[8];
    long differ = 0;
    if (!gm_sha_x86(h, data, 0)) {
        printf("test_base: NOT CHECKED, missing: SHA instructions\n");
        return;
    }
    for (uint64_t run = 0; run < 2000; run++) {
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (uint8_t)(256 * gm_uniform(5, run, i));
        for (int i = 0; i < 8; i++)
            h[i] = same[i] = (uint32_t)(0x1p32 * gm_uniform(6, run,
                                                            (uint64_t)i));
        gm_sha_x86(h, data + run % 16, run % 10);
        gm_sha_scalar(same, data + run % 16, run % 10);
        differ += memcmp(h, same, sizeof h) != 0;
    }
    CHECK(differ == 0, "%ld of 2000 states differ", differ);
}

static void arenas(void) {
    gm_arena a = {0};
    CHECK(STATUS(gm_alloc(&a, SIZE_MAX / 2, 3)) == GM_EMEM, "a product that overflows");
    CHECK(STATUS(gm_alloc(&a, SIZE_MAX / 4 + 2, 4)) == GM_EMEM, "a product that wraps to "
          "a few bytes");
    CHECK(STATUS(gm_alloc(&a, SIZE_MAX / 4, 1)) == GM_EMEM, "more than there is");
    CHECK(gm_alloc(&a, 0, 8) != NULL, "nothing is a valid pointer");
    char *first = gm_alloc(&a, 100, 1);
    memset(first, 1, 100);
    gm_mark mark = gm_arena_mark(&a);
    size_t used = a.used;
    for (int i = 0; i < 50; i++) {
        unsigned char *p = gm_alloc(&a, 100000, 1);
        CHECK((uintptr_t)p % 64 == 0, "aligned");
        CHECK(p[0] == 0 && p[99999] == 0, "zeroed");
        memset(p, 0xff, 100000);
    }
    CHECK(a.peak >= 5000000, "peak %zu", a.peak);
    gm_arena_rewind(&a, mark);
    CHECK(a.used == used, "used %zu, expected %zu", a.used, used);
    unsigned char *again = gm_alloc(&a, 1000, 1);
    CHECK(again[0] == 0 && again[999] == 0, "zeroed again after a rewind");
    CHECK(first[0] == 1 && first[99] == 1, "what came before stays");
    CHECK_TEXT(gm_format(&a, "%s-%d", "x", 7), "x-7");
    gm_arena_free(&a);
}

/* Claim: floor(decimal * unit) of up to 80 digits, as the product of the digits
   learned at school has it. */
static void random_decimals(void) {
    long small = 0;
    for (uint64_t round = 0; round < 20000; round++) {
        uint64_t draw = 4, digits = 1 + gm_random(3, round, 0) % 80;
        uint64_t places = gm_random(3, round, 1) % (digits + 1);
        const int64_t unit = 1 + (int64_t)(gm_random(3, round, 2) >>
                                           (2 + gm_random(3, round, 3) % 60));
        int digit[80], product[112] = {0};
        char text[90] = "", *to = text;
        for (uint64_t i = 0; i < digits; i++) {
            uint64_t kind = gm_random(3, round, draw++) % 4;
            digit[i] = kind == 0 ? 9 : kind == 1 || i + places + 18 < digits
                     ? 0 : (int)(gm_random(3, round, draw++) % 10);
            if (i == digits - places) *to++ = '.';
            *to++ = (char)('0' + digit[i]);
        }
        uint64_t rest = (uint64_t)unit;
        for (int j = 0; rest; j++, rest /= 10)      /* lowest digit first */
            for (uint64_t i = 0; i < digits; i++)
                product[digits - 1 - i + (uint64_t)j] +=
                    digit[i] * (int)(rest % 10);
        for (int i = 0; i < 111; i++) {
            product[i + 1] += product[i] / 10;
            product[i] %= 10;
        }
        __int128 expected = 0;
        for (int i = 111; i >= (int)places; i--)
            if (expected <= INT64_MAX) expected = expected * 10 + product[i];
        int64_t found = -1;
        bool fits = gm_is_scaled(text, strlen(text), unit, &found);
        CHECK(fits == (expected <= INT64_MAX) &&
              (!fits || found == (int64_t)expected), "%s times %lld: found %lld",
              text, (long long)unit, (long long)found);
        small += fits && found > 0;
    }
    CHECK(small > 5000, "%ld of them are numbers", small);
}

static void decimals(void) {
    int64_t x;
    static const struct { const char *text; int64_t unit, value; } good[] = {
        {"2.5", 106168320, 265420800}, {"3", 7, 21}, {"0.1", 10, 1},
        {"0.333333333333", 3, 0}, {".5", 9, 4}, {"2.", 5, 10}, {"0", 9, 0},
        /* exact where doubles are not: 2.55 N = 270729216 */
        {"2.55", 106168320, 270729216},
        {"8.999999999999", 1000000000000, 8999999999999},
        /* what no double tells from 3, and what our own tables say */
        {"2.9999999999999999999", 1000, 2999}, {"0.1234567890123", 10, 1},
        {"3.0000000000000000000000000000001", 10, 30},
        {"2.6805555555555554", 9, 24}, {"000000000000000000000000002.5", 4, 10},
        {"0.9223372036854775807", INT64_MAX, 8507059173023461584},
        {"9223372036854775807", 1, INT64_MAX}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK(STATUS(x = gm_parse_scaled("--bits", good[i].text, good[i].unit)) ==
              GM_OK, "%s", good[i].text);
        CHECK(x == good[i].value, "%s x %lld = %lld, found %lld", good[i].text,
              (long long)good[i].unit, (long long)good[i].value, (long long)x);
    }
    const char *bad[] = {"", "-1", "1e3", "2,5", ".", "1.2.3", " 1", "nan",
                         "99999999999999999999", "..", ".-", "1.2e3", "1. 2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char expected[200];
        snprintf(expected, sizeof expected, "--bits: expected a decimal number "
                 "such as 2.5, found \"%s\"", bad[i]);
        CHECK(STATUS(x = gm_parse_scaled("--bits", bad[i], 10)) == GM_EUSAGE,
              "accepted \"%s\"", bad[i]);
        CHECK_TEXT(err.text, expected);
    }
    CHECK(STATUS(x = gm_parse_scaled("--bits", "999999999999999999", INT64_MAX))
          == GM_EUSAGE, "a product beyond 64 bits");
    random_decimals();
}

static void numbers(void) {
    long n;
    double d;
    CHECK(STATUS(n = gm_parse_long("--n", "17", 1, 20)) == GM_OK && n == 17, "17");
    const char *bad[] = {"21", "0", "x", "", "3x", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char expected[128];
        snprintf(expected, sizeof expected, "--n: expected a whole number from "
                 "1 to 20, found \"%s\"", bad[i]);
        CHECK(STATUS(n = gm_parse_long("--n", bad[i], 1, 20)) == GM_EUSAGE, "n");
        CHECK_TEXT(err.text, expected);
    }
    CHECK(STATUS(n = gm_parse_long("--n", "9223372036854775808", 0, INT64_MAX)) ==
          GM_EUSAGE, "2^63 is not taken for the largest number");
    CHECK(STATUS(d = gm_parse_double("--d", "0.5", 0, 1)) == GM_OK && d == 0.5,
          "0.5");
    CHECK(STATUS(d = gm_parse_double("--d", "nan", 0, 1)) == GM_EUSAGE, "NaN");
    CHECK_TEXT(err.text, "--d: expected a number from 0 to 1, found \"nan\"");
    CHECK(STATUS(d = gm_parse_double("--d", "1.5", 0, 1)) == GM_EUSAGE, "1.5");
}

static void errors(void) {
    CHECK(STATUS(gm_fail(GM_EIO, "a\033[31mb\n%s", "c")) == GM_EIO, "status");
    CHECK_TEXT(err.text, "a?[31mb?c");
}

static void count(void *thing) { ++*(int *)thing; }

/* What is owned by a node in an arena goes with the arena, or with the part of
   it that a rewind gives back. */
static void owned_by_an_arena(void) {
    gm_arena a = {0};
    int kept = 0, gone = 0;
    gm_owned *node = gm_alloc(&a, 1, sizeof *node);
    gm_own(node, count, &kept);
    gm_mark mark = gm_arena_mark(&a);
    gm_own(gm_alloc(&a, 1, sizeof *node), count, &gone);
    gm_arena_rewind(&a, mark);
    CHECK(gone == 1 && kept == 0, "after the rewind: %d, %d", gone, kept);
    gm_arena_free(&a);
    CHECK(gone == 1 && kept == 1, "after the end: %d, %d", gone, kept);
}

/* '*' as the definition has it, on texts of few letters; recursive, so only for
   short ones. */
static bool matches(const char *p, const char *name) {
    if (*p == '*')
        return matches(p + 1, name) || (*name && matches(p, name + 1));
    return *p ? *p == *name && matches(p + 1, name + 1) : !*name;
}

static void patterns(void) {
    enum { LONG = 1 << 23 };
    long seen[2] = {0};
    for (uint64_t i = 0; i < 20000; i++) {
        char p[9] = "", name[9] = "", list[32];
        for (uint64_t k = 0; k < gm_random(1, i, 0) % 7; k++)
            p[k] = "ab*"[gm_random(2, i, k) % 3];
        for (uint64_t k = 0; k < gm_random(3, i, 0) % 9; k++)
            name[k] = "ab"[gm_random(4, i, k) % 2];
        const bool expected = matches(p, name);
        seen[expected]++;
        snprintf(list, sizeof list, "c,%s,*c", p);
        CHECK(gm_name_matches(p, name) == expected &&
              gm_name_which(list, name) == (expected ? 1 : -1),
              "\"%s\" and \"%s\": %d", p, name, expected);
    }
    CHECK(seen[0] > 2000 && seen[1] > 2000, "%ld, %ld", seen[0], seen[1]);
    char *name = malloc(LONG + 1);          /* anyone may have written it */
    memset(name, 'a', LONG);
    name[LONG] = 0;
    CHECK(gm_name_matches("*.b,*a", name) && !gm_name_matches("*.*,b*", name),
          "a name of %d letters", LONG);
    free(name);
}

static int test_main(void) {
    random_numbers();
    sha256();
    sha256_instructions();
    arenas();
    decimals();
    numbers();
    errors();
    owned_by_an_arena();
    patterns();
    return test_end("test_base");
}

TEST_MAIN(test_main())
