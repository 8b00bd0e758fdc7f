"""Loading: from a config.json to arguments, and from a checkpoint to a model with its weights."""

import functools
import math
import re
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import keraslite as keras
from hub.families import Family, family_of, model_types, timm_model_type
from hub.presets.files import PresetFiles, resolve
from hub.weights.loading import absent_patterns, load_into
from hub.weights.reader import READERS, Weights, open_weights
from hub.weights.tables import WeightTable

_DEPTHS = (
    "num_layers", "num_decoder_layers", "num_groups", "num_inner_repetitions", "layers_per_block",
)  # fmt: skip
_COPYLEFT = ("agpl-3.0",)  # licences that reach beyond the weights


def read_config(files: PresetFiles) -> dict[str, Any]:
    """Return the config.json of a checkpoint, completed by the row of a built-in preset.

    Where there is nothing but weights, sizes are read off the tensors of some families.

    Args:
        files: what `hub.presets.resolve` returned.

    Raises:
        FileNotFoundError: there is no config.json, and the preset is not built in.
        ValueError: the config has no model type.
    """
    row = files.row or {}
    config = {} if row else config_of_weights(files)
    if "config.json" in files or not (row or config):
        config = files.json("config.json")
    default = row.get("family") or config.get("_class_name")  # the latter by diffusers
    config = {"model_type": default, **row.get("config", {}), **config}
    if "architecture" in config:  # timm's, alone or wrapped by transformers
        config["model_type"] = timm_model_type(str(config["architecture"]))
    if not config.get("model_type"):
        if "registered_name" in config:
            raise ValueError(
                f"{files.location} is a preset of KerasHub, which must be converted first: "
                "python -m hub convert SRC DST"
            )
        raise ValueError(
            f"The config.json of {files.location} has no model_type: it is not a transformers "
            "config."
        )
    return config | _declared_by_architecture(config)


def config_of_weights(files: PresetFiles) -> dict[str, Any]:
    """Return the content of a config.json that the tensors of a file tell.

    Args:
        files: of a checkpoint; nothing is returned where there is more than weights, or where they
            are of an architecture that is not recognised.
    """
    if files.names and files.names <= READERS.keys():
        for infer in filter(None, (family_of(name).infer for name in model_types())):
            config = infer(open_weights(files))
            if config is not None:
                return config
    return {}


