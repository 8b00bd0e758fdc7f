"""Models as ONNX files, by torch's exporter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from keraslite.export.concrete import torch_program
from keraslite.export.limits import refusing
from keraslite.export.signature import Signature

_LARGE = 1_900_000_000  # bytes: protobuf holds 2 GB, so that weights of more lie beside the file


def prepare(
    model: Any, signature: Signature, metadata: dict[str, str], opset_version: int | None = None
) -> Callable[[Path], None]:
    """Return what writes a model as an ONNX file.

    Args:
        model: a built model, on any backend.
        signature: its inputs, whose names the inputs of the file have.
        metadata: what is written inside.
        opset_version: the version of ONNX's operators; the exporter's own by default.

    Raises:
        NotImplementedError: the format lacks an operation of the model.
    """
    write, _ = writer(model, signature, metadata, opset_version)
    return write


def writer(
    model: Any, signature: Signature, metadata: dict[str, str], opset_version: int | None = None
) -> tuple[Callable[[Path], None], Any]:
    """Return what writes a model as an ONNX file, and the names of its outputs, nested.

    Args:
        model: as of `prepare`.
        signature: as of `prepare`.
        metadata: as of `prepare`.
        opset_version: as of `prepare`.

    Raises:
        NotImplementedError: as of `prepare`.
    """
    from keraslite.backend.torch import export

    with refusing("onnx", model):
        concrete = torch_program(model, signature)
        program = export.onnx_program(
            concrete.program, signature.names, concrete.output_names, opset_version
        )
    large = export.num_bytes(concrete.program) > _LARGE
    program.model.metadata_props.update(metadata)
    return lambda path: program.save(path, external_data=large), concrete.nested_names
