"""Loss, and how the losses of samples become one number: weights, masks, reductions."""

from typing import Any

from keraslite import backend as backends
from keraslite import config, dtype_policies, dtypes, masking, ops, tree
from keraslite.backend import OF
from keraslite.naming import auto_name, to_snake_case
from keraslite.ops.promotion import choose_backend
from keraslite.typing import DType, Tensor

REDUCTIONS = (None, "none", "sum", "sum_over_batch_size", "mean", "mean_with_sample_weight")


def one_backend(*values: Any) -> str:
    """The backend of the tensors among some values (literals and variables may be among them)."""
    names = {OF.get(type(v)) or backends.of(getattr(v, "_kl_value", v)) for v in values} - {None}
    return choose_backend("A loss or metric", names)


def tensor(x: Tensor, backend: str, dtype: str | None = None) -> Any:
    """A value as a tensor of a backend, cast to a dtype if one is given."""
    if OF.get(type(x)) is None:
        x = getattr(x, "_kl_value", x)
    if backend == "symbolic":
        return x if dtype is None else ops.cast(x, dtype)
    module = backends.load(backend)
    if OF.get(type(x)) == backend:
        return x if dtype in (None, module.dtype_of(x)) else module.cast(x, module.canonical(dtype))
    return module.convert(x, None if dtype is None else module.canonical(dtype))


def is_structure(x: Tensor) -> bool:
    """Whether a value is a structure of tensors; a list of numbers is a tensor to be."""
    if isinstance(x, dict):
        return True
    return isinstance(x, list | tuple) and any(hasattr(y, "shape") or is_structure(y) for y in x)


def pair(y_true: Tensor, y_pred: Tensor) -> tuple[Any, Any]:
    """Return targets and predictions as tensors of one backend, dtype and shape.

    A last axis of size one is added or dropped where the ranks differ by one.

    Args:
        y_true: targets, cast to the dtype of the predictions.
        y_pred: predictions.

    Raises:
        ValueError: the shapes differ; NumPy's rules would broadcast one silently.
    """
    backend = one_backend(y_pred, y_true)
    y_pred = tensor(y_pred, backend)
    y_true, y_pred = squeeze_or_expand_to_same_rank(
        tensor(y_true, backend, ops.dtype(y_pred)), y_pred
    )
    if not same_shape(y_true, y_pred):
        raise ValueError(
            f"The targets must have the shape of the predictions, expected {tuple(y_pred.shape)}, "
            f"got {tuple(y_true.shape)}."
        )
    return y_true, y_pred


def same_shape(x: Any, y: Any) -> bool:
    """Whether two tensors have one shape; scalars fit any, unknown sizes any other."""
    first, second = x.shape, y.shape
    if first == second:
        return True
    if not len(first) or not len(second):
        return True
    if len(first) != len(second):
        return False
    return all(a == b or a is None or b is None for a, b in zip(first, second))


def with_rank(weights: Any, rank: int) -> Any:
    """Return weights of the leading axes with axes of size one behind them.

    Args:
        weights: a tensor; scalars stay as they are.
        rank: the number of axes.
    """
    shape = tuple(weights.shape)
    if not shape or len(shape) == rank:
        return weights
    for _ in range(rank, len(shape)):
        if weights.shape[-1] != 1:
            return weights
        weights = ops.squeeze(weights, axis=-1)
    for _ in range(len(shape), rank):
        weights = ops.expand_dims(weights, -1)
    return weights


def fit_weights(weights: Any, values: Any) -> Any:
    """Return weights that multiply values row by row, whatever axes come behind the rows.

    Weights of shape (batch,) are those of rows, (batch, steps) those of steps: NumPy's rules would
    lay a vector of rows along the last axis.

    Args:
        weights: weights of the leading axes of the values, of all axes, or a scalar.
        values: losses or the like, shape (batch, ...).

    Raises:
        ValueError: the weights do not fit; the error shows both shapes.
    """
    want = tuple(values.shape)
    if not want:
        return weights
    fitted = with_rank(weights, len(want))
    shape = tuple(fitted.shape)
    if shape and (
        len(shape) != len(want)
        or not all(w == v or w == 1 or None in (w, v) for w, v in zip(shape, want))
    ):
        raise ValueError(
            f"The weights must have the leading axes of the values, shape {want} or "
            f"{want[:1]}, got {tuple(weights.shape)}."
        )
    return fitted


def squeeze_or_expand_to_same_rank(x1: Any, x2: Any, expand_rank_1: bool = True) -> tuple[Any, Any]:
    """Match two ranks that differ by one, by a last axis of size one.

    Args:
        x1: a tensor.
        x2: a tensor.
        expand_rank_1: whether a vector gets the axis; otherwise the other tensor loses it.
    """
    rank1, rank2 = len(x1.shape), len(x2.shape)
    if rank1 == rank2 + 1 and x1.shape[-1] == 1:
        if rank2 == 1 and expand_rank_1:
            x2 = ops.expand_dims(x2, axis=-1)
        else:
            x1 = ops.squeeze(x1, axis=-1)
    elif rank2 == rank1 + 1 and x2.shape[-1] == 1:
        if rank1 == 1 and expand_rank_1:
            x1 = ops.expand_dims(x1, axis=-1)
        else:
            x2 = ops.squeeze(x2, axis=-1)
    return x1, x2


def standardize_reduction(reduction: str | None) -> str | None:
    """The reduction, if there is such a one."""
    if reduction not in REDUCTIONS:
        raise ValueError(
            "Invalid value for argument `reduction`. "
            f"Expected one of {REDUCTIONS}. Received: reduction={reduction}"
        )
    return reduction


