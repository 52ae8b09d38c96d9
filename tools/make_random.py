# make_random.py: a randomly initialised model of given shapes, for measuring
# time, memory and disk: python tools/make_random.py CONFIG OUTDIR [--layers N]
#
# CONFIG is a config.json of a Llama, Qwen2 or Qwen3 model.  Writes OUTDIR:
# config.json with that many blocks, BF16 safetensors in shards of a block each
# with their index, tokens.npy of random ids.  Memory: one tensor in float32 and
# one shard.
# SPDX-License-Identifier: GPL-3.0-or-later
import argparse
import json
import os

import numpy
import torch
from safetensors.torch import save_file


def block_shapes(c):
    d, ff = c["hidden_size"], c["intermediate_size"]
    head = c.get("head_dim") or d // c["num_attention_heads"]
    q, kv = (n * head for n in (c["num_attention_heads"],
                                c["num_key_value_heads"]))
    kind = c["model_type"]
    shapes = {"input_layernorm.weight": [d],
              "post_attention_layernorm.weight": [d],
              "self_attn.q_proj.weight": [q, d],
              "self_attn.k_proj.weight": [kv, d],
              "self_attn.v_proj.weight": [kv, d],
              "self_attn.o_proj.weight": [d, q],
              "mlp.gate_proj.weight": [ff, d], "mlp.up_proj.weight": [ff, d],
              "mlp.down_proj.weight": [d, ff]}
    if kind == "qwen3":
        shapes["self_attn.q_norm.weight"] = [head]
        shapes["self_attn.k_norm.weight"] = [head]
    if kind == "qwen2":
        shapes |= {"self_attn.q_proj.bias": [q], "self_attn.k_proj.bias": [kv],
                   "self_attn.v_proj.bias": [kv]}
    return shapes


def shards(c):
    table = [c["vocab_size"], c["hidden_size"]]
    yield {"model.embed_tokens.weight": table}
    for layer in range(c["num_hidden_layers"]):
        yield {f"model.layers.{layer}.{name}": shape
               for name, shape in block_shapes(c).items()}
    last = {"model.norm.weight": [c["hidden_size"]]}
    if not c.get("tie_word_embeddings"):
        last["lm_head.weight"] = table
    yield last


def draw(shape, name, generator):
    if len(shape) == 1:
        return torch.zeros(shape) if name.endswith("bias") else \
            torch.ones(shape)
    return torch.randn(shape, generator=generator).mul_(0.02)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("config")
    p.add_argument("out")
    p.add_argument("--layers", type=int)
    p.add_argument("--tokens", type=int, default=4096)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    with open(a.config) as f:
        c = json.load(f)
    if a.layers:
        c["num_hidden_layers"] = a.layers
    c["max_window_layers"] = c["num_hidden_layers"]
    c.pop("layer_types", None)
    os.makedirs(a.out, exist_ok=True)
    with open(os.path.join(a.out, "config.json"), "w") as f:
        json.dump(c, f, indent=2)
    generator = torch.Generator().manual_seed(a.seed)
    every = list(shards(c))
    where, total = {}, 0
    for i, shard in enumerate(every):
        name = f"model-{i + 1:05d}-of-{len(every):05d}.safetensors"
        tensors = {n: draw(s, n, generator).to(torch.bfloat16)
                   for n, s in shard.items()}
        save_file(tensors, os.path.join(a.out, name), {"format": "pt"})
        where |= {n: name for n in shard}
        total += sum(2 * t.numel() for t in tensors.values())
    with open(os.path.join(a.out, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": where}, f)
    numpy.save(os.path.join(a.out, "tokens.npy"), numpy.random.default_rng(
        a.seed).integers(0, c["vocab_size"], a.tokens).astype(numpy.int32))


main()
