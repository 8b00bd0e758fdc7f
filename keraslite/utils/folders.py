"""Files of a folder and their classes, which are the names of its folders."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keraslite.utils.progress import message


def class_folders(directory: Any) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones are left out.

    Args:
        directory: the folder.

    Raises:
        NotADirectoryError: there is no such folder.
    """
    directory = os.fspath(directory)
    if not os.path.isdir(directory):
        raise NotADirectoryError(f"There is no folder {directory}.")
    with os.scandir(directory) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def files_below(directory: str, endings: tuple[str, ...], follow_links: bool) -> Iterator[str]:
    """Yield the files of a folder and of those below it whose names end so, sorted."""
    for root, _, names in sorted(os.walk(directory, followlinks=follow_links)):
        for name in sorted(names):
            if name.lower().endswith(endings):
                yield os.path.join(root, name)


def index_directory(
    directory: Any,
    labels: Any,
    endings: tuple[str, ...],
    class_names: Sequence[str] | None = None,
    follow_links: bool = False,
) -> tuple[list[str], np.ndarray | None, list[str] | None]:
    """Return the files of a folder, their class numbers and the names of the classes.

    Args:
        directory: the folder; with labels "inferred" it has a folder for each class.
        labels: "inferred", None, or a class number for each file, in the order of their paths.
        endings: what names of files end in, such as ".jpg".
        class_names: the names of the folders in the order of the class numbers, sorted by default.
        follow_links: whether links to folders are followed.

    Raises:
        ValueError: class names without a folder, or another number of labels than of files.
    """
    directory = os.fspath(directory)
    folders = class_folders(directory)
    if labels != "inferred":
        paths = list(files_below(directory, endings, follow_links))
        if labels is None:
            return paths, None, None
        if len(labels) != len(paths):
            raise ValueError(
                f"labels must be one a file: got {len(labels)} labels for {len(paths)} files in "
                f"{directory}."
            )
        return paths, np.asarray(labels), [str(label) for label in sorted(set(labels))]
    if class_names is not None:
        if missing := [name for name in class_names if name not in folders]:
            raise ValueError(
                f"class_names must be names of folders in {directory}, which has {folders}: there "
                f"are none for {missing}."
            )
        folders = list(class_names)
    files = [
        list(files_below(os.path.join(directory, name), endings, follow_links)) for name in folders
    ]
    numbers = np.repeat(np.arange(len(folders), dtype="int32"), [len(paths) for paths in files])
    return [path for paths in files for path in paths], numbers, folders


def shuffled(paths: list[str], labels: Any, seed: int) -> tuple[list[str], Any]:
    """Return files and their labels in the random order that Keras gives them for a seed."""
    order = np.arange(len(paths))
    np.random.RandomState(seed).shuffle(order)
    return [paths[i] for i in order], None if labels is None else np.asarray(labels)[order]


def report(paths: list[str], class_names: Sequence[str] | None) -> None:
    """Print how many files and classes there are."""
    classes = "" if class_names is None else f" belonging to {len(class_names)} classes"
    message(f"Found {len(paths)} files{classes}.")


def check_split(
    validation_split: float | None, subset: str | None, shuffle: bool, seed: int | None
) -> None:
    """Raise a ValueError for a split that cannot be made, or whose parts would overlap."""
    if validation_split and not 0 < validation_split < 1:
        raise ValueError(f"validation_split must be between 0 and 1, got {validation_split}.")
    if subset not in ("training", "validation", "both", None):
        raise ValueError(f"subset must be 'training', 'validation' or 'both', got {subset!r}.")
    if bool(validation_split) != bool(subset):
        raise ValueError(
            "validation_split and subset must be set together, got "
            f"validation_split={validation_split}, subset={subset!r}."
        )
    if validation_split and shuffle and seed is None:
        raise ValueError(
            "seed must be set with validation_split and shuffle, so that the training and the "
            "validation subset do not overlap."
        )


def split_rows(count: int, validation_split: float) -> tuple[slice, slice]:
    """Return the rows of the training and of the validation subset: the last ones."""
    held_out = int(validation_split * count)
    return slice(0, count - held_out), slice(count - held_out, count)