def _declared_by_architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model type by the architecture, for families whose config names another type."""
    architecture = (config.get("architectures") or [None])[0]
    if architecture not in model_types():
        return {}
    is_written_type = family_of(architecture).config_type == config["model_type"]
    return {"model_type": architecture} if is_written_type else {}


def arguments(
    family: Family, config: Mapping[str, Any], where: str = "The config.json"
) -> dict[str, Any]:
    """Return the arguments of a family's backbone from a config.json.

    Args:
        family: the family.
        config: the content of the config.json.
        where: the name of the file in errors.

    Raises:
        ValueError: the config has an unsupported value, one of another type than its argument's,
            or lacks a size.
    """
    config = {**family.defaults, **config}
    for key, allowed in family.fixed.items():
        if config.get(key) not in allowed:
            supported = [value for value in allowed if value is not None]
            raise ValueError(
                f"{where} has {key}={config[key]!r}, which is not supported for "
                f"{family.model_type!r}; supported: {supported}."
            )
    keys = config_keys(family)
    kwargs = {name: config[key] for name, (key, _) in keys.items() if key in config}
    hints = typing.get_type_hints(family.backbone.__init__)
    for name, value in kwargs.items():
        if not _fits(name, value, hints.get(name, Any)):
            raise ValueError(
                f"{where} has {keys[name][0]}={value!r:.80}: expected {_words(name, hints[name])}."
            )
    for name, (_, offset) in keys.items():
        if offset and name in kwargs:
            kwargs[name] -= offset
    sizes = ("vocabulary_size", "vocab_size", "num_layers", "hidden_dim", "stackwise_channels",
             "stackwise_depth")  # fmt: skip
    missing = [keys[name][0] for name in sizes if name in keys and name not in kwargs]
    if missing:
        raise ValueError(f"{where} must have {missing}, got {sorted(config)}.")
    for name, (model_type, key) in family.parts.items():
        part = family_of(model_type)
        kwargs[name] = arguments(part, part_config(part, config, key), f"{key} of {where}")
    return kwargs | (family.read(dict(config)) if family.read else {})


def _fits(name: str, value: Any, expected: Any) -> bool:
    """Return whether a value of a config.json is of the type that an argument is annotated with."""
    options = typing.get_args(expected)
    if typing.get_origin(expected) is types.UnionType:
        return any(_fits(name, value, option) for option in options)
    if typing.get_origin(expected) is tuple:
        return isinstance(value, list | tuple) and all(_fits(name, v, options[0]) for v in value)
    if expected is int:
        return type(value) is int and value >= _least(name)
    if expected is float:
        is_number = type(value) in (int, float) and math.isfinite(value)
        return is_number and (value >= 0 or not re.search("dropout|eps", name))
    if expected is bool:
        return value is None or type(value) is bool
    if expected is types.NoneType:
        return value is None
    return expected is not str or isinstance(value, str)


def _least(name: str) -> int:
    """Return the least value of an integer argument."""
    return 0 if name.endswith("_id") or name == "num_layers" else 1


def _words(name: str, expected: Any) -> str:
    """Return an annotation in words."""
    if typing.get_origin(expected) is types.UnionType:
        return " or ".join(_words(name, option) for option in typing.get_args(expected))
    if typing.get_origin(expected) is tuple:
        return f"a list, each {_words(name, typing.get_args(expected)[0])}"
    words = {
        int: f"an integer of at least {_least(name)}", float: "a finite number", str: "a string",
        bool: "true or false", types.NoneType: "null",
    }  # fmt: skip
    if expected is float and re.search("dropout|eps", name):
        return "a number of at least 0"
    return words[expected]


def check_depth(
    family: Family, kwargs: Mapping[str, Any], tensors: Sized, where: str = "The config.json"
) -> None:
    """Raise a ValueError if a backbone would have more layers than its checkpoint has tensors.

    A layer has a tensor at least. This is checked before anything is built, since building takes
    as long as the config says.

    Args:
        family: the family.
        kwargs: what `arguments` returned.
        tensors: of the checkpoint.
        where: the name of the file in errors.
    """
    keys = config_keys(family)
    # ALBERT's layers share the weights of its groups.
    shared = {"num_layers"} if "num_groups" in keys else set()
    for name in set(_DEPTHS) - shared:
        depth = kwargs.get(name)
        if isinstance(depth, int) and depth > len(tensors):
            key = keys.get(name, (name, 0))[0]
            raise ValueError(
                f"{where} has {key}={depth}, but the weights beside it have {len(tensors)} tensors "
                "in all: the config and the weights must be of one model."
            )
    for name, (model_type, key) in family.parts.items():
        check_depth(family_of(model_type), kwargs[name], tensors, f"{key} of {where}")


def config_keys(family: Family) -> dict[str, tuple[str, int]]:
    """Return argument -> (key of config.json, what to add to the argument for its value there).

    Args:
        family: the family.
    """
    rows = family.config.items()
    return {name: (key, 0) if isinstance(key, str) else key for name, key in rows}


def part_config(part: Family, config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the config of a part of a model.

    Args:
        part: the part's family.
        config: the config of the model.
        key: the key of the part's config in it. Older files repeat it under `<key>_dict`, which
            takes precedence, with defaults for the keys that it leaves out, as in transformers.
    """
    repeated = config.get(f"{key}_dict")
    values = dict(config.get(key) or {})
    if repeated is not None:
        values |= {**part.defaults, **repeated}
    return {**values, "model_type": part.model_type}


