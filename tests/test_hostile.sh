#!/bin/sh
# test_hostile.sh: files that nobody wrote by accident.  NaN and infinity in
# weights, activations, logits, candidates, scores, tables and tokens; integers
# too large for any use; names and file names that lead elsewhere or drive a
# terminal; tensors that are there twice or overlap.  Claim: each is refused by
# the exact message that names file and place, exit code 1, before anything gets
# its final name; and no control character of any of them reaches the terminal.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/hostile-work
. tests/shell.sh
m=data/tiny-llama
learn="--calib data/calib.txt --sequences 2 --length 32 --batch 1 --group 64
    --steps 1"
window="--text data/test.txt --window 32 --windows 1"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

# shellcheck disable=SC2086
quick fit $m $learn --out "$w/fit"
quick solve "$w/fit/scores.tsv" --bits 2.5 --out "$w/alloc.tsv"

# header FILE JSON: a safetensors header; what follows is its data
header() {
    size=$(printf %s "$2" | wc -c)
    printf "\\$(printf %o $((size % 256)))\\$(printf %o $((size / 256 % 256)))"
    printf '\0\0\0\0\0\0%s' "$2"
} >"$1"

# poke FILE TENSOR BYTE OCTAL...: bytes of a tensor, from its byte BYTE on
poke() {
    file=$1 size=$(od -An -tu8 -N8 "$1" | tr -d ' ')
    first=$(head -c $((size + 8)) "$file" | tail -c "$size" |
        sed "s/.*\"$2\":{[^}]*\"data_offsets\":\[\([0-9]*\),.*/\1/")
    printf "$4" | dd of="$file" bs=1 seek=$((8 + size + first + $3)) \
        conv=notrunc 2>"$w/dd"
}

# model TENSOR BYTE OCTAL...: tiny-llama (bfloat16) with other bytes there
model() {
    rm -rf "$w/model"
    cp -r $m "$w/model"
    poke "$w/model/model.safetensors" "$@"
}

# ----------------------------------------------------------------- the weights
up=model.layers.2.mlp.up_proj.weight
says="gamma: $w/model/model.safetensors: tensor \"$up\": element 77 of shape [256, 128] is"
model $up 154 '\300\177'
# shellcheck disable=SC2086
{
    expect 1 "$says NaN, expected a finite number" fit "$w/model" $learn \
        --out "$w/out-fit"
    expect 1 "$says NaN, expected a finite number" fit "$w/model" $learn \
        --quantizer gptq --out "$w/out-fit"
    expect 1 "$says NaN, expected a finite number" eval "$w/model" $window
    expect 1 "$says NaN, expected a finite number" compare "$w/model" $learn \
        $window --budgets 3 --methods uniform --out "$w/out-compare"
    expect 1 "$says NaN, expected a finite number" dump "$w/model" $learn \
        --out "$w/out-dump.safetensors"
    expect 1 "$says NaN, expected a finite number" baq "$w/model" \
        --calib data/calib.txt --sequences 2 --length 32 --out "$w/out-baq"
    expect 1 "$says NaN, expected a finite number" run "$w/model" $learn \
        --eval data/test.txt --budgets 3 --out "$w/out-run" --window 32 \
        --windows 1
}
model $up 154 '\200\377'
# shellcheck disable=SC2086
expect 1 "$says infinite, expected a finite number" eval "$w/model" $window
# what is only copied is looked at too: the head, into both formats
model lm_head.weight 6 '\300\377'
sed '/_hash/d' "$w/alloc.tsv" >"$w/any.tsv"
for format in hf packed; do
    expect 1 "gamma: $w/model/model.safetensors: tensor \"lm_head.weight\": element 3 of shape [768, 128] is NaN, expected a finite number" \
        quantize "$w/model" --alloc "$w/any.tsv" --cache "$w/any" \
        --format $format --out "$w/out-$format"
done
model model.norm.weight 254 '\200\177'
# shellcheck disable=SC2086
expect 1 "gamma: $w/model/model.safetensors: tensor \"model.norm.weight\": element 127 of shape [128] is infinite, expected a finite number" \
    eval "$w/model" $window
ls "$w"/out-*/*.safetensors "$w"/out-*/scores.tsv "$w"/out-*.safetensors \
    "$w"/out-packed >"$w/made" 2>/dev/null
