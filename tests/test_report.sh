#!/bin/sh
# test_report.sh: `gamma report` and the table.tsv, report.html that run and
# compare leave: every number is its file's (tools/check_report.py), the mix of
# two neighbours is that of a rule worked out here and measures what eval
# measures, the frontier is that of gamma solve, the curve that of the rows, the
# same bytes for 1 to 3 threads and from the sanitized program; hostile names,
# numbers and sizes of tables.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/report-work
. tests/shell.sh

sane() {        # DIR COUNTS
    found=$(python3 tools/check_report.py "$1" 2>&1)
    is "$1" "${found%; by html.parser*}" "$2"
    case $found in *"not installed") echo "test_report: NOT CHECKED by html5lib: \
it is not installed" ;; esac
}
cell() {        # FILE METHOD BUDGET COLUMN
    grep -v '^#' "$1" | awk -F '\t' -v m="$2" -v b="$3" -v c="$4" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == c) at = i }
        NR > 1 && $1 == m && $3 == b { print $at }'
}

m=data/tiny-llama
small="--sequences 4 --length 32 --batch 2 --steps 3 --group 64"
text="--window 64 --windows 4"
run="run $m --calib data/calib.txt --eval data/test.txt $small $text \
--budgets 2.3,3,3.6 --no-models"

# --------------------------------------------------------------- what run leaves
for threads in 1 2 3; do
    # shellcheck disable=SC2086
    quick $run --out "$w/$threads" --threads $threads
    cp "$w/out" "$w/table-$threads"
done
for file in report.html table.tsv frontier.tsv learning.tsv report-curve.svg \
    report-bits-3.svg; do
    same "$w/1/$file" "$w/2/$file"
    same "$w/1/$file" "$w/3/$file"
done
t=$w/1/table.tsv
sane "$w/1" "11 figures, 5 tables, 1785 cells, 41 numbers of certificates"
cp "$w/1/report.html" "$w/by-run.html"
succeed report "$w/1"
is "report says" "$(cat "$w/out")" "report
$w/1/report.html"
same "$w/1/report.html" "$w/by-run.html"
# what run prints is in the table
awk -F '\t' 'NR > 1 { printf "uniform %s %s\n", $1, $5
    printf "gamma %s %s\n", $1, $8 }' "$w/table-1" >"$w/printed"
grep -v '^#' "$t" | awk -F '\t' '$1 == "uniform" || $1 == "gamma" {
    print $1, $3, $7 }' >"$w/stated"
same "$w/printed" "$w/stated"
# uniform fills 3 bits: no mix there
is "rows" "$(grep -v '^#' "$t" | cut -f 1,3 | tr '\t\n' ' ;')" "method budget;\
original -;uniform 2.3;mix 2.3;gamma 2.3;uniform 3;gamma 3;uniform 3.6;mix 3.6;\
gamma 3.6;"
is "the command" "$(sed -n 's/^# command //p' "$t")" "gamma run $m --calib \
data/calib.txt --eval data/test.txt --out DIR --budget 2.3,3,3.6 --group 64 \
--sequences 4 --length 32 --batch 2 --steps 3 --window 64 --windows 4 --no-models"

# ------------------------------------- the mix, worked out from sizes alone: of
# what all modules take to go up, the slack is a share; a module goes when those
# before that went and it are at most that share of what all up to it take; then
# in order each that still fits
for b in 2.3 3.6; do
    awk -F '\t' -v low=${b%.*} -v b=$b 'BEGIN { n = 0 }
        /^#/ || $1 == "module" { next }
        { name[n] = $1; size[n] = $4; all += $4; n++ }
        END {
            print "module\tbits"
            left = room = int((b - low) * all + 1e-6)
            for (m = 0; m < n; m++) {
                sum += size[m]
                if ((went + size[m]) * all <= room * sum) {
                    went += size[m]; up[m] = 1
                }
            }
            left = room - went
            for (m = 0; m < n; m++)
                if (!up[m] && size[m] <= left) { left -= size[m]; up[m] = 1 }
            for (m = 0; m < n; m++) print name[m] "\t" low + up[m]
        }' "$w/1/scores.tsv" >"$w/mix.tsv"
    quick eval $m --text data/test.txt --alloc "$w/mix.tsv" --group 64 \
        --bits 2,3,4 --cache "$w/1" --window 64 --windows 4 --json
    for name in perplexity kl; do
        found=$(grep -o "\"quantized\".*" "$w/out" |
            sed "s/.*\"$name\": \([0-9.]*\).*/\1/")
        is "mix $b $name" "$found" "$(printf %.6f "$(cell "$t" mix $b $name)")"
    done
    quick quantize $m --alloc "$w/mix.tsv" --group 64 --bits 2,3,4 \
        --cache "$w/1" --format packed --out "$w/packed"
    is "mix $b bytes" "$(wc -c <"$w/packed" | tr -d ' ')" \
        "$(cell "$t" mix $b file_bytes)"
