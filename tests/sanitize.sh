#!/bin/sh
# sanitize.sh: what the address sanitizer of `make test` does not see.
#   thread    data races, clang's OpenMP runtime telling the sanitizer (Archer)
#             what it orders; gcc's does not, every barrier would be a race
#   memory    reads of what was never written; without OpenMP and GLPK, whose
#             libraries are not instrumented
#   valgrind  memcheck on the program as it is built for use, GLPK included
# Each: a small whole run (fit, solve, quantize, verify, eval, compare), the
# first two some test programs before it.  sanitize.sh [NAME...] does those.
# Writes under build/sanitize.
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
flags="-std=gnu11 -g -O1 -ffp-contract=off -fno-math-errno \
-fno-omit-frame-pointer -Wno-unknown-pragmas -I."
out=build/sanitize
export OMP_WAIT_POLICY=passive

# compile NAME "FLAGS" "LIBRARIES" TEST...: the program and the tests.
compile() {
    d=$out/$1 special=$2 libraries=$3
    shift 3
    sh tests/build.sh "$d" "clang $flags $special" "$libraries" "$@"
}

# whole DIR COMMAND...: every stage once, on two short sequences.
whole() {
    d=$1 m=data/tiny-llama
    shift
    rm -rf "$d" && mkdir -p "$d"
    calib="--calib data/calib.txt --sequences 2 --length 32"
    learn="$calib --batch 1 --group 64 --steps 2 --score loss"
    few="--text data/test.txt --window 32 --windows 3"
    "$@" fit $m $learn --out "$d/rtn"
    "$@" fit $m $learn --quantizer gptq --act-order --sequential \
        --bits 2,4 --out "$d/gptq"
    for name in rtn gptq; do
        "$@" solve "$d/$name/scores.tsv" --bits 3 --out "$d/$name.tsv"
        "$@" check "$d/$name.tsv" "$d/$name/scores.tsv"
        "$@" quantize $m --alloc "$d/$name.tsv" --cache "$d/$name" \
            --out "$d/q-$name"
        "$@" quantize $m --alloc "$d/$name.tsv" --cache "$d/$name" \
            --format packed --out "$d/$name.packed"
        "$@" eval $m --alloc "$d/$name.tsv" --cache "$d/$name" $few
    done
    "$@" eval "$d/q-rtn" $few
    "$@" baq $m $calib --rate 3 --out "$d/baq"
    "$@" compare $m $learn $few --budgets 3 --methods gamma,random \
        --out "$d/compare"
}

check_thread() {
    compile thread "-fsanitize=thread -fopenmp" "-lm -lglpk" kernels quant gptq
    archer=$(dirname "$(ldd "$out/thread/gamma" | awk '/libomp/ { print $3 }' |
        xargs readlink -f)")/libarcher.so
    [ -e "$archer" ] || { echo "$archer: not there"; return 1; }
    export OMP_TOOL_LIBRARIES="$archer" OMP_NUM_THREADS=3
    export TSAN_OPTIONS=ignore_noninstrumented_modules=1:exitcode=66
    # it must see a race where there is one; slow steps give each thread some
    cat >"$out/race.c" <<'END'
#include <unistd.h>
int main(void) {
    long n = 0;
    #pragma omp parallel for
    for (long i = 0; i < 50; i++) usleep(2000), n += i;
    return n < 0;
}
END
    clang $flags -fsanitize=thread -fopenmp "$out/race.c" -o "$out/race"
    status=0
    "$out/race" >"$out/race.log" 2>&1 || status=$?
    [ $status = 66 ] || { echo "a race was not seen"; return 1; }
    for test in kernels quant gptq; do "$out/thread/test_$test"; done
    whole "$out/thread/run" "$out/thread/gamma"
}

check_memory() {
    tests="base io tables tokenizer quant kernels model gptq eval external check
        plot choice"
    compile memory "-fsanitize=memory -fsanitize-memory-track-origins \
-DGM_NO_GLPK" -lm $tests
    for test in $tests; do "$out/memory/test_$test"; done
    whole "$out/memory/run" "$out/memory/gamma"
}

check_valgrind() {
    export OMP_NUM_THREADS=2
    whole "$out/valgrind" valgrind -q --error-exitcode=9 --leak-check=full \
        --show-leak-kinds=definite --errors-for-leak-kinds=definite ./gamma
}

for name in ${*:-thread memory valgrind}; do
    mkdir -p "$out"
    if (set -e; "check_$name") >"$out/$name.log" 2>&1; then
        echo "$name: clean"
    else
        echo "FAILED $name"
        tail -n 40 "$out/$name.log"
        exit 1
    fi
done
