"""Layers that bring images to a size: resizing and crops; and boxes to a number."""

from typing import Any

from keraslite import backend as backends
from keraslite import ops
from keraslite.layers.preprocessing.image.base import BaseImagePreprocessingLayer, ImageSize
from keraslite.ops.image.resizing import aspect_window
from keraslite.typing import Tensor


class SizedLayer(BaseImagePreprocessingLayer):
    """A layer whose images come out with its `height` and `width`."""

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the images, or the dict of shapes, that come out."""
        if isinstance(input_shape, dict):
            sized = ("images", "segmentation_masks")
            return {
                k: self.compute_output_shape(v) if k in sized else v for k, v in input_shape.items()
            }
        if len(input_shape) not in (3, 4):
            raise ValueError(
                "`input_shape` must be (height, width, channels) or that of a batch, got "
                f"{input_shape}."
            )
        shape = list(input_shape)
        last = len(shape) if self.data_format == "channels_first" else len(shape) - 1
        shape[last - 2 : last] = self.height, self.width
        return tuple(shape)

    def move_from(
        self, bounding_boxes: dict, window: tuple, before: tuple[Any, Any]
    ) -> dict[str, Tensor]:
        """Move boxes to a window of the images that is then scaled to the layer's size.

        Args:
            bounding_boxes: the boxes and labels.
            window: its top, left, rows and columns; numbers, or tensors (batch, 1).
            before: the height and width of the images.
        """

        def move(boxes: Tensor) -> Tensor:
            top, left, rows, columns = (
                v if isinstance(v, int) else ops.cast(v, boxes.dtype) for v in window
            )
            x, y = self.width / columns, self.height / rows
            moved = [(boxes[..., 0] - left) * x, (boxes[..., 1] - top) * y]
            moved += [(boxes[..., 2] - left) * x, (boxes[..., 3] - top) * y]
            return ops.stack(moved, axis=-1)

        return self.move_boxes(bounding_boxes, move, before, (self.height, self.width))


class Resizing(SizedLayer):
    """Resize images, in training and elsewhere; they keep their dtype.

    Args:
        height: of the result.
        width: likewise.
        interpolation: "nearest", "bilinear", "bicubic", "lanczos3" or "lanczos5"; masks are
            resized by "nearest".
        crop_to_aspect_ratio: whether the images are cut first, around their middle, so that
            nothing is distorted.
        pad_to_aspect_ratio: whether they are padded first instead.
        fill_mode: "constant", the only padding.
        fill_value: the constant.
        antialias: whether the kernel is widened where the images shrink.
        data_format: "channels_last" or "channels_first".

    >>> Resizing(2, 3)(np.ones((1, 8, 8, 3), "uint8")).shape
    (1, 2, 3, 3)
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self.antialias = bool(antialias)

    def get_random_transformation(
        self, data: Any, training: bool = True, seed: Any = None
    ) -> dict[str, Any]:
        """Return the "height" and "width" of the images: nothing is random."""
        size = self.size_of(data)
        return {"height": size.height, "width": size.width}

    def transform_images(
        self, images: Tensor, transformation: Any = None, training: bool = True
    ) -> Tensor:
        """Resize images."""
        return self._resize(images, self.interpolation)

    def transform_segmentation_masks(
        self, segmentation_masks: Tensor, transformation: Any = None, training: bool = True
    ) -> Tensor:
        """Resize masks, without values between those they have."""
        return self._resize(segmentation_masks, "nearest")

    def _resize(self, images: Tensor, interpolation: str) -> Tensor:
        return ops.image.resize(
            images, (self.height, self.width), interpolation, self.antialias,
            self.crop_to_aspect_ratio, self.pad_to_aspect_ratio, self.fill_mode, self.fill_value,
            self.data_format,
        )  # fmt: skip

    def transform_bounding_boxes(
        self, bounding_boxes: dict, transformation: Any, training: bool = True
    ) -> dict:
        """Scale boxes with the images."""
        before = transformation["height"], transformation["width"]
        window: tuple = (0, 0, *before)
        if self.crop_to_aspect_ratio or self.pad_to_aspect_ratio:
            window = aspect_window(*before, (self.height, self.width), self.pad_to_aspect_ratio)
        return self.move_from(bounding_boxes, window, before)


