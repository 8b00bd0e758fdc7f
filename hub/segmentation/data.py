"""Pictures with masks of their objects, as batches a segmenter is trained on.

Where prompts are not given they are drawn from the masks, as the authors do: a point of the mask,
or its box, each side of which is shifted by noise of a tenth of its size, and of 20 pixels at most
(Kirillov et al., "Segment Anything", 2023, appendix A).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hub.preprocessing.image_inputs import list_images, open_image
from hub.preprocessing.segmentation import SegmentationPreprocessor
from hub.segmentation.boxes import mask_boxes
from hub.segmentation.prompts import Prompts, prepare_prompts, stack_prompts
from keraslite.random import make_default_seed
from keraslite.utils.data import permutation

PROMPTS = ("points", "boxes", "mixed")
_PROMPTS = ("points", "labels", "boxes")
_NOISE, _MOST_NOISE = 0.1, 20.0


class MaskSample(NamedTuple):
    """A picture, the masks of its objects, and prompts for these.

    Args:
        picture: a path, a Pillow image or an array.
        masks: (objects, height, width) of bool, of the size of the picture.
        prompts: "points" and "labels", nested by objects, and "boxes" (objects, 4), of those that
            are given.
    """

    picture: Any
    masks: np.ndarray
    prompts: dict[str, Any]


def as_mask_samples(x: Any, y: Any = None) -> list[MaskSample]:
    """Return pictures with masks and prompts, checked.

    Args:
        x: pairs of a picture and a dict of its "masks" and perhaps "points", "labels" and "boxes";
            a dict of "images" and lists of these for each; or pictures, with y.
        y: the masks of each picture, (height, width) or (objects, height, width); or a dict of
            lists, "masks" and the prompts.

    Raises:
        TypeError: data are of another form.
        ValueError: there are not masks for each picture, masks are of another size than their
            picture or empty, or prompts are not of as many objects.

    >>> picture, mask = np.zeros((4, 6, 3), "uint8"), np.ones((4, 6), bool)
    >>> as_mask_samples([(picture, {"masks": mask})])[0].masks.shape
    (1, 4, 6)
    """
    if isinstance(x, Mapping):
        x, y = x.get("images"), {name: value for name, value in x.items() if name != "images"}
    if y is None:
        if not isinstance(x, Sequence) or not all(_is_pair(row) for row in x):
            raise TypeError(
                'Data must be pairs of a picture and a dict of its "masks", a dict of "images" and '
                f'"masks", or pictures and masks, got {type(x).__name__}.'
            )
        rows = [(picture, dict(facts)) for picture, facts in x]
    else:
        pictures = list_images(x)
        columns = y if isinstance(y, Mapping) else {"masks": y}
        for name, column in columns.items():
            if len(column) != len(pictures):
                raise ValueError(
                    f"There must be {name} for each of the {len(pictures)} pictures, got "
                    f"{len(column)}."
                )
        rows = [
            (picture, {name: column[i] for name, column in columns.items()})
            for i, picture in enumerate(pictures)
        ]
    if not rows:
        raise ValueError("There must be a picture, got none.")
    return [_sample(i, picture, facts) for i, (picture, facts) in enumerate(rows)]


def _is_pair(row: Any) -> bool:
    return isinstance(row, list | tuple) and len(row) == 2 and isinstance(row[1], Mapping)


def _sample(number: int, picture: Any, facts: Mapping[str, Any]) -> MaskSample:
    unknown = sorted(set(facts) - {"masks", *_PROMPTS})
    if unknown or "masks" not in facts:
        raise ValueError(
            f'Picture {number} must have "masks", and may have {list(_PROMPTS)}, got '
            f"{sorted(facts)}."
        )
    masks = np.asarray(facts["masks"])
    masks = masks[None] if masks.ndim == 2 else masks
    if masks.ndim != 3 or not len(masks) or not np.isin(masks, (0, 1)).all():
        raise ValueError(
            f"The masks of picture {number} must be (height, width) or (objects, height, width) of "
            f"bool, or of 0 and 1, got {masks.dtype} of the shape {masks.shape}."
        )
    opened = open_image(picture, f"Picture {number}")
    if masks.shape[1:] != (opened.height, opened.width):
        raise ValueError(
            f"The masks of picture {number} must have its size, {(opened.height, opened.width)}, "
            f"got {masks.shape[1:]}."
        )
    empty = np.flatnonzero(~masks.any((1, 2)))
    if len(empty):
        raise ValueError(f"Mask {empty[0]} of picture {number} is empty: leave it out.")
    prompts = {name: facts[name] for name in _PROMPTS if facts.get(name) is not None}
    for name, value in prompts.items():
        if len(value) != len(masks):
            raise ValueError(
                f"{name} of picture {number} must be those of each of its {len(masks)} masks, got "
                f"{len(value)}."
            )
    return MaskSample(picture, masks.astype(bool), prompts)


class MaskBatches:
    """Batches of pictures, prompts, and what the masks of these are.

    A batch is (inputs, masks, weights): a dict of "images" or "image_embeddings" and of prompts
    with an axis of sets, as `hub.SAMBackbone` takes them; masks (pictures, sets, mask size, mask
    size) of float32; and weights (pictures, sets), which are 0 for sets that fill up.

    What is drawn follows from the seed, the number of the epoch, and that of the batch.

    Args:
        samples: of `as_mask_samples`.
        preprocessor: of the segmenter.
        embeddings: of each picture, (rows, columns, width); None for pictures themselves.
        batch_size: pictures in a batch.
        prompts: what is drawn for samples without prompts: "points", "boxes", or "mixed" for one of
            these for each batch.
        most_objects: of a picture; of pictures with more, these are drawn.
        shuffle: whether each epoch has an order of its own.
        seed: a new one by default.

    Raises:
        ValueError: an argument has a value that is not valid.

    >>> sample = MaskSample(np.zeros((8, 8, 3), "uint8"), np.ones((1, 8, 8), bool), {})
    >>> batches = MaskBatches([sample], SegmentationPreprocessor(8, 8), prompts="boxes", seed=0)
    >>> inputs, masks, weights = next(batches.epoch(0))
    >>> inputs["images"].shape, inputs["boxes"].shape, masks.shape, weights.tolist()
    ((1, 8, 8, 3), (1, 1, 1, 2, 2), (1, 1, 8, 8), [[1.0]])
    """

    def __init__(
        self,
        samples: Sequence[MaskSample],
        preprocessor: SegmentationPreprocessor,
        embeddings: Sequence[np.ndarray] | None = None,
        batch_size: int = 2,
        prompts: str = "mixed",
        most_objects: int = 8,
        shuffle: bool = False,
        seed: int | None = None,
    ):
        for name, count in (("batch_size", batch_size), ("most_objects", most_objects)):
            if type(count) is not int or count < 1:
                raise ValueError(f"{name} must be a positive int, got {count!r}.")
        if prompts not in PROMPTS:
            raise ValueError(f"prompts must be one of {PROMPTS}, got {prompts!r}.")
        self.samples, self.preprocessor, self.embeddings = samples, preprocessor, embeddings
        self.batch_size, self.prompts, self.most_objects = batch_size, prompts, most_objects
        self.shuffle, self.seed = shuffle, make_default_seed() if seed is None else seed
        self._targets = [preprocessor.targets(sample.masks) for sample in samples]
        self._next_epoch = 0

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch_size)

    def __iter__(self) -> Iterator[tuple]:
        self._next_epoch += 1
        return self.epoch(self._next_epoch - 1)

    def epoch(self, number: int) -> Iterator[tuple]:
        """Yield the batches of an epoch.

        Args:
            number: of the epoch, from 0 on.
        """
        count = len(self.samples)
        order = permutation(count, self.seed, number) if self.shuffle else np.arange(count)
        for batch, start in enumerate(range(0, count, self.batch_size)):
            random = np.random.default_rng([abs(self.seed), number, batch])
            yield self._batch(order[start : start + self.batch_size].tolist(), random)

    def _batch(self, numbers: list[int], random: np.random.Generator) -> tuple:
        form = self.prompts if self.prompts != "mixed" else PROMPTS[random.integers(2)]
        draw: Callable = _drawn_points if form == "points" else _drawn_boxes
        rows, targets = [], []
        for i in numbers:
            sample = self.samples[i]
            objects = np.arange(len(sample.masks))
            if len(objects) > self.most_objects:
                objects = np.sort(random.choice(objects, self.most_objects, replace=False))
            height, width = sample.masks.shape[1:]
            given = {k: [v[j] for j in objects] for k, v in sample.prompts.items()}
            rows.append(
                prepare_prompts(
                    self.preprocessor.geometry((height, width)),
                    **(given or draw(sample.masks[objects], random)),
                )
            )
            targets.append(self._targets[i][objects])
        inputs = _stacked(rows)
        if self.embeddings is None:
            inputs["images"], _ = self.preprocessor([self.samples[i].picture for i in numbers])
        else:
            inputs["image_embeddings"] = np.stack([self.embeddings[i] for i in numbers])
        sets = next(v.shape[1] for k, v in inputs.items() if k in ("points", "boxes"))
        masks = np.zeros((len(numbers), sets, *targets[0].shape[1:]), "float32")
        weights = np.zeros((len(numbers), sets), "float32")
        for i, row in enumerate(targets):
            masks[i, : len(row)], weights[i, : len(row)] = row, 1
        return inputs, masks, weights


def _stacked(rows: list[Prompts]) -> dict[str, np.ndarray]:
    """Return the inputs for prompts of several pictures, of few shapes, with the padding point."""

    def round_up(count: int) -> int:
        return 1 << (count - 1).bit_length()

    sets = round_up(max(map(len, rows)))
    points = max((row.points.shape[1] for row in rows if row.points is not None), default=0)
    rows = [row.padded(sets, round_up(points) if points else None) for row in rows]
    inputs, _ = stack_prompts(rows)
    if "points" in inputs and "boxes" not in inputs:  # as published weights are trained
        fill = ((0, 0), (0, 0), (0, 1))
        inputs["points"] = np.pad(inputs["points"], (*fill, (0, 0)))
        inputs["labels"] = np.pad(inputs["labels"], fill, constant_values=-1)
        if "padding_mask" in inputs:
            inputs["padding_mask"] = np.pad(inputs["padding_mask"], fill, constant_values=True)
    return inputs


def _drawn_points(masks: np.ndarray, random: np.random.Generator) -> dict[str, Any]:
    """Return a point of each mask."""
    points = []
    for mask in masks:
        places = np.flatnonzero(mask)
        y, x = divmod(int(places[random.integers(len(places))]), mask.shape[1])
        points.append([[x, y]])
    return {"points": points}


def _drawn_boxes(masks: np.ndarray, random: np.random.Generator) -> dict[str, Any]:
    """Return a box about around each mask."""
    boxes = mask_boxes(masks).astype("float64")
    boxes[:, 2:] += 1  # after the last pixel
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    noise = np.clip(random.normal(size=boxes.shape) * _NOISE * sides, -_MOST_NOISE, _MOST_NOISE)
    noise = np.clip(noise, -0.4 * sides, 0.4 * sides)  # so that an inside is left
    limits = np.tile(masks.shape[:0:-1], 2)
    return {"boxes": np.clip(boxes + noise, 0, limits)}
