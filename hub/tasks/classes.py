"""Classes of a classifier: their number and names in a config.json, and in a checkpoint's head."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hub.families import family_of


def class_arguments(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return `num_classes` (None where it is not said) and `dropout`, out of a config.json.

    Args:
        config: its content.
        task: the name of the task.
    """
    names = class_names(config)
    dropout = config.get(dropout_key(config["model_type"], task))
    default = family_of(config["model_type"]).head(task).options.get("dropout", 0.1)
    return {
        "num_classes": len(names) or config.get("num_labels") or config.get("num_classes"),
        "dropout": config.get("hidden_dropout_prob", default) if dropout is None else dropout,
    }


def class_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the classes by their numbers; none where a config.json has none.

    Args:
        config: its content: `id2label` of transformers, or `label_names` of timm.

    >>> class_names({"label_names": ["cat", "dog"]})
    {'0': 'cat', '1': 'dog'}
    """
    names = config.get("label_names") or []
    descriptions = config.get("label_descriptions") or {}
    listed = {str(i): str(descriptions.get(name, name)) for i, name in enumerate(names)}
    return dict(config.get("id2label") or listed)


def dropout_key(model_type: str, task: str) -> str:
    """Return the key of config.json for the dropout of a family's classifier.

    Args:
        model_type: of the family.
        task: the name of the task.
    """
    head = family_of(model_type).head(task)
    return "classifier_dropout" if head is None else head.options.get(
        "dropout_key", "classifier_dropout"
    )  # fmt: skip


def check_classes(weights: Any, head: Any, num_classes: int) -> None:
    """Raise ValueError if a checkpoint's head is for another number of classes.

    Args:
        weights: the checkpoint.
        head: the names of the head's weights.
        num_classes: the expected number.
    """
    stored = weights.shape(f"{head.rows['head']}.weight")[0]
    if stored != num_classes:
        raise ValueError(
            f"The checkpoint classifies into {stored} classes, but num_classes={num_classes} was "
            "asked for. Leave num_classes out to keep its head, or give load_head=False to begin "
            "a new one."
        )


def label_config(task: Any) -> dict[str, Any]:
    """Return the keys of config.json that name the classes of a task.

    Args:
        task: a classifier; the names of its checkpoint stay, if their number is right.
    """
    names = class_names(getattr(task.backbone, "source_config", {}))
    if getattr(task, "label_names", None):
        names = {str(i): name for i, name in enumerate(task.label_names)}
    if len(names) != task.num_classes:
        names = {str(i): f"LABEL_{i}" for i in range(task.num_classes)}
    return {
        "id2label": names,
        "label2id": {label: int(i) for i, label in names.items()},
        "num_labels": task.num_classes,
    }


DEFAULT_CLASSES = 2  # what transformers means where a config has no labels


def check_num_classes(num_classes: Any) -> int:
    """Return a number of classes; raise ValueError if it is no positive integer.

    Args:
        num_classes: the number.

    >>> check_num_classes(3)
    3
    """
    is_integer = isinstance(num_classes, int | np.integer) and not isinstance(num_classes, bool)
    if not is_integer or num_classes < 1:
        raise ValueError(f"num_classes must be a positive integer, got {num_classes!r}.")
    return int(num_classes)


def distinct_labels(y: Any) -> list[str] | None:
    """Return the names among labels in sorted order; None where labels are no strings.

    Args:
        y: labels, one a row.

    >>> distinct_labels(["good", "bad", "good"])
    ['bad', 'good']
    """
    values = _values(y)
    if values is None or not any(isinstance(v, str) for v in values):
        return None
    return sorted({v for v in values if isinstance(v, str)})


def encode_labels(y: Any, names: list[str], sparse: bool = True, place: str = "row") -> Any:
    """Return labels as class numbers; what is no column of labels is returned as it is.

    Args:
        y: names out of `names` or class numbers, one a row.
        names: the names of the classes, in order.
        sparse: whether numbers must be those of classes, as a sparse loss takes them.
        place: what a label belongs to, in errors.

    Raises:
        ValueError: a label is missing, unknown, fractional or out of range; the message has its
            row.

    >>> encode_labels(["b", "a"], ["a", "b"])
    array([1, 0], dtype=int32)
    """
    integers = isinstance(y, np.ndarray) and y.dtype.kind in "iu" and y.size > 0
    if integers and (not sparse or (y.min() >= 0 and y.max() < len(names))):
        return y
    values = _values(y)
    if values is None:
        return y
    numbers = {name: i for i, name in enumerate(names)}
    for row, value in enumerate(values):
        if value is None or value != value:
            raise ValueError(f"The label of {place} {row} is missing, got {value!r}.")
        if isinstance(value, str):
            if value not in numbers:
                raise ValueError(
                    f"The label of {place} {row} must be one of {names}, got {value!r}. Give "
                    "labels with the names of all classes."
                )
        elif sparse and not (value == int(value) and 0 <= value < len(names)):
            raise ValueError(
                f"The label of {place} {row} must be a whole number from 0 to {len(names) - 1}, "
                f"got {value!r}."
            )
    if any(isinstance(v, str) for v in values):
        return np.array([numbers.get(v, v) for v in values], "int32")
    return np.asarray(values, "int32") if sparse else y


def _values(y: Any) -> list | None:
    """Return a column of labels as a list; None for tensors and for rows of several values."""
    if hasattr(y, "to_numpy") and not isinstance(y, np.ndarray):  # a column of pandas
        y = y.to_numpy()
    if isinstance(y, np.ndarray) and (y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)):
        y = y.reshape(-1).tolist()
    if not isinstance(y, list | tuple):
        return None
    single = str | bytes | bool | int | float | np.number
    if not all(v is None or isinstance(v, single) for v in y):
        return None
    return [v.decode() if isinstance(v, bytes) else v for v in y]
