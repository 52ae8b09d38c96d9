#!/bin/sh
# test_vipr.sh: `gamma solve --proof` and `--lp-plain`, `gamma check --proof` as
# a user gives them: every constraint, infeasible budgets, many budgets, a tree
# that ends too early; proofs of another budget, another table; what glpsol
# makes of the plain program.  Each proof is also judged by tools/check_vipr.py
# (python3).  GAMMA: the program to test; one without GLPK has no resources.
# SPDX-License-Identifier: GPL-3.0-or-later
w=${WORK:-build/test/vipr-work}
. tests/shell.sh

python() {
    is "check_vipr.py $1" "$(python3 tools/check_vipr.py "$1")" \
        "$1: accepted: $2"
}

# ------------------------------------------------------------------- instances
# four blocks, a name that needs spelling, a candidate that is missing
awk 'BEGIN {
    split("q_proj k_proj v_proj o_proj gate_proj up_proj down_proj", part, " ")
    split("2 3 4 8", bits, " ")
    print "# format gamma-scores 1\n# overhead_bytes 1000"
    printf "module\tout\tin\tweights"
    for (k = 1; k <= 4; k++)
        printf "\t%s.bytes\t%s.score\t%s.stderr", bits[k], bits[k], bits[k]
    print ""
    for (m = 0; m < 28; m++) {
        out = 64 * (m % 7 < 4 ? 1 : 3)
        name = "model.layers." int(m / 7) "." part[m % 7 + 1]
        printf "%s\t%d\t64\t%d", m == 27 ? "last module (~27)" : name, out,
               64 * out
        scale = 1000 + (m * 7919) % 997
        for (k = 1; k <= 4; k++) {
            scale /= 4
            if (m == 3 && k == 4) printf "\t-\t-\t-"
            else printf "\t%d\t%.6f\t%.6f", 8 * out * bits[k] + 3 * out, scale,
                        scale / 10
        }
        print ""
    }
}' >"$w/s.tsv"
s=$w/s.tsv
awk 'BEGIN { print "# resource latency\nmodule\t2\t3\t4\t8" }
    !/^#/ && n++ { print $1 "\t1.0\t0.75\t0.5\t0.25" }' FS='\t' "$s" \
    >"$w/latency.tsv"
resource="--resource $w/latency.tsv:20.5"
"$gamma" solve "$s" --bits 3 $resource --quiet 2>&1 |
    grep -q 'built without it' && resource=

# --------------------------------------------------------- optima, with checks
for more in "--bits 3" "--bits 2" "--bits 8" "--ebits 3.3" "--bytes 150K" \
    "--bits 3 --exact" "--bits 3 --score-bits 44" \
    "--bits 3.5 --fuse q_proj+k_proj+v_proj,gate_proj+up_proj" \
    "--bits 3.3 --min-bits 3 --max-bits down_proj=4" \
    "--bits 3 --pin o_proj=3 --fuse gate_proj+up_proj --exact" \
    ${resource:+"--bits 4 $resource --fuse q_proj+k_proj"}; do
    # shellcheck disable=SC2086
    succeed solve "$s" $more --out "$w/a.tsv" --proof "$w/p.vipr"
    best=$(sed -n 's/^# objective //p' "$w/a.tsv")
    python "$w/p.vipr" "range $best $best"
    # shellcheck disable=SC2086
    succeed check "$w/a.tsv" "$s" --proof "$w/p.vipr" \
        $(case $more in *--resource*) echo --resource "$w/latency.tsv" ;; esac)
    is "check $more" "$(grep '^proof' "$w/out" | tr '\t' ' ')" \
        "proof $best <= optimum <= $best $best holds"
    # shellcheck disable=SC2086
    succeed check - "$s" $more --proof "$w/p.vipr"
    is "check - $more" "$(tail -n 1 "$w/out" | tr '\t' ' ')" \
        "optimum $best $best"
done

# what is forbidden keeps its score, also when the others were rounded finer
printf 'module\tweights\t2.bytes\t2.score\t3.bytes\t3.score\t4.bytes\t4.score
a\t8\t2\t1e-9\t3\t4e-9\t4\t9e8\nb\t8\t2\t3e-9\t3\t1e-9\t4\t-9e300\n' \
    >"$w/far.tsv"
