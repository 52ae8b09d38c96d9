#!/usr/bin/env python3
# second.py: the whole method a second time, in torch, double, autograd; written
# from the equations, not from the C.  Reads a checkpoint, writes dumps.
# SPDX-License-Identifier: GPL-3.0-or-later
"""GAMMA in one file of Python: candidates, Stage I, scores, Stage II.

    second.py MODEL --calib TEXT --out DUMP [--at 1,50] [--bits 2,3,4] ...

writes DUMP.safetensors of the last step, or DUMP-STEP.safetensors for each of
--at, with the names of docs/verify.md; prints one line a step and, with
--solve, the bits of each module.  Options are those of `gamma fit`, and
--candidates: another program's dump, whose GPTQ codes are checked and used.

    second.py MODEL --calib TEXT --anchors SCORES.tsv [--bits ... --solve B]

makes the anchors of `gamma refine` and `run` again, from the learned scores in
that file, and says how far its anchors are from these: docs/verify.md.

    p_m   = softmax(theta_m / tau)                                 [K]
    W~_m  = sum_k p_mk Q_mk                                        [out, in]
    E_l   = mean_t ||f_l(h_{l-1}; W~)_t - h_l,t||^2 / ||h_l,t||^2
    S_mk  = E_l with candidate k in m alone, / E_0, over each sequence once
    c     = (1/N) sum_m n_m sum_k b_k p_mk - B
    J     = sum_l E_l / E_0 + sum_mk (p_mk - p_mk^2) S_mk
            - (alpha/M) sum_m H(p_m) + lambda c + rho/2 c^2
"""
import argparse
import fnmatch
import itertools
import json
import pathlib

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

# The modules of a block; those with the same input share one Hessian.
LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
           "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
PARTS = ["codes", "scales", "zeros", "dequantized"]
INPUTS = {"qkv": LINEARS[:3], "o": LINEARS[3:4], "gate_up": LINEARS[4:6],
          "down": LINEARS[6:]}


# ------------------------------------------------------------------ the model
class Model:            # a Llama, Qwen2 or Qwen3 checkpoint
    def __init__(self, folder, dtype):
        raw = json.loads((folder / "config.json").read_text())
        self.dtype, self.layers = dtype, raw["num_hidden_layers"]
        self.heads = raw["num_attention_heads"]
        self.kv_heads = raw.get("num_key_value_heads", self.heads)
        self.hd = raw.get("head_dim") or raw["hidden_size"] // self.heads
        self.eps = raw["rms_norm_eps"]
        self.rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
        self.theta = self.rope.get("rope_theta") or raw["rope_theta"]
        shards = [safe_open(name, "pt")
                  for name in sorted(folder.glob("model*.safetensors"))]
        self.file = {key: shard for shard in shards for key in shard.keys()}

    def read(self, name, dtype=None):
        """A tensor as stored, then as float32, then as dtype."""
        return self.file[name].get_tensor(name).float().to(dtype or self.dtype)

    def block(self, l):
        """All tensors of block l by their short names."""
        prefix = f"model.layers.{l}."
        return {name[len(prefix):]: self.read(name) for name in self.file
                if name.startswith(prefix)}

    def angles(self, T):
        """cos and sin, [T, hd/2]; frequencies and angles in float32, as
        transformers has them."""
        i = torch.arange(0, self.hd, 2, dtype=torch.int64).float()
        f = 1.0 / self.theta ** (i / self.hd)
        kind = self.rope.get("rope_type", "default")
        if kind == "llama3":    # long waves are slowed, middle ones in part
            low, high = (self.rope[a + "_freq_factor"] for a in ("low", "high"))
            span = self.rope["original_max_position_embeddings"]
            turns = span * f / (2 * np.pi)
            share = ((turns - low) / (high - low)).clamp(0, 1)
            f = share * f + (1 - share) * f / self.rope["factor"]
        elif kind != "default":
            raise SystemExit(f"rope_type {kind} is not supported here")
        angle = (torch.arange(T).float()[:, None] * f).to(self.dtype)
        return angle.cos(), angle.sin()


def rms_norm(x, weight, eps):
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight


