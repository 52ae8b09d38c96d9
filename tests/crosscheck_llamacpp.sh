#!/bin/sh
# crosscheck_llamacpp.sh: types chosen by gamma, written by llama-quantize, to
# the byte and the bit (docs/deploy.md, "llama.cpp"); what is not so is refused.
#   sh tests/crosscheck_llamacpp.sh GAMMA PYTHON LLAMACPP [MODEL ...]
# LLAMACPP: its source with build/bin/llama-quantize and libggml-base.so; PYTHON
# has what its convert_hf_to_gguf.py needs.  MODEL: others than the tiny ones.
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
gamma=$1 python=$2 llama=$3 root=$(dirname "$0")/..
shift 3
ggml=$llama/build/bin/libggml-base.so tool="$python $root/tools/llamacpp.py"
export PYTHONPATH="$llama:$llama/gguf-py" PYTHONDONTWRITEBYTECODE=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
types=q2_k,q3_k,q4_0,q4_1,iq4_nl,q4_k,q5_0,q5_1,q5_k,q6_k,q8_0,f16

# convert PRE MODEL: PRE is the tokenizer's cut, which the converter knows by a
# hash and the tiny models do not have; -: it knows.
convert() {
    $python - "$@" "$work/model.gguf" "$llama" >"$work/log" 2>&1 <<'END'
import runpy, sys
pre, model, out, llama = sys.argv[1:]
from conversion.base import TextModel
if pre != "-":
    TextModel.get_vocab_base_pre = lambda *_: pre
sys.argv = ["convert", model, "--outtype", "f32", "--outfile", out]
runpy.run_path(llama + "/convert_hf_to_gguf.py", run_name="__main__")
END
}

# refuse TEXT ARGS...: check ends with 1 and says TEXT.
refuse() {
    text=$1
    shift
    if $tool check "$@" >"$work/log" 2>&1; then
        echo "check passed where it should say \"$text\""
        exit 1
    fi
    grep -q -e "$text" "$work/log" || { cat "$work/log"; exit 1; }
}

# one PRE MODEL EBITS...
one() {
    convert "$1" "$2" || { tail -n 3 "$work/log"; exit 1; }
    model=$2
    shift 2
    c=$work/c.safetensors a=$work/alloc.tsv
    $tool candidates "$work/model.gguf" $types "$c" \
        --lib "$ggml"
    # the gguf package's quantizers are llama.cpp's
    for lib in "" "--lib $ggml"; do
        # shellcheck disable=SC2086
        $tool candidates "$work/model.gguf" q4_0,q4_1,q5_0,q5_1,q8_0,f16,bf16 \
            "$work/old${lib:+.lib}" $lib >"$work/log"
    done
    cmp "$work/old" "$work/old.lib"
    "$gamma" fit "$model" --external "$c" --calib "$root/data/calib.txt" \
        --sequences 4 --length 128 --batch 2 --steps 5 --out "$work/out" \
        --quiet >"$work/log"
    for bits in "$@"; do
        "$gamma" solve "$work/out/scores.tsv" --ebits "$bits" --out "$a" \
            --quiet >"$work/log"
        $tool types "$a" >"$work/types.txt"
        "$llama/build/bin/llama-quantize" --tensor-type-file "$work/types.txt" \
            "$work/model.gguf" "$work/mixed.gguf" q8_0 2 >"$work/log" 2>&1
        $tool check "$a" "$work/mixed.gguf" "$c"
    done
    # what is not as promised: a bit of a tensor, a type, the bytes, a module
    # that the allocation lacks, the embedding's type
    $python - "$work/mixed.gguf" "$work/bad.gguf" <<'END'
import sys
import gguf
data = bytearray(open(sys.argv[1], "rb").read())
tensors = {t.name: t for t in gguf.GGUFReader(sys.argv[1]).tensors}
data[tensors["blk.0.ffn_down.weight"].data_offset + 5] ^= 1
open(sys.argv[2], "wb").write(data)
END
    refuse "blk.0.ffn_down.weight: other weights than" "$a" "$work/bad.gguf" "$c"
    grep -v layers.0.mlp.down_proj "$a" >"$work/short.tsv"
    refuse "blk.0.ffn_down.weight: expected no such module" "$work/short.tsv" \
        "$work/mixed.gguf" "$c"
    sed 's/q8_0/q5_0/' "$work/types.txt" >"$work/other.txt"
    "$llama/build/bin/llama-quantize" --tensor-type-file "$work/other.txt" \
        "$work/model.gguf" "$work/bad.gguf" q8_0 2 >"$work/log" 2>&1
    refuse "expected q8_0, found q5_0" "$a" "$work/bad.gguf" "$c"
    refuse "bytes, by file_bytes" "$a" "$work/bad.gguf" "$c"
    refuse "token_embd.weight: expected f16, found q8_0" "$a" \
        "$work/mixed.gguf" "$c" --embedding f16
}

if [ $# -eq 0 ]; then
    one llama-bpe "$root/data/tiny-llama" 4.6 5.5 7
    one qwen2 "$root/data/tiny-qwen2" 7.5 8 9
    one qwen2 "$root/data/tiny-qwen3" 7.5 8 9
fi
for model in "$@"; do one - "$model" 4.6 5.5 7; done
