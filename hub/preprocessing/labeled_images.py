"""What has images and their labels in one: folders, and the rows of a data set."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hub.preprocessing.image_folder import ENDINGS, ImageFolder, default_workers
from hub.preprocessing.image_inputs import RowImage, is_single_image
from keraslite.training.rows import is_hugging_face
from keraslite.utils import PyDataset
from keraslite.utils.data import map_ahead
from keraslite.utils.folders import class_folders, files_below

_IMAGE_COLUMNS, _LABEL_COLUMNS = ("image", "img"), ("label", "labels")
_NO_LABEL = -1  # of a ClassLabel of Hugging Face


class ImageRows(ImageFolder):
    """The pictures of a data set whose rows are a picture and its label, read when asked for.

    Args:
        rows: a `Dataset` of Hugging Face with a column of images and one of labels, or what has a
            length and gives pairs of an image and its label by their place: a list, or a data set
            of torch. Labels are names or class numbers, whose names are those of a `ClassLabel` or
            in an attribute `classes`. A data set that has them in no attribute `targets` is read
            once for them.
        on_error: "raise" for an error at the first picture that cannot be read, or "skip".

    Attributes:
        class_names: the names of the classes; None where labels are numbers without names.

    Raises:
        ValueError: there are no labels, or one is neither a name nor a class number.

    >>> rows = ImageRows([(np.zeros((4, 6, 3), "uint8"), "cat"), (np.ones((4, 6)), "dog")])
    >>> len(rows), rows.class_names, rows[1][0].size
    (2, ['cat', 'dog'], (6, 4))
    """

    def __init__(self, rows: Any, on_error: str = "raise"):
        read, labels, names = (_of_columns if is_hugging_face(rows) else _of_pairs)(rows)
        if labels is None:
            raise ValueError(
                f"A data set of images must have a column of labels, named as one of "
                f"{_LABEL_COLUMNS} or a ClassLabel, got {rows.column_names}."
            )
        self.directory = f"the {type(rows).__name__}"
        self.transform, self.on_error, self.processes = None, on_error, False
        self.workers = default_workers()
        self.paths = [RowImage(read, i) for i in range(len(rows))]
        self.labels = [_label(label, i, names) for i, label in enumerate(labels)]
        texts = sorted({label for label in self.labels if isinstance(label, str)})
        self.class_names = list(names or texts) or None


def _label(value: Any, row: int, names: Sequence[str] | None) -> Any:
    """Return a label as a name, or as an int where it has none."""
    if isinstance(value, str):
        return value
    if np.ndim(value) or np.asarray(value).dtype.kind not in "biu":
        raise ValueError(f"The label of row {row} must be a name or a class number, got {value!r}.")
    number = int(value)
    return names[number] if names and 0 <= number < len(names) else number


def _of_columns(rows: Any) -> tuple[Callable, Any, Any]:
    """Return a function from a row to its image, the labels and the names of their classes."""
    image = _column(rows.features, "Image", _IMAGE_COLUMNS)
    label = _column(rows.features, "ClassLabel", _LABEL_COLUMNS)
    images = rows.with_format(None).select_columns([image])
    labels = None if label is None else rows.with_format(None)[label][:]
    if labels is not None and set(labels) == {_NO_LABEL}:
        labels = None
    names = getattr(rows.features.get(label), "names", None)
    return lambda i: images[i][image], labels, names


def _column(features: Mapping[str, Any], feature: str, usual: Sequence[str]) -> Any:
    """Return the column of a class of features, else of a usual name; None if there is none."""
    columns = [name for name, own in features.items() if type(own).__name__ == feature]
    named = [name for name in usual if name in (columns or features)]
    return (named or columns or [None])[0]


def _of_pairs(rows: Any) -> tuple[Callable, Any, Any]:
    labels = getattr(rows, "targets", None)
    if labels is None or len(labels) != len(rows):
        workers = default_workers()
        labels = list(map_ahead(lambda i: rows[i][1], range(len(rows)), workers, 2 * workers))
    return lambda i: rows[i][0], labels, getattr(rows, "classes", None)


def _has_rows(x: Any) -> bool:
    """Return whether an argument is a data set of images, or gives pairs of one and its label."""
    if is_hugging_face(x):
        features = getattr(x, "features", None) or {}
        column = _column(features, "Image", _IMAGE_COLUMNS)
        return hasattr(x, "column_names") and column is not None
    has_places = hasattr(x, "__getitem__") and hasattr(x, "__len__") and not hasattr(x, "shape")
    # What iterates as well gives batches.
    if not has_places or (hasattr(x, "__iter__") and not isinstance(x, list)) or not len(x):
        return False
    if isinstance(x, PyDataset) or not isinstance(first := x[0], tuple) or len(first) != 2:
        return False
    is_image = is_single_image(first[0]) or len(getattr(first[0], "shape", ())) in (2, 3)
    return is_image and np.ndim(first[1]) == 0


def is_labeled(x: Any) -> bool:
    """Return whether an argument is a folder of images, or a data set of images in rows.

    Args:
        x: an `ImageFolder`, the path of a folder, a data set as of `ImageRows`, or anything else.

    >>> is_labeled("."), is_labeled(["a.png"]), is_labeled([("a.png", "cat")])
    (True, False, True)
    """
    if isinstance(x, ImageFolder) or (isinstance(x, str | os.PathLike) and os.path.isdir(x)):
        return True
    return _has_rows(x)


def as_labeled(x: Any, on_error: str = "raise") -> ImageFolder:
    """Return an `ImageFolder`, or that of a path or of the rows of a data set.

    Args:
        x: what `is_labeled` takes.
        on_error: of that of a path or of rows.
    """
    if isinstance(x, ImageFolder):
        return x
    return (ImageFolder if isinstance(x, str | os.PathLike) else ImageRows)(x, on_error=on_error)


def without_labels(x: Any) -> list[Any]:
    """Return the images, in order, of a folder or data set that has no labels; else none.

    Args:
        x: what `is_labeled` takes.

    >>> without_labels(".")
    []
    """
    if isinstance(x, ImageFolder):
        return []
    if isinstance(x, str | os.PathLike):
        return [] if class_folders(x) else list(files_below(os.fspath(x), ENDINGS, False))
    read, labels, _ = (_of_columns if is_hugging_face(x) else _of_pairs)(x)
    return [RowImage(read, i) for i in range(len(x))] if labels is None else []
