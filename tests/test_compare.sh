#!/bin/sh
# test_compare.sh: `gamma compare` as its user meets it: equal sizes (to the
# byte of what quantize writes), the same numbers as eval, paired differences
# recomputed here from the windows, killed runs that end in the same files,
# damage refused and never written over; multiple choice on the command line.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/compare-work
. tests/shell.sh

# cell FILE METHOD BUDGET COLUMN: one cell of a table of compare
cell() {
    grep -v '^#' "$1" | awk -F '\t' -v m="$2" -v b="$3" -v c="$4" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == c) at = i }
        NR > 1 && $1 == m && $3 == b { print $at }'
}

# all but the seconds, which are the clock's: column 18
timeless() { cut -f 1-17,19- "$1"; }

m=data/tiny-llama
text="--calib data/calib.txt --text data/test.txt --window 64 --windows 4"
small="--sequences 4 --length 32 --batch 2 --steps 3 --group 64 --evaluations 12"
four="--methods uniform,random,greedy,gamma"
budgets="--budgets 2.25,3"
common="$m $text $small"
scored="$m $text --sequences 4 --length 32 --group 64 --evaluations 12"

# ------------------------------------------------------------- one comparison
# shellcheck disable=SC2086
succeed compare $common $four $budgets --out "$w/a"
cp "$w/out" "$w/table"
t=$w/a/compare.tsv
if [ "$(awk -F '\t' 'NF != 18 { exit 1 } { n++ } END { print n }' "$w/table")" \
    = 10 ]; then ok; else bad "rows of $w/table"; fi
if [ "$(cut -f 1,3 "$w/table" | tr '\t\n' '  ')" = "method budget original - \
uniform 2.25 random 2.25 greedy 2.25 gamma 2.25 uniform 3 random 3 greedy 3 \
gamma 3 " ]; then ok; else bad "order of rows: $(cut -f 1,3 "$w/table")"; fi
if [ "$(cut -f 1-18 "$t" | grep -v '^#')" = "$(cat "$w/table")" ]; then ok; else
    bad "compare.tsv and what was printed differ"; fi
for b in 2.25 3; do
    for method in uniform random greedy gamma; do
        bits=$(cell "$t" $method $b code_bits)
        if awk "BEGIN { exit !($bits <= $b && $bits > $b - 0.3) }"; then ok
        else bad "$method $b: $bits code bits"; fi
        # the size is that of the file that quantize writes
        quick quantize $m --alloc "$w/a/alloc-$method-$b.tsv" \
            --cache "$w/a" --out "$w/packed" --format packed
        bytes=$(wc -c <"$w/packed" | tr -d ' ')
        if [ "$bytes" = "$(cell "$t" $method $b file_bytes)" ]; then ok; else
            bad "$method $b: $bytes bytes written, stated $(cell "$t" $method \
                $b file_bytes)"; fi
    done
done
# eval measures the same
quick eval $m --text data/test.txt --window 64 --windows 4 \
    --alloc "$w/a/alloc-greedy-2.25.tsv" --cache "$w/a"
