#!/usr/bin/env python3
"""Makes tests/golden/foreign: small examples of other tools' allocations, and
what each gives every module of scores.tsv by the tool's own code.

    python3 tools/golden_foreign.py CHECKOUTS tests/golden/foreign

CHECKOUTS holds clones named GPTQModel, auto-round, TensorRT-Model-Optimizer,
exllamav2 (their functions are cut out of these and run; nothing is copied) and
needs pypcre (GPTQModel's regular expressions) and g++ (llama.cpp's: std::regex).
Formats whose tool looks names up in a dict (RCO, MLX, ExLlamaV3) need none.
patterns.tsv: where re, pcre and std::regex find patterns in names.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import ast
import fnmatch
import json
import math
import os
import re
import subprocess
import sys
import types
from importlib.metadata import version

import pcre

PARTS = [("self_attn.q_proj", 128, 128), ("self_attn.k_proj", 64, 128),
         ("self_attn.v_proj", 64, 128), ("self_attn.o_proj", 128, 128),
         ("mlp.gate_proj", 256, 128), ("mlp.up_proj", 256, 128),
         ("mlp.down_proj", 128, 256)]
MODULES = [(f"model.layers.{l}.{p}", o, i) for l in (0, 1, 10)
           for p, o, i in PARTS]
NAMES = [m[0] for m in MODULES]
checkouts, out = sys.argv[1:3]
os.makedirs(out, exist_ok=True)


def cut(repo, path, names, scope):
    """Functions, classes and assignments of a file of a checkout, run here."""
    text = open(f"{checkouts}/{repo}/{path}").read()
    for node in ast.parse(text).body:
        targets = getattr(node, "targets", None) or [getattr(node, "target", node)]
        if {getattr(t, "id", getattr(t, "name", None)) for t in targets} & set(names):
            exec(ast.unparse(node), scope)
    return types.SimpleNamespace(**scope)


def commit(repo):
    return subprocess.run(["git", "-C", f"{checkouts}/{repo}", "log", "-1",
                           "--format=%H"], capture_output=True, text=True,
                          check=True).stdout.strip()


def int_bits(bits, group, zero):
    """codes, bytes of integers in groups along a row; None: as stored."""
    def size(o, i):
        if bits >= 16:
            return o * i * 16, o * i * 2
        groups = o * (math.ceil(i / group) if group > 0 else 1)
        return o * i * bits, math.ceil((o * i * bits + groups * zero) / 8)
    return size


def write(name, text, source, gives):
    """gives(module) -> (bits or 0, codes, bytes or -1, named)."""
    with open(f"{out}/{name}", "w") as f:
        f.write(text if isinstance(text, str) else json.dumps(text, indent=1) + "\n")
    with open(f"{out}/{name}.tsv", "w") as f:
        f.write(f"# from {source}\nmodule\tbits\tcodes\tbytes\tnamed\n")
        for module in MODULES:
            f.write("\t".join(map(str, (module[0], *gives(*module)))) + "\n")


def whole(size, bits, named):
    return lambda o, i: (min(bits, 16), *size(o, i), int(named))


# ------------------------------------------------------------------ GPTQModel
g = cut("GPTQModel", "gptqmodel/quantization/config.py", [
    "_DYNAMIC_NO_MATCH", "_DYNAMIC_PATTERN_CACHE", "_DYNAMIC_OVERRIDE_CACHE",
    "_DYNAMIC_EXACT_LOOKUP_CACHE", "_DYNAMIC_ALL_EXACT_CACHE",
    "_DYNAMIC_REGEX_PATTERN_CACHE", "_extract_literal_regex_pattern",
    "_get_dynamic_patterns", "_resolve_dynamic_override", "dynamic_get",
    "DYNAMIC_FIELD_SYNONYMS"],
    dict(pcre=pcre, **{n: getattr(__import__("typing"), n) for n in (
        "Dict", "List", "Tuple", "Any", "Optional", "Union")}))
GPTQ = {
    "gptq-first.json": {"bits": 4, "group_size": 64, "dynamic": {
        r"+:.*\.0\.mlp\.down_proj$": {"bits": 8, "group_size": 32},
        r".*mlp": {"bits": 3},
        r"mlp": {"bits": 2},
        r"-:.*\.1\..*k_proj": {},
        r"+:model\.layers\.1\.self_attn\.(?!q_proj|k_proj)": {"bits": 2},
        r"^model\.layers\.10\.self_attn\.o_proj$": {"group_size": -1},
        r"^model\.layers\.10\.self_attn\.\w+": {"bits": 5},
        r"-:.*\.10\.mlp\.up": {},      # before all that stands above
        r"+:lm_head": {"bits": 8}}},
    "gptq-lookahead.json": {"bits": 2, "group_size": 128, "dynamic": {
        r"-:^(?!model\.layers\.1\.).*down_proj$": {},
        r"+:^(?=.*(q|k)_proj).*\.[01]\.": {"bits": 4},
        r"model\.layers\.(?:0|1)\.mlp\.(gate|up)_proj$": {"bits": 3},
        r".*layers\.\d{2}\..*?proj": {"bits": 6}}},
    "gptq-plain.json": {"bits": 3, "group_size": 128, "dynamic": None}}
for name, q in GPTQ.items():
    d = q["dynamic"]
    if d:   # as QuantizeConfig's __post_init__ does
        d = {**{k: v for k, v in d.items() if k.startswith("-")},
             **{k: v for k, v in d.items() if not k.startswith("-")}}

    def gives(m, o, i, q=q, d=d):
        hit = g.dynamic_get(d, m)
        if hit is False:
            return whole(int_bits(16, 1, 0), 16, True)(o, i)
        b = g.dynamic_get(d, m, "bits", q["bits"])
        s = g.dynamic_get(d, m, "group_size", q["group_size"])
        return whole(int_bits(b, s, 16 + b), b, hit is not None)(o, i)
    write(name, q, f"GPTQModel {commit('GPTQModel')}, pypcre {version('pypcre')}",
          gives)

# ------------------------------------------------------------------ AutoRound


class Linear:
    pass


class Model:
    def named_modules(self):
        return [("", self)] + [(n, Linear()) for n in NAMES + ["lm_head"]]


a = cut("auto-round", "auto_round/utils/common.py", ["to_standard_regex"],
        dict(re=re))
a = cut("auto-round", "auto_round/inference/utils.py", ["_expand_regex_config"],
        dict(a.__dict__, SUPPORTED_LAYER_TYPES=(Linear,)))
a = cut("auto-round", "auto_round/utils/model.py", ["check_start_with_block_name"],
        dict(a.__dict__))
AUTOROUND = {
    "autoround.json": {"quant_method": "auto-round", "bits": 4, "group_size": 128,
        "sym": True, "block_name_to_quantize": "model.layers.0.,model.layers.1",
        "extra_config": {
            "model.layers.0.mlp.up_proj": {"bits": 8},
            r".*down_proj.*": {"bits": 2, "group_size": 32},
            r".*mlp.*": {"bits": 3},
            r".*layers\.0\.self_attn\.v.*": {"bits": 16, "data_type": "fp"},
            "lm_head": {"bits": 8}}},
    "autoround-outside.json": {"quantization_config": {
        "autoround_version": "0.16.1", "bits": 3, "group_size": 64,
        "to_quant_block_names": ["model.layers.0.", "model.layers.10."],
        "extra_config": {r".*layers\.1\.mlp": {"bits": 4}, r"q_proj": {"bits": 2}}}}}
for name, file in AUTOROUND.items():
    q = file.get("quantization_config", file)
    blocks = q.get("block_name_to_quantize") or q["to_quant_block_names"]
    blocks = blocks.split(",") if isinstance(blocks, str) else blocks
    inside = [n for n in NAMES if a.check_start_with_block_name(n, blocks)]
    extra = a._expand_regex_config(dict(q["extra_config"]), dict(q["extra_config"]),
                                   inside, Model())

    def gives(m, o, i, q=q, extra=extra, inside=inside):
        if m not in inside and m not in extra:
            return whole(int_bits(16, 1, 0), 16, False)(o, i)
        c = extra.get(m, {})
        b, s = c.get("bits", q["bits"]), c.get("group_size", q["group_size"])
        return whole(int_bits(b, s, 16 + b), b, m in extra)(o, i)
    write(name, file, f"AutoRound {commit('auto-round')}", gives)

LAYERS = {"layers.10.self_attn": {"bits": 8, "group_size": 32},
          "model.layers.1.mlp.up_proj": {"bits": 2},
          "layers.*gate_proj": {"bits": 3, "group_size": 64},
          "mlp.up_proj$": {"bits": 5},
          "model.layers.0.mlp.down_proj": {"bits": 16},
          "[qk]_proj": {"bits": 6}}
final = {k: v for k, v in LAYERS.items() if k in NAMES}
for key, v in LAYERS.items():       # step 6 of its layer_config/resolver.py
    if key not in NAMES:
        final.update({n: v for n in NAMES
                      if re.compile(a.to_standard_regex(key)).search(n)})


def layer_gives(m, o, i):
    c = final.get(m, {})
    b, s = c.get("bits", 4), c.get("group_size", 128)
    return whole(int_bits(b, s, 16 + b), b, m in final)(o, i)


write("autoround-layers.json", LAYERS, f"AutoRound {commit('auto-round')}",
      layer_gives)

# ------------------------------------------------------------------- ModelOpt
MIXED = {"producer": {"name": "modelopt", "version": "0.40.0"}, "quantization": {
    "quant_algo": "MIXED_PRECISION", "kv_cache_quant_algo": None,
    "quantized_layers": {
        **{n: {"quant_algo": "NVFP4", "group_size": 16} for n in NAMES[:5]},
        NAMES[5]: {"quant_algo": "FP8"},
        NAMES[6]: {"quant_algo": "W4A16_AWQ", "group_size": 64,
                   "has_zero_point": False, "pre_quant_scale": True}}}}
ALGO = {"NVFP4": (4, 8), "FP8": (8, 0), "W4A16_AWQ": (4, 16)}


def modelopt_size(layer):
    if not layer:
        return whole(int_bits(16, 1, 0), 16, False)
    b, scale = ALGO[layer["quant_algo"]]
    size = int_bits(b, layer.get("group_size", 1), scale)
    if not scale:       # scales of whole tensors are not counted
        return lambda o, i: (b, size(o, i)[0], -1, 1)
    return whole(size, b, True)


write("modelopt-mixed.json", MIXED,
      f"TensorRT-Model-Optimizer {commit('TensorRT-Model-Optimizer')}",
      lambda m, o, i: modelopt_size(
          MIXED["quantization"]["quantized_layers"].get(m))(o, i))
kept = [NAMES[1], *NAMES[7:14]]
t = cut("TensorRT-Model-Optimizer", "modelopt/torch/export/quant_utils.py",
        ["_prefix_wildcard_summarize_exclude_modules"],
        dict(Generator=__import__("typing").Generator,
             logger=types.SimpleNamespace(debug=lambda *_: None)))
excluded = sorted(t._prefix_wildcard_summarize_exclude_modules(
    kept + ["lm_head"], [n for n in NAMES if n not in kept]))
ONE = {"quantization": {"quant_algo": "NVFP4", "group_size": 16,
                        "exclude_modules": excluded}}


def one_gives(m, o, i):
    hit = any(fnmatch.fnmatchcase(m, p) for p in excluded)
    assert hit == (m in kept)
    row = modelopt_size(None if hit else {"quant_algo": "NVFP4", "group_size": 16})
    return (*row(o, i)[:3], int(hit))


write("modelopt-one.json", ONE,
      f"TensorRT-Model-Optimizer {commit('TensorRT-Model-Optimizer')}", one_gives)

# ------------------------------------------------------------------ ExLlamaV2
e = cut("exllamav2", "exllamav2/conversion/qparams.py", ["QParams"],
        dict(math=math))
P = {"q_proj": e.QParams(64, [3, 2], [0.1, 0.9], 4),
     "k_proj": e.QParams(128, [4, 3], [0.25, 0.75], 4),
     "v_proj": e.QParams(32, [5], [1], 4), "o_proj": e.QParams(128, [4], [1], 4),
     "gate_proj": e.QParams(32, [6, 5], [0.1, 0.9], 4),
     "up_proj": e.QParams(64, [3, 2], [0.3, 0.7], 4),
     "down_proj": e.QParams([32, 64, 64], [6, 3, 2], [0.05, 0.2, 0.75], 4)}
JOB = {"bits": 4.0, "strategy": {}}
for l in (0, 1):
    for part, keys in (("self_attn", list(P)[:4]), ("mlp", list(P)[4:])):
        JOB["strategy"][f"model.layers.{l}.{part}"] = {
            "accuracy": 0.98, "total_bits": 0, **{k: P[k].get_dict() for k in keys}}


def exl2_gives(m, o, i):
    if ".10." in m:
        return whole(int_bits(16, 1, 0), 16, False)(o, i)
    p = P[m.rsplit(".", 1)[1]]
    # codes: total_bits without what does not depend on the codes
    groups = blank = 0
    left = i
    for b, share in zip(p.bits, p.bits_prop):
        n = math.ceil(min(i * share, left) / p.group_size[b])
        groups += n
        left -= n * p.group_size[b]
    blank = groups * (48 + o * p.scale_bits) + i * 32
    total = p.total_bits((i, o))
    return (p.bits[0] if len(p.bits) == 1 else 0, total - blank,
            math.ceil(total / 8), 1)


write("exl2-job.json", JOB, f"exllamav2 {commit('exllamav2')}", exl2_gives)

# ------------------------------------ names in a dict: RCO, MLX, ExLlamaV3
RCO = {"assignment": {n: 2 + k % 3 for k, n in enumerate(NAMES)},
       "target_avg_bits": 2.5, "bitwidths": [2, 3, 4]}
write("rco.json", RCO, "IST-DASLab/RCO 9a1e09c, run_build_checkpoint.py",
      lambda m, o, i: (RCO["assignment"][m], RCO["assignment"][m] * o * i, -1, 1))
MAP = {"assignment": {n: 2 + k % 3 for k, n in enumerate(NAMES[:7])},
       "target_avg_bits": 9.5, "bitwidth_map": {"2": 2.25, "3": 3.125}}
write("rco-map.json", MAP, "IST-DASLab/RCO 9a1e09c, src/search/quant.py",
      lambda m, o, i: (MAP["assignment"][m], MAP["assignment"][m] * o * i,
                       math.ceil(o * i * MAP["bitwidth_map"][
                           str(MAP["assignment"][m])] / 8)
                       if str(MAP["assignment"][m]) in MAP["bitwidth_map"] else -1,
                       1) if m in MAP["assignment"]
      else whole(int_bits(16, 1, 0), 16, False)(o, i))
MLX = {"model_type": "llama", "quantization": {
    "group_size": 64, "bits": 4, "mode": "affine", NAMES[0]: False,
    NAMES[6]: {"group_size": 32, "bits": 6}, NAMES[8]: True,
    NAMES[9]: {"bits": 8}, NAMES[10]: {"bits": 4, "group_size": 32, "mode": "mxfp4"},
    "model.embed_tokens": {"group_size": 32, "bits": 8}}}
MLX["quantization_config"] = MLX["quantization"]


def mlx_gives(m, o, i):
    q = MLX["quantization"]
    v = q.get(m, True)
    if v is False:
        return whole(int_bits(16, 1, 0), 16, True)(o, i)
    # nn.quantize: True takes the defaults of the call, a dict those of the layer
    v = q if v is True else {"group_size": 64, **v}
    scale = 8 if v.get("mode") == "mxfp4" else 32
    return whole(int_bits(v["bits"], v["group_size"], scale), v["bits"],
                 m in q)(o, i)


write("mlx.json", MLX, "mlx-lm d78bf58, mlx_lm/utils.py (load_model)", mlx_gives)
EXL3 = {"bits": 3.0, "head_bits": 6, "quant_method": "exl3", "tensor_storage": {
    n: {"stored_tensors": {
        f"{n}.suh": {"shape": [i], "n_bytes": 2 * i, "dtype": "torch.float16"},
        f"{n}.svh": {"shape": [o], "n_bytes": 2 * o, "dtype": "torch.float16"},
        f"{n}.trellis": {"shape": [i // 16, o // 16, 16 * (2 + k % 3)],
                         "n_bytes": i * o * (2 + k % 3) // 8,
                         "dtype": "torch.int16"}},
        "quant_format": "exl3", "bits_per_weight": 2 + k % 3}
    for k, (n, o, i) in enumerate(MODULES)}}
EXL3["tensor_storage"]["model.norm"] = {"stored_tensors": {}}
write("exl3.json", EXL3, "exllamav3 4f8ad01, exllamav3/conversion/quant_config.py",
      lambda m, o, i: (2 + NAMES.index(m) % 3, o * i * (2 + NAMES.index(m) % 3),
                       o * i * (2 + NAMES.index(m) % 3) // 8 + 2 * (o + i), 1))

# ------------------------------------------------------------------ llama.cpp
CPP = r"""
#include <cctype>
#include <iostream>
#include <regex>
int main() { std::string p, n; while (std::getline(std::cin, p) &&
    std::getline(std::cin, n)) try { std::cout << std::regex_search(n,
    std::regex(p)) << "\n"; } catch (std::regex_error &) { std::cout << "e\n"; } }