succeed solve "$w/far.tsv" --bits 3 --max-bits 3 --out "$w/a.tsv" --proof "$w/p.vipr"
succeed check "$w/a.tsv" "$w/far.tsv" --proof "$w/p.vipr"
is "score_shift" "$(sed -n 's/^# score_shift //p' "$w/a.tsv")" 85
python "$w/p.vipr" "range $(sed -n 's/^RTP range //p' "$w/p.vipr")"

# --------------------------------------------------------- nothing is feasible
while read -r more; do
    rm -f "$w/p.vipr"
    # shellcheck disable=SC2086
    "$gamma" solve "$s" $more --proof "$w/p.vipr" --quiet >"$w/out" 2>"$w/err"
    is "solve $more: exit code" $? 3
    python "$w/p.vipr" infeas
    # shellcheck disable=SC2086
    succeed check - "$s" $more --proof "$w/p.vipr"
    is "check - $more" "$(tail -n 1 "$w/out" | tr '\t' ' ')" \
        "nothing is feasible - -"
done <<END
--bits 1.9
--bits 2.0001 --exact
--bits 9 --exact
--bits 7.99 --exact
--bits 3 --min-bits 4
--bits 3 --min-bits 4 --max-bits q_proj=3
--bits 4 --pin model.layers.0.o_proj=8
${resource:+--bits 4 --resource $w/latency.tsv:1}
${resource:+--bits 2.5 --resource $w/latency.tsv:21 --fuse q_proj+k_proj}
END
cp "$w/p.vipr" "$w/none.vipr"

# ---------------------------------------------------------------- many budgets
succeed solve "$s" --budgets 2.25,3 --proof "$w/many-%.vipr" --out "$w/m-%.tsv"
succeed check "$w/m-2.25.tsv" "$s" --proof "$w/many-2.25.vipr"
succeed check "$w/m-3.tsv" "$s" --proof "$w/many-3.vipr"
succeed solve "$s" --bits 3 --proof "$w/p.vipr"
same "$w/p.vipr" "$w/many-3.vipr"

# ---------------------------------------------------- proofs of something else
not="not the program that the scores, the budget and the constraints give:"
grep -n '^budget' "$w/many-3.vipr" | cut -d: -f1 >"$w/line"
sed -n 's/^budget L \([0-9]*\) .*/\1/p' "$w/many-3.vipr" >"$w/three"
sed -n 's/^budget L \([0-9]*\) .*/\1/p' "$w/many-2.25.vipr" >"$w/two"
expect 7 "gamma: $w/many-3.vipr: line $(cat "$w/line"): $not expected \
\"$(cat "$w/two")\", found \"$(cat "$w/three")\"" \
    check "$w/m-2.25.tsv" "$s" --proof "$w/many-3.vipr"
sed 's/1000.*q_proj/&/; s/model.layers.0.q_proj/other/' "$s" >"$w/other.tsv"
expect 7 "gamma: $w/many-3.vipr: line 4: $not expected \"x_other_2\", found \
\"x_model.layers.0.q_proj_2\"" \
    check - "$w/other.tsv" --bits 3 --proof "$w/many-3.vipr"
sed 's/^RTP range \([0-9]*\)/RTP range 1\1/' "$w/many-3.vipr" >"$w/bad.vipr"
best=$(sed -n 's/^# objective //p' "$w/m-3.tsv")
line=$(grep -n '^RTP' "$w/bad.vipr" | cut -d: -f1)
expect 7 "gamma: $w/bad.vipr: line $line: expected a whole number from \
1$best to 9223372036854775807, found \"$best\"" \
    check "$w/m-3.tsv" "$s" --proof "$w/bad.vipr"
# right, but of less than the assignment has
sed "s/^RTP range $best $best/RTP range $best ${best}0/" "$w/many-3.vipr" \
    >"$w/weak.vipr"
expect 7 "gamma: $w/m-3.tsv: 1 of $("$gamma" check "$w/m-3.tsv" "$s" --proof \
    "$w/many-3.vipr" --quiet | grep -vc '^claim') claims do not hold: proof" \
    check "$w/m-3.tsv" "$s" --proof "$w/weak.vipr"
# an assignment within the budget that is not the one of the proof
succeed solve "$s" --bits 3 --out "$w/worse.tsv" --score-bits 29
expect 7 "gamma: $w/many-3.vipr: line $(awk '/^OBJ/ { print NR + 1 }' \
    "$w/many-3.vipr"): $not expected \"$(sed -n '/^OBJ/{n;p;}' \
    "$w/many-3.vipr" | awk '{ printf "%d", $3 / 2 }')\", found \"$(sed -n \
    '/^OBJ/{n;p;}' "$w/many-3.vipr" | awk '{ print $3 }')\"" \
    check "$w/worse.tsv" "$s" --proof "$w/many-3.vipr"

