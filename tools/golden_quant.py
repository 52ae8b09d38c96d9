"""Golden vectors of the RTN candidates: numpy, straight from the formulas.

usage: python tools/golden_quant.py tests/golden/rtn.vec

    lo = min(0, min w), hi = max(0, max w)          per group of input columns
    step  = (hi - lo) / (2^b - 1)
    scale = the fp16 nearest to it, at most 65504; the next one above where that
            is less by more than step / (2^(b+1) - 1); 1 where step is 0
    zero  = clip(round(-lo / scale), 0, 2^b - 1), with step for a scale that is
            65504 and less than step
    code  = clip(round(w / scale) + zero, 0, 2^b - 1)
    q     = scale (code - zero)
symmetric (names with s, 2 bits or more): hi = -lo = max |w|, zero = 2^(b-1).
For a runtime with q = scale code - bias (names with h: biases of fp16; with m:
of BF16, and scales of those fp16 numbers that BF16 has too, at most 65280):
    shift = scale zero in that type - scale zero
    code  = clip(round((w + shift) / scale) + zero, 0, 2^b - 1)
    q     = scale (code - zero) - shift
All in float32, round to nearest, ties to even.  Shares no code with quant.c.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import sys
import numpy as np

f32 = np.float32
halves = np.arange(0x7c00, dtype=np.uint16)         # all that are finite
HALF = halves.view(np.float16)
BOTH = HALF[HALF.astype(f32).view(np.uint32) & 0xffff == 0]


def nearest(x, grid):
    """Index of the nearest number of a sorted grid, ties to even."""
    x, at = float(x), np.searchsorted(grid, x)
    if at == len(grid) or float(grid[at]) == x:
        return min(at, len(grid) - 1)
    up, down = float(grid[at]) - x, x - float(grid[at - 1])
    unit = grid[at - 1:at + 1].view(np.uint16)
    even = np.flatnonzero(unit // np.gcd(*unit) % 2 == 0)
    return at - 1 + (up < down if up != down else int(even[0]))


def rounded(x, kind):
    """float32 x in fp16, at most 65504, or BF16."""
    if kind == "h":
        return f32(np.float16(min(x, f32(65504))))
    u = int(f32(x).view(np.uint32))
    u += 0x7fff + (u >> 16 & 1)
    return np.uint32(u & 0xffff0000).view(f32)


def rtn(w, bits, group, kind):
    symmetric = kind == "s"
    grid = BOTH if kind == "m" else HALF
    most = f32(grid[-1])
    top = f32(2**bits - 1)
    codes = np.zeros(w.shape, int)
    q = np.zeros(w.shape, f32)
    scales, zeros = [], []
    for i in range(w.shape[0]):
        for first in range(0, w.shape[1], group):
            x = w[i, first:first + group]
            lo, hi = min(f32(0), x.min()), max(f32(0), x.max())
            if symmetric:
                hi = np.abs(x).max()
                lo = -hi
            step = f32(hi - lo) / top
            at = nearest(min(step, most), grid)
            if step - f32(grid[at]) > step / (2 * top + 1) and (
                    at < len(grid) - 1):
                at += 1
            s = f32(grid[at]) if step > 0 else f32(1)
            z = np.clip(np.rint(f32(-lo) / max(s, step if step > most else s)),
                        0, top)
            if symmetric:
                z = f32(2 ** (bits - 1))
            shift = rounded(s * z, kind) - s * z if kind in list("hm") else f32(0)
            c = np.clip(np.rint((x + shift) / s) + z, 0, top)
            codes[i, first:first + group] = c
            q[i, first:first + group] = s * (c - z).astype(f32) - shift
            scales.append(int(np.float16(s).view(np.uint16)))
            zeros.append(int(z))
    return codes, scales, zeros, q


def weights(rows, columns, seed):
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal((rows, columns)) * 0.02).astype(f32)
    w[0] = 0                                            # all zero
    w[1] = np.abs(w[1])                                 # all positive
    w[2] = -np.abs(w[2])                                # all negative
    w[3] = 0.125                                        # constant
    w[4] *= f32(1e-7)                               # scale too small for fp16
    w[5] *= f32(1e-4)                                   # fp16-subnormal scale
    w[6] *= f32(1e8)                                    # scale beyond fp16
    w[7, 5] = 3                                         # an outlier
    w[8] = (np.arange(columns) - columns // 2) * f32(0.5)   # ties
    return w


def put(f, name, kind, shape, values):
    f.write(f"@ {name} {kind} {' '.join(map(str, shape))}\n")
    text = [f"{v:.9g}" if kind == "f" else str(int(v)) for v in values]
    for i in range(0, len(text), 12):
        f.write(" ".join(text[i:i + 12]) + "\n")


with open(sys.argv[1], "w") as f:
    f.write("# RTN candidates: tools/golden_quant.py with numpy "
            f"{np.__version__}\n")
    for name, rows, columns, group in (("a", 10, 150, 64), ("b", 9, 37, 5),
                                       ("c", 9, 16, 16)):
        w = weights(rows, columns, 7)
        put(f, f"{name}.w", "f", w.shape, w.ravel())
        put(f, f"{name}.group", "i", (1,), [group])
        for bits, s in [(b, s) for s in ("", "s", "h", "m")
                        for b in range(1, 9)]:
            if s == "s" and bits == 1 or s in list("hm") and name == "b":
                continue
            codes, scales, zeros, q = rtn(w, bits, group, s)
            put(f, f"{name}.codes{s}{bits}", "i", w.shape, codes.ravel())
            put(f, f"{name}.scales{s}{bits}", "i", (len(scales),), scales)
            put(f, f"{name}.zeros{s}{bits}", "i", (len(zeros),), zeros)
            if bits in (1, 4):
                put(f, f"{name}.q{s}{bits}", "f", w.shape, q.ravel())
