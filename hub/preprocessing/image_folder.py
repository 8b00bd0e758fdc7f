"""ImageFolder: the pictures of a folder with a folder for each class, read when asked for."""

import functools
import inspect
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

import numpy as np

from hub.preprocessing.image_inputs import is_read, open_image, outcome, to_rgb
from keraslite.random import make_default_seed
from keraslite.utils.data import map_ahead, permutation, read_batches
from keraslite.utils.folders import index_directory

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
DEFAULT_BATCH_SIZE = 32


def default_workers() -> int:
    """Return how many threads read images where nothing else is said."""
    return min(os.cpu_count() or 1, 8)


class ImageFolder:
    """The pictures of a folder that has a folder for each class.

    Nothing is decoded before it is asked for, and nothing is kept. `folder[i]` is a picture and
    the name of its class; iteration gives all of them in order, read ahead by workers.

    Args:
        directory: the folder. Pictures may lie in folders below that of their class.
        transform: a function of a picture, such as an augmentation. If it has an argument `seed`,
            it is called with an int that follows from the seed of the batches, the number of the
            epoch and the picture.
        class_names: the names of the folders in the order of the classes; sorted by default.
        on_error: "raise" for an error at the first file that cannot be read, or "skip" to leave
            such files out, with a warning that names each.
        workers: the number of threads or processes; that of the processor cores, but not more than
            8, by default.
        processes: whether pictures are read in processes. They are started anew, so that a
            `transform` must be a function of a module.
        follow_links: whether links to folders are followed.

    Attributes:
        class_names: the names of the classes.
        paths: the paths of the pictures.
        labels: the name of the class of each.

    Raises:
        NotADirectoryError: there is no such folder.
        ValueError: it has no class, or a class without pictures.

    >>> import tempfile
    >>> from keraslite.utils import save_img
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     for name in ("cat", "dog"):
    ...         os.mkdir(f"{directory}/{name}")
    ...         save_img(f"{directory}/{name}/0.png", np.ones((12, 16, 3)))
    ...     folder = ImageFolder(directory)
    ...     picture, name = folder[1]
    >>> folder.class_names, picture.size, name
    (['cat', 'dog'], (16, 12), 'dog')
    """

    def __init__(
        self,
        directory: Any,
        transform: Callable | None = None,
        class_names: Sequence[str] | None = None,
        on_error: str = "raise",
        workers: int | None = None,
        processes: bool = False,
        follow_links: bool = False,
    ):
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
        self.directory = os.fspath(directory)
        self.transform, self.on_error, self.processes = transform, on_error, processes
        self.workers = workers or default_workers()
        paths, numbers, names = index_directory(
            directory, "inferred", ENDINGS, class_names, follow_links
        )
        if not names:
            raise ValueError(
                f"{self.directory} must have a folder for each class, with the pictures in it: "
                "it has no folders."
            )
        counts = np.bincount(numbers, minlength=len(names))
        if empty := [name for name, count in zip(names, counts, strict=True) if not count]:
            raise ValueError(
                f"Each class must have a file that ends in {', '.join(ENDINGS)}: in "
                f"{self.directory} there are none for {empty}."
            )
        self.class_names = list(names)
        self.paths = paths
        self.labels = [names[i] for i in numbers]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, str]:
        return read_picture(self.paths[index], self.transform, 0), self.labels[index]

    def __iter__(self) -> Iterator[tuple[Any, str]]:
        read = functools.partial(outcome, read_picture, transform=self.transform, seed=0)
        pictures = map_ahead(read, self.paths, self.workers, 2 * self.workers, self.pool())
        for picture, label in zip(pictures, self.labels, strict=True):
            if is_read(picture, self.on_error):
                yield picture, label

    def pool(self) -> Executor | None:
        """Return the processes of an epoch; None for threads."""
        if not self.processes:
            return None
        # A fork of a process with threads may wait for ever.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, mp_context=context)

    def split(self, fraction: float, seed: int = 0) -> tuple["ImageFolder", "ImageFolder"]:
        """Return two parts: the rest, and a fraction of the pictures of each class.

        Args:
            fraction: of the second part; each class has one picture at least in either.
            seed: of the choice.

        Raises:
            ValueError: the fraction is not between 0 and 1, or a class has one picture.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must be between 0 and 1, got {fraction!r}.")
        labels = np.array(self.labels)
        held_out: list[int] = []
        for number, name in enumerate(self.class_names or sorted(set(self.labels))):
            rows = np.flatnonzero(labels == name)
            if not len(rows):  # of a data set that names more classes than it has
                continue
            if len(rows) < 2:
                raise ValueError(
                    f"A split needs two pictures of each class, {name!r} has {len(rows)} in "
                    f"{self.directory}."
                )
            count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
            held_out += rows[permutation(len(rows), seed, number)[:count]].tolist()
        rest = sorted(set(range(len(self))) - set(held_out))
        return self._part(rest), self._part(sorted(held_out))

    def _part(self, rows: list[int]) -> "ImageFolder":
        part = type(self).__new__(type(self))
        part.__dict__.update(self.__dict__)
        part.paths = [self.paths[i] for i in rows]
        part.labels = [self.labels[i] for i in rows]
        return part

    def batches(
        self,
        batch_size: int = DEFAULT_BATCH_SIZE,
        preprocessor: Callable | None = None,
        class_names: Sequence[str] | None = None,
        shuffle: bool = False,
        seed: int | None = None,
    ) -> "FolderBatches":
        """Return the pictures in batches, which `fit` reads.

        Args:
            batch_size: pictures in a batch.
            preprocessor: a function of a picture that gives an array, after `transform`; as arrays
                of one size by default.
            class_names: the names whose places are the class numbers; `class_names` of the folder
                by default.
            shuffle: whether each epoch has an order of its own.
            seed: of the orders; a new one by default.
        """
        return FolderBatches(self, batch_size, preprocessor, class_names, shuffle, seed)


class FolderBatches:
    """Batches of the pictures of a folder: (arrays, class numbers), read ahead by workers.

    The order of an epoch, and the seeds of its transforms, follow from the seed and the number of
    the epoch.

    Args:
        folder: an `ImageFolder`.
        batch_size: pictures in a batch.
        preprocessor: a function of a picture that gives an array.
        class_names: the names whose places are the class numbers.
        shuffle: whether each epoch has an order of its own.
        seed: of the orders.
    """

    def __init__(
        self,
        folder: ImageFolder,
        batch_size: int = DEFAULT_BATCH_SIZE,
        preprocessor: Callable | None = None,
        class_names: Sequence[str] | None = None,
        shuffle: bool = False,
        seed: int | None = None,
    ):
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a positive int, got {batch_size!r}.")
        names = list(class_names or folder.class_names)
        numbers: dict[Any, int] = {name: i for i, name in enumerate(names)}
        numbers |= {i: i for i in range(len(names))}  # of data sets whose classes have no names
        if missing := sorted(set(folder.labels) - set(numbers), key=str):
            raise ValueError(
                f"The labels of {folder.directory}, or its folders, must be named as the classes, "
                f"{names}: got {missing}."
            )
        self.folder, self.batch_size, self.preprocessor = folder, batch_size, preprocessor
        self.class_names, self.shuffle = names, shuffle
        self.seed = make_default_seed() if seed is None else seed
        self._numbers = np.array([numbers[name] for name in folder.labels], "int32")
        self._next_epoch = 0

    def __len__(self) -> int:
        return -(-len(self.folder) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self._next_epoch += 1
        return self.epoch(self._next_epoch - 1)

    def epoch(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the batches of an epoch.

        Args:
            number: of the epoch, from 0 on.
        """
        folder, count = self.folder, len(self.folder)
        order = permutation(count, self.seed, number) if self.shuffle else np.arange(count)
        rows = [(int(i), folder.paths[i]) for i in order]
        read = functools.partial(
            _read_row, transform=folder.transform, preprocessor=self.preprocessor,
            seed=self.seed, epoch=number,
        )  # fmt: skip
        for batch, pictures in read_batches(
            read, rows, self.batch_size, folder.workers, folder.pool()
        ):
            readable = [
                (x, i)
                for x, (i, _) in zip(pictures, batch, strict=True)
                if is_read(x, folder.on_error)
            ]
            if readable:
                x, places = zip(*readable, strict=True)
                yield _stacked(x, [folder.paths[i] for i in places]), self._numbers[list(places)]


