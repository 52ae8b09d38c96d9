/* json.c: any bytes as JSON.  Accepted: every value lies inside the text and
   is well formed, and its strings survive quoting and parsing again.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

static void check_string(const gm_json *v) {
    const char *at = v->string, *end = at + v->length;
    uint32_t point;
    FUZZ_CHECK(*end == 0);
    while (at < end) {
        int n = gm_utf8(at, end, &point);
        FUZZ_CHECK(n > 0);
        at += n;
    }
    if (strlen(v->string) != v->length) return;     /* holds a NUL */
    gm_arena arena = {0};
    const gm_json *again;
    const char *quoted = gm_json_quote(&arena, v->string);
    FUZZ_CHECK(quoted && STATUS(again = gm_json_parse(&arena, "again", 1, quoted, strlen(quoted))) == GM_OK);
    FUZZ_CHECK(again->length == v->length &&
               memcmp(again->string, v->string, v->length) == 0);
    gm_arena_free(&arena);
}

static void check_value(const gm_json *v, size_t size, int depth) {
    FUZZ_CHECK(v->at < size && depth <= 64);
    if (v->type == GM_JSON_STRING) check_string(v);
    if (v->type == GM_JSON_NUMBER && v->is_integer)
        FUZZ_CHECK((double)v->integer == v->number);
    size_t children = 0;
    for (const gm_json *c = v->child; c; c = c->next, children++) {
        FUZZ_CHECK((c->key != NULL) == (v->type == GM_JSON_OBJECT));
        check_value(c, size, depth + 1);
    }
    if (v->type == GM_JSON_ARRAY || v->type == GM_JSON_OBJECT)
        FUZZ_CHECK(children == v->length);
}

void fuzz_json(const uint8_t *data, size_t size) {
    gm_arena arena = {0};
    const gm_json *v = NULL;
    fuzz_begin();
    fuzz_file("/fuzz/x.json", data, size);
    gm_status s = STATUS(v = gm_json_read(&arena, "/fuzz/x.json", false));
    fuzz_end(192, 4096);
    if (s == GM_OK) check_value(v, size, 0);
    gm_arena_free(&arena);
}
