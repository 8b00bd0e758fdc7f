"""Data sets in the form that is asked for: ours, tf.data's or grain's."""

from collections.abc import Iterator
from typing import Any

from keraslite import backend as backends
from keraslite.utils.pipeline import Dataset

FORMATS = ("tf", "grain")


def in_format(dataset: Dataset, format: str) -> Any:
    """Return a data set in the form of Keras's argument `format`.

    Args:
        dataset: the data set.
        format: "tf" for a `tf.data.Dataset` where the backend is tensorflow, and for the data set
            itself otherwise; "grain" for a `grain.IterDataset`.
    """
    if format == "grain":
        return as_grain(dataset)
    return dataset.as_tf_dataset() if backends.has_tf_data() else dataset


def as_grain(dataset: Dataset) -> Any:
    """Return a data set as a `grain.IterDataset` with the same elements.

    Args:
        dataset: the data set. Its names of classes and files are kept as attributes.

    Raises:
        ImportError: grain is not installed.
    """
    try:
        import grain
    except ImportError as error:
        raise ImportError(
            "format='grain' needs the package grain, which is not installed: pip install grain, "
            "or leave format out."
        ) from error

    class Elements(grain.DatasetIterator):
        """The elements of an epoch, from one of them on."""

        def __init__(self, epoch: int):
            super().__init__()
            self._place = {"epoch": epoch, "element": 0}
            self._live: Iterator = dataset.epoch(epoch)

        def __next__(self) -> Any:
            item = next(self._live)
            self._place["element"] += 1
            return item

        def get_state(self) -> dict[str, Any]:
            return dict(self._place)

        def set_state(self, state: dict[str, Any]) -> None:
            self._place = dict(state)
            self._live = dataset.epoch(state["epoch"])
            for _ in range(state["element"]):
                next(self._live)

    class Epochs(grain.IterDataset):
        """Epochs, one after the other."""

        _read = 0

        def __iter__(self) -> Any:
            self._read += 1
            return Elements(self._read - 1)

        def __len__(self) -> int:
            return len(dataset)

    made = Epochs()
    for name in ("class_names", "file_paths"):
        if hasattr(dataset, name):
            setattr(made, name, getattr(dataset, name))
    return made
