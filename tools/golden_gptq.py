"""Golden vectors of GPTQ: torch in float64, the published route.

usage: python tools/golden_gptq.py MODEL TEXT tests/golden/gptq.vec

One module of a real model (layers.1.mlp.gate_proj, its first ROWS rows) with
the inputs it sees on the first SEQUENCES x LENGTH tokens of TEXT:

    H = (2/tokens) sum_t w_t^2 x_t x_t^T,  w_t = 1/||x_t||, times 4 at t = 0 of
        each sequence (token), or 1 (plain)
    H += 0.01 mean(diag H) 1
    U = chol_upper(chol_inverse(chol(H)))                 as Frantar et al. 2022
    for each column j: code, q_j;  e = (w_j - q_j) / U_jj;  w_t -= e U_jt
with grids as in tools/golden_quant.py, from the weights as they are when the
group's first column is reached; act-order: columns by falling H_jj, grids from
the original weights.  x and w are rounded to DIGITS digits first, which keeps
the file small.  near: w/scale is within NEAR of where the code would change.
Shares no code with quant.c.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import sys
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

ROWS, SEQUENCES, LENGTH, GROUP = 16, 3, 36, 48
DIGITS, NEAR = 3, 1e-3


def grid(part, top):
    lo, hi = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
    scale = ((hi - lo) / top).half().double()
    assert scale.min() > 2**-14         # ordinary numbers of fp16
    return scale, torch.round(-lo / scale).clamp(0, top)


def gptq(w, H, bits, act_order):
    w, H, top = w.clone(), H.clone(), 2**bits - 1
    n = w.shape[1]
    groups = range(0, n, GROUP)
    order = torch.arange(n)
    grids = [grid(w[:, g:g + GROUP], top) for g in groups]
    if act_order:
        order = torch.argsort(H.diag(), descending=True, stable=True)
        w, H = w[:, order], H[order][:, order]
    H += 0.01 * H.diag().mean() * torch.eye(n, dtype=H.dtype)
    H = torch.cholesky_inverse(torch.linalg.cholesky(H))
    U = torch.linalg.cholesky(H, upper=True)
    codes, near = torch.zeros_like(w), torch.zeros_like(w)
    for c in range(n):
        j = int(order[c])
        if not act_order and j % GROUP == 0:
            grids[j // GROUP] = grid(w[:, j:j + GROUP], top)
        scale, zero = grids[j // GROUP]
        x = w[:, c] / scale
        code = (torch.round(x) + zero).clamp(0, top)
        codes[:, j] = code
        near[:, j] = (x - torch.floor(x) - 0.5).abs() <= NEAR
        e = (w[:, c] - (code - zero) * scale) / U[c, c]
        w[:, c:] -= e[:, None] * U[c, c:]
    return codes, near, grids


def shorten(x):
    return torch.tensor([float(f"{v:.{DIGITS}g}") for v in
                         x.flatten().tolist()]).view(x.shape)


def put(f, name, kind, value):
    f.write(f"@ {name} {kind} {' '.join(map(str, value.shape))}\n")
    text = [f"{v:.{DIGITS}g}" if kind == "f" else str(int(v))
            for v in value.flatten().tolist()]
    for i in range(0, len(text), 16):
        f.write(" ".join(text[i:i + 16]) + "\n")


def main():
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1],
                                                 dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    text = open(sys.argv[2], encoding="utf-8").read()[:20000]
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    tokens = torch.tensor(tokens[:SEQUENCES * LENGTH]).view(SEQUENCES, LENGTH)
    module, seen = model.model.layers[1].mlp.gate_proj, []
    module.register_forward_hook(lambda m, i, o: seen.append(i[0]))
    with torch.no_grad():
        model(tokens)
    x = shorten(seen[0].reshape(SEQUENCES * LENGTH, -1))
    w = shorten(module.weight.detach()[:ROWS].float())
    with open(sys.argv[3], "w") as f:
        f.write("# GPTQ candidates of one module of data/tiny-llama: "
                "tools/golden_gptq.py with\n"
                f"# torch {torch.__version__}, "
                f"transformers {transformers.__version__}\n")
        put(f, "x", "f", x)
        put(f, "w", "f", w)
        put(f, "shape", "i", torch.tensor([SEQUENCES, LENGTH, GROUP]))
        weight = 1 / x.double().norm(dim=1)
        weight[::LENGTH] *= 4
        for name, v, bits, act_order in (
                ("token", weight, 3, False), ("act-order", weight, 4, True),
                ("plain", torch.ones_like(weight), 2, False)):
            X = x.double() * v[:, None]
            H = 2 / len(x) * X.T @ X
            codes, near, grids = gptq(w.double(), H, bits, act_order)
            put(f, f"{name}.codes", "i", codes)
            put(f, f"{name}.near", "i", near)
            put(f, f"{name}.scales", "i", torch.stack(
                [s for s, _ in grids], 1).half().view(torch.int16))
            put(f, f"{name}.zeros", "i", torch.stack([z for _, z in grids], 1))


main()
