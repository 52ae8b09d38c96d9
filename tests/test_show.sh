#!/bin/sh
# test_show.sh: `gamma show` and what `gamma solve` prints.  Claims: a group by
# hand; rows of models as torch has them, by another way to GPTQ
# (tests/golden/show.tsv); grids as drawn here, colours on a terminal alone;
# every key of the certificate where it is asked for; what does not go together
# is refused.
# SPDX-License-Identifier: GPL-3.0-or-later
w=${WORK:-build/test/show-work}
. tests/shell.sh
tab=$(printf '\t')

# tabbed: lines of words as lines of cells
tabbed() { tr ' ' "$tab"; }

# ------------------------------------------------------------ a group by hand
# lo -1, hi 0.9, scale 1.9/3, in fp16 0.63330078125; zero round(1.579) = 2
succeed show --values -1,-0.2,0.1,0.9 --bits 2
is "four weights" "$(cat "$w/out")" "$(tabbed <<'END'
quantizer bits group lo hi scale fp16 zero sum_e2
rtn 2 0 -1 0.9 0.633333 0.633301 2 0.1922

j w c q e
0 -1 0 -1.2666 0.266602
1 -0.2 2 0 -0.2
2 0.1 2 0 0.1
3 0.9 3 0.633301 0.266699
END
)"
# one bit: 0 and 2 are exact, 1 is a tie, which goes to the even code; then a
# group without a scale, and one beyond fp16, whose scale ends at 65504
succeed show --values 0,1,2 --bits 1
is "a tie" "$(tail -n 3 "$w/out")" "$(tabbed <<'END'
0 0 0 0 0
1 1 0 0 1
2 2 1 2 0
END
)"
succeed show --values 0,0 --bits 8
is "zeros" "$(sed -n 2p "$w/out")" "$(echo rtn 8 0 0 0 0 1 0 0 | tabbed)"
succeed show --values=-1e6 --bits 1
is "a wide group" "$(sed -n '2p;$p' "$w/out")" "$(tabbed <<'END'
rtn 1 0 -1e+06 0 1e+06 65504 1 8.733e+11
0 -1e+06 0 -65504 -934496
END
)"
# symmetric: lo -1, hi 1, zero 2^(b-1), though hardly a weight is above 0
succeed show --values -1,-0.2,-0.6,0.1 --bits 2 --symmetric
is "symmetric" "$(cat "$w/out")" "$(tabbed <<'END'
quantizer bits group lo hi scale fp16 zero sum_e2
rtn 2 0 -1 1 0.666667 0.666504 2 0.1653

j w c q e
0 -1 0 -1.33301 0.333008
1 -0.2 2 0 -0.2
2 -0.6 1 -0.666504 0.0665039
3 0.1 2 0 0.1
END
)"
succeed show --values 0,0 --bits 8 --symmetric
is "zeros, symmetric" "$(sed -n 2p "$w/out")" \
    "$(echo rtn 8 0 0 0 0 1 128 0 | tabbed)"
expect 2 'gamma: --symmetric: expected 2 bits or more, found 1, whose only '\
'values would be 0 and -2 max |w|' show --values 1 --bits 1,2 --symmetric
# the least squared error: r of 1, 0.99, ..., 0.21, found here by trying all
for values in 0.1,0.2,0.3,2 -3,0.5,0.6,0.7,-0.4,0.1; do
    succeed show --values $values --bits 2 --scales mse
    awk -F '\t' -v list=$values '
        function round(x,  n) { n = int(x + 0.5); if (x < 0) n = -int(0.5 - x)
            return n }
        NR == 2 { hi = $5; lo = $4; fp16 = $7; found = $9 }
        END { n = split(list, w, ",")
            for (i = 1; i <= n; i++) { if (w[i] > top) top = w[i]
                if (w[i] < low) low = w[i] }
            for (p = 100; p > 20; p--) {
                s = (top - low) * p / 300; z = round(-low * p / 100 / s); e = 0
                for (i = 1; i <= n; i++) { c = round(w[i] / s) + z
                    c = c < 0 ? 0 : c > 3 ? 3 : c
                    e += (w[i] - (c - z) * s) ^ 2 }
                if (p == 100 || e < least) { least = e; r = p } }
            d = found / least - 1
            a = hi - top * r / 100; b = lo - low * r / 100
            if (d > 3e-3 || d < -3e-3 || a ^ 2 + b ^ 2 > 1e-10 ||
                (fp16 / ((hi - lo) / 3) - 1) ^ 2 > 2 ^ -22)
                print "r " r ", error " least }' "$w/out" >"$w/wrong"
    is "mse of $values" "$(cat "$w/wrong")" ""
