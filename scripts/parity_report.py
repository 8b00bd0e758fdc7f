"""Write docs/parity.md: how far ops and layers are from float64 references, on each backend.

    python scripts/parity_report.py [--out docs/parity.md]

The cases are the rows of the tests' tables (`tests/support/ops_tables/`, `layer_cases.py`). The
reference of an op is each row's oracle, somebody else's code and not ours, computed in float64 from
the same inputs; that of a layer is the installed Keras's, in float64.
Exits with 1 where a row could not be compared and is not in the table of known gaps.
"""

import argparse
import itertools
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import jax  # noqa: E402
import numpy as np  # noqa: E402
import parity_layers  # noqa: E402
from known_gaps import GAPS  # noqa: E402
from ops_cases import by_op, oracle_of, run  # noqa: E402
from ops_tables import TABLES  # noqa: E402

import keraslite  # noqa: E402
from keraslite import tree  # noqa: E402

BACKENDS = ("numpy", "jax", "torch", "tensorflow")
_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "complex64": 2.0**-23}
HEAD = """# Parity

How far each op and each layer is from a float64 reference on each backend, made by
`scripts/parity_report.py` from the cases of the tests. The reference of a layer is Keras's, with
the same weights, in inference.

A figure is the largest difference over all cases, relative to the largest element of the result, in
units of the spacing of the result's dtype at 1 (2^-23 for float32): 0.5 is correct rounding, `=` is
no difference at all. Results that are not floats must be equal: a figure there counts the elements
that are not. The last column names the worst case, with the largest difference of one element in
units in its own last place (ulp), which cancellation makes large near zero. Attention and softmax
have more where scores are large: the rounding of a score of 32 is 32 units at 1, and its weight
moves by up to a quarter of that. Keras in float32 shows the same.

"""


class Subject(NamedTuple):
    """A group of things to compare: ops, or layers."""

    name: str
    groups: dict[str, list]  # the cases of each
    reference: Callable  # the right results of a case
    results: Callable  # ours, by case and backend
    brief: Callable  # a case in a few words


def tables() -> dict[str, list]:
    """The rows of all tests of ops, by op."""
    found: dict[str, list] = {}
    for case in itertools.chain(*TABLES.values()):
        if case.wide:
            found.setdefault(case.op, []).append(case)
    return found


def widened(x):
    """An array in the widest type of its kind, on JAX; anything else as it is."""
    if not isinstance(x, np.ndarray):
        return x
    name = "complex128" if np.iscomplexobj(x) else "float64" if x.dtype.name in _EPS else x.dtype
    return jax.numpy.asarray(x.astype(name))


def reference(case) -> list[np.ndarray]:
    """The oracle's results in float64."""
    with jax.enable_x64(True):
        args = tree.map_structure(widened, case.args)
        out = oracle_of(case)(*args)
        out = tuple(out) if isinstance(out, tuple) else out
        return [np.asarray(x) for x in tree.flatten(out)]


def difference(got: np.ndarray, want: np.ndarray, name: str) -> tuple[float, float]:
    """The largest difference relative to the largest element and to its own, in units of the
    spacing of the dtype `name` at 1; or how many elements are not equal.
    """
    if got.shape != want.shape:
        return math.inf, math.inf
    if name not in _EPS:
        unequal = float(np.sum(got.astype(want.dtype) != want))
        return unequal, unequal
    wide = "complex128" if np.iscomplexobj(got) else "float64"
    got, want = got.astype(wide).ravel(), want.astype(wide).ravel()
    size = np.abs(want)
    tiny = float(jax.numpy.finfo(name).tiny)
    top = float(np.max(size[np.isfinite(size)], initial=tiny))
    with np.errstate(invalid="ignore", over="ignore"):
        far = np.abs(got - want) / _EPS[name]
    far = np.where((got == want) | (np.isnan(got) & np.isnan(want)), 0.0, far)
    far = np.where(np.isnan(far), math.inf, far)
    own = far / np.where(np.isfinite(size), np.maximum(size, tiny), 1.0)
    return float(np.max(far, initial=0.0) / top), float(np.max(own, initial=0.0))


