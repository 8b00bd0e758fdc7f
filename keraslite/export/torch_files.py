"""Models as programs of torch.export (.pt2), and of ExecuTorch (.pte)."""

import json
from collections.abc import Callable
from typing import Any, BinaryIO

from keraslite.export.concrete import torch_program
from keraslite.export.limits import refusing
from keraslite.export.signature import Signature

_MOST_ROWS, _MOST_STEPS = 32, 512  # for which ExecuTorch plans its memory


def prepare(
    model: Any, signature: Signature, metadata: dict[str, str], **options: Any
) -> Callable[[BinaryIO], None]:
    """Return what writes a model as a program of torch.export.

    `torch.export.load(path).module()` takes the inputs in order and returns what the model does.

    Args:
        model: a built model, on any backend.
        signature: its inputs.
        metadata: the extra file "metadata.json" of the program, beside the names of the inputs.
        options: arguments of `torch.export.export`.
    """
    from keraslite.backend.torch import export

    with refusing("torch", model):
        concrete = torch_program(model, signature, **options)
    names = {"inputs": signature.names, "outputs": concrete.output_names}
    extra = {"metadata.json": json.dumps(metadata | names)}
    return lambda file: export.save(concrete.program, file, extra)


def prepare_executorch(
    model: Any, signature: Signature, metadata: dict[str, str],
    max_sizes: dict[int, int] | None = None, partitioner: Any = None,
) -> Callable[[BinaryIO], None]:  # fmt: skip
    """Return what writes a model as a program of ExecuTorch.

    Args:
        model: a built model, on any backend.
        signature: its inputs.
        metadata: not written: the format has no place for it.
        max_sizes: the largest size of free axes by their place, for which memory is planned;
            32 of the batch and 512 of others by default.
        partitioner: a list of partitioners; XNNPACK's by default.

    Raises:
        NotImplementedError: the format lacks an operation of the model.
    """
    from keraslite.backend.torch import executorch, export

    sizes = {0: _MOST_ROWS} | (max_sizes or {})
    most = [{axis: sizes.get(axis, _MOST_STEPS) for axis in spec.free_axes}
            for spec in signature.specs]  # fmt: skip
    with refusing("executorch", model):
        concrete = torch_program(model, signature, dynamic_shapes=export.bounded(most))
        data = executorch.lowered(concrete.program, partitioner)

    def write(file: BinaryIO) -> None:
        file.write(data)

    return write
