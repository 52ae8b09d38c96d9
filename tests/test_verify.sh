#!/bin/sh
# test_verify.sh: the commands `dump` and `verify`: same bytes for any number
# of threads, instruction set and way to reach a step; families left out above
# the limit; exit codes; the messages for what is wrong.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/verify-cli
. tests/shell.sh
holds() { if grep -q -e "$2" "$1"; then ok; else bad "$1 lacks \"$2\""; fi; }
lacks() { if grep -q -e "$2" "$1"; then bad "$1 has \"$2\""; else ok; fi; }

m=data/tiny-llama
o="--calib data/calib.txt --sequences 4 --length 32 --batch 2 --steps 3 --group 64 --train-bits 2.6"
# dump PROGRAM OUT ARGS...
dump() {
    program=$1 out=$2
    shift 2
    # shellcheck disable=SC2086
    "$program" dump $m $o --out "$w/$out.safetensors" "$@" >"$w/out" \
        2>"$w/err" || bad "dump $out $*: $(cat "$w/err")"
}

# ------------------------------------------- same bytes, however it was made
dump "$gamma" a --quantizer gptq --detail --step 2 --threads 1
for isa in scalar avx2 avx512 neon; do
    # shellcheck disable=SC2086
    if "$fast" dump $m $o --quantizer gptq --detail --step 2 --threads 3 \
        --isa $isa --out "$w/b.safetensors" --quiet >/dev/null 2>"$w/err"; then
        same "$w/a.safetensors" "$w/b.safetensors"
        same "$w/a.tsv" "$w/b.tsv"
    elif ! grep -q "as far as this machine has it" "$w/err"; then
        bad "$isa: $(cat "$w/err")"
    fi
done
# from a state of the same run
# shellcheck disable=SC2086
"$fast" fit $m $o --quantizer gptq --out "$w/fit" --quiet >/dev/null
dump "$fast" last --quantizer gptq --detail --step 3 --cache "$w/fit"
expect 1 "gamma: $w/fit/fit.state: is after step 3; expected one from before step 3" \
    dump $m $o --quantizer gptq --step 3 --state "$w/fit/fit.state" \
    --cache "$w/fit" --out "$w/x.safetensors"
if [ -e "$w/x.safetensors" ] || [ -e "$w/x.safetensors.partial" ]; then
    bad "a refused dump left a file"; else ok; fi
# killed after a step, and gone on from there
step=0
for i in 1 2 3 4 5; do
    rm -rf "$w/killed"
    # shellcheck disable=SC2086
    "$gamma" fit $m $o --quantizer gptq --out "$w/killed" --quiet \
        >/dev/null 2>&1 &
    pid=$!
    while kill -0 $pid 2>/dev/null && [ ! -e "$w/killed/fit.state" ]; do
        sleep 0.05
    done
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    step=$(sed -n 's/^# step //p' "$w/killed/fit.state")
    [ "$step" -lt 3 ] && break
done
if [ "$step" -lt 3 ]; then
    dump "$fast" resumed --quantizer gptq --detail --step 3 \
        --state "$w/killed/fit.state" --cache "$w/fit"
    same "$w/last.safetensors" "$w/resumed.safetensors"
elif [ "$gamma" != "$fast" ]; then      # which is too fast to be killed
    bad "not killed in time, $i times"
fi

# ------------------------------------------------------- what a dump contains
# its own file, scalars beside it
size=$(wc -c <"$w/last.safetensors" | tr -d ' ')
if [ "$size" -gt 1000000 ]; then ok; else bad "dump of $size bytes"; fi
for name in step E0 E c lambda_before lambda_after rho alpha tau eta rate \
    train_bits entropy beta1_power beta2_power E.1 E.8; do
    holds "$w/last.tsv" "^$name	"
done
holds "$w/last.tsv" '^step	3$'
holds "$w/a.tsv" '^step	2$'
for name in scores teacher.8 'hessian.7.down' 'detail.7.act' tokens; do
    holds "$w/last.safetensors" "\"$name\""
