#!/bin/sh
# test_anchors.sh: the anchors of `gamma run`: each is what `gamma refine` makes
# at that budget from the scores as learned; where they stand; allocations and
# table are of the scores between them; none with --anchors 0 and --recipe
# paper; a killed run makes none twice, and takes none that is not its own.
# SPDX-License-Identifier: GPL-3.0-or-later
# options are several words:
# shellcheck disable=SC2086
so=$PWD/build/test/faults.so
w=build/test/anchors-work
. tests/shell.sh

key() { sed -n "s/^# $1 //p" "$2"; }
at() { key anchors "$1" | tr ',' '\n' | awk '{ printf "%s ", $1 }'; }
column() {      # FILE NAME...: these columns
    awk -F '\t' -v OFS='\t' -v want="$2" '/^#/ { next }
        !n { n = split(want, w, " "); for (i = 1; i <= n; i++)
                for (j = 1; j <= NF; j++) if ($j == w[i]) at[i] = j }
        { for (i = 1; i <= n; i++) printf "%s%s", $at[i], i < n ? OFS : "\n" }' "$1"
}
made() { grep -c '^anchor ' "$w/err"; }
equal() {       # two scores.tsv, whose keys stand in another order
    for file in "$1" "$2"; do
        { grep '^#' "$file" | sort; grep -v '^#' "$file"; } >"$file.sorted"
    done
    same "$1.sorted" "$2.sorted"
}

m=tests/golden/tiny-llama
tokens=tests/golden/mistakes/tokens.npy
small="--tokens $tokens --sequences 4 --length 32 --batch 2 --steps 2 --group 16"
text="--eval-tokens $tokens --window 32"
run="run $m $small $text --no-models"

# --------------------------------------------- the same anchors as refine makes
succeed $run --budget 3.5,2.25,3 --out "$w/a"
cp "$w/out" "$w/table"
is "evenly spread" "$(at "$w/a/scores.tsv")" "2.25 2.875 3.5 "
succeed $run --budget 3.5,2.25,3 --anchors 0 --out "$w/none"
succeed fit $m $small --out "$w/fit"
same "$w/none/scores.tsv" "$w/fit/scores.tsv"
if grep -q scores_at "$w/none/alloc-3.tsv"; then bad "scores_at"; else ok; fi
succeed refine $m "$w/fit/scores.tsv" --tokens $tokens \
    --budget 2.25,2.875,3.5 --out "$w/refined.tsv"
equal "$w/a/scores.tsv" "$w/refined.tsv"
# and each alone, with its KL before and after
for i in 1 2 3; do
    b=$(at "$w/a/scores.tsv" | cut -d ' ' -f $i)
    succeed refine $m "$w/fit/scores.tsv" --tokens $tokens --budget "$b" \
        --out "$w/one.tsv"
    columns="module 2.score@$b 3.score@$b 4.score@$b"
    column "$w/a/scores.tsv" "$columns" >"$w/of-a"
    column "$w/one.tsv" "$columns" >"$w/of-one"
    same "$w/of-a" "$w/of-one"
    for name in kl_before kl; do
        is "$name at $b" "$(key $name "$w/a/scores.tsv" | cut -d , -f $i | tr -d ' ')" \
            "$(key $name "$w/one.tsv")"
    done
done

# ------------------------------------- what follows is of the scores between them
for b in 2.25 3 3.5; do
    succeed check "$w/a/alloc-$b.tsv" "$w/a/scores.tsv"
    succeed solve "$w/a/scores.tsv" --bits $b --out "$w/alloc.tsv"
    grep -v '^#' "$w/alloc.tsv" >"$w/solved"
    grep -v '^#' "$w/a/alloc-$b.tsv" >"$w/by-run"
    same "$w/by-run" "$w/solved"
    succeed eval $m $text --alloc "$w/alloc.tsv" --cache "$w/a"
    is "KL at $b" "$(awk -F '\t' -v b=$b '$1 == b { print $9 }' "$w/table")" \
        "$(awk -F '\t' '$1 == "quantized" { printf "%.5f", $5 }' "$w/out")"
done
is "scores_at" "$(key scores_at "$w/a/alloc-2.25.tsv"), $(key scores_at \
    "$w/a/alloc-3.tsv" | cut -d , -f 1)" "2.25, as learned, 2.875 to 3.5"