class CenterCrop(SizedLayer):
    """Cut the middle out of images, in training and elsewhere.

    Of images that are smaller the largest window of the right aspect is scaled up.

    Args:
        height: of the result.
        width: likewise.
        data_format: "channels_last" or "channels_first".

    >>> CenterCrop(2, 3)(np.ones((1, 8, 8, 3), "uint8")).shape
    (1, 2, 3, 3)
    """

    def __init__(self, height: int, width: int, data_format: str | None = None, **kwargs: Any):
        self.set_arguments(locals())

    def get_random_transformation(
        self, data: Any, training: bool = True, seed: Any = None
    ) -> dict[str, Any]:
        """Return the "window" of the images, from top, left, rows and columns, and their size."""
        height, width = self.size_of(data)[1:3]
        if _fits(height, self.height) and _fits(width, self.width):
            window = (height - self.height) // 2, (width - self.width) // 2, *self._size
        else:
            window = aspect_window(height, width, self._size, pads=False)
        return {"window": window, "height": height, "width": width}

    @property
    def _size(self) -> tuple[int, int]:
        return self.height, self.width

    def transform_images(
        self, images: Tensor, transformation: Any, training: bool = True
    ) -> Tensor:
        """Cut images."""
        cut = self.in_channels_last(self.cut, images, transformation, "bilinear")
        return self.to_compute_dtype(cut)

    def transform_segmentation_masks(
        self, segmentation_masks: Tensor, transformation: Any, training: bool = True
    ) -> Tensor:
        """Cut masks as the images."""
        return self.in_channels_last(self.cut, segmentation_masks, transformation, "nearest")

    def cut(self, images: Tensor, transformation: dict[str, Any], interpolation: str) -> Tensor:
        """Cut the window out of channels-last images, and scale it to the layer's size."""
        top, left, rows, columns = transformation["window"]
        images = images[:, top : top + rows, left : left + columns]
        if (rows, columns) == self._size:
            return images
        images = images if interpolation == "nearest" else ops.cast(images, "float32")
        return ops.image.resize(images, self._size, interpolation, data_format="channels_last")

    def transform_bounding_boxes(
        self, bounding_boxes: dict, transformation: Any, training: bool = True
    ) -> dict:
        """Move boxes to the window, and clip them to it."""
        before = transformation["height"], transformation["width"]
        return self.move_from(bounding_boxes, transformation["window"], before)


def _fits(size: Any, wanted: int) -> bool:
    """Return whether an axis is long enough, as far as its size is known."""
    return not isinstance(size, int) or size >= wanted


