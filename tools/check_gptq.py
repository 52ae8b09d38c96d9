"""GPTQ candidates of real layers against torch in float64, column by column.

usage: python tools/check_gptq.py MODEL TOKENS.npy CANDIDATES.safetensors
           --module model.layers.10.mlp.down_proj [--module ...]
           [--sequences 16] [--length 512]

Runs transformers' float32 model on the calibration sequences (sequence i starts
at floor(i count / S), as gm_calibration has it), gathers the inputs of the
named modules into H = (2/tokens) sum_t w_t^2 x_t x_t^T in float64 and rounds
each weight as Frantar et al. 2022 do: U = chol_upper(H^-1), column by column
or by falling H_jj, one weight update a column.  The file's recipe says bits,
group, order, damping, scales (minmax or mse) and the weights w_t.  Sequential
recipes are not handled: their inputs are another model's.

Where the file has another code than torch, w / scale must lie near the boundary
between the two (a tie, which float32 activations and updates may break either
way); torch then goes on with the file's code, so that every column is compared
on its own.  The same for grids.  Prints ties, the farthest of them in units of
the scale, and whatever is no tie; exits with 1 if anything is farther than
--near.  Shares no code with quant.c.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import sys
import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM


def recipe_of(metadata):
    words = metadata["recipe"].split()
    pairs = dict(w.split("=") for w in words if "=" in w)
    return {"bits": [int(b) for b in pairs["bits"].split(",") if int(b) < 16],
            "group": int(pairs["group"]), "hessian": pairs["hessian"],
            "damping": float(pairs.get("damping", 0.01)),
            "mse": pairs.get("scales") == "mse",
            "act_order": "act-order" in words, "words": words}


def unpack(stream, n, bits):
    """Rows of bytes into n codes each, least significant bit first."""
    every = np.unpackbits(stream, axis=1, bitorder="little")[:, :n * bits]
    weight = 1 << np.arange(bits)
    return torch.tensor((every.reshape(len(stream), n, bits) * weight).sum(2),
                        dtype=torch.float64)


def grids(part, top, shrink):
    """Scale and zero of each row of part, its range times shrink: the fp16
    nearest to the step, the next above where that is half a step short."""
    lo = part.amin(1).clamp(max=0) * shrink
    hi = part.amax(1).clamp(min=0) * shrink
    step = (hi - lo) / top
    scale = step.clamp(max=65504).half()
    short = (step - scale > step / (2 * top + 1)) & (scale < 65504)
    scale = (scale.view(torch.int16) + short).view(torch.half).double()
    scale = torch.where(step == 0, torch.ones_like(scale), scale)
    wide = torch.where(step > 65504, step, scale)
    return scale, torch.round(-lo / wide).clamp(0, top)


def error_of(part, grid, top):
    scale, zero = (g[:, None] for g in grid)
    q = (torch.round(part / scale) + zero).clamp(0, top) - zero
    return (part - q * scale).square().sum(1)


def grid_ties(part, top, mse, found):
    """Rows whose grid in the file is not torch's, and how far it is from
    being as good (mse) or as wide (minmax): relative."""
    if not mse:
        scale, zero = grids(part, top, 1)
        off = (found[0] / scale - 1).abs()
        return (off > 0) | (zero != found[1]), off
    best = torch.stack([error_of(part, grids(part, top, r / 100), top)
                        for r in range(100, 20, -1)]).amin(0)
    off = error_of(part, found, top) / best.clamp(min=1e-300) - 1
    return off.abs() > 1e-12, off.abs()


def compare(w, H, r, bits, codes, scales, zeros):
    """Ties and farthest distance of codes and of grids."""
    w, n, group, top = w.clone(), w.shape[1], r["group"], 2**bits - 1
    order = (torch.argsort(H.diag(), descending=True, stable=True)
             if r["act_order"] else torch.arange(n))
    dead = H.diag() == 0
    w[:, dead] = 0
    damp = r["damping"] * H.diag()[~dead].mean()
    H = H + torch.diag(torch.where(dead, 1.0, damp))
    U = torch.linalg.cholesky(torch.linalg.inv(H[order][:, order]), upper=True)
    ties = grids_differ = 0
    far = grid_far = 0.0

    def check_grid(g):
        nonlocal grids_differ, grid_far
        differ, off = grid_ties(w[:, g * group:(g + 1) * group], top, r["mse"],
                                (scales[:, g], zeros[:, g]))
        grids_differ += int(differ.sum())
        grid_far = max(grid_far, float(off[differ].max()) if differ.any() else 0)

    for g in range(scales.shape[1] if r["act_order"] else 0):
        check_grid(g)
    for c in range(n):
        j = int(order[c])
        g = j // group
        if not r["act_order"] and j % group == 0:
            check_grid(g)
        scale, zero = scales[:, g], zeros[:, g]
        x = w[:, j] / scale
        code = (torch.round(x) + zero).clamp(0, top)
        differ = code != codes[:, j]
        if differ.any():
            boundary = (code + codes[:, j]) / 2 - zero
            ties += int(differ.sum())
            far = max(far, float((x - boundary)[differ].abs().max()))
        e = (w[:, j] - (codes[:, j] - zero) * scale) / U[c, c]
        w[:, order[c:]] -= e[:, None] * U[c, c:]
    return ties, far, grids_differ, grid_far


def hessians(model, tokens, names, r):
    """H of each module's inputs; 4 sequences at a time."""
    H = {}

    def hook(name):
        def gather(module, inputs, output):
            x = inputs[0].double()
            weight = torch.ones(x.shape[:2], dtype=torch.float64)
            if r["hessian"] != "plain":
                weight[:, 0] = 4
                if r["hessian"] == "attention" and name[-6:] in (
                        "q_proj", "k_proj", "v_proj"):
                    sys.exit("check_gptq: hessian=attention: name modules "
                             "other than q, k, v")
                weight /= x.norm(dim=2)
            x = (x * weight[:, :, None]).flatten(0, 1)
            H[name] = H.get(name, 0) + 2 / tokens.numel() * x.T @ x
        return gather

    hooks = [model.get_submodule(n).register_forward_hook(hook(n))
             for n in names]
    with torch.no_grad():
        for i in range(0, len(tokens), 4):
            model.model(tokens[i:i + 4])
    for h in hooks:
        h.remove()
    return H


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model"), p.add_argument("tokens")
    p.add_argument("candidates")
    p.add_argument("--module", action="append", required=True)
    p.add_argument("--sequences", type=int, default=16)
    p.add_argument("--length", type=int, default=512)
    p.add_argument("--near", type=float, default=1e-2)
    a = p.parse_args()
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    text, S, T = np.load(a.tokens), a.sequences, a.length
    tokens = torch.tensor(np.stack(
        [text[i * len(text) // S:][:T] for i in range(S)]).astype(np.int64))
    bad = 0
    print("module\tbits\tcodes\tties\tfarthest\tgrids\tgrid_ties\tfarthest")
    with safe_open(a.candidates, "np") as f:
        r = recipe_of(f.metadata())
        if "sequential" in r["words"]:
            sys.exit("check_gptq: a sequential recipe is not handled")
        H = hessians(model, tokens, a.module, r)
        for name in a.module:
            w = model.get_submodule(name).weight.detach().double()
            groups = -(-w.shape[1] // r["group"])
            for bits in r["bits"]:
                part = [f.get_tensor(f"{name}.b{bits}.{what}")
                        for what in ("codes", "scales", "zeros")]
                ties, far, grid, grid_far = compare(
                    w, H[name], r, bits, unpack(part[0], w.shape[1], bits),
                    torch.tensor(part[1].astype(np.float64)),
                    unpack(part[2], groups, bits))
                print(f"{name}\t{bits}\t{w.numel()}\t{ties}\t{far:.2g}\t"
                      f"{groups * len(w)}\t{grid}\t{grid_far:.2g}", flush=True)
                bad |= far > a.near or grid_far > a.near
    sys.exit(int(bad))


main()
