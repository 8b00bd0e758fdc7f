"""`ops.linear` on torch: oneDNN's product where the rule says so, with the activation fused."""

from typing import Any, Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from keraslite.backend.torch.fast.products import FUSES_GELU, ONEDNN, PRODUCTS, TORCH
from keraslite.backend.torch.tracing import in_transform

# Below so many multiplications, and so many weights to fetch, the cost of the call decides:
# F.linear's is 10 us less.
_LEAST, _LEAST_WEIGHTS = 2**20, 2**17
_MANY_ROWS = 64  # from which oneDNN takes 1.4 times as long for a weight stored (inputs, outputs)
_PLAIN = (Tensor, torch.nn.Parameter)  # no fake tensors, no subclasses with their own dispatch
_fused = getattr(getattr(torch.ops, "mkldnn", None), "_linear_pointwise", None)
_NAMES = {None: "none", "relu": "relu", "gelu": "gelu"}
_ALGORITHMS = {"none": "", "relu": "", "gelu": "none"}


def linear(
    x: Tensor, kernel: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """`activation(x @ kernel + bias)` with a kernel of shape (inputs, outputs)."""
    # Other programs lack oneDNN's product, and a choice by size would be a bound on free sizes.
    large = not torch.compiler.is_exporting() and (
        kernel.numel() >= _LEAST_WEIGHTS or x.numel() * kernel.shape[-1] >= _LEAST
    )
    if large and x.is_cpu and activation in _NAMES:
        product = PRODUCTS.get(x.dtype, TORCH)
        if product != TORCH and _takes(x, kernel) and _is_fast(product, x, kernel):
            if activation == "gelu" and not FUSES_GELU:
                return F.gelu(linear(x, kernel, bias))
            name = _NAMES[activation]
            if not torch.is_grad_enabled() or not (
                x.requires_grad or kernel.requires_grad or (bias is not None and bias.requires_grad)
            ):
                run = _product if torch.compiler.is_compiling() else _onednn
                return run(x, kernel.t(), bias, name)
            if product == ONEDNN:
                return activate(_product(x, kernel.t(), bias, "none"), activation)
    return activate(F.linear(x, kernel.t(), bias), activation)


def activate(x: Tensor, activation: str | None) -> Tensor:
    """None, "relu" or the exact "gelu"."""
    if activation is None:
        return x
    if activation == "relu":
        return torch.relu(x)
    if activation == "gelu":
        return F.gelu(x)
    raise ValueError(f"ops.linear: activation must be None, 'relu' or 'gelu', got {activation!r}.")


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    return _fused(_dense(x), _dense(weight), bias, activation, [], _ALGORITHMS[activation])


def _dense(x: Tensor) -> Tensor:
    """A matrix as it is if all its rows or all its columns follow each other: for other strides,
    such as those of a part of the columns, oneDNN has only a reference kernel, hundreds of times
    slower.
    """
    whole = x.is_contiguous() or (x.ndim == 2 and x.t().is_contiguous())
    return x if whole else x.contiguous()


def _is_fast(product: str, x: Tensor, kernel: Tensor) -> bool:
    """Whether oneDNN is ahead for a weight as it lies in memory."""
    few = x.numel() < _MANY_ROWS * x.shape[-1]
    return product == ONEDNN or few or kernel.t().is_contiguous()


def _takes(x: Tensor, kernel: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return kernel.ndim == 2
    plain = type(x) in _PLAIN and type(kernel) in _PLAIN
    return kernel.ndim == 2 and plain and not in_transform()


# As an op of its own the product has a gradient, and torch.compile takes it as it is.
@torch.library.custom_op("keraslite::product", mutates_args=())
def _product(x: Tensor, weight: Tensor, bias: Optional[Tensor], activation: str) -> Tensor:  # noqa: UP045
    return _onednn(x, weight, bias, activation)


@_product.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _remember(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, upstream: Tensor) -> tuple:
    x, weight = ctx.saved_tensors
    rows, above = x.reshape(-1, x.shape[-1]), upstream.reshape(-1, upstream.shape[-1])
    grads: list = [None] * 4
    if ctx.needs_input_grad[0]:
        grads[0] = _product(upstream, weight.t(), None, "none")
    if ctx.needs_input_grad[1]:
        if weight.is_contiguous():
            grads[1] = _product(above.t(), rows.t(), None, "none")
        else:  # the result in the layout of the weight, which optimizers walk along with it
            grads[1] = _product(rows.t(), above.t(), None, "none").t()
    if ctx.needs_input_grad[2]:
        grads[2] = above.sum(0)
    return tuple(grads)


_product.register_autograd(_backward, setup_context=_remember)
