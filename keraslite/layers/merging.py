"""Layers of several inputs, and the functions that make and call one at once."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

from keraslite import masking, ops
from keraslite.declare import REQUIRED, declare
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.base.known_dims import broadcast_dims, joined_dims
from keraslite.layers.base.masks import follows_masks
from keraslite.typing import Tensor


class _Merge(ConfigLayer):
    """Inputs of shapes that broadcast, joined elementwise."""

    _count: int | None = None  # how many inputs there must be

    def setup(self, **arguments: Any) -> None:
        self.set_arguments(arguments)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Check the shapes."""
        self._listed(input_shape)
        sizes = {s[0] for s in input_shape if s} - {None}
        if len(sizes) > 1:
            raise ValueError(
                "Cannot merge tensors with different batch sizes. Received tensors with shapes "
                f"{input_shape}"
            )
        longest = max(len(s) for s in input_shape)
        for i in range(1, longest):
            have = {s[-i] for s in input_shape if len(s) > i} - {None, 1}
            if len(have) > 1:
                raise ValueError(f"Inputs have incompatible shapes. Received shapes {input_shape}")

    def _listed(self, shapes: Any) -> None:
        nested = isinstance(shapes, list | tuple) and all(
            isinstance(s, list | tuple) for s in shapes
        )
        if not nested or not shapes:
            raise ValueError(
                f"A {type(self).__name__} layer should be called on a list of at least 1 input. "
                f"Received: input_shape={shapes}"
            )
        if self._count is not None and len(shapes) != self._count:
            raise ValueError(
                f"A {type(self).__name__} layer should be called on exactly {self._count} inputs. "
                f"Received: input_shape={shapes}"
            )

    def call(self, inputs: Tensor) -> Tensor:
        """Join the inputs."""
        rank = max(len(x.shape) for x in inputs)
        masks = [masking.get_mask(x) for x in inputs]
        # A smaller input lines up at the end, its batch axis stays the first.
        for i, x in enumerate(inputs):
            if len(x.shape) < rank:
                full = ops.shape(x)
                shape = (full[0], *(1,) * (rank - len(full)), *full[1:])
                inputs = [*inputs[:i], ops.reshape(x, shape), *inputs[i + 1 :]]
        return self._join(list(inputs), masks)

    def merged_dims(self, shapes: list[tuple]) -> tuple | None:
        """The sizes of the output by arithmetic."""
        return broadcast_dims(shapes) if type(self).call is _Merge.call else None

    def _join(self, inputs: list, masks: list) -> Any:
        return reduce(self._operation, inputs)

    @follows_masks
    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        """What counts in any of the inputs, if all of them have masks."""
        if mask is None:
            return None
        for name, value in (("inputs", inputs), ("mask", mask)):
            if not isinstance(value, list | tuple):
                raise ValueError(f"`{name}` must be a list of tensors, got {value!r}.")
        if len(inputs) != len(mask):
            raise ValueError(
                f"`mask` must have an entry for each of the {len(inputs)} inputs, got {len(mask)}."
            )
        if any(m is None for m in mask):
            return None
        return reduce(ops.logical_or, mask)


class _Average(_Merge):
    def _join(self, inputs: list, masks: list) -> Any:
        return reduce(ops.add, inputs) / len(inputs)


def _wide(mask: Any, x: Any) -> Any:
    """A mask of steps as one of values."""
    return None if mask is None else ops.broadcast_to(ops.expand_dims(mask, -1), ops.shape(x))


class _Multiply(_Merge):
    """Masked steps count as ones; where all inputs are masked the product is zero."""

    def _join(self, inputs: list, masks: list) -> Any:
        if all(m is None for m in masks):
            return reduce(ops.multiply, inputs)
        wide = [_wide(m, x) for m, x in zip(masks, inputs, strict=True)]
        out = reduce(
            ops.multiply,
            [x if m is None else ops.where(m, x, 1) for m, x in zip(wide, inputs, strict=True)],
        )
        if any(m is None for m in masks):
            return out
        return ops.where(reduce(ops.logical_or, wide), out, 0)


class _Extremum(_Merge):
    """A masked step takes the value of what it is compared with."""

    def _join(self, inputs: list, masks: list) -> Any:
        if all(m is None for m in masks):
            return reduce(self._operation, inputs)
        out, valid = inputs[0], _wide(masks[0], inputs[0])
        for x, mask in zip(inputs[1:], masks[1:], strict=True):
            mask = _wide(mask, x)
            x = x if mask is None else ops.where(mask, x, out)
            out = out if valid is None else ops.where(valid, out, x)
            valid = None if mask is None or valid is None else ops.logical_or(valid, mask)
            out = self._operation(out, x)
        return out


def _merge(base: type, name: str, text: str, example: str, operation: Any = None) -> Any:
    doc = f"""{text}

    Inputs are a list of tensors of shapes that broadcast.

    >>> ops.convert_to_numpy({name}()([np.array([4.0]), np.array([2.0])])).tolist()
    {example}
    """
    count = 2 if name == "Subtract" else None
    extra = {"_operation": staticmethod(operation), "_count": count}
    cls = declare(base, name, doc, {"**kwargs": REQUIRED}, **extra)

    def function(inputs: Sequence[Any], **kwargs: Any) -> Any:
        return cls(**kwargs)(inputs)

    function.__name__ = function.__qualname__ = name.lower()
    function.__doc__ = f"Make and call a `{name}` layer."
    return cls, function


