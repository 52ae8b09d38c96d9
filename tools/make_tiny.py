#!/usr/bin/env python3
# make_tiny.py: the tiny trained checkpoints of data/ and their texts.  Reads
# one public-domain text, writes the directories it is given; no network.
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tiny trained checkpoints of data/, from one public-domain text.

    make_tiny.py text BIBLE.txt TRAIN.txt DATA
        DATA/calib.txt, DATA/test.txt and TRAIN.txt: disjoint chapters
    make_tiny.py train NAME TRAIN.txt DATA [--steps N]
        DATA/NAME: tokenizer, training, saved by transformers
    make_tiny.py table DATA
        perplexity of every model at 16, 4, 3, 2 bits (RTN), as Markdown
    make_tiny.py modules NAME DATA
        what 2 bits (RTN, group 64) in one module alone cost, for every module

BIBLE.txt is what the Debian package bible-kjv prints:
    bible -f gen1:1-rev22:21 > BIBLE.txt
(31,102 lines, 4,404,412 bytes).  One line a verse: reference, space, text.
"""
import argparse
import json
import math
import os
import time

import tokenizers
import torch
import transformers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from rtn import LINEARS, rtn

WINDOW = 256
BATCH = 8
CHAPTERS = 48       # one chapter in so many goes to calibration, one to test
TEST, CALIB = 11, 35

# How the families cut text before BPE (from their published tokenizer.json).
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

# Shapes differ in what can go wrong: multiples of 64 and not, tied and untied
# heads, head_dim given by d / heads and not, all three float types, one file
# and shards, both spellings of the RoPE base.
MODELS = {
    "tiny-llama": dict(
        seed=1, steps=2500, vocab=768,
        regex=LLAMA3, nfc=False, dtype="bfloat16",
        end="<|end_of_text|>", shards=1, old_spelling=False,
        config=transformers.LlamaConfig, model=transformers.LlamaForCausalLM,
        options=dict(hidden_size=128, intermediate_size=256,
                     num_hidden_layers=8, num_attention_heads=4,
                     num_key_value_heads=2, rms_norm_eps=1e-5,
                     rope_theta=10000.0, tie_word_embeddings=False)),
    "tiny-qwen2": dict(
        seed=2, steps=2500, vocab=1024,
        regex=QWEN2, nfc=True, dtype="float16",
        end="<|endoftext|>", shards=3, old_spelling=True,
        config=transformers.Qwen2Config, model=transformers.Qwen2ForCausalLM,
        options=dict(hidden_size=96, intermediate_size=216,
                     num_hidden_layers=8, num_attention_heads=6,
                     num_key_value_heads=2, rms_norm_eps=1e-6,
                     rope_theta=1000000.0, tie_word_embeddings=True,
                     use_sliding_window=False)),
    "tiny-qwen3": dict(
        seed=3, steps=1800, vocab=512,
        regex=QWEN2, nfc=True, dtype="float32",
        end="<|endoftext|>", shards=1, old_spelling=False,
        config=transformers.Qwen3Config, model=transformers.Qwen3ForCausalLM,
        options=dict(hidden_size=96, intermediate_size=240,
                     num_hidden_layers=6, num_attention_heads=4,
                     num_key_value_heads=2, head_dim=32, rms_norm_eps=1e-6,
                     rope_theta=1000000.0, tie_word_embeddings=True,
                     use_sliding_window=False)),
}


def chapters(path):
    """Texts of all chapters, in order: one line a verse, no references."""
    result, name = [], None
    with open(path, encoding="ascii") as f:
        for line in f:
            reference, verse = line.rstrip("\n").split(" ", 1)
            chapter = reference.split(":")[0]
            if chapter != name:
                result.append([])
            name = chapter
            result[-1].append(verse)
    return ["\n".join(verses) + "\n" for verses in result]


def make_text(args):
    """Every 48th chapter to test, another 48th to calibration."""
    parts = {"train": [], "calib": [], "test": []}
    for i, chapter in enumerate(chapters(args.bible)):
        part = {TEST: "test", CALIB: "calib"}.get(i % CHAPTERS, "train")
        parts[part].append(chapter)
    for part, path in [("train", args.train),
                       ("calib", os.path.join(args.data, "calib.txt")),
                       ("test", os.path.join(args.data, "test.txt"))]:
        text = "\n".join(parts[part])
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
        print(f"{path}: {len(parts[part])} chapters, {len(text)} bytes")


def make_tokenizer(spec, path):
    """Byte-level BPE trained on the file, cut as the family cuts text."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    if spec["nfc"]:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(spec["regex"]), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=spec["vocab"] - 1, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train([path], trainer)
    tokenizer.add_special_tokens([spec["end"]])     # the last id, as published
    assert tokenizer.get_vocab_size() == spec["vocab"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=spec["end"],
        pad_token=spec["end"], clean_up_tokenization_spaces=False,
        model_max_length=2 * WINDOW)


