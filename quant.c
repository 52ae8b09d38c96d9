/* quant.c: what a weight looks like with fewer bits, and the candidates of a
   whole model.  In the order of the code, for a weight W [out, in] with b bits
   and one grid for each group of input columns of a row:

     grid     lo = min(0, min w), hi = max(0, max w)  over the group,
              scale = fp16((hi - lo) / (2^b - 1))  (1 when that is 0),
              zero = clamp(round(-lo / scale), 0, 2^b - 1)
     code     clamp(round(w / scale) + zero, 0, 2^b - 1),  ties to even
     value    q = scale (code - zero)

   Round to nearest, RTN, is that and nothing else.  GPTQ (Frantar et al. 2022)
   makes (w - q) H (w - q)^T small for each row w: it rounds one column after
   the other and moves what each rounding lost onto the columns still to come.

     factor   U upper triangular,  U^T U = (H + damping)^-1
     columns  e_j = (w_j - q_j) / U_jj,   w_t -= e_j U_jt  for t > j
     mixture  W~ = sum_k p_k Q_k,   inner product  g_k = <G, Q_k>
     inputs   H = (2 / S T) sum_t w_t^2 x_t x_t^T   over the calibration text

   Row j of U is the column of the inverse Hessian of the columns j.. that
   optimal brain surgeon asks for, divided by the root of its diagonal;
   tests/test_gptq.c has that definition.  Where this differs from the published
   code [choice]: a group's grid comes from the weights as they stand when its
   first column is reached (there: from a copy as old as the block when a group
   is smaller than the block); dead columns do not enter the mean that damping
   is a share of; U is computed without forming H^-1; scales are rounded to fp16
   before use, also while they are searched.  Which H, and which order, grids
   and inputs gain how much: docs/results.md.

   The candidates of a model are made block after block into one file, which is
   named by the hash of all it depends on, and read from there.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ recipe */

void gm_recipe_parse(const char *bits, long group, gm_recipe *out) {
    *out = (gm_recipe){.group = group, .damping = GM_DAMPING};
    for (const char *c = bits; ; c++) {
        char *end;
        long b = strtol(c, &end, 10);
        if (end == c || !gm_is_bits(b) || (*end && *end != ',') ||
            out->count == GM_MAX_CANDIDATES)
            gm_fail(GM_EUSAGE, "--bits: expected a list of 1..8, 16 or 32 such "
                    "as 2,3,4, found \"%s\"", bits);
        if (out->count && b <= out->bits[out->count - 1])
            gm_fail(GM_EUSAGE, "--bits: expected ascending numbers, found "
                    "\"%s\"", bits);
        out->bits[out->count++] = (int)b;
        c = end;
        if (!*c) return;
    }
}

const char *const gm_quantizer_name[] = {"rtn", "gptq", "external"};
const char *const gm_hessian_name[] = {"token", "plain", "attention"};
static const char *const scales_name[] = {"minmax", "mse"};

#define AT(field) offsetof(gm_recipe, field)
/* What a recipe's text has words for after "bits=... group=...", in the order
   of the words.  A word is written only where it is not the default (but that
   of the Hessian), so that a recipe keeps its text, and a file its hash, when
   words are added. */
static const struct field {
    const char *word;
    const char *const *name;    /* of its values; NULL: a flag, or damping */
    int count;                  /* of them that can be asked for           */
    size_t at;                  /* in gm_recipe                            */
    bool gptq;                  /* RTN has no such field                   */
} fields[] = {
    {"quantizer", gm_quantizer_name, GM_EXTERNAL, AT(quantizer), false},
    {"hessian", gm_hessian_name, 3, AT(hessian), true},
    {"act-order", NULL, 0, AT(act_order), true},
    {"damping", NULL, 0, AT(damping), true},
    {"scales", scales_name, 2, AT(scales), false},
    {"sequential", NULL, 0, AT(sequential), true}};
enum { HESSIAN = 1, DAMPING = 3, FIELDS = 6 };

void gm_recipe_set(gm_recipe *r, const char *word, const char *value) {
    const struct field *f = fields;
    char option[32];
    while (strcmp(f->word, word) != 0) f++;
    snprintf(option, sizeof option, "--%s", word);
    *(int *)((char *)r + f->at) = gm_parse_name(option, value, f->name,
                                                f->count);
}

void gm_recipe_bits(const gm_recipe *r, char text[64]) {
    int n = 0;
    for (int k = 0; k < r->count; k++)
        n += snprintf(text + n, 64 - (size_t)n, "%s%d", k ? "," : "",
                      r->bits[k]);
}

void gm_recipe_text(const gm_recipe *r, char text[128]) {
    char bits[64];
    gm_recipe_bits(r, bits);
    int n = snprintf(text, 128, "%s bits=%s group=%ld",
                     gm_quantizer_name[r->quantizer], bits, r->group);
    for (int i = HESSIAN; i < FIELDS; i++) {
        const void *field = (const char *)r + fields[i].at;
        const char *word = fields[i].word, *const *name = fields[i].name;
        const size_t room = 128 - (size_t)n;
        if (fields[i].gptq && r->quantizer != GM_GPTQ) continue;
        if (name && (i == HESSIAN || *(const int *)field))
            n += snprintf(text + n, room, " %s=%s", word,
                          name[*(const int *)field]);
        if (i == DAMPING && r->damping != GM_DAMPING)
            n += snprintf(text + n, room, " %s=%.9g", word, r->damping);
        if (!name && i != DAMPING && *(const bool *)field)
            n += snprintf(text + n, room, " %s", word);
    }
}

/* One word after "bits=... group=...". */
static void read_word(const char *word, gm_recipe *r) {
    const size_t n = strcspn(word, "=");
    int i = HESSIAN;
    for (; i < FIELDS; i++) {
        const bool flag = !fields[i].name && i != DAMPING;
        if (strlen(fields[i].word) == n && flag == (word[n] == 0) &&
            strncmp(fields[i].word, word, n) == 0)
            break;
    }
    if (r->quantizer == GM_EXTERNAL)
        gm_fail(GM_EINPUT, "candidates: expected nothing after group=, found "
                "\"%s\"", word);
    if (r->quantizer == GM_RTN && (i == FIELDS || fields[i].gptq))
        gm_fail(GM_EINPUT, "candidates: expected nothing but scales= after "
                "group=, found \"%s\"", word);
    if (i == FIELDS)
        gm_fail(GM_EINPUT, "candidates: expected hessian=, act-order, "
                "damping=, scales= or sequential, found \"%s\"", word);
    if (fields[i].name)
        gm_recipe_set(r, fields[i].word, word + n + 1);
    else if (i == DAMPING)
        r->damping = gm_parse_double("damping", word + n + 1, 1e-9, 1);
    else
        *(bool *)((char *)r + fields[i].at) = true;
}

