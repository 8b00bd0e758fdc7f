"""Whole models as `.h5`, as Keras 3 still writes them in the format of Keras 2."""

import json
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from keraslite import losses, metrics
from keraslite.registry import get_registered_name, public_class, serialize_keras_object
from keraslite.saving.atomic import replacing
from keraslite.saving.h5_files import import_h5py
from keraslite.saving.keras_file import KERAS_VERSION, compile_config_of
from keraslite.saving.legacy_h5 import MODEL_WEIGHTS, TOP_LEVEL, layer_weights, own_weights
from keraslite.variable import Variable

_BY_SHAPES = ("accuracy", "acc", "crossentropy", "ce")  # metrics chosen by targets and outputs
_MOST_OF_ATTRIBUTE = 64_512  # bytes, in HDF5


def save_legacy_model(model: Any, path: Path, include_optimizer: bool = True) -> None:
    """Save config, weights, compile arguments and optimizer as Keras 3 does in a `.h5` file.

    Args:
        model: a built model.
        path: the file.
        include_optimizer: whether compile arguments and the optimizer's state are saved.

    Raises:
        ImportError: h5py is not installed.
        OSError: the file could not be written; what was there before is unchanged.
        ValueError: the model has low-rank updates, or is no model.
    """
    if not hasattr(model, "layers") or not model.built:
        raise ValueError(f"A .h5 file holds a model that is built, got {model!r:.60}.")
    layers = model.flatten_layers()
    if any(getattr(x, "lora_enabled", False) or x.quantization_mode == "float8" for x in layers):
        raise ValueError(
            f"A .h5 file has no place for low-rank updates, nor for the scales of float8, which "
            f"{model.name!r} has: save it as {path.stem}.keras."
        )
    warnings.warn(
        f"{path.name} is in the format of Keras 2, which holds neither vocabularies nor random "
        f"states: save the model as {path.stem}.keras where nothing else is needed.",
        stacklevel=4,
    )
    cls = public_class(type(model))
    parts = serialize_keras_object(model)
    parts = {key: parts[key] for key in ("config", "build_config") if parts.get(key)}
    origin = {"keras_version": KERAS_VERSION, "backend": model.backend}
    texts = origin | {
        "model_config": json.dumps({"class_name": get_registered_name(cls)} | parts),
    }
    training = _training_config(model) if include_optimizer else None
    if training is not None:
        texts["training_config"] = json.dumps(training)
    with replacing(path) as target, import_h5py().File(target, "w") as file:
        file.attrs.update(texts)
        group = file.create_group(MODEL_WEIGHTS)
        group.attrs.update(origin)  # without which tf.keras takes the weights for those of Keras 1
        rows = layer_weights(model)
        _write_names(group, "layer_names", [name for name, _ in rows])
        for name, weights in (*rows, (TOP_LEVEL, own_weights(model))):
            _write_weights(group.require_group(name), weights)
        if training is not None and model.optimizer.built:
            _write_weights(file.create_group("optimizer_weights"), model.optimizer.variables)


def _training_config(model: Any) -> dict[str, Any] | None:
    """Return the arguments of `compile` as these files hold them: functions by their names."""
    config, _ = compile_config_of(model)
    if config is None:
        return None
    optimizer = config["optimizer"]
    name = optimizer.get("registered_name") or optimizer["class_name"]
    registries = {"loss": losses, "metrics": metrics, "weighted_metrics": metrics}
    return {
        key: _named(value, registries.get(key))
        for key, value in config.items()
        if key != "optimizer"
    } | {"optimizer_config": {"class_name": name, "config": optimizer["config"]}}


def _named(value: Any, registry: Any) -> Any:
    """Return losses and metrics as Keras reads them here: objects, and a user's functions by name.

    Keras does not read the names that it writes itself, such as "mse".
    """
    if isinstance(value, str) and registry is not None and value not in _BY_SHAPES:
        function = getattr(registry.get(value), "__name__", value).replace("_", "").lower()
        for name in registry.__all__:
            if name.lower() == function and isinstance(getattr(registry, name), type):
                config = {"name": value} if registry is metrics else {}
                return {"class_name": name, "config": config}
    if isinstance(value, dict) and value.get("class_name") == "function":
        return value["config"]
    if isinstance(value, dict) and "class_name" not in value:
        return {key: _named(x, registry) for key, x in value.items()}
    return [_named(x, registry) for x in value] if isinstance(value, list | tuple) else value


def _write_weights(group: Any, variables: Iterable[Variable]) -> None:
    """Write variables under their paths, and list those in order."""
    counts: Counter[str] = Counter()
    names = []
    for variable in variables:
        number = counts[variable.path]
        counts[variable.path] += 1
        names.append(f"{variable.path}_{number}" if number else variable.path)
        array = np.asarray(variable.numpy())
        is_half = array.dtype.name == "bfloat16"  # HDF5 does not know it
        group.create_dataset(names[-1], data=array.astype("float32") if is_half else array)
    _write_names(group, "weight_names", names)


def _write_names(group: Any, attribute: str, names: list[str]) -> None:
    """Write a list of names into an attribute, or into several where it is too long for one."""
    whole = np.array([name.encode() for name in names], "S") if names else np.array([], "S1")
    parts = -(-max(whole.nbytes, 1) // _MOST_OF_ATTRIBUTE)
    if parts == 1:
        group.attrs[attribute] = whole
        return
    for i, part in enumerate(np.array_split(whole, parts + 1)):
        group.attrs[f"{attribute}{i}"] = part
