#!/bin/sh
# test_layers.sh: calls go downwards only.  Reads from the object files (nm)
# which file defines each gm_ function and who calls it, and compares with the
# layers below: a file may call its own layer's lower neighbours only.
# SPDX-License-Identifier: GPL-3.0-or-later
# file: the files it may call (solver, dynamic and glpk are one layer in three files)
allowed='
base:
profile: base
kernels: base profile
unicode:
io: base profile
tokenizer: base io unicode
checkpoint: base profile io kernels
model: base profile kernels checkpoint
quant: base profile io kernels
gptq: base profile io kernels quant
external: base io checkpoint quant
mpi: base checkpoint model
candidates: base io kernels checkpoint model quant gptq external mpi
baq: base io kernels checkpoint quant gptq external candidates
solver: base profile dynamic glpk
dynamic: base solver
glpk: base io solver dynamic
frontier: base kernels solver allocate
constrain: base io
tables: base io quant
check: base io tables
allocate: base solver glpk tables
export: base io checkpoint quant candidates
gamma: base io kernels checkpoint model quant candidates tables export relax state mpi
relax: base profile kernels
state: base io
plan: base profile io kernels checkpoint model quant gptq candidates solver glpk eval taylor
plot: base io kernels
choice: base io tokenizer eval
compare: base io eval tables rivals plot
eval: base profile kernels checkpoint model quant candidates
taylor: base kernels checkpoint model quant candidates eval
objective: base kernels checkpoint model quant candidates eval taylor
search: base kernels
rivals: base kernels solver glpk tables allocate gamma taylor objective search
dump: base io kernels checkpoint model quant gptq candidates gamma tables state relax
verify: base io dump
signs: base io checkpoint model verify
'
passed=0 failed=0
map=$(mktemp)
trap 'rm -f "$map"' EXIT
for name in $(echo "$allowed" | sed -n 's/^\([a-z]*\):.*/\1/p'); do
    [ -f "build/test/$name.o" ] || continue
    nm "build/test/$name.o" | awk -v f="$name" '$2 ~ /[TDBR]/ { print $3, f }'
done >"$map"
for name in $(echo "$allowed" | sed -n 's/^\([a-z]*\):.*/\1/p'); do
    [ -f "$name.c" ] || continue
    if [ ! -f "build/test/$name.o" ]; then
        echo "FAILED build/test/$name.o is missing"
        failed=$((failed + 1))
        continue
    fi
    may=" $name $(echo "$allowed" | sed -n "s/^$name://p") "
    wrong=$(nm "build/test/$name.o" | awk '$1 == "U" { print $2 }' |
        awk -v may="$may" 'NR == FNR { at[$1] = $2; next }
            $1 in at && index(may, " " at[$1] " ") == 0 { print $1, "in", at[$1] }' \
            "$map" -)
    if [ -z "$wrong" ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED $name.c calls upwards or sideways: $wrong"
    fi
done
# every source file but the command line has a layer
for file in *.c; do
    name=${file%.c}
    case $name in main*) continue ;; esac
    if echo "$allowed" | grep -q "^$name:"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED $file has no layer in tests/test_layers.sh"
    fi
done
# nothing but the command line prints to the terminal or ends the program
for file in *.c; do
    case $file in main*) continue ;; esac
    wrong=$(nm "build/test/${file%.c}.o" 2>/dev/null |
        awk '$1 == "U" && $2 ~ /^(exit|abort|printf|puts|putchar|perror|stderr|stdout)(@.*)?$/ { print $2 }')
    if [ -z "$wrong" ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED $file uses $wrong"
    fi
done
echo "test_layers: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
