"""Packages that exports need, with the extras that bring them."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_EXTRAS = {"openvino": "openvino", "onnx": "onnx", "onnxruntime": "onnx"}


def required(name: str) -> Any:
    """Return a module of an optional package.

    Args:
        name: of the module.

    Raises:
        ImportError: it is not installed; the message names the extra.

    >>> required("json").dumps([1])
    '[1]'
    """
    try:
        with without_telemetry():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        extra = _EXTRAS.get(name.partition(".")[0])
        bring = f"pip install 'keraslite-hub[{extra}]'" if extra else f"pip install {name}"
        raise ImportError(f"{name!r} is not installed, which this needs: {bring}.") from error


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Have OpenVINO's tools send nothing in a block.

    Unasked they report their import and each conversion to their authors, from a process that they
    fork: with the threads of JAX that may never return, and without a network it takes seconds. The
    switch that they have is the variable by which continuous integration is known.
    """
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before
