"""Weights as safetensors, and whole models as one file that loads on any backend.

A model file is a zip archive whose members are stored, not compressed: `metadata.json`,
`config.json`, `model.safetensors` and `optimizer.safetensors`. So the tensors are mapped from the
file without a copy. Configs name classes of the registry, and no code in them runs.
"""

import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from keraslite import backend as backends
from keraslite import registry
from keraslite.layers.base.tracking import variable_paths
from keraslite.registry import custom_object_scope, serialize_keras_object
from keraslite.saving.atomic import replacing
from keraslite.saving.paths_v1 import restore_quantized_v1, weights_v1
from keraslite.saving.safetensors import (
    SafetensorsFile,
    open_safetensors,
    save_safetensors,
    serialized,
)
from keraslite.variable import Pending, Variable

FORMAT, VERSION = "keraslite model", 2  # version 1 had other paths of weights
_METADATA, _CONFIG = "metadata.json", "config.json"
_WEIGHTS, _OPTIMIZER = "model.safetensors", "optimizer.safetensors"
_MEMBERS = {_METADATA, _CONFIG, _WEIGHTS, _OPTIMIZER}
WEIGHTS_METADATA = {"format": "keraslite", "version": str(VERSION)}  # of files of weights
_MAX_JSON = 256 * 2**20
_ALIGN = 64  # tensors begin at multiples of this, as frameworks like them
_PADDING_FIELD = 0xD935  # the extra field that archives use to align their members


# -- state ----------------------------------------------------------------------------------------


def _check_built(model: Any) -> None:
    if not model.built:
        raise ValueError(
            f"{type(model).__name__} {model.name!r} is not built yet, so it has no weights: call "
            "it on data, or build(input_shape) it, first."
        )


def weights_of(model: Any, version: int = VERSION) -> dict[str, Variable]:
    """Return the weights and random states of a model or layer, by their paths below it.

    Args:
        model: a built model or layer.
        version: the version of the format whose paths are wanted.

    Raises:
        ValueError: the model is not built.
    """
    _check_built(model)
    if version == 1:
        return weights_v1(model)
    return dict(variable_paths(model))


def optimizer_state(model: Any) -> dict[str, Variable]:
    """Return the variables of a model's optimizers, by number."""
    optimizers = model.all_optimizers() if hasattr(model, "all_optimizers") else []
    return {
        f"{i}/{j:04d}": variable
        for i, optimizer in enumerate(optimizers)
        for j, variable in enumerate(optimizer.variables)
    }


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


def assign_strictly(
    variables: Mapping[str, Variable],
    tensors: SafetensorsFile,
    names: Iterable[str] | None = None,
    where: Any = None,
    skip_mismatch: bool = False,
) -> None:
    """Assign the tensors of a file to the variables of their names, all or none, read on first use.

    Args:
        variables: the variables by name.
        tensors: the file.
        names: the tensors that must be used; all of the file's by default.
        where: the name of the file in errors; its path by default.
        skip_mismatch: whether variables that do not fit are left as they are.

    Raises:
        ValueError: lists every missing, unused and mis-shaped tensor.
    """
    names = list(tensors if names is None else names)
    in_file = set(names)
    missing = [n for n in variables if n not in in_file]
    unused = [n for n in names if n not in variables]
    shapes = {n: (v.shape, tensors.shape(n)) for n, v in variables.items() if n in in_file}
    wrong = {n: pair for n, pair in shapes.items() if pair[0] != pair[1]}
    if (missing or unused or wrong) and not skip_mismatch:
        raise ValueError(_misfit(where or tensors.path, missing, unused, wrong))
    for name, variable in variables.items():
        if name in in_file and name not in wrong:
            take, done = partial(tensors.__getitem__, name), partial(tensors.release, name)
            variable.assign(Pending(tensors.shape(name), take, done))


def _misfit(where: Any, missing: list, unused: list, wrong: dict) -> str:
    lines = [f"{where} does not fit the model; nothing was loaded."]
    if missing:
        lines.append(f"The file lacks: {', '.join(missing)}.")
    if unused:
        lines.append(f"The model has no place for: {', '.join(unused)}.")
    for name, (expected, got) in wrong.items():
        lines.append(f"{name}: the model's shape is {expected}, the file's {got}.")
    return "\n".join(lines)


# -- weights --------------------------------------------------------------------------------------


def check_filename(path: Any, extension: str) -> None:
    """Refuse the endings of Keras's formats, which these files are not.

    Args:
        path: the file name.
        extension: what to use in their place.
    """
    name = os.fspath(path)
    if str(name).lower().endswith((".keras", ".h5", ".hdf5")):
        raise ValueError(
            f"{name!r} has the ending of a Keras file, whose format is another one: "
            f"use a name that ends with {extension!r}."
        )


def _target(filepath: Any, overwrite: bool, extension: str) -> Path:
    check_filename(filepath, extension)
    path = Path(filepath)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=True replaces it.")
    return path


