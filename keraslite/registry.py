"""Objects as plain configs and back, through a closed registry: nothing is imported by path.

The form is Keras's: {"module", "class_name", "config", "registered_name"}. A config names a public
class of this package or one registered by the user; anything else is refused.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import config, dtypes

_MODULES = (
    "layers", "models", "losses", "metrics", "optimizers", "optimizers.schedules", "initializers",
    "regularizers", "constraints", "activations", "dtype_policies", "quantizers", "random",
    "callbacks",
)  # fmt: skip
_registered: dict[str, Any] = {}
_names: dict[Any, str] = {}
_custom: ContextVar[Mapping[str, Any]] = ContextVar(
    "keraslite_custom_objects", default=MappingProxyType({})
)

# The objects that configs share, by their numbers, while a file is read.
_shared: ContextVar[dict[Any, Any] | None] = ContextVar("keraslite_shared_objects", default=None)

safe_mode: ContextVar[bool] = ContextVar("keraslite_safe_mode", default=True)


def enable_unsafe_deserialization() -> None:
    """Let configs that hold Python bytecode be read, as `safe_mode=False` does for one file."""
    safe_mode.set(False)


config.enable_unsafe_deserialization = enable_unsafe_deserialization  # type: ignore[attr-defined]


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable:
    """Register a class or function so that configs can name it.

    A package that imports its classes when they are asked for may define `find_registered_object`
    instead: a function of a name in a config that returns the class, or None. It must not take the
    name for a path.

    Args:
        package: a prefix that keeps names of different projects apart.
        name: the name; the object's own by default.

    >>> @register_keras_serializable("doc")
    ... def double(x):
    ...     return x * 2
    >>> get_registered_name(double)
    'doc>double'
    """

    def decorate(item: Any) -> Any:
        full = f"{package}>{name or item.__name__}"
        _registered[full] = item
        _names[item] = full
        return item

    return decorate


def get_registered_name(obj: Any) -> str:
    """The name under which a class or function was registered, else its own."""
    return _names.get(obj, obj.__name__)


def get_registered_object(
    name: str,
    custom_objects: Mapping[str, Any] | None = None,
    module_objects: Mapping[str, Any] | None = None,
) -> Any:
    """Return the class or function that was registered under a name, or None.

    Args:
        name: the name, with its package: "Custom>Name".
        custom_objects: where it is looked up after the registered ones.
        module_objects: where it is looked up last.

    >>> get_registered_object("half", {"half": float})
    <class 'float'>
    """
    for table in (_custom.get(), _registered, custom_objects or {}, module_objects or {}):
        if name in table:
            return table[name]
    return None


def get_custom_objects() -> dict[str, Any]:
    """Return the live dict of registered classes and functions, by their names.

    >>> get_custom_objects()["doc>Half"] = float
    >>> get_registered_object("doc>Half")
    <class 'float'>
    """
    return _registered


@contextmanager
def custom_object_scope(custom_objects: Mapping[str, Any] | None) -> Any:
    """A block in which configs may also name these classes and functions; None adds none."""
    token = _custom.set({**_custom.get(), **(custom_objects or {})})
    try:
        yield
    finally:
        _custom.reset(token)


CustomObjectScope = custom_object_scope


def public_class(cls: type) -> type:
    """The class a user wrote, for one that was derived for a backend."""
    return cls.__dict__.get("_kl_public", cls)


_derived: dict[tuple[type, type], type] = {}


def derived_class(cls: type, base: type | None) -> type:
    """Return the class that is one of a framework's as well; the public one without a base.

    Args:
        cls: a class that a user wrote, or one that was derived from it.
        base: the framework's class.
    """
    public = public_class(cls)
    if base is None:
        return public
    if (public, base) not in _derived:
        body = {"__module__": public.__module__, "__qualname__": public.__qualname__,
                "__doc__": public.__doc__, "_kl_public": public}  # fmt: skip
        # One for all threads: the first that is made.
        _derived.setdefault((public, base), type(public.__name__, (public, base), body))
    return _derived[public, base]


def serialize_keras_object(obj: Any) -> Any:
    """A plain, JSON-able form of numbers, structures, arrays, and objects with `get_config`.

    >>> serialize_keras_object({"a": (1, 2)})
    {'a': [1, 2]}
    """
    if obj is None or isinstance(obj, str | bool | int | float):
        return obj
    if isinstance(obj, list | tuple):
        return [serialize_keras_object(x) for x in obj]
    if isinstance(obj, dict):
        return {k: serialize_keras_object(v) for k, v in obj.items()}
    if isinstance(obj, np.generic):
        return obj.item()
    if obj is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(obj, slice):
        limits = {"start": obj.start, "stop": obj.stop, "step": obj.step}
        return {"class_name": "__slice__", "config": serialize_keras_object(limits)}
    if isinstance(obj, bytes):
        return {"class_name": "__bytes__", "config": {"value": obj.decode()}}
    if hasattr(obj, "get_config"):
        cls = public_class(type(obj))
        module, name, registered = _place_of(cls)
        entry = {
            "module": module,
            "class_name": name,
            "config": serialize_keras_object(obj.get_config()),
            "registered_name": registered,
        }
        if getattr(obj, "built", False) and hasattr(obj, "get_build_config"):
            entry["build_config"] = serialize_keras_object(obj.get_build_config())
        return entry
    if callable(obj) and getattr(obj, "__name__", "<lambda>") != "<lambda>":
        return _function_config(obj)
    array = getattr(obj, "__array__", None)
    if array is not None or backends.of(obj) is not None:
        values = backends.to_numpy(obj)
        return {
            "class_name": "__numpy__",
            "config": {"value": values.tolist(), "dtype": values.dtype.name},
        }
    raise TypeError(
        f"Cannot make a config of {obj!r}: give its class a get_config(), or register the "
        "function with keraslite.saving.register_keras_serializable()."
    )


# Where Keras looks for classes that it does not export where we do, and under which name.
_KERAS_PLACES = {
    "DTypePolicy": ("keras", None),
    "Functional": ("keras.src.models.functional", "Functional"),
    "Feature": ("keras.src.layers.preprocessing.feature_space", "Feature"),
    "Cross": ("keras.src.layers.preprocessing.feature_space", "Cross"),
    "FeatureSpace": ("keras.utils", None),
}


# Classes that Keras exports under another name than their own.
_EXPORTED = {"GroupedQueryAttention": "GroupQueryAttention"}


def _place_of(cls: type) -> tuple[str | None, str, str | None]:
    """Return the module of Keras that has a class, its name there, and its registered name."""
    name = _EXPORTED.get(cls.__name__, cls.__name__)
    if cls.__module__.startswith("keraslite."):
        if name in _KERAS_PLACES:
            module, registered = _KERAS_PLACES[name]
            return module, name, registered
        for part in _MODULES:
            if getattr(sys.modules.get(f"keraslite.{part}"), name, None) is cls:
                return f"keras.{part}", name, None
    return None, cls.__name__, get_registered_name(cls)


def _function_config(function: Callable) -> Any:
    """Return the name of a function of this package, or what Keras writes of a user's."""
    name = get_registered_name(function)
    if function.__module__.startswith("keraslite.") and function not in _names:
        return name
    return {"module": "builtins", "class_name": "function", "config": name,
            "registered_name": "function"}  # fmt: skip


