/* formats.h: models and candidates as files: the candidates of a model, those
   that another tool made, quantized models.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_FORMATS_H
#define GM_FORMATS_H

#include "../gamma.h"

/* Module m: 7 block + linear. */
static inline long gm_modules(const gm_model *model) {
    return model->config.layers * GM_LINEARS;
}
static inline const gm_tensor *gm_module_weight(const gm_model *model, long m) {
    return gm_linear_tensor(model, m / GM_LINEARS, (int)(m % GM_LINEARS));
}

/* ------------------------------------------------------------ candidates.c */

static inline bool gm_is_bits(long b) {
    return (b >= 1 && b <= 8) || b == 16 || b == 32;
}
/* "2,3,4" and a group into a recipe of RTN; labels: "2,q4_0,q8_0" too, whose
   bits are 0, for the file says them; and its bits back. */
void gm_recipe_list(const char *bits, long group, bool labels, gm_recipe *out);
static inline void gm_recipe_parse(const char *bits, long group,
                                   gm_recipe *out) {
    gm_recipe_list(bits, group, false, out);
}
void gm_recipe_bits(const gm_recipe *recipe, char text[GM_RECIPE_TEXT]);
/* "rtn bits=2,3,4 group=128", "gptq bits=2,3 group=64 hessian=token", and back;
   then, where they are not the default, act-order, damping=0.02, scales=mse,
   symmetric, sequential, scale-type=bf16, bias, in this order. */
void gm_recipe_text(const gm_recipe *recipe, char text[GM_RECIPE_TEXT]);
void gm_recipe_read(const char *text, gm_recipe *out);

/* Symmetric candidates of 1 bit are refused. */
void gm_recipe_check(const gm_recipe *recipe);

/* out->hash, before anything is made; DIR/candidates-HASH.safetensors, made
   when not there, else checked against the SHA-256 in DIR/sha256-HASH.txt,
   which was written before it.  calibration: for GPTQ, may be NULL for RTN. */
void gm_candidates_name(gm_model *model, const gm_recipe *recipe,
                        const gm_sequences *calibration, gm_candidates *out);
void gm_candidates_open(gm_arena *arena, gm_model *model,
                        const gm_recipe *recipe,
                        const gm_sequences *calibration, const char *dir,
                        const gm_report *report, gm_candidates *out);
/* Opens the file of a known hash, which must be of this model and recipe, and
   checks it likewise. */
void gm_candidates_find(gm_arena *arena, gm_model *model,
                        const gm_recipe *recipe, const char *hash,
                        const char *dir, gm_candidates *out);
void gm_candidates_close(gm_candidates *candidates);

/* -------------------------------------------------------------- external.c
   Candidates that another tool made, dequantized, in one safetensors file:
   NAME.bK [out, in] of F32, F16, BF16 or F64, NAME = a weight's name without
   ".weight", K = code bits; metadata NAME.bK.bytes = its stored bytes.  Or
   NAME.LABEL with metadata LABEL.bits and NAME.LABEL.bytes; overhead_bytes. */

/* Reads and checks the whole file.  bits: which of its candidates to offer,
   NULL: all; 16 (32) there and not in the file: the weight as stored. */
void gm_external_open(gm_arena *arena, const gm_model *model,
                      const char *path, const char *bits, long group,
                      gm_recipe *out);
/* The same in an order that labels have no part in, where there are any: what
   learning rounds, it rounds alike whatever they are called. */
void gm_external_order(gm_arena *arena, const gm_candidates *candidates,
                       gm_candidates *out);

/* --------------------------------------------------------------- layouts.c
   How other runtimes store a quantized model: mlx, compressed-tensors, gptq. */

enum { GM_LAYOUT_PARTS = 4 };
typedef struct {
    const struct row *row;
    const gm_candidates *candidates;
    const int *choice;          /* [M]; NULL: the widest of all              */
    long M;
    int *bits;                  /* [M]; 0: the module stays as stored        */
    gm_dtype scale;
    bool planar, symmetric;     /* gptq_p; every zero is 2^(b-1)             */
    bool reordered;             /* gptq: a g_idx that is not in order        */
    double error[9];            /* of weights, in steps, by bits: what the
                                   type of scales and biases did; as written */
} gm_layout;
/* scale GM_OTHER: the layout's own.  What it cannot hold is refused, in the name
   of `option`, or, with keep_odd, stays as stored.  Of the candidates it reads
   model and recipe, so that none needs to be made before a refusal.  Another
   tool's must be codes in a directory of this layout: they are copied. */
