"""Families: what tasks and presets must know of an architecture, as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keraslite as keras
from hub.weights.tables import WeightTable


@dataclass(frozen=True)
class Family:
    """What the tasks must know of an architecture, as data.

    Attributes:
        model_type: its name in a config.json.
        backbone: its class.
        tokenizer: the name of its tokenizer in `hub.tokenizers`; None if it reads no text.
        config: our argument -> the key of config.json.
        fixed: keys of config.json and the only values that are supported.
        weights: the names of the backbone's weights.
        prefix: what stands before them in a checkpoint with a head.
        heads: task name -> the names of the head's weights.
        architectures: task name -> what config.json calls it.
        known: patterns of tensors of other heads, which a task without them may leave.
        optional: paths of the backbone that some checkpoints lack.
        offsets: our argument -> how much more config.json says.
        classifier: of the dense layer that a text classifier has over the first token, the
            activation and whether dropout stands before it; None for one over the pooled output.
        head_activation: of the masked-LM head's transform; the backbone's by default.
        head_dropout: the key of config.json for a classifier's dropout.
        read: arguments that config.json has in another form, out of it.
        write: keys of config.json out of arguments; the inverse of `read`.
        for_task: task name -> arguments of the backbone that it needs.
        library: whose files it has: "transformers" or "diffusers", whose config.json names a
            `_class_name`, our model type, and whose weights are called otherwise.
        own_prefix: what stands before the names in the files of the backbone itself.
        older: patterns in the names of older files -> what stands there today.
        defaults: keys of config.json -> what they are where it does not say.
        parts: our arguments that are arguments of another family's backbone -> (its model type,
            the key that holds its config). That backbone is loaded out of such a checkpoint too.
        stated: the model type in its config.json, where that is another family's; its model type
            here is then the architecture that stands there too.
    """

    model_type: str
    backbone: type
    config: Mapping[str, str]
    weights: WeightTable
    tokenizer: str | None = None
    prefix: str = ""
    fixed: Mapping[str, tuple] = field(default_factory=dict)
    heads: Mapping[str, WeightTable] = field(default_factory=dict)
    architectures: Mapping[str, str] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    offsets: Mapping[str, int] = field(default_factory=dict)
    classifier: tuple[str, bool] | None = None
    head_activation: str | None = None
    head_dropout: str = "classifier_dropout"
    read: Callable[[dict], dict] | None = None
    write: Callable[[dict], dict] | None = None
    for_task: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    library: str = "transformers"
    own_prefix: str = ""
    older: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    stated: str | None = None


FAMILIES: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Make a family known by its model type, and its backbone to files of models."""
    keras.saving.register_keras_serializable("hub")(family.backbone)
    FAMILIES[family.model_type] = family
    return family


def family_of(model_type: Any) -> Family:
    """The family of a model type; an unknown one is an error that lists those there are."""
    if model_type not in FAMILIES:
        raise ValueError(
            f"The model type {model_type!r} is not supported. Supported: {sorted(FAMILIES)}."
        )
    return FAMILIES[model_type]