def _size(x: Any) -> Any:
    """The number of elements: an int, or a scalar where a graph does not know it yet."""
    size: Any = 1
    for d in ops.shape(x):
        size = size * d
    return size


def reduce_values(
    values: Tensor, sample_weight: Tensor = None, reduction: str | None = "sum_over_batch_size"
) -> Any:
    """Reduce weighted losses; an empty batch gives zero."""
    shape = tuple(values.shape)
    if reduction in (None, "none") or shape in ((), (0,)):
        return values
    if reduction == "sum":
        return ops.sum(values)
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        return ops.divide_no_nan(ops.sum(values), ops.sum(sample_weight))
    if None not in shape and 0 not in shape:
        return ops.mean(values)
    total = ops.sum(values)
    return ops.divide_no_nan(total, ops.cast(_size(values), ops.dtype(total)))


def apply_mask(sample_weight: Tensor, mask: Tensor, dtype: str, reduction: str | None) -> Any:
    """Set sample weights to zero where the mask is zero.

    For means over the batch the other weights grow, so that only valid entries are counted.
    """
    if mask is None:
        return sample_weight
    weight = ops.cast(mask, dtype)
    if reduction in ("mean", "sum_over_batch_size"):
        valid = ops.sum(weight)
        weight = weight * ops.divide_no_nan(ops.cast(_size(mask), ops.dtype(valid)), valid)
    if sample_weight is None:
        return weight
    sample_weight = ops.cast(sample_weight, dtype)
    if len(sample_weight.shape) > len(weight.shape):
        return sample_weight * fit_weights(weight, sample_weight)
    return fit_weights(sample_weight, weight) * weight


def reduce_weighted_values(
    values: Tensor,
    sample_weight: Tensor = None,
    mask: Tensor = None,
    reduction: str | None = "sum_over_batch_size",
    dtype: DType | None = None,
) -> Any:
    """Weigh the losses of samples, mask them and reduce.

    Args:
        values: losses, shape (batch, ...).
        sample_weight: weights of rows, shape (batch,), or of more leading axes.
        mask: what counts, True or 1; of the shape of the values, or of their leading axes.
        reduction: one of `REDUCTIONS`.
        dtype: the dtype to compute in; that of the values if None.
    """
    backend = one_backend(values, sample_weight)
    values = tensor(values, backend, dtype and dtypes.standardize(dtype))
    if sample_weight is not None or mask is not None:
        dtype = ops.dtype(values)
        if sample_weight is not None:
            sample_weight = tensor(sample_weight, backend, dtype)
        sample_weight = apply_mask(sample_weight, mask, dtype, reduction)
        values, sample_weight = squeeze_or_expand_to_same_rank(values, sample_weight)
        sample_weight = fit_weights(sample_weight, values)
        values = values * sample_weight
        if reduction == "mean_with_sample_weight" and len(sample_weight.shape):  # all count
            sample_weight = ops.broadcast_to(sample_weight, ops.shape(values))
    return reduce_values(values, sample_weight, standardize_reduction(reduction))


class Loss:
    """The base of losses. Subclasses write `call(y_true, y_pred)`, one loss a sample.

    Args:
        name: a name; made from the class's where it is None.
        reduction: "sum_over_batch_size" (or "mean"), "sum", "mean_with_sample_weight", "none".
        dtype: the dtype to compute in; floatx if None.

    >>> class Distance(Loss):
    ...     def call(self, y_true, y_pred):
    ...         return ops.abs(y_true - y_pred)
    >>> float(Distance()([1.0, 2.0], [1.0, 4.0], sample_weight=[1.0, 0.5]))
    0.5
    """

    _casts_targets = True  # whether targets are brought to the dtype before `call` sees them

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        self.name = name or auto_name(to_snake_case(type(self).__name__))
        self.reduction = standardize_reduction(reduction)
        self._dtype = dtype_policies.get(dtype or config.floatx()).compute_dtype

    @property
    def dtype(self) -> str:
        """The dtype that it computes in."""
        return self._dtype

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The reduced loss.

        Args:
            y_true: targets, a tensor or a nested structure.
            y_pred: predictions, likewise.
            sample_weight: weights of samples, shape (batch,) or of the losses' shape.
        """
        mask = masking.get_mask(y_pred)
        if is_structure(y_pred) or is_structure(y_true):
            backend = one_backend(*tree.flatten(y_pred), *tree.flatten(y_true))
            y_pred, y_true = (
                tree.map_structure(lambda x: tensor(x, backend, self._dtype), y)
                for y in (y_pred, y_true)
            )
        else:
            backend = one_backend(y_pred, y_true)
            y_pred = tensor(y_pred, backend, self._dtype)
            y_true = tensor(y_true, backend, self._dtype if self._casts_targets else None)
        losses = self.call(y_true, y_pred)
        out_mask = masking.get_mask(losses)
        if mask is not None and out_mask is not None:
            mask = ops.logical_and(mask, out_mask)
        elif mask is None:
            mask = out_mask
        return reduce_weighted_values(losses, sample_weight, mask, self.reduction, self._dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The losses of samples, shape (batch, ...)."""
        raise NotImplementedError(f"{type(self).__name__} must implement call(y_true, y_pred).")

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it; Keras writes no dtype, so neither does the default."""
        dtype_entry = {} if self._dtype == config.floatx() else {"dtype": self._dtype}
        return {"name": self.name, "reduction": self.reduction} | dtype_entry

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Loss":
        """The loss of a config."""
        return cls(**config)
