"""Models as networks of OpenVINO: converted, their weights compressed, and compiled for the CPU."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from keraslite.export.concrete import Concrete, tensorflow_function
from keraslite.export.packages import required
from keraslite.export.signature import Signature

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}  # what is not int8 stays float32


def openvino_model(model: Any, signature: Signature) -> Concrete:
    """Return a model as an `openvino.Model`, the program, whose inputs and outputs have names.

    What is converted is a copy on TensorFlow.

    Args:
        model: a built model, on any backend.
        signature: its inputs.

    Raises:
        ImportError: openvino is not installed.
        NotImplementedError: a layer or an op cannot be converted.
    """
    openvino = required("openvino")
    concrete = tensorflow_function(model, signature)
    try:
        converted = openvino.convert_model(concrete.program)
    except Exception as error:  # the frontends raise what they like
        raise NotImplementedError(
            f"OpenVINO cannot convert model {model.name!r}: {_first_lines(error)}\n"
            "model.export(..., format='onnx') may hold what it has not."
        ) from error
    _name_ports(converted.inputs, signature.names)
    _name_ports(converted.outputs, concrete.output_names)
    return replace(concrete, program=converted)


def _name_ports(ports: Sequence[Any], names: Sequence[str]) -> None:
    """Give ports names, which TensorFlow's function has without the characters it cannot have."""
    by_name = {
        name.partition(":")[0]: port
        for port in ports
        for name in (*port.get_names(), port.get_node().get_friendly_name())
    }
    for name in names:
        port = by_name[re.sub(r"[^\w.]", "_", name)]
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)


def _first_lines(error: BaseException, count: int = 3) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:count])[:500] or type(error).__name__


def compressed(network: Any, batches: Sequence[Sequence[np.ndarray]] | None) -> Any:
    """Return a network in int8: its weights, or with data for calibration all that is fast in it.

    Args:
        network: an `openvino.Model`.
        batches: arrays in the order of its inputs; None to compress the weights alone, which are
            multiplied in float32.

    Raises:
        ImportError: nncf is not installed.
    """
    nncf = required("nncf")
    if batches is None:
        return nncf.compress_weights(network, mode=nncf.CompressWeightsMode.INT8_ASYM)
    names = [port.get_any_name() for port in network.inputs]
    rows = [dict(zip(names, arrays, strict=True)) for arrays in batches]
    kind = nncf.ModelType.TRANSFORMER if _has_attention(network) else None
    return nncf.quantize(network, nncf.Dataset(rows), model_type=kind, subset_size=len(rows))


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
        inputs: the names of the inputs, in the order of those of `run`.
        outputs: the names of the outputs, in the order in which `run` returns them.
    """

    def __init__(
        self, network: Any, precision: str, inputs: Sequence[str], outputs: Sequence[str]
    ):
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY",
        }  # fmt: skip
        self._compiled = required("openvino").Core().compile_model(network, "CPU", settings)
        places = {name: i for i, x in enumerate(network.inputs) for name in x.get_names()}
        self._inputs = [places[name] for name in inputs]
        places = {name: i for i, x in enumerate(network.outputs) for name in x.get_names()}
        self._outputs = [places[name] for name in outputs]
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
            batches: lists of arrays, by which int8 is calibrated; None for weights in int8 alone.
        """
        concrete = openvino_model(model, signature)
        network = concrete.program
        if precision == "int8":
            network = compressed(network, batches)
        return cls(network, precision, signature.names, concrete.output_names)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs for inputs in order.

        Args:
            arrays: of the dtypes of the inputs.
        """
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        outputs = request.infer(dict(zip(self._inputs, arrays, strict=True)), share_inputs=True)
        results = [outputs[i] for i in self._outputs]
        self._idle.append(request)
        return results
