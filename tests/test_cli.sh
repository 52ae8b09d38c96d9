#!/bin/sh
# test_cli.sh: the program as its user meets it: the whole path on a tiny
# model, killed and resumed runs, every kind of bad input with its exact
# message and exit code.  Uses the sanitized build.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/cli-work
. tests/shell.sh

m=data/tiny-llama
small="--sequences 4 --length 64 --batch 2 --steps 4 --group 64"

# ---------------------------------------------------------------- wrong usage
expect 2 'gamma: fit: unknown option --step; did you mean --steps (gamma fit --help-all lists them)' \
    fit $m --step 3
expect 2 'gamma: --steps: expected a whole number from 1 to 1000000, found "0"' \
    fit $m --out "$w/x" --steps 0
expect 2 'gamma: --steps: expected N after it, found --quiet' fit $m --steps
expect 2 'gamma: --alpha is given twice' fit $m --alpha 1 --alpha 2
expect 2 'gamma: fit: --out DIR is missing' fit $m
expect 2 'gamma: fit: expected one of --calib FILE, --tokens FILE.npy, found none' \
    fit $m --out "$w/x"
expect 2 'gamma: fit: expected one of --calib FILE, --tokens FILE.npy, found both' \
    fit $m --out "$w/x" --calib data/calib.txt --tokens x.npy
expect 2 'gamma: info: an argument is missing (usage: gamma info MODEL)' info
expect 2 'gamma: --bits: 16 stands for the weight as stored, beside fewer bits, but model.layers.0.self_attn.q_proj.weight is F32 (32 bits) in data/tiny-qwen3/model.safetensors' \
    fit data/tiny-qwen3 --calib data/calib.txt --out "$w/x" --bits 2,16
# an option that would do nothing is refused
idle() {        # "OPTION WHY" ARGS...
    why=$1
    shift
    expect 2 "gamma: $why" "$@"
}
for option in --bits=4 --calib=x --force --cache=x --external=x --quantizer=gptq
do
    idle "${option%=*} goes with --alloc, found none" \
        eval $m --eval data/test.txt $option
done
idle '--bos goes with --choices, found none' \
    eval $m --eval data/test.txt --bos never
idle '--windows goes with --eval|--eval-tokens, found none' \
    eval $m --choices data/choices.jsonl --windows 2
idle '--max-memory goes with --eval|--eval-tokens|--alloc, found none' \
    eval $m --choices data/choices.jsonl --max-memory 1
idle '--window goes with --eval|--eval-tokens, found none' \
    baq $m --calib data/calib.txt --out "$w/x" --window 64
idle '--force does not go with --no-models' \
    run $m --calib data/calib.txt --eval data/test.txt --out "$w/x" --no-models \
    --force
for no in '--anchors 0' '--recipe paper'; do
    # shellcheck disable=SC2086
    idle '--evaluations goes with --anchors, found 0' run $m --out "$w/x" \
        --calib data/calib.txt --eval data/test.txt $no --evaluations 9
done
"$gamma" help fit >"$w/out" && "$gamma" fit --help >"$w/err"
same "$w/out" "$w/err"
"$gamma" slove 2>"$w/err"
if [ $? -eq 2 ] && grep -q 'unknown command "slove"; did you mean solve' \
    "$w/err"; then ok; else bad "unknown command: $(cat "$w/err")"; fi
for help in '' help --help; do
    # shellcheck disable=SC2086
    "$gamma" $help >"$w/out" 2>"$w/err"
    code=$?
    for command in info fit refine solve check quantize eval run compare baq \
        plan dump verify show audit; do
        grep -q "^  $command  *[A-Z]" "$w/out" || code="$code, no $command"
    done
    expected=0
    [ -z "$help" ] && expected=2
    if [ "$code" = $expected ]; then ok; else bad "gamma $help: $code"; fi
done
expect 2 'gamma: info: unknown option --theads; did you mean --threads (gamma info --help-all lists them)' \
    info $m --theads 2
