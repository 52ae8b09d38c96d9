/* layouts.c: the files of other runtimes: one table of layouts, one packer for
   all of them.  A module of the model becomes at most four tensors: its codes,
   scales, zeros and what else a layout wants.
     (1) words    code i of a line, b bits, is cut into planes: one of b bits
                  (dense), or, planar, as many bits as the largest power of two
                  leaves.  A plane of w bits that begins at bit f of the code
                  lies at bit 32 (b floor(i/32) + f) + (i mod 32) w of the line,
                  least significant first, in words of 32 bits
     (2) affine   w = scale code + bias,  bias = - scale zero - shift, scale as
                  rounded; shift: (3) of quant.c
   Found by loading each with its own library: docs/deploy.md.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "formats.h"

#include <math.h>
#include <string.h>

/* What a tensor holds.  CODES are out lines of in codes, ZEROS a line of out
   codes for each group, SCALES and BIASES out lines of a number a group, INDEX
   each input's group, SHAPE out and in. */
typedef enum { CODES, ZEROS, SCALES, BIASES, INDEX, SHAPE } content;
typedef struct {
    const char *name;
    content what;
    bool down;                  /* lines are columns */
} part;

struct row {
    const char *name, *word, *mode;
    const char *groups;         /* as messages say it */
    unsigned widths;            /* bit b: has b bits  */
    int least, most;            /* group: powers of two; most 0: any */
    bool whole;                 /* groups of one length: group divides in */
    part part[GM_LAYOUT_PARTS];
};

enum { MLX, COMPRESSED, GPTQ };
static const struct row rows[] = {
    [MLX] = {"mlx", "U32", "mlx", "32, 64 or 128", 0x17E, 32, 128, true,
             {{"weight", CODES, false}, {"scales", SCALES, false},
              {"biases", BIASES, false}}},
    [COMPRESSED] = {"compressed-tensors", "I32", "pt", "any", 0x1FE, 0, 0, true,
                    {{"weight_packed", CODES, false},
                     {"weight_scale", SCALES, false},
                     {"weight_shape", SHAPE, false},
                     {"weight_zero_point", ZEROS, true}}},
    [GPTQ] = {"gptq", "I32", "pt", "a power of two from 16 on", 0x1FC, 16, 1024,
              false,
              {{"qweight", CODES, true}, {"qzeros", ZEROS, false},
               {"scales", SCALES, true}, {"g_idx", INDEX, false}}},
};

const struct row *gm_layout_row(const char *name) {
    const struct row *r = rows;
    while (strcmp(r->name, name) != 0) r++;
    return r;
}

/* A weight [out, in] that a directory holds in one of these layouts. */
typedef struct {
    gm_made made;
    const gm_tensor *part[GM_LAYOUT_PARTS];     /* NULL: it has none of it */
    struct reading *r;
    int64_t out, in, groups;
} weight;

typedef struct reading {
    const char *path;           /* of config.json */
    const struct row *row;
    unsigned widths;            /* those it speaks of, bit b: b bits */
    bool planar;
    unsigned less;              /* of every zero as stored: 1 in GPTQ's v1 */
    const weight *held;         /* whose values are in `values` */
    float *values;
} reading;

/* Lines of w's codes or zeros, and how many are in one. */
static int64_t lines_of(const weight *w, const part *p) {
    return p->what == ZEROS ? w->groups : w->out;
}

static int64_t line_of(const weight *w, const part *p) {
    return p->what == ZEROS ? w->out : w->in;
}

/* Which of its parts are zeros; -1: it has none. */
static int zeros_of(const weight *w) {
    int i = GM_LAYOUT_PARTS - 1;
    while (i >= 0 && (!w->part[i] || w->r->row->part[i].what != ZEROS)) i--;
    return i;
}

/* ---------------------------------------------------------------- words (1) */

static int64_t place(int bits, int from, int width, int64_t i) {
    return 32 * (i / 32 * bits + from) + i % 32 * width;
}

static int plane(int left, bool planar) {
    int width = left;
    while (planar && (width & (width - 1))) width &= width - 1;
    return width;
}

/* line [4 words + 1], zeroed: gets code i. */
static void put(uint8_t *line, int bits, bool planar, int64_t i,
                unsigned code) {
    for (int from = 0, w; from < bits; from += w) {
        w = plane(bits - from, planar);
        const int64_t at = place(bits, from, w, i);
        const unsigned v = (code >> from & ((1u << w) - 1)) << at % 8;
        line[at / 8] |= (uint8_t)v;
        line[at / 8 + 1] |= (uint8_t)(v >> 8);
    }
}

static int64_t words(int64_t n, int bits) { return (n * bits + 31) / 32; }

/* Code i of line l of `lines` lines of n. */
static unsigned get(const uint8_t *data, bool down, int64_t lines, int64_t n,
                    int bits, bool planar, int64_t l, int64_t i) {
    const int64_t W = words(n, bits);
    unsigned code = 0;
    for (int from = 0, w; from < bits; from += w) {
        w = plane(bits - from, planar);
        const int64_t at = place(bits, from, w, i);
        uint32_t word[2] = {0};
        for (int64_t k = 0, j = at / 32; k < 2 && j < W; k++, j++)
            memcpy(word + k, data + 4 * (down ? j * lines + l : l * W + j), 4);
        const uint64_t two = word[0] | (uint64_t)word[1] << 32;
        code |= (unsigned)(two >> at % 32 & ((1u << w) - 1)) << from;
    }
    return code;
}

/* `lines` lines of n codes: i of line l is code[l line + i step]. */
static void pack(gm_arena *arena, const gm_layout *t, const part *p, int bits,
                 const uint8_t *code, int64_t lines, int64_t n, int64_t line,
                 int64_t step, uint8_t *out) {
    const int64_t W = words(n, bits);
    uint8_t *stream = gm_alloc(arena, (size_t)W * 4 + 1, 1);
    for (int64_t l = 0; l < lines; l++) {
        memset(stream, 0, (size_t)W * 4 + 1);
        for (int64_t i = 0; i < n; i++)
            put(stream, bits, t->planar, i, code[l * line + i * step]);
        for (int64_t w = 0; w < W; w++)
            memcpy(out + 4 * (p->down ? w * lines + l : l * W + w),
                   stream + 4 * w, 4);
    }
}

