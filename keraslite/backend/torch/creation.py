"""New tensors on torch."""

from typing import Any

import torch
from torch import Tensor

from keraslite import dtypes
from keraslite.backend.primitives import primitive
from keraslite.backend.torch.tensors import (
    HALVES,
    convert,
    default_device,
    native,
    native_or,
    sizes,
)

TABLE: dict[str, Any] = {"copy": torch.clone}


@primitive(TABLE)
def zeros(shape: Any, dtype: Any = None) -> Tensor:
    return torch.zeros(shape, dtype=native(dtype), device=default_device())


@primitive(TABLE)
def ones(shape: Any, dtype: Any = None) -> Tensor:
    return torch.ones(shape, dtype=native(dtype), device=default_device())


@primitive(TABLE)
def full(shape: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    if type(fill_value) in (int, float, bool):
        return torch.full(sizes(shape), fill_value, dtype=native(dtype), device=default_device())
    return convert(fill_value, native(dtype)).expand(sizes(shape)).clone()


@primitive(TABLE)
def zeros_like(x: Tensor, dtype: Any = None) -> Tensor:
    return torch.zeros_like(x, dtype=native_or(dtype, x.dtype))


@primitive(TABLE)
def ones_like(x: Tensor, dtype: Any = None) -> Tensor:
    return torch.ones_like(x, dtype=native_or(dtype, x.dtype))


@primitive(TABLE)
def full_like(x: Tensor, fill_value: Any, dtype: Any = None) -> Tensor:
    dtype = native_or(dtype, x.dtype)
    if type(fill_value) in (int, float, bool):
        return torch.full_like(x, fill_value, dtype=dtype)
    return convert(fill_value, dtype).to(x.device).expand(x.shape).clone()


@primitive(TABLE)
def eye(N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> Tensor:  # noqa: N803 - as in Keras
    columns, dtype = N if M is None else M, native(dtype)
    if not k:
        return torch.eye(N, columns, dtype=dtype, device=default_device())
    return torch.ones(N, columns, dtype=dtype, device=default_device()).tril_(k).triu_(k)


@primitive(TABLE)
def tri(N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> Tensor:  # noqa: N803 - as in Keras
    columns = N if M is None else M
    return torch.ones(N, columns, dtype=native(dtype), device=default_device()).tril_(k)


@primitive(TABLE)
def linspace(
    start: Tensor, stop: Tensor, num: int = 50, endpoint: bool = True, retstep: bool = False,
    dtype: Any = None, axis: int = 0,
) -> Any:  # fmt: skip
    parts = max(num - 1 if endpoint else num, 1)
    places = torch.arange(num, dtype=torch.float64, device=start.device) / parts
    places = places.to(start.dtype)
    if start.ndim or stop.ndim:
        places = places.reshape([-1] + [1] * max(start.ndim, stop.ndim))
    out = torch.lerp(start, stop, places)  # exact at both ends
    out = out.movedim(0, axis) if axis else out
    if dtype is not None:
        target = native(dtype)
        out = (out if target.is_floating_point or target.is_complex else out.floor()).to(target)
    return (out, (stop - start) / parts) if retstep else out


@primitive(TABLE)
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Tensor:
    bounds = [v for v in (start, stop, step) if v is not None]
    dtype = native(dtype or dtypes.result_type(*(getattr(v, "dtype", type(v)) for v in bounds)))
    start, stop = (0, start) if stop is None else (start, stop)
    work_dtype = torch.float32 if dtype in HALVES else dtype
    step = 1 if step is None else step
    return torch.arange(start, stop, step, dtype=work_dtype, device=default_device()).to(dtype)
