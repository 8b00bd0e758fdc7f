"""The inputs of a model, as an exported file names them: names, shapes with free axes, dtypes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraslite import dtypes, tree
from keraslite.layers.base.building import build_shapes, first_inputs, map_shapes

_BATCH = 3  # sizes of free axes in examples: 0 and 1 are taken for constants by tracers
_SEQUENCES = (5, 7, 11, 13)
_IMAGES = (64, 96, 128)


@dataclass(frozen=True)
class TensorSpec:
    """An input of an exported model.

    Args:
        name: its name in the file.
        shape: its sizes; None for an axis of any size.
        dtype: its dtype, "string" for texts.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    @property
    def free_axes(self) -> list[int]:
        """The axes of any size."""
        return [i for i, size in enumerate(self.shape) if size is None]


@dataclass(frozen=True)
class Signature:
    """The inputs of a model in order.

    Args:
        arguments: for each argument of a call its inputs, nested as the model takes them.

    >>> signature = Signature([{"a": TensorSpec("a", (None, 2), "float32")}])
    >>> signature.names, signature.pack(["x"])
    (['a'], [{'a': 'x'}])
    """

    arguments: list[Any]

    @property
    def specs(self) -> list[TensorSpec]:
        """The inputs, flat, in the order of the lists and dicts that hold them."""
        return [spec for _, spec in leaves_in_order(self.arguments)]

    @property
    def names(self) -> list[str]:
        """The names of the inputs."""
        return [spec.name for spec in self.specs]

    def pack(self, values: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
        """Return the arguments of a call of the model.

        Args:
            values: one for each input, in order or by name.
        """
        named = (
            values if isinstance(values, Mapping) else dict(zip(self.names, values, strict=True))
        )
        return tree.map_structure(lambda spec: named[spec.name], self.arguments)

    def flatten(self, arguments: Sequence[Any]) -> list[Any]:
        """Return the inputs in the arguments of a call, flat."""
        leaves = zip(tree.flatten(self.arguments), tree.flatten(list(arguments)), strict=True)
        named = {spec.name: value for spec, value in leaves}
        return [named[name] for name in self.names]

    def examples(self) -> list[np.ndarray]:
        """Return an array of ones for each input; free axes have small sizes, equal by place."""
        batches = [spec.shape[0] for spec in self.specs if spec.shape and spec.shape[0] is not None]
        has_sequences = any(len(x.shape) in (2, 3) and 1 in x.free_axes for x in self.specs)
        return [
            _example(spec, batches[0] if batches else _BATCH, has_sequences) for spec in self.specs
        ]


def leaves_in_order(structure: Any, path: tuple = ()) -> list[tuple[tuple, Any]]:
    """Return (path, leaf) of nested lists, tuples and dicts, these in the order of their keys.

    `tree.flatten` sorts keys, but a file lists its inputs in the order of the model.

    >>> leaves_in_order({"b": 1, "a": [2]})
    [(('b',), 1), (('a', 0), 2)]
    """
    if isinstance(structure, dict):
        items: Any = structure.items()
    elif isinstance(structure, list | tuple):
        items = enumerate(structure)
    else:
        return [(path, structure)]
    return [leaf for key, part in items for leaf in leaves_in_order(part, (*path, key))]


def _example(spec: TensorSpec, batch: int, has_sequences: bool) -> np.ndarray:
    # Of four axes with a free one after the batch: beside sequences the keys of tokens, say.
    is_image = len(spec.shape) > 3 and not (has_sequences and spec.free_axes[-1:] == [1])
    sizes = _IMAGES if is_image else _SEQUENCES
    shape = [
        size if size is not None else (batch if i == 0 else sizes[(i - 1) % len(sizes)])
        for i, size in enumerate(spec.shape)
    ]
    if spec.dtype == "string":
        return np.full(shape, "", object)
    return np.ones(shape, dtypes.to_numpy(spec.dtype))


def signature_of(model: Any, input_signature: Any = None) -> Signature:
    """Return what the inputs of a model are.

    Args:
        model: a built model.
        input_signature: a structure for each argument of a call, of what has a shape and a dtype:
            InputSpecs, KerasTensors, `tf.TensorSpec`s, tensors or arrays. The first axis of tensors
            and of KerasTensors is that of the batch, of any size. By default it is what the model
            was built with.

    Raises:
        ValueError: the model is not built, nothing tells what its inputs are, or the rank or the
            dtype of one is unknown.

    Example:
        >>> model = models.Sequential([layers.Input((4,), name="x"), layers.Dense(2)])
        >>> signature_of(model).specs
        [TensorSpec(name='x', shape=(None, 4), dtype='float32')]
    """
    if not model.built:
        raise ValueError(
            f"Model {model.name!r} is not built, so that it has no weights to export: call it on "
            "data, or make it with an Input."
        )
    own = _own_inputs(model)
    if input_signature is None:
        if own is None:
            raise ValueError(
                f"Model {model.name!r} does not say what its inputs are: call it on data, or give "
                "input_signature=[keras.InputSpec(shape=..., dtype=...)], one for each argument."
            )
        arguments = own
    else:
        arguments = _arguments(input_signature, own)
    names = _names(model, arguments, own)
    # A functional model whose Input has a batch size takes no other.
    keeps_batch = input_signature is None and getattr(model, "is_functional", False)
    return Signature(
        _map_with_path(
            lambda path, x: _spec(names[path], x, model.name, keeps_batch), arguments, ()
        )
    )


def _own_inputs(model: Any) -> list[Any] | None:
    """Return the inputs that a model was made or built with; None if it does not tell."""
    own = getattr(model, "export_inputs", None)
    if own is not None and (symbols := own()) is not None:
        return symbols
    inputs = first_inputs(model)
    if inputs is not None:
        return list(inputs)
    shapes = build_shapes(model)
    if not shapes:
        return None
    return [map_shapes(lambda s: _Shaped(s, model.input_dtype), s) for s in shapes.values()]


def specs_of(input_signature: Any) -> list[Any]:
    """Return a structure of TensorSpecs for each argument of a function.

    Args:
        input_signature: as of `signature_of`. Names that nobody gave are None.
    """
    given = input_signature if isinstance(input_signature, list | tuple) else [input_signature]
    return [tree.map_structure(lambda x: _spec(_own_name(x), x, None), part) for part in given]


@dataclass
class _Shaped:
    """A shape, whose first axis is that of the batch, and a dtype."""

    shape: tuple
    dtype: str
    name: None = None


def _arguments(given: Any, own: list[Any] | None) -> list[Any]:
    """Return a structure for each argument, also of a signature without the outer list."""
    if not isinstance(given, list | tuple):
        return [given]
    given = list(given)
    takes_one = own is not None and len(own) == 1 and len(given) > 1
    if takes_one and len(tree.flatten(own)) == len(given):  # a list or a dict of them
        ordered = iter(given)
        return [_map_with_path(lambda path, x: next(ordered), own[0], ())]
    return given


def _names(model: Any, arguments: list[Any], own: list[Any] | None) -> dict[tuple, str]:
    """Return a name for the path of each input: a key of its dict, its own, or the argument's."""
    leaves = leaves_in_order(arguments)
    own_names: list[str | None] = [None] * len(leaves)
    if own is not None and len(tree.flatten(own)) == len(leaves):
        own_names = [_own_name(x) for _, x in leaves_in_order(own)]
    named = getattr(model, "_kl_spec", None)
    call_names = list(named.names) if named is not None else []
    names: dict[tuple, str] = {}
    for (path, leaf), own_name in zip(leaves, own_names, strict=True):
        argument = call_names[path[0]] if path[0] < len(call_names) else f"input_{path[0]}"
        keys = [str(part) for part in path[1:]]
        name = next((part for part in reversed(path) if isinstance(part, str)), None)
        name = name or _own_name(leaf) or own_name
        full_name = "_".join([argument, *keys])
        names[path] = full_name if name is None or name in names.values() else name
    return names


def _map_with_path(function: Callable, structure: Any, path: tuple) -> Any:
    """Apply a function of path and leaf to nested lists, tuples and dicts."""
    if isinstance(structure, dict):
        return {k: _map_with_path(function, v, (*path, k)) for k, v in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)(
            _map_with_path(function, v, (*path, i)) for i, v in enumerate(structure)
        )
    return function(path, structure)


def _own_name(x: Any) -> str | None:
    """Return the name of a spec or a symbolic tensor; None if nobody gave it one."""
    name = getattr(x, "name", None)
    return name if isinstance(name, str) and name != "keras_tensor" else None


def _spec(
    name: Any, x: Any, model_name: str | None, keeps_batch: bool = False
) -> TensorSpec:  # fmt: skip
    where = f"Input {name!r}" + (f" of model {model_name!r}" if model_name else "")
    shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
    if dtype is None or not hasattr(x, "shape"):
        raise ValueError(
            f"{where}: expected an InputSpec with shape and dtype, "
            f"a KerasTensor, or a tensor, got {x!r}."
        )
    try:
        sizes = None if shape is None else [None if s is None else int(s) for s in shape]
    except (TypeError, ValueError):  # a tf.TensorShape of unknown rank
        sizes = None
    if sizes is None:
        raise ValueError(
            f"{where} has an unknown rank: give "
            "input_signature=[keras.InputSpec(shape=(None, ...), dtype=...)] with a size or None "
            "for each axis."
        )
    is_spec = type(x).__name__ in ("InputSpec", "TensorSpec")
    if sizes and not is_spec and not keeps_batch:
        sizes[0] = None
    dtype = getattr(dtype, "name", dtype)  # of a tf.DType
    return TensorSpec(name, tuple(sizes), "string" if _is_text(dtype) else _standard(dtype))


def _is_text(dtype: Any) -> bool:
    return str(dtype) in ("string", "object", "str") or str(dtype).startswith("<U")


def _standard(dtype: Any) -> str:
    return dtypes.standardize(dtype)
