"""Weight tables: the names of our variables and of a checkpoint's tensors, used both ways.

A table has our path on the left and the checkpoint's name on the right, with `{i}` for a number.
How a leaf is called and stored there stands once for the whole hub, in `LEAVES`. Loading is
strict: every variable is found and every tensor is claimed or named as ignored, or it is an error
that lists both sides, and nothing is changed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

# Our leaf -> (the names it has in checkpoints, the one we write first; whether it is transposed).
LEAVES = {
    "kernel": (("weight",), True),
    "bias": (("bias",), False),
    "gamma": (("weight", "gamma"), False),
    "beta": (("bias", "beta"), False),
    "embeddings": (("weight",), False),
    "scale": (("weight",), False),
}
_SHOWN = 12


@dataclass(frozen=True)
class Link:
    """A variable of ours and the tensor it belongs to."""

    path: str
    tensor: str
    transposed: bool


@dataclass(frozen=True)
class WeightTable:
    """The names of an architecture's weights.

    Attributes:
        rows: our path below the model -> the checkpoint's name; a path ends at a layer, whose
            leaves follow `LEAVES`, or at a variable, whose tensor is named in full.
        ignore: patterns of tensors that are known and not used.
        tied: tensors that repeat others: name -> the name it must equal; they may be absent.
        straight: rows whose kernels are stored as ours are, (inputs, outputs).
    """

    rows: Mapping[str, str]
    ignore: tuple[str, ...] = ()
    tied: Mapping[str, str] | None = None
    straight: tuple[str, ...] = ()

    def prefixed(self, ours: str, theirs: str) -> "WeightTable":
        """The table with a prefix before every name."""
        rows = {ours + a: theirs + b for a, b in self.rows.items()}
        ignore = tuple(re.escape(theirs) + p for p in self.ignore)
        tied = {theirs + a: theirs + b for a, b in (self.tied or {}).items()}
        return WeightTable(rows, ignore, tied, tuple(ours + row for row in self.straight))

    def joined(self, *others: "WeightTable") -> "WeightTable":
        """This table and others in one."""
        tables = (self, *others)
        return WeightTable(
            {k: v for t in tables for k, v in t.rows.items()},
            tuple(p for t in tables for p in t.ignore),
            {k: v for t in tables for k, v in (t.tied or {}).items()},
            tuple(row for t in tables for row in t.straight),
        )

    def names(self, path: str) -> tuple[list[str], bool] | None:
        """The names that the tensor of a path can have, and whether it is stored transposed."""
        for ours, theirs in self.rows.items():
            found = pattern(ours).fullmatch(path)
            if found is None:
                continue
            straight = ours in self.straight
            for key, value in found.groupdict().items():
                if key != "leaf":
                    theirs = theirs.replace(f"{{{key}}}", value)
            leaf = found.group("leaf")
            if leaf is None:
                return [theirs], False
            if leaf in LEAVES:
                names, transposed = LEAVES[leaf]
                return [f"{theirs}.{n}" for n in names], transposed and not straight
        return None

    def ignores(self, tensor: str) -> bool:
        """Whether a tensor is known and not used."""
        return any(re.fullmatch(p, tensor) for p in self.ignore)


@cache
def pattern(template: str) -> re.Pattern:
    """What the paths look like that a row of a weight table is for.

    Args:
        template: the left side of the row.

    >>> pattern("layer_{i}").fullmatch("layer_3/kernel").groupdict()
    {'i': '3', 'leaf': 'kernel'}
    """
    body = re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{j\}", r"(?P<j>\d+)")
    return re.compile(f"{body}(?:/(?P<leaf>[a-z_]+))?")


def link(
    paths: Iterable[str], tensors: Iterable[str], table: WeightTable, optional: Sequence[str] = ()
) -> tuple[list[Link], list[str]]:
    """Match variables with tensors.

    Args:
        paths: our variables.
        tensors: the checkpoint's tensors.
        table: the names.
        optional: prefixes of paths that may be absent from the checkpoint, each as a whole.

    Returns:
        The links, and the paths that the checkpoint does not have (all of them optional).

    Raises:
        ValueError: a variable has no tensor, or a tensor no variable; lists both.
    """
    tensors = set(tensors)
    links, missing, unnamed = [], [], []
    for path in paths:
        found = table.names(path)
        if found is None:
            unnamed.append(path)
            continue
        names, transposed = found
        present = [n for n in names if n in tensors]
        if len(present) == 1:
            links.append(Link(path, present[0], transposed))
        else:
            missing.append((path, names[0]))
    if unnamed:
        raise ValueError(f"The weight table has no row for {unnamed[:_SHOWN]}.")
    fresh = []
    for prefix in optional:
        below = [p for p, _ in missing if p.startswith(prefix)]
        if below and not any(x.path.startswith(prefix) for x in links):
            fresh += below
    missing = [(p, n) for p, n in missing if p not in fresh]
    used = {x.tensor for x in links}
    unused = sorted(
        t for t in tensors - used if not table.ignores(t) and t not in (table.tied or {})
    )
    if missing or unused:
        raise ValueError(
            "The checkpoint and the model do not fit.\n"
            f"  Missing in the checkpoint ({len(missing)}): {some(n for _, n in missing)}\n"
            f"  Unused in the checkpoint ({len(unused)}): {some(unused)}"
        )
    return links, fresh


def some(names: Iterable[str]) -> str:
    """The first names, and how many more there are.

    Args:
        names: any number of them.

    >>> some(["a", "b"]), some([])
    ('a, b', 'none')
    """
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "none"


def fits(shape: Sequence[int], stored: Sequence[int], transposed: bool) -> bool:
    """Whether a stored tensor is ours, up to the split of one axis into neighbours."""
    there = tuple(stored)
    if transposed and len(there) == 4 and len(shape) == 2 and there[2:] == (1, 1):
        there = there[:2]  # a dense layer that was a convolution of single pixels
    if transposed and len(there) in (2, 4):
        there = (*there[2:], there[1], there[0])
    return tuple(shape) == there or (
        int(np.prod(shape, dtype=np.int64)) == int(np.prod(there, dtype=np.int64))
        and _merges(tuple(shape), there)
    )


def _merges(fine: tuple[int, ...], coarse: tuple[int, ...]) -> bool:
    """Whether joining neighbouring axes of `fine` gives `coarse`."""
    i = 0
    for size in coarse:
        product = 1
        while i < len(fine) and product < size:
            product *= fine[i]
            i += 1
        if product != size:
            return False
    return i == len(fine)


def from_checkpoint(array: np.ndarray, transposed: bool, shape: Sequence[int]) -> np.ndarray:
    """A tensor of a checkpoint as ours: a view wherever numpy can give one."""
    if transposed and array.ndim == 4:  # of a convolution: (outputs, inputs, height, width)
        array = array.transpose(2, 3, 1, 0)
    elif transposed:
        array = array.T
    return array.reshape(shape)


def to_checkpoint(array: np.ndarray, transposed: bool) -> np.ndarray:
    """One of our arrays as a checkpoint stores it."""
    if not transposed:
        return array
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
    return np.ascontiguousarray(array.reshape(array.shape[0], -1).T)


def check_shapes(
    links: Iterable[Link], shapes: Mapping[str, tuple], stored: Callable[[str], tuple]
) -> None:
    """Raise ValueError, naming every tensor that has not the shape of its variable."""
    wrong = [
        f"{x.tensor} {tuple(stored(x.tensor))} for {x.path} {shapes[x.path]}"
        for x in links
        if not fits(shapes[x.path], stored(x.tensor), x.transposed)
    ]
    if wrong:
        raise ValueError(f"{len(wrong)} tensors have a wrong shape: {'; '.join(wrong[:_SHOWN])}.")


class Exported(Mapping[str, np.ndarray]):
    """Our weights under a checkpoint's names, converted one at a time as they are asked for."""

    def __init__(self, variables: Mapping[str, Any], table: WeightTable):
        self._rows: dict[str, tuple[Any, bool]] = {}
        for path, variable in variables.items():
            found = table.names(path)
            if found is None:
                raise ValueError(f"The weight table has no row for {path!r}.")
            self._rows[found[0][0]] = (variable, found[1])

    def __getitem__(self, name: str) -> np.ndarray:
        variable, transposed = self._rows[name]
        return to_checkpoint(variable.numpy(), transposed)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