done

# ----------------------------------------------------------------- the frontier
quick solve "$w/1/scores.tsv" --frontier
cut -f 1,2 "$w/out" >"$w/points"
grep -v '^#' "$w/1/frontier.tsv" >"$w/stated"
same "$w/points" "$w/stated"
# which is of the scores as learned, and says so; those alone, without anchors:
mkdir "$w/fit"
sed '/^# \(anchors\|refined_.*\|kl\|kl_[a-z_]*\) /d' "$w/1/scores.tsv" |
    cut -f 1-13 >"$w/fit/scores.tsv"
cp "$w/1/learning.tsv" "$w/fit"
succeed report "$w/fit"
same "$w/fit/frontier.tsv" "$w/1/frontier.tsv"
while read -r lines words; do
    is "$words" "$(grep -c "$words" "$w/1/report.html") $(
        grep -c "$words" "$w/fit/report.html")" "$lines 0"
done <<end
1 By the scores as learned
1 corrected by the whole model
3 Scores are taken at the anchors
end

# ---------------------------------------------------- compare, fit, solve alone
# shellcheck disable=SC2086
succeed compare $m --calib data/calib.txt --text data/test.txt $small $text \
    --methods uniform,mix,random,first-high,last-high,greedy,gram,closed-form,gamma \
    --budgets 2.3,3 --evaluations 2 --out "$w/compare"
sane "$w/compare" "10 figures, 5 tables, 1797 cells, 0 numbers of certificates"
is "rows of compare" "$(grep -v '^#' "$w/compare/table.tsv")" \
    "$(grep -v '^#' "$w/compare/compare.tsv" | cut -f 1-17)"
is "what is not drawn" "$(grep -o 'Not drawn, .*' "$w/compare/report.html")" \
    "Not drawn, for their KL is higher: random, closed-form.</p>"
is "files of others" "$(grep -c 'Files of other methods, not drawn: 16.' \
    "$w/compare/report.html")" 1
sane "$w/fit" "7 figures, 4 tables, 1417 cells, 0 numbers of certificates"
is "what is not here" "$(grep -c 'is not here' "$w/fit/report.html")" 4
# the command that its settings are: again the same scores
sed -n "s,^<div class=\"box\"><pre>gamma,,p" "$w/fit/report.html" |
    sed "s,tiny-llama --calib TEXT --out DIR,$m --calib data/calib.txt \
--out $w/again," >"$w/command"
# shellcheck disable=SC2046
quick $(cat "$w/command")
same "$w/again/scores.tsv" "$w/fit/scores.tsv"

# ------------------------------------------------------------------ hostile files
h=$w/hostile
mkdir "$h"
{
    printf '# model <b>&"%s"\n# candidates_hash aa\n' "'"
    printf 'module\tweights\t2.score\t3.score\n'
    printf 'a.0.<i>&"q\t32\t4\t0\na.1.<i>&"q\t32\t2\t0\nb.0.lacks\t32\t-\t1\n]]>\t64\t1e-300\t0\n'
} >"$h/scores.tsv"
printf '# candidates_hash aa\nmodule\tbits\n<x>.1.&\t3\n%s\t16\n' "'" \
    >"$h/alloc-<&'\".tsv"
