#!/bin/sh
# test_solve.sh: every option of `gamma solve` and `gamma check` as a user gives
# them, on made-up scores of 28 modules; bad input with its exact message;
# limits with their exit code.  GAMMA: the program to test (the sanitized build);
# one without GLPK is asked for what such a one must do.
# SPDX-License-Identifier: GPL-3.0-or-later
w=${WORK:-build/test/solve-work}
. tests/shell.sh

# table ARGS...: succeeds; solve: of one budget; then value KEY reads the result.
solve() { table "$@" --certificate; }
table() {
    if "$gamma" solve "$@" >"$w/out" 2>"$w/err"; then ok; else
        bad "gamma solve $*: exit code $?: $(tail -n 1 "$w/err")"
    fi
}
value() { awk -F '\t' -v k="$1" '$1 == k { print $2 }' "$w/out"; }
# is "WHAT" FOUND EXPECTED
# all "WHAT" "AWK CONDITION" FILE: it holds on every row of an alloc.tsv.
all() {
    wrong=$(grep -v '^#' "$3" | awk -F '\t' "NR > 1 && !($2)" | head -n 3)
    if [ -z "$wrong" ]; then ok; else bad "$1: $wrong"; fi
}

have_glpk=yes
"$gamma" solve nothing.tsv --bits 1 --solver glpk 2>&1 |
    grep -q 'built without GLPK' && have_glpk=no

# ------------------------------------------------------------------ instances
# four blocks; scores fall as 4^-bits; standard errors a tenth
awk 'BEGIN {
    split("self_attn.q_proj self_attn.k_proj self_attn.v_proj " \
          "self_attn.o_proj mlp.gate_proj mlp.up_proj mlp.down_proj", part, " ")
    print "# format gamma-scores 1\n# overhead_bytes 1000"
    printf "module\tout\tin\tweights"
    split("2 3 4 8", bits, " ")
    for (k = 1; k <= 4; k++)
        printf "\t%s.bytes\t%s.score\t%s.stderr", bits[k], bits[k], bits[k]
    print ""
    for (m = 0; m < 28; m++) {
        out = 64 * (m % 7 < 4 ? 1 : 3)
        printf "model.layers.%d.%s\t%d\t64\t%d", m / 7, part[m % 7 + 1], out,
               64 * out
        scale = 1000 + (m * 7919) % 997
        for (k = 1; k <= 4; k++) {
            scale /= 4
            printf "\t%d\t%.6f\t%.6f", 8 * out * bits[k] + 3 * out,
                   scale, scale / 10
        }
        print ""
    }
}' >"$w/s.tsv"
s=$w/s.tsv
# scores all but proportional to sizes that are odd by little: no quick proof
awk 'BEGIN {
    print "# format gamma-scores 1"
    print "module\tout\tin\tweights\t2.bytes\t2.score\t3.bytes\t3.score\t" \
          "4.bytes\t4.score"
    x = 1
    for (m = 0; m < 300; m++) {
        printf "layers.%d.w\t4096\t4096\t16777216", m
        for (k = 2; k <= 4; k++) {
            x = (x * 16807) % 2147483647
            bytes = k * 2097152 + x % 4096
            x = (x * 16807) % 2147483647
            printf "\t%d\t%.6f", bytes, 200000 - bytes / 64 + (x % 1000) / 100
        }
        print ""
    }
}' >"$w/hard.tsv"

# ---------------------------------------------------------- one budget, checks
# an assignment by hand, of two modules of 2 or 4 bits: no certificate
printf 'module\tbits\na\t4\nb\t2\n' >"$w/hand.tsv"
"$gamma" check "$w/hand.tsv" tests/fuzz/scores.tsv >"$w/out" 2>"$w/err"
code=$?
if [ $code -eq 0 ] && grep -q '^no certificate in the file; score 2.25, no assignment of its code bits scores below 2.25: within 0 % of optimal$' \
    "$w/err"; then ok; else bad "no certificate: $code, $(cat "$w/err")"; fi
