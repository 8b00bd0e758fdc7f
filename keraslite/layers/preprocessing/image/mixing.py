"""Layers that mix the images of a batch in training, and their labels."""

from typing import Any

from keraslite import ops, random
from keraslite.layers.preprocessing.image.base import BaseImagePreprocessingLayer, ImageSize
from keraslite.layers.preprocessing.image.draws import (
    between,
    per_image,
    read_range,
    streams,
    uniform,
)
from keraslite.layers.preprocessing.image.effects import inside_rectangles, random_rectangles
from keraslite.typing import Tensor


class MixingLayer(BaseImagePreprocessingLayer):
    """A layer that mixes each image with the one at its place in "permutation_order".

    Labels are mixed by "mix_weight", the share of the image itself.
    """

    def change_labels(self, labels: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Mix labels (batch, classes), one-hot or probabilities."""
        labels = soft_labels(labels)
        others = ops.take(labels, transformation["permutation_order"], axis=0)
        weight = ops.reshape(transformation["mix_weight"], (-1, 1))
        return weight * labels + (1.0 - weight) * others

    def add_boxes(self, own: dict[str, Tensor], others: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the boxes of both."""
        return {k: ops.concatenate([own[k], others[k]], axis=1) for k in own}


def soft_labels(labels: Tensor) -> Tensor:
    """Return labels (batch, classes) as floats, which can be mixed.

    Raises:
        ValueError: they have another shape.
    """
    if len(labels.shape) != 2:
        raise ValueError(
            "Labels must be (batch, classes), such as keras.ops.one_hot gives, got a shape of "
            f"{tuple(labels.shape)}."
        )
    return ops.cast(labels, "float32")


class MixUp(MixingLayer):
    """Take the weighted mean of pairs of images, and of their labels, in training.

    Source: https://arxiv.org/abs/1710.09412

    Boxes are those of both images; masks are averaged as the images.

    Args:
        alpha: the parameter of the Beta distribution that weights are drawn from.
        data_format: "channels_last" or "channels_first".
        seed: an int.

    >>> data = {"images": np.ones((2, 4, 4, 3), "float32"), "labels": np.eye(2)}
    >>> MixUp()(data)["labels"].shape
    (2, 2)
    """

    def __init__(
        self,
        alpha: float = 0.2,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if not alpha > 0:
            raise ValueError(f"`alpha` must be a positive number, got alpha={alpha!r}.")
        self.set_arguments(locals())

    def draw(self, size: ImageSize, seed: Any) -> dict[str, Any]:
        """Draw the "permutation_order" of the batch, and the "mix_weight" of each image."""
        first, second = streams(seed, 2)
        weight = random.beta((size.batch,), self.alpha, self.alpha, "float32", seed=second)
        return {"permutation_order": _order(size.batch, first), "mix_weight": weight}

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Mix the images."""
        images = ops.cast(images, "float32")
        weight = per_image(transformation["mix_weight"])
        others = ops.take(images, transformation["permutation_order"], axis=0)
        return weight * images + (1.0 - weight) * others

    def change_masks(self, masks: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Mix masks as the images."""
        return self.change_images(masks, transformation)

    def change_boxes(
        self, bounding_boxes: dict[str, Tensor], transformation: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Return the boxes of both images."""
        order = transformation["permutation_order"]
        others = {k: ops.take(v, order, axis=0) for k, v in bounding_boxes.items()}
        return self.add_boxes(bounding_boxes, others)


class CutMix(MixingLayer):
    """Replace a rectangle of each image by that of another one, in training.

    Source: https://arxiv.org/abs/1905.04899

    Labels are mixed by areas; boxes are the image's own and what the rectangle shows of the other
    image's; masks are cut as the images.

    Args:
        factor: the range of the parameter of the Beta distribution that areas are drawn from: a
            number for (0, factor), or a pair from [0, 1].
        seed: an int.
        data_format: "channels_last" or "channels_first".

    >>> data = {"images": np.ones((2, 4, 4, 3), "float32"), "labels": np.eye(2)}
    >>> CutMix()(data)["labels"].shape
    (2, 2)
    """

    factor_bounds = (0, 1)

    def __init__(
        self,
        factor: Any = 1.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())

    def draw(self, size: ImageSize, seed: Any) -> dict[str, Any]:
        """Draw the "permutation_order" of the batch and the "rectangles" of images."""
        order, first, second, third = streams(seed, 4)
        alpha = between(uniform(first, 1, 1)[0], self.factor) + 1e-6
        share = ops.sqrt(1.0 - random.beta((size.batch,), alpha, alpha, "float32", seed=second))
        places = uniform(third, size.batch, 2)
        return {
            "permutation_order": _order(size.batch, order),
            "rectangles": random_rectangles(size, share, share, *places),
            "mix_weight": 1.0 - share * share,
            "height": size.height,
            "width": size.width,
        }

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Replace the rectangles."""
        height, width = ops.shape(images)[1:3]
        inside = inside_rectangles(transformation["rectangles"], height, width)
        others = ops.take(images, transformation["permutation_order"], axis=0)
        return ops.where(inside, others, images)

    def change_masks(self, masks: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Replace the rectangles of masks."""
        return self.change_images(masks, transformation)

    def change_boxes(
        self, bounding_boxes: dict[str, Tensor], transformation: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Return an image's own boxes, and what is left of the other's in the rectangle."""
        order = transformation["permutation_order"]
        others = {k: ops.take(v, order, axis=0) for k, v in bounding_boxes.items()}
        # The pixels that are replaced are those that begin inside the rectangle.
        edges = ops.ceil(ops.expand_dims(transformation["rectangles"], 1))

        def clip(boxes: Tensor) -> Tensor:
            low = ops.concatenate([edges[..., :2]] * 2, axis=-1)
            high = ops.concatenate([edges[..., 2:]] * 2, axis=-1)
            return ops.minimum(ops.maximum(boxes, low), high)

        size = transformation["height"], transformation["width"]
        return self.add_boxes(bounding_boxes, self.move_boxes(others, clip, size, size))


class Mosaic(MixingLayer):
    """Put each image and three others together around a random point, in training.

    Source: https://arxiv.org/abs/2004.10934

    An image touches the point with one of its corners, the image itself with the lower right one,
    and what is beyond the size of the images is cut off. Boxes are what is left of those of the
    four images, labels are mixed by areas, and masks are put together as the images.

    Args:
        offset: the range of the point, as a part of the height and of the width.
        min_area: the part of its area that a box must keep to be in the result.
        data_format: "channels_last" or "channels_first".
        seed: an int.

    Raises:
        ValueError: an argument is out of its range.

    >>> mosaic = Mosaic(bounding_box_format="xyxy")
    >>> boxes = {"boxes": np.ones((2, 3, 4)), "labels": np.ones((2, 3))}
    >>> out = mosaic({"images": np.ones((2, 8, 8, 3), "float32"), "bounding_boxes": boxes})
    >>> out["images"].shape, out["bounding_boxes"]["boxes"].shape
    ((2, 8, 8, 3), (2, 12, 4))
    """

    draws = 5

    def __init__(
        self,
        offset: Any = (0.25, 0.75),
        min_area: float = 0.1,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if not 0 <= min_area < 1:
            raise ValueError(f"`min_area` must be a number from [0, 1), got min_area={min_area!r}.")
        self.set_arguments(locals())
        self._range = read_range(offset, 0, 1, "offset")

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the four "pictures" (batch, 4), left before right, and the "center" (batch, 2)."""
        own = ops.arange(size.batch, dtype="int32")
        count = ops.cast(size.batch, "float32")
        others = [ops.cast(ops.floor(unit * count), "int32") for unit in units[:3]]
        # A number next to 1 may be rounded up to the size of the batch.
        others = [ops.minimum(other, own[-1]) for other in others]
        center = [
            ops.cast(ops.floor(between(unit, self._range) * ops.cast(side, "float32")), "int32")
            for unit, side in zip(units[3:], (size.width, size.height), strict=True)
        ]
        return {
            "pictures": ops.stack([own, *others], axis=1), "center": ops.stack(center, axis=1),
            "height": size.height, "width": size.width,
        }  # fmt: skip

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Put images together."""
        height, width, channels = ops.shape(images)[1:4]
        x, y = (per_image(transformation["center"][:, i])[..., 0] for i in range(2))
        column = ops.reshape(ops.arange(width, dtype="int32"), (1, 1, -1)) - x
        row = ops.reshape(ops.arange(height, dtype="int32"), (1, -1, 1)) - y
        right, below = column >= 0, row >= 0
        ids = [per_image(transformation["pictures"][:, i])[..., 0] for i in range(4)]
        upper, lower = (ops.where(right, ids[i + 1], ids[i]) for i in (0, 2))
        column, row = ops.where(right, column, column + width), ops.where(below, row, row + height)
        pixel = (ops.where(below, lower, upper) * height + row) * width + column
        return ops.take(ops.reshape(images, (-1, channels)), pixel, axis=0)

    def change_masks(self, masks: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Put masks together as the images."""
        return self.change_images(masks, transformation)

    def change_labels(self, labels: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Mix labels (batch, classes) by the areas of the four images."""
        labels = soft_labels(labels)
        size = [ops.cast(transformation[name], "float32") for name in ("width", "height")]
        x, y = (
            ops.expand_dims(ops.cast(transformation["center"][:, i], "float32"), 1) / size[i]
            for i in range(2)
        )
        shares = (x * y, (1.0 - x) * y, x * (1.0 - y), (1.0 - x) * (1.0 - y))
        return sum(
            share * ops.take(labels, transformation["pictures"][:, i], axis=0)
            for i, share in enumerate(shares)
        )

    def change_boxes(
        self, bounding_boxes: dict[str, Tensor], transformation: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Return what is left of the boxes of the four images."""
        size = transformation["height"], transformation["width"]
        height, width = (ops.cast(side, "float32") for side in size)
        center = ops.cast(ops.expand_dims(transformation["center"], 1), "float32")
        x, y = center[..., 0], center[..., 1]
        parts = []
        for i in range(4):
            picture = transformation["pictures"][:, i]
            boxes = {k: ops.take(v, picture, axis=0) for k, v in bounding_boxes.items()}
            shift = [x if i % 2 else x - width, y if i // 2 else y - height]
            by = ops.stack(shift * 2, axis=-1)
            parts.append(self.move_boxes(boxes, lambda x, by=by: x + by, size, size, self.min_area))
        return {k: ops.concatenate([part[k] for part in parts], axis=1) for k in parts[0]}


def _order(batch: Any, seed: Any) -> Tensor:
    """Return a random order of a batch, of whatever size."""
    return ops.cast(ops.argsort(random.uniform((batch,), dtype="float32", seed=seed)), "int32")