"$gamma" solve "$w/a/scores.tsv" --bits 3 >"$w/out" 2>"$w/err"
is "said in words" "$(grep -c "^scores: at the anchors \
2.875 to 3.5, t = 0.2" "$w/err")" 1
is "said in the report" "$(grep -c "Scores are taken at the anchors" \
    "$w/a/report.html") $(grep -c "taken at the anchors" "$w/none/report.html")" \
    "3 0"
python3 tools/check_report.py "$w/a" >"$w/out" 2>&1 && ok || bad "$(cat "$w/out")"
# the frontier is of the scores as learned
succeed solve "$w/a/scores.tsv" --frontier
cp "$w/out" "$w/frontier"
succeed solve "$w/none/scores.tsv" --frontier
same "$w/frontier" "$w/out"
same "$w/a/frontier.tsv" "$w/none/frontier.tsv"

# gains by hand: budgets from some 3 up stand
sed 's/^# kl_gain .*/# kl_gain -0.001, 0.001, 0.001/
    s/^# kl_gain_error .*/# kl_gain_error 0.001, 0.001, 0.0002/' \
    "$w/a/scores.tsv" >"$w/by-hand.tsv"
half() {        # WITHOUT FOUND
    sed "$1" "$w/by-hand.tsv" >"$w/half.tsv"
    expect 1 "gamma: $w/half.tsv: kl_gain_error: expected numbers >= 0 beside \
kl_gain, found $2" solve "$w/half.tsv" --bits 3 --out "$w/x.tsv"
}
half '/^# kl_gain /d' '"0.001, 0.001, 0.0002" beside "none"'
half '/^# kl_gain_error /d' '"none" beside "-0.001, 0.001, 0.001"'
half 's/^# kl_gain_error 0/# kl_gain_error -0/' \
    '"-0.001, 0.001, 0.0002" beside "-0.001, 0.001, 0.001"'
sed '/^# anchors /d' "$w/by-hand.tsv" >"$w/half.tsv"
expect 1 "gamma: $w/half.tsv: kl_gain: expected anchors that it is of, found \
\"-0.001, 0.001, 0.001\"" solve "$w/half.tsv" --bits 3 --out "$w/x.tsv"
for from in by-hand fit/scores; do
    { sed 1q "$w/$from.tsv"; echo "# scores_at 3, t = 9"
      sed 1d "$w/$from.tsv"; } >"$w/half.tsv"
    expect 1 "gamma: $w/half.tsv: scores_at: expected it in allocations alone, \
found \"3, t = 9\"" solve "$w/half.tsv" --bits 3 --out "$w/x.tsv"
done
sed '/^# anchors /s/ 2.875 / 2.25 /' "$w/by-hand.tsv" >"$w/half.tsv"
expect 1 "gamma: $w/half.tsv: anchors: expected \"BUDGET CODE_BITS \
EFFECTIVE_BITS FILE_BYTES, ...\", none of which falls, found \
\"$(key anchors "$w/half.tsv")\"" solve "$w/half.tsv" --bits 3 --out "$w/x.tsv"
# the same room for modules is the same budget, whatever is beside them
own=$(key overhead_bytes "$w/by-hand.tsv")
for beside in 4000 1017616 "$own"; do
    succeed solve "$w/by-hand.tsv" --bytes $((20384 + beside)) \
        --overhead "$beside" --out "$w/alloc.tsv"
    grep -v '^#' "$w/alloc.tsv" >"$w/rows-$beside"
    is "beside $beside" "$(key scores_at "$w/alloc.tsv")" \
        "$(key scores_at "$w/alloc.tsv" | grep "t = ")"
    same "$w/rows-$beside" "$w/rows-4000"
done
# a line a budget says what its score is of
succeed solve "$w/by-hand.tsv" --budget 2.25,3.4
is "of a line" "$(awk -F '\t' '{ print $NF }' "$w/out" | tr '\n' ';')" \
    "scores_at;2.25, as learned;2.875 to 3.5, t = 0.8399739583333333;"
succeed solve "$w/fit/scores.tsv" --budget 2.25,3.4
is "of no anchors" "$(awk -F '\t' '{ print $NF }' "$w/out" | tr '\n' ';')" \
    "agreed;yes;yes;"
