#!/bin/sh
# mutants.sh: tests of the tests.  Each line of tests/mutants.txt names a source
# file, a test (a program, or a script that takes the program as $GAMMA) and a
# change of one line; the change is made in a copy, compiled, linked with
# everything else as it is (no sanitizers), and the test must fail.  A mutant
# that survives, does not compile, or whose line is not there exactly once,
# fails the run; so does a test that fails with nothing changed, for it kills
# anything.  Each runs in a directory of its own.  `make mutants` sets the
# variables; writes build/mutants only.
#   sh tests/mutants.sh             all of them
#   sh tests/mutants.sh PATTERN     those whose line has PATTERN
#   sh tests/mutants.sh --one N     line N of the list; a test's name: unchanged
# SPDX-License-Identifier: GPL-3.0-or-later
list=tests/mutants.txt dir=build/mutants
tab=$(printf '\t')
export ASAN_OPTIONS=allocator_may_return_null=1 OMP_WAIT_POLICY=passive

if [ "$1" != --one ]; then
    start=$(date +%s)
    mkdir -p $dir
    awk -F "$tab" -v p="$1" 'NF == 4 && $1 !~ /^#/ && index($0, p) {
            if (!seen[$2]++) print $2; line[++n] = NR }
        NF != 4 && NF > 0 && $1 !~ /^#/ { line[++n] = "bad-line-" NR }
        END { for (i = 1; i <= n; i++) print line[i] }' $list |
        xargs -P "$(nproc)" -I{} sh "$0" --one {} >$dir/log
    grep -v -e '^killed' -e '^passes' $dir/log
    killed=$(grep -c '^killed' $dir/log) all=$(grep -vc '^passes' $dir/log)
    echo "mutants: $killed killed, $((all - killed)) not," \
        "in $(($(date +%s) - start)) s"
    [ "$killed" -eq "$all" ] && [ "$all" -gt 0 ]
    exit
fi

case $2 in
test_*) line="$tab$2$tab$tab" ;;
*) line=$(sed -n "$2p" $list) ;;
esac
field() { printf '%s\n' "$line" | cut -f "$1"; }
file=$(field 1) test=$(field 2) name=${file%.c} work=$dir/$2 root=$PWD
mkdir -p "$work/build/test" "$work/build/double"
trap 'rm -rf "$work"' EXIT
for i in docs tools gamma Makefile README.md gamma.h; do
    ln -sfn "$root/$i" "$work/$i"
done
# linked file by file: what a mutant removes or replaces there stays here
cp -rlf "$root/data" "$root/tests" "$work"

# the copy with the change; awk's index() takes the text as it stands
printf '%s\n' "$line" >"$work/line"
for source in */*.[ch]; do
    case $source in tests/* | tools/* | "$file") continue ;; esac
    mkdir -p "$work/${source%/*}"
    ln -sf "$root/$source" "$work/$source"
done
ln -sf "$root/build/test/faults.so" "$work/build/test"
[ -z "$file" ] || awk -F "$tab" 'NR == FNR { from = $3; to = $4; next }
    { line = $0
      if ((at = index(line, from))) {
          hits++
          line = substr(line, 1, at - 1) to substr(line, at + length(from))
      }
      print line }
    END { exit hits == 1 ? 0 : 1 }' "$work/line" "$file" >"$work/$file" ||
    { echo "STALE     $2 $file: $(field 3)"; exit 0; }

flags="$FLAGS -O1" build=$OBJECTS parts="$LIB $COMMANDS gamma_main" source=tests/$test.c run=./run
case $test in
*.sh) parts="$LIB $MAIN" source='' run="sh tests/$test" ;;
*grad*) flags="$flags -DGM_DOUBLE" build=build/double parts=$LIB ;;
*products) LDLIBS="$LDLIBS -Wl,--wrap=gm_gemm" ;;
esac
objects=
for o in $parts; do
    [ "$o" = "$name" ] || objects="$objects $build/$o.o"
done
# shellcheck disable=SC2086
$CC $flags -w -I. -Itests $source ${file:+"$work/$file"} $objects $LDLIBS \
    -o "$work/run" >"$work/log" 2>&1 ||
    { echo "NO BUILD  $2 $file: $(field 3)"; sed 's/^/    /' "$work/log"; exit 0; }
# the programs that it calls; sanitized ones want more memory than below
[ "$test" = test_external.sh ] && for i in external labels; do
    objects=
    for o in $LIB $COMMANDS gamma_main; do objects="$objects $build/$o.o"; done
    # shellcheck disable=SC2086
    $CC $flags -w -I. -Itests tests/test_$i.c $objects $LDLIBS \
        -o "$work/build/test/test_$i" >>"$work/log" 2>&1
done
export GAMMA=./run STOP=1
# one that asks for memory without end shall not take the machine's
# shellcheck disable=SC2086
if (cd "$work" && ulimit -v 8000000 && timeout 300 $run) >"$work/log" 2>&1; then
    [ -n "$file" ] || { echo "passes    $test"; exit 0; }
    echo "SURVIVED  $2 $file ($test): $(field 3) -> $(field 4)"
elif [ -n "$file" ]; then
    echo "killed    $2 $file ($test): $(field 3) -> $(field 4)"
else
    echo "BROKEN    $test: fails with nothing changed"
    grep FAILED "$work/log" | head -n 5 | sed 's/^/    /'
fi
