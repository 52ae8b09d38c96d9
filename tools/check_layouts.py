"""check_layouts.py: the layouts of other runtimes against those runtimes.

  python3 check_layouts.py GAMMA LAYOUT MODEL [--group G] [--bits LIST]
      [--made-for TYPE] [--rest gamma's options]

LAYOUT is mlx, compressed-tensors or gptq.  Gives the linears of MODEL the bits
of LIST in turn, lets gamma write the packed file and the layout, reads the
packed file by itself (numpy, from docs/formats.md), and loads the layout with
the runtime's own library on the CPU:
  weights   of every module, as the library dequantizes them, against gamma's:
            equal to the bit where the layout's types allow it, else within the
            rounding of scales and biases that gamma states; --made-for: of
            candidates made for scales and biases of that type (gamma fit
            --for mlx), against the directory --format hf: equal but for its
            own rounding to the model's type
  logits    of 64 positions against transformers in float32 with gamma's weights
  greedy    32 tokens: the same, or, at the first other one, two logits as near
            to each other as the largest difference of logits
Libraries that made the numbers in docs/deploy.md: mlx-lm 0.32.2 with mlx
0.32.4, compressed-tensors 0.20.0, transformers 5.24.0, torch 2.15.0.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import glob
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np


def read_safetensors(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:
                                             8 + n + v["data_offsets"][1]])
            for k, v in header.items()}


def read_all(directory):
    out = {}
    for f in glob.glob(directory + "/*.safetensors"):
        out.update(read_safetensors(f))
    return out


def unpack(raw, lines, n, bits):
    a = np.frombuffer(raw, np.uint8).reshape(lines, -1)
    bit = np.unpackbits(a, axis=1, bitorder="little")[:, :n * bits]
    return (bit.reshape(lines, n, bits).astype(int) << np.arange(bits)).sum(-1)


def gammas_modules(packed, shapes, bits, group):
    """{name: (code, scale, zero, w)}"""
    tensors, out = read_safetensors(packed), {}
    for name, (high, wide) in shapes.items():
        if name + ".codes" not in tensors:
            continue
        b, groups = bits[name], -(-wide // group)
        code = unpack(tensors[name + ".codes"][2], high, wide, b)
        zero = unpack(tensors[name + ".zeros"][2], high, groups, b)
        scale = np.frombuffer(tensors[name + ".scales"][2], "<f2")
        scale = scale.reshape(high, groups).astype(np.float32)
        at = np.arange(wide) // group
        w = scale[:, at] * (code - zero[:, at]).astype(np.float32)
        out[name] = code, scale, zero, w.astype(np.float32)
    return out


def hf_modules(directory, written, shapes):
    """As gammas_modules, of dequantized weights and mlx's scales."""
    import torch
    types = {"F32": torch.float32, "F16": torch.float16,
             "BF16": torch.bfloat16}
    def numbers(t):
        return torch.frombuffer(bytearray(t[2]), dtype=types[t[0]]).reshape(
            t[1]).float().numpy()
    tensors = read_all(directory)
    return {n: (None, numbers(written[n + ".scales"]), None,
                numbers(tensors[n + ".weight"]))
            for n in shapes if n + ".scales" in written}


def exact_model(model, weights):
    import torch
    import transformers
    m = transformers.AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32).eval()
    named = dict(m.named_parameters())
    with torch.no_grad():
        for name, (_, _, _, w) in weights.items():
            named[name + ".weight"].copy_(torch.from_numpy(w))
    return of_transformers(m)


def load_mlx(path):
    import mlx.core as mx
    from pathlib import Path
    from mlx_lm.utils import load_model
    mx.set_default_device(mx.cpu)
    m, _ = load_model(Path(path))
    m.set_dtype(mx.float32)
    weights = {n: np.array(mx.dequantize(k.weight, k.scales, k.biases,
                                         group_size=k.group_size, bits=k.bits))
               for n, k in m.named_modules() if hasattr(k, "scales")}
    return weights, lambda ids: np.array(m(mx.array([ids]))[0])


def of_transformers(m):
    import torch
    def logits(ids):
        with torch.no_grad():
            return m(torch.tensor([ids])).logits[0].float().numpy()
    return logits