def encode(tokenizer, path):
    """Token ids of a file, without special tokens."""
    with open(path, encoding="utf-8", newline="") as f:
        encoding = tokenizer.backend_tokenizer.encode(
            f.read(), add_special_tokens=False)
    return torch.tensor(encoding.ids)


@torch.inference_mode()
def perplexity(model, ids):
    """Non-overlapping windows; tokens 1 .. WINDOW-1 of each are predicted."""
    windows = ids[:len(ids) // WINDOW * WINDOW].view(-1, WINDOW)
    nll = 0.0
    for w in windows.split(8):
        logp = model(w).logits[:, :-1].double().log_softmax(-1)
        nll -= logp.gather(2, w[:, 1:, None]).sum().item()
    return math.exp(nll / (windows.numel() - len(windows)))


def make_optimizer(model, rate):
    """AdamW; weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    return torch.optim.AdamW(
        [dict(params=matrices, weight_decay=0.1),
         dict(params=vectors, weight_decay=0.0)],
        lr=rate, betas=(0.9, 0.95))


def train(model, ids, args):
    """Random windows of one long text; linear warm-up, cosine decay."""
    optimizer = make_optimizer(model, args.rate)
    warm = 100
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(
        (i + 1) / warm, 0.02 + 0.98 * 0.5 * (1 + math.cos(
            math.pi * max(0, i - warm) / max(1, args.steps - warm)))))
    order = torch.Generator().manual_seed(args.seed)
    model.train()
    begin, average = time.monotonic(), None
    for step in range(args.steps):
        first = torch.randint(len(ids) - WINDOW, (BATCH,), generator=order)
        batch = torch.stack([ids[i:i + WINDOW] for i in first])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        average = value if average is None else .98 * average + .02 * value
        if step % 100 == 99:
            print(f"step {step + 1}/{args.steps} loss {average:.4f} "
                  f"{time.monotonic() - begin:.0f} s", flush=True)
    model.eval()


def old_spelling(folder):
    """Rewrites config.json as transformers 4 wrote it: most downloads are."""
    path = os.path.join(folder, "config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    rope = config.pop("rope_parameters")
    assert rope["rope_type"] == "default"
    config["rope_theta"] = rope["rope_theta"]
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(dict(sorted(config.items())), f, indent=2)
        f.write("\n")


def save(model, tokenizer, spec, folder):
    """The checkpoint in its float type, as transformers writes it."""
    model = model.to(getattr(torch, spec["dtype"]))
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    shard = size // spec["shards"] + 1 if spec["shards"] > 1 else 2 * size
    model.save_pretrained(folder, max_shard_size=shard)
    tokenizer.save_pretrained(folder)
    if spec["old_spelling"]:
        old_spelling(folder)


def make_model(args):
    spec = MODELS[args.name]
    folder = os.path.join(args.data, args.name)
    torch.manual_seed(spec["seed"])
    args.seed = spec["seed"]
    args.steps = args.steps or spec["steps"]
    tokenizer = make_tokenizer(spec, args.train)
    end = spec["vocab"] - 1
    config = spec["config"](
        vocab_size=spec["vocab"], max_position_embeddings=2 * WINDOW,
        initializer_range=0.05, bos_token_id=None, eos_token_id=end,
        pad_token_id=None, attn_implementation="eager", **spec["options"])
    model = spec["model"](config)
    ids = encode(tokenizer, args.train)
    print(f"{args.name}: {sum(p.numel() for p in model.parameters())} "
          f"parameters, {len(ids)} tokens, {args.steps} steps of "
          f"{BATCH} x {WINDOW}, torch {torch.__version__}", flush=True)
    train(model, ids, args)
    save(model, tokenizer, spec, folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32).eval()
    for name in ("test.txt", "calib.txt"):
        path = os.path.join(args.data, name)
        print(f"{name}: {perplexity(model, encode(tokenizer, path)):.3f}")


def quantize(model, bits, group):
    """All seven linears of every block replaced by their RTN candidate."""
    with torch.no_grad():
        for block in model.model.layers:
            for name in LINEARS:
                weight = block.get_submodule(name).weight
                weight.copy_(rtn(weight, bits, group))


def table(args):
    """Markdown: perplexity on test.txt for 16, 4, 3, 2 bits."""
    names = [n for n in MODELS if os.path.isdir(os.path.join(args.data, n))]
    print("| model | group | 16 bits | 4 bits | 3 bits | 2 bits |")
    print("|---|---|---|---|---|---|")
    for name in names:
        folder = os.path.join(args.data, name)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        ids = encode(tokenizer, os.path.join(args.data, "test.txt"))
        for group in (64, 32):
            cells = []
            for bits in (16, 4, 3, 2):
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    folder, dtype=torch.float32).eval()
                quantize(model, bits, group)
                cells.append(f"{perplexity(model, ids):.3f}")
            print(f"| {name} | {group} | " + " | ".join(cells) + " |")


def modules(args):
    """Milli-nats per token of calib.txt, first 12 windows, by module."""
    folder = os.path.join(args.data, args.name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = encode(tokenizer, os.path.join(args.data, "calib.txt"))
    ids = ids[:12 * WINDOW]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32).eval()
    whole = math.log(perplexity(model, ids))
    print("block\t" + "\t".join(n.split(".")[1] for n in LINEARS))
    for l, block in enumerate(model.model.layers):
        row = []
        for name in LINEARS:
            weight = block.get_submodule(name).weight
            keep = weight.detach().clone()
            weight.data = rtn(weight, 2, 64)
            row.append(1000 * (math.log(perplexity(model, ids)) - whole))
            weight.data = keep
        print(f"{l}\t" + "\t".join(f"{x:.1f}" for x in row), flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser("text")
    p.add_argument("bible")
    p.add_argument("train")
    p.add_argument("data")
    p.set_defaults(call=make_text)
    p = commands.add_parser("train")
    p.add_argument("name", choices=list(MODELS))
    p.add_argument("train")
    p.add_argument("data")
    p.add_argument("--steps", type=int)
    p.add_argument("--rate", type=float, default=3e-3)
    p.add_argument("--threads", type=int, default=2)
    p.set_defaults(call=make_model)
    p = commands.add_parser("table")
    p.add_argument("data")
    p.add_argument("--threads", type=int, default=2)
    p.set_defaults(call=table)
    p = commands.add_parser("modules")
    p.add_argument("name", choices=list(MODELS))
    p.add_argument("data")
    p.add_argument("--threads", type=int, default=2)
    p.set_defaults(call=modules)
    args = parser.parse_args()
    torch.set_num_threads(getattr(args, "threads", 1))
    args.call(args)


if __name__ == "__main__":
    main()