def brief(case) -> str:
    """A row in a few words."""

    def word(x):
        return f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else repr(x)

    given = [word(x) if not isinstance(x, list | tuple) else
             "[" + ", ".join(map(word, x)) + "]" for x in case.args]  # fmt: skip
    text = ", ".join(given + [f"{k}={word(v)}" for k, v in case.kwargs.items()])
    return text if len(text) < 70 else text[:67] + "..."


def op_results(case, backend: str) -> list:
    """Our results of an op."""
    with keraslite.use_backend(backend):
        return run(case, backend)


def measure(
    subject: Subject, cases: list, wanted: dict, backend: str
) -> tuple[float, float, object]:
    """The largest difference over the cases, both ways, and the case it stands at."""
    worst = 0.0, 0.0, None
    for case in cases:
        for x, want in zip(subject.results(case, backend), wanted[id(case)], strict=True):
            name = keraslite.dtypes.standardize(x.dtype)
            found = difference(keraslite.backend.to_numpy(x), want, name)
            if not found[0] <= worst[0]:
                worst = *found, case
    return worst


def figure(value: float) -> str:
    """A difference as it stands in the table."""
    return "=" if value == 0 else f"{value:.2g}" if value < 100 else f"{value:.0f}"


def row_of(subject: Subject, name: str, totals: dict, failed: list) -> str:
    """The line of an op or layer, and what it adds to the totals."""
    cases = subject.groups[name]
    wanted = {id(case): subject.reference(case) for case in cases}
    cells, worst = [], (0.0, 0.0, None, "")
    for backend in BACKENDS:
        known = [c for c in cases if (getattr(c, "name", ""), backend) not in GAPS]
        try:
            found = measure(subject, known, wanted, backend)
        except Exception as error:
            failed.append(f"{name} on {backend}: {error}")
            found = math.inf, math.inf, cases[0]
        totals[backend].append(found[0])
        gaps = f" ({len(cases) - len(known)} in the gaps)" if len(known) < len(cases) else ""
        cells.append(figure(found[0]) + gaps)
        if found[0] > worst[0]:
            worst = *found, backend
    _, own, case, backend = worst
    named = f"{backend}: `{subject.brief(case)}`, {figure(own)} ulp" if case else ""
    return f"| `{name}` | {len(cases)} | {' | '.join(cells)} | {named} |"


def summary(name: str, totals: dict[str, list[float]]) -> list[str]:
    """How many are how near, by backend."""
    lines = [f"| | {name} | no difference | up to 1 | up to 4 | largest |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for backend, values in totals.items():
        shares = " | ".join(str(sum(v <= limit for v in values)) for limit in (0, 1, 4))
        lines.append(f"| {backend} | {len(values)} | {shares} | {figure(max(values))} |")
    return lines


def section(subject: Subject, failed: list) -> list[str]:
    """The tables of ops or layers."""
    rows, totals = [], {name: [] for name in BACKENDS}
    for i, name in enumerate(sorted(subject.groups)):
        try:
            rows.append(row_of(subject, name, totals, failed))
        except Exception as error:
            failed.append(f"{name}: {error}")
        if sys.stderr.isatty():
            print(f"\r{i + 1}/{len(subject.groups)} {subject.name} ", end="", file=sys.stderr)
    head = [
        f"| {subject.name[:-1]} | cases | {' | '.join(BACKENDS)} | worst case |",
        "|---|---|---|---|---|---|---|",
    ]
    title = f"## {subject.name.capitalize()}"
    return [title, "", *summary(subject.name, totals), "", *head, *rows, ""]


def main() -> int:
    """Write the page; 1 if a row could not be compared."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "parity.md")
    out, failed, start = parser.parse_args().out, [], time.perf_counter()
    ops = tables()
    for cases in ops.values():
        by_op(cases)
    subjects = [
        Subject("ops", ops, reference, op_results, brief),
        Subject("layers", parity_layers.groups(), parity_layers.reference, parity_layers.results,
                parity_layers.brief),
    ]  # fmt: skip
    lines = [line for subject in subjects for line in section(subject, failed)]
    out.parent.mkdir(exist_ok=True)
    out.write_text(HEAD + "\n".join(lines))
    counts = [
        f"{len(subject.groups)} {subject.name}, {sum(map(len, subject.groups.values()))} cases"
        for subject in subjects
    ]
    print(f"{' and '.join(counts)} in {time.perf_counter() - start:.0f} s: {out}")
    for line in failed:
        print(f"could not be compared: {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
