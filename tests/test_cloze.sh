#!/bin/sh
# test_cloze.sh: the questions of tools/make_cloze.py about a book of random
# words: the answer is how the book goes on, its rivals are ends of other
# sentences that it does not go on with, as many words long and with the same
# first one; each place has the answer equally often, a paragraph asks once;
# same bytes again, others for another seed; too few are refused; gamma eval
# reads them.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/cloze-work
. tests/shell.sh

cloze() { python3 tools/make_cloze.py "$@" 2>"$w/err"; }

# 200 paragraphs of three sentences of 13 to 20 words, with titles
awk 'BEGIN { srand(1)
    n = split("and of to unto the a king said day came, went made", word, " ")
    for (p = 0; p < 200; p++) {
        for (s = 0; s < 3; s++) {
            line = "Behold Mr. J. Noah"
            for (i = 8 + int(8 * rand()); i; i--)
                line = line (i % 5 ? " " : "\n") word[1 + int(n * rand())]
            print line (rand() < .5 ? " end." : "\nday!")
        }
        print "" } }' >"$w/book.txt"
cat >"$w/check.py" <<'END'
import collections, json, re, sys
book = [" ".join(p.split()) for p in open(sys.argv[1]).read().split("\n\n")]
ends = {tuple(s.split()) for p in book
        for s in re.split("(?<=[.!]) (?=Behold)", p)}
asked, place, wrong = set(), collections.Counter(), 0
for line in sys.stdin:
    q = json.loads(line)
    true = q["choices"][q["answer"]]
    words = [c.split() for c in q["choices"]]
    where = [i for i, p in enumerate(book) if f"{q['context']} {true}" in p]
    rivals = [w for c, w in zip(q["choices"], words) if c != true]
    place[q["answer"]] += 1
    wrong += (len(where) != 1 or where[0] in asked or len(rivals) != 3
              or len(set(q["choices"])) != 4 or not 4 <= len(words[0]) <= 7
              or len({(len(w), w[0]) for w in words}) != 1
              or not 20 <= len(q["context"].split()) <= 45
              or any(f"{q['context']} {' '.join(r)}" in book[where[0]]
                     or not any(tuple(r) == e[-len(r):] for e in ends)
                     for r in rivals))
    asked.update(where)
print(sum(place.values()), "questions,", wrong, "wrong, answers",
      *(place[i] for i in range(4)))
END

cloze "$w/book.txt" --questions 40 >"$w/a.jsonl"
is check "$(python3 "$w/check.py" "$w/book.txt" <"$w/a.jsonl")" \
    "40 questions, 0 wrong, answers 10 10 10 10"
cloze "$w/book.txt" --questions 40 >"$w/b.jsonl"
if cmp -s "$w/a.jsonl" "$w/b.jsonl"; then ok; else bad "not the same bytes"; fi
cloze "$w/book.txt" --questions 40 --seed 2 >"$w/b.jsonl"
if cmp -s "$w/a.jsonl" "$w/b.jsonl"; then bad "seed 2 as seed 1"; else ok; fi
is "seed 2" "$(python3 "$w/check.py" "$w/book.txt" <"$w/b.jsonl")" \
    "40 questions, 0 wrong, answers 10 10 10 10"
cloze "$w/book.txt" --questions 201 >"$w/none"
is "exit code, too few" $? 1
is "too few" "$(sed 's/found [0-9]*/found N/' "$w/err")" \
    "1 books: expected 201 questions, found N; give more books"
quick eval data/tiny-llama --eval data/test.txt --window 64 --windows 1 \
    --choices "$w/a.jsonl"
is questions "$(awk -F '\t' 'NR == 1 { for (i = 1; i <= NF; i++)
    if ($i == "questions") at = i } NR == 2 { print $at }' "$w/out")" 40
finish
