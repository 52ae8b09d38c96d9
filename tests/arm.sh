#!/bin/sh
# arm.sh: the test programs on ARM: built for aarch64 by Debian's cross
# compiler, static and without sanitizers, and run under qemu's user mode; then
# the program itself, whose files must be those of ./gamma, byte for byte.  GLPK
# is Debian's libglpk-dev:arm64 where that is installed, or what it needs is
# unpacked (apt-get download, dpkg -x) under the folder $ARM_ROOT.
# tests/contract.sh has the hash of the kernels.  Writes under build/arm.
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
root=${ARM_ROOT:-}/usr
libraries="-L$root/lib/aarch64-linux-gnu -lglpk -lcolamd -lamd
    -lsuitesparseconfig -lgmp -lltdl -lz -lgomp -ldl -lm"
include=${ARM_ROOT:+-I$root/include}
if [ ! -f "$root/lib/aarch64-linux-gnu/libglpk.a" ]; then
    echo "arm: NOT CHECKED, missing: GLPK for AArch64"
    libraries=-lm include=-DGM_NO_GLPK
fi
# shellcheck disable=SC2086
sh tests/build.sh $w "aarch64-linux-gnu-gcc -O2 -static -std=gnu11 $include
    -fno-schedule-insns -ffp-contract=off -fno-math-errno
    -Wno-unknown-pragmas" "$libraries" $names
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
for options in "rtn --isa neon" "rtn --isa scalar" "gptq --isa neon"; do
    fit="fit data/tiny-llama --calib data/calib.txt --sequences 2 --length 32
        --batch 2 --steps 2 --group 64 --quiet --quantizer"
    # shellcheck disable=SC2086
    ./gamma $fit ${options%% *} --out $w/fit-here >/dev/null
    # shellcheck disable=SC2086
    qemu-aarch64 $w/gamma $fit $options --out $w/fit-arm >/dev/null
    for at in here arm; do
        run=
        [ $at = here ] || run="qemu-aarch64 $w/"
        # shellcheck disable=SC2086
        ${run:-./}gamma solve $w/fit-$at/scores.tsv --bits 2.5 --quiet \
            --out $w/fit-$at/alloc.tsv >/dev/null
    done
    diff -r $w/fit-here $w/fit-arm || bad=1
    rm -r $w/fit-*
done
if [ $bad -ne 0 ]; then
    echo "FAILED tests/arm.sh: the ARM build writes other files"
    exit 1
fi
echo "arm: fit and solve write the same files, RTN with neon and scalar, GPTQ"
# shellcheck disable=SC2086
sh tests/run.sh $tests