done
# scores only in the last step, hessians only of GPTQ, details when asked for
lacks "$w/a.safetensors" '"scores"'
dump "$fast" rtn
lacks "$w/rtn.safetensors" '"hessian'
lacks "$w/rtn.safetensors" '"detail'
holds "$w/rtn.safetensors" 'dequantized'
# patterns; size limit, which --only does not know
dump "$fast" some --only 'teacher.*,c'
tensors=$(head -c 4000 "$w/some.safetensors" | grep -ao '"dtype"' | wc -l)
if [ "$tensors" -eq 10 ]; then ok; else bad "--only: $tensors tensors"; fi
dump "$fast" little --limit 4
holds "$w/err" "over the limit, left out: candidates\.\*\.dequantized,mixed\.\*"
lacks "$w/little.safetensors" dequantized
lacks "$w/little.safetensors" '"mixed'
holds "$w/little.safetensors" '"teacher.8"'

# --------------------------------------------------------------------- verify
"$gamma" verify "$w/a.safetensors" "$w/a.safetensors" >"$w/out" 2>"$w/err"
if [ $? -eq 0 ]; then ok; else bad "itself: $(cat "$w/err")"; fi
holds "$w/err" 'tensors compared, 0 depart'
lacks "$w/out" FAIL
[ -z "$(cut -f 1 "$w/out" | sort | uniq -d)" ] && ok ||
    bad "a family has two rows: $(cut -f 1 "$w/out")"
"$gamma" verify "$w/a.safetensors" "$w/some.safetensors" --all >"$w/out" \
    2>"$w/err"
if [ $? -eq 7 ]; then ok; else bad "other steps agree"; fi
holds "$w/out" '^teacher	teacher.0	1	1	.*	FAIL$'
holds "$w/out" '^tokens	tokens	1	0	-.*	absent in theirs$'
holds "$w/err" 'first departure: teacher.0 '
holds "$w/err" 'tolerance 0: rows of the embedding, copied: equal'
holds "$w/err" '^gamma: teacher.0 departs first, at \[[0-9]*, [0-9]*\]: ours '
"$gamma" verify "$w/a.safetensors" "$w/some.safetensors" --json --quiet \
    >"$w/out" 2>"$w/err"
if [ $? -eq 7 ]; then ok; else bad "--json: exit code"; fi
holds "$w/out" '"family": "teacher", "tensor": "teacher.0", "tensors": 9'
# a hint stands below the first departure
"$gamma" verify "$w/a.safetensors" "$w/last.safetensors" >"$w/out" 2>"$w/err"
if [ $? -eq 7 ]; then ok; else bad "another step: $(cat "$w/err")"; fi
holds "$w/err" 'first departure: tokens'
holds "$w/err" 'the step sees other sequences'
# each tolerance with its unit and the share of it that the error takes
printf 'family\ttensor\ttensors\tfailed\telements\tdiffering\tabsolute\t%s\n' \
    'relative	ulp	tolerance	unit	used	verdict' >"$w/head"
"$gamma" verify "$w/a.safetensors" "$w/a.safetensors" --quiet \
    --tolerance codes=3 >"$w/out"
head -n 1 "$w/out" >"$w/first"
same "$w/first" "$w/head"
holds "$w/out" '^codes	.*	0	3	elements	0	pass$'
holds "$w/out" '^student	.*	|x| + rms of its row	0	pass$'
holds "$w/out" '^v	.*	absolute	0	pass$'

# ------------------------------------------------------------------ one block
"$gamma" verify "$w/a.safetensors" "$w/a.safetensors" --block 3 --all >"$w/out" \
    2>"$w/err"
if [ $? -eq 0 ]; then ok; else bad "--block 3: $(cat "$w/err")"; fi
for name in teacher.3 teacher.4 student.4 E.4 detail.3.act tokens v; do
    holds "$w/out" "	$name	"
done
for name in teacher.2 teacher.5 student.3 E.3 detail.4.act; do
    lacks "$w/out" "	$name	"
