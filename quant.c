/* quant.c: what a weight looks like with fewer bits.  Round-to-nearest
   candidates, bit packing, sizes, mixtures.  Touches only what it is handed.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Columns handled at once.  A multiple of 8, so that a strip of codes begins
   at a whole byte for every number of bits. */
enum { STRIP = GM_MAX_GROUP };

/* ------------------------------------------------------------------ recipe */

void gm_recipe_parse(const char *bits, long group, gm_recipe *out) {
    *out = (gm_recipe){.group = group, .damping = GM_DAMPING};
    for (const char *c = bits; ; c++) {
        char *end;
        long b = strtol(c, &end, 10);
        bool known = (b >= 1 && b <= 8) || b == 16 || b == 32;
        if (end == c || !known || (*end && *end != ',') ||
            out->count == GM_MAX_CANDIDATES)
            gm_fail(GM_EUSAGE, "--bits: expected a list of 1..8, "
                           "16 or 32 such as 2,3,4, found \"%s\"", bits);
        if (out->count && b <= out->bits[out->count - 1])
            gm_fail(GM_EUSAGE, "--bits: expected ascending "
                           "numbers, found \"%s\"", bits);
        out->bits[out->count++] = (int)b;
        c = end;
        if (!*c) return;
    }
}

static const char *const quantizer_name[] = {"rtn", "gptq", "external"};
static const char *const hessian_name[] = {"token", "plain", "attention"};
static const char *const scales_name[] = {"minmax", "mse"};

const char *gm_quantizer_name(gm_quantizer q) { return quantizer_name[q]; }
const char *gm_hessian_name(gm_hessian h) { return hessian_name[h]; }

/* GM_EXTERNAL is never asked for by name. */
void gm_recipe_quantizer(gm_recipe *recipe, const char *text) {
    recipe->quantizer = (gm_quantizer)
        gm_parse_name("--quantizer", text, quantizer_name, GM_EXTERNAL);
}

void gm_recipe_hessian(gm_recipe *recipe, const char *text) {
    recipe->hessian = (gm_hessian)
        gm_parse_name("--hessian", text, hessian_name, 3);
}

void gm_recipe_scales(gm_recipe *recipe, const char *text) {
    recipe->scales = (gm_scales)
        gm_parse_name("--scales", text, scales_name, 2);
}

void gm_recipe_bits(const gm_recipe *r, char text[64]) {
    int n = 0;
    for (int k = 0; k < r->count; k++)
        n += snprintf(text + n, 64 - (size_t)n, "%s%d", k ? "," : "",
                      r->bits[k]);
}

/* A word is written only where it is not the default, so that a recipe keeps
   its text, and a file its hash, when words are added. */
void gm_recipe_text(const gm_recipe *r, char text[128]) {
    char bits[64];
    gm_recipe_bits(r, bits);
    int n = snprintf(text, 128, "%s bits=%s group=%ld",
                     quantizer_name[r->quantizer], bits, r->group);
    if (r->quantizer == GM_GPTQ)
        n += snprintf(text + n, 128 - (size_t)n, " hessian=%s%s",
                      hessian_name[r->hessian],
                      r->act_order ? " act-order" : "");
    if (r->quantizer == GM_GPTQ && r->damping != GM_DAMPING)
        n += snprintf(text + n, 128 - (size_t)n, " damping=%.9g", r->damping);
    if (r->scales != GM_MINMAX)
        n += snprintf(text + n, 128 - (size_t)n, " scales=%s",
                      scales_name[r->scales]);
    if (r->sequential) snprintf(text + n, 128 - (size_t)n, " sequential");
}

/* One word after "bits=... group=...". */
static void read_word(const char *word, gm_recipe *out) {
    if (out->quantizer == GM_EXTERNAL)
        gm_fail(GM_EINPUT, "candidates: expected nothing after "
                       "group=, found \"%s\"", word);
    if (strncmp(word, "scales=", 7) == 0)
        { gm_recipe_scales(out, word + 7); return; }
    if (out->quantizer == GM_RTN)
        gm_fail(GM_EINPUT, "candidates: expected nothing but "
                       "scales= after group=, found \"%s\"", word);
    if (strncmp(word, "hessian=", 8) == 0)
        { gm_recipe_hessian(out, word + 8); return; }
    if (strncmp(word, "damping=", 8) == 0)
        { out->damping = gm_parse_double("damping", word + 8, 1e-9, 1); return; }
    bool *flag = strcmp(word, "act-order") == 0 ? &out->act_order
               : strcmp(word, "sequential") == 0 ? &out->sequential : NULL;
    if (!flag)
        gm_fail(GM_EINPUT, "candidates: expected hessian=, "
                       "act-order, damping=, scales= or sequential, found "
                       "\"%s\"", word);
    *flag = true;
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
    if (strcmp(quantizer, "external") == 0) out->quantizer = GM_EXTERNAL;
    else gm_recipe_quantizer(out, quantizer);
    strcpy(rest, text + n);
    for (char *words = rest, *word; (word = strsep(&words, " "));)
        if (*word) read_word(word, out);
}

/* ------------------------------------------------------------------- sizes */

