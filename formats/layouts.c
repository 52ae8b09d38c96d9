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
    bool may;                   /* a directory may lack it */
} part;

struct row {
    const char *name, *word, *mode;
    const char *groups;         /* as messages say it */
    unsigned widths;            /* bit b: has b bits  */
    int least, most;            /* group: powers of two; most 0: any */
    bool whole;                 /* groups of one length: group divides in */
    part part[GM_LAYOUT_PARTS + 1];     /* CODES first; the last has no name */
};

enum { MLX, COMPRESSED, GPTQ };
static const struct row rows[] = {
    [MLX] = {"mlx", "U32", "mlx", "32, 64 or 128", 0x17E, 32, 128, true,
             {{"weight", CODES, 0, 0}, {"scales", SCALES, 0, 0},
              {"biases", BIASES, 0, 0}}},
    [COMPRESSED] = {"compressed-tensors", "I32", "pt", "any", 0x1FE, 0, 0, true,
                    {{"weight_packed", CODES, 0, 0},
                     {"weight_scale", SCALES, 0, 0},
                     {"weight_shape", SHAPE, 0, true},
                     {"weight_zero_point", ZEROS, true, true}}},
    [GPTQ] = {"gptq", "I32", "pt", "a power of two from 16 on", 0x1FC, 16, 1024,
              false,
              {{"qweight", CODES, true, 0}, {"qzeros", ZEROS, 0, 0},
               {"scales", SCALES, true, 0}, {"g_idx", INDEX, 0, true}}},
};

const char *gm_layout_name(int i) { return i <= GPTQ ? rows[i].name : NULL; }
const char *gm_layout_mode(const gm_layout *t) { return t->row->mode; }

const struct row *gm_layout_row(const char *name) {
    for (const struct row *r = rows; r <= rows + GPTQ; r++)
        if (strcmp(r->name, name) == 0) return r;
    return NULL;
}

/* A weight [out, in] in a layout: all that the shapes of its parts follow from.
   zeros: it has them, where the layout may lack them. */
typedef struct {
    const struct row *row;
    int64_t out, in, group, groups;
    int bits;
    bool planar, zeros;
    gm_dtype scale;
} shape;

/* One that a directory holds. */
typedef struct {
    gm_made made;
    shape is;
    const gm_tensor *part[GM_LAYOUT_PARTS];     /* NULL: it has none of it */
    struct reading *r;
} weight;

typedef struct reading {
    const char *path;           /* of config.json */
    const struct row *row;
    unsigned widths;            /* those it speaks of, bit b: b bits */
    bool planar;
    unsigned less;              /* of every zero as stored: 1 in GPTQ's v1 */
    bool index, zeros;          /* it says that every module has them */
    const weight *held;         /* whose values are in `values` */
    float *values;
} reading;

static bool has_codes(const part *p) {
    return p->what == CODES || p->what == ZEROS;
}

static int64_t words(int64_t n, int bits) { return (n * bits + 31) / 32; }

/* Lines of a part with codes, and how many are in one; where code i of line l
   is in [out, in] or [out, groups]. */
static int64_t lines_of(const shape *s, const part *p) {
    return p->what == ZEROS ? s->groups : s->out;
}

static int64_t line_of(const shape *s, const part *p) {
    return p->what == ZEROS ? s->out : s->in;
}

static int64_t code_at(const shape *s, const part *p, int64_t l, int64_t i) {
    return p->what == ZEROS ? i * s->groups + l : l * s->in + i;
}

/* Where number i of [out, groups] is in a part. */
static int64_t number_at(const shape *s, const part *p, int64_t i) {
    return p->down ? i % s->groups * s->out + i / s->groups : i;
}

static gm_tensor tensor_of(const shape *s, const part *p) {
    gm_tensor t = {.name = p->name, .dtype = s->scale, .rank = 2};
    size_t each = gm_dtype_bytes(s->scale);
    t.shape[p->down] = lines_of(s, p);
    t.shape[!p->down] = s->groups;
    if (has_codes(p)) {
        t.dtype = GM_OTHER, t.type = s->row->word, each = 4;
        t.shape[!p->down] = words(line_of(s, p), s->bits);
    }
    if (p->what == INDEX || p->what == SHAPE) {
        t.dtype = p->what == SHAPE ? GM_I64 : GM_I32;
        each = gm_dtype_bytes(t.dtype);
        t.rank = 1;
        t.shape[0] = p->what == SHAPE ? 2 : s->in;
        t.shape[1] = 1;
    }
    t.bytes = (size_t)(t.shape[0] * t.shape[1]) * each;
    return t;
}

/* ---------------------------------------------------------------- words (1) */

static int plane(int left, bool planar) {
    int width = left;
    while (planar && (width & (width - 1))) width &= width - 1;
    return width;
}

/* The codes of line l into its words, or out of them, where 0 is: 32 of them,
   plane by plane. */
