"""Weight tables: the names of our variables and of a checkpoint's tensors, used both ways.

A table has our path on the left and the checkpoint's name on the right, with `{i}` for a number.
The names of a leaf in checkpoints stand once for the whole hub, in `LEAVES`; how it is stored
follows from the class of its layer, or stands in the table. Loading is strict: every variable has
a tensor and every tensor is claimed or named as ignored, or it is an error that lists both sides,
and nothing is changed.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from hub.weights.storage import Storage

# Our leaf -> the names it has in checkpoints, the one that is written first.
LEAVES = {
    "kernel": ("weight",),
    "bias": ("bias",),
    "gamma": ("weight", "gamma"),
    "beta": ("bias", "beta"),
    "moving_mean": ("running_mean", "moving_mean"),
    "moving_variance": ("running_var", "moving_variance"),
    "embeddings": ("weight",),
    "scale": ("weight",),
}
# PyTorch counts the batches of a BatchNorm for a mean that nobody configures.
_IGNORED = re.compile(r"(.*\.)?num_batches_tracked")
_LISTED = 12  # names in an error


class TensorMatch(NamedTuple):
    """A variable of ours, the tensor of a checkpoint that holds it, and how."""

    path: str
    tensor: str
    storage: Storage


class TensorNames(NamedTuple):
    """The names that the tensor of a variable can have, and how it is stored if the table says."""

    names: tuple[str, ...]
    storage: Storage | None


@dataclass(frozen=True)
class WeightTable:
    """The names of an architecture's weights.

    Attributes:
        rows: our path below the model -> the checkpoint's name; a path ends at a layer, whose
            leaves are named by `LEAVES`, or at a variable, whose tensor is named in full.
        ignore: patterns of tensors that are known and not used.
        tied: tensors that repeat others: name -> the name it must equal; they may be absent.
        storage: the variables that are stored otherwise than PyTorch stores their layer: a row
            with its leaf -> the storage.
        renamed: patterns of names in older or newer files -> the names in `rows`; applied to a
            file's names before all else.
        optional: rows of layers that some checkpoints lack.
        claims: patterns of tensors that other tables joined to this one must not ignore.

    Raises:
        ValueError: a storage belongs to no row.

    >>> table = WeightTable({"blocks/{i}/dense": "h.{i}.fc"}, ignore=("h.mask",))
    >>> table.find("blocks/3/dense/kernel").names
    ('h.3.fc.weight',)
    """

    rows: Mapping[str, str]
    ignore: tuple[str, ...] = ()
    tied: Mapping[str, str] | None = None
    storage: Mapping[str, Storage] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rowless = [k for k in self.storage if not {k, k.rpartition("/")[0]} & self.rows.keys()]
        if rowless:
            raise ValueError(f"Every storage must belong to a row, got {rowless}.")

    def prefixed(self, ours: str, theirs: str) -> "WeightTable":
        """Return the table with a prefix before every name.

        Args:
            ours: before our paths.
            theirs: before the names of the checkpoint.
        """
        return WeightTable(
            {ours + a: theirs + b for a, b in self.rows.items()},
            tuple(re.escape(theirs) + p for p in self.ignore),
            {theirs + a: theirs + b for a, b in (self.tied or {}).items()},
            {ours + row: storage for row, storage in self.storage.items()},
            self.renamed,
            tuple(ours + row for row in self.optional),
            tuple(re.escape(theirs) + p for p in self.claims),
        )

    def joined(self, *others: "WeightTable") -> "WeightTable":
        """Return this table and others in one.

        Args:
            others: the other tables.
        """
        tables = (self, *others)
        return WeightTable(
            {k: v for t in tables for k, v in t.rows.items()},
            tuple(p for t in tables for p in t.ignore),
            {k: v for t in tables for k, v in (t.tied or {}).items()},
            {k: v for t in tables for k, v in t.storage.items()},
            {k: v for t in tables for k, v in t.renamed.items()},
            tuple(row for t in tables for row in t.optional),
            tuple(p for t in tables for p in t.claims),
        )

    def find(self, path: str) -> TensorNames | None:
        """Return the names of the tensor of a variable; None if the table has no row for it.

        Args:
            path: of the variable.
        """
        layer, _, leaf = path.rpartition("/")
        if layer in self.rows and leaf in LEAVES:
            names = tuple(f"{self.rows[layer]}.{name}" for name in LEAVES[leaf])
            return TensorNames(names, self.storage.get(path))
        if path in self.rows:
            return TensorNames((self.rows[path],), self.storage.get(path))
        for ours, theirs in self.rows.items():
            match = row_pattern(ours).fullmatch(path)
            if match is None:
                continue
            numbers = match.groupdict()
            leaf = numbers.pop("leaf")
            for key, value in numbers.items():
                theirs = theirs.replace(f"{{{key}}}", value)
            if leaf is None:
                return TensorNames((theirs,), self.storage.get(ours))
            if leaf in LEAVES:
                names = tuple(f"{theirs}.{name}" for name in LEAVES[leaf])
                return TensorNames(names, self.storage.get(f"{ours}/{leaf}"))
        return None

    def ignores(self, tensor: str) -> bool:
        """Return whether a tensor is known and not used.

        Args:
            tensor: its name.
        """
        if _IGNORED.fullmatch(tensor):
            return True
        ignored, claimed = (
            any(re.fullmatch(p, tensor) for p in patterns)
            for patterns in (self.ignore, self.claims)
        )
        return ignored and not claimed


@cache
def row_pattern(template: str) -> re.Pattern:
    """Return the pattern of the paths that a row of a weight table is for.

    Args:
        template: the left side of the row.

    >>> row_pattern("layer_{i}").fullmatch("layer_3/kernel").groupdict()
    {'i': '3', 'leaf': 'kernel'}
    """
    body = re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{j\}", r"(?P<j>\d+)")
    return re.compile(f"{body}(?:/(?P<leaf>[a-z_]+))?")


def match_tensors(
    storages: Mapping[str, Storage | None],
    tensors: Iterable[str],
    table: WeightTable,
    optional: Sequence[str] = (),
) -> tuple[list[TensorMatch], list[str]]:
    """Match variables with the tensors of a checkpoint.

    Args:
        storages: our variables, and how each is stored where the table does not say.
        tensors: the checkpoint's tensors.
        table: the names.
        optional: prefixes of paths that may be absent from the checkpoint, each as a whole.

    Returns:
        The matches, and the paths that the checkpoint does not have (all of them optional).

    Raises:
        ValueError: a variable has no tensor, or a tensor no variable; lists both.
    """
    tensors = set(tensors)
    matches, missing = [], []
    for path, (names, storage) in _find_all(storages, table).items():
        present = [name for name in names if name in tensors]
        if len(present) == 1:
            matches.append(TensorMatch(path, present[0], storage))
        else:
            missing.append((path, names[0]))
    new = []
    for prefix in optional:
        below = [path for path, _ in missing if path.startswith(prefix)]
        if below and not any(match.path.startswith(prefix) for match in matches):
            new += below
    missing_names = [name for path, name in missing if path not in new]
    claimed = {match.tensor for match in matches} | (table.tied or {}).keys()
    unused = sorted(name for name in tensors - claimed if not table.ignores(name))
    if missing_names or unused:
        raise ValueError(
            "The checkpoint and the model do not fit.\n"
            f"  Missing in the checkpoint ({len(missing_names)}): {abbreviate(missing_names)}\n"
            f"  Unused in the checkpoint ({len(unused)}): {abbreviate(unused)}"
        )
    return matches, new


def name_tensors(storages: Mapping[str, Storage | None], table: WeightTable) -> list[TensorMatch]:
    """Return the tensors that a checkpoint of some variables consists of.

    Args:
        storages: our variables, and how each is stored where the table does not say.
        table: the names, of which the first of each variable is taken.

    Raises:
        ValueError: the table has no row for a variable.
    """
    return [
        TensorMatch(path, names[0], storage)
        for path, (names, storage) in _find_all(storages, table).items()
    ]


def _find_all(
    storages: Mapping[str, Storage | None], table: WeightTable
) -> dict[str, tuple[tuple[str, ...], Storage]]:
    """Return the possible names and the storage of every variable."""
    rows = {path: table.find(path) for path in storages}
    unnamed = [path for path, row in rows.items() if row is None]
    if unnamed:
        raise ValueError(f"The weight table has no row for {unnamed[:_LISTED]}.")
    named = {path: (row.names, row.storage or storages[path]) for path, row in rows.items()}
    unstored = [path for path, (_, storage) in named.items() if storage is None]
    if unstored:
        raise ValueError(
            f"The weight table must say how {unstored[:_LISTED]} is stored: the class of its layer "
            "does not tell."
        )
    return named


def check_shapes(
    matches: Iterable[TensorMatch],
    shapes: Mapping[str, tuple[int, ...]],
    stored: Callable[[str], tuple[int, ...]],
) -> None:
    """Raise ValueError, naming every tensor that has not the shape of its variable.

    Args:
        matches: variables and tensors.
        shapes: of the variables, by path.
        stored: gives the shape of a tensor.
    """
    wrong = [
        f"{match.tensor} {tuple(stored(match.tensor))} for {match.path} {shapes[match.path]}, "
        f"expected {match.storage.stored_shape(shapes[match.path])}"
        for match in matches
        if not match.storage.fits(shapes[match.path], stored(match.tensor))
    ]
    if wrong:
        raise ValueError(f"{len(wrong)} tensors have a wrong shape: {abbreviate(wrong, '; ')}.")


def abbreviate(names: Iterable[str], separator: str = ", ") -> str:
    """Return the first of some names, and the number of those left out.

    Args:
        names: any number of them.
        separator: what stands between them.

    >>> abbreviate(["a", "b"]), abbreviate([])
    ('a, b', 'none')
    """
    names = list(names)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (separator.join(names[:_LISTED]) + more) or "none"
