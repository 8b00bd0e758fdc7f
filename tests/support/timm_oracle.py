"""timm without torchvision, as an oracle: the names that it imports from there are empty classes."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from typing import Any


class _Names(type):
    """A class whose attributes are their names, as those of an enumeration."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Stub(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torchvision and all modules in it, whose names are empty classes."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> Any:
        return None

    def exec_module(self, module: Any) -> None:
        def attribute(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return _Names(name, (), {})

        module.__getattr__ = attribute


def import_timm() -> Any:
    """Import timm; the stub of torchvision is there while it is imported alone."""
    if importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("timm")
    stub = _Stub()
    sys.meta_path.insert(0, stub)
    try:
        return importlib.import_module("timm")
    finally:
        sys.meta_path.remove(stub)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
