"""Networks of OpenVINO, compiled for the CPU."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from keraslite.export.concrete import tensorflow_function
from keraslite.export.limits import refusing
from keraslite.export.openvino import converted_model
from keraslite.export.packages import required
from keraslite.export.signature import Signature

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVINOSession:
    """A network that OpenVINO compiled for the CPU; several threads may run it at once.

    Args:
        network: an `openvino.Model`.
        precision: "float32" or "bfloat16".
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
            ImportError: openvino is not installed.
            NotImplementedError: the engine has no such precision, or the processor would have to
                emulate it.
        """
        core = required("openvino").Core()
        if precision == "int8":
            raise NotImplementedError(
                "int8 runs on engine='onnxruntime' alone: nncf, which quantizes networks of "
                "OpenVINO, damages the memory of a process that holds other frameworks too."
            )
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bfloat16" and "BF16" not in able:
            raise NotImplementedError(
                "This processor has no bfloat16 instructions, and emulated they are tens of times "
                f"slower than float32: take precision='float32' or 'int8'. OpenVINO has {able} "
                "here."
            )

    @classmethod
    def make(cls, model: Any, signature: Signature, precision: str) -> Self:
        """Return the session of a model.

        Args:
            model: a built model.
            signature: its inputs.
            precision: "float32" or "bfloat16".
        """
        with refusing("openvino", model):
            concrete = tensorflow_function(model, signature)
            network = converted_model(concrete)
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
