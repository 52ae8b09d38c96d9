# shell.sh: what the tests of the commands share; read by `. tests/shell.sh`,
# which empties the directory $w, set before, for their files.  $gamma is the
# sanitized program, $fast the optimised one; GAMMA=PROGRAM stands for both.
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
gamma=${GAMMA:-build/test/gamma}
fast=${GAMMA:-./gamma}
passed=0 failed=0
export LC_ALL=C
rm -rf "$w"
mkdir -p "$w"

ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    echo "FAILED $0: $*"
    [ -z "$STOP" ] || exit 1        # mutants.sh: one failure is enough
}

# expect CODE "MESSAGE" ARGS...: the exit code, and the last line of stderr.
expect() {
    code=$1 message=$2
    shift 2
    "$gamma" "$@" --quiet >"$w/out" 2>"$w/err"
    found=$?
    last=$(tail -n 1 "$w/err")
    if [ "$found" -eq "$code" ] && [ "$last" = "$message" ]; then ok; else
        bad "gamma $*
  exit code $found, expected $code
  found    $last
  expected $message"
    fi
}

# done_by PROGRAM ARGS...; succeed ARGS...; quick ARGS...: exit code 0.
done_by() {
    if "$@" --quiet >"$w/out" 2>"$w/err"; then ok; else
        bad "$*: exit code $?: $(tail -n 1 "$w/err")"
    fi
}
succeed() { done_by "$gamma" "$@"; }
quick() { done_by "$fast" "$@"; }

# is WHAT FOUND EXPECTED; same FILE FILE
is() { if [ "$2" = "$3" ]; then ok; else bad "$1: found $2, expected $3"; fi; }
same() { if cmp -s "$1" "$2"; then ok; else bad "$1 and $2 differ"; fi; }

# The closing line, and the exit code of the test.
finish() {
    echo "$(basename "$0" .sh): $passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}