/* ---------------------------------------------------------- what fits where */

static const char *module_name(gm_arena *arena, long m) {
    return gm_linear_name(arena, m / GM_LINEARS, (int)(m % GM_LINEARS));
}

/* Why a weight [out, in] cannot have b bits in this layout, or NULL. */
static const char *unfit(gm_arena *arena, const struct row *r, bool planar,
                         long group, int64_t high, int64_t wide, int b) {
    const long out = (long)high, in = (long)wide;
    if (!(r->widths >> b & 1)) {
        const char *list = "";
        for (int i = 1; i <= 8; i++)
            if (r->widths >> i & 1)
                list = gm_format(arena, "%s%s%d", list, *list ? ", " : "", i);
        return gm_format(arena, "expected bits of %s, found %d", list, b);
    }
    if (r->whole && in % group)
        return gm_format(arena, "expected inputs in whole groups of %ld, found "
                         "%ld inputs", group, in);
    if (r == &rows[GPTQ] && (planar || b == 3) && (in % 32 || out % 32))
        return gm_format(arena, "expected inputs and outputs in multiples of "
                         "32 for %d bits, found [%ld, %ld]", b, out, in);
    return NULL;
}

static const gm_tensor *weight_of(const gm_layout *t, long m) {
    return gm_linear_tensor(t->candidates->model, m / GM_LINEARS,
                            (int)(m % GM_LINEARS));
}

/* Candidate k of module m, where a directory holds its codes; or NULL. */
static const weight *held(const gm_candidates *c, long m, int k) {
    const gm_external *e = c->recipe.external;
    const gm_tensor *t = e ? e->tensor[m * c->recipe.count + k] : NULL;
    return t && t->made ? (const weight *)t->made : NULL;
}

static const weight *chosen(const gm_layout *t, long m) {
    return t->bits[m] ? held(t->candidates, m, t->choice[m]) : NULL;
}

static long group_of(const gm_layout *t, long m) {
    const weight *h = m < 0 ? NULL : chosen(t, m);
    return h ? (long)(h->in / h->groups) : t->candidates->recipe.group;
}

/* It is written without zeros, where the layout may lack them. */
static bool is_symmetric(const gm_layout *t, long m) {
    const weight *h = chosen(t, m);
    return h ? zeros_of(h) < 0 : t->symmetric;
}

/* Why another tool's candidate k of module m cannot be written, or NULL. */
static const char *unfit_held(gm_arena *arena, const gm_layout *t, long m,
                              int k) {
    const gm_candidates *c = t->candidates;
    const gm_tensor *from = c->recipe.external->tensor[m * c->recipe.count + k];
    const weight *h = held(c, m, k);
    if (!h || h->r->row != t->row)
        return gm_format(arena, "expected codes of %s, found %s%s in %s",
                         t->row->name, h ? "those of " : "values",
                         h ? h->r->row->name : "", from->path);
    if (h->in % h->groups)
        return gm_format(arena, "expected inputs in whole groups, found %ld "
                         "inputs in %ld groups in %s", (long)h->in,
                         (long)h->groups, from->path);
    return unfit(arena, t->row, t->planar, (long)(h->in / h->groups), h->out,
                 h->in, h->made.bits);
}

/* t->bits; 0: the module stays as stored. */
static void choose(gm_arena *arena, gm_layout *t, const char *option,
                   bool keep_odd) {
    const gm_candidates *c = t->candidates;
    for (long m = 0; m < t->M; m++) {
        const int k = t->choice[m], b = c->recipe.bits[k];
        const gm_tensor *w = weight_of(t, m);
        const bool stored = gm_candidate_tensor(c, m / GM_LINEARS,
                                                (int)(m % GM_LINEARS), k) == w;
        const char *why = stored ? NULL
            : c->recipe.external ? unfit_held(arena, t, m, k)
            : unfit(arena, t->row, t->planar, c->recipe.group, w->shape[0],
                    w->shape[1], b);
        if (why && !keep_odd)
            gm_fail(GM_EUSAGE, "%s %s cannot hold module %s: %s%s", option,
                    t->row->name, module_name(arena, m), why,
                    strcmp(option, "--for") == 0
                    ? " (with 16 in --bits such modules stay as stored)"
                    : " (--keep-odd keeps such modules as stored)");
        t->bits[m] = why || stored ? 0 : b;
    }
}

gm_dtype gm_layout_own(int i, gm_dtype stored) {
    return i == MLX ? stored : GM_F16;
}

gm_scales gm_layout_rounding(int i, gm_dtype scale) {
    const bool bf16 = scale == GM_BF16;
    return (bf16 ? GM_BF16_SCALE : 0) |
           (i == MLX && (bf16 || scale == GM_F16) ? GM_BIAS : 0);
}

void gm_layout_check_scale(int i, gm_dtype scale) {
    if (i == GPTQ && scale != GM_F16)
        gm_fail(GM_EUSAGE, "--scale-type: gptq has scales of F16, found %s",
                gm_dtype_name(scale));
}

/* One module of 5, 6 or 7 bits makes all of a model planar. */
static bool makes_planar(const struct row *r, int bits) {
    return r == &rows[GPTQ] && bits > 4 && bits < 8;
}

/* Of all modules.  Biases that were rounded for mlx others' zeros do not say. */
static void check_recipe(const struct row *r, const char *option,
                         const gm_recipe *recipe) {
    const long group = recipe->group;
    if (recipe->scales & GM_BIAS && r != &rows[MLX])
        gm_fail(GM_EUSAGE, "%s %s: these candidates were made for mlx, with "
                "its biases: expected mlx, or candidates without --for mlx",
                option, r->name);
    if (r->most && (group < r->least || group > r->most || group & (group - 1)))
        gm_fail(GM_EUSAGE, "%s %s: expected a group of %s, found %ld", option,
                r->name, r->groups, group);
}

