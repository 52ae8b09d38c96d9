#!/bin/sh
# alone.sh PATTERN BITS: the KL of data/tiny-llama with the modules whose names
# match PATTERN at BITS bits and all others as they are, on the first 12,000
# bytes of the test text.  From the repository's root.
# SPDX-License-Identifier: GPL-3.0-or-later
head -c 12000 data/test.txt >alone.txt
{
    printf 'module\tbits\n'
    for l in 0 1 2 3 4 5 6 7; do
        for m in self_attn.q self_attn.k self_attn.v self_attn.o mlp.gate \
            mlp.up mlp.down; do
            name=model.layers.$l.${m}_proj bits=16
            if echo "$name" | grep -qE "$1"; then bits=$2; fi
            printf '%s\t%s\n' "$name" "$bits"
        done
    done
} >alone.tsv
./gamma eval data/tiny-llama --text alone.txt --window 64 --group 64 \
    --bits "$2,16" --alloc alone.tsv | awk -F '\t' 'NR == 1 {
        for (i = 1; i <= NF; i++) at[$i] = i }
    $1 == "quantized" { print "kl", $at["kl"], "+-", $at["kl_error"] }'
