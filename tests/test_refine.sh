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
if [ "$(key anchors "$w/r.tsv" | cut -d ' ' -f 1,2)" = "2.25 $(
        awk '$1 == "#" && $2 == "weights" { print int($3 * 2.25) }' "$s")" ] &&
    [ "$(key refined_on "$w/r.tsv")" = "$(key calibration_hash "$s")" ]; then ok
else bad "keys: $(grep '^# refined' "$w/r.tsv")"; fi
# Stage I's stand beside them as they were
grep -v '^#' "$w/r.tsv" | cut -f 1-13 >"$w/beside"
grep -v '^#' "$s" >"$w/before"
same "$w/beside" "$w/before"
succeed solve "$w/r.tsv" --bits 2.25 --out "$w/alloc.tsv"
succeed check "$w/alloc.tsv" "$w/r.tsv"
quick compare $m $text --bits 2,3,4 --group 64 --text data/test.txt --window 64 \
    --windows 2 --scores "$s" --methods refined --evaluations 16 \
    --budgets 2.25 --out "$w/a"
bits "$w/alloc.tsv" >"$w/ours"
bits "$w/a/alloc-refined-2.25.tsv" >"$w/theirs"
same "$w/ours" "$w/theirs"

# ------------------------------------------------------- anchors, and between
# each is what one alone would be, in whatever order they are named
quick refine $m "$s" --calib data/calib.txt --budgets 3,2.25 --out "$w/p.tsv"
quick refine $m "$s" --calib data/calib.txt --bits 3 --out "$w/one.tsv"
column() {      # FILE NAME...: these columns
    awk -F '\t' -v OFS='\t' -v want="$2" '/^#/ { next }
        !n { n = split(want, w, " "); for (i = 1; i <= n; i++)
                for (j = 1; j <= NF; j++) if ($j == w[i]) at[i] = j }
        { for (i = 1; i <= n; i++) printf "%s%s", $at[i], i < n ? OFS : "\n" }' "$1"
}
for pair in 3:one 2.25:r; do
    of=${pair%:*} file=${pair#*:}
    columns="module 2.score@$of 3.score@$of 4.score@$of"
    column "$w/p.tsv" "$columns" >"$w/of-p"
    column "$w/$file.tsv" "$columns" >"$w/of-$file"
    same "$w/of-p" "$w/of-$file"
done
for name in kl_before kl; do
    if [ "$(key $name "$w/p.tsv")" = "$(key $name "$w/r.tsv"), $(
            key $name "$w/one.tsv")" ]; then ok; else
        bad "$name: $(key $name "$w/p.tsv")"; fi
done
# by construction no worse on its text than Stage I's at that budget
holds "$(key kl "$w/r.tsv") < $(key kl_before "$w/r.tsv")"
holds "$(key kl "$w/one.tsv") <= $(key kl_before "$w/one.tsv")"
# refined at 3 from a file with an anchor at 2.25: from the scores that it has
# there, that anchor's
quick refine $m "$w/r.tsv" --calib data/calib.txt --bits 3 --out "$w/two.tsv"
holds "$(told kl_before) != $(printf %.8g "$(key kl_before "$w/one.tsv")")"
# which are taken: the mean where its KL is less than by the learned scores by two
# standard errors at the nearest anchor (at 2.25), else the learned ones (at 3)
gain() { key "$1" "$w/p.tsv" | tr -d ' ' | cut -d , -f "$2"; }
holds "$(gain kl_gain 1) > 2 * $(gain kl_gain_error 1)"
holds "$(gain kl_gain 2) <= 2 * $(gain kl_gain_error 2)"
# scores between, by the awk that anybody has, as a table without anchors
N=$(key weights "$w/p.tsv")
for B in 2 2.25 2.4 2.75 3 3.5; do
    column "$w/p.tsv" "module out in weights 2.bytes 3.bytes 4.bytes 2.score@2.25 3.score@2.25 4.score@2.25 2.score@3 3.score@3 4.score@3 2.score 3.score 4.score" |
        awk -v gains="$(key kl_gain "$w/p.tsv"), $(key kl_gain_error "$w/p.tsv")" -F '\t' -v OFS='\t' -v B=$B -v N="$N" 'BEGIN {
                a = int(N * 2.25); b = N * 3; x = int(N * B + 1e-6)
                t = x <= a ? 0 : x >= b ? 1 : (x - a) / (b - a)
                split(gains, g, ", ")
                taken = (t <= 0.5 && g[1] > 2 * g[3]) ||
                        (t >= 0.5 && g[2] > 2 * g[4]) }
            NR == 1 { print "module", "out", "in", "weights", "2.bytes",
                "3.bytes", "4.bytes", "2.score", "3.score", "4.score"; next }
            { for (i = 8; i < 11; i++) {
                low = 0.5 * $i + 0.25 * ($i + $(i + 3))
                high = 0.5 * $(i + 3) + 0.25 * ($i + $(i + 3))
                $i = taken ? sprintf("%.17g", (1 - t) * low + t * high) : $(i + 6) }
                NF = 10; print }' >"$w/between.tsv"
    succeed solve "$w/p.tsv" --bits $B --out "$w/alloc.tsv"
    bits "$w/alloc.tsv" >"$w/ours"
    succeed check "$w/alloc.tsv" "$w/p.tsv"
    objective=$(key objective_real "$w/alloc.tsv")
    succeed solve "$w/between.tsv" --bits $B --out "$w/plain.tsv"
    bits "$w/plain.tsv" >"$w/theirs"
    same "$w/ours" "$w/theirs"
    if [ "$objective" = "$(key objective_real "$w/plain.tsv")" ]; then ok; else
        bad "$B bits: $objective, the mean by awk $(
            key objective_real "$w/plain.tsv")"; fi