void gm_layout_plan(gm_arena *arena, const char *option, const char *name,
                    const gm_candidates *candidates, const int *choice,
                    gm_dtype scale, bool keep_odd, gm_layout *out) {
    const gm_recipe *recipe = &candidates->recipe;
    const struct row *r = gm_layout_row(name);
    const gm_dtype stored = gm_linear_tensor(candidates->model, 0, 0)->dtype;
    *out = (gm_layout){.row = r, .candidates = candidates, .choice = choice,
                       .M = candidates->model->config.layers * GM_LINEARS,
                       .scale = scale != GM_OTHER ? scale
                              : gm_layout_own((int)(r - rows), stored)};
    if (gm_linear_tensor(candidates->model, 0, 0)->joined)
        gm_fail(GM_EUSAGE, "%s %s: the model joins q, k, v in one tensor: "
                "expected --format hf or packed", option, name);
    if (recipe->external && scale != GM_OTHER)
        gm_fail(GM_EUSAGE, "--scale-type: another tool's candidates keep "
                "theirs, found %s", gm_dtype_name(scale));
    if (!recipe->external) {
        gm_layout_check_scale((int)(r - rows), out->scale);
        check_recipe(r, option, recipe);
    }
    out->bits = gm_alloc(arena, (size_t)out->M, sizeof *out->bits);
    choose(arena, out, option, keep_odd);
    for (long m = 0; m < out->M; m++)
        out->planar = out->planar || makes_planar(r, out->bits[m]);
    if (out->planar) choose(arena, out, option, keep_odd);
}

/* ----------------------------------------------------------- its tensors */

/* Of the weight STEM.weight [high, in] of b bits. */
static int parts_of(gm_arena *arena, const gm_layout *t, const gm_tensor *w,
                    long group, int b, gm_tensor out[GM_LAYOUT_PARTS]) {
    const struct row *r = t->row;
    const int stem = (int)strlen(w->name) - 7;
    const int64_t high = w->shape[0], in = w->shape[1];
    const int64_t groups = (in + group - 1) / group;
    int n = 0;
    for (const part *p = r->part; p < r->part + GM_LAYOUT_PARTS && p->name;
         p++) {
        const int64_t lines = p->what == ZEROS ? groups : high;
        const int64_t wide = p->what == CODES ? words(in, b)
                           : p->what == ZEROS ? words(high, b) : groups;
        gm_tensor o = {.name = gm_format(arena, "%.*s.%s", stem, w->name,
                                         p->name), .path = w->path,
                       .dtype = t->scale, .rank = 2,
                       .shape = {p->down ? wide : lines,
                                 p->down ? lines : wide}};
        if (p->what == CODES || p->what == ZEROS)
            o.dtype = GM_OTHER, o.type = r->word;
        if (p->what == INDEX || p->what == SHAPE) {
            o.dtype = p->what == SHAPE ? GM_I64 : GM_I32;
            o.rank = 1;
            o.shape[0] = p->what == SHAPE ? 2 : in;
            o.shape[1] = 1;
        }
        o.bytes = (size_t)(o.shape[0] * o.shape[1]) *
                  (o.dtype == GM_OTHER ? 4 : gm_dtype_bytes(o.dtype));
        if (p->what == ZEROS && r == &rows[COMPRESSED] && t->symmetric)
            continue;
        out[n++] = o;
    }
    return n;
}

/* The same of what directories hold, as it lies there.  Of the widest layout
   what is longest among all of the module's candidates. */
static int held_parts(const gm_layout *t, long m,
                      gm_tensor out[GM_LAYOUT_PARTS]) {
    int n = 0;
    for (int k = 0; k < t->candidates->recipe.count; k++) {
        const weight *h = held(t->candidates, m, k);
        for (int i = 0; h && i < GM_LAYOUT_PARTS; i++) {
            const gm_tensor *from = h->part[i];
            int j = 0;
            if (!from || (t->choice && k != t->choice[m])) continue;
            while (j < n && strcmp(out[j].name, from->name) != 0) j++;
            if (j == n) out[n++] = *from;
            if (from->bytes > out[j].bytes) out[j].bytes = from->bytes;
            if (from->dtype == GM_BF16) out[j].dtype = GM_BF16;
            for (int d = 0; d < from->rank; d++)
                if (from->shape[d] > out[j].shape[d])
                    out[j].shape[d] = from->shape[d];
        }
    }
    return n;
}

int gm_layout_parts(gm_arena *arena, const gm_layout *t, long m,
                    gm_tensor out[GM_LAYOUT_PARTS]) {
    if (t->candidates->recipe.external) return held_parts(t, m, out);
    return parts_of(arena, t, weight_of(t, m), t->candidates->recipe.group,
                    t->bits[m], out);
}

/* Scales, or biases (2), of type t->scale; the largest error of a weight, in
   steps, at the least or the largest code. */
static void write_numbers(gm_arena *arena, gm_layout *t, const part *p,
                          const gm_packed *q, const uint8_t *zero,
                          uint8_t *out) {
    const int64_t groups = (q->in + q->group - 1) / q->group;
    const size_t n = (size_t)(q->out * groups), size = gm_dtype_bytes(t->scale);
    gm_real *x = gm_alloc(arena, n, sizeof *x);
    gm_tensor stored = {.name = p->name, .dtype = t->scale, .rank = 1,
                        .shape = {1}, .bytes = size};
    for (size_t i = 0; i < n; i++) {
        const int64_t o = (int64_t)i / groups, g = (int64_t)i % groups;
        const size_t at = size * (size_t)(p->down ? g * q->out + o
                                                  : (int64_t)i);
        uint16_t half;
        gm_real bias, rounded;
        memcpy(&half, q->scales + 2 * i, 2);
        const gm_real scale = gm_f16_to_f32(half);
        gm_store(t->scale, &scale, 1, out + at);
        stored.data = out + at;
        gm_tensor_read(&stored, 0, 1, &rounded);
        if (p->what == SCALES) continue;
        const float shift = gm_shift(q->rule, (float)scale, zero[i]);
        bias = -rounded * (gm_real)zero[i] - shift;
        gm_store(t->scale, &bias, 1, out + at);
        gm_tensor_read(&stored, 0, 1, &bias);
        const int top = (1 << q->bits) - 1;
        for (int c = 0; c <= top && scale > 0; c += top) {
            const double e = ((double)rounded * c + bias + shift) / scale -
                             (c - zero[i]);
            t->error[q->bits] = fmax(t->error[q->bits], fabs(e));
        }
    }
}

