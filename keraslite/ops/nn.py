"""Neural network ops: activations, losses, normalisations, convolutions, pools, attention.

Half precision inputs are normalised, and put through softmax losses, in float32; the result has
the input's dtype. Spatial ops work on channels-last data; channels_first is a transposition around.
"""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import config, dtypes
from keraslite.backend.windows import transposed_crops
from keraslite.ops import math as m
from keraslite.ops import numpy as k
from keraslite.ops.core import (
    cast,
    convert_to_numpy,  # noqa: F401 - for the examples
    dtype,
    shape,
    stop_gradient,
)
from keraslite.ops.ctc import ctc_decode  # noqa: F401 - a name of this module too
from keraslite.ops.noise import seed_pair
from keraslite.ops.op import op, primitive_only
from keraslite.ops.transforms import checkpoint, scan

_HALF = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def _wide(x: Any) -> tuple[Any, str]:
    """A tensor in at least float32, and the dtype that it had."""
    name = dtype(x)
    return (cast(x, "float32") if name in _HALF else x), name


def _back(x: Any, name: str) -> Any:
    return cast(x, name) if name in _HALF else x


def _in_float32(body: Any) -> Any:
    """A body that computes half precision in float32."""

    @wraps(body)
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        wide, name = _wide(x)
        return _back(body(wide, *args, **kwargs), name)

    return call


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes as sorted positions counted from the front."""
    given = (axis,) if isinstance(axis, int) else axis
    return tuple(sorted(range(ndim)[a] for a in given))  # an IndexError if there is none such


# ---- activations ----


@op("same")
def relu(x: Any) -> Any:
    """The positive part, `max(x, 0)`; its derivative at 0 is 0.

    >>> print(convert_to_numpy(relu([-1.0, 0.0, 2.0])))
    [0. 0. 2.]
    """
    return k.where(x <= 0, 0, x)  # NaN stays NaN, here and below


@op("same")
def relu6(x: Any) -> Any:
    """`min(max(x, 0), 6)`.

    >>> print(convert_to_numpy(relu6([-1.0, 3.0, 8.0])))
    [0. 3. 6.]
    """
    return k.where(x <= 0, 0, k.where(x >= 6, 6, x))


@op("float")
@_in_float32
def sigmoid(x: Any) -> Any:
    """`1 / (1 + exp(-x))`.

    >>> print(convert_to_numpy(sigmoid([0.0])))
    [0.5]
    """
    z = k.exp(-k.absolute(x))  # never overflows
    return k.where(x >= 0, 1 / (1 + z), z / (1 + z))


@op("float")
@_in_float32
def sparse_sigmoid(x: Any) -> Any:
    """0 up to -1, 1 from 1 on, and `(x + 1) / 2` between.

    >>> print(convert_to_numpy(sparse_sigmoid([-2.0, 0.0, 2.0])))
    [0.  0.5 1. ]
    """
    return k.where(x <= -1, 0.0, k.where(x >= 1, 1.0, 0.5 * (x + 1)))


@op("float")
@_in_float32
def softplus(x: Any) -> Any:
    """`log(1 + exp(x))`.

    >>> print(convert_to_numpy(softplus([0.0])).round(4))
    [0.6931]
    """
    return k.where(x > 0, x, 0.0) + k.log1p(k.exp(-k.absolute(x)))


@op("float")
@_in_float32
def softsign(x: Any) -> Any:
    """`x / (1 + |x|)`.

    >>> print(convert_to_numpy(softsign([1.0])))
    [0.5]
    """
    return x / (1 + k.absolute(x))


@op("float")
@_in_float32
def silu(x: Any) -> Any:
    """`x * sigmoid(x)`, also called swish.

    >>> print(convert_to_numpy(silu([0.0, 1.0])).round(4))
    [0.     0.7311]
    """
    return x * sigmoid(x)


swish = silu


@op("float")
@_in_float32
def log_sigmoid(x: Any) -> Any:
    """`log(sigmoid(x))`, computed without loss for large negative x.

    >>> print(convert_to_numpy(log_sigmoid([-100.0])))
    [-100.]
    """
    return -softplus(-x)


@op("float")
@_in_float32
def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """x where positive, `negative_slope * x` elsewhere.

    >>> print(convert_to_numpy(leaky_relu([-1.0, 1.0])))
    [-0.2  1. ]
    """
    return k.where(x > 0, x, negative_slope * x)


@op("float")
@_in_float32
def hard_sigmoid(x: Any) -> Any:
    """`relu6(x + 3) / 6`.

    >>> print(convert_to_numpy(hard_sigmoid([-4.0, 0.0])))
    [0.  0.5]
    """
    return relu6(x + 3) / 6


@op("float")
@_in_float32
def hard_silu(x: Any) -> Any:
    """`x * hard_sigmoid(x)`, also called hard swish.

    >>> print(convert_to_numpy(hard_silu([-4.0, 3.0])))
    [-0.  3.]
    """
    return x * hard_sigmoid(x)


hard_swish = hard_silu


@op("float")
@_in_float32
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where positive, `alpha * (exp(x) - 1)` elsewhere.

    >>> print(convert_to_numpy(elu([-1.0, 1.0])).round(4))
    [-0.6321  1.    ]
    """
    return k.where(x > 0, x, alpha * k.expm1(k.where(x > 0, 0.0, x)))


@op("float")
@_in_float32
def selu(x: Any) -> Any:
    """The scaled exponential linear unit, which keeps mean 0 and variance 1.

    >>> print(convert_to_numpy(selu([1.0])).round(4))
    [1.0507]
    """
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


@op("float")
@_in_float32
def gelu(x: Any, approximate: bool = True) -> Any:
    """x times the normal distribution function of x, exactly or by a tanh.

    >>> print(convert_to_numpy(gelu([1.0], approximate=False)).round(4))
    [0.8413]
    """
    if approximate:
        return 0.5 * x * (1 + k.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + m.erf(x * 0.7071067811865476))


@op("float")
@_in_float32
def celu(x: Any, alpha: float = 1.0) -> Any:
    """`max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))`.

    >>> print(convert_to_numpy(celu([-1.0, 1.0])).round(4))
    [-0.6321  1.    ]
    """
    return k.where(x > 0, x, alpha * k.expm1(k.where(x > 0, 0.0, x) / alpha))


@op("float")
@_in_float32
def glu(x: Any, axis: int = -1) -> Any:
    """One half of x along an axis, gated by the sigmoid of the other.

    >>> print(convert_to_numpy(glu([2.0, 0.0])))
    [1.]
    """
    if (x.shape[axis] or 0) % 2:
        raise ValueError(f"glu needs an even size along axis {axis}, got shape {shape(x)}.")
    value, gate = k.split(x, 2, axis=axis)
    return value * sigmoid(gate)


