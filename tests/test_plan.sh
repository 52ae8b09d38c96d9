#!/bin/sh
# test_plan.sh: gamma plan on directories with and without weights; memory is
# stated before a run; --max-memory gives the same results in smaller pieces or
# refuses before anything is written.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/plan-shell-work
. tests/shell.sh
m=data/tiny-llama
fit="--calib data/calib.txt --sequences 4 --length 64 --batch 2 --steps 2"

# every step of run has a line; the whole is its most memory, its disk's sum
"$gamma" plan $m --windows 4 --quantizer gptq --quiet >"$w/plan"
steps=$(awk -F '\t' 'NR > 1 { printf "%s ", $1 }' "$w/plan")
[ "$steps" = "candidates fit_steps quantize anchors eval all " ] && ok || bad "steps: $steps"
awk -F '\t' 'NR == 1 { next } $1 != "all" { d += $3
    if ($2 > m) m = $2 } $1 == "all" { sums = $2 == m && (d - $3) ^ 2 < 0.3 }
    /^(candidates|fit_steps|eval)/ { n += $2 > 0 }
    END { exit !(sums && n == 3) }' "$w/plan" && ok ||
    bad "sums: $(cat "$w/plan")"
# and a line says how long its products take at least
"$gamma" plan $m --windows 4 2>"$w/err" >"$w/out"
grep -q '^[0-9.e+]* multiply-adds in products, [0-9.e+]* a second here: at '\
'least [0-9.]* s$' "$w/err" && ok || bad "no time: $(cat "$w/err")"

# texts in place of numbers; what is assumed is said
"$gamma" plan $m --eval data/test.txt --window 64 --calib data/calib.txt \
    --sequences 2 --length 64 --batch 2 >"$w/texts" 2>"$w/err"
[ $? -eq 0 ] && ! grep -q assumed "$w/err" && ok || bad "$(cat "$w/err")"
"$gamma" plan $m >"$w/texts" 2>"$w/err"
[ $? -eq 0 ] && grep -qx 'no --eval and no --windows: 16 windows are assumed' \
    "$w/err" && ok || bad "$(cat "$w/err")"

# shapes alone: the same memory and disk but for the header of the model's file
mkdir "$w/shapes"
cp $m/config.json "$w/shapes"
"$gamma" plan "$w/shapes" --windows 4 --quantizer gptq --quiet >"$w/alone"
awk -F '\t' 'NR == FNR { m[$1] = $2; rows++; next } FNR == 1 { near++; next }
    { d = $2 - m[$1]; near += d * d <= (0.05 * m[$1]) ^ 2 }
    END { exit !(rows == 7 && near == rows) }' "$w/plan" "$w/alone" && ok ||
    bad "config.json alone: $(cat "$w/alone")"
for shape in llama-3.1-8b qwen3-32b; do
    quick plan data/shapes/$shape --windows 1 --length 64 --no-models
done
mkdir "$w/empty"
expect 5 "gamma: $w/empty/config.json: cannot open: No such file or directory" \
    plan "$w/empty"

# evaluation in groups of windows: the same numbers
"$gamma" eval $m --text data/test.txt --window 128 --windows 40 \
    >"$w/whole" 2>"$w/err"
grep -q '^memory: about [0-9.]* MB (eval [0-9.]*)$' "$w/err" && ok ||
    bad "eval states no memory: $(cat "$w/err")"
"$gamma" eval $m --text data/test.txt --window 128 --windows 40 \
    --max-memory 15M --threads 1 >"$w/pieces" 2>"$w/err"
same "$w/whole" "$w/pieces"
awk '/^memory: about/ { fits = $3 <= 15 } END { exit !fits }' "$w/err" && ok ||
    bad "more than --max-memory: $(cat "$w/err")"

# refused, by name, before the output directory is there
# shellcheck disable=SC2086
"$gamma" fit $m $fit --out "$w/no" --max-memory 12M --threads 1 --quiet \
    2>"$w/err"
[ $? -eq 6 ] && grep -q '^gamma: --max-memory: fit_steps needs [0-9.]* MB, exp'\
'ected at most 12.0 MB; lower --batch or --length$' "$w/err" &&
    [ ! -e "$w/no" ] && ok || bad "refusal: $(cat "$w/err")"
# shellcheck disable=SC2086
expect 2 "gamma: --max-memory: expected a positive number of bytes, such as \
500M or 2.5GiB, found \"lots\"" fit $m $fit --out "$w/no" --max-memory lots
# shellcheck disable=SC2086
"$gamma" fit $m $fit --out "$w/fit" 2>"$w/err" >"$w/out"
grep -q '^memory: about [0-9.]* MB (candidates' "$w/err" && ok ||
    bad "fit states no memory: $(cat "$w/err")"