static void move_line(const shape *s, const part *p, int64_t l, bool put,
                      uint8_t *code, uint8_t *line) {
    uint8_t field[32];
    for (int64_t i = 0; i < line_of(s, p); i += 32) {
        const long some = gm_min(32, line_of(s, p) - i);
        for (int from = 0, w; from < s->bits; from += w) {
            w = plane(s->bits - from, s->planar);
            uint8_t *at = line + 4 * (i / 32 * s->bits + from);
            if (!put) gm_unpack(at, some, w, field);
            for (long k = 0; k < some; k++) {
                uint8_t *c = code + code_at(s, p, l, i + k);
                if (put) field[k] = (uint8_t)(*c >> from & ((1 << w) - 1));
                else *c |= (uint8_t)(field[k] << from);
            }
            if (put) gm_pack(field, some, w, at);
        }
    }
}

/* Codes [out, in] or [out, groups] into the bytes of a part, or out of them. */
static void move(gm_arena *arena, const shape *s, const part *p, bool put,
                 uint8_t *code, uint8_t *data) {
    const int64_t lines = lines_of(s, p), W = words(line_of(s, p), s->bits);
    uint8_t *line = gm_alloc(arena, (size_t)W, 4);
    for (int64_t l = 0; l < lines; l++) {
        if (put) move_line(s, p, l, put, code, line);
        for (int64_t j = 0; j < W; j++) {
            uint8_t *at = data + 4 * (p->down ? j * lines + l : l * W + j);
            memcpy(put ? at : line + 4 * j, put ? line + 4 * j : at, 4);
        }
        if (!put) move_line(s, p, l, put, code, line);
    }
}

/* ---------------------------------------------------------- what fits where */

static const char *module_name(gm_arena *arena, long m) {
    return gm_linear_name(arena, m / GM_LINEARS, (int)(m % GM_LINEARS));
}

/* Why a layout cannot hold this weight, or NULL. */
static const char *unfit(gm_arena *arena, const shape *s) {
    const long out = (long)s->out, in = (long)s->in, group = (long)s->group;
    if (!(s->row->widths >> s->bits & 1)) {
        const char *list = "";
        for (int i = 1; i <= 8; i++)
            if (s->row->widths >> i & 1)
                list = gm_format(arena, "%s%s%d", list, *list ? ", " : "", i);
        return gm_format(arena, "expected bits of %s, found %d", list, s->bits);
    }
    if (s->row->whole && in % group)
        return gm_format(arena, "expected inputs in whole groups of %ld, found "
                         "%ld inputs", group, in);
    if (s->row == &rows[GPTQ] && (s->planar || s->bits == 3) &&
        (in % 32 || out % 32))
        return gm_format(arena, "expected inputs and outputs in multiples of "
                         "32 for %d bits, found [%ld, %ld]", s->bits, out, in);
    return NULL;
}

/* A weight [out, in] of this program's own candidates. */
static shape own_shape(const gm_layout *t, int64_t out, int64_t in, long group,
                       int bits) {
    return (shape){.row = t->row, .out = out, .in = in, .group = group,
                   .groups = (in + group - 1) / group, .bits = bits,
                   .planar = t->planar, .zeros = !t->symmetric,
                   .scale = t->scale};
}

/* Candidate k of module m, where a directory holds its codes; or NULL. */
static const weight *held(const gm_candidates *c, long m, int k) {
    const gm_external *e = c->recipe.external;
    const gm_tensor *t = e ? e->tensor[m * c->recipe.count + k] : NULL;
    return t && t->made ? (const weight *)t->made : NULL;
}

static const weight *chosen(const gm_layout *t, long m) {
    return t->bits[m] && t->choice ? held(t->candidates, m, t->choice[m])
                                   : NULL;
}

/* A candidate of module m, held by a directory or not, as it is written. */
static shape shape_of(const gm_layout *t, const weight *h, long m, int bits) {
    const gm_tensor *w = gm_module_weight(t->candidates->model, m);
    shape s = h ? h->is : own_shape(t, w->shape[0], w->shape[1],
                                    t->candidates->recipe.group, bits);
    s.planar = t->planar;
    return s;
}

/* One group a line, as a directory holds it, is group -1 to its readers. */
static shape written(const gm_layout *t, long m) {
    const weight *h = chosen(t, m);
    shape s = shape_of(t, h, m, t->bits[m]);
    if (h && s.groups == 1 && s.row != &rows[MLX]) s.group = -1;
    return s;
}

/* Why candidate k of module m cannot be written, or NULL. */
static const char *refusal(gm_arena *arena, const gm_layout *t, long m, int k) {
    const gm_candidates *c = t->candidates;
    const weight *h = held(c, m, k);
    const shape s = shape_of(t, h, m, c->recipe.bits[k]);
    const char *from = c->recipe.external
        ? c->recipe.external->tensor[m * c->recipe.count + k]->path : NULL;
    if (from && (!h || s.row != t->row))
        return gm_format(arena, "expected codes of %s, found %s%s in %s",
                         t->row->name, h ? "those of " : "values",
                         h ? s.row->name : "", from);
    if (from && s.in % s.groups)
        return gm_format(arena, "expected inputs in whole groups, found %ld "
                         "inputs in %ld groups in %s", (long)s.in,
                         (long)s.groups, from);
    return unfit(arena, &s);
}

