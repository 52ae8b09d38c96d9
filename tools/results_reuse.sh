#!/bin/sh
# results_reuse.sh OUT MODEL CALIB TEXT "OPTIONS OF ALL" [BUDGET...]: the reuse
# curve of docs/results.md.  One run of Stage I (LEARN: its options), learned at
# ONE bits (3), solved at 20 budgets, against a run learned at each of them: KL on
# TEXT, the difference over the same windows with its standard error, the steps
# from budget to budget; OUT/reuse.tsv and OUT/reuse.svg.  Goes on where it stopped.
# SPDX-License-Identifier: GPL-3.0-or-later
set -e
[ $# -ge 5 ] || { sed -n '2,7p' "$0"; exit 2; }
out=$1 model=$2 calib=$3 text=$4 all=$5
shift 5
[ $# -gt 0 ] || set -- 2.05 2.15 2.25 2.35 2.45 2.55 2.65 2.75 2.85 2.95 3.05 \
    3.15 3.25 3.35 3.45 3.55 3.65 3.75 3.85 3.95
gamma=${GAMMA:-./gamma}
mkdir -p "$out"

# measure LEARNED BUDGET,...: rows of `gamma` with scores learned at LEARNED
measure() {
    # shellcheck disable=SC2086
    [ -s "$out/at-$1/scores.tsv" ] || $gamma fit "$model" --calib "$calib" \
        --out "$out/at-$1" $all $LEARN --train-bits "$1" --quiet >/dev/null
    # shellcheck disable=SC2086
    $gamma compare "$model" --calib "$calib" --text "$text" --window \
        "${WINDOW:-256}" --windows "${WINDOWS:-0}" $all --methods gamma \
        --scores "$out/at-$1/scores.tsv" --budgets "$2" --out "$out" --quiet |
        awk -F '\t' -v a="$1" '
            NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
            $1 == "gamma" { print a "\t" $at["budget"] "\t" $at["kl"] }'
}
{
    measure "${ONE:-3}" "$(echo "$*" | tr ' ' ,)"
    for budget; do measure "$budget" "$budget"; done
} >"$out/kl.tsv"

# the windows' file of a row is named by its key; rows are found by their KL
awk -F '\t' -v one="${ONE:-3}" -v dir="$out" '
function windows(kl, budget, w,    file, n, line, cell, c, i) {
    file = dir "/windows-" key[budget, kl] ".tsv"
    for (n = 0; (getline line <file) > 0;) {
        if (line ~ /^#/) continue
        i = split(line, cell, "\t")
        if (cell[1] == "window") { for (; i; i--) if (cell[i] == "kl") c = i }
        else w[++n] = cell[c]
    }
    close(file)
    return n
}
function paired(n, a, b,    i, d, s) {
    for (i = 1; i <= n; i++) d += (b[i] - a[i]) / n
    for (i = 1; i <= n; i++) s += (b[i] - a[i] - d) ^ 2
    error = sqrt(s / (n - 1) / n)
    return d
}
FILENAME ~ /compare.tsv$/ {
    if ($1 == "method") for (i = 1; i <= NF; i++) at[$i] = i
    if ($1 == "gamma") key[$at["budget"], $at["kl"]] = $at["key"]
    next
}
$1 == one && !($2 in reused) { reused[$2] = $3; order[++count] = $2; next }
{ trained[$2] = $3 }
END {
    print "budget\tone run\ttrained there\tgap %\terror %\tstep\terror"
    for (i = 1; i <= count; i++) {
        b = order[i]
        n = windows(reused[b], b, a)
        windows(trained[b], b, t)
        gap = 0 - paired(n, a, t)
        line = sprintf("%s\t%.5f\t%.5f\t%+.2f\t%.2f", b, reused[b], trained[b],
                       100 * gap / trained[b], 100 * error / trained[b])
        if (i > 1) line = line sprintf("\t%+.5f\t%.5f", paired(n, last, a), error)
        print line
        for (j = 1; j <= n; j++) last[j] = a[j]
    }
}' "$out/compare.tsv" "$out/kl.tsv" >"$out/reuse.tsv"
${CC:-cc} -std=gnu11 -O1 -I. tools/plot.c show/plot.c lib/base.c lib/files.c lib/tensors.c \
    lib/kernels.c -lm -fopenmp -o "$out/plot"
cut -f 1-3 "$out/reuse.tsv" | "$out/plot" \
    "One run solved at every budget, and a run for each" \
    "average code bits" "mean KL in nats" "$out/reuse.svg"
cat "$out/reuse.tsv"