done
expect 1 "gamma: --block 8: $w/a.safetensors has nothing of that block; blocks count from 0" \
    verify "$w/a.safetensors" "$w/a.safetensors" --block 8
expect 2 'gamma: --block: expected a whole number from 0 to 9999, found "-1"' \
    verify "$w/a.safetensors" "$w/a.safetensors" --block -1

# ----------------------------------------------------- what a pass does not say
dump "$fast" one
"$gamma" verify "$w/one.safetensors" "$w/one.safetensors" >"$w/out" 2>"$w/err"
holds "$w/err" '^not compared, in neither: detail\.\*, hessian, factor, scores, '
holds "$w/err" '^not told apart here, v: lambda, for it is 0; rho c is tested$'
lacks "$w/err" 'the multiplier'
"$gamma" verify "$w/one.safetensors" "$w/some.safetensors" >"$w/out" 2>"$w/err"
holds "$w/err" '^not compared, in ours alone: tokens, step, '
"$gamma" verify "$w/a.safetensors" "$w/some.safetensors" >"$w/out" 2>"$w/err"
lacks "$w/err" 'not told apart'
# shellcheck disable=SC2086
"$fast" dump $m ${o% --train-bits*} --step 1 --out "$w/even.safetensors" \
    --quiet >"$w/out"
"$gamma" verify "$w/even.safetensors" "$w/even.safetensors" >"$w/out" 2>"$w/err"
holds "$w/err" '^not told apart here, v: the multiplier, for lambda = c = 0: '
holds "$w/err" "^not told apart here, lambda_after: eta, rho and the sign of "
# the script in docs/verify.md is the one that the crosscheck runs
awk '/^```$/ { on = 0 } on; /^```python$/ { on = 1 }' docs/verify.md >"$w/quoted"
same "$w/quoted" tools/one_block.py

dump "$fast" other --only tokens
expect 1 "gamma: nothing compared: no name is in both $w/some.safetensors and $w/other.safetensors; docs/verify.md lists the names" \
    verify "$w/some.safetensors" "$w/other.safetensors"
expect 5 "gamma: $w/none.safetensors: cannot open: No such file or directory" \
    verify "$w/none.safetensors" "$w/a.safetensors"
expect 2 'gamma: --tolerance: expected NAME=FACTOR, found "codes"' \
    verify "$w/a.safetensors" "$w/a.safetensors" --tolerance codes
expect 2 'gamma: --tolerance: "code" matches nothing that is compared; docs/verify.md lists the names' \
    verify "$w/a.safetensors" "$w/a.safetensors" --tolerance codes=2,code=3
"$gamma" verify --help-all >"$w/out"
holds "$w/out" '7: something departs; 1: no'

# ---------------------------------------------------------------- wrong usage
expect 2 "gamma: dump: --out FILE is missing" dump $m $o
expect 2 "gamma: --step: expected a whole number from 1 to 3, found \"4\"" \
    dump $m $o --out "$w/x.safetensors" --step 4
expect 2 "gamma: dump: unknown option --resume; it belongs to gamma run, fit, plan (gamma dump --help-all lists them)" \
    dump $m $o --out "$w/x.safetensors" --resume
expect 2 "gamma: --limit does not go with --only" \
    dump $m $o --out "$w/x.safetensors" --only E --limit 1
expect 2 "gamma: --only: \"techer.*\" matches no name of this dump; docs/verify.md lists them" \
    dump $m $o --out "$w/x.safetensors" --only 'tokens,techer.*'
expect 2 "gamma: dump: unknown option --stat; did you mean --state (gamma dump --help-all lists them)" \
    dump $m --stat x
# options of fit are dump's own, each listed once
"$gamma" dump --help-all >"$w/out"
holds "$w/out" '^  --relaxation soft|soft-corrected|gumbel|hard'
holds "$w/out" '^  --out FILE'
lacks "$w/out" '^  --out DIR'
if [ -e "$w/x.safetensors" ] || [ -e "$w/x.tsv" ]; then
    bad "a refused dump left a file"; else ok; fi

finish
