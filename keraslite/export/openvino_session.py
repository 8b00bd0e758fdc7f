"""Networks of OpenVINO, compiled for the CPU."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from keraslite.export.concrete import tensorflow_function
from keraslite.export.limits import refusing
from keraslite.export.openvino import converted_model
from keraslite.export.openvino_int8 import in_int8
from keraslite.export.packages import check_installed, required
from keraslite.export.signature import Signature

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}  # what is not int8 stays float32


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
            ImportError: openvino is not installed, or nncf, which int8 needs.
            NotImplementedError: the processor would have to emulate the precision.
        """
        core = required("openvino").Core()
        if precision == "int8":
            check_installed("nncf")
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bfloat16" and "BF16" not in able:
            raise NotImplementedError(
                "This processor has no bfloat16 instructions, and emulated they are tens of times "
                f"slower than float32: take precision='float32' or 'int8'. OpenVINO has {able} "
                "here."
            )

    @classmethod
    def make(
        cls, model: Any, signature: Signature, precision: str,
        batches: Sequence[Mapping[str, np.ndarray]] | None,
    ) -> Self:  # fmt: skip
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
            network = in_int8(network, batches)
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
