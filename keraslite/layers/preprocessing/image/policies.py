"""Layers that choose among augmentations at random, for each picture anew."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import ops, random
from keraslite.layers.preprocessing.image.base import BaseImagePreprocessingLayer, ImageSize
from keraslite.layers.preprocessing.image.color import (
    AutoContrast,
    RandomBrightness,
    RandomColorDegeneration,
    RandomContrast,
    RandomPosterization,
    RandomSharpness,
    Solarization,
)
from keraslite.layers.preprocessing.image.draws import (
    check_option,
    per_image,
    read_value_range,
    streams,
    uniform,
)
from keraslite.layers.preprocessing.image.geometric import (
    RandomRotation,
    RandomShear,
    RandomTranslation,
    move_corners,
)
from keraslite.layers.preprocessing.image.histograms import Equalization
from keraslite.typing import Tensor

_IDENTITY = np.float32([1, 0, 0, 0, 1, 0, 0, 0])
_UNITS = 3  # random numbers that one augmentation of a picture takes at most


class PolicyLayer(BaseImagePreprocessingLayer):
    """A layer that changes each picture by augmentations drawn from a list, one after the other.

    Each picture runs through those alone that were drawn for it: pictures with the same one go
    through it together, and inside a compiled function one after the other.
    """

    factor_bounds = (0, 1)
    compiles = True
    may_skip = False  # whether nothing is one of the augmentations

    def set_steps(self, names: Sequence[str]) -> None:
        """Make the augmentations that a picture may get.

        Args:
            names: "shear", "translation" and "rotation", then names of colour layers.
        """
        check_option("interpolation", self.interpolation, ("nearest", "bilinear"))
        low, high = self.factor
        pair, values = (low, high), read_value_range(self.value_range)
        colors = {"value_range": values, "seed": 0}
        self._kl_moves = [
            RandomShear(pair, pair, seed=0),
            RandomTranslation(pair, pair, seed=0),
            RandomRotation(pair, seed=0),
        ]
        makers: dict[str, Callable] = {
            "brightness": lambda: RandomBrightness(pair, **colors),
            "color_degeneration": lambda: RandomColorDegeneration(pair, **colors),
            "contrast": lambda: RandomContrast(pair, **colors),
            "sharpness": lambda: RandomSharpness(pair, **colors),
            "posterization": lambda: RandomPosterization(max(1, int(8 * high)), **colors),
            "solarization": lambda: Solarization(pair, pair, **colors),
            "auto_contrast": lambda: AutoContrast(values),
            "equalization": lambda: Equalization(values),
        }
        self._kl_colors = [makers[name]() for name in names]

    def move_masks(self, masks: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Move masks as the steps move images, without values between those they have."""
        for step in transformation["steps"]:
            masks = self.warp(masks, step["matrix"], "nearest")
        return masks

    def draw_steps(self, size: ImageSize, seed: Any, count: int) -> list[dict[str, Tensor]]:
        """Draw augmentations for each picture.

        Args:
            size: of the images.
            seed: of the draw.
            count: how many a picture gets.

        Returns:
            For each of them the numbers of functions of `functions` (batch,), their random numbers
            (batch, 3), and the matrices (batch, 8) by which pixels move.
        """
        units = uniform(seed, size.batch, count * (1 + _UNITS))
        choices = len(self._kl_moves) + len(self._kl_colors) + self.may_skip
        steps = []
        for i in range(count):
            unit, *own = units[i * (1 + _UNITS) : (i + 1) * (1 + _UNITS)]
            choice = ops.cast(ops.floor(unit * choices), "int32")
            matrix: Any = ops.convert_to_tensor(_IDENTITY)
            for number, move in enumerate(self._kl_moves):
                moved = move.parameters(size, *own[: move.draws])["matrix"]
                matrix = ops.where(ops.expand_dims(choice == number, 1), moved, matrix)
            function = ops.maximum(choice - (len(self._kl_moves) - 1), 0)
            steps.append({"function": function, "matrix": matrix, "units": ops.stack(own, axis=1)})
        return steps

    def functions(self) -> list[Callable]:
        """Return the warp, then the colour functions: of images, matrices and random numbers."""

        def warp(images: Tensor, matrix: Tensor, units: Tensor) -> Tensor:
            return self.warp(images, matrix, self.interpolation)

        def colors(layer: BaseImagePreprocessingLayer) -> Callable:
            def change(images: Tensor, matrix: Tensor, units: Tensor) -> Tensor:
                size = ImageSize(*ops.shape(images))
                own = [units[:, i] for i in range(layer.draws)]
                return layer.change_images(images, layer.parameters(size, *own) or {})

            return change

        same = [lambda images, matrix, units: images] if self.may_skip else []
        return [warp, *map(colors, self._kl_colors), *same]

    def warp(self, images: Tensor, matrix: Tensor, interpolation: str) -> Tensor:
        """Move the pixels of channels-last images; beyond the edges they are reflected."""
        return ops.image.affine_transform(
            images, matrix, interpolation, "reflect", 0.0, "channels_last"
        )


