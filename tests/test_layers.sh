#!/bin/sh
# test_layers.sh: who may use whom (docs/house.md), from the symbols of the
# object files: each room below uses itself and the rooms named behind it,
# nobody uses cmd.  Nothing but cmd prints to the terminal or ends the program.
# SPDX-License-Identifier: GPL-3.0-or-later
allowed='
lib:
model: lib
quant: lib model
gamma: lib model quant
solver: lib
formats: lib model quant gamma
rivals: lib model quant gamma solver
audit: lib model quant gamma solver
show: lib model quant gamma solver
cmd: lib model quant gamma solver formats rivals audit show
'
passed=0 failed=0
b=build/test
map=$(mktemp)
trap 'rm -f "$map"' EXIT
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED $*"; }

# room_of FILE: its folder; a file at the top is a room of its own
room_of() {
    case $1 in
    */*) echo "${1%%/*}" ;;
    *) echo "${1%.c}" ;;
    esac
}

sources=$(ls ./*.c lib/*.c formats/*.c rivals/*.c audit/*.c show/*.c cmd/*.c | sed 's,^\./,,')
for file in $sources; do
    [ -f "$b/${file%.c}.o" ] || { bad "$b/${file%.c}.o is missing" >&2; continue; }
    nm "$b/${file%.c}.o" |
        awk -v r="$(room_of "$file")" '$2 ~ /[TDBR]/ { print $3, r }'
done >"$map"
for file in $sources; do
    room=$(room_of "$file")
    echo "$allowed" | grep -q "^$room:" ||
        { bad "$file: no room $room in tests/test_layers.sh"; continue; }
    may=" $room $(echo "$allowed" | sed -n "s/^$room://p") "
    wrong=$(nm "$b/${file%.c}.o" | awk '$1 == "U" { print $2 }' |
        awk -v may="$may" 'NR == FNR { at[$1] = $2; next }
            $1 in at && index(may, " " at[$1] " ") == 0 { print $1, "in", at[$1] }' \
            "$map" -)
    if [ -z "$wrong" ]; then ok; else bad "$file uses $wrong"; fi
    [ "$room" = cmd ] && continue
    wrong=$(nm "$b/${file%.c}.o" |
        awk '$1 == "U" && $2 ~ /^(exit|abort|printf|puts|putchar|perror|stderr|stdout)(@.*)?$/ { print $2 }')
    if [ -z "$wrong" ]; then ok; else bad "$file uses $wrong"; fi
done
echo "test_layers: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
