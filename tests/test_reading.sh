#!/bin/sh
# test_reading.sh: docs/reading.md leads where it says: each row "| FILE |
# FIRST-LAST | NAME, ... |" names functions (or types) that stand in these lines
# of the file; the five files are covered from their first function to their
# last, and README's line by hand compiles every room.
# SPDX-License-Identifier: GPL-3.0-or-later
passed=0 failed=0
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED docs/reading.md: $*"; }

rows=$(mktemp)
trap 'rm -f "$rows"' EXIT
sed -n 's/^| *\([a-z.]*\) *| *\([0-9]*\)-\([0-9]*\) *| *\([^|]*\) *|.*/\1 \2 \3 \4/p' \
    docs/reading.md | tr -d '`,' >"$rows"
while read -r file first last names; do
    for name in $names; do
        at=$(grep -nE "^[A-Za-z_}#].*\b$name([ (;,{]|$)|^$name\(" "$file" |
            cut -d : -f 1 | awk -v a="$first" -v b="$last" '$1 >= a && $1 <= b' |
            head -n 1)
        if [ "$at" ]; then ok; else
            bad "$file has no $name in lines $first to $last"; fi
    done
    if [ "$last" -le "$(wc -l <"$file")" ]; then ok; else
        bad "$file ends before line $last"; fi
done <"$rows"
for file in gamma.h gamma.c model.c quant.c solver.c; do
    # ranges of a file follow each other to its end
    if awk -v f=$file -v n="$(wc -l <$file)" '
        $1 == f { if ($2 != next_line && next_line) gap = 1; next_line = $3 + 1 }
        END { exit gap || next_line != n + 1 }' "$rows"; then ok; else
        bad "the ranges of $file leave lines out"; fi
done
for room in */; do
    ls "$room"*.c >/dev/null 2>&1 || continue
    case $room in tests/ | tools/ | build/ | course/) continue ;; esac
    if grep -qF "${room}*.c" README.md; then ok; else
        bad "README.md's line by hand lacks $room"; fi
done
echo "test_reading: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 20 ]