def _of_part(
    family: Family, config: dict[str, Any], suits: Callable[[Family], bool]
) -> tuple[Family, dict[str, Any]]:
    """Return family and config of the part that suits, else of the whole checkpoint.

    Args:
        family: the checkpoint's family.
        config: its config.json.
        suits: whether a family is one to load.
    """
    for model_type, key in () if suits(family) else family.parts.values():
        part = family_of(model_type)
        if suits(part):
            return part, part_config(part, config, key)
    return family, config


def detect_prefix(family: Family, table: WeightTable, names: Iterable[str]) -> str:
    """Return the prefix of the backbone's names in a checkpoint: the family's, or none.

    Args:
        family: the family.
        table: the names of the backbone's weights.
        names: of the tensors.

    Raises:
        ValueError: no tensor has the name of the backbone's first layer.
    """
    first = next(iter(table.rows.values()))
    starts = {family.prefix: f"{family.prefix}{first}.", "": f"{first}."}
    for prefix, start in starts.items():
        if any(name.startswith(start) for name in names):
            return prefix
    names = sorted(names)
    raise ValueError(
        f"These are no {family.model_type} weights: expected {starts[family.prefix]}* or "
        f"{starts['']}* among the tensors, got {len(names)} others, such as {names[:4]}."
    )


def origin_of(files: PresetFiles) -> dict[str, Any]:
    """Return the preset that files are of, and its licence where that is known.

    Args:
        files: of a checkpoint; of a local folder nothing is told.
    """
    row = files.row or {}
    if not row and files.commit is None:
        return {}
    return {"preset": files.handle, "commit": files.commit, "license": row.get("license")}


def _check_dtype(dtype: Any) -> None:
    policy = keras.dtype_policies.get(dtype)
    if not keras.backend.is_float_dtype(policy.compute_dtype):
        raise ValueError(
            f"dtype must be one of floats, such as 'bfloat16', got {policy.name!r}: for weights in "
            "int8 load the model and call its quantize('int8')."
        )


@functools.cache
def _warn_of_licence(preset: str, licence: str) -> None:
    """Say once a preset that its licence may bind what is made with it."""
    warnings.warn(
        f"The weights of {preset!r} are published under {licence.upper()}: what you distribute, or "
        "offer over a network, with them or with weights trained from them may have to be under it "
        "as well.",
        stacklevel=4,
    )


def _check_layers(overrides: Mapping[str, Any]) -> None:
    """Raise ValueError if the number of layers that a caller asks for is no positive integer."""
    for name in ("num_layers", "num_decoder_layers"):
        value = overrides.get(name)
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")


def _later_blocks(
    family: Family, table: WeightTable, config: Mapping[str, Any], kwargs: Mapping[str, Any]
) -> list[str]:
    """Return patterns of the tensors of blocks that a backbone is made without.

    Args:
        family: the family.
        table: the names of the weights.
        config: the config.json of the checkpoint.
        kwargs: the arguments of the backbone.
    """
    stated, patterns = arguments(family, config), []
    for name, is_decoder in (("num_layers", False), ("num_decoder_layers", True)):
        last = stated.get(name) or stated.get("num_layers") or 0
        first = kwargs.get(name) or kwargs.get("num_layers") or 0
        numbers = "|".join(str(i) for i in range(first, last))
        for ours, theirs in table.rows.items() if numbers and first > 0 else ():
            if "blocks/{i}/" in ours and ("decoder/blocks/" in ours) == is_decoder:
                row = re.escape(theirs).replace(r"\{i\}", f"({numbers})")
                patterns.append(row + r"(\..*)?")  # some weights are named in full
    return patterns


