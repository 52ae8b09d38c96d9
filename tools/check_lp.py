"""check_lp.py FILE.lp=VALUE...: solves programs in CPLEX LP format, such as
gamma solve --lp-plain writes, with HiGHS and CBC, which must find VALUE (the
objective of the assignment; "infeasible" where there is none).
pip install highspy pulp; seen with highspy 1.16.0, pulp 3.3.2.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import re
import subprocess
import sys

import highspy
import pulp


def by_highs(path):
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.setOptionValue("mip_abs_gap", 0.5)
    if solver.readModel(path) != highspy.HighsStatus.kOk:
        return "cannot read"
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return solver.modelStatusToString(solver.getModelStatus()).lower()
    return "%.0f" % solver.getInfo().objective_function_value


def by_cbc(path):
    text = subprocess.run(
        [pulp.PULP_CBC_CMD().path, path, "ratio", "0", "allow", "0.5", "solve"],
        capture_output=True, text=True).stdout
    value = re.search(r"^Objective value: +(\S+)", text, re.M)
    if not value:
        return "infeasible" if "infeasible" in text else "cannot read"
    return "%.0f" % float(value.group(1))


if __name__ == "__main__":
    wrong = 0
    for argument in sys.argv[1:]:
        name, _, expected = argument.rpartition("=")
        found = by_highs(name), by_cbc(name)
        print("%s: expected %s, HiGHS %s, CBC %s" % ((name, expected) + found))
        wrong += found != (expected, expected)
    sys.exit(wrong > 0)