def _weights_version(tensors: SafetensorsFile) -> int:
    """Return the version of a file of weights; one that is not ours is taken for the newest."""
    if tensors.metadata.get("format") != WEIGHTS_METADATA["format"]:
        return VERSION
    version = tensors.metadata.get("version", "1")
    if version not in map(str, range(1, VERSION + 1)):
        raise _unknown_version(tensors.path, version)
    return int(version)


def save_weights(model: Any, filepath: Any, overwrite: bool = True) -> None:
    """Save the weights and random states of a model or layer as one safetensors file.

    Args:
        model: the model.
        filepath: the file, `.safetensors` by custom.
        overwrite: whether an existing file is replaced.

    Example:
        >>> import tempfile
        >>> model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(model, f"{folder}/w.safetensors")
        ...     sorted(open_safetensors(f"{folder}/w.safetensors"))
        ['dense/bias', 'dense/kernel']
    """
    path = _target(filepath, overwrite, ".safetensors")
    save_safetensors(path, weights_of(model), WEIGHTS_METADATA)


def load_weights(model: Any, filepath: Any, skip_mismatch: bool = False) -> None:
    """Load the weights of a file by `save_weights` or `save_model`; every tensor must be used.

    Args:
        model: a built model of the same structure.
        filepath: the file.
        skip_mismatch: whether weights that do not fit are left as they are.

    Raises:
        ValueError: lists what is missing, unused or of another shape; nothing was loaded then.
    """
    path = Path(filepath)
    check_filename(path, ".safetensors")
    _check_built(model)
    with open(path, "rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    if is_archive:
        archive = _Archive(path)
        tensors, version = archive.tensors(_WEIGHTS), archive.version()
    else:
        tensors = open_safetensors(path)
        version = _weights_version(tensors)
    assign_strictly(weights_of(model, version), tensors, where=path, skip_mismatch=skip_mismatch)


# -- whole models ---------------------------------------------------------------------------------


def save_model(
    model: Any, filepath: Any, overwrite: bool = True, include_optimizer: bool = True
) -> None:
    """Save config, weights, random states, compile arguments and optimizer in one file.

    Args:
        model: a built model, or a layer.
        filepath: the file, `.klm` by custom.
        overwrite: whether an existing file is replaced.
        include_optimizer: whether the optimizer's state is saved, so that training can go on.

    Raises:
        OSError: the file could not be written; what was there before is unchanged.

    Example:
        >>> import tempfile
        >>> model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(model, f"{folder}/model.klm")
        ...     load_model(f"{folder}/model.klm", backend="numpy").backend
        'numpy'
    """
    path = _target(filepath, overwrite, ".klm")
    weights = weights_of(model)
    compile_config, problem = _compile_config(model)
    config = {
        "model": serialize_keras_object(model),
        "compile": compile_config,
        "compile_problem": problem,
    }
    metadata = {"format": FORMAT, "version": VERSION, "made_on": model.backend}
    with_slots = (
        include_optimizer and compile_config and all(o.built for o in model.all_optimizers())
    )
    slots = optimizer_state(model) if with_slots else {}
    members: dict[str, Any] = {
        _METADATA: [json.dumps(metadata, indent=1).encode()],
        _CONFIG: [json.dumps(config).encode()],
        _WEIGHTS: serialized(weights),
    }
    if slots:
        members[_OPTIMIZER] = serialized(slots)
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, parts in members.items():
            with archive.open(_aligned(name, archive.start_dir), "w", force_zip64=True) as member:
                for part in parts:
                    member.write(part)


def _compile_config(model: Any) -> tuple[Any, str | None]:
    """Return (the arguments of `compile`, None), or (None, why they cannot be saved)."""
    if not getattr(model, "compiled", False):
        return None, None
    try:
        config = model.get_compile_config()
        json.dumps(config)
    except TypeError as error:
        return None, str(error)
    return config, None


def _aligned(name: str, position: int) -> zipfile.ZipInfo:
    """Return a member whose data will begin at a multiple of `_ALIGN`, after its local header."""
    info = zipfile.ZipInfo(name)  # of a fixed date: equal models give equal files
    info.external_attr = 0o644 << 16
    fixed = 30 + len(name) + 4 + 20  # the header, its name, the padding's head, the long sizes
    padding = -(position + fixed) % _ALIGN
    info.extra = (
        _PADDING_FIELD.to_bytes(2, "little") + padding.to_bytes(2, "little") + (b"\0" * padding)
    )
    return info


def load_model(
    filepath: Any,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    backend: str | None = None,
) -> Any:
    """Load a model saved by `save_model`, on any backend.

    Args:
        filepath: the file.
        custom_objects: classes and functions by name, beside the registered ones.
        compile: whether the model is compiled as it was, its optimizer's state included.
        safe_mode: whether a Lambda layer of bytecode is refused; False runs what the file says.
        backend: the backend to load on; the current one by default.

    Raises:
        ValueError: the file is damaged, or names something that is not registered.
    """
    path = Path(filepath)
    check_filename(path, ".klm")
    archive = _Archive(path)
    version, config = archive.version(), archive.json(_CONFIG)
    archive.check_sums()
    with (
        backends.backend_scope(backend or backends.backend()),
        custom_object_scope(custom_objects or {}),
    ):
        model = _deserialize(config["model"], safe_mode)
        if not getattr(model, "built", False):
            raise ValueError(
                f"{path}: the saved {config['model'].get('class_name')} does not say how it is "
                "built. Give its class get_build_config() and build_from_config()."
            )
        if version == 1:
            restore_quantized_v1(model, config["model"].get("build_config"))
        assign_strictly(weights_of(model, version), archive.tensors(_WEIGHTS), where=path)
        problem = config.get("compile_problem")
        if compile and config.get("compile"):
            problem = _compile(model, config["compile"])
            if problem is None and _OPTIMIZER in archive:
                assign_strictly(optimizer_state(model), archive.tensors(_OPTIMIZER), where=path)
    if compile and problem:
        warnings.warn(f"{path}: the model is not compiled: {problem}", stacklevel=2)
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
    return None


def _deserialize(config: Any, safe_mode: bool) -> Any:
    token = registry.safe_mode.set(safe_mode and registry.safe_mode.get())
    try:
        return registry.deserialize_keras_object(config)
    finally:
        registry.safe_mode.reset(token)


def _bad(path: Path, problem: str) -> ValueError:
    return ValueError(f"{path} is no model file that can be read: {problem}. Save it again.")


def _unknown_version(path: Path, version: Any) -> ValueError:
    return ValueError(
        f"{path} has version {version!r:.20} of the format, this keraslite reads 1 to {VERSION}: "
        "upgrade keraslite."
    )


class _Archive:
    """The members of a model file; each is checked before it is used.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self.path = path
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            try:
                with zipfile.ZipFile(file) as archive:
                    infos = archive.infolist()
            except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError,
                    RecursionError) as error:  # fmt: skip
                raise _bad(path, f"it is cut off or damaged ({error})") from error
            self._spans = {i.filename: self._span(file, i, size) for i in infos}
        self._sums = {i.filename: i.CRC for i in infos}
        if len(infos) != len(self._spans):
            raise _bad(path, "it has two members of one name")
        unknown = sorted(set(self._spans) - _MEMBERS)
        missing = sorted(_MEMBERS - {_OPTIMIZER} - set(self._spans))
        if unknown or missing:
            raise _bad(path, f"members are missing {missing} or strange {unknown!r:.100}")
        ends = 0
        for start, length in sorted(self._spans.values()):
            if start < ends:
                raise _bad(path, "its members overlap")
            ends = start + length

    def _span(self, file: Any, info: zipfile.ZipInfo, size: int) -> tuple[int, int]:
        """Return (start, length) of the bytes of a member."""
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise _bad(self.path, f"{info.filename!r:.60} is compressed")
        file.seek(max(info.header_offset, 0))
        header = file.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise _bad(self.path, f"{info.filename!r:.60} is not where the index says")
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = info.header_offset + 30 + lengths
        if start + info.file_size > size:
            raise _bad(self.path, f"{info.filename!r:.60} would reach beyond the file's end")
        return start, info.file_size

    def __contains__(self, name: str) -> bool:
        return name in self._spans

    def json(self, name: str) -> dict[str, Any]:
        """A JSON member."""
        start, length = self._spans[name]
        if length > _MAX_JSON:
            raise _bad(self.path, f"{name} has {length} bytes")
        with open(self.path, "rb") as file:
            file.seek(start)
            data = file.read(length)
        try:
            if zlib.crc32(data) != self._sums[name]:
                raise ValueError("its check sum is wrong")
            value = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise _bad(self.path, f"{name} is damaged ({error})") from error
        if not isinstance(value, dict):
            raise _bad(self.path, f"{name} must be a JSON object, got {value!r:.40}")
        return value

    def version(self) -> int:
        """Return the version of the format; raise a ValueError if it is none that can be read."""
        metadata = self.json(_METADATA)
        if metadata.get("format") != FORMAT:
            raise _bad(self.path, f"its metadata call it {metadata.get('format')!r:.40}")
        version = metadata.get("version")
        if type(version) is not int or not 1 <= version <= VERSION:
            raise _unknown_version(self.path, version)
        return version

    def check_sums(self) -> None:
        """Read the file once and compare check sums, which alone show a flipped bit in a weight."""
        with open(self.path, "rb") as file:
            for name, (start, length) in self._spans.items():
                file.seek(start)
                checksum = 0
                while length:
                    block = file.read(min(length, 2**20))
                    if not block:
                        break
                    checksum, length = zlib.crc32(block, checksum), length - len(block)
                if checksum != self._sums[name]:
                    raise _bad(self.path, f"{name} is damaged: its check sum is wrong")

    def tensors(self, name: str) -> SafetensorsFile:
        """A safetensors member, mapped from the file."""
        return open_safetensors(self.path, *self._spans[name])
