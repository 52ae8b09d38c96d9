#!/bin/sh
# test_external.sh: what other tools bring, as the user hands it in: candidates
# in a safetensors file, an allocation with names and bits, a table of scores;
# each through the commands to a model that is written and measured.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/external-cli
. tests/shell.sh

m=data/tiny-llama
x=$w/x.safetensors
small="--sequences 4 --length 64 --batch 2 --steps 3 --group 32"

# ------------------------------------------------ candidates: NAME.bK, F16
# 2, 3 and 4 bits; the fourth module (o_proj of block 0) lacks 3
build/test/test_external $m "$x" >"$w/out" || bad "the file: $(cat "$w/out")"
# shellcheck disable=SC2086
succeed fit $m --calib data/calib.txt --out "$w/a" $small --external "$x"
s=$w/a/scores.tsv
if grep -q "^# candidates external bits=2,3,4 group=32$" "$s"; then ok; else
    bad "$s: $(grep '^# candidates' "$s")"; fi
cells=$(awk -F '\t' '$1 ~ /layers.0.self_attn.o_proj/ { print $8, $9, $10 }' "$s")
if [ "$cells" = "- - -" ]; then ok; else bad "the missing candidate: $cells"; fi
succeed solve "$s" --bits 3 --out "$w/alloc.tsv"
succeed check "$w/alloc.tsv" "$s"
bits=$(awk '$1 ~ /layers.0.self_attn.o_proj/ { print $2 }' "$w/alloc.tsv")
if [ "$bits" != 3 ]; then ok; else bad "o_proj got the 3 bits it lacks"; fi
# uniform at 3 bits, in `run` as in `compare`: a module that lacks 3 has less
# shellcheck disable=SC2086
quick run $m --calib data/calib.txt --eval data/test.txt --out "$w/run" \
    $small --external "$x" --budgets 3 --window 64 --windows 2 --no-models
if awk 'NR == 2 { exit !($3 == 3 && $5 < $8) }' "$w/out"; then ok; else
    bad "uniform bits of run: $(cat "$w/out")"; fi
succeed quantize $m --alloc "$w/alloc.tsv" --external "$x" --out "$w/q"
succeed eval $m --alloc "$w/alloc.tsv" --external "$x" --text data/test.txt \
    --window 128 --windows 2
a=$(awk -F '\t' '$1 == "quantized" { print $3 }' "$w/out")
succeed eval "$w/q" --text data/test.txt --window 128 --windows 2
b=$(awk -F '\t' '$1 == "original" { print $3 }' "$w/out")
# up to the rounding to the checkpoint's BF16
if awk "BEGIN { d = $a - $b; exit !(d < 0.01 && d > -0.01) }"; then ok; else
    bad "nll of the allocation $a, of the written model $b"; fi
succeed refine $m "$s" --calib data/calib.txt --external "$x" --bits 3 \
    --out "$w/refined.tsv"
cells=$(awk -F '\t' '$1 ~ /layers.0.self_attn.o_proj/ { print $8, $9, $10 }' \
    "$w/refined.tsv")
if [ "$cells" = "- - -" ]; then ok; else bad "refined, missing: $cells"; fi
expect 2 "gamma: the candidates are another tool's: expected its file (--external FILE), found none" \
    refine $m "$s" --calib data/calib.txt --bits 3 --out "$w/no.tsv"
expect 2 "gamma: $w/p: external candidates have no codes to pack: expected --format hf, found packed" \
    quantize $m --alloc "$w/alloc.tsv" --external "$x" --out "$w/p" --format packed
expect 2 "gamma: --format mlx cannot hold module model.layers.0.self_attn.q_proj: expected codes of mlx, found values in $x (--keep-odd keeps such modules as stored)" \
    quantize $m --alloc "$w/alloc.tsv" --external "$x" --out "$w/p" --format mlx
expect 2 "gamma: the candidates are another tool's: expected its file (--external FILE), found none" \
    quantize $m --alloc "$w/alloc.tsv" --out "$w/p"
expect 2 "gamma: expected either --quantizer or --external, found both" \
    fit $m --out "$w/b" --calib data/calib.txt --external "$x" --quantizer gptq
for option in "--scales mse" --symmetric "--for mlx"; do
    # shellcheck disable=SC2086
    expect 2 "gamma: expected either ${option%% *} or --external, found both" \
        fit $m --out "$w/b" --calib data/calib.txt --external "$x" $option
