#!/usr/bin/env python3
"""Makes tests/golden/foreign/modelopt-summary.txt and its .tsv: what ModelOpt
itself prints of a model of that folder's modules after mtq.quantize, and what
the quantizers' own attributes give each module.

    pip install nvidia-modelopt torch
    python3 tools/golden_summary.py tests/golden/foreign

SPDX-License-Identifier: GPL-3.0-or-later
"""
import math
import sys
import tempfile
from importlib.metadata import version

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.quantization.nn import SequentialQuantizer
from torch import nn

out = sys.argv[1]
with open(f"{out}/scores.tsv") as f:
    rows = [line.split("\t") for line in f if line.startswith("model.")]
MODULES = [(name, int(o), int(i)) for name, o, i, *_ in rows]
MX = {"type": "dynamic", "scale_bits": (8, 0)}
GIVES = [   # each configuration's weight quantizer, some as in mtq's own
    {"num_bits": 4, "block_sizes": {-1: 128, "type": "static"}},
    {"num_bits": (2, 1), "block_sizes": {-1: 16, "type": "dynamic",
                                         "scale_bits": (4, 3)}},
    {"num_bits": (4, 3), "axis": None}, None,
    {"num_bits": 8, "axis": 0}, {"num_bits": (2, 1), "block_sizes": {-1: 32, **MX}},
    [{"num_bits": 4, "block_sizes": {-1: 64, "type": "static"}},
     {"num_bits": (4, 3), "axis": None}],
    {"num_bits": 3, "block_sizes": {-1: 64}, "unsigned": False},
    {"num_bits": (3, 2), "block_sizes": {-1: 32, **MX}}, {"num_bits": 2, "axis": 0},
    {"num_bits": 8, "block_sizes": {-1: 32, **MX}},
    {"num_bits": (4, 3), "block_sizes": {-1: 32, **MX}}, None]
model = nn.Module()
for name, o, i in [*MODULES, ("lm_head", 64, 128)]:
    at = model
    for part in name.split(".")[:-1]:
        if not hasattr(at, part):
            at.add_module(part, nn.Module())
        at = getattr(at, part)
    at.add_module(name.split(".")[-1], nn.Linear(i, o, bias=False))
quantizers = [{"quantizer_name": "*", "enable": False}]
for k, (name, _, _) in enumerate(MODULES):
    if GIVES[k % len(GIVES)]:
        quantizers.append({"quantizer_name": f"{name}.weight_quantizer",
                           "cfg": GIVES[k % len(GIVES)], "enable": True})
torch.manual_seed(0)
mtq.quantize(model, {"quant_cfg": quantizers, "algorithm": "max"},
             lambda m: [m.get_submodule(n)(torch.randn(4, i))
                        for n, _, i in MODULES])
with tempfile.TemporaryDirectory() as d:
    mtq.print_quant_summary(model, d)
    text = open(f"{d}/.quant_summary.txt").read()
with open(f"{out}/modelopt-summary.txt", "w") as f:
    f.write(text)
with open(f"{out}/modelopt-summary.txt.tsv", "w") as f:
    f.write(f"# from nvidia-modelopt {version('nvidia-modelopt')}, "
            "print_quant_summary\nmodule\tbits\tcodes\tbytes\tnamed\n")
    for name, o, i in MODULES:
        q = model.get_submodule(name).weight_quantizer
        q = q[0] if isinstance(q, SequentialQuantizer) else q
        if not q.is_enabled:
            f.write(f"{name}\t16\t{o * i * 16}\t{o * i * 2}\t1\n")
            continue
        b = q.num_bits if isinstance(q.num_bits, int) else 1 + sum(q.num_bits)
        size = -1
        if q.block_sizes:
            scale = 8 if "scale_bits" in q.block_sizes else 16
            groups = o * math.ceil(i / q.block_sizes[-1])
            size = math.ceil((o * i * b + groups * scale) / 8)
        f.write(f"{name}\t{b}\t{o * i * b}\t{size}\t1\n")
