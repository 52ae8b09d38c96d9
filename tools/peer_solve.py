"""How another solver does on the same integer program.

    build/bench/solve 1 0 scores.tsv
    python tools/peer_solve.py scores.tsv ./gamma [BUDGETS]

Solves a score file's program at some byte budgets with HiGHS (scipy.optimize.
milp) and with `gamma solve --budgets`; prints both times, the ratio, and where
the values differ or HiGHS exceeds the budget.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import subprocess
import sys
import time

import numpy
import scipy.optimize
import scipy.sparse


def read(path):
    rows = [line.rstrip("\n").split("\t") for line in open(path)
            if not line.startswith("#")]
    head, rows = rows[0], rows[1:]
    pick = lambda end: [i for i, h in enumerate(head) if h.endswith(end)]
    column = lambda end: numpy.array([[float(r[i]) for i in pick(end)]
                                      for r in rows])
    return column(".bytes"), column(".score")


def highs(size, score, budget):
    M, K = size.shape
    one = scipy.sparse.kron(scipy.sparse.eye(M), numpy.ones((1, K)))
    start = time.time()
    answer = scipy.optimize.milp(
        score.ravel(), integrality=numpy.ones(M * K),
        bounds=scipy.optimize.Bounds(0, 1),
        constraints=[scipy.optimize.LinearConstraint(one, 1, 1),
                     scipy.optimize.LinearConstraint(size.reshape(1, -1),
                                                     -numpy.inf, budget)],
        options={"mip_rel_gap": 0, "time_limit": 60})
    seconds = time.time() - start
    x = numpy.round(answer.x).reshape(M, K)
    return seconds, (x * score).sum(), (x * size).sum() > budget


def main():
    size, score = read(sys.argv[1])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    low, high = size.min(1).sum(), size.max(1).sum()
    budgets = [int(low + (high - low) * (i + 0.5) / count)
               for i in range(count)]
    start = time.time()
    out = subprocess.run(
        [sys.argv[2], "solve", sys.argv[1], "--in", "bytes", "--solver", "dp",
         "--budgets", ",".join(map(str, budgets)), "--quiet"],
        capture_output=True, text=True, check=True).stdout
    ours = time.time() - start
    value = [float(line.split("\t")[5]) for line in out.splitlines()[1:]]
    peer = worse = over = 0
    for budget, v in zip(budgets, value):
        seconds, theirs, exceeded = highs(size, score, budget)
        peer += seconds
        worse += theirs > v * (1 + 1e-12) + 0.5
        over += exceeded
    print("budgets\tgamma_s\thighs_s\tratio\thighs_worse\thighs_over_budget")
    print(f"{count}\t{ours:.3f}\t{peer:.3f}\t{peer / ours:.1f}\t{worse}\t{over}")


if __name__ == "__main__":
    main()