for budget in "--bits 2.5" "--ebits 3.1" "--bytes 80K" "--bytes 81920" \
    "--bits 2" "--bits 8" "--bits 100" "--bits 3 --exact"; do
    # shellcheck disable=SC2086
    solve "$s" $budget --out "$w/a.tsv"
    is "$budget" "$(value optimal)" proven
    is "$budget" "$(value gap)" 0
    is "$budget" "$(value ties)" \
        "smallest size, then fewest bits in module order: proven"
    if [ $have_glpk = yes ]; then
        is "$budget" "$(value solvers)" "dynamic program and GLPK agree"
    else
        is "$budget" "$(value solvers)" "dynamic program"
    fi
    if "$gamma" check "$w/a.tsv" "$s" --quiet >"$w/claims"; then ok; else
        bad "check after $budget: $(grep WRONG "$w/claims")"; fi
done
solve "$s" --bits 3 --exact
is "an exact budget" "$(value slack)" 0
solve "$s" --bits 2.5 --out "$w/a.tsv" --solver dp
solve "$s" --bits 2.5 --out "$w/b.tsv" --score-bits 20
sed 's/^# bound .*/# bound 1/' "$w/a.tsv" >"$w/wrong.tsv"
"$gamma" check "$w/wrong.tsv" "$s" --quiet >"$w/out" 2>"$w/err"
is "a wrong bound: exit code" $? 7
is "a wrong bound" "$(grep -c "^gap.*WRONG" "$w/out")" 1
expect 7 "gamma: $w/wrong.tsv: 4 of 25 claims do not hold: gap = objective - \
bound; order; optimal; ties" check "$w/wrong.tsv" "$s"

# a proof closes what the multiplier leaves
solve "$s" --bits 2.5 --out "$w/proven.tsv" --proof "$w/proof.vipr"
for more in "" "--proof $w/proof.vipr"; do
    # shellcheck disable=SC2086
    "$gamma" check "$w/proven.tsv" "$s" $more >"$w/out" 2>"$w/err"
    is "the verdict, $more" "$? $(grep 'assignments of' "$w/err" | sed \
        's/, among.*//; s/[0-9.]* % of optimal.*/P/; s/ (within.*//')" \
        "0 $([ -z "$more" ] && echo "all claims hold; among the assignments of \
at most 532480 code bits the multiplier alone proves this one within P" ||
        echo "optimal among the assignments of at most 532480 code bits: the \
proof shows it")"
done

# one line of a certificate changed, left out, added: refused by its name
# forged SED-SCRIPT CODE "MESSAGE BEHIND THE FILE'S NAME"
forged() {
    sed "$1" "$w/a.tsv" >"$w/forged.tsv"
    expect "$2" "gamma: $w/forged.tsv: $3" check "$w/forged.tsv" "$s"
}
forged '/^# convention/d' 1 'convention: the certificate lacks this key'
forged 's/^# relation .*/# relation >=/' 1 \
    'relation: expected <=|=, found ">="'
forged 's/^# gap .*/# gap 0 of 7/' 7 \
    '1 of 25 claims do not hold: gap = objective - bound'
forged 's/^# budget_asked .*/# budget_asked 2.5 or so/' 7 \
    '1 of 25 claims do not hold: budget from budget_asked'
forged 's/^# score_shift .*/# score_shift -100/' 7 '8 of 25 claims do not '\
'hold: score_shift; rounding_error = modules 2^-score_shift; objective; '\
'lp_bound from multiplier_num, multiplier_den; gap = objective - bound; '\
'order; optimal; ties'
forged 's/^# objective_real .*/&	7/' 7 \
    '1 of 25 claims do not hold: objective_real'
forged '1s/^/# recipe rtn\n/' 1 'recipe: no key of a certificate'
forged '1s/^/# candidates rtn\n/' 7 '1 of 26 claims do not hold: candidates'
forged 's/^module	bits	bytes$/module	bits	size/' 1 \
    'column size: none of an allocation with a certificate'

# scores so large that those a percentage apart are far from optimal: rounded to
# 512 all of a's are the same, and 2 bits are 2e-8 % above 3
printf 'module\tweights\t2.bytes\t2.score\t3.bytes\t3.score
a\t8\t2\t-999999999900\t3\t-1e12\nb\t8\t2\t-999999999000\t3\t-1e12\n' >"$w/far.tsv"
"$gamma" solve "$w/far.tsv" --bits 3 --out "$w/a.tsv" --quiet >"$w/out"
"$gamma" check "$w/a.tsv" "$w/far.tsv" 2>&1 >"$w/out" | grep -q '^optimal among' ||
    bad "check of far scores"