def rotate(x, cos, sin):
    """x [S, heads, T, hd]: dimension i turns with dimension i + hd/2."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def forward(model, block, h, seen=None):
    """f_l(h; W), h [S, T, d].  seen: receives the inputs of the linears."""
    S, T, _ = h.shape
    cos, sin = model.angles(T)

    def linear(name, x):
        return x @ block[name + ".weight"].T + block.get(name + ".bias", 0)

    def heads(name, count):                     # [S, count, T, hd]
        return linear(name, x).view(S, T, count, model.hd).transpose(1, 2)

    x = rms_norm(h, block["input_layernorm.weight"], model.eps)
    q = heads("self_attn.q_proj", model.heads)
    k = heads("self_attn.k_proj", model.kv_heads)
    v = heads("self_attn.v_proj", model.kv_heads)
    if "self_attn.q_norm.weight" in block:                      # Qwen3
        q = rms_norm(q, block["self_attn.q_norm.weight"], model.eps)
        k = rms_norm(k, block["self_attn.k_norm.weight"], model.eps)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    repeat = model.heads // model.kv_heads      # query head i reads i // repeat
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    score = q @ k.transpose(2, 3) / model.hd ** 0.5
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    a = score.masked_fill(future, -torch.inf).softmax(-1) @ v
    a = a.transpose(1, 2).reshape(S, T, -1)
    mid = h + linear("self_attn.o_proj", a)
    x2 = rms_norm(mid, block["post_attention_layernorm.weight"], model.eps)
    gate, up = linear("mlp.gate_proj", x2), linear("mlp.up_proj", x2)
    act = gate * torch.sigmoid(gate) * up
    if seen is not None:
        seen.update(qkv=x, o=a, gate_up=x2, down=act)
    return mid + linear("mlp.down_proj", act)


# ------------------------------------------------------------ candidates Q_mk
def to_bf16(x):
    return x.float().bfloat16().to(x.dtype)


def grid(part, bits, o):
    """Scale (an fp16 number) and zero of each row of a group of weights: the
    next fp16 above where the nearest is half a step short of the range.  With
    --scale-type bf16 of those numbers that BF16 has too."""
    symmetric, bf16 = o.symmetric, o.scale_type == "bf16"
    most = 65280 if bf16 else 65504
    lo, hi = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
    top = 2 ** bits - 1
    if symmetric:                               # then zero = 2^(b-1)
        hi = hi.maximum(-lo)
        lo = -hi
    step = (hi - lo) / top
    scale = step.clamp(max=most)
    if bf16:                                    # as the C below fp16's normals
        scale = torch.where(scale < 2 ** -16, scale, to_bf16(scale))
    scale = scale.half()
    short = (step - scale > step / (2 * top + 1)) & (scale < most)
    units = scale.view(torch.int16)
    if bf16:                                    # 8 bits of the 11
        units = units + short * (1 + (units >= 256) + 2 * (units >= 512) +
                                 4 * (units >= 1024)).to(torch.int16)
    else:
        units = units + short
    scale = units.view(torch.half).to(part.dtype)
    scale[step == 0] = 1
    if symmetric:
        return scale, torch.full_like(scale, 2 ** (bits - 1))
    return scale, torch.round(-lo / scale.maximum(
        torch.where(step > most, step, 0))).clamp(0, top)


def shifts(scale, zero, o):
    """--for mlx: values are scale code - bias, bias = scale zero in BF16 or
    fp16; that less scale zero."""
    bias = scale.double() * zero.double()
    if o.layout != "mlx":
        return torch.zeros_like(scale)
    return ((to_bf16(bias) if o.scale_type == "bf16" else
             bias.float().clamp(max=65504).half().double()) - bias).to(
                 scale.dtype)


def encode(w, scale, zero, bits, o):
    return (torch.round((w + shifts(scale, zero, o)) / scale) + zero).clamp(
        0, 2 ** bits - 1)


def dequantize(codes, scales, zeros, group, o):
    """scale (code - zero) - shift in float32, [out, in]."""
    shift = shifts(scales, zeros, o)
    scale, zero, shift = (
        a.float().repeat_interleave(group, 1)[:, :codes.shape[1]]
        for a in (scales, zeros, shift))
    return scale * (codes.float() - zero) - shift


def rtn(w, bits, group, o):
    """Codes [out, in], scales and zeros [out, groups]; w float32."""
    parts = w.split(group, 1)
    grids = [grid(part, bits, o) for part in parts]
    codes = [encode(part, s[:, None], z[:, None], bits, o)
             for part, (s, z) in zip(parts, grids)]
    return torch.cat(codes, 1), *(torch.stack(a, 1) for a in zip(*grids))


def hessian(x, kind):
    """H = (2/tokens) sum_t w_t^2 x_t x_t^T, x [S, T, n] in double."""
    x = x.double()
    if kind == "token":
        weight = 1 / x.norm(dim=-1, keepdim=True)
        weight[weight == torch.inf] = 0         # a token of norm 0
        weight[:, 0] *= 4
        x = x * weight
    x = x.flatten(0, 1)
    return 2 / len(x) * x.T @ x


def factor(H, damping, act_order):
    """Upper U, U^T U = (H + damping mean(diag) 1)^-1; order; dead columns."""
    H, dead = H.clone(), H.diag() == 0
    mean = H.diag().sum() / (~dead).sum()
    H.diagonal()[dead] = 1
    H.diagonal().add_(damping * mean)
    order = (torch.argsort(H.diag(), descending=True, stable=True)
             if act_order else torch.arange(len(H)))
    H = torch.cholesky_inverse(torch.linalg.cholesky(H[order][:, order]))
    return torch.linalg.cholesky(H, upper=True), order, dead


def gptq(w, bits, group, U, order, dead, o, given=None):
    """As rtn.  Column after column, the rounding error moved onto the later
    ones: w_t -= (w_j - q_j) U_jt / U_jj.  given: another program's codes,
    scales and zeros, taken in place of our own one column after another; last
    comes how far they ever are from ours before rounding, in steps, and their
    scales from ours, relative: (0.5, 2^-10) is what rounding explains."""
    off = [0.0, 0.0]
    w = w.double().masked_fill(dead, 0)
    grids = [grid(part, bits, o) for part in w.split(group, 1)]
    w, codes = w[:, order], torch.zeros_like(w)
    for j, c in enumerate(order.tolist()):
        if not o.act_order and c % group == 0:  # from the current weights
            grids[c // group] = grid(w[:, j:j + group], bits, o)
        if given:
            theirs = [a[:, c // group].double() for a in given[1:]]
            ratio = theirs[0] / grids[c // group][0]
            off[1] = max(off[1], (ratio - 1).abs().max())
            grids[c // group] = theirs
        scale, zero = grids[c // group]
        shift = shifts(scale, zero, o)
        codes[:, c] = encode(w[:, j], scale, zero, bits, o)
        if given:
            codes[:, c] = given[0][:, c]
            exact = ((w[:, j] + shift) / scale + zero).clamp(0, 2 ** bits - 1)
            off[0] = max(off[0], (exact - codes[:, c]).abs().max())
        value = scale * (codes[:, c] - zero) - shift
        error = (w[:, j] - value) / U[j, j]
        w[:, j:] -= error[:, None] * U[j, j:]
    return codes, *(torch.stack(a, 1) for a in zip(*grids)), off


def make_candidates(model, tokens, o, dump):
    """[block][linear] -> list over k of float32 Q_mk [out, in]."""
    h, out, off = model.read("model.embed_tokens.weight")[tokens], [], [0, 0]
    theirs = load_file(o.candidates) if o.candidates else {}
    for l in range(model.layers):
        block, seen, shared = model.block(l), {}, {}
        if o.quantizer == "gptq":
            h = forward(model, block, h, seen)
        for name, x in seen.items():
            H = hessian(x, o.hessian)
            dump.put(f"hessian.{l}.{name}", H)
            made = factor(H, o.damping, o.act_order)
            dump.put(f"factor.{l}.{name}", made[0].float())
            shared.update({linear: made for linear in INPUTS[name]})
        out.append({name: [] for name in LINEARS})
        for name, b in itertools.product(LINEARS, o.bits):
            w = model.read(f"model.layers.{l}.{name}.weight", torch.float32)
            if b < 16:
                prefix = f"candidates.model.layers.{l}.{name}.b{b}."
                given = [theirs[prefix + part] for part in PARTS[:3] if theirs]
                codes, scales, zeros, far = (
                    gptq(w, b, o.group, *shared[name], o, given)
                    if shared else (*rtn(w, b, o.group, o), (0, 0)))
                off = [max(x, float(y)) for x, y in zip(off, far)]
                w = dequantize(codes, scales, zeros, o.group, o)
                for part, a in zip(PARTS, (codes.byte(), scales.float(),
                                           zeros.byte(), w)):
                    dump.put(prefix + part, a)
            out[l][name].append(w)
    if theirs:
        print(f"# given codes: {off[0]:.9f} steps off, scales {off[1]:.2g}")
    unit = 2 ** (-7 if o.scale_type == "bf16" else -10)
    if off[0] > 0.501 or off[1] > unit:         # half a unit each
        raise SystemExit(f"{o.candidates}: not this model's GPTQ candidates")
    return out


# -------------------------------------------------------------------- Stage I
def relative_error(y, target):
    """Of each token: ||y_t - target_t||^2 / ||target_t||^2, [S T] in double."""
    y, target = y.double().flatten(0, 1), target.double().flatten(0, 1)
    size = target.square().sum(1)
    size[size == 0] = torch.inf                 # a token of norm 0
    return (y - target).square().sum(1) / size


def pick(o, step):
    """Sequences of step 0, 1, ...: the next places of a permutation that is
    drawn anew when used up (Fisher, Yates)."""
    out = []
    for place in range(step * o.batch, (step + 1) * o.batch):
        order = list(range(o.sequences))
        for j in range(o.sequences - 1, 0, -1):
            i = random(o.seed, place // o.sequences, j) % (j + 1)
            order[i], order[j] = order[j], order[i]
        out.append(order[place % o.sequences])
    return out


def random(*numbers):
    """The SplitMix64 finaliser applied to seed, stream and counter in turn."""
    z = 0
    for number in numbers:
        z = (z ^ (number + 0x9e3779b97f4a7c15)) % 2**64
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9 % 2**64
        z = (z ^ z >> 27) * 0x94d049bb133111eb % 2**64
        z ^= z >> 31
    return z


class Stage1:
    def __init__(self, model, tokens, o, dump):         # tokens [S, T]
        self.model, self.tokens, self.o = model, tokens, o
        self.Q = make_candidates(model, tokens, o, dump)
        self.names = list(itertools.product(range(model.layers), LINEARS))
        self.M, self.K = len(self.names), len(o.bits)
        self.n = torch.tensor([[self.Q[l][name][0].numel()]
                               for l, name in self.names]).double()
        self.b = torch.tensor(o.bits).double()
        zero = torch.zeros(self.M, self.K).double()
        self.theta, self.m1, self.m2, self.S = zero, zero, zero, zero
        self.lam, self.E0, self.t = 0.0, None, 0
        self.tail = []          # candidates' losses, theta, lambda + rho c

    def separable(self, h):
        """S_mk of these sequences, not yet in units of E_0."""
        S = torch.zeros_like(self.theta)
        for m, (l, name) in enumerate(self.names):
            block = self.model.block(l)
            for k, q in enumerate(self.Q[l][name]):
                block[name + ".weight"] = q.to(self.model.dtype)
                y = forward(self.model, block, h[l])
                S[m, k] = relative_error(y, h[l + 1]).mean()
        return S

    def sweep(self, h, p, dump):
        """E_l [L] and g_mk = <dE_l/dW~_m, Q_mk> [M, K] of the mixture p."""
        E, g = [], torch.zeros_like(p)
        for l in range(self.model.layers):
            block, mixed = self.model.block(l), {}
            for j, name in enumerate(LINEARS):
                mixed[name] = sum(
                    p[7 * l + j, k] * q.to(self.model.dtype)
                    for k, q in enumerate(self.Q[l][name])).requires_grad_()
                block[name + ".weight"] = mixed[name]
            y = forward(self.model, block, h[l])
            loss = relative_error(y, h[l + 1])
            loss.mean().backward()
            E.append(loss.mean().item())
            dump.put(f"E.{l + 1}", E[-1])
            dump.put(f"loss.{l + 1}", loss)
            dump.put(f"student.{l + 1}", y.flatten(0, 1).float())
            for j, (name, w) in enumerate(mixed.items()):
                full = f"model.layers.{l}.{name}"
                dump.put(f"mixed.{full}", w.float())
                dump.put(f"grad.{full}", w.grad.float())
                for k, q in enumerate(self.Q[l][name]):
                    g[7 * l + j, k] = (w.grad.double() * q.double()).sum()
        return E, g

    def constraint(self, p):
        return (self.n * self.b * p).sum() / self.n.sum() - self.o.train_bits

    def entropy(self, p):                       # mean of H(p_m)
        return -torch.special.xlogy(p, p).sum() / self.M

    def objective(self, p, g, lam):
        """J with E(W~) replaced by <g, p>, which has its gradient in p."""
        c = self.constraint(p)
        return ((g * p + (p - p * p) * self.S).sum() + lam * c
                - self.o.alpha * self.entropy(p) + self.o.rho / 2 * c * c)

    def step(self, dump):
        o, t = self.o, self.t + 1
        tokens, before = self.tokens[pick(o, self.t)], (self.theta, self.lam)
        theta = self.theta.clone().requires_grad_()
        p = torch.softmax(theta / o.tau, 1)
        p.retain_grad()                         # J's gradient in p: v
        with torch.no_grad():       # h_0 .. h_L of the original model
            h = [self.model.read("model.embed_tokens.weight")[tokens]]
            for l in range(self.model.layers):
                h.append(forward(self.model, self.model.block(l), h[l]))
        E, g = self.sweep(h, p.detach(), dump)
        self.E0 = self.E0 or sum(E)
        if o.relaxation != "soft" and (t == 1 or self.t * o.batch < o.sequences):
            with torch.no_grad():
                self.S = self.S + (self.separable(h) / self.E0 - self.S) / t
        g = g / self.E0
        self.objective(p, g, self.lam).backward()
        v = p.grad - o.alpha / self.M           # d(p ln p) = ln p + 1
        c = self.constraint(p.detach()).item()
        self.adam(theta.grad, t)
        self.lam += o.eta * o.rho * c
        p, self.t = p.detach(), t
        if t > o.steps - max(1, int(o.tail * o.steps)):
            self.tail.append((self.S + g - 2 * p * self.S, before[0],
                              before[1] + o.rho * c))
        seen = dict(
            tokens=tokens.int(), theta_before=before[0], p=p, g=g, v=v,
            moment1=self.m1, moment2=self.m2, theta_after=self.theta, step=t,
            E0=self.E0, E=sum(E) / self.E0, c=c, lambda_before=before[1],
            lambda_after=self.lam, rho=o.rho, alpha=o.alpha, tau=o.tau,
            eta=o.eta, rate=o.rate, train_bits=o.train_bits,
            entropy=self.entropy(p).item(), beta1_power=0.9 ** t,
            beta2_power=0.999 ** t)
        seen |= {f"teacher.{l}": x.flatten(0, 1).float()
                 for l, x in enumerate(h)}
        seen |= {} if o.relaxation == "soft" else {"separable": self.S}
        if t == o.steps:
            seen["scores"], seen["scores_error"] = self.scores()
        for name, value in seen.items():
            dump.put(name, value)
        return seen

    def adam(self, gradient, t, beta1=0.9, beta2=0.999, tiny=1e-8):
        self.m1 = beta1 * self.m1 + (1 - beta1) * gradient
        self.m2 = beta2 * self.m2 + (1 - beta2) * gradient.square()
        m1, m2 = self.m1 / (1 - beta1 ** t), self.m2 / (1 - beta2 ** t)
        self.theta = self.theta - self.o.rate * m1 / (m2.sqrt() + tiny)

    def scores(self):
        """u_mk, least of each module 0, and its standard error.  loss: mean
        over the tail of v without budget and entropy, L.  scaled: S (1 + f)/2,
        f = (L_w - L_b) / (S_w - S_b), w the worst by S, b the best.  theta: v
        is the same for all k at a stationary point."""
        loss, theta, mu = (torch.stack([torch.as_tensor(x) for x in column])
                           for column in zip(*self.tail))
        loss = loss - loss.mean(2, keepdim=True)    # differences matter
        u = loss.mean(0)
        if self.o.score == "scaled":
            far = torch.cat([self.S.argmax(1, True), self.S.argmin(1, True)], 1)
            f = u.gather(1, far).diff() / self.S.gather(1, far).diff()
            u = self.S * ((1 + f.nan_to_num(1)) / 2).clamp(0.5, 2)
        elif self.o.score == "theta":
            u = (-self.o.alpha / self.M * theta.mean(0) / self.o.tau
                 - mu.mean() * self.n * self.b / self.n.sum())
        error = loss.std(0) / len(loss) ** 0.5 if len(loss) > 1 else -1 + 0 * u
        return u - u.amin(1, keepdim=True), error


# ------------------------------------------------------------------- Stage II
def solve(u, size, budget):
    """minimise sum_m u[m, k_m] with sum_m size[m, k_m] <= budget, integers:
    dynamic program over the total.  Returns k [M], None: infeasible."""
    w, room = size - size.min(1, keepdims=True), budget - size.min(1).sum()
    unit = max(1, np.gcd.reduce(w, axis=None))
    w, room = w // unit, int(min(room, w.max(1).sum()) // unit)
    if room < 0:
        return None
    best, taken, choice = np.zeros(room + 1), [], []    # best[r]: within r
    for m in range(len(u)):
        option = np.full((u.shape[1], room + 1), np.inf)
        for k in np.flatnonzero(w[m] <= room):
            option[k, w[m, k]:] = best[:room + 1 - w[m, k]] + u[m, k]
        taken.append(option.argmin(0))
        best = option.min(0)
    for m in reversed(range(len(u))):
        choice.append(int(taken[m][room]))
        room -= w[m, choice[-1]]
    return choice[::-1]


# -------------------------------------------------------------------- anchors
class Anchors:
    """Scores corrected at a budget by the whole model's KL, x an assignment:
        KL     = mean over s, t < T-1 of sum_i p_i ln(p_i / q_i),  p the
                 original's predictions, q those of the model with Q_x
        A_mk   = <dKL/dW_m, Q_mk - Q_m,x(m)>
        C_mk   = 1/2 <D, F D>,  F the Fisher matrix of q, by DRAWS labels y a
                 token: mean of <sum_t d ln q_t(y_t) / dW_m, D_mk>^2 / (T-1)
        t      = A + C;  kappa: the upper median of t_mk / (f_mk - f_m,x(m)), k
                 the next size up or down;  u' = w t + (1-w) kappa f, least 0
    """
    DRAWS, TRUST = 4, (0.5, 0.25, 0.75)

    def __init__(self, fit, evaluations, seed):
        self.fit, self.evaluations, self.seed = fit, evaluations, seed
        model = fit.model
        self.norm = model.read("model.norm.weight")
        self.head = model.read("lm_head.weight" if "lm_head.weight" in
                               model.file else "model.embed_tokens.weight")
        self.S, self.T = fit.tokens.shape
        with torch.no_grad():
            self.p = [self.logits(s, {}).log_softmax(-1) for s in range(self.S)]

    def logits(self, s, weights):
        """[T-1, V] of sequence s; weights: by (block, linear)."""
        model = self.fit.model
        h = model.read("model.embed_tokens.weight")[self.fit.tokens[s:s + 1]]
        for l in range(model.layers):
            block = model.block(l)
            block.update({name + ".weight": w for (at, name), w in
                          weights.items() if at == l})
            h = forward(model, block, h)
        return rms_norm(h[0, :-1], self.norm, model.eps) @ self.head.T

    def weights(self, x):
        return {(l, name): self.fit.Q[l][name][k].to(self.fit.model.dtype)
                for (l, name), k in zip(self.fit.names, x)}

    def divergence(self, s, z):
        p, q = self.p[s], z.log_softmax(-1)
        return (p.exp() * (p - q)).sum()

    def each(self, x):
        """KL of each sequence."""
        with torch.no_grad():
            return torch.stack([self.divergence(s, self.logits(
                s, self.weights(x))) for s in range(self.S)]).double() / (
                    self.T - 1)

    def kl(self, x):
        self.spent += 1
        return self.each(x).mean().item()

    def labels(self, q, s, draw, seed):
        """The first i with q_0 + ... + q_i > u, u of gm_uniform."""
        u = [(random(seed, draw, s * self.T + t) >> 11) * 2.0 ** -53
             for t in range(self.T - 1)]
        below = q.cumsum(-1)[:, :-1] <= torch.tensor(u, dtype=q.dtype)[:, None]
        return below.sum(-1)

    def expand(self, x, seed):
        """A and C [M, K]."""
        A, C = torch.zeros(2, self.fit.M, self.fit.K, dtype=torch.double)
        self.spent += 2 + 2 * (1 + self.DRAWS)      # forward twice; backward
        w = {at: q.clone().requires_grad_() for at, q in self.weights(x).items()}
        for s in range(self.S):
            z = self.logits(s, w)
            lnq = z.log_softmax(-1)
            ways = [self.divergence(s, z)] + [
                lnq.gather(1, self.labels(lnq.detach().exp(), s, draw, seed)
                           [:, None]).sum() for draw in range(1, 1 + self.DRAWS)]
            for way, value in enumerate(ways):
                grads = torch.autograd.grad(value, w.values(), retain_graph=True)
                for m, ((l, name), g) in enumerate(zip(w, grads)):
                    along = torch.stack([(g.double() * q.double()).sum()
                                         for q in self.fit.Q[l][name]])
                    along = along - along[x[m]]
                    if way == 0:
                        A[m] += along
                    else:
                        C[m] += along.square()
        count = self.S * (self.T - 1)
        return A / count, C / (2 * self.DRAWS * count)

    def kappa(self, t, f, x):
        ratios = sorted((t[m, k] / (f[m, k] - f[m, x[m]])).item()
                        for m in range(len(x)) for k in (x[m] - 1, x[m] + 1)
                        if 0 <= k < self.fit.K and f[m, k] != f[m, x[m]])
        return max(0.0, ratios[len(ratios) // 2])

    def make(self, f, size, budget):
        """The anchor's scores [M, K], KL before and after."""
        self.spent = 0
        x = solve(f.numpy(), size, budget)
        before = least = self.kl(x)
        for turn in itertools.count():
            if self.spent + 3 + 2 * (1 + self.DRAWS) > self.evaluations:
                break
            t = sum(self.expand(x, self.seed + turn))
            f = self.kappa(t, f, x) * f
            tried, best = [x], None
            for w in self.TRUST:
                u = w * t + (1 - w) * f
                u = u - u.amin(1, keepdim=True)
                if self.spent + 1 > self.evaluations:
                    break
                tried.append(solve(u.numpy(), size, budget))
                if tried[-1] in tried[:-1]:
                    continue
                if (kl := self.kl(tried[-1])) < least:
                    least, best = kl, (u, tried[-1])
            if best is None:
                break
            f, x = best
        return f, before, least


