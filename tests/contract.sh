#!/bin/sh
# contract.sh: same inputs, same bits.  Builds tests/contract.c with gcc and
# clang at -O1 and -O3, with and without OpenMP, for this very processor
# (-march=native, where contraction would show) and, where a cross compiler
# and qemu are there, for ARM; runs each in all its instruction sets with 1, 2
# and 3 threads; fails unless all hashes are one.  Writes under build/contract.
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
out=build/contract
mkdir -p "$out"
: > "$out/hashes"
flags="-std=gnu11 -I. -ffp-contract=off -fno-math-errno -Wno-unknown-pragmas"
sources="tests/contract.c lib/base.c lib/files.c lib/tensors.c lib/kernels.c
    lib/checkpoint.c lib/tables.c lib/ranks.c model.c quant.c"
builds=0

# try RUNNER COMPILER FLAGS...
try() {
    runner=$1 compiler=$2
    shift 2
    if ! command -v "$compiler" > /dev/null ||
       { [ "$runner" ] && ! command -v "$runner" > /dev/null; }; then
        echo "contract: NOT CHECKED, missing: $compiler $* $runner"
        return 0
    fi
    $compiler $flags "$@" $sources -lm -o "$out/driver"
    $runner "$out/driver" > "$out/one"
    cat "$out/one" >> "$out/hashes"
    for hash in $(cut -d ' ' -f 1 "$out/one" | sort -u); do
        echo "$hash $(grep -c "^$hash" "$out/one") runs, $compiler $*"
    done
    builds=$((builds + 1))
}

for compiler in gcc clang; do
    for optimisation in -O1 -O3; do
        try "" "$compiler" "$optimisation" -fopenmp
        try "" "$compiler" "$optimisation"
    done
    try "" "$compiler" -O3 -march=native -fopenmp
done
try qemu-aarch64 aarch64-linux-gnu-gcc -O3 -static
try qemu-aarch64 aarch64-linux-gnu-gcc -O3 -static -fopenmp
try qemu-aarch64 clang --target=aarch64-linux-gnu -O3 -static

lines=$(wc -l < "$out/hashes")
distinct=$(cut -d ' ' -f 1 "$out/hashes" | sort -u | wc -l)
echo "contract: $builds builds, $lines runs, $distinct distinct hashes"
[ "$builds" -ge 2 ] && [ "$distinct" -eq 1 ]