# what was stated before is within 20 % of what the process then held at most
stated() {
    awk '/^memory: about/ { plan = $3 } /peak memory/ { found = $(NF - 1) }
        END { exit !(plan > 20 && plan < 1.2 * found && found < 1.2 * plan) }' \
        "$w/err" && ok || bad "memory: $(cat "$w/err")"
}
# learning with the teacher's states kept: the same scores in one more stated
# size, which is held
for most in 30M 300M; do
    "$fast" fit $m --calib data/calib.txt --sequences 8 --length 256 --batch 4 \
        --steps 5 --threads 2 --max-memory $most --out "$w/kept-$most" \
        2>"$w/kept-$most.err" >"$w/out" || bad "$(cat "$w/kept-$most.err")"
    cp "$w/kept-$most.err" "$w/err"
    stated
done
same "$w/kept-30M/scores.tsv" "$w/kept-300M/scores.tsv"
sed -n 's/^memory: about \([0-9.]*\).*/\1/p' "$w/kept-30M.err" \
    "$w/kept-300M.err" | paste -s - | awk '{ d = $2 - $1 }
    END { exit !(d > 8 * 256 * 128 * 8 * 4 / 1e6 - 0.2 &&
                 d < 8 * 256 * 128 * 8 * 4 / 1e6 + 0.2) }' && ok ||
    bad "kept states: $(cat "$w/kept-300M.err")"
"$fast" fit $m --calib data/calib.txt --length 256 --steps 2 --threads 2 \
    --out "$w/whole-fit" 2>"$w/err" >"$w/out"
stated
"$fast" refine $m "$w/whole-fit/scores.tsv" --calib data/calib.txt --bits 3 \
    --evaluations 14 --threads 2 --out "$w/refined.tsv" 2>"$w/err" >"$w/out"
stated
"$fast" run $m --calib data/calib.txt --sequences 2 --length 1024 --batch 1 --steps 1 \
    --eval data/test.txt --window 64 --windows 1 --budget 3 --no-models \
    --evaluations 14 --threads 2 --out "$w/run" 2>"$w/err" >"$w/out"
stated
most=$(sed -n 's/^memory: about \([0-9.]*\) MB.*/\1/p' "$w/err")
grep -q "^memory: about.*anchors $most, eval" "$w/err" && ok ||
    bad "anchors are not what takes most: $(cat "$w/err")"
# compare: the same table (but for its seconds) in smaller pieces
rivals() {
    "$fast" compare $m --calib data/calib.txt --text data/test.txt \
        --window 256 --group 64 --length 128 --batch 2 --steps 1 \
        --evaluations 8 --budgets 3 --methods gamma,refined \
        --threads 2 "$@" 2>"$w/err" >"$w/out"
}
rivals --sequences 2 --out "$w/rivals"
stated
sed 's/[^\t]*$//' "$w/out" >"$w/whole"
mv "$w/err" "$w/whole.err"
rivals --sequences 2 --out "$w/rivals-pieces" --max-memory 30M
awk '/^memory: about/ { fits = $3 <= 30 }
    /peak memory/ { found[++n] = $(NF - 1) }
    END { exit !(fits && found[2] < 0.9 * found[1]) }' "$w/whole.err" \
    "$w/err" && ok || bad "more than --max-memory: $(cat "$w/whole.err" "$w/err")"
sed 's/[^\t]*$//' "$w/out" >"$w/pieces"
same "$w/whole" "$w/pieces"
rivals --out "$w/no" --sequences 16 --max-memory 24M
[ $? -eq 6 ] && grep -q '^gamma: --max-memory: rivals needs [0-9.]* MB, expect'\
'ed at most 24.0 MB; lower --sequences or --length$' "$w/err" &&
    [ ! -e "$w/no" ] && ok || bad "refusal: $(cat "$w/err")"
succeed solve "$w/fit/scores.tsv" --bits 3 --out "$w/alloc.tsv"
"$gamma" quantize $m --alloc "$w/alloc.tsv" --cache "$w/fit" --out "$w/q" \
    2>"$w/err" >"$w/out"
grep -q '^memory: about [0-9.]* MB (candidates [0-9.]*, quantize' "$w/err" &&
    ok || bad "quantize states no memory: $(cat "$w/err")"
finish
