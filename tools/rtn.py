# rtn.py: round-to-nearest candidates in torch, from the formula of gamma.h
# (quant.c section) and nothing else; imported by make_tiny.py and
# torch_stage1.py.
# SPDX-License-Identifier: GPL-3.0-or-later
import torch

LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
           "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
           "mlp.down_proj")


def rtn(weight, bits, group, symmetric=False):
    """Dequantized candidate of weight [out, in], in float32.

    Per row and group of `group` input columns (the last may be ragged):
    lo = min(0, min w), hi = max(0, max w), scale = fp16((hi-lo)/(2^b-1)),
    1 when that is 0, zero = clamp(round(-lo/scale)),
    code = clamp(round(w/scale) + zero), q = scale (code - zero);
    symmetric: hi = -lo = max |w|, zero = 2^(b-1).
    For weights whose scales are ordinary numbers of fp16.
    """
    w = weight.detach().float()
    if bits == 16:
        return w.clone()
    top = 2 ** bits - 1
    q = torch.empty_like(w)
    for first in range(0, w.shape[1], group):
        part = w[:, first:first + group]
        lo = part.amin(1, keepdim=True).clamp(max=0)
        hi = part.amax(1, keepdim=True).clamp(min=0)
        if symmetric:
            hi = part.abs().amax(1, keepdim=True)
            lo = -hi
        scale = ((hi - lo) / top).half().float()
        assert ((scale > 2**-14) | (hi == lo)).all()
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        zero = torch.round(-lo / scale).clamp(0, top)
        if symmetric:
            zero.fill_(2 ** (bits - 1))
        code = (torch.round(part / scale) + zero).clamp(0, top)
        q[:, first:first + group] = scale * (code - zero)
    return q
