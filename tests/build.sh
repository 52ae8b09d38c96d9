#!/bin/sh
# build.sh: the program and test programs with another compiler or other flags
# than the Makefile's.
#   build.sh DIR "COMPILER FLAGS" "LIBRARIES" [TEST...]
# makes DIR/gamma and DIR/test_TEST; objects lie in DIR/o.
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
dir=$1 cc=$2 libraries=$3
shift 3
sources=$(ls ./*.c lib/*.c rivals/*.c audit/*.c show/*.c formats/*.c cmd/*.c)
for file in $sources; do mkdir -p "$dir/o/$(dirname "$file")"; done
# shellcheck disable=SC2086
printf '%s\n' $sources | sed 's/\.c$//' |
    xargs -P "$(nproc)" -I{} $cc -I. -Itests -c {}.c -o "$dir/o/{}.o"
objects=$(find "$dir/o" -name '*.o')
# shellcheck disable=SC2086
$cc $objects -o "$dir/gamma" $libraries
[ $# -eq 0 ] && exit
# shellcheck disable=SC2086
$cc -I. -Dmain=gamma_main -c cmd/main.c -o "$dir/main-for-tests.o"
library=$(echo "$objects" | grep -v '/cmd/main\.o$')
for test in "$@"; do
    # shellcheck disable=SC2086
    $cc -I. -Itests "tests/test_$test.c" $library "$dir/main-for-tests.o" \
        -o "$dir/test_$test" $libraries
done
