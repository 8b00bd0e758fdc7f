"""Architectures, one file a family, imported when one of their names is asked for."""

import importlib
from typing import Any

from hub.families import backbones


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(backbones())
    if name not in backbones():
        raise AttributeError(f"module 'hub.models' has no attribute {name!r}")
    return getattr(importlib.import_module(backbones()[name]), name)


def __dir__() -> list[str]:
    return sorted(backbones())
