"""Convert a preset of KerasHub to a checkpoint of transformers, and report on every tensor.

No class that a config names is imported: names are looked up in
`hub.convert.kerashub_families`. Nothing is written before the names and shapes of all tensors were
checked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keraslite as keras
from hub.convert.kerashub_families import ACTIVATIONS, LEFT, TASKS, KerasHubFamily
from hub.convert.kerashub_image_families import EVERY_BACKBONE
from hub.convert.kerashub_images import write_image_files
from hub.convert.kerashub_speech import generation_config, write_speech_files
from hub.convert.kerashub_tokenizers import read_tokenizer, write_tokenizer
from hub.convert.kerashub_weights import (
    FLOATS,
    SHARDS,
    TASK,
    WEIGHTS,
    KerasHubWeights,
    fill,
    left_over,
)
from hub.convert.safetensors import check_target
from hub.families import family_of
from hub.models.image_backbone import has_arguments
from hub.presets import build, save
from hub.presets.files import PresetFiles, resolve
from hub.tasks.discovery import find_class
from hub.weights.loading import layer_storages, weight_variables
from hub.weights.reader import open_weights
from hub.weights.storage import AS_IS
from hub.weights.tables import WeightTable, name_tensors
from keraslite.saving import replacing_folder

_WORDS = {
    int: "a positive int", float: "a float", bool: "a bool", str: "a string",
    list: "a list of positive ints",
}  # fmt: skip
_SHAPES = ("image_shape", "input_shape")  # None where images may be of any size
_COMMON = ("name", "trainable", "dtype")  # of any Keras config, of no use here


@dataclass(frozen=True)
class Converted:
    """The conversion of a tensor.

    Attributes:
        theirs: its name in the preset, or names of several that were joined; "" for zeros.
        ours: its name in the new checkpoint; "" if it was left.
        shape: in the new checkpoint, or of what was left.
        dtype: as `shape`.
        note: what was done with it, or why it was left.
    """

    theirs: str
    ours: str
    shape: tuple[int, ...]
    dtype: str
    note: str


def is_kerashub(source: PresetFiles) -> bool:
    """Return whether a preset was saved by KerasHub or KerasNLP.

    Args:
        source: what `hub.presets.resolve` returned.
    """
    return (WEIGHTS in source or SHARDS in source) and (
        "config.json" in source and "registered_name" in source.json("config.json")
    )


def convert_kerashub(source: PresetFiles, target: Path) -> list[Converted]:
    """Write a preset of KerasHub as a checkpoint that `from_preset` and transformers open.

    Args:
        source: what `hub.presets.resolve` returned.
        target: a folder, made if need be; must hold no checkpoint.

    Returns:
        A row for every tensor here, then for every tensor that was left.

    Raises:
        FileExistsError: the folder holds a checkpoint.
        ImportError: h5py is not installed.
        ValueError: the architecture is not supported, a file is damaged or refused, or the tensors
            do not fit; nothing was written then.

    Example:
        >>> rows = convert_kerashub(resolve("bert_preset"), Path("bert"))  # doctest: +SKIP
        >>> rows[0].theirs, rows[0].ours  # doctest: +SKIP
        ('layers/reversible_embedding/vars/0', 'embeddings.word_embeddings.weight')
    """
    check_target(target)
    theirs, config_of_preset = _class_of(source)
    ours = read_arguments(theirs, config_of_preset, f"config.json of {source.location}")
    with KerasHubWeights(source) as tensors, keras.use_backend("numpy"):
        depth = ours.get("num_groups", ours.get("num_layers", 0))
        depth *= ours.get("num_inner_repetitions", 1)
        depth += sum(ours.get("stackwise_num_blocks", ours.get("stackwise_num_repeats", ())))
        if depth > len(tensors):
            raise ValueError(f"The config has {depth} layers, the file {len(tensors)} tensors.")
        task, settings, why = _task_of(theirs, source, config_of_preset, ours)
        learned = [n for n in tensors if not any(re.fullmatch(pattern, n) for pattern in LEFT)]
        dtypes = {tensors.dtype(name) for name in learned} & set(FLOATS)
        dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
        longest = ours.get("max_sequence_length", ours.get("max_decoder_sequence_length", 512))
        tokenizer = None
        if theirs.tokenizer:
            tokenizer = read_tokenizer(source, theirs.tokenizer, theirs.model_type, longest)
        if task == "SpeechToText":
            if tokenizer is None:
                task = "Backbone"  # which has no special tokens to decode with
            else:
                settings = {"generation_config": generation_config(source, tokenizer)}
        model, table, config = _model(theirs, task, ours, settings, dtype, tokenizer)
        variables = weight_variables(model)
        plan = {path: theirs.sources(path, task, ours) for path in variables}
        left = left_over(plan, tensors, {**LEFT, **theirs.left, **why})
        done = {p: fill(variables[p], p, plan[p], tensors, theirs, ours) for p in plan}
        with replacing_folder(target) as folder:
            if tokenizer is not None:
                write_tokenizer(source, theirs.tokenizer, tokenizer, folder)
            if task == "SpeechToText":
                write_speech_files(source, model, folder)
            if not theirs.tokenizer:
                write_image_files(source, folder)
            save.write_preset(folder, model, table, config, None)
        report = []
        matches = name_tensors(layer_storages(model), table)
        stored = {match.path: (match.tensor, match.storage) for match in matches}
        written = open_weights(resolve(target))
        for path, steps in done.items():
            name, storage = stored[path]
            words = ", ".join(steps if storage == AS_IS else [*steps, "transposed"]) or "as it is"
            row = (written.shape(name), written.dtype(name), words)
            report.append(Converted(" + ".join(plan[path]), name, *row))
        return report + [
            Converted(name, "", tensors.shape(name), tensors.dtype(name), reason)
            for name, reason in left.items()
        ]


# -- configs --------------------------------------------------------------------------------------


def _class_of(source: PresetFiles) -> tuple[KerasHubFamily, dict[str, Any]]:
    record = source.json("config.json")
    name, config = record.get("class_name"), record.get("config")
    if not isinstance(name, str) or name not in EVERY_BACKBONE:
        raise ValueError(
            f"{source.location} is a {name!r} of KerasHub, which is not converted. Supported: "
            f"{', '.join(EVERY_BACKBONE)}."
        )
    if not isinstance(config, dict):
        raise ValueError(f"config.json of {source.location} has no 'config' of its {name}.")
    return EVERY_BACKBONE[name], config


def read_arguments(theirs: KerasHubFamily, config: Mapping, place: str) -> dict[str, Any]:
    """Return our arguments out of a config, whose keys and types of values are checked.

    Args:
        theirs: the architecture.
        config: of its backbone in KerasHub.
        place: where the config is, in words.

    Raises:
        ValueError: a key is missing or unknown, or a value has another type.

    >>> from hub.convert.kerashub_families import BACKBONES
    >>> read_arguments(BACKBONES["BertBackbone"], {}, "config.json")
    Traceback (most recent call last):
    ValueError: config.json lacks ['dropout', 'hidden_dim', ... and has the unknown [].
    """
    unknown = sorted(set(config) - set(theirs.config) - set(_COMMON))
    missing = sorted(set(theirs.config) - set(config) - {"key_value_dim"})
    if unknown or missing:
        raise ValueError(f"{place} lacks {missing} and has the unknown {unknown}.")
    arguments = {}
    for key, cls in theirs.config.items():
        value = config.get(key)
        if key == "activation" and theirs.read is None:
            name = value.get("config") if isinstance(value, dict) else value
            name = name.rpartition(">")[2] if isinstance(name, str) else None
            if name not in ACTIVATIONS:
                raise ValueError(f"The activation {value!r} is none of {sorted(ACTIVATIONS)}.")
            value = ACTIVATIONS[name]
        elif value is None and key == "key_value_dim":
            continue
        elif cls is object:
            pass
        elif type(value) not in ((int, float) if cls is float else (cls,)) or (
            cls in (int, list) and not _are_sizes(value, key)
        ):
            raise ValueError(f"config.json has {key}={value!r}, expected {_WORDS[cls]}.")
        arguments[key] = value
    if theirs.read is not None:
        return theirs.read(arguments)
    arguments |= theirs.fixed
    return arguments | {ours: arguments[other] for ours, other in theirs.same.items()}


def _are_sizes(value: int | list, key: str) -> bool:
    """Return whether an int is positive, or all in a list are."""
    sizes = value if isinstance(value, list) else [value]
    sizes = [n for n in sizes if n is not None or key not in _SHAPES]
    return bool(sizes) and all(type(n) is int and 0 < n < 2**31 for n in sizes)


def _task_of(
    theirs: KerasHubFamily, source: PresetFiles, preset: dict, ours: dict
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Return our task, its arguments, and why tensors of another head are left."""
    if "tie_embedding_weights" in ours:
        return theirs.task, {"tied": ours.pop("tie_embedding_weights")}, {}
    if TASK not in source:
        return theirs.task, {}, {}
    record = source.json("task.json")
    name, config = record.get("class_name"), record.get("config")
    if not isinstance(name, str) or not isinstance(config, dict):
        raise ValueError(f"task.json of {source.location} names no class with its config.")
    task = next((TASKS[end] for end in TASKS if name.endswith(end)), "")
    head: Any = theirs.heads.get(task, f"there is no task like {name} for {theirs.model_type}")
    head = theirs.inexact.get(task, head)
    if config.get("hidden_dim") not in (None, preset.get("hidden_dim")):
        head = f"its hidden_dim={config['hidden_dim']} is not that of the backbone"
    for key, only in theirs.head_config.items():
        if config.get(key, only) != only:
            head = f"its {key}={config[key]!r} is not {only!r}, as in a {theirs.model_type}"
    if isinstance(head, str):
        return theirs.task, {}, {r"task/layers/.*": head}
    if task not in ("TextClassifier", "ImageClassifier"):
        return task, {}, {}
    # The softmax of a classifier of images is ours by default.
    softmax = ("softmax",) if task == "ImageClassifier" else ()
    if config.get("activation") not in (None, "linear", *softmax):
        raise ValueError(
            f"task.json has activation={config['activation']!r}, but the head of a checkpoint of "
            "transformers gives logits. Save the task with activation=None."
        )
    settings = {key: config.get(key) for key in ("num_classes", "dropout")}
    if type(settings["num_classes"]) is not int or type(settings["dropout"]) not in (int, float):
        raise ValueError(f"task.json says {settings}, expected an int and a float.")
    return task, settings, {}


def _model(
    theirs: KerasHubFamily, task: str, ours: dict, settings: dict, dtype: str, tokenizer: Any
) -> tuple[Any, WeightTable, dict]:
    """Return the model without weights, the names of its weights, and its config."""
    backbone = family_of(theirs.model_type).backbone(**ours, dtype=dtype)
    family = family_of(backbone.family)
    special = getattr(tokenizer, "special_tokens", {})
    ids = {f"{role}_id": tokenizer.token_to_id(token) for role, token in special.items()}
    roles = ("bos_token_id", "eos_token_id", "pad_token_id")
    backbone.source_config = {**theirs.stated, **{r: ids[r] for r in roles if r in ids}}
    if theirs.start and tokenizer is not None:
        backbone.source_config["decoder_start_token_id"] = tokenizer.token_to_id(theirs.start)
    model, table, extra = backbone, family.table(backbone.get_config()), {}
    if task != "Backbone":
        if task == "Seq2SeqLM":
            settings = {**settings, "start_token_id": ids.get("pad_token_id", 0)}
        model = find_class(task).for_family(family.model_type)(backbone, **settings)
        table, extra = family.task_weights(task, backbone), model.config_json()
    architecture = None if task == "Backbone" else family.heads[task].architecture
    config = save.config_of(family, backbone, architecture, extra)
    said = build.arguments(family, config)
    shared = sorted(said.keys() & ours.keys())
    wrong = [key for key in shared if not has_arguments(ours, {key: said[key]})]
    if wrong:
        words = ", ".join(f"{key}={ours[key]!r}" for key in wrong)
        raise ValueError(f"The config.json of a {family.model_type} cannot say {words}.")
    return model, table, config
