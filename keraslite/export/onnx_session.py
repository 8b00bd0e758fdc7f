"""Models as sessions of onnxruntime, on the CPU."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from keraslite.export import onnx
from keraslite.export.packages import required
from keraslite.export.signature import Signature

# What onnxruntime multiplies in int8 faster than in float32; of convolutions it has slow ones only.
_QUANTIZED = ["MatMul", "Gemm", "Gather", "LSTM", "Attention"]


class OnnxSession:
    """A network that onnxruntime runs on the CPU; several threads may run it at once.

    Args:
        path: of an ONNX file.
        outputs: the names of its outputs, nested as the model gives them.

    Attributes:
        outputs: as given.
    """

    def __init__(self, path: Path, outputs: Any):
        self.outputs = outputs
        runtime = required("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # it warns of initializers that it removes
        self._session = runtime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {x.name for x in self._session.get_inputs()}  # unused ones are gone
        self._names = [x.name for x in self._session.get_outputs()]

    @staticmethod
    def check(precision: str) -> None:
        """Raise an error if onnxruntime cannot run a precision.

        Args:
            precision: "float32", "bfloat16" or "int8".

        Raises:
            ImportError: onnxruntime is not installed.
            NotImplementedError: it has no such precision.
        """
        required("onnxruntime")
        if precision == "bfloat16":
            raise NotImplementedError(
                "onnxruntime has no bfloat16 on CPUs: take engine='openvino', or another precision."
            )

    @classmethod
    def make(cls, model: Any, signature: Signature, precision: str) -> Self:
        """Return the session of a model.

        Args:
            model: a built model.
            signature: its inputs.
            precision: "float32", or "int8" for products in int8, whose ranges are found as it runs.
        """
        write, outputs = onnx.writer(model, signature, {})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            write(path)
            if precision == "int8":
                path = _quantized(path)
            return cls(path, outputs)

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name.

        Args:
            arrays: the inputs by name, of the dtypes of the network.
        """
        inputs = {name: array for name, array in arrays.items() if name in self._inputs}
        outputs = self._session.run(self._names, inputs)
        return dict(zip(self._names, outputs, strict=True))


def _quantized(path: Path) -> Path:
    """Write a file with weights in int8 beside a file, and return its path."""
    quantization = required("onnxruntime.quantization")
    new = path.with_name("int8.onnx")
    external = any(p != path for p in path.parent.iterdir())
    quantization.quantize_dynamic(
        path, new, op_types_to_quantize=_QUANTIZED, use_external_data_format=external,
        weight_type=quantization.QuantType.QInt8, extra_options={"MatMulConstBOnly": True},
    )  # fmt: skip
    return new
