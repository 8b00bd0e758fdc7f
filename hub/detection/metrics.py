"""How well objects are detected: COCO's average precision and recall, curves, confusions."""

from typing import Any, NamedTuple

import numpy as np

import keraslite as keras
from hub.detection.matching import PictureBoxes, box_areas, match, overlaps, pictures_of

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the intersection over union
RECALLS = np.linspace(0.0, 1.0, 101)
# Of the areas of objects, in pixels.
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
_AT_50, _AT_75 = 0, 5  # of THRESHOLDS
_FEW = (1, 10)  # detections a picture and class, beside `max_detections`
_FLAGS = (len(AREAS), len(THRESHOLDS))
_BYTES = -(-_FLAGS[0] * _FLAGS[1] // 8)
# What is kept of a detection: 24 bytes.
_RECORD = np.dtype([
    ("score", "f8"), ("label", "i4"), ("rank", "u2"), ("right", "u1", _BYTES),
    ("ignored", "u1", _BYTES),
])  # fmt: skip


class Curves(NamedTuple):
    """Precision, recall and F1 of each class, at an intersection over union of 0.5.

    Args:
        labels: the class numbers (C,) of the rows.
        confidence: thresholds of the confidence (P,) from 0 to 1.
        precision: (C, P), of the detections at or above each threshold; 1 where there are none.
        recall: (C, P).
        f1: (C, P).
        recall_points: COCO's 101 recalls.
        precision_at_recall: (C, 101), the best precision at that recall or a higher one.
    """

    labels: np.ndarray
    confidence: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    recall_points: np.ndarray
    precision_at_recall: np.ndarray


class _Accumulated(NamedTuple):
    """COCO's tables; -1 where a class has no object in a range of areas."""

    labels: np.ndarray  # (C,)
    precision: np.ndarray  # (C, A, T, 101)
    recall: np.ndarray  # (C, A, T)
    recall_of_few: np.ndarray  # (C, T, 2), all areas


@keras.saving.register_keras_serializable("hub")
class MeanAveragePrecision(keras.metrics.Metric):
    """COCO's mean average precision and recall, equal to those of pycocotools.

    The mean over classes, over intersections over union from 0.5 to 0.95 and over 101 recalls;
    besides at 0.5 and 0.75, for small, medium and large objects, and the recall of the first 1, 10
    and `max_detections` of a picture and class. Values of which there is no object are -1.

    A batch is matched when it comes, on the host, and 24 bytes a detection are kept, whatever the
    size of the pictures: 12 MB of 5,000 pictures with 100 detections each. Detections of equal
    score are ranked in the order in which they come. It has no variables, and is updated outside
    of compiled steps: `update_state` after each batch of predictions, `result` at the end, and
    `reset_state` before the next pass.

    Args:
        bounding_box_format: of true and detected boxes, in pixels, as for
            `keras.utils.bounding_boxes`.
        max_detections: how many detections of a picture and class count.
        name: a name for logs.
        dtype: kept for Keras code; results are floats.

    Raises:
        ValueError: `max_detections` is not from 11 to 65535, or a relative format.

    >>> metric = MeanAveragePrecision()
    >>> boxes = np.array([[[10.0, 10.0, 50.0, 50.0], [60.0, 10.0, 90.0, 40.0]]])
    >>> labels, confidence = np.array([[0, 1]]), np.array([[0.9, 0.8]])
    >>> y_pred = {"boxes": boxes, "labels": labels, "confidence": confidence}
    >>> metric.update_state({"boxes": boxes, "labels": np.array([[0, 0]])}, y_pred)
    >>> round(metric.result()["mAP50"], 3)
    0.505
    """

    def __init__(
        self,
        bounding_box_format: str = "xyxy",
        max_detections: int = 100,
        name: str = "mean_average_precision",
        dtype: Any = None,
    ):
        super().__init__(dtype=dtype, name=name)
        if not _FEW[-1] < max_detections < 2**16:
            raise ValueError(f"max_detections must be from 11 to 65535, got {max_detections}.")
        self.bounding_box_format = _absolute(bounding_box_format)
        self.max_detections = max_detections
        self.reset_state()

    def reset_state(self) -> None:
        """Forget all batches."""
        self._records: list[np.ndarray] = []
        self._counts: dict[int, np.ndarray] = {}  # class -> objects in each range of areas
        self._tables: _Accumulated | None = None

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch into account.

        Args:
            y_true: a dict of "boxes" (B, M, 4) and "labels" (B, M), or a list of such dicts, one a
                picture. Label -1 is padding, -2 a region in which no detection is wrong,
                and -3 - c one for class c;
                "ignored" or "iscrowd" (B, M) marks such regions of their own class. "areas" may
                hold those of objects whose boxes are larger than they are.
            y_pred: a dict of "boxes" (B, K, 4), "confidence" (B, K), "labels" (B, K), -1 where
                there is none, and perhaps "num_detections" (B,); or a list of dicts.
            sample_weight: must be None: pictures count alike.

        Raises:
            ValueError: boxes are no boxes, or there are sample weights.
        """
        if sample_weight is not None:
            raise ValueError("sample_weight must be None: pictures count alike in COCO's metrics.")
        for picture in pictures_of(y_true, y_pred, self.bounding_box_format):
            ignored = picture.crowd | _outside(picture.areas)
            for label, counts in zip(picture.labels.tolist(), (~ignored).T, strict=True):
                self._counts[label] = self._counts.get(label, 0) + counts
            self._records.append(_matched(picture, ignored, self.max_detections))
        self._tables = None

    def result(self) -> dict[str, float]:
        """Return all values by name: mAP, mAP50, mAP75, mAP_small ... recall_100, recall_large."""
        return _summary(self._accumulated(), self.max_detections)

    def result_by_class(self) -> dict[int, dict[str, float]]:
        """Return the values of each class that has objects, by its number."""
        tables = self._accumulated()
        return {
            int(label): _summary(_Accumulated(*(table[i : i + 1] for table in tables)),
                                 self.max_detections)
            for i, label in enumerate(tables.labels)
        }  # fmt: skip

    def curves(self, points: int = 1001) -> Curves:
        """Return precision, recall and F1 over the confidence for each class that has objects.

        Args:
            points: the number of thresholds of the confidence.
        """
        tables, records = self._accumulated(), self._sorted_records()
        confidence = np.linspace(0, 1, points)
        precision, recall = np.ones((2, len(tables.labels), points))
        for i, label in enumerate(tables.labels):
            rows = _rows_of(records, label)
            right, ignored = (_flags(rows[name])[:, 0, _AT_50] for name in ("right", "ignored"))
            scores = rows["score"][~ignored]
            true = np.concatenate([[0], np.cumsum(right[~ignored])])
            count = np.searchsorted(-scores, -confidence, side="right")
            np.divide(true[count], count, out=precision[i], where=count > 0)
            recall[i] = true[count] / self._counts[int(label)][0]
        total = precision + recall
        f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        return Curves(
            tables.labels, confidence, precision, recall, f1, RECALLS,
            tables.precision[:, 0, _AT_50],
        )  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make it."""
        return {
            **super().get_config(),
            "bounding_box_format": self.bounding_box_format,
            "max_detections": self.max_detections,
        }

    def _sorted_records(self) -> np.ndarray:
        """Return the detections by class and falling score, equal scores in their order."""
        records = np.concatenate([np.empty(0, _RECORD), *self._records])
        self._records = [records]
        return records[np.lexsort((-records["score"], records["label"]))]

    def _accumulated(self) -> _Accumulated:
        if self._tables is None:
            counts = {label: n for label, n in sorted(self._counts.items()) if n[0]}
            self._tables = _accumulate(self._sorted_records(), counts)
        return self._tables


def _outside(areas: np.ndarray) -> np.ndarray:
    """Return whether areas are outside each range, (A, N)."""
    low, high = np.array(list(AREAS.values())).T[..., None]
    return (areas < low) | (areas > high)


def _matched(picture: PictureBoxes, ignored: np.ndarray, max_detections: int) -> np.ndarray:
    """Return the records of the detections of a picture, the first ones of each class."""
    order = np.lexsort((-picture.scores, picture.detected_labels))
    labels = picture.detected_labels[order]
    rank = np.arange(len(labels)) - np.searchsorted(labels, labels)
    first = rank < max_detections
    order, labels, rank = order[first], labels[first], rank[first]
    detected = picture.detected[order]
    overlap = overlaps(detected, picture.boxes, picture.crowd)
    overlap[(labels[:, None] != picture.labels) & (picture.labels >= 0)] = 0
    right, set_aside = match(overlap, picture.crowd, ignored, THRESHOLDS)
    set_aside |= _outside(box_areas(detected)).T[..., None] & ~right
    records = np.empty(len(order), _RECORD)
    records["score"], records["label"] = picture.scores[order], labels
    records["rank"] = rank
    for name, flags in (("right", right), ("ignored", set_aside)):
        records[name] = np.packbits(flags.reshape(len(order), _FLAGS[0] * _FLAGS[1]), axis=-1)
    return records


def _absolute(bounding_box_format: str) -> str:
    if bounding_box_format.lower().startswith("rel_"):
        raise ValueError(f"bounding_box_format must be in pixels, got {bounding_box_format!r}.")
    with keras.use_backend("numpy"):  # an unknown format is refused
        keras.utils.bounding_boxes.convert_format(np.zeros((1, 4)), bounding_box_format, "xyxy")
    return bounding_box_format


def _rows_of(records: np.ndarray, label: int) -> np.ndarray:
    start, end = np.searchsorted(records["label"], [label, label + 1])
    return records[start:end]


def _flags(packed: np.ndarray) -> np.ndarray:
    """Return flags (D, A, T) as bool."""
    flags = np.unpackbits(packed, axis=-1, count=_FLAGS[0] * _FLAGS[1])
    return flags.reshape(-1, *_FLAGS).astype(bool)


def _accumulate(records: np.ndarray, counts: dict[int, np.ndarray]) -> _Accumulated:
    """Return the precision at each recall, and the recall, of sorted records."""
    size = (len(counts), *_FLAGS)
    precision, recall = np.full((*size, len(RECALLS)), -1.0), np.full(size, -1.0)
    recall_of_few = np.full((len(counts), _FLAGS[1], len(_FEW)), -1.0)
    for i, (label, objects) in enumerate(counts.items()):
        rows = _rows_of(records, label)
        right, ignored = _flags(rows["right"]), _flags(rows["ignored"])
        for j, few in enumerate(_FEW):
            recall_of_few[i, :, j] = right[rows["rank"] < few, 0].sum(0) / objects[0]
        for a in np.flatnonzero(objects):
            true = np.cumsum(right[:, a], axis=0, dtype="float64")
            wrong = np.cumsum(~right[:, a] & ~ignored[:, a], axis=0, dtype="float64")
            recalls = true / objects[a]
            recall[i, a] = recalls[-1] if len(rows) else 0.0
            # The best precision at each recall or a higher one; none beyond the last.
            best = np.zeros((len(rows) + 1, _FLAGS[1]))
            best[:-1] = true / (true + wrong + np.spacing(1))
            best = np.maximum.accumulate(best[::-1])[::-1]
            for t in range(_FLAGS[1]):
                places = np.searchsorted(recalls[:, t], RECALLS, side="left")
                precision[i, a, t] = best[places, t]
    return _Accumulated(np.array([*counts], "int64"), precision, recall, recall_of_few)


def _summary(tables: _Accumulated, max_detections: int) -> dict[str, float]:
    def mean(values: np.ndarray) -> float:
        values = values[values > -1]
        return float(values.mean()) if values.size else -1.0

    precision, recall, few = tables[1:]
    sizes = list(enumerate(AREAS))[1:]
    return {
        "mAP": mean(precision[:, 0]),
        "mAP50": mean(precision[:, 0, _AT_50]),
        "mAP75": mean(precision[:, 0, _AT_75]),
        **{f"mAP_{size}": mean(precision[:, a]) for a, size in sizes},
        **{f"recall_{count}": mean(few[..., j]) for j, count in enumerate(_FEW)},
        f"recall_{max_detections}": mean(recall[:, 0]),
        **{f"recall_{size}": mean(recall[:, a]) for a, size in sizes},
    }


@keras.saving.register_keras_serializable("hub")
class DetectionConfusionMatrix(keras.metrics.Metric):
    """How often each class was taken for each other, for the background, or seen in it.

    In each picture the detections of a confidence are paired with the true boxes, whatever their
    classes, from the largest overlap down, each once. Detections in regions to ignore are left out.

    Args:
        num_classes: the number of classes.
        confidence: the least confidence of a detection.
        iou: the least intersection over union of a pair.
        bounding_box_format: as for `MeanAveragePrecision`.
        name: a name for logs.
        dtype: kept for Keras code; results are integers.

    >>> metric = DetectionConfusionMatrix(2)
    >>> boxes = np.array([[[10.0, 10.0, 50.0, 50.0], [60.0, 10.0, 90.0, 40.0]]])
    >>> labels, confidence = np.array([[0, 1]]), np.array([[0.9, 0.1]])
    >>> y_pred = {"boxes": boxes, "labels": labels, "confidence": confidence}
    >>> metric.update_state({"boxes": boxes, "labels": np.array([[1, 1]])}, y_pred)
    >>> metric.result()
    array([[0, 0, 0],
           [1, 0, 1],
           [0, 0, 0]])
    """

    def __init__(
        self,
        num_classes: int,
        confidence: float = 0.25,
        iou: float = 0.45,
        bounding_box_format: str = "xyxy",
        name: str = "detection_confusion_matrix",
        dtype: Any = None,
    ):
        super().__init__(dtype=dtype, name=name)
        self.num_classes, self.confidence, self.iou = num_classes, confidence, iou
        self.bounding_box_format = _absolute(bounding_box_format)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget all batches."""
        self._counts = np.zeros((self.num_classes + 1,) * 2, "int64")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch into account; the arguments are those of `MeanAveragePrecision`.

        Raises:
            ValueError: boxes are no boxes, a class number is too large, or there are sample
                weights.
        """
        if sample_weight is not None:
            raise ValueError("sample_weight must be None: pictures count alike.")
        background = self.num_classes
        for picture in pictures_of(y_true, y_pred, self.bounding_box_format):
            sure = picture.scores >= self.confidence
            order = np.argsort(-picture.scores[sure], kind="stable")
            detected = picture.detected[sure][order]
            answers = picture.detected_labels[sure][order]
            truth = picture.labels[~picture.crowd]
            largest = max(answers.max(initial=-1), truth.max(initial=-1))
            if largest >= self.num_classes:
                raise ValueError(
                    f"Class numbers must be from 0 to {self.num_classes - 1}, got {largest}."
                )
            rows, columns = _pairs(
                overlaps(detected, picture.boxes[~picture.crowd]), self.iou
            )  # of detections, and of true boxes
            np.add.at(self._counts, (truth[columns], answers[rows]), 1)
            np.add.at(self._counts, (np.delete(truth, columns), background), 1)
            crowd = picture.crowd
            regions = overlaps(detected, picture.boxes[crowd], crowd[crowd]) >= self.iou
            own = (answers[:, None] == picture.labels[crowd]) | (picture.labels[crowd] < 0)
            wrong = ~(regions & own).any(-1)
            wrong[rows] = False
            np.add.at(self._counts, (background, answers[wrong]), 1)

    def result(self) -> np.ndarray:
        """Return counts (C + 1, C + 1): rows are true, columns detected; the last is background."""
        return self._counts.copy()

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make it."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes, "confidence": self.confidence, "iou": self.iou,
            "bounding_box_format": self.bounding_box_format,
        }  # fmt: skip


