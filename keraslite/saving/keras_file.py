"""Whole models in Keras's version 3 format: the installed Keras opens what is saved here.

What only keraslite keeps (random states, low-rank updates beside their weight) lies in a member of
its own, and the paths of variables in an entry of the config; Keras ignores both.
"""

import datetime
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keraslite import registry
from keraslite.registry import serialize_keras_object
from keraslite.saving.archive import CONFIG, METADATA, OPTIMIZER, WEIGHTS
from keraslite.saving.atomic import replacing, replacing_folder
from keraslite.saving.keras_archive import (
    ASSETS,
    H5_WEIGHTS,
    NPZ_WEIGHTS,
    OWN,
    ArchiveWriter,
    FolderWriter,
    KerasMembers,
    open_keras,
)
from keraslite.saving.keras_layout import saved_objects
from keraslite.saving.keras_weights import counts_variables, load_state, open_member, write_state
from keraslite.saving.safetensors import open_safetensors, serialized
from keraslite.saving.weight_files import assign_own, assign_strictly, optimizer_state, weights_of
from keraslite.variable import Variable

KERAS_VERSION = "3.15.1"  # whose format is written
WEIGHTS_FORMATS = ("h5", "safetensors")
_ENTRY = "keraslite"  # of the config
_MEMBERS = {METADATA, CONFIG, H5_WEIGHTS, NPZ_WEIGHTS, WEIGHTS, OPTIMIZER, OWN}


def save_keras(
    model: Any, path: Path, zipped: bool, include_optimizer: bool, weights_format: str
) -> None:
    """Save a model in Keras's format.

    Args:
        model: a built model or layer.
        path: the archive, or the folder.
        zipped: whether it is an archive.
        include_optimizer: whether the optimizer's state is saved.
        weights_format: "h5", or "safetensors", which Keras does not open.

    Raises:
        ValueError: `weights_format` is another.
        OSError: it could not be written; what was there before is unchanged.
    """
    if weights_format not in WEIGHTS_FORMATS:
        raise ValueError(
            f"weights_format must be one of {WEIGHTS_FORMATS}, got {weights_format!r}."
        )
    weights = weights_of(model)
    config = serialize_keras_object(model)
    compile_config, problem = compile_config_of(model)
    if compile_config is not None:
        config["compile_config"] = compile_config
    # What optimizers choose by: a loaded layer is built before the model around it.
    paths = {name: v.path for name, v in weights.items()}
    config[_ENTRY] = {"paths": paths, "compile_problem": problem}
    date = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    metadata = {"keras_version": KERAS_VERSION, "date_saved": date, "made_on": model.backend}
    optimizers = model.all_optimizers() if hasattr(model, "all_optimizers") else []
    skip = () if include_optimizer and compile_config else optimizers
    texts = {METADATA: json.dumps(metadata), CONFIG: json.dumps(config)}

    def write(writer: Any) -> None:
        for name, text in texts.items():
            writer.add(name, [text.encode()])
        if weights_format == "h5":
            with writer.open(H5_WEIGHTS) as file:
                write_state(model, file, skip)
            own = _not_in_h5(model, weights)
            if own:
                writer.add(OWN, serialized(own))
        else:
            writer.add(WEIGHTS, serialized(weights))
            if not skip and all(o.built for o in optimizers) and (state := optimizer_state(model)):
                writer.add(OPTIMIZER, serialized(state))
        _write_assets(model, writer)

    if zipped:
        with replacing(path) as file, ArchiveWriter(file) as writer:
            write(writer)
    else:
        with replacing_folder(path) as folder:
            with FolderWriter(folder) as writer:
                write(writer)
            written = {p.name for p in folder.iterdir()}
        for name in _MEMBERS - written:  # of the model before
            (path / name).unlink(missing_ok=True)


