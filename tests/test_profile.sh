#!/bin/sh
# test_profile.sh: --profile changes no result, explains the whole time, and
# counts what Stage I is known to do.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/profile-work
. tests/shell.sh
m=data/tiny-llama
small="--calib data/calib.txt --sequences 4 --length 64 --batch 2 --steps 3
       --group 64 --quiet"

# shellcheck disable=SC2086
for threads in 1 3; do
    "$gamma" fit $m $small --out "$w/plain" >"$w/plain.out" 2>"$w/plain.err"
    "$gamma" fit $m $small --out "$w/looked" --profile --threads $threads \
        >"$w/looked.out" 2>"$w/$threads.tsv"
    same "$w/plain/scores.tsv" "$w/looked/scores.tsv"
    sed "s,/looked/,/plain/," "$w/looked.out" | cmp -s - "$w/plain.out" &&
        ok || bad "--profile changes the results on standard output"
    # seconds have three places: each of the rows may be 0.0005 off
    awk -F '\t' 'NR == 1 { exit $0 != "kernel\tseconds\tshare\tcalls\tGF/s\t" \
                                      "GB/s\tof_peak" }' "$w/$threads.tsv" &&
        awk -F '\t' '$1 == "total" { total = $2; next }
            $1 != "peak" && NR > 1 { sum += $2; rows++ }
            END { d = sum - total; exit d * d > (0.0005 * (rows + 1)) ^ 2 ||
                                        rows < 8 }' "$w/$threads.tsv" &&
        ok || bad "seconds do not add up: $(cat "$w/$threads.tsv")"
    rm -rf "$w/plain" "$w/looked"
done
[ ! -s "$w/plain.err" ] && ok || bad "a profile that nobody asked for"

# 8 blocks, 3 steps: a teacher's and a student's forward pass (7 products) and
# a backward pass (7 dW, 4 dX: none for q, k, v); in the first two, which see
# each sequence once, the separable errors of 21 candidates.  No product inside
# attention counts, whatever the number of threads.
for threads in 1 3; do
    for want in "gemm $((8 * (3 * (7 + 7 + 11) + 2 * 21 * 7)))" \
                "attention $((8 * (3 * 2 + 2 * 21)))" \
                "attention_backward $((8 * 3))" "rtn $((8 * 21))" \
                "inner $((8 * 3 * 7))" "mix $((8 * (3 * 7 + 2 * 21)))"; do
        calls=$(awk -F '\t' -v k="${want% *}" '$1 == k { print $4 }' \
            "$w/$threads.tsv")
        [ "$calls" = "${want#* }" ] && ok ||
            bad "--threads $threads: expected $want calls, found $calls"
    done
done

# nothing that was not done has a row
awk -F '\t' '$4 == "0" { exit 1 }' "$w/1.tsv" && ! grep -q '^cholesky' "$w/1.tsv" &&
    ok || bad "rows of nothing: $(cat "$w/1.tsv")"

# a long product at the rate of the peak that was measured beside it: no kernel
# computes faster than its share says
awk -F '\t' '$1 == "peak" { f = $5; b = $6 } { s[$1] = $0 }
    END { split(s["gemm"], g, "\t"); x = g[5] / f; y = g[6] / b
          if (y > x) x = y
          exit !(f > 0 && b > 0 && (x - g[7]) ^ 2 < 0.02 ^ 2) }' "$w/1.tsv" &&
    ok || bad "share of peak: $(grep -e gemm -e peak "$w/1.tsv")"

"$gamma" info $m --profile --json --quiet >"$w/out" 2>"$w/err"
grep -q '^ {"kernel": "total", "seconds": [0-9.]*, "share": 1.000' "$w/err" &&
    ok || bad "--json: $(cat "$w/err")"
finish
