#!/bin/sh
# results_relaxations.sh OUT [MODEL...]: the table "Relaxations and norms" of
# docs/results.md: Stage I with each relaxation, norm and score on the tiny
# models, KL at four budgets.  Learns from the first 6/10 of the lines of
# data/calib.txt and judges on the others, so that data/test.txt decides
# nothing.  BATCH, STEPS, WINDOWS from the environment replace 4, 60, 16 where
# time is short.  Goes on where it was stopped: rows already in OUT/table.tsv stay.
# SPDX-License-Identifier: GPL-3.0-or-later
set -e
[ $# -ge 1 ] || { sed -n '2,8p' "$0"; exit 2; }
out=$1
shift
[ $# -gt 0 ] || set -- tiny-llama tiny-qwen2 tiny-qwen3
gamma=${GAMMA:-./gamma}
mkdir -p "$out"
lines=$(wc -l <data/calib.txt)
cut=$((lines * 6 / 10))
head -n $cut data/calib.txt >"$out/learn.txt"
tail -n +$((cut + 1)) data/calib.txt >"$out/judge.txt"
table=$out/table.tsv
[ -s "$table" ] ||
    printf 'model\trelaxation\tnorm\tscore\t2.25\t2.5\t3\t3.5\n' >"$table"

# row MODEL RELAXATION NORM SCORE: the fit is made once for all its scores
row() {
    grep -q "^$1	$2	$3	$4	" "$table" && return
    dir=$out/$1-$2-$3
    $gamma fit "data/$1" --calib "$out/learn.txt" --out "$dir" --bits 2,3,4 \
        --group 64 --length 128 --sequences 32 --batch "${BATCH:-4}" \
        --steps "${STEPS:-60}" \
        --relaxation "$2" --norm "$3" --score "$4" --resume --quiet >/dev/null
    line="$1	$2	$3	$4"
    for budget in 2.25 2.5 3 3.5; do
        $gamma solve "$dir/scores.tsv" --bits $budget --out "$dir/alloc.tsv" \
            --quiet >/dev/null
        kl=$($gamma eval "data/$1" --text "$out/judge.txt" --alloc \
            "$dir/alloc.tsv" --window 256 --windows "${WINDOWS:-16}" \
            --quiet |
            awk -F '\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
                $1 == "quantized" { print $at["kl"] }')
        line="$line	$kl"
    done
    printf '%s\n' "$line" >>"$table"
}
for model in "$@"; do
    for relaxation in soft-corrected soft gumbel hard; do
        for norm in token robust plain energy update; do
            [ $relaxation != soft-corrected ] ||
                row "$model" $relaxation $norm scaled
            row "$model" $relaxation $norm loss
            row "$model" $relaxation $norm theta
        done
    done
done

# KL relative to the default's: geometric means over the models
awk -F '\t' '
NR == 1 { for (b = 5; b <= 8; b++) name[b] = $b; next }
$2 == "soft-corrected" && $3 == "token" && $4 == "scaled" {
    for (b = 5; b <= 8; b++) base[$1, b] = $b
}
{
    key = $2 " | " $3 " | " $4
    if (!(key in n)) order[++keys] = key
    n[key]++
    for (b = 5; b <= 8; b++) sum[key, b] += log($b / base[$1, b])
}
END {
    print "| relaxation | norm | score | 2.25 | 2.5 | 3 | 3.5 | mean | models |"
    print "|---|---|---|---|---|---|---|---|---|"
    for (i = 1; i <= keys; i++) {
        key = order[i]
        all = 0
        line = "| " key
        for (b = 5; b <= 8; b++) {
            all += sum[key, b] / n[key] / 4
            line = line sprintf(" | %.3f", exp(sum[key, b] / n[key]))
        }
        printf "%s | %.3f | %d |\n", line, exp(all), n[key]
    }
}' "$table"
