"""ImageSegmenter: masks of what points, boxes and masks ask for, and of everything in an image."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

import keraslite as keras
from hub.detection.sources import unused_name
from hub.preprocessing.image import FILE
from hub.preprocessing.image_inputs import is_single_image, list_images
from hub.preprocessing.segmentation import SegmentationPreprocessor
from hub.segmentation.grids import OVERLAP_RATIO
from hub.segmentation.prompts import Prompts
from hub.segmentation.results import GeneratedMasks, Masks
from hub.tasks.batches import padded, round_up
from hub.tasks.image.embedded_image import EmbeddedImage, EmbeddedImages
from hub.tasks.image.image_task import ImageTask
from hub.tasks.image.mask_generation import MaskGeneration
from hub.tasks.image.segmenter_training import SegmenterTraining
from hub.tasks.task import OUT_OPTION
from keraslite import ops
from keraslite.training import CompiledFunctions, inference

_SETS_AT_ONCE = 64  # sets of prompts, each of which has an image of its own in the decoder


class ImageSegmenter(SegmenterTraining, ImageTask):
    """A backbone that answers prompts with masks (Kirillov et al., 2023, arXiv:2304.02643).

    A picture is encoded once, and asked as often as one likes:

        image = segmenter.embed("truck.jpg")
        masks = image.segment(points=[[500, 375]], labels=[1])
        masks = image.segment(boxes=[[425, 600, 700, 875]], multimask=False)
        everything = segmenter.generate_masks("truck.jpg")

    Args:
        backbone: a `hub.SAMBackbone`.
        preprocessor: a `hub.SegmentationPreprocessor`; None if inputs are ready arrays alone.

    Raises:
        ValueError: the preprocessor makes masks of another size than the backbone reads.

    Example:
        >>> import hub
        >>> backbone = hub.SAMBackbone(
        ...     dict(hidden_size=8, num_layers=1, intermediate_dim=16, num_heads=2,
        ...          global_attention_layer_indices=(0,), image_shape=(16, 16, 3), patch_size=4,
        ...          num_output_channels=16),
        ...     dict(hidden_size=16, image_embedding_size=(4, 4), input_image_size=(16, 16)),
        ...     dict(hidden_size=16, num_layers=1, intermediate_dim=16, num_heads=2),
        ... )
        >>> preprocessor = hub.SegmentationPreprocessor(16, mask_size=16)
        >>> segmenter = hub.ImageSegmenter(backbone, preprocessor)
        >>> image = segmenter.embed(np.zeros((20, 30, 3), "uint8"))
        >>> masks = image.segment(points=[[12, 8]])
        >>> masks.masks.shape, masks.scores.shape
        ((1, 3, 20, 30), (1, 3))
    """

    task = "ImageSegmenter"
    answers_compiled = False
    pipeline = "mask-generation"
    transformers_class = "AutoModelForMaskGeneration"
    command_options = {
        "--point": {
            "action": "append", "metavar": "X,Y[,LABEL]",
            "help": "a point on the object, or with the label 0 beside it; repeatable",
        },
        "--box": {
            "action": "append", "metavar": "LEFT,TOP,RIGHT,BOTTOM",
            "help": "a box around an object; repeatable",
        },
        "--points-per-side": {
            "type": int, "default": 32, "help": "of the grid, where everything is segmented",
        },
        "--out": OUT_OPTION,
    }  # fmt: skip

    def __init__(self, backbone: Any, preprocessor: Any = None, **kwargs: Any):
        super().__init__(backbone, preprocessor, **kwargs)
        self.autocast = False  # coordinates need the digits of float32
        self._kl_functions_of_prompts = CompiledFunctions()
        if preprocessor is not None:
            side = 4 * (preprocessor.size // backbone.image_encoder.patch_size)
            if preprocessor.mask_size != side:
                raise ValueError(
                    f"The preprocessor must have mask_size={side} for images of "
                    f"{preprocessor.size} pixels, got {preprocessor.mask_size}."
                )
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Return logits `masks` (batch, [sets,] masks, rows, columns) and `iou_pred`.

        Args:
            inputs: a dict of "images", ready (batch, height, width, 3), or of "image_embeddings",
                and of prompts as `hub.SAMBackbone` takes them.
            training: whether the call trains.
        """
        inputs = dict(inputs)
        embeddings = inputs.pop("image_embeddings", None)
        if embeddings is None:
            embeddings = self.backbone.encode_images(inputs.pop("images"), training)
        embeddings = ops.cast(embeddings, self.compute_dtype)
        return self.backbone.decode(embeddings, inputs)

    # -- prompts ------------------------------------------------------------------------------

    def embed(self, images: Any, batch_size: int = 1, verbose: int = 0) -> Any:
        """Encode pictures, for any number of prompts.

        Args:
            images: a picture: a path, a Pillow image or an array; or a list of these.
            batch_size: pictures that are encoded at once.
            verbose: 1 shows a progress bar.

        Returns:
            A `hub.EmbeddedImage`, or of a list a sequence of these, `EmbeddedImages`. What they
            hold is that of the encoder as it is now.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: a picture cannot be read, or there is no preprocessor.
        """
        preprocessor = self.required_preprocessor()
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"batch_size must be a positive int, got {batch_size!r}.")
        pictures = list_images(images)
        bar = keras.utils.Progbar(len(pictures), verbose=verbose, unit_name="picture")
        embedded: list[EmbeddedImage] = []
        for start in range(0, len(pictures), batch_size):
            batch = pictures[start : start + batch_size]
            pixels, geometries = preprocessor(batch)
            embeddings = self.encode(pixels, min(batch_size, len(pictures)))
            embedded += [
                EmbeddedImage(self, embeddings[i : i + 1], geometry, picture)
                for i, (picture, geometry) in enumerate(zip(batch, geometries, strict=True))
            ]
            bar.update(len(embedded))
        is_one = is_single_image(images) or len(getattr(images, "shape", ())) in (2, 3)
        return embedded[0] if is_one else EmbeddedImages(embedded)

    def segment(self, image: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the masks that prompts ask for in a picture, or in each of several.

        It encodes the picture; where it is asked again, `embed` it first.

        Args:
            image: as for `embed`.
            args: as for `hub.EmbeddedImage.segment`, and of several pictures a list of each.
            kwargs: likewise, such as `points`, `boxes` and `multimask`.

        Returns:
            A `hub.Masks`, or a list of these.

        Raises:
            ValueError: as of `embed`, or a prompt is not valid.
        """
        return self.embed(image).segment(*args, **kwargs)

    def decode(
        self, embedding: Any, prompts: Prompts, multimask: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return low-resolution logits (sets, masks, rows, columns) and scores (sets, masks).

        Args:
            embedding: of a picture, (1, rows, columns, width).
            prompts: of the picture.
            multimask: whether there are several masks for each set.
        """
        parts = [
            self._decoded(embedding, prompts[start : start + _SETS_AT_ONCE], bool(multimask))
            for start in range(0, len(prompts), _SETS_AT_ONCE)
        ]
        if len(parts) == 1:
            return parts[0]
        low, scores = zip(*parts, strict=True)
        return np.concatenate(low), np.concatenate(scores)

    def _decoded(
        self, embedding: Any, prompts: Prompts, multimask: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        count, compiles = len(prompts), keras.backend.compiles(self.backend)
        if compiles:  # for few shapes
            points = None if prompts.points is None else round_up(prompts.points.shape[1])
            prompts = prompts.padded(round_up(count), points)
        with inference(self.backend):
            decode = self._kl_functions_of_prompts.get(
                self.backbone, multimask,
                lambda held: keras.jit(
                    partial(self._decode, multimask), held,
                    compile="auto" if compiles else "record", donate=False,
                ),
            )  # fmt: skip
            embedding = keras.backend.to_backend(embedding, self.backend)  # where it was moved
            inputs = {k: ops.convert_to_tensor(v) for k, v in prompts.inputs().items()}
            masks, scores = decode(embedding, inputs)
            return ops.convert_to_numpy(masks)[:count], ops.convert_to_numpy(scores)[:count]

    def _decode(self, multimask: bool, embedding: Any, prompts: Any) -> tuple[Any, Any]:
        """Return masks and scores of one picture."""
        out = self.backbone.decode(embedding, prompts, multimask, pad_points=True)
        return ops.cast(out["masks"][0], "float32"), ops.cast(out["iou_pred"][0], "float32")

    def encode(self, pixels: np.ndarray, batch_size: int | None = None) -> Any:
        """Return embeddings (images, rows, columns, width) of ready images, a tensor.

        Args:
            pixels: (images, height, width, 3), as of the preprocessor.
            batch_size: what they are filled up to where every size is compiled.
        """
        count = len(pixels)
        if keras.backend.compiles(self.backend):
            pixels = padded({"": pixels}, batch_size or count)[""]
        with inference(self.backend):
            encode = self.backbone.encode_images
            return self._kl_functions_of_prompts.run(self.backbone, encode, pixels)[:count]

    def mask_size_of(self, embedding: Any) -> int:
        """Return the height and width of the masks that prompts of an image may have.

        Args:
            embedding: of the image.
        """
        return 4 * int(embedding.shape[1])

    def required_preprocessor(self) -> Any:
        """Return the preprocessor.

        Raises:
            ValueError: there is none.
        """
        if self.preprocessor is None:
            raise ValueError(
                f"{type(self).__name__} has no preprocessor, so it takes ready arrays alone, by "
                "predict: give it a hub.SegmentationPreprocessor."
            )
        return self.preprocessor

    def predict(self, x: Any, batch_size: int | None = None, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of ready arrays.

        Args:
            x: a dict of "images" (batch, height, width, 3), and of prompts in their pixels, as
                `hub.SAMBackbone` takes them: any of "points" (batch, [sets,] points, 2), "labels"
                (batch, [sets,] points), "boxes" (batch, [sets,] boxes, 2, 2), "masks" and
                "padding_mask". The point with the label -1 that follows points without a box is
                among them.
            batch_size: the number of images of a batch.
            args: as for `Model.predict`.
            kwargs: as for `Model.predict`.

        Returns:
            A dict of `masks`, logits (batch, [sets,] 4, rows, columns), and of estimates of their
            quality, `iou_pred` (batch, [sets,] 4): the first for clear prompts, and then three for
            ambiguous ones.

        Raises:
            TypeError: x is no dict of arrays, but pictures, which `segment` takes.
        """
        if not isinstance(x, Mapping):
            raise TypeError(
                'predict takes a dict of ready arrays, "images" and prompts, got '
                f"{type(x).__name__}: give pictures to segment(picture, points=...), embed or "
                "generate_masks."
            )
        return keras.Model.predict(self, x, batch_size, *args, **kwargs)

    def _transform(self, training: bool) -> None:
        return None  # data are ready when they come to the loops

    # -- everything ---------------------------------------------------------------------------

    def generate_masks(
        self,
        image: Any,
        points_per_side: int = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = OVERLAP_RATIO,
        crop_n_points_downscale_factor: int = 1,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        verbose: int = 1,
    ) -> Any:
        """Return the masks of everything in a picture, by prompts of a grid of points.

        Names and defaults are those of the authors' `SamAutomaticMaskGenerator`.

        Args:
            image: as for `embed`, or what it returned.
            points_per_side: the number of points along each side of the picture.
            points_per_batch: how many of them are asked about at once.
            pred_iou_thresh: masks must have a higher predicted quality, from 0 to 1.
            stability_score_thresh: masks must change less with the threshold of their logits.
            stability_score_offset: how far that is shifted.
            box_nms_thresh: the largest overlap of the boxes of two masks of a crop.
            crop_n_layers: the layers of crops that are looked at beside the whole picture; layer n
                has 2 ** n along each side.
            crop_nms_thresh: the largest overlap of two boxes of different crops.
            crop_overlap_ratio: how much crops overlap, as a part of the shorter side.
            crop_n_points_downscale_factor: points of layer n are fewer by its power of n.
            min_mask_region_area: smaller holes are filled, and smaller islands removed; 0 for none.
            output_mode: "binary_mask", "uncompressed_rle" or "coco_rle".
            verbose: 1 shows a progress bar.

        Returns:
            A `hub.GeneratedMasks`, best first, or of a list of pictures a list of these.

        Raises:
            ValueError: an argument has a value that is not valid, or a picture cannot be read.
        """
        generation = MaskGeneration(
            points_per_side, points_per_batch, pred_iou_thresh, stability_score_thresh,
            stability_score_offset, box_nms_thresh, crop_n_layers, crop_nms_thresh,
            crop_overlap_ratio, crop_n_points_downscale_factor, min_mask_region_area, output_mode,
        )  # fmt: skip
        if not isinstance(image, EmbeddedImage | EmbeddedImages):
            image = self.embed(image)
        if isinstance(image, EmbeddedImage):
            return generation(image, verbose)
        return [generation(one, verbose) for one in image]

    # -- presets and the command line ---------------------------------------------------------

    @classmethod
    def make_preprocessor(cls, files: Any, family: Any, backbone: Any, **options: Any) -> Any:
        """Return the preprocessor of a checkpoint.

        Args:
            files: of the checkpoint.
            family: of the backbone.
            backbone: the backbone, whose size of images counts where there is no file.
            options: none.
        """
        if FILE in files:
            return SegmentationPreprocessor.from_files(files)
        encoder = backbone.image_encoder
        return SegmentationPreprocessor(encoder.image_shape[0], 4 * encoder.grid)

    def answers(self, inputs: list[str], options: Any) -> Iterator[dict[str, Any]]:
        """Return the masks of each picture, as `hub run` prints them.

        Args:
            inputs: files.
            options: `point` and `box`, `points_per_side` for everything where there are none, and
                `out`, a folder for the masks and the drawn pictures.
        """
        points = _numbers("--point", options.point, (2, 3))
        boxes = _numbers("--box", options.box, (4,))
        names: set[str] = set()
        for path in inputs:
            result: Masks | GeneratedMasks
            if points is None and boxes is None:
                side = options.points_per_side
                result = self.generate_masks(path, side, output_mode="coco_rle", verbose=0)
            else:
                result = self.segment(
                    path,
                    points=None if points is None else [[row[:2] for row in points]],
                    labels=None if points is None else [[int((*row, 1)[2]) for row in points]],
                    boxes=boxes,
                )
            if options.out is not None:
                stem, ending = os.path.splitext(result.name)
                result.name = unused_name(stem, names) + ending  # of another folder, perhaps
                result.save_masks(options.out)
                result.save(options.out / result.name)
            yield result.to_dict()

    def workload(self, count: int) -> tuple[Any, int, str]:
        """Return the segmentation of pictures by one point each, their number, and the unit.

        Args:
            count: the number of pictures.
        """
        pixels = np.random.default_rng(0).integers(0, 256, (count, 480, 640, 3), "uint8")
        points = [[320, 240]] * count
        return lambda: self.segment(list(pixels), points), count, "images"


def _numbers(name: str, words: Sequence[str] | None, counts: tuple[int, ...]) -> Any:
    """Return the numbers in each of several words of the command line."""
    if not words:
        return None
    rows = []
    for word in words:
        try:
            row = [float(number) for number in word.split(",")]
        except ValueError:
            row = []
        if len(row) not in counts:
            expected = " or ".join(map(str, counts))
            raise ValueError(f"{name} must be {expected} numbers with commas, got {word!r}.")
        rows.append(row)
    return rows
