#!/bin/sh
# test_kill.sh: SIGKILL at random moments of fit, quantize (hf, one file and
# shards, each also over a directory of the other, one over another layout, and
# that over shards; packed), compare, refine and run.  Claims: after each kill every file is the whole old one or the whole
# new one, apart from PATH.partial, which later runs take over; a directory with
# a config.json is all old or all new, and so is a model with its alloc.tsv; the
# same command
# given again ends in the bytes of a run that nobody disturbed, with no partial
# file left.  Every other kill comes at a random time, the others before a
# random one of the program's file operations (tests/faults.c).
#   KILLS=200 sh tests/test_kill.sh     (make check; make test: 20)
#   SEED=1                              of the moments
# SPDX-License-Identifier: GPL-3.0-or-later
so=$PWD/build/test/faults.so
w=build/test/kill-work
. tests/shell.sh
gamma=$fast
m=data/tiny-llama
kills=${KILLS:-20}
random=${SEED:-1}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

if [ ! -e "$so" ]; then
    echo "FAILED $so is missing"
    echo "test_kill: 0 passed, 1 failed"
    exit 1
fi

# draw N: a number from 1 to N into $drawn (Lehmer's generator)
draw() {
    random=$((random * 48271 % 2147483647))
    drawn=$((random % $1 + 1))
}

# --------------------------------------------------------------- the commands
learn="--calib data/calib.txt --sequences 4 --length 32 --batch 2 --group 64"
window="--window 32 --windows 4"
at="--cache $w/new-fit"

# run NAME DIR: NAME's command, writing into DIR; a run of fit or run goes on
# from a state that is its own
run() {
    name=$1 dir=$2
    resume=
    [ "$(sed -n 's/^# hash //p' "$dir/fit.state" 2>/dev/null)" = "$hash" ] &&
        resume=--resume
    # shellcheck disable=SC2086
    case $name in
    fit) set -- fit $m $learn --steps 40 $resume --out "$dir" ;;
    hf | over-shards | over-mlx) set -- quantize $m --alloc "$w/new.tsv" $at \
        --out "$dir" ;;
    mlx) set -- quantize $m --alloc "$w/new.tsv" $at --format mlx --out "$dir" ;;
    shards | over-hf) set -- quantize data/tiny-qwen2 --alloc "$w/qwen2.tsv" \
        --cache "$w/qwen2" --out "$dir" ;;
    packed) set -- quantize $m --alloc "$w/new.tsv" $at --format packed \
        --out "$dir/model" ;;
    refine) set -- refine $m "$w/new-fit/scores.tsv" --calib data/calib.txt \
        --sequences 4 --length 32 --bits 2.5 --evaluations 3 \
        --out "$dir/scores.tsv" ;;
    compare) set -- compare $m $learn --steps 9 --text data/test.txt $window \
        --budgets 2.5,3 --methods uniform,random,greedy,gamma --out "$dir" ;;
    run) set -- run $m $learn --steps 9 --eval data/test.txt $window \
        --budgets 2.5,3 $resume --out "$dir" ;;
    esac
    $before "$gamma" "$@" --quiet >"$w/out" 2>"$w/err"
}
before=

must() {
    "$@" >"$w/out" 2>&1 || bad "$*: exit code $?: $(tail -n 1 "$w/out")"
}

# What was there before, and what an undisturbed run makes of it.
# shellcheck disable=SC2086
{
    must $gamma fit $m $learn --steps 40 --quiet --out "$w/new-fit"
    must $gamma fit $m $learn --steps 2 --seed 2 --quiet --out "$w/old-fit"
    must $gamma solve "$w/new-fit/scores.tsv" --bits 2.5 --out "$w/new.tsv"
    must $gamma solve "$w/new-fit/scores.tsv" --bits 3.5 --out "$w/old.tsv"
    must $gamma quantize $m --alloc "$w/old.tsv" $at --out "$w/old-hf"
    must $gamma quantize $m --alloc "$w/old.tsv" $at --format mlx \
        --out "$w/old-over-mlx"
    mkdir "$w/old-packed"
    must $gamma quantize $m --alloc "$w/old.tsv" $at --format packed \
        --out "$w/old-packed/model"
    must $gamma fit data/tiny-qwen2 $learn --steps 1 --quiet --out "$w/qwen2"
    for bits in 3.5 2.5; do
        must $gamma solve "$w/qwen2/scores.tsv" --bits $bits \
            --out "$w/qwen2.tsv"
        [ $bits = 3.5 ] && must $gamma quantize data/tiny-qwen2 --alloc \
            "$w/qwen2.tsv" --cache "$w/qwen2" --out "$w/old-shards"
    done
    cp -r "$w/old-hf" "$w/old-over-hf"
    cp -r "$w/old-shards" "$w/old-over-shards"
    cp -r "$w/old-shards" "$w/old-mlx"
    mkdir "$w/old-refine"
    cp "$w/old-fit/scores.tsv" "$w/old-refine"
    must $gamma compare $m $learn --steps 9 --text data/test.txt $window \
        --budgets 3 --methods uniform,random --quiet --out "$w/old-compare"
    must $gamma run $m $learn --steps 2 --seed 2 --eval data/test.txt $window \
        --budgets 2.5,3 --quiet --out "$w/old-run"
}
hash=none
for name in fit hf shards over-hf over-shards over-mlx mlx packed compare \
    refine run; do
    rm -rf "$w/new-$name"
    cp -r "$w/old-$name" "$w/new-$name"
    began=$(date +%s%N)
    must run $name "$w/new-$name"
    id=$(echo $name | tr - _)
    eval "time_$id=$((($(date +%s%N) - began) / 1000000))"
    rm -rf "$w/now"
    cp -r "$w/old-$name" "$w/now"
    export FAULT=kill FAULT_AT=0 FAULT_COUNT="$w/count"
    before="env LD_PRELOAD=$so"
    must run $name "$w/now"
    before=
    unset FAULT FAULT_AT FAULT_COUNT
    eval "calls_$id=$(cat "$w/count")"
