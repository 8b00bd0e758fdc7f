"""PRIMITIVES for ops/numpy.py and ops/core.py on torch."""

from typing import Any

import torch

from keraslite.backend.torch.tensors import default_device, native

# Ops whose torch function takes a Python number beside a tensor and follows the tensor's dtype.
SCALARS = frozenset(["add", "subtract", "multiply", "divide", "true_divide", "power"])

_AS_THEY_ARE = "add subtract multiply matmul exp log sqrt tanh sin cos reshape"
TABLE = {name: getattr(torch, name) for name in _AS_THEY_ARE.split()} | {
    "divide": torch.true_divide,
    "power": torch.pow,
    "absolute": torch.abs,
    "negative": torch.neg,
}


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__] = fn
    return fn


@_primitive
def stop_gradient(variable: torch.Tensor) -> torch.Tensor:
    return variable.detach()


@_primitive
def transpose(x: torch.Tensor, axes: Any = None) -> torch.Tensor:
    return x.permute(axes if axes is not None else tuple(range(x.ndim - 1, -1, -1)))


@_primitive
def stack(x: list, axis: int = 0) -> torch.Tensor:
    return torch.stack(x, dim=axis)


@_primitive
def zeros(shape: Any, dtype: Any = None) -> torch.Tensor:
    return torch.zeros(shape, dtype=native(dtype), device=default_device())
