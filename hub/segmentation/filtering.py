"""Which of many predicted masks are kept: sure ones, that do not depend on a threshold, and once.

The steps are those of the authors' automatic mask generation, in their order: `filter_masks` for
each batch of points of a crop, `suppress_in_crop` for each crop, `suppress_between_crops` for the
picture, and perhaps `clean_masks` for small regions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import keraslite as keras
from hub.preprocessing.segmentation import ImageGeometry
from hub.segmentation import rle
from hub.segmentation.boxes import is_near_crop_edge, mask_boxes, uncrop_boxes, uncrop_masks
from hub.segmentation.grids import Crop
from hub.segmentation.regions import remove_small_regions
from hub.segmentation.upsampling import count_above, upsample_masks
from keraslite.utils.bounding_boxes import non_max_suppression

_MOST_PIXELS = 2**25  # of masks that are in memory at a time


class Candidates(NamedTuple):
    """Masks of a picture that are not rejected yet; all arrays have a row for each.

    Args:
        rles: run-length encodings of masks of the size of the picture, uncompressed.
        boxes: (masks, 4), "xyxy" in pixels of the picture, as of `mask_boxes`.
        predicted_iou: (masks,), the quality as the network estimates it.
        stability_score: (masks,), of `stability_scores`.
        points: (masks, 2), the point each mask was predicted for, in pixels of the picture.
        crop_boxes: (masks, 4), the crop each was predicted in, "xyxy".
    """

    rles: list[rle.RLE]
    boxes: np.ndarray
    predicted_iou: np.ndarray
    stability_score: np.ndarray
    points: np.ndarray
    crop_boxes: np.ndarray

    def take(self, indices: Any) -> "Candidates":
        """Return some of the masks.

        Args:
            indices: their numbers, in the order of the result.
        """
        indices = np.asarray(indices, "int64")
        return Candidates([self.rles[i] for i in indices.tolist()], *(x[indices] for x in self[1:]))

    @classmethod
    def concatenate(cls, parts: Sequence["Candidates"]) -> "Candidates":
        """Return the masks of several batches or crops, one after the other.

        Args:
            parts: those of each; there may be none.

        >>> len(Candidates.concatenate([]).rles)
        0
        """
        empty = cls([], *(np.zeros(shape) for shape in ((0, 4), 0, 0, (0, 2), (0, 4))))
        rows = zip(*(parts or [empty]), strict=True)
        rles, *columns = rows
        return cls([x for part in rles for x in part], *map(np.concatenate, columns))


def stability_scores(
    low_res_logits: Any, geometry: ImageGeometry, threshold: float = 0.0, offset: float = 1.0
) -> np.ndarray:
    """Return how little masks depend on the threshold, (...) from 0 to 1.

    It is the intersection over union of the masks of the size of the picture at a higher and at a
    lower threshold, one of which is within the other; 0 where both are empty.

    Args:
        low_res_logits: (..., low height, low width).
        geometry: of the picture or the crop.
        threshold: of the logits.
        offset: how much higher and lower.

    >>> low = np.array([[[-9.0, 9.0]] * 2, [[-1.5, 1.5]] * 2])
    >>> stability_scores(low, ImageGeometry.of((8, 8), longest_side=2)).tolist()
    [1.0, 0.6]
    """
    counts = count_above(low_res_logits, geometry, threshold + offset, threshold - offset)
    return counts[..., 0] / np.maximum(counts[..., 1], 1)


def filter_masks(
    low_res_logits: Any,
    predicted_iou: Any,
    crop: Crop,
    points: Any,
    geometry: ImageGeometry,
    size: Sequence[int],
    pred_iou_thresh: float = 0.88,
    stability_score_thresh: float = 0.95,
    stability_score_offset: float = 1.0,
    mask_threshold: float = 0.0,
) -> Candidates:
    """Return the masks of a batch of points that are good, stable and not cut off by the crop.

    Args:
        low_res_logits: (points, masks, low height, low width), of any backend.
        predicted_iou: (points, masks), likewise.
        crop: the crop that the masks are of.
        points: (points, 2), in pixels of the crop.
        geometry: of the crop in the input.
        size: height and width of the picture.
        pred_iou_thresh: masks must have a higher predicted IoU; 0 for all.
        stability_score_thresh: masks must have a higher stability score; 0 for all.
        stability_score_offset: as for `stability_scores`.
        mask_threshold: of the logits.

    Raises:
        ValueError: shapes that do not match.

    >>> low = np.full((1, 2, 16, 16), -9.0)
    >>> low[0, 0, :8] = 9.0
    >>> crop = Crop((0, 0, 32, 32), 0, np.array([[16.0, 8.0]]))
    >>> geometry = ImageGeometry.of(crop.size, longest_side=32)
    >>> masks = filter_masks(low, [[0.9, 0.3]], crop, crop.points, geometry, (32, 32), 0.8, 0.9)
    >>> masks.boxes.tolist(), masks.stability_score.tolist(), masks.points.tolist()
    ([[0, 0, 31, 15]], [1.0], [[16.0, 8.0]])
    """
    low, quality, points = (
        np.asarray(keras.ops.convert_to_numpy(x)).astype("float32", copy=False)
        for x in (low_res_logits, predicted_iou, points)
    )
    if low.ndim != 4 or low.shape[:2] != quality.shape or points.shape != (len(low), 2):
        raise ValueError(
            "There must be logits (points, masks, height, width), an IoU for each mask, (points, "
            f"masks), and the points (points, 2), got the shapes {low.shape}, {quality.shape} and "
            f"{points.shape}."
        )
    points = np.repeat(points, low.shape[1], axis=0)
    low, quality = low.reshape(-1, *low.shape[2:]), quality.reshape(-1)
    # The cheapest filter first; what it leaves is a fraction.
    kept = np.flatnonzero(quality > pred_iou_thresh) if pred_iou_thresh > 0 else np.arange(len(low))
    stability = stability_scores(low[kept], geometry, mask_threshold, stability_score_offset)
    if stability_score_thresh > 0:
        is_stable = stability > stability_score_thresh
        kept, stability = kept[is_stable], stability[is_stable]
    rles: list[rle.RLE] = []
    boxes, is_whole = np.zeros((len(kept), 4), "int64"), np.zeros(len(kept), bool)
    step = max(_MOST_PIXELS // (size[0] * size[1]), 1)
    for start in range(0, len(kept), step):
        part = slice(start, start + step)
        masks = upsample_masks(low[kept[part]], geometry, mask_threshold)
        boxes[part] = mask_boxes(masks)
        is_whole[part] = ~is_near_crop_edge(boxes[part], crop.box, size)
        masks = masks if is_whole[part].all() else masks[is_whole[part]]
        rles += rle.encode(uncrop_masks(masks, crop.box, size))
    kept = kept[is_whole]
    return Candidates(
        rles, uncrop_boxes(boxes[is_whole], crop.box), quality[kept], stability[is_whole],
        points[kept] + np.array(crop.box[:2], "float32"), np.tile(crop.box, (len(kept), 1)),
    )  # fmt: skip


def suppress(boxes: Any, scores: Any, iou_threshold: float) -> np.ndarray:
    """Return the numbers of the boxes that are left by non-maximum suppression, best first.

    Args:
        boxes: (boxes, 4), "xyxy".
        scores: (boxes,).
        iou_threshold: the largest overlap of two boxes that are both left.

    >>> suppress([[0, 0, 10, 10], [1, 0, 10, 10], [20, 0, 30, 10]], [0.5, 0.9, 0.7], 0.7).tolist()
    [1, 2]
    """
    boxes = np.asarray(boxes, "float32")
    if not len(boxes):
        return np.zeros(0, "int64")
    with keras.use_backend("numpy"):
        out = non_max_suppression(
            boxes, np.asarray(scores, "float32"), iou_threshold=iou_threshold,
            score_threshold=-np.inf, max_output_size=len(boxes), class_agnostic=True,
            pre_top_k=None,
        )  # fmt: skip
    return np.asarray(out["indices"][: int(out["num_detections"])], "int64")


def suppress_in_crop(masks: Candidates, iou_threshold: float = 0.7) -> Candidates:
    """Return the masks of a crop without those whose boxes repeat a better one, best first.

    Args:
        masks: of all points of a crop.
        iou_threshold: the largest overlap of two boxes.
    """
    return masks.take(suppress(masks.boxes, masks.predicted_iou, iou_threshold))


def suppress_between_crops(masks: Candidates, iou_threshold: float = 0.7) -> Candidates:
    """Return the masks of all crops without those that repeat one of a smaller crop.

    Args:
        masks: of all crops of a picture.
        iou_threshold: the largest overlap of two boxes.
    """
    left, top, right, bottom = masks.crop_boxes.T
    areas = np.maximum((right - left) * (bottom - top), 1)
    if len(np.unique(masks.crop_boxes, axis=0)) < 2:
        return masks
    return masks.take(suppress(masks.boxes, 1 / areas, iou_threshold))


def clean_masks(masks: Candidates, min_area: float, iou_threshold: float = 0.7) -> Candidates:
    """Return the masks without small holes and islands, and without those that became the same.

    Of masks whose boxes overlap, one that was not changed is preferred.

    Args:
        masks: of a picture.
        min_area: holes and islands with fewer pixels are removed.
        iou_threshold: the largest overlap of two boxes.
    """
    rles, boxes = list(masks.rles), masks.boxes.copy()
    is_same = np.ones(len(rles), bool)
    for i, encoding in enumerate(masks.rles):
        mask, has_holes = remove_small_regions(rle.decode(encoding), min_area, "holes")
        mask, has_islands = remove_small_regions(mask, min_area, "islands")
        if has_holes or has_islands:
            rles[i], boxes[i], is_same[i] = rle.encode(mask), mask_boxes(mask), False
    changed = masks._replace(rles=rles, boxes=boxes)
    return changed.take(suppress(boxes, is_same, iou_threshold))
