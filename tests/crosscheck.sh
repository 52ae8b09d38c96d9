#!/bin/sh
# crosscheck.sh: the C against tools/second.py, which was written from the
# equations and not from the C.  Needs Python with torch; run by
# `make crosscheck`, not by `make test`.
#   sh tests/crosscheck.sh GAMMA PYTHON [MODEL TOKENS.npy]
# On each tiny model: the first and the last block by the script of docs/verify.md;
# RTN and GPTQ: 50 steps, `gamma verify` on all that steps 1
# and 50 saw, and the same bits from two integer programs.  GPTQ codes: see
# second.py --candidates.  The anchors of `gamma refine` made again.  With MODEL: 5 steps of two sequences of 256 tokens,
# without the weights.
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"     # small matrices
gamma=$1 python=$2 root=$(dirname "$0")/..
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
second="$python $root/tools/second.py"

# both FIRST LAST OPTIONS..: dumps of both, compared
both() {
    model=$1 first=$2 last=$3
    shift 3
    for step in "$first" "$last"; do
        "$gamma" dump "$model" "$@" --step "$step" --cache "$work" \
            --out "$work/c-$step.safetensors" --quiet >"$work/log"
    done
    given=
    case "$*" in *gptq*) given="--candidates $work/c-$first.safetensors" ;; esac
    # shellcheck disable=SC2086
    $second "$model" "$@" $given --at "$first,$last" --out "$work/py" \
        --solve 2.5 >"$work/py.log"
    for step in "$first" "$last"; do
        "$gamma" verify "$work/c-$step.safetensors" \
            "$work/py-$step.safetensors" --quiet >"$work/table" || {
            cat "$work/table"
            echo "crosscheck: $model $*: step $step departs"
            exit 1
        }
        echo "$model step $step: $(awk -F'\t' 'NR > 1 { n += $3 } END { print n
            }' "$work/table") tensors agree"
    done
}

# one MODEL BLOCK BITS: tools/one_block.py
one() {
    "$gamma" dump "$1" --calib "$root/data/calib.txt" --sequences 2 \
        --length 256 --batch 2 --steps 2 --group 32 --train-bits "$3" --detail \
        --cache "$work" --out "$work/ours.safetensors" --quiet >"$work/log"
    $python "$root/tools/one_block.py" "$1" "$work/ours.safetensors" "$2" \
        "$work/block.safetensors"
    "$gamma" verify "$work/ours.safetensors" "$work/block.safetensors" \
        --block "$2" --quiet >"$work/table" || {
        cat "$work/table"
        echo "crosscheck: $1: block $2 departs"
        exit 1
    }
    echo "$1 block $2: $(grep -c 'pass$' "$work/table") families agree"
}
one "$root/data/tiny-llama" 0 2.6
one "$root/data/tiny-llama" 7 3
one "$root/data/tiny-qwen2" 0 3.3
one "$root/data/tiny-qwen3" 5 2.6

tiny="--sequences 4 --length 64 --batch 2 --steps 50 --train-bits 2.75"
for name in tiny-llama tiny-qwen2 tiny-qwen3; do
    for quantizer in rtn gptq "gptq --symmetric" \
        "rtn --for mlx --scale-type bf16" "gptq --for mlx --scale-type f16"; do
        data=$root/data
        # mlx cannot hold the others
        case $name$quantizer in tiny-qwen*mlx*) continue ;; esac
        # shellcheck disable=SC2086
        both "$data/$name" 1 50 --calib "$data/calib.txt" $tiny \
            --bits 2,3,4 --group 32 --quantizer $quantizer
        sed -n 's/^#/ /p' "$work/py.log"
        # shellcheck disable=SC2086
        "$gamma" fit "$data/$name" --calib "$data/calib.txt" $tiny --quiet \
            --bits 2,3,4 --group 32 --quantizer $quantizer \
            --out "$work" >"$work/log"
        "$gamma" solve "$work/scores.tsv" --bits 2.5 --out "$work/alloc.tsv" \
            --quiet >"$work/log"
        sed -n '/^module/,$p' "$work/py.log" >"$work/py.alloc"
        sed '/^#/d' "$work/alloc.tsv" | cut -f 1,2 | cmp - "$work/py.alloc"
        echo "$name $quantizer: the same bits at 2.5"
    done
done

# the anchors of refine, and the bits between them
few="--sequences 4 --length 64"
for name in tiny-llama tiny-qwen2 tiny-qwen3; do
    # shellcheck disable=SC2086
    "$gamma" fit "$root/data/$name" --calib "$root/data/calib.txt" $few --batch 2 \
        --steps 5 --bits 2,3,4 --group 32 --out "$work" --quiet >"$work/log"
    "$gamma" refine "$root/data/$name" "$work/scores.tsv" --quiet \
        --calib "$root/data/calib.txt" --budget 2.25,2.75,3.5 --evaluations 31 \
        --out "$work/anchors.tsv" >"$work/log"
    for bits in 2.4 2.5 3.3; do
        "$gamma" solve "$work/anchors.tsv" --bits $bits --out "$work/alloc.tsv" \
            --quiet >"$work/log"
        # shellcheck disable=SC2086
        $second "$root/data/$name" --calib "$root/data/calib.txt" $few \
            --bits 2,3,4 --group 32 --anchors "$work/anchors.tsv" \
            --solve $bits >"$work/py.log"
        sed -n '/^module/,$p' "$work/py.log" >"$work/py.alloc"
        sed '/^#/d' "$work/alloc.tsv" | cut -f 1,2 | cmp - "$work/py.alloc"
    done
    sed -n "s/^#/$name/p" "$work/py.log"
    echo "$name: the same bits between its anchors"
done

# the page that a run leaves, by the W3C's checker
"$gamma" run "$root/data/tiny-llama" --calib "$root/data/calib.txt" \
    --eval "$root/data/test.txt" --out "$work/run" --budget 2.5,3 --no-models \
    --sequences 4 --length 64 --steps 3 --windows 4 --quiet >"$work/log"
$python "$root/tools/check_report.py" "$work/run" --nu

if [ $# = 4 ]; then
    both "$3" 1 5 --tokens "$4" --bits 2,3,4 --group 64 --sequences 2 \
        --length 256 --batch 2 --steps 5 --tail 1 --only "tokens,step,separable,theta*,\
p,c,g,v,moment*,lambda*,scores*,E*,entropy,teacher.*,student.*,loss.*"
fi
echo "crosscheck: passed"
