#!/bin/sh
# test_terminal.sh: what helps a person: help on one screen, the manual page and
# completions against the option table, install and uninstall, suggestions,
# what is said of a wrong model, budget or resumed option, signals, tables that
# fit the terminal.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/terminal-work
. tests/shell.sh
gamma=$fast
m=data/tiny-llama
small="--sequences 2 --length 32 --batch 1 --steps 2 --group 64"
commands="run info fit refine solve check quantize eval dump verify baq compare \
plan show audit report"
# told CODE "PATTERN" ARGS...: the exit code, and a line of stderr
told() {
    code=$1 pattern=$2
    shift 2
    "$gamma" "$@" >"$w/out" 2>"$w/err"
    found=$?
    if [ $found = "$code" ] && grep -q -e "$pattern" "$w/err"; then ok; else
        bad "gamma $*: $found, $(cat "$w/err")
  expected $code, $pattern"; fi
}

# ------------------------------------------------- help, manual, completions
"$gamma" --man >"$w/gamma.1"
"$gamma" --complete-bash >"$w/bash"
"$gamma" --complete-zsh >"$w/zsh"
for command in '' $commands; do
    # shellcheck disable=SC2086
    "$gamma" $command --help >"$w/out"
    if awk 'length > 80 { wide++ } END { exit wide || NR > 24 || NR < 9 }' \
        "$w/out" && grep -q "^ *gamma ${command:-run} " "$w/out"; then ok; else
        bad "gamma $command --help: $(cat "$w/out")"; fi
done
grep -o '^    {"--[a-z-]*", \("[^"]*"\|NULL\), [A-Z]*,' cmd/options.c | cut -d '"' -f 2 |
    sort -u >"$w/table"
: >"$w/all"
for command in $commands; do
    "$gamma" $command --help-all | sed -n 's/^  \(--[a-z-]*\).*/\1/p' |
        sort >"$w/words"
    cat "$w/words" >>"$w/all"
    sed -n "s/^    $command) words='\(.*\)' ;;/\1/p" "$w/bash" |
        tr ' ' '\n' | sed '/^$/d' | sort | cmp -s - "$w/words" && ok ||
        bad "bash: words of $command"
    sed -n "/^$command) _arguments/,/;;/s/^    '\(--[a-z-]*\)\[.*/\1/p" \
        "$w/zsh" | sort | cmp -s - "$w/words" && ok ||
        bad "zsh: words of $command"
    grep -q "^\.SS gamma $command\$" "$w/gamma.1" && ok ||
        bad "no $command in the manual page"
done
sort -u "$w/all" | same /dev/stdin "$w/table"
# every option has its paragraph; all that begins a line with a dot is a macro
sed -n '/^\.TP$/{n;s/^\(\\-\\-[a-z\\-]*\).*/\1/p;}' "$w/gamma.1" | tr -d '\\' |
    sort -u | same /dev/stdin "$w/table"
if ! grep '^[.]' "$w/gamma.1" | grep -qv \
    '^\.\(TH\|SH\|SS\|PP\|TP\|nf\|fi\|B\|I\) *[^ ]*' &&
    ! sed 1d "$w/gamma.1" | grep -q ' $\|^'"'"'\|[^\\]-'; then ok; else
    bad "manual page"; fi
if command -v mandoc >/dev/null; then
    mandoc -T lint "$w/gamma.1" >"$w/lint" && [ ! -s "$w/lint" ] && ok ||
        bad "mandoc: $(cat "$w/lint")"
fi
if command -v bash >/dev/null; then     # what a person sees who types these
    completes() {
        found=$(bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1))
            _gamma; echo "${COMPREPLY[@]}"' - "$w/bash" "$@")
        [ "$found" = "$expected" ] && ok || bad "$*: completes to $found"
    }
    expected='run refine report' completes gamma r
    expected='--quantizer --quiet' completes gamma fit data --qu
    expected='rtn' completes gamma fit data --quantizer r
    expected='' completes gamma fit ''
    expected='' completes gamma nothing --o
fi
if command -v zsh >/dev/null; then
    zsh -n "$w/zsh" && ok || bad "zsh cannot read its completions"; fi
# installed, and gone again
make -o gamma install uninstall DESTDIR="$PWD/$w/not" PREFIX=/usr >"$w/out" 2>&1
if [ -d "$w/not/usr/bin" ] && [ -z "$(find "$w/not" ! -type d)" ]; then ok; else
    bad "uninstall: $(find "$w/not") $(cat "$w/out")"; fi