for pair in "2 perplexity" "3 nll" "4 nll_error" "5 kl" "6 kl_error" "7 top1" \
    "8 top1_error"; do
    column=${pair% *} name=${pair#* }
    found=$(awk -F '\t' -v c="$column" '$1 == "quantized" { print $c }' "$w/out")
    stated=$(printf %.6f "$(cell "$t" greedy 2.25 "$name")")
    if [ "$found" = "$stated" ]; then ok; else
        bad "$name: eval $found, compare $stated"; fi
done
# the original: its stored size, nothing lost
if [ "$(cell "$t" original - file_bytes)" = \
    "$(wc -c <$m/model.safetensors | tr -d ' ')" ] &&
    [ "$(cell "$t" original - kl)" = 0 ]; then ok; else bad "original"; fi

# paired differences: from the files of windows, to the 8 digits printed
windows() { echo "$w/a/windows-$(cell "$t" "$1" "$2" key).tsv"; }
for method in uniform random greedy; do
    paste "$(windows $method 3)" "$(windows gamma 3)" | grep -v '^#' |
        awk -F '\t' -v above="$(cell "$t" $method 3 kl_above_gamma)" \
            -v error="$(cell "$t" $method 3 kl_above_gamma_error)" '
            NR > 1 { d[++n] = $3 - $7; mean += $3 - $7 }
            function near(x, y) { return x - y < 2e-8 && y - x < 2e-8 }
            END { mean /= n
                for (i = 1; i <= n; i++) s += (d[i] - mean) ^ 2
                exit !(n == 4 && near(mean, above) &&
                       near(sqrt(s / (n - 1) / n), error)) }' && ok ||
        bad "$method: paired difference $(cell "$t" $method 3 kl_above_gamma)"
done
if [ "$(cell "$t" gamma 3 kl_above_gamma)" = - ]; then ok; else
    bad "gamma above itself"; fi

# the plot: a legend entry for each method, a line for each but uniform; greedy
# and gamma, which chose the same at both budgets, are one
if [ "$(grep -c '<polyline' "$w/a/compare.svg")" = 2 ] &&
    [ "$(grep -c '>uniform<\|>random<\|>= greedy<\|>gamma<' \
        "$w/a/compare.svg")" = 4 ] && tail -n 1 "$w/a/compare.svg" |
        grep -qx '</svg>'; then ok; else bad "compare.svg"; fi

# the scores are those of gamma fit
# shellcheck disable=SC2086
quick fit $m --calib data/calib.txt --out "$w/fit" --sequences 4 \
    --length 32 --batch 2 --steps 3 --group 64
same "$w/fit/scores.tsv" "$w/a/scores.tsv"

# ------------------------------------------------ rivals on a text of their own
cp README.md "$w/other.txt"
rivals="--methods separable,gamma --budgets 2.6"
# shellcheck disable=SC2086
succeed compare $common $rivals --search-text "$w/other.txt" --out "$w/searched"
# shellcheck disable=SC2086
succeed compare $m --calib "$w/other.txt" --text data/test.txt --window 64 \
    --windows 4 $small $rivals --out "$w/other"
# shellcheck disable=SC2086
succeed compare $common $rivals --out "$w/usual"
chosen() { grep -v '^#' "$w/$1/alloc-$2-2.6.tsv" >"$w/chosen-$1"; }
for pair in searched=other=separable searched=usual=gamma; do
    method=${pair##*=} pair=${pair%=*}
    chosen "${pair%=*}" $method && chosen "${pair#*=}" $method
    same "$w/chosen-${pair%=*}" "$w/chosen-${pair#*=}"
done
chosen usual separable && chosen searched separable
cmp -s "$w/chosen-usual" "$w/chosen-searched" &&
    bad "--search-text decides nothing" || ok
# a row of one text is not taken for a row of another
# shellcheck disable=SC2086
succeed compare $common $rivals --search-text data/calib.txt --out "$w/searched"
chosen searched separable
same "$w/chosen-usual" "$w/chosen-searched"

# S_mk of Stage I serves the rivals: the same bits as by errors of their own, with
# and without gamma among the methods; not where Stage I measured other ones
alone="--methods separable,greedy --budgets 2.25,2.6,3,3.5"
both="--methods separable,gamma,greedy --budgets 2.25,2.6,3,3.5"
# shellcheck disable=SC2086
succeed compare $common $alone --out "$w/alone"
effort() { grep -E '^(separable|greedy)' "$w/$1/compare.tsv" | cut -f 1-6,17; }
for how in "--batch 2" "--batch 3" "--batch 2 --norm plain" \
    "--batch 2 --first-weight 2" "--batch 2 --relaxation soft --score theta"; do
    rm -rf "$w/both"
    # shellcheck disable=SC2086
    succeed compare ${common%--batch*}$how ${common#*--batch 2} $both \
        --out "$w/both"
    for file in "$w"/alone/alloc-*.tsv; do
        same "$file" "$w/both/${file##*/}"
    done
    effort alone >"$w/effort-alone"
    effort both >"$w/effort-both"
    same "$w/effort-alone" "$w/effort-both"
done

# --------------------------------------------------------------- taken over
cp "$t" "$w/before.tsv"
# shellcheck disable=SC2086
quick compare $common $four $budgets --out "$w/a"
same "$w/out" "$w/table"
same "$t" "$w/before.tsv"
# gamma's scores from a file: the same row
# shellcheck disable=SC2086
quick compare $scored --methods gamma $budgets --out "$w/a" \
    --scores "$w/fit/scores.tsv"
same "$t" "$w/before.tsv"
# another method and another seed: rows are added, the others stay
# shellcheck disable=SC2086
quick compare $common --methods gram,uniform --budgets 3 --out "$w/a"
if [ "$(grep -vc '^#' "$t")" = 11 ] && [ "$(cell "$t" gram 3 kl_above_gamma)" \
    != - ]; then ok; else bad "gram added: $(cut -f 1,3 "$t")"; fi
# shellcheck disable=SC2086
quick compare $common --methods random --budgets 3 --out "$w/a" \
    --seed 2
if [ "$(cell "$t" random 3 key | sort -u | wc -l | tr -d ' ')" = 2 ]; then ok
else bad "another seed: $(cut -f 1,3 "$t")"; fi
# other scores are another gamma: a row of its own
cp -r "$w/a" "$w/two"
awk -F '\t' -v OFS='\t' '/^model/ && !n++ { $6 *= 2 } 1' "$w/fit/scores.tsv" \
    >"$w/two.tsv"
# shellcheck disable=SC2086
quick compare $scored --methods gamma --budgets 3 --out "$w/two" \
    --scores "$w/two.tsv"
if [ "$(cell "$w/two/compare.tsv" gamma 3 key | sort -u | wc -l | tr -d ' ')" = 2 ]
then ok; else bad "other scores: $(cut -f 1,3 "$w/two/compare.tsv")"; fi

# ------------------------------------------------ all methods, other budgets
# shellcheck disable=SC2086
quick compare $common --budgets 2.9 --in ebits --out "$w/b"
if awk -F '\t' 'NR > 2 { n += $6 <= 2.9 && ($6 >= 2.3 || $1 == "uniform") }
    END { exit !(n == 13 && NR == 15) }' "$w/out"; then ok; else
    bad "budgets in effective bits: $(cat "$w/out")"; fi
# shellcheck disable=SC2086
quick compare $common --budgets 850K --in bytes --out "$w/b" $four
if awk -F '\t' 'NR > 2 { n += $7 <= 850000 && $4 == "bytes" }
    END { exit !(n == 4 && NR == 6) }' "$w/out"; then ok; else
    bad "budgets in bytes: $(cat "$w/out")"; fi
if [ -f "$w/b/alloc-gamma-850K-bytes.tsv" ]; then ok; else
    bad "alloc-gamma-850K-bytes.tsv"; fi
# BAQ's row has the sizes that BAQ reports (6 decimals there, 8 digits here)
quick baq $m --calib data/calib.txt --sequences 4 --length 32 \
    --out "$w/baq" --rate 2.9 --match ebits --no-gptq
if awk -F '\t' -v bits="$(cell "$w/b/compare.tsv" baq 2.9 code_bits)" \
    -v ebits="$(cell "$w/b/compare.tsv" baq 2.9 effective_bits)" '
    function near(x, y) { return x - y < 1e-6 && y - x < 1e-6 }
    NR == 2 { same = near($3, bits) && near($5, ebits) }
    END { exit !same }' "$w/out"; then ok
else bad "baq: $(cat "$w/out" "$w/b/compare.tsv")"; fi

# --------------------------------------------------------- killed and resumed
longer="$common $four --budgets 2.25,2.5,3 --windows=40"
longer=$(echo "$longer" | sed 's/--windows 4 //')
# shellcheck disable=SC2086
quick compare $longer --out "$w/whole"
kills=0
while [ $kills -lt 12 ]; do
    # shellcheck disable=SC2086
    "$fast" compare $longer --out "$w/killed" --quiet >/dev/null 2>"$w/err" &
    pid=$!
    sleep "0.$((1 + kills % 4))"
    kill -9 $pid 2>/dev/null || { wait $pid; break; }
    wait $pid 2>/dev/null
    kills=$((kills + 1))
done
# shellcheck disable=SC2086
quick compare $longer --out "$w/killed"
if [ $kills -gt 0 ]; then ok; else bad "no run was killed"; fi
timeless "$w/whole/compare.tsv" >"$w/1"
timeless "$w/killed/compare.tsv" >"$w/2"
same "$w/1" "$w/2"
for file in "$w"/whole/windows-* "$w"/whole/alloc-* "$w"/whole/scores.tsv \
    "$w"/whole/candidates-*; do
    same "$file" "$w/killed/${file##*/}"
done

# --------------------------------------------------------------------- damage
# refused PATTERN: compare says so and leaves compare.tsv as it is
refused() {
    cp "$t" "$w/damaged.tsv"
    # shellcheck disable=SC2086
    "$gamma" compare $common $four $budgets --out "$w/a" --quiet >"$w/out" \
        2>"$w/err"
    code=$?
    if [ $code -eq "$1" ] && grep -q "$2" "$w/err"; then ok; else
        bad "exit code $code: $(cat "$w/err")
  expected $2"; fi
    same "$t" "$w/damaged.tsv"
}
cp "$t" "$w/good.tsv"
sed 's/^\(greedy.*bits\t\)2\./\13./' "$w/good.tsv" >"$t"
refused 1 "^gamma: $t: damaged or edited: expected rows of hash [0-9a-f]\{64\}, found [0-9a-f]\{64\}; move it away to measure anew$"
sed -n -e '1,7p' -e '8s/\t[^\t]*$//p' "$w/good.tsv" >"$t"
refused 1 "^gamma: $t: line 8: expected 20 cells, found 19$"
grep -v '^gamma' "$w/good.tsv" >"$t"
refused 1 "^gamma: $t: damaged or edited: "
sed 's/gamma-compare 1/gamma-compare 2/' "$w/good.tsv" >"$t"
refused 1 "^gamma: $t: format: expected \"gamma-compare 1\", found \"gamma-compare 2\"$"
sed 's/\tkl\t/\tKL\t/' "$w/good.tsv" >"$t"
refused 1 "^gamma: $t: column 11: expected the columns of gamma compare, found \"KL\"$"
printf '# format gamma-compare 1\nkey\nk\n' >"$t"
refused 1 "^gamma: $t: expected the columns of gamma compare, found 1$"
: >"$t"
refused 1 "^gamma: $t: "
cp "$w/good.tsv" "$t"
lost=$(windows uniform 3)
mv "$lost" "$w/lost"
refused 5 "^gamma: $lost: cannot open: No such file or directory$"
sed '$d' "$w/lost" >"$lost"
refused 1 "^gamma: $lost: expected windows of mean KL [0-9.]*, as $t has it for uniform 3; found 3 of mean [0-9.]*$"
mv "$w/lost" "$lost"
c=$(echo "$w"/a/candidates-*)
cp "$c" "$w/candidates"
printf '\125' | dd of="$c" bs=1 seek=300000 conv=notrunc 2>/dev/null
refused 1 "^gamma: $c: damaged: expected SHA-256 [0-9a-f]\{64\} ($w/a/sha256-[0-9a-f]\{12\}.txt), found [0-9a-f]\{64\}; remove it and it will be made again$"
rm "$c"
# shellcheck disable=SC2086
quick compare $common $four $budgets --out "$w/a"
same "$c" "$w/candidates"
same "$t" "$w/good.tsv"

# ---------------------------------------------------------------- wrong usage
all="uniform, mix, random, first-high, last-high, greedy, gram, separable, closed-form, anneal, evolve, evolve-kl, rco, gamma, refined or baq"
# shellcheck disable=SC2086
{
expect 2 "gamma: --methods: expected $all, found \"genetic\"" \
    compare $common --out "$w/x" --methods uniform,genetic
expect 2 'gamma: --methods: uniform is given twice' \
    compare $common --out "$w/x" --methods uniform,uniform
expect 2 'gamma: compare: --out DIR is missing' compare $common
expect 2 'gamma: compare: expected one of --eval FILE, --eval-tokens FILE.npy, found none' \
    compare $m --calib data/calib.txt --out "$w/x"
expect 2 'gamma: compare: expected one of --calib FILE, --tokens FILE.npy, found none' \
    compare $m --text data/test.txt --out "$w/x"
expect 2 'gamma: --in: expected bits, ebits or bytes, found "words"' \
    compare $common --out "$w/x" --in words
expect 2 'gamma: --evaluations: expected a whole number from 1 to 1000000, found "0"' \
    compare $m $text --out "$w/x" --evaluations 0
expect 2 'gamma: --alpha does not go with --scores' \
    compare $m $text --out "$w/x" --scores x.tsv --alpha 1
expect 3 'gamma: a budget of 1.5 bits: no assignment is that small; reachable are 2 to 4 bits per weight, next below: none, above: 2' \
    compare $common --out "$w/x" --budgets 3,1.5
expect 2 'gamma: budget: expected a positive decimal number of bits per weight, such as 2.5, found "two"' \
    compare $common --out "$w/x" --budgets two
expect 5 "gamma: $w/none.txt: cannot open: No such file or directory" \
    compare $m --calib data/calib.txt --text "$w/none.txt" --out "$w/x"
sed 's/^# candidates_hash ./# candidates_hash x/' "$w/fit/scores.tsv" \
    >"$w/other.tsv"
h=$(sed -n 's/^# candidates_hash .//p' "$w/fit/scores.tsv")
g=$(sed -n 's/^# candidates_hash //p' "$w/fit/scores.tsv")
expect 1 "gamma: $w/other.tsv: candidates_hash: expected $g, found x$h" \
    compare $scored $four --out "$w/a" --scores "$w/other.tsv"
}
if [ -e "$w/x" ]; then bad "a refused run wrote $w/x"; else ok; fi

# ------------------------------------------------------------ multiple choice
succeed eval $m --choices data/choices.jsonl
if [ "$(tail -n 1 "$w/out" | tr '\t' ' ')" = \
    "original 22 0.681818 0.101639 0.636364 0.104973 0.636364 0.104973" ]
then ok; else bad "multiple choice: $(cat "$w/out")"; fi
quick eval $m --choices data/choices.jsonl --text data/test.txt \
    --window 64 --windows 4 --alloc "$w/a/alloc-greedy-2.25.tsv" --cache "$w/a"
if awk -F '\t' 'NF != 19 { exit 1 } $1 == "quantized" { ok = $13 == 22 &&
    $14 < 0.681818 && $14 > 0.3 } END { exit !(ok && NR == 3) }' "$w/out"
then ok; else bad "both tables: $(cat "$w/out")"; fi
echo '{"context": "And", "choices": ["he", "she"]}' >"$w/q.jsonl"
expect 1 "gamma: $w/q.jsonl: line 1: answer: expected a whole number from 0 to 1, found nothing" \
    eval $m --choices "$w/q.jsonl"
# a newline however it is written; test_choice.c has the likelihoods
for delimiter in '\n' '
' '\u000a'; do
    succeed eval $m --choices data/choices.jsonl --delimiter "$delimiter"
    [ -e "$w/newline" ] || cp "$w/out" "$w/newline"
    succeed eval $m --choices data/choices.jsonl --delimiter="$delimiter"
    if cmp -s "$w/out" "$w/newline" && ! grep -q 0.681818 "$w/out"
    then ok; else bad "--delimiter '$delimiter': $(cat "$w/out")"; fi
done
expect 2 'gamma: argument "a?b": control character 0x0A' \
    eval $m --choices 'a
b'
expect 2 'gamma: --bos always: the tokenizer has no bos_token' \
    eval $m --choices data/choices.jsonl --bos always
expect 2 'gamma: eval: expected one of --eval FILE, --eval-tokens FILE.npy, found none' \
    eval data/tiny-llama

# shellcheck disable=SC2086
{
    few="--calib data/calib.txt --text data/test.txt --sequences 1 --length 32
        --batch 1 --steps 1 --group 64 --window 32 --windows 1"
    expect 2 'gamma: compare: expected at most 1024 rows, found 1025' \
        compare data/tiny-llama $few --methods uniform --out "$w/few" \
        --budgets "$(seq -s , 3 0.0001 3.1023)"
    # BAQ's levels within a number of bytes
    succeed compare data/tiny-llama $few --methods baq --out "$w/few" \
        --in bytes --budgets 850000
    awk -F '\t' '$1 == "baq" { fits = $7 <= 850000 && $7 > 840000 }
        END { exit !(fits && NR == 3) }' "$w/out" && ok || bad "baq: $(cat "$w/out")"
}

finish
