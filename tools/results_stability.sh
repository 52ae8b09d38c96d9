#!/bin/sh
# results_stability.sh OUT MODEL TEXT "OPTIONS OF ALL" NAME=CALIB:SEQUENCES:SEED...
# : the stability table of docs/results.md.  A run of Stage I for each NAME; KL
# on TEXT at BUDGETS (2.5 3 3.5); rank correlation of its scores with the first
# one's and share of modules whose bits differ from it (tools/scores_agree.py,
# run with PYTHON).  Goes on where it stopped.
# SPDX-License-Identifier: GPL-3.0-or-later
set -e
[ $# -ge 5 ] || { sed -n '2,7p' "$0"; exit 2; }
out=$1 model=$2 text=$3 all=$4
shift 4
gamma=${GAMMA:-./gamma} budgets=${BUDGETS:-2.5 3 3.5} first=
mkdir -p "$out"
printf '| run | rank correlation | changed %% | KL at %s |\n' \
    "$(echo "$budgets" | sed 's/ / | /g')"
for run; do
    name=${run%%=*} rest=${run#*=}
    seed=${rest##*:} rest=${rest%:*}
    calib=${rest%:*} sequences=${rest##*:}
    dir=$out/$name
    # shellcheck disable=SC2086
    [ -s "$dir/scores.tsv" ] || $gamma fit "$model" --calib "$calib" \
        --sequences "$sequences" --seed "$seed" --out "$dir" $all --quiet \
        >/dev/null
    line= changed=
    for budget in $budgets; do
        $gamma solve "$dir/scores.tsv" --bits "$budget" --out \
            "$dir/alloc-$budget.tsv" --quiet >/dev/null
        [ -s "$dir/kl-$budget" ] || $gamma eval "$model" --text "$text" \
            --alloc "$dir/alloc-$budget.tsv" --window 256 \
            --windows "${WINDOWS:-0}" --quiet | awk -F '\t' '
            NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
            $1 == "quantized" { print $at["kl"] }' >"$dir/kl-$budget"
        line="$line | $(cat "$dir/kl-$budget")"
        changed="$changed ${first:-$dir}/alloc-$budget.tsv $dir/alloc-$budget.tsv"
    done
    # shellcheck disable=SC2086
    agree=$(${PYTHON:-python3} tools/scores_agree.py \
        "${first:-$dir}/scores.tsv" "$dir/scores.tsv" $changed)
    printf '| %s | %s%s |\n' "$name" "$(echo "$agree" | sed 's/	/ | /;
        s/	/, /g')" "$line"
    first=${first:-$dir}
done
