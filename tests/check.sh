#!/bin/sh
# check.sh: all that `make check` runs, one after the other, also what comes
# after a part that fails; then a line for each, "NAME passed in N s".
# check.sh [NAME...] does those.  Logs: build/check/NAME.log.
# SPDX-License-Identifier: GPL-3.0-or-later
set -u
out=build/check failed=0
mkdir -p "$out"
: >"$out/table"
make=${MAKE:-make}

part() {
    case $1 in
    test) $make test ;;
    mutants) $make mutants ;;
    gcc|clang|cppcheck|tidy) sh tests/analysis.sh "$1" ;;
    thread|memory|valgrind) sh tests/sanitize.sh "$1" ;;
    faults) FAULTS=all sh tests/test_faults.sh ;;
    kills) KILLS=200 sh tests/test_kill.sh ;;
    contract) sh tests/contract.sh ;;
    variants) sh tests/variants.sh ;;
    mpi) sh tests/mpi.sh ;;
    arm) sh tests/arm.sh ;;
    proofs) $make build/test/test_proof &&
        sh tools/vipr.sh "${VIPRCHK:-https://github.com/ambros-gleixner/VIPR}" ;;
    *) echo "check.sh: no part $1"; return 2 ;;
    esac
}

for name in ${*:-test mutants gcc clang cppcheck tidy thread memory valgrind \
    faults kills contract variants mpi arm proofs}; do
    began=$(date +%s) verdict=passed
    part "$name" >"$out/$name.log" 2>&1 || { verdict=FAILED failed=1; }
    line="$name $verdict in $(($(date +%s) - began)) s"
    echo "$line"
    echo "$line" >>"$out/table"
    [ $verdict = passed ] || tail -n 40 "$out/$name.log"
done
echo
cat "$out/table"
exit $failed