/* t->bits; 0: the module stays as stored. */
static void choose(gm_arena *arena, gm_layout *t, const char *option,
                   bool keep_odd) {
    const gm_candidates *c = t->candidates;
    for (long m = 0; m < t->M; m++) {
        const int k = t->choice[m];
        const bool stored = gm_candidate_tensor(c, m / GM_LINEARS,
                                                (int)(m % GM_LINEARS), k) ==
                            gm_module_weight(c->model, m);
        const char *why = stored ? NULL : refusal(arena, t, m, k);
        if (why && !keep_odd)
            gm_fail(GM_EUSAGE, "%s %s cannot hold module %s: %s%s", option,
                    t->row->name, module_name(arena, m), why,
                    strcmp(option, "--for") == 0
                    ? " (with 16 in --bits such modules stay as stored)"
                    : " (--keep-odd keeps such modules as stored)");
        t->bits[m] = why || stored ? 0 : c->recipe.bits[k];
    }
}

gm_dtype gm_layout_own(const struct row *r, const gm_model *model) {
    const gm_dtype own = gm_module_weight(model, 0)->dtype;
    return r != &rows[MLX] ? GM_F16 : own == GM_F64 ? GM_F32 : own;
}

gm_scales gm_layout_rounding(const gm_layout *t) {
    const bool bf16 = t->scale == GM_BF16;
    return (bf16 ? GM_BF16_SCALE : 0) |
           (t->row == &rows[MLX] && (bf16 || t->scale == GM_F16) ? GM_BIAS : 0);
}

/* One module of 5, 6 or 7 bits makes all of a model planar. */
static bool makes_planar(const struct row *r, int bits) {
    return r == &rows[GPTQ] && bits > 4 && bits < 8;
}

/* The names that module m's parts get are free, and the loaders' own. */
static void check_names(gm_arena *arena, const gm_layout *t, long m,
                        const char *option) {
    const gm_model *model = t->candidates->model;
    const gm_tensor *w = gm_module_weight(model, m);
    const char *stem = module_name(arena, m);
    if (strncmp(w->name, "model.", 6) != 0)
        gm_fail(GM_EUSAGE, "%s %s: expected a tensor %s.weight, found %s: "
                "expected --format hf or packed", option, t->row->name, stem,
                w->name);
    for (const part *p = t->row->part; t->bits[m] && p->name; p++) {
        const char *name = gm_format(arena, "%s.%s", stem, p->name);
        const gm_tensor *old = gm_tensor_find(&model->tensors, name);
        if (old && old != w)
            gm_bad(old->path, "tensor %s: expected none of this name, which "
                   "%s %s gives to another, found one", name, option,
                   t->row->name);
    }
}

static void read_index(const weight *w, const gm_tensor *t, int32_t *group) {
    gm_tensor_bytes(t, 0, t->bytes, group);
    for (int64_t i = 0; i < w->is.in; i++)
        if (group[i] < 0 || group[i] >= w->is.groups)
            gm_bad(t->name, "element %lld: expected a group below %lld, found "
                   "%d in %s", (long long)i, (long long)w->is.groups, group[i],
                   t->path);
}

/* t->reordered: groups of some module are not its inputs in order.  Readers may
   take g_idx for what it is not unless desc_act says so, and then want it of
   every module. */
static void check_order(gm_arena *arena, gm_layout *t, const char *option) {
    const char *without = NULL;
    for (long m = 0; m < t->M; m++) {
        const weight *h = chosen(t, m);
        const gm_tensor *index = h ? h->part[GM_LAYOUT_PARTS - 1] : NULL;
        if (h && !index) without = h->part[0]->path;
        if (!index || t->row->part[GM_LAYOUT_PARTS - 1].what != INDEX) continue;
        gm_mark mark = gm_arena_mark(arena);
        int32_t *group = gm_alloc(arena, (size_t)h->is.in, sizeof *group);
        read_index(h, index, group);
        for (int64_t i = 0; i < h->is.in; i++)
            t->reordered = t->reordered || group[i] != i / h->is.group;
        gm_arena_rewind(arena, mark);
    }
    if (t->reordered && without)
        gm_fail(GM_EUSAGE, "%s %s: some modules have groups in another order: "
                "expected g_idx of all, found none in %s", option,
                t->row->name, without);
}

/* Of all modules.  Biases that were rounded for mlx others' zeros do not say. */
static void check_recipe(const gm_layout *t, const char *option,
                         const gm_recipe *recipe) {
    const struct row *r = t->row;
    const long group = recipe->group;
    if (r == &rows[GPTQ] && t->scale != GM_F16)
        gm_fail(GM_EUSAGE, "--scale-type: gptq has scales of F16, found %s",
                gm_dtype_name(t->scale));
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
    const gm_model *model = candidates->model;
    const struct row *r = gm_layout_row(name);
    *out = (gm_layout){.row = r, .candidates = candidates, .choice = choice,
                       .M = gm_modules(model), .scale = scale};
    if (scale == GM_OTHER) out->scale = gm_layout_own(r, model);
    if (gm_module_weight(model, 0)->joined)
        gm_fail(GM_EUSAGE, "%s %s: the model joins q, k, v in one tensor: "
                "expected --format hf or packed", option, name);
    if (recipe->external && scale != GM_OTHER)
        gm_fail(GM_EUSAGE, "--scale-type: another tool's candidates keep "
                "theirs, found %s", gm_dtype_name(scale));
    if (!recipe->external) check_recipe(out, option, recipe);
    out->bits = gm_alloc(arena, (size_t)out->M, sizeof *out->bits);
    choose(arena, out, option, keep_odd);
    for (long m = 0; m < out->M; m++)
        out->planar = out->planar || makes_planar(r, out->bits[m]);
    if (out->planar) choose(arena, out, option, keep_odd);
    for (long m = 0; m < out->M; m++) check_names(arena, out, m, option);
    check_order(arena, out, option);
}

