#!/bin/sh
# test_llamacpp.sh: the lines that llama-quantize takes for an allocation
# (tools/llamacpp.py types, which needs no package), and what it refuses.  With
# llama.cpp itself: tests/crosscheck_llamacpp.sh.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/llamacpp
. tests/shell.sh

types() { python3 tools/llamacpp.py types "$@" >"$w/out" 2>"$w/err"; }

# a column more, two keys, blocks 1 and 11, each kind of linear
{
    printf '# file_bytes 4096\n# scores \xc3\xa9 q4_0\n'
    printf 'module\tbits\tbytes\tlabel\tallowed\n'
    printf 'model.layers.%s\tq4_0,q8_0\n' "1.self_attn.q_proj	4	288	q4_0" \
        "11.self_attn.q_proj	4	320	q4_k" "1.self_attn.k_proj	2	84	q2_k" \
        "1.self_attn.v_proj	8	544	q8_0" "1.self_attn.o_proj	5	384	q5_1" \
        "0.mlp.gate_proj	6	210	q6_k" "0.mlp.up_proj	16	4096	bf16" \
        "0.mlp.down_proj	4	288	iq4_nl"
} >"$w/alloc.tsv"
types "$w/alloc.tsv" || bad "types: $(cat "$w/err")"
cat >"$w/expected" <<'END'
^blk\.1\.attn_q\.weight$=q4_0
^blk\.11\.attn_q\.weight$=q4_k
^blk\.1\.attn_k\.weight$=q2_k
^blk\.1\.attn_v\.weight$=q8_0
^blk\.1\.attn_output\.weight$=q5_1
^blk\.0\.ffn_gate\.weight$=q6_k
^blk\.0\.ffn_up\.weight$=bf16
^blk\.0\.ffn_down\.weight$=iq4_nl
^token_embd\.weight$=q8_0
^output\.weight$=q8_0
END
same "$w/out" "$w/expected"
types "$w/alloc.tsv" --embedding q4_1 --output q6_k
sed 's/^\^token_embd.*/^token_embd\\.weight$=q4_1/
     s/^\^output\\.*/^output\\.weight$=q6_k/' "$w/expected" >"$w/given"
same "$w/out" "$w/given"

# each line is found in its tensor's name and in no other's
tab=$(printf '\t')
while IFS='=' read -r pattern _; do
    for block in 0 1 10 11 111; do
        for part in attn_q attn_k attn_q_norm attn_output ffn_gate ffn_gate_inp
        do
            echo "blk.$block.$part.weight"
        done
    done | grep -c -e "$pattern"
done <"$w/expected" | sort | uniq -c | tr -s ' ' | sed 's/^ //' >"$w/counts"
printf '5 0\n5 1\n' >"$w/expected"
same "$w/counts" "$w/expected"

# refuse NAME SED "MESSAGE": exit code 1, and what is printed
refuse() {
    sed "$2" "$w/alloc.tsv" >"$w/$1.tsv"
    types "$w/$1.tsv"
    code=$?
    if [ $code -eq 1 ] && [ "$(cat "$w/err")" = "$w/$1.tsv: $3" ] &&
        [ ! -s "$w/out" ]; then ok; else
        bad "$1: exit code $code, $(cat "$w/err")"
    fi
}
refuse column s/label/name/ "expected columns module, bytes and label, found \
\"module bits bytes name allowed\", cells \"model.layers.1.self_attn.q_proj 4 288 \
q4_0 q4_0,q8_0\""
refuse cells "5s/${tab}320.*//" "expected columns module, bytes and label, found \
\"module bits\", cells \"model.layers.11.self_attn.q_proj 4\""
refuse label s/q4_k/q4/ "model.layers.11.self_attn.q_proj: expected one of q2_k,q3_k,\
q4_0,q4_1,iq4_nl,iq4_xs,q4_k,q5_0,q5_1,q5_k,q6_k,q8_0,f16,bf16, found \"q4\""
refuse module s/11.self_attn.q_proj/11.self_attn.qkv_proj/ "expected a linear such \
as model.layers.0.self_attn.q_proj, found \"model.layers.11.self_attn.qkv_proj\""

finish
