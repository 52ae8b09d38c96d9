#!/usr/bin/env python3
"""Instances of the integer program for anybody's solver, with ALL optima.

usage: python tools/golden_mckp.py tests/golden/mckp.json

    minimise sum_m score[m][k_m]  subject to
    sum_m size[m][k_m] <= budget (or = budget, as relation says),
    sum_m cost[m][k_m] <= limit of each row, k_m equal within a group

tests/golden/mckp.schema.json says what each member is; the file is validated
against it here.  By enumeration of all K^M assignments with numpy;
the optimum's value again by scipy.optimize.milp (HiGHS); the long case by a
dynamic program over the total size.  Optima are sorted by size, then by k, so
the first is the one that gamma's tie rule asks for.  Shares no code with
solver.c.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import itertools
import json
import pathlib
import sys
from importlib.metadata import version

import jsonschema
import numpy as np
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
    p["correlated"] = instance(rng, 8, 3, 0.5)
    p["correlated"]["score"] = (1000 - 10 * p["correlated"]["size"] +
                                rng.integers(0, 3, (8, 3)))
    p["subset-sum"] = instance(rng, 8, 3, 0.4)
    p["subset-sum"]["size"] += rng.integers(0, 1000, (8, 3)).cumsum(1)
    p["subset-sum"]["score"] = -p["subset-sum"]["size"]
    p["subset-sum"]["budget"] = int(p["subset-sum"]["size"].mean(1).sum())
    p["huge"] = instance(rng, 8, 3, 0.5, unit=2**50 + 1, worth=2**50)
    p["short-by-one"] = instance(rng, 7, 3, 0.5)
    p["short-by-one"]["budget"] = int(p["short-by-one"]["size"].min(1).sum()) - 1
    p["just-enough"] = p["short-by-one"] | {
        "budget": p["short-by-one"]["budget"] + 1}
    p["no-limit"] = instance(rng, 6, 3, 2.0, **few)
    p["one-module"] = instance(rng, 1, 4, 0.5)
    p["no-choice"] = instance(rng, 6, 1, 0.5)
    cost = rng.integers(-20, 20, (1, 7, 3))
    p["negative-row"] = instance(rng, 7, 3, 0.9, cost=cost, limit=np.array(
        [int(cost.min(2).sum()) // 2]))
    p["rows-none"] = instance(rng, 6, 3, 0.9,
                              cost=rng.integers(5, 20, (1, 6, 3)),
                              limit=np.array([29]))
    p["fused-rows"] = instance(rng, 8, 3, 0.6, group=np.array(
        [0, 0, 1, 1, -1, -1, 0, -1]), cost=rng.integers(0, 20, (1, 8, 3)),
        limit=np.array([60]), **few)
    return p


WHAT = {
    "plain": "nothing special", "ties": "many optima: the tie rule",
    "equal": "equal modules: the tie rule prefers the last ones for size",
    "exact": "sizes must sum to the budget, ties",
    "fused": "modules that take the same candidate",
    "allowed": "modules that lack candidates",
    "rows": "two further rows, one of them counting a candidate",
    "large": "scores below zero, sizes with a common factor 2^20",
    "nothing": "exact, infeasible by one: all sizes are even",
    "correlated": "scores that fall with the size, but for noise",
    "subset-sum": "scores that are the sizes: only the sum counts",
    "huge": "sizes near 2^55: beyond a double's 53 bits",
    "short-by-one": "infeasible by one", "just-enough": "feasible by nothing",
    "no-limit": "a budget above every size", "one-module": "a single module",
    "no-choice": "one candidate each", "negative-row": "a row with costs of "
    "both signs", "rows-none": "infeasible by a further row alone",
    "fused-rows": "groups and a row at once",
    "long": "40 modules: too many to enumerate"}


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


def plain(array, allowed=None):
    """Nested lists; null: no such candidate."""
    return [[int(x) if ok else None for x, ok in zip(*row)]
            for row in zip(array, np.ones_like(array) if allowed is None
                           else allowed)]


def case(name, p):
    out = {"name": name, "tests": WHAT[name],
           "size": plain(p["size"], p["allowed"]),
           "score": plain(p["score"], p["allowed"]),
           "budget": int(p["budget"]), "relation": "=" if p["exact"] else "<="}
    if (p["group"] >= 0).any():
        out["group"] = [int(g) for g in p["group"]]
    if len(p["limit"]):
        out["rows"] = [{"cost": plain(c), "limit": int(b)}
                       for c, b in zip(p["cost"], p["limit"])]
    return out


def solved(name, p):
    out = case(name, p)
    objective, optima, reachable = enumerate_all(p)
    if name != "huge":              # beyond HiGHS' doubles
        assert objective == by_scipy(p), name
    if objective is not None:
        return out | {"status": "optimal", "objective": objective,
                      "optima": optima.tolist()}
    below = reachable[reachable < p["budget"]].max(initial=-1)
    above = reachable[reachable > p["budget"]].min(initial=2**62)
    out["status"] = "infeasible"
    if not len(p["limit"]):
        out["reachable"] = {"smallest": int(reachable[0]), "below": int(below),
                            "above": int(above), "largest": int(reachable[-1])}
    return out


def long_case(rng):
    """least[m][b]: the least score of modules m.. with sizes that sum to b."""
    p = instance(rng, 40, 4, 0.35, worth=20)
    M, B, far = 40, p["budget"], 10**9
    least = np.full((M + 1, B + 1), far)
    least[M, 0] = 0
    for m in reversed(range(M)):
        for s, u in zip(p["size"][m], p["score"][m]):
            least[m, s:] = np.minimum(least[m, s:],
                                      u + least[m + 1, :B + 1 - s])
    objective = least[0].min()
    b, answer = int(least[0].argmin()), []
    left = int(objective)
    for m in range(M):
        k = next(k for k in range(4) if p["size"][m, k] <= b and left ==
                 p["score"][m, k] + least[m + 1, b - p["size"][m, k]])
        answer.append(k)
        left -= int(p["score"][m, k])
        b -= int(p["size"][m, k])
    assert objective == by_scipy(p)
    return case("long", p) | {"status": "optimal", "objective": int(objective),
                              "answer": answer}


def invalid():
    """What a solver must refuse, not answer."""
    good = {"size": [[1, 2], [1, 2]], "score": [[3, 1], [3, 1]], "budget": 3,
            "relation": "<=", "status": "invalid"}
    big = 2**60
    for name, tests, more in [
            ("bad-sizes", "sizes that sum to 2^61 or more",
             {"size": [[1, big], [1, big]]}),
            ("bad-scores", "scores that sum to 2^61 or more",
             {"score": [[-big, 1], [-big, 1]]}),
            ("bad-budget", "a budget beyond 2^61", {"budget": 2**62}),
            ("bad-costs", "costs that sum to 2^61 or more",
             {"rows": [{"cost": [[0, big], [0, big]], "limit": 1}]}),
            ("bad-module", "a module without a candidate",
             {"size": [[1, 2], [None, None]], "score": [[3, 1], [None, None]]}),
            ("bad-group", "a group whose members share no candidate",
             {"size": [[1, None], [None, 2]], "score": [[3, None], [None, 1]],
              "group": [0, 0]}),
            ("bad-empty", "no module", {"size": [], "score": []}),
            ("bad-shape", "a module with fewer scores than sizes",
             {"score": [[3, 1], [3]]}),
            ("bad-row", "a row that lacks a module",
             {"rows": [{"cost": [[0, 1]], "limit": 1}]}),
            ("bad-members", "a list of groups that lacks a module",
             {"group": [0]}),
            ("bad-number", "a size that is not whole",
             {"size": [[1, 2], [1, 2.5]]}),
            ("bad-null", "a size without a score",
             {"score": [[3, 1], [3, None]]})]:
        yield {"name": name, "tests": tests} | good | more


def main():
    path = pathlib.Path(sys.argv[1])
    golden = pathlib.Path(__file__).parent.parent / "tests" / "golden"
    schema = json.loads((golden / "mckp.schema.json").read_text("ascii"))
    cases = [solved(name, p) for name, p in make().items()]
    cases.append(long_case(np.random.default_rng(40)))
    cases += invalid()
    whole = {"about": "Multiple-choice knapsacks with all optima; docs/golden.md",
             "made": "tools/golden_mckp.py with numpy " + version("numpy") +
             " (enumeration), scipy " + version("scipy") + " (milp, the same "
             "value)", "cases": cases}
    jsonschema.validate(whole, schema)
    with open(path, "w", encoding="ascii") as f:
        f.write('{"about": %s,\n "made": %s,\n "cases": [\n' %
                (json.dumps(whole["about"]), json.dumps(whole["made"])))
        f.write(",\n".join("  {" + ",\n   ".join(
            f"{json.dumps(k)}: {json.dumps(v)}" for k, v in c.items()) + "}"
            for c in cases))
        f.write("\n]}\n")
    assert json.loads(path.read_text("ascii")) == whole
    for c in cases:
        print(c["name"], c["status"], len(c.get("optima", [])))


main()
