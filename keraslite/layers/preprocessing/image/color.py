"""Layers that change colours in training, each picture by a number of its own."""

from collections.abc import Sequence
from typing import Any

from keraslite import ops
from keraslite.layers.preprocessing.image import adjust
from keraslite.layers.preprocessing.image.base import BaseImagePreprocessingLayer, ImageSize
from keraslite.layers.preprocessing.image.draws import (
    between,
    chosen,
    read_range,
    read_value_range,
)
from keraslite.typing import Tensor


class ColorLayer(BaseImagePreprocessingLayer):
    """A layer that changes colours: `adjust(images, transformation)` gets float32 images."""

    compiles = True

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Change the colours of images."""
        return self.adjust(ops.cast(images, "float32"), transformation)

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Change the colours of channels-last float32 images."""
        raise NotImplementedError(f"{type(self).__name__} must have a method `adjust`.")


class RandomBrightness(ColorLayer):
    """Make images brighter or darker in training.

    Args:
        factor: the range of what is added, as a part of the range of values: a number for
            (-factor, factor), or a pair from [-1, 1].
        value_range: the least and the largest value of a pixel.
        seed: an int.

    >>> layer = RandomBrightness((0.5, 0.5), value_range=(0, 1))
    >>> float(layer(np.full((1, 1, 3), 0.25, "float32"))[0, 0, 0])
    0.75
    """

    draws = 1

    def __init__(
        self,
        factor: Any,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self.value_range = read_value_range(value_range)

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "rgb_delta", in units of the images."""
        low, high = self.value_range
        return {"rgb_delta": between(units[0], [f * (high - low) for f in self.factor])}

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Add the delta."""
        return adjust.brightness(images, transformation["rgb_delta"], self.value_range)


class RandomContrast(ColorLayer):
    """Scale the distances of pixels from the mean of their channel in training.

    Args:
        factor: the scale is drawn from (1 - lower, 1 + upper): a pair (lower, upper) from [0, 1],
            or a number for (0, factor).
        value_range: the least and the largest value of a pixel.
        seed: an int.

    >>> RandomContrast(0.5)(np.full((1, 1, 3), 7.0, "float32")).shape
    (1, 1, 3)
    """

    factor_bounds = (0, 1)
    draws = 1

    def __init__(
        self,
        factor: Any,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "contrast_factor"."""
        low, high = 1.0 - self.factor[0], 1.0 + self.factor[1]
        return {"contrast_factor": between(units[0], (low, high))}

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Scale the contrast."""
        return adjust.contrast(images, transformation["contrast_factor"], self.value_range)


class RandomColorDegeneration(ColorLayer):
    """Mix images with their grey in training.

    Args:
        factor: the range of the share of grey: a number for (-factor, factor), or a pair from
            [-1, 1]; a negative share strengthens colours.
        value_range: the least and the largest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an int.

    >>> RandomColorDegeneration((1.0, 1.0))(np.ones((2, 2, 3), "float32")).shape
    (2, 2, 3)
    """

    draws = 1

    def __init__(
        self,
        factor: Any,
        value_range: Sequence[float] = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self.value_range = read_value_range(value_range)

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "factor"."""
        return {"factor": between(units[0], self.factor)}

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Mix in grey."""
        return adjust.degenerate(images, transformation["factor"], self.value_range)


class RandomGrayscale(ColorLayer):
    """Make some images grey in training, in three channels.

    Args:
        factor: the probability of an image, from 0 to 1.
        data_format: "channels_last" or "channels_first".
        seed: an int.

    >>> grey = RandomGrayscale(1.0)(np.float32([[[1, 0, 0]]]))
    >>> bool((grey[0, 0, 0] == grey[0, 0, 2]))
    True
    """

    draws = 1

    def __init__(
        self,
        factor: float = 0.5,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if not isinstance(factor, int | float) or not 0 <= factor <= 1:
            raise ValueError(f"`factor` must be a number from [0, 1], got factor={factor!r}.")
        self.set_arguments(locals())
        self.factor = factor

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return which images become grey."""
        return {"applied": ops.less(units[0], self.factor)}

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Make the chosen images grey."""
        return adjust.grayscale(images, transformation["applied"])


class RandomHue(ColorLayer):
    """Turn the hues of images in training, to either side.

    Args:
        factor: the range of the turn, in halves of the colour circle: a number for (0, factor),
            or a pair from [0, 1].
        value_range: the least and the largest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an int.

    >>> RandomHue(0.2)(np.ones((2, 2, 3), "float32")).shape
    (2, 2, 3)
    """

    factor_bounds = (0, 1)
    draws = 2

    def __init__(
        self,
        factor: Any,
        value_range: Sequence[float] = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "factor", a part of the colour circle."""
        side = ops.where(ops.greater(units[1], 0.5), -0.5, 0.5)
        return {"factor": between(units[0], self.factor) * side}

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Turn the hues."""
        return adjust.hue(images, transformation["factor"])


class RandomSaturation(ColorLayer):
    """Weaken or strengthen the colours of images in training.

    Args:
        factor: the range of the strength: a number for (0, factor), or a pair from [0, 1]; 0
            leaves no colour, 1/2 changes nothing, 1 gives pure colours.
        value_range: the least and the largest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an int.

    >>> RandomSaturation(0.8)(np.ones((2, 2, 3), "float32")).shape
    (2, 2, 3)
    """

    draws = 1

    def __init__(
        self,
        factor: Any,
        value_range: Sequence[float] = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self.value_range = read_value_range(value_range)

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "factor" that the saturation is multiplied by."""
        low, high = (max(f, 0.0) for f in self.factor)
        strength = between(units[0], (low, high))
        return {"factor": strength / (1.0 - strength + 1e-7)}

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Change the saturation."""
        return adjust.saturation(images, transformation["factor"], self.value_range)


class RandomHSV(ColorLayer):
    """Turn hues, and multiply saturation and value, in training.

    `RandomSaturation` and `RandomBrightness` draw other amounts: saturation by a ratio, and a
    number that is added to all pixels.

    Args:
        hue: the range of the turn of the hue, as a part of the colour circle: a number for
            (-hue, hue), or a pair from [-1, 1].
        saturation: the range of the change of the saturation: a number for factors from
            1 - saturation to 1 + saturation, or a pair from [-1, 1], to which 1 is added.
        value: likewise of the value, the largest of the three colours.
        value_range: the least and the largest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an int.

    >>> RandomHSV()(np.ones((2, 2, 3), "float32")).shape
    (2, 2, 3)
    """

    draws = 3

    def __init__(
        self,
        hue: Any = 0.015,
        saturation: Any = 0.7,
        value: Any = 0.4,
        value_range: Sequence[float] = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self.value_range = read_value_range(value_range)
        pairs = (("hue", hue), ("saturation", saturation), ("value", value))
        self._ranges = [read_range(limits, -1, 1, name) for name, limits in pairs]

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the turn of the "hue", and the factors of "saturation" and "value"."""
        hue, saturation, value = map(between, units, self._ranges)
        return {"hue": hue, "saturation": 1.0 + saturation, "value": 1.0 + value}

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Change the colours."""
        images = adjust.hue(images, transformation["hue"])
        images = adjust.saturation(images, transformation["saturation"], self.value_range)
        return adjust.value(images, transformation["value"], self.value_range)


class RandomColorJitter(ColorLayer):
    """Change brightness, contrast, saturation and hue of images in training, in this order.

    Args:
        value_range: the least and the largest value of a pixel.
        brightness_factor: as `factor` of `RandomBrightness`; None changes nothing.
        contrast_factor: as that of `RandomContrast`.
        saturation_factor: as that of `RandomSaturation`.
        hue_factor: as that of `RandomHue`.
        seed: an int.
        data_format: "channels_last" or "channels_first".

    >>> RandomColorJitter(hue_factor=0.1)(np.ones((2, 2, 3), "float32")).shape
    (2, 2, 3)
    """

    draws = 5

    def __init__(
        self,
        value_range: Sequence[float] = (0, 255),
        brightness_factor: Any = None,
        contrast_factor: Any = None,
        saturation_factor: Any = None,
        hue_factor: Any = None,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        classes = {
            "brightness": (RandomBrightness, brightness_factor),
            "contrast": (RandomContrast, contrast_factor),
            "saturation": (RandomSaturation, saturation_factor),
            "hue": (RandomHue, hue_factor),
        }
        # Used for their draws and functions alone: the seed and its state are this layer's.
        self._kl_steps = {
            name: cls(factor, value_range, seed=0)
            for name, (cls, factor) in classes.items()
            if factor is not None
        }

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the transformations of the steps."""
        rest = list(units)
        return {
            name: step.parameters(size, *[rest.pop(0) for _ in range(step.draws)])
            for name, step in self._kl_steps.items()
        }

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Change the colours, step by step."""
        for name, step in self._kl_steps.items():
            images = step.adjust(images, transformation[name])
        return images


class RandomSharpness(ColorLayer):
    """Smooth or sharpen images in training.

    Args:
        factor: the range of the strength: a number for (0, factor), or a pair from [0, 1]; 0
            smooths, 1/2 changes nothing, 1 sharpens.
        value_range: the least and the largest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an int.

    >>> RandomSharpness(0.8)(np.ones((4, 4, 3), "float32")).shape
    (4, 4, 3)
    """

    factor_bounds = (0, 1)
    draws = 1

    def __init__(
        self,
        factor: Any,
        value_range: Sequence[float] = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self.value_range = read_value_range(value_range)

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "factor"."""
        return {"factor": between(units[0], self.factor)}

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Smooth or sharpen."""
        return adjust.sharpness(images, transformation["factor"] * 2.0, self.value_range)


class RandomInvert(ColorLayer):
    """Turn some images into their negatives in training.

    Args:
        factor: the probability of an image: a number for (0, factor), or the range it is drawn
            from itself.
        value_range: the least and the largest value of a pixel.
        seed: an int.
        data_format: "channels_last" or "channels_first".

    >>> float(RandomInvert((1.0, 1.0))(np.full((1, 1, 3), 55.0, "float32"))[0, 0, 0])
    200.0
    """

    factor_bounds = (0, 1)
    draws = 2

    def __init__(
        self,
        factor: Any = 1.0,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return which images are inverted."""
        return {"apply_inversion": chosen(*units, self.factor)}

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Invert the chosen images."""
        return adjust.invert(images, transformation["apply_inversion"], self.value_range)


class RandomPosterization(ColorLayer):
    """Keep the highest bits of pixels in training.

    Args:
        factor: the number of bits that are kept, of 8: the range (lowest, highest), without the
            highest itself, or a number for (1, factor).
        value_range: the least and the largest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an int.

    >>> RandomPosterization((1, 1))(np.float32([[[100, 200, 255]]]))[0, 0].tolist()
    [0.0, 128.0, 128.0]
    """

    factor_bounds = (1, 8)
    draws = 1

    def __init__(
        self,
        factor: Any,
        value_range: Sequence[float] = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self.value_range = read_value_range(value_range)

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "shift_factor": how many bits are dropped."""
        bits = ops.floor(between(units[0], [int(f) for f in self.factor]))
        return {"shift_factor": ops.subtract(8, ops.cast(bits, "int32"))}

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Drop the bits."""
        return adjust.posterize(images, transformation["shift_factor"], self.value_range)


class Solarization(ColorLayer):
    """Invert the bright pixels of images in training, after something was added to all.

    Args:
        addition_factor: the range of what is added, as a part of the range of values: a number for
            (0, factor), or a pair from [0, 1].
        threshold_factor: likewise, of the value from which pixels are inverted.
        value_range: the least and the largest value of a pixel.
        seed: an int.

    >>> Solarization(threshold_factor=(0.5, 0.5))(np.float32([[[50, 100, 255]]]))[0, 0].tolist()
    [50.0, 100.0, 0.0]
    """

    draws = 2

    def __init__(
        self,
        addition_factor: Any = 0.0,
        threshold_factor: Any = 0.0,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self.addition_factor = read_range(addition_factor, 0, 1, "addition_factor", 0)
        self.threshold_factor = read_range(threshold_factor, 0, 1, "threshold_factor", 0)
        self.value_range = read_value_range(value_range)

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "additions" and the "thresholds", from [0, 255]."""
        additions, thresholds = (
            between(unit, [255.0 * f for f in factor])
            for unit, factor in zip(units, (self.addition_factor, self.threshold_factor))
        )
        return {"additions": additions, "thresholds": thresholds}

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Add and invert."""
        return adjust.solarize(
            images, transformation["additions"], transformation["thresholds"], self.value_range
        )


class AutoContrast(ColorLayer):
    """Stretch each channel of an image to the whole range of values, in training and elsewhere.

    Args:
        value_range: the least and the largest value of a pixel.

    >>> AutoContrast()(np.float32([[[5, 5, 5]], [[10, 10, 10]]]))[:, 0, 0].tolist()
    [0.0, 255.0]
    """

    def __init__(self, value_range: Sequence[float] = (0, 255), **kwargs: Any):
        self.set_arguments(locals())
        self.value_range = read_value_range(value_range)

    def transform_images(
        self, images: Tensor, transformation: Any, training: bool = True
    ) -> Tensor:
        """Stretch the channels of images."""
        images = self.in_channels_last(self.change_compiled, images, {})
        return self.to_compute_dtype(images)

    def adjust(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Stretch the channels."""
        return adjust.autocontrast(images, self.value_range)