# corrected again: from the mean that stands there, and says so
for from in a/scores by-hand; do
    succeed refine $m "$w/$from.tsv" --tokens $tokens --budget 3.5 \
        --cache "$w/fit" --evaluations 4 --out "$w/again.tsv"
    is "from" "$(key refined_from "$w/again.tsv")" "$(key anchors "$w/$from.tsv")"
    cut -f 1-13 "$w/again.tsv" | grep -v '^#' >"$w/learned"
    grep -v '^#' "$w/fit/scores.tsv" >"$w/of-fit"
    same "$w/learned" "$w/of-fit"
done
# one sequence shows nothing
succeed refine $m "$w/fit/scores.tsv" --tokens $tokens --sequences 1 --length 32 \
    --cache "$w/fit" --budget 2.25,2.875,3.5 --out "$w/alone.tsv"
is "of one sequence" "$(key kl_gain_error "$w/alone.tsv")" \
    "$(key kl_gain "$w/alone.tsv" | sed 's/-//g')"
is "learned" "$(cut -f 9 "$w/out" | sort | uniq -c | tr -s ' \n' ' ')" \
    " 3 learned 1 stands "

# ------------------------------------------------------------- where they stand
# spread OPTIONS... EXPECTED
spread() {
    for expected in "$@"; do :; done
    succeed $run --evaluations 1 ${*%"$expected"} --out "$w/spread"
    is "${*%"$expected"}" "$(at "$w/spread/scores.tsv")" "$expected "
    for file in "$w"/spread/alloc-*.tsv; do
        succeed check "$file" "$w/spread/scores.tsv"
    done
    rm -rf "$w/spread"
}
spread --budget 2.5 "2.5"
spread --budget 2.5,2.50 "2.5"
spread --budget 2,4,3 "2 3 4"
spread --budget 2,4 --anchors 1 "3"
spread --budget 2,4 --anchors 2 "2 4"
spread --budget 2,3 --anchors 4 "2 2.333 2.667 3"
spread --budget 2.5,2.505 "2.5 2.502 2.505"
spread --budget 3,9 "3 6 9"
spread --in ebits --budget 3.6,4.8 "3.6 4.2 4.8"
spread --in bytes --budget 60K,70000,80K "60K 70000 80K"
spread --budget 3,3.5 --recipe paper --anchors 2 "3 3.5"
# so near that none of four digits lies between
spread --budget 2.50001,2.50003 "2.50001 2.50003"
spread --budget 2.001,2.002 --anchors 32 "2.001 2.002"
spread --budget 2.5001,2.5001 "2.5001"
spread --budget 2.50001 --anchors 1 "2.50001"
succeed $run --budget 3,3.5 --recipe paper --out "$w/paper"
is "paper" "$(at "$w/paper/scores.tsv")" ""
for many in -1 33 x; do
    expect 2 "gamma: --anchors: expected a whole number from 0 to 32, found \"$many\"" \
        $run --budget 3 --anchors $many --out "$w/x"
done
# fewer candidates, another tool's, GPTQ's
succeed $run --budget 2.5,3 --quantizer gptq --anchors 2 --out "$w/gptq"
succeed check "$w/gptq/alloc-3.tsv" "$w/gptq/scores.tsv"
# near ones: the optimum at 2.55 is 16 bytes smaller than that at 2.5375
succeed refine $m "$w/fit/scores.tsv" --tokens $tokens --budget \
    "$(awk 'BEGIN { for (i = 0; i < 32; i++) printf "%s%.4f", i ? "," : "",
        2.3 + i / 80 }')" --evaluations 16 --out "$w/near.tsv"
succeed solve "$w/near.tsv" --bytes 70K --out "$w/alloc.tsv"
succeed check "$w/alloc.tsv" "$w/near.tsv"

# ------------------------------------------------------------ killed, given again
gamma=$fast
again() {       # DIR OPTIONS...: given again with --resume; in $w/err
    dir=$1
    shift
    "$gamma" $run --budget 3.5,2.25,3 --out "$dir" --resume "$@" >"$w/out" \
        2>"$w/err" || bad "resumed: $(cat "$w/err")"
}
again "$w/a"
is "made again of a whole run" "$(made)" 0
for file in scores.tsv alloc-3.tsv report.html; do
    cp "$w/a/$file" "$w/whole-$file"
