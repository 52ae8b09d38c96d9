#!/bin/sh
# results_gptq.sh MODEL CALIB EVAL OUT GROUP BITS WINDOW WINDOWS VARIANT...: the
# GPTQ tables of docs/results.md.  For each VARIANT (options of gamma fit in one
# word, such as "--quantizer gptq --sequential") and each of BITS ("3 4"), the
# model with these bits everywhere, measured on the first WINDOWS windows of
# EVAL (0: all).  GPTQ's calibration: SEQUENCES x LENGTH tokens of CALIB (16 x 512).
# SPDX-License-Identifier: GPL-3.0-or-later
set -e
[ $# -ge 9 ] || { sed -n '2,6p' "$0"; exit 2; }
model=$1 calib=$2 text=$3 out=$4 group=$5 bits=$6 window=$7 windows=$8
shift 8
mkdir -p "$out"
layers=$(./gamma info "$model" | awk '$1 == "blocks" { print $2 }')
printf 'variant\tbits\tperplexity\tkl\tkl_error\n'
for variant; do
    case $variant in
    *gptq*) read="--calib $calib --sequences ${SEQUENCES:-16} --length ${LENGTH:-512}" ;;
    *)      read= ;;
    esac
    for b in $bits; do
        awk -v n="$layers" -v b="$b" 'BEGIN {
            split("self_attn.q self_attn.k self_attn.v self_attn.o mlp.gate " \
                  "mlp.up mlp.down", name, " ")
            print "module\tbits"
            for (l = 0; l < n; l++) for (j = 1; j <= 7; j++)
                print "model.layers." l "." name[j] "_proj\t" b }' \
            >"$out/uniform-$b.tsv"
        # shellcheck disable=SC2086
        ./gamma eval "$model" --text "$text" --window "$window" \
            --windows "$windows" --alloc "$out/uniform-$b.tsv" \
            --bits "$(echo "$bits" | tr ' ' ,)" --group "$group" $variant \
            $read --cache "$out" --quiet >"$out/row"
        awk -v v="$variant" -v b="$b" '$1 == "quantized" {
            printf "%s\t%s\t%.3f\t%.5f\t%.5f\n", v, b, $2, $5, $6 }' "$out/row"
    done
done
