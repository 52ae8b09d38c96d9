#!/bin/sh
# test_protocol.sh: `gamma eval --protocol` against each protocol's own tool
# (tools/golden_protocols.py), to 1e-5; that KL is over the same positions;
# what a protocol cannot have.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/protocol-work
. tests/shell.sh

t=tests/golden/protocols.txt

# with_bos MODEL OUT: a copy whose tokenizer puts ~ before every text
with_bos() {
    mkdir -p "$2"
    cp "$1"/* "$2"
    id=$(sed -n 's/^ *"~": \([0-9]*\),*$/\1/p' "$1/tokenizer.json")
    sed -e '/"single": \[/a {"SpecialToken": {"id": "~", "type_id": 0}},' \
        -e "s/\"special_tokens\": {}/\"special_tokens\": {\"~\": {\"id\": \"~\",\
 \"ids\": [$id], \"tokens\": [\"~\"]}}/" "$1/tokenizer.json" >"$2/tokenizer.json"
    sed 's/^{/{"bos_token": "~",/' "$1/tokenizer_config.json" \
        >"$2/tokenizer_config.json"
}
for m in tiny-llama tiny-qwen2 tiny-qwen3; do with_bos data/$m "$w/$m"; done

# compare: the table in $w/out and a line of the golden one: the same whole
# numbers, real ones to 1e-5 of themselves
cat >"$w/compare.awk" <<'END'
BEGIN { FS = "\t" }
FNR == 1 { for (i = 1; i <= NF; i++) name[FILENAME, i] = $i; next }
FILENAME == ARGV[1] { for (i = 1; i <= NF; i++) want[name[FILENAME, i]] = $i; next }
{ for (i = 1; i <= NF; i++) have[name[FILENAME, i]] = $i }
END {
    n = split("protocol windows window predicted perplexity word_perplexity " \
              "byte_perplexity bits_per_byte", all, " ")
    for (i = 1; i <= n; i++) {
        a = want[all[i]]; b = all[i] in have ? have[all[i]] : "-"
        d = a - b
        if (a != b && !(i > 4 && a > 0 && d * d <= (1e-5 * a) ^ 2)) {
            print all[i] ": expected " a ", found " b
            exit 1
        }
    }
}
END
while IFS='	' read -r model bos T most name rest; do
    case $model in '#'*) continue ;; model)
        head="$model	$bos	$T	$most	$name	$rest"; continue ;; esac
    from=data/$model
    [ "$bos" = - ] || from=$w/$model
    printf '%s\n%s\n' "$head" "$model	$bos	$T	$most	$name	$rest" >"$w/want"
    [ "$most" = 0 ] && most= || most="--windows $most"
    # shellcheck disable=SC2086
    quick eval "$from" --eval $t --protocol "$name" --window "$T" $most
    wrong=$(awk -f "$w/compare.awk" "$w/want" "$w/out")
    if [ -z "$wrong" ]; then ok; else bad "$model $bos $T $most $name: $wrong"; fi
done <tests/golden/protocols.tsv

# the sanitized program, on windows that end everywhere in a text
head -c 600 $t >"$w/short"
for name in default gptq llama.cpp stride harness; do
    for T in 3 16 101; do
        succeed eval "$w/tiny-qwen2" --eval "$w/short" --protocol $name --window $T
    done
done

# told COLUMN LINE: of the last table
told() {
    awk -F '\t' -v c="$1" -v line="$2" 'NR == 1 { for (i = 1; i <= NF; i++)
        if ($i == c) at = i } NR == line { print $at }' "$w/out"
}
# five tokens in windows of 2: the last, of one token, predicts none; one token
# is a document, whose nll by torch is 8.729582
printf 'Hello world' >"$w/five"
succeed eval data/tiny-llama --eval "$w/five" --protocol stride --window 2
is "windows of five tokens" "$(told windows 2) $(told predicted 2) $(told perplexity 2)" \
    "2 2 10557.047352"
printf a >"$w/one"
succeed eval data/tiny-llama --eval "$w/one" --protocol harness
is "a document of one token" "$(told nll 2 | cut -c 1-7) $(told predicted 2)" "8.72958 1"
for name in default stride; do
    expect 1 "gamma: $w/one: expected at least 2 tokens, found 1" \
        eval data/tiny-llama --eval "$w/one" --protocol $name
done

# an allocation of all the bits there are: KL 0 where the same is predicted, and
# of fewer bits the KL of those positions alone: half of the windows has another
quick fit data/tiny-llama --calib data/calib.txt --bits 2,16 --sequences 4 \
    --length 64 --steps 1 --out "$w/fit"
for bits in 16 2; do
    quick solve "$w/fit/scores.tsv" --bits $bits --out "$w/$bits.tsv"
    for name in default llama.cpp; do
        quick eval data/tiny-llama --eval $t --protocol $name --window 64 \
            --windows 4 --alloc "$w/$bits.tsv"
        told kl 3 >"$w/kl-$bits-$name"
        if [ "$(told predicted 3)" = "$(told predicted 2)" ]; then ok
        else bad "predicted $(cat "$w/out")"; fi
    done
done
same "$w/kl-16-default" "$w/kl-16-llama.cpp"
if [ "$(cat "$w/kl-16-default")" = 0.000000 ]; then ok
else bad "KL to itself: $(cat "$w/kl-16-default")"; fi
if cmp -s "$w/kl-2-default" "$w/kl-2-llama.cpp"; then
    bad "KL is over all positions: $(cat "$w/kl-2-default")"; else ok; fi

expect 2 'gamma: --protocol harness takes a whole document: --windows does not go with it' \
    eval data/tiny-llama --eval $t --protocol harness --windows 2
expect 2 'gamma: --protocol goes with --eval|--eval-tokens, found none' \
    eval data/tiny-llama --choices data/choices.jsonl --protocol gptq
expect 2 'gamma: expected windows of at least 3 tokens, found 2' \
    eval data/tiny-llama --eval $t --protocol llama.cpp --window 2
expect 1 "gamma: $t: expected at least 2048 tokens (4 windows of 512), found 1504" \
    eval data/tiny-llama --eval $t --protocol gptq --windows 4
expect 2 'gamma: --protocol: expected default, gptq, llama.cpp, stride or harness, found "papers"' \
    eval data/tiny-llama --eval $t --protocol papers
mkdir "$w/none"
cp data/tiny-llama/* "$w/none"
echo '{}' >"$w/none/tokenizer_config.json"
expect 1 "gamma: $w/none: protocol harness needs a bos_token or eos_token that is a token, found none in tokenizer_config.json" \
    eval "$w/none" --eval $t --protocol harness
finish