void gm_recipe_read(const char *text, gm_recipe *out) {
    char quantizer[16], bits[64], rest[128];
    long group;
    int n = 0;
    if (strlen(text) >= sizeof rest ||
        /* NOLINTNEXTLINE(cert-err34-c): nine digits */
        sscanf(text, "%15s bits=%63s group=%9ld%n", quantizer, bits, &group,
               &n) != 3 || group < 1 || group > GM_MAX_GROUP)
        gm_fail(GM_EINPUT, "candidates: expected a text such as "
                "\"rtn bits=2,3,4 group=128\", found \"%s\"", text);
    gm_recipe_parse(bits, group, out);
    /* nobody asks for external by name */
    if (strcmp(quantizer, "external") == 0) out->quantizer = GM_EXTERNAL;
    else gm_recipe_set(out, "quantizer", quantizer);
    strcpy(rest, text + n);
    for (char *words = rest, *word; (word = strsep(&words, " "));)
        if (*word) read_word(word, out);
}

/* ------------------------------------------------------------- bit streams

   A row of codes, or of zeros, is a stream of ceil(n b / 8) bytes.  Eight codes
   of b bits are b bytes: code i of the eight stands at bit i b of the
   little-endian number those bytes form. */

static int64_t stream_bytes(long n, int bits) {
    return ((int64_t)n * bits + 7) / 8;
}

static void pack(const uint8_t *code, long n, int bits, uint8_t *stream) {
    for (long i = 0; i < n; i += 8) {
        const long codes = gm_min(8, n - i);
        uint64_t word = 0;
        for (long j = 0; j < codes; j++)
            word |= (uint64_t)code[i + j] << (j * bits);
        for (long j = 0; j < stream_bytes(codes, bits); j++)
            *stream++ = (uint8_t)(word >> (8 * j));
    }
}

/* The eight codes of a word are spread over its bytes by halves: 4 and 4, then
   2 and 2, then 1 and 1; four times as fast as one by one, which the last
   codes are, where eight bytes could end after the stream. */
void gm_unpack(const uint8_t *stream, long n, int bits, uint8_t *code) {
    const uint64_t one = ((uint64_t)1 << bits) - 1;
    const uint64_t four = ((uint64_t)1 << 4 * bits) - 1;
    const uint64_t two = (((uint64_t)1 << 2 * bits) - 1) * 0x100000001;
    const uint64_t each = one * 0x1000100010001;
    uint64_t word = 0;
    long i = 0;
    for (; (n - i) * bits >= 64; i += 8, stream += bits) {
        memcpy(&word, stream, 8);
        word = (word & four) | (word >> 4 * bits & four) << 32;
        word = (word & two) | (word >> 2 * bits & two) << 16;
        word = (word & each) | (word >> bits & each) << 8;
        memcpy(code + i, &word, 8);
    }
    memcpy(&word, stream, (size_t)stream_bytes(n - i, bits));
    for (; i < n; i++, word >>= bits) code[i] = (uint8_t)(word & one);
}

static long groups_of(const gm_packed *p) {
    return (p->in + p->group - 1) / p->group;
}

gm_packed gm_packed_at(long out, long in, int bits, long group, uint8_t *data) {
    const gm_parts n = gm_packed_parts(out, in, bits, group);
    return (gm_packed){bits, out, in, group, data,
                       data ? data + n.codes : NULL,
                       data ? data + n.codes + n.scales : NULL, NULL};
}

/* --------------------------------------------------------- grids and codes */

void gm_grid(float lo, float hi, int bits, uint16_t *scale, uint8_t *zero) {
    const float top = (float)((1 << bits) - 1);
    /* fp16 ends at 65504: a wider group saturates instead of becoming inf */
    *scale = gm_f32_to_f16(gm_clamp((hi - lo) / top, 0, 65504));
    if (*scale == 0) *scale = 0x3c00;                       /* 1.0 */
    const float s = gm_f16_to_f32(*scale);
    *zero = (uint8_t)gm_clamp(gm_nearest(gm_clamp(-lo / s, 0, 512)), 0, top);
}

/* sum_i (w_i - q_i)^2 on the grid. */
static double grid_error(const float *w, long n, int bits, uint16_t scale,
                         uint8_t zero) {
    const float top = (float)((1 << bits) - 1), z = (float)zero;
    const float s = gm_f16_to_f32(scale);
    gm_real e[GM_MAX_GROUP];
    for (long i = 0; i < n; i++)
        e[i] = (gm_real)(w[i] - (gm_code(w[i], s, z, top) - z) * s);
    return gm_dot(n, e, e);
}

/* A weight while it is rounded; GPTQ: its columns first .. end-1 are next. */
typedef struct {
    long out, in, group, groups;
    int bits;
    gm_scales rule;
    uint16_t *scale;            /* [out, groups]                             */
    uint8_t *zero, *code;       /* [out, groups], [out, in]                  */
    const gm_factor *factor;
    gm_real *w, *e;             /* [out, in] in rounding order; [out, BLOCK] */
    long first, end;
} rounding;

/* The grid of group g of a row, whose n weights are x, by the rule: minmax; or
   mse, the range times the r of 1, 0.99, ..., 0.21 whose errors are least. */