done

# ----------------------------------------------------- rows of models, by torch
# codes, zeros, columns exact; float32 and double differ by less than the six
# digits printed (5e-7 measured); sums are printed with four
calls=0
rm -f "$w"/call-*
awk -v w="$w" -F '\t' '/^#/ { next } $1 == "call" { n++
        print $2 >(w "/call-" n); next }
    $1 == "loss" { print $2 " bits, " $3 "\t" $4 >(w "/call-" n ".loss"); next }
    { print >(w "/call-" n ".rows") }' tests/golden/show.tsv
for call in "$w"/call-[0-9]; do
    calls=$((calls + 1))
    # shellcheck disable=SC2046
    "$gamma" show $(cat "$call") >"$w/out" 2>"$w/err" ||
        bad "show $(cat "$call"): $(tail -n 1 "$w/err")"
    grep -v -e '^quantizer' -e "^j$tab" -e '^$' "$w/out" >"$w/rows"
    sed -n 's/: (w - q) H (w - q)^T = /\t/p' "$w/err" >"$w/loss"
    : >>"$call.loss"
    cat "$call.rows" "$call.loss" >"$w/theirs"
    cat "$w/rows" "$w/loss" >"$w/ours"
    wrong=$(paste "$w/theirs" "$w/ours" | awk -F '\t' '{ n = NF / 2
        for (i = 1; i <= n; i++) { a = $i; b = $(n + i); d = a - b
            # words and whole numbers are equal, the others near
            if (d < 0) d = -d
            exact = a ~ /^-?[0-9]+$/ || a !~ /^-?[0-9.e+-]+$/
            near = 2e-6 + 6e-4 * (a < 0 ? -a : a) * (n != 10 && n != 5)
            if (exact ? a != b : d > near) {
                print "line " NR ", cell " i ": " b ", torch " a; exit } } }
        END { if (NR < 10) print NR " lines" }')
    is "$(cat "$call")" "$wrong$(wc -l <"$w/ours")" "$(wc -l <"$w/theirs")"
done
is "calls" $calls 6
# in the packed file of gamma quantize the row has the codes that are shown
# shellcheck disable=SC2086
set -- --calib data/calib.txt --sequences 4 --length 64
succeed show data/tiny-llama model.layers.1.mlp.up_proj --row 3 --bits 3 \
    --group 32 --quantizer gptq "$@"
awk -F '\t' 'NF == 10 && $1 != "j" { print $7 }' "$w/out" >"$w/codes"
printf 'module\tbits\n' >"$w/all3.tsv"
for l in 0 1 2 3 4 5 6 7; do
    for j in self_attn.q self_attn.k self_attn.v self_attn.o mlp.gate mlp.up \
        mlp.down; do
        printf 'model.layers.%d.%s_proj\t3\n' $l $j >>"$w/all3.tsv"
    done
done
succeed quantize data/tiny-llama --alloc "$w/all3.tsv" --bits 3 --group 32 \
    --quantizer gptq "$@" --cache "$w" --format packed --out "$w/packed"
# 128 codes of 3 bits: 48 bytes a row, at the tensor's offset behind the header
start=$(od -An -t u8 -N 8 "$w/packed" | tr -d ' ')
at=$(head -c $((8 + start)) "$w/packed" | tail -c "$start" |
    sed 's/.*"model.layers.1.mlp.up_proj.codes"[^[]*\[[^[]*\[\([0-9]*\),.*/\1/')
od -An -v -t u1 -w1 -j $((8 + start + at + 3 * 48)) -N 48 "$w/packed" | awk '
    { for (i = 0; i < 8; i++) { bit[n++] = $1 % 2; $1 = int($1 / 2) } }
    END { for (i = 0; i < n; i += 3)
        print bit[i] + 2 * bit[i + 1] + 4 * bit[i + 2] }' >"$w/packed.codes"
same "$w/codes" "$w/packed.codes"

