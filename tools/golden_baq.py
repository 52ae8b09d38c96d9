"""Golden vectors of BAQ: torch in float64, from the equations.

usage: python tools/golden_baq.py tests/golden/gptq.vec tests/golden/baq.vec

Inputs x and weight w of tests/golden/gptq.vec (a module of data/tiny-llama),
in two sets: `real` as they are, weights of tokens 1/||x_t|| (times 4 at the
first of a sequence), R_ref = 3; `spread` with column j of x times 4^(j mod 5 -
2) and column 5 zero, weights 1, R_ref = 2.25.

    H = (2/tokens) sum_t w_t^2 x_t x_t^T; dead columns (H_jj = 0): H_jj = 1,
        weight 0; 1 % of the mean H_jj of the others is added to all others
    U = chol_upper(inverse(H))
    row i: lo = min(0, min_j w_ij), hi = max(0, max_j w_ij), rounded to fp16
    a pass with given levels, for each column j: scale = (hi-lo)/(levels_j-1),
        zero = round(-lo/scale), code = clamp(round(w/scale) + zero), q;
        levels_j = 1: q = 0;  e = (w_j - q) / U_jj;  w_t -= e U_jt for t > j;
        l_j = 1/2 sum_i e_i^2
    first pass: levels_j = round(2^R_ref)
    R_j = R_ref + log2(l_j / GM) / 1.95, GM = exp(mean ln(l + 1e-8)),
        levels_j = round(max(1, 2^R_j)); second pass with these
margin: distance of w/scale from where the code would change (of 2^R_j from
where the levels would), so that a reader can tell a near-tie.  Shares no code
with baq.c.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import sys
import torch

LENGTH = 36     # tokens in a sequence of gptq.vec


def record(path, name):
    lines = open(path).read().split("\n")
    at = next(i for i, l in enumerate(lines) if l.startswith(f"@ {name} "))
    shape = [int(d) for d in lines[at].split()[3:]]
    values = []
    for line in lines[at + 1:]:
        if line.startswith("@"):
            break
        values += [float(v) for v in line.split()]
    return torch.tensor(values, dtype=torch.float64).view(shape)


def factor(x, v):
    X = x * v[:, None]
    H = 2 / len(x) * X.T @ X
    d = H.diag()
    dead = d == 0
    damp = 0.01 * d[~dead].mean()
    H = H + torch.diag(torch.where(dead, torch.ones_like(d), damp))
    return torch.linalg.cholesky(torch.linalg.inv(H), upper=True), dead


def ranges(w):
    lo = w.amin(1).clamp(max=0).half().double()
    hi = w.amax(1).clamp(min=0).half().double()
    assert (hi - lo).min() > 2**-14     # ordinary numbers of fp16
    return lo, hi


def one_pass(w, U, levels):
    w, (lo, hi) = w.clone(), ranges(w)
    codes, margin = torch.zeros_like(w), torch.full_like(w, 0.5)
    loss = torch.zeros(w.shape[1], dtype=torch.float64)
    for j in range(w.shape[1]):
        q = torch.zeros_like(lo)
        if levels[j] > 1:
            scale = (hi - lo) / (levels[j] - 1)
            zero = torch.round(-lo / scale)
            t = w[:, j] / scale
            codes[:, j] = (torch.round(t) + zero).clamp(0, levels[j] - 1)
            margin[:, j] = (t - torch.floor(t) - 0.5).abs()
            q = (codes[:, j] - zero) * scale
        e = (w[:, j] - q) / U[j, j]
        loss[j] = (e**2).sum() / 2
        w[:, j + 1:] -= e[:, None] * U[j, j + 1:]
    return codes, margin, loss


def put(f, name, kind, value):
    f.write(f"@ {name} {kind} {' '.join(map(str, value.shape))}\n")
    text = [f"{v:.9g}" if kind == "f" else str(int(v))
            for v in value.flatten().tolist()]
    for i in range(0, len(text), 20):
        f.write(" ".join(text[i:i + 20]) + "\n")


def main():
    x, w = record(sys.argv[1], "x"), record(sys.argv[1], "w")
    n = x.shape[1]
    token = 1 / x.norm(dim=1)
    token[::LENGTH] *= 4
    spread = x * 4.0**(torch.arange(n) % 5 - 2)
    spread[:, 5] = 0
    with open(sys.argv[2], "w") as f:
        f.write("# BAQ of one module of data/tiny-llama: tools/golden_baq.py "
                f"with torch {torch.__version__}\n")
        for name, inputs, v, rate in (
                ("real", x, token, 3.0),
                ("spread", spread, torch.ones_like(token), 2.25)):
            U, dead = factor(inputs, v)
            live = torch.where(dead, torch.zeros_like(w), w)
            first = torch.full((n,), 2**rate).round()
            _, _, loss = one_pass(live, U, first)
            gm = torch.exp(torch.log(loss + 1e-8).mean())
            exact = (2**rate * (loss / gm)**(1 / 1.95)).clamp(min=1)
            levels = torch.round(exact)
            codes, margin, after = one_pass(live, U, levels)
            put(f, f"{name}.loss", "f", loss)
            put(f, f"{name}.levels", "i", levels)
            put(f, f"{name}.level_margin", "f",
                (exact - torch.floor(exact) - 0.5).abs())
            put(f, f"{name}.codes", "i", codes)
            put(f, f"{name}.margin", "f", margin.float())
            put(f, f"{name}.after", "f", after)


main()
