#!/bin/sh
# variants.sh: the solver's tests on a build without GLPK: the dynamic program
# alone must pass them all, and say that it is alone.  Writes under
# build/variants.
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
cc=${CC:-gcc}
out=build/variants
names="solver allocate check constrain frontier tables"
for name in $names; do [ -f "tests/test_$name.c" ] && tests="${tests:-} $name"; done
# shellcheck disable=SC2086
sh tests/build.sh "$out" "$cc -std=gnu11 -O1 -g -DGM_NO_GLPK \
    -ffp-contract=off -fno-math-errno -Wno-unknown-pragmas" -lm $tests
programs=
for name in $tests; do programs="$programs $out/test_$name"; done
mkdir -p build/test
GAMMA=$out/gamma WORK=$out/solve-work
export GAMMA WORK
sh tests/run.sh $programs tests/test_solve.sh
