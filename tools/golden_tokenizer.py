#!/usr/bin/env python3
"""Golden tokenizers and the ids that the `tokenizers` library gives with them.

    python tools/golden_tokenizer.py tests/golden [TRAINING_TEXT ...]

Trains small BPE tokenizers on the given texts, five over bytes, two as
SentencePiece does, or takes those that are there, and writes

    tests/golden/tokenizer-NAME/tokenizer.json
    tests/golden/tokenizer-cases.json       hard strings
    tests/golden/tokenizer.vec              ids, or their count and hash
    tests/golden/tokenizer-small.json       [tokenizer.json, texts, ids] each
    tests/golden/tokenizer-families.json    [name, tokenizer, its steps, count
                                            and hash of the ids] each

for tests/test_tokenizer.c.  tests/golden/tokenizer-text.txt is written by hand
and only read.  Every tokenizer has, after its trained merges, one of "a", "1"
and "!" with each first byte of a longer character: it is these that make the
class of a character visible in the ids.

SPDX-License-Identifier: GPL-3.0-or-later
"""
import json
import os
import random
import sys

import tokenizers
from tokenizers import (AddedToken, Regex, Tokenizer, models, normalizers,
                        pre_tokenizers, trainers)

import check_tokenizer
import make_unicode

GPT2 = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
        r"|\s+(?!\S)|\s+")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
# Bytes that some tokenizers get no token for: control characters, bytes that
# cannot occur, and one that can (the first of U+C0000 to U+FFFFF).
RARE = [*range(9), *range(11, 32), 127, 0xC0, 0xC1, 0xF3, *range(0xF5, 0x100)]