done
# no weights of the older model are left to be taken for the new one's
for name in hf shards; do
    other=shards
    [ $name = shards ] && other=hf
    "$gamma" info --hash "$w/new-$name" >"$w/info" 2>"$w/err"
    "$gamma" info --hash "$w/new-over-$other" 2>"$w/err" | cmp -s - "$w/info" && ok ||
        bad "$name over $other is another model: $(cat "$w/err")"
done
diff -r "$w/new-hf" "$w/new-over-mlx" >"$w/out" && ok || bad "$(cat "$w/out")"

# ----------------------------------------------------------------- the verdict
# What holds the seconds of the clock: compared without them.
timeless() {
    case $1 in
    */compare.tsv) cut -f 1-17,19- "$1" ;;
    */compare.svg) cat "$1" ;;
    esac
}

# Whole by its own account: states, and the tables that grow row by row; of
# learning.tsv all rows so far are those of the undisturbed run.
whole() {
    rows=$(grep -vc '^#' "$1")
    grep -v '^#' "$1" >"$w/columns"
    case $1 in
    */fit.state) [ "$rows" -eq 169 ] && [ "$(tail -n 1 "$1" | tr -cd '\t' |
        wc -c)" -eq 6 ] && [ "$(tail -c 1 "$1" | wc -l)" -eq 1 ] ;;
    */compare.tsv) [ "$((rows - 1))" -eq "$(sed -n 's/^# rows //p' "$1")" ] &&
        [ "$(tail -c 1 "$1" | wc -l)" -eq 1 ] ;;
    */learning.tsv) cmp -s -n "$(wc -c <"$1")" "$1" "$w/new-$name/learning.tsv" &&
        [ "$(tail -c 1 "$1" | wc -l)" -eq 1 ] ;;
    */compare.svg) [ "$(tail -n 1 "$1")" = "</svg>" ] ;;
    # of run: the anchors so far, whose columns are those of the undisturbed run
    */scores.tsv) columns=$(grep -v '^#' "$1" | head -n 1 | tr '\t' '\n' | wc -l)
        [ "$rows" -eq 57 ] && grep -v '^#' "$w/new-$name/scores.tsv" |
            cut -f "1-$columns" | cmp -s - "$w/columns" ;;
    */gamma.sha256) ! grep -qv '^-  ' "$1" ;;   # of a model being written
    *) false ;;
    esac
}

# judge NAME: each file in $w/now is the old one, the new one, or PATH.partial
judge() {
    wrong= files=0
    (cd "$w/now" && find . -type f) >"$w/list"
    while read -r file; do
        case $file in *.partial) continue ;; esac
        files=$((files + 1))
        cmp -s "$w/now/$file" "$w/new-$1/$file" ||
            cmp -s "$w/now/$file" "$w/old-$1/$file" ||
            whole "$w/now/$file" || wrong="$wrong $file"
    done <"$w/list"
    (cd "$w/now" && find . -name config.json) >"$w/list"
    while read -r config; do
        one_age "$1" "${config%/config.json}" || wrong="$wrong $config"
    done <"$w/list"
    if [ -z "$wrong" ]; then ok; else
        bad "$1, kill $killed: neither old nor new:$wrong"; fi
}

# one_age NAME DIR: a model in $w/now/DIR that has a config.json is the old one
# or the new one with all its files, its alloc-BUDGET.tsv included
one_age() {
    beside=$(echo "$2" | sed -n 's|model-\(.*\)|alloc-\1.tsv|p')
    [ -n "$beside" ] && [ ! -e "$w/now/$beside" ] && beside=
    for age in old new; do
        differ=
        (cd "$w/$age-$1/$2" 2>/dev/null && find . -type f) >"$w/files"
        [ -s "$w/files" ] || continue
        while read -r file; do
            cmp -s "$w/$age-$1/$2/$file" "$w/now/$2/$file" || differ=yes
        done <"$w/files"
        [ -z "$beside" ] || cmp -s "$w/$age-$1/$beside" "$w/now/$beside" ||
            differ=yes
        [ -n "$differ" ] || return 0
    done
    return 1
}

