#!/usr/bin/env python3
"""Generates lib/unicode.h: the character classes and the canonical composition
data that the `tokenizers` library behaves by, found by asking the library
about every code point.  (Its parts follow different versions of Unicode, so no
single version of the Unicode database would give the same ids.)

    python tools/make_unicode.py > lib/unicode.h

SPDX-License-Identifier: GPL-3.0-or-later
"""
import random
import sys

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
CATEGORIES = """Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk
    So Zs Zl Zp Cc Cf Co Cs Cn""".split()
FLAGS = ["SPACE", "DIGIT", "WORD", "PUNCTUATION", "HAN", "W",
         "NFC_MAYBE"]
ZERO = 0, 0, 0             # of tables that hold few characters, to search them
NFC, NFD = normalizers.NFC(), normalizers.NFD()


def blocks(size=2048):
    for i in range(0, len(POINTS), size):
        yield POINTS[i:i + size]


def regex_class(pattern):
    """Code points that the regular expressions of Split find."""
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(c) for block in blocks() for piece, _ in
            split.pre_tokenize_str("".join(map(chr, block))) for c in piece}


def categories():
    """{code point: index in CATEGORIES}, as regular expressions have it; the
    last one, of what is not assigned, is left out."""
    found = {}
    for i, name in enumerate(CATEGORIES[:-1]):
        if name != "Cs":
            for c in regex_class(f"\\p{{{name}}}"):
                assert c not in found
                found[c] = i
    return found


def punctuation():
    """Code points that the Punctuation pre-tokenizer cuts out."""
    split, found = pre_tokenizers.Punctuation("isolated"), set()
    for block in blocks():
        text = "a" + "a".join(map(chr, block)) + "a"
        found |= {ord(p) for p, _ in split.pre_tokenize_str(text)
                  if len(p) == 1 and p != "a"}
    return found


def digits():
    """Code points that the Digits pre-tokenizer cuts out."""
    split, found = pre_tokenizers.Digits(individual_digits=False), set()
    for block in blocks():
        text = "a" + "a".join(map(chr, block)) + "a"
        found |= {ord(p) for p, _ in split.pre_tokenize_str(text)
                  if len(p) == 1 and p != "a"}
    return found


def word():
    r"""\w of the other regular expression library, used by single_word."""
    split, found = pre_tokenizers.Whitespace(), set()
    for block in blocks():
        text = " ".join("a" + chr(c) for c in block)
        found |= {ord(p[1]) for p, _ in split.pre_tokenize_str(text)
                  if len(p) == 2 and p[0] == "a"}
    return found


def word_space():
    r"""\s of that other library, used by lstrip and rstrip."""
    split, kept = pre_tokenizers.Whitespace(), set()
    for block in blocks():
        for piece, _ in split.pre_tokenize_str(" ".join(map(chr, block))):
            kept |= set(map(ord, piece))
    return set(POINTS) - kept


def hangul(c):
    return 0xAC00 <= c <= 0xD7A3


def decompositions():
    """{code point: full canonical decomposition}, Hangul left to arithmetic."""
    full = {}
    for c in POINTS:
        text = NFD.normalize_str(chr(c))
        if text != chr(c) and not hangul(c):
            full[c] = tuple(map(ord, text))
    return full


def combining_classes():
    """{code point: class}, up to order: classes are numbered 1, 2, ... in the
    order in which the library sorts marks.  U+0345 has the highest class of
    all, so that everything it is swapped with is a mark."""
    last = 0x345

    def before(a, b):       # does a mark a move in front of a mark b?
        return NFD.normalize_str("a" + chr(b) + chr(a)) == "a" + chr(a) + chr(b)

    marks = [c for c in POINTS
             if len(NFD.normalize_str(chr(c))) == 1 and before(c, last)
             and c != last and NFD.normalize_str(chr(c)) == chr(c)]
    order = [[last]]        # one list for each class, lowest first
    for c in marks:
        low, high = 0, len(order)
        while low < high:
            mid = (low + high) // 2
            if before(c, order[mid][0]):
                high = mid
            else:
                low = mid + 1
        # c belongs right below order[low] or, if not movable, to order[low-1]
        if low and not before(order[low - 1][0], c):
            order[low - 1].append(c)
        else:
            order.insert(low, [c])
    return {c: i + 1 for i, same in enumerate(order) for c in same}


def pairs(full):
    """{composite: (first, second)}; second = 0 for a single character."""
    by_text = {}
    for c, text in sorted(full.items()):
        if text not in by_text or NFC.normalize_str("".join(map(chr, text))) \
                == chr(c):
            by_text[text] = c
    pair = {}
    for c, text in full.items():
        if len(text) == 1:
            pair[c] = (text[0], 0)
        elif len(text) == 2:
            pair[c] = text
        else:
            pair[c] = (by_text[text[:-1]], text[-1])
    return pair


def composes(pair):
    return {c for c, (a, b) in pair.items()
            if b and NFC.normalize_str(chr(a) + chr(b)) == chr(c)}


def nfc_maybe(pair, primary, ccc):
    """Code points that NFC may change or join to what stands before them: all
    others begin a stretch of text that is normalized on its own."""
    second = {pair[c][1] for c in primary}
    jamo = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    return set(ccc) | second | jamo | (set(pair) - primary)


