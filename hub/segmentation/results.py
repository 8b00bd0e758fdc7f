"""Results: the masks of a picture that prompts ask for, and those of everything in it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import keraslite as keras
from hub.detection.picture_result import PictureResult
from hub.preprocessing.segmentation import ImageGeometry
from hub.segmentation import rle
from hub.segmentation.boxes import mask_boxes
from hub.segmentation.filtering import Candidates
from hub.segmentation.pictures import draw_masks, draw_prompts, label_map
from hub.segmentation.prompts import Prompts
from hub.segmentation.upsampling import upsample_logits, upsample_masks

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


class Masks(PictureResult):
    """The masks that sets of prompts ask for in one picture, several of each set.

    `len(masks)` is the number of sets, `masks[0]` and `masks[1:3]` the result of some of them.

    Args:
        low_res_logits: (sets, masks, low height, low width), as the network predicts them.
        scores: (sets, masks), the IoU with the object that the network predicts.
        geometry: of the picture.
        prompts: those that were asked, for drawings.
        threshold: of the logits.
        picture: as for `hub.detection.picture_result.PictureResult`, and so `path` and `name`.
        path: likewise.
        name: likewise.

    Attributes:
        low_res_logits: of float32; those of the best mask may be the `masks` of another question.
        scores: of float32.

    Raises:
        ValueError: there is not a score for each mask.

    >>> low = np.full((1, 2, 16, 16), -9.0)
    >>> low[0, 0, :8], low[0, 1, :, :4] = 9.0, 9.0
    >>> masks = Masks(low, [[0.7, 0.9]], ImageGeometry.of((32, 32), longest_side=32))
    >>> masks
    picture.jpg: masks of 1 prompt, best score 0.90
    >>> masks.masks.shape, masks.areas.tolist(), masks.best().areas.tolist()
    ((1, 2, 32, 32), [[512, 256]], [[256]])
    """

    def __init__(
        self,
        low_res_logits: Any,
        scores: Any,
        geometry: ImageGeometry,
        prompts: Prompts | None = None,
        threshold: float = 0.0,
        picture: Any = None,
        path: str | os.PathLike | None = None,
        name: str | None = None,
    ):
        self.low_res_logits = np.asarray(keras.ops.convert_to_numpy(low_res_logits), "float32")
        self.scores = np.asarray(keras.ops.convert_to_numpy(scores), "float32")
        if self.low_res_logits.ndim != 4 or self.low_res_logits.shape[:2] != self.scores.shape:
            raise ValueError(
                "There must be logits (sets, masks, height, width) and scores (sets, masks), got "
                f"the shapes {self.low_res_logits.shape} and {self.scores.shape}."
            )
        self.geometry, self.prompts, self.threshold = geometry, prompts, threshold
        self._masks: np.ndarray | None = None
        super().__init__(picture, path, geometry.size, name)

    @property
    def masks(self) -> np.ndarray:
        """Masks of the size of the picture, (sets, masks, height, width) of bool."""
        if self._masks is None:
            self._masks = upsample_masks(self.low_res_logits, self.geometry, self.threshold)
        return self._masks

    @property
    def logits(self) -> np.ndarray:
        """Logits of the size of the picture, (sets, masks, height, width) of float32."""
        return upsample_logits(self.low_res_logits, self.geometry)

    @property
    def areas(self) -> np.ndarray:
        """The number of pixels of each mask, (sets, masks)."""
        return np.count_nonzero(self.masks, axis=(2, 3))

    @property
    def boxes(self) -> np.ndarray:
        """Boxes (sets, masks, 4) around all pixels of each mask, "xyxy"; zeros for an empty one."""
        boxes = mask_boxes(self.masks)
        boxes[..., 2:] += self.masks.any((2, 3))[..., None]  # after the last pixel
        return boxes

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Any) -> "Masks":
        rows = np.arange(len(self))[index].reshape(-1)  # an error where it is out of range
        return self._with(self.low_res_logits[rows], self.scores[rows], rows)

    def _with(self, low: np.ndarray, scores: np.ndarray, rows: np.ndarray) -> "Masks":
        return Masks(
            low, scores, self.geometry, None if self.prompts is None else self.prompts[rows],
            self.threshold, self._picture, self.path, self.name,
        )  # fmt: skip

    def __iter__(self) -> Iterator["Masks"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        if not self.scores.size:
            return f"{self.name}: no masks"
        prompts = f"{len(self)} prompt" + "s" * (len(self) != 1)
        return f"{self.name}: masks of {prompts}, best score {self.scores.max():.2f}"

    def best(self) -> "Masks":
        """Return the mask of each set with the highest score, one for each."""
        rows = np.arange(len(self))
        places = self.scores.argmax(1)
        return self._with(
            self.low_res_logits[rows, places][:, None], self.scores[rows, places][:, None], rows
        )

    def to_dict(self, compressed: bool = True) -> dict[str, Any]:
        """Return what JSON has: the picture, and the masks of each set as run-length encodings.

        Args:
            compressed: whether the counts of the encodings are strings, as COCO has them, or lists.

        >>> low = np.full((1, 1, 4, 4), 9.0)
        >>> masks = Masks(low, [[0.5]], ImageGeometry.of((2, 4), longest_side=4))
        >>> masks.to_dict()["masks"]
        ... # doctest: +NORMALIZE_WHITESPACE
        [[{'segmentation': {'size': [2, 4], 'counts': '08'}, 'area': 8, 'bbox': [0, 0, 4, 2],
           'score': 0.5}]]
        """
        sets = []
        for masks, scores in zip(self.masks, self.scores.tolist(), strict=True):
            encodings = rle.encode(masks, compressed)
            sets.append([
                {
                    "segmentation": encoding, "area": rle.area(encoding),
                    "bbox": rle.bounding_box(encoding), "score": score,
                }
                for encoding, score in zip(encodings, scores, strict=True)
            ])  # fmt: skip
        return {**self.picture_facts(), "masks": sets}

    def plot(self, alpha: float = 0.5, outlines: bool = True, prompts: bool = True) -> Image.Image:
        """Return the picture with the best mask of each set drawn on it, as a Pillow image.

        Args:
            alpha: the opacity of the masks, from 0 to 1.
            outlines: whether the edges of the masks are white.
            prompts: whether points and boxes are drawn, too.
        """
        image = draw_masks(self.picture, self.best().masks[:, 0], alpha, outlines)
        if prompts and self.prompts is not None:
            points, boxes = (
                None if x is None else self.geometry.to_picture(x)
                for x in (self.prompts.points, self.prompts.boxes)
            )
            draw_prompts(image, points, self.prompts.labels, boxes)
        return image

    def cut_out(self) -> list[Image.Image]:
        """Return the part of the picture within the best mask of each set, else transparent.

        >>> low = np.full((1, 1, 8, 8), -9.0)
        >>> low[..., 2:6] = 9.0
        >>> geometry = ImageGeometry.of((8, 8), longest_side=8)
        >>> cut = Masks(low, [[0.5]], geometry, picture=np.ones((8, 8, 3))).cut_out()[0]
        >>> cut.size, cut.mode
        ((4, 8), 'RGBA')
        """
        best, picture, cuts = self.best(), self.picture, []
        for mask, box in zip(best.masks[:, 0], best.boxes[:, 0].tolist(), strict=True):
            cut = picture.copy()
            cut.putalpha(Image.fromarray(mask.astype("uint8") * 255))
            cuts.append(cut.crop(tuple(box)))
        return cuts

    def save_masks(self, folder: str | os.PathLike) -> list[str]:
        """Write each mask as a PNG of black and white, and return the paths.

        Args:
            folder: where; the names are that of the picture, the number of the set, and that of the
                mask.
        """
        stem = os.path.splitext(self.name)[0]
        Path(folder).mkdir(parents=True, exist_ok=True)
        paths = []
        for i, j in np.ndindex(*self.scores.shape):
            paths.append(str(Path(folder) / f"{stem}_{i}_{j}.png"))
            Image.fromarray(self.masks[i, j].astype("uint8") * 255).save(paths[-1])
        return paths


class GeneratedMasks(PictureResult):
    """The masks of everything in one picture, which may overlap.

    `len(masks)` is their number, `masks[0]` a dict of the first one with the keys of the authors'
    `SamAutomaticMaskGenerator`:

        segmentation     (height, width) of bool, or a run-length encoding
        area             in pixels
        bbox             [left, top, width, height]; by the authors' rule the width is the last
                         column less the first one, and so the height
        predicted_iou    the quality as the network estimates it
        point_coords     [[x, y]], the point that the mask was predicted for
        stability_score  how little the mask depends on the threshold
        crop_box         [left, top, width, height] of the crop it was predicted in

    `masks[masks.areas > 100]` and `masks[:5]` are the results of some of them.

    Args:
        candidates: the masks that were kept.
        size: height and width of the picture.
        output_mode: "binary_mask" for arrays, "uncompressed_rle" for encodings with lists, or
            "coco_rle" for those with strings.
        picture: as for `hub.detection.picture_result.PictureResult`, and so `path` and `name`.
        path: likewise.
        name: likewise.

    Raises:
        ValueError: the output mode is another one.

    >>> mask = np.array([[0, 1, 1], [0, 1, 1]], bool)
    >>> kept = Candidates(
    ...     rle.encode(mask[None]), mask_boxes(mask[None]), np.array([0.5]), np.array([1.0]),
    ...     np.array([[1.5, 0.5]]), np.array([[0, 0, 3, 2]]),
    ... )
    >>> GeneratedMasks(kept, (2, 3), "coco_rle")[0]
    ... # doctest: +NORMALIZE_WHITESPACE
    {'segmentation': {'size': [2, 3], 'counts': '24'}, 'area': 4, 'bbox': [1, 0, 1, 1],
     'predicted_iou': 0.5, 'point_coords': [[1.5, 0.5]], 'stability_score': 1.0,
     'crop_box': [0, 0, 3, 2]}
    """

    def __init__(
        self,
        candidates: Candidates,
        size: tuple[int, int],
        output_mode: str = "binary_mask",
        picture: Any = None,
        path: str | os.PathLike | None = None,
        name: str | None = None,
    ):
        if output_mode not in OUTPUT_MODES:
            raise ValueError(f"output_mode must be one of {OUTPUT_MODES}, got {output_mode!r}.")
        self.candidates, self.output_mode = candidates, output_mode
        super().__init__(picture, path, size, name)

    @property
    def masks(self) -> np.ndarray:
        """All masks, (masks, height, width) of bool."""
        if not len(self):
            return np.zeros((0, *self.size), bool)
        return rle.decode(self.candidates.rles)

    @property
    def areas(self) -> np.ndarray:
        """The number of pixels of each mask, (masks,)."""
        return np.array([rle.area(encoding) for encoding in self.candidates.rles], "int64")

    def __len__(self) -> int:
        return len(self.candidates.rles)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer):
            return self._annotation(range(len(self))[index], self.output_mode)
        kept = self.candidates.take(np.arange(len(self))[index])
        return GeneratedMasks(
            kept, self.size, self.output_mode, self._picture, self.path, self.name
        )

    def _annotation(self, number: int, output_mode: str) -> dict[str, Any]:
        encodings, boxes, quality, stability, points, crops = self.candidates
        encoding = segmentation = encodings[number]
        if output_mode == "binary_mask":
            segmentation = rle.decode(encoding)
        elif output_mode == "coco_rle":
            segmentation = {**encoding, "counts": rle.compress(encoding["counts"])}
        return {
            "segmentation": segmentation, "area": rle.area(encoding),
            "bbox": _with_size(boxes[number]), "predicted_iou": float(quality[number]),
            "point_coords": [points[number].tolist()], "stability_score": float(stability[number]),
            "crop_box": _with_size(crops[number]),
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"{self.name}: {len(self) or 'no'} mask" + "s" * (len(self) != 1)

    def label_map(self) -> np.ndarray:
        """Return the number of the smallest mask at each pixel, (height, width); -1 for none."""
        return label_map(self.masks)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON has: the picture, and the masks with encodings as COCO has them."""
        masks = [self._annotation(i, "coco_rle") for i in range(len(self))]
        return {**self.picture_facts(), "masks": masks}

    def save_masks(self, folder: str | os.PathLike) -> list[str]:
        """Write each mask as a PNG of black and white, and return the paths.

        Args:
            folder: where; the names are that of the picture and the number of the mask.
        """
        stem = os.path.splitext(self.name)[0]
        Path(folder).mkdir(parents=True, exist_ok=True)
        paths = []
        for i, encoding in enumerate(self.candidates.rles):
            paths.append(str(Path(folder) / f"{stem}_{i}.png"))
            Image.fromarray(rle.decode(encoding).astype("uint8") * 255).save(paths[-1])
        return paths

    def plot(self, alpha: float = 0.5, outlines: bool = True) -> Image.Image:
        """Return the picture with all masks drawn on it, small ones on top, as a Pillow image.

        Args:
            alpha: the opacity of the masks, from 0 to 1.
            outlines: whether the edges of the masks are white.
        """
        return draw_masks(self.picture, self.masks, alpha, outlines)


def _with_size(box: np.ndarray) -> list[int]:
    """Return a box "xyxy" as "xywh"."""
    left, top, right, bottom = (int(x) for x in box)
    return [left, top, right - left, bottom - top]
