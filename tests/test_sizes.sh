#!/bin/sh
# test_sizes.sh: `solve --for RUNTIME`.  Claims: the bytes that it promises are
# those of the weight files that `quantize --format RUNTIME` writes, header
# included, in one file or shards, for each type of scales, with and without
# candidates as stored; a budget in bytes is kept; `check` repeats the sizes;
# modules that vLLM joins share their bits unless --no-fuse.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/sizes-work
. tests/shell.sh
export OMP_NUM_THREADS=1
learn="--calib data/calib.txt --sequences 2 --length 16 --batch 2 --steps 1"

# sizes MODEL DIR FORMAT BUDGET TYPE...: promised, written, checked
sizes() {
    m=$1 of=$2 form=$3 limit=$4
    shift 4
    # shellcheck disable=SC2086
    quick solve "$of/scores.tsv" --for "$form" $limit --out "$w/a.tsv" "$@"
    promised=$(sed -n 's/^# file_bytes //p' "$w/a.tsv")
    # the type is that of the allocation, not asked for again
    quick quantize "$m" --alloc "$w/a.tsv" --cache "$of" --format "$form" \
        --out "$w/model"
    found=$(cat "$w"/model/model*.safetensors | wc -c)
    if [ "$promised" = "$found" ]; then ok; else
        bad "$m $form $limit $*: $promised bytes promised, $found written"; fi
    case $limit in
    --bytes*) if [ "$promised" -le "${limit#* }" ]; then ok; else
        bad "$form: $promised bytes for $limit"; fi ;;
    esac
    quick check "$w/a.tsv" "$of/scores.tsv"
}

# shellcheck disable=SC2086
{
    quick fit data/tiny-llama $learn --bits 2,3,4 --group 32 --out "$w/one"
    quick fit data/tiny-llama $learn --bits 2,4,5,8,16 --group 64 --out "$w/wide"
    quick fit data/tiny-llama $learn --bits 2,4 --group 32 --symmetric \
        --out "$w/same"
    quick fit data/tiny-qwen2 $learn --bits 1,3,8,16 --group 24 --out "$w/many"
}
for form in mlx compressed-tensors gptq; do
    for dir in one wide; do
        for budget in "--bits 2.3" "--ebits 4.5" "--bytes 1100000" "--bits 16"; do
            sizes data/tiny-llama "$w/$dir" $form "$budget"
        done
    done
    sizes data/tiny-llama "$w/same" $form "--bits 3"
done
for type in f32 f16 bf16; do
    sizes data/tiny-llama "$w/one" mlx "--bytes 1250000" --scale-type $type
    sizes data/tiny-llama "$w/one" compressed-tensors "--bits 3" \
        --scale-type $type
done
for budget in "--bits 1" "--bits 5.5" "--bytes 700000" "--bits 16"; do
    sizes data/tiny-qwen2 "$w/many" compressed-tensors "$budget"
done
if [ "$(find "$w/model" -name 'model-0*' | wc -l)" -eq 4 ]; then ok; else
    bad "shards: $(ls "$w/model")"; fi

# ----------------------------------------------------------------- fused or not
# apart: how many blocks have q, k, v or gate, up of different bits
apart() {
    awk '/^model/ { split($1, n, "."); b = n[3]; if (n[5] ~ /^[qkv]_/) q[b " " $2]
             if (n[5] ~ /^(gate|up)_/) g[b " " $2]; blocks[b] }
        END { for (i in q) k++; for (i in g) k++; for (i in blocks) k -= 2
              print k }' "$w/a.tsv"
}
s=$w/one/scores.tsv
for form in mlx compressed-tensors gptq; do
    quick solve "$s" --for $form --bits 3.1 --out "$w/a.tsv"
    [ "$(apart)" -gt 0 ] && free=yes || free=no
    [ $form = mlx ] && expected=yes || expected=no
    if [ $free = $expected ]; then ok; else bad "$form: apart $free"; fi
    quick check "$w/a.tsv" "$s"
    [ $form = mlx ] ||
        quick solve "$s" --for $form --bits 3.1 --no-fuse --out "$w/a.tsv"
    if [ "$(apart)" -gt 0 ]; then ok; else bad "$form --no-fuse: none apart"; fi
