#!/bin/sh
# test_baq.sh: the command baq as its user meets it: rows for GPTQ and BAQ, the
# same again from its files, the written weights as candidates, refusals.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/baq-cli
. tests/shell.sh

# holds "AWK CONDITION" WHAT: over the rows of the last output
holds() {
    if awk -F '\t' "NR > 1 { n++; if (!($1)) wrong = 1 }
        END { exit wrong || n == 0 }" "$w/out"; then ok; else
        bad "$2: $(cat "$w/out")"; fi
}

m=data/tiny-llama
small="--calib data/calib.txt --out $w/a --sequences 4 --length 64"
measure="--text data/test.txt --window 64 --windows 2"

succeed baq --help
# shellcheck disable=SC2086
succeed baq $m $small $measure --rate 2.5,3 --match bits
# six levels for 2.5 bits of GPTQ; BAQ within the rate; measured
holds 'n != 1 || ($1 == "gptq" && $3 == 2.584963)' "GPTQ at 2.5"
holds 'n != 2 || ($1 == "baq" && $3 <= 2.5 && $3 > 2.49)' "BAQ at 2.5"
holds 'n != 4 || ($1 == "baq" && $3 <= 3 && $3 > 2.99)' "BAQ at 3"
holds '$7 > 5 && $8 > 0 && $10 > 0 && $10 <= 1' "measured"
cp "$w/out" "$w/first"
# from the files that are there
# shellcheck disable=SC2086
succeed baq $m $small $measure --rate 2.5,3 --match bits
if cmp -s "$w/out" "$w/first"; then ok; else bad "another result"; fi
# one byte of the weights changed: seen; removed: made again
file=$(awk -F '\t' '$1 == "baq" && $2 == 3 { print $11 }' "$w/out")
cp "$file" "$w/kept"
size=$(wc -c <"$file")
printf 'x' | dd of="$file" bs=1 seek=$((size - 7)) conv=notrunc 2>/dev/null
# shellcheck disable=SC2086
expect 1 "gamma: $file: damaged: expected SHA-256 $(sha256sum <"$w/kept" |
    cut -d ' ' -f 1) (weights_sha256 of ${file%.safetensors}.tsv), found $(
    sha256sum <"$file" | cut -d ' ' -f 1); remove it and it will be made again" \
    baq $m $small --rate 3 --match bits --no-gptq
rm "$file"
# shellcheck disable=SC2086
succeed baq $m $small --rate 3 --match bits --no-gptq
if cmp -s "$file" "$w/kept"; then ok; else bad "other weights"; fi
# shellcheck disable=SC2086
succeed baq $m $small $measure --rate 2.5,3 --match bits
# one of them as candidates, all 3 bits by name
file=$(awk -F '\t' '$1 == "baq" && $2 == 3 { print $11 }' "$w/out")
kl=$(awk -F '\t' '$1 == "baq" && $2 == 3 { print $8 }' "$w/out")
{ echo "name	bits"
  for l in 0 1 2 3 4 5 6 7; do
      for j in self_attn.q self_attn.k self_attn.v self_attn.o mlp.gate mlp.up \
          mlp.down; do echo "model.layers.$l.${j}_proj	3"; done
  done; } >"$w/three.tsv"
# shellcheck disable=SC2086
succeed eval $m $measure --alloc "$w/three.tsv" --external "$file"
again=$(awk -F '\t' '$1 == "quantized" { print $5 }' "$w/out")
if [ "$again" = "$kl" ]; then ok; else bad "KL $kl, as candidates $again"; fi
# shellcheck disable=SC2086
succeed baq $m $small --rate 3 --no-gptq
holds 'n == 1 && $1 == "baq" && $7 == "-"' "one row, not measured"
expect 2 'gamma: --match: expected none, bits or ebits, found "x"' \
    baq $m --out "$w/a" --match x
expect 2 'gamma: baq: --out DIR is missing' baq $m
# shellcheck disable=SC2086
expect 2 'gamma: --rate: expected more than 0 and at most 8 bits, found 0' \
    baq $m $small --rate 0
# shellcheck disable=SC2086
expect 3 'gamma: --rate 0.1: with all columns pruned, ranges and levels still take 0.2226 bits per weight' \
    baq $m $small --rate 0.1 --match ebits

finish
