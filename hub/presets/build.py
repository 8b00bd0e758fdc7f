"""From files to models and back: configs, strict and lazy loading, saving for transformers."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keraslite as keras
from hub.families import FAMILIES, family_of
from hub.presets.files import PresetFiles, resolve
from hub.weights.reader import DIFFUSION_WEIGHTS, WEIGHTS, Weights, open_weights
from hub.weights.tables import (
    Exported,
    WeightTable,
    check_shapes,
    from_checkpoint,
    link,
)
from keraslite.saving import Pending, replacing, save_safetensors

_DTYPES = {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16"}


def read_config(files: PresetFiles) -> dict[str, Any]:
    """The config.json of a checkpoint; a built-in row fills in what it does not say.

    Raises:
        FileNotFoundError: there is none, and the preset is not a built-in one.
        ValueError: it names no model type.
    """
    row = files.row or {}
    if "config.json" in files or not row:
        config = files.json("config.json")
    else:
        config = {}
    named = config.get("_class_name")  # by diffusers
    config = {"model_type": row.get("family") or named, **row.get("config", {}), **config}
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
    return config | _distinguished(config)


def _distinguished(config: Mapping[str, Any]) -> dict[str, Any]:
    """The model type of a config.json that states another family's, told by its architecture."""
    stated = (config.get("architectures") or [None])[0]
    family = FAMILIES.get(stated)
    own = family is not None and family.stated == config["model_type"]
    return {"model_type": stated} if own else {}