done
# another file than the one the scores were learned on
other=$w/other.safetensors
cp "$x" "$other"
size=$(wc -c <"$other" | tr -d ' ')
printf '\1' | dd of="$other" bs=1 seek=$((size - 2)) conv=notrunc 2>"$w/err"
"$gamma" quantize $m --alloc "$w/alloc.tsv" --external "$other" --out "$w/p" \
    --quiet >"$w/out" 2>"$w/err"
if [ $? -eq 1 ] && grep -q "^gamma: $w/alloc.tsv: was made for other candidates: expected candidates_hash [0-9a-f]* (--external $other), found [0-9a-f]*$" "$w/err"
then ok; else bad "another file: $(cat "$w/err")"; fi

# -------------- NAME.LABEL: q4_0 and q4_k of 4 bits; k_proj of block 1 lacks q8_0
l=$w/l.safetensors
build/test/test_labels $m "$l" >"$w/out" || bad "labels: $(cat "$w/out")"
# shellcheck disable=SC2086
succeed fit $m --calib data/calib.txt --out "$w/l" $small --external "$l"
s=$w/l/scores.tsv
for line in "# label_bits q2=2 q4_0=4 q4_k=4 q8_0=8" "# overhead_bytes 12345" \
    "# candidates external bits=q2,q4_0,q4_k,q8_0 group=32"; do
    if grep -qx "$line" "$s"; then ok; else bad "$s: no $line"; fi
done
succeed solve "$s" --bytes 700K --pin "q_proj=Q4_K,o_proj=4" --min-bits 3 \
    --fuse gate_proj+up_proj --overhead 54321 --out "$w/l.tsv" \
    --proof "$w/l.vipr" --lp-plain "$w/l.lp"
succeed check "$w/l.tsv" "$s" --proof "$w/l.vipr"
if grep -qx "overhead_given	54321	54321	the file's word" "$w/out"; then ok; else
    bad "check of --overhead: $(cat "$w/out")"; fi
found=$(awk -F '\t' '$1 == "module" || $1 ~ /layers.0.self_attn.[qo]_proj/ {
    print $2, $4, $5 }' "$w/l.tsv" | tr '\n' ';')
case $found in
"bits label allowed;4 q4_k q4_k;4 q4_"[0k]" q4_0,q4_k;") ok ;;
*) bad "the label's columns: $found" ;;
esac
if grep -q " x_model.layers.1.self_attn.k_proj_q4.0 " "$w/l.lp" &&
    ! grep -q "k_proj_q4_0\|layers.1.self_attn.k_proj_q8" "$w/l.lp"; then ok; else
    bad "names of the program: $(head -3 "$w/l.lp")"; fi
succeed quantize $m --alloc "$w/l.tsv" --external "$l" --out "$w/lq"
if awk -F '\t' 'NR == 2 { exit !($3 > 690000 && $3 <= 700000) }' "$w/out"
then ok; else bad "bytes with --overhead: $(cat "$w/out")"; fi
nll() { awk -F '\t' -v row=$1 '$1 == row { print $3 }' "$w/out"; }
succeed eval $m --alloc "$w/l.tsv" --external "$l" --text data/test.txt \
    --window 128 --windows 2
a=$(nll quantized)
succeed eval "$w/lq" --text data/test.txt --window 128 --windows 2
b=$(nll original)
if awk "BEGIN { d = $a - $b; exit !(d < 0.01 && d > -0.01) }"; then ok; else
    bad "nll of the labels $a, of the written model $b"; fi
succeed refine $m "$s" --calib data/calib.txt --external "$l" --ebits 4.5,5 \
    --out "$w/l-refined.tsv"
if grep -q "	q4_k.score@4.5	" "$w/l-refined.tsv"; then ok; else
    bad "anchors: $(grep '^module' "$w/l-refined.tsv")"; fi
succeed solve "$w/l-refined.tsv" --ebits 4.7 --out "$w/l-alloc.tsv"
succeed check "$w/l-alloc.tsv" "$w/l-refined.tsv"
succeed audit "$w/l.tsv" "$s"
if grep -q "^within_budget	" "$w/out" && grep -q \
    "^move	model.*	q[248_0k]* to q[248_0k]*, [+-]" "$w/out"; then ok; else
    bad "audit: $(cat "$w/out")"; fi