@op("float")
@_in_float32
def tanh_shrink(x: Any) -> Any:
    """`x - tanh(x)`.

    >>> print(convert_to_numpy(tanh_shrink([1.0])).round(4))
    [0.2384]
    """
    return x - k.tanh(x)


@op("float")
@_in_float32
def hard_tanh(x: Any) -> Any:
    """x clipped to [-1, 1].

    >>> print(convert_to_numpy(hard_tanh([-3.0, 0.5])))
    [-1.   0.5]
    """
    return k.where(x <= -1, -1.0, k.where(x >= 1, 1.0, x))


@op("float")
@_in_float32
def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    """x where `|x| > threshold`, else 0.

    >>> print(convert_to_numpy(hard_shrink([-1.0, 0.2])))
    [-1.  0.]
    """
    return k.where(k.absolute(x) <= threshold, 0.0, x)


@op("float")
@_in_float32
def soft_shrink(x: Any, threshold: float = 0.5) -> Any:
    """x drawn towards 0 by `threshold`, and 0 within it.

    >>> print(convert_to_numpy(soft_shrink([-1.0, 0.2])))
    [-0.5  0. ]
    """
    shrunk = k.where(x > 0, x - threshold, x + threshold)
    return k.where(k.absolute(x) <= threshold, 0.0, shrunk)


@op("float")
@_in_float32
def threshold(x: Any, threshold: float, default_value: float) -> Any:
    """x where it exceeds `threshold`, else `default_value`.

    >>> print(convert_to_numpy(threshold([-1.0, 2.0], 1, 0)))
    [0. 2.]
    """
    return k.where(x <= threshold, default_value, x)


@op("float")
@_in_float32
def squareplus(x: Any, b: float = 4) -> Any:
    """`(x + sqrt(x * x + b)) / 2`, a smooth relu.

    >>> print(convert_to_numpy(squareplus([0.0])))
    [1.]
    """
    return (x + k.sqrt(x * x + b)) / 2


@op("float")
@_in_float32
def sparse_plus(x: Any) -> Any:
    """0 up to -1, x from 1 on, and `(x + 1)**2 / 4` between.

    >>> print(convert_to_numpy(sparse_plus([-1.0, 0.0, 1.0])))
    [0.   0.25 1.  ]
    """
    return k.where(x <= -1, 0.0, k.where(x < 1, 0.25 * (x + 1) * (x + 1), x))


@op("float")
@_in_float32
def softmax(x: Any, axis: int | Sequence[int] | None = -1) -> Any:
    """`exp(x)` scaled to sum to one along an axis (None: over everything).

    >>> print(convert_to_numpy(softmax([0.0, 0.0])))
    [0.5 0.5]
    """
    e = k.exp(x - k.max(x, axis=axis, keepdims=True))
    return e / k.sum(e, axis=axis, keepdims=True)


@op("float")
@_in_float32
def log_softmax(x: Any, axis: int | Sequence[int] | None = -1) -> Any:
    """The logarithm of `softmax`, computed without overflow.

    >>> print(convert_to_numpy(log_softmax([0.0, 0.0])).round(4))
    [-0.6931 -0.6931]
    """
    x = x - k.max(x, axis=axis, keepdims=True)
    return x - k.log(k.sum(k.exp(x), axis=axis, keepdims=True))


@op("float")
@_in_float32
def sparsemax(x: Any, axis: int = -1) -> Any:
    """The projection onto the probability simplex: a softmax with true zeros.

    >>> print(convert_to_numpy(sparsemax([1.0, 0.5, -1.0])))
    [0.75 0.25 0.  ]
    """
    dims = [-1] + [1] * (len(x.shape) - 1 - axis % len(x.shape))
    ranks = _positions(shape(x)[axis], x, 1, dims, dtype(x))
    ordered = k.flip(k.sort(x, axis=axis), axis=axis)
    support = cast(1 + k.multiply(ordered, ranks) > k.cumsum(ordered, axis=axis), dtype(x))
    size = k.sum(support, axis=axis, keepdims=True)
    tau = (k.sum(support * ordered, axis=axis, keepdims=True) - 1) / size
    return relu(x - tau)


# ---- codes of classes ----


SPARSE_ONE_HOT: list[Any] = []  # `ops.sparse` puts it here


def _dense_only(name: str, sparse: bool) -> None:
    if sparse:
        raise NotImplementedError(f"ops.{name} makes dense tensors only: leave sparse=False.")


