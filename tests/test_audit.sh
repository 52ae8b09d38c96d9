#!/bin/sh
# test_audit.sh: `gamma audit` as a user gives it: sizes against awk's sums, the
# optimum against `gamma solve`, budgets in three conventions, what is named.
# SPDX-License-Identifier: GPL-3.0-or-later
w=${WORK:-build/test/audit-work}
. tests/shell.sh
g=tests/golden/foreign s=tests/golden/foreign/scores.tsv

# row KEY [NAME]: value and note of that row of the last output
row() {
    awk -F '\t' -v k="$1" -v n="${2:--}" \
        '$1 == k && $2 == n { print $3 "|" $4 }' "$w/out"
}
audit() {
    code=$1
    shift
    "$gamma" audit "$@" --quiet >"$w/out" 2>"$w/err"
    is "exit code of audit $*" "$?" "$code"
}

# every example: code bits and bytes are the sums of what its tool gives, and the
# allocation is no better than the optimum
for f in "$g"/*.json "$g"/*.txt; do
    # shellcheck disable=SC2002
    cat "$f" | "$gamma" audit - "$s" --quiet >"$w/piped" 2>"$w/err"
    "$gamma" audit "$f" "$s" --quiet >"$w/out" 2>"$w/err"
    is "$f: from a pipe" "$(grep -v '^format' "$w/piped")" \
        "$(grep -v '^format' "$w/out")"
    is "$f: average code bits" "$(row average_code_bits | cut -d '|' -f 2)" \
        "$(awk -F '\t' '!/^#/ { t += $3 } END { print t " bits" }' "$f.tsv")"
    is "$f: file bytes" "$(row file_bytes | cut -d '|' -f 1)" \
        "$(awk -F '\t' 'NR == FNR && /^model\./ { n[$1] = $5 "/" $7 "/" $9 "/" $11
                next }
            NR != FNR && /^model\./ { split(n[$1], b, "/"); k = $2 == 8 ? 4 : $2 - 1
                t += $4 >= 0 ? $4 : $2 == 8 || $2 <= 4 ? b[k] : $3 / 8 }
            END { printf "%.0f", t + 1000 }' "$s" "$f.tsv")"
    is "$f: the gap" "$(awk -F '\t' '$1 == "score" { s = $3 }
        $1 == "optimum" { o = $3; p = $4 } $1 == "gap" { g = $3 }
        $1 == "move" { n += $3 }
        END { d = s - o - g; e = n - g
              r = 1e-15 * (1 + s * s)       # nine digits are printed
              print (d * d < r) (e * e < r) (g >= 0) substr(p, 1, 6) }' \
        "$w/out")" 111proven
done

# the optimum is that of solve at the same code bits
audit 0 "$g/rco.json" "$s" --bits 3.05
is rco "$(row within_budget)" "22118|as given: 3.05 bits, 1349222 bits"
bits=$(row average_code_bits | cut -d '|' -f 1)
is "solve at $bits" "$("$gamma" solve "$s" --bits "$bits" --quiet |
    awk -F '\t' '$1 == "objective_real" { printf "%.9g", $2 }')" \
    "$(row optimum | cut -d '|' -f 1)"
# what solve wrote has no gap, and states its budget
"$gamma" solve "$s" --ebits 3.2 --quiet --out "$w/a.tsv" >/dev/null
audit 0 "$w/a.tsv" "$s"
is "own table" "$(row gap | cut -d '|' -f 1)" 0
is "own budget" "$(row within_budget | cut -d ',' -f 1)" \
    "$(awk -F '[ \t]' '$2 == "slack" { print $3 }' "$w/a.tsv")|stated in the file: 3.2 ebits"
is "sizes are the scores'" "$(row file_bytes_as_scored)" ""
is "no moves" "$(grep -c '^move' "$w/out")" 0
audit 7 "$w/a.tsv" "$s" --bytes 1000
is "over comes first" "$(sed -n 2p "$w/out" | cut -f 1)" OVER_BUDGET
expect 7 "gamma: $w/a.tsv: over its budget by 1" audit "$w/a.tsv" "$s" --ebits \
    "$(awk -F '[ \t]' '$2 == "weights" { w = $3 } $2 == "effective_bits" { e = $3 }
        END { printf "%.12f", (e - 1) / w + 1e-12 }' "$w/a.tsv")"

# a table that lacks a module and has one too many
grep -v '^#' "$w/a.tsv" | sed 's/layers\.0\.mlp\.up/layers.77.mlp.up/' >"$w/b.tsv"
audit 0 "$w/b.tsv" "$s"
is unmatched "$(row matches_nothing model.layers.77.mlp.up_proj)" \
    "-|no module of $s"
is missing "$(row not_named model.layers.0.mlp.up_proj)" "16|as stored"
is unscored "$(row not_scored model.layers.0.mlp.up_proj)" \
    "16|as stored: no such candidate; 65536 bytes"
is "the rest" "$(row score | sed 's/.*, //')" "20 of 21 modules"
is "none stated" "$(row budget)" \
    "-|none stated: --budget gives one"

# types of llama.cpp: scored by their codes, sized by their blocks
printf 'ffn_down=q4_K attn=q3_k' >"$w/l.txt"
expect 1 "gamma: $w/l.txt: module model.layers.0.mlp.gate_proj: expected \
--default TYPE for what the file does not name, found none" audit "$w/l.txt" "$s"
audit 0 "$w/l.txt" "$s" --default Q8_0
is "default type" "$(row not_named model.layers.0.mlp.gate_proj)" "8|q8_0"
is "as scored" "$(row file_bytes_as_scored | cut -d '|' -f 2)" \
    "21 modules have other scales and zeros than the scores' candidates"
# 3 (32768 144/256 + 49152 18/32 + 65536 34/32) + 1000: rows of 128 fall back
is "bytes of blocks" "$(row file_bytes | cut -d '|' -f 1)" 348136
printf 'attn=q5_K ffn=f16' >"$w/l.txt"
audit 0 "$w/l.txt" "$s"
is "none scored" "$(row score)" "-|the scores have none of these bits"
# ExLlamaV3's overrides (its examples/overrides.yaml) name folders, no bits
printf 'sources:\n  - id: A\n    model_dir: /m/3.0bpw/\noverrides:\n%s\n%s\n' \
    '  - key: "*.self_attn.*"' '    source: A' >"$w/o.yaml"
expect 1 "gamma: $w/o.yaml: no column \"module\" or \"name\"" audit "$w/o.yaml" "$s"
is "one line" "$(wc -l <"$w/err" | tr -d ' ')" 1
expect 2 "gamma: audit: expected one of --budget, --bits, --ebits, --bytes, found several" \
    audit "$w/l.txt" "$s" --bits 3 --bytes 40000
# JSON: numbers are numbers
"$gamma" audit "$g/mlx.json" "$s" --json --quiet >"$w/out"
is json "$(grep -c '"key": "file_bytes", "name": "-", "value": [0-9]*,' \
    "$w/out")" 1

finish