def byte_characters():
    """The character that stands for each byte."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in shown]
    return {**{b: chr(b) for b in shown},
            **{b: chr(256 + i) for i, b in enumerate(rest)}}


BYTES = byte_characters()


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated", invert=False)


def byte_level(prefix, regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def configurations():
    """name: (normalizer, pre-tokenizer, model options, has all bytes)"""
    sequence = pre_tokenizers.Sequence
    return {
        "gpt2": (None, byte_level(True, True), {"unk_token": "<unk>"}, False),
        "smollm2": (None, sequence([
            pre_tokenizers.Digits(individual_digits=True),
            byte_level(False, True)]), {}, False),
        "llama3": (None, sequence([split(LLAMA3), byte_level(False, False)]),
                   {"ignore_merges": True}, True),
        "qwen2": (normalizers.NFC(),
                  sequence([split(QWEN2), byte_level(False, False)]), {},
                  True),
        "mixed": (normalizers.Sequence([normalizers.NFC()]), sequence([
            pre_tokenizers.Digits(individual_digits=False), split(GPT2),
            byte_level(True, True)]),
            {"unk_token": "<unk>", "fuse_unk": True}, False),
        # SentencePiece's way: Llama 2 as it was converted first, and with
        # Metaspace instead; the latter lacks some bytes, so <unk> occurs
        "llama2": (normalizers.Sequence([
            normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]),
            None, {"unk_token": "<unk>", "fuse_unk": True,
                   "byte_fallback": True}, True),
        "mistral": (None, pre_tokenizers.Metaspace("\u2581", "first", False),
                    {"unk_token": "<unk>", "byte_fallback": True}, False),
    }


def added_tokens(name):
    """Every flag, special or not, overlapping ones, one in decomposed form."""
    def added(content, special=False, normalized=False, **flags):
        return AddedToken(content, special=special, normalized=normalized,
                          **flags)
    tokens = [
        added("<|im_start|>", special=True), added("<|a|>"), added("<|a|>b"),
        added("<l>", lstrip=True, special=True), added("<r>", rstrip=True),
        added("<b>", lstrip=True, rstrip=True),
        added("<w>", single_word=True),
        added("<x>", single_word=True, lstrip=True, rstrip=True),
        added("<n>", normalized=True), added("<|a|>bc", normalized=True),
        added("cafe\u0301", normalized=True),
        added("\u212b", normalized=True, single_word=True),
        added("\u03a9mega", normalized=True, lstrip=True),
    ]
    if name in ("gpt2", "mixed"):
        tokens += [added("  ", normalized=True), added("\n\n")]
    return tokens


def train(name, paths):
    normalizer, pre_tokenizer, options, complete = configurations()[name]
    tokenizer = Tokenizer(models.BPE(**options))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    if "byte_fallback" in options:
        return train_pieces(name, tokenizer, paths, complete)
    alphabet = [c for b, c in BYTES.items() if complete or b not in RARE]
    special = ["<|endoftext|>"]
    special += [options["unk_token"]] if "unk_token" in options else []
    tokenizer.train(paths, trainers.BpeTrainer(
        vocab_size=800, initial_alphabet=alphabet, special_tokens=special,
        show_progress=False))
    data = json.loads(tokenizer.to_str())
    model = data["model"]
    for a in "a1!":
        for b in range(0xC2, 0xF5):
            pair = [a, BYTES[b]]
            if BYTES[b] in model["vocab"] and pair not in model["merges"]:
                model["vocab"].setdefault("".join(pair), len(model["vocab"]))
                model["merges"].append(pair)
    # a longer word that merges alone would not make, for ignore_merges
    model["vocab"].setdefault("\u0120zyxzyx", len(model["vocab"]))
    data["added_tokens"] = [t for t in data["added_tokens"]
                            if t["content"] in special]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_tokens(added_tokens(name))
    data = json.loads(tokenizer.to_str())
    if name in ("gpt2", "mixed"):           # the older way to write merges
        data["model"]["merges"] = [" ".join(m)
                                   for m in data["model"]["merges"]]
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def train_pieces(name, tokenizer, paths, complete):
    """Tokens of bytes after the special ones, then pieces.  One text without
    spaces would be one word: the trainer sees words."""
    rest = tokenizer.pre_tokenizer, tokenizer.normalizer
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", "always", True)
    tokens = [f"<0x{b:02X}>" for b in range(256)
              if complete or b not in (*RARE, 0x93)]
    tokenizer.train(paths, trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>", "<s>", "</s>", *tokens],
        limit_alphabet=120, show_progress=False))
    data = json.loads(tokenizer.to_str())
    model = data["model"]
    # runs of spaces, an unknown that merges, a space behind other characters
    for piece, pair in [("\u2581\u2581", ["\u2581"] * 2),
                        ("\u2581" * 4, ["\u2581\u2581"] * 2),
                        ("<unk><unk>", ["<unk>"] * 2),
                        ("e\u2581", ["e", "\u2581"])][:4 - complete]:
        model["vocab"].setdefault(piece, len(model["vocab"]))
        model["merges"].append(pair)
    data["added_tokens"] = data["added_tokens"][:3]
    for token in data["added_tokens"]:
        token["normalized"] = name == "llama2" and token["content"] == "<s>"
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_tokens(added_tokens(name))
    if rest[0]:
        tokenizer.pre_tokenizer = rest[0]
    else:
        tokenizer.pre_tokenizer = None
    if rest[1]:
        tokenizer.normalizer = rest[1]
    data = json.loads(tokenizer.to_str())
    if name == "llama2":
        data["model"]["merges"] = [" ".join(m)
                                   for m in data["model"]["merges"]]
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


HAND = [
    "", " ", "  ", "a", " a", "Hello world", "Hello, world! How's it going?",
    "I'm you're he's we'll they'd I've can't", "I'M YOU'RE HE'S WE'LL CAN'T",
    "'s's'S'sS''s 's 'll'LL'lL'Ll 're'RE've'VE'm'M'd'D't'T", "'\u017f'\u017fa",
    "'\u212a 'r 'v 'l 'e '", "it\u2019s \u2018t", "''''", "'sam 'Sam 'lloyd",
    "1", "12", "123", "1234", "12345", "1234567890123", "a1b22c333d4444",
    "\u0663\u0664\u0665\u0666 \u00bd\u00be\u2167\u00b2", "3.14 1,000 $5 5% #1",
    "\U00011de0\U00011de1 \U00010d40 \u0be6", "x1 1x  1  x", " 1  2   3",
    "\n", "\r", "\r\n", "\n\n", "\n\n\n", "\r\n\r\n", " \n", "\n ", " \n ",
    "  \n  \n  x", "a\n", "a \n", "a\nb", "a\r\nb", "a \r\n b", "a.\n\nb",
    "a!\r\n\r\n b", "!\n!", "\t", "\ta", "\t\ta", " \ta", "\t a", "a\t",
    "\tx 1",
    "\u00a0", "\u00a0a", "a\u00a0b", "a\u00a0\u00a0b", "\u3000\u3000a",
    "\u2028a\u2029b\u0085c\x0bd\x0ce", "a\x1c\x1d\x1e\x1fb", "\u180ea\u200bb",
    "   x", "x   ", "x   y", "    if x:\n\t\treturn  1\n\n\n", "a  \n\n  b",
    "\u00e9", "e\u0301", "e\u0323\u0301", "e\u0301\u0323", "\u00e9\u0323",
    "\u212b\u2126\u212a", "\u0344", "\u0958\u0915\u093c", "\uac00\u11a8",
    "\u1100\u1161", "\u1100\u1161\u11a8", "\u1100\uac00\u11a7\u11a8\u11a8",
    "\uac01\u11a8", "\U00011935\U00011930", "\U00011938", "\U0001d15e",
    "\ufb2c\ufb49", "\u0301a\u0301", "\u0301", "\u0fb2\u0f71\u0f80",
    "a\u0315\u0300\u05ae\u0300\u0062", "\u0bc7\u0bbe\u0bcd", "\u1e0a\u0323",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea",
    "\u2764\ufe0f1\ufe0f\u20e3", "\U0001f44d\U0001f3fd!", "a\U000e0001b",
    "\x00", "a\x00b", "\x01\x02", "\x7f\u0080\u009f", "\u00ad", "\ufeffa",
    "\ufffe\uffff\U0010ffff\U000f0000", "\u0378\u0379a\u0378",
    "\u0661\u06f1\u0967\uff11", "\u4e00\u4e8c\u4e09", "\u3007", "\u16ee\u2160",
    " zyxzyx", "zyxzyx", " zyxzyxa", " zyxzyx zyxzyx",
    "<|endoftext|>", "a<|endoftext|>b", "a <|endoftext|> b", "<|endoftext",
    "<|im_start|>user\nHi<|im_start|>", "<|a|>", "<|a|>b", "<|a|>bc",
    "<|a|>bcd<|a|><|a|>b", "<|a<|a|>", "x <l> y", "x  <l>  y", "<l>",
    "  <l><l>  <l>", "x <r> y", "x  <r>  y", "<r>  <r>  ", "x  <b>  y",
    "<b>  <b>", "\t\n <b> \u00a0\u3000 x", "<r>  <l>", "<r> <l>", "a<w>b",
    "a <w> b", "<w>", "a<w>", "<w>b", "_<w>", "\u0301<w>", "\u200d<w>",
    "\u00b2<w>", "!<w>!", "<w><w>", "<w>1", "a<x>b", "a <x> b", "!  <x>  !",
    "<n>", "a<n>b", "<n><|a|><n>", "caf\u00e9", "cafe\u0301",
    "a caf\u00e9s cafe\u0301\u0323", "\u00c5", "\u212b", "A\u030a",
    "x\u00c5 \u00c5", "x  \u03a9mega", "\u2126mega  \u2126mega",
    "\u2126mega\u0301", "<|a|>\u0301", "<n>\u0338", "\u0301<n>", "x<l>\u0301",
    "a\n\nb\n\n\nc", "a  b   c    d", "     ", "\u00e9" * 40, "ab" * 100,
]
LINES = {"hello": "Hello, world! How's it going?",
         "prices": "In 2024, 1,234,567 units cost $89.",
         "space": "  two\n\n three \r\n\tfour   ",
         "special": "a <l> b<|endoftext|>c<|a|>bc caf\u00e9"}


def random_cases(classes, count):
    """Short strings over characters of every kind that is treated apart."""
    rng = random.Random(2)
    common = list("  \n\r\t''aAsStTdDmMrReEvVlL1234!?.,-_<>|") + [
        "\u00a0", "\u3000", "\u017f", "\u00e9", "e\u0301", "\u0323", "\u200d",
        "\u4e2d", "\uac00", "\u1100", "\u1161", "\u11a8", "\u0915", "\u093c",
        "\u0663", "\u00bd", "\U0001f44d", "\u0085", "\u2028", "\U000f0000"]
    tokens = ["<|endoftext|>", "<l>", "<r>", "<b>", "<w>", "<x>", "<n>",
              "<|a|>", "<|a|>b", "cafe\u0301", "\u212b", "\u03a9mega", "  "]
    cases = []
    for i in range(count):
        source = common if i % 3 else common + tokens * 3
        text = "".join(rng.choices(source, k=rng.randint(1, 16)))
        if i % 5 == 0:
            text += "".join(chr(c) for c in rng.choices(classes, k=6))
        cases.append(text)
    return cases


def classes():
    """The code points on both sides of every boundary of every class, and
    those that canonical composition touches."""
    full = make_unicode.decompositions()
    ccc = make_unicode.combining_classes()
    pair = make_unicode.pairs(full)
    maybe = make_unicode.nfc_maybe(pair, make_unicode.composes(pair), ccc)
    rows = make_unicode.class_rows(make_unicode.categories(),
                                   make_unicode.regex_class(r"\s"), maybe)
    edge = {c for first, last, _ in rows
            for c in (first - 1, first, last, last + 1)
            if 0 <= c < 0x110000 and not 0xD800 <= c <= 0xDFFF}
    return sorted(edge), sorted(set(full) | set(ccc) | maybe)


def sweep(points):
    """tests/test_tokenizer.c builds the same string."""
    return "".join("a{0}1{0}!{0}<w>{0}<b>{0}".format(chr(c)) for c in points)


def nfc_sweep(points):
    return "".join("a{0}\u0323{0}\u0301".format(chr(c)) for c in points)


def long_word(length):
    x, out = 1, []
    for _ in range(length):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        out.append(chr(97 + (x >> 16) % 26))
    return "".join(out)


def marks(count):
    return "a" + "\u0301\u0323\u0345" * count


def fold(ids):
    """FNV-1a over the ids as 32-bit little-endian integers, 62 bits of it."""
    h = 0xCBF29CE484222325
    for i in ids:
        for b in i.to_bytes(4, "little"):
            h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h & 0x3FFFFFFFFFFFFFFF


def record(out, name, values):
    out.append(f"@ {name} i {len(values)}")
    for i in range(0, len(values), 12):
        out.append(" ".join(map(str, values[i:i + 12])))


def check_removed(source, cases):
    """Split that removes what does not match: the same pieces."""
    data = json.loads(source)
    for step in (data["pre_tokenizer"] or {}).get("pretokenizers", []):
        if step["type"] == "Split":
            step["behavior"], step["invert"] = "Removed", True
    a, b = Tokenizer.from_str(source), Tokenizer.from_str(json.dumps(data))
    for text in cases:
        assert a.encode(text).ids == b.encode(text).ids, text


def small():
    """Tokenizers that fit in a line: random sets of added tokens, those that
    found faults first."""
    rng, out = random.Random(2), []
    newline = {"content": "\n", "single_word": False, "lstrip": False,
               "rstrip": True, "normalized": False, "special": False}
    for i in range(40):
        data = check_tokenizer.random_added(rng)
        if i < 3:       # overlapping, left nothing of its own, twice
            newline["id"] = data["model"]["vocab"]["\n"]
            data["added_tokens"] = [
                {**newline, "lstrip": i > 0},
                *([newline, {**newline, "content": "<a>",
                             "id": len(data["model"]["vocab"])}] * (i > 1))]
        texts = check_tokenizer.added_texts(rng, data, 4)
        out.append((data, texts + ["a\n\n\nb <a> \n \n"] * (i < 3)))
    data = {**data, "added_tokens": [], "normalizer": check_tokenizer.normalizers(
        {**check_tokenizer.REPLACE, "content": ""}, check_tokenizer.PREPEND)}
    out.append((data, ["", " ", "  ", "a b"]))  # of nothing nothing is made
    for i, (data, texts) in enumerate(out):
        source = json.dumps(data, separators=(",", ":"))
        tokenizer = Tokenizer.from_str(source)
        ids = [check_tokenizer.library_ids(tokenizer, t) for t in texts]
        fine = [k for k, found in enumerate(ids) if found is not None]
        out[i] = [source, [texts[k] for k in fine], [ids[k] for k in fine]]
    return out


def families(golden, text):
    """Each family's normalizer and pre-tokenizer before a golden model."""
    for name, (normal, pre, base) in check_tokenizer.FAMILIES.items():
        data = check_tokenizer.with_steps(f"{golden}/tokenizer-{base}", normal,
                                          pre)
        steps = json.dumps({"normalizer": normal, "pre_tokenizer": pre},
                           separators=(",", ":"))[1:-1]
        ids = Tokenizer.from_str(json.dumps(data)).encode(
            text, add_special_tokens=False).ids
        yield [name, base, steps, len(ids), fold(ids)]


