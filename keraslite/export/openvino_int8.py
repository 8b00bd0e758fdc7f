"""Networks of OpenVINO in int8, which a process of its own quantizes.

nncf does it, which imports torch whatever the backend is, and reports its use. So it runs in
`python -m keraslite.export.openvino_int8 FOLDER`, which imports no framework: the network and the
inputs of the calibration lie in the folder, and the network in int8 is written beside them.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keraslite.export.packages import required, without_telemetry

_NETWORK, _QUANTIZED, _CALIBRATION = "network.xml", "int8.xml", "calibration"
_ABSENT = ("torch", "tensorflow", "jax", "onnx")
_LINES = 12  # of what the process said, in the error


def in_int8(network: Any, batches: Sequence[Mapping[str, np.ndarray]] | None) -> Any:
    """Return a network in int8: its weights, or with data for calibration all that is fast in it.

    Args:
        network: an `openvino.Model`.
        batches: inputs by name; None for the weights alone, whose products are in float32.

    Raises:
        RuntimeError: the process that quantizes failed; the message has its last lines.
    """
    ov = required("openvino")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ov.save_model(network, folder / _NETWORK, compress_to_fp16=False)
        if batches is not None:
            (folder / _CALIBRATION).mkdir()
            for i, batch in enumerate(batches):
                np.savez(folder / _CALIBRATION / f"{i:06}.npz", **batch)
        _run(folder)
        core = ov.Core()
        core.set_property({"ENABLE_MMAP": False})  # the files go
        return core.read_model(folder / _QUANTIZED)


def _run(folder: Path) -> None:
    command = [sys.executable, "-P", "-m", __name__, str(folder)]
    with without_telemetry():
        # The path is whatever made these packages importable here.
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", check=False,
        )  # fmt: skip
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-_LINES:])
        raise RuntimeError(
            f"The process that quantizes for OpenVINO ended with status {done.returncode}. Its "
            f"last lines:\n{last}"
        )


# -- in the process of its own --------------------------------------------------------------------


def quantize(folder: Path) -> None:
    """Write the network of a folder in int8 beside it.

    Args:
        folder: with the network, and perhaps the inputs of a calibration.
    """
    import nncf
    import openvino as ov

    core = ov.Core()
    core.set_property({"ENABLE_MMAP": False})
    network = core.read_model(folder / _NETWORK)
    if (folder / _CALIBRATION).is_dir():
        files = sorted((folder / _CALIBRATION).iterdir())
        quantized = nncf.quantize(
            network, nncf.Dataset(files, _read), subset_size=len(files),
            model_type=nncf.ModelType.TRANSFORMER if _has_attention(network) else None,
        )  # fmt: skip
    else:
        quantized = nncf.compress_weights(network, mode=nncf.CompressWeightsMode.INT8_ASYM)
    ov.save_model(quantized, folder / _QUANTIZED, compress_to_fp16=False)


def _read(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return dict(arrays)


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


if __name__ == "__main__":
    for name in _ABSENT:
        sys.modules[name] = None  # as if it were not installed: nncf would import it
    quantize(Path(sys.argv[1]))
