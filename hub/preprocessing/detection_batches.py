"""Batches of a detection data set: inputs of one size, and boxes filled up to one number."""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from hub.preprocessing.detection_augment import DetectionAugment
from hub.preprocessing.detection_formats import IGNORED, PADDING
from hub.preprocessing.image_inputs import is_read, outcome
from hub.preprocessing.letterbox import DetectionPreprocessor, fitted_size, resize_picture
from keraslite.random import make_default_seed
from keraslite.utils.data import permutation, read_batches

_FEWEST = 8  # rows of boxes in a batch
Objects = dict[str, np.ndarray]


def padded_boxes(rows: Sequence[Objects]) -> Objects:
    """Return the objects of pictures as arrays, whose number of boxes is a power of two.

    Args:
        rows: of each picture "boxes" (objects, 4), "labels" (objects,) and, if there are any,
            which are "ignored" (objects,).

    Returns:
        "boxes" (pictures, boxes, 4) of float32, and "labels" (pictures, boxes) of int32: -1 for a
        row of no box, and -3 - c for an ignored box of class c.

    >>> objects = {"boxes": np.ones((2, 4)), "labels": np.array([3, 5]), "ignored": [False, True]}
    >>> out = padded_boxes([objects])
    >>> out["boxes"].shape, out["labels"].tolist()
    ((1, 8, 4), [[3, -8, -1, -1, -1, -1, -1, -1]])
    """
    longest = max((len(row["labels"]) for row in rows), default=0)
    length = max(_FEWEST, 1 << max(longest - 1, 0).bit_length())
    boxes = np.full((len(rows), length, 4), PADDING, "float32")
    labels = np.full((len(rows), length), PADDING, "int32")
    for i, row in enumerate(rows):
        count = len(row["labels"])
        boxes[i, :count] = row["boxes"]
        ignored = row.get("ignored")
        own = np.asarray(row["labels"])
        if ignored is not None:
            own = np.where(np.asarray(ignored, bool) & (own >= 0), IGNORED - 1 - own, own)
        labels[i, :count] = own
    return {"boxes": boxes, "labels": labels}


class DetectionBatches:
    """Batches of a detection data set, made ahead by workers.

    A batch is inputs (batch, height, width, 3) of float32, and a dict of "boxes" (batch, boxes, 4),
    as "xyxy" in pixels of the inputs, and "labels" (batch, boxes): class numbers, -1 for a row of
    no box and -3 - c for an ignored box of class c. The number of boxes is a power of two, so that
    compiled steps meet few shapes.

    The order of an epoch and its augmentation follow from the seed and the number of the epoch.

    Args:
        data: a `DetectionDataset`.
        batch_size: as for `DetectionDataset.batches`, with the other arguments.
        preprocessor: likewise.
        augment: likewise.
        shuffle: likewise.
        seed: likewise.
        closing_epoch: likewise.
        cache_megabytes: likewise.

    Raises:
        ValueError: the batch size is not positive, or inputs of different sizes are augmented.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int = 16,
        preprocessor: DetectionPreprocessor | None = None,
        augment: DetectionAugment | None = None,
        shuffle: bool = False,
        seed: int | None = None,
        closing_epoch: int | None = None,
        cache_megabytes: float = 256,
    ):
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a positive int, got {batch_size!r}.")
        self.preprocessor = preprocessor or DetectionPreprocessor()
        if augment is not None and self.preprocessor.rectangular:
            raise ValueError(
                "Augmentation makes inputs of one size: the preprocessor must not be rectangular."
            )
        self.data, self.batch_size, self.augment, self.shuffle = data, batch_size, augment, shuffle
        self.seed = make_default_seed() if seed is None else seed
        self.closing_epoch = closing_epoch
        self._cache: dict[int, tuple[Image.Image, Objects]] = {}
        self._room = cache_megabytes * 2**20
        self._lock = threading.Lock()
        self._next_epoch = 0

    def __len__(self) -> int:
        return -(-len(self.data) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Objects]]:
        self._next_epoch += 1
        return self.epoch(self._next_epoch - 1)

    def epoch(self, number: int) -> Iterator[tuple[np.ndarray, Objects]]:
        """Yield the batches of an epoch.

        Args:
            number: of the epoch, from 0 on.
        """
        count = len(self.data)
        order = permutation(count, self.seed, number) if self.shuffle else np.arange(count)
        rows = [(int(i), number) for i in order]
        read: Callable = self._plain
        if self.augment is not None:
            read = functools.partial(self._augmented, augment=self.augment)
        read = functools.partial(outcome, read)
        for _, results in read_batches(read, rows, self.batch_size, self.data.workers):
            samples = [x for x in results if is_read(x, self.data.on_error)]
            if samples:
                yield self._batch(samples)

    def _batch(self, samples: list[tuple]) -> tuple[np.ndarray, Objects]:
        preprocessor = self.preprocessor
        if self.augment is None:
            size = preprocessor.input_size([(x.height, x.width) for x, _ in samples])
            placed = [(*preprocessor.placed(x, size), objects) for x, objects in samples]
            samples = [
                (pixels, {**objects, "boxes": place.to_input(objects["boxes"])})
                for pixels, place, objects in placed
            ]
        targets = padded_boxes([objects for _, objects in samples])
        return preprocessor.values(np.stack([pixels for pixels, _ in samples])), targets

    def _plain(self, row: tuple[int, int]) -> tuple[Image.Image, Objects]:
        """Return a picture, which is no larger than it will be in the batch, and its objects."""
        return self._resized(row[0], self.preprocessor.upscale)

    def _augmented(
        self, row: tuple[int, int], augment: DetectionAugment
    ) -> tuple[np.ndarray, Objects]:
        index, epoch = row
        closed = self.closing_epoch is not None and epoch >= self.closing_epoch
        entropy = (self.seed % 2**64, epoch, index)
        seed, *others = np.random.SeedSequence(entropy).generate_state(8).tolist()
        count = augment.pictures(seed, closed)
        partners = [other % len(self.data) for other in others[: count - 1]]
        samples = [self._cached(index)]
        for partner in partners:
            sample = outcome(self._cached, partner)
            if isinstance(sample, Exception) and self.data.on_error == "raise":
                raise sample
            # One that cannot be read is left out when its own turn comes.
            samples.append(samples[0] if isinstance(sample, Exception) else sample)
        return augment(samples, seed, self.preprocessor.size, closed)

    def _cached(self, index: int) -> tuple[Image.Image, Objects]:
        sample = self._cache.get(index)
        if sample is None:
            sample = self._resized(index, True)
            size = 4 * sample[0].width * sample[0].height
            with self._lock:
                if size <= self._room and index not in self._cache:
                    self._room -= size
                    self._cache[index] = sample
        return sample

    def _resized(self, index: int, upscale: bool) -> tuple[Image.Image, Objects]:
        picture = self.data.picture(index)
        height, width = fitted_size(picture.height, picture.width, self.preprocessor.size, upscale)
        objects = self.data.objects(index, picture.height, picture.width)
        scale = np.array((width / picture.width, height / picture.height) * 2, "float32")
        objects["boxes"] = objects["boxes"] * scale
        return resize_picture(picture, (height, width)), objects
