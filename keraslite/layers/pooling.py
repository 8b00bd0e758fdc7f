"""Pooling layers: windows, global and adaptive ones, of maxima and of means."""

from typing import Any

from keraslite import ops
from keraslite.declare import REQUIRED, declare
from keraslite.layers.base.config_layer import ConfigLayer, to_sizes
from keraslite.layers.base.input_spec import InputSpec
from keraslite.layers.base.known_dims import window_dims
from keraslite.layers.base.masks import follows_masks
from keraslite.typing import Tensor

_MEANING = {
    "pool_size": "the size of the window, one number or one an axis.",
    "strides": "the steps of the window; its size by default.",
    "padding": '"valid", or "same" to fill the last window up.',
    "data_format": '"channels_last" or "channels_first"; the configured one by default.',
    "name": "a name.",
    "keepdims": "whether the pooled axes stay, with size 1.",
    "output_size": "the number of windows, one number or one an axis.",
}


class _Pooling(ConfigLayer):
    """The maximum or the mean of each window."""

    _rank = 0
    _reduction = "max"

    def setup(self, **arguments: Any) -> None:
        size = to_sizes(arguments["pool_size"], self._rank, "pool_size")
        strides = arguments["strides"]
        arguments["pool_size"] = size
        arguments["strides"] = size if strides is None else to_sizes(strides, self._rank, "strides")
        self.set_arguments(arguments)
        self.input_spec = InputSpec(ndim=self._rank + 2)

    def call(self, inputs: Tensor) -> Tensor:
        """Pool."""
        pool = ops.max_pool if self._reduction == "max" else ops.average_pool
        return pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)

    def known_dims(self, dims: tuple) -> tuple | None:
        """The sizes of the output by arithmetic."""
        first = self.data_format == "channels_first"
        sizes = dims[2:] if first else dims[1:-1]
        if type(self).call is not _Pooling.call or len(sizes) != self._rank:
            return None
        out = window_dims(sizes, self.pool_size, self.strides, self.padding)
        if out is None:
            return None
        return (*dims[:2], *out) if first else (dims[0], *out, dims[-1])


class _GlobalPooling(ConfigLayer):
    """The maximum or the mean of all positions."""

    _rank = 0
    _reduction = "max"

    def setup(self, **arguments: Any) -> None:
        self.set_arguments(arguments)
        self.input_spec = InputSpec(ndim=self._rank + 2)

    def call(self, inputs: Tensor) -> Tensor:
        """Pool."""
        start = 1 if self.data_format == "channels_last" else 2
        axes = tuple(range(start, start + self._rank))
        pool = ops.max if self._reduction == "max" else ops.mean
        return pool(inputs, axis=axes, keepdims=self.keepdims)

    def known_dims(self, dims: tuple) -> tuple | None:
        """The sizes of the output by arithmetic."""
        if type(self).call is not _GlobalPooling.call or len(dims) != self._rank + 2:
            return None
        ones = (1,) * self._rank * self.keepdims
        if self.data_format == "channels_first":
            return (*dims[:2], *ones)
        return (dims[0], *ones, dims[-1])


class _MaskedMean(_GlobalPooling):
    """The mean over the steps of a sequence that are not masked."""

    def setup(self, **arguments: Any) -> None:
        super().setup(**arguments)
        self.supports_masking = True

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool.

        Args:
            inputs: a sequence.
            mask: (batch, steps), which steps count.
        """
        if mask is None:
            return super().call(inputs)
        axis = 1 if self.data_format == "channels_last" else 2
        valid = ops.expand_dims(ops.cast(mask, "bool"), 3 - axis)
        total = ops.sum(ops.where(valid, inputs, 0), axis=axis, keepdims=self.keepdims)
        return total / ops.sum(ops.cast(valid, ops.dtype(inputs)), axis, keepdims=self.keepdims)

    @follows_masks
    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> None:
        """None: the output has no steps."""
        return None


class _AdaptivePooling(ConfigLayer):
    """The maximum or the mean of windows whose number is `output_size`."""

    _rank = 0
    _reduction = "max"

    def setup(self, **arguments: Any) -> None:
        arguments["output_size"] = to_sizes(arguments["output_size"], self._rank, "output_size")
        self.set_arguments(arguments)

    def call(self, inputs: Tensor) -> Tensor:
        """Pool."""
        pool = ops.adaptive_max_pool if self._reduction == "max" else ops.adaptive_average_pool
        return pool(inputs, self.output_size, self.data_format)


def _family(base: type, pattern: str, reduction: str, text: str, arguments: dict[str, Any]) -> list:
    """Return the classes of a pooling in one, two and three dimensions."""
    classes = []
    for rank in (1, 2, 3):
        parameters = {
            name: (default,) * rank
            if name == "pool_size" and default == 2 and rank > 1
            else default
            for name, default in arguments.items()
        }
        lines = "\n".join(f"        {name}: {_MEANING[name]}" for name in parameters)
        name = pattern.format(rank)
        required = "2" if REQUIRED in parameters.values() else ""
        shape, windows = ", ".join(["1", *["4"] * rank, "3"]), ["2"] * rank
        out = ", ".join(["1", *([] if base is _GlobalPooling else windows), "3"])
        doc = f"""{text.format(rank=rank)}

    Input shape (batch, {"space, " * rank}channels).

    Args:
{lines}

    >>> {name}({required})(np.ones(({shape}), "float32")).shape == ({out})
    True
    """
        actual = _MaskedMean if name == "GlobalAveragePooling1D" else base
        attributes = {"_rank": rank, "_reduction": reduction}
        classes.append(
            declare(actual, name, doc, {**parameters, "**kwargs": REQUIRED}, **attributes)
        )
    return classes


_WINDOW = {"strides": None, "padding": "valid", "data_format": None, "name": None}
_GLOBAL = {"data_format": None, "keepdims": False}
_ADAPTIVE = {"output_size": REQUIRED, "data_format": None}

MaxPooling1D, MaxPooling2D, MaxPooling3D = _family(
    _Pooling, "MaxPooling{}D", "max", "The maximum of each {rank}D window.",
    {"pool_size": 2, **_WINDOW},
)  # fmt: skip
AveragePooling1D, AveragePooling2D, AveragePooling3D = _family(
    _Pooling, "AveragePooling{}D", "average",
    "The mean of each {rank}D window, in which padding does not count.",
    {"pool_size": REQUIRED, **_WINDOW},
)  # fmt: skip
GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D = _family(
    _GlobalPooling, "GlobalMaxPooling{}D", "max", "The maximum of all {rank}D positions.", _GLOBAL
)
GlobalAveragePooling1D, GlobalAveragePooling2D, GlobalAveragePooling3D = _family(
    _GlobalPooling, "GlobalAveragePooling{}D", "average",
    "The mean of all {rank}D positions; in 1D of those that are not masked.", _GLOBAL,
)  # fmt: skip
AdaptiveMaxPooling1D, AdaptiveMaxPooling2D, AdaptiveMaxPooling3D = _family(
    _AdaptivePooling, "AdaptiveMaxPooling{}D", "max",
    "The maxima of {rank}D windows whose number is `output_size`.", _ADAPTIVE,
)  # fmt: skip
AdaptiveAveragePooling1D, AdaptiveAveragePooling2D, AdaptiveAveragePooling3D = _family(
    _AdaptivePooling, "AdaptiveAveragePooling{}D", "average",
    "The means of {rank}D windows whose number is `output_size`.", _ADAPTIVE,
)  # fmt: skip