# settled NAME: $w/now is what an undisturbed run makes
settled() {
    wrong=
    (cd "$w/now" && find . -type f; cd ../"new-$1" && find . -type f) |
        sort -u >"$w/list"
    while read -r file; do
        cmp -s "$w/now/$file" "$w/new-$1/$file" && continue
        [ -n "$(timeless "$w/now/$file" 2>/dev/null)" ] &&
            [ "$(timeless "$w/now/$file")" = \
            "$(timeless "$w/new-$1/$file" 2>/dev/null)" ] && continue
        wrong="$wrong $file"
    done <"$w/list"
    if [ -z "$wrong" ]; then ok; else
        bad "$1 after $chain kills differs from an undisturbed run:$wrong"; fi
    settled=$((settled + 1))
}

# One run of NAME that is killed at a random moment, or was too fast for it.
strike() {
    id=$(echo "$1" | tr - _)
    eval "calls=\$calls_$id time=\$time_$id"
    if [ $((tries % 2)) -eq 0 ]; then
        draw "$((time + time / 8))"
        delay=$(printf '%d.%03d' $((drawn / 1000)) $((drawn % 1000)))
        before="timeout --foreground -s KILL $delay"
        run "$1" "$w/now"
        code=$?
        [ $code -ne 124 ] || code=0     # ended in the moment of the kill
    else
        draw "$calls"
        export FAULT=kill FAULT_AT="$drawn"
        before="env LD_PRELOAD=$so"
        run "$1" "$w/now" 2>"$w/shell"
        code=$?
        unset FAULT FAULT_AT
    fi
    before=
}

# ------------------------------------------------------------------- the kills
moments=
total=0 settled=0
# kill_all NAME: its share of kills, in chains: killed until one run gets through
kill_all() {
    killed=0 chain=0 tries=0
    hash=$(sed -n 's/^# hash //p' "$w/new-$1/fit.state" 2>/dev/null)
    hash=${hash:-none}
    rm -rf "$w/now"
    cp -r "$w/old-$1" "$w/now"
    while [ $killed -lt "$2" ] && [ $tries -lt $((5 * $2 + 20)) ]; do
        strike "$1"
        tries=$((tries + 1))
        if [ $code -eq 137 ]; then
            killed=$((killed + 1)) chain=$((chain + 1))
            judge "$1"
            step=$(sed -n 's/^# step //p' "$w/now/fit.state" 2>/dev/null)
            bytes=$(find "$w/now" -type f -exec cat {} + | wc -c)
            moments="$moments $1:$files:$bytes:$step"
            continue
        fi
        [ $code -eq 0 ] || bad "$1 after $chain kills: exit code $code:" \
            "$(tail -n 1 "$w/err")"
        settled "$1"
        chain=0
        rm -rf "$w/now"
        # the rows of a comparison stand in the order they were measured in;
        # shards of an older model that the new one has not stay there
        case $1$((settled % 2)) in
        compare* | over-* | mlx* | *1) cp -r "$w/old-$1" "$w/now" ;;
        esac
        mkdir -p "$w/now"
    done
    run "$1" "$w/now" ||
        bad "$1 after $chain kills: exit code $?: $(tail -n 1 "$w/err")"
    settled "$1"
    total=$((total + killed))
    if [ $killed -eq "$2" ]; then ok; else
        bad "$1: $killed of $2 runs were killed, the others too fast"; fi
}

# between the weights and config.json, at each other operation: by chance a
# kill seldom comes there
for name in hf over-hf over-shards over-mlx mlx; do
    id=$(echo $name | tr - _)
    eval "n=\$((calls_$id - 40)) calls=\$calls_$id"
    while [ $n -lt "$calls" ]; do
        rm -rf "$w/now"
        cp -r "$w/old-$name" "$w/now"
        export FAULT=kill FAULT_AT=$n
        before="env LD_PRELOAD=$so"
        run $name "$w/now" 2>"$w/shell"
        unset FAULT FAULT_AT
        before=
        killed="before operation $n of $calls"
        judge $name
        n=$((n + 2))
    done
done
kill_all fit $((kills * 6 / 20))
kill_all hf $((kills * 3 / 20))
kill_all shards $((kills * 2 / 20))
kill_all over-hf $((kills * 2 / 20))
kill_all over-shards $((kills * 2 / 20))
kill_all over-mlx $((kills / 20))
kill_all mlx $((kills / 20))
kill_all packed $((kills * 2 / 20))
kill_all refine $((kills / 20))
kill_all compare $((kills * 5 / 20))
kill_all run $((kills * 3 / 20))

# kills that all came at one place would show nothing
places=$(echo "$moments" | tr ' ' '\n' | sed '/^$/d' | sort -u | wc -l)
if [ "$places" -ge $((kills * 2 / 5)) ]; then ok; else
    bad "$total kills at $places different moments only"; fi
echo "$total kills at $places different moments, then $settled runs to the end"
finish
