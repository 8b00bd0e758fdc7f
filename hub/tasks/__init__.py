"""Tasks: preprocessing, a backbone and a head; in packages by modality.

`text` is for texts, `image` for images, `audio` for recordings, `both` for images with texts. A
task is one file, which `hub.tasks.discovery` finds by its name.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    from hub.tasks.registry import class_named, class_names

    value = class_names() if name == "__all__" else class_named(name)
    if value is None:
        raise AttributeError(f"module 'hub.tasks' has no attribute {name!r}")
    return value


def __dir__() -> list[str]:
    from hub.tasks.registry import class_names

    return class_names()
