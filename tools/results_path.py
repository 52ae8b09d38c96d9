#!/usr/bin/env python3
# results_path.py: "One run, every budget" of docs/results.md.
# SPDX-License-Identifier: GPL-3.0-or-later
"""KL of one run's scores with anchors over a range of budgets, against the same
scores as learned, corrections made at each budget alone, and other ways.

    results_path.py OUT MODEL CALIB TEXT [--anchors 3,3.5,4] [--windows 32]

Prints a row for each way and budget: KL, and KL less that with anchors over the
same windows with its standard error.  What OUT has is taken over.
"""
import argparse
import pathlib
import subprocess

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
for name in ("out", "model", "calib", "text"):
    parser.add_argument(name)
for name, value in (("gamma", "./gamma"), ("anchors", "3,3.5,4"),
                    ("budgets", "2.875,3,3.125,3.25,3.375,3.5,3.75,4"),
                    ("alone", "3,3.25,3.5,3.75,4"), ("windows", "32"),
                    ("methods", "separable,uniform"), ("sequences", "8"),
                    ("candidates", "--bits 2,3,4,5,6 --group 64")):
    parser.add_argument("--" + name, default=value, help=f"[{value}]")
o = parser.parse_args()
out = pathlib.Path(o.out)
TEXT = ["--calib", o.calib, "--sequences", o.sequences, "--length", "512"]


def gamma(*words):
    subprocess.run([o.gamma, *map(str, words), "--quiet"], check=True,
                   stdout=subprocess.DEVNULL)


def refine(to, budgets):
    if not to.exists():
        gamma("refine", o.model, out / "fit/scores.tsv", *TEXT, "--budget",
              budgets, "--out", to)


def cut(source, budget, to):
    """One anchor of many, as if it had been made alone."""
    lines, kept = [], None
    for line in source.read_text().splitlines():
        if line.startswith("# anchors "):
            line = "# anchors " + next(" ".join(x.split()[:4])
                                       for x in line[10:].split(", ")
                                       if x.split()[0] == budget)
        if line.startswith(("# refined_hash", "# kl")):
            continue
        if line[:1] != "#":
            cells = line.split("\t")
            kept = kept or [i for i, name in enumerate(cells)
                            if "@" not in name or name.endswith("@" + budget)]
            line = "\t".join(cells[i] for i in kept)
        lines.append(line + "\n")
    to.write_text("".join(lines))


def compare(name, scores, budgets, methods="gamma"):
    """KL of each window, by method, then budget."""
    gamma("compare", o.model, *TEXT, "--eval", o.text, "--window", 1024,
          "--windows", o.windows, *o.candidates.split(), "--scores", scores,
          "--budget", budgets, "--methods", methods, "--out", out / name)
    found = {}
    for path in (out / name).glob("windows-*.tsv"):
        lines = path.read_text().splitlines()
        keys = dict(x[2:].split(" ", 1) for x in lines if x[:1] == "#")
        head, *rows = (x.split("\t") for x in lines if x[:1] != "#")
        found.setdefault(keys["method"], {})[keys["budget"]] = [
            float(row[head.index("kl")]) for row in rows]
    return found


out.mkdir(exist_ok=True)
if not (out / "fit/scores.tsv").exists():
    gamma("fit", o.model, *TEXT, *o.candidates.split(), "--steps", 20, "--out",
          out / "fit")
refine(out / "path.tsv", o.anchors)
learned = compare("f", out / "fit/scores.tsv", o.budgets)["gamma"]
path = compare("p", out / "path.tsv", o.budgets)["gamma"]
ways = {"as learned": learned, "corrected there": {}}
for b in filter(None, o.alone.split(",")):
    alone = out / f"there{b}.tsv"
    if b in o.anchors.split(","):
        cut(out / "path.tsv", b, alone)
    refine(alone, b)
    ways["corrected there"][b] = compare("t" + b, alone, b)["gamma"][b]
if o.methods:
    others = compare("s", out / "fit/scores.tsv", o.budgets, o.methods)
    ways |= {name: others[name] for name in o.methods.split(",")}
print("budget\tway\tkl\tless_path\terror")
for b in o.budgets.split(","):
    ours = path[b]
    print(f"{b}\tanchors\t{sum(ours) / len(ours):.4f}\t-\t-")
    for name, rows in ways.items():
        if b not in rows:
            continue
        kl, n = rows[b], len(ours)
        less = [x - y for x, y in zip(kl, ours)]
        mean = sum(less) / n
        error = (sum((x - mean) ** 2 for x in less) / (n - 1) / n) ** 0.5
        print(f"{b}\t{name}\t{sum(kl) / n:.4f}\t{mean:+.4f}\t{error:.4f}")
