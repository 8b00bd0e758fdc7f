"""Building: shapes of arguments, `build` in the layer's own scope, and what a file says of it."""

import inspect
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from keraslite import backend as backends
from keraslite import dtypes, tree
from keraslite.layers.base.calls import signature
from keraslite.naming import fix_path, layer_scope
from keraslite.scopes import state_lock
from keraslite.symbolic import KerasTensor


def scoped(build: Any) -> Any:
    """Wrap a `build`: it runs in the layer's own backend and name scope, and is noted as done."""

    @wraps(build)
    def build_in_scope(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.__dict__.get("_kl_building") == threading.get_ident():  # by super().build()
            build(self, *args, **kwargs)
            self.built = False  # other threads would take it for whole
            return
        with state_lock:
            self.__dict__["_kl_building"] = threading.get_ident()
            try:
                fix_path(self)
                with backends.backend_scope(self.backend), layer_scope(self):
                    build(self, *args, **kwargs)
            finally:
                del self.__dict__["_kl_building"]
            arguments = signature(build).bind(self, *args, **kwargs).arguments
            shapes = {k: v for k, v in arguments.items() if k != "self"}
            set_build_shapes(self, shapes)

    return build_in_scope


def set_build_shapes(layer: Any, shapes: dict[str, Any]) -> None:
    """Note that a layer is built, and with which shapes."""
    layer.__dict__["_kl_build_shapes"] = shapes
    layer.built = True
    if hasattr(layer, "_kl_state_added"):  # of a backend's class
        layer._kl_state_added()


def build_shapes(layer: Any) -> dict[str, Any] | None:
    """Return the shapes that a layer was built with, by the names of build's arguments."""
    return layer.__dict__.get("_kl_build_shapes")


def note_first_inputs(layer: Any, args: tuple) -> None:
    """Note the shapes and dtypes of the call that built a layer, for signatures of exports."""

    def symbol(x: Any) -> Any:
        if not hasattr(x, "shape") or not hasattr(x, "dtype"):
            return None
        text = str(x.dtype) == "object" or str(x.dtype).startswith("<U")
        return KerasTensor(tuple(x.shape), "string" if text else dtypes.standardize(x.dtype))

    layer.__dict__["_kl_first_inputs"] = tuple(tree.map_structure(symbol, x) for x in args)


def first_inputs(layer: Any) -> tuple | None:
    """Return symbolic tensors for what the call that built a layer had; None if none is known."""
    inputs = layer.__dict__.get("_kl_first_inputs")
    known = inputs and all(isinstance(x, KerasTensor) for x in tree.flatten(inputs))
    return inputs if known else None


def declared_input_shape(layer: Any) -> tuple | None:
    """Return the shape that the constructor's `input_shape` declares, with the batch axis."""
    return layer.__dict__.get("_kl_input_shape")


def shapes_of(x: Any) -> Any:
    """Return the shapes of nested tensors, None for what has no shape."""
    return tree.map_structure(lambda t: tuple(t.shape) if hasattr(t, "shape") else None, x)


def shapes_for_build(layer: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the shapes that a layer's `build` takes, by its arguments' names, out of a call's."""
    arguments = {**dict(zip(layer._kl_spec.names, args, strict=False)), **kwargs}
    parameters = [p for p in signature(type(layer).build).parameters.values() if p.name != "self"]
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    if len(parameters) == 1 and parameters[0].kind not in variadic:
        first = args[0] if args else next(iter(arguments.values()), None)
        return {parameters[0].name: shapes_of(first)}
    sources = {p.name: p.name.removesuffix("_shape") for p in parameters}
    return {
        name: shapes_of(arguments[source])
        for name, source in sources.items()
        if name != source and arguments.get(source) is not None
    }


def as_shape(value: Any) -> Any:
    """Return a shape out of JSON: a list of sizes becomes a tuple, in nested ones too."""
    if isinstance(value, dict):
        return {k: as_shape(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        if all(v is None or isinstance(v, int) for v in value):
            return tuple(value)
        return [as_shape(v) for v in value]
    return value


def map_shapes(function: Callable[[tuple], Any], shape: Any) -> Any:
    """Apply a function to each shape of a nested structure of shapes."""
    shape = as_shape(shape)
    if shape is None:  # of an argument that is not given
        return None
    if isinstance(shape, dict):
        return {k: map_shapes(function, v) for k, v in shape.items()}
    return function(shape) if isinstance(shape, tuple) else [map_shapes(function, s) for s in shape]


# What a build config holds beside shapes, by its key: how it is collected and brought back.
_build_state: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]] = {}


def register_build_state(
    key: str, collect: Callable[[Any], Any], restore: Callable[[Any, Any], None]
) -> None:
    """Let build configs hold more than shapes, such as which layers inside were quantized.

    Args:
        key: the name of an entry of the config.
        collect: of a layer; what it returns is the entry, which is left out where it is empty.
        restore: of a built layer and the entry.
    """
    _build_state[key] = collect, restore


def collect_build_config(layer: Any) -> dict[str, Any] | None:
    """Return the shapes that a layer was built with, and the registered entries beside them."""
    shapes = build_shapes(layer)
    if shapes and "input_shape" not in shapes:  # as in Keras's configs
        named = len(shapes) > 1
        shapes = {"shapes_dict": shapes} if named else {"input_shape": next(iter(shapes.values()))}
    entries = {key: collect(layer) for key, (collect, _) in _build_state.items()}
    entries = {key: entry for key, entry in entries.items() if entry}
    return {**(shapes or {}), **entries} if entries else shapes


def shapes_in(config: dict[str, Any]) -> dict[str, Any]:
    """Return the shapes of a build config, without the entries beside them."""
    shapes = {k: v for k, v in config.items() if k not in _build_state and v is not None}
    return shapes.get("shapes_dict", shapes)


def restore_build_state(layer: Any, config: dict[str, Any]) -> None:
    """Bring back what a build config holds beside shapes."""
    for key, (_, restore) in _build_state.items():
        if config.get(key):
            restore(layer, config[key])