sed "s/^a	3	3/a	2	2/; s/score_shift .*/score_shift -9/
    s/\(objective\|bound\) -.*/\1 -3906250000/; s/rounding_error .*/rounding_error 1024/
    s/objective_real .*/objective_real -1.9999999999e+12/
    s/optimal .*/optimal not proven: rounding/; s/ties .*/ties any optimum/
    s/\(code_bits\|size\|effective_bits\) 48/\1 40/; s/slack 0/slack 8/
    s/file_bytes 6/file_bytes 5/; s/\(average_.*_bits\) 3/\1 2.5/" "$w/a.tsv" >"$w/forged.tsv"
is "far scores, too coarse" "$("$gamma" check "$w/forged.tsv" "$w/far.tsv" 2>&1 \
    >"$w/out" | sed -n 's/ [0-9.e-]* %.*/ P/; /assignments/p')" "all claims hold; \
among the assignments of at most 48 code bits the multiplier alone proves this one within P"

# ------------------------------------------------------------------- couplings
solve "$s" --bits 3 --pin 'lm_head=16' --pin '*.down_proj>=3' --pin 'q_proj=8' \
    --pin 'k_proj<=2,o_proj>=3' --out "$w/a.tsv"
all "--pin" '($1 !~ /down_proj/ || $2 >= 3) && ($1 !~ /q_proj/ || $2 == 8) &&
    ($1 !~ /k_proj/ || $2 == 2) && ($1 !~ /o_proj/ || $2 >= 3)' "$w/a.tsv"
expect 2 "gamma: --max-bits: no module of $s matches \"mlp.*\"" solve "$s" \
    --bits 3 --max-bits 'mlp.*=3'
solve "$s" --bits 3 --min-bits 3 --max-bits '*.mlp.*=3' --max-bits 4 \
    --out "$w/a.tsv"
all "bounds" '$2 >= 3 && $2 <= 4 && ($1 !~ /mlp/ || $2 == 3)' "$w/a.tsv"
solve "$s" --bits 2.9 --fuse q_proj+k_proj+v_proj --fuse gate_proj+up_proj \
    --out "$w/a.tsv"
wrong=$(grep -v '^#' "$w/a.tsv" | awk -F '\t' 'NR > 1 {
    group = $1; sub(/(q|k|v)_proj/, "qkv", group)
    sub(/(gate|up)_proj/, "gu", group)
    if (group in bits && bits[group] != $2) print $1
    bits[group] = $2 }')
is "--fuse" "$wrong" ""
"$gamma" check "$w/a.tsv" "$s" --quiet >"$w/out" || bad "check of --fuse"
is "check of --fuse" "$(grep -c 'fused modules.*holds' "$w/out")" 1
# rows in another order; the verdict says among what the answer is the best
{ grep '^#' "$w/a.tsv"; grep '^module' "$w/a.tsv"; grep '^model' "$w/a.tsv" |
    sort -r; } >"$w/sorted.tsv"
"$gamma" check "$w/sorted.tsv" "$s" >"$w/out" 2>"$w/err"
is "check of other rows" $? 0
is "check of --fuse: the verdict" "$(grep -c "among the assignments of at most \
[0-9]* code bits, 12 of 28 bound to others by the fused column" "$w/err")" 1
solve "$s" --bits 4 --max-bits 4 --out "$w/a.tsv" --solver dp
"$gamma" check "$w/a.tsv" "$s" >"$w/out" 2>"$w/err"
is "check of --max-bits" "$(sed 's/ (.*//' "$w/err" | head -n 1)" "optimal \
among the assignments of at most 851968 code bits, 28 of 28 modules restricted \
by the allowed column: the multiplier alone proves it"
row=$(grep -n '^model' "$w/a.tsv" | head -n 1 | cut -d: -f 1)
for list in '*' 2,3, 3,2 2,,3 5 "2,3,4 " "2,3,4,8,16"; do
    forged "${row}s/2,3,4/$list/" 1 "line $row: model.layers.0.self_attn.\
q_proj: column allowed: expected bits of its candidates such as 2,3,4, found \
\"$list\""
done
forged "s/2,3,4\$/3,4/;${row}s/3,4\$/2,3/" 7 '3 of 26 claims do not hold: '\
'allowed bits; lp_bound from multiplier_num, multiplier_den; order'