done

# ------------------------------------------------- what it holds, what it is told
many=$w/many/scores.tsv
expect 2 "gamma: --for mlx: expected a group of 32, 64 or 128, found 24" \
    solve "$many" --for mlx --bits 3
expect 2 "gamma: --scale-type: gptq has scales of F16, found F32" \
    solve "$s" --for gptq --scale-type f32 --bits 3
sed '/^# overhead[.]/d' "$s" >"$w/none.tsv"
expect 1 "gamma: $w/none.tsv: overhead.mlx: expected bytes and a type, as gamma fit writes, found \"\"" \
    solve "$w/none.tsv" --for mlx --bits 3
sed 's/^# overhead.mlx [0-9]*/# overhead.mlx -7/' "$s" >"$w/bad.tsv"
expect 1 "gamma: $w/bad.tsv: overhead.mlx: expected bytes and a type, as gamma fit writes, found \"-7 BF16\"" \
    solve "$w/bad.tsv" --for mlx --bits 3
sed '/^# candidates /d' "$s" >"$w/bad.tsv"
expect 1 "gamma: $w/bad.tsv: candidates: expected a recipe, found none" \
    solve "$w/bad.tsv" --for mlx --bits 3
quick fit data/tiny-llama --calib data/calib.txt --sequences 2 --length 16 \
    --batch 2 --steps 1 --bits 7 --group 32 --out "$w/seven"
expect 2 "gamma: --for mlx cannot hold module model.layers.0.self_attn.q_proj: expected bits of 1, 2, 3, 4, 5, 6, 8, found 7" \
    solve "$w/seven/scores.tsv" --for mlx --bits 7

# quantize says so too, before it makes a candidate
quick solve "$w/seven/scores.tsv" --bits 7 --out "$w/seven.tsv"
expect 2 "gamma: --format mlx cannot hold module model.layers.0.self_attn.q_proj: expected bits of 1, 2, 3, 4, 5, 6, 8, found 7 (--keep-odd keeps such modules as stored)" \
    quantize data/tiny-llama --alloc "$w/seven.tsv" --cache "$w/no" \
    --format mlx --out "$w/no-model"
if [ -e "$w/no" ] || [ -e "$w/no-model" ]; then
    bad "$(ls "$w/no" "$w/no-model")"; else ok; fi
"$gamma" quantize data/tiny-llama --alloc "$w/seven.tsv" --cache "$w/seven" \
    --format mlx --keep-odd --out "$w/odd" >"$w/out" 2>"$w/err"
is "kept" "$? $(grep -c "^quantize: 56 of 56 modules stay as stored, which mlx \
cannot hold: sizes are those of the allocation, written is that of the files$" \
    "$w/err")" "0 1"

