"""Docstrings of the classes of tasks for families, which are made from a table."""

import re
from inspect import signature
from typing import Any

from hub.families import family_of
from hub.presets.table import list_presets


def class_docstring(task: Any, name: str, backbone: type, model_type: str) -> str:
    """Return the docstring of a task's class for a family: the task's, with the family's names.

    Its examples are for the family's backbone and the first of its presets.

    Args:
        task: the task.
        name: of the class for the family.
        backbone: the class of the family's backbone.
        model_type: of the family.

    >>> "hub.GPT2CausalLM(backbone)" in hub.GPT2CausalLM.__doc__
    True
    """
    text = (task.__doc__ or "").replace(f"hub.{task.task}", f"hub.{name}")
    head = family_of(model_type).head(task.task)
    options = {} if head is None else head.backbone
    if f"hub.{backbone.__name__}(" not in text or options:
        required = [p.name for p in signature(backbone).parameters.values() if p.default is p.empty]
        widths = [f"{width}=8" for width in required[3:] if width.endswith("_dim")]
        arguments = ", ".join(["9, 1, 2", *widths, *(f"{k}={v!r}" for k, v in options.items())])
        call = f"hub.{backbone.__name__}({arguments})"
        text = re.sub(r"hub\.\w+Backbone\([^()]*\)", call, text)
    rows = {p: row for p, row in list_presets().items() if row["family"] == model_type}
    presets = [p for p, row in rows.items() if task.task in row["tasks"]]
    used = re.search(r'(?<=")\w+(?="[^"]*# doctest: \+SKIP)', text)
    if used is not None and used[0] not in rows:
        text = text.replace(f'"{used[0]}"', f'"{presets[0] if presets else "./checkpoint"}"')
    return f"A `{task.task}` of {model_type} checkpoints.\n\n    {text}"