/* ----------------------------------------------------------- its tensors */

/* Zeros that are all the same are left out where that is known. */
static bool is_written(const shape *s, const part *p) {
    return p->what != ZEROS || !p->may || s->zeros;
}

static int64_t bytes_in(const shape *s) {
    int64_t bytes = 0;
    for (const part *p = s->row->part; p->name; p++)
        if (is_written(s, p)) bytes += (int64_t)tensor_of(s, p).bytes;
    return bytes;
}

/* The same of what directories hold, as it lies there.  Of the widest layout
   what is longest among all of the module's candidates. */
static int held_parts(const gm_layout *t, long m,
                      gm_tensor out[GM_LAYOUT_PARTS]) {
    int n = 0;
    for (int k = 0; k < t->candidates->recipe.count; k++) {
        const weight *h = held(t->candidates, m, k);
        if (!h || h->is.row != t->row) continue;
        for (int i = 0; i < GM_LAYOUT_PARTS; i++) {
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
    const gm_tensor *w = gm_module_weight(t->candidates->model, m);
    int n = 0;
    if (t->candidates->recipe.external) return held_parts(t, m, out);
    const shape s = written(t, m);
    for (const part *p = s.row->part; p->name; p++) {
        if (!is_written(&s, p)) continue;
        out[n] = tensor_of(&s, p);
        out[n].name = gm_format(arena, "%.*s.%s", (int)strlen(w->name) - 7,
                                w->name, p->name);
        out[n++].path = w->path;
    }
    return n;
}

/* The codes or zeros of a candidate, [out, in] or [out, groups]. */
static uint8_t *unpack(gm_arena *arena, const gm_packed *q, content what) {
    const gm_parts row = gm_packed_parts(1, q->in, q->bits, q->group);
    const long n = what == CODES ? q->in : (q->in + q->group - 1) / q->group;
    uint8_t *code = gm_alloc(arena, (size_t)(q->out * n), 1);
    for (long o = 0; o < q->out; o++)
        gm_unpack(what == CODES ? q->codes + o * row.codes
                                : q->zeros + o * row.zeros,
                  n, q->bits, code + o * n);
    return code;
}

/* Those of a weight that a directory holds; v1 cannot say zero 0: readers take
   it for 2^b, or carry. */
static uint8_t *read_codes(gm_arena *arena, const weight *w, content what) {
    const shape *s = &w->is;
    int k = 0;
    while (s->row->part[k].what != what) k++;
    const gm_tensor *t = w->part[k];
    const int64_t n = s->out * (what == ZEROS ? s->groups : s->in);
    const unsigned less = what == ZEROS ? w->r->less : 0;
    uint8_t *data = gm_alloc(arena, t->bytes, 1);
    uint8_t *code = gm_alloc(arena, (size_t)n, 1);
    gm_tensor_bytes(t, 0, t->bytes, data);
    move(arena, s, s->row->part + k, false, code, data);
    for (int64_t i = 0; i < n; i++) {
        const unsigned z = less + code[i];
        if (z >> s->bits)
            gm_bad(t->name, "expected zeros of 1 to %d, found 0, which "
                   "checkpoint_format gptq cannot hold, in %s",
                   (1 << s->bits) - 1, t->path);
        code[i] = (uint8_t)z;
    }
    return code;
}

static gm_packed packed_of(gm_arena *arena, const gm_layout *t, long m) {
    return gm_candidate(arena, t->candidates, m / GM_LINEARS,
                        (int)(m % GM_LINEARS), t->choice[m]);
}

/* x at `to` in a type; as it reads there. */
static gm_real store(const part *p, gm_dtype type, gm_real x, uint8_t *to) {
    const gm_tensor stored = {.name = p->name, .dtype = type, .rank = 1,
                              .shape = {1}, .bytes = gm_dtype_bytes(type),
                              .data = to};
    gm_store(type, &x, 1, to);
    gm_tensor_read(&stored, 0, 1, &x);
    return x;
}

/* Scales, or biases (2); the largest error of a weight, in steps, at the least
   or the largest code. */
static void write_numbers(gm_arena *arena, gm_layout *t, const shape *s,
                          const part *p, const gm_packed *q, uint8_t *out) {
    const uint8_t *zero = unpack(arena, q, ZEROS);
    const int64_t size = (int64_t)gm_dtype_bytes(s->scale);
    for (int64_t i = 0; i < s->out * s->groups; i++) {
        uint8_t *to = out + size * number_at(s, p, i);
        uint16_t half;
        memcpy(&half, q->scales + 2 * i, 2);
        const gm_real scale = gm_f16_to_f32(half);
        const gm_real rounded = store(p, s->scale, scale, to);
        if (p->what == SCALES) continue;
        const float shift = gm_shift(q->rule, (float)scale, zero[i]);
        const gm_real exact = -rounded * (gm_real)zero[i] - shift;
        const gm_real bias = store(p, s->scale, exact, to);
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
    const shape s = own_shape(t, q->out, q->in, q->group, q->bits);
    const part *p = t->row->part;
    while (strcmp(name, p->name) != 0) p++;
    if (has_codes(p)) move(arena, &s, p, true, unpack(arena, q, p->what), data);
    if (p->what == SCALES || p->what == BIASES)
        write_numbers(arena, t, &s, p, q, data);
    for (int32_t i = 0; p->what == INDEX && i < q->in; i++) {
        const int32_t of = i / (int32_t)q->group;
        memcpy(data + 4 * i, &of, sizeof of);
    }
    if (p->what == SHAPE)
        memcpy(data, (const int64_t[]){q->out, q->in}, 2 * sizeof(int64_t));
}

void gm_layout_zeros(gm_arena *arena, gm_layout *t) {
    bool all = true;
    for (long m = 0; m < t->M && all; m++) {
        const weight *h = chosen(t, m);
        if (!t->bits[m] || (h && !h->is.zeros)) continue;
        gm_mark mark = gm_arena_mark(arena);
        const shape s = written(t, m);
        const gm_packed q = h ? (gm_packed){0} : packed_of(arena, t, m);
        const uint8_t *zero = h ? read_codes(arena, h, ZEROS)
                                : unpack(arena, &q, ZEROS);
        for (int64_t i = 0; i < s.out * s.groups; i++)
            all = all && zero[i] == 1 << (s.bits - 1);
        gm_arena_rewind(arena, mark);
    }
    t->symmetric = all;
}

/* Of a directory's, codes in this layout's words, all else as it lies. */
void gm_layout_write(gm_arena *arena, gm_layout *t, long m,
                     const gm_tensor *what, gm_out *out) {
    gm_mark mark = gm_arena_mark(arena);
    const weight *h = chosen(t, m);
    const shape s = written(t, m);
    const char *name = strrchr(what->name, '.') + 1;
    uint8_t *data = gm_alloc(arena, what->bytes, 1);
    int k = 0;
    while (strcmp(s.row->part[k].name, name) != 0) k++;
    if (!h) {
        const gm_packed q = packed_of(arena, t, m);
        gm_layout_fill(arena, t, name, &q, data);
    } else if (has_codes(s.row->part + k)) {
        move(arena, &s, s.row->part + k, true,
             read_codes(arena, h, s.row->part[k].what), data);
    } else gm_tensor_bytes(h->part[k], 0, what->bytes, data);
    gm_out_write(out, data, what->bytes);
    gm_arena_rewind(arena, mark);
}

/* ------------------------------------------------------ sizes from scores */

gm_dtype gm_layout_scale(const char *text, const char *name) {
    const size_t n = strlen(name);
    gm_dtype t = GM_F32;
    if (!text || strncmp(text, name, n) != 0 || text[n] != ' ') return GM_OTHER;
    while (t <= GM_BF16 && strcmp(text + n + 1, gm_dtype_name(t)) != 0) t++;
    return t <= GM_BF16 ? t : GM_OTHER;
}

bool gm_layout_sized(const char *text) {
    return text && strcmp(text, "codes") != 0;
}

/* Of the text "BYTES TYPE" the bytes and "TYPE". */
static const char *read_overhead(gm_arena *arena, const gm_scores *s,
                                 const char *name, long *bytes) {
    const char *key = gm_format(arena, "overhead.%s", name);
    const char *text = gm_keys_get(&s->keys, key);
    const char *type = text ? strchr(text, ' ') : NULL;
    if (!type || !gm_is_long(gm_format(arena, "%.*s", (int)(type - text), text),
                             0, 1L << 53, bytes))
        gm_bad(s->path, "%s: expected bytes and a type, as gamma fit writes, "
               "found \"%s\"", key, text ? text : "");
    return type + 1;
}

void gm_layout_sizes(gm_arena *arena, const char *text, gm_scores *s) {
    if (!gm_layout_sized(text)) return;
    const int n = (int)strcspn(text, " ");
    const char *name = gm_format(arena, "%.*s", n, text);
    const char *made = gm_keys_get(&s->keys, "candidates");
    gm_layout t = {.row = gm_layout_row(name), .scale = GM_OTHER};
    gm_recipe recipe;
    long bytes = 0;
    if (made && strncmp(made, "external ", 9) == 0)
        gm_fail(GM_EUSAGE, "--for %s: another tool's candidates have their "
                "sizes in %s: expected no --for", name, s->path);
    if (t.row) {
        const char *own = read_overhead(arena, s, name, &bytes);
        if (!text[n]) text = gm_format(arena, "%s %s", name, own);
        t.scale = gm_layout_scale(text, name);
    }
    if (t.scale == GM_OTHER)
        gm_bad(s->path, "sizes: expected a layout and the type of its scales, "
               "such as mlx F16, found \"%s\"", text);
    if (!made) gm_bad(s->path, "candidates: expected a recipe, found none");
    gm_recipe_read(made, &recipe);
    check_recipe(&t, "--for", &recipe);
    t.symmetric = recipe.scales & GM_SYMMETRIC;
    for (int k = 0; k < s->K; k++)
        t.planar = t.planar || makes_planar(t.row, s->bits[k]);
    for (long m = 0; m < s->M; m++) {
        const char *why = NULL;
        bool any = false;
        for (int k = 0; k < s->K; k++) {
            int64_t *b = s->bytes + m * s->K + k;
            const shape of = own_shape(&t, s->out[m], s->in[m], recipe.group,
                                       s->bits[k]);
            if (*b >= 0 && of.bits < 16) {
                const char *bad = unfit(arena, &of);
                *b = bad ? -1 : bytes_in(&of);
                if (bad) why = bad;
            }
            any = any || *b >= 0;
        }
        if (!any)
            gm_fail(GM_EUSAGE, "--for %s cannot hold module %s: %s", name,
                    s->name[m], why);
    }
    s->overhead = bytes;
    gm_keys_set(arena, &s->keys, "sizes", "%s", text);
}

void gm_layout_widest(gm_arena *arena, const struct row *r,
                      const gm_candidates *c, int bits, gm_dtype scale,
                      gm_layout *out) {
    *out = (gm_layout){.row = r, .candidates = c, .scale = scale,
                       .M = gm_modules(c->model)};
    out->bits = gm_alloc(arena, (size_t)out->M, sizeof *out->bits);
    for (long m = 0; m < out->M; m++) {
        bool any = !c->recipe.external;
        for (int k = 0; k < c->recipe.count; k++) any = any || held(c, m, k);
        out->bits[m] = any ? bits : 0;
    }
}

/* ---------------------------------------------------------- config.json */

/* What stands for all modules: the first that has codes. */
static shape first_of(const gm_layout *t) {
    for (long m = 0; m < t->M; m++)
        if (t->bits[m]) return written(t, m);
    return (shape){.bits = 4, .group = t->candidates->recipe.group};
}

static void print_affine(gm_out *out, shape s) {
    gm_out_print(out, "{\"group_size\": %ld, \"bits\": %d, \"mode\": "
                 "\"affine\"", (long)s.group, s.bits);
}

static void config_mlx(gm_arena *arena, const gm_layout *t, gm_out *out) {
    print_affine(out, first_of(t));
    gm_out_print(out, ", \"model.embed_tokens\": false, \"lm_head\": false");
    for (long m = 0; m < t->M; m++) {
        gm_out_print(out, ",\n    \"%s\": ", module_name(arena, m));
        if (t->bits[m]) print_affine(out, written(t, m));
        gm_out_print(out, t->bits[m] ? "}" : "false");
    }
    gm_out_print(out, "}");
}

static bool alike(const gm_layout *t, long m, long n) {
    const shape x = written(t, m), y = written(t, n);
    return x.bits == y.bits && x.group == y.group && x.zeros == y.zeros;
}

/* One group of modules for each width, group and kind of zeros. */
static void config_compressed(gm_arena *arena, const gm_layout *t,
                              gm_out *out) {
    int groups = 0;
    gm_out_print(out, "{\"quant_method\": \"compressed-tensors\", \"format\": "
                 "\"pack-quantized\", \"quantization_status\": "
                 "\"compressed\",\n    \"config_groups\": {");
    for (long m = 0; m < t->M; m++) {
        const shape s = written(t, m);
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
                     "\"int\", \"symmetric\": %s, \"strategy\": \"%s, "
                     "\"dynamic\": false}}", s.bits,
                     s.zeros ? "false" : "true", s.group < 0
                     ? "channel\", \"group_size\": null"
                     : gm_format(arena, "group\", \"group_size\": %ld",
                                 (long)s.group));
        groups++;
    }
    gm_out_print(out, "},\n    \"ignore\": [\"lm_head\"");
    for (long m = 0; m < t->M; m++)
        if (!t->bits[m]) gm_out_print(out, ", \"%s\"", module_name(arena, m));
    gm_out_print(out, "]}");
}

/* A rule is a regular expression: with ^ and $, for layers.1 begins
   layers.10. */
static void gptq_rule(shape s, int64_t group, const char *name,
                      const char *comma, gm_out *out) {
    gm_out_print(out, "%s\n      \"%c:^", comma, s.bits ? '+' : '-');
    for (const char *c = name; *c; c++)
        gm_out_print(out, "%s%c", *c == '.' ? "\\\\" : "", *c);
    gm_out_print(out, "$\": {");
    if (s.bits) gm_out_print(out, "\"bits\": %d", s.bits);
    if (s.bits && s.group != group)
        gm_out_print(out, ", \"group_size\": %ld", (long)s.group);
    gm_out_print(out, "}");
}

/* vLLM joins q, k, v and gate, up and asks for the joined name alone: that of
   module m where it is the last of them and all are alike, or NULL. */
static const char *joined_name(gm_arena *arena, const gm_layout *t, long m) {
    const int j = (int)(m % GM_LINEARS);
    if (j == GM_V && alike(t, m, m - 1) && alike(t, m, m - 2))
        return gm_format(arena, "model.layers.%ld.self_attn.qkv_proj",
                         m / GM_LINEARS);
    if (j == GM_UP && alike(t, m, m - 1))
        return gm_format(arena, "model.layers.%ld.mlp.gate_up_proj",
                         m / GM_LINEARS);
    return NULL;
}

static void config_gptq(gm_arena *arena, const gm_layout *t, gm_out *out) {
    const char *format = t->planar ? "gptq_p" : "gptq_v2", *comma = "";
    const shape base = first_of(t);
    gm_out_print(out, "{\"quant_method\": \"gptq\", \"bits\": %d, "
                 "\"group_size\": %ld, \"desc_act\": %s, \"sym\": %s, "
                 "\"lm_head\": false, \"checkpoint_format\": \"%s\", "
                 "\"format\": \"%s\", \"pack_dtype\": \"int32\",\n    "
                 "\"dynamic\": {", base.bits, (long)base.group,
                 t->reordered ? "true" : "false",
                 t->symmetric ? "true" : "false", format, format);
    for (long m = 0; m < t->M; m++) {
        const char *joined = joined_name(arena, t, m);
        const shape s = written(t, m);
        if (s.bits == base.bits && s.group == base.group) continue;
        gptq_rule(s, base.group, module_name(arena, m), comma, out);
        comma = ",";
        if (joined) gptq_rule(s, base.group, joined, comma, out);
    }
    gm_out_print(out, "}}");
}

/* mlx-lm reads rope_theta and rope_scaling of most models; where they stand in
   rope_parameters alone, as transformers 5 writes, it takes 10000 unsaid.  No
   object is in that one: lib/checkpoint.c refuses others. */
static void config_rope(gm_arena *arena, const gm_model *model,
                        const char *text, gm_out *out) {
    const gm_json *all = gm_json_read(arena, gm_format(
        arena, "%s/config.json", model->dir), true);
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

static void read_numbers(gm_arena *arena, const weight *w, int k, gm_real *x) {
    const int64_t n = w->is.out * w->is.groups;
    gm_real *stored = gm_alloc(arena, (size_t)n, sizeof *stored);
    gm_tensor_read(w->part[k], 0, n, stored);
    for (int64_t i = 0; i < n; i++)
        x[i] = stored[number_at(&w->is, w->is.row->part + k, i)];
}

/* What is not said: zeros of 2^(b-1), groups of one length. */
static const float *make_values(const gm_made *made) {
    const weight *w = (const weight *)made;
    const shape *s = &w->is;
    const part *p = s->row->part;
    reading *r = w->r;
    if (r->held == w) return r->values;
    r->held = NULL;
    gm_arena a = {0};
    const int64_t n = s->out * s->groups;
    gm_real *scale = gm_alloc(&a, (size_t)n, sizeof *scale);
    gm_real *zero = gm_alloc(&a, (size_t)n, sizeof *zero);
    int32_t *group = gm_alloc(&a, (size_t)s->in, sizeof *group);
    const uint8_t *zeros = s->zeros ? read_codes(&a, w, ZEROS) : NULL;
    bool biased = false;
    for (int64_t i = 0; i < n; i++)
        zero[i] = (gm_real)(zeros ? zeros[i] : 1 << (s->bits - 1));
    for (int64_t i = 0; i < s->in; i++) group[i] = (int32_t)(i / s->group);
    for (int k = 1; k < GM_LAYOUT_PARTS; k++) {
        if (!w->part[k]) continue;
        if (p[k].what == SCALES) read_numbers(&a, w, k, scale);
        if (p[k].what == BIASES) read_numbers(&a, w, k, zero), biased = true;
        if (p[k].what == INDEX) read_index(w, w->part[k], group);
    }
    const uint8_t *codes = read_codes(&a, w, CODES);
#pragma omp parallel for num_threads(gm_threads())
    for (int64_t o = 0; o < s->out; o++)
        for (int64_t i = 0; i < s->in; i++) {
            const int64_t g = o * s->groups + group[i];
            const gm_real c = codes[o * s->in + i];
            r->values[o * s->in + i] =
                (float)(biased ? scale[g] * c + zero[g]
                               : scale[g] * (c - zero[g]));
        }
    gm_arena_free(&a);
    r->held = w;
    return r->values;
}

/* ----------------------------------------------- what a directory holds */

static bool same_shape(const gm_tensor *t, const gm_tensor *u) {
    return t->rank == u->rank &&
           memcmp(t->shape, u->shape, (size_t)t->rank * sizeof *t->shape) == 0;
}

/* Part k is what the shape of the weight says. */
static void check_part(const weight *w, int k) {
    static const char *const types[] = {
        [CODES] = "I32,U32", [ZEROS] = "I32,U32", [SCALES] = "F32,F16,BF16",
        [BIASES] = "F32,F16,BF16", [INDEX] = "I32", [SHAPE] = "I64"};
    const part *p = w->is.row->part + k;
    const gm_tensor *t = w->part[k], like = tensor_of(&w->is, p);
    int64_t both[2];
    if (!same_shape(t, &like))
        gm_bad(t->name, "expected %s, found %s in %s", gm_shape_of(&like).text,
               gm_shape_of(t).text, t->path);
    if (!gm_name_matches(types[p->what], gm_type_of(t)))
        gm_bad(t->name, "expected type %s, found %s in %s", types[p->what],
               gm_type_of(t), t->path);
    if (p->what != SHAPE) return;
    gm_tensor_bytes(t, 0, sizeof both, both);
    if (both[0] != w->is.out || both[1] != w->is.in)
        gm_bad(t->name, "expected %lld and %lld, found %lld and %lld in %s",
               (long long)w->is.out, (long long)w->is.in, (long long)both[0],
               (long long)both[1], t->path);
}

/* The bits that the shape of its codes says. */
static int bits_of(const weight *w) {
    const gm_tensor *t = w->part[0];
    shape s = w->is;
    for (s.bits = 1; s.bits <= 8; s.bits++) {
        const gm_tensor like = tensor_of(&s, s.row->part);
        if ((w->r->widths & s.row->widths) >> s.bits & 1 &&
            same_shape(t, &like) &&
            !(s.planar && (s.in % 32 || s.out % 32)))
            return s.bits;
    }
    gm_bad(t->name, "expected %lld outputs of %lld inputs in bits that "
           "config.json names and %s has, found %s in %s", (long long)s.out,
           (long long)s.in, s.row->name, gm_shape_of(t).text, t->path);
}

/* Each part has its shape; the sum of their bytes. */
static void check_parts(weight *w, const char *stem, const char *there,
                        const char *dir) {
    shape *s = &w->is;
    const part *p = s->row->part;
    const gm_tensor *scales = NULL;
    for (int k = 0; p[k].name; k++) {
        const bool must = (p[k].what == INDEX && w->r->index) ||
                          (p[k].what == ZEROS && w->r->zeros);
        if (!w->part[k] && (must || !p[k].may))
            gm_bad(dir, "tensor %s.%s is missing, but %s is there", stem,
                   p[k].name, there);
        if (p[k].what == SCALES) scales = w->part[k];
        if (p[k].what == SCALES && scales->rank == 2)
            s->groups = scales->shape[!p[k].down];
    }
    /* of one length, or as the index says */
    if (s->groups < 1 || s->groups > s->in || (s->in % s->groups &&
            (s->row->whole || !w->part[GM_LAYOUT_PARTS - 1])))
        gm_bad(w->part[0]->name, "expected %lld inputs in whole groups, found "
               "%lld groups in %s", (long long)s->in, (long long)s->groups,
               w->part[0]->path);
    s->group = s->in / s->groups;
    w->made.bits = s->bits = bits_of(w);
    for (int k = 0; p[k].name; k++) {
        if (!w->part[k]) continue;
        check_part(w, k);
        s->zeros = s->zeros || p[k].what == ZEROS;
        w->made.stored += (int64_t)w->part[k]->bytes;
    }
}

/* STEM.weight [out, in] from its parts, or false: it is there as it is. */
static bool make_weight(gm_arena *arena, reading *r, const gm_tensors *all,
                        const char *dir, const char *stem, long out, long in,
                        bool *gone, gm_tensor *to) {
    const size_t n = strlen(stem);
    const part *p = r->row->part;
    const char *names = "bias", *there = NULL;
    weight *w = gm_alloc(arena, 1, sizeof *w);
    *w = (weight){.made.values = make_values, .r = r,
                  .is = {.row = r->row, .out = out, .in = in,
                         .planar = r->planar}};
    for (int k = 0; p[k].name; k++) {
        w->part[k] = gm_tensor_find(all, gm_format(arena, "%s.%s", stem,
                                                   p[k].name));
        if (w->part[k] && !there) there = w->part[k]->name;
        names = gm_format(arena, "%s,%s", names, p[k].name);
    }
    if (!there ||
        (w->part[0] && w->part[0]->dtype <= GM_F64 && !w->part[1]))
        return false;
    check_parts(w, stem, there, dir);
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
        const bool empty = c->type == GM_JSON_NULL ||
            (strcmp(key, "transform_config") == 0 &&
             c->type == GM_JSON_OBJECT && !c->child);
        if (mode ? !gm_json_is(c, "affine")
            : gm_name_matches("input_activations,output_activations,"
                              "kv_cache_scheme,transform_config", key) &&
              !empty)
            gm_bad(path, "%s: expected %s, found %s", key,
                   mode ? "\"affine\"" : "null", gm_json_show(c).text);
        widths |= widths_in(path, c);
    }
    return widths;
}

/* Whether `key` is true (false) anywhere in it. */
static bool says(const gm_json *j, const char *key, bool what) {
    for (const gm_json *c = j->child; c; c = c->next)
        if ((c->key && strcmp(c->key, key) == 0 && c->type == GM_JSON_BOOL &&
             (c->number != 0) == what) || says(c, key, what))
            return true;
    return false;
}

/* By what it says of itself; row NULL: by nothing known here. */
static void read_form(const gm_json *how, reading *r) {
    const gm_json *method = gm_json_get(how, "quant_method");
    const gm_json *form = gm_json_get(how, "checkpoint_format");
    if (!form) form = gm_json_get(how, "format");
    r->index = says(how, "desc_act", true);
    r->zeros = says(how, "symmetric", false) && !says(how, "symmetric", true);
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