# a table of latencies: 0.25 for each bit of each module
awk 'BEGIN { print "# resource latency\nmodule\t2\t3\t4\t8" }
    /^model/ { printf "%s\t0.5\t0.75\t1\t2\n", $1 }' "$s" >"$w/latency.tsv"
if [ $have_glpk = yes ]; then
    solve "$s" --bits 4 --resource "$w/latency.tsv:20.5" --out "$w/b.tsv"
    is "--resource" "$(value limit.latency)" 2050
    all=$(grep -v '^#' "$w/b.tsv" | awk -F '\t' 'NR > 1 { t += 0.25 * $2 }
        END { print (t <= 20.5) }')
    is "--resource: sum within the limit" "$all" 1
    "$gamma" check "$w/b.tsv" "$s" --resource "$w/latency.tsv" --quiet \
        >"$w/out" || bad "check of --resource"
    is "check of --resource" "$(grep -c '^limit.latency.*holds' "$w/out")" 1
    expect 2 "gamma: $w/b.tsv limits the resource \"latency\": give its table \
with --resource" check "$w/b.tsv" "$s"
    for more in --bits --exact\ --bits; do     # 3 bits alone could be met
        # shellcheck disable=SC2086
        expect 3 "gamma: no assignment meets the budget together with the other \
constraints" solve "$s" $more 3 --resource "$w/latency.tsv:1"
    done
else
    expect 2 "gamma: further resources need GLPK, and this program was built \
without it" solve "$s" --bits 4 --resource "$w/latency.tsv:20.5"
    expect 2 "gamma: --solver glpk: this program was built without GLPK (make \
GLPK=0)" solve "$s" --bits 4 --solver glpk
fi

# -------------------------------------------------- GLPK's model, seen by glpsol
if [ $have_glpk = no ]; then
    expect 2 "gamma: this program was built without GLPK (make GLPK=0)" \
        solve "$s" --bits 3 --lp "$w/model.lp"
elif command -v glpsol >/dev/null; then
    for more in "" "--exact" "--fuse q_proj+k_proj+v_proj"; do
        # shellcheck disable=SC2086
        solve "$s" --bits 3 $more --lp "$w/model.lp"
        glpsol --lp "$w/model.lp" -o "$w/solution" >"$w/log" 2>&1
        # printed with 10 digits
        other=$(awk '/^Objective:/ { print $4 }' "$w/solution")
        is "--lp $more: glpsol's optimum" \
            "$(awk -v a="$other" -v b="$(value objective)" 'BEGIN {
                d = a - b; if (d < 0) d = -d; print (d <= 1e-9 * b + 1) }')" 1
    done
else
    echo "test_solve: NOT CHECKED, missing: glpsol"
fi

# -------------------------------------------------- many budgets, the frontier
table "$s" --budgets 2.25,2.5,3 --out "$w/many-%.tsv"
is "--budgets: rows" "$(grep -c proven "$w/out")" 3
solve "$s" --bits 2.5 --out "$w/a.tsv"
if cmp -s "$w/a.tsv" "$w/many-2.5.tsv"; then ok; else
    bad "--budgets and --bits differ"; fi
# one budget by that name is the same as --bits, whatever is written; a % in a
# name is the budget there too
for option in --out --proof --lp-plain; do
    solve "$s" --bits 2.5 $option "$w/one-bits"
    solve "$s" --budget 2.5 $option "$w/one-budget"
    same "$w/one-bits" "$w/one-budget"
    solve "$s" --budget 2.5 $option "$w/one-%"
    same "$w/one-bits" "$w/one-2.5"
    rm "$w/one-2.5"
done
table "$s" --budgets 70K,80.5K --in bytes
is "--in bytes" "$(awk -F '\t' 'NR > 1 && $5 > $1 * 1000' "$w/out" | wc -l |
    tr -d ' ')" 0