def apply_steps(images: Tensor, steps: list[dict[str, Tensor]], functions: list) -> Tensor:
    """Change each picture by the functions drawn for it.

    Args:
        images: a channels-last batch.
        steps: as `PolicyLayer.draw_steps` gives them.
        functions: as `PolicyLayer.functions` gives them.
    """
    for step in steps:
        which, rest = step["function"], (step["matrix"], step["units"])
        if backends.module_of(which).is_traced(which):
            images = _one_by_one(images, which, rest, functions)
        else:
            images = _in_groups(images, which, rest, functions)
    return images


def _in_groups(images: Tensor, which: Tensor, rest: tuple, functions: list) -> Tensor:
    """Apply each function to the pictures that it was drawn for, together."""
    numbers = ops.convert_to_numpy(which)
    order = np.argsort(numbers, kind="stable").astype("int32")
    groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    if len(groups) == 1:
        return functions[numbers[0]](images, *rest)
    parts = [
        functions[numbers[rows[0]]](*(ops.take(x, rows, axis=0) for x in (images, *rest)))
        for rows in groups
    ]
    return ops.take(ops.concatenate(parts), np.argsort(order).astype("int32"), axis=0)


def _one_by_one(images: Tensor, which: Tensor, rest: tuple, functions: list) -> Tensor:
    """Apply to each picture the function that was drawn for it."""

    def change(x: Any) -> Tensor:
        number, *batch = x[0], *(ops.expand_dims(v, 0) for v in x[1:])
        return ops.switch(number, functions, *batch)[0]

    return ops.map(change, (which, images, *rest))


