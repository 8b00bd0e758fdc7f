"""Benchmark the CPU time of `import keraslite` and `import hub` against numpy's."""

import argparse
import os
import statistics
import subprocess
import sys

from common import report

GOALS = {"keraslite": "<= 1.8", "hub": "<= 0.5"}
# The time of the whole process, with the interpreter's own start, and that of the statement alone.
CODE = "import time; start = time.process_time(); import {}; end = time.process_time(); "
CODE += "print(end, end - start)"


def cpu_seconds(module: str) -> tuple[float, float]:
    """CPU seconds of a process that imports a module, and of the import alone."""
    command = [sys.executable, "-c", CODE.format(module)]
    # Compiled files may be kept: compiling all sources takes longer than what is measured.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    process, statement = map(float, done.stdout.split())
    return process, statement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    for module in ("numpy", *GOALS):
        cpu_seconds(module)  # the first import writes compiled files
    turns = [{m: cpu_seconds(m) for m in ("numpy", *GOALS)} for _ in range(rounds)]
    medians = {
        m: [statistics.median(turn[m][i] for turn in turns) for i in (0, 1)] for m in turns[0]
    }
    process, statement = medians["numpy"]
    report("process that imports numpy", process * 1e3, "ms", import_ms=round(statement * 1e3, 1))
    for module, goal in GOALS.items():
        own_process, own_statement = medians[module]
        report(f"process that imports {module} / numpy", own_process / process, "x CPU time", goal,
               ms=round(own_process * 1e3, 1), import_ms=round(own_statement * 1e3, 1),
               import_ratio=round(own_statement / statement, 2))  # fmt: skip


if __name__ == "__main__":
    main()