@op("same")
def one_hot(
    x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Any:
    """A one at each index along a new axis; zeros alone for an index out of range.

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
    inputs: Any,
    num_classes: int | None = None,
    axis: int = -1,
    dtype: Any = None,
    sparse: bool = False,
    **kwargs: Any,
) -> Any:
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


# ---- losses ----


def _same_shape(target: Any, output: Any) -> None:
    a, b = tuple(target.shape), tuple(output.shape)
    if len(a) != len(b) or any(i != j for i, j in zip(a, b) if None not in (i, j)):
        raise ValueError(f"target and output must have the same shape, got {a} and {b}.")


def _inside(x: Any) -> Any:
    """Probabilities kept epsilon away from 0 and 1."""
    return k.clip(x, config.epsilon(), 1 - config.epsilon())


@op("promote_float", tensors=2)
def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    """The crossentropy between probabilities (or logits) and targets in [0, 1], elementwise.

    >>> print(convert_to_numpy(binary_crossentropy([1.0, 0.0], [0.5, 0.5])).round(4))
    [0.6931 0.6931]
    """
    _same_shape(target, output)
    target, name = _wide(target)
    output, _ = _wide(output)
    if from_logits:
        return _back(softplus(output) - target * output, name)
    output = _inside(output)
    return _back(-(target * k.log(output) + (1 - target) * k.log(1 - output)), name)


@op("promote_float", tensors=2)
def categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Any:
    """The crossentropy along an axis between probabilities (or logits) and target probabilities.

    >>> print(convert_to_numpy(categorical_crossentropy([[0.0, 1.0]], [[0.5, 0.5]])).round(4))
    [0.6931]
    """
    _same_shape(target, output)
    if not len(output.shape):
        raise ValueError("categorical_crossentropy needs a class axis, got scalars.")
    target, name = _wide(target)
    output, _ = _wide(output)
    return _back(-k.sum(target * _log_probabilities(output, from_logits, axis), axis=axis), name)


def _log_probabilities(output: Any, from_logits: bool, axis: int) -> Any:
    if from_logits:
        return log_softmax(output, axis)
    return k.log(_inside(output / k.sum(output, axis=axis, keepdims=True)))


@op("promote_float", tensors=2, keep=(0,))
def sparse_categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Any:
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
    rest, given = [d for i, d in enumerate(dims) if i != axis], list(target.shape)
    if len(rest) != len(given) or any(a != b for a, b in zip(rest, given) if None not in (a, b)):
        raise ValueError(
            f"target must have the shape of output without the class axis {axis}: "
            f"{tuple(rest)}, got {tuple(given)}."
        )
    return _sparse_crossentropy(target, output, from_logits, axis)


@op("same", tensors=2)
def _sparse_crossentropy(target: Any, output: Any, from_logits: bool, axis: int) -> Any:
    """`sparse_categorical_crossentropy` of settled shapes."""
    output, name = _wide(output)
    target = cast(target, "int32")
    known = k.logical_and(target >= 0, target < shape(output)[axis])
    logits = output if from_logits else _log_probabilities(output, False, axis)
    loss = _negative_likelihood(k.where(known, target, 0), logits, axis, from_logits)
    return _back(k.where(known, loss, 0.0), name)


@op("same", tensors=2)
def _negative_likelihood(target: Any, logits: Any, axis: int, normalize: bool) -> Any:
    """Minus the log probability of the target class; `normalize` where logits are not yet logs."""
    picked = k.take_along_axis(logits, k.expand_dims(target, axis), axis=axis)
    picked = k.squeeze(picked, axis=axis)
    return m.logsumexp(logits, axis=axis) - picked if normalize else -picked


# ---- normalisations ----


@op("float")
def moments(
    x: Any, axes: int | Sequence[int], keepdims: bool = False, synchronized: bool = False
) -> tuple[Any, Any]:
    """Mean and variance over axes.

    >>> print([float(v) for v in moments([1.0, 3.0], 0)])
    [2.0, 1.0]
    """
    if synchronized:
        raise NotImplementedError("moments cannot synchronise replicas: leave synchronized=False.")
    axes = _axes(axes, len(x.shape))
    x, name = _wide(x)
    mean = k.mean(x, axis=axes, keepdims=True)
    variance = k.mean(k.square(x - mean), axis=axes, keepdims=True)
    if not keepdims:
        mean, variance = k.squeeze(mean, axis=axes), k.squeeze(variance, axis=axes)
    if name == "float16":  # its range is too small for many variances
        mean, variance = k.clip(mean, -65504.0, 65504.0), k.clip(variance, -65504.0, 65504.0)
    return _back(mean, name), _back(variance, name)


def batch_normalization(
    x: Any,
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
    x, name = _wide(x)
    mean, variance, offset, scale = (
        v if v is None else k.reshape(cast(v, dtype(x)), dims)
        for v in (mean, variance, offset, scale)
    )
    factor = m.rsqrt(variance + epsilon)
    factor = factor if scale is None else factor * scale
    shift = -mean * factor if offset is None else offset - mean * factor
    return _back(x * factor + shift, name)


@op("float", tensors=3, keep=(1, 2))
def normalize_batch(
    x: Any, scale: Any = None, offset: Any = None, axis: int = -1, epsilon: float = 1e-3
) -> tuple[Any, Any, Any]:
    """`batch_normalization` by the batch's own moments, in one kernel where the backend has it.

    No gradient flows through the mean and the variance that are returned.

    Returns:
        The normalized x; the mean and the variance, in float32 where x has half precision.

    >>> print(convert_to_numpy(normalize_batch([[1.0], [3.0]])[0])[:, 0].round(3))
    [-1.  1.]
    """
    axis %= len(x.shape)
    if axis == len(x.shape) - 1:
        out = _normalize_batch(x, scale, offset, epsilon)
        if out is not NotImplemented:
            return out
    wide, name = _wide(x)
    mean, variance = moments(wide, [a for a in range(len(x.shape)) if a != axis])
    out = _batch_normalization(wide, mean, variance, offset, scale, axis, epsilon)
    return _back(out, name), stop_gradient(mean), stop_gradient(variance)


@op("same", tensors=3)
def _normalize_batch(x: Any, scale: Any, offset: Any, epsilon: float) -> Any:
    """`normalize_batch` along the last axis, or NotImplemented."""
    return NotImplemented


@op("float", tensors=3, keep=(1, 2))
def normalize_groups(
    x: Any, scale: Any = None, offset: Any = None, groups: int = 32, axis: int = -1,
    epsilon: float = 1e-3,
) -> Any:  # fmt: skip
    """Bring groups of channels of each sample to mean 0 and variance 1, then scale and shift.

    Source: https://arxiv.org/abs/1803.08494

    Args:
        x: a tensor of shape (batch, ..., channels).
        scale: a vector over the channels.
        offset: a vector over the channels.
        groups: how many groups of neighbouring channels there are.
        axis: the channels.
        epsilon: added to the variance.

    >>> print(convert_to_numpy(normalize_groups([[1.0, 3.0, 4.0, 8.0]], groups=2)).round(2))
    [[-1.  1. -1.  1.]]
    """
    axis %= len(x.shape)
    if axis == len(x.shape) - 1:
        out = _normalize_groups(x, scale, offset, groups, epsilon)
        if out is not NotImplemented:
            return out
    full, (wide, name) = shape(x), _wide(x)
    split = k.reshape(wide, (*full[:axis], groups, full[axis] // groups, *full[axis + 1 :]))
    axes = [i for i in range(1, len(full) + 1) if i != axis]
    mean, variance = moments(split, axes, keepdims=True)
    factor = m.rsqrt(variance + epsilon)
    beside = (*(1,) * axis, groups, -1, *(1,) * (len(full) - axis - 1))
    factor = factor if scale is None else factor * k.reshape(cast(scale, dtype(wide)), beside)
    shift = -mean * factor
    if offset is not None:
        shift = shift + k.reshape(cast(offset, dtype(wide)), beside)
    return _back(k.reshape(split * factor + shift, full), name)


@op("same", tensors=3)
def _normalize_groups(x: Any, scale: Any, offset: Any, groups: int, epsilon: float) -> Any:
    """`normalize_groups` along the last axis, or NotImplemented."""
    return NotImplemented


@op("float", tensors=3, keep=(1, 2))
def layer_normalization(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    axis: int | Sequence[int] = -1,
    epsilon: float | None = None,
    **kwargs: Any,
) -> Any:
    """Each sample brought to mean 0 and variance 1 over axes, then scaled and shifted.

    >>> print(convert_to_numpy(layer_normalization([1.0, 3.0])).round(4))
    [-1.  1.]
    """
    centred = not kwargs.pop("rms_scaling", False)
    if kwargs:
        raise TypeError(f"layer_normalization knows no argument {sorted(kwargs)}.")
    axes = _axes(axis, len(x.shape))
    epsilon = config.epsilon() if epsilon is None else epsilon
    x, name = _wide(x)
    deviation = x - k.mean(x, axis=axes, keepdims=True)
    factor = m.rsqrt(k.mean(k.square(deviation), axis=axes, keepdims=True) + epsilon)
    out = (deviation if centred else x) * factor
    return _back(_affine(out, gamma, beta if centred else None, axes), name)


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
    x: Any, scale: Any = None, axis: int | Sequence[int] = -1, epsilon: float | None = None
) -> Any:
    """x divided by its root mean square over axes, then scaled.

    >>> print(convert_to_numpy(rms_normalization([3.0, 3.0])).round(4))
    [1. 1.]
    """
    epsilon = config.epsilon() if epsilon is None else epsilon
    axes = _axes(axis, len(x.shape))
    x, name = _wide(x)
    out = x * m.rsqrt(k.mean(k.square(x), axis=axes, keepdims=True) + epsilon)
    return _back(_affine(out, scale, None, axes), name)


@op("float")
def normalize(
    x: Any, axis: int | Sequence[int] = -1, order: int = 2, epsilon: float | None = None
) -> Any:
    """x divided by its norm along an axis, which counts as at least epsilon.

    >>> print(convert_to_numpy(normalize([3.0, 4.0])).round(4))
    [0.6 0.8]
    """
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"normalize needs a whole order of at least 1, got {order!r}.")
    x, name = _wide(x if len(x.shape) else k.reshape(x, (1,)))
    axis = _axes(axis, len(x.shape))
    epsilon = config.epsilon() if epsilon is None else epsilon
    if order == 2:  # no root before the bound: its gradient at 0 is infinite
        squares = k.sum(k.square(x), axis=axis, keepdims=True)
        return _back(x * m.rsqrt(k.maximum(squares, epsilon * epsilon)), name)
    powers = k.sum(k.absolute(x) ** order, axis=axis, keepdims=True)
    return _back(x / k.maximum(powers, epsilon**order) ** (1 / order), name)


@op("promote_float", tensors=2)
def psnr(x1: Any, x2: Any, max_val: float) -> Any:
    """The peak signal to noise ratio in decibels.

    >>> print(round(float(psnr([0.0], [0.1], 1.0)), 3))
    20.0
    """
    _same_shape(x1, x2)
    (x1, name), (x2, _) = _wide(x1), _wide(x2)
    error = k.mean(k.square(x1 - x2))
    return _back(20 * math.log10(max_val) - 10 / math.log(10) * k.log(error), name)


# ---- products ----


@op("promote", tensors=3)
def linear(x: Any, kernel: Any, bias: Any = None, activation: str | None = None) -> Any:
    """`activation(x @ kernel + bias)`, in one kernel where the backend has it.

    Args:
        x: a tensor of shape (..., inputs).
        kernel: a matrix of shape (inputs, outputs).
        bias: a vector of shape (outputs,).
        activation: None, "relu" or "gelu" (the exact one).

    >>> print(convert_to_numpy(linear([[1.0, 2.0]], [[1.0], [1.0]], [0.5])))
    [[3.5]]
    """
    out = k.matmul(x, kernel)
    out = out if bias is None else out + bias
    return _activate(out, activation)


def _activate(x: Any, activation: str | None) -> Any:
    if activation is None:
        return x
    if activation == "relu":
        return relu(x)
    if activation == "gelu":
        return gelu(x, approximate=False)
    raise ValueError(f"linear fuses None, 'relu' or 'gelu', got {activation!r}.")


# ---- convolutions and pools ----


def _first(data_format: str | None) -> bool:
    """Whether the channels come first."""
    data_format = data_format or config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(f"data_format must be channels_last or channels_first: {data_format!r}.")
    return data_format == "channels_first"


def _to_last(x: Any) -> Any:
    n = len(x.shape)
    return k.transpose(x, (0, *range(2, n), 1))


def _to_first(x: Any) -> Any:
    n = len(x.shape)
    return k.transpose(x, (0, n - 1, *range(1, n - 1)))


def _sizes(value: Any, rank: int, name: str, least: int = 1) -> tuple:
    """One number for all spatial axes, or one for each."""
    values = (value,) * rank if isinstance(value, int) or value is None else tuple(value)
    if len(values) != rank or any(v is not None and v < least for v in values):
        raise ValueError(f"{name} must be an integer >= {least} or {rank} of them, got {value!r}.")
    return values


def _rank(x: Any, name: str) -> int:
    rank = len(x.shape) - 2
    if not 1 <= rank <= 3:
        raise ValueError(f"ops.{name} takes inputs of 3 to 5 dimensions, got {tuple(x.shape)}.")
    return rank


def _padding(padding: Any, rank: int) -> Any:
    """The words in lower case, or (before, after) for each spatial axis."""
    if isinstance(padding, str):
        if padding.lower() not in ("valid", "same"):
            raise ValueError(f"padding must be 'valid', 'same' or pairs, got {padding!r}.")
        return padding.lower()
    pairs = tuple(tuple(int(v) for v in pair) for pair in padding)
    if len(pairs) != rank or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise ValueError(f"padding must be {rank} pairs (before, after), got {padding!r}.")
    return pairs


def _fit(x: Any, window: Sequence, padding: Any, dilation: Sequence) -> None:
    """Refuse windows that are larger than the padded input."""
    if padding == "same":
        return
    pairs = ((0, 0),) * len(window) if padding == "valid" else padding
    for size, w, step, (a, b) in zip(x.shape[1:-1], window, dilation, pairs):
        if size is not None and w is not None and (w - 1) * step + 1 > size + a + b:
            raise ValueError(
                f"Windows of {tuple(window)}, dilated by {tuple(dilation)}, do not fit into the "
                f"input of shape {tuple(x.shape)} (channels last), padded by {padding}."
            )


@op("promote_float", tensors=2)
def conv(
    inputs: Any,
    kernel: Any,
    strides: int | Sequence[int] = 1,
    padding: str | Sequence = "valid",
    data_format: str | None = None,
    dilation_rate: int | Sequence[int] = 1,
) -> Any:
    """The 1D, 2D or 3D convolution; in groups where the kernel has fewer input channels.

    Args:
        inputs: (batch, *spatial, channels).
        kernel: (*spatial, channels / groups, filters).
        strides: one number or one for each spatial axis.
        padding: "valid", "same", or pairs (before, after) for each spatial axis.
        data_format: "channels_last" or "channels_first"; the configured one by default.
        dilation_rate: one number or one for each spatial axis.

    >>> print(convert_to_numpy(conv([[[1.0], [2.0], [3.0]]], [[[1.0]], [[1.0]]]))[0, :, 0])
    [3. 5.]
    """
    rank = _rank(inputs, "conv")
    first = _first(data_format)
    x = _to_last(inputs) if first else inputs
    channels, part = x.shape[-1], kernel.shape[-2]
    if channels % part or kernel.shape[-1] % (channels // part):
        raise ValueError(
            f"A kernel of shape {tuple(kernel.shape)} does not fit {channels} input channels: they "
            "and the filters must be divisible into groups of the kernel's input channels."
        )
    padding, dilation = _padding(padding, rank), _sizes(dilation_rate, rank, "dilation_rate")
    _fit(x, kernel.shape[:-2], padding, dilation)
    out = _conv(x, kernel, _sizes(strides, rank, "strides"), padding, dilation, channels // part)
    return _to_first(out) if first else out


@op("same", tensors=2)
def _conv(x: Any, kernel: Any, strides: tuple, padding: Any, dilation: tuple, groups: int) -> Any:
    """`conv` on channels-last data with settled arguments."""
    return primitive_only("conv")


@op("promote_float", tensors=2)
def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: int | Sequence[int] = 1,
    padding: str | Sequence = "valid",
    data_format: str | None = None,
    dilation_rate: int | Sequence[int] = 1,
) -> Any:
    """A convolution of every channel by itself, with a kernel (*spatial, channels, multiplier).

    >>> print(convert_to_numpy(depthwise_conv([[[1.0, 2.0]]], [[[3.0], [4.0]]])))
    [[[3. 8.]]]
    """
    *spatial, channels, multiplier = kernel.shape
    if inputs.shape[1 if _first(data_format) else -1] != channels:
        raise ValueError(
            f"A depthwise kernel of shape {tuple(kernel.shape)} needs {channels} input channels, "
            f"got inputs of shape {tuple(inputs.shape)}."
        )
    kernel = k.reshape(kernel, (*spatial, 1, channels * multiplier))
    return conv(inputs, kernel, strides, padding, data_format, dilation_rate)


@op("promote_float", tensors=3)
def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: int | Sequence[int] = 1,
    padding: str | Sequence = "valid",
    data_format: str | None = None,
    dilation_rate: int | Sequence[int] = 1,
) -> Any:
    """A depthwise convolution, then one over channels alone.

    >>> print(convert_to_numpy(separable_conv([[[1.0, 2.0]]], [[[3.0], [4.0]]], [[[1.0], [1.0]]])))
    [[[11.]]]
    """
    x = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(x, pointwise_kernel, 1, "valid", data_format)


@op("promote_float", tensors=2)
def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: int | Sequence[int] = 1,
    padding: str = "valid",
    output_padding: int | Sequence[int] | None = None,
    data_format: str | None = None,
    dilation_rate: int | Sequence[int] = 1,
) -> Any:
    """The gradient of a convolution as an upsampling, with a kernel (*spatial, filters, channels).

    With "same" the output is `strides` times as large as the input; with "valid" it holds every
    window. `output_padding` sets the size beyond the smallest one instead.

    >>> print(convert_to_numpy(conv_transpose([[[1.0], [2.0]]], [[[1.0]], [[1.0]]], 2))[0, :, 0])
    [1. 1. 2. 2.]
    """
    rank = _rank(inputs, "conv_transpose")
    first = _first(data_format)
    x = _to_last(inputs) if first else inputs
    if x.shape[-1] != kernel.shape[-1]:
        raise ValueError(
            f"A kernel of shape {tuple(kernel.shape)} (*spatial, filters, channels) does not fit "
            f"{x.shape[-1]} input channels."
        )
    strides, dilation = _sizes(strides, rank, "strides"), _sizes(dilation_rate, rank, "dilation")
    extra = _sizes(output_padding, rank, "output_padding", 0)
    if padding.lower() not in ("valid", "same"):
        raise ValueError(f"padding must be 'valid' or 'same', got {padding!r}.")
    crops = transposed_crops(padding.lower(), kernel.shape[:-2], strides, dilation, extra)
    out = _conv_transpose(x, kernel, strides, crops, dilation)
    return _to_first(out) if first else out


@op("same", tensors=2)
def _conv_transpose(x: Any, kernel: Any, strides: tuple, crops: list, dilation: tuple) -> Any:
    """`conv_transpose` on channels-last data; crops are cut from the full output."""
    return primitive_only("conv_transpose")


def _pool(
    kind: str, inputs: Any, pool_size: Any, strides: Any, padding: Any, data_format: str | None
) -> Any:
    rank = _rank(inputs, kind)
    first = _first(data_format)
    x = _to_last(inputs) if first else inputs
    size = _sizes(pool_size, rank, "pool_size")
    steps = size if strides is None else _sizes(strides, rank, "strides")
    padding = _padding(padding, rank)
    _fit(x, size, padding, (1,) * rank)
    out = _window(x, kind, size, steps, padding)
    return _to_first(out) if first else out


@op("same")
def _window(x: Any, kind: str, size: tuple, strides: tuple, padding: Any) -> Any:
    """`max_pool` and `average_pool` on channels-last data with settled arguments."""
    return primitive_only(kind)


@op("same")
def max_pool(
    inputs: Any,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: str | Sequence = "valid",
    data_format: str | None = None,
) -> Any:
    """The largest value in each window; the arguments are `conv`'s.

    >>> print(convert_to_numpy(max_pool([[[1.0], [2.0], [3.0], [0.0]]], 2))[0, :, 0])
    [2. 3.]
    """
    return _pool("max_pool", inputs, pool_size, strides, padding, data_format)


@op("float")
def average_pool(
    inputs: Any,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: str | Sequence = "valid",
    data_format: str | None = None,
) -> Any:
    """The mean of each window, in which padding does not count; the arguments are `conv`'s.

    >>> print(convert_to_numpy(average_pool([[[1.0], [3.0], [3.0]]], 2, padding="same"))[0, :, 0])
    [2. 3.]
    """
    return _pool("average_pool", inputs, pool_size, strides, padding, data_format)


def _bins(size: int, count: int) -> list[tuple[int, int]]:
    """Where each of `count` adaptive windows over `size` elements begins and ends."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _adaptive(inputs: Any, output_size: Any, data_format: str | None, along: Any) -> Any:
    rank = _rank(inputs, "adaptive pool")
    start = 2 if _first(data_format) else 1
    for axis, count in enumerate(_sizes(output_size, rank, "output_size"), start):
        size = inputs.shape[axis]
        if size is None:
            raise ValueError("Adaptive pooling needs to know the spatial sizes of its input.")
        if size != count:
            inputs = along(inputs, axis, _bins(size, count))
    return inputs


@op("float")
def adaptive_average_pool(
    inputs: Any, output_size: int | Sequence[int], data_format: str | None = None
) -> Any:
    """The means of as many windows as are asked for.

    >>> print(convert_to_numpy(adaptive_average_pool([[[1.0], [3.0], [4.0], [6.0]]], 2))[0, :, 0])
    [2. 5.]
    """

    def along(x: Any, axis: int, bins: list) -> Any:
        weights = np.zeros((len(bins), x.shape[axis]), dtypes.to_numpy(dtype(x)))
        for row, (a, b) in zip(weights, bins, strict=True):
            row[a:b] = 1 / (b - a)
        return k.moveaxis(k.tensordot(x, weights, axes=((axis,), (1,))), -1, axis)

    return _adaptive(inputs, output_size, data_format, along)


@op("same")
def adaptive_max_pool(
    inputs: Any, output_size: int | Sequence[int], data_format: str | None = None
) -> Any:
    """The largest values of as many windows as are asked for.

    >>> print(convert_to_numpy(adaptive_max_pool([[[1.0], [3.0], [4.0], [6.0]]], 2))[0, :, 0])
    [3. 6.]
    """

    def along(x: Any, axis: int, bins: list) -> Any:
        width = max(b - a for a, b in bins)
        places = np.array([[min(a + i, b - 1) for i in range(width)] for a, b in bins], "int32")
        return k.max(k.take(x, places, axis=axis), axis=axis + 1)

    return _adaptive(inputs, output_size, data_format, along)


# ---- attention ----

# Attention logits held at a time: on a CPU what stays in its cache, 16 MiB of float32.
_CHUNK, _ACCELERATED = 2**22, 2**28
_BATCH = 8  # what an unknown batch is taken for


@op("promote_float", tensors=5, keep=(4,))
def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
    dropout_rate: float = 0.0,
    seed: Any = None,
) -> Any:
    """`softmax(query @ key * scale + bias) @ value`, per head.

    Memory is linear in the lengths, with gradients too.

    A row in which everything is masked gives the mean of all values, on every backend (float16 on
    torch apart, whose range is too small: there it is as if nothing were masked).

    Args:
        query: (batch, queries, heads, size).
        key: (batch, keys, heads / groups, size).
        value: (batch, keys, heads / groups, value size).
        bias: added to the logits; broadcasts to (batch, heads, queries, keys).
        mask: what may be attended to; broadcasts likewise.
        scale: 1 / sqrt(size) by default.
        is_causal: whether a query sees only the keys at and before its own position.
        flash_attention: True insists on a fused kernel, False avoids it, None takes the best.
        attn_logits_soft_cap: bounds the logits softly: `cap * tanh(logits / cap)`.
        dropout_rate: the part of the weights that becomes zero; the rest is scaled up.
        seed: of the dropout: an int, a `keras.random.SeedGenerator` or a seed tensor; None draws
            one. Which weights become zero is the same on every backend.

    >>> x = np.ones((1, 2, 1, 4), "float32")
    >>> dot_product_attention(x, x, x).shape == (1, 2, 1, 4)
    True
    """
    _check_attention(query, key, value)
    if not 0 <= dropout_rate < 1:
        raise ValueError(
            f"dot_product_attention takes a dropout_rate from [0, 1), got {dropout_rate}."
        )
    seed = seed_pair(seed) if dropout_rate else None
    fusible = flash_attention is not False and attn_logits_soft_cap is None and not dropout_rate
    out: Any = NotImplemented
    if fusible:
        out = _fused_attention(query, key, value, bias, mask, scale, is_causal)
    if out is not NotImplemented:
        return out
    if flash_attention:
        raise ValueError("There is no fused attention for these arguments: drop flash_attention.")
    dropout = (dropout_rate, seed) if dropout_rate else None
    cap = attn_logits_soft_cap
    return _attention(query, key, value, bias, mask, scale, is_causal, cap, dropout)