static long groups_of(long in, long group) { return (in + group - 1) / group; }

/* ceil(n b / 8): bytes of a stream of n codes of b bits. */
static int64_t stream_bytes(long n, int bits) {
    return ((int64_t)n * bits + 7) / 8;
}

/* --------------------------------------------------------------- bit streams
   Eight codes of b bits are b bytes: code i of the eight stands at bit i b of
   the little-endian number those bytes form. */

void gm_pack(const uint8_t *code, long n, int bits, uint8_t *stream) {
    for (long i = 0; i < n; i += 8) {
        uint64_t word = 0;
        long codes = gm_min(8, n - i);
        for (long j = 0; j < codes; j++)
            word |= (uint64_t)code[i + j] << (j * bits);
        for (long j = 0; j < stream_bytes(codes, bits); j++)
            *stream++ = (uint8_t)(word >> (8 * j));
    }
}

/* One specialised loop per number of bits.  The eight codes of a word are
   spread over its bytes by halves: 4 and 4, then 2 and 2, then 1 and 1; ten
   times as fast as one by one.  Where eight bytes could end after the stream,
   and codes after the eighth, one by one. */
static inline __attribute__((always_inline)) void unpack_bits(
    const uint8_t *stream, long n, int bits, uint8_t *code) {
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
    for (; i < n; i += 8, stream += bits) {
        long codes = gm_min(8, n - i);
        word = 0;
        memcpy(&word, stream, (size_t)stream_bytes(codes, bits));
        for (long j = 0; j < codes; j++)
            code[i + j] = (uint8_t)(word >> (j * bits) & one);
    }
}

void gm_unpack(const uint8_t *stream, long n, int bits, uint8_t *code) {
    switch (bits) {
    case 1: unpack_bits(stream, n, 1, code); break;
    case 2: unpack_bits(stream, n, 2, code); break;
    case 3: unpack_bits(stream, n, 3, code); break;
    case 4: unpack_bits(stream, n, 4, code); break;
    case 5: unpack_bits(stream, n, 5, code); break;
    case 6: unpack_bits(stream, n, 6, code); break;
    case 7: unpack_bits(stream, n, 7, code); break;
    default: memcpy(code, stream, (size_t)n);
    }
}

/* --------------------------------------------------------- round to nearest */

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

void gm_grid_of(const float *w, long n, int bits, gm_scales rule,
                uint16_t *scale, uint8_t *zero) {
    float lo = 0, hi = 0;
    for (long i = 0; i < n; i++) {
        lo = w[i] < lo ? w[i] : lo;
        hi = w[i] > hi ? w[i] : hi;
    }
    gm_grid(lo, hi, bits, scale, zero);
    if (rule == GM_MINMAX) return;
    double least = grid_error(w, n, bits, *scale, *zero);
    for (int r = 99; r > 20; r--) {
        uint16_t s;
        uint8_t z;
        gm_grid(lo * (float)r / 100, hi * (float)r / 100, bits, &s, &z);
        double error = grid_error(w, n, bits, s, z);
        if (error < least) least = error, *scale = s, *zero = z;
    }
}

/* One group of n columns of one row: scale, zero, then n codes. */
static void rtn_group(const gm_real *w, long n, int bits, gm_scales rule,
                      uint8_t *code, uint16_t *scale, uint8_t *zero) {
    const float top = (float)((1 << bits) - 1);
    float x[GM_MAX_GROUP];
    for (long i = 0; i < n; i++) x[i] = (float)w[i];
    gm_grid_of(x, n, bits, rule, scale, zero);
    const float s = gm_f16_to_f32(*scale), z = (float)*zero;
    for (long i = 0; i < n; i++) code[i] = (uint8_t)gm_code(x[i], s, z, top);
}

typedef struct {
    const gm_real *w;
    long out, in, group;
    int bits;
    gm_scales rule;
    uint8_t *codes, *zeros;
    uint16_t *scales;
} rtn_job;

enum { ROWS = 16 };     /* rows of a weight in one item of parallel work */

/* Groups are rounded whole; codes gather in a strip that starts at a multiple
   of 8 columns and is packed when the next group would not fit. */
static void rtn_row(const rtn_job *job, long row) {
    long groups = groups_of(job->in, job->group);
    const gm_real *w = job->w + row * job->in;
    uint16_t *scale = job->scales + row * groups;
    uint8_t *stream = job->codes + row * stream_bytes(job->in, job->bits);
    uint8_t strip[2 * STRIP], zero[STRIP];
    long filled = 0;
    for (long i = 0; i < groups; i++) {
        long first = i * job->group, n = gm_min(job->group, job->in - first);
        assert(n > 0);
        rtn_group(w + first, n, job->bits, job->rule, strip + filled,
                  scale + i, zero + i % STRIP);
        filled += n;
        bool last = i + 1 == groups;
        long whole = last ? filled : filled / 8 * 8;
        gm_pack(strip, whole, job->bits, stream);
        stream += stream_bytes(whole, job->bits);
        memmove(strip, strip + whole, (size_t)(filled - whole));
        filled -= whole;
        if (last || i % STRIP == STRIP - 1) {
            long from = i / STRIP * STRIP;
            gm_pack(zero, i + 1 - from, job->bits,
                    job->zeros + row * stream_bytes(groups, job->bits) +
                        stream_bytes(from, job->bits));
        }
    }
}

