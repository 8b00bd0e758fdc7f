"""Normalizations of batches, a sum and an activation behind them, run as one operation.

In `predict` the convolution before them is part of it, or all there is but an activation. What a
graph calls at its nodes is replaced: the last node of such a chain does all its work, and the
others hand on what they are given.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from keraslite import activations, layers, masking, ops
from keraslite.backend import MODULES
from keraslite.layers.base.layer import Layer
from keraslite.models.graph import Graph
from keraslite.registry import public_class
from keraslite.scopes import scopes
from keraslite.symbolic import KerasTensor, Node

_CONVOLUTIONS = {layers.Conv2D: False, layers.DepthwiseConv2D: True}  # whether it is depthwise
_ACTIVATIONS = {activations.relu: "relu", activations.relu6: "relu6", activations.silu: "silu"}
_calls: WeakKeyDictionary[Graph, dict[bool, dict[Node, Callable]]] = WeakKeyDictionary()


def folded_calls(graph: Graph, backend: str) -> Callable[[Node], Callable] | None:
    """Return the function that says what to call at a node; None where nothing is to be folded.

    Args:
        graph: the graph.
        backend: of the model: what compiles graphs folds by itself.
    """
    training = scopes.call is not None and bool(scopes.call.training)
    if not (training or scopes.predicting) or "_normalized_conv" not in MODULES[backend].PRIMITIVES:
        return None
    kept = _calls.setdefault(graph, {})
    if training not in kept:
        kept[training] = _find(graph, training)
    calls = kept[training]
    return lambda node: calls.get(node, node.operation)


def _find(graph: Graph, training: bool) -> dict[Node, Callable]:
    """Return what is called in place of the operations of chains."""
    users: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for x in node.inputs:
            users.setdefault(id(x), []).append(node)
    outputs = {id(x) for x in graph.flat_outputs}

    def only_user(node: Node) -> Node | None:
        """The node that takes what a node gives, if it is the only one."""
        x = node.outputs[0]
        candidates = users.get(id(x), [])
        return candidates[0] if len(candidates) == 1 and id(x) not in outputs else None

    makers = {id(x): node for node in graph.nodes for x in node.outputs}
    calls: dict[Node, Callable] = {}
    for node in graph.nodes:
        if _is_padding(node, makers):
            calls |= _padded_pool(node, only_user(node))
            continue
        if training:
            norm = node
        elif not _is_convolution(node):
            continue
        else:
            norm = only_user(node) if _is_linear(node.operation) else None
        if norm is None or not _is_normalization(norm):
            if not training:
                calls |= _activated(node, only_user(node))
            continue
        total = only_user(norm)
        if total is None or total in calls or not _is_sum(total):
            total = None
        place = None if total is None else int(total.inputs[1] is norm.outputs[0])
        last = only_user(total or norm)
        activation = None if last is None else _activation(last)
        if training and activation != "relu":
            activation = None
        if training and total is None and activation is None:
            continue
        rest = [x.operation for x in (total, activation and last) if x]
        conv = None if training else node.operation
        calls[node] = calls[norm] = _same
        calls[total or norm] = partial(_run, conv, norm.operation, rest, activation, place)
        if activation:
            calls[last] = _same
    return calls


def _activated(node: Node, following: Node | None) -> dict[Node, Callable]:
    """Return what is called for a convolution, and an activation in it or behind it."""
    conv, last = node.operation, []
    activation = None if _is_linear(conv) else _ACTIVATIONS.get(conv.activation)
    if _is_linear(conv) and following is not None:
        activation = _activation(following)
        last = [following] if activation else []
    elif activation is None:
        return {}
    calls: dict[Node, Callable] = {
        node: partial(_run, conv, None, [x.operation for x in last], activation, None)
    }
    return calls | dict.fromkeys(last, _same)


def _padded_pool(node: Node, pool: Node | None) -> dict[Node, Callable]:
    """Return what is called for a padding with zeros of what an activation gives, and its pooling.

    Behind relu zeros are as good a padding for maxima as any, the gradients being the same: none
    passes the activation where it gave zero.
    """
    if pool is None or not _is_max_pooling(pool):
        return {}
    return {node: _same, pool: partial(_pool, node.operation, pool.operation)}


def _pool(padding: Any, pool: Any, x: Any) -> Any:
    """Run a padding with zeros and the pooling behind it."""
    if any(map(_is_changed, (padding, pool))) or masking.get_mask(x) is not None:
        return pool(padding(x))
    return ops.max_pool(x, pool.pool_size, pool.strides, padding.padding, "channels_last")


def _same(x: Any) -> Any:
    return x


def _run(
    conv: Any, norm: Any, rest: list[Layer], activation: str | None, place: int | None, x: Any
) -> Any:
    """Run a chain.

    Args:
        conv: the convolution; None in training.
        norm: the normalization; None where there is none.
        rest: the layers behind it.
        activation: the name of the last one, if there is one.
        place: which of the summands is the normalization's, if there is a sum.
        x: the input of the chain; those of the sum if there is one.
    """
    residual = None if place is None else x[1 - place]
    x = x if place is None else x[place]
    every = [layer for layer in (conv, norm, *rest) if layer is not None]
    unfit = conv is None and not (norm.trainable and not norm.renorm and norm.built)
    if unfit or any(map(_is_changed, every)) or masking.get_mask(x) is not None:
        for layer in every:
            x = layer([x, residual] if isinstance(layer, layers.Add) else x)
        return x
    if conv is None:
        return norm.normalize_batch(x, residual, activation)
    moments = (None,) * 4 if norm is None else (
        norm.moving_mean, norm.moving_variance, norm.beta, norm.gamma,
    )  # fmt: skip
    kernel, bias, mean, variance, offset, scale = (
        None if v is None else v.value for v in (conv.kernel, conv.bias, *moments)
    )
    return ops.normalized_conv(
        x, kernel, mean, variance, bias, offset, scale, residual, conv.strides, conv.padding,
        conv.dilation_rate, norm.epsilon if norm else 0.0, activation,
        _CONVOLUTIONS[public_class(type(conv))],
    )  # fmt: skip


def _is_changed(layer: Layer) -> bool:
    """Whether a call of a layer does more than its operation, by what was done to it since."""
    changed = getattr(layer, "lora_enabled", False) or layer.activity_regularizer is not None
    return changed or layer._kl_hooked


def _is_convolution(node: Node) -> bool:
    """Whether a node is a convolution of channels that come last."""
    layer = node.operation
    return (
        public_class(type(layer)) in _CONVOLUTIONS
        and layer.data_format == "channels_last"
        and layer.compute_dtype == layer.variable_dtype == "float32"
        and _is_plain(node)
    )


def _is_padding(node: Node, makers: dict[int, Node]) -> bool:
    """Whether a node pads with zeros what was rectified."""
    layer = node.operation
    if public_class(type(layer)) is not layers.ZeroPadding2D or not _is_plain(node):
        return False
    maker = makers.get(id(node.inputs[0]))
    rectified = maker is not None and maker.inputs and _activation(maker) in ("relu", "relu6")
    return rectified and layer.data_format == "channels_last"


def _is_max_pooling(node: Node) -> bool:
    """Whether a node takes maxima of channels that come last, without padding."""
    layer = node.operation
    return (
        public_class(type(layer)) is layers.MaxPooling2D
        and layer.padding == "valid"
        and layer.data_format == "channels_last"
        and _is_plain(node)
    )


def _is_linear(layer: Any) -> bool:
    return layer.activation in (None, activations.linear)


def _is_normalization(node: Node) -> bool:
    """Whether a node normalizes batches along the last axis of images."""
    layer = node.operation
    return (
        public_class(type(layer)) is layers.BatchNormalization
        and layer.axis in (-1, 3)
        and len(node.outputs[0].shape) == 4
        and layer.compute_dtype == layer.variable_dtype == "float32"
        and _is_plain(node)
    )


def _is_plain(node: Node) -> bool:
    """Whether a node calls its operation on one tensor, and says nothing else."""
    return not node.kwargs and len(node.args) == 1 and type(node.args[0]) is KerasTensor


def _is_sum(node: Node) -> bool:
    """Whether a node adds two tensors of one shape."""
    shapes = [x.shape for x in node.inputs]
    return (
        public_class(type(node.operation)) is layers.Add and not node.kwargs
        and len(shapes) == 2 and shapes[0] == shapes[1]
    )  # fmt: skip


def _activation(node: Node) -> str | None:
    """The name of a node's activation, if it is one that may stand in a chain."""
    layer = node.operation
    if not _is_plain(node):
        return None
    cls = public_class(type(layer))
    if cls is layers.Activation:
        return _ACTIVATIONS.get(layer.activation)
    plain = {"negative_slope": 0, "threshold": 0}
    if cls is layers.ReLU and all(getattr(layer, k) == v for k, v in plain.items()):
        return {None: "relu", 6: "relu6"}.get(layer.max_value)
    return None
