"""Models as programs of torch.export, and the files that are written of them."""

import inspect
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.fx.experimental.symbolic_shapes import (
    ConstraintViolationError,
    GuardOnDataDependentSymNode,
)

from keraslite.backend.errors import UnsupportedOpsError

_UNTRACEABLE = (
    torch._dynamo.exc.UserError, torch._dynamo.exc.Unsupported, ConstraintViolationError,
    GuardOnDataDependentSymNode,
)  # fmt: skip


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the remarks of exporters, which are about their own code, off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


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
            self.register_buffer(name, value.detach().contiguous())
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

    Raises:
        UnsupportedOpsError: the function looks at values, or has a fixed size for a free axis.
    """
    module = _Plain(call, weights, inputs).eval()
    dynamic = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in free_axes)
    options = {"dynamic_shapes": dynamic, "strict": False} | options
    arrays = tuple(map(torch.from_numpy, examples))
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(module, arrays, **options)
    except _UNTRACEABLE as error:
        raise UnsupportedOpsError([], str(error)) from error


def bounded(sizes: Sequence[dict[int, int]]) -> tuple:
    """Return dynamic shapes with largest sizes.

    Args:
        sizes: of the free axes of each input.
    """
    return tuple(
        {axis: torch.export.Dim.DYNAMIC(min=1, max=most) for axis, most in row.items()}
        for row in sizes
    )


def num_bytes(program: torch.export.ExportedProgram) -> int:
    """Return the size of the weights of a program."""
    return sum(x.numel() * x.element_size() for x in program.state_dict.values())


def save(program: torch.export.ExportedProgram, file: Any, extra: dict[str, str]) -> None:
    """Write a program into an open file.

    Args:
        program: the program.
        file: the file.
        extra: texts by the names of further files inside it.
    """
    # In memory first: torch's writer ends the process if the disk turns out to be full.
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files=extra)
    file.write(buffer.getbuffer())


def onnx_program(
    program: torch.export.ExportedProgram, inputs: Sequence[str], outputs: Sequence[str],
    opset_version: int | None,
) -> Any:  # fmt: skip
    """Translate a program to ONNX.

    Args:
        program: the program.
        inputs: the names of its inputs.
        outputs: the names of its outputs.
        opset_version: the version of the operators; the exporter's own if None.

    Raises:
        UnsupportedOpsError: ONNX lacks an operation.
    """
    try:
        with quiet():
            return torch.onnx.export(
                program, (), input_names=list(inputs), output_names=list(outputs), dynamo=True,
                opset_version=opset_version, verbose=False,
            )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        chain, text = error, ""
        while chain is not None:
            text, chain = f"{text} {chain}", chain.__cause__
        ops = re.findall(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", text)
        raise UnsupportedOpsError(ops, text) from error
