"""Write models as presets of KerasHub, which its `from_preset` opens.

The names and shapes are those of the tables by which such presets are read. A config is read back
by the reader before anything is written: what KerasHub cannot say of a model is an error, so that
its answers are ours. The weights are written one at a time.
"""

import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

import keraslite as keras
from hub.blocks.transformer import activation_of
from hub.convert.kerashub import Converted, read_arguments
from hub.convert.kerashub_families import KerasHubFamily, without_underscores
from hub.convert.kerashub_image_families import EVERY_BACKBONE
from hub.convert.kerashub_images import CONVERTER, converter_config
from hub.convert.kerashub_records import (
    backbone_config,
    metadata,
    preprocessor_config,
    record,
    task_config,
)
from hub.convert.kerashub_vocabularies import write_kerashub_tokenizer
from hub.convert.kerashub_weights import TASK, WEIGHTS, split_weight
from hub.convert.safetensors import check_target
from hub.families import family_of
from hub.files import write_json
from hub.models.backbone import Backbone
from hub.models.image_backbone import has_arguments
from hub.preprocessing.audio_converter import WhisperAudioConverter
from hub.preprocessing.image import ImagePreprocessor
from hub.tasks.task import Task
from hub.tokenizers import Tokenizer
from hub.weights.loading import merged_weights
from keraslite.saving import replacing_folder, write_h5