# an input that is always 0, column 2 of q, k, v in block 0: its weight is taken
# for 0, which moves nothing on
f=data/tiny-llama/model.safetensors
mkdir "$w/dead"
cp data/tiny-llama/*.json "$w/dead"
start=$(od -An -t u8 -N 8 $f | tr -d ' ')
at=$(head -c $((8 + start)) $f | tail -c "$start" | sed \
    's/.*"model.layers.0.input_layernorm.weight"[^[]*\[[^[]*\[\([0-9]*\),.*/\1/')
at=$((8 + start + at + 4))      # of BF16
{ head -c $at $f; printf '\0\0'; tail -c +$((at + 3)) $f; } \
    >"$w/dead/model.safetensors"
for order in "" --act-order; do
    # shellcheck disable=SC2086
    succeed show "$w/dead" model.layers.0.self_attn.q_proj --bits 2 \
        --quantizer gptq $order "$@"
    is "a dead column $order" "$(awk -F '\t' 'NF == 10 && $1 == 2 {
        print $2 != 0, $6, $8, $9, $10 + 0 }' "$w/out")" "1 0 0 0 0"
done

# one group of a row is the row's part; JSON has the same cells
m="data/tiny-llama model.layers.1.mlp.up_proj --row 3 --group 32"
# shellcheck disable=SC2086
{
    succeed show $m --bits 2,3
    cp "$w/out" "$w/row"
    succeed show $m --bits 2,3 --nth 2
    is "--nth 2" "$(cat "$w/out")" "$(awk -F '\t' '/^$/ || /^[qj]/ ||
        (/^rtn/ && $3 == 2) || (/^[0-9]/ && $1 >= 64 && $1 < 96)' "$w/row")"
    succeed show $m --bits 2,3 --json
}
tr -d '\n[]{}' <"$w/out" | sed 's/"[a-z]*": *"grids": *//; s/"[a-z_0-9]*"://g
    s/[",]/ /g' | tr -s ' ' '\n' | grep -v '^$' >"$w/json"
awk '/^rtn/ && b != $2 { b = $2; printf "%d\n", b }
    /^(rtn|[0-9])/ { for (i = 1; i <= NF; i++) print $i }' "$w/row" >"$w/cells"
same "$w/json" "$w/cells"

# -------------------------------------------------------------------- grids
# two blocks, 9 and 12, out of order, of three modules; one with no block
{
    echo "# format gamma-scores 1"
    echo module out in weights 2.bytes 2.score 2.stderr 16.bytes 16.score \
        16.stderr | tabbed
} >"$w/s.tsv"
row() {     # row MODULE SCORE
    printf '%s\t4\t8\t32\t8\t%s\t-\t64\t0\t-\n' "$1" "$2" >>"$w/s.tsv"
}
row m.12.mlp.up 256
row m.9.attn.q 1
row m.9.mlp.up 0
row lm_head 2.1
row m.12.attn.q 16.1
succeed show "$w/s.tsv"
# log2 of the scores: 8, 0, (none), 1.07, 4.01; eight steps of log2 = 1
is "scores, ASCII" "$(cat "$w/out")" "score at the fewest bits less that at \
the most, . 1 to @ 256:
         0         10
up                .  @
q                 .  +
lm_head  :"
LC_ALL='' LC_CTYPE='' LANG=de_DE.utf8 "$gamma" show "$w/s.tsv" --quiet >"$w/out"
is "scores, UTF-8" "$(tail -n 3 "$w/out")" "up                ▁  █
q                 ▁  ▅
lm_head  ▂"
LC_ALL='' LC_CTYPE=C LANG=C.UTF-8 "$gamma" show "$w/s.tsv" --quiet >"$w/out"
is "LC_CTYPE before LANG" "$(tail -n 1 "$w/out")" "lm_head  :"
succeed show "$w/s.tsv" --json
is "scores, JSON" "$(head -n 1 "$w/out")" \
    '[{"module": "m.12.mlp.up", "sensitivity": 256},'
# all alike; none at all
sed 's/2.1\t-\t64/1\t-\t64/; s/\(256\|16.1\)\t-/1\t-/; s/8\t0\t-/8\t1\t-/' \
    "$w/s.tsv" >"$w/alike.tsv"
succeed show "$w/alike.tsv"
is "all alike" "$(cut -c 10- "$w/out" | tail -n 3 | tr -d ' \n')" "....."
sed 's/\t\(256\|1\|2.1\|16.1\)\t-/\t0\t-/' "$w/s.tsv" >"$w/none.tsv"
succeed show "$w/none.tsv"
is "none" "$(tr -d ' \n' <"$w/out" | sed 's/.*most//')" \
    ",.0to@0:010up..q..lm_head."
# 65 kinds of module: 64 lines; two modules in one place; from 1000 on a number
# is no block's
awk 'BEGIN { print "module\tbits"
    for (i = 1; i <= 65; i++) print "kind" i "\t" 3 }' >"$w/a.tsv"