if grep -vq '/candidates-' "$w/made"; then
    bad "made of a model with a NaN: $(cat "$w/made")"; else ok; fi

# ------------------- an untrained token first: its states are 0 in every block
model model.embed_tokens.weight $((767 * 256)) \
    "$(printf '\\000%.0s' $(seq 256))"
for half in 1 2; do         # each is a sequence's beginning
    printf '<|end_of_text|><|end_of_text|>' && cat data/calib.txt
done >"$w/zero.txt"
zero="$(echo "$learn" | sed "s:data/calib.txt:$w/zero.txt:;s:--steps 1:--steps 2:")"
for options in '' '--norm robust' '--norm plain' '--norm energy' \
    '--norm update' '--quantizer gptq' '--quantizer gptq --hessian plain'; do
    rm -rf "$w/new"
    # shellcheck disable=SC2086
    "$fast" fit "$w/model" $zero $options \
        --out "$w/new" >"$w/out.txt" 2>"$w/err"
    code=$?
    if [ $code -eq 0 ] && grep -qx "4 of 64 calibration tokens weigh nothing \
where the norm of their state is 0, subnormal or infinite: sequence 0, position \
0 (token 767); sequence 0, position 1 (token 767); sequence 1, position 0 \
(token 767); sequence 1, position 1 (token 767)" "$w/err"; then ok; else
        bad "zero states, $options: $code, $(cat "$w/err")"; fi
done

