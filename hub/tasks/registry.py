"""Which task a checkpoint is for: by its config, or by the name of a pipeline."""

from typing import Any

from hub.families import family_of
from hub.models.backbone import Backbone
from hub.presets import resolve
from hub.presets.build import read_config
from hub.presets.files import PIPELINE, PresetFiles
from hub.tasks.causal_lm import CausalLM
from hub.tasks.masked_lm import MaskedLM
from hub.tasks.seq2seq_lm import Seq2SeqLM
from hub.tasks.stable_diffusion import StableDiffusion
from hub.tasks.task import Task
from hub.tasks.text_classifier import TextClassifier
from hub.tasks.text_embedder import TextEmbedder
from hub.tasks.text_to_image import TextToImage
from hub.tasks.token_classifier import TokenClassifier
from hub.tasks.zero_shot_classifier import ZeroShotImageClassifier

# The Hub's names of pipelines.
PIPELINES: dict[str, Any] = {
    "text-classification": TextClassifier,
    "token-classification": TokenClassifier,
    "fill-mask": MaskedLM,
    "feature-extraction": TextEmbedder,
    "text-generation": CausalLM,
    "text2text-generation": Seq2SeqLM,
    "zero-shot-image-classification": ZeroShotImageClassifier,
    "text-to-image": TextToImage,
}
_TASKS = {task.task: task for task in PIPELINES.values() if issubclass(task, Task)}


def task_of(files: PresetFiles) -> type[Task] | type[Backbone] | type[StableDiffusion]:
    """The task that the files of a checkpoint are for; `Backbone` where they have no head.

    Args:
        files: what `hub.presets.resolve` returned.

    Raises:
        ValueError: the model type is not supported, or its head is none of ours.
    """
    if PIPELINE in files:  # of diffusers
        return StableDiffusion
    config = read_config(files)
    family = family_of(config["model_type"])
    if "modules.json" in files:  # a model of sentence-transformers
        return TextEmbedder
    stated = (config.get("architectures") or [None])[0]
    if stated is None:
        tasks = (files.row or {}).get("tasks") or ["Backbone"]
        return _TASKS.get(tasks[0], Backbone)
    tasks = {name: task for task, name in family.architectures.items()}
    if stated not in tasks:
        raise ValueError(
            f"{files.location} is a {stated}, for which there is no task; known of "
            f"{family.model_type!r}: {sorted(tasks)}. Name a task instead, such as "
            "hub.TextEmbedder.from_preset(...), to use its backbone."
        )
    return _TASKS.get(tasks[stated], Backbone)


def load(preset: Any, *, revision: str | None = None, token: Any = None, **kwargs: Any) -> Any:
    """The model of any supported checkpoint, as the task that its config names.

    Args:
        preset: a built-in name, `org/repo`, `hf://org/repo@revision/subfolder`, or a folder.
        revision: a branch, tag or commit of the repository.
        token: a token for the Hub.
        kwargs: as for the task's `from_preset`, such as `backend` and `dtype`.

    Raises:
        ValueError: the preset is unknown, its model type is not supported, or its files do not fit.

    Example:
        >>> load("minilm_l6_en").predict(["a", "b"], verbose=0).shape  # doctest: +SKIP
        (2, 384)
    """
    files = resolve(preset, revision=revision, token=token)
    return task_of(files).from_preset(files, **kwargs)
