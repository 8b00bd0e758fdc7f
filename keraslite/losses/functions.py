"""Losses as functions: `y_true` and `y_pred` of shape (batch, ..., d) give one loss a sample.

The result has shape (batch, ...): the last axis is averaged or summed away. Targets take the dtype
of the predictions; labels of classes may be integers of any kind.
"""

import warnings
from typing import Any

from keraslite import config, dtypes, masking, ops
from keraslite.losses.loss import one_backend, pair, tensor
from keraslite.typing import Axis, Tensor


def mean_squared_error(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Mean of `(y_true - y_pred) ** 2`.

    >>> mean_squared_error([[0.0, 2.0]], [[0.0, 0.0]]).tolist()
    [2.0]
    """
    y_true, y_pred = pair(y_true, y_pred)
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


def mean_absolute_error(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Mean of `|y_true - y_pred|`."""
    y_true, y_pred = pair(y_true, y_pred)
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


def mean_absolute_percentage_error(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Mean of `100 * |y_true - y_pred| / |y_true|`."""
    y_true, y_pred = pair(y_true, y_pred)
    size = ops.maximum(ops.abs(y_true), config.epsilon())
    return 100.0 * ops.mean(ops.abs((y_true - y_pred) / size), axis=-1)


def mean_squared_logarithmic_error(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Mean of `(log(y_true + 1) - log(y_pred + 1)) ** 2`."""
    y_true, y_pred = pair(y_true, y_pred)
    first, second = (ops.log(ops.maximum(y, config.epsilon()) + 1.0) for y in (y_pred, y_true))
    return ops.mean(ops.square(first - second), axis=-1)


def cosine_similarity(y_true: Tensor, y_pred: Tensor, axis: int = -1) -> Tensor:
    """The negative cosine between targets and predictions: -1 where they point the same way."""
    y_true, y_pred = pair(y_true, y_pred)
    return -ops.sum(ops.normalize(y_true, axis=axis) * ops.normalize(y_pred, axis=axis), axis=axis)


def huber(y_true: Tensor, y_pred: Tensor, delta: float = 1.0) -> Tensor:
    """Half the squared error where it is below `delta`, linear beyond."""
    y_true, y_pred = pair(y_true, y_pred)
    error = y_pred - y_true
    size = ops.abs(error)
    curve = ops.where(size <= delta, 0.5 * ops.square(error), delta * size - 0.5 * delta**2)
    return ops.mean(curve, axis=-1)


def log_cosh(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Mean of `log(cosh(y_pred - y_true))`."""
    y_true, y_pred = pair(y_true, y_pred)
    error = y_pred - y_true
    return ops.mean(error + ops.softplus(error * -2.0) - 0.6931471805599453, axis=-1)


def kl_divergence(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of predicted distributions from the true ones."""
    y_true, y_pred = (ops.clip(y, config.epsilon(), 1.0) for y in pair(y_true, y_pred))
    return ops.sum(y_true * ops.log(y_true / y_pred), axis=-1)


def poisson(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Mean of `y_pred - y_true * log(y_pred)`."""
    y_true, y_pred = pair(y_true, y_pred)
    return ops.mean(y_pred - y_true * ops.log(y_pred + config.epsilon()), axis=-1)


def _signs(y_true: Any) -> Any:
    """Targets of -1 and 1; a batch of zeros and ones is converted."""
    binary = ops.all(ops.logical_or(ops.equal(y_true, 0), ops.equal(y_true, 1)))
    return ops.where(binary, 2.0 * y_true - 1.0, y_true)


def hinge(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Mean of `max(1 - y_true * y_pred, 0)`, targets -1 and 1 (or 0 and 1)."""
    y_true, y_pred = pair(y_true, y_pred)
    return ops.mean(ops.maximum(1.0 - _signs(y_true) * y_pred, 0.0), axis=-1)


def squared_hinge(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Mean of `max(1 - y_true * y_pred, 0) ** 2`, targets -1 and 1 (or 0 and 1)."""
    y_true, y_pred = pair(y_true, y_pred)
    return ops.mean(ops.square(ops.maximum(1.0 - _signs(y_true) * y_pred, 0.0)), axis=-1)


def categorical_hinge(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """`max(best wrong - right + 1, 0)` of one-hot targets."""
    y_true, y_pred = pair(y_true, y_pred)
    right = ops.sum(y_true * y_pred, axis=-1)
    wrong = ops.max((1.0 - y_true) * y_pred, axis=-1)
    return ops.maximum(wrong - right + 1.0, 0.0)


def binary_crossentropy(
    y_true: Tensor,
    y_pred: Tensor,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Cross-entropy of independent yes-or-no targets, averaged over `axis`.

    Args:
        y_true: zeros and ones.
        y_pred: probabilities, or logits with `from_logits`.
        from_logits: what the predictions are.
        label_smoothing: how far targets are drawn towards one half, from 0 to 1.
        axis: what is averaged.
    """
    y_true, y_pred = pair(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    return ops.mean(ops.binary_crossentropy(y_true, y_pred, from_logits=from_logits), axis=axis)


def binary_focal_crossentropy(
    y_true: Tensor,
    y_pred: Tensor,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Binary focal cross-entropy, which weighs hard samples more.

    Args:
        y_true: zeros and ones.
        y_pred: probabilities, or logits with `from_logits`.
        apply_class_balancing: whether classes are weighed by `alpha` and `1 - alpha`.
        alpha: the weight of class 1.
        gamma: how much easy samples are discounted.
        from_logits: what the predictions are.
        label_smoothing: how far targets are drawn towards one half.
        axis: what is averaged.
    """
    y_true, y_pred = pair(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        y_pred = ops.sigmoid(y_pred)
    likely = y_true * y_pred + (1.0 - y_true) * (1.0 - y_pred)
    losses = ops.power(1.0 - likely, gamma) * ops.binary_crossentropy(y_true, y_pred)
    if apply_class_balancing:
        losses = (y_true * alpha + (1.0 - y_true) * (1.0 - alpha)) * losses
    return ops.mean(losses, axis=axis)


def _one_hot_targets(y_true: Any, y_pred: Any, label_smoothing: float, axis: Any) -> tuple:
    if isinstance(axis, bool):
        raise ValueError(f"`axis` must be of type `int`. Received: axis={axis} of type bool")
    y_true, y_pred = pair(y_true, y_pred)
    if y_pred.shape[-1] == 1:
        warnings.warn(
            "Categorical crossentropy expects y_pred.shape to be (batch_size, num_classes) with "
            f"num_classes > 1. Received: y_pred.shape={tuple(y_pred.shape)}. "
            "Consider using 'binary_crossentropy' if you only have 2 classes.",
            SyntaxWarning,
            stacklevel=3,
        )
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + label_smoothing / y_true.shape[-1]
    return y_true, y_pred


def categorical_crossentropy(
    y_true: Tensor,
    y_pred: Tensor,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Cross-entropy of one-hot targets.

    Args:
        y_true: distributions over classes along `axis`.
        y_pred: likewise, or logits with `from_logits`.
        from_logits: what the predictions are.
        label_smoothing: how far targets are drawn towards the uniform distribution.
        axis: the axis of classes.
    """
    y_true, y_pred = _one_hot_targets(y_true, y_pred, label_smoothing, axis)
    return ops.categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)


def categorical_focal_crossentropy(
    y_true: Tensor,
    y_pred: Tensor,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Categorical focal cross-entropy, which weighs hard samples more.

    Args:
        y_true: distributions over classes along `axis`.
        y_pred: likewise, or logits with `from_logits`.
        alpha: the weight of the loss, or of each class.
        gamma: how much easy samples are discounted.
        from_logits: what the predictions are.
        label_smoothing: how far targets are drawn towards the uniform distribution.
        axis: the axis of classes.
    """
    y_true, y_pred = _one_hot_targets(y_true, y_pred, label_smoothing, axis)
    if from_logits:
        y_pred = ops.softmax(y_pred, axis=axis)
    y_pred = y_pred / ops.sum(y_pred, axis=axis, keepdims=True)
    y_pred = ops.clip(y_pred, config.epsilon(), 1.0 - config.epsilon())
    weight = ops.multiply(ops.power(1.0 - y_pred, gamma), alpha)
    return ops.sum(weight * -y_true * ops.log(y_pred), axis=axis)


def sparse_categorical_crossentropy(
    y_true: Tensor,
    y_pred: Tensor,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Tensor:
    """Cross-entropy of integer class labels.

    Args:
        y_true: labels, shape (batch, ...) or (batch, ..., 1).
        y_pred: distributions, shape (batch, ..., classes), or logits with `from_logits`.
        from_logits: what the predictions are.
        ignore_class: a label whose samples do not count.
        axis: the axis of classes.
    """
    backend = one_backend(y_pred, y_true)
    y_true, y_pred = tensor(y_true, backend), tensor(y_pred, backend)
    if dtypes.is_float(ops.dtype(y_true)):
        y_true = ops.cast(y_true, "int32")
    if len(y_true.shape) == len(y_pred.shape) and y_true.shape[axis] == 1:
        y_true = ops.squeeze(y_true, axis=axis)
    if ignore_class is None:
        return ops.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=from_logits, axis=axis
        )
    valid = ops.not_equal(y_true, ignore_class)
    y_true = ops.where(valid, y_true, ops.zeros_like(y_true))
    y_pred = ops.where(ops.expand_dims(valid, axis), y_pred, ops.zeros_like(y_pred))
    losses = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)
    losses = ops.where(valid, losses, ops.zeros_like(losses))
    masking.set_mask(losses, valid)  # a reduction then counts the valid samples alone
    return losses


def categorical_generalized_cross_entropy(y_true: Tensor, y_pred: Tensor, q: float) -> Tensor:
    """`(1 - p ** q) / q` of the probability p of the true class: robust to wrong labels.

    Args:
        y_true: integer labels, shape (batch, ...).
        y_pred: distributions, shape (batch, ..., classes).
        q: between 0 (cross-entropy) and 1 (absolute error).
    """
    if not 0 < q < 1:
        raise ValueError(f"q must be in the interval (0, 1), got {q}.")
    backend = one_backend(y_pred, y_true)
    y_pred = tensor(y_pred, backend)
    labels = tensor(y_true, backend, "int32")
    if len(labels.shape) == len(y_pred.shape) and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    true = ops.one_hot(labels, y_pred.shape[-1], dtype=ops.dtype(y_pred))
    return (1.0 - ops.power(ops.sum(y_pred * true, axis=-1), q)) / q


def dice(y_true: Tensor, y_pred: Tensor, axis: Axis = None) -> Tensor:
    """The dice loss: one minus twice the overlap over the sum of the sizes.

    Args:
        y_true: a mask.
        y_pred: a predicted mask.
        axis: what is summed; everything if None.
    """
    y_true, y_pred = pair(y_true, y_pred)
    overlap = ops.sum(y_true * y_pred, axis=axis)
    sizes = ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis)
    return 1.0 - 2.0 * overlap / (sizes + config.epsilon())


def tversky(
    y_true: Tensor, y_pred: Tensor, alpha: float = 0.5, beta: float = 0.5, axis: Axis = None
) -> Tensor:
    """The dice loss with false positives weighed by `alpha` and false negatives by `beta`.

    Args:
        y_true: a mask.
        y_pred: a predicted mask.
        alpha: the weight of what is in the target alone.
        beta: the weight of what is in the prediction alone.
        axis: what is summed; everything if None.
    """
    y_true, y_pred = pair(y_true, y_pred)
    overlap = ops.sum(y_true * y_pred, axis=axis)
    missed = ops.sum((1.0 - y_pred) * y_true, axis=axis)
    invented = ops.sum(y_pred * (1.0 - y_true), axis=axis)
    return 1.0 - overlap / (overlap + missed * alpha + invented * beta + config.epsilon())


def ctc(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Connectionist temporal classification: sequences of labels without their places in time.

    Args:
        y_true: labels, shape (batch, labels); 0 is the blank, and fills short rows up.
        y_pred: logits, shape (batch, frames, classes).
    """
    backend = one_backend(y_pred, y_true)
    y_true, y_pred = tensor(y_true, backend, "int32"), tensor(y_pred, backend)
    if len(y_true.shape) != 2 or len(y_pred.shape) != 3:
        raise ValueError(
            "ctc: y_true must have shape (batch, labels) and y_pred (batch, frames, classes), got "
            f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}."
        )
    lengths = ops.sum(ops.cast(ops.not_equal(y_true, 0), "int32"), axis=-1)
    frames = ops.full_like(lengths, 1) * ops.shape(y_pred)[1]
    return ops.ctc_loss(y_true, y_pred, lengths, frames, mask_index=0)


def circle(
    y_true: Tensor,
    y_pred: Tensor,
    ref_labels: Tensor = None,
    ref_embeddings: Tensor = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> Tensor:
    """Circle loss, which draws embeddings of a class together (Sun et al., 2020).

    Args:
        y_true: class numbers, shape (batch,) or (batch, 1).
        y_pred: embeddings of length one, shape (batch, d).
        ref_labels: class numbers of the references; `y_true` if None.
        ref_embeddings: the references that embeddings are compared with; `y_pred` if None.
        remove_diagonal: whether an embedding is not compared with itself.
        gamma: how much similarities are scaled.
        margin: how much similarities are relaxed.
    """
    backend = one_backend(y_pred, y_true)
    y_pred, labels = tensor(y_pred, backend), ops.reshape(tensor(y_true, backend, "int32"), (-1, 1))
    others = y_pred if ref_embeddings is None else tensor(ref_embeddings, backend)
    other_labels = labels if ref_labels is None else tensor(ref_labels, backend, "int32")
    distances = ops.maximum(1.0 - ops.matmul(y_pred, ops.transpose(others)), 0.0)
    same = ops.equal(labels, ops.reshape(other_labels, (1, -1)))
    different = ops.logical_not(same)
    if remove_diagonal:
        rows, columns = (ops.arange(n) for n in ops.shape(distances))
        elsewhere = ops.not_equal(ops.expand_dims(rows, 1), ops.expand_dims(columns, 0))
        same = ops.logical_and(same, elsewhere)
    far = (margin + distances) * (margin - distances) * -gamma
    near = ops.maximum(1.0 + margin - distances, 0.0) * (1.0 - margin - distances) * gamma
    never = ops.full_like(distances, float("-inf"))
    positive = ops.logsumexp(ops.where(same, far, never), axis=1)
    negative = ops.logsumexp(ops.where(different, near, never), axis=1)
    losses = ops.softplus(positive + negative)
    masking.set_mask(losses, losses > 0)  # a reduction counts the embeddings that have both
    return losses
