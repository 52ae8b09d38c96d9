/* formats.h: files of other tools, read and written: candidates that another
   tool made, quantized models.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_FORMATS_H
#define GM_FORMATS_H

#include "../gamma.h"

/* -------------------------------------------------------------- external.c
   Candidates that another tool made, dequantized, in one safetensors file:
   NAME.bK [out, in] of F32, F16, BF16 or F64, NAME = a weight's name without
   ".weight", K = code bits; metadata NAME.bK.bytes = its stored bytes. */

/* Reads and checks the whole file.  bits: which of its candidates to offer,
   NULL: all; 16 (32) there and not in the file: the weight as stored. */
void gm_external_open(gm_arena *arena, const gm_model *model,
                      const char *path, const char *bits, long group,
                      gm_recipe *out);

/* ---------------------------------------------------------------- export.c
   Writes quantized models. */

/* A Hugging Face directory like the model's own, the chosen modules replaced
   by their dequantized candidates, in the checkpoint's dtypes and shards.
   Loads in transformers unchanged.  `bytes`: of its weight files. */
void gm_export_dequantized(gm_arena *arena, const gm_model *model,
                           const gm_candidates *candidates, const int *choice,
                           const char *dir, const gm_report *report,
                           int64_t *bytes);

/* One safetensors file: for each module NAME.codes, NAME.scales, NAME.zeros
   (layout: gm_packed) or NAME.weight as stored; all other tensors as stored.
   Its size is gm_packed_overhead + sum_m s_mk exactly, for any assignment. */
void gm_export_packed(gm_arena *arena, const gm_model *model,
                      const gm_candidates *candidates, const int *choice,
                      const char *path, const gm_report *report);

/* File bytes beside the modules' s_mk: the header, padded to what the longest
   assignment needs, and all other tensors. */
int64_t gm_packed_overhead(gm_arena *arena, const gm_model *model,
                           const gm_recipe *recipe);

#endif