expect 2 'gamma: --resume takes no value, found "yes"' fit $m --resume=yes
expect 2 'gamma: info: one argument too many: "b" (usage: gamma info MODEL)' \
    info $m b
expect 2 'gamma: run: --out DIR is missing' run $m --calib data/calib.txt
expect 2 'gamma: --rate: expected at most 16 rates, found more' \
    baq $m --calib data/calib.txt --out "$w/x" --rate "$(seq -s , 0 0.1 2)"
# options of every command
expect 2 'gamma: --isa: expected scalar, avx2, avx512 or neon, as far as this machine has it; found "sse"' \
    info $m --isa sse
expect 2 'gamma: --threads: expected a whole number from 1 to 1024, found "0"' \
    info $m --threads 0
succeed info $m --json
if [ "$(head -c 21 "$w/out")" = '[{"key": "architectur' ] &&
    [ ! -s "$w/err" ]; then ok; else bad "--json: $(cat "$w/out" "$w/err")"; fi
# however OpenMP's threads wait, by the program's choice or the caller's
cp "$w/out" "$w/info"
for wait in '-u OMP_WAIT_POLICY' OMP_WAIT_POLICY=active; do
    # shellcheck disable=SC2086
    env -u GOMP_SPINCOUNT $wait "$gamma" info $m --json --quiet >"$w/out"
    same "$w/out" "$w/info"
done

# more threads than there are processors are not begun: each has its workspace
for threads in 2 50000 100000 9999999999 4,2 none; do
    OMP_NUM_THREADS=$threads "$gamma" eval $m --text data/test.txt --windows 2 \
        --window 64 >"$w/out" 2>"$w/err" || bad "$threads threads: $(cat "$w/err")"
    [ $threads != 2 ] || cp "$w/out" "$w/eval"
    same "$w/out" "$w/eval"
done
for most in 1 100000; do
    for threads in 1 100000; do
        OMP_THREAD_LIMIT=$most OMP_NUM_THREADS=$threads "$gamma" eval $m \
            --text data/test.txt --windows 2 --window 64 >"$w/out" 2>"$w/err" ||
            bad "$threads of $most threads: $(cat "$w/err")"
        same "$w/out" "$w/eval"
    done
done

# ---------------------------------------------------------------- whole path
# shellcheck disable=SC2086
succeed fit $m --calib data/calib.txt --out "$w/a" $small
for budget in 2 2.5 3.999 4; do
    succeed solve "$w/a/scores.tsv" --bits $budget --out "$w/alloc.tsv"
    succeed check "$w/alloc.tsv" "$w/a/scores.tsv"
done
succeed solve "$w/a/scores.tsv" --bits 2.5 --out "$w/alloc.tsv"
succeed quantize $m --alloc "$w/alloc.tsv" --cache "$w/a" --out "$w/q"
succeed quantize $m --alloc "$w/alloc.tsv" --cache "$w/a" --out "$w/packed" \
    --format packed
# the size that quantize prints is the packed file's
stated=$(awk -F '\t' 'NR == 2 { print $3 }' "$w/out")
if [ "$stated" = "$(wc -c <"$w/packed" | tr -d ' ')" ]; then ok; else
    bad "packed file: stated $stated bytes, has $(wc -c <"$w/packed")"; fi
# a byte budget of exactly that size is feasible and met; one byte less gives
# another, smaller assignment
succeed solve "$w/a/scores.tsv" --bytes "$stated" --out "$w/alloc2.tsv"
# the quantized directory evaluates like the allocation, up to the rounding of
# dequantized weights to the checkpoint's BF16
succeed eval $m --text data/test.txt --alloc "$w/alloc.tsv" --cache "$w/a" \
    --window 128 --windows 4
a=$(awk -F '\t' '$1 == "quantized" { print $3 }' "$w/out")
succeed eval "$w/q" --text data/test.txt --window 128 --windows 4
b=$(awk -F '\t' '$1 == "original" { print $3 }' "$w/out")
if awk "BEGIN { d = $a - $b; exit !(d < 0.01 && d > -0.01) }"; then ok; else
    bad "nll of the allocation $a, of the written model $b"; fi
