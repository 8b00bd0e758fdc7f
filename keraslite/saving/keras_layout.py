"""Where Keras's files keep the weights of a model: `layers/dense/0`, `layers/rnn/cell/1` ...

The layers of a model go by their classes, everything else by the attributes that hold it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from keraslite.layers.base.tracking import LayerList
from keraslite.naming import to_snake_case
from keraslite.registry import public_class


def layout_of(model: Any) -> dict[str, Any]:
    """Return the arrays of a model or layer as Keras's files hold them, in nested dicts.

    Args:
        model: a built model or layer.

    >>> model = models.Sequential([layers.Input((2,)), layers.Dense(1, name="out")])
    >>> {name: x.shape for name, x in layout_of(model)["layers"]["dense"].items()}
    {'0': (2, 1), '1': (1,)}
    """
    nested: dict[str, Any] = {}
    for path, item in saved_objects(model):
        arrays: dict[str, Any] = {}
        item.save_own_variables(arrays)
        if arrays:
            holder = nested
            for part in path.split("/") if path else ():
                holder = holder.setdefault(part, {})
            holder.update(arrays)
    return nested


def saved_objects(model: Any, skip: Iterable[Any] = ()) -> Iterator[tuple[str, Any]]:
    """Yield (path, object) of all that Keras's files keep variables of, each once.

    Args:
        model: a model or layer, whose own path is empty.
        skip: objects that are left out, with all inside them.

    >>> model = models.Sequential([layers.Input((2,)), layers.Dense(1, name="out")])
    >>> [path for path, _ in saved_objects(model)]
    ['', 'layers/dense']
    """
    yield from _inside(model, "", {id(x) for x in skip})


def _inside(item: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if id(item) in seen:
        return
    seen.add(id(item))
    yield path, item
    for name, value in _children(item):
        inner = f"{path}/{name}" if path else name
        yield from _inside(value, inner, seen) if _is_saved(value) else _listed(value, inner, seen)


def _is_saved(value: Any) -> bool:
    return hasattr(type(value), "save_own_variables")


def _children(item: Any) -> Iterator[tuple[str, Any]]:
    """Yield what the attributes of an object hold, in the order in which Keras looks at them."""
    attributes = {k: v for k, v in vars(item).items() if not k.startswith("_kl_")}
    if any(type(v) is LayerList for v in attributes.values()):  # of a graph or a sequence: first
        yield "layers", item.layers
    named = {}
    for key, value in attributes.items():
        is_container = isinstance(value, dict | list | tuple) and type(value) is not LayerList
        if is_container or _is_saved(value):
            public = key.lstrip("_")  # Keras sees the property first that shows an attribute
            shown = public if hasattr(type(item), public) else key
            named[getattr(type(item), "keras_attributes", {}).get(shown, shown)] = value
    if hasattr(type(item), "layers"):  # of a model: those in private attributes are found here
        named["layers"] = item.layers
    yield from sorted(named.items(), key=lambda pair: (pair[0].startswith("_"), pair[0]))


def _listed(container: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the objects in a list, tuple or dict, which go by their classes there."""
    counts: Counter[str] = Counter()
    for value in container.values() if isinstance(container, dict) else container:
        if _is_saved(value):
            name = to_snake_case(public_class(type(value)).__name__)
        elif isinstance(value, dict | list | tuple):
            name = "container"
        else:
            continue
        number, counts[name] = counts[name], counts[name] + 1
        inner = f"{path}/{name}_{number}" if number else f"{path}/{name}"
        yield from _inside(value, inner, seen) if _is_saved(value) else _listed(value, inner, seen)