def _tied(family: Family, table: WeightTable, names: Iterable[str]) -> dict[str, str]:
    """Return the tied tensors of a family and its heads, by their names in a checkpoint."""
    has_prefix = any(name.startswith(family.prefix) for name in names)
    tables = [table, *(head.weights for head in family.heads.values() if head.weights)]
    return {
        copy: original if has_prefix else original.removeprefix(family.prefix)
        for table in tables
        for copy, original in (table.tied or {}).items()
    }


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint before its weights are opened.

    Attributes:
        files: its files.
        config: its config.json, or that of a part.
        family: the family of its backbone.
    """

    files: PresetFiles
    config: dict[str, Any]
    family: Family


def find_checkpoint(
    preset: Any, suits: Callable[[Family], bool], *, revision: str | None = None,
    token: str | bool | None = None,
) -> Checkpoint:  # fmt: skip
    """Resolve a preset and read its config, without its weights.

    Args:
        preset: as for `hub.presets.resolve`.
        suits: whether a family is one to load; that of a part is where the whole one is not.
        revision: as for `hub.presets.resolve`.
        token: as for `hub.presets.resolve`.

    Raises:
        ValueError: the preset is unknown, or its model type is not supported.
    """
    files = resolve(preset, revision=revision, token=token)
    config = read_config(files)
    family, config = _of_part(family_of(config["model_type"]), config, suits)
    return Checkpoint(files, config, family)


def load(
    checkpoint: Checkpoint,
    assemble: Callable[[Any, Weights | None], Any] | None = None,
    *,
    head: WeightTable | None = None,
    new: Iterable[str] = (),
    all_layers: bool = False,
    overrides: Mapping[str, Any] | None = None,
    backend: str | None = None,
    dtype: Any = None,
    load_weights: bool = True,
    variant: str | None = None,
) -> tuple[Any, list[str]]:
    """Build the model of a checkpoint and load its weights.

    Args:
        checkpoint: what `find_checkpoint` returned.
        assemble: a function of the backbone and the weights (None if they are not loaded) that
            returns a model with this `backbone`; by default the backbone is the model.
        head: the names of the model's other weights.
        new: prefixes of paths whose weights the checkpoint may lack, all of a prefix or none.
        all_layers: whether the optional layers of the backbone are made even if the checkpoint
            lacks their weights.
        overrides: arguments of the backbone, in place of the config's; with a smaller `num_layers`
            (or `num_decoder_layers`) the first layers of the checkpoint are loaded.
        backend: the backend of the model; the current one by default.
        dtype: a dtype or policy.
        load_weights: whether to load the weights; without, they are initialized.
        variant: which of several files of weights in a folder, such as "fp16".

    Returns:
        The model, and the paths of its weights that the checkpoint does not have.

    Raises:
        ValueError: a tensor is missing, unused or mis-shaped, or the dtype is not of floats.
    """
    _check_dtype(dtype)
    row = checkpoint.files.row or {}
    if load_weights and row.get("license") in _COPYLEFT:
        _warn_of_licence(checkpoint.files.handle, row["license"])
    family, path_prefix = checkpoint.family, "" if assemble is None else "backbone/"
    with keras.backend.backend_scope(backend or keras.backend()):
        weights, prefix = None, ""
        where = f"config.json of {checkpoint.files.location}"
        kwargs = {**arguments(family, checkpoint.config, where), **(overrides or {})}
        _check_layers(overrides or {})
        if load_weights:
            weights, table = open_weights(checkpoint.files, variant), family.table(kwargs)
            check_depth(family, kwargs, weights, where)
            weights.rename(table.renamed)
            weights.restore_tied(_tied(family, table, weights))
            prefix = detect_prefix(family, table, weights)
            for path in () if all_layers else table.optional:
                start = prefix + table.rows[path] + "."
                kwargs.setdefault(path, any(name.startswith(start) for name in weights))
        backbone = family.backbone(**kwargs, dtype=dtype)
        backbone.source_config = checkpoint.config
        backbone.source_preset = origin_of(checkpoint.files)
        model = backbone if assemble is None else assemble(backbone, weights)
        if weights is None:
            return model, []
        table = table.prefixed(path_prefix, prefix)
        ignored = (
            *family.other_heads, *absent_patterns(backbone, table, path_prefix),
            *_later_blocks(family, table, checkpoint.config, kwargs),
        )  # fmt: skip
        joined = (head or WeightTable({})).joined(table, WeightTable({}, ignore=ignored))
        optional = (*new, *(table.optional if path_prefix else ()))
        return model, load_into(model, weights, joined, optional)