def load_compressed(path):
    """transformers where it can (symmetric), else the library's decompress."""
    import torch
    import transformers
    from compressed_tensors.compressors.pack_quantized.base import (
        PackedQuantizationCompressor as Packed)
    from compressed_tensors.quantization import (QuantizationArgs,
                                                 QuantizationScheme)
    from safetensors.torch import load_file
    config = json.load(open(path + "/config.json"))["quantization_config"]
    tensors, weights, symmetric = {}, {}, True
    for f in glob.glob(path + "/*.safetensors"):
        tensors.update(load_file(f))
    for g in config["config_groups"].values():
        args = QuantizationArgs(**g["weights"])
        symmetric = symmetric and args.symmetric
        for n in g["targets"]:
            state = {k[len(n) + 1:]: v for k, v in tensors.items()
                     if k.startswith(n + ".weight_")}
            state["weight_scale"] = state["weight_scale"].float()
            scheme = QuantizationScheme(targets=[n], weights=args)
            weights[n] = Packed.decompress(state, scheme)["weight"].numpy()
    if not symmetric:
        return weights, None
    m = transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, device_map="cpu").eval()
    return weights, of_transformers(m)


def load_gptq(path):
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")   # compiles for minutes
    import torch
    from gptqmodel import BACKEND, GPTQModel
    m = GPTQModel.load(path, device="cpu", backend=BACKEND.GPTQ_TORCH,
                       dtype=torch.float16).model
    weights = {n: k.dequantize_weight().T.float().numpy()
               for n, k in m.named_modules() if hasattr(k, "qweight")}
    return weights, of_transformers(m)


def kl(p, q):
    def log_softmax(x):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))
    p, q = log_softmax(p.astype(float)), log_softmax(q.astype(float))
    return (np.exp(p) * (p - q)).sum(-1).mean()


def rounding(layout, kind, scale, zero, bits):
    """The most that types move one weight: s' code + b' against s (code - z).
    s' differs from s, and b' from - s' z, by half a unit in the last place."""
    if layout == "gptq":             # the kernel's products are float16
        return 2.0 ** -11 * scale * 2 ** bits
    if layout != "mlx" or kind == "f32":
        return 0 * scale
    unit = 2.0 ** (-9 if kind == "bf16" else -12) * 2
    tiny = 0 if kind == "bf16" else 2.0 ** -25
    ds = unit * scale if kind == "bf16" else 0 * scale
    db = np.maximum(unit * (scale + ds) * zero, tiny)
    # float32 products of the library itself
    return ds * np.maximum(zero, 2 ** bits - 1 - zero) + db + 1e-6 * scale


