"""Normalisations: by batches, layers, groups, lengths."""

from collections.abc import Sequence
from typing import Any

from keraslite import config
from keraslite.ops import math as m
from keraslite.ops import numpy as k
from keraslite.ops.activation import relu, silu
from keraslite.ops.core import cast, dtype, shape, stop_gradient
from keraslite.ops.op import op
from keraslite.ops.precision import from_float32, to_float32
from keraslite.scopes import scopes
from keraslite.typing import Tensor


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes as sorted positions counted from the front."""
    axes = (axis,) if isinstance(axis, int) else axis
    return tuple(sorted(range(ndim)[a] for a in axes))  # an IndexError if there is none such


@op("float")
def moments(
    x: Tensor, axes: int | Sequence[int], keepdims: bool = False, synchronized: bool = False
) -> tuple[Any, Any]:
    """Mean and variance over axes.

    >>> print([float(v) for v in moments([1.0, 3.0], 0)])
    [2.0, 1.0]
    """
    if synchronized:
        raise NotImplementedError("moments cannot synchronise replicas: leave synchronized=False.")
    axes = _axes(axes, len(x.shape))
    x, name = to_float32(x)
    mean = k.mean(x, axis=axes, keepdims=True)
    variance = k.mean(k.square(x - mean), axis=axes, keepdims=True)
    if not keepdims:
        mean, variance = k.squeeze(mean, axis=axes), k.squeeze(variance, axis=axes)
    if name == "float16":  # its range is too small for many variances
        mean, variance = k.clip(mean, -65504.0, 65504.0), k.clip(variance, -65504.0, 65504.0)
    return from_float32(mean, name), from_float32(variance, name)


def batch_normalization(
    x: Tensor,
    mean: Any,
    variance: Any,
    axis: int,
    offset: Any = None,
    scale: Any = None,
    epsilon: float = 1e-3,
) -> Any:
    """`(x - mean) / sqrt(variance + epsilon) * scale + offset`, along one axis.

    >>> print(convert_to_numpy(batch_normalization([[3.0]], [1.0], [4.0], -1, epsilon=0.0)))
    [[1.]]
    """
    return _batch_normalization(x, mean, variance, offset, scale, axis, epsilon)


@op("float", tensors=5, keep=(1, 2, 3, 4))
def _batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, axis: int, epsilon: float
) -> Any:
    """`batch_normalization` with its tensors in front."""
    dims = [1] * len(x.shape)
    dims[axis] = -1
    x, name = to_float32(x)
    mean, variance, offset, scale = (
        v if v is None else k.reshape(cast(v, dtype(x)), dims)
        for v in (mean, variance, offset, scale)
    )
    factor = m.rsqrt(variance + epsilon)
    factor = factor if scale is None else factor * scale
    shift = -mean * factor if offset is None else offset - mean * factor
    return from_float32(x * factor + shift, name)


@op("float", tensors=4, keep=(1, 2))
def normalize_batch(
    x: Tensor, scale: Tensor = None, offset: Tensor = None, residual: Tensor = None,
    axis: int = -1, epsilon: float = 1e-3, activation: str | None = None,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """`batch_normalization` by the batch's own moments, in one kernel where the backend has it.

    No gradient flows through the mean and the variance that are returned.

    Args:
        x: a tensor of any shape.
        scale: a vector over the channels.
        offset: a vector over the channels.
        residual: what is added to the normalized x, of its shape.
        axis: the channels.
        epsilon: added to the variance.
        activation: None or "relu"; it and the sum then cost no memory of their own where they need
            not.

    Returns:
        The normalized x; the mean and the variance, in float32 where x has half precision.

    Raises:
        ValueError: there is no such activation.

    >>> print(convert_to_numpy(normalize_batch([[1.0], [3.0]])[0])[:, 0].round(3))
    [-1.  1.]
    """
    if activation not in (None, "relu"):
        raise ValueError(f"normalize_batch: activation must be None or 'relu', got {activation!r}.")
    axis %= len(x.shape)
    if axis == len(x.shape) - 1:
        out = _normalize_batch(x, scale, offset, residual, epsilon, activation)
        if out is not NotImplemented:
            return out
    wide, name = to_float32(x)
    mean, variance = moments(wide, [a for a in range(len(x.shape)) if a != axis])
    out = _batch_normalization(wide, mean, variance, offset, scale, axis, epsilon)
    out = from_float32(out, name)
    out = out if residual is None else out + residual
    out = out if activation is None else relu(out)
    return out, stop_gradient(mean), stop_gradient(variance)


@op("same", tensors=4)
def _normalize_batch(
    x: Any, scale: Any, offset: Any, residual: Any, epsilon: float, activation: str | None
) -> Any:
    """`normalize_batch` along the last axis, or NotImplemented."""
    return NotImplemented


@op("float", tensors=3, keep=(1, 2))
def normalize_groups(
    x: Tensor, scale: Tensor = None, offset: Tensor = None, groups: int = 32, axis: int = -1,
    epsilon: float = 1e-3, activation: str | None = None,
) -> Tensor:  # fmt: skip
    """Normalize groups of channels to mean 0 and variance 1, then scale and shift.

    Source: https://arxiv.org/abs/1803.08494

    Args:
        x: a tensor of shape (batch, ..., channels).
        scale: a vector over the channels.
        offset: a vector over the channels.
        groups: how many groups of neighbouring channels there are.
        axis: the channels.
        epsilon: added to the variance.
        activation: None or "silu", which then costs no memory of its own where it need not.

    Raises:
        ValueError: there is no such activation.

    >>> print(convert_to_numpy(normalize_groups([[1.0, 3.0, 4.0, 8.0]], groups=2)).round(2))
    [[-1.  1. -1.  1.]]
    """
    if activation not in (None, "silu"):
        raise ValueError(
            f"normalize_groups: activation must be None or 'silu', got {activation!r}."
        )
    axis %= len(x.shape)
    if axis == len(x.shape) - 1:
        out = _normalize_groups(x, scale, offset, groups, epsilon, activation)
        if out is not NotImplemented:
            return out
    full, (wide, name) = shape(x), to_float32(x)
    split = k.reshape(wide, (*full[:axis], groups, full[axis] // groups, *full[axis + 1 :]))
    axes = [i for i in range(1, len(full) + 1) if i != axis]
    mean, variance = moments(split, axes, keepdims=True)
    factor = m.rsqrt(variance + epsilon)
    beside = (*(1,) * axis, groups, -1, *(1,) * (len(full) - axis - 1))
    factor = factor if scale is None else factor * k.reshape(cast(scale, dtype(wide)), beside)
    shift = -mean * factor
    if offset is not None:
        shift = shift + k.reshape(cast(offset, dtype(wide)), beside)
    out = k.reshape(split * factor + shift, full)
    return from_float32(silu(out) if activation else out, name)


@op("same", tensors=3)
def _normalize_groups(
    x: Any, scale: Any, offset: Any, groups: int, epsilon: float, activation: str | None
) -> Any:
    """`normalize_groups` along the last axis, or NotImplemented."""
    return NotImplemented


@op("float", tensors=3, keep=(1, 2))
def layer_normalization(
    x: Tensor,
    gamma: Tensor = None,
    beta: Tensor = None,
    axis: int | Sequence[int] = -1,
    epsilon: float | None = None,
    **kwargs: Any,
) -> Tensor:
    """Normalize each sample to mean 0 and variance 1 over axes, then scale and shift.

    >>> print(convert_to_numpy(layer_normalization([1.0, 3.0])).round(4))
    [-1.  1.]
    """
    centred = not kwargs.pop("rms_scaling", False)
    if kwargs:
        raise TypeError(f"layer_normalization: unexpected arguments, got {sorted(kwargs)}.")
    axes = _axes(axis, len(x.shape))
    epsilon = config.epsilon() if epsilon is None else epsilon
    x, name = to_float32(x)
    deviation = k.subtract(x, k.mean(x, axis=axes, keepdims=True))
    variance = k.mean(k.square(deviation), axis=axes, keepdims=True) + epsilon
    centre = deviation if centred else x
    if scopes.plain_graph:  # in the form that other programs know, and fuse
        out = k.divide(centre, k.sqrt(variance))
    else:
        out = k.multiply(centre, m.rsqrt(variance))
    return from_float32(_affine(out, gamma, beta if centred else None, axes), name)


def _affine(x: Any, gamma: Any, beta: Any, axes: tuple[int, ...]) -> Any:
    """Scale and shift along axes that gamma and beta have alone."""
    for v, join in ((gamma, k.multiply), (beta, k.add)):
        if v is not None:
            if len(v.shape) != len(x.shape) and axes != (len(x.shape) - 1,):
                v = k.reshape(v, [d if i in axes else 1 for i, d in enumerate(shape(x))])
            x = join(x, cast(v, dtype(x)))
    return x


@op("float", tensors=2, keep=(1,))
def rms_normalization(
    x: Tensor, scale: Tensor = None, axis: int | Sequence[int] = -1, epsilon: float | None = None
) -> Tensor:
    """x divided by its root mean square over axes, then scaled.

    >>> print(convert_to_numpy(rms_normalization([3.0, 3.0])).round(4))
    [1. 1.]
    """
    epsilon = config.epsilon() if epsilon is None else epsilon
    axes = _axes(axis, len(x.shape))
    x, name = to_float32(x)
    out = x * m.rsqrt(k.mean(k.square(x), axis=axes, keepdims=True) + epsilon)
    return from_float32(_affine(out, scale, None, axes), name)


@op("float")
def normalize(
    x: Tensor, axis: int | Sequence[int] = -1, order: int = 2, epsilon: float | None = None
) -> Tensor:
    """x divided by its norm along an axis, which counts as at least epsilon.

    >>> print(convert_to_numpy(normalize([3.0, 4.0])).round(4))
    [0.6 0.8]
    """
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"normalize: order must be an integer >= 1, got {order!r}.")
    x, name = to_float32(x if len(x.shape) else k.reshape(x, (1,)))
    axis = _axes(axis, len(x.shape))
    epsilon = config.epsilon() if epsilon is None else epsilon
    if order == 2:  # no root before the bound: its gradient at 0 is infinite
        squares = k.sum(k.square(x), axis=axis, keepdims=True)
        return from_float32(x * m.rsqrt(k.maximum(squares, epsilon * epsilon)), name)
    powers = k.sum(k.absolute(x) ** order, axis=axis, keepdims=True)
    return from_float32(x / k.maximum(powers, epsilon**order) ** (1 / order), name)


__all__ = [
    "batch_normalization", "layer_normalization", "moments", "normalize", "normalize_batch",
    "normalize_groups", "rms_normalization",
]  # fmt: skip