for command in info fit solve check quantize eval run; do
    succeed $command --help-all
    if grep -q "Options \[default\]" "$w/out"; then ok; else
        bad "gamma $command --help-all"; fi
done
succeed info data/tiny-qwen2
succeed info $m --hash
grep -q "^model_hash	$(sed -n 's/^# model_hash //p' "$w/alloc.tsv")$" "$w/out" &&
    ok || bad "info --hash: $(tail -n 1 "$w/out")"
succeed info data/tiny-qwen3 --json

# --bits beside an assignment that knows its candidates; GPTQ candidates of a
# text that nobody names; an assignment of another model's
succeed quantize $m --alloc "$w/alloc.tsv" --bits 2,3,4,5 --out "$w/other"
same "$w/q/model.safetensors" "$w/other/model.safetensors"
rm -rf "$w/m"; cp -r $m "$w/m"; cp "$w/alloc.tsv" "$w/m"
expect 2 "gamma: $w/m: candidates are kept there, but it is the model's own \
directory; expected another (--cache DIR)" \
    quantize "$w/m" --alloc "$w/m/alloc.tsv" --out "$w/other"
expect 2 'gamma: --calib belongs to --quantizer gptq, found rtn' \
    quantize $m --alloc "$w/alloc.tsv" --calib data/calib.txt --out "$w/other"
expect 2 'gamma: --length goes with --calib, found none' \
    quantize $m --alloc "$w/alloc.tsv" --length 64 --out "$w/other"
sed '/_hash/d' "$w/alloc.tsv" >"$w/any.tsv"
expect 2 "gamma: $w/any.tsv has no candidates_hash and GPTQ candidates are made from a calibration text: --calib FILE is missing" \
    quantize $m --alloc "$w/any.tsv" --quantizer gptq --out "$w/other"
hash=$(sed -n 's/^# model_hash //p' "$w/alloc.tsv")
sed 's/^# model_hash ./# model_hash x/' "$w/alloc.tsv" >"$w/any.tsv"
expect 1 "gamma: $w/any.tsv: was made for another model: expected model_hash $hash ($m), found x${hash#?}" \
    quantize $m --alloc "$w/any.tsv" --cache "$w/a" --out "$w/other"
# progress where a terminal looks on
if script --version >/dev/null 2>&1; then
    script -qec "$fast fit $m --calib data/calib.txt --out $w/seen $small" \
        "$w/typescript" >/dev/null
    grep -q 'learning 4/4  [0-9.e+]*/s  0 s left' "$w/typescript" && ok ||
        bad "progress: $(cat "$w/typescript")"
fi

# budgets of run in bytes: met, and next to nothing is left over
# shellcheck disable=SC2086
succeed run $m --calib data/calib.txt --eval data/test.txt --out "$w/run" \
    $small --window 128 --windows 2 --in bytes --budgets 900K --no-models
if awk -F '\t' 'NR == 2 { fits = $8 <= 900000 && $8 > 890000 && $5 <= 900000 }
    END { exit !(fits && NR == 2) }' "$w/out"; then ok; else
    bad "run --in bytes: $(cat "$w/out")"; fi

# modules that keep their 16 bits, written as they are stored
{
    printf 'module\tbits\n'
    sed '/^#/d; /^module/d; s/\t.*//' "$w/alloc.tsv" |
        awk '{ print $1 "\t" (/down_proj/ ? 16 : 2) }'
} >"$w/kept.tsv"
succeed quantize $m --alloc "$w/kept.tsv" --bits 2,16 --group 64 \
    --cache "$w/kept" --out "$w/kept.packed" --format packed
stated=$(awk -F '\t' 'NR == 2 { print $3 }' "$w/out")
if [ "$stated" = "$(wc -c <"$w/kept.packed" | tr -d ' ')" ] &&
    awk -F '\t' 'NR == 2 { exit !($1 > 4 && $1 < 8) }' "$w/out"; then ok; else
    bad "modules of 16 bits: $(cat "$w/out")"; fi