# ------------------------------- finite weights whose products are not: 2^127
row=$(printf '\\177\\177%.0s' $(seq 128))
model $up 0 "$row"
# shellcheck disable=SC2086
{
    for command in "eval $window" "fit $learn --out $w/new" \
        "dump $learn --out $w/new.safetensors" \
        "compare $learn $window --budgets 3 --methods greedy --out $w/new" \
        "compare $learn $window --budgets 3 --methods gram --out $w/new" \
        "eval --choices data/choices.jsonl"; do
        "$fast" ${command%% *} "$w/model" ${command#* } --quiet >"$w/out.txt" \
            2>"$w/err"
        code=$?
        if [ $code -eq 1 ] && grep -Eqx "gamma: $w/model: block 2, output: \
element \[[0-9]+, [0-9]+\] is (NaN|infinite), expected a finite number" \
            "$w/err"; then ok; else
            bad "overflow in ${command%% *}: $code, $(cat "$w/err")"; fi
    done
    for options in '' --sequential '--hessian plain'; do
        "$fast" fit "$w/model" $learn --quantizer gptq $options \
            --out "$w/new" --quiet >"$w/out.txt" 2>"$w/err"
        code=$?
        if [ $code -eq 1 ] && grep -Eqx "gamma: $w/model: block 2, (output|\
input of down): element \[[0-9]+, [0-9]+\] is (NaN|infinite), expected a \
finite number" "$w/err"; then ok; else
            bad "overflow in gptq $options: $code, $(cat "$w/err")"; fi
    done
}
model model.norm.weight 0 "$row"
# shellcheck disable=SC2086
expect 1 "gamma: logits of window 0: expected finite numbers, found an overflow (final norm, lm_head)" \
    eval "$w/model" $window
expect 1 "gamma: logits of position 0: expected finite numbers, found an overflow (final norm, lm_head)" \
    eval "$w/model" --choices data/choices.jsonl

# every activation is finite, no squared norm is: a row of 2^124
none="gamma: $w/model: block 2, output: expected tokens whose squared norm is an ordinary number, found none"
model model.layers.2.mlp.down_proj.weight 0 "$(printf '\\175%.0s' $(seq 512))"
# shellcheck disable=SC2086
{
    expect 1 "$none" fit "$w/model" $learn --out "$w/new"
    expect 1 "$none" compare "$w/model" $learn $window --budgets 3 --methods separable \
        --out "$w/new"
}
# or too small, all states being 3e-23
model model.embed_tokens.weight 0 "$(printf '\\032%.0s' $(seq 196608))"
none="$(echo "$none" | sed 's/block 2/block 0/')"
# shellcheck disable=SC2086
expect 1 "$none" fit "$w/model" $learn --out "$w/new"
# norms are ordinary, a gradient is not: states of 2^-60, o's inputs of 2^55
model model.embed_tokens.weight 0 "$(printf '\\200\\041%.0s' $(seq 98304))"
poke "$w/model/model.safetensors" model.layers.0.input_layernorm.weight 0 \
    "$(printf '\\200\\165%.0s' $(seq 128))"
poke "$w/model/model.safetensors" model.layers.0.self_attn.o_proj.weight 0 \
    "$(printf '\\200\\000%.0s' $(seq 16384))"
# shellcheck disable=SC2086
expect 1 "gamma: $w/model: block 0: the gradient of step 1 is not finite" \
    fit "$w/model" $learn --first-weight 1e9 --out "$w/new"

# a weight of 65504, the largest of float16, that a candidate rounds up
model "$up" 0 '\377\173'
LC_ALL=C sed -i 's/"BF16"/ "F16"/g' "$w/model/model.safetensors"
expect 1 "gamma: $w/written/model.safetensors: tensor \"$up\": element 0 of shape [256, 128] is infinite, expected a finite number" \
    quantize "$w/model" --alloc "$w/any.tsv" --group 64 --bits 2,3,4 --out "$w/written"
[ -e "$w/written/config.json" ] && bad "a model with an infinite weight" || ok

# nothing reaches a linear module: no error to learn from
model model.norm.weight 0 '\0'
for l in 0 1 2 3 4 5 6 7; do
    for norm in input_layernorm post_attention_layernorm; do
        poke "$w/model/model.safetensors" model.layers.$l.$norm.weight 0 \
            "$(printf '\\0%.0s' $(seq 256))"
    done
done
# shellcheck disable=SC2086
expect 1 "gamma: $w/model: the reconstruction error of step 1 is 0; expected a positive finite number" \
    fit "$w/model" $learn --out "$w/new"

# ------------------------------------------------------ candidates and tables
cp -r "$w/fit" "$w/cache"
file=$(ls "$w"/cache/candidates-*)
bits=$(sed -n 's/^model.layers.1.mlp.up_proj	\([0-9]*\).*/\1/p' "$w/alloc.tsv")
scales=model.layers.1.mlp.up_proj.b$bits.scales
digest=$(ls "$w"/cache/sha256-*)
poke "$file" "$scales" 2 '\0\174'
sha256sum "$file" >"$digest"    # as if it had been made so
expect 1 "gamma: $file: tensor \"$scales\": element 1 of shape [256, 2] is infinite, expected a finite number" \
    quantize $m --alloc "$w/alloc.tsv" --cache "$w/cache" --out "$w/x"
LC_ALL=C sed -i '1s/"F16"/"I16"/g' "$file"
sha256sum "$file" >"$digest"
expect 1 "gamma: $file: tensor \"model.layers.0.mlp.down_proj.b4.scales\": expected type F16, found OTHER" \
    quantize $m --alloc "$w/alloc.tsv" --cache "$w/cache" --out "$w/x"
long=$(printf 'x%.0s' $(seq 300))
expect 5 "gamma: $w/$long: cannot make directory: File name too long" \
    quantize $m --alloc "$w/alloc.tsv" --cache "$w/fit" --out "$w/$long"
s=$w/fit/scores.tsv
for value in nan inf -inf 1e999 0x1p2000; do
    awk -F '\t' -v OFS='\t' -v x=$value '/^#/ || !n++ { print; next }
        n == 3 { $6 = x } { print }' "$s" >"$w/scores.tsv"
    line=$(grep -n "	$value	" "$w/scores.tsv" | cut -d: -f1)
    name=$(sed -n "${line}p" "$w/scores.tsv" | cut -f 1)
    expect 1 "gamma: $w/scores.tsv: line $line: $name: column 2.score: expected a finite number, found \"$value\"" \
        solve "$w/scores.tsv" --bits 3
done
# table LINES...: a table of them, tabs for |
table() { printf '%s\n' "$@" | tr '|' '\t' >"$w/t.tsv"; }
t=$w/t.tsv
most=9007199254740992
refused() {     # MESSAGE LINES...: as scores
    says=$1
    shift
    table "$@"
    expect 1 "gamma: $t: $says" solve "$t" --bits 3
}
head='module|out|in|weights|2.score|3.score'
refused 'more than 2^53 weights' "$head" "a|$most|$most|1|1|0"
refused 'more than 2^53 weights' "$head" "a|1|1|$most|1|0" "b|1|1|$most|1|0"
refused 'line 2: a: column out: expected a number up to 2^53, found "9999999999999999"' \
    "$head" 'a|9999999999999999|1|1|1|0'
refused 'line 2: a: column in: expected a whole number, found "99999999999999999999"' \
    "$head" 'a|1|99999999999999999999|1|1|0'
refused 'line 2: a: column in: expected a whole number, found "-1"' \
    "$head" 'a|1|-1|1|1|0'
refused 'column 99999999999999999999.score: expected bits from 1 to 32 and at most 16 candidates' \
    'module|weights|99999999999999999999.score' 'a|1|1'
refused 'group: expected a whole number from 1 to 512, found "99999999999999999999"' \
    '# group 99999999999999999999' "$head" 'a|1|1|1|1|0'
refused 'overhead_bytes: expected a whole number from 0 to 9007199254740992, found "9007199254740993"' \
    '# overhead_bytes 9007199254740993' "$head" 'a|1|1|1|1|0'
refused 'more than 2^53 bytes' 'module|weights|2.bytes|2.score' \
    "a|1|$most|1" 'b|1|1|1'
refused 'line 2: a: column 2.stderr: expected a finite number, found "inf"' \
    'module|weights|2.score|2.stderr' 'a|1|1|inf'
refused 'module a appears twice' "$head" 'a|1|1|1|1|0' 'a|1|1|1|1|0'
refused 'line 2: key "group" appears twice' '# group 1' '# group 2' "$head"
for name in ../a /a a/b 'a\b' ..; do
    refused "module \"$name\": part of a path in its name" "$head" \
        "$name|1|1|1|1|0"
done
for octal in 033 233 177 001; do        # ESC, C1, DEL, SOH
    bytes=$(printf "\\$octal")
    [ $octal = 233 ] && bytes=$(printf '\302\233')
    first=$(printf %s "$bytes" | od -An -tx1 | tr a-f A-F | cut -c 2-3)
    refused "line 2: byte 0x$first is not valid text" "$head" \
        "a${bytes}b|1|1|1|1|0"
done
table "$head" "$(printf 'a\rb')|1|1|1|1|0"
expect 1 "gamma: $t: line 2: byte 0x0D is not valid text" solve "$t" --bits 3

# allocations, and certificates whose sums would wrap around
sed 's/	2	/	99999999999	/' "$w/alloc.tsv" >"$t"
expect 1 "gamma: $t: line $(grep -n 99999999999 "$t" | head -n 1 | cut -d: -f1): $(grep 99999999999 "$t" | head -n 1 | cut -f 1): column bits: expected 1 to 32, found \"99999999999\"" \
    check "$t" "$s"
changed() {     # KEY VALUE MESSAGE
    sed "s/^# $1 .*/# $1 $2/" "$w/alloc.tsv" >"$t"
    expect 1 "gamma: $t: $3" check "$t" "$s"
}
changed score_shift 2000 'score_shift: expected -1100 to 1100, found 2000'
changed multiplier_num 4611686018427387903 \
    'multiplier_num: expected a whole number, found "4611686018427387903"'
sed 's/^# multiplier_den .*/# multiplier_den 1/' "$w/alloc.tsv" >"$w/den.tsv"
sed 's/^# multiplier_num .*/# multiplier_num 4611686018427387902/' \
    "$w/den.tsv" >"$t"
expect 1 "gamma: $t: the multipliers' bound: sums to 2^62 or more" \
    check "$t" "$s"
# what is above counts as the largest that fits; what is below must fit
table 'module|weights|2.score|3.score' 'a|1|-1|0' 'b|1|-1|0' 'c|1|-1|0' \
    'd|1|-1|0' 'e|1|-1|0' 'f|1|-1|0' 'g|1|-1|0' 'h|1|-1|0'
cp "$t" "$w/eight.tsv"
quick solve "$w/eight.tsv" --bits 2 --out "$w/two.tsv"
sed 's/^# score_shift .*/# score_shift 59/' "$w/two.tsv" >"$t"
expect 1 "gamma: $t: objective: sums to 2^62 or more" check "$t" "$w/eight.tsv"
sed 's/^# score_shift .*/# score_shift 61/' "$w/two.tsv" >"$t"
expect 1 "gamma: $t: score_shift: scores overflow at 61" \
    check "$t" "$w/eight.tsv"
sed 's/^# candidates .*/# candidates rtn bits=2,3,4 group=99999999999999999999/' \
    "$w/alloc.tsv" >"$t"
expect 1 "gamma: candidates: expected a text such as \"rtn bits=2,3,4 group=128\", found \"rtn bits=2,3,4 group=99999999999999999999\"" \
    quantize $m --alloc "$t" --cache "$w/any" --out "$w/x"
sed 's/^# candidates rtn/# candidates gptq/
    s/^# candidates_hash ./# candidates_hash \//' "$w/alloc.tsv" >"$t"
hash=$(sed -n 's/^# candidates_hash //p' "$t")
expect 1 "gamma: candidates_hash: expected 64 hexadecimal digits, found \"$hash\"" \
    quantize $m --alloc "$t" --cache "$w/any" --out "$w/x"

# rows of a comparison: their keys are parts of file names
# shellcheck disable=SC2086
{
    compare="compare $m $learn $window --budgets 3 --methods uniform"
    quick $compare --out "$w/compare"
    cp "$w/compare/compare.tsv" "$w/good.tsv"
    sed '$s/	\([0-9a-f]*\)$/	..\/..\/\1/' "$w/good.tsv" \
        >"$w/compare/compare.tsv"
    line=$(wc -l <"$w/good.tsv")
    key=$(tail -n 1 "$w/good.tsv" | sed 's/.*	//')
    expect 1 "gamma: $w/compare/compare.tsv: line $line: key: expected hexadecimal digits, found \"../../$key\"" \
        $compare --out "$w/compare"
    awk -F '\t' -v OFS='\t' -v n="$line" 'NR == n { $11 = "nan" } { print }' \
        "$w/good.tsv" >"$w/compare/compare.tsv"
    expect 1 "gamma: $w/compare/compare.tsv: line $line: column kl: expected a finite number, found \"nan\"" \
        $compare --out "$w/compare"
}

# ------------------------------------------------------------ tokens, questions
npy() {         # FILE TYPE COUNT DATA
    text=$(printf "{'descr': '%s', 'fortran_order': False, 'shape': (%s,), }" \
        "$2" "$3")
    printf '\223NUMPY\1\0'"\\$(printf %o ${#text})\\0%s$4" "$text" >"$1"
}
tokens() {      # MESSAGE
    # shellcheck disable=SC2086
    expect 1 "gamma: $w/t.npy: $1" fit $m ${learn#--calib data/calib.txt} \
        --tokens "$w/t.npy" --out "$w/x"
}
npy "$w/t.npy" '<f4' 1 '\0\0\300\177'
tokens "npy header: expected a descr of <i4 <i8 <u2 <u4, fortran_order False and shape (COUNT,), found {'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"
npy "$w/t.npy" '<i4' 2 '\1\0\0\0\0\0\1\0'
tokens 'token 1: expected an id below vocab_size 768, found 65536'
npy "$w/t.npy" '<i8' 1 '\377\377\377\377\377\377\377\377'
tokens 'element 0 is -1, expected a token id from 0 to 2147483647'
npy "$w/t.npy" '<i4' 922337203685477580 ''
tokens "expected 922337203685477580 elements of 4 bytes each, found 0 bytes of data"
npy "$w/t.npy" '<i4' 99999999999999999999 ''
tokens "npy header: expected a descr of <i4 <i8 <u2 <u4, fortran_order False and shape (COUNT,), found {'descr': '<i4', 'fortran_order': False, 'shape': (99999999999999999999,), }"
for answer in -1 2 1e300 99999999999999999999; do
    echo "{\"context\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":$answer}" \
        >"$w/q.jsonl"
    expect 1 "gamma: $w/q.jsonl: line 1: answer: expected a whole number from 0 to 1, found $(printf '%.10g' $answer)" \
        eval $m --choices "$w/q.jsonl"
done

# ----------------------------------------------------------------- config.json
with() {        # KEY VALUE: tiny-llama with another config.json
    rm -rf "$w/model"
    cp -r $m "$w/model"
    sed -i "s/\"$1\": [^,]*/\"$1\": $2/" "$w/model/config.json"
}
config() {      # KEY VALUE MESSAGE
    with "$1" "$2"
    expect 1 "gamma: $w/model/config.json: $3" info "$w/model"
}
for value in 0 -1 10001 9223372036854775807; do
    config num_hidden_layers $value \
        "num_hidden_layers: expected an integer in 1..10000, found $(printf '%.10g' $value)"
done
config vocab_size 9223372036854775808 \
    'vocab_size: expected an integer in 1..268435456, found 9.223372037e+18'
with num_hidden_layers 10000
expect 1 "gamma: $w/model: tensor model.layers.8.self_attn.q_proj.weight is missing" \
    info "$w/model"
config rms_norm_eps 1e999 "rms_norm_eps: expected a number in 0..1, found inf"
config rms_norm_eps NaN "rms_norm_eps: expected a number in 0..1, found nan"
deep=$(printf '[%.0s' $(seq 70))
config rms_norm_eps "$deep" "line $(grep -n rms_norm_eps $m/config.json |
    cut -d: -f1), column 82: nested more than 64 deep"

