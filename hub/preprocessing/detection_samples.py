"""Boxes of dicts of arrays and of samples, and the check of boxes of any source."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

import keraslite as keras
from hub.preprocessing.detection_formats import IGNORED, PADDING, Annotations, Problems
from hub.preprocessing.image_inputs import is_single_image, list_images

_ROUNDING = 0.01  # how far outside of 0 to 1 a relative number may be


def checked_boxes(
    annotations: Annotations, count: int, problems: Problems
) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (boxes, 4) as corners, "xyxy" or "rel_xyxy", and which of them are sound.

    Args:
        annotations: the boxes.
        count: the number of classes.
        problems: where broken boxes go.

    Raises:
        ValueError: the boxes are all in another format than theirs.
    """
    boxes, labels, name = annotations.boxes, annotations.labels, annotations.bounding_box_format
    relative = name.lower().startswith("rel_")
    with keras.use_backend("numpy"), np.errstate(invalid="ignore", over="ignore"):
        corners = np.asarray(
            keras.utils.bounding_boxes.convert_format(
                boxes, name, "rel_xyxy" if relative else "xyxy", 1, 1
            )
        )
    finite = np.isfinite(boxes).all(axis=1)
    if not relative and len(boxes) and finite.all() and boxes.max() <= 1 and (boxes % 1).any():
        raise ValueError(
            f"{annotations.place(0)}: boxes in the format {name!r} must be in pixels, but no "
            f"number of theirs is over 1, such as {_shown(boxes[0])}: is their format "
            f"'rel_{name}'?"
        )
    in_range = (boxes >= -_ROUNDING).all(axis=1) & (boxes <= 1 + _ROUNDING).all(axis=1)
    checks = [
        (finite, lambda i: f"a box must have finite numbers, got {_shown(boxes[i])}."),
        (
            in_range if relative else np.ones(len(boxes), bool),
            lambda i: (
                f"a box in the format {name!r} must have numbers from 0 to 1, got "
                f"{_shown(boxes[i])}."
            ),
        ),
        (
            (corners[:, 2:] > corners[:, :2]).all(axis=1),
            lambda i: (
                f"a box must have a positive width and height, got {_shown(boxes[i])} in "
                f"the format {name!r}."
            ),
        ),
        (
            ((labels >= 0) & (labels < count)) | (labels == IGNORED),
            lambda i: f"the class must be a number from 0 to {count - 1}, got {labels[i]}.",
        ),
    ]
    sound = np.ones(len(boxes), bool)
    for passed, message in checks:
        for i in np.flatnonzero(sound & ~passed):
            problems.add(f"{annotations.place(i)}: {message(i)}")
        sound &= passed
    return corners, sound


def _shown(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{v:g}" for v in box) + "]"


def read_arrays(
    data: Mapping[str, Any], bounding_box_format: str, class_names: Sequence[str] | None
) -> Annotations:
    """Read a dict of "images" and "bounding_boxes".

    Args:
        data: as for `DetectionDataset.from_arrays`.
        bounding_box_format: of the boxes.
        class_names: the names of the classes.

    Raises:
        ValueError: it has another form.
    """
    if not isinstance(data, Mapping) or set(data) != {"images", "bounding_boxes"}:
        got = sorted(data) if isinstance(data, Mapping) else type(data).__name__
        raise ValueError(f'data must be a dict of "images" and "bounding_boxes", got {got}.')
    images = list_images(data["images"])
    fields = _fields(data["bounding_boxes"], '"bounding_boxes"')
    if {len(values) for values in fields} != {len(images)}:
        raise ValueError(
            f"There must be boxes and labels for each of {len(images)} images, got those of "
            f"{[len(values) for values in fields]}."
        )
    objects = list(zip(*fields, strict=True))
    return _annotations([_on_host(x) for x in images], objects, bounding_box_format, class_names)


