#!/bin/sh
# test_refine.sh: `gamma refine` as its user meets it: scores whose optimum is
# compare's `refined`, the KL that eval finds, the same bytes for any threads
# and kernels, modules with fewer candidates, GPTQ, bad input.
# SPDX-License-Identifier: GPL-3.0-or-later
# options are several words:
# shellcheck disable=SC2086
w=build/test/refine-work
. tests/shell.sh

# told COLUMN: of the last command's table;  key NAME FILE: of a table's head
told() {
    awk -F '\t' -v c="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == c) at = i }
        NR == 2 { print $at }' "$w/out"
}
key() { sed -n "s/^# $1 //p" "$2"; }
holds() { if awk "BEGIN { exit !($1) }"; then ok; else bad "$1"; fi; }
bits() { grep -v '^#' "$1" | cut -f 1,2; }

# ---------------------------------------------------------- a model that gains
m=data/tiny-llama
text="--calib data/calib.txt --sequences 16 --length 256"
quick fit $m $text --bits 2,3,4 --group 64 --out "$w/a"
s=$w/a/scores.tsv
quick refine $m "$s" --calib data/calib.txt --bits 2.25 --out "$w/r.tsv"
holds "$(told moved) > 0 && $(told modules) == 56 && $(told evaluations) <= 16"
holds "$(told kl) < $(told kl_before) && $(told kl) > 0"
if [ "$(key refined_at "$w/r.tsv")" = "2.25 bits" ] &&
    [ "$(key refined_on "$w/r.tsv")" = "$(key calibration_hash "$s")" ]; then ok
else bad "keys: $(grep '^# refined' "$w/r.tsv")"; fi
if [ "$(grep -v '^#' "$w/r.tsv" | cut -f 7,10,13 | sort -u | grep -v stderr)" \
    = "-	-	-" ]; then ok; else bad "standard errors, which are unknown"; fi
succeed solve "$w/r.tsv" --bits 2.25 --out "$w/alloc.tsv"
succeed check "$w/alloc.tsv" "$w/r.tsv"
quick compare $m $text --bits 2,3,4 --group 64 --text data/test.txt --window 64 \
    --windows 2 --scores "$s" --methods refined --evaluations 16 \
    --budgets 2.25 --out "$w/a"
bits "$w/alloc.tsv" >"$w/ours"
bits "$w/a/alloc-refined-2.25.tsv" >"$w/theirs"
same "$w/ours" "$w/theirs"
# said elsewhere, and nowhere else
for case in "--bits 2.25:0" "--bits 2.5:1" "--ebits 2.25:1" "--budgets 2.25:1" \
    "--frontier:1" "--bits 2.2:1"; do
    $fast solve "$w/r.tsv" ${case%:*} >"$w/out" 2>"$w/err"
    found=$(grep -c "^$w/r.tsv: refined at 2.25 bits; elsewhere " "$w/err")
    if [ "$found" = "${case#*:}" ]; then ok; else bad "$case: $found"; fi
done

# --------------------------------------- KL as eval finds it; the same bytes
# all 128 tokens, so sequences are windows; made-up scores leave much to gain
g=tests/golden/tiny-llama
tokens="--tokens tests/golden/mistakes/tokens.npy"
succeed fit $g $tokens --sequences 4 --length 32 --bits 2,3,4 --group 16 \
    --steps 2 --out "$w/g"
awk -F '\t' -v OFS='\t' '/^#/ || /^module/ { print; next }
    { for (i = 1; i <= 3; i++) $(3 * i + 3) = 1 / (1 + NR * i % 7); print }' \
    "$w/g/scores.tsv" >"$w/g/poor.tsv"
succeed refine $g "$w/g/poor.tsv" $tokens --bits 3 --evaluations 46 \
    --out "$w/g/r.tsv"
