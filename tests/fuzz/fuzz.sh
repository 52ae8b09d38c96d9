#!/bin/sh
# fuzz.sh: runs each target given for SECONDS (60) or, if RUNS is set, that many
# executions; one process, lowest priority.  BUILD: where the programs are.  The
# corpus is CORPUS (build/corpus); a crash, leak, hang or excess of memory stops
# it with its input beside the program.  MINIMISE=1 writes a small corpus that
# reaches the same edges to tests/fuzz/corpus instead; entries there that have a
# name, not a hash, stay.
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
seconds=${SECONDS:-60}
runs=${RUNS:--1}
[ "$runs" -gt 0 ] && seconds=0
build=${BUILD:-build/fuzz1}
grown=${CORPUS:-build/corpus}
committed=$PWD/tests/fuzz/corpus
# a small quarantine and short stacks of allocations: speed, no check is less
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1:\
quarantine_size_mb=8:malloc_context_size=3

# A line each: what departs, with what its signs read.
seeds_verify() {
    printf 'teacher.1 f 8,1000000000,0 1\nstudent.1 f 8,1000000000,0 1\nloss.1 d 8 1 *2\n' >"$1/zero"
    printf '# weights 1,2,3,4,5,6,7\n# bits 2,3,4\np o 70,3 1 -\ntrain_bits d . 3\nc d . 1 +1\n' >"$1/bool-p"
    s=candidates.model.layers.0.self_attn.q_proj.b4
    printf '# bits 4\n# group 32\n%s.scales o 4,2 1\n%s.zeros o 4,2 1\n%s.codes u 4,64 1r1\n%s.dequantized f 4,64 1r1 *2\n' $s $s $s $s >"$1/bool-scales"
    printf '# bits 2,3,4\nE.1000000 d . 1\ng d 7,3 1r1\nseparable d 7,3 1\ntheta_before d 7,3 1r1\np d 7,3 0.3\nv d 7,3 1r1 +1\n' >"$1/blocks"
    printf '# length 4\n# head_dim 4\n# heads 2\n# kv_heads 2\n# norm_eps 1e-5\nteacher.0 f 8,8 1r1\ndetail.0.norm1 f 8,8 1r2\ndetail.0.q f 8,8 1r3\ndetail.0.v f 8,8 1r3\ndetail.0.attention f 8,8 1r5 m8\n' >"$1/detail"
    printf 'hessian.0.qkv f 4,4 1r1\nfactor.0.qkv f 4,4 1r1 *2\nloss.1 d 8 1r1\nloss.2 d 8 1r1 n3\nE.1 d . 1\nE0 d . 1\nE d . 1 *2\n' >"$1/hessian"
    printf 'moment1 d 7,3 0.1r1\nmoment2 d 7,3 0.1r1\nstep d . 2\ntau d . 1\ntheta_after d 7,3 1 +1\nlambda_after d . 1 *2\nscores d 7,3 0r1 +1\nscores_error d 7,3 1 *2\nx l 3 1 = f 3,1\n' >"$1/adam"
    printf 'mixed.layers.0.q_proj f 4,4 1r1 +1\ntokens i 2,8 1r1 m8\nstudent.1 h 16,4 1r1 i3\ngrad.layers.0.q_proj b 4,4 1r1 *2\nentropy d . 1 *-1\n' >"$1/mixed"
}

