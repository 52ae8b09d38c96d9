/* vec.h: reads golden vectors.  A .vec file is text: lines starting with #
   say where it comes from; a record starts with `@ name type dim dim ...`,
   type f (numbers), i (integers) or s (one line of text); its values follow.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_VEC_H
#define GM_VEC_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    long count, dim[4];
    int rank;
    double *f;          /* type f */
    int64_t *i;         /* type i */
    char *s;            /* type s */
} gm_vec;

/* Reads record `name` of `path`.  A missing file or record ends the test
   program: a fixture that is not there is a failure, never a skip. */
static gm_vec vec_read(const char *path, const char *name) {
    char line[1 << 16], head[256], type;
    gm_vec v = {.count = 1};
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        int at = 0, more = 0;
        if (sscanf(line, "@ %255s %c%n", head, &type, &at) != 2) continue;
        if (strcmp(head, name) != 0) continue;
        while (v.rank < 4 && sscanf(line + at, "%ld%n", &v.dim[v.rank], &more) == 1)
            v.count *= v.dim[v.rank++], at += more;
        size_t n = (size_t)v.count;
        if (type == 's') {
            v.s = fgets(line, sizeof line, file) ? strdup(line) : strdup("");
            v.s[strcspn(v.s, "\n")] = 0;
        } else if (type == 'i') {
            v.i = calloc(n + 1, sizeof *v.i);
            for (size_t j = 0; j < n && fscanf(file, "%ld", &v.i[j]) == 1; j++);
        } else {
            v.f = calloc(n + 1, sizeof *v.f);
            for (size_t j = 0; j < n && fscanf(file, "%lf", &v.f[j]) == 1; j++);
        }
        fclose(file);
        return v;
    }
    printf("FAILED %s: no record %s\n%s: 0 passed, 1 failed\n", path, name, path);
    exit(1);
}

static inline void vec_free(gm_vec *v) {
    free(v->f), free(v->i), free(v->s);
    *v = (gm_vec){0};
}

#endif