expect 2 "gamma: --out: of several budgets a % in the name stands for each; \
found none in \"$w/x.tsv\"" solve "$s" --budgets 2,3 --out "$w/x.tsv"
table "$s" --frontier --in bits
cp "$w/out" "$w/frontier"
is "--frontier is complete" "$(grep -c 'all there are' "$w/err")" 1
is "--frontier: sizes rise, scores fall" "$(awk -F '\t' 'NR > 2 &&
    ($4 <= size || $3 >= score) { n++ } { size = $4; score = $3 }
    END { print n + 0 }' "$w/frontier")" 0
for budget in 2.25 3.7 5; do
    solve "$s" --bits $budget
    is "--frontier at $budget" "$(awk -F '\t' -v b="$(value budget)" 'NR > 1 &&
        $4 <= b { last = $3 } END { print last }' "$w/frontier")" \
        "$(value objective)"
done
table "$s" --frontier
cp "$w/out" "$w/frontier"
for budget in 70K 80.5K; do
    solve "$s" --bytes $budget
    is "--frontier in file bytes at $budget" "$(awk -F '\t' \
        -v b="$(value budget)" 'NR > 1 && $1 <= b { last = $1 " " $3 }
        END { print last }' "$w/frontier")" \
        "$(value file_bytes) $(value objective)"
    is "--frontier at $budget: its score, within the rounding" "$(awk -F '\t' \
        -v b="$(value budget)" -v u="$(value objective_real)" \
        -v e="$(value rounding_error)" 'NR > 1 && $1 <= b { d = $2 - u }
        END { print (d <= e && d >= -e) }' "$w/frontier")" 1
done
# too large for the memory: the supported points, exit code 4
"$gamma" solve "$w/hard.tsv" --frontier --memory 1 >"$w/out" 2>"$w/err"
is "--frontier at the limit: exit code" $? 4
is "--frontier at the limit says so" \
    "$(grep -c 'only the supported ones' "$w/err")" 1
is "--frontier at the limit: from all smallest to all largest" \
    "$(wc -l <"$w/out" | awk '{ print ($1 > 300) }')" 1

# --------------------------------------------------------------------- limits
# incumbent, bound and gap come out, and the exit code is 4
for limit in "--time-limit 0.02 --solver dp" "--memory 1 --solver dp"; do
    # shellcheck disable=SC2086
    "$gamma" solve "$w/hard.tsv" --bytes 1.9G $limit --out "$w/a.tsv" \
        --certificate >"$w/out" 2>"$w/err"
    is "$limit: exit code" $? 4
    is "$limit" "$(value optimal)" "not proven"
    is "$limit: gap = objective - bound > 0" "$(awk -F '\t' '{ v[$1] = $2 }
        END { print (v["gap"] > 0 && v["gap"] == v["objective"] - v["bound"]) }
        ' "$w/out")" 1
    is "$limit: the message" "$(grep -c "limit reached before a proof: \
objective $(value objective), bound $(value bound)\$" "$w/err")" 1
    "$gamma" check "$w/a.tsv" "$w/hard.tsv" --quiet >"$w/claims"
    is "$limit: check" $? 0
done

if [ $have_glpk = yes ]; then
    "$gamma" solve "$w/hard.tsv" --bytes 1.9G --memory 1 --time-limit 1 \
        --certificate >"$w/out" 2>"$w/err"
    is "the list has no room: whose answer it is" "$(value solvers)" \
        "GLPK; the dynamic program did not finish"
fi

"$gamma" solve "$w/hard.tsv" --budgets 1.9G,3G --in bytes --time-limit 0.02 \
    --solver dp >"$w/out" 2>"$w/err"
is "--budgets, one at the limit: exit code" $? 4
is "--budgets, one at the limit: both are there" "$(awk -F '\t' 'NR > 1 {
    print $1, $11 }' "$w/out" | tr '\n' ' ')" "1.9G no 3G proven "

# scores at the ends of a double come back through solve and check
for score in 0 5e-324 1e-323 1e-320 1e-310 3e-308 1e-300 1 1e300; do
    for other in 0 $score; do       # all equal: a range of 0
        { printf 'module\tweights\t2.bytes\t2.score\t3.bytes\t3.score\n'
          for m in a b c; do
              printf "$m\t1000\t250\t$score\t375\t$other\n"
          done; } >"$w/ends.tsv"
        succeed solve "$w/ends.tsv" --bits 2.5 --out "$w/ends-alloc.tsv"
        succeed check "$w/ends-alloc.tsv" "$w/ends.tsv"
    done
