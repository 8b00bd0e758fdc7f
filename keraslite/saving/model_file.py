"""Whole models as one file, or as a folder, that load on any backend.

Configs name classes of the registry, and no code in them runs.
"""

import json
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from keraslite import backend as backends
from keraslite import registry
from keraslite.registry import custom_object_scope
from keraslite.saving.archive import (
    CONFIG,
    OPTIMIZER,
    VERSION,
    WEIGHTS,
    open_model,
)
from keraslite.saving.keras_archive import is_keras_file
from keraslite.saving.keras_file import load_keras, named, save_keras
from keraslite.saving.legacy_h5 import ENDINGS, is_legacy_h5
from keraslite.saving.legacy_model import load_legacy_model
from keraslite.saving.legacy_writing import save_legacy_model
from keraslite.saving.orbax import (
    assign_checkpoint,
    is_checkpoint,
    read_checkpoint,
    restore_paths,
)
from keraslite.saving.paths_v1 import restore_quantized_v1
from keraslite.saving.tensorflow_files import is_saved_model
from keraslite.saving.weight_files import (
    assign_strictly,
    check_filename,
    optimizer_state,
    target,
    weights_of,
)
from keraslite.variable import Variable

MODEL_ENDINGS = (".keras",)


def training_state(model: Any, version: int = VERSION) -> dict[str, Variable]:
    """Return all that `fit` changes: weights, random states, optimizers, metrics.

    Args:
        model: a built model.
        version: the version of the format whose paths are wanted.
    """
    metrics = {
        f"metrics/{i}/{j}": variable
        for i, metric in enumerate(model.metrics)
        for j, variable in enumerate(metric.variables)
    }
    weights = {f"weights/{k}": v for k, v in weights_of(model, version).items()}
    return weights | {f"optimizer/{k}": v for k, v in optimizer_state(model).items()} | metrics


def save_model(
    model: Any, filepath: Any, overwrite: bool = True, zipped: bool | None = None,
    include_optimizer: bool = True, weights_format: str = "h5",
) -> None:  # fmt: skip
    """Save config, weights, compile arguments and optimizer in one file, which Keras opens too.

    Args:
        model: a built model, or a layer.
        filepath: the file, which ends with `.keras`, or the folder; with `.h5` it is in the format
            of Keras 2, as Keras 3 writes it.
        overwrite: whether an existing file is replaced.
        zipped: False for a folder of files in the place of one file.
        include_optimizer: whether the optimizer's state is saved, so that training can go on.
        weights_format: "h5"; or "safetensors" for weights that are mapped when they are loaded,
            which Keras does not open.

    Raises:
        ImportError: h5py is not installed, and `weights_format` is "h5".
        OSError: the file could not be written; what was there before is unchanged.
        ValueError: the name has another ending.

    Example:
        >>> import tempfile
        >>> model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(model, f"{folder}/model.keras")
        ...     load_model(f"{folder}/model.keras", backend="numpy").backend
        'numpy'
    """
    if Path(filepath).suffix == ".klm":
        raise ValueError(
            "Files that end with .klm are read and not written any more: save the model as "
            f"{Path(filepath).stem}.keras, with weights_format='safetensors' for weights that are "
            "mapped."
        )
    if is_legacy_h5(Path(filepath)) and zipped is None:
        path = target(filepath, overwrite, ENDINGS)
        return save_legacy_model(model, path, include_optimizer)
    if zipped is False:
        path = _folder(filepath, overwrite)
    else:
        path = target(filepath, overwrite, MODEL_ENDINGS)
    save_keras(model, path, zipped is not False, include_optimizer, weights_format)


def _folder(filepath: Any, overwrite: bool) -> Path:
    path = Path(filepath)
    if path.suffix in (".klm", ".keras", ".h5", ".hdf5"):
        raise ValueError(f"With zipped=False the name must be that of a folder, got {path.name!r}.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=True replaces the model in it.")
    return path


