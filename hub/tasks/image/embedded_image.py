"""EmbeddedImage: a picture that is encoded once, and segmented by any number of prompts."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from hub.preprocessing.image_inputs import open_image, to_rgb
from hub.preprocessing.segmentation import ImageGeometry
from hub.segmentation.prompts import prepare_prompts
from hub.segmentation.results import Masks


class EmbeddedImage:
    """A picture with its embedding, which `hub.ImageSegmenter.embed` computes once.

    Args:
        segmenter: the task that answers.
        embedding: (1, rows, columns, width), a tensor.
        geometry: of the picture.
        picture: a path, a Pillow image or an array.
        name: the name of the picture in files; that of its path by default.

    Attributes:
        embedding: as given.
        geometry: as given.
        path: of the picture; None for one that is no file.

    >>> import hub
    >>> backbone = hub.SAMBackbone(
    ...     dict(hidden_size=8, num_layers=1, intermediate_dim=16, num_heads=2,
    ...          global_attention_layer_indices=(0,), image_shape=(16, 16, 3), patch_size=4,
    ...          num_output_channels=16),
    ...     dict(hidden_size=16, image_embedding_size=(4, 4), input_image_size=(16, 16)),
    ...     dict(hidden_size=16, num_layers=1, intermediate_dim=16, num_heads=2),
    ... )
    >>> segmenter = hub.ImageSegmenter(backbone, hub.SegmentationPreprocessor(16, mask_size=16))
    >>> image = segmenter.embed(np.zeros((20, 30, 3), "uint8"))
    >>> image.segment(boxes=[[2, 2, 18, 12], [5, 5, 9, 9]], multimask=False).masks.shape
    (2, 1, 20, 30)
    """

    def __init__(
        self,
        segmenter: Any,
        embedding: Any,
        geometry: ImageGeometry,
        picture: Any,
        name: str | None = None,
    ):
        self.segmenter, self.embedding, self.geometry = segmenter, embedding, geometry
        self.path = os.fspath(picture) if isinstance(picture, str | os.PathLike) else None
        self.name, self._picture = name, picture

    @property
    def picture(self) -> Image.Image:
        """The picture in RGB, read when it is asked for."""
        return to_rgb(open_image(self._picture, self.name or "The picture"))

    def source(self) -> dict[str, Any]:
        """Return the arguments of a result that say what picture it is of."""
        picture = None if self.path is not None else self._picture
        return {"picture": picture, "path": self.path, "name": self.name}

    def segment(
        self,
        points: Any = None,
        labels: Any = None,
        boxes: Any = None,
        masks: Any = None,
        multimask: bool = True,
        bounding_box_format: str = "xyxy",
    ) -> Masks:
        """Return the masks that prompts ask for, in pixels of the picture.

        Points, boxes and masks together ask for the same objects.

        Args:
            points: [x, y], a point; [[x, y], ...], the points of one object; or [[[x, y], ...],
                ...], those of several objects, which may have different numbers of points.
            labels: 1 for points on the object and 0 for points beside it, nested like the points;
                1 by default.
            boxes: (4,), or (objects, 4).
            masks: the result of an earlier call, whose best masks are refined, or its
                `low_res_logits`; or masks of bool, (height, width) or (objects, height, width).
            multimask: whether there are several masks for each object, as a point may be one of a
                part and of the whole; `best()` of the result has the best of them.
            bounding_box_format: the format of the boxes, as for `keras.utils.bounding_boxes`.

        Raises:
            ValueError: there is no prompt, or one is not valid; see
                `hub.segmentation.prompts.prepare_prompts`.
        """
        if isinstance(masks, Masks):
            masks = masks.best().low_res_logits
        prompts = prepare_prompts(
            self.geometry, points, labels, boxes, masks, bounding_box_format,
            self.segmenter.mask_size_of(self.embedding),
        )  # fmt: skip
        low, scores = self.segmenter.decode(self.embedding, prompts, multimask)
        return Masks(low, scores, self.geometry, prompts, **self.source())


class EmbeddedImages(Sequence):
    """Several pictures with their embeddings.

    Args:
        images: the pictures.

    >>> import hub
    >>> backbone = hub.SAMBackbone(
    ...     dict(hidden_size=8, num_layers=1, intermediate_dim=16, num_heads=2,
    ...          global_attention_layer_indices=(0,), image_shape=(16, 16, 3), patch_size=4,
    ...          num_output_channels=16),
    ...     dict(hidden_size=16, image_embedding_size=(4, 4), input_image_size=(16, 16)),
    ...     dict(hidden_size=16, num_layers=1, intermediate_dim=16, num_heads=2),
    ... )
    >>> segmenter = hub.ImageSegmenter(backbone, hub.SegmentationPreprocessor(16, mask_size=16))
    >>> images = segmenter.embed([np.zeros((20, 30, 3), "uint8"), np.zeros((9, 8, 3), "uint8")])
    >>> [masks.masks.shape for masks in images.segment(points=[[12, 8], [4, 4]])]
    [(1, 3, 20, 30), (1, 3, 9, 8)]
    """

    def __init__(self, images: Sequence[EmbeddedImage]):
        self._images = list(images)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        chosen = self._images[index]
        return EmbeddedImages(chosen) if isinstance(index, slice) else chosen

    def __iter__(self) -> Iterator[EmbeddedImage]:
        return iter(self._images)

    def segment(
        self,
        points: Any = None,
        labels: Any = None,
        boxes: Any = None,
        masks: Any = None,
        multimask: bool = True,
        bounding_box_format: str = "xyxy",
    ) -> list[Masks]:
        """Return the masks that prompts ask for, of each picture.

        Args:
            points: of each picture, as for `EmbeddedImage.segment`; pictures may have different
                numbers of objects and points, and None for a prompt that they do not have.
            labels: likewise.
            boxes: likewise.
            masks: likewise.
            multimask: as for `EmbeddedImage.segment`.
            bounding_box_format: likewise.

        Raises:
            ValueError: there are not prompts for each picture, or one is not valid, with the number
                of its picture.
        """
        columns = {"points": points, "labels": labels, "boxes": boxes, "masks": masks}
        for name, column in columns.items():
            if column is not None and len(column) != len(self):
                raise ValueError(
                    f"{name} must be a list with those of each of the {len(self)} pictures, got "
                    f"{len(column)}."
                )
        results = []
        for number, image in enumerate(self):
            row = {k: None if column is None else column[number] for k, column in columns.items()}
            try:
                results.append(
                    image.segment(
                        **row, multimask=multimask, bounding_box_format=bounding_box_format
                    )
                )
            except ValueError as error:
                raise ValueError(f"Picture {number}: {error}") from error
        return results
