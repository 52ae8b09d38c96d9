#!/usr/bin/env python3
# golden_model.py OUT [--full]: golden vectors for model.c, from transformers.
#
# Writes into OUT: six tiny random checkpoints (tiny-*/, as save_pretrained
# makes them), model.vec (hidden states and logits), grad.vec (gradients of one
# block by torch autograd), rope.vec (cosines and sines), and with --full also
# full.vec (one decoder layer of Llama-3.1-8B's and of Qwen3-8B's shape).
#
# Every expected value is what transformers computes in float32 with eager
# attention.  Beside it stands `distance`: the largest difference between that
# and the same quantity in float64, computed below without transformers.  A
# test allows a small multiple of it: two float32 implementations may each be
# that far from the truth.
# SPDX-License-Identifier: GPL-3.0-or-later
import argparse
import math
import os

import numpy as np
import torch
import transformers
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig,
                          MistralForCausalLM, Phi3Config, Phi3ForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM)
from transformers.models.llama import modeling_llama
from transformers.models.qwen3 import modeling_qwen3

LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
           "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
           "mlp.down_proj"]
POSITIONS = [0, 1, 2, 17, 255, 1023, 2000, 2047]
TOKENS = 2048
SEED = 2605


# --------------------------------------------------------- gm_random in numpy
def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def gm_random(seed, stream, counter):
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        z = mix(np.uint64(seed) + golden)
        z = mix(z ^ (np.uint64(stream) + golden))
        return mix(z ^ (counter + golden))


def fill(seed, stream, shape, base, spread):
    """float32(base + (u - 1/2) spread), u = gm_uniform(seed, stream, i)"""
    n = math.prod(shape)
    out = np.empty(n, np.float32)
    for a in range(0, n, 1 << 20):
        b = min(n, a + (1 << 20))
        u = (gm_random(seed, stream, np.arange(a, b, dtype=np.uint64))
             >> np.uint64(11)).astype(np.float64) * 2.0 ** -53
        out[a:b] = base + (u - 0.5) * spread
    return torch.from_numpy(out.reshape(shape))


def sample(seed, stream, count, n):
    return [int(x) % n for x in
            gm_random(seed, stream, np.arange(count, dtype=np.uint64))]


# ------------------------------------------------------------------ vec files
class Vec:
    def __init__(self, path, what):
        self.file = open(path, "w")
        self.file.write(
            f"# {what}\n# made by tools/golden_model.py with transformers "
            f"{transformers.__version__}, torch {torch.__version__}, numpy "
            f"{np.__version__}\n# float32, eager attention; distance: from "
            "the same quantity in float64\n")

    def put(self, name, values, kind="f"):
        values = torch.as_tensor(values).detach()
        shape = " ".join(str(n) for n in values.shape) or "1"
        self.file.write(f"@ {name} {kind} {shape}\n")
        flat = values.reshape(-1).tolist()
        show = "{:d}" if kind == "i" else "{:.9g}"
        for i in range(0, len(flat), 8):
            self.file.write(" ".join(show.format(x)
                                     for x in flat[i:i + 8]) + "\n")

    def distance(self, name, found, truth):
        d = (found.double() - truth).abs().max().item()
        size = truth.abs().max().item()
        print(f"{name}: largest {size:.3g}, distance {d:.3g}")
        self.put(name + ".distance", [d])


# ------------------------------------- the definition once more, in float64
def rms(x, w, eps):
    return w * x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)


def turn(x, cos, sin):
    half = cos.shape[-1]
    a, b, rest = x.split([half, half, x.shape[-1] - 2 * half], -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)


def angles(rotary, positions):
    """cos and sin in float64 of the float32 angles"""
    f = torch.tensor(positions).float()[:, None] * rotary.inv_freq.float()
    s = rotary.attention_scaling
    return f.double().cos() * s, f.double().sin() * s


# The linears that Phi-3 has joined, as the others have them.
JOINED = {"self_attn.qkv_proj.weight": LINEARS[:3],
          "mlp.gate_up_proj.weight": LINEARS[4:6]}


def apart(config, name, tensor):
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    share = [heads, kv, kv] if len(JOINED[name]) == 3 else [1, 1]
    unit = tensor.shape[0] // sum(share)
    return zip([n + ".weight" for n in JOINED[name]],
               tensor.split([unit * n for n in share]))


