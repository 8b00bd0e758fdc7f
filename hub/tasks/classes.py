"""Classes of a classifier: their number and names in a config.json, and in a checkpoint's head."""

from collections.abc import Mapping
from typing import Any

from hub.families import family_of


def class_arguments(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return `num_classes` and `dropout` of a classifier, out of a config.json.

    Args:
        config: its content.
        task: the name of the task.
    """
    if config.get("id2label"):
        classes = len(config["id2label"])
    else:
        classes = int(config.get("num_labels") or 2)  # what transformers means by silence
    dropout = config.get(dropout_key(config["model_type"], task))
    return {
        "num_classes": classes,
        "dropout": config.get("hidden_dropout_prob", 0.1) if dropout is None else dropout,
    }


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
    names = getattr(task.backbone, "source_config", {}).get("id2label") or {}
    if len(names) != task.num_classes:
        names = {str(i): f"LABEL_{i}" for i in range(task.num_classes)}
    return {
        "id2label": names,
        "label2id": {label: int(i) for i, label in names.items()},
        "num_labels": task.num_classes,
    }
