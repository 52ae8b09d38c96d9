#!/usr/bin/env python3
"""Compares the C tokenizer with the `tokenizers` library.

    make build/test/encode
    python tools/check_tokenizer.py build/test/encode MODEL_DIR TEXT ...
    python tools/check_tokenizer.py build/test/encode MODEL_DIR --fuzz 20000
    python tools/check_tokenizer.py build/test/encode --added 10000

Whole files; as many random texts; as many random sets of added tokens, a few
texts each.  One line a file: its name, bytes, tokens, and "equal" or the first
difference; of fuzzing, the first differences and a count.  The exit code is 1
if there is any.  --seed N: other random ones.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import Tokenizer

PIECES = """a b e s t x the Hello re 's 'LL don't CamelCase HTTPServer ABC
    0 1 12 345 1234567 3.14 \u0661\u0662 \u00bd \u2163 \u00b2
    . , ! ? ... -- \u2014 \u00ab \u00bb ( [ ] ) { } \\ / _ @ # $ \u20ac + = < > | ~ ^
    \u00e9 e\u0301 \u0301 \u0323\u0307 \u212b \u1e9b\u0323 \uac00 \u1100\u1161\u11a8 \u0958
    \u0391\u03b1 \u0416\u0436 \u01c5 \u02b0 \u017f '\u017f \u212a \u0130 \ufb01 \u00df \u00aa
    \u4e2d\u6587 \u3042 \u30a2 \ud55c\uad6d\uc5b4 \u0e01\u0e33 \u0915\u094d\u0937 \u0645\u0631 \u05d0\u05b0
    \U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u263a\ufe0f \U00020000 \U000e0041 \U0010ffff
    \u200b \u200d \ufeff \u00ad \ufffd \u2581 \u2581\u2581 \u2581the <0x41> <0x0A> <s> </s> <unk>
    """.split() + [
    " ", " ", " ", "  ", "   ", "        ", "\n", "\n\n", "\r\n", "\r", "\t",
    "\t\t", "\v", "\f", "\x00", "\x01", "\x1b", "\x7f", "\x85", "\xa0", "\u1680",
    "\u2003", "\u2028", "\u2029", "\u202f", "\u3000", "\x1c", "\u180e"]


def random_text(rng, extra=(), most=14):
    """Pieces that are hard, those that the tokenizer adds, any character."""
    out = []
    for _ in range(rng.randint(0, most)):
        kind = rng.random()
        if kind < 0.15 and extra:
            out.append(rng.choice(extra))
        elif kind < 0.22:
            c = rng.choice([rng.randrange(0x80), rng.randrange(0x3000),
                            rng.randrange(0x110000)])
            out.append(chr(c) if not 0xD800 <= c < 0xE000 else "a")
        elif kind < 0.26:
            out.append(rng.choice(PIECES) * rng.randint(1, 6))
        else:
            out.append(rng.choice(PIECES))
    return "".join(out)


def write_texts(path, texts):
    with open(path, "wb") as file:
        file.write(b"\xff".join(t.encode() for t in texts))


def found_ids(encode, pairs):
    """A list of ids or a message for each text of each (directory, file)."""
    args = [part for pair in pairs for part in pair]
    run = subprocess.run([encode, *args], capture_output=True, check=True)
    for line in run.stdout.decode(errors="replace").split("\n")[:-1]:
        yield line if line[:1] == "!" else [int(i) for i in line.split()]


def library_ids(tokenizer, text):
    """None: the library itself gives up (a token that white space already
    taken by the one before would leave less than nothing)."""
    try:
        return tokenizer.encode(text, add_special_tokens=False).ids
    except BaseException as error:          # a PanicException is no Exception
        if "panic" not in type(error).__name__.lower():
            raise
        return None


def compare(encode, directory, tokenizer, path):
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    expected = tokenizer.encode(text, add_special_tokens=False).ids
    found = next(found_ids(encode, [(directory, path)]))
    if found[:1] == "!":
        return "failed: " + found
    head = f"{len(text.encode())} bytes, {len(expected)} tokens: "
    if found == expected:
        return head + "equal"
    at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b),
              min(len(found), len(expected)))
    return (head + f"token {at}: found {found[at:at + 8]} of {len(found)}, "
            f"expected {expected[at:at + 8]} "
            + repr([tokenizer.id_to_token(i) for i in expected[at:at + 8]]))


def differences(encode, cases, shown=10):
    """cases: (directory, tokenizer, texts) each; how many texts differ."""
    bad = total = silent = 0
    for first in range(0, len(cases), 200):
        part = cases[first:first + 200]
        for i, (directory, _, texts) in enumerate(part):
            write_texts(f"{directory}/text", texts)
        found = found_ids(encode, [(d, f"{d}/text") for d, _, _ in part])
        for directory, tokenizer, texts in part:
            for text in texts:
                got, expected = next(found), library_ids(tokenizer, text)
                total += 1
                silent += expected is None
                if expected is None or got == expected:
                    continue
                bad += 1
                if bad <= shown:
                    print(f"{directory}: {ascii(text)}\n  found {got}\n"
                          f"  expected {expected}")
    print(f"{total} texts, {bad} differ, {silent} that the library fails on")
    return bad


def open_library(path):
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def fuzz_texts(encode, directory, count, rng):
    tokenizer = open_library(directory + "/tokenizer.json")
    with open(directory + "/tokenizer.json", encoding="utf-8") as file:
        extra = [t["content"] for t in json.load(file)["added_tokens"]]
    texts = [random_text(rng, extra) for _ in range(count)]
    with tempfile.TemporaryDirectory() as scratch:
        os.symlink(os.path.abspath(directory + "/tokenizer.json"),
                   scratch + "/tokenizer.json")
        return differences(encode, [(scratch, tokenizer, texts)])


# Added tokens and texts of the same few characters, so that they contain each
# other, overlap and stand at the ends of words and texts.
ALPHABET = ["a", "b", "ab", " ", "  ", "\n", "\t", "<", ">", "<a>", "e\u0301",
            "\u00e9", "\u0301", "_", "1", "\u2581", ".", "\u3000"]


def random_added(rng):
    """A tokenizer.json of random added tokens."""
    normalizer = rng.choice(NORMALIZERS)
    pre_tokenizer = rng.choice(PRE_TOKENIZERS)
    pieces = ["<unk>", "a", "b", "ab", "ba"]
    pieces += [c for c in "<>_1.e\u00e9\u0301\u2581 \n\t\u3000"]
    pieces += list("\u0120\u010a\u0109\u00c3\u00a9\u00cc\u0123\u00e2\u0138"
                   "\u0123\u00e3\u0122")
    vocab = {p: i for i, p in enumerate(dict.fromkeys(pieces))}
    tokens, given, forms, size = [], {}, {}, len(vocab)
    for _ in range(rng.randint(1, 6)):
        content = "".join(rng.choices(ALPHABET, k=rng.randint(1, 3)))
        # of two spellings of one text the library finds either, by chance
        form = unicodedata.normalize("NFC", content)
        if forms.setdefault(form, content) != content:
            continue
        given.setdefault(content, vocab.get(content, size))
        size += given[content] == size
        tokens.append({"id": given[content], "content": content,
                       **{flag: rng.random() < 0.4 for flag in
                          ("single_word", "lstrip", "rstrip", "normalized",
                           "special")}})
    model = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": False,
             "vocab": vocab, "merges": ["a b", "b a"]}
    return {"version": "1.0", "added_tokens": tokens, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "model": model}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
         "use_regex": True}
NORMALIZERS = [None, {"type": "NFC"}]
PRE_TOKENIZERS = [BYTES, {**BYTES, "use_regex": False},
                  {**BYTES, "add_prefix_space": True}]


def added_texts(rng, data, count):
    contents = [t["content"] for t in data["added_tokens"]]
    return ["".join(rng.choices(ALPHABET + 2 * contents, k=rng.randint(0, 9)))
            for _ in range(count)]


def fuzz_added(encode, count, rng):
    with tempfile.TemporaryDirectory() as scratch:
        cases = []
        while len(cases) < count:
            directory = f"{scratch}/{len(cases)}"
            data = random_added(rng)
            os.mkdir(directory)
            with open(directory + "/tokenizer.json", "w",
                      encoding="utf-8") as file:
                json.dump(data, file)
            cases.append((directory,
                          open_library(directory + "/tokenizer.json"),
                          added_texts(rng, data, 8)))
        return differences(encode, cases)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("encode")
    parser.add_argument("directory", nargs="?")
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--fuzz", type=int, default=0)
    parser.add_argument("--added", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng, bad = random.Random(args.seed), 0
    if args.added:
        bad += fuzz_added(args.encode, args.added, rng)
    if args.fuzz:
        bad += fuzz_texts(args.encode, args.directory, args.fuzz, rng)
    if args.paths:
        tokenizer = open_library(args.directory + "/tokenizer.json")
    for path in args.paths:
        result = compare(args.encode, args.directory, tokenizer, path)
        bad += not result.endswith("equal")
        print(f"{path}: {result}", flush=True)
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
