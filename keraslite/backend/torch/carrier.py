"""Call functions of other frameworks from torch, with their gradients."""

from typing import Any

import torch

from keraslite.backend.foreign import NO_SECOND, ForeignFunction
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
    @torch.compiler.disable
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple:
        tensors = ctx.saved_tensors
        sources = ctx.function.sources([dtype_of(x) for x in tensors])
        above = [upstream[i] for i in ctx.targets]
        found = _Gradient.apply(ctx.function, len(tensors), sources, *tensors, *above)
        gradients: list[torch.Tensor | None] = [None] * len(tensors)
        for i, gradient in zip(sources, found, strict=True):
            gradients[i] = gradient
        return (None, *gradients)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any) -> tuple:
        return _row_by_row(_Foreign, info.batch_size, in_dims, args)


def _row_by_row(cls: Any, size: int, in_dims: tuple, args: tuple) -> tuple:
    """Run a function along a mapped axis one row after the other."""
    pairs = list(zip(args, in_dims, strict=True))
    rows = [
        cls.apply(*(x.select(axis, i) if type(axis) is int else x for x, axis in pairs))
        for i in range(size)
    ]
    return tuple(torch.stack(column) for column in zip(*rows, strict=True)), (0,) * len(rows[0])


class _Gradient(torch.autograd.Function):
    """The gradient of a function of another framework; it has none itself."""

    @staticmethod
    def forward(
        function: ForeignFunction, count: int, sources: list[int], *tensors: torch.Tensor
    ) -> tuple:
        arrays = [*map(to_numpy, tensors)]
        found = function.vjp(arrays[:count], arrays[count:])
        pairs = zip(sources, found, strict=True)
        return tuple(from_numpy(x).to(tensors[i].dtype) for i, x in pairs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Any:
        raise NotImplementedError(NO_SECOND)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any) -> tuple:
        return _row_by_row(_Gradient, info.batch_size, in_dims, args)