holds "$(told moved) > 0"
cp "$w/out" "$w/table"
for pair in poor:kl_before r:kl; do
    succeed solve "$w/g/${pair%:*}.tsv" --bits 3 --out "$w/g/alloc.tsv"
    succeed eval $g $tokens --window 32 --windows 4 --alloc "$w/g/alloc.tsv"
    found=$(awk -F '\t' '$1 == "quantized" { print $5 }' "$w/out")
    stated=$(printf %.6f "$(key "${pair#*:}" "$w/g/r.tsv")")
    if [ "$found" = "$stated" ]; then ok; else
        bad "${pair#*:}: $stated, eval finds $found"; fi
done
succeed refine $g "$w/g/poor.tsv" $tokens --bits 3 --evaluations 46 \
    --threads 1 --isa scalar --out "$w/g/scalar.tsv"
same "$w/g/r.tsv" "$w/g/scalar.tsv"
# less than a round: the scores as they were
succeed refine $g "$w/g/poor.tsv" $tokens --bits 3 --evaluations 2 \
    --out "$w/g/none.tsv"
holds "$(told moved) == 0 && $(told kl) == $(told kl_before)"
for name in poor none; do
    grep -v '^#' "$w/g/$name.tsv" | cut -f 1-6,8,9,11,12 >"$w/$name"
done
same "$w/poor" "$w/none"
# refined again, from where it ended
succeed refine $g "$w/g/r.tsv" $tokens --bits 3 --out "$w/g/again.tsv"
holds "$(told kl_before) == $(printf %.8g "$(key kl "$w/g/r.tsv")")"

# ------------------------------------------- fewer candidates, GPTQ, bad input
succeed fit $g $tokens --sequences 4 --length 32 --bits 2,3,4 --group 16 \
    --steps 2 --allow 'v_proj=4;o_proj=2,4' --out "$w/allow"
succeed refine $g "$w/allow/scores.tsv" $tokens --bits 3 --out "$w/allow/r.tsv"
succeed solve "$w/allow/r.tsv" --bits 3 --out "$w/allow/alloc.tsv"
found=$(awk '/v_proj/ && $2 != 4 || /o_proj/ && $2 == 3' "$w/allow/alloc.tsv")
if [ -z "$found" ]; then ok; else bad "not allowed: $found"; fi
succeed fit $g $tokens --sequences 4 --length 32 --bits 2,3,4 --group 16 \
    --steps 2 --quantizer gptq --out "$w/gptq"
succeed refine $g "$w/gptq/scores.tsv" $tokens --sequences 2 --length 64 \
    --bits 3 --out "$w/gptq.tsv"
if [ "$(key refined_sequences "$w/gptq.tsv")" = 2 ] &&
    [ "$(key refined_length "$w/gptq.tsv")" = 64 ]; then ok; else
    bad "extent: $(grep '^# refined' "$w/gptq.tsv")"; fi

missing=$(key candidates_hash "$w/gptq/scores.tsv")
mkdir "$w/empty"
expect 1 "gamma: $w/empty/candidates-$(printf %.12s "$missing").safetensors: no such file, and GPTQ candidates are made from a calibration text: expected the directory that gamma fit wrote to (--cache DIR), or that text (--calib FILE)" \
    refine $g "$w/gptq/scores.tsv" $tokens --bits 3 --length 31 \
    --cache "$w/empty" --out "$w/x.tsv"
succeed refine $g "$w/gptq/scores.tsv" $tokens --bits 3 --cache "$w/empty" \
    --out "$w/made.tsv"
succeed refine $g "$w/gptq/scores.tsv" $tokens --bits 3 --out "$w/found.tsv"
same "$w/made.tsv" "$w/found.tsv"
s=$w/g/scores.tsv
grep -v '^#' "$s" >"$w/hand.tsv"
refuse() {
    code=$1 message=$2
    shift 2
    expect "$code" "$message" refine $g "$s" $tokens "$@"
    if [ ! -e "$w/x.tsv" ]; then ok; else bad "$* left $w/x.tsv"; fi
}
refuse 2 'gamma: refine: --out FILE is missing' --bits 3
refuse 2 'gamma: refine: expected one of --bits, --ebits, --bytes, found none' \
    --out "$w/x.tsv"
refuse 2 'gamma: refine: expected one of --bits, --ebits, --bytes, found several' \
    --out "$w/x.tsv" --bits 3 --ebits 3
refuse 2 "gamma: --out: $s is also an input; expected another file" \
    --bits 3 --out "$s"
refuse 5 "gamma: $w/nowhere/x.tsv.partial: cannot create: No such file or directory" \
    --bits 3 --out "$w/nowhere/x.tsv"
refuse 2 'gamma: --sequences: expected a whole number from 1 to 1048576, found "0"' \
    --bits 3 --out "$w/x.tsv" --sequences 0
refuse 2 'gamma: --evaluations: expected a whole number from 1 to 1000000, found "0"' \
    --bits 3 --out "$w/x.tsv" --evaluations 0
refuse 1 'gamma: calibration text: expected at least 1024 tokens (4 sequences of 256), found 128' \
    --bits 3 --out "$w/x.tsv" --length 256
refuse 3 'gamma: --bits 1: no assignment is that small; reachable are 2 to 4 bits per weight, next below: none, above: 2' \
    --bits 1 --out "$w/x.tsv"
"$gamma" refine $g "$s" $tokens --bits 3 --out "$w/x.tsv" --max-memory 1M \
    --quiet 2>"$w/err"
if [ $? -eq 6 ] && grep -q '^gamma: --max-memory: rivals needs [0-9.]* MB, expected at most 1.0 MB; lower --sequences or --length$' \
    "$w/err" && [ ! -e "$w/x.tsv" ]; then ok; else bad "memory: $(cat "$w/err")"; fi
expect 2 'gamma: expected either a text or --tokens FILE.npy, found none' \
    refine $g "$s" --bits 3 --out "$w/x.tsv"
expect 1 "gamma: $s: model_hash: expected $(key model_hash "$w/a/scores.tsv"), found $(key model_hash "$s")" \
    refine $m "$s" $tokens --bits 3 --out "$w/x.tsv"
expect 1 "gamma: $w/hand.tsv: expected scores of gamma fit, which say what candidates they are of (candidates, candidates_hash), found none" \
    refine $g "$w/hand.tsv" $tokens --bits 3 --out "$w/x.tsv"
finish
