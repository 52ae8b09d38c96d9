#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""llamacpp.py: gamma chooses the types of llama.cpp's tensors, llama-quantize
writes the GGUF (docs/deploy.md, "llama.cpp").

  candidates MODEL.gguf TYPES OUT.safetensors [--lib libggml-base.so]
      what each linear becomes in each type (q4_0,q5_k,...), for gamma's
      --external.  MODEL.gguf in F32, F16 or BF16, as convert_hf_to_gguf.py
      makes it.  Where a type's blocks do not divide a row, llama-quantize takes
      another type unasked: no such candidate.  Without --lib the gguf package
      quantizes, which has the oldest types only
  types ALLOC.tsv > types.txt
      for llama-quantize --tensor-type-file; needs no package
  check ALLOC.tsv OUT.gguf CANDIDATES.safetensors
      OUT.gguf has the promised bytes, every tensor its type, every linear the
      candidate's weights to the bit; else says which, exit code 1
  read OUT.gguf > alloc.tsv
      the types that a GGUF has, as an allocation, to compare with

Checked with gguf 0.19.0, numpy 2.4.6, llama.cpp of llama-cpp-python 0.3.36.
"""
import argparse
import ctypes
import json
import os
import re
import struct
import sys

# type: code bits
BITS = {"q2_k": 2, "q3_k": 3, "q4_0": 4, "q4_1": 4, "iq4_nl": 4, "iq4_xs": 4,
        "q4_k": 4, "q5_0": 5, "q5_1": 5, "q5_k": 5, "q6_k": 6, "q8_0": 8,
        "f16": 16, "bf16": 16}
PACKAGE = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "f16", "bf16"]
LINEARS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
           "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
           "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
           "mlp.down_proj": "ffn_down"}
MODULES = {name: module for module, name in LINEARS.items()}


def known(label, where):
    if label not in BITS:
        sys.exit(f"{where}: expected one of {','.join(BITS)}, found "
                 f"\"{label}\"")
    return label


def read_alloc(path):
    """Keys, and {module: (bytes, type)}."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    keys = dict(line[2:].partition(" ")[::2] for line in lines
                if line.startswith("# "))
    table, rows = [x.split("\t") for x in lines if not x.startswith("#")], {}
    for cells in table[1:]:
        row = dict(zip(table[0], cells))
        if not {"module", "bytes", "label"} <= row.keys():
            sys.exit(f"{path}: expected columns module, bytes and label, found "
                     f"\"{' '.join(row)}\", cells \"{' '.join(cells)}\"")
        gguf_name(row["module"], path)
        rows[row["module"]] = int(row["bytes"]), known(
            row["label"], f"{path}: {row['module']}")
    return keys, rows


def gguf_name(module, where):
    """model.layers.3.self_attn.q_proj -> blk.3.attn_q.weight"""
    found = re.fullmatch(r"model\.layers\.(\d+)\.(\w+\.\w+)", module)
    if not found or found[2] not in LINEARS:
        sys.exit(f"{where}: expected a linear such as model.layers.0."
                 f"self_attn.q_proj, found \"{module}\"")
    return f"blk.{found[1]}.{LINEARS[found[2]]}.weight"


def types(args):
    """Regular expressions, the first that is found anywhere in a name counts:
    without ^ and $ attn_q would be attn_q_norm's too, blk.1 blk.11's."""
    for module, (_, label) in read_alloc(args.alloc)[1].items():
        name = gguf_name(module, args.alloc).replace(".", r"\.")
        print(f"^{name}$={label}")
    print(rf"^token_embd\.weight$={args.embedding}")
    print(rf"^output\.weight$={args.output}")


