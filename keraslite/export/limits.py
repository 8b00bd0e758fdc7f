"""Errors for models that a format cannot hold, with formats that can."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keraslite.backend.errors import UnsupportedOpsError

# Formats that hold more than another: what to try where it refuses a model.
_OTHERS = {
    "tf_saved_model": ("stablehlo", "torch"),
    "onnx": ("tf_saved_model", "openvino"),
    "openvino": ("tf_saved_model", "onnx"),
    "litert": ("tf_saved_model", "onnx"),
    "tfjs": ("tf_saved_model", "onnx"),
    "torch": ("tf_saved_model", "onnx"),
    "executorch": ("torch", "litert"),
    "stablehlo": ("tf_saved_model", "torch"),
}


_SHORT = 100  # characters of what an exporter says, which a message can hold


def others(format: str) -> str:
    """Return formats that may hold what another cannot, as words."""
    return " or ".join(map(repr, _OTHERS[format]))


@contextmanager
def refusing(format: str, model: Any) -> Iterator[None]:
    """Tell which operations of a model a format lacks, where an exporter meets them in the block.

    Args:
        format: the name of the format.
        model: the model.

    Raises:
        NotImplementedError: it lacks some.
    """
    try:
        yield
    except UnsupportedOpsError as error:
        said = " ".join(str(error).split())[:400]
        many = "operations" if len(error.ops) > 1 else "operation"
        lacks = f"it lacks the {many} {', '.join(error.ops)}"
        if len(said) < _SHORT or not error.ops:
            lacks = f"{lacks} ({said})" if error.ops else said
        raise NotImplementedError(
            f"Format {format!r} cannot hold model {model.name!r}: {lacks}. Try format "
            f"{others(format)}."
        ) from error


def check_layers(format: str, model: Any, texts: bool, home: str) -> None:
    """Raise NotImplementedError if a model has layers that a format cannot hold.

    Args:
        format: the name of the format.
        model: the model.
        texts: whether it holds layers that look texts up.
        home: the backend on which the format is written.
    """
    for layer in model.flatten_layers():
        name = f"Layer {layer.name!r} of the class {type(layer).__name__}"
        if getattr(layer, "runs_on_host", False) and not texts:
            raise NotImplementedError(
                f"{name} looks values up on the host, which format {format!r} cannot hold: export "
                "the model as 'tf_saved_model', or the part of it behind that layer."
            )
        framework = getattr(layer, "_kl_framework", None)
        if framework not in (None, home):
            raise NotImplementedError(
                f"{name} runs code of {framework}, which format {format!r} cannot hold: export "
                f"the model as {_OF_FRAMEWORK[framework]}."
            )


_OF_FRAMEWORK = {
    "torch": "'torch' or 'onnx'",
    "jax": "'stablehlo'",
    "tensorflow": "'tf_saved_model'",
}
