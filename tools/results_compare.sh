#!/bin/sh
# results_compare.sh OUT MODEL C4.npy WIKITEXT2.npy: ways to choose bits at equal
# sizes, the tables "SmolLM2-135M with scaled scores" of docs/results.md.
#   METHODS=gamma,separable,uniform OPTIONS="--quantizer gptq" \
#       sh tools/results_compare.sh OUT MODEL C4.npy WIKITEXT2.npy
#   and with BUDGETS=3 (3,3.25,3.5,4), EVALUATIONS=160 (16)
# The .npy files hold token ids (tools/check_perplexity.py --tokens-out).  A
# killed run goes on where it stopped.
# SPDX-License-Identifier: GPL-3.0-or-later
set -e
if [ $# -ne 4 ] || [ -z "$METHODS" ]; then sed -n '2,8p' "$0"; exit 2; fi
# shellcheck disable=SC2086
./gamma compare "$2" --tokens "$3" --eval-tokens "$4" \
    --window 1024 --windows 64 --bits 2,3,4,5,6 --group 64 --length 512 \
    --sequences 16 --batch 2 --steps 60 --evaluations "${EVALUATIONS:-16}" \
    --methods "$METHODS" --budgets "${BUDGETS:-3,3.25,3.5,4}" --out "$1" $OPTIONS