def read_scores(path):
    """Keys, and the columns as arrays."""
    lines = pathlib.Path(path).read_text().splitlines()
    keys = dict(line[2:].split(" ", 1) for line in lines if line[:1] == "#")
    head, *rows = (line.split("\t") for line in lines if line[:1] != "#")
    return keys, {name: [row[i] for row in rows] for i, name in enumerate(head)}


def judge(made, f, size, scores, keys, anchors, path):
    """Of each anchor: v_i = (u_(i-1) + 2 u_i + u_(i+1)) / 4, by how much its
    optimum has less KL than that of f, and the standard error of that."""
    own = [u for _, u in scores]
    for i, ((limit, u), below, above) in enumerate(zip(
            scores, own[:1] + own, own[1:] + own[-1:])):
        v = 0.5 * u + 0.25 * (below + above)
        before = made.each(solve(f.numpy(), size, limit))
        gains = before - made.each(solve(v.numpy(), size, limit))
        found = (gains.mean().item(), gains.std().item() / len(gains) ** 0.5
                 if len(gains) > 1 else abs(gains.mean().item()))
        far = [abs(x - float(keys[name].split(", ")[i])) / before.mean().item()
               for x, name in zip(found, ("kl_gain", "kl_gain_error"))]
        print(f"# anchor {anchors[i][0]}: gain and its error "
              f"{far[0]:.1e}, {far[1]:.1e} of KL off", flush=True)
        if not all(x <= 1e-4 for x in far):
            raise SystemExit(f"{path}: anchor {anchors[i][0]} departs")
        yield limit, v, torch.tensor(found)


