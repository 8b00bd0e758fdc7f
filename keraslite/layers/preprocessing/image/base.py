"""The base of the image layers: one call for images, labels, boxes and masks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes, ops, tree
from keraslite.layers.preprocessing.data_layer import DataLayer
from keraslite.layers.preprocessing.image.draws import read_range, uniform
from keraslite.ops import bounding_boxes as boxes_ops
from keraslite.random import SeedGenerator
from keraslite.typing import Tensor


class ImageSize(NamedTuple):
    """The sizes of a batch of images; scalar tensors where a graph does not know them."""

    batch: Any
    height: Any
    width: Any
    channels: Any


class BaseImagePreprocessingLayer(DataLayer):
    """Change images, and what goes with them, by a transformation that is drawn for each call.

    It is called with images (height, width, channels), with a batch of them, or with a dict of
    "images" and any of "labels", "bounding_boxes" (a dict of "boxes" and "labels") and
    "segmentation_masks", and returns the same structure; the dict is not changed. A subclass
    overrides `get_random_transformation`, and the `transform_...` of what it changes, or the
    `change_...` that these call in training; they are called with batches.

    Inside `tf.data.Dataset.map` it runs in TensorFlow, on whichever backend it was made.

    Args:
        factor: a number or a pair, which becomes the attribute `factor`, a pair.
        bounding_box_format: the format of the boxes, such as "xyxy"; needed where there are any.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> class Darker(BaseImagePreprocessingLayer):
    ...     def transform_images(self, images, transformation, training=True):
    ...         return ops.multiply(images, 0.5) if training else images
    >>> ops.convert_to_numpy(Darker()(np.ones((1, 1, 1), "float32"))).tolist()
    [[[0.5]]]
    """

    factor_bounds: tuple[float, float] = (-1, 1)
    draws = 0  # how many random numbers a picture needs
    # Whether `change_images` depends on tensors of its transformation alone, and can be compiled.
    compiles = False

    def __init__(
        self,
        factor: Any = None,
        bounding_box_format: str | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        kwargs |= {"bounding_box_format": bounding_box_format, "data_format": data_format}
        self.set_arguments({"kwargs": kwargs})
        if factor is not None:
            self.factor = read_range(factor, *self.factor_bounds)

    def set_arguments(self, arguments: dict[str, Any]) -> None:
        """Make the arguments of a constructor attributes and config.

        `factor` becomes a pair within `factor_bounds`, and a `seed` gets its generator.

        Args:
            arguments: `locals()`, as the first thing in `__init__`.
        """
        kwargs = dict(arguments.get("kwargs", {}))
        box_format = kwargs.pop("bounding_box_format", None)
        own = {"data_format": kwargs.pop("data_format", None), **arguments, "kwargs": kwargs}
        if "factor" in own:
            own["factor"] = read_range(own["factor"] or 0.0, *self.factor_bounds)
        super().set_arguments(own)
        self.autocast = False  # boxes and labels keep their precision; images are cast here
        if box_format is None:
            self.bounding_box_format = None
        else:
            self.set_attributes(bounding_box_format=box_format)
        if "seed" in own:
            self.generator = SeedGenerator(self.seed)

    # -- what subclasses override -------------------------------------------------------------

    def get_random_transformation(
        self, data: Any, training: bool = True, seed: Any = None
    ) -> dict[str, Any] | None:
        """Draw what happens to a batch; None where nothing does.

        Args:
            data: the images, or the dict of a call, batched.
            training: whether the call trains; if not, nothing is drawn.
            seed: an int or a pair (seed, counter) in place of the layer's generator.
        """
        if not training or "generator" not in self.__dict__:
            return None
        size = self.size_of(data)
        return self.draw(size, self.next_seed() if seed is None else seed)

    def draw(self, size: ImageSize, seed: Any) -> dict[str, Any] | None:
        """Draw a transformation for images of a size."""
        return self.parameters(size, *uniform(seed, size.batch, self.draws))

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any] | None:
        """Return a transformation from `draws` numbers from [0, 1) for each picture."""
        return None

    def transform_images(
        self, images: Tensor, transformation: dict[str, Any] | None, training: bool = True
    ) -> Tensor:
        """Return a batch of images, changed, in the compute dtype."""
        if training and transformation is not None:
            change = self.change_compiled if self.compiles else self.change_images
            images = self.in_channels_last(change, images, transformation)
        return self.to_compute_dtype(images)

    def change_compiled(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Change images, by one compiled function where each operation is compiled anyway."""
        images = ops.convert_to_tensor(images)
        module = backends.module_of(images)
        if module.COMPILES_OPS and not module.is_traced(images):
            compiled = self.__dict__.setdefault("_kl_compiled", {})
            if "change_images" not in compiled:
                compiled["change_images"] = ops.jit(self.change_images)
            return compiled["change_images"](images, transformation)
        return self.change_images(images, transformation)

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Return a channels-last batch of images of any dtype, changed."""
        return images

    def transform_labels(
        self, labels: Tensor, transformation: dict[str, Any] | None, training: bool = True
    ) -> Tensor:
        """Return the labels of a batch, changed."""
        changes = training and transformation is not None
        return self.change_labels(labels, transformation) if changes else labels

    def change_labels(self, labels: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Return labels, changed; as they are, for most layers."""
        return labels

    def transform_bounding_boxes(
        self,
        bounding_boxes: dict[str, Tensor],
        transformation: dict[str, Any] | None,
        training: bool = True,
    ) -> dict[str, Tensor]:
        """Return the boxes (batch, boxes, 4) and their labels, changed."""
        changes = training and transformation is not None
        return self.change_boxes(bounding_boxes, transformation) if changes else bounding_boxes

    def change_boxes(
        self, bounding_boxes: dict[str, Tensor], transformation: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Return boxes and their labels, changed; as they are, for most layers."""
        return bounding_boxes

    def transform_segmentation_masks(
        self,
        segmentation_masks: Tensor,
        transformation: dict[str, Any] | None,
        training: bool = True,
    ) -> Tensor:
        """Return the masks (batch, height, width, channels), changed."""
        if training and transformation is not None:
            return self.in_channels_last(self.change_masks, segmentation_masks, transformation)
        return segmentation_masks

    def change_masks(self, masks: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Return channels-last masks, changed; as they are, for most layers."""
        return masks

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the images, or the dict of shapes, that come out: those put in."""
        return input_shape

    # -- the call -----------------------------------------------------------------------------

    def __call__(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(data, dict) and "bounding_boxes" in data:
            data = {**data, "bounding_boxes": _dense(data["bounding_boxes"])}
        return super().__call__(data, *args, **kwargs)

    def call(self, data: Any, training: bool = True) -> Any:
        """Transform images, or a dict of them and what goes with them."""
        fields = data if isinstance(data, dict) else {"images": data}
        rank = len(fields["images"].shape)
        if rank not in (3, 4):
            raise ValueError(
                "Images must be (height, width, channels) or a batch of them, got a shape of "
                f"{tuple(fields['images'].shape)}."
            )
        if rank == 3:
            fields = tree.map_structure(lambda x: ops.expand_dims(x, 0), fields)
        self._check_sizes(fields)
        out = self._transformed(fields, training)
        if rank == 3:
            out = tree.map_structure(lambda x: ops.squeeze(x, 0), out)
        return out if isinstance(data, dict) else out["images"]

    def _check_sizes(self, fields: dict[str, Any]) -> None:
        """Raise a ValueError for what goes with a batch of images, and does not fit them."""
        shape = tuple(fields["images"].shape)
        for name in ("labels", "bounding_boxes"):
            for own in map(_shape, tree.flatten(fields.get(name))):
                if own is not None and _differ(own[:1], shape[:1]):
                    raise ValueError(
                        f'"{name}" must have a row for each of {shape[0]} images, got a shape of '
                        f"{own}."
                    )
        masks = _shape(fields.get("segmentation_masks")) or shape
        first = self.data_format == "channels_first"
        without_channels = [(s[0], *s[2:]) if first else s[:-1] for s in (masks, shape)]
        if len(masks) != 4 or _differ(*without_channels):
            raise ValueError(
                f'"segmentation_masks" must have the size of the images and an axis of channels, '
                f"as these of shape {shape}, got a shape of {masks}."
            )

    def _transformed(self, fields: dict[str, Any], training: bool) -> dict[str, Any]:
        options = {"transformation": self.get_random_transformation(fields, training=training)}
        options["training"] = training
        out = {**fields, "images": self.transform_images(fields["images"], **options)}
        if "bounding_boxes" in fields:
            if not self.bounding_box_format:
                raise ValueError(
                    "The format of the bounding boxes must be set, as "
                    f'{type(self).__name__}(..., bounding_box_format="xyxy"), got None.'
                )
            boxes = dict(fields["bounding_boxes"])
            out["bounding_boxes"] = self.transform_bounding_boxes(boxes, **options)
        for name in ("labels", "segmentation_masks"):
            if name in fields:
                out[name] = getattr(self, f"transform_{name}")(fields[name], **options)
        return out

    # -- for subclasses -----------------------------------------------------------------------

    def size_of(self, data: Any) -> ImageSize:
        """Return the sizes of a batch of images, or of the images of a dict."""
        batch, *sizes = ops.shape(data["images"] if isinstance(data, dict) else data)
        if self.data_format == "channels_first":
            sizes = [*sizes[1:], sizes[0]]
        return ImageSize(batch, *sizes)

    def in_channels_last(self, function: Callable, images: Tensor, *args: Any) -> Tensor:
        """Apply a function of channels-last images to images of the layer's data format."""
        if self.data_format == "channels_last":
            return function(images, *args)
        return ops.moveaxis(function(ops.moveaxis(images, 1, -1), *args), -1, 1)

    def to_compute_dtype(self, images: Tensor) -> Tensor:
        """Cast images to the compute dtype; integers are rounded and clipped to their range."""
        name = self.compute_dtype
        if dtypes.is_float(name) or not dtypes.is_float(ops.dtype(images)):
            return ops.cast(images, name)
        return ops.saturate_cast(ops.round(images), name)

    def move_boxes(
        self,
        bounding_boxes: dict[str, Tensor],
        move: Callable,
        before: Any,
        after: Any,
        min_area: float = 0.0,
    ) -> dict[str, Tensor]:
        """Move boxes with their image, and clip them to it; a box that leaves it gets the label -1.

        Args:
            bounding_boxes: the "boxes" (batch, boxes, 4) in the layer's format, and "labels".
            move: a function of boxes in "xyxy".
            before: the height and width of the images.
            after: the height and width that they have then.
            min_area: the part of its area that a box must keep to be in the image.
        """
        name = self.bounding_box_format
        out = boxes_ops.convert_format(bounding_boxes, name, "xyxy", *before)
        moved = move(out["boxes"])
        out = boxes_ops.clip_to_image_size({**out, "boxes": moved}, *after)
        if min_area:
            hidden = _area(out["boxes"]) < min_area * _area(moved)
            labels = ops.convert_to_tensor(out["labels"])
            if len(labels.shape) > len(hidden.shape):
                hidden = ops.expand_dims(hidden, -1)
            out = {**out, "labels": ops.where(hidden, ops.full_like(labels, -1), labels)}
        return boxes_ops.convert_format(out, "xyxy", name, *after)


def _shape(x: Any) -> tuple | None:
    """Return the shape of a tensor; None for what has none, or is of unknown rank."""
    shape = getattr(x, "shape", None)
    return None if shape is None or getattr(shape, "rank", 0) is None else tuple(shape)


def _differ(a: tuple, b: tuple) -> bool:
    """Return whether two shapes differ, as far as their sizes are known."""
    known = [(m, n) for m, n in zip(a, b) if isinstance(m, int) and isinstance(n, int)]
    return len(a) != len(b) or any(m != n for m, n in known)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _dense(bounding_boxes: Any) -> dict[str, Any]:
    """Return boxes and labels as tensors; lists of different lengths are filled up.

    Raises:
        ValueError: there are no "boxes" and "labels".
    """
    if not isinstance(bounding_boxes, dict) or not {"boxes", "labels"} <= bounding_boxes.keys():
        raise ValueError(
            '"bounding_boxes" must be a dict of "boxes" and "labels", got '
            f"{sorted(bounding_boxes) if isinstance(bounding_boxes, dict) else bounding_boxes!r}."
        )
    boxes, labels = bounding_boxes["boxes"], bounding_boxes["labels"]
    if isinstance(boxes, list | tuple):
        if any(len(x) and np.ndim(x[0]) for x in boxes):  # a list of boxes for each picture
            boxes = _filled([np.asarray(x, "float32").reshape(-1, 4) for x in boxes], 0.0)
            labels = _filled([np.asarray(x) for x in labels], -1)
        else:
            boxes, labels = np.asarray(boxes, "float32").reshape(-1, 4), np.asarray(labels)
    elif hasattr(boxes, "to_tensor"):  # ragged, in TensorFlow
        boxes, labels = boxes.to_tensor(0), labels.to_tensor(-1)
    return {**bounding_boxes, "boxes": boxes, "labels": labels}


def _filled(rows: list[np.ndarray], value: float) -> np.ndarray:
    """Stack arrays of different lengths."""
    length = max((len(row) for row in rows), default=0)
    pads = [[(0, length - len(row))] + [(0, 0)] * (row.ndim - 1) for row in rows]
    return np.stack([np.pad(r, p, constant_values=value) for r, p in zip(rows, pads, strict=True)])