# ------------------------------------------------------------ a tree too large
# 60 equal modules, of which the LP bound has 30 and a half at 3 bits; the last
# makes their sizes share no divisor
awk 'BEGIN {
    print "module\tout\tin\tweights\t2.bytes\t2.score\t3.bytes\t3.score"
    for (m = 0; m < 60; m++) print "m" m "\t8\t64\t512\t100\t1\t300\t0"
    print "last\t8\t64\t512\t100\t0.001\t101\t0"
}' >"$w/hard.tsv"
succeed solve "$w/hard.tsv" --bytes 12200 --solver dp --proof "$w/p.vipr" \
    --out "$w/a.tsv"
best=$(sed -n 's/^# objective //p' "$w/a.tsv")
bounds=$(sed -n 's/^RTP range //p' "$w/p.vipr")
if [ "${bounds% *}" -lt "$best" ] && [ "${bounds#* }" -eq "$best" ]; then ok
else bad "hard: range $bounds, objective $best"; fi
python "$w/p.vipr" "range $bounds"
succeed check "$w/a.tsv" "$w/hard.tsv" --proof "$w/p.vipr"
is "hard: check" "$(grep '^proof' "$w/out" | tr '\t' ' ')" \
    "proof ${bounds% *} <= optimum <= $best $best holds"

# ----------------------------------------------------------- the plain program
if command -v glpsol >/dev/null; then
    for more in "--bits 3" "--bits 3 --exact" "--ebits 3.3 --pin o_proj=3" \
        "--bytes 150K --fuse q_proj+k_proj+v_proj"; do
        # shellcheck disable=SC2086
        succeed solve "$s" $more --lp-plain "$w/p.lp" --score-bits 20 \
            --out "$w/a.tsv"
        glpsol --lp "$w/p.lp" -w "$w/solution" >"$w/log" 2>&1
        is "glpsol $more" "$(awk '$1 == "s" { print $5, $6 }' "$w/solution")" \
            "o $(sed -n 's/^# objective //p' "$w/a.tsv")"
    done
    "$gamma" solve "$s" --bits 1.9 --lp-plain "$w/p.lp" --quiet 2>/dev/null
    glpsol --lp "$w/p.lp" >"$w/log" 2>&1
    is "glpsol of what is infeasible" "$(grep -c 'HAS NO.*FEASIBLE SOLUTION' \
        "$w/log")" 1
else
    bad "missing: glpsol"
fi

# -------------------------------------------------------------------- refusals
{ cat "$w/many-3.vipr"; printf '\000'; } >"$w/nul.vipr"
expect 7 "gamma: $w/nul.vipr: line 1: a NUL byte" \
    check "$w/m-3.tsv" "$s" --proof "$w/nul.vipr"
sed '$d' "$w/many-3.vipr" >"$w/short.vipr"
last=$(($(wc -l <"$w/short.vipr") + 1))
expect 7 "gamma: $w/short.vipr: line $last: the file ends early" \
    check "$w/m-3.tsv" "$s" --proof "$w/short.vipr"
expect 2 "gamma: --proof: of several budgets a % in the name stands for \
each; found none in \"$w/p.vipr\"" \
    solve "$s" --budgets 2,3 --proof "$w/p.vipr"
expect 2 "gamma: --lp-plain does not go with --frontier" \
    solve "$s" --frontier --lp-plain "$w/p.lp"
for alloc in - "$w/m-3.tsv"; do
    expect 2 "gamma: check: --bits goes with --proof and - in place of \
ALLOC.tsv, which says it already" check $alloc "$s" --bits 3
done
expect 2 "gamma: check: expected one of --budget, --bits, --ebits, --bytes, found none" \
    check - "$s" --proof "$w/none.vipr"
grep -v '^#' "$w/m-3.tsv" >"$w/bare.tsv"
expect 1 "gamma: $w/bare.tsv: --proof: expected an assignment with its \
certificate" check "$w/bare.tsv" "$s" --proof "$w/many-3.vipr"
expect 7 "gamma: $w/s.tsv: line 1: $not expected \"VER\", found \"#\"" \
    check "$w/m-3.tsv" "$s" --proof "$s"

finish