static void rtn_rows(void *context, long item) {
    const rtn_job *job = context;
    long end = gm_min(job->out, (item + 1) * ROWS);
    for (long row = item * ROWS; row < end; row++) rtn_row(job, row);
}

void gm_rtn(const gm_real *w, long out, long in, int bits, long group,
            gm_scales rule, uint8_t *codes, uint16_t *scales,
            uint8_t *zeros) {
    assert(bits >= 1 && bits <= 8 && group >= 1 && group <= STRIP);
    rtn_job job = {w, out, in, group, bits, rule, codes, zeros, scales};
    gm_parallel((out + ROWS - 1) / ROWS, rtn_rows, &job);
}

/* ------------------------------------------------- back to real numbers */

/* q[0..n-1] = columns first.. of row `row`; n <= STRIP, first a multiple of
   8. */
static void strip_values(const gm_packed *p, long row, long first, long n,
                         gm_real *q) {
    uint8_t code[STRIP];
    long groups = groups_of(p->in, p->group);
    gm_unpack(p->codes + row * stream_bytes(p->in, p->bits) +
               stream_bytes(first, p->bits), n, p->bits, code);
    const uint8_t *zeros = p->zeros + row * stream_bytes(groups, p->bits);
    for (long i = 0; i < n;) {
        long g = (first + i) / p->group, eight = g / 8 * 8;
        uint8_t zero[8];
        gm_unpack(zeros + stream_bytes(eight, p->bits),
                  gm_min(8, groups - eight), p->bits, zero);
        const uint8_t *half = p->scales + 2 * (row * groups + g);
        float s = gm_f16_to_f32((uint16_t)(half[0] | half[1] << 8));
        int z = zero[g % 8];
        long end = gm_min(n, (g + 1) * p->group - first);
        for (; i < end; i++) q[i] = (gm_real)((float)(code[i] - z) * s);
    }
}

static void strip_read(const gm_packed *p, long row, long first, long n,
                            gm_real *q) {
    if (p->original)
        { gm_tensor_read(p->original, row * p->in + first, n, q); return; }
    strip_values(p, row, first, n, q);
}

/* Work over row bundles. */
typedef struct {
    const gm_packed *packed;
    int K;
    const double *p;
    gm_real *w;
    const gm_real *G;
    double *row;
} mix_job;

static void mix_row(const mix_job *job, long row) {
    long in = job->packed->in;
    gm_real q[STRIP];
    for (long first = 0; first < in; first += STRIP) {
        long n = gm_min(STRIP, in - first);
        gm_real *w = job->w + row * in + first;
        memset(w, 0, (size_t)n * sizeof *w);
        for (int k = 0; k < job->K; k++) {
            gm_real p = (gm_real)job->p[k];
            strip_read(job->packed + k, row, first, n, q);
            for (long i = 0; i < n; i++) w[i] += p * q[i];
        }
    }
}

/* Strips of 512 columns by gm_dot, added in order. */
static void inner_row(const mix_job *job, long row) {
    long in = job->packed->in;
    gm_real q[STRIP];
    double *sum = job->row + row * job->K;
    memset(sum, 0, (size_t)job->K * sizeof *sum);
    for (long first = 0; first < in; first += STRIP) {
        long n = gm_min(STRIP, in - first);
        for (int k = 0; k < job->K; k++) {
            strip_read(job->packed + k, row, first, n, q);
            sum[k] += gm_dot(n, job->G + row * in + first, q);
        }
    }
}

static void mix_rows(void *context, long item) {
    const mix_job *job = context;
    long end = gm_min(job->packed->out, (item + 1) * ROWS);
    for (long row = item * ROWS; row < end; row++)
        (job->w ? mix_row : inner_row)(job, row);
}

static void mix_run(mix_job *job) {
    const gm_packed *p = job->packed;
    /* NaN is found before the threads start: they cannot fail */
    for (int k = 0; k < job->K; k++)
        if (p[k].original) gm_tensor_check(p[k].original);
    gm_parallel((p->out + ROWS - 1) / ROWS, mix_rows, job);
}

void gm_mix(const gm_packed *packed, int K, const double *p, gm_real *w) {
    mix_job job = {.packed = packed, .K = K, .p = p, .w = w};
    mix_run(&job);
}

void gm_dequantize(const gm_packed *packed, gm_real *q) {
    double one = 1;
    if (packed->original)
        gm_tensor_read(packed->original, 0,
                       (int64_t)packed->out * packed->in, q);
    else
        gm_mix(packed, 1, &one, q);
}

void gm_inner(const gm_packed *packed, int K, const gm_real *G,
                   double *row, double *g) {
    mix_job job = {.packed = packed, .K = K, .G = G, .row = row};
    mix_run(&job);
    for (int k = 0; k < K; k++) {
        g[k] = 0;
        for (long i = 0; i < packed->out; i++) g[k] += row[i * K + k];
    }
}
