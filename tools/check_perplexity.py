#!/usr/bin/env python3
# check_perplexity.py: perplexity of a Hugging Face directory by transformers,
# with the protocol of `gamma eval`, so that both can be compared digit by
# digit.  Reads directories and a text; writes only --tokens-out.
# SPDX-License-Identifier: GPL-3.0-or-later
"""Perplexity of one or more Hugging Face directories on one text.

    check_perplexity.py TEXT DIR [DIR ...] [--window 1024] [--windows 8]

Protocol: the whole file is tokenized at once with add_special_tokens=False
(no BOS), cut into non-overlapping windows of `window` tokens (an incomplete
last one is dropped), and in each window tokens 1 .. window-1 are predicted
from the tokens before them.  NLL is summed in double;
perplexity = exp(sum / number of predicted tokens).

With two directories or more the first is the reference: the mean KL
divergence KL(first || other), the share of equal top-1 tokens and the ratio of
perplexities are printed too.  --expect P makes the exit status say whether the
LAST directory's perplexity rounds to P in 4 significant decimals after the
point (|difference| <= 5e-5 * P, that is 4 digits).
"""
import argparse
import math
import sys

import numpy as np
import torch
import transformers


def tokens_of(args, tokenizer_dir):
    """All tokens of the text, int64."""
    if args.text.endswith(".npy"):
        return torch.from_numpy(np.load(args.text).astype(np.int64))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_dir)
    with open(args.text, encoding="utf-8", newline="") as f:
        text = f.read()
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    return torch.tensor(ids.ids)


def load(directory, dtype):
    """The model as transformers loads it, computing in `dtype` on the CPU."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation="eager")
    return model.eval()


@torch.inference_mode()
def log_probabilities(model, window):
    """[window-1, vocab] log p(next token), float64 from the logits on."""
    return model(window[None]).logits[0, :-1].double().log_softmax(-1)


def evaluate(directory, reference, windows, dtype):
    """Sums over all predicted tokens: nll, KL(reference || model), top-1."""
    model = load(directory, dtype)
    nll = kl = same = 0.0
    for w in windows:
        q = log_probabilities(model, w)
        nll -= q.gather(1, w[1:, None]).sum().item()
        if reference is not None:
            p = log_probabilities(reference, w)
            kl += (p.exp() * (p - q)).sum().item()
            same += (p.argmax(1) == q.argmax(1)).sum().item()
    return model, nll, kl, same


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", help="UTF-8 text, or int32 tokens .npy")
    parser.add_argument("dirs", nargs="+", metavar="DIR")
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--windows", type=int, default=8, help="0 = all")
    parser.add_argument("--dtype", default="float32",
                        choices=["float32", "float64", "bfloat16"])
    parser.add_argument("--expect", type=float)
    parser.add_argument("--tokens-out", metavar="FILE.npy",
                        help="write the tokens of the text, int32")
    args = parser.parse_args()

    ids = tokens_of(args, args.dirs[0])
    if args.tokens_out:
        np.save(args.tokens_out, ids.numpy().astype(np.int32))
    count = len(ids) // args.window
    count = min(count, args.windows) if args.windows else count
    if count == 0:
        sys.exit(f"{args.text}: {len(ids)} tokens, fewer than one window")
    windows = ids[:count * args.window].view(count, args.window)
    predicted = count * (args.window - 1)
    print(f"# tokens {len(ids)}, {count} windows of {args.window}, "
          f"{predicted} predicted; torch {torch.__version__}, "
          f"transformers {transformers.__version__}, {args.dtype}")
    print("directory\tperplexity\tnll\tratio\tkl\ttop1")
    reference, first = None, None
    for directory in args.dirs:
        model, nll, kl, same = evaluate(directory, reference, windows,
                                        getattr(torch, args.dtype))
        ppl = math.exp(nll / predicted)
        first = first or ppl
        print(f"{directory}\t{ppl:.6f}\t{nll / predicted:.8f}\t"
              f"{ppl / first:.6f}\t{kl / predicted:.6f}\t"
              f"{same / predicted if reference is not None else 1:.4f}",
              flush=True)
        if reference is None and len(args.dirs) > 1:
            reference = model
    if args.expect is not None:
        agree = abs(ppl - args.expect) <= 5e-5 * ppl
        print("agrees" if agree else "DIFFERS", "with", args.expect)
        sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