succeed show "$w/a.tsv"
is "many kinds" "$(sed -n '1p;2p;65,$p' "$w/out")" "bits, modules:  3: 65
kind1   3
kind64  3
not shown: 1"
printf 'module\tbits\na.0.b\t4\na.00.b\t16\na.1000.b\t2\na.999.b\t3\n' \
    >"$w/a.tsv"
succeed show "$w/a.tsv"
is "no place" "$(sed -n '1p;3,4p;$p' "$w/out" | cut -c 1-40)" \
    "bits, modules:  2: 1  3: 1  4: 1  g = 16
b  4
b  2
not shown: 1"
is "block 999" "$(grep -c '^b  *3$' "$w/out")" 1
# as many blocks a line as fit, in tens: 80 characters, then 40
awk 'BEGIN { print "module\tbits"
    for (l = 0; l < 75; l++) print "l." l ".q_proj\t" 2 + l % 7 }' >"$w/a.tsv"
succeed show "$w/a.tsv"
is "75 blocks, 80 characters" "$(cat "$w/out")" "bits, modules:  2: 11  3: 11  \
4: 11  5: 11  6: 11  7: 10  8: 10
        0         10        20        30        40        50        60
q_proj  2345678234567823456782345678234567823456782345678234567823456782345678
        70
q_proj  23456"
succeed show "$w/a.tsv" --json
is "bits, JSON" "$(head -n 2 "$w/out" | tail -n 1)" \
    ' {"module": "l.1.q_proj", "bits": 3},'
# where a module lacks candidates, those that it has
tabbed >"$w/b.tsv" <<'END'
module weights 2.bytes 2.score 3.bytes 3.score 4.bytes 4.score
a.0.q 32 - - 12 5 16 1
a.1.q 32 8 1 12 .5 - -
END
succeed show "$w/b.tsv" --json
is "candidates that a module lacks" "$(grep -o '[0-9.]*}' "$w/out" |
    tr '\n' ' ')" "4} 0.5} "
if command -v script >/dev/null; then
    # terminal COLUMNS ARGS..: what comes out on one
    terminal() {
        columns=$1
        shift
        script -qec "stty cols $columns rows 24; $gamma $*" /dev/null \
            </dev/null | tr -d '\r'
    }
    is "75 blocks, 40 characters" "$(NO_COLOR=1 terminal 40 show "$w/a.tsv" \
        --quiet | sed -n 2,3p)" \
        "        0         10        20
