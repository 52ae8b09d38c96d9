#!/bin/sh
# Claim: gamma verify finds each of eight classic mistakes at the first tensor
# that it spoils and names it.  The wrong dumps in golden/mistakes/ were made by
# tools/second.py with the patches of tools/mistakes/; ours are made here.  The
# program's table of mistakes is the one in docs/mistakes.md.
# SPDX-License-Identifier: GPL-3.0-or-later
set -u
root=$(dirname "$0")/..
gamma=$root/build/test/gamma golden=$root/tests/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
passed=0 failed=0

check() {       # check NAME WHAT CONDITION...
    name=$1 what=$2
    shift 2
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $name: $what"
        cat "$work/talk"
    fi
}

sed '/^#/d; /^name\t/d' "$root/tools/mistakes/cases.tsv" >"$work/cases"
last=
while IFS="$(printf '\t')" read -r name options tensor hint _; do
    # shellcheck disable=SC2086
    [ "$options" = "$last" ] || "$gamma" dump "$golden/tiny-llama" $options \
        --tokens "$golden/mistakes/tokens.npy" --group 16 --steps 2 --step 1 \
        --cache "$work" --out "$work/ours.safetensors" --quiet --threads 1 \
        >"$work/out" 2>"$work/talk"
    last=$options
    check "$name" "no dump of ours" [ -s "$work/ours.safetensors" ]
    "$gamma" verify "$work/ours.safetensors" \
        "$golden/mistakes/$name.safetensors" --threads 1 \
        >"$work/out" 2>"$work/talk"
    code=$?
    check "$name" "exit code 7" [ $code = 7 ]
    check "$name" "$tensor departs first" \
        grep -qF "gamma: $tensor departs first, at " "$work/talk"
    check "$name" "hint $hint" grep -qF "$hint" "$work/talk"
done <"$work/cases"
check all "eight mistakes" [ $((passed + failed)) = 32 ]
sh "$root/tools/make_mistakes.sh" <"$root/docs/mistakes.md" >"$work/mistakes.h"
check docs/mistakes.md "audit/mistakes.h is not made from it" \
    cmp -s "$work/mistakes.h" "$root/audit/mistakes.h"
echo "test_mistakes: $passed passed, $failed failed"
[ $failed = 0 ]