void gm_layout_fill(gm_arena *arena, gm_layout *t, const char *name,
                    const gm_packed *q, uint8_t *data) {
    const part *p = t->row->part;
    const int64_t groups = (q->in + q->group - 1) / q->group;
    const gm_parts row = gm_packed_parts(1, q->in, q->bits, q->group);
    while (strcmp(name, p->name) != 0) p++;
    const int64_t n = p->what == CODES ? q->in : groups;
    uint8_t *code = gm_alloc(arena, (size_t)(q->out * n), 1);
    for (long o = 0; o < q->out; o++)
        gm_unpack(p->what == CODES ? q->codes + o * row.codes
                                   : q->zeros + o * row.zeros,
                  n, q->bits, code + o * n);
    if (p->what == CODES)
        pack(arena, t, p, q->bits, code, q->out, q->in, q->in, 1, data);
    if (p->what == ZEROS)
        pack(arena, t, p, q->bits, code, groups, q->out, 1, groups, data);
    if (p->what == SCALES || p->what == BIASES)
        write_numbers(arena, t, p, q, code, data);
    for (int32_t i = 0; p->what == INDEX && i < q->in; i++) {
        const int32_t of = i / (int32_t)q->group;
        memcpy(data + 4 * i, &of, sizeof of);
    }
    const int64_t shape[] = {q->out, q->in};
    if (p->what == SHAPE) memcpy(data, shape, sizeof shape);
}

static const uint8_t *bytes_of(gm_arena *arena, const gm_tensor *t) {
    uint8_t *data = gm_alloc(arena, t->bytes, 1);
    gm_tensor_bytes(t, 0, t->bytes, data);
    return data;
}

/* The codes of tensor t of w, [lines, n]; v1 cannot say zero 0: readers take it
   for 2^b, or carry. */
static uint8_t *codes_of(gm_arena *arena, const weight *w, const part *p,
                         const gm_tensor *t) {
    const unsigned less = p->what == ZEROS ? w->r->less : 0;
    const int64_t lines = lines_of(w, p), n = line_of(w, p);
    const int bits = w->made.bits;
    const uint8_t *data = bytes_of(arena, t);
    uint8_t *code = gm_alloc(arena, (size_t)(lines * n), 1);
    for (int64_t i = 0; i < lines * n; i++) {
        const unsigned z = less + get(data, p->down, lines, n, bits,
                                      w->r->planar, i / n, i % n);
        if (z >> bits)
            gm_bad(t->name, "expected zeros of 1 to %d, found 0, which "
                   "checkpoint_format gptq cannot hold, in %s",
                   (1 << bits) - 1, t->path);
        code[i] = (uint8_t)z;
    }
    return code;
}

/* All zeros of module m, and how many; NULL: it has none. */
static const uint8_t *all_zeros(gm_arena *arena, const gm_layout *t, long m,
                                int64_t *count) {
    const weight *h = chosen(t, m);
    if (h) {
        const int i = zeros_of(h);
        *count = i < 0 ? 0 : h->out * h->groups;
        return i < 0 ? NULL : codes_of(arena, h, t->row->part + i, h->part[i]);
    }
    const gm_packed p = gm_candidate(arena, t->candidates, m / GM_LINEARS,
                                     (int)(m % GM_LINEARS), t->choice[m]);
    const long groups = (p.in + p.group - 1) / p.group;
    const int64_t row = gm_packed_parts(1, p.in, p.bits, p.group).zeros;
    uint8_t *zero = gm_alloc(arena, (size_t)(p.out * groups), 1);
    for (long o = 0; o < p.out; o++)
        gm_unpack(p.zeros + o * row, groups, p.bits, zero + o * groups);
    *count = p.out * groups;
    return zero;
}

void gm_layout_zeros(gm_arena *arena, gm_layout *t) {
    bool all = true;
    for (long m = 0; m < t->M && all; m++) {
        int64_t count;
        if (!t->bits[m]) continue;
        gm_mark mark = gm_arena_mark(arena);
        const uint8_t *zero = all_zeros(arena, t, m, &count);
        for (int64_t i = 0; i < count; i++)
            all = all && zero[i] == 1 << (t->bits[m] - 1);
        gm_arena_rewind(arena, mark);
    }
    t->symmetric = all;
}

/* The part of that name: codes in this layout's words, all else as it lies. */
static const uint8_t *copy_held(gm_arena *arena, const gm_layout *t,
                                const weight *w, const gm_tensor *what) {
    int i = 0;
    while (!w->part[i] || strcmp(w->part[i]->name, what->name) != 0) i++;
    const part *p = t->row->part + i;
    const int64_t n = line_of(w, p);
    if (p->what != CODES && p->what != ZEROS)
        return bytes_of(arena, w->part[i]);
    uint8_t *data = gm_alloc(arena, what->bytes, 1);
    pack(arena, t, p, w->made.bits, codes_of(arena, w, p, w->part[i]),
         lines_of(w, p), n, n, 1, data);
    return data;
}

/* The same of this program's own candidate. */
static const uint8_t *make_part(gm_arena *arena, gm_layout *t, long m,
                                const gm_tensor *what) {
    const gm_packed q = gm_candidate(arena, t->candidates, m / GM_LINEARS,
                                     (int)(m % GM_LINEARS), t->choice[m]);
    uint8_t *data = gm_alloc(arena, what->bytes, 1);
    gm_layout_fill(arena, t, strrchr(what->name, '.') + 1, &q, data);
    return data;
}

void gm_layout_write(gm_arena *arena, gm_layout *t, long m,
                     const gm_tensor *what, gm_out *out) {
    gm_mark mark = gm_arena_mark(arena);
    const weight *h = chosen(t, m);
    gm_out_write(out, h ? copy_held(arena, t, h, what)
                        : make_part(arena, t, m, what), what->bytes);
    gm_arena_rewind(arena, mark);
}

