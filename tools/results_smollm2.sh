#!/bin/sh
# results_smollm2.sh MODEL CALIB EVAL OUT: the SmolLM2-135M table of
# docs/results.md.  MODEL is made by tools/make_model.py smollm2 MODEL --dtype
# float32, CALIB is web text, EVAL the raw WikiText-2 test split.
# SPDX-License-Identifier: GPL-3.0-or-later
set -e
[ $# -eq 4 ] || { sed -n '2,4p' "$0"; exit 2; }
./gamma run "$1" --calib "$2" --eval "$3" --out "$4" --bits 2,3,4,5,6 \
    --group 64 --sequences 16 --length 512 --batch 2 --steps 60 \
    --train-bits 3.5 --window 1024 --windows 8 --budgets 3,3.25,3.5,4 \
    --no-models --resume
