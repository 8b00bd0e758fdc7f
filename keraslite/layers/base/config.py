"""The config of a layer: the arguments of its constructor."""

from typing import Any

from keraslite.layers.base.calls import signature
from keraslite.registry import public_class, serialize_keras_object


class Attribute:
    """Stands for an argument whose value is the attribute of that name."""


BASE_ARGUMENTS = ("activity_regularizer", "name", "dtype", "trainable")  # of every layer


def own_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that are a class's own, out of the `locals()` of its constructor."""
    others = ("self", "__class__", "kwargs", *BASE_ARGUMENTS)
    return {name: value for name, value in arguments.items() if name not in others}


def layer_config(layer: Any, automatic: bool) -> dict[str, Any]:
    """Return what every layer's config holds, and the arguments of its constructor.

    Args:
        layer: the layer.
        automatic: whether the arguments it was made with are taken where it kept none: for
            classes without a `get_config`.
    """
    config = {
        "name": layer.name, "trainable": layer.trainable,
        "dtype": serialize_keras_object(layer.dtype_policy),
    }  # fmt: skip
    if layer.activity_regularizer is not None:
        config["activity_regularizer"] = serialize_keras_object(layer.activity_regularizer)
    recorded = layer.__dict__.get("_kl_config")
    if recorded is not None:
        values = {k: getattr(layer, k) if v is Attribute else v for k, v in recorded.items()}
        return config | {name: _serialize(value) for name, value in values.items()}
    return _with_arguments(layer, config) if automatic else config


def _serialize(value: Any) -> Any:
    return value if isinstance(value, tuple) else serialize_keras_object(value)


def _with_arguments(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """A config with the arguments that the layer was made with, and no others it does not take."""
    args, kwargs = layer._kl_init
    init = signature(public_class(type(layer)).__init__)
    bound = init.bind_partial(layer, *args, **kwargs).arguments
    arguments = {k: v for k, v in bound.items() if k not in ("self", "kwargs")}
    arguments |= bound.get("kwargs", {})
    config = config | {k: serialize_keras_object(v) for k, v in arguments.items()}
    for name, parameter in init.parameters.items():
        # A default of another type may have no config, and is the same when the layer is remade.
        if isinstance(parameter.default, bool | int | float | str | None):
            config.setdefault(name, parameter.default)
    if any(p.kind is p.VAR_KEYWORD for p in init.parameters.values()):
        return config
    return {k: v for k, v in config.items() if k in init.parameters}