static void choose_grid(const rounding *r, long row, long g, long n,
                        const float *x) {
    uint16_t *scale = r->scale + row * r->groups + g;
    uint8_t *zero = r->zero + row * r->groups + g;
    float lo = 0, hi = 0;
    for (long i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    gm_grid(lo, hi, r->bits, scale, zero);
    if (r->rule == GM_MINMAX) return;
    double least = grid_error(x, n, r->bits, *scale, *zero);
    for (int shrink = 99; shrink > 20; shrink--) {
        const float by = (float)shrink;
        uint16_t s;
        uint8_t z;
        gm_grid(lo * by / 100, hi * by / 100, r->bits, &s, &z);
        double error = grid_error(x, n, r->bits, s, z);
        if (error < least) least = error, *scale = s, *zero = z;
    }
}

/* Every group's grid from the weights before any is rounded, and their codes:
   RTN.  GPTQ in act-order needs these grids (static groups), in which columns
   that are dead have no part. */
static void round_rows(const rounding *r, const gm_real *w) {
    const float top = (float)((1 << r->bits) - 1);
    const bool *dead = r->factor ? r->factor->dead : NULL;
#pragma omp parallel for schedule(dynamic, 16) num_threads(gm_threads())
    for (long row = 0; row < r->out; row++)
        for (long g = 0; g < r->groups; g++) {
            const long first = g * r->group, at = row * r->groups + g;
            const long n = gm_min(r->group, r->in - first);
            const gm_real *from = w + row * r->in + first;
            uint8_t *code = r->code + row * r->in + first;
            float x[GM_MAX_GROUP];
            for (long j = 0; j < n; j++)
                x[j] = dead && dead[first + j] ? 0 : (float)from[j];
            choose_grid(r, row, g, n, x);
            float s = gm_f16_to_f32(r->scale[at]), z = (float)r->zero[at];
            for (long j = 0; j < n; j++)
                code[j] = (uint8_t)gm_code(x[j], s, z, top);
        }
}

/* --------------------------------------------------------- GPTQ: the factor */

/* Columns by H_jj, largest first; equal ones from left to right.  n^2 steps at
   most, where the factor takes n^3. */
static void choose_order(gm_arena *arena, long n, const double *H,
                         long *order) {
    gm_mark mark = gm_arena_mark(arena);
    double *sorted = gm_alloc(arena, (size_t)n, sizeof *sorted);
    for (long j = 0, at; j < n; j++) {
        for (at = j; at > 0 && sorted[at - 1] < H[j * n + j]; at--) {
            sorted[at] = sorted[at - 1];
            order[at] = order[at - 1];
        }
        sorted[at] = H[j * n + j];
        order[at] = j;
    }
    gm_arena_rewind(arena, mark);
}

/* A = J (P H P^T + damp) J, lower triangle: columns in the order they are
   rounded in (P), last first (J reverses); dead columns get a diagonal of 1.
   A = L L^T gives P H P^T + damp = M M^T with M = J L J upper triangular, so
   U = M^-1 = J L^-1 J has U^T U = (P H P^T + damp)^-1. */
void gm_gptq_factor(gm_arena *arena, long n, const double *H, double damping,
                    bool act_order, gm_factor *out) {
    const size_t square = (size_t)n * (size_t)n;
    gm_real *U = gm_alloc(arena, square, sizeof *U);
    bool *dead = gm_alloc(arena, (size_t)n, sizeof *dead);
    long *order = act_order ? gm_alloc(arena, (size_t)n, sizeof *order) : NULL;
    double sum = 0, live = 0;
    *out = (gm_factor){n, U, order, dead};
    gm_mark mark = gm_arena_mark(arena);
    double *A = gm_alloc(arena, square, sizeof *A);
    double *X = gm_alloc(arena, square, sizeof *X);
    if (order) choose_order(arena, n, H, order);
    for (long j = 0; j < n; j++) {
        dead[j] = H[j * n + j] == 0;
        sum += H[j * n + j];
        live += !dead[j];
    }
    const double damp = live > 0 ? damping * (sum / live) : 0;
    for (long i = 0; i < n; i++)
        for (long k = 0; k <= i; k++) {
            long a = n - 1 - i, b = n - 1 - k;
            if (order) a = order[a], b = order[b];
            A[i * n + k] = a > b ? H[a * n + b] : H[b * n + a];
            if (i == k) A[i * n + k] = dead[a] ? 1 : A[i * n + k] + damp;
        }
    if (!gm_cholesky(n, A))
        gm_fail(GM_EINPUT, "the Hessian of %ld inputs, damped by %g of its "
                "mean diagonal, is not positive definite: expected finite "
                "activations", n, damping);
    gm_lower_inverse(n, A, X);
    for (long i = 0; i < n; i++)
        for (long j = 0; j < n; j++)
            U[i * n + j] = (gm_real)X[(n - 1 - i) * n + n - 1 - j];
    gm_arena_rewind(arena, mark);
}

/* -------------------------------------------------------- GPTQ: the columns */

/* Columns between two updates of all that follows, and rows handled side by
   side: every row is rounded by itself, so rows are vector lanes. */
enum { BLOCK = 64, LANES = GM_LANES };

/* The block that begins at r->first ends before a group that begins inside it
   but does not end there, so that all of that group's weights are up to date
   when its grid is chosen. */
static long block_end(const rounding *r) {
    const long end = gm_min(r->first + BLOCK, r->in);
    const long start = end / r->group * r->group;
    const bool cut = !r->factor->order && start > r->first && start < end &&
                     gm_min(start + r->group, r->in) > end;
    return cut ? start : end;
}

/* A panel: LANES rows from `row` on, the columns of the block.  Their codes,
   and -e for what follows. */
static void round_panel(const rounding *r, long row) {
    const long *order = r->factor->order, in = r->in, first = r->first;
    const long rows = gm_min(LANES, r->out - row);
    float w[BLOCK][LANES] = {0}, e[BLOCK][LANES], code[LANES], x[GM_MAX_GROUP];
    float scale[LANES], zero[LANES] = {0};
    for (long l = 0; l < LANES; l++) scale[l] = 1;
    for (long l = 0; l < rows; l++)
        for (long j = first; j < r->end; j++)
            w[j - first][l] = (float)r->w[(row + l) * in + j];
    for (long j = first; j < r->end; j++) {
        const long place = order ? order[j] : j, g = place / r->group;
        const long n = gm_min(r->group, in - j);
        const bool begins = !order && j % r->group == 0;
        for (long l = 0; l < rows && (order || begins || j == first); l++) {
            /* the weights as they are now: those of the block in the panel,
               later ones (a group wider than the block) still in r->w */
            for (long i = 0; i < n && begins; i++)
                x[i] = j + i < r->end ? w[j + i - first][l]
                                      : (float)r->w[(row + l) * in + j + i];
            if (begins) choose_grid(r, row + l, g, n, x);
            scale[l] = gm_f16_to_f32(r->scale[(row + l) * r->groups + g]);
            zero[l] = (float)r->zero[(row + l) * r->groups + g];
        }
        gm_round_column(&(gm_column){
            r->end - j, (float)((1 << r->bits) - 1), scale, zero,
            r->factor->U + j * in + j, w + (j - first), e[j - first], code});
        for (long l = 0; l < rows; l++)
            r->code[(row + l) * in + place] = (uint8_t)code[l];
    }
    for (long l = 0; l < rows; l++)
        for (long j = 0; j < r->end - first; j++)
            r->e[(row + l) * BLOCK + j] = (gm_real)-e[j][l];
}

/* Block after block; W[:, end..] -= E U[first..end-1, end..]. */
static void round_columns(gm_arena *arena, rounding *r, const gm_real *w) {
    const gm_factor *f = r->factor;
    const long out = r->out, in = r->in;
    r->w = gm_alloc(arena, (size_t)out, (size_t)in * sizeof *r->w);
    r->e = gm_alloc(arena, (size_t)out, BLOCK * sizeof *r->e);
    for (long i = 0; i < out; i++)
        for (long j = 0; j < in; j++) {
            long from = f->order ? f->order[j] : j;
            r->w[i * in + j] = f->dead[from] ? 0 : w[i * in + from];
        }
    for (r->first = 0; r->first < in; r->first = r->end) {
        r->end = block_end(r);
#pragma omp parallel for schedule(dynamic) num_threads(gm_threads())
        for (long row = 0; row < out; row += LANES) round_panel(r, row);
        gm_gemm(out, in - r->end, r->end - r->first, r->e, BLOCK, 1,
                f->U + r->first * in + r->end, in, 1, r->w + r->end, in, true);
    }
}

void gm_quantize(gm_arena *arena, const gm_real *w, gm_scales rule,
                 const gm_factor *factor, gm_packed *q) {
    const long out = q->out, in = q->in, groups = groups_of(q);
    const gm_parts row = gm_packed_parts(1, in, q->bits, q->group);
    assert(q->bits >= 1 && q->bits <= 8 && q->group >= 1 &&
           q->group <= GM_MAX_GROUP && (!factor || in == factor->n));
    gm_mark mark = gm_arena_mark(arena);
    rounding r = {out, in, q->group, groups, q->bits, rule, .factor = factor};
    r.scale = gm_alloc(arena, (size_t)out, (size_t)groups * sizeof *r.scale);
    r.zero = gm_alloc(arena, (size_t)out, (size_t)groups);
    r.code = gm_alloc(arena, (size_t)out, (size_t)in);
    if (!factor || factor->order) round_rows(&r, w);
    if (factor) round_columns(arena, &r, w);
    memcpy(q->scales, r.scale, (size_t)(out * groups) * sizeof *r.scale);
#pragma omp parallel for schedule(static) num_threads(gm_threads())
    for (long i = 0; i < out; i++) {
        pack(r.code + i * in, in, q->bits, q->codes + i * row.codes);
        pack(r.zero + i * groups, groups, q->bits, q->zeros + i * row.zeros);
    }
    gm_arena_rewind(arena, mark);
}

/* ------------------------------------------------- back to real numbers */

/* Columns handled at once.  A multiple of 8, so that a strip of codes begins
   at a whole byte for every number of bits. */
enum { STRIP = 512 };

/* Columns first .. first + n-1 of a row, n <= STRIP, first a multiple of it:
   where they are, or, from codes, in q. */
static const gm_real *strip(const gm_packed *p, long row, long first, long n,
                            gm_real *q) {
    const long groups = groups_of(p);
    uint8_t code[STRIP], zero[8];
    if (p->original) return p->original + row * p->in + first;
    gm_unpack(p->codes + row * stream_bytes(p->in, p->bits) +
              stream_bytes(first, p->bits), n, p->bits, code);
    const uint8_t *zeros = p->zeros + row * stream_bytes(groups, p->bits);
    for (long i = 0; i < n;) {
        const long g = (first + i) / p->group, eight = g / 8 * 8;
        gm_unpack(zeros + stream_bytes(eight, p->bits),
                  gm_min(8, groups - eight), p->bits, zero);
        const uint8_t *half = p->scales + 2 * (row * groups + g);
        const float s = gm_f16_to_f32((uint16_t)(half[0] | half[1] << 8));
        const int z = zero[g % 8];
        const long end = gm_min(n, (g + 1) * p->group - first);
        for (; i < end; i++) q[i] = (gm_real)((float)(code[i] - z) * s);
    }
    return q;
}

void gm_mix(const gm_offer *o, const double *p, gm_real *w) {
    const long out = o->packed->out, in = o->packed->in;
#pragma omp parallel for schedule(dynamic, 16) num_threads(gm_threads())
    for (long row = 0; row < out; row++)
        for (long first = 0; first < in; first += STRIP) {
            const long n = gm_min(STRIP, in - first);
            gm_real *sum = w + row * in + first, at[STRIP];
            memset(sum, 0, (size_t)n * sizeof *sum);
            for (int i = 0; i < o->count; i++) {
                const gm_real *q = strip(o->packed + i, row, first, n, at);
                const gm_real share = (gm_real)p[o->k[i]];
                for (long j = 0; j < n; j++) sum[j] += share * q[j];
            }
        }
}

void gm_inner(gm_arena *arena, const gm_offer *o, const gm_real *G,
              double *g) {
    const long out = o->packed->out, in = o->packed->in;
    gm_mark mark = gm_arena_mark(arena);
    double *sum = gm_alloc(arena, (size_t)(o->count * out), sizeof *sum);
#pragma omp parallel for schedule(dynamic, 16) num_threads(gm_threads())
    for (long row = 0; row < out; row++)
        for (long first = 0; first < in; first += STRIP)
            for (int i = 0; i < o->count; i++) {
                const long n = gm_min(STRIP, in - first);
                gm_real at[STRIP];
                const gm_real *q = strip(o->packed + i, row, first, n, at);
                sum[i * out + row] += gm_dot(n, G + row * in + first, q);
            }
    for (int i = 0; i < o->count; i++) {
        double *to = g + o->k[i];
        *to = 0;
        for (long row = 0; row < out; row++) *to += sum[i * out + row];
    }
    gm_arena_rewind(arena, mark);
}

void gm_dequantize(const gm_packed *packed, gm_real *q) {
    const size_t n = (size_t)(packed->out * packed->in);
    if (packed->original) memcpy(q, packed->original, n * sizeof *q);
    else gm_mix(&(gm_offer){1, {0}, {*packed}}, &(double){1}, q);
}

/* ------------------------------------------------------- what modules see

   The seven modules of a block have four inputs: q, k, v | o | gate, up |
   down.  They are those of the original model, block after block over all
   calibration sequences, a few at a time, so memory is one block, its
   activations for one batch, and the states.  --sequential: a stream of states
   for each number of bits instead, which goes through the blocks quantized to
   these bits. */

enum { INPUTS = 4 };
static const int input_of[GM_LINEARS] = {0, 0, 0, 1, 2, 2, 3};

/* No result depends on it. */
long gm_at_once(const gm_recipe *recipe, long S) {
    return gm_min(S, recipe->at_once ? recipe->at_once : 4);
}

typedef struct {
    const gm_model *model;
    const gm_recipe *recipe;
    const gm_sequences *text;
    long layer;                 /* of this block                             */
    int made, streams;          /* numbers of bits below 16; of states       */
    gm_real *h;                 /* [streams, S T, d] inputs of the next block */
    gm_block block;
    gm_acts acts;
    double *weight, *mass;      /* [B T], B = gm_at_once                     */
    double *H[INPUTS];          /* [n, n] of this block, n = inputs[i]       */
    long inputs[INPUTS];
    uint8_t *data;              /* its candidates, as they stand in the file */
    size_t bytes;
} maker;

/* Candidate k of linear j of any block, at `data`. */
static gm_packed shape_of(const gm_config *c, const gm_recipe *r, int j, int k,
                          uint8_t *data) {
    long out, in;
    gm_linear_shape(c, j, &out, &in);
    return gm_packed_at(out, in, r->bits[k], r->group, data);
}

/* Room for one block and its candidates; for GPTQ what a pass needs, too.  The
   first states are the embeddings. */
static void maker_alloc(gm_arena *arena, maker *t) {
    const gm_config *c = &t->model->config;
    const gm_recipe *r = t->recipe;
    while (t->made < r->count && r->bits[t->made] < 16) t->made++;
    for (int j = 0; j < GM_LINEARS; j++) {
        long out;
        gm_linear_shape(c, j, &out, &t->inputs[input_of[j]]);
        for (int k = 0; k < t->made; k++)
            t->bytes += (size_t)gm_packed_bytes(out, t->inputs[input_of[j]],
                                                r->bits[k], r->group);
    }
    t->data = gm_alloc(arena, t->bytes, 1);
    gm_block_alloc(arena, c, &t->block);
    if (r->quantizer != GM_GPTQ) return;
    const long T = t->text->T, all = t->text->S * T;
    const long at_once = gm_at_once(r, t->text->S);
    t->streams = r->sequential ? t->made : 1;
    t->h = gm_alloc(arena, (size_t)(t->streams * all),
                    (size_t)c->d * sizeof *t->h);
    t->weight = gm_alloc(arena, (size_t)(T * at_once), sizeof *t->weight);
    t->mass = gm_alloc(arena, (size_t)(T * at_once), sizeof *t->mass);
    for (int i = 0; i < INPUTS; i++)
        t->H[i] = gm_alloc(arena, (size_t)t->inputs[i],
                           (size_t)t->inputs[i] * sizeof *t->H[i]);
    gm_acts_alloc(arena, c, at_once, T, false, &t->acts);
    for (int s = 0; s < t->streams; s++)
        gm_embed(t->model, t->text->tokens, all, t->h + s * all * c->d);
}

/* w_t of the rows of a batch, x [rows, n] = input i.  One token in 512 hardly
   weighs in a plain H, but the first of a sequence, which all later ones
   attend to, is ruined by that: SmolLM2-135M, 3 bits, groups of 64, has
   perplexity 98 by RTN, 304 with position 0 left out of H, 75 with
   w = 1/||x||, and 61 with that times 4 at position 0 (8 windows;
   docs/results.md). */
static void token_weights(const maker *t, int i, long rows, const gm_real *x) {
    const long n = t->inputs[i];
    const gm_hessian hessian = t->recipe->hessian;
    for (long r = 0; r < rows; r++) {
        double norm = sqrt(gm_dot(n, x + r * n, x + r * n));
        double size = r % t->text->T == 0 ? 4 : 1;
        if (hessian == GM_ATTENTION && i == 0) size = sqrt(t->mass[r]);
        t->weight[r] = hessian == GM_PLAIN ? 1 : norm > 0 ? size / norm : 0;
    }
}

/* One pass of the states h through the block.  H_i = (2 / S T) sum_t w_t^2 x_t
   x_t^T for the inputs first..end-1; move: h become the block's outputs, else
   the pass ends at input `first`, the only one. */
static void pass(maker *t, gm_real *h, int first, int end, bool move) {
    static const char *const name[INPUTS] = {
        "input of q, k and v", "input of o", "input of gate and up",
        "input of down"};
    const gm_config *c = &t->model->config;
    gm_acts *a = &t->acts;
    const gm_real *input[INPUTS] = {a->x1, a->attn, a->x2, a->act};
    const long S = t->text->S, T = t->text->T;
    const long at_once = gm_at_once(t->recipe, S);
    const bool mass = t->recipe->hessian == GM_ATTENTION && first == 0 && end;
    for (int i = first; i < end; i++)
        memset(t->H[i], 0, (size_t)(t->inputs[i] * t->inputs[i]) *
                               sizeof *t->H[i]);
    for (long q = 0; q < S; q += at_once) {
        gm_real *at = h + q * T * c->d;
        a->S = gm_min(S - q, at_once);
        if (move) gm_block_forward(a, &t->block, at, at);
        else gm_block_inputs(a, &t->block, at, mass ? 1 : first);
        if (mass) gm_attention_mass(a, t->mass);
        for (int i = first; i < end; i++) {
            const long n = t->inputs[i];
            gm_states_check(t->model, t->layer, name[i], input[i], a->S * T, n);
            token_weights(t, i, a->S * T, input[i]);
            gm_gram(a->S * T, n, input[i], t->weight, t->H[i]);
        }
        if (move)
            gm_states_check(t->model, t->layer, "output", at, a->S * T, c->d);
    }
    for (int i = first; i < end; i++)
        for (long k = 0; k < t->inputs[i] * t->inputs[i]; k++)
            t->H[i][k] *= 2 / ((double)S * (double)T);
}

void gm_hessians(gm_arena *arena, const gm_model *model,
                 const gm_recipe *recipe, const gm_sequences *calibration,
                 gm_hessian_look *look, void *context) {
    gm_mark mark = gm_arena_mark(arena);
    maker t = {.model = model, .recipe = recipe, .text = calibration};
    maker_alloc(arena, &t);
    for (t.layer = 0; t.layer < model->config.layers; t.layer++) {
        gm_block_load(model, t.layer, &t.block);
        pass(&t, t.h, 0, INPUTS, true);
        for (int i = 0; i < INPUTS; i++)
            look(context, t.layer, i, t.inputs[i], t.H[i]);
    }
    gm_arena_rewind(arena, mark);
}

/* ------------------------------------------------------------ making a file */

/* Candidates first..end-1 of the modules with input i, from its H.
   Sequential: the modules become their candidate. */
static void make_input(gm_arena *arena, maker *t, int i, int first, int end) {
    const gm_recipe *r = t->recipe;
    const bool gptq = r->quantizer == GM_GPTQ;
    gm_mark mark = gm_arena_mark(arena);
    gm_factor factor;
    uint8_t *at = t->data;
    if (gptq)
        gm_gptq_factor(arena, t->inputs[i], t->H[i], r->damping, r->act_order,
                       &factor);
    for (int j = 0; j < GM_LINEARS; j++)
        for (int k = 0; k < t->made; k++) {
            gm_packed q = shape_of(&t->model->config, r, j, k, at);
            at += gm_packed_bytes(q.out, q.in, q.bits, q.group);
            if (input_of[j] != i || k < first || k >= end) continue;
            gm_quantize(arena, t->block.w[j], r->scales,
                        gptq ? &factor : NULL, &q);
            if (r->sequential) gm_dequantize(&q, t->block.w[j]);
        }
    gm_arena_rewind(arena, mark);
}

/* The candidates of the block: all from the original model's inputs; or,
   sequential, candidates k from the inputs that they get when all modules
   before, those of this block too, are their candidates k. */
static void make_block(gm_arena *arena, maker *t) {
    const bool sequential = t->recipe->sequential;
    gm_block_load(t->model, t->layer, &t->block);
    if (t->streams && !sequential) pass(t, t->h, 0, INPUTS, true);
    for (int i = 0; i < INPUTS && !sequential; i++)
        make_input(arena, t, i, 0, t->made);
    for (int k = 0; k < t->made && sequential; k++) {
        gm_real *h = t->h + k * t->text->S * t->text->T * t->model->config.d;
        if (k) gm_block_load(t->model, t->layer, &t->block);
        for (int i = 0; i < INPUTS; i++) {
            pass(t, h, i, i + 1, false);
            make_input(arena, t, i, k, k + 1);
        }
        pass(t, h, 0, 0, true);
    }
}

/* Rank r makes the blocks first(r) .. first(r + 1) - 1; with --sequential,
   where each block needs the one before it, rank 0 makes all. */
static long first_block(const maker *t, int rank) {
    long L = t->model->config.layers;
    return !t->recipe->sequential ? gm_rank_first(L, rank) : rank ? L : 0;
}

/* In turn i every rank makes its block i and rank 0 writes them all. */
static void write_blocks(gm_arena *arena, maker *t, gm_out *file,
                         const gm_report *report) {
    const long L = t->model->config.layers;
    const int64_t start = file->bytes;
    for (long i = 0, done = 0; done < L; i++) {
        t->layer = first_block(t, gm_rank()) + i;
        if (t->layer < first_block(t, gm_rank() + 1)) make_block(arena, t);
        for (int r = 0; r < gm_ranks(); r++) {
            long l = first_block(t, r) + i;
            if (l >= first_block(t, r + 1)) continue;
            gm_ranks_check();   /* all have made, rank 0 has written */
            gm_ranks_move(r, 0, t->data, t->bytes);
            if (gm_rank() == 0)
                gm_out_write_at(file, start + l * (int64_t)t->bytes, t->data,
                                t->bytes);
            done++;
        }
        gm_say(report, "candidates", done * GM_LINEARS, L * GM_LINEARS);
    }
}

/* ------------------------------------------------- the file of candidates */

void gm_packed_tensors(gm_arena *arena, const char *stem, const gm_packed *p,
                       gm_tensor out[3]) {
    static const char *const name[3] = {"codes", "scales", "zeros"};
    const gm_parts n = gm_packed_parts(p->out, p->in, p->bits, p->group);
    const int64_t bytes[3] = {n.codes, n.scales, n.zeros};
    for (int i = 0; i < 3; i++)
        out[i] = (gm_tensor){
            .name = gm_format(arena, "%s.%s", stem, name[i]),
            .dtype = i == 1 ? GM_F16 : GM_U8, .rank = 2,
            .shape = {p->out, bytes[i] / p->out / (i == 1 ? 2 : 1)},
            .bytes = (size_t)bytes[i]};
}

/* The tensors of candidate k of module (layer, j), as the file has them. */
static void part_tensors(gm_arena *arena, long layer, int j,
                         const gm_packed *p, gm_tensor part[3]) {
    const char *name;
    gm_linear_name(arena, layer, j, &name);
    gm_packed_tensors(arena, gm_format(arena, "%s.b%d", name, p->bits), p,
                      part);
}

/* DIR/sha256-HASH.txt, as sha256sum -c reads it, beside
   DIR/candidates-HASH.safetensors. */
static void write_digest(gm_arena *arena, gm_out *file) {
    const char *name = gm_base_name(file->path);
    const char *hash = strrchr(name, '-') + 1;
    const char *to = gm_format(arena, "%.*ssha256-%.12s.txt",
                               (int)(name - file->path), file->path, hash);
    char hex[65];
    gm_out out;
    if (fflush(file->file) != 0)
        gm_fail(GM_EIO, "%s: cannot write", file->partial);
    gm_file_hash(file->partial, hex);
    gm_out_open(arena, to, &out);
    gm_out_print(&out, "%s  %s\n", hex, name);
    gm_out_commit(&out);
}

void gm_candidates_verify(gm_arena *arena, const gm_candidates *candidates,
                          const char *dir) {
    if (candidates->recipe.quantizer == GM_EXTERNAL) return;
    const char *path = candidates->tensors.file[0]->path;
    const char *from = gm_format(arena, "%s/sha256-%.12s.txt", dir,
                                 candidates->hash);
    char hex[65];
    if (!gm_exists(from))
        gm_bad(path, "expected its SHA-256 in %s, found no such file; remove it "
               "and it will be made again", from);
    const char *said = gm_file_text(arena, from, NULL);
    gm_file_hash(path, hex);
    if (strncmp(said, hex, 64) != 0)
        gm_bad(path, "damaged: expected SHA-256 %.64s (%s), found %s; remove "
               "it and it will be made again", said, from, hex);
}

static void write_candidates(gm_arena *arena, const gm_candidates *c,
                             const gm_sequences *text, const char *path,
                             const gm_report *report) {
    const gm_model *model = c->model;
    const gm_recipe *r = &c->recipe;
    const bool gptq = r->quantizer == GM_GPTQ, writes = gm_rank() == 0;
    maker t = {.model = model, .recipe = r, .text = text};
    char recipe[128], tokens[65];
    gm_out file = {0};
    maker_alloc(arena, &t);
    gm_recipe_text(r, recipe);
    if (gptq) gm_sha_tokens(text->tokens, text->S, text->T, tokens);
    const char *metadata[] = {"gamma_candidates", "1", "recipe", recipe,
                              "model_hash", model->hash,
                              gptq ? "calibration_hash" : NULL, tokens, NULL};
    const long count = model->config.layers * GM_LINEARS * t.made;
    gm_tensor *part = gm_alloc(arena, (size_t)(3 * count), sizeof *part);
    for (long i = 0; i < count; i++) {
        const long m = i / t.made;
        const int j = (int)(m % GM_LINEARS), k = (int)(i % t.made);
        const gm_packed q = shape_of(&model->config, r, j, k, NULL);
        part_tensors(arena, m / GM_LINEARS, j, &q, part + 3 * i);
    }
    if (writes)
        gm_safetensors_begin(arena, path, part, 3 * count, metadata, 0, &file);
    if (gptq && !r->sequential)
        gm_states_before(model, first_block(&t, gm_rank()), text, &t.block,
                         &t.acts, t.h);
    write_blocks(arena, &t, &file, report);
    if (!writes) return;
    write_digest(arena, &file);
    gm_out_commit(&file);
}

/* ---------------------------------------------------------- finding a file */

/* What the file depends on, so that a stale one is never opened. */
static void candidates_hash(const gm_model *model, const gm_recipe *recipe,
                            const gm_sequences *text, char hex[65]) {
    char words[128], tokens[65], shape[64];
    gm_sha sha;
    gm_recipe_text(recipe, words);
    gm_sha_begin(&sha);
    gm_sha_add(&sha, "gamma_candidates 1", 18);
    gm_sha_add(&sha, words, strlen(words) + 1);
    gm_sha_add(&sha, model->hash, 64);
    if (recipe->quantizer == GM_GPTQ) {
        gm_sha_tokens(text->tokens, text->S, text->T, tokens);
        int n = snprintf(shape, sizeof shape, "S=%ld T=%ld", text->S, text->T);
        gm_sha_add(&sha, tokens, 64);
        gm_sha_add(&sha, shape, (size_t)n);
    }
    if (recipe->external) gm_sha_add(&sha, recipe->external->hash, 64);
    gm_sha_end(&sha, hex);
}

/* Checks that need no file, and the model's hash.  "16" needs a checkpoint of
   16-bit weights, "32" one of F32. */
static void begin(gm_arena *arena, gm_model *model, const gm_recipe *recipe,
                  gm_candidates *out) {
    const int last = recipe->bits[recipe->count - 1];
    const bool own = recipe->quantizer != GM_EXTERNAL && last >= 16;
    *out = (gm_candidates){.recipe = *recipe, .model = model, .arena = arena};
    if (recipe->group < 1 || recipe->group > GM_MAX_GROUP)
        gm_fail(GM_EUSAGE, "--group: expected 1 to %d, found %ld",
                GM_MAX_GROUP, recipe->group);
    for (long m = 0; own && m < model->config.layers * GM_LINEARS; m++) {
        const gm_tensor *t = gm_linear_tensor(model, m / GM_LINEARS,
                                              (int)(m % GM_LINEARS));
        int stored = (int)gm_dtype_bytes(t->dtype) * 8;
        if (last != stored || recipe->bits[0] >= 16)
            gm_fail(GM_EUSAGE, "--bits: %d stands for the weight as stored, "
                    "beside fewer bits, but %s is %s (%d bits) in %s", last,
                    t->name, gm_dtype_name(t->dtype), stored, t->path);
    }
    if (!*model->hash) gm_model_hash(model);
}

static char *candidates_path(gm_arena *arena, const char *dir,
                             const char *hash) {
    return gm_format(arena, "%s/candidates-%.12s.safetensors", dir, hash);
}

/* Rank 0 looks whether the file is there, and holds the directory while all
   make it. */
static void ensure_file(gm_arena *arena, const gm_candidates *c,
                        const gm_sequences *text, const char *path,
                        const char *dir, const gm_report *report) {
    const bool first = gm_rank() == 0;
    bool missing = first && !gm_exists(path);
    gm_lock *lock = NULL;
    gm_ranks_tell(&missing, sizeof missing);
    if (!missing) return;
    gm_mark mark = gm_arena_mark(arena);
    if (first) gm_make_dir(dir);
    if (first) lock = gm_dir_lock(arena, dir);
    missing = first && !gm_exists(path);
    gm_ranks_tell(&missing, sizeof missing);
    if (missing) write_candidates(arena, c, text, path, report);
    gm_ranks_check();           /* it is there */
    gm_dir_unlock(lock);
    gm_arena_rewind(arena, mark);
}

void gm_candidates_open(gm_arena *arena, gm_model *model,
                        const gm_recipe *recipe,
                        const gm_sequences *calibration, const char *dir,
                        const gm_report *report, gm_candidates *out) {
    begin(arena, model, recipe, out);
    if (recipe->quantizer == GM_EXTERNAL && !recipe->external)
        gm_fail(GM_EUSAGE, "the candidates are another tool's: expected its "
                "file (--external FILE), found none");
    if (recipe->quantizer == GM_GPTQ && !calibration)
        gm_fail(GM_EUSAGE, "GPTQ candidates are made from a calibration text: "
                "expected one, found none");
    candidates_hash(model, recipe, calibration, out->hash);
    gm_ranks_same("the candidates' hash", out->hash);
    if (recipe->quantizer == GM_EXTERNAL) {
        out->tensors = recipe->external->tensors;
        out->allowed = recipe->external->allowed;
        gm_make_dir(dir);       /* for what is written there later */
        return;
    }
    const char *path = candidates_path(arena, dir, out->hash);
    ensure_file(arena, out, calibration, path, dir, report);
    gm_safetensors_open(arena, path, &out->tensors);
}

/* One key of the file's metadata must be `expected`. */
static void check_key(const gm_candidates *c, const char *path,
                      const char *key, const char *expected) {
    const gm_json *v = gm_json_get(c->tensors.metadata, key);
    if (v && v->string && strcmp(v->string, expected) == 0) return;
    gm_fail(GM_EINPUT, "%s: %s: expected \"%s\", found \"%s\"", path, key,
            expected, v && v->string ? v->string : "nothing");
}

void gm_candidates_find(gm_arena *arena, gm_model *model,
                        const gm_recipe *recipe, const char *hash,
                        const char *dir, gm_candidates *out) {
    char text[128];
    const char *path = candidates_path(arena, dir, hash);
    begin(arena, model, recipe, out);
    if (strlen(hash) != 64 || strspn(hash, "0123456789abcdef") != 64)
        gm_fail(GM_EINPUT, "candidates_hash: expected 64 hexadecimal digits, "
                "found \"%s\"", hash);
    if (!gm_exists(path))
        gm_fail(GM_EINPUT, "%s: no such file, and GPTQ candidates are made "
                "from a calibration text: expected the directory that gamma "
                "fit wrote to (--cache DIR), or that text (--calib FILE)",
                path);
    gm_recipe_text(recipe, text);
    memcpy(out->hash, hash, 65);
    gm_safetensors_open(arena, path, &out->tensors);
    check_key(out, path, "recipe", text);
    check_key(out, path, "model_hash", model->hash);
}

void gm_candidates_close(gm_candidates *candidates) {
    gm_tensors_close(&candidates->tensors);
}

/* ------------------------------------------------------------------ reading */

const gm_tensor *gm_candidate_tensor(const gm_candidates *c, long layer, int j,
                                     int k) {
    const gm_tensor *w = gm_linear_tensor(c->model, layer, j), *t;
    const gm_external *e = c->recipe.external;
    if (!e) return c->recipe.bits[k] < 16 ? NULL : w;
    t = e->tensor[(layer * GM_LINEARS + j) * c->recipe.count + k];
    if (!t)
        gm_fail(GM_EINPUT, "%s: module %.*s: expected a candidate of %d bits, "
                "found none", c->tensors.file[0]->path, (int)strlen(w->name) - 7,
                w->name, c->recipe.bits[k]);
    return t;
}

void gm_candidate(const gm_candidates *c, long layer, int j, int k,
                  gm_packed *out) {
    const gm_tensor *t = gm_candidate_tensor(c, layer, j, k);
    gm_packed *q = out;
    gm_tensor part[3];
    *q = shape_of(&c->model->config, &c->recipe, j, k, NULL);
    if (t) {
        q->original = gm_alloc(c->arena, (size_t)(q->out * q->in),
                               sizeof *q->original);
        gm_tensor_read(t, 0, q->out * q->in, q->original);
        return;
    }
    uint8_t *at = gm_alloc(c->arena, (size_t)gm_packed_bytes(
                               q->out, q->in, q->bits, q->group), 1);
    *q = shape_of(&c->model->config, &c->recipe, j, k, at);
    part_tensors(c->arena, layer, j, q, part);
    for (int i = 0; i < 3; at += part[i++].bytes) {
        t = gm_tensor_find(&c->tensors, part[i].name);
        if (!t || t->bytes != part[i].bytes)
            gm_fail(GM_EINPUT, "%s: tensor \"%s\": expected %zu bytes, found "
                    "%zu", c->tensors.file[0]->path, part[i].name, part[i].bytes,
                    t ? t->bytes : 0);
        if (t->dtype != part[i].dtype)
            gm_fail(GM_EINPUT, "%s: tensor \"%s\": expected type %s, found %s",
                    t->path, t->name, gm_dtype_name(part[i].dtype),
                    gm_dtype_name(t->dtype));
        gm_tensor_bytes(t, 0, t->bytes, at);
        if (t->dtype == GM_F16) gm_tensor_check(t);
    }
}

void gm_candidate_weight(const gm_candidates *c, long layer, int j, int k,
                         gm_real *w) {
    const gm_tensor *t = gm_candidate_tensor(c, layer, j, k);
    gm_mark mark = gm_arena_mark(c->arena);
    gm_packed q;
    if (t) {
        gm_tensor_read(t, 0, t->shape[0] * t->shape[1], w);
        return;
    }
    gm_candidate(c, layer, j, k, &q);
    gm_dequantize(&q, w);
    gm_arena_rewind(c->arena, mark);
}

void gm_chosen_block(const gm_candidates *c, long layer, const int *choice,
                     gm_block *block) {
    gm_block_load(c->model, layer, block);
    for (int j = 0; j < GM_LINEARS; j++)
        if (choice[j] >= 0)
            gm_candidate_weight(c, layer, j, choice[j], block->w[j]);
}

void gm_offer_read(const gm_candidates *c, long layer, int j, gm_offer *out) {
    out->count = 0;
    for (int k = 0; k < c->recipe.count; k++) {
        if (!gm_allowed(c, layer * GM_LINEARS + j, k)) continue;
        out->k[out->count] = k;
        gm_candidate(c, layer, j, k, &out->packed[out->count++]);
    }
}