# ----------------------------------------------------- candidates made for one
# likelihood TO MODEL OPTIONS...: perplexity and nll into a file
likelihood() {
    to=$w/$1
    shift
    succeed eval "$@" --text data/test.txt --windows 2 --window 64
    tail -n 1 "$w/out" | cut -f 2,3 >"$to"
}
# made FORMAT TYPE MODEL BITS GROUP QUANTIZER...: learned, solved, written as that
# runtime has it: sizes to the byte, and the model is what was learned, not moved
# by a type of scales or biases
made() {
    form=$1 type=$2 m=$3 bits=$4 group=$5
    shift 5
    rm -rf "$w/for"
    # shellcheck disable=SC2086
    quick fit "$m" $learn --bits "$bits" --group "$group" --for "$form" \
        --scale-type "$type" --out "$w/for" --quantizer "$@"
    upper=$(echo "$type" | tr fb FB)
    is "$form: sizes" "$(sed -n 's/^# sizes //p' "$w/for/scores.tsv")" \
        "$form $upper"
    quick solve "$w/for/scores.tsv" --bits 5.6 --out "$w/a.tsv"
    "$gamma" quantize "$m" --alloc "$w/a.tsv" --cache "$w/for" \
        --format "$form" --out "$w/model" >"$w/out" 2>"$w/err"
    is "$form $type: moved by its type" "$? $(grep " steps" "$w/err")" "0 "
    is "$form $type: bytes" "$(cat "$w"/model/model*.safetensors | wc -c)" \
        "$(sed -n 's/^# file_bytes //p' "$w/a.tsv")"
    quick check "$w/a.tsv" "$w/for/scores.tsv"
    if [ "$form" = mlx ] || [ "$(apart)" -eq 0 ]; then ok; else
        bad "$form: $(apart) apart"; fi
    likelihood written "$w/model"
    likelihood learned "$m" --alloc "$w/a.tsv" --cache "$w/for"
    same "$w/written" "$w/learned"
}
made mlx bf16 data/tiny-llama 2,4,8 32 rtn
made mlx bf16 data/tiny-llama 3,5,8 64 gptq --act-order --scales mse
made mlx f16 data/tiny-llama 4,6,8 32 rtn --scales mse
made mlx f32 data/tiny-llama 4,6,8 32 rtn
is "recipe for F32" "$(sed -n 's/^# candidates //p' "$w/for/scores.tsv")" \
    "rtn bits=4,6,8 group=32"
made compressed-tensors bf16 data/tiny-llama 2,5,7 64 rtn
made gptq f16 data/tiny-llama 2,4,8 32 rtn
# modules that cannot be in whole groups stay as stored
made mlx f16 data/tiny-qwen2 2,4,16 32 rtn
expect 2 "gamma: --for mlx cannot hold module model.layers.0.mlp.down_proj: expected inputs in whole groups of 32, found 216 inputs (with 16 in --bits such modules stay as stored)" \
    fit data/tiny-qwen2 --calib data/calib.txt --bits 2,4 --group 32 --for mlx \
    --out "$w/no"
expect 2 "gamma: --for mlx: expected a group of 32, 64 or 128, found 24" \
    fit data/tiny-llama --calib data/calib.txt --group 24 --for mlx --out "$w/no"
expect 2 "gamma: --scale-type: gptq has scales of F16, found BF16" \
    fit data/tiny-llama --calib data/calib.txt --group 32 --for gptq \
    --scale-type bf16 --out "$w/no"
for command in "fit data/tiny-llama --calib data/calib.txt --out $w/no" \
    "solve $s --bits 3"; do
    # shellcheck disable=SC2086
    expect 2 "gamma: --scale-type goes with --for, found none" $command \
        --scale-type f16
done
if [ -e "$w/no" ]; then bad "$(ls "$w/no")"; else ok; fi
# made for mlx, with its biases: not for others
made mlx bf16 data/tiny-llama 2,4,8 32 rtn
quick quantize data/tiny-llama --alloc "$w/a.tsv" --cache "$w/for" \
    --format mlx --scale-type f32 --out "$w/model"
likelihood written "$w/model"
same "$w/written" "$w/learned"
# corrected by the whole model, at these sizes
quick refine data/tiny-llama "$w/for/scores.tsv" --calib data/calib.txt \
    --bytes 1100000 --out "$w/anchors.tsv"
quick solve "$w/anchors.tsv" --bytes 1100000 --out "$w/b.tsv"
is "anchors" "$(sed -n 's/^# scores_at //p' "$w/b.tsv")" \
    "1100000, as learned"
quick check "$w/b.tsv" "$w/anchors.tsv"
quick quantize data/tiny-llama --alloc "$w/b.tsv" --cache "$w/for" \
    --format mlx --out "$w/model"