def _stacked(arrays: Sequence[np.ndarray], paths: list[str]) -> np.ndarray:
    for array, path in zip(arrays, paths, strict=True):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"The pictures of a batch must have the same size, got {arrays[0].shape} of "
                f"{paths[0]} and {array.shape} of {path}: resize them in `transform` or give a "
                "preprocessor."
            )
    return np.stack(arrays)


def read_picture(path: str, transform: Callable | None, seed: int) -> Any:
    """Return the picture of a file in RGB, after a transform.

    Args:
        path: the file.
        transform: a function of the picture, and of `seed` where it has such an argument.
        seed: of the transform.

    Raises:
        ValueError: Pillow cannot read the file.
    """
    return transformed(to_rgb(open_image(path, path)), transform, seed)


def transformed(picture: Any, transform: Callable | None, seed: int) -> Any:
    """Return a picture after a transform.

    Args:
        picture: the picture.
        transform: a function of it, and of `seed` where it has such an argument; None for none.
        seed: of the transform.
    """
    if transform is None:
        return picture
    return transform(picture, seed=seed) if _takes_seed(transform) else transform(picture)


@functools.lru_cache(64)
def _takes_seed(transform: Callable) -> bool:
    try:
        return "seed" in inspect.signature(transform).parameters
    except ValueError:  # a function of C, without a signature
        return False


def _read_row(
    row: tuple[int, str], transform: Callable | None, preprocessor: Callable | None, seed: int,
    epoch: int,
) -> Any:  # fmt: skip
    """Return the array of a picture, or the error of a file that cannot be read."""
    index, path = row
    seed = int(np.random.SeedSequence((seed % 2**64, epoch, index)).generate_state(1)[0])
    picture = outcome(read_picture, path, transform, seed)
    if isinstance(picture, Exception):
        return picture
    return np.asarray(picture) if preprocessor is None else preprocessor(picture)