done

# ------------------------------------------------------------------- bad input
expect 2 "gamma: solve: expected one of --budget, --bits, --ebits, --bytes, \
--frontier, found none" solve "$s"
expect 2 "gamma: solve: expected one of --budget, --bits, --ebits, --bytes, \
--frontier, found several" solve "$s" --bits 2 --bytes 1M
if [ $have_glpk = yes ]; then
    for option in "--lp $w/no.lp" --glpk-log; do
        # shellcheck disable=SC2086
        expect 2 "gamma: ${option%% *} is of GLPK: it goes with --solver both \
or glpk" solve "$s" --bits 2 --solver dp $option
    done
    expect 2 "gamma: --memory is of the dynamic program: it goes with --solver \
both or dp" solve "$s" --bits 2 --solver glpk --memory 8
fi
# what would do nothing
expect 2 "gamma: --in goes with --budget|--frontier, found none" \
    solve "$s" --bits 2 --in bytes
expect 2 "gamma: --no-fuse goes with --for compressed-tensors or gptq, found \
none" solve "$s" --bits 2 --no-fuse
expect 2 "gamma: --certificate is of one budget, found several; --out FILE has \
it of each" solve "$s" --bits 2,3 --certificate
for option in "--out $w/no" --certificate "--lp $w/no" "--lp-plain $w/no" \
    "--proof $w/no" --exact "--solver dp" --glpk-log; do
    # shellcheck disable=SC2086
    expect 2 "gamma: ${option%% *} does not go with --frontier" \
        solve "$s" --frontier $option
done
expect 2 "gamma: --resource: expected tables of all that $w/many-2.5.tsv \
limits, 0, found \"$w/latency.tsv\"" \
    check "$w/many-2.5.tsv" "$s" --resource "$w/latency.tsv"
# a budget that nothing meets takes no other's answer away
"$gamma" solve "$s" --budget 1,2.5,1.5 --out "$w/met-%.tsv" --quiet \
    >"$w/out" 2>"$w/err"
is "one of three" "$? $(cut -f 1 "$w/out" | tr '\n' ' ')$(tail -n 1 "$w/err")" \
    "3 budget 2.5 gamma: $(sed -n 's/^gamma: \(a budget of 1 bits\)/\1/p' "$w/err")"
same "$w/met-2.5.tsv" "$w/many-2.5.tsv"
# a list and its % by any name of the budget
table "$s" --bits 2.25,3 --out "$w/bits-%.tsv" \
    $([ $have_glpk = no ] || echo --lp "$w/bits-%.lp")
for budget in 2.25 3; do
    same "$w/bits-$budget.tsv" "$w/many-$budget.tsv"
    [ $have_glpk = no ] || [ -s "$w/bits-$budget.lp" ] && ok ||
        bad "no --lp of $budget"
done
expect 2 "gamma: --solver: expected both, dp or glpk, found \"cplex\"" \
    solve "$s" --bits 2 --solver cplex
expect 2 "gamma: --pin: \"lm_head\" is none of the modules of $s: embeddings, \
norms and the output head stay as stored" solve "$s" --bits 3 \
    --pin lm_head=8 --pin '*.down_proj>=3'
expect 2 "gamma: --bits is given twice" solve "$s" --bits 3 --bits 4
expect 2 "gamma: --resource: expected FILE:LIMIT,..., found \"x\"" \
    solve "$s" --bits 3 --resource x
expect 3 "gamma: a budget of 1.5 bits: no assignment is that small; reachable are 2 to 8 \
bits per weight, next below: none, above: 2" solve "$s" --bits 1.5
expect 3 "gamma: a budget of 9 bits: no assignment is that large; reachable are 2 to 8 \
bits per weight, next below: 8, above: none" solve "$s" --bits 9 --exact
expect 3 "gamma: a budget of 2.01 bits: no assignment meets it exactly; reachable are 2 \
to 8 bits per weight, next below: 2, above: 2.01923077" \
    solve "$s" --bits 2.01 --exact
expect 3 "gamma: module model.layers.0.self_attn.q_proj: the constraints leave \
it no candidate" solve "$s" --bits 3 --pin q_proj=5

finish
