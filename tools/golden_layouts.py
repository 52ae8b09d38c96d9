"""golden_layouts.py: tests/golden/layouts.vec: the words
that the libraries themselves make of given codes and zeros.
  python3 golden_layouts.py mlx|compressed-tensors|gptq FILE
appends to FILE.  Code i, in rows, is the top b bits of (i + 1) 2654435761 mod
2^32, a zero likewise with i + 7777.
compressed-tensors and GPTQModel pack; mlx has no packer of codes, so there
numpy's words are those that mx.dequantize (scales 1, biases 0) reads as the
codes, which is one to one.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import sys
from importlib.metadata import version

import numpy as np

# out, in, group: odd outputs, or a last group that is short
SHAPES = {"mlx": (3, 96, 32), "compressed-tensors": (5, 60, 20),
          "gptq": (32, 96, 64)}
BITS = {"mlx": (2, 3, 4, 5, 6, 8), "compressed-tensors": range(1, 9),
        "gptq": (2, 3, 4, 8), "gptq_p": range(2, 9)}


def stream(code, b):
    bit = ((code[:, :, None] >> np.arange(b)) & 1).astype(np.uint8)
    return np.packbits(bit.reshape(len(code), -1), axis=1,
                       bitorder="little").view("<u4")


def words_mlx(code, zero, b, group):
    import mlx.core as mx
    mx.set_default_device(mx.cpu)
    w = stream(code, b)
    ones = mx.ones(zero.shape)
    back = mx.dequantize(mx.array(w), ones, 0 * ones, group_size=group, bits=b)
    assert (np.array(back) == code).all()
    return w, None


def words_compressed(code, zero, b, group):
    import torch
    from compressed_tensors.compressors.pack_quantized.helpers import (
        pack_to_int32)
    half = 1 << (b - 1)
    def signed(x):
        return torch.from_numpy((x - half).astype(np.int8))
    return (pack_to_int32(signed(code), b).numpy(),
            pack_to_int32(signed(zero), b, packed_dim=0).numpy())


def words_gptq(code, zero, b, group, planar):
    import torch
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.utils.planar_packing import (planar_pack_cols,
                                                planar_pack_rows)
    if planar and b in (3, 5, 6, 7):
        return (planar_pack_rows(torch.from_numpy(code.T.copy()), b).numpy(),
                planar_pack_cols(torch.from_numpy(zero.T.copy()), b).numpy())
    out, wide = code.shape
    at = np.arange(wide) // group
    linear = torch.nn.Linear(wide, out, bias=False)
    linear.weight.data = torch.from_numpy(
        (code - zero[:, at]).astype(np.float32))
    q = TorchLinear(bits=b, group_size=group, sym=False, desc_act=False,
                    in_features=wide, out_features=out, bias=False)
    q.pack_original(linear, torch.ones(out, zero.shape[1]),
                    torch.from_numpy(zero.astype(np.float32)),
                    torch.from_numpy(at.astype(np.int32)))
    return q.qweight.numpy(), q.qzeros.numpy()


def put(f, name, values):
    values = np.ascontiguousarray(values).view("<u4")
    f.write(f"@ {name} i {' '.join(map(str, values.shape))}\n")
    flat = [str(v) for v in values.flatten()]
    for i in range(0, len(flat), 8):
        f.write(" ".join(flat[i:i + 8]) + "\n")


def numbers(first, shape, b):
    i = np.arange(first, first + shape[0] * shape[1], dtype=np.int64)
    return ((i * 2654435761 % 2 ** 32) >> (32 - b)).reshape(shape)


def main():
    layout = sys.argv[1]
    out, wide, group = SHAPES[layout]
    names = {"mlx": ["mlx", "numpy"], "gptq": ["gptqmodel", "torch"],
             "compressed-tensors": ["compressed-tensors", "torch"]}[layout]
    f = open(sys.argv[2], "a")
    f.write(f"# {layout}, group {group}: tools/golden_layouts.py with " +
            ", ".join(f"{n} {version(n)}" for n in names) + "\n")
    for kind in (["gptq", "gptq_p"] if layout == "gptq" else [layout]):
        for b in BITS[kind]:
            code = numbers(1, (out, wide), b)
            zero = numbers(7777, (out, -(-wide // group)), b)
            if layout == "gptq":
                words, zeros = words_gptq(code, zero, b, group,
                                          kind == "gptq_p")
            else:
                words, zeros = {"mlx": words_mlx, "compressed-tensors":
                                words_compressed}[layout](code, zero, b, group)
            put(f, f"{kind}.b{b}.words", words)
            if zeros is not None:
                put(f, f"{kind}.b{b}.zeros", zeros)



main()