def load_model(
    filepath: Any,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    backend: str | None = None,
) -> Any:
    """Load a model saved by `save_model`, or by Keras, on any backend.

    Args:
        filepath: the file, the folder, a checkpoint that the callback OrbaxCheckpoint wrote, or
            a `.h5` or `.hdf5` file of Keras 2, tf.keras or Keras 3.
        custom_objects: classes and functions by name, beside the registered ones.
        compile: whether the model is compiled as it was, its optimizer's state included.
        safe_mode: whether a Lambda layer of bytecode is refused; False runs what the file says.
        backend: the backend to load on; the current one by default.

    Raises:
        ValueError: the file is damaged, names something that is not registered, or is a SavedModel.
    """
    path = Path(filepath)
    if is_saved_model(path):
        raise ValueError(
            f"{path} is a SavedModel of TensorFlow, which has functions and no config of a model: "
            f"run it by keraslite.layers.TFSMLayer({str(path)!r}, call_endpoint='serve' or "
            "'serving_default'), on any backend. If tf.keras saved it, make the model by code, and "
            "its load_weights() of this folder takes the weights."
        )
    if is_legacy_h5(path):
        return load_legacy_model(path, custom_objects, compile, safe_mode, backend)
    check_filename(path, ".keras")
    if is_checkpoint(path):
        return _load_checkpoint(path, custom_objects, compile, safe_mode, backend)
    with (
        backends.backend_scope(backend or backends.backend()),
        custom_object_scope(custom_objects or {}),
    ):
        if is_keras_file(path):
            deserialize = partial(_deserialize, safe_mode=safe_mode, path=path)
            return load_keras(path, compile, deserialize, _compile)
        return _load_klm(path, compile, safe_mode)


def _load_klm(path: Path, compile: bool, safe_mode: bool) -> Any:
    members = open_model(path)
    version, config = members.version(), members.json(CONFIG)
    members.check_sums()
    with named(path):
        model = _deserialize(config["model"], safe_mode, path)
        if version == 1:
            restore_quantized_v1(model, config["model"].get("build_config"))
        weights = weights_of(model, version)
        assign_strictly(weights, members.tensors(WEIGHTS), where=path)
        for name, variable in weights.items():
            variable.path = (config.get("paths") or {}).get(name, variable.path)
        problem = config.get("compile_problem")
        if compile and config.get("compile"):
            problem = _compile(model, config["compile"])
            if problem is None and OPTIMIZER in members:
                assign_strictly(optimizer_state(model), members.tensors(OPTIMIZER), where=path)
    if compile and problem:
        warnings.warn(f"{path}: the model is not compiled: {problem}", stacklevel=3)
    return model


def _compile(model: Any, config: Any) -> str | None:
    """Compile a model by a config; return the reason where that fails."""
    try:
        model.compile_from_config(config)
    except TypeError as error:
        return (
            f"{error}. A class whose compile() takes arguments of its own writes "
            "get_compile_config() and compile_from_config() too."
        )
    except ValueError as error:
        raise ValueError(
            f"the model cannot be compiled as it was: {error} Or load it with compile=False."
        ) from error
    return None


def _load_checkpoint(
    path: Path, custom_objects: Any, compile: bool, safe_mode: bool, backend: str | None
) -> Any:
    """Load a model from a checkpoint of orbax."""
    parts = read_checkpoint(path)
    if "model_config" not in parts:
        raise ValueError(
            f"{path} was saved with save_weights_only=True, so that it has no config: make the "
            "model, and call its load_weights()."
        )
    config = json.loads(parts["model_config"]["config"])
    with (
        backends.backend_scope(backend or backends.backend()),
        custom_object_scope(custom_objects or {}),
    ):
        model = _deserialize(config, safe_mode, path)
        restore_paths(model, parts["pytree"], config.get("variable_paths"))
        problem = None
        if compile and config.get("compile_config"):
            problem = _compile(model, config["compile_config"])
        assign_checkpoint(model, parts["pytree"], path)
    if problem:
        warnings.warn(f"{path}: the model is not compiled: {problem}", stacklevel=3)
    return model


def _deserialize(config: Any, safe_mode: bool, path: Path) -> Any:
    """Make the model of a config, which must say how it is built."""
    token = registry.safe_mode.set(safe_mode and registry.safe_mode.get())
    try:
        model = registry.deserialize_keras_object(config)
    finally:
        registry.safe_mode.reset(token)
    if not getattr(model, "built", False):
        raise ValueError(
            f"{path}: the saved {config.get('class_name')} does not say how it is "
            "built. Give its class get_build_config() and build_from_config()."
        )
    return model