done
for way in "--bytes 900000" "--ebits 3.1"; do
    succeed solve "$w/p.tsv" $way --out "$w/alloc.tsv"
    succeed check "$w/alloc.tsv" "$w/p.tsv"
done
sed 's/^# scores_at .*/# scores_at 2.25/' "$w/alloc.tsv" >"$w/forged.tsv"
"$gamma" check "$w/forged.tsv" "$w/p.tsv" >"$w/out" 2>"$w/err"
if [ $? -eq 7 ] && grep -q scores_at "$w/err"; then ok; else
    bad "forged scores_at: $(cat "$w/err")"; fi
# of all budgets: the scores as learned, and it says so
"$gamma" solve "$w/p.tsv" --frontier >"$w/frontier" 2>"$w/err"
if grep -q '^the scores of Stage I alone' "$w/err"; then ok; else
    bad "frontier: $(cat "$w/err")"; fi
succeed solve "$s" --frontier
same "$w/out" "$w/frontier"
expect 2 'gamma: --budget: 3 and 3.0 are the same budget' \
    refine $m "$s" --calib data/calib.txt --budgets 3,2.25,3.0 --out "$w/x.tsv"

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
# rows of compare are of all the scores, anchors too
for name in poor r; do
    succeed compare $g $tokens --sequences 4 --length 32 --bits 2,3,4 --group 16 \
        --eval-tokens tests/golden/mistakes/tokens.npy --window 32 \
        --scores "$w/g/$name.tsv" --methods gamma --budget 3 --out "$w/g/rows"
done
found=$(awk -F '\t' '/^gamma/ { printf "%.8g ", $11 }' "$w/g/rows/compare.tsv")
stated="$(printf '%.8g ' "$(key kl_before "$w/g/r.tsv")" "$(key kl "$w/g/r.tsv")")"
if [ "$found" = "$stated" ]; then ok; else bad "rows: $found, not $stated"; fi
# less than a round: the scores as they were
succeed refine $g "$w/g/poor.tsv" $tokens --bits 3 --evaluations 2 \
    --out "$w/g/none.tsv"
holds "$(told moved) == 0 && $(told kl) == $(told kl_before)"
for name in poor none; do
    grep -v '^#' "$w/g/$name.tsv" >"$w/$name"
done
for column in 6 9 12; do cut -f $column "$w/poor"; done | grep -v score >"$w/was"
for column in 14 15 16; do cut -f $column "$w/none"; done | grep -v score >"$w/is"
same "$w/was" "$w/is"
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
refuse 2 'gamma: refine: expected one of --budget, --bits, --ebits, --bytes, found none' \
    --out "$w/x.tsv"
refuse 2 'gamma: refine: expected one of --budget, --bits, --ebits, --bytes, found several' \
    --out "$w/x.tsv" --bits 3 --ebits 3
refuse 2 "gamma: --out: $s is also an input; expected another file" \
    --bits 3 --out "$s"
refuse 5 "gamma: $w/nowhere/x.tsv.partial: cannot create: No such file or directory" \
    --bits 3 --out "$w/nowhere/x.tsv"
refuse 2 'gamma: --sequences: expected a whole number from 1 to 1048576, found "0"' \
    --bits 3 --out "$w/x.tsv" --sequences 0
refuse 2 'gamma: --evaluations: expected a whole number from 1 to 1000000, found "0"' \
    --bits 3 --out "$w/x.tsv" --evaluations 0
refuse 1 "gamma: tests/golden/mistakes/tokens.npy: expected at least 1024 tokens (4 sequences of 256), found 128" \
    --bits 3 --out "$w/x.tsv" --length 256
refuse 3 'gamma: a budget of 1 bits: no assignment is that small; reachable are 2 to 4 bits per weight, next below: none, above: 2' \
    --bits 1 --out "$w/x.tsv"
"$gamma" refine $g "$s" $tokens --bits 3 --out "$w/x.tsv" --max-memory 1M \
    --quiet 2>"$w/err"
if [ $? -eq 6 ] && grep -q '^gamma: --max-memory: anchors needs [0-9.]* MB, expected at most 1.0 MB; lower --sequences or --length$' \
    "$w/err" && [ ! -e "$w/x.tsv" ]; then ok; else bad "memory: $(cat "$w/err")"; fi
expect 2 'gamma: refine: expected one of --calib FILE, --tokens FILE.npy, found none' \
    refine $g "$s" --bits 3 --out "$w/x.tsv"
expect 1 "gamma: $s: model_hash: expected $(key model_hash "$w/a/scores.tsv"), found $(key model_hash "$s")" \
    refine $m "$s" $tokens --bits 3 --out "$w/x.tsv"
expect 1 "gamma: $w/hand.tsv: expected scores of gamma fit, which say what candidates they are of (candidates, candidates_hash), found none" \
    refine $g "$w/hand.tsv" $tokens --bits 3 --out "$w/x.tsv"
finish