succeed show "$w/l.tsv"
case $(head -1 "$w/out") in
"candidates, modules:  a = q4_0: "*"  b = q4_k: "*) ok ;;
*) bad "the grid of labels: $(cat "$w/out")" ;;
esac
succeed show "$w/l.tsv" --json
if [ "$(grep -c '"bits": 4, "label": "q4_k"' "$w/out")" -ge 8 ]; then ok; else
    bad "show --json: $(head -3 "$w/out")"; fi
# shellcheck disable=SC2086
quick run $m --calib data/calib.txt --eval data/test.txt --out "$w/lrun" \
    $small --external "$l" --bits q4_k,Q8_0,q2 --budgets 4 --in ebits \
    --window 64 --windows 2 --no-models
if grep -q "Score of each module at q4_k" "$w/lrun/report.html" &&
    [ -f "$w/lrun/report-scores-q4_k.svg" ]; then ok; else
    bad "report of labels: $(ls "$w/lrun")"; fi
# bits alone do not say which of two
grep -v "^#" "$w/l.tsv" | cut -f 1-3 >"$w/bare.tsv"
expect 1 "gamma: $w/bare.tsv: line 8: module model.layers.0.mlp.down_proj: $s has q4_0 and q4_k of 4 bits for it: expected a column label" \
    check "$w/bare.tsv" "$s"
expect 2 "gamma: --pin: expected bits from 1 to 32 or a label of $s, found \"q5\"" \
    solve "$s" --ebits 5 --pin q_proj=q5
expect 2 "gamma: expected either --for, whose files' overhead is known, or --overhead, found both" \
    solve "$s" --ebits 5 --overhead 5 --for mlx
expect 2 'gamma: --overhead: expected bytes, such as 1800000 or 1.8M, found "-5"' \
    solve "$s" --ebits 5 --overhead -5

# --------------------------------------------- an allocation: name and bits
s=$w/a/scores.tsv
names=$(awk -F '\t' '$1 ~ /^model/ { print $1 }' "$s")
{ echo "name	bits"
  for n in $names; do case $n in *mlp*) echo "$n	3";; *) echo "$n	4";; esac
  done; } >"$w/hand.tsv"
succeed eval $m --alloc "$w/hand.tsv" --text data/test.txt --window 128 \
    --windows 2 --cache "$w/c"
succeed quantize $m --alloc "$w/hand.tsv" --out "$w/hq" --cache "$w/c"
average=$(awk -F '\t' 'NR == 2 { print $1 }' "$w/out")
if awk "BEGIN { exit !($average > 3 && $average < 4) }"; then ok; else
    bad "average $average bits"; fi

# ------------------------------------- scores: module, out, in, b.score
# 4 bits cost nothing, 2 bits cost the rank of the module
{ echo "module	out	in	2.score	4.score"
  awk -F '\t' '$1 ~ /^model/ { print $1 "\t" $2 "\t" $3 "\t" ++n "\t0" }' "$s"
} >"$w/mine.tsv"
succeed solve "$w/mine.tsv" --bits 3 --out "$w/mine-alloc.tsv"
succeed check "$w/mine-alloc.tsv" "$w/mine.tsv"
first=$(awk '$1 ~ /layers.0.self_attn.q_proj/ { print $2 }' "$w/mine-alloc.tsv")
last=$(awk '$1 ~ /layers.7.mlp.down_proj/ { print $2 }' "$w/mine-alloc.tsv")
if [ "$first $last" = "2 4" ]; then ok; else
    bad "the cheapest module got $first bits, the dearest $last"; fi
# the sizes are those of the packed layout, so the file has the bytes promised
succeed quantize $m --alloc "$w/mine-alloc.tsv" --out "$w/mq" --format packed \
    --cache "$w/c"
# weights alone: sizes of codes, and the allocation still fits the model
{ echo "name	weights	2.score	4.score"
  awk -F '\t' '$1 ~ /^model/ { print $1 "\t" $4 "\t" ++n "\t0" }' "$s"
} >"$w/few.tsv"
succeed solve "$w/few.tsv" --ebits 3 --out "$w/few-alloc.tsv"
succeed check "$w/few-alloc.tsv" "$w/few.tsv"
succeed quantize $m --alloc "$w/few-alloc.tsv" --out "$w/fq" --cache "$w/c"

