#!/bin/sh
# vipr.sh SOURCE: runs viprchk, the public checker of VIPR certificates, on
# every proof of tests/test_proof.c: it must accept the good ones and refuse the
# tampered ones.  SOURCE: viprchk.cpp, or a git URL of the repository that has
# it as code/viprchk.cpp (ambros-gleixner/VIPR).  Needs a C++ compiler, GMP with
# its C++ header (libgmp-dev), python3, and `make build/test/test_proof`.  Two
# kinds of tampering it cannot see, as its text stood in 2026: it compares a
# solution with one constraint alone (constraint[i] in the loop over j), and
# does not read on behind the last derivation.
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
out=build/vipr
mkdir -p $out
case $1 in
*.cpp) source=$1 ;;
*)  rm -rf $out/git
    git clone -q --depth 1 "$1" $out/git
    source=$out/git/code/viprchk.cpp ;;
esac
${CXX:-c++} -O2 -DNDEBUG -include limits -o $out/viprchk "$source" -lgmpxx -lgmp
KEEP=1 build/test/test_proof >$out/log || { tail -n 5 $out/log; exit 1; }
accepted=0 refused=0 unseen=0 failed=0
for file in build/test/proof-work/ok-*.vipr; do
    if $out/viprchk "$file" >$out/log 2>&1; then accepted=$((accepted + 1))
    else echo "FAILED: refused: $file: $(tail -n 1 $out/log)"; failed=1; fi
done
for file in build/test/proof-work/bad-*.vipr; do
    if ! $out/viprchk "$file" >$out/log 2>&1; then refused=$((refused + 1))
    elif python3 tools/check_vipr.py "$file" |
        grep -q -e 'a solution does not meet' -e 'words behind'; then
        unseen=$((unseen + 1))
    else echo "FAILED: accepted: $file"; failed=1; fi
done
rm -rf build/test/proof-work
echo "vipr.sh: viprchk accepted $accepted proofs, refused $refused tampered" \
    "ones, did not see $unseen (solutions, text behind the end)"
exit $failed
