#!/bin/sh
# demo.sh: the main job on the embedded model: learn, solve for four budgets,
# write, measure; then says in words what the table shows.
# SPDX-License-Identifier: GPL-3.0-or-later
set -e
out=${1:-demo-out}
./gamma run data/tiny-llama --calib data/calib.txt --eval data/test.txt \
    --out "$out" --bits 2,3,4 --group 64 --length 256 --sequences 32 \
    --batch 8 --window 256 --budgets 2.25,2.5,3,3.5 >"$out.tsv.partial"
awk -F '\t' '
NR == 2 {
    printf "\nPerplexity on data/test.txt, lower is better; the original model has %s.\n\n", $2
    printf "%-8s  %-22s  %-22s  %-10s\n", "budget", "uniform bits", "GAMMA", "GAMMA file"
    printf "%-8s  %-22s  %-22s  %-10s\n", "(bits)", "perplexity", "perplexity", "bytes"
}
NR > 1 {
    printf "%-8s  %-22s  %-22s  %-10s\n", $1, $4 " (all " $3 " bits)", $7 " (" $6 " bits)", $8
    proof = proof sprintf("  %s bits: %s\n", $1, $10)
}
END {
    printf "\n\"uniform\" gives every module the most bits that fit the budget.\n"
    printf "How close to optimal for its scores each answer is proven to be:\n%s", proof
}' "$out.tsv.partial"
rm "$out.tsv.partial"
cat <<END

Written to $out/:
  report.html      all of it as a page: tables, curves, maps of bits
  table.tsv        methods at equal sizes, with KL divergences and errors
  scores.tsv       the learned scores and their anchors, reusable for any budget:
                   ./gamma solve $out/scores.tsv --bits 2.75 --out my-alloc.tsv
  alloc-*.tsv      the bits of each module, with certificates
  model-*/         the quantized models, loadable by transformers
END
