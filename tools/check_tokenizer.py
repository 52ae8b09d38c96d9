#!/usr/bin/env python3
"""Compares the C tokenizer with the `tokenizers` library.

    make build/test/encode
    python tools/check_tokenizer.py build/test/encode MODEL_DIR TEXT ...
    python tools/check_tokenizer.py build/test/encode MODEL_DIR --fuzz 20000
    python tools/check_tokenizer.py build/test/encode --added 10000
    python tools/check_tokenizer.py build/test/encode --families 20000
    python tools/check_tokenizer.py build/test/encode --patterns 10000

Whole files; as many random texts; as many random sets of added tokens, or
patterns of Split, a few texts each; as many texts for each family's normalizer
and pre-tokenizer, with a vocabulary of tests/golden. One line a file: its
name, bytes, tokens, and "equal" or the first difference; of fuzzing, the first
differences and a count. The exit code is 1 if there is any. --seed N: other
random ones.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import argparse
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import Tokenizer

PIECES = """a b e s t x the Hello re 's 'LL don't CamelCase HTTPServer ABC 0 1 12 345
    1234567 3.14 \u0661\u0662 \u00bd \u2163 \u00b2 . , ! ? ... -- \u2014
    \u00ab \u00bb ( [ ] ) { } \\ / _ @ # $ \u20ac + = < > | ~ ^ \u00e9 e\u0301
    \u0301 \u0323\u0307 \u212b \u1e9b\u0323 \uac00 \u1100\u1161\u11a8 \u0958
    \u0391\u03b1 \u0416\u0436 \u01c5 \u02b0 \u017f '\u017f \u212a \u0130
    \ufb01 \u00df \u00aa \u4e2d\u6587 \u3042 \u30a2 \ud55c\uad6d\uc5b4
    \u0e01\u0e33 \u0915\u094d\u0937 \u0645\u0631 \u05d0\u05b0 \U0001f600
    \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea
    \u263a\ufe0f \U00020000 \U000e0041 \U0010ffff \u200b \u200d \ufeff \u00ad
    \ufffd \u2581 \u2581\u2581 \u2581the <0x41> <0x0A> <s> </s> <unk>
    """.split() + [
    " ", " ", " ", "  ", "   ", "        ", "\n", "\n\n", "\r\n", "\r", "\t",
    "\t\t", "\v", "\f", "\x00", "\x01", "\x1b", "\x7f", "\x85", "\xa0",
    "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u3000", "\x1c", "\u180e"]


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


def differences(encode, cases, shown=10, refusals=False):
    """cases: (directory, tokenizer, texts) each; how many texts differ."""
    bad = total = silent = 0
    reasons = collections.Counter()
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
                if refusals and got[:1] == "!":
                    reasons[got.split(";")[0].rsplit(": ", 1)[-1]] += 1
                    continue
                if expected is None or got == expected:
                    continue
                bad += 1
                if bad <= shown:
                    print(f"{directory}: {ascii(text)}\n  found {got}\n"
                          f"  expected {expected}")
    print(f"{total} texts, {bad} differ, {silent} that the library fails on")
    for reason, count in reasons.most_common():
        print(f"  {count} refused: {reason}")
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
    normalizer = rng.choice([None, None, NFC, REPLACE,
                             normalizers(PREPEND, REPLACE)])
    pre_tokenizer = rng.choice([BYTES, PLAIN, {**BYTES, "add_prefix_space":
                                               True}, None,
                                metaspace("first", False),
                                metaspace("always", True)])
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


def added_texts(rng, data, count):
    contents = [t["content"] for t in data["added_tokens"]]
    return ["".join(rng.choices(ALPHABET + 2 * contents, k=rng.randint(0, 9)))
            for _ in range(count)]


# What the families' tokenizer.json have, as published: normalizer,
# pre-tokenizer, the golden tokenizer whose vocabulary they get here.
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|[^\r\n\p{L}\p{N}]?"
         r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|")
LETTERS = ("A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf"
           "\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d"
           "\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
           "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5"
           "\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b"
           "\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d")


def split(regex, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: regex}, "behavior": behavior,
            "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def digits(individual):
    return {"type": "Digits", "individual_digits": individual}


def punctuation(behavior):
    return {"type": "Punctuation", "behavior": behavior}


def metaspace(scheme, cut, **more):
    return {"type": "Metaspace", "replacement": "\u2581",
            "prepend_scheme": scheme, "split": cut, **more}


def normalizers(*steps):
    return {"type": "Sequence", "normalizers": list(steps)}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
         "use_regex": True}
PLAIN = {**BYTES, "use_regex": False}
PREPEND = {"type": "Prepend", "prepend": "\u2581"}
REPLACE = {"type": "Replace", "pattern": {"String": " "},
           "content": "\u2581"}
NFC = {"type": "NFC"}
FAMILIES = {
    "llama-2, legacy": (normalizers(PREPEND, REPLACE), None, "llama2"),
    "llama-2, metaspace": (None, metaspace("first", False), "llama2"),
    "mistral-0.1": (normalizers(PREPEND, REPLACE), None, "mistral"),
    "mistral-0.3": (None, metaspace("first", False), "mistral"),
    "codellama infilling": (normalizers(REPLACE), None, "llama2"),
    "yi": (normalizers(REPLACE), None, "mistral"),
    "yi-1.5": (None, metaspace("never", False), "llama2"),
    "metaspace, split": (None, metaspace("always", True), "llama2"),
    "metaspace, old": (None, {"type": "Metaspace", "replacement": "\u2581",
                              "add_prefix_space": True}, "mistral"),
    "metaspace, bare": (None, metaspace("never", True,
                                        add_prefix_space=False), "mistral"),
    "gemma": (REPLACE, split(" ", "MergedWithPrevious", kind="String"),
              "llama2"),
    "phi-3 chat": (normalizers(PREPEND, REPLACE), split("\u2581", "Contiguous",
                                                        kind="String"),
                   "llama2"),
    "spaces removed": (normalizers(NFC, {
        "type": "Replace", "pattern": {"Regex": " {2,}"},
        "content": "\u2581"}), None, "llama2"),
    "gpt-2": (None, {**BYTES, "add_prefix_space": True}, "llama3"),
    "starcoder": (None, sequence(digits(True), BYTES), "llama3"),
    "command-r": (NFC, sequence(digits(True), BYTES), "llama3"),
    "falcon": (None, sequence(punctuation("Contiguous"), BYTES, digits(False),
                              split("[0-9][0-9][0-9]")), "llama3"),
    "falcon3": (None, sequence(punctuation("Contiguous"), BYTES,
                               digits(True), split("[0-9][0-9][0-9]")),
                "llama3"),
    "nested": (None, sequence(sequence(split(r"\p{N}{1,3}"),
                                       sequence(digits(False))),
                              sequence(PLAIN)), "llama3"),
    "bloom": (None, sequence(split(
        " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"), PLAIN),
        "llama3"),
    "gpt-4, cl100k": (None, sequence(split(
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"
        r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        "Removed", True), PLAIN), "llama3"),
    "llama-3": (None, sequence(split(
        CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL), PLAIN), "llama3"),
    "gpt-4o, llama-4": (None, sequence(split(
        CASED % ((CONTRACTIONS + "?",) * 2) +
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL), PLAIN), "llama3"),
    "gpt-oss": (None, sequence(split(
        CASED % ((CONTRACTIONS + "?",) * 2) +
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL, "Removed", True),
        PLAIN), "llama3"),
    "tekken": (None, sequence(split(
        CASED % ("", "") + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL),
        PLAIN), "llama3"),
    "deepseek-coder": (None, sequence(
        split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"),
        split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"), digits(True),
        PLAIN), "llama3"),
    "deepseek-llm, v2": (None, sequence(
        split("[\r\n]"), split(f"\\s?[{LETTERS}]+"),
        split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f"
              "\u3000-\u3002]+"), split(r"\s+$"),
        split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"), digits(True),
        PLAIN), "llama3"),
    "deepseek-v3": (None, sequence(
        split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f"
                                    "\u30a0-\u30ff]+"),
        split("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
              "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
              " ?[\\p{P}\\p{S}]+[\r\n]*" + TAIL), PLAIN), "llama3"),
    "kimi, han apart": (None, sequence(split(
        r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&"
        r"[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+" +
        CONTRACTIONS + r"?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
        r"&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*" +
        CONTRACTIONS + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL),
        PLAIN), "llama3"),
    "bailing": (None, sequence(split(
        r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?+\p{L}+"
        r"|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"),
        PLAIN), "llama3"),
    "chameleon": (NFC, sequence(
        split("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
        split("([\\t\\n]|    |  )"), split("<sentinel:[0-9]+>"),
        digits(True), punctuation("Isolated"),
        {**BYTES, "add_prefix_space": True}), "llama3"),
    "empty matches": (None, sequence(split(r"\d*|(?=[A-Z])", "Contiguous"),
                                     split("a?+b?"), PLAIN), "llama3"),
    "merged": (None, sequence(split(r"\s+", "MergedWithNext"),
                              split(r"\p{P}", "MergedWithPrevious", True),
                              split(r"\d", "Contiguous"), PLAIN), "llama3"),
}


def with_steps(golden, normalizer, pre_tokenizer):
    with open(f"{golden}/tokenizer.json", encoding="utf-8") as file:
        data = json.load(file)
    data["normalizer"], data["pre_tokenizer"] = normalizer, pre_tokenizer
    return data


def in_scratch(scratch, name, data):
    """(directory, tokenizer) of a tokenizer.json written there."""
    directory = f"{scratch}/{name}"
    os.mkdir(directory)
    with open(directory + "/tokenizer.json", "w", encoding="utf-8") as file:
        json.dump(data, file)
    return directory, open_library(directory + "/tokenizer.json")


def fuzz_families(encode, count, rng):
    bad = 0
    for name, (normalizer, pre_tokenizer, golden) in FAMILIES.items():
        with tempfile.TemporaryDirectory() as scratch:
            data = with_steps(f"tests/golden/tokenizer-{golden}", normalizer,
                              pre_tokenizer)
            extra = [t["content"] for t in data["added_tokens"]]
            texts = [random_text(rng, extra) for _ in range(count)]
            print(name + ": ", end="", flush=True)
            bad += differences(encode, [(*in_scratch(scratch, "m", data),
                                         texts)])
    return bad


def random_pattern(rng, depth=0):
    """A pattern that both sides know, mostly."""
    def one():
        kind = rng.randrange(9 if depth < 2 else 7)
        if kind < 3:
            return rng.choice(["a", "b", "ab", " ", "s", "'", "-", "1", "\\.",
                               "\u00e9", "\u4e2d", "\\n"])
        if kind == 3:
            return rng.choice([".", "\\s", "\\S", "\\w", "\\W", "\\d", "\\D"])
        if kind == 4:
            return rng.choice([r"\p{L}", r"\p{N}", r"\P{L}", r"\p{^Lu}",
                               r"\p{P}", r"\p{S}", r"\p{M}", r"\p{Z}",
                               r"\p{C}", r"\p{Ll}", r"\p{Han}", r"\p{Cf}"])
        if kind < 7:
            items = rng.choices(["a", "b-s", "A-Z", r"\s", r"\p{L}", r"\d",
                                 r"\p{Lu}", "\u4e00-\u9fff", "'", r"\r\n",
                                 "[^a-m]", "&&\\w", " ", r"\-", "1"],
                                k=rng.randint(1, 4))
            if items[0].startswith("&&"):
                items[0] = "x"
            return "[" + rng.choice(["", "", "^"]) + "".join(items) + "]"
        inner = random_pattern(rng, depth + 1)
        return rng.choice(["(?:%s)", "(%s)", "(?=%s)", "(?!%s)", "(?>%s)"]
                          ) % inner
    out = []
    for _ in range(rng.randint(1, 3)):
        part = []
        for _ in range(rng.randint(1, 3)):
            atom = one()
            if not atom.startswith(("(?=", "(?!")) and rng.random() < 0.5:
                if len(atom) == 1 or atom[0] in "\\[(.":
                    atom += rng.choice(["?", "*", "+", "+", "{1,3}", "{2}",
                                        "{,2}", "{2,}", "?+", "++", "*+",
                                        "{1,2}+"])
            part.append(atom)
        if rng.random() < 0.1:
            part.append(rng.choice(["$", "\\z", "\\Z"]))
        if rng.random() < 0.05:
            part.insert(0, rng.choice(["^", "\\A"]))
        out.append("".join(part))
    if rng.random() < 0.15:
        out.append("(?i:" + rng.choice(["'s", "ab|'T", "[a-d]", "k", "[^x]",
                                        "'ll|'re"]) + ")")
    return "|".join(out)


def fuzz_patterns(encode, count, rng):
    behaviors = ["Isolated", "Removed", "Contiguous", "MergedWithPrevious",
                 "MergedWithNext"]
    characters = dict.fromkeys("".join(PATTERN_TEXT) + "\u2581")
    with tempfile.TemporaryDirectory() as scratch:
        cases, refused = [], 0
        while len(cases) < count:
            pattern = split(random_pattern(rng), rng.choice(behaviors),
                            rng.random() < 0.3)
            # a mark before each piece shows in the ids where the text is cut
            data = {"version": "1.0", "added_tokens": [], "normalizer": None,
                    "pre_tokenizer": sequence(pattern,
                                              metaspace("always", False)),
                    "model": {"type": "BPE", "merges": [], "vocab": {
                        c: i for i, c in enumerate(characters)}}}
            try:
                case = in_scratch(scratch, len(cases) + refused, data)
            except Exception:           # the library refuses it
                refused += 1
                continue
            texts = ["".join(rng.choices(PATTERN_TEXT, k=rng.randint(0, 9)))
                     for _ in range(12)]
            cases.append((*case, texts))
        print(f"{refused} patterns that the library refuses; ", end="")
        return differences(encode, cases, refusals=True)


PATTERN_TEXT = ["a", "b", "ab", "s", "'", "'s", "A", "AB", " ", "  ", "\n",
                "\r\n", "-", ".", "1", "12", "\u00e9", "\u4e2d", "\u0301",
                "\u017f", "\u212a", "\u3000", "$", "\u200d", "\u0378", "x"]


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
        return differences(encode, cases, refusals=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("encode")
    parser.add_argument("directory", nargs="?")
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--fuzz", type=int, default=0)
    parser.add_argument("--added", type=int, default=0)
    parser.add_argument("--families", type=int, default=0)
    parser.add_argument("--patterns", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng, bad = random.Random(args.seed), 0
    if args.added:
        bad += fuzz_added(args.encode, args.added, rng)
    if args.families:
        bad += fuzz_families(args.encode, args.families, rng)
    if args.patterns:
        bad += fuzz_patterns(args.encode, args.patterns, rng)
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
