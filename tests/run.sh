#!/bin/sh
# run.sh: runs the test programs and scripts given, adds up their closing lines
# ("name: N passed, N failed"), prints the total, fails when anything failed.
# A program that dies or prints no closing line counts as one failure.
# SPDX-License-Identifier: GPL-3.0-or-later
passed=0 failed=0
# malloc may fail in a test, as it may for a user
export ASAN_OPTIONS=allocator_may_return_null=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for program in "$@"; do
    case $program in *.sh) sh "$program" ;; *) "$program" ;; esac >"$log" 2>&1
    status=$?
    cat "$log"
    line=$(grep -E '^[^ ]+: [0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
    if [ -z "$line" ]; then
        echo "FAILED $program: no closing line (exit code $status)"
        failed=$((failed + 1))
        continue
    fi
    p=$(echo "$line" | sed 's/.*: \([0-9]*\) passed.*/\1/')
    f=$(echo "$line" | sed 's/.*, \([0-9]*\) failed/\1/')
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
        echo "FAILED $program: exit code $status"
        f=1
    fi
    passed=$((passed + p)) failed=$((failed + f))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
