#!/usr/bin/env python3
# one_block.py MODEL OURS L THEIRS: what block L of a Llama, Qwen2 or Qwen3 sees in
# step 1, RTN, soft-corrected, from the equations of docs/verify.md.  OURS gives what
# does not follow from the block: tokens, settings, and E0, a sum over all blocks.
# SPDX-License-Identifier: GPL-3.0-or-later
import glob, json, re, sys
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

model, ours, L, theirs = sys.argv[1], safe_open(sys.argv[2], "pt"), int(sys.argv[3]), sys.argv[4]
config = json.load(open(model + "/config.json"))
file = {name: w for shard in glob.glob(model + "/model*.safetensors")
        for name, w in load_file(shard).items()}
heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
hd = config.get("head_dim") or config["hidden_size"] // heads
base = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
recipe = ours.metadata()["candidates"]                          # "rtn bits=2,3,4 group=32"
group = int(re.search(r"group=(\d+)", recipe)[1])
bits = [int(b) for b in re.search(r"bits=([\d,]+)", recipe)[1].split(",")]
tokens = ours.get_tensor("tokens").long()                       # [batch, T]
B, rho, alpha, tau, eta, rate, E0 = (ours.get_tensor(name).item() for name in (
    "train_bits", "rho", "alpha", "tau", "eta", "rate", "E0"))
names = [f"self_attn.{x}_proj.weight" for x in "qkvo"] + [
    f"mlp.{x}_proj.weight" for x in ("gate", "up", "down")]     # the seven modules

def tensors(l):                                                 # block l, by short names
    return {name.split(".", 3)[3]: w.double() for name, w in file.items()
            if name.startswith(f"model.layers.{l}.")}

def block(h, W, seen={}):                       # f(h; W): [batch, T, d] -> [batch, T, d]
    def norm(x, name):
        return x / (x ** 2).mean(-1, True).add(config["rms_norm_eps"]).sqrt() * W[name + ".weight"]
    def linear(x, name):                        # y = x W^T + bias
        return x @ W[name + "_proj.weight"].T + W.get(name + "_proj.bias", 0)
    def split(x): return x.unflatten(-1, (-1, hd)).transpose(1, 2)      # [batch, heads, T, hd]
    def join(x): return x.transpose(1, 2).flatten(2)
    def turn(x):            # the pair (i, i + hd/2) by t base^(-2i/hd), all in float32
        phi = torch.arange(T)[:, None] * (1 / base ** (torch.arange(0, hd, 2) / hd))
        a, b = x.chunk(2, -1)
        return torch.cat([a * phi.cos() - b * phi.sin(), b * phi.cos() + a * phi.sin()], -1)
    T, x = h.shape[1], norm(h, "input_layernorm")
    q, k, v = (split(linear(x, "self_attn." + name)) for name in "qkv")
    if "self_attn.q_norm.weight" in W:                          # Qwen3
        q, k = norm(q, "self_attn.q_norm"), norm(k, "self_attn.k_norm")
    q, k = turn(q), turn(k)
    K, V = (y.repeat_interleave(heads // kv_heads, 1) for y in (k, v))  # h reads h kv/heads
    future = torch.full((T, T), -torch.inf).triu(1)
    a = join((q @ K.mT / hd ** 0.5 + future).softmax(-1) @ V)
    mid = h + linear(a, "self_attn.o")
    x2 = norm(mid, "post_attention_layernorm")
    gate, up = linear(x2, "mlp.gate"), linear(x2, "mlp.up")
    act = gate * torch.sigmoid(gate) * up
    seen.update(norm1=x, q=join(q), k=join(k), v=join(v), attention=a, mid=mid, norm2=x2,
                gate=gate, up=up, act=act)
    return mid + linear(act, "mlp.down")

def candidate(W, b):            # round to nearest, in float32; torch.round: ties to even
    top, parts = 2 ** b - 1, []
    for w in W.float().split(group, 1):         # columns; the last group may be narrower
        lo, hi = w.amin(1, True).clamp(max=0), w.amax(1, True).clamp(min=0)
        scale = torch.where(hi > lo, (hi - lo) / top, 1).half().float()
        zero = torch.round(-lo / scale).clamp(0, top)
        code = (torch.round(w / scale) + zero).clamp(0, top)
        parts.append((scale, zero.byte(), code.byte(), scale * (code - zero)))
    return dict(zip(("scales", "zeros", "codes", "dequantized"),
                    (torch.cat(x, 1) for x in zip(*parts))))

def loss(W):                                    # of every token, [batch T]
    return (((block(h, W) - y) ** 2).sum(-1) / (y ** 2).sum(-1)).flatten()

# the original: h goes into the block, y comes out
h, seen, W = file["model.embed_tokens.weight"].double()[tokens], {}, tensors(L)
for l in range(L):
    h = block(h, tensors(l))
y = block(h, W, seen)

# the mixture: theta = 0 in step 1, in this block and in all others
made = [[candidate(W[name], b) for b in bits] for name in names]
Q = [[k["dequantized"].double() for k in m] for m in made]
theta = torch.zeros(7, len(bits)).double()
p = (theta / tau).softmax(1)
mixed = {name: sum(x * q for x, q in zip(p_m, Q_m)).requires_grad_()
         for name, p_m, Q_m in zip(names, p, Q)}
n, b = torch.tensor([[W[name].numel()] for name in names]), torch.tensor(bits)
M, N = 7 * config["num_hidden_layers"], n.sum() * config["num_hidden_layers"]
c = (n * b * p).sum() / n.sum() - B             # p is the same everywhere
E = loss(W | mixed)
grad = torch.autograd.grad(E.mean(), list(mixed.values()))

# the step, from lambda = 0 and moments of 0
S = torch.tensor([[loss(W | {name: q}).mean() / E0 for q in Q_m] for name, Q_m in zip(names, Q)])
g = torch.tensor([[(G * q).sum() / E0 for q in Q_m] for G, Q_m in zip(grad, Q)])
v = S + g - 2 * p * S + (0 + rho * c) * n * b / N + alpha / M * p.log()
d = p * (v - (p * v).sum(1, True)) / tau
m1, m2 = 0.1 * d, 0.001 * d ** 2

out = {"tokens": tokens.int(), f"teacher.{L}": h, f"teacher.{L + 1}": y, "separable": S,
       "lambda_before": 0., "theta_before": theta, "p": p, "c": c, f"E.{L + 1}": E.mean(),
       "entropy": -(p * p.log()).sum() / 7, f"student.{L + 1}": block(h, W | mixed),
       f"loss.{L + 1}": E, "g": g, "v": v, "moment1": m1, "moment2": m2,
       "theta_after": theta - rate * (m1 / 0.1) / ((m2 / 0.001).sqrt() + 1e-8),
       "lambda_after": 0 + eta * rho * c} | {f"detail.{L}.{x}": seen[x] for x in seen}
for name, m, G in zip(names, made, grad):
    full = f"model.layers.{L}.{name.removesuffix('.weight')}"
    out |= {"mixed." + full: mixed[name], "grad." + full: G}
    out |= {f"candidates.{full}.b{b}.{x}": k[x] for b, k in zip(bits, m) for x in k}
for name, x in out.items():                     # numbers are [1], states [batch T, ...]
    x = torch.as_tensor(x).detach()
    out[name] = (x.flatten(0, -2) if x.dim() > 2 else x.reshape(x.shape or 1)).contiguous()
save_file(out, theirs)
