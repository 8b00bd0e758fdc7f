"""Exports of tasks: the network in the format of another program, and how its inputs are prepared.

Beside the network a folder has the files of the tokenizer and of the preprocessing, as transformers
reads them, and `preparation.json`, which says what else a program must know.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keraslite as keras
from hub.files import write_json
from hub.preprocessing.summary import parts_of
from keraslite.export.concrete import output_ranks
from keraslite.export.files import write_folder
from keraslite.export.formats import FORMATS, export_model
from keraslite.export.signature import signature_of
from keraslite.saving import replacing_folder

FILE = "preparation.json"
_VERSION = 1


class NetworkPart(keras.Model):
    """A part of a task as a model of its own, with named inputs and outputs.

    Args:
        function: of a module: it takes the layers, and the inputs by name, and returns the outputs
            by name.
        layers: by name.
        inputs: symbolic, by name.

    >>> def double(layers, inputs):
    ...     return {"y": layers["dense"](inputs["x"])}
    >>> dense = keras.layers.Dense(2)
    >>> dense.build((None, 3))
    >>> part = NetworkPart(double, {"dense": dense}, {"x": keras.KerasTensor((None, 3))})
    >>> tuple(part({"x": np.ones((1, 3), "float32")})["y"].shape)
    (1, 2)
    """

    def __init__(
        self,
        function: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]],
        layers: dict[str, Any],
        inputs: dict[str, keras.KerasTensor],
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.parts = layers
        self._kl_function, self._kl_inputs = function, inputs
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Return the outputs by name.

        Args:
            inputs: by name.
            training: without effect.
        """
        return self._kl_function(self.parts, inputs)

    def export_inputs(self) -> list[Any]:
        """Return the symbolic inputs."""
        return [self._kl_inputs]


def network_parts(
    task: Any, networks: Mapping[str, tuple[Any, dict[str, Any], dict[str, Any]]]
) -> dict[str, NetworkPart]:
    """Return networks by name.

    Args:
        task: the task.
        networks: for each the arguments of its `NetworkPart`.
    """
    with keras.use_backend(task.backend):
        return {
            name: NetworkPart(*arguments, name=name, dtype=task.dtype_policy)
            for name, arguments in networks.items()
        }


def export_task(
    task: Any, folder: Any, format: str, verbose: bool | None = None,
    parts: Mapping[str, Any] | None = None, **options: Any,
) -> None:  # fmt: skip
    """Write the networks of a task into a folder, with the files that prepare their inputs.

    Args:
        task: the task.
        folder: made if need be; what it holds under other names stays.
        format: as for `Model.export`.
        verbose: as for `Model.export`.
        parts: the networks by name; the task's `export_parts` by default.
        options: as for `Model.export`.

    Raises:
        ValueError: there is no such format, or the folder has the name of a file.
        OSError: something could not be written; what was there before is unchanged.
    """
    if format not in FORMATS:
        raise ValueError(f"Unknown format {format!r}. Expected one of {', '.join(FORMATS)}.")
    folder = Path(folder)
    if folder.suffix and folder.suffix in {*_endings(), ".keras", ".h5"}:
        raise ValueError(
            f"A task is exported into a folder, for its network and what prepares the inputs, got "
            f"{folder.name!r}. For the network alone: keras.Model.export(task, {folder.name!r}, "
            f"format={format!r})."
        )
    with replacing_folder(folder) as new:
        networks = {}
        for name, part in (parts or task.export_parts()).items():
            file = name + _ending(format)
            export_model(part, new / file, format, verbose, **options)
            networks[name] = {"file": file, **_described(part)}
        prepared = _save_preprocessing(task.preprocessor, new)
        write_json(new / FILE, {**_facts(task, format), "networks": networks, **prepared})


def _ending(format: str) -> str:
    chosen = FORMATS[format]
    return "" if chosen.write is write_folder else chosen.ending or f".{format}"


def _endings() -> set[str]:
    return {_ending(format) for format in FORMATS} - {""}


def _described(part: Any) -> dict[str, Any]:
    """Return the names, shapes or ranks, and dtypes of inputs and outputs."""
    signature = signature_of(part)
    outputs = output_ranks(part, signature)
    return {
        "inputs": {
            spec.name: {"shape": list(spec.shape), "dtype": spec.dtype} for spec in signature.specs
        },
        "outputs": {
            name: {"rank": rank, "dtype": dtype} for name, (rank, dtype) in outputs.items()
        },
    }


def _facts(task: Any, format: str) -> dict[str, Any]:
    """Return what the network is, where it comes from, and what its answers mean."""
    origin = getattr(task.backbone, "source_preset", None) or {}
    return {
        "version": _VERSION, "format": format, "task": task.pipeline or task.task,
        "model_type": task.backbone.family, "preset": origin.get("preset"),
        "license": origin.get("license"), "answers": task.export_answers(),
        "producer": f"keraslite {keras.__version__}",
    }  # fmt: skip


def _save_preprocessing(preprocessor: Any, folder: Path) -> dict[str, Any]:
    """Write the files of a preprocessor, and return what they do, by what is prepared."""
    if preprocessor is None:
        return {}
    prepared: dict[str, Any] = {}
    for part in parts_of(preprocessor) or [preprocessor]:
        if hasattr(part, "vocabulary_size"):
            before = {path.name for path in folder.iterdir()}
            part.save(folder)
            files = sorted({path.name for path in folder.iterdir()} - before)
            prepared["text"] = {
                "tokenizer": type(part).__name__, "files": files,
                "sequence_length": getattr(preprocessor, "sequence_length", None),
                "truncate": getattr(preprocessor, "truncate", None),
                "pad_token_id": getattr(part, "pad_token_id", None),
            }  # fmt: skip
        else:
            part.save(folder)
            name = "audio" if hasattr(part, "num_mels") else "images"
            layout = {} if name == "audio" else {"layout": "NHWC", "channels": "RGB"}
            files = ["preprocessor_config.json"]
            prepared[name] = {"files": files, **layout, **part.get_config()}
    return prepared
