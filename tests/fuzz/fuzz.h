/* fuzz.h: what the fuzz targets share.  A target is a function of bytes,
   fuzz_NAME in NAME.c, that must return whatever the bytes are; entry.c gives
   it to libFuzzer, ../test_fuzz.c replays the committed corpus through it.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_FUZZ_H
#define GM_FUZZ_H

#include "cmd/cmd.h"
#include "tests/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fuzz_json(const uint8_t *data, size_t size);
void fuzz_safetensors(const uint8_t *data, size_t size);
void fuzz_tokenizer(const uint8_t *data, size_t size);
void fuzz_text(const uint8_t *data, size_t size);
void fuzz_config(const uint8_t *data, size_t size);
void fuzz_npy(const uint8_t *data, size_t size);
void fuzz_scores(const uint8_t *data, size_t size);
void fuzz_alloc(const uint8_t *data, size_t size);
void fuzz_vec(const uint8_t *data, size_t size);
void fuzz_compare(const uint8_t *data, size_t size);
void fuzz_choices(const uint8_t *data, size_t size);
void fuzz_foreign(const uint8_t *data, size_t size);
void fuzz_layout(const uint8_t *data, size_t size);
void fuzz_external(const uint8_t *data, size_t size);
void fuzz_verify(const uint8_t *data, size_t size);
void fuzz_command(const uint8_t *data, size_t size);

/* A property of what was accepted. */
#define FUZZ_CHECK(condition)                                              \
    do {                                                                   \
        if (!(condition)) {                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__,        \
                    __LINE__, #condition);                                 \
            abort();                                                       \
        }                                                                  \
    } while (0)

/* memory.c: between fuzz_begin and fuzz_end the library sees no files but
   these.  "/fuzz/NAME" is a copy of the bytes in a block of exactly their size,
   so that the address sanitizer sees a read one byte beyond; what lies under
   fuzz_dir() is the real file system.  Nothing else can be read or written. */
void fuzz_begin(void);
void fuzz_file(const char *path, const void *data, size_t size);
/* Ends the run and checks what it cost: blocks of memory together at most
   times * (bytes of files) + plus, and one second of the processor. */
void fuzz_end(double times, size_t plus);
const char *fuzz_dir(void);
/* A whole real file, as seeds and fixtures are; *size may be NULL. */
char *fuzz_load(const char *path, size_t *size);

#endif
