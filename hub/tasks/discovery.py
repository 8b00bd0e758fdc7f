"""Discovery of task classes: each is in a file of its own name, in a package of `hub.tasks`.

`TextClassifier` is in `text/text_classifier.py`: the file's name is the class's in lower case, with
underscores where they help. Nothing is imported before it is asked for, and no list is kept.
"""

import functools
import importlib
import pkgutil
from pathlib import Path


@functools.cache
def task_modules() -> dict[str, str]:
    """Return class name in lower case -> module, of every file in the packages of `hub.tasks`.

    >>> task_modules()["textclassifier"]
    'hub.tasks.text.text_classifier'
    """
    folder = Path(__file__).parent
    packages = [item.name for item in pkgutil.iter_modules([str(folder)]) if item.ispkg]
    return {
        item.name.replace("_", ""): f"hub.tasks.{package}.{item.name}"
        for package in packages
        for item in pkgutil.iter_modules([str(folder / package)])
    }


def find_class(name: str) -> type | None:
    """Import and return the class of a name; None if there is none.

    Args:
        name: such as "TextClassifier".

    >>> find_class("TextClassifier").task
    'TextClassifier'
    """
    module = task_modules().get(name.lower())
    return None if module is None else getattr(importlib.import_module(module), name, None)


@functools.cache
def all_tasks() -> tuple[type, ...]:
    """Import and return all task classes.

    >>> "CausalLM" in [task.task for task in all_tasks()]
    True
    """
    classes = []
    for stem, module in task_modules().items():
        for name, value in vars(importlib.import_module(module)).items():
            if name.lower() == stem and getattr(value, "task", None) == name:
                classes.append(value)
    return tuple(classes)