void gm_layout_plan(gm_arena *arena, const char *option, const char *name,
                    const gm_candidates *candidates, const int *choice,
                    gm_dtype scale, bool keep_odd, gm_layout *out);
/* layout->symmetric, from all zeros of the chosen candidates. */
void gm_layout_zeros(gm_arena *arena, gm_layout *layout);
/* The tensors of module m, bits[m] > 0; how many.  Then one of them to a file. */
int gm_layout_parts(gm_arena *arena, const gm_layout *layout, long m,
                    gm_tensor out[GM_LAYOUT_PARTS]);
void gm_layout_write(gm_arena *arena, gm_layout *layout, long m,
                     const gm_tensor *what, gm_out *out);
/* The bytes of the tensor STEM.name of a weight q. */
void gm_layout_fill(gm_arena *arena, gm_layout *layout, const char *name,
                    const gm_packed *q, uint8_t *data);
const struct row *gm_layout_row(const char *name);      /* NULL: none */
const char *gm_layout_mode(const gm_layout *layout);    /* metadata "format" */
/* text: of the model's config.json. */
void gm_layout_config(gm_arena *arena, const gm_layout *layout,
                      const char *text, gm_out *out);

/* The names in order, NULL behind the last; a layout with the most bits of the
   candidates everywhere, of other tools' with the longest of each part. */
const char *gm_layout_name(int i);
void gm_layout_widest(gm_arena *arena, const struct row *row,
                      const gm_candidates *candidates, int bits, gm_dtype scale,
                      gm_layout *out);
/* Scores' sizes become a layout's: text "mlx F16", or "mlx" with the type of
   scales that their key overhead.mlx says; that becomes their key `sizes`.
   Candidates that it cannot hold are none any more.  Whether a key says so; of
   others (NULL, "codes") nothing is done. */
void gm_layout_sizes(gm_arena *arena, const char *text, gm_scores *scores);
bool gm_layout_sized(const char *text);
/* The type in such a text, if it is of the layout NAME, else GM_OTHER; and what
   a layout has unless told. */
gm_dtype gm_layout_scale(const char *text, const char *name);
gm_dtype gm_layout_own(const struct row *row, const gm_model *model);
/* What a layout does to scales and biases: for a gm_recipe, whose candidates
   then have the values that the layout gives them. */
gm_scales gm_layout_rounding(const gm_layout *layout);

/* A model as it is, or in one of these layouts: its weights are made of their
   codes when they are read.  Other quantized ones are refused. */
void gm_layout_open(gm_arena *arena, const char *dir, gm_model *out);

/* ---------------------------------------------------------------- export.c
   Writes quantized models; the bytes of the weight files written. */

/* The names of the files that it may write, as patterns joined by commas. */
const char *gm_export_names(gm_arena *arena, const gm_model *model);
/* A directory like the model's own.  layout NULL: the chosen modules replaced
   by their dequantized candidates, in the checkpoint's dtypes and shards; loads
   in transformers unchanged.  Else as the layout says, bits as planned.
   Of an older model there, config.json goes first and comes last; what only
   that had goes too.  gm_export_check refuses a directory with files that are
   not of a model that was written so: DIR/gamma.sha256 tells. */
void gm_export_check(gm_arena *arena, const char *dir);
int64_t gm_export_directory(gm_arena *arena, const gm_candidates *candidates,
                            const int *choice, gm_layout *layout,
                            const char *dir, const gm_report *report);
static inline int64_t gm_export_dequantized(
    gm_arena *arena, const gm_candidates *candidates, const int *choice,
    const char *dir, const gm_report *report) {
    return gm_export_directory(arena, candidates, choice, NULL, dir, report);
}

/* One safetensors file: for each module NAME.codes, NAME.scales, NAME.zeros
   (layout: gm_packed) or NAME.weight as stored; all other tensors as stored.
   Its size is gm_packed_overhead + sum_m s_mk exactly, for any assignment. */
int64_t gm_export_packed(gm_arena *arena, const gm_candidates *candidates,
                         const int *choice, const char *path,
                         const gm_report *report);

/* File bytes beside the modules' s_mk: the header, padded to what the longest
   assignment needs, and all other tensors. */
int64_t gm_packed_overhead(gm_arena *arena, const gm_model *model,
                           const gm_recipe *recipe);
/* The same of a layout's weight files, whatever is chosen. */
int64_t gm_layout_overhead(gm_arena *arena, const gm_candidates *candidates,
                           const struct row *row);
/* And of each layout, as keys "overhead.mlx", "BYTES
   TYPE" with the type of its scales; none where no layout can hold them. */
void gm_layout_overheads(gm_arena *arena, const gm_candidates *candidates,
                         gm_keys *keys);

#endif