def block64(config, p, h, cos, sin):
    """One block; p: its parameters by name, in float64; h [S, T, d]"""
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    for name in JOINED:
        if name in p:
            p = p | dict(apart(config, name, p[name]))
    hd = p["self_attn.k_proj.weight"].shape[0] // kv
    S, T, _ = h.shape

    def linear(name, x):
        y = x @ p[name + ".weight"].T
        return y + p[name + ".bias"] if name + ".bias" in p else y

    def split(x, n):
        return x.reshape(S, T, n, hd).transpose(1, 2)

    eps = config.rms_norm_eps
    x = rms(h, p["input_layernorm.weight"], eps)
    q = split(linear("self_attn.q_proj", x), heads)
    k = split(linear("self_attn.k_proj", x), kv)
    v = split(linear("self_attn.v_proj", x), kv)
    if "self_attn.q_norm.weight" in p:
        q = rms(q, p["self_attn.q_norm.weight"], eps)
        k = rms(k, p["self_attn.k_norm.weight"], eps)
    q, k = turn(q, cos, sin), turn(k, cos, sin)
    k = k.repeat_interleave(heads // kv, 1)
    v = v.repeat_interleave(heads // kv, 1)
    s = q @ k.transpose(2, 3) / math.sqrt(hd)
    s = s.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
    o = (s.softmax(-1) @ v).transpose(1, 2).reshape(S, T, heads * hd)
    mid = h + linear("self_attn.o_proj", o)
    x = rms(mid, p["post_attention_layernorm.weight"], eps)
    gate = linear("mlp.gate_proj", x)
    act = gate * torch.sigmoid(gate) * linear("mlp.up_proj", x)
    return mid + linear("mlp.down_proj", act)


def doubles(module):
    return {n: t.detach().double() for n, t in module.named_parameters()}


# --------------------------------------------------------------- tiny models
def tiny_models():
    common = dict(vocab_size=64, max_position_embeddings=TOKENS,
                  bos_token_id=0, eos_token_id=0,
                  attn_implementation="eager")
    yield "tiny-llama", LlamaForCausalLM(LlamaConfig(
        hidden_size=48, intermediate_size=80, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5,
        rope_parameters=dict(rope_type="llama3", rope_theta=10000.0,
                             factor=8.0, low_freq_factor=1.0,
                             high_freq_factor=4.0,
                             original_max_position_embeddings=256),
        **common)), torch.bfloat16, "1GB"
    yield "tiny-bias", LlamaForCausalLM(LlamaConfig(
        hidden_size=48, intermediate_size=72, num_hidden_layers=1,
        num_attention_heads=6, num_key_value_heads=3, head_dim=10,
        attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
        **common)), torch.float32, "1GB"
    yield "tiny-qwen2", Qwen2ForCausalLM(Qwen2Config(
        hidden_size=48, intermediate_size=88, num_hidden_layers=2,
        num_attention_heads=6, num_key_value_heads=2,
        tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=1e6),
        **common)), torch.float16, "40KB"
    yield "tiny-qwen3", Qwen3ForCausalLM(Qwen3Config(
        hidden_size=56, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        rope_parameters=dict(rope_type="default", rope_theta=1e6),
        **common)), torch.bfloat16, "60KB"
    # as long as its window; one sequence more would not be
    yield "tiny-mistral", MistralForCausalLM(MistralConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, head_dim=12,
        sliding_window=TOKENS,
        rope_parameters=dict(rope_type="default", rope_theta=1e6),
        **common)), torch.bfloat16, "1GB"
    # 12 of a head's 16 elements are turned
    yield "tiny-phi3", Phi3ForCausalLM(Phi3Config(
        hidden_size=64, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0,
        original_max_position_embeddings=TOKENS,
        rope_parameters=dict(
            rope_type="longrope", rope_theta=1e4, partial_rotary_factor=0.75,
            factor=16.0, short_factor=[1.0, 1.05, 1.1, 1.2, 1.4, 1.9],
            long_factor=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        **common)), torch.bfloat16, "40KB"


def randomise(model, generator):
    """Weights large enough for attention to be sharp and norms to matter"""
    for name, p in model.named_parameters():
        z = torch.randn(p.shape, generator=generator)
        if "norm" in name:
            z = 1 + 0.3 * z
        elif name.endswith("bias"):
            z = 0.3 * z
        elif "embed" not in name:
            z = z * (1.5 if "q_proj" in name or "k_proj" in name
                     else 1.0) / math.sqrt(p.shape[1])
        p.data.copy_(z)


def run_model(model, tokens):
    """Outputs of all blocks and the logits, float32 and float64"""
    outs = []
    hooks = [l.register_forward_hook(lambda m, i, o: outs.append(
        o[0] if isinstance(o, tuple) else o)) for l in model.model.layers]
    with torch.no_grad():
        logits = model(input_ids=tokens[None], use_cache=False).logits[0]
        for hook in hooks:
            hook.remove()
        h = model.model.embed_tokens.weight.double()[tokens][None]
        cos, sin = angles(model.model.rotary_emb, list(range(len(tokens))))
        truth = []
        for layer in model.model.layers:
            h = block64(model.config, doubles(layer), h, cos, sin)
            truth.append(h[0])
        x = rms(h[0], model.model.norm.weight.double(),
                model.config.rms_norm_eps)
        truth.append(x @ model.lm_head.weight.double().T)
    return [o.reshape(len(tokens), -1) for o in outs] + [logits], truth


def put_model(vec, name, model, tokens):
    found, truth = run_model(model, tokens)
    for l, (f, t) in enumerate(zip(found, truth)):
        label = f"{name}.h{l + 1}" if l < len(found) - 1 else name + ".logits"
        vec.distance(label, f, t)
        vec.put(label, f[POSITIONS])


# The same weights under other rotary angles.
ROPES = {
    "rope-linear": dict(rope_type="linear", rope_theta=10000.0, factor=4.0),
    "rope-yarn": dict(rope_type="yarn", rope_theta=10000.0, factor=4.0,
                      original_max_position_embeddings=512),
}


def put_block_gradient(vec, name, model, number):
    """dE/d(everything) of the last block, E = <d_y, y>; two sequences"""
    S, T, d = 2, 450, model.config.hidden_size
    layer = model.model.layers[-1]
    h = fill(SEED, 100 + number, (S, T, d), 0, 3).requires_grad_()
    d_y = fill(SEED, 200 + number, (S, T, d), 0, 2)
    mask = torch.full((T, T), torch.finfo(torch.float32).min).triu(1)
    rotary = model.model.rotary_emb
    y = layer(h, attention_mask=mask[None, None],
              position_embeddings=rotary(h, torch.arange(T)[None]))
    y = y[0] if isinstance(y, tuple) else y
    layer.zero_grad()
    y.backward(d_y)
    p = {n: t.requires_grad_() for n, t in doubles(layer).items()}
    h64 = h.detach().double().requires_grad_()
    block64(model.config, p, h64, *angles(rotary, list(range(T)))
            ).backward(d_y.double())
    pairs = []
    for n, t in layer.named_parameters():
        if n in JOINED:
            pairs += [(part, g, g64) for (part, g), (_, g64) in
                      zip(apart(model.config, n, t.grad),
                          apart(model.config, n, p[n].grad))]
        else:
            pairs.append((n, t.grad, p[n].grad))
    for i, (n, found, truth) in enumerate(pairs + [("h", h.grad, h64.grad)]):
        vec.distance(f"{name}.{n}", found, truth)
        at = sample(SEED, 300, 32, found.numel())
        vec.put(f"{name}.{n}", found.reshape(-1)[at])


# ---------------------------------------------------------------- rope tables
def put_ropes(vec):
    llama31 = dict(rope_type="llama3", rope_theta=5e5, factor=8.0,
                   low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=8192)
    yarn = dict(rope_type="yarn", rope_theta=1e6, factor=4.0,
                original_max_position_embeddings=32768)
    cases = {
        "default-10000": (64, dict(rope_type="default", rope_theta=1e4)),
        "default-1e6": (128, dict(rope_type="default", rope_theta=1e6)),
        "smollm2": (64, dict(rope_type="default", rope_theta=1e5)),
        "linear": (128, dict(rope_type="linear", rope_theta=1e4, factor=4.0)),
        "llama31": (128, llama31),
        "llama32": (64, dict(llama31, factor=32.0)),
        "yarn": (128, yarn),
        "yarn-mscale": (64, dict(yarn, factor=40.0, mscale=1.0,
                                 mscale_all_dim=0.8, beta_fast=24,
                                 beta_slow=2, truncate=False)),
        "yarn-attention": (64, dict(yarn, attention_factor=1.25)),
    }
    positions = [1, 17, 2000, 8191]
    for name, (hd, rope) in cases.items():
        config = LlamaConfig(hidden_size=hd * 2, num_attention_heads=2,
                             max_position_embeddings=131072,
                             rope_parameters=dict(rope))
        rotary = modeling_llama.LlamaRotaryEmbedding(config)
        cos, sin = rotary(torch.zeros(1), torch.tensor([positions]))
        vec.put(name + ".frequency", rotary.inv_freq)
        vec.put(name + ".cos", cos[0, :, :hd // 2])
        vec.put(name + ".sin", sin[0, :, :hd // 2])


# ------------------------------------------------------- full-width layers
FULL_POSITIONS = [0, 1, 2, 3, 7, 17, 63, 100, 255, 511, 777, 1023, 1500,
                  1776, 1999, 2000]
# name: stream of the generator, base, standard deviation
FULL = {
    "self_attn.q_proj.weight": (0, 0, 0.03),
    "self_attn.k_proj.weight": (1, 0, 0.03),
    "self_attn.v_proj.weight": (2, 0, 0.02),
    "self_attn.o_proj.weight": (3, 0, 0.02),
    "mlp.gate_proj.weight": (4, 0, 0.02),
    "mlp.up_proj.weight": (5, 0, 0.02),
    "mlp.down_proj.weight": (6, 0, 0.02),
    "input_layernorm.weight": (7, 0.5, 0.1),
    "post_attention_layernorm.weight": (8, 0.5, 0.1),
    "self_attn.q_norm.weight": (9, 1.5, 0.2),
    "self_attn.k_norm.weight": (10, 1.5, 0.2),
}


def put_full(vec, name, layer, rotary, config, seed):
    for n, p in layer.named_parameters():
        stream, base, std = FULL[n]
        p.data = fill(seed, stream, tuple(p.shape), base,
                      float(np.float64(std) * math.sqrt(12)))
    T, d = len(FULL_POSITIONS), config.hidden_size
    h = fill(seed, 11, (1, T, d), 0, 2)
    mask = torch.full((T, T), torch.finfo(torch.float32).min).triu(1)
    with torch.no_grad():
        y = layer(h, attention_mask=mask[None, None],
                  position_embeddings=rotary(
                      h, torch.tensor([FULL_POSITIONS])))
        y = y[0] if isinstance(y, tuple) else y
        truth = block64(config, doubles(layer), h.double(),
                        *angles(rotary, FULL_POSITIONS))
    found = y.reshape(-1)
    vec.distance(name, found, truth.reshape(-1))
    vec.put(name, found[sample(seed, 12, 1024, found.numel())])


def full(path):
    vec = Vec(path, "one decoder layer of full width, weights from gm_random")
    vec.put("positions", FULL_POSITIONS, "i")
    config = LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=131072,
        rms_norm_eps=1e-5, attn_implementation="eager",
        rope_parameters=dict(rope_type="llama3", rope_theta=5e5, factor=8.0,
                             low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=8192))
    put_full(vec, "llama31", modeling_llama.LlamaDecoderLayer(config, 0),
             modeling_llama.LlamaRotaryEmbedding(config), config, 31)
    config = Qwen3Config(
        hidden_size=4096, intermediate_size=12288, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=40960,
        rms_norm_eps=1e-6, attn_implementation="eager",
        rope_parameters=dict(rope_type="default", rope_theta=1e6))
    put_full(vec, "qwen3", modeling_qwen3.Qwen3DecoderLayer(config, 0),
             modeling_qwen3.Qwen3RotaryEmbedding(config), config, 38)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--full", action="store_true")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    where = lambda name: os.path.join(args.out, name)
    vec = Vec(where("model.vec"),
              "hidden states after each block and logits of tiny models")
    grad = Vec(where("grad.vec"), "gradients of <d_y, y> of the last block")
    rope = Vec(where("rope.vec"), "rotary cosines and sines")
    put_ropes(rope)
    tokens = torch.tensor(sample(SEED, 1, TOKENS, 64))
    vec.put("positions", POSITIONS, "i")
    generator = torch.Generator().manual_seed(SEED)
    for number, (name, model, dtype, shard) in enumerate(tiny_models()):
        randomise(model, generator)
        model = model.to(dtype)
        model.save_pretrained(where(name), max_shard_size=shard)
        generation = where(os.path.join(name, "generation_config.json"))
        if os.path.exists(generation):
            os.remove(generation)
        # loaded afresh: .to(dtype) has rounded the rotary frequencies as well
        model = type(model).from_pretrained(
            where(name), dtype=torch.float32,
            attn_implementation="eager").eval()
        put_model(vec, name, model, tokens)
        put_block_gradient(grad, name, model, number)
        for rope_name, parameters in ROPES.items():
            if name != "tiny-llama":
                continue
            config = LlamaConfig.from_dict(model.config.to_dict())
            config.rope_parameters = dict(parameters)
            config._attn_implementation = "eager"
            other = LlamaForCausalLM(config).eval()
            other.load_state_dict(model.state_dict())
            config.save_pretrained(where(rope_name))
            put_model(vec, rope_name, other, tokens)
    if args.full:
        full(where("full.vec"))


if __name__ == "__main__":
    main()
