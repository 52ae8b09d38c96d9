#!/bin/sh
# curve.sh LEARNING.tsv: how many bits the mixture is off its target (column c),
# every fifth step; the bar is 0, a place is 0.01 bits.
# SPDX-License-Identifier: GPL-3.0-or-later
awk -F '\t' '$1 == "step" { for (i = 1; i <= NF; i++) if ($i == "c") c = i }
    $1 == 1 || $1 ~ /^[0-9]*[05]$/ {
        at = int(30.5 + 100 * $c)
        at = at < 0 ? 0 : at > 60 ? 60 : at
        line = sprintf("%30s|%30s", "", "")
        line = substr(line, 1, at) "*" substr(line, at + 2)
        sub(/ +$/, "", line)
        printf "%4d %s\n", $1, line
    }' "$1"