const char *gm_layout_mode(const gm_layout *t) { return t->row->mode; }
int gm_layout_which(const gm_layout *t) { return (int)(t->row - rows); }

/* ------------------------------------------------------ sizes from scores */

gm_dtype gm_layout_scale(const char *text, const char *name) {
    const size_t n = strlen(name);
    gm_dtype t = GM_F32;
    if (!text || strncmp(text, name, n) != 0 || text[n] != ' ') return GM_OTHER;
    while (t <= GM_BF16 && strcmp(text + n + 1, gm_dtype_name(t)) != 0) t++;
    return t <= GM_BF16 ? t : GM_OTHER;
}

static void read_sizes(const char *path, const char *text, gm_layout *t) {
    for (t->row = rows; t->row <= rows + GPTQ; t->row++) {
        t->scale = gm_layout_scale(text, t->row->name);
        if (t->scale != GM_OTHER) return;
    }
    gm_bad(path, "sizes: expected a layout and the type of its scales, such as "
           "mlx F16, found \"%s\"", text);
}

bool gm_layout_sized(const char *text) {
    return text && strcmp(text, "codes") != 0;
}

/* "BYTES TYPE" */
static const char *overhead_of(gm_arena *arena, const gm_scores *s,
                               const char *name) {
    const char *key = gm_format(arena, "overhead.%s", name);
    const char *text = gm_keys_get(&s->keys, key);
    if (!text || !strchr(text, ' '))
        gm_bad(s->path, "%s: expected bytes and a type, as gamma fit writes, "
               "found \"%s\"", key, text ? text : "");
    return text;
}

const char *gm_layout_type(gm_arena *arena, const gm_scores *s,
                           const char *name) {
    return strchr(overhead_of(arena, s, name), ' ') + 1;
}

void gm_layout_sizes(gm_arena *arena, const char *text, gm_scores *s) {
    gm_layout t = {0};
    gm_recipe recipe;
    long bytes;
    read_sizes(s->path, text, &t);
    const struct row *r = t.row;
    const char *over = overhead_of(arena, s, r->name);
    const char *made = gm_keys_get(&s->keys, "candidates");
    if (!gm_is_long(gm_format(arena, "%.*s", (int)strcspn(over, " "), over), 0,
                    1L << 53, &bytes))
        gm_bad(s->path, "overhead.%s: expected bytes and a type, found \"%s\"",
               r->name, over);
    if (!made) gm_bad(s->path, "candidates: expected a recipe, found none");
    gm_recipe_read(made, &recipe);
    check_recipe(r, "--for", &recipe);
    t.symmetric = recipe.scales & GM_SYMMETRIC;
    for (int k = 0; k < s->K; k++)
        t.planar = t.planar || makes_planar(r, s->bits[k]);
    for (long m = 0; m < s->M; m++) {
        const char *why = NULL;
        bool any = false;
        const gm_tensor w = {.name = "module.weight", .rank = 2,
                             .shape = {s->out[m], s->in[m]}};
        for (int k = 0; k < s->K; k++) {
            int64_t *b = s->bytes + m * s->K + k;
            gm_tensor of[GM_LAYOUT_PARTS];
            gm_mark mark = gm_arena_mark(arena);
            const char *bad = *b < 0 || s->bits[k] >= 16 ? NULL
                : unfit(arena, r, t.planar, recipe.group, s->out[m], s->in[m],
                        s->bits[k]);
            if (bad) *b = -1, why = bad;
            any = any || *b >= 0;
            if (*b < 0 || s->bits[k] >= 16) continue;
            *b = 0;
            for (int n = parts_of(arena, &t, &w, recipe.group, s->bits[k], of);
                 n--;)
                *b += (int64_t)of[n].bytes;
            gm_arena_rewind(arena, mark);
        }
        if (!any)
            gm_fail(GM_EUSAGE, "--for %s cannot hold module %s: %s", r->name,
                    s->name[m], why);
    }
    s->overhead = bytes;
    gm_keys_set(arena, &s->keys, "sizes", "%s", text);
}

void gm_layout_widest(gm_arena *arena, int i, const gm_candidates *c,
                      gm_dtype scale, gm_layout *out) {
    const gm_recipe *recipe = &c->recipe;
    int top = recipe->bits[0];
    *out = (gm_layout){.row = rows + i, .candidates = c, .scale = scale,
                       .M = c->model->config.layers * GM_LINEARS};
    for (int k = 0; k < recipe->count; k++)
        if (recipe->bits[k] < 16) top = recipe->bits[k];
    out->bits = gm_alloc(arena, (size_t)out->M, sizeof *out->bits);
    for (long m = 0; m < out->M; m++) {
        bool any = !recipe->external;
        for (int k = 0; k < recipe->count; k++) any = any || held(c, m, k);
        out->bits[m] = any ? top : 0;
    }
}

const char *gm_layout_name(int i) { return i <= GPTQ ? rows[i].name : NULL; }

/* ---------------------------------------------------------- config.json */

/* The first module that has codes, or -1; its bits, or 4. */
static long first_of(const gm_layout *t) {
    for (long m = 0; m < t->M; m++)
        if (t->bits[m]) return m;
    return -1;
}

static int bits_of_first(const gm_layout *t) {
    return first_of(t) < 0 ? 4 : t->bits[first_of(t)];
}

static void config_mlx(gm_arena *arena, const gm_layout *t, gm_out *out) {
    gm_out_print(out, "{\"group_size\": %ld, \"bits\": %d, \"mode\": "
                 "\"affine\", \"model.embed_tokens\": false, \"lm_head\": "
                 "false", group_of(t, first_of(t)), bits_of_first(t));
    for (long m = 0; m < t->M; m++)
        if (t->bits[m])
            gm_out_print(out, ",\n    \"%s\": {\"group_size\": %ld, \"bits\": "
                         "%d, \"mode\": \"affine\"}",
                         module_name(arena, m), group_of(t, m), t->bits[m]);
        else gm_out_print(out, ",\n    \"%s\": false", module_name(arena, m));
    gm_out_print(out, "}");
}