q_proj  234567823456782345678234567823"
    is "75 blocks, 9 characters" "$(NO_COLOR=1 terminal 9 show "$w/a.tsv" \
        --quiet | tail -n 1)" "q_proj  23456"
    printf 'module\tbits\na.0.q\t2\na.1.q\t12\n' >"$w/a.tsv"
    esc=$(printf '\033')
    is "in colour" "$(NO_COLOR='' terminal 80 show "$w/a.tsv" --quiet |
        tail -n 1)" "q  $esc[30;41m2$esc[0m$esc[7mc$esc[0m"
    # too wide by a character: in two parts, the first column in both
    is "rows in parts" "$(terminal 80 show --values 0.05,-0.025 --bits 1 \
        --quiet | head -n 5)" "quantizer  bits  group  lo        hi        \
scale       fp16        zero
rtn        1     0      -0.02500   0.05000   0.0750000   0.0750122  0

quantizer  sum_e2
rtn        0.001251"
    is "rows in columns" "$(terminal 90 show --values 0.05,-0.025 --bits 1 \
        --quiet)" "quantizer  bits  group  lo        hi        scale       fp16\
        zero  sum_e2
rtn        1     0      -0.02500   0.05000   0.0750000   0.0750122  0     0.001251

j  w         c  q         e
0   0.05000  1   0.07501  -0.02501
1  -0.02500  0   0.00000  -0.02500"
else
    echo "test_show: NOT CHECKED, missing: script (bsdutils)"
fi

# -------------------------------------------------------------- gamma solve
s=$w/s.tsv
succeed solve "$s" --bits 5 --out "$w/alloc.tsv"
is "the summary" "$(sed '/^$/,$d' "$w/out" | cut -f 1 | tr '\n' ' ')" \
    "key convention budget_asked file_bytes average_code_bits \
average_effective_bits slack gap objective_real optimal solvers "
sed -n '/^$/,$p' "$w/out" >"$w/grids"
succeed show "$s"
{ echo; cat "$w/out"; echo; } >"$w/apart"
succeed show "$w/alloc.tsv"
cat "$w/out" >>"$w/apart"
same "$w/grids" "$w/apart"
is "the bits" "$(tail -n 1 "$w/grids")" "lm_head  2"
sed -n 's/^# \([^ ]*\) /\1\t/p' "$w/alloc.tsv" >"$w/keys"
succeed solve "$s" --bits 5 --certificate
grep -v -e '^key' -e '^states' -e '^nodes' -e '^seconds' "$w/out" >"$w/all"
same "$w/all" "$w/keys"
succeed solve "$s" --bits 5 --json
is "--json has every key" "$(grep -c '"key"' "$w/out")" \
    "$(($(wc -l <"$w/keys") + 3))"

# ------------------------------------------------ what docs/learn.md shows of it
awk -v w="$w" '/^    \$ \.\/gamma show/ { n++; sub(/^    \$ /, "")
        print >(w "/learn-" n); on = 1; next }
    /^[^ ]/ { on = 0 }
    on { sub(/^    /, ""); if ($0) print >(w "/learn-" n ".out") }' docs/learn.md
for shown in "$w"/learn-[0-9]; do
    sed "s,^./gamma,$gamma," "$shown" >"$w/command"
    sh "$w/command" 2>"$w/err" | tr '\t' ' ' | grep -v '^$' >"$w/out"
    same "$shown.out" "$w/out"
done
is "commands of docs/learn.md" "$(ls "$w"/learn-[0-9] | wc -l | tr -d ' ')" 4

# ------------------------------------------------------------ what is refused
expect 2 "gamma: show: expected MODEL MODULE, SCORES.tsv, ALLOC.tsv or \
--values, found none" show
expect 2 "gamma: show: expected MODEL MODULE, SCORES.tsv, ALLOC.tsv or \
--values, found several" show "$s" --values 1
expect 2 "gamma: show: --bits belongs to a row of a model" show "$s" --bits 2
expect 2 "gamma: show: --group belongs to a row of a model" \
    show --values 1,2 --group 2
expect 2 "gamma: show: data/tiny-llama: expected one of 56 linear modules such \
as model.layers.0.self_attn.q_proj, found \"lm_head\"" \
    show data/tiny-llama lm_head
m="data/tiny-llama model.layers.7.mlp.down_proj"
# shellcheck disable=SC2086
{
    expect 2 "gamma: --row: expected 0 to 127, found 128" show $m --row 128
    expect 2 "gamma: --nth: expected a group of the row, 0 to 1, found 2" \
        show $m --nth 2
    expect 2 "gamma: show: --bits: expected 1 to 8, found 16" \
        show $m --bits 2,16
    expect 2 "gamma: show: expected one of --calib FILE, --tokens FILE.npy, found none" \
        show $m --quantizer gptq
    expect 2 "gamma: --act-order belongs to --quantizer gptq, found rtn" \
        show $m --act-order
    expect 2 "gamma: --calib belongs to --quantizer gptq, found rtn" \
        show $m --calib data/calib.txt
    expect 2 "gamma: --length goes with --calib|--tokens, found none" \
        show $m --length 8
}
for values in 1,x 1,,2 nan 1e39; do
    wrong=${values#1,} wrong=${wrong%,2}
    expect 2 "gamma: --values: expected a number from -1e+38 to 1e+38, found \
\"$wrong\"" show --values $values
done
expect 2 "gamma: --values: expected at most 512, found more" \
    show --values "$(seq -s , 513)"
succeed show --values "$(seq -s , 512)" --bits 8

finish