def resolve(name: str, module: str | None = None, registered: str | None = None) -> Any:
    """The class or function that a config names."""
    custom = _custom.get()
    for key in (registered, name):
        if key in custom:
            return custom[key]
        if key in _registered:
            return _registered[key]
    # Keras writes the bare name of a class that was not registered.
    package, _, own = registered.partition(">") if ">" in (registered or "") else ("", "", "")
    # A package that imports its classes when they are asked for looks their names up itself.
    find = getattr(sys.modules.get(package), "find_registered_object", None)
    if find is not None and (item := find(own)) is not None:
        return item
    part = _module_of(module)
    item = _public(part, name) if part else None
    if item is not None:
        return item
    for full, item in (*custom.items(), *_registered.items()):
        if full.partition(">")[2] == name:
            return item
    for part in _MODULES:
        item = _public(part, name)
        if item is not None:
            return item
    if package not in ("", "Custom"):
        raise ValueError(
            f"Unknown object {name!r} of the package {package!r}. Import what registers it first, "
            f"such as `import {package}`, or give custom_objects={{...}}."
        )
    raise ValueError(
        f"Unknown object {name!r} (module {module!r}). Register it with "
        "keraslite.saving.register_keras_serializable(), or give custom_objects={...}."
    )


def _module_of(path: str | None) -> str | None:
    """Return the module of this package for one of Keras: `keras.layers`, `keras.src.optimizers`.

    The optimizers of Keras on torch lie in `keras.src.backend.torch.optimizers`.
    """
    if not isinstance(path, str) or path.split(".")[0] not in ("keras", "keraslite"):
        return None
    parts = [p for p in path.split(".")[1:] if p != "src"]
    for length in range(len(parts), 0, -1):
        if (own := ".".join(parts[:length])) in _MODULES:
            return own
    return next((p for p in parts if p in _MODULES), None)


