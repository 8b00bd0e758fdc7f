"""The batches of pictures that CIFAR-10 and CIFAR-100 are published as."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keraslite.datasets.arrays import unpickle
from keraslite.ops.layout import is_channels_first


def read_batches(paths: Sequence[Path], label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the pictures and labels of files, one after the other.

    Args:
        paths: pickles of a dict of the pictures, and of lists of labels.
        label_key: which labels.

    Returns:
        uint8 arrays (pictures, 32, 32, 3), or (pictures, 3, 32, 32) where the image data format is
        "channels_first", and (pictures, 1).
    """
    pictures, labels = [], []
    for path in paths:
        with open(path, "rb") as file:
            batch = unpickle(file, encoding="bytes")
        pictures.append(batch[b"data"])
        labels.append(np.asarray(batch[label_key.encode()], "uint8"))
    x = np.concatenate(pictures).reshape(-1, 3, 32, 32)
    if not is_channels_first(None):
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return x, np.concatenate(labels)[:, None]
