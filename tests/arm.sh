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
flags="-std=gnu11 -I. -Itests -DGM_NO_GLPK -ffp-contract=off
    -fno-math-errno -Wno-unknown-pragmas"
# shellcheck disable=SC2086
printf '%s\n' *.c | sed 's/\.c$//' |
    xargs -P "$(nproc)" -I{} aarch64-linux-gnu-gcc -O2 $flags -c {}.c -o $w/{}.o
library=
for file in *.c; do
    case $file in main*) ;; *) library="$library $w/${file%.c}.o" ;; esac
done
# shellcheck disable=SC2046
aarch64-linux-gnu-gcc -static $w/*.o -lm -o $w/gamma

# run.sh counts a test by its closing line; test_fuzz needs its own linking
tests=
for file in tests/test_*.c; do
    name=${file#tests/} name=${name%.c}
    case $name in test_fuzz | test_grad*) continue ;; esac
    # shellcheck disable=SC2086
    aarch64-linux-gnu-gcc -O1 -static $flags "$file" $library -lm -o "$w/$name.arm"
    printf '#!/bin/sh\nexec qemu-aarch64 %s "$@"\n' "$w/$name.arm" >"$w/$name"
    chmod +x "$w/$name"
    tests="$tests $w/$name"
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
