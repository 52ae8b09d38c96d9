#!/bin/sh
# test_faults.sh: memory that runs out, disks that fail or are full, inputs
# that are cut or changed while read, two processes at once, directories that
# cannot be written, outputs over inputs, names that would drive a terminal.
# After each: a documented exit code, a message, no partial file, every output
# the old one or the new one.  With FAULTS=all every n-th call fails once (make
# check); else about a dozen, evenly spread.
# SPDX-License-Identifier: GPL-3.0-or-later
so=$PWD/build/test/faults.so
w=build/test/faults-work
. tests/shell.sh
gamma=$fast
m=data/tiny-llama
runs=0
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

# must ARGS...: what the tests stand on
must() {
    "$gamma" "$@" --quiet >"$w/out" 2>"$w/err" && return
    bad "gamma $*: exit code $?: $(tail -n 1 "$w/err")"
}

if [ ! -e "$so" ]; then
    echo "FAILED $so is missing"
    echo "test_faults: 0 passed, 1 failed"
    exit 1
fi

# ------------------------------------------------------------ old and new files
# two blocks, so that failing at every single call takes minutes
tiny=$w/tiny
learn="--tokens tests/golden/mistakes/tokens.npy --sequences 2 --length 32
    --batch 1 --group 16 --steps 1"
window="--window 32 --windows 2"
other="--eval-tokens tests/golden/mistakes/tokens.npy $window"
cp -r tests/golden/tiny-llama "$tiny"
cp data/tiny-llama/tokenizer.json "$tiny"       # to be copied, not used
# shellcheck disable=SC2086
must fit "$tiny" $learn --out "$w/new-fit"
# shellcheck disable=SC2086
must fit "$tiny" $learn --seed 2 --out "$w/old-fit"
rm "$w"/old-fit/candidates-* "$w"/old-fit/sha256-*
cache=$w/new-fit
s=$cache/scores.tsv
mkdir "$w/old-solve" "$w/new-solve" "$w/old-packed" "$w/new-packed"
must solve "$s" --bits 2.5 --out "$w/new-solve/alloc.tsv"
must solve "$s" --bits 3.5 --out "$w/old-solve/alloc.tsv"
alloc=$w/new-solve/alloc.tsv
for age in old new; do
    must quantize "$tiny" --alloc "$w/$age-solve/alloc.tsv" --cache "$cache" \
        --out "$w/$age-hf"
    must quantize "$tiny" --alloc "$w/$age-solve/alloc.tsv" --cache "$cache" \
        --format packed --out "$w/$age-packed/model"
done

# A disk of $disk kilobytes in place of $w/now, beginning as the old files;
# what is on it at the end goes to $w/after.
disk=
on_disk='size=$1 at=$2 from=$3 to=$4
shift 4
mount -t tmpfs -o size="$size"k none "$at" && cp -r "$from/." "$at" || exit 99
"$@"
code=$?
cp -r "$at" "$to"
exit $code'

# run NAME: the command of that name, writing into $w/now
run() {
    # shellcheck disable=SC2086
    case $1 in
    info) set -- info "$tiny" --hash ;;
    solve) set -- solve "$s" --bits 2.5 --out "$w/now/alloc.tsv" ;;
    check) set -- check "$alloc" "$s" ;;
    fit) set -- fit "$tiny" $learn --out "$w/now" ;;
    gptq) set -- fit "$tiny" $learn --quantizer gptq --out "$w/now" ;;
    hf) set -- quantize "$tiny" --alloc "$alloc" --cache "$cache" \
        --out "$w/now" ;;
    packed) set -- quantize "$tiny" --alloc "$alloc" --cache "$cache" \
        --format packed --out "$w/now/model" ;;
    eval) set -- eval $m --text data/test.txt $window \
        --choices data/choices.jsonl ;;
    chosen) set -- eval "$tiny" --alloc "$alloc" --cache "$cache" \
        --tokens tests/golden/mistakes/tokens.npy $window ;;
    compare) set -- compare "$tiny" $learn $other --budgets 3 \
        --methods uniform,greedy,gamma --out "$w/now" ;;
    refine) set -- refine "$tiny" "$s" ${learn%--batch*} --bits 3 \
        --cache "$cache" --out "$w/now/scores.tsv" ;;
    run) set -- run "$tiny" $learn $other --budgets 3 --out "$w/now" ;;
    dump) set -- dump "$tiny" $learn --cache "$cache" \
        --out "$w/now/dump.safetensors" ;;
    verify) set -- verify "$w/new-dump/dump.safetensors" \
        "$w/new-dump/dump.safetensors" ;;
    baq) set -- baq "$tiny" ${learn%--batch*} --out "$w/now" ;;
    esac
    set -- "$gamma" "$@" --quiet
    # shellcheck disable=SC2086
    [ -z "$disk" ] || set -- $mounting sh -c "$on_disk" on_disk "$disk" \
        "$w/now" "$w/old-$name" "$w/after" "$@"
    "$@"
}
for name in info check gptq eval chosen compare refine run dump verify baq; do
    mkdir "$w/now"
    run $name >"$w/out" 2>"$w/err" ||
        bad "$name: exit code $?: $(tail -n 1 "$w/err")"
    mv "$w/now" "$w/new-$name"
    cp "$w/out" "$w/said-$name"
    mkdir "$w/old-$name"