printf '# candidates_hash bb\nmodule\tbits\nx\t3\n' >"$h/alloc-<other>.tsv"
succeed report "$h"
sane "$h" "4 figures, 3 tables, 40 cells, 0 numbers of certificates"
is "escaped" "$(grep -c '<title>gamma: &lt;b&gt;&amp;&quot;&#39;&quot;</title>' \
    "$h/report.html")" 1
is "another run's" "$(grep -c 'not of this run: alloc-&lt;other&gt;.tsv' \
    "$h/report.html")" 1
# refused: nothing is written over
cp "$h/report.html" "$w/before.html"
refused() {     # FILE MESSAGE <<text
    cat >"$h/$1"
    expect 1 "gamma: $h/$1: $2" report "$h"
    same "$h/report.html" "$w/before.html"
    rm "$h/$1"
}
head='step\tE\tc\tlambda\tlambda+rho*c\tentropy\tbits\n'
printf "${head}1\t1\tnan\t0\t0\t1\t3\n" | refused learning.tsv \
    "line 2: column c: expected a finite number, found \"nan\""
printf "${head}1\t1\t0\t1e999\t0\t1\t3\n" | refused learning.tsv \
    "line 2: column lambda: expected a finite number, found \"1e999\""
printf 'step\tE\n1\t1\n' | refused learning.tsv 'no column "c"'
printf '# x \377\nstep\n' | refused learning.tsv \
    "line 1: byte 0xFF is not valid text"
printf 'module\tbits\nx\t33\n' | refused alloc.tsv \
    'line 2: x: column bits: expected 1 to 32, found "33"'
printf 'budget\n' | refused table.tsv \
    'format: expected "gamma-table 1", found "none"'
sed 's/\toriginal_ppl/\tx/; s/\tkl\t/\tKL\t/' "$t" | refused table.tsv \
    'column 11: expected the columns of gamma compare, found "KL"'
sed 's/^mix\(.*\)\t0$/mix\1\tinf/' "$t" | refused table.tsv \
    'line 15: column evaluations: expected a finite number, found "inf"'
sed 's/\t0.33445047\t/\t0,33\t/' "$t" | refused table.tsv \
    'line 15: column kl: expected a finite number, found "0,33"'
{ cat "$t"; i=0; while [ $i -lt 1024 ]; do tail -n 1 "$t"; i=$((i + 1)); done; } |
    refused table.tsv 'expected at most 1024 rows, found 1033'
# 2000 modules, 100 000 steps: the tables are cut, and say so; lines stay short
awk 'BEGIN { print "module\tweights\t2.score\t3.score"
    for (m = 0; m < 2000; m++) printf "l.%d.q%d\t64\t%.3f\t0\n", m % 500,
        m / 500, 1 + m % 97 / 7 }' >"$h/scores.tsv"
awk -v head="$(printf '%b' "$head")" 'BEGIN { print head
    for (s = 1; s <= 100000; s++) printf "%d\t%.6f\t%.6f\t0\t0\t1\t3\n", s, 1 / s,
        s % 13 / 13 }' >"$h/learning.tsv"
rm "$h"/alloc*
quick report "$h"
sane "$h" "6 figures, 4 tables, 7200 cells, 0 numbers of certificates"
is "cut" "$(grep -c 'the first 400 of \(2000\|100000\) rows' "$h/report.html")" 2
if [ "$(wc -c <"$h/report-learning-c.svg")" -lt 40000 ]; then ok; else
    bad "a line of $(wc -c <"$h/report-learning-c.svg") bytes"; fi
# nothing to report of
mkdir "$w/none"
expect 1 "gamma: $w/none: expected table.tsv, scores.tsv, learning.tsv or \
alloc*.tsv, as gamma run, compare, fit and solve write them, found none" \
    report "$w/none"
expect 5 "gamma: $w/nowhere: cannot open the directory: No such file or directory" report "$w/nowhere"
# run goes well though a page cannot be made of what else is there
printf 'module\n' >"$w/1/alloc-foreign.tsv"
# shellcheck disable=SC2086
"$fast" $run --out "$w/1" >"$w/out" 2>"$w/err"
is "run beside a foreign file" "$? $(grep -c "^no report: $w/1/alloc-foreign.tsv: \
no modules" "$w/err")" "0 1"
same "$w/out" "$w/table-1"

finish
