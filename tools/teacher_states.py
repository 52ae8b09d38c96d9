#!/usr/bin/env python3
# teacher_states.py: hidden states of a Hugging Face directory by transformers
# on the tokens of a dump.  Reads DIR and DUMP, writes OUT.
# SPDX-License-Identifier: GPL-3.0-or-later
"""What transformers computes where `gamma dump` wrote teacher.l.

    gamma dump DIR --calib TEXT --sequences 3 --length 256 --batch 3 \\
        --steps 1 --bits 2,3 --only 'tokens,teacher.*' --out DUMP
    teacher_states.py DIR DUMP OUT
    gamma verify DUMP OUT

float32, eager attention, one sequence at a time; every block's output comes
from a hook, since transformers norms the last of its hidden states.
"""
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel


@torch.inference_mode()
def main():
    directory, dump, out = sys.argv[1:]
    tokens = load_file(dump)["tokens"]
    model = AutoModel.from_pretrained(directory, dtype=torch.float32,
                                      attn_implementation="eager").eval()
    places = [model.embed_tokens, *model.layers]
    seen = [[] for _ in places]
    for rows, place in zip(seen, places):
        place.register_forward_hook(lambda _, args, h, rows=rows: rows.append(
            (h[0] if isinstance(h, tuple) else h).flatten(0, -2)))
    for sequence in tokens.long():
        model(sequence[None], use_cache=False)
    save_file({"tokens": tokens} | {
        f"teacher.{i}": torch.cat(rows) for i, rows in enumerate(seen)}, out)


if __name__ == "__main__":
    main()
