"""Codes of classes, and how far predictions are from them."""

import math
from typing import Any

import numpy as np

from keraslite import config
from keraslite.ops import math as m
from keraslite.ops import numpy as k
from keraslite.ops.activation import log_softmax, softplus
from keraslite.ops.core import cast, shape
from keraslite.ops.op import op
from keraslite.ops.precision import from_float32, to_float32
from keraslite.typing import DType, Tensor

SPARSE_ONE_HOT: list[Any] = []  # `ops.sparse` puts it here


def _dense_only(name: str, sparse: bool) -> None:
    if sparse:
        raise NotImplementedError(f"ops.{name} makes dense tensors only: leave sparse=False.")


@op("same")
def one_hot(
    x: Tensor, num_classes: int, axis: int = -1, dtype: DType | None = None, sparse: bool = False
) -> Tensor:
    """One-hot vectors of indices along a new axis; zeros for an index out of range.

    With `sparse` it is a sparse tensor of the framework; numpy has none.

    >>> print(convert_to_numpy(one_hot([2, 0], 3)))
    [[0. 0. 1.]
     [1. 0. 0.]]
    """
    if sparse:
        return SPARSE_ONE_HOT[0](x, num_classes, axis, dtype)
    if num_classes < 0:
        raise ValueError(f"num_classes must not be negative, got {num_classes}")
    return _one_hot(x, num_classes, axis, dtype)


@op("same")
def _one_hot(x: Any, num_classes: int, axis: int, dtype: Any) -> Any:
    """`one_hot` as a dense tensor."""
    place = axis % (len(x.shape) + 1)
    classes = np.arange(num_classes, dtype="int32").reshape([-1] + [1] * (len(x.shape) - place))
    return cast(k.equal(k.expand_dims(x, place), classes), dtype or config.floatx())


@op("same")
def multi_hot(
    inputs: Tensor,
    num_classes: int | None = None,
    axis: int = -1,
    dtype: DType | None = None,
    sparse: bool = False,
    **kwargs: Any,
) -> Tensor:
    """A one for each class that occurs among a sample's indices.

    >>> print(convert_to_numpy(multi_hot([[0, 2]], 3)))
    [[1. 0. 1.]]
    """
    _dense_only("multi_hot", sparse)
    num_classes = kwargs.pop("num_tokens", None) if num_classes is None else num_classes
    if num_classes is None or kwargs:
        raise ValueError(f"multi_hot needs num_classes, and knows no {sorted(kwargs)}.")
    codes = one_hot(inputs, num_classes, axis=axis, dtype="bool")
    return cast(k.any(codes, axis=1 if len(inputs.shape) > 1 else 0), dtype or config.floatx())


def _same_shape(target: Any, output: Any) -> None:
    a, b = tuple(target.shape), tuple(output.shape)
    if len(a) != len(b) or any(i != j for i, j in zip(a, b) if None not in (i, j)):
        raise ValueError(f"target and output must have the same shape, got {a} and {b}.")


def _inside(x: Any) -> Any:
    """Probabilities kept epsilon away from 0 and 1."""
    return k.clip(x, config.epsilon(), 1 - config.epsilon())


@op("promote_float", tensors=2)
def binary_crossentropy(target: Tensor, output: Tensor, from_logits: bool = False) -> Tensor:
    """The crossentropy between probabilities (or logits) and targets in [0, 1], elementwise.

    >>> print(convert_to_numpy(binary_crossentropy([1.0, 0.0], [0.5, 0.5])).round(4))
    [0.6931 0.6931]
    """
    _same_shape(target, output)
    target, name = to_float32(target)
    output, _ = to_float32(output)
    if from_logits:
        return from_float32(softplus(output) - target * output, name)
    output = _inside(output)
    return from_float32(-(target * k.log(output) + (1 - target) * k.log(1 - output)), name)


@op("promote_float", tensors=2)
def categorical_crossentropy(
    target: Tensor, output: Tensor, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """The crossentropy along an axis between probabilities (or logits) and target probabilities.

    >>> print(convert_to_numpy(categorical_crossentropy([[0.0, 1.0]], [[0.5, 0.5]])).round(4))
    [0.6931]
    """
    _same_shape(target, output)
    if not len(output.shape):
        raise ValueError("categorical_crossentropy needs a class axis, got scalars.")
    target, name = to_float32(target)
    output, _ = to_float32(output)
    return from_float32(
        -k.sum(target * _log_probabilities(output, from_logits, axis), axis=axis), name
    )


def _log_probabilities(output: Any, from_logits: bool, axis: int) -> Any:
    if from_logits:
        return log_softmax(output, axis)
    return k.log(_inside(output / k.sum(output, axis=axis, keepdims=True)))


@op("promote_float", tensors=2, keep=(0,))
def sparse_categorical_crossentropy(
    target: Tensor, output: Tensor, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """The crossentropy along an axis with class indices as targets; 0 for an index out of range.

    >>> print(convert_to_numpy(sparse_categorical_crossentropy([1], [[0.5, 0.5]])).round(4))
    [0.6931]
    """
    dims = list(output.shape)
    if not dims:
        raise ValueError("sparse_categorical_crossentropy needs a class axis, got a scalar.")
    axis %= len(dims)
    if len(target.shape) == len(dims) and target.shape[axis] == 1:
        target = k.squeeze(target, axis=axis)
    expected, label_dims = [d for i, d in enumerate(dims) if i != axis], list(target.shape)
    pairs = zip(expected, label_dims)
    if len(expected) != len(label_dims) or any(a != b for a, b in pairs if None not in (a, b)):
        raise ValueError(
            f"target must have the shape of output without the class axis {axis}: "
            f"{tuple(expected)}, got {tuple(label_dims)}."
        )
    return _sparse_crossentropy(target, output, from_logits, axis)


@op("same", tensors=2)
def _sparse_crossentropy(target: Any, output: Any, from_logits: bool, axis: int) -> Any:
    """`sparse_categorical_crossentropy` of settled shapes."""
    output, name = to_float32(output)
    target = cast(target, "int32")
    is_class = k.logical_and(target >= 0, target < shape(output)[axis])
    logits = output if from_logits else _log_probabilities(output, False, axis)
    loss = _negative_likelihood(k.where(is_class, target, 0), logits, axis, from_logits)
    return from_float32(k.where(is_class, loss, 0.0), name)


@op("same", tensors=2)
def _negative_likelihood(target: Any, logits: Any, axis: int, normalize: bool) -> Any:
    """Minus the log probability of the target class; `normalize` where logits are not yet logs."""
    picked = k.take_along_axis(logits, k.expand_dims(target, axis), axis=axis)
    picked = k.squeeze(picked, axis=axis)
    return m.logsumexp(logits, axis=axis) - picked if normalize else -picked


@op("promote_float", tensors=2)
def psnr(x1: Tensor, x2: Tensor, max_val: float) -> Tensor:
    """The peak signal to noise ratio in decibels.

    >>> print(round(float(psnr([0.0], [0.1], 1.0)), 3))
    20.0
    """
    _same_shape(x1, x2)
    (x1, name), (x2, _) = to_float32(x1), to_float32(x2)
    error = k.mean(k.square(x1 - x2))
    return from_float32(20 * math.log10(max_val) - 10 / math.log(10) * k.log(error), name)


__all__ = [
    "binary_crossentropy", "categorical_crossentropy", "multi_hot", "one_hot", "psnr",
    "sparse_categorical_crossentropy",
]  # fmt: skip
