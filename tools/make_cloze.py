#!/usr/bin/env python3
# make_cloze.py: multiple-choice questions from plain-text books, for
# `gamma eval --choices`.  Reads books, writes JSON lines to standard output.
# SPDX-License-Identifier: GPL-3.0-or-later
"""How does this sentence end?  One true ending and three of the same book.

    make_cloze.py BOOK.txt ... [--questions 500] [--seed 1] > cloze.jsonl

A question is a sentence of a paragraph with the one before it, cut before its
last 4 to 7 words; a choice is those words, or the last as many words of another
sentence of the same book that begin with the same word.  So the true ending and
its rivals are draws from one population: who sees only the endings, or guesses,
has 25 %.  The answer stands at each place equally often.  Every choice of the
tool is an order by SHA-256 of the seed and the text, so the same books, seed
and number give the same bytes on any version of Python.  The books' shares of
the questions are those of their sentences; a paragraph asks once.
"""
import argparse
import collections
import hashlib
import json
import pathlib
import re
import sys

CHOICES = 4
LAST = range(4, 8)                  # words of an ending
CONTEXT = range(20, 46)             # words before it
# A sentence ends at . ! or ?, with its quotation mark, before a capital letter;
# not behind a title or an initial.
END = re.compile(r"(?<=[.!?])(?<!Mr\.)(?<!Mrs\.)(?<!Dr\.)(?<!St\.)(?<! [A-Z]\.)"
                 r'(["\u201d]?) +(?=["\u201c]?[A-Z])')
WORD = re.compile(r"[a-z]+([-'\u2019][a-z]+)*")

Sentence = collections.namedtuple("Sentence", "context ending paragraph")


def order(seed, *what):
    """A number that puts things into an order of the seed's own."""
    return hashlib.sha256("\0".join([str(seed), *what]).encode()).digest()


def sentences(book, seed):
    """Sentences of the book that can be cut, each with what stands before."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", book)):
        text = " ".join(paragraph.replace("_", "").split())
        parts = END.sub("\\1\n", text).split("\n")
        for before, last in zip(parts, parts[1:]):
            words = last.split(" ")
            n = LAST[order(seed, "words", last)[0] % len(LAST)]
            context = [*before.split(" "), *words[:-n]]
            if len(words) < 2 * n or len(context) not in CONTEXT:
                continue
            yield Sentence(" ".join(context), " ".join(words[-n:]), number)


def plain(sentence):
    """No names, quotation marks or dashes in the ending, which would give it
    away: lower-case words, commas between, one mark at the end."""
    words = re.split(r",? ", sentence.ending[:-1])
    return sentence.ending[-1] in ".!?" and all(map(WORD.fullmatch, words))


def questions_of(title, book, seed):
    """A question for each paragraph that has a sentence with three rivals."""
    found = list(filter(plain, sentences(book, seed)))
    alike = collections.defaultdict(list)
    for s in found:
        alike[len(s.ending.split()), s.ending.split()[0]].append(s)
    used = set()
    for s in sorted(found, key=lambda s: order(seed, "take", s.context)):
        rivals = {r.ending: r for r in
                  alike[len(s.ending.split()), s.ending.split()[0]]
                  if r.paragraph != s.paragraph and r.ending != s.ending}
        if s.paragraph in used or len(rivals) < CHOICES - 1:
            continue
        used.add(s.paragraph)
        wrong = sorted(rivals, key=lambda e: order(seed, s.context, e))
        yield {"book": title, "context": s.context,
               "choices": [s.ending, *wrong[:CHOICES - 1]]}


def put_answers(questions, seed):
    """The true ending, first so far, at each place equally often."""
    mixed = sorted(questions, key=lambda q: order(seed, "place", q["context"]))
    for i, q in enumerate(mixed):
        q["answer"] = i % CHOICES
        q["choices"].insert(q["answer"], q["choices"].pop(0))


def guessers(questions):
    """Shares right of rules that read no context."""
    rules = {"first": lambda c: 0,
             "longest": lambda c: c.index(max(c, key=len)),
             "shortest": lambda c: c.index(min(c, key=len))}
    return ", ".join(
        f"{name} {sum(rule(q['choices']) == q['answer'] for q in questions)}"
        for name, rule in rules.items())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("books", nargs="+", type=pathlib.Path)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    questions = [q for path in args.books for q in questions_of(
        path.stem, path.read_text(encoding="utf-8"), args.seed)]
    if len(questions) < args.questions:
        sys.exit(f"{len(args.books)} books: expected {args.questions} "
                 f"questions, found {len(questions)}; give more books")
    possible = len(questions)
    questions.sort(key=lambda q: order(args.seed, "keep", q["context"]))
    questions = questions[:args.questions]
    put_answers(questions, args.seed)
    for q in questions:
        print(json.dumps(q, ensure_ascii=False))
    print(f"{len(questions)} of {possible} questions; right without reading, "
          f"of {len(questions)}: {guessers(questions)}", file=sys.stderr)


if __name__ == "__main__":
    main()