def compile_config_of(model: Any) -> tuple[Any, str | None]:
    """Return (the arguments of `compile`, None), or (None, why they cannot be saved).

    Args:
        model: the model.
    """
    if not getattr(model, "compiled", False):
        return None, None
    try:
        config = model.get_compile_config()
        json.dumps(config)
    except TypeError as error:
        return None, str(error)
    return config, None


def _not_in_h5(model: Any, weights: dict[str, Variable]) -> dict[str, Variable]:
    """Return the weights and random states that the HDF5 member has not as they are."""
    exact = {
        id(v)
        for _, item in saved_objects(model)
        if counts_variables(item) and not getattr(item, "lora_enabled", False)
        for v in item.saved_variables()
    }
    return {name: v for name, v in weights.items() if id(v) not in exact}


def _write_assets(model: Any, writer: Any) -> None:
    import tempfile

    for where, item in saved_objects(model):
        if not hasattr(item, "save_assets"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            item.save_assets(folder)
            for file in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
                inner = file.relative_to(folder).as_posix()
                parts = [ASSETS, where, inner] if where else [ASSETS, inner]
                writer.add("/".join(parts), [file.read_bytes()])


# -- loading --------------------------------------------------------------------------------------


def load_keras(
    path: Path, compile: bool, deserialize: Callable[[Any], Any], compile_model: Callable
) -> Any:
    """Load a model in Keras's format.

    Args:
        path: the archive or folder.
        compile: whether the model is compiled as it was, its optimizer's state included.
        deserialize: makes the built model of a config.
        compile_model: compiles a model by a config, and returns the reason where that fails.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or does not fit the model that its config describes.
    """
    with open_keras(path) as members:
        version = members.json(METADATA).get("keras_version") if METADATA in members else None
        if str(version).startswith("2."):
            raise ValueError(
                f"{path} was saved by tf.keras {version:.20}, whose .keras files are not those of "
                "Keras 3: save the model as .h5 with tf_keras, which is opened here."
            )
        config = members.json(CONFIG)
        own = config.pop(_ENTRY, None) or {}
        compile_config = config.pop("compile_config", None)
        with named(path), registry.object_sharing_scope():
            model = deserialize(config)
            weights = weights_of(model)
            paths = own.get("paths") or {}
            for name, variable in weights.items():
                variable.path = paths.get(name, variable.path)
            problem = own.get("compile_problem")
            if compile and compile_config and hasattr(model, "compile_from_config"):
                problem = compile_model(model, compile_config)
            _load_weights(model, members, weights)
        _load_assets(model, members)
    if compile and problem:
        warnings.warn(f"{path}: the model is not compiled: {problem}", stacklevel=3)
    return model


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let errors of what a file says name the file, and be ValueErrors where it is malformed.

    Args:
        path: the file.
    """
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error!s:.1000}") from error
    except (KeyError, IndexError, AttributeError, TypeError, ArithmeticError,
            RecursionError, MemoryError) as error:  # fmt: skip
        raise ValueError(
            f"{path} does not describe a model that can be made: {error!r:.300}."
        ) from error


def _load_weights(model: Any, members: KerasMembers, weights: dict[str, Variable]) -> None:
    path = members.path
    with open_member(members) as tensors:
        if tensors is not None:
            load_state(model, tensors, path)
        else:
            assign_strictly(weights, open_safetensors(*members.spans[WEIGHTS]), where=path)
            if OPTIMIZER in members and getattr(model, "compiled", False):
                state = open_safetensors(*members.spans[OPTIMIZER])
                assign_strictly(optimizer_state(model), state, where=path)
    assign_own(weights, members)


def _load_assets(model: Any, members: KerasMembers) -> None:
    if not any(name.startswith(f"{ASSETS}/") for name in members.spans):
        return
    with members.assets() as folder:
        for where, item in saved_objects(model):
            place = folder / where
            if hasattr(item, "load_assets") and place.is_dir() and any(place.iterdir()):
                try:
                    item.load_assets(str(place))
                except (ValueError, OSError, UnicodeError, KeyError) as error:
                    raise ValueError(f"{members.path}: bad assets at {where!r}: {error}") from error
