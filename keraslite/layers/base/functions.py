"""Functions in the configs of layers: by name, or as the bytecode of a lambda."""

import base64
import marshal
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite import ops, registry


def write_function(function: Callable) -> Any:
    """Return the name of a function, or a lambda's bytecode in the form that Keras uses.

    Args:
        function: the function; named ones are registered, so that they are found again.
    """
    if getattr(function, "__name__", None) != "<lambda>":
        return registry.serialize_keras_object(function)
    cells = function.__closure__
    return {
        "class_name": "__lambda__",
        "config": {
            "code": base64.encodebytes(marshal.dumps(function.__code__)).decode("ascii"),
            "defaults": function.__defaults__,
            "closure": cells and tuple(c.cell_contents for c in cells),
        },
    }


def read_function(config: Any, safe: bool, layer: str, names: dict[str, Any] | None = None) -> Any:
    """Return the function of a config.

    Args:
        config: a name, or what `write_function` or Keras wrote.
        safe: whether bytecode is refused.
        layer: the class of the layer, for errors.
        names: what bytecode may use beside `keras`, `ops` and `np`.

    Raises:
        ValueError: the name is not registered, or bytecode is refused.
    """
    if isinstance(config, str):
        return registry.resolve(config)
    if config.get("class_name") == "function":  # as Keras writes a named one
        name = config["config"]
        return registry.resolve(name, config.get("module"), config.get("registered_name"))
    if config.get("class_name") != "__lambda__":
        return registry.deserialize_keras_object(config)
    if safe:
        raise unsafe_error(f"a `{layer}` layer whose function is Python bytecode",
                           "write a Layer, or register a named function")  # fmt: skip
    warnings.warn(
        f"A `{layer}` layer runs bytecode from its config, because safe_mode is False.",
        stacklevel=2,
    )
    inner = config["config"]
    code = marshal.loads(base64.decodebytes(inner["code"].encode("ascii")))
    defaults = inner["defaults"] and tuple(inner["defaults"])
    closure = inner["closure"] and tuple(types.CellType(v) for v in inner["closure"])
    usual = {"keras": sys.modules["keraslite"], "ops": ops, "np": np}  # what lambdas usually use
    return types.FunctionType(code, usual | (names or {}), code.co_name, defaults, closure)


def is_safe(safe_mode: bool | None) -> bool:
    """Return whether code in a config is refused: as an argument says, else as is set around.

    Args:
        safe_mode: the argument of a `from_config`; None where the caller gave none.
    """
    return registry.safe_mode.get() if safe_mode is None else safe_mode


def unsafe_error(what: str, better: str) -> ValueError:
    """Return the error for a config that could run any code.

    Args:
        what: what the config holds.
        better: what to do in its place.
    """
    return ValueError(
        f"This config holds {what}: loading it would let the file run arbitrary code. If you "
        "trust its source, pass safe_mode=False, or call "
        f"keraslite.saving.enable_unsafe_deserialization(). Better: {better}."
    )
