"""Metrics as functions: one value a sample. `y_true`, `y_pred` have shape (batch, ..., d)."""

from typing import Any

from keraslite import config, ops
from keraslite.losses import functions as losses
from keraslite.losses.loss import one_backend, pair, tensor
from keraslite.typing import Tensor


def _matches(first: Any, second: Any) -> Any:
    return ops.cast(ops.equal(first, second), config.floatx())


def accuracy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """One where target and prediction are equal.

    >>> accuracy([1, 2], [1, 3]).tolist()
    [1.0, 0.0]
    """
    return _matches(*pair(y_true, y_pred))


def binary_accuracy(y_true: Tensor, y_pred: Tensor, threshold: float = 0.5) -> Tensor:
    """One where a prediction is above the threshold exactly if its target is one."""
    y_true, y_pred = pair(y_true, y_pred)
    return _matches(y_true, ops.cast(ops.greater(y_pred, threshold), ops.dtype(y_true)))


def categorical_accuracy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """One where the likeliest class is the one-hot target's."""
    backend = one_backend(y_pred, y_true)
    best, true = (ops.argmax(tensor(y, backend), axis=-1) for y in (y_pred, y_true))
    return _matches(true, best)


def sparse_categorical_accuracy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """One where the likeliest class is the target.

    Args:
        y_true: labels, shape (batch, ...) or (batch, ..., 1).
        y_pred: scores, shape (batch, ..., classes).
    """
    backend = one_backend(y_pred, y_true)
    y_true, y_pred = tensor(y_true, backend), tensor(y_pred, backend)
    if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1:
        y_true = ops.squeeze(y_true, axis=-1)
    return _matches(ops.cast(y_true, "int32"), ops.cast(ops.argmax(y_pred, axis=-1), "int32"))


def sparse_top_k_categorical_accuracy(
    y_true: Tensor, y_pred: Tensor, k: int = 5, from_sorted_ids: bool = False
) -> Tensor:
    """One where the target is among the k likeliest classes.

    Args:
        y_true: labels, shape (batch, ...).
        y_pred: scores, shape (batch, ..., classes); or class numbers, the likeliest first.
        k: how many classes count.
        from_sorted_ids: whether the predictions are class numbers.
    """
    backend = one_backend(y_pred, y_true)
    y_pred = tensor(y_pred, backend)
    y_true = tensor(y_true, backend, ops.dtype(y_pred) if from_sorted_ids else "int32")
    shape = ops.shape(y_true)
    if len(y_pred.shape) > 2:
        y_pred = ops.reshape(y_pred, (-1, y_pred.shape[-1]))
    labels = ops.reshape(y_true, (-1,)) if len(shape) > 1 else y_true
    if from_sorted_ids:
        is_match = ops.any(ops.equal(ops.expand_dims(labels, 1), y_pred[:, :k]), axis=1)
    else:
        is_match = ops.in_top_k(labels, y_pred, k=k)
    is_match = ops.cast(is_match, config.floatx())
    return ops.reshape(is_match, shape) if len(shape) > 1 else is_match


def top_k_categorical_accuracy(y_true: Tensor, y_pred: Tensor, k: int = 5) -> Tensor:
    """One where the one-hot target's class is among the k likeliest.

    Args:
        y_true: one-hot targets, shape (batch, ..., classes).
        y_pred: scores of the same shape.
        k: how many classes count.
    """
    y_true = tensor(y_true, one_backend(y_pred, y_true))
    return sparse_top_k_categorical_accuracy(ops.argmax(y_true, axis=-1), y_pred, k)


def cosine_similarity(y_true: Tensor, y_pred: Tensor, axis: int = -1) -> Tensor:
    """The cosine between targets and predictions; the loss of this name is its negative."""
    return -losses.cosine_similarity(y_true, y_pred, axis=axis)


def pearson_correlation(y_true: Tensor, y_pred: Tensor, axis: int = -1) -> Tensor:
    """The correlation of targets and predictions along an axis."""
    pairs = pair(y_true, y_pred)
    first, second = (y - ops.mean(y, axis=axis, keepdims=True) for y in pairs)
    first, second = (y / ops.std(y, axis=axis, keepdims=True) for y in (first, second))
    return ops.mean(first * second, axis=axis)


def concordance_correlation(y_true: Tensor, y_pred: Tensor, axis: int = -1) -> Tensor:
    """Compute the concordance correlation of targets and predictions along an axis."""
    y_true, y_pred = pair(y_true, y_pred)
    means = [ops.mean(y, axis=axis, keepdims=True) for y in (y_true, y_pred)]
    spread = sum(ops.var(y, axis=axis, keepdims=True) for y in (y_true, y_pred))
    spread = spread + ops.square(means[0] - means[1])
    together = (y_true - means[1]) * (y_pred - means[1])
    return ops.mean(2 * together / (spread + config.epsilon()), axis=axis)
