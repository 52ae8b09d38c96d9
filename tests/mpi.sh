#!/bin/sh
# mpi.sh: `gamma fit` and `gamma run` by several processes of Open MPI, one
# thread each: the same files as ./gamma writes, byte for byte, for 1 to 4
# ranks; one message and no hang when a rank fails; a killed rank ends the job,
# and --resume goes on to the same bytes.  Needs mpicc and mpirun, and fails
# without.  Writes under build/mpi.
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
cc=${CC:-gcc}
w=build/mpi
passed=0 failed=0
export LC_ALL=C OMP_NUM_THREADS=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
for program in mpicc mpirun; do
    command -v $program >/dev/null && continue
    echo "FAILED tests/mpi.sh: $program is missing (Debian: libopenmpi-dev" \
        "openmpi-bin)"
    echo "mpi: 0 passed, 1 failed"
    exit 1
done

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED tests/mpi.sh: $*"; }
same() {
    if cmp -s "$1" "$2"; then ok; else bad "$1 and $2 differ"; fi
}

# ranks N COMMAND...: exit code in $code; process ids in $w/pid.RANK
ranks() {
    n=$1 code=0
    shift
    # shellcheck disable=SC2016
    timeout 300 mpirun --oversubscribe -q -np "$n" sh -c \
        'echo $$ >$0/pid.$OMPI_COMM_WORLD_RANK; exec $0/gamma "$@"' \
        $w "$@" >$w/out 2>$w/err || code=$?
}

# expect CODE MESSAGE: of the last ranks; nothing else was said
expect() {
    if [ "$code" -eq "$1" ] && [ "$(cat $w/err)" = "$2" ]; then ok; else
        bad "exit code $code, expected $1
  found    $(cat $w/err)
  expected $2"; fi
}

rm -rf $w
mkdir -p $w
flags="-std=gnu11 -O2 -fopenmp -ffp-contract=off -fno-math-errno -DGM_MPI
    $(mpicc --showme:compile)"
sh tests/build.sh $w "$cc $flags" "-lm -lglpk $(mpicc --showme:link)"

m=data/tiny-llama
small="--calib data/calib.txt --sequences 6 --length 64 --batch 4 --steps 4
    --group 64"

# ----------------------------------------------------------------- same bytes
for quantizer in rtn gptq; do
    # shellcheck disable=SC2086
    ./gamma fit $m $small --quantizer $quantizer --out $w/one-$quantizer \
        --quiet >/dev/null
    for n in 1 2 3 4; do
        # shellcheck disable=SC2086
        ranks $n fit $m $small --quantizer $quantizer --out $w/$n --quiet
        expect 0 ""
        for file in $w/one-$quantizer/*; do same "$file" "$w/$n/${file##*/}"
        done
        rm -rf "${w:?}/$n"
    done
done
# shellcheck disable=SC2086
./gamma run $m $small --eval data/test.txt --window 128 --windows 2 --quiet \
    --budgets 2.5,3 --no-models --out $w/run-one >$w/table
# shellcheck disable=SC2086
ranks 2 run $m $small --eval data/test.txt --window 128 --windows 2 --quiet \
    --budgets 2.5,3 --no-models --out $w/run
expect 0 ""
same $w/out $w/table
for file in $w/run-one/*; do same "$file" "$w/run/${file##*/}"; done

# --------------------------------------------------------------------- failures
# rank 0 alone notices
# shellcheck disable=SC2086
ranks 3 fit $m $small --out data/test.txt/x --quiet
expect 5 "gamma: data/test.txt: cannot make directory: exists and is no directory"
ranks 3 eval $m --text data/test.txt
expect 2 "gamma: eval: expected one process (only fit and run share the blocks among several), found 3"
ranks 2 fti $m
expect 2 'gamma: unknown command "fti"; did you mean fit (gamma --help lists them)'
# rank 1 has another model, rank 2 none
code=0
# shellcheck disable=SC2086
timeout 300 mpirun --oversubscribe -q -np 1 $w/gamma fit $m $small --out $w/x \
    --quiet : -np 1 $w/gamma fit data/tiny-qwen3 $small --out $w/x --quiet \
    >$w/out 2>$w/err || code=$?
if [ $code -eq 1 ] && [ "$(wc -l <$w/err)" -eq 1 ] &&
    grep -q "^gamma: rank 1: the candidates' hash: expected that of rank 0, [0-9a-f]\{64\}, found [0-9a-f]\{64\}; all ranks need the same command and the same files$" $w/err
then ok; else bad "another model: exit code $code: $(cat $w/err)"; fi
code=0
# shellcheck disable=SC2086
timeout 300 mpirun --oversubscribe -q -np 2 $w/gamma fit $m $small --out $w/x \
    --quiet : -np 1 $w/gamma fit $m-none $small --out $w/x --quiet \
    >$w/out 2>$w/err || code=$?
expect 5 "gamma: rank 2: $m-none/config.json: cannot open: No such file or directory"

# ------------------------------------------------------- killed and resumed
long="--calib data/calib.txt --sequences 8 --length 128 --batch 4 --group 64
    --quantizer gptq"
# shellcheck disable=SC2086
./gamma fit $m $long --steps 40 --out $w/whole --quiet >/dev/null
kills=0
# waits for rank $1 to be there and $2 s more; false: it was gone by then
kill_rank() {
    until [ -s "$w/pid.$1" ]; do sleep 0.05; done
    sleep "$2"
    kill -9 "$(cat "$w/pid.$1")" 2>/dev/null
}
for wait in 0.9 0.3 0.6 1.3 1; do
    victim=$((kills % 3))
    rm -f $w/pid.*
    # shellcheck disable=SC2086
    ranks 3 fit $m $long --steps 40 --out $w/killed --resume --quiet & job=$!
    if kill_rank $victim $wait; then kills=$((kills + 1)); fi
    wait $job || :
done
# shellcheck disable=SC2086
ranks 2 fit $m $long --steps 40 --out $w/killed --resume --quiet
expect 0 ""
for file in $w/whole/*; do same "$file" "$w/killed/${file##*/}"; done
if [ $kills -gt 0 ]; then ok; else bad "no rank was killed"; fi
# what is said, by mpirun without -q
rm -f $w/pid.*
# shellcheck disable=SC2086,SC2016
timeout 300 mpirun --oversubscribe -np 3 sh -c \
    'echo $$ >$0/pid.$OMPI_COMM_WORLD_RANK; exec $0/gamma "$@"' $w fit $m \
    $long --steps 100000 --out $w/endless --quiet >$w/out 2>$w/err & job=$!
kill_rank 1 2
code=0
wait $job || code=$?
if [ $code -eq 137 ] &&
    grep -q "process rank 1 .* exited on signal 9 (Killed)" $w/err; then ok
else bad "rank 1 killed: exit code $code: $(cat $w/err)"; fi

echo "mpi: $passed passed, $failed failed ($kills kills)"
[ "$failed" -eq 0 ]