def write_rows(path, rows):
    with open(path, "w", encoding="ascii") as file:
        lines = (json.dumps(row, separators=(",", ":")) for row in rows)
        file.write("[" + ",\n".join(lines) + "]\n")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    golden, paths = sys.argv[1], sys.argv[2:]
    edge, composing = classes()
    cases = HAND + random_cases(edge, 400)
    with open(f"{golden}/tokenizer-cases.json", "w", encoding="ascii") as file:
        json.dump(cases, file, indent=0)
        file.write("\n")
    with open(f"{golden}/tokenizer-text.txt", encoding="utf-8",
              newline="") as file:
        text = file.read()
    out = ["# Token ids of tests/golden/tokenizer-*, for "
           "tests/test_tokenizer.c.",
           "# Made by: python tools/golden_tokenizer.py tests/golden TEXT",
           f"# with tokenizers {tokenizers.__version__}, encode(text, "
           "add_special_tokens=False).",
           "# .counts and .folds: of each string of tokenizer-cases.json;",
           "# .text .sweep .nfc .word .marks: count and fold of one long text"]
    record(out, "nfc", composing)
    for name in configurations():
        path = f"{golden}/tokenizer-{name}/tokenizer.json"
        if paths:
            source = train(name, paths)
            check_removed(source, cases)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(source + "\n")
        with open(path, encoding="utf-8") as file:
            source = file.read()
        tokenizer = Tokenizer.from_str(source)

        def ids(string):
            return tokenizer.encode(string, add_special_tokens=False).ids
        for line, string in LINES.items():
            record(out, f"{name}.{line}", ids(string))
        record(out, name + ".counts", [len(ids(s)) for s in cases])
        record(out, name + ".folds", [fold(ids(s)) for s in cases])
        for what, string in (
                ("text", text), ("sweep", sweep(edge)), ("marks", marks(5000)),
                ("nfc", nfc_sweep(composing)), ("word", long_word(100000))):
            found = ids(string)
            record(out, f"{name}.{what}", [len(found), fold(found)])
    write_rows(f"{golden}/tokenizer-small.json", small())
    write_rows(f"{golden}/tokenizer-families.json",
               families(golden, "\n".join([*cases, text])))
    with open(f"{golden}/tokenizer.vec", "w", encoding="ascii") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
