#!/bin/sh
# results_compare.sh: every way to choose bits at equal sizes, the tables of
# docs/results.md ("All methods at equal sizes").
#   sh tools/results_compare.sh OUT                          embedded models
#   sh tools/results_compare.sh OUT MODEL C4.npy WIKITEXT2.npy SCORES.tsv
#   METHODS=gamma,separable,uniform OPTIONS="--quantizer gptq" \
#       sh tools/results_compare.sh OUT MODEL C4.npy WIKITEXT2.npy
#   and with BUDGETS=3 (3,3.25,3.5,4), EVALUATIONS=160 (16)
# The .npy files hold token ids (tools/check_perplexity.py --tokens-out); SCORES:
# of tools/results_smollm2.sh, and the others see 4 of its 16 sequences; without,
# GAMMA learns here and all see 16, evaluated on 64 windows, not 8.  A killed run
# goes on where it stopped.
# SPDX-License-Identifier: GPL-3.0-or-later
set -e
out=$1
if [ $# -eq 1 ]; then
    for model in tiny-llama tiny-qwen2 tiny-qwen3; do
        ./gamma compare data/$model --calib data/calib.txt \
            --text data/test.txt --window 256 --bits 2,3,4 --group 64 \
            --sequences 16 --length 256 --steps 60 --evaluations 30 \
            --out "$out/$model"
    done
    exit
fi
if [ $# -eq 5 ]; then
    set -- "$@" --windows 8 --sequences 4 --evaluations 24 --scores "$5"
else
    # shellcheck disable=SC2086
    set -- "$@" - --windows 64 --sequences 16 --batch 2 --steps 60 \
        --evaluations "${EVALUATIONS:-16}" --methods "$METHODS" $OPTIONS
fi
model=$2 calibration=$3 evaluation=$4
shift 5
./gamma compare "$model" --tokens "$calibration" --eval-tokens "$evaluation" \
    --window 1024 --bits 2,3,4,5,6 --group 64 --length 512 \
    --budgets "${BUDGETS:-3,3.25,3.5,4}" --out "$out" "$@"
