#!/bin/sh
# test_outputs.sh: where a command writes and what it reads.  The options come
# from the table of cmd/options.c, so that a new one without a case fails here.
# Every output onto: a file, nothing, links, loops, pipes, devices, directories,
# read-only files, hard links, `-`; every input of a directory command under
# every name that the command writes; every input from a pipe and from standard
# input.  Devices are made in the test's own directory, by root alone.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/outputs-work
. tests/shell.sh
gamma=$fast
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
case $gamma in /*) ;; *) gamma=$PWD/$gamma ;; esac

must() { "$@" >"$w/out" 2>"$w/err" || bad "$*: $(tail -n 1 "$w/err")"; }
check() { if "$@"; then ok; else bad "$what: not so: $*"; fi; }

# --------------------------------------------------------- the option table
# rows KIND: "COMMAND OPTION VALUE" of each option of that kind
rows() {
    tr -s ' \n' ' ' <cmd/options.c | sed 's/{"--/\n{"--/g' | awk -v kind="$1" '
        BEGIN { runs = "RUN|PLAN"; learn = "FIT|" runs "|COMPARE|DUMP"
                chosen = "QUANTIZE|EVAL" }
        match($0, "\", " kind ", [A-Z |]*,") {
            split($0, part, "\"")
            list = substr($0, RSTART + length(kind) + 5, RLENGTH - length(kind) - 6)
            gsub(" ", "", list)
            list = "|" list "|"
            gsub(/\|RECIPE\|/, "|" learn "|" chosen "|", list)
            gsub(/\|LEARN\|/, "|" learn "|", list)
            gsub(/\|CHOSEN\|/, "|" chosen "|", list)
            gsub(/\|RUNS\|/, "|" runs "|", list)
            n = split(tolower(list), name, "|")
            for (i = 1; i <= n; i++)
                if (name[i] != "") print name[i], part[2], part[4]
        }'
}
rows WRITE >"$w/writes"
rows READ >"$w/reads"
what="options of the table"
check [ "$(wc -l <"$w/writes")" -ge 14 ]
check [ "$(wc -l <"$w/reads")" -ge 40 ]

# ------------------------------------------------------------ what they run on
m=$w/tiny
npy=tests/golden/mistakes/tokens.npy
text=$w/calib.txt
cp -r tests/golden/tiny-llama "$m"
cp data/tiny-llama/tokenizer.json "$m"
echo '{}' >"$m/generation_config.json"
short="--sequences 2 --length 32"
learn="$short --batch 1 --group 16 --steps 1"
window="--window 32 --windows 2"
# of the tokenizer's first 64 tokens, all that the model has
printf 'A+B=%d!' $(seq 100) >"$text"
# shellcheck disable=SC2086
{
    must "$gamma" fit "$m" --tokens $npy $learn --out "$w/fit"
    s=$w/fit/scores.tsv
    must "$gamma" solve "$s" --bits 2.5 --out "$w/alloc.tsv"
    must "$gamma" solve "$s" --bits 2.5 --proof "$w/proof.vipr"
    must "$gamma" fit "$m" --tokens $npy $learn --quantizer gptq --out "$w/gptq"
}

# put COMMAND OPTION PATH: the command, its output there
put() {
    # shellcheck disable=SC2086
    case "$1 $2" in
    'solve --out') set -- solve "$s" --bits 2.5 --out "$3" ;;
    'solve --lp-plain' | 'solve --proof') set -- solve "$s" --bits 2.5 "$2" \
        "$3" ;;
    'solve --lp') set -- solve "$s" --bits 2.5 --lp "$3" ;;
    'dump --out') set -- dump "$m" --tokens $npy $learn --out "$3" \
        --cache "$w/fit" ;;
    'dump --cache') set -- dump "$m" --tokens $npy $learn --cache "$3" \
        --out "$w/dumped" ;;
    'refine --out') set -- refine "$m" "$s" --tokens $npy $short --bits 2.5 \
        --out "$3" ;;
    'refine --cache') set -- refine "$m" "$s" --tokens $npy $short --bits 2.5 \
        --out "$w/refined.tsv" --cache "$3" ;;
    'quantize --out') set -- quantize "$m" --alloc "$w/alloc.tsv" \
        --cache "$w/fit" --out "$3" --force ;;
    'quantize --packed') set -- quantize "$m" --alloc "$w/alloc.tsv" \
        --cache "$w/fit" --format packed --out "$3" ;;
    'quantize --cache') set -- quantize "$m" --alloc "$w/alloc.tsv" \
        --cache "$3" --format packed --out "$w/packed" ;;
    'eval --cache') set -- eval "$m" --alloc "$w/alloc.tsv" --tokens $npy \
        $window --cache "$3" ;;
    'fit --out') set -- fit "$m" --tokens $npy $learn --out "$3" ;;
    'run --out') set -- run "$m" --tokens $npy $learn --eval-tokens $npy \
        $window --budgets 3 --out "$3" --force ;;
    'compare --out') set -- compare "$m" --tokens $npy $learn --eval-tokens \
        $npy $window --budgets 3 --methods uniform,baq,gamma --out "$3" ;;
    'baq --out') set -- baq "$m" --tokens $npy $short --rate 2 --out "$3" ;;
    *) echo "no case for $1 $2" >"$w/err"; return 99 ;;
    esac
    timeout 60 "$gamma" "$@" --quiet
}
# runs CODE COMMAND OPTION PATH
runs() {
    expected=$1
    shift
    put "$@" >"$w/out" 2>"$w/err"
    code=$?
    if [ $code -eq "$expected" ]; then ok; else
        bad "$what: exit code $code, expected $expected: $(cat "$w/err")"; fi
}
is() { [ "$(stat -c %F "$1" 2>/dev/null)" = "$2" ]; }

# ------------------------------------------------------------- outputs, files
root=
[ "$(id -u)" -eq 0 ] && mknod "$w/probe" c 1 3 2>/dev/null &&
    : >"$w/probe" && root=yes
[ -n "$root" ] || echo "no devices here: made by root alone"
now=$w/now
outputs() {     # COMMAND OPTION
    what="$1 $2"
    rm -rf "$now" "$w/ref"
    mkdir "$now"
    runs 0 "$1" "$2" "$w/ref"
    # mode and owner; then the same of a read-only one
    for mode in 640 604 444; do
        what="$1 $2 over a file of mode $mode"
        rm -f "$now/file"
        echo old >"$now/file"
        [ -z "$root" ] || chown 1234:4321 "$now/file"
        chmod $mode "$now/file"
        owner=$(stat -c '%a %u %g' "$now/file")
        runs 0 "$1" "$2" "$now/file"
        check cmp -s "$w/ref" "$now/file"
        check [ "$(stat -c '%a %u %g' "$now/file")" = "$owner" ]
    done
    what="$1 $2 over a hard link"
    echo old >"$now/one"
    ln -f "$now/one" "$now/two"
    runs 0 "$1" "$2" "$now/two"
    check cmp -s "$w/ref" "$now/two"
    check [ "$(cat "$now/one")" = old ]
    # links: to a file, to a link of another folder, to nothing
    mkdir "$now/far"
    echo old >"$now/far/target"
    ln -s target "$now/far/link"
    ln -s far/link "$now/link"
    ln -s far/nothing "$now/dangling"
    for link in link:target dangling:nothing; do
        what="$1 $2 over ${link%:*}"
        runs 0 "$1" "$2" "$now/${link%:*}"
        check cmp -s "$w/ref" "$now/far/${link#*:}"
        check is "$now/${link%:*}" 'symbolic link'
    done
    check is "$now/far/link" 'symbolic link'
    what="$1 $2 over links in a circle"
    ln -s circle2 "$now/circle1"
    ln -s circle1 "$now/circle2"
    runs 5 "$1" "$2" "$now/circle1"
    check grep -q 'Too many levels of symbolic links$' "$w/err"
    check is "$now/circle1" 'symbolic link'
    what="$1 $2 over a directory"
    mkdir "$now/dir"
    runs 5 "$1" "$2" "$now/dir"
    check grep -q "^gamma: $now/dir: cannot create: Is a directory$" "$w/err"
    check is "$now/dir" directory
    # a pipe with a reader, by its name and by a link; a dump needs places
    mkfifo "$now/fifo"
    ln -s fifo "$now/to-fifo"
    for pipe in fifo to-fifo; do
        what="$1 $2 over $pipe"
        # shellcheck disable=SC2016
        timeout 20 sh -c 'cat "$1" >"$2"' - "$now/$pipe" "$w/read" &
        if [ "$1" = dump ]; then
            runs 5 "$1" "$2" "$now/$pipe"
            check grep -q "$pipe: cannot seek: Illegal seek$" "$w/err"
            wait
        else
            runs 0 "$1" "$2" "$now/$pipe"
            wait
            check cmp -s "$w/ref" "$w/read"
        fi
        check is "$now/fifo" fifo
        check is "$now/to-fifo" 'symbolic link'
    done
    # devices: null, full; also behind a link
    if [ -n "$root" ]; then
        mknod "$now/null" c 1 3
        mknod "$now/full" c 1 7
        ln -s null "$now/to-null"
        for device in null to-null full; do
            what="$1 $2 over $device"
            code=0
            [ $device = full ] && code=5
            runs $code "$1" "$2" "$now/$device"
            check is "$now/${device#to-}" 'character special file'
            [ $code -eq 0 ] || check grep -q 'No space left on device$' "$w/err"
        done
        check is "$now/to-null" 'symbolic link'
    fi
    # nothing beside any of them, but a dump's table
    what="$1 $2"
    beside=$(find "$now" -name '*.partial' -o -name 'candidates-*' -o \
        -name 'full.tsv' -o -name 'null.tsv' -o -name 'fifo.tsv')
    check [ -z "$beside" ]
    # standard output, by three names (as in /dev, which no test may touch);
    # the table goes to standard error
    stdout=$w/stdout
    ln -sf /proc/self/fd/1 "$stdout"
    what="$1 $2 to standard output"
    [ "$1" = dump ] && return
    put "$1" "$2" - 2>"$w/err" | cmp -s - "$w/ref" && ok || bad "$what: -"
    check grep -q "	" "$w/err"
    put "$1" "$2" "$stdout" 2>"$w/err" | cmp -s - "$w/ref" && ok ||
        bad "$what: a pipe"
    check grep -q "	" "$w/err"
    echo before >"$w/file"
    put "$1" "$2" "$stdout" 2>"$w/err" >>"$w/file"
    (echo before; cat "$w/ref") | cmp -s - "$w/file" && ok || bad "$what: >>"
    put "$1" "$2" /proc/self/fd/3 3>"$w/file" >"$w/out" 2>"$w/err"
    check cmp -s "$w/ref" "$w/file"
    check grep -q "	" "$w/out"
    # one that has no name any more
    (exec 3<>"$w/file"
        rm "$w/file"
        : >/proc/self/fd/3
        put "$1" "$2" /proc/self/fd/3 >"$w/out" 2>"$w/err"
        cat /proc/self/fd/3) | cmp -s - "$w/ref" && ok || bad "$what: without a name"
    check [ -z "$(find "$w" -maxdepth 1 -name '*deleted*')" ]
}
while read -r command option value; do
    case "$command $value" in
    plan*) continue ;;
    *FILE) outputs "$command" "$option" ;;
    *PATH) outputs "$command" --packed ;;
    esac
done <"$w/writes"

# a signal while a pipe is written to leaves the pipe
what="TERM while a pipe is written to"
awk -F '\t' 'BEGIN { print "module\tbits" } !/^#/ && $1 != "module" {
    print $1 "\t" (n++ ? 16 : 8) }' "$s" >"$w/large.tsv"
must "$gamma" quantize "$m" --alloc "$w/large.tsv" --format packed --out "$w/large"
check [ "$(wc -c <"$w/large")" -gt 70000 ]      # more than a pipe holds
mkfifo "$w/fifo"
sleep 60 <"$w/fifo" &
reader=$!
"$gamma" quantize "$m" --alloc "$w/large.tsv" --format packed --out "$w/fifo" \
    >"$w/out" 2>&1 &
writer=$!
sleep 1
kill -TERM $writer
wait $writer
check [ $? -eq 143 ]
kill $reader
wait $reader 2>/dev/null
check is "$w/fifo" fifo

# ------------------------------------------------------- outputs, directories
folders() {     # COMMAND OPTION
    what="$1 $2 to a link to a directory"
    rm -rf "$now" "$w/ref"
    mkdir -p "$now/far/dir"
    ln -s far/dir "$now/link"
    runs 0 "$1" "$2" "$w/ref"
    runs 0 "$1" "$2" "$now/link"
    check is "$now/link" 'symbolic link'
    check [ "$(ls "$w/ref")" = "$(ls "$now/far/dir")" ]
    what="$1 $2 to standard output"
    runs 2 "$1" "$2" -
    check grep -q "^gamma: $2: expected a directory, found - (standard output)$" \
        "$w/err"
    what="$1 $2 to what is no directory"
    mkfifo "$now/fifo"
    echo old >"$now/file"
    for no in fifo file; do
        runs 5 "$1" "$2" "$now/$no"
        check grep -q 'exists and is no directory$' "$w/err"
    done
    check is "$now/fifo" fifo
    check [ "$(cat "$now/file")" = old ]
    # every file in it is a link to elsewhere
    what="$1 $2 to a directory of links"
    mkdir "$now/dir" "$now/files"
    (cd "$w/ref" && find . -type d) | while read -r name; do
        mkdir -p "$now/dir/$name" "$now/files/$name"
    done
    (cd "$w/ref" && find . -type f) >"$w/names"
    while read -r name; do
        ln -s "$PWD/$now/files/$name" "$now/dir/$name"
    done <"$w/names"
    runs 0 "$1" "$2" "$now/dir"
    while read -r name; do
        check is "$now/dir/$name" 'symbolic link'
        case $1$name in
        compare*.tsv | compare*.svg | baq*.tsv) check [ -s "$now/files/$name" ] ;;
        *) check cmp -s "$w/ref/$name" "$now/files/$name" ;;
        esac
    done <"$w/names"
}
while read -r command option value; do
    case "$command $value" in plan* | *FILE) continue ;; esac
    folders "$command" "$option"
done <"$w/writes"
what="plan writes nothing"
# shellcheck disable=SC2086
must "$gamma" plan "$m" --out "$w/planned" --windows 2 $learn
check [ ! -e "$w/planned" ]

# ------------------------------------------------ no output is also an input
# example OPTION COMMAND: a file that the option takes
example() {
    case "$1 $2" in
    '--calib '* | '--eval '* | '--search-text '*) echo "$text" ;;
    '--tokens '* | '--eval-tokens '*) echo $npy ;;
    '--alloc '*) echo "$w/alloc.tsv" ;;
    '--choices '*) echo "$w/choices.jsonl" ;;
    '--scores '*) echo "$s" ;;
    '--proof '*) echo "$w/proof.vipr" ;;
    '--state '*) echo "$w/fit/fit.state" ;;
    '--external '*) echo "$w/external.safetensors" ;;
    *) echo "$w/none" ;;
    esac
}
printf '{"context": "A+", "choices": ["B", "C!"], "answer": 0}\n' \
    >"$w/choices.jsonl"
cp "$w"/fit/candidates-*.safetensors "$w/external.safetensors"
while read -r command option value; do
    what="an example of $option"
    check [ -e "$(example "$option" "$command")" ]
done <"$w/reads"
refused=0
# overwritten COMMAND OPTION NAME: the input lies in DIR as NAME
overwritten() {
    what="$1 $2 DIR/$3 --out DIR"
    rm -rf "$now"
    cp -r "$w/ref" "$now"
    from=$(example "$2" "$1")
    cp "$from" "$now/$3"
    ln -f "$now/$3" "$w/hard"
    ln -sf "$PWD/$now/$3" "$w/soft"
    for path in "$now/$3" "$w/hard" "$w/soft"; do
        # shellcheck disable=SC2086
        case $1 in
        fit) set -- "$1" "$2" "$3" "$m" $learn ;;
        run) set -- "$1" "$2" "$3" "$m" $learn $window --budgets 3 ;;
        compare) set -- "$1" "$2" "$3" "$m" $learn $window --budgets 3 \
            --methods uniform,gamma ;;
        baq) set -- "$1" "$2" "$3" "$m" $short --rate 2 ;;
        quantize) set -- "$1" "$2" "$3" "$m" --cache "$w/fit" ;;
        esac
        command=$1 option=$2 name=$3
        shift 3
        # what the command needs beside it
        case "$command $option" in
        'run --eval' | 'run --eval-tokens' | 'compare --eval-tokens' | \
            'compare --eval' | 'fit --external') set -- "$@" --tokens $npy ;;
        'run --calib' | 'run --tokens' | 'run --external' | \
            'compare --calib' | 'compare --tokens')
            set -- "$@" --eval-tokens $npy ;;
        'compare '*) set -- "$@" --tokens $npy --eval-tokens $npy ;;
        'quantize --calib' | 'quantize --external')
            set -- "$@" --alloc "$w/alloc.tsv" ;;
        esac
        "$gamma" $command "$@" "$option" "$path" --out "$now" --quiet \
            >"$w/out" 2>"$w/err"
        code=$?
        [ $code -ne 2 ] || ! grep -q 'is also an input; expected another' \
            "$w/err" || refused=$((refused + 1))
        check cmp -s "$from" "$now/$name"
        set -- "$command" "$option" "$name"
    done
}
for command in fit run compare baq quantize; do
    rm -rf "$w/ref"
    runs 0 $command --out "$w/ref"
    (cd "$w/ref" && find . -type f) | sort >"$w/names"
    grep "^$command " "$w/reads" | cut -d ' ' -f 2 >"$w/options"
    while read -r name; do
        while read -r option; do
            overwritten $command "$option" "${name#./}"
        done <"$w/options"
    done <"$w/names"
done
what="inputs that would be written over"
check [ $refused -ge 150 ]
# of commands that write files
what="outputs of solve and dump over their inputs"
cp "$s" "$w/s-3.tsv"
expect 2 "gamma: --out: $w/s-3.tsv is also an input; expected another file" \
    solve "$w/s-3.tsv" --budgets 2,3 --out "$w/s-%.tsv"
check [ ! -e "$w/s-2.tsv" ]
expect 2 "gamma: --out: $w/s-3.tsv is also an input; expected another file" \
    solve "$w/s-3.tsv" --budget 3 --out "$w/s-%.tsv"
(printf '# resource cost\nmodule\t2\t3\t4\n'; awk -F '\t' '!/^#/ && $1 != "module" {
    print $1 "\t1\t2\t3" }' "$s") >"$w/cost.tsv"
expect 2 "gamma: --out: $w/cost.tsv is also an input; expected another file" \
    solve "$s" --bits 3 --resource "$w/cost.tsv:9999" --out "$w/cost.tsv"
ln -sf "$PWD/$m/config.json" "$w/soft"
expect 2 "gamma: --out: $w/soft is a file of the model; expected another" \
    refine "$m" "$s" --tokens $npy --bits 2.5 --out "$w/soft"
cp "$text" "$w/t.tsv"
# shellcheck disable=SC2086
expect 2 "gamma: --out: $w/t.tsv is also an input; expected another file" \
    dump "$m" --calib "$w/t.tsv" $learn --out "$w/t.safetensors"
check cmp -s "$text" "$w/t.tsv"
"$gamma" solve - --bits 3 --out "$w/s-3.tsv" --quiet <"$w/s-3.tsv" \
    >"$w/out" 2>"$w/err"
check cmp -s "$s" "$w/s-3.tsv"

# --------------------------------------------------------- inputs from a pipe
rm -f "$w/fifo"
mkfifo "$w/fifo"
# streamed FILE ARGS...: the same results when @ is the file, a pipe, a device
# that is one, or standard input
streamed() {
    file=$1
    shift
    for from in file pipe fd - redirected; do
        what="$* from $from"
        case $from in
        file) path=$file ;;
        pipe) path=$w/fifo
            # shellcheck disable=SC2016
            timeout 20 sh -c 'cat "$1" >"$2"' - "$file" "$path" & ;;
        fd) path=/proc/self/fd/3 ;;
        *) path=- ;;
        esac
        rm -rf "$now"
        mkdir "$now"
        words=$(printf '%s\n' "$@" | sed "s|@|$path|")
        # shellcheck disable=SC2086
        case $from in
        fd) cat "$file" | "$gamma" $words --quiet 3<&0 </dev/null ;;
        -) cat "$file" | "$gamma" $words --quiet ;;
        *) "$gamma" $words --quiet <"$file" ;;
        esac >"$w/out" 2>"$w/err"
        code=$?
        wait
        [ $code -eq "${fails:-0}" ] && ok || bad "$what: $code, $(cat "$w/err")"
        # the clock's column: the last, or before refine's word; of plan the memory
        # too, whose base is this process's own
        sed 's,\t[0-9.]*\(\tmean\|\tlearned\)*$,\1,; /^seconds/d' \
            "$w/out" >"$now/results"
        case $words in plan*) sed -i 's,\t[0-9.]*$,,' "$now/results" ;; esac
        sed "s|$path: |standard input: |" "$w/err" >"$now/said"
        rm -f "$now"/compare.* "$now"/baq-*.tsv "$now"/report*
        if [ -f "$now/table.tsv" ]; then    # which names the inputs as typed
            sed -i '/^# \(command\|text\) /d' "$now/table.tsv"
        fi
        if [ $from = file ]; then
            rm -rf "$w/ref"
            cp -r "$now" "$w/ref"
        else
            check diff -r "$w/ref" "$now"
        fi
    done
}
fails=
streamed "$s" solve @ --bits 2.5 --out "$now/a"
streamed "$w/cost.tsv" solve "$s" --bits 2.5 --resource @:9999 --out "$now/a"
# read for each budget, or twice
streamed "$w/cost.tsv" solve "$s" --budgets 2.5,3 --resource @:9999
streamed "$s" show @
streamed "$w/alloc.tsv" show @ --json
streamed "$w/alloc.tsv" check @ "$s"
streamed "$s" check "$w/alloc.tsv" @
streamed "$s" refine "$m" @ --tokens $npy --bits 2.5 $short --cache "$w/fit" \
    --out "$now/a"
while read -r command option value; do
    file=$(example "$option" "$command")
    cache="--cache $w/fit"
    # shellcheck disable=SC2086
    case "$command $option" in
    *' --external') continue ;;         # a checkpoint stays a file
    plan*) set -- $window $learn ;;
    show*) set -- model.layers.0.self_attn.q_proj $short --group 16 \
        --quantizer gptq --bits 2 ;;
    fit*) set -- $learn --out "$now" ;;
    'run --calib' | 'run --tokens') set -- $learn $window --budgets 3 \
        --out "$now" --eval-tokens $npy ;;
    run*) set -- $learn $window --budgets 3 --tokens $npy --out "$now" ;;
    'compare --calib' | 'compare --tokens') set -- $learn $window --budgets 3 \
        --methods uniform,greedy --eval-tokens $npy --out "$now" ;;
    'compare --eval' | 'compare --eval-tokens') set -- $learn $window \
        --budgets 3 --methods uniform,greedy --tokens $npy --out "$now" ;;
    'compare --scores') set -- $short --group 16 $window --budgets 3 \
        --methods uniform,gamma --tokens $npy --eval-tokens $npy \
        --out "$now" ;;
    compare*) set -- $learn $window --budgets 3 --methods uniform,gamma \
        --tokens $npy --eval-tokens $npy --out "$now" ;;
    dump*) set -- $learn $cache --out "$now/d"
        # what it says of the state's step shows that it was read
        [ "$option" = --state ] && fails=1 && set -- "$@" --tokens $npy ;;
    'refine --calib' | 'refine --tokens') set -- "$s" $short --bits 2.5 \
        $cache --out "$now/a" ;;
    check*) set -- "$s" ;;
    'quantize --alloc') set -- $cache --out "$now/q" ;;
    'quantize --calib') set -- --alloc "$w/alloc.tsv" --quantizer gptq $short \
        --group 16 --force --out "$now/q" --cache "$w/gptq" ;;
    'eval --alloc') set -- --tokens $npy $window $cache ;;
    'eval --calib') set -- --alloc "$w/alloc.tsv" --quantizer gptq $short \
        --group 16 --force --tokens $npy $window --cache "$w/gptq" ;;
    'eval --eval' | 'eval --eval-tokens') set -- $window ;;
    'eval --choices') set -- --delimiter=+ ;;
    'baq --calib' | 'baq --tokens') set -- $short --rate 2 --out "$now" ;;
    baq*) set -- $short $window --rate 2 --tokens $npy --out "$now" ;;
    *) bad "no case for $command $option"; continue ;;
    esac
    model=$m
    [ "$command" != check ] || model=$w/alloc.tsv
    streamed "$file" "$command" "$model" "$@" "$option" @
    fails=
done <"$w/reads"
what="a checkpoint from a pipe"
mkfifo "$w/pipe"
# shellcheck disable=SC2086
{
    expect 1 "gamma: $w/pipe: not a regular file" \
        fit "$m" --tokens $npy $learn --external "$w/pipe" --out "$now"
    expect 1 'gamma: standard input: not a regular file' verify - "$s"
    cp -r "$m" "$w/model"
    rm "$w/model/config.json"
    mkfifo "$w/model/config.json"
    expect 1 "gamma: $w/model/config.json: not a regular file" info "$w/model"
}
expect 1 "gamma: /dev/zero: expected at most 268435456 bytes of what is no regular file, found more" \
    solve /dev/zero --bits 3
"$gamma" solve - --bits 3 --quiet <"$w" >"$w/out" 2>"$w/err"
check [ "$(cat "$w/err")" = "gamma: standard input: not a regular file" ]
"$gamma" solve - --bits 3 --quiet <&- >"$w/out" 2>"$w/err"
check [ "$(cat "$w/err")" = \
    "gamma: standard input: cannot read: Bad file descriptor" ]

# ------------------------------------- descriptors that the caller has closed
what="a closed descriptor"
for close in '>&-' '2>&-' '>&- 2>&-' '<&- >&- 2>&-'; do
    rm -rf "$now"
    # shellcheck disable=SC2086
    eval "\"$gamma\" fit \"$m\" --tokens $npy $learn --out \"$now\" $close"
    check diff -r "$w/fit" "$now"
    eval "\"$gamma\" solve \"$s\" --bits 2.5 --out \"$w/a\" $close"
    check cmp -s "$w/alloc.tsv" "$w/a"
done

# ------------------------------------------------------- names of directories
# scores.tsv names the model; the same by whatever path
cp -r "$m" "$w/name"
ln -s name "$w/other"
names() {       # PATH EXPECTED [DIR]: fit from inside DIR
    what="a model called $1"
    rm -rf "$now"
    # shellcheck disable=SC2086
    (cd "${3:-.}" && "$gamma" fit "$1" --tokens "$root_dir/$npy" $learn \
        --out "$root_dir/$now" --quiet) >"$w/out" 2>"$w/err" ||
        bad "$what: $(cat "$w/err")"
    check [ "$(sed -n 's/^# model //p' "$now/scores.tsv")" = "$2" ]
    must "$gamma" solve "$now/scores.tsv" --bits 2.5 --out "$now/alloc.tsv"
    must "$gamma" check "$now/alloc.tsv" "$now/scores.tsv"
}
root_dir=$PWD
for path in name name/ name/. name// ./name ../outputs-work/name other other/ \
    "$PWD/$w/name"; do
    names "$path" name "$w"
done
names . name "$w/name"
raw=$(printf 'a\233b\377c')
cp -r "$m" "$w/$raw"
names . 'a?b?c' "$w/$raw"
"$gamma" info "$w/$raw" --quiet >"$w/out" 2>"$w/err"
check [ "$?" -eq 2 ]
check grep -q "^gamma: argument \"$w/a?b?c\": control character 0x9B$" "$w/err"
"$gamma" solve "$w/$(printf '\377')" --bits 2 --quiet >"$w/out" 2>"$w/err"
check grep -q 'expected UTF-8, found 0xFF$' "$w/err"
finish