def _pairs(overlap: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of pairs from the largest overlap down, each row and column once."""
    rows, columns = np.nonzero(overlap >= least)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    pairs: dict[int, int] = {}
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    return np.array([*pairs], "int64"), np.array([*pairs.values()], "int64")


_KERASCV_NAMES = {
    "mAP": "MaP", "mAP50": "MaP@[IoU=50]", "mAP75": "MaP@[IoU=75]",
    "mAP_small": "MaP@[area=small]", "mAP_medium": "MaP@[area=medium]",
    "mAP_large": "MaP@[area=large]",
    "recall_1": "Recall@[max_detections=1]", "recall_10": "Recall@[max_detections=10]",
    "recall_100": "Recall@[max_detections=100]",
    "recall_small": "Recall@[area=small]", "recall_medium": "Recall@[area=medium]",
    "recall_large": "Recall@[area=large]",
}  # fmt: skip


@keras.saving.register_keras_serializable("hub")
class BoxCOCOMetrics(MeanAveragePrecision):
    """`MeanAveragePrecision` by KerasCV's name and with its names of values.

    Args:
        bounding_box_format: of true and detected boxes, in pixels.
        evaluate_freq: after how many batches values are worked out; in between `result` returns
            those of before.
        name: a prefix of the names of values, where it is set.
        dtype: kept for Keras code; results are floats.

    >>> BoxCOCOMetrics("xyxy", evaluate_freq=10).result(force=True)["MaP@[IoU=50]"]
    -1.0
    """

    def __init__(
        self,
        bounding_box_format: str,
        evaluate_freq: int,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(bounding_box_format, name=name or "box_coco_metrics", dtype=dtype)
        self.evaluate_freq = evaluate_freq
        self._prefix = f"{name}_" if name else ""

    def reset_state(self) -> None:
        """Forget all batches."""
        super().reset_state()
        self._batches = 0
        self._last: dict[str, float] | None = None

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch into account; the arguments are those of `MeanAveragePrecision`."""
        super().update_state(y_true, y_pred, sample_weight)
        self._batches += 1
        if self._batches % self.evaluate_freq == 0:
            self._last = super().result()

    def result(self, force: bool = False) -> dict[str, float]:
        """Return the values by KerasCV's names.

        Args:
            force: whether to take all batches into account.
        """
        if force:
            self._last = super().result()
        values = self._last or dict.fromkeys(_KERASCV_NAMES, 0.0)
        return {self._prefix + _KERASCV_NAMES[key]: value for key, value in values.items()}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make it."""
        config = keras.metrics.Metric.get_config(self)
        return {
            "bounding_box_format": self.bounding_box_format, "evaluate_freq": self.evaluate_freq,
            "name": config["name"] if self._prefix else None, "dtype": config["dtype"],
        }  # fmt: skip
