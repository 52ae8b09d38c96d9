#!/bin/sh
# wrong.sh CHECKER LESSON WRONG.c...: every wrong solution must lose points,
# be told the words of its own first line, and those of no other.  SEED as in
# the Makefile.
# SPDX-License-Identifier: GPL-3.0-or-later
checker=$1 lesson=$2
shift 2
known= failed=0
for wrong; do known="$known --mistake $wrong"; done
for wrong; do
    words=$(sed -n '1,/\*\//p' "$wrong" | tr '\n' ' ' |
        sed 's,^/\* ,,; s, *\*/.*,,')
    # shellcheck disable=SC2086
    if said=$($checker "$lesson" "${checker%/*}/$(basename "$wrong" .c).so" \
        ${SEED:+--seed "$SEED"} $known 2>&1); then
        said="all points"
    fi
    others=$(echo "$said" | sed -n 's/^ *> //p' |
        grep -vxF -e "$words" -e "the same" | sort -u)
    case $said in
    *"$words"*) [ "$others" ] || continue ;;
    esac
    failed=$((failed + 1))
    echo "FAILED $wrong: expected \"$words\", found"
    echo "$said" | grep -v '  right'
done
echo "$lesson: $# wrong solutions, $failed not told so"
[ "$failed" -eq 0 ]
