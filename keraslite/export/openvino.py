"""Models as OpenVINO's intermediate representation: an .xml file and a .bin file beside it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keraslite.backend.errors import UnsupportedOpsError
from keraslite.export.concrete import tensorflow_function
from keraslite.export.limits import refusing
from keraslite.export.packages import required, without_telemetry
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
    ov = required("openvino")
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
        UnsupportedOpsError: OpenVINO lacks an operation.
    """
    ov = required("openvino")
    try:
        with without_telemetry():
            # With weights of its own: shared ones would end with the function.
            converted = ov.convert_model(concrete.program, share_weights=False)
    except Exception as error:  # whose class is private
        text = str(error)
        listed = re.findall(r"No conversion rule found for operations: ([\w, ]+)", text)
        names = [name.strip() for part in listed for name in part.split(",")]
        raise UnsupportedOpsError(names, text) from error
    for port in converted.inputs:  # in an order of OpenVINO's own
        port.get_tensor().set_names({concrete.input_names[port.get_any_name()]})
    for port in converted.outputs:
        port.get_tensor().set_names(port.get_names() & set(concrete.output_names))
    return converted