# what makes the model loadable goes along, SentencePiece's own file too
rm -rf "$w/m"; cp -r $m "$w/m"; echo pieces >"$w/m/tokenizer.model"
succeed quantize "$w/m" --alloc "$w/kept.tsv" --bits 2,16 --group 64 \
    --cache "$w/kept" --out "$w/kept-hf"
for f in tokenizer.json tokenizer.model config.json; do
    if cmp "$w/m/$f" "$w/kept-hf/$f"; then ok; else bad "not copied: $f"; fi
done

# relaxations, norms, recipes by name; what is given beside a recipe wins
# shellcheck disable=SC2086
succeed fit $m --calib data/calib.txt --out "$w/paper" $small --recipe paper
# shellcheck disable=SC2086
succeed fit $m --calib data/calib.txt --out "$w/paper2" $small --relaxation soft \
    --norm plain --score theta
same "$w/paper/scores.tsv" "$w/paper2/scores.tsv"
# shellcheck disable=SC2086
succeed fit $m --calib data/calib.txt --out "$w/paper" $small --recipe paper \
    --norm robust --relaxation gumbel
if grep -q '^# relaxation gumbel$' "$w/paper/scores.tsv" &&
    grep -q '^# norm robust$' "$w/paper/scores.tsv" &&
    grep -q '^# tau_last 0.5$' "$w/paper/scores.tsv"; then ok; else
    bad "recipe with options: $(grep '^#' "$w/paper/scores.tsv")"; fi
# shellcheck disable=SC2086
quick fit $m --calib data/calib.txt --out "$w/paper" $small \
    --relaxation gumbel --tau 1.5 --tau-last 0.7
grep -q '^# tau_last 0.7$' "$w/paper/scores.tsv" &&
    grep -q '^# tau 1.5$' "$w/paper/scores.tsv" && ok ||
    bad "--tau: $(grep tau "$w/paper/scores.tsv")"
# how many steps, by the score
for score in scaled=15 loss=60; do
    quick fit $m --calib data/calib.txt --out "$w/steps" --sequences 1 \
        --length 8 --batch 1 --score ${score%=*}
    grep -qx "# steps ${score#*=}" "$w/steps/scores.tsv" && ok ||
        bad "$score: $(grep '# steps' "$w/steps/scores.tsv")"
done
expect 2 'gamma: --recipe: expected default or paper, found "x"' \
    fit $m --out "$w/x" --recipe x
expect 2 'gamma: --relaxation: expected soft, soft-corrected, gumbel or hard, found "x"' \
    fit $m --out "$w/x" --relaxation x
expect 2 'gamma: --norm: expected token, robust, plain, energy or update, found "x"' \
    fit $m --out "$w/x" --norm x
expect 2 'gamma: --score: expected theta, loss or scaled, found "x"' \
    fit $m --out "$w/x" --score x
expect 2 'gamma: --score scaled belongs to --relaxation soft-corrected, found '\
'soft' fit $m --out "$w/x" --relaxation soft --score scaled
expect 2 'gamma: --tau-last belongs to --relaxation gumbel and hard, found soft' \
    fit $m --out "$w/x" --relaxation soft --tau-last 1

# modules with candidates of their own: "-" in scores.tsv, never solved for
# shellcheck disable=SC2086
succeed fit $m --calib data/calib.txt --out "$w/allow" $small \
    --allow 'down_proj=4;*.0.*q_proj=2,3'
succeed solve "$w/allow/scores.tsv" --bits 4 --out "$w/allow/alloc.tsv"
if awk -F '\t' '/^#/ { next } $1 ~ /down_proj/ { n++; bad += $2 != 4 }
    $1 ~ /0.self_attn.q_proj/ { n++; bad += $2 != 3 }
    END { exit bad || n != 9 }' "$w/allow/alloc.tsv" &&
    grep -q '^# train_bits 3.2152777777777' "$w/allow/scores.tsv"; then ok; else
    bad "--allow: $(grep proj "$w/allow/alloc.tsv")"; fi
