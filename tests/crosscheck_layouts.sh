#!/bin/sh
# crosscheck_layouts.sh: directories of other runtimes, loaded by these: weights,
# logits, 32 greedy tokens (tools/check_layouts.py).  Not run by `make test`,
# which compares committed words instead (tests/golden/layouts.vec).
#   sh tests/crosscheck_layouts.sh GAMMA PYTHON [MODEL ...]
# A library that PYTHON lacks is named and left out: mlx-lm, compressed-tensors
# (with transformers) and GPTQModel need not live together.  MODEL: others than
# the tiny ones, groups of 32 too.
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
gamma=$1 python=$2 root=$(dirname "$0")/..
shift 2
gptq="--quantizer gptq --calib $root/data/calib.txt --sequences 4 --length 128"

# one LAYOUT MODEL BITS OPTIONS...
one() {
    to=$1 from=$2 widths=$3
    shift 3
    $python "$root/tools/check_layouts.py" "$gamma" "$to" "$from" \
        --bits "$widths" "$@"
}

for pair in mlx:mlx_lm compressed-tensors:compressed_tensors gptq:gptqmodel; do
    layout=${pair%:*}
    if ! $python -c "import ${pair#*:}" 2>/dev/null; then
        echo "$layout: $python has no ${pair#*:}, left out"
        continue
    fi
    case $layout in
    mlx) bits=2,3,4,5,6,8 ;;
    compressed-tensors) bits=1,2,3,4,5,6,7,8 ;;
    gptq) bits=2,3,4,8 ;;
    esac
    for model in "$root"/data/tiny-llama "$root"/data/tiny-qwen2 \
        "$root"/data/tiny-qwen3 "$@"; do
        one $layout "$model" $bits
        one $layout "$model" $bits --rest "$gptq"
        one $layout "$model" $bits --rest "$gptq --act-order"
        one $layout "$model" ${bits#1,} --rest=--symmetric
        [ $layout != mlx ] || one $layout "$model" 4,6 --scale-type bf16
        [ $layout != mlx ] || one $layout "$model" 3,8 --made-for bf16
        [ $layout != mlx ] || one $layout "$model" 3,8 --made-for f16 --rest "$gptq"
        [ $layout != gptq ] || one $layout "$model" 5,6,7
    done
done