def check_anchors(fit, o):
    """Makes those of --anchors again; gives how scores stand at --solve."""
    keys, columns = read_scores(o.anchors)
    size = (fit.n * fit.b).long().numpy()

    def score(at):
        return torch.tensor([[float(x) for x in columns[f"{b}.score{at}"]]
                             for b in o.bits], dtype=torch.double).T
    made = Anchors(fit, int(keys["refined_evaluations"]),
                   int(keys["refined_seed"]))
    anchors = [a.split() for a in keys["anchors"].split(", ")]
    stated = zip(*([float(x) for x in keys[name].split(", ")]
                   for name in ("kl_before", "kl")))
    scores = []
    for (text, limit, *_), kls in zip(anchors, stated):
        theirs = score("@" + text)
        u, *ours = made.make(score(""), size, int(limit))
        far = [abs(a / b - 1) for a, b in zip(ours, kls)]
        far.append(((u - theirs).abs().max() / theirs.abs().max()).item())
        print(f"# anchor {text}: KL before, after and scores "
              f"{far[0]:.1e}, {far[1]:.1e}, {far[2]:.1e} off", flush=True)
        if max(far) > 1e-4:
            raise SystemExit(f"{o.anchors}: anchor {text} departs")
        scores.append((int(limit), u))
    if not o.solve:
        return None
    budget = int(o.solve * int(fit.n.sum()))
    judged = list(judge(made, score(""), size, scores, keys, anchors, o.anchors))
    a, u, low = judged[0]                       # the nearest on each side
    b, v, high = judged[-1]
    for limit, x, gain in judged:
        a, u, low = (limit, x, gain) if limit <= budget else (a, u, low)
    for limit, x, gain in reversed(judged):
        b, v, high = (limit, x, gain) if limit >= budget else (b, v, high)
    t = min(max((budget - a) / (b - a), 0), 1) if b != a else 0
    near = [low] * (t <= 0.5) + [high] * (t >= 0.5)
    shown = any(gain > 2 * error for gain, error in near)
    return (1 - t) * u + t * v if shown else score("")


