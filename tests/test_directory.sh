#!/bin/sh
# test_directory.sh: what `quantize --out DIR` and `run` do to a directory that
# is not empty.  Claims: a model over another, whatever its shards and layout,
# leaves the files of a first one and no other; what gamma did not write, or what
# was changed since, is refused and left, and with --force only files of a
# checkpoint go; a write that was killed is taken up without --force.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/directory-work
so=$PWD/build/test/faults.so
. tests/shell.sh
export OMP_NUM_THREADS=1

learn="--calib data/calib.txt --sequences 2 --length 16 --batch 2 --steps 1"
one=data/tiny-llama many=data/tiny-qwen2
# shellcheck disable=SC2086
for m in $one $many; do
    n=${m##*/}
    group=32
    [ $m = $one ] || group=24
    quick fit $m $learn --group $group --out "$w/$n"
    quick solve "$w/$n/scores.tsv" --bits 3 --out "$w/$n.tsv"
done

# write MODEL FORMAT DIR ARGS...
write() {
    m=$1 f=$2 dir=$3 n=${1##*/}
    shift 3
    quick quantize "$m" --alloc "$w/$n.tsv" --cache "$w/$n" --format "$f" \
        --out "$dir" "$@"
}
# refuses DIR "NAMES": as it is, whatever the order of work
refuses() {
    cp -r "$1" "$w/before"
    "$fast" quantize $one --alloc "$w/tiny-llama.tsv" --cache "$w/tiny-llama" \
        --out "$1" --quiet >"$w/out" 2>"$w/err"
    found=$?
    message="gamma: $1: expected nothing there but a model that gamma wrote, found $2; --force replaces the files of a checkpoint and keeps others"
    if [ $found -eq 2 ] && [ "$(cat "$w/err")" = "$message" ]; then ok; else
        bad "$1: exit code $found: $(cat "$w/err")
  expected $message"; fi
    if diff -r "$1" "$w/before" >"$w/out"; then ok; else
        bad "$1, refused, but: $(cat "$w/out")"; fi
    rm -r "$w/before"
}
equal() {
    if diff -r "$1" "$2" >"$w/out"; then ok; else
        bad "$3: $(cat "$w/out")"; fi
}

# ------------------------------------------------------ each kind over each
kinds="llama-hf llama-mlx llama-gptq qwen2-hf qwen2-compressed-tensors"
for kind in $kinds; do
    write data/tiny-${kind%%-*} ${kind#*-} "$w/$kind"
    if (cd "$w/$kind" && sha256sum -c --quiet gamma.sha256) >"$w/out" 2>&1 &&
        [ "$(wc -l <"$w/$kind/gamma.sha256")" -eq \
        $(($(find "$w/$kind" -type f | wc -l) - 1)) ]; then ok; else
        bad "$kind/gamma.sha256: $(cat "$w/out")"; fi
done
for old in $kinds; do
    for new in $kinds; do
        [ $old != $new ] || continue
        rm -rf "$w/d"
        cp -r "$w/$old" "$w/d"
        write data/tiny-${new%%-*} ${new#*-} "$w/d"
        equal "$w/d" "$w/$new" "$new over $old"
    done
done

# ------------------------------------------------- what gamma did not write
# a checkpoint, one of its files alone, what is no part of one, a directory
cp -r $many "$w/theirs"
refuses "$w/theirs" "config.json and $(($(ls -A $many | wc -l) - 1)) more"
for file in config.json model.safetensors tokenizer.json README.md .hidden \
    mine.safetensors.partial; do
    mkdir "$w/mine"
    echo "{}" >"$w/mine/$file"
    refuses "$w/mine" $file
    rm -r "$w/mine"
done
mkdir -p "$w/mine/inner"
refuses "$w/mine" inner
# beside a model of ours, and in the place of each of its files
for file in README.md config.json model.safetensors tokenizer.json; do
    rm -rf "$w/d"
    cp -r "$w/llama-mlx" "$w/d"
    echo "{}" >"$w/d/$file"
    refuses "$w/d" $file
done
# --force: the checkpoint's files go, others stay
rm -rf "$w/d" "$w/e"
cp -r $many "$w/d"
echo mine >"$w/d/README.md"
mkdir "$w/d/inner"
echo mine >"$w/d/inner/config.json"
write $one hf "$w/d" --force
if [ "$(cat "$w/d/README.md" "$w/d/inner/config.json")" = "mine
mine" ]; then ok; else bad "--force took a file that is none of a checkpoint"; fi
rm -r "$w/d/README.md" "$w/d/inner"
equal "$w/d" "$w/llama-hf" "--force over a checkpoint"
write $one hf "$w/d"
equal "$w/d" "$w/llama-hf" "the same model again"

# ----------------------------------------------- a write that was killed
# before every file operation of a first write and of one over shards: as it
# lies there, the same command and another one go on without --force
at=1 killed=0
while :; do
    rm -rf "$w/d"
    [ $((at % 2)) -eq 0 ] || cp -r "$w/qwen2-hf" "$w/d"
    FAULT=kill FAULT_AT=$at LD_PRELOAD=$so "$fast" quantize $one --quiet \
        --alloc "$w/tiny-llama.tsv" --cache "$w/tiny-llama" --out "$w/d" \
        >"$w/out" 2>&1 || killed=$((killed + 1))
    [ -e "$w/d/config.json" ] && [ -e "$w/d/model.safetensors" ] && break
    if [ $((at % 4)) -lt 2 ]; then new=llama-hf; else new=llama-mlx; fi
    write $one ${new#*-} "$w/d"
    equal "$w/d" "$w/$new" "$new after a kill before operation $at"
    at=$((at + 5))
done
if [ $killed -ge 10 ]; then ok; else bad "$killed kills only"; fi

# a config.json in what a killed write left is none of its own
rm -rf "$w/d"
FAULT=kill FAULT_AT=$((at / 2)) LD_PRELOAD=$so "$fast" quantize $one --quiet \
    --alloc "$w/tiny-llama.tsv" --cache "$w/tiny-llama" --out "$w/d" \
    >"$w/out" 2>&1
if grep -q '^-  model' "$w/d/gamma.sha256" && [ ! -e "$w/d/config.json" ]; then ok
else bad "before operation $((at / 2)): $(ls -A "$w/d")"; fi
echo "{}" >"$w/d/config.json"
refuses "$w/d" config.json

# ------------------------------- shards of other names than the next model has
cp -r $many "$w/odd"
for file in "$w"/odd/model-*; do mv "$file" "${file%/*}/part${file##*/model}"; done
sed 's/model-0/part-0/g' $many/model.safetensors.index.json \
    >"$w/odd/model.safetensors.index.json"
quick quantize "$w/odd" --alloc "$w/tiny-qwen2.tsv" --cache "$w/tiny-qwen2" \
    --out "$w/odd-hf"
write $one hf "$w/odd-hf"
equal "$w/odd-hf" "$w/llama-hf" "over shards of other names"

# ------------------------------------------------------------------- run
# shellcheck disable=SC2086
whole="run $one $learn --group 32 --eval data/test.txt --window 32 --windows 2 --budgets 3 --out $w/run"
quick $whole
cp -r "$w/run/model-3" "$w/d3"
quick $whole
equal "$w/run/model-3" "$w/d3" "run again"
echo mine >"$w/run/model-3/README.md"
# shellcheck disable=SC2086
expect 2 "gamma: $w/run/model-3: expected nothing there but a model that gamma wrote, found README.md; --force replaces the files of a checkpoint and keeps others" \
    $whole
quick $whole --force
if [ "$(cat "$w/run/model-3/README.md")" = mine ]; then ok; else
    bad "run --force took README.md"; fi
finish