class RandAugment(PolicyLayer):
    """Change each picture by some augmentations, drawn for it from eleven, in training.

    They are shear, translation, rotation, brightness, colour degeneration, contrast, sharpness,
    posterization, solarization, automatic contrast and equalization. Source:
    https://arxiv.org/abs/1909.13719

    Args:
        value_range: the least and the largest value of a pixel.
        num_ops: how many augmentations a picture gets, one after the other.
        factor: the strength: a number for (0, factor), or a pair from [0, 1].
        interpolation: "bilinear" or "nearest".
        seed: an int.
        data_format: "channels_last" or "channels_first".

    >>> RandAugment()(np.ones((2, 8, 8, 3), "uint8")).shape
    (2, 8, 8, 3)
    """

    def __init__(
        self,
        value_range: Sequence[float] = (0, 255),
        num_ops: int = 2,
        factor: Any = 0.5,
        interpolation: str = "bilinear",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self.set_steps([
            "brightness", "color_degeneration", "contrast", "sharpness", "posterization",
            "solarization", "auto_contrast", "equalization",
        ])  # fmt: skip

    def draw(self, size: ImageSize, seed: Any) -> dict[str, Any]:
        """Draw the "steps" of each picture."""
        steps = self.draw_steps(size, seed, self.num_ops)
        return {"steps": steps, "height": size.height, "width": size.width}

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Apply the steps."""
        images = ops.cast(images, "float32")
        return apply_steps(images, transformation["steps"], self.functions())

    def change_masks(self, masks: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Move masks as the images, without values between those they have."""
        return self.move_masks(masks, transformation)

    def change_boxes(
        self, bounding_boxes: dict[str, Tensor], transformation: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Move boxes with the images."""
        size = transformation["height"], transformation["width"]
        for step in transformation["steps"]:
            bounding_boxes = self.move_boxes(
                bounding_boxes, lambda x, m=step["matrix"]: move_corners(x, m), size, size
            )
        return bounding_boxes


class AugMix(PolicyLayer):
    """Mix each picture with chains of augmentations of it, in training.

    Source: https://arxiv.org/abs/1912.02781

    Boxes and labels stay: the picture itself has the largest weight. Masks are mixed as the
    images.

    Args:
        value_range: the least and the largest value of a pixel.
        num_chains: how many chains are mixed.
        chain_depth: how many augmentations a chain has at most.
        factor: their strength: a number for (0, factor), or a pair from [0, 1].
        alpha: the parameter of the distributions of weights.
        all_ops: whether brightness, colour degeneration, contrast and sharpness are among them.
        interpolation: "bilinear" or "nearest".
        seed: an int.
        data_format: "channels_last" or "channels_first".

    >>> AugMix()(np.ones((2, 8, 8, 3), "uint8")).shape
    (2, 8, 8, 3)
    """

    may_skip = True

    def __init__(
        self,
        value_range: Sequence[float] = (0, 255),
        num_chains: int = 3,
        chain_depth: int = 3,
        factor: Any = 0.3,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: str = "bilinear",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        more = ["brightness", "color_degeneration", "contrast", "sharpness"] if all_ops else []
        self.set_steps(["posterization", "solarization", "auto_contrast", "equalization", *more])

    def draw(self, size: ImageSize, seed: Any) -> dict[str, Any]:
        """Draw the "steps" of all chains, and the weights of the chains and of the picture."""
        first, second, third = streams(seed, 3)
        shares = random.gamma((size.batch, self.num_chains), self.alpha, "float32", seed=second)
        shares = shares / ops.sum(shares, axis=1, keepdims=True)
        own = random.beta((size.batch,), self.alpha, self.alpha, "float32", seed=third)
        # The chains of a picture are pictures of a larger batch.
        chains = size._replace(batch=size.batch * self.num_chains)
        return {
            "steps": self.draw_steps(chains, first, self.chain_depth),
            "chain_mixing_weights": shares,
            "weight_sample": own,
        }

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Mix images with their chains."""
        images = ops.cast(images, "float32")

        def change(chains: Tensor) -> Tensor:
            return apply_steps(chains, transformation["steps"], self.functions())

        return ops.clip(self._mix(images, change, transformation), *sorted(self.value_range))

    def _mix(self, images: Tensor, change: Callable, transformation: dict[str, Any]) -> Tensor:
        count = self.num_chains
        chains = change(ops.repeat(images, count, axis=0))
        shape = ops.shape(images)
        chains = ops.reshape(chains, (shape[0], count, *shape[1:]))
        shares = ops.reshape(transformation["chain_mixing_weights"], (-1, count, 1, 1, 1))
        mixed = ops.sum(chains * shares, axis=1)
        own = per_image(transformation["weight_sample"])
        return own * images + (1.0 - own) * mixed

    def change_masks(self, masks: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Mix masks as the images."""
        move = partial(self.move_masks, transformation=transformation)
        return self._mix(ops.cast(masks, "float32"), move, transformation)
