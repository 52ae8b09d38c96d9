#!/bin/sh
# arm.sh: the test programs on ARM: built for aarch64 by Debian's cross
# compiler, static, without GLPK (Debian has none for another machine) and
# without sanitizers, and run under qemu's user mode; then the program itself,
# whose files must be those of ./gamma, byte for byte.  tests/contract.sh has
# the hash of the kernels.  Writes under build/arm.
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
w=build/arm
for program in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v $program >/dev/null && continue
    echo "FAILED tests/arm.sh: $program is missing (Debian:" \
        "gcc-aarch64-linux-gnu qemu-user)"
    echo "arm: 0 passed, 1 failed"
    exit 1
done
rm -rf $w
mkdir -p $w
names=
for file in tests/test_*.c; do
    name=${file#tests/test_} name=${name%.c}
    case $name in fuzz | grad*) ;; *) names="$names $name" ;; esac
done
# shellcheck disable=SC2086
sh tests/build.sh $w "aarch64-linux-gnu-gcc -O2 -static -std=gnu11 -DGM_NO_GLPK
    -ffp-contract=off -fno-math-errno -Wno-unknown-pragmas" -lm $names
# run.sh counts a test by its closing line
tests=
for name in $names; do
    printf '#!/bin/sh\nexec qemu-aarch64 %s "$@"\n' "$w/test_$name" \
        >"$w/run_$name"
    chmod +x "$w/run_$name"
    tests="$tests $w/run_$name"
done

# the program itself: files of ./gamma and of the ARM build, byte for byte
bad=0
for quantizer in rtn gptq; do
    fit="fit data/tiny-llama --calib data/calib.txt --sequences 2 --length 32
        --batch 2 --steps 2 --group 64 --quantizer $quantizer --quiet --out"
    # shellcheck disable=SC2086
    ./gamma $fit $w/fit-here >/dev/null
    # shellcheck disable=SC2086
    qemu-aarch64 $w/gamma $fit $w/fit-arm >/dev/null
    diff -r $w/fit-here $w/fit-arm || bad=1
    rm -r $w/fit-*
done
if [ $bad -ne 0 ]; then
    echo "FAILED tests/arm.sh: the ARM build writes other files"
    exit 1
fi
echo "arm: fit with rtn and gptq candidates writes the same files"
# shellcheck disable=SC2086
sh tests/run.sh $tests
