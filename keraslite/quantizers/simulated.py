"""Floats rounded as if they were kept in integers, with gradients for training."""

from typing import Any

from keraslite import ops


def fake_quant_with_min_max_vars(
    inputs: Any,
    min_vals: Any,
    max_vals: Any,
    num_bits: int = 8,
    narrow_range: bool = False,
    axis: int | None = None,
) -> Any:
    """Round numbers to those that integers of `num_bits` bits stand for in a range.

    The range is moved a little, so that zero is one of them. Gradients pass inside the range, and
    go to its bounds outside of it, so that these can be trained.

    Source: Jacob et al., 2018, https://arxiv.org/abs/1712.05877

    Args:
        inputs: a float tensor.
        min_vals: the lower bound of the range, a scalar, or (channels,) with an axis.
        max_vals: the upper bound, likewise.
        num_bits: the bits of the integers.
        narrow_range: whether the lowest integer is left out.
        axis: the axis of the channels; None for one range.

    Returns:
        A tensor like `inputs`.

    >>> print(fake_quant_with_min_max_vars([0.1, 0.24, 2.0], 0.0, 1.0, num_bits=2).round(3))
    [0.    0.333 1.   ]
    """
    lowest, largest = int(narrow_range), 2 ** int(num_bits) - 1
    x, low, high = map(ops.convert_to_tensor, (inputs, min_vals, max_vals))
    rank = len(x.shape)
    shape = [1] * rank
    if axis is not None:
        shape[axis] = -1

    def rounded(x: Any, low: Any, high: Any) -> tuple:
        wide, low_shape, high_shape = ops.cast(x, "float32"), low.shape, high.shape
        low, high = (ops.reshape(ops.cast(v, "float32"), shape) for v in (low, high))
        nothing = ops.logical_and(ops.equal(low, 0.0), ops.equal(high, 0.0))
        width = ops.where(nothing, 1.0, high - low)
        scale, inverse = width / (largest - lowest), (largest - lowest) / width
        zero = ops.round(ops.clip(lowest - low / scale, lowest, largest))
        low, high = (lowest - zero) * scale, (largest - zero) * scale
        steps = (ops.clip(wide, low, high) - low) * inverse
        out = ops.floor(steps - ops.floor(0.5 - low * inverse) + 0.5) * scale
        out = ops.cast(ops.where(nothing, 0.0, out), ops.dtype(x))
        below, above = ops.less(wide, low), ops.greater(wide, high)

        def gradient(upstream: Any) -> tuple:
            def of_bound(outside: Any, size: Any, like: Any) -> Any:
                axes = [i for i in range(rank) if axis is None or i != axis % rank]
                sums = ops.sum(ops.where(outside, upstream, 0.0), axis=axes)
                return ops.cast(ops.reshape(sums, size), ops.dtype(like))

            inside = ops.logical_not(ops.logical_or(below, above))
            return (
                ops.where(inside, upstream, 0.0),
                of_bound(below, low_shape, min_tensor),
                of_bound(above, high_shape, max_tensor),
            )

        return out, gradient

    min_tensor, max_tensor = low, high
    return ops.custom_gradient(rounded)(x, low, high)