make -o gamma install DESTDIR="$PWD/$w/in" PREFIX=/usr >"$w/out" 2>&1
same "$w/gamma.1" "$w/in/usr/share/man/man1/gamma.1"
same "$w/bash" "$w/in/usr/share/bash-completion/completions/gamma"
same "$w/zsh" "$w/in/usr/share/zsh/site-functions/_gamma"
same "$fast" "$w/in/usr/bin/gamma"

# ------------------------------------------------ names of before, near names
# shellcheck disable=SC2086
quick run $m --calib data/calib.txt --text data/test.txt --out "$w/run" $small \
    --budgets 2.5,3 --window 32 --windows 2 --no-models
# shellcheck disable=SC2086
quick run $m --calib data/calib.txt --eval data/test.txt --out "$w/b" $small \
    --budget 2.5,3 --window 32 --windows 2 --no-models
same "$w/run/table.tsv" "$w/b/table.tsv"
s=$w/run/scores.tsv
for option in --text --eval; do
    quick eval $m $option data/test.txt --window 32 --windows 2
    mv "$w/out" "$w/eval$option"
done
same "$w/eval--text" "$w/eval--eval"
quick solve "$s" --bits 2.5
mv "$w/out" "$w/solved"
for budget in "--budget 2.5" "--budgets=2.5" "--budget 2.5 --in bits"; do
    # shellcheck disable=SC2086
    quick solve "$s" $budget
    same "$w/solved" "$w/out"
done
quick check "$w/run/alloc-2.5.tsv" "$s"
told 2 'unknown option --evl; did you mean --eval (' run $m --evl x
told 2 'unknown option --calibration; did you mean --calib (' run --calibration
told 2 'unknown option --txt; did you mean --eval (' run $m --txt x
told 2 'unknown option --budgts; did you mean --budget (' solve --budgts 3
told 2 'unknown option --eval; it belongs to gamma run, eval, baq, compare' \
    fit --eval x
told 2 'unknown option --zzz (' fit --zzz
for pair in evaluate:eval quantise:quantize slove:solve reports:report; do
    told 2 "\"${pair%:*}\"; did you mean ${pair#*:} (" "${pair%:*}"
done
told 2 '^gamma: unknown command "learn" (' learn

# -------------------------------------------------- what is wrong, and a remedy
printf 'GGUF\003\000\000\000' >"$w/m.gguf"
told 1 "m.gguf: a GGUF file; expected the directory of the checkpoint" \
    info "$w/m.gguf"
told 1 'model.safetensors: a file; expected the directory that has it' \
    info $m/model.safetensors
told 5 'hf download Qwen/Qwen2.5-0.5B --local-dir Qwen2.5-0.5B` ' \
    eval Qwen/Qwen2.5-0.5B --eval x
told 5 'models--Qwen--Qwen2.5-0.5B)$' show Qwen/Qwen2.5-0.5B x
told 5 'config.json: cannot open' info ./none/there
told 0 '^budget 9: above the largest, 4: every module may have its most bits' \
    solve "$s" --budget 9
told 0 '^budget 2G: above the largest' solve "$s" --bytes 2G
"$gamma" solve "$s" --budget 4 2>&1 | grep -q 'above the' && bad "4" || ok
again="$m --calib data/calib.txt --out $w/run $small --resume"
for change in "alpha 0.5:--alpha was 0.1, here it is 0.5" \
    "seed 3:--seed was 1, here it is 3" "tail 0.5:--tail was 0.33, " \
    "norm plain:--norm was token, here it is plain" \
    "bits 2,3:candidates was rtn bits=2,3,4 group=64, here it is rtn bits=2,3" \
    "train-bits 2.5:--train-bits was 3, here it is 2.5"; do
    # shellcheck disable=SC2086
    told 1 "fit.state: belongs to another run: its ${change#*:}" \
        fit $again --${change%%:*}
done
# shellcheck disable=SC2086
quick run $again --eval data/test.txt --budget 2.5,3 --window 32 --windows 2 \
    --no-models