"""
with open("/tmp/foreign-regex.cpp", "w") as f:
    f.write(CPP)
subprocess.run(["g++", "-O1", "-o", "/tmp/foreign-regex", "/tmp/foreign-regex.cpp"],
               check=True)


def std_regex(pairs):
    return subprocess.run(["/tmp/foreign-regex"], text=True, check=True,
                          input="".join(f"{p}\n{n}\n" for p, n in pairs),
                          capture_output=True).stdout.split()


GGUF = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down"}
# weights, bytes of a block: ggml/src/ggml-common.h; code bits by the name
TYPES = {"q6_k": (256, 210, 6), "q5_k": (256, 176, 5), "q8_0": (32, 34, 8),
         "q5_1": (32, 24, 5), "q4_0": (32, 18, 4), "iq2_xxs": (256, 66, 2),
         "iq4_nl": (32, 18, 4), "f16": (1, 2, 16)}
FALLBACK = {"q6_k": "q8_0", "q5_k": "q5_1", "iq2_xxs": "iq4_nl"}
LIST = [("blk.0.FFN_down", "q6_k"), (r"blk\.(0|1)\.attn_v", "Q5_K"),
        (r"ffn_(up|gate)\.weight$", "iq2_xxs"), ("ffn", "q8_0"),
        (r"blk\.1.*attn", "f16"), ("attn", "q4_0"), ("token_embd", "q8_0")]


def llama_gives(m, o, i):
    _, _, l, part = m.split(".", 3)
    tensor = f"blk.{l}.{GGUF[part]}.weight"
    hits = std_regex([(p.lower(), tensor) for p, _ in LIST])
    t = LIST[hits.index("1")][1].lower()
    if i % TYPES[t][0]:
        t = FALLBACK[t]
    block, size, bits = TYPES[t]
    return bits, o * i * bits, o * i // block * size, 1


write("llama.txt", "\n".join(f"{p}={t}" for p, t in LIST[:3]) + "\n"
      + " ".join(f"{p}={t}" for p, t in LIST[3:]) + "\n",
      "llama.cpp 007dbbf, src/llama-quant.cpp; std::regex of g++", llama_gives)

# ------------------------------------------------------------------- patterns
TRY = [r"", r"mlp", r"^mlp", r"proj$", r"a|b", r"(a|)b", r"model\.layers\.\d+\.",
       r"layers\.[13579]\.", r"layers\.[^0]\.", r"^(?!.*down).*mlp", r"(?=.*k_)model",
       r"layers.1.", r"o{2}", r"o{1,2}d", r"(o|d){3,}", r"x*y?z*$", r"(x*)*$",
       r"\bup_proj\b", r"attn\.\w_proj", r"\D\.\d\.", r"(?:q|k|v)_proj$", r"[a-c]t+n",
       r".*?proj", r"[-.]m", r"[m-]lp", r"(l.*){4}", r"((a.?)+n)+", r"^.{20}\.",
       r"^.{5,21}\.s", r"a{0}model", r"(?!x)", r"\S+\s", r"[\w.]+$", r"[^\d]{6}\.",
       r"a\Bt", r"\Battn"]
NAMED = ["model.layers.0.mlp.down_proj", "model.layers.11.self_attn.k_proj", "ood",
         "a", "model.layers.1.mlp.up_proj", "-x.[y]"]
with open(f"{out}/patterns.tsv", "w") as f:
    f.write(f"# from Python {sys.version.split()[0]} re, pypcre "
            f"{version('pypcre')}, std::regex of g++: all agree\n"
            "pattern\tname\tanywhere\tstart\n")
    found = std_regex([(p, n) for p in TRY for n in NAMED])
    for k, (p, n) in enumerate((p, n) for p in TRY for n in NAMED):
        search, match = re.search(p, n), re.match(p, n)
        assert bool(search) == bool(pcre.compile(p).search(n)), (p, n)
        assert bool(match) == bool(pcre.compile(p).match(n)), (p, n)
        assert bool(search) == (found[k] == "1"), (p, n, found[k])
        f.write(f"/{p}/\t{n}\t{int(bool(search))}\t{int(bool(match))}\n")

with open(f"{out}/scores.tsv", "w") as f:
    f.write("# format gamma-scores 1\n# overhead_bytes 1000\nmodule\tout\tin\t"
            "weights" + "".join(f"\t{b}.bytes\t{b}.score" for b in (2, 3, 4, 8))
            + "\n")
    for k, (n, o, i) in enumerate(MODULES):
        f.write(f"{n}\t{o}\t{i}\t{o * i}" + "".join(
            f"\t{o * i * b // 8 + o * (i // 128) * 2 + o * math.ceil(i // 128 * b / 8)}"
            f"\t{(1 + k * 7 % 11) / 4 ** (b - 2):.9g}" for b in (2, 3, 4, 8)) + "\n")