# ------------------------------------------------- tensors, shards and their names
one='"dtype":"F32","shape":[1],"data_offsets"'
tensors() {     # MESSAGE HEADER DATA
    header "$w/t.safetensors" "$2"
    printf "$3" >>"$w/t.safetensors"
    expect 1 "gamma: $w/t.safetensors: $1" verify "$w/t.safetensors" \
        "$w/t.safetensors"
}
zero='\0\0\0\0'
tensors 'header: line 1, column 59: key "a" appears twice in one object' \
    "{\"a\":{$one:[0,4]},\"a\":{$one:[4,8]}}" "$zero$zero"
tensors 'tensor "b": expected to begin at offset 4, where the one before ends, found 0' \
    "{\"a\":{$one:[0,4]},\"b\":{$one:[0,4]}}" "$zero"
tensors 'tensor "b": expected to begin at offset 4, where the one before ends, found 2' \
    "{\"a\":{$one:[0,4]},\"b\":{$one:[2,6]}}" "$zero$zero"
for name in ../a /etc/passwd a/../b .. a/b; do
    tensors "tensor \"$name\": part of a path in its name" \
        "{\"$name\":{$one:[0,4]}}" "$zero"
done
tensors 'tensor "a\b": part of a path in its name' \
    "{\"a\\\\b\":{$one:[0,4]}}" "$zero"
