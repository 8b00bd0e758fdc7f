"""Activations, and the dense layer's product that ends in one."""

from collections.abc import Sequence
from typing import Any

from keraslite.ops import math as m
from keraslite.ops import numpy as k
from keraslite.ops.common import positions
from keraslite.ops.core import cast, dtype, shape
from keraslite.ops.op import op
from keraslite.ops.precision import in_float32
from keraslite.typing import Tensor


@op("number")
def relu(x: Tensor) -> Tensor:
    """The positive part, `max(x, 0)`; its derivative at 0 is 0.

    >>> print(convert_to_numpy(relu([-1.0, 0.0, 2.0])))
    [0. 0. 2.]
    """
    return k.where(x <= 0, 0, x)  # NaN stays NaN, here and below


@op("float")
def relu6(x: Tensor) -> Tensor:
    """`min(max(x, 0), 6)`.

    >>> print(convert_to_numpy(relu6([-1.0, 3.0, 8.0])))
    [0. 3. 6.]
    """
    return k.where(x <= 0, 0, k.where(x >= 6, 6, x))


@op("float")
@in_float32
def sigmoid(x: Tensor) -> Tensor:
    """`1 / (1 + exp(-x))`.

    >>> print(convert_to_numpy(sigmoid([0.0])))
    [0.5]
    """
    z = k.exp(-k.absolute(x))  # never overflows
    return k.where(x >= 0, 1 / (1 + z), z / (1 + z))


@op("float")
@in_float32
def sparse_sigmoid(x: Tensor) -> Tensor:
    """0 up to -1, 1 from 1 on, and `(x + 1) / 2` between.

    >>> print(convert_to_numpy(sparse_sigmoid([-2.0, 0.0, 2.0])))
    [0.  0.5 1. ]
    """
    return k.where(x <= -1, 0.0, k.where(x >= 1, 1.0, 0.5 * (x + 1)))


@op("float")
@in_float32
def softplus(x: Tensor) -> Tensor:
    """`log(1 + exp(x))`.

    >>> print(convert_to_numpy(softplus([0.0])).round(4))
    [0.6931]
    """
    return k.where(x > 0, x, 0.0) + k.log1p(k.exp(-k.absolute(x)))


@op("float")
@in_float32
def softsign(x: Tensor) -> Tensor:
    """`x / (1 + |x|)`.

    >>> print(convert_to_numpy(softsign([1.0])))
    [0.5]
    """
    return x / (1 + k.absolute(x))


@op("float")
@in_float32
def silu(x: Tensor) -> Tensor:
    """`x * sigmoid(x)`, also called swish.

    >>> print(convert_to_numpy(silu([0.0, 1.0])).round(4))
    [0.     0.7311]
    """
    return x * sigmoid(x)


swish = silu


@op("float")
@in_float32
def log_sigmoid(x: Tensor) -> Tensor:
    """`log(sigmoid(x))`, computed without loss for large negative x.

    >>> print(convert_to_numpy(log_sigmoid([-100.0])))
    [-100.]
    """
    return -softplus(-x)


@op("float")
@in_float32
def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    """x where positive, `negative_slope * x` elsewhere.

    >>> print(convert_to_numpy(leaky_relu([-1.0, 1.0])))
    [-0.2  1. ]
    """
    return k.where(x > 0, x, negative_slope * x)


@op("float")
@in_float32
def hard_sigmoid(x: Tensor) -> Tensor:
    """`relu6(x + 3) / 6`.

    >>> print(convert_to_numpy(hard_sigmoid([-4.0, 0.0])))
    [0.  0.5]
    """
    return relu6(x + 3) / 6


@op("float")
@in_float32
def hard_silu(x: Tensor) -> Tensor:
    """`x * hard_sigmoid(x)`, also called hard swish.

    >>> print(convert_to_numpy(hard_silu([-4.0, 3.0])))
    [-0.  3.]
    """
    return x * hard_sigmoid(x)


hard_swish = hard_silu


