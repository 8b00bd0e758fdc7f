"""Saving weights, config and tokenizer in the layout of transformers and diffusers."""

from collections.abc import Mapping
from typing import Any

from hub.families import Family, family_of
from hub.files import write_json
from hub.presets.build import config_keys, part_config
from hub.weights.loading import export
from hub.weights.reader import DIFFUSION_WEIGHTS, WEIGHTS
from hub.weights.tables import WeightTable
from keraslite.saving import replacing_folder, save_safetensors

_DTYPES = ("float32", "float16", "bfloat16")


def config_of(
    family: Family, backbone: Any, architecture: str | None, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the config.json of a model: that of its checkpoint with the current arguments.

    Args:
        family: the backbone's family.
        backbone: the backbone.
        architecture: the architecture of a model with a head; None for a backbone.
        extra: keys that the task adds.
    """
    config = _updated_config(family, getattr(backbone, "source_config", {}), backbone.get_config())
    if family.library != "transformers":
        config.pop("model_type", None)
        name = {"_class_name": family.model_type} if family.library == "diffusers" else {}
        return {**config, **name, **extra}
    dtype = backbone.variable_dtype
    return config | {
        "model_type": family.config_type or family.model_type,
        "architectures": [architecture or family.architecture],
        "dtype": dtype if dtype in _DTYPES else "float32",
        **extra,
    }


def _updated_config(
    family: Family, config: Mapping[str, Any], arguments: dict[str, Any]
) -> dict[str, Any]:
    """Return a config.json with the arguments of a backbone and of its parts."""
    fixed = {key: values[0] for key, values in family.fixed.items() if values[0] is not None}
    config = {**fixed, **config}
    keys = config_keys(family)
    arguments = dict(arguments)
    for name, (_, offset) in keys.items():
        if offset:
            arguments[name] += offset
    config |= {key: arguments[name] for name, (key, _) in keys.items()}
    config |= family.write(arguments) if family.write else {}
    for name, (model_type, key) in family.parts.items():
        part = family_of(model_type)
        config[key] = _updated_config(part, part_config(part, config, key), arguments[name])
        config.pop(f"{key}_dict", None)
    for key in ("_name_or_path", "torch_dtype", "transformers_version"):
        config.pop(key, None)
    return config


def write_preset(
    directory: Any, model: Any, table: WeightTable, config: Mapping[str, Any], tokenizer: Any,
    file: str = WEIGHTS,
) -> None:  # fmt: skip
    """Write weights, tokenizer and config into a folder, all or none.

    Args:
        directory: the folder; it is created if it does not exist.
        model: the model.
        table: the names of its weights.
        config: the content of config.json.
        tokenizer: one of `hub.tokenizers`, or None.
        file: the name of the file of weights.

    Raises:
        OSError: the folder cannot be written, or the disk is full; older files are kept.
    """
    with replacing_folder(directory) as folder:
        save_safetensors(folder / file, export(model, table), {"format": "pt"})
        if tokenizer is not None:
            tokenizer.save(folder)
        write_json(folder / "config.json", config)


def save_backbone(model: Any, directory: Any) -> None:
    """Write a backbone as `Backbone.save_to_preset` does.

    Args:
        model: the backbone.
        directory: a folder; it is created if it does not exist.
    """
    family = family_of(model.family)
    config = config_of(family, model, None, {})
    file = DIFFUSION_WEIGHTS if family.library == "diffusers" else WEIGHTS
    table = family.table(model.get_config()).prefixed("", family.own_prefix)
    write_preset(directory, model, table, config, None, file)