expect 2 'gamma: --train-bits: expected 2.44444 to 4, which the modules'"'"' candidates reach, found 2' \
    fit $m --calib data/calib.txt --out "$w/allow" --allow 'down_proj=4' \
    --train-bits 2 --length 64 --sequences 1 --group 64

# ------------------------------------------------- same bytes, threads, ISAs
# small, since the scalar functions call libm's fma
less="--sequences 2 --length 24 --batch 1 --steps 2 --group 64"
# shellcheck disable=SC2086
quick fit $m --calib data/calib.txt --out "$w/less" $less
# shellcheck disable=SC2086
quick fit $m --calib data/calib.txt --out "$w/gless" $less --quantizer gptq
for isa in scalar avx2 avx512 neon; do
    for threads in 1 2 3; do
        # shellcheck disable=SC2086
        if "$fast" fit $m --calib data/calib.txt --out "$w/b" $less --quiet \
            --isa $isa --threads $threads >"$w/out" 2>"$w/err"; then
            same "$w/less/scores.tsv" "$w/b/scores.tsv"
            same "$w/less/learning.tsv" "$w/b/learning.tsv"
        elif ! grep -q "as far as this machine has it" "$w/err"; then
            bad "$isa, $threads threads: $(cat "$w/err")"
        fi
    done
done

# ---------------------------------------------------------------- GPTQ
# shellcheck disable=SC2086
succeed fit $m --calib data/calib.txt --out "$w/g" $small --quantizer gptq
succeed solve "$w/g/scores.tsv" --bits 2.5 --out "$w/g/alloc.tsv"
# the candidates that fit made are found again by the hash in the allocation
succeed quantize $m --alloc "$w/g/alloc.tsv" --out "$w/gpacked" --format packed
succeed eval $m --text data/test.txt --alloc "$w/g/alloc.tsv" --window 128 \
    --windows 4
cp "$w/out" "$w/geval"
made=$(cd "$w/g" && echo candidates-*)
expect 1 "gamma: $w/$made: no such file, and GPTQ candidates are made from a calibration text: expected the directory that gamma fit wrote to (--cache DIR), or that text (--calib FILE)" \
    eval $m --text data/test.txt --alloc "$w/g/alloc.tsv" --cache "$w"
# or made again, the same, from the text
succeed eval $m --text data/test.txt --alloc "$w/g/alloc.tsv" --window 128 \
    --windows 4 --cache "$w/g2" --calib data/calib.txt --sequences 4 --length 64
same "$w/out" "$w/geval"
same "$w/g/$made" "$w/g2/$made"
for isa in scalar avx2; do
    # shellcheck disable=SC2086
    "$fast" fit $m --calib data/calib.txt --out "$w/g-$isa" $less --quiet \
        --quantizer gptq --isa $isa --threads 3 >"$w/out" 2>"$w/err"
    [ $isa = avx2 ] && grep -q "as far as this machine has it" "$w/err" ||
        same "$w/gless/candidates-"* "$w/g-$isa/candidates-"*
done
expect 2 'gamma: --quantizer: expected rtn or gptq, found "awq"' \
    fit $m --out "$w/x" --quantizer awq
for option in --act-order --sequential '--hessian plain' '--damping 0.1'; do
    expect 2 "gamma: ${option%% *} belongs to --quantizer gptq, found rtn" \
        fit $m --out "$w/x" $option
done
expect 2 'gamma: --scales: expected minmax or mse, found "x"' \
    fit $m --out "$w/x" --scales x
