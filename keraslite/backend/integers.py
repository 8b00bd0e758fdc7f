"""Products of int8 tensors, for the backends whose own kernels for integers are slow."""

from collections.abc import Callable
from typing import Any

# So many products of two int8 numbers never exceed 2 ** 24, up to which float32 is exact.
_EXACT = 1024


def int8_product(x: Any, kernel: Any, multiply: Callable[[Any, Any], Any]) -> Any:
    """The exact matrix product of two int8 tensors, in parts that a product of floats gets right.

    Args:
        x: int8 (..., length).
        kernel: int8 (..., length, outputs).
        multiply: the product of two such tensors by way of float32, in int32.

    >>> ones = np.ones((1, 3000), "int8")
    >>> def multiply(a, b):
    ...     return (a.astype("float32") @ b.astype("float32")).astype("int32")
    >>> int8_product(ones, ones.T, multiply).tolist()
    [[3000]]
    """
    length = kernel.shape[-2]
    if length <= _EXACT:
        return multiply(x, kernel)
    total: Any = 0
    for start in range(0, length, _EXACT):
        end = start + _EXACT
        total = total + multiply(x[..., start:end], kernel[..., start:end, :])
    return total