@op("same", tensors=5)
def _fused_attention(
    query: Any, key: Any, value: Any, bias: Any, mask: Any, scale: float | None, is_causal: bool
) -> Any:
    """`dot_product_attention` by one kernel of the backend, or NotImplemented."""
    return NotImplemented


def _check_attention(query: Any, key: Any, value: Any) -> None:
    """Refuse shapes that attention cannot take."""
    if not len(query.shape) == len(key.shape) == len(value.shape) == 4:
        raise ValueError(
            "dot_product_attention takes (batch, time, heads, size), got query "
            f"{tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}."
        )
    if key.shape[2] != value.shape[2] or query.shape[2] % key.shape[2]:
        raise ValueError(
            f"{query.shape[2]} query heads do not share {key.shape[2]} key heads and "
            f"{value.shape[2]} value heads evenly."
        )


def _attention(
    query: Any, key: Any, value: Any, bias: Any, mask: Any, scale: Any, causal: bool, cap: Any,
    dropout: Any,
) -> Any:  # fmt: skip
    """Attention by matrix products; many queries in blocks, so that memory is linear in length."""
    batch, length, heads, size = shape(query)
    groups, keys = key.shape[2], shape(key)[1]
    scale = 1 / math.sqrt(size) if scale is None else scale
    # (batch, kv heads, groups * queries, size) against (batch, kv heads, size, keys)
    shared = heads // groups
    k_t, v_t = k.transpose(key, (0, 2, 3, 1)), k.transpose(value, (0, 2, 1, 3))

    def block(q: Any, start: Any, k_t: Any, v_t: Any, bias: Any, mask: Any) -> Any:
        count = shape(q)[1]
        q = k.transpose(q, (0, 2, 1, 3))
        q = k.reshape(q, (batch, groups, shared * count, size)) if shared > 1 else q
        logits = _scores(q, k_t)
        logits = k.reshape(logits, (batch, heads, count, keys)) if shared > 1 else logits
        logits = logits * scale
        if cap is not None:
            logits = cap * k.tanh(logits / cap)
        if bias is not None:
            logits = logits + cast(bias, dtype(logits))
        seen = mask if mask is None else cast(mask, "bool")
        if causal:
            at = k._positions(query, count) + start
            past = k.expand_dims(at, 1) >= k._positions(query, keys)
            seen = past if seen is None else k.logical_and(seen, past)
        if seen is not None:
            logits = k.where(seen, logits, -0.7 * float(np.finfo("float32").max))
        weights = cast(softmax(logits, -1), dtype(value))
        if dropout is not None:
            weights = _dropped(weights, start, (count, batch, heads, keys), *dropout)
        if shared > 1:
            weights = k.reshape(weights, (batch, groups, shared * count, keys))
        out = k.matmul(weights, v_t)
        if shared > 1:
            out = k.reshape(out, (batch, heads, count, value.shape[3]))
        return k.transpose(out, (0, 2, 1, 3))

    static = isinstance(length, int) and isinstance(keys, int)
    rows = batch if isinstance(batch, int) else _BATCH
    held = _ACCELERATED if backends.accelerated(backends.of(query)) else _CHUNK
    step = max(1, held // max(1, rows * heads * keys)) if static else length
    if not static or step >= length:
        return block(query, 0, k_t, v_t, bias, mask)
    return _in_blocks(block, step, query, (k_t, v_t), (bias, mask))


def _dropped(weights: Any, start: Any, sizes: tuple, rate: float, seed: Any) -> Any:
    """Weights (batch, heads, queries, keys) with a part set to zero, by the queries' positions."""
    module = backends.load(backends.of(weights) or backends.backend())
    count, *rest = sizes
    row = math.prod(rest)
    bits = module.random_bits(seed, count * row, 24, start * row)
    kept = k.transpose(k.reshape(bits, sizes), (1, 2, 0, 3)) >= round(rate * 2**24)
    return k.where(kept, weights * (1.0 / (1.0 - rate)), k.zeros_like(weights))


def _in_blocks(block: Callable, step: int, query: Any, whole: tuple, by_row: tuple) -> Any:
    """`block` over `step` queries at a time; gradients compute each again instead of keeping it.

    Args:
        block: a function of (queries, the first one's position, *whole, *by_row).
        step: how many queries at a time, fewer than there are.
        query: (batch, queries, heads, size).
        whole: what each block needs as it is.
        by_row: what may have a row for each query, on the axis before the last; or None.
    """
    length = query.shape[1]
    count, rest = divmod(length, step)
    cut = [x is not None and len(x.shape) >= 2 and x.shape[-2] != 1 for x in by_row]

    def blocks(x: Any, axis: int) -> Any:
        x = x[(slice(None),) * axis + (slice(0, count * step),)] if rest else x
        sizes = shape(x)
        x = k.reshape(x, (*sizes[:axis], count, step, *sizes[axis + 1 :]))
        return k.moveaxis(x, axis, 0)

    def run(q: Any, start: Any, rows: list) -> Any:
        rows = iter(rows)
        chosen = [next(rows) if c else x for x, c in zip(by_row, cut, strict=True)]
        return checkpoint(block)(q, start, *whole, *chosen)

    rows = [x for x, c in zip(by_row, cut, strict=True) if c]
    starts = k._positions(query, count) * step
    xs = (blocks(query, 1), starts, [blocks(x, len(x.shape) - 2) for x in rows])
    _, outs = scan(lambda carry, x: (carry, run(*x)), starts[0], xs)
    outs = k.moveaxis(outs, 0, 1)
    sizes = shape(outs)
    outs = k.reshape(outs, (sizes[0], count * step, *sizes[3:]))
    if rest:
        left = run(query[:, -rest:], count * step, [x[..., -rest:, :] for x in rows])
        outs = k.concatenate([outs, left], axis=1)
    return outs


@op("same", tensors=2)
def _scores(query: Any, key: Any) -> Any:
    """A batched product, in at least float32."""
    return _wide(k.matmul(query, key))[0]


def _positions(
    count: Any, like: Any, start: int = 0, dims: Any = (-1,), name: str = "int32"
) -> Any:
    """start, start + 1 ... as a literal where the count is known, else a tensor like another."""
    if isinstance(count, int):
        return np.arange(start, start + count).reshape(dims).astype(dtypes.to_numpy(name))
    token = backends.enter(backends.of(like))
    try:
        return cast(k.reshape(k.arange(start, start + count, dtype="int32"), dims), name)
    finally:
        backends.leave(token)


# ---- rearrangements ----


def _blocks(x: Any, name: str, block_size: int, data_format: str | None) -> tuple[Any, bool]:
    if block_size < 2 or len(x.shape) != 4:
        raise ValueError(
            f"ops.{name} takes images (4 dimensions) and blocks of at least 2, got a shape of "
            f"{tuple(x.shape)} and {block_size}."
        )
    return (_to_last(x), True) if _first(data_format) else (x, False)


@op("same")
def depth_to_space(x: Any, block_size: int, data_format: str = "channels_last") -> Any:
    """Lay groups of channels out as blocks of pixels.

    >>> depth_to_space(np.zeros((1, 1, 1, 4)), 2).shape == (1, 2, 2, 1)
    True
    """
    x, first = _blocks(x, "depth_to_space", block_size, data_format)
    n, h, w, c = shape(x)
    x = k.reshape(x, (n, h, w, block_size, block_size, c // block_size**2))
    x = k.transpose(x, (0, 1, 3, 2, 4, 5))
    x = k.reshape(x, (n, h * block_size, w * block_size, c // block_size**2))
    return _to_first(x) if first else x


@op("same")
def space_to_depth(x: Any, block_size: int, data_format: str = "channels_last") -> Any:
    """The inverse of `depth_to_space`.

    >>> space_to_depth(np.zeros((1, 2, 2, 1)), 2).shape == (1, 1, 1, 4)
    True
    """
    x, first = _blocks(x, "space_to_depth", block_size, data_format)
    n, h, w, c = shape(x)
    x = k.reshape(x, (n, h // block_size, block_size, w // block_size, block_size, c))
    x = k.transpose(x, (0, 1, 3, 2, 4, 5))
    x = k.reshape(x, (n, h // block_size, w // block_size, c * block_size**2))
    return _to_first(x) if first else x


def _sliding(
    sizes: Sequence, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[tuple, tuple, tuple, tuple]:
    """For `fold` and `unfold`: the window, padding, stride, and where each element of it starts."""
    window, step = _sizes(kernel_size, 2, "kernel_size"), _sizes(dilation, 2, "dilation")
    pad, stride = _sizes(padding, 2, "padding", 0), _sizes(stride, 2, "stride")
    count = tuple(
        (n + 2 * p - (w - 1) * d - 1) // s + 1
        for n, p, w, d, s in zip(sizes, pad, window, step, stride)
    )
    starts = tuple((i * step[0], j * step[1]) for i in range(window[0]) for j in range(window[1]))
    return pad, stride, count, starts


@op("same")
def unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The sliding blocks of channels-first images (N, C, H, W), as (N, C * block, positions).

    >>> unfold(np.zeros((1, 2, 3, 3)), 2).shape == (1, 8, 4)
    True
    """
    if len(x.shape) != 4:
        raise ValueError(f"ops.unfold takes (N, C, H, W), got a shape of {tuple(x.shape)}.")
    n, c, *sizes = shape(x)
    pad, stride, count, starts = _sliding(sizes, kernel_size, dilation, padding, stride)
    x = k.pad(x, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))
    ends = [(m - 1) * s + 1 for m, s in zip(count, stride)]
    taps = [x[:, :, i : i + ends[0] : stride[0], j : j + ends[1] : stride[1]] for i, j in starts]
    return k.reshape(k.stack(taps, axis=2), (n, c * len(starts), count[0] * count[1]))


@op("same")
def fold(
    x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Any:
    """Add sliding blocks (N, C * block, positions) up into images (N, C, H, W).

    >>> fold(np.zeros((1, 8, 4)), 3, 2).shape == (1, 2, 3, 3)
    True
    """
    if len(x.shape) != 3:
        raise ValueError(f"ops.fold takes (N, C * block, L), got a shape of {tuple(x.shape)}.")
    sizes = _sizes(output_size, 2, "output_size")
    pad, stride, count, starts = _sliding(sizes, kernel_size, dilation, padding, stride)
    n, depth, _ = shape(x)
    c, full = depth // len(starts), [size + 2 * p for size, p in zip(sizes, pad)]
    taps = k.reshape(x, (n, c, len(starts), *count))
    # Every tap with stride - 1 zeros behind each element, moved to where it starts.
    spread = k.pad(
        k.reshape(taps, (n, c, len(starts), count[0], 1, count[1], 1)),
        ((0, 0),) * 4 + ((0, stride[0] - 1), (0, 0), (0, stride[1] - 1)),
    )
    spread = k.reshape(spread, (n, c, len(starts), count[0] * stride[0], count[1] * stride[1]))
    out: Any = 0.0
    for index, (i, j) in enumerate(starts):
        tap = spread[:, :, index, : full[0] - i, : full[1] - j]
        after = [max(f - a - m * s, 0) for f, a, m, s in zip(full, (i, j), count, stride)]
        out = out + k.pad(tap, ((0, 0), (0, 0), (i, after[0]), (j, after[1])))
    return out[:, :, pad[0] : full[0] - pad[0], pad[1] : full[1] - pad[1]]


@op("promote_float", tensors=2)
def polar(abs_: Any, angle: Any) -> Any:
    """Complex numbers of given size and angle.

    >>> print(convert_to_numpy(polar([2.0], [0.0])))
    [2.+0.j]
    """
    return k.add(abs_ * k.cos(angle), k.multiply(abs_ * k.sin(angle), 1j))


@op("float", tensors=4, keep=(0, 2, 3))
def ctc_loss(
    target: Any, output: Any, target_length: Any, output_length: Any, mask_index: int = 0
) -> Any:
    """Minus the log probability of label sequences under all their alignments to frames.

    Args:
        target: (batch, labels) of class indices.
        output: (batch, frames, classes) of logits.
        target_length: how many labels of each row count.
        output_length: how many frames of each row count.
        mask_index: the class of the blank.

    >>> ctc_loss([[1]], np.zeros((1, 2, 2), "float32"), [1], [2]).shape == (1,)
    True
    """
    logits, _ = _wide(output)
    logs = log_softmax(logits, -1)
    target, target_length, output_length = (
        cast(v, "int32") for v in (target, target_length, output_length)
    )
    return _ctc(target, logs, target_length, output_length, mask_index)


@op("same", tensors=4)
def _ctc(target: Any, logs: Any, target_length: Any, output_length: Any, blank: int) -> Any:
    """`ctc_loss` of log probabilities: the forward recursion over labels with blanks between."""
    never = -1e30  # finite, so that differences and gradients stay so
    batch, count = shape(target)
    blanks = k.full_like(target, blank)
    states = k.reshape(k.stack([blanks, target], axis=2), (batch, 2 * count))
    states = k.concatenate([states, blanks[:, :1]], axis=1)
    places = np.arange(2 * count + 1, dtype="int32")
    # A label may follow the one before it directly unless they are equal.
    before = k.pad(states[:, :-2], ((0, 0), (2, 0)), constant_values=-1)
    skips = k.logical_and(k.not_equal(states, before), (places % 2 == 1) & (places > 1))
    skips = k.logical_and(skips, k.not_equal(states, blank))
    emitted = k.take_along_axis(logs, k.expand_dims(states, 1), axis=2)

    def shifted(x: Any, by: int) -> Any:
        return k.pad(x, ((0, 0), (by, 0)), constant_values=never)[:, : 2 * count + 1]

    def step(scores: Any, inputs: Any) -> Any:
        now, time = inputs
        skipped = k.where(skips, shifted(scores, 2), never)
        paths = k.logaddexp(k.logaddexp(scores, shifted(scores, 1)), skipped) + now
        return k.where(k.expand_dims(time < output_length, 1), paths, scores), None

    scores = k.where(places < 2, emitted[:, 0], never)
    frames = k.moveaxis(emitted, 1, 0)[1:]
    times = k.add(k.zeros_like(frames[:, 0, 0], dtype="int32"), _positions(len(frames), logs, 1))
    scores, _ = scan(step, scores, (frames, times))
    last = k.expand_dims(2 * target_length, 1)
    end = k.take_along_axis(scores, last, axis=1)
    label = k.take_along_axis(scores, k.maximum(last - 1, 0), axis=1)
    label = k.where(last > 0, label, never)
    return -k.squeeze(k.logaddexp(end, label), axis=1)


__all__ = [
    "adaptive_average_pool", "adaptive_max_pool", "average_pool", "batch_normalization",
    "binary_crossentropy", "categorical_crossentropy", "celu", "conv", "conv_transpose", "ctc_loss",
    "depth_to_space", "depthwise_conv", "dot_product_attention", "elu", "fold", "gelu", "glu",
    "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "layer_normalization",
    "leaky_relu", "linear", "log_sigmoid", "log_softmax", "max_pool", "moments", "multi_hot",
    "normalize", "normalize_batch", "normalize_groups", "one_hot", "polar", "psnr", "relu", "relu6",
    "rms_normalization", "selu", "separable_conv", "sigmoid", "silu", "soft_shrink", "softmax",
    "softplus", "softsign", "space_to_depth", "sparse_categorical_crossentropy", "sparse_plus",
    "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh_shrink", "threshold", "unfold",
]  # fmt: skip
