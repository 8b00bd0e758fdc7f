"""Families: what tasks and presets must know of an architecture, as data.

`families.json` says in which file of `hub.models` each model type is; the file is imported when the
model type is asked for, and registers its `Family`.
"""

import functools
import importlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import keraslite as keras


@dataclass(frozen=True)
class Head:
    """The head of a family for one task: its name in config.json, weights and options.

    Attributes:
        architecture: the name in config.json; None for a task whose checkpoints are those of the
            backbone.
        weights: a `WeightTable` of the head's weights; None for a head without weights.
        backbone: arguments of the backbone that the task needs.
        options: what the task builds its head by; the task's class names them.
        included_in: other architectures whose checkpoints have this head among theirs.
    """

    architecture: str | None = None
    weights: Any = None
    backbone: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    included_in: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """The description of an architecture, for tasks and loaders, as data.

    Attributes:
        model_type: its name in a config.json; of diffusers, the `_class_name` there.
        backbone: its class.
        config: our argument -> the key of config.json, or (key, what config.json adds to it).
        weights: the `WeightTable` of the backbone, or a function of the backbone's arguments that
            returns it.
        architecture: the name of the backbone in config.json.
        tokenizer: the name of its tokenizer in `hub.tokenizers`; None if it reads no text.
        defaults: keys of config.json -> the values of those it leaves out.
        fixed: keys of config.json -> the only values that are supported.
        read: return arguments that config.json has in another form, given its content.
        write: return keys of config.json, given arguments; the inverse of `read`.
        parts: our arguments that are arguments of another family's backbone -> (its model type,
            the key that holds its config). That backbone is loaded out of such a checkpoint too.
        prefix: stands before the backbone's names in a checkpoint with a head.
        own_prefix: stands before them in a checkpoint of the backbone alone.
        other_heads: patterns of tensors of heads, which a model without them may leave unread.
        heads: task name -> `Head`.
        memory_names: parts of names in a checkpoint -> what transformers calls them in memory, by
            which PEFT finds modules; in this order.
        library: whose files it has: "transformers", "diffusers" or "timm".
        config_type: the model type in config.json where that is another family's; `model_type` is
            then the architecture in config.json.
        infer: return the content of a config.json for a file of weights that is published without
            one, given the opened weights; None where they are another architecture's.
    """

    model_type: str
    backbone: type
    config: Mapping[str, str | tuple[str, int]]
    weights: Any
    architecture: str = ""
    tokenizer: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, tuple] = field(default_factory=dict)
    read: Callable[[dict], dict] | None = None
    write: Callable[[dict], dict] | None = None
    parts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    prefix: str = ""
    own_prefix: str = ""
    other_heads: tuple[str, ...] = ()
    heads: Mapping[str, Head] = field(default_factory=dict)
    memory_names: Mapping[str, str] = field(default_factory=dict)
    library: str = "transformers"
    config_type: str | None = None
    infer: Callable[[Any], dict | None] | None = None

    def head(self, task: str) -> Head | None:
        """The head of a task; None where the family has none.

        Args:
            task: the name of the task, such as "TextClassifier".
        """
        return self.heads.get(task) or _task_heads.get(task, _none)(self)

    def table(self, arguments: Mapping[str, Any]) -> Any:
        """The `WeightTable` of a backbone.

        Args:
            arguments: of the backbone.
        """
        return self.weights(arguments) if callable(self.weights) else self.weights

    def task_weights(self, task: str, backbone: Any) -> Any:
        """The `WeightTable` of a task's model, whose backbone is its `backbone`.

        Args:
            task: the name of the task; its checkpoints are the backbone's where there is no head.
            backbone: the backbone.
        """
        head = self.head(task) or Head()
        prefix = self.own_prefix if head.architecture is None else self.prefix
        table = self.table(backbone.get_config()).prefixed("backbone/", prefix)
        return table if head.weights is None else head.weights.joined(table)


_families: dict[str, Family] = {}
_task_heads: dict[str, Callable[[Family], Head | None]] = {}


def _none(family: Family) -> None:
    return None


def register(family: Family) -> Family:
    """Let a family be found by its model type, and its backbone in files of models.

    Args:
        family: of `hub.models`, or of a user.
    """
    keras.saving.register_keras_serializable("hub")(family.backbone)
    _families[family.model_type] = family
    return family


def register_heads(task: str, head_of: Callable[[Family], Head | None]) -> None:
    """Let families have a head that their own files do not name.

    Args:
        task: the name of the task; its file calls this.
        head_of: returns the head of a family, or None.
    """
    _task_heads[task] = head_of


@functools.cache
def places() -> dict[str, tuple[str, str]]:
    """Model type -> (the module of its backbone, the name of its class), of all in `hub.models`.

    >>> places()["bert"]
    ('hub.models.bert', 'BertBackbone')
    """
    rows = json.loads(resources.files(__package__).joinpath("families.json").read_text("utf-8"))
    split = {model_type: place.rsplit(".", 1) for model_type, place in rows.items()}
    return {k: (f"hub.models.{module}", name) for k, (module, name) in split.items()}


@functools.cache
def backbones() -> dict[str, str]:
    """The name of a class in `hub.models` -> its module.

    >>> backbones()["BertBackbone"]
    'hub.models.bert'
    """
    classes = {name: module for module, name in places().values()}
    return {"Backbone": "hub.models.backbone", **classes}


def class_prefixes() -> dict[str, str]:
    """Return the prefix of the class names of each backbone -> its first model type.

    >>> class_prefixes()["Bert"]
    'bert'
    """
    names = {name: model_type for model_type, (_, name) in reversed(places().items())}
    for model_type, family in _families.items():
        names.setdefault(family.backbone.__name__, model_type)
    return {name.removesuffix("Backbone"): model_type for name, model_type in names.items()}


@functools.cache
def _timm_rows() -> dict[str, str]:
    return json.loads(resources.files(__package__).joinpath("timm.json").read_text("utf-8"))


def timm_model_type(architecture: str) -> str:
    """Return the model type of an architecture of timm.

    Args:
        architecture: as in a config.json of timm.

    Raises:
        ValueError: it is not supported.

    >>> timm_model_type("resnet50")
    'timm_resnet'
    """
    for pattern, model_type in _timm_rows().items():
        if re.fullmatch(pattern, architecture):
            return model_type
    raise ValueError(
        f"The architecture {architecture!r} of timm is not supported; supported are the patterns "
        f"{list(_timm_rows())}."
    )


def model_types() -> list[str]:
    """The supported model types, in alphabetical order.

    >>> "bert" in model_types()
    True
    """
    return sorted({*places(), *_families})


def family_of(model_type: Any) -> Family:
    """The family of a model type.

    Args:
        model_type: as in config.json.

    Raises:
        ValueError: there is none; the message lists those there are.

    >>> family_of("bert").backbone.__name__
    'BertBackbone'
    """
    if model_type not in _families and model_type in places():
        importlib.import_module(places()[model_type][0])
    if model_type not in _families:
        raise ValueError(
            f"The model type {model_type!r} is not supported. Supported: {model_types()}."
        )
    return _families[model_type]