# ------------------------ other runtimes' layouts: read back, and as candidates
# evaluated, the directory is the allocation; BF16 scales are within their word
mkdir "$w/two"
for b in 2 4; do
    { printf 'module\tbits\n'
      awk -v b=$b '$1 ~ /^model/ { print $1 "\t" b }' "$w/mine-alloc.tsv"
    } >"$w/two/$b.tsv"
done
evaluate() {
    succeed eval "$@" --text data/test.txt --window 64 --windows 2
    awk -F '\t' 'END { print $3 }' "$w/out"
}
grep -v '^#' "$w/mine-alloc.tsv" | cut -f 1,2 >"$w/two/any.tsv"
for b in 2 4 any; do
    file=$w/two/$b.tsv
    nll=$(evaluate $m --alloc "$file" --cache "$w/c" --group 32)
    for form in "mlx --scale-type f32" compressed-tensors gptq mlx; do
        # shellcheck disable=SC2086
        succeed quantize $m --alloc "$file" --cache "$w/c" --group 32 \
            --format $form --out "$w/two/${form%% *}$b"
        found=$(evaluate "$w/two/${form%% *}$b")
        if [ "$form" = mlx ]; then
            awk "BEGIN { exit !($found - $nll < .01 && $nll - $found < .01) }"
        else
            [ "$found" = "$nll" ]
        fi && ok || bad "$form, $b bits: nll $found, of the allocation $nll"
    done
done
succeed info "$w/two/gptqany"
if [ "$(grep -c '^layout	gptq$\|^modules_of_[24]_bits	[23][0-9]$\|^code_bits	3.0\|^effective_bits	3.8' "$w/out")" = 5 ]; then ok; else
    bad "info: $(cat "$w/out")"; fi
# two directories are two candidates, with their bytes; the scores are those of
# the same weights made here
# shellcheck disable=SC2086
succeed fit $m --calib data/calib.txt --out "$w/of-two" $small \
    --external "$w/two/gptq2,$w/two/compressed-tensors4"
# shellcheck disable=SC2086
succeed fit $m --calib data/calib.txt --out "$w/of-ours" $small --bits 2,4
table() { awk -F '\t' '/^model/ { printf "%s %.9f %.9f\n", $1, $6, $9 }' "$1"; }
table "$w/of-two/scores.tsv" >"$w/x1"
table "$w/of-ours/scores.tsv" >"$w/x2"
same "$w/x1" "$w/x2"
bytes=$(awk -F '\t' '$1 ~ /layers.0.self_attn.q_proj/ { print $5, $8 }' \
    "$w/of-two/scores.tsv")
if [ "$bytes" = "$((128 * 8 * 4 + 4 * 8 * 4 + 2 * 128 * 4 + 4 * 128)) $((
    128 * 16 * 4 + 2 * 128 * 4 + 4 * 16 * 4 + 16))" ]; then ok; else
    bad "bytes of the two: $bytes"; fi
# two of the same bits: by names that are given
both="$w/two/gptq2,$w/two/compressed-tensors4,$w/two/gptq2"
expect 2 "gamma: --external: model.layers.0.self_attn.q_proj.b2 is in $w/two/gptq2/model.safetensors and in $w/two/gptq2: expected names for directories that have the same bits, such as a=DIR,b=DIR" \
    fit $m --calib data/calib.txt --out "$w/no" --external "$both"
expect 2 "gamma: --external: expected a name of at most 20 letters, digits and _ before =, such as mlx=DIR, found \"A b\"" \
    fit $m --calib data/calib.txt --out "$w/no" --external "A b=$w/two/gptq2"
# shellcheck disable=SC2086
succeed fit $m --calib data/calib.txt --out "$w/of-named" $small \
    --external "q=$w/two/gptq2,ct=$w/two/compressed-tensors4"
if grep -q "^# label_bits q_2=2 ct_4=4" "$w/of-named/scores.tsv"; then ok; else
    bad "labels: $(grep label "$w/of-named/scores.tsv")"; fi
named="--external a=$w/two/gptq2,b=$w/two/gptq2"
# shellcheck disable=SC2086
succeed fit $m --calib data/calib.txt --out "$w/of-named" $small $named
succeed solve "$w/of-named/scores.tsv" --bits 2 --out "$w/x1"
# shellcheck disable=SC2086
succeed quantize $m --alloc "$w/x1" $named --out "$w/named"
# shellcheck disable=SC2086
succeed eval $m --alloc "$w/x1" $named --text data/test.txt --windows 1 \
    --window 64
