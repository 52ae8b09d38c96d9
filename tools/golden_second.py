#!/usr/bin/env python3
"""Golden vectors of Stage I, soft-corrected, with its scores, and of KL around
an assignment, as anchors take it.

usage: python tools/golden_second.py OUT.vec NAME=DIR [NAME=DIR ...]

By tools/second.py in float64: ours, but written from the equations (no other
implementation of soft-corrected exists).  4 sequences of 24 tokens, batch 2, 3
steps, all of them averaged into the scores; the rest in the file's header.
X.distance: how far the same run in float32 is off, largest difference over the
largest value: what a float32 implementation may be off, times a margin.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import json
import pathlib
import sys
import tempfile

import numpy as np
import torch

import second

S, T, STEPS = 4, 24, 3
OPTIONS = ("--sequences 4 --length 24 --batch 2 --steps 3 --tail 1 --group 32 "
           "--bits 2,3,4 --train-bits 2.75 --tau 0.7 --seed 5")


def run(folder, tokens, kind):
    """What each step saw."""
    with tempfile.NamedTemporaryFile(suffix=".npy") as f:
        np.save(f, tokens.reshape(-1).astype(np.int32))
        f.flush()
        sys.argv = ["", folder, "--tokens", f.name, *OPTIONS.split()]
        o = second.arguments()
        model = second.Model(pathlib.Path(folder), kind)
        fit = second.Stage1(model, second.read_tokens(o), o, second.Dump([]))
        steps = [fit.step(second.Dump([])) for _ in range(STEPS)]
        o.score = "loss"
        losses = fit.scores()[0]
        around = second.Anchors(fit, 0, 0)
        around.spent, x = 0, [m % 3 for m in range(fit.M)]
        return steps + [(losses, around.kl(x), *around.expand(x, 5))]


def records(steps):
    *steps, (losses, kl, slope, curve) = steps
    first, last = steps[0], steps[-1]
    yield "E0", [first["E0"]]
    yield "separable", last["separable"]
    yield "g", first["g"]
    yield "v", first["v"]
    yield "E", [s["E"] for s in steps]
    yield "c", [s["c"] for s in steps]
    yield "lambda", [s["lambda_after"] for s in steps]
    yield "theta", torch.stack([s["theta_after"] for s in steps])
    yield "scores", losses
    yield "scaled", last["scores"]
    yield "scores_error", last["scores_error"]
    yield "kl", [kl]
    yield "slope", slope
    yield "curve", curve


def put(f, name, value, kind="f"):
    value = np.asarray(value)
    f.write(f"@ {name} {kind} {' '.join(map(str, value.shape))}\n")
    text = [f"{x:.17g}" if kind == "f" else str(x)
            for x in value.ravel().tolist()]
    for i in range(0, len(text), 6):
        f.write(" ".join(text[i:i + 6]) + "\n")


def main():
    path, models = sys.argv[1], sys.argv[2:]
    with open(path, "w", encoding="ascii") as f:
        f.write("# Stage I, soft-corrected, and scores: tools/golden_second.py "
                f"with torch {torch.__version__}\n# {OPTIONS}\n"
                "# alpha 0.1, rho 10, eta 0.02, rate 0.1; token i of S T: "
                "(7919 i + 31 i^2 + 13) mod vocab\n"
                "# E0, g, v of step 1; separable: of steps 1 and 2; E, c, lambda "
                "(after) [steps];\n# theta (after) [steps, M, K]; scores: loss; "
                "scaled: the same with --score scaled\n"
                "# kl, slope, curve: KL with module m at candidate m mod 3, and "
                "A, C around it, seed 5\n")
        for name, folder in (m.split("=", 1) for m in models):
            config = json.loads((pathlib.Path(folder) /
                                 "config.json").read_text())
            i = np.arange(S * T)
            tokens = ((i * 7919 + i * i * 31 + 13) %
                      config["vocab_size"]).reshape(S, T)
            put(f, f"{name}.tokens", tokens, "i")
            exact = records(run(folder, tokens, torch.float64))
            rounded = records(run(folder, tokens, torch.float32))
            for (key, a), (_, b) in zip(exact, rounded):
                a, b = np.asarray(a), np.asarray(b)
                put(f, f"{name}.{key}", a)
                put(f, f"{name}.{key}.distance",
                    [abs(a - b).max() / abs(a).max()])


main()