class Tables:
    """NFC as tokenizer.c does it, to be compared with the library."""

    def __init__(self, pair, primary, ccc):
        self.pair, self.ccc = pair, ccc
        self.join = {pair[c]: c for c in primary}

    def decompose(self, c):
        if hangul(c):
            i = c - 0xAC00
            tail = [0x11A7 + i % 28] if i % 28 else []
            return [0x1100 + i // 588, 0x1161 + i % 588 // 28] + tail
        if c not in self.pair:
            return [c]
        a, b = self.pair[c]
        return self.decompose(a) + ([b] if b else [])

    def compose(self, a, b):
        if 0x1100 <= a < 0x1113 and 0x1161 <= b < 0x1176:
            return 0xAC00 + ((a - 0x1100) * 21 + b - 0x1161) * 28
        if hangul(a) and (a - 0xAC00) % 28 == 0 and 0x11A8 <= b < 0x11C3:
            return a + b - 0x11A7
        return self.join.get((a, b))

    def nfc(self, text):
        text = [d for c in text for d in self.decompose(ord(c))]
        i = 0
        while i < len(text):
            j = i
            while j < len(text) and text[j] in self.ccc:
                j += 1
            text[i:j] = sorted(text[i:j], key=self.ccc.get)
            i = j + 1
        out, starter, last = [], -1, 0
        for c in text:
            k = self.ccc.get(c, 0)
            joined = None
            if starter >= 0 and (last < k or last == 0 and
                                 starter == len(out) - 1):
                joined = self.compose(out[starter], c)
            if joined is not None:
                out[starter] = joined
                continue
            if k == 0:
                starter = len(out)
            last = k
            out.append(c)
        return "".join(map(chr, out))


def check(tables, maybe, trials):
    """The tables and the algorithm against the library: every code point, every
    pair with a few neighbours, random strings of the awkward ones."""
    awkward = sorted(maybe | {a for a, _ in tables.pair.values()}
                     | set(tables.pair))
    awkward += list(range(0xAC00, 0xAC00 + 60)) * 3 + [0x61, 0x20] * 50
    rng = random.Random(1)
    for c in POINTS:
        assert tables.nfc(chr(c)) == NFC.normalize_str(chr(c)), hex(c)
    for _ in range(trials):
        text = "".join(map(chr, rng.choices(awkward, k=rng.randint(2, 9))))
        if tables.nfc(text) != NFC.normalize_str(text):
            sys.exit("differs: " + ascii(text) + " library "
                     + ascii(NFC.normalize_str(text)) + " tables "
                     + ascii(tables.nfc(text)))


def fill(items):
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > 78:
            print(line)
            line = "   "
        line += " " + item + ","
    print(line)


def ranges(points):
    points = sorted(points)
    start = previous = points[0]
    for c in points[1:]:
        if c != previous + 1:
            yield start, previous
            start = c
        previous = c
    yield start, previous


def by_value(table):
    """[(first, last, value)] of a table {code point: value}."""
    return sorted((a, b, k) for k in set(table.values())
                  for a, b in ranges(c for c in table if table[c] == k))


def triples(name, comment, rows):
    print(f"\n/* {comment} */")
    print(f"static const uint32_t {name}[][3] = {{")
    fill([f"{{{a}, {b}, {c}}}" for a, b, c in rows])
    print("};")


HEADER = """\
/* unicode.h: generated by tools/make_unicode.py with tokenizers {version}; do
   not edit.  What that library takes for a letter, a number, white space, a
   digit or a word character, and its canonical composition, found by asking it
   about every code point.  Its parts follow different versions of Unicode: the
   categories are those of 16.0, digits those of 17.0, and the compositions
   lack what 13.0 added.

   Tables are sorted, and the first row of all but class_ranges is 0.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_UNICODE_H
#define GM_UNICODE_H

#include <stdint.h>

/* Two letters a general category, in the order of their numbers. */
static const char category_names[] =
    "{names}";

/* Beside its category a character has flags: SPACE: \\s everywhere; DIGIT and
   PUNCTUATION: cut out by these pre-tokenizers; WORD: \\w of single_word; HAN:
   \\p{{Han}}; W: \\w of patterns; NFC_MAYBE: what NFC may change or join to the
   left. */
enum {{ {flags} }};
"""


def class_rows(category, space, maybe):
    found = {c: i for c, i in category.items()}
    for bit, points in enumerate((space, digits(), word(), punctuation(),
                                  regex_class(r"\p{Han}"),
                                  regex_class(r"\w"), maybe)):
        for c in points:
            found[c] = found.get(c, len(CATEGORIES) - 1) | 32 << bit
    return by_value(found)


def main():
    category, space = categories(), regex_class(r"\s")
    assert space == word_space()
    assert {c for c, i in category.items() if CATEGORIES[i] == "Nd"} == \
        regex_class(r"\d")
    full, ccc = decompositions(), combining_classes()
    pair = pairs(full)
    primary = composes(pair)
    maybe = nfc_maybe(pair, primary, ccc)
    check(Tables(pair, primary, ccc), maybe, 300000)

    print(HEADER.format(
        version=tokenizers.__version__, names="".join(CATEGORIES),
        flags=",\n       ".join(f"{name} = {i + 32}"
                               for i, name in enumerate(FLAGS))), end="")
    triples("class_ranges", "First, last, category + 32 * flags, of bits from "
            "32 on, of what has any.", class_rows(category, space, maybe))
    triples("mark_ranges", "First, last, class: combining classes are "
            "numbered in order.", [ZERO, *by_value(ccc)])
    triples("decompositions", "Whole = first + second; second 0: a single "
            "character.", [ZERO, *sorted((c, a, b) for c, (a, b) in
                                      pair.items())])
    triples("compositions", "First + second = whole, of those that are put "
            "together again.", [ZERO, *sorted((*pair[c], c) for c in primary)])
    print("\n#endif")


if __name__ == "__main__":
    main()