tail -n 1 "$w/out" | cut -f 2,3 >"$w/x1"
succeed eval "$w/two/gptq2" --text data/test.txt --windows 1 --window 64
tail -n 1 "$w/out" | cut -f 2,3 >"$w/x2"
same "$w/x1" "$w/x2"

# --------------------------------------- directories that are not what they say
# damaged DIR COPY CODE: t: name -> [dtype, shape, bytes]; c: config.json
damaged() {
    rm -rf "$2"
    cp -r "$1" "$2"
    python3 - "$2" "$3" <<'end' || bad "$2: not made"
import json, struct, sys
path = sys.argv[1] + "/model.safetensors"
data = open(path, "rb").read()
size, = struct.unpack("<Q", data[:8])
head = json.loads(data[8:8 + size])
meta = head.pop("__metadata__", {})
t = {k: [v["dtype"], v["shape"], data[8 + size + v["data_offsets"][0]:
         8 + size + v["data_offsets"][1]]] for k, v in head.items()}
c = json.load(open(sys.argv[1] + "/config.json"))
q = "model.layers.0.self_attn.q_proj."
exec(sys.argv[2])
head, at = {"__metadata__": meta}, 0
for k, (dtype, shape, b) in t.items():
    head[k] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(b)]}
    at += len(b)
text = json.dumps(head).encode()
text += b" " * (-len(text) % 8)
open(path, "wb").write(struct.pack("<Q", len(text)) + text +
                       b"".join(b for _, _, b in t.values()))
json.dump(c, open(sys.argv[1] + "/config.json", "w"))
end
}
d=$w/damaged
mkdir "$d"
of() { printf %s "quantize $m --alloc $w/two/4.tsv --external $1 --format $2 --out $d/x"; }
# two layouts, all modules of one of them: that one is written
for form in mlx compressed-tensors gptq; do
    other=gptq
    if [ $form = gptq ]; then other=mlx; fi
    # shellcheck disable=SC2046
    succeed $(of "$w/two/${other}2,$w/two/${form}4" $form) --force
    is "$form of two layouts" "$(evaluate "$d/x")" "$(evaluate "$w/two/${form}4")"
done
# what its config says is there is there
damaged "$w/two/compressed-tensors4" "$d/zero" 'del t[q + "weight_zero_point"]'
expect 1 "gamma: $d/zero: tensor ${q=model.layers.0.self_attn.q_proj}.weight_zero_point is missing, but $q.weight_packed is there" \
    eval "$d/zero" --text data/test.txt --window 64 --windows 1
damaged "$w/two/gptq4" "$d/index" \
    'del t[q + "g_idx"]; c["quantization_config"]["desc_act"] = True'
expect 1 "gamma: $d/index: tensor $q.g_idx is missing, but $q.qweight is there" \
    eval "$d/index" --text data/test.txt --window 64 --windows 1
# groups that are not in order are said to be so
act() { sed -n 's/.*"desc_act": \([a-z]*\).*/\1/p' "$1/config.json"; }
is "in order" "$(act "$d/x")" false
damaged "$w/two/gptq4" "$d/act" 'i = t[q + "g_idx"]
i[2] = b"".join(i[2][k - 4:k] for k in range(len(i[2]), 0, -4))'
# shellcheck disable=SC2046
succeed $(of "$w/two/gptq2,$d/act" gptq) --force
is "not in order" "$(act "$d/x")" true
is "as it was" "$(evaluate "$d/x")" "$(evaluate "$d/act")"
# which readers then want of every module
damaged "$w/two/gptq2" "$d/none" \
    't = {k: v for k, v in t.items() if "g_idx" not in k}'
sed '/[.]1[.]/s/4$/2/' "$w/two/4.tsv" >"$d/both.tsv"
expect 2 "gamma: --format gptq: some modules have groups in another order: expected g_idx of all, found none in $d/none/model.safetensors" \
    quantize $m --alloc "$d/both.tsv" --external "$d/none,$d/act" \
    --format gptq --out "$w/no"
# biases that add nothing, and one that does
for bias in "bytes(256)" "bytes(255) + b'A'"; do
    damaged "$w/two/gptq4" "$d/bias" \
        "t[q + 'bias'] = ['F16', [128], $bias]"
    [ -d "$d/zeros" ] || mv "$d/bias" "$d/zeros"