# symmetric: a word of the recipe, which quantize and eval take from there
expect 2 'gamma: --symmetric: expected 2 bits or more, found 1, whose only '\
'values would be 0 and -2 max |w|' fit $m --out "$w/x" --bits 1,2 --symmetric
for quantizer in rtn "gptq --act-order"; do
    # shellcheck disable=SC2086
    succeed fit $m --calib data/calib.txt --out "$w/s" $less --quiet \
        --quantizer $quantizer --symmetric
    case $(grep candidates.*bits= "$w/s/scores.tsv") in
    *"${quantizer%% *} bits="*" symmetric") ok ;;
    *) bad "$quantizer: $(grep candidates "$w/s/scores.tsv")" ;;
    esac
    succeed solve "$w/s/scores.tsv" --bits 3 --out "$w/s/alloc.tsv" --quiet
    made=$(ls "$w/s")
    # shellcheck disable=SC2086
    succeed quantize $m --alloc "$w/s/alloc.tsv" --format packed --quiet \
        --out "$w/s.packed"
    [ "$(ls "$w/s")" = "$made" ] && ok || bad "made again: $(ls "$w/s")"
    rm -r "$w/s"
done

# --------------------------------------------------------- killed and resumed
long="--sequences 8 --length 128 --batch 4 --steps 60 --group 64"
# shellcheck disable=SC2086
"$fast" fit $m --calib data/calib.txt --out "$w/whole" $long --quiet >/dev/null
kills=0
while [ $kills -lt 12 ]; do
    # shellcheck disable=SC2086
    "$fast" fit $m --calib data/calib.txt --out "$w/killed" $long --resume \
        --quiet >/dev/null 2>"$w/err" &
    pid=$!
    sleep "0.$((3 + kills % 5))"
    kill -9 $pid 2>/dev/null || { wait $pid; break; }
    wait $pid 2>/dev/null
    kills=$((kills + 1))
done
# shellcheck disable=SC2086
"$fast" fit $m --calib data/calib.txt --out "$w/killed" $long --resume \
    --quiet >/dev/null 2>"$w/err" || bad "resume: $(cat "$w/err")"
same "$w/whole/scores.tsv" "$w/killed/scores.tsv"
if [ $kills -gt 0 ]; then ok; else bad "no run was killed"; fi

# ------------------------------------------------------------------ bad texts
: >"$w/empty.txt"
expect 1 "gamma: $w/empty.txt: expected text, found none" \
    eval $m --text "$w/empty.txt"
echo "In the beginning" >"$w/short.txt"
tokens=$("$fast" eval $m --text "$w/short.txt" --window 64 --quiet 2>&1 |
         sed 's/.*found //')
expect 1 "gamma: $w/short.txt: expected at least 64 tokens (1 windows of 64), found $tokens" \
    eval $m --text "$w/short.txt" --window 64
printf 'abc\377def' >"$w/latin.txt"
"$gamma" eval $m --text "$w/latin.txt" --quiet >/dev/null 2>"$w/err"
if [ $? -eq 1 ] && grep -q "3" "$w/err"; then ok; else
    bad "invalid UTF-8: $(cat "$w/err")"; fi
expect 5 "gamma: $w/none.txt: cannot open: No such file or directory" \
    eval $m --text "$w/none.txt"