done

# what holds seconds of the clock, and which solver ended, is left out
timed() {
    case $2 in
    compare) case $1 in *.tsv | *.svg) return ;; esac ;;
    baq) case $1 in *.tsv) return ;; esac ;;
    esac
    false
}
# begun FILE: the list of a model that is not finished, which names hashes of none
begun() {
    [ "${1##*/}" = gamma.sha256 ] && ! [ -e "${1%/*}/config.json" ] &&
        ! grep -vq '^-  ' "$1"
}
# so_far FILE: scores of run with the anchors that there are so far
so_far() {
    [ "$name" = run ] && [ "${1##*/}" = scores.tsv ] || return 1
    grep -v '^#' "$1" >"$w/columns"
    grep -v '^#' "$w/new-run/scores.tsv" | cut -f "1-$(head -n 1 "$w/columns" |
        tr '\t' '\n' | wc -l)" | cmp -s - "$w/columns"
}
alike() { cmp -s "$1" "$2" || { [ "${1##*.}" = tsv ] &&
    [ "$(grep -v '^# solvers' "$1")" = "$(grep -v '^# solvers' "$2")" ]; }; }

# judge NAME CODE: nothing partial; each file of $w/now is the old or the new
# one; a failure has its message; after success all are new, and the results on
# the standard output too.
judge() {
    name=$1 code=$2 wrong=
    runs=$((runs + 1))
    (cd "$w/now" && find . -type f) >"$w/files"
    while read -r file; do
        case $file in *.partial) wrong="$wrong $file is left" ;; esac
        timed "$file" "$name" && continue
        alike "$w/now/$file" "$w/new-$name/$file" 2>/dev/null && continue
        [ "$code" -ne 0 ] && alike "$w/now/$file" "$w/old-$name/$file" \
            2>/dev/null && continue
        [ "$code" -ne 0 ] && { begun "$w/now/$file" ||
            so_far "$w/now/$file"; } && continue
        wrong="$wrong $file is neither old nor new"
    done <"$w/files"
    case $code in
    0) (cd "$w/new-$name" && find . -type f) >"$w/files"
        while read -r file; do
            [ -e "$w/now/$file" ] || wrong="$wrong $file is missing"
        done <"$w/files"
        case $name in info | check | eval | chosen | verify)
            cmp -s "$w/out" "$w/said-$name" || wrong="$wrong other results" ;;
        esac ;;
    # 4: the dynamic program had no memory and was alone
    4 | 5 | 6) tail -n 1 "$w/err" | grep -q '^gamma: .' ||
        wrong="$wrong no message" ;;
    *) wrong="$wrong exit code $code ($(tail -n 1 "$w/err"))" ;;
    esac
}

fresh() { rm -rf "$w/now"; cp -r "$w/old-$1" "$w/now"; }

# inject KIND NAME: each n-th call fails once (or some of them)
inject() {
    kind=$1 what=$2 n=1
    fresh "$what"
    rm -f "$w/count"
    (export FAULT="$kind" FAULT_AT=0 FAULT_COUNT="$w/count" LD_PRELOAD="$so"
        run "$what" >"$w/out" 2>"$w/err")
    calls=$(cat "$w/count")
    case $calls in '' | 0) bad "$kind of $what: no call seen"; return ;; esac
    step=$((calls / 8 + 1))
    [ "$FAULTS" = all ] && step=1
    noticed=0
    while [ "$n" -le "$calls" ]; do
        fresh "$what"
        (export FAULT="$kind" FAULT_AT=$n FAULT_ERRNO=$((n % 2 ? 28 : 5)) \
            LD_PRELOAD="$so"
            run "$what" >"$w/out" 2>"$w/err") 2>"$w/shell"
        code=$?
        [ $code -eq 0 ] || noticed=$((noticed + 1))
        judge "$what" $code
        if [ -z "$wrong" ]; then ok; else
            bad "$kind $n of $calls of $what:$wrong"; fi
        n=$((n + step))
    done
    # an interposer that hides nothing but fails nothing would pass the above
    if [ $noticed -gt 0 ]; then ok; else bad "$kind of $what: never noticed"; fi
    [ "$FAULTS" = all ] && echo "$kind of $what: $calls calls, $noticed" \
        "refused, the rest gone on without"
}

