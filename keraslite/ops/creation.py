"""Tensors out of nothing: constants, ranges, windows."""

import builtins
from typing import Any

import numpy as np

from keraslite import dtypes
from keraslite.ops.arithmetic import absolute, add, divide, multiply, power, sign, subtract
from keraslite.ops.common import as_tensor_like, check_size, positions
from keraslite.ops.core import cast, convert_to_tensor, shape
from keraslite.ops.core import dtype as dtype_of
from keraslite.ops.elementwise import floor
from keraslite.ops.exponential import exp, log
from keraslite.ops.logic import equal, greater_equal, where
from keraslite.ops.op import Spec, op, primitive_only
from keraslite.ops.shapes import broadcast_to, expand_dims, moveaxis, reshape
from keraslite.typing import DType, Shape, Tensor


@op("creation")
def zeros(shape: int | Shape, dtype: DType | None = None) -> Tensor:
    """Zeros.

    >>> convert_to_numpy(zeros((2,))).tolist()
    [0.0, 0.0]
    """
    return full(shape, 0, dtype)


@op("creation")
def ones(shape: int | Shape, dtype: DType | None = None) -> Tensor:
    """Ones.

    >>> convert_to_numpy(ones((2,))).tolist()
    [1.0, 1.0]
    """
    return full(shape, 1, dtype)


@op("creation")
def empty(shape: int | Shape, dtype: DType | None = None) -> Tensor:
    """Zeros: nothing is gained by leaving memory unset.

    >>> shape(empty((2, 3)))
    (2, 3)
    """
    return zeros(shape, dtype)


@op("creation")
def full(shape: int | Shape, fill_value: Any, dtype: DType | None = None) -> Tensor:
    """A tensor of one value; of floatx unless a dtype is given.

    >>> convert_to_numpy(full((2,), 7, "int32")).tolist()
    [7, 7]
    """
    return primitive_only("full")


@op("same")
def zeros_like(x: Tensor, dtype: DType | None = None) -> Tensor:
    """Zeros of the shape and dtype of x.

    >>> convert_to_numpy(zeros_like([1, 2])).tolist()
    [0, 0]
    """
    return primitive_only("zeros_like")


@op("same")
def ones_like(x: Tensor, dtype: DType | None = None) -> Tensor:
    """Ones of the shape and dtype of x.

    >>> convert_to_numpy(ones_like([1, 2])).tolist()
    [1, 1]
    """
    return primitive_only("ones_like")


@op("same")
def empty_like(x: Tensor, dtype: DType | None = None) -> Tensor:
    """Zeros of the shape and dtype of x.

    >>> convert_to_numpy(empty_like([1, 2])).tolist()
    [0, 0]
    """
    return zeros_like(x, dtype)


@op("same")
def full_like(x: Tensor, fill_value: Any, dtype: DType | None = None) -> Tensor:
    """One value in the shape and dtype of x.

    >>> convert_to_numpy(full_like([1, 2], 7)).tolist()
    [7, 7]
    """
    target = dtype_of(x) if dtype is None else dtype
    return broadcast_to(cast(as_tensor_like(fill_value, x), target), shape(x))


@op("creation")
def arange(start: Any, stop: Any = None, step: Any = None, dtype: DType | None = None) -> Tensor:
    """Numbers from start up to stop; integers unless an argument is a float.

    >>> convert_to_numpy(arange(1, 7, 2)).tolist()
    [1, 3, 5]
    """
    return primitive_only("arange")


def _arange_spec(start: Any, stop: Any = None, step: Any = None, dtype: DType | None = None) -> Any:
    """The spec of numbers whose count depends on the values of symbolic tensors."""
    parts = [getattr(x, "dtype", type(x)) for x in (start, stop, step) if x is not None]
    return Spec((None,), dtypes.standardize(dtype) if dtype else dtypes.result_type(*parts))


arange.op.spec = _arange_spec


@op("promote_float", tensors=2)
def linspace(
    start: Tensor,
    stop: Tensor,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: DType | None = None,
    axis: int = 0,
) -> Tensor:
    """Numbers at equal distances from start to stop.

    >>> convert_to_numpy(linspace(0, 1, 3)).tolist()
    [0.0, 0.5, 1.0]
    """
    parts = builtins.max(num - 1 if endpoint else num, 1)
    gap = subtract(stop, start)
    steps = reshape(positions(start, num), [-1] + [1] * len(shape(gap)))
    step = divide(gap, parts)
    out = add(start, multiply(cast(divide(steps, parts), dtype_of(start)), gap))
    if endpoint and num > 1:  # exactly stop, in spite of rounding
        out = where(equal(steps, parts), stop, out)
    out = moveaxis(out, 0, axis) if axis else out
    if dtype is not None:
        out = cast(floor(out) if dtypes.is_int(dtypes.standardize(dtype)) else out, dtype)
    return (out, step) if retstep else out