# ------------------------------------------------------------------- signals
# under nohup, which is passed on, HUP ends nothing
for signal in TERM $(sh -c 'kill -s HUP $$; echo no' 2>/dev/null |
    grep -q no || echo HUP); do
    # shellcheck disable=SC2086
    "$gamma" fit $m --calib data/calib.txt --out "$w/it's $signal" --steps 900 \
        --quiet >"$w/out" 2>"$w/err" &
    pid=$!
    sleep 1
    kill -s $signal $pid
    wait $pid
    if [ $? -gt 128 ] && grep -q 'no file is half written.  To go on:$' \
        "$w/err" && tail -n 1 "$w/err" | grep -q -e "--quiet --resume\$" &&
        [ -z "$(find "$w/it's $signal" -name '*.partial')" ]; then ok; else
        bad "$signal: $(cat "$w/err")"; fi
    # the command that is said, as a shell reads it, takes itself
    tail -n 1 "$w/err" | sed 's/--steps 900/--steps 0/' >"$w/line"
    sh "$w/line" 2>"$w/err"
    grep -q '^gamma: --steps: ' "$w/err" && ok || bad "$(cat "$w/line" "$w/err")"
done

# ------------------------------------------------------------------ a terminal
if script --version >/dev/null 2>&1; then
    for columns in 40 60 80 200; do
        COLUMNS=$columns script -qec "$fast check $w/run/alloc-2.5.tsv $s \
            --quiet" "$w/seen" >/dev/null
        sed '/^Script /d' "$w/seen" | tr -d '\r' >"$w/table"
        if awk -v most=$columns 'length > most { wide++ } /^claim/ { heads++ }
            END { exit wide || !heads || (most == 200 && heads > 1) }' \
            "$w/table"; then ok; else bad "$columns: $(cat "$w/table")"; fi
    done
    # cut from the left, and never but on a terminal
    COLUMNS=60 script -qec "$fast show $w/run/alloc-2.5.tsv --json --quiet" \
        "$w/seen" >/dev/null
    grep -q '"\.\.\.' "$w/seen" && bad "JSON is cut" || ok
    # one line of progress, rewritten, with the step of all steps
    # shellcheck disable=SC2086
    script -qec "$fast run $m --calib data/calib.txt --eval data/test.txt \
        --out $w/seen-run $small --budget 3 --window 32 --windows 2 \
        --no-models" "$w/seen" >/dev/null
    for step in 'step 2 of 5, learning: learning 2/2' \
        'step 3 of 5, anchor 3: ' 'step 4 of 5, the original: ' \
        'step 5 of 5, budget 3: '; do
        tr '\r' '\n' <"$w/seen" | grep -q "^$step" && ok || bad "no $step"
    done
    # nothing of it stays on the screen
    tr -d '\n' <"$w/seen" | tr '\r' '\n' | grep -q '^step.*left$' &&
        bad "a line of progress stays" || ok
fi
COLUMNS=10 "$gamma" check "$w/run/alloc-2.5.tsv" "$s" --quiet >"$w/narrow"
COLUMNS=300 "$gamma" check "$w/run/alloc-2.5.tsv" "$s" --quiet >"$w/broad"
same "$w/narrow" "$w/broad"

# ------------- what README and the helps print is done as it stands, in order
try=$w/try root=$PWD
mkdir -p "$try"
ln -s "$root/$m" "$try/MODEL"
for name in calib.txt calibration.txt; do
    ln -s "$root/data/calib.txt" "$try/$name"; done
ln -s "$root/data/test.txt" "$try/test.txt"
{
    sed -e '/^## What you can rely on/q' README.md |
        sed -n -e ':a' -e '/\\$/{N;s/\\\n *//;ba' -e '}' -e 's/^    \.\/gamma *//p' |
        sed 's/ *#.*//'
    for command in $commands; do
        "$gamma" $command --help | sed -n 's/^  gamma //p'
    done
} >"$w/typed"
text="--sequences 2 --length 32"
learn="$text --batch 1 --steps 2"
windows="--window 32 --windows 2"
while read -r command rest; do
    case $command in
    run) more="$learn $windows" ;;
    fit) more=$learn ;;
    dump) more="$text --batch 1" ;;
    refine) more="$text --evaluations 2" ;;
    plan) more="$text --batch 1" ;;
    eval) more=$windows ;;
    compare) rm -f "$try/out/fit.state"     # of another example
        more="$learn $windows --methods uniform,gamma" ;;
    baq) more="$text $windows --rate 2" ;;
    *) more= ;;
    esac
    case $rest in
    *theirs*) cp "$try/ours.safetensors" "$try/theirs.safetensors"
        cp "$try/ours.tsv" "$try/theirs.tsv" ;;
    *quantize_config*) cp "$try/out/alloc.tsv" "$try/quantize_config.json" ;;
    esac
    # shellcheck disable=SC2086
    if (cd "$try" && "$root/gamma" $command $rest $more </dev/null \
        >"$root/$w/out" 2>"$root/$w/err"); then ok; else
        bad "gamma $command $rest: $?, $(tail -n 1 "$w/err")"; fi
done <"$w/typed"
if [ "$(wc -l <"$w/typed")" -ge 40 ]; then ok; else bad "$(cat "$w/typed")"; fi

finish
