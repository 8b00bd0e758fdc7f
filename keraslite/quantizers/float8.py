"""Floats of eight bits, and the scales that they are kept with in training."""

from typing import Any

from keraslite import dtypes, ops


def quantize_and_dequantize(
    inputs: Any, scale: Any, quantized_dtype: str, compute_dtype: str
) -> Any:
    """Round `inputs` to a float8 dtype, and scale them back.

    Args:
        inputs: a float tensor.
        scale: `inputs / scale` is what the narrow dtype holds.
        quantized_dtype: "float8_e4m3fn" or "float8_e5m2".
        compute_dtype: the dtype of the result.

    >>> quantize_and_dequantize([1.0, 1.01], 1.0, "float8_e4m3fn", "float32").tolist()
    [1.0, 1.0]
    """
    _, largest = dtypes.limits(quantized_dtype)
    scale = ops.cast(scale, compute_dtype)
    x = ops.clip(ops.divide(ops.cast(inputs, compute_dtype), scale), -largest, largest)
    return ops.multiply(ops.cast(ops.cast(x, quantized_dtype), compute_dtype), scale)


def compute_float8_scale(amax: Any, scale: Any, dtype_max: Any, margin: int = 0) -> Any:
    """Return the next scale of a float8 tensor: the last one where no value was finite.

    Args:
        amax: the largest absolute value seen.
        scale: the last scale.
        dtype_max: the largest value of the narrow dtype.
        margin: the bits left free above it.

    >>> float(compute_float8_scale(896.0, 1.0, 448.0))
    2.0
    """
    before = ops.reciprocal(scale)
    factor = ops.divide(ops.divide(dtype_max, amax), 2**margin)
    factor = ops.where(ops.greater(amax, 0.0), factor, before)
    return ops.reciprocal(ops.where(ops.isfinite(amax), factor, before))


def compute_float8_amax_history(x: Any, amax_history: Any) -> Any:
    """Add the largest absolute value to a history of them, in the place of the oldest.

    Args:
        x: a tensor.
        amax_history: a vector.

    >>> compute_float8_amax_history([-3.0], [1.0, 2.0]).tolist()
    [3.0, 1.0]
    """
    newest = ops.cast(ops.max(ops.abs(x)), ops.dtype(amax_history))
    rolled = ops.roll(amax_history, shift=-1)
    return ops.scatter_update(rolled, [[0]], ops.reshape(newest, (1,)))
