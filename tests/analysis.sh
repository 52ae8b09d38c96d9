#!/bin/sh
# analysis.sh: what looks at the sources rather than runs them: warnings of gcc
# and clang as errors, cppcheck (cppcheck.txt: why a finding is none),
# clang-tidy (.clang-tidy), over library, commands, fuzz targets and benches; the
# first three over the tests, too (a test goes on after a check that fails, so
# that clang-tidy follows it into nonsense).  analysis.sh [NAME...] does those.  A tool that is not installed is
# a failure: apt-get install clang cppcheck clang-tidy.
# SPDX-License-Identifier: GPL-3.0-or-later
set -u
out=build/analysis failed=0
mkdir -p "$out"
# ranks.c is read as it is built without MPI; test_grad* in double
rooms=$(ls ./*.c lib/*.c rivals/*.c audit/*.c show/*.c formats/*.c cmd/*.c)
ours="$rooms $(ls tests/fuzz/*.c tools/bench/*.c)"
tests=$(ls tests/*.c tools/*.c 2>/dev/null | grep -v test_grad)
course=$(ls course/*.c course/*/lesson.c course/solutions/*.c course/wrong/*.c)
flags="-std=gnu11 -I. -Itests -Itests/fuzz -DFUZZ_TARGET=fuzz_json -Wno-unknown-pragmas"
warn="-Wall -Wextra -Wconversion -Wshadow -Werror -fsyntax-only"

warnings() {
    $1 $flags $warn $ours $tests &&
        $1 $flags -Icourse $warn -Wno-unused-parameter \
            -Wno-unused-but-set-variable $course &&
        $1 $flags $warn -DGM_DOUBLE $rooms tests/test_grad*.c &&
        $1 $flags $warn -DGM_NO_GLPK -fopenmp $rooms
}
check_gcc() { warnings gcc; }
check_clang() { warnings clang; }
check_cppcheck() {
    cppcheck --std=c11 --enable=warning,portability --quiet -I. -Itests/fuzz \
        --suppressions-list=tests/cppcheck.txt --error-exitcode=1 $ours $tests
}
check_tidy() {
    status=0
    for file in $ours; do
        checks=         # a bench's arguments are its author's
        case $file in tools/bench/*) checks=--checks=-cert-err34-c ;; esac
        clang-tidy --quiet $checks "$file" -- $flags || status=1
    done
    return $status
}

for name in ${*:-gcc clang cppcheck tidy}; do
    began=$(date +%s)
    if "check_$name" >"$out/$name.log" 2>&1; then
        echo "$name: clean, $(($(date +%s) - began)) s"
    else
        failed=1
        echo "FAILED $name, $(($(date +%s) - began)) s"
        tail -n 30 "$out/$name.log"
    fi
done
exit $failed
