#!/bin/sh
# golden_all.sh: makes the golden vectors anew and says where each comes from.
#   sh tools/golden_all.sh PYTHON OUT [TEXT]      in the root of the repository
# OUT gets the files of tests/golden/, to be compared with `diff -r`; last
# digits depend on the versions of requirements.txt.  TEXT: what the tokenizers
# are trained on (data/README.md); without it they are left out.  mistakes/
# needs ./gamma, for the control only.  docs/golden.md describes the files.
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
python=$1 out=$2 text=${3:-} golden=tests/golden
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
mkdir -p "$out/mistakes"

# make FILES SOURCE COMMAND..: `not ours`: an implementation by other people
make_file() {
    printf '%-32s %s\n' "$1" "$2"
    shift 2
    "$@" >"$out/log" || { cat "$out/log"; exit 1; }
}
to() {          # to FILE COMMAND..: what the command prints, into FILE
    file=$1
    shift
    "$@" >"$file"
}
perplexity() {
    for name in llama qwen2 qwen3; do
        $python tools/check_perplexity.py data/test.txt "data/tiny-$name" \
            --window 256 --windows 8
    done
}

make_file kernels.vec "not ours: Python's fractions and decimal" \
    $python tools/golden_kernels.py "$out/kernels.vec"
make_file "model grad rope full, tiny-*/" "not ours: transformers" \
    $python tools/golden_model.py "$out" --full
make_file spellings.tsv "not ours: transformers" \
    $python tools/golden_spellings.py "$out/spellings.tsv"
make_file protocols.tsv "lm_eval, transformers; llama.cpp's by its formula" \
    to "$out/protocols.tsv" $python tools/golden_protocols.py --golden
make_file rtn.vec "ours: numpy from the formulas; no other has these scales" \
    $python tools/golden_quant.py "$out/rtn.vec"
make_file gptq.vec "torch's Cholesky, loop from the paper; scales are ours" \
    $python tools/golden_gptq.py data/tiny-llama data/calib.txt "$out/gptq.vec"
make_file show.tsv "torch's inverse, the surgeon's loop; scales are ours" \
    $python tools/golden_show.py "$out/show.tsv"
make_file baq.vec "ours: torch from the equations; BAQ has no public code" \
    $python tools/golden_baq.py "$out/gptq.vec" "$out/baq.vec"
make_file stage1.vec "torch's autograd over transformers' blocks" \
    $python tools/torch_stage1.py golden "$out/stage1.vec" \
    llama=$golden/tiny-llama qwen2=$golden/tiny-qwen2 qwen3=$golden/tiny-qwen3
make_file relax.vec "torch's autograd over transformers' blocks" \
    $python tools/torch_stage1.py relax "$out/relax.vec" \
    llama=$golden/tiny-llama
make_file second.vec "ours: tools/second.py; soft-corrected is ours alone" \
    $python tools/golden_second.py "$out/second.vec" \
    llama=$golden/tiny-llama qwen2=$golden/tiny-qwen2 qwen3=$golden/tiny-qwen3
make_file mckp.json "numpy's enumeration, scipy's milp for the values" \
    $python tools/golden_mckp.py "$out/mckp.json"
make_file "choice*" "not ours: lm-evaluation-harness" \
    $python tools/golden_choice.py "$out"
make_file "perplexity.vec (values only)" "not ours: transformers" \
    to "$out/perplexity.txt" perplexity
cp $golden/mistakes/tokens.npy "$out/mistakes"
make_file mistakes/ "wrong on purpose: tools/second.py, patched" \
    sh tests/mistakes.sh ./gamma "$python" "$out/mistakes"
if [ -n "$text" ]; then
    cp $golden/tokenizer-text.txt "$out"
    make_file "tokenizer*" "not ours: the tokenizers library" \
        $python tools/golden_tokenizer.py "$out" "$text"
fi
printf '%-32s %s\n' hawq-v3.vec "not ours: HAWQ-V3's published table, copied"
rm -f "$out/log"
