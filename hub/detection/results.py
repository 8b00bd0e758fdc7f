"""Results: the detections of a picture, as boxes with names, and drawn."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import keraslite as keras
from hub.detection.picture_result import PictureResult
from hub.detection.pictures import draw_detections


class Detection(NamedTuple):
    """One object in a picture.

    Args:
        box: left, top, right and bottom in pixels.
        score: the confidence, from 0 to 1.
        label: the class number.
        name: the name of the class.

    >>> Detection((10.0, 10.0, 50.0, 30.0), 0.9, 0, "car").name
    'car'
    """

    box: tuple[float, float, float, float]
    score: float
    label: int
    name: str


class Results(PictureResult):
    """The detections of one picture, in order of falling score.

    `len(results)` is the number of detections, `results[0]` the first one, and
    `results[results.scores > 0.5]` the results of some. Iteration gives all.

    Args:
        boxes: (D, 4), "xyxy" in pixels of the picture.
        scores: confidences (D,).
        labels: class numbers (D,).
        names: the names of the classes, a list or by number; the numbers by default.
        picture: a Pillow image or an array; read from `path` when it is needed by default.
        path: of the picture.
        size: the height and width of the picture; those of `picture` by default.
        name: the name of the picture in files; that of `path` by default.

    Attributes:
        boxes: (D, 4) of float32.
        scores: (D,) of float32.
        labels: (D,) of ints.
        names: class number -> name.

    Raises:
        ValueError: there are not as many scores and labels as boxes.

    >>> boxes = [[10, 10, 50, 30], [5, 5, 20, 20], [0, 0, 9, 9]]
    >>> results = Results(boxes, [0.9, 0.6, 0.4], [1, 0, 1], ["car", "person"], path="street.jpg")
    >>> results
    street.jpg: 2 person, 1 car
    >>> results[0].name, results[results.scores > 0.5]
    ('person', street.jpg: 1 person, 1 car)
    """

    def __init__(
        self,
        boxes: Any,
        scores: Any,
        labels: Any,
        names: Mapping[int, str] | Sequence[str] | None = None,
        picture: Any = None,
        path: str | os.PathLike | None = None,
        size: tuple[int, int] | None = None,
        name: str | None = None,
    ):
        self.boxes = _to_numpy(boxes, "float32").reshape(-1, 4)
        self.scores = _to_numpy(scores, "float32").reshape(-1)
        self.labels = _to_numpy(labels, "int64").reshape(-1)
        if not len(self.boxes) == len(self.scores) == len(self.labels):
            raise ValueError(
                f"There must be a score and a label for each box, got {len(self.boxes)} boxes, "
                f"{len(self.scores)} scores and {len(self.labels)} labels."
            )
        self.names = dict(names if isinstance(names, Mapping) else enumerate(names or ()))
        super().__init__(picture, path, size, name)

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Detection]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer):
            box, label = tuple(self.boxes[index].tolist()), int(self.labels[index])
            return Detection(box, float(self.scores[index]), label, self.name_of(label))
        return Results(
            self.boxes[index], self.scores[index], self.labels[index], self.names, self._picture,
            self.path, self._size, self.name,
        )  # fmt: skip

    def name_of(self, label: int) -> str:
        """Return the name of a class; its number where it has none.

        Args:
            label: the class number.
        """
        return self.names.get(label, str(label))

    def __repr__(self) -> str:
        counts = Counter(self.name_of(label) for label in self.labels.tolist())
        text = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        return f"{self.name}: {text or 'no detections'}"

    def in_format(self, bounding_box_format: str) -> np.ndarray:
        """Return the boxes in another format, (D, 4) of float32.

        Args:
            bounding_box_format: as for `keras.utils.bounding_boxes`.

        Raises:
            ValueError: an unknown format.

        >>> Results([[10, 10, 50, 30]], [0.9], [0], size=(40, 100)).in_format("rel_xywh").tolist()
        [[0.1..., 0.25, 0.4..., 0.5]]
        """
        height, width = self.size if bounding_box_format.lower().startswith("rel_") else (1, 1)
        with keras.use_backend("numpy"):
            convert = keras.utils.bounding_boxes.convert_format
            return np.asarray(convert(self.boxes, "xyxy", bounding_box_format, height, width))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON has: the name, path and size of the picture, and its detections.

        >>> Results([[1, 2, 3, 4]], [0.5], [0], ["cat"], size=(8, 9)).to_dict()["detections"]
        [{'box': [1.0, 2.0, 3.0, 4.0], 'score': 0.5, 'label': 0, 'name': 'cat'}]
        """
        detections = [
            {"box": list(box), "score": score, "label": label, "name": name}
            for box, score, label, name in self
        ]
        return {**self.picture_facts(), "detections": detections}

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with a row for each detection.

        Its columns are name, label, score, x1, y1, x2 and y2.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas needs pandas: pip install pandas.") from error
        columns = dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True))
        names = [self.name_of(label) for label in self.labels.tolist()]
        return pandas.DataFrame({
            "name": names, "label": self.labels, "score": self.scores, **columns,
        })  # fmt: skip

    def plot(
        self, scores: bool = True, line_width: int | None = None, font_size: int | None = None
    ) -> Image.Image:
        """Return the picture with the boxes, names and scores drawn on it, as a Pillow image.

        Args:
            scores: whether to write the scores beside the names.
            line_width: in pixels; by the size of the picture by default.
            font_size: likewise.
        """
        texts = [f"{item.name} {item.score:.2f}" if scores else item.name for item in self]
        return draw_detections(self.picture, self.boxes, self.labels, texts, line_width, font_size)

    def crop(self, folder: str | os.PathLike | None = None) -> list[Image.Image]:
        """Return the part of the picture within each box.

        Args:
            folder: where to write them too, in a folder for each class.

        >>> picture = np.zeros((40, 60, 3), "uint8")
        >>> Results([[10, 10, 50, 30]], [0.9], [0], picture=picture).crop()[0].size
        (40, 20)
        """
        picture = self.picture
        width, height = picture.size
        start = np.clip(np.floor(self.boxes[:, :2]), 0, [width - 1, height - 1])
        end = np.clip(np.ceil(self.boxes[:, 2:]), start + 1, [width, height])  # of a pixel at least
        corners = np.concatenate([start, end], -1).astype(int).tolist()
        crops = [picture.crop(tuple(corner)) for corner in corners]
        if folder is not None:
            stem, ending = os.path.splitext(self.name)
            for i, (item, crop) in enumerate(zip(self, crops, strict=True)):
                place = Path(folder) / re.sub(r"[^\w. -]", "_", item.name)
                place.mkdir(parents=True, exist_ok=True)
                crop.save(place / f"{stem}_{i}{ending or '.jpg'}")
        return crops


def _to_numpy(values: Any, dtype: str) -> np.ndarray:
    if hasattr(values, "shape") and not isinstance(values, np.ndarray):
        values = keras.ops.convert_to_numpy(values)
    return np.asarray(values).astype(dtype)