# ------------------------------------------------------------------- the files
class Model:
    """A GGUF: linears {module: tensor}, others {name: tensor}."""
    def __init__(self, path):
        import gguf
        self.path, self.reader = path, gguf.GGUFReader(path)
        self.fields = self.reader.fields
        self.arch = self.fields["general.architecture"].contents()
        self.linears, self.others = {}, {}
        if self.arch not in ("llama", "qwen2", "qwen3"):
            sys.exit(f"{path}: expected llama, qwen2 or qwen3, found "
                     f"{self.arch}")
        if self.reader.alignment != 32 or "split.count" in self.fields:
            sys.exit(f"{path}: expected one file with alignment 32")
        for t in self.reader.tensors:
            found = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", t.name)
            if found and found[2] in MODULES and len(t.shape) == 2:
                name = f"model.layers.{found[1]}.{MODULES[found[2]]}"
                self.linears[name] = t
            elif len(t.shape) == 1 or t.name in ("token_embd.weight",
                                                 "output.weight"):
                self.others[t.name] = t
            else:
                sys.exit(f"{path}: expected linears of {self.arch}, found "
                         f"{t.name}")

    def hf_rows(self, module, weights):
        """Llama's q and k: the converter wrote row (head, half, i) as (head,
        i, half); back to the checkpoint's order."""
        key = {"q_proj": "head_count", "k_proj": "head_count_kv"}.get(
            module.rpartition(".")[2])
        if self.arch != "llama" or not key:
            return weights
        heads = self.fields["llama.attention." + key].contents()
        high, wide = weights.shape
        turned = weights.reshape(heads, high // heads // 2, 2, wide)
        return turned.swapaxes(1, 2).reshape(high, wide)

    def overhead(self, own):
        """Bytes beside the linears after llama-quantize: the header with the
        two keys that it adds, embedding and head in their own types, the rest
        as it is."""
        end = max(f.offset + sum(int(part.nbytes) for part in f.parts)
                  for f in [*self.fields.values(),
                            *(t.field for t in self.reader.tensors)])
        for key in "general.quantization_version", "general.file_type":
            end += 0 if key in self.fields else 8 + len(key) + 4 + 4
        return padded(end) + sum(
            bytes_of(t, own[name]) if name in own else padded(int(t.n_bytes))
            for name, t in self.others.items())


def own_types(model, args):
    """The types of embedding and head; llama-quantize goes on with blocks that
    do not divide a row, and its file has other ones."""
    own = {"token_embd.weight": args.embedding, "output.weight": args.output}
    for name in own.keys() & model.others.keys():
        if bytes_of(model.others[name], own[name]) is None:
            sys.exit(f"{model.path}: {name}: rows of "
                     f"{model.others[name].shape[0]} are no whole blocks of "
                     f"{own[name]}")
    return own


def type_of(tensor):
    return tensor.tensor_type.name.lower()


def kind(label):
    import gguf
    return gguf.GGMLQuantizationType[label.upper()]


def padded(size):
    return -(-size // 32) * 32


def bytes_of(tensor, label):
    """In a file, to where the next tensor begins; None: the type's blocks do
    not divide a row."""
    import gguf
    block, size = gguf.GGML_QUANT_SIZES[kind(label)]
    row, high = int(tensor.shape[0]), int(tensor.shape[1])
    return None if row % block else padded(row // block * size * high)


def open_safetensors(path):
    """Metadata, {name: entry}, where the data begin."""
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
    return header.pop("__metadata__"), header, 8 + size


# ---------------------------------------------------------------- the commands
def quantizer(lib):
    """(float32 [out, in], type) -> the blocks of each row"""
    import gguf
    import numpy
    if lib is None:
        return lambda w, label: gguf.quants.quantize(w, kind(label))
    chunk = ctypes.CDLL(lib).ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    chunk.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2,
                      *[ctypes.c_int64] * 3, ctypes.c_void_p]

    def quantize(w, label):
        block, size = gguf.GGML_QUANT_SIZES[kind(label)]
        high, wide = w.shape
        out = numpy.empty((high, wide // block * size), numpy.uint8)
        n = chunk(kind(label), w.ctypes.data, out.ctypes.data, 0, high, wide,
                  None)
        if n != out.size:
            sys.exit(f"{lib}: {label}: expected {out.size} bytes, found {n}")
        return out
    return quantize


def candidates(args):
    import gguf
    import numpy
    labels = [known(label, "TYPES") for label in args.types.split(",")]
    for label in labels:
        if args.lib is None and label not in PACKAGE:
            sys.exit(f"{label}: expected --lib, the gguf package makes "
                     f"{', '.join(PACKAGE)}")
    model = Model(args.model)
    meta = {f"{label}.bits": str(BITS[label]) for label in labels}
    meta["overhead_bytes"] = str(model.overhead(own_types(model, args)))
    header, made, at = {"__metadata__": meta}, [], 0
    for module, t in model.linears.items():
        if type_of(t) not in ("f32", "f16", "bf16"):
            sys.exit(f"{args.model}: {t.name}: expected F32, F16 or BF16, "
                     f"found {type_of(t)}")
        fitting = [x for x in labels if bytes_of(t, x) is not None]
        if not fitting:
            sys.exit(f"{args.model}: {t.name}: no type fits rows of "
                     f"{t.shape[0]}: expected f16 or bf16 among them")
        for label in fitting:
            dtype = label.upper() if BITS[label] == 16 else "F32"
            size = int(t.n_elements) * (2 if BITS[label] == 16 else 4)
            header[f"{module}.{label}"] = {
                "dtype": dtype, "shape": [int(t.shape[1]), int(t.shape[0])],
                "data_offsets": [at, at + size]}
            meta[f"{module}.{label}.bytes"] = str(bytes_of(t, label))
            made.append((module, label))
            at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    quantize = quantizer(args.lib)
    with open(args.out + ".partial", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for module, label in made:
            t = model.linears[module]
            w = gguf.quants.dequantize(t.data, t.tensor_type)
            w = quantize(numpy.ascontiguousarray(w, numpy.float32), label)
            if BITS[label] < 16:
                w = gguf.quants.dequantize(w, kind(label))
            f.write(model.hf_rows(module, w).tobytes())
    os.replace(args.out + ".partial", args.out)
    print(f"{args.out}: overhead {meta['overhead_bytes']} bytes;", ", ".join(
        f"{label} for {sum(x == label for _, x in made)}" for label in labels),
        f"of {len(model.linears)} modules")


def check(args):
    import gguf
    import numpy
    keys, rows = read_alloc(args.alloc)
    model = Model(args.model)
    meta, entries, base = open_safetensors(args.candidates)
    size, wrong = os.path.getsize(args.model), []

    def expect(what, expected, found):
        if expected != found:
            wrong.append(f"{what}: expected {expected}, found {found}")

    total = int(meta["overhead_bytes"]) + sum(n for n, _ in rows.values())
    expect("bytes, by file_bytes", int(keys.get("file_bytes", size)), size)
    expect("bytes, by modules and overhead", total, size)
    for name, label in own_types(model, args).items():
        if name in model.others:
            expect(name, label, type_of(model.others[name]))
    for module, t in model.linears.items():
        if module not in rows:
            expect(t.name, "no such module", type_of(t))
    for module, (promised, label) in rows.items():
        t, name = model.linears.get(module), f"{module}.{label}"
        if t is None:
            expect(module, label, "no such tensor")
            continue
        expect(t.name, label, type_of(t))
        expect(f"{name}, bytes", meta.get(name + ".bytes"), str(promised))
        if name not in entries or label != type_of(t):
            continue
        begin, end = entries[name]["data_offsets"]
        mine = numpy.fromfile(args.candidates, numpy.uint8, end - begin,
                              offset=base + begin)
        w = t.data if BITS[label] == 16 else gguf.quants.dequantize(
            t.data, t.tensor_type)
        if model.hf_rows(module, w).tobytes() != mine.tobytes():
            wrong.append(f"{t.name}: other weights than {name}")
    if wrong:
        sys.exit("\n".join(f"{args.model}: {line}" for line in wrong))
    print(f"{args.model}: {size} bytes as promised, {len(rows)} modules to the "
          "bit")


def read(args):
    print("module", "bits", "bytes", "label", sep="\t")
    for module, t in Model(args.model).linears.items():
        label = known(type_of(t), f"{args.model}: {t.name}")
        print(module, BITS[label], bytes_of(t, label), label, sep="\t")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function, names in [(candidates, ["model", "types", "out"]),
                            (types, ["alloc"]),
                            (check, ["alloc", "model", "candidates"]),
                            (read, ["model"])]:
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        for name in names:
            command.add_argument(name)
        if function is candidates:
            command.add_argument("--lib", help="llama.cpp's libggml-base.so")
        if function is not read:
            command.add_argument("--embedding", choices=BITS, default="q8_0")
            command.add_argument("--output", choices=BITS, default="q8_0",
                                 help="the head, where it is not the embedding")
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
