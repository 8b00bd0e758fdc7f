"""Models as OpenVINO's intermediate representation: an .xml file and a .bin file beside it."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keraslite.export.concrete import tensorflow_function
from keraslite.export.limits import refusing
from keraslite.export.packages import without_telemetry
from keraslite.export.signature import Signature


def prepare(
    model: Any, signature: Signature, metadata: dict[str, str], compress_to_fp16: bool = False
) -> Callable[[Path], None]:
    """Return what writes a model as OpenVINO's files.

    Args:
        model: a built model, on any backend.
        signature: its inputs, whose names the inputs of the file have.
        metadata: what is written inside, as `rt_info` under "keraslite".
        compress_to_fp16: whether weights are stored in 16 bits.

    Raises:
        NotImplementedError: the format lacks an operation of the model.
    """
    import openvino as ov

    with refusing("openvino", model):
        concrete = tensorflow_function(model, signature)
        converted = converted_model(concrete)
    for name, value in metadata.items():
        converted.set_rt_info(value, ["keraslite", name])
    return lambda path: ov.save_model(converted, str(path), compress_to_fp16=compress_to_fp16)


def converted_model(concrete: Any) -> Any:
    """Return a model of OpenVINO, whose inputs and outputs have the names of the model's.

    Args:
        concrete: what `tensorflow_function` gave.

    Raises:
        UnsupportedOps: OpenVINO lacks an operation.
    """
    import openvino as ov

    from keraslite.backend.errors import UnsupportedOps

    try:
        with without_telemetry():
            converted = ov.convert_model(concrete.program)
    except Exception as error:  # whose class is private
        text = str(error)
        ops = re.findall(r"[Nn]o (?:translator|conversion rule) found for (?:operation\(s\): )?([\w, ]+)", text)
        names = [name for group in ops for name in group.replace(" ", "").split(",")]
        raise UnsupportedOps(names, text) from error
    _name_ports(converted.inputs, concrete.signature.names)
    _name_ports(converted.outputs, concrete.output_names)
    return converted


def _name_ports(ports: Sequence[Any], names: Sequence[str]) -> None:
    """Give ports the names of inputs or outputs, which they have in TensorFlow's form."""
    by_name = {
        own.partition(":")[0]: port
        for port in ports
        for own in (*port.get_names(), port.get_node().get_friendly_name())
    }
    for name in names:
        by_name[re.sub(r"[^\w.]", "_", name)].get_tensor().set_names({name})