static bool alike(const gm_layout *t, long m, long n) {
    return t->bits[m] == t->bits[n] && group_of(t, m) == group_of(t, n) &&
           is_symmetric(t, m) == is_symmetric(t, n);
}

/* One group of modules for each width, group and kind of zeros. */
static void config_compressed(gm_arena *arena, const gm_layout *t,
                              gm_out *out) {
    int groups = 0;
    gm_out_print(out, "{\"quant_method\": \"compressed-tensors\", \"format\": "
                 "\"pack-quantized\", \"quantization_status\": "
                 "\"compressed\",\n    \"config_groups\": {");
    for (long m = 0; m < t->M; m++) {
        long first = 0;
        while (!alike(t, first, m)) first++;
        if (!t->bits[m] || first < m) continue;
        gm_out_print(out, "%s\n      \"group_%d\": {\"targets\": [",
                     groups ? "," : "", groups);
        for (long n = m; n < t->M; n++)
            if (alike(t, m, n))
                gm_out_print(out, "%s\"%s\"", n > m ? ", " : "",
                             module_name(arena, n));
        gm_out_print(out, "], \"format\": \"pack-quantized\", "
                     "\"input_activations\": null, \"output_activations\": "
                     "null,\n        \"weights\": {\"num_bits\": %d, \"type\": "
                     "\"int\", \"symmetric\": %s, \"strategy\": \"group\", "
                     "\"group_size\": %ld, \"dynamic\": false}}", t->bits[m],
                     is_symmetric(t, m) ? "true" : "false", group_of(t, m));
        groups++;
    }
    gm_out_print(out, "},\n    \"ignore\": [\"lm_head\"");
    for (long m = 0; m < t->M; m++)
        if (!t->bits[m]) gm_out_print(out, ", \"%s\"", module_name(arena, m));
    gm_out_print(out, "]}");
}

/* A rule is a regular expression: with ^ and $, for layers.1 begins
   layers.10. */
static void config_gptq(gm_arena *arena, const gm_layout *t, gm_out *out) {
    const char *format = t->planar ? "gptq_p" : "gptq_v2", *comma = "";
    const int base = bits_of_first(t);
    const long group = group_of(t, first_of(t));
    gm_out_print(out, "{\"quant_method\": \"gptq\", \"bits\": %d, "
                 "\"group_size\": %ld, \"desc_act\": false, \"sym\": %s, "
                 "\"lm_head\": false, \"checkpoint_format\": \"%s\", "
                 "\"format\": \"%s\", \"pack_dtype\": \"int32\",\n    "
                 "\"dynamic\": {", base, group,
                 t->symmetric ? "true" : "false", format, format);
    for (long m = 0; m < t->M; m++) {
        const bool same = !t->bits[m] || group_of(t, m) == group;
        if (t->bits[m] == base && same) continue;
        gm_out_print(out, "%s\n      \"%c:^", comma, t->bits[m] ? '+' : '-');
        for (const char *c = module_name(arena, m); *c; c++)
            gm_out_print(out, "%s%c", *c == '.' ? "\\\\" : "", *c);
        if (!t->bits[m]) gm_out_print(out, "$\": {}");
        else if (same) gm_out_print(out, "$\": {\"bits\": %d}", t->bits[m]);
        else gm_out_print(out, "$\": {\"bits\": %d, \"group_size\": %ld}",
                          t->bits[m], group_of(t, m));
        comma = ",";
    }
    gm_out_print(out, "}}");
}

/* mlx-lm reads rope_theta and rope_scaling of most models; where they stand in
   rope_parameters alone, as transformers 5 writes, it takes 10000 unsaid.  No
   object is in that one: lib/checkpoint.c refuses others. */
static void config_rope(gm_arena *arena, const gm_model *model,
                        const char *text, gm_out *out) {
    const gm_json *all = gm_json_python(arena, gm_format(
        arena, "%s/config.json", model->dir));
    const gm_json *p = gm_json_get(all, "rope_parameters");
    const gm_json *theta = gm_json_get(all, "rope_theta");
    const gm_json *scaling = gm_json_get(all, "rope_scaling");
    if (!p || p->type != GM_JSON_OBJECT) return;
    if (!theta || theta->type == GM_JSON_NULL)
        gm_out_print(out, ",\n  \"rope_theta\": %.17g",
                     model->config.rope.theta);
    if (model->config.rope.kind != GM_ROPE_DEFAULT &&
        (!scaling || scaling->type == GM_JSON_NULL))
        gm_out_print(out, ",\n  \"rope_scaling\": %.*s",
                     (int)strcspn(text + p->at, "}") + 1, text + p->at);
}

/* The model's own config.json and, as its last members, what was done. */
void gm_layout_config(gm_arena *arena, const gm_layout *t, const char *text,
                      gm_out *out) {
    void (*const write[])(gm_arena *, const gm_layout *, gm_out *) =
        {config_mlx, config_compressed, config_gptq};
    const long which = t->row - rows;
    const char *end = strrchr(text, '}');
    while (end > text && strchr(" \t\r\n", end[-1])) end--;
    gm_out_print(out, "%.*s", (int)(end - text), text);
    if (which == MLX) {
        config_rope(arena, t->candidates->model, text, out);
        gm_out_print(out, ",\n  \"quantization\": ");
        write[which](arena, t, out);
    }
    gm_out_print(out, ",\n  \"quantization_config\": ");
    write[which](arena, t, out);
    gm_out_print(out, "\n}\n");
}

/* --------------------------------------------------------------- read back
   The table the other way: of a directory's tensors the weights,
     scale (code - zero),  or  scale code + bias  where there are biases. */

/* zero[out, groups] */
static void read_zeros(gm_arena *arena, const weight *w, const part *p,
                       const gm_tensor *t, gm_real *zero) {
    const uint8_t *code = codes_of(arena, w, p, t);
    for (int64_t i = 0; i < w->out * w->groups; i++)
        zero[i] = code[i % w->groups * w->out + i / w->groups];
}

