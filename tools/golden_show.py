"""Golden rows for `gamma show`: torch in float64.

usage: python tools/golden_show.py tests/golden/show.tsv      (repository's root)

For each call in CALLS the row that it prints, as tests/test_show.sh compares it.
Hidden states by tools/second.py's forward pass, H by its definition; then by
optimal brain surgeon, without any Cholesky factor: with P the inverse of
H + 0.01 mean(diag H) 1, for each column j in order
    e' = w_j - q_j;   w_t -= e' P_jt / P_jj;   next: what w_(j+1) got
    P -= P_.j P_j. / P_jj                       (column j leaves the problem)
Grids: lo = min(0, w), hi = max(0, w), symmetric hi = -lo = max |w| with zero
2^(b-1); of mse r lo, r hi with the r of 1, 0.99 .. 0.21 of least squared error;
scale as fp16.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import pathlib
import shlex
import sys

import numpy
import tokenizers
import torch

import second

CALLS = """
data/tiny-llama model.layers.1.mlp.up_proj --row 3 --bits 2,3 --group 32
    --quantizer gptq
data/tiny-llama model.layers.0.self_attn.k_proj --row 5 --bits 3 --group 48
    --quantizer gptq --act-order --hessian plain
data/tiny-qwen3 model.layers.1.mlp.down_proj --row 7 --bits 2 --group 128
    --quantizer gptq --scales mse
data/tiny-qwen2 model.layers.2.self_attn.o_proj --row 0 --bits 4 --group 64
    --scales mse
data/tiny-llama model.layers.3.self_attn.v_proj --row 1 --bits 1,8
data/tiny-llama model.layers.2.self_attn.q_proj --row 2 --bits 3 --group 32
    --quantizer gptq --scales mse --symmetric
"""
TEXT, SEQUENCES, LENGTH = "data/calib.txt", 4, 64


def grid(w, bits, rule, symmetric):
    """lo, hi, scale in fp16, zero of one group, w in double."""
    best, top = None, 2 ** bits - 1
    lo, hi = min(0.0, float(w.min())), max(0.0, float(w.max()))
    if symmetric:
        hi = float(w.abs().max())
        lo = -hi
    for percent in range(100, 20, -1) if rule == "mse" else [100]:
        a, b = lo * percent / 100, hi * percent / 100
        scale = float(numpy.float16((b - a) / top)) or 1.0
        zero = min(max(round(-a / scale), 0), top)
        zero = 2 ** (bits - 1) if symmetric else zero
        code = (torch.round(w / scale) + zero).clamp(0, top)
        error = float(((w - (code - zero) * scale) ** 2).sum())
        if best is None or error < best[0]:
            best = error, a, b, scale, zero
    return best[1:]


def quantize(w, P, order, o, bits):
    """Grids by group and rows (now, code, q, next) by column."""
    w, n, top = w.clone(), len(w), 2 ** bits - 1
    group = lambda c: slice(c // o.group * o.group, (c // o.group + 1) * o.group)
    static = P is None or o.act_order
    grids = {c // o.group: grid(w[group(c)], bits, o.scales, o.symmetric)
             for c in range(n)} if static else {}
    rows = {}
    for i, j in enumerate(order):
        if not static and j % o.group == 0:
            grids[j // o.group] = grid(w[group(j)], bits, o.scales,
                                       o.symmetric)
        _, _, scale, zero = grids[j // o.group]
        now = float(w[j])
        code = min(max(round(now / scale) + zero, 0), top)
        q, got = (code - zero) * scale, 0.0
        if P is not None:
            move = -(now - q) * P[j] / P[j, j]
            if i + 1 < n:
                got = float(move[order[i + 1]])
            w += move
            P = P - torch.outer(P[:, j], P[j]) / P[j, j]
        rows[j] = now, code, q, got
    return grids, rows


def one(line, out):
    a = argparse.ArgumentParser()
    a.add_argument("model"), a.add_argument("module")
    for name, value in dict(row=0, bits="", group=128, quantizer="rtn",
                            scales="minmax", hessian="token").items():
        a.add_argument("--" + name, type=type(value), default=value)
    a.add_argument("--act-order", action="store_true")
    a.add_argument("--symmetric", action="store_true")
    o = a.parse_args(shlex.split(line))
    folder = pathlib.Path(o.model)
    model = second.Model(folder, torch.float64)
    w = model.read(o.module + ".weight")[o.row]
    layer, name = int(o.module.split(".")[2]), ".".join(o.module.split(".")[3:])
    H, P, order, seen = None, None, list(range(len(w))), {}
    if o.quantizer == "gptq":
        line += f" --calib {TEXT} --sequences {SEQUENCES} --length {LENGTH}"
        ids = torch.tensor(tokenizers.Tokenizer.from_file(
            str(folder / "tokenizer.json")).encode(
                open(TEXT).read(), add_special_tokens=False).ids)
        h = model.read("model.embed_tokens.weight")[torch.stack(
            [ids[i * len(ids) // SEQUENCES:][:LENGTH] for i in range(SEQUENCES)])]
        for l in range(layer + 1):
            h = second.forward(model, model.block(l), h, seen)
        key = [k for k, linears in second.INPUTS.items() if name in linears][0]
        H = second.hessian(seen[key], o.hessian)
        P = torch.linalg.inv(H + 0.01 * H.diag().mean() * torch.eye(len(H)))
        if o.act_order:
            order = sorted(order, key=lambda j: -float(H[j, j]))
    out.write(f"call\t{line}\n")
    for bits in map(int, o.bits.split(",")):
        ways = [("rtn", quantize(w, None, range(len(w)), o, bits))]
        if P is not None:
            ways.append(("gptq", quantize(w, P, order, o, bits)))
        for way, (grids, rows) in ways:
            for g, (lo, hi, scale, zero) in sorted(grids.items()):
                part = slice(g * o.group, (g + 1) * o.group)
                q = torch.tensor([rows[j][2] for j in range(len(w))])
                out.write(f"{way}\t{bits}\t{g}\t{lo:.7g}\t{hi:.7g}\t"
                          f"{(hi - lo) / (2 ** bits - 1):.7g}\t{scale:.7g}\t"
                          f"{zero}\t{float(((w - q)[part] ** 2).sum()):.7g}\n")
        for j in order:
            out.write(str(j))
            for way, (grids, rows) in ways:
                now, code, q, got = rows[j]
                out.write(f"\t{now:.7g}\t{code}\t{q:.7g}\t{now - q:.7g}")
            out.write(f"\t{rows[j][3]:.7g}\n" if P is not None else "\n")
        for way, (grids, rows) in ways if P is not None else []:
            e = w - torch.tensor([rows[j][2] for j in range(len(w))])
            out.write(f"loss\t{bits}\t{way}\t{float(e @ H @ e):.7g}\n")


torch.set_default_dtype(torch.float64)
with open(sys.argv[1], "w") as file:
    file.write(f"# tools/golden_show.py: torch {torch.__version__}, tokenizers "
               f"{tokenizers.__version__}, numpy {numpy.__version__}\n")
    for call in CALLS.strip().replace("\n    ", " ").split("\n"):
        one(call, file)