Add, add = _merge(_Merge, "Add", "The sum of the inputs.", "[6.0]", ops.add)
Subtract, subtract = _merge(
    _Merge, "Subtract", "The difference of two inputs.", "[2.0]", ops.subtract
)
Multiply, multiply = _merge(
    _Multiply, "Multiply", "The product of the inputs.", "[8.0]", ops.multiply
)
Average, average = _merge(_Average, "Average", "The mean of the inputs.", "[3.0]")
Maximum, maximum = _merge(_Extremum, "Maximum", "The largest of the inputs.", "[4.0]", ops.maximum)
Minimum, minimum = _merge(_Extremum, "Minimum", "The smallest of the inputs.", "[2.0]", ops.minimum)


class Concatenate(_Merge):
    """The inputs behind one another along an axis.

    Args:
        axis: the axis.

    >>> Concatenate()([np.ones((2, 3)), np.ones((2, 4))]).shape == (2, 7)
    True
    """

    def __init__(self, axis: int = -1, **kwargs: Any):
        self.set_arguments(locals())
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Check the shapes."""
        self._listed(input_shape)
        rest = []
        for shape in input_shape:
            axis = self.axis % len(shape) if shape else 0
            rest.append([d for i, d in enumerate(shape) if i != axis])
        same = len({len(r) for r in rest}) == 1 and all(
            len(set(sizes) - {None}) < 2 for sizes in zip(*rest, strict=True)
        )
        if not same:
            raise ValueError(
                "A `Concatenate` layer requires inputs with matching shapes except for the "
                f"concatenation axis. Received: input_shape={input_shape}"
            )

    def call(self, inputs: Tensor) -> Tensor:
        """Concatenate."""
        return ops.concatenate(list(inputs), axis=self.axis)

    def merged_dims(self, shapes: list[tuple]) -> tuple | None:
        """The sizes of the output by arithmetic."""
        return joined_dims(shapes, self.axis) if type(self).call is Concatenate.call else None

    @follows_masks
    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        """The masks behind one another; inputs without one count throughout."""
        if mask is None or all(m is None for m in mask):
            return None
        masks = []
        for x, m in zip(inputs, mask, strict=True):
            if m is None:
                m = ops.ones_like(x, dtype="bool")
            elif len(m.shape) < len(x.shape):
                m = ops.broadcast_to(ops.expand_dims(m, -1), ops.shape(x))
            masks.append(m)
        return ops.any(ops.concatenate(masks, axis=self.axis), axis=-1)


class Dot(_Merge):
    """The inner products of two inputs along an axis of each, sample by sample.

    Args:
        axes: the axis, or one for each input; not the batch axis.
        normalize: whether the inputs are scaled to norm 1 first, which gives cosines.

    >>> Dot(axes=(1, 2))([np.ones((2, 3, 5)), np.ones((2, 7, 3))]).shape == (2, 5, 7)
    True
    """

    _count = 2

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs: Any):
        if not isinstance(axes, int | list | tuple):
            raise TypeError(f"`axes` should be an int or two of them. Received: axes={axes}")
        if not isinstance(axes, int) and (
            len(axes) != 2 or not all(isinstance(a, int) for a in axes)
        ):
            raise ValueError(f"`axes` should be an int or two of them. Received: axes={axes}")
        self.set_arguments(locals())
        self.supports_masking = True

    def _axes(self, shapes: Sequence[Any]) -> tuple[int, int]:
        axes = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        return tuple(a % len(s) for a, s in zip(axes, shapes, strict=True))

    def build(self, input_shape: Any) -> None:
        """Check the shapes."""
        self._listed(input_shape)
        axes = self._axes(input_shape)
        have = [s[a] for s, a in zip(input_shape, axes, strict=True)]
        if 0 in axes or len(set(have) - {None}) > 1:
            raise ValueError(
                f"Incompatible input shapes: axes {axes} have sizes {have}, and must be equal and "
                f"not the batch axis. Full input shapes: {input_shape}"
            )

    def call(self, inputs: Tensor) -> Tensor:
        """Multiply."""
        axes = self._axes([x.shape for x in inputs])
        if self.normalize:
            inputs = [ops.normalize(x, axis=a) for x, a in zip(inputs, axes, strict=True)]
        letters = iter("bcdefghijklmnopqrstuvwxyz")
        first, second = (["a", *[next(letters) for _ in x.shape[1:]]] for x in inputs)
        second[axes[1]] = first[axes[0]]
        output = [c for c in (*first, *second[1:]) if c != first[axes[0]]]
        out = ops.einsum(f"{''.join(first)},{''.join(second)}->{''.join(output)}", *inputs)
        return ops.expand_dims(out, -1) if len(output) == 1 else out

    @follows_masks
    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> None:
        """None."""
        return None


def concatenate(inputs: Sequence[Any], axis: int = -1, **kwargs: Any) -> Any:
    """Make and call a `Concatenate` layer."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: Sequence[Any], axes: Any = -1, **kwargs: Any) -> Any:
    """Make and call a `Dot` layer."""
    return Dot(axes=axes, **kwargs)(inputs)