_FLOATS = ("float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
# Arguments of ours that KerasHub lacks and inference does not need.
_FREE = ("attention_dropout", "embedding_dropout", "pooler", "name", "trainable", "dtype")
# The exact GELU is written as the tanh form, with a warning: they differ by 5e-4 at most.
_NEAR = {("gelu", "gelu_new")}
_SPEECH = "SpeechToText"
# Of the optimizer that KerasHub compiles a task with, whose state it looks for.
_LEARNING_RATE = 5e-5
_LEARNING_RATES = {"AlbertTextClassifier": 1e-5}


def export_to_kerashub(model: Any, folder: Any) -> list[Converted]:
    """Write a model as a preset that KerasHub 0.32 opens with `from_preset`.

    Low-rank updates are merged, quantized weights become floats. A task is written with its head
    and its preprocessor; a `SpeechToText` as backbone, tokenizer and audio converter, since
    KerasHub has no task for it. A tokenizer or an audio converter alone is added to a folder.

    Args:
        model: a backbone, a task, a tokenizer of a checkpoint, or a `WhisperAudioConverter`.
        folder: made if need be; for a backbone or a task it must hold no checkpoint.

    Returns:
        A row for every tensor that was written, then for those that KerasHub does not have.

    Raises:
        FileExistsError: the folder holds a checkpoint.
        ImportError: h5py is not installed.
        OSError: the folder cannot be written; older files are kept.
        TypeError: the model is of another type.
        ValueError: KerasHub has no such architecture or task, or it would compute something else;
            nothing was written then.

    Example:
        >>> model = hub.TextClassifier.from_preset("minilm_l6_en")  # doctest: +SKIP
        >>> rows = hub.export_to_kerashub(model, "exported")  # doctest: +SKIP
        >>> keras_hub.models.TextClassifier.from_preset("exported")  # doctest: +SKIP
    """
    folder = Path(folder)
    if isinstance(model, Tokenizer):
        prefix, theirs = _family(model.family, "the tokenizer")
        with replacing_folder(folder) as new:
            _write_tokenizer(model, prefix, theirs, new)
        return []
    if isinstance(model, WhisperAudioConverter):
        with replacing_folder(folder) as new:
            _write_converter(model, new)
        return []
    if not isinstance(model, Backbone | Task):
        raise TypeError(
            "export_to_kerashub takes a backbone, a task, a tokenizer or a WhisperAudioConverter, "
            f"got {type(model).__name__}."
        )
    check_target(folder)
    return _Preset(model).write(folder)


def _family(model_type: str | None, subject: str) -> tuple[str, KerasHubFamily]:
    """Return the prefix of KerasHub's classes of a family, and its table."""
    for name, theirs in EVERY_BACKBONE.items():
        if model_type in (theirs.model_type, *theirs.others):
            return name.removesuffix("Backbone"), theirs
    listed = ", ".join(
        f"{theirs.model_type} ({name})" if theirs.model_type not in name.lower() else name
        for name, theirs in EVERY_BACKBONE.items()
    )
    raise ValueError(
        f"The model type of {subject} is {model_type!r}, which is not written as a preset of "
        f"KerasHub. Those that are: {listed}."
    )


class _Preset:
    """A model as a preset of KerasHub: what is written, checked before a file is.

    Attributes:
        prefix: of the names of KerasHub's classes.
        theirs: the architecture.
        task: the name of our task that KerasHub has too, else "Backbone".
    """

    def __init__(self, model: Any):
        self.model = model
        self.backbone = model.backbone if isinstance(model, Task) else model
        self.prefix, self.theirs = _family(self.backbone.family, type(model).__name__)
        self.task = "Backbone"
        if isinstance(model, Task) and model.task != _SPEECH:
            self._check_head(model.task)
            self.task = model.task
        self.preprocessor = getattr(model, "preprocessor", None)
        self.config, self.arguments = self._configure()
        self.weights = self._weights()
        self.plan = self._plan()
        self.left = [p for p, names in self.plan.items() if names is None]
        unnamed = [p for p in self.left if not p.removeprefix("backbone/").startswith("pooler/")]
        if unnamed:
            raise ValueError(f"KerasHub's {self.prefix}{self.task} has no place for {unnamed[:8]}.")
        if self.task in self.theirs.inexact:
            self._warn(self.theirs.inexact[self.task], 4)

    def _check_head(self, task: str) -> None:
        if task not in self.theirs.tasks():
            tasks = f", and the tasks {names}" if (names := self.theirs.tasks()) else ""
            raise ValueError(
                f"KerasHub has no {task} of {self.theirs.model_type}. Its backbone can be written "
                f"(export_to_kerashub(model.backbone, ...)){tasks}."
            )

    def _warn(self, why: str, level: int) -> None:
        warnings.warn(f"KerasHub's answers will differ a little: {why}.", stacklevel=level)

    # -- configs ----------------------------------------------------------------------------------

    def _configure(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the config of KerasHub's backbone, and the arguments that it means for ours."""
        ours = self.backbone.get_config()
        settings = {"tie_embedding_weights": getattr(self.model, "tied", True)}
        config = backbone_config(self.theirs, ours, settings)
        arguments = read_arguments(self.theirs, config, f"the {type(self.backbone).__name__}")
        arguments.pop("tie_embedding_weights", None)
        with keras.use_backend("numpy"):  # whose weights are not made unless they are read
            again = family_of(self.theirs.model_type).backbone(**arguments).get_config()
        wrong = {}
        for key in sorted(ours.keys() - set(_FREE)):
            said, meant = ours[key], again.get(key)
            if has_arguments(ours, {key: meant}) or (
                key == "activation" and activation_of(said) == activation_of(meant)
            ):
                continue
            if (said, meant) in _NEAR:
                self._warn(
                    f"its {self.prefix}Backbone has the tanh form of GELU, this model the exact "
                    "one", 5,
                )  # fmt: skip
            else:
                wrong[key] = said, meant
        if wrong:
            words = ", ".join(f"{key}={a!r}, not {b!r}" for key, (a, b) in wrong.items())
            raise ValueError(
                f"This model cannot be a {self.prefix}Backbone of KerasHub: it has {words}."
            )
        return config, {**ours, **arguments}

    def _dtype(self) -> str:
        """Return the name of the policy; of a quantized model that of its floats."""
        policy = self.backbone.dtype_policy
        names = (policy.name, policy.name.rpartition("_from_")[2], policy.variable_dtype)
        return next(name for name in names if name in _FLOATS)

    # -- weights ----------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Any]:
        """Return weights in floats by path, with those that KerasHub always has."""
        weights = merged_weights(self.model)
        inside = "" if self.model is self.backbone else "backbone/"
        for layer in self.theirs.identities:
            if f"{inside}{layer}/kernel" not in weights:
                width = self.arguments["hidden_dim"]
                dtype = np.dtype(self.backbone.variable_dtype)
                weights[f"{inside}{layer}/kernel"] = _Constant(np.eye(width, dtype=dtype))
                weights[f"{inside}{layer}/bias"] = _Constant(np.zeros(width, dtype))
        return weights

    def _plan(self) -> dict[str, list[str] | None]:
        """Return our path -> the paths in KerasHub's files, with `task/` before those of a head."""
        is_task = self.task != "Backbone"  # a task that KerasHub lacks is written as a backbone
        named = {p: p if is_task else p.removeprefix("backbone/") for p in self.weights}
        return {
            path: self.theirs.paths(name, self.task, self.arguments)
            for path, name in named.items()
        }  # fmt: skip

    def _arrays(self, path: str) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (path in the file, array) of a weight of ours."""
        paths = self.plan[path] or []
        array = self.weights[path].numpy()
        added = self._added_to(path)
        if added is not None:
            array = (array.astype("float32") + added).astype(array.dtype)
        names = [without_underscores(p) for p in paths]
        parts = split_weight(array, path, names, self.theirs, self.arguments)
        yield from zip(paths, parts, strict=True)

    def _added_to(self, path: str) -> np.ndarray | None:
        """Return what KerasHub has no place for, and every position has added."""
        inside, plain = path.rpartition("backbone/")[1], path.removeprefix("backbone/")
        if plain != "position_embedding/embeddings":
            return None
        tables = [f"{inside}{zero}" for zero in self.theirs.zeros]
        rows = [self.weights[t].numpy()[0].astype("float32") for t in tables if t in self.weights]
        return sum(rows) if rows else None

    def write(self, folder: Path) -> list[Converted]:
        """Write all files.

        Args:
            folder: of the preset.
        """
        report: list[Converted] = []
        prefix, dtype = self.prefix, self._dtype()
        backbone = record(prefix, f"{prefix}Backbone", self.config, dtype)
        with replacing_folder(folder) as new:
            write_json(new / "config.json", backbone)
            for file, top in ((WEIGHTS, ""), (TASK, "task/")):
                paths = [p for p, names in self.plan.items() if names and _top(names) == top]
                arrays = self._reported(paths, top, report)
                if paths:
                    write_h5(new / file, chain(arrays, self._optimizer() if top else ()))
            preprocessor = self._write_preprocessor(new, dtype)
            if self.task != "Backbone":
                settings = task_config(self.model, self.theirs)
                parts = {"backbone": backbone, "preprocessor": preprocessor}
                named = record(prefix, f"{prefix}{self.task}", {})
                named["config"] = {**parts, **named["config"], **settings}
                write_json(new / "task.json", named)
            count = sum(
                int(np.prod(row.shape)) for row in report if not row.theirs.startswith("task/")
            )
            write_json(new / "metadata.json", metadata(self.theirs, count))
        for path in self.left:
            shape, why = tuple(self.weights[path].shape), "KerasHub has no pooled output there"
            report.append(Converted("", path, shape, "", why))
        return report

    def _optimizer(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the steps and the learning rate of an optimizer that has not begun."""
        rate = _LEARNING_RATES.get(f"{self.prefix}{self.task}", _LEARNING_RATE)
        yield "optimizer/vars/0", np.zeros((), "int32")
        yield "optimizer/vars/1", np.asarray(rate, "float32")

    def _reported(
        self, paths: list[str], top: str, report: list[Converted]
    ) -> Iterator[tuple[str, np.ndarray]]:
        for path in paths:
            for name, array in self._arrays(path):
                is_made = isinstance(self.weights[path], _Constant)
                note = "an identity, which this model lacks" if is_made else ""
                row = (path, array.shape, array.dtype.name, note)
                report.append(Converted(name, *row))
                yield name.removeprefix(top), array

    def _write_preprocessor(self, folder: Path, dtype: str) -> dict[str, Any] | None:
        """Write tokenizer, converter and preprocessor; return the record of the last."""
        if self.preprocessor is None:
            return None
        if isinstance(self.preprocessor, ImagePreprocessor) and not self.theirs.tokenizer:
            return self._write_image_preprocessor(folder)
        if not isinstance(getattr(self.preprocessor, "tokenizer", None), Tokenizer):
            raise ValueError(
                "A preprocessor of KerasHub has a tokenizer, got "
                f"{type(self.preprocessor).__name__}. Set model.preprocessor = None to write the "
                "model without one."
            )
        settings = getattr(self.model, "generation_config", None)
        tokenizer = _write_tokenizer(
            self.preprocessor.tokenizer, self.prefix, self.theirs, folder, settings
        )
        if isinstance(self.model, Task) and self.model.task == _SPEECH:
            _write_converter(self.preprocessor.audio, folder)
            return None
        name = f"{self.prefix}{self.task}Preprocessor"
        config = preprocessor_config(self.preprocessor, self.task)
        made = record(self.prefix, name, {"tokenizer": tokenizer, **config}, dtype)
        write_json(folder / "preprocessor.json", made)
        return made

    def _write_image_preprocessor(self, folder: Path) -> dict[str, Any]:
        """Write converter and preprocessor of images; return the record of the latter."""
        config, differs = converter_config(self.preprocessor)
        if differs:
            self._warn(differs, 6)
        converter = record(self.prefix, f"{self.prefix}ImageConverter", config, "float32")
        write_json(folder / CONVERTER, converter)
        config = {"image_converter": converter, "config_file": "preprocessor.json"}
        name = f"{self.prefix}{self.task}Preprocessor"
        made = record(self.prefix, name, config, "float32")
        write_json(folder / "preprocessor.json", made)
        return made


class _Constant:
    """A weight that KerasHub has and our model lacks."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape = array, array.shape

    def numpy(self) -> np.ndarray:
        return self.array


def _top(names: list[str]) -> str:
    return "task/" if names[0].startswith("task/") else ""


def _write_tokenizer(
    tokenizer: Any, prefix: str, theirs: KerasHubFamily, folder: Path, settings: Any = None
) -> dict[str, Any]:
    made = write_kerashub_tokenizer(tokenizer, prefix, theirs.tokenizer, folder, settings)
    write_json(folder / "tokenizer.json", made)
    return made


def _write_converter(converter: Any, folder: Path) -> None:
    made = record("Whisper", "WhisperAudioConverter", converter.get_config(), "float32")
    write_json(folder / "audio_converter.json", made)
