/* hash.c: SHA-256 of a file, as gamma checks its candidates: build/bench/hash
   FILE [ISA] prints what sha256sum prints.  bench/peers.py times it.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib/lib.h"

#include <string.h>

static void hash(void *path) {
    char hex[65];
    gm_file_hash(path, hex);
    printf("%s  %s\n", hex, (char *)path);
}

int main(int argc, char **argv) {
    gm_error err;
    if (argc < 2) return GM_EUSAGE;
    gm_isa_use(argc > 2 && !strcmp(argv[2], "scalar") ? GM_SCALAR
                                                       : gm_isa_best());
    gm_status s = gm_try(hash, argv[1], &err);
    if (s) fprintf(stderr, "hash: %s\n", err.text);
    return (int)s;
}
