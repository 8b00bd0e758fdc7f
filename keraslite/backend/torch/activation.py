"""Activations and the dense product on torch."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from keraslite.backend.primitives import primitive
from keraslite.backend.torch.fast.linear import linear
from keraslite.backend.torch.tracing import check_axis

TABLE: dict[str, Any] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "silu": F.silu,
    "log_sigmoid": F.logsigmoid,
    "hard_sigmoid": F.hardsigmoid,
    "hard_silu": F.hardswish,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "tanh_shrink": F.tanhshrink,
    "hard_tanh": F.hardtanh,
    "leaky_relu": lambda x, negative_slope=0.2: F.leaky_relu(x, negative_slope),
    "glu": lambda x, axis=-1: F.glu(x, axis),
    "hard_shrink": lambda x, threshold=0.5: F.hardshrink(x, threshold),
    "soft_shrink": lambda x, threshold=0.5: F.softshrink(x, threshold),
    "threshold": lambda x, threshold, default_value: F.threshold(x, threshold, default_value),
    "gelu": lambda x, approximate=True: F.gelu(x, approximate="tanh" if approximate else "none"),
    "linear": linear,
}


@primitive(TABLE)
def softmax(x: Tensor, axis: Any = -1) -> Tensor:
    if isinstance(axis, int):
        check_axis(x, axis)
        return torch.softmax(x, axis)
    return log_softmax(x.float() if x.element_size() < 4 else x, axis).exp().to(x.dtype)


@primitive(TABLE)
def log_softmax(x: Tensor, axis: Any = -1) -> Tensor:
    if isinstance(axis, int):
        return torch.log_softmax(x, axis)
    return x - torch.logsumexp(x, tuple(range(x.ndim)) if axis is None else axis, keepdim=True)
