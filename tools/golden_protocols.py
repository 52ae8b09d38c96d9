#!/usr/bin/env python3
# golden_protocols.py: perplexity of a text by the protocols of `gamma eval`,
# each by its own tool or, where that is no Python, by its formula over the
# logits of transformers.  Writes standard output alone.
# SPDX-License-Identifier: GPL-3.0-or-later
"""Perplexity by the protocols of published tables, as TSV.

    golden_protocols.py TEXT MODEL [--window T] [--windows N] [--bos TOKEN]
    golden_protocols.py --golden > tests/golden/protocols.tsv

gptq       the loop of the GPTQ papers' scripts: what tokenizer(text) gives in
           windows of 2,048, transformers' own mean loss of each, all the same
llama.cpp  tools/perplexity/perplexity.cpp (commit 050fc7f3): windows of 512,
           each first token replaced by BOS where the tokenizer adds one, the
           logits at 256 .. 510 scored
stride     transformers' guide to the perplexity of fixed-length models: stride
           512, labels that overlap set to -100, each loss weighted by the
           labels that are left, less one
harness    lm_eval's HFLM.loglikelihood_rolling; words and bytes as its task
           wikitext counts them

--bos TOKEN: in a copy of MODEL whose tokenizer puts that before every text.
--golden: the rows of tests/test_protocol.sh.  Made with torch 2.15,
transformers 5.24, lm_eval 0.4.13.
"""
import argparse
import json
import math
import pathlib
import re
import shutil
import sys
import tempfile

import torch
import transformers

COLUMNS = ("protocol", "perplexity", "windows", "window", "predicted",
           "word_perplexity", "byte_perplexity", "bits_per_byte")


def with_bos(model, token, out):
    """A copy whose tokenizer.json puts `token` before every text."""
    shutil.copytree(model, out, dirs_exist_ok=True)
    path = out / "tokenizer.json"
    t = json.loads(path.read_text(encoding="utf-8"))
    ids = t["model"]["vocab"] | {a["content"]: a["id"]
                                 for a in t["added_tokens"]}
    t["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                 {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [ids[token]],
                                   "tokens": [token]}}}
    path.write_text(json.dumps(t), encoding="utf-8")
    path = out / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"bos_token": token}))
    return out


def ids_of(tokenizer, text):
    """tokenizer(text), with what it adds."""
    return torch.tensor(tokenizer.backend_tokenizer.encode(text).ids)


def gptq(model, tokenizer, text, T, most):
    x, T = ids_of(tokenizer, text), T or min(2048, longest(model))
    n = min(len(x) // T, most or len(x))
    nll = sum(T * model(w[None], labels=w[None]).loss.item()
              for w in x[:n * T].view(n, T))
    return math.exp(nll / (n * T)), n, T, n * (T - 1)


def llama_cpp(model, tokenizer, text, T, most):
    x, T = ids_of(tokenizer, text), T or min(512, longest(model))
    n, first = min(len(x) // T, most or len(x)), T // 2
    bos = tokenizer.bos_token_id
    adds_bos = ids_of(tokenizer, "a")[0].item() == bos
    nll = count = 0
    for i in range(n):
        chunk = x[i * T:(i + 1) * T].clone()
        if adds_bos:
            chunk[0] = bos
        logp = model(chunk[None]).logits[0].log_softmax(-1)
        for j in range(first, T - 1):
            nll -= logp[j, x[i * T + j + 1]].item()
            count += 1
    return math.exp(nll / count), n, T, count


def stride(model, tokenizer, text, T, most):
    x, T = ids_of(tokenizer, text), T or longest(model)
    T = min(T, len(x))
    nll = count = windows = end = predicted = 0
    for begin in range(0, len(x), min(512, T)):
        before, end = end, min(begin + T, len(x))
        labels = x[begin:end].clone()
        labels[:before - begin] = -100
        loss = model(x[None, begin:end], labels=labels[None]).loss.item()
        left = (labels != -100).sum().item() - 1
        nll, count, windows = nll + loss * left, count + left, windows + 1
        predicted += end - max(before, begin + 1)
        if end == len(x) or windows == most:
            break
    return math.exp(nll / count), windows, T, predicted


def harness(model, tokenizer, text, T, most):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from lm_eval.utils import get_rolling_token_windows
    del most                                    # a whole document
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1,
              max_length=T or longest(model))
    (ll,) = lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {},
                                               (text,), 0)])
    tokens = lm.tok_encode(text)
    windows = len(list(get_rolling_token_windows(
        tokens, lm.prefix_token_id, lm.max_length, 1)))
    words = len(re.split(r"\s+", text))
    size = len(text.encode("utf-8"))
    return (math.exp(-ll / len(tokens)), windows,
            min(lm.max_length, len(tokens)), len(tokens),
            math.exp(-ll / words), math.exp(-ll / size),
            -ll / size / math.log(2))


def longest(model):
    return model.config.max_position_embeddings


@torch.inference_mode()
def rows(text, directory, T, most, names):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float64, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    of = {"gptq": gptq, "llama.cpp": llama_cpp, "stride": stride,
          "harness": harness}
    for name in names or of:
        found = of[name](model, tokenizer, text, T, most)
        yield (name, *(f"{x:.9g}" for x in found), *["-"] * (7 - len(found)))


GOLDEN = (      # model, bos, protocol, --window, --windows
    ("tiny-llama", "-", "gptq", 0, 0), ("tiny-llama", "-", "llama.cpp", 64, 9),
    ("tiny-llama", "-", "stride", 700, 0), ("tiny-llama", "-", "harness", 0, 0),
    ("tiny-llama", "~", "gptq", 100, 0), ("tiny-llama", "~", "llama.cpp", 0, 0),
    ("tiny-llama", "~", "llama.cpp", 65, 3), ("tiny-llama", "~", "stride", 96, 0),
    ("tiny-llama", "~", "harness", 77, 0),
    ("tiny-qwen2", "-", "llama.cpp", 0, 0), ("tiny-qwen2", "~", "harness", 0, 0),
    ("tiny-qwen2", "-", "stride", 600, 3), ("tiny-qwen3", "-", "harness", 100, 0),
    ("tiny-qwen3", "-", "stride", 9999, 0), ("tiny-qwen3", "~", "gptq", 64, 5))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", nargs="?")
    parser.add_argument("model", nargs="?", type=pathlib.Path)
    parser.add_argument("--window", type=int, default=0)
    parser.add_argument("--windows", type=int, default=0)
    parser.add_argument("--bos", default="-")
    parser.add_argument("--golden", action="store_true")
    args = parser.parse_args()
    top = pathlib.Path(__file__).resolve().parent.parent
    cases = GOLDEN if args.golden else (
        (args.model, args.bos, None, args.window, args.windows),)
    if args.golden:
        args.text = top / "tests/golden/protocols.txt"
    text = pathlib.Path(args.text).read_bytes().decode("utf-8")
    print("# by tools/golden_protocols.py: torch", torch.__version__,
          "transformers", transformers.__version__)
    print("model", "bos", "asked_window", "asked_windows", *COLUMNS, sep="\t")
    for model, bos, name, T, most in cases:
        path = top / "data" / model if args.golden else model
        with tempfile.TemporaryDirectory() as to:
            if bos != "-":
                path = with_bos(path, bos, pathlib.Path(to))
            for row in rows(text, path, T, most, name and [name]):
                print(pathlib.Path(model).name, bos, T, most, *row, sep="\t",
                      flush=True)


if __name__ == "__main__":
    sys.exit(main())