for name in info solve check fit gptq hf packed eval chosen compare refine run \
    dump verify baq; do
    inject malloc $name
    inject open $name
done
for name in solve fit gptq hf packed compare refine run dump baq; do
    inject write $name
done

# a real full disk, in a space of mounts of its own: root's, or a user's; where
# neither may mount, the ENOSPC of tests/faults.c above stands alone
mounting=
for try in "unshare -m" "unshare -r -m"; do
    # shellcheck disable=SC2086
    $try mount -t tmpfs none "$w/now" 2>/dev/null && mounting=$try && break
done
[ -n "$mounting" ] || echo "no mounts here: full disks by tests/faults.c only"
for name in ${mounting:+solve fit hf packed compare}; do
    full=0
    for room in 0 4 100 700; do
        fresh $name
        rm -rf "$w/after"
        disk=$(($(du -sk "$w/old-$name" | cut -f 1) - 4 + room))
        [ $disk -gt 0 ] || disk=4       # 0 would be no limit
        run $name >"$w/out" 2>"$w/err"
        code=$?
        disk=
        rm -rf "$w/now"
        mv "$w/after" "$w/now"
        judge $name $code
        [ $code -eq 0 ] || { full=$((full + 1)) &&
            grep -q 'No space left on device$' "$w/err"; } ||
            wrong="$wrong $(tail -n 1 "$w/err")"
        if [ -z "$wrong" ]; then ok; else
            bad "$room kB of room, $name:$wrong"; fi
    done
    if [ $full -gt 0 ]; then ok; else bad "disk of $name: never full"; fi
done

# a real limit on the size of files, at several sizes: errno EFBIG
for name in fit hf packed; do
    for blocks in 1 8 100 2000; do
        fresh $name
        (ulimit -f $blocks; run $name >/dev/null 2>"$w/limited")
        code=$?
        grep -v '^libgcov' "$w/limited" >"$w/err"   # coverage: its own files
        judge $name $code
        if [ -z "$wrong" ]; then ok; else
            bad "ulimit -f $blocks of $name:$wrong"; fi
    done
done
fresh fit
(ulimit -f 8; run fit >/dev/null 2>"$w/limited")
if [ $? -eq 5 ] && grep -q '^gamma: .*\.partial: cannot write: File too large$' \
    "$w/limited"; then ok; else bad "file size limit: $(cat "$w/limited")"; fi
# results that cannot be printed
"$gamma" info $m --quiet >/dev/full 2>"$w/err"
if [ $? -eq 5 ] && grep -qx 'gamma: standard output could not be written' \
    "$w/err"; then ok; else bad "full output: $(cat "$w/err")"; fi

# what the tests below stand on
slow="--calib data/calib.txt --sequences 2 --length 32 --batch 1 --group 64
    --steps 100000"
fit="${slow%00000}"
compare="$fit --text data/test.txt $window --budgets 3 --methods uniform,gamma"
cache=$w/whole
s=$cache/scores.tsv
# shellcheck disable=SC2086
must fit $m $fit --out "$cache"
must solve "$s" --bits 2.5 --out "$w/alloc.tsv"

