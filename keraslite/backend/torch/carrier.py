"""Call functions of other frameworks from torch, with their gradients."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from keraslite.backend.foreign import ForeignFunction
from keraslite.backend.torch.tensors import dtype_of, from_numpy, to_numpy

__all__ = ["COMPILES_FOREIGN", "call_foreign"]

COMPILES_FOREIGN = True  # between the parts that are compiled


@torch.compiler.disable
def call_foreign(function: ForeignFunction, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Call a function of another framework."""
    if torch.is_grad_enabled():  # what it reads of weights that it writes is needed again
        written = [i for i, trained in enumerate(function.trained) if not trained]
        tensors = [x.clone() if i in written else x for i, x in enumerate(tensors)]
    return list(_Foreign.apply(function, *tensors))


class _Foreign(torch.autograd.Function):
    """A function of another framework, whose gradient that computes."""

    @staticmethod
    def forward(function: ForeignFunction, *tensors: torch.Tensor) -> tuple:
        return tuple(from_numpy(x) for x in function.forward(*map(to_numpy, tensors)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.function, *tensors = inputs
        ctx.targets = ctx.function.targets([dtype_of(x) for x in output])
        ctx.mark_non_differentiable(*(x for i, x in enumerate(output) if i not in ctx.targets))
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple:
        tensors = ctx.saved_tensors
        sources = ctx.function.sources([dtype_of(x) for x in tensors])
        found = ctx.function.vjp(
            [*map(to_numpy, tensors)], [to_numpy(upstream[i]) for i in ctx.targets]
        )
        gradients: list[torch.Tensor | None] = [None] * len(tensors)
        for i, gradient in zip(sources, found, strict=True):
            gradients[i] = from_numpy(gradient).to(tensors[i].dtype)
        return (None, *gradients)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, function: ForeignFunction, *tensors: Any) -> tuple:
        rows = [
            _Foreign.apply(
                function,
                *(
                    x if axis is None else x.select(axis, i)
                    for x, axis in zip(tensors, in_dims[1:], strict=True)
                ),
            )
            for i in range(info.batch_size)
        ]
        return tuple(torch.stack(column) for column in zip(*rows, strict=True)), (0,) * len(rows[0])