static void read_numbers(gm_arena *arena, const weight *w, const part *p,
                         const gm_tensor *t, gm_real *x) {
    const int64_t n = w->out * w->groups;
    gm_real *stored = gm_alloc(arena, (size_t)n, sizeof *stored);
    gm_tensor_read(t, 0, n, stored);
    for (int64_t i = 0; i < n; i++)
        x[i] = stored[p->down ? i % w->groups * w->out + i / w->groups : i];
}

static void read_index(const weight *w, const gm_tensor *t, int32_t *group) {
    gm_tensor_bytes(t, 0, t->bytes, group);
    for (int64_t i = 0; i < w->in; i++)
        if (group[i] < 0 || group[i] >= w->groups)
            gm_bad(t->name, "element %lld: expected a group below %lld, found "
                   "%d in %s", (long long)i, (long long)w->groups, group[i],
                   t->path);
}

static const float *make_values(const gm_made *made) {
    const weight *w = (const weight *)made;
    reading *r = w->r;
    const part *p = r->row->part;
    if (r->held == w) return r->values;
    r->held = NULL;
    gm_arena a = {0};
    const int64_t n = w->out * w->groups;
    gm_real *scale = gm_alloc(&a, (size_t)n, sizeof *scale);
    gm_real *zero = gm_alloc(&a, (size_t)n, sizeof *zero);
    int32_t *group = gm_alloc(&a, (size_t)w->in, sizeof *group);
    const uint8_t *codes = NULL;
    bool biased = false, down = false;
    for (int64_t i = 0; i < n; i++) zero[i] = (gm_real)(1 << (made->bits - 1));
    for (int64_t i = 0; i < w->in; i++)
        group[i] = (int32_t)(i / (w->in / w->groups));
    for (int k = 0; k < GM_LAYOUT_PARTS; k++, p++) {
        const gm_tensor *t = w->part[k];
        if (!t) continue;
        if (p->what == CODES) codes = bytes_of(&a, t), down = p->down;
        if (p->what == ZEROS) read_zeros(&a, w, p, t, zero);
        if (p->what == SCALES) read_numbers(&a, w, p, t, scale);
        if (p->what == BIASES) read_numbers(&a, w, p, t, zero), biased = true;
        if (p->what == INDEX) read_index(w, t, group);
    }
#pragma omp parallel for num_threads(gm_threads())
    for (int64_t o = 0; o < w->out; o++)
        for (int64_t i = 0; i < w->in; i++) {
            const int64_t g = o * w->groups + group[i];
            const gm_real c = (gm_real)get(codes, down, w->out, w->in,
                                           made->bits, r->planar, o, i);
            r->values[o * w->in + i] =
                (float)(biased ? scale[g] * c + zero[g]
                               : scale[g] * (c - zero[g]));
        }
    gm_arena_free(&a);
    r->held = w;
    return r->values;
}

/* ----------------------------------------------- what a directory holds */

static void expect(const gm_tensor *t, const char *types, int64_t lines,
                   int64_t columns) {
    const bool matrix = columns > 0;
    if (t->rank != 1 + matrix || t->shape[0] != lines ||
        (matrix && t->shape[1] != columns)) {
        char wide[32] = "";
        if (matrix) snprintf(wide, sizeof wide, ", %lld", (long long)columns);
        gm_bad(t->name, "expected [%lld%s], found %s in %s", (long long)lines,
               wide, gm_shape_of(t).text, t->path);
    }
    if (!gm_name_matches(types, gm_type_of(t)))
        gm_bad(t->name, "expected type %s, found %s in %s", types,
               gm_type_of(t), t->path);
}

static void check_shape(const weight *w, const gm_tensor *t) {
    int64_t shape[2];
    expect(t, "I64", 2, 0);
    gm_tensor_bytes(t, 0, 16, shape);
    if (shape[0] != w->out || shape[1] != w->in)
        gm_bad(t->name, "expected %lld and %lld, found %lld and %lld in %s",
               (long long)w->out, (long long)w->in, (long long)shape[0],
               (long long)shape[1], t->path);
}

/* The bits that the shape of its codes says. */
static int bits_of(const reading *r, const weight *w, const part *p,
                   const gm_tensor *t) {
    for (int b = 1; b <= 8 && t->rank == 2; b++)
        if ((r->widths & r->row->widths) >> b & 1 &&
            t->shape[p->down] == w->out && t->shape[!p->down] == words(w->in, b)
            && !(r->planar && (w->in % 32 || w->out % 32)))
            return b;
    gm_bad(t->name, "expected %lld outputs of %lld inputs in bits that "
           "config.json names and %s has, found %s in %s", (long long)w->out,
           (long long)w->in, r->row->name, gm_shape_of(t).text, t->path);
}

/* Each part has its shape; the sum of their bytes. */
static void check_parts(const reading *r, weight *w, const char *stem,
                        const char *dir) {
    const part *p = r->row->part;
    const gm_tensor *scales = NULL;
    for (int k = 0; k < GM_LAYOUT_PARTS; k++)
        if (p[k].what == SCALES && (scales = w->part[k]) && scales->rank == 2)
            w->groups = scales->shape[!p[k].down];
    /* of one length, or as the index says */
    if (scales && (w->groups < 1 || w->groups > w->in || (w->in % w->groups && (
            r->row->whole || !w->part[GM_LAYOUT_PARTS - 1]))))
        gm_bad(w->part[0]->name, "expected %lld inputs in whole groups, found "
               "%lld groups in %s", (long long)w->in, (long long)w->groups,
               w->part[0]->path);
    for (int k = 0; k < GM_LAYOUT_PARTS && p[k].name; k++) {
        const gm_tensor *t = w->part[k];
        const content what = p[k].what;
        const bool codes = what == CODES || what == ZEROS;
        if (!t && what != INDEX && what != SHAPE &&
            !(what == ZEROS && r->row == &rows[COMPRESSED]))
            gm_bad(dir, "tensor %s.%s is missing, but %s is there", stem,
                   p[k].name, w->part[0]->name);
        if (!t) continue;
        if (what == CODES) w->made.bits = bits_of(r, w, p + k, t);
        const int64_t lines = lines_of(w, p + k);
        const int64_t wide = codes ? words(line_of(w, p + k), w->made.bits)
                                   : w->groups;
        if (what == INDEX) expect(t, "I32", w->in, 0);
        else if (what == SHAPE) check_shape(w, t);
        else expect(t, codes ? "I32,U32" : "F32,F16,BF16",
                    p[k].down ? wide : lines, p[k].down ? lines : wide);
        w->made.stored += (int64_t)t->bytes;
    }
}

