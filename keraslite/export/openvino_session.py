"""Networks of OpenVINO: their weights compressed, and compiled for the CPU."""

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, Self

import numpy as np

from keraslite.export.concrete import tensorflow_function
from keraslite.export.limits import refusing
from keraslite.export.openvino import converted_model
from keraslite.export.packages import required, without_telemetry
from keraslite.export.signature import Signature

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}  # what is not int8 stays float32


def _in_int8(network: Any, batches: Sequence[Mapping[str, np.ndarray]] | None) -> Any:
    """Return a network in int8: its weights, or with data for calibration all that is fast in it.

    Args:
        network: an `openvino.Model`.
        batches: inputs by name; None to compress the weights alone, which are multiplied in
            float32.

    Raises:
        ImportError: nncf is not installed.
    """
    with without_telemetry(), _silent() as nncf:
        if batches is None:
            return nncf.compress_weights(network, mode=nncf.CompressWeightsMode.INT8_ASYM)
        family = nncf.ModelType.TRANSFORMER if _has_attention(network) else None
        return nncf.quantize(
            network, nncf.Dataset(batches), model_type=family, subset_size=len(batches)
        )


@contextmanager
def _silent() -> Iterator[Any]:
    """Give nncf, which else prints tables and bars."""
    with redirect_stdout(io.StringIO()):
        nncf = required("nncf")
        level = logging.getLogger("nncf").level
        nncf.set_log_level(logging.ERROR)
        try:
            yield nncf
        finally:
            nncf.set_log_level(level)


def _has_attention(network: Any) -> bool:
    """Return whether two computed values are multiplied as matrices."""
    return any(
        op.get_type_name() == "ScaledDotProductAttention"
        or (
            op.get_type_name() == "MatMul"
            and not any(_is_constant(x.get_source_output().get_node()) for x in op.inputs())
        )
        for op in network.get_ops()
    )


def _is_constant(node: Any) -> bool:
    while node.get_type_name() in ("Convert", "Reshape", "Transpose") and node.inputs():
        node = node.input(0).get_source_output().get_node()
    return node.get_type_name() == "Constant"


class OpenVINOSession:
    """A network that OpenVINO compiled for the CPU; several threads may run it at once.

    Args:
        network: an `openvino.Model`.
        precision: "float32", "bfloat16" or "int8".
        outputs: the names of its outputs, nested as the model gives them.

    Attributes:
        outputs: as given.
    """

    def __init__(self, network: Any, precision: str, outputs: Any):
        self.outputs = outputs
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY",
        }  # fmt: skip
        self._compiled = required("openvino").Core().compile_model(network, "CPU", settings)
        # By number, at a tenth of the cost of a name.
        self._inputs = {x.get_any_name(): i for i, x in enumerate(network.inputs)}
        self._places = [(x.get_names(), i) for i, x in enumerate(network.outputs)]
        self._idle: list[Any] = []  # requests that no thread runs

    @staticmethod
    def check(precision: str) -> None:
        """Raise an error if OpenVINO or the processor cannot run a precision.

        Args:
            precision: "float32", "bfloat16" or "int8".

        Raises:
            ImportError: openvino is not installed, or what compresses weights.
            NotImplementedError: the processor would have to emulate the precision.
        """
        core = required("openvino").Core()
        if precision == "int8":
            with without_telemetry():
                required("nncf")
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bfloat16" and "BF16" not in able:
            raise NotImplementedError(
                "This processor has no bfloat16 instructions, and emulated they are tens of times "
                f"slower than float32: take precision='float32' or 'int8'. OpenVINO has {able} "
                "here."
            )

    @classmethod
    def make(cls, model: Any, signature: Signature, precision: str, batches: Any) -> Self:
        """Return the session of a model.

        Args:
            model: a built model.
            signature: its inputs.
            precision: "float32", "bfloat16" or "int8".
            batches: inputs by name, by which int8 is calibrated; None for weights in int8 alone.
        """
        with refusing("openvino", model):
            concrete = tensorflow_function(model, signature)
            network = converted_model(concrete)
        if precision == "int8":
            network = _in_int8(network, batches)
        return cls(network, precision, concrete.nested_names)

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name.

        Args:
            arrays: the inputs by name, of the dtypes of the network.
        """
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        inputs = {self._inputs[name]: array for name, array in arrays.items()}
        outputs = request.infer(inputs, share_inputs=True)
        results = {name: outputs[i] for names, i in self._places for name in names}
        self._idle.append(request)
        return results
