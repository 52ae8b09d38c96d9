#!/bin/sh
# coverage.sh: which lines and branches of the sources the tests run (gcov).
# Builds a copy of the tree in build/coverage, the program and the tests from
# objects with counters in place of the sanitizers, and runs `make test` there;
# a process that is killed, or stops itself with _exit, leaves no counts.
# Prints a row for each file, then every line that no test ran: it must be in
# tests/unrun.txt, with the reason, and every line there must be unrun; else
# this fails.  Branches: taken at least once of all.
#   sh tests/coverage.sh            all of it
#   sh tests/coverage.sh --count    the counts of the run before once more
# SPDX-License-Identifier: GPL-3.0-or-later
set -e
top=build/coverage
work=$top/src
count="--coverage -fprofile-update=atomic -DGM_COUNTED"
if [ "$1" != --count ]; then
    rm -rf $top
    mkdir -p $work
    git ls-files | grep -v '^tests/fuzz/corpus/' | xargs cp --parents -t $work
    cp -r tests/fuzz/corpus $work/tests/fuzz/
    make -C $work -j "$(nproc)" test B=build/test OPT="-O2 $count" \
        SAN="-O1 -fno-early-inlining $count" >$top/log 2>&1 ||
        { tail -n 20 $top/log; exit 1; }
    tail -n 1 $top/log
fi
rm -rf $top/unrun $top/table $work/gcov
for f in *.c lib/*.c rivals/*.c audit/*.c show/*.c formats/*.c cmd/*.c; do
    mkdir -p "$work/gcov/$(dirname "$f")"
    (cd "$work" && gcov -b -c -o "build/test/$(dirname "$f")" "$f" >/dev/null \
        2>&1 && mv "$(basename "$f").gcov" "gcov/$f.gcov") || continue
    awk -F: -v file="$f" -v unrun=$top/unrun '
        / *branch +[0-9]+ / { branches++
            if ($0 !~ /never executed|taken 0/) taken++; next }
        /^function / { split($0, word, " "); inside = word[2] "()" }
        { count = $1; gsub(/ /, "", count); line = $2 + 0 }
        line == 0 || count == "-" || count ~ /^(function|call)/ { next }
        { lines++; text = $0; sub(/^[^:]*:[^:]*: */, "", text) }
        count ~ /^#####|^=====/ {
            print file "\t" line "\t" text "\t" inside >>unrun; next }
        { run++ }
        END { printf "%s\t%d\t%d\t%.1f\t%d\t%d\t%.1f\n", file, lines, run,
                  100 * run / lines, branches, taken,
                  branches ? 100 * taken / branches : 100 }' "$work/gcov/$f.gcov"
done >$top/table
printf 'file\tlines\trun\t%%\tbranches\ttaken\t%%\n'
cat $top/table
awk -F '\t' '{ l += $2; r += $3; b += $5; t += $6 }
    END { printf "all\t%d\t%d\t%.1f\t%d\t%d\t%.1f\n", l, r, 100 * r / l, b, t,
              100 * t / b }' $top/table
touch $top/unrun
awk -F '\t' 'NR == FNR { if (NF == 3) reason[$1 "\t" $2] = $3
                         else if (NF && $0 !~ /^#/) bad("not three columns: " $0)
                         next }
    { key = $1 "\t" $3
      if (!(key in reason)) key = $1 "\t" $4
      if (key in reason) { excused++; seen[key] = 1 }
      else bad($1 ":" $2 ": no test runs it: " $3) }
    function bad(text) { print text; wrong++ }
    END { for (key in reason)
              if (!(key in seen)) bad("tests/unrun.txt: is run or gone: " key)
          printf "coverage: %d lines unrun with a reason, %d wrong\n",
              excused, wrong
          exit wrong > 0 }' tests/unrun.txt $top/unrun