def _public(part: str, name: str) -> Any:
    """Return a public class or function of one of the modules that configs may name."""
    item = getattr(sys.modules.get(f"keraslite.{part}"), name, None)
    return item if callable(item) and not name.startswith("_") else None


@contextmanager
def object_sharing_scope() -> Iterator[None]:
    """A block in which objects of one `shared_object_id` in configs are one object."""
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def deserialize_keras_object(
    config: Any, custom_objects: Mapping[str, Any] | None = None, safe_mode: bool = True
) -> Any:
    """The inverse of `serialize_keras_object`.

    Args:
        config: what it, or Keras's function of that name, returned.
        custom_objects: classes and functions by name, beside the registered ones.
        safe_mode: taken for Keras's sake: code in a config is never run, with False neither.

    Raises:
        ValueError: the config names something that is neither public in this package nor
            registered, or holds code.

    Example:
        >>> deserialize_keras_object({"class_name": "__slice__", "config": {"start": 1}})
        slice(1, None, None)
    """
    if custom_objects:
        with custom_object_scope(custom_objects):
            return deserialize_keras_object(config)
    if isinstance(config, list | tuple):
        return [deserialize_keras_object(x) for x in config]
    if not isinstance(config, dict):
        return config
    if "class_name" not in config or "config" not in config:
        return {k: deserialize_keras_object(v) for k, v in config.items()}
    name, inner = config["class_name"], config["config"]
    if not isinstance(name, str):
        raise ValueError(f"A config must name its class by a string, got {name!r:.60}.")
    if name in _VALUES:
        return _VALUES[name](inner)
    if name == "function":  # a user's, or the name of one of this package
        if not isinstance(inner, str):
            raise ValueError(f"A config must name a function by a string, got {inner!r:.60}.")
        return resolve(inner, config.get("module"), inner)
    if name.startswith("__"):
        raise ValueError(
            f"The config holds {name!r:.60}, which is not read: bytecode is read for Lambda layers "
            "alone, with safe_mode=False."
        )
    shared, number = _shared.get(), config.get("shared_object_id")
    if shared is not None and number is not None and number in shared:
        return shared[number]
    cls = resolve(name, config.get("module"), config.get("registered_name"))
    if not isinstance(cls, type):
        return cls  # a function is never called
    inner = {} if inner is None else inner
    item = cls.from_config(inner) if hasattr(cls, "from_config") else cls(**inner)
    if config.get("build_config") and hasattr(item, "restore_build"):
        item.restore_build(config["build_config"])
    if shared is not None and number is not None:
        shared[number] = item
    return item


def _array(config: dict[str, Any]) -> np.ndarray:
    return np.array(config["value"], dtypes.to_numpy(config["dtype"]))


# The values in configs that are of no class, by their marks.
_VALUES: dict[str, Callable[[Any], Any]] = {
    "__numpy__": _array,
    "__tensor__": _array,
    "__bytes__": lambda config: config["value"].encode(),
    "__ellipsis__": lambda config: Ellipsis,
    "__slice__": lambda config: slice(*(config.get(k) for k in ("start", "stop", "step"))),
}


def get(identifier: Any, table: Mapping[str, Any], category: str) -> Any:
    """Return an object of a table from its name, its config or itself, as `losses.get` does.

    Args:
        identifier: None, a name of `table`, a config dict, or a ready object.
        table: the public names; classes are instantiated, functions returned as they are.
        category: the name of such objects, for errors.
    """
    if identifier is None or (callable(identifier) and not isinstance(identifier, type)):
        return identifier
    if isinstance(identifier, dict):
        return deserialize_keras_object(identifier)
    if isinstance(identifier, str):
        item = _custom.get().get(identifier) or table.get(identifier)
        item = item or _registered.get(identifier)
        if item is None:
            names = ", ".join(sorted(table))
            raise ValueError(f"Unknown {category} {identifier!r}. Known ones: {names}.")
        return item() if isinstance(item, type) else item
    if isinstance(identifier, type):
        return identifier()
    if hasattr(identifier, "get_config"):
        return identifier
    raise ValueError(f"Cannot read {identifier!r} as a {category}.")
