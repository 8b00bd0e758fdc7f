"""Products of arrays, and diagonals and triangles of matrices, on numpy."""

from typing import Any

import numpy as np

from keraslite.backend.integers import int8_product
from keraslite.backend.numpy.precision import HALVES, LARGE, quiet, quiet_in_float32
from keraslite.backend.primitives import primitive
from keraslite.scopes import scopes

TABLE: dict[str, Any] = {
    name: getattr(np, name) for name in ("diag", "diagonal", "tril", "triu")
} | {"slogdet": lambda x: tuple(np.linalg.slogdet(x))}
TABLE |= {
    name: quiet_in_float32(getattr(np, name)) for name in ("dot", "inner", "kron", "outer", "vdot")
}


def _products(x: np.ndarray) -> Any:
    """Products of two int8 tensors add up in int32."""
    return np.int32 if x.dtype == np.int8 else x.dtype


@primitive(TABLE)
@quiet_in_float32
def matmul(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    if scopes.abstract and x1.size > LARGE and x1.ndim > 1 and x2.ndim > 1:
        first = np.matmul(x1[..., :1, :], x2[..., :1])  # raises for sizes that do not fit
        return np.broadcast_to(first, (*first.shape[:-2], x1.shape[-2], x2.shape[-1]))
    if x1.dtype == np.int8 and x1.ndim and x2.ndim > 1:
        return int8_product(x1, x2, _by_floats)
    return np.matmul(x1, x2, dtype=_products(x1))


def _by_floats(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    return np.matmul(x1.astype(np.float32), x2.astype(np.float32)).astype(np.int32)


_LARGE = 1024  # elements


@primitive(TABLE)
@quiet
def einsum(subscripts: str, *operands: np.ndarray, **kwargs: Any) -> np.ndarray:
    first = operands[0]
    work_dtype = np.float32 if first.dtype in HALVES else _products(first)
    # To look for the best order, or for a form as products of matrices, takes 10 us.
    large = len(operands) > 2 or max(x.size for x in operands) > _LARGE
    operands = [x.astype(work_dtype, copy=False) for x in operands]
    out = np.asarray(np.einsum(subscripts, *operands, optimize=large))
    return out.astype(first.dtype if first.dtype in HALVES else work_dtype, copy=False)


@primitive(TABLE)
@quiet_in_float32
def tensordot(x1: np.ndarray, x2: np.ndarray, axes: Any = 2) -> np.ndarray:
    return np.tensordot(x1, x2, axes)