# ------------------------------------------------------------------- the dump
class Dump:             # the named arrays that a pattern of --only asks for
    def __init__(self, only):
        self.only, self.tensors = only, {}

    def put(self, name, value):
        if any(fnmatch.fnmatchcase(name, p) for p in self.only):
            value = value if torch.is_tensor(value) else torch.tensor(
                [value], dtype=torch.float64)
            self.tensors[name] = value.detach().clone().contiguous()


def read_tokens(o):
    """S sequences of T tokens; sequence i begins at floor(i count / S)."""
    if o.tokens:
        tokens = torch.from_numpy(np.load(o.tokens).astype(np.int64))
    else:
        tokenizer = Tokenizer.from_file(f"{o.model}/tokenizer.json")
        text = pathlib.Path(o.calib).read_bytes().decode()
        tokens = torch.tensor(tokenizer.encode(
            text, add_special_tokens=False).ids)
    return torch.stack([tokens[i * len(tokens) // o.sequences:][:o.length]
                        for i in range(o.sequences)])


def arguments():
    a = argparse.ArgumentParser(usage=__doc__)
    a.add_argument("model")
    for name, value in dict(
            calib="", tokens="", out="", bits="2,3,4", group=128,
            quantizer="rtn", hessian="token", damping=0.01, candidates="",
            sequences=16, length=512, batch=4, steps=60,
            relaxation="soft-corrected", train_bits=0.0, alpha=0.1, rho=10.0,
            eta=0.02, tau=1.0, rate=0.1, tail=0.33, seed=1, at="", only="*",
            score="", solve=0.0, float=64, anchors="").items():
        a.add_argument("--" + name.replace("_", "-"), type=type(value),
                       default=value)
    a.add_argument("--act-order", action="store_true")
    a.add_argument("--symmetric", action="store_true")
    a.add_argument("--for", dest="layout", default="")
    a.add_argument("--scale-type", default="f16")
    o = a.parse_args()
    o.bits, o.only = [int(b) for b in o.bits.split(",")], o.only.split(",")
    o.at = [int(t) for t in o.at.split(",")] if o.at else [o.steps]
    o.train_bits = o.train_bits or (o.bits[0] + o.bits[-1]) / 2
    o.score = o.score or ("theta" if o.relaxation == "soft" else "scaled")
    return o


def main():
    o = arguments()
    model = Model(pathlib.Path(o.model), getattr(torch, f"float{o.float}"))
    made = Dump(o.only)                         # candidates: in every dump
    fit = Stage1(model, read_tokens(o), o, made)
    scores = check_anchors(fit, o) if o.anchors else None
    if not o.anchors:
        print("step\tE\tc\tentropy\tlambda")
    for t in range(1, 1 if o.anchors else o.steps + 1):
        dump = Dump(o.only if (wanted := o.out and t in o.at) else [])
        s = fit.step(dump)
        print(f"{t}\t{s['E']:.9f}\t{s['c']:.9f}\t{s['entropy']:.9f}\t"
              f"{s['lambda_after']:.9f}", flush=True)
        if wanted:
            name = o.out if o.at == [o.steps] else f"{o.out}-{t}"
            save_file(made.tensors | dump.tensors, name + ".safetensors",
                      {"made_by": f"second.py, torch {torch.__version__}"})
    if o.solve:
        scores = s["scores"] if scores is None else scores
        choice = solve(scores.numpy(), (fit.n * fit.b).long().numpy(),
                       int(o.solve * int(fit.n.sum())))
        print("module\tbits" if choice else "infeasible",
              *(f"model.layers.{l}.{name}\t{o.bits[k]}" for (l, name), k
                in zip(fit.names, choice or [])), sep="\n")


if __name__ == "__main__":
    main()
