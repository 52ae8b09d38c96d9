#!/bin/sh
# run.sh: runs the test programs and scripts given, as many at a time as there
# are processors (JOBS=N), says which begins and how each ended, adds up their
# closing lines ("name: N passed, N failed"), prints the total, fails when
# anything failed.  A program that dies or prints no closing line counts as one
# failure.
# SPDX-License-Identifier: GPL-3.0-or-later
# malloc may fail in a test, as it may for a user
export ASAN_OPTIONS=allocator_may_return_null=1
# threads that wait leave the processor to the other programs
export OMP_WAIT_POLICY=passive

if [ "$1" = --one ]; then       # PROGRAM: its log and its line in $LOGS
    log=$LOGS/$(echo "$2" | tr / _)
    began=$(date +%s)
    echo "begins: $2"
    case $2 in *.sh) sh "$2" ;; *) "$2" ;; esac >"$log" 2>&1
    status=$?
    line=$(grep -aE '^[^ ]+: [0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
    if [ -z "$line" ]; then
        line="${2##*/}: 0 passed, 1 failed"
        echo "FAILED $2: no closing line (exit code $status)" >>"$log"
    elif [ "$status" -ne 0 ] && [ "${line%, 0 failed}" != "$line" ]; then
        line="${line%, 0 failed}, 1 failed"
        echo "FAILED $2: exit code $status" >>"$log"
    fi
    echo "$line" >>"$LOGS/lines"
    # of a test that passed, what it says of itself; of one that failed, all
    [ "${line%, 0 failed}" != "$line" ] || tail -c 100000 "$log"
    echo "$line ($(($(date +%s) - began)) s)"
    exit 0
fi

LOGS=$(mktemp -d)
export LOGS
trap 'rm -rf "$LOGS"' EXIT
: >"$LOGS/lines"
printf '%s\n' "$@" | xargs -P "${JOBS:-$(nproc)}" -I{} sh "$0" --one {}
sed 's/.*: \([0-9]*\) passed, \([0-9]*\) failed/\1 \2/' "$LOGS/lines" |
    awk -v all=$# '{ passed += $1; failed += $2; n++ }
        END { failed += all - n
              printf "%d passed, %d failed\n", passed, failed
              exit failed > 0 || passed == 0 }'