is "bytes by anchors" "$(cat "$w"/model/model*.safetensors | wc -c)" \
    "$(sed -n 's/^# file_bytes //p' "$w/b.tsv")"
theirs="these candidates were made for mlx, with its biases: expected"
expect 2 "gamma: --for gptq: $theirs mlx, or candidates without --for mlx" \
    solve "$w/for/scores.tsv" --for gptq --bits 4
expect 2 "gamma: --format gptq: $theirs mlx, or candidates without --for mlx" \
    quantize data/tiny-llama --alloc "$w/a.tsv" --cache "$w/for" \
    --format gptq --out "$w/no"
expect 2 "gamma: $w/no: $theirs --format mlx or hf, found packed" \
    quantize data/tiny-llama --alloc "$w/a.tsv" --cache "$w/for" \
    --format packed --out "$w/no"
expect 2 "gamma: expected either --for, whose files' overhead is known, or --overhead, found both" \
    solve "$w/for/scores.tsv" --bits 4 --overhead 1M

# -------------------------------------- rotary angles, in the keys mlx-lm reads
quick solve "$s" --bits 3 --out "$w/a.tsv"
sed '/^# model_hash/d' "$w/a.tsv" >"$w/b.tsv"
# spelled NAME "MEMBERS" "PATTERN": what is in config.json after the model's
spelled() {
    rm -rf "$w/$1"
    cp -r data/tiny-llama "$w/$1"
    sed "/\"rope_parameters\"/,/}/c\\  $2," data/tiny-llama/config.json \
        >"$w/$1/config.json"
    quick quantize "$w/$1" --alloc "$w/b.tsv" --force --format mlx \
        --out "$w/$1-mlx"
    sed -n '/^  "rope_[a-z]*": /p' "$w/$1-mlx/config.json" |
        tail -n +"$((1 + $(grep -c '^  "rope_[a-z]*": ' "$w/$1/config.json")))" \
        >"$w/found"
    if [ "$(tr -d '\n' <"$w/found")" = "$3" ]; then ok; else
        bad "$1: $(cat "$w/found")"; fi
    quick eval "$w/$1-mlx" --eval data/test.txt --window 64 --windows 2
    cp "$w/out" "$w/$1.out"
}
theta='"rope_theta": 10000'
spelled old "$theta" ""
spelled new "\"rope_parameters\": {\"rope_type\": \"default\", $theta}" \
    "  $theta,"
same "$w/old.out" "$w/new.out"
scaled="{\"rope_type\": \"linear\", \"factor\": 2.0, $theta}"
spelled both "\"rope_parameters\": $scaled" "  $theta,  \"rope_scaling\": $scaled,"
spelled null "\"rope_scaling\": null, \"rope_parameters\": $scaled" \
    "  $theta,  \"rope_scaling\": $scaled,"
same "$w/both.out" "$w/null.out"
if cmp -s "$w/both.out" "$w/new.out"; then
    bad "linear angles are not used"; else ok; fi

# ------------------------------------------------------- a changed file is seen
quick solve "$s" --for mlx --bits 3 --out "$w/a.tsv"
for edit in 's/^# sizes mlx BF16/# sizes mlx F32/' 's/^# sizes mlx/# sizes gptq/' \
    '/^# sizes/d' 's/^\(# file_bytes .*\).$/\17/' \
    's/^\(# overhead_bytes .*\).$/\17/'; do
    sed "$edit" "$w/a.tsv" >"$w/b.tsv"
    if cmp -s "$w/a.tsv" "$w/b.tsv" || "$gamma" check "$w/b.tsv" "$s" --quiet \
        >"$w/out" 2>"$w/err"; then bad "check took $edit"; else ok; fi
done
sed 's/^# sizes mlx BF16/# sizes ml BF16/' "$w/a.tsv" >"$w/b.tsv"
expect 1 "gamma: $s: sizes: expected a layout and the type of its scales, such as mlx F16, found \"ml BF16\"" \
    check "$w/b.tsv" "$s"
finish
