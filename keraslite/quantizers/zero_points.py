"""Integers of few bits with a scale and a zero point for each channel, or for groups in it."""

from typing import Any

import numpy as np

from keraslite import ops


def affine_parameters(
    weights: np.ndarray,
    bits: int,
    symmetric: bool = False,
    per_channel: bool = True,
    group_size: int = -1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scales and zero points of integers 0 to `2**bits - 1`.

    Zero is among the numbers that they stand for, and so a zero point is one of the integers.

    Args:
        weights: floats (outputs, inputs).
        bits: the bits of the integers.
        symmetric: whether zero is in their middle.
        per_channel: whether each output has a scale, and not all together one.
        group_size: how many inputs share a scale; -1 for all.

    Returns:
        The scales, float32, and the zero points, uint8, both (outputs, groups).

    >>> scale, zero = affine_parameters(np.array([[-1.0, 2.0]], "float32"), bits=2)
    >>> scale.tolist(), zero.tolist()
    ([[1.0]], [[1]])
    """
    outputs, inputs = weights.shape
    if per_channel and 0 < group_size < inputs:
        padded = np.pad(weights, ((0, 0), (0, -inputs % group_size)))
        rows = padded.reshape(outputs, -1, group_size)
    else:
        rows = weights.reshape(outputs if per_channel else 1, 1, -1)
    low, high = np.minimum(rows.min(-1), 0), rows.max(-1)
    if symmetric:
        high = np.maximum(-low, high)
        low = -high
    nothing = low == high
    low, high = np.where(nothing, low - 1, low), np.where(nothing, high + 1, high)
    scale = (high - low) / np.float32(2**bits - 1)
    zero = np.full_like(scale, 2 ** (bits - 1)) if symmetric else np.round(-low / scale)
    shape = (outputs, scale.shape[-1])
    return np.broadcast_to(scale, shape), np.broadcast_to(zero, shape).astype("uint8")


def affine_quantize(
    weights: np.ndarray, scale: np.ndarray, zero: np.ndarray, bits: int
) -> np.ndarray:
    """Return integers, as floats, for which `(integers - zero) * scale` is about `weights`.

    Args:
        weights: floats (outputs, inputs).
        scale: of each weight, in a shape that broadcasts with them.
        zero: the zero point of each weight, likewise.
        bits: the bits of the integers.

    >>> affine_quantize(np.array([[-1.0, 1.9]]), np.array([[1.0]]), np.array([[1]]), 2).tolist()
    [[0.0, 3.0]]
    """
    return np.clip(np.round(weights / scale + zero), 0, 2**bits - 1)


def affine_weights(values: Any, scale: Any, zero: Any, groups: Any) -> Any:
    """Return the floats that integers stand for.

    Args:
        values: integers (outputs, inputs).
        scale: floats (outputs, groups).
        zero: integers (outputs, groups).
        groups: the group of each input, (inputs,).

    >>> affine_weights([[0, 3]], np.array([[1.0]], "float32"), [[1]], [0, 0]).tolist()
    [[-1.0, 2.0]]
    """
    dtype = ops.dtype(scale)
    if ops.shape(scale)[-1] > 1:
        groups = ops.cast(groups, "int32")
        scale, zero = ops.take(scale, groups, axis=-1), ops.take(zero, groups, axis=-1)
    return ops.multiply(ops.subtract(ops.cast(values, dtype), ops.cast(zero, dtype)), scale)