class RandomCrop(CenterCrop):
    """Cut a part out of images in training, each at a place of its own.

    In inference, and of images that are smaller, the largest window of the right aspect around the
    middle is scaled to the size.

    Args:
        height: of the result.
        width: likewise.
        seed: an int.
        data_format: "channels_last" or "channels_first".
        name: a name.

    >>> RandomCrop(2, 3)(np.ones((1, 8, 8, 3), "uint8")).shape
    (1, 2, 3, 3)
    """

    draws = 2

    def __init__(
        self,
        height: int,
        width: int,
        seed: int | None = None,
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())

    def get_random_transformation(
        self, data: Any, training: bool = True, seed: Any = None
    ) -> dict[str, Any]:
        """Draw the "top" and "left" of a crop a picture; a "window" where there is none."""
        size = self.size_of(data)
        sizes = {"height": size.height, "width": size.width}
        if training and _fits(size.height, self.height) and _fits(size.width, self.width):
            return {**self.draw(size, self.next_seed() if seed is None else seed), **sizes}
        window = aspect_window(size.height, size.width, self._size, pads=False)
        return {"window": window, **sizes}

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the first row and column of each crop."""
        places = {}
        for name, unit, before, after in zip(
            ("top", "left"), units, size[1:3], self._size, strict=True
        ):
            free = ops.cast(before - after + 1, "float32")
            places[name] = ops.cast(ops.floor(unit * free), "int32")
        return places

    def cut(self, images: Tensor, transformation: dict[str, Any], interpolation: str) -> Tensor:
        """Cut each of channels-last images at its place."""
        if "window" in transformation:
            return super().cut(images, transformation, interpolation)
        module = backends.module_of(images)
        if not (module.is_traced(images) or module.accelerated() or module.COMPILES_OPS):
            places = [ops.convert_to_numpy(transformation[name]) for name in ("top", "left")]
            return ops.stack(
                [
                    image[top : top + self.height, left : left + self.width]
                    for image, top, left in zip(images, *places, strict=True)
                ]
            )
        batch, height, width, channels = ops.shape(images)
        rows, columns = (
            ops.expand_dims(transformation[name], 1) + ops.arange(count, dtype="int32")
            for name, count in (("top", self.height), ("left", self.width))
        )
        first = ops.expand_dims(ops.arange(batch, dtype="int32") * (height * width), 1)
        places = ops.expand_dims(first + rows * width, 2) + ops.expand_dims(columns, 1)
        return ops.take(ops.reshape(images, (-1, channels)), places, axis=0)

    def transform_bounding_boxes(
        self, bounding_boxes: dict, transformation: Any, training: bool = True
    ) -> dict:
        """Move boxes to the crops, and clip them to it."""
        if "window" in transformation:
            return super().transform_bounding_boxes(bounding_boxes, transformation, training)
        places = [ops.expand_dims(transformation[name], 1) for name in ("top", "left")]
        before = transformation["height"], transformation["width"]
        return self.move_from(bounding_boxes, (*places, *self._size), before)


class MaxNumBoundingBoxes(BaseImagePreprocessingLayer):
    """Bring boxes to a number: those after it are dropped, and lists that are short are filled up.

    Args:
        max_number: the number.
        fill_value: what missing boxes and labels are filled with.

    >>> data = {"boxes": [[[0, 0, 2, 2]]], "labels": [[1]]}
    >>> layer = MaxNumBoundingBoxes(2, bounding_box_format="xyxy")
    >>> layer({"images": np.ones((1, 4, 4, 3)), "bounding_boxes": data})["bounding_boxes"]["labels"]
    array([[ 1, -1]]...
    """

    def __init__(self, max_number: int, fill_value: int = -1, **kwargs: Any):
        self.set_arguments(locals())
        self.max_number, self.fill_value = int(max_number), int(fill_value)

    def transform_images(
        self, images: Tensor, transformation: Any = None, training: bool = True
    ) -> Tensor:
        """Return the images as they are."""
        return images

    def transform_bounding_boxes(
        self, bounding_boxes: dict, transformation: Any = None, training: bool = True
    ) -> dict:
        """Drop boxes or fill them up."""
        boxes, labels = bounding_boxes["boxes"], bounding_boxes["labels"]
        return {**bounding_boxes, "boxes": self._fill(boxes), "labels": self._fill(labels)}

    def _fill(self, x: Tensor) -> Tensor:
        batch, _, *rest = ops.shape(x)
        more = ops.full((batch, self.max_number, *rest), self.fill_value, ops.dtype(x))
        return ops.concatenate([x, more], axis=1)[:, : self.max_number]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shapes that come out: the number of boxes is the layer's."""
        if not isinstance(input_shape, dict) or "bounding_boxes" not in input_shape:
            return input_shape
        boxes = {
            name: (shape[0], self.max_number, *shape[2:])
            for name, shape in input_shape["bounding_boxes"].items()
        }
        return {**input_shape, "bounding_boxes": boxes}
