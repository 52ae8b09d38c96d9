# scores_agree.py A.tsv B.tsv [ALLOC-A ALLOC-B]: how far two score files of
# `gamma fit` agree: Spearman's rank correlation of all scores that are not 0,
# and the share of modules whose bits differ between two allocations.
# SPDX-License-Identifier: GPL-3.0-or-later
import sys


def table(path):
    rows = [line.rstrip("\n").split("\t") for line in open(path)
            if not line.startswith("#")]
    return rows[0], rows[1:]


def scores(path):
    head, rows = table(path)
    at = [i for i, name in enumerate(head) if name.endswith(".score")]
    return [float(row[i]) for row in rows for i in at]


def ranks(x):
    order = sorted(range(len(x)), key=lambda i: x[i])
    out = [0.0] * len(x)
    for place, i in enumerate(order):
        out[i] = place
    return out


def correlation(a, b):
    a, b = ranks(a), ranks(b)
    mean = (len(a) - 1) / 2
    top = sum((p - mean) * (q - mean) for p, q in zip(a, b))
    return top / sum((p - mean) ** 2 for p in a)


def bits(path):
    head, rows = table(path)
    at = head.index("bits")
    return [row[at] for row in rows]


pairs = [(a, b) for a, b in zip(scores(sys.argv[1]), scores(sys.argv[2]))
         if a > 0 or b > 0]
line = "%.4f" % correlation([a for a, _ in pairs], [b for _, b in pairs])
for i in range(3, len(sys.argv), 2):
    a, b = bits(sys.argv[i]), bits(sys.argv[i + 1])
    line += "\t%.1f" % (100 * sum(p != q for p, q in zip(a, b)) / len(a))
print(line)
