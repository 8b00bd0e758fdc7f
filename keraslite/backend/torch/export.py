"""Models as programs of torch.export, and the files that are written of them."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch


class _Plain(torch.nn.Module):
    """A function of inputs and weights as a module of flat parameters with named arguments."""

    def __init__(self, call: Callable, weights: dict[str, torch.Tensor], inputs: Sequence[str]):
        super().__init__()
        self.__dict__["call"] = call
        self.names = []
        for path, value in weights.items():
            name = re.sub(r"\W", "_", path)
            while hasattr(self, name):
                name += "_"
            self.names.append(name)
            self.register_buffer(name, value.detach())
        arguments = [re.sub(r"\W|^(?=\d)", "_", name) for name in inputs]

        def forward(*args: torch.Tensor, **kwargs: torch.Tensor) -> Any:
            values = [*args, *(kwargs[name] for name in arguments[len(args) :])]
            return call(values, [getattr(self, name) for name in self.names])

        forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in arguments]
        )
        self.__dict__["forward"] = forward


def exported_program(
    call: Callable, weights: dict[str, torch.Tensor], inputs: Sequence[str],
    examples: Sequence[np.ndarray], free_axes: Sequence[Sequence[int]], options: dict[str, Any],
) -> torch.export.ExportedProgram:  # fmt: skip
    """Trace a function of inputs and weights.

    Args:
        call: the function, of a list of inputs and a list of weights.
        weights: values by path.
        inputs: the names of the inputs.
        examples: an array for each.
        free_axes: the axes of each that may have any size.
        options: arguments of `torch.export.export`.
    """
    module = _Plain(call, weights, inputs).eval()
    dynamic = tuple({axis: torch.export.Dim.DYNAMIC for axis in axes} for axes in free_axes)
    options = {"dynamic_shapes": dynamic, "strict": False} | options
    with torch.no_grad():
        return torch.export.export(module, tuple(map(torch.from_numpy, examples)), **options)
