"""Data sets of files: `image_dataset_from_directory`, `text_dataset_from_directory`."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keraslite.ops.layout import is_channels_first
from keraslite.random import make_default_seed
from keraslite.utils.data import permutation, read_batches
from keraslite.utils.dataset_formats import FORMATS, in_format
from keraslite.utils.folders import (
    check_split,
    index_directory,
    report,
    shuffled,
    split_rows,
)
from keraslite.utils.images import COLOR_MODES, INTERPOLATIONS, check_word, load_img, resized
from keraslite.utils.pipeline import Dataset
from keraslite.utils.progress import message

IMAGE_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


class FileDataset(Dataset):
    """Batches of files, which threads read when they are asked for.

    It can be read again and again. The order of an epoch follows from the seed and the number of
    the epoch, so that `fit` goes on with the same batches where it is resumed. `map`, `shuffle`,
    `take` and so on are those of `Dataset`.

    Args:
        file_paths: the paths.
        labels: one row a file; None for files alone.
        load: a function that reads a path.
        batch_size: files in a batch; None for single files.
        shuffle: whether each epoch has an order of its own.
        seed: of the orders.
        class_names: the names of the classes.
        workers: the number of threads; that of the processor cores, but not more than 8, by
            default.
        stack: makes one batch of what was loaded for its files.

    Attributes:
        file_paths: the paths, in the order without a shuffle.
        class_names: the names of the classes.

    >>> lengths = FileDataset(["a", "bb", "ccc"], np.arange(3), len, batch_size=2)
    >>> [(x.tolist(), y.tolist()) for x, y in lengths]
    [([1, 2], [0, 1]), ([3], [2])]
    """

    def __init__(
        self,
        file_paths: Sequence[str],
        labels: Any,
        load: Callable[[str], Any],
        batch_size: int | None = 32,
        shuffle: bool = False,
        seed: int | None = None,
        class_names: Sequence[str] | None = None,
        workers: int | None = None,
        stack: Callable = np.stack,
    ):
        self._stack = stack
        self.file_paths, self.labels, self._load = list(file_paths), labels, load
        self.batch_size, self.shuffle = batch_size, shuffle
        self.seed = make_default_seed() if seed is None else seed
        self.class_names = None if class_names is None else list(class_names)
        self.workers = workers or min(os.cpu_count() or 1, 8)

    def cardinality(self) -> int:
        """Return the number of batches."""
        return -(-len(self.file_paths) // (self.batch_size or 1))

    def epoch(self, number: int) -> Iterator:
        """Yield the batches of an epoch: (x, y), or x where there are no labels.

        Args:
            number: of the epoch, from 0 on.
        """
        count = len(self.file_paths)
        order = permutation(count, self.seed, number) if self.shuffle else np.arange(count)
        size = self.batch_size or 1
        for rows, x in read_batches(self._read, order, size, self.workers):
            y = None if self.labels is None else self.labels[rows]
            if self.batch_size is None:
                x, y = x[0], None if y is None else y[0]
            else:
                x = self._stack(x)
            yield x if y is None else (x, y)

    def _read(self, row: int) -> Any:
        return self._load(self.file_paths[row])


def _read_image(
    path: str, size: tuple, color_mode: str, interpolation: str, crop: bool, pad: bool, first: bool
) -> np.ndarray:
    """Return the pixels of a file, resized, in float32."""
    try:
        pixels = np.asarray(load_img(path, color_mode), "float32")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    pixels = resized(pixels, size, interpolation, crop, pad)
    return np.moveaxis(pixels, -1, 0) if first else pixels


def image_dataset_from_directory(
    directory: Any,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int | None = 32,
    image_size: int | Sequence[int] = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """Return a data set of the pictures of a folder, in batches.

    Files are read by threads when a batch is asked for; no framework is needed. Files that end in
    .bmp, .gif, .jpeg, .jpg and .png count.

    Args:
        directory: the folder; with inferred labels, it has a folder for each class.
        labels: "inferred" from the folders, None, or a class number for each file, in the order of
            their paths.
        label_mode: "int", "categorical" (rows with a one), "binary" (float32, of two classes), or
            None for pictures alone.
        class_names: the names of the folders in the order of the class numbers; sorted by default.
        color_mode: "grayscale", "rgb" or "rgba".
        batch_size: pictures in a batch; None for single ones.
        image_size: (height, width) that they are resized to.
        shuffle: whether files are shuffled, and each epoch has an order of its own.
        seed: of the orders.
        validation_split: the part of the files that is held out for validation.
        subset: "training", "validation", or "both" for a pair of data sets.
        interpolation: "nearest", "bilinear", "bicubic", "lanczos3" or "lanczos5".
        follow_links: whether links to folders are followed.
        crop_to_aspect_ratio: whether pictures are cut so that nothing is distorted.
        pad_to_aspect_ratio: whether they are padded instead.
        data_format: "channels_last" or "channels_first"; the configured one by default.
        format: "tf" for a `tf.data.Dataset` where the backend is tensorflow, and a `FileDataset`
            otherwise, which has its methods and needs no TensorFlow; "grain" for a
            `grain.IterDataset`.
        verbose: whether the number of files is printed.

    Returns:
        A data set of (pictures, labels), float32 from 0 to 255, or of pictures alone, with
        `class_names` and `file_paths`; for "both" a list of two.

    Raises:
        ValueError: the folder has no picture, an argument is not valid, or labels do not fit.

    >>> import tempfile
    >>> from keraslite.utils.images import save_img
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, name).mkdir()
    ...         save_img(Path(folder, name, "0.png"), np.ones((12, 16, 3)))
    ...     data = image_dataset_from_directory(folder, image_size=(6, 8), batch_size=2)
    ...     x, y = next(iter(data))
    Found 2 files belonging to 2 classes.
    >>> data.class_names, x.shape, sorted(y.tolist())
    (['cat', 'dog'], (2, 6, 8, 3), [0, 1])
    """
    check_word("color_mode", color_mode, COLOR_MODES)
    check_word("interpolation", interpolation.lower(), INTERPOLATIONS)
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2:
        raise ValueError(f"image_size must be (height, width), got {image_size!r}.")
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError(
            "At most one of crop_to_aspect_ratio and pad_to_aspect_ratio must be set, not both."
        )
    options = (
        size, color_mode, interpolation.lower(), crop_to_aspect_ratio, pad_to_aspect_ratio,
        is_channels_first(data_format),
    )  # fmt: skip
    return dataset_of_files(
        directory, labels, label_mode, class_names, IMAGE_ENDINGS,
        lambda path: _read_image(path, *options),
        batch_size, shuffle, seed, validation_split, subset, follow_links, verbose, format=format,
    )  # fmt: skip


def text_dataset_from_directory(
    directory: Any,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    batch_size: int | None = 32,
    max_length: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """Return a data set of the .txt files of a folder, in batches of strings.

    Args:
        directory: the folder; with inferred labels, it has a folder for each class.
        labels: as for `image_dataset_from_directory`.
        label_mode: likewise.
        class_names: likewise.
        batch_size: texts in a batch; None for single ones.
        max_length: the most characters of a text; longer ones are cut.
        shuffle: whether files are shuffled, and each epoch has an order of its own.
        seed: of the orders.
        validation_split: the part of the files that is held out for validation.
        subset: "training", "validation", or "both" for a pair of data sets.
        follow_links: whether links to folders are followed.
        format: likewise.
        verbose: whether the number of files is printed.

    Returns:
        As `image_dataset_from_directory`, with arrays of str for the pictures.

    Raises:
        ValueError: the folder has no text, an argument is not valid, or labels do not fit.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "good").mkdir()
    ...     _ = Path(folder, "good", "0.txt").write_text("a film")
    ...     next(iter(text_dataset_from_directory(folder, verbose=False)))
    (array(['a film'], dtype='<U6'), array([0], dtype=int32))
    """
    return dataset_of_files(
        directory, labels, label_mode, class_names, (".txt",),
        lambda path: Path(path).read_text(encoding="utf-8")[:max_length],
        batch_size, shuffle, seed, validation_split, subset, follow_links, verbose, format=format,
    )  # fmt: skip


def dataset_of_files(
    directory: Any, labels: Any, label_mode: str | None, class_names: Any, endings: tuple,
    load: Callable, batch_size: int | None, shuffle: bool, seed: int | None,
    validation_split: float | None, subset: str | None, follow_links: bool, verbose: bool,
    stack: Callable = np.stack, format: str = "tf",
) -> Any:  # fmt: skip
    """Return the data set of a folder, or of a part of it, or both parts.

    Args:
        directory: as for `image_dataset_from_directory`, and so the next three.
        labels: likewise.
        label_mode: likewise.
        class_names: likewise.
        endings: what names of files end in, such as ".jpg".
        load: a function that reads a path.
        batch_size: files in a batch; None for single files.
        shuffle: as for `image_dataset_from_directory`, and so all others but the last.
        seed: likewise.
        validation_split: likewise.
        subset: likewise.
        follow_links: likewise.
        verbose: likewise.
        stack: makes one batch of what was loaded for its files.
        format: "tf" or "grain".
    """
    check_word("format", format, FORMATS)
    check_word("label_mode", label_mode, ("int", "categorical", "binary", None))
    check_split(validation_split, subset, shuffle, seed)
    if labels not in ("inferred", None):
        if not isinstance(labels, list | tuple):
            raise ValueError(
                "labels must be 'inferred', None, or a list of class numbers, one a file, got "
                f"{labels!r}."
            )
        if class_names is not None:
            raise ValueError("class_names can be set with labels='inferred' alone.")
    labels = None if label_mode is None else labels
    seed = make_default_seed() % 2**32 if seed is None else seed
    paths, numbers, names = index_directory(directory, labels, endings, class_names, follow_links)
    if label_mode == "binary" and names is not None and len(names) != 2:
        raise ValueError(f"label_mode='binary' needs two classes, got {names}.")
    if verbose:
        report(paths, names)
    if not paths:
        raise ValueError(f"There is no file that ends in {', '.join(endings)} in {directory}.")
    if shuffle:
        paths, numbers = shuffled(paths, numbers, seed)
    targets = None if numbers is None else _encode(numbers, label_mode, len(names or ()))

    def part(rows: slice, order: bool) -> Any:
        kept = None if targets is None else targets[rows]
        if not paths[rows]:
            raise ValueError(
                f"validation_split={validation_split} of {len(paths)} files leaves one part empty."
            )
        files = FileDataset(paths[rows], kept, load, batch_size, order, seed, names, stack=stack)
        return in_format(files, format)

    if subset is None:
        return part(slice(None), shuffle)
    training, held_out = split_rows(len(paths), validation_split or 0.0)
    if subset == "both":
        return [part(training, shuffle), part(held_out, False)]
    rows = training if subset == "training" else held_out
    if verbose:
        message(f"Using {len(paths[rows])} files for {subset}.")
    return part(rows, shuffle)


def _encode(numbers: np.ndarray, label_mode: str | None, count: int) -> np.ndarray:
    if label_mode == "categorical":
        return np.eye(count, dtype="float32")[numbers]
    return numbers.astype("float32")[:, None] if label_mode == "binary" else numbers.astype("int32")
