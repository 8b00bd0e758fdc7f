"""MaskGeneration: the masks of everything in a picture, from prompts of a grid of points.

The steps are those of the authors (Kirillov et al., 2023, arXiv:2304.02643, appendix B): each crop
of the picture is encoded, its points are asked about in batches, and of the answers those are kept
that are sure, stable, whole, and not said before.
"""

import math
from dataclasses import dataclass, fields

import numpy as np

import keraslite as keras
from hub.segmentation.filtering import (
    Candidates,
    clean_masks,
    filter_masks,
    suppress_between_crops,
    suppress_in_crop,
)
from hub.segmentation.grids import OVERLAP_RATIO, Crop, crops
from hub.segmentation.prompts import Prompts
from hub.segmentation.results import OUTPUT_MODES, GeneratedMasks
from hub.tasks.image.embedded_image import EmbeddedImage


@dataclass(frozen=True)
class MaskGeneration:
    """A function from an encoded picture to the masks of everything in it.

    Args:
        points_per_side: as for `hub.ImageSegmenter.generate_masks`, with the other arguments.
        points_per_batch: likewise.
        pred_iou_thresh: likewise.
        stability_score_thresh: likewise.
        stability_score_offset: likewise.
        box_nms_thresh: likewise.
        crop_n_layers: likewise.
        crop_nms_thresh: likewise.
        crop_overlap_ratio: likewise.
        crop_n_points_downscale_factor: likewise.
        min_mask_region_area: likewise.
        output_mode: likewise.

    Raises:
        ValueError: a value is out of range.

    >>> MaskGeneration(points_per_batch=0)
    Traceback (most recent call last):
    ...
    ValueError: points_per_batch must be an int of at least 1, got 0.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = OVERLAP_RATIO
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0
    output_mode: str = "binary_mask"

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            least = 0 if name in ("crop_n_layers", "min_mask_region_area") else 1
            if field.type is int:
                if isinstance(value, bool) or not isinstance(value, int) or value < least:
                    raise ValueError(f"{name} must be an int of at least {least}, got {value!r}.")
            elif name.endswith("thresh") and not (
                isinstance(value, int | float) and 0 <= value <= 1
            ):
                raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}.")
        if self.output_mode not in OUTPUT_MODES:
            raise ValueError(
                f"output_mode must be one of {OUTPUT_MODES}, got {self.output_mode!r}."
            )

    def __call__(self, image: EmbeddedImage, verbose: int = 0) -> GeneratedMasks:
        """Return the masks of everything.

        Args:
            image: the picture.
            verbose: 1 shows a progress bar.
        """
        size = image.geometry.size
        listed = list(
            crops(
                size, self.points_per_side, self.crop_n_layers, self.crop_overlap_ratio,
                self.crop_n_points_downscale_factor,
            )
        )  # fmt: skip
        batches = sum(math.ceil(len(crop.points) / self.points_per_batch) for crop in listed)
        bar = keras.utils.Progbar(batches, verbose=verbose, unit_name="batch")
        kept = Candidates.concatenate([self._of_crop(image, crop, bar) for crop in listed])
        kept = suppress_between_crops(kept, self.crop_nms_thresh)
        if self.min_mask_region_area:
            largest = max(self.box_nms_thresh, self.crop_nms_thresh)
            kept = clean_masks(kept, self.min_mask_region_area, largest)
        return GeneratedMasks(kept, size, self.output_mode, **image.source())

    def _of_crop(self, image: EmbeddedImage, crop: Crop, bar: keras.utils.Progbar) -> Candidates:
        segmenter, size = image.segmenter, image.geometry.size
        whole = image if crop.layer == 0 else segmenter.embed(image.picture.crop(crop.box))
        parts, count = [], self.points_per_batch
        for start in range(0, len(crop.points), count):
            points = crop.points[start : start + count]
            prompts = Prompts(
                whole.geometry, points=whole.geometry.to_input(points)[:, None],
                labels=np.ones((len(points), 1), "int32"),
            )  # fmt: skip
            low, scores = segmenter.decode(whole.embedding, prompts)
            parts.append(
                filter_masks(
                    low, scores, crop, points, whole.geometry, size, self.pred_iou_thresh,
                    self.stability_score_thresh, self.stability_score_offset,
                )
            )  # fmt: skip
            bar.add(1)
        return suppress_in_crop(Candidates.concatenate(parts), self.box_nms_thresh)