/* STEM.weight [out, in] from its parts, or false: it is there as it is. */
static bool make_weight(gm_arena *arena, reading *r, const gm_tensors *all,
                        const char *dir, const char *stem, long out, long in,
                        bool *gone, gm_tensor *to) {
    const size_t n = strlen(stem);
    weight *w = gm_alloc(arena, 1, sizeof *w);
    const char *names = "bias", *codes = r->row->part->name;
    *w = (weight){.made.values = make_values, .r = r, .out = out, .in = in};
    for (int k = 0; k < GM_LAYOUT_PARTS && r->row->part[k].name; k++) {
        const char *name = r->row->part[k].name;
        w->part[k] = gm_tensor_find(all, gm_format(arena, "%s.%s", stem, name));
        names = gm_format(arena, "%s,%s", names, name);
    }
    for (int k = 1; !w->part[0] && k < GM_LAYOUT_PARTS; k++)
        if (w->part[k])
            gm_bad(dir, "tensor %s.%s is missing, but %s is there", stem,
                   codes, w->part[k]->name);
    if (!w->part[0] || (w->part[0]->dtype <= GM_F64 && !w->part[1]))
        return false;
    check_parts(r, w, stem, dir);
    for (long i = 0; i < all->count; i++) {
        const char *name = all->tensor[i].name;
        if (strncmp(name, stem, n) != 0 || name[n] != '.') continue;
        if (!gm_name_matches(names, name + n + 1))
            gm_bad(dir, "tensor %s: expected none beside %s, found one", name,
                   w->part[0]->name);
        gone[i] = gone[i] || strcmp(name + n, ".bias") != 0;
    }
    *to = (gm_tensor){.name = gm_format(arena, "%s.weight", stem),
                      .dtype = GM_F32, .rank = 2, .shape = {out, in},
                      .bytes = (size_t)(out * in) * 4,
                      .path = w->part[0]->path, .made = &w->made};
    return true;
}

/* The widths that a configuration speaks of, anywhere in it; what is beyond
   weights of affine codes is refused. */
static unsigned widths_in(const char *path, const gm_json *j) {
    unsigned widths = 0;
    for (const gm_json *c = j->child; c; c = c->next) {
        const char *key = c->key ? c->key : "";
        const bool mode = strcmp(key, "mode") == 0;
        if (gm_name_matches("bits,num_bits", key) && c->is_integer &&
            c->integer > 0 && c->integer <= 8)
            widths |= 1u << c->integer;
        if (mode ? !gm_json_is(c, "affine")
            : gm_name_matches("input_activations,output_activations,"
                              "kv_cache_scheme", key) &&
              c->type != GM_JSON_NULL)
            gm_bad(path, "%s: expected %s, found %s", key,
                   mode ? "\"affine\"" : "null", gm_json_show(c).text);
        widths |= widths_in(path, c);
    }
    return widths;
}

/* By what it says of itself; row NULL: by nothing known here. */
static void read_form(const gm_json *how, reading *r) {
    const gm_json *method = gm_json_get(how, "quant_method");
    const gm_json *form = gm_json_get(how, "checkpoint_format");
    if (!form) form = gm_json_get(how, "format");
    if (!method && gm_json_get(how, "bits") && gm_json_get(how, "group_size"))
        r->row = &rows[MLX];
    if (gm_json_is(method, "compressed-tensors")) r->row = &rows[COMPRESSED];
    if (!gm_json_is(method, "gptq")) return;
    r->row = &rows[GPTQ];
    r->planar = gm_json_is(form, "gptq_p");
    r->less = !form || gm_json_is(form, "gptq");
    if (!r->planar && !r->less && !gm_json_is(form, "gptq_v2"))
        gm_bad(r->path, "quantization_config.checkpoint_format: expected "
               "\"gptq\", \"gptq_v2\" or \"gptq_p\", found %s",
               gm_json_show(form).text);
}

static bool make_weights(gm_arena *arena, const gm_json *config,
                         gm_model *model) {
    const gm_config *c = &model->config;
    const gm_json *how = gm_json_get(config, "quantization_config");
    gm_tensors *all = &model->tensors;
    reading *r = gm_alloc(arena, 1, sizeof *r);
    const long M = c->layers * GM_LINEARS;
    if (!how || how->type == GM_JSON_NULL)
        how = gm_json_get(config, "quantization");
    if (!how || how->type != GM_JSON_OBJECT)
        return !gm_json_get(config, "compression_config") && (!how ||
               how->type == GM_JSON_NULL);
    r->path = gm_format(arena, "%s/config.json", model->dir);
    read_form(how, r);
    if (!r->row) return false;
    r->widths = widths_in(r->path, how);
    bool *gone = gm_alloc(arena, (size_t)all->count, sizeof *gone);
    gm_tensor *t = gm_alloc(arena, (size_t)(all->count + M + 2), sizeof *t);
    long made = 0;
    size_t most = 0;
    for (long m = 0; m < M + 2; m++) {
        long out = c->vocab, in = c->d;
        const char *stem = m == M ? "model.embed_tokens" : "lm_head";
        if (m < M) {
            stem = module_name(arena, m);
            gm_linear_shape(c, (int)(m % GM_LINEARS), &out, &in);
        }
        if (make_weight(arena, r, all, model->dir, stem, out, in, gone,
                        t + made) && t[made++].bytes > most)
            most = t[made - 1].bytes;
    }
    r->values = gm_alloc(arena, most, 1);
    for (long i = 0; i < all->count; i++)
        if (!gone[i]) t[made++] = all->tensor[i];
    all->tensor = t;
    all->count = made;
    gm_tensors_sort(all);
    model->layout = r->row->name;
    return true;
}

void gm_layout_open(gm_arena *arena, const char *dir, gm_model *out) {
    gm_model_open_as(arena, dir, make_weights, out);
}
