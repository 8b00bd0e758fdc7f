"""Layers that reshape, permute, repeat, pad, crop and enlarge."""

import math
from collections.abc import Sequence
from typing import Any

from keraslite import ops
from keraslite.declare import declare
from keraslite.layers.base.config_layer import ConfigLayer, to_sizes
from keraslite.layers.base.input_spec import InputSpec
from keraslite.layers.base.known_dims import lengthened_dims
from keraslite.typing import Tensor


class Flatten(ConfigLayer):
    """Flatten all axes but the first into one.

    Args:
        data_format: "channels_first" moves the channels to the end before.

    >>> Flatten()(np.ones((2, 3, 4), "float32")).shape == (2, 12)
    True
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        self.set_arguments(locals())
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Tensor) -> Tensor:
        """Flatten."""
        rank = len(inputs.shape)
        if self.data_format == "channels_first" and rank > 1:
            inputs = ops.transpose(inputs, (0, *range(2, rank), 1))
        sizes = tuple(inputs.shape)[1:]
        return ops.reshape(
            inputs, (ops.shape(inputs)[0], -1 if None in sizes else math.prod(sizes))
        )


class Reshape(ConfigLayer):
    """Give each sample another shape.

    Args:
        target_shape: the shape without the batch axis; one size may be -1, to be worked out.

    >>> Reshape((-1, 2))(np.ones((2, 6), "float32")).shape == (2, 3, 2)
    True
    """

    def __init__(self, target_shape: Sequence[int], **kwargs: Any):
        target_shape = tuple(target_shape)
        if target_shape.count(-1) > 1 or any(d < -1 for d in target_shape):
            raise ValueError(
                "`target_shape` holds sizes, and -1 at most once. Received: "
                f"target_shape={target_shape}"
            )
        self.set_arguments(locals())

    def call(self, inputs: Tensor) -> Tensor:
        """Reshape."""
        target, sizes = self.target_shape, tuple(inputs.shape)[1:]
        if None not in sizes:  # worked out here: -1 is ambiguous for an empty batch
            size, rest = math.prod(sizes), math.prod([d for d in target if d != -1])
            fits = size == rest if -1 not in target else rest and size % rest == 0
            if not fits:
                raise ValueError(
                    "The total size of the tensor must be unchanged. Received: input_shape="
                    f"{sizes}, target_shape={target}"
                )
            target = [size // rest if d == -1 else d for d in target]
        return ops.reshape(inputs, (ops.shape(inputs)[0], *target))


class Permute(ConfigLayer):
    """Permute the axes of each sample.

    Args:
        dims: the order, counted from 1.

    >>> Permute((2, 1))(np.ones((2, 3, 4), "float32")).shape == (2, 4, 3)
    True
    """

    def __init__(self, dims: Sequence[int], **kwargs: Any):
        dims = tuple(dims)
        if sorted(dims) != list(range(1, len(dims) + 1)):
            raise ValueError(
                "Invalid permutation argument `dims` for Permute Layer. The set of indices in "
                f"`dims` must be consecutive and start from 1. Received dims={dims}"
            )
        self.set_arguments(locals())
        self.input_spec = InputSpec(ndim=len(dims) + 1)

    def call(self, inputs: Tensor) -> Tensor:
        """Transpose."""
        return ops.transpose(inputs, (0, *self.dims))


class RepeatVector(ConfigLayer):
    """Repeat a vector n times, as a sequence.

    Args:
        n: how often.

    >>> RepeatVector(3)(np.ones((2, 4), "float32")).shape == (2, 3, 4)
    True
    """

    def __init__(self, n: int, **kwargs: Any):
        if not isinstance(n, int) or isinstance(n, bool):
            raise TypeError(f"Expected an integer value for `n`, got {type(n)}.")
        if n <= 0:
            raise ValueError(f"Argument `n` should be a positive integer. Received: n={n}")
        self.set_arguments(locals())
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs: Tensor) -> Tensor:
        """Repeat."""
        return ops.repeat(ops.expand_dims(inputs, 1), self.n, axis=1)


class _Spatial(ConfigLayer):
    """A layer with one number, or one pair, for each spatial axis."""

    _rank = 0
    _argument = ""  # the name of those numbers

    def setup(self, **arguments: Any) -> None:
        self.set_arguments(arguments | {self._argument: self._read(arguments[self._argument])})
        self.input_spec = InputSpec(ndim=self._rank + 2)

    def _read(self, value: Any) -> Any:
        """Pairs (before, after): from one number, one an axis, or as they are."""
        if self._rank == 1:
            return to_sizes(value, 2, self._argument, 0)
        values = (value,) * self._rank if isinstance(value, int) else tuple(value)
        if len(values) != self._rank:
            raise ValueError(f"`{self._argument}` should have {self._rank} elements, got {value}.")
        return tuple(to_sizes(v, 2, self._argument, 0) for v in values)

    def _numbers(self) -> tuple:
        """The numbers by axis, None for the batch and the channels."""
        numbers = getattr(self, self._argument)
        numbers = (numbers,) if self._rank == 1 else numbers
        first = getattr(self, "data_format", "") == "channels_first"
        return (None, None, *numbers) if first else (None, *numbers, None)


class _ZeroPadding(_Spatial):
    _argument = "padding"

    def call(self, inputs: Tensor) -> Tensor:
        """Pad."""
        return ops.pad(inputs, tuple(pair or (0, 0) for pair in self._numbers()))

    def known_dims(self, dims: tuple) -> tuple | None:
        """The sizes of the output by arithmetic."""
        if type(self).call is not _ZeroPadding.call or len(dims) != self._rank + 2:
            return None
        return lengthened_dims(dims, [sum(pair or (0, 0)) for pair in self._numbers()])


class _Cropping(_Spatial):
    _argument = "cropping"

    def call(self, inputs: Tensor) -> Tensor:
        """Cut."""
        slices = []
        for size, pair in zip(inputs.shape, self._numbers(), strict=True):
            before, after = pair or (0, 0)
            if size is not None and pair and before + after >= size:
                raise ValueError(
                    "Values in `cropping` argument should be smaller than the corresponding "
                    "spatial dimension of the input. Received: "
                    f"inputs.shape={tuple(inputs.shape)}, cropping={self.cropping}"
                )
            slices.append(slice(before or None, -after or None))
        return inputs[tuple(slices)]

    def known_dims(self, dims: tuple) -> tuple | None:
        """The sizes of the output by arithmetic."""
        if type(self).call is not _Cropping.call or len(dims) != self._rank + 2:
            return None
        return lengthened_dims(dims, [-sum(pair or (0, 0)) for pair in self._numbers()])


def _repeat(x: Any, counts: list[int]) -> Any:
    """Repeat the entries of each axis, all of them in one copy."""
    sizes = ops.shape(x)
    repeated = [axis for axis, count in enumerate(counts) if count > 1]
    x = ops.expand_dims(x, [axis + i for i, axis in enumerate(repeated, 1)])
    pairs = [
        (size, count) if count > 1 else (size,) for size, count in zip(sizes, counts, strict=True)
    ]
    x = ops.broadcast_to(x, [n for pair in pairs for n in pair])
    return ops.reshape(x, [size * count for size, count in zip(sizes, counts, strict=True)])


class _UpSampling(_Spatial):
    _argument = "size"

    def _read(self, value: Any) -> Any:
        if self._rank > 1:
            return to_sizes(value, self._rank, "size")
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"Expected an integer value for `size`, got {type(value)}.")
        return to_sizes(value, 1, "size")[0]

    def call(self, inputs: Tensor) -> Tensor:
        """Enlarge."""
        interpolation, numbers = getattr(self, "interpolation", "nearest").lower(), self._numbers()
        if interpolation == "nearest":
            return _repeat(inputs, [number or 1 for number in numbers])
        spatial = tuple(i for i, number in enumerate(numbers) if number is not None)
        full = ops.shape(inputs)
        size = tuple(full[i] * numbers[i] for i in spatial)
        return ops.image.resize(
            inputs, size, interpolation=interpolation, data_format=self.data_format
        )


_MEANING = {
    "padding": "zeros before and after each axis: one number, or pairs.",
    "cropping": "sizes to cut before and after each axis: one number, or pairs.",
    "size": "the factor, or one an axis.",
    "data_format": '"channels_last" or "channels_first"; the configured one by default.',
    "interpolation": '"nearest", or another one of `ops.image.resize`, such as "bilinear".',
}


def _family(base: type, pattern: str, text: str, defaults: tuple, size: int) -> list[type]:
    """Return the classes of a layer in one, two and three dimensions."""
    classes = []
    for rank, default in enumerate(defaults, 1):
        parameters: dict[str, Any] = {base._argument: default, "data_format": None}
        if rank == 1 and base is not _ZeroPadding:
            del parameters["data_format"]
        if rank == 2 and base is _UpSampling:
            parameters["interpolation"] = "nearest"
        lines = "\n".join(f"        {name}: {_MEANING[name]}" for name in parameters)
        shape, out = (", ".join(["1", *[str(n)] * rank, "3"]) for n in (4, size))
        argument = "2" if base is _UpSampling else "1" if rank > 1 else "(1, 1)"
        name = pattern.format(rank)
        doc = f"""{text.format(rank=rank)}

    Input shape (batch, {"space, " * rank}channels), likewise the output shape.

    Args:
{lines}

    >>> {name}({argument})(np.ones(({shape}), "float32")).shape == ({out})
    True
    """
        classes.append(declare(base, name, doc, {**parameters, "**kwargs": None}, _rank=rank))
    return classes


_ONES = ((1, 1),) * 3
ZeroPadding1D, ZeroPadding2D, ZeroPadding3D = _family(
    _ZeroPadding, "ZeroPadding{}D", "Zeros around {rank}D data.", (1, (1, 1), _ONES), 6
)
Cropping1D, Cropping2D, Cropping3D = _family(
    _Cropping, "Cropping{}D", "{rank}D data without its margins.",
    ((1, 1), ((0, 0), (0, 0)), _ONES), 2,
)  # fmt: skip
UpSampling1D, UpSampling2D, UpSampling3D = _family(
    _UpSampling, "UpSampling{}D", "{rank}D data enlarged by whole factors.",
    (2, (2, 2), (2, 2, 2)), 8,
)  # fmt: skip
