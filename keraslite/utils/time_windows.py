"""`timeseries_dataset_from_array`: windows over the steps of an array, in batches."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite.random import make_default_seed
from keraslite.utils.data import permutation
from keraslite.utils.dataset_formats import FORMATS, in_format
from keraslite.utils.images import check_word
from keraslite.utils.pipeline import Dataset


class Windows(Dataset):
    """Windows over the steps of an array, in batches, which `fit` reads.

    It can be read again and again. The order of an epoch follows from the seed and its number.

    Args:
        data: the steps (steps, ...).
        targets: one a window, by the step it begins at; None for windows alone.
        starts: the steps that windows begin at.
        offsets: the steps of a window, from its beginning on.
        batch_size: windows in a batch; None for single ones.
        shuffle: whether each epoch has an order of its own.
        seed: of the orders.
    """

    def __init__(
        self,
        data: np.ndarray,
        targets: np.ndarray | None,
        starts: np.ndarray,
        offsets: np.ndarray,
        batch_size: int | None,
        shuffle: bool,
        seed: int | None,
    ):
        self._data, self._targets, self._starts, self._offsets = data, targets, starts, offsets
        self.batch_size, self.shuffle = batch_size, shuffle
        self.seed = make_default_seed() if seed is None else seed

    def cardinality(self) -> int:
        """Return the number of batches."""
        return -(-len(self._starts) // (self.batch_size or 1))

    def epoch(self, number: int) -> Iterator:
        """Yield the batches of an epoch: (windows, targets), or windows alone.

        Args:
            number: of the epoch, from 0 on.
        """
        starts, size = self._starts, self.batch_size or 1
        if self.shuffle:
            starts = starts[permutation(len(starts), self.seed, number)]
        for first in range(0, len(starts), size):
            rows = starts[first : first + size]
            x = self._data[rows[:, None] + self._offsets]
            y = None if self._targets is None else self._targets[rows]
            if self.batch_size is None:
                x, y = x[0], None if y is None else y[0]
            yield x if y is None else (x, y)


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
    format: str = "tf",
) -> Any:
    """Return windows over the steps of an array as a data set of batches.

    Args:
        data: the steps (steps, ...).
        targets: one a window, by the step it begins at; None for windows alone.
        sequence_length: the number of steps of a window.
        sequence_stride: the steps from the beginning of a window to that of the next.
        sampling_rate: the steps from one to the next in a window.
        batch_size: windows in a batch; None for single ones.
        shuffle: whether each epoch has an order of its own.
        seed: of the orders.
        start_index: the first step that is used.
        end_index: the step before which data ends.
        format: "tf" for a `tf.data.Dataset` where the backend is tensorflow, and otherwise for
            `Windows`, which have its methods; "grain" for a `grain.IterDataset`.

    Raises:
        ValueError: an argument is out of the range of the data, or no window fits into it.

    >>> [x.tolist() for x in timeseries_dataset_from_array(np.arange(5), None, 3, batch_size=2)]
    [[[0, 1, 2], [1, 2, 3]], [[2, 3, 4]]]
    """
    check_word("format", format, FORMATS)
    steps = np.asarray(backends.to_numpy(data))
    start, end = start_index or 0, len(steps) if end_index is None else end_index
    if not 0 <= start < end <= len(steps):
        raise ValueError(
            f"start_index and end_index must be a range of the {len(steps)} steps, got "
            f"{start_index} and {end_index}."
        )
    for name, value in (
        ("sequence_length", sequence_length), ("sequence_stride", sequence_stride),
        ("sampling_rate", sampling_rate),
    ):  # fmt: skip
        if not 0 < value <= len(steps):
            raise ValueError(f"{name} must be from 1 to {len(steps)}, got {value}.")
    count = end - start - (sequence_length - 1) * sampling_rate
    rows = None
    if targets is not None:
        rows = np.asarray(backends.to_numpy(targets))[start:end]
        count = min(count, len(rows))
    if count < 1:
        raise ValueError(
            f"No window of {sequence_length} steps at a rate of {sampling_rate} fits into "
            f"{end - start} steps."
        )
    windows = Windows(
        steps[start:end], rows, np.arange(0, count, sequence_stride),
        np.arange(sequence_length) * sampling_rate, batch_size, shuffle, seed,
    )  # fmt: skip
    return in_format(windows, format)