def arguments(family: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a family's backbone out of a config.json.

    Raises:
        ValueError: the config asks for something unsupported, or lacks a size.
    """
    config = {**family.defaults, **config}
    for key, allowed in family.fixed.items():
        if config.get(key) not in allowed:
            known = [a for a in allowed if a is not None]
            raise ValueError(
                f"The config has {key}={config[key]!r}, which is not supported for "
                f"{family.model_type!r}; supported: {known}."
            )
    found = {ours: config[theirs] for ours, theirs in family.config.items() if theirs in config}
    found |= {k: found[k] - more for k, more in family.offsets.items() if k in found}
    sizes = ("vocabulary_size", "vocab_size", "num_layers", "hidden_dim")
    required = [k for k in sizes if k in family.config and k not in found]
    if required:
        names = [family.config[k] for k in required]
        raise ValueError(f"The config.json lacks {names}; it has {sorted(config)}.")
    for ours, (kind, key) in family.parts.items():
        part = family_of(kind)
        found[ours] = arguments(part, part_config(part, config, key))
    return found | (family.read(dict(config)) if family.read else {})


def part_config(part: Any, config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The config of a part out of a whole one's.

    Args:
        part: the part's family.
        config: the whole.
        key: where it stands there; what older files repeat under `<key>_dict` counts more, and with
            it the defaults of what that leaves out, as transformers reads it.
    """
    repeated = config.get(f"{key}_dict")
    known = dict(config.get(key) or {})
    if repeated is not None:
        known |= {**part.defaults, **repeated}
    return {**known, "model_type": part.model_type}


def _of_part(family: Any, config: Mapping[str, Any], cls: type) -> tuple[Any, Any]:
    """The family and the config of the part of a checkpoint that is of a class; else what is given.

    Args:
        family: of the checkpoint.
        config: its config.json.
        cls: the class that is to be loaded.
    """
    for kind, key in () if issubclass(family.backbone, cls) else family.parts.values():
        part = family_of(kind)
        if issubclass(part.backbone, cls):
            return part, part_config(part, config, key)
    return family, config


def detect_prefix(family: Any, names: Weights) -> str:
    """What stands before the backbone's names in a checkpoint: the family's prefix, or nothing."""
    first = next(iter(family.weights.rows.values()))
    starts = {family.prefix: f"{family.prefix}{first}.", "": f"{first}."}
    for prefix, start in starts.items():
        if any(n.startswith(start) for n in names):
            return prefix
    raise ValueError(
        f"These are no {family.model_type} weights: neither {starts[family.prefix]}* nor "
        f"{starts['']}* is among the {len(names)} tensors, such as {sorted(names)[:4]}."
    )


def has_optional(family: Any, path: str, weights: Weights, prefix: str) -> bool:
    """Whether a part of the backbone that may be absent is in the checkpoint."""
    start = prefix + family.weights.rows[path] + "."
    return any(n.startswith(start) for n in weights)


def load_into(
    model: Any, weights: Weights, table: WeightTable, optional: tuple[str, ...] = ()
) -> list[str]:
    """Give a model the weights of a checkpoint, which compiled backends read at their first use.

    Args:
        model: the model, with variables that were not made yet.
        weights: the checkpoint.
        table: the names.
        optional: prefixes of paths that may be absent, each as a whole.

    Returns:
        The paths that the checkpoint does not have; they keep their initialisers.

    Raises:
        ValueError: a tensor is missing, unused or mis-shaped; nothing was changed then.
    """
    variables = weight_variables(model)
    links, fresh = link(variables, weights, table, optional)
    check_shapes(links, {p: v.shape for p, v in variables.items()}, weights.shape)
    _check_tied(weights, table)
    for item in links:
        variable = variables[item.path]
        variable.assign(_pending(weights, item, variable.shape))
    if not keras.backend.compiles(model.backend):
        # Mapped at once, which costs nothing: what a first call makes for good between what it
        # makes for a moment would scatter the heap.
        for item in links:
            variables[item.path].materialize()
    return fresh


def without(model: Any, table: WeightTable, at: str = "") -> list[str]:
    """Patterns of the tensors of parts that a model was made without.

    Args:
        model: the model.
        table: its names.
        at: where in the table the model's own paths begin.
    """
    parts = {row.removeprefix(at).split("/")[0] for row in table.rows if row.startswith(at)}
    absent = [at + part for part in parts if getattr(model, part, "") is None]
    return [
        re.sub(r"\\\{[ij]\\\}", r"\\d+", re.escape(theirs)) + r"\..*"
        for row, theirs in table.rows.items()
        if any(row == part or row.startswith(f"{part}/") for part in absent)
    ]


def _pending(weights: Weights, item: Any, shape: tuple) -> Pending:
    return Pending(
        shape,
        lambda: from_checkpoint(weights[item.tensor], item.transposed, shape),
        lambda: weights.release(item.tensor),
    )


def _check_tied(weights: Weights, table: WeightTable) -> None:
    """A tensor that should repeat another must at least have its shape."""
    for copy, original in (table.tied or {}).items():
        wrong = (
            copy in weights
            and original in weights
            and weights.shape(copy) != weights.shape(original)
        )
        if wrong:
            raise ValueError(
                f"{copy} {weights.shape(copy)} should repeat {original} "
                f"{weights.shape(original)}, but has another shape."
            )


def weight_variables(model: Any) -> dict[str, Any]:
    """The weights of a model by their paths below it, without random states."""
    return dict(model.named_weights())


class _Merged:
    """A weight in floats with its low-rank update, computed when it is written."""

    def __init__(self, layer: Any):
        self.layer = layer

    def numpy(self) -> Any:
        return keras.ops.convert_to_numpy(self.layer.effective_weight())


def merged_weights(model: Any) -> dict[str, Any]:
    """The weights of a model by their paths, with low-rank updates in the weights they change, and
    what is kept in int8 in floats.
    """
    changed = {
        id(weight): layer
        for layer in model.flatten_layers()
        if getattr(layer, "lora_enabled", False) or layer.quantization_mode
        for name in ("kernel", "embeddings")
        if (weight := getattr(layer, name, None)) is not None
    }
    return {
        path: _Merged(changed[id(variable)]) if id(variable) in changed else variable
        for path, variable in weight_variables(model).items()
        if not re.search(r"(^|/)(lora_\w+|(kernel|embeddings)_scale)$", path)
    }


def load_backbone(
    cls: type,
    preset: Any,
    *,
    backend: str | None = None,
    dtype: Any = None,
    load_weights: bool = True,
    revision: str | None = None,
    token: str | None = None,
    variant: str | None = None,
    **overrides: Any,
) -> Any:
    """What `Backbone.from_preset` does."""
    files = resolve(preset, revision=revision, token=token)
    config = read_config(files)
    family, config = _of_part(family_of(config["model_type"]), config, cls)
    if not issubclass(family.backbone, cls):
        raise ValueError(
            f"{preset!r} is a {family.model_type} checkpoint: use {family.backbone.__name__}, "
            f"not {cls.__name__}."
        )
    with keras.use_backend(backend or keras.backend()):
        weights = open_weights(files, variant) if load_weights else None
        if weights is not None:
            weights.rename(family.older)
        prefix = detect_prefix(family, weights) if weights else ""
        made = {**arguments(family, config), **overrides}
        for path in family.optional if weights else ():
            made.setdefault(path, has_optional(family, path, weights, prefix))
        model = family.backbone(**made, dtype=dtype)
        if weights is not None:
            table = family.weights.prefixed("", prefix)
            ignored = WeightTable({}, ignore=(*family.known, *without(model, table)))
            load_into(model, weights, table.joined(ignored))
    model.source_config = config
    return model


def written_config(family: Any, backbone: Any, task: str, extra: Mapping[str, Any]) -> dict:
    """The config.json for a model: what it was loaded with, brought up to date."""
    config = _up_to_date(family, getattr(backbone, "source_config", {}), backbone.get_config())
    if family.library == "diffusers":
        config.pop("model_type", None)
        return {**config, "_class_name": family.model_type, **extra}
    return config | {
        "model_type": family.stated or family.model_type,
        "architectures": [family.architectures[task]],
        "dtype": _DTYPES.get(backbone.variable_dtype, "float32"),
        **extra,
    }


def _up_to_date(family: Any, config: Mapping[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """A config.json with our arguments, and those of parts, in it."""
    said = {key: values[0] for key, values in family.fixed.items() if values[0] is not None}
    config = {**said, **config}
    ours = ours | {name: ours[name] + more for name, more in family.offsets.items()}
    config |= {theirs: ours[name] for name, theirs in family.config.items()}
    config |= family.write(ours) if family.write else {}
    for name, (kind, key) in family.parts.items():
        part = family_of(kind)
        config[key] = _up_to_date(part, part_config(part, config, key), ours[name])
        config.pop(f"{key}_dict", None)
    for key in ("_name_or_path", "torch_dtype", "transformers_version"):
        config.pop(key, None)
    return config


def write_preset(
    directory: Any, model: Any, table: WeightTable, config: Mapping[str, Any], tokenizer: Any,
    file: str = WEIGHTS,
) -> None:  # fmt: skip
    """Write weights, tokenizer and config into a folder; the config comes last.

    Raises:
        OSError: the folder cannot be written, or the disk is full; older files stay as they were.
    """
    folder = Path(os.fspath(directory))
    folder.mkdir(parents=True, exist_ok=True)
    tensors = Exported(merged_weights(model), table)
    save_safetensors(folder / file, tensors, {"format": "pt"})
    if tokenizer is not None:
        tokenizer.save(folder)
    write_json(folder / "config.json", config)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def save_backbone(model: Any, directory: Any) -> None:
    """What `Backbone.save_to_preset` does."""
    family = family_of(model.family)
    config = written_config(family, model, "Backbone", {})
    file = DIFFUSION_WEIGHTS if family.library == "diffusers" else WEIGHTS
    table = family.weights.prefixed("", family.own_prefix)
    write_preset(directory, model, table, config, None, file)