# Seeds: real files, shaped as each target takes them.
seeds() {
    name=$1 to=$2
    golden=tests/golden
    case $name in
    json|config) cp data/tiny-llama/config.json "$to/llama"
        cp data/tiny-qwen2/config.json "$to/qwen2"
        cp data/tiny-qwen3/config.json "$to/qwen3"
        for c in "$golden"/rope-*/config.json; do
            cp "$c" "$to/$(basename "$(dirname "$c")")"
        done ;;
    safetensors)
        printf 'h9{"a":{"dtype":"F32","shape":[2,512],"data_offsets":[0,4096]}}' \
            >"$to/one"
        printf 'h1{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}' \
            >"$to/two"
        printf 'i1{"metadata":{},"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}\000{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}\000{"y":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]}}' \
            >"$to/index"
        { printf 'r0'; head -c 3000 data/tiny-llama/model.safetensors; } \
            >"$to/raw" ;;
    tokenizer)
        for t in gpt2 llama3 mixed qwen2 smollm2 llama2 mistral; do
            cp "$golden/tokenizer-$t/tokenizer.json" "$to/$t"
        done ;;
    text)
        for i in 0 1 2 3 4 5 6; do
            { printf '\00'$i; head -c 1500 "$golden/tokenizer-text.txt"; } \
                >"$to/$i"
        done ;;
    npy) head -c 400 "$golden/mistakes/tokens.npy" >"$to/tokens" ;;
    scores)
        printf '# format gamma-scores 1\nmodule\tout\tin\tweights\t2.bytes\t2.score\t2.stderr\t4.bytes\t4.score\t4.stderr\na\t8\t16\t128\t40\t1\t-\t72\t0.25\t0.1\nb\t16\t16\t256\t-\t-\t-\t144\t0.5\t-\n' >"$to/two"
        printf 'name\tweights\t2.score\t3.score\nx\t64\t1e-3\t0\n' \
            >"$to/hand" ;;
    foreign) for f in tests/golden/foreign/*; do
            case $f in *.tsv) ;; *) cp "$f" "$to/$(basename "$f")" ;; esac
        done ;;
    alloc)
        printf '# format gamma-alloc 1\n# budget 2.5\nmodule\tbits\tbytes\tallowed\tfused\na\t2\t40\t2,4\tg\nb\t4\t144\t2,4\t-\n' \
            >"$to/two"
        ./gamma solve tests/fuzz/scores.tsv --bits 3 --quiet \
            --out "$to/solved" >/dev/null ;;
    vec) printf '# x\n@ x f 2 3\n1 2 3\n4 5 6.5\n@ y i 2\n7 -8\n@ s s 0\nword\n' \
            >"$to/three"
        head -c 800 "$golden/rtn.vec" >"$to/rtn" ;;
    compare)
        printf 'method\tquantizer\tbudget\tconvention\tcode_bits\teffective_bits\tfile_bytes\tperplexity\tnll\tnll_error\tkl\tkl_error\ttop1\ttop1_error\tkl_above_gamma\tkl_above_gamma_error\tevaluations\tseconds\trun\tkey\ngamma\trtn\t3\tbits\t3\t3.5\t4000\t20\t3\t0.1\t0.5\t0.1\t0.9\t0.1\t-\t-\t1\t2\tr\tk\n\000# format gamma-windows 1\nwindow\tnll\tkl\ttop1\n0\t3\t0.25\t1\n1\t3\t0.75\t0.8\n' \
            >"$to/row" ;;
    choices) cp data/choices.jsonl "$to/choices" ;;
    verify) seeds_verify "$to" ;;
    command)
        printf 'solve\nscores.tsv\n--bits\n3' >"$to/solve"
        printf 'solve\nscores.tsv\n--bytes=150K\n--json\n--out\nx.tsv' \
            >"$to/bytes"
        printf 'check\nalloc.tsv\nscores.tsv' >"$to/check"
        printf 'fit\nm\n--calib\nt\n--steps=3\n--rate\n0.1' >"$to/fit"
        printf -- 'quantize\nm\n--alloc=alloc.tsv\n--out\no' >"$to/quantize"
        printf -- 'compare\nm\n--help' >"$to/help" ;;
    esac
}

dictionary() {
    case $1 in
    json|safetensors|tokenizer|config|choices|foreign|layout) echo tests/fuzz/json.dict ;;
    scores|alloc|compare|vec|npy|external) echo tests/fuzz/table.dict ;;
    command) echo tests/fuzz/command.dict ;;
    verify) echo tests/fuzz/verify.dict ;;
    text) echo tests/fuzz/text.dict ;;
    esac
}

for name in "$@"; do
    corpus=$grown/$name
    mkdir -p "$corpus" "$build/seeds/$name" "$committed/$name"
    seeds "$name" "$build/seeds/$name"
    if [ "${MINIMISE:-0}" = 1 ]; then
        # small ones only: the committed corpus is read by people, too
        new=$(mktemp -d)
        for entry in "$committed/$name"/*; do
            file=${entry##*/}
            [ ${#file} = 40 ] || [ ! -f "$entry" ] || cp "$entry" "$new"
        done
        "$build/fuzz_$name" -set_cover_merge=1 -use_counters=0 \
            -max_len=${MAX:-2048} -close_fd_mask=1 \
            "$new" "$committed/$name" "$corpus" >"$build/$name.log" 2>&1
        rm -rf "${committed:?}/$name" && mv "$new" "$committed/$name"
        chmod 755 "$committed/$name"
        continue
    fi
    case $name in
    tokenizer) length=24000 ;;      # 256 bytes in a vocabulary take 18 kB
    safetensors) length=4096 ;;
    command) length=256 ;;          # each of its --budgets is a solve
    *) length=2048 ;;
    esac
    mask=1                          # what the program prints
    case $name in command|verify) mask=3 ;; esac
    status=0
    nice -n 15 "$build/fuzz_$name" -runs="$runs" -max_total_time="$seconds" \
        -max_len=$length -timeout=600 -rss_limit_mb=2048 -malloc_limit_mb=256 \
        -dict="$(dictionary "$name")" -artifact_prefix="$build/$name-" \
        -report_slow_units=600 -close_fd_mask=$mask -print_final_stats=1 "$corpus" "$committed/$name" \
        "$build/seeds/$name" >"$build/$name.log" 2>&1 || status=$?
    echo "$name: $(sed -n 's/^Done \(.*\)/\1/p' "$build/$name.log")"
    [ $status = 0 ] || { tail -n 40 "$build/$name.log"; exit 1; }
done
