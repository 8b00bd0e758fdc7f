"""Configs of the form that Keras 2 wrote: a class name and a config, without a module."""

import inspect
from collections.abc import Mapping
from typing import Any

from keraslite.registry import (
    custom_object_scope,
    get_registered_name,
    get_registered_object,
    public_class,
)

_PASSIVE = "__passive_serialization__"  # marks the config of an object inside a config


def serialize_keras_object(instance: Any) -> Any:
    """Return an object as Keras 2 wrote it, or the registered name of a function or class.

    Args:
        instance: an object with `get_config`, a function, a class, or None.

    Returns:
        {"class_name", "config"}, a name, or None.

    Raises:
        ValueError: it has neither `get_config` nor a name.

    >>> serialize_keras_object(regularizers.L2(0.5))
    {'class_name': 'L2', 'config': {'l2': 0.5}}
    """
    if instance is None:
        return None
    instance = inspect.unwrap(instance)
    if hasattr(instance, "get_config"):
        config = {key: _serialized(value) for key, value in instance.get_config().items()}
        return {"class_name": get_registered_name(public_class(type(instance))), "config": config}
    if hasattr(instance, "__name__"):
        return get_registered_name(instance)
    raise ValueError(f"Cannot serialize {instance!r}: it has no get_config() and no name.")


def _serialized(value: Any) -> Any:
    """Return a value of a config, with objects in it in the same form."""
    if isinstance(value, str):
        return value
    try:
        serialized = serialize_keras_object(value)
    except ValueError:  # a number, a list, a dict
        return value
    if isinstance(serialized, dict):
        serialized[_PASSIVE] = True
    return serialized


def deserialize_keras_object(
    identifier: Any,
    module_objects: Mapping[str, Any] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    printable_module_name: str = "object",
) -> Any:
    """Return the object of a config that Keras 2 wrote, or that of a name.

    Args:
        identifier: {"class_name", "config"}, a name, a function, or None.
        module_objects: the classes and functions that are known, by name.
        custom_objects: those of the user, which come first.
        printable_module_name: what such objects are called in errors.

    Returns:
        The object; an instance of a class that is named, and a function itself.

    Raises:
        ValueError: the config has another form, or its name is not known.

    >>> config = {"class_name": "L2", "config": {"l2": 0.5}}
    >>> deserialize_keras_object(config, vars(regularizers)).get_config()
    {'l2': 0.5}
    """
    if identifier is None or inspect.isfunction(identifier):
        return identifier

    def known(name: str) -> Any:
        return get_registered_object(name, custom_objects, module_objects)

    def named(name: str) -> Any:
        item = known(name)
        if item is None:
            raise ValueError(
                f"Unknown {printable_module_name} {name!r}: give it in module_objects or "
                "custom_objects, or by keras.utils.custom_object_scope."
            )
        return item

    with custom_object_scope(custom_objects):
        if isinstance(identifier, str):
            item = named(identifier)
            return item() if inspect.isclass(item) else item
        if not isinstance(identifier, dict) or not {"class_name", "config"} <= identifier.keys():
            raise ValueError(
                f"The config of a {printable_module_name} must be a dict of 'class_name' and "
                f"'config', got {identifier!r}."
            )
        cls, config = named(identifier["class_name"]), identifier["config"]
        if isinstance(config, dict):
            config = {
                key: _deserialized(key, value, known, module_objects)
                for key, value in config.items()
            }
        return cls.from_config(config) if hasattr(cls, "from_config") else cls(**config)


def _deserialized(key: str, value: Any, known: Any, module_objects: Any) -> Any:
    """Return a value of a config, with the objects that are in it."""
    if isinstance(value, dict) and _PASSIVE in value:
        return deserialize_keras_object(value, module_objects)
    # A function is written as its name; the name of an object may be the same word.
    if isinstance(value, str) and key != "name" and inspect.isfunction(known(value)):
        return known(value)
    return value


__all__ = ["deserialize_keras_object", "serialize_keras_object"]