# --------------------------------------------- inputs cut or changed while read
# shellcheck disable=SC2086
reading() {     # KIND N: the file of the N-th read of a run of fit
    rm -rf "$w/model" "$w/now"
    cp -r $m "$w/model"
    cp data/calib.txt "$w/calib.txt"
    (export FAULT="$1" FAULT_AT="$2" FAULT_COUNT="$w/count" LD_PRELOAD="$so"
        $gamma fit "$w/model" ${fit#--calib data/calib.txt} --calib \
            "$w/calib.txt" --out "$w/now" --quiet >/dev/null 2>"$w/err")
    code=$?
}
reading cut 0
reads=$(cat "$w/count")
n=1
while [ "$n" -le "$reads" ]; do
    for kind in cut touch; do
        reading $kind $n
        how=changed
        [ $kind = touch ] || how='changed or shrank'
        if [ $code -eq 5 ] && tail -n 1 "$w/err" |
            grep -q "^gamma: $w/[^:]*: $how while it was being read$"
        then ok; else bad "$kind at read $n: code $code, $(cat "$w/err")"; fi
        ls "$w"/now/*.partial >/dev/null 2>&1 &&
            bad "$kind at read $n: partial files"
        [ -e "$w/now/scores.tsv" ] && bad "$kind at read $n: scores.tsv"
    done
    # the first reads are of one file each; of the blocks', some
    n=$((n + 1 + n / 8))
done
if [ "$reads" -ge 5 ]; then ok; else bad "$reads reads"; fi
rm -rf "$w/model" "$w/now"

# ------------------------------------------------------- two processes at once
# a slow fit holds its directory; stopped, so that no machine is too fast
# shellcheck disable=SC2086
"$gamma" fit $m $slow --out "$w/busy" --quiet >/dev/null 2>&1 &
holder=$!
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    [ -e "$w/busy/fit.state" ] && break
    sleep "$((i / 4)).5"
done
kill -STOP $holder
busy="gamma: $w/busy: another gamma is working in this directory; wait for it or name another"
# shellcheck disable=SC2086
expect 5 "$busy" fit $m $fit --out "$w/busy"
# shellcheck disable=SC2086
expect 5 "gamma: $w/../faults-work/busy/${busy#*busy}" \
    fit $m $fit --out "$w/../faults-work/busy/" --resume
# shellcheck disable=SC2086
expect 5 "$busy" compare $m $compare --out "$w/busy"
# shellcheck disable=SC2086
expect 5 "$busy" run $m $fit --eval data/test.txt --out "$w/busy" --window 64 \
    --windows 1
expect 5 "$busy" baq $m --calib data/calib.txt --sequences 2 --length 32 \
    --out "$w/busy"
expect 5 "$busy" quantize $m --alloc "$w/alloc.tsv" \
    --cache "$cache" --force --out "$w/busy"
# candidates that are there are used; others would have to be written
must quantize $m --alloc "$w/alloc.tsv" --cache "$w/busy" \
    --out "$w/beside"
grep -v '^#' "$w/alloc.tsv" | cut -f 1,2 >"$w/bits.tsv"
expect 5 "$busy" quantize $m --alloc "$w/bits.tsv" \
    --cache "$w/busy" --group 32 --force --out "$w/beside"
kill -KILL $holder
wait $holder 2>/dev/null
# a lock does not outlive its process, however it ended
# shellcheck disable=SC2086
must fit $m $fit --out "$w/busy"
# one file: held while it is written, by PATH.partial's lock
mkdir "$w/one"
(flock 9 && exec sleep 600) 9>"$w/one/alloc.tsv.partial" >/dev/null 2>&1 &
holder=$!
while flock -n "$w/one/alloc.tsv.partial" true; do sleep 0.1; done
expect 5 "gamma: $w/one/alloc.tsv.partial: another gamma is writing this file" \
    solve "$s" --bits 3 --out "$w/one/alloc.tsv"
kill $holder
wait $holder 2>/dev/null
rm -rf "$w/one"
mkdir "$w/one"
# what a killed process left is taken over; links are not written through
echo left >"$w/one/alloc.tsv.partial"
must solve "$s" --bits 2.5 --out "$w/one/alloc.tsv"
if cmp -s "$w/one/alloc.tsv" "$w/alloc.tsv"; then ok; else
    bad "a partial file left over ends up in the result"; fi
echo mine >"$w/mine"
ln -s ../mine "$w/one/alloc.tsv.partial"
expect 5 "gamma: $w/one/alloc.tsv.partial: cannot create: Too many levels of symbolic links" \
    solve "$s" --bits 3 --out "$w/one/alloc.tsv"
rm "$w/one/alloc.tsv.partial"
ln "$w/mine" "$w/one/alloc.tsv.partial"
must solve "$s" --bits 3 --out "$w/one/alloc.tsv"
[ "$(cat "$w/mine")" = mine ] && ok || bad "written through a hard link"
cp "$w/one/alloc.tsv" "$w/three.tsv"
ln -sf ../mine "$w/one/alloc.tsv"
must solve "$s" --bits 3 --out "$w/one/alloc.tsv"
if [ -h "$w/one/alloc.tsv" ] && cmp -s "$w/mine" "$w/three.tsv"; then ok; else
    bad "a link no longer points to the result: $(cat "$w/mine")"; fi

# ------------------------------------------------- interrupted by the terminal
for signal in INT TERM HUP; do
    rm -rf "$w/busy"
    # a background process of sh ignores INT, nohup's HUP; env gives them back
    # shellcheck disable=SC2086
    env --default-signal=INT,HUP,TERM "$gamma" fit $m $slow \
        --out "$w/busy" --quiet >/dev/null 2>&1 &
    holder=$!
    sleep 0.4
    kill -$signal $holder
    wait $holder 2>/dev/null
    code=$?
    ls "$w"/busy/*.partial >/dev/null 2>&1 && code="$code, partial files"
    case "$signal $code" in 'INT 130' | 'TERM 143' | 'HUP 129') ok ;;
    *) bad "SIG$signal: $code" ;; esac
done

# killed between the last state and the scores: all is in the state
cp -r "$w/whole" "$w/late"
rm "$w/late/scores.tsv"
# shellcheck disable=SC2086
must fit $m $fit --out "$w/late" --resume
if cmp -s "$w/late/scores.tsv" "$w/whole/scores.tsv"; then ok; else
    bad "scores after the last state: $(diff "$w/late/scores.tsv" \
        "$w/whole/scores.tsv")"; fi

# ------------------------------------------------ outputs over inputs and models
cp "$s" "$w/scores.tsv"
ln -s scores.tsv "$w/alias.tsv"
expect 2 "gamma: --out: $w/scores.tsv is also an input; expected another file" \
    solve "$w/scores.tsv" --bits 3 --out "$w/scores.tsv"
expect 2 "gamma: --out: $w/alias.tsv is also an input; expected another file" \
    solve "$w/scores.tsv" --bits 3 --out "$w/alias.tsv"
expect 2 "gamma: --lp: $w/scores.tsv is also an input; expected another file" \
    solve "$w/scores.tsv" --bits 3 --lp "$w/scores.tsv"
expect 2 "gamma: --out: $w/alloc.tsv is also an input; expected another file" \
    quantize $m --alloc "$w/alloc.tsv" --format packed \
    --out "$w/alloc.tsv"
expect 2 "gamma: --out: $m/config.json is a file of the model; expected another" \
    quantize $m --alloc "$w/alloc.tsv" --format packed \
    --out $m/config.json
for command in fit run compare baq; do
    more=
    [ $command = run ] && more="--eval data/test.txt --window 64 --windows 1"
    [ $command = compare ] && more="--text data/test.txt"
    group="--batch 1 --group 64"
    [ $command = baq ] && group=
    # shellcheck disable=SC2086
    expect 2 "gamma: $m: the output directory is the model's own; expected another" \
        $command $m --calib data/calib.txt --sequences 2 --length 32 $group \
        $more --out $m
done
if cmp -s "$s" "$w/scores.tsv" && [ ! -e $m/scores.tsv ]; then ok; else
    bad "an input was written over"; fi

# --------------------------------------- directories that are not there, no room
expect 5 "gamma: $w/none/alloc.tsv.partial: cannot create: No such file or directory" \
    solve "$s" --bits 3 --out "$w/none/alloc.tsv"
expect 5 "gamma: $w/scores.tsv: cannot make directory: exists and is no directory" \
    quantize $m --alloc "$w/alloc.tsv" --cache "$cache" \
    --out "$w/scores.tsv/x"
cp -r "$cache" "$w/readonly"
chmod 555 "$w/readonly"
must quantize $m --alloc "$w/alloc.tsv" --cache "$w/readonly" \
    --out "$w/beside"
# root may write anywhere, unless without that capability
user="$gamma"
[ "$(id -u)" -ne 0 ] || user="setpriv --bounding-set -dac_override,-dac_read_search $user"
# shellcheck disable=SC2086
$user fit $m $fit --out "$w/readonly" --quiet >"$w/out" 2>"$w/err"
code=$?
if [ $code -eq 5 ] && [ "$(tail -n 1 "$w/err")" = \
    "gamma: $w/readonly/fit.state.partial: cannot create: Permission denied" ]
then ok; else bad "read-only directory: $code, $(cat "$w/err")"; fi
chmod 000 "$w/readonly/scores.tsv"
# shellcheck disable=SC2086
$user solve "$w/readonly/scores.tsv" --bits 3 --quiet >"$w/out" 2>"$w/err"
code=$?
if [ $code -eq 5 ] && [ "$(tail -n 1 "$w/err")" = \
    "gamma: $w/readonly/scores.tsv: cannot open: Permission denied" ]
then ok; else bad "unreadable file: $code, $(cat "$w/err")"; fi
chmod 755 "$w/readonly"

# ------------------------------------------------ names that drive a terminal
escape=$(printf '\033[2Jx')
expect 2 'gamma: argument "?[2Jx": control character 0x1B' info "$escape"
sed "s/model.layers.0.self_attn.q_proj/&\\x1b[2J/" "$s" >"$w/escape.tsv"
expect 1 "gamma: $w/escape.tsv: line $(grep -n 'model.layers.0.self_attn.q_proj' \
    "$s" | head -n 1 | cut -d: -f1): byte 0x1B is not valid text" \
    solve "$w/escape.tsv" --bits 3
cp -r $m "$w/model"
sed -i 's/"model_type": *"llama"/"model_type": "\\u001b[2J\\u009b2J"/' \
    "$w/model/config.json"
"$gamma" info "$w/model" --quiet >"$w/out" 2>"$w/err"
if [ $? -eq 1 ] && grep -q 'model_type.*?\[2J??2J' "$w/err"; then ok; else
    bad "escapes in config.json: $(od -c "$w/err" | head -n 9)"; fi
if env LC_ALL=C grep -q "$(printf '[\033\233]')" "$w/err" "$w/out"; then
    bad "an escape got through"; else ok; fi

# -------------------------------------------------- the user's locale and clock
# a decimal comma, made here where the system has none; that no program of ours
# asks for a locale holds anywhere
mkdir "$w/locale"
comma=
for LOCPATH in '' "$PWD/$w/locale"; do
    [ -z "$LOCPATH" ] || localedef -i de_DE -f UTF-8 "$LOCPATH/de_DE.UTF-8" \
        >"$w/out" 2>&1
    [ -n "$LOCPATH" ] && export LOCPATH
    [ "$(LC_ALL=de_DE.UTF-8 locale decimal_point 2>/dev/null)" = , ] &&
        comma=yes && break
done
[ -n "$comma" ] || echo "no locale with a decimal comma: by nm only"
for locale in de_DE.UTF-8 C; do
    LC_ALL=$locale LANG=$locale LC_NUMERIC=$locale "$gamma" solve "$s" \
        --bits 2.5 --out "$w/locale.tsv" --quiet >/dev/null 2>&1
    if cmp -s "$w/locale.tsv" "$w/alloc.tsv"; then ok; else
        bad "locale $locale"; fi
done
unset LOCPATH
if nm -D "$gamma" | grep -q ' setlocale'; then bad "setlocale is called"; else
    ok; fi
# times of files decide nothing: not what is resumed, nor what is made again
for date in 1980-01-01 2100-01-01; do
    rm -rf "$w/late"
    cp -r "$cache" "$w/late"
    rm "$w/late/scores.tsv"
    touch -d $date "$w"/late/*
    [ $date = 1980-01-01 ] && touch -d 2100-01-01 "$w/late/fit.state"
    made=$(ls -i "$w"/late/candidates-*)
    # shellcheck disable=SC2086
    must fit $m $fit --out "$w/late" --resume
    if cmp -s "$w/late/scores.tsv" "$s" && cmp -s "$w/late/fit.state" \
        "$cache/fit.state" && [ "$(ls -i "$w"/late/candidates-*)" = "$made" ]
    then ok; else bad "files of $date"; fi
done
# a clock that runs backwards changes nothing either
rm -rf "$w/late"
# shellcheck disable=SC2086
(export FAULT=backwards FAULT_COUNT="$w/count" LD_PRELOAD="$so"
    "$gamma" fit $m $fit --out "$w/late" --quiet >"$w/out" 2>"$w/err")
if cmp -s "$w/late/scores.tsv" "$s" && [ "$(cat "$w/count")" -gt 0 ]; then ok
else bad "a clock that runs backwards: $(cat "$w/err")"; fi
# no clock that can be set: only the monotonic one
if nm -D "$gamma" | grep -qE ' (time|gettimeofday)(@|$)'; then
    bad "a clock that can go backwards is read"; else ok; fi

echo "$runs runs with a fault"
finish
