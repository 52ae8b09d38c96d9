#!/bin/sh
# growth.sh: how seconds and memory grow with tokens, blocks, width and K:
# gamma fit of random models, beside gamma plan; one row a setting, seconds of
# the processor on one thread.
#   sh tools/bench/growth.sh ./gamma PYTHON DIR
# SPDX-License-Identifier: GPL-3.0-or-later
gamma=$1 python=$2 dir=$3
mkdir -p "$dir"

# row WHAT VALUE BLOCKS WIDTH BITS TOKENS
row() {
    m=$dir/$3-$4
    if [ ! -f "$m/tokens.npy" ]; then
        printf '{"model_type": "llama", "hidden_act": "silu", "hidden_size": %d,
            "intermediate_size": %d, "num_attention_heads": %d, "vocab_size":
            1024, "num_key_value_heads": %d, "num_hidden_layers": %d,
            "max_position_embeddings": 4096}' "$4" $(($4 * 3)) $(($4 / 64)) \
            $(($4 / 64)) "$3" >"$dir/config.json"
        "$python" tools/make_random.py "$dir/config.json" "$m" --layers "$3"
    fi
    options="--tokens $m/tokens.npy --sequences 4 --length $6 --batch 4
        --steps 2 --relaxation soft --bits $5 --group 64 --threads 1"
    rm -rf "$dir/out"
    # shellcheck disable=SC2086
    plan=$("$gamma" plan "$m" $options --windows 1 --window 64 --no-models \
        --budgets 3 --quiet | awk -F '\t' '
        $1 == "candidates" || $1 == "fit_steps" {
            if ($2 > m) m = $2 } END { print m }')
    # shellcheck disable=SC2086
    found=$( (bash -c "TIMEFORMAT='%U %S'; time \"$gamma\" fit \"$m\" $(echo \
        $options) --out \"$dir/out\" >/dev/null 2>\"$dir/err\"") 2>&1 |
        awk '{ printf "%.2f", $1 + $2 }')
    memory=$(sed -n 's/.*peak memory \(.*\) MB/\1/p' "$dir/err")
    printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$found" "$memory" "$plan"
}

printf 'what\tvalue\tseconds\tMB\tplan_MB\n'
for n in 64 128 256; do row tokens $n 4 256 2,3,4 $n; done
for n in 2 4 8; do row blocks $n $n 256 2,3,4 128; done
for n in 256 512; do row width $n 4 $n 2,3,4 128; done
for n in 2 2,3 2,3,4,5; do row K $n 4 256 $n 128; done