def read_samples(
    samples: Iterable, bounding_box_format: str, class_names: Sequence[str] | None
) -> Annotations:
    """Read samples, each an image and a dict of its boxes.

    Args:
        samples: as for `DetectionDataset.from_samples`.
        bounding_box_format: of the boxes.
        class_names: the names of the classes.

    Raises:
        ValueError: a sample has another form.
    """
    by_number = (
        hasattr(samples, "__getitem__")
        and hasattr(samples, "__len__")
        and not isinstance(samples, list | tuple)
    )
    rows: Iterable = _Samples(samples) if by_number else samples
    images: list[Any] = []
    objects: list[tuple] = []
    for i, sample in enumerate(rows):
        image, boxes = _pair(sample, i)
        is_batch = len(getattr(image, "shape", ())) == 4
        if is_batch and by_number:
            raise ValueError(
                "Samples that are read by number must be of one image each, got a batch of the "
                f"shape {tuple(image.shape)}: give (data[i] for i in range(len(data)))."
            )
        fields = _fields(boxes, f"the boxes of sample {i}")
        objects += zip(*fields, strict=True) if is_batch else [tuple(fields)]
        if not by_number:
            images += [_on_host(x) for x in image] if is_batch else [_on_host(image)]
    pictures = _Images(samples) if by_number else images
    return _annotations(pictures, objects, bounding_box_format, class_names)


class _Samples:
    """The samples of a data set that is read by numbers."""

    def __init__(self, samples: Any):
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self.samples):
            raise IndexError(index)
        return self.samples[int(index)]


class _Images(_Samples):
    """Their images, read when they are asked for."""

    def __getitem__(self, index: int) -> Any:
        return _on_host(_pair(super().__getitem__(index), index)[0])


def _pair(sample: Any, number: int) -> tuple[Any, Any]:
    """Return the image and the dict of boxes of a sample."""
    if isinstance(sample, Mapping) and {"images", "bounding_boxes"} <= set(sample):
        return sample["images"], sample["bounding_boxes"]
    if isinstance(sample, tuple | list) and len(sample) == 2 and isinstance(sample[1], Mapping):
        return sample[0], sample[1]
    raise ValueError(
        f"Sample {number} must be an image and a dict of boxes and labels, or a dict of images and "
        f"bounding_boxes, got {type(sample).__name__}."
    )


def _fields(objects: Any, name: str) -> list[Any]:
    """Return the boxes, the labels and, if there are any, the flags of ignored boxes of a dict."""
    names = set(objects) if isinstance(objects, Mapping) else set()
    label = "classes" if "classes" in names else "labels"
    if not {"boxes", label} <= names:
        raise ValueError(
            f'{name} must be a dict of "boxes" and "labels", or "classes", got '
            f"{sorted(names) if names else type(objects).__name__}."
        )
    return [objects[key] for key in ("boxes", label, "ignored") if key in names]


def _on_host(x: Any) -> Any:
    """Return tensors as arrays of NumPy, and anything else as it is."""
    if x is None or is_single_image(x) or isinstance(x, np.ndarray | Image.Image | list | tuple):
        return x
    return keras.ops.convert_to_numpy(x)


def _annotations(
    pictures: Sequence[Any], objects: Sequence[tuple], bounding_box_format: str,
    class_names: Sequence[str] | None,
) -> Annotations:  # fmt: skip
    """Put the boxes of pictures one after the other, without the rows of padding."""
    parts = []
    for i, (boxes, labels, *flags) in enumerate(objects):
        boxes, labels = np.asarray(_on_host(boxes)), np.asarray(_on_host(labels))
        if not boxes.size:
            boxes = boxes.reshape(0, 4)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
            raise ValueError(
                f"Picture {i}: boxes must be (boxes, 4) and labels (boxes,), got "
                f"{boxes.shape} and {labels.shape}."
            )
        numbers = labels.astype("int64")
        if (numbers != labels).any():
            raise ValueError(f"Picture {i}: labels must be class numbers, got {labels.tolist()}.")
        ignored = np.asarray(_on_host(flags[0]), bool) if flags else np.zeros(len(numbers), bool)
        rows = np.flatnonzero(numbers != PADDING)
        ignored = ignored | (numbers == IGNORED)
        parts.append((boxes[rows], numbers[rows], ignored[rows], rows))
    owners = np.repeat(np.arange(len(parts)), [len(part[3]) for part in parts])
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else None
    if columns is None:
        raise ValueError("The data must have a picture, got none.")
    boxes, labels, ignored, rows = columns
    return Annotations(
        pictures, boxes.astype("float32"), labels, ignored,
        np.bincount(owners, minlength=len(parts)),
        lambda i: f"Picture {owners[i]}, box {rows[i]}", bounding_box_format,
        None if class_names is None else list(class_names),
    )  # fmt: skip