# ------------------------------------------------------------ bad checkpoints
# copy DIR: a fresh copy of the model to damage
copy() { rm -rf "$w/m"; cp -r $m "$w/m"; }
f=$w/m/model.safetensors
bytes=$(wc -c <$m/model.safetensors | tr -d ' ')
copy; head -c 100000 $m/model.safetensors >"$f"
expect_match() {    # CODE PATTERN ARGS...
    code=$1 pattern=$2
    shift 2
    "$gamma" "$@" --quiet >"$w/out" 2>"$w/err"
    found=$?
    if [ "$found" -eq "$code" ] && tail -n 1 "$w/err" | grep -q "$pattern"
    then ok; else bad "gamma $*
  exit code $found, expected $code
  found    $(tail -n 1 "$w/err")
  expected $pattern"; fi
}
expect_match 1 "^gamma: $f: tensor \"lm_head.weight\": data_offsets: expected two integers, 0 <= begin <= end <= [0-9]*, found 0, 196608$" info "$w/m"
copy; head -c 6 $m/model.safetensors >"$f"
expect_match 1 "^gamma: $f: " info "$w/m"
copy; sed 's/\("lm_head.weight":{[^}]*"data_offsets":\[0,\)[1-9]/\19/' $m/model.safetensors >"$f"
expect_match 1 "^gamma: $f: " info "$w/m"
copy; printf '\300\177' | dd of="$f" bs=1 seek=$((bytes - 64)) conv=notrunc 2>/dev/null
expect_match 1 "^gamma: $f: tensor \"[^\"]*\": .*nan\|^gamma: $f: .*NaN" eval "$w/m" --text data/test.txt --windows 1 --window 64
copy; sed -i 's/"hidden_size": *[0-9]*/"hidden_size": 132/' "$w/m/config.json"
expect_match 1 "expected \[.*132.*\], found \[" info "$w/m"
copy; sed -i '/"num_hidden_layers"/d' "$w/m/config.json"
# transformers' default is 32 blocks
expect_match 1 "$w/m: tensor model.layers.8.self_attn.q_proj.weight is missing" info "$w/m"
copy; sed -i 's/"num_hidden_layers": 8/"num_hidden_layers": "8"/' "$w/m/config.json"
expect_match 1 "$w/m/config.json: .*num_hidden_layers" info "$w/m"
copy; sed -i 's/"model_type": *"llama"/"model_type": "mixtral"/' "$w/m/config.json"
expect_match 1 "$w/m/config.json: .*model_type.*mixtral" info "$w/m"
copy; rm "$w/m/tokenizer.json"
expect_match 5 "tokenizer.json" eval "$w/m" --text data/test.txt
expect_match 5 "config.json" info "$w/nothing-here"

# -------------------------------------------------------------------- budgets
s=$w/a/scores.tsv
expect_match 2 "^gamma: budget: .*\"-1\"" solve "$s" --bits -1 --out "$w/z.tsv"
expect_match 2 "^gamma: budget: .*\"0\"" solve "$s" --bits 0 --out "$w/z.tsv"
expect 3 "gamma: a budget of 1.99 bits: no assignment is that small; reachable are 2 to 4 bits per weight, next below: none, above: 2" solve "$s" --bits 1.99 --out "$w/z.tsv"
expect_match 3 "^gamma: a budget of 1000 bytes: no assignment is that small; reachable are [0-9]* to [0-9]* file bytes, next below: none, above: [0-9]*$" solve "$s" --bytes 1000 --out "$w/z.tsv"
expect_match 2 "\"abc\"" solve "$s" --bits abc --out "$w/z.tsv"
succeed solve "$s" --bits 99 --out "$w/z.tsv"
expect 2 "gamma: $m: the output directory is the model's own; expected another" \
    quantize $m --alloc "$w/alloc.tsv" --cache "$w/a" --out $m
# gamma run answers before it learns
expect 3 "gamma: a budget of 1.5 bits: no assignment is that small; reachable are 2 to 4 bits per weight, next below: none, above: 2" \
    run $m --calib data/calib.txt --eval data/test.txt --out "$w/r" --budgets 3,1.5
expect 1 "gamma: $w/short.txt: expected at least 512 tokens (1 windows of 512), found $tokens" \
    run $m --calib data/calib.txt --eval "$w/short.txt" --out "$w/r"
expect 2 'gamma: --in: expected bits, ebits or bytes, found "bit"' \
    run $m --calib data/calib.txt --eval data/test.txt --out "$w/r" --in bit
expect_match 3 "^gamma: a budget of 1000 bytes: no assignment is that small; reachable are [0-9]* to [0-9]* file bytes, next below: none, above: [0-9]*$" \
    run $m --calib data/calib.txt --eval data/test.txt --out "$w/r" --in bytes --budgets 1000
if [ -e "$w/r" ]; then bad "a refused run wrote $w/r"; else ok; fi
if [ -e "$w/z.tsv.partial" ]; then bad "a partial file is left"; else ok; fi

finish
