#!/bin/sh
# test_instances.sh: the lines of docs/golden.md that run anybody's solver on
# tests/golden/mckp.json, with a solver in Python that keeps, for each total size
# and cost, the least score and its first assignment: a third opinion beside the
# enumeration that made the file and the solvers of tests/test_golden.c.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/instances-work
rm -rf "$w" && mkdir -p "$w"
cat >"$w/mine.py" <<'END'
def refuse(bad):
    if bad:
        raise ValueError


def numbers(rows, M, K):
    refuse(len(rows) != M or any(len(row) != K for row in rows))
    refuse(any(not isinstance(x, (int, type(None))) for row in rows
               for x in row))
    refuse(sum(max((abs(x) for x in row if x is not None), default=0)
               for row in rows) >= 2**61)


def solve(case):
    size, score = case["size"], case["score"]
    M, rows = len(size), case.get("rows", [])
    refuse(M == 0 or abs(case["budget"]) > 2**61)
    for matrix in [size, score] + [row["cost"] for row in rows]:
        numbers(matrix, M, len(size[0]))
    group = case.get("group", [-1] * M)
    refuse(len(group) != M)
    may = [{k for k, s in enumerate(row) if s is not None} for row in size]
    refuse(any((score[m][k] is None) != (k not in may[m])
               for m in range(M) for k in range(len(size[0]))))
    for m in range(M):
        shared = [may[n] for n in range(M) if group[n] == group[m] >= 0]
        refuse(not set.intersection(may[m], *shared))
    # (total size, costs, candidates of the groups): (score, assignment)
    states = {(0, (0,) * len(rows), ()): (0, [])}
    for m in range(M):
        after = {}
        for (s, cost, taken), (u, k) in states.items():
            known = dict(taken)
            for j in may[m]:
                if known.get(group[m], j) != j:
                    continue
                now = known | ({group[m]: j} if group[m] >= 0 else {})
                key = (s + size[m][j],
                       tuple(c + row["cost"][m][j]
                             for c, row in zip(cost, rows)),
                       tuple(sorted(now.items())))
                best = (u + score[m][j], k + [j])
                after[key] = min(after.get(key, best), best)
        states = after
    budget = case["budget"]
    fits = [(u, s, k) for (s, cost, _), (u, k) in states.items()
            if (s == budget if case["relation"] == "=" else s <= budget)
            and all(c <= row["limit"] for c, row in zip(cost, rows))]
    return min(fits)[2] if fits else None
END
sed -n '/^```python$/,/^```$/p' docs/golden.md | sed '/^```/d' >"$w/run.py"
PYTHONPATH=$w PYTHONDONTWRITEBYTECODE=1 python3 "$w/run.py" >"$w/log" 2>&1
grep -v '^ok ' "$w/log" | sed 's/^/FAILED /'
passed=$(grep -c '^ok ' "$w/log") all=$(grep -c '"tests"' tests/golden/mckp.json)
echo "test_instances: $passed passed, $((all - passed)) failed"
[ "$passed" -eq "$all" ] && [ "$all" -gt 0 ]