@op("float")
@in_float32
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where positive, `alpha * (exp(x) - 1)` elsewhere.

    >>> print(convert_to_numpy(elu([-1.0, 1.0])).round(4))
    [-0.6321  1.    ]
    """
    return k.where(x > 0, x, alpha * k.expm1(k.where(x > 0, 0.0, x)))


@op("float")
@in_float32
def selu(x: Tensor) -> Tensor:
    """The scaled exponential linear unit, which keeps mean 0 and variance 1.

    >>> print(convert_to_numpy(selu([1.0])).round(4))
    [1.0507]
    """
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


@op("float")
@in_float32
def gelu(x: Tensor, approximate: bool = True) -> Tensor:
    """x times the normal distribution function of x, exactly or by a tanh.

    >>> print(convert_to_numpy(gelu([1.0], approximate=False)).round(4))
    [0.8413]
    """
    if approximate:
        return 0.5 * x * (1 + k.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + m.erf(x * 0.7071067811865476))


@op("float")
@in_float32
def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """`max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))`.

    >>> print(convert_to_numpy(celu([-1.0, 1.0])).round(4))
    [-0.6321  1.    ]
    """
    return k.where(x > 0, x, alpha * k.expm1(k.where(x > 0, 0.0, x) / alpha))


@op("float")
@in_float32
def glu(x: Tensor, axis: int = -1) -> Tensor:
    """One half of x along an axis, gated by the sigmoid of the other.

    >>> print(convert_to_numpy(glu([2.0, 0.0])))
    [1.]
    """
    if (x.shape[axis] or 0) % 2:
        raise ValueError(f"glu needs an even size along axis {axis}, got shape {shape(x)}.")
    value, gate = k.split(x, 2, axis=axis)
    return value * sigmoid(gate)


@op("float")
@in_float32
def tanh_shrink(x: Tensor) -> Tensor:
    """`x - tanh(x)`.

    >>> print(convert_to_numpy(tanh_shrink([1.0])).round(4))
    [0.2384]
    """
    return x - k.tanh(x)


@op("number")
@in_float32
def hard_tanh(x: Tensor) -> Tensor:
    """x clipped to [-1, 1].

    >>> print(convert_to_numpy(hard_tanh([-3.0, 0.5])))
    [-1.   0.5]
    """
    return k.where(x <= -1, -1, k.where(x >= 1, 1, x))


@op("float")
@in_float32
def hard_shrink(x: Tensor, threshold: float = 0.5) -> Tensor:
    """x where `|x| > threshold`, else 0.

    >>> print(convert_to_numpy(hard_shrink([-1.0, 0.2])))
    [-1.  0.]
    """
    return k.where(k.absolute(x) <= threshold, 0.0, x)


@op("float")
@in_float32
def soft_shrink(x: Tensor, threshold: float = 0.5) -> Tensor:
    """x drawn towards 0 by `threshold`, and 0 within it.

    >>> print(convert_to_numpy(soft_shrink([-1.0, 0.2])))
    [-0.5  0. ]
    """
    shrunk = k.where(x > 0, x - threshold, x + threshold)
    return k.where(k.absolute(x) <= threshold, 0.0, shrunk)


@op("number")
@in_float32
def threshold(x: Tensor, threshold: float, default_value: float) -> Tensor:
    """x where it exceeds `threshold`, else `default_value`, in the dtype of x.

    >>> print(convert_to_numpy(threshold([-1.0, 2.0], 1, 0)))
    [0. 2.]
    """
    return k.where(x <= threshold, k.full_like(x, default_value), x)


@op("float")
@in_float32
def squareplus(x: Tensor, b: float = 4) -> Tensor:
    """`(x + sqrt(x * x + b)) / 2`, a smooth relu.

    >>> print(convert_to_numpy(squareplus([0.0])))
    [1.]
    """
    return (x + k.sqrt(x * x + b)) / 2


@op("float")
@in_float32
def sparse_plus(x: Tensor) -> Tensor:
    """0 up to -1, x from 1 on, and `(x + 1)**2 / 4` between.

    >>> print(convert_to_numpy(sparse_plus([-1.0, 0.0, 1.0])))
    [0.   0.25 1.  ]
    """
    return k.where(x <= -1, 0.0, k.where(x < 1, 0.25 * (x + 1) * (x + 1), x))


@op("float")
@in_float32
def softmax(x: Tensor, axis: int | Sequence[int] | None = -1) -> Tensor:
    """`exp(x)` scaled to sum to one along an axis (None: over everything).

    >>> print(convert_to_numpy(softmax([0.0, 0.0])))
    [0.5 0.5]
    """
    e = k.exp(x - k.max(x, axis=axis, keepdims=True))
    return e / k.sum(e, axis=axis, keepdims=True)


@op("float")
@in_float32
def log_softmax(x: Tensor, axis: int | Sequence[int] | None = -1) -> Tensor:
    """The logarithm of `softmax`, computed without overflow.

    >>> print(convert_to_numpy(log_softmax([0.0, 0.0])).round(4))
    [-0.6931 -0.6931]
    """
    x = x - k.max(x, axis=axis, keepdims=True)
    return x - k.log(k.sum(k.exp(x), axis=axis, keepdims=True))


@op("float")
@in_float32
def sparsemax(x: Tensor, axis: int = -1) -> Tensor:
    """The projection onto the probability simplex: a softmax with true zeros.

    >>> print(convert_to_numpy(sparsemax([1.0, 0.5, -1.0])))
    [0.75 0.25 0.  ]
    """
    dims = [-1] + [1] * (len(x.shape) - 1 - axis % len(x.shape))
    ranks = cast(k.reshape(positions(x, shape(x)[axis]), dims) + 1, dtype(x))
    ordered = k.flip(k.sort(x, axis=axis), axis=axis)
    support = cast(1 + k.multiply(ordered, ranks) > k.cumsum(ordered, axis=axis), dtype(x))
    size = k.sum(support, axis=axis, keepdims=True)
    tau = (k.sum(support * ordered, axis=axis, keepdims=True) - 1) / size
    return relu(x - tau)


@op("promote", tensors=3)
def linear(x: Tensor, kernel: Tensor, bias: Tensor = None, activation: str | None = None) -> Tensor:
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
    out = out if bias is None else k.add(out, bias)
    return _activate(out, activation)


def _activate(x: Any, activation: str | None) -> Any:
    if activation is None:
        return x
    if activation == "relu":
        return relu(x)
    if activation == "gelu":
        return gelu(x, approximate=False)
    raise ValueError(f"linear: activation must be None, 'relu' or 'gelu', got {activation!r}.")


@op("promote_float", tensors=2)
def polar(abs_: Tensor, angle: Tensor) -> Tensor:
    """Complex numbers of given size and angle.

    >>> print(convert_to_numpy(polar([2.0], [0.0])))
    [2.+0.j]
    """
    return k.add(abs_ * k.cos(angle), k.multiply(abs_ * k.sin(angle), 1j))


__all__ = [
    "celu", "elu", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish",
    "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "polar", "relu", "relu6",
    "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus",
    "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh_shrink", "threshold",
]  # fmt: skip
