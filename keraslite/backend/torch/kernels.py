"""The linear kernel of torch: oneDNN's product where it beats torch's own on this machine.

torch sends float32 products on CPUs to MKL, which uses some AMD processors at half their rate. It
carries oneDNN as well, with bias and activation fused in. Which is faster is measured once, in a
few milliseconds, at the first product large enough to matter; KERASLITE_LINEAR=onednn or =torch
settles it by hand. bfloat16 runs on oneDNN either way, and gains the fused activation.
"""

import os
import time
from typing import Any, Optional

import torch
from torch import Tensor
from torch.nn import functional as F

# Below so many multiplications, and so many weights to fetch, the cost of the call decides:
# F.linear's is 10 us less.
_LEAST, _LEAST_WEIGHTS = 2**20, 2**18
_FORWARD, _TRAINING = 1.03, 1.25  # by how much oneDNN must win to be used
_PLAIN = (Tensor, torch.nn.Parameter)  # no fake tensors, no subclasses with their own dispatch
_fused = getattr(getattr(torch.ops, "mkldnn", None), "_linear_pointwise", None)
_NAMES = {None: "none", "relu": "relu", "gelu": "gelu"}
_ALGORITHMS = {"none": "", "relu": "", "gelu": "none"}
_gains: dict[torch.dtype, float] = {}  # how much faster oneDNN is than F.linear, once measured


def linear(
    x: Tensor, kernel: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """`activation(x @ kernel + bias)` with a kernel of shape (inputs, outputs)."""
    large = x.numel() * kernel.shape[-1] >= _LEAST or kernel.numel() >= _LEAST_WEIGHTS
    if large and x.is_cpu and activation in _NAMES:
        gain = _gains.get(x.dtype, 0.0) or _settle(x.dtype)
        if gain > _FORWARD and _takes(x, kernel):
            name = _NAMES[activation]
            if not torch.is_grad_enabled() or not (
                x.requires_grad or kernel.requires_grad or (bias is not None and bias.requires_grad)
            ):
                product = _product if torch.compiler.is_compiling() else _onednn
                return product(x, kernel.t(), bias, name)
            if gain > _TRAINING:
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
    raise ValueError(f"ops.linear fuses None, 'relu' or 'gelu', got {activation!r}.")


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    x = x if x.is_contiguous() else _dense(x)
    return _fused(x, _dense(weight), bias, activation, [], _ALGORITHMS[activation])


def _dense(x: Tensor) -> Tensor:
    """A matrix as it is if its rows or its columns are whole: for other strides, such as those of
    an expanded scalar, oneDNN has only a reference kernel, hundreds of times slower.
    """
    if x.ndim == 2:
        (rows, columns), (down, across) = x.shape, x.stride()
        if (across == 1 and down >= columns) or (down == 1 and across >= rows):
            return x
    return x.contiguous()


def _takes(x: Tensor, kernel: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return kernel.ndim == 2
    plain = type(x) in _PLAIN and type(kernel) in _PLAIN
    return kernel.ndim == 2 and plain and not in_transform()


def in_transform() -> bool:
    """Whether a torch.func transform (grad, vmap) is under way; never asked while compiling."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._functorch.peek_interpreter_stack() is not None
    )


def levels() -> list[str]:
    """The torch.func transforms under way, by kind ("Grad", "Vmap", "Jvp"); none when compiling."""
    if not in_transform():
        return []
    return [level.key().name for level in torch._C._functorch.get_interpreter_stack()]


def _settle(dtype: torch.dtype) -> float:
    """Find out, once for a dtype, how much faster oneDNN is; 1 where it cannot be used or tried."""
    if torch.compiler.is_compiling():
        return 1.0
    if dtype not in (torch.float32, torch.bfloat16) or _fused is None or not torch._C._has_mkldnn:
        gain = 1.0
    elif torch._C._len_torch_dispatch_stack() or in_transform():
        return 1.0  # abstract values tell nothing about time
    elif dtype == torch.bfloat16:
        # The same product either way: only the fused activation is gained, and only forward.
        gain = 1.1 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else 1.0
    else:
        asked = os.environ.get("KERASLITE_LINEAR", "")
        gain = {"onednn": 2.0, "torch": 1.0}.get(asked) or _measure()
    _gains[dtype] = gain
    return gain


@torch.no_grad()
def _measure() -> float:
    """Time both on a product of 34 million multiplications, in turns; the best of each counts."""
    x, weight, bias = (
        torch.full(shape, 0.5, dtype=torch.float32, device="cpu")
        for shape in ((128, 512), (512, 512), (512,))
    )
    trials = (
        lambda: F.linear(x, weight, bias),
        lambda: _fused(x, weight, bias, "none", [], ""),
    )
    best = [float("inf"), float("inf")]
    for _ in range(6):
        for i, trial in enumerate(trials):
            start = time.perf_counter()
            trial()
            best[i] = min(best[i], time.perf_counter() - start)
    return best[0] / best[1]


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
