#!/bin/sh
# results_scores.sh OUT MODEL JUDGE "OPTIONS OF ALL" SETTING...: settings of
# Stage I against the separable block error, docs/results.md ("Settings of
# Stage I").  For each SETTING (options of gamma fit in one word, such as
# "--batch 16 --steps 15"): KL minus separable's at each of BUDGETS (2.25 2.5 3
# 3.5) in per cent of separable's, its standard error over the same windows, and
# a mark where that is more than two of them.  The text is data/calib.txt (CALIB
# replaces it); JUDGE: "held-out" learns from the first 6/10 of its lines and
# measures on the others; else a text to measure on.  Goes on where it stopped.
# SPDX-License-Identifier: GPL-3.0-or-later
set -e
[ $# -ge 5 ] || { sed -n '2,9p' "$0"; exit 2; }
out=$1 model=$2 judge=$3 all=$4
shift 4
gamma=${GAMMA:-./gamma} calib=${CALIB:-data/calib.txt}
mkdir -p "$out"
if [ "$judge" = held-out ]; then
    lines=$(wc -l <"$calib")
    head -n $((lines * 6 / 10)) "$calib" >"$out/learn.txt"
    tail -n +$((lines * 6 / 10 + 1)) "$calib" >"$out/judge.txt"
    calib=$out/learn.txt judge=$out/judge.txt
fi
budgets=${BUDGETS:-2.25 2.5 3 3.5}
printf '| %s | %s | seconds |\n' "setting" "$(echo "$budgets" |
    sed 's/ / | /g')"
for setting; do
    name=$(echo "$setting" | tr -c 'a-z0-9.\n' _)
    # shellcheck disable=SC2086
    [ -s "$out/$name/scores.tsv" ] || {
        begin=$(date +%s)
        $gamma fit "$model" --calib "$calib" --out "$out/$name" $all $setting \
            --quiet >/dev/null
        echo $(($(date +%s) - begin)) >"$out/$name/seconds"
    }
    # shellcheck disable=SC2086
    $gamma compare "$model" --calib "$calib" --text "$judge" --window \
        "${WINDOW:-256}" --windows "${WINDOWS:-0}" $all --budgets \
        "$(echo "$budgets" | tr ' ' ,)" --methods separable,gamma \
        --scores "$out/$name/scores.tsv" --out "$out" --quiet |
        awk -F '\t' -v name="$setting" -v s="$(cat "$out/$name/seconds")" '
            NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
            $1 == "separable" {
                d = 100 * (0 - $at["kl_above_gamma"]) / $at["kl"]
                e = 100 * $at["kl_above_gamma_error"] / $at["kl"]
                line = line sprintf(" | %+.2f (%.2f)%s", d, e,
                    d < -2 * e ? " <" : d > 2 * e ? " >" : "")
            }
            END { print "| " name line " | " s " |" }'
done