done
same "$w/out" "$w/table"
equal "$w/a/scores.tsv" "$w/refined.tsv"
# killed_behind ANCHORS: before the file operation, found by halves, that leaves
# these; what a later one leaves begins with them
killed_behind() {
    low=1 high=60000 left=
    while [ $low -lt $high ]; do
        n=$(((low + high) / 2))
        rm -rf "$w/killed"
        LD_PRELOAD=$so FAULT=kill FAULT_AT=$n "$gamma" $run \
            --budget 3.5,2.25,3 --out "$w/killed" >"$w/out" 2>"$w/err"
        left="$(at "$w/killed/scores.tsv" 2>/dev/null)$(key kl_gain \
            "$w/killed/scores.tsv" 2>/dev/null)"
        case $left in
        "$1") break ;;
        "$1"*) high=$n ;;
        *) low=$((n + 1)) ;;
        esac
    done
    is "killed behind $1" "$left" "$1"
}
export OMP_NUM_THREADS=1
killed_behind "2.25 "
again "$w/killed"
is "made by the run that went on" "$(made)" 2
for file in scores.tsv alloc-3.tsv report.html; do
    same "$w/killed/$file" "$w/whole-$file"
done
# before it is known which stand
killed_behind "2.25 2.875 3.5 "
again "$w/killed"
is "judged alone" "$(made)" 0
for file in scores.tsv alloc-3.tsv report.html; do
    same "$w/killed/$file" "$w/whole-$file"
done
# none is taken that is edited, or of other options
sed '/model.layers.0.self_attn.q_proj/s/[0-9]$/x/; s/x$/11/' "$w/a/scores.tsv" \
    >"$w/edited.tsv"
if cmp -s "$w/edited.tsv" "$w/a/scores.tsv"; then bad "not edited"; else ok; fi
cp "$w/edited.tsv" "$w/a/scores.tsv"
again "$w/a"
is "made again, edited" "$(made)" 3
equal "$w/a/scores.tsv" "$w/refined.tsv"
sed '/^# kl /s/[0-9]$/x/; s/x$/11/' "$w/refined.tsv" >"$w/a/scores.tsv"
again "$w/a"
is "made again, another KL" "$(made)" 3
cp "$w/a/scores.tsv" "$w/good.tsv"
cut -f 1-15 "$w/good.tsv" >"$w/a/scores.tsv"
expect 1 "gamma: $w/a/scores.tsv: no column \"4.score@2.25\"" \
    $run --budget 3.5,2.25,3 --out "$w/a" --resume
cp "$w/good.tsv" "$w/a/scores.tsv"
# the same number in another convention is another budget
succeed $run --budget 3.6,4 --anchors 2 --in ebits --out "$w/in"
"$gamma" $run --budget 3.6,4 --anchors 2 --out "$w/in" --resume >"$w/out" 2>"$w/err"
is "made again, bits for ebits" "$(made)" 2
again "$w/a"
is "whole again" "$(made)" 0
again "$w/a" --evaluations 15
is "made again, other evaluations" "$(made)" 3
again "$w/a"
is "and back" "$(made)" 3
again "$w/a" --anchors 2
is "other places" "$(made) $(at "$w/a/scores.tsv")" "2 2.25 3.5 "
"$gamma" $run --budget 3.5,2.25,3 --anchors 2 --out "$w/a" >"$w/out" 2>"$w/err"
is "without --resume" "$(made)" 2
# the first two of three, for a run that wants these alone
again "$w/a"
"$gamma" $run --budget 2.25,2.875 --anchors 2 --out "$w/a" --resume >"$w/out" \
    2>"$w/err"
is "made again, two of three" "$? $(made) $(at "$w/a/scores.tsv")" "0 2 2.25 2.875 "
# one that was judged alone is not the first of two
succeed $run --budget 2.25 --out "$w/in"
"$gamma" $run --budget 2.25,3 --anchors 2 --out "$w/in" --resume >"$w/out" 2>"$w/err"
is "made again, judged alone" "$(made)" 2

# ------------------------------------------------------------------- what it takes
"$gamma" plan $m $small $text --budget 2.5,3 --quiet >"$w/plan"
"$gamma" plan $m $small $text --budget 2.5,3 --anchors 0 --quiet >"$w/plan-0"
is "plan" "$(awk '$1 == "anchors" { print ($2 > 0) }' "$w/plan") $(
    grep -c anchors "$w/plan-0")" "1 0"
"$gamma" $run --budget 2.5,3 --max-memory 1M --out "$w/x" --quiet 2>"$w/err"
is "refused" "$? $([ -e "$w/x" ] && echo left)" "6 "
finish