for hex in 001b 007f 009b 0007; do
    case $hex in 009b) shown='??' code=C2 ;; *) shown='?' code=${hex#00} ;; esac
    code=$(echo $code | tr a-f A-F)
    tensors "tensor \"a${shown}[2J\": control character 0x$code in its name" \
        "{\"a\\u$hex[2J\":{$one:[0,4]}}" "$zero"
done
# numbers in names are no sizes
for name in teacher.99999999999999999999 \
    candidates.model.layers.99999999999999999999.mlp.up_proj.b99999999999.codes; do
    header "$w/a.safetensors" "{\"$name\":{$one:[0,4]}}"
    cp "$w/a.safetensors" "$w/b.safetensors"
    printf '\0\0\200\77' >>"$w/a.safetensors"
    printf '\0\0\0\100' >>"$w/b.safetensors"
    "$gamma" verify "$w/a.safetensors" "$w/b.safetensors" --quiet >"$w/out" \
        2>"$w/err"
    code=$?
    if [ $code -eq 7 ]; then ok; else bad "$name: $code, $(cat "$w/err")"; fi
done
header "$w/a.safetensors" '{"theta":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
header "$w/b.safetensors" '{"theta":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}'
printf '\0\0\0\0' | tee -a "$w/a.safetensors" >>"$w/b.safetensors"
"$gamma" verify "$w/a.safetensors" "$w/b.safetensors" >"$w/out" 2>"$w/err"
grep -A 1 '^first departure: ' "$w/err" | grep -q '^  shape: ours .*, theirs ' &&
    ok || bad "shapes: $(cat "$w/err")"

# shards: links are read wherever they lead, as the hub's cache needs
q=data/tiny-qwen2
shard=model-00004-of-00004.safetensors
index=$w/hub/snapshots/main/model.safetensors.index.json
{
    printf 'module\tbits\n'
    for l in $(seq 0 7); do
        for name in self_attn.q_proj self_attn.k_proj self_attn.v_proj \
            self_attn.o_proj mlp.gate_proj mlp.up_proj mlp.down_proj; do
            printf 'model.layers.%d.%s\t4\n' "$l" $name
        done
    done
} >"$w/four.tsv"
mkdir -p "$w/shards/config.json"
expect 5 "gamma: $w/shards/config.json: cannot remove: Is a directory" \
    quantize $q --alloc "$w/four.tsv" --group 32 --out "$w/shards" --force
rm -rf "$w/hub"
mkdir -p "$w/hub/blobs" "$w/hub/snapshots"
cp -r $q "$w/hub/snapshots/main"
mv "$w/hub/snapshots/main/$shard" "$w/hub/blobs/1234"
ln -s ../../blobs/1234 "$w/hub/snapshots/main/$shard"
succeed info "$w/hub/snapshots/main"
ln -sf "$PWD/$q/$shard" "$w/hub/snapshots/main/$shard"
succeed info "$w/hub/snapshots/main"
mkdir -p "$w/hub/refs"
printf main >"$w/hub/refs/main"
"$gamma" info "$w/hub" --hash >"$w/a" 2>/dev/null &&
    "$gamma" info $q --hash >"$w/b" 2>/dev/null && cmp -s "$w/a" "$w/b" && ok ||
    bad "a cache of the hub is not its snapshot"
# a tensor that no model needs, of a type that nobody knows, in a fourth shard
printf '\0\1\2' >"$w/three"
header "$w/hub/snapshots/main/z.safetensors" \
    '{"z":{"dtype":"F3","shape":[8],"data_offsets":[0,3]}}'
cat "$w/three" >>"$w/hub/snapshots/main/z.safetensors"
sed 's|"weight_map": {|&"z": "z.safetensors",|' \
    $q/model.safetensors.index.json >"$w/more.json"
cp "$w/more.json" "$index"
"$gamma" info "$w/hub" --verbose >"$w/b" 2>"$w/err"
grep -q "^$w/hub/snapshots/main/z.safetensors: tensor z: F3 \[8\], not needed by the model$" \
    "$w/err" && ok || bad "unused: $(cat "$w/err")"
"$gamma" info "$w/hub" >/dev/null 2>"$w/err"
grep -q 'not needed' "$w/err" && bad "named without --verbose" || ok
succeed quantize "$w/hub" --alloc "$w/four.tsv" --group 32 --out "$w/four"
tail -c 3 "$w/four/z.safetensors" | cmp -s - "$w/three" &&
    grep -aq '"dtype":"F3"' "$w/four/z.safetensors" && ok ||
    bad "a tensor of another type is not copied"
cp $q/model.safetensors.index.json "$index"
ln -sf none "$w/hub/snapshots/main/$shard"
expect 5 "gamma: $w/hub/snapshots/main/$shard: cannot open: No such file or directory" \
    info "$w/hub/snapshots/main"
rm "$w/hub/snapshots/main/$shard"
for name in "../../blobs/$shard" "/etc/$shard"; do
    sed "s|\"$shard\"|\"$name\"|" \
        $q/model.safetensors.index.json >"$index"
    first=$(sed -n "s/ *\"\([^\"]*\)\": \".*$shard\".*/\1/p" "$index" |
        head -n 1)
    expect 1 "gamma: $index: weight_map: \"$first\": expected NAME.safetensors without a path, found \"$name\"" \
        info "$w/hub/snapshots/main"
done
sed "s|\"$shard\"|\"\\\\u001b[2J.safetensors\"|" \
    $q/model.safetensors.index.json >"$index"
expect 1 "gamma: $index: weight_map: \"$first\": expected NAME.safetensors without a path, found \"?[2J.safetensors\"" \
    info "$w/hub/snapshots/main"

# ---------------------------------------- no control character on the terminal
# Escapes in every text of the files that people exchange; whatever is said, in
# tables, messages or talk, holds none of them.
escape='\\u001b]0;x\\u0007\\u009b2J\\u007f'
shown=0
shows() {
    "$@" >"$w/out" 2>"$w/err"
    if [ -s "$w/err" ] || [ -s "$w/out" ]; then ok; else bad "$*: silent"; fi
    if LC_ALL=C grep -q "$(printf '[\001-\010\013-\037\177]\\|\302[\200-\237]')" \
        "$w/out" "$w/err"; then
        bad "$*: $(cat "$w/out" "$w/err" | od -c | head -n 20)"; else ok; fi
    cat "$w/out" "$w/err" | grep -q '?' && shown=$((shown + 1))
}
for key in model_type hidden_act architectures; do
    rm -rf "$w/model"
    cp -r $m "$w/model"
    sed -i "s/\"$key\": *\[* *\"*[a-zA-Z]*\"*/\"$key\": \"$escape\"/" \
        "$w/model/config.json"
    shows "$gamma" info "$w/model"
done
for what in 's/"type": *"[A-Za-z]*"/"type": "ESC"/' 's/"content": *"[^"]*"/"content": "ESC"/' \
    's/"unk_token": *[^,]*/"unk_token": "ESC"/' 's/"dropout": *[^,]*/"dropout": "ESC"/'; do
    rm -rf "$w/model"
    cp -r $m "$w/model"
    sed -i "$(echo "$what" | sed "s/ESC/$(echo "$escape" | sed 's/\\/\\\\\\\\/g')/")" \
        "$w/model/tokenizer.json"
    # shellcheck disable=SC2086
    shows "$gamma" eval "$w/model" $window
done
for header in "{\"$escape\":{$one:[0,4]}}" "{\"a\":{\"dtype\":\"$escape\",\"shape\":[],\"data_offsets\":[0,0]}}" \
    "{\"__metadata__\":{\"$escape\":1}}" "{\"a\":\"$escape\"}" \
    "{\"__metadata__\":{\"$escape.bytes\":\"$escape\"}}"; do
    header "$w/t.safetensors" "$(printf %s "$header" | sed 's/\\\\/\\/g')"
    shows "$gamma" verify "$w/t.safetensors" "$w/t.safetensors"
    shows "$gamma" fit $m --calib data/calib.txt --sequences 2 --length 32 \
        --external "$w/t.safetensors" --out "$w/x"
done
echo "{\"context\":\"$escape\",\"choices\":\"$escape\"}" | sed 's/\\\\/\\/g' \
    >"$w/q.jsonl"
shows "$gamma" eval $m --choices "$w/q.jsonl"
raw=$(printf '\033]0;x\007\302\2332J\177')
for file in scores.tsv alloc.tsv; do
    from=$s
    [ $file = alloc.tsv ] && from=$w/alloc.tsv
    for change in "1s/^/# $raw x\n/" "s/^# format.*/# format $raw/" \
        "s/^module/module$raw/" "s/up_proj/$raw/" '5s/^#/#\x1b[2J/'; do
        sed "$change" "$from" >"$t"
        if [ $file = scores.tsv ]; then shows "$gamma" solve "$t" --bits 3
        else shows "$gamma" check "$t" "$s"; fi
    done
done
shows "$gamma" solve "$s" --bits "$raw"
shows "$gamma" "$raw"
cp -r $m "$w/$raw"
shows "$gamma" info "$w/$raw"
# else the texts were never said, and nothing was shown
if [ $shown -ge 12 ]; then ok; else bad "$shown messages with a '?'"; fi

# ------- GPTQ candidates of another text than the scored ones: not without a word
# shellcheck disable=SC2086
{
    quick fit $m $learn --quantizer gptq --out "$w/scored"
    quick solve "$w/scored/scores.tsv" --bits 2.5 --out "$w/scored/alloc.tsv"
    for other in "--calib data/test.txt --sequences 2 --length 32" \
        "--calib data/calib.txt --sequences 3 --length 32" \
        "--calib data/calib.txt --sequences 2 --length 33"; do
        "$fast" quantize $m --alloc "$w/scored/alloc.tsv" $other \
            --out "$w/forced" --quiet >"$w/out.txt" 2>"$w/err"
        if [ $? -eq 1 ] && grep -q "alloc.tsv: was made for other candidates: \
expected candidates_hash .* of --calib .*; --force takes them), found" \
            "$w/err" && [ ! -e "$w/forced" ]; then ok; else
            bad "candidates of $other: $(cat "$w/err")"; fi
    done
    quick quantize $m --alloc "$w/scored/alloc.tsv" $other --force \
        --out "$w/forced"
    quick quantize $m --alloc "$w/scored/alloc.tsv" --calib data/calib.txt \
        --sequences 2 --length 32 --out "$w/unforced"
    if cmp -s "$w/forced/model.safetensors" "$w/unforced/model.safetensors"
    then bad "the other text's candidates are the same"; else ok; fi
}

finish
