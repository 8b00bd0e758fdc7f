"""Task classes by name, by pipeline and by checkpoint; `load`, for any checkpoint."""

from typing import TYPE_CHECKING, Any, TypeVar, overload

from hub.families import class_prefixes, family_of
from hub.models.backbone import Backbone
from hub.presets import resolve
from hub.presets.build import read_config
from hub.presets.files import PIPELINE, PresetFiles
from hub.tasks.discovery import all_tasks, find_class
from hub.tasks.task import Task

if TYPE_CHECKING:
    from hub.tasks.both.stable_diffusion import StableDiffusion

_Model = TypeVar("_Model")

# Files of other libraries that are for one task: diffusers and sentence-transformers.
_TASK_FILES = {PIPELINE: "StableDiffusion", "modules.json": "TextEmbedder"}


def class_named(name: str) -> type | None:
    """Return the task class of a public name: a task's own, a family's, or an alias of either.

    Args:
        name: such as "TextClassifier", "BertTextClassifier" or "BertClassifier".

    >>> class_named("BertClassifier").__name__
    'BertTextClassifier'
    """
    own = Task if name == "Task" else find_class(name)
    if own is not None or not name[:1].isupper():
        return own
    for prefix, model_type in class_prefixes().items():
        if not name.startswith(prefix):
            continue
        rest = name.removeprefix(prefix)
        task = find_class(rest)
        if task is None:
            task = next((t for t in all_tasks() if rest in getattr(t, "family_aliases", ())), None)
        if _is_over(task, model_type):
            return task.for_family(model_type)
    return next((task for task in all_tasks() if name in getattr(task, "aliases", ())), None)


def _is_over(task: Any, model_type: str) -> bool:
    """Whether a task has a class for a family."""
    return (
        isinstance(task, type)
        and issubclass(task, Task)
        and family_of(model_type).head(task.task) is not None
    )


def class_names() -> list[str]:
    """Return the names of all task classes, those of families and aliases too.

    >>> {"Task", "TextClassifier", "BertTextClassifier", "BertClassifier"} <= {*class_names()}
    True
    """
    names = {"Task"}
    for task in all_tasks():
        names |= {task.__name__, *getattr(task, "aliases", ())}
        for prefix, model_type in class_prefixes().items():
            if _is_over(task, model_type):
                names |= {prefix + name for name in (task.task, *task.family_aliases)}
    return sorted(names)


def pipelines() -> dict[str, Any]:
    """Return the Hub's name of a pipeline -> the task class that is run for it.

    >>> pipelines()["fill-mask"].__name__
    'MaskedLM'
    """
    return {task.pipeline: task for task in all_tasks() if task.pipeline}


def task_for(config: dict[str, Any]) -> type[Task] | None:
    """Return the task whose head a config.json names; None for a backbone or another head.

    Args:
        config: what `hub.presets.build.read_config` returned.
    """
    family = family_of(config["model_type"])
    architecture = (config.get("architectures") or [None])[0]
    for task in all_tasks():
        head = family.head(task.task)
        if head is not None and head.architecture is not None and head.architecture == architecture:
            return task
    return None


def task_of(files: PresetFiles) -> Any:
    """Return the task that the files of a checkpoint are for; `Backbone` where they have no head.

    Args:
        files: what `hub.presets.resolve` returned.

    Raises:
        ValueError: the model type is not supported, or its head is none of ours.
    """
    if PIPELINE in files:
        return find_class(_TASK_FILES[PIPELINE])
    config = read_config(files)
    family = family_of(config["model_type"])
    for name, task in _TASK_FILES.items():
        if name in files:
            return find_class(task)
    if family.library == "timm" and config.get("num_classes") != 0:
        return find_class("ImageClassifier")
    architecture = (config.get("architectures") or [None])[0]
    if architecture is None:
        tasks = (files.row or {}).get("tasks") or ["Backbone"]
        return find_class(tasks[0]) or Backbone
    task = task_for(config)
    if task is None and architecture != family.architecture:
        heads = {task.task: family.head(task.task) for task in all_tasks()}
        names = sorted({h.architecture for h in heads.values() if h and h.architecture})
        raise ValueError(
            f"{files.location} is a {architecture}, for which there is no task; those of "
            f"{family.model_type!r} are {[*names, family.architecture]}. Name a task instead, such "
            "as hub.TextEmbedder.from_preset(...), to use its backbone."
        )
    return task or Backbone


@overload
def load(
    preset: Any,
    task: type[_Model],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    **kwargs: Any,
) -> _Model: ...


@overload
def load(
    preset: Any,
    task: None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    **kwargs: Any,
) -> "Task | Backbone | StableDiffusion": ...


def load(
    preset: Any,
    task: Any = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    **kwargs: Any,
) -> Any:
    """Load the model of any supported checkpoint, as the task that its config names.

    Args:
        preset: a built-in name, `org/repo`, `hf://org/repo@revision/subfolder`, or a folder.
        task: the class that the model must be of, which type checkers then know; any by default.
        revision: a branch, tag or commit of the repository.
        token: a token for the Hub.
        kwargs: as for the task's `from_preset`, such as `backend` and `dtype`.

    Raises:
        ValueError: the preset is unknown, its model type is not supported, or its files do not fit.
        TypeError: the checkpoint is for another task.

    Example:
        >>> load("minilm_l6_en").predict(["a", "b"], verbose=0).shape  # doctest: +SKIP
        (2, 384)
    """
    files = resolve(preset, revision=revision, token=token)
    actual = task_of(files)
    if task is not None:
        if not (issubclass(actual, task) or issubclass(task, actual)):
            raise TypeError(
                f"{files.location} is for {actual.__name__}, expected {task.__name__}. "
                f"{task.__name__}.from_preset(...) puts a new head on it."
            )
        actual = actual if issubclass(actual, task) else task
    return actual.from_preset(files, **kwargs)
