#!/usr/bin/env python3
"""Golden vectors of the integer program: nine instances with ALL optima.

usage: python tools/golden_mckp.py tests/golden/mckp.vec

    minimise sum_m score[m, k_m]  over k in allowed, subject to
    sum_m size[m, k_m] <= budget (= budget when exact),
    sum_m cost[r, m, k_m] <= limit[r], k equal within a group

By enumeration of all K^M assignments with numpy; the optimum's value again by
scipy.optimize.milp (HiGHS).  Optima are sorted by size, then by k, so the first
is the one that gamma's tie rule asks for.  Shares no code with solver.c.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import itertools
import sys

import numpy as np
import scipy
from scipy.optimize import Bounds, LinearConstraint, milp


def instance(rng, M, K, tight, unit=1, worth=100, **more):
    """Random sizes that grow with k and scores that mostly fall."""
    size = unit * np.cumsum(rng.integers(1, 9, (M, K)), axis=1)
    score = np.sort(rng.integers(0, worth, (M, K)), axis=1)[:, ::-1].copy()
    low, high = size.min(1).sum(), size.max(1).sum()
    p = dict(size=size, score=score, allowed=np.ones((M, K), int),
             budget=int(low + tight * (high - low)), exact=0,
             group=np.full(M, -1),
             cost=np.zeros((0, M, K), int), limit=np.zeros(0, int))
    return p | more


def make():
    rng = np.random.default_rng(2605_18475)
    few = dict(worth=4)             # few values of the score: ties
    p = {"plain": instance(rng, 8, 3, 0.5),
         "ties": instance(rng, 8, 3, 0.4, **few)}
    same = instance(rng, 1, 3, 0.5)
    p["equal"] = instance(rng, 7, 3, 0.5) | {
        "size": np.repeat(same["size"], 7, 0),
        "score": np.repeat(same["score"], 7, 0)}
    p["equal"]["budget"] = int(p["equal"]["size"][:, 1].sum())
    p["exact"] = instance(rng, 8, 3, 0.45, exact=1, **few)
    p["fused"] = instance(rng, 8, 3, 0.6, group=np.array(
        [0, 0, 0, -1, 1, 1, -1, -1]), **few)
    mask = np.ones((7, 4), int)
    mask[1], mask[4, 3], mask[6, 0] = [0, 0, 1, 0], 0, 0
    p["allowed"] = instance(rng, 7, 4, 0.5, allowed=mask)
    instance(rng, 7, 3, 0.5)        # one that went; those below stay the same
    cost = rng.integers(0, 20, (2, 7, 3))
    cost[1] = [0, 0, 1]             # at most two at the largest candidate
    p["rows"] = instance(rng, 7, 3, 0.7, cost=cost,
                         limit=np.array([int(cost[0].mean(1).sum()), 2]))
    p["large"] = instance(rng, 8, 3, 0.5, unit=1_048_576, worth=2**30)
    p["large"]["score"] -= 2**29    # scores below zero; sizes share a unit
    p["nothing"] = instance(rng, 6, 3, 0.5, exact=1)
    p["nothing"]["size"] *= 2
    p["nothing"]["budget"] = int(p["nothing"]["size"][:, 1].sum()) + 1
    return p


def enumerate_all(p):
    """objective (None: infeasible), optima [count, M]; reachable sizes."""
    M, K = p["size"].shape
    k = np.array(list(itertools.product(range(K), repeat=M)))
    m = np.arange(M)
    total = p["size"][m, k].sum(1)
    ok = p["allowed"][m, k].all(1)
    reachable = np.unique(total[ok])
    ok &= total == p["budget"] if p["exact"] else total <= p["budget"]
    for cost, limit in zip(p["cost"], p["limit"]):
        ok &= cost[m, k].sum(1) <= limit
    for g in set(p["group"]) - {-1}:
        members = k[:, p["group"] == g]
        ok &= (members == members[:, :1]).all(1)
    if not ok.any():
        return None, k[:0], reachable
    score = p["score"][m, k].sum(1)
    best = score[ok].min()
    ok &= score == best
    optima, sizes = k[ok], total[ok]
    order = np.lexsort([*optima.T[::-1], sizes])
    return int(best), optima[order], reachable


def by_scipy(p):
    """The optimum's value by another solver; None: infeasible."""
    M, K = p["size"].shape
    rows, low, high = [], [], []

    def add(row, least, most):
        rows.append(np.asarray(row, float).ravel())
        low.append(least)
        high.append(most)

    for m in range(M):
        add(np.eye(M)[m][:, None] * np.ones(K), 1, 1)
    unit = np.gcd.reduce(p["size"], axis=None)
    add(p["size"] // unit, p["budget"] / unit if p["exact"] else -np.inf,
        p["budget"] / unit if p["exact"] else p["budget"] // unit)
    for cost, limit in zip(p["cost"], p["limit"]):
        add(cost, -np.inf, limit)
    for g in set(p["group"]) - {-1}:
        members = np.flatnonzero(p["group"] == g)
        for m, k in itertools.product(members[1:], range(K)):
            row = np.zeros((M, K))
            row[members[0], k], row[m, k] = 1, -1
            add(row, 0, 0)
    scale = np.abs(p["score"]).max()
    r = milp(p["score"].ravel() / scale, integrality=np.ones(M * K),
             bounds=Bounds(0, p["allowed"].ravel()),
             constraints=LinearConstraint(np.array(rows), low, high))
    if r.x is None:
        return None
    k = r.x.reshape(M, K).argmax(1)
    return int(p["score"][np.arange(M), k].sum())


def put(f, name, value):
    value = np.asarray(value)
    f.write(f"@ {name} i {' '.join(map(str, value.shape)) or 1}\n")
    columns = max(1, value.shape[-1]) if value.ndim else 1
    for row in value.reshape(-1, columns):
        f.write(" ".join(map(str, row)) + "\n")


def main():
    problems = make()
    with open(sys.argv[1], "w", encoding="ascii") as f:
        f.write("# Multiple-choice knapsacks with all optima: "
                "tools/golden_mckp.py with\n"
                f"# numpy {np.__version__} (enumeration), scipy "
                f"{scipy.__version__} (milp, the same value)\n"
                "@ names s\n" + " ".join(problems) + "\n")
        for name, p in problems.items():
            objective, optima, reachable = enumerate_all(p)
            assert objective == by_scipy(p), name
            for key, value in p.items():
                put(f, f"{name}.{key}", value)
            put(f, f"{name}.optima", optima)
            if objective is not None:
                put(f, f"{name}.objective", objective)
                print(f"{name}: {objective}, {len(optima)} optima")
                continue
            below = reachable[reachable < p["budget"]].max(initial=-1)
            above = reachable[reachable > p["budget"]].min()
            put(f, f"{name}.reachable",
                [reachable[0], below, above, reachable[-1]])
            print(f"{name}: infeasible, next {below} and {above}")


main()