def main(work):
    a = argparse.ArgumentParser()
    a.add_argument("gamma")
    a.add_argument("layout")
    a.add_argument("model")
    a.add_argument("--group", type=int, default=32)
    a.add_argument("--bits", default="4")
    a.add_argument("--scale-type")
    a.add_argument("--made-for", choices=["bf16", "f16"])
    a.add_argument("--rest", default="")
    o = a.parse_args()
    stored = read_all(o.model)
    kept = "32" if stored["model.norm.weight"][0] == "F32" else "16"
    shapes = {k[:-7]: v[1] for k, v in sorted(stored.items())
              if k.endswith("_proj.weight")}
    cycle = [int(b) for b in o.bits.split(",")]
    bits = {n: cycle[i % len(cycle)] for i, n in enumerate(shapes)}
    have = sorted({int(kept) if b >= 16 else b for b in cycle})
    with open(work + "/alloc.tsv", "w") as f:
        if o.made_for:
            kind = "scale-type=bf16 " if o.made_for == "bf16" else ""
            f.write(f"# candidates rtn bits={','.join(map(str, have))} "
                    f"group={o.group} {kind}bias\n")
        f.write("module\tbits\n")
        f.writelines(f"{n}\t{kept if b >= 16 else b}\n"
                     for n, b in bits.items())
    def quantize(kind, out, extra=()):
        p = subprocess.run(
            [o.gamma, "quantize", o.model, "--alloc", work + "/alloc.tsv",
             "--bits", ",".join(map(str, have)), "--group", str(o.group),
             "--format", kind, "--out", out] + o.rest.split() + list(extra),
            capture_output=True, text=True)
        if p.returncode:
            sys.exit("check_layouts: " + p.stderr)
    other = "hf" if o.made_for else "packed"
    quantize(other, work + "/" + other)
    path = work + "/" + o.layout
    quantize(o.layout, path,
             ["--keep-odd"] + (["--scale-type", o.scale_type or o.made_for]
                               if o.scale_type or o.made_for else []))
    ours = (hf_modules(work + "/hf", read_all(path), shapes) if o.made_for else
            gammas_modules(work + "/packed", shapes, bits, o.group))
    load = {"mlx": load_mlx, "compressed-tensors": load_compressed,
            "gptq": load_gptq}[o.layout]
    theirs, logits = load(path)
    written = read_all(path)
    kind = o.scale_type or {"BF16": "bf16", "F16": "f16", "F32": "f32"}[
        stored["model.layers.0.mlp.up_proj.weight"][0]]
    # what the layout cannot hold was kept as it is stored
    for n in list(ours):
        if n not in theirs:
            if written[n + ".weight"][2] != stored[n + ".weight"][2]:
                sys.exit(f"check_layouts: {n} is neither")
            import torch
            t = {"F32": torch.float32, "F16": torch.float16,
                 "BF16": torch.bfloat16}[stored[n + ".weight"][0]]
            w = torch.frombuffer(bytearray(stored[n + ".weight"][2]), dtype=t)
            ours[n] = (None, None, None, w.reshape(shapes[n]).float().numpy())
    worst, equal = 0, 0
    for n, w in theirs.items():
        code, scale, zero, mine = ours[n]
        at = np.arange(shapes[n][1]) // o.group
        far = np.abs(w - mine)
        if o.made_for:              # float32 products; the model's type
            unit = {"F32": 0, "F16": 2 ** -11, "BF16": 2 ** -8}[
                stored[n + ".weight"][0]]
            most = 1e-6 * scale[:, at] + unit * np.abs(w)
        else:
            most = rounding(o.layout, kind, scale, zero, bits[n])[:, at]
        if (far > most).any():
            sys.exit(f"check_layouts: {o.layout} {n} ({bits[n]} bits): weights "
                     f"off by {(far / scale[:, at]).max():.3g} steps")
        equal += (w == mine).all()
        worst = max(worst, (far / np.maximum(scale, 1e-12)[:, at]).max())
    line = (f"{o.layout} {os.path.basename(o.model)} g{o.group} {o.bits} "
            f"{o.scale_type or o.made_for or ''} {o.rest}: {len(theirs)} "
            f"modules, {equal} to the bit, at most {worst:.2g} steps")
    if logits:
        exact = exact_model(o.model, ours)
        vocab = json.load(open(o.model + "/config.json"))["vocab_size"]
        ids = [int(x) % min(700, vocab - 3) + 3
               for x in np.arange(64) ** 2 * 7 + 11]
        p, q = exact(ids), logits(ids)
        far, apart = np.abs(p - q).max(), kl(p, q)
        line += f"; logits within {far:.2g} of {np.abs(p).max():.3g}, KL " \
                f"{apart:.1e}"
        x = ids[:8]
        for _ in range(32):
            p = exact(x)
            x = x + [int(p[-1].argmax())]
        # the same tokens before: of all positions at once, a prefix agrees
        q = logits(x[:-1])
        for same in range(32):
            mine, other = p[7 + same], q[7 + same]
            if mine.argmax() != other.argmax():
                near = mine.max() - mine[other.argmax()]
                if near > 2 * np.abs(mine - other).max():
                    sys.exit("check_layouts: " + line + f"; token {same} other")
                break
        else:
            same = 32
        line += f"; {same} of 32 greedy tokens"
        if apart > 2e-2:
            sys.exit("check_layouts: " + line)
    print(line, flush=True)
    if len(theirs) == 0:
        sys.exit("check_layouts: the library found no quantized module")


with tempfile.TemporaryDirectory() as work:
    main(work)