@op("promote_float", tensors=2)
def logspace(
    start: Tensor,
    stop: Tensor,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10,
    dtype: DType | None = None,
    axis: int = 0,
) -> Tensor:
    """Powers of the base, with exponents at equal distances.

    >>> convert_to_numpy(logspace(0, 2, 3, base=2)).tolist()
    [1.0, 2.0, 4.0]
    """
    exponents = linspace(start, stop, num, endpoint, axis=axis)
    out = power(cast(as_tensor_like(base, start), dtype_of(start)), exponents)
    return out if dtype is None else cast(out, dtype)


@op("promote_float", tensors=2)
def geomspace(
    start: Tensor,
    stop: Tensor,
    num: int = 50,
    endpoint: bool = True,
    dtype: DType | None = None,
    axis: int = 0,
) -> Tensor:
    """Numbers of equal ratios from start to stop.

    >>> convert_to_numpy(round(geomspace(1, 100, 3))).tolist()
    [1.0, 10.0, 100.0]
    """
    low, high = log(absolute(start)), log(absolute(stop))
    out = multiply(sign(start), exp(linspace(low, high, num, endpoint, axis=axis)))
    return out if dtype is None else cast(out, dtype)


@op("creation")
def eye(N: int, M: Any = None, k: int = 0, dtype: DType | None = None) -> Tensor:  # noqa: N803 - as in Keras
    """Ones on the k-th diagonal.

    >>> convert_to_numpy(eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    N, M = check_size("N", N), check_size("M", N if M is None else M)  # noqa: N806
    rows, columns = arange(N), arange(M)
    return cast(equal(add(expand_dims(rows, 1), k), columns), dtype)


@op("creation")
def identity(n: int, dtype: DType | None = None) -> Tensor:
    """The identity matrix.

    >>> convert_to_numpy(identity(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return eye(n, dtype=dtype)


@op("creation")
def tri(N: int, M: Any = None, k: int = 0, dtype: DType | None = None) -> Tensor:  # noqa: N803 - as in Keras
    """Ones on and below the k-th diagonal.

    >>> convert_to_numpy(tri(2)).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    N, M = check_size("N", N), check_size("M", N if M is None else M)  # noqa: N806
    rows, columns = arange(N), arange(M)
    return cast(greater_equal(add(expand_dims(rows, 1), k), columns), dtype)


def bartlett(x: Tensor) -> Any:
    """The Bartlett window of x points.

    >>> convert_to_numpy(round(bartlett(3), 3)).tolist()
    [0.0, 1.0, 0.0]
    """
    return convert_to_tensor(np.bartlett(int(x)), dtypes.standardize(None))


def blackman(x: Tensor) -> Any:
    """The Blackman window of x points.

    >>> convert_to_numpy(absolute(round(blackman(3), 3))).tolist()
    [0.0, 1.0, 0.0]
    """
    return convert_to_tensor(np.blackman(int(x)), dtypes.standardize(None))


def hamming(x: Tensor) -> Any:
    """The Hamming window of x points.

    >>> convert_to_numpy(round(hamming(3))).tolist()
    [0.0, 1.0, 0.0]
    """
    return convert_to_tensor(np.hamming(int(x)), dtypes.standardize(None))


def hanning(x: Tensor) -> Any:
    """The Hann window of x points.

    >>> convert_to_numpy(round(hanning(3), 3)).tolist()
    [0.0, 1.0, 0.0]
    """
    return convert_to_tensor(np.hanning(int(x)), dtypes.standardize(None))


def kaiser(x: Tensor, beta: float) -> Any:
    """The Kaiser window of x points.

    >>> convert_to_numpy(kaiser(3, 0.0)).tolist()
    [1.0, 1.0, 1.0]
    """
    return convert_to_tensor(np.kaiser(int(x), float(beta)), dtypes.standardize(None))


def array(x: Tensor, dtype: DType | None = None) -> Any:
    """Make a tensor.

    >>> convert_to_numpy(array([1, 2])).tolist()
    [1, 2]
    """
    return convert_to_tensor(x, dtype)


@op("same")
def copy(x: Tensor) -> Tensor:
    """A copy.

    >>> convert_to_numpy(copy([1, 2])).tolist()
    [1, 2]
    """
    return primitive_only("copy")


__all__ = [
    "arange", "array", "bartlett", "blackman", "copy", "empty", "empty_like", "eye", "full",
    "full_like", "geomspace", "hamming", "hanning", "identity", "kaiser", "linspace", "logspace",
    "ones", "ones_like", "tri", "zeros", "zeros_like",
]  # fmt: skip