done
is "biases of zeros" "$(evaluate "$d/zeros")" "$(evaluate "$w/two/gptq4")"
expect 1 "gamma: $d/bias: tensor ${q}.bias is there, but not in the model that config.json describes" \
    eval "$d/bias" --text data/test.txt --window 64 --windows 1
# no rotation is undone, no other model's modules are taken
damaged "$w/two/compressed-tensors4" "$d/turned" \
    'c["quantization_config"]["transform_config"] = {"config_groups": {}}'
expect 1 "gamma: $d/turned/config.json: transform_config: expected null, found an object" \
    eval "$d/turned" --text data/test.txt --window 64 --windows 1
damaged "$w/two/mlx4" "$d/norm" 'n = t["model.norm.weight"]
n[2] = n[2][:-2] + b"\x00\x40"'
# shellcheck disable=SC2046
"$gamma" $(of "$w/two/mlx2,$d/norm" mlx) --force >"$w/out" 2>"$w/err"
is "another model's" "$? $(sed -n 's/.*\(tensor "model.norm.weight": element 127\).*\(modules of another model\)$/\1, \2/p' "$w/err")" \
    '1 tensor "model.norm.weight": element 127, modules of another model'
expect 2 "gamma: --external: expected directories with commas between, found nothing in one's place in \"$w/two/mlx2,\"" \
    fit $m --calib data/calib.txt --out "$w/no" --external "$w/two/mlx2,"
# the source of the candidates is not written over
cp -r "$w/two/mlx4" "$d/source"
for out in "$d/source" "$d/./source/"; do
    expect 2 "gamma: $out: the output directory has the candidates of $d/source/model.safetensors; expected another" \
        quantize $m --alloc "$w/two/4.tsv" --external "$w/two/mlx2,$d/source" \
        --format mlx --out "$out" --force
done
same "$d/source/model.safetensors" "$w/two/mlx4/model.safetensors"
# one group a row stays one
quick quantize $m --alloc "$w/two/4.tsv" --group 128 \
    --format compressed-tensors --out "$d/wide"
# shellcheck disable=SC2046
succeed $(of "$w/two/compressed-tensors2,$d/wide" compressed-tensors) --force
is "channels" "$(grep -o '"strategy": "[a-z]*", "group_size": [a-z0-9]*' \
    "$d/x/config.json" | sort | tr '\n' ';')" \
    '"strategy": "channel", "group_size": null;"strategy": "group", "group_size": 128;'
is "as it was" "$(evaluate "$d/x")" "$(evaluate "$d/wide")"
# names that its reader would not find, or would find twice
damaged $m "$d/bare" 't = {k.replace("model.", "", 1): v for k, v in t.items()}'
expect 2 "gamma: --format mlx: expected a tensor $q.weight, found ${q#model.}.weight: expected --format hf or packed" \
    quantize "$d/bare" --alloc "$w/two/4.tsv" --format mlx --out "$w/no"
damaged $m "$d/extra" 't[q + "scales"] = t["model.norm.weight"]'
expect 1 "gamma: $d/extra/model.safetensors: tensor $q.scales: expected none of this name, which --format mlx gives to another, found one" \
    quantize "$d/extra" --alloc "$w/two/4.tsv" --format mlx --out "$w/no"
# scales of a type that the layout knows
damaged $m "$d/double" 'for v in t.values():    # BF16: the upper half of F32
    n = len(v[2]) // 2
    f = struct.unpack(f"<{n}f", b"".join(b"\0\0" + v[2][2 * i:2 * i + 2]
                                         for i in range(n)))
    v[0], v[2] = "F64", struct.pack(f"<{n}d", *f)'
quick quantize "$d/double" --alloc "$w/two/4.tsv" --group 32 --format mlx \
    --out "$d/y"
quick quantize $m --alloc "$w/two/4.tsv" --group 32 --format mlx \
    --scale-type f32 --out "$d/z"
is "of F64" "$(evaluate "$d/y")" "$(evaluate "$d/z")"
expect 2 "gamma: --for mlx: another tool's candidates have their sizes in $w/of-two/scores.tsv: expected no --for" \
    solve "$w/of-two/scores.tsv" --bits 3 --for mlx

finish
