"""check_vipr.py FILE...: checks certificates in VIPR 1.0, written from the text
of the format (cert_spec_v1_0.md of ambros-gleixner/VIPR; Cheung, Gleixner,
Steffy, IPCO 2017) in exact fractions.  A line for each file: "FILE: accepted:
what it proves" or "FILE: refused: why"; exit code 1 when one was refused.  Not
taken: maximisation, bounds of infinity, the reason sol (the text names it
without a rule).  Python 3 with nothing but its library.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import math
import re
import sys
from fractions import Fraction

VALUE = re.compile(r"-?[0-9]+(\.[0-9]+|/0*[1-9][0-9]*)?$")
MANY = 10 ** 9


def need(condition, why):
    if not condition:
        raise ValueError(why)


class Words:
    """The file's words, one by one, behind the lines of comment."""

    def __init__(self, text):
        lines = text.split("\n")
        while lines and lines[0].startswith("%"):
            lines.pop(0)
        self.list, self.at = "\n".join(lines).split(), 0

    def word(self):
        need(self.at < len(self.list), "the file ends early")
        self.at += 1
        return self.list[self.at - 1]

    def expect(self, *words):
        need(self.word() in words, "expected " + " or ".join(words))
        return self.list[self.at - 1]

    def index(self, end, least=0):
        word = self.word()
        need(re.match("-?[0-9]+$", word) and least <= int(word) < end,
             "expected an index below %s, found %s" % (end, word))
        return int(word)

    def value(self):
        need(VALUE.match(self.word()), "expected a value")
        return Fraction(self.list[self.at - 1])

    def pairs(self, count, end):
        out = {}
        for _ in range(count):
            i = self.index(end)
            need(i not in out, "index %d twice" % i)
            out[i] = self.value()
        return out


class Line:
    """sum a[i] x[i] <= (-1), = (0) or >= (1) side; assumed: line numbers."""

    def __init__(self, name, sense, side, a):
        self.name, self.sense, self.side = name, sense, side
        self.a = {i: v for i, v in a.items() if v != 0}
        self.assumed, self.last = frozenset(), -1

    def meets(self, value, side):
        """Whether value is <=, = or >= side, as the sense says."""
        return ((value <= side or self.sense > 0) and
                (value >= side or self.sense < 0))

    def dominates(self, other):
        if not self.a and not self.meets(0, self.side):     # absurd
            return True
        return (self.a == other.a and self.sense in (0, other.sense) and
                other.meets(self.side, other.side))


class Check:
    def __init__(self, text):
        w = self.w = Words(text)
        for word in ("VER", "1.0", "VAR"):
            w.expect(word)
        self.n = w.index(MANY)
        for _ in range(self.n):
            w.word()
        w.expect("INT")
        self.whole = {w.index(self.n) for _ in range(w.index(self.n + 1))}
        self.objective = w.expect("OBJ") and w.expect("min") and w.pairs(w.index(self.n + 1), self.n)
        w.expect("CON")
        count, _ = w.index(MANY), w.index(MANY)
        self.lines = [self.line() for _ in range(count)]
        goal = self.goal()
        w.expect("DER")
        for _ in range(w.index(MANY)):
            self.derive()
        need(w.at == len(w.list), "words behind the last line")
        need(self.lines and not self.lines[-1].assumed and
             self.lines[-1].dominates(goal), "the last line does not give, "
             "without assumptions, what is to be proven")

    def line(self):
        w = self.w
        name, sense = w.word(), "LEG".index(w.expect("L", "E", "G")) - 1
        side = w.value()
        if w.word() == "OBJ":
            return Line(name, sense, side, self.objective)
        w.at -= 1
        return Line(name, sense, side, w.pairs(w.index(self.n + 1), self.n))

    def goal(self):
        """RTP and SOL; what the last line must dominate."""
        w, high = self.w, None
        w.expect("RTP")
        self.says = w.expect("infeas", "range")
        goal = Line("", 1, Fraction(1), {})
        if self.says == "range":
            goal, high = Line("", 1, w.value(), self.objective), w.value()
            self.says += " %s %s" % (goal.side, high)
        w.expect("SOL")
        values = []
        for _ in range(w.index(MANY)):
            w.word()
            x = w.pairs(w.index(self.n + 1), self.n)
            need(self.integral(x, True), "a solution is not whole")
            for line in self.lines + [Line("", 0, 0, self.objective)]:
                value = sum(v * x.get(i, 0) for i, v in line.a.items())
                need(not line.name or line.meets(value, line.side),
                     "a solution does not meet " + line.name)
            values.append(value)
        need(not values if high is None else
             values and goal.side <= high >= min(values),
             "the solutions do not fit what is to be proven")
        return goal

    def integral(self, a, continuous=False):
        return all(v.denominator == 1 if i in self.whole else continuous
                   for i, v in a.items())

    def use(self, i):
        line = self.lines[i]
        need(not 0 <= line.last < len(self.lines), "used after its last use")
        return line

    def combine(self, rounded):
        now, a, sense, side = len(self.lines), {}, 0, Fraction(0)
        assumed = frozenset()
        for i, by in self.w.pairs(self.w.index(now + 1), now).items():
            line = self.use(i)
            assumed |= line.assumed
            sign = line.sense * ((by > 0) - (by < 0))
            need(sign * sense >= 0, "wrong sign for " + line.name)
            sense, side = sense or sign, side + by * line.side
            for j, v in line.a.items():
                a[j] = a.get(j, 0) + by * v
        out = Line("", sense, side, a)
        if rounded:
            need(sense != 0 and self.integral(out.a), "cannot be rounded")
            out.side = math.ceil(side) if sense > 0 else math.floor(side)
        return out, assumed

    def unsplit(self, line):
        now = len(self.lines)
        i1, l1, i2, l2 = (self.w.index(now) for _ in range(4))
        one, a, two, b = (self.use(i) for i in (i1, l1, i2, l2))
        need(one.dominates(line) and two.dominates(line), "not from both")
        a, b = (b, a) if a.sense > 0 else (a, b)
        need(a.sense == -1 and b.sense == 1 and a.a == b.a and
             a.side.denominator == 1 and b.side == a.side + 1 and
             self.integral(a.a), "not <= n and >= n + 1 of one sum")
        return (one.assumed - {l1}) | (two.assumed - {l2})

    def derive(self):
        line = self.line()
        self.w.expect("{")
        how = self.w.expect("asm", "lin", "rnd", "uns")
        if how == "asm":
            assumed = frozenset([len(self.lines)])
        elif how == "uns":
            assumed = self.unsplit(line)
        else:
            found, assumed = self.combine(how == "rnd")
            need(found.dominates(line), line.name + " does not follow")
        self.w.expect("}")
        line.last, line.assumed = self.w.index(MANY, -1), assumed
        self.lines.append(line)


if __name__ == "__main__":
    failed = False
    for path in sys.argv[1:]:
        try:
            with open(path, encoding="utf-8") as file:
                print("%s: accepted: %s" % (path, Check(file.read()).says))
        except ValueError as why:
            print("%s: refused: %s" % (path, why))
            failed = True
    sys.exit(failed)
