"""Calls of layers on symbolic tensors."""

from collections.abc import Callable
from typing import Any

from keraslite import backend as backends
from keraslite import masking, tree
from keraslite.layers.base.building import map_shapes
from keraslite.layers.base.calls import CallContext
from keraslite.layers.base.inputs import convert_input
from keraslite.layers.base.losses import clear_losses
from keraslite.layers.base.masks import any_masked, fill_masks, set_masks
from keraslite.naming import fix_path
from keraslite.scopes import scopes
from keraslite.symbolic import KerasTensor, Node, collect_sizes, infer
from keraslite.variable import SpecScope


def infer_outputs(layer: Any, args: tuple, kwargs: dict[str, Any], training: bool | None) -> Any:
    """Return the symbolic outputs of a call, by abstract evaluation of the layer's `call`."""
    return _infer(layer, lambda args, kwargs: layer.call(*args, **kwargs), args, kwargs, training)


# The `call` methods that are marked with `keeps_shape`.
KEEP_SHAPE: set[Callable] = set()


def keeps_shape(call: Callable) -> Callable:
    """Say of the `call` of a layer that one input of floats gives one output of its shape.

    Graphs are then built without a look at the call. A subclass with another `call` says nothing.

    Args:
        call: the method.
    """
    KEEP_SHAPE.add(call)
    return call


def known_output(layer: Any, args: tuple, kwargs: dict[str, Any]) -> KerasTensor | None:
    """Return the symbolic output of a plain call by arithmetic, None where there is none.

    A call is plain where it has one argument, a tensor or a list of tensors, of floats, dense and
    without masks.

    Args:
        layer: the layer.
        args: the positional arguments.
        kwargs: the keyword arguments.
    """
    if len(args) != 1 or not layer.autocast or any_masked((args, kwargs)):
        return None
    listed = isinstance(args[0], list | tuple)
    tensors = args[0] if listed else args
    plain = all(
        isinstance(x, KerasTensor) and x.dtype.startswith(("float", "bfloat")) and not x.sparse
        for x in tensors
    )
    if not plain or any(isinstance(v, KerasTensor) for v in tree.flatten(kwargs)):
        return None
    if listed:
        dims = layer.merged_dims([x.dims for x in tensors])
    else:
        dims = layer.known_dims(tensors[0].dims)
    return None if dims is None else KerasTensor(dims, layer.compute_dtype)


def infer_masks(
    layer: Any, args: tuple, kwargs: dict[str, Any], training: bool | None, outputs: Any
) -> None:
    """Mask symbolic outputs as `compute_mask` says, by abstract evaluation of it."""

    def masks(args: tuple, kwargs: dict[str, Any]) -> list[Any]:
        marked = tree.map_structure(lambda _: _Output(), outputs)
        set_masks(layer, args, kwargs, marked)
        return [masking.get_mask(x) for x in tree.flatten(marked)]

    for x, mask in zip(
        tree.flatten(outputs), _infer(layer, masks, args, kwargs, training), strict=True
    ):
        if mask is not None:
            masking.set_mask(x, mask)


class _Output:
    """A placeholder for an output while its mask is computed."""


def _infer(
    layer: Any, fn: Callable, args: tuple, kwargs: dict[str, Any], training: bool | None
) -> Any:
    """Evaluate a function of a layer's arguments on abstract values, as if inside the layer's call.

    The abstract values have the masks of the symbolic tensors that they stand for.
    """
    module = backends.load(layer.backend)
    target = module.native(layer.compute_dtype) if layer.autocast else None

    def run(args: tuple, kwargs: dict[str, Any], masks: list[Any]) -> Any:
        for x, mask in zip(tree.flatten((args, kwargs)), masks, strict=True):
            if mask is not None:
                masking.set_mask(x, mask)
        args = tuple([convert_input(layer, x, target) for x in args])  # as a real call casts them
        kwargs = {name: convert_input(layer, x, target) for name, x in kwargs.items()}
        if masking.any_masks():
            fill_masks(layer, args, kwargs)
        outer = scopes.call, scopes.autocast, scopes.path
        scopes.call, scopes.path = CallContext(training), fix_path(layer)
        scopes.autocast = layer.compute_dtype if layer.autocast else None
        try:
            with SpecScope():
                return fn(args, kwargs)
        finally:
            scopes.call, scopes.autocast, scopes.path = outer
            clear_losses(layer)

    masks = [_mask_of(x) for x in tree.flatten((args, kwargs))]
    return infer(run, (args, kwargs, masks), {}, lambda: _sizes(layer), tries=64)


def _mask_of(x: Any) -> Any:
    return masking.get_mask(x) if isinstance(x, KerasTensor) else None


def _sizes(layer: Any) -> list[tuple[int, ...]]:
    """The sizes that a call may depend on: of the layer's arguments, inputs and weights."""
    groups: list[tuple[int, ...]] = []
    collect_sizes([x.shape for x in getattr(layer, "inputs", None) or ()], groups)
    for part in layer.flatten_layers():
        arguments = [v for k, v in vars(part).items() if not k.startswith("_")]
        collect_sizes([v for v in arguments if isinstance(v, int | list | tuple)], groups)
        collect_sizes([variable.shape for _, variable in part.own_variables()], groups)
    return groups


def add_node(
    layer: Any, args: tuple, kwargs: dict[str, Any], outputs: Any, training: bool | None
) -> None:
    """Note a call in the graph that its symbolic outputs belong to.

    Args:
        layer: the layer that is called.
        args: the positional arguments.
        kwargs: the keyword arguments.
        outputs: the symbolic outputs.
        training: what the caller said; it holds in every run of the graph. With None each run
            decides.
    """
    kwargs = {name: value for name, value in kwargs.items() if name != "training"}
    if training is not None:
        kwargs["training"] = bool(training)
    Node(layer, args, kwargs, outputs)


def infer_output_shape(layer: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Return the shapes of the outputs for shapes of the inputs, by a symbolic call."""

    def symbols(shape: Any) -> Any:
        return map_shapes(lambda s: KerasTensor(s, layer.compute_dtype), shape)

    first_call = layer.first_call
    with backends.backend_scope(layer.backend):
        named = {k.removesuffix("_shape"): symbols(v) for k, v in kwargs.items()}
        outputs = layer(*map(symbols, args), **named)
    layer.first_call = first_call  # a question about shapes is no part of a graph
    return tree.map_structure(lambda x: x.shape, outputs)
