"""The figures of bench scripts on two commits, checked out side by side and run in turns.

python scripts/bench/compare.py OLD [NEW] [--scripts ops fit bert] [--rounds 3] [--arguments ...]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import report

ROOT = Path(__file__).parents[2]
TOLERANCE = 0.03


def git(*arguments: str) -> str:
    """Run git in the repository and return what it prints."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def figures(tree: Path, script: str, arguments: list[str]) -> dict[str, float]:
    """The figures that a commit's own script prints."""
    done = subprocess.run(
        [sys.executable, f"scripts/bench/{script}.py", *arguments], cwd=tree, text=True,
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(tree)}, check=True,
    )  # fmt: skip
    lines = [json.loads(x) for x in done.stdout.splitlines() if x.startswith("{")]
    return {line["figure"]: line["value"] for line in lines if "figure" in line}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old")
    parser.add_argument("new", nargs="?", default="HEAD")
    parser.add_argument("--scripts", nargs="+", default=["ops", "fit", "bert", "text"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arguments", nargs=argparse.REMAINDER, default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trees = {name: Path(folder) / name for name in ("old", "new")}
        try:
            for name, tree in trees.items():
                git("worktree", "add", "--detach", str(tree), getattr(options, name))
            for script in options.scripts:
                compare(trees, script, options.rounds, options.arguments)
        finally:
            for tree in trees.values():
                if tree.exists():
                    git("worktree", "remove", "--force", str(tree))


def compare(trees: dict[str, Path], script: str, rounds: int, arguments: list[str]) -> None:
    """Run a script on both trees in turns; report new / old of each figure's medians."""
    runs: dict[str, list[dict]] = {name: [] for name in trees}
    for _ in range(rounds):
        for name, tree in trees.items():
            runs[name].append(figures(tree, script, arguments))
    for figure in runs["old"][0]:
        if not all(figure in run for both in runs.values() for run in both):
            report(f"{script}: {figure}", float("nan"), "missing in a run")
            continue
        old, new = (statistics.median(r[figure] for r in runs[name]) for name in ("old", "new"))
        ratio = new / old if old else float("nan")
        report(f"{script}: {figure}", ratio, "x of the old value", f"1 +- {TOLERANCE}",
               old=old, new=new, within=abs(ratio - 1) <= TOLERANCE)  # fmt: skip


if __name__ == "__main__":
    main()
